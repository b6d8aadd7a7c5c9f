package controllers

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
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

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/apitime"
	"github.com/quorate/quorate/internal/backup"
	"github.com/quorate/quorate/internal/observe"
	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/internal/restore"
	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/internal/status"
)

const (
	// lookCounts is for how long it counts that a backup was read, and secretsCount for how long
	// whatever becomes of the Secrets.
	lookCounts   = observe.LookCounts
	secretsCount = observe.SecretsCount
)

// EtcdRestoreReconciler prepares restores in place: it has the backup read, takes the safety
// backup and says which incarnation is given up. The members are stopped, and the next incarnation is begun,
// by the cluster's own reconciler.
type EtcdRestoreReconciler struct {
	// Client writes, and reads from the caches.
	Client client.Client
	// Live reads from the API server.
	Live client.Reader
	// Recorder of events.
	Recorder events.EventRecorder
	// Clock tells the time, and ServerTime the API server's, if it is known.
	Clock      clock.PassiveClock
	ServerTime apitime.Source
	// Source is what the backup is restored from. The text says why it cannot be restored onto
	// the cluster; empty if it can.
	Source func(ctx context.Context, c *v1alpha1.EtcdCluster, r *v1alpha1.EtcdRestore) (resources.Restore, string, error)
	// Progress asks a pod how far it is.
	Progress func(ctx context.Context, podIP string) (*snapshot.Progress, error)
	// BackupImage holds the program that reads the backup.
	BackupImage string
}

// +kubebuilder:rbac:groups=etcd.quorate.dev,resources=etcdrestores,verbs=get;list;watch
// +kubebuilder:rbac:groups=etcd.quorate.dev,resources=etcdrestores/status,verbs=patch
// +kubebuilder:rbac:groups=etcd.quorate.dev,resources=etcdrestores/finalizers,verbs=update
// +kubebuilder:rbac:groups=etcd.quorate.dev,resources=etcdbackups,verbs=create
// +kubebuilder:rbac:groups=batch,resources=jobs,verbs=get;create;delete

// Reconcile takes one restore one step further: observe, decide, perform, report.
func (r *EtcdRestoreReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	er := &v1alpha1.EtcdRestore{}
	if err := r.Client.Get(ctx, req.NamespacedName, er); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	seen, with, err := r.observe(ctx, er, r.Client)
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("observing: %w", err)
	}
	step := restore.Next(seen)
	if step.Looks() {
		// A cache may show another incarnation, or a backup that is gone. Nothing is prepared
		// on its word.
		if err := r.Live.Get(ctx, req.NamespacedName, er); err != nil {
			return ctrl.Result{}, client.IgnoreNotFound(err)
		}
		if seen, with, err = r.observe(ctx, er, r.Live); err != nil {
			return ctrl.Result{}, fmt.Errorf("observing: %w", err)
		}
		step = restore.Next(seen)
	}
	before := er.DeepCopy()
	err = r.perform(ctx, er, with, step)
	restore.Report(er, restore.Outcome{Seen: seen, Step: step, Err: err, Now: r.now()})
	if failed := r.patchStatus(ctx, before, er, step, err); failed != nil {
		return quietly(failed)
	}
	if err != nil {
		return quietly(err)
	}
	return ctrl.Result{RequeueAfter: pauseOfRestore(seen, step)}, nil
}

func (r *EtcdRestoreReconciler) now() time.Time { return r.ServerTime.Or(r.Clock.Now()) }

// pauseOfRestore is how long until the restore is looked at again: a cluster's status
// changes too often to be woken by it.
func pauseOfRestore(seen restore.Observed, step restore.Step) time.Duration {
	switch {
	case step.Kind == restore.Rest, step.Kind == restore.Fail, step.Kind == restore.Finish:
		return 0
	case step.Kind != restore.Wait:
		return again
	case seen.Cluster.Held, step.Reason == v1alpha1.ReasonRestoring, step.Reason == v1alpha1.ReasonSafetyBackup, step.Reason == v1alpha1.ReasonLooking:
		return whileWorking
	default:
		return whileAbsent
	}
}

// sources are what a step is done with.
type sources struct {
	cluster *v1alpha1.EtcdCluster
	// backup that is restored, and what it is restored from.
	backup *v1alpha1.EtcdBackup
	from   resources.Restore
}

// observe looks at the restore's cluster and at the two backups.
func (r *EtcdRestoreReconciler) observe(ctx context.Context, er *v1alpha1.EtcdRestore, reader client.Reader) (restore.Observed, sources, error) {
	is := func(kind string) bool { return meta.IsStatusConditionTrue(er.Status.Conditions, kind) }
	o := restore.Observed{
		Skip:       er.Spec.SafetyBackup.Policy == v1alpha1.SafetyBackupSkip,
		Drill:      er.Spec.SafetyBackup.Verify == v1alpha1.VerifyDrill,
		Deleting:   !er.DeletionTimestamp.IsZero(),
		Age:        r.now().Sub(er.CreationTimestamp.Time),
		ClusterUID: er.Status.ClusterUID, Incarnation: er.Status.Incarnation,
		Prepared: is(v1alpha1.ConditionPrepared), Done: is(v1alpha1.ConditionReady), Failed: is(v1alpha1.ConditionStalled),
		Cluster: restore.Cluster{Name: er.Spec.ClusterRef.Name},
	}
	with := sources{}
	if o.Deleting || o.Done || o.Failed {
		return o, with, nil
	}
	c, err := clusterNamed(ctx, reader, er.Namespace, er.Spec.ClusterRef.Name)
	if c == nil || err != nil {
		return o, with, err
	}
	with.cluster = c
	if o.Cluster, err = r.cluster(ctx, er, c, reader); err != nil {
		return o, with, err
	}
	if o.Cluster.Raised {
		// From here on the backup is the cluster's own affair.
		o.Revision = er.Status.Revision
		return o, with, nil
	}
	if with.from, o.Blocked, err = r.Source(ctx, c, er); err != nil {
		return o, with, err
	}
	if o.Ahead, err = r.ahead(ctx, er, o, reader); err != nil {
		return o, with, err
	}
	if o.Look, err = r.look(ctx, er, o, with.from.Secrets); err != nil {
		return o, with, err
	}
	o, with.backup, err = r.backups(ctx, er, o, reader)
	return o, with, err
}

// look is what the Job has found that reads the backup. It is younger than the restore, whose
// UID it bears. It reads with what was in the Secrets of these versions then.
func (r *EtcdRestoreReconciler) look(ctx context.Context, er *v1alpha1.EtcdRestore, o restore.Observed, secrets string) (restore.Look, error) {
	look := restore.Look{Job: resources.CheckJobName(er.Name)}
	if o.ClusterUID == "" || o.Prepared {
		return look, nil
	}
	job := &batchv1.Job{}
	err := r.Live.Get(ctx, client.ObjectKey{Namespace: er.Namespace, Name: look.Job}, job)
	if apierrors.IsNotFound(err) {
		return look, nil
	}
	if err != nil {
		return look, fmt.Errorf("reading Job %s: %w", look.Job, err)
	}
	look.Exists, look.Foreign = true, job.Labels[v1alpha1.LabelRestoreUID] != string(er.UID)
	if look.Foreign {
		return look, nil
	}
	pods, err := podsOf(ctx, r.Live, job, v1alpha1.LabelRestoreUID)
	if err != nil {
		return look, err
	}
	w := workOf(job)
	follow(ctx, r.Progress, &w, pods)
	if w.Result != nil && w.Result.Operation != snapshot.OperationCheck {
		w.Result = nil
	}
	if ended := endOf(job); !ended.IsZero() {
		since := r.now().Sub(ended)
		look.Old = since > lookCounts || job.Annotations[v1alpha1.AnnotationSecrets] != secrets && since >= secretsCount
	}
	return found(look, w, er.Status.BackupID), nil
}

// found is what the work tells of the backup with this ID.
func found(look restore.Look, w backup.Work, id string) restore.Look {
	read := w.Result != nil && w.Result.Outcome == snapshot.OutcomeSucceeded && w.Result.Backup != nil && w.Result.Backup.ID == id
	switch {
	case w.State == backup.WorkSucceeded:
		look.Done, look.Lost = read, !read
	case w.State == backup.WorkFailed && w.Result != nil && w.Result.Outcome == snapshot.OutcomeFailed:
		look.Failed, look.Message = true, w.Result.Message
	case w.State == backup.WorkFailed:
		look.Failed, look.Message = true, fmt.Sprintf("Job %s failed: %s — nobody has seen that the backup can be read — see the logs of its pods", look.Job, w.Trouble)
	default:
		look.Message = w.Doing()
	}
	return look
}

// cluster is what a restore needs to know of it.
func (r *EtcdRestoreReconciler) cluster(ctx context.Context, er *v1alpha1.EtcdRestore, c *v1alpha1.EtcdCluster, reader client.Reader) (restore.Cluster, error) {
	out := restore.Cluster{
		Name: c.Name, UID: resources.ClusterUID(c), Incarnation: max(1, c.Status.Incarnation), Founded: c.Status.ClusterID != "",
		InMemory: resources.InMemory(c), Paused: c.Spec.Paused, Floor: resources.RevisionFloor(c, nil),
		Serves: meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.ConditionAvailable),
	}
	if s := c.Status.Restore; s != nil && s.UID == string(er.UID) {
		out.Message, out.Held = s.Message, s.Begun == nil && s.Message != ""
	}
	given := er.Status.Incarnation
	if given == 0 || out.Incarnation != given+1 {
		return out, nil
	}
	// A status that was lost does not say by whom it was raised.
	began := c.Status.Recovery
	if out.Raised = began == nil || began.RestoreUID == string(er.UID); !out.Raised {
		return out, nil
	}
	if began != nil {
		out.RaisedAt = began.Time.Time
	}
	var claims corev1.PersistentVolumeClaimList
	old := client.MatchingLabels{v1alpha1.LabelClusterUID: out.UID, v1alpha1.LabelIncarnation: strconv.FormatInt(given, 10)}
	if err := reader.List(ctx, &claims, client.InNamespace(er.Namespace), old); err != nil {
		return out, fmt.Errorf("listing the old volumes: %w", err)
	}
	for i := range claims.Items {
		out.Old = append(out.Old, claims.Items[i].Name)
	}
	slices.Sort(out.Old)
	return out, nil
}

// ahead is another restore that has begun to give the present incarnation up.
func (r *EtcdRestoreReconciler) ahead(ctx context.Context, er *v1alpha1.EtcdRestore, o restore.Observed, reader client.Reader) (string, error) {
	if o.ClusterUID != "" {
		return "", nil
	}
	var list v1alpha1.EtcdRestoreList
	if err := reader.List(ctx, &list, client.InNamespace(er.Namespace)); err != nil {
		return "", fmt.Errorf("listing restores: %w", err)
	}
	slices.SortFunc(list.Items, func(a, b v1alpha1.EtcdRestore) int { return cmp.Compare(a.Name, b.Name) })
	for i := range list.Items {
		s := list.Items[i].Status
		over := meta.IsStatusConditionTrue(s.Conditions, v1alpha1.ConditionReady) || meta.IsStatusConditionTrue(s.Conditions, v1alpha1.ConditionStalled)
		if s.ClusterUID == o.Cluster.UID && !over && list.Items[i].UID != er.UID && list.Items[i].DeletionTimestamp.IsZero() {
			return list.Items[i].Name, nil
		}
	}
	return "", nil
}

// backups are the one that is restored, which the second answer is, and the safety backup.
func (r *EtcdRestoreReconciler) backups(ctx context.Context, er *v1alpha1.EtcdRestore, o restore.Observed, reader client.Reader) (restore.Observed, *v1alpha1.EtcdBackup, error) {
	of, safety := &v1alpha1.EtcdBackup{}, &v1alpha1.EtcdBackup{}
	if err := reader.Get(ctx, client.ObjectKey{Namespace: er.Namespace, Name: er.Spec.BackupName}, of); client.IgnoreNotFound(err) != nil {
		return o, nil, fmt.Errorf("reading EtcdBackup %s: %w", er.Spec.BackupName, err)
	}
	o.Revision, o.BackupID = of.Status.Revision, of.Status.ID
	o.Safety.Name = resources.SafetyName(er.Name)
	err := reader.Get(ctx, client.ObjectKey{Namespace: er.Namespace, Name: o.Safety.Name}, safety)
	if apierrors.IsNotFound(err) {
		return o, of, nil
	}
	if err != nil {
		return o, nil, fmt.Errorf("reading EtcdBackup %s: %w", o.Safety.Name, err)
	}
	item := backup.ItemOf(safety)
	// What to do about it says the restore.
	message, _, _ := strings.Cut(item.Message, backup.NoMore)
	o.Safety = restore.Safety{
		Name: safety.Name, Exists: true,
		// Also one that began to save another cluster of the name.
		Foreign: safety.Labels[v1alpha1.LabelRestoreUID] != string(er.UID) || (safety.Status.ClusterUID != "" && safety.Status.ClusterUID != er.Status.ClusterUID),
		// One that is deleted takes its objects with it, if its policy was changed to that.
		Failed:   item.State == backup.ItemFailed || item.State == backup.ItemLeaving,
		Complete: item.Saved && safety.Status.ClusterUID != "", Verified: item.Backup.Verified != nil,
		Message: message, Revision: item.Backup.Revision, Began: item.Backup.Began, Ready: readySince(safety, wantedOf(o.Drill)),
	}
	return o, of, nil
}

// wantedOf is the condition of a safety backup that a restore waits for.
func wantedOf(drill bool) string { //nolint:revive // the spec's own word
	if drill {
		return v1alpha1.ConditionVerified
	}
	return v1alpha1.ConditionComplete
}

// readySince is since when a safety backup is what the restore asks of it.
func readySince(safety *v1alpha1.EtcdBackup, kind string) time.Time {
	if is := meta.FindStatusCondition(safety.Status.Conditions, kind); is != nil {
		return is.LastTransitionTime.Time
	}
	return time.Time{}
}

// perform carries out the step. What status is to say is written by Report.
func (r *EtcdRestoreReconciler) perform(ctx context.Context, er *v1alpha1.EtcdRestore, with sources, step restore.Step) error {
	limited, cancel := context.WithTimeoutCause(ctx, performTimeout, errPerform)
	defer cancel()
	switch step.Kind {
	case restore.LookAtBackup:
		with.from.BackupImage = r.BackupImage
		return startJob(limited, r.Client, r.BackupImage, resources.CheckJob(with.cluster, er, with.from))
	case restore.LookAgain:
		return deleteJob(limited, r.Client, r.Live, client.ObjectKey{Namespace: er.Namespace, Name: resources.CheckJobName(er.Name)}, metav1.DeletePropagationBackground, v1alpha1.LabelRestoreUID, string(er.UID))
	case restore.TakeSafety:
		return r.create(limited, resources.SafetyBackup(er, with.backup))
	default:
		return nil
	}
}

// create an object. Whether one of that name is ours is seen by the next look.
func (r *EtcdRestoreReconciler) create(ctx context.Context, o client.Object) error {
	err := r.Client.Create(ctx, o, client.FieldOwner(resources.FieldOwner))
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating %s: %w", o.GetName(), err)
	}
	return nil
}

// patchStatus writes status, once a pass and only when it has changed, on condition that
// nobody wrote the restore meanwhile; and tells what happened.
func (r *EtcdRestoreReconciler) patchStatus(ctx context.Context, before, er *v1alpha1.EtcdRestore, step restore.Step, done error) error {
	if equality.Semantic.DeepEqual(before.Status, er.Status) {
		return nil
	}
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Status().Patch(ctx, er, patch, client.FieldOwner(resources.FieldOwner)); err != nil {
		return client.IgnoreNotFound(fmt.Errorf("writing status: %w", err))
	}
	if step.Kind == restore.Wait || done != nil {
		return nil
	}
	kind := corev1.EventTypeNormal
	if step.Kind == restore.Fail {
		kind = corev1.EventTypeWarning
	}
	r.Recorder.Eventf(er, nil, kind, step.Reason, string(step.Kind), "%s", status.Note(step.Message))
	return nil
}
