package perform

import (
	"context"
	"fmt"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// adopt writes into status who the members of the deleted cluster were, as the API server
// shows them now. The volumes stay as they are: their labels and their markers already
// carry the UID that spec.adopt names.
func (p *Performer) adopt(ctx context.Context, c *v1alpha1.EtcdCluster, founders []string) error {
	claims, pods, err := p.neighbours(ctx, c)
	if err != nil {
		return err
	}
	s, a := &c.Status, resources.Adoption(c, claims.Items, pods.Items)
	if _, blocked := a.Blocked(int(c.Spec.Size)); len(s.Founders) > 0 || blocked != "" {
		return fmt.Errorf("adopting cluster %s: %w", a.ClusterUID, ErrStale)
	}
	s.Founders, s.Incarnation = founders, max(1, a.Incarnation, s.Incarnation)
	for i := range claims.Items {
		if n, ok := resources.Ordinal(c.Name, resources.MemberOfClaim(claims.Items[i].Name)); ok {
			s.NextOrdinal = max(s.NextOrdinal, int32(n)+1) //nolint:gosec // the API keeps ordinals within 32 bits
		}
	}
	for _, f := range founders {
		s.NextOrdinal = max(s.NextOrdinal, ordinalOf(f)+1)
	}
	if plan.Minor(c.Spec.Version) != "3.7" {
		// The old status is gone, and with it whether the logs may hold entries of etcd 3.5.
		s.OldEntries = -1
	}
	return nil
}
