package member

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary plays every process that the tests need: with roleVariable set it
// is no test but that role.
const (
	roleVariable = "MEMBER_TEST_ROLE"
	// planVariable holds the steps of the fake etcd, separated by spaces.
	planVariable = "MEMBER_TEST_PLAN"
	// configVariable holds the fields of a guard's Config, separated by newlines.
	configVariable = "MEMBER_TEST_CONFIG"
)

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "":
		os.Exit(m.Run())
	case "etcd":
		fakeEtcd(os.Args[1:], strings.Fields(os.Getenv(planVariable)))
	case "guard":
		fakeGuard()
	case "orphaned":
		orphan()
	case "lingering": // keeps etcd's standard error open
		time.Sleep(30 * time.Second)
	default:
		os.Exit(3)
	}
}

// argument returns the last value of a flag, as etcd takes it.
func argument(args []string, name string) (value string) {
	for _, arg := range args {
		if v, found := strings.CutPrefix(arg, "--"+name+"="); found {
			value = v
		}
	}
	return value
}

// fakeEtcd does what each step says. It records its arguments in the file that
// --record names.
func fakeEtcd(args, plan []string) {
	data, record := argument(args, "data-dir"), argument(args, "record")
	write := func(name string) {
		path := filepath.Join(data, name)
		check(os.MkdirAll(filepath.Dir(path), 0o700))
		check(os.WriteFile(path, []byte("x"), 0o600))
	}
	if record != "" {
		file, err := os.OpenFile(record, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		check(err)
		fmt.Fprintln(file, strconv.Itoa(os.Getpid())+" "+strings.Join(args, " "))
		check(file.Close())
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE)
	for _, step := range plan {
		verb, operand, _ := strings.Cut(step, "=")
		switch verb {
		case "db":
			write("member/snap/db")
		case "log":
			write(oneLog)
		case "log-if": // only once the file exists
			if _, err := os.Stat(operand); err == nil {
				write(oneLog)
				continue
			}
			os.Exit(1)
		case "serve":
			listener, err := net.Listen("tcp", operand)
			check(err)
			go func() {
				_ = http.Serve(listener, http.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request) {}))
			}()
		case "orphan": // leave one behind and wait until it is reaped
			command := exec.Command(os.Args[0])
			command.Env = append(os.Environ(), roleVariable+"=orphaned")
			output, err := command.Output()
			check(err)
			awaitReaped(strings.TrimSpace(string(output)))
		case "say": // what the variable holds, on standard error
			_, err := os.Stderr.WriteString(os.Getenv(operand))
			check(err)
		case "linger":
			command := exec.Command(os.Args[0])
			command.Env, command.Stderr = append(os.Environ(), roleVariable+"=lingering"), os.Stderr
			check(command.Start())
			fmt.Println("ready", command.Process.Pid)
		case "exit":
			code, err := strconv.Atoi(operand)
			check(err)
			os.Exit(code)
		case "kill":
			check(syscall.Kill(os.Getpid(), syscall.SIGKILL))
		case "signals": // wait for this many signals and print them
			count, err := strconv.Atoi(operand)
			check(err)
			fmt.Println("ready", os.Getpid())
			for range count {
				fmt.Println((<-signals).(syscall.Signal).String())
			}
		case "term": // die of the first signal, as etcd does
			fmt.Println("ready", os.Getpid())
			s := (<-signals).(syscall.Signal)
			signal.Reset(s)
			check(syscall.Kill(os.Getpid(), s))
			time.Sleep(time.Minute)
		}
	}
}

// orphan leaves a process behind that ends at once, prints its ID, and ends itself.
func orphan() {
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), roleVariable+"=none")
	check(command.Start())
	fmt.Println(command.Process.Pid)
}

// awaitReaped exits with 5 if the process is still there, as a zombie, in the end.
func awaitReaped(pid string) {
	for range 15000 {
		if _, err := os.Stat("/proc/" + pid); errors.Is(err, os.ErrNotExist) {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	os.Exit(5)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(4)
	}
}

// fakeGuard is a guard in a process of its own, for what ends or signals it.
func fakeGuard() {
	check(os.Setenv(roleVariable, "etcd"))
	fields := strings.Split(os.Getenv(configVariable), "\n")
	c, err := ParseConfig(fields, os.Stderr)
	check(err)
	g := newGuard(c, quick, NewLogger(os.Stderr))
	os.Exit(g.run(context.Background()))
}

// quick are timings for tests: short intervals, and bounds that no passing test
// reaches.
var quick = timings{
	annotationsBound: time.Minute, annotationsEvery: time.Millisecond,
	lockBound: time.Minute, lockEvery: time.Millisecond,
	releaseEvery: time.Millisecond,
	nameBound:    time.Minute, nameEvery: time.Millisecond,
	bootBound: time.Minute, bootPause: time.Millisecond, bootAttempts: 60,
	logEvery: time.Millisecond, logEveryAtMost: 5 * time.Millisecond,
	probes: patient,
}
