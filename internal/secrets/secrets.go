// Package secrets reads the Secrets of one cluster by name, and asks pki which
// of them are due. It never lists or watches Secrets: the operator has no right
// to, so that it cannot read anybody else's.
package secrets

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/certmanager"
	"github.com/quorate/quorate/internal/pki"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// Set is what was read.
type Set struct {
	// Live are the Secrets that belong to this very cluster, by name.
	Live map[string]*corev1.Secret
	// Foreign are the Secrets that bear a name we need and are not ours.
	Foreign []*corev1.Secret
	// Taken names those that only a coming member would need. The present ones go on.
	Taken []string
	// Given are the authorities that the user provides, by the name of ours.
	Given map[string]pki.Given
	// Issued are the certificates that others issue, by the name of the authority's Secret.
	Issued map[string]pki.Issued
	// Certificates of cert-manager that exist for this cluster.
	Certificates certmanager.Certificates
	// Asked says what cert-manager is to be asked for, and what no more.
	Asked Asked
	// Plan is what is due; empty while Foreign is not.
	Plan pki.Result
	// Lack says why a coming member could get no certificates; nil if all of them could, or
	// there are none.
	Lack *plan.Lack
	// Versions tells whether any Secret, or what is wanted of them, has changed
	// since another Read.
	Versions string
}

// Due names the Secrets that are to be written, and why an authority's is.
func (s Set) Due() []string {
	var due []string
	for _, secret := range s.Plan.Create {
		due = append(due, "Secret "+secret.Name)
	}
	for _, secret := range s.Plan.Renew {
		text := "Secret " + secret.Name
		if secret.Authority() {
			text += " (" + secret.Why + ")"
		}
		due = append(due, text)
	}
	for _, list := range [][]*unstructured.Unstructured{s.Asked.Create, s.Asked.Change, s.Asked.Delete} {
		for _, certificate := range list {
			due = append(due, "Certificate "+certificate.GetName())
		}
	}
	return due
}

// Shake asks members what they show on their ports; nil when it is too early to.
type Shake func(ctx context.Context, who pki.Ask) map[string]pki.Shown

// Reader reads and plans.
type Reader struct {
	// Live reads from the API server.
	Live client.Reader
	// Now is the time.
	Now time.Time
	// Shake is asked when a rotation goes on by what members show; without it none
	// does.
	Shake Shake
	// Coming are members that do not exist yet, and are about to begin an incarnation. What
	// others issue is asked for and tried; the operator's own Secrets are made when the
	// members exist, so that nothing is left if they never do.
	Coming []string
}

// Read reads the Secrets of a cluster with these members, uncached, and plans.
// Without TLS there is nothing to read.
func (r Reader) Read(ctx context.Context, c *v1alpha1.EtcdCluster, members []string) (Set, error) {
	set, err := r.fetch(ctx, c, members)
	if err != nil {
		return Set{}, err
	}
	r.plan(ctx, &set, c, members)
	return set, nil
}

// ReadSince is Read, except that nothing is planned when the Secrets have the
// versions of an earlier Read: parsing and verifying certificates that are known
// to be in order would cost more than reading them.
func (r Reader) ReadSince(ctx context.Context, versions string, c *v1alpha1.EtcdCluster, members []string) (Set, error) {
	set, err := r.fetch(ctx, c, members)
	if err != nil {
		return Set{}, err
	}
	if set.Versions != versions {
		r.plan(ctx, &set, c, members)
	}
	return set, nil
}

// fetch only reads.
func (r Reader) fetch(ctx context.Context, c *v1alpha1.EtcdCluster, members []string) (Set, error) {
	set := Set{Live: map[string]*corev1.Secret{}}
	if !resources.TLS(c) {
		return set, nil
	}
	members = slices.Concat(members, r.Coming)
	versions := []string{string(c.UID), Wanted(c)}
	for _, name := range pki.SecretNames(c.Name, members) {
		secret := &corev1.Secret{}
		err := r.Live.Get(ctx, client.ObjectKey{Namespace: c.Namespace, Name: name}, secret)
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return Set{}, fmt.Errorf("reading Secret %s: %w", name, err)
		case !metav1.IsControlledBy(secret, c) && (secret.Labels[v1alpha1.LabelClusterUID] != resources.ClusterUID(c) || metav1.GetControllerOf(secret) != nil):
			// One of a deleted cluster whose volumes this one has adopted carries its UID, and
			// goes in a moment.
			if r.comes(name) {
				set.Taken = append(set.Taken, name)
			} else {
				set.Foreign = append(set.Foreign, secret)
			}
		default:
			set.Live[name] = secret
		}
		versions = append(versions, name+"="+string(secret.UID)+"/"+secret.ResourceVersion)
	}
	others := &others{reader: r, namespace: c.Namespace, read: map[string]pki.Given{}}
	for ours, ref := range given(c) {
		from, err := others.secret(ctx, ref.Name)
		if err != nil {
			return Set{}, err
		}
		if set.Given == nil {
			set.Given = map[string]pki.Given{}
		}
		set.Given[ours] = from
	}
	if err := others.issued(ctx, c, members, &set); err != nil {
		return Set{}, err
	}
	versions = append(versions, others.versions...)
	slices.Sort(versions)
	set.Versions = strings.Join(versions, ",")
	return set, nil
}

// given are the user's Secrets of authorities, by the names of ours.
func given(c *v1alpha1.EtcdCluster) map[string]v1alpha1.SecretReference {
	out := map[string]v1alpha1.SecretReference{}
	if ref := c.Spec.TLS.Client.AuthoritySecretRef; ref != nil {
		out[pki.ClientCASecret(c.Name)] = *ref
	}
	if ref := c.Spec.TLS.Peer.AuthoritySecretRef; ref != nil {
		out[pki.PeerCASecret(c.Name)] = *ref
	}
	return out
}

func (r Reader) plan(ctx context.Context, s *Set, c *v1alpha1.EtcdCluster, members []string) {
	if !resources.TLS(c) {
		return
	}
	if len(s.Foreign) > 0 {
		s.Plan.Trust = pki.TrustUnknown
		if len(r.Coming) > 0 {
			s.Lack = taken(s.Foreign[0].Name)
		}
		return
	}
	in := r.inputs(c, *s, members)
	s.Plan = pki.Plan(r.Now, in)
	r.prepare(c, s)
	s.Asked = asked(c, *s)
	if s.Plan.Ask == nil || r.Shake == nil {
		return
	}
	if in.Shown = r.Shake(ctx, *s.Plan.Ask); in.Shown != nil {
		s.Plan = pki.Plan(r.Now, in)
	}
}

// inputs for these members. What there is of others is left out: whether the present members'
// certificates are in order does not depend on those that come.
func (r Reader) inputs(c *v1alpha1.EtcdCluster, s Set, members []string) pki.Inputs {
	data := map[string]map[string][]byte{}
	for name, secret := range s.Live {
		if !r.comes(name) || slices.Contains(pki.SecretNames(c.Name, members), name) {
			data[name] = secret.Data
		}
	}
	return pki.Inputs{
		Cluster: c.Name, Namespace: c.Namespace, Members: members,
		LeafDuration: c.Spec.TLS.LeafDuration.Duration,
		Authorities:  authorities(c), Secrets: data,
		RotateBefore: rotateBefore(c), Soak: c.Spec.TLS.RotationSoak.Duration, Given: s.Given,
		Issued: r.issuedTo(c, s, members), Leftover: leftover(c, s),
	}
}

// Wanted is what the spec says of certificates, in a line: with another one, another
// plan is made of the same Secrets.
func Wanted(c *v1alpha1.EtcdCluster) string {
	return fmt.Sprintf("%v/%v/%s/%v/%v", c.Spec.TLS.LeafDuration.Duration, c.Spec.TLS.RotationSoak.Duration, c.Spec.TLS.RotateCA, given(c), sources(c))
}

// rotateBefore is spec.tls.rotateCA; zero for none, and for a day that no month has.
func rotateBefore(c *v1alpha1.EtcdCluster) time.Time {
	before, err := time.Parse(time.RFC3339, c.Spec.TLS.RotateCA)
	if err != nil {
		return time.Time{}
	}
	return before
}

// authorities says whether a missing authority may be created: only while the
// cluster has not been founded, or members still reach each other without any, for a new
// one would cut the members off from each other.
func authorities(c *v1alpha1.EtcdCluster) pki.AuthorityPolicy {
	if c.Status.ClusterID == "" || c.Status.PlaintextPeers {
		return pki.AuthorityMayBeCreated
	}
	return pki.AuthorityExpected
}
