package observe

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
)

const (
	// ofClass is how a ResourceQuota names what it allows of one storage class.
	ofClass = ".storageclass.storage.k8s.io/"
	// defaultClass is the annotation of the class that a claim gets which names none.
	defaultClass     = "storageclass.kubernetes.io/is-default-class"
	defaultClassBeta = "storageclass.beta.kubernetes.io/is-default-class"
)

// volumeLack is why volumes could not be had for those who begin the next incarnation, beside
// the old ones, which are kept; nil if they could. It is of interest until members are stopped
// for an EtcdRestore: from then on the API server says it, while nobody serves.
func (o *Observer) volumeLack(ctx context.Context, c *v1alpha1.EtcdCluster, kube *kubernetes, word *plan.Recovery) (*plan.Lack, error) {
	if word == nil || word.Restore == "" || word.Begun || word.Blocked != "" || word.Late != "" {
		return nil, nil
	}
	class, exists, err := o.classOf(ctx, c)
	if err != nil {
		return nil, err
	}
	if !exists {
		return &plan.Lack{What: fmt.Sprintf("storage class %q does not exist", class), Do: "create it"}, nil
	}
	if gone, err := o.defaultGone(ctx, c, kube, class); err != nil || gone != nil {
		return gone, err
	}
	var quotas corev1.ResourceQuotaList
	switch err := o.Live.List(ctx, &quotas, client.InNamespace(c.Namespace)); {
	case apierrors.IsForbidden(err):
		return nil, nil // by a Role of a release before; the API server has the last word anyway
	case err != nil:
		return nil, fmt.Errorf("reading ResourceQuotas: %w", err)
	}
	for i := range quotas.Items {
		if lack := exceeded(&quotas.Items[i], c, class); lack != nil {
			return lack, nil
		}
	}
	return nil, nil
}

// defaultGone says that the volumes were given a class, which is gone, and that none is the
// default now. One that still exists may be somebody else's choice for each claim.
func (o *Observer) defaultGone(ctx context.Context, c *v1alpha1.EtcdCluster, kube *kubernetes, class string) (*plan.Lack, error) {
	if o.Cluster == nil || class != "" || c.Spec.Storage.StorageClassName != nil {
		return nil, nil
	}
	for i := range kube.claims {
		given := ptr.Deref(kube.claims[i].Spec.StorageClassName, "")
		if given == "" {
			continue
		}
		err := o.Cluster.Get(ctx, client.ObjectKey{Name: given}, &storagev1.StorageClass{})
		if apierrors.IsNotFound(err) {
			return &plan.Lack{What: fmt.Sprintf("storage class %q, which the volumes were given, does not exist, and none is the default", given), Do: "make one the default"}, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading storage class %s: %w", given, err)
		}
	}
	return nil, nil
}

// classOf the volumes that would be made now: that of the spec, or the default one, which is the
// newest, as for the API server; empty if that is none. Where the operator may not read them it
// is what the spec says.
func (o *Observer) classOf(ctx context.Context, c *v1alpha1.EtcdCluster) (name string, exists bool, err error) {
	if o.Cluster == nil {
		return ptr.Deref(c.Spec.Storage.StorageClassName, ""), true, nil
	}
	if wanted := c.Spec.Storage.StorageClassName; wanted != nil {
		err := o.Cluster.Get(ctx, client.ObjectKey{Name: *wanted}, &storagev1.StorageClass{})
		return *wanted, *wanted == "" || !apierrors.IsNotFound(err), nil
	}
	var classes storagev1.StorageClassList
	if err := o.Cluster.List(ctx, &classes); err != nil {
		return "", false, fmt.Errorf("reading storage classes: %w", err)
	}
	slices.SortFunc(classes.Items, func(a, b storagev1.StorageClass) int {
		return cmp.Or(b.CreationTimestamp.Compare(a.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	for _, class := range classes.Items {
		if class.Annotations[defaultClass] == "true" || class.Annotations[defaultClassBeta] == "true" {
			return class.Name, true, nil
		}
	}
	return "", true, nil
}

// exceeded says what of a quota a volume for each member would exceed; nil if nothing. Quotas
// with scopes count pods, or volumes with attributes, which members' do not have.
func exceeded(q *corev1.ResourceQuota, c *v1alpha1.EtcdCluster, class string) *plan.Lack {
	if len(q.Spec.Scopes) > 0 || q.Spec.ScopeSelector != nil {
		return nil
	}
	count, storage := *resource.NewQuantity(int64(c.Spec.Size), resource.DecimalSI), c.Spec.Storage.Size.DeepCopy()
	storage.Mul(int64(c.Spec.Size))
	for _, bound := range []struct {
		name corev1.ResourceName
		need resource.Quantity
	}{
		{corev1.ResourcePersistentVolumeClaims, count},
		{"count/persistentvolumeclaims", count},
		{corev1.ResourceRequestsStorage, storage},
		{corev1.ResourceName(class + ofClass + "persistentvolumeclaims"), count},
		{corev1.ResourceName(class + ofClass + "requests.storage"), storage},
	} {
		hard, bounded := q.Status.Hard[bound.name]
		used := q.Status.Used[bound.name]
		left := hard.DeepCopy()
		if left.Sub(used); bounded && left.Cmp(bound.need) < 0 {
			return &plan.Lack{
				What: fmt.Sprintf("ResourceQuota %s allows %s of %s, of which %s are used, and the volumes of %d new members take %s beside the old ones",
					q.Name, hard.String(), bound.name, used.String(), c.Spec.Size, bound.need.String()),
				Do: "raise it, or delete volumes that nobody wants any more",
			}
		}
	}
	return nil
}
