package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"
)

// TestMain lets the test binary stand for machine-init, so that what looks for
// machines and what supervises processes meets real processes.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "machine-init" {
		_, _ = io.Copy(io.Discard, os.Stdin) // until the test closes it, or kills this
		return
	}
	if len(os.Args) == 3 && os.Args[1] == "supervise" {
		supervise(os.Args[2])
		return
	}
	os.Exit(m.Run())
}

// supervise runs the processes of a machine in the namespaces of the test.
func supervise(path string) {
	spec, err := readSpec(path)
	if err != nil {
		panic(err)
	}
	outer, err := os.OpenRoot("/proc")
	if err != nil {
		panic(err)
	}
	go func() { // the end of the test ends this process
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	s := &supervisor{spec: spec, outer: outer, running: map[int]*child{}, start: make(chan processSpec, len(spec.Processes))}
	for _, p := range spec.Processes {
		s.start <- p
	}
	if err := s.run(); err != nil {
		panic(err)
	}
}

// spawn runs this test binary with args until the test ends.
func spawn(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		_ = cmd.Wait()
	})
	return cmd
}

// eventually waits up to ten seconds for ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after 10 s still not: %s", what)
		}
	}
}

func newLayout(t *testing.T) layout {
	t.Helper()
	l := layout{root: t.TempDir()}
	if err := l.makeStateDirs(); err != nil {
		t.Fatal(err)
	}
	return l
}

func TestCommandLinesThatMakeNoSense(t *testing.T) {
	tests := map[string][]string{
		"no command":                        {},
		"an unknown command":                {"restart"},
		"an unknown flag":                   {"--fast", "up"},
		"an argument too many":              {"up", "now"},
		"an unknown part of setup":          {"setup", "some"},
		"an image without a name":           {"image", "-o", "x.tar", "a:/a"},
		"an image without files":            {"image", "-o", "x.tar", "-t", "a:b"},
		"a file with a relative target":     {"image", "-o", "x.tar", "-t", "a:b", "a:b"},
		"a file without a target":           {"image", "-o", "x.tar", "-t", "a:b", "/a"},
		"an unknown flag of a subcommand":   {"image", "--squash"},
		"a flag that is missing its value ": {"image", "-o"},
	}
	for name, args := range tests {
		t.Run(name, func(t *testing.T) {
			if err := run(context.Background(), args, io.Discard); !errors.Is(err, errUsage) {
				t.Errorf("run(%q) = %v, want wrong usage", args, err)
			}
		})
	}
}

func TestAClusterThatIsDownHasNoNodes(t *testing.T) {
	l := newLayout(t)
	for _, command := range []string{"partition", "heal", "kill-node", "start-node", "load-image"} {
		err := clusterCommand(context.Background(), l, newProgress(io.Discard), command, []string{"node1"})
		if err == nil {
			t.Errorf("%s succeeded on a cluster that is down", command)
		}
	}
	if err := status(context.Background(), l, io.Discard); !errors.Is(err, errDown) {
		t.Errorf("status = %v, want that something is down", err)
	}
}
