package certmanager

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/pki"
)

func cluster() *v1alpha1.EtcdCluster {
	return &v1alpha1.EtcdCluster{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "ns", UID: "5e1f"}}
}

var request = pki.Request{
	Slot: pki.Slot{Issued: "a-0000-server-issued"}, CommonName: "a-0000", DNSNames: []string{"a-0000.a.ns.svc", "localhost"}, IPAddresses: []string{"127.0.0.1"},
	Uses: []string{"digital signature", "server auth", "client auth"}, Life: 90 * 24 * time.Hour, RenewBefore: 30 * 24 * time.Hour,
}

var issuer = v1alpha1.IssuerReference{Name: "corp", Kind: "ClusterIssuer", Group: "cert-manager.io"}

func TestCertificate(t *testing.T) {
	got := Certificate(cluster(), request, issuer)
	want := map[string]any{
		"secretName": "a-0000-server-issued", "commonName": "a-0000", "dnsNames": []any{"a-0000.a.ns.svc", "localhost"}, "ipAddresses": []any{"127.0.0.1"},
		"usages": []any{"digital signature", "server auth", "client auth"}, "duration": "2160h0m0s", "renewBefore": "720h0m0s",
		"privateKey": map[string]any{"algorithm": "ECDSA", "size": int64(256), "encoding": "PKCS8", "rotationPolicy": "Always"},
		"issuerRef":  map[string]any{"name": "corp", "kind": "ClusterIssuer", "group": "cert-manager.io"},
	}
	if diff := cmp.Diff(want, got.Object["spec"]); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	if !metav1.IsControlledBy(got, cluster()) || got.GetName() != "a-0000-server-issued" || got.GetLabels()[v1alpha1.LabelClusterUID] != "5e1f" {
		t.Errorf("metadata %v", got.Object["metadata"])
	}
}

func TestDiffers(t *testing.T) {
	want := Certificate(cluster(), request, issuer)
	for name, tc := range map[string]struct {
		change  func(spec map[string]any)
		differs bool
	}{
		"as it is wanted":     {func(map[string]any) {}, false},
		"with more":           {func(s map[string]any) { s["revisionHistoryLimit"] = int64(1) }, false},
		"with more of a key":  {func(s map[string]any) { s["privateKey"].(map[string]any)["more"] = "x" }, false},
		"of another issuer":   {func(s map[string]any) { s["issuerRef"].(map[string]any)["name"] = "other" }, true},
		"with a name less":    {func(s map[string]any) { s["dnsNames"] = []any{"localhost"} }, true},
		"with a name more":    {func(s map[string]any) { s["dnsNames"] = append(s["dnsNames"].([]any), "evil") }, true},
		"without a duration":  {func(s map[string]any) { delete(s, "duration") }, true},
		"a key that is a map": {func(s map[string]any) { s["privateKey"] = "ECDSA" }, true},
	} {
		live := want.DeepCopy()
		tc.change(live.Object["spec"].(map[string]any))
		if got := Differs(live, want); got != tc.differs {
			t.Errorf("%s: differs %t", name, got)
		}
	}
}

func TestAwaits(t *testing.T) {
	conditions := func(of ...map[string]any) []any {
		var out []any
		for _, c := range of {
			out = append(out, c)
		}
		return out
	}
	for name, tc := range map[string]struct {
		conditions []any
		want       string
	}{
		"nobody has looked at it": {nil, "cert-manager has not looked at it yet: is it running?"},
		"issued":                  {conditions(map[string]any{"type": "Ready", "status": "True", "message": "Certificate is up to date"}), ""},
		"being issued": {
			conditions(map[string]any{"type": "Ready", "status": "False", "message": "Issuing certificate as Secret does not exist"}, map[string]any{"type": "Issuing", "status": "True"}),
			"Issuing certificate as Secret does not exist",
		},
		"failed": {
			conditions(map[string]any{"type": "Ready", "status": "False", "message": "does not exist"}, map[string]any{"type": "Issuing", "status": "False", "reason": "Failed", "message": "the issuer denied it"}),
			"the issuer denied it",
		},
		"a condition that is none": {[]any{"Ready"}, "cert-manager has not looked at it yet: is it running?"},
	} {
		live := Certificate(cluster(), request, issuer)
		if tc.conditions != nil {
			live.Object["status"] = map[string]any{"conditions": tc.conditions}
		}
		if got := Awaits(live); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// TestList: those of this very cluster, and what to do when there are none to be had.
func TestList(t *testing.T) {
	ours, orphan := Certificate(cluster(), request, issuer), Certificate(cluster(), request, issuer)
	orphan.SetName("b")
	orphan.SetOwnerReferences(nil)
	found, err := List(t.Context(), fake.NewClientBuilder().WithObjects(ours, orphan).Build(), cluster())
	if err != nil || len(found) != 1 || found["a-0000-server-issued"] == nil {
		t.Errorf("List() = %v, %v", found, err)
	}
	resource := schema.GroupResource{Group: "cert-manager.io", Resource: "certificates"}
	for name, tc := range map[string]struct {
		err       error
		says      string
		installed bool
	}{
		"no kind":          {&meta.NoKindMatchError{GroupKind: Kind.GroupKind(), SearchedVersions: []string{"v1"}}, "does not exist — nobody issues", false},
		"no kind any more": {apierrors.NewNotFound(resource, ""), "install cert-manager, or take certManager out of spec.tls", false},
		"no right":         {apierrors.NewForbidden(resource, "", errors.New("no")), "may not list certificates.cert-manager.io in namespace ns — nobody issues", true},
		"no answer":        {apierrors.NewInternalError(errors.New("conversion webhook")), "conversion webhook", true},
	} {
		api := fake.NewClientBuilder().WithInterceptorFuncs(interceptor.Funcs{List: func(_ context.Context, _ client.WithWatch, of client.ObjectList, _ ...client.ListOption) error {
			if of.(*unstructured.UnstructuredList).GroupVersionKind().Kind != "CertificateList" {
				t.Error("something else is listed")
			}
			return tc.err
		}}).Build()
		_, err := List(t.Context(), api, cluster())
		if err == nil || !strings.Contains(err.Error(), tc.says) || strings.Count(err.Error(), " — ") != 2 || errors.As(err, &NotInstalled{}) == tc.installed {
			t.Errorf("%s: %v", name, err)
		}
	}
}
