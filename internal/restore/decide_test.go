package restore

import (
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/api/v1alpha1"
)

// fresh is a restore of a cluster that serves, of which nothing is on record yet.
func fresh(changes ...func(*Observed)) Observed {
	o := Observed{
		Cluster:  Cluster{UID: "5e1f", Incarnation: 1, Founded: true, Serves: true},
		Revision: 42, BackupID: "the-id", Safety: Safety{Name: "back-safety"},
	}
	for _, change := range changes {
		change(&o)
	}
	return o
}

// recorded is one whose backup was looked at, unlooked one that has just begun.
func recorded(o *Observed) { unlooked(o); o.Look = Look{Job: "back-check", Exists: true, Done: true} }
func unlooked(o *Observed) { o.ClusterUID, o.Incarnation, o.Look.Job = "5e1f", 1, "back-check" }
func look(l Look) func(*Observed) {
	return func(o *Observed) { unlooked(o); l.Job = "back-check"; o.Look = l }
}
func prepared(o *Observed) { recorded(o); o.Prepared = true }
func old(o *Observed)      { o.Age = BeginsWithin + time.Second }
func skips(o *Observed)    { o.Skip = true }
func drills(o *Observed)   { o.Drill = true }
func blocked(o *Observed)  { o.Blocked = "EtcdBackup nightly is gone — why — do" }
func saving(o *Observed)   { o.Safety.Exists, o.Safety.Message = true, "42%" }
func complete(o *Observed) {
	saving(o)
	o.Safety.Complete, o.Safety.Revision, o.Safety.Began, o.Safety.Ready = true, 99, time.Unix(1e9, 0), time.Unix(1e9+7200, 0)
}
func verified(o *Observed) { complete(o); o.Safety.Verified = true }
func failed(o *Observed)   { saving(o); o.Safety.Failed = true }
func foreign(o *Observed)  { complete(o); o.Safety.Foreign = true }
func raise(o *Observed) {
	o.Cluster.Incarnation, o.Cluster.Raised, o.Cluster.Founded, o.Cluster.Serves = 2, true, false, false
}
func serves(o *Observed) { o.Cluster.Founded, o.Cluster.Serves = true, true }

func TestNext(t *testing.T) {
	for name, tc := range map[string]struct {
		seen   Observed
		want   Kind
		reason string
		says   string
	}{
		"it is put on record":                     {fresh(), Begin, "Pending", "incarnation 1"},
		"no cluster":                              {fresh(func(o *Observed) { o.Cluster = Cluster{} }), Wait, "ClusterNotFound", ""},
		"not founded":                             {fresh(func(o *Observed) { o.Cluster.Founded = false }), Wait, "ClusterNotFounded", ""},
		"in memory":                               {fresh(func(o *Observed) { o.Cluster.InMemory = true }), Fail, "RestoreBlocked", ""},
		"another one is under way":                {fresh(func(o *Observed) { o.Ahead = "first" }), Wait, "Queued", "first"},
		"paused":                                  {fresh(func(o *Observed) { o.Cluster.Paused = true }), Wait, "Paused", ""},
		"the backup cannot be restored":           {fresh(blocked), Wait, "RestoreBlocked", "is gone"},
		"but not for ever":                        {fresh(blocked, old), Fail, "TimedOut", "it could not begin within 1h0m0s: EtcdBackup nightly is gone"},
		"nor for another one":                     {fresh(old, func(o *Observed) { o.Ahead = "first" }), Fail, "TimedOut", "first"},
		"it can begin too late":                   {fresh(old), Fail, "TimedOut", "create another EtcdRestore"},
		"blocked since, and not for ever":         {fresh(unlooked, blocked, old), Fail, "TimedOut", "is gone"},
		"what has begun takes its time":           {fresh(recorded, saving, old), Wait, "SafetyBackup", "42%"},
		"taken back":                              {fresh(func(o *Observed) { o.Deleting = true }), Rest, "", ""},
		"then the backup is looked at":            {fresh(unlooked), LookAtBackup, "Looking", "back-check"},
		"also if nothing else is to be done":      {fresh(unlooked, skips), LookAtBackup, "Looking", ""},
		"also if the safety backup is there":      {fresh(unlooked, complete), LookAtBackup, "Looking", ""},
		"but not at one that cannot be restored":  {fresh(unlooked, blocked), Wait, "RestoreBlocked", ""},
		"it is being read":                        {fresh(look(Look{Exists: true, Message: "Reading"}), complete), Wait, "Looking", "Reading"},
		"it cannot be read":                       {fresh(look(Look{Exists: true, Failed: true, Message: "it is gone — it matters — mend it"}), complete), Fail, "BackupUnreadable", "nothing was stopped: it is gone"},
		"what was found is lost":                  {fresh(look(Look{Exists: true, Lost: true}), complete), LookAgain, "Looking", ""},
		"somebody else's Job looks":               {fresh(look(Look{Exists: true, Foreign: true}), complete), Wait, "NameConflict", "back-check"},
		"it was read long ago":                    {fresh(look(Look{Exists: true, Done: true, Old: true}), complete), LookAgain, "Looking", ""},
		"long ago, and all else is skipped":       {fresh(look(Look{Exists: true, Done: true, Old: true}), skips), LookAgain, "Looking", ""},
		"it is read again last":                   {fresh(look(Look{Exists: true, Done: true, Old: true}), saving), Wait, "SafetyBackup", ""},
		"then the safety backup is taken":         {fresh(recorded), TakeSafety, "SafetyBackup", "back-safety"},
		"but not for nothing":                     {fresh(recorded, blocked), Wait, "RestoreBlocked", "is gone"},
		"it is waited for":                        {fresh(recorded, saving), Wait, "SafetyBackup", "42%"},
		"it is there":                             {fresh(recorded, complete), Prepare, "Prepared", "revision 99"},
		"it is there, and is tried out":           {fresh(recorded, complete, drills), Wait, "SafetyBackup", ""},
		"it was tried out":                        {fresh(recorded, verified, drills), Prepare, "Prepared", ""},
		"it failed":                               {fresh(recorded, failed), Fail, "SafetyBackupFailed", "nothing was stopped"},
		"it is somebody else's":                   {fresh(recorded, foreign), Fail, "NameConflict", "nothing was stopped"},
		"it is skipped":                           {fresh(recorded, skips), Prepare, "Prepared", "no safety backup"},
		"skipped, of a backup that is gone":       {fresh(recorded, skips, blocked), Wait, "RestoreBlocked", ""},
		"another cluster of the name":             {fresh(recorded, func(o *Observed) { o.Cluster.UID = "0ther" }), Fail, "ClusterReplaced", ""},
		"the cluster is deleted":                  {fresh(prepared, func(o *Observed) { o.Cluster = Cluster{} }), Fail, "ClusterReplaced", ""},
		"the members are stopped next":            {fresh(prepared, complete), Wait, "Restoring", "stopped next"},
		"the cluster tells":                       {fresh(prepared, complete, func(o *Observed) { o.Cluster.Message = "pod a-0 stops" }), Wait, "Restoring", "pod a-0 stops"},
		"the backup is gone by then":              {fresh(prepared, complete, blocked), Wait, "RestoreBlocked", "is gone"},
		"the new incarnation has begun":           {fresh(prepared, raise), Wait, "Restoring", "incarnation 2 has begun"},
		"it is founded":                           {fresh(prepared, raise, func(o *Observed) { o.Cluster.Founded = true }), Wait, "Restoring", ""},
		"it waits, and nobody was stopped":        {fresh(prepared, complete, func(o *Observed) { o.Cluster.Message, o.Cluster.Held = "no room — why — do", true }), Wait, "RestoreBlocked", "nobody is stopped for it now: no room"},
		"it serves":                               {fresh(prepared, raise, serves), Finish, "Restored", "revision 42"},
		"raised by somebody else":                 {fresh(prepared, raise, func(o *Observed) { o.Cluster.Raised = false }), Fail, "Superseded", ""},
		"raised before anything was prepared":     {fresh(recorded, complete, raise, serves), Fail, "Superseded", ""},
		"it is over":                              {fresh(prepared, raise, serves, func(o *Observed) { o.Done = true }), Rest, "", ""},
		"it was given up, and could go on by now": {fresh(recorded, complete, func(o *Observed) { o.Failed = true }), Rest, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := Next(tc.seen)
			if got.Kind != tc.want || got.Reason != tc.reason || !strings.Contains(got.Message, tc.says) {
				t.Errorf("Next() = %s/%s (%s), want %s/%s (… %s …)", got.Kind, got.Reason, got.Message, tc.want, tc.reason, tc.says)
			}
			if got.Kind == Fail && strings.Count(got.Message, " — ") != 2 {
				t.Errorf("%q is not in three parts", got.Message)
			}
		})
	}
}

func conditionsOf(r *v1alpha1.EtcdRestore) string {
	var out []string
	for _, c := range r.Status.Conditions {
		out = append(out, c.Type+"="+string(c.Status)+"/"+c.Reason)
	}
	return strings.Join(out, " ")
}

// TestReport: what is on record of the incarnation, the safety backup and the old volumes.
func TestReport(t *testing.T) {
	now := time.Unix(1e9+60, 0)
	r := &v1alpha1.EtcdRestore{}
	pass := func(o Observed, err error) {
		t.Helper()
		Report(r, Outcome{Seen: o, Step: Next(o), Err: err, Now: now})
	}
	pass(fresh(), nil)
	if s := r.Status; s.ClusterUID != "5e1f" || s.Incarnation != 1 || s.Revision != 42 || s.BackupID != "the-id" || s.StartTime == nil {
		t.Errorf("after Begin %+v", s)
	}
	pass(fresh(recorded, complete), nil)
	if s := r.Status.SafetyBackup; s == nil || s.Name != "back-safety" || s.Revision != 99 || s.Time.Unix() != 1e9 || s.ReadyTime.Unix() != 1e9+7200 {
		t.Errorf("the safety backup is %+v", s)
	}
	if got, want := conditionsOf(r), "Ready=False/Prepared Reconciling=True/Prepared Stalled=False/None Prepared=True/Prepared"; got != want {
		t.Errorf("prepared: %s, want %s", got, want)
	}
	begun := fresh(prepared, raise, func(o *Observed) {
		o.Cluster.Old, o.Cluster.RaisedAt, o.Cluster.Floor = []string{"data-a-0000"}, time.Unix(1e9+30, 0), 1.8e15
	})
	pass(begun, nil)
	if s := r.Status; s.RaisedTime == nil || s.RaisedTime.Unix() != 1e9+30 || s.RevisionBump != 1.8e15-42 || len(s.OldVolumes) != 1 || s.CompletionTime != nil {
		t.Errorf("after the raise %+v", s)
	}
	serves(&begun)
	pass(begun, nil)
	if got, want := conditionsOf(r), "Ready=True/Restored Reconciling=False/None Stalled=False/None Prepared=True/Prepared"; got != want || r.Status.CompletionTime == nil {
		t.Errorf("done: %s, want %s", got, want)
	}
}

// TestReportOfAFailure: it stalls, and nothing is on record that was not done.
func TestReportOfAFailure(t *testing.T) {
	r := &v1alpha1.EtcdRestore{}
	o := fresh(recorded, failed)
	Report(r, Outcome{Seen: o, Step: Next(o), Now: time.Unix(1e9, 0)})
	if got, want := conditionsOf(r), "Ready=False/SafetyBackupFailed Reconciling=False/None Stalled=True/SafetyBackupFailed Prepared=False/SafetyBackupFailed"; got != want || r.Status.SafetyBackup != nil {
		t.Errorf("%s, want %s; %+v", got, want, r.Status)
	}
}
