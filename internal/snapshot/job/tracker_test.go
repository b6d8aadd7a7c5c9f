package job

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/quorate/quorate/internal/snapshot"
)

// Why an attempt failed is told while the next one is waited for and made, until something has
// succeeded; of the store, until it answers.
func TestAttemptsTellWhyTheyFail(t *testing.T) {
	e, _ := newEnv(t)
	e.Attempts, e.Pause = 3, 20*time.Millisecond
	gone := snapshot.Fail(snapshot.ReasonStoreUnreachable, nil, "gone — lost — wait")
	var told []string
	tell := func() {
		p := e.Tracker.Progress()
		why := "well"
		if p.Trouble != nil {
			why = p.Trouble.Message
		}
		told = append(told, fmt.Sprintf("%s %d %s", p.Phase, p.Attempt, why))
	}
	err := e.try(t.Context(), func(_ context.Context, attempt int) error {
		tell()
		switch attempt {
		case 1:
			return gone // it has not come to its first phase
		case 2:
			e.Tracker.enter(snapshot.PhaseSaving, attempt, 0)
			tell()
			return e.try(t.Context(), func(context.Context, int) error {
				return snapshot.Fail(snapshot.ReasonBucketMissing, nil, "none — lost — make one")
			})
		}
		return nil
	})
	if snapshot.ReasonOf(err) != snapshot.ReasonBucketMissing {
		t.Fatal(err)
	}
	e.Tracker.Asked(errors.New("x"))
	e.Tracker.enter(snapshot.PhaseSaving, 3, 0)
	tell()
	moved := e.Tracker.movement()
	e.Tracker.Asked(nil)
	tell()
	e.Tracker.failed(3, gone, time.Second)
	if p := e.Tracker.Progress(); p.Pause != time.Second || e.Tracker.movement() != moved {
		t.Errorf("the pause is %s, moved %d times", p.Pause, e.Tracker.movement()-moved)
	}
	if err := e.try(t.Context(), func(context.Context, int) error { return nil }); err != nil {
		t.Fatal(err)
	}
	tell()
	want := []string{
		" 0 well", " 2 gone — lost — wait", "Saving 2 gone — lost — wait",
		"Saving 3 x", "Saving 3 well", "Saving 3 well",
	}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

// What cannot be put together is refused with what can be: the parts that are nearest.
func TestTheArchiveSaysWhatItHolds(t *testing.T) {
	at := func(hour int) time.Time { return time.Date(2026, 1, 1, hour, 0, 0, 0, time.UTC) }
	link := func(sequence, from, to int64) snapshot.Link {
		return snapshot.Link{Sequence: sequence, From: from, To: to, Ended: at(int(sequence)), Previous: fmt.Sprint(sequence - 1), Sum: fmt.Sprint(sequence)}
	}
	c := &chain{clusterID: "a1"}
	if got := c.holds(Target{Revision: 5}); got != "nothing yet" {
		t.Errorf("an empty archive holds %s", got)
	}
	// The first holds none, and between the others revisions are missing.
	c.links = []snapshot.Link{link(1, 10, 9), link(2, 12, 20), link(3, 21, 30), link(4, 40, 50), link(5, 60, 70), link(6, 80, 90)}
	for _, tc := range []struct {
		target Target
		want   string
	}{
		{Target{Revision: 35}, "revisions 12 to 30 (2026-01-01T02:00:00Z to 2026-01-01T03:00:00Z), revisions 40 to 50 (2026-01-01T04:00:00Z to 2026-01-01T04:00:00Z), revisions 60 to 70 (2026-01-01T05:00:00Z to 2026-01-01T05:00:00Z); these are 3 of 4 parts, between which revisions are missing"},
		{Target{Time: at(20)}, "revisions 40 to 50 (2026-01-01T04:00:00Z to 2026-01-01T04:00:00Z), revisions 60 to 70 (2026-01-01T05:00:00Z to 2026-01-01T05:00:00Z), revisions 80 to 90 (2026-01-01T06:00:00Z to 2026-01-01T06:00:00Z); these are 3 of 4 parts, between which revisions are missing"},
	} {
		if got := c.holds(tc.target); got != tc.want {
			t.Errorf("near %s it holds %s", tc.target, got)
		}
	}
	why := noneBefore("a1", []snapshot.Backup{{ID: "other", ClusterID: "b2", Revision: 1}, {ID: "late", ClusterID: "a1", Revision: 60}, {ID: "first", ClusterID: "a1", Revision: 40, Began: at(4)}})
	if want := "no backup is from before it, and the first one, first, is of revision 40, begun at 2026-01-01T04:00:00Z"; why.Error() != want {
		t.Errorf("%v, want %s", why, want)
	}
}

// Who asks for a backup that is not there is told which ones are.
func TestAMissingBackupNamesThoseThatAreThere(t *testing.T) {
	e, _ := newEnv(t)
	missing := snapshot.NewID(9, time.Unix(9, 0).UTC(), "b")
	empty := *e
	empty.Place.ClusterUID = "nobody"
	there := stored(t, e, 7, snapshot.CompressionNone).ID
	for want, from := range map[string]*Env{"; there is none below p/nobody/": &empty, "; the newest of 1: " + there: e} {
		if _, err := from.find(t.Context(), missing); snapshot.ReasonOf(err) != snapshot.ReasonBackupMissing || !strings.Contains(err.Error(), want) || strings.Count(err.Error(), " — ") != 2 {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
