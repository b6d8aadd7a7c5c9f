package controllers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/internal/snapshot"
)

var restoreRequest = ctrl.Request{NamespacedName: client.ObjectKey{Namespace: "ns", Name: "back"}}

// restores runs passes over an EtcdRestore.
type restores struct {
	*operator
	reconciler *EtcdRestoreReconciler
}

func newRestores(t *testing.T, objects ...client.Object) *restores {
	t.Helper()
	return restoresOf(newOperator(t, objects...))
}

// livingRestores are of a cluster whose members answer: without their list nothing begins.
func livingRestores(t *testing.T, er *v1alpha1.EtcdRestore) *restores {
	t.Helper()
	r := restoresOf(newLiving(t).operator)
	b := goodBackup()
	is := b.Status.DeepCopy()
	for _, o := range []client.Object{b, er} {
		if err := r.api.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	b.Status = *is
	if err := r.api.Status().Update(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	return r
}

func restoresOf(o *operator) *restores {
	r := &restores{operator: o}
	r.operator.reconciler.Observer.Restores = r.api
	r.reconciler = &EtcdRestoreReconciler{
		Client: r.api, Live: r.api, Recorder: r.events, Clock: clocktesting.NewFakePassiveClock(time.Unix(1e9, 0)),
		Source: r.operator.reconciler.Observer.Source, BackupImage: "backup:v0",
	}
	return r
}

func anEtcdRestore(changes ...func(*v1alpha1.EtcdRestore)) *v1alpha1.EtcdRestore {
	r := &v1alpha1.EtcdRestore{ObjectMeta: metav1.ObjectMeta{Name: "back", Namespace: "ns", UID: "e7", CreationTimestamp: metav1.Now()}}
	r.Spec.ClusterRef.Name, r.Spec.BackupName = "a", "b"
	for _, change := range changes {
		change(r)
	}
	return r
}

func skipping(r *v1alpha1.EtcdRestore) { r.Spec.SafetyBackup.Policy = v1alpha1.SafetyBackupSkip }
func named(name string) func(*v1alpha1.EtcdRestore) {
	return func(r *v1alpha1.EtcdRestore) { r.Name = name; r.UID = "uid-" + r.UID }
}

// onRecord is a restore that has begun, for incarnation 1.
func onRecord(r *v1alpha1.EtcdRestore) { r.Status.ClusterUID, r.Status.Incarnation = "5e1f", 1 }

func isPrepared(r *v1alpha1.EtcdRestore) {
	meta.SetStatusCondition(&r.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionPrepared, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonPrepared})
}

// goodBackup of cluster a can be restored.
func goodBackup() *v1alpha1.EtcdBackup {
	b := anEtcdBackup(func(b *v1alpha1.EtcdBackup) { b.Spec.Store.S3.CredentialsSecretRef = nil })
	b.Spec.Encryption = &v1alpha1.BackupEncryption{Recipients: []string{"age1…"}}
	b.Status.ClusterUID, b.Status.ID, b.Status.EtcdVersion, b.Status.Revision = "5e1f", "the-id", "3.6.16", 42
	succeed(b)
	return b
}

// succeed has a backup be complete and verified.
func succeed(b *v1alpha1.EtcdBackup) {
	for _, kind := range []string{v1alpha1.ConditionComplete, v1alpha1.ConditionVerified, v1alpha1.ConditionReady} {
		meta.SetStatusCondition(&b.Status.Conditions, metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonVerified})
	}
}

func (r *restores) pass() (ctrl.Result, error) {
	r.t.Helper()
	r.writes = nil
	return r.reconciler.Reconcile(r.t.Context(), restoreRequest)
}

// passes until nothing is written any more.
func (r *restores) passes() {
	r.t.Helper()
	for range 10 {
		if _, err := r.pass(); err != nil {
			r.t.Fatal(err)
		}
		if len(r.writes) == 0 {
			return
		}
	}
	r.t.Fatalf("it writes for ever: %v", r.writes)
}

// clusterPass is one of the cluster's own reconciler. What the fake cannot apply is not of
// interest.
func (r *restores) clusterPass() {
	r.t.Helper()
	_, err := r.operator.pass()
	r.t.Logf("the cluster's pass wrote %v, %v", r.writes, err)
}

func (r *restores) get() *v1alpha1.EtcdRestore {
	r.t.Helper()
	return stored[v1alpha1.EtcdRestore](r.t, r.api, restoreRequest.NamespacedName)
}

func (r *restores) says(kind string) string {
	r.t.Helper()
	return told(r.get().Status.Conditions, kind)
}

// safety is the safety backup; nil if there is none.
func (r *restores) safety() *v1alpha1.EtcdBackup {
	r.t.Helper()
	b := &v1alpha1.EtcdBackup{}
	if err := r.api.Get(r.t.Context(), client.ObjectKey{Namespace: "ns", Name: "back-safety"}, b); client.IgnoreNotFound(err) != nil {
		r.t.Fatal(err)
	} else if err != nil {
		return nil
	}
	return b
}

// looks has the passes go on until the backup is looked at, and the Job that does come to its end.
func (r *restores) looks(outcome snapshot.Outcome, change func(*snapshot.Result)) {
	r.t.Helper()
	r.passes()
	r.lookEnds(outcome, change)
	r.passes()
}

func (r *restores) lookEnds(outcome snapshot.Outcome, change func(*snapshot.Result)) {
	r.t.Helper()
	job := &batchv1.Job{}
	if err := r.api.Get(r.t.Context(), client.ObjectKey{Namespace: "ns", Name: "back-check"}, job); err != nil {
		r.t.Fatal(err)
	}
	result := snapshot.Result{
		Operation: snapshot.OperationCheck, Outcome: outcome, Reason: snapshot.ReasonChecked, Backup: &snapshot.Backup{ID: "the-id"},
		Message: "the backup is gone — it cannot be restored — take another one",
	}
	if change != nil {
		change(&result)
	}
	is := batchv1.JobCondition{Type: batchv1.JobComplete, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(r.reconciler.Clock.Now())}
	if outcome == snapshot.OutcomeFailed {
		is.Type = batchv1.JobFailed
	}
	job.Status.Conditions = append(job.Status.Conditions, is)
	if err := r.api.Status().Update(r.t.Context(), job); err != nil {
		r.t.Fatal(err)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Labels: maps.Clone(job.Spec.Template.Labels), CreationTimestamp: metav1.NewTime(r.reconciler.Clock.Now())}}
	pod.Name = fmt.Sprintf("back-check-%d", r.reconciler.Clock.Now().Unix())
	pod.Labels[batchv1.JobNameLabel], pod.Labels[batchv1.ControllerUidLabel] = job.Name, string(job.UID)
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: resources.BackupContainer, State: corev1.ContainerState{
		Terminated: &corev1.ContainerStateTerminated{Message: string(result.Encode())},
	}}}
	if err := r.api.Create(r.t.Context(), pod); err != nil {
		r.t.Fatal(err)
	}
}

// good has the backup be read to its end.
func (r *restores) good() { r.t.Helper(); r.looks(snapshot.OutcomeSucceeded, nil) }

// saves has the safety backup come to its end.
func (r *restores) saves(change func(*v1alpha1.EtcdBackup)) {
	r.t.Helper()
	b := r.safety()
	b.Status.ClusterUID, b.Status.ID, b.Status.Revision, b.Status.StartTime = "5e1f", "safe", 99, &metav1.Time{Time: time.Unix(1e9-30, 0)}
	change(b)
	if err := r.api.Status().Update(r.t.Context(), b); err != nil {
		r.t.Fatal(err)
	}
}

// TestRestore goes the whole way: on record, safety backup, prepared; then the cluster's own
// passes raise the incarnation; then it is done.
func TestRestore(t *testing.T) {
	old := []string{"data-a-0000", "data-a-0001", "data-a-0002"}
	r := livingRestores(t, anEtcdRestore())
	r.passes()
	if s := r.get().Status; s.ClusterUID != "5e1f" || s.Incarnation != 1 || s.Revision != 42 || s.BackupID != "the-id" {
		t.Fatalf("on record is %+v", s)
	}
	if r.safety() != nil || r.says(v1alpha1.ConditionPrepared) != "False/Looking" {
		t.Errorf("nobody has looked at the backup, and Prepared is %s", r.says(v1alpha1.ConditionPrepared))
	}
	r.good()
	safety := r.safety()
	if safety == nil || safety.Spec.DeletionPolicy != v1alpha1.BackupRetain || safety.Spec.Verify != v1alpha1.VerifyReadBack ||
		!cmp.Equal(safety.Spec.Encryption, goodBackup().Spec.Encryption) || safety.Spec.Store.S3.Bucket != "backups" || len(safety.OwnerReferences) > 0 {
		t.Fatalf("the safety backup is %+v", safety)
	}
	if r.says(v1alpha1.ConditionPrepared) != "False/SafetyBackup" {
		t.Errorf("before it is there Prepared is %s", r.says(v1alpha1.ConditionPrepared))
	}
	r.saves(succeed)
	r.passes()
	if s := r.get().Status.SafetyBackup; r.says(v1alpha1.ConditionPrepared) != "True/Prepared" || s == nil || s.Revision != 99 || s.ReadyTime.IsZero() {
		t.Fatalf("Prepared is %s; %+v", r.says(v1alpha1.ConditionPrepared), s)
	}
	for range 6 {
		r.clusterPass()
		r.passes()
	}
	c := r.cluster()
	if c.Status.Incarnation != 2 || c.Status.Recovery == nil || c.Status.Recovery.RestoreName != "back" || c.Status.Recovery.BackupID != "the-id" || c.Status.Restore != nil {
		t.Fatalf("the cluster's status is %+v", c.Status)
	}
	if s := r.get().Status; s.RaisedTime == nil || s.RevisionBump != c.Status.RevisionFloor-s.Revision || c.Status.RevisionFloor != s.RaisedTime.Unix()*1e6 || !cmp.Equal(s.OldVolumes, old) || r.says(v1alpha1.ConditionReady) != "False/Restoring" {
		t.Errorf("after the raise: %+v", s)
	}
	c.Status.ClusterID = "c2"
	meta.SetStatusCondition(&c.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionAvailable, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonProbeSucceeded})
	if err := r.api.Status().Update(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	r.passes()
	if r.says(v1alpha1.ConditionReady) != "True/Restored" {
		t.Errorf("Ready is %s", r.says(v1alpha1.ConditionReady))
	}
	if result, err := r.pass(); err != nil || result.RequeueAfter != 0 {
		t.Errorf("at rest it looks again after %v, %v", result.RequeueAfter, err)
	}
}

// TestRestoreIsHeld: what stands in the way before anything is prepared, and what is said.
func TestRestoreIsHeld(t *testing.T) {
	unverified := goodBackup()
	meta.RemoveStatusCondition(&unverified.Status.Conditions, v1alpha1.ConditionVerified)
	foreign := anEtcdBackup(func(b *v1alpha1.EtcdBackup) { b.Name = "back-safety"; succeed(b) })
	first := anEtcdRestore(onRecord, named("first"))
	for name, tc := range map[string]struct {
		objects []client.Object
		want    string
		stalled bool
	}{
		"no cluster":             {[]client.Object{goodBackup(), anEtcdRestore()}, "ClusterNotFound", false},
		"not founded":            {[]client.Object{cluster(), goodBackup(), anEtcdRestore()}, "ClusterNotFounded", false},
		"paused":                 {[]client.Object{cluster(founded, paused), goodBackup(), anEtcdRestore()}, "Paused", false},
		"no backup":              {[]client.Object{cluster(founded), anEtcdRestore()}, "RestoreBlocked", false},
		"not verified":           {[]client.Object{cluster(founded), unverified, anEtcdRestore()}, "RestoreBlocked", false},
		"another is under way":   {[]client.Object{cluster(founded), goodBackup(), anEtcdRestore(), first}, "Queued", false},
		"a backup of its name":   {[]client.Object{cluster(founded), goodBackup(), anEtcdRestore(), foreign}, "NameConflict", true},
		"the cluster was raised": {[]client.Object{cluster(founded, func(c *v1alpha1.EtcdCluster) { c.Status.Incarnation = 2 }), goodBackup(), anEtcdRestore(onRecord)}, "Superseded", true},
		"another of its name was": {[]client.Object{cluster(founded, func(c *v1alpha1.EtcdCluster) {
			c.Status.Incarnation, c.Status.Recovery = 2, &v1alpha1.RecoveryStatus{Incarnation: 2, BackupName: "b", RestoreName: "back", RestoreUID: "e6"}
		}), goodBackup(), anEtcdRestore(onRecord, isPrepared)}, "Superseded", true},
		"the backup was made anew": {[]client.Object{cluster(founded), goodBackup(), anEtcdRestore(onRecord, func(r *v1alpha1.EtcdRestore) { r.Status.BackupID = "another-id" })}, "RestoreBlocked", false},
		"another cluster": {
			[]client.Object{cluster(founded), goodBackup(), anEtcdRestore(onRecord, func(r *v1alpha1.EtcdRestore) { r.Status.ClusterUID = "0ld" })}, "ClusterReplaced", true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRestores(t, tc.objects...)
			r.passes()
			stalled := map[bool]string{true: "True/" + tc.want, false: "False/None"}[tc.stalled]
			if r.says(v1alpha1.ConditionReady) != "False/"+tc.want || r.says(v1alpha1.ConditionStalled) != stalled {
				t.Errorf("Ready is %s, Stalled %s, want %s", r.says(v1alpha1.ConditionReady), r.says(v1alpha1.ConditionStalled), tc.want)
			}
			if !strings.HasPrefix(name, "another of its name") && r.says(v1alpha1.ConditionPrepared) == "True/Prepared" {
				t.Error("it is prepared")
			}
		})
	}
}

// TestASafetyBackupThatFails: it stalls, and no member is stopped.
func TestASafetyBackupThatFails(t *testing.T) {
	r := newRestores(t, cluster(founded), goodBackup(), anEtcdRestore())
	r.good()
	r.saves(func(b *v1alpha1.EtcdBackup) {
		for kind, is := range map[string]metav1.ConditionStatus{v1alpha1.ConditionStalled: metav1.ConditionTrue, v1alpha1.ConditionReady: metav1.ConditionFalse} {
			meta.SetStatusCondition(&b.Status.Conditions, metav1.Condition{Type: kind, Status: is, Reason: v1alpha1.ReasonFailed, Message: "no bucket"})
		}
	})
	r.passes()
	if r.says(v1alpha1.ConditionStalled) != "True/SafetyBackupFailed" || !strings.Contains(meta.FindStatusCondition(r.get().Status.Conditions, v1alpha1.ConditionReady).Message, "no bucket") {
		t.Errorf("Stalled is %s", r.says(v1alpha1.ConditionStalled))
	}
	for range 3 {
		r.clusterPass()
	}
	if c := r.cluster(); c.Status.Restore != nil || c.Status.Incarnation != 1 {
		t.Errorf("the cluster's status is %+v", c.Status)
	}
}

// TestNobodyIsStoppedForABackupThatCannotBeRead: it was verified, and since then its object was
// removed, or the private key was exchanged. The Job that reads it finds out, and no pod is
// deleted.
func TestNobodyIsStoppedForABackupThatCannotBeRead(t *testing.T) {
	for name, tc := range map[string]struct {
		result func(*snapshot.Result)
		says   string
	}{
		"its object is gone": {func(r *snapshot.Result) { r.Reason = snapshot.ReasonCorrupt }, "is gone"},
		"another key is in the Secret": {func(r *snapshot.Result) {
			r.Reason, r.Message = snapshot.ReasonKeyMissing, "the key is another one — it cannot be read — give the right one"
		}, "another one"},
		"the Job says nothing": {func(r *snapshot.Result) { r.Outcome = "?" }, "Job back-check failed"},
	} {
		for policy, er := range map[string]*v1alpha1.EtcdRestore{"": anEtcdRestore(), " and unverified": anEtcdRestore(skipping, func(r *v1alpha1.EtcdRestore) { r.Spec.AllowUnverified = true })} {
			t.Run(name+policy, func(t *testing.T) {
				r := livingRestores(t, er)
				r.looks(snapshot.OutcomeFailed, tc.result)
				ready := meta.FindStatusCondition(r.get().Status.Conditions, v1alpha1.ConditionReady)
				if r.says(v1alpha1.ConditionStalled) != "True/BackupUnreadable" || !strings.Contains(ready.Message, tc.says) || strings.Count(ready.Message, " — ") != 2 || r.safety() != nil {
					t.Errorf("Stalled is %s: %s", r.says(v1alpha1.ConditionStalled), ready.Message)
				}
				for range 4 {
					r.clusterPass()
					r.passes()
				}
				if c := r.cluster(); c.Status.Restore != nil || c.Status.Incarnation > 1 {
					t.Errorf("the cluster's status is %+v", c.Status)
				}
				for _, name := range threeFounders {
					if err := r.api.Get(t.Context(), client.ObjectKey{Namespace: "ns", Name: name}, &corev1.Pod{}); err != nil {
						t.Errorf("%s was stopped: %v", name, err)
					}
				}
			})
		}
	}
}

// TestTheLookCounts only if it was at this very backup, for this restore, and not long ago.
func TestTheLookCounts(t *testing.T) {
	prepared := func(r *restores) string { r.t.Helper(); return r.says(v1alpha1.ConditionPrepared) }
	t.Run("at another backup", func(t *testing.T) {
		r := newRestores(t, cluster(founded), goodBackup(), anEtcdRestore(skipping))
		r.looks(snapshot.OutcomeSucceeded, func(r *snapshot.Result) { r.Backup.ID = "another-id" })
		if prepared(r) != "False/Looking" {
			t.Errorf("Prepared is %s", prepared(r))
		}
	})
	t.Run("of another restore", func(t *testing.T) {
		r := newRestores(t, cluster(founded), goodBackup(), anEtcdRestore(skipping))
		job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "back-check", Labels: map[string]string{v1alpha1.LabelRestoreUID: "e6"}}}
		if err := r.api.Create(t.Context(), job); err != nil {
			t.Fatal(err)
		}
		r.passes()
		if prepared(r) != "False/NameConflict" {
			t.Errorf("Prepared is %s", prepared(r))
		}
	})
	t.Run("long ago", func(t *testing.T) {
		r := newRestores(t, cluster(founded), goodBackup(), anEtcdRestore())
		r.good()
		r.reconciler.Clock = clocktesting.NewFakePassiveClock(time.Unix(1e9, 0).Add(lookCounts + time.Second))
		r.saves(succeed)
		r.passes()
		if prepared(r) != "False/Looking" {
			t.Errorf("Prepared is %s", prepared(r))
		}
		r.good()
		if prepared(r) != "True/Prepared" {
			t.Errorf("read once more, Prepared is %s", prepared(r))
		}
	})
	t.Run("with another key", func(t *testing.T) {
		encrypted := goodBackup()
		encrypted.Spec.Encryption = &v1alpha1.BackupEncryption{IdentitySecretRef: &v1alpha1.SecretReference{Name: "age"}}
		key := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "age"}}
		for after, want := range map[time.Duration]string{0: "True/Prepared", secretsCount: "False/Looking"} {
			r := newRestores(t, cluster(founded), encrypted.DeepCopy(), key.DeepCopy(), anEtcdRestore())
			r.good()
			now := stored[corev1.Secret](t, r.api, client.ObjectKeyFromObject(key))
			now.StringData = map[string]string{"identity": "another"}
			if err := r.api.Update(t.Context(), now); err != nil {
				t.Fatal(err)
			}
			r.reconciler.Clock = clocktesting.NewFakePassiveClock(time.Unix(1e9, 0).Add(after))
			r.saves(succeed)
			r.passes()
			if prepared(r) != want {
				t.Errorf("after %s Prepared is %s, want %s", after, prepared(r), want)
			}
		}
	})
	t.Run("without the image", func(t *testing.T) {
		r := newRestores(t, cluster(founded), goodBackup(), anEtcdRestore(skipping))
		r.reconciler.BackupImage = ""
		for range 3 {
			if _, err := r.pass(); err != nil && !errors.Is(err, resources.ErrNoBackupImage) {
				t.Fatal(err)
			}
		}
		if prepared(r) != "False/ApplyFailed" {
			t.Errorf("Prepared is %s", prepared(r))
		}
	})
}

// TestASafetyBackupGrowsOld from when it is there, and was tried out where that is asked: by
// when it was begun, a large one would be too old each time.
func TestASafetyBackupGrowsOld(t *testing.T) {
	b := anEtcdBackup(succeed)
	for i, kind := range []string{v1alpha1.ConditionComplete, v1alpha1.ConditionVerified} {
		meta.FindStatusCondition(b.Status.Conditions, kind).LastTransitionTime = metav1.Unix(int64(i), 0)
	}
	if plain, tried := readySince(b, wantedOf(false)), readySince(b, wantedOf(true)); plain.Unix() != 0 || tried.Unix() != 1 {
		t.Errorf("since %v, and tried out since %v", plain, tried)
	}
}

// TestARestoreThatWaitsSaysSo: what the cluster waits for before it stops anybody is told as that,
// and not as a restore that is under way.
func TestARestoreThatWaitsSaysSo(t *testing.T) {
	r := livingRestores(t, anEtcdRestore(skipping))
	r.good()
	c := r.cluster()
	c.Status.Restore = &v1alpha1.ClusterRestoreStatus{Name: "back", UID: string(r.get().UID), Message: "no room — nobody could begin — make some"}
	if err := r.api.Status().Update(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	r.passes()
	ready := meta.FindStatusCondition(r.get().Status.Conditions, v1alpha1.ConditionReady)
	if r.says(v1alpha1.ConditionReady) != "False/RestoreBlocked" || ready.Message != "nobody is stopped for it now: no room — nobody could begin — make some" {
		t.Errorf("while it waits Ready is %s: %s", r.says(v1alpha1.ConditionReady), ready.Message)
	}
	if result, err := r.pass(); err != nil || result.RequeueAfter != whileWorking {
		t.Errorf("it is looked at again after %s (%v), and the members may be stopped any second", result.RequeueAfter, err)
	}
	c = r.cluster()
	c.Status.Restore.Begun = &metav1.Time{Time: time.Unix(1e9, 0)}
	if err := r.api.Status().Update(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	r.passes()
	if got := r.says(v1alpha1.ConditionReady); got != "False/Restoring" {
		t.Errorf("when it has begun Ready is %s", got)
	}
}

// TestASkippedSafetyBackup is not made.
func TestASkippedSafetyBackup(t *testing.T) {
	r := newRestores(t, cluster(founded), goodBackup(), anEtcdRestore(skipping))
	r.good()
	if r.safety() != nil || r.says(v1alpha1.ConditionPrepared) != "True/Prepared" || r.get().Status.SafetyBackup != nil {
		t.Errorf("safety backup %v, Prepared is %s", r.safety(), r.says(v1alpha1.ConditionPrepared))
	}
}

// behind is a client whose caches show one object as it was.
type behind struct {
	client.Client
	shows client.Object
}

func (b behind) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	if is, same := o.(*v1alpha1.EtcdCluster); same && key == client.ObjectKeyFromObject(b.shows) {
		if c, ok := b.shows.(*v1alpha1.EtcdCluster); ok {
			c.DeepCopyInto(is)
			return nil
		}
	}
	if is, same := o.(*v1alpha1.EtcdRestore); same && key == client.ObjectKeyFromObject(b.shows) {
		if r, ok := b.shows.(*v1alpha1.EtcdRestore); ok {
			r.DeepCopyInto(is)
			return nil
		}
	}
	return b.Client.Get(ctx, key, o, opts...)
}

// TestAStaleCachePreparesNothing: a cluster that was raised since, and a restore that was
// taken back, are seen before anything is written.
func TestAStaleCachePreparesNothing(t *testing.T) {
	t.Run("the cluster was raised", func(t *testing.T) {
		r := newRestores(t, cluster(founded, func(c *v1alpha1.EtcdCluster) { c.Status.Incarnation = 3 }), goodBackup(), anEtcdRestore())
		r.reconciler.Client = behind{r.api, cluster(founded)}
		if _, err := r.pass(); err != nil {
			t.Fatal(err)
		}
		if got := r.get().Status.Incarnation; got != 3 {
			t.Errorf("incarnation %d is given up, want 3", got)
		}
	})
	t.Run("it was taken back", func(t *testing.T) {
		gone := anEtcdRestore(onRecord)
		r := newRestores(t, cluster(founded), goodBackup())
		r.reconciler.Client = behind{r.api, gone}
		if _, err := r.pass(); err != nil || len(r.writes) > 0 || r.safety() != nil {
			t.Errorf("it wrote %v, %v", r.writes, err)
		}
	})
}

// TestRestoreCutShort: whatever fails or is killed on the way, the next pass goes on, and
// what was not written was not done.
func TestRestoreCutShort(t *testing.T) {
	errDown := errors.New("the API server is away")
	for _, lost := range []string{"patch status back", "create back-check", "create back-safety"} {
		for _, with := range []error{errDown, apierrors.NewConflict(schema.GroupResource{Resource: "etcdrestores"}, "back", errDown)} {
			r := newRestores(t, cluster(founded), goodBackup(), anEtcdRestore())
			failed := 0
			r.before = func(verb string, o client.Object) error {
				if verb+" "+o.GetName() == lost && failed < 2 {
					failed++
					return with
				}
				return nil
			}
			for i := range 12 {
				if i == 6 {
					r.lookEnds(snapshot.OutcomeSucceeded, nil)
				}
				_, err := r.pass()
				if err != nil && !errors.Is(err, errDown) {
					t.Fatal(err)
				}
				if s := r.get().Status; r.safety() != nil && s.Incarnation == 0 {
					t.Errorf("%s lost: a safety backup of what is not on record", lost)
				}
			}
			if failed == 0 || r.safety() == nil || r.says(v1alpha1.ConditionReady) != "False/SafetyBackup" {
				t.Errorf("%s lost %d times with %v: Ready is %s", lost, failed, with, r.says(v1alpha1.ConditionReady))
			}
		}
	}
}

// TestATakenBackRestoreIsNotObeyed: deleted after it was latched, and before the raise, the
// cluster forgets it and does not stop anybody.
func TestATakenBackRestoreIsNotObeyed(t *testing.T) {
	r := livingRestores(t, anEtcdRestore(skipping))
	r.good()
	for range 4 {
		r.clusterPass()
		if s := r.cluster().Status.Restore; s != nil && s.Begun != nil {
			break
		}
	}
	if s := r.cluster().Status.Restore; s == nil || s.Begun == nil {
		t.Fatalf("it was never latched: %+v", s)
	}
	if err := r.api.Delete(t.Context(), r.get()); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		r.clusterPass()
	}
	c := r.cluster()
	if c.Status.Restore != nil || c.Status.Incarnation != 1 {
		t.Errorf("the cluster's status is %+v", c.Status)
	}
	if err := r.api.Get(t.Context(), client.ObjectKey{Namespace: "ns", Name: "a-0000"}, &corev1.Pod{}); err != nil {
		t.Errorf("the member was stopped: %v", err)
	}
}
