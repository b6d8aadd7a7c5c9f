package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Recovery is the user's word that a cluster is to go on with a backup, or with a copy of a
// survivor's volume: one that has lost its quorum for good, or one that an EtcdRestore carries
// back while it serves.
type Recovery struct {
	// Backup that the new incarnation begins with; empty if it is a survivor's volume.
	Backup string
	// Survivor is the member whose volume is copied; empty if it is a backup.
	Survivor string
	// BackupID is its ID in the store, below BackupClusterUID, and BackupRevision the last
	// revision that it holds for certain.
	BackupID, BackupClusterUID string
	BackupRevision             int64
	// Blocked says why it cannot be restored; empty if it can.
	Blocked string
	// Told says that status has told of the lost quorum for long enough.
	Told bool
	// Obeyed says that status names the word of spec.recovery, so that members may have been
	// stopped for it.
	Obeyed bool
	// Reads names what a Job has to have read before that, and with what; Secrets are the
	// versions of those that it would read with now. Look is how far that is.
	Reads, Secrets string
	Look           Look
	// Restore is the EtcdRestore whose word it is, by name and UID; empty if it is that of
	// spec.recovery.
	Restore, RestoreUID string
	// Safety is the backup that it has taken first, and SafetyRevision what that holds for
	// certain; empty if it goes without.
	Safety         string
	SafetyRevision int64
	// Begun says that status names that EtcdRestore, so that members may have been stopped
	// for it.
	Begun bool
	// Late says why it is too late to begin with it; empty if it is not.
	Late string
}

// Look is what is known of the backup that spec.recovery names by a Job that reads it to its
// end, from the store and with the Secrets that the new members will use: what was found of it
// before may be of last year. An EtcdRestore has one of its own.
type Look struct {
	// Due says that nobody reads it.
	Due bool
	// Done says that it was read to its end, and not long ago.
	Done bool
	// Failed says why it cannot be read; empty if that is not known.
	Failed string
	// Waits says how far the Job is.
	Waits string
}

// looked says that nothing has to be read any more before members are stopped. Once some were
// nobody asks again: whoever carries it on would start them meanwhile.
func (r Recovery) looked() bool { return r.Survivor != "" || r.Obeyed || r.Look.Done }

// Word names the word for messages.
func (r Recovery) Word() string {
	if r.Restore != "" {
		return "EtcdRestore " + r.Restore
	}
	return "spec.recovery"
}

// RestoreHeld says why the EtcdRestore is not carried out now; empty if it is, or if there
// is none. What is in the middle of a step that must come to its end is waited for, until
// members are stopped; a backup that cannot be restored any more brings the old members
// back even then.
func (o Observed) RestoreHeld() string {
	r := o.Recovery
	if r == nil || r.Restore == "" {
		return ""
	}
	_, learning := o.learner()
	switch {
	case o.ClusterID == 0:
		return "the cluster is not founded — there is nothing to carry back — wait until it is"
	case r.Blocked != "":
		return r.Blocked
	case o.InMemory:
		return "spec.storage.medium is Memory — a backup is restored onto volumes, before etcd runs, and the new incarnation would begin empty — set it to Disk"
	case o.Paused, o.Planned:
		return "the cluster is paused, or only its plan is asked for — nothing of it is changed meanwhile — set spec.paused to false, and take the annotation etcd.quorate.dev/plan away"
	case r.Begun:
		return ""
	case r.Late != "":
		return r.Late
	case !o.List:
		// What is asked below is read from the list: an empty one would answer for none.
		return "etcd's member list was not confirmed by a majority in this look — a member that joins, others' members and a downgrade would be overlooked, and nobody is stopped on that — see why members do not answer; if the quorum is lost for good, go on with the backup by spec.recovery"
	case o.Downgrade != "" || o.DowngradeBegun != "":
		return "the members are being downgraded — stopped half way, the old ones might open their data with neither release — wait until that is over, or cancel it by setting spec.version back"
	case o.Joiner != "" || learning:
		return "a member is about to join — the old members are to be complete when they are kept — wait until it votes or is given up"
	case o.TLS && o.PlaintextPeers:
		return "the members are being turned to TLS — stopped half way, they might not find each other again — wait until all of them are reached with it"
	case o.volatile():
		return "a member has its data in memory — with its pod it would be gone, and there would be no way back — wait until all of them are on volumes"
	case len(o.ForeignMembers) > 0:
		return fmt.Sprintf("%s of etcd's list are not members of this EtcdCluster — they would go on as the old cluster beside the new one — remove them", strings.Join(o.ForeignMembers, ", "))
	case o.ComingLack != nil:
		return fmt.Sprintf("%s — the members would be stopped, and %s, which begin the next incarnation, could not start — %s, or delete EtcdRestore %s",
			o.ComingLack.What, abbreviate(o.Coming), o.ComingLack.Do, r.Restore)
	case o.VolumeLack != nil:
		return fmt.Sprintf("%s — the members would be stopped, and those of the next incarnation would have no volumes — %s, or delete EtcdRestore %s",
			o.VolumeLack.What, o.VolumeLack.Do, r.Restore)
	default:
		return ""
	}
}

// restore is the same for a cluster that serves, on the word of an EtcdRestore: status
// names it before anybody is stopped.
func restore(o Observed) (Step, bool) {
	r := o.Recovery
	switch {
	case r == nil || r.Restore == "" || o.ClusterID == 0 || o.RestoreHeld() != "":
		// As if it had not been said: whoever was stopped for it is started again on its
		// volume.
		return Step{}, false
	case !r.Begun:
		return Step{Kind: LatchRestore, Reason: "Restoring", Message: fmt.Sprintf(
			"the members are stopped next, and the cluster goes on with backup %s, as %s says: until the new incarnation has begun the way back is to delete that", r.Backup, r.Word())}, true
	default:
		return o.replaceIncarnation("Restoring", "RestoreBlocked"), true
	}
}

// recovery gives an incarnation up, on the user's word alone, and begins the next one with
// a backup, or with a copy of a survivor's volume. While a quorum answers there is nothing to
// recover. First the backup is read, then all of the old one is
// stopped, and until that is over the way back is to take the word back. The next one begins only
// when a majority of the old voters is confirmed to have stopped: those that may still run
// somewhere are no quorum, and what they hold is never mixed with the new. The old volumes
// stay as they are.
func recovery(o Observed) (Step, bool) {
	if !o.recoveryCounts() || o.wordBlocked() != "" {
		// Also as if it had not been said: pods start on their volumes, and the quorum may
		// return.
		return Step{}, false
	}
	return o.obey()
}

// obey the word of spec.recovery, after a look at the backup.
func (o Observed) obey() (Step, bool) {
	r := o.Recovery
	switch {
	case r.looked():
		return o.replaceIncarnation("Recovering", "RecoveryBlocked"), true
	case r.Look.Due:
		return Step{Kind: CheckBackup, Reason: "Looking", Message: fmt.Sprintf(
			"backup %s, which spec.recovery names, is read to its end as the new members would read it; nothing is stopped before it has been", r.Backup)}, true
	default:
		// Members go on meanwhile, and those that are missing are started: the quorum may return.
		return Step{}, false
	}
}

// Looking says how far the look at the backup is which spec.recovery waits for; empty if it
// waits for none.
func (o Observed) Looking() string {
	if (!o.recoveryCounts() && !o.unborn()) || o.wordBlocked() != "" || o.Recovery.looked() {
		return ""
	}
	return fmt.Sprintf("reading the backup %s to its end before anything is stopped for spec.recovery: %s", o.Recovery.Backup, cmp.Or(o.Recovery.Look.Waits, "a Job is started for it"))
}

// dropCheck lets the Job go that has read a backup, once its word was obeyed, was taken back
// or is another one, or when what it has found counts no more.
func dropCheck(o Observed) (Step, bool) {
	return Step{Kind: DropCheck, Reason: "Repairing", Message: "deleting the Job that read a backup for spec.recovery: what it found is not needed, or counts no more"}, o.SpentCheck != ""
}

// replaceIncarnation stops the old members, and begins with the new ones once no quorum of
// the old can run any more.
func (o Observed) replaceIncarnation(doing, blocked string) Step {
	r := o.Recovery
	running := names(o.Members, func(m Member) bool { return m.Pod != PodAbsent && m.Pod != PodTerminating })
	going := names(o.Members, func(m Member) bool { return m.Pod == PodTerminating })
	lost := names(o.Members, func(m Member) bool { return m.Pod == PodTerminating && m.NodeDown })
	unsure := names(o.Members, func(m Member) bool { return !m.Joiner && !m.stopped() })
	switch {
	case len(running) > 0:
		return Step{Kind: StopIncarnation, Members: running, Reason: doing, Message: fmt.Sprintf(
			"incarnation %d is given up as %s says: %s stopped, and the volumes are kept", o.Incarnation, r.Word(), podsAre(running))}
	case len(going) > 0 && len(lost) > 0:
		return Step{Kind: Wait, Members: lost, Reason: blocked, Message: fmt.Sprintf(
			"%s cannot be seen to end: the node is not Ready — it may still run, and the old members be a quorum again beside the new ones — bring the node back, or taint it as out-of-service when it is down",
			podsOf(lost))}
	case len(going) > 0:
		return Step{Kind: Wait, Members: going, Reason: doing, Message: "the new incarnation begins when " + podsOf(going) + per(going, " has", " have") + " stopped"}
	case !o.Over(Member.stopped):
		return Step{Kind: Wait, Members: unsure, Reason: blocked, Message: fmt.Sprintf(
			"%s may still run on a node that is not Ready — with it the old members could be a quorum again, beside the new ones — bring the node back, or taint it as out-of-service when it is down",
			strings.Join(unsure, ", "))}
	case slices.Contains(unsure, r.Survivor):
		return Step{Kind: Wait, Members: []string{r.Survivor}, Reason: blocked, Message: fmt.Sprintf(
			"%s may still run on a node that is not Ready — its volume would be copied while etcd writes it — bring the node back, or taint it as out-of-service when it is down", r.Survivor)}
	case r.Survivor != "":
		m, _ := o.Member(r.Survivor)
		return Step{Kind: RaiseIncarnation, Members: names(o.Members, func(Member) bool { return true }), Reason: doing, Message: fmt.Sprintf(
			"incarnation %d begins with a copy of the volume of %s, which has come to %s, as %s says: %s; it begins with one member and grows to %d, and the volumes of incarnation %d are kept",
			o.Incarnation+1, r.Survivor, m.Position, r.Word(), o.PossibleLoss(), o.Size, o.Incarnation)}
	default:
		return Step{Kind: RaiseIncarnation, Members: names(o.Members, func(Member) bool { return true }), Reason: doing, Message: fmt.Sprintf(
			"incarnation %d begins with backup %s, as %s says: %s, and the volumes of incarnation %d are kept", o.Incarnation+1, r.Backup, r.Word(), o.PossibleLoss(), o.Incarnation)}
	}
}

// RecoveryHeld says why spec.recovery is not obeyed although the quorum is lost; empty if it
// is, or if there is none.
func (o Observed) RecoveryHeld() string {
	if !o.recoveryCounts() && !o.unborn() {
		return ""
	}
	return o.wordBlocked()
}

// wordBlocked says why what spec.recovery wants cannot be gone on with.
func (o Observed) wordBlocked() string {
	if o.Recovery.Blocked != "" {
		return o.Recovery.Blocked
	}
	if failed := o.Recovery.Look.Failed; failed != "" {
		return failed
	}
	if who := o.InPods(); len(who) > 0 {
		return fmt.Sprintf("the data of %s is in the memory of %s — the incarnation is stopped before the next one begins, and what may be the newest data would be gone for good — save it (etcdctl snapshot save), then delete %s; or take spec.recovery away",
			strings.Join(who, ", "), per(who, "its pod", "their pods"), per(who, "that pod", "those pods"))
	}
	return o.survivorBlocked()
}

// again gives an incarnation up that began with a backup and never came to be, on another
// word of the user: else nothing but a new cluster would be left. One of whose members any
// sign of life was seen is no such one.
func again(o Observed) (Step, bool) {
	if !o.unborn() || o.wordBlocked() != "" {
		return Step{}, false
	}
	return o.obey()
}

// unborn says that the incarnation began with a backup, that nothing of it has ever served,
// and that the user wants another one.
func (o Observed) unborn() bool {
	r := o.Recovery
	lived := slices.ContainsFunc(o.Members, func(m Member) bool { return m.Booted || m.PodReady || m.Answers || m.Started })
	return r != nil && r.Restore == "" && r.Told && o.Incarnation > 1 && !o.Founded() && !lived && !o.List && !o.ReadOK
}

// recoveryCounts says that the quorum is lost, by what was told for long enough, and that
// spec.recovery answers that.
func (o Observed) recoveryCounts() bool {
	r := o.Recovery
	return r != nil && r.Restore == "" && o.ClusterID != 0 && !o.List && !o.ReadOK && r.Told
}

// Over says that the members of the incarnation can be a quorum no more, going by who has
// stopped: a majority of those that vote, and a majority of all that are known. Learners and
// removed members that have stopped say nothing of a quorum. Who voted last is what status
// tells, and a change of one member may not have come to be written there.
func (o Observed) Over(stopped func(Member) bool) bool {
	// Of others' members nobody knows whether they have stopped.
	voters, all := len(o.ForeignMembers), len(o.ForeignMembers)
	votersStopped, allStopped := 0, 0
	for _, m := range o.Members {
		if m.Joiner {
			continue
		}
		all++
		votes, ends := m.Voter() || (!o.List && !m.LastNoVoter), stopped(m)
		if votes {
			voters++
		}
		if ends {
			allStopped++
		}
		if votes && ends {
			votersStopped++
		}
	}
	return votersStopped >= Majority(voters) && allStopped >= Majority(all)
}

// stopped says that no process of the member runs.
func (m Member) stopped() bool { return m.Pod == PodAbsent && !m.RunningElsewhere }

func podsAre(who []string) string { return podsOf(who) + per(who, " is", " are") }
