package plan

import (
	"slices"
	"strings"
	"testing"
)

// TestDataInAPod: what is in the memory of a pod is deleted by no step that only brings
// something back, and no word of the user stops it before it was saved.
func TestDataInAPod(t *testing.T) {
	memory := func(m *Member) { m.InMemory = true }
	between := func(m *Member) { crashed(m); waiting(m); m.InMemory, m.PodOutdated, m.TrustOutdated = true, true, true }
	for name, o := range map[string]Observed{
		"one is between two runs":  rolledOut(3, all(memory), of(1, between)),
		"two are between two runs": rolledOut(3, all(memory), of(1, between), of(2, between)).with(alone),
		"the only one is":          rolledOut(1, of(0, between)).with(alone),
	} {
		t.Run(name, func(t *testing.T) {
			if got := Next(o); got.Kind == DeletePods {
				t.Errorf("Next() = %s %v: %s", got.Kind, got.Members, got.Message)
			}
		})
	}

	survivor := twoOfFive("a-0001")
	runs(&survivor.Members[0])
	survivor.Members[0].InMemory = true
	named := twoOfFive("a-0000")
	runs(&named.Members[0])
	named.Members[0].InMemory = true
	backup := lostForGood(&Recovery{Backup: "b", Told: true}, func(m *Member) { m.InMemory = true })
	for name, o := range map[string]Observed{"another survivor is named": survivor, "it is named itself": named, "a backup is named": backup} {
		t.Run(name, func(t *testing.T) {
			if got := Next(o); got.Kind == StopIncarnation || !strings.Contains(o.RecoveryHeld(), "is in the memory of its pod") {
				t.Errorf("Next() = %s %v, held: %q", got.Kind, got.Members, o.RecoveryHeld())
			}
			if slices.ContainsFunc(o.Left(), func(m Member) bool { return m.InMemory }) {
				t.Errorf("left: %v", names(o.Left(), func(Member) bool { return true }))
			}
		})
	}
}

// TestDoubtfulData: while it is not settled whose data is right nobody comes or goes by
// choice, for the leader's data is what each new member gets; who is lost is replaced.
func TestDoubtfulData(t *testing.T) {
	lostOne := of(2, crashed, volume(VolumeLost), steady)
	for name, tc := range map[string]struct {
		observed Observed
		want     Kind
		reason   string
	}{
		"nobody is added":                   {upkept(3, allDiffer, size(5)), Wait, "DataDiffers"},
		"nor taken away":                    {upkept(5, differs(1, 2, 3), size(3)), Wait, "DataDiffers"},
		"nor moved":                         {upkept(3, allDiffer, of(2, otherClass)), Wait, "DataDiffers"},
		"nor moved off memory":              {upkept(3, allDiffer, of(0, inPod), of(1, inPod), of(2, inPod)), Wait, "DataDiffers"},
		"nor added with CORRUPT":            {upkept(3, corrupt2, size(5)), Wait, "Comparing"},
		"nor moved with CORRUPT":            {upkept(3, corrupt2, of(2, otherClass)), Wait, "Comparing"},
		"what is wrong is given up":         {upkept(3, differs(1), size(5)), Condemn, "Replacing"},
		"and then the cluster grows":        {upkept(3, size(5)), AllotMember, "Growing"},
		"who is lost is replaced":           {upkept(3, differs(1), lostOne), AllotMember, "Replacing"},
		"who came for the lost is enough":   {upkept(4, corrupt2, of(3, crashed, volume(VolumeRefused), steady), size(3)), RemoveMember, "Replacing"},
		"also while the cluster is to grow": {upkept(4, corrupt2, of(3, crashed, volume(VolumeRefused), steady), size(5)), RemoveMember, "Replacing"},
		"after what was done it moves":      {upkept(3, of(2, otherClass)), AllotMember, "Replacing"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Next(tc.observed); got.Kind != tc.want || got.Reason != tc.reason {
				t.Errorf("Next() = %s/%s %v (%s), want %s/%s", got.Kind, got.Reason, got.Members, got.Message, tc.want, tc.reason)
			}
		})
	}
}

// TestTheLastToMoveIsEvicted: the one that came for it is not the one too many.
func TestTheLastToMoveIsEvicted(t *testing.T) {
	copies := rolledOut(3, of(0, otherClass, terminating))
	copies.Members = append(copies.Members, learner(3, func(m *Member) { m.Held, m.Started, m.Answers, m.Booted = false, true, true, true }))
	votes := rolledOut(4, of(0, otherClass, terminating), size(3))
	for name, o := range map[string]Observed{"its learner copies": copies, "the new one votes": votes} {
		t.Run(name, func(t *testing.T) {
			if got := Next(o); got.Kind == RemoveMember && slices.Contains(got.Members, "a-0003") {
				t.Errorf("Next() = %s %v: %s", got.Kind, got.Members, got.Message)
			}
		})
	}
}

// TestADowngradeInMemory says why it does not begin.
func TestADowngradeInMemory(t *testing.T) {
	o := rolledOut(3, all(runsVersion("3.7.3")), of(1, func(m *Member) { m.InMemory = true }))
	o.Version, o.DowngradeTo = "3.6.16", "3.6"
	if why := o.Barred(); !strings.Contains(why, "set storage.medium to Disk first") {
		t.Errorf("Barred() = %q", why)
	}
}

// TestTheLastToBegin: a pod that may begin empty is not made again while nobody can say that
// the next one may: with a member that has lost its data it is the only one left to be a
// quorum with.
func TestTheLastToBegin(t *testing.T) {
	unborn := func(m *Member) {
		latched(m)
		waiting(m)
		m.Volume, m.PodMayBeEmpty, m.PodOutdated, m.Founder = VolumeBound, true, true, true
	}
	alone := founders(member(0, up, outdated), member(1, latched, volume(VolumeRefused)), member(2, unborn)).with(latchedID, alone)
	if got := Next(alone); got.Kind == DeletePods {
		t.Errorf("Next() = %s %v: %s", got.Kind, got.Members, got.Message)
	}
	quorum := rolledOut(3, of(2, crashed, unborn, func(m *Member) { m.Booted, m.Started, m.RecordedID = false, false, 0 }))
	if got := Next(quorum); got.Kind != DeletePods {
		t.Errorf("with a quorum: Next() = %s %v: %s", got.Kind, got.Members, got.Message)
	}
}
