package perform

import (
	"context"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/member"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// createVolume makes a founder's claim. One of that name that is not ours is
// never adopted.
func (p *Performer) createVolume(ctx context.Context, c *v1alpha1.EtcdCluster, name string) error {
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

// replaceVolume deletes a claim that was never bound and is not on record, so
// that it is made again.
func (p *Performer) replaceVolume(ctx context.Context, c *v1alpha1.EtcdCluster, name string) error {
	claim, err := p.unboundClaim(ctx, c, name)
	if err != nil {
		return err
	}
	if c.Status.FounderVolumes[name] != "" {
		return fmt.Errorf("deleting claim %s, which is on record: %w", claim.Name, ErrStale)
	}
	err = p.Writer.Delete(ctx, claim, client.Preconditions{UID: &claim.UID, ResourceVersion: ptr.To(claim.ResourceVersion)})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting claim %s: %w", claim.Name, err)
	}
	return nil
}

// unboundClaim is a claim of ours that has never held data.
func (p *Performer) unboundClaim(ctx context.Context, c *v1alpha1.EtcdCluster, name string) (*corev1.PersistentVolumeClaim, error) {
	claim, err := p.ownClaim(ctx, c, name)
	if err != nil {
		return nil, err
	}
	if claim.Status.Phase == corev1.ClaimBound || claim.Spec.VolumeName != "" || claim.Annotations[v1alpha1.AnnotationMemberID] != "" {
		return nil, fmt.Errorf("giving up claim %s, which is bound: %w", claim.Name, ErrStale)
	}
	return claim, nil
}

// startMember makes a member's pod on its volume.
func (p *Performer) startMember(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, name string) error {
	claim, err := p.ownClaim(ctx, c, name)
	if err != nil {
		return err
	}
	if claim.Annotations[v1alpha1.AnnotationRefused] != "" {
		return fmt.Errorf("starting %s, whose data was refused: %w", name, ErrStale)
	}
	if latched := c.Status.FounderVolumes[name]; latched != "" && latched != string(claim.UID) {
		return fmt.Errorf("starting %s on claim %s, which is not the one on record: %w", name, claim.UID, ErrStale)
	}
	pod := resources.MemberPod(c, resources.Start{
		Member: name, VolumeUID: string(claim.UID), GuardImage: p.GuardImage,
		Orders: orders(c, seen, name, claim.Annotations[v1alpha1.AnnotationMemberID] != ""),
	})
	err = p.Writer.Create(ctx, pod, client.FieldOwner(resources.FieldOwner))
	if apierrors.IsAlreadyExists(err) {
		_, err = p.ownPod(ctx, c, name)
		return err
	}
	if err != nil {
		return fmt.Errorf("creating pod %s: %w", name, err)
	}
	return nil
}

// orders to a member's guard. Founders are new until the cluster is latched,
// and an empty directory is allowed until the member is known to have started:
// by its claim, by etcd's list, or, once the cluster is latched, unless etcd's
// list says that it never did.
func orders(c *v1alpha1.EtcdCluster, seen plan.Observed, name string, recorded bool) resources.Orders {
	m, _ := seen.Member(name)
	founded := c.Status.ClusterID != ""
	neverStarted := m.Listed && !m.Started
	o := resources.Orders{Peers: c.Status.Founders, State: member.ClusterStateNew, Empty: resources.EmptyAllowed}
	if founded {
		o.Peers, o.State = peers(seen), member.ClusterStateExisting
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

// deletePod deletes a pod that does not run. The UID and the version that was
// just read make it fail when the pod has started meanwhile.
func (p *Performer) deletePod(ctx context.Context, c *v1alpha1.EtcdCluster, name string) error {
	pod, err := p.ownPod(ctx, c, name)
	if err != nil || pod == nil || !pod.DeletionTimestamp.IsZero() {
		return err
	}
	for _, s := range pod.Status.ContainerStatuses {
		if s.Name == resources.EtcdContainer && s.State.Running != nil {
			return fmt.Errorf("deleting pod %s, which runs: %w", name, ErrStale)
		}
	}
	return p.delete(ctx, pod)
}

func (p *Performer) delete(ctx context.Context, pod *corev1.Pod) error {
	uid, version := pod.UID, pod.ResourceVersion
	err := p.Writer.Delete(ctx, pod, client.Preconditions{UID: &uid, ResourceVersion: &version})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting pod %s: %w", pod.Name, err)
	}
	return nil
}

// recordMember writes what is known of a member on its claim, and then takes
// back the pod's permission to start on an empty directory. In this order, for
// the claim outlives the pod.
func (p *Performer) recordMember(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, name string) error {
	m, _ := seen.Member(name)
	claim, err := p.ownClaim(ctx, c, name)
	if err != nil {
		return err
	}
	pod, err := p.ownPod(ctx, c, name)
	if err != nil {
		return err
	}
	record := map[string]string{}
	started := seen.List && m.Listed && m.Started
	if started {
		if have := claim.Annotations[v1alpha1.AnnotationMemberID]; have != "" && have != hex(m.ID) {
			return fmt.Errorf("recording member %x on claim %s, which names %s: %w", m.ID, claim.Name, have, ErrStale)
		}
		record[v1alpha1.AnnotationMemberID] = hex(m.ID)
	}
	if pod != nil && pod.Spec.NodeName != "" {
		record[v1alpha1.AnnotationNode] = pod.Spec.NodeName
	}
	if err := p.annotate(ctx, claim, record); err != nil {
		return err
	}
	if pod == nil || !started || pod.Annotations[member.AnnotationMayBeEmpty] != string(resources.EmptyAllowed) {
		return nil
	}
	forbid := resources.Orders{Peers: peers(seen), State: member.ClusterStateExisting, Empty: resources.EmptyForbidden}
	return p.annotate(ctx, pod, forbid.Annotations(c))
}

func hex(id uint64) string { return strconv.FormatUint(id, 16) }

// annotate patches annotations of the very object that was read, if any of
// them differ.
func (p *Performer) annotate(ctx context.Context, object client.Object, with map[string]string) error {
	before := object.DeepCopyObject().(client.Object)
	annotations := object.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	same := true
	for k, v := range with {
		same = same && annotations[k] == v
		annotations[k] = v
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
	claim, err := p.ownClaim(ctx, c, name)
	if err != nil {
		return err
	}
	if err := p.annotate(ctx, claim, map[string]string{v1alpha1.AnnotationRefused: m.Refusal}); err != nil {
		return err
	}
	return p.deletePod(ctx, c, name)
}
