package resources

import (
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/quorate/quorate/api/v1alpha1"
)

// safetySuffix makes the name of a safety backup from that of its EtcdRestore.
const safetySuffix = "-safety"

// SafetyName is the name of the EtcdBackup that a restore takes first.
func SafetyName(restore string) string { return restore + safetySuffix }

// SafetyBackup is the EtcdBackup that is taken of the cluster before it is carried back to
// the backup of. It has no owner: whoever deletes the restore wants it all the more.
func SafetyBackup(r *v1alpha1.EtcdRestore, of *v1alpha1.EtcdBackup) *v1alpha1.EtcdBackup {
	b := &v1alpha1.EtcdBackup{Spec: *of.Spec.DeepCopy()}
	b.Name, b.Namespace = SafetyName(r.Name), r.Namespace
	b.Labels = map[string]string{
		v1alpha1.LabelRestore: r.Name, v1alpha1.LabelRestoreUID: string(r.UID),
		"app.kubernetes.io/name": "etcd-backup", "app.kubernetes.io/managed-by": "quorate",
	}
	b.Spec.ClusterRef, b.Spec.Verify, b.Spec.DeletionPolicy = r.Spec.ClusterRef, v1alpha1.VerifyReadBack, v1alpha1.BackupRetain
	if r.Spec.SafetyBackup.Verify == v1alpha1.VerifyDrill {
		b.Spec.Verify = v1alpha1.VerifyDrill
	}
	if store := r.Spec.SafetyBackup.Store; store != nil {
		b.Spec.Store = *store.DeepCopy()
	}
	return b
}

// RestoreOnto is the backup that an EtcdRestore names, and that was of this name when its work
// began.
func RestoreOnto(r *v1alpha1.EtcdRestore) *v1alpha1.RestoreSource {
	return &v1alpha1.RestoreSource{BackupName: r.Spec.BackupName, BackupID: r.Status.BackupID, AllowUnverified: r.Spec.AllowUnverified}
}

// RestoreStands says that an EtcdRestore is to be carried out for the cluster as it is: all
// is there that it needs, it was neither taken back nor given up, and it names the present
// incarnation of this very cluster, so that it is spent once the next one has begun.
func RestoreStands(c *v1alpha1.EtcdCluster, r *v1alpha1.EtcdRestore) bool {
	return r.DeletionTimestamp.IsZero() && r.Spec.ClusterRef.Name == c.Name &&
		r.Status.ClusterUID == ClusterUID(c) && r.Status.Incarnation == incarnation(c) &&
		meta.IsStatusConditionTrue(r.Status.Conditions, v1alpha1.ConditionPrepared) &&
		!meta.IsStatusConditionTrue(r.Status.Conditions, v1alpha1.ConditionStalled)
}

const (
	// bump is the least by which revisions are raised.
	bump = 1_000_000_000
	// span is how many revisions each incarnation has for itself: more than a year of
	// 30,000 writes a second.
	span = 1_000_000_000_000
)

// RevisionBump is added to the revision of a backup that an incarnation begins with. Each
// incarnation begins at a revision of its own, above all of the incarnations before it and
// whichever backup it begins with: a watcher of any of them would otherwise be carried back
// without a word when a cluster goes from one backup to an older one.
func RevisionBump(incarnation, revision int64) int64 {
	if incarnation <= 1 {
		return 0
	}
	return max(incarnation*span-revision, bump)
}
