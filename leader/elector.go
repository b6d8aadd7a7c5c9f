package leader

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var zero metav1.MicroTime

// ErrRunning says that Run was called twice.
var ErrRunning = errors.New("the elector runs already")

// Elector contends in one election. Make it with New; all methods may be called from
// any goroutine.
type Elector struct {
	config  Config
	session string
	log     *slog.Logger

	running atomic.Bool
	view    atomic.Pointer[view]
	// wishes are what other goroutines want of the loop.
	wishes chan func(*election)
	done   chan struct{}

	// mu guards stepping down, which does not wait for the loop.
	mu      sync.Mutex
	term    *Term
	workers crew
}

// New checks the configuration, fills in what it leaves out, and makes an elector
// that does nothing until Run. The error lists everything that is wrong.
func New(c Config) (*Elector, error) {
	c, err := c.complete()
	if err != nil {
		return nil, err
	}
	e := &Elector{
		config: c, session: session(c.PodUID), log: c.Logger.With("election", c.Election, "namespace", c.Namespace),
		wishes: make(chan func(*election)), done: make(chan struct{}),
	}
	e.view.Store(&view{changed: make(chan struct{})})
	return e, nil
}

// Config as it was completed.
func (e *Elector) Config() Config { return e.config }

// Run contends, and contends again after every loss, until the context ends. Then it
// stops claiming at once, waits for what runs in Do, and for Config.Drain, and releases
// the Lease. What takes longer than the renew deadline it does not wait for: the Lease is
// left to run out. Trouble with the API server never ends it. The error is ErrRunning, or
// says that the Lease was not released.
func (e *Elector) Run(ctx context.Context) error {
	if !e.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	defer close(e.done)
	l := &loop{Elector: e, ctx: context.WithoutCancel(ctx), config: e.config, told: map[string]string{}, denied: map[string]time.Duration{}, election: election{config: e.config, crew: &e.workers, closed: gates(e.config)}}
	alone := aloneInPod(e.config)
	// Whoever works on has not ended.
	defer e.workers.whenGone(alone.release)
	if !alone.held {
		// Nobody may take this process for a predecessor that has ended.
		e.session = session("")
	}
	l.own = func(lease *coordinationv1.Lease) bool { return l.wrote(lease, alone.held) }
	return l.run(ctx)
}

// Changes yields the state now, and then after every change; what comes while the
// consumer is busy is left out but for the last. It never holds the election up.
func (e *Elector) Changes(ctx context.Context) iter.Seq[State] {
	return func(yield func(State) bool) {
		said := false
		for last := uint64(0); ; {
			v := e.view.Load()
			if s := e.stateOf(v); !said || s.Version != last {
				said, last = true, s.Version
				if !yield(s) {
					return
				}
			}
			if e.pause(ctx, v, e.stateOf(v), longestPoll) == over {
				return
			}
		}
	}
}

// Lead waits until this candidate leads, and returns the term. The error is the
// context's.
func (e *Elector) Lead(ctx context.Context) (*Term, error) {
	for {
		v := e.view.Load()
		if v.term != nil && v.term.lasts() {
			return v.term, nil
		}
		select {
		case <-v.changed:
		case <-e.done:
			return nil, fmt.Errorf("waiting to lead in %s: the elector has ended", e.config.Election)
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting to lead in %s: %w", e.config.Election, context.Cause(ctx))
		}
	}
}

// Do runs f for each term until the context ends, and never twice at once. The
// context that f gets ends with the term, and the Lease is not released before f has
// returned. When f returns while its term lasts, Do returns what it returned.
func (e *Elector) Do(ctx context.Context, f func(context.Context, *Term) error) error {
	for {
		term, err := e.Lead(ctx)
		if err != nil {
			return err
		}
		if !term.enter(&e.workers) {
			continue
		}
		err = e.work(ctx, term, f)
		if ctx.Err() != nil || term.Check() == nil {
			return err
		}
	}
}

func (e *Elector) work(ctx context.Context, term *Term, f func(context.Context, *Term) error) error {
	defer e.workers.leave()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(term.Context(), func() { cancel(context.Cause(term.Context())) })()
	return f(ctx, term)
}

// Resign stops claiming at once, waits for what runs in Do, releases the Lease, and
// contends again after the cooldown. It returns when the Lease is released; at once if
// this candidate does not lead. The error is the context's, or ErrLost: the Lease could
// not be released, and others wait until it has run out.
func (e *Elector) Resign(ctx context.Context, cooldown time.Duration) error {
	e.renounce(ErrResigned)
	over := make(chan error, 1)
	err := e.wish(ctx, func(n *election) {
		now := e.config.clock.now()
		n.idleUntil = n.idleUntil.later(now.add(cooldown))
		if n.claim == nil {
			over <- ErrResigned
			return
		}
		n.resign(now)
		n.onEnd = append(n.onEnd, func(why error) { over <- why })
	})
	if err != nil {
		return err
	}
	select {
	case why := <-over:
		if !errors.Is(why, ErrResigned) {
			return fmt.Errorf("resigning in %s, before the Lease was released: %w", e.config.Election, why)
		}
		return nil
	case <-e.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the release of %s: %w", e.config.Election, context.Cause(ctx))
	}
}

// Eligibility says whether a candidate contends.
type Eligibility int

const (
	// Eligible candidates contend.
	Eligible Eligibility = iota
	// Ineligible ones do not, and resign if they lead.
	Ineligible
)

// becomes is the gate of Become.
const becomes = ""

// Become changes whether the candidate contends. One that leads and becomes
// ineligible resigns.
func (e *Elector) Become(ctx context.Context, is Eligibility) error {
	return e.Gate(ctx, becomes, is)
}

// Gate is Become for one of several who decide, each by a name of its own: the candidate
// contends when all of them say so.
func (e *Elector) Gate(ctx context.Context, name string, is Eligibility) error {
	if is == Ineligible {
		e.renounce(ErrResigned)
	}
	return e.wish(ctx, func(n *election) {
		if is == Eligible {
			delete(n.closed, name)
			return
		}
		n.closed[name] = true
		if n.claim != nil {
			n.resign(e.config.clock.now())
		}
	})
}

// renounce ends the claim of the term that lasts, before anything else is done.
func (e *Elector) renounce(why error) {
	e.mu.Lock()
	term := e.term
	e.mu.Unlock()
	if term != nil {
		term.finish(why)
	}
}

// wish has the loop do something.
func (e *Elector) wish(ctx context.Context, do func(*election)) error {
	select {
	case e.wishes <- do:
		return nil
	case <-e.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("asking the elector of %s: %w", e.config.Election, context.Cause(ctx))
	}
}
