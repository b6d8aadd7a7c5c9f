package observe

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/internal/snapshot"
)

// freshFor is for how long a safety backup may have been there when members are stopped: a
// restore that had to wait for longer would strike when nobody expects it, and with too much
// that is in no backup.
const freshFor = time.Hour

// said is the user's word, and what stands in its way.
func (o *Observer) said(ctx context.Context, c *v1alpha1.EtcdCluster, m *memory, kube *kubernetes, seen *plan.Observed) (err error) {
	if seen.Recovery, err = o.word(ctx, c, m); err != nil {
		return err
	}
	if seen.SpentCheck, err = o.check(ctx, c, m, seen.Recovery); err != nil {
		return err
	}
	seen.VolumeLack, err = o.volumeLack(ctx, c, kube, seen.Recovery)
	return err
}

// word is what the user wants the cluster to go on with. spec.recovery comes first once the
// quorum is lost: an EtcdRestore that waits for a cluster which serves would wait for ever.
func (o *Observer) word(ctx context.Context, c *v1alpha1.EtcdCluster, m *memory) (*plan.Recovery, error) {
	said, err := o.recovery(ctx, c, m)
	if err != nil || (said != nil && said.Told) {
		return said, err
	}
	restore, err := o.restore(ctx, c)
	if err != nil || restore != nil {
		return restore, err
	}
	return said, nil
}

// restore is the EtcdRestore that is to be carried out, if there is one.
func (o *Observer) restore(ctx context.Context, c *v1alpha1.EtcdCluster) (*plan.Recovery, error) {
	r, err := o.standing(ctx, c)
	if err != nil || r == nil {
		return nil, err
	}
	_, is, blocked, err := o.blocked(ctx, c, resources.RestoreOnto(r))
	if err != nil {
		return nil, err
	}
	was := c.Status.Restore
	word := &plan.Recovery{
		Backup: r.Spec.BackupName, BackupID: is.BackupID, BackupClusterUID: is.ClusterUID, BackupRevision: snapshot.RevisionOf(is.BackupID), Blocked: blocked,
		Restore: r.Name, RestoreUID: string(r.UID),
		Begun: was != nil && was.UID == string(r.UID) && was.Begun != nil,
	}
	if s := r.Status.SafetyBackup; s != nil {
		word.Safety, word.SafetyRevision = s.Name, s.Revision
	}
	now := o.ServerTime.Or(o.Clock.Now())
	prepared := meta.FindStatusCondition(r.Status.Conditions, v1alpha1.ConditionPrepared)
	switch s := r.Status.SafetyBackup; {
	case s == nil && prepared != nil && now.Sub(prepared.LastTransitionTime.Time) > freshFor:
		word.Late = fmt.Sprintf("EtcdRestore %s was prepared at %s, more than %s ago — it would strike when nobody expects it, without a safety backup — delete it and create another one",
			r.Name, prepared.LastTransitionTime.UTC().Format(time.RFC3339), freshFor)
	case s != nil && s.ReadyTime != nil && now.Sub(s.ReadyTime.Time) > freshFor:
		// Not by when it was begun: a large one may take longer to be made than that, each time.
		word.Late = fmt.Sprintf("the safety backup %s has been there since %s, more than %s — what was written since would be in no backup — delete EtcdRestore %s and create another one",
			s.Name, s.ReadyTime.UTC().Format(time.RFC3339), freshFor, r.Name)
	}
	return word, nil
}

// Source is what an EtcdRestore's backup is restored from. The text says why it cannot be
// restored onto the cluster; empty if it can.
func (o *Observer) Source(ctx context.Context, c *v1alpha1.EtcdCluster, r *v1alpha1.EtcdRestore) (resources.Restore, string, error) {
	_, is, blocked, err := o.blocked(ctx, c, resources.RestoreOnto(r))
	return is, blocked, err
}

// standing is the EtcdRestore whose word counts, as the API server has it now. The one that
// status names is asked for by its name: a cache that has not heard of it would have the old
// members started again in the middle of it. Otherwise it is the oldest.
func (o *Observer) standing(ctx context.Context, c *v1alpha1.EtcdCluster) (*v1alpha1.EtcdRestore, error) {
	if o.Restores == nil || c.Status.ClusterID == "" {
		return nil, nil
	}
	var names []string
	if was := c.Status.Restore; was != nil {
		names = append(names, was.Name)
	}
	var list v1alpha1.EtcdRestoreList
	if err := o.Restores.List(ctx, &list, client.InNamespace(c.Namespace), client.MatchingFields{IndexClusterRef: c.Name}); err != nil {
		return nil, fmt.Errorf("listing the cluster's restores: %w", err)
	}
	slices.SortFunc(list.Items, func(a, b v1alpha1.EtcdRestore) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	for i := range list.Items {
		if resources.RestoreStands(c, &list.Items[i]) {
			names = append(names, list.Items[i].Name)
		}
	}
	for _, name := range names {
		r := &v1alpha1.EtcdRestore{}
		err := o.Live.Get(ctx, client.ObjectKey{Namespace: c.Namespace, Name: name}, r)
		if err == nil && resources.RestoreStands(c, r) {
			return r, nil
		}
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("reading EtcdRestore %s: %w", name, err)
		}
	}
	return nil, nil
}
