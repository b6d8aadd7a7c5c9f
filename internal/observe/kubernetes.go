package observe

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/member"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// endedPause is how old a pod must be before it is made again when it has ended:
// one that the kubelet refuses ends at once, and would be made again at the speed
// of the API server.
const endedPause = 10 * time.Second

// kubernetes is what Kubernetes holds of one cluster.
type kubernetes struct {
	// claims and pods of this incarnation, by nothing but their identity.
	claims []corev1.PersistentVolumeClaim
	pods   []corev1.Pod
	// oldVolumes bear the cluster's name and another UID.
	oldVolumes []plan.OldVolume
	// overdue are the quarantined claims that have been kept for long enough, by
	// the clocks.
	overdue []*corev1.PersistentVolumeClaim
	// adoption is what there is of the cluster that is to be brought back; nil for none.
	adoption *plan.Adoption
	// incarnation that claims and pods are of.
	incarnation int64
	// taken are the ordinals that any claim or pod of the namespace bears,
	// whoever owns it. Filled only before the founders are latched.
	taken []int
	nodes nodes
	now   time.Time
	// certain is a time that has come by the operator's clock and by the API
	// server's.
	certain time.Time
	// theirs is the API server's time, which it puts on what it creates.
	theirs time.Time
}

// asCached lists what the cache holds, and not copies of it: a look changes nothing, and
// copying every node for every cluster would cost more than all that is read of them.
const asCached = client.UnsafeDisableDeepCopy

func (o *Observer) kubernetes(ctx context.Context, c *v1alpha1.EtcdCluster, m *memory) (*kubernetes, error) {
	k := &kubernetes{now: o.Clock.Now()}
	k.certain, k.theirs = o.ServerTime.Earlier(k.now), o.ServerTime.Or(k.now)
	reader := o.reader(c, m)
	var claims corev1.PersistentVolumeClaimList
	var pods corev1.PodList
	scope := []client.ListOption{client.InNamespace(c.Namespace), asCached}
	if len(c.Status.Founders) > 0 {
		scope = append(scope, client.MatchingLabels{v1alpha1.LabelCluster: c.Name})
	}
	if err := reader.List(ctx, &claims, scope...); err != nil {
		return k, fmt.Errorf("listing claims: %w", err)
	}
	if err := reader.List(ctx, &pods, scope...); err != nil {
		return k, fmt.Errorf("listing pods: %w", err)
	}
	// A cache lists in any order, and what is said of the first of them must be
	// the same on every pass.
	slices.SortFunc(claims.Items, func(a, b corev1.PersistentVolumeClaim) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(pods.Items, func(a, b corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	c = k.present(c, claims.Items)
	// What was adopted is over once a later incarnation has begun with a backup.
	if c.Spec.Adopt != nil && (c.Status.Recovery == nil || c.Status.Recovery.Incarnation != c.Status.Incarnation) {
		k.adoption = resources.Adoption(c, claims.Items, pods.Items)
	}
	// One more than the size is what a replacement has; others of the namespace are not kept.
	few := int(c.Spec.Size) + 1
	k.claims, k.pods = make([]corev1.PersistentVolumeClaim, 0, few), make([]corev1.Pod, 0, few)
	for i := range claims.Items {
		k.addClaim(c, &claims.Items[i])
	}
	for i := range pods.Items {
		k.addPod(c, &pods.Items[i])
	}
	err := o.unlabelled(ctx, c, k)
	if err != nil {
		return k, err
	}
	k.nodes, err = o.nodes(ctx)
	return k, err
}

// present is the cluster in its present incarnation. When status has lost that, it is the
// highest that any of its volumes carries: those of an earlier one are nobody's.
func (k *kubernetes) present(c *v1alpha1.EtcdCluster, claims []corev1.PersistentVolumeClaim) *v1alpha1.EtcdCluster {
	if k.incarnation = max(1, c.Status.Incarnation); c.Status.Incarnation > 0 || c.Spec.Adopt != nil {
		return c
	}
	for i := range claims {
		n, err := strconv.ParseInt(claims[i].Labels[v1alpha1.LabelIncarnation], 10, 64)
		if err == nil && claims[i].Labels[v1alpha1.LabelClusterUID] == resources.ClusterUID(c) {
			k.incarnation = max(k.incarnation, n)
		}
	}
	c = c.DeepCopy()
	c.Status.Incarnation = k.incarnation
	return c
}

func (k *kubernetes) addClaim(c *v1alpha1.EtcdCluster, claim *corev1.PersistentVolumeClaim) {
	k.take(c, resources.MemberOfClaim(claim.Name))
	switch {
	case claim.Labels[v1alpha1.LabelCluster] != c.Name:
	case claim.Labels[v1alpha1.LabelClusterUID] != resources.ClusterUID(c):
		k.oldVolumes = append(k.oldVolumes, plan.OldVolume{Claim: claim.Name, ClusterUID: claim.Labels[v1alpha1.LabelClusterUID]})
	case claim.Labels[v1alpha1.LabelIncarnation] != resources.Identity(c)[v1alpha1.LabelIncarnation]:
	case resources.Quarantined(claim):
		if k.quarantineOver(c, claim) {
			k.overdue = append(k.overdue, claim)
		}
	default:
		k.claims = append(k.claims, *claim)
	}
}

// quarantineOver says that the claim has been kept for storage.quarantineFor, by
// both clocks. One whose time cannot be read is kept.
func (k *kubernetes) quarantineOver(c *v1alpha1.EtcdCluster, claim *corev1.PersistentVolumeClaim) bool {
	at, err := time.Parse(time.RFC3339, claim.Annotations[v1alpha1.AnnotationQuarantinedAt])
	keep := c.Spec.Storage.QuarantineFor.Duration
	return err == nil && keep > 0 && k.certain.Sub(at) > keep && claim.DeletionTimestamp.IsZero()
}

// clockPause is how long a claim must be overdue before it is deleted. A clock that
// was set wrong is often set right again, and then nothing is lost.
const clockPause = time.Hour

// expired are the members whose quarantined claims this process has seen overdue,
// in every look, for clockPause of its monotonic clock. A new process waits anew.
func (m *memory) expired(c *v1alpha1.EtcdCluster, k *kubernetes) []string {
	since := map[types.UID]time.Time{}
	var members []string
	for _, claim := range k.overdue {
		first, known := m.overdue[claim.UID]
		if !known {
			first = k.now
		}
		since[claim.UID] = first
		if k.now.Sub(first) >= min(clockPause, c.Spec.Storage.QuarantineFor.Duration) {
			members = append(members, resources.MemberOfClaim(claim.Name))
		}
	}
	m.overdue = since
	return members
}

func (k *kubernetes) addPod(c *v1alpha1.EtcdCluster, pod *corev1.Pod) {
	k.take(c, pod.Name)
	if pod.Labels[v1alpha1.LabelClusterUID] == resources.ClusterUID(c) && pod.Labels[v1alpha1.LabelIncarnation] == resources.Identity(c)[v1alpha1.LabelIncarnation] {
		k.pods = append(k.pods, *pod)
	}
}

// take notes that somebody bears a member's name.
func (k *kubernetes) take(c *v1alpha1.EtcdCluster, name string) {
	if n, ok := resources.Ordinal(c.Name, name); ok {
		k.taken = append(k.taken, n)
	}
}

// freeNames are the names that founders get: the lowest ordinals that nothing
// of the namespace bears and that were never given away.
func (k *kubernetes) freeNames(c *v1alpha1.EtcdCluster) []string {
	next := int(c.Status.NextOrdinal)
	for _, n := range k.taken {
		next = max(next, n+1)
	}
	founders := make([]string, 0, c.Spec.Size)
	for i := range int(c.Spec.Size) {
		founders = append(founders, resources.MemberName(c.Name, next+i))
	}
	return founders
}

// objects are the claims and pods of this incarnation.
func (k *kubernetes) objects() []client.Object {
	var out []client.Object
	for i := range k.claims {
		out = append(out, &k.claims[i])
	}
	for i := range k.pods {
		out = append(out, &k.pods[i])
	}
	return out
}

func (k *kubernetes) claim(name string) *corev1.PersistentVolumeClaim {
	i := slices.IndexFunc(k.claims, func(v corev1.PersistentVolumeClaim) bool { return v.Name == resources.ClaimName(name) })
	if i < 0 {
		return nil
	}
	return &k.claims[i]
}

func (k *kubernetes) pod(name string) *corev1.Pod {
	i := slices.IndexFunc(k.pods, func(p corev1.Pod) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return &k.pods[i]
}

// members are the founders, whoever has a claim or a pod of ours, and the one
// that is being prepared. A founder of whom nothing is left, and whom the last
// status did not name, was removed long ago.
func (k *kubernetes) members(c *v1alpha1.EtcdCluster) []plan.Member {
	var found []string
	for _, name := range c.Status.Founders {
		named := slices.ContainsFunc(c.Status.Members, func(m v1alpha1.MemberStatus) bool { return m.Name == name })
		if named || len(c.Status.Members) == 0 || c.Status.ClusterID == "" || k.claim(name) != nil || k.pod(name) != nil {
			found = append(found, name)
		}
	}
	for _, m := range c.Status.Members {
		// Whoever voted is missed even when nothing of it is left.
		if m.Role != "" {
			found = append(found, m.Name)
		}
	}
	if c.Status.Joiner != "" {
		found = append(found, c.Status.Joiner)
	}
	for _, claim := range k.claims {
		found = append(found, resources.MemberOfClaim(claim.Name))
	}
	for _, pod := range k.pods {
		found = append(found, pod.Name)
	}
	var members []plan.Member
	for _, name := range found {
		n, ok := resources.Ordinal(c.Name, name)
		if !ok || slices.ContainsFunc(members, func(m plan.Member) bool { return m.Name == name }) {
			continue
		}
		m := plan.Member{
			Name: name, Ordinal: n, Founder: slices.Contains(c.Status.Founders, name), Joiner: name == c.Status.Joiner,
			Mislabelled: k.mislabelled(c, name),
		}
		k.describe(c, &m)
		members = append(members, m)
	}
	return members
}

// medium of a member's data: what its pod was made with or, without one, a claim of its
// name. It may be another than the spec's, which its members follow one by one.
func (k *kubernetes) medium(c *v1alpha1.EtcdCluster, name string) v1alpha1.StorageMedium {
	pod := k.pod(name)
	switch {
	case pod != nil && resources.PodInMemory(pod):
		return v1alpha1.MediumMemory
	case pod != nil, k.claim(name) != nil:
		return v1alpha1.MediumDisk
	default:
		return cmp.Or(c.Spec.Storage.Medium, v1alpha1.MediumDisk)
	}
}

// describe a member by what there is of it.
func (k *kubernetes) describe(c *v1alpha1.EtcdCluster, m *plan.Member) {
	made := resources.OnMedium(c, k.medium(c, m.Name))
	if m.InMemory = resources.InMemory(made); m.InMemory {
		k.describeMemory(made, m)
	} else {
		k.describeVolume(made, m)
		k.describePod(made, m)
	}
	if made != c {
		// It is replaced: its claim need not follow a larger storage.size before, nor its pod
		// the memory that the other medium needs. With less than its data takes it would be
		// killed, again and again.
		m.MediumDiffers, m.VolumeElsewhere, m.VolumeSmall, m.PodResize = true, true, false, false
	}
}

func (k *kubernetes) describeVolume(c *v1alpha1.EtcdCluster, m *plan.Member) {
	latched := c.Status.FounderVolumes[m.Name]
	m.VolumeLatched = latched != ""
	claim := k.claim(m.Name)
	if claim == nil {
		m.Volume = plan.VolumeAbsent
		m.Trouble = "its claim " + resources.ClaimName(m.Name) + " does not exist"
		return
	}
	m.RecordedID, _ = strconv.ParseUint(claim.Annotations[v1alpha1.AnnotationMemberID], 16, 64)
	m.Booted = claim.Annotations[v1alpha1.AnnotationBooted] != ""
	m.LastNode = claim.Annotations[v1alpha1.AnnotationNode]
	m.Leaving = claim.Annotations[v1alpha1.AnnotationLeaving] != ""
	m.VolumeChange = resources.ClaimChange(c, claim)
	m.VolumeOutdated, m.VolumeElsewhere = m.VolumeChange != "", resources.ClaimElsewhere(c, claim)
	m.VolumeSmall, m.VolumeGrows = resources.ClaimSmall(c, claim), resources.ClaimGrows(claim)
	m.VolumeSize = claim.Status.Capacity.Storage().Value()
	refused := claim.Annotations[v1alpha1.AnnotationRefused]
	switch {
	case !claim.DeletionTimestamp.IsZero():
		m.Volume, m.Trouble = plan.VolumeTerminating, "its claim "+claim.Name+" is being deleted"
	case latched != "" && latched != string(claim.UID):
		m.Volume = plan.VolumeLost
		m.Trouble = fmt.Sprintf("its claim %s was made anew (UID %s, not %s)", claim.Name, claim.UID, latched)
	case claim.Status.Phase == corev1.ClaimLost:
		m.Volume, m.Trouble = plan.VolumeLost, "the volume of its claim "+claim.Name+" is gone"
	case refused != "":
		m.Volume, m.Trouble = plan.VolumeRefused, refused
	case claim.Status.Phase == corev1.ClaimBound:
		m.Volume = plan.VolumeBound
	default:
		m.Volume = plan.VolumePending
	}
}

// describeElsewhere says of a member without a pod whether a process of it may still run.
func (k *kubernetes) describeElsewhere(c *v1alpha1.EtcdCluster, m *plan.Member, claim *corev1.PersistentVolumeClaim) {
	switch {
	case claim != nil:
		last := claim.Annotations[v1alpha1.AnnotationNode]
		if m.RunningElsewhere = k.nodes.mayStillRun(last, claim.CreationTimestamp.Time); m.RunningElsewhere {
			m.Trouble = fmt.Sprintf("its pod is gone, and its last node %q is not Ready: a process may still run there", last)
		}
	case wordCounts(c), c.Status.Restore != nil:
		// Its claim named its last node; without one any that is not heard of may be it, and
		// with it a member that outvotes the next incarnation's.
		if m.RunningElsewhere = k.nodes.mayStillRun("", time.Time{}); m.RunningElsewhere {
			m.Trouble = "its pod is gone, and a node is not Ready: it may have been the last one of the member, whose claim is gone, and a process may still run there"
		}
	}
}

func (k *kubernetes) describePod(c *v1alpha1.EtcdCluster, m *plan.Member) {
	pod, claim := k.pod(m.Name), k.claim(m.Name)
	if pod == nil {
		if m.Trouble == "" {
			m.Trouble = "it has no pod"
		}
		k.describeElsewhere(c, m, claim)
		return
	}
	m.Pod, m.PodUID = podState(pod), string(pod.UID)
	m.PodReady, m.Held, m.Unschedulable = podReady(pod), resources.Held(pod), unscheduled(pod) != ""
	m.Corrupt = corruption(pod)
	describeTransport(m, pod)
	m.PodFresh = k.theirs.Sub(pod.CreationTimestamp.Time) < endedPause
	m.SnapshotCount = snapshotCount(pod)
	m.PodMayBeEmpty = resources.MayBeginAnew(pod)
	m.PodOutdated = (m.Volume == plan.VolumePending && m.VolumeOutdated) ||
		pod.Annotations[v1alpha1.AnnotationTemplateHash] != resources.TemplateHash(c) ||
		(claim != nil && pod.Annotations[v1alpha1.AnnotationVolumeUID] != string(claim.UID)) ||
		// With a claim that it does not need any more it could not be made again where that is not.
		resources.HoldsSurvivor(c, pod) || resources.Astray(c, pod)
	describeResources(c, m, pod)
	m.NodeMoved = claim != nil && pod.Spec.NodeName != "" && claim.Annotations[v1alpha1.AnnotationNode] != pod.Spec.NodeName
	m.Refusal = refusal(pod)
	m.NodeDown = pod.Spec.NodeName != "" && k.nodes.mayStillRun(pod.Spec.NodeName, time.Time{})
	if text := waitingText(pod); text != "" {
		m.Trouble = text
	} else if m.Held {
		m.Trouble = "it is held in its pod until etcd lists it"
	} else if m.NodeDown {
		m.Trouble = fmt.Sprintf("its node %s is not Ready", pod.Spec.NodeName)
	}
}

// describeResources says whether the pod has the CPU and memory of the spec, and what it
// takes to give them to it: one that does not run, or whose resize was refused, is made
// again.
func describeResources(c *v1alpha1.EtcdCluster, m *plan.Member, pod *corev1.Pod) {
	wanted := resources.ComputeHash(c)
	if m.Pod == plan.PodRunning {
		m.PodResizing = resizing(pod) != ""
	}
	switch have := pod.Annotations[v1alpha1.AnnotationResources]; {
	case have == wanted || have == "":
	case m.Pod == plan.PodRunning && !m.Held && pod.Annotations[v1alpha1.AnnotationResizeRefused] != wanted:
		m.PodResize = true
	default:
		m.PodOutdated = true
	}
}

// resizing is what the kubelet says of a change of CPU and memory that it has not carried
// out; empty for none.
func resizing(pod *corev1.Pod) string {
	for _, is := range pod.Status.Conditions {
		if (is.Type == corev1.PodResizePending || is.Type == corev1.PodResizeInProgress) && is.Status == corev1.ConditionTrue {
			return strings.TrimSpace(is.Reason + ": " + is.Message)
		}
	}
	return ""
}

// snapshotCount that the pod's etcd was started with; zero for a pod that does not say.
func snapshotCount(pod *corev1.Pod) int64 {
	n, err := strconv.ParseInt(pod.Annotations[v1alpha1.AnnotationSnapshotCount], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// madeFrom holds the members' pods against another spec.
func (k *kubernetes) madeFrom(c *v1alpha1.EtcdCluster, members []plan.Member) {
	for i := range members {
		m := members[i]
		if on := resources.OnMedium(c, k.medium(c, m.Name)); m.InMemory {
			k.describeMemory(on, &m)
		} else {
			k.describePod(on, &m)
		}
		members[i].PodOutdated = m.PodOutdated
	}
}

// describeMemory describes a member whose volume is its pod.
func (k *kubernetes) describeMemory(c *v1alpha1.EtcdCluster, m *plan.Member) {
	latched := c.Status.FounderVolumes[m.Name]
	m.VolumeLatched = latched != ""
	pod := k.pod(m.Name)
	if pod == nil {
		m.Trouble = "its pod, and with it its data, is gone"
		return
	}
	m.RecordedID, _ = strconv.ParseUint(pod.Annotations[v1alpha1.AnnotationMemberID], 16, 64)
	m.PodUID, m.PodReady = string(pod.UID), podReady(pod)
	m.Held, m.Unschedulable = resources.Held(pod), unscheduled(pod) != ""
	m.NodeDown = pod.Spec.NodeName != "" && k.nodes.mayStillRun(pod.Spec.NodeName, time.Time{})
	m.Booted = pod.Annotations[v1alpha1.AnnotationBooted] != ""
	m.Leaving = pod.Annotations[v1alpha1.AnnotationLeaving] != ""
	m.PodMayBeEmpty = resources.MayBeginAnew(pod)
	m.Refusal, m.Corrupt = refusal(pod), corruption(pod)
	describeTransport(m, pod)
	m.Trouble = waitingText(pod)
	m.PodFresh = k.theirs.Sub(pod.CreationTimestamp.Time) < endedPause
	outdated := pod.Annotations[v1alpha1.AnnotationTemplateHash] != resources.TemplateHash(c)
	if m.Pod = podState(pod); len(pod.Spec.SchedulingGates) > 0 && m.Pod == plan.PodWaiting {
		m.Pod = plan.PodAbsent
	}
	switch {
	case m.Pod == plan.PodTerminating:
		m.Volume = plan.VolumeTerminating
	case latched != "" && latched != string(pod.UID):
		m.Volume = plan.VolumeLost
	case m.Pod == plan.PodEnded && c.Status.ClusterID != "" && !m.Held:
		// Its status does not prove that etcd never ran in it, and a member that
		// may have voted is never made again under its name.
		m.Volume = plan.VolumeLost
	case neverRan(pod), m.Pod == plan.PodEnded && m.Held:
		// A pod that ended before etcd ran in it is no loss; it is made again,
		// but not at the speed of a kubelet that refuses each of them.
		m.Volume, m.VolumeOutdated = plan.VolumePending, outdated || (m.Pod == plan.PodEnded && !m.PodFresh)
		m.PodOutdated = m.Held && m.VolumeOutdated
		m.Pod = waitingIfEnded(m.Pod)
	case m.Pod == plan.PodEnded:
		m.Volume = plan.VolumeLost
	default:
		// Between two runs of its container the pod still has the data, so it is
		// outdated only while it runs: then nobody deletes it for that.
		m.Volume, m.PodOutdated = plan.VolumeBound, outdated && m.Pod == plan.PodRunning
	}
	if m.Pod == plan.PodRunning && m.Volume == plan.VolumeBound {
		describeResources(c, m, pod)
	}
}

func waitingIfEnded(p plan.Pod) plan.Pod {
	if p == plan.PodEnded {
		return plan.PodWaiting
	}
	return p
}

// neverRan says that etcd's container has not run in the pod as far as its
// status tells; whoever acts on it makes the deletion depend on that version.
func neverRan(pod *corev1.Pod) bool {
	status, ok := statusOf(pod)
	return !ok || (status.State.Waiting != nil && status.RestartCount == 0 && status.LastTerminationState.Terminated == nil)
}

func podState(pod *corev1.Pod) plan.Pod {
	status, ok := statusOf(pod)
	switch {
	case !pod.DeletionTimestamp.IsZero():
		return plan.PodTerminating
	case pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded:
		return plan.PodEnded
	case ok && status.State.Running != nil:
		return plan.PodRunning
	default:
		return plan.PodWaiting
	}
}

func podReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// refusal is what the guard said when it last ended, if it refused the data.
// A container that runs again was let in.
func refusal(pod *corev1.Pod) string {
	status, ok := statusOf(pod)
	if !ok || status.State.Running != nil || !pod.DeletionTimestamp.IsZero() {
		return ""
	}
	ended := status.State.Terminated
	if ended == nil {
		ended = status.LastTerminationState.Terminated
	}
	if ended == nil || (ended.ExitCode != member.ExitDataMissing && ended.ExitCode != member.ExitForeignData) {
		return ""
	}
	if text := firstLine(ended.Message); text != "" {
		return text
	}
	return fmt.Sprintf("the guard ended with code %d and left no message", ended.ExitCode)
}

// takesNoTLS says that the etcd of a pod takes plaintext alone. Of one that does not say,
// nobody is asked without TLS.
func takesNoTLS(pod *corev1.Pod) bool {
	plaintext, tls := resources.Taken(pod)
	return plaintext && !tls
}

// describeTransport says what the etcd that runs in the pod takes.
func describeTransport(m *plan.Member, pod *corev1.Pod) {
	if podState(pod) == plan.PodRunning {
		m.TakesPlaintext, m.TakesTLS = resources.Taken(pod)
	}
}

// endpoints of the members whose pods run.
func (k *kubernetes) endpoints(c *v1alpha1.EtcdCluster) map[string]etcd.Endpoint {
	out := map[string]etcd.Endpoint{}
	for i := range k.pods {
		pod := &k.pods[i]
		if pod.Status.PodIP == "" || resources.Held(pod) || (podState(pod) != plan.PodRunning && podState(pod) != plan.PodTerminating) {
			continue
		}
		out[pod.Name] = etcd.Endpoint{
			Address:    net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(resources.ClientPort)),
			ServerName: resources.MemberHost(c, pod.Name),
			Plaintext:  takesNoTLS(pod),
		}
	}
	return out
}

// nodes are the nodes' states; nil when the operator may not read them.
type nodes map[string]nodeSeen

// nodeSeen is a node's state, and since when it is not Ready.
type nodeSeen struct {
	state nodeState
	since time.Time
}

type nodeState int

const (
	nodeReady nodeState = iota
	nodeNotReady
	// nodeFenced nodes are declared down by whoever runs the cluster.
	nodeFenced
)

// nodes reads the nodes. Without the right to (an operator of some namespaces
// only) a pod that is gone is believed to have stopped, as a StatefulSet does.
func (o *Observer) nodes(ctx context.Context) (nodes, error) {
	var list corev1.NodeList
	if o.Cluster == nil {
		return nil, nil
	}
	if err := o.Cluster.List(ctx, &list, asCached); err != nil {
		return nil, fmt.Errorf("listing nodes: %w", err)
	}
	out := nodes{}
	for i := range list.Items {
		out[list.Items[i].Name] = stateOf(&list.Items[i])
	}
	return out, nil
}

func stateOf(n *corev1.Node) nodeSeen {
	if resources.NodeFenced(n) {
		return nodeSeen{state: nodeFenced}
	}
	if ready, since := resources.NodeReady(n); !ready {
		return nodeSeen{state: nodeNotReady, since: since}
	}
	return nodeSeen{state: nodeReady}
}

// mayStillRun says whether a process on the node may run although nobody hears
// of it. A node that is not known must be assumed to be any of them that has been
// Ready since then; one that was deleted is gone.
func (n nodes) mayStillRun(node string, since time.Time) bool {
	if node == "" {
		for _, seen := range n {
			if seen.state == nodeNotReady && !seen.since.Before(since) {
				return true
			}
		}
		return false
	}
	seen, known := n[node]
	return known && seen.state == nodeNotReady
}

// fixed says of small claims whose class does not let them grow. Where the classes cannot
// be read, the API server is asked, and says no itself.
func (o *Observer) fixed(ctx context.Context, k *kubernetes, members []plan.Member) {
	for i := range members {
		claim := k.claim(members[i].Name)
		if !members[i].VolumeSmall || claim == nil || o.Cluster == nil {
			continue
		}
		class, name := &storagev1.StorageClass{}, claim.Spec.StorageClassName
		if name == nil || *name == "" {
			members[i].VolumeFixed = "it has no class"
			continue
		}
		if err := o.Cluster.Get(ctx, client.ObjectKey{Name: *name}, class); err == nil && (class.AllowVolumeExpansion == nil || !*class.AllowVolumeExpansion) {
			members[i].VolumeFixed = fmt.Sprintf("class %s does not allow expansion", *name)
		}
	}
}

// storageClass says that the class of an unbound claim does not exist, in the
// API's own words.
func (o *Observer) storageClass(ctx context.Context, k *kubernetes) (plan.Problem, bool) {
	for i := range k.claims {
		claim := &k.claims[i]
		class := claim.Spec.StorageClassName
		if o.Cluster == nil || claim.Status.Phase == corev1.ClaimBound || class == nil || *class == "" {
			continue
		}
		err := o.Cluster.Get(ctx, client.ObjectKey{Name: *class}, &storagev1.StorageClass{})
		if apierrors.IsNotFound(err) {
			return plan.Problem{Reason: v1alpha1.ReasonStorageClassNotFound, Severity: plan.Stalling, Message: fmt.Sprintf(
				"%s — no volume can be made of it and the founding waits — create the class, or set spec.storage.storageClassName to one that exists (kubectl get storageclass)", err)}, true
		}
	}
	return plan.Problem{}, false
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return stable(line)
}

// lastLine of a log is where the cause stands.
func lastLine(s string) string {
	s = strings.TrimSpace(s)
	line := s[strings.LastIndex(s, "\n")+1:]
	const most = 512
	return stable(strings.ToValidUTF8(line[max(0, len(line)-most):], ""))
}

// passingParts of messages differ from try to try: the port that a connection
// came from, and the words that the kubelet puts before an error while it waits
// for the next try. What is written into status must not.
var passingParts = regexp.MustCompile(`(\b(tcp|udp)6?) \S+->|Back-off pulling image "[^"]*": (ErrImagePull: )?`)

func stable(text string) string {
	return strings.TrimSpace(passingParts.ReplaceAllString(text, "$1 "))
}

// corruption is what etcd said when it last ended, if it failed on its data;
// empty otherwise, and while it runs.
func corruption(pod *corev1.Pod) string {
	status, ok := statusOf(pod)
	if !ok || status.State.Running != nil {
		return ""
	}
	ended := status.State.Terminated
	if ended == nil {
		ended = status.LastTerminationState.Terminated
	}
	if ended == nil || !member.Corruption(ended.Message) {
		return ""
	}
	return lastLine(ended.Message)
}
