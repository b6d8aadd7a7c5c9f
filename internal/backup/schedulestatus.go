package backup

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
)

// ReportSchedule writes a pass into the schedule's status. made is the slot that a
// backup was made for in this pass; zero for none.
func ReportSchedule(s *v1alpha1.EtcdBackupSchedule, p Plan, t Turn, made time.Time, failure error) {
	is := &s.Status
	is.ObservedGeneration = s.Generation
	switch {
	case !made.IsZero():
		is.LastScheduleTime = timeOf(made)
	case p.Last.After(p.Now):
		// A clock was wrong when it was written.
		is.LastScheduleTime = timeOf(p.Now)
	}
	is.NextScheduleTime = timeOf(t.Next)
	is.Backups = int32(min(len(p.Items), 1<<30)) //nolint:gosec // just bounded
	is.Active = ""
	if active := p.active(); active != nil {
		is.Active = active.Name
	}
	if !made.IsZero() {
		is.Active = SlotName(s.Name, made)
	}
	good, verified := p.Newest()
	// What was the newest may have rotted, or be gone: whoever restores would not find it.
	is.LastSuccessTime, is.LastVerified, is.LastVerifiedTime = nil, "", nil
	if good != nil {
		is.LastSuccessTime = timeOf(good.Backup.Began)
	}
	if verified != nil {
		is.LastVerified, is.LastVerifiedTime = verified.Name, timeOf(verified.Backup.Began)
	}
	ready := scheduleReady(p, good, verified, failure)
	stalled := ready.Reason == v1alpha1.ReasonInvalidSchedule
	truth := map[bool]metav1.ConditionStatus{true: metav1.ConditionTrue, false: metav1.ConditionFalse}
	told := map[bool]story{true: {ready.Reason, ready.Message}, false: {reason: v1alpha1.ReasonNone}}
	for _, c := range []metav1.Condition{
		ready,
		condition(v1alpha1.ConditionReconciling, metav1.ConditionFalse, story{reason: v1alpha1.ReasonNone}),
		condition(v1alpha1.ConditionStalled, truth[stalled], told[stalled]),
	} {
		c.ObservedGeneration = s.Generation
		meta.SetStatusCondition(&is.Conditions, c)
	}
}

func timeOf(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	at := metav1.NewTime(t.Truncate(time.Second))
	return &at
}

// scheduleReady is the summary: whether a restore would find what the schedule
// promises. Times in it are those of backups, so that it does not change at rest.
func scheduleReady(p Plan, good, verified *Item, failure error) metav1.Condition {
	no := func(reason, message string) metav1.Condition {
		return condition(v1alpha1.ConditionReady, metav1.ConditionFalse, story{reason, message})
	}
	yes := func(reason, message string) metav1.Condition {
		return condition(v1alpha1.ConditionReady, metav1.ConditionTrue, story{reason, message})
	}
	failed := p.lastFailure()
	switch {
	case p.Invalid != "":
		return no(v1alpha1.ReasonInvalidSchedule, p.Invalid)
	case failure != nil:
		return no(v1alpha1.ReasonApplyFailed, fmt.Sprintf("%s — no backup is made until then — mend what the message names; it is tried again by itself", failure))
	case p.Suspend:
		return yes(v1alpha1.ReasonSuspended, "spec.suspend is true: no backups are made, and none is deleted")
	case p.Overdue():
		return no(v1alpha1.ReasonOverdue, p.overdue(good, failed))
	case failed != nil:
		return no(v1alpha1.ReasonFailed, fmt.Sprintf("backup %s failed: %s; the next slot has one made again", failed.Name, failed.why()))
	case good == nil:
		return yes(v1alpha1.ReasonPending, "the first backup is not due yet, or under way")
	case p.Verifies && verified == nil:
		return no(v1alpha1.ReasonNotVerified, "no backup is verified — none of them is known to be good for a restore — see why: kubectl get etcdbackups")
	default:
		return yes(v1alpha1.ReasonOnSchedule, fmt.Sprintf("the newest backup is %s, of %s", good.Name, good.Backup.Began.UTC().Format(time.RFC3339)))
	}
}

// lastFailure is the newest backup that failed, if no good one is newer.
func (p Plan) lastFailure() *Item {
	var last *Item
	since := p.lastGood()
	for i := range p.Items {
		item := &p.Items[i]
		if item.State == ItemFailed && !p.ahead(item.Slot) && (last == nil || item.Slot.After(last.Slot)) && item.Slot.After(since) {
			last = item
		}
	}
	return last
}

// lastGood is the last slot of a good backup of the present cluster; zero if there is none. One
// in the future was made while a clock was wrong, and hides nothing until then.
func (p Plan) lastGood() (last time.Time) {
	present := p.present()
	for _, item := range p.Items {
		if item.State == ItemGood && item.Backup.ClusterUID == present && !p.ahead(item.Slot) && item.Slot.After(last) {
			last = item.Slot
		}
	}
	return last
}

// ahead says that the slot lies in the future. Where no clock is read nothing does.
func (p Plan) ahead(slot time.Time) bool { return !p.Now.IsZero() && slot.After(p.Now) }

// Overdue says that two slots have passed since the newest good backup, or since the
// schedule was made: one may be under way.
func (p Plan) Overdue() bool {
	at := p.overdueAt()
	return !at.IsZero() && !p.Now.Before(at)
}

func (p Plan) overdueAt() time.Time {
	if p.Timetable == nil || p.Suspend {
		return time.Time{}
	}
	since := p.Created
	if last := p.lastGood(); last.After(since) {
		since = last
	}
	first := p.Timetable.Next(since)
	if first.IsZero() {
		return first
	}
	return p.Timetable.Next(first)
}

// Wake is when the schedule must be looked at again although nothing has happened: when
// a slot comes, a backup gets overdue or is to be tried out again; zero for never.
func (p Plan) Wake(t Turn) time.Time {
	wake := t.Next
	if at := p.overdueAt(); at.After(p.Now) && (wake.IsZero() || at.Before(wake)) {
		wake = at
	}
	if item := p.nextDrill(); item != nil && !p.Suspend {
		if at := p.drillAt(item); at.After(p.Now) && (wake.IsZero() || at.Before(wake)) {
			wake = at
		}
	}
	return wake
}

func (p Plan) overdue(good, failed *Item) string {
	what := "there is no good backup at all"
	if good != nil {
		what = fmt.Sprintf("the newest good backup is %s, of %s, and two have been due since", good.Name, good.Backup.Began.UTC().Format(time.RFC3339))
	}
	why := ""
	if active := p.active(); active != nil {
		why = fmt.Sprintf("; backup %s is under way: %s", active.Name, active.Message)
	}
	if failed != nil {
		why = fmt.Sprintf("; backup %s failed: %s", failed.Name, failed.why())
	}
	return fmt.Sprintf("%s%s — what is written since could not be restored — see why: kubectl describe etcdbackup", what, why)
}
