package status

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
)

// Event is something that happened, for the user.
type Event struct {
	// Type is Normal or Warning.
	Type string
	// Reason is one word, Action what was done.
	Reason, Action string
	// Message is a sentence.
	Message string
}

// Written says whether a pass has written status.
type Written int

// Status was written, or did not change; or it could not be written.
const (
	StatusWritten Written = iota
	StatusLost
)

// Events of a pass: one for each thing that was done and for each condition
// that changed; none at rest. What was done to the world is told even when status
// could not be written, since the next pass does not see that it was.
func Events(before, after v1alpha1.EtcdClusterStatus, o Outcome, written Written) []Event {
	var out []Event
	if o.Err == nil && (written == StatusWritten || !latches(o.Step.Kind)) {
		out = append(out, done(o.Step)...)
		out = append(out, drift(o)...)
	}
	if written == StatusWritten {
		for _, kind := range []string{
			v1alpha1.ConditionAvailable, v1alpha1.ConditionStalled, v1alpha1.ConditionReady, v1alpha1.ConditionTLSReady,
			v1alpha1.ConditionStorageReady, v1alpha1.ConditionKnownDefect, v1alpha1.ConditionOldVolumes,
			v1alpha1.ConditionDataConsistent, v1alpha1.ConditionDefragmentationFailed, v1alpha1.ConditionBackupReady,
		} {
			out = append(out, transition(kind, before.Conditions, after.Conditions)...)
		}
	}
	for i := range out {
		out[i].Message = Note(out[i].Message)
	}
	return out
}

// latches says that what the step does is a word in status.
func latches(k plan.Kind) bool {
	return k == plan.LatchFounders || k == plan.Adopt || k == plan.LatchPoint || k == plan.LatchRestore || k == plan.RaiseIncarnation || k == plan.LatchCluster || k == plan.DropJoiner || k == plan.LatchDowngrade
}

// Note cuts a message to what an event may carry, 1024 bytes: the API server
// drops a longer one.
func Note(message string) string { return cut(message, 1000) }

// done says what a step did, in its own words.
func done(step plan.Step) []Event {
	switch step.Kind {
	case plan.LatchFounders, plan.Adopt, plan.RebuildPoint, plan.CheckBackup, plan.LatchPoint, plan.StartMembers, plan.DeletePods, plan.ReplaceVolumes, plan.LatchCluster, plan.IssueCertificates,
		plan.AddLearner, plan.Promote, plan.MoveLeader, plan.RemoveMember, plan.DropJoiner, plan.StopMembers, plan.RestartMember,
		plan.EnableDowngrade, plan.CancelDowngrade, plan.UpdateMember, plan.ResizePod, plan.ExpandVolumes,
		plan.DeleteVolumes, plan.QuarantineVolumes, plan.DeleteExpired,
		plan.Compact, plan.Defragment, plan.Disarm:
		return []Event{{corev1.EventTypeNormal, string(step.Kind), string(step.Kind), step.Message}}
	case plan.RestoreLabels:
		return []Event{{corev1.EventTypeWarning, v1alpha1.ReasonChildDrift, string(step.Kind), step.Message}}
	case plan.LatchRestore, plan.StopIncarnation, plan.RaiseIncarnation:
		return []Event{{corev1.EventTypeWarning, string(step.Kind), string(step.Kind), step.Message}}
	case plan.Condemn:
		return []Event{{corev1.EventTypeWarning, v1alpha1.ReasonDataDiffers, string(step.Kind), step.Message}}
	case plan.RecordRefusals:
		return []Event{{corev1.EventTypeWarning, v1alpha1.ReasonDataMissing, string(step.Kind), step.Message}}
	default:
		return nil
	}
}

// drift tells whoever edits what the operator owns that it was put back.
func drift(o Outcome) []Event {
	if o.Step.Kind != plan.ApplyObjects || len(o.Seen.Drifted) == 0 {
		return nil
	}
	return []Event{{corev1.EventTypeWarning, v1alpha1.ReasonChildDrift, string(o.Step.Kind), fmt.Sprintf(
		"%s was changed or deleted by somebody else — the cluster's safety and its clients rest on it — it was put back; change the EtcdCluster instead",
		strings.Join(o.Seen.Drifted, ", "))}}
}

func transition(kind string, before, after []metav1.Condition) []Event {
	was, is := meta.FindStatusCondition(before, kind), meta.FindStatusCondition(after, kind)
	if is != nil && kind == v1alpha1.ConditionReady && is.Reason == v1alpha1.ReasonLearnerNotSynced {
		return notSynced(was, is)
	}
	if is == nil || (was != nil && was.Status == is.Status && (was.Reason == is.Reason || kind == v1alpha1.ConditionReady)) {
		return nil
	}
	e := Event{Type: corev1.EventTypeNormal, Reason: is.Reason, Action: kind, Message: fmt.Sprintf("%s is %s: %s", kind, is.Status, is.Message)}
	if kind == v1alpha1.ConditionBackupReady {
		return backedUp(was, is, e)
	}
	switch kind {
	case v1alpha1.ConditionStalled, v1alpha1.ConditionKnownDefect, v1alpha1.ConditionOldVolumes, v1alpha1.ConditionDefragmentationFailed:
		if is.Status != metav1.ConditionTrue {
			return nil
		}
		e.Type = corev1.EventTypeWarning
	case v1alpha1.ConditionAvailable, v1alpha1.ConditionTLSReady, v1alpha1.ConditionStorageReady, v1alpha1.ConditionDataConsistent:
		if was == nil && kind != v1alpha1.ConditionAvailable && is.Status == metav1.ConditionTrue {
			return nil
		}
		if is.Status != metav1.ConditionTrue {
			if was == nil {
				return nil
			}
			e.Type = corev1.EventTypeWarning
		}
	case v1alpha1.ConditionReady:
		if is.Status != metav1.ConditionTrue {
			return nil
		}
	}
	return []Event{e}
}

// backedUp warns when backups begin to fail, or are overdue, and tells when they are in
// order; that there is none yet is no event.
func backedUp(was, is *metav1.Condition, e Event) []Event {
	late := is.Reason == v1alpha1.ReasonOverdue || is.Reason == v1alpha1.ReasonFailing
	if was == nil || (is.Status != metav1.ConditionTrue && !late) {
		return nil
	}
	if late {
		e.Type = corev1.EventTypeWarning
	}
	return []Event{e}
}

// notSynced tells once of a learner that does not catch up: no event comes of a
// condition otherwise while the cluster is worked on.
func notSynced(was, is *metav1.Condition) []Event {
	if was != nil && was.Reason == is.Reason {
		return nil
	}
	return []Event{{corev1.EventTypeWarning, is.Reason, is.Type, is.Message}}
}
