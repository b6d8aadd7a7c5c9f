package observe

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/backup"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// IndexClusterRef is the name of the index by which the caches find the backups, the
// schedules and the restores of a cluster. Without one every pass would copy all those of the namespace.
const IndexClusterRef = "clusterRef"

// ClusterRefOf an EtcdBackup, an EtcdBackupSchedule, an EtcdRestore or an EtcdArchive: what the
// index holds.
func ClusterRefOf(o client.Object) []string {
	switch o := o.(type) {
	case *v1alpha1.EtcdBackup:
		return []string{o.Spec.ClusterRef.Name}
	case *v1alpha1.EtcdBackupSchedule:
		return []string{o.Spec.Backup.ClusterRef.Name}
	case *v1alpha1.EtcdRestore:
		return []string{o.Spec.ClusterRef.Name}
	case *v1alpha1.EtcdArchive:
		return []string{o.Spec.ClusterRef.Name}
	default:
		return nil
	}
}

// backups of the cluster as a whole; nil when the operator does not look at them. Those
// of an earlier cluster of the same name say nothing about this one.
func (o *Observer) backups(ctx context.Context, c *v1alpha1.EtcdCluster) (*plan.Backups, error) {
	if o.Backups == nil {
		return nil, nil
	}
	var backups v1alpha1.EtcdBackupList
	var schedules v1alpha1.EtcdBackupScheduleList
	of := []client.ListOption{client.InNamespace(c.Namespace), client.MatchingFields{IndexClusterRef: c.Name}, asCached}
	if err := o.Backups.List(ctx, &backups, of...); err != nil {
		return nil, fmt.Errorf("listing the cluster's backups: %w", err)
	}
	if err := o.Backups.List(ctx, &schedules, of...); err != nil {
		return nil, fmt.Errorf("listing the cluster's schedules: %w", err)
	}
	var archives v1alpha1.EtcdArchiveList
	if err := o.Backups.List(ctx, &archives, of...); err != nil {
		return nil, fmt.Errorf("listing the cluster's archives: %w", err)
	}
	own := slices.DeleteFunc(backups.Items, func(b v1alpha1.EtcdBackup) bool {
		return b.Status.ClusterUID != "" && b.Status.ClusterUID != resources.ClusterUID(c)
	})
	// A cache lists in any order, and what is said of the first must not change at rest.
	slices.SortFunc(own, func(a, b v1alpha1.EtcdBackup) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(schedules.Items, func(a, b v1alpha1.EtcdBackupSchedule) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(archives.Items, func(a, b v1alpha1.EtcdArchive) int { return cmp.Compare(a.Name, b.Name) })
	found := backup.Cover(own, schedules.Items, archives.Items)
	return &found, nil
}
