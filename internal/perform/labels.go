package perform

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// restoreLabels puts the identity back on a member's pod and claim, if they are
// proven to be the member's without it.
func (p *Performer) restoreLabels(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, name string) error {
	pod := &corev1.Pod{}
	there, err := p.there(ctx, c, name, pod)
	if err != nil {
		return err
	}
	if !there {
		pod = nil
	} else if err := p.relabel(ctx, c, name, pod, func() bool { return resources.MadePod(c, pod, name) }); err != nil {
		return err
	}
	claim := &corev1.PersistentVolumeClaim{}
	if there, err := p.there(ctx, c, resources.ClaimName(name), claim); err != nil || !there || memoryBacked(c, seen, name) {
		return err
	}
	return p.relabel(ctx, c, name, claim, func() bool { return resources.MadeClaim(c, claim, pod, name) })
}

func (p *Performer) there(ctx context.Context, c *v1alpha1.EtcdCluster, name string, into client.Object) (bool, error) {
	err := p.Live.Get(ctx, client.ObjectKey{Namespace: c.Namespace, Name: name}, into)
	if err != nil && !apierrors.IsNotFound(err) {
		return false, fmt.Errorf("reading %T %s: %w", into, name, err)
	}
	return err == nil, nil
}

// relabel an object in the version that was read. One that carries the cluster's
// identity needs no further proof.
func (p *Performer) relabel(ctx context.Context, c *v1alpha1.EtcdCluster, name string, object client.Object, proven func() bool) error {
	if !resources.Mislabelled(c, object, name) {
		return nil
	}
	if !carriesIdentity(c, object) && !proven() {
		return foreign(fmt.Sprintf("%T", object), client.ObjectKeyFromObject(object))
	}
	before := object.DeepCopyObject().(client.Object)
	resources.Relabel(c, object, name)
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := p.Writer.Patch(ctx, object, patch, client.FieldOwner(resources.FieldOwner)); err != nil {
		return fmt.Errorf("putting the labels back on %s: %w", object.GetName(), err)
	}
	return nil
}
