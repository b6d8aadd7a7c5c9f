package observe

import (
	"context"
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/internal/snapshot"
)

// restorePoint is the point of an archive that a cluster begins with, until it is on record.
// The text says why it cannot be put together.
func (o *Observer) restorePoint(ctx context.Context, c *v1alpha1.EtcdCluster, b *v1alpha1.EtcdBackup, a *v1alpha1.EtcdArchive) (*plan.Point, string, error) {
	p, blocked := resources.PointOf(c, b, a)
	if blocked != "" {
		return nil, blocked, nil
	}
	job := &batchv1.Job{}
	key := client.ObjectKey{Namespace: c.Namespace, Name: resources.RebuildJobName(c.Name)}
	err := o.Live.Get(ctx, key, job)
	if apierrors.IsNotFound(err) {
		_, blocked, err := o.secrets(ctx, c.Namespace, resources.Restore{Store: p.Store, Identity: p.Identity})
		if err != nil || blocked != "" {
			return nil, blocked, err
		}
		return &plan.Point{Due: true}, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("reading Job %s: %w", key.Name, err)
	}
	if job.Labels[v1alpha1.LabelRestoring] != string(c.UID) {
		return nil, fmt.Sprintf("Job %s belongs to somebody else — the point of the archive cannot be put together — delete or rename it", job.Name), nil
	}
	pods, err := o.podsOf(ctx, job)
	if err != nil {
		return nil, "", err
	}
	result := resultOf(pods, rebuilt)
	for _, condition := range job.Status.Conditions {
		switch {
		case condition.Status != corev1.ConditionTrue || !job.DeletionTimestamp.IsZero():
		case condition.Type == batchv1.JobComplete && rebuilt(result):
			return &plan.Point{BackupID: result.Backup.ID}, "", nil
		case condition.Type == batchv1.JobComplete:
			// It is made again, and finds what it has stored.
			return &plan.Point{Due: true}, "", nil
		case condition.Type == batchv1.JobFailed && result != nil && result.Outcome == snapshot.OutcomeFailed:
			return nil, fmt.Sprintf("%s; it is not tried again by itself: when that is mended, delete Job %s", result.Message, job.Name), nil
		case condition.Type == batchv1.JobFailed:
			return nil, fmt.Sprintf("Job %s failed: %s — the cluster cannot begin with the point of the archive — see the logs of its pods, and delete it to try again", job.Name, condition.Message), nil
		}
	}
	return &plan.Point{Waits: fmt.Sprintf("Job %s puts the point of the archive together that all founders begin with", job.Name)}, "", nil
}

func rebuilt(r *snapshot.Result) bool {
	return r != nil && r.Operation == snapshot.OperationRebuild && r.Outcome == snapshot.OutcomeSucceeded && r.Backup != nil && r.Backup.ID != ""
}

// podsOf the very Job, the newest first.
func (o *Observer) podsOf(ctx context.Context, job *batchv1.Job) ([]corev1.Pod, error) {
	pods := &corev1.PodList{}
	err := o.Live.List(ctx, pods, client.InNamespace(job.Namespace), client.MatchingLabels{
		batchv1.JobNameLabel: job.Name, v1alpha1.LabelRestoring: job.Labels[v1alpha1.LabelRestoring],
	})
	if err != nil {
		return nil, fmt.Errorf("listing the pods of Job %s: %w", job.Name, err)
	}
	pods.Items = slices.DeleteFunc(pods.Items, func(pod corev1.Pod) bool { return !resources.MadeBy(&pod, job) })
	slices.SortStableFunc(pods.Items, func(a, b corev1.Pod) int { return b.CreationTimestamp.Compare(a.CreationTimestamp.Time) })
	return pods.Items, nil
}

// resultOf the work that the pods have left; nil if they left none. A good one counts before
// those of pods that failed, and of those the last.
func resultOf(pods []corev1.Pod, good func(*snapshot.Result) bool) *snapshot.Result {
	var found *snapshot.Result
	for i := range pods {
		ended := resources.EndedWorker(&pods[i])
		if ended == nil {
			continue
		}
		if result, err := snapshot.ParseResult(ended.Message); err == nil && (found == nil || good(&result)) {
			found = &result
		}
	}
	return found
}
