package resources

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/member"
)

// TestOrdersOfAMember: what stands in the annotations is what the guard reads there.
func TestOrdersOfAMember(t *testing.T) {
	const list = "a-0000=https://a-0000.a.ns.svc:2380,a-0003=https://a-0003.a.ns.svc:2380"
	peers := []string{"a-0000", "a-0003"}
	cases := map[string]struct {
		orders Orders
		want   map[string]string
	}{
		"a founder": {
			Orders{Peers: peers, State: member.ClusterStateNew, Empty: EmptyAllowed},
			map[string]string{member.AnnotationInitialCluster: list, member.AnnotationInitialClusterState: "new", member.AnnotationMayBeEmpty: "true"},
		},
		"a member that has started": {
			Orders{Peers: peers, State: member.ClusterStateExisting, Empty: EmptyForbidden},
			map[string]string{member.AnnotationInitialCluster: list, member.AnnotationInitialClusterState: "existing", member.AnnotationMayBeEmpty: "false"},
		},
		"one that is held": {
			Orders{Peers: peers, State: member.ClusterStateExisting, Empty: EmptyAllowed, Hold: true},
			map[string]string{
				member.AnnotationInitialCluster: list, member.AnnotationInitialClusterState: "existing", member.AnnotationMayBeEmpty: "true",
				member.AnnotationHold: "true",
			},
		},
		"one that is released": {
			Orders{Peers: peers, State: member.ClusterStateExisting, Empty: EmptyAllowed, Hold: true, Release: 0xfedcba9876543210},
			map[string]string{
				member.AnnotationInitialCluster: list, member.AnnotationInitialClusterState: "existing", member.AnnotationMayBeEmpty: "true",
				member.AnnotationHold: "true", member.AnnotationRelease: "fedcba9876543210",
			},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := tc.orders.Annotations(cluster())
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("annotations (-want +got):\n%s", diff)
			}
			// The operator's word for held is the guard's.
			held := Held(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: got}})
			if want := (member.Annotations{Hold: tc.orders.Hold, Release: tc.orders.Release}).Held(); held != want {
				t.Errorf("Held() = %v, and the guard says %v", held, want)
			}
		})
	}
}

func TestHeld(t *testing.T) {
	cases := map[string]struct {
		annotations map[string]string
		want        bool
	}{
		"no annotation":           {nil, false},
		"held":                    {map[string]string{member.AnnotationHold: "true"}, true},
		"not held":                {map[string]string{member.AnnotationHold: "false"}, false},
		"an empty word":           {map[string]string{member.AnnotationHold: ""}, false},
		"a word nobody knows":     {map[string]string{member.AnnotationHold: "yes"}, true},
		"held and released":       {map[string]string{member.AnnotationHold: "true", member.AnnotationRelease: "4"}, false},
		"an empty release":        {map[string]string{member.AnnotationHold: "true", member.AnnotationRelease: ""}, true},
		"a release without hold":  {map[string]string{member.AnnotationRelease: "4"}, false},
		"another's annotations":   {map[string]string{"hold": "true"}, false},
		"orders that are no hold": {Orders{State: "new", Empty: EmptyAllowed}.Annotations(cluster()), false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := Held(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: tc.annotations}}); got != tc.want {
				t.Errorf("Held() = %v, want %v", got, tc.want)
			}
		})
	}
}

// TestGates: the pod of a memory-backed founder waits for the record of its UID;
// one that is held is proven to be scheduled while its guard waits.
func TestGates(t *testing.T) {
	cases := map[string]struct {
		cluster *v1alpha1.EtcdCluster
		hold    bool
		want    int
	}{
		"on disk":                {cluster(), false, 0},
		"on disk, held":          {cluster(), true, 0},
		"memory-backed":          {cluster(inMemory), false, 1},
		"memory-backed and held": {cluster(inMemory), true, 0},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s := start("a-0003")
			s.Orders.Hold = tc.hold
			pod := MemberPod(tc.cluster, s)
			if got := pod.Spec.SchedulingGates; len(got) != tc.want {
				t.Errorf("gates %v, want %d", got, tc.want)
			}
			if Held(pod) != tc.hold {
				t.Errorf("held: %v, want %v", Held(pod), tc.hold)
			}
		})
	}
}

// TestOrdersAreNotTheSpec: a member that is released, or whose list changes, was
// not made from another spec.
func TestOrdersAreNotTheSpec(t *testing.T) {
	c := cluster()
	s := start("a-0003")
	s.Orders.Hold = true
	held := MemberPod(c, s)
	s.Orders.Release, s.Orders.Peers = 4, []string{"a-0000"}
	c.Spec.Size, c.Status.Joiner = 5, "a-0003"
	if a, b := held.Annotations[v1alpha1.AnnotationTemplateHash], MemberPod(c, s).Annotations[v1alpha1.AnnotationTemplateHash]; a != b {
		t.Errorf("the template's hash is %s, and then %s", a, b)
	}
}

func TestQuarantinedClaim(t *testing.T) {
	claim := Claim(cluster(), "a-0003")
	if Quarantined(claim) {
		t.Error("a new claim is in quarantine")
	}
	claim.Labels[v1alpha1.LabelQuarantined] = ""
	if !Quarantined(claim) {
		t.Error("a claim that bears the label, whatever it says, is not in quarantine")
	}
}

func TestMemberOfClaim(t *testing.T) {
	for _, member := range []string{"a-0000", "data-0001", "a-10000"} {
		if got := MemberOfClaim(ClaimName(member)); got != member {
			t.Errorf("MemberOfClaim(ClaimName(%s)) = %s", member, got)
		}
	}
}
