package plan

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestForecast: the steps in their order, without waiting for anything.
func TestForecast(t *testing.T) {
	cases := map[string]struct {
		observed Observed
		want     []string
	}{
		"nothing to do": {rolledOut(3), nil},
		"a roll": {inOrder(3), []string{
			"RestartMember a-0002", "RestartMember a-0001", "MoveLeader a-0000,a-0001", "RestartMember a-0000",
		}},
		"TLS is turned on": {inOrder(3, protected(false)), []string{
			"RestartMember a-0002", "RestartMember a-0001", "MoveLeader a-0000,a-0001", "RestartMember a-0000",
			"UpdateMember a-0002", "UpdateMember a-0000", "UpdateMember a-0001",
		}},
		"TLS is turned on, and plaintext off": {inOrder(3, protected(true)), []string{
			"RestartMember a-0002", "RestartMember a-0001", "MoveLeader a-0000,a-0001", "RestartMember a-0000",
			"UpdateMember a-0002", "UpdateMember a-0000", "UpdateMember a-0001",
			"RestartMember a-0002", "RestartMember a-0000", "MoveLeader a-0001,a-0000", "RestartMember a-0001",
		}},
		"a growth": {rolledOut(3, size(5)), []string{
			"AllotMember ", "CreateVolumes a-0003", "HoldMembers a-0003", "AddLearner a-0003", "ReleaseMembers a-0003", "Promote a-0003",
			"AllotMember ", "CreateVolumes a-0004", "HoldMembers a-0004", "AddLearner a-0004", "ReleaseMembers a-0004", "Promote a-0004",
		}},
		"a reduction": {rolledOut(3, size(1)), []string{
			"RemoveMember a-0002", "StopMembers a-0002", "DeleteVolumes a-0002",
			"RemoveMember a-0001", "StopMembers a-0001", "DeleteVolumes a-0001",
		}},
		"a downgrade": {lowered(), []string{
			"LatchDowngrade ", "EnableDowngrade ", "RestartMember a-0002", "RestartMember a-0001", "MoveLeader a-0000,a-0001", "RestartMember a-0000",
		}},
		"a move of one": {rolledOut(1, of(0, otherClass)), []string{
			"AllotMember ", "CreateVolumes a-0001", "HoldMembers a-0001", "AddLearner a-0001", "ReleaseMembers a-0001", "Promote a-0001",
			"MoveLeader a-0000,a-0001", "RemoveMember a-0000", "StopMembers a-0000", "QuarantineVolumes a-0000",
		}},
		"what cannot be done": {inOrder(3, func(o *Observed) { o.OptionTrouble = "no such flag" }), []string{"Wait "}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, step := range Forecast(tc.observed) {
				got = append(got, fmt.Sprintf("%s %s", step.Kind, strings.Join(step.Members, ",")))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// protected is a plaintext cluster that is to have TLS, and maybe nothing else.
func protected(alone bool) func(*Observed) {
	return func(o *Observed) {
		o.TLS, o.TLSAlone, o.PlaintextPeers = true, alone, true
		for i := range o.Members {
			o.Members[i].Plaintext, o.Members[i].TakesPlaintext = true, true
		}
	}
}
