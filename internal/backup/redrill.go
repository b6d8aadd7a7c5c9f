package backup

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/quorate/quorate/api/v1alpha1"
)

// DrillAfter is the time before which no drill of the backup counts; false if none was
// asked for, or none that can be read.
func DrillAfter(b *v1alpha1.EtcdBackup) (time.Time, bool) {
	at, err := time.Parse(time.RFC3339, b.Spec.DrillAfter)
	return at, err == nil
}

// DrillDue says that the backup is to be tried out again, and since when: by spec.drillAfter, or
// because somebody else has found it to be bad at a time, zero for never. Who reads a backup to
// restore it says nothing to those who rely on it, and the retention keeps it for the last good one.
func DrillDue(b *v1alpha1.EtcdBackup, doubted, now time.Time) (due bool, since time.Duration) {
	after, _ := DrillAfter(b)
	var latest time.Time
	for _, order := range []time.Time{after, doubted} {
		if redrillDue(LastDrill(b), order, now) && order.After(latest) {
			latest = order
		}
	}
	if latest.IsZero() {
		return false, 0
	}
	return true, now.Sub(latest)
}

// redrillDue says that what was last tried out at a time is to be tried out again. What ended
// before after does not count; that is zero if nothing was ordered.
func redrillDue(last, after, now time.Time) bool {
	return last.Before(after) && !after.After(now)
}

// soonest is when a backup is looked at again that has just got due.
const soonest = time.Second

// UntilDrill is how long until the backup is to be tried out again, a second at least; zero if
// nothing is known of that. Whoever has just decided that it is not due yet did so by an earlier
// time, and would not look again if it got due in between.
func UntilDrill(b *v1alpha1.EtcdBackup, now time.Time) time.Duration {
	after, ordered := DrillAfter(b)
	tried := meta.IsStatusConditionTrue(b.Status.Conditions, v1alpha1.ConditionComplete) && b.Spec.Verify != v1alpha1.VerifyReadBack
	if !ordered || !tried || !LastDrill(b).Before(after) {
		return 0
	}
	return max(soonest, after.Sub(now))
}

// LastDrill is when the last drill ended; zero if none has. A status of before has only
// the time of one that went well.
func LastDrill(b *v1alpha1.EtcdBackup) time.Time {
	switch {
	case b.Status.DrilledTime != nil:
		return b.Status.DrilledTime.Time
	case b.Status.VerifiedTime != nil:
		return b.Status.VerifiedTime.Time
	default:
		return time.Time{}
	}
}
