package etcdtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/etcd"
)

// Version that a process reports whose flags name none.
const Version = "3.6.16"

// Moment of a call at which it can be intercepted.
type Moment string

const (
	// Before the call: an error means that the call never reached the member.
	Before Moment = "before"
	// After the call: an error means that the member has done it, and the reply is lost.
	After Moment = "after"
)

// Call is an RPC at one of its two moments.
type Call struct {
	// Method is the name of etcd.Conn's method.
	Method string
	// To is the endpoint, Member the name of the member that answers there;
	// empty for nobody.
	To     etcd.Endpoint
	Member string
	Moment Moment
	// Number counts the RPCs of the world from 1; both moments have the same.
	Number int
}

// ErrLate returned before a call has it take effect at the next Tick, or later
// (see DelayBy), while the caller is told that no answer came.
var ErrLate = errors.New("no answer in time")

// Intercept has a function called before and after each RPC. It may change the
// world, may return an error, and may panic; nil intercepts nothing.
func (w *World) Intercept(f func(Call) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.intercept = f
}

// Calls is the number of RPCs so far.
func (w *World) Calls() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls
}

// Put writes a value as a user does, through the process. Without an error the
// write is acknowledged and must never be lost.
func (w *World) Put(p *Process, value string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !p.serves() {
		return etcd.ErrUnreachable
	}
	leader, err := w.writable(p)
	if err != nil {
		return err
	}
	w.commit(leader, entry{kind: valuePut, value: value})
	w.written = append(w.written, write{clusterID: p.store.disk.ClusterID, value: value})
	w.settle()
	return nil
}

var _ etcd.Dialer = (*World)(nil)

// Dial implements etcd.Dialer. The process is looked up at each call: the last
// one started at the address, if its name is the first label of ServerName.
func (w *World) Dial(group string, to etcd.Endpoint, as etcd.Credentials) (etcd.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pooled[group] == nil {
		w.pooled[group] = map[etcd.Endpoint]etcd.Credentials{}
	}
	w.pooled[group][to] = as
	return &conn{world: w, group: group, to: to}, nil
}

// Keep implements etcd.Dialer. A connection that is not kept fails from then
// on, until the endpoint is dialed again.
func (w *World) Keep(group string, endpoints ...etcd.Endpoint) {
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.DeleteFunc(w.pooled[group], func(to etcd.Endpoint, _ etcd.Credentials) bool { return !slices.Contains(endpoints, to) })
	if len(w.pooled[group]) == 0 {
		delete(w.pooled, group)
	}
}

// Pooled lists the addresses of the group that are connected, sorted.
func (w *World) Pooled(group string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []string
	for to := range w.pooled[group] {
		list = append(list, to.Address)
	}
	slices.Sort(list)
	return list
}

type conn struct {
	world *World
	group string
	to    etcd.Endpoint
}

var _ etcd.Conn = (*conn)(nil)

// effect says whether a call changes something.
type effect int

const (
	reads effect = iota
	changes
)

// call passes the interceptor, finds the process and applies the call to it.
func (c *conn) call(ctx context.Context, method string, does effect, apply func(p *Process) error) error {
	w := c.world
	if err := ctx.Err(); err != nil {
		return c.broken(method, does, err)
	}
	w.mu.Lock()
	w.calls++
	call := Call{Method: method, To: c.to, Moment: Before, Number: w.calls}
	if p := w.at(c); p != nil {
		call.Member = p.Flags.Name
	}
	intercept := w.intercept
	w.mu.Unlock()
	if intercept == nil {
		intercept = func(Call) error { return nil }
	}
	if err := intercept(call); err != nil {
		if errors.Is(err, ErrLate) {
			w.delay(c, apply)
		}
		return c.broken(method, does, err)
	}
	w.mu.Lock()
	answer := c.apply(method, does, apply)
	w.mu.Unlock()
	call.Moment = After
	if err := intercept(call); err != nil {
		return c.broken(method, does, err)
	}
	return answer
}

// broken is a call that got no answer.
func (c *conn) broken(method string, does effect, err error) error {
	err = fmt.Errorf("%w: %w", etcd.ErrUnreachable, err)
	if does == changes {
		err = fmt.Errorf("%w: %w", etcd.ErrOutcomeUnknown, err)
	}
	return fmt.Errorf("%s at %s: %w", method, c.to.Address, err)
}

// apply runs under the world's lock.
func (c *conn) apply(method string, does effect, apply func(p *Process) error) error {
	p := c.world.at(c)
	if p == nil {
		return c.broken(method, does, errors.New("nobody answers"))
	}
	if does == changes && p.leads {
		c.world.overtaken(p)
	}
	if err := apply(p); err != nil {
		if does == changes && errors.Is(err, etcd.ErrNoLeader) {
			err = fmt.Errorf("%w: %w", etcd.ErrOutcomeUnknown, err)
		}
		return fmt.Errorf("%s at %s: %w", method, c.to.Address, err)
	}
	c.world.settle()
	return nil
}

// lateCall is a change that has left the caller and has not been applied yet.
type lateCall struct {
	due   time.Time
	asked *Process
	// term in which the member that was asked led; zero if it did not.
	term  uint64
	apply func(p *Process) error
}

// DelayBy has calls that are intercepted with ErrLate take effect that much later;
// zero, the default, is the next Tick.
func (w *World) DelayBy(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lateBy = d
}

// delay has the call take effect later, through whoever leads the cluster then:
// the proposal has left the member that was asked. Whether it is refused is
// decided then, too.
func (w *World) delay(c *conn, apply func(p *Process) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	asked := w.at(c)
	if asked == nil {
		return
	}
	l := &lateCall{due: w.now().Add(w.lateBy), asked: asked, apply: apply}
	if asked.leads {
		l.term = asked.store.term
	}
	w.late = append(w.late, l)
}

// catchUp applies the delayed calls that are due.
func (w *World) catchUp(due func(*lateCall) bool) {
	var waiting, now []*lateCall
	for _, l := range w.late {
		if due(l) {
			now = append(now, l)
		} else {
			waiting = append(waiting, l)
		}
	}
	w.late = waiting
	for _, l := range now {
		for _, p := range w.processes {
			if p.leads && p.store.disk.ClusterID == l.asked.store.disk.ClusterID {
				// Nobody waits for the answer any more.
				_ = l.apply(p)
				break
			}
		}
		w.settle()
	}
}

// overtaken applies what the leader was asked earlier in its term: in raft's log
// no later proposal of the same leader comes before it.
func (w *World) overtaken(leader *Process) {
	w.catchUp(func(l *lateCall) bool { return l.asked == leader && l.term == leader.store.term })
}

// at is the process that answers on the connection.
func (w *World) at(c *conn) *Process {
	if _, pooled := w.pooled[c.group][c.to]; !pooled {
		return nil
	}
	for _, p := range slices.Backward(w.processes) {
		if p.Address != c.to.Address {
			continue
		}
		host, _, _ := strings.Cut(c.to.ServerName, ".")
		if p.serves() && (host == "" || host == p.Flags.Name) && p.takes(schemeOf(c.to, w.pooled[c.group][c.to])) {
			return p
		}
		return nil
	}
	return nil
}

// schemeOf a connection with these credentials.
func schemeOf(to etcd.Endpoint, as etcd.Credentials) string {
	if to.Plaintext || len(as.Certificate) == 0 {
		return "http"
	}
	return "https"
}

// led is the leader that makes a linearizable answer of the process possible.
func (w *World) led(p *Process) (*Process, error) {
	leader := w.leaderFor(p)
	switch {
	case leader == nil:
		return nil, etcd.ErrNoLeader
	case leader.store.config()[p.store.disk.MemberID].Learner:
		return nil, etcd.ErrLearner
	}
	return leader, nil
}

func (w *World) writable(p *Process) (*Process, error) {
	leader, err := w.led(p)
	switch {
	case err != nil:
	case w.alarmed(p, etcd.AlarmCorrupt):
		return nil, etcd.ErrCorrupt
	case w.alarmed(p, etcd.AlarmNoSpace):
		return nil, etcd.ErrNoSpace
	}
	return leader, err
}

func (c *conn) Status(ctx context.Context) (s etcd.Status, err error) {
	err = c.call(ctx, "Status", reads, func(p *Process) error {
		p.store.config()
		s = etcd.Status{
			ClusterID: p.store.disk.ClusterID, MemberID: p.store.disk.MemberID, Leader: p.follows,
			Term: p.store.term, Index: uint64(len(p.store.log)), Applied: uint64(len(p.store.log)),
			Version: cmp.Or(p.Flags.Version, Version), Revision: p.store.revision(),
			DBSize: p.store.db.size(), DBSizeInUse: p.store.inUse(), DBSizeQuota: p.Flags.Quota, Learner: p.learner(), Downgrade: c.world.downgradeOf(p), StorageVersion: p.storage(),
		}
		if p.follows == 0 {
			s.Errors = append(s.Errors, "etcdserver: no leader")
		}
		for _, a := range c.world.alarms[s.ClusterID] {
			s.Errors = append(s.Errors, fmt.Sprintf("memberID:%d alarm:%s ", a.MemberID, a.Kind))
		}
		return nil
	})
	return s, err
}

func (c *conn) Members(ctx context.Context) (m etcd.Membership, err error) {
	err = c.call(ctx, "Members", reads, func(p *Process) error {
		leader, err := c.world.led(p)
		if err != nil {
			return err
		}
		m = etcd.Membership{
			ClusterID: p.store.disk.ClusterID, MemberID: p.store.disk.MemberID, Term: leader.store.term, Members: leader.store.memberList(),
		}
		return nil
	})
	return m, err
}

func (c *conn) Read(ctx context.Context) error {
	return c.call(ctx, "Read", reads, func(p *Process) error {
		_, err := c.world.led(p)
		return err
	})
}

func (c *conn) Propose(ctx context.Context) error {
	return c.call(ctx, "Propose", changes, func(p *Process) error {
		leader, err := c.world.writable(p)
		if err == nil {
			c.world.commit(leader, entry{kind: nothing})
		}
		return err
	})
}

func (c *conn) Alarms(ctx context.Context) (alarms []etcd.Alarm, err error) {
	err = c.call(ctx, "Alarms", reads, func(p *Process) error {
		_, err := c.world.led(p)
		if err == nil {
			if len(c.world.alarms[p.store.disk.ClusterID]) > 0 && p.leads {
				// It is a proposal, and the one to be asked for where others are refused.
				c.world.overtaken(p)
			}
			alarms = slices.Clone(c.world.alarms[p.store.disk.ClusterID])
		}
		return err
	})
	return alarms, err
}
