package sim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Call is a call that an operator makes to the API server or to a member.
type Call struct {
	// Key names the call: its method, its object, and the how manieth of these
	// it is in this run. Two runs that are equal up to a call name it equally,
	// whatever the order of calls that are made at once.
	Key string
	// Method is the API server's verb or the name of etcd.Conn's method, Object
	// what it is about.
	Method, Object string
	// Etcd says that a member is asked, Changes that the call may change
	// something.
	Etcd, Changes bool
	// Operator that makes the call, counted from 1.
	Operator int
}

// Moment of a call.
type Moment int

const (
	// Before: an error means that the call never arrived.
	Before Moment = iota
	// After: the call took effect; an error means that the answer is lost.
	After
)

// Hook is asked at both moments of each call. It may change the world, park the
// operator, kill it, or return the error that the operator gets.
type Hook func(op *Operator, c Call, m Moment) error

var (
	errKilled  = errors.New("the operator is dead")
	errRefused = errors.New("connect: connection refused")
	errLate    = errors.New("no answer in time; the call is on its way")
)

// call makes a call of the operator pass the hook, counts it, and has the
// checker look at what it did.
func (op *Operator) call(c Call, do func() error) error {
	w := op.w
	if op.dead.Load() {
		return errKilled
	}
	c.Operator = op.number
	c.Key = w.count(c)
	held := op.heldUp
	if err := w.hook(op, c, Before); err != nil {
		return err
	}
	if c.Changes {
		op.late = op.heldUp && !held
	}
	// The hook may have killed it.
	if op.dead.Load() {
		return errKilled
	}
	err := do()
	if c.Changes {
		w.note("operator %d: %s: %v", op.number, c.Key, err)
	}
	if hooked := w.hook(op, c, After); hooked != nil {
		return hooked
	}
	if op.dead.Load() {
		return errKilled
	}
	return err
}

// count gives the call its key. Calls to members come from several goroutines.
func (w *World) count(c Call) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	base := c.Method + " " + c.Object
	w.counts[base]++
	key := fmt.Sprintf("%s #%d", base, w.counts[base])
	w.calls = append(w.calls, CallSeen{Key: key, Method: c.Method, Etcd: c.Etcd, Changes: c.Changes, Pass: w.passes})
	return key
}

// CallSeen is a call that a run has made.
type CallSeen struct {
	Key, Method   string
	Etcd, Changes bool
	// Pass is the number of the pass that it was made in, from 1.
	Pass int
}

// kind of the call: what is asked of a member, or the verb and the kind of object.
func (c CallSeen) kind() string {
	base, _, _ := strings.Cut(c.Key, " #")
	if c.Etcd {
		return c.Method
	}
	object, _, _ := strings.Cut(strings.TrimPrefix(base, c.Method+" "), " ")
	return c.Method + " " + object
}

func (w *World) hook(op *Operator, c Call, m Moment) error {
	if w.Hook == nil {
		return nil
	}
	err := w.Hook(op, c, m)
	if err != nil {
		w.check.disturbed()
	}
	return err
}

// Fault is what can go wrong with a call.
type Fault string

// The faults of a call.
const (
	Refused       Fault = "refused"
	TimedOut      Fault = "timed out before"
	AppliedTimed  Fault = "applied but timed out"
	Conflicts     Fault = "conflict"
	TooMany       Fault = "too many requests"
	InternalError Fault = "internal error"
	// AppliedLate: etcd applies the change after the operator has looked again.
	AppliedLate Fault = "applied late"
)

// Faults in the order in which they are tried.
var Faults = []Fault{Refused, TimedOut, AppliedTimed, Conflicts, TooMany, InternalError, AppliedLate}

// strikes says that the fault is one that such a call knows.
func (f Fault) strikes(etcd, changes bool) bool {
	switch f {
	case Conflicts, TooMany, InternalError:
		return !etcd
	case AppliedLate:
		return etcd && changes
	default:
		return true
	}
}

// strike is the error of a fault at the moment of a call; nil if it does not
// strike then.
func (f Fault) strike(c Call, m Moment) error {
	if (f == AppliedTimed) != (m == After) || !f.strikes(c.Etcd, c.Changes) {
		return nil
	}
	switch f {
	case AppliedLate:
		return errLate
	case Refused:
		return errRefused
	case TimedOut, AppliedTimed:
		return context.DeadlineExceeded
	case Conflicts:
		return apierrors.NewConflict(resourceOf(c.Object), c.Object, errors.New("somebody else was faster"))
	case TooMany:
		return apierrors.NewTooManyRequests("the server has received too many requests", int(time.Second.Seconds()))
	default:
		return apierrors.NewInternalError(errors.New("the database of the API server has gone"))
	}
}
