package controllers

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
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
	"github.com/quorate/quorate/internal/perform"
	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/internal/status"
)

// whileArchiving is how often a pod that archives is asked how far it is.
const whileArchiving = 10 * time.Second

// EtcdArchiveReconciler has a pod archive a cluster, tells how far that is, and has the
// archive restored on trial.
type EtcdArchiveReconciler struct {
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
	// Lags are what is measured; nil for nothing.
	Lags *ArchiveLags
}

// +kubebuilder:rbac:groups=etcd.quorate.dev,resources=etcdarchives,verbs=get;list;watch
// +kubebuilder:rbac:groups=etcd.quorate.dev,resources=etcdarchives/status,verbs=patch
// +kubebuilder:rbac:groups=etcd.quorate.dev,resources=etcdarchives/finalizers,verbs=update
// +kubebuilder:rbac:groups=apps,resources=deployments,verbs=get;list;watch;create;patch

// Reconcile takes one archive one step further: observe, decide, perform, report.
func (r *EtcdArchiveReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	a := &v1alpha1.EtcdArchive{}
	if err := r.Client.Get(ctx, req.NamespacedName, a); err != nil {
		if apierrors.IsNotFound(err) {
			r.Lags.forget(req.NamespacedName)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	seen, w, err := r.observe(ctx, a)
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("observing: %w", err)
	}
	step := backup.NextOfArchive(seen)
	if step.Kind == backup.Rest {
		return ctrl.Result{}, nil
	}
	before := a.DeepCopy()
	err = r.perform(ctx, a, w, step)
	gap := backup.ReportArchive(a, backup.ArchiveOutcome{Seen: seen, Step: step, Err: err})
	r.Lags.measure(a, seen)
	if failed := r.patchStatus(ctx, before, a, gap); failed != nil {
		return quietly(failed)
	}
	if err != nil {
		return quietly(fmt.Errorf("performing %s: %w", step.Kind, err))
	}
	return ctrl.Result{RequeueAfter: pauseOfArchive(step)}, nil
}

func (r *EtcdArchiveReconciler) now() time.Time { return r.ServerTime.Or(r.Clock.Now()) }

// pauseOfArchive is how long until the archive is looked at again when nothing wakes the
// operator. A change of its spec, of its Deployment and of its Job does.
func pauseOfArchive(step backup.Step) time.Duration {
	switch {
	case step.Kind == backup.Fail, step.Reason == v1alpha1.ReasonSuspended:
		return 0
	case step.Kind != backup.Wait:
		return again
	case step.Reason == v1alpha1.ReasonArchiving:
		return whileArchiving
	default:
		return whileAbsent
	}
}

// observe looks at the archive's Deployment and Job, at its pod, its cluster and its Secrets.
func (r *EtcdArchiveReconciler) observe(ctx context.Context, a *v1alpha1.EtcdArchive) (backup.ArchiveObserved, resources.Work, error) {
	w := resources.Work{BackupImage: r.BackupImage}
	o := backup.ArchiveObserved{
		Now: r.now(), Created: a.CreationTimestamp.Time, Deleting: !a.DeletionTimestamp.IsZero(), Suspend: a.Spec.Suspend,
		SealEvery: a.Spec.SealEvery.Duration, MaxLag: a.Spec.MaxLag.Duration, DrillEvery: a.Spec.DrillEvery.Duration, ClusterUID: a.Status.ClusterUID,
		Cluster: backup.Cluster{Name: a.Spec.ClusterRef.Name}, KeepFor: a.Spec.KeepFor.Duration, PruneFailed: backup.PruneFailed(&a.Status),
	}
	if o.Deleting {
		return o, w, nil
	}
	if a.Status.ArchivedUntil != nil {
		o.Until = a.Status.ArchivedUntil.Time
	}
	if a.Status.LastDrillTime != nil {
		o.LastDrill, o.DrilledOf = a.Status.LastDrillTime.Time, a.Status.DrilledOf
		if c := meta.FindStatusCondition(a.Status.Conditions, v1alpha1.ConditionVerified); c != nil && c.Status != metav1.ConditionTrue {
			o.DrillFailure = snapshot.Reason(c.Reason)
		}
	}
	c, err := clusterNamed(ctx, r.Client, a.Namespace, a.Spec.ClusterRef.Name)
	if err != nil {
		return o, w, err
	}
	if c != nil {
		o.Cluster, w.Cluster, w.EtcdImage = asCluster(c), c, resources.Image(c)
		o.DrillOf = resources.ArchiveHash(a, c)
	}
	if o.Archiver, err = r.archiver(ctx, a, w, o); err != nil {
		return o, w, err
	}
	if err = r.drill(ctx, a, &o); err != nil {
		return o, w, err
	}
	if err = r.prune(ctx, a, &o); err != nil {
		return o, w, err
	}
	if !o.Archiver.Running {
		if o.MissingSecret, err = missingOf(ctx, r.Live, a.Namespace, resources.SecretsOf(a.Spec.Store, a.Spec.Encryption)); err == nil {
			o.MissingClaim, err = observe.MissingClaim(ctx, r.Live, a.Namespace, a.Spec.Store)
		}
	}
	return o, w, err
}

// archiver is what there is of the Deployment and of its pod.
func (r *EtcdArchiveReconciler) archiver(ctx context.Context, a *v1alpha1.EtcdArchive, w resources.Work, o backup.ArchiveObserved) (backup.Archiver, error) {
	d, err := r.deployment(ctx, a)
	if err != nil || d == nil {
		return backup.Archiver{}, err
	}
	out := backup.Archiver{Name: d.Name, State: backup.ArchiverOutdated}
	switch {
	case d.Labels[v1alpha1.LabelArchiveUID] != string(a.UID):
		return backup.Archiver{Name: d.Name, State: backup.ArchiverForeign}, nil
	case d.Spec.Replicas != nil && *d.Spec.Replicas == 0:
		return backup.Archiver{State: backup.ArchiverStopped}, nil
	case w.Cluster != nil && o.Cluster.Founded:
		want, err := resources.Archiver(a, w)
		if err != nil {
			return out, err
		}
		if d.Annotations[v1alpha1.AnnotationTemplateHash] == want.Annotations[v1alpha1.AnnotationTemplateHash] {
			out.State = backup.ArchiverCurrent
		}
	default:
		// Without voters nobody knows what it should be made from.
		out.State = backup.ArchiverCurrent
	}
	pods := &corev1.PodList{}
	err = r.Live.List(ctx, pods, client.InNamespace(a.Namespace), client.MatchingLabels(resources.ArchiveLabels(a, snapshot.OperationArchive)))
	if err != nil {
		return out, fmt.Errorf("listing the pods of Deployment %s: %w", d.Name, err)
	}
	out.Rolling = d.Status.ObservedGeneration < d.Generation || d.Status.UpdatedReplicas < d.Status.Replicas
	r.followArchiver(ctx, &out, pods.Items)
	return out, nil
}

// deployment of the archive, or whatever bears its name; nil if there is none. The cache
// holds those of archives only.
func (r *EtcdArchiveReconciler) deployment(ctx context.Context, a *v1alpha1.EtcdArchive) (*appsv1.Deployment, error) {
	d := &appsv1.Deployment{}
	key := client.ObjectKey{Namespace: a.Namespace, Name: resources.ArchiverName(a.Name)}
	err := r.Client.Get(ctx, key, d)
	if apierrors.IsNotFound(err) {
		err = r.Live.Get(ctx, key, d)
	}
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading Deployment %s: %w", key.Name, err)
	}
	return d, nil
}

// followArchiver asks the newest pod, and reads what its last process has left.
func (r *EtcdArchiveReconciler) followArchiver(ctx context.Context, out *backup.Archiver, pods []corev1.Pod) {
	newestFirst(pods)
	for i := range pods {
		pod := &pods[i]
		if !pod.DeletionTimestamp.IsZero() {
			continue
		}
		lastProcess(out, pod)
		out.Since, out.Running = running(pod)
		if !out.Running {
			if out.Trouble == "" {
				out.Trouble = waitsFor(pod)
			}
			return
		}
		progress, err := r.Progress(ctx, pod.Status.PodIP)
		if err != nil {
			ctrl.LoggerFrom(ctx).V(1).Info("Asking for the progress", "pod", pod.Name, "reason", err.Error())
			return
		}
		out.Progress = progress.Archive
		if out.Progress == nil { // it has just started
			out.Progress = &snapshot.ArchiveProgress{Trouble: progress.Trouble}
		}
		return
	}
}

// lastProcess is what the one before has left.
func lastProcess(out *backup.Archiver, pod *corev1.Pod) {
	for i := range pod.Status.ContainerStatuses {
		s := &pod.Status.ContainerStatuses[i]
		ended := s.State.Terminated
		if ended == nil {
			ended = s.LastTerminationState.Terminated
		}
		if ended == nil || s.Name != resources.BackupContainer {
			continue
		}
		if result, err := snapshot.ParseResult(ended.Message); err == nil {
			out.Result = &result
		} else if s.State.Running == nil {
			out.Trouble = lastWords(ended)
		}
	}
}

func running(pod *corev1.Pod) (since time.Time, is bool) {
	for i := range pod.Status.ContainerStatuses {
		if s := &pod.Status.ContainerStatuses[i]; s.Name == resources.BackupContainer && s.State.Running != nil {
			return s.State.Running.StartedAt.Time, pod.Status.PodIP != ""
		}
	}
	return since, false
}

// drill notes what is known of the Job that tries the archive out.
func (r *EtcdArchiveReconciler) drill(ctx context.Context, a *v1alpha1.EtcdArchive, o *backup.ArchiveObserved) error {
	job, err := r.job(ctx, a, resources.ArchiveDrillName(a.Name), &o.Drill)
	if err == nil && job != nil {
		o.DrillBegan, o.DrillJobOf = job.CreationTimestamp.Time, job.Annotations[v1alpha1.AnnotationTemplateHash]
	}
	return err
}

// prune notes what is known of the Job that deletes what the archive does not keep and, when
// it is time for one, who is being filled from the archive.
func (r *EtcdArchiveReconciler) prune(ctx context.Context, a *v1alpha1.EtcdArchive, o *backup.ArchiveObserved) error {
	if o.KeepFor <= 0 {
		return nil
	}
	if a.Status.LastPruneTime != nil {
		o.LastPrune = a.Status.LastPruneTime.Time
	}
	job, err := r.job(ctx, a, resources.ArchivePruneName(a.Name), &o.Prune)
	if err != nil {
		return err
	}
	if job != nil {
		o.PruneBegan = job.CreationTimestamp.Time
	}
	if !backup.PruneDue(*o) {
		return nil
	}
	used, err := inUse(ctx, r.Client, r.Live, a.Namespace)
	for _, s := range used.sources {
		if s.ClusterUID == a.Status.ClusterUID {
			o.PruneHeld = s.cluster.String()
		}
	}
	return err
}

// job of the archive, and what is known of its work; nil if there is none, or if it is somebody
// else's.
func (r *EtcdArchiveReconciler) job(ctx context.Context, a *v1alpha1.EtcdArchive, name string, w *backup.Work) (*batchv1.Job, error) {
	job := &batchv1.Job{}
	// Read from the API server: the cache does not hold a Job that is not ours.
	err := r.Live.Get(ctx, client.ObjectKey{Namespace: a.Namespace, Name: name}, job)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading Job %s: %w", name, err)
	}
	if job.Labels[v1alpha1.LabelArchiveUID] != string(a.UID) {
		w.Name, w.State = name, backup.WorkForeign
		return nil, nil
	}
	*w = workOf(job)
	pods, err := podsOf(ctx, r.Live, job, v1alpha1.LabelArchiveUID)
	if err != nil {
		return nil, err
	}
	follow(ctx, r.Progress, w, pods)
	return job, nil
}

// perform carries out the step. What status is to say is written by ReportArchive.
func (r *EtcdArchiveReconciler) perform(ctx context.Context, a *v1alpha1.EtcdArchive, w resources.Work, step backup.Step) error {
	limited, cancel := context.WithTimeoutCause(ctx, performTimeout, errPerform)
	defer cancel()
	switch step.Kind {
	case backup.Archive:
		return r.archive(limited, a, w)
	case backup.StopArchiver:
		return r.stop(limited, a)
	case backup.Drill:
		return startJob(limited, r.Client, r.BackupImage, resources.ArchiveDrillJob(a, w))
	case backup.Prune:
		return startJob(limited, r.Client, r.BackupImage, resources.ArchivePruneJob(a, w, r.now().Add(-a.Spec.KeepFor.Duration)))
	case backup.Redo:
		name := resources.ArchiveDrillName(a.Name)
		if step.Operation == snapshot.OperationPrune {
			name = resources.ArchivePruneName(a.Name)
		}
		// The very Job that has ended goes.
		return deleteJob(limited, r.Client, r.Live, client.ObjectKey{Namespace: a.Namespace, Name: name}, metav1.DeletePropagationBackground, v1alpha1.LabelArchiveUID, string(a.UID))
	default:
		return nil
	}
}

// archive makes the Deployment, or makes it what it should be. It is not made from a look
// that the cluster has left behind: another cluster of the name holds other data.
func (r *EtcdArchiveReconciler) archive(ctx context.Context, a *v1alpha1.EtcdArchive, w resources.Work) error {
	if r.BackupImage == "" {
		return resources.ErrNoBackupImage
	}
	if resources.ClusterUID(w.Cluster) != a.Status.ClusterUID {
		return fmt.Errorf("archiving cluster %s: %w", w.Cluster.Name, perform.ErrStale)
	}
	want, err := resources.Archiver(a, w)
	if err != nil {
		return err
	}
	is, err := r.deployment(ctx, a)
	if err != nil {
		return err
	}
	if is == nil {
		if err := r.Client.Create(ctx, want, client.FieldOwner(resources.FieldOwner)); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("creating Deployment %s: %w", want.Name, err)
		}
		return nil
	}
	return r.patchDeployment(ctx, a, is, func(d *appsv1.Deployment) {
		d.Spec = want.Spec
		metav1.SetMetaDataAnnotation(&d.ObjectMeta, v1alpha1.AnnotationTemplateHash, want.Annotations[v1alpha1.AnnotationTemplateHash])
	})
}

func (r *EtcdArchiveReconciler) stop(ctx context.Context, a *v1alpha1.EtcdArchive) error {
	is, err := r.deployment(ctx, a)
	if err != nil || is == nil {
		return err
	}
	return r.patchDeployment(ctx, a, is, func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32(0)) })
}

// patchDeployment changes the very Deployment that was looked at.
func (r *EtcdArchiveReconciler) patchDeployment(ctx context.Context, a *v1alpha1.EtcdArchive, is *appsv1.Deployment, change func(*appsv1.Deployment)) error {
	if is.Labels[v1alpha1.LabelArchiveUID] != string(a.UID) {
		return fmt.Errorf("changing Deployment %s: %w", is.Name, perform.ErrStale)
	}
	before := is.DeepCopy()
	change(is)
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Patch(ctx, is, patch, client.FieldOwner(resources.FieldOwner)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("changing Deployment %s: %w", is.Name, err)
	}
	return nil
}

// patchStatus writes status, once a pass and only when it has changed, on condition
// that nobody wrote the archive meanwhile; and tells what happened.
func (r *EtcdArchiveReconciler) patchStatus(ctx context.Context, before, a *v1alpha1.EtcdArchive, gap *v1alpha1.ArchiveGap) error {
	if equality.Semantic.DeepEqual(before.Status, a.Status) {
		return nil
	}
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Status().Patch(ctx, a, patch, client.FieldOwner(resources.FieldOwner)); err != nil {
		return fmt.Errorf("writing status: %w", err)
	}
	r.tell(before, a, gap)
	return nil
}

// tell the user what has become different.
func (r *EtcdArchiveReconciler) tell(before, a *v1alpha1.EtcdArchive, gap *v1alpha1.ArchiveGap) {
	is := meta.FindStatusCondition(a.Status.Conditions, v1alpha1.ConditionReady)
	was := meta.FindStatusCondition(before.Status.Conditions, v1alpha1.ConditionReady)
	if was == nil || was.Status != is.Status || was.Reason != is.Reason {
		kind := corev1.EventTypeNormal
		if is.Status != metav1.ConditionTrue && is.Reason != v1alpha1.ReasonPending && is.Reason != v1alpha1.ReasonBaseMissing {
			kind = corev1.EventTypeWarning
		}
		r.Recorder.Eventf(a, nil, kind, is.Reason, "Archive", "%s", status.Note(is.Message))
	}
	if gap != nil {
		c := meta.FindStatusCondition(a.Status.Conditions, v1alpha1.ConditionGapInHistory)
		r.Recorder.Eventf(a, nil, corev1.EventTypeWarning, v1alpha1.ConditionGapInHistory, "Archive", "%s", status.Note(c.Message))
	}
	r.tellOfPrune(before, a)
}

// tellOfPrune says what was deleted, and what was in the way of that.
func (r *EtcdArchiveReconciler) tellOfPrune(before, a *v1alpha1.EtcdArchive) {
	c := meta.FindStatusCondition(a.Status.Conditions, v1alpha1.ConditionHistoryBounded)
	if c == nil || a.Status.LastPruneTime.Equal(before.Status.LastPruneTime) {
		return
	}
	kind := corev1.EventTypeNormal
	if c.Status != metav1.ConditionTrue {
		kind = corev1.EventTypeWarning
	}
	r.Recorder.Eventf(a, nil, kind, c.Reason, "Prune", "%s", status.Note(c.Message))
}
