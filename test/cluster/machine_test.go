package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMachinesAreFoundAndKilledByWhatRuns(t *testing.T) {
	ours, theirs := newLayout(t), newLayout(t)
	first := spawn(t, "machine-init", ours.machine("node1"))
	second := spawn(t, "machine-init", ours.machine("node2"))
	other := spawn(t, "machine-init", theirs.machine("node1"))
	find := func(l layout, name string) []int {
		pids, err := machinePIDs(l, name)
		if err != nil {
			t.Fatal(err)
		}
		return pids
	}
	eventually(t, "all machines run", func() bool { return len(find(ours, "")) == 2 && isOn(theirs, "node1") })
	if diff := cmp.Diff([]int{first.Process.Pid}, find(ours, "node1")); diff != "" {
		t.Error(diff)
	}
	go first.Process.Wait() // reaps it, as process 1 does
	if err := powerOff(ours, "node1"); err != nil {
		t.Fatal(err)
	}
	if isOn(ours, "node1") {
		t.Error("node1 is still on")
	}
	if diff := cmp.Diff([]int{second.Process.Pid}, find(ours, "")); diff != "" {
		t.Errorf("node2 should run on: %s", diff)
	}
	if diff := cmp.Diff([]int{other.Process.Pid}, find(theirs, "")); diff != "" {
		t.Errorf("another repository's node1 should run on: %s", diff)
	}
}

func TestASupervisorMarksWhatDiesOnStart(t *testing.T) {
	l := newLayout(t)
	spec := machineSpec{Name: "control", RunDir: l.path("run"), Processes: []processSpec{
		{Name: "dies", Command: []string{"/bin/sh", "-c", "echo no such flag; exit 3"}, Log: l.log("dies")},
		{Name: "killed", Command: []string{"/bin/sh", "-c", "kill -9 $$"}, Log: l.log("killed")},
		{Name: "missing", Command: []string{l.bin("missing")}, Log: l.log("missing")},
		{Name: "lives", Command: []string{"/bin/sleep", "60"}, Log: l.log("lives")},
	}}
	if err := writeSpec(l, spec); err != nil {
		t.Fatal(err)
	}
	spawn(t, "supervise", l.machine("control"))
	eventually(t, "three deaths are marked", func() bool {
		return death(l, spec.Processes[0]) != nil && death(l, spec.Processes[1]) != nil && death(l, spec.Processes[2]) != nil
	})
	for i, want := range []string{"dies died on start (exit code 3)", `killed died on start (signal "killed")`, "missing died on start (fork/exec"} {
		if have := death(l, spec.Processes[i]).Error(); !strings.HasPrefix(have, want) {
			t.Errorf("%q, want %q", have, want)
		}
	}
	if have := death(l, spec.Processes[0]).Error(); !strings.HasSuffix(have, "no such flag") {
		t.Errorf("the end of the log is missing in %q", have)
	}
	lives := spec.Processes[3]
	eventually(t, "the fourth runs", func() bool { return runs(l, lives) })
	if err := death(l, lives); err != nil {
		t.Error(err)
	}
	data, err := os.ReadFile(l.pid("lives"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the death of the fourth is marked", func() bool { return death(l, lives) != nil })
}

func TestAPidFileOfAnotherProcessIsNotBelieved(t *testing.T) {
	l := newLayout(t)
	write(t, l.pid("etcd"), strconv.Itoa(os.Getpid()))
	if runs(l, processSpec{Name: "etcd", Command: []string{l.bin("etcd")}}) {
		t.Error("this test was taken for etcd")
	}
	self, err := os.ReadFile("/proc/self/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	if !runs(l, processSpec{Name: "etcd", Command: strings.Split(string(self), "\x00")}) {
		t.Error("this test was not recognised by its own command")
	}
}

func TestTheEndOfALog(t *testing.T) {
	l := newLayout(t)
	tests := map[string]struct{ content, want string }{
		"longer than asked for":  {"1\n2\n3\n4\n", "3\n4"},
		"shorter than asked for": {"1\n", "1"},
		"without a last newline": {"1\n2\n3", "2\n3"},
		"empty":                  {"", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			write(t, l.log("x"), test.content)
			if have := tail(l.log("x"), 2); have != test.want {
				t.Errorf("%q, want %q", have, test.want)
			}
		})
	}
}

func TestMountPointsUnderADirectory(t *testing.T) {
	mountinfo := `22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:26 / /r/.cluster/state rw - tmpfs tmpfs rw
31 22 0:27 / /r/.cluster/state/a\040b rw - tmpfs tmpfs rw
32 22 0:28 / /r/.cluster/state-of-another rw - tmpfs tmpfs rw
`
	want := []string{"/r/.cluster/state", "/r/.cluster/state/a b"}
	if diff := cmp.Diff(want, mountPointsUnder(mountinfo, "/r/.cluster/state")); diff != "" {
		t.Error(diff)
	}
}
