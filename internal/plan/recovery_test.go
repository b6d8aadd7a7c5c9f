package plan

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// lostForGood is a founded cluster of three of which one volume is left, and the user's
// word; changes are of the survivor.
func lostForGood(word *Recovery, survivor ...edit) Observed {
	gone := func(m *Member) { up(m); crashed(m); m.Volume, m.RecordedID = VolumeAbsent, 0 }
	leaderless := func(m *Member) { up(m); m.FollowsLeader = false }
	o := founders(member(0, append([]edit{leaderless}, survivor...)...), member(1, gone), member(2, gone)).with(latchedID, alone)
	for i := range o.Members {
		o.Members[i].Listed, o.Members[i].Started = false, false
	}
	o.Recovery, o.Incarnation = word, 1
	return o
}

func TestRecovery(t *testing.T) {
	word := &Recovery{Backup: "nightly", Told: true}
	elsewhere := func(m *Member) { crashed(m); m.RunningElsewhere = true }
	all := []string{"a-0000", "a-0001", "a-0002"}
	two := lostForGood(word, crashed)
	two.Members[1].RunningElsewhere, two.Members[2].RunningElsewhere = true, true
	for name, tc := range map[string]struct {
		seen   Observed
		want   Kind
		reason string
		on     []string
		says   string
	}{
		"no word":                         {lostForGood(nil), Wait, "DataMissing", nil, ""},
		"not told for long":               {lostForGood(&Recovery{Backup: "nightly"}), Wait, "DataMissing", nil, ""},
		"not told, and nobody runs":       {lostForGood(&Recovery{Backup: "nightly"}, crashed), StartMembers, "", all[:1], ""},
		"a quorum answers":                {founded().with(func(o *Observed) { o.Recovery = word }), Settled, "", nil, ""},
		"a list, and no read":             {founded().with(func(o *Observed) { o.Recovery, o.ReadOK = word, false }), Settled, "", nil, ""},
		"the backup cannot be restored":   {lostForGood(&Recovery{Backup: "nightly", Told: true, Blocked: "it is gone — why — what"}), Wait, "RecoveryBlocked", nil, "it is gone"},
		"paused":                          {lostForGood(word).with(pausedByUser), Pause, "", nil, ""},
		"the survivor runs":               {lostForGood(word), StopIncarnation, "Recovering", all[:1], "the volumes are kept"},
		"the survivor stops":              {lostForGood(word, func(m *Member) { m.Pod = PodTerminating }), Wait, "Recovering", all[:1], ""},
		"nobody runs any more":            {lostForGood(word, crashed), RaiseIncarnation, "Recovering", all, "incarnation 2 begins with backup nightly"},
		"the survivor may run elsewhere":  {lostForGood(word, elsewhere), RaiseIncarnation, "Recovering", all, ""},
		"the two others may be a quorum":  {two, Wait, "RecoveryBlocked", all[1:], "out-of-service"},
		"before the founding is over":     {lostForGood(word, crashed).with(unlatched), StartMembers, "", all[:1], ""},
		"the pod of the survivor is over": {lostForGood(word, func(m *Member) { m.Pod = PodEnded }), StopIncarnation, "", all[:1], ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := Next(tc.seen)
			if got.Kind != tc.want || (tc.reason != "" && got.Reason != tc.reason) || !strings.Contains(got.Message, tc.says) {
				t.Errorf("Next() = %s/%s %v (%s), want %s/%s", got.Kind, got.Reason, got.Members, got.Message, tc.want, tc.reason)
			}
			if diff := cmp.Diff(tc.on, got.Members); tc.on != nil && diff != "" {
				t.Errorf("Next() = %s on other members (-want +got):\n%s", got.Kind, diff)
			}
		})
	}
}
