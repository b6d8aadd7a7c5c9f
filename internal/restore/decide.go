// Package restore is the policy of restores in place: what is next for an EtcdRestore, and
// what users read of it. It is pure: no client and no clock. It prepares; the cluster's own
// policy stops the members and begins the new incarnation.
package restore

import (
	"fmt"
	"time"

	"github.com/quorate/quorate/api/v1alpha1"
)

// Cluster is the EtcdCluster that a restore names, as it is now.
type Cluster struct {
	// Name that the spec gives, whether there is one or not.
	Name string
	// UID is empty while there is none of that name.
	UID string
	// Incarnation that it is in.
	Incarnation int64
	// Founded says that there is data to carry back.
	Founded bool
	// InMemory says that its members have no volumes.
	InMemory bool
	// Paused says that nothing of it is changed.
	Paused bool
	// Raised says that its incarnation began with this restore, RaisedAt when.
	Raised   bool
	RaisedAt time.Time
	// Floor is the least revision that its incarnation begins with.
	Floor int64
	// Serves says that a read has succeeded.
	Serves bool
	// Message says what it does for this restore, or waits for; empty while it does not know
	// of it.
	Message string
	// Held says that Message is what it waits for before it stops anybody, or anybody again.
	Held bool
	// Old are the claims of the incarnation that was given up.
	Old []string
}

// Safety is the EtcdBackup that is taken first.
type Safety struct {
	// Name that it has, or is to have.
	Name string
	// Exists says that there is one of that name, and Foreign that it is somebody else's.
	Exists, Foreign bool
	// Complete, Verified and Failed are what its status says, and Message the sentence.
	Complete, Verified, Failed bool
	Message                    string
	// Revision that it holds, Began when it was begun and Ready since when it is complete, and
	// was tried out if it is to be.
	Revision     int64
	Began, Ready time.Time
}

// Look is the Job that reads the backup to its end before anybody is stopped for it, from the
// store and with the Secrets that the new members will use: what was found of it before may be
// of last year.
type Look struct {
	// Job that it is, or is to be.
	Job string
	// Exists says that there is one of that name, and Foreign that it is somebody else's.
	Exists, Foreign bool
	// Done says that it has read the very backup, Failed that it has given up, and Lost that it
	// has ended and nobody knows how. Message is the sentence.
	Done, Failed, Lost bool
	Message            string
	// Old says that it ended so long ago that it is looked once more.
	Old bool
}

// Observed is one look at an EtcdRestore.
type Observed struct {
	// Skip goes without a safety backup, and Drill tries it out.
	Skip, Drill bool
	// Deleting says that somebody took it back, and Age is how long ago it was created.
	Deleting bool
	Age      time.Duration
	// ClusterUID, Incarnation, Prepared, Done and Failed are what status says.
	ClusterUID             string
	Incarnation            int64
	Prepared, Done, Failed bool

	Cluster Cluster
	// Blocked says why the backup cannot be restored; empty if it can.
	Blocked string
	// Revision of the backup, and its ID in the store.
	Revision int64
	BackupID string
	// Ahead is another EtcdRestore of the cluster, which is under way; empty for none.
	Ahead  string
	Look   Look
	Safety Safety
}

// Kind of a step.
type Kind string

// The kinds of steps.
const (
	// Rest: nothing will ever be left to do.
	Rest Kind = "Rest"
	// Wait: nothing to do until the world moves.
	Wait Kind = "Wait"
	// Begin writes into status which incarnation of which cluster is given up.
	Begin Kind = "Begin"
	// LookAtBackup creates the Job that reads the backup, and LookAgain deletes one that has
	// ended, so that it is made anew.
	LookAtBackup Kind = "LookAtBackup"
	LookAgain    Kind = "LookAgain"
	// TakeSafety creates the safety backup.
	TakeSafety Kind = "TakeSafety"
	// Prepare writes into status that members may be stopped.
	Prepare Kind = "Prepare"
	// Finish writes into status that the cluster serves again.
	Finish Kind = "Finish"
	// Fail gives the restore up.
	Fail Kind = "Fail"
)

// Step is the one thing to do next. Message is read by users.
type Step struct {
	Kind Kind
	// Reason is a condition reason.
	Reason  string
	Message string
}

// Looks says whether a step was decided on what a cache may not have heard of yet, so that
// the API server is asked before it is done.
func (s Step) Looks() bool { return s.Kind != Rest && s.Kind != Wait }

// Next names the next step.
func Next(o Observed) Step {
	switch {
	case o.Deleting, o.Failed, o.Done:
		// Of one that is taken back nothing is undone here: the cluster sees that it is gone.
		return Step{Kind: Rest}
	case o.ClusterUID == "":
		return beginning(o)
	case o.Cluster.UID != o.ClusterUID:
		return Step{Kind: Fail, Reason: v1alpha1.ReasonClusterReplaced, Message: fmt.Sprintf(
			"EtcdCluster %s with the UID %s, which was to be carried back, is gone — another one of its name holds other data — create another EtcdRestore for that", o.Cluster.Name, o.ClusterUID)}
	case o.Cluster.Incarnation > o.Incarnation:
		return raised(o)
	case !o.Prepared:
		return preparing(o)
	default:
		return underWay(o)
	}
}

// beginning: nothing is on record yet, and nothing has been done.
func beginning(o Observed) Step {
	wait := Step{Kind: Wait}
	switch {
	case o.Cluster.UID == "":
		wait.Reason, wait.Message = v1alpha1.ReasonClusterNotFound, fmt.Sprintf("there is no EtcdCluster %s in this namespace — there is nothing to carry back — create it with restoreFrom, or name another one in spec.clusterRef of another EtcdRestore", o.Cluster.Name)
	case o.Cluster.InMemory:
		return Step{Kind: Fail, Reason: v1alpha1.ReasonRestoreBlocked, Message: fmt.Sprintf(
			"storage.medium of EtcdCluster %s is Memory — a backup is restored onto volumes, before etcd runs — set it to Disk, and create another EtcdRestore", o.Cluster.Name)}
	case !o.Cluster.Founded:
		wait.Reason, wait.Message = v1alpha1.ReasonClusterNotFounded, fmt.Sprintf("EtcdCluster %s has not been founded yet — there is nothing to carry back — see why: kubectl describe ec %s", o.Cluster.Name, o.Cluster.Name)
	case o.Ahead != "":
		wait.Reason, wait.Message = v1alpha1.ReasonQueued, fmt.Sprintf("EtcdRestore %s of the cluster is under way — this one would carry the cluster back once more when that is over, and give up what is written until then — delete it, unless that is meant", o.Ahead)
	case o.Cluster.Paused:
		wait.Reason, wait.Message = v1alpha1.ReasonPaused, "spec.paused of the cluster is true — nothing of it is changed meanwhile, and a safety backup of today would be old by then — set it to false"
	case o.Blocked != "":
		wait.Reason, wait.Message = v1alpha1.ReasonRestoreBlocked, o.Blocked
	case o.Age > BeginsWithin:
		wait.Reason, wait.Message = v1alpha1.ReasonTimedOut, "what kept it from that is gone only now — the cluster has served since — see its events for what that was"
	default:
		return Step{Kind: Begin, Reason: v1alpha1.ReasonPending, Message: fmt.Sprintf("recording that incarnation %d of the cluster is given up", o.Cluster.Incarnation)}
	}
	return soon(o, wait)
}

// BeginsWithin is how long an EtcdRestore may wait for what keeps it from beginning.
const BeginsWithin = time.Hour

// soon gives up what could not begin, nor can now: an obstacle may be gone long after anybody thinks
// of the restore, such as when a drill verifies its backup weeks later, or the restore that it was
// queued behind is done, and a cluster would be carried back that has served since.
func soon(o Observed, step Step) Step {
	if o.Age <= BeginsWithin {
		step.Message += fmt.Sprintf("; the restore waits, and begins by itself when it can, within %s of its creation: delete it if nobody wants it any more", BeginsWithin)
		return step
	}
	return Step{Kind: Fail, Reason: v1alpha1.ReasonTimedOut, Message: fmt.Sprintf(
		"it could not begin within %s: %s; nothing was stopped, and begun any later it might carry back what nobody wants to lose: when that is mended, create another EtcdRestore", BeginsWithin, step.Message)}
}

// preparing looks at the backup, and takes the safety backup. Until both are done nothing is
// stopped. The safety backup comes last, so that as little as possible is written after it.
func preparing(o Observed) Step {
	s := o.Safety
	switch {
	case s.Foreign && !o.Skip:
		return Step{Kind: Fail, Reason: v1alpha1.ReasonNameConflict, Message: fmt.Sprintf(
			"EtcdBackup %s belongs to somebody else — it may be of any time, and nothing was stopped — create another EtcdRestore of another name", s.Name)}
	case s.Failed && !o.Skip:
		return Step{Kind: Fail, Reason: v1alpha1.ReasonSafetyBackupFailed, Message: fmt.Sprintf(
			"the safety backup %s failed (%s) — what the cluster holds now would be on its old volumes alone, so nothing was stopped — mend that and create another EtcdRestore, or one with safetyBackup.policy Skip", s.Name, s.Message)}
	case o.Blocked != "":
		return soon(o, Step{Kind: Wait, Reason: v1alpha1.ReasonRestoreBlocked, Message: o.Blocked})
	case !o.Look.Done:
		return looking(o.Look)
	case o.Look.Old && o.safe():
		return Step{Kind: LookAgain, Reason: v1alpha1.ReasonLooking, Message: "the backup was read too long ago, and is read once more before anybody is stopped for it"}
	case o.Skip:
		return Step{Kind: Prepare, Reason: v1alpha1.ReasonPrepared, Message: "no safety backup is taken, as safetyBackup.policy says: what the cluster holds now stays on its old volumes alone"}
	case !s.Exists:
		return Step{Kind: TakeSafety, Reason: v1alpha1.ReasonSafetyBackup, Message: fmt.Sprintf("the safety backup %s is taken first; nothing is stopped before it is there", s.Name)}
	case s.Complete && (s.Verified || !o.Drill):
		return Step{Kind: Prepare, Reason: v1alpha1.ReasonPrepared, Message: fmt.Sprintf(
			"the safety backup %s is of revision %d, begun at %s: what is acknowledged later, until the members have stopped, stays on the old volumes alone", s.Name, s.Revision, s.Began.UTC().Format(time.RFC3339))}
	default:
		return Step{Kind: Wait, Reason: v1alpha1.ReasonSafetyBackup, Message: fmt.Sprintf("waiting for the safety backup %s; nothing is stopped before it is there: %s", s.Name, s.Message)}
	}
}

// safe says that the safety backup is as it is to be, or not wanted.
func (o Observed) safe() bool {
	s := o.Safety
	return o.Skip || (s.Complete && (s.Verified || !o.Drill))
}

// looking at a backup that nobody has read yet for this restore.
func looking(l Look) Step {
	step := Step{Kind: Wait, Reason: v1alpha1.ReasonLooking}
	switch {
	case l.Foreign:
		step.Reason, step.Message = v1alpha1.ReasonNameConflict, fmt.Sprintf("Job %s belongs to somebody else — nobody would have looked at the backup, and nothing is stopped — delete or rename it", l.Job)
	case l.Failed:
		step.Kind, step.Reason, step.Message = Fail, v1alpha1.ReasonBackupUnreadable, fmt.Sprintf("nothing was stopped: %s; when that is mended, create another EtcdRestore", l.Message)
	case l.Lost:
		step.Kind, step.Message = LookAgain, "what the Job that read the backup has found is lost, and it is made again"
	case !l.Exists:
		step.Kind, step.Message = LookAtBackup, fmt.Sprintf("the backup is read to its end by Job %s; nothing is stopped before it has been", l.Job)
	default:
		step.Message = fmt.Sprintf("Job %s reads the backup to its end; nothing is stopped before it has been: %s", l.Job, l.Message)
	}
	return step
}

// underWay tells what the cluster does for it.
func underWay(o Observed) Step {
	step := Step{Kind: Wait, Reason: v1alpha1.ReasonRestoring, Message: o.Cluster.Message}
	switch {
	case o.Cluster.Held:
		step.Reason, step.Message = v1alpha1.ReasonRestoreBlocked, "nobody is stopped for it now: "+step.Message
	case step.Message == "":
		step.Message = "the members are stopped next"
	}
	if o.Blocked != "" {
		step.Reason, step.Message = v1alpha1.ReasonRestoreBlocked, o.Blocked
	}
	return step
}

// raised: the incarnation that was to be given up is over, by this restore or not.
func raised(o Observed) Step {
	switch {
	case !o.Prepared || !o.Cluster.Raised:
		return Step{Kind: Fail, Reason: v1alpha1.ReasonSuperseded, Message: fmt.Sprintf(
			"the cluster is in incarnation %d, and this restore was to give up %d — it would carry back what it was not asked for — create another EtcdRestore if it is still wanted", o.Cluster.Incarnation, o.Incarnation)}
	case o.Cluster.Founded && o.Cluster.Serves:
		return Step{Kind: Finish, Reason: v1alpha1.ReasonRestored, Message: fmt.Sprintf(
			"incarnation %d serves the backup of revision %d; the volumes of incarnation %d are kept", o.Cluster.Incarnation, o.Revision, o.Incarnation)}
	default:
		return Step{Kind: Wait, Reason: v1alpha1.ReasonRestoring, Message: fmt.Sprintf(
			"incarnation %d has begun, and its members start with the backup; the volumes of incarnation %d are kept", o.Cluster.Incarnation, o.Incarnation)}
	}
}
