package plan

import (
	"fmt"
	"slices"
	"strings"
)

// Kind of a step.
type Kind string

// The kinds of steps.
const (
	// Settled: all is as it should be.
	Settled Kind = "Settled"
	// Wait: nothing to do until the world moves.
	Wait Kind = "Wait"
	// Pause: the user wants nothing to be changed.
	Pause Kind = "Pause"
	// LatchFounders writes the founders' names into status.
	LatchFounders Kind = "LatchFounders"
	// Adopt takes the volumes of a deleted cluster over, by writing into status who its
	// members were.
	Adopt Kind = "Adopt"
	// LatchRestore writes into status which EtcdRestore the members are to be stopped for.
	LatchRestore Kind = "LatchRestore"
	// CheckBackup has the backup read to its end that spec.recovery names, before anybody is
	// stopped for it.
	CheckBackup Kind = "CheckBackup"
	// DropCheck deletes the Job that did, once nobody needs it or what it found.
	DropCheck Kind = "DropCheck"
	// StopIncarnation deletes the pods of the incarnation that is given up.
	StopIncarnation Kind = "StopIncarnation"
	// RaiseIncarnation begins a new incarnation, whose founders begin with a backup.
	RaiseIncarnation Kind = "RaiseIncarnation"
	// IssueCertificates creates and renews Secrets.
	IssueCertificates Kind = "IssueCertificates"
	// ApplyObjects applies Services, policies and budgets.
	ApplyObjects Kind = "ApplyObjects"
	// CreateVolumes creates the claims of the named members.
	CreateVolumes Kind = "CreateVolumes"
	// UnlatchVolumes takes claims that were never bound off status, so that
	// they may be replaced.
	UnlatchVolumes Kind = "UnlatchVolumes"
	// SetFinalizer makes the finalizer follow storage.whenDeleted.
	SetFinalizer Kind = "SetFinalizer"
	// RestoreLabels puts labels back that somebody took off claims and pods.
	RestoreLabels Kind = "RestoreLabels"
	// ReplaceVolumes deletes claims that were never bound, so that they are
	// made again from the spec.
	ReplaceVolumes Kind = "ReplaceVolumes"
	// RebuildPoint has the point of an archive put together that the founders begin with.
	RebuildPoint Kind = "RebuildPoint"
	// LatchPoint writes into status which backup the founders begin with.
	LatchPoint Kind = "LatchPoint"
	// LatchVolumes writes the UIDs of the founders' claims into status.
	LatchVolumes Kind = "LatchVolumes"
	// StartMembers creates the pods of the named members.
	StartMembers Kind = "StartMembers"
	// DeletePods deletes pods that do not run, so that they are made again.
	DeletePods Kind = "DeletePods"
	// RecordMembers writes member IDs and nodes on claims, and takes back the
	// permission to start on an empty directory.
	RecordMembers Kind = "RecordMembers"
	// RecordRefusals writes on claims that the guard refused their data, and
	// deletes the pods.
	RecordRefusals Kind = "RecordRefusals"
	// LatchCluster writes the cluster ID into status.
	LatchCluster Kind = "LatchCluster"

	// AllotMember takes a name that nothing has ever borne, for a member that
	// is to join.
	AllotMember Kind = "AllotMember"
	// HoldMembers creates pods in which the guard waits for the release.
	HoldMembers Kind = "HoldMembers"
	// AddLearner adds the joiner to etcd and records its ID on its volume.
	AddLearner Kind = "AddLearner"
	// ReleaseMembers lets held members start.
	ReleaseMembers Kind = "ReleaseMembers"
	// Promote makes the learner a voter.
	Promote Kind = "Promote"
	// MoveLeader hands the leadership from the first member to the second.
	MoveLeader Kind = "MoveLeader"
	// RemoveMember removes a member from etcd.
	RemoveMember Kind = "RemoveMember"
	// RestartMember deletes the pod of a member that runs, so that it is made again from
	// the spec.
	RestartMember Kind = "RestartMember"
	// ExpandVolumes asks for larger volumes.
	ExpandVolumes Kind = "ExpandVolumes"
	// ResizePod changes the CPU and memory of a pod while it runs.
	ResizePod Kind = "ResizePod"
	// LatchDowngrade writes into status which minor release the members are to be
	// downgraded to.
	LatchDowngrade Kind = "LatchDowngrade"
	// UpdateMember gives a member a peer URL with TLS.
	UpdateMember Kind = "UpdateMember"
	// EnableDowngrade has etcd prepare its storage for the release before.
	EnableDowngrade Kind = "EnableDowngrade"
	// CancelDowngrade ends that.
	CancelDowngrade Kind = "CancelDowngrade"
	// DropJoiner gives up the name of a member that is not needed any more.
	DropJoiner Kind = "DropJoiner"
	// DiscardMembers deletes what was prepared for a joiner that was dropped.
	DiscardMembers Kind = "DiscardMembers"
	// StopMembers deletes the pods of members that are dead or removed.
	StopMembers Kind = "StopMembers"
	// DeleteVolumes deletes the claims of members that a scale-in removed.
	DeleteVolumes Kind = "DeleteVolumes"
	// QuarantineVolumes marks the claims of other removed members as theirs no
	// more.
	QuarantineVolumes Kind = "QuarantineVolumes"
	// Condemn writes on the claim of a member that runs that its data is wrong.
	Condemn Kind = "Condemn"
	// Compare asks every voter for the hash of its data.
	Compare Kind = "Compare"
	// Compact discards the history that the user does not want.
	Compact Kind = "Compact"
	// Defragment has a member give free space back to its file system.
	Defragment Kind = "Defragment"
	// Disarm ends the alarms of one kind.
	Disarm Kind = "Disarm"
	// DeleteExpired deletes claims whose quarantine is over.
	DeleteExpired Kind = "DeleteExpired"
)

// Step is the one thing to do next. Message is read by users.
type Step struct {
	Kind Kind
	// Members that the step is about, in order.
	Members []string
	// ID is the member ID that a membership change is about; zero for none.
	ID uint64
	// Alarm is the kind of alarm that the step is about; empty for none.
	Alarm string
	// Reason is a condition reason.
	Reason string
	// Operation is the reason of the work that the step is part of, where Reason says
	// what holds it up.
	Operation string
	// Message says what is done or waited for, and why.
	Message string
}

// A rule answers with a step, or leaves the decision to the next one.
type rule func(Observed) (Step, bool)

// founding rules: what is known is put on record before anything else, so that
// nothing that fails further down can keep the latch open. What a cluster needs
// before anything of it runs comes next; then volumes, then the record of which
// volumes they are, then pods. Pods come last because from the first pod on a
// volume may hold data.
var founding = []rule{
	paused, planned, adopt, latchFounders, restoreLabels, refused, recordMembers, latchCluster, again,
	dropCheck, setFinalizer, deleteEnded, issueCertificates, applyObjects, nameTaken,
	uncertified, restorePoint, restoreBlocked, restartOutdated, replaceUnbound, optionTrouble, createVolumes, latchVolumes, startFounders, waitForFounders,
}

// running rules: after what must be on record, bring back what is missing, for
// each second without a member is a second closer to losing quorum; a budget or
// a certificate that cannot be written must not stand in the way of that. Who is
// a member changes only after that.
var running = slices.Concat([]rule{
	paused, planned, restoreLabels, restore, recovery, refused, corrupt, recordMembers, equip, relatchVolumes, relatch, deleteEnded, startMissing, restartOutdated, restartBlind,
	dropCheck, setFinalizer, issueCertificates, applyObjects, resize, expand,
}, tendingFirst, []rule{rollUnwell, rollSilent}, membership, []rule{dataMissing, waitForMembers, waitForLatch, waitForWrites}, mending,
	[]rule{deleteExpired}, rolling, tending, []rule{volumesWait, resizeWait})

// Next names the next step. It is total: when no rule answers, all is well.
func Next(o Observed) Step {
	o = o.asItStands().displace()
	rules := founding
	if o.Founded() && len(o.Founders) > 0 {
		rules = running
	}
	// A pointer to the step would put that of every rule on the heap, in each look.
	var skipped Step
	skips := false
	for _, rule := range rules {
		step, ok := rule(o)
		switch {
		case !ok:
		case slices.Contains(o.Skip, step.Kind) && !skips && step.Kind.housekeeping():
			skipped, skips = step, true
		case skips && step.Kind == Wait:
			return skipped
		default:
			return o.serving(step)
		}
	}
	if skips {
		return skipped
	}
	message := fmt.Sprintf("all %d members are healthy", len(o.Members))
	if len(o.Members) == 1 {
		message = "the only member is healthy"
	}
	return Step{Kind: Settled, Reason: "Healthy", Message: message}
}

// serving says what a repair is part of: the summary of a cluster that grows is
// Growing, whatever is done for it.
func (o Observed) serving(step Step) Step {
	repair := step.Reason == "Repairing" || step.Reason == "Degraded"
	switch {
	case step.Reason == "Repairing" && o.Quorate() && o.changing():
		step.Reason = o.direction()
	case repair && o.serves() && o.Operation != "":
		step.Reason = o.Operation
	}
	return step
}

// housekeeping steps are not what another step builds upon; nor are the pods that
// a quota refuses, which a smaller cluster may be the cure for; nor is a Job that is refused
// a reason to leave members down.
func (k Kind) housekeeping() bool {
	return k == RestoreLabels || k == SetFinalizer || k == IssueCertificates || k == ApplyObjects || k == StartMembers ||
		k == ExpandVolumes || k == ResizePod || k == CheckBackup || k == DropCheck
}

func paused(o Observed) (Step, bool) {
	return Step{Kind: Pause, Reason: "Paused", Message: "spec.paused is true: nothing is changed until it is false"}, o.Paused
}

// planned does nothing but tell of it.
func planned(o Observed) (Step, bool) {
	return Step{Kind: Pause, Reason: "Planned", Message: "status.plan says what would be done, and nothing is, until the annotation etcd.quorate.dev/plan is taken away"},
		o.Planned
}

// latchFounders fixes who founds before anything is created, so that a second
// operator, or this one after a crash, founds the same cluster and no other.
func latchFounders(o Observed) (Step, bool) {
	if len(o.Founders) > 0 {
		return Step{}, false
	}
	found := o.FounderNames
	if len(o.RecoveredFounders) > 0 {
		found = o.RecoveredFounders
	} else if o.Founded() {
		return Step{Kind: Wait, Reason: "DataMissing", Message: fmt.Sprintf(
			"cluster %x was founded, and neither status nor any volume names its founders — founding again would make a second, empty cluster — bring its volumes back, or create a new cluster", o.ClusterID)}, true
	}
	return Step{
		Kind: LatchFounders, Members: found, Reason: "Founding",
		Message: fmt.Sprintf("founding with %s", strings.Join(found, ", ")),
	}, true
}

// restoreLabels comes before whatever is done to a member: nothing of it is touched
// that does not carry its identity, and what is being stopped would come to a halt half way.
func restoreLabels(o Observed) (Step, bool) {
	who := names(o.Members, func(m Member) bool { return m.Mislabelled })
	return Step{
		Kind: RestoreLabels, Members: who, Reason: "Repairing",
		Message: fmt.Sprintf("labels of the claims or pods of %s were changed by somebody else — a member is known by them, and would be replaced without — they are put back",
			strings.Join(who, ", ")),
	}, len(who) > 0
}

// refused keeps a member whose data is missing or foreign down: on the claim
// it survives the pod, which would otherwise be made and refused for ever.
func refused(o Observed) (Step, bool) {
	who := names(o.Members, func(m Member) bool { return m.Refusal != "" && !m.refusedBlindly(o) })
	return Step{
		Kind: RecordRefusals, Members: who, Reason: "DataMissing",
		Message: fmt.Sprintf("the data of %s is missing or foreign and must not be started", strings.Join(who, ", ")),
	}, len(who) > 0
}

// deleteEnded clears the way for new pods: a Failed or evicted pod keeps its
// name and never runs again.
func deleteEnded(o Observed) (Step, bool) {
	who := names(o.Members, func(m Member) bool { return m.Pod == PodEnded && !m.PodFresh })
	return Step{
		Kind: DeletePods, Members: who, Reason: "Repairing",
		Message: fmt.Sprintf("%s %s ended and %s made again", podsOf(who), per(who, "has", "have"), per(who, "is", "are")),
	}, len(who) > 0
}

func issueCertificates(o Observed) (Step, bool) {
	return Step{
		Kind: IssueCertificates, Reason: "Repairing",
		Message: fmt.Sprintf("issuing %s", abbreviate(o.CertificatesDue)),
	}, len(o.CertificatesDue) > 0
}

func applyObjects(o Observed) (Step, bool) {
	return Step{
		Kind: ApplyObjects, Reason: "Repairing",
		Message: fmt.Sprintf("applying %s", abbreviate(o.ObjectsDue)),
	}, len(o.ObjectsDue) > 0
}

// nameTaken founds nothing beside an object of somebody else that bears a name
// of ours: pods would start with a Secret that a namesake left behind, and keep
// its authorities until they restart.
func nameTaken(o Observed) (Step, bool) {
	i := slices.IndexFunc(o.Problems, func(p Problem) bool { return p.Reason == "NameConflict" })
	if i < 0 {
		return Step{}, false
	}
	return Step{Kind: Wait, Reason: o.Problems[i].Reason, Message: o.Problems[i].Message}, true
}

// uncertified founds nothing that could not start: a kubelet that has waited for a Secret
// comes back to it after minutes, and the user would look at pods that hang, not at why.
// What waits beside others that run is left to come up when it can.
func uncertified(o Observed) (Step, bool) {
	if !o.Uncertified || len(o.TLSProblems) == 0 || slices.ContainsFunc(o.Members, func(m Member) bool { return m.Pod != PodAbsent }) {
		return Step{}, false
	}
	return Step{Kind: Wait, Reason: o.TLSProblems[0].Reason, Message: o.TLSProblems[0].Message}, true
}

// restorePoint makes no volume either before it is on record which backup the cluster begins
// with: founders that each put the point of an archive together would begin with different
// leases, and an EtcdBackup may be made anew between two of them.
func restorePoint(o Observed) (Step, bool) {
	switch p := o.Point; {
	case p == nil:
		return Step{}, false
	case p.BackupID != "":
		return Step{Kind: LatchPoint, Reason: "Restoring", Message: fmt.Sprintf("the cluster begins with backup %s, which every founder's volume is filled from", p.BackupID)}, true
	case p.Due:
		return Step{Kind: RebuildPoint, Reason: "Restoring", Message: "starting the Job that puts the point of the archive together, once for all founders"}, true
	default:
		// Founders that run are left alone: they have what they need.
		return Step{Kind: Wait, Reason: "Restoring", Message: p.Waits}, !slices.ContainsFunc(o.Members, func(m Member) bool { return m.Pod != PodAbsent })
	}
}

// restoreBlocked makes no volume and starts nobody while the backup that the cluster
// begins with cannot be restored: some founders would begin with it, and others wait
// for ever. Founders that run are left alone: they have what they need.
func restoreBlocked(o Observed) (Step, bool) {
	i := slices.IndexFunc(o.Problems, func(p Problem) bool { return p.Reason == "RestoreBlocked" })
	if i < 0 || slices.ContainsFunc(o.Members, func(m Member) bool { return m.Pod != PodAbsent }) {
		return Step{}, false
	}
	return Step{Kind: Wait, Reason: o.Problems[i].Reason, Message: o.Problems[i].Message}, true
}

// replaceUnbound lets a founder's claim follow the spec while it is not bound:
// it has never held data, and a wrong storage class is mended by an edit.
// It is taken off the record first: a crash in between leaves a claim that is
// not on record, which is recorded or replaced again. And a pod that was made
// for it is gone before: it would start on the next claim, and mark the volume
// with the UID of this one.
func replaceUnbound(o Observed) (Step, bool) {
	outdated := func(m Member) bool {
		return m.Volume == VolumePending && m.VolumeOutdated && m.Founder && m.Pod != PodRunning && m.Pod != PodTerminating
	}
	kind, who := UnlatchVolumes, names(o.Members, func(m Member) bool { return outdated(m) && m.VolumeLatched })
	if len(who) == 0 {
		kind, who = ReplaceVolumes, names(o.Members, outdated)
	}
	return Step{
		Kind: kind, Members: who, Reason: "Founding",
		Message: fmt.Sprintf("the claims of %s were never bound and are made again from the spec", strings.Join(who, ", ")),
	}, len(who) > 0
}

func setFinalizer(o Observed) (Step, bool) {
	return Step{Kind: SetFinalizer, Reason: "Repairing", Message: "making the finalizer follow spec.storage.whenDeleted"}, o.FinalizerDue
}

// createVolumes makes the founders' claims. Once status names a volume, its
// absence is a loss: a member may have run on it, so it is never made again.
// (That etcd's list shows a founder as not started does not prove the contrary:
// it votes from its first boot, and is listed as started once it has published
// itself.) A volume that status does not name has never had a pod, unless status
// was lost: then it names no volume at all, and pods of ours run.
func createVolumes(o Observed) (Step, bool) {
	trusted := slices.ContainsFunc(o.Members, func(m Member) bool { return m.VolumeLatched }) ||
		!slices.ContainsFunc(o.Members, func(m Member) bool { return m.Pod == PodRunning })
	who := names(o.Members, func(m Member) bool {
		return m.Volume == VolumeAbsent && m.Founder && trusted && !m.VolumeLatched
	})
	return Step{
		Kind: CreateVolumes, Members: who, Reason: "Founding",
		Message: fmt.Sprintf("creating the volumes of %s", strings.Join(who, ", ")),
	}, len(who) > 0
}

// latchVolumes is written before the first pod: a volume that status names may
// hold data, one that it does not name cannot. One that is on its way out is
// waited for: it would have to be taken off the record again.
func latchVolumes(o Observed) (Step, bool) {
	complete := !slices.ContainsFunc(o.Members, func(m Member) bool {
		return m.Founder && !m.VolumeLatched && (m.Volume == VolumeAbsent || m.Volume == VolumeTerminating)
	})
	return Step{Kind: LatchVolumes, Members: o.Founders, Reason: "Founding", Message: "recording the founders' volumes"},
		complete && !o.VolumesLatched
}

// startFounders starts all founders at once: with one identical member list
// none has to wait for another.
func startFounders(o Observed) (Step, bool) {
	return start(o, "Founding", func(who []string) string { return "starting " + strings.Join(who, ", ") })
}

// startMissing brings back every missing pod whose volume is there, all at
// once, without a membership change: waiting for one after the other would
// deadlock when the quorum itself is missing.
func startMissing(o Observed) (Step, bool) {
	return start(o, "Repairing", func(who []string) string {
		return podsOf(who) + per(who, " is missing and is made again on its volume", " are missing and are made again on their volumes")
	})
}

func start(o Observed, reason string, message func(who []string) string) (Step, bool) {
	who := names(o.Members, func(m Member) bool { return m.startable(o) })
	return Step{Kind: StartMembers, Members: who, Reason: reason, Message: message(who)}, len(who) > 0
}

// restartOutdated lets pods that do not run follow the spec, so that a wrong
// image or selector is mended by an edit. A pod that runs is never touched
// here: that is a roll, with gates of its own. Nor is the pod of a member that was
// removed: it is not made again, and its certificates go with it.
func restartOutdated(o Observed) (Step, bool) {
	who := names(o.Members, func(m Member) bool {
		idle := m.Pod == PodWaiting || (m.Held && !m.Started && !m.Booted)
		// Between two runs of its container a pod has the data that is in its memory.
		return idle && m.Pod.mayRun() && m.PodOutdated && !m.inPod() && !o.lastToBegin(m) && !o.stranded() && !o.Removed(m)
	})
	return Step{
		Kind: DeletePods, Members: who, Reason: "Repairing",
		Message: podsOf(who) + per(who, " does not run and was made from an older spec; it is made again", " do not run and were made from an older spec; they are made again"),
	}, len(who) > 0
}

// lastToBegin says that the pod may begin empty, and that the next one might not: only a
// quorum of the others can say that its member has never had data. Without one it may be the
// very member that makes them a quorum.
func (o Observed) lastToBegin(m Member) bool {
	return o.ClusterID != 0 && !o.List && m.PodMayBeEmpty && !m.Booted && !m.Started
}

// restartBlind makes a pod again that was made while nobody could say whether
// its member had ever started, once etcd's list says that it has not.
func restartBlind(o Observed) (Step, bool) {
	who := names(o.Members, func(m Member) bool {
		return m.Pod == PodWaiting && m.Volume == VolumeBound && m.refusedBlindly(o) && o.List && m.Listed && !m.Started
	})
	return Step{
		Kind: DeletePods, Members: who, Reason: "Repairing",
		Message: fmt.Sprintf("the pods of %s were not let start on an empty volume, and etcd's list says that they have never started; they are made again", strings.Join(who, ", ")),
	}, len(who) > 0
}

// recordMembers puts the identity where the data is, or will be, as soon as
// etcd's list shows it, and from the member's first start on forbids an empty
// directory: a restart on one under a used member ID silently loses acknowledged
// writes. While etcd cannot be
// asked, a pod that the kubelet calls ready proves as much: etcd says it is ready
// once it has booted and follows a leader.
func recordMembers(o Observed) (Step, bool) {
	who := names(o.Members, func(m Member) bool {
		listed := o.List && m.Listed && m.Started
		ready := !o.List && m.PodReady && m.Pod == PodRunning
		onRecord := m.RecordedID != 0 || (ready && m.Booted)
		if listed && !m.Founder {
			onRecord = onRecord && m.Booted
		}
		joins := o.List && m.Listed && !m.Started && !m.Founder && m.RecordedID == 0
		known := (listed || ready || joins) && m.Volume == VolumeBound && !m.mistaken()
		takeBack := !joins && m.Pod.mayRun() && m.PodMayBeEmpty
		return (known && (!onRecord || takeBack)) || (m.NodeMoved && m.Volume != VolumeTerminating && !m.mistaken()) || o.stays(m)
	})
	return Step{
		Kind: RecordMembers, Members: who, Reason: "Repairing",
		Message: fmt.Sprintf("recording the identity of %s", strings.Join(who, ", ")),
	}, len(who) > 0
}

// stays says that a member which was marked to leave is wanted after all.
func (o Observed) stays(m Member) bool {
	return m.Leaving && m.Listed && o.List && o.Voters() <= o.Size && !m.lost() && !m.mistaken()
}

// latchCluster ends the founding: a majority of the founders answers with one
// cluster ID, the founders' list and a leader.
func latchCluster(o Observed) (Step, bool) {
	return Step{
		Kind: LatchCluster, Members: o.Founders, Reason: "Founding",
		Message: fmt.Sprintf("a majority of the members agrees on cluster %x", o.AgreedClusterID),
	}, foundersAgree(o)
}

// relatchVolumes puts the founders' volumes on record again when status has lost
// them, before it names the cluster again: a founder that never started would
// otherwise get no pod any more, for nothing else names its volume.
func relatchVolumes(o Observed) (Step, bool) {
	step, complete := latchVolumes(o)
	_, next := relatch(o)
	return step, complete && next
}

// relatch writes the cluster ID while the claims already prove that the cluster
// was founded: in the pass after their record, or when status has lost it.
func relatch(o Observed) (Step, bool) {
	step, agreed := latchCluster(o)
	healthy := count(o.Members, func(m Member) bool {
		return m.staying() && m.AnswerClusterID == o.AgreedClusterID
	})
	majority := o.List && o.AgreedClusterID != 0 && healthy >= Majority(o.Voters())
	return step, o.ClusterID == 0 && (agreed || majority)
}

func foundersAgree(o Observed) bool {
	if !o.List || o.AgreedClusterID == 0 || len(o.ForeignMembers) > 0 {
		return false
	}
	agreeing := 0
	for _, name := range o.Founders {
		m, ok := o.Member(name)
		if !ok || !m.Listed {
			return false
		}
		// One whose pod is being deleted may be gone the next moment, and once the
		// cluster is latched no other is let start on an empty volume unasked.
		if m.Answers && m.FollowsLeader && m.AnswerClusterID == o.AgreedClusterID && m.Pod != PodTerminating {
			agreeing++
		}
	}
	return agreeing >= Majority(len(o.Founders))
}

func waitForFounders(o Observed) (Step, bool) {
	if lost := lostMembers(o); len(lost) > 0 {
		return lossStep(o, lost), true
	}
	up := count(o.Members, func(m Member) bool { return m.Answers })
	return Step{
		Kind: Wait, Reason: "Founding",
		Message: fmt.Sprintf("%d of %d founders answer; %d are needed%s", up, len(o.Founders), Majority(len(o.Founders)), troubles(o)),
	}, o.ClusterID == 0
}

// dataMissing holds a member down whose volume is gone: a new, empty volume
// under its name would be taken for the old one.
func dataMissing(o Observed) (Step, bool) {
	lost := lostMembers(o)
	if step, ok := leavingBesideQuorum(o, lost); ok {
		return step, true
	}
	return lossStep(o, lost), len(lost) > 0 && !o.comingBack()
}

// leavingBesideQuorum waits for members that go with their volumes beside a quorum of
// others. They answer until their processes end, and are replaced then; nobody need do
// anything, and above all not what is said to those who have lost a quorum.
func leavingBesideQuorum(o Observed, lost []string) (Step, bool) {
	var stuck []string
	for _, name := range lost {
		m, _ := o.Member(name)
		if m.Pod != PodTerminating || m.Volume != VolumeTerminating || !m.Voter() {
			return Step{}, false
		}
		if m.NodeDown {
			stuck = append(stuck, name)
		}
	}
	staying := count(o.Members, Member.staying)
	message := fmt.Sprintf("%s with %s being deleted: %s replaced by a new member as soon as the process has ended; %d of %d voters stay%s",
		podsOf(lost), per(lost, "its volume is", "their volumes are"), per(lost, "it is", "each is"), staying, o.Voters(), troubles(o))
	if len(stuck) > 0 {
		message += fmt.Sprintf(" — the node of %s is not Ready, so that nobody ends the process there — bring the node back, or taint it as out-of-service when it is down", strings.Join(stuck, ", "))
	}
	return Step{Kind: Wait, Members: lost, Reason: "Degraded", Message: message}, len(lost) > 0 && o.Quorate() && staying >= Majority(o.Voters())
}

// comingBack says that enough members of an adopted cluster have their volumes. Until they
// have told who the members are, a founder that left long ago is not missed.
func (o Observed) comingBack() bool {
	bound := count(o.Members, func(m Member) bool { return m.Volume == VolumeBound })
	return o.Adoption != nil && o.ClusterID == 0 && bound >= Majority(o.Size)
}

func lossStep(o Observed, lost []string) Step {
	left := names(o.Members, func(m Member) bool { return m.Answers })
	if leaving := names(o.Members, func(m Member) bool { return m.Volume == VolumeTerminating && m.Pod == PodRunning }); len(leaving) == len(lost) {
		return Step{Kind: Wait, Members: lost, Reason: "DataMissing", Message: fmt.Sprintf(
			"the volumes of %s are being deleted while etcd runs on them — with its pod each of these members loses its data, and is not started again; %d of %d members answer — save their data while they run",
			strings.Join(lost, ", "), len(left), len(o.Members))}
	}
	without := "without a quorum of the others"
	if o.ProposeFailed != "" {
		without = "while etcd refuses proposals (" + o.ProposeFailed + ")"
	}
	return Step{Kind: Wait, Members: lost, Reason: "DataMissing", Message: fmt.Sprintf(
		"the data of %s is lost or refused%s — starting on an empty volume would lose acknowledged writes, and %s nobody can be replaced, so these members stay down; %d of %d members answer%s — members with a volume are started by themselves; if they are too few, %s",
		strings.Join(lost, ", "), refusalText(o), without, len(left), len(o.Members), volumesLeft(o), o.WayOut())}
}

// volumesLeft names the members whose data is still there.
func volumesLeft(o Observed) string {
	who := names(o.Members, func(m Member) bool { return m.Volume == VolumeBound && !m.InMemory })
	left := ", and no volume is left"
	if len(who) > 0 {
		left = ", and the volumes of " + strings.Join(who, ", ") + " are left"
	}
	if inPods := o.InPods(); len(inPods) > 0 {
		left += ", and the data of " + strings.Join(inPods, ", ") + " in memory, until " + podsOf(inPods) + per(inPods, " goes", " go")
	}
	return left
}

func lostMembers(o Observed) []string {
	return names(o.Members, func(m Member) bool {
		if o.ClusterID != 0 && o.List && !m.Listed {
			// It was removed, and its data is nobody's any more.
			return false
		}
		switch m.Volume {
		case VolumeLost, VolumeRefused:
			return true
		case VolumeAbsent, VolumeTerminating:
			return (m.VolumeLatched || o.Founded()) && !m.Joiner
		default:
			return false
		}
	})
}

func waitForMembers(o Observed) (Step, bool) {
	down := names(o.Members, func(m Member) bool { return !m.Healthy() })
	return Step{
		Kind: Wait, Members: down, Reason: "Degraded",
		Message: fmt.Sprintf("%d of %d members %s not healthy%s", len(down), len(o.Members), per(down, "is", "are"), troubles(o)),
	}, len(down) > 0
}

// waitForLatch settles nothing while status names no cluster: the members may
// be of more than one.
func waitForLatch(o Observed) (Step, bool) {
	return Step{
		Kind: Wait, Reason: "Founding",
		Message: fmt.Sprintf("the cluster was founded and status has lost its ID: a majority of its %d voters has to agree on one", o.Voters()),
	}, o.ClusterID == 0
}

// startable says that a pod may be made: its volume is there and on record, so
// that its loss would be seen, and no process of an earlier pod can still be
// running. One that etcd lists no more is not started, nor, while nobody can say
// whether it has ever started, one that joined after the founding: its guard
// would miss data that was never there.
func (m Member) startable(o Observed) bool {
	onRecord := m.VolumeLatched || m.RecordedID != 0
	removed := o.ClusterID != 0 && o.List && (!m.Listed || m.mistaken())
	unknown := !o.List && !m.Founder && !m.Booted
	return m.Pod == PodAbsent && onRecord && (m.Volume == VolumeBound || m.Volume == VolumePending) && !m.RunningElsewhere &&
		!removed && !unknown && !o.stranded()
}

// stranded says that pods can be made of no image that may run: the wanted one is barred,
// and it is pinned by its digest, so that nobody knows the one before.
func (o Observed) stranded() bool { return o.Pinned && o.Barred() != "" }

// refusedBlindly says that the guard missed data that may never have been there:
// its pod was told not to start on an empty volume because etcd could not be
// asked, and nothing says that the member has ever started.
func (m Member) refusedBlindly(o Observed) bool {
	return o.Founded() && strings.HasPrefix(m.Refusal, "DataMissing") && m.RecordedID == 0 && !m.Booted && !m.Started && !m.PodMayBeEmpty
}

func podsOf(who []string) string {
	return per(who, "the pod of ", "the pods of ") + strings.Join(who, ", ")
}

func (p Pod) mayRun() bool { return p == PodRunning || p == PodWaiting }

func refusalText(o Observed) string {
	for _, m := range o.Members {
		if m.Volume == VolumeRefused && m.Trouble != "" {
			return " (" + m.Trouble + ")"
		}
	}
	return ""
}

func troubles(o Observed) string {
	var out []string
	for _, m := range o.Members {
		if m.Trouble != "" {
			out = append(out, m.Name+": "+m.Trouble)
		}
	}
	if len(out) == 0 {
		return ""
	}
	return " (" + abbreviate(out) + ")"
}

// abbreviate keeps messages short enough to read in a column.
func abbreviate(items []string) string {
	const most = 4
	if len(items) <= most {
		return strings.Join(items, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(items[:most], ", "), len(items)-most)
}
