package secrets

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/certmanager"
	"github.com/quorate/quorate/internal/pki"
)

// Asked is what cert-manager is to be asked for.
type Asked struct {
	// Create lists Certificates that do not exist, Change those that exist and are wanted
	// otherwise, as they are wanted, and Delete those that are wanted no more, as they are.
	Create, Change, Delete []*unstructured.Unstructured
}

// source is who issues the certificates of a port, if it is not the operator.
type source struct {
	issuer *v1alpha1.IssuerReference
	// secrets of the user's, by whom the certificate is for.
	secrets map[pki.Holder]string
}

// String is compared to see whether another one is wanted.
func (s source) String() string {
	if s.issuer != nil {
		return fmt.Sprint(*s.issuer)
	}
	return fmt.Sprint(s.secrets)
}

// sources are who issues certificates, by the name of the authority's Secret.
func sources(c *v1alpha1.EtcdCluster) map[string]source {
	out := map[string]source{}
	for authority, port := range map[string]v1alpha1.TLSPortSpec{pki.ClientCASecret(c.Name): c.Spec.TLS.Client, pki.PeerCASecret(c.Name): c.Spec.TLS.Peer} {
		switch {
		case port.CertManager != nil:
			out[authority] = source{issuer: &port.CertManager.IssuerRef}
		case port.MemberSecretRef != nil:
			out[authority] = source{secrets: map[pki.Holder]string{
				pki.HolderMember: port.MemberSecretRef.Name, pki.HolderOperator: named(c.Spec.TLS.OperatorSecretRef), pki.HolderApplication: named(c.Spec.TLS.ApplicationSecretRef),
			}}
		}
	}
	return out
}

func named(ref *v1alpha1.SecretReference) string {
	if ref == nil {
		return ""
	}
	return ref.Name
}

// others reads what others provide, each Secret once.
type others struct {
	reader    Reader
	namespace string
	read      map[string]pki.Given
	versions  []string
}

func (o *others) secret(ctx context.Context, name string) (pki.Given, error) {
	if from, known := o.read[name]; known {
		return from, nil
	}
	secret := &corev1.Secret{}
	err := o.reader.Live.Get(ctx, client.ObjectKey{Namespace: o.namespace, Name: name}, secret)
	if client.IgnoreNotFound(err) != nil {
		return pki.Given{}, fmt.Errorf("reading Secret %s: %w", name, err)
	}
	from := pki.Given{Secret: name}
	if err == nil {
		from.Data = map[string][]byte{}
		maps.Copy(from.Data, secret.Data)
	}
	o.read[name] = from
	o.versions = append(o.versions, "from "+name+"="+string(secret.UID)+"/"+secret.ResourceVersion)
	return from, nil
}

// issued reads the certificates that others issue, and what cert-manager says of them.
// That cert-manager is missing or does not answer is no error: it is told, and whatever
// else the cluster needs goes on.
func (o *others) issued(ctx context.Context, c *v1alpha1.EtcdCluster, members []string, set *Set) error {
	unavailable := o.certificates(ctx, c, set)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("reading Certificates: %w", err)
	}
	sources := sources(c)
	for _, slot := range pki.Slots(c.Name, members) {
		from, wanted := sources[slot.Authority]
		if !wanted {
			continue
		}
		if set.Issued == nil {
			set.Issued = map[string]pki.Issued{}
		}
		issued, begun := set.Issued[slot.Authority]
		if !begun {
			issued = from.issued(unavailable)
			set.Issued[slot.Authority] = issued
		}
		leaf, err := o.leaf(ctx, from, slot, set.Certificates)
		if err != nil {
			return err
		}
		if leaf.Secret != "" {
			issued.Leaves[slot.Own] = leaf
		}
	}
	return nil
}

// issued has none of the certificates yet.
func (s source) issued(unavailable error) pki.Issued {
	out := pki.Issued{Leaves: map[string]pki.Given{}}
	if s.issuer == nil {
		return out
	}
	if out.By = pki.ByCertManager; unavailable != nil {
		out.Unavailable = unavailable.Error()
	}
	return out
}

// leaf reads one of them; it is of no Secret when none is named.
func (o *others) leaf(ctx context.Context, from source, slot pki.Slot, certificates certmanager.Certificates) (pki.Given, error) {
	if from.issuer == nil {
		if from.secrets[slot.Of] == "" {
			return pki.Given{}, nil
		}
		return o.secret(ctx, from.secrets[slot.Of])
	}
	leaf, err := o.secret(ctx, slot.Issued)
	certificate := certificates[slot.Issued]
	if leaf.Awaits = awaits(certificate); leaf.Awaits != "" && !certmanager.Issued(certificate) {
		// cert-manager leaves a Secret behind when its Certificate is deleted. What an earlier
		// issuer signed for a cluster of this name would found the cluster on its authority.
		leaf.Data = nil
	}
	return leaf, err
}

func awaits(certificate *unstructured.Unstructured) string {
	if certificate == nil {
		return "it is about to be asked for"
	}
	return certmanager.Awaits(certificate)
}

// certificates reads those of cert-manager, where any are wanted or may be left. It gives
// back why that could not be done.
func (o *others) certificates(ctx context.Context, c *v1alpha1.EtcdCluster, set *Set) (unavailable error) {
	wanted := slices.ContainsFunc(slices.Collect(maps.Values(sources(c))), func(s source) bool { return s.issuer != nil })
	if !wanted && len(noted(c, *set)) == 0 {
		return nil
	}
	set.Certificates, unavailable = certmanager.List(ctx, o.reader.Live, c)
	if unavailable != nil && !errors.As(unavailable, &certmanager.NotInstalled{}) {
		// Whether any is left is not known.
		set.Certificates = nil
	} else if set.Certificates == nil {
		set.Certificates = certmanager.Certificates{}
	}
	for name, certificate := range set.Certificates {
		o.versions = append(o.versions, "Certificate "+name+"="+string(certificate.GetUID())+"/"+certificate.GetResourceVersion())
	}
	o.versions = append(o.versions, fmt.Sprint("cert-manager: ", unavailable))
	return unavailable
}

// noted are the authorities' Secrets which say that Certificates may exist for their port.
func noted(c *v1alpha1.EtcdCluster, s Set) (authorities []string) {
	for _, name := range []string{pki.ClientCASecret(c.Name), pki.PeerCASecret(c.Name)} {
		if secret := s.Live[name]; secret != nil && len(secret.Data[pki.KeyIssuer]) > 0 {
			authorities = append(authorities, name)
		}
	}
	return authorities
}

// leftover are those of them of which there are some, or it is not known.
func leftover(c *v1alpha1.EtcdCluster, s Set) []string {
	return slices.DeleteFunc(noted(c, s), func(authority string) bool {
		if s.Certificates == nil {
			return false
		}
		return !slices.ContainsFunc(slices.Collect(maps.Keys(s.Certificates)), func(name string) bool { return portOf(c, name) == authority })
	})
}

// portOf a Certificate: the name of the authority's Secret.
func portOf(c *v1alpha1.EtcdCluster, certificate string) string {
	if strings.HasSuffix(certificate, pki.PeerIssued) {
		return pki.PeerCASecret(c.Name)
	}
	return pki.ClientCASecret(c.Name)
}

// asked compares the Certificates that exist with those that are wanted.
func asked(c *v1alpha1.EtcdCluster, s Set) Asked {
	var out Asked
	if s.Certificates == nil {
		return out
	}
	sources, wanted := sources(c), map[string]bool{}
	for _, request := range s.Plan.Requests {
		if s.Issued[request.Authority].Unavailable != "" {
			continue
		}
		want := certmanager.Certificate(c, request, *sources[request.Authority].issuer)
		wanted[request.Issued] = true
		switch live := s.Certificates[request.Issued]; {
		case live == nil:
			out.Create = append(out.Create, want)
		case certmanager.Differs(live, want):
			want.SetResourceVersion(live.GetResourceVersion())
			out.Change = append(out.Change, want)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Certificates)) {
		if !wanted[name] {
			out.Delete = append(out.Delete, s.Certificates[name])
		}
	}
	return out
}
