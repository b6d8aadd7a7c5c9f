package plan

import (
	"fmt"
	"iter"
	"slices"
	"testing"
)

// TestSafety asks for the next step in every small state and checks what no
// step may ever do.
func TestSafety(t *testing.T) {
	cases := map[string]iter.Seq[Observed]{
		"one founder":    oneFounder(),
		"three founders": threeFounders(),
		"no founders":    noFounders(),
		"joining":        joining(),
		"leaving":        leavers(),
	}
	for name, states := range cases {
		t.Run(name, func(t *testing.T) {
			n := 0
			for o := range states {
				n++
				step := Next(o)
				for _, wrong := range violations(o, step) {
					t.Errorf("%s\nstep %s/%s %v in %+v", wrong, step.Kind, step.Reason, step.Members, o)
				}
				if t.Failed() {
					return
				}
			}
			t.Logf("%d states", n)
			if n < 100 {
				t.Errorf("only %d states were tried", n)
			}
		})
	}
}

// violations are the rules that the step breaks.
func violations(o Observed, step Step) []string {
	var wrong []string
	check := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	check(o.Paused == (step.Kind == Pause), "paused means Pause, and nothing else does")
	check(step.Message != "" && step.Reason != "", "a step without a reason or a message")
	if o.Founded() && len(o.Founders) > 0 {
		check(!slices.Contains([]Kind{LatchFounders, UnlatchVolumes}, step.Kind), "a founding step in a founded cluster")
		check(step.Kind != LatchVolumes || o.ClusterID == 0, "volumes are put on record after the latch")
	}
	if step.Kind.changesMembers() {
		for _, w := range quorumViolations(o) {
			check(false, "%s: %s", step.Kind, w)
		}
	}
	switch step.Kind {
	case AllotMember:
		check(o.Joiner == "" && votersThatLast(o) < o.Size, "a name is given away although nobody is missing")
	case RemoveMember, Promote, MoveLeader:
		check(step.ID != 0 && len(step.Members) > 0, "a change that names no ID")
		wrong = append(wrong, changeViolations(o, step)...)
	case LatchFounders:
		check(len(o.Founders) == 0, "founders are latched a second time")
		check(!o.Founded() || slices.Equal(step.Members, o.RecoveredFounders), "a founded cluster gets other founders")
	case LatchVolumes:
		check(slices.Equal(step.Members, o.Founders) && !o.VolumesLatched, "volumes are latched a second time")
	case LatchCluster:
		wrong = append(wrong, latchViolations(o)...)
	case DeleteExpired:
		check(slices.Equal(step.Members, o.Expired), "deletes what is to be kept")
	case Settled:
		check(o.ClusterID != 0 && len(o.CertificatesDue)+len(o.ObjectsDue) == 0, "settled although something is due")
		check(len(quorumViolations(o)) > 0 || (o.Size == len(o.Members) && o.Joiner == ""), "settled although the members are not those that are wanted")
		for _, m := range o.Members {
			check(m.Healthy(), "settled although %s is not healthy", m.Name)
		}
	case UpdateMember:
		for _, w := range quorumViolations(o) {
			check(false, "%s: %s", step.Kind, w)
		}
		for _, m := range o.Members {
			check(!m.Voter() || m.TakesTLS, "a peer URL is changed, and %s takes no TLS", m.Name)
			check(m.Name != step.Members[0] || (m.Plaintext && m.ID == step.ID), "the peer URL of %s is changed", m.Name)
		}
	case EnableDowngrade, CancelDowngrade:
		for _, w := range quorumViolations(o) {
			check(false, "%s: %s", step.Kind, w)
		}
	case Disarm:
		for _, m := range o.Members {
			check(step.Alarm != "NOSPACE" || m.DBSize*10 < m.Quota*9, "NOSPACE is disarmed, and %s has no room", m.Name)
		}
		check(step.Alarm != "CORRUPT" || len(o.Comparison.Agree) == o.Voters(), "CORRUPT is disarmed, and not all data is known to be equal")
	case Wait, Pause, IssueCertificates, ApplyObjects, SetFinalizer, LatchDowngrade, Compare:
	default:
		check(len(step.Members) > 0, "a step about nobody")
		for _, name := range step.Members {
			m, known := o.Member(name)
			check(known, "a step about %s, whom nobody knows", name)
			for _, w := range memberViolations(o, step.Kind, m) {
				check(false, "%s: %s", name, w)
			}
		}
	}
	return wrong
}

// memberViolations are the rules that a step about this member breaks.
func memberViolations(o Observed, kind Kind, m Member) []string {
	var broken []string
	rule := func(breach string, kept bool) {
		if !kept {
			broken = append(broken, breach)
		}
	}
	onRecord := m.VolumeLatched || m.RecordedID != 0
	switch kind {
	case StartMembers:
		rule("started beside another pod", m.Pod == PodAbsent)
		rule("started on a volume that is not on record", onRecord)
		rule("started on a volume that is absent, lost, refused or going", m.Volume == VolumeBound || m.Volume == VolumePending)
		rule("started although it may run elsewhere", !m.RunningElsewhere)
	case CreateVolumes:
		rule("a volume beside another", m.Volume == VolumeAbsent)
		rule("a volume for somebody who neither founds nor joins", m.Joiner || (m.Founder && !o.Founded()))
		rule("a new volume for one on record", !m.VolumeLatched && m.RecordedID == 0 && (m.Founder || !m.Listed))
		statusLost := !m.Joiner && !slices.ContainsFunc(o.Members, func(m Member) bool { return m.VolumeLatched })
		runs := slices.ContainsFunc(o.Members, func(m Member) bool { return m.Pod == PodRunning })
		rule("a new volume although status has lost the record", !statusLost || !runs)
	case UnlatchVolumes, ReplaceVolumes:
		rule("gives up a volume that may hold data", m.Volume == VolumePending && m.Pod != PodRunning && m.RecordedID == 0)
		rule("gives up a volume that is as it should be", m.VolumeOutdated)
		rule("gives up a volume in a founded cluster", m.Joiner || !o.Founded())
		rule("replaces a volume on record", kind == UnlatchVolumes || !m.VolumeLatched)
	case DeletePods:
		rule("deletes a pod that runs, or is not there, or goes already", m.Pod == PodEnded || m.Pod == PodWaiting || (m.Held && m.Pod == PodRunning))
		neverStarted := o.List && m.Listed && !m.Started && m.RecordedID == 0 && !m.Booted
		rule("deletes the data that is in a pod's memory", !m.InMemory || m.Volume != VolumeBound || m.Held || m.Pod == PodEnded)
		rule("deletes a pod that is as it should be", m.Pod == PodEnded || m.PodOutdated || (m.Refusal != "" && neverStarted))
	case RecordRefusals:
		rule("records a refusal that nobody gave", m.Refusal != "" || m.Corrupt != "")
		rule("gives data up without a quorum of others", m.Refusal != "" || (m.Steady && !m.Answers && len(quorumViolations(o)) == 0))
	case RecordMembers:
		joins := o.List && m.Listed && !m.Founder
		rule("records what no majority confirmed", m.NodeMoved || (o.List && m.Listed && m.Started) || (!o.List && m.PodReady) || joins ||
			(o.List && m.Listed && m.Leaving))
		rule("records on a volume that is going", m.Volume != VolumeTerminating)
	default:
		return membershipViolations(o, kind, m)
	}
	return broken
}

// membershipViolations are the rules of the steps that say who is a member.
func membershipViolations(o Observed, kind Kind, m Member) []string {
	var broken []string
	rule := func(breach string, kept bool) {
		if !kept {
			broken = append(broken, breach)
		}
	}
	prepared := m.Joiner && !m.Listed && m.RecordedID == 0
	left := !m.Listed && !m.Joiner
	used := m.RecordedID != 0 || m.Booted || m.VolumeLatched
	switch kind {
	case HoldMembers:
		rule("a pod for one that does not join", prepared && m.Pod == PodAbsent)
		rule("a pod without a volume", m.Volume == VolumeBound || m.Volume == VolumePending)
	case AddLearner:
		rule("one joins that was not proven to run", prepared && m.Held && m.Pod == PodRunning && m.Volume == VolumeBound)
		rule("a second learner", !slices.ContainsFunc(o.Members, func(m Member) bool { return m.Learner }))
	case ReleaseMembers:
		rule("released before its ID is on record", m.Listed && m.Held && m.RecordedID == m.ID)
	case DropJoiner:
		rule("drops one that does not join", m.Joiner)
	case DiscardMembers:
		rule("discards what a member may have used", left && !m.Founder && m.RecordedID == 0 && !m.Booted)
	case StopMembers:
		dies := m.Listed && !m.Learner && !m.Answers && m.Steady
		rule("stops a member", dies || (left && (used || !m.Held)))
	case RestartMember:
		if !o.List {
			rule("restarts one that may serve", !m.Answers && !m.PodReady && m.LongSilent && m.Steady)
			rule("restarts one that would not have its data", !m.InMemory && m.Volume == VolumeBound && m.RecordedID != 0)
			break
		}
		others, _, steady := tally(o, m.Name)
		rule("restarts one that does not run, or is of the present spec", m.Listed && !m.Learner && m.PodOutdated && m.Pod == PodRunning)
		rule("restarts one that would not have its data", !m.InMemory && m.Volume == VolumeBound && m.RecordedID == m.ID)
		rule("restarts one that the quorum needs", others == 0 || steady*2 > others+1)
		rule("restarts the leader", !m.Leads || others == 0 || (o.ProposeFailed != "" && len(o.Raised) == 0))
	case ExpandVolumes:
		rule("makes a volume larger that is not in use, or large enough", m.Volume == VolumeBound && m.VolumeSmall)
	case ResizePod:
		rule("resizes a pod that does not run", m.Pod == PodRunning)
	case Defragment, Compact:
		voters, _, steady := tally(o, m.Name)
		rule("stands still beside another", kind == Compact || (steady == voters && o.Chore.Kind == ""))
		rule("stands still and leads", kind == Compact || !m.Leads || voters == 0)
	case Condemn:
		rule("gives data up that no majority contradicts", slices.Contains(o.Comparison.Differ, m.ID) && o.Comparison.Twice && len(o.Comparison.Agree)*2 > o.Voters())
		rule("gives data up that goes with a pod", !m.InMemory && m.Volume == VolumeBound)
	case DeleteVolumes:
		rule("deletes a volume that was not marked to leave", left && used && m.Leaving)
		rule("deletes a volume under a pod", m.Pod == PodAbsent || m.Pod == PodTerminating)
	case QuarantineVolumes:
		rule("puts a member's volume into quarantine", left && (used || !m.Held) && m.Steady && (!m.Leaving || m.Volume == VolumeRefused))
	default:
		rule("no such step", false)
	}
	return broken
}

// changesMembers says that a step rests on what a majority confirmed.
func (k Kind) changesMembers() bool {
	return slices.Contains([]Kind{
		AllotMember, HoldMembers, AddLearner, ReleaseMembers, Promote, MoveLeader, RemoveMember,
		DiscardMembers, StopMembers, DeleteVolumes, QuarantineVolumes, DeleteExpired,
	}, k)
}

// tally counts the voters of the list, and those of them that are healthy, and
// that two looks have seen so, without the one of this name. It counts for itself.
func tally(o Observed, without string) (voters, healthy, steady int) {
	voters = len(o.ForeignMembers)
	for _, m := range o.Members {
		if !m.Listed || m.Learner || m.Name == without {
			continue
		}
		voters++
		if m.Answers && m.FollowsLeader {
			healthy++
			if m.Steady && m.Pod != PodTerminating {
				steady++
			}
		}
	}
	return voters, healthy, steady
}

// votersThatLast counts the voters that neither are lost nor will be.
func votersThatLast(o Observed) int {
	n, moves := 0, false
	for _, m := range o.Members {
		moves = moves || m.VolumeElsewhere || (m.InMemory && m.PodOutdated)
		lost := m.Volume != VolumeBound && m.Volume != VolumePending || m.RecordedID != 0 && m.RecordedID != m.ID
		goes := lost && (!m.Answers || m.Pod != PodTerminating) || m.Gone && !m.Answers
		if m.Listed && !m.Learner && !goes {
			n++
		}
	}
	if moves {
		// One at a time goes where it can follow the spec.
		n--
	}
	return n
}

// quorumViolations are why nothing may be done that needs a quorum.
func quorumViolations(o Observed) []string {
	var wrong []string
	voters, healthy, _ := tally(o, "")
	if !o.List || !o.ReadOK || (o.ProposeFailed != "" && len(o.Raised) == 0) {
		wrong = append(wrong, "no majority confirmed the list, a read and a proposal")
	}
	if o.ClusterID == 0 || o.AgreedClusterID != o.ClusterID {
		wrong = append(wrong, "the members are not those of the latched cluster")
	}
	if len(o.ForeignMembers) > 0 {
		wrong = append(wrong, "somebody else's member is listed")
	}
	if healthy*2 <= voters {
		wrong = append(wrong, fmt.Sprintf("%d healthy voters of %d are no quorum", healthy, voters))
	}
	return wrong
}

// changeViolations are the rules that a change of the voters breaks.
func changeViolations(o Observed, step Step) []string {
	var wrong []string
	rule := func(breach string, kept bool) {
		if !kept {
			wrong = append(wrong, breach)
		}
	}
	m, known := o.Member(step.Members[0])
	rule("changes one whom etcd does not list", known && m.Listed)
	voters, healthy, steady := tally(o, m.Name)
	switch {
	case step.Kind == MoveLeader:
		to, _ := o.Member(step.Members[1])
		rule("the leadership goes to nobody", m.Leads && to.ID == step.ID && to.Answers && to.FollowsLeader && to.Listed && !to.Learner)
	case step.Kind == Promote:
		rule("promotes another", m.ID == step.ID && m.Learner)
		rule("promotes one whose data is going", m.Volume == VolumeBound && m.RecordedID == m.ID)
		rule("promotes one that may start empty", m.Started && m.Booted && !m.PodMayBeEmpty && !m.Held)
		if m.Answers {
			rule("promotes a learner that lags", m.CaughtUp && m.FollowsLeader)
			healthy++
		}
		rule("the voters would be no quorum", healthy*2 > voters+1)
	case m.Learner:
		rule("removes another", m.ID == step.ID)
		rule("removes a learner on the word of one look", m.Steady || votersThatLast(o) >= o.Size)
	default:
		rule("removes another", m.ID == step.ID)
		rule("removes the leader", !m.Leads)
		rule("removes on the word of one look", m.Steady)
		rule("removes beside a learner", !slices.ContainsFunc(o.Members, func(m Member) bool { return m.Listed && m.Learner }))
		rule("the voters that are left would be no quorum", voters > 0 && steady*2 > voters)
		lost := m.Volume != VolumeBound && m.Volume != VolumePending || m.Gone || m.RecordedID != m.ID
		proven := slices.ContainsFunc(o.Members, func(j Member) bool {
			return j.Joiner && j.Held && j.Pod == PodRunning && j.Volume == VolumeBound
		})
		rule("removes a voter that is wanted", voters >= o.Size || (lost && !m.Answers && proven))
		rule("removes the only copy of what the others may lose", lost || votersThatLast(o) > 0)
	}
	return wrong
}

func latchViolations(o Observed) []string {
	var wrong []string
	agreeing := func(m Member) bool {
		return m.Listed && m.Answers && m.FollowsLeader && m.AnswerClusterID == o.AgreedClusterID
	}
	founders, voters := 0, 0
	for _, m := range o.Members {
		if agreeing(m) && m.Founder {
			founders++
		}
		if agreeing(m) && !m.Learner {
			voters++
		}
		if m.Listed && m.Started && m.Volume == VolumeBound && m.RecordedID == 0 {
			wrong = append(wrong, "latched before the ID of "+m.Name+" is recorded")
		}
	}
	if o.ClusterID != 0 || !o.List || o.AgreedClusterID == 0 {
		wrong = append(wrong, "latched twice, or without a confirmed list")
	}
	// Before any member ID is recorded only the founders count. After that the
	// latch is written again, and whoever votes now may say so.
	if founders*2 <= len(o.Founders) && (!o.Founded() || voters*2 <= o.Voters()) {
		wrong = append(wrong, "latched without a majority that agrees on one cluster ID")
	}
	return wrong
}

// alternatives of one property of a member.
type alternatives []edit

func is(edits ...edit) edit {
	return func(m *Member) {
		for _, e := range edits {
			e(m)
		}
	}
}

// product yields a member for each combination.
func product(ordinal int, properties ...alternatives) []Member {
	members := []Member{member(ordinal)}
	for _, p := range properties {
		var next []Member
		for _, m := range members {
			for _, e := range p {
				n := m
				e(&n)
				next = append(next, n)
			}
		}
		members = next
	}
	return members
}

var (
	unchanged  = is()
	volumes    = alternatives{volume(VolumeAbsent), pending, claimed, volume(VolumeTerminating), volume(VolumeLost), volume(VolumeRefused)}
	latches    = alternatives{unchanged, latched}
	records    = alternatives{unchanged, recorded}
	pods       = alternatives{unchanged, elsewhere, waiting, runs, is(runs, maybeEmpty), ended, leaving}
	memberList = alternatives{unchanged, listed, started}
	replies    = alternatives{unchanged, answers, leaderless, is(answers, func(m *Member) { m.AnswerClusterID = 0xbad })}
	extras     = alternatives{unchanged, refusedData, outdated, nodeMoved}
)

// surroundings are what a cluster may look like apart from its members.
func surroundings(o Observed, most ...[]change) iter.Seq[Observed] {
	return func(yield func(Observed) bool) {
		if len(most) == 0 {
			yield(o)
			return
		}
		for _, c := range most[0] {
			for inner := range surroundings(o.with(c), most[1:]...) {
				if !yield(inner) {
					return
				}
			}
		}
	}
}

func nothing(*Observed) {}

// confirm gives the look what a list implies: what is listed was confirmed by
// a majority.
func confirm(o *Observed) {
	if slices.ContainsFunc(o.Members, func(m Member) bool { return m.Listed }) {
		confirmed(o)
	}
}

func oneFounder() iter.Seq[Observed] {
	return func(yield func(Observed) bool) {
		for _, m := range product(0, volumes, latches, records, pods, memberList, replies, extras) {
			all := surroundings(founders(m).with(confirm),
				[]change{nothing, pausedByUser}, []change{nothing, latchedID},
				[]change{nothing, foreign, certificatesDue, objectsDue, finalizerDue, problem("NameConflict"), size(3)})
			for o := range all {
				if !yield(o) {
					return
				}
			}
		}
	}
}

// joining has a member that is to join, in any state, beside voters of which one
// is lost, or going, or as it should be.
func joining() iter.Seq[Observed] {
	leader := member(0, up, steady, leads)
	settings := []Observed{
		founders(leader).with(size(3)),
		founders(leader, member(1, up, steady)).with(size(1)),
		founders(leader, member(1, up, dead), member(2, up, steady)),
		founders(leader, member(1, up, dead, waiting, func(m *Member) { m.Steady = false }), member(2, up, steady)),
		founders(leader, member(1, up, steady, volume(VolumeTerminating)), member(2, up, steady)),
		founders(leader, member(1, up, crashed, elsewhere, gone, steady), member(2, up, crashed, waiting)),
		founders(leader, member(1, up, off, crashed, steady), member(2, up, steady)),
		founders(leader, member(1, up, steady)).with(size(3), func(o *Observed) { o.ProposeFailed = "etcdserver: mvcc: database space exceeded" }),
	}
	names := alternatives{unchanged, func(m *Member) { m.Joiner = true }}
	jpods := alternatives{unchanged, is(waiting, held, maybeEmpty), is(runs, held, maybeEmpty), is(runs, maybeEmpty), runs, ended, leaving, is(waiting, unschedulable)}
	entries := alternatives{unchanged, is(listed, func(m *Member) { m.Learner = true }), is(started, func(m *Member) { m.Learner = true }), started}
	further := alternatives{unchanged, is(onRecord, answers, caughtUp), is(onRecord, answers), onRecord, stuck}
	records := alternatives{unchanged, recorded, func(m *Member) { m.RecordedID = 0x77 }}
	return func(yield func(Observed) bool) {
		for _, o := range settings {
			voters := o.Members
			for _, j := range product(3, names, volumes, records, jpods, entries, further, alternatives{unchanged, steady}) {
				j.Founder = false
				o.Members, o.Joiner = append(slices.Clone(voters), j), ""
				if j.Joiner {
					o.Joiner = j.Name
				}
				if !yield(o.with(confirmed, latchedID)) {
					return
				}
			}
		}
	}
}

// leavers has more voters than are wanted, three of them in any state.
func leavers() iter.Seq[Observed] {
	each := func(ordinal int) []Member {
		return product(ordinal, alternatives{
			is(up, steady), up, is(up, steady, leads), is(up, dead), is(up, crashed, waiting, steady), is(up, steady, volume(VolumeTerminating)),
			is(up, crashed, elsewhere, gone, steady), is(up, off, leavingMember), is(up, off, crashed, leavingMember), is(up, off, crashed, steady),
			is(up, steady, leavingMember), is(up, off, steady), is(up, steady, func(m *Member) { m.Learner = true }),
			is(up, crashed, waiting, steady, corrupted), is(up, steady, func(m *Member) { m.FollowsLeader = false }),
			is(up, crashed, waiting, steady, func(m *Member) { m.RecordedID = 0x77 }),
		})
	}
	return func(yield func(Observed) bool) {
		for _, a := range each(0) {
			for _, b := range each(1) {
				for _, c := range each(2) {
					for _, d := range []Member{member(3, up, steady), member(3, up, crashed, waiting), member(3, up, steady, leads)} {
						o := founders(a, b, c, d).with(confirmed, latchedID)
						all := surroundings(o, []change{size(1), size(3), size(5)}, []change{nothing, alone, foreign})
						for o := range all {
							if !yield(o) {
								return
							}
						}
					}
				}
			}
		}
	}
}

// threeFounders has one member in any state, and two in the states that matter
// to it.
func threeFounders() iter.Seq[Observed] {
	others := func(ordinal int) []Member {
		return product(ordinal, alternatives{
			unchanged, latched, pending, is(claimed, latched, runs), booted, up,
			is(up, crashed), is(up, crashed, volume(VolumeLost)), is(claimed, latched, runs, listed, answers),
			is(booted, func(m *Member) { m.AnswerClusterID = 0xbad }),
		})
	}
	return func(yield func(Observed) bool) {
		for _, m := range product(0, volumes, latches, records, pods, memberList, replies) {
			for i, second := range others(1) {
				for _, third := range others(2)[i:] {
					for o := range surroundings(founders(m, second, third).with(confirm), []change{nothing, latchedID}) {
						if !yield(o) {
							return
						}
					}
				}
			}
		}
	}
}

// noFounders has lost what names them.
func noFounders() iter.Seq[Observed] {
	return func(yield func(Observed) bool) {
		for _, m := range product(0, volumes, records, pods, memberList, replies) {
			m.Founder = false
			o := Observed{Size: 1, FounderNames: []string{"a-0000"}, Members: []Member{m}}
			recovered := func(o *Observed) { o.RecoveredFounders = []string{"a-0000"} }
			for o := range surroundings(o, []change{nothing, latchedID}, []change{nothing, recovered}, []change{nothing, pausedByUser}) {
				if !yield(o) {
					return
				}
			}
		}
	}
}
