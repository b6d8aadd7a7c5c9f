package perform

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/resources"
)

// DeleteVolumes deletes every claim that the cluster has made, of any
// incarnation: the user asked for it with storage.whenDeleted, and then deleted
// the cluster. A copy of a claim under another name, labels and all, is not one; nor is
// one of a cluster by another name, which may have adopted the same UID and live.
func (p *Performer) DeleteVolumes(ctx context.Context, c *v1alpha1.EtcdCluster) error {
	var claims corev1.PersistentVolumeClaimList
	err := p.Live.List(ctx, &claims, client.InNamespace(c.Namespace), client.MatchingLabels{
		v1alpha1.LabelCluster: c.Name, v1alpha1.LabelClusterUID: resources.ClusterUID(c),
	})
	if err != nil {
		return fmt.Errorf("listing claims: %w", err)
	}
	var all []error
	for i := range claims.Items {
		claim := &claims.Items[i]
		if claim.Name != resources.ClaimName(claim.Labels[v1alpha1.LabelMember]) {
			continue
		}
		err := p.Writer.Delete(ctx, claim, client.Preconditions{UID: &claim.UID})
		if client.IgnoreNotFound(err) != nil {
			all = append(all, fmt.Errorf("deleting claim %s: %w", claim.Name, err))
		}
	}
	return errors.Join(all...)
}

// RemoveFinalizer lets the cluster go.
func (p *Performer) RemoveFinalizer(ctx context.Context, c *v1alpha1.EtcdCluster) error {
	before := c.DeepCopy()
	controllerutil.RemoveFinalizer(c, v1alpha1.Finalizer)
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := p.Writer.Patch(ctx, c, patch, client.FieldOwner(resources.FieldOwner)); err != nil {
		return fmt.Errorf("removing the finalizer: %w", err)
	}
	return nil
}
