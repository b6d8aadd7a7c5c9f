package controllers

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/apitime"
	"github.com/quorate/quorate/internal/backup"
	"github.com/quorate/quorate/internal/cron"
	"github.com/quorate/quorate/internal/perform"
	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/internal/status"
)

// longestSleep bounds how long a schedule is not looked at: the clock may be set
// meanwhile.
const longestSleep = 10 * time.Minute

// EtcdBackupScheduleReconciler makes an EtcdBackup for every slot of a schedule, and
// deletes those that its retention does not keep.
type EtcdBackupScheduleReconciler struct {
	// Client writes, and reads from the caches.
	Client client.Client
	// Live reads from the API server.
	Live client.Reader
	// Recorder of events.
	Recorder events.EventRecorder
	// Clock tells the time, and ServerTime the API server's, if it is known.
	Clock      clock.PassiveClock
	ServerTime apitime.Source
}

// +kubebuilder:rbac:groups=etcd.quorate.dev,resources=etcdbackupschedules,verbs=get;list;watch
// +kubebuilder:rbac:groups=etcd.quorate.dev,resources=etcdbackupschedules/status,verbs=patch
// +kubebuilder:rbac:groups=etcd.quorate.dev,resources=etcdbackups,verbs=create;delete

// Reconcile looks at one schedule: what is due is made, what is not kept is deleted.
func (r *EtcdBackupScheduleReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	s := &v1alpha1.EtcdBackupSchedule{}
	if err := r.Client.Get(ctx, req.NamespacedName, s); err != nil {
		if apierrors.IsNotFound(err) {
			forgetSchedule(req.NamespacedName)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !s.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	p, err := r.observe(ctx, s, r.Client)
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("observing: %w", err)
	}
	turn := p.Take()
	if len(turn.Drop) > 0 || !turn.Due.IsZero() || turn.Drill != nil {
		// A cache may not have heard of the newest backups. Nothing is made or
		// deleted on its word.
		if p, err = r.observe(ctx, s, r.Live); err != nil {
			return ctrl.Result{}, fmt.Errorf("observing: %w", err)
		}
		turn = p.Take()
	}
	before := s.DeepCopy()
	made, failure := r.perform(ctx, s, turn)
	backup.ReportSchedule(s, p, turn, made, failure)
	measure(s, p)
	if err := r.patchStatus(ctx, before, s); err != nil {
		return quietly(err)
	}
	if failure != nil {
		return quietly(failure)
	}
	return ctrl.Result{RequeueAfter: r.sleep(p, turn, made)}, nil
}

func (r *EtcdBackupScheduleReconciler) now() time.Time { return r.ServerTime.Or(r.Clock.Now()) }

// sleep until the next slot. What is made or deleted wakes the operator.
func (r *EtcdBackupScheduleReconciler) sleep(p backup.Plan, t backup.Turn, made time.Time) time.Duration {
	if !made.IsZero() || len(t.Drop) > 0 || t.Drill != nil {
		return afterStale
	}
	wake := p.Wake(t)
	if wake.IsZero() {
		return 0
	}
	return max(again, min(wake.Sub(r.now()), longestSleep))
}

// observe looks at the schedule and its backups.
func (r *EtcdBackupScheduleReconciler) observe(ctx context.Context, s *v1alpha1.EtcdBackupSchedule, reader client.Reader) (backup.Plan, error) {
	keep := s.Spec.Retention
	p := backup.Plan{
		Name: s.Name, Now: r.now(), Created: s.CreationTimestamp.Time, Suspend: s.Spec.Suspend, Concurrency: s.Spec.ConcurrencyPolicy,
		Policy:   snapshot.Policy{Last: int(keep.KeepLast), Hourly: int(keep.KeepHourly), Daily: int(keep.KeepDaily), Weekly: int(keep.KeepWeekly)},
		Verifies: s.Spec.Backup.Verify != v1alpha1.VerifyReadBack, DrillEvery: s.Spec.DrillEvery.Duration,
	}
	if s.Status.LastScheduleTime != nil {
		p.Last = s.Status.LastScheduleTime.Time
	}
	timetable, err := cron.Parse(s.Spec.Schedule, s.Spec.TimeZone)
	if err != nil {
		p.Invalid = err.Error()
	} else {
		p.Timetable = timetable
		p.Policy.Location = timetable.Zone()
	}
	var list v1alpha1.EtcdBackupList
	if err := reader.List(ctx, &list, client.InNamespace(s.Namespace), client.MatchingLabels{v1alpha1.LabelSchedule: s.Name}); err != nil {
		return p, fmt.Errorf("listing backups: %w", err)
	}
	used, err := inUse(ctx, r.Client, reader, s.Namespace)
	if err != nil {
		return p, err
	}
	for i := range list.Items {
		if b := &list.Items[i]; b.Spec.ClusterRef == s.Spec.Backup.ClusterRef {
			item := backup.ItemOf(b)
			item.InUse = used.of(b)
			p.Items = append(p.Items, item)
		}
	}
	return p, nil
}

// perform makes and deletes. What is deleted goes first only if it is replaced: a
// retention that cannot delete must not stand in the way of a backup.
func (r *EtcdBackupScheduleReconciler) perform(ctx context.Context, s *v1alpha1.EtcdBackupSchedule, t backup.Turn) (made time.Time, failure error) {
	limited, cancel := context.WithTimeoutCause(ctx, performTimeout, errPerform)
	defer cancel()
	if t.Replaces != nil {
		if err := r.delete(limited, s, *t.Replaces, "the next backup is due, and spec.concurrencyPolicy is Replace"); err != nil {
			return time.Time{}, err
		}
	}
	if !t.Due.IsZero() {
		if err := r.create(limited, s, t.Due); err != nil {
			return time.Time{}, err
		}
		made = t.Due
	}
	if t.Drill != nil {
		if err := r.drill(limited, s, *t.Drill); err != nil {
			return made, err
		}
	}
	for _, d := range t.Drop {
		if err := r.delete(limited, s, d.Item, d.Reason); err != nil {
			return made, err
		}
	}
	return made, nil
}

// create the backup of a slot. One of its name is there already if this operator
// failed to write that into status, or another one was faster.
func (r *EtcdBackupScheduleReconciler) create(ctx context.Context, s *v1alpha1.EtcdBackupSchedule, slot time.Time) error {
	spec := *s.Spec.Backup.DeepCopy()
	if spec.DeletionPolicy == "" {
		spec.DeletionPolicy = v1alpha1.BackupDelete
	}
	b := &v1alpha1.EtcdBackup{
		ObjectMeta: metav1.ObjectMeta{
			Name: backup.SlotName(s.Name, slot), Namespace: s.Namespace,
			Labels: map[string]string{
				v1alpha1.LabelSchedule: s.Name, "app.kubernetes.io/name": "etcd-backup", "app.kubernetes.io/managed-by": "quorate",
			},
			Annotations: map[string]string{v1alpha1.AnnotationSlot: slot.UTC().Format(time.RFC3339)},
		},
		Spec: spec,
	}
	err := r.Client.Create(ctx, b, client.FieldOwner(resources.FieldOwner))
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("creating EtcdBackup %s: %w", b.Name, err)
	}
	r.Recorder.Eventf(s, b, corev1.EventTypeNormal, "BackupCreated", "Create", "backup %s, due at %s", b.Name, slot.UTC().Format(time.RFC3339))
	return nil
}

// drill has the very backup that was looked at tried out again.
func (r *EtcdBackupScheduleReconciler) drill(ctx context.Context, s *v1alpha1.EtcdBackupSchedule, item backup.Item) error {
	b := &v1alpha1.EtcdBackup{}
	if err := r.Live.Get(ctx, client.ObjectKey{Namespace: s.Namespace, Name: item.Name}, b); err != nil {
		return fmt.Errorf("reading EtcdBackup %s: %w", item.Name, err)
	}
	if now := backup.ItemOf(b); now.UID != item.UID || now.State != item.State || now.DrillOrdered(r.now()) {
		return fmt.Errorf("trying out EtcdBackup %s: %w", item.Name, perform.ErrStale)
	}
	before := b.DeepCopy()
	b.Spec.DrillAfter = r.now().UTC().Format(time.RFC3339)
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Patch(ctx, b, patch, client.FieldOwner(resources.FieldOwner)); err != nil {
		return fmt.Errorf("trying out EtcdBackup %s: %w", item.Name, err)
	}
	r.Recorder.Eventf(s, b, corev1.EventTypeNormal, "BackupDrilled", "Drill", "backup %s is tried out again, as spec.drillEvery says", item.Name)
	return nil
}

// delete the very backup that was looked at, as it was then: one that has been verified
// since may be the only one.
func (r *EtcdBackupScheduleReconciler) delete(ctx context.Context, s *v1alpha1.EtcdBackupSchedule, item backup.Item, why string) error {
	b := &v1alpha1.EtcdBackup{}
	err := r.Live.Get(ctx, client.ObjectKey{Namespace: s.Namespace, Name: item.Name}, b)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading EtcdBackup %s: %w", item.Name, err)
	}
	if now := backup.ItemOf(b); now.UID != item.UID || now.State != item.State {
		return fmt.Errorf("deleting EtcdBackup %s: %w", item.Name, perform.ErrStale)
	}
	err = r.Client.Delete(ctx, b, client.Preconditions{UID: &b.UID, ResourceVersion: &b.ResourceVersion})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting EtcdBackup %s: %w", item.Name, err)
	}
	r.Recorder.Eventf(s, b, corev1.EventTypeNormal, "BackupDeleted", "Delete", "%s", status.Note(fmt.Sprintf("backup %s is deleted: %s", item.Name, why)))
	return nil
}

func (r *EtcdBackupScheduleReconciler) patchStatus(ctx context.Context, before, s *v1alpha1.EtcdBackupSchedule) error {
	if equality.Semantic.DeepEqual(before.Status, s.Status) {
		return nil
	}
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Status().Patch(ctx, s, patch, client.FieldOwner(resources.FieldOwner)); err != nil {
		return fmt.Errorf("writing status: %w", err)
	}
	return nil
}
