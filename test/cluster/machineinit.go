package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// lastingLife is how long a process must have run for its death to be an
	// accident that a new start mends, rather than a bad flag.
	lastingLife  = 5 * time.Second
	restartDelay = time.Second
)

// runMachine is process 1 of a machine. It returns only when it cannot set the
// machine up; after that it runs until it is killed.
func runMachine(specPath string) error {
	spec, err := readSpec(specPath)
	if err != nil {
		return err
	}
	if err := awaitConnection(); err != nil {
		return err
	}
	// This machine's /proc still shows the process ids that the rest of the
	// system knows; once the machine has its own it is gone.
	outer, err := os.OpenRoot("/proc")
	if err != nil {
		return err
	}
	if err := setUp(spec); err != nil {
		return fmt.Errorf("setting %s up: %w", spec.Name, err)
	}
	s := &supervisor{spec: spec, outer: outer, running: map[int]*child{}, start: make(chan processSpec, len(spec.Processes))}
	for _, p := range spec.Processes {
		go func() {
			awaitAnswers(p.WaitFor)
			s.start <- p
		}()
	}
	return s.run()
}

// awaitConnection waits for the byte that says the network is connected.
func awaitConnection() error {
	ready := os.NewFile(3, "ready")
	defer ready.Close()
	if _, err := io.ReadFull(ready, make([]byte, 1)); err != nil {
		return fmt.Errorf("the start of the machine was broken off: %w", err)
	}
	return nil
}

func setUp(spec machineSpec) error {
	// Nothing that is mounted here may reach the rest of the system; within the
	// machine mounts are shared, as the kubelet expects of a node.
	for _, flags := range []uintptr{syscall.MS_PRIVATE, syscall.MS_SHARED} {
		if err := syscall.Mount("", "/", "", flags|syscall.MS_REC, ""); err != nil {
			return fmt.Errorf("separating the mounts: %w", err)
		}
	}
	if err := syscall.Mount("proc", "/proc", "proc", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	if !spec.Isolated {
		return nil
	}
	if err := syscall.Sethostname([]byte(spec.Name)); err != nil {
		return fmt.Errorf("setting the host name: %w", err)
	}
	if err := syscall.Mount("tmpfs", "/run", "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mounting /run: %w", err)
	}
	for _, b := range spec.Binds {
		if err := syscall.Mount(b.Source, b.Target, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
			return fmt.Errorf("mounting %s on %s: %w", b.Source, b.Target, err)
		}
	}
	if err := override(spec.Overrides); err != nil {
		return err
	}
	if err := runIP(spec.Network); err != nil {
		return err
	}
	for name, value := range spec.Sysctls {
		if err := os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0o644); err != nil {
			return fmt.Errorf("setting sysctl %s: %w", name, err)
		}
	}
	return nil
}

// override makes files read as given on this machine only.
func override(files map[string]string) error {
	dir := "/run/overrides"
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for i, target := range slices.Sorted(maps.Keys(files)) {
		if _, err := os.Stat(target); errors.Is(err, os.ErrNotExist) {
			continue // this kernel or system has no such file
		}
		source := filepath.Join(dir, strconv.Itoa(i))
		if err := os.WriteFile(source, []byte(files[target]), 0o644); err != nil {
			return err
		}
		if err := syscall.Mount(source, target, "", syscall.MS_BIND, ""); err != nil {
			return fmt.Errorf("overriding %s: %w", target, err)
		}
	}
	return nil
}

// supervisor starts the machine's processes and reaps every orphan.
type supervisor struct {
	spec    machineSpec
	outer   *os.Root
	running map[int]*child
	start   chan processSpec
}

type child struct {
	spec    processSpec
	started time.Time
}

func (s *supervisor) run() error {
	// One goroutine both starts and reaps, so that no child is reaped before it is known.
	dead := make(chan os.Signal, 1)
	signal.Notify(dead, syscall.SIGCHLD)
	for {
		select {
		case p := <-s.start:
			if err := s.launch(p); err != nil {
				s.markDead(p, err.Error())
			}
		case <-dead:
			s.reap()
		}
	}
}

func (s *supervisor) launch(p processSpec) error {
	out, err := os.OpenFile(p.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	process, err := os.StartProcess(p.Command[0], p.Command, &os.ProcAttr{
		Dir:   "/",
		Env:   []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"},
		Files: []*os.File{null, out, out},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return err
	}
	s.running[process.Pid] = &child{spec: p, started: time.Now()}
	pid := s.outerPID(process.Pid)
	if err := process.Release(); err != nil { // reap waits for every child itself
		return err
	}
	return os.WriteFile(filepath.Join(s.spec.RunDir, p.Name+".pid"), fmt.Appendln(nil, pid), 0o644)
}

// outerPID returns the id by which the rest of the system knows the process
// that has the id pid here. Both ids stand in the process's NSpid line.
func (s *supervisor) outerPID(pid int) int {
	self := s.namespacePIDs("self")
	for _, entry := range s.processes() {
		ids := s.namespacePIDs(entry)
		if len(ids) == 0 || len(ids) != len(self) || ids[len(ids)-1] != strconv.Itoa(pid) {
			continue
		}
		if s.namespace(entry) == s.namespace("self") {
			outer, _ := strconv.Atoi(ids[0])
			return outer
		}
	}
	return 0
}

func (s *supervisor) processes() []string {
	dir, err := s.outer.Open(".")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil
	}
	return names
}

func (s *supervisor) namespacePIDs(entry string) []string {
	status, err := s.outer.ReadFile(filepath.Join(entry, "status"))
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(status)) {
		if ids, ok := strings.CutPrefix(line, "NSpid:"); ok {
			return strings.Fields(ids)
		}
	}
	return nil
}

func (s *supervisor) namespace(entry string) string {
	link, err := s.outer.Readlink(filepath.Join(entry, "ns", "pid"))
	if err != nil {
		return ""
	}
	return link
}

func (s *supervisor) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err != nil || pid <= 0 {
			return
		}
		c, ours := s.running[pid]
		if !ours {
			continue // an orphan, such as a container's shim
		}
		delete(s.running, pid)
		reason := fmt.Sprintf("exit code %d", status.ExitStatus())
		if status.Signaled() {
			reason = fmt.Sprintf("signal %q", status.Signal())
		}
		fmt.Fprintf(os.Stderr, "%s %s ended: %s\n", time.Now().UTC().Format(time.RFC3339), c.spec.Name, reason)
		if time.Since(c.started) < lastingLife {
			s.markDead(c.spec, reason)
			continue
		}
		time.AfterFunc(restartDelay, func() { s.start <- c.spec })
	}
}

func (s *supervisor) markDead(p processSpec, reason string) {
	if err := os.WriteFile(filepath.Join(s.spec.RunDir, p.Name+".exit"), []byte(reason+"\n"), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}
