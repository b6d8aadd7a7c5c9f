package controllers

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/backup"
	"github.com/quorate/quorate/internal/snapshot"
)

var scheduleRequest = ctrl.Request{NamespacedName: client.ObjectKey{Namespace: "ns", Name: "s"}}

// schedules runs passes over an EtcdBackupSchedule.
type schedules struct {
	*operator
	reconciler *EtcdBackupScheduleReconciler
	clock      *clocktesting.FakePassiveClock
}

var threeOClock = time.Date(2026, 1, 1, 3, 0, 0, 0, time.UTC)

func newSchedules(t *testing.T, objects ...client.Object) *schedules {
	t.Helper()
	s := &schedules{operator: newOperator(t, objects...), clock: clocktesting.NewFakePassiveClock(threeOClock)}
	s.reconciler = &EtcdBackupScheduleReconciler{Client: s.api, Live: s.api, Recorder: s.events, Clock: s.clock}
	return s
}

func aSchedule(changes ...func(*v1alpha1.EtcdBackupSchedule)) *v1alpha1.EtcdBackupSchedule {
	s := &v1alpha1.EtcdBackupSchedule{
		ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "ns", UID: "s1", CreationTimestamp: metav1.Time{Time: threeOClock.Add(-time.Hour)}},
		Spec: v1alpha1.EtcdBackupScheduleSpec{
			Schedule: "0 3 * * *", TimeZone: "Etc/UTC", ConcurrencyPolicy: v1alpha1.ConcurrencyForbid,
			Retention: v1alpha1.BackupRetention{KeepLast: 2}, Backup: anEtcdBackup().Spec,
		},
	}
	for _, change := range changes {
		change(s)
	}
	return s
}

func (s *schedules) pass() ctrl.Result {
	s.t.Helper()
	s.writes = nil
	result, err := s.reconciler.Reconcile(s.t.Context(), scheduleRequest)
	if err != nil {
		s.t.Fatal(err)
	}
	return result
}

func (s *schedules) get() *v1alpha1.EtcdBackupSchedule {
	s.t.Helper()
	return stored[v1alpha1.EtcdBackupSchedule](s.t, s.api, scheduleRequest.NamespacedName)
}

// names of the backups that there are.
func (s *schedules) names() []string {
	s.t.Helper()
	var list v1alpha1.EtcdBackupList
	if err := s.api.List(s.t.Context(), &list); err != nil {
		s.t.Fatal(err)
	}
	var out []string
	for _, b := range list.Items {
		out = append(out, b.Name)
	}
	slices.Sort(out)
	return out
}

// verify has a backup be saved and tried out.
func (s *schedules) verify(name string, revision int64) {
	s.t.Helper()
	b := &v1alpha1.EtcdBackup{}
	if err := s.api.Get(s.t.Context(), client.ObjectKey{Namespace: "ns", Name: name}, b); err != nil {
		s.t.Fatal(err)
	}
	now := metav1.NewTime(s.clock.Now())
	b.Status.Revision, b.Status.ClusterID, b.Status.StartTime, b.Status.VerifiedTime = revision, "c1", &now, &now
	b.Status.ClusterUID, b.Status.ID = "5e1f", snapshot.NewID(revision, now.Time, name)
	for _, kind := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionComplete, v1alpha1.ConditionVerified} {
		meta.SetStatusCondition(&b.Status.Conditions, metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonVerified})
	}
	if err := s.api.Status().Update(s.t.Context(), b); err != nil {
		s.t.Fatal(err)
	}
}

// TestSchedule: each night one backup, the older ones go, and in between nothing is
// written.
func TestSchedule(t *testing.T) {
	s := newSchedules(t, aSchedule())
	var kept [][]string
	for night := range 4 {
		for range 5 {
			s.pass()
		}
		if len(s.writes) > 0 {
			t.Fatalf("night %d: it writes for ever: %v", night, s.writes)
		}
		s.verify(s.names()[len(s.names())-1], int64(night+1))
		for range 5 {
			s.pass()
		}
		kept = append(kept, s.names())
		s.clock.SetTime(s.clock.Now().Add(24 * time.Hour))
	}
	want := [][]string{
		{"s-20260101-0300"}, {"s-20260101-0300", "s-20260102-0300"}, {"s-20260102-0300", "s-20260103-0300"}, {"s-20260103-0300", "s-20260104-0300"},
	}
	if diff := cmp.Diff(want, kept); diff != "" {
		t.Errorf("backups after each night (-want +got):\n%s", diff)
	}
	status := s.get().Status
	if status.LastVerified != "s-20260104-0300" || !status.LastScheduleTime.Time.Equal(threeOClock.Add(72*time.Hour)) || status.Backups != 2 {
		t.Errorf("status %+v", status)
	}
	if got := testutil.ToFloat64(lastVerified.WithLabelValues("ns", "s", "a")); got != float64(threeOClock.Add(72*time.Hour).Unix()) {
		t.Errorf("last verified at %v", got)
	}
	if err := s.api.Delete(t.Context(), aSchedule()); err != nil {
		t.Fatal(err)
	}
	if s.pass(); testutil.CollectAndCount(lastVerified) > 0 || len(s.names()) != 2 {
		t.Errorf("the schedule is gone, and left metrics, or took its backups along: %v", s.names())
	}
}

// measured are the metrics of the schedule, by their names.
func measured(t *testing.T) map[string]float64 {
	t.Helper()
	families, err := metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		name, ours := strings.CutPrefix(f.GetName(), "quorate_backup_schedule_")
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if ours && labels["namespace"] == "ns" && labels["schedule"] == "s" && labels["cluster"] == "a" {
				out[name] = m.GetGauge().GetValue()
			}
		}
	}
	return out
}

// TestScheduleMetrics: each of them, and none is left of a schedule that is gone.
func TestScheduleMetrics(t *testing.T) {
	forgetSchedule(scheduleRequest.NamespacedName)
	broken := anEtcdBackup(func(b *v1alpha1.EtcdBackup) {
		b.Name, b.Labels = "broken", map[string]string{v1alpha1.LabelSchedule: "s"}
	})
	meta.SetStatusCondition(&broken.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionStalled, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonFailed})
	s := newSchedules(t, aSchedule(), broken)
	s.pass()
	name, third := s.names()[1], float64(threeOClock.Unix())
	s.verify(name, 1)
	b := stored[v1alpha1.EtcdBackup](t, s.api, client.ObjectKey{Namespace: "ns", Name: name})
	b.Status.Size, b.Status.CompletionTime = resource.NewQuantity(12<<20, resource.BinarySI), &metav1.Time{Time: b.Status.StartTime.Add(90 * time.Second)}
	if err := s.api.Status().Update(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	s.pass()
	want := map[string]float64{
		"last_success_timestamp_seconds": third, "last_success_size_bytes": 12 << 20, "last_success_duration_seconds": 90,
		"last_verified_timestamp_seconds": third, "next_due_timestamp_seconds": third + 24*3600, "overdue": 0, "backups": 2, "failed": 1,
	}
	if diff := cmp.Diff(want, measured(t)); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
	b = stored[v1alpha1.EtcdBackup](t, s.api, client.ObjectKey{Namespace: "ns", Name: name})
	for kind, is := range map[string]metav1.ConditionStatus{v1alpha1.ConditionVerified: metav1.ConditionFalse, v1alpha1.ConditionReady: metav1.ConditionFalse, v1alpha1.ConditionStalled: metav1.ConditionTrue} {
		meta.SetStatusCondition(&b.Status.Conditions, metav1.Condition{Type: kind, Status: is, Reason: string(snapshot.ReasonCorrupt)})
	}
	if err := s.api.Status().Update(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	s.pass()
	if diff := cmp.Diff(map[string]float64{"next_due_timestamp_seconds": third + 24*3600, "overdue": 0, "backups": 2, "failed": 2}, measured(t)); diff != "" {
		t.Errorf("metrics when the only good backup has rotted (-want +got):\n%s", diff)
	}
	status := stored[v1alpha1.EtcdBackupSchedule](t, s.api, scheduleRequest.NamespacedName).Status
	if status.LastSuccessTime != nil || status.LastVerified != "" || status.LastVerifiedTime != nil {
		t.Errorf("the status still tells of it: %+v", status)
	}
	if err := s.api.Delete(t.Context(), aSchedule()); err != nil {
		t.Fatal(err)
	}
	if s.pass(); len(measured(t)) > 0 {
		t.Errorf("of a schedule that is gone there are %v", measured(t))
	}
}

// TestRetentionSparesWhatIsRestored: founders that are still being filled from a backup could
// never be filled any more once its objects are gone.
func TestRetentionSparesWhatIsRestored(t *testing.T) {
	const oldest = "s-20260101-0300"
	begins := cluster(func(c *v1alpha1.EtcdCluster) {
		c.Name, c.UID, c.Spec.RestoreFrom = "new", "ne3", &v1alpha1.RestoreSource{BackupName: oldest}
	})
	elsewhere := begins.DeepCopy()
	elsewhere.Namespace = "elsewhere"
	back := anEtcdRestore(func(r *v1alpha1.EtcdRestore) { r.Spec.BackupName = oldest })
	over := func(kind string) client.Object {
		r := back.DeepCopy()
		meta.SetStatusCondition(&r.Status.Conditions, metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonRestored})
		return r
	}
	point := func(of v1alpha1.RestoreSource, changes ...change) client.Object {
		c := elsewhere.DeepCopy()
		of.Store = &v1alpha1.BackupStore{S3: &v1alpha1.S3Store{Bucket: "backups"}}
		c.Spec.RestoreFrom = &of
		for _, change := range changes {
			change(c)
		}
		return c
	}
	const uid = "5e1f"
	ofArchive := begins.DeepCopy()
	ofArchive.Spec.RestoreFrom = &v1alpha1.RestoreSource{ArchiveName: "e", ToRevision: 1}
	together := func(c *v1alpha1.EtcdCluster) { c.Status.RestorePoint = "put-together" }
	archive := anEtcdArchive(func(a *v1alpha1.EtcdArchive) { a.Status.ClusterUID = uid })
	for name, tc := range map[string]struct {
		there client.Object
		goes  bool
	}{
		"a revision of an archive":          {ofArchive, false},
		"a revision after it":               {point(v1alpha1.RestoreSource{ClusterUID: uid, ToRevision: 7}), false},
		"a time after it":                   {point(v1alpha1.RestoreSource{ClusterUID: uid, ToTime: "2026-01-01T03:00:00.5Z"}), false},
		"a time before it":                  {point(v1alpha1.RestoreSource{ClusterUID: uid, ToTime: "2026-01-01T02:59:59Z"}), true},
		"a point that was put together":     {point(v1alpha1.RestoreSource{ClusterUID: uid, ToRevision: 7}, together), true},
		"a point of another cluster":        {point(v1alpha1.RestoreSource{ClusterUID: "another", ToRevision: 7}), true},
		"by what the store calls it":        {point(v1alpha1.RestoreSource{ClusterUID: uid, BackupID: snapshot.NewID(1, threeOClock, oldest)}), false},
		"by what the store calls the other": {point(v1alpha1.RestoreSource{ClusterUID: uid, BackupID: snapshot.NewID(2, threeOClock, oldest)}), true},

		"nobody restores it":             {anEtcdRestore(), true},
		"a cluster begins with it":       {begins, false},
		"a cluster of another namespace": {elsewhere, true},
		"a restore in place":             {back, false},
		"one that is over":               {over(v1alpha1.ConditionReady), true},
		"one that was given up":          {over(v1alpha1.ConditionStalled), true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSchedules(t, aSchedule(), archive.DeepCopy(), tc.there)
			for night := range 3 {
				s.pass()
				s.verify(s.names()[len(s.names())-1], int64(night+1))
				s.clock.SetTime(threeOClock.Add(time.Duration(night+1) * 24 * time.Hour))
			}
			s.clock.SetTime(s.clock.Now().Add(-time.Hour))
			for range 3 {
				s.pass()
			}
			if gone := !slices.Contains(s.names(), oldest); gone != tc.goes {
				t.Fatalf("backups %v", s.names())
			}
			if len(s.writes) > 0 {
				t.Errorf("it writes for ever: %v", s.writes)
			}
			if err := s.api.Delete(t.Context(), tc.there); err != nil {
				t.Fatal(err)
			}
			if s.pass(); slices.Contains(s.names(), oldest) {
				t.Errorf("nobody restores it any more, and there are %v", s.names())
			}
		})
	}
}

// TestScheduleTriesOutAgain the good backup whose last drill is the longest ago, once.
func TestScheduleTriesOutAgain(t *testing.T) {
	s := newSchedules(t, aSchedule(func(s *v1alpha1.EtcdBackupSchedule) { s.Spec.DrillEvery.Duration = 36 * time.Hour }))
	for night := range 2 {
		s.pass()
		s.verify(s.names()[night], int64(night+1))
		s.pass()
		s.clock.SetTime(s.clock.Now().Add(24 * time.Hour))
	}
	s.clock.SetTime(threeOClock.Add(36*time.Hour - time.Minute))
	if got := s.pass().RequeueAfter; got != time.Minute || len(s.writes) > 0 {
		t.Errorf("a minute before: sleeps for %s, wrote %v", got, s.writes)
	}
	s.clock.SetTime(threeOClock.Add(36 * time.Hour))
	for range 3 {
		s.pass()
	}
	if len(s.writes) > 0 {
		t.Errorf("it writes for ever: %v", s.writes)
	}
	for name, want := range map[string]string{"s-20260101-0300": "2026-01-02T15:00:00Z", "s-20260102-0300": ""} {
		b := stored[v1alpha1.EtcdBackup](t, s.api, client.ObjectKey{Namespace: "ns", Name: name})
		if b.Spec.DrillAfter != want {
			t.Errorf("%s: drillAfter %q, want %q", name, b.Spec.DrillAfter, want)
		}
	}
}

// told are the events since it was last asked.
func (s *schedules) told() (out []string) {
	for len(s.events.Events) > 0 {
		out = append(out, <-s.events.Events)
	}
	return out
}

// TestScheduleTellsWhatItDid: of each backup that it has made, tried out again and deleted there
// is an event that names it, and says why. What is done once is told once.
func TestScheduleTellsWhatItDid(t *testing.T) {
	const first, second = "s-20260101-0300", "s-20260102-0300"
	created := func(name, slot string) string { return "Normal BackupCreated backup " + name + ", due at " + slot }
	for name, tc := range map[string]struct {
		change func(*v1alpha1.EtcdBackupSchedule)
		// unfinished says that the first backup is still being saved when the second is due.
		unfinished bool
		want       []string
	}{
		"retention": {
			func(s *v1alpha1.EtcdBackupSchedule) { s.Spec.DrillEvery.Duration = 13 * time.Hour }, false,
			[]string{
				created(first, "2026-01-01T03:00:00Z"),
				"Normal BackupDrilled backup " + first + " is tried out again, as spec.drillEvery says",
				created(second, "2026-01-02T03:00:00Z"),
				"Normal BackupDeleted backup " + first + " is deleted: number 2 from the newest; last 1, hourly 0, daily 0 and weekly 0 keep newer or other ones",
			},
		},
		"one that is replaced": {
			func(s *v1alpha1.EtcdBackupSchedule) { s.Spec.ConcurrencyPolicy = v1alpha1.ConcurrencyReplace }, true,
			[]string{
				created(first, "2026-01-01T03:00:00Z"),
				"Normal BackupDeleted backup " + first + " is deleted: the next backup is due, and spec.concurrencyPolicy is Replace",
				created(second, "2026-01-02T03:00:00Z"),
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSchedules(t, aSchedule(tc.change, func(s *v1alpha1.EtcdBackupSchedule) { s.Spec.Retention.KeepLast = 1 }))
			for i, hours := range []time.Duration{0, 13, 24} {
				s.clock.SetTime(threeOClock.Add(hours * time.Hour))
				for range 3 {
					s.pass()
				}
				if !tc.unfinished {
					s.verify(slices.Max(s.names()), int64(i+1))
				}
				for range 3 {
					s.pass()
				}
			}
			if diff := cmp.Diff(tc.want, s.told()); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

// TestScheduledBackup carries what the retention and the user need.
func TestScheduledBackup(t *testing.T) {
	s := newSchedules(t, aSchedule())
	s.pass()
	b := &v1alpha1.EtcdBackup{}
	if err := s.api.Get(t.Context(), client.ObjectKey{Namespace: "ns", Name: "s-20260101-0300"}, b); err != nil {
		t.Fatal(err)
	}
	if b.Spec.DeletionPolicy != v1alpha1.BackupDelete || b.Labels[v1alpha1.LabelSchedule] != "s" || len(b.OwnerReferences) > 0 {
		t.Errorf("backup %+v", b)
	}
	if b.Annotations[v1alpha1.AnnotationSlot] != "2026-01-01T03:00:00Z" {
		t.Errorf("annotations %v", b.Annotations)
	}
}

// TestScheduleSleeps until the next slot, and not for ever: a clock may be set.
func TestScheduleSleeps(t *testing.T) {
	s := newSchedules(t, aSchedule())
	s.clock.SetTime(threeOClock.Add(-90 * time.Second))
	if got := s.pass().RequeueAfter; got != 90*time.Second {
		t.Errorf("sleeps for %s", got)
	}
	s.clock.SetTime(threeOClock.Add(-time.Hour))
	if got := s.pass().RequeueAfter; got != longestSleep {
		t.Errorf("sleeps for %s", got)
	}
}

// TestInvalidSchedule: what passed the API server's rules and is due never all the same
// is told, once.
func TestInvalidSchedule(t *testing.T) {
	s := newSchedules(t, aSchedule(func(s *v1alpha1.EtcdBackupSchedule) { s.Spec.Schedule = "0 0 30/1 2 *" }))
	if result := s.pass(); result != (ctrl.Result{}) || len(s.names()) > 0 {
		t.Errorf("Reconcile() = %v, backups %v", result, s.names())
	}
	stalled := meta.FindStatusCondition(s.get().Status.Conditions, v1alpha1.ConditionStalled)
	if stalled.Status != metav1.ConditionTrue || stalled.Reason != v1alpha1.ReasonInvalidSchedule || strings.Count(stalled.Message, " — ") != 2 {
		t.Errorf("Stalled is %+v", stalled)
	}
	if s.pass(); len(s.writes) > 0 {
		t.Errorf("a second pass wrote %v", s.writes)
	}
}

// TestScheduleSeesForItself: a cache that has not heard of the newest backups makes no
// second one, and deletes none.
func TestScheduleSeesForItself(t *testing.T) {
	s := newSchedules(t, aSchedule())
	s.pass()
	stale := newSchedules(t, aSchedule())
	s.reconciler.Client = &reading{Client: s.api, from: stale.api}
	s.pass()
	if slices.Contains(s.writes, "create s-20260101-0300") {
		t.Errorf("wrote %v", s.writes)
	}
}

// reading reads from elsewhere.
type reading struct {
	client.Client
	from client.Reader
}

func (r *reading) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	return r.Client.Get(ctx, key, o, opts...)
}

func (r *reading) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	return r.from.List(ctx, list, opts...)
}

// TestRefusedBackup: what the API server says is told, and tried again.
func TestRefusedBackup(t *testing.T) {
	s := newSchedules(t, aSchedule())
	s.before = func(verb string, o client.Object) error {
		if verb == "create" {
			return apierrors.NewForbidden(v1alpha1.GroupVersion.WithResource("etcdbackups").GroupResource(), o.GetName(), errors.New("exceeded quota"))
		}
		return nil
	}
	if _, err := s.reconciler.Reconcile(t.Context(), scheduleRequest); !apierrors.IsForbidden(err) {
		t.Errorf("Reconcile() = %v", err)
	}
	if ready := meta.FindStatusCondition(s.get().Status.Conditions, v1alpha1.ConditionReady); ready.Reason != v1alpha1.ReasonApplyFailed || !strings.Contains(ready.Message, "exceeded quota") {
		t.Errorf("Ready is %+v", ready)
	}
	s.before = nil
	if s.pass(); len(s.names()) != 1 {
		t.Errorf("backups %v", s.names())
	}
}

// movedOn is a reader after which what it has read changes at once.
type movedOn struct {
	client.Reader
	change func(key client.ObjectKey)
}

func (c movedOn) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	err := c.Reader.Get(ctx, key, object, options...)
	c.change(key)
	return err
}

// TestRetentionLooksBeforeItDeletes: what is another backup by now, or has become a good one, or
// changes in that very moment, stays.
func TestRetentionLooksBeforeItDeletes(t *testing.T) {
	for name, tc := range map[string]struct {
		item   func(*backup.Item)
		change bool
		stays  bool
	}{
		"it is as it was":         {func(*backup.Item) {}, false, false},
		"it is another one":       {func(i *backup.Item) { i.UID = "of-before" }, false, true},
		"it has become good":      {func(i *backup.Item) { i.State = backup.ItemFailed }, false, true},
		"it changes at that time": {func(*backup.Item) {}, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSchedules(t, aSchedule())
			s.pass()
			of := s.names()[0]
			s.verify(of, 1)
			key := client.ObjectKey{Namespace: "ns", Name: of}
			item := backup.ItemOf(stored[v1alpha1.EtcdBackup](t, s.api, key))
			tc.item(&item)
			s.reconciler.Live = movedOn{s.api, func(client.ObjectKey) {
				if !tc.change {
					return
				}
				b := stored[v1alpha1.EtcdBackup](t, s.api, key)
				b.Annotations = map[string]string{"somebody": "wants it"}
				if err := s.api.Update(t.Context(), b); err != nil {
					t.Fatal(err)
				}
			}}
			schedule := stored[v1alpha1.EtcdBackupSchedule](t, s.api, client.ObjectKey{Namespace: "ns", Name: "s"})
			err := s.reconciler.delete(t.Context(), schedule, item, "of the test")
			if stays := slices.Contains(s.names(), of); stays != tc.stays || (err != nil) != tc.stays {
				t.Errorf("it stays: %v, %v", stays, err)
			}
		})
	}
}
