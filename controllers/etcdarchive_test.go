package controllers

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	appsv1 "k8s.io/api/apps/v1"
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

var archiveRequest = ctrl.Request{NamespacedName: client.ObjectKey{Namespace: "ns", Name: "e"}}

// archives runs passes over an EtcdArchive.
type archives struct {
	*operator
	reconciler *EtcdArchiveReconciler
	clock      *clocktesting.FakePassiveClock
	// progress of the pod; nil if it does not answer.
	progress *snapshot.Progress
}

func newArchives(t *testing.T, objects ...client.Object) *archives {
	t.Helper()
	a := &archives{operator: newOperator(t, objects...), clock: clocktesting.NewFakePassiveClock(time.Unix(1e9, 0))}
	a.reconciler = &EtcdArchiveReconciler{
		Client: a.api, Live: a.api, Recorder: a.events, Clock: a.clock, BackupImage: "backup:v0", Lags: &ArchiveLags{Clock: a.clock},
		Progress: func(_ context.Context, podIP string) (*snapshot.Progress, error) {
			if podIP != "10.0.0.1" || a.progress == nil {
				return nil, errNoProgress
			}
			return a.progress, nil
		},
	}
	return a
}

func anEtcdArchive(changes ...func(*v1alpha1.EtcdArchive)) *v1alpha1.EtcdArchive {
	a := &v1alpha1.EtcdArchive{
		ObjectMeta: metav1.ObjectMeta{Name: "e", Namespace: "ns", UID: "e1", CreationTimestamp: metav1.Time{Time: time.Unix(1e9-10, 0)}},
		Spec: v1alpha1.EtcdArchiveSpec{
			ClusterRef: v1alpha1.ClusterReference{Name: "a"}, SealEvery: metav1.Duration{Duration: 2 * time.Second}, MaxLag: metav1.Duration{Duration: 5 * time.Minute},
			DrillEvery: metav1.Duration{Duration: 7 * 24 * time.Hour},
			Store:      v1alpha1.BackupStore{S3: &v1alpha1.S3Store{Bucket: "backups", CredentialsSecretRef: &v1alpha1.SecretReference{Name: "s3"}}},
		},
	}
	for _, change := range changes {
		change(a)
	}
	return a
}

func undrilled(a *v1alpha1.EtcdArchive) { a.Spec.DrillEvery = metav1.Duration{} }

func (a *archives) pass() (ctrl.Result, error) {
	a.t.Helper()
	a.writes = nil
	return a.reconciler.Reconcile(a.t.Context(), archiveRequest)
}

// passes until nothing is written any more, and what was written.
func (a *archives) passes() (wrote []string) {
	a.t.Helper()
	for range 10 {
		if _, err := a.pass(); err != nil {
			a.t.Fatal(err)
		}
		if len(a.writes) == 0 {
			return wrote
		}
		wrote = append(wrote, a.writes...)
	}
	a.t.Fatalf("it writes for ever: %v", a.writes)
	return nil
}

func (a *archives) get() *v1alpha1.EtcdArchive {
	a.t.Helper()
	return stored[v1alpha1.EtcdArchive](a.t, a.api, archiveRequest.NamespacedName)
}

func (a *archives) condition(kind string) string {
	a.t.Helper()
	return told(a.get().Status.Conditions, kind)
}

func (a *archives) deployment() *appsv1.Deployment {
	a.t.Helper()
	d := &appsv1.Deployment{}
	if err := a.api.Get(a.t.Context(), client.ObjectKey{Namespace: "ns", Name: "e-archiver"}, d); err != nil {
		a.t.Fatal(err)
	}
	return d
}

// pod of an operation, as it is now.
func (a *archives) pod(operation snapshot.Operation, is corev1.ContainerStatus) {
	a.t.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "pod-of-" + string(operation), Namespace: "ns", Labels: resources.ArchiveLabels(a.get(), operation)}}
	p.Labels[batchv1.JobNameLabel], p.Labels[batchv1.ControllerUidLabel] = "e-"+string(operation), made
	if err := client.IgnoreNotFound(a.api.Delete(a.t.Context(), p.DeepCopy())); err != nil {
		a.t.Fatal(err)
	}
	is.Name = resources.BackupContainer
	p.Status.PodIP, p.Status.ContainerStatuses = "10.0.0.1", []corev1.ContainerStatus{is}
	if err := a.api.Create(a.t.Context(), p); err != nil {
		a.t.Fatal(err)
	}
}

var runs = corev1.ContainerStatus{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}

// tells has the pod answer, as of now.
func (a *archives) tells(revision int64, change func(*snapshot.ArchiveProgress)) {
	p := &snapshot.ArchiveProgress{Revision: revision, Until: a.clock.Now().Add(-time.Second), Base: "base-1"}
	if change != nil {
		change(p)
	}
	a.progress = &snapshot.Progress{Phase: snapshot.PhaseArchiving, Archive: p}
}

// TestArchive goes the whole way: a cluster is recorded, archived, tried out, and at rest
// nothing is written.
func TestArchive(t *testing.T) {
	a := newArchives(t, anEtcdArchive(), cluster(voting), s3Secret())
	if diff := cmp.Diff([]string{"patch status e", "create e-archiver"}, a.passes()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	d := a.deployment()
	command := strings.Join(d.Spec.Template.Spec.Containers[0].Command, " ")
	for _, want := range []string{"archive --store=s3://backups", "--cluster-uid=5e1f", "--cluster-id=c1", "--endpoints=http://a-0000.a.ns.svc:2379", "--seal-every=2s"} {
		if !strings.Contains(command, want) {
			t.Errorf("no %s in %s", want, command)
		}
	}
	a.pod(snapshot.OperationArchive, runs)
	a.passes()
	if got := a.condition(v1alpha1.ConditionArchiving); got != "Unknown/ArchiverSilent" {
		t.Errorf("Archiving is %s while the pod does not tell", got)
	}
	a.tells(42, nil)
	if wrote := a.passes(); !slices.Contains(wrote, "create e-drill-archive") {
		t.Errorf("no drill: %v", wrote)
	}
	if s := a.get().Status; s.ArchivedRevision != 42 || s.Base != "base-1" || a.condition(v1alpha1.ConditionReady) != "True/Archiving" {
		t.Errorf("status %+v", s)
	}
	job := &batchv1.Job{}
	if err := a.api.Get(t.Context(), client.ObjectKey{Namespace: "ns", Name: "e-drill-archive"}, job); err != nil {
		t.Fatal(err)
	}
	job.Status.Conditions = append(job.Status.Conditions, batchv1.JobCondition{Type: batchv1.JobComplete, Status: corev1.ConditionTrue})
	if err := a.api.Status().Update(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	a.pod(snapshot.OperationDrillArchive, corev1.ContainerStatus{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Message: string(snapshot.Result{
		Operation: snapshot.OperationDrillArchive, Outcome: snapshot.OutcomeSucceeded, Reason: snapshot.ReasonVerified,
		Point: &snapshot.Point{Revision: 41}, Verification: &snapshot.Verification{},
	}.Encode())}}})
	a.passes()
	if s := a.get().Status; s.DrilledRevision != 41 || a.condition(v1alpha1.ConditionVerified) != "True/Verified" {
		t.Errorf("after the drill: %+v", s)
	}
	for range 5 {
		a.clock.SetTime(a.clock.Now().Add(10 * time.Second))
		a.tells(42, nil)
		if result, err := a.pass(); err != nil || result.RequeueAfter != whileArchiving || len(a.writes) > 0 {
			t.Errorf("at rest: %v, %v, wrote %v", result, err, a.writes)
		}
	}
	// What was restored on trial is not what is archived from now on.
	is := a.get()
	is.Spec.Store.S3.Bucket = "others"
	if err := a.api.Update(t.Context(), is); err != nil {
		t.Fatal(err)
	}
	wrote := a.passes()
	if got := a.condition(v1alpha1.ConditionVerified); got != "False/Pending" || a.get().Status.DrilledRevision != 0 {
		t.Errorf("after another store: Verified is %s, status %+v", got, a.get().Status)
	}
	if !slices.Contains(wrote, "delete e-drill-archive") || !slices.Contains(wrote, "create e-drill-archive") {
		t.Errorf("the other store is not tried out: %v", wrote)
	}
}

// TestArchiveIsBounded: what spec.keepFor does not keep is deleted by a Job once a day, which is
// told, and not while a cluster is being filled from the archive.
func TestArchiveIsBounded(t *testing.T) {
	keeps := func(a *v1alpha1.EtcdArchive) { a.Spec.KeepFor = metav1.Duration{Duration: 48 * time.Hour} }
	elsewhere := cluster(func(c *v1alpha1.EtcdCluster) {
		c.Name, c.Namespace, c.UID = "new", "elsewhere", "ne3"
		c.Spec.RestoreFrom = &v1alpha1.RestoreSource{Store: &v1alpha1.BackupStore{}, ClusterUID: "5e1f", ToTime: "2001-09-08T00:00:00Z"}
	})
	a := newArchives(t, anEtcdArchive(undrilled, keeps), cluster(voting), s3Secret(), elsewhere)
	a.passes()
	a.pod(snapshot.OperationArchive, runs)
	later := func(by time.Duration) (wrote []string) {
		t.Helper()
		a.clock.SetTime(a.clock.Now().Add(by))
		a.tells(42, nil)
		return a.passes()
	}
	bounded := func() string { return a.condition(v1alpha1.ConditionHistoryBounded) }
	if wrote := later(time.Second); slices.Contains(wrote, "create e-prune-archive") || bounded() != "False/Pending" {
		t.Errorf("it is young: wrote %v, HistoryBounded is %s", wrote, bounded())
	}
	if wrote := later(48 * time.Hour); slices.Contains(wrote, "create e-prune-archive") || bounded() != "False/Queued" {
		t.Errorf("a cluster is being filled: wrote %v, HistoryBounded is %s", wrote, bounded())
	}
	if c := meta.FindStatusCondition(a.get().Status.Conditions, v1alpha1.ConditionHistoryBounded); !strings.Contains(c.Message, "elsewhere/new") {
		t.Errorf("who is waited for is not told: %q", c.Message)
	}
	if err := a.api.Delete(t.Context(), elsewhere); err != nil {
		t.Fatal(err)
	}
	if wrote := later(0); !slices.Contains(wrote, "create e-prune-archive") {
		t.Fatalf("nobody is filled: wrote %v", wrote)
	}
	ends := func(with batchv1.JobConditionType, result snapshot.Result) {
		t.Helper()
		job := stored[batchv1.Job](t, a.api, client.ObjectKey{Namespace: "ns", Name: "e-prune-archive"})
		if command := strings.Join(job.Spec.Template.Spec.Containers[0].Command, " "); !strings.Contains(command, "--points-since=2001-09-") {
			t.Errorf("%s", command)
		}
		job.CreationTimestamp = metav1.NewTime(a.clock.Now().Add(-time.Minute))
		if err := a.api.Update(t.Context(), job); err != nil {
			t.Fatal(err)
		}
		job.Status.Conditions = []batchv1.JobCondition{{Type: with, Status: corev1.ConditionTrue}}
		if err := a.api.Status().Update(t.Context(), job); err != nil {
			t.Fatal(err)
		}
		result.Operation = snapshot.OperationPrune
		a.pod(snapshot.OperationPrune, corev1.ContainerStatus{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Message: string(result.Encode())}}})
		pod := stored[corev1.Pod](t, a.api, client.ObjectKey{Namespace: "ns", Name: "pod-of-prune"})
		pod.Labels[batchv1.JobNameLabel] = job.Name
		if err := a.api.Update(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
		for len(a.events.Events) > 0 {
			<-a.events.Events
		}
		a.passes()
	}
	event := func(want ...string) {
		t.Helper()
		if len(a.events.Events) != 1 {
			t.Fatalf("%d events", len(a.events.Events))
		}
		got := <-a.events.Events
		for _, part := range want {
			if !strings.Contains(got, part) {
				t.Errorf("event %q does not say %q", got, part)
			}
		}
	}
	ends(batchv1.JobComplete, snapshot.Result{Outcome: snapshot.OutcomeSucceeded, Pruned: &snapshot.Pruned{Dropped: []snapshot.Dropped{{ID: "old-base"}}, DroppedCount: 1, Segments: 7}})
	if got := a.get().Status; bounded() != "True/Pruned" || !got.LastPruneTime.Time.Equal(a.clock.Now()) {
		t.Errorf("HistoryBounded is %s, status %+v", bounded(), got)
	}
	event("Normal Pruned", "old-base", "7 segments")
	if wrote := later(23 * time.Hour); slices.Contains(wrote, "create e-prune-archive") {
		t.Errorf("it is looked for again and again: %v", wrote)
	}
	if wrote := later(time.Hour); !slices.Contains(wrote, "delete e-prune-archive") || !slices.Contains(wrote, "create e-prune-archive") {
		t.Errorf("a day later: wrote %v", wrote)
	}
	ends(batchv1.JobFailed, snapshot.Result{Outcome: snapshot.OutcomeFailed, Reason: snapshot.ReasonAccessDenied, Message: "s3://backups says no — it does — ask"})
	if bounded() != "False/AccessDenied" || a.condition(v1alpha1.ConditionReady) != "True/Archiving" {
		t.Errorf("HistoryBounded is %s, Ready %s", bounded(), a.condition(v1alpha1.ConditionReady))
	}
	event("Warning AccessDenied", "s3://backups")
	for range 2 {
		a.clock.SetTime(a.clock.Now().Add(10 * time.Second))
		a.tells(42, nil)
		if _, err := a.pass(); err != nil || len(a.writes) > 0 {
			t.Errorf("at rest: %v, wrote %v", err, a.writes)
		}
	}
	is := a.get()
	is.Spec.KeepFor = metav1.Duration{}
	if err := a.api.Update(t.Context(), is); err != nil {
		t.Fatal(err)
	}
	if wrote := later(48 * time.Hour); slices.Contains(wrote, "create e-prune-archive") || bounded() != "" {
		t.Errorf("everything is kept: wrote %v, HistoryBounded is %s", wrote, bounded())
	}
}

// TestAnArchiverThatStartsIsNoAlarm: it does not answer in its first seconds. That it does not
// later is one, and so is what stands in its way before it has begun.
func TestAnArchiverThatStartsIsNoAlarm(t *testing.T) {
	a := newArchives(t, anEtcdArchive(undrilled), cluster(voting), s3Secret())
	a.passes()
	a.pod(snapshot.OperationArchive, corev1.ContainerStatus{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(a.clock.Now())}}})
	for _, look := range []struct {
		after            time.Duration
		progress         *snapshot.Progress
		archiving, alarm string
	}{
		{archiving: "False/Pending"},
		{after: 14 * time.Second, archiving: "False/Pending"},
		{after: time.Second, archiving: "Unknown/ArchiverSilent", alarm: "Warning ArchiverSilent"},
		{progress: &snapshot.Progress{}, archiving: "False/Pending"},
		{
			progress:  &snapshot.Progress{Trouble: &snapshot.Trouble{Reason: snapshot.ReasonStoreUnreachable, Message: "no answer — lost — wait"}},
			archiving: "False/StoreUnreachable", alarm: "Warning StoreUnreachable",
		},
	} {
		a.clock.SetTime(a.clock.Now().Add(look.after))
		a.progress = look.progress
		a.passes()
		if got := a.condition(v1alpha1.ConditionArchiving); got != look.archiving {
			t.Errorf("Archiving is %s, want %s", got, look.archiving)
		}
		var alarms []string
		for len(a.events.Events) > 0 {
			if event := <-a.events.Events; strings.HasPrefix(event, "Warning") {
				alarms = append(alarms, event)
			}
		}
		if len(alarms) > 1 || (len(alarms) == 1) != (look.alarm != "") || look.alarm != "" && !strings.HasPrefix(alarms[0], look.alarm) {
			t.Errorf("%s: alarms %q, want %q", look.archiving, alarms, look.alarm)
		}
	}
}

// TestArchiveInTrouble: the archiver's words are the user's, and are taken back when it goes
// on; one that is killed is told by its last words.
func TestArchiveInTrouble(t *testing.T) {
	a := newArchives(t, anEtcdArchive(undrilled), cluster(voting), s3Secret())
	a.passes()
	a.pod(snapshot.OperationArchive, runs)
	a.tells(42, nil)
	a.passes()
	a.tells(42, func(p *snapshot.ArchiveProgress) {
		p.Trouble = &snapshot.Trouble{Reason: snapshot.ReasonStoreUnreachable, Message: "no answer — lost — wait"}
	})
	a.passes()
	if got := a.condition(v1alpha1.ConditionReady); got != "False/StoreUnreachable" {
		t.Errorf("Ready is %s", got)
	}
	a.clock.SetTime(a.clock.Now().Add(6 * time.Minute))
	a.progress.Archive.Until = a.get().Status.ArchivedUntil.Time
	a.passes()
	if got := a.condition(v1alpha1.ConditionLagExceeded); got != "True/LagExceeded" {
		t.Errorf("LagExceeded is %s", got)
	}
	a.clock.SetTime(a.clock.Now().Add(time.Minute))
	if _, err := a.pass(); err != nil || len(a.writes) > 0 {
		t.Errorf("it is told again and again: %v, %v", a.writes, err)
	}
	a.tells(50, nil)
	a.passes()
	if got := a.condition(v1alpha1.ConditionReady) + " " + a.condition(v1alpha1.ConditionLagExceeded); got != "True/Archiving False/WithinLimit" {
		t.Errorf("when it goes on: %s", got)
	}
	var told []string
	for len(a.events.Events) > 0 {
		told = append(told, <-a.events.Events)
	}
	if !slices.ContainsFunc(told, func(e string) bool { return strings.HasPrefix(e, "Warning StoreUnreachable") }) {
		t.Errorf("events %q", told)
	}

	a.progress = nil
	a.pod(snapshot.OperationArchive, corev1.ContainerStatus{
		State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 2, Message: string(snapshot.Result{Operation: snapshot.OperationArchive, Outcome: snapshot.OutcomeFailed, Reason: snapshot.ReasonWrongCluster, Message: "gone back — mixed — move"}.Encode())}},
	})
	a.passes()
	if got := a.condition(v1alpha1.ConditionArchiving) + " " + a.condition(v1alpha1.ConditionStalled); got != "False/WrongCluster True/WrongCluster" {
		t.Errorf("after WrongCluster: %s", got)
	}
	a.pod(snapshot.OperationArchive, corev1.ContainerStatus{
		State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled"}},
	})
	a.passes()
	if c := meta.FindStatusCondition(a.get().Status.Conditions, v1alpha1.ConditionArchiving); c.Reason != v1alpha1.ReasonPending || !strings.Contains(c.Message, "exit code 137, OOMKilled") {
		t.Errorf("Archiving is %+v", c)
	}
}

// TestArchiveFollowsItsCluster: the archiver is told who the members are, and stops when
// they are another cluster's.
func TestArchiveFollowsItsCluster(t *testing.T) {
	a := newArchives(t, anEtcdArchive(undrilled), cluster(voting), s3Secret())
	a.passes()
	c := cluster(voting)
	if err := a.api.Get(t.Context(), client.ObjectKeyFromObject(c), c); err != nil {
		t.Fatal(err)
	}
	c.Status.Members = append(c.Status.Members, v1alpha1.MemberStatus{Name: "a-0001", Role: v1alpha1.RoleVoter})
	if err := a.api.Status().Update(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if wrote := a.passes(); !slices.Contains(wrote, "patch e-archiver") || !strings.Contains(strings.Join(a.deployment().Spec.Template.Spec.Containers[0].Command, " "), "a-0001.a.ns.svc") {
		t.Errorf("a new member is not told: %v", wrote)
	}
	if err := a.api.Delete(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	a.passes()
	if d := a.deployment(); *d.Spec.Replicas != 0 || a.condition(v1alpha1.ConditionArchiving) != "False/ClusterNotFound" {
		t.Errorf("without a cluster: %d replicas, Archiving %s", *d.Spec.Replicas, a.condition(v1alpha1.ConditionArchiving))
	}
	again := cluster(voting, func(c *v1alpha1.EtcdCluster) { c.UID = "another" })
	again.ResourceVersion = ""
	if err := a.api.Create(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	a.passes()
	if d := a.deployment(); *d.Spec.Replicas != 0 || a.condition(v1alpha1.ConditionStalled) != "True/ClusterReplaced" {
		t.Errorf("another cluster is archived as the first: %d replicas, Stalled %s", *d.Spec.Replicas, a.condition(v1alpha1.ConditionStalled))
	}
}

// TestArchiveIsSuspended and goes on.
func TestArchiveIsSuspended(t *testing.T) {
	a := newArchives(t, anEtcdArchive(undrilled), cluster(voting), s3Secret())
	a.passes()
	for _, suspend := range []bool{true, false} {
		is := a.get()
		is.Spec.Suspend = suspend
		if err := a.api.Update(t.Context(), is); err != nil {
			t.Fatal(err)
		}
		a.passes()
		if want := map[bool]int32{false: 1}[suspend]; *a.deployment().Spec.Replicas != want {
			t.Errorf("suspend is %v, and %d replicas are wanted", suspend, *a.deployment().Spec.Replicas)
		}
	}
}

// TestArchiveWaits: what is missing is named, and nothing is made for it.
func TestArchiveWaits(t *testing.T) {
	foreign := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "e-archiver", Namespace: "ns"}}
	cases := map[string]struct {
		objects []client.Object
		want    string
	}{
		"no cluster":                {[]client.Object{s3Secret()}, v1alpha1.ReasonClusterNotFound},
		"a young cluster":           {[]client.Object{cluster(), s3Secret()}, v1alpha1.ReasonClusterNotFounded},
		"no Secret":                 {[]client.Object{cluster(voting)}, "CredentialsMissing"},
		"a Deployment of that name": {[]client.Object{cluster(voting), s3Secret(), foreign}, v1alpha1.ReasonNameConflict},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			a := newArchives(t, append(tc.objects, anEtcdArchive())...)
			if wrote := a.passes(); slices.ContainsFunc(wrote, func(w string) bool { return w != "patch status e" }) {
				t.Errorf("wrote %v", wrote)
			}
			if got := a.condition(v1alpha1.ConditionReady); got != "False/"+tc.want {
				t.Errorf("Ready is %s, want %s", got, tc.want)
			}
			if result, err := a.pass(); err != nil || result.RequeueAfter == 0 || len(a.writes) > 0 {
				t.Errorf("Reconcile() = %v, %v, wrote %v: it is not looked again, or told again", result, err, a.writes)
			}
		})
	}
}

// TestArchiveOfAStaleLook: an operator that is killed after any write does the same in the
// end, and one whose cache is old makes nothing a second time and overwrites no status.
func TestArchiveOfAStaleLook(t *testing.T) {
	a := newArchives(t, anEtcdArchive(undrilled), cluster(voting), s3Secret())
	// Killed before its status was written: the Deployment is there, and status says nothing.
	killed := errors.New("killed")
	a.before = func(verb string, o client.Object) error {
		if _, archive := o.(*v1alpha1.EtcdArchive); archive && verb == "patch status" && a.get().Status.ClusterUID != "" {
			return killed
		}
		return nil
	}
	for range 3 {
		_, _ = a.pass()
	}
	a.before = nil
	if a.deployment(); a.get().Status.ClusterUID != "5e1f" {
		t.Fatalf("status %+v", a.get().Status)
	}
	if wrote := a.passes(); slices.Contains(wrote, "create e-archiver") || slices.Contains(wrote, "patch e-archiver") {
		t.Errorf("after it was killed it made the Deployment again: %v", wrote)
	}

	// A cache that has not heard of the Deployment: the API server has.
	old := a.get()
	stale := 1
	a.before = func(verb string, o client.Object) error {
		if _, d := o.(*appsv1.Deployment); d && verb == "get" && stale > 0 {
			stale--
			return apierrors.NewNotFound(appsv1.Resource("deployments"), "e-archiver")
		}
		return nil
	}
	if _, err := a.pass(); err != nil || len(a.writes) > 0 {
		t.Errorf("with an old cache: %v, wrote %v", err, a.writes)
	}
	a.before = nil

	// A status that somebody else has written meanwhile is not overwritten.
	a.pod(snapshot.OperationArchive, runs)
	a.tells(42, nil)
	a.passes()
	before := old.DeepCopy()
	old.Status.ArchivedRevision = 7
	if err := a.reconciler.patchStatus(t.Context(), before, old, nil); !apierrors.IsConflict(err) {
		t.Errorf("an old look is written over status: %v", err)
	}
	if a.get().Status.ArchivedRevision != 42 {
		t.Errorf("status went back to revision %d", a.get().Status.ArchivedRevision)
	}
}

// TestArchiveLags: the age counts on while nobody looks, and goes with the archive.
func TestArchiveLags(t *testing.T) {
	a := newArchives(t, anEtcdArchive(undrilled), cluster(voting), s3Secret())
	a.passes()
	a.pod(snapshot.OperationArchive, runs)
	a.tells(42, nil)
	a.passes()
	a.clock.SetTime(a.clock.Now().Add(time.Hour))
	want := `
		# HELP quorate_archive_age_seconds What was acknowledged longer ago is archived; what is younger would be lost with the cluster.
		# TYPE quorate_archive_age_seconds gauge
		quorate_archive_age_seconds{archive="e",cluster="a",namespace="ns"} 3601
	`
	if err := testutil.CollectAndCompare(a.reconciler.Lags, strings.NewReader(want), "quorate_archive_age_seconds"); err != nil {
		t.Error(err)
	}
	if err := a.api.Delete(t.Context(), a.get()); err != nil {
		t.Fatal(err)
	}
	if _, err := a.pass(); err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(a.reconciler.Lags)
	if left, err := registry.Gather(); err != nil || len(left) > 0 {
		t.Errorf("an archive that is gone is still measured: %v, %v", left, err)
	}
}
