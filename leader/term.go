package leader

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
)

// Why a term ended; the cause of its context.
var (
	// ErrLost: the lease could not be renewed in time, or somebody else wrote it.
	ErrLost = errors.New("the leadership was lost")
	// ErrResigned: the candidate gave it up.
	ErrResigned = errors.New("the leadership was resigned")
)

// Token grows strictly from term to term of an election, whoever leads. What a leader
// writes to can refuse a token below the greatest that it has seen.
type Token uint64

// Term is one time of being the leader.
type Term struct {
	ctx   context.Context
	token Token
	clock clock
	end   func(error)
	hooks hooks

	mu       sync.Mutex
	deadline instant
	// others is when another one may lead at the soonest.
	others instant
	// ended is true once nothing may be claimed any more.
	ended bool
	// cause is why it ended.
	cause error
}

func newTerm(ctx context.Context, c Config, token Token, sent instant) *Term {
	ctx, cancel := context.WithCancelCause(ctx)
	t := &Term{
		ctx: ctx, token: token, clock: c.clock, end: cancel, hooks: c.hooks,
		deadline: sent.add(c.RenewDeadline), others: sent.add(c.LeaseDuration),
	}
	go t.expire()
	return t
}

// Context ends no later than the claim does, and before the Lease is released. Its
// cause is ErrLost or ErrResigned.
func (t *Term) Context() context.Context { return t.ctx }

// Token of the term: the resourceVersion of the write that began it. Tokens of one
// cluster compare, from Kubernetes 1.35 on by its own promise (KEP-5504), even if the
// Lease was deleted meanwhile. A restored backup of the cluster's etcd may take them
// back; then what was stored of them has to be reset by hand.
func (t *Term) Token() Token { return t.token }

// Check says whether the term still lasts, by the clock of now: nil, ErrLost or
// ErrResigned. Ask it right before a side effect; the context may be late in a process
// that was frozen.
func (t *Term) Check() error {
	if t.lasts() {
		return nil
	}
	if cause := context.Cause(t.ctx); errors.Is(cause, ErrResigned) {
		return cause
	}
	return fmt.Errorf("term %d: %w", t.token, ErrLost)
}

// Grace is for how long from now nobody else can lead, whether this term lasts or not:
// what it began must have stopped by then. It counts from the last renewal, by the clock
// of now, and is over at once in a process that was frozen beyond it. Only Do keeps the
// Lease from being released before.
func (t *Term) Grace() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return max(0, t.others.left(t.clock.now()))
}

// lasts says whether the claim holds at this moment.
func (t *Term) lasts() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.ended && t.deadline.left(t.clock.now()) > 0
}

// until is when the claim ends unless it is renewed.
func (t *Term) until() instant {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.deadline
}

// hold notes that the Lease was renewed: nobody else can lead before then.
func (t *Term) hold(others instant) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.others = t.others.later(others)
}

// renew lets the term last until the deadline. One that has ended, or whose time had
// run out before the renewal was known, stays ended: it may have been told already.
func (t *Term) renew(deadline instant) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended || t.deadline.left(t.clock.now()) <= 0 {
		return false
	}
	t.deadline = t.deadline.later(deadline)
	if t.hooks.renewed != nil {
		t.hooks.renewed(t.deadline)
	}
	return true
}

// finish ends the claim at once, then tells those that work on it.
func (t *Term) finish(cause error) {
	t.mu.Lock()
	was := t.ended
	t.ended = true
	if !was {
		t.cause = cause
	}
	t.mu.Unlock()
	if !was && t.hooks.ended != nil {
		t.hooks.ended()
	}
	t.end(cause)
}

// wake is how often a term looks at its clocks: a timer stands still while the machine is
// suspended, and would go on from there.
const wake = 250 * time.Millisecond

// expire ends the term at its deadline, whatever the elector waits for by then.
func (t *Term) expire() {
	for {
		left := t.until().left(t.clock.now())
		if left <= 0 {
			t.finish(ErrLost)
			return
		}
		c, stop := t.clock.after(min(left, wake))
		select {
		case <-c:
		case <-t.ctx.Done():
			stop()
			return
		}
	}
}

// enter has somebody join the crew, if the term still lasts: who joins is counted
// before the term can end, and seen by whoever looks after its end.
func (t *Term) enter(c *crew) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return false
	}
	c.enter()
	return true
}

// resigned says that the term was given up, and did not run out.
func (t *Term) resigned() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ended && errors.Is(t.cause, ErrResigned)
}

// claim is a term and the Lease behind it, for the elector's own loop.
type claim struct {
	*Term
	// lease as it was last written, or seen with nothing of the election changed.
	lease *coordinationv1.Lease
	// session that is written with it.
	session string
	// unknown are the renewals that were sent since, and whose outcome nobody knows.
	unknown []attempt
	// renewAt is when it is renewed next; holds is until when nobody else may have
	// taken the Lease, whether this candidate still claims it or not.
	renewAt, holds instant
}

// ours says that what was seen is what this claim wrote, or may have written; and which
// renewal of unknown outcome has come to pass, if one has.
func (c *claim) ours(seen *coordinationv1.Lease) (renewal *attempt, is bool) {
	if seen == nil || seen.Annotations[SessionAnnotation] != c.session {
		return nil, false
	}
	for i := range c.unknown {
		if sameRecord(seen, c.unknown[i].lease) {
			return &c.unknown[i], true
		}
	}
	return nil, sameRecord(seen, c.lease)
}

// is what the Lease was seen as, now or still. What builds on an older revision of it
// cannot come to pass any more.
func (c *claim) is(seen *coordinationv1.Lease) {
	if seen.ResourceVersion != c.lease.ResourceVersion {
		c.unknown = nil
	}
	c.lease = seen
}
