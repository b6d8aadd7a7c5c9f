package elector

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"

	"github.com/quorate/quorate/leader"
)

// supervise runs the command while this pod leads, and again in its next term. When
// the command ends by itself its exit code is returned; otherwise the last one, when
// the elector has ended.
//
// When the context ends the command is asked to end, and leads on for as long as it
// needs for that, or for --drain: then stop ends the elector. Until then the Lease is
// renewed, so that nobody takes over from a command that still works, and if it cannot
// be renewed the term ends as any other does.
func supervise(ctx context.Context, stop context.CancelFunc, e *leader.Elector, o *Options, log *slog.Logger) int {
	var running atomic.Bool
	defer context.AfterFunc(ctx, func() {
		if running.Load() {
			pause(context.WithoutCancel(ctx), o.Drain)
		}
		stop()
	})()
	code := 0
	_ = e.Do(context.WithoutCancel(ctx), func(term context.Context, t *leader.Term) error {
		running.Store(true)
		defer running.Store(false)
		if ctx.Err() != nil {
			return nil
		}
		late := func() (context.Context, context.CancelFunc) {
			return ending(context.WithoutCancel(ctx), patience(e), t.Grace)
		}
		code = child(ctx, term, o.Command, tell(e, roleLeader, t), late, log)
		if ctx.Err() != nil {
			stop()
		}
		return nil
	})
	return code
}

// child runs the command until it ends. When the context ends it is asked to end, and
// when the term does so it is, too, and is killed when it is late, with all that it has
// started.
func child(ctx, term context.Context, argv []string, t told, late func() (context.Context, context.CancelFunc), log *slog.Logger) int {
	c := exec.Command(argv[0], argv[1:]...) //nolint:gosec // the command that the command line names
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.Env = t.environment()
	started, ended := make(chan error, 1), make(chan error, 1)
	go start(c, started, ended)
	if err := <-started; err != nil {
		log.Error("The command could not be started", "command", argv[0], "error", err)
		return 127
	}
	log.Info("Started the command", "command", argv[0], "token", t.Token)
	defer signal(c, syscall.SIGKILL)
	defer context.AfterFunc(ctx, func() { signal(c, syscall.SIGTERM) })()
	select {
	case err := <-ended:
		return exitCode(err)
	case <-term.Done():
	}
	signal(c, syscall.SIGTERM)
	kill, cancel := late()
	defer cancel()
	select {
	case err := <-ended:
		return exitCode(err)
	case <-kill.Done():
		log.Warn("The command did not end in time: killing it", "command", argv[0])
		signal(c, syscall.SIGKILL)
		return exitCode(<-ended)
	}
}

// exitCode as a shell has it.
func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case !errors.As(err, &exit):
		return 1
	case exit.ExitCode() >= 0:
		return exit.ExitCode()
	default:
		return killed(exit.ProcessState)
	}
}
