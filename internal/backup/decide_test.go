package backup

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/snapshot"
)

// result of a Job that went well, as its program leaves it.
func result(operation snapshot.Operation) *snapshot.Result {
	r := &snapshot.Result{Operation: operation, Outcome: snapshot.OutcomeSucceeded, Message: "done"}
	switch operation {
	case snapshot.OperationSave:
		r.Backup = &snapshot.Backup{ID: "id", ClusterID: "c1", Revision: 7, StoredBytes: 2048, PlainBytes: 123456789}
	case snapshot.OperationDrill:
		// It names the backup, too.
		r.Backup, r.Verification = &snapshot.Backup{ID: "id"}, &snapshot.Verification{ID: "id"}
	}
	return r
}

func failedResult(reason snapshot.Reason) *snapshot.Result {
	return &snapshot.Result{Outcome: snapshot.OutcomeFailed, Reason: reason, Message: "no — because — do"}
}

// ready is a backup whose cluster is there and was recorded.
func ready(changes ...func(*Observed)) Observed {
	o := Observed{Verify: v1alpha1.VerifyDrill, Timeout: time.Hour, ClusterUID: "u1", Cluster: Cluster{UID: "u1", Founded: true}}
	for _, change := range changes {
		change(&o)
	}
	return o
}

func complete(o *Observed)  { o.Complete, o.ID = true, "id" }
func leaving(o *Observed)   { o.Deleting, o.Held, o.DeletionPolicy = true, true, v1alpha1.BackupDelete }
func late(o *Observed)      { o.DeletedFor = DeletionLimit + 1 }
func replaced(o *Observed)  { o.Cluster.UID = "u2" }
func noneYet(o *Observed)   { o.Cluster, o.ClusterUID = Cluster{}, "" }
func saves(o *Observed)     { o.Save.State = WorkRunning }
func unfounded(o *Observed) { o.Cluster.Founded = false }

func TestNext(t *testing.T) {
	cases := map[string]struct {
		seen   Observed
		kind   Kind
		reason string
	}{
		"a new one records its cluster first": {ready(func(o *Observed) { o.ClusterUID = "" }), Begin, v1alpha1.ReasonPending},
		"then it is saved":                    {ready(), Save, v1alpha1.ReasonSaving},
		"no cluster: wait":                    {ready(noneYet), Wait, v1alpha1.ReasonClusterNotFound},
		"no cluster for too long":             {ready(noneYet, func(o *Observed) { o.Age = 2 * time.Hour }), Fail, v1alpha1.ReasonClusterNotFound},
		"not founded yet":                     {ready(unfounded), Wait, v1alpha1.ReasonClusterNotFounded},
		"another cluster of the name":         {ready(replaced), Fail, v1alpha1.ReasonClusterReplaced},
		"the cluster is gone":                 {ready(func(o *Observed) { o.Cluster = Cluster{} }), Fail, v1alpha1.ReasonClusterReplaced},
		"a Secret is missing":                 {ready(func(o *Observed) { o.MissingSecret = "s3" }), Wait, "CredentialsMissing"},
		"a claim is missing":                  {ready(func(o *Observed) { o.MissingClaim = "disk" }), Wait, "BucketMissing"},
		"a claim is missing for the drill":    {ready(complete, func(o *Observed) { o.MissingClaim = "disk" }), Wait, "BucketMissing"},
		"saving":                              {ready(func(o *Observed) { o.Save.State = WorkRunning }), Wait, v1alpha1.ReasonSaving},
		"saving, and the store is away": {ready(func(o *Observed) {
			o.Save = Work{State: WorkRunning, Progress: &snapshot.Progress{Trouble: &snapshot.Trouble{Reason: snapshot.ReasonStoreUnreachable, Message: "gone"}}}
		}), Wait, "StoreUnreachable"},
		"saving goes on without the cluster": {ready(replaced, func(o *Observed) { o.Save.State = WorkRunning }), Wait, v1alpha1.ReasonSaving},
		"saved":                              {ready(func(o *Observed) { o.Save = Work{State: WorkSucceeded, Result: result(snapshot.OperationSave)} }), RecordSave, v1alpha1.ReasonSaving},
		"saved, and the result is lost":      {ready(func(o *Observed) { o.Save = Work{State: WorkSucceeded} }), Redo, v1alpha1.ReasonSaving},
		"saved, and another's result":        {ready(func(o *Observed) { o.Save = Work{State: WorkSucceeded, Result: result(snapshot.OperationDrill)} }), Redo, v1alpha1.ReasonSaving},
		"saved, and no word of what": {ready(func(o *Observed) {
			o.Save = Work{State: WorkSucceeded, Result: &snapshot.Result{Operation: snapshot.OperationSave, Outcome: snapshot.OutcomeSucceeded}}
		}), Redo, v1alpha1.ReasonSaving},
		"the Job succeeded and says it failed": {ready(func(o *Observed) { o.Save = Work{State: WorkSucceeded, Result: failedResult(snapshot.ReasonCorrupt)} }), Redo, v1alpha1.ReasonSaving},
		"saving failed": {ready(func(o *Observed) {
			o.Save = Work{State: WorkFailed, Result: failedResult(snapshot.ReasonBucketMissing)}
		}), Fail, "BucketMissing"},
		"saving took too long":               {ready(func(o *Observed) { o.Save = Work{State: WorkFailed, TimedOut: true} }), Fail, v1alpha1.ReasonTimedOut},
		"saving was killed":                  {ready(func(o *Observed) { o.Save = Work{State: WorkFailed} }), Fail, v1alpha1.ReasonFailed},
		"a Job failed and its pod succeeded": {ready(func(o *Observed) { o.Save = Work{State: WorkFailed, Result: result(snapshot.OperationSave)} }), Fail, v1alpha1.ReasonFailed},
		"a namesake's Job":                   {ready(func(o *Observed) { o.Save.State = WorkForeign }), Wait, v1alpha1.ReasonNameConflict},
		"complete: tried out":                {ready(complete), Drill, v1alpha1.ReasonVerifying},
		"tried out without the cluster":      {ready(complete, replaced), Drill, v1alpha1.ReasonVerifying},
		"complete, and that is all":          {ready(complete, func(o *Observed) { o.Verify = v1alpha1.VerifyReadBack }), Rest, ""},
		"being tried out":                    {ready(complete, func(o *Observed) { o.Drill.State = WorkRunning }), Wait, v1alpha1.ReasonVerifying},
		"tried out":                          {ready(complete, func(o *Observed) { o.Drill = Work{State: WorkSucceeded, Result: result(snapshot.OperationDrill)} }), RecordDrill, v1alpha1.ReasonVerifying},
		"tried out without a verification": {ready(complete, func(o *Observed) {
			o.Drill = Work{State: WorkSucceeded, Result: &snapshot.Result{Operation: snapshot.OperationDrill, Outcome: snapshot.OutcomeSucceeded}}
		}), Redo, v1alpha1.ReasonVerifying},
		"it cannot be restored": {ready(complete, func(o *Observed) { o.Drill = Work{State: WorkFailed, Result: failedResult(snapshot.ReasonDiffers)} }), Fail, "Differs"},
		"verified":              {ready(complete, func(o *Observed) { o.Verified = true }), Rest, ""},
		"failed":                {ready(func(o *Observed) { o.Failed = true }), Rest, ""},
		"failed, and complete":  {ready(complete, func(o *Observed) { o.Failed = true }), Rest, ""},

		"its objects are to go with it":    {ready(func(o *Observed) { o.DeletionPolicy = v1alpha1.BackupDelete }), SetFinalizer, v1alpha1.ReasonPending},
		"they are to stay after all":       {ready(func(o *Observed) { o.Held = true }), SetFinalizer, v1alpha1.ReasonPending},
		"deleted, and nothing to wait for": {ready(func(o *Observed) { o.Deleting = true }), Rest, ""},
		"deleted before it was begun":      {ready(leaving, noneYet), RemoveFinalizer, v1alpha1.ReasonDeleting},
		"deleted, and nobody knows":        {ready(leaving), Prune, v1alpha1.ReasonDeleting},
		"deleted while it is saved":        {ready(leaving, saves), End, v1alpha1.ReasonDeleting},
		"deleted, and the Job ends":        {ready(leaving, saves, func(o *Observed) { o.Save.Ending = true }), Wait, v1alpha1.ReasonDeleting},
		"deleted, and the Job never ends":  {ready(leaving, saves, late, func(o *Observed) { o.Save.Ending = true }), Prune, v1alpha1.ReasonDeleting},
		"deleted, and the result is lost":  {ready(leaving, func(o *Observed) { o.Save = Work{State: WorkSucceeded} }), Prune, v1alpha1.ReasonDeleting},
		"deleted after it was killed":      {ready(leaving, func(o *Observed) { o.Save = Work{State: WorkFailed} }), Prune, v1alpha1.ReasonDeleting},
		"deleted after it had cleared up": {ready(leaving, func(o *Observed) {
			o.Save = Work{State: WorkFailed, Result: failedResult(snapshot.ReasonNoSpace)}
		}), RemoveFinalizer, v1alpha1.ReasonDeleting},
		"deleted: the Job failed just now": {ready(leaving, complete, func(o *Observed) {
			o.Prune = Work{State: WorkFailed, Result: failedResult(snapshot.ReasonStoreUnreachable)}
		}), Wait, v1alpha1.ReasonDeleting},
		"deleted: the Job failed once": {ready(leaving, complete, func(o *Observed) {
			o.Prune = Work{State: WorkFailed, Result: failedResult(snapshot.ReasonStoreUnreachable), EndedFor: prunePause}
		}), Redo, v1alpha1.ReasonDeleting},
		"deleted: the Job took too long":      {ready(leaving, complete, func(o *Observed) { o.Prune = Work{State: WorkFailed, TimedOut: true, EndedFor: prunePause} }), Redo, v1alpha1.ReasonDeleting},
		"deleted: it fails for too long":      {ready(leaving, complete, late, func(o *Observed) { o.Prune = Work{State: WorkFailed, TimedOut: true} }), RemoveFinalizer, v1alpha1.ReasonFailed},
		"deleted: the objects go":             {ready(leaving, complete), Prune, v1alpha1.ReasonDeleting},
		"deleted: the objects stay after all": {ready(leaving, complete, func(o *Observed) { o.DeletionPolicy = v1alpha1.BackupRetain }), RemoveFinalizer, v1alpha1.ReasonDeleting},
		"deleted: the objects are going":      {ready(leaving, complete, func(o *Observed) { o.Prune.State = WorkRunning }), Wait, v1alpha1.ReasonDeleting},
		"deleted: the objects are gone":       {ready(leaving, complete, func(o *Observed) { o.Prune.State = WorkSucceeded }), RemoveFinalizer, v1alpha1.ReasonDeleting},
		"deleted: the store refused just now": {ready(leaving, complete, refusing(0)), Wait, v1alpha1.ReasonDeleting},
		"deleted: the store refused once":     {ready(leaving, complete, refusing(prunePause)), Redo, v1alpha1.ReasonDeleting},
		"deleted: the store refuses":          {ready(leaving, complete, late, refusing(prunePause)), RemoveFinalizer, v1alpha1.ReasonFailed},
		"deleted: the objects cannot go": {ready(leaving, complete, late, func(o *Observed) {
			o.Prune = Work{State: WorkFailed, Result: failedResult(snapshot.ReasonAccessDenied)}
		}), RemoveFinalizer, v1alpha1.ReasonFailed},
		"deleted: nobody waits for ever":            {ready(leaving, complete, func(o *Observed) { o.Prune = Work{State: WorkRunning, Age: DeletionLimit + 1} }), RemoveFinalizer, v1alpha1.ReasonFailed},
		"deleted while nobody worked":               {ready(leaving, complete, late), Prune, v1alpha1.ReasonDeleting},
		"deleted long ago, and it is worked on":     {ready(leaving, complete, late, func(o *Observed) { o.Prune.State = WorkRunning }), Wait, v1alpha1.ReasonDeleting},
		"deleted: the Job's name is taken":          {ready(leaving, complete, func(o *Observed) { o.Prune.State = WorkForeign }), Wait, v1alpha1.ReasonDeleting},
		"deleted: the Job's name stays taken":       {ready(leaving, complete, late, func(o *Observed) { o.Prune.State = WorkForeign }), RemoveFinalizer, v1alpha1.ReasonFailed},
		"deleted, and the Secret is gone":           {ready(leaving, complete, func(o *Observed) { o.MissingSecret = "s3" }), Wait, v1alpha1.ReasonDeleting},
		"deleted with its namespace":                {ready(leaving, complete, func(o *Observed) { o.NamespaceEnds, o.MissingSecret = true, "s3" }), RemoveFinalizer, v1alpha1.ReasonFailed},
		"its namespace goes, and so do the objects": {ready(leaving, complete, func(o *Observed) { o.NamespaceEnds, o.Prune.State = true, WorkRunning }), Wait, v1alpha1.ReasonDeleting},
		"the Secret is gone for too long":           {ready(leaving, complete, func(o *Observed) { o.MissingSecret, o.DeletedFor = "s3", DeletionLimit+1 }), RemoveFinalizer, v1alpha1.ReasonFailed},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			step := Next(tc.seen)
			if step.Kind != tc.kind || step.Reason != tc.reason {
				t.Errorf("Next() = %s/%s %q, want %s/%s", step.Kind, step.Reason, step.Message, tc.kind, tc.reason)
			}
			if step.Kind != Rest && step.Message == "" {
				t.Error("no message")
			}
			if step.Kind == Fail && strings.Count(step.Message, " — ") != 2 {
				t.Errorf("the message of a failure has not three parts: %s", step.Message)
			}
			// A pod that failed does not know that it was the last one.
			if said := strings.HasPrefix(step.Message, "no — because — do"); step.Kind == Fail && said && !strings.Contains(step.Message, "; it is not tried again by itself: ") {
				t.Errorf("it is not said that nothing goes on: %s", step.Message)
			}
		})
	}
}

// TestAnOutageDoesNotCostANight: what a schedule made is saved again for as long as spec.timeout
// says, unless another try would fail as well. A backup that somebody waits for ends at once, and so
// does one that lies in the store: the next slot would wait for its drill.
func TestAnOutageDoesNotCostANight(t *testing.T) {
	scheduled := func(o *Observed) { o.Scheduled, o.Age = true, 10*time.Minute }
	fails := func(reason snapshot.Reason, ago time.Duration) func(*Observed) {
		return func(o *Observed) { o.Save = Work{State: WorkFailed, Result: failedResult(reason), EndedFor: ago} }
	}
	const away = snapshot.ReasonStoreUnreachable
	for name, tc := range map[string]struct {
		seen   Observed
		kind   Kind
		reason string
	}{
		"just now":                     {ready(scheduled, fails(away, time.Minute)), Wait, "StoreUnreachable"},
		"some minutes ago":             {ready(scheduled, fails(away, saveAgainAfter)), Redo, "StoreUnreachable"},
		"for as long as may be":        {ready(scheduled, fails(away, saveAgainAfter), func(o *Observed) { o.Age = o.Timeout }), Fail, "StoreUnreachable"},
		"another try fails as well":    {ready(scheduled, fails(snapshot.ReasonBucketMissing, saveAgainAfter)), Fail, "BucketMissing"},
		"it took too long":             {ready(scheduled, fails(away, saveAgainAfter), func(o *Observed) { o.Save.TimedOut = true }), Fail, "StoreUnreachable"},
		"it was killed":                {ready(scheduled, func(o *Observed) { o.Save = Work{State: WorkFailed} }), Fail, v1alpha1.ReasonFailed},
		"somebody waits":               {ready(fails(away, time.Minute)), Fail, "StoreUnreachable"},
		"its drill fails":              {ready(complete, scheduled, triedOut(time.Minute, away)), Fail, "StoreUnreachable"},
		"the hash was compacted twice": {ready(scheduled, fails(snapshot.ReasonCompacted, saveAgainAfter)), Redo, "Compacted"},
	} {
		step := Next(tc.seen)
		if step.Kind != tc.kind || step.Reason != tc.reason {
			t.Errorf("%s: %s/%s %q, want %s/%s", name, step.Kind, step.Reason, step.Message, tc.kind, tc.reason)
		}
		if goesOn := step.Kind != Fail; goesOn && !strings.Contains(step.Message, "tried again after 5m") {
			t.Errorf("%s: it is not said that it goes on: %s", name, step.Message)
		}
		// Nothing runs that would have to be asked every two seconds how far it is.
		if (step.Operation != "") != (step.Kind == Redo) && step.Kind != Fail {
			t.Errorf("%s: %s of the Job %q", name, step.Kind, step.Operation)
		}
	}
}

// TestWhatAJobIsAt: a Job that tries again and again says why.
func TestWhatAJobIsAt(t *testing.T) {
	at := &snapshot.Progress{Phase: snapshot.PhaseSaving, Attempt: 3, Pause: 20 * time.Second, Trouble: &snapshot.Trouble{Message: "s3://b: refused — because — do"}}
	for want, w := range map[string]Work{
		"the Job has been started":                     {},
		"no pod of the Job runs yet: no node has room": {Trouble: "no node has room", Result: failedResult(snapshot.ReasonStoreUnreachable)},
		"Saving, try 1":                                {Progress: &snapshot.Progress{Phase: snapshot.PhaseSaving, Attempt: 1}, Result: failedResult(snapshot.ReasonStoreUnreachable)},
		"Saving, try 3: s3://b: refused — because — do; it is tried again after 20s": {Progress: at},
		"a pod of the Job has failed, and another one follows: no — because — do":    {Progress: &snapshot.Progress{}, Result: failedResult(snapshot.ReasonStoreUnreachable)},
	} {
		w.State = WorkRunning
		if got := Next(ready(func(o *Observed) { o.Save = w })); got.Message != want {
			t.Errorf("it says %q, want %q", got.Message, want)
		}
	}
}

// refusing is a store that did not let the objects be deleted, so long ago.
func refusing(ago time.Duration) func(*Observed) {
	return func(o *Observed) {
		o.Prune = Work{State: WorkSucceeded, EndedFor: ago, Result: &snapshot.Result{Outcome: snapshot.OutcomeSucceeded, Pruned: &snapshot.Pruned{Refused: 1}, Warnings: []string{"deleting x: AccessDenied"}}}
	}
}

// TestWhatIsNotDeletedYetIsTold while it is tried again.
func TestWhatIsNotDeletedYetIsTold(t *testing.T) {
	if step := Next(ready(leaving, complete, refusing(0))); !strings.Contains(step.Message, "are not deleted yet: deleting x: AccessDenied; it is tried again") {
		t.Errorf("it says %q", step.Message)
	}
}

// TestWhatIsLeftIsNamed: a backup that goes without its objects says which ones and why, and
// not what is said of a backup that could not be made.
func TestWhatIsLeftIsNamed(t *testing.T) {
	running := Work{State: WorkRunning, Age: DeletionLimit + 1, Trouble: "no node has room"}
	for why, change := range map[string]func(*Observed){
		"no — because — do; ": func(o *Observed) {
			late(o)
			o.Prune = Work{State: WorkFailed, Result: failedResult(snapshot.ReasonAccessDenied)}
		},
		"failed: exit code 137; ":     func(o *Observed) { late(o); o.Prune = Work{State: WorkFailed, Trouble: "exit code 137"} },
		"for 5m0s: no node has room;": func(o *Observed) { o.Prune = running },
		"Secret s3 does not exist":    func(o *Observed) { late(o); o.MissingSecret = "s3" },
		"belongs to somebody else":    func(o *Observed) { late(o); o.Prune.State = WorkForeign },
	} {
		step := Next(ready(leaving, complete, change))
		if step.Kind != RemoveFinalizer || !strings.Contains(step.Message, why) || !strings.Contains(step.Message, "of backup id stays in the store") || strings.Contains(step.Message, "there is no backup") {
			t.Errorf("%s %q, want it to say %q", step.Kind, step.Message, why)
		}
	}
}

// TestUnmade: a Job that is refused is tried again for a while; then the backup goes.
func TestUnmade(t *testing.T) {
	o := ready(leaving, complete)
	if step, given := Unmade(o, Next(o), errors.New("exceeded quota")); given || step.Kind != Prune {
		t.Errorf("given up at once: %+v", step)
	}
	o = ready(leaving, complete, late)
	if step, given := Unmade(o, Next(o), errors.New("exceeded quota")); !given || step.Kind != RemoveFinalizer || step.Reason != v1alpha1.ReasonFailed || !strings.Contains(step.Message, "exceeded quota; what is left of the objects of backup id") {
		t.Errorf("held for ever: %+v", step)
	}
	o = ready(late)
	if step, given := Unmade(o, Next(o), errors.New("exceeded quota")); given || step.Kind != Save {
		t.Errorf("a backup is let go that nobody deletes: %+v", step)
	}
}

// TestNothingUnbelievableIsVerified: whatever a look shows, a backup is called complete
// only on a result that names it, and verified only on a verification.
func TestNothingUnbelievableIsVerified(t *testing.T) {
	results := []*snapshot.Result{nil, {}, failedResult(snapshot.ReasonCorrupt), result(snapshot.OperationSave), result(snapshot.OperationDrill), result(snapshot.OperationPrune)}
	for _, state := range []WorkState{WorkAbsent, WorkRunning, WorkSucceeded, WorkFailed, WorkForeign} {
		for i, r := range results {
			w := Work{State: state, Result: r}
			if step := Next(ready(func(o *Observed) { o.Save = w })); step.Kind == RecordSave && (state != WorkSucceeded || i != 3) {
				t.Errorf("saved on state %d and result %+v", state, r)
			}
			if step := Next(ready(complete, func(o *Observed) { o.Drill = w })); step.Kind == RecordDrill && (state != WorkSucceeded || i != 4) {
				t.Errorf("verified on state %d and result %+v", state, r)
			}
		}
	}
}
