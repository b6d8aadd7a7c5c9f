package controllers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/observe"
	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/internal/snapshot"
)

var errKilled = errors.New("the operator is killed")

// mortal kills the operator before or after one of its calls of the API. It does nothing any
// more until another one has begun.
type mortal struct {
	at    int
	after bool
	calls int
	dead  bool
	// wrote says that the present pass wrote, and worth are the calls of passes that did: it
	// makes no difference whether one is killed that only looks.
	wrote bool
	worth []int
}

// pass of a controller.
func (m *mortal) pass(do func()) {
	first := m.calls + 1
	m.wrote = false
	if do(); !m.wrote {
		return
	}
	for at := first; at <= m.calls; at++ {
		m.worth = append(m.worth, at)
	}
}

func (m *mortal) write(do func() error) error {
	m.wrote = true
	return m.call(do)
}

func (m *mortal) call(do func() error) error {
	if m.dead {
		return errKilled
	}
	m.calls++
	if m.dead = m.calls == m.at; m.dead && !m.after {
		return errKilled
	}
	if err := do(); err != nil || !m.dead {
		return err
	}
	return errKilled
}

// backedUp is a cluster with whatever backs it up, and what the rest of Kubernetes does.
type backedUp struct {
	t     *testing.T
	api   client.WithWatch
	clock *clocktesting.FakePassiveClock
	life  *mortal
	// slow says that no Job that saves comes to its end.
	slow bool
	// worked are the Jobs whose work was done, and the incarnations that were begun, each time
	// that it was.
	worked []string
}

func newBackedUp(t *testing.T, life *mortal, objects []client.Object) *backedUp {
	t.Helper()
	copies := []client.Object{cluster(voting), s3Secret()}
	for _, o := range objects {
		o.SetCreationTimestamp(metav1.NewTime(threeOClock.Add(-time.Minute)))
		copies = append(copies, o)
	}
	return &backedUp{t: t, life: life, clock: clocktesting.NewFakePassiveClock(threeOClock.Add(time.Second)), api: newOperator(t, copies...).api}
}

// operator is a new process: it remembers nothing.
func (w *backedUp) operator() map[string]reconcile.Reconciler {
	api := interceptor.NewClient(w.api, interceptor.Funcs{
		Get: func(ctx context.Context, api client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			return w.life.call(func() error { return api.Get(ctx, key, o, opts...) })
		},
		List: func(ctx context.Context, api client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			return w.life.call(func() error { return api.List(ctx, list, opts...) })
		},
		Create: func(ctx context.Context, api client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			o.SetCreationTimestamp(metav1.NewTime(w.clock.Now()))
			return w.life.write(func() error { return api.Create(ctx, o, opts...) })
		},
		Patch: func(ctx context.Context, api client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			return w.life.write(func() error { return api.Patch(ctx, o, p, opts...) })
		},
		Delete: func(ctx context.Context, api client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			return w.life.write(func() error { return api.Delete(ctx, o, opts...) })
		},
		SubResourcePatch: func(ctx context.Context, api client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			return w.life.write(func() error { return api.SubResource(sub).Patch(ctx, o, p, opts...) })
		},
	})
	progress := func(context.Context, string) (*snapshot.Progress, error) {
		return &snapshot.Progress{Archive: &snapshot.ArchiveProgress{Revision: 42, Until: w.clock.Now(), Base: "base-1"}}, nil
	}
	told := events.NewFakeRecorder(1000)
	observer := &observe.Observer{Cached: api, Live: api, Cluster: api, Backups: api, Restores: api, Clock: w.clock}
	return map[string]reconcile.Reconciler{
		"backup":   &EtcdBackupReconciler{Client: api, Live: api, Recorder: told, Clock: w.clock, BackupImage: "backup:v0", Progress: progress},
		"schedule": &EtcdBackupScheduleReconciler{Client: api, Live: api, Recorder: told, Clock: w.clock},
		"archive":  &EtcdArchiveReconciler{Client: api, Live: api, Recorder: told, Clock: w.clock, BackupImage: "backup:v0", Progress: progress},
		"restore":  &EtcdRestoreReconciler{Client: api, Live: api, Recorder: told, Clock: w.clock, BackupImage: "backup:v0", Progress: progress, Source: observer.Source},
	}
}

func listed[T any](w *backedUp, list client.ObjectList, items func() []T) []T {
	w.t.Helper()
	if err := w.api.List(w.t.Context(), list); err != nil {
		w.t.Fatal(err)
	}
	return items()
}

// run is this many rounds of ten seconds. Who was killed is followed by another.
func (w *backedUp) run(rounds int) {
	w.t.Helper()
	operator := w.operator()
	for range rounds {
		if w.life.dead {
			w.life.dead, w.life.at = false, 0
			operator = w.operator()
		}
		for _, o := range w.objects() {
			kind := ""
			switch o.(type) {
			case *v1alpha1.EtcdBackup:
				kind = "backup"
			case *v1alpha1.EtcdBackupSchedule:
				kind = "schedule"
			case *v1alpha1.EtcdArchive:
				kind = "archive"
			case *v1alpha1.EtcdRestore:
				kind = "restore"
			}
			w.life.pass(func() {
				_, err := operator[kind].Reconcile(w.t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(o)})
				if err != nil && !w.life.dead {
					w.t.Fatalf("%s: %v", kind, err)
				}
			})
		}
		w.others()
		w.clock.SetTime(w.clock.Now().Add(10 * time.Second))
	}
}

// objects that the controllers look after.
func (w *backedUp) objects() (out []client.Object) {
	w.t.Helper()
	schedules, backups, archives, restores := &v1alpha1.EtcdBackupScheduleList{}, &v1alpha1.EtcdBackupList{}, &v1alpha1.EtcdArchiveList{}, &v1alpha1.EtcdRestoreList{}
	for _, s := range listed(w, schedules, func() []v1alpha1.EtcdBackupSchedule { return schedules.Items }) {
		out = append(out, &s)
	}
	for _, b := range listed(w, backups, func() []v1alpha1.EtcdBackup { return backups.Items }) {
		out = append(out, &b)
	}
	for _, a := range listed(w, archives, func() []v1alpha1.EtcdArchive { return archives.Items }) {
		out = append(out, &a)
	}
	for _, r := range listed(w, restores, func() []v1alpha1.EtcdRestore { return restores.Items }) {
		out = append(out, &r)
	}
	return out
}

func (w *backedUp) cluster() *v1alpha1.EtcdCluster {
	w.t.Helper()
	return stored[v1alpha1.EtcdCluster](w.t, w.api, request.NamespacedName)
}

// carryBack is what the cluster's own controller writes for an EtcdRestore, a step each round:
// that members are stopped for it, that the next incarnation has begun, and that it serves.
func (w *backedUp) carryBack() {
	w.t.Helper()
	c, restores := w.cluster(), &v1alpha1.EtcdRestoreList{}
	for _, r := range listed(w, restores, func() []v1alpha1.EtcdRestore { return restores.Items }) {
		s, now := &c.Status, metav1.NewTime(w.clock.Now())
		available := metav1.Condition{Type: v1alpha1.ConditionAvailable, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonRestoring}
		switch {
		case resources.RestoreStands(c, &r) && s.Restore == nil:
			s.Restore = &v1alpha1.ClusterRestoreStatus{Name: r.Name, UID: string(r.UID), Begun: &now, Message: "the members are stopped"}
		case resources.RestoreStands(c, &r):
			// By the clock of the round the floor would be another one in each run.
			s.RevisionFloor = resources.NextFloor(c, threeOClock)
			s.Incarnation, s.ClusterID, s.FounderVolumes, s.Restore = s.Incarnation+1, "", nil, nil
			s.Founders = []string{"a-0003", "a-0004", "a-0005"}
			s.Recovery = &v1alpha1.RecoveryStatus{
				Incarnation: s.Incarnation, BackupName: r.Spec.BackupName, BackupID: r.Status.BackupID, BackupClusterUID: r.Status.ClusterUID,
				RestoreName: r.Name, RestoreUID: string(r.UID), Time: now,
			}
			w.worked = append(w.worked, fmt.Sprintf("incarnation %d", s.Incarnation))
		case s.ClusterID == "":
			s.ClusterID = fmt.Sprintf("c%d", s.Incarnation)
			available.Status, available.Reason = metav1.ConditionTrue, v1alpha1.ReasonProbeSucceeded
		default:
			continue
		}
		meta.SetStatusCondition(&s.Conditions, available)
		if err := w.api.Status().Update(w.t.Context(), c); err != nil {
			w.t.Fatal(err)
		}
		return
	}
}

// others do the work of Jobs and Deployments and of the cluster's own controller, and take what
// belongs to something that is gone.
func (w *backedUp) others() {
	w.t.Helper()
	w.carryBack()
	jobs, deployments, pods := &batchv1.JobList{}, &appsv1.DeploymentList{}, &corev1.PodList{}
	there := map[string]bool{}
	for _, o := range w.objects() {
		there["owner "+o.GetName()] = true
	}
	for _, job := range listed(w, jobs, func() []batchv1.Job { return jobs.Items }) {
		// One that prunes has no owner, as that is being deleted; it goes by its age.
		if owner := metav1.GetControllerOf(&job); owner != nil && !there["owner "+owner.Name] {
			if err := w.api.Delete(w.t.Context(), &job); err != nil {
				w.t.Fatal(err)
			}
			continue
		}
		there["pod-of-"+job.Name] = true
		if len(job.Status.Conditions) > 0 || w.slow && strings.HasSuffix(job.Name, "-save") {
			continue
		}
		w.worked = append(w.worked, job.Name)
		job.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(w.clock.Now())}}
		if err := w.api.Status().Update(w.t.Context(), &job); err != nil {
			w.t.Fatal(err)
		}
		w.pod(job.Name, job.Spec.Template.Labels, corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Message: resultOf(job.Name)}})
	}
	for _, d := range listed(w, deployments, func() []appsv1.Deployment { return deployments.Items }) {
		there["pod-of-"+d.Name] = true
		w.pod(d.Name, d.Spec.Template.Labels, corev1.ContainerState{Running: &corev1.ContainerStateRunning{}})
	}
	for _, p := range listed(w, pods, func() []corev1.Pod { return pods.Items }) {
		if there[p.Name] {
			continue
		}
		if err := w.api.Delete(w.t.Context(), &p); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *backedUp) pod(of string, labels map[string]string, is corev1.ContainerState) {
	w.t.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "pod-of-" + of, Namespace: "ns", Labels: maps.Clone(labels)}}
	if p.Labels[batchv1.JobNameLabel], p.Labels[batchv1.ControllerUidLabel] = of, made; is.Running != nil {
		delete(p.Labels, batchv1.JobNameLabel)
	}
	p.Status.PodIP, p.Status.ContainerStatuses = "10.0.0.1", []corev1.ContainerStatus{{Name: resources.BackupContainer, State: is}}
	if p.Status.Phase = corev1.PodSucceeded; is.Running != nil {
		p.Status.Phase = corev1.PodRunning
	}
	if err := client.IgnoreAlreadyExists(w.api.Create(w.t.Context(), p)); err != nil {
		w.t.Fatal(err)
	}
}

// resultOf a Job is what its name says that it does.
func resultOf(job string) string {
	switch {
	case strings.HasSuffix(job, "-drill-archive"):
		return string(snapshot.Result{
			Operation: snapshot.OperationDrillArchive, Outcome: snapshot.OutcomeSucceeded, Reason: snapshot.ReasonVerified,
			Point: &snapshot.Point{Revision: 41}, Verification: &snapshot.Verification{},
		}.Encode())
	case job == resources.CheckJobName("back"):
		return string(snapshot.Result{
			Operation: snapshot.OperationCheck, Outcome: snapshot.OutcomeSucceeded, Reason: snapshot.ReasonChecked, Backup: &snapshot.Backup{ID: "the-id"},
		}.Encode())
	case strings.HasSuffix(job, "-drill"):
		return drilledMessage()
	case strings.HasSuffix(job, "-prune"), strings.HasSuffix(job, "-prune-archive"):
		return string(snapshot.Result{Operation: snapshot.OperationPrune, Outcome: snapshot.OutcomeSucceeded, Reason: snapshot.ReasonPruned, Pruned: &snapshot.Pruned{DroppedCount: 1}}.Encode())
	default:
		return savedMessage()
	}
}

// end is what there is, without what is different in each run.
func (w *backedUp) end() map[string]any {
	w.t.Helper()
	jobs, deployments, out := &batchv1.JobList{}, &appsv1.DeploymentList{}, map[string]any{}
	objects := append(w.objects(), w.cluster())
	for _, j := range listed(w, jobs, func() []batchv1.Job { return jobs.Items }) {
		objects = append(objects, &j)
	}
	for _, d := range listed(w, deployments, func() []appsv1.Deployment { return deployments.Items }) {
		objects = append(objects, &d)
	}
	for _, o := range objects {
		encoded, err := json.Marshal(o)
		if err != nil {
			w.t.Fatal(err)
		}
		var plain map[string]any
		if err := json.Unmarshal(encoded, &plain); err != nil {
			w.t.Fatal(err)
		}
		out[fmt.Sprintf("%T %s", o, o.GetName())] = timeless(plain)
	}
	worked := slices.Clone(w.worked)
	slices.Sort(worked)
	out["worked"] = worked
	return out
}

var aTime = regexp.MustCompile(`[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z`)

func timeless(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for key, below := range v {
			if v[key] = timeless(below); key == "resourceVersion" || key == "managedFields" || key == "duration" {
				delete(v, key)
			}
		}
	case []any:
		for i := range v {
			v[i] = timeless(v[i])
		}
	case string:
		return aTime.ReplaceAllString(v, "a time")
	}
	return value
}

// restored says that the EtcdRestore is done, with one safety backup and one new incarnation.
func (w *backedUp) restored() {
	w.t.Helper()
	r, safe := stored[v1alpha1.EtcdRestore](w.t, w.api, restoreRequest.NamespacedName), 0
	for _, o := range w.objects() {
		if b, is := o.(*v1alpha1.EtcdBackup); is && b.Labels[v1alpha1.LabelRestoreUID] == string(r.UID) {
			safe++
		}
	}
	is := fmt.Sprintf("%s, safety backups: %d, incarnation: %d, old volumes: %v",
		told(r.Status.Conditions, v1alpha1.ConditionReady), safe, w.cluster().Status.Incarnation, r.Status.OldVolumes)
	if is != "True/Restored, safety backups: 1, incarnation: 2, old volumes: [data-a-0000]" || r.Status.SafetyBackup == nil {
		w.t.Errorf("the restore is %s: %+v", is, r.Status)
	}
}

// TestWhoeverIsKilled: a controller that is killed before or after any of its calls is followed
// by one that brings everything to the same end, and has no work done twice.
func TestWhoeverIsKilled(t *testing.T) {
	remove := func(w *backedUp) {
		if err := w.api.Delete(w.t.Context(), &v1alpha1.EtcdBackup{ObjectMeta: metav1.ObjectMeta{Name: "b", Namespace: "ns"}}); err != nil {
			w.t.Fatal(err)
		}
	}
	tryAgain := func(w *backedUp) {
		b := stored[v1alpha1.EtcdBackup](w.t, w.api, backupRequest.NamespacedName)
		b.Spec.DrillAfter = w.clock.Now().UTC().Format(time.RFC3339)
		if err := w.api.Update(w.t.Context(), b); err != nil {
			w.t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct {
		objects func() []client.Object
		story   func(*backedUp)
		// end is how many objects there are at the end, the list of work included.
		end, works int
	}{
		"a backup": {func() []client.Object { return []client.Object{anEtcdBackup(withObjects)} }, func(w *backedUp) { w.run(12) }, 5, 2},
		"a backup that is deleted": {
			func() []client.Object { return []client.Object{anEtcdBackup(withObjects)} },
			func(w *backedUp) { w.run(12); remove(w); w.run(8) }, 3, 3,
		},
		"a backup that is deleted while it is saved": {
			func() []client.Object { return []client.Object{anEtcdBackup(withObjects)} },
			func(w *backedUp) { w.slow = true; w.run(6); remove(w); w.run(8) }, 3, 1,
		},
		"a backup that is tried out again": {
			func() []client.Object { return []client.Object{anEtcdBackup(withObjects)} },
			func(w *backedUp) { w.run(12); tryAgain(w); w.run(8) }, 5, 3,
		},
		"an archive": {func() []client.Object { return []client.Object{anEtcdArchive()} }, func(w *backedUp) { w.run(12) }, 5, 1},
		"an archive that is shortened": {
			func() []client.Object {
				return []client.Object{anEtcdArchive(undrilled, func(a *v1alpha1.EtcdArchive) { a.Spec.KeepFor.Duration = 48 * time.Hour })}
			},
			func(w *backedUp) {
				w.run(5)
				w.clock.SetTime(threeOClock.Add(48 * time.Hour))
				w.run(7)
			}, 5, 1,
		},
		"two nights of a schedule that keeps one": {
			func() []client.Object {
				return []client.Object{aSchedule(func(s *v1alpha1.EtcdBackupSchedule) {
					s.Spec.Retention.KeepLast, s.Spec.Backup.Verify = 1, v1alpha1.VerifyReadBack
					s.Spec.Backup.DeletionPolicy = v1alpha1.BackupDelete
				})}
			},
			func(w *backedUp) {
				for night := range 2 {
					w.clock.SetTime(threeOClock.Add(time.Duration(night)*24*time.Hour + time.Second))
					w.run(7)
				}
				w.run(4) // whoever was killed last may be a few rounds behind
			}, 6, 3,
		},
		// The safety backup takes so long that the backup is read once more.
		"a restore in place": {
			func() []client.Object {
				return []client.Object{goodBackup(), anEtcdRestore(), resources.Claim(cluster(founded), "a-0000")}
			},
			func(w *backedUp) {
				w.slow = true
				w.run(7)
				w.slow = false
				w.clock.SetTime(w.clock.Now().Add(lookCounts))
				w.run(14)
				w.restored()
			}, 7, 4,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := func(life *mortal) map[string]any {
				w := newBackedUp(t, life, tc.objects())
				tc.story(w)
				return w.end()
			}
			undisturbed := &mortal{}
			want := run(undisturbed)
			if len(want) != tc.end || len(want["worked"].([]string)) != tc.works {
				t.Fatalf("undisturbed: %d objects %v, worked %v", len(want), slices.Sorted(maps.Keys(want)), want["worked"])
			}
			for _, at := range undisturbed.worth {
				for _, after := range []bool{false, true} {
					if diff := cmp.Diff(want, run(&mortal{at: at, after: after})); diff != "" {
						t.Fatalf("killed at call %d of %d (after it: %t) (-undisturbed +killed):\n%s", at, undisturbed.calls, after, diff)
					}
				}
			}
			t.Logf("killed before and after each of %d calls of passes that wrote; %d in all", len(undisturbed.worth), undisturbed.calls)
		})
	}
}
