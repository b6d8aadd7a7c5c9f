package resources

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// NodeFenced says that whoever runs Kubernetes has declared the node down: no
// process of it runs any more.
func NodeFenced(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService })
}

// NodeReady says whether the node is heard of, and since when it is, or is not.
func NodeReady(n *corev1.Node) (ready bool, since time.Time) {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue, c.LastTransitionTime.Time
		}
	}
	return false, n.CreationTimestamp.Time
}
