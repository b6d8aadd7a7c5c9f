package perform

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/internal/snapshot"
)

// history is what clients of one name have been served.
type history struct {
	t   *testing.T
	r   *rand.Rand
	now time.Time
	c   *v1alpha1.EtcdCluster
	// serves is the revision that it serves, most the highest that anybody was served.
	serves, most int64
	backups      []string
	told         []string
}

func (h *history) tell(format string, args ...any) {
	h.told = append(h.told, fmt.Sprintf(format, args...))
}

// create makes a cluster under the name, with a backup or with nothing.
func (h *history) create(with string) {
	h.now = h.now.Add(time.Duration(1000+h.r.IntN(100_000)) * time.Millisecond)
	h.c = &v1alpha1.EtcdCluster{ObjectMeta: metav1.ObjectMeta{Name: "a", UID: "5e1f", CreationTimestamp: metav1.NewTime(h.now.Truncate(time.Second))}}
	h.c.Spec.Size = 2
	if with != "" {
		h.c.Spec.RestoreFrom = &v1alpha1.RestoreSource{Store: &v1alpha1.BackupStore{}, BackupID: with}
	}
	if err := latchFounders(h.c, plan.Observed{}, []string{"a-0000", "a-0001"}); err != nil {
		h.t.Fatal(err)
	}
	h.tell("created at %d with %q", h.now.Unix(), with)
	if with == "" {
		h.serves = 1 // with nothing, there is nothing to raise
		return
	}
	h.begin(snapshot.RevisionOf(with))
}

// raise begins the next incarnation, with a backup or with a survivor's volume.
func (h *history) raise(with string) {
	h.now = h.now.Add(time.Duration(h.r.IntN(20_000)) * time.Millisecond)
	n, revision := max(1, h.c.Status.Incarnation), snapshot.RevisionOf(with)
	var survivor *v1alpha1.SurvivorStatus
	if with == "" {
		revision = h.serves
		survivor = &v1alpha1.SurvivorStatus{Name: "a-0000", Revision: revision}
	}
	begin(h.c, plan.Observed{Incarnation: n, Recovery: &plan.Recovery{Backup: "nightly", BackupID: with}}, survivor, int(n)*2, metav1.NewTime(h.now))
	h.tell("incarnation %d at %d with %q", n+1, h.now.Unix(), with)
	h.begin(revision)
}

// begin: each founder finds the same floor, whether status is lost between two of them or not,
// and it is above whatever anybody has seen.
func (h *history) begin(revision int64) {
	var first int64
	for i, founder := range slices.Clone(h.c.Status.Founders) {
		record := resources.Claim(h.c, founder)
		if i == 0 && h.r.IntN(4) == 0 {
			h.tell("status is lost")
			recovered := plan.Observed{Incarnation: h.c.Status.Incarnation, RecoveredFounders: h.c.Status.Founders, RecoveredFloor: resources.FloorOf(record)}
			h.c.Status = v1alpha1.EtcdClusterStatus{Incarnation: h.c.Status.Incarnation}
			if err := latchFounders(h.c, recovered, recovered.RecoveredFounders); err != nil {
				h.t.Fatal(err)
			}
		}
		h.now = h.now.Add(time.Duration(h.r.IntN(100_000)) * time.Millisecond)
		begins := revision + resources.RevisionBump(resources.RevisionFloor(h.c, record.Annotations), revision)
		if first != 0 && begins != first {
			h.t.Fatalf("founders begin with %d and %d: %v", first, begins, h.told)
		}
		first = begins
	}
	if first <= h.most || first > 1<<53 {
		h.t.Fatalf("it begins with %d, and %d was served before: %v", first, h.most, h.told)
	}
	h.serves = first
	h.most = first
}

// write for a while, at up to half a million revisions a second.
func (h *history) write() {
	for range h.r.IntN(3) {
		milliseconds := int64(h.r.IntN(1 << (4 + h.r.IntN(26))))
		h.now = h.now.Add(time.Duration(milliseconds) * time.Millisecond)
		h.serves += h.r.Int64N(500*milliseconds + 1)
	}
	h.most = max(h.most, h.serves)
}

// backUp what it serves or, now and then, take another cluster's backup, which may be as far
// as any cluster can have come.
func (h *history) backUp() {
	revision := h.serves
	if h.r.IntN(5) == 0 {
		revision = 1 + h.r.Int64N(h.now.Unix()*500_000)
	}
	h.backups = append(h.backups, snapshot.NewID(revision, h.now, "b"))
}

// TestNobodyIsCarriedBackSilently: whatever happens to the clusters of a name, one after the
// other, and whichever backup they are carried back to, each begins above all that was served
// before.
func TestNobodyIsCarriedBackSilently(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 6)) //nolint:gosec // no secret
		h := &history{t: t, r: r, now: time.Unix(1_700_000_000+r.Int64N(1e9), 0)}
		h.create("")
		if r.IntN(3) == 0 {
			// An earlier release has carried it back, and put no floor on record.
			n := 1 + r.Int64N(40)
			h.c.Status.Incarnation, h.serves = n, n*1_000_000_000_000
		}
		for range 30 {
			h.write()
			h.backUp()
			with := h.backups[r.IntN(len(h.backups))]
			switch r.IntN(5) {
			case 0:
				h.create(with)
			case 1:
				h.raise("")
			default:
				h.raise(with)
			}
		}
	}
}

// TestTheClockWentBack, or a backup is ahead of it: two incarnations that begin with the same
// backup still have each a range of their own.
func TestTheClockWentBack(t *testing.T) {
	far := snapshot.NewID(3_000_000_000_000_000, time.Unix(2e9, 0), "b")
	for name, with := range map[string]string{"it went back": snapshot.NewID(1000, time.Unix(2e9, 0), "b"), "the backup is ahead": far} {
		h := &history{t: t, r: rand.New(rand.NewPCG(1, 1)), now: time.Unix(1_900_000_000, 0)} //nolint:gosec // no secret
		h.create(with)
		for range 5 {
			h.tell("%s", name)
			h.serves += 1_000_000
			h.most = h.serves
			h.now = h.now.Add(-24 * time.Hour)
			h.raise(with)
		}
	}
}

// TestAFloorOfAnEarlierRelease: founders that are made after an upgrade of the operator begin
// with what those before were given.
func TestAFloorOfAnEarlierRelease(t *testing.T) {
	for n, want := range map[int64]int64{1: 1_000_001_000, 2: 2_000_000_000_000} {
		c := &v1alpha1.EtcdCluster{ObjectMeta: metav1.ObjectMeta{Name: "a", CreationTimestamp: metav1.NewTime(time.Unix(1_900_000_000, 0))}}
		c.Spec.RestoreFrom = &v1alpha1.RestoreSource{BackupName: "b"}
		c.Status.Incarnation, c.Status.Founders = n, []string{"a-0000", "a-0001"}
		if n > 1 {
			c.Status.Recovery = &v1alpha1.RecoveryStatus{Incarnation: n, BackupName: "b", Time: metav1.NewTime(time.Unix(1_900_000_000, 0))}
		}
		if got := 1000 + resources.RevisionBump(resources.RevisionFloor(c, resources.Claim(c, "a-0001").Annotations), 1000); got != want {
			t.Errorf("incarnation %d begins with %d, want %d", n, got, want)
		}
		recovered := plan.Observed{Incarnation: n, RecoveredFounders: c.Status.Founders}
		c.Status = v1alpha1.EtcdClusterStatus{Incarnation: n}
		if err := latchFounders(c, recovered, recovered.RecoveredFounders); err != nil || c.Status.RevisionFloor != 0 {
			t.Errorf("a lost status gets the floor %d, %v", c.Status.RevisionFloor, err)
		}
	}
}
