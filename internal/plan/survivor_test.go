package plan

import (
	"slices"
	"strings"
	"testing"
)

// twoOfFive is a cluster of five of which two volumes are left, and the user's word for one
// of them; nobody runs any more.
func twoOfFive(survivor string, edits ...edit) Observed {
	gone := func(m *Member) { up(m); crashed(m); m.Volume, m.RecordedID = VolumeAbsent, 0 }
	at := func(index uint64) edit {
		return func(m *Member) { m.Position = Position{Term: 3, Index: index, Revision: int64(index) - 5} }
	}
	first := append([]edit{up, crashed, at(100)}, edits...)
	o := founders(member(0, first...), member(1, up, crashed, at(120)), member(2, gone), member(3, gone), member(4, gone)).with(latchedID, alone)
	for i := range o.Members {
		o.Members[i].Listed, o.Members[i].Started = false, false
	}
	o.Recovery, o.Incarnation = &Recovery{Survivor: survivor, Told: true}, 1
	return o
}

// TestPossibleLoss of a backup: all that came later, which is more than nothing as far as is known.
func TestPossibleLoss(t *testing.T) {
	o := twoOfFive("")
	for name, tc := range map[string]struct {
		recovery Recovery
		want     string
	}{
		"members had come further": {Recovery{Backup: "b", BackupRevision: 90}, "what was acknowledged since revision 90, that of the backup, is lost; a-0001 had come to revision 115 of incarnation 1"},
		"none is known to have":    {Recovery{Backup: "b", BackupRevision: 115}, "what was acknowledged since revision 115, that of the backup, is lost"},
		"there is a safety backup": {Recovery{Backup: "b", BackupRevision: 90, Restore: "r", Safety: "r-safety", SafetyRevision: 110}, "what was acknowledged since revision 110, that of the safety backup r-safety, stays on the old volumes alone; a-0001 had come to revision 115 of incarnation 1"},
		"it holds everything":      {Recovery{Backup: "b", BackupRevision: 90, Restore: "r", Safety: "r-safety", SafetyRevision: 115}, "what was acknowledged since revision 115, that of the safety backup r-safety, stays on the old volumes alone"},
		"it is carried back":       {Recovery{Backup: "b", BackupRevision: 115, Restore: "r"}, "what was acknowledged since revision 115, that of the backup, stays on the old volumes alone"},
	} {
		o.Recovery = &tc.recovery
		if got := o.PossibleLoss(); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// TestSurvivor: the incarnation begins with the survivor that the word names only if that has
// voted, its volume is there, it runs nowhere, and no other is known to have come further.
func TestSurvivor(t *testing.T) {
	elsewhere := func(m *Member) { m.RunningElsewhere = true }
	ahead := func(m *Member) { m.Position = Position{Term: 2, Index: 121, Revision: 116} }
	equal := func(m *Member) { m.Position = Position{Term: 9, Index: 120, Revision: 115} }
	silent := func(m *Member) { m.Position = Position{} }
	unheard := twoOfFive("a-0000")
	unheard.Members[1].Position = Position{}
	unborn := founders(member(0, func(m *Member) { m.Volume, m.VolumeLatched, m.Pod = VolumeBound, true, PodWaiting }))
	unborn.Recovery, unborn.Incarnation = &Recovery{Survivor: "a-0000", Told: true}, 2
	none := twoOfFive("a-0000", func(m *Member) { m.Volume = VolumeRefused })
	none.Members[1].Volume = VolumeLost
	one := lostForGood(&Recovery{Survivor: "a-0000", Told: true}, crashed)
	for name, tc := range map[string]struct {
		seen   Observed
		want   Kind
		reason string
		says   string
	}{
		"the furthest":                    {twoOfFive("a-0001"), RaiseIncarnation, "Recovering", "a copy of the volume of a-0001, which has come to index 120 of raft's log, which is revision 115"},
		"what may be lost is told":        {twoOfFive("a-0001"), RaiseIncarnation, "Recovering", "writes are lost that were acknowledged by 3 of the 5 voters and never reached a-0001"},
		"another has come further":        {twoOfFive("a-0000"), Wait, "RecoveryBlocked", "set spec.recovery.survivor to a-0001"},
		"it has more, in a lower term":    {twoOfFive("a-0000", ahead), RaiseIncarnation, "Recovering", ""},
		"both are as far":                 {twoOfFive("a-0000", equal), RaiseIncarnation, "Recovering", ""},
		"it has not told, and one has":    {twoOfFive("a-0000", silent), Wait, "RecoveryBlocked", "a-0000 has come to a position that is not known"},
		"the other has not told":          {unheard, RaiseIncarnation, "Recovering", "how far a-0001 had come is not known"},
		"the only one":                    {one, RaiseIncarnation, "Recovering", "begins with one member and grows to 3"},
		"no such member":                  {twoOfFive("a-0009"), Wait, "RecoveryBlocked", "no member of incarnation 1"},
		"its volume is gone":              {twoOfFive("a-0002"), Wait, "RecoveryBlocked", "set spec.recovery.survivor to a-0001"},
		"its data was refused":            {twoOfFive("a-0000", ahead, func(m *Member) { m.Volume = VolumeRefused }), Wait, "RecoveryBlocked", "the volume of a-0000"},
		"its volume was never bound":      {twoOfFive("a-0000", ahead, func(m *Member) { m.Volume = VolumePending }), Wait, "RecoveryBlocked", "the volume of a-0000"},
		"no volume is left":               {none, Wait, "RecoveryBlocked", "name an EtcdBackup"},
		"it never came to be":             {unborn, Wait, "RecoveryBlocked", "incarnation 2 has never served"},
		"a learner":                       {twoOfFive("a-0000", ahead, func(m *Member) { m.WasLearner = true }), Wait, "RecoveryBlocked", "a-0000 is a learner"},
		"the joiner":                      {twoOfFive("a-0000", ahead, func(m *Member) { m.Joiner = true }), Wait, "RecoveryBlocked", "no member"},
		"it may run":                      {twoOfFive("a-0000", ahead, elsewhere), Wait, "RecoveryBlocked", "its volume would be copied while etcd writes it"},
		"the other may run":               {func() Observed { o := twoOfFive("a-0000", ahead); o.Members[1].RunningElsewhere = true; return o }(), RaiseIncarnation, "Recovering", ""},
		"it runs":                         {twoOfFive("a-0000", ahead, func(m *Member) { m.Pod = PodRunning }), StopIncarnation, "Recovering", ""},
		"another is further, and it runs": {twoOfFive("a-0000", func(m *Member) { m.Pod = PodRunning }), Wait, "RecoveryBlocked", "a-0001"},
		"the incarnation never served": {twoOfFive("a-0001").with(func(o *Observed) {
			o.ClusterID, o.Incarnation = 0, 2
			for i := range o.Members {
				m := &o.Members[i]
				m.RecordedID, m.Booted = 0, false
			}
		}), Wait, "RecoveryBlocked", "has never served"},
		"the release cannot read it": {twoOfFive("a-0001").with(func(o *Observed) { o.Recovery.Blocked = "it cannot — why — what" }), Wait, "RecoveryBlocked", "it cannot"},
	} {
		t.Run(name, func(t *testing.T) {
			got := Next(tc.seen)
			if why := tc.seen.RecoveryHeld(); tc.reason == "RecoveryBlocked" && why != "" {
				// As if it had not been said.
				if got.Kind == StopIncarnation || got.Kind == RaiseIncarnation {
					t.Errorf("Next() = %s, and it is held: %s", got.Kind, why)
				}
				got = Step{Kind: Wait, Reason: "RecoveryBlocked", Message: why}
			}
			if got.Kind != tc.want || got.Reason != tc.reason || !strings.Contains(got.Message, tc.says) {
				t.Errorf("Next() = %s/%s %v (%s), want %s/%s and %q", got.Kind, got.Reason, got.Members, got.Message, tc.want, tc.reason, tc.says)
			}
			if got.Reason == "RecoveryBlocked" && strings.Count(got.Message, " — ") != 2 {
				t.Errorf("the message is not in three parts: %s", got.Message)
			}
		})
	}
}

// TestLeft names those that can be gone on with, the furthest first.
func TestLeft(t *testing.T) {
	var got []string
	for _, m := range twoOfFive("").Left() {
		got = append(got, m.Name)
	}
	if !slices.Equal(got, []string{"a-0001", "a-0000"}) {
		t.Errorf("Left() = %v", got)
	}
}
