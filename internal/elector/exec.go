package elector

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/quorate/quorate/leader"
)

// supervise runs the command while this pod leads, and again in its next term. When
// the command ends by itself its exit code is returned; otherwise the last one, when
// the elector has ended.
func supervise(ctx context.Context, e *leader.Elector, o *Options, log *slog.Logger) int {
	code := 0
	patience := func() time.Duration {
		if ctx.Err() != nil {
			// This process is told to end: the Lease is kept for so much longer.
			return grace(e) + o.Drain
		}
		return grace(e)
	}
	_ = e.Do(context.WithoutCancel(ctx), func(term context.Context, t *leader.Term) error {
		code = child(term, o.Command, tell(e, roleLeader, t.Token()), patience, log)
		return nil
	})
	return code
}

// child runs the command until it ends. When the term does it is asked to end, and
// after the patience it is killed, with all that it has started.
func child(term context.Context, argv []string, t told, patience func() time.Duration, log *slog.Logger) int {
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
	select {
	case err := <-ended:
		return exitCode(err)
	case <-term.Done():
	}
	signal(c, syscall.SIGTERM)
	kill := time.NewTimer(patience())
	defer kill.Stop()
	select {
	case err := <-ended:
		signal(c, syscall.SIGKILL)
		return exitCode(err)
	case <-kill.C:
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
