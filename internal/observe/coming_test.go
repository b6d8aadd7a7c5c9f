package observe

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/pki"
)

// toBeCarriedBack is a cluster with TLS, and an EtcdRestore that is prepared.
func toBeCarriedBack(t *testing.T) *world {
	t.Helper()
	w := founded(t)
	secure(t, w)
	b := nightly()
	b.Name = "b"
	w.objects = append(w.objects, b, back("back"))
	w.observer = &Observer{Dialer: w.etcd, Clock: w.clock, Restores: stale{list: []v1alpha1.EtcdRestore{*back("back")}}}
	return w
}

// TestWhoComes: the founders of the next incarnation get the lowest names that were never
// given away and that nobody bears. They are of interest while somebody wants one, and where
// certificates have to be had.
func TestWhoComes(t *testing.T) {
	three := []string{"a-0003", "a-0004", "a-0005"}
	lost := func(survivor string) func(*testing.T) *world {
		return func(t *testing.T) *world {
			t.Helper()
			w := bereft(t, nightly())
			secure(t, w)
			if survivor != "" {
				w.cluster.Spec.Recovery = &v1alpha1.RecoverySpec{Incarnation: 1, Survivor: survivor}
			}
			tells(w.cluster, v1alpha1.ReasonQuorumLost)
			return w
		}
	}
	for name, tc := range map[string]struct {
		world  func(*testing.T) *world
		change func(*world)
		want   []string
	}{
		"nobody wants one":          {founded, func(w *world) { secure(w.t, w) }, nil},
		"an EtcdRestore does":       {toBeCarriedBack, nil, three},
		"it was taken back":         {toBeCarriedBack, func(w *world) { w.observer.Restores = stale{} }, nil},
		"also once it has begun":    {toBeCarriedBack, func(w *world) { w.cluster.Status.Restore = begunStatus() }, three},
		"there is no TLS":           {toBeCarriedBack, func(w *world) { w.cluster.Spec.TLS.Mode = v1alpha1.TLSDisabled }, nil},
		"names were given away":     {toBeCarriedBack, func(w *world) { w.cluster.Status.NextOrdinal = 7 }, []string{"a-0007", "a-0008", "a-0009"}},
		"others' claim bears one":   {toBeCarriedBack, bears(&corev1.PersistentVolumeClaim{ObjectMeta: others("data-a-0004")}), []string{"a-0005", "a-0006", "a-0007"}},
		"others' pod bears one":     {toBeCarriedBack, bears(&corev1.Pod{ObjectMeta: others("a-0003")}), []string{"a-0004", "a-0005", "a-0006"}},
		"one of another cluster":    {toBeCarriedBack, bears(&corev1.Pod{ObjectMeta: others("aa-0003")}), three},
		"five are wanted":           {toBeCarriedBack, func(w *world) { w.cluster.Spec.Size = 5 }, append(slices.Clone(three), "a-0006", "a-0007")},
		"spec.recovery does":        {lost(""), nil, three},
		"with a survivor":           {lost("a-0000"), nil, three[:1]},
		"the loss was not told yet": {lost(""), func(w *world) { w.cluster.Status.Conditions = nil }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := tc.world(t)
			if tc.change != nil {
				tc.change(w)
			}
			if got := w.see().Coming; !slices.Equal(got, tc.want) {
				t.Errorf("%v come, want %v", got, tc.want)
			}
		})
	}
}

func begunStatus() *v1alpha1.ClusterRestoreStatus {
	return &v1alpha1.ClusterRestoreStatus{Name: "back", UID: "uid-of-back", Begun: &metav1.Time{}}
}

// bears has an object of somebody else's in the namespace, without any label.
func bears(o client.Object) func(*world) {
	return func(w *world) { w.objects = append(w.objects, o) }
}

func others(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "ns", Name: name} }

// TestWhatThoseWhoComeLack is told apart from what the present members lack, and looked at
// again on every pass until it is mended.
func TestWhatThoseWhoComeLack(t *testing.T) {
	w := toBeCarriedBack(t)
	if seen := w.see(); seen.ComingLack != nil || len(seen.CertificatesDue)+len(seen.TLSProblems) > 0 || seen.Uncertified {
		t.Fatalf("of the operator's own certificates they lack %+v; due %v, problems %+v", seen.ComingLack, seen.CertificatesDue, seen.TLSProblems)
	}
	theirs := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: pki.MemberSecret("a-0004"), Namespace: "ns", UID: types.UID("theirs")}}
	w.objects = append(w.objects, theirs)
	w.observer.memory = nil
	seen := w.see()
	if seen.ComingLack == nil || !strings.Contains(seen.ComingLack.What, "a-0004-tls") || len(seen.Problems)+len(seen.TLSProblems) > 0 || seen.Uncertified || seen.Expiring != "" {
		t.Fatalf("they lack %+v; problems %+v, %+v", seen.ComingLack, seen.Problems, seen.TLSProblems)
	}
	w.remove(theirs)
	if seen := w.see(); seen.ComingLack != nil {
		t.Errorf("it is mended, and they lack %+v", seen.ComingLack)
	}
	w.objects = append(w.objects, theirs)
	w.observer.Restores = stale{}
	if seen := w.see(); seen.ComingLack != nil || len(seen.Problems) > 0 {
		t.Errorf("nobody comes any more, and they lack %+v; problems %+v", seen.ComingLack, seen.Problems)
	}
}
