package resources

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
)

// Claim of a member's volume. It has no owner, so that no cascade of deletions
// ever takes the data with it.
func Claim(c *v1alpha1.EtcdCluster, member string) *corev1.PersistentVolumeClaim {
	annotations := map[string]string{
		v1alpha1.AnnotationFounders:     strings.Join(c.Status.Founders, ","),
		v1alpha1.AnnotationStorageClass: wantedClass(c),
	}
	if floor := c.Status.RevisionFloor; floor > 0 {
		// It outlives status: founders of one incarnation begin with the same revision.
		annotations[v1alpha1.AnnotationRevisionFloor] = strconv.FormatInt(floor, 10)
	}
	if r := c.Status.Recovery; r != nil && r.Incarnation == incarnation(c) && slices.Contains(c.Status.Founders, member) {
		// It outlives status: a founder that began with nothing beside others that began with
		// the backup could outvote it.
		if of := SurvivorOf(c, nil); of != nil {
			annotations[v1alpha1.AnnotationSurvivor] = of.String()
		} else {
			annotations[v1alpha1.AnnotationRecovery] = r.BackupName
		}
		if r.BackupID != "" {
			annotations[v1alpha1.AnnotationRecoveryID] = r.BackupID
		}
	}
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Name:        ClaimName(member),
			Namespace:   c.Namespace,
			Labels:      MemberLabels(c, member),
			Annotations: annotations,
		},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			StorageClassName: c.Spec.Storage.StorageClassName,
			Resources: corev1.VolumeResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceStorage: c.Spec.Storage.Size},
			},
		},
	}
}

// ClaimChange says in words that a claim was made for another class than the spec
// wants, or is smaller; empty if it was not. A larger one, which somebody has
// expanded, is in order. The class that was asked for stands in an annotation,
// since the API server fills in the default class.
func ClaimChange(c *v1alpha1.EtcdCluster, claim *corev1.PersistentVolumeClaim) string {
	var out []string
	if size := claim.Spec.Resources.Requests[corev1.ResourceStorage]; size.Cmp(c.Spec.Storage.Size) < 0 {
		out = append(out, fmt.Sprintf("size %s, and spec.storage.size is %s", size.String(), c.Spec.Storage.Size.String()))
	}
	if made, wanted := claim.Annotations[v1alpha1.AnnotationStorageClass], wantedClass(c); made != wanted {
		out = append(out, fmt.Sprintf("%s, and spec.storage.storageClassName asks for %s", className(made), className(wanted)))
	}
	return strings.Join(out, ", and ")
}

func className(name string) string {
	if name == "" {
		return "the default class"
	}
	return fmt.Sprintf("class %q", name)
}

// ClaimElsewhere says that a claim was made for another class than the spec wants. The
// class that was asked for stands in an annotation, since the API server fills in the
// default class.
func ClaimElsewhere(c *v1alpha1.EtcdCluster, claim *corev1.PersistentVolumeClaim) bool {
	return claim.Annotations[v1alpha1.AnnotationStorageClass] != wantedClass(c)
}

// ClaimSmall says that a claim asks for less than the spec does.
func ClaimSmall(c *v1alpha1.EtcdCluster, claim *corev1.PersistentVolumeClaim) bool {
	size := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	return size.Cmp(c.Spec.Storage.Size) < 0
}

// ClaimGrows says that a bound claim's volume is smaller than the claim asks for.
func ClaimGrows(claim *corev1.PersistentVolumeClaim) bool {
	size, has := claim.Spec.Resources.Requests[corev1.ResourceStorage], claim.Status.Capacity[corev1.ResourceStorage]
	return claim.Status.Phase == corev1.ClaimBound && !has.IsZero() && has.Cmp(size) < 0
}

func wantedClass(c *v1alpha1.EtcdCluster) string {
	if c.Spec.Storage.StorageClassName == nil {
		return ""
	}
	return *c.Spec.Storage.StorageClassName
}

// Quarantined says that the claim's data is no member's any more.
func Quarantined(claim *corev1.PersistentVolumeClaim) bool {
	_, is := claim.Labels[v1alpha1.LabelQuarantined]
	return is
}

// FloorOf is the least revision that the incarnation begins with, as one of its claims says;
// zero if none does.
func FloorOf(objects ...client.Object) int64 {
	for _, o := range objects {
		if floor, err := strconv.ParseInt(o.GetAnnotations()[v1alpha1.AnnotationRevisionFloor], 10, 64); err == nil {
			return max(0, floor)
		}
	}
	return 0
}

// Founders that one of the cluster's claims, or of its memory-backed pods,
// names.
func Founders(objects ...client.Object) []string {
	for _, o := range objects {
		if named := o.GetAnnotations()[v1alpha1.AnnotationFounders]; named != "" {
			return strings.Split(named, ",")
		}
	}
	return nil
}
