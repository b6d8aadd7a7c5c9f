package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHierarchiesOfBothVersions(t *testing.T) {
	v1 := t.TempDir()
	for _, dir := range []string{"cpu,cpuacct", "memory", "systemd"} {
		write(t, filepath.Join(v1, dir, "cgroup.procs"), "")
	}
	write(t, filepath.Join(v1, "notes", "readme"), "not a hierarchy")
	for _, link := range []string{"cpu", "cpuacct"} {
		if err := os.Symlink("cpu,cpuacct", filepath.Join(v1, link)); err != nil {
			t.Fatal(err)
		}
	}
	v2 := t.TempDir()
	write(t, filepath.Join(v2, "cgroup.controllers"), "cpu memory\n")
	tests := map[string]struct {
		mount string
		want  []string
	}{
		"version 1, each once": {v1, []string{v1 + "/cpu,cpuacct", v1 + "/memory", v1 + "/systemd"}},
		"version 2":            {v2, []string{v2}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			have, err := hierarchies(test.mount)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, have); diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, err := hierarchies(t.TempDir()); err == nil {
		t.Error("found cgroups where none are mounted")
	}
}

func TestANodesCpusetIsItsParents(t *testing.T) {
	mount := t.TempDir()
	write(t, filepath.Join(mount, "cpuset", "cgroup.procs"), "")
	write(t, filepath.Join(mount, "cpuset", "cpuset.cpus"), "0-1\n")
	write(t, filepath.Join(mount, "cpuset", "cpuset.mems"), "0\n")
	for range 2 { // the second time everything is there
		if err := makeCgroups(mount, "node1"); err != nil {
			t.Fatal(err)
		}
	}
	for file, want := range map[string]string{"cpuset.cpus": "0-1\n", "cpuset.mems": "0\n"} {
		have, err := os.ReadFile(filepath.Join(mount, "cpuset", cgroupRoot, "node1", file))
		if err != nil || string(have) != want {
			t.Errorf("%s is %q (%v), want %q", file, have, err, want)
		}
	}
}

func TestCgroupsAreRemovedChildrenFirst(t *testing.T) {
	mount := t.TempDir()
	write(t, filepath.Join(mount, "memory", "cgroup.procs"), "")
	if err := os.MkdirAll(filepath.Join(mount, "memory", cgroupRoot, "node1", "kubepods", "pod1"), 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to remove
		if err := removeCgroups(mount, cgroupRoot); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(mount, "memory", cgroupRoot)); !os.IsNotExist(err) {
		t.Errorf("the cgroup is left: %v", err)
	}
}
