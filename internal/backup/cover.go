package backup

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/snapshot"
)

// ItemOf is what a schedule, and a cluster, needs to know of a backup.
func ItemOf(b *v1alpha1.EtcdBackup) Item {
	is := func(kind string) bool { return meta.IsStatusConditionTrue(b.Status.Conditions, kind) }
	item := Item{
		Name: b.Name, UID: string(b.UID), Slot: b.CreationTimestamp.Time, Saved: is(v1alpha1.ConditionComplete),
		Backup: snapshot.Backup{ID: b.Name, ClusterUID: b.Status.ClusterUID, ClusterID: b.Status.ClusterID, Revision: b.Status.Revision},
	}
	if at, err := time.Parse(time.RFC3339, b.Annotations[v1alpha1.AnnotationSlot]); err == nil {
		item.Slot = at
	}
	if b.Status.StartTime != nil {
		item.Backup.Began = b.Status.StartTime.Time
		if b.Status.CompletionTime != nil {
			item.Took = b.Status.CompletionTime.Sub(b.Status.StartTime.Time)
		}
	}
	if b.Status.VerifiedTime != nil && is(v1alpha1.ConditionVerified) {
		item.Backup.Verified = &b.Status.VerifiedTime.Time
	}
	if tried := meta.FindStatusCondition(b.Status.Conditions, v1alpha1.ConditionVerified); tried != nil && tried.Status == metav1.ConditionFalse {
		item.Condemned = snapshot.Reason(tried.Reason).Condemns()
	}
	item.Drilled = LastDrill(b)
	item.DrillAfter, _ = DrillAfter(b)
	if ready := meta.FindStatusCondition(b.Status.Conditions, v1alpha1.ConditionReady); ready != nil {
		item.Message = ready.Message
	}
	if b.Status.Size != nil {
		item.Size = b.Status.Size.Value()
	}
	switch {
	case !b.DeletionTimestamp.IsZero():
		item.State = ItemLeaving
	case is(v1alpha1.ConditionStalled):
		item.State = ItemFailed
	case is(v1alpha1.ConditionReady):
		item.State = ItemGood
	case item.Saved && !item.Drilled.IsZero():
		// It failed, and is tried out again: nothing waits for it, nor takes its place.
		item.State = ItemFailed
	}
	return item
}

// Cover says how well a cluster is backed up, by its backups and by what its schedules
// say of themselves. A schedule knows when a backup is due; here no clock is read, so that
// what is said changes only when a backup or a schedule does.
func Cover(backups []v1alpha1.EtcdBackup, schedules []v1alpha1.EtcdBackupSchedule, archives []v1alpha1.EtcdArchive) plan.Backups {
	var p Plan
	for i := range backups {
		p.Items = append(p.Items, ItemOf(&backups[i]))
	}
	good, verified := p.Newest()
	out := plan.Backups{LastSuccess: backupOf(good), LastVerified: backupOf(verified)}
	out.Archive, out.ArchivedRevision = furthest(archives)
	tell := func(reason, message string) plan.Backups {
		out.Reason, out.Message = reason, message
		return out
	}
	failed, active := p.lastFailure(), p.active()
	late, broken := ofArchives(archives)
	failing := cmp.Or(troubled(schedules, v1alpha1.ReasonFailed, v1alpha1.ReasonApplyFailed, v1alpha1.ReasonInvalidSchedule, v1alpha1.ReasonNotVerified), broken)
	switch overdue := cmp.Or(troubled(schedules, v1alpha1.ReasonOverdue), late); {
	case len(backups)+len(schedules)+len(archives) == 0:
		return tell(v1alpha1.ReasonNoBackups, "no EtcdBackup, no EtcdBackupSchedule and no EtcdArchive of this namespace names the cluster — what its volumes lose is lost for good — create an EtcdBackupSchedule")
	case overdue != "":
		return tell(v1alpha1.ReasonOverdue, overdue)
	case failing != "":
		return tell(v1alpha1.ReasonFailing, failing)
	case failed != nil:
		return tell(v1alpha1.ReasonFailing, fmt.Sprintf("backup %s failed: %s", failed.Name, failed.Message))
	case len(schedules) > 0 && suspended(schedules):
		return tell(v1alpha1.ReasonSuspended, fmt.Sprintf("spec.suspend of every EtcdBackupSchedule of the cluster is true — %s — set it to false", since(good)))
	case good == nil && archived(archives) != nil:
		a := archived(archives)
		out.Ready = true
		if tried := drilledArchive(archives); tried != nil {
			return tell(v1alpha1.ReasonVerified, fmt.Sprintf("archive %s holds what is written, and was restored on trial", tried.Name))
		}
		return tell(v1alpha1.ReasonNotTried, fmt.Sprintf("archive %s holds what is written; it was not restored on trial", a.Name))
	case good == nil && len(backups)+len(schedules) == 0 && allSuspended(archives):
		return tell(v1alpha1.ReasonSuspended, "spec.suspend of every EtcdArchive of the cluster is true — there is no backup of what is written — set it to false")
	case good == nil && (active != nil || len(schedules)+len(archives) > 0):
		return tell(v1alpha1.ReasonPending, "the first backup is not due yet, or under way")
	case good == nil:
		return tell(v1alpha1.ReasonNoBackups, "every EtcdBackup of the cluster is being deleted — what its volumes lose is lost for good — create an EtcdBackupSchedule")
	}
	out.Ready = true
	if a := drilledArchive(archives); verified == nil && a != nil {
		return tell(v1alpha1.ReasonVerified, fmt.Sprintf("the newest backup is %s; none was restored on trial, and archive %s was", named(good), a.Name))
	}
	if verified == nil {
		return tell(v1alpha1.ReasonNotTried, fmt.Sprintf("the newest backup is %s; none was restored on trial, as spec.verify of the EtcdBackups says", named(good)))
	}
	return tell(v1alpha1.ReasonVerified, fmt.Sprintf("the newest backup is %s, the newest verified one %s", named(good), named(verified)))
}

// ofArchives is what the first archive says that is behind, and that is of no use for another
// reason; empty if none is.
func ofArchives(archives []v1alpha1.EtcdArchive) (late, broken string) {
	for i := range archives {
		a := &archives[i]
		ready := meta.FindStatusCondition(a.Status.Conditions, v1alpha1.ConditionReady)
		lag := meta.FindStatusCondition(a.Status.Conditions, v1alpha1.ConditionLagExceeded)
		if lag != nil && lag.Status == metav1.ConditionTrue && late == "" {
			late = fmt.Sprintf("archive %s: %s", a.Name, lag.Message)
		}
		verified := meta.FindStatusCondition(a.Status.Conditions, v1alpha1.ConditionVerified)
		base := meta.FindStatusCondition(a.Status.Conditions, v1alpha1.ConditionBaseReady)
		switch stalled := meta.IsStatusConditionTrue(a.Status.Conditions, v1alpha1.ConditionStalled); {
		case broken != "":
		case stalled && ready != nil:
			broken = fmt.Sprintf("archive %s: %s", a.Name, ready.Message)
		case !a.Spec.Suspend && condemned(verified):
			broken = fmt.Sprintf("archive %s: %s", a.Name, verified.Message)
		case !a.Spec.Suspend && baseless(base):
			broken = fmt.Sprintf("archive %s: %s", a.Name, base.Message)
		}
	}
	return late, broken
}

// baseless says that a base was tried to be taken, and could not be: a segment alone restores
// nothing.
func baseless(base *metav1.Condition) bool {
	return base != nil && base.Status == metav1.ConditionFalse && base.Reason != v1alpha1.ReasonBaseMissing
}

// furthest is the archive that holds the most of what was written, whatever it does now. One of
// another cluster of the name holds nothing of this one.
func furthest(archives []v1alpha1.EtcdArchive) (name string, revision int64) {
	for i := range archives {
		a := &archives[i]
		ready := meta.FindStatusCondition(a.Status.Conditions, v1alpha1.ConditionReady)
		replaced := ready != nil && ready.Reason == v1alpha1.ReasonClusterReplaced
		if a.Status.ArchivedRevision > revision && !replaced {
			name, revision = a.Name, a.Status.ArchivedRevision
		}
	}
	return name, revision
}

// archived is the first archive that holds what is written; nil if none does.
func archived(archives []v1alpha1.EtcdArchive) *v1alpha1.EtcdArchive {
	for i := range archives {
		if a := &archives[i]; !a.Spec.Suspend && meta.IsStatusConditionTrue(a.Status.Conditions, v1alpha1.ConditionReady) {
			return a
		}
	}
	return nil
}

// drilledArchive is the first archive that holds what is written and was restored on trial;
// nil if none was.
func drilledArchive(archives []v1alpha1.EtcdArchive) *v1alpha1.EtcdArchive {
	for i := range archives {
		if a := archived(archives[i : i+1]); a != nil && meta.IsStatusConditionTrue(a.Status.Conditions, v1alpha1.ConditionVerified) {
			return a
		}
	}
	return nil
}

func allSuspended(archives []v1alpha1.EtcdArchive) bool {
	return len(archives) > 0 && !slices.ContainsFunc(archives, func(a v1alpha1.EtcdArchive) bool { return !a.Spec.Suspend })
}

func backupOf(item *Item) plan.Backup {
	if item == nil {
		return plan.Backup{}
	}
	return plan.Backup{Name: item.Name, Began: item.Backup.Began, Revision: item.Backup.Revision, Size: item.Size}
}

func named(item *Item) string {
	return fmt.Sprintf("%s, of %s", item.Name, item.Backup.Began.UTC().Format(time.RFC3339))
}

func since(good *Item) string {
	if good == nil {
		return "there is no backup of what is written"
	}
	return "there is no backup of what is written since " + named(good)
}

// troubled is what the first schedule says that is not Ready for one of the reasons;
// empty if none is.
func troubled(schedules []v1alpha1.EtcdBackupSchedule, reasons ...string) string {
	for i := range schedules {
		ready := meta.FindStatusCondition(schedules[i].Status.Conditions, v1alpha1.ConditionReady)
		for _, reason := range reasons {
			if ready != nil && ready.Status == metav1.ConditionFalse && ready.Reason == reason {
				return fmt.Sprintf("schedule %s: %s", schedules[i].Name, ready.Message)
			}
		}
	}
	return ""
}

func suspended(schedules []v1alpha1.EtcdBackupSchedule) bool {
	for i := range schedules {
		if !schedules[i].Spec.Suspend {
			return false
		}
	}
	return true
}
