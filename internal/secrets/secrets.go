// Package secrets reads the Secrets of one cluster by name, and asks pki which
// of them are due. It never lists or watches Secrets: the operator has no right
// to, so that it cannot read anybody else's.
package secrets

import (
	"context"
	"fmt"
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
	set := Set{Live: map[string]*corev1.Secret{}}
	if !resources.TLS(c) {
		return set, nil
	}
	data := map[string]map[string][]byte{}
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
			data[name] = secret.Data
		}
	}
	if len(set.Foreign) > 0 {
		return set, nil
	}
	set.Plan = pki.Plan(now, pki.Inputs{
		Cluster: c.Name, Namespace: c.Namespace, Members: members,
		LeafDuration: c.Spec.TLS.LeafDuration.Duration,
		Authorities:  authorities, Secrets: data,
	})
	return set, nil
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
