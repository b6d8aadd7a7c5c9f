package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// membership rules: who is a member of the cluster, one change at a time.
//
// What a removed member leaves behind goes first, since it may still run. Then
// the learner, since no other change is possible while there is one. Then the
// joiner is prepared, so that nobody is removed before the replacement is proven
// to run. Only then is a dead voter removed, the learner added, or the cluster
// made smaller.
var membership = []rule{
	strangers, cancelDowngrade, downgrading,
	stopRemoved, deleteLeft, quarantine,
	dropJoiner, removeLearner, releaseListed, promote,
	discardUnused, allot, createJoiner, replaceJoiner, stopDead, holdJoiner,
	mistrust, removeDead, addLearner, moveLeader, shrink,
	waitForChange,
}

// Voter says that etcd's confirmed list names it as a voter.
func (m Member) Voter() bool { return m.Listed && !m.Learner }

// lost says that the member's volume is no use any more.
func (m Member) lost() bool {
	switch m.Volume {
	case VolumeAbsent, VolumeLost, VolumeRefused, VolumeTerminating:
		return true
	default:
		return false
	}
}

// Dead says that a voter does not answer and will not come back by itself: its
// volume or its node is gone, or etcd lists another ID under its name. A member
// that does not answer although both are there is not dead.
func (m Member) Dead() bool {
	return m.Voter() && !m.Answers && (m.Gone || (!m.alive() && !m.holds() && (m.lost() || m.mistaken())))
}

// holds says that a volume which is being deleted stays for as long as the pod
// that runs on it: a member that is silent there may be cut off, and has its data.
// But not for ever: three voters take no learner while one of them is silent.
func (m Member) holds() bool {
	return m.Volume == VolumeTerminating && m.Pod == PodRunning && !m.LongSilent
}

// alive says that a process of the member runs, by its own word or the kubelet's:
// one that the operator cannot reach may serve others.
func (m Member) alive() bool { return m.Answers || (m.PodReady && m.Pod == PodRunning) }

// Doomed says that a voter still runs, and that its data goes with its pod; or that it is
// the one to be replaced because it cannot follow the spec where its data is.
func (m Member) Doomed() bool {
	return m.Displaced || m.Voter() && (m.alive() || m.holds()) && m.lost() && m.Pod != PodTerminating && !m.Dead()
}

// sound says that a voter counts for the wanted size.
func (m Member) sound() bool { return m.Voter() && !m.Dead() && !m.Doomed() }

// mistaken says that etcd lists another ID under the member's name than the one
// whose data its volume holds.
func (m Member) mistaken() bool { return m.Listed && m.RecordedID != 0 && m.RecordedID != m.ID }

// proven says that the joiner can run: its volume is bound, and the guard waits
// in its pod for the release.
func (m Member) proven() bool {
	return m.Joiner && m.Held && m.Pod == PodRunning && m.Volume == VolumeBound && !m.PodOutdated && !m.NodeDown
}

// Quorate says that a majority of the voters is healthy, and that reads and
// proposals have gone through; without it no membership is changed. The members
// must be those of the latched cluster, and nobody else's. Where an alarm refuses
// proposals, its listing is the one that has gone through.
func (o Observed) Quorate() bool { return o.serves() && (o.ProposeFailed == "" || o.alarmed()) }

// serves says that a majority of the voters of the latched cluster is healthy and that
// reads go through; proposals may be refused, as they are by a full database.
func (o Observed) serves() bool {
	return o.List && o.ReadOK && o.ClusterID != 0 && o.AgreedClusterID == o.ClusterID &&
		len(o.ForeignMembers) == 0 && o.HealthyVoters() >= Majority(o.Voters())
}

// learner is the one that etcd lists.
func (o Observed) learner() (Member, bool) {
	i := slices.IndexFunc(o.Members, func(m Member) bool { return m.Listed && m.Learner })
	if i < 0 {
		return Member{}, false
	}
	return o.Members[i], true
}

// missing is how many voters are wanted beyond the sound ones.
func (o Observed) missing() int { return o.Size - count(o.Members, Member.sound) }

// hopeless says why a learner will never vote; empty if it may.
func (o Observed) hopeless(l Member) string {
	dead := slices.ContainsFunc(o.Members, Member.Dead)
	switch {
	case o.missing() <= 0:
		return "it is not wanted any more"
	case l.mistaken():
		return fmt.Sprintf("its volume holds the data of member %x", l.RecordedID)
	case l.lost():
		return l.loss()
	case l.Gone && !l.Answers:
		return "its node is gone"
	case l.Stuck:
		return "it has made no progress for failover.learnerTimeout" + because(l.Trouble)
	case l.Unschedulable && dead:
		return "its pod cannot be scheduled, and another member waits to be replaced"
	}
	return ""
}

// needed says that a joiner is wanted beside the learner that there may be.
func (o Observed) needed() bool {
	missing := o.missing()
	if l, found := o.learner(); found && o.hopeless(l) == "" {
		missing--
	}
	return missing > 0
}

// lasting says that a healthy voter that stays was seen so by more than one look.
func (m Member) lasting() bool { return m.staying() && m.Steady }

// steady counts the healthy voters that last.
func (o Observed) steady() int {
	return count(o.Members, Member.lasting)
}

// spares says that the voters without this one are a quorum of what remains.
func (o Observed) spares(m Member) bool {
	left := o.steady()
	if m.lasting() {
		left--
	}
	return o.Voters() > 1 && left >= Majority(o.Voters()-1)
}

// strangers blocks every change while etcd lists somebody else's member, which
// counts for quorum and may go or come at any time.
func strangers(o Observed) (Step, bool) {
	return Step{Kind: Wait, Reason: "UnknownMember", Message: fmt.Sprintf(
		"etcd lists %s, which is none of this cluster's members — it may vote or be made to, so no member is added, removed or replaced while it is there — remove it with etcdctl member remove if it does not belong here",
		strings.Join(o.ForeignMembers, ", "))}, o.List && o.ClusterID != 0 && o.due() && len(o.ForeignMembers) > 0
}

// due says that a member is to join, to leave or to be replaced.
func (o Observed) due() bool {
	_, learning := o.learner()
	return learning || o.missing() != 0 || o.Voters() != o.Size
}

// downgrading blocks every change while a downgrade of etcd is enabled: then no
// member can join, on either version, and one that leaves could not be replaced.
func downgrading(o Observed) (Step, bool) {
	return Step{Kind: Wait, Reason: "Downgrading", Message: fmt.Sprintf(
		"etcd is being downgraded to %s — no member can join meanwhile, on either version, so none is added, removed or replaced — finish the downgrade, or end it with etcdctl downgrade cancel",
		o.Downgrade)}, o.List && o.ClusterID != 0 && o.due() && o.Downgrade != ""
}

// removed says that the member was one, and is not listed any more.
func (o Observed) removed(m Member) bool {
	ran := m.RecordedID != 0 || m.Booted || (m.Founder && m.VolumeLatched) || (m.Pod != PodAbsent && !m.Held)
	return o.Quorate() && o.Removed(m) && ran
}

// stopRemoved stops the processes of members that etcd lists no more. They have
// nothing to serve, and would be taken for members by those who connect.
func stopRemoved(o Observed) (Step, bool) {
	who := names(o.Members, func(m Member) bool {
		return o.removed(m) && (m.Steady || m.Leaving) && m.Pod != PodAbsent && m.Pod != PodTerminating
	})
	return Step{Kind: StopMembers, Members: who, Reason: o.direction(), Message: fmt.Sprintf(
		"etcd does not list %s any more: %s deleted", strings.Join(who, ", "), per(who, "the pod is", "the pods are"))}, len(who) > 0
}

// deleteLeft deletes the volumes that a scale-in has left, once the removal is
// confirmed.
func deleteLeft(o Observed) (Step, bool) {
	who := names(o.Members, func(m Member) bool {
		return o.removed(m) && m.Leaving && (m.Volume == VolumeBound || m.Volume == VolumePending || m.Volume == VolumeLost)
	})
	return Step{Kind: DeleteVolumes, Members: who, Reason: o.direction(), Message: fmt.Sprintf(
		"%s left the cluster: %s deleted", strings.Join(who, ", "), per(who, "the volume is", "the volumes are"))}, len(who) > 0
}

// quarantine keeps the volumes of members that were removed for any other
// reason, and data that was refused: somebody may want to look at it.
func quarantine(o Observed) (Step, bool) {
	who := names(o.Members, func(m Member) bool {
		return o.removed(m) && m.Steady && (!m.Leaving || m.Volume == VolumeRefused) && m.Volume != VolumeAbsent && m.Volume != VolumeTerminating
	})
	return Step{Kind: QuarantineVolumes, Members: who, Reason: o.direction(), Message: fmt.Sprintf(
		"%s no more: %s kept in quarantine for spec.storage.quarantineFor",
		strings.Join(who, ", ")+per(who, " is a member", " are members"), per(who, "the volume is", "the volumes are"))}, len(who) > 0
}

// removeLearner removes a learner that cannot or shall not become a voter. It
// does not vote, so no quorum depends on it; but it is in the way of every other
// change.
func removeLearner(o Observed) (Step, bool) {
	l, found := o.learner()
	if !found || !o.Quorate() {
		return Step{}, false
	}
	why, reason := o.hopeless(l), o.direction()
	if l.Stuck {
		reason = "LearnerNotSynced"
	}
	return Step{Kind: RemoveMember, Members: []string{l.Name}, ID: l.ID, Reason: reason, Message: fmt.Sprintf(
		"removing the learner %s (%x): %s", l.Name, l.ID, why)}, why != "" && (l.Steady || o.missing() <= 0)
}

// releaseListed lets the learner start once its ID is where its data will be; and
// any other member that is held, although etcd lists it.
func releaseListed(o Observed) (Step, bool) {
	who := names(o.Members, func(m Member) bool {
		return o.Quorate() && m.Listed && m.Held && m.RecordedID == m.ID && m.Pod.mayRun()
	})
	return Step{Kind: ReleaseMembers, Members: who, Reason: o.direction(), Message: fmt.Sprintf(
		"starting %s, which etcd lists by now", strings.Join(who, ", "))}, len(who) > 0
}

// promote makes the learner a voter when it has the log, and when the voters
// would still be a quorum with it; and never before an empty directory is
// forbidden to it.
//
// A learner that was sent a snapshot answers nobody for up to 7 s after its start
// (measured: etcd waits for its own entry, which came with the snapshot). The
// leader knows how far it has come and refuses one that lags, so it is asked,
// where the voters would be a quorum even if the new one were dead.
func promote(o Observed) (Step, bool) {
	l, found := o.learner()
	ready := found && o.Quorate() && l.Started && l.Booted && !l.PodMayBeEmpty && !l.Held && l.Pod == PodRunning &&
		l.Volume == VolumeBound && l.RecordedID == l.ID && o.hopeless(l) == ""
	known := l.Answers && l.FollowsLeader && l.CaughtUp && o.Staying()+1 >= Majority(o.Voters()+1)
	unheard := !l.Answers && o.Staying() >= Majority(o.Voters()+1)
	return Step{Kind: Promote, Members: []string{l.Name}, ID: l.ID, Reason: o.direction(), Message: fmt.Sprintf(
		"making the learner %s a voter", l.Name)}, ready && (known || unheard)
}

// joiner is the member that status names.
func (o Observed) joiner() (Member, bool) {
	i := slices.IndexFunc(o.Members, func(m Member) bool { return m.Joiner })
	if i < 0 {
		return Member{}, false
	}
	return o.Members[i], true
}

// dropJoiner gives a name up before anything that bears it is deleted: it is
// listed by now, or not needed any more, or its volume was spoiled.
func dropJoiner(o Observed) (Step, bool) {
	j, found := o.joiner()
	if !found || !o.List || o.ClusterID == 0 {
		return Step{}, false
	}
	why := ""
	switch {
	case j.Listed:
		// Whatever becomes of the member, its name is never given to another.
		why = "it is a member by now"
	case j.Volume == VolumeLost || j.Volume == VolumeRefused || j.Volume == VolumeTerminating || j.RecordedID != 0:
		why = "its volume is not the one that was made for it"
	case j.Gone:
		why = "its node is gone, and its volume cannot follow it to another"
	case j.MediumDiffers:
		why = "spec.storage.medium is another than when it was prepared"
	case j.Stuck && !j.proven():
		why = "it could not be made to run for failover.learnerTimeout" + because(j.Trouble)
	case o.missing() < 0 || (o.missing() == 0 && !o.silent()):
		why = "no further member is wanted"
	case !o.needed() && j.Volume == VolumeAbsent && j.Pod == PodAbsent:
		why = "no further member is wanted beside the learner"
	}
	return Step{Kind: DropJoiner, Members: []string{j.Name}, Reason: o.direction(), Message: fmt.Sprintf(
		"%s is not prepared to join any longer: %s", j.Name, why)}, why != ""
}

// silent says that a voter does not answer: it may be the one that the joiner was
// prepared for, and an operator that has just started does not know how long it
// has been silent.
func (o Observed) silent() bool {
	return slices.ContainsFunc(o.Members, func(m Member) bool { return m.Voter() && !m.Answers })
}

// discardUnused deletes what was prepared for a member that never joined. It
// has never held data: the guard lets etcd start only once the ID is recorded.
func discardUnused(o Observed) (Step, bool) {
	who := names(o.Members, func(m Member) bool {
		unused := !m.Listed && !m.Joiner && !m.Founder && m.RecordedID == 0 && !m.Booted
		volume := m.Volume != VolumeAbsent && m.Volume != VolumeTerminating
		pod := m.Pod != PodAbsent && m.Pod != PodTerminating && m.Held
		return o.Quorate() && unused && (volume || pod)
	})
	return Step{Kind: DiscardMembers, Members: who, Reason: o.direction(), Message: fmt.Sprintf(
		"%s never joined: what was prepared is deleted", strings.Join(who, ", "))}, len(who) > 0
}

// allot takes the next name. The member after the one that is catching up is
// prepared meanwhile.
func allot(o Observed) (Step, bool) {
	return Step{Kind: AllotMember, Reason: o.direction(), Message: fmt.Sprintf(
		"%s: preparing another member", o.want())}, o.Joiner == "" && o.Quorate() && o.needed() && o.steadyLoss()
}

// steadyLoss says that a voter which is missing because it is dead or doomed was
// seen so more than once.
func (o Observed) steadyLoss() bool {
	return !slices.ContainsFunc(o.Members, func(m Member) bool { return (m.Dead() || m.Doomed()) && !m.Steady })
}

func createJoiner(o Observed) (Step, bool) {
	j, found := o.joiner()
	return Step{Kind: CreateVolumes, Members: []string{j.Name}, Reason: o.direction(), Message: "creating the volume of " + j.Name},
		found && o.Quorate() && !j.Listed && j.Volume == VolumeAbsent && j.Pod == PodAbsent && o.needed()
}

// replaceJoiner lets the joiner's claim follow the spec while it is not bound.
func replaceJoiner(o Observed) (Step, bool) {
	j, found := o.joiner()
	return Step{Kind: ReplaceVolumes, Members: []string{j.Name}, Reason: o.direction(), Message: fmt.Sprintf(
			"the claim of %s was never bound and is made again from the spec", j.Name)},
		found && !j.Listed && j.Volume == VolumePending && j.VolumeOutdated && j.Pod == PodAbsent
}

// stopDead deletes the pod of a dead voter: under a hard anti-affinity it would
// keep its own replacement from being scheduled.
func stopDead(o Observed) (Step, bool) {
	who := names(o.Members, func(m Member) bool {
		return o.Quorate() && m.Dead() && m.Steady && m.Pod != PodAbsent && m.Pod != PodTerminating && !m.Unschedulable
	})
	return Step{Kind: StopMembers, Members: who, Reason: "Replacing", Message: fmt.Sprintf(
		"%s cannot come back: %s deleted to make room for the replacement", strings.Join(who, ", "), per(who, "the pod is", "the pods are"))}, len(who) > 0
}

func holdJoiner(o Observed) (Step, bool) {
	j, found := o.joiner()
	return Step{Kind: HoldMembers, Members: []string{j.Name}, Reason: o.direction(), Message: fmt.Sprintf(
			"making the pod of %s, which waits until etcd knows it", j.Name)},
		found && o.Quorate() && !j.Listed && j.Pod == PodAbsent && (j.Volume == VolumeBound || j.Volume == VolumePending)
}

// removeDead removes a dead voter: etcd takes no new member while a third of
// three is down. Its replacement is proven to run first, unless none is wanted.
func removeDead(o Observed) (Step, bool) {
	if !o.Quorate() {
		return Step{}, false
	}
	if _, found := o.learner(); found {
		return Step{}, false
	}
	j, _ := o.joiner()
	i := slices.IndexFunc(o.Members, func(m Member) bool {
		return m.Dead() && m.Steady && o.spares(m) && (j.proven() || o.missing() <= 0)
	})
	if i < 0 {
		return Step{}, false
	}
	m := o.Members[i]
	return Step{Kind: RemoveMember, Members: []string{m.Name}, ID: m.ID, Reason: "Replacing", Message: fmt.Sprintf(
		"removing %s (%x) from etcd: %s", m.Name, m.ID, m.loss())}, true
}

// VolumeTrouble says in a few words what is wrong with the member's volume.
func (m Member) VolumeTrouble() string {
	switch m.Volume {
	case VolumeRefused:
		return "its data was refused" + because(m.Trouble)
	case VolumeTerminating:
		return "its volume is being deleted"
	default:
		return "its volume is gone"
	}
}

// loss says in a few words what became of a member that is lost.
func (m Member) loss() string {
	switch {
	case m.Displaced && !m.VolumeElsewhere:
		return "it runs on an older spec, and its data is in memory"
	case m.Displaced && m.MediumDiffers && m.InMemory:
		return "its data is in memory, and spec.storage.medium is Disk"
	case m.Displaced && m.MediumDiffers:
		return "its data is on a volume, and spec.storage.medium is Memory"
	case m.Displaced:
		return "its volume is of another class than spec.storage.storageClassName"
	case m.Gone && !m.lost():
		return "its node is gone"
	case m.mistaken() && !m.lost():
		return fmt.Sprintf("its volume holds the data of member %x", m.RecordedID)
	case m.Volume == VolumeTerminating && m.Answers:
		return "its volume is being deleted while etcd runs on it"
	default:
		return m.VolumeTrouble()
	}
}

// mistrust has another voter lead when the leader has lost track of one that is there:
// it would refuse every change of the members for ever.
func mistrust(o Observed) (Step, bool) {
	from, led := o.Leader()
	if !o.LeaderDoubted || !o.due() || !led || !o.Quorate() || o.HealthyVoters() < o.Voters() {
		return Step{}, false
	}
	to, found := o.successor(from)
	return Step{Kind: MoveLeader, Members: []string{from.Name, to.Name}, ID: to.ID, Reason: o.direction(), Message: fmt.Sprintf(
		"handing the leadership from %s to %s: it refuses to change the members because it does not see all voters, and they all answer", from.Name, to.Name)}, found
}

// addLearner adds the joiner once it is proven to run and nobody dead is listed.
// The voters must be a quorum even if the new one should fail at once.
func addLearner(o Observed) (Step, bool) {
	j, found := o.joiner()
	_, learning := o.learner()
	ready := found && o.Quorate() && !learning && j.proven() && j.RecordedID == 0 && !j.Listed && o.needed() &&
		!slices.ContainsFunc(o.Members, Member.Dead)
	safe := o.Voters() == 1 || o.HealthyVoters() >= Majority(o.Voters()+1)
	return Step{Kind: AddLearner, Members: []string{j.Name}, Reason: o.direction(), Message: fmt.Sprintf(
		"adding %s to etcd as a learner", j.Name)}, ready && safe
}

// victim is the voter that a smaller cluster does without: one that will be lost
// first, then one that is not healthy, then never the leader if there is a
// choice, then the youngest.
func (o Observed) victim() (Member, bool) {
	_, learning := o.learner()
	if !o.Quorate() || learning || o.Voters() <= o.Size || o.missing() > 0 {
		return Member{}, false
	}
	var voters []Member
	for _, m := range o.Members {
		if m.Voter() {
			voters = append(voters, m)
		}
	}
	rank := func(m Member) int {
		switch {
		case m.Dead():
			return 0
		case m.Doomed():
			return 1
		case !m.Healthy():
			return 2
		case !m.Leads:
			return 3
		default:
			return 4
		}
	}
	slices.SortStableFunc(voters, func(a, b Member) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(b.Ordinal, a.Ordinal))
	})
	// One that will be lost, and serves, waits until all that stay are healthy; it must
	// not keep one that is not from leaving.
	m := voters[0]
	if next := 1; m.Doomed() && !o.leaves(m) && !voters[next].Healthy() {
		m = voters[next]
	}
	return m, o.leaves(m)
}

// leaves says that a smaller cluster may do without this voter now.
func (o Observed) leaves(m Member) bool {
	// Whoever serves goes on serving until all that stay do: clients would else
	// be sent to one that has just become a voter and answers nobody yet.
	ready := !m.Healthy() || o.HealthyVoters() == o.Voters()
	// A voter that was replaced before it is lost is the one to go. Nobody goes in its
	// stead who may be back in a moment, only one that holds it up for long.
	replaced := o.missing() == 0 && m.sound() && !m.LongSilent &&
		slices.ContainsFunc(o.Members, Member.Doomed)
	return m.Steady && ready && !replaced && o.spares(m)
}

// moveLeader hands the leadership over before the leader is removed, to the
// voter that has applied most, so that no election is needed.
func moveLeader(o Observed) (Step, bool) {
	from, found := o.victim()
	if !found || !from.Leads {
		return Step{}, false
	}
	to, found := o.successor(from)
	return Step{Kind: MoveLeader, Members: []string{from.Name, to.Name}, ID: to.ID, Reason: o.direction(), Message: fmt.Sprintf(
		"handing the leadership from %s to %s before %s is removed", from.Name, to.Name, from.Name)}, found
}

// successor is the healthy voter that has applied most of the log, one whose disk is not
// slow before all others.
func (o Observed) successor(of Member) (Member, bool) {
	var best Member
	for _, m := range o.Members {
		if m.Name != of.Name && m.Healthy() && m.sound() && (best.Name == "" || m.leadsBetter(best)) {
			best = m
		}
	}
	return best, best.Name != ""
}

func (m Member) leadsBetter(than Member) bool {
	if slow := m.SlowDisk > 0; slow != (than.SlowDisk > 0) {
		return !slow
	}
	return m.Applied > than.Applied
}

// shrink removes one voter more than are wanted.
func shrink(o Observed) (Step, bool) {
	m, found := o.victim()
	why := fmt.Sprintf("spec.size is %d", o.Size)
	if m.Doomed() {
		why = m.loss()
	}
	return Step{Kind: RemoveMember, Members: []string{m.Name}, ID: m.ID, Reason: o.direction(), Message: fmt.Sprintf(
		"removing %s (%x) from etcd: %s", m.Name, m.ID, why)}, found && !m.Leads && o.LeaderSettled
}

// direction is the reason that the conditions give for a change of membership.
func (o Observed) direction() string {
	switch {
	case slices.ContainsFunc(o.Members, func(m Member) bool { return m.Dead() || m.Doomed() }):
		return "Replacing"
	case o.missing() > 0:
		return "Growing"
	case o.Voters() > o.Size || slices.ContainsFunc(o.Members, func(m Member) bool { return m.Leaving }):
		return "Shrinking"
	default:
		return "Replacing"
	}
}

// want says in a few words what the change of membership is for.
func (o Observed) want() string {
	for _, m := range o.Members {
		if m.Dead() || m.Doomed() {
			return fmt.Sprintf("%s is to be replaced (%s)", m.Name, m.loss())
		}
	}
	voters := count(o.Members, Member.sound)
	if voters == 1 {
		return fmt.Sprintf("spec.size is %d and the cluster has 1 voter", o.Size)
	}
	return fmt.Sprintf("spec.size is %d and the cluster has %d voters", o.Size, voters)
}

// changing says that the members are not those that are wanted.
func (o Observed) changing() bool {
	_, learning := o.learner()
	return learning || o.Joiner != "" || o.missing() != 0 || o.Voters() != o.Size || slices.ContainsFunc(o.Members, Member.Dead) ||
		slices.ContainsFunc(o.Members, o.removed)
}

// waitForChange says what a change of membership waits for. Without a quorum
// there is nothing to change, and the rules that follow tell of that.
func waitForChange(o Observed) (Step, bool) {
	l, learning := o.learner()
	if !o.Quorate() || !o.changing() {
		return Step{}, false
	}
	wait := func(reason, format string, args ...any) (Step, bool) {
		return Step{Kind: Wait, Reason: reason, Message: o.want() + ": " + fmt.Sprintf(format, args...)}, true
	}
	notSynced := func(format string, args ...any) (Step, bool) {
		step, _ := wait("LearnerNotSynced", format, args...)
		step.Operation = o.direction()
		return step, true
	}
	j, joining := o.joiner()
	switch {
	case o.Joiner == "" && !o.steadyLoss():
		return wait(o.direction(), "a second look confirms it; %d of %d voters are healthy", o.HealthyVoters(), o.Voters())
	case learning && l.Lags:
		return notSynced("%s is a learner and has made no progress for a while%s; it is removed, and another one tried, after spec.failover.learnerTimeout — see whether its disk works, and whether a NetworkPolicy keeps it from the peer port of the others (2380, and 2383 with TLS)", l.Name, because(l.Trouble))
	case learning && l.Trails:
		return notSynced("%s is a learner that follows and comes no nearer to the leader: it takes entries no faster than they are written; it is kept as long as it makes progress, and votes once it has caught up — write less for a while, or look at its disk, its CPU limit and its network", l.Name)
	case learning:
		return wait(o.direction(), "%s is a learner and catches up%s", l.Name, because(l.Trouble))
	case joining && o.missing() == 0 && o.Voters() == o.Size:
		return wait("Degraded", "%s is kept ready to take the place of a voter that does not answer; as long as volume and node of that one are there, it is not replaced%s", j.Name, troubles(o))
	case joining && !j.proven():
		return wait(o.direction(), "%s is prepared to join%s", j.Name, because(j.Trouble))
	case joining:
		return wait(o.direction(), "%s joins once etcd takes it: %d of %d voters are healthy, and etcd wants every voter connected for 5 s%s",
			j.Name, o.HealthyVoters(), o.Voters(), troubles(o))
	case !o.LeaderSettled:
		return wait(o.direction(), "the leader is new, and nobody is removed before it has led for a second; %d of %d voters are healthy", o.HealthyVoters(), o.Voters())
	case o.missing() == 0 && o.Voters() == o.Size:
		who := names(o.Members, o.removed)
		return wait(o.direction(), "what %s left behind is cleared away", strings.Join(who, ", "))
	default:
		return wait(o.direction(), "%d of %d voters are healthy, and removing one must leave a quorum%s", o.HealthyVoters(), o.Voters(), troubles(o))
	}
}

// waitForWrites says why a change that is due does not begin although every member
// is healthy.
func waitForWrites(o Observed) (Step, bool) {
	why := "a linearizable read got no answer"
	if o.ProposeFailed != "" {
		why = "etcd refuses proposals: " + o.ProposeFailed
	}
	return Step{Kind: Wait, Reason: o.direction(), Message: fmt.Sprintf("%s: no member is added or removed while %s", o.want(), why)},
		o.List && o.ClusterID != 0 && !o.Quorate() && o.changing()
}

// per picks the words for one member, or for several.
func per(who []string, one, several string) string {
	if len(who) == 1 {
		return one
	}
	return several
}

func because(trouble string) string {
	if trouble == "" {
		return ""
	}
	return " (" + trouble + ")"
}

// corrupt gives up data that etcd has failed on five times in a row, once the
// others are a quorum without it. From then on it is refused, like any other
// data that the guard refuses.
func corrupt(o Observed) (Step, bool) {
	who := names(o.Members, func(m Member) bool {
		return m.Corrupt != "" && m.Steady && !m.Answers && m.Pod != PodTerminating && o.Quorate() && o.steady() >= Majority(o.Voters())
	})
	return Step{Kind: RecordRefusals, Members: who, Reason: "DataMissing", Message: fmt.Sprintf(
		"etcd fails on the data of %s again and again: it is not started any more", strings.Join(who, ", "))}, len(who) > 0
}

// deleteExpired comes last, when everything else is as it should be: a volume
// in quarantine is never the last copy then.
func deleteExpired(o Observed) (Step, bool) {
	return Step{Kind: DeleteExpired, Members: o.Expired, Reason: "Healthy", Message: fmt.Sprintf(
			"the quarantine of the volumes of %s is over: they are deleted", strings.Join(o.Expired, ", "))},
		len(o.Expired) > 0 && o.Quorate()
}
