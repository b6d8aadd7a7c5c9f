// Package certmanager asks cert-manager for certificates: it builds Certificates, reads
// those of a cluster, and tells what cert-manager says of them. Its own module is not
// needed for that, and would bring a webhook's and a dozen solvers' dependencies along;
// the fields used here have been stable since v1.0. Nothing of cert-manager is watched or
// cached, so that an operator starts, and works for every other cluster, where it is not
// installed.
package certmanager

import (
	"context"
	"fmt"
	"reflect"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/pki"
	"github.com/quorate/quorate/internal/resources"
)

// Kind of a Certificate.
var Kind = schema.GroupVersionKind{Group: "cert-manager.io", Version: "v1", Kind: "Certificate"}

// NameAnnotation on a Secret is the Certificate that cert-manager wrote it for.
const NameAnnotation = "cert-manager.io/certificate-name"

// Certificates are those of one cluster, by name.
type Certificates map[string]*unstructured.Unstructured

// NotInstalled means that there is no cert-manager which could be asked, and so no
// Certificate.
type NotInstalled struct{}

// Error says what is wrong, why it matters, and what to do.
func (NotInstalled) Error() string {
	return "the kind Certificate of cert-manager.io/v1 does not exist — " + why + " — install cert-manager, or take certManager out of spec.tls"
}

const why = "nobody issues or renews the certificates that spec.tls wants of it"

// List reads the Certificates of a cluster from the API server. Its error says what is
// wrong, why that matters and what to do; it is NotInstalled without the kind.
func List(ctx context.Context, live client.Reader, c *v1alpha1.EtcdCluster) (Certificates, error) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(Kind.GroupVersion().WithKind(Kind.Kind + "List"))
	err := live.List(ctx, list, client.InNamespace(c.Namespace), client.MatchingLabels{v1alpha1.LabelClusterUID: resources.ClusterUID(c)})
	switch {
	case meta.IsNoMatchError(err) || apierrors.IsNotFound(err):
		return nil, NotInstalled{}
	case apierrors.IsForbidden(err):
		return nil, fmt.Errorf("the operator may not list certificates.cert-manager.io in namespace %s — %s — give it the rights of config/rbac", c.Namespace, why)
	case err != nil:
		return nil, fmt.Errorf("the Certificates of namespace %s cannot be read (%w) — %s — see that the API server and cert-manager are well", c.Namespace, err, why)
	}
	found := Certificates{}
	for i := range list.Items {
		// One of a deleted cluster whose volumes this one has adopted carries its UID.
		if item := &list.Items[i]; metav1.IsControlledBy(item, c) {
			found[item.GetName()] = item
		}
	}
	return found, nil
}

// Certificate is what cert-manager is asked for. It belongs to the cluster and goes with
// it.
func Certificate(c *v1alpha1.EtcdCluster, want pki.Request, issuer v1alpha1.IssuerReference) *unstructured.Unstructured {
	spec := map[string]any{
		"secretName": want.Issued, "commonName": want.CommonName, "usages": list(want.Uses),
		"duration": want.Life.String(), "renewBefore": want.RenewBefore.String(),
		// What the operator would make itself. A key is never used for a second certificate.
		"privateKey": map[string]any{"algorithm": "ECDSA", "size": int64(256), "encoding": "PKCS8", "rotationPolicy": "Always"},
		"issuerRef":  map[string]any{"name": issuer.Name, "kind": issuer.Kind, "group": issuer.Group},
	}
	if len(want.DNSNames) > 0 {
		spec["dnsNames"] = list(want.DNSNames)
	}
	if len(want.IPAddresses) > 0 {
		spec["ipAddresses"] = list(want.IPAddresses)
	}
	out := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	out.SetGroupVersionKind(Kind)
	out.SetNamespace(c.Namespace)
	out.SetName(want.Issued)
	out.SetLabels(resources.Labels(c))
	out.SetOwnerReferences([]metav1.OwnerReference{*metav1.NewControllerRef(c, v1alpha1.GroupVersion.WithKind("EtcdCluster"))})
	return out
}

func list(of []string) []any {
	out := make([]any, 0, len(of))
	for _, s := range of {
		out = append(out, s)
	}
	return out
}

// Differs says that a Certificate is not asked for what is wanted. What others have added
// to it, and what cert-manager fills in, is theirs.
func Differs(live, want *unstructured.Unstructured) bool {
	wanted, _, _ := unstructured.NestedMap(want.Object, "spec")
	have, _, _ := unstructured.NestedMap(live.Object, "spec")
	return !covers(have, wanted)
}

func covers(have, want map[string]any) bool {
	for field, value := range want {
		below, is := value.(map[string]any)
		if !is {
			if !reflect.DeepEqual(have[field], value) {
				return false
			}
			continue
		}
		live, is := have[field].(map[string]any)
		if !is || !covers(live, below) {
			return false
		}
	}
	return true
}

// Issued says that cert-manager has issued the Certificate at least once, so that what its
// Secret holds was written for it. There is none to be asked of a Certificate that is nil.
func Issued(live *unstructured.Unstructured) bool {
	if live == nil {
		return false
	}
	revision, _, _ := unstructured.NestedInt64(live.Object, "status", "revision")
	return revision > 0
}

// Awaits is what cert-manager says of a Certificate that is not issued as it is wanted now;
// empty when it is.
func Awaits(live *unstructured.Unstructured) string {
	conditions, _, _ := unstructured.NestedSlice(live.Object, "status", "conditions")
	told := "cert-manager has not looked at it yet: is it running?"
	for _, entry := range conditions {
		condition, _ := entry.(map[string]any)
		message, _ := condition["message"].(string)
		switch condition["type"] {
		case "Ready":
			if condition["status"] == "True" {
				return ""
			}
			if message != "" {
				told = message
			}
		case "Issuing":
			// Why the last attempt failed is told here, and only here.
			if condition["reason"] == "Failed" && message != "" {
				return message
			}
		}
	}
	return told
}
