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

// DrillDue says that the backup is to be tried out again, and since when.
func DrillDue(b *v1alpha1.EtcdBackup, now time.Time) (due bool, since time.Duration) {
	after, _ := DrillAfter(b)
	if !redrillDue(lastDrill(b), after, now) {
		return false, 0
	}
	return true, now.Sub(after)
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
	if !ordered || !tried || !lastDrill(b).Before(after) {
		return 0
	}
	return max(soonest, after.Sub(now))
}

// lastDrill is when the last drill ended; zero if none has. A status of before has only
// the time of one that went well.
func lastDrill(b *v1alpha1.EtcdBackup) time.Time {
	switch {
	case b.Status.DrilledTime != nil:
		return b.Status.DrilledTime.Time
	case b.Status.VerifiedTime != nil:
		return b.Status.VerifiedTime.Time
	default:
		return time.Time{}
	}
}
