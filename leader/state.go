package leader

import (
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/utils/ptr"
)

// State is what a candidate knew at the moment at which it was asked.
type State struct {
	// Election and Namespace name the Lease.
	Election, Namespace string
	// Leader is the identity of whoever leads; empty if nobody is known to. Only a
	// candidate that leads is told its own: a namesake's would be taken for it.
	Leader string
	// Self is the candidate's own identity.
	Self string
	// Token and Transitions tell one term from another. Token is zero unless this
	// candidate leads.
	Token Token
	// Transitions counts the terms of the Lease, as its record has it.
	Transitions int32
	// LeaseUID of the Lease; Transitions begin anew with it.
	LeaseUID string
	// AcquiredAt and RenewedAt are the holder's wall times, for people to read.
	AcquiredAt, RenewedAt time.Time
	// Version grows with every change but renewals.
	Version uint64
	// Connected says that the API server answered the last request.
	Connected bool

	leads bool
	left  time.Duration
}

// IsLeader says that this candidate led when it was asked. It grows old: ask anew, or
// use [Term.Check].
func (s State) IsLeader() bool { return s.leads }

// Remaining is how long, from the moment at which it was asked, the answer holds
// unless something is heard; zero when there is no leader.
func (s State) Remaining() time.Duration { return s.left }

// view is what the elector's loop has last published. What of it is true depends on
// the time at which it is read.
type view struct {
	lease *coordinationv1.Lease
	// term is this candidate's, or nil.
	term *Term
	// valid is until when the Lease is its holder's.
	valid     instant
	version   uint64
	connected bool
	// said is who was named when it was published.
	said string
	// changed is closed when another view follows.
	changed chan struct{}
}

// State is what is known now. It never waits.
func (e *Elector) State() State { return e.stateOf(e.view.Load()) }

func (e *Elector) stateOf(v *view) State {
	now := e.config.clock.now()
	s := State{
		Election: e.config.Election, Namespace: e.config.Namespace, Self: e.config.Identity,
		Version: v.version, Connected: v.connected,
	}
	if v.lease != nil {
		s.Transitions, s.LeaseUID = transitions(v.lease), string(v.lease.UID)
		s.AcquiredAt, s.RenewedAt = ptr.Deref(v.lease.Spec.AcquireTime, zero).Time, ptr.Deref(v.lease.Spec.RenewTime, zero).Time
	}
	switch {
	case v.term != nil && v.term.lasts():
		s.Leader, s.leads, s.Token, s.left = e.config.Identity, true, v.term.Token(), v.term.until().left(now)
	case v.term == nil && holder(v.lease) != e.config.Identity && v.valid.left(now) > 0:
		s.Leader, s.left = holder(v.lease), v.valid.left(now)
	}
	if s.Leader == "" {
		s.left = 0
	}
	if s.Leader != v.said {
		// It has run out, and the loop has not come round to saying so.
		s.Version++
	}
	return s
}

// IsLeader is State().IsLeader().
func (e *Elector) IsLeader() bool { return e.State().IsLeader() }
