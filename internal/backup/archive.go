package backup

import (
	"fmt"
	"time"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/snapshot"
)

// ArchiverState is what there is of the Deployment that archives.
type ArchiverState int

const (
	// ArchiverAbsent: there is none.
	ArchiverAbsent ArchiverState = iota
	// ArchiverCurrent: it is as it should be, and wants a pod.
	ArchiverCurrent
	// ArchiverOutdated: it is not made from what the archive and the cluster are now.
	ArchiverOutdated
	// ArchiverStopped: it wants no pod.
	ArchiverStopped
	// ArchiverForeign: a Deployment of that name belongs to somebody else.
	ArchiverForeign
)

// Archiver is what is known of the process that archives.
type Archiver struct {
	// Name of the Deployment.
	Name  string
	State ArchiverState
	// Progress that its pod tells; nil if it does not.
	Progress *snapshot.ArchiveProgress
	// Result that its last process has left; nil if it left none.
	Result *snapshot.Result
	// Running says that a pod runs, Since when, and Trouble why none does, or what the last
	// one said.
	Running bool
	Since   time.Time
	Trouble string
	// Rolling says that the pod which answers may be made from what the spec was before.
	Rolling bool
}

// ArchiveObserved is one look at an EtcdArchive.
type ArchiveObserved struct {
	Now, Created time.Time
	Deleting     bool
	Suspend      bool
	SealEvery    time.Duration
	MaxLag       time.Duration
	DrillEvery   time.Duration

	// ClusterUID is what status says.
	ClusterUID string
	// Until is what status says; zero if nothing.
	Until time.Time
	// LastDrill is when a drill last ended; zero if none has. DrillFailure is the reason that
	// it failed for; empty if it did not.
	LastDrill    time.Time
	DrillFailure snapshot.Reason
	// DrilledOf is a hash of what the last drill was of: the store, the encryption and the
	// cluster ID. DrillOf is that of the next one, empty while no cluster is seen.
	DrilledOf, DrillOf string

	Cluster Cluster
	// MissingSecret is a Secret that a pod would wait for; empty if all are there.
	MissingSecret string
	// MissingClaim is the PersistentVolumeClaim of the store, if there is none of that name.
	MissingClaim string

	Archiver Archiver
	// Drill is the Job that tries the archive out, DrillBegan when it was made, and
	// DrillJobOf what it is of.
	Drill      Work
	DrillBegan time.Time
	DrillJobOf string

	// KeepFor is how far back every point is kept; zero for ever. LastPrune is when it was last
	// looked for what goes, zero for never, and PruneFailed says that this failed.
	KeepFor     time.Duration
	LastPrune   time.Time
	PruneFailed bool
	// PruneHeld names whoever is being filled from the archive; empty if nobody is.
	PruneHeld string
	// Prune is the Job that deletes what goes, and PruneBegan when it was made.
	Prune      Work
	PruneBegan time.Time
}

// The kinds of steps of an archive; Rest, Wait, Begin, Drill, Prune, Redo, RecordDrill and Fail
// are those of a backup.
const (
	// Archive makes the Deployment that archives, or makes it follow the spec.
	Archive Kind = "Archive"
	// StopArchiver has it want no pod.
	StopArchiver Kind = "StopArchiver"
	// RecordPrune writes into status what a Job has deleted.
	RecordPrune Kind = "RecordPrune"
)

// drillAgain is how soon a drill is tried again that failed: what was in its way may have
// been mended, and nobody tells.
const drillAgain = time.Hour

// NextOfArchive names the next step.
func NextOfArchive(o ArchiveObserved) Step {
	if o.Deleting {
		return Step{Kind: Rest}
	}
	if step, halted := halted(o); halted {
		if o.Archiver.State == ArchiverCurrent || o.Archiver.State == ArchiverOutdated {
			step.Kind = StopArchiver
		}
		return step
	}
	switch {
	case o.Archiver.State == ArchiverForeign:
		return Step{Kind: Wait, Reason: v1alpha1.ReasonNameConflict, Message: fmt.Sprintf(
			"Deployment %s belongs to somebody else — it is not touched, and nothing is archived — delete or rename it", o.Archiver.Name)}
	case o.MissingSecret != "" && !o.Archiver.Running:
		return missing(o.MissingSecret)
	case o.MissingClaim != "" && !o.Archiver.Running:
		return missingClaim(o.MissingClaim)
	case o.ClusterUID == "":
		return Step{Kind: Begin, Reason: v1alpha1.ReasonPending, Message: "recording which cluster is archived"}
	case o.Archiver.State != ArchiverCurrent:
		return Step{Kind: Archive, Reason: v1alpha1.ReasonPending, Message: "starting the pod that archives"}
	}
	if step, due := drillStep(o); due {
		return step
	}
	if step, due := pruneStep(o); due {
		return step
	}
	return Step{Kind: Wait, Reason: v1alpha1.ReasonArchiving}
}

// halted says why nothing is to be archived. A cluster of the same name that came later
// holds other data: archived as this one, it would be restored one day as what it is not.
func halted(o ArchiveObserved) (Step, bool) {
	switch {
	case o.ClusterUID != "" && o.Cluster.UID != "" && o.Cluster.UID != o.ClusterUID:
		return Step{Kind: Fail, Reason: v1alpha1.ReasonClusterReplaced, Message: fmt.Sprintf(
			"EtcdCluster %s with the UID %s, which was archived, is gone — another one of its name holds other data — create another EtcdArchive for that", o.Cluster.Name, o.ClusterUID)}, true
	case o.Suspend:
		return Step{Kind: Wait, Reason: v1alpha1.ReasonSuspended, Message: "spec.suspend is true: nothing is archived"}, true
	case o.Cluster.UID == "":
		return Step{Kind: Wait, Reason: v1alpha1.ReasonClusterNotFound, Message: fmt.Sprintf(
			"there is no EtcdCluster %s in this namespace — there is nothing to archive — create it, or name another one in spec.clusterRef of another EtcdArchive", o.Cluster.Name)}, true
	case !o.Cluster.Founded:
		return Step{Kind: Wait, Reason: v1alpha1.ReasonClusterNotFounded, Message: fmt.Sprintf(
			"EtcdCluster %s has not been founded yet — there is nothing to archive — see why: kubectl describe ec %s", o.Cluster.Name, o.Cluster.Name)}, o.Archiver.State == ArchiverAbsent || o.Archiver.State == ArchiverStopped
	}
	return Step{}, false
}

// drillStep is what there is to do for a drill. A Job that was made before the last drill
// ended is that drill's.
func drillStep(o ArchiveObserved) (Step, bool) {
	told := o.LastDrill.IsZero() || o.DrillBegan.After(o.LastDrill)
	ended := o.Drill.State == WorkSucceeded || o.Drill.State == WorkFailed
	switch {
	case o.Drill.State == WorkForeign:
		return Step{}, false // it stands in the way of the drill alone, and is told there
	case ended && told && o.DrillOf != "" && o.DrillJobOf != o.DrillOf:
		return Step{Kind: Redo, Operation: snapshot.OperationDrillArchive, Reason: v1alpha1.ReasonVerifying, Message: "the drill that has ended is of what was archived before; it is made again"}, true
	case o.Drill.State == WorkSucceeded && told && o.Drill.Result == nil:
		return Step{Kind: Redo, Operation: snapshot.OperationDrillArchive, Reason: v1alpha1.ReasonVerifying, Message: "the drill has ended and its result is lost; it is made again"}, true
	case ended && told:
		return Step{Kind: RecordDrill, Operation: snapshot.OperationDrillArchive, Reason: v1alpha1.ReasonVerified, Message: "recording what the drill found"}, true
	case o.Drill.State == WorkRunning || !drillDue(o):
		return Step{}, false
	case o.Drill.State != WorkAbsent:
		return Step{Kind: Redo, Operation: snapshot.OperationDrillArchive, Reason: v1alpha1.ReasonVerifying, Message: "making room for the next drill"}, true
	}
	return Step{Kind: Drill, Operation: snapshot.OperationDrillArchive, Reason: v1alpha1.ReasonVerifying, Message: "starting the Job that restores the archive on trial and compares it with the cluster"}, true
}

// drillDue: an archive without a base cannot be restored, which is told without a drill; and
// without a cluster that serves there is nothing to compare with. What differs will again, as
// the archive is not written anew, unless another base has been taken since; all else is worth
// another try soon, as nobody should have to wait for a week until what is mended is said to be.
func drillDue(o ArchiveObserved) bool {
	p := o.Archiver.Progress
	if o.DrillEvery <= 0 || !o.Cluster.Founded || p == nil || p.Trouble != nil || p.BaseMissing || p.Revision == 0 {
		return false
	}
	if moved(o) {
		return !o.Archiver.Rolling
	}
	if o.LastDrill.IsZero() {
		return true
	}
	pause := o.DrillEvery
	rebased := snapshot.BeganOf(p.Base).After(o.LastDrill)
	if o.DrillFailure != "" && (o.DrillFailure != snapshot.ReasonDiffers || rebased) {
		pause = min(pause, drillAgain)
	}
	return !o.Now.Before(o.LastDrill.Add(pause))
}

// drilled says that the result is one of a drill of an archive that has found it good, and
// says all that status needs.
func drilled(w Work) bool {
	r := w.Result
	return w.State == WorkSucceeded && r != nil && r.Operation == snapshot.OperationDrillArchive && r.Outcome == snapshot.OutcomeSucceeded &&
		r.Point != nil && r.Verification != nil
}

// Lag is how far the archive is behind, as far as is known: what the archiver tells, or
// else what it told last.
func (o ArchiveObserved) Lag() time.Duration {
	until := o.Until
	if until.IsZero() {
		until = o.Created
	}
	if p := o.Archiver.Progress; p != nil && p.Until.After(until) {
		until = p.Until
	}
	return max(0, o.Now.Sub(until))
}
