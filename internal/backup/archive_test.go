package backup

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/snapshot"
)

var look = time.Date(2026, 1, 8, 12, 0, 0, 0, time.UTC)

// archiving is an archive that goes well.
func archiving(changes ...func(*ArchiveObserved)) ArchiveObserved {
	o := ArchiveObserved{
		Now: look, Created: look.Add(-time.Hour), SealEvery: 2 * time.Second, MaxLag: 5 * time.Minute, DrillEvery: 7 * 24 * time.Hour, ClusterUID: "u1",
		Cluster: Cluster{UID: "u1", Founded: true}, LastDrill: look.Add(-time.Hour),
		Archiver: Archiver{State: ArchiverCurrent, Running: true, Since: look.Add(-time.Hour), Progress: &snapshot.ArchiveProgress{Revision: 9, Until: look.Add(-time.Second), Base: "base-1"}},
	}
	for _, change := range changes {
		change(&o)
	}
	return o
}

// TestNextOfArchive: what is archived is always the cluster that is on file.
func TestNextOfArchive(t *testing.T) {
	state := func(s ArchiverState) func(*ArchiveObserved) {
		return func(o *ArchiveObserved) { o.Archiver = Archiver{State: s} }
	}
	due := func(o *ArchiveObserved) { o.LastDrill = time.Time{} }
	ended := func(with WorkState, result *snapshot.Result) func(*ArchiveObserved) {
		return func(o *ArchiveObserved) {
			o.Drill, o.DrillBegan = Work{State: with, Result: result}, look.Add(-time.Minute)
		}
	}
	good := &snapshot.Result{Operation: snapshot.OperationDrillArchive, Outcome: snapshot.OutcomeSucceeded, Point: &snapshot.Point{Revision: 8}, Verification: &snapshot.Verification{}}
	failed := func(reason snapshot.Reason, ago time.Duration) func(*ArchiveObserved) {
		return func(o *ArchiveObserved) { o.DrillFailure, o.LastDrill = reason, look.Add(-ago) }
	}
	others := func(status, job string) func(*ArchiveObserved) {
		return func(o *ArchiveObserved) { o.DrilledOf, o.DrillJobOf, o.DrillOf = status, job, "now" }
	}
	cases := map[string]struct {
		seen   ArchiveObserved
		want   Kind
		reason string
	}{
		"all is well":                  {archiving(), Wait, v1alpha1.ReasonArchiving},
		"it is deleted":                {archiving(func(o *ArchiveObserved) { o.Deleting = true }), Rest, ""},
		"the cluster is not on file":   {archiving(state(ArchiverAbsent), func(o *ArchiveObserved) { o.ClusterUID = "" }), Begin, v1alpha1.ReasonPending},
		"there is no Deployment":       {archiving(state(ArchiverAbsent)), Archive, v1alpha1.ReasonPending},
		"the members have changed":     {archiving(state(ArchiverOutdated)), Archive, v1alpha1.ReasonPending},
		"it goes on after a pause":     {archiving(state(ArchiverStopped)), Archive, v1alpha1.ReasonPending},
		"a Deployment of that name":    {archiving(state(ArchiverForeign)), Wait, v1alpha1.ReasonNameConflict},
		"a Secret is missing":          {archiving(state(ArchiverAbsent), func(o *ArchiveObserved) { o.MissingSecret = "s3" }), Wait, "CredentialsMissing"},
		"a claim is missing":           {archiving(state(ArchiverAbsent), func(o *ArchiveObserved) { o.MissingClaim = "disk" }), Wait, "BucketMissing"},
		"no cluster":                   {archiving(state(ArchiverAbsent), func(o *ArchiveObserved) { o.Cluster = Cluster{} }), Wait, v1alpha1.ReasonClusterNotFound},
		"the cluster is gone":          {archiving(func(o *ArchiveObserved) { o.Cluster = Cluster{} }), StopArchiver, v1alpha1.ReasonClusterNotFound},
		"a young cluster":              {archiving(state(ArchiverAbsent), func(o *ArchiveObserved) { o.Cluster.Founded = false }), Wait, v1alpha1.ReasonClusterNotFounded},
		"nobody votes for a moment":    {archiving(func(o *ArchiveObserved) { o.Cluster.Founded = false }), Wait, v1alpha1.ReasonArchiving},
		"another cluster of its name":  {archiving(func(o *ArchiveObserved) { o.Cluster.UID = "u2" }), StopArchiver, v1alpha1.ReasonClusterReplaced},
		"another one, and it is still": {archiving(state(ArchiverStopped), func(o *ArchiveObserved) { o.Cluster.UID = "u2" }), Fail, v1alpha1.ReasonClusterReplaced},
		"it is suspended":              {archiving(func(o *ArchiveObserved) { o.Suspend = true }), StopArchiver, v1alpha1.ReasonSuspended},
		"suspended and still":          {archiving(state(ArchiverStopped), func(o *ArchiveObserved) { o.Suspend = true }), Wait, v1alpha1.ReasonSuspended},

		"the first drill":               {archiving(due), Drill, v1alpha1.ReasonVerifying},
		"no drill without a base":       {archiving(due, func(o *ArchiveObserved) { o.Archiver.Progress.BaseMissing = true }), Wait, v1alpha1.ReasonArchiving},
		"no drill in trouble":           {archiving(due, func(o *ArchiveObserved) { o.Archiver.Progress.Trouble = &snapshot.Trouble{} }), Wait, v1alpha1.ReasonArchiving},
		"no drill at all":               {archiving(due, func(o *ArchiveObserved) { o.DrillEvery = 0 }), Wait, v1alpha1.ReasonArchiving},
		"a drill goes on":               {archiving(due, ended(WorkRunning, nil)), Wait, v1alpha1.ReasonArchiving},
		"a drill has ended":             {archiving(due, ended(WorkSucceeded, good)), RecordDrill, v1alpha1.ReasonVerified},
		"a drill has failed":            {archiving(due, ended(WorkFailed, nil)), RecordDrill, v1alpha1.ReasonVerified},
		"a drill's result is lost":      {archiving(due, ended(WorkSucceeded, nil)), Redo, v1alpha1.ReasonVerifying},
		"a drill that was told already": {archiving(ended(WorkSucceeded, good), func(o *ArchiveObserved) { o.LastDrill = look.Add(-time.Second) }), Wait, v1alpha1.ReasonArchiving},
		"the next drill, and the last one's Job": {
			archiving(ended(WorkSucceeded, good), func(o *ArchiveObserved) {
				o.LastDrill, o.DrillBegan = look.Add(-8*24*time.Hour), look.Add(-9*24*time.Hour)
			}), Redo, v1alpha1.ReasonVerifying,
		},
		"a drill that may do better": {archiving(failed(snapshot.ReasonEtcdUnreachable, 2*time.Hour)), Drill, v1alpha1.ReasonVerifying},
		"a drill that will not":      {archiving(failed(snapshot.ReasonDiffers, 2*time.Hour)), Wait, v1alpha1.ReasonArchiving},
		"another base than differed": {archiving(failed(snapshot.ReasonDiffers, 2*time.Hour), func(o *ArchiveObserved) {
			o.Archiver.Progress.Base = snapshot.NewID(9, look.Add(-time.Hour), "archive")
		}), Drill, v1alpha1.ReasonVerifying},
		"the base that differed": {archiving(failed(snapshot.ReasonDiffers, 2*time.Hour), func(o *ArchiveObserved) {
			o.Archiver.Progress.Base = snapshot.NewID(9, look.Add(-3*time.Hour), "archive")
		}), Wait, v1alpha1.ReasonArchiving},
		"what is mended":              {archiving(failed(snapshot.ReasonKeyMissing, 2*time.Hour)), Drill, v1alpha1.ReasonVerifying},
		"it may be mended by then":    {archiving(failed(snapshot.ReasonKeyMissing, time.Minute)), Wait, v1alpha1.ReasonArchiving},
		"no drill while nobody votes": {archiving(due, func(o *ArchiveObserved) { o.Cluster.Founded = false }), Wait, v1alpha1.ReasonArchiving},

		"another store than was tried":  {archiving(others("then", "")), Drill, v1alpha1.ReasonVerifying},
		"another, and an old pod tells": {archiving(others("then", ""), func(o *ArchiveObserved) { o.Archiver.Rolling = true }), Wait, v1alpha1.ReasonArchiving},
		"nobody knows whether another":  {archiving(others("then", ""), func(o *ArchiveObserved) { o.DrillOf = "" }), Wait, v1alpha1.ReasonArchiving},
		"the same store":                {archiving(others("now", "")), Wait, v1alpha1.ReasonArchiving},
		"a drill of another store":      {archiving(due, others("", "then"), ended(WorkSucceeded, good)), Redo, v1alpha1.ReasonVerifying},
		"a drill of this one":           {archiving(due, others("", "now"), ended(WorkSucceeded, good)), RecordDrill, v1alpha1.ReasonVerified},
		"a drill of another goes on":    {archiving(due, others("", "then"), ended(WorkRunning, nil)), Wait, v1alpha1.ReasonArchiving},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			step := NextOfArchive(tc.seen)
			if step.Kind != tc.want || step.Reason != tc.reason {
				t.Errorf("next is %s (%s: %s), want %s (%s)", step.Kind, step.Reason, step.Message, tc.want, tc.reason)
			}
		})
	}
}

// TestReportArchive: each trouble is told in the archiver's own words, and Ready says whether
// what is written now could be restored.
func TestReportArchive(t *testing.T) {
	progress := func(change func(*snapshot.ArchiveProgress)) func(*ArchiveObserved) {
		return func(o *ArchiveObserved) { change(o.Archiver.Progress) }
	}
	young := func(o *ArchiveObserved) { o.Archiver.Since = look.Add(1*time.Second - startsWithin) }
	away := &snapshot.Trouble{Reason: snapshot.ReasonStoreUnreachable, Message: "no answer — lost — wait"}
	crashed := func(reason snapshot.Reason) func(*ArchiveObserved) {
		return func(o *ArchiveObserved) {
			o.Archiver.Progress, o.Archiver.Running = nil, false
			o.Archiver.Result = &snapshot.Result{Outcome: snapshot.OutcomeFailed, Reason: reason, Message: "bad — worse — mend"}
		}
	}
	drill := func(w Work) func(*ArchiveObserved) {
		return func(o *ArchiveObserved) { o.LastDrill, o.Drill, o.DrillBegan = time.Time{}, w, look }
	}
	good := &snapshot.Result{Operation: snapshot.OperationDrillArchive, Outcome: snapshot.OutcomeSucceeded, Message: "equal", Point: &snapshot.Point{Revision: 8}, Verification: &snapshot.Verification{}}
	other := *good
	other.Operation = snapshot.OperationDrill
	cases := map[string]struct {
		seen ArchiveObserved
		want [6]string // Ready, Archiving, BaseReady, LagExceeded, Verified, Stalled
	}{
		"all is well":           {archiving(), [6]string{"True/Archiving", "True/Archiving", "True/BaseFound", "False/WithinLimit", "False/Pending", "False/None"}},
		"the store is away":     {archiving(progress(func(p *snapshot.ArchiveProgress) { p.Trouble = away })), [6]string{"False/StoreUnreachable", "False/StoreUnreachable", "True/BaseFound", "False/WithinLimit", "False/Pending", "False/None"}},
		"it is far behind":      {archiving(progress(func(p *snapshot.ArchiveProgress) { p.Until = look.Add(-6 * time.Minute) })), [6]string{"False/LagExceeded", "False/Behind", "True/BaseFound", "True/LagExceeded", "False/Pending", "False/None"}},
		"it is behind":          {archiving(progress(func(p *snapshot.ArchiveProgress) { p.Until = look.Add(-63 * time.Second) })), [6]string{"False/Behind", "False/Behind", "True/BaseFound", "False/WithinLimit", "False/Pending", "False/None"}},
		"it is not yet behind":  {archiving(progress(func(p *snapshot.ArchiveProgress) { p.Until = look.Add(-62 * time.Second) })), [6]string{"True/Archiving", "True/Archiving", "True/BaseFound", "False/WithinLimit", "False/Pending", "False/None"}},
		"it seals rarely":       {archiving(func(o *ArchiveObserved) { o.SealEvery = time.Minute }, progress(func(p *snapshot.ArchiveProgress) { p.Until = look.Add(-2 * time.Minute) })), [6]string{"True/Archiving", "True/Archiving", "True/BaseFound", "False/WithinLimit", "False/Pending", "False/None"}},
		"it goes on":            {archiving(young, progress(func(p *snapshot.ArchiveProgress) { p.Until = look.Add(-2 * time.Minute) })), [6]string{"False/Pending", "False/Pending", "True/BaseFound", "False/WithinLimit", "False/Pending", "False/None"}},
		"it has just started":   {archiving(young, func(o *ArchiveObserved) { o.Archiver.Progress, o.Until = nil, look }), [6]string{"False/Pending", "False/Pending", "False/BaseMissing", "False/WithinLimit", "False/Pending", "False/None"}},
		"there is no base":      {archiving(progress(func(p *snapshot.ArchiveProgress) { p.BaseMissing, p.Base = true, "" })), [6]string{"False/BaseMissing", "True/Archiving", "False/BaseMissing", "False/WithinLimit", "False/Pending", "False/None"}},
		"no base can be":        {archiving(progress(func(p *snapshot.ArchiveProgress) { p.BaseMissing, p.Base, p.BaseTrouble = true, "", away })), [6]string{"False/StoreUnreachable", "True/Archiving", "False/StoreUnreachable", "False/WithinLimit", "False/Pending", "False/None"}},
		"another history":       {archiving(crashed(snapshot.ReasonWrongCluster)), [6]string{"False/WrongCluster", "False/WrongCluster", "False/BaseMissing", "True/LagExceeded", "False/Pending", "True/WrongCluster"}},
		"two archivers":         {archiving(crashed(snapshot.ReasonArchiveTaken)), [6]string{"False/ArchiveTaken", "False/ArchiveTaken", "False/BaseMissing", "True/LagExceeded", "False/Pending", "False/None"}},
		"the pod does not tell": {archiving(func(o *ArchiveObserved) { o.Archiver.Progress, o.Until = nil, look }), [6]string{"False/ArchiverSilent", "Unknown/ArchiverSilent", "False/BaseMissing", "False/WithinLimit", "False/Pending", "False/None"}},
		"it is suspended":       {archiving(func(o *ArchiveObserved) { o.Suspend, o.Archiver = true, Archiver{State: ArchiverStopped} }), [6]string{"True/Suspended", "False/Suspended", "False/BaseMissing", "False/WithinLimit", "False/Pending", "False/None"}},
		"another cluster":       {archiving(func(o *ArchiveObserved) { o.Cluster.UID = "u2" }), [6]string{"False/ClusterReplaced", "False/ClusterReplaced", "True/BaseFound", "False/WithinLimit", "False/Pending", "True/ClusterReplaced"}},
		"the drill was good":    {archiving(drill(Work{State: WorkSucceeded, Result: good})), [6]string{"True/Archiving", "True/Archiving", "True/BaseFound", "False/WithinLimit", "True/Verified", "False/None"}},
		"the drill was not": {
			archiving(drill(Work{State: WorkFailed, Result: &snapshot.Result{Outcome: snapshot.OutcomeFailed, Reason: snapshot.ReasonDiffers, Message: "other — lost — look"}})),
			[6]string{"False/Differs", "True/Archiving", "True/BaseFound", "False/WithinLimit", "False/Differs", "True/Differs"},
		},
		"the archive is corrupt": {
			archiving(drill(Work{State: WorkFailed, Result: &snapshot.Result{Outcome: snapshot.OutcomeFailed, Reason: snapshot.ReasonCorrupt, Message: "cut — lost — look"}})),
			[6]string{"False/Corrupt", "True/Archiving", "True/BaseFound", "False/WithinLimit", "False/Corrupt", "False/None"},
		},
		"the drill saw nothing": {
			archiving(drill(Work{State: WorkFailed, Result: &snapshot.Result{Outcome: snapshot.OutcomeFailed, Reason: snapshot.ReasonStoreUnreachable, Message: "away — lost — wait"}})),
			[6]string{"True/Archiving", "True/Archiving", "True/BaseFound", "False/WithinLimit", "False/StoreUnreachable", "False/None"},
		},
		"the drill took too long":   {archiving(drill(Work{State: WorkFailed, TimedOut: true})), [6]string{"False/TimedOut", "True/Archiving", "True/BaseFound", "False/WithinLimit", "False/TimedOut", "False/None"}},
		"the drill could not":       {archiving(drill(Work{State: WorkFailed})), [6]string{"False/Failed", "True/Archiving", "True/BaseFound", "False/WithinLimit", "False/Failed", "False/None"}},
		"another result as a drill": {archiving(drill(Work{State: WorkSucceeded, Result: &other})), [6]string{"False/Failed", "True/Archiving", "True/BaseFound", "False/WithinLimit", "False/Failed", "False/None"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			a := &v1alpha1.EtcdArchive{}
			ReportArchive(a, ArchiveOutcome{Seen: tc.seen, Step: NextOfArchive(tc.seen)})
			got := told(a.Status.Conditions)
			for i, kind := range []string{"Ready", "Archiving", "BaseReady", "LagExceeded", "Verified", "Stalled"} {
				if got[kind] != tc.want[i] {
					t.Errorf("%s is %s, want %s", kind, got[kind], tc.want[i])
				}
			}
		})
	}
}

// TestADrillThatEndsNowhereTakesNothingBack: that an archive differs from its cluster, or that a
// drill takes too long, is known until a drill has found something else.
func TestADrillThatEndsNowhereTakesNothingBack(t *testing.T) {
	bad := func(reason snapshot.Reason) Work {
		return Work{State: WorkFailed, Result: &snapshot.Result{Outcome: snapshot.OutcomeFailed, Reason: reason, Message: "no — because — do"}}
	}
	late := Work{State: WorkFailed, TimedOut: true}
	for name, tc := range map[string]struct {
		drills []Work
		want   string
	}{
		"too late":                    {[]Work{bad(snapshot.ReasonDiffers), late}, "False/Differs"},
		"the store is away":           {[]Work{bad(snapshot.ReasonCorrupt), bad(snapshot.ReasonStoreUnreachable)}, "False/Corrupt"},
		"killed, and late":            {[]Work{{State: WorkFailed}, late}, "False/TimedOut"},
		"late, and the store is away": {[]Work{late, bad(snapshot.ReasonStoreUnreachable)}, "False/TimedOut"},
		"late, and it differs":        {[]Work{late, bad(snapshot.ReasonDiffers)}, "False/Differs"},
		"away, and late":              {[]Work{bad(snapshot.ReasonStoreUnreachable), late}, "False/TimedOut"},
	} {
		t.Run(name, func(t *testing.T) {
			a := &v1alpha1.EtcdArchive{}
			for _, is := range tc.drills {
				seen := archiving(func(o *ArchiveObserved) { o.Drill = is })
				ReportArchive(a, ArchiveOutcome{Seen: seen, Step: Step{Kind: RecordDrill}})
			}
			if got := told(a.Status.Conditions)["Verified"]; got != tc.want {
				t.Errorf("Verified is %s, want %s", got, tc.want)
			}
		})
	}
}

// TestAnArchiverThatMovesIsNotBehind: status is no older than half of maxLag when the pod that
// told more is gone, so that a pod which moves to another node within the rest is no alarm.
func TestAnArchiverThatMovesIsNotBehind(t *testing.T) {
	for _, maxLag := range []time.Duration{time.Minute, 5 * time.Minute, time.Hour} {
		a := &v1alpha1.EtcdArchive{}
		at := look
		pass := func(change func(*ArchiveObserved)) string {
			at = at.Add(10 * time.Second)
			o := archiving(func(o *ArchiveObserved) {
				o.Now, o.MaxLag = at, maxLag
				o.Archiver.Progress = &snapshot.ArchiveProgress{Revision: 100, Until: at, Base: "b"}
				if a.Status.ArchivedUntil != nil {
					o.Until = a.Status.ArchivedUntil.Time
				}
			}, change)
			ReportArchive(a, ArchiveOutcome{Seen: o, Step: NextOfArchive(o)})
			return told(a.Status.Conditions)["LagExceeded"]
		}
		gone := func(o *ArchiveObserved) { o.Archiver.Progress, o.Archiver.Running = nil, false }
		for idle := range 120 {
			for range idle + 1 {
				pass(func(*ArchiveObserved) {})
			}
			for range min(6, int(maxLag/2/(10*time.Second))) - 1 {
				if got := pass(gone); got != "False/WithinLimit" {
					t.Fatalf("maxLag %s: after %d idle looks the archiver moves: %s", maxLag, idle, got)
				}
			}
		}
	}
}

// TestArchiveIsToldRarely: a cluster that is written to all the time moves status once a
// minute, an idle one every ten, or twice in maxLag, and trouble at once.
func TestArchiveIsToldRarely(t *testing.T) {
	a := &v1alpha1.EtcdArchive{}
	revision, at := int64(100), look
	pass := func(trouble *snapshot.Trouble) (changed bool) {
		before := a.Status.DeepCopy()
		o := archiving(func(o *ArchiveObserved) {
			o.Now, o.MaxLag = at, time.Hour
			o.Archiver.Progress = &snapshot.ArchiveProgress{Revision: revision, Until: at, Base: "b", Trouble: trouble}
		})
		ReportArchive(a, ArchiveOutcome{Seen: o, Step: NextOfArchive(o)})
		return a.Status.ArchivedRevision != before.ArchivedRevision || !a.Status.ArchivedUntil.Equal(before.ArchivedUntil)
	}
	run := func(d time.Duration, writes int64) (changes int) {
		for range int(d / (10 * time.Second)) {
			at, revision = at.Add(10*time.Second), revision+writes
			if pass(nil) {
				changes++
			}
		}
		return changes
	}
	pass(nil)
	if n := run(10*time.Minute, 7); n < 9 || n > 10 {
		t.Errorf("written to for ten minutes: told %d times", n)
	}
	if n := run(time.Hour, 0); n < 5 || n > 7 {
		t.Errorf("idle for an hour: told %d times", n)
	}
	run(20*time.Second, 7)
	if pass(&snapshot.Trouble{Reason: snapshot.ReasonStoreUnreachable}); a.Status.ArchivedRevision != revision {
		t.Errorf("in trouble status ends at revision %d, the archive at %d", a.Status.ArchivedRevision, revision)
	}
}

// TestArchiveTellsGaps: each once, and for ever.
func TestArchiveTellsGaps(t *testing.T) {
	a := &v1alpha1.EtcdArchive{}
	pass := func(gap *snapshot.Gap) *v1alpha1.ArchiveGap {
		o := archiving(func(o *ArchiveObserved) { o.Archiver.Progress.Gap = gap })
		return ReportArchive(a, ArchiveOutcome{Seen: o, Step: NextOfArchive(o)})
	}
	one, two := &snapshot.Gap{From: 5, To: 7}, &snapshot.Gap{From: 20, To: 22}
	if pass(nil) != nil || meta.FindStatusCondition(a.Status.Conditions, v1alpha1.ConditionGapInHistory) != nil {
		t.Error("a gap is told where there is none")
	}
	if pass(one) == nil || pass(one) != nil || pass(two) == nil || pass(nil) != nil || pass(one) != nil {
		t.Errorf("gaps are told again, or not at all: %+v", a.Status.Gaps)
	}
	c := meta.FindStatusCondition(a.Status.Conditions, v1alpha1.ConditionGapInHistory)
	if len(a.Status.Gaps) != 2 || c == nil || !strings.Contains(c.Message, "20 to 22") {
		t.Errorf("gaps %+v, condition %+v", a.Status.Gaps, c)
	}
	for i := range int64(30) {
		pass(&snapshot.Gap{From: 30 + 10*i, To: 31 + 10*i})
	}
	if len(a.Status.Gaps) != keptGaps || a.Status.Gaps[keptGaps-1].From != 320 {
		t.Errorf("%+v", a.Status.Gaps)
	}
}

// TestArchiveTellsWhatIsLost: what somebody deleted from the store, each once, in words of its
// own, and beside what etcd compacted.
func TestArchiveTellsWhatIsLost(t *testing.T) {
	a := &v1alpha1.EtcdArchive{}
	pass := func(gap, lost *snapshot.Gap) *v1alpha1.ArchiveGap {
		o := archiving(func(o *ArchiveObserved) { o.Archiver.Progress.Gap, o.Archiver.Progress.Lost = gap, lost })
		return ReportArchive(a, ArchiveOutcome{Seen: o, Step: NextOfArchive(o)})
	}
	compacted := &snapshot.Gap{From: 20, To: 22, Reason: snapshot.GapCompacted}
	early := &snapshot.Gap{From: 5, To: 7, Reason: snapshot.GapLost}
	if pass(compacted, nil) == nil || pass(compacted, early) == nil || pass(compacted, early) != nil || pass(compacted, nil) != nil {
		t.Errorf("gaps are told again, or not at all: %+v", a.Status.Gaps)
	}
	c := meta.FindStatusCondition(a.Status.Conditions, v1alpha1.ConditionGapInHistory)
	if len(a.Status.Gaps) != 2 || c == nil || c.Reason != v1alpha1.ReasonLost || !strings.Contains(c.Message, "5 to 7 were archived and are gone") {
		t.Errorf("gaps %+v, condition %+v", a.Status.Gaps, c)
	}
	for i := range int64(keptGaps) {
		pass(&snapshot.Gap{From: 30 + 10*i, To: 31 + 10*i}, early)
	}
	if pass(nil, early) != nil {
		t.Errorf("what was named before is told again: %+v", a.Status.Gaps)
	}
}

// TestDrilledArchive: what was restored is on record, and a failure takes nothing of it back.
func TestDrilledArchive(t *testing.T) {
	a := &v1alpha1.EtcdArchive{}
	pass := func(w Work) {
		o := archiving(func(o *ArchiveObserved) { o.LastDrill, o.Drill, o.DrillBegan = time.Time{}, w, look })
		ReportArchive(a, ArchiveOutcome{Seen: o, Step: NextOfArchive(o)})
	}
	pass(Work{State: WorkSucceeded, Result: &snapshot.Result{Operation: snapshot.OperationDrillArchive, Outcome: snapshot.OutcomeSucceeded, Point: &snapshot.Point{Revision: 8}, Verification: &snapshot.Verification{}}})
	pass(Work{State: WorkFailed})
	if s := a.Status; s.DrilledRevision != 8 || s.DrilledAt == nil || s.LastDrillTime == nil {
		t.Errorf("status %+v", s)
	}
}

// TestDrillOfAnotherArchive: Verified is about what is archived now, and what a drill found is
// taken back by a better one alone.
func TestDrillOfAnotherArchive(t *testing.T) {
	a := &v1alpha1.EtcdArchive{}
	pass := func(change func(*ArchiveObserved)) string {
		o := archiving(func(o *ArchiveObserved) {
			o.DrilledOf, o.DrillJobOf, o.DrillOf, o.DrillBegan = a.Status.DrilledOf, "s3", "s3", look
			if a.Status.LastDrillTime == nil {
				o.LastDrill = time.Time{}
			}
		}, change)
		ReportArchive(a, ArchiveOutcome{Seen: o, Step: NextOfArchive(o)})
		is := told(a.Status.Conditions)
		return is["Ready"] + ", verified " + is["Verified"]
	}
	failed := func(reason snapshot.Reason) func(*ArchiveObserved) {
		return func(o *ArchiveObserved) {
			o.Drill = Work{State: WorkFailed, Result: &snapshot.Result{Outcome: snapshot.OutcomeFailed, Reason: reason, Message: "bad — worse — mend"}}
		}
	}
	good := func(o *ArchiveObserved) {
		o.Drill = Work{State: WorkSucceeded, Result: &snapshot.Result{Operation: snapshot.OperationDrillArchive, Outcome: snapshot.OutcomeSucceeded, Point: &snapshot.Point{Revision: 8}, Verification: &snapshot.Verification{}}}
	}
	nothing := func(*ArchiveObserved) {}
	elsewhere := func(o *ArchiveObserved) { o.DrillOf = "gcs" }
	for i, step := range []struct {
		change func(*ArchiveObserved)
		want   string
	}{
		{good, "True/Archiving, verified True/Verified"},
		{nothing, "True/Archiving, verified True/Verified"},
		{elsewhere, "True/Archiving, verified False/Pending"},
		{failed(snapshot.ReasonCorrupt), "False/Corrupt, verified False/Corrupt"},
		{failed(snapshot.ReasonStoreUnreachable), "False/Corrupt, verified False/Corrupt"},
		{func(o *ArchiveObserved) { o.Drill.State = WorkForeign }, "False/Corrupt, verified False/Corrupt"},
		{elsewhere, "True/Archiving, verified False/Pending"},
	} {
		if got := pass(step.change); got != step.want {
			t.Errorf("step %d: %s, want %s", i, got, step.want)
		}
	}
	if s := a.Status; s.DrilledRevision != 0 || s.DrilledAt != nil || s.LastDrillTime == nil {
		t.Errorf("what was drilled elsewhere is told of what is archived now: %+v", s)
	}
}
