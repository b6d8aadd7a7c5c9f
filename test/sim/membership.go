package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/member"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// beforeChange looks at a change of the members while the world is as it was.
func (k *checker) beforeChange(op *Operator, method string, id uint64, url string) {
	c := k.w.Cluster()
	if c == nil {
		return
	}
	op.writes++
	if k.paused && c.Spec.Paused && c.DeletionTimestamp == nil {
		k.suspect("I12", "%s of a paused cluster", method)
	}
	if !op.relisted {
		k.suspect("settled", "%s without a list that was read after a proposal", method)
	}
	truth, ok := k.w.Etcd.Truth(resources.Token(c))
	if !ok {
		return
	}
	for _, m := range truth.Members {
		if _, ours := resources.MemberOfURL(c, m.PeerURLs[0]); !ours && method != "MoveLeader" {
			k.suspect("foreign", "%s while etcd lists %s", method, m.PeerURLs[0])
		}
	}
	switch method {
	case "AddLearner":
		k.beforeAdd(op, c, url)
	case "Promote":
		k.beforePromotion(c, truth, id)
	case "Remove":
		k.beforeRemoval(c, truth, id)
	}
}

// afterChange: what was suspected has come true if the change did; and the
// healthy voters are a quorum of those that there are now.
func (k *checker) afterChange(method string, err error) {
	k.afterWrite(err)
	c := k.w.Cluster()
	if err != nil || c == nil || method == "AddLearner" || method == "MoveLeader" {
		return
	}
	if healthy, voters, _ := k.healthyVoters(c); healthy < plan.Majority(voters) {
		k.violate("I2", "after %s %d of %d voters are healthy", method, healthy, voters)
	}
}

// beforeAdd: who is added was named in status before, and nothing of that name
// has ever been a member. An addition that was held up on its way may come after
// its member has left; that member must not start, and is removed.
func (k *checker) beforeAdd(op *Operator, c *v1alpha1.EtcdCluster, url string) {
	name, _ := resources.MemberOfURL(c, url)
	if k.revenants[name] = op.late; op.late {
		return
	}
	if c.Status.Joiner != name {
		k.suspect("names", "%s is added, and status.joiner is %q", name, c.Status.Joiner)
	}
	pod := k.w.Pod(name)
	if pod == nil || !resources.Held(pod) {
		k.suspect("I4", "%s is added and is not held", name)
	}
}

// beforePromotion: whoever votes has its ID on its volume, and can never start on
// an empty directory again.
func (k *checker) beforePromotion(c *v1alpha1.EtcdCluster, truth etcd.Membership, id uint64) {
	name := nameOf(c, truth, id)
	pod, volume := k.w.Pod(name), k.volumeOf(name)
	if pod == nil || pod.Annotations[member.AnnotationMayBeEmpty] == "true" {
		k.suspect("I4", "%s is promoted and may start on an empty directory", name)
	}
	if volume == nil || volume.GetAnnotations()[v1alpha1.AnnotationMemberID] != strconv.FormatUint(id, 16) {
		k.suspect("I4", "%s is promoted, and its ID %x is not on record", name, id)
	}
}

func nameOf(c *v1alpha1.EtcdCluster, truth etcd.Membership, id uint64) string {
	for _, m := range truth.Members {
		if m.ID == id {
			name, _ := resources.MemberOfURL(c, m.PeerURLs[0])
			return name
		}
	}
	return ""
}

// beforeRemoval: a voter goes because the cluster shrinks or because its data or
// its node is lost, and not before its replacement is proven to run.
func (k *checker) beforeRemoval(c *v1alpha1.EtcdCluster, truth etcd.Membership, id uint64) {
	voters, target := 0, etcd.Member{}
	for _, m := range truth.Members {
		if !m.Learner {
			voters++
		}
		if m.ID == id {
			target = m
		}
	}
	if target.ID == 0 || target.Learner {
		return
	}
	name := nameOf(c, truth, id)
	if voters <= int(c.Spec.Size) && !k.given(c, name, id) {
		k.suspect("I2", "%s is removed, and neither its data nor its node is lost", name)
	}
	if since := k.lostSince[id]; voters <= int(c.Spec.Size) && !since.IsZero() && k.w.Clock.Since(since) < steadiness {
		k.suspect("steady", "%s is removed %v after it was lost", name, k.w.Clock.Since(since))
	}
	if voters <= int(c.Spec.Size) && !k.proven(c) {
		k.suspect("proof", "%s is removed before another member is proven to run", name)
	}
}

// steadiness is how long a voter must have been lost before it is removed.
const steadiness = 2 * time.Second

// losses notes since when each voter is lost.
func (k *checker) losses(c *v1alpha1.EtcdCluster) {
	truth, ok := k.w.Etcd.Truth(resources.Token(c))
	if !ok {
		return
	}
	for _, m := range truth.Members {
		name, _ := resources.MemberOfURL(c, m.PeerURLs[0])
		switch {
		case !k.given(c, name, m.ID):
			delete(k.lostSince, m.ID)
		case k.lostSince[m.ID].IsZero():
			k.lostSince[m.ID] = k.w.Clock.Now()
		}
	}
}

// mayHoldWrites says that a process with the ID has booted, and may have voted or
// acknowledged anything: a learner that has not even published itself has not.
func (k *checker) mayHoldWrites(c *v1alpha1.EtcdCluster, id uint64) bool {
	truth, ok := k.w.Etcd.Truth(resources.Token(c))
	unheard := ok && slices.ContainsFunc(truth.Members, func(m etcd.Member) bool { return m.ID == id && m.Learner && !m.Started() })
	return k.w.Etcd.HasBooted(id) && !unheard
}

// given up: the member's data or its node is lost.
func (k *checker) given(c *v1alpha1.EtcdCluster, name string, id uint64) bool {
	volume := k.volumeOf(name)
	if volume == nil || volume.GetDeletionTimestamp() != nil {
		return true
	}
	if claim, ok := volume.(*corev1.PersistentVolumeClaim); ok && claim.Status.Phase == corev1.ClaimLost {
		return true
	}
	a := volume.GetAnnotations()
	if a[v1alpha1.AnnotationRefused] != "" || (a[v1alpha1.AnnotationMemberID] != "" && a[v1alpha1.AnnotationMemberID] != strconv.FormatUint(id, 16)) {
		return true
	}
	if latched := c.Status.FounderVolumes[name]; latched != "" && latched != string(volume.GetUID()) {
		return true
	}
	node := a[v1alpha1.AnnotationNode]
	if on := k.w.NodeOf(name); on != "" {
		node = on
	}
	return !k.w.nodes.nodeReady(node)
}

// proven: the joiner's guard waits in a pod that runs on a bound volume.
func (k *checker) proven(c *v1alpha1.EtcdCluster) bool {
	pod := k.w.Pod(c.Status.Joiner)
	if pod == nil || !resources.Held(pod) || len(pod.Status.ContainerStatuses) == 0 || pod.Status.ContainerStatuses[0].State.Running == nil {
		return false
	}
	claim := k.w.Claim(c.Status.Joiner)
	return resources.PodInMemory(pod) || (claim != nil && claim.Status.Phase == corev1.ClaimBound)
}

// listed says that etcd lists the member, or that nobody can tell.
func (k *checker) listed(c *v1alpha1.EtcdCluster, name string) bool {
	truth, ok := k.w.Etcd.Truth(resources.Token(c))
	return !ok || slices.ContainsFunc(truth.Members, func(m etcd.Member) bool {
		of, _ := resources.MemberOfURL(c, m.PeerURLs[0])
		return of == name
	})
}

// released: a held member is let go once its ID is on record, and is etcd's.
func (k *checker) released(c *v1alpha1.EtcdCluster, wr write, live *corev1.Pod) {
	release := annotationIn(wr.patch, member.AnnotationRelease)
	if release == "" {
		return
	}
	volume := k.volumeOf(live.Name)
	if volume == nil || volume.GetAnnotations()[v1alpha1.AnnotationMemberID] != release {
		k.suspect("I4", "%s is released as %s, which is not on record", live.Name, release)
	}
	if truth, ok := k.w.Etcd.Truth(resources.Token(c)); ok {
		id, _ := strconv.ParseUint(release, 16, 64)
		if nameOf(c, truth, id) != live.Name {
			k.suspect("I4", "%s is released as %s, which etcd does not list under its name", live.Name, release)
		}
	}
}

// quarantined: the volume of a member that etcd lists stays its own.
func (k *checker) quarantined(c *v1alpha1.EtcdCluster, wr write, live *corev1.PersistentVolumeClaim) {
	if strings.Contains(string(wr.patch), v1alpha1.LabelQuarantined) && k.stillMember(c, live) && k.listed(c, live.Labels[v1alpha1.LabelMember]) {
		k.suspect("I7", "claim %s of a member is put into quarantine", live.Name)
	}
}

// claimDeleted: the volume of a member goes after the member, and that of one who
// did not leave by a scale-in after its quarantine.
func (k *checker) claimDeleted(c *v1alpha1.EtcdCluster, live *corev1.PersistentVolumeClaim) {
	name := live.Labels[v1alpha1.LabelMember]
	disk := k.w.Etcd.Disk(live.Spec.VolumeName)
	hasData := live.Spec.VolumeName != "" && disk.WAL
	if hasData && k.stillMember(c, live) {
		k.suspect("I7", "claim %s is deleted with the data of a member", live.Name)
	}
	if hasData && k.copies(disk.ClusterID) <= 1 {
		k.suspect("I7", "claim %s is deleted with the last copy of the data", live.Name)
	}
	if c.Status.FounderVolumes[name] == string(live.UID) && k.listed(c, name) {
		k.suspect("I7", "claim %s is deleted while it is on record", live.Name)
	}
	at, err := time.Parse(time.RFC3339, live.Annotations[v1alpha1.AnnotationQuarantinedAt])
	expired := err == nil && resources.Quarantined(live) && k.w.Clock.Since(at) > c.Spec.Storage.QuarantineFor.Duration
	if hasData && !expired && live.Annotations[v1alpha1.AnnotationLeaving] == "" {
		k.suspect("I7", "claim %s of a member that did not leave is deleted without a quarantine", live.Name)
	}
	if resources.Quarantined(live) && !expired {
		k.suspect("I7", "claim %s is deleted in its quarantine", live.Name)
	}
	if live.Labels[v1alpha1.LabelClusterUID] != resources.ClusterUID(c) {
		k.suspect("I7", "claim %s of somebody else is deleted", live.Name)
	}
}

// copies of a cluster's data on volumes.
func (k *checker) copies(clusterID uint64) int {
	n := 0
	for _, o := range k.w.API.all("PersistentVolumeClaim") {
		claim := o.(*corev1.PersistentVolumeClaim)
		if disk := k.w.Etcd.Disk(claim.Spec.VolumeName); claim.Spec.VolumeName != "" && disk.WAL && disk.ClusterID == clusterID {
			n++
		}
	}
	return n
}

// secretDeleted: certificates go with their member.
func (k *checker) secretDeleted(c *v1alpha1.EtcdCluster, secret *corev1.Secret) {
	name, isMembers := strings.CutSuffix(secret.Name, "-tls")
	_, ours := resources.Ordinal(c.Name, name)
	if !isMembers || !ours {
		k.suspect("secrets", "Secret %s is deleted", secret.Name)
		return
	}
	if (k.listed(c, name) && k.volumeOf(name) != nil) || c.Status.Joiner == name {
		k.suspect("secrets", "Secret %s is deleted, and its member is one", secret.Name)
	}
}

// settled: etcd's members and ours are the same, and nothing else is left (I6).
func (k *checker) settled(c *v1alpha1.EtcdCluster) {
	truth, ok := k.w.Etcd.Truth(resources.Token(c))
	if !ok {
		k.violate("I6", "at rest without a leader")
		return
	}
	var listed []string
	for _, m := range truth.Members {
		name, _ := resources.MemberOfURL(c, m.PeerURLs[0])
		listed = append(listed, name)
		if m.Learner || !m.Started() {
			k.violate("I6", "at rest with %s: learner %t, started %t", name, m.Learner, m.Started())
		}
		volume := k.volumeOf(name)
		if volume == nil || volume.GetAnnotations()[v1alpha1.AnnotationMemberID] != strconv.FormatUint(m.ID, 16) {
			k.violate("I6", "at rest, and the volume of %s does not name member %x", name, m.ID)
		}
	}
	if len(listed) != int(c.Spec.Size) || c.Status.Joiner != "" {
		k.violate("I6", "at rest with members %v of %d, joiner %q", listed, c.Spec.Size, c.Status.Joiner)
	}
	slices.Sort(listed)
	k.same("status", listed, statusNames(c))
	k.same("pods", listed, k.podNames())
	k.same("volumes", listed, k.volumeNames(c))
	if resources.InMemory(c) {
		k.same("claims", nil, k.claimNames(c))
	} else {
		k.same("claims", listed, k.claimNames(c))
	}
	if resources.TLS(c) {
		k.same("secrets", listed, k.secretNames(c))
	}
}

func (k *checker) same(what string, want, have []string) {
	slices.Sort(have)
	if !slices.Equal(want, have) {
		k.violate("I6", "etcd lists %v, and the %s are %v", want, what, have)
	}
}

func statusNames(c *v1alpha1.EtcdCluster) (names []string) {
	for _, m := range c.Status.Members {
		names = append(names, m.Name)
	}
	return names
}

// podNames of the pods that stay: those on a node that is not heard of cannot go.
func (k *checker) podNames() (names []string) {
	for _, o := range k.w.API.all("Pod") {
		pod := o.(*corev1.Pod)
		if pod.DeletionTimestamp == nil || k.w.nodes.nodeReady(pod.Spec.NodeName) {
			names = append(names, pod.Name)
		}
	}
	return names
}

func (k *checker) claimNames(c *v1alpha1.EtcdCluster) (names []string) {
	for _, o := range k.w.API.all("PersistentVolumeClaim") {
		claim := o.(*corev1.PersistentVolumeClaim)
		node := k.w.NodeOf(claim.Labels[v1alpha1.LabelMember])
		held := claim.DeletionTimestamp != nil && node != "" && !k.w.nodes.nodeReady(node)
		if !resources.Quarantined(claim) && ofIncarnation(c, claim) && !held {
			names = append(names, claim.Labels[v1alpha1.LabelMember])
		}
	}
	return names
}

// volumeNames are the members that have a claim, or a pod that holds their data.
func (k *checker) volumeNames(c *v1alpha1.EtcdCluster) []string {
	names := k.claimNames(c)
	for _, name := range k.podNames() {
		if pod := k.w.Pod(name); pod != nil && resources.PodInMemory(pod) {
			names = append(names, name)
		}
	}
	return names
}

func ofIncarnation(c *v1alpha1.EtcdCluster, o client.Object) bool {
	return o.GetLabels()[v1alpha1.LabelClusterUID] == resources.ClusterUID(c) &&
		o.GetLabels()[v1alpha1.LabelIncarnation] == resources.Identity(c)[v1alpha1.LabelIncarnation]
}

func (k *checker) secretNames(c *v1alpha1.EtcdCluster) (names []string) {
	for _, o := range k.w.API.all("Secret") {
		name, _ := strings.CutSuffix(o.GetName(), "-tls")
		if _, ours := resources.Ordinal(c.Name, name); ours {
			names = append(names, name)
		}
	}
	return names
}

// agreement is how long etcd's members and ours may differ after the last fault.
const agreement = time.Minute

// disturbed notes a fault: what follows from it takes its time.
func (k *checker) disturbed() { k.faultAt = k.w.Clock.Now() }

// agree: without faults etcd's members and ours are soon the same (I6).
func (k *checker) agree(c *v1alpha1.EtcdCluster) {
	now := k.w.Clock.Now()
	if why := k.difference(c); why == "" || k.excused(c) {
		k.agreedAt = now
	} else if now.Sub(latest(k.agreedAt, k.faultAt)) > agreement {
		k.violate("I6", "for %v %s", agreement, why)
	}
}

// difference between etcd's members and ours; empty for none.
func (k *checker) difference(c *v1alpha1.EtcdCluster) string {
	truth, ok := k.w.Etcd.Truth(resources.Token(c))
	if !ok || c.Status.ClusterID == "" {
		return ""
	}
	var listed, ours []string
	for _, m := range truth.Members {
		name, _ := resources.MemberOfURL(c, m.PeerURLs[0])
		listed = append(listed, name)
	}
	ours = k.volumeNames(c)
	ours = slices.DeleteFunc(ours, func(name string) bool { return name == c.Status.Joiner })
	slices.Sort(listed)
	slices.Sort(ours)
	if slices.Equal(listed, ours) {
		return ""
	}
	return fmt.Sprintf("etcd has listed %v, and the volumes are those of %v", listed, ours)
}

// excused: nobody can or may do anything about it.
func (k *checker) excused(c *v1alpha1.EtcdCluster) bool {
	if c.Spec.Paused || c.DeletionTimestamp != nil || k.w.faulty() || len(k.w.operators) == 0 {
		return true
	}
	for _, o := range k.w.API.all("Node") {
		if !k.w.nodes.nodeReady(o.GetName()) {
			return true
		}
	}
	truth, _ := k.w.Etcd.Truth(resources.Token(c))
	foreign := slices.ContainsFunc(truth.Members, func(m etcd.Member) bool {
		_, ours := resources.MemberOfURL(c, m.PeerURLs[0])
		return !ours
	})
	healthy, voters, _ := k.healthyVoters(c)
	return foreign || healthy < plan.Majority(voters)
}

// faulty says that an operator is dead or hindered, and none is well.
func (w *World) faulty() bool {
	for _, op := range w.operators {
		if !op.dead.Load() && op.parked == nil && !op.hindered && op.started.Before(w.Clock.Now()) {
			return false
		}
	}
	return true
}
