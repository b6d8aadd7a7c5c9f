package perform

import (
	"errors"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/certmanager"
	"github.com/quorate/quorate/internal/pki"
	"github.com/quorate/quorate/internal/plan"
)

func byCertManager(w *world) *world {
	w.cluster.Spec.TLS.Peer.CertManager = &v1alpha1.CertManagerSpec{IssuerRef: v1alpha1.IssuerReference{Name: "peers", Kind: "Issuer", Group: "cert-manager.io"}}
	return w
}

func (w *world) certificate(name string) *unstructured.Unstructured {
	w.t.Helper()
	out := &unstructured.Unstructured{}
	out.SetGroupVersionKind(certmanager.Kind)
	if err := w.api.Get(w.t.Context(), client.ObjectKey{Namespace: "ns", Name: name}, out); err != nil {
		w.t.Fatal(err)
	}
	return out
}

// TestCertManagerIsAskedInTime: for members that come, before they exist; the operator's own
// Secrets are made once they do. If they do not come, nobody keeps what was asked for them.
func TestCertManagerIsAskedInTime(t *testing.T) {
	w := byCertManager(newWorld(t))
	w.seen.Coming = []string{"a-0007"}
	if err := w.perform(plan.IssueCertificates); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(w.writes, "create a-0007-peer-issued") || slices.Contains(w.writes, "create a-0007-tls") {
		t.Errorf("wrote %v", w.writes)
	}
	w.writes, w.seen.Coming = nil, nil
	if err := w.perform(plan.IssueCertificates); err != nil || !slices.Contains(w.writes, "delete a-0007-peer-issued") || slices.Contains(w.writes, "delete a-0000-peer-issued") {
		t.Errorf("%v after %v", err, w.writes)
	}
}

// TestCertManagerIsAsked for what is wanted, and nobody else's Certificate is touched. What
// it refuses does not hold up what the operator issues itself.
func TestCertManagerIsAsked(t *testing.T) {
	w := byCertManager(newWorld(t))
	if err := w.perform(plan.IssueCertificates); err != nil {
		t.Fatal(err)
	}
	if want := []string{"create a-0000-peer-issued", "create a-client-ca"}; !slices.Equal(w.writes[:2], want) {
		t.Errorf("wrote %v, want %v first", w.writes, want)
	}
	if slices.Contains(w.writes, "create a-0000-tls") {
		t.Error("half a member's Secret was made")
	}
	live := w.certificate("a-0000-peer-issued")
	if !metav1.IsControlledBy(live, w.cluster) {
		t.Errorf("owned by %v", live.GetOwnerReferences())
	}

	// Somebody edits it: what is wanted is put back, and the rest left.
	spec := live.Object["spec"].(map[string]any)
	spec["duration"], spec["revisionHistoryLimit"] = "1h", int64(2)
	if err := w.api.Update(t.Context(), live); err != nil {
		t.Fatal(err)
	}
	w.writes = nil
	if err := w.perform(plan.IssueCertificates); err != nil || !slices.Contains(w.writes, "patch a-0000-peer-issued") {
		t.Fatalf("%v after %v", err, w.writes)
	}
	spec = w.certificate("a-0000-peer-issued").Object["spec"].(map[string]any)
	if spec["duration"] == "1h" || spec["revisionHistoryLimit"] != int64(2) {
		t.Errorf("spec %v", spec)
	}

	w = byCertManager(newWorld(t))
	w.before = func(verb string, o client.Object) error {
		if _, is := o.(*unstructured.Unstructured); is && verb == "create" {
			return apierrors.NewAlreadyExists(corev1.Resource("certificates"), o.GetName())
		}
		return nil
	}
	err := w.perform(plan.IssueCertificates)
	if err == nil || !strings.Contains(err.Error(), "ns/a-0000-peer-issued exists and does not belong to this cluster") || Stale(err) {
		t.Errorf("a Certificate of somebody else's: %v", err)
	}
	if !slices.Contains(w.writes, "create a-client-ca") {
		t.Errorf("nothing else was done: %v", w.writes)
	}
}

// TestCertificatesThatAreWantedNoMore go, with the Secrets that cert-manager wrote for
// them, and with no others.
func TestCertificatesThatAreWantedNoMore(t *testing.T) {
	w := byCertManager(newWorld(t))
	w.seen.Members = append(w.seen.Members, plan.Member{Name: "a-0001"})
	if err := w.perform(plan.IssueCertificates); err != nil {
		t.Fatal(err)
	}
	for name, of := range map[string]string{"a-0000-peer-issued": "a-0000-peer-issued", "a-0001-peer-issued": "another"} {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", Annotations: map[string]string{certmanager.NameAnnotation: of}}}
		if err := w.api.Create(t.Context(), secret); err != nil {
			t.Fatal(err)
		}
	}
	// The note that the operator's Secret bears once it has been founded.
	authority := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "a-peer-ca", Namespace: "ns", Labels: w.certificate("a-0000-peer-issued").GetLabels()}, Data: map[string][]byte{pki.KeyIssuer: []byte(pki.ByCertManager)}}
	if err := w.api.Create(t.Context(), authority); err != nil {
		t.Fatal(err)
	}
	w.writes, w.cluster.Spec.TLS.Peer.CertManager = nil, nil
	if err := w.perform(plan.IssueCertificates); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a-0000-peer-issued", "a-0001-peer-issued"} {
		if !slices.Contains(w.writes, "delete "+name) {
			t.Errorf("%s stays: %v", name, w.writes)
		}
	}
	if w.get(&corev1.Secret{}, "a-0000-peer-issued") || !w.get(&corev1.Secret{}, "a-0001-peer-issued") {
		t.Error("the Secret of the Certificate stays, or somebody else's went")
	}
}

// TestASecretGoesWithItsCertificate: killed after the Certificate is gone, the operator knows
// nothing of the Secret any more, and the key in it would lie there for ever.
func TestASecretGoesWithItsCertificate(t *testing.T) {
	w := byCertManager(newWorld(t))
	if err := w.perform(plan.IssueCertificates); err != nil {
		t.Fatal(err)
	}
	const name = "a-0000-peer-issued"
	certificate := w.certificate(name)
	certificate.SetUID("certificate-uid")
	if err := w.api.Update(t.Context(), certificate); err != nil {
		t.Fatal(err)
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", Annotations: map[string]string{certmanager.NameAnnotation: name}}}
	if err := w.api.Create(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	authority := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "a-peer-ca", Namespace: "ns", Labels: certificate.GetLabels()}, Data: map[string][]byte{pki.KeyIssuer: []byte(pki.ByCertManager)}}
	if err := w.api.Create(t.Context(), authority); err != nil {
		t.Fatal(err)
	}
	w.cluster.Spec.TLS.Peer.CertManager = nil
	w.before = func(verb string, o client.Object) error {
		if _, is := o.(*corev1.Secret); is && verb == "delete" {
			return errors.New("the operator is killed")
		}
		return nil
	}
	if err := w.perform(plan.IssueCertificates); err == nil {
		t.Fatal("nothing was killed")
	}
	left := &corev1.Secret{}
	if !w.get(left, name) || len(left.OwnerReferences) != 1 || left.OwnerReferences[0].UID != "certificate-uid" || left.OwnerReferences[0].Kind != certmanager.Kind.Kind {
		t.Errorf("the Secret would stay: owners %v", left.OwnerReferences)
	}
}
