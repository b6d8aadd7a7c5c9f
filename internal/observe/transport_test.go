package observe

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/resources"
)

// madeIn has the pod of a member made in another mode.
func madeIn(w *world, i int, mode v1alpha1.TLSMode) {
	c := w.cluster.DeepCopy()
	c.Spec.TLS.Mode = mode
	for _, o := range w.objects {
		if p, ok := o.(*corev1.Pod); ok && p.Name == resources.MemberName("a", i) {
			made := pod(c, i)
			p.Spec, p.Annotations = made.Spec, made.Annotations
		}
	}
}

// TestTransport: which schemes members take is read from their pods, and at which peer URLs
// they are listed from etcd; what could not be read stays as status tells it.
func TestTransport(t *testing.T) {
	secured := func(w *world) {
		for i := range w.etcd.list {
			w.etcd.list[i].PeerURLs[0] = strings.NewReplacer("http://", "https://", ":2380", ":2383").Replace(w.etcd.list[i].PeerURLs[0])
		}
	}
	silent := func(w *world) {
		for i := range 3 {
			w.etcd.silent(address(i))
		}
	}
	on := func(mode v1alpha1.TLSMode, made ...v1alpha1.TLSMode) func(*world) {
		return func(w *world) {
			w.cluster.Status.PlaintextPeers = true
			secure(w.t, w)
			w.cluster.Spec.TLS.Mode = mode
			for i, m := range made {
				madeIn(w, i, m)
			}
		}
	}
	const disabled, optional, enabled = v1alpha1.TLSDisabled, v1alpha1.TLSOptional, v1alpha1.TLSEnabled
	cases := map[string]struct {
		world               []func(*world)
		takesTLS, plaintext [3]bool
		outdated            [3]bool
		plaintextPeers      bool
		dialed              [3]bool
	}{
		"without TLS": {
			world:     []func(*world){func(w *world) { w.cluster.Spec.TLS.Mode = disabled }},
			plaintext: [3]bool{true, true, true}, plaintextPeers: true, dialed: [3]bool{true, true, true},
		},
		"one takes both": {
			world:    []func(*world){on(optional, disabled, disabled, optional)},
			takesTLS: [3]bool{2: true}, plaintext: [3]bool{true, true, true}, outdated: [3]bool{true, true, false},
			plaintextPeers: true, dialed: [3]bool{true, true, false},
		},
		"all do": {
			world:    []func(*world){on(enabled, optional, optional, optional)},
			takesTLS: [3]bool{true, true, true}, plaintext: [3]bool{true, true, true}, plaintextPeers: true,
		},
		"no peer URL is left": {
			world:    []func(*world){on(enabled, optional, optional, optional), secured},
			takesTLS: [3]bool{true, true, true}, outdated: [3]bool{true, true, true},
		},
		"etcd cannot be asked, and status was written by an older operator": {
			world: []func(*world){
				on(optional, disabled, disabled, disabled), func(w *world) { w.cluster.Status.PlaintextPeers = false }, silent,
			},
			outdated: [3]bool{true, true, true}, plaintextPeers: true, dialed: [3]bool{true, true, true},
		},
		"etcd cannot be asked": {
			world:    []func(*world){on(enabled, optional, optional, optional), secured, silent},
			takesTLS: [3]bool{true, true, true}, plaintextPeers: true,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := founded(t)
			for _, do := range tc.world {
				do(w)
			}
			w.etcd.dialed = map[string]etcd.Endpoint{}
			seen := w.see()
			if seen.PlaintextPeers != tc.plaintextPeers || seen.TLS != (w.cluster.Spec.TLS.Mode != disabled) {
				t.Errorf("plaintext peers %v, TLS %v", seen.PlaintextPeers, seen.TLS)
			}
			for i, m := range seen.Members {
				if m.TakesTLS != tc.takesTLS[i] || m.Plaintext != tc.plaintext[i] || m.PodOutdated != tc.outdated[i] {
					t.Errorf("%s takes TLS: %v, is listed without: %v (%s), is outdated: %v", m.Name, m.TakesTLS, m.Plaintext, m.PeerURL, m.PodOutdated)
				}
				if got := w.etcd.dialed[address(i)].Plaintext; got != tc.dialed[i] {
					t.Errorf("%s is dialed in plaintext: %v", m.Name, got)
				}
			}
		})
	}
}
