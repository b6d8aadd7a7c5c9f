package perform

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// restartMember deletes the pod of a member that runs, after the others have said once
// more that they are a quorum without it. The pod is made again, from the spec of then,
// by another step; its data stays where it is.
//
// Of two operators, one of which was held up since it looked, only one restarts a
// member: each of them touches the pods of all others between the reading of its own
// and the last look at the quorum, so that whoever read one of those before cannot
// delete it any more.
func (p *Performer) restartMember(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, step plan.Step) error {
	m, _ := seen.Member(step.Members[0])
	pod, err := p.outdatedPod(ctx, c, startedAs(c, seen), m)
	if err != nil {
		return err
	}
	if seen.Voters() > 1 {
		if m.Leads && seen.ProposeFailed == "" {
			return fmt.Errorf("restarting %s, which leads: %w", m.Name, ErrStale)
		}
		// Before anything is written: what cannot be done now is tried again and again.
		if err := p.listedStill(ctx, c, seen); err != nil {
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
	return p.delete(ctx, pod)
}

// startedAs is the cluster as pods are made from it: while etcd of the wanted version
// cannot open the data, at the version of the oldest member.
func startedAs(c *v1alpha1.EtcdCluster, seen plan.Observed) *v1alpha1.EtcdCluster {
	if seen.Barred() == "" {
		return c
	}
	return resources.AtVersion(c, c.Status.Version)
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
		claim.Annotations[v1alpha1.AnnotationMemberID] == hex(m.ID) && claim.Annotations[v1alpha1.AnnotationRefused] == ""
	if !same || (pod.Annotations[v1alpha1.AnnotationTemplateHash] == resources.TemplateHash(made) && !m.TrustOutdated) {
		return nil, fmt.Errorf("restarting %s, which is not as it was seen: %w", m.Name, ErrStale)
	}
	return pod, nil
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
// that no change of them can still come to pass. A full database refuses the proposal
// that would show the latter; then the list alone has to do, for a larger quota is what
// such a database needs.
func (p *Performer) listedStill(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed) error {
	if seen.ProposeFailed == "" {
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
