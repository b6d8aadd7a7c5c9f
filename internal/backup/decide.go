// Package backup is the policy of backups: what is next for an EtcdBackup and for an
// EtcdBackupSchedule, and what users read of them. It is pure: no client and no
// clock. The work itself is done by cmd/backup in a Job.
package backup

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/snapshot"
)

// WorkState is how far a Job has come.
type WorkState int

const (
	// WorkAbsent: there is no Job.
	WorkAbsent WorkState = iota
	// WorkRunning: it has not ended.
	WorkRunning
	// WorkSucceeded: it has done its work.
	WorkSucceeded
	// WorkFailed: it has given up, after all of its tries.
	WorkFailed
	// WorkForeign: a Job of that name belongs to somebody else.
	WorkForeign
)

// Work is what is known of a Job.
type Work struct {
	// Name of the Job; empty if there is none.
	Name  string
	State WorkState
	// Age of the Job; zero if there is none, or if it is somebody else's.
	Age time.Duration
	// Result that its last pod has left; nil if it left none.
	Result *snapshot.Result
	// Progress of the pod that runs; nil if it does not tell.
	Progress *snapshot.Progress
	// Ending says that somebody has deleted it, and that it waits for its pods to end.
	Ending bool
	// TimedOut says that it was ended because it took too long.
	TimedOut bool
	// EndedFor is how long ago it ended; zero while it has not.
	EndedFor time.Duration
	// Trouble is why no pod of it runs, or what its last pod said in the end; empty if
	// there is nothing to tell.
	Trouble string
}

// Cluster is the EtcdCluster that a backup names, as it is now.
type Cluster struct {
	// Name that the spec gives, whether there is one or not.
	Name string
	// UID is empty while there is none of that name.
	UID string
	// Founded says that there is data, and somebody who could send it.
	Founded bool
}

// Observed is one look at an EtcdBackup.
type Observed struct {
	// Verify is whether it is to be tried out.
	Verify v1alpha1.BackupVerify
	// DeletionPolicy says whether its objects go with it.
	DeletionPolicy v1alpha1.BackupDeletionPolicy
	// Timeout bounds how long it may wait for its cluster, and be begun again.
	Timeout time.Duration
	// Scheduled says that a schedule made it, so that nobody waits for its end.
	Scheduled bool

	// Age of the EtcdBackup; DeletedFor is how long it has been on its way out, zero if
	// it is not.
	Age, DeletedFor time.Duration
	// Deleting says that somebody deleted it.
	Deleting bool
	// Held says that it carries our finalizer.
	Held bool

	// ClusterUID, ID, Complete, Verified and Failed are what status says.
	ClusterUID, ID             string
	Complete, Verified, Failed bool
	// DrillDue says that it is to be tried out again, and DrillDueFor since when: what ended
	// before that does not count.
	DrillDue    bool
	DrillDueFor time.Duration

	Cluster Cluster
	// NamespaceEnds says that its namespace is being deleted: no Job can be made there any
	// more, and its Secrets go in any order.
	NamespaceEnds bool
	// MissingSecret is a Secret that a pod would wait for; empty if all are there.
	MissingSecret string
	// MissingClaim is the PersistentVolumeClaim of the store, if there is none of that name.
	MissingClaim string

	Save, Drill, Prune Work
}

// Kind of a step.
type Kind string

// The kinds of steps.
const (
	// Rest: nothing will ever be left to do.
	Rest Kind = "Rest"
	// Wait: nothing to do until the world moves.
	Wait Kind = "Wait"
	// SetFinalizer makes the finalizer follow deletionPolicy.
	SetFinalizer Kind = "SetFinalizer"
	// RemoveFinalizer lets the EtcdBackup go.
	RemoveFinalizer Kind = "RemoveFinalizer"
	// Begin writes into status which cluster is backed up.
	Begin Kind = "Begin"
	// Save, Drill and Prune create the Job for it.
	Save  Kind = "Save"
	Drill Kind = "Drill"
	Prune Kind = "Prune"
	// Redo deletes a Job that has ended without a word, so that it is made again.
	Redo Kind = "Redo"
	// End has a Job end whose work nobody wants any more.
	End Kind = "End"
	// RecordSave and RecordDrill write into status what a Job has done.
	RecordSave  Kind = "RecordSave"
	RecordDrill Kind = "RecordDrill"
	// Fail gives the backup up.
	Fail Kind = "Fail"
)

// Step is the one thing to do next. Message is read by users.
type Step struct {
	Kind Kind
	// Operation whose Job a Redo or an End is about.
	Operation snapshot.Operation
	// Reason is a condition reason.
	Reason  string
	Message string
}

// DeletionLimit is how long an EtcdBackup is held because its objects cannot be
// deleted. Holding it for ever would hold its namespace too. A Job that can be made is made
// however long ago the deletion was, since the operator may have been away, and the limit
// counts from when it was.
const DeletionLimit = 5 * time.Minute

// prunePause is how long objects that could not be deleted are left alone.
const prunePause = 20 * time.Second

// Next names the next step.
func Next(o Observed) Step {
	held := o.DeletionPolicy == v1alpha1.BackupDelete
	switch {
	case o.Deleting:
		return deleting(o)
	case held != o.Held:
		return Step{Kind: SetFinalizer, Reason: v1alpha1.ReasonPending, Message: "making the finalizer follow spec.deletionPolicy"}
	case o.Failed && !o.drillsAgain():
		return Step{Kind: Rest}
	case !o.Complete:
		return saving(o)
	case o.Verify != v1alpha1.VerifyReadBack && !o.Verified, o.drillsAgain():
		return verifying(o)
	default:
		return Step{Kind: Rest}
	}
}

// saving: a Job that is there is followed whatever has become of the cluster; only
// the decision to start one looks at it.
func saving(o Observed) Step {
	if o.savesAgain() {
		return saveAgain(o.Save)
	}
	if o.Save.State != WorkAbsent {
		return follow(o.Save, snapshot.OperationSave, RecordSave, v1alpha1.ReasonSaving)
	}
	if step, no := noCluster(o); no {
		return step
	}
	switch {
	case o.MissingSecret != "":
		return missing(o.MissingSecret)
	case o.MissingClaim != "":
		return missingClaim(o.MissingClaim)
	case o.ClusterUID == "":
		return Step{Kind: Begin, Reason: v1alpha1.ReasonPending, Message: "recording which cluster is backed up"}
	default:
		return Step{Kind: Save, Reason: v1alpha1.ReasonSaving, Message: "starting the Job that saves the cluster"}
	}
}

// noCluster: a cluster of the same name that came later holds other data. Saved as
// this backup, it would be restored one day as what it is not.
func noCluster(o Observed) (Step, bool) {
	wait := Step{Kind: Wait, Reason: v1alpha1.ReasonClusterNotFound, Message: fmt.Sprintf(
		"there is no EtcdCluster %s in this namespace — there is nothing to back up — create it, or name another one in spec.clusterRef of another EtcdBackup", o.Cluster.Name)}
	switch {
	case o.ClusterUID != "" && o.Cluster.UID != o.ClusterUID:
		return Step{Kind: Fail, Reason: v1alpha1.ReasonClusterReplaced, Message: fmt.Sprintf(
			"EtcdCluster %s with the UID %s, which was to be backed up, is gone — another one of its name holds other data — create another EtcdBackup for that", o.Cluster.Name, o.ClusterUID)}, true
	case o.Cluster.UID == "":
	case !o.Cluster.Founded:
		wait.Reason, wait.Message = v1alpha1.ReasonClusterNotFounded, fmt.Sprintf("EtcdCluster %s has not been founded yet — there is nothing to back up — see why: kubectl describe ec %s", o.Cluster.Name, o.Cluster.Name)
	default:
		return Step{}, false
	}
	if o.Timeout > 0 && o.Age > o.Timeout {
		wait.Kind = Fail
	}
	return wait, true
}

func missing(secret string) Step {
	return Step{Kind: Wait, Reason: string(snapshot.ReasonCredentialsMissing), Message: fmt.Sprintf(
		"Secret %s does not exist — the pod that needs it would never start — create it in this namespace", secret)}
}

func missingClaim(name string) Step {
	return Step{Kind: Wait, Reason: string(snapshot.ReasonBucketMissing), Message: fmt.Sprintf(
		"PersistentVolumeClaim %s, which spec.store.persistentVolumeClaim names, does not exist in this namespace, where alone it is looked for — the pod that needs it would never start, and nothing can be stored or read — create it here", name)}
}

// drillsAgain says that what lies in the store is to be tried out once more, although a
// drill has ended.
func (o Observed) drillsAgain() bool {
	return o.DrillDue && o.Complete && o.Verify != v1alpha1.VerifyReadBack
}

// ended says that the Job runs no more.
func (w Work) ended() bool { return w.State == WorkSucceeded || w.State == WorkFailed }

// undecided says that a verified backup was tried out again, and that the Job showed nothing
// against it: it could not read it, had the wrong key or another etcd, or was ended. It stays
// verified, or an outage of the store or a new key would have the retention drop the last good
// one.
func (o Observed) undecided() bool {
	r := o.Drill.Result
	told := r != nil && r.Outcome == snapshot.OutcomeFailed && r.Reason.Condemns()
	return o.Verified && o.Drill.State == WorkFailed && !told
}

// verifying needs no cluster: it is the backup that is tried.
func verifying(o Observed) Step {
	redo := Step{Kind: Redo, Operation: snapshot.OperationDrill, Reason: v1alpha1.ReasonVerifying}
	switch {
	case o.drillsAgain() && o.Drill.ended() && o.Drill.EndedFor > o.DrillDueFor:
		redo.Message = "the last drill ended before another one was asked for, by spec.drillAfter or by somebody who could not read the backup, and does not count"
		return redo
	case o.undecided() && o.Drill.EndedFor > drillAgain:
		redo.Message = "the last drill found out nothing, and is begun again"
		return redo
	case o.undecided():
		_, why := failure(o.Drill, snapshot.OperationDrill)
		return Step{Kind: Wait, Reason: v1alpha1.ReasonVerifying, Message: fmt.Sprintf("a drill again found out nothing, and is begun anew within %s: %s", drillAgain, why)}
	case o.Drill.State != WorkAbsent:
		return follow(o.Drill, snapshot.OperationDrill, RecordDrill, v1alpha1.ReasonVerifying)
	case o.MissingSecret != "":
		return missing(o.MissingSecret)
	case o.MissingClaim != "":
		return missingClaim(o.MissingClaim)
	default:
		return Step{Kind: Drill, Reason: v1alpha1.ReasonVerifying, Message: "starting the Job that restores the backup, starts etcd on it and compares"}
	}
}

// saveAgainAfter is how long a store, or a cluster, that did not answer the tries of each of a
// Job's pods is left alone.
const saveAgainAfter = 5 * time.Minute

// savesAgain says that a Job has failed for what may pass, within spec.timeout: an outage of some
// minutes would cost a night's backup. Whoever makes a single backup waits for an answer, and gets
// one. What is saved waits for nothing: it is there, and holds up no slot while its drill fails.
func (o Observed) savesAgain() bool {
	w, r := o.Save, o.Save.Result
	passes := w.State == WorkFailed && !w.TimedOut && r != nil && r.Outcome == snapshot.OutcomeFailed && !r.Permanent()
	return o.Scheduled && passes && o.Age < o.Timeout
}

// saveAgain with a new Job, after a while.
func saveAgain(w Work) Step {
	step := Step{Kind: Wait}
	step.Reason, step.Message = failure(w, snapshot.OperationSave)
	step.Message += fmt.Sprintf("; it is tried again after %s, until spec.timeout is over", saveAgainAfter)
	if w.EndedFor >= saveAgainAfter {
		step.Kind, step.Operation = Redo, snapshot.OperationSave
	}
	return step
}

// follow a Job to its end. One that has succeeded and left no result is run again:
// the program finds what it has done before.
func follow(w Work, operation snapshot.Operation, record Kind, reason string) Step {
	step := Step{Kind: Wait, Operation: operation, Reason: reason}
	r := w.Result
	switch {
	case w.State == WorkForeign:
		step.Reason, step.Message = v1alpha1.ReasonNameConflict, fmt.Sprintf("Job %s belongs to somebody else — it is not touched, and nothing is done in its place — delete or rename it", w.Name)
	case w.State == WorkRunning:
		step.Message = w.Doing()
		if p := w.Progress; p != nil && p.Trouble != nil && w.Trouble == "" {
			// What kubectl get shows is not to look like one that goes on.
			step.Reason = string(p.Trouble.Reason)
		}
	case w.State == WorkSucceeded && done(r, operation):
		step.Kind, step.Message = record, r.Message
	case w.State == WorkSucceeded:
		step.Kind, step.Message = Redo, "the Job has ended and its result is lost; it is run again, and finds what it has done"
	default:
		step.Kind = Fail
		step.Reason, step.Message = failure(w, operation)
		step.Message += last(w, operation)
	}
	return step
}

// last is what ends the words of a pod whose Job has given up. The pod did not know that none
// would follow it.
func last(w Work, operation snapshot.Operation) string {
	switch {
	case w.Result == nil || w.Result.Outcome != snapshot.OutcomeFailed:
		return "" // the words are ours
	case operation == snapshot.OperationDrill:
		return NoMore + ": when that is mended, set spec.drillAfter, or create another EtcdBackup"
	default:
		return NoMore + ": when that is mended, create another EtcdBackup"
	}
}

// NoMore begins what is said of a backup that was given up, behind what its pod has said.
const NoMore = "; it is not tried again by itself"

// done says that the result is one of this operation, and says all that status needs.
func done(r *snapshot.Result, operation snapshot.Operation) bool {
	if r == nil || r.Operation != operation || r.Outcome != snapshot.OutcomeSucceeded {
		return false
	}
	switch operation {
	case snapshot.OperationSave:
		return r.Backup != nil && r.Backup.ID != ""
	case snapshot.OperationDrill:
		return r.Verification != nil
	default:
		return true
	}
}

// Doing says what a Job that has not ended is at, and what stands in its way.
func (w Work) Doing() string {
	story := ""
	if w.Progress != nil {
		story = w.Progress.Story()
	}
	switch {
	case w.Trouble != "":
		return "no pod of the Job runs yet: " + w.Trouble
	case story != "":
		return story
	case w.Result != nil && w.Result.Outcome == snapshot.OutcomeFailed && !w.Result.Permanent():
		return "a pod of the Job has failed, and another one follows: " + w.Result.Message
	default:
		return "the Job has been started"
	}
}

// failure of the Job of an operation. One that tries a backup out leaves the backup where it is.
func failure(w Work, operation snapshot.Operation) (reason, message string) {
	drill := operation == snapshot.OperationDrill
	switch {
	case w.Result != nil && w.Result.Outcome == snapshot.OutcomeFailed:
		return string(w.Result.Reason), w.Result.Message
	case w.TimedOut && drill:
		return v1alpha1.ReasonTimedOut, fmt.Sprintf("Job %s did not end within spec.timeout%s — it was given up, and nobody has seen that the backup can be restored — set spec.drillAfter to have it tried again, or create another EtcdBackup with more time", w.Name, because(w.Trouble))
	case w.TimedOut:
		return v1alpha1.ReasonTimedOut, fmt.Sprintf("Job %s did not end within spec.timeout%s — it was given up, and what it has stored is no backup — create another EtcdBackup with more time or a higher rateLimit", w.Name, because(w.Trouble))
	case drill:
		return v1alpha1.ReasonFailed, fmt.Sprintf("Job %s failed%s — nobody has seen that the backup can be restored — see the logs of its pods, and set spec.drillAfter to have it tried again", w.Name, because(w.Trouble))
	default:
		return v1alpha1.ReasonFailed, fmt.Sprintf("Job %s failed%s — there is no backup — see the logs of its pods, and create another EtcdBackup", w.Name, because(w.Trouble))
	}
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

// refused says that the store did not delete what it was asked to: an object may be
// locked for a time.
func refused(r *snapshot.Result) bool { return r != nil && r.Pruned != nil && r.Pruned.Refused > 0 }

// Deletes says that a Job has yet to delete the objects of a backup that is on its way out.
func Deletes(o Observed) bool {
	return o.Deleting && o.Held && o.DeletionPolicy == v1alpha1.BackupDelete && o.stored() && o.Prune.State == WorkAbsent
}

// stored says that something may lie in the store: what has an ID does, and a Job that nobody
// has heard of since may have come as far as that, or to the half of it. One that told of its
// failure has cleared up.
func (o Observed) stored() bool {
	cleared := o.Save.State == WorkFailed && o.Save.Result != nil && o.Save.Result.Outcome == snapshot.OutcomeFailed
	return o.ID != "" || o.ClusterUID != "" && !cleared
}

// objects names what is to be deleted.
func (o Observed) objects() string {
	if o.ID == "" {
		return "what the Job that saved had stored"
	}
	return "the objects of backup " + o.ID
}

// ending has a Job that still saves end before what it stores is deleted: it would store the
// rest, and a manifest, after that. A node that is lost never tells that the pod on it has
// ended, and is not waited for.
func ending(o Observed) (Step, bool) {
	if o.ID != "" || o.Save.State != WorkRunning || o.DeletedFor > DeletionLimit {
		return Step{}, false
	}
	step := Step{Kind: End, Operation: snapshot.OperationSave, Reason: v1alpha1.ReasonDeleting, Message: "ending the Job that saves"}
	if o.Save.Ending {
		step.Kind, step.Message = Wait, "the Job that saves is told to end"
	}
	return step, true
}

// deleting never waits for long: what cannot be deleted stays, and is told.
func deleting(o Observed) Step {
	let := Step{Kind: RemoveFinalizer, Reason: v1alpha1.ReasonDeleting}
	step, saves := ending(o)
	switch {
	case !o.Held:
		return Step{Kind: Rest}
	case o.DeletionPolicy != v1alpha1.BackupDelete:
		let.Message = "the objects in the store stay, as spec.deletionPolicy says"
		return let
	case !o.stored():
		let.Message = "there are no objects in the store"
		return let
	case saves:
		return step
	case o.unpruned() && o.DeletedFor <= DeletionLimit:
		return pruneAgain(o)
	case o.Prune.State == WorkSucceeded && refused(o.Prune.Result):
		let.Reason, let.Message = v1alpha1.ReasonFailed, fmt.Sprintf("the store does not let %s be deleted%s — it stays there, and nobody knows of it any more — delete it by hand when the store lets you", o.objects(), because(strings.Join(o.Prune.Result.Warnings, "; ")))
		return let
	case o.Prune.State == WorkSucceeded:
		let.Message = "the objects in the store are deleted, as spec.deletionPolicy says"
		return let
	case o.Prune.State == WorkAbsent && o.NamespaceEnds:
		let.Reason, let.Message = v1alpha1.ReasonFailed, fmt.Sprintf("the namespace is being deleted, and no Job can be made in it; %s stays in the store — nobody knows of it any more, and the namespace would wait for it for ever — delete it there by hand, and next time the EtcdBackups before their namespace", o.objects())
		return let
	case o.Prune.State == WorkAbsent && o.MissingSecret == "":
		return Step{Kind: Prune, Reason: v1alpha1.ReasonDeleting, Message: "starting the Job that deletes the objects in the store"}
	}
	why, given := hinders(o)
	if given {
		return leaves(o, why)
	}
	return Step{Kind: Wait, Reason: v1alpha1.ReasonDeleting, Message: why}
}

// unpruned says that the Job has ended, and that objects are left.
func (o Observed) unpruned() bool {
	return o.Prune.State == WorkFailed || o.Prune.State == WorkSucceeded && refused(o.Prune.Result)
}

// pruneAgain tries to delete the objects once more: a store may be back, or credentials be mended,
// before the EtcdBackup is let go, and then nobody knows of them any more.
func pruneAgain(o Observed) Step {
	why := because(o.Prune.Trouble)
	if r := o.Prune.Result; r != nil {
		why = because(cmp.Or(strings.Join(r.Warnings, "; "), r.Message))
	}
	if o.Prune.EndedFor < prunePause {
		return Step{Kind: Wait, Reason: v1alpha1.ReasonDeleting, Message: fmt.Sprintf(
			"the objects in the store are not deleted yet%s; it is tried again every %s, until %s after the deletion", why, prunePause, DeletionLimit)}
	}
	return Step{Kind: Redo, Operation: snapshot.OperationPrune, Reason: v1alpha1.ReasonDeleting, Message: "the Job that deletes the objects in the store did not delete them, and is begun again" + why}
}

// hinders is what stands in the way of a deletion that is not done, and whether it has stood
// there for too long.
func hinders(o Observed) (why string, tooLong bool) {
	switch w := o.Prune; {
	case w.State == WorkFailed && w.Result != nil && w.Result.Outcome == snapshot.OutcomeFailed:
		return w.Result.Message, true
	case w.State == WorkFailed:
		return "Job " + w.Name + ", which deletes the objects in the store, failed" + because(w.Trouble), true
	case w.State == WorkForeign:
		return "Job " + w.Name + ", whose name is needed, belongs to somebody else", o.DeletedFor > DeletionLimit
	case w.State == WorkAbsent:
		return fmt.Sprintf("Secret %s does not exist, and the pod that deletes the objects in the store would never start", o.MissingSecret), o.DeletedFor > DeletionLimit
	case w.Age > DeletionLimit:
		return fmt.Sprintf("the Job that deletes the objects in the store has not ended for %s%s", DeletionLimit, because(w.Trouble)), true
	default:
		return "the objects in the store are being deleted" + because(w.Trouble), false
	}
}

// leaves lets an EtcdBackup go whose objects could not be deleted.
func leaves(o Observed, why string) Step {
	return Step{Kind: RemoveFinalizer, Reason: v1alpha1.ReasonFailed, Message: fmt.Sprintf(
		"%s; what is left of %s stays in the store — nobody knows of it any more — delete it there by hand", why, o.objects())}
}

// Unmade is what comes after a step whose Job was refused. The one that deletes objects is
// tried again for a while, and then given up; for any other nothing is lost by trying.
func Unmade(o Observed, step Step, refusal error) (Step, bool) {
	if step.Kind != Prune || o.DeletedFor <= DeletionLimit {
		return step, false
	}
	return leaves(o, fmt.Sprintf("the Job that deletes the objects in the store cannot be made: %s", refusal)), true
}
