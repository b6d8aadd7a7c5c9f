package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quorate/quorate/test/soak/testbed"
)

// askTimeout bounds one question to a member: while members leave, an answer
// that does not come says nothing, and the next one is asked.
const askTimeout = 500 * time.Millisecond

// roles of a cluster's members at one moment.
type roles struct {
	voters    []string
	followers []string
	leader    string
	ids       map[string]uint64
}

func rolesOf(ctx context.Context, c testbed.Cluster) (r roles, err error) {
	if r.voters, err = c.Voters(ctx); err != nil {
		return r, err
	}
	if r.leader, _, err = c.Leader(ctx, r.voters...); err != nil {
		return r, err
	}
	r.followers = slices.DeleteFunc(slices.Clone(r.voters), func(m string) bool { return m == r.leader })
	r.ids, err = c.Etcd(ctx, r.leader)
	return r, err
}

// list is etcd's member list, asked over and over through one connection each.
type list struct{ client *clientv3.Client }

// openList asks only these members, which should be those that stay.
func openList(ctx context.Context, c testbed.Cluster, members ...string) (list, error) {
	cl, err := c.Client(ctx, members...)
	if err != nil {
		return list{}, err
	}
	l := list{cl}
	// The first answer is not timed: it waits for the connection.
	if err := until(ctx, func(ctx context.Context) (bool, error) { return l.ask(ctx) != nil, nil }); err != nil {
		l.close()
		return list{}, fmt.Errorf("asking for the members of %s: %w", c.Name, err)
	}
	return l, nil
}

func (l list) close() { _ = l.client.Close() }

// ask is a linearizable read of the list; nil where no answer came.
func (l list) ask(ctx context.Context) []*pb.Member {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	answer, err := l.client.MemberList(ctx)
	if err != nil {
		return nil
	}
	return answer.Members
}

// becomes waits until etcd lists so many members, all of them voters that have
// started, and among them none with a certain ID (0 for any).
func (l list) becomes(ctx context.Context, size int, without uint64) error {
	return until(ctx, func(ctx context.Context) (bool, error) {
		now := l.ask(ctx)
		wrong := func(m *pb.Member) bool { return m.IsLearner || len(m.ClientURLs) == 0 || m.ID == without }
		return len(now) == size && !slices.ContainsFunc(now, wrong), nil
	})
}

// podsReady waits until the cluster has so many pods and all are Ready.
func podsReady(ctx context.Context, q *quorate, size int) error {
	return until(ctx, func(ctx context.Context) (bool, error) {
		pods, err := q.pods(ctx)
		return allReady(pods, size), err
	})
}

// healthy waits until the cluster is what its spec wants, by every account.
func healthy(ctx context.Context, c testbed.Cluster) error {
	var last error
	err := until(ctx, func(ctx context.Context) (bool, error) {
		if last = c.Healthy(ctx); last == nil {
			return true, nil
		}
		return false, pause(ctx, 200*time.Millisecond)
	})
	if err != nil {
		return fmt.Errorf("waiting for cluster %s to be healthy: %w (at last: %w)", c.Name, err, last)
	}
	return nil
}

// found applies a cluster and waits until it is healthy.
func found(ctx context.Context, q *quorate) error {
	if err := q.apply(ctx); err != nil {
		return fmt.Errorf("applying cluster %s: %w", q.cluster.Name, err)
	}
	return healthy(ctx, q.reached)
}
