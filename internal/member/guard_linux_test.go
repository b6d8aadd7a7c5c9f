package member

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/quorate/quorate/test/freeport"
)

// pod is what a guard finds in its pod.
type pod struct {
	t *testing.T
	Config
	timings timings
	resolve func(context.Context, string) error
	record  string // a line per start of the fake etcd
	log     bytes.Buffer
}

// newPod makes a pod whose etcd is the test binary, which follows plan.
func newPod(t *testing.T, plan ...string) *pod {
	t.Helper()
	t.Setenv("GORACE", "atexit_sleep_ms=0") // or every process of ours ends a second late
	t.Setenv(roleVariable, "etcd")
	t.Setenv(planVariable, strings.Join(plan, " "))
	root := t.TempDir()
	p := &pod{t: t, timings: quick, record: filepath.Join(root, "record"), Config: Config{
		Volume:         filepath.Join(root, "volume"),
		DataDir:        filepath.Join(root, "volume", "data"),
		BootDir:        filepath.Join(root, "run", "boot"),
		Annotations:    filepath.Join(root, "annotations"),
		Identity:       own,
		HealthListen:   freeport.Address(t),
		EtcdHealth:     "http://" + freeport.Address(t),
		TerminationLog: filepath.Join(root, "termination-log"),
	}}
	p.Etcd = []string{os.Args[0], "--record=" + p.record, "--name=m-0000"}
	p.resolve = func(context.Context, string) error { return nil }
	must(t, os.Mkdir(p.Volume, 0o755))
	p.annotate(AnnotationMayBeEmpty, "true")
	return p
}

// annotate replaces the file as the kubelet does: whole.
func (p *pod) annotate(more ...string) {
	p.t.Helper()
	file := annotationFile(append([]string{AnnotationInitialCluster, threeMembers, AnnotationInitialClusterState, "new"}, more...)...)
	must(p.t, os.WriteFile(p.Annotations+".new", []byte(file), 0o600))
	must(p.t, os.Rename(p.Annotations+".new", p.Annotations))
}

// volume replaces the file's directory by one as the kubelet's atomic writer keeps
// it: the file is a link through ..data, which is swapped when the content changes.
func (p *pod) volume(more ...string) {
	p.t.Helper()
	root := filepath.Join(filepath.Dir(p.TerminationLog), "orders")
	p.Annotations = filepath.Join(root, "annotations")
	must(p.t, os.MkdirAll(root, 0o755))
	if _, err := os.Lstat(p.Annotations); err != nil {
		must(p.t, os.Symlink("..data/annotations", p.Annotations))
	}
	old, _ := os.Readlink(filepath.Join(root, "..data")) // none at first
	version, err := os.MkdirTemp(root, "..2026_")
	must(p.t, err)
	file := annotationFile(append([]string{AnnotationInitialClusterState, "existing", AnnotationHold, "true", AnnotationMayBeEmpty, "true"}, more...)...)
	must(p.t, os.WriteFile(filepath.Join(version, "annotations"), []byte(file), 0o600))
	must(p.t, os.Symlink(filepath.Base(version), filepath.Join(root, "..data_tmp")))
	must(p.t, os.Rename(filepath.Join(root, "..data_tmp"), filepath.Join(root, "..data")))
	if old != "" {
		must(p.t, os.RemoveAll(filepath.Join(root, old)))
	}
}

func (p *pod) run() int {
	p.t.Helper()
	g := newGuard(p.Config, p.timings, NewLogger(&p.log))
	g.resolve = p.resolve
	return g.run(context.Background())
}

// starts are the command lines of the fake etcd so far.
func (p *pod) starts() []string {
	p.t.Helper()
	content, err := os.ReadFile(p.record)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	must(p.t, err)
	return strings.Split(strings.TrimSpace(string(content)), "\n")
}

func (p *pod) message() string {
	content, err := os.ReadFile(p.TerminationLog)
	if err != nil {
		return ""
	}
	return string(content)
}

func (p *pod) wantRefusal(code, wantCode int, reason Reason) {
	p.t.Helper()
	if code != wantCode {
		p.t.Errorf("exit code %d, want %d; log:\n%s", code, wantCode, p.log.String())
	}
	message := p.message()
	if !strings.HasPrefix(message, string(reason)+": ") || strings.Contains(message, "\n") || strings.Count(message, " — ") != 2 {
		p.t.Errorf("termination message %q, want one line: %s: what — why — what to do", message, reason)
	}
}

func (p *pod) wantMarks() {
	p.t.Helper()
	got, err := readMarker(filepath.Join(p.Volume, MarkerFile))
	must(p.t, err)
	if diff := cmp.Diff(Marker{Identity: own, Booted: true}, got); diff != "" {
		p.t.Errorf("marker (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join(p.BootDir, BootMarkFile)); err != nil {
		p.t.Errorf("boot mark: %v", err)
	}
}

func TestFirstBootAndRestart(t *testing.T) {
	p := newPod(t, "db", "log", "exit=7")
	if code := p.run(); code != 7 {
		t.Fatalf("exit code %d, want etcd's 7; log:\n%s", code, p.log.String())
	}
	p.wantMarks()
	if message := p.message(); message != "" {
		t.Errorf("termination message %q, want none: the kubelet is to show etcd's log", message)
	}
	p.annotate()
	if code := p.run(); code != 7 {
		t.Fatalf("exit code after the restart %d, want 7; log:\n%s", code, p.log.String())
	}
	starts := p.starts()
	if len(starts) != 2 {
		t.Fatalf("etcd started %d times, want 2", len(starts))
	}
	want := "--name=m-0000 --data-dir=" + p.DataDir + " --initial-cluster=" + threeMembers + " --initial-cluster-state=new"
	if !strings.HasSuffix(starts[0], want) {
		t.Errorf("etcd's arguments %q, want them to end in %q", starts[0], want)
	}
}

func TestLossesAreRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		lose   func(*pod) error
		code   int
		reason Reason
		says   string
	}{
		"volume emptied under a running pod": {
			func(p *pod) error { return errors.Join(os.RemoveAll(p.Volume), os.Mkdir(p.Volume, 0o755)) },
			ExitDataMissing, ReasonDataMissing, "has booted in this pod",
		},
		"volume emptied, pod made anew": {
			func(p *pod) error {
				p.annotate()
				return errors.Join(os.RemoveAll(p.Volume), os.Mkdir(p.Volume, 0o755), os.RemoveAll(p.BootDir))
			}, ExitDataMissing, ReasonDataMissing, "annotation " + AnnotationMayBeEmpty,
		},
		"data directory removed": {
			func(p *pod) error { return errors.Join(os.RemoveAll(p.DataDir), os.RemoveAll(p.BootDir)) },
			ExitDataMissing, ReasonDataMissing, "says that the member has booted",
		},
		"log removed": {
			func(p *pod) error {
				return errors.Join(os.RemoveAll(filepath.Join(p.DataDir, "member/wal")), os.RemoveAll(p.BootDir))
			}, ExitDataMissing, ReasonDataMissing, "no write-ahead log",
		},
		"database removed": {
			func(p *pod) error { return os.Remove(filepath.Join(p.DataDir, "member/snap/db")) },
			ExitDataMissing, ReasonDataMissing, "1 log files",
		},
		"marker removed": {
			func(p *pod) error { return os.Remove(filepath.Join(p.Volume, MarkerFile)) },
			ExitForeignData, ReasonForeignData, "no marker",
		},
		"volume of another member": {
			func(p *pod) error { p.Identity.Member = "m-0001"; return nil },
			ExitForeignData, ReasonForeignData, "member m-0000 (this pod: m-0001)",
		},
		"volume mounted as a file": {
			func(p *pod) error {
				p.Volume = p.TerminationLog + "-volume"
				p.DataDir = p.Volume + "/data"
				return os.WriteFile(p.Volume, nil, 0o600)
			}, ExitVolumeUnusable, ReasonVolumeUnusable, "not a directory",
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPod(t, "db", "log", "exit=0")
			if code := p.run(); code != 0 {
				t.Fatalf("first boot: exit code %d; log:\n%s", code, p.log.String())
			}
			must(t, tc.lose(p))
			p.wantRefusal(p.run(), tc.code, tc.reason)
			if !strings.Contains(p.message(), tc.says) {
				t.Errorf("termination message %q, want %q in it", p.message(), tc.says)
			}
			if n := len(p.starts()); n != 1 {
				t.Errorf("etcd started %d times, want once: before the loss", n)
			}
		})
	}
}

func TestAFailedFirstBootIsTriedAgain(t *testing.T) {
	good := filepath.Join(t.TempDir(), "peers-are-there")
	p := newPod(t, "db", "log-if="+good, "exit=0")
	p.timings.bootPause = 0
	attempts := 0
	p.PeerHost = "m-0000.example"
	p.resolve = func(context.Context, string) error {
		if attempts++; attempts < 3 {
			return errors.New("no such host")
		}
		return nil
	}
	done := make(chan int)
	go func() { done <- p.run() }()
	eventually(t, "two starts", func() bool { return len(p.starts()) >= 2 })
	must(t, os.WriteFile(good, nil, 0o600))
	if code := <-done; code != 0 {
		t.Fatalf("exit code %d, want 0; log:\n%s", code, p.log.String())
	}
	p.wantMarks()
	if attempts != 3 {
		t.Errorf("looked the name up %d times, want 3", attempts)
	}
	if _, err := os.Stat(filepath.Join(p.Volume, "discarded-1", "member/snap/db")); err != nil && len(p.starts()) <= 4 {
		t.Errorf("leftovers: %v, want them moved aside", err)
	}
}

func TestAFirstBootIsNotTriedForEver(t *testing.T) {
	p := newPod(t, "db", "exit=1")
	p.timings.bootAttempts = 5
	if code := p.run(); code != 1 {
		t.Errorf("exit code %d, want etcd's 1", code)
	}
	if n := len(p.starts()); n != 5 {
		t.Errorf("etcd started %d times, want 5", n)
	}
	if p.message() != "" {
		t.Errorf("termination message %q, want none: the kubelet is to show etcd's log", p.message())
	}
}

func TestAWrongFlagIsNotTriedAgain(t *testing.T) {
	p := newPod(t, "exit=1")
	if code := p.run(); code != 1 {
		t.Errorf("exit code %d, want etcd's 1", code)
	}
	if n := len(p.starts()); n != 1 {
		t.Errorf("etcd started %d times, want once", n)
	}
}

func TestACrashAfterTheLogIsNotAFirstBootAgain(t *testing.T) {
	p := newPod(t, "db", "log", "kill")
	if code := p.run(); code != 128+9 {
		t.Errorf("exit code %d, want 137", code)
	}
	if n := len(p.starts()); n != 1 {
		t.Errorf("etcd started %d times, want once", n)
	}
	p.wantMarks()
}

func TestHoldAndRelease(t *testing.T) {
	p := newPod(t, "db", "log", "exit=0")
	p.annotate(AnnotationHold, "true", AnnotationMayBeEmpty, "true")
	done := make(chan int)
	go func() { done <- p.run() }()
	eventually(t, "alive while held", func() bool { return p.probe("/livez") == "200 held" })
	if got := p.probe("/readyz"); got != "503 held" {
		t.Errorf("/readyz %q, want 503 held", got)
	}
	if n := len(p.starts()); n != 0 {
		t.Errorf("etcd started %d times while held", n)
	}
	must(t, os.WriteFile(p.Annotations, []byte("cut off"), 0o600)) // must change nothing
	p.annotate(AnnotationHold, "true", AnnotationMayBeEmpty, "true", AnnotationRelease, "8e9e05c52164694d")
	if code := <-done; code != 0 {
		t.Fatalf("exit code %d; log:\n%s", code, p.log.String())
	}
	if starts := p.starts(); len(starts) != 1 || !strings.HasSuffix(starts[0], "--initial-cluster-state=existing") {
		t.Errorf("starts %q, want one with the state existing", starts)
	}
	if !strings.Contains(p.log.String(), `"memberID":"8e9e05c52164694d"`) {
		t.Errorf("log names no member ID:\n%s", p.log.String())
	}
}

// The kubelet swaps the whole directory. The list that the member starts with is
// the one that came with the release, not one that stood there while it was held.
func TestTheReleaseComesWithItsMemberList(t *testing.T) {
	p := newPod(t, "db", "log", "exit=0")
	list := func(n int) string { return fmt.Sprintf("m-0000=https://a:2380,m-%04d=https://b:2380", n) }
	p.volume(AnnotationInitialCluster, list(1))
	done := make(chan int)
	go func() { done <- p.run() }()
	eventually(t, "alive while held", func() bool { return p.probe("/livez") == "200 held" })
	for n := range 100 {
		p.volume(AnnotationInitialCluster, list(n))
	}
	if n := len(p.starts()); n != 0 {
		t.Fatalf("etcd started %d times while held", n)
	}
	p.volume(AnnotationInitialCluster, list(4711), AnnotationRelease, "8e9e05c52164694d")
	if code := <-done; code != 0 {
		t.Fatalf("exit code %d; log:\n%s", code, p.log.String())
	}
	if starts := p.starts(); len(starts) != 1 || !strings.Contains(starts[0], "--initial-cluster="+list(4711)+" ") {
		t.Errorf("starts %q, want one with the list of the release", starts)
	}
}

// A release whose file is cut off, or that is no member ID, releases nobody.
func TestABrokenReleaseReleasesNobody(t *testing.T) {
	p := newPod(t, "db", "log", "exit=0")
	held := []string{AnnotationHold, "true", AnnotationMayBeEmpty, "true"}
	p.annotate(held...)
	done := make(chan int)
	go func() { done <- p.run() }()
	eventually(t, "alive while held", func() bool { return p.probe("/livez") == "200 held" })
	p.annotate(append(held, AnnotationRelease, "8e9e05c52164694d")...)
	whole, err := os.ReadFile(p.Annotations)
	must(t, err)
	if code := <-done; code != 0 {
		t.Fatalf("exit code %d; log:\n%s", code, p.log.String())
	}
	fresh := newPod(t, "db", "log", "exit=0")
	fresh.annotate(held...)
	go func() { done <- fresh.run() }()
	eventually(t, "alive while held", func() bool { return fresh.probe("/livez") == "200 held" })
	broken := [][]byte{whole[:len(whole)-1], whole[:len(whole)-10], bytes.Replace(whole, []byte("8e9e05c52164694d"), []byte("me"), 1)}
	for _, content := range broken {
		must(t, os.WriteFile(fresh.Annotations+".new", content, 0o600))
		must(t, os.Rename(fresh.Annotations+".new", fresh.Annotations))
		time.Sleep(20 * fresh.timings.releaseEvery) // the guard has looked
		if got := fresh.probe("/readyz"); got != "503 held" || len(fresh.starts()) != 0 {
			t.Errorf("after %q: %s and %d starts, want it held", content, got, len(fresh.starts()))
		}
	}
	fresh.annotate(append(held, AnnotationRelease, "8e9e05c52164694d")...)
	if code := <-done; code != 0 {
		t.Errorf("exit code %d; log:\n%s", code, fresh.log.String())
	}
}

// The hold is over once and for all: the annotations stay as they are, and a member
// that crashes later starts on its data without waiting for anybody.
func TestAReleasedMemberRestartsWithoutWaiting(t *testing.T) {
	p := newPod(t, "db", "log", "kill")
	p.annotate(AnnotationHold, "true", AnnotationMayBeEmpty, "true", AnnotationRelease, "8e9e05c52164694d")
	for n := 1; n <= 3; n++ {
		if code := p.run(); code != 128+9 {
			t.Fatalf("start %d: exit code %d, want 137; log:\n%s", n, code, p.log.String())
		}
		if got := len(p.starts()); got != n {
			t.Errorf("etcd started %d times, want %d", got, n)
		}
		// Told later that it may no longer be empty, it still is not held.
		p.annotate(AnnotationHold, "true", AnnotationRelease, "8e9e05c52164694d")
	}
	if strings.Contains(p.log.String(), "Held") {
		t.Errorf("held after its release:\n%s", p.log.String())
	}
}

func TestAHeldMemberEndsAtOnce(t *testing.T) {
	best := time.Hour
	for range 5 { // a machine that does something else may delay one
		p := newPod(t, "db", "log", "exit=0")
		p.annotate(AnnotationHold, "true", AnnotationMayBeEmpty, "true")
		g := p.process()
		eventually(t, "alive while held", func() bool { return p.probe("/livez") == "200 held" })
		begin := time.Now()
		must(t, g.command.Process.Signal(syscall.SIGTERM))
		if code := g.wait(); code != 128+15 {
			t.Errorf("exit code %d, want 143", code)
		}
		best = min(best, time.Since(begin))
	}
	t.Logf("ended %v after SIGTERM", best)
	if best > 100*time.Millisecond {
		t.Errorf("ended %v after SIGTERM, want less than 100 ms", best)
	}
}

func TestAHeldMemberOnAUsedIdentityIsRefusedAtOnce(t *testing.T) {
	p := newPod(t, "db", "log", "exit=0")
	p.annotate(AnnotationHold, "true")
	p.wantRefusal(p.run(), ExitDataMissing, ReasonDataMissing)
}

func TestOtherRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil  func(*pod)
		code   int
		reason Reason
	}{
		"no annotations": {func(p *pod) {
			p.timings.annotationsBound = time.Millisecond
			p.Annotations += "-gone"
		}, ExitNoAnnotations, ReasonNoAnnotations},
		"no etcd": {func(p *pod) { p.Etcd[0] += "-gone" }, ExitNotStarted, ReasonNotStarted},
		"address in use": {func(p *pod) {
			listener, err := net.Listen("tcp", p.HealthListen)
			must(p.t, err)
			p.t.Cleanup(func() { listener.Close() })
		}, ExitNotListening, ReasonNotListening},
		"volume locked": {func(p *pod) {
			p.timings.lockBound = time.Millisecond
			lock, err := lockVolume(context.Background(), p.Volume, time.Millisecond, time.Minute)
			must(p.t, err)
			p.t.Cleanup(func() { lock.Close() })
		}, ExitLocked, ReasonLocked},
		"boot directory is a file": {func(p *pod) {
			must(p.t, os.MkdirAll(filepath.Dir(p.BootDir), 0o755))
			must(p.t, os.WriteFile(p.BootDir, nil, 0o600))
		}, ExitVolumeUnusable, ReasonVolumeUnusable},
		"the claim cannot be written": {func(p *pod) {
			tree(p.t, p.Volume, map[string]string{MarkerFile + ".tmp/x": ""})
		}, ExitVolumeUnusable, ReasonVolumeUnusable},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPod(t, "db", "log", "exit=0")
			tc.spoil(p)
			p.wantRefusal(p.run(), tc.code, tc.reason)
			if n := len(p.starts()); n != 0 {
				t.Errorf("etcd started %d times", n)
			}
		})
	}
}

func TestTheNameIsWaitedForNotInsistedOn(t *testing.T) {
	p := newPod(t, "db", "log", "exit=0")
	p.PeerHost, p.timings.nameBound = "m-0000.example", 3*time.Millisecond
	p.resolve = func(context.Context, string) error { return errors.New("no such host") }
	if code := p.run(); code != 0 {
		t.Errorf("exit code %d, want etcd to start anyway; log:\n%s", code, p.log.String())
	}
}

func TestLockIsTakenOverWhenItsHolderEnds(t *testing.T) {
	volume := t.TempDir()
	first, err := lockVolume(context.Background(), volume, time.Millisecond, time.Minute)
	must(t, err)
	if _, err := lockVolume(context.Background(), volume, time.Millisecond, 5*time.Millisecond); !errors.Is(err, errLocked) {
		t.Fatalf("second lock: %v, want it refused", err)
	}
	taken := make(chan error)
	go func() {
		second, err := lockVolume(context.Background(), volume, time.Millisecond, time.Minute)
		taken <- errors.Join(err, second.Close())
	}()
	must(t, first.Close())
	must(t, <-taken)
}

func TestWaitingEndsWithASignal(t *testing.T) {
	for name, args := range map[string][]string{
		"held":           {AnnotationHold, "true", AnnotationMayBeEmpty, "true"},
		"no annotations": nil,
	} {
		t.Run(name, func(t *testing.T) {
			p := newPod(t, "db", "log", "exit=0")
			if args == nil {
				must(t, os.Remove(p.Annotations))
			} else {
				p.annotate(args...)
			}
			g := p.process()
			eventually(t, "the guard to listen", func() bool { return p.probe("/readyz") != "" })
			must(t, g.command.Process.Signal(syscall.SIGTERM))
			if code := g.wait(); code != 128+15 {
				t.Errorf("exit code %d, want 143", code)
			}
			if n := len(p.starts()); n != 0 {
				t.Errorf("etcd started %d times", n)
			}
		})
	}
}

// process is a guard in a process of its own.
type process struct {
	t       *testing.T
	command *exec.Cmd
	output  *bufio.Reader
}

// command is a guard in a process of its own, not yet started.
func (p *pod) command() *exec.Cmd {
	args := []string{
		"--volume=" + p.Volume, "--data-dir=" + p.DataDir, "--boot-dir=" + p.BootDir, "--annotations=" + p.Annotations,
		"--cluster-uid=c-1", "--incarnation=1", "--member=m-0000", "--volume-uid=v-1", "--health-listen=" + p.HealthListen,
		"--etcd-health=" + p.EtcdHealth, "--termination-log=" + p.TerminationLog, "--",
	}
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), roleVariable+"=guard", configVariable+"="+strings.Join(append(args, p.Etcd...), "\n"))
	return command
}

func (p *pod) process() *process {
	p.t.Helper()
	command := p.command()
	output, err := command.StdoutPipe()
	must(p.t, err)
	command.Stderr = p.t.Output()
	must(p.t, command.Start())
	p.t.Cleanup(func() { _ = command.Process.Kill(); _, _ = command.Process.Wait() })
	return &process{p.t, command, bufio.NewReader(output)}
}

func (g *process) line() string {
	g.t.Helper()
	line, err := g.output.ReadString('\n')
	if err != nil && err != io.EOF {
		g.t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// ready waits until the fake etcd takes signals, and returns its process ID.
func (g *process) ready() int {
	g.t.Helper()
	pid, err := strconv.Atoi(strings.TrimPrefix(g.line(), "ready "))
	must(g.t, err)
	return pid
}

func (g *process) wait() int {
	g.t.Helper()
	err := g.command.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		g.t.Fatal(err)
	}
	return g.command.ProcessState.ExitCode()
}

func TestSignalsReachEtcd(t *testing.T) {
	p := newPod(t, "db", "log", "signals=6", "exit=5")
	g := p.process()
	g.ready()
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGQUIT, syscall.SIGINT, syscall.SIGTERM} {
		must(t, g.command.Process.Signal(syscall.SIGPIPE)) // must not end the guard
		must(t, g.command.Process.Signal(s))
		if got := g.line(); got != s.String() {
			t.Errorf("etcd received %q, want %q", got, s)
		}
	}
	if code := g.wait(); code != 5 {
		t.Errorf("exit code %d, want etcd's 5", code)
	}
}

func TestEtcdsDeathByASignalIsTheGuardsExitCode(t *testing.T) {
	p := newPod(t, "db", "log", "term")
	g := p.process()
	g.ready()
	must(t, g.command.Process.Signal(syscall.SIGTERM))
	if code := g.wait(); code != 128+15 {
		t.Errorf("exit code %d, want 143", code)
	}
}

// A first boot that is told to stop has not failed.
func TestAStoppedFirstBootIsNotTriedAgain(t *testing.T) {
	p := newPod(t, "db", "signals=1", "exit=6")
	g := p.process()
	g.ready()
	must(t, g.command.Process.Signal(syscall.SIGTERM))
	g.line()
	if code := g.wait(); code != 6 {
		t.Errorf("exit code %d, want etcd's 6", code)
	}
	if n := len(p.starts()); n != 1 {
		t.Errorf("etcd started %d times, want once", n)
	}
}

// A container runtime that no longer reads the log must not end etcd.
func TestTheGuardOutlivesTheReaderOfItsLog(t *testing.T) {
	p := newPod(t, "db", "log", "exit=5")
	reader, writer, err := os.Pipe()
	must(t, err)
	must(t, reader.Close())
	command := p.command()
	command.Stderr = writer
	must(t, command.Start())
	must(t, writer.Close())
	if err := command.Wait(); command.ProcessState.ExitCode() != 5 {
		t.Errorf("guard ended with %v, want etcd's 5", err)
	}
}

const crcMismatch = `{"level":"fatal","ts":"2026-11-21T04:25:02.087236Z","caller":"etcdmain/etcd.go:204","msg":"discovery failed","error":"walpb: crc mismatch"}` + "\n"

// etcd's log goes through the guard as it is, and what it says last becomes the
// termination message. Its exit code stays.
func TestEtcdsLastWordsAreLeft(t *testing.T) {
	const removed = `{"level":"error","msg":"server error","error":"the member has been permanently removed from the cluster"}` + "\n"
	for name, tc := range map[string]struct {
		words  string
		plan   string
		code   int
		reason Reason
	}{
		"damaged data":                         {"a\n" + crcMismatch, "exit=1", 1, ReasonDataCorrupt},
		"another reason":                       {"panic: x\n\ngoroutine 1 [running]:\n" + strings.Repeat("main.f()\n", 1000), "exit=2", 2, ReasonEtcdFailed},
		"removed":                              {removed, "exit=1", ExitRemoved, ReasonRemoved},
		"removed, and content with it":         {removed, "exit=0", ExitRemoved, ReasonRemoved},
		"killed":                               {"a\n", "kill", 128 + 9, ""},
		"a log without a newline at its end":   {"a", "exit=3", 3, ""},
		"a wrong flag, for the log to tell of": {"invalid value\nUsage:\n", "exit=2", 2, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("WORDS", tc.words)
			p := newPod(t, "db", "log", "say=WORDS", tc.plan)
			command := p.command()
			var log bytes.Buffer
			command.Stderr = &log
			if err := command.Run(); command.ProcessState.ExitCode() != tc.code {
				t.Errorf("guard ended with %v, want %d", err, tc.code)
			}
			if !strings.Contains(log.String(), tc.words) {
				t.Errorf("log %q, want %q in it", log.String(), tc.words)
			}
			if tc.reason != "" {
				p.wantRefusal(tc.code, tc.code, tc.reason)
			} else if p.message() != "" {
				t.Errorf("termination message %q, want none: the kubelet is to show etcd's log", p.message())
			}
		})
	}
}

// A container runtime that no longer reads the log must not end etcd, either.
func TestEtcdOutlivesTheReaderOfItsLog(t *testing.T) {
	t.Setenv("WORDS", strings.Repeat("a line of the log\n", 7000)) // more than a pipe holds
	p := newPod(t, "db", "log", "say=WORDS", "say=WORDS", "exit=5")
	reader, writer, err := os.Pipe()
	must(t, err)
	must(t, reader.Close())
	command := p.command()
	command.Stderr = writer
	must(t, command.Start())
	must(t, writer.Close())
	if err := command.Wait(); command.ProcessState.ExitCode() != 5 {
		t.Errorf("guard ended with %v, want etcd's 5", err)
	}
}

// Whoever else writes to etcd's log does not keep the guard from ending with etcd.
func TestTheGuardWaitsForEtcdOnly(t *testing.T) {
	t.Setenv("WORDS", crcMismatch)
	p := newPod(t, "db", "log", "say=WORDS", "linger", "exit=1")
	g := p.process()
	lingering := g.ready()
	t.Cleanup(func() { _ = syscall.Kill(lingering, syscall.SIGKILL) })
	begin := time.Now()
	if code := g.wait(); code != 1 || time.Since(begin) > 10*time.Second {
		t.Errorf("exit code %d after %v, want 1 about a second after etcd", code, time.Since(begin))
	}
	if !runs(lingering) {
		t.Error("the other writer has ended, this test proves nothing")
	}
	if !strings.HasPrefix(p.message(), string(ReasonDataCorrupt)) {
		t.Errorf("termination message %q", p.message())
	}
}

func TestEtcdDoesNotOutliveTheGuard(t *testing.T) {
	p := newPod(t, "db", "log", "term")
	g := p.process()
	etcd := g.ready()
	must(t, g.command.Process.Kill())
	g.wait()
	eventually(t, "etcd to end", func() bool { return !runs(etcd) })
}

// Should the guard die first, the volume stays locked until etcd is gone as well.
func TestEtcdInheritsTheLock(t *testing.T) {
	p := newPod(t, "db", "log", "term")
	g := p.process()
	held, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/3", g.ready()))
	must(t, err)
	if held != filepath.Join(p.Volume, LockFile) {
		t.Errorf("etcd's descriptor 3 is %q, want the lock", held)
	}
}

func TestOrphansAreReaped(t *testing.T) {
	const setChildSubreaper = 36
	// The test process stands in for PID 1: orphans come to it.
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 1, 0); errno != 0 {
		t.Fatal(errno)
	}
	t.Cleanup(func() {
		if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 0, 0); errno != 0 {
			t.Error(errno)
		}
	})
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), roleVariable+"=etcd", planVariable+"=orphan exit=9")
	must(t, command.Start())
	if code := await(command.Process.Pid, anyChild); code != 9 {
		t.Errorf("exit code %d, want 9: the orphan reaped, and that of the process waited for", code)
	}
}

// runs reports whether pid is a process that is neither gone nor a zombie.
func runs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

// probe returns the status code and the word, or "" if nobody answers.
func (p *pod) probe(path string) string {
	response, err := http.Get("http://" + p.HealthListen + path)
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	return strconv.Itoa(response.StatusCode) + " " + strings.TrimSpace(string(body))
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("waited 30 s for %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
