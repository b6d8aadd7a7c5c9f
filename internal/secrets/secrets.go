// Package secrets reads the Secrets of one cluster by name, and asks pki which
// of them are due. It never lists or watches Secrets: the operator has no right
// to, so that it cannot read anybody else's.
package secrets

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/pki"
	"github.com/quorate/quorate/internal/resources"
)

// Set is what was read.
type Set struct {
	// Live are the Secrets that belong to this very cluster, by name.
	Live map[string]*corev1.Secret
	// Foreign are the Secrets that bear a name we need and are not ours.
	Foreign []*corev1.Secret
	// Plan is what is due; empty while Foreign is not.
	Plan pki.Result
	// Versions tells whether any Secret, or what is wanted of them, has changed
	// since another Read.
	Versions string
}

// Due names the Secrets that are to be written.
func (s Set) Due() []string {
	var due []string
	for _, list := range [][]pki.SecretData{s.Plan.Create, s.Plan.Renew} {
		for _, secret := range list {
			due = append(due, "Secret "+secret.Name)
		}
	}
	return due
}

// Read reads the Secrets of a cluster with these members, uncached, and plans.
// Without TLS there is nothing to read.
func Read(ctx context.Context, live client.Reader, c *v1alpha1.EtcdCluster, members []string, now time.Time, authorities pki.AuthorityPolicy) (Set, error) {
	set, err := fetch(ctx, live, c, members)
	if err != nil {
		return Set{}, err
	}
	set.plan(c, members, now, authorities)
	return set, nil
}

// ReadSince is Read, except that nothing is planned when the Secrets have the
// versions of an earlier Read: parsing and verifying certificates that are known
// to be in order would cost more than reading them.
func ReadSince(ctx context.Context, versions string, live client.Reader, c *v1alpha1.EtcdCluster, members []string, now time.Time, authorities pki.AuthorityPolicy) (Set, error) {
	set, err := fetch(ctx, live, c, members)
	if err != nil {
		return Set{}, err
	}
	if set.Versions != versions {
		set.plan(c, members, now, authorities)
	}
	return set, nil
}

// fetch only reads.
func fetch(ctx context.Context, live client.Reader, c *v1alpha1.EtcdCluster, members []string) (Set, error) {
	set := Set{Live: map[string]*corev1.Secret{}}
	if !resources.TLS(c) {
		return set, nil
	}
	versions := []string{string(c.UID), c.Spec.TLS.LeafDuration.Duration.String()}
	for _, name := range pki.SecretNames(c.Name, members) {
		secret := &corev1.Secret{}
		err := live.Get(ctx, client.ObjectKey{Namespace: c.Namespace, Name: name}, secret)
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return Set{}, fmt.Errorf("reading Secret %s: %w", name, err)
		case secret.Labels[v1alpha1.LabelClusterUID] != string(c.UID) && !metav1.IsControlledBy(secret, c):
			set.Foreign = append(set.Foreign, secret)
		default:
			set.Live[name] = secret
		}
		versions = append(versions, name+"="+string(secret.UID)+"/"+secret.ResourceVersion)
	}
	set.Versions = strings.Join(versions, ",")
	return set, nil
}

func (s *Set) plan(c *v1alpha1.EtcdCluster, members []string, now time.Time, authorities pki.AuthorityPolicy) {
	if !resources.TLS(c) || len(s.Foreign) > 0 {
		return
	}
	data := map[string]map[string][]byte{}
	for name, secret := range s.Live {
		data[name] = secret.Data
	}
	s.Plan = pki.Plan(now, pki.Inputs{
		Cluster: c.Name, Namespace: c.Namespace, Members: members,
		LeafDuration: c.Spec.TLS.LeafDuration.Duration,
		Authorities:  authorities, Secrets: data,
	})
}

// Authorities says whether a missing authority may be created: only while the
// cluster has not been founded, for a new one would cut the members off from
// each other.
func Authorities(c *v1alpha1.EtcdCluster) pki.AuthorityPolicy {
	if c.Status.ClusterID == "" {
		return pki.AuthorityMayBeCreated
	}
	return pki.AuthorityExpected
}
