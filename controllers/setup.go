package controllers

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/resources"
)

const (
	// firstRetry and lastRetry bound how soon a pass that failed is tried
	// again. The last one is below the 15 s within which a mended world must
	// be noticed.
	firstRetry = 50 * time.Millisecond
	lastRetry  = 5 * time.Second
	// atOnce is how many clusters are worked on side by side. A pass mostly
	// waits for etcd, and for two seconds when a member hangs: when the node of
	// a member of every one of 500 clusters is gone, all of them must still be
	// looked at within 15 s.
	atOnce = 100
)

// NodeAccess says whether the operator may read nodes.
type NodeAccess string

const (
	// NodesReadable: pods on nodes that are not Ready are treated with care.
	NodesReadable NodeAccess = "Readable"
	// NodesHidden: an operator of some namespaces has no right to read nodes.
	NodesHidden NodeAccess = "Hidden"
)

// SetupWithManager registers the controller and what wakes it.
func (r *EtcdClusterReconciler) SetupWithManager(mgr ctrl.Manager, nodes NodeAccess) error {
	ours := builder.WithPredicates(predicate.NewPredicateFuncs(func(o client.Object) bool {
		return o.GetLabels()[v1alpha1.LabelCluster] != ""
	}))
	b := ctrl.NewControllerManagedBy(mgr).
		For(&v1alpha1.EtcdCluster{}, builder.WithPredicates(predicate.Or(
			predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}))).
		Owns(&corev1.Pod{}).
		Owns(&corev1.Service{}).
		Owns(&corev1.ServiceAccount{}).
		Owns(&policyv1.PodDisruptionBudget{}).
		Owns(&networkingv1.NetworkPolicy{}).
		Watches(&v1alpha1.EtcdCluster{}, unwellFirst()).
		// Claims have no owner, so that no deletion cascades to the data.
		Watches(&corev1.PersistentVolumeClaim{}, handler.EnqueueRequestsFromMapFunc(byLabel), ours).
		Watches(&v1alpha1.EtcdBackup{}, handler.EnqueueRequestsFromMapFunc(clusterOf), builder.WithPredicates(storyChanged())).
		Watches(&v1alpha1.EtcdBackupSchedule{}, handler.EnqueueRequestsFromMapFunc(clusterOf)).
		Watches(&v1alpha1.EtcdRestore{}, handler.EnqueueRequestsFromMapFunc(clusterOf)).
		Watches(&v1alpha1.EtcdArchive{}, handler.EnqueueRequestsFromMapFunc(clusterOf), builder.WithPredicates(toldOfArchive())).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: atOnce,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](firstRetry, lastRetry),
		})
	if nodes == NodesReadable {
		b = b.Watches(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(r.everyCluster), builder.WithPredicates(readinessChanged()))
	}
	if err := b.Complete(r); err != nil {
		return fmt.Errorf("setting up the controller: %w", err)
	}
	return nil
}

// unwell is the priority of a cluster that was not Ready when the operator came.
const unwell = 100

// unwellFirst has an operator that starts look first at the clusters that may
// need it: those that were not Ready when its predecessor last wrote. The others
// are queued by the first list, too, with a low priority.
func unwellFirst() handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			c, isCluster := e.Object.(*v1alpha1.EtcdCluster)
			queue, ordered := q.(priorityqueue.PriorityQueue[reconcile.Request])
			if isCluster && ordered && !meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.ConditionReady) {
				queue.AddWithOpts(priorityqueue.AddOpts{Priority: new(unwell)}, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(c)})
			}
		},
	}
}

func byLabel(_ context.Context, o client.Object) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: types.NamespacedName{
		Namespace: o.GetNamespace(), Name: o.GetLabels()[v1alpha1.LabelCluster],
	}}}
}

// everyCluster is asked when a node comes or goes: any of them may have members
// there, and asking which costs as much as looking.
func (r *EtcdClusterReconciler) everyCluster(ctx context.Context, _ client.Object) []reconcile.Request {
	var list v1alpha1.EtcdClusterList
	if err := r.Client.List(ctx, &list); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Listing clusters after a node has changed")
		return nil
	}
	return requestsFor(list.Items)
}

// requestsFor all of them.
func requestsFor[T any, P interface {
	*T
	client.Object
}](items []T) []reconcile.Request {
	out := make([]reconcile.Request, 0, len(items))
	for i := range items {
		out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(P(&items[i]))})
	}
	return out
}

// readinessChanged drops the heartbeats: a node changes every few seconds, and
// its readiness almost never.
func readinessChanged() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(event.CreateEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, wasNode := e.ObjectOld.(*corev1.Node)
			after, isNode := e.ObjectNew.(*corev1.Node)
			return wasNode && isNode && (readiness(before) != readiness(after) || len(before.Spec.Taints) != len(after.Spec.Taints))
		},
	}
}

func readiness(n *corev1.Node) corev1.ConditionStatus {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status
		}
	}
	return corev1.ConditionUnknown
}

// Watched restricts the caches to objects of clusters, so that the operator's
// memory does not grow with whatever else runs, and to what is read of them.
func Watched() map[client.Object]cache.ByObject {
	ofClusters := cache.ByObject{Label: labels.NewSelector().Add(belongsToCluster())}
	pods := ofClusters
	pods.Transform = slimPod
	return map[client.Object]cache.ByObject{
		&corev1.Pod{}:                   pods,
		&corev1.PersistentVolumeClaim{}: ofClusters,
		&batchv1.Job{}:                  {Label: labels.NewSelector().Add(ofBackupsAndArchives())},
		&appsv1.Deployment{}:            {Label: labels.NewSelector().Add(bears(v1alpha1.LabelArchive))},
	}
}

// slimPod leaves out of a cached pod what its template says anyway: it would be
// a quarter of the operator's memory. Whether a pod is as its template wants is
// told by the hash in its annotations. What is not kept here reads as absent;
// who needs it reads the API server.
func slimPod(o any) (any, error) {
	pod, ok := o.(*corev1.Pod)
	if !ok {
		return o, nil
	}
	pod.ManagedFields = nil
	spec := corev1.PodSpec{NodeName: pod.Spec.NodeName, SchedulingGates: pod.Spec.SchedulingGates}
	for _, c := range pod.Spec.Containers {
		spec.Containers = append(spec.Containers, corev1.Container{Name: c.Name, Image: c.Image, Command: resources.Listeners(c.Command)})
	}
	pod.Spec = spec
	return pod, nil
}

// ofBackupsAndArchives selects the Jobs of both by the label that all of them bear.
func ofBackupsAndArchives() labels.Requirement {
	r, err := labels.NewRequirement("app.kubernetes.io/name", selection.In, []string{"etcd-backup", "etcd-archive"})
	if err != nil {
		panic(fmt.Sprintf("selecting by a constant: %v", err))
	}
	return *r
}

func belongsToCluster() labels.Requirement { return bears(v1alpha1.LabelCluster) }

func bears(label string) labels.Requirement {
	r, err := labels.NewRequirement(label, selection.Exists, nil)
	if err != nil {
		panic(fmt.Sprintf("selecting by the constant %s: %v", label, err))
	}
	return *r
}
