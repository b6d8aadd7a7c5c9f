package secrets

import (
	"context"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/certmanager"
	"github.com/quorate/quorate/internal/pki"
	"github.com/quorate/quorate/internal/resources"
)

func byCertManager(name string) v1alpha1.TLSPortSpec {
	return v1alpha1.TLSPortSpec{CertManager: &v1alpha1.CertManagerSpec{IssuerRef: v1alpha1.IssuerReference{Name: name, Kind: "Issuer", Group: "cert-manager.io"}}}
}

// certManagerWrites are the Secrets that it makes for Certificates, with certificates that
// another cluster's operator made.
func certManagerWrites(t *testing.T, members ...string) (out []client.Object) {
	t.Helper()
	made := map[string]map[string][]byte{}
	for _, o := range issued(t, cluster(), members...) {
		made[o.GetName()] = o.(*corev1.Secret).Data
	}
	for _, slot := range pki.Slots("a", members) {
		from := made[slot.Own]
		data := map[string][]byte{pki.KeyCert: from[pki.KeyCert], pki.KeyKey: from[pki.KeyKey], pki.KeyCA: from[pki.KeyCA]}
		switch {
		case strings.HasSuffix(slot.Issued, pki.PeerIssued):
			data = map[string][]byte{pki.KeyCert: from[pki.KeyPeerCert], pki.KeyKey: from[pki.KeyPeerKey], pki.KeyCA: from[pki.KeyPeerCA]}
		case slot.Of == pki.HolderMember:
			data = map[string][]byte{pki.KeyCert: from[pki.KeyServerCert], pki.KeyKey: from[pki.KeyServerKey], pki.KeyCA: from[pki.KeyClientCA]}
		}
		out = append(out, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: slot.Issued, Namespace: "ns"}, Data: data})
	}
	return out
}

func namesOf(list []*unstructured.Unstructured) (out []string) {
	for _, o := range list {
		out = append(out, o.GetName())
	}
	return out
}

func ready(list []*unstructured.Unstructured, status, message string) (out []client.Object) {
	for _, o := range list {
		o = o.DeepCopy()
		o.Object["status"] = map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": status, "message": message}}}
		out = append(out, o)
	}
	return out
}

// TestCertManagerIssues: the operator asks for each certificate, waits for all of them,
// takes them, and takes care that nothing is left when somebody else is to issue.
func TestCertManagerIssues(t *testing.T) {
	c := cluster()
	c.Spec.TLS.Client, c.Spec.TLS.Peer = byCertManager("clients"), byCertManager("peers")
	read := func(objects ...client.Object) Set {
		t.Helper()
		set, err := Reader{Live: fake.NewClientBuilder().WithObjects(objects...).Build(), Now: now}.Read(t.Context(), c, members)
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	first := read()
	want := []string{"a-operator-issued", "a-client-issued", "a-0000-server-issued", "a-0000-peer-issued", "a-0001-server-issued", "a-0001-peer-issued"}
	if got := namesOf(first.Asked.Create); !slices.Equal(got, want) || len(first.Plan.Create) > 0 {
		t.Fatalf("asked for %v, created %v", got, first.Plan.Create)
	}
	if got, _, _ := unstructured.NestedString(first.Asked.Create[3].Object, "spec", "issuerRef", "name"); got != "peers" {
		t.Errorf("a peer's is asked of %s", got)
	}

	waiting := read(ready(first.Asked.Create, "False", "Referenced \"Issuer\" not found")...)
	if len(waiting.Asked.Create)+len(waiting.Plan.Create) > 0 || len(waiting.Plan.Problems) != 2 || !strings.Contains(waiting.Plan.Problems[0].Message, "Referenced \"Issuer\" not found") {
		t.Errorf("while it waits: due %v, problems %+v", waiting.Due(), waiting.Plan.Problems)
	}

	// Secrets of Certificates that were deleted: nobody knows who signed what is in them.
	left := certManagerWrites(t, members...)
	for state, there := range map[string][]client.Object{
		"about to be asked for": left,
		"not issued yet":        append(slices.Clone(left), ready(first.Asked.Create, "False", "Issuing")...),
	} {
		if got := read(there...); len(got.Plan.Create) > 0 {
			t.Errorf("%s: %d Secrets are made of what an earlier Certificate has left", state, len(got.Plan.Create))
		}
	}
	var renewing []client.Object
	for _, o := range ready(first.Asked.Create, "False", "Renewing") {
		o.(*unstructured.Unstructured).Object["status"].(map[string]any)["revision"] = int64(3)
		renewing = append(renewing, o)
	}
	if got := read(append(renewing, left...)...); len(got.Plan.Create) != 6 {
		t.Errorf("while they are renewed %d Secrets are made of what was issued, want 6", len(got.Plan.Create))
	}

	certificates := ready(first.Asked.Create, "True", "")
	certificates[0].SetResourceVersion("5")
	before := read(certificates...).Versions
	if certificates[0].SetResourceVersion("6"); read(certificates...).Versions == before {
		t.Error("that cert-manager says something else is not noticed")
	}
	there := append(certManagerWrites(t, members...), certificates...)
	issued := read(there...)
	if len(issued.Plan.Create) != 6 || len(issued.Plan.Problems) > 0 || issued.Versions == waiting.Versions {
		t.Fatalf("once they are issued: due %v, problems %+v", issued.Due(), issued.Plan.Problems)
	}
	for _, s := range issued.Plan.Create {
		there = append(there, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: s.Name, Namespace: "ns", Labels: resources.Labels(c)}, Data: s.Data})
	}
	c.Status.ClusterID = "c1"
	settled := read(there...)
	if len(settled.Due())+len(settled.Plan.Problems) > 0 {
		t.Fatalf("not settled: due %v, problems %+v", settled.Due(), settled.Plan.Problems)
	}

	c.Spec.TLS.Peer = byCertManager("others")
	if other := read(there...); !slices.Equal(namesOf(other.Asked.Change), []string{"a-0000-peer-issued", "a-0001-peer-issued"}) || len(other.Asked.Create)+len(other.Asked.Delete) > 0 {
		t.Errorf("another issuer: %v", other.Due())
	}
	c.Spec.TLS.Peer = v1alpha1.TLSPortSpec{}
	if back := read(there...); !slices.Equal(namesOf(back.Asked.Delete), []string{"a-0000-peer-issued", "a-0001-peer-issued"}) ||
		!slices.Contains(back.Due(), "Secret a-peer-ca (its rotation begins, because its key is not here: the next authority is trusted beside it)") {
		t.Errorf("back to the operator's own: %v", back.Due())
	}
	c.Spec.TLS.Client = v1alpha1.TLSPortSpec{}
	there = slices.DeleteFunc(there, func(o client.Object) bool { return o.GetObjectKind().GroupVersionKind() == certmanager.Kind })
	for _, s := range read(there...).Plan.Renew {
		if s.Name == "a-peer-ca" && s.Data[pki.KeyIssuer] == nil {
			return
		}
	}
	t.Error("it is not noted that no Certificate is left")
}

// TestWithoutCertManager only the clusters that want it miss anything, and they are told;
// the others do not so much as ask.
func TestWithoutCertManager(t *testing.T) {
	asked := 0
	api := func(objects ...client.Object) client.Client {
		return fake.NewClientBuilder().WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
			List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
				asked++
				return &meta.NoKindMatchError{GroupKind: certmanager.Kind.GroupKind(), SearchedVersions: []string{"v1"}}
			},
		}).Build()
	}
	set, err := Reader{Live: api(), Now: now}.Read(t.Context(), cluster(), members)
	if err != nil || len(set.Plan.Create) != 6 || asked > 0 {
		t.Errorf("without a word of it: %v, due %v, asked %d times", err, set.Due(), asked)
	}
	c := cluster()
	c.Spec.TLS.Client = byCertManager("clients")
	set, err = Reader{Live: api(), Now: now}.Read(t.Context(), c, members)
	if err != nil || asked != 1 || len(set.Plan.Problems) != 1 || set.Plan.Problems[0].Reason != pki.ReasonIssuerUnavailable || !slices.Equal(set.Due(), []string{"Secret a-peer-ca"}) {
		t.Errorf("with: %v, asked %d times, due %v, problems %+v", err, asked, set.Due(), set.Plan.Problems)
	}
	// A note of Certificates is no reason to ask for them for ever, once the kind is gone.
	secrets := issued(t, cluster())
	for _, s := range secrets {
		if s.GetName() == "a-client-ca" {
			s.(*corev1.Secret).Data[pki.KeyIssuer] = []byte(pki.ByCertManager)
		}
	}
	set, err = Reader{Live: api(secrets...), Now: now}.Read(t.Context(), cluster(), members)
	if err != nil || len(set.Plan.Problems) > 0 || len(set.Plan.Renew) != 1 || set.Plan.Renew[0].Data[pki.KeyIssuer] != nil {
		t.Errorf("after it was uninstalled: %v, %v, %+v", err, set.Due(), set.Plan.Problems)
	}
}

// TestAUsersCertificates are read by their names, each Secret once, and another one in a
// Secret is noticed.
func TestAUsersCertificates(t *testing.T) {
	c := cluster()
	ref := func(name string) *v1alpha1.SecretReference { return &v1alpha1.SecretReference{Name: name} }
	c.Spec.TLS.Client.MemberSecretRef, c.Spec.TLS.OperatorSecretRef, c.Spec.TLS.ApplicationSecretRef = ref("corp-server"), ref("corp-operator"), ref("corp-application")
	reads := map[string]int{}
	api := func(objects ...client.Object) client.Client {
		return fake.NewClientBuilder().WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
			Get: func(ctx context.Context, api client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
				reads[key.Name]++
				return api.Get(ctx, key, o, opts...)
			},
			List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
				t.Error("something is listed")
				return nil
			},
		}).Build()
	}
	set, err := Reader{Live: api(), Now: now}.Read(t.Context(), c, members)
	if err != nil || len(set.Plan.Problems) != 3 || reads["corp-server"] != 1 || len(set.Issued["a-client-ca"].Leaves) != 4 {
		t.Fatalf("%v, problems %+v, read %v", err, set.Plan.Problems, reads)
	}
	if got := set.Plan.Problems[2].Message; !strings.HasPrefix(got, "Secret corp-server does not exist — ") {
		t.Errorf("told %q", got)
	}
	again, err := Reader{Live: api(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "corp-server", Namespace: "ns"}}), Now: now}.ReadSince(t.Context(), set.Versions, c, members)
	if err != nil || len(again.Plan.Problems) != 3 || !strings.HasPrefix(again.Plan.Problems[2].Message, "Secret corp-server has no tls.crt — ") {
		t.Errorf("%v, %+v", err, again.Plan.Problems)
	}
	if before := Wanted(c); before == Wanted(cluster()) {
		t.Errorf("Wanted() is %s with and without", before)
	}
}
