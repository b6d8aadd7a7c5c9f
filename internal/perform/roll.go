package perform

import (
	"context"
	"fmt"
	"slices"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// restartMember deletes the pod of a member that runs, after the others have said once
// more that they are a quorum without it. The pod is made again, from the spec of then,
// by another step; its data stays where it is.
func (p *Performer) restartMember(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, step plan.Step) error {
	m, _ := seen.Member(step.Members[0])
	if err := p.listedStill(ctx, c, seen); err != nil {
		return err
	}
	if seen.Voters() > 1 {
		if m.Leads {
			return fmt.Errorf("restarting %s, which leads: %w", m.Name, ErrStale)
		}
		if err := p.sparesNow(ctx, c, seen, m, seen.Voters()); err != nil {
			return err
		}
	}
	// It comes back on this volume, and on no other.
	claim, err := p.ownClaim(ctx, c, m.Name)
	if err != nil {
		return err
	}
	pod, err := p.ownPod(ctx, c, m.Name)
	if err != nil {
		return err
	}
	same := pod != nil && pod.DeletionTimestamp.IsZero() && string(pod.UID) == m.PodUID &&
		pod.Annotations[v1alpha1.AnnotationVolumeUID] == string(claim.UID) &&
		claim.Annotations[v1alpha1.AnnotationMemberID] == hex(m.ID) && claim.Annotations[v1alpha1.AnnotationRefused] == ""
	if !same || pod.Annotations[v1alpha1.AnnotationTemplateHash] == resources.TemplateHash(c) {
		return fmt.Errorf("restarting %s, which is not as it was seen: %w", m.Name, ErrStale)
	}
	return p.delete(ctx, pod)
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
	i := slices.IndexFunc(seen.Members, func(m plan.Member) bool { return m.Leads && m.Healthy() })
	if i < 0 {
		return fmt.Errorf("asking the leader, whom nobody can reach: %w", ErrStale)
	}
	leader := seen.Members[i]
	conn, err := p.Etcd.Reach(client.ObjectKeyFromObject(c), c.UID, leader.Name)
	if err != nil {
		return fmt.Errorf("asking the leader: %w: %w", ErrStale, err)
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
