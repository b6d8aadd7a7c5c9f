package observe

import (
	"context"
	"fmt"
	"slices"
	"time"

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
		return o.pointDue(ctx, c, p)
	}
	if err != nil {
		return nil, "", fmt.Errorf("reading Job %s: %w", key.Name, err)
	}
	if job.Labels[v1alpha1.LabelRestoring] != string(c.UID) {
		return nil, fmt.Sprintf("Job %s belongs to somebody else — the point of the archive cannot be put together — delete or rename it", job.Name), nil
	}
	if resources.RebuildAstray(c, job) {
		return o.anotherWay(ctx, c, p, job)
	}
	pods, err := o.podsOf(ctx, job)
	if err != nil {
		return nil, "", err
	}
	result := resultOf(job, pods, rebuilt)
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
	waits := fmt.Sprintf("Job %s puts the point of the archive together that all founders begin with", job.Name)
	if doing := o.doing(ctx, pods, result); doing != "" {
		waits += ": " + doing
	}
	return &plan.Point{Waits: waits}, "", nil
}

// pointDue has a Job made, if the Secrets are there that its pod would wait for without a word.
func (o *Observer) pointDue(ctx context.Context, c *v1alpha1.EtcdCluster, p resources.Point) (*plan.Point, string, error) {
	_, blocked, err := o.secrets(ctx, c.Namespace, resources.Restore{Store: p.Store, Identity: p.Identity})
	if err != nil || blocked != "" {
		return nil, blocked, err
	}
	return &plan.Point{Due: true}, "", nil
}

// anotherWay has a Job made again whose way to the archive the user has corrected since.
func (o *Observer) anotherWay(ctx context.Context, c *v1alpha1.EtcdCluster, p resources.Point, job *batchv1.Job) (*plan.Point, string, error) {
	if !job.DeletionTimestamp.IsZero() {
		return &plan.Point{Waits: fmt.Sprintf("Job %s, whose way to the archive was corrected, is being deleted", job.Name)}, "", nil
	}
	return o.pointDue(ctx, c, p)
}

// doing says what a Job that has not ended is at, and what stands in its way; empty while none of
// its pods has told anything. A process that tries again is not to do so in silence.
func (o *Observer) doing(ctx context.Context, pods []corev1.Pod, result *snapshot.Result) string {
	for i := range pods {
		if pods[i].Status.Phase != corev1.PodRunning {
			continue
		}
		if p := o.progress(ctx, &pods[i]); p != nil {
			return stable(p.Story())
		}
	}
	if result != nil && result.Outcome == snapshot.OutcomeFailed && !result.Permanent() {
		return "a pod of it has failed, and another one follows: " + result.Message
	}
	return ""
}

// progress that a pod tells; nil if it does not, as one that starts or has just ended.
func (o *Observer) progress(ctx context.Context, pod *corev1.Pod) *snapshot.Progress {
	if o.Progress == nil || pod.Status.PodIP == "" {
		return nil
	}
	p, err := o.Progress(ctx, pod.Status.PodIP)
	if err != nil {
		return nil
	}
	return p
}

// askedEvery is how often a founder is asked whether its volume is filled. A founding is looked at
// far more often, and who does not answer takes a second of every look.
const askedEvery = 2 * time.Second

// hindrance is what kept a founder's volume from being filled at a time.
type hindrance struct {
	asked    time.Time
	problems []plan.Problem
}

// hindered tells of what keeps a founder's volume from being filled while that is still tried: the
// container would say so only when it has given up, after minutes. One founder is asked: they all
// go the same way to the same store.
func (o *Observer) hindered(ctx context.Context, m *memory, k *kubernetes, seen plan.Observed) []plan.Problem {
	// Once the cluster is founded its NetworkPolicy lets nobody ask any more.
	if seen.ClusterID != 0 || !slices.ContainsFunc(k.pods, func(pod corev1.Pod) bool { return resources.Fills(&pod) }) {
		m.filling = hindrance{}
		return nil
	}
	if k.now.Sub(m.filling.asked) >= askedEvery {
		m.filling = hindrance{asked: k.now, problems: o.hindrances(ctx, k, seen)}
	}
	return m.filling.problems
}

func (o *Observer) hindrances(ctx context.Context, k *kubernetes, seen plan.Observed) []plan.Problem {
	for i := range k.pods {
		pod := &k.pods[i]
		if m, known := seen.Member(pod.Name); !known || seen.Removed(m) || !resources.Fills(pod) {
			continue
		}
		p := o.progress(ctx, pod)
		if p == nil || p.Trouble == nil {
			break
		}
		return []plan.Problem{{Reason: v1alpha1.ReasonRestoreBlocked, Severity: plan.Pending, Message: fmt.Sprintf(
			"the volume of %s is not filled yet: %s", pod.Name, stable(p.Story()))}}
	}
	return nil
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

// resultOf the work that the Job's pods have left; nil if they left none. A good one counts before
// those of pods that failed, and of those the last, unless that was only ended with its Job.
func resultOf(job *batchv1.Job, pods []corev1.Pod, good func(*snapshot.Result) bool) *snapshot.Result {
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
	if timedOut(job) && snapshot.OnlyEnded(found) {
		return nil
	}
	return found
}

// timedOut says that the Job has failed because its time was over.
func timedOut(job *batchv1.Job) bool {
	return slices.ContainsFunc(job.Status.Conditions, func(is batchv1.JobCondition) bool {
		return is.Status == corev1.ConditionTrue && is.Type == batchv1.JobFailed && is.Reason == batchv1.JobReasonDeadlineExceeded
	})
}
