package backup

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/snapshot"
)

const (
	// toldEvery is how often status follows an archive that moves, and toldIdle one of a
	// cluster that is not written to: whoever looks at the API server must not see a write
	// for every write of etcd's. toldLeast bounds what a short spec.maxLag makes of both.
	toldEvery = time.Minute
	toldIdle  = 10 * time.Minute
	toldLeast = 10 * time.Second
	// startsWithin is how long a process may take until it tells how far it is, and has asked the
	// cluster whether anything was written.
	startsWithin = 15 * time.Second
	// behindBy is how much longer than spec.sealEvery something may lie in the cluster alone before
	// it is no more said to be archived: large segments, and clocks that differ, take their time.
	behindBy = time.Minute
	// keptGaps is how many of the last gaps status names.
	keptGaps = 10
)

// ArchiveOutcome is one pass: what was seen, what was decided, and how that went.
type ArchiveOutcome struct {
	Seen ArchiveObserved
	Step Step
	// Err is what the API server said to the step; nil if it was done.
	Err error
}

// ReportArchive writes the pass into the archive's status. It says whether revisions are
// missing that it had not told of before.
func ReportArchive(a *v1alpha1.EtcdArchive, o ArchiveOutcome) (newGap *v1alpha1.ArchiveGap) {
	s := &a.Status
	s.ObservedGeneration = a.Generation
	if o.Step.Kind == Begin && o.Err == nil {
		s.ClusterUID = o.Seen.Cluster.UID
	}
	if moved(o.Seen) {
		s.DrilledRevision, s.DrilledAt = 0, nil
	}
	if o.Step.Kind == RecordDrill && o.Err == nil {
		recordArchiveDrill(s, o.Seen)
	}
	if o.Step.Kind == RecordPrune && o.Err == nil {
		s.LastPruneTime = timeOf(o.Seen.Now)
	}
	if o.Seen.KeepFor <= 0 {
		meta.RemoveStatusCondition(&s.Conditions, v1alpha1.ConditionHistoryBounded)
	}
	if p := o.Seen.Archiver.Progress; p != nil {
		newGap = takeOver(s, p, o.Seen.MaxLag)
	}
	for _, c := range archiveConditions(s, o) {
		c.ObservedGeneration = a.Generation
		meta.SetStatusCondition(&s.Conditions, c)
	}
	return newGap
}

// takeOver what the archiver tells, rounded.
func takeOver(s *v1alpha1.EtcdArchiveStatus, p *snapshot.ArchiveProgress, maxLag time.Duration) (newGap *v1alpha1.ArchiveGap) {
	if p.Base != "" || p.BaseMissing {
		s.Base = p.Base
	}
	for _, g := range []*snapshot.Gap{p.Gap, p.Lost} {
		if gap, is := unknown(s.Gaps, g); is {
			s.Gaps = append(s.Gaps, gap)
			s.Gaps = s.Gaps[max(0, len(s.Gaps)-keptGaps):]
			newGap = &gap
		}
	}
	if p.Until.IsZero() {
		return newGap
	}
	pause := toldEvery
	if p.Revision == s.ArchivedRevision {
		pause = toldIdle
	}
	pause = inTime(pause, maxLag)
	// What stands still is told to the end.
	stands := p.Trouble != nil && p.Revision != s.ArchivedRevision
	if s.ArchivedUntil == nil || stands || !p.Until.Before(s.ArchivedUntil.Add(pause)) {
		s.ArchivedRevision, s.ArchivedUntil = p.Revision, timeOf(p.Until)
	}
	return newGap
}

// unknown is the gap as status names it, if it does not yet. Of what etcd compacted only what
// came later is new: an archiver goes on to tell the last one, which may not be named any more.
func unknown(gaps []v1alpha1.ArchiveGap, g *snapshot.Gap) (gap v1alpha1.ArchiveGap, is bool) {
	if g == nil {
		return gap, false
	}
	gap = v1alpha1.ArchiveGap{From: g.From, To: g.To, Reason: v1alpha1.ReasonCompacted}
	if g.Reason == snapshot.GapLost {
		gap.Reason = v1alpha1.ReasonLost
	}
	for _, known := range gaps {
		lost := known.Reason == v1alpha1.ReasonLost
		if known == gap || !lost && gap.Reason != v1alpha1.ReasonLost && known.From >= gap.From {
			return gap, false
		}
	}
	// What was lost before everything that is named has been named, and forgotten.
	return gap, len(gaps) < keptGaps || gap.From > gaps[0].From
}

// inTime shortens how old status may grow before it is written again. While the archiver moves
// to another node nobody but status tells how far it was: if that were older than maxLag, a
// cluster that nobody writes to would be told to be behind as soon as its archiver moves.
func inTime(pause, maxLag time.Duration) time.Duration {
	if maxLag > 0 {
		pause = min(pause, max(toldLeast, maxLag/2))
	}
	return pause
}

func recordArchiveDrill(s *v1alpha1.EtcdArchiveStatus, o ArchiveObserved) {
	s.LastDrillTime, s.DrilledOf = timeOf(o.Now), o.DrillJobOf
	if drilled(o.Drill) {
		s.DrilledRevision, s.DrilledAt = o.Drill.Result.Point.Revision, timeOf(o.Now)
	}
}

// archiveConditions tell the same story, each in its own terms.
func archiveConditions(s *v1alpha1.EtcdArchiveStatus, o ArchiveOutcome) []metav1.Condition {
	is := map[bool]metav1.ConditionStatus{true: metav1.ConditionTrue, false: metav1.ConditionFalse}
	archiving := archivingCondition(s, o)
	base := baseCondition(s, o)
	lag := lagCondition(s, o.Seen)
	verified := verifiedCondition(s, o)
	ready := archiveReady(o, archiving, base, lag, verified)
	stalled := o.Step.Kind == Fail || o.Step.Reason == v1alpha1.ReasonClusterReplaced || ready.Status == metav1.ConditionFalse && snapshot.Reason(ready.Reason).Permanent()
	reconciling := ready.Status != metav1.ConditionTrue && !stalled
	where := map[bool]story{true: {ready.Reason, ready.Message}, false: {reason: v1alpha1.ReasonNone}}
	out := []metav1.Condition{
		ready, archiving, base, lag, verified,
		condition(v1alpha1.ConditionReconciling, is[reconciling], where[reconciling]),
		condition(v1alpha1.ConditionStalled, is[stalled], where[stalled]),
	}
	if o.Seen.KeepFor > 0 {
		out = append(out, boundedCondition(s, o))
	}
	if n := len(s.Gaps); n > 0 {
		out = append(out, condition(v1alpha1.ConditionGapInHistory, metav1.ConditionTrue, gapStory(s.Gaps[n-1])))
	}
	return out
}

func gapStory(g v1alpha1.ArchiveGap) story {
	if g.Reason == v1alpha1.ReasonLost {
		return story{v1alpha1.ReasonLost, fmt.Sprintf("revisions %d to %d were archived and are gone from the store — none of them can be restored, only what was before and after — find out who deletes objects there, and keep them from it; another base is taken by itself", g.From, g.To)}
	}
	return story{v1alpha1.ReasonCompacted, fmt.Sprintf("revisions %d to %d were compacted by etcd before they were archived — none of them can be restored, only what was before and after — compact less often, or find out why the archiver did not run", g.From, g.To)}
}

// archivingCondition: what the archiver says, or else why there is none.
func archivingCondition(s *v1alpha1.EtcdArchiveStatus, o ArchiveOutcome) metav1.Condition {
	no := func(reason, message string) metav1.Condition {
		return condition(v1alpha1.ConditionArchiving, metav1.ConditionFalse, story{reason, message})
	}
	a, p := o.Seen.Archiver, o.Seen.Archiver.Progress
	switch {
	case o.Err != nil && o.Step.Operation != snapshot.OperationPrune:
		return no(v1alpha1.ReasonJobRejected, fmt.Sprintf("%s: %s — nothing is archived without it — mend what the message names; it is tried again by itself", o.Step.Message, o.Err))
	case o.Step.Kind == Fail || o.Step.Kind == StopArchiver || o.Step.Kind == Wait && o.Step.Reason != v1alpha1.ReasonArchiving:
		return no(o.Step.Reason, o.Step.Message)
	case p != nil && p.Trouble != nil:
		return no(string(p.Trouble.Reason), p.Trouble.Message)
	case p != nil && !p.Until.IsZero() && !behind(o.Seen):
		return condition(v1alpha1.ConditionArchiving, metav1.ConditionTrue, story{v1alpha1.ReasonArchiving, "whatever is written to the cluster is archived"})
	case p != nil && !p.Until.IsZero() && !starting(o.Seen):
		return no(v1alpha1.ReasonBehind, fmt.Sprintf("the pod that archives runs, and %s — it would be lost with the cluster — wait while status.archivedUntil moves, or else see in its logs whether the store and etcd answer", unarchived(s)))
	case a.Result != nil && a.Result.Outcome == snapshot.OutcomeFailed:
		return no(string(a.Result.Reason), a.Result.Message)
	case a.Trouble != "":
		return no(v1alpha1.ReasonPending, "no pod archives: "+a.Trouble)
	case a.Running && p == nil && !starting(o.Seen):
		return condition(v1alpha1.ConditionArchiving, metav1.ConditionUnknown, story{v1alpha1.ReasonArchiverSilent, "the pod that archives runs and does not say how far it is — nobody would be told if it were behind — let the operator reach its port 8080"})
	default:
		return no(v1alpha1.ReasonPending, "the pod that archives is starting")
	}
}

// baseCondition stays as it is while the archiver does not say.
func baseCondition(s *v1alpha1.EtcdArchiveStatus, o ArchiveOutcome) metav1.Condition {
	p := o.Seen.Archiver.Progress
	before := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionBaseReady)
	switch {
	case (p == nil || p.Until.IsZero()) && before != nil:
		return *before
	case p != nil && !p.BaseMissing && p.Base != "":
		return condition(v1alpha1.ConditionBaseReady, metav1.ConditionTrue, story{v1alpha1.ReasonBaseFound, "the end of the archive can be restored from backup " + p.Base})
	case p != nil && p.BaseTrouble != nil:
		return condition(v1alpha1.ConditionBaseReady, metav1.ConditionFalse, story{string(p.BaseTrouble.Reason), p.BaseTrouble.Message})
	default:
		return condition(v1alpha1.ConditionBaseReady, metav1.ConditionFalse, story{v1alpha1.ReasonBaseMissing, "there is no backup yet that the end of the archive can be restored from — a segment alone restores nothing — one is being taken"})
	}
}

// lagCondition names what status says, which does not change with every look.
func lagCondition(s *v1alpha1.EtcdArchiveStatus, o ArchiveObserved) metav1.Condition {
	if o.Suspend || o.MaxLag <= 0 || o.Lag() <= o.MaxLag {
		return condition(v1alpha1.ConditionLagExceeded, metav1.ConditionFalse, story{reason: v1alpha1.ReasonWithinLimit})
	}
	return condition(v1alpha1.ConditionLagExceeded, metav1.ConditionTrue, story{v1alpha1.ReasonLagExceeded, fmt.Sprintf(
		"%s, which is more than spec.maxLag, %s — it would be lost with the cluster — see why in the condition Archiving", unarchived(s), o.MaxLag)})
}

// unarchived is what may not be archived, by what status says, which does not change with every
// look.
func unarchived(s *v1alpha1.EtcdArchiveStatus) string {
	if s.ArchivedUntil == nil {
		return "nothing is archived yet"
	}
	return "what was acknowledged after " + s.ArchivedUntil.UTC().Format(time.RFC3339) + " may not be archived"
}

// starting says that the process is too young to have told how far it is.
func starting(o ArchiveObserved) bool { return o.Now.Sub(o.Archiver.Since) < startsWithin }

// behind says that what the archiver tells to be stored ends too long ago, though nothing has
// failed: a store that takes a connection and never answers fails only after minutes.
func behind(o ArchiveObserved) bool {
	return o.Now.Sub(o.Archiver.Progress.Until) > o.SealEvery+behindBy
}

// verifiedCondition stays as it is from one drill to the next, as long as the same is
// archived. One that found the archive bad is not taken back by one that found nothing.
func verifiedCondition(s *v1alpha1.EtcdArchiveStatus, o ArchiveOutcome) metav1.Condition {
	tell := func(is metav1.ConditionStatus, reason, message string) metav1.Condition {
		return condition(v1alpha1.ConditionVerified, is, story{reason, message})
	}
	before := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionVerified)
	w := o.Seen.Drill
	switch {
	case o.Seen.DrillEvery <= 0:
		return tell(metav1.ConditionFalse, v1alpha1.ReasonNotTried, "spec.drillEvery is 0s: the archive is not restored on trial")
	case o.Step.Kind == RecordDrill && o.Err == nil && drilled(w):
		return tell(metav1.ConditionTrue, v1alpha1.ReasonVerified, w.Result.Message)
	case o.Step.Kind == RecordDrill && o.Err == nil:
		reason, message := drillFailure(w)
		if condemned(before) && !moved(o.Seen) && (silent[reason] || reason == v1alpha1.ReasonTimedOut && before.Reason != v1alpha1.ReasonFailed) {
			return *before
		}
		return tell(metav1.ConditionFalse, reason, message)
	case w.State == WorkForeign && (moved(o.Seen) || !condemned(before)):
		return tell(metav1.ConditionFalse, v1alpha1.ReasonNameConflict, fmt.Sprintf("Job %s belongs to somebody else — the archive cannot be tried out — delete or rename it", w.Name))
	case moved(o.Seen):
		return tell(metav1.ConditionFalse, v1alpha1.ReasonPending, "spec.store, spec.encryption or the cluster's ID is another one than that of the last drill — nobody has seen that what is archived now can be restored — wait: a drill is due")
	case before != nil && before.Reason != v1alpha1.ReasonNotTried && before.Reason != v1alpha1.ReasonNameConflict:
		return *before
	default:
		return tell(metav1.ConditionFalse, v1alpha1.ReasonPending, "the archive has not been restored on trial yet")
	}
}

func drillFailure(w Work) (reason, message string) {
	switch {
	case w.Result != nil && w.Result.Outcome == snapshot.OutcomeFailed:
		return string(w.Result.Reason), w.Result.Message
	case w.TimedOut:
		return v1alpha1.ReasonTimedOut, fmt.Sprintf("Job %s, the drill, did not end in time%s — nobody has seen that the archive can be restored — take backups more often, which keeps a replay short; it is tried again by itself", w.Name, because(w.Trouble))
	default:
		return v1alpha1.ReasonFailed, fmt.Sprintf("Job %s, the drill, failed%s — nobody has seen that the archive can be restored — see the logs of its pods; it is tried again by itself", w.Name, because(w.Trouble))
	}
}

// archiveReady is the summary: whether what is written now could be restored.
func archiveReady(o ArchiveOutcome, archiving, base, lag, verified metav1.Condition) metav1.Condition {
	as := func(is metav1.ConditionStatus, c metav1.Condition) metav1.Condition {
		return metav1.Condition{Type: v1alpha1.ConditionReady, Status: is, Reason: c.Reason, Message: c.Message}
	}
	switch {
	case o.Step.Reason == v1alpha1.ReasonSuspended:
		return as(metav1.ConditionTrue, metav1.Condition{Reason: v1alpha1.ReasonSuspended, Message: o.Step.Message})
	case archiving.Status != metav1.ConditionTrue && lag.Status == metav1.ConditionTrue && (archiving.Reason == v1alpha1.ReasonPending || archiving.Reason == v1alpha1.ReasonBehind):
		return as(metav1.ConditionFalse, lag)
	case archiving.Status != metav1.ConditionTrue:
		return as(metav1.ConditionFalse, archiving)
	case lag.Status == metav1.ConditionTrue:
		return as(metav1.ConditionFalse, lag)
	case base.Status != metav1.ConditionTrue:
		return as(metav1.ConditionFalse, base)
	case condemned(&verified):
		return as(metav1.ConditionFalse, verified)
	default:
		return as(metav1.ConditionTrue, archiving)
	}
}
