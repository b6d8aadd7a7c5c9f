package status

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
)

// TestPositions are kept from the loss of the quorum until the cluster serves again, also of
// those who do not answer any more; while a quorum answers there are none.
func TestPositions(t *testing.T) {
	s := &v1alpha1.EtcdClusterStatus{Members: []v1alpha1.MemberStatus{{Name: "a-0000"}, {Name: "a-0001", Position: &v1alpha1.MemberPosition{Index: 7}}}}
	seen := plan.Observed{Members: []plan.Member{{Name: "a-0000", Answers: true, Position: plan.Position{Term: 3, Index: 9, Revision: 8}}, {Name: "a-0001"}}}
	is := func(reason string) {
		s.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionAvailable, Status: metav1.ConditionFalse, Reason: reason}}
		positions(s, seen)
	}
	is(v1alpha1.ReasonProbeFailed)
	if s.Members[0].Position != nil {
		t.Errorf("a majority answers: %+v", s.Members[0].Position)
	}
	is(v1alpha1.ReasonQuorumLost)
	if p := s.Members[0].Position; p == nil || *p != (v1alpha1.MemberPosition{Term: 3, Index: 9, Revision: 8}) || s.Members[1].Position == nil {
		t.Errorf("the quorum is lost: %+v and %+v", s.Members[0].Position, s.Members[1].Position)
	}
	seen.Members[0].Answers = false
	is(v1alpha1.ReasonQuorumLost)
	if s.Members[0].Position == nil {
		t.Error("whoever was stopped is forgotten")
	}
	if got := furthest(plan.Observed{Members: []plan.Member{{Name: "a-0002", Volume: plan.VolumeBound, Position: plan.Position{Index: 9, Revision: 8}}, {Name: "a-0003", Volume: plan.VolumeBound}}}); !strings.Contains(got, "a-0002 has come furthest, to index 9") {
		t.Errorf("furthest: %q", got)
	}
	seen.ReadOK = true
	is(v1alpha1.ReasonProbeSucceeded)
	if s.Members[0].Position != nil || s.Members[1].Position != nil {
		t.Error("it serves again")
	}
}

// TestCopied: what was found on the survivor's volume is told of the recovery that copied it.
func TestCopied(t *testing.T) {
	seen := plan.Observed{Incarnation: 2, Copied: &plan.Copied{Position: plan.Position{Term: 3, Index: 12, Revision: 11}, Uncommitted: 2}}
	s := &v1alpha1.EtcdClusterStatus{Recovery: &v1alpha1.RecoveryStatus{Incarnation: 2, Survivor: &v1alpha1.SurvivorStatus{Name: "a-0000", Index: 9, Revision: 8}}}
	copied(s, seen)
	if of := s.Recovery.Survivor; !of.Copied || of.Term != 3 || of.Index != 12 || of.Revision != 11 || of.Uncommitted != 2 {
		t.Errorf("status.recovery.survivor is %+v", of)
	}
	s.Recovery.Survivor = &v1alpha1.SurvivorStatus{Index: 9}
	seen.Incarnation = 3
	if copied(s, seen); s.Recovery.Survivor.Copied {
		t.Error("it was of another incarnation")
	}
	s.Recovery.Survivor = nil
	copied(s, seen)
}
