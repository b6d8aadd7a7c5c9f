//go:build !linux

package elector

import (
	"os"
	"os/exec"
	"syscall"
)

// start runs a command.
func start(c *exec.Cmd, started, ended chan<- error) {
	err := c.Start()
	started <- err
	if err == nil {
		ended <- c.Wait()
	}
}

// together is what one command is by itself.
func together(*exec.Cmd) {}

// signal the command.
func signal(c *exec.Cmd, s syscall.Signal) { _ = c.Process.Signal(s) }

func killed(*os.ProcessState) int { return 1 }
