package elector

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// start runs a command in a process group of its own, which the kernel kills when this
// process dies: nobody would end it then. The kernel means the thread that started it,
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

// signal the command and all that it has started.
func signal(c *exec.Cmd, s syscall.Signal) { _ = syscall.Kill(-c.Process.Pid, s) }

func killed(p *os.ProcessState) int {
	if w, ok := p.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal())
	}
	return 1
}
