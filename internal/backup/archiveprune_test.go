package backup

import (
	"errors"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/snapshot"
)

// bounded is an archive that keeps a month, and was looked through two days ago.
func bounded(changes ...func(*ArchiveObserved)) ArchiveObserved {
	return archiving(append([]func(*ArchiveObserved){func(o *ArchiveObserved) {
		o.Created, o.KeepFor, o.LastPrune = look.Add(-90*24*time.Hour), 30*24*time.Hour, look.Add(-48*time.Hour)
	}}, changes...)...)
}

// prunedAgo has a Job that was made and ended so long ago.
func prunedAgo(ago time.Duration, with WorkState, result *snapshot.Result) func(*ArchiveObserved) {
	return func(o *ArchiveObserved) { o.Prune, o.PruneBegan = Work{State: with, Result: result}, look.Add(-ago) }
}

func prunedWell() *snapshot.Result {
	return &snapshot.Result{
		Operation: snapshot.OperationPrune, Outcome: snapshot.OutcomeSucceeded, Reason: snapshot.ReasonPruned,
		Pruned: &snapshot.Pruned{Kept: 2, Dropped: []snapshot.Dropped{{ID: "the-base"}}, DroppedCount: 1, Segments: 1200, Orphans: 3},
	}
}

// TestPruneStep: what an archive does not keep is looked for once a day, never while anything
// is wrong with it or somebody needs it, and each look is told once.
func TestPruneStep(t *testing.T) {
	progress := func(change func(*snapshot.ArchiveProgress)) func(*ArchiveObserved) {
		return func(o *ArchiveObserved) { change(o.Archiver.Progress) }
	}
	last := func(ago time.Duration) func(*ArchiveObserved) {
		return func(o *ArchiveObserved) { o.LastPrune = look.Add(-ago) }
	}
	never := func(o *ArchiveObserved) { o.LastPrune = time.Time{} }
	failed := func(o *ArchiveObserved) { o.PruneFailed = true }
	for name, tc := range map[string]struct {
		seen ArchiveObserved
		want Kind
	}{
		"a day has passed":                  {bounded(), Prune},
		"it has not":                        {bounded(last(23 * time.Hour)), Wait},
		"everything is kept":                {bounded(func(o *ArchiveObserved) { o.KeepFor = 0 }), Wait},
		"the first look":                    {bounded(never), Prune},
		"nothing is so old yet":             {bounded(never, func(o *ArchiveObserved) { o.Created = look.Add(-29 * 24 * time.Hour) }), Wait},
		"it is suspended":                   {bounded(func(o *ArchiveObserved) { o.Suspend = true }), StopArchiver},
		"the archiver does not say":         {bounded(func(o *ArchiveObserved) { o.Archiver.Progress = nil }), Wait},
		"the archiver is in trouble":        {bounded(progress(func(p *snapshot.ArchiveProgress) { p.Trouble = &snapshot.Trouble{} })), Wait},
		"there is no base":                  {bounded(progress(func(p *snapshot.ArchiveProgress) { p.BaseMissing = true })), Wait},
		"nothing is archived":               {bounded(progress(func(p *snapshot.ArchiveProgress) { p.Revision = 0 })), Wait},
		"a cluster is being filled":         {bounded(func(o *ArchiveObserved) { o.PruneHeld = "ns/new" }), Wait},
		"it failed":                         {bounded(last(time.Hour), failed), Prune},
		"it has just failed":                {bounded(last(time.Minute), failed), Wait},
		"a Job of the name":                 {bounded(prunedAgo(0, WorkForeign, nil)), Wait},
		"the Job runs":                      {bounded(prunedAgo(time.Hour, WorkRunning, nil)), Wait},
		"the Job has ended":                 {bounded(prunedAgo(time.Hour, WorkSucceeded, prunedWell())), RecordPrune},
		"it ended while somebody is filled": {bounded(prunedAgo(time.Hour, WorkSucceeded, prunedWell()), func(o *ArchiveObserved) { o.PruneHeld = "ns/new" }), RecordPrune},
		"the Job has failed":                {bounded(prunedAgo(time.Hour, WorkFailed, nil)), RecordPrune},
		"its result is lost":                {bounded(prunedAgo(time.Hour, WorkSucceeded, nil)), Redo},
		"another work's result":             {bounded(prunedAgo(time.Hour, WorkSucceeded, &snapshot.Result{Operation: snapshot.OperationDrillArchive, Outcome: snapshot.OutcomeSucceeded, Pruned: &snapshot.Pruned{}})), Redo},
		"it is told already":                {bounded(last(time.Minute), prunedAgo(time.Hour, WorkSucceeded, prunedWell())), Wait},
		"the next one, and the last Job":    {bounded(prunedAgo(49*time.Hour, WorkSucceeded, prunedWell())), Redo},
		"a drill comes first":               {bounded(func(o *ArchiveObserved) { o.LastDrill = time.Time{} }), Drill},
	} {
		step := NextOfArchive(tc.seen)
		if step.Kind != tc.want {
			t.Errorf("%s: next is %s (%s), want %s", name, step.Kind, step.Message, tc.want)
		}
		if (step.Kind == Redo || step.Kind == Prune || step.Kind == RecordPrune) && step.Operation != snapshot.OperationPrune {
			t.Errorf("%s: %s is of %q", name, step.Kind, step.Operation)
		}
	}
}

// TestHistoryBounded: what was deleted is said, and what was in the way of it, and neither
// changes what is said of the archive itself.
func TestHistoryBounded(t *testing.T) {
	refused, warned := prunedWell(), prunedWell()
	refused.Pruned.Refused, refused.Warnings = 1, []string{"deleting x in s3://b: AccessDenied — the store does not let these credentials do it — check them"}
	warned.Warnings = []string{"one", "two"}
	denied := &snapshot.Result{Operation: snapshot.OperationPrune, Outcome: snapshot.OutcomeFailed, Reason: snapshot.ReasonAccessDenied, Message: "s3://b says no — it does — ask"}
	for name, tc := range map[string]struct {
		seen  ArchiveObserved
		err   error
		want  string
		parts []string
	}{
		"never looked":           {bounded(func(o *ArchiveObserved) { o.LastPrune, o.Created = time.Time{}, look }), nil, "False/Pending", []string{"spec.keepFor"}},
		"it went well":           {bounded(prunedAgo(time.Hour, WorkSucceeded, prunedWell())), nil, "True/Pruned", []string{"720h0m0s", "1 bases", "1200 segments", "3 unfinished", "the-base"}},
		"the store refused some": {bounded(prunedAgo(time.Hour, WorkSucceeded, refused)), nil, "False/Failed", []string{"1 bases", "s3://b"}},
		"there was trouble":      {bounded(prunedAgo(time.Hour, WorkSucceeded, warned)), nil, "False/Failed", []string{"one (and 1 more)"}},
		"it failed":              {bounded(prunedAgo(time.Hour, WorkFailed, denied)), nil, "False/AccessDenied", []string{"s3://b"}},
		"nobody knows why":       {bounded(prunedAgo(time.Hour, WorkFailed, nil)), nil, "False/Failed", []string{"logs of its pods"}},
		"it took too long":       {bounded(prunedAgo(time.Hour, WorkFailed, nil), func(o *ArchiveObserved) { o.Prune.TimedOut = true }), nil, "False/TimedOut", []string{"in time"}},
		"a Job of the name":      {bounded(prunedAgo(0, WorkForeign, nil)), nil, "False/NameConflict", []string{"spec.keepFor"}},
		"a cluster needs it":     {bounded(func(o *ArchiveObserved) { o.PruneHeld = "ns/new" }), nil, "False/Queued", []string{"EtcdCluster ns/new"}},
		"the Job is refused":     {bounded(), errors.New("exceeded quota"), "False/JobRejected", []string{"exceeded quota"}},
		"everything is kept":     {bounded(func(o *ArchiveObserved) { o.KeepFor = 0 }), nil, "", nil},
	} {
		a := &v1alpha1.EtcdArchive{}
		meta.SetStatusCondition(&a.Status.Conditions, condition(v1alpha1.ConditionHistoryBounded, "False", story{v1alpha1.ReasonPending, "before"}))
		ReportArchive(a, ArchiveOutcome{Seen: tc.seen, Step: NextOfArchive(tc.seen), Err: tc.err})
		got, c := "", meta.FindStatusCondition(a.Status.Conditions, v1alpha1.ConditionHistoryBounded)
		if c != nil {
			got = string(c.Status) + "/" + c.Reason
		}
		if got != tc.want {
			t.Errorf("%s: %s (%+v), want %s", name, got, c, tc.want)
			continue
		}
		for _, part := range tc.parts {
			if !strings.Contains(c.Message, part) {
				t.Errorf("%s: %q does not say %q", name, c.Message, part)
			}
		}
		if c != nil && c.Status == "False" && c.Reason != v1alpha1.ReasonPending && strings.Count(c.Message, " — ") < 2 {
			t.Errorf("%s: %q has not three parts", name, c.Message)
		}
		for _, kind := range []string{v1alpha1.ConditionArchiving, v1alpha1.ConditionReady} {
			if !meta.IsStatusConditionTrue(a.Status.Conditions, kind) {
				t.Errorf("%s: %s is %+v", name, kind, meta.FindStatusCondition(a.Status.Conditions, kind))
			}
		}
		if recorded := NextOfArchive(tc.seen).Kind == RecordPrune; recorded != (a.Status.LastPruneTime != nil) || PruneFailed(&a.Status) != (recorded && tc.want != "True/Pruned") {
			t.Errorf("%s: looked at %v, failed %t", name, a.Status.LastPruneTime, PruneFailed(&a.Status))
		}
		if c == nil || waits(c.Reason) {
			continue
		}
		// It stays said until the next look.
		was := *c
		next := bounded(func(o *ArchiveObserved) { o.LastPrune, o.KeepFor = look, tc.seen.KeepFor })
		ReportArchive(a, ArchiveOutcome{Seen: next, Step: NextOfArchive(next)})
		if after := meta.FindStatusCondition(a.Status.Conditions, v1alpha1.ConditionHistoryBounded); *after != was {
			t.Errorf("%s: then %+v, and it was %+v", name, after, was)
		}
	}
}
