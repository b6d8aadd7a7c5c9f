package backup

import (
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/snapshot"
)

func verified(o *Observed) { complete(o); o.Verified = true }
func gaveUp(o *Observed)   { complete(o); o.Failed = true }

// due since ten minutes.
func due(o *Observed) { o.DrillDue, o.DrillDueFor = true, 10*time.Minute }

// triedOut is a drill that ended so long ago; by which reason it failed, if it did.
func triedOut(ago time.Duration, failed snapshot.Reason) func(*Observed) {
	return func(o *Observed) {
		o.Drill = Work{State: WorkSucceeded, EndedFor: ago, Result: result(snapshot.OperationDrill)}
		if failed != "" {
			o.Drill.State, o.Drill.Result = WorkFailed, failedResult(failed)
		}
	}
}

func killed(o *Observed) { o.Drill = Work{State: WorkFailed, EndedFor: time.Minute} }

// Only what shows that the backup is bad takes its verification away: with a key that was
// replaced, another etcd or a machine that is short of everything it may be as good as ever.
func TestWhatShowsNothingTakesNoVerificationAway(t *testing.T) {
	condemning := map[snapshot.Reason]bool{
		snapshot.ReasonCorrupt: true, snapshot.ReasonBackupMissing: true, snapshot.ReasonNotRestorable: true, snapshot.ReasonDiffers: true,
	}
	for _, reason := range reasons(t) {
		o := ready(verified, due, triedOut(time.Minute, reason))
		want := Wait
		if condemning[reason] {
			want = Fail
		}
		if step := Next(o); step.Kind != want {
			t.Errorf("%s: %s, want %s", reason, step.Kind, want)
		}
		b := object("b", 0, savedObject)
		meta.SetStatusCondition(&b.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionVerified, Status: metav1.ConditionFalse, Reason: string(reason)})
		if got := ItemOf(&b).Condemned; got != condemning[reason] {
			t.Errorf("%s: a schedule takes it for condemned: %v", reason, got)
		}
	}
}

// reasons are all those that the program may end with, out of its source.
func reasons(t *testing.T) (all []snapshot.Reason) {
	t.Helper()
	source, err := os.ReadFile("../snapshot/result.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^\tReason\w+ +Reason = "(\w+)"$`).FindAllStringSubmatch(string(source), -1) {
		all = append(all, snapshot.Reason(m[1]))
	}
	if len(all) < 30 {
		t.Fatalf("found only %d reasons", len(all))
	}
	return all
}

func TestDrillAgain(t *testing.T) {
	const before, since, long = 11 * time.Minute, time.Minute, 2 * drillAgain
	cases := map[string]struct {
		seen Observed
		kind Kind
		want [3]string // Ready, Stalled, Verified
	}{
		"verified, and due":                       {ready(verified, due), Drill, [3]string{"True/Verified", "False/None", "True/Verified"}},
		"verified, and the old Job is there":      {ready(verified, due, triedOut(before, "")), Redo, [3]string{"True/Verified", "False/None", "True/Verified"}},
		"it goes on":                              {ready(verified, due, func(o *Observed) { o.Drill.State = WorkRunning }), Wait, [3]string{"True/Verified", "False/None", "True/Verified"}},
		"it went well":                            {ready(verified, due, triedOut(since, "")), RecordDrill, [3]string{"True/Verified", "False/None", "True/Verified"}},
		"it has rotted":                           {ready(verified, due, triedOut(since, snapshot.ReasonCorrupt)), Fail, [3]string{"False/Corrupt", "True/Corrupt", "False/Corrupt"}},
		"it is gone":                              {ready(verified, due, triedOut(since, snapshot.ReasonBackupMissing)), Fail, [3]string{"False/BackupMissing", "True/BackupMissing", "False/BackupMissing"}},
		"it rotted before the drill of now":       {ready(verified, due, triedOut(before, snapshot.ReasonCorrupt)), Redo, [3]string{"True/Verified", "False/None", "True/Verified"}},
		"the store cannot be reached":             {ready(verified, due, triedOut(since, snapshot.ReasonStoreUnreachable)), Wait, [3]string{"True/Verified", "False/None", "True/Verified"}},
		"nor can it for an hour":                  {ready(verified, func(o *Observed) { o.DrillDue, o.DrillDueFor = true, 3*long }, triedOut(long, snapshot.ReasonStoreUnreachable)), Redo, [3]string{"True/Verified", "False/None", "True/Verified"}},
		"the Job was killed":                      {ready(verified, due, killed), Wait, [3]string{"True/Verified", "False/None", "True/Verified"}},
		"a Secret is missing":                     {ready(verified, due, func(o *Observed) { o.MissingSecret = "s3" }), Wait, [3]string{"True/Verified", "False/None", "True/Verified"}},
		"given up, and due":                       {ready(gaveUp, due), Drill, [3]string{"False/Verifying", "False/None", "False/Verifying"}},
		"given up, and the old Job is there":      {ready(gaveUp, due, triedOut(before, snapshot.ReasonAccessDenied)), Redo, [3]string{"False/Verifying", "False/None", "False/Verifying"}},
		"given up, and good after all":            {ready(gaveUp, due, triedOut(since, "")), RecordDrill, [3]string{"True/Verified", "False/None", "True/Verified"}},
		"given up, and again":                     {ready(gaveUp, due, triedOut(since, snapshot.ReasonAccessDenied)), Fail, [3]string{"False/AccessDenied", "True/AccessDenied", "False/AccessDenied"}},
		"never saved: there is nothing to try":    {ready(func(o *Observed) { o.Failed = true }, due), Rest, [3]string{}},
		"never to be tried out":                   {ready(verified, due, func(o *Observed) { o.Verify = v1alpha1.VerifyReadBack }), Rest, [3]string{}},
		"not due":                                 {ready(verified, triedOut(before, snapshot.ReasonCorrupt)), Rest, [3]string{}},
		"the first one failed, which is for good": {ready(complete, triedOut(since, snapshot.ReasonStoreUnreachable)), Fail, [3]string{"False/StoreUnreachable", "True/StoreUnreachable", "False/StoreUnreachable"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			o := outcome(tc.seen, nil)
			if o.Step.Kind != tc.kind {
				t.Fatalf("Next() = %s %q, want %s", o.Step.Kind, o.Step.Message, tc.kind)
			}
			b := &v1alpha1.EtcdBackup{Spec: v1alpha1.EtcdBackupSpec{Verify: tc.seen.Verify}}
			Report(b, o)
			is := told(b.Status.Conditions)
			if diff := cmp.Diff(tc.want, [3]string{is["Ready"], is["Stalled"], is["Verified"]}); diff != "" {
				t.Errorf("conditions (-want +got):\n%s", diff)
			}
			ended := tc.kind == RecordDrill || tc.kind == Fail
			if (b.Status.DrilledTime != nil) != ended {
				t.Errorf("drilledTime is %v after %s", b.Status.DrilledTime, tc.kind)
			}
		})
	}
}

// A backup is tried out until a drill has ended after the time that was asked for.
func TestDrillDue(t *testing.T) {
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	earlier, later := metav1.NewTime(now.Add(-time.Hour)), metav1.NewTime(now.Add(-time.Minute))
	cases := map[string]struct {
		after             string
		drilled, verified *metav1.Time
		due               bool
		since, until      time.Duration
	}{
		"nothing is asked for":            {"", &earlier, &earlier, false, 0, 0},
		"nothing that can be read":        {"tomorrow", &earlier, &earlier, false, 0, 0},
		"the last one was before":         {"2026-05-04T02:52:01Z", &earlier, &earlier, true, 10 * time.Minute, time.Second},
		"in another zone":                 {"2026-05-04T04:52:01+02:00", &earlier, &earlier, true, 10 * time.Minute, time.Second},
		"the last one was after":          {"2026-05-04T02:52:01Z", &later, &earlier, false, 0, 0},
		"a status of before knows less":   {"2026-05-04T02:52:01Z", nil, &earlier, true, 10 * time.Minute, time.Second},
		"none has ended":                  {"2026-05-04T02:52:01Z", nil, nil, true, 10 * time.Minute, time.Second},
		"one is to be at a time to come":  {"2026-05-04T04:02:01Z", &later, &later, false, 0, time.Hour},
		"one that failed counts as ended": {"2026-05-04T02:52:01Z", &later, nil, false, 0, 0},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b := &v1alpha1.EtcdBackup{Spec: v1alpha1.EtcdBackupSpec{DrillAfter: tc.after}}
			b.Status.DrilledTime, b.Status.VerifiedTime = tc.drilled, tc.verified
			b.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionComplete, Status: metav1.ConditionTrue}}
			due, since := DrillDue(b, time.Time{}, now)
			if due != tc.due || since != tc.since {
				t.Errorf("DrillDue() = %v, %s; want %v, %s", due, since, tc.due, tc.since)
			}
			if until := UntilDrill(b, now); until != tc.until {
				t.Errorf("UntilDrill() = %s, want %s", until, tc.until)
			}
		})
	}
}

// TestDoubt: whoever has found a backup to be bad after its last drill has it tried out again,
// and not who did before.
func TestDoubt(t *testing.T) {
	for name, tc := range map[string]struct {
		after         string
		doubted       int
		due           bool
		since         time.Duration
		drilledBefore int
	}{
		"nobody doubts it":           {"", 0, false, 0, 60},
		"somebody does":              {"", 5, true, 5 * time.Minute, 60},
		"somebody did before":        {"", 61, false, 0, 60},
		"and it was asked for later": {noon.Add(-2 * time.Minute).Format(time.RFC3339), 5, true, 2 * time.Minute, 60},
		"and it is for tomorrow":     {noon.Add(24 * time.Hour).Format(time.RFC3339), 5, true, 5 * time.Minute, 60},
	} {
		b := &v1alpha1.EtcdBackup{Spec: v1alpha1.EtcdBackupSpec{DrillAfter: tc.after}}
		ago := func(minutes int) time.Time { return noon.Add(-time.Duration(minutes) * time.Minute) }
		b.Status.DrilledTime = &metav1.Time{Time: ago(tc.drilledBefore)}
		var doubted time.Time
		if tc.doubted > 0 {
			doubted = ago(tc.doubted)
		}
		if due, since := DrillDue(b, doubted, noon); due != tc.due || since != tc.since {
			t.Errorf("%s: due %v since %s, want %v, %s", name, due, since, tc.due, tc.since)
		}
	}
}

// drilledAt is when the last drill of an item was, in hours from noon.
func drilledAt(hour int) func(*Item) {
	return func(i *Item) { i.Drilled = noon.Add(time.Duration(hour) * time.Hour) }
}

func ordered(i *Item)  { i.DrillAfter = i.Drilled.Add(time.Minute) }
func tomorrow(i *Item) { i.DrillAfter = noon.Add(24 * time.Hour) }

func TestTheLongestUntriedIsTriedNext(t *testing.T) {
	daily := func(p *Plan) { p.DrillEvery = 24 * time.Hour; p.Policy = snapshot.Policy{Last: 9} }
	cases := map[string]struct {
		plan Plan
		want string
	}{
		"never asked for":             {hourly(with(good(-90, drilledAt(-90)))), ""},
		"none is old enough":          {hourly(daily, with(good(-2, drilledAt(-2)), good(-1, drilledAt(-1)))), ""},
		"the oldest drill is first":   {hourly(daily, with(good(-90, drilledAt(-30)), good(-80, drilledAt(-40)), good(-1, drilledAt(-1)))), good(-80).Name},
		"one at a time":               {hourly(daily, with(good(-90, drilledAt(-30)), good(-80, drilledAt(-40), ordered))), ""},
		"one in the future is none":   {hourly(daily, with(good(-90, drilledAt(-30)), good(-80, drilledAt(-29), tomorrow))), good(-90).Name},
		"not beside a backup":         {hourly(daily, with(good(-90, drilledAt(-90)), good(0, active))), ""},
		"a failed one is not tried":   {hourly(daily, with(good(-90, drilledAt(-90), failed))), ""},
		"nor one that goes":           {hourly(daily, with(good(-90, drilledAt(-90), goes))), ""},
		"what was never tried is not": {hourly(daily, with(good(-90))), ""},
		"nothing is ever tried out":   {hourly(daily, with(good(-90, drilledAt(-90))), func(p *Plan) { p.Verifies = false }), ""},
		"not while suspended":         {hourly(daily, with(good(-90, drilledAt(-90))), func(p *Plan) { p.Suspend = true }), ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := ""
			if turn := tc.plan.Take(); turn.Drill != nil {
				got = turn.Drill.Name
			}
			if got != tc.want {
				t.Errorf("%q is tried out again, want %q", got, tc.want)
			}
		})
	}
	p := hourly(daily, with(good(-3, drilledAt(-24))), func(p *Plan) { p.Timetable = every(1000 * time.Hour) })
	if p.Now = noon.Add(-time.Minute); !p.Wake(p.Take()).Equal(noon) {
		t.Errorf("it wakes at %s, want noon, when the drill is due", p.Wake(p.Take()))
	}
}

// One that is tried out again after it failed is neither under way, which the next slot
// would wait for or delete, nor good.
func TestItemThatIsTriedAgain(t *testing.T) {
	b := &v1alpha1.EtcdBackup{Spec: v1alpha1.EtcdBackupSpec{Verify: v1alpha1.VerifyDrill}}
	b.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionComplete, Status: metav1.ConditionTrue}}
	if got := ItemOf(b).State; got != ItemActive {
		t.Errorf("before its first drill has ended: %d", got)
	}
	b.Status.DrilledTime = &metav1.Time{Time: noon}
	if got := ItemOf(b).State; got != ItemFailed {
		t.Errorf("after it: %d", got)
	}
}
