package member

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/quorate/quorate/internal/member"
)

// acknowledged is how many writes every schedule acknowledges before the loss.
const acknowledged = 10

// emptied is a schedule in which one disk is lost and the two members that come
// back first are not those that acknowledged the last writes: m2 is down while m0
// and m1 acknowledge, m1 stays down while m0, which lost its disk, and m2 return.
// It ends before m0 is started again.
func emptied(c *cluster, lose func(m0 *node) error) (m0, m1, m2 *node) {
	c.t.Helper()
	m0, m1, m2 = c.members[0], c.members[1], c.members[2]
	// With m1 leading, the leader changes for certain: m0 meets one that knows
	// nothing of what m0 had acknowledged, and therefore does not panic.
	c.lead(m1)
	m2.kill()
	m0.put("k/", acknowledged)
	m1.kill()
	m0.kill()
	must(c.t, lose(m0))
	return m0, m1, m2
}

func loseVolume(n *node) error { n.freshVolume(); return nil }
func loseLog(n *node) error    { return os.RemoveAll(filepath.Join(n.data(), "member", "wal")) }

// wantLoss lets m0 and m2 form a quorum and fails unless the acknowledged writes
// are gone and new ones are taken.
func wantLoss(c *cluster, m0, m2 *node) {
	c.t.Helper()
	m0.awaitReady()
	m2.awaitReady()
	m2.put("new/", 1)
	if got := m2.count("k/"); got != 0 {
		c.t.Errorf("%d of %d acknowledged writes are there, want them lost: the schedule no longer shows what the guard is for", got, acknowledged)
	}
}

// wantKept starts the member that has the data and fails unless all of it is there
// and the cluster works on.
func wantKept(c *cluster, m0, m1, m2 *node) {
	c.t.Helper()
	m2.wantBlocked()
	m1.start()
	m1.awaitReady()
	m2.awaitReady()
	for _, n := range []*node{m1, m2} {
		if got := n.count("k/"); got != acknowledged {
			c.t.Errorf("%d of %d acknowledged writes through %s", got, acknowledged, n.name)
		}
	}
	replace(c, m0, m1)
}

// replace is what the operator does with a lost member: a new one takes its place.
func replace(c *cluster, lost, through *node) {
	c.t.Helper()
	removeMember(c, lost, through)
	m3 := c.grow()
	m3.order(c.initialCluster(m3), member.ClusterStateExisting, member.AnnotationMayBeEmpty, "true", member.AnnotationHold, "true")
	m3.start()
	join(c, m3, through)
	if got := m3.count("k/"); got != acknowledged {
		c.t.Errorf("%d of %d acknowledged writes through the replacement", got, acknowledged)
	}
}

func TestAnEmptiedVoterThatJoinsItsOldIDLosesWritesWithoutTheGuard(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		c := newCluster(t, version, bare, 3)
		c.found(c.members...)
		m0, _, m2 := emptied(c, loseVolume)
		m2.start()
		m2.awaitBooted() // m0 reads the members from it before it boots
		m0.order(c.initialCluster(c.members...), member.ClusterStateExisting)
		m0.start()
		wantLoss(c, m0, m2)
	})
}

func TestAnEmptiedVoterIsRefusedAndReplaced(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		c := newCluster(t, version, guarded, 3)
		c.found(c.members...)
		m0, m1, m2 := emptied(c, loseVolume)
		m2.start()
		// The container restarts in its pod, whose annotations are stale: only
		// the mark in the pod knows.
		m0.order(c.initialCluster(c.members...), member.ClusterStateExisting, member.AnnotationMayBeEmpty, "true")
		m0.wantRefused(member.ExitDataMissing, member.ReasonDataMissing)
		// The pod is made anew: only the annotations know.
		m0.freshPod()
		m0.order(c.initialCluster(c.members...), member.ClusterStateExisting)
		m0.wantRefused(member.ExitDataMissing, member.ReasonDataMissing)
		wantKept(c, m0, m1, m2)
	})
}

func TestAnEmptiedFounderFoundsAgainWithoutTheGuard(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		c := newCluster(t, version, bare, 3)
		c.found(c.members...)
		m0, _, m2 := emptied(c, loseVolume)
		// No peer that has published answers m0, so it does not learn that it
		// has been bootstrapped already.
		m0.order(c.initialCluster(c.members...), member.ClusterStateNew)
		m0.start()
		m0.awaitBooted()
		m2.start()
		wantLoss(c, m0, m2)
	})
}

func TestAnEmptiedFounderIsRefusedAndReplaced(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		c := newCluster(t, version, guarded, 3)
		c.found(c.members...)
		m0, m1, m2 := emptied(c, loseVolume)
		m0.order(c.initialCluster(c.members...), member.ClusterStateNew, member.AnnotationMayBeEmpty, "true")
		m0.wantRefused(member.ExitDataMissing, member.ReasonDataMissing)
		m0.freshPod()
		m0.order(c.initialCluster(c.members...), member.ClusterStateNew)
		m0.wantRefused(member.ExitDataMissing, member.ReasonDataMissing)
		m2.start()
		wantKept(c, m0, m1, m2)
	})
}

func TestAMemberWithoutItsLogDivergesWithoutTheGuard(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		c := newCluster(t, version, bare, 3)
		c.found(c.members...)
		m0, _, m2 := emptied(c, loseLog)
		m0.order(c.initialCluster(c.members...), member.ClusterStateNew)
		m0.start()
		m0.awaitBooted()
		m2.start()
		wantLoss(c, m0, m2)
	})
}

func TestAMemberWithoutItsLogIsRefusedAndReplaced(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		c := newCluster(t, version, guarded, 3)
		c.found(c.members...)
		m0, m1, m2 := emptied(c, loseLog)
		// Neither the annotations nor the pod know: only the marker beside the
		// data does, and a database in the directory proves nothing.
		m0.freshPod()
		m0.order(c.initialCluster(c.members...), member.ClusterStateNew, member.AnnotationMayBeEmpty, "true")
		m0.wantRefused(member.ExitDataMissing, member.ReasonDataMissing)
		m2.start()
		wantKept(c, m0, m1, m2)
	})
}

// seeded is a cluster that grew from a seed, whose flags still say "new" and
// nobody but itself; the seed's disk is lost while its peers are away.
func seeded(t *testing.T, version string, m mode) (c *cluster, seed *node) {
	t.Helper()
	c = newCluster(t, version, m, 3)
	seed = c.members[0]
	c.found(seed)
	for i, n := range c.members[1:] {
		id := addLearner(c, n, seed)
		n.order(c.initialCluster(c.members[:i+2]...), member.ClusterStateExisting, member.AnnotationMayBeEmpty, "true")
		n.start()
		promote(c, n, seed, id)
	}
	seed.put("k/", acknowledged)
	for _, n := range c.members {
		eventually(t, n.name+" to have every write", func() bool { return n.local("k/") == acknowledged })
	}
	c.latch(c.members...)
	for _, n := range c.members {
		n.kill()
	}
	must(t, loseVolume(seed))
	return c, seed
}

func TestAnEmptiedSeedAnswersAndAcknowledgesAloneWithoutTheGuard(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		c, seed := seeded(t, version, bare)
		seed.order(c.initialCluster(seed), member.ClusterStateNew)
		seed.start()
		seed.awaitReady()
		if got := seed.count("k/"); got != 0 {
			t.Errorf("a linearizable read finds %d keys, want none", got)
		}
		seed.put("alone/", acknowledged)
		for _, n := range c.members[1:] {
			n.start()
		}
		for _, n := range c.members[1:] {
			n.awaitReady()
			if got := n.count("alone/"); got != 0 {
				t.Errorf("%d writes that the seed acknowledged are with %s, want them lost", got, n.name)
			}
		}
	})
}

func TestAnEmptiedSeedIsRefusedAndReplaced(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		c, seed := seeded(t, version, guarded)
		// As frozen flags would have it: found alone, the directory may be empty.
		seed.order(c.initialCluster(seed), member.ClusterStateNew, member.AnnotationMayBeEmpty, "true")
		seed.wantRefused(member.ExitDataMissing, member.ReasonDataMissing)
		seed.freshPod()
		seed.order(c.initialCluster(seed), member.ClusterStateNew)
		seed.wantRefused(member.ExitDataMissing, member.ReasonDataMissing)
		if err := seed.tryPut("alone"); err == nil {
			t.Error("the refused seed acknowledged a write")
		}
		m2 := c.members[2]
		m2.start()
		wantKept(c, seed, c.members[1], m2)
	})
}

// A volume that another member has claimed is no more one's own than an empty one.
func TestAVolumeOfAnotherMemberIsRefused(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		c := newCluster(t, version, guarded, 3)
		c.found(c.members...)
		m0, m1 := c.members[0], c.members[1]
		m0.put("k/", acknowledged)
		m0.kill()
		m1.kill()
		swap := m0.volume() + ".swap"
		must(t, errors.Join(os.Rename(m0.volume(), swap), os.Rename(m1.volume(), m0.volume()), os.Rename(swap, m1.volume())))
		m0.wantRefused(member.ExitForeignData, member.ReasonForeignData)
		m1.wantRefused(member.ExitForeignData, member.ReasonForeignData)
		must(t, errors.Join(os.Rename(m0.volume(), swap), os.Rename(m1.volume(), m0.volume()), os.Rename(swap, m1.volume())))
		m0.start()
		m0.awaitReady()
		if got := m0.count("k/"); got != acknowledged {
			t.Errorf("%d of %d acknowledged writes with the volumes put right", got, acknowledged)
		}
	})
}
