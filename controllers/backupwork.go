package controllers

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/backup"
	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/internal/snapshot"
)

// work is what is known of one of the backup's Jobs. Its pods are in no cache: only
// those of a Job that is there are read.
func (r *EtcdBackupReconciler) work(ctx context.Context, b *v1alpha1.EtcdBackup, operation snapshot.Operation) (backup.Work, error) {
	job := &batchv1.Job{}
	key := client.ObjectKey{Namespace: b.Namespace, Name: resources.JobName(b.Name, operation)}
	// Read from the API server: the cache does not hold a Job that is not ours.
	err := r.Live.Get(ctx, key, job)
	if apierrors.IsNotFound(err) {
		return backup.Work{}, nil
	}
	if err != nil {
		return backup.Work{}, fmt.Errorf("reading Job %s: %w", key.Name, err)
	}
	if job.Labels[v1alpha1.LabelBackupUID] != string(b.UID) {
		return backup.Work{Name: job.Name, State: backup.WorkForeign}, nil
	}
	w := workOf(job)
	w.Age = r.now().Sub(job.CreationTimestamp.Time)
	if ended := endOf(job); !ended.IsZero() {
		w.EndedFor = r.now().Sub(ended)
	}
	pods, err := podsOf(ctx, r.Live, job, v1alpha1.LabelBackupUID)
	if err != nil {
		return w, err
	}
	follow(ctx, r.Progress, &w, pods)
	return w, nil
}

// doubted is when somebody else has last found the backup to be bad: a Job that read it for an
// EtcdRestore, or for spec.recovery. Zero if nobody has since it was last tried out.
func (r *EtcdBackupReconciler) doubted(ctx context.Context, b *v1alpha1.EtcdBackup) (at time.Time, err error) {
	if b.Status.ID == "" || b.Spec.Verify == v1alpha1.VerifyReadBack {
		return time.Time{}, nil
	}
	var jobs batchv1.JobList
	if err := r.Client.List(ctx, &jobs, client.InNamespace(b.Namespace), client.MatchingLabels{v1alpha1.LabelBackup: b.Name}); err != nil {
		return time.Time{}, fmt.Errorf("listing the Jobs that read EtcdBackup %s: %w", b.Name, err)
	}
	for i := range jobs.Items {
		job := &jobs.Items[i]
		w, ended := workOf(job), endOf(job)
		if w.State != backup.WorkFailed || job.Annotations[v1alpha1.AnnotationChecks] != b.Status.ID || !ended.After(at) || !ended.After(backup.LastDrill(b)) {
			continue
		}
		pods, err := podsOf(ctx, r.Live, job, v1alpha1.LabelBackup)
		if err != nil {
			return time.Time{}, err
		}
		follow(ctx, r.Progress, &w, pods)
		if found := w.Result; found != nil && found.Operation == snapshot.OperationCheck && found.Outcome == snapshot.OutcomeFailed && found.Reason.Condemns() {
			at = ended
		}
	}
	return at, nil
}

// startJob makes a Job of the backup program, whose image is this. Whether the Job of that name
// is ours is seen by the next look.
func startJob(ctx context.Context, writer client.Writer, image string, job *batchv1.Job) error {
	if image == "" {
		return resources.ErrNoBackupImage
	}
	if err := writer.Create(ctx, job, client.FieldOwner(resources.FieldOwner)); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating Job %s: %w", job.Name, err)
	}
	return nil
}

// podsOf the very Job; by says in which label it and its pods name whom they work for.
func podsOf(ctx context.Context, live client.Reader, job *batchv1.Job, by string) ([]corev1.Pod, error) {
	pods := &corev1.PodList{}
	err := live.List(ctx, pods, client.InNamespace(job.Namespace), client.MatchingLabels{batchv1.JobNameLabel: job.Name, by: job.Labels[by]})
	if err != nil {
		return nil, fmt.Errorf("listing the pods of Job %s: %w", job.Name, err)
	}
	return slices.DeleteFunc(pods.Items, func(pod corev1.Pod) bool { return !resources.MadeBy(&pod, job) }), nil
}

// workOf is what the Job itself says. One that is being deleted is there until it is
// gone.
func workOf(job *batchv1.Job) backup.Work {
	w := backup.Work{Name: job.Name, State: backup.WorkRunning, Ending: !job.DeletionTimestamp.IsZero()}
	for _, c := range job.Status.Conditions {
		switch {
		case c.Status != corev1.ConditionTrue || !job.DeletionTimestamp.IsZero():
		case c.Type == batchv1.JobComplete:
			w.State = backup.WorkSucceeded
		case c.Type == batchv1.JobFailed:
			w.State = backup.WorkFailed
			w.TimedOut = c.Reason == batchv1.JobReasonDeadlineExceeded
			w.Trouble = c.Message
		}
	}
	return w
}

// endOf a Job; zero while it has not ended.
func endOf(job *batchv1.Job) time.Time {
	for _, c := range job.Status.Conditions {
		if c.Status == corev1.ConditionTrue && (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) {
			return c.LastTransitionTime.Time
		}
	}
	return time.Time{}
}

// follow the Job's pods: the newest one that runs tells its progress, the newest one
// that has ended its result.
func follow(ctx context.Context, ask progressAsker, w *backup.Work, pods []corev1.Pod) {
	newestFirst(pods)
	for i := range pods {
		if ended := resources.EndedWorker(&pods[i]); ended != nil && w.Result == nil {
			if result, err := snapshot.ParseResult(ended.Message); err == nil {
				w.Result = &result
			} else if w.State == backup.WorkFailed && ended.ExitCode != 0 {
				w.Trouble = lastWords(ended)
			}
		}
	}
	if w.TimedOut && snapshot.OnlyEnded(w.Result) {
		w.Result = nil
	}
	if w.State != backup.WorkRunning || len(pods) == 0 {
		return
	}
	newest := &pods[0]
	if newest.Status.Phase == corev1.PodRunning && newest.Status.PodIP != "" {
		progress, err := ask(ctx, newest.Status.PodIP)
		if err != nil {
			ctrl.LoggerFrom(ctx).V(1).Info("Asking for the progress", "pod", newest.Name, "reason", err.Error())
		}
		w.Progress = progress
		return
	}
	w.Trouble = waitsFor(newest)
}

func newestFirst(pods []corev1.Pod) {
	slices.SortFunc(pods, func(a, b corev1.Pod) int {
		return cmp.Or(b.CreationTimestamp.Compare(a.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
}

// progressAsker asks the pod with this address how far it is.
type progressAsker func(ctx context.Context, podIP string) (*snapshot.Progress, error)

// lastWords of a process that left no result: it was killed, or it never ran.
func lastWords(ended *corev1.ContainerStateTerminated) string {
	lines := strings.Split(strings.TrimSpace(ended.Message), "\n")
	last := lines[len(lines)-1]
	if len(last) > 300 {
		last = strings.ToValidUTF8(last[:300], "")
	}
	return strings.TrimSuffix(fmt.Sprintf("exit code %d, %s: %s", ended.ExitCode, ended.Reason, last), ": ")
}

// waitsFor is why a pod does not run: the scheduler's word, or what a container
// waits for.
func waitsFor(pod *corev1.Pod) string {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Message != "" {
			return c.Message
		}
	}
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		switch waiting := s.State.Waiting; {
		case waiting == nil, waiting.Reason == "PodInitializing", waiting.Reason == "ContainerCreating":
		default:
			return strings.TrimSuffix(fmt.Sprintf("container %s is in %s: %s", s.Name, waiting.Reason, waiting.Message), ": ")
		}
	}
	return ""
}

// progressClient asks pods how far they are: only pods that the API server names, and
// never through a proxy, which would not know their addresses.
var progressClient = &http.Client{
	Timeout:       time.Second,
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// AskProgress asks the pod with this address how far it is.
func AskProgress(ctx context.Context, podIP string) (*snapshot.Progress, error) {
	return askProgress(ctx, net.JoinHostPort(podIP, strconv.Itoa(snapshot.ProgressPort)))
}

func askProgress(ctx context.Context, address string) (*snapshot.Progress, error) {
	url := "http://" + address + snapshot.ProgressPath
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("asking for the progress: %w", err)
	}
	response, err := progressClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoProgress, err)
	}
	defer response.Body.Close()
	p := &snapshot.Progress{}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: %s", errNoProgress, response.Status)
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, snapshot.MaxProgress)).Decode(p); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoProgress, err)
	}
	return p, nil
}
