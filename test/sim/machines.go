package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/internal/etcd/etcdtest"
	"github.com/quorate/quorate/internal/resources"
)

// machines are the nodes, the volumes and what Kubernetes does by itself: it
// schedules, binds, runs, restarts, deletes and collects. Each beat moves every
// pod at most one state on.
type machines struct {
	w       *World
	runs    map[types.UID]*run
	volumes map[string]*volume
	address int
}

// run is a pod on its node.
type run struct {
	// orders are the annotations as the pod's file shows them: a beat old.
	orders  map[string]string
	address string
	// node that it runs on; empty before it was scheduled.
	node    string
	process *etcdtest.Process
	// bootMark lies on the pod's own disk.
	bootMark bool
	// first says that etcd was started on a volume without a log.
	first bool
	// again is when the guard, or the container, tries again; zero for never.
	again    time.Time
	restarts int32
	// filled is what the init container has said that filled the volume; empty for none.
	filled string
	// ended is the container's last end.
	ended *corev1.ContainerStateTerminated
	// files of its Secret as the kubelet has brought them, and when it does again; read
	// are those that its etcd found when it started.
	files, read map[string][]byte
	mountAgain  time.Time
	// reported is what was last said of it.
	reported reported
}

func newMachines(w *World) machines {
	return machines{w: w, runs: map[types.UID]*run{}, volumes: map[string]*volume{}}
}

// work does one beat, and says whether anything has changed.
func (m *machines) work() bool {
	before := len(m.w.API.changes)
	m.evictFromLostNodes()
	acted := m.reap()
	for _, o := range m.w.API.all("Pod") {
		if o.GetLabels()[batchv1.JobNameLabel] != "" {
			continue // of those no container is run
		}
		acted = m.syncPod(o.(*corev1.Pod)) || acted
	}
	m.readBackups()
	m.growVolumes()
	m.protectClaims()
	m.collectGarbage()
	return acted || len(m.w.API.changes) > before
}

// running are the runs whose etcd runs, in the order of their pods' names.
func (m *machines) running() []*run {
	var out []*run
	for _, o := range m.w.API.all("Pod") {
		if r := m.runs[o.GetUID()]; r != nil && r.process != nil {
			if _, exited := m.w.Etcd.Exited(r.process); !exited {
				out = append(out, r)
			}
		}
	}
	return out
}

// nextTimer is the first of the timers to come, or the latest time given.
func (m *machines) nextTimer(latest time.Time) time.Time {
	for _, r := range m.runs {
		if r.again.After(m.w.Clock.Now()) && r.again.Before(latest) {
			latest = r.again
		}
	}
	return latest
}

func (m *machines) run(pod *corev1.Pod) *run {
	r := m.runs[pod.UID]
	if r == nil {
		m.address++
		r = &run{address: fmt.Sprintf("10.0.%d.%d", m.address/250, 1+m.address%250), orders: pod.Annotations}
		m.runs[pod.UID] = r
	}
	return r
}

// syncPod moves a pod one state on.
func (m *machines) syncPod(pod *corev1.Pod) (acted bool) {
	r := m.run(pod)
	if pod.Spec.NodeName == "" {
		return m.schedule(pod)
	}
	if !m.nodeReady(pod.Spec.NodeName) {
		// Nobody hears of this node; what runs there goes on.
		return false
	}
	defer func() {
		acted = acted || !maps.Equal(r.orders, pod.Annotations)
		r.orders = pod.Annotations
	}()
	m.mount(pod, r)
	switch {
	case pod.DeletionTimestamp != nil:
		return m.terminate(pod, r)
	case pod.Status.Phase == corev1.PodFailed:
		return false
	case r.process == nil:
		return m.start(pod, r)
	default:
		return m.watch(pod, r)
	}
}

// terminate ends the container, and in a later beat the pod.
func (m *machines) terminate(pod *corev1.Pod, r *run) bool {
	if r.process != nil {
		m.w.Etcd.Stop(r.process)
		r.process = nil
		return true
	}
	delete(m.runs, pod.UID)
	if v := memoryVolume(pod); v != "" {
		m.loseVolume(v)
	}
	m.w.note("pod %s is gone", pod.Name)
	m.w.API.put("Pod", client.ObjectKeyFromObject(pod), nil)
	return true
}

// schedule finds a node for a pod, and has its claim bound.
func (m *machines) schedule(pod *corev1.Pod) bool {
	if len(pod.Spec.SchedulingGates) > 0 {
		return m.setCondition(pod, corev1.PodScheduled, corev1.ConditionFalse, "SchedulingGated", "held back")
	}
	node := ""
	if claimName := claimOf(pod); claimName != "" {
		claim, _ := m.w.API.find("PersistentVolumeClaim", types.NamespacedName{Namespace: pod.Namespace, Name: claimName}).(*corev1.PersistentVolumeClaim)
		if claim == nil || claim.DeletionTimestamp != nil {
			return m.unschedulable(pod, fmt.Sprintf("persistentvolumeclaim %q not found", claimName))
		}
		if claim.Status.Phase != corev1.ClaimBound {
			if !m.bind(claim) {
				return m.unschedulable(pod, "pod has unbound immediate PersistentVolumeClaims")
			}
			return true
		}
		if node = m.volume(claim.Spec.VolumeName).node; m.w.Portable && m.abandoned(node) {
			node = ""
		}
	}
	if at, missing := m.beside(pod); missing {
		return m.unschedulable(pod, "persistentvolumeclaim not found")
	} else if at != "" {
		node = at
	}
	if len(pod.Spec.NodeSelector) > 0 {
		return m.unschedulable(pod, "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector")
	}
	if node == "" {
		node = m.leastUsed()
	}
	if node == "" || !m.nodeReady(node) {
		return m.unschedulable(pod, "0/3 nodes are available: 3 node(s) had untolerated taint(s)")
	}
	edit(m.w.API, pod, func(p *corev1.Pod) {
		p.Spec.NodeName = node
		condition(p, corev1.PodScheduled, corev1.ConditionTrue, "", "")
	})
	m.volume(m.volumeOf(pod)).node = node
	m.run(pod).node = node
	m.run(pod).again = m.w.Clock.Now().Add(m.w.StartDelay(pod.Name))
	return true
}

// bind has a claim's volume made, if its class exists.
func (m *machines) bind(claim *corev1.PersistentVolumeClaim) bool {
	class := claim.Spec.StorageClassName
	if class == nil || m.w.API.find("StorageClass", types.NamespacedName{Name: *class}) == nil {
		return false
	}
	edit(m.w.API, claim, func(c *corev1.PersistentVolumeClaim) {
		c.Spec.VolumeName = "pv-" + string(c.UID)
		c.Status.Phase = corev1.ClaimBound
		c.Status.Capacity = corev1.ResourceList{corev1.ResourceStorage: c.Spec.Resources.Requests[corev1.ResourceStorage]}
	})
	return true
}

// growVolumes makes the volumes as large as their claims ask for, one in a beat.
func (m *machines) growVolumes() {
	for _, o := range m.w.API.all("PersistentVolumeClaim") {
		claim := o.(*corev1.PersistentVolumeClaim)
		want, has := claim.Spec.Resources.Requests[corev1.ResourceStorage], claim.Status.Capacity[corev1.ResourceStorage]
		if claim.Status.Phase != corev1.ClaimBound || want.Cmp(has) <= 0 {
			continue
		}
		edit(m.w.API, claim, func(c *corev1.PersistentVolumeClaim) { c.Status.Capacity[corev1.ResourceStorage] = want })
		return
	}
}

func (m *machines) leastUsed() string {
	used := map[string]int{}
	for _, o := range m.w.API.all("Pod") {
		used[o.(*corev1.Pod).Spec.NodeName]++
	}
	best := ""
	for _, o := range m.w.API.all("Node") {
		if m.nodeReady(o.GetName()) && (best == "" || used[o.GetName()] < used[best]) {
			best = o.GetName()
		}
	}
	return best
}

func (m *machines) unschedulable(pod *corev1.Pod, why string) bool {
	return m.setCondition(pod, corev1.PodScheduled, corev1.ConditionFalse, corev1.PodReasonUnschedulable, why)
}

func (m *machines) setCondition(pod *corev1.Pod, kind corev1.PodConditionType, is corev1.ConditionStatus, reason, message string) bool {
	before := len(m.w.API.changes)
	edit(m.w.API, pod, func(p *corev1.Pod) { condition(p, kind, is, reason, message) })
	return len(m.w.API.changes) > before
}

func condition(p *corev1.Pod, kind corev1.PodConditionType, is corev1.ConditionStatus, reason, message string) {
	next := corev1.PodCondition{Type: kind, Status: is, Reason: reason, Message: message}
	i := slices.IndexFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == kind })
	if i < 0 {
		p.Status.Conditions = append(p.Status.Conditions, next)
		return
	}
	p.Status.Conditions[i] = next
}

func claimOf(pod *corev1.Pod) string {
	for _, v := range pod.Spec.Volumes {
		if v.PersistentVolumeClaim != nil {
			return v.PersistentVolumeClaim.ClaimName
		}
	}
	return ""
}

// uses says that a pod mounts a claim, whatever it does with it.
func uses(pod *corev1.Pod, claim string) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		return v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == claim
	})
}

// beside is the node of another volume that the pod mounts beside its own; empty for none.
func (m *machines) beside(pod *corev1.Pod) (node string, missing bool) {
	for _, v := range pod.Spec.Volumes {
		if v.PersistentVolumeClaim == nil || v.PersistentVolumeClaim.ClaimName == claimOf(pod) {
			continue
		}
		claim, _ := m.w.API.find("PersistentVolumeClaim", types.NamespacedName{Namespace: pod.Namespace, Name: v.PersistentVolumeClaim.ClaimName}).(*corev1.PersistentVolumeClaim)
		if claim == nil || claim.DeletionTimestamp != nil {
			return "", true
		}
		return m.volume(claim.Spec.VolumeName).node, false
	}
	return "", false
}

// protectClaims lets a claim that is being deleted go when no pod uses it, and
// its volume with it.
func (m *machines) protectClaims() {
	for _, o := range m.w.API.all("PersistentVolumeClaim") {
		claim := o.(*corev1.PersistentVolumeClaim)
		if claim.DeletionTimestamp == nil || slices.ContainsFunc(m.w.API.all("Pod"), func(p client.Object) bool {
			// A pod without a node uses nothing yet.
			pod := p.(*corev1.Pod)
			return pod.Namespace == claim.Namespace && uses(pod, claim.Name) && pod.Spec.NodeName != ""
		}) {
			continue
		}
		m.w.note("claim %s is gone", claim.Name)
		edit(m.w.API, claim, func(c *corev1.PersistentVolumeClaim) {
			c.Finalizers = slices.DeleteFunc(c.Finalizers, func(f string) bool { return f == protection })
		})
		if claim.Spec.VolumeName != "" {
			m.loseVolume(claim.Spec.VolumeName)
		}
	}
}

// collectGarbage deletes what the deleted owned.
func (m *machines) collectGarbage() {
	for _, kind := range []string{"Pod", "Secret", "Service", "ServiceAccount", "PodDisruptionBudget", "NetworkPolicy", "Job"} {
		for _, o := range m.w.API.all(kind) {
			owner := metav1.GetControllerOf(o)
			if owner == nil || o.GetDeletionTimestamp() != nil {
				continue
			}
			live := m.w.API.find(owner.Kind, types.NamespacedName{Namespace: o.GetNamespace(), Name: owner.Name})
			if live == nil || live.GetUID() != owner.UID {
				m.w.must(m.w.API.Delete(o, client.DeleteOptions{}))
			}
		}
	}
}

func nodeReady(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func (m *machines) nodeReady(name string) bool {
	node, ok := m.w.API.find("Node", types.NamespacedName{Name: name}).(*corev1.Node)
	return ok && nodeReady(node)
}

// Evict ends a pod as the node does under pressure: it stays, and never runs
// again. Its status goes on telling whether its container had run.
func (w *World) Evict(member string) {
	pod := w.Pod(member)
	if pod == nil || pod.Spec.NodeName == "" || pod.DeletionTimestamp != nil {
		return
	}
	w.note("pod %s is evicted", member)
	if r := w.nodes.runs[pod.UID]; r != nil && r.process != nil {
		w.Etcd.Stop(r.process)
		r.process = nil
	}
	edit(w.API, pod, func(p *corev1.Pod) {
		p.Status.Phase, p.Status.Reason, p.Status.Message = corev1.PodFailed, "Evicted", "The node was low on resource: memory."
		for i := range p.Status.ContainerStatuses {
			if s := &p.Status.ContainerStatuses[i]; s.State.Running != nil {
				s.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "Error"}}
			}
			p.Status.ContainerStatuses[i].Ready = false
		}
		condition(p, corev1.PodReady, corev1.ConditionFalse, "PodFailed", "")
	})
	w.wake()
}

// reject has the kubelet refuse a pod before anything of it runs: it stays, and
// tells of no container.
func (m *machines) reject(pod *corev1.Pod) {
	m.w.note("pod %s is rejected", pod.Name)
	edit(m.w.API, pod, func(p *corev1.Pod) {
		p.Status.Phase, p.Status.Reason, p.Status.Message = corev1.PodFailed, "OutOfmemory", "Pod was rejected: Node didn't have enough resource: memory"
	})
}

// Crash ends a member's etcd as a kill does; the kubelet starts it again.
func (w *World) Crash(member string) {
	pod := w.Pod(member)
	if pod == nil {
		return
	}
	if r := w.nodes.runs[pod.UID]; r != nil && r.process != nil {
		w.note("etcd of %s crashes", member)
		w.Etcd.Stop(r.process)
		w.wake()
	}
}

// flagOf a container's command line.
func flagOf(c corev1.Container, name string) string {
	for _, argument := range c.Command {
		if value, found := strings.CutPrefix(argument, "--"+name+"="); found {
			return value
		}
	}
	return ""
}

func etcdContainer(pod *corev1.Pod) corev1.Container {
	i := slices.IndexFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == resources.EtcdContainer })
	return pod.Spec.Containers[i]
}
