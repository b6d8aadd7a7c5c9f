package perform

import (
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
)

const (
	// compareEvery is how often the voters' data is compared.
	compareEvery = time.Hour
	// compareFirst is within what time of its first look an operator compares for the
	// first time; the clusters of one operator are spread over it. One whose data is not
	// known to be equal is at once.
	compareFirst = 10 * time.Minute
	// compareAgain is how soon a comparison is repeated that found a difference, and
	// compareLater one that did not come to an end, as when history was discarded while it
	// went on.
	compareAgain = 2 * time.Second
	compareLater = time.Minute
	// firstHold and lastHold bound how long nobody is defragmented after a failure.
	firstHold = 2 * time.Minute
	lastHold  = 24 * time.Hour
)

// Chores are the calls to members that take longer than a pass: defragmentations,
// compactions and comparisons. A cluster has one at most, beside its passes, which go on
// meanwhile: what else is broken is mended, and what is said of availability is renewed.
//
// All of it is in memory. A defragmentation whose operator has died goes on in etcd; its
// successor sees that the member answers nobody, and starts none beside it.
type Chores struct {
	// Clock tells the time.
	Clock clock.PassiveClock
	// Go runs a chore beside the passes: nil for a goroutine of its own.
	Go func(do func())

	mu       sync.Mutex
	clusters map[types.NamespacedName]*chores
}

// chores of one cluster.
type chores struct {
	uid     types.UID
	since   time.Time
	running plan.Chore

	// compacted is the revision that was compacted to last, compactedAt when that was.
	compacted   int64
	compactedAt time.Time
	// defragmented is when each member was.
	defragmented map[string]time.Time
	// fullSince and doubtedSince are when NOSPACE and CORRUPT were first seen.
	fullSince, doubtedSince time.Time
	failures                int
	heldUntil               time.Time
	failure                 string

	compared
}

// compared is the last comparison.
type compared struct {
	plan.Comparison

	voters []uint64
	at     time.Time
	// whole says that every voter could be compared.
	whole bool
}

// Tell puts into a look what is known of the cluster's chores.
func (c *Chores) Tell(cluster *v1alpha1.EtcdCluster, seen *plan.Observed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := client.ObjectKeyFromObject(cluster)
	k, now := c.of(key, cluster.UID), c.Clock.Now()
	k.fullSince = first(k.fullSince, now, raised(seen, "NOSPACE"))
	k.doubtedSince = first(k.doubtedSince, now, raised(seen, "CORRUPT"))
	seen.Chore, seen.DefragmentHeld, seen.Comparison = k.running, "", plan.Comparison{}
	if now.Before(k.heldUntil) {
		seen.DefragmentHeld = fmt.Sprintf("%s — nobody is defragmented before %s — see what is wrong with its disk", k.failure, k.heldUntil.UTC().Format(time.RFC3339))
	}
	if seen.CompactTo <= k.compacted {
		seen.CompactTo = 0
	}
	for i := range seen.Members {
		at, known := k.defragmented[seen.Members[i].Name]
		seen.Members[i].Defragmented = known && !k.fullSince.IsZero() && !at.Before(k.fullSince) && !at.Before(k.compactedAt)
	}
	present := k.at.After(k.doubtedSince) && slices.Equal(k.voters, voterIDs(*seen))
	if present {
		seen.Comparison = k.Comparison
	}
	unknown := !meta.IsStatusConditionTrue(cluster.Status.Conditions, v1alpha1.ConditionDataConsistent)
	seen.CompareDue = (unknown && k.at.IsZero()) || now.Sub(k.since) >= k.compareAfter(key, present)
}

// compareAfter is how long after the first look the next comparison is due.
func (k *chores) compareAfter(cluster types.NamespacedName, present bool) time.Duration {
	last := k.at.Sub(k.since)
	switch {
	case !k.doubtedSince.IsZero() && !present:
		// etcd itself doubts the data, and refuses writes.
		return max(0, last+compareAgain)
	case k.at.IsZero():
		h := fnv.New32a()
		_, _ = h.Write([]byte(cluster.String()))
		return time.Duration(h.Sum32()) % compareFirst
	case len(k.Differ) > 0 && (!k.Twice || !present):
		return last + compareAgain
	case !k.doubtedSince.IsZero() && !k.whole:
		return last + compareAgain
	case !k.whole, len(k.Differ) > 0:
		return last + compareLater
	default:
		return last + compareEvery
	}
}

// first keeps the time at which something was first so.
func first(since, now time.Time, is bool) time.Time {
	switch {
	case !is:
		return time.Time{}
	case since.IsZero():
		return now
	default:
		return since
	}
}

func raised(seen *plan.Observed, kind string) bool {
	return slices.ContainsFunc(seen.Raised, func(a plan.Alarm) bool { return a.Kind == kind })
}

func voterIDs(seen plan.Observed) []uint64 {
	var ids []uint64
	for _, m := range seen.Members {
		if m.Voter() {
			ids = append(ids, m.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// ComparedAt is when the cluster's data was last compared as a whole; false for never.
func (c *Chores) ComparedAt() map[types.NamespacedName]time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[types.NamespacedName]time.Time{}
	for cluster, k := range c.clusters {
		if k.whole {
			out[cluster] = k.at
		}
	}
	return out
}

// Forget a cluster that is gone.
func (c *Chores) Forget(cluster types.NamespacedName) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.clusters, cluster)
}

// of a cluster; the lock is held.
func (c *Chores) of(cluster types.NamespacedName, uid types.UID) *chores {
	k := c.clusters[cluster]
	if k == nil || k.uid != uid {
		k = &chores{uid: uid, since: c.Clock.Now(), defragmented: map[string]time.Time{}}
		if c.clusters == nil {
			c.clusters = map[types.NamespacedName]*chores{}
		}
		c.clusters[cluster] = k
	}
	return k
}

// start begins a chore, unless the cluster has one. What the call came to is noted under
// the lock.
func (c *Chores) start(
	ctx context.Context, cluster types.NamespacedName, uid types.UID, chore plan.Chore,
	call func(context.Context) error, note func(*chores, error),
) error {
	c.mu.Lock()
	k := c.of(cluster, uid)
	if k.running.Kind != "" {
		c.mu.Unlock()
		return fmt.Errorf("%s while %s goes on: %w", chore.Kind, k.running.Kind, ErrStale)
	}
	k.running = chore
	c.mu.Unlock()
	// It outlasts the pass, and ends with the process or by its own time-out.
	ctx = context.WithoutCancel(ctx)
	do := func() {
		err := call(ctx)
		c.mu.Lock()
		defer c.mu.Unlock()
		k.running = plan.Chore{}
		note(k, err)
	}
	if c.Go != nil {
		c.Go(do)
	} else {
		go do()
	}
	return nil
}

// fail holds defragmentations up, twice as long each time.
func (k *chores) fail(now time.Time, err error) {
	k.heldUntil = now.Add(min(firstHold<<min(k.failures, 10), lastHold))
	k.failures++
	k.failure = err.Error()
}
