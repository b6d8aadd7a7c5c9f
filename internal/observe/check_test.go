package observe

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/internal/snapshot"
)

// asked is a bereft cluster whose word counts.
func asked(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	w := bereft(t, objects...)
	tells(w.cluster, v1alpha1.ReasonQuorumLost)
	w.see()
	w.clock.SetTime(w.clock.Now().Add(toldFor))
	return w
}

// withKey is a backup that is read with the Secrets s3 and age.
func withKey() *v1alpha1.EtcdBackup {
	b := nightly()
	b.Spec.Store.S3.CredentialsSecretRef = &v1alpha1.SecretReference{Name: "s3"}
	return b
}

func secretNamed(name, version string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", ResourceVersion: version}}
}

// reads is the Job that reads a backup for the word of now, with these Secrets, which has ended
// so long ago if it has.
func (w *world) reads(b *v1alpha1.EtcdBackup, secrets string, is batchv1.JobConditionType, ago time.Duration) *batchv1.Job {
	job := resources.RecoveryCheckJob(w.cluster, resources.Restore{
		BackupImage: "backup:v0", Store: b.Spec.Store, ClusterUID: b.Status.ClusterUID, BackupID: b.Status.ID, Secrets: secrets,
	})
	job.UID = "j1"
	if is != "" {
		job.Status.Conditions = []batchv1.JobCondition{{Type: is, Status: corev1.ConditionTrue, Message: "backoff", LastTransitionTime: metav1.NewTime(w.clock.Now().Add(-ago))}}
	}
	return job
}

// reader is a pod of that Job, with what it has left.
func (w *world) reader(r snapshot.Result, edits ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "reader", Namespace: "ns", Labels: map[string]string{
		v1alpha1.LabelRestoring: string(w.cluster.UID), batchv1.JobNameLabel: resources.RecoveryCheckJobName("a"), batchv1.ControllerUidLabel: "j1",
	}}}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: resources.BackupContainer, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Message: string(r.Encode())}}}}
	for _, e := range edits {
		e(p)
	}
	return p
}

var (
	readWell  = snapshot.Result{Operation: snapshot.OperationCheck, Outcome: snapshot.OutcomeSucceeded, Reason: snapshot.ReasonChecked, Backup: &snapshot.Backup{ID: "the-id"}}
	torn      = snapshot.Result{Operation: snapshot.OperationCheck, Outcome: snapshot.OutcomeFailed, Reason: snapshot.ReasonCorrupt, Message: "it is torn — no member could begin with it — restore another"}
	noKey     = snapshot.Result{Operation: snapshot.OperationCheck, Outcome: snapshot.OutcomeFailed, Reason: snapshot.ReasonKeyMissing, Message: "it is for another key — it cannot be read — give that one"}
	toldToEnd = snapshot.Result{Operation: snapshot.OperationCheck, Outcome: snapshot.OutcomeFailed, Reason: snapshot.ReasonInterrupted, Message: "told to end — the work is not done — start it again"}
	noStore   = snapshot.Result{Operation: snapshot.OperationCheck, Outcome: snapshot.OutcomeFailed, Reason: snapshot.ReasonStoreUnreachable, Message: "the store is away — the backup cannot be reached — check it"}
)

// TestCheck: what was read counts for the very word and backup, and for an hour; what another
// try would not change is told until the word, the backup or a Secret changes, and what may
// pass is read again after a pause.
func TestCheck(t *testing.T) {
	const jobName = "a-recovery-look"
	cases := map[string]struct {
		job   func(w *world) []client.Object
		want  plan.Look
		spent string
	}{
		"nobody reads it": {func(*world) []client.Object { return nil }, plan.Look{Due: true}, ""},
		"it was started":  {func(w *world) []client.Object { return list(w.reads(withKey(), "s3=7", "", 0)) }, plan.Look{Waits: "Job " + jobName + " was started"}, ""},
		"its pod finds no node": {func(w *world) []client.Object {
			return list(w.reads(withKey(), "s3=7", "", 0), w.reader(torn, nowhere))
		}, plan.Look{Waits: "its pod cannot be scheduled: no room"}, ""},
		"its pod is being made": {func(w *world) []client.Object { return list(w.reads(withKey(), "s3=7", "", 0), w.reader(torn, made)) }, plan.Look{Waits: "its pod is starting"}, ""},
		"half of it is read": {func(w *world) []client.Object {
			return list(w.reads(withKey(), "s3=7", "", 0), w.reader(torn, runsThere))
		}, plan.Look{Waits: "has read 40% of 10 MiB, try 2"}, ""},
		"its store is not there": {func(w *world) []client.Object {
			return list(w.reads(withKey(), "s3=7", "", 0), w.reader(torn, runsThere, func(p *corev1.Pod) { p.Status.PodIP = "10.9.9.8" }))
		}, plan.Look{Waits: "Job " + jobName + " is at it: ReadingBack, try 2: the store is away; it is being tried again"}, ""},
		"a try of it has failed": {func(w *world) []client.Object {
			return list(w.reads(withKey(), "s3=7", "", 0), w.reader(snapshot.Result{Operation: snapshot.OperationCheck, Outcome: snapshot.OutcomeFailed, Message: "the store is away"}))
		}, plan.Look{Waits: "was started; the try before failed: the store is away"}, ""},
		"and the next one too": {func(w *world) []client.Object {
			return list(w.reads(withKey(), "s3=7", "", 0), w.reader(torn, runsThere, func(p *corev1.Pod) {
				p.Status.PodIP, p.CreationTimestamp = "10.9.9.8", metav1.Unix(1, 0)
			}),
				w.reader(snapshot.Result{Operation: snapshot.OperationCheck, Outcome: snapshot.OutcomeFailed, Message: "the store is away"}, func(p *corev1.Pod) { p.Name = "before" }))
		}, plan.Look{Waits: "try 2: the store is away; it is being tried again"}, ""},
		"it was read": {func(w *world) []client.Object {
			return list(w.reads(withKey(), "s3=7", batchv1.JobComplete, time.Minute), w.reader(readWell))
		}, plan.Look{Done: true}, ""},
		"with other Secrets": {func(w *world) []client.Object {
			return list(w.reads(withKey(), "s3=6", batchv1.JobComplete, time.Minute), w.reader(readWell))
		}, plan.Look{Done: true}, ""},
		"with other Secrets, a while ago": {func(w *world) []client.Object {
			return list(w.reads(withKey(), "s3=6", batchv1.JobComplete, SecretsCount), w.reader(readWell))
		}, plan.Look{}, "j1"},
		"a while ago": {func(w *world) []client.Object {
			return list(w.reads(withKey(), "s3=7", batchv1.JobComplete, lookPause), w.reader(readWell))
		}, plan.Look{Done: true}, ""},
		"after a pod that failed": {func(w *world) []client.Object {
			return list(w.reads(withKey(), "s3=7", batchv1.JobComplete, time.Minute), w.reader(readWell), w.reader(noStore, func(p *corev1.Pod) { p.Name = "before" }))
		}, plan.Look{Done: true}, ""},
		"an hour ago": {func(w *world) []client.Object {
			return list(w.reads(withKey(), "s3=7", batchv1.JobComplete, LookCounts+time.Second), w.reader(readWell))
		}, plan.Look{}, "j1"},
		"the result is lost": {func(w *world) []client.Object {
			return list(w.reads(withKey(), "s3=7", batchv1.JobComplete, time.Minute))
		}, plan.Look{Failed: "what it found is lost with its pod"}, ""},
		"the result was lost": {func(w *world) []client.Object {
			return list(w.reads(withKey(), "s3=7", batchv1.JobComplete, lookPause))
		}, plan.Look{}, "j1"},
		"it is another Job's": {func(w *world) []client.Object {
			return list(w.reads(withKey(), "s3=7", batchv1.JobComplete, lookPause), w.reader(readWell, ofAnotherJob))
		}, plan.Look{}, "j1"},
		"nobody says whose it is": {func(w *world) []client.Object {
			return list(w.reads(withKey(), "s3=7", batchv1.JobComplete, lookPause), w.reader(readWell, ofNobody))
		}, plan.Look{}, "j1"},
		"of another backup": {func(w *world) []client.Object {
			return list(w.reads(withKey(), "s3=7", batchv1.JobComplete, lookPause), w.reader(otherBackup()))
		}, plan.Look{}, "j1"},
		"of other work": {func(w *world) []client.Object {
			return list(w.reads(withKey(), "s3=7", batchv1.JobComplete, lookPause), w.reader(otherWork()))
		}, plan.Look{}, "j1"},
		"for another word": {func(w *world) []client.Object { return list(forAnother(w), w.reader(readWell)) }, plan.Look{}, "j1"},
		"from another store": {func(w *world) []client.Object {
			return list(w.reads(nightly(), "s3=7", batchv1.JobComplete, time.Minute), w.reader(readWell))
		}, plan.Look{}, "j1"},
		"it is being deleted": {func(w *world) []client.Object {
			return list(leaves(w.reads(withKey(), "s3=7", batchv1.JobComplete, time.Minute)), w.reader(readWell))
		}, plan.Look{Waits: "is being deleted"}, ""},
		"it is torn": {func(w *world) []client.Object {
			return list(w.reads(withKey(), "s3=7", batchv1.JobFailed, 9*time.Hour), w.reader(torn))
		}, plan.Look{Failed: "it is torn — no member could begin with it — restore another; nobody was stopped: name another backup in spec.recovery, or a survivor"}, ""},
		"it is for another key": {func(w *world) []client.Object {
			return list(w.reads(withKey(), "s3=7", batchv1.JobFailed, 9*time.Hour), w.reader(noKey))
		}, plan.Look{Failed: "or Job " + jobName + " is deleted"}, ""},
		"the Secret was mended": {func(w *world) []client.Object {
			return list(w.reads(withKey(), "s3=6", batchv1.JobFailed, time.Minute), w.reader(noKey))
		}, plan.Look{}, "j1"},
		"the store is away": {func(w *world) []client.Object {
			return list(w.reads(withKey(), "s3=7", batchv1.JobFailed, time.Minute), w.reader(noStore))
		}, plan.Look{Failed: "check it; nobody was stopped, and it is read again after "}, ""},
		"and was for long": {func(w *world) []client.Object {
			return list(w.reads(withKey(), "s3=7", batchv1.JobFailed, lookPause), w.reader(noStore))
		}, plan.Look{}, "j1"},
		"it took too long": {func(w *world) []client.Object {
			job := w.reads(withKey(), "s3=7", batchv1.JobFailed, time.Minute)
			job.Status.Conditions[0].Reason, job.Status.Conditions[0].Message = batchv1.JobReasonDeadlineExceeded, "active for too long"
			return list(job, w.reader(toldToEnd))
		}, plan.Look{Failed: "Job " + jobName + " failed: active for too long — nobody has seen"}, ""},
		"somebody ended it": {func(w *world) []client.Object {
			return list(w.reads(withKey(), "s3=7", batchv1.JobFailed, time.Minute), w.reader(toldToEnd))
		}, plan.Look{Failed: "start it again; nobody was stopped, and it is read again after "}, ""},
		"it was killed": {func(w *world) []client.Object {
			return list(w.reads(withKey(), "s3=7", batchv1.JobFailed, time.Minute))
		}, plan.Look{Failed: "Job " + jobName + " failed: backoff — nobody has seen"}, ""},
		"somebody else's Job": {func(w *world) []client.Object {
			job := w.reads(withKey(), "s3=7", batchv1.JobComplete, time.Minute)
			job.OwnerReferences = nil
			return list(job, w.reader(readWell))
		}, plan.Look{Failed: "Job " + jobName + " belongs to somebody else"}, ""},
		"of a cluster of before": {func(w *world) []client.Object {
			job := w.reads(withKey(), "s3=7", batchv1.JobComplete, time.Minute)
			job.Labels[v1alpha1.LabelRestoring] = "0ld"
			return list(job, w.reader(readWell))
		}, plan.Look{Failed: "Job " + jobName + " belongs to somebody else"}, ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := asked(t, withKey(), secretNamed("s3", "7"))
			w.observer.Progress = func(_ context.Context, ip string) (*snapshot.Progress, error) {
				is := snapshot.Progress{Phase: snapshot.PhaseReadingBack, Attempt: 2, BytesRead: 4<<20 + 300<<10, TotalBytes: 10 << 20}
				switch ip {
				case "10.9.9.9":
					return &is, nil
				case "10.9.9.8":
					is.Trouble = &snapshot.Trouble{Message: "the store is away"}
					return &is, nil
				}
				return nil, errors.New("no such pod")
			}
			w.objects = append(w.objects, tc.job(w)...)
			seen := w.see()
			got := seen.Recovery.Look
			if got.Due != tc.want.Due || got.Done != tc.want.Done || !says3(got.Failed, tc.want.Failed, 2) || !says3(got.Waits, tc.want.Waits, 0) || seen.SpentCheck != tc.spent {
				t.Errorf("look %+v, spent %q; want %+v, %q", got, seen.SpentCheck, tc.want, tc.spent)
			}
		})
	}
}

func list(objects ...client.Object) []client.Object { return objects }

// says3 says that a text holds what is wanted, and so many dashes; or nothing, if nothing is.
func says3(text, want string, dashes int) bool {
	if want == "" {
		return text == ""
	}
	return strings.Contains(text, want) && strings.Count(text, " — ") == dashes
}

func nowhere(p *corev1.Pod) {
	p.Status = corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: "no room"}}}
}

func made(p *corev1.Pod) { p.Status = corev1.PodStatus{Phase: corev1.PodPending} }

func runsThere(p *corev1.Pod) {
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.9.9.9"}
}

func ofAnotherJob(p *corev1.Pod) { p.Labels[batchv1.ControllerUidLabel] = "j0" }

func ofNobody(p *corev1.Pod) { delete(p.Labels, batchv1.ControllerUidLabel) }

func otherBackup() snapshot.Result {
	r := readWell
	r.Backup = &snapshot.Backup{ID: "another-id"}
	return r
}

func otherWork() snapshot.Result {
	r := readWell
	r.Operation = snapshot.OperationSave
	return r
}

// forAnother is a Job that has read the same backup for the word of an incarnation before.
func forAnother(w *world) *batchv1.Job {
	job := w.reads(withKey(), "s3=7", batchv1.JobComplete, time.Minute)
	job.Annotations[v1alpha1.AnnotationReads] = strings.Replace(job.Annotations[v1alpha1.AnnotationReads], "1/nightly", "0/nightly", 1)
	return job
}

func leaves(job *batchv1.Job) *batchv1.Job {
	job.DeletionTimestamp, job.Finalizers = &metav1.Time{Time: time.Unix(1, 0)}, []string{"somebody/else"}
	return job
}

// TestCheckIsNotNeeded: the Job of a word that was taken back, is void, was obeyed, is blocked
// or names a survivor goes; that of one which does not count for the moment stays.
func TestCheckIsNotNeeded(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(w *world)
		spent  string
	}{
		"it counts":                {func(*world) {}, ""},
		"it was taken back":        {func(w *world) { w.cluster.Spec.Recovery = nil }, "j1"},
		"it is void":               {func(w *world) { w.cluster.Status.VoidRecovery = "1/nightly" }, "j1"},
		"members were stopped":     {func(w *world) { w.cluster.Status.ObeyedRecovery = "1/nightly" }, "j1"},
		"it is spent":              {func(w *world) { w.cluster.Spec.Recovery.Incarnation = 7 }, "j1"},
		"it names a survivor":      {func(w *world) { w.cluster.Spec.Recovery = &v1alpha1.RecoverySpec{Incarnation: 1, Survivor: "a-0000"} }, "j1"},
		"there is no backup":       {func(w *world) { w.cluster.Spec.Recovery.BackupName = "weekly" }, "j1"},
		"a majority answers":       {func(w *world) { tells(w.cluster, v1alpha1.ReasonProbeFailed) }, ""},
		"an unverified one may be": {func(w *world) { w.cluster.Spec.Recovery.AllowUnverified = true }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := asked(t, nightly())
			w.objects = append(w.objects, w.reads(nightly(), "", batchv1.JobComplete, time.Minute), w.reader(readWell))
			tc.change(w)
			seen := w.see()
			if seen.SpentCheck != tc.spent {
				t.Errorf("spent is %q, want %q", seen.SpentCheck, tc.spent)
			}
			if r := seen.Recovery; r != nil && tc.spent != "" && r.Look != (plan.Look{}) {
				t.Errorf("and is believed: %+v", r.Look)
			}
		})
	}
}

// TestCheckIsLookedForOnce: a cluster without a word costs one call in the life of an operator,
// and one that fails keeps nobody from looking at the cluster.
func TestCheckIsLookedForOnce(t *testing.T) {
	w := founded(t)
	calls, fails := 0, true
	w.intercept.Get = func(ctx context.Context, api client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
		if _, job := o.(*batchv1.Job); job {
			if calls++; fails {
				return errors.New("no answer")
			}
		}
		return api.Get(ctx, key, o, opts...)
	}
	w.see()
	fails = false
	for range 3 {
		w.see()
	}
	if calls != 2 {
		t.Errorf("asked %d times, want once more than it failed", calls)
	}
}
