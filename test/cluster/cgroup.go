package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// cgroupRoot is the directory, in each hierarchy, of all the nodes' pods.
const cgroupRoot = "quorate"

const cgroupMount = "/sys/fs/cgroup"

// hierarchies returns the cgroup hierarchies that the kubelet and runc write
// to: one mount per controller on cgroup v1, the one mount on v2.
func hierarchies(mount string) ([]string, error) {
	if _, err := os.Stat(filepath.Join(mount, "cgroup.controllers")); err == nil {
		return []string{mount}, nil
	}
	entries, err := os.ReadDir(mount)
	if err != nil {
		return nil, fmt.Errorf("reading the cgroup hierarchies: %w", err)
	}
	var list []string
	for _, e := range entries {
		dir := filepath.Join(mount, e.Name())
		// v1 names two controllers of one mount by a link each: cpu -> cpu,cpuacct.
		if resolved, err := filepath.EvalSymlinks(dir); err == nil {
			dir = resolved
		}
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err == nil && !slices.Contains(list, dir) {
			list = append(list, dir)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no cgroup hierarchy is mounted under %s", mount)
	}
	return list, nil
}

// makeCgroups makes a node's directory in every hierarchy; the kubelet demands
// that its root exists.
func makeCgroups(mount string, name string) error {
	list, err := hierarchies(mount)
	if err != nil {
		return err
	}
	for _, h := range list {
		parent := h
		for _, part := range []string{cgroupRoot, name} {
			dir := filepath.Join(parent, part)
			if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
				return fmt.Errorf("making a cgroup: %w", err)
			}
			if err := inheritCpuset(parent, dir); err != nil {
				return err
			}
			if err := delegateControllers(parent); err != nil {
				return err
			}
			parent = dir
		}
	}
	return nil
}

// inheritCpuset copies the CPUs and memory nodes of the parent: on cgroup v1 a
// new cpuset has none, and no process can enter it.
func inheritCpuset(parent, dir string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(parent, file))
		if errors.Is(err, os.ErrNotExist) || len(bytes.TrimSpace(value)) == 0 {
			continue // another controller's hierarchy, or v2, where an empty set inherits
		}
		if err != nil {
			return fmt.Errorf("reading a cpuset: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), value, 0o644); err != nil {
			return fmt.Errorf("giving the cpuset %s its %s: %w", dir, file, err)
		}
	}
	return nil
}

// delegateControllers lets the children of a v2 cgroup use its controllers.
func delegateControllers(dir string) error {
	controllers, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if errors.Is(err, os.ErrNotExist) {
		return nil // v1
	}
	if err != nil {
		return fmt.Errorf("reading the controllers of %s: %w", dir, err)
	}
	for _, c := range bytes.Fields(controllers) {
		// One by one: a controller that cannot be delegated refuses the whole line.
		_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), append([]byte("+"), c...), 0o644)
	}
	return nil
}

// removeCgroups removes a directory of every hierarchy with all below it. A
// process that was just killed holds its cgroup a moment longer, so it tries
// again for up to ten seconds.
func removeCgroups(mount, name string) error {
	list, err := hierarchies(mount)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		var left error
		for _, h := range list {
			left = errors.Join(left, removeCgroupTree(filepath.Join(h, name)))
		}
		if left == nil || time.Now().After(deadline) {
			return left
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func removeCgroupTree(top string) error {
	var dirs []string
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("listing the cgroups under %s: %w", top, err)
	}
	slices.Reverse(dirs) // children before parents
	for _, dir := range dirs {
		if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("removing a cgroup: %w", err)
		}
	}
	return nil
}
