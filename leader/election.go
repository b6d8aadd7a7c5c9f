package leader

import (
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
)

// What the loop does next.
type action int

const (
	// doRest until the time that comes with it, or until something happens.
	doRest action = iota
	// doLook reads the Lease.
	doLook
	// doAcquire writes it for a new term.
	doAcquire
	// doRenew writes it for the term that lasts.
	doRenew
	// doRelease gives it up.
	doRelease
	// doLose ends the term: its time is over.
	doLose
	// doStop ends the loop.
	doStop
)

// spread is how far apart the candidates try to take over, so that not all of them
// ask at the same moment.
const spread = 100 * time.Millisecond

// election is what one candidate knows, and what follows from it. It reads no clock
// and asks nobody: next decides from what was noted.
type election struct {
	config Config
	// seen is the Lease; nil if there is none. known is false before the first look.
	seen  *coordinationv1.Lease
	known bool
	// heard is when anything was last heard of the Lease.
	heard instant
	// valid is until when the holder is named: what it promises, from when its last
	// change was seen; never, while none was.
	valid instant
	// until is when everybody who may claim on the word of the Lease has stopped.
	until instant
	// turn is this candidate's place within spread, for this holder.
	turn time.Duration
	// lookAt is when the Lease is to be read at the latest: the watch has ended, or
	// says nothing.
	lookAt instant
	// watched says that changes are told without being asked for.
	watched bool
	// quiet is when the API server is asked again after a refusal.
	quiet instant
	// crew works on this candidate's terms.
	crew *crew
	// claim of the term that lasts, or is being given up; nil for none.
	claim *claim
	// attempts are the acquisitions whose outcome nobody knows, and which may still be on
	// their way; unsure says that nothing was seen since the last one.
	attempts []attempt
	unsure   bool
	// own says that the Lease as seen was written by this process, or by one that is
	// known to have ended.
	own func(*coordinationv1.Lease) bool
	// leaving: the term ends, and at leaveAt the Lease is released. stopping: so does
	// the loop. idleUntil is until when this candidate does not contend.
	leaving, stopping bool
	leaveAt           instant
	idleUntil         instant
	// closed are the gates that keep this candidate from contending.
	closed map[string]bool
	// last is the transitions of the next term, if the Lease is gone by then.
	last int32
	// onEnd are called when the claim is over, with why: ErrResigned if the Lease was
	// released.
	onEnd []func(why error)
}

// attempt is what was sent for a new term, and when.
type attempt struct {
	lease   *coordinationv1.Lease
	session string
	sent    instant
}

// outcome of the attempts, now that the Lease was seen: the one that has come to pass, or
// nil. Those that build on another revision cannot any more, and the old ones would be of
// no use.
func (n *election) outcome(seen *coordinationv1.Lease, now instant) *attempt {
	n.unsure = false
	is := seen
	if is == nil {
		is = &coordinationv1.Lease{}
	}
	var pending []attempt
	for _, a := range n.attempts {
		if is.Annotations[SessionAnnotation] == a.session && sameSpec(is, a.lease) {
			n.attempts = nil
			return &a
		}
		if is.ResourceVersion == a.lease.ResourceVersion && a.sent.add(2*n.config.LeaseDuration).left(now) > 0 {
			pending = append(pending, a)
		}
	}
	n.attempts = pending
	return nil
}

// note takes in what was seen of the Lease; nil for none. It answers whether the
// record differs from what was known.
func (n *election) note(lease *coordinationv1.Lease, now instant) bool {
	first := !n.known
	changed := first || !sameRecord(n.seen, lease)
	n.known, n.heard = true, now
	n.lookAt = now.add(n.watchdog(lease))
	if !changed {
		n.seen = lease
		return false
	}
	if !first {
		// What was there before may be from long ago: its holder is waited for, and not
		// named before it shows that it lives.
		n.valid = now.add(promised(lease))
	}
	switch {
	case holder(lease) != "":
		// Whoever wrote it claims for less than this, counted from before it was
		// written; whoever held it before, too.
		n.until = n.until.later(now.add(promised(lease)))
	case released(lease):
		n.until = now
	case lease == nil && first:
		// There was never one, as far as anybody can know.
	default:
		// Deleted, or emptied by hand. Its holder may not have heard of it, and need not
		// be the one that was last seen here.
		n.until = n.until.later(now.add(max(promised(lease), promised(n.seen), n.config.LeaseDuration)))
	}
	n.turn = n.config.jitter(spread)
	n.seen = lease
	return true
}

// watchdog is how long a watch may say nothing: a holder renews every third of what it
// promises.
func (n *election) watchdog(lease *coordinationv1.Lease) time.Duration {
	if holder(lease) == "" {
		return n.config.LeaseDuration
	}
	return max(promised(lease)/2, time.Second)
}

// next is what to do now, or for how long to rest.
func (n *election) next(now instant) (action, time.Duration) {
	switch {
	case n.claim != nil:
		return n.lead(now)
	case n.stopping && !n.mayLead(now):
		return doStop, 0
	case n.quiet.left(now) > 0:
		return doRest, n.quiet.left(now)
	case !n.known || n.unsure || n.lookAt.left(now) <= 0:
		// Only a look can tell what became of an attempt.
		return doLook, 0
	}
	at, contends := n.contendAt()
	switch {
	case !contends:
		return doRest, n.lookAt.left(now)
	case at.leftOnBoth(now) <= 0:
		return doAcquire, 0
	default:
		return doRest, min(at.leftOnBoth(now), n.lookAt.left(now))
	}
}

// mayLead says that an attempt may have come to pass, and the term of it would last.
func (n *election) mayLead(now instant) bool {
	return n.unsure && n.attempts[len(n.attempts)-1].sent.add(n.config.RenewDeadline).left(now) > 0
}

// lead is next for whoever holds the Lease, claiming or not.
func (n *election) lead(now instant) (action, time.Duration) {
	c := n.claim
	if !n.leaving && c.resigned() {
		// Whoever gave it up is still to say so here.
		n.resign(now)
	}
	leave := n.leaving && n.leaveAt.left(now) <= 0
	switch {
	case c.holds.left(now) <= 0, !n.leaving && !c.lasts():
		return doLose, 0
	case n.quiet.left(now) > 0:
		return doRest, min(n.quiet.left(now), c.holds.left(now))
	case leave && !n.crew.busy():
		return doRelease, 0
	case leave:
		// Whoever still works holds the release up, but not the others for ever: it is
		// not renewed any more.
		return doRest, c.holds.left(now)
	case c.renewAt.left(now) <= 0:
		return doRenew, 0
	case !n.watched && n.lookAt.left(now) <= 0:
		return doLook, 0
	}
	rest := min(c.renewAt.left(now), c.holds.left(now))
	if n.leaving {
		rest = min(rest, n.leaveAt.left(now))
	}
	if !n.watched {
		rest = min(rest, n.lookAt.left(now))
	}
	return doRest, rest
}

// gates as they are at the start.
func gates(c Config) map[string]bool {
	closed := map[string]bool{}
	for _, name := range c.Gates {
		closed[name] = true
	}
	if c.Eligibility == Ineligible {
		closed[becomes] = true
	}
	return closed
}

// resign has the Lease released as soon as nobody works on the term.
func (n *election) resign(now instant) {
	n.claim.finish(ErrResigned)
	n.leaving, n.leaveAt = true, now
}

// contendAt is when this candidate may write the Lease.
func (n *election) contendAt() (instant, bool) {
	switch {
	case n.config.Role == Observer || len(n.closed) > 0:
		return instant{}, false
	case n.own != nil && n.seen != nil && n.own(n.seen):
		return n.idleUntil, true
	case holder(n.seen) == "" && n.until == (instant{}):
		return n.idleUntil, true
	case released(n.seen):
		return n.idleUntil.later(n.until), true
	default:
		return n.idleUntil.later(n.until.add(n.turn)), true
	}
}
