package sim

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/etcd/etcdtest"
	"github.com/quorate/quorate/internal/member"
	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/internal/snapshot"
)

const (
	// bootPause and crashPause are how soon the guard repeats a first boot, and
	// the kubelet a container.
	bootPause  = time.Second
	crashPause = 10 * time.Second
)

// volume is what the guard finds beside etcd's own files.
type volume struct {
	node   string
	marker *member.Identity
	booted bool
	// restored says that it was filled, from a backup or from the volume of a survivor.
	restored bool
	// from is the volume of the survivor.
	from string
	// corrupt data lets etcd fail on it.
	corrupt bool
}

func (m *machines) volume(name string) *volume {
	if m.volumes[name] == nil {
		m.volumes[name] = &volume{}
	}
	return m.volumes[name]
}

// loseVolume takes a volume and all that is on it away.
func (m *machines) loseVolume(name string) {
	delete(m.volumes, name)
	m.w.Etcd.Wipe(name)
}

// memoryVolume is the name of the volume of a pod that keeps its data in
// memory; empty for others.
func memoryVolume(pod *corev1.Pod) string {
	if claimOf(pod) != "" {
		return ""
	}
	return "memory-" + string(pod.UID)
}

// volumeOf the pod's data.
func (m *machines) volumeOf(pod *corev1.Pod) string {
	if v := memoryVolume(pod); v != "" {
		return v
	}
	claim := m.w.API.find("PersistentVolumeClaim", types.NamespacedName{Namespace: pod.Namespace, Name: claimOf(pod)})
	if claim == nil {
		return ""
	}
	return claim.(*corev1.PersistentVolumeClaim).Spec.VolumeName
}

// WipeOf a volume is how much of it is lost.
type WipeOf string

// What of a volume can be lost.
const (
	WipeAll WipeOf = "everything"
	WipeLog WipeOf = "the write-ahead log"
)

// Wipe empties the volume of a member, and says whether there was a log on it.
func (w *World) Wipe(name string, what WipeOf) bool {
	claim := w.Claim(name)
	if claim == nil || claim.Spec.VolumeName == "" {
		return false
	}
	had := w.Etcd.Disk(claim.Spec.VolumeName).WAL
	w.note("%s of volume %s is lost", what, claim.Spec.VolumeName)
	if what == WipeLog {
		w.Etcd.WipeWAL(claim.Spec.VolumeName)
		return had
	}
	w.Etcd.Wipe(claim.Spec.VolumeName)
	v := w.nodes.volume(claim.Spec.VolumeName)
	v.marker, v.booted, v.restored = nil, false, false
	return had
}

// brokenBackup is the ID of a backup with which no restore comes to its end.
const brokenBackup = "broken"

// start has the guard decide, and starts etcd if it may.
func (m *machines) start(pod *corev1.Pod, r *run) bool {
	now := m.w.Clock.Now()
	if now.Before(r.again) {
		return false
	}
	if r.restarts == 0 && r.reported == (reported{}) && m.w.Rejects != nil && m.w.Rejects(pod.Name) {
		m.reject(pod)
		return true
	}
	container := etcdContainer(pod)
	switch {
	case m.w.BadImages[container.Image]:
		return m.waiting(pod, r, "ErrImagePull", "manifest unknown")
	case !m.secretsThere(pod) || m.volumeLost(pod):
		return m.waiting(pod, r, "ContainerCreating", "")
	}
	orders, err := member.ParseAnnotations(annotationsFile(r.orders))
	if err != nil {
		return m.end(pod, r, member.ExitNoAnnotations, string(member.ReasonNoAnnotations)+": "+err.Error())
	}
	name := m.volumeOf(pod)
	v, identity := m.volume(name), identityOf(pod, container)
	if pod.Annotations[v1alpha1.AnnotationRestore] != "" && v.marker == nil && m.w.Etcd.Disk(name) == (etcdtest.Disk{}) && !m.fill(pod, r, v, identity) {
		return m.waiting(pod, r, "PodInitializing", "")
	}
	decision := member.Decide(m.facts(name, identity, orders, r.bootMark))
	switch decision.Action {
	case member.Refuse:
		return m.end(pod, r, decision.Reason.ExitCode(), fmt.Sprintf("%s: volume %s of member %s", decision.Reason, identity.VolumeUID, identity.Member))
	case member.Wait:
		return m.isRunning(pod, r)
	case member.DiscardAndStart:
		m.w.Etcd.Wipe(name)
	}
	if why, crashes := m.w.Crashes[identity.Member]; crashes {
		return m.endFor(pod, r, why)
	}
	if v.corrupt {
		return m.end(pod, r, 2, string(member.ReasonDataCorrupt)+": etcd of member "+identity.Member+" ended with code 2: wal: crc mismatch")
	}
	if r.first = decision.Action != member.StartOnData; r.first {
		v.marker = &identity
	}
	r.again = time.Time{}
	flags := flagsOf(container, orders)
	if v.restored && !m.w.Etcd.Disk(name).WAL {
		// What is restored holds the list of all founders, as a founding gives it to them.
		flags.State = etcdtest.New
	}
	r.process = m.w.Etcd.Start(pod.Spec.NodeName, name, net.JoinHostPort(r.address, strconv.Itoa(resources.ClientPort)), flags)
	r.read, m.w.check.trustChanged = r.files, true
	m.w.note("etcd of %s starts: %s on %s (first boot: %v)", pod.Name, orders.EffectiveClusterState(), name, r.first)
	if m.w.Deaf[identity.Member] {
		m.w.Etcd.Cut(r.process, etcdtest.Peers)
	}
	m.recordBoot(pod, r)
	m.isRunning(pod, r)
	return true
}

// fill is what the init container does that fills a volume. It says false while it cannot.
func (m *machines) fill(pod *corev1.Pod, r *run, v *volume, identity member.Identity) bool {
	i := slices.IndexFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == "survivor" })
	if i >= 0 && !m.copy(pod, r, v, pod.Spec.Volumes[i]) {
		return false
	}
	if pod.Annotations[v1alpha1.AnnotationRestore] == brokenBackup {
		return false
	}
	m.w.check.filled(identity.Incarnation, pod.Annotations[v1alpha1.AnnotationRestore])
	m.w.note("volume %s is filled from %s", m.volumeOf(pod), pod.Annotations[v1alpha1.AnnotationRestore])
	v.marker, v.booted, v.restored = &identity, true, true
	return true
}

// copy is how it is filled from a survivor's volume.
func (m *machines) copy(pod *corev1.Pod, r *run, v *volume, survivor corev1.Volume) bool {
	source := survivor.PersistentVolumeClaim
	claim, _ := m.w.API.find("PersistentVolumeClaim", types.NamespacedName{Namespace: pod.Namespace, Name: source.ClaimName}).(*corev1.PersistentVolumeClaim)
	if claim == nil || !m.w.Etcd.Disk(claim.Spec.VolumeName).WAL {
		return false
	}
	for _, container := range append(pod.Spec.InitContainers, pod.Spec.Containers...) {
		for _, mount := range container.VolumeMounts {
			if mount.Name == "survivor" && (!mount.ReadOnly || container.Name != resources.RestoreContainer) {
				m.w.check.violate("survivor", "container %s of pod %s can write the volume of claim %s", container.Name, pod.Name, claim.Name)
			}
		}
	}
	for _, o := range m.w.API.all("Pod") {
		if other := o.(*corev1.Pod); other.Name == resources.MemberOfClaim(claim.Name) {
			m.w.check.violate("survivor", "the volume of %s is copied while its pod is there", other.Name)
		}
	}
	v.from = claim.Spec.VolumeName
	found := snapshot.Result{
		Operation: snapshot.OperationRecover, Outcome: snapshot.OutcomeSucceeded, Reason: snapshot.ReasonRecovered,
		Survivor: &snapshot.Survivor{Member: resources.MemberOfClaim(claim.Name), VolumeUID: string(claim.UID), Term: 2, Index: 77, Uncommitted: 3, Revision: 70, KeyCount: 7},
	}
	r.filled = string(found.Encode())
	return true
}

// recordBoot leaves the guard's marks once etcd has a log.
func (m *machines) recordBoot(pod *corev1.Pod, r *run) {
	name := m.volumeOf(pod)
	if m.w.Etcd.Disk(name).WAL {
		m.volume(name).booted, r.bootMark = true, true
	}
}

// facts are what the guard finds out.
func (m *machines) facts(name string, identity member.Identity, orders member.Annotations, bootMark bool) member.Facts {
	f := member.Facts{MayBeEmpty: orders.MayBeEmpty, Held: orders.Held(), BootMark: bootMark}
	v := m.volume(name)
	switch {
	case v.marker == nil:
	case *v.marker != identity:
		f.Marker = member.MarkerForeign
	case v.booted:
		f.Marker = member.MarkerBooted
	default:
		f.Marker = member.MarkerClaimed
	}
	switch disk := m.w.Etcd.Disk(name); {
	case disk.WAL, v.restored:
		f.Data = member.DataComplete
	case disk.DB:
		f.Data = member.DataLeftovers
	}
	return f
}

// watch looks after a container whose etcd was started.
func (m *machines) watch(pod *corev1.Pod, r *run) bool {
	reason, exited := m.w.Etcd.Exited(r.process)
	if !exited {
		m.recordBoot(pod, r)
		return m.isRunning(pod, r)
	}
	m.recordBoot(pod, r)
	m.w.note("etcd of %s has exited: %s", pod.Name, reason)
	r.process = nil
	disk := m.w.Etcd.Disk(m.volumeOf(pod))
	if r.first && !disk.WAL && disk.DB {
		// The guard repeats a first boot without ending its container.
		r.again = m.w.Clock.Now().Add(bootPause)
		return true
	}
	if strings.Contains(reason, "permanently removed") {
		return m.end(pod, r, member.ExitRemoved, string(member.ReasonRemoved)+": member "+pod.Name+" has been removed from the cluster for good")
	}
	return m.end(pod, r, 1, reason)
}

// end of the container; the kubelet starts it again later.
func (m *machines) end(pod *corev1.Pod, r *run, code int, message string) bool {
	return m.endFor(pod, r, corev1.ContainerStateTerminated{ExitCode: int32(code), Reason: "Error", Message: message})
}

func (m *machines) endFor(pod *corev1.Pod, r *run, why corev1.ContainerStateTerminated) bool {
	r.again = m.w.Clock.Now().Add(crashPause)
	r.ended = &why
	r.restarts++
	m.w.note("container of %s ends with %d (%s): %s", pod.Name, why.ExitCode, why.Reason, why.Message)
	m.waiting(pod, r, "CrashLoopBackOff", "back-off 10s restarting failed container")
	return true
}

func (m *machines) waiting(pod *corev1.Pod, r *run, reason, message string) bool {
	return m.report(pod, r, corev1.PodPending, corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}})
}

func (m *machines) isRunning(pod *corev1.Pod, r *run) bool {
	return m.report(pod, r, corev1.PodRunning, corev1.ContainerState{Running: &corev1.ContainerStateRunning{}})
}

// reported is what the kubelet has last told of a pod.
type reported struct {
	phase          corev1.PodPhase
	waits          string
	running, ready bool
	restarts       int32
}

// report writes the pod's status.
func (m *machines) report(pod *corev1.Pod, r *run, phase corev1.PodPhase, state corev1.ContainerState) bool {
	ready := state.Running != nil && r.process != nil && m.w.Etcd.Ready(r.process)
	is := corev1.ConditionFalse
	if ready {
		is = corev1.ConditionTrue
	}
	told := reported{phase: phase, ready: ready, restarts: r.restarts, running: state.Running != nil}
	if w := state.Waiting; w != nil {
		told.waits = w.Reason + ": " + w.Message
	}
	if told == r.reported {
		return false
	}
	r.reported = told
	before := len(m.w.API.changes)
	edit(m.w.API, pod, func(p *corev1.Pod) {
		p.Status.PodIP = r.address
		if p.Status.Phase = phase; r.restarts > 0 {
			p.Status.Phase = corev1.PodRunning
		}
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{
			Name: resources.EtcdContainer, Image: etcdContainer(pod).Image, State: state, Ready: ready,
			RestartCount: r.restarts, LastTerminationState: corev1.ContainerState{Terminated: r.ended},
		}}
		if r.filled != "" {
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{
				Name: resources.RestoreContainer, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Message: r.filled}},
			}}
		}
		condition(p, corev1.PodReady, is, "", "")
	})
	return len(m.w.API.changes) > before
}

// volumeLost says that the pod's claim has lost its volume, which cannot be mounted.
func (m *machines) volumeLost(pod *corev1.Pod) bool {
	claim, ok := m.w.API.find("PersistentVolumeClaim", types.NamespacedName{Namespace: pod.Namespace, Name: claimOf(pod)}).(*corev1.PersistentVolumeClaim)
	return ok && claim.Status.Phase == corev1.ClaimLost
}

// secretsThere says whether all Secrets that the pod mounts exist.
func (m *machines) secretsThere(pod *corev1.Pod) bool {
	return !slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		return v.Secret != nil && m.w.API.find("Secret", types.NamespacedName{Namespace: pod.Namespace, Name: v.Secret.SecretName}) == nil
	})
}

// annotationsFile is the file that the kubelet makes of a pod's annotations.
func annotationsFile(annotations map[string]string) []byte {
	var file []byte
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		file = fmt.Appendf(file, "%s=%q\n", key, annotations[key])
	}
	return file
}

func identityOf(pod *corev1.Pod, c corev1.Container) member.Identity {
	incarnation, _ := strconv.ParseInt(flagOf(c, "incarnation"), 10, 64)
	uid := flagOf(c, "volume-uid")
	if uid == "$(POD_UID)" {
		uid = string(pod.UID)
	}
	return member.Identity{ClusterUID: flagOf(c, "cluster-uid"), Incarnation: incarnation, Member: flagOf(c, "member"), VolumeUID: uid}
}

// versionOf the image, by its tag.
func versionOf(image string) string {
	return strings.TrimPrefix(image[strings.LastIndexByte(image, ':')+1:], "v")
}

// schemesOf a list of URLs.
func schemesOf(urls string) (schemes []string) {
	for url := range strings.SplitSeq(urls, ",") {
		scheme, _, _ := strings.Cut(url, "://")
		schemes = append(schemes, scheme)
	}
	return schemes
}

func flagsOf(c corev1.Container, orders member.Annotations) etcdtest.Flags {
	initial := map[string]string{}
	for entry := range strings.SplitSeq(orders.InitialCluster, ",") {
		name, url, _ := strings.Cut(entry, "=")
		initial[name] = url
	}
	state := etcdtest.Existing
	if orders.EffectiveClusterState() == member.ClusterStateNew {
		state = etcdtest.New
	}
	quota, err := strconv.ParseInt(flagOf(c, "quota-backend-bytes"), 10, 64)
	if err != nil {
		panic(fmt.Sprintf("etcd would not start: %v", err))
	}
	return etcdtest.Flags{
		Quota: quota,
		Takes: schemesOf(flagOf(c, "listen-client-urls")), ListenPeers: strings.Split(flagOf(c, "listen-peer-urls"), ","),
		Name: flagOf(c, "name"), PeerURL: cmp.Or(initial[flagOf(c, "name")], flagOf(c, "initial-advertise-peer-urls")), ClientURL: flagOf(c, "advertise-client-urls"),
		InitialCluster: initial, State: state, Token: flagOf(c, "initial-cluster-token"), Version: versionOf(c.Image),
	}
}
