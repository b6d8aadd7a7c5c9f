package perform

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// latchRestore writes into status for which EtcdRestore members are stopped next: whoever
// carries it on goes by that, and not by how the cluster looks half way.
func (p *Performer) latchRestore(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed) error {
	if err := p.wordStands(ctx, c, seen); err != nil {
		return err
	}
	now := metav1.NewTime(p.ServerTime.Or(p.Clock.Now())).Rfc3339Copy()
	c.Status.Restore = &v1alpha1.ClusterRestoreStatus{Name: seen.Recovery.Restore, UID: seen.Recovery.RestoreUID, Begun: &now}
	return nil
}

// wordStands says that the cluster is the one that the step was decided for, and that the
// EtcdRestore which wants it, if it was one, was not taken back meanwhile.
func (p *Performer) wordStands(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed) error {
	if err := p.unchanged(ctx, c); err != nil {
		return err
	}
	if p.BackupImage == "" {
		// Nobody could fill the new volumes, and the way back would be gone by then.
		return resources.ErrNoBackupImage
	}
	if seen.Recovery == nil || seen.Recovery.Restore == "" {
		return nil
	}
	name, r := seen.Recovery.Restore, &v1alpha1.EtcdRestore{}
	err := p.Live.Get(ctx, client.ObjectKey{Namespace: c.Namespace, Name: name}, r)
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("reading EtcdRestore %s: %w", name, err)
	}
	if err != nil || string(r.UID) != seen.Recovery.RestoreUID || !resources.RestoreStands(c, r) {
		return fmt.Errorf("EtcdRestore %s was taken back: %w", name, ErrStale)
	}
	return nil
}
