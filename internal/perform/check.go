package perform

import (
	"context"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// checkBackup has the backup read that spec.recovery names, if it is still the one that was
// looked at: what the Job finds is believed of that one alone.
func (p *Performer) checkBackup(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed) error {
	if err := p.wordStands(ctx, c, seen); err != nil {
		return err
	}
	r := seen.Recovery
	if r == nil || r.Restore != "" || r.Backup == "" || c.Spec.Recovery == nil {
		return fmt.Errorf("reading a backup that nobody wants: %w", ErrStale)
	}
	from := resources.RecoveryFrom(c.Spec.Recovery)
	b, _, err := p.restoreSource(ctx, c, from)
	if err != nil {
		return err
	}
	with, blocked := resources.RestoreOf(c, from, b, nil)
	if blocked != "" || resources.Reads(c, with) != r.Reads {
		return fmt.Errorf("reading EtcdBackup %s, which is another one now: %w", r.Backup, ErrStale)
	}
	with.BackupImage, with.Secrets = p.BackupImage, r.Secrets
	return p.createJob(ctx, resources.RecoveryCheckJob(c, with))
}

// dropCheck deletes the Job with this UID that reads a backup, and no other.
func (p *Performer) dropCheck(ctx context.Context, c *v1alpha1.EtcdCluster, uid string) error {
	is := &batchv1.Job{}
	key := client.ObjectKey{Namespace: c.Namespace, Name: resources.RecoveryCheckJobName(c.Name)}
	err := p.Live.Get(ctx, key, is)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("reading Job %s: %w", key.Name, err)
	case string(is.UID) != uid || is.Labels[v1alpha1.LabelRestoring] != string(c.UID):
		return fmt.Errorf("deleting Job %s, which is another one now: %w", key.Name, ErrStale)
	case !is.DeletionTimestamp.IsZero():
		return nil
	}
	return p.deleteJob(ctx, is)
}
