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
	"github.com/quorate/quorate/internal/member"
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
// long. They stay until their node's kubelet confirms it; those of a node that is
// out of service or no more are gone at once.
func (m *machines) evictFromLostNodes() {
	for _, o := range m.w.API.all("Pod") {
		pod := o.(*corev1.Pod)
		switch node := pod.Spec.NodeName; {
		case node == "" || m.nodeReady(node):
		case m.abandoned(node):
			m.w.note("pod %s is gone with its node", pod.Name)
			m.w.API.put("Pod", client.ObjectKeyFromObject(pod), nil)
		case pod.DeletionTimestamp == nil && m.w.Clock.Since(m.node(node).Status.Conditions[0].LastTransitionTime.Time) >= toleration:
			m.w.must(m.w.API.Delete(pod, client.DeleteOptions{}))
		}
	}
}

func (m *machines) node(name string) *corev1.Node {
	node, _ := m.w.API.find("Node", types.NamespacedName{Name: name}).(*corev1.Node)
	return node
}

// abandoned says that a node is out of service, or no more.
func (m *machines) abandoned(name string) bool {
	node := m.node(name)
	return node == nil || len(node.Spec.Taints) > 0
}

// TakeOutOfService powers a node off and declares it down, as an administrator does.
func (w *World) TakeOutOfService(node string) {
	w.PowerOff(node)
	w.note("node %s is declared out of service", node)
	edit(w.API, w.nodes.node(node), func(n *corev1.Node) {
		n.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeOutOfService, Value: "nodeshutdown", Effect: corev1.TaintEffectNoExecute}}
	})
	w.check.disturbed()
}

// DeleteNode powers a node off and takes it out of the API.
func (w *World) DeleteNode(node string) {
	w.PowerOff(node)
	w.Delete(w.nodes.node(node))
	w.check.disturbed()
}

// LoseVolume takes the volume of a member's claim away while the claim stays.
func (w *World) LoseVolume(name string) {
	claim := w.Claim(name)
	w.note("the volume of %s is lost", name)
	edit(w.API, claim, func(c *corev1.PersistentVolumeClaim) { c.Status.Phase = corev1.ClaimLost })
	w.nodes.loseVolume(claim.Spec.VolumeName)
	w.Crash(name)
}

// Swap puts somebody else's data on the volume of a member.
func (w *World) Swap(name string) {
	w.note("the volume of %s is another one's by now", name)
	w.nodes.volume(w.Claim(name).Spec.VolumeName).marker = &member.Identity{ClusterUID: "another", Member: "other-0000", Incarnation: 1, VolumeUID: "other"}
	w.Crash(name)
}

// Unreachable cuts a member off its clients, and so the operator off it, for a
// while.
func (w *World) Unreachable(member string, d time.Duration) {
	w.note("%s is cut off its clients", member)
	process := w.nodes.runs[w.Pod(member).UID].process
	w.Etcd.Cut(process, etcdtest.Clients)
	w.After(d, func() { w.Etcd.Mend(process, etcdtest.Clients) })
	w.check.disturbed()
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
