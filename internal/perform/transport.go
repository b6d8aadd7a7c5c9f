package perform

import (
	"context"
	"fmt"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// updateMember gives a member a peer URL with TLS, after the pods of all voters were read
// once more: each of them has to be able to dial it there, and it to be dialed.
func (p *Performer) updateMember(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, step plan.Step) error {
	leader, err := p.settled(ctx, c, seen)
	if err != nil {
		return err
	}
	for _, m := range seen.Members {
		if !m.Listed {
			continue
		}
		pod, err := p.ownPod(ctx, c, m.Name)
		if err != nil {
			return err
		}
		if pod == nil || !pod.DeletionTimestamp.IsZero() || string(pod.UID) != m.PodUID {
			return fmt.Errorf("updating %s beside %s, which has another pod by now: %w", step.Members[0], m.Name, ErrStale)
		}
		if _, tls := resources.Taken(pod); !tls {
			return fmt.Errorf("updating %s beside %s, which takes no TLS: %w", step.Members[0], m.Name, ErrStale)
		}
	}
	if err := leader.UpdateMember(ctx, step.ID, resources.TurnedPeerURL(c, step.Members[0])); err != nil {
		return refusal(fmt.Errorf("updating %s (%x): %w", step.Members[0], step.ID, err))
	}
	return nil
}
