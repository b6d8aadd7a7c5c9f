package controllers

import (
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/backup"
	"github.com/quorate/quorate/internal/observe"
)

// backupsAtOnce is how many backups are looked at side by side: each pass waits for a
// pod to tell its progress.
const backupsAtOnce = 10

// SetupWithManager registers the controller and what wakes it.
func (r *EtcdBackupReconciler) SetupWithManager(mgr ctrl.Manager) error {
	err := ctrl.NewControllerManagedBy(mgr).
		For(&v1alpha1.EtcdBackup{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		// Not by owner: a Job that deletes objects has none.
		Watches(&batchv1.Job{}, handler.EnqueueRequestsFromMapFunc(byName(v1alpha1.LabelBackup))).
		WithOptions(backupOptions()).
		Complete(r)
	if err != nil {
		return fmt.Errorf("setting up the controller of backups: %w", err)
	}
	return nil
}

// SetupWithManager registers the controller and what wakes it.
func (r *EtcdBackupScheduleReconciler) SetupWithManager(mgr ctrl.Manager) error {
	err := ctrl.NewControllerManagedBy(mgr).
		For(&v1alpha1.EtcdBackupSchedule{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.EtcdBackup{}, handler.EnqueueRequestsFromMapFunc(byName(v1alpha1.LabelSchedule)), builder.WithPredicates(storyChanged())).
		WithOptions(backupOptions()).
		Complete(r)
	if err != nil {
		return fmt.Errorf("setting up the controller of schedules: %w", err)
	}
	return nil
}

// SetupWithManager registers the controller and what wakes it.
func (r *EtcdArchiveReconciler) SetupWithManager(mgr ctrl.Manager) error {
	err := ctrl.NewControllerManagedBy(mgr).
		For(&v1alpha1.EtcdArchive{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Owns(&appsv1.Deployment{}).
		Owns(&batchv1.Job{}).
		Watches(&v1alpha1.EtcdCluster{}, handler.EnqueueRequestsFromMapFunc(r.archivesOf), builder.WithPredicates(membersChanged())).
		WithOptions(backupOptions()).
		Complete(r)
	if err != nil {
		return fmt.Errorf("setting up the controller of archives: %w", err)
	}
	return nil
}

// archivesOf wakes the archives of a cluster: the archiver is told its members.
func (r *EtcdArchiveReconciler) archivesOf(ctx context.Context, o client.Object) []reconcile.Request {
	var list v1alpha1.EtcdArchiveList
	if err := r.Client.List(ctx, &list, client.InNamespace(o.GetNamespace()), client.MatchingFields{observe.IndexClusterRef: o.GetName()}); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Listing the archives of a cluster that has changed")
		return nil
	}
	return requestsFor(list.Items)
}

// membersChanged drops what an archiver is not told of.
func membersChanged() predicate.Predicate {
	voters := func(c *v1alpha1.EtcdCluster) []string {
		told := []string{c.Status.ClusterID}
		for _, m := range c.Status.Members {
			told = append(told, m.Name, string(m.Role))
		}
		return told
	}
	return predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, was := e.ObjectOld.(*v1alpha1.EtcdCluster)
			after, is := e.ObjectNew.(*v1alpha1.EtcdCluster)
			return was && is && (!slices.Equal(voters(before), voters(after)) || before.Status.PlaintextPeers != after.Status.PlaintextPeers || before.Generation != after.Generation)
		},
	}
}

// toldOfArchive drops how far an archive is, which changes every minute.
func toldOfArchive() predicate.Predicate {
	return predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, was := e.ObjectOld.(*v1alpha1.EtcdArchive)
			after, is := e.ObjectNew.(*v1alpha1.EtcdArchive)
			return !was || !is || before.Generation != after.Generation || !equality.Semantic.DeepEqual(before.Status.Conditions, after.Status.Conditions)
		},
	}
}

func backupOptions() controller.Options {
	return controller.Options{
		MaxConcurrentReconciles: backupsAtOnce,
		RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](firstRetry, lastRetry),
	}
}

// byName wakes whom a label names, in the same namespace.
func byName(label string) handler.MapFunc {
	return func(_ context.Context, o client.Object) []reconcile.Request {
		name := o.GetLabels()[label]
		if name == "" {
			return nil
		}
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: o.GetNamespace(), Name: name}}}
	}
}

// storyChanged drops the progress of a backup, which changes every few seconds.
func storyChanged() predicate.Predicate {
	return predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, was := e.ObjectOld.(*v1alpha1.EtcdBackup)
			after, is := e.ObjectNew.(*v1alpha1.EtcdBackup)
			if !was || !is {
				return true
			}
			then, now := backup.ItemOf(before), backup.ItemOf(after)
			return then.State != now.State || then.Message != now.Message || then.Backup.Verified != nil != (now.Backup.Verified != nil)
		},
	}
}

// IndexBackups has the manager's caches find the backups, the schedules and the restores of
// a cluster.
// It is called before the manager starts.
func IndexBackups(ctx context.Context, mgr ctrl.Manager) error {
	for _, kind := range []client.Object{&v1alpha1.EtcdBackup{}, &v1alpha1.EtcdBackupSchedule{}, &v1alpha1.EtcdRestore{}, &v1alpha1.EtcdArchive{}} {
		if err := mgr.GetFieldIndexer().IndexField(ctx, kind, observe.IndexClusterRef, observe.ClusterRefOf); err != nil {
			return fmt.Errorf("indexing %T by cluster: %w", kind, err)
		}
	}
	return nil
}

// clusterOf wakes the cluster that a backup, a schedule or a restore is of.
func clusterOf(_ context.Context, o client.Object) []reconcile.Request {
	var out []reconcile.Request
	for _, name := range observe.ClusterRefOf(o) {
		out = append(out, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: o.GetNamespace(), Name: name}})
	}
	return out
}
