package sim

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/internal/etcd/etcdtest"
)

// toleration is how long Kubernetes leaves pods on a node that is not heard of.
const toleration = 5 * time.Minute

// SetNodeReady has a node's kubelet be heard of or not. What runs on it goes on.
func (w *World) SetNodeReady(name string, is corev1.ConditionStatus) {
	node := w.API.find("Node", types.NamespacedName{Name: name}).(*corev1.Node)
	if len(node.Status.Conditions) > 0 && node.Status.Conditions[0].Status == is {
		return
	}
	w.note("node %s is ready: %s", name, is)
	edit(w.API, node, func(n *corev1.Node) {
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: is, LastTransitionTime: metav1.NewTime(w.Clock.Now())}}
	})
	w.wake()
}

// on are the runs on a node, in a fixed order.
func (m *machines) on(node string) []*run {
	var out []*run
	for _, uid := range slices.Sorted(maps.Keys(m.runs)) {
		if r := m.runs[uid]; r.node == node {
			out = append(out, r)
		}
	}
	return out
}

// PowerOff ends a node with all that runs on it. Kubernetes hears no more of it.
func (w *World) PowerOff(node string) {
	w.SetNodeReady(node, corev1.ConditionUnknown)
	for _, r := range w.nodes.on(node) {
		if r.process != nil {
			w.Etcd.Stop(r.process)
			r.process = nil
		}
	}
}

// PowerOn has a node come back, with its volumes.
func (w *World) PowerOn(node string) { w.SetNodeReady(node, corev1.ConditionTrue) }

// CutOff takes a node off the network. What runs on it goes on, unheard.
func (w *World) CutOff(node string) {
	w.SetNodeReady(node, corev1.ConditionUnknown)
	for _, r := range w.nodes.on(node) {
		if r.process != nil {
			w.Etcd.Cut(r.process, etcdtest.Peers)
			w.Etcd.Cut(r.process, etcdtest.Clients)
		}
	}
}

// Reconnect puts a node on the network again.
func (w *World) Reconnect(node string) {
	for _, r := range w.nodes.on(node) {
		if r.process != nil {
			w.Etcd.Mend(r.process, etcdtest.Peers)
			w.Etcd.Mend(r.process, etcdtest.Clients)
		}
	}
	w.SetNodeReady(node, corev1.ConditionTrue)
}

// ForceDelete takes a member's pod out of the API at once, as an administrator
// can. What runs on a node that is not heard of goes on.
func (w *World) ForceDelete(member string) {
	pod := w.Pod(member)
	if pod == nil {
		return
	}
	w.note("the user deletes pod %s by force", member)
	w.API.put("Pod", client.ObjectKeyFromObject(pod), nil)
	w.wake()
}

// NodeOf a member's pod; empty for none.
func (w *World) NodeOf(member string) string {
	if pod := w.Pod(member); pod != nil {
		return pod.Spec.NodeName
	}
	return ""
}

// reap ends what runs of pods that are no more, once their node's kubelet is
// there to hear of it.
func (m *machines) reap() (acted bool) {
	pods := m.w.API.all("Pod")
	if len(m.runs) <= len(pods) {
		return false
	}
	there := map[types.UID]bool{}
	for _, pod := range pods {
		there[pod.GetUID()] = true
	}
	for _, uid := range slices.Sorted(maps.Keys(m.runs)) {
		r := m.runs[uid]
		if there[uid] || (r.node != "" && !m.nodeReady(r.node)) {
			continue
		}
		if r.process != nil {
			m.w.note("node %s ends what is left of a deleted pod", r.node)
			m.w.Etcd.Stop(r.process)
		}
		m.loseVolume("memory-" + string(uid))
		delete(m.runs, uid)
		acted = true
	}
	return acted
}

// evictFromLostNodes deletes the pods of nodes that have not been heard of for
// long. They stay until their node's kubelet confirms it.
func (m *machines) evictFromLostNodes() {
	for _, o := range m.w.API.all("Pod") {
		pod := o.(*corev1.Pod)
		if pod.Spec.NodeName == "" || pod.DeletionTimestamp != nil || m.nodeReady(pod.Spec.NodeName) {
			continue
		}
		node, ok := m.w.API.find("Node", types.NamespacedName{Name: pod.Spec.NodeName}).(*corev1.Node)
		if ok && m.w.Clock.Since(node.Status.Conditions[0].LastTransitionTime.Time) >= toleration {
			m.w.must(m.w.API.Delete(pod, client.DeleteOptions{}))
		}
	}
}

// Corrupt damages the data of a member, so that etcd ends and fails on it from
// then on.
func (w *World) Corrupt(member string) {
	claim := w.Claim(member)
	if claim == nil {
		return
	}
	w.note("the data of %s is damaged", member)
	w.nodes.volume(claim.Spec.VolumeName).corrupt = true
	w.Crash(member)
}
