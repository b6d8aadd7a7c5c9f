package controllers

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/resources"
)

// uses is what is being restored, or is to be.
type uses struct {
	// names of EtcdBackups of the namespace.
	names map[string]bool
	// sources are what clusters are being filled from, as a store names it.
	sources []use
}

// use of a source by a cluster.
type use struct {
	resources.Source
	cluster client.ObjectKey
}

// of says that the backup must not go yet.
func (u uses) of(b *v1alpha1.EtcdBackup) bool {
	if u.names[b.Name] {
		return true
	}
	for _, s := range u.sources {
		if s.Needs(b) {
			return true
		}
	}
	return false
}

// inUse are the backups that a cluster is being filled from, or that an EtcdRestore of the
// namespace which is not over is to carry one back to. Of the clusters of other namespaces,
// which may begin with what lies in the same store, only the cache is asked: an operator of
// some namespaces may not list those of all.
func inUse(ctx context.Context, cache, reader client.Reader, namespace string) (uses, error) {
	used := uses{names: map[string]bool{}}
	var here, all v1alpha1.EtcdClusterList
	if err := reader.List(ctx, &here, client.InNamespace(namespace)); err != nil {
		return used, fmt.Errorf("listing the clusters that begin with backups: %w", err)
	}
	if err := cache.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil { // they are only read
		return used, fmt.Errorf("listing the clusters that begin with backups: %w", err)
	}
	for i := range here.Items {
		c := &here.Items[i]
		for _, name := range resources.Awaits(c) {
			used.names[name] = true
		}
		if err := used.fills(ctx, reader, c); err != nil {
			return used, err
		}
	}
	for i := range all.Items {
		if c := &all.Items[i]; c.Namespace != namespace {
			if err := used.fills(ctx, cache, c); err != nil {
				return used, err
			}
		}
	}
	var restores v1alpha1.EtcdRestoreList
	if err := reader.List(ctx, &restores, client.InNamespace(namespace)); err != nil {
		return used, fmt.Errorf("listing the restores of backups: %w", err)
	}
	for i := range restores.Items {
		r := &restores.Items[i]
		is := func(kind string) bool { return meta.IsStatusConditionTrue(r.Status.Conditions, kind) }
		if r.DeletionTimestamp.IsZero() && !is(v1alpha1.ConditionReady) && !is(v1alpha1.ConditionStalled) {
			used.names[r.Spec.BackupName] = true
		}
	}
	return used, nil
}

// fills notes what the cluster is being filled from.
func (u *uses) fills(ctx context.Context, reader client.Reader, c *v1alpha1.EtcdCluster) error {
	from := resources.RestoreFrom(c)
	if from == nil {
		return nil
	}
	var a *v1alpha1.EtcdArchive
	if name := from.ArchiveName; name != "" {
		a = &v1alpha1.EtcdArchive{}
		err := reader.Get(ctx, client.ObjectKey{Namespace: c.Namespace, Name: name}, a)
		if apierrors.IsNotFound(err) {
			a = nil
		} else if err != nil {
			return fmt.Errorf("reading EtcdArchive %s: %w", name, err)
		}
	}
	if s, awaited := resources.AwaitsSource(c, a); awaited {
		u.sources = append(u.sources, use{s, client.ObjectKeyFromObject(c)})
	}
	return nil
}
