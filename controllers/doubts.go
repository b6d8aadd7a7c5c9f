package controllers

import (
	"errors"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/plan"
)

// doubtedAfter is how long a leader may refuse a change of the members because of
// voters that it does not see, while all of them answer. etcd wants every voter
// connected for five seconds; one that refuses for longer has lost track of a peer: a
// connection to the address that the peer had before may fail after the new one stands,
// and then nothing tells it that the peer is there (measured, 3.6.16).
const doubtedAfter = 15 * time.Second

// doubts remember since when the leader of each cluster has refused.
type doubts struct {
	mu    sync.Mutex
	since map[types.NamespacedName]doubt
}

type doubt struct {
	leader uint64
	at     time.Time
}

// of says that the leader has refused for long enough.
func (d *doubts) of(cluster types.NamespacedName, seen plan.Observed, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	was, known := d.since[cluster]
	return known && was.leader == leaderOf(seen) && now.Sub(was.at) >= doubtedAfter
}

// note what etcd has said to a step.
func (d *doubts) note(cluster types.NamespacedName, seen plan.Observed, step plan.Step, err error, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	leader, all := leaderOf(seen), seen.HealthyVoters() == seen.Voters()
	was, known := d.since[cluster]
	known = known && was.leader == leader
	switch {
	case leader == 0 || !all:
		delete(d.since, cluster)
	case errors.Is(err, etcd.ErrUnhealthyCluster) && !known:
		if d.since == nil {
			d.since = map[types.NamespacedName]doubt{}
		}
		d.since[cluster] = doubt{leader, now}
	case err == nil && slices.Contains([]plan.Kind{plan.AddLearner, plan.RemoveMember, plan.Promote}, step.Kind):
		delete(d.since, cluster)
	}
}

// forget a cluster that is gone.
func (d *doubts) forget(cluster types.NamespacedName) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.since, cluster)
}

// leaderOf is the ID of the member that leads; zero for nobody.
func leaderOf(seen plan.Observed) uint64 {
	m, _ := seen.Leader()
	return m.ID
}
