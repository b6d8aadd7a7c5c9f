package member

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// relay hands signals to etcd while it runs. While it does not, a signal that asks
// to stop ends the guard's waiting instead.
type relay struct {
	signals chan os.Signal
	cancel  context.CancelCauseFunc

	mu      sync.Mutex
	child   *child
	stopped syscall.Signal // the first signal that asked to stop
}

// stoppedError is the cause of the context's end after a signal.
type stoppedError struct{ signal syscall.Signal }

func (e *stoppedError) Error() string { return fmt.Sprintf("stopped by signal %d", e.signal) }

// newRelay starts to receive signals. The context ends with the first that asks
// the guard to stop. release gives the signals back.
func newRelay(parent context.Context) (r *relay, ctx context.Context, release func()) {
	ctx, cancel := context.WithCancelCause(parent)
	r = &relay{signals: make(chan os.Signal, 16), cancel: cancel}
	// SIGPIPE is caught and dropped: a container runtime that closed our standard
	// error must not end the guard, and etcd with it, at the next log line.
	signal.Notify(r.signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE)
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		for s := range r.signals {
			r.receive(s.(syscall.Signal))
		}
	}()
	return r, ctx, func() {
		signal.Stop(r.signals)
		close(r.signals)
		<-finished
		cancel(nil)
	}
}

func (r *relay) receive(s syscall.Signal) {
	if s == syscall.SIGPIPE {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped == 0 && (s == syscall.SIGTERM || s == syscall.SIGINT || s == syscall.SIGQUIT) {
		r.stopped = s
		r.cancel(&stoppedError{s})
	}
	if r.child != nil {
		r.child.signal(s)
	}
}

// attach makes c the receiver. A request to stop that arrived just before c was
// started reaches it now; without this it would be lost until the kubelet's SIGKILL.
func (r *relay) attach(c *child) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.child = c
	if r.stopped != 0 {
		c.signal(r.stopped)
	}
}

func (r *relay) detach() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.child = nil
}
