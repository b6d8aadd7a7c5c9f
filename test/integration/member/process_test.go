package member

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/test/integration/etcdbinary"
)

// versions are one release of every minor version that is supported.
var versions = []string{"3.5.35", "3.6.16", "3.7.3"}

// guardBinary is built once, as it is released.
var guardBinary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		for _, version := range versions {
			if _, err := os.Stat(etcdbinary.Path(version)); err != nil {
				fmt.Fprintf(os.Stderr, "etcd %s is missing (%v) — the guard is tested with real processes — run: make setup\n", version, err)
				return 1
			}
		}
		directory, err := os.MkdirTemp("", "quorate-member-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(directory)
		guardBinary = filepath.Join(directory, "member")
		build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", guardBinary, "github.com/quorate/quorate/cmd/member")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if output, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building the guard: %v\n%s", err, output)
			return 1
		}
		// The versions run side by side: etcd spends these tests waiting for
		// elections, not for a processor.
		flag.Parse()
		if err := flag.Set("test.parallel", strconv.Itoa(len(versions))); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// spawn starts processes on a thread that never ends, so that the parent-death
// signal takes them away with the test process and not with a thread of it.
var spawn = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

// process is a running etcd or guard.
type process struct {
	command *exec.Cmd
	logFile string
	done    chan struct{} // closed when it has ended
}

func startProcess(t *testing.T, logFile string, argv ...string) *process {
	t.Helper()
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(t, err)
	defer log.Close()
	p := &process{command: exec.Command(argv[0], argv[1:]...), logFile: logFile, done: make(chan struct{})}
	p.command.Stdout, p.command.Stderr = log, log
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	spawn() <- func() { started <- p.command.Start() }
	must(t, <-started)
	go func() {
		_ = p.command.Wait() // its result is in ProcessState
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("log of %s:\n%s", filepath.Base(filepath.Dir(logFile)), tail(logFile))
		}
	})
	return p
}

// kill ends the process as a power cut would, and waits for its end.
func (p *process) kill() {
	_ = p.command.Process.Kill()
	<-p.done
}

// exitCode waits for the process to end by itself.
func (p *process) exitCode(t *testing.T) int {
	t.Helper()
	select {
	case <-p.done:
		return p.command.ProcessState.ExitCode()
	case <-time.After(patience):
		t.Fatalf("waited %v for a process to end; its log:\n%s", patience, tail(p.logFile))
		return 0
	}
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func tail(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(string(content), "\n")
	return strings.Join(lines[max(0, len(lines)-25):], "\n")
}

// patience bounds every wait. It is reached only by what does not work.
const patience = time.Minute

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", patience, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
