package main

import (
	"context"
	"encoding/json"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/klog/v2"
)

// provisionedBy is the annotation with which the library marks its volumes.
const provisionedBy = "pv.kubernetes.io/provisioned-by"

// expander carries out requests for a larger volume. A directory has no size of
// its own, so only the two recorded capacities change.
type expander struct {
	client      kubernetes.Interface
	volumes     corelisters.PersistentVolumeLister
	provisioner string
}

// claimChanged grows the claim's volume when the claim asks for more than it has.
func (e *expander) claimChanged(ctx context.Context, o any) {
	claim, ok := o.(*v1.PersistentVolumeClaim)
	if !ok {
		return
	}
	size, wanted := growth(claim)
	if !wanted {
		return
	}
	pv, err := e.volumes.Get(claim.Spec.VolumeName)
	if err != nil || pv.Annotations[provisionedBy] != e.provisioner {
		return
	}
	if err := e.expand(ctx, claim, pv, size); err != nil && !apierrors.IsNotFound(err) {
		klog.ErrorS(err, "Expanding a volume", "claim", klog.KObj(claim), "size", size.String())
	}
}

// growth returns the size that a bound claim asks for, and whether that is more than it has.
func growth(claim *v1.PersistentVolumeClaim) (resource.Quantity, bool) {
	want := claim.Spec.Resources.Requests[v1.ResourceStorage]
	have := claim.Status.Capacity[v1.ResourceStorage]
	return want, claim.Status.Phase == v1.ClaimBound && want.Cmp(have) > 0
}

// expand writes the volume's capacity before the claim's, the order in which a
// resizer does it: a claim never shows more than its volume has.
func (e *expander) expand(ctx context.Context, claim *v1.PersistentVolumeClaim, pv *v1.PersistentVolume, size resource.Quantity) error {
	capacity := map[string]any{"capacity": map[string]string{"storage": size.String()}}
	spec, err := json.Marshal(map[string]any{"spec": capacity})
	if err != nil {
		return err
	}
	if _, err := e.client.CoreV1().PersistentVolumes().Patch(ctx, pv.Name, types.MergePatchType, spec, metav1.PatchOptions{}); err != nil {
		return err
	}
	capacity["conditions"] = nil
	status, err := json.Marshal(map[string]any{"status": capacity})
	if err != nil {
		return err
	}
	_, err = e.client.CoreV1().PersistentVolumeClaims(claim.Namespace).Patch(ctx, claim.Name, types.MergePatchType, status, metav1.PatchOptions{}, "status")
	return err
}
