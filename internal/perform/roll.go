package perform

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// restartMember evicts the pod of a member that runs, after the others have said once
// more that they are a quorum without it. The pod is made again, from the spec of then,
// by another step; its data stays where it is. An eviction is counted by the cluster's
// disruption budget, so that a node that is drained at the same moment and a roll never
// take two members; the only member of a cluster, which no budget lets go, is deleted.
//
// Of two operators, one of which was held up since it looked, only one restarts a
// member: each of them touches the pods of all others between the reading of its own
// and the last look at the quorum, so that whoever read one of those before cannot
// delete it any more.
func (p *Performer) restartMember(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, step plan.Step) error {
	m, _ := seen.Member(step.Members[0])
	pod, err := p.outdatedPod(ctx, c, onMedium(resources.MadeAs(c, seen), seen, m.Name), m)
	if err != nil {
		return err
	}
	if !seen.List {
		return p.restartSilent(ctx, c, seen, m, pod)
	}
	if seen.Voters() > 1 {
		if m.Leads && (seen.ProposeFailed == "" || len(seen.Raised) > 0) {
			return fmt.Errorf("restarting %s, which leads: %w", m.Name, ErrStale)
		}
		// Before anything is written: what cannot be done now is tried again and again.
		if err := p.listedStill(ctx, c, seen); err != nil {
			return err
		}
		// The API server counts an eviction before it looks at its preconditions, and lets
		// nobody else go for two minutes after one that failed on them: so it is asked
		// before anything is written, and the pod is read again right before the act.
		if err := p.evict(ctx, pod, client.DryRunAll); err != nil {
			return err
		}
		if err := p.fence(ctx, c, seen, pod); err != nil {
			return err
		}
		if err := p.sparesNow(ctx, c, seen, m, seen.Voters()); err != nil {
			return err
		}
	}
	if err := p.listedStill(ctx, c, seen); err != nil {
		return err
	}
	if seen.Voters() == 1 {
		return p.delete(ctx, pod)
	}
	now, err := p.unfenced(ctx, c, pod)
	if err != nil {
		return err
	}
	return p.evict(ctx, now)
}

// unfenced is the same pod as it is now: the kubelet may have written its status, and no
// other operator may have fenced it.
func (p *Performer) unfenced(ctx context.Context, c *v1alpha1.EtcdCluster, pod *corev1.Pod) (*corev1.Pod, error) {
	now, err := p.ownPod(ctx, c, pod.Name)
	if err != nil {
		return nil, err
	}
	if now == nil || now.UID != pod.UID || !now.DeletionTimestamp.IsZero() || now.Annotations[v1alpha1.AnnotationFence] != pod.Annotations[v1alpha1.AnnotationFence] {
		return nil, fmt.Errorf("evicting %s, which another operator has to do with: %w", pod.Name, ErrStale)
	}
	return now, nil
}

// restartSilent deletes the pod of a member that answers nobody, and that the kubelet does
// not call ready, where there is no quorum to ask.
func (p *Performer) restartSilent(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, m plan.Member, pod *corev1.Pod) error {
	m.ID = m.RecordedID
	ready := slices.ContainsFunc(pod.Status.Conditions, func(is corev1.PodCondition) bool {
		return is.Type == corev1.PodReady && is.Status == corev1.ConditionTrue
	})
	if ready || p.answersNow(ctx, c, seen, m) {
		return fmt.Errorf("restarting %s, which is back: %w", m.Name, ErrStale)
	}
	return p.delete(ctx, pod)
}

// evict the very pod that was read, in the version that was read, if the disruption
// budget lets it go.
func (p *Performer) evict(ctx context.Context, pod *corev1.Pod, how ...client.SubResourceCreateOption) error {
	err := p.Writer.SubResource("eviction").Create(ctx, pod, &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace},
		DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID, ResourceVersion: &pod.ResourceVersion}},
	}, how...)
	switch {
	case client.IgnoreNotFound(err) == nil:
		return nil
	case apierrors.IsTooManyRequests(err):
		return fmt.Errorf("evicting %s: %w: %w", pod.Name, ErrNotYet, err)
	default:
		return fmt.Errorf("evicting %s: %w", pod.Name, err)
	}
}

// outdatedPod is the pod of a member that is to be made again from another spec than its
// own: it comes back on the volume that it has, and on no other.
func (p *Performer) outdatedPod(ctx context.Context, c, made *v1alpha1.EtcdCluster, m plan.Member) (*corev1.Pod, error) {
	claim, err := p.ownClaim(ctx, c, m.Name)
	if err != nil {
		return nil, err
	}
	pod, err := p.ownPod(ctx, c, m.Name)
	if err != nil {
		return nil, err
	}
	same := pod != nil && pod.DeletionTimestamp.IsZero() && string(pod.UID) == m.PodUID &&
		pod.Annotations[v1alpha1.AnnotationVolumeUID] == string(claim.UID) &&
		claim.Annotations[v1alpha1.AnnotationMemberID] == hex(cmp.Or(m.ID, m.RecordedID)) && claim.Annotations[v1alpha1.AnnotationRefused] == ""
	if !same || !outdated(made, m, pod) {
		return nil, fmt.Errorf("restarting %s, which is not as it was seen: %w", m.Name, ErrStale)
	}
	return pod, nil
}

// outdated says that a pod is to be made again: it was made from another spec, its Secret
// holds authorities besides those that it trusts, it could not be resized while it runs, or it
// mounts a survivor's volume that its own is filled from already.
func outdated(made *v1alpha1.EtcdCluster, m plan.Member, pod *corev1.Pod) bool {
	return pod.Annotations[v1alpha1.AnnotationTemplateHash] != resources.TemplateHash(made) || m.TrustOutdated ||
		pod.Annotations[v1alpha1.AnnotationResizeRefused] == resources.ComputeHash(made) ||
		resources.HoldsSurvivor(made, pod)
}

// fence has every other member's pod get another resourceVersion. The word names the
// one that it had, so it is always a new one.
func (p *Performer) fence(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, restarted *corev1.Pod) error {
	for _, m := range seen.Members {
		if !m.Listed || m.Name == restarted.Name {
			continue
		}
		pod, err := p.ownPod(ctx, c, m.Name)
		if err != nil {
			return err
		}
		if pod == nil || !pod.DeletionTimestamp.IsZero() {
			continue
		}
		word := string(restarted.UID) + "/" + pod.ResourceVersion
		if err := p.annotate(ctx, pod, map[string]string{v1alpha1.AnnotationFence: word}); err != nil {
			return err
		}
	}
	return nil
}

// listedStill says that etcd's members and their leader are those that were seen, and
// that no change of them can still come to pass. Where neither a proposal nor the listing
// of the alarms shows the latter, the list alone has to do.
func (p *Performer) listedStill(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed) error {
	if seen.ProposeFailed == "" || len(seen.Raised) > 0 {
		_, err := p.settled(ctx, c, seen)
		return err
	}
	leader, conn, err := p.reachLeader(c, seen)
	if err != nil {
		return err
	}
	list, err := conn.Members(ctx)
	if err != nil {
		return fmt.Errorf("reading the member list: %w: %w", ErrStale, err)
	}
	answer, err := conn.Status(ctx)
	if err != nil {
		return fmt.Errorf("asking who leads: %w: %w", ErrStale, err)
	}
	if answer.Leader != leader.ID || !sameMembers(seen, list) {
		return fmt.Errorf("the members or the leader have changed: %w", ErrStale)
	}
	return p.unchanged(ctx, c)
}

// resizePod changes the CPU and memory of the very pod that was seen, while it runs. What
// was given is put on record after it, so that a crash in between only does it again. Where
// the API server refuses that, because it does not know how or because the change would
// move the pod to another class of service, that is put on record instead, and the pod is
// made again.
func (p *Performer) resizePod(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, name string) error {
	m, _ := seen.Member(name)
	pod, err := p.ownPod(ctx, c, name)
	if err != nil {
		return err
	}
	if pod == nil || !pod.DeletionTimestamp.IsZero() || string(pod.UID) != m.PodUID {
		return fmt.Errorf("resizing %s, which has another pod by now: %w", name, ErrStale)
	}
	before, wanted := pod.DeepCopy(), resources.ComputeHash(c)
	resources.Resize(c, pod)
	record := map[string]string{v1alpha1.AnnotationResources: wanted, v1alpha1.AnnotationResizeRefused: ""}
	if !equality.Semantic.DeepEqual(before.Spec, pod.Spec) {
		err = p.Writer.SubResource("resize").Patch(ctx, pod, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	}
	switch {
	case apierrors.IsInvalid(err) || apierrors.IsMethodNotSupported(err) || apierrors.IsNotFound(err):
		pod, record = before, map[string]string{v1alpha1.AnnotationResizeRefused: wanted}
	case err != nil:
		return fmt.Errorf("resizing %s: %w", name, err)
	}
	return p.annotate(ctx, pod, record)
}

// downgrade takes a step of etcd's own downgrade, with the members and the leader as
// they were seen and nothing of an earlier step still to come.
func (p *Performer) downgrade(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, step plan.Step) error {
	leader, err := p.settled(ctx, c, seen)
	if err != nil {
		return err
	}
	if step.Kind == plan.CancelDowngrade {
		return refusal(leader.Downgrade(ctx, etcd.DowngradeCancel, seen.Downgrade))
	}
	to := seen.DowngradeTo + ".0"
	if err := leader.Downgrade(ctx, etcd.DowngradeValidate, to); err != nil {
		return refusal(fmt.Errorf("asking etcd whether a downgrade to %s is possible: %w", seen.DowngradeTo, err))
	}
	return refusal(leader.Downgrade(ctx, etcd.DowngradeEnable, to))
}
