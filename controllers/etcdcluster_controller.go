// Package controllers wires the loop: see, decide, do, report. What to do is
// plan's; this package reads like a list of who is asked in which order.
package controllers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/observe"
	"github.com/quorate/quorate/internal/perform"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/internal/status"
)

// How long until a cluster is looked at again when nothing wakes the operator.
const (
	// again follows a step: the next one is decided from its effect.
	again = time.Millisecond
	// afterStale gives the caches time to hear of what made a step stale.
	afterStale = 100 * time.Millisecond
	// whileFounding is short, since nothing in Kubernetes tells when etcd has
	// elected a leader.
	whileFounding = 200 * time.Millisecond
	// whileChanging is how soon it is looked at again whether a learner has caught
	// up, or a pod has come: nothing in Kubernetes tells. The pause grows by a
	// fifth of it with every look that finds nothing new.
	whileChanging = 100 * time.Millisecond
	// afterNotYet is how soon etcd is asked again to take a change that it does
	// not take yet.
	afterNotYet = 500 * time.Millisecond
	// whileWaiting is how soon a change in etcd is noticed while something is
	// amiss.
	whileWaiting = 2 * time.Second
	// performTimeout bounds what a pass writes, so that a webhook that hangs does
	// not keep what is said of availability from being renewed.
	performTimeout = 5 * time.Second
	// finalizeLimit is how long a cluster is held because a claim cannot be
	// deleted. Holding it for ever would hold its namespace too.
	finalizeLimit = time.Minute
	// atRest keeps the promise that Available=True was probed in the last 15 s,
	// with room for a probe that hangs until its time-out.
	atRest = 8 * time.Second
)

var errPerform = errors.New("the API server did not answer within one pass")

// EtcdClusterReconciler moves clusters towards their specs.
type EtcdClusterReconciler struct {
	// Client writes, and reads from the caches.
	Client client.Client
	// Live reads from the API server.
	Live client.Reader
	// Observer looks, Performer acts.
	Observer  *observe.Observer
	Performer *perform.Performer
	// Recorder of events.
	Recorder events.EventRecorder
	// Installation of the operator: the namespace and the name of its Lease. Its
	// replicas share it.
	Installation string

	repeats repeats
	refused refusedSteps
	doubts  doubts
	rivals  rivals
}

// +kubebuilder:rbac:groups=etcd.quorate.dev,resources=etcdclusters,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=etcd.quorate.dev,resources=etcdclusters/status,verbs=patch
// +kubebuilder:rbac:groups=etcd.quorate.dev,resources=etcdclusters/finalizers,verbs=update
// +kubebuilder:rbac:groups="",resources=pods;persistentvolumeclaims,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=pods/eviction,verbs=create
// +kubebuilder:rbac:groups="",resources=pods/resize,verbs=patch
// +kubebuilder:rbac:groups="",resources=services;serviceaccounts,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=policy,resources=poddisruptionbudgets,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=networking.k8s.io,resources=networkpolicies,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;create;update;delete
// +kubebuilder:rbac:groups=cert-manager.io,resources=certificates,verbs=list;create;patch;delete
// +kubebuilder:rbac:groups="",resources=nodes,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=resourcequotas,verbs=list
// +kubebuilder:rbac:groups=storage.k8s.io,resources=storageclasses,verbs=list;watch
// +kubebuilder:rbac:groups=coordination.k8s.io,resources=leases,verbs=get
// +kubebuilder:rbac:groups=etcd.quorate.dev,resources=etcdbackups;etcdbackupschedules,verbs=get;list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Reconcile moves one cluster one step closer to its spec: observe, decide,
// perform, report.
func (r *EtcdClusterReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	c, err := r.read(ctx, req)
	if err != nil || c == nil {
		return ctrl.Result{}, err
	}
	if wait, yields := r.yields(ctx, c); yields {
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	if !c.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, r.finalize(ctx, c)
	}
	seen, err := r.Observer.Observe(ctx, c)
	before := c.DeepCopy()
	c.Status.Operator = cmp.Or(r.Installation, c.Status.Operator)
	if err != nil {
		status.ReportBlind(c, err)
		return ctrl.Result{}, errors.Join(fmt.Errorf("observing: %w", err), r.patchStatus(ctx, before, c, status.Outcome{}))
	}
	seen.Skip = r.refused.of(req.NamespacedName)
	seen.LeaderDoubted = r.doubts.of(req.NamespacedName, seen, r.Performer.Clock.Now())
	r.Performer.Chores.Tell(c, &seen)
	step := plan.Next(seen)
	log := ctrl.LoggerFrom(ctx).V(verbosity(step))
	log.Info("Decided", "step", step.Kind, "members", step.Members, "reason", step.Message)

	outcome, wait := r.perform(ctx, c, seen, step)
	status.Report(c, outcome)
	r.refused.note(req.NamespacedName, outcome.Step, outcome.Err)
	if err := r.patchStatus(ctx, before, c, outcome); err != nil {
		return quietly(err)
	}
	if outcome.Err != nil {
		return ctrl.Result{}, fmt.Errorf("performing %s: %w", step.Kind, outcome.Err)
	}
	if wait == 0 {
		wait = next(c, step)
	}
	return ctrl.Result{RequeueAfter: r.repeats.pause(req.NamespacedName, step, wait)}, nil
}

// perform carries out the step within performTimeout. A step that was decided
// for a world that has moved, or that etcd does not take yet, is not done and no
// failure: it is waited for, as long as the second answer says. A pass that finds
// the cluster fallen only tells of it, and the next one acts.
func (r *EtcdClusterReconciler) perform(
	ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, step plan.Step,
) (status.Outcome, time.Duration) {
	if acts := step.Kind != plan.Wait && step.Kind != plan.Pause; acts && status.Falls(c, seen) {
		step.Kind = plan.Wait
		return status.Outcome{Seen: seen, Step: step}, again
	}
	limited, cancel := context.WithTimeoutCause(ctx, performTimeout, errPerform)
	defer cancel()
	err := r.Performer.Perform(limited, c, seen, step)
	r.doubts.note(client.ObjectKeyFromObject(c), seen, step, err, r.Performer.Clock.Now())
	wait := time.Duration(0)
	switch {
	case errors.Is(err, perform.ErrNotYet):
		wait = afterNotYet
		step.Message = fmt.Sprintf("%s: %s", step.Message, err)
	case perform.Stale(err):
		wait = afterStale
	}
	if wait > 0 {
		ctrl.LoggerFrom(ctx).V(1).Info("Looking again", "step", step.Kind, "reason", err.Error())
		step.Kind, err = plan.Wait, nil
	}
	return status.Outcome{Seen: seen, Step: step, Err: err}, wait
}

// read reads the cluster: from the cache, and from the API server until it is
// founded and while its members change, for then every pass builds on what the
// last one wrote, and when it is deleted, for whether its volumes go must not be read from an old spec.
func (r *EtcdClusterReconciler) read(ctx context.Context, req ctrl.Request) (*v1alpha1.EtcdCluster, error) {
	c := &v1alpha1.EtcdCluster{}
	err := r.Client.Get(ctx, req.NamespacedName, c)
	if err == nil && (observe.Moving(c) || !c.DeletionTimestamp.IsZero()) {
		c = &v1alpha1.EtcdCluster{}
		err = r.Live.Get(ctx, req.NamespacedName, c)
	}
	if apierrors.IsNotFound(err) {
		r.Observer.Forget(req.NamespacedName)
		r.repeats.forget(req.NamespacedName)
		r.refused.forget(req.NamespacedName)
		r.doubts.forget(req.NamespacedName)
		r.Performer.Chores.Forget(req.NamespacedName)
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the cluster: %w", err)
	}
	return c, nil
}

// patchStatus writes status, once a pass and only when it has changed, on
// condition that nobody wrote the cluster meanwhile; and tells what happened.
func (r *EtcdClusterReconciler) patchStatus(ctx context.Context, before, c *v1alpha1.EtcdCluster, o status.Outcome) error {
	was, is := &before.Status, c.Status.DeepCopy()
	written, err := status.StatusWritten, error(nil)
	if !equality.Semantic.DeepEqual(*was, *is) {
		// The performer may have written the finalizer: build on that version.
		before.ResourceVersion, before.Finalizers = c.ResourceVersion, c.Finalizers
		patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
		if err = r.Client.Status().Patch(ctx, c, patch, client.FieldOwner(resources.FieldOwner)); err != nil {
			written, err = status.StatusLost, fmt.Errorf("writing status: %w", err)
		}
	}
	for _, e := range status.Events(*was, *is, o, written) {
		r.Recorder.Eventf(c, nil, e.Type, e.Reason, e.Action, "%s", e.Message)
	}
	return err
}

// finalize lets a cluster go. Its pods and objects are collected by their
// owner references; its volumes only when the user said so. It never waits:
// the claims are protected while a pod uses them, and go when it has gone.
func (r *EtcdClusterReconciler) finalize(ctx context.Context, c *v1alpha1.EtcdCluster) error {
	if !controllerutil.ContainsFinalizer(c, v1alpha1.Finalizer) {
		return nil
	}
	if c.Spec.Storage.WhenDeleted == v1alpha1.WhenDeletedDelete && ownsVolumes(c) {
		err := r.Performer.DeleteVolumes(ctx, c)
		switch {
		case err == nil:
			r.Recorder.Eventf(c, nil, corev1.EventTypeNormal, v1alpha1.ReasonDeleting, "DeleteVolumes", "the volumes are deleted with the cluster, as spec.storage.whenDeleted says")
		case r.Performer.ServerTime.Or(r.Performer.Clock.Now()).Sub(c.DeletionTimestamp.Time) < finalizeLimit:
			return fmt.Errorf("deleting the volumes: %w", err)
		default:
			r.Recorder.Eventf(c, nil, corev1.EventTypeWarning, v1alpha1.ReasonDeleting, "DeleteVolumes", "%s", status.Note(fmt.Sprintf(
				"%s — the cluster is let go all the same, and these volumes stay — delete them by hand: kubectl delete pvc -l %s=%s", err, v1alpha1.LabelClusterUID, resources.ClusterUID(c))))
		}
	}
	if err := r.Performer.RemoveFinalizer(ctx, c); client.IgnoreNotFound(err) != nil {
		return err
	}
	return nil
}

// ownsVolumes is false for a cluster that was to adopt others' volumes and did not come to
// it: they are the last copies of data that somebody still wants.
func ownsVolumes(c *v1alpha1.EtcdCluster) bool {
	return c.Spec.Adopt == nil || len(c.Status.Founders) > 0
}

// quietly looks again after a conflict, which is nobody's fault.
func quietly(err error) (ctrl.Result, error) {
	if perform.Stale(err) {
		return ctrl.Result{RequeueAfter: afterStale}, nil
	}
	return ctrl.Result{}, err
}

// verbosity keeps an idle operator's log empty.
func verbosity(step plan.Step) int {
	if step.Kind == plan.Settled || step.Kind == plan.Wait || step.Kind == plan.Pause {
		return 1
	}
	return 0
}

// changing are the reasons of work that waits for etcd's members.
var changing = []string{
	v1alpha1.ReasonGrowing, v1alpha1.ReasonShrinking, v1alpha1.ReasonReplacing, v1alpha1.ReasonUpgrading, v1alpha1.ReasonRolling,
	v1alpha1.ReasonDowngrading,
	v1alpha1.ReasonDefragmenting, v1alpha1.ReasonComparing,
	v1alpha1.ReasonRotating,
}

func next(c *v1alpha1.EtcdCluster, step plan.Step) time.Duration {
	switch {
	case step.Kind == plan.Settled, step.Kind == plan.Pause:
		return atRest
	case step.Kind == plan.Compare:
		return whileWaiting
	case step.Kind != plan.Wait:
		return again
	case c.Status.ClusterID == "" && step.Reason == v1alpha1.ReasonFounding:
		return whileFounding
	case slices.Contains(changing, step.Reason):
		return whileChanging
	default:
		return whileWaiting
	}
}
