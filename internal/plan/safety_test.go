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
		check(!slices.Contains([]Kind{LatchFounders, CreateVolumes, UnlatchVolumes, ReplaceVolumes}, step.Kind), "a founding step in a founded cluster")
		check(step.Kind != LatchVolumes || o.ClusterID == 0, "volumes are put on record after the latch")
	}
	switch step.Kind {
	case LatchFounders:
		check(len(o.Founders) == 0, "founders are latched a second time")
		check(!o.Founded() || slices.Equal(step.Members, o.RecoveredFounders), "a founded cluster gets other founders")
	case LatchVolumes:
		check(slices.Equal(step.Members, o.Founders) && !o.VolumesLatched, "volumes are latched a second time")
	case LatchCluster:
		wrong = append(wrong, latchViolations(o)...)
	case Settled:
		check(o.ClusterID != 0 && len(o.CertificatesDue)+len(o.ObjectsDue) == 0 && o.Size == len(o.Members), "settled although something is due")
		for _, m := range o.Members {
			check(m.Healthy(), "settled although %s is not healthy", m.Name)
		}
	case Wait, Pause, IssueCertificates, ApplyObjects, SetFinalizer:
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
		rule("a volume for somebody who is no founder", m.Founder)
		rule("a new volume for one on record", !m.VolumeLatched)
		statusLost := !slices.ContainsFunc(o.Members, func(m Member) bool { return m.VolumeLatched })
		runs := slices.ContainsFunc(o.Members, func(m Member) bool { return m.Pod == PodRunning })
		rule("a new volume although status has lost the record", !statusLost || !runs)
	case UnlatchVolumes, ReplaceVolumes:
		rule("gives up a volume that may hold data", m.Volume == VolumePending && m.Pod != PodRunning && m.RecordedID == 0)
		rule("gives up a volume that is as it should be", m.VolumeOutdated)
		rule("replaces a volume on record", kind == UnlatchVolumes || !m.VolumeLatched)
	case DeletePods:
		rule("deletes a pod that runs, or is not there, or goes already", m.Pod == PodEnded || m.Pod == PodWaiting)
		neverStarted := o.List && m.Listed && !m.Started && m.RecordedID == 0 && !m.Booted
		rule("deletes a pod that is as it should be", m.Pod == PodEnded || m.PodOutdated || (m.Refusal != "" && neverStarted))
	case RecordRefusals:
		rule("records a refusal that nobody gave", m.Refusal != "")
	case RecordMembers:
		rule("records what no majority confirmed", m.NodeMoved || (o.List && m.Listed && m.Started))
		rule("records on a volume that is going", m.Volume != VolumeTerminating)
	default:
		rule("no such step", false)
	}
	return broken
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
