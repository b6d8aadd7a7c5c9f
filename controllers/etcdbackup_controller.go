package controllers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/apitime"
	"github.com/quorate/quorate/internal/backup"
	"github.com/quorate/quorate/internal/observe"
	"github.com/quorate/quorate/internal/perform"
	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/internal/status"
)

const (
	// whileWorking is how often a pod is asked for its progress.
	whileWorking = 2 * time.Second
	// whileAbsent is how often it is looked whether a cluster or a Secret has come.
	whileAbsent = 10 * time.Second
)

// EtcdBackupReconciler makes backups: each by a Job that saves it, and by one that
// tries it out.
type EtcdBackupReconciler struct {
	// Client writes, and reads from the caches.
	Client client.Client
	// Live reads from the API server.
	Live client.Reader
	// Recorder of events.
	Recorder events.EventRecorder
	// Clock tells the time, and ServerTime the API server's, if it is known.
	Clock      clock.PassiveClock
	ServerTime apitime.Source
	// BackupImage holds the program that does the work.
	BackupImage string
	// Progress asks the pod with this address how far it is.
	Progress func(ctx context.Context, podIP string) (*snapshot.Progress, error)
}

// +kubebuilder:rbac:groups=etcd.quorate.dev,resources=etcdbackups,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=etcd.quorate.dev,resources=etcdbackups/status,verbs=patch
// +kubebuilder:rbac:groups=etcd.quorate.dev,resources=etcdbackups/finalizers,verbs=update
// +kubebuilder:rbac:groups=batch,resources=jobs,verbs=get;list;watch;create;delete

// Reconcile takes one backup one step further: observe, decide, perform, report.
func (r *EtcdBackupReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	b := &v1alpha1.EtcdBackup{}
	if err := r.Client.Get(ctx, req.NamespacedName, b); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	seen, c, err := r.observe(ctx, b)
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("observing: %w", err)
	}
	step := backup.Next(seen)
	before := b.DeepCopy()
	err = r.perform(ctx, b, c, step)
	if next, given := backup.Unmade(seen, step, err); given && refusedJob(err) {
		step = next
		err = r.perform(ctx, b, c, step)
	}
	if step.Kind == backup.RemoveFinalizer && err == nil {
		r.tell(b, step)
		return ctrl.Result{}, nil
	}
	backup.Report(b, backup.Outcome{
		Seen: seen, Step: step, Err: err, Now: r.now(), Prefix: resources.StorePrefix(b.Spec.Store),
		ObjectURL: func(key string) string { return resources.ObjectURL(b.Spec.Store, key) },
	})
	if failed := r.patchStatus(ctx, before, b, step); failed != nil {
		return quietly(failed)
	}
	if err != nil {
		return quietly(fmt.Errorf("performing %s: %w", step.Kind, err))
	}
	pause := pauseOf(step)
	if step.Kind == backup.Rest {
		pause = backup.UntilDrill(b, r.now())
	}
	return ctrl.Result{RequeueAfter: pause}, nil
}

func (r *EtcdBackupReconciler) now() time.Time { return r.ServerTime.Or(r.Clock.Now()) }

// pauseOf is how long until the backup is looked at again when nothing wakes the
// operator. A Job that ends does.
func pauseOf(step backup.Step) time.Duration {
	switch {
	case step.Kind == backup.Rest, step.Kind == backup.Fail:
		return 0
	case step.Kind != backup.Wait:
		return again
	case step.Operation != "", step.Reason == v1alpha1.ReasonDeleting:
		return whileWorking
	default:
		return whileAbsent
	}
}

// observe looks at the backup's Jobs, its cluster and its Secrets. Of a backup that is
// done nothing is looked at.
func (r *EtcdBackupReconciler) observe(ctx context.Context, b *v1alpha1.EtcdBackup) (backup.Observed, *v1alpha1.EtcdCluster, error) {
	now, is := r.now(), func(kind string) bool { return meta.IsStatusConditionTrue(b.Status.Conditions, kind) }
	o := backup.Observed{
		Verify: b.Spec.Verify, DeletionPolicy: b.Spec.DeletionPolicy, Timeout: b.Spec.Timeout.Duration,
		Age: now.Sub(b.CreationTimestamp.Time), Deleting: !b.DeletionTimestamp.IsZero(),
		Held: controllerutil.ContainsFinalizer(b, v1alpha1.FinalizerBackup), ClusterUID: b.Status.ClusterUID, ID: b.Status.ID,
		Complete: is(v1alpha1.ConditionComplete), Verified: is(v1alpha1.ConditionVerified), Failed: is(v1alpha1.ConditionStalled),
		Scheduled: b.Labels[v1alpha1.LabelSchedule] != "",
	}
	doubted, err := r.doubted(ctx, b)
	if err != nil {
		return o, nil, err
	}
	o.DrillDue, o.DrillDueFor = backup.DrillDue(b, doubted, now)
	if o.Deleting {
		o.DeletedFor = now.Sub(b.DeletionTimestamp.Time)
	}
	o.Cluster.Name = b.Spec.ClusterRef.Name
	if backup.Next(o).Kind == backup.Rest {
		return o, nil, nil
	}
	c, err := clusterNamed(ctx, r.Client, b.Namespace, b.Spec.ClusterRef.Name)
	if err != nil {
		return o, nil, err
	}
	if c != nil {
		o.Cluster = asCluster(c)
	}
	if o.ClusterUID != "" && o.Cluster.UID != o.ClusterUID {
		c = nil // another cluster of the same name says nothing about this backup
	}
	if err := r.works(ctx, b, &o); err != nil {
		return o, c, err
	}
	return o, c, r.missing(ctx, b, &o)
}

// works are the backup's Jobs.
func (r *EtcdBackupReconciler) works(ctx context.Context, b *v1alpha1.EtcdBackup, o *backup.Observed) (err error) {
	if !o.Deleting {
		if o.Save, err = r.work(ctx, b, snapshot.OperationSave); err == nil {
			o.Drill, err = r.work(ctx, b, snapshot.OperationDrill)
		}
		return err
	}
	if o.Held && o.ID == "" {
		// It may have been saved, and nobody has written that down yet.
		if o.Save, err = r.work(ctx, b, snapshot.OperationSave); err != nil {
			return err
		}
		if saved := o.Save.Result; saved != nil && saved.Backup != nil {
			b.Status.ID, o.ID = saved.Backup.ID, saved.Backup.ID
		}
	}
	if o.Prune, err = r.work(ctx, b, snapshot.OperationPrune); err == nil && backup.Deletes(*o) {
		o.NamespaceEnds = r.namespaceEnds(ctx, b)
	}
	return err
}

// namespaceEnds asks the API server whether it would take the Job that deletes objects,
// since an operator of some namespaces may not read Namespaces. Whatever else it answers
// is seen when the Job is made, and must not keep the backup from going in the end.
func (r *EtcdBackupReconciler) namespaceEnds(ctx context.Context, b *v1alpha1.EtcdBackup) bool {
	job := resources.BackupJob(b, resources.Work{Operation: snapshot.OperationPrune, BackupImage: cmp.Or(r.BackupImage, "none")})
	err := r.Client.Create(ctx, job, client.DryRunAll, client.FieldOwner(resources.FieldOwner))
	return apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}

// clusterNamed is the cluster of that name; nil if there is none.
func clusterNamed(ctx context.Context, reader client.Reader, namespace, name string) (*v1alpha1.EtcdCluster, error) {
	c := &v1alpha1.EtcdCluster{}
	err := reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, c)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading EtcdCluster %s: %w", name, err)
	}
	return c, nil
}

func asCluster(c *v1alpha1.EtcdCluster) backup.Cluster {
	return backup.Cluster{Name: c.Name, UID: resources.ClusterUID(c), Founded: c.Status.ClusterID != "" && c.Status.Replicas > 0}
}

// missing is what the pod which is about to be made would wait for, in vain and without a
// word. What is in a Secret is not read.
func (r *EtcdBackupReconciler) missing(ctx context.Context, b *v1alpha1.EtcdBackup, o *backup.Observed) (err error) {
	step := backup.Next(*o)
	if step.Kind != backup.Begin && step.Kind != backup.Save && step.Kind != backup.Drill && step.Kind != backup.Prune {
		return nil
	}
	if o.MissingSecret, err = missingOf(ctx, r.Live, b.Namespace, resources.SecretsOf(b.Spec.Store, b.Spec.Encryption)); err == nil {
		o.MissingClaim, err = observe.MissingClaim(ctx, r.Live, b.Namespace, b.Spec.Store)
	}
	return err
}

// missingOf is the first of the Secrets that does not exist; empty if all do.
func missingOf(ctx context.Context, live client.Reader, namespace string, names []string) (string, error) {
	for _, name := range names {
		secret := &metav1.PartialObjectMetadata{}
		secret.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
		err := live.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, secret)
		if apierrors.IsNotFound(err) {
			return name, nil
		}
		if err != nil {
			return "", fmt.Errorf("looking for Secret %s: %w", name, err)
		}
	}
	return "", nil
}

// perform carries out the step. What status is to say is written by Report.
func (r *EtcdBackupReconciler) perform(ctx context.Context, b *v1alpha1.EtcdBackup, c *v1alpha1.EtcdCluster, step backup.Step) error {
	limited, cancel := context.WithTimeoutCause(ctx, performTimeout, errPerform)
	defer cancel()
	switch step.Kind {
	case backup.SetFinalizer, backup.RemoveFinalizer:
		return r.setFinalizer(limited, b, step)
	case backup.Save:
		return r.start(limited, b, resources.Work{Operation: snapshot.OperationSave, Cluster: c})
	case backup.Drill:
		return r.start(limited, b, resources.Work{Operation: snapshot.OperationDrill, Cluster: c, EtcdImage: etcdImage(b, c)})
	case backup.Prune:
		return r.start(limited, b, resources.Work{Operation: snapshot.OperationPrune, Cluster: c})
	case backup.Redo:
		return r.deleteJob(limited, b, step.Operation, metav1.DeletePropagationBackground)
	case backup.End:
		// In the foreground: the Job is there for as long as a pod of it may write.
		return r.deleteJob(limited, b, step.Operation, metav1.DeletePropagationForeground)
	default:
		return nil
	}
}

// etcdImage of the version that the snapshot was taken from: from the cluster's own
// repository while there is a cluster. A digest names the release of spec.version, and no
// other: an old backup is tried out with what its tag names, or etcd of today would refuse it.
func etcdImage(b *v1alpha1.EtcdBackup, c *v1alpha1.EtcdCluster) string {
	if c == nil {
		c = &v1alpha1.EtcdCluster{Spec: v1alpha1.EtcdClusterSpec{Image: v1alpha1.ImageSpec{Repository: "quay.io/coreos/etcd"}}}
	}
	if c.Spec.Image.Digest != "" && b.Status.EtcdVersion != "" && c.Spec.Version != b.Status.EtcdVersion {
		c = c.DeepCopy()
		c.Spec.Image.Digest = ""
	}
	return resources.Image(resources.AtVersion(c, b.Status.EtcdVersion))
}

func (r *EtcdBackupReconciler) start(ctx context.Context, b *v1alpha1.EtcdBackup, w resources.Work) error {
	w.BackupImage = r.BackupImage
	return startJob(ctx, r.Client, r.BackupImage, resources.BackupJob(b, w))
}

// refusedJob says that a Job was refused, for a reason that need not pass by itself.
func refusedJob(err error) bool {
	if _, said := errors.AsType[*apierrors.StatusError](err); !said {
		return errors.Is(err, resources.ErrNoBackupImage)
	}
	return !status.Passing(err)
}

func (r *EtcdBackupReconciler) deleteJob(ctx context.Context, b *v1alpha1.EtcdBackup, operation snapshot.Operation, how metav1.DeletionPropagation) error {
	key := client.ObjectKey{Namespace: b.Namespace, Name: resources.JobName(b.Name, operation)}
	return deleteJob(ctx, r.Client, r.Live, key, how, v1alpha1.LabelBackupUID, string(b.UID))
}

// deleteJob deletes the Job of this name, as it is now, if the label says that it is ours.
func deleteJob(ctx context.Context, writer client.Writer, live client.Reader, key client.ObjectKey, how metav1.DeletionPropagation, label, uid string) error {
	job := &batchv1.Job{}
	if err := live.Get(ctx, key, job); err != nil {
		return client.IgnoreNotFound(err)
	}
	if job.Labels[label] != uid {
		return fmt.Errorf("deleting Job %s: %w", key.Name, perform.ErrStale)
	}
	err := writer.Delete(ctx, job, client.Preconditions{UID: &job.UID, ResourceVersion: &job.ResourceVersion}, client.PropagationPolicy(how))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting Job %s: %w", key.Name, err)
	}
	return nil
}

// setFinalizer holds the backup while its objects are to go with it, and only then.
func (r *EtcdBackupReconciler) setFinalizer(ctx context.Context, b *v1alpha1.EtcdBackup, step backup.Step) error {
	before := b.DeepCopy()
	if step.Kind == backup.SetFinalizer && b.Spec.DeletionPolicy == v1alpha1.BackupDelete {
		controllerutil.AddFinalizer(b, v1alpha1.FinalizerBackup)
	} else {
		controllerutil.RemoveFinalizer(b, v1alpha1.FinalizerBackup)
	}
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Patch(ctx, b, patch, client.FieldOwner(resources.FieldOwner)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("setting the finalizer: %w", err)
	}
	return nil
}

// patchStatus writes status, once a pass and only when it has changed, on condition
// that nobody wrote the backup meanwhile; and tells what happened.
func (r *EtcdBackupReconciler) patchStatus(ctx context.Context, before, b *v1alpha1.EtcdBackup, step backup.Step) error {
	if equality.Semantic.DeepEqual(before.Status, b.Status) {
		return nil
	}
	before.ResourceVersion, before.Finalizers = b.ResourceVersion, b.Finalizers
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Status().Patch(ctx, b, patch, client.FieldOwner(resources.FieldOwner)); err != nil {
		return fmt.Errorf("writing status: %w", err)
	}
	r.tell(b, step)
	return nil
}

// tell the user what was done.
func (r *EtcdBackupReconciler) tell(b *v1alpha1.EtcdBackup, step backup.Step) {
	kind := corev1.EventTypeNormal
	switch step.Kind {
	case backup.Rest, backup.Wait, backup.Begin, backup.SetFinalizer:
		return
	case backup.Fail:
		kind = corev1.EventTypeWarning
	case backup.RemoveFinalizer:
		if step.Reason == v1alpha1.ReasonFailed {
			kind = corev1.EventTypeWarning
		}
	default:
	}
	r.Recorder.Eventf(b, nil, kind, step.Reason, string(step.Kind), "%s", status.Note(step.Message))
}

// errNoProgress is of a pod that cannot be asked.
var errNoProgress = errors.New("the pod does not tell its progress")
