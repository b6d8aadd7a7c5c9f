package restore

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/resources"
)

// Outcome is one pass: what was seen, what was decided, and how that went.
type Outcome struct {
	Seen Observed
	Step Step
	// Err is what the API server said to the step; nil if it was done.
	Err error
	// Now is the time of the pass.
	Now time.Time
}

// Report writes the pass into the restore's status.
func Report(r *v1alpha1.EtcdRestore, o Outcome) {
	s := &r.Status
	if o.Step.Kind == Rest {
		return
	}
	s.ObservedGeneration = r.Generation
	if o.Err == nil {
		record(s, o)
	}
	failed := o.Step.Kind == Fail && o.Err == nil
	done := o.Step.Kind == Finish && o.Err == nil
	prepared := o.Seen.Prepared || (o.Step.Kind == Prepare && o.Err == nil)
	now, none := tell(o), story{v1alpha1.ReasonNone, ""}
	working, stuck, ready := now, none, now
	if failed {
		working, stuck = none, now
	}
	if done {
		working = none
	}
	is := map[bool]metav1.ConditionStatus{true: metav1.ConditionTrue, false: metav1.ConditionFalse}
	conditions := []metav1.Condition{
		condition(v1alpha1.ConditionReady, is[done], ready),
		condition(v1alpha1.ConditionReconciling, is[!done && !failed], working),
		condition(v1alpha1.ConditionStalled, is[failed], stuck),
	}
	switch {
	case !prepared:
		conditions = append(conditions, condition(v1alpha1.ConditionPrepared, metav1.ConditionFalse, now))
	case !o.Seen.Prepared:
		// What is said of it stays as it was when members could be stopped.
		conditions = append(conditions, condition(v1alpha1.ConditionPrepared, metav1.ConditionTrue, now))
	}
	for _, c := range conditions {
		c.ObservedGeneration = r.Generation
		meta.SetStatusCondition(&s.Conditions, c)
	}
}

// record what the step is about.
func record(s *v1alpha1.EtcdRestoreStatus, o Outcome) {
	now := metav1.NewTime(o.Now.Truncate(time.Second))
	c := o.Seen.Cluster
	switch o.Step.Kind {
	case Begin:
		s.ClusterUID, s.Incarnation, s.StartTime, s.Revision, s.BackupID = c.UID, c.Incarnation, &now, o.Seen.Revision, o.Seen.BackupID
	case Prepare:
		if f := o.Seen.Safety; !o.Seen.Skip {
			began, ready := metav1.NewTime(f.Began.Truncate(time.Second)), metav1.NewTime(f.Ready.Truncate(time.Second))
			s.SafetyBackup = &v1alpha1.SafetyBackupStatus{Name: f.Name, Revision: f.Revision, Time: &began, ReadyTime: &ready}
		}
	case Finish:
		s.CompletionTime = &now
	default:
	}
	if c.Raised && o.Seen.Prepared && o.Step.Kind != Fail && s.RaisedTime == nil {
		at := now
		if !c.RaisedAt.IsZero() {
			at = metav1.NewTime(c.RaisedAt)
		}
		s.RaisedTime, s.OldVolumes = &at, c.Old
	}
	if c.Raised && s.RaisedTime != nil && o.Step.Kind != Fail {
		// Again once the cluster has recovered a status that was lost.
		s.RevisionBump = resources.RevisionBump(c.Floor, s.Revision)
	}
}

// story is the reason and the sentence of a condition.
type story struct{ reason, message string }

// tell what goes on, or what stands in its way.
func tell(o Outcome) story {
	if o.Err != nil {
		return story{v1alpha1.ReasonApplyFailed, fmt.Sprintf("%s: %s — nothing is stopped without it — mend what the message names; it is tried again by itself", o.Step.Message, o.Err)}
	}
	return story{o.Step.Reason, o.Step.Message}
}

func condition(kind string, is metav1.ConditionStatus, s story) metav1.Condition {
	return metav1.Condition{Type: kind, Status: is, Reason: s.reason, Message: s.message}
}
