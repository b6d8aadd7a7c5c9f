package resources

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
)

// identityOf are the labels that a member's claim and pod are known by.
func identityOf(c *v1alpha1.EtcdCluster, member string) map[string]string {
	l := Identity(c)
	l[v1alpha1.LabelMember] = member
	return l
}

// Mislabelled says that an object of the member does not carry its identity.
func Mislabelled(c *v1alpha1.EtcdCluster, object client.Object, member string) bool {
	have := object.GetLabels()
	for label, want := range identityOf(c, member) {
		if have[label] != want {
			return true
		}
	}
	return false
}

// Relabel puts the identity back on an object of the member.
func Relabel(c *v1alpha1.EtcdCluster, object client.Object, member string) {
	have := maps.Clone(object.GetLabels())
	if have == nil {
		have = map[string]string{}
	}
	maps.Copy(have, identityOf(c, member))
	object.SetLabels(have)
}

// MadePod says that the pod was made for the member in this incarnation, whatever
// its labels say: the cluster owns it, and the command of its container, which
// nobody can edit, carries the identity.
func MadePod(c *v1alpha1.EtcdCluster, pod *corev1.Pod, member string) bool {
	if pod.Name != member || !metav1.IsControlledBy(pod, c) {
		return false
	}
	i := slices.IndexFunc(pod.Spec.Containers, func(v corev1.Container) bool { return v.Name == EtcdContainer })
	return i >= 0 && !slices.ContainsFunc(identityFlags(c, member), func(flag string) bool {
		return !slices.Contains(pod.Spec.Containers[i].Command, flag)
	})
}

// MadeClaim says that the claim is the member's, although labels of it are gone:
// the member's pod was made for it, status names it, or it carries the ID that
// etcd gave the member. One that names another cluster, or another incarnation
// and no pod of ours, is not.
func MadeClaim(c *v1alpha1.EtcdCluster, claim *corev1.PersistentVolumeClaim, pod *corev1.Pod, member string) bool {
	free := func(label string) bool {
		have := claim.Labels[label]
		return have == "" || have == Identity(c)[label]
	}
	if claim.Name != ClaimName(member) || claim.UID == "" || !free(v1alpha1.LabelClusterUID) {
		return false
	}
	if pod != nil && pod.Annotations[v1alpha1.AnnotationVolumeUID] == string(claim.UID) {
		return true
	}
	if !free(v1alpha1.LabelIncarnation) {
		return false
	}
	id := claim.Annotations[v1alpha1.AnnotationMemberID]
	return c.Status.FounderVolumes[member] == string(claim.UID) || (id != "" && slices.ContainsFunc(c.Status.Members, func(m v1alpha1.MemberStatus) bool {
		return m.Name == member && m.Role != "" && m.ID == id
	}))
}
