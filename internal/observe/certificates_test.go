package observe

import (
	"context"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/certmanager"
	"github.com/quorate/quorate/internal/pki"
	"github.com/quorate/quorate/internal/resources"
)

// secure turns the world's TLS on, with every Secret in order, and counts how
// many are read.
func secure(t *testing.T, w *world) *int {
	t.Helper()
	w.cluster.Spec.TLS = v1alpha1.TLSSpec{Mode: v1alpha1.TLSEnabled, LeafDuration: metav1.Duration{Duration: 2160 * time.Hour}}
	for _, o := range w.objects {
		if p, ok := o.(*corev1.Pod); ok {
			p.Spec = resources.MemberPod(w.cluster, resources.Start{Member: p.Name, VolumeUID: "v" + p.Name[len(p.Name)-1:]}).Spec
		}
	}
	result := pki.Plan(w.clock.Now(), pki.Inputs{
		Cluster: "a", Namespace: "ns", Members: w.cluster.Status.Founders,
		LeafDuration: w.cluster.Spec.TLS.LeafDuration.Duration, Authorities: pki.AuthorityMayBeCreated,
	})
	for _, s := range result.Create {
		w.objects = append(w.objects, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: s.Name, Namespace: "ns", Labels: resources.Labels(w.cluster)}, Data: s.Data,
		})
	}
	read := new(int)
	w.intercept = interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if _, secret := o.(*corev1.Secret); secret {
				*read++
			}
			return c.Get(ctx, key, o, opts...)
		},
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if _, secrets := list.(*corev1.SecretList); secrets {
				t.Error("Secrets are listed; the operator has no right to")
			}
			return c.List(ctx, list, opts...)
		},
	}
	return read
}

func (w *world) secret(name string) *corev1.Secret {
	for _, o := range w.objects {
		if s, ok := o.(*corev1.Secret); ok && s.Name == name {
			return s
		}
	}
	w.t.Fatalf("no Secret %s", name)
	return nil
}

func TestCertificatesAreReadNowAndThen(t *testing.T) {
	w := founded(t)
	read := secure(t, w)
	steps := []struct {
		what  string
		do    func()
		reads bool
	}{
		{"the first look", func() {}, true},
		{"at rest", func() {}, false},
		{"a little later", func() { w.clock.SetTime(w.clock.Now().Add(30 * time.Second)) }, false},
		{"a minute later", func() { w.clock.SetTime(w.clock.Now().Add(time.Minute)) }, true},
		{"at rest again", func() {}, false},
		{"a member joins", func() { w.objects = append(w.objects, pod(w.cluster, 3)) }, true},
		{"its certificate is still due", func() {}, true},
	}
	for _, step := range steps {
		step.do()
		*read = 0
		if w.see(); (*read > 0) != step.reads {
			t.Errorf("%s: %d Secrets were read, want any: %v", step.what, *read, step.reads)
		}
	}
}

// TestAMemberWithoutCertificates is noticed when nobody can make any for it.
func TestAMemberWithoutCertificates(t *testing.T) {
	w := founded(t)
	secure(t, w)
	if seen := w.see(); seen.Uncertified {
		t.Error("all have some")
	}
	w.remove(w.secret("a-0001-tls"))
	w.observer = nil
	if seen := w.see(); seen.Uncertified {
		t.Error("some are about to be made")
	}
	w.remove(w.secret("a-peer-ca"))
	w.observer = nil
	if seen := w.see(); !seen.Uncertified || len(seen.TLSProblems) == 0 {
		t.Errorf("none can be made: %+v", seen.TLSProblems)
	}
}

// TestWithoutCertManager the clusters that have nothing to do with it are looked at as
// ever, and one that has is told.
func TestWithoutCertManager(t *testing.T) {
	w := founded(t)
	secure(t, w)
	secretsOnly := w.intercept.List
	w.intercept.List = func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
		if _, certificates := list.(*unstructured.UnstructuredList); certificates {
			return &meta.NoKindMatchError{GroupKind: certmanager.Kind.GroupKind(), SearchedVersions: []string{"v1"}}
		}
		return secretsOnly(ctx, c, list, opts...)
	}
	if seen := w.see(); len(seen.TLSProblems) > 0 || !seen.ReadOK {
		t.Errorf("a cluster without it: %+v", seen.TLSProblems)
	}
	w.cluster.Spec.TLS.Peer.CertManager = &v1alpha1.CertManagerSpec{IssuerRef: v1alpha1.IssuerReference{Name: "peers", Kind: "Issuer", Group: "cert-manager.io"}}
	seen := w.see()
	if len(seen.TLSProblems) != 1 || seen.TLSProblems[0].Reason != pki.ReasonIssuerUnavailable || !seen.ReadOK || seen.Expiring != "" || seen.Uncertified {
		t.Errorf("one that wants it: %+v, read: %t, held up: %q", seen.TLSProblems, seen.ReadOK, seen.Expiring)
	}
}

func TestCertificates(t *testing.T) {
	cases := map[string]struct {
		world     func(*world)
		due       []string
		problem   string
		tls       string
		reachable bool
	}{
		"in order":               {all(), nil, "", "", true},
		"a leaf is missing":      {func(w *world) { w.remove(w.secret("a-0001-tls")) }, []string{"Secret a-0001-tls"}, "", "", true},
		"a leaf is due":          {func(w *world) { w.clock.SetTime(w.clock.Now().Add(61 * 24 * time.Hour)) }, []string{"Secret a-0000-tls", "Secret a-0001-tls", "Secret a-0002-tls", "Secret a-client-tls", "Secret a-operator-tls"}, "", "", true},
		"a leaf is a namesake's": {func(w *world) { w.secret("a-0001-tls").Labels[v1alpha1.LabelClusterUID] = "01d" }, nil, v1alpha1.ReasonNameConflict, "", true},
		"an authority is gone":   {func(w *world) { w.remove(w.secret("a-peer-ca")) }, nil, "", pki.ReasonSecretMissing, true},
		"ours is gone":           {func(w *world) { w.remove(w.secret("a-operator-tls")) }, []string{"Secret a-operator-tls"}, "", "", false},
		"ours is broken":         {func(w *world) { w.secret("a-operator-tls").Data["tls.crt"] = []byte("x") }, []string{"Secret a-operator-tls"}, "", "", false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := founded(t)
			secure(t, w)
			tc.world(w)
			seen := w.see()
			got := slices.Clone(seen.CertificatesDue)
			slices.Sort(got)
			if !slices.Equal(got, tc.due) {
				t.Errorf("due %v, want %v", got, tc.due)
			}
			if (tc.problem == "") != (len(seen.Problems) == 0) || (tc.problem != "" && seen.Problems[0].Reason != tc.problem) {
				t.Errorf("problems %+v, want %q", seen.Problems, tc.problem)
			}
			if (tc.tls == "") != (len(seen.TLSProblems) == 0) || (tc.tls != "" && seen.TLSProblems[0].Reason != tc.tls) {
				t.Errorf("TLS problems %+v, want %q", seen.TLSProblems, tc.tls)
			}
			if seen.ReadOK != tc.reachable {
				t.Errorf("etcd was reached: %v, want %v", seen.ReadOK, tc.reachable)
			}
		})
	}
}
