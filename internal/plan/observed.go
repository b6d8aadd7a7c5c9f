// Package plan holds the whole policy of the operator: Next looks at what was
// observed of a cluster and names the one step to take. It is pure. It knows no
// client, no clock and no logger, and imports the standard library only, so
// that every state can be tried in a test.
package plan

import (
	"slices"
	"time"
)

// Observed is one look at a cluster: its spec, what status has latched, and
// its members as Kubernetes and etcd show them.
type Observed struct {
	// Paused is the user's word that nothing may be changed.
	Paused bool
	// Planned is the user's word that what would be done is to be told and not done.
	Planned bool
	// Size is the number of voters that the user wants.
	Size int

	// Version of etcd that pods are to be made of: the one that the user wants, or one on
	// the way to it.
	Version string
	// Through says that the user lets the operator pass through minor releases in between.
	Through bool
	// DowngradeTo is the minor release that the user lets the cluster be downgraded to;
	// empty for none.
	DowngradeTo string
	// DowngradeBegun is the minor release of the downgrade that the operator has put on
	// record; empty for none.
	DowngradeBegun string
	// OldEntries is the raft index up to which the members' logs may hold entries of etcd
	// 3.5, as status tells it: zero for none, -1 while they are still written.
	OldEntries int64
	// OptionTrouble says which of etcd's options etcd would not start with; empty for none.
	OptionTrouble string
	// Quota is the size in bytes at which the database of the spec is full; zero if that is
	// not known.
	Quota int64
	// Pinned says that the image is named by its digest.
	Pinned bool
	// TLS says that members are to reach each other over TLS.
	TLS bool
	// TLSAlone says that nobody is to take plaintext any more.
	TLSAlone bool
	// PlaintextPeers says that members reach each other without it, or some of them may.
	PlaintextPeers bool
	// InMemory says that the data of the members is to be in memory, and go with their pods.
	InMemory bool
	// Operation is the reason of the work that is under way, as status tells it; empty
	// for none.
	Operation string
	// Expiring says why nobody should be restarted because of certificates that end
	// soon; empty if there are none.
	Expiring string

	// Incarnation of the cluster, from 1.
	Incarnation int64
	// Recovery is the user's word that the quorum is lost for good; nil if there is none
	// for this incarnation, or it is void.
	Recovery *Recovery
	// RecoveryVoid says that the word stands there, and does not count: the cluster has
	// served under it.
	RecoveryVoid bool

	// SpentCheck is the UID of the Job that has read a backup for spec.recovery, or reads one,
	// and that nobody needs; empty for none.
	SpentCheck string

	// Coming are the founders of the next incarnation, as far as that is known before it
	// begins; empty while nobody wants one. Nothing is decided by their names.
	Coming []string
	// ComingLack is why they could not start if they came now; nil if they could.
	ComingLack *Lack
	// VolumeLack is why there would be no volumes for them beside the old ones; nil if there
	// would.
	VolumeLack *Lack

	// Copied is what the founder's volume was filled with, once it is filled with a copy of a
	// survivor's; nil if it was not, or does not tell any more.
	Copied *Copied

	// Point is what the founders begin with, and what is not on record yet; nil if there is
	// none, or if it cannot be had.
	Point *Point

	// Adoption is what there is of the deleted cluster that the user wants back; nil if the
	// user wants none.
	Adoption *Adoption

	// Founders are the latched founders of this incarnation; empty before.
	Founders []string
	// FounderNames are the names that founders would get now: the lowest that
	// no claim and no pod bears. Filled only while Founders is empty.
	FounderNames []string
	// RecoveredFounders are the founders that our own claims name, when status
	// has lost them.
	RecoveredFounders []string
	// RecoveredFloor is the least revision that the incarnation begins with, as they name it;
	// zero if they do not.
	RecoveredFloor int64
	// Joiner is the name that status gives to the member which is being
	// prepared to join; empty for none.
	Joiner string
	// Skip are housekeeping steps that the API server refused in the last pass.
	// Other steps go first, for what is refused for good must not stand in the
	// way of a repair.
	Skip []Kind
	// Expired are the members whose quarantined volumes have been kept for as
	// long as they should be.
	Expired []string

	// VolumesLatched says that status names the volume of every founder.
	VolumesLatched bool
	// ClusterID is the latched cluster ID; zero before.
	ClusterID uint64

	// FinalizerDue says that the finalizer does not follow the spec.
	FinalizerDue bool
	// CertificatesDue names the Secrets to create, renew or remove.
	CertificatesDue []string
	// Uncertified says that a member has no certificates and gets none now; TLSProblems say
	// why.
	Uncertified bool
	// ObjectsDue names the Services, policies and budgets that are missing or
	// differ from what they should be.
	ObjectsDue []string

	// Drifted are those of ObjectsDue that were as they should be until somebody
	// else changed or deleted them.
	Drifted []string

	// Members in the order of their ordinals: founders, our claims, our pods
	// and the entries of etcd's list that bear our names, joined.
	Members []Member

	// List is true when a majority confirmed etcd's member list in this look.
	List bool
	// ForeignMembers are entries of etcd's list that are not ours, by URL.
	ForeignMembers []string
	// AgreedClusterID is the cluster ID of the members that confirmed the
	// list; zero when List is false.
	AgreedClusterID uint64
	// LeaderSettled says that the same member has led in the same term for a
	// second or more.
	LeaderSettled bool
	// LeaderDoubted says that etcd's leader has refused a change of the members for long
	// because of voters that it does not see, although all of them answered.
	LeaderDoubted bool
	// ReadOK is true when a linearizable read succeeded in this look.
	ReadOK bool
	// ReadFailed is why the list or the read failed; empty when it did not, and
	// when nobody could be asked.
	ReadFailed string
	// ProposeFailed is why a proposal was refused since the last doubt; empty
	// when it went through.
	ProposeFailed string
	// Alarms are etcd's active alarms, such as NOSPACE.
	Alarms []string
	// Raised are the same alarms, told apart.
	Raised []Alarm
	// Chore is the call to a member that is under way since an earlier look.
	Chore Chore
	// DefragmentHeld says why no member is defragmented although one should be: the last
	// attempt has failed. Empty if it may.
	DefragmentHeld string
	// CompactTo is the revision up to which the user wants no history, and which etcd was
	// not told since its database is full; zero for none.
	CompactTo int64
	// Window says whether members may be made to stand still now.
	Window Window
	// Comparison of the voters' data, as far as they are the present ones.
	Comparison Comparison
	// CompareDue says that the data was not compared for long, or that etcd doubts it.
	CompareDue bool

	// Downgrade is the version that etcd is being downgraded to, enabled by
	// somebody; empty for none.
	Downgrade string

	// Problems are what the world refuses, most important first.
	Problems []Problem
	// TLSProblems are what is wrong with the cluster's certificates.
	TLSProblems []Problem
	// Authorities are how far the rotation of each authority is, for status.
	Authorities []Authority
	// Backups of the cluster, for status; nil when nobody looked.
	Backups *Backups
	// OldVolumes are claims that bear this cluster's name and another UID.
	OldVolumes []OldVolume
}

// Lack is what members that are about to come would miss.
type Lack struct {
	// What is missing, and Do what the user can do about it, as parts of a sentence.
	What, Do string
}

// Authority is a certificate authority, and how far its rotation is.
type Authority struct {
	Secret, Phase string
	// Ends is when the one that signs ends.
	Ends time.Time
	// Since when it is in this phase, and until when applications have time to follow.
	Since, Until time.Time
	// Waiting are the members that do not show yet that they have come as far.
	Waiting []string
	// Message says in a line what goes on; empty when nothing does.
	Message string
}

// OldVolume is a claim that a cluster of the same name left behind.
type OldVolume struct {
	Claim, ClusterUID string
}

// Problem is something that the operator cannot mend.
type Problem struct {
	// Reason is a condition reason.
	Reason string
	// Message says what is wrong, why it matters and what to do.
	Message string
	// Severity says whether to wait or to call for the user.
	Severity Severity
}

// Window in which members may be made to stand still.
type Window int

const (
	// WindowAnyTime: the user names none.
	WindowAnyTime Window = iota
	// WindowOpen: it is open now.
	WindowOpen
	// WindowClosed: it is not.
	WindowClosed
)

// Severity of a problem.
type Severity int

const (
	// Pending problems may pass without anybody's help.
	Pending Severity = iota
	// Stalling problems need the user.
	Stalling
)

// Volume is the state of a member's volume.
type Volume int

const (
	// VolumeAbsent: there is no claim.
	VolumeAbsent Volume = iota
	// VolumePending: the claim is not bound; it has never held data.
	VolumePending
	// VolumeBound: the claim is bound.
	VolumeBound
	// VolumeTerminating: the claim is being deleted.
	VolumeTerminating
	// VolumeLost: the claim's volume is gone, or the claim is not the one
	// that was latched under this name.
	VolumeLost
	// VolumeRefused: the guard found the data missing or foreign.
	VolumeRefused
)

// Pod is the state of a member's pod.
type Pod int

const (
	// PodAbsent: there is no pod.
	PodAbsent Pod = iota
	// PodWaiting: etcd is not running in it: not scheduled, image not there,
	// or between two tries.
	PodWaiting
	// PodRunning: the etcd container runs.
	PodRunning
	// PodEnded: the pod failed or was evicted; it will never run again.
	PodEnded
	// PodTerminating: the pod is being deleted.
	PodTerminating
)

// Member is everything that is known of one member.
type Member struct {
	Name string
	// Ordinal orders members; names are compared as numbers.
	Ordinal int

	// Founder says that it is one of the latched founders.
	Founder bool

	// Mislabelled says that its claim or its pod does not carry the labels of its
	// identity any more.
	Mislabelled bool

	Volume Volume
	// VolumeLatched says that status names this member's volume.
	VolumeLatched bool
	// VolumeOutdated says that the claim was made from another spec.
	VolumeOutdated bool
	// VolumeChange says in words what the claim has and the spec wants otherwise;
	// empty when they agree.
	VolumeChange string
	// VolumeSmall says that the claim asks for less than the spec does.
	VolumeSmall bool
	// VolumeFixed says why the claim cannot grow; empty if it may.
	VolumeFixed string
	// VolumeGrows says that the volume is smaller than its claim asks for.
	VolumeGrows bool
	// InMemory says that the member's data goes with its pod.
	InMemory bool
	// VolumeElsewhere says that the claim is of another class than the spec's, or that
	// MediumDiffers is true.
	VolumeElsewhere bool
	// MediumDiffers says that the data is not on the medium that the spec wants.
	MediumDiffers bool
	// VolumeSize is how large the volume is, in bytes; zero if that is not known.
	VolumeSize int64
	// Displaced says that the member is the one that is being replaced because it cannot
	// follow the spec where its data is. The planner sets it.
	Displaced bool
	// RecordedID is the member ID on the claim; zero for none.
	RecordedID uint64
	// Booted says that the claim is on record as booted.
	Booted bool
	// LastNode is the node that the claim names; empty for none.
	LastNode string
	// Joiner says that status names it as the member that is being prepared.
	Joiner bool
	// Leaving says that the claim is marked to go with the member, because the
	// cluster shrinks.
	Leaving bool

	Pod Pod
	// PodUID is the pod's UID.
	PodUID string
	// PodFresh says that the pod was made a moment ago: one that has ended
	// already would only end again.
	PodFresh bool
	// PodReady is the kubelet's word.
	PodReady bool
	// PodOutdated says that the pod was made from another spec, or that TrustOutdated is
	// true.
	PodOutdated bool
	// PodResize says that the pod runs with other CPU or memory than the spec gives it,
	// and that the API server has not refused to change that while it runs.
	PodResize bool
	// PodResizing says that the kubelet has not carried out such a change yet.
	PodResizing bool
	// TrustDiffers says that etcd in the pod trusts other authorities than it is to, and
	// TrustOutdated that its Secret holds those besides, so that a restart mends it.
	TrustDiffers, TrustOutdated bool
	// Trust is the hash of the authorities that the member's Secret holds, for its next
	// pod.
	Trust string
	// PodMayBeEmpty says that the guard would still start etcd on an empty
	// directory.
	PodMayBeEmpty bool
	// Refusal is what the guard said when it refused the data; empty if it
	// did not.
	Refusal string
	// Held says that the guard in the pod waits for the release, and that no
	// etcd has ever run in it.
	Held bool
	// Unschedulable says that the scheduler finds no node for the pod.
	Unschedulable bool
	// NodeDown says that the pod's node is not Ready.
	NodeDown bool
	// Corrupt is what etcd said when it failed on its data for the fifth time
	// in a row; empty if it did not.
	Corrupt string
	// Gone says that the member's node has been away, or is deleted and no other
	// takes the pod, and the member silent, for failover.replaceAfter; or that
	// its node is declared down and no other takes the pod.
	Gone bool
	// LongSilent says that the member has answered nobody, and the kubelet has not
	// called it ready, for failover.replaceAfter.
	LongSilent bool
	// RunningElsewhere says that a process of a pod that is gone may still
	// run: its last node is neither Ready nor known to be down.
	RunningElsewhere bool
	// NodeMoved says that the claim does not name the pod's node yet.
	NodeMoved bool

	// Listed, ID, Started and Learner come from etcd's confirmed list.
	Listed  bool
	ID      uint64
	Started bool
	Learner bool
	// LastNoVoter says that it did not vote by the last list that status tells of.
	LastNoVoter bool

	// PeerURL is the one that etcd lists, and Plaintext says that it is one without TLS.
	PeerURL   string
	Plaintext bool
	// TakesTLS says that the etcd in the pod takes TLS, and dials with it; TakesPlaintext
	// that it takes clients, and is asked for its metrics, without.
	TakesTLS, TakesPlaintext bool

	// Answers says that the member itself answered, with our cluster ID.
	Answers bool
	// ForeignClusterID is the cluster ID it answered with when that was not
	// the latched one.
	ForeignClusterID uint64
	// AnswerClusterID is the cluster ID it answered with.
	AnswerClusterID uint64
	// Leads says that it is the leader.
	Leads bool
	// FollowsLeader says that it knows the leader.
	FollowsLeader bool
	// Version of etcd that it runs, or ran when it last answered.
	Version string
	// StorageVersion is the release whose format its storage has; empty if it does not
	// tell.
	StorageVersion string
	// DBSize is the size of its database in bytes, DBSizeInUse what of it is not free, and
	// Quota the size at which it refuses writes; zero for what is not known.
	DBSize, DBSizeInUse, Quota int64
	// Defragmented says that it was, since the database has been full and its history was
	// discarded last.
	Defragmented bool
	// SnapshotCount is how many changes it applies at most between two snapshots of its
	// own, by its pod; zero if that is not known.
	SnapshotCount int64
	// Applied is the index up to which it has applied raft's log.
	Applied uint64
	// Term of raft that it is in, and Revision of the keys as it has applied them; zero
	// while it does not answer.
	Term     uint64
	Revision int64
	// Position that it told last since the quorum is lost, in this look or before; zero if it
	// did not.
	Position Position
	// WasLearner says that it was a learner when etcd's list was confirmed last.
	WasLearner bool
	// CaughtUp says that a learner has nearly all of the leader's log.
	CaughtUp bool
	// Behind is how many committed entries of the log it has not applied.
	Behind uint64
	// Stuck says that a learner has made no progress for failover.learnerTimeout, or
	// that a joiner whose volume is bound did not come to run for as long.
	Stuck bool
	// Lags says that a learner has made no progress for a minute, or for half of
	// failover.learnerTimeout.
	Lags bool
	// Trails says that a learner makes progress and for some minutes, or for half of
	// failover.learnerTimeout, has come no nearer to the leader.
	Trails bool
	// SlowDisk is how long syncing its log takes at the least when that is too long, a
	// mean; zero when it is not, or not known.
	SlowDisk time.Duration
	// SlowLong says that its disk has been slow for a minute.
	SlowLong bool
	// Steady says that what is known of the member, apart from who leads, has
	// been the same for at least two seconds and in at least two looks. Nothing
	// is removed on the word of one look.
	Steady bool
	// Trouble says in a line why the member is not healthy.
	Trouble string
}

// Healthy says that the member votes, answers and follows the leader.
func (m Member) Healthy() bool { return m.Answers && m.FollowsLeader && m.Voter() }

// Left says that neither volume nor pod of the member stays.
func (m Member) Left() bool {
	volume := m.Volume == VolumeAbsent || m.Volume == VolumeTerminating
	return volume && (m.Pod == PodAbsent || m.Pod == PodTerminating)
}

// Certified are the members that need certificates: not those that never run
// again.
func (o Observed) Certified() []string {
	return names(o.Members, func(m Member) bool { return o.ClusterID == 0 || m.Joiner || !m.Left() })
}

// Majority of n voters.
func Majority(n int) int { return n/2 + 1 }

// Member finds a member by name.
func (o Observed) Member(name string) (Member, bool) {
	i := slices.IndexFunc(o.Members, func(m Member) bool { return m.Name == name })
	if i < 0 {
		return Member{}, false
	}
	return o.Members[i], true
}

// Leader is the healthy voter that leads.
func (o Observed) Leader() (Member, bool) {
	i := slices.IndexFunc(o.Members, func(m Member) bool { return m.Leads && m.Healthy() })
	if i < 0 {
		return Member{}, false
	}
	return o.Members[i], true
}

// HealthyVoters counts the voters that answer and follow the leader.
func (o Observed) HealthyVoters() int {
	return count(o.Members, Member.Healthy)
}

// Staying counts the healthy voters whose pods are not being deleted.
func (o Observed) Staying() int {
	return count(o.Members, Member.staying)
}

// staying says that a healthy voter's pod is not about to go: one that is being
// deleted answers until it ends.
func (m Member) staying() bool { return m.Healthy() && m.Pod != PodTerminating }

// Voters counts the voters of etcd's confirmed list, ours or not; zero when
// the list was not confirmed.
func (o Observed) Voters() int {
	return count(o.Members, Member.Voter) + len(o.ForeignMembers)
}

// Removed says that the member is not on the list that a majority of the latched
// cluster has confirmed, and is not being prepared to join.
func (o Observed) Removed(m Member) bool {
	return o.List && o.ClusterID != 0 && o.AgreedClusterID == o.ClusterID && !m.Listed && !m.Joiner
}

// KnownVoters is how many voters there are: those of etcd's list or, while it is
// not confirmed, every member that is known.
func (o Observed) KnownVoters() int {
	if o.List {
		return o.Voters()
	}
	return count(o.Members, func(m Member) bool { return !m.Joiner })
}

// BudgetVoters is how many voters the disruption budget is for. A learner that has
// started counts: a budget that followed its promotion would for that long let two
// voters go at once.
func (o Observed) BudgetVoters() int {
	if l, found := o.learner(); o.List && found && l.Started {
		return o.KnownVoters() + 1
	}
	return o.KnownVoters()
}

// Founded says that the cluster has booted once: by the latch, by a member ID
// on any of our claims, or because it is one that was. Losing status must never mean founding again.
func (o Observed) Founded() bool {
	return o.ClusterID != 0 || o.Adoption != nil || slices.ContainsFunc(o.Members, func(m Member) bool { return m.RecordedID != 0 })
}

func count(members []Member, is func(Member) bool) int {
	n := 0
	for _, m := range members {
		if is(m) {
			n++
		}
	}
	return n
}

func names(members []Member, are func(Member) bool) []string {
	var out []string
	for _, m := range members {
		if are(m) {
			out = append(out, m.Name)
		}
	}
	return out
}
