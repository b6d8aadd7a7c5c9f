package controllers

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/internal/snapshot"
)

var backupRequest = ctrl.Request{NamespacedName: client.ObjectKey{Namespace: "ns", Name: "b"}}

// backups runs passes over an EtcdBackup.
type backups struct {
	*operator
	reconciler *EtcdBackupReconciler
	progress   *snapshot.Progress
}

func newBackups(t *testing.T, objects ...client.Object) *backups {
	t.Helper()
	b := &backups{operator: newOperator(t, objects...)}
	b.reconciler = &EtcdBackupReconciler{
		Client: b.api, Live: b.api, Recorder: b.events, Clock: clocktesting.NewFakePassiveClock(time.Unix(1e9, 0)), BackupImage: "backup:v0",
		Progress: func(_ context.Context, podIP string) (*snapshot.Progress, error) {
			if podIP != "10.0.0.1" || b.progress == nil {
				return nil, errNoProgress
			}
			return b.progress, nil
		},
	}
	return b
}

func anEtcdBackup(changes ...func(*v1alpha1.EtcdBackup)) *v1alpha1.EtcdBackup {
	b := &v1alpha1.EtcdBackup{
		ObjectMeta: metav1.ObjectMeta{Name: "b", Namespace: "ns", UID: "b1", CreationTimestamp: metav1.Time{Time: time.Unix(1e9-10, 0)}},
		Spec: v1alpha1.EtcdBackupSpec{
			ClusterRef: v1alpha1.ClusterReference{Name: "a"}, Verify: v1alpha1.VerifyDrill, Timeout: metav1.Duration{Duration: time.Hour},
			Store: v1alpha1.BackupStore{S3: &v1alpha1.S3Store{Bucket: "backups", CredentialsSecretRef: &v1alpha1.SecretReference{Name: "s3"}}},
		},
	}
	for _, change := range changes {
		change(b)
	}
	return b
}

func withObjects(b *v1alpha1.EtcdBackup) { b.Spec.DeletionPolicy = v1alpha1.BackupDelete }
func leaves(b *v1alpha1.EtcdBackup) {
	withObjects(b)
	b.Finalizers = []string{v1alpha1.FinalizerBackup}
	b.DeletionTimestamp = &metav1.Time{Time: time.Unix(1e9-10, 0)}
	b.Status.ClusterUID, b.Status.ID = "5e1f", "the-id"
}

func s3Secret() *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s3", Namespace: "ns"}, StringData: map[string]string{"AWS_SECRET_ACCESS_KEY": "hush"}}
}

// voting is a cluster that could send a snapshot.
func voting(c *v1alpha1.EtcdCluster) {
	founded(c)
	c.Status.Replicas = 1
	c.Status.Members = []v1alpha1.MemberStatus{{Name: "a-0000", Role: v1alpha1.RoleVoter}}
}

func (b *backups) pass() (ctrl.Result, error) {
	b.t.Helper()
	b.writes = nil
	return b.reconciler.Reconcile(b.t.Context(), backupRequest)
}

// passes until nothing is written any more.
func (b *backups) passes() {
	b.t.Helper()
	for range 10 {
		if _, err := b.pass(); err != nil {
			b.t.Fatal(err)
		}
		if len(b.writes) == 0 {
			return
		}
	}
	b.t.Fatalf("it writes for ever: %v", b.writes)
}

func (b *backups) get() *v1alpha1.EtcdBackup {
	b.t.Helper()
	return stored[v1alpha1.EtcdBackup](b.t, b.api, backupRequest.NamespacedName)
}

func (b *backups) condition(kind string) string {
	b.t.Helper()
	return told(b.get().Status.Conditions, kind)
}

// ends has the Job of an operation end, and its pod leave a message.
func (b *backups) ends(operation snapshot.Operation, with batchv1.JobConditionType, message string) {
	b.t.Helper()
	job := b.job(operation)
	job.Status.Conditions = append(job.Status.Conditions, batchv1.JobCondition{Type: with, Status: corev1.ConditionTrue})
	if err := b.api.Status().Update(b.t.Context(), job); err != nil {
		b.t.Fatal(err)
	}
	b.pod(operation, func(p *corev1.Pod) {
		p.Status.Phase = corev1.PodSucceeded
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: resources.BackupContainer, State: corev1.ContainerState{
			Terminated: &corev1.ContainerStateTerminated{Message: message},
		}}}
	})
}

func (b *backups) job(operation snapshot.Operation) *batchv1.Job {
	b.t.Helper()
	job := &batchv1.Job{}
	if err := b.api.Get(b.t.Context(), client.ObjectKey{Namespace: "ns", Name: resources.JobName("b", operation)}, job); err != nil {
		b.t.Fatal(err)
	}
	return job
}

func (b *backups) pod(operation snapshot.Operation, change func(*corev1.Pod)) {
	b.t.Helper()
	labels := resources.BackupLabels(b.get())
	labels[batchv1.JobNameLabel], labels[batchv1.ControllerUidLabel] = resources.JobName("b", operation), made
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "pod-of-" + string(operation), Namespace: "ns", Labels: labels}}
	change(p)
	if err := client.IgnoreNotFound(b.api.Delete(b.t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: p.Name, Namespace: "ns"}})); err != nil {
		b.t.Fatal(err)
	}
	if err := b.api.Create(b.t.Context(), p); err != nil {
		b.t.Fatal(err)
	}
}

func savedMessage() string {
	return string(snapshot.Result{
		Operation: snapshot.OperationSave, Outcome: snapshot.OutcomeSucceeded, Reason: snapshot.ReasonSaved,
		Backup: &snapshot.Backup{ID: "the-id", ClusterID: "c1", Revision: 42, StoredBytes: 100, PlainBytes: 200, EtcdVersion: "3.6.16"},
	}.Encode())
}

func drilledMessage() string {
	return string(snapshot.Result{
		Operation: snapshot.OperationDrill, Outcome: snapshot.OutcomeSucceeded, Reason: snapshot.ReasonVerified,
		Verification: &snapshot.Verification{ID: "the-id"},
	}.Encode())
}

// TestBackup goes the whole way: a cluster is recorded, saved, tried out, and at rest
// nothing is written.
func TestBackup(t *testing.T) {
	b := newBackups(t, anEtcdBackup(), cluster(voting), s3Secret())
	var wrote []string
	for range 4 {
		if _, err := b.pass(); err != nil {
			t.Fatal(err)
		}
		wrote = append(wrote, b.writes...)
	}
	if diff := cmp.Diff([]string{"patch status b", "create b-save", "patch status b", "patch status b"}, wrote); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	job := &batchv1.Job{}
	if err := b.api.Get(t.Context(), client.ObjectKey{Namespace: "ns", Name: "b-save"}, job); err != nil {
		t.Fatal(err)
	}
	command := strings.Join(job.Spec.Template.Spec.Containers[0].Command, " ")
	for _, want := range []string{"--cluster-uid=5e1f", "--cluster-id=c1", "--uid=b1", "--endpoints=http://a-0000.a.ns.svc:2379"} {
		if !strings.Contains(command, want) {
			t.Errorf("no %s in %s", want, command)
		}
	}

	b.progress = &snapshot.Progress{Phase: snapshot.PhaseSaving, Attempt: 1, TotalBytes: 4, BytesRead: 1}
	b.pod(snapshot.OperationSave, func(p *corev1.Pod) { p.Status.Phase, p.Status.PodIP = corev1.PodRunning, "10.0.0.1" })
	b.passes()
	if p := b.get().Status.Progress; p == nil || p.Percent != "25%" {
		t.Errorf("progress %+v", p)
	}

	b.ends(snapshot.OperationSave, batchv1.JobComplete, savedMessage())
	b.passes()
	if s := b.get().Status; s.ID != "the-id" || s.Revision != 42 || s.URL != "s3://backups/5e1f/the-id/snapshot" {
		t.Errorf("status %+v", s)
	}
	if got := b.condition(v1alpha1.ConditionComplete) + " " + b.condition(v1alpha1.ConditionVerified); got != "True/Saved False/Verifying" {
		t.Errorf("Complete and Verified are %s", got)
	}
	b.ends(snapshot.OperationDrill, batchv1.JobComplete, drilledMessage())
	b.passes()
	for _, kind := range []string{v1alpha1.ConditionVerified, v1alpha1.ConditionReady} {
		if got := b.condition(kind); got != "True/Verified" {
			t.Errorf("%s is %s", kind, got)
		}
	}
	if result, err := b.pass(); err != nil || result != (ctrl.Result{}) || len(b.writes) > 0 {
		t.Errorf("at rest: %v, %v, wrote %v", result, err, b.writes)
	}
}

// stopped sets when the Job of an operation ended, as the API server would.
func (b *backups) stopped(operation snapshot.Operation, at time.Time) {
	b.t.Helper()
	job := &batchv1.Job{}
	if err := b.api.Get(b.t.Context(), client.ObjectKey{Namespace: "ns", Name: resources.JobName("b", operation)}, job); err != nil {
		b.t.Fatal(err)
	}
	for i := range job.Status.Conditions {
		job.Status.Conditions[i].LastTransitionTime = metav1.NewTime(at)
	}
	if err := b.api.Status().Update(b.t.Context(), job); err != nil {
		b.t.Fatal(err)
	}
}

// TestTheLastJobsPods: a Job that is made again under the name of the last one does not take over
// what the pods of that have left, which go after it.
func TestTheLastJobsPods(t *testing.T) {
	for of, want := range map[string]string{"the-last-one": "True/Failed", "uid-of-": "True/Corrupt"} {
		b := newBackups(t, anEtcdBackup(), cluster(voting), s3Secret())
		b.passes()
		b.ends(snapshot.OperationSave, batchv1.JobComplete, savedMessage())
		b.passes()
		message := string(snapshot.Result{Operation: snapshot.OperationDrill, Outcome: snapshot.OutcomeFailed, Reason: snapshot.ReasonCorrupt, Message: "a bit has flipped — no — no"}.Encode())
		b.ends(snapshot.OperationDrill, batchv1.JobFailed, message)
		pod := stored[corev1.Pod](t, b.api, client.ObjectKey{Namespace: "ns", Name: "pod-of-drill"})
		pod.Labels[batchv1.ControllerUidLabel] = of
		if err := b.api.Update(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
		b.passes()
		if got := b.condition(v1alpha1.ConditionStalled); got != want {
			t.Errorf("with a pod of the Job %q Stalled is %s, want %s", of, got, want)
		}
	}
}

// newVerified is a backup that was saved and tried out, by a clock that stands still.
func newVerified(t *testing.T) (*backups, *clocktesting.FakePassiveClock) {
	t.Helper()
	b := newBackups(t, anEtcdBackup(), cluster(voting), s3Secret())
	clock := clocktesting.NewFakePassiveClock(time.Unix(1e9, 0).UTC())
	b.reconciler.Clock = clock
	b.passes()
	b.ends(snapshot.OperationSave, batchv1.JobComplete, savedMessage())
	b.passes()
	b.ends(snapshot.OperationDrill, batchv1.JobComplete, drilledMessage())
	b.stopped(snapshot.OperationDrill, clock.Now())
	b.passes()
	return b, clock
}

// TestADoubtedBackupIsTriedAgain: what somebody who read it to restore it has found to be bad is
// tried out, once, and the drill decides.
func TestADoubtedBackupIsTriedAgain(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*batchv1.Job, *snapshot.Result)
		again  bool
	}{
		"it is torn":            {func(*batchv1.Job, *snapshot.Result) {}, true},
		"its key is missing":    {func(_ *batchv1.Job, r *snapshot.Result) { r.Reason = snapshot.ReasonKeyMissing }, false},
		"it was another backup": {func(j *batchv1.Job, _ *snapshot.Result) { j.Annotations[v1alpha1.AnnotationChecks] = "another-id" }, false},
		"that was before": {func(j *batchv1.Job, _ *snapshot.Result) {
			j.Status.Conditions[0].LastTransitionTime = metav1.Unix(1e9-60, 0)
		}, false},
		"it is read once more":     {func(j *batchv1.Job, _ *snapshot.Result) { j.Status.Conditions = nil }, false},
		"it was read":              {func(_ *batchv1.Job, r *snapshot.Result) { r.Outcome = snapshot.OutcomeSucceeded }, false},
		"nobody knows of a backup": {func(j *batchv1.Job, _ *snapshot.Result) { delete(j.Labels, v1alpha1.LabelBackup) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			b, clock := newVerified(t)

			clock.SetTime(clock.Now().Add(time.Minute))
			job := resources.CheckJob(cluster(voting), &v1alpha1.EtcdRestore{ObjectMeta: metav1.ObjectMeta{Name: "back", Namespace: "ns", UID: "e7"}}, resources.Restore{Store: b.get().Spec.Store, BackupID: "the-id", BackupName: "b"})
			job.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobFailed, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(clock.Now())}}
			result := snapshot.Result{Operation: snapshot.OperationCheck, Outcome: snapshot.OutcomeFailed, Reason: snapshot.ReasonCorrupt, Message: "it is torn — no — no"}
			tc.change(job, &result)
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "back-check-1", Namespace: "ns", Labels: maps.Clone(job.Labels)}}
			pod.Labels[batchv1.JobNameLabel], pod.Labels[batchv1.ControllerUidLabel] = job.Name, made
			pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: resources.BackupContainer, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Message: string(result.Encode())}}}}
			for _, object := range []client.Object{job, pod} {
				if err := b.api.Create(t.Context(), object); err != nil {
					t.Fatal(err)
				}
			}
			clock.SetTime(clock.Now().Add(time.Second))
			var wrote []string
			for range 4 {
				if _, err := b.pass(); err != nil {
					t.Fatal(err)
				}
				wrote = append(wrote, b.writes...)
			}
			if again := slices.Contains(wrote, "create b-drill"); again != tc.again {
				t.Fatalf("it is tried out again: %v, wrote %v", again, wrote)
			}
			if !tc.again {
				if len(wrote) > 0 {
					t.Errorf("wrote %v", wrote)
				}
				return
			}
			b.ends(snapshot.OperationDrill, batchv1.JobComplete, drilledMessage())
			clock.SetTime(clock.Now().Add(time.Second))
			b.stopped(snapshot.OperationDrill, clock.Now())
			b.passes()
			if result, err := b.pass(); err != nil || result != (ctrl.Result{}) || len(b.writes) > 0 || b.condition(v1alpha1.ConditionVerified) != "True/Verified" {
				t.Errorf("a drill that went well is not the end of it: %v, %v, wrote %v, Verified is %s", result, err, b.writes, b.condition(v1alpha1.ConditionVerified))
			}
		})
	}
}

// TestBackupIsTriedAgain: a verified backup is tried out when spec.drillAfter says so, by a
// Job of its own; it stays verified until that shows that it has rotted, and can be tried
// out once more after that.
func TestBackupIsTriedAgain(t *testing.T) {
	b, clock := newVerified(t)

	again := func(after time.Time) {
		t.Helper()
		is := b.get()
		is.Spec.DrillAfter = after.Format(time.RFC3339)
		if err := b.api.Update(t.Context(), is); err != nil {
			t.Fatal(err)
		}
	}
	again(clock.Now().Add(time.Hour))
	if result, err := b.pass(); err != nil || result.RequeueAfter != time.Hour || len(b.writes) > 0 {
		t.Fatalf("an hour before: %v, %v, wrote %v", result, err, b.writes)
	}
	clock.SetTime(clock.Now().Add(time.Hour))
	var wrote []string
	for range 4 {
		if _, err := b.pass(); err != nil {
			t.Fatal(err)
		}
		wrote = append(wrote, b.writes...)
	}
	if diff := cmp.Diff([]string{"delete b-drill", "patch status b", "create b-drill", "patch status b", "patch status b"}, wrote); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if got := b.condition(v1alpha1.ConditionVerified); got != "True/Verified" {
		t.Errorf("while it is tried out again Verified is %s", got)
	}
	b.ends(snapshot.OperationDrill, batchv1.JobFailed, string(snapshot.Result{
		Operation: snapshot.OperationDrill, Outcome: snapshot.OutcomeFailed, Reason: snapshot.ReasonCorrupt, Message: "a bit has flipped — no — no",
	}.Encode()))
	clock.SetTime(clock.Now().Add(time.Minute))
	b.stopped(snapshot.OperationDrill, clock.Now())
	b.passes()
	if got := b.condition(v1alpha1.ConditionVerified) + " " + b.condition(v1alpha1.ConditionStalled); got != "False/Corrupt True/Corrupt" {
		t.Errorf("Verified and Stalled are %s", got)
	}
	if result, err := b.pass(); err != nil || result != (ctrl.Result{}) || len(b.writes) > 0 {
		t.Errorf("afterwards: %v, %v, wrote %v", result, err, b.writes)
	}

	clock.SetTime(clock.Now().Add(time.Minute))
	again(clock.Now())
	b.passes()
	b.ends(snapshot.OperationDrill, batchv1.JobComplete, drilledMessage())
	b.stopped(snapshot.OperationDrill, clock.Now())
	b.passes()
	if got := b.condition(v1alpha1.ConditionVerified) + " " + b.condition(v1alpha1.ConditionStalled); got != "True/Verified False/None" {
		t.Errorf("after another drill Verified and Stalled are %s", got)
	}
}

// TestBackupFails: what the program said is what the user reads, and nothing is tried
// any more.
func TestBackupFails(t *testing.T) {
	b := newBackups(t, anEtcdBackup(), cluster(voting), s3Secret())
	b.passes()
	b.ends(snapshot.OperationSave, batchv1.JobFailed, string(snapshot.Result{
		Operation: snapshot.OperationSave, Outcome: snapshot.OutcomeFailed, Reason: snapshot.ReasonBucketMissing, Message: "no bucket — nowhere to go — create it",
	}.Encode()))
	b.passes()
	stalled := meta.FindStatusCondition(b.get().Status.Conditions, v1alpha1.ConditionStalled)
	if stalled.Status != metav1.ConditionTrue || stalled.Reason != "BucketMissing" || !strings.Contains(stalled.Message, "nowhere to go") {
		t.Errorf("Stalled is %+v", stalled)
	}
	if got := b.condition(v1alpha1.ConditionVerified); got != "False/BucketMissing" {
		t.Errorf("Verified is %s", got)
	}
	if result, err := b.pass(); err != nil || result != (ctrl.Result{}) || len(b.writes) > 0 {
		t.Errorf("afterwards: %v, %v, wrote %v", result, err, b.writes)
	}
}

// TestABackupWhoseTimeIsOver: Kubernetes ends its pod, whose last word is that it was told to
// end. That is no reason to begin the same again as it was; what it found before is one.
func TestABackupWhoseTimeIsOver(t *testing.T) {
	for name, tc := range map[string]struct {
		reason  snapshot.Reason
		why     string
		want    string
		message string
	}{
		"told to end":            {snapshot.ReasonInterrupted, batchv1.JobReasonDeadlineExceeded, "True/TimedOut", "Job b-save did not end within spec.timeout — it was given up, and what it has stored is no backup — create another EtcdBackup with more time or a higher rateLimit"},
		"it found something":     {snapshot.ReasonStoreUnreachable, batchv1.JobReasonDeadlineExceeded, "True/StoreUnreachable", "no — because — do; it is not tried again by itself: when that is mended, create another EtcdBackup"},
		"ended by somebody else": {snapshot.ReasonInterrupted, batchv1.JobReasonBackoffLimitExceeded, "True/Interrupted", "no — because — do; it is not tried again by itself: when that is mended, create another EtcdBackup"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBackups(t, anEtcdBackup(), cluster(voting), s3Secret())
			b.passes()
			b.ends(snapshot.OperationSave, batchv1.JobFailed, string(snapshot.Result{
				Operation: snapshot.OperationSave, Outcome: snapshot.OutcomeFailed, Reason: tc.reason, Message: "no — because — do",
			}.Encode()))
			job := b.job(snapshot.OperationSave)
			job.Status.Conditions[len(job.Status.Conditions)-1].Reason = tc.why
			if err := b.api.Status().Update(t.Context(), job); err != nil {
				t.Fatal(err)
			}
			b.passes()
			if got := b.condition(v1alpha1.ConditionStalled); got != tc.want {
				t.Errorf("Stalled is %s, want %s", got, tc.want)
			}
			if is := meta.FindStatusCondition(b.get().Status.Conditions, v1alpha1.ConditionStalled); is.Message != tc.message {
				t.Errorf("it says %q, want %q", is.Message, tc.message)
			}
		})
	}
}

// TestAScheduledBackupOutlastsAnOutage: the store is away for longer than a Job tries, and there
// is a backup of that night all the same.
func TestAScheduledBackupOutlastsAnOutage(t *testing.T) {
	made := anEtcdBackup(func(b *v1alpha1.EtcdBackup) { b.Labels = map[string]string{v1alpha1.LabelSchedule: "nightly"} })
	b := newBackups(t, made, cluster(voting), s3Secret())
	clock := clocktesting.NewFakePassiveClock(b.get().CreationTimestamp.Time)
	b.reconciler.Clock = clock
	b.passes()
	for range 2 {
		b.ends(snapshot.OperationSave, batchv1.JobFailed, string(snapshot.Result{
			Operation: snapshot.OperationSave, Outcome: snapshot.OutcomeFailed, Reason: snapshot.ReasonStoreUnreachable, Message: "refused — nothing is stored — start it",
		}.Encode()))
		b.stopped(snapshot.OperationSave, clock.Now())
		b.passes()
		if got := b.condition(v1alpha1.ConditionReady) + " " + b.condition(v1alpha1.ConditionStalled); got != "False/StoreUnreachable False/None" {
			t.Fatalf("while the store is away Ready and Stalled are %s", got)
		}
		if result, err := b.pass(); err != nil || result.RequeueAfter == 0 || len(b.writes) > 0 {
			t.Fatalf("in between: %v, %v, wrote %v", result, err, b.writes)
		}
		clock.SetTime(clock.Now().Add(6 * time.Minute))
		b.passes()
	}
	b.ends(snapshot.OperationSave, batchv1.JobComplete, savedMessage())
	b.passes()
	if got := b.condition(v1alpha1.ConditionComplete); got != "True/Saved" {
		t.Errorf("Complete is %s", got)
	}
}

// TestKilledBackup: a process that leaves no result is told by its last words.
func TestKilledBackup(t *testing.T) {
	b := newBackups(t, anEtcdBackup(), cluster(voting), s3Secret())
	b.passes()
	b.ends(snapshot.OperationSave, batchv1.JobFailed, "")
	b.pod(snapshot.OperationSave, func(p *corev1.Pod) {
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: resources.BackupContainer, State: corev1.ContainerState{
			Terminated: &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled"},
		}}}
	})
	b.passes()
	if stalled := meta.FindStatusCondition(b.get().Status.Conditions, v1alpha1.ConditionStalled); !strings.Contains(stalled.Message, "exit code 137, OOMKilled") {
		t.Errorf("Stalled is %+v", stalled)
	}
}

// TestLostResult: a Job that has succeeded and whose pod is gone is run again.
func TestLostResult(t *testing.T) {
	b := newBackups(t, anEtcdBackup(), cluster(voting), s3Secret())
	b.passes()
	b.ends(snapshot.OperationSave, batchv1.JobComplete, "no JSON")
	if _, err := b.pass(); err != nil || !slices.Contains(b.writes, "delete b-save") {
		t.Fatalf("Reconcile() = %v, wrote %v", err, b.writes)
	}
	b.passes()
	job := &batchv1.Job{}
	if err := b.api.Get(t.Context(), client.ObjectKey{Namespace: "ns", Name: "b-save"}, job); err != nil || len(job.Status.Conditions) > 0 {
		t.Errorf("the Job is not made again: %v, %v", err, job.Status.Conditions)
	}
}

// TestBackupWaits: what is missing is named, and no Job is made for it.
func TestBackupWaits(t *testing.T) {
	foreign := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "b-save", Namespace: "ns"}}
	cases := map[string]struct {
		objects []client.Object
		want    string
	}{
		"no cluster":         {[]client.Object{s3Secret()}, v1alpha1.ReasonClusterNotFound},
		"a young cluster":    {[]client.Object{cluster(), s3Secret()}, v1alpha1.ReasonClusterNotFounded},
		"no Secret":          {[]client.Object{cluster(voting)}, "CredentialsMissing"},
		"a Job of that name": {[]client.Object{cluster(voting), s3Secret(), foreign}, v1alpha1.ReasonNameConflict},
		"no claim":           {[]client.Object{cluster(voting), s3Secret()}, "BucketMissing"},
	}
	onClaim := func(b *v1alpha1.EtcdBackup) {
		b.Spec.Store = v1alpha1.BackupStore{PersistentVolumeClaim: &v1alpha1.ClaimStore{ClaimName: "disk"}}
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			wanted := anEtcdBackup()
			if tc.want == "BucketMissing" {
				onClaim(wanted)
			}
			b := newBackups(t, append(tc.objects, wanted)...)
			b.passes()
			if got := b.condition(v1alpha1.ConditionReady); got != "False/"+tc.want {
				t.Errorf("Ready is %s, want %s", got, tc.want)
			}
			if result, err := b.pass(); err != nil || result.RequeueAfter == 0 || len(b.writes) > 0 {
				t.Errorf("Reconcile() = %v, %v, wrote %v: it is not looked again, or told again", result, err, b.writes)
			}
		})
	}
}

// TestPodTrouble: why no pod runs is told while there is time to mend it.
func TestPodTrouble(t *testing.T) {
	b := newBackups(t, anEtcdBackup(), cluster(voting), s3Secret())
	b.passes()
	b.pod(snapshot.OperationSave, func(p *corev1.Pod) {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: `persistentvolumeclaim "disk" not found`}}
	})
	b.passes()
	if ready := meta.FindStatusCondition(b.get().Status.Conditions, v1alpha1.ConditionReady); !strings.Contains(ready.Message, `"disk" not found`) {
		t.Errorf("Ready is %+v", ready)
	}
}

// TestRefusedJob: what the API server says is told, and tried again.
func TestRefusedJob(t *testing.T) {
	b := newBackups(t, anEtcdBackup(), cluster(voting), s3Secret())
	b.before = func(verb string, o client.Object) error {
		if _, job := o.(*batchv1.Job); job && verb == "create" {
			return apierrors.NewForbidden(batchv1.Resource("jobs"), o.GetName(), errors.New("exceeded quota"))
		}
		return nil
	}
	if _, err := b.pass(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.pass(); !apierrors.IsForbidden(err) {
		t.Errorf("Reconcile() = %v", err)
	}
	if got := b.condition(v1alpha1.ConditionReady); got != "False/JobRejected" {
		t.Errorf("Ready is %s", got)
	}
	b.before = nil
	b.passes()
	if got := b.condition(v1alpha1.ConditionReady); got != "False/Saving" {
		t.Errorf("Ready is %s", got)
	}
}

// TestBackupDeletion: the objects go with it if they are to, and nobody waits for ever.
func TestBackupDeletion(t *testing.T) {
	b := newBackups(t, anEtcdBackup(withObjects), cluster(voting), s3Secret())
	if _, err := b.pass(); err != nil || !slices.Contains(b.get().Finalizers, v1alpha1.FinalizerBackup) {
		t.Fatalf("Reconcile() = %v, finalizers %v", err, b.get().Finalizers)
	}

	b = newBackups(t, anEtcdBackup(leaves), s3Secret())
	if _, err := b.pass(); err != nil || b.writes[0] != "create b-prune" {
		t.Fatalf("Reconcile() = %v, wrote %v", err, b.writes)
	}
	b.ends(snapshot.OperationPrune, batchv1.JobComplete, string(snapshot.Result{Operation: snapshot.OperationPrune, Outcome: snapshot.OutcomeSucceeded}.Encode()))
	if _, err := b.pass(); err != nil {
		t.Fatal(err)
	}
	if err := b.api.Get(t.Context(), backupRequest.NamespacedName, &v1alpha1.EtcdBackup{}); !apierrors.IsNotFound(err) {
		t.Errorf("the backup is still held: %v", err)
	}

	b = newBackups(t, anEtcdBackup(leaves)) // its Secret is gone already
	b.before = func(verb string, o client.Object) error {
		if _, job := o.(*batchv1.Job); job && verb == "create" {
			ends := apierrors.NewForbidden(batchv1.Resource("jobs"), o.GetName(), errors.New("the namespace is being terminated"))
			ends.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
			return ends
		}
		return nil
	}
	if _, err := b.pass(); err != nil {
		t.Fatal(err)
	}
	if err := b.api.Get(t.Context(), backupRequest.NamespacedName, &v1alpha1.EtcdBackup{}); !apierrors.IsNotFound(err) {
		t.Errorf("a namespace that is deleted waits for its backup: %v", err)
	}
	if event := <-b.events.Events; !strings.Contains(event, "the-id") || !strings.HasPrefix(event, corev1.EventTypeWarning) {
		t.Errorf("event %q does not say what is left behind", event)
	}

	b = newBackups(t, anEtcdBackup(leaves, func(b *v1alpha1.EtcdBackup) { b.DeletionTimestamp.Time = time.Unix(1e9-3600, 0) }))
	if _, err := b.pass(); err != nil {
		t.Fatal(err)
	}
	if err := b.api.Get(t.Context(), backupRequest.NamespacedName, &v1alpha1.EtcdBackup{}); !apierrors.IsNotFound(err) {
		t.Errorf("the backup is held for ever: %v", err)
	}
	if event := <-b.events.Events; !strings.Contains(event, "the-id") || !strings.HasPrefix(event, corev1.EventTypeWarning) {
		t.Errorf("event %q does not say what is left behind", event)
	}
}

// TestBackupDeletedWhileItIsSaved: the Job ends first, and whatever it has stored goes, finished
// or not, whether or not anybody has read its result.
func TestBackupDeletedWhileItIsSaved(t *testing.T) {
	b := newBackups(t, anEtcdBackup(withObjects), cluster(voting), s3Secret())
	for range 4 {
		if _, err := b.pass(); err != nil {
			t.Fatal(err)
		}
	}
	key := client.ObjectKey{Namespace: "ns", Name: "b-save"}
	job := stored[batchv1.Job](t, b.api, key)
	job.Finalizers = []string{metav1.FinalizerDeleteDependents} // as the API server would
	if err := b.api.Update(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	if err := b.api.Delete(t.Context(), b.get()); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := b.pass(); err != nil {
			t.Fatal(err)
		}
	}
	job = stored[batchv1.Job](t, b.api, key)
	if err := b.api.Get(t.Context(), client.ObjectKey{Namespace: "ns", Name: "b-prune"}, &batchv1.Job{}); !apierrors.IsNotFound(err) || job.DeletionTimestamp.IsZero() {
		t.Fatalf("the Job that saves is deleted at %v, and the one that deletes is there beside it (%v)", job.DeletionTimestamp, err)
	}
	job.Finalizers = nil
	if err := b.api.Update(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	if _, err := b.pass(); err != nil {
		t.Fatal(err)
	}
	prune := stored[batchv1.Job](t, b.api, client.ObjectKey{Namespace: "ns", Name: "b-prune"})
	command := strings.Join(prune.Spec.Template.Spec.Containers[0].Command, " ")
	if !strings.Contains(command, "--drop-made-by=b1 --name=b") || strings.Contains(command, "--drop= ") {
		t.Errorf("it runs %s", command)
	}
	b.ends(snapshot.OperationPrune, batchv1.JobComplete, string(snapshot.Result{Operation: snapshot.OperationPrune, Outcome: snapshot.OutcomeSucceeded}.Encode()))
	if _, err := b.pass(); err != nil {
		t.Fatal(err)
	}
	if err := b.api.Get(t.Context(), backupRequest.NamespacedName, &v1alpha1.EtcdBackup{}); !apierrors.IsNotFound(err) {
		t.Errorf("the backup is still held: %v", err)
	}
}

// TestDrillOfAnOldBackup: a digest is of the release that serves now; what another one wrote is
// tried out with that.
func TestDrillOfAnOldBackup(t *testing.T) {
	const digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	pinned := cluster(func(c *v1alpha1.EtcdCluster) {
		c.Spec.Version, c.Spec.Image = "3.7.3", v1alpha1.ImageSpec{Repository: "r/etcd", Digest: digest}
	})
	for version, want := range map[string]string{"3.7.3": "r/etcd@" + digest, "3.5.35": "r/etcd:v3.5.35", "": "r/etcd@" + digest} {
		b := anEtcdBackup(func(b *v1alpha1.EtcdBackup) { b.Status.EtcdVersion = version })
		if got := etcdImage(b, pinned); got != want {
			t.Errorf("of %q: %s, want %s", version, got, want)
		}
	}
	if pinned.Spec.Image.Digest != digest {
		t.Error("the cluster was changed")
	}
}

// TestBackupDeletedWhileNobodyWorked: however long ago it was, the objects are tried to be
// deleted, and only a Job that is refused or does not end lets the backup go without.
func TestBackupDeletedWhileNobodyWorked(t *testing.T) {
	hourAgo := func(b *v1alpha1.EtcdBackup) { b.DeletionTimestamp.Time = time.Unix(1e9-3600, 0) }
	gone := func(b *backups) bool {
		return apierrors.IsNotFound(b.api.Get(t.Context(), backupRequest.NamespacedName, &v1alpha1.EtcdBackup{}))
	}
	refuses := func(b *backups, err error) {
		b.before = func(verb string, o client.Object) error {
			if _, job := o.(*batchv1.Job); job && verb == "create" {
				return err
			}
			return nil
		}
	}
	since := func(b *backups, at time.Time) {
		job := stored[batchv1.Job](t, b.api, client.ObjectKey{Namespace: "ns", Name: "b-prune"})
		job.CreationTimestamp = metav1.NewTime(at)
		if err := b.api.Update(t.Context(), job); err != nil {
			t.Fatal(err)
		}
	}

	b := newBackups(t, anEtcdBackup(leaves, hourAgo), s3Secret())
	if _, err := b.pass(); err != nil || len(b.writes) == 0 || b.writes[0] != "create b-prune" || gone(b) {
		t.Fatalf("Reconcile() = %v, wrote %v", err, b.writes)
	}
	since(b, time.Unix(1e9-60, 0))
	if _, err := b.pass(); err != nil || gone(b) {
		t.Fatalf("a Job that has just begun is not waited for: %v", err)
	}
	since(b, time.Unix(1e9-600, 0))
	if _, err := b.pass(); err != nil || !gone(b) {
		t.Errorf("a Job that does not end is waited for: %v", err)
	}

	b = newBackups(t, anEtcdBackup(leaves, hourAgo), s3Secret())
	for _, passes := range []error{apierrors.NewServiceUnavailable("restarting"), apierrors.NewInternalError(errors.New("failed calling webhook")), context.DeadlineExceeded} {
		refuses(b, passes)
		if _, err := b.pass(); err == nil || gone(b) {
			t.Errorf("what passes is taken for a refusal: %v", err)
		}
	}
	refuses(b, apierrors.NewForbidden(batchv1.Resource("jobs"), "b-prune", errors.New("exceeded quota")))
	if _, err := b.pass(); err != nil || !gone(b) {
		t.Errorf("a Job that is refused is tried for ever: %v", err)
	}
	for len(b.events.Events) > 1 {
		<-b.events.Events
	}
	if event := <-b.events.Events; !strings.Contains(event, "exceeded quota") || !strings.Contains(event, "the-id") || !strings.HasPrefix(event, corev1.EventTypeWarning) {
		t.Errorf("event %q does not say what is left behind, and why", event)
	}
}

func TestAskProgress(t *testing.T) {
	if _, err := AskProgress(t.Context(), "127.0.0.1"); !errors.Is(err, errNoProgress) {
		t.Errorf("AskProgress() of nobody = %v", err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != snapshot.ProgressPath {
			http.NotFound(w, r)
		}
		_, _ = w.Write([]byte(`{"phase":"Saving","bytesRead":7}`))
	}))
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "http://")
	p, err := askProgress(t.Context(), address)
	if err != nil || p.BytesRead != 7 {
		t.Errorf("askProgress() = %+v, %v", p, err)
	}
}
