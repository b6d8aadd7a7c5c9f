package perform

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/member"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// createVolume makes a member's claim, or the pod of a memory-backed member,
// held back by a gate or, for one that joins, by its guard. One of that name that is not ours is never adopted.
func (p *Performer) createVolume(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, name string) error {
	switch {
	case memoryBacked(c, seen, name) && name == c.Status.Joiner:
		return p.holdMember(ctx, c, seen, name)
	case memoryBacked(c, seen, name):
		return p.createPod(ctx, c, seen, resources.Start{Member: name})
	}
	err := p.Writer.Create(ctx, resources.Claim(c, name), client.FieldOwner(resources.FieldOwner))
	if apierrors.IsAlreadyExists(err) {
		_, err = p.ownClaim(ctx, c, name)
		return err
	}
	if err != nil {
		return fmt.Errorf("creating claim %s: %w", resources.ClaimName(name), err)
	}
	return nil
}

// expandVolume asks for as much storage as the spec does.
func (p *Performer) expandVolume(ctx context.Context, c *v1alpha1.EtcdCluster, name string) error {
	claim, err := p.ownClaim(ctx, c, name)
	if err != nil {
		return err
	}
	if claim.Status.Phase != corev1.ClaimBound || !resources.ClaimSmall(c, claim) {
		return fmt.Errorf("expanding claim %s, which is as large as it should be, or not bound: %w", claim.Name, ErrStale)
	}
	before := claim.DeepCopy()
	claim.Spec.Resources.Requests[corev1.ResourceStorage] = c.Spec.Storage.Size
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := p.Writer.Patch(ctx, claim, patch, client.FieldOwner(resources.FieldOwner)); err != nil {
		return fmt.Errorf("expanding claim %s to %s: %w", claim.Name, c.Spec.Storage.Size.String(), err)
	}
	return nil
}

// replaceVolume deletes a volume that was never used and is not on record, so
// that it is made again.
func (p *Performer) replaceVolume(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, name string) error {
	volume, err := p.unusedVolume(ctx, c, seen, name)
	if err != nil {
		return err
	}
	if c.Status.FounderVolumes[name] != "" {
		return fmt.Errorf("giving up the volume of %s, which is on record: %w", name, ErrStale)
	}
	return p.delete(ctx, volume)
}

// unusedVolume is a volume of ours that has never held data: a claim that was
// never bound, or a pod in which etcd has never run.
func (p *Performer) unusedVolume(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, name string) (client.Object, error) {
	volume, err := p.ownVolume(ctx, c, seen, name)
	if err != nil {
		return nil, err
	}
	used := volume.GetAnnotations()[v1alpha1.AnnotationMemberID] != ""
	switch v := volume.(type) {
	case *corev1.PersistentVolumeClaim:
		used = used || v.Status.Phase == corev1.ClaimBound || v.Spec.VolumeName != ""
	case *corev1.Pod:
		for _, s := range v.Status.ContainerStatuses {
			used = used || s.State.Waiting == nil || s.RestartCount > 0 || s.LastTerminationState.Terminated != nil
		}
	}
	if used {
		return nil, fmt.Errorf("giving up the volume of %s, which may hold data: %w", name, ErrStale)
	}
	return volume, nil
}

// startMember makes a member's pod on its volume, or lets the pod of a
// memory-backed member go, now that it is on record.
func (p *Performer) startMember(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, name string) error {
	volume, err := p.ownVolume(ctx, c, seen, name)
	if err != nil {
		return err
	}
	m, _ := seen.Member(name)
	if on := volume.GetAnnotations()[v1alpha1.AnnotationNode]; on != m.LastNode && !m.InMemory {
		return fmt.Errorf("starting %s, whose last node is %q and not %q: %w", name, on, m.LastNode, ErrStale)
	}
	if volume.GetAnnotations()[v1alpha1.AnnotationRefused] != "" {
		return fmt.Errorf("starting %s, whose data was refused: %w", name, ErrStale)
	}
	if latched := c.Status.FounderVolumes[name]; latched != "" && latched != string(volume.GetUID()) {
		return fmt.Errorf("starting %s on volume %s, which is not the one on record: %w", name, volume.GetUID(), ErrStale)
	}
	if pod, ok := volume.(*corev1.Pod); ok {
		return p.ungate(ctx, pod)
	}
	if err := p.nobodyRuns(ctx, name, m.LastNode); err != nil {
		return err
	}
	start := resources.Start{
		Member: name, VolumeUID: string(volume.GetUID()),
		Orders: orders(c, seen, name, volume.GetAnnotations()),
	}
	if start.Restore, err = p.restore(ctx, c, m, start.Orders, volume.GetAnnotations()); err != nil {
		return err
	}
	if start.Restore != nil {
		// It is filled before the guard looks; one that is empty then was lost.
		start.Orders.Empty = resources.EmptyForbidden
	}
	return p.createPod(ctx, c, seen, start)
}

// restore is the backup that the member's volume is filled with, as long as it could
// start on an empty one otherwise; nil if it is to start empty, or has data.
func (p *Performer) restore(ctx context.Context, c *v1alpha1.EtcdCluster, m plan.Member, o resources.Orders, record map[string]string) (*resources.Restore, error) {
	from, remembered := resources.RestoreFrom(c), false
	if name := record[v1alpha1.AnnotationRecovery]; from == nil && name != "" {
		from = &v1alpha1.RestoreSource{BackupName: name, BackupID: record[v1alpha1.AnnotationRecoveryID], AllowUnverified: true}
		remembered = true
	}
	if c.Status.ClusterID != "" || !m.Founder || o.Empty != resources.EmptyAllowed {
		return nil, nil
	}
	if s := resources.SurvivorOf(c, record); s != nil {
		return p.copyOf(ctx, c, m.Name, *s, record)
	}
	if from == nil && c.Status.Incarnation > 1 {
		// Status was lost, and this claim was made after that: an empty founder beside
		// filled ones would never notice that it lacks their keys.
		return nil, fmt.Errorf("starting %s: which backup incarnation %d began with is not known any more — on an empty volume it would be a voter without the others' data — restore a backup into a new cluster", m.Name, c.Status.Incarnation)
	}
	if from == nil {
		return nil, nil
	}
	b, a, err := p.restoreSource(ctx, c, from)
	if err != nil {
		return nil, err
	}
	r, blocked := resources.RestoreOf(c, from, b, a)
	switch {
	case blocked != "" && remembered:
		// Status was lost, and with it whoever would tell of it.
		return nil, fmt.Errorf("starting %s: %s", m.Name, blocked)
	case blocked != "":
		return nil, fmt.Errorf("starting %s: %s: %w", m.Name, blocked, ErrStale)
	}
	if p.BackupImage == "" {
		return nil, resources.ErrNoBackupImage
	}
	r.BackupImage, r.Floor = p.BackupImage, resources.RevisionFloor(c, record)
	return &r, nil
}

// copyOf is what fills a founder's volume with a copy of a survivor's.
func (p *Performer) copyOf(ctx context.Context, c *v1alpha1.EtcdCluster, name string, s resources.Survivor, record map[string]string) (*resources.Restore, error) {
	claim := &corev1.PersistentVolumeClaim{}
	err := p.Live.Get(ctx, client.ObjectKey{Namespace: c.Namespace, Name: resources.ClaimName(s.Member)}, claim)
	if apierrors.IsNotFound(err) {
		claim = nil
	} else if err != nil {
		return nil, fmt.Errorf("reading claim %s: %w", resources.ClaimName(s.Member), err)
	}
	if blocked := resources.SurvivorBlocked(c, s, claim); blocked != "" {
		return nil, fmt.Errorf("starting %s: %s: %w", name, blocked, ErrStale)
	}
	if p.BackupImage == "" {
		return nil, resources.ErrNoBackupImage
	}
	return &resources.Restore{BackupImage: p.BackupImage, BackupID: s.ID(), Survivor: &s, Floor: resources.RevisionFloor(c, record)}, nil
}

// nobodyRuns refuses to start a member while a process of an earlier pod may run,
// unheard of, on its last node. The look at the nodes came from a cache, which may
// not have heard yet that the node is lost.
func (p *Performer) nobodyRuns(ctx context.Context, name, last string) error {
	if last == "" || p.Nodes == nil {
		return nil
	}
	node := &corev1.Node{}
	err := p.Nodes.Get(ctx, client.ObjectKey{Name: last}, node)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading node %s: %w", last, err)
	}
	if ready, _ := resources.NodeReady(node); !ready && !resources.NodeFenced(node) {
		return fmt.Errorf("starting %s, and its last node %s is not Ready: %w", name, last, ErrStale)
	}
	return nil
}

func (p *Performer) createPod(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, start resources.Start) error {
	start.GuardImage = p.GuardImage
	m, _ := seen.Member(start.Member)
	start.Trust = m.Trust
	c = onMedium(resources.MadeAs(c, seen), seen, start.Member)
	if start.Orders.State == "" {
		start.Orders = orders(c, seen, start.Member, nil)
	}
	err := p.Writer.Create(ctx, resources.MemberPod(c, start), client.FieldOwner(resources.FieldOwner))
	if apierrors.IsAlreadyExists(err) {
		_, err = p.ownPod(ctx, c, start.Member)
		return err
	}
	if err != nil {
		return fmt.Errorf("creating pod %s: %w", start.Member, err)
	}
	return nil
}

func (p *Performer) ungate(ctx context.Context, pod *corev1.Pod) error {
	if len(pod.Spec.SchedulingGates) == 0 {
		return nil
	}
	before := pod.DeepCopy()
	pod.Spec.SchedulingGates = nil
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := p.Writer.Patch(ctx, pod, patch, client.FieldOwner(resources.FieldOwner)); err != nil {
		return fmt.Errorf("letting pod %s be scheduled: %w", pod.Name, err)
	}
	return nil
}

// orders to a member's guard. Founders are new until the cluster is latched,
// and an empty directory is allowed until the member is known to have started:
// by the record on its claim, by etcd's list, or, once the cluster is latched,
// unless etcd's list says that it never did.
func orders(c *v1alpha1.EtcdCluster, seen plan.Observed, name string, record map[string]string) resources.Orders {
	m, _ := seen.Member(name)
	founded := c.Status.ClusterID != ""
	neverStarted := m.Listed && !m.Started
	// The ID of one that joins is on record before its first start.
	joins := neverStarted && !m.Founder
	recorded := (record[v1alpha1.AnnotationMemberID] != "" && !joins) || record[v1alpha1.AnnotationBooted] != ""
	o := resources.Orders{Peers: c.Status.Founders, State: member.ClusterStateNew, Empty: resources.EmptyAllowed}
	if founded {
		o.Peers, o.URLs, o.State = peers(seen), urls(seen), member.ClusterStateExisting
	}
	if recorded || m.Started || (founded && !neverStarted) {
		o.Empty, o.State = resources.EmptyForbidden, member.ClusterStateExisting
	}
	return o
}

// peers are the names that etcd lists, or all that are known.
func peers(seen plan.Observed) []string {
	var out []string
	for _, m := range seen.Members {
		if m.Listed || !seen.List {
			out = append(out, m.Name)
		}
	}
	return out
}

// urls are the peer URLs that etcd lists.
func urls(seen plan.Observed) map[string]string {
	var out map[string]string
	for _, m := range seen.Members {
		if out == nil && m.PeerURL != "" {
			out = map[string]string{}
		}
		if m.PeerURL != "" {
			out[m.Name] = m.PeerURL
		}
	}
	return out
}

// deletePod deletes a pod that does not run. The UID and the version that was
// just read make it fail when the pod has started meanwhile.
func (p *Performer) deletePod(ctx context.Context, c *v1alpha1.EtcdCluster, name string) error {
	pod, err := p.ownPod(ctx, c, name)
	if err != nil || pod == nil || !pod.DeletionTimestamp.IsZero() {
		return err
	}
	if etcdRuns(pod) {
		return fmt.Errorf("deleting pod %s, which runs: %w", name, ErrStale)
	}
	return p.delete(ctx, pod)
}

// etcdRuns says that etcd runs in the pod, going by its status. A pod that has
// ended runs nothing, whatever its containers' last status was, and in one that
// is held only the guard runs.
func etcdRuns(pod *corev1.Pod) bool {
	if resources.Held(pod) {
		return false
	}
	if pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded {
		return false
	}
	for _, s := range pod.Status.ContainerStatuses {
		if s.Name == resources.EtcdContainer && s.State.Running != nil {
			return true
		}
	}
	return false
}

// delete deletes the very object that was read, in the version that was read.
func (p *Performer) delete(ctx context.Context, object client.Object) error {
	uid, version := object.GetUID(), object.GetResourceVersion()
	err := p.Writer.Delete(ctx, object, client.Preconditions{UID: &uid, ResourceVersion: &version})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting %s: %w", object.GetName(), err)
	}
	return nil
}

// recordMember writes what is known of a member on its claim, and then takes
// back the pod's permission to start on an empty directory. In this order, for
// the claim outlives the pod.
func (p *Performer) recordMember(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, name string) error {
	m, _ := seen.Member(name)
	volume, err := p.ownVolume(ctx, c, seen, name)
	if err != nil {
		return err
	}
	pod, err := p.ownPod(ctx, c, name)
	if err != nil {
		return err
	}
	listed := seen.List && m.Listed && m.Started
	started := listed || (pod != nil && string(pod.UID) == m.PodUID && m.PodReady)
	record, err := recordOf(seen, m, volume)
	if err != nil {
		return err
	}
	if started && (!listed || !m.Founder) {
		record[v1alpha1.AnnotationBooted] = "true"
	}
	if pod != nil && pod.Spec.NodeName != "" {
		record[v1alpha1.AnnotationNode] = pod.Spec.NodeName
	}
	forbid := resources.Orders{Peers: peers(seen), URLs: urls(seen), State: member.ClusterStateExisting, Empty: resources.EmptyForbidden}
	takeBack := pod != nil && started && resources.MayBeginAnew(pod)
	if takeBack && m.InMemory {
		maps.Copy(record, forbid.Annotations(c))
	}
	if err := p.annotate(ctx, volume, record); err != nil || !takeBack || m.InMemory {
		return err
	}
	takenBack := forbid.Annotations(c)
	takenBack[v1alpha1.AnnotationRestore] = ""
	return p.annotate(ctx, pod, takenBack)
}

// recordOf is what etcd's list tells the volume of a member. One that joined after
// the founding has its ID before its first start, which is why that is recorded
// apart.
func recordOf(seen plan.Observed, m plan.Member, volume client.Object) (map[string]string, error) {
	record := map[string]string{}
	listed := seen.List && m.Listed
	if listed && (m.Started || !m.Founder) {
		if have := volume.GetAnnotations()[v1alpha1.AnnotationMemberID]; have != "" && have != hex(m.ID) {
			return nil, fmt.Errorf("recording member %x on the volume of %s, which names %s: %w", m.ID, m.Name, have, ErrStale)
		}
		record[v1alpha1.AnnotationMemberID] = hex(m.ID)
	}
	if m.Leaving && listed && seen.Voters() <= seen.Size {
		record[v1alpha1.AnnotationLeaving] = ""
	}
	return record, nil
}

func hex(id uint64) string { return strconv.FormatUint(id, 16) }

// annotate patches annotations of the very object that was read, if any of
// them differ. An empty value takes the annotation away.
func (p *Performer) annotate(ctx context.Context, object client.Object, with map[string]string) error {
	before := object.DeepCopyObject().(client.Object)
	annotations := object.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	same := true
	for k, v := range with {
		same = same && annotations[k] == v
		if annotations[k] = v; v == "" {
			delete(annotations, k)
		}
	}
	if same {
		return nil
	}
	object.SetAnnotations(annotations)
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := p.Writer.Patch(ctx, object, patch, client.FieldOwner(resources.FieldOwner)); err != nil {
		return fmt.Errorf("annotating %s: %w", object.GetName(), err)
	}
	return nil
}

// recordRefusal keeps what the guard said on the claim, which outlives the pod,
// and then deletes the pod: it would only be refused again.
func (p *Performer) recordRefusal(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, name string) error {
	m, _ := seen.Member(name)
	if m.InMemory {
		// The data is the pod's; a loss is seen from the pod's absence.
		return p.deletePod(ctx, c, name)
	}
	pod, err := p.ownPod(ctx, c, name)
	if err != nil {
		return err
	}
	if pod == nil || string(pod.UID) != m.PodUID || etcdRuns(pod) {
		// The refusal that was seen is an older pod's, or it was let in since.
		return fmt.Errorf("recording the refusal of %s: %w", name, ErrStale)
	}
	claim, err := p.ownClaim(ctx, c, name)
	if err == nil {
		err = p.annotate(ctx, claim, map[string]string{v1alpha1.AnnotationRefused: cmp.Or(m.Refusal, m.Corrupt)})
	}
	// A claim that is on its way out takes the refusal with it, and goes only
	// when the pod has gone.
	if err != nil && !errors.Is(err, ErrStale) {
		return err
	}
	return p.deletePod(ctx, c, name)
}
