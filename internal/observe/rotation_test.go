package observe

import (
	"context"
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/pki"
	"github.com/quorate/quorate/internal/plan"
)

// TestJudgeTrust: a restart for other authorities is due when the member's Secret holds
// those that it is to trust, and its pod was made while it held others.
func TestJudgeTrust(t *testing.T) {
	for name, tc := range map[string]struct {
		annotation, trust, carried string
		want, differs              bool
	}{
		"authorities of the founding":            {"", "", "", false, false},
		"a pod of before, the Secret is written": {"", "new", "new", true, true},
		"a pod of before, the Secret is not":     {"", "new", "", false, true},
		"a pod of an older rotation":             {"old", "new", "new", true, true},
		"a pod of now":                           {"new", "new", "new", false, false},
		"authorities that cannot be read":        {"old", pki.TrustUnknown, pki.TrustUnknown, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			pod := corev1.Pod{}
			pod.Name = "a-0000"
			if tc.annotation != "" {
				pod.Annotations = map[string]string{v1alpha1.AnnotationTrust: tc.annotation}
			}
			members := []plan.Member{{Name: "a-0000"}, {Name: "a-0001"}}
			seen := certificatesSeen{trust: tc.trust, carried: map[string]string{"a-0000": tc.carried, "a-0001": tc.carried}}
			seen.judgeTrust(&kubernetes{pods: []corev1.Pod{pod}}, members)
			if m := members[0]; m.TrustDiffers != tc.differs || m.TrustOutdated != tc.want || m.PodOutdated != tc.want || m.Trust != tc.carried {
				t.Errorf("%+v", m)
			}
			if members[1].TrustOutdated {
				t.Error("a member without a pod")
			}
		})
	}
}

// TestUnsafe: what is wrong with certificates holds restarts up, but for the end of an
// authority, which they are the cure for, and but for one that is not used.
func TestUnsafe(t *testing.T) {
	expiring, missing := plan.Problem{Reason: pki.ReasonAuthorityExpiring, Message: "ends"}, plan.Problem{Reason: pki.ReasonSecretMissing, Message: "is gone"}
	if got := unsafe([]plan.Problem{expiring}); got != "" {
		t.Errorf("an authority that ends holds up %q", got)
	}
	for _, reason := range []string{pki.ReasonAuthorityRefused, pki.ReasonCertificateRefused, pki.ReasonCertificateNotIssued, pki.ReasonCertificateExpiring, pki.ReasonIssuerUnavailable} {
		if got := unsafe([]plan.Problem{{Reason: reason, Message: "is not used"}}); got != "" {
			t.Errorf("%s holds up %q", reason, got)
		}
	}
	if got := unsafe([]plan.Problem{expiring, missing}); got != "is gone" {
		t.Errorf("a missing Secret: %q", got)
	}
}

// greeter shows its caller.
type greeter struct{ refuses []string }

func (g greeter) Greet(_ context.Context, to etcd.Endpoint, ca []byte) (etcd.Shown, error) {
	if slices.Contains(g.refuses, to.Address) {
		return etcd.Shown{}, etcd.ErrUnreachable
	}
	return etcd.Shown{Leaf: fmt.Appendf(nil, "%s %s %s", to.Address, to.ServerName, ca)}, nil
}

// TestGreet: both ports of each member that can be reached, and only of pods that were
// made with the authorities in question.
func TestGreet(t *testing.T) {
	c := &v1alpha1.EtcdCluster{}
	endpoints := map[string]etcd.Endpoint{"a-0000": {Address: "10.0.0.1:2379", ServerName: "a"}, "a-0001": {Address: "10.0.0.2:2379", ServerName: "b"}}
	who := pki.Ask{Members: []string{"a-0000", "a-0001", "a-0002"}, ClientCA: []byte("client"), PeerCA: []byte("peer"), Trust: "new"}
	o := &Observer{Greeter: greeter{refuses: []string{"10.0.0.2:2380", "10.0.0.2:2383"}}}
	got := o.greet(t.Context(), endpoints, who)
	if len(got) != 1 || string(got["a-0000"].Client.Leaf) != "10.0.0.1:2379 a client" || string(got["a-0000"].Peer.Leaf) != "10.0.0.1:2380 a peer" {
		t.Errorf("shown %q", got)
	}
	turned := &Observer{Greeter: greeter{refuses: []string{"10.0.0.2:2380"}}}
	if got := turned.greet(t.Context(), endpoints, who); len(got) != 2 || string(got["a-0001"].Peer.Leaf) != "10.0.0.2:2383 b peer" {
		t.Errorf("one with plaintext on the usual peer port shows %q", got)
	}
	if got := o.Greet(t.Context(), c, who); len(got) != 0 {
		t.Errorf("a cluster that was never seen shows %v", got)
	}
	if got := (&Observer{}).greet(t.Context(), endpoints, who); got != nil {
		t.Errorf("without a greeter: %v", got)
	}
	k := &kubernetes{}
	for i := range 3 {
		pod := corev1.Pod{}
		pod.Name, pod.Annotations = who.Members[i], map[string]string{v1alpha1.AnnotationTrust: "new"}
		k.pods = append(k.pods, pod)
	}
	if !k.allTrust(who) {
		t.Error("all pods are new")
	}
	joins := who
	joins.Without = []string{"a-0003"}
	k.pods = append(k.pods, corev1.Pod{})
	k.pods[3].Name, k.pods[3].Status.Phase = "a-0003", corev1.PodPending
	if !k.allTrust(joins) {
		t.Error("one that has never started is waited for")
	}
	if k.pods[3].Status.Phase = corev1.PodRunning; k.allTrust(joins) {
		t.Error("one that runs is not waited for, because somebody deleted its Secret")
	}
	k.pods = k.pods[:3]
	k.pods[1].Annotations[v1alpha1.AnnotationTrust] = "old"
	if k.allTrust(who) {
		t.Error("a pod is old")
	}
	if k.pods = slices.Delete(k.pods, 1, 2); k.allTrust(who) {
		t.Error("a pod is missing")
	}
}
