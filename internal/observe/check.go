package observe

import (
	"context"
	"fmt"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/internal/snapshot"
)

const (
	// LookCounts is for how long it counts that a backup was read.
	LookCounts = time.Hour
	// SecretsCount is for how long that counts whatever becomes of the Secrets: one that somebody
	// renews all the time holds nobody up for ever.
	SecretsCount = 5 * time.Minute
	// lookPause is how long a backup that could not be read for what may pass, such as a store
	// that does not answer, is left alone before it is read once more.
	lookPause = 5 * time.Minute
)

// check puts into the word what is known of its backup by the Job that reads it, and answers
// with the UID of a Job that nobody needs; empty for none.
func (o *Observer) check(ctx context.Context, c *v1alpha1.EtcdCluster, m *memory, said *plan.Recovery) (spent string, err error) {
	stands := needsLook(said)
	needed := stands && said.Told
	if stands != needed || (!needed && m.checkGone) {
		// A word that does not count for the moment keeps what was read for it.
		return "", nil
	}
	job, err := o.checkJob(ctx, c)
	if err != nil && !needed {
		// What is left of a word keeps nobody from looking at the cluster.
		ctrl.LoggerFrom(ctx).V(1).Info("Looking for a Job of spec.recovery", "reason", err.Error())
		return "", nil
	}
	if err != nil {
		return "", err
	}
	ours := job != nil && job.Labels[v1alpha1.LabelRestoring] == string(c.UID) && metav1.IsControlledBy(job, c)
	m.checkGone = !needed && !ours
	switch {
	case !needed && ours && job.DeletionTimestamp.IsZero():
		return string(job.UID), nil
	case !needed:
		return "", nil
	case job == nil:
		said.Look.Due = true
		return "", nil
	case !ours:
		said.Look.Failed = fmt.Sprintf("Job %s belongs to somebody else — nobody has seen that the backup can be read, and nobody is stopped for it — delete or rename it", job.Name)
		return "", nil
	default:
		return o.look(ctx, job, said)
	}
}

// needsLook says that a backup has to be read before the word is obeyed: that of an EtcdRestore
// was read for it, and a word for which members were stopped goes on.
func needsLook(said *plan.Recovery) bool {
	return said != nil && said.Restore == "" && said.Survivor == "" && !said.Obeyed && said.Blocked == ""
}

// checkJob is the Job of that name; nil if there is none.
func (o *Observer) checkJob(ctx context.Context, c *v1alpha1.EtcdCluster) (*batchv1.Job, error) {
	job := &batchv1.Job{}
	err := o.Live.Get(ctx, client.ObjectKey{Namespace: c.Namespace, Name: resources.RecoveryCheckJobName(c.Name)}, job)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading Job %s: %w", resources.RecoveryCheckJobName(c.Name), err)
	}
	return job, nil
}

// look is what a Job of ours has found, if it is of this word and reads this backup.
func (o *Observer) look(ctx context.Context, job *batchv1.Job, said *plan.Recovery) (spent string, err error) {
	switch {
	case !job.DeletionTimestamp.IsZero():
		said.Look.Waits = fmt.Sprintf("Job %s, which is of before, is being deleted", job.Name)
		return "", nil
	case job.Annotations[v1alpha1.AnnotationReads] != said.Reads:
		return string(job.UID), nil
	}
	pods, err := o.podsOf(ctx, job)
	if err != nil {
		return "", err
	}
	read := func(r *snapshot.Result) bool { return checked(r, said.BackupID) }
	result, ended, how := resultOf(job, pods, read), time.Time{}, batchv1.JobCondition{}
	for _, is := range job.Status.Conditions {
		if is.Status == corev1.ConditionTrue && (is.Type == batchv1.JobComplete || is.Type == batchv1.JobFailed) {
			ended, how = is.LastTransitionTime.Time, is
		}
	}
	since := o.ServerTime.Or(o.Clock.Now()).Sub(ended)
	switch {
	case how.Type == "":
		said.Look.Waits = o.reading(ctx, job, pods, result)
	case job.Annotations[v1alpha1.AnnotationSecrets] != said.Secrets && (how.Type == batchv1.JobFailed || since >= SecretsCount):
		// Somebody has mended a key or credentials, or broken them: the members that begin with
		// the backup would read it with what nobody has tried. A Secret that somebody renews all
		// the time holds nobody up for ever.
		return string(job.UID), nil
	case how.Type == batchv1.JobComplete && read(result) && since <= LookCounts:
		said.Look.Done = true
	case how.Type == batchv1.JobComplete && !read(result) && since < lookPause:
		said.Look.Failed = fmt.Sprintf("Job %s has ended, and what it found is lost with its pod — nobody has seen that the backup can be read — nobody was stopped, and it is read again after %s", job.Name, ended.Add(lookPause).UTC().Format(time.RFC3339))
	case how.Type == batchv1.JobComplete:
		// It is too long ago, or what it found is lost.
		return string(job.UID), nil
	case final(result):
		said.Look.Failed = fmt.Sprintf("%s; nobody was stopped: name another backup in spec.recovery, or a survivor; this one is read again when it, the word or a Secret of it changes, or Job %s is deleted", result.Message, job.Name)
	case since < lookPause:
		said.Look.Failed = fmt.Sprintf("%s; nobody was stopped, and it is read again after %s", unread(job, how, result), ended.Add(lookPause).UTC().Format(time.RFC3339))
	default:
		return string(job.UID), nil
	}
	return "", nil
}

// checked says that the very backup was read to its end.
func checked(r *snapshot.Result, id string) bool {
	return r != nil && r.Operation == snapshot.OperationCheck && r.Outcome == snapshot.OutcomeSucceeded && r.Backup != nil && r.Backup.ID == id
}

// final says that the program has found something that no other try changes.
func final(r *snapshot.Result) bool {
	return failed(r) && (r.Reason.Permanent() || r.Reason.Condemns())
}

func failed(r *snapshot.Result) bool {
	return r != nil && r.Operation == snapshot.OperationCheck && r.Outcome == snapshot.OutcomeFailed
}

// unread is what a Job that has failed says, or what Kubernetes says of it.
func unread(job *batchv1.Job, how batchv1.JobCondition, r *snapshot.Result) string {
	if failed(r) {
		return r.Message
	}
	return fmt.Sprintf("Job %s failed: %s — nobody has seen that the backup can be read — see the logs of its pods, or name another backup or a survivor in spec.recovery", job.Name, how.Message)
}

// reading is how far the Job is, and what the last of its pods that has failed has said.
func (o *Observer) reading(ctx context.Context, job *batchv1.Job, pods []corev1.Pod, last *snapshot.Result) string {
	is := o.readSoFar(ctx, pods)
	if failed(last) && !strings.Contains(is, last.Message) {
		is += "; the try before failed: " + last.Message
	}
	return fmt.Sprintf("Job %s %s", job.Name, is)
}

// readSoFar is in tenths, for each word of it is a write of status.
func (o *Observer) readSoFar(ctx context.Context, pods []corev1.Pod) string {
	const started = "was started"
	if len(pods) == 0 {
		return started + ", and has no pod yet (kubectl describe job says why, if none comes)"
	}
	newest := &pods[0]
	if newest.Status.Phase != corev1.PodRunning {
		if why := waitingText(newest); why != "" && resources.EndedWorker(newest) == nil {
			return started + ", and " + why
		}
		return started
	}
	p := o.progress(ctx, newest)
	switch {
	case p == nil:
		return started
	case p.Trouble != nil:
		return "is at it: " + stable(p.Story())
	case p.TotalBytes <= 0:
		return started
	default:
		return fmt.Sprintf("has read %d%% of %d MiB, try %d", 10*(10*min(p.BytesRead, p.TotalBytes)/p.TotalBytes), (p.TotalBytes+1<<20-1)>>20, p.Attempt)
	}
}
