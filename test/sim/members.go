package sim

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/quorate/quorate/internal/etcd"
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
	err := c.op.call(Call{Method: method, Object: c.member, Etcd: true, Changes: does == changes}, func() error {
		asked, answer = true, do()
		return answer
	})
	if err == nil || (asked && errors.Is(err, answer)) {
		return err
	}
	err = fmt.Errorf("%w: %w", etcd.ErrUnreachable, err)
	if does == changes {
		err = fmt.Errorf("%w: %w", etcd.ErrOutcomeUnknown, err)
	}
	return err
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
	return c.ask("Propose", changes, func() error { return c.inner.Propose(ctx) })
}

func (c conn) Alarms(ctx context.Context) (a []etcd.Alarm, err error) {
	err = c.ask("Alarms", reads, func() error { a, err = c.inner.Alarms(ctx); return err })
	return a, err
}

func (c conn) AddLearner(ctx context.Context, peerURL string) (m etcd.Member, err error) {
	err = c.ask("AddLearner", changes, func() error { m, err = c.inner.AddLearner(ctx, peerURL); return err })
	return m, err
}

func (c conn) Promote(ctx context.Context, id uint64) error {
	return c.ask("Promote", changes, func() error { return c.inner.Promote(ctx, id) })
}

func (c conn) Remove(ctx context.Context, id uint64) error {
	return c.ask("Remove", changes, func() error { return c.op.w.check.removal(func() error { return c.inner.Remove(ctx, id) }) })
}

func (c conn) MoveLeader(ctx context.Context, to uint64) error {
	return c.ask("MoveLeader", changes, func() error { return c.inner.MoveLeader(ctx, to) })
}
