package leader

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// loop carries out what the election says, one thing at a time.
type loop struct {
	*Elector
	election
	// ctx does not end with Run's: the Lease is released after that.
	ctx context.Context

	config Config

	events  <-chan Event
	unwatch context.CancelFunc
	// opened is when the watch was.
	opened instant
	// polls is true when watching is forbidden.
	polls     bool
	connected bool
	// unreleased is why the Lease could not be given up at the end.
	unreleased error
	// mine is what this process wrote last for a term that is over, or may have written.
	mine []*coordinationv1.Lease
	// terms counts the terms of this process.
	terms int
	// told is the trouble that was told last, by verb: it is not told again.
	told map[string]string
	// denied is the last pause after a missing right, by verb.
	denied map[string]time.Duration
}

const (
	// retryPause between two tries of a request that failed.
	retryPause = time.Second
	// leastPause is for an election with a short lease.
	leastPause = 100 * time.Millisecond
	// longestPause of a candidate that lacks a right: others lead, and somebody has to
	// grant it.
	longestPause = 10 * time.Second
)

func (l *loop) run(ctx context.Context) error {
	defer l.endWatch()
	end := ctx.Done()
	for {
		now := l.config.clock.now()
		do, left := l.next(now)
		switch do {
		case doRest:
			if l.rest(end, left) {
				end = nil
				l.leave(l.config.clock.now())
			}
		case doLook:
			l.look(l.spare())
		case doAcquire:
			l.acquire()
		case doRenew:
			if l.catchUp(); l.claim != nil {
				l.renew()
			}
		case doRelease:
			l.release()
		case doLose:
			l.lose()
		case doStop:
			return l.unreleased
		}
		if end != nil && ctx.Err() != nil {
			end = nil
			l.leave(l.config.clock.now())
		}
	}
}

// leave stops claiming, and has the Lease released after the drain.
func (l *loop) leave(now instant) {
	l.stopping = true
	if l.claim != nil {
		l.claim.finish(ErrResigned)
		l.leaving, l.leaveAt = true, now.add(l.config.Drain)
		l.publish()
	}
}

// rest for the time, or until an event, a wish, or the end of Run's context, which it
// answers.
func (l *loop) rest(end <-chan struct{}, left time.Duration) bool {
	if soon := l.State().Remaining(); soon > 0 {
		left = min(left, soon)
	}
	c, cancel := l.config.clock.after(max(left, 0))
	defer cancel()
	var idle <-chan struct{}
	if l.leaving && l.claim != nil {
		idle = l.crew.idle()
	}
	select {
	case <-end:
		return true
	case event, open := <-l.events:
		if open {
			l.hear(event)
		} else {
			l.miss()
		}
	case do := <-l.wishes:
		do(&l.election)
		l.publish()
	case <-idle:
	case <-c:
		if l.State().Leader != l.view.Load().said {
			l.publish()
		}
	}
	return false
}

// limit of one request: the next renewal must not wait for it, nor the end of a claim
// that is given up.
func (l *loop) limit() (context.Context, context.CancelFunc) {
	most := l.config.RenewInterval
	if l.leaving && l.claim != nil {
		most = min(most, max(leastPause, l.claim.holds.left(l.config.clock.now())))
	}
	return context.WithTimeoutCause(l.ctx, most, errTimeout)
}

// spare is how long may be spent on what is no renewal.
func (l *loop) spare() time.Duration {
	if l.claim == nil {
		return l.config.RenewInterval
	}
	left := l.claim.renewAt.left(l.config.clock.now())
	return max(leastPause, min(left, l.config.RenewInterval))
}

var errTimeout = errors.New("the API server did not answer in time")

// afterConflict is how long a look may take that a write has to wait for, because what
// is known of the Lease has grown old.
func (l *loop) afterConflict() time.Duration {
	return max(leastPause, min(l.claim.holds.left(l.config.clock.now()), l.config.RenewInterval))
}

// look reads the Lease within the time, and watches it if nothing does.
func (l *loop) look(within time.Duration) {
	ctx, cancel := context.WithTimeoutCause(l.ctx, within, errTimeout)
	defer cancel()
	if l.events != nil && l.opened.add(retryPause).leftOnBoth(l.config.clock.now()) <= 0 {
		// It has said nothing for too long: it may be open and dead.
		l.endWatch()
	}
	lease, err := l.config.Leases.Get(ctx, l.config.Namespace, l.config.Election)
	if apierrors.IsNotFound(err) {
		lease, err = nil, nil
	}
	if err != nil {
		l.failed("get", err)
		return
	}
	back := !l.connected
	l.answered("get")
	l.learn(lease)
	if back {
		l.publish()
	}
	if l.events == nil && !l.polls {
		l.watch()
	}
	if l.polls {
		l.lookAt = l.heard.add(l.config.LeaseDuration / 4)
	}
}

// watch opens a watch. What it says first is what was just read, or newer.
func (l *loop) watch() {
	ctx, cancel := context.WithCancel(l.ctx)
	// Only the opening is bounded; the next renewal must not wait for it.
	late := time.AfterFunc(l.spare(), cancel)
	events, err := l.config.Leases.Watch(ctx, l.config.Namespace, l.config.Election)
	if !late.Stop() && err == nil {
		err = errTimeout
	}
	if err != nil {
		cancel()
		if apierrors.IsForbidden(err) {
			l.polls, l.watched = true, true
			l.log.Warn("Watching is forbidden: polling, so that a handover takes longer", "error", err, "missing", l.right("watch", err))
		} else {
			l.failed("watch", err)
		}
		return
	}
	l.events, l.unwatch, l.opened, l.watched = events, cancel, l.config.clock.now(), true
}

func (l *loop) endWatch() {
	if l.unwatch != nil {
		l.unwatch()
	}
	l.events, l.unwatch, l.watched = nil, nil, l.polls
}

// catchUp hears what the watch has told already: a renewal that is built on less would
// be in vain.
func (l *loop) catchUp() {
	for {
		select {
		case event, open := <-l.events:
			if !open {
				l.miss()
				return
			}
			l.hear(event)
		default:
			return
		}
	}
}

// miss notes that the watch has ended.
func (l *loop) miss() {
	now := l.config.clock.now()
	l.endWatch()
	// One that ends as soon as it was opened would otherwise be opened for ever.
	pause := leastPause
	if l.opened.add(10*retryPause).leftOnBoth(now) > 0 {
		pause = max(retryPause, l.config.LeaseDuration/4)
	}
	l.lookAt = now.add(pause)
}

// hear takes in what the watch says.
func (l *loop) hear(event Event) {
	switch {
	case event.Lease != nil && l.old(event.Lease):
	case event.Deleted:
		l.learn(nil)
	default:
		l.learn(event.Lease)
	}
}

// old says that what a watch says is older than what is known.
func (l *loop) old(lease *coordinationv1.Lease) bool {
	known := l.seen
	if known == nil {
		return false
	}
	is, a := revision(lease)
	was, b := revision(known)
	return a && b && is < was
}

// learn takes in what the Lease is now.
func (l *loop) learn(lease *coordinationv1.Lease) {
	now := l.config.clock.now()
	if a := l.outcome(lease, now); a != nil {
		// The claim counts from when it was sent.
		l.note(lease, now)
		l.take(lease, a.session, a.sent)
		return
	}
	if c := l.claim; c != nil {
		renewal, ours := c.ours(lease)
		switch {
		case ours:
			if renewal != nil {
				// It counts from when it was sent, as if its answer had come.
				l.extend(renewal.sent)
			}
			c.is(lease)
			l.note(lease, now)
			if renewal != nil {
				l.publish()
			}
			return
		case l.leaving && released(lease) && lease.Annotations[SessionAnnotation] == c.session:
			// The release had come to pass.
			l.drop(ErrResigned)
			l.unreleased = nil
			l.note(lease, now)
			return
		}
		l.drop(ErrLost)
		l.log.Warn("Somebody else wrote the Lease", "holder", holder(lease))
	}
	if l.note(lease, now) {
		l.publish()
	}
}

func sameSpec(a, b *coordinationv1.Lease) bool {
	c := b.DeepCopy()
	c.UID = a.UID
	return sameRecord(a, c)
}

// acquire writes the Lease for a new term.
func (l *loop) acquire() {
	config := l.config
	l.terms++
	by := l.session + "#" + strconv.Itoa(l.terms)
	// Before anything else: others count from when they see it, which is later.
	sent := config.clock.now()
	wall := metav1.NewMicroTime(config.clock.wall())
	lease := written(l.seen, config.Namespace, config.Election, coordinationv1.LeaseSpec{
		HolderIdentity: new(config.Identity), LeaseDurationSeconds: new(int32(config.LeaseDuration / time.Second)),
		AcquireTime: &wall, RenewTime: &wall, LeaseTransitions: new(l.transitions()),
	}, by)
	got, verb, err := l.write(lease)
	switch {
	case err == nil:
		l.answered(verb)
		l.outcome(got, config.clock.now())
		l.note(got, config.clock.now())
		l.take(got, by, sent)
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), apierrors.IsNotFound(err) && verb == "update":
		// Somebody was quicker. Should that be for ever, it is not asked for without a
		// pause.
		l.answered(verb)
		l.log.Debug("Another candidate was quicker", "error", err)
		l.lookAt = config.clock.now()
		l.quiet = l.lookAt.add(leastPause)
	default:
		if !refused(err) {
			l.attempts, l.unsure = append(l.attempts, attempt{lease: lease, session: by, sent: sent}), true
		}
		l.failed(verb, err)
	}
}

// transitions of the next term. A Lease that was deleted begins at zero, unless this
// candidate remembers it.
func (l *loop) transitions() int32 {
	if l.seen == nil {
		return l.last
	}
	return transitions(l.seen) + 1
}

func (l *loop) write(lease *coordinationv1.Lease) (*coordinationv1.Lease, string, error) {
	ctx, cancel := l.limit()
	defer cancel()
	if lease.ResourceVersion == "" {
		got, err := l.config.Leases.Create(ctx, lease)
		return got, "create", err
	}
	got, err := l.config.Leases.Update(ctx, lease)
	return got, "update", err
}

// take begins a term, unless the answer came when its time was over.
func (l *loop) take(lease *coordinationv1.Lease, by string, sent instant) {
	config := l.config
	deadline := sent.add(config.RenewDeadline)
	l.mine = []*coordinationv1.Lease{lease}
	if deadline.left(config.clock.now()) <= 0 {
		return
	}
	version, ok := revision(lease)
	if !ok {
		l.log.Error("The Lease's resourceVersion is no number: there is no token to be had from it", "resourceVersion", lease.ResourceVersion)
	}
	term := newTerm(l.ctx, config, Token(version), sent)
	if config.hooks.claimed != nil {
		config.hooks.claimed(term.token, term.until())
	}
	l.claim = &claim{Term: term, lease: lease, session: by, renewAt: sent.add(config.RenewInterval), holds: deadline}
	l.mu.Lock()
	l.term = term
	l.mu.Unlock()
	l.log.Info("Leading", "token", term.token, "transitions", transitions(lease))
	now := config.clock.now()
	switch {
	case l.stopping:
		l.leave(now)
	case len(l.closed) > 0 || l.idleUntil.left(now) > 0:
		// It was wished after the request was sent.
		l.resign(now)
	}
	l.publish()
}

// renew writes the Lease for the term that lasts.
func (l *loop) renew() {
	config, c := l.config, l.claim
	sent := config.clock.now()
	wall := metav1.NewMicroTime(config.clock.wall())
	lease := c.lease.DeepCopy()
	lease.Spec.RenewTime = &wall
	got, verb, err := l.write(lease)
	now := config.clock.now()
	pause := max(min(retryPause, config.RenewInterval), leastPause)
	switch {
	case err == nil:
		l.answered(verb)
		c.is(got)
		l.note(got, now)
		c.renewAt = sent.add(config.RenewInterval)
		if l.extend(sent) {
			l.publish()
		} else {
			l.drop(ErrLost)
		}
	case apierrors.IsConflict(err), apierrors.IsNotFound(err):
		l.answered(verb)
		c.renewAt = now.add(leastPause)
		l.look(l.afterConflict())
	default:
		if !refused(err) {
			c.unknown = append(c.unknown, attempt{lease: lease, sent: sent})
		}
		// From when it was sent: one that hung has waited for long enough. Whoever is told
		// to wait does so, but not until it is too late for another try.
		c.renewAt = sent.add(pause).later(now).later(now.add(min(delay(err), c.holds.left(now)/2)))
		l.failed(verb, err)
	}
}

// extend the claim by a renewal that is known to have come to pass; false if the term was
// over by then.
func (l *loop) extend(sent instant) bool {
	c, until := l.claim, sent.add(l.config.RenewDeadline)
	c.holds = c.holds.later(until)
	c.hold(sent.add(l.config.LeaseDuration))
	return l.leaving || c.renew(until) || c.resigned()
}

// release gives the Lease up. This candidate claims nothing by then.
func (l *loop) release() {
	config, c := l.config, l.claim
	wall := metav1.NewMicroTime(config.clock.wall())
	lease := c.lease.DeepCopy()
	lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds = new(""), new(int32(1))
	lease.Spec.RenewTime, lease.Spec.AcquireTime = &wall, &wall
	got, verb, err := l.write(lease)
	switch {
	case err == nil:
		l.answered(verb)
		l.drop(ErrResigned)
		l.note(got, config.clock.now())
		l.log.Info("Released the Lease")
	case apierrors.IsConflict(err):
		// Its labels were edited, or an earlier renewal came late: what is ours is
		// tried again, while its time lasts.
		l.answered(verb)
		l.look(l.afterConflict())
		if l.claim == c && c.lease.ResourceVersion == lease.ResourceVersion {
			// Nothing is known that was not.
			l.quiet = config.clock.now().add(leastPause)
		}
	case apierrors.IsNotFound(err):
		l.drop(ErrResigned)
	default:
		l.failed(verb, err)
		l.unreleased = fmt.Errorf("releasing the Lease %s/%s: %w", config.Namespace, config.Election, err)
		l.quiet = config.clock.now().add(2 * leastPause)
		return
	}
	l.unreleased = nil
	l.publish()
}

// lose the term, whose time is over. At the end of the loop others are kept out by the
// Lease, which nobody has released.
func (l *loop) lose() {
	stuck := l.leaving && l.crew.busy()
	l.drop(ErrLost)
	switch {
	case !l.stopping:
		l.unreleased = nil
	case stuck:
		l.unreleased = fmt.Errorf("the work on the Lease %s/%s has not ended in time: it is not released, and others wait until it runs out", l.config.Namespace, l.config.Election)
	case l.unreleased == nil:
		l.unreleased = fmt.Errorf("the Lease %s/%s was lost before it could be released: others wait until it runs out", l.config.Namespace, l.config.Election)
	}
}

// drop ends the claim, for whatever reason.
func (l *loop) drop(why error) {
	c := l.claim
	c.finish(why)
	l.claim, l.leaving = nil, false
	l.mine = []*coordinationv1.Lease{c.lease}
	for _, a := range c.unknown {
		l.mine = append(l.mine, a.lease)
	}
	l.last = transitions(c.lease) + 1
	l.mu.Lock()
	l.term = nil
	l.mu.Unlock()
	for _, f := range l.onEnd {
		f(why)
	}
	l.onEnd = nil
	l.log.Info("Not leading any more", "reason", why)
	l.publish()
}

// refused says that the API server did not carry the request out, for sure.
func refused(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) || apierrors.IsInvalid(err) ||
		apierrors.IsBadRequest(err) || apierrors.IsTooManyRequests(err) || apierrors.IsRequestEntityTooLargeError(err)
}

// delay that the API server asks for; zero if it asks for none.
func delay(err error) time.Duration {
	after, _ := apierrors.SuggestsClientDelay(err)
	return time.Duration(after) * time.Second
}

// failed notes a request that was not answered as it should have been, and asks no
// more for a while.
func (l *loop) failed(verb string, err error) {
	now := l.config.clock.now()
	pause := max(min(retryPause, l.config.RenewInterval), leastPause)
	pause = max(pause, delay(err))
	if l.claim == nil {
		if apierrors.IsForbidden(err) {
			pause = min(max(pause, 2*l.denied[verb]), longestPause, l.config.LeaseDuration/2)
			l.denied[verb] = pause
		}
		l.quiet = now.add(pause)
	}
	l.lookAt = l.lookAt.later(now.add(pause))
	l.connected = false
	if l.told[verb] != err.Error() {
		l.told[verb] = err.Error()
		args := []any{"verb", verb, "error", err}
		if apierrors.IsForbidden(err) {
			args = append(args, "missing", l.right(verb, err))
		}
		l.log.Warn("The API server did not do what was asked; trying on", args...)
	}
	l.publish()
}

// right names the verb on the object that is missing. Leases that need more than the
// Lease say so by themselves.
func (l *loop) right(verb string, err error) string {
	var other interface{ Missing() string }
	if errors.As(err, &other) {
		return other.Missing()
	}
	return fmt.Sprintf("%s on leases.coordination.k8s.io %s/%s", verb, l.config.Namespace, l.config.Election)
}

// answered notes that a request was answered as it should be.
func (l *loop) answered(verb string) {
	l.connected = true
	delete(l.told, verb)
	delete(l.denied, verb)
}

// publish lets everybody know what is known.
func (l *loop) publish() {
	was := l.view.Load()
	now := &view{lease: l.seen, valid: l.valid, connected: l.connected, changed: make(chan struct{})}
	if l.claim != nil {
		now.term = l.claim.Term
	}
	// Who is named is worked out as anybody would who reads it.
	s := l.stateOf(&view{lease: now.lease, term: now.term, valid: now.valid})
	// Readers may have been told already that what was said has run out.
	known := l.stateOf(was)
	now.said, now.version = s.Leader, known.Version
	same := was.version > 0 && now.lease == was.lease && now.term == was.term && now.valid == was.valid
	if same && now.connected == was.connected && now.said == was.said {
		return
	}
	if s.Leader != known.Leader || (was.term != now.term) || transitions(was.lease) != transitions(now.lease) || was.connected != now.connected || was.version == 0 {
		now.version++
	}
	l.view.Store(now)
	close(was.changed)
}

// wrote says that the Lease was written by this process, which claims nothing now, or
// by a process of the same pod that has ended: two that run would not both have the
// pod's lock. What a stranger of our name has written since, keeping the annotation, is
// not ours.
func (l *loop) wrote(lease *coordinationv1.Lease, alone bool) bool {
	by, _ := splitTerm(lease.Annotations[SessionAnnotation])
	switch {
	case holder(lease) != l.config.Identity:
		return false
	case by == l.session:
		return slices.ContainsFunc(l.mine, func(mine *coordinationv1.Lease) bool { return sameSpec(lease, mine) })
	default:
		return alone && l.config.PodUID != "" && podOf(by) == l.config.PodUID
	}
}

// splitTerm takes the number of the term off a session.
func splitTerm(written string) (session, term string) {
	session, term, _ = strings.Cut(written, "#")
	return session, term
}
