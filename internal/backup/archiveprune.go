package backup

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/snapshot"
)

// pruneEvery is how often it is looked for what an archive does not keep: a look lists all
// of it.
const pruneEvery = 24 * time.Hour

// pruneStep is what there is to do for what the archive does not keep. A Job that was made
// before the last look was told is that look's.
func pruneStep(o ArchiveObserved) (Step, bool) {
	told := o.LastPrune.IsZero() || o.PruneBegan.After(o.LastPrune)
	step := Step{Kind: Redo, Operation: snapshot.OperationPrune, Reason: v1alpha1.ReasonPending}
	switch {
	case o.KeepFor <= 0, o.Prune.State == WorkForeign, o.Prune.State == WorkRunning:
		return Step{}, false
	case o.Prune.State == WorkSucceeded && told && !pruned(o.Prune):
		step.Message = "the Job that deletes what is not kept has ended and its result is lost; it is made again"
	case o.Prune.ended() && told:
		step.Kind, step.Message = RecordPrune, "recording what was deleted"
	case !PruneDue(o) || o.PruneHeld != "":
		return Step{}, false
	case o.Prune.State != WorkAbsent:
		step.Message = "making room for the next Job that deletes what is not kept"
	default:
		step.Kind, step.Message = Prune, "starting the Job that deletes what no point of the last "+o.KeepFor.String()+" needs"
	}
	return step, true
}

// PruneDue says that it is time to look for what the archive does not keep. Nothing is deleted
// from one in trouble, or without a base. What failed is tried again soon: what was in its way
// may have been mended, and nobody tells.
func PruneDue(o ArchiveObserved) bool {
	p := o.Archiver.Progress
	if o.KeepFor <= 0 || p == nil || p.Trouble != nil || p.BaseMissing || p.Revision == 0 {
		return false
	}
	pause := pruneEvery
	if o.PruneFailed {
		pause = min(pause, drillAgain)
	}
	if o.LastPrune.IsZero() {
		return !o.Now.Before(o.Created.Add(o.KeepFor))
	}
	return !o.Now.Before(o.LastPrune.Add(pause))
}

// pruned says that the result is one of a Job that deleted what is not kept, and says all that
// status needs.
func pruned(w Work) bool {
	r := w.Result
	return w.State == WorkSucceeded && r != nil && r.Operation == snapshot.OperationPrune && r.Outcome == snapshot.OutcomeSucceeded && r.Pruned != nil
}

// PruneFailed says that the last look for what is not kept failed, or left something.
func PruneFailed(s *v1alpha1.EtcdArchiveStatus) bool {
	c := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionHistoryBounded)
	return c != nil && c.Status == metav1.ConditionFalse && !waits(c.Reason)
}

// waits says that the reason is none of a look that took place.
func waits(reason string) bool {
	return reason == v1alpha1.ReasonPending || reason == v1alpha1.ReasonNameConflict || reason == v1alpha1.ReasonQueued || reason == v1alpha1.ReasonJobRejected
}

// boundedCondition stays as it is from one look to the next.
func boundedCondition(s *v1alpha1.EtcdArchiveStatus, o ArchiveOutcome) metav1.Condition {
	tell := func(is metav1.ConditionStatus, reason, message string) metav1.Condition {
		return condition(v1alpha1.ConditionHistoryBounded, is, story{reason, message})
	}
	before := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionHistoryBounded)
	w := o.Seen.Prune
	switch {
	case o.Err != nil && o.Step.Operation == snapshot.OperationPrune:
		return tell(metav1.ConditionFalse, v1alpha1.ReasonJobRejected, fmt.Sprintf("%s: %s — the archive grows without it — mend what the message names; it is tried again by itself", o.Step.Message, o.Err))
	case o.Step.Kind == RecordPrune && pruned(w) && w.Result.Pruned.Refused == 0 && len(w.Result.Warnings) == 0:
		return tell(metav1.ConditionTrue, string(snapshot.ReasonPruned), deleted(o.Seen.KeepFor, w.Result.Pruned))
	case o.Step.Kind == RecordPrune:
		reason, message := pruneFailure(o.Seen.KeepFor, w)
		return tell(metav1.ConditionFalse, reason, message)
	case w.State == WorkForeign:
		return tell(metav1.ConditionFalse, v1alpha1.ReasonNameConflict, fmt.Sprintf("Job %s belongs to somebody else — what spec.keepFor does not keep cannot be deleted — delete or rename it", w.Name))
	case o.Seen.PruneHeld != "":
		return tell(metav1.ConditionFalse, v1alpha1.ReasonQueued, fmt.Sprintf("EtcdCluster %s is being filled from the archive — what is deleted now could be what it needs — it is waited for", o.Seen.PruneHeld))
	case before != nil && !waits(before.Reason):
		return *before
	default:
		return tell(metav1.ConditionFalse, v1alpha1.ReasonPending, "nothing has been deleted yet that spec.keepFor does not keep")
	}
}

// deleted says what is gone.
func deleted(keepFor time.Duration, p *snapshot.Pruned) string {
	what := fmt.Sprintf("what no point of the last %s needs was deleted: %d bases, %d segments, %d unfinished backups and uploads", keepFor, p.DroppedCount, p.Segments, p.Orphans)
	if len(p.Dropped) == 0 {
		return what
	}
	var ids []string
	for _, d := range p.Dropped {
		ids = append(ids, d.ID)
	}
	return what + "; bases: " + strings.Join(ids, " ")
}

func pruneFailure(keepFor time.Duration, w Work) (reason, message string) {
	switch {
	case pruned(w):
		return v1alpha1.ReasonFailed, fmt.Sprintf("%s; and there was trouble%s — what is left costs, and may need you — see what the message names; it is tried again by itself", deleted(keepFor, w.Result.Pruned), because(first(w.Result.Warnings)))
	case w.Result != nil && w.Result.Outcome == snapshot.OutcomeFailed:
		return string(w.Result.Reason), w.Result.Message
	case w.TimedOut:
		return v1alpha1.ReasonTimedOut, fmt.Sprintf("Job %s, which deletes what is not kept, did not end in time%s — the archive grows — it is tried again by itself, and goes on where it was", w.Name, because(w.Trouble))
	default:
		return v1alpha1.ReasonFailed, fmt.Sprintf("Job %s, which deletes what is not kept, failed%s — the archive grows — see the logs of its pods; it is tried again by itself", w.Name, because(w.Trouble))
	}
}

// first of the warnings, and how many there are beside it.
func first(warnings []string) string {
	switch len(warnings) {
	case 0:
		return ""
	case 1:
		return warnings[0]
	default:
		return fmt.Sprintf("%s (and %d more)", warnings[0], len(warnings)-1)
	}
}
