package perform

import (
	"context"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/resources"
)

// restoreSource reads what a source names; nil for what is not there.
func (p *Performer) restoreSource(ctx context.Context, c *v1alpha1.EtcdCluster, from *v1alpha1.RestoreSource) (b *v1alpha1.EtcdBackup, a *v1alpha1.EtcdArchive, err error) {
	if from.BackupName != "" {
		b = &v1alpha1.EtcdBackup{}
		if err := p.Live.Get(ctx, client.ObjectKey{Namespace: c.Namespace, Name: from.BackupName}, b); client.IgnoreNotFound(err) != nil {
			return nil, nil, fmt.Errorf("reading EtcdBackup %s: %w", from.BackupName, err)
		} else if err != nil {
			b = nil
		}
	}
	if from.ArchiveName != "" {
		a = &v1alpha1.EtcdArchive{}
		if err := p.Live.Get(ctx, client.ObjectKey{Namespace: c.Namespace, Name: from.ArchiveName}, a); client.IgnoreNotFound(err) != nil {
			return nil, nil, fmt.Errorf("reading EtcdArchive %s: %w", from.ArchiveName, err)
		} else if err != nil {
			a = nil
		}
	}
	return b, a, nil
}

// rebuildPoint has the point put together that the cluster begins with. A Job that has ended
// without a result is made again, and finds what it has stored.
func (p *Performer) rebuildPoint(ctx context.Context, c *v1alpha1.EtcdCluster) error {
	from := resources.RestoreFrom(c)
	if from == nil || !resources.WantsPoint(from) || c.Status.RestorePoint != "" || c.Status.ClusterID != "" {
		return fmt.Errorf("putting the point together: %w", ErrStale)
	}
	if p.BackupImage == "" {
		return resources.ErrNoBackupImage
	}
	b, a, err := p.restoreSource(ctx, c, from)
	if err != nil {
		return err
	}
	point, blocked := resources.PointOf(c, b, a)
	if blocked != "" {
		return fmt.Errorf("putting the point together: %s: %w", blocked, ErrStale)
	}
	is := &batchv1.Job{}
	err = p.Live.Get(ctx, client.ObjectKey{Namespace: c.Namespace, Name: resources.RebuildJobName(c.Name)}, is)
	switch {
	case apierrors.IsNotFound(err):
		return p.createJob(ctx, resources.RebuildJob(c, point, p.BackupImage))
	case err != nil:
		return fmt.Errorf("reading Job %s: %w", resources.RebuildJobName(c.Name), err)
	case is.Labels[v1alpha1.LabelRestoring] != string(c.UID) || (is.Status.CompletionTime == nil && !resources.RebuildAstray(c, is)):
		return fmt.Errorf("making Job %s again: %w", is.Name, ErrStale)
	}
	return p.deleteJob(ctx, is)
}

// createJob unless there is one of that name: whether it is ours is seen by the next look.
func (p *Performer) createJob(ctx context.Context, job *batchv1.Job) error {
	if err := p.Writer.Create(ctx, job, client.FieldOwner(resources.FieldOwner)); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating Job %s: %w", job.Name, err)
	}
	return nil
}

// deleteJob as it was just read, and its pods after it.
func (p *Performer) deleteJob(ctx context.Context, is *batchv1.Job) error {
	err := p.Writer.Delete(ctx, is, client.Preconditions{UID: &is.UID, ResourceVersion: &is.ResourceVersion}, client.PropagationPolicy(metav1.DeletePropagationBackground))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting Job %s: %w", is.Name, err)
	}
	return nil
}

// latchPoint records what all founders begin with, once.
func latchPoint(s *v1alpha1.EtcdClusterStatus, id string) error {
	if s.RestorePoint != "" || s.ClusterID != "" || id == "" {
		return fmt.Errorf("latching the point that the cluster begins with: %w", ErrStale)
	}
	s.RestorePoint = id
	return nil
}
