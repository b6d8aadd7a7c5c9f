package elector

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// start runs a command in a process group of its own, so that it can be ended with all that
// it has started. When this process dies nobody would end it: the kernel kills the command
// then, though not what that has started. The kernel means the thread that started it,
// which therefore waits with it.
func start(c *exec.Cmd, started, ended chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	err := c.Start()
	started <- err
	if err == nil {
		ended <- c.Wait()
	}
}

// together has a command in a process group of its own, which is killed as a whole when the
// command's context ends.
func together(c *exec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
}

// signal the command and all that it has started.
func signal(c *exec.Cmd, s syscall.Signal) { _ = syscall.Kill(-c.Process.Pid, s) }

func killed(p *os.ProcessState) int {
	if w, ok := p.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal())
	}
	return 1
}
