package resources

import (
	"cmp"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
)

// Adoption is what a namespace's claims and pods say of the cluster that spec.adopt names.
func Adoption(c *v1alpha1.EtcdCluster, claims []corev1.PersistentVolumeClaim, pods []corev1.Pod) *plan.Adoption {
	a := &plan.Adoption{ClusterUID: c.Spec.Adopt.ClusterUID}
	named := map[string]bool{}
	for i := range claims {
		if theirs(c, claims[i].Labels) && !Quarantined(&claims[i]) {
			a.Incarnation = max(a.Incarnation, incarnationOf(&claims[i]))
			named[claims[i].Name] = true
		}
		if uid := claims[i].Labels[v1alpha1.LabelClusterUID]; uid != "" && claims[i].Labels[v1alpha1.LabelCluster] == c.Name && !theirs(c, claims[i].Labels) && !slices.Contains(a.Others, uid) {
			a.Others = append(a.Others, uid)
		}
	}
	slices.Sort(a.Others)
	for i := range claims {
		claim := &claims[i]
		if !named[claim.Name] || incarnationOf(claim) != a.Incarnation {
			continue
		}
		if cluster := claim.Labels[v1alpha1.LabelCluster]; cluster != c.Name {
			a.Elsewhere = cluster
		}
		if len(a.Founders) == 0 {
			a.Founders = Founders(claim)
		}
		a.Volumes = append(a.Volumes, plan.AdoptedVolume{
			Member: MemberOfClaim(claim.Name), Volume: volumeState(claim), Recorded: claim.Annotations[v1alpha1.AnnotationMemberID] != "",
		})
	}
	slices.SortFunc(a.Volumes, func(x, y plan.AdoptedVolume) int {
		return cmp.Or(cmp.Compare(len(x.Member), len(y.Member)), cmp.Compare(x.Member, y.Member))
	})
	for i := range pods {
		if pod := &pods[i]; (theirs(c, pod.Labels) || mountsAny(pod, named)) && !metav1.IsControlledBy(pod, c) {
			a.Pods = append(a.Pods, pod.Name)
		}
	}
	return a
}

func theirs(c *v1alpha1.EtcdCluster, labels map[string]string) bool {
	return labels[v1alpha1.LabelClusterUID] == c.Spec.Adopt.ClusterUID
}

func incarnationOf(claim *corev1.PersistentVolumeClaim) int64 {
	n, err := strconv.ParseInt(claim.Labels[v1alpha1.LabelIncarnation], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func volumeState(claim *corev1.PersistentVolumeClaim) plan.Volume {
	switch {
	case !claim.DeletionTimestamp.IsZero():
		return plan.VolumeTerminating
	case claim.Status.Phase == corev1.ClaimLost:
		return plan.VolumeLost
	case claim.Annotations[v1alpha1.AnnotationRefused] != "":
		return plan.VolumeRefused
	case claim.Status.Phase == corev1.ClaimBound:
		return plan.VolumeBound
	default:
		return plan.VolumePending
	}
}

func mountsAny(pod *corev1.Pod, claims map[string]bool) bool {
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return false
	}
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		return v.PersistentVolumeClaim != nil && claims[v.PersistentVolumeClaim.ClaimName]
	})
}
