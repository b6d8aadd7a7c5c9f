package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A machine is a set of namespaces with one process, machine-init, as its
// process 1: it starts what runs there and starts it again when it dies. When
// machine-init is killed, the kernel kills all that runs on the machine and
// drops its mounts and its network at the same instant, as a power loss does.

// controlPlane is the machine of etcd, the API server and what belongs to them.
// It shares this machine's network, so that the API server is at the bridge's address.
const controlPlane = "control"

// machineSpec is all that machine-init needs to know; it lies as JSON on the disk.
type machineSpec struct {
	Name      string
	Isolated  bool              // has its own network, host name and /run
	Network   []string          // ip(8) commands for the machine's own network
	Sysctls   map[string]string // path under /proc/sys to value
	Binds     []bind            // directories of the machine's disk
	Overrides map[string]string // files that read differently on this machine
	Processes []processSpec
	RunDir    string // where .pid and .exit files go
}

type bind struct{ Source, Target string }

// processSpec is one process of a machine.
type processSpec struct {
	Name    string // of its log, .pid and .exit files
	Command []string
	Log     string
	WaitFor []string // URLs and sockets (unix:///path) that must answer before the process is started
}

func writeSpec(l layout, spec machineSpec) error {
	data, err := json.MarshalIndent(spec, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding machine %s: %w", spec.Name, err)
	}
	path := l.machine(spec.Name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("making the disk of %s: %w", spec.Name, err)
	}
	return os.WriteFile(path, data, 0o644)
}

func readSpec(path string) (machineSpec, error) {
	var spec machineSpec
	data, err := os.ReadFile(path)
	if err != nil {
		return spec, fmt.Errorf("reading a machine: %w", err)
	}
	if err := json.Unmarshal(data, &spec); err != nil {
		return spec, fmt.Errorf("reading the machine %s: %w", path, err)
	}
	return spec, nil
}

// powerOn starts a machine. connect is called with its process id once its
// namespaces exist, before anything runs in them.
func powerOn(l layout, spec machineSpec, connect func(pid int) error) error {
	if err := writeSpec(l, spec); err != nil {
		return err
	}
	for _, p := range spec.Processes {
		// A mark from an earlier life would be taken for a death in this one.
		if err := os.Remove(l.exit(p.Name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("starting %s: %w", spec.Name, err)
		}
	}
	logFile, err := os.OpenFile(l.log(spec.Name+"-init"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("opening the log of %s: %w", spec.Name, err)
	}
	defer logFile.Close()
	ready, start, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("starting %s: %w", spec.Name, err)
	}
	defer start.Close()
	cmd := exec.Command(l.bin("cluster"), "machine-init", l.machine(spec.Name))
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles, cmd.Dir = logFile, logFile, []*os.File{ready}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	if spec.Isolated {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC
	}
	err = cmd.Start()
	ready.Close()
	if err != nil {
		return fmt.Errorf("starting %s: %w", spec.Name, err)
	}
	if err := os.WriteFile(l.pid(spec.Name), fmt.Appendln(nil, cmd.Process.Pid), 0o644); err != nil {
		return fmt.Errorf("starting %s: %w", spec.Name, err)
	}
	if err := connect(cmd.Process.Pid); err != nil {
		return fmt.Errorf("connecting %s: %w", spec.Name, err)
	}
	// Without this byte machine-init ends by itself: a start that is cut short
	// here leaves no half-made machine behind.
	if _, err := start.Write([]byte{1}); err != nil {
		return fmt.Errorf("starting %s: %w", spec.Name, err)
	}
	return nil
}

// machinePIDs returns the machine-init processes of this repository's machine
// called name, or of all its machines when name is empty. It looks at what runs
// rather than at pid files, which a kill in the wrong moment leaves unwritten.
func machinePIDs(l layout, name string) ([]int, error) {
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	prefix := l.state() + string(filepath.Separator)
	if name != "" {
		prefix = l.machine(name)
	}
	var pids []int
	for _, path := range processes {
		cmdline, err := os.ReadFile(path)
		if err != nil {
			continue // it ended meanwhile
		}
		args := strings.Split(string(cmdline), "\x00")
		if len(args) < 3 || args[1] != "machine-init" || !strings.HasPrefix(args[2], prefix) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// isOn tells whether a machine runs.
func isOn(l layout, name string) bool {
	pids, err := machinePIDs(l, name)
	return err == nil && len(pids) > 0
}

// powerOff kills the machine called name, or all of them when name is empty,
// and waits until the kernel has taken down what ran there.
func powerOff(l layout, name string) error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		pids, err := machinePIDs(l, name)
		if err != nil {
			return fmt.Errorf("looking for machines: %w", err)
		}
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("killing process %d: %w", pid, err)
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v did not die within 20 s of SIGKILL", pids)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// inside returns a command that runs in the namespaces of a machine that is on.
func inside(ctx context.Context, l layout, name string, command ...string) (*exec.Cmd, error) {
	pids, err := machinePIDs(l, name)
	if err != nil {
		return nil, err
	}
	if len(pids) == 0 {
		return nil, fmt.Errorf("%s is off", name)
	}
	args := []string{"--target", strconv.Itoa(pids[0]), "--mount", "--net", "--pid", "--"}
	return exec.CommandContext(ctx, "nsenter", append(args, command...)...), nil
}

// death reports a process of a machine that has ended by itself, with the end of its log.
func death(l layout, p processSpec) error {
	reason, err := os.ReadFile(l.exit(p.Name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("%s died on start (%s); the end of %s:\n%s", p.Name, bytes.TrimSpace(reason), p.Log, tail(p.Log, 20))
}

// tail returns the last lines of a file.
func tail(path string, lines int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
