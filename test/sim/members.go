package sim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/etcd/etcdtest"
)

// dialer is an operator's way to the members. Every RPC is a call of that
// operator, and each operator has a pool of its own.
type dialer struct{ op *Operator }

func (d dialer) group(of string) string { return fmt.Sprintf("%d/%s", d.op.number, of) }

func (d dialer) Dial(group string, to etcd.Endpoint, as etcd.Credentials) (etcd.Conn, error) {
	inner, err := d.op.w.Etcd.Dial(d.group(group), to, as)
	if err != nil {
		return nil, err
	}
	member, _, _ := strings.Cut(to.ServerName, ".")
	return conn{op: d.op, member: member, inner: inner}, nil
}

func (d dialer) Keep(group string, endpoints ...etcd.Endpoint) {
	d.op.w.Etcd.Keep(d.group(group), endpoints...)
}

type conn struct {
	op     *Operator
	member string
	inner  etcd.Conn
}

// ask makes a call; an error that the member did not give is a broken
// connection.
func (c conn) ask(method string, does effect, do func() error) error {
	var answer error
	asked := false
	once := func() error {
		asked, answer = true, do()
		return answer
	}
	err := c.op.call(Call{Method: method, Object: c.member, Etcd: true, Changes: does == changes}, once)
	if errors.Is(err, errLate) && !asked {
		return c.late(method, once)
	}
	if err == nil || (asked && errors.Is(err, answer)) {
		return err
	}
	err = fmt.Errorf("%w: %w", etcd.ErrUnreachable, err)
	if does == changes {
		err = fmt.Errorf("%w: %w", etcd.ErrOutcomeUnknown, err)
	}
	return err
}

// late sends the call, which takes effect when nobody waits for it any more.
func (c conn) late(method string, do func() error) error {
	w := c.op.w
	w.note("operator %d: %s %s will come late", c.op.number, method, c.member)
	w.Etcd.DelayBy(lateness)
	w.Etcd.Intercept(func(call etcdtest.Call) error {
		if call.Method == method && call.Moment == etcdtest.Before {
			return etcdtest.ErrLate
		}
		return nil
	})
	defer w.Etcd.Intercept(nil)
	return do()
}

// lateness is longer than it takes the operator to look again.
const lateness = 1500 * time.Millisecond

// change makes a call that changes who is a member, and has the checker look at
// what it brings about.
func (c conn) change(method string, id uint64, url string, do func() error) error {
	return c.ask(method, changes, func() error {
		k := c.op.w.check
		k.beforeChange(c.op, method, id, url)
		err := do()
		k.afterChange(method, err)
		return err
	})
}

type effect int

const (
	reads effect = iota
	changes
)

func (c conn) Status(ctx context.Context) (s etcd.Status, err error) {
	err = c.ask("Status", reads, func() error { s, err = c.inner.Status(ctx); return err })
	return s, err
}

func (c conn) Members(ctx context.Context) (m etcd.Membership, err error) {
	err = c.ask("Members", reads, func() error { m, err = c.inner.Members(ctx); return err })
	c.op.relisted = c.op.proposed && err == nil
	return m, err
}

func (c conn) Read(ctx context.Context) error {
	err := c.ask("Read", reads, func() error { return c.inner.Read(ctx) })
	if err == nil {
		c.op.lastRead = c.op.w.Clock.Now()
	}
	return err
}

func (c conn) Propose(ctx context.Context) error {
	err := c.ask("Propose", changes, func() error { return c.inner.Propose(ctx) })
	c.op.proposed = err == nil
	return err
}

func (c conn) Alarms(ctx context.Context) (a []etcd.Alarm, err error) {
	err = c.ask("Alarms", reads, func() error { a, err = c.inner.Alarms(ctx); return err })
	// Where an alarm refuses other proposals, this is the one.
	c.op.proposed = c.op.proposed || (err == nil && len(a) > 0)
	return a, err
}

func (c conn) AddLearner(ctx context.Context, peerURL string) (m etcd.Member, err error) {
	err = c.change("AddLearner", 0, peerURL, func() error { m, err = c.inner.AddLearner(ctx, peerURL); return err })
	return m, err
}

func (c conn) UpdateMember(ctx context.Context, id uint64, peerURL string) error {
	return c.change("UpdateMember", id, peerURL, func() error { return c.inner.UpdateMember(ctx, id, peerURL) })
}

func (c conn) Promote(ctx context.Context, id uint64) error {
	return c.change("Promote", id, "", func() error { return c.inner.Promote(ctx, id) })
}

func (c conn) Remove(ctx context.Context, id uint64) error {
	return c.change("Remove", id, "", func() error { return c.inner.Remove(ctx, id) })
}

func (c conn) MoveLeader(ctx context.Context, to uint64) error {
	return c.change("MoveLeader", to, "", func() error { return c.inner.MoveLeader(ctx, to) })
}

func (c conn) Downgrade(ctx context.Context, action etcd.DowngradeAction, version string) error {
	return c.change("Downgrade", 0, "", func() error { return c.inner.Downgrade(ctx, action, version) })
}

func (c conn) Compact(ctx context.Context, revision int64) error {
	return c.ask("Compact", changes, func() error {
		c.op.w.check.compacts(revision)
		return c.inner.Compact(ctx, revision)
	})
}

func (c conn) Defragment(ctx context.Context) error {
	return c.ask("Defragment", changes, func() error {
		c.op.w.check.defragments(c.op, c.member)
		return c.inner.Defragment(ctx)
	})
}

func (c conn) Hash(ctx context.Context, revision int64) (h etcd.Hash, err error) {
	err = c.ask("Hash", reads, func() error { h, err = c.inner.Hash(ctx, revision); return err })
	return h, err
}

func (c conn) Disarm(ctx context.Context, a etcd.Alarm) error {
	return c.ask("Disarm", changes, func() error {
		c.op.w.check.disarms(a)
		return c.inner.Disarm(ctx, a)
	})
}
