package observe

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
)

// window says whether the user's maintenance window is open; with what is wrong with it.
func window(c *v1alpha1.EtcdCluster, now time.Time) (plan.Window, *plan.Problem) {
	w := c.Spec.Maintenance.Window
	switch {
	case c.Spec.Maintenance.Defragmentation == v1alpha1.DefragmentWhenFull:
		return plan.WindowClosed, nil
	case w == nil:
		return plan.WindowAnyTime, nil
	}
	zone, err := time.LoadLocation(w.TimeZone)
	start, wrong := time.Parse("15:04", w.Start)
	if err != nil || wrong != nil {
		return plan.WindowClosed, &plan.Problem{Reason: v1alpha1.ReasonTimeZoneUnknown, Severity: plan.Stalling, Message: fmt.Sprintf(
			"spec.maintenance.window.timeZone %q is not known — nobody can tell when the window opens, so no member is defragmented — use a name of the IANA database, Area/City as in Europe/Berlin or America/New_York, or Etc/UTC; an abbreviation such as CEST or PST means a zone only together with a place", w.TimeZone)}
	}
	now = now.In(zone)
	// A window of yesterday may still be open.
	for _, back := range []int{0, 1} {
		opens := time.Date(now.Year(), now.Month(), now.Day()-back, start.Hour(), start.Minute(), 0, 0, zone)
		on := len(w.Days) == 0 || slices.Contains(w.Days, v1alpha1.Weekday(opens.Weekday().String()))
		if on && !now.Before(opens) && now.Before(opens.Add(w.Duration.Duration)) {
			return plan.WindowOpen, nil
		}
	}
	return plan.WindowClosed, nil
}

// revisions are which revision the keys had when, for as long as the user wants history:
// etcd's own compactor begins anew with each leader, and this operator with each start.
type revisions []revisionAt

type revisionAt struct {
	at       time.Time
	revision int64
}

// samples are how many of them are kept for the time that history is kept.
const samples = 60

// note the revision.
func (r *revisions) note(now time.Time, revision int64, keep time.Duration) {
	list := *r
	if n := len(list); n > 0 && (now.Before(list[n-1].at) || revision < list[n-1].revision) {
		// The clock was set back, or the data was.
		list = nil
	}
	if n := len(list); n == 0 || now.Sub(list[n-1].at) >= keep/samples {
		list = append(list, revisionAt{now, revision})
	}
	// Of those that are old enough to compact to, the newest is enough.
	for len(list) > 1 && now.Sub(list[1].at) >= keep {
		list = list[1:]
	}
	*r = list
}

// before is the newest revision that was written that long ago; zero if none is known.
func (r revisions) before(now time.Time, keep time.Duration) int64 {
	if len(r) == 0 || now.Sub(r[0].at) < keep {
		return 0
	}
	return r[0].revision
}

// unwanted is the revision up to which the user wants no history: zero for none.
func (r *revisions) unwanted(c *v1alpha1.EtcdCluster, now time.Time, revision int64) int64 {
	keep := c.Spec.Etcd.AutoCompaction
	if keep.Mode == v1alpha1.CompactionRevision {
		*r = nil
		n, err := strconv.ParseInt(keep.Retention, 10, 64)
		if err != nil || n <= 0 {
			return 0
		}
		return max(0, revision-n)
	}
	d, err := time.ParseDuration(keep.Retention)
	if err != nil || d <= 0 || revision == 0 {
		*r = nil
		return 0
	}
	r.note(now, revision, d)
	return r.before(now, d)
}

// quota of a member whose etcd does not tell it: that of the spec which it was made from.
func quota(c *v1alpha1.EtcdCluster, m plan.Member, told int64) int64 {
	if told == 0 && !m.PodOutdated {
		return c.Spec.Etcd.QuotaBackendBytes.Value()
	}
	return told
}
