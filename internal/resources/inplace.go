package resources

import (
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/snapshot"
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
	if rate := r.Spec.SafetyBackup.RateLimit; !rate.IsZero() {
		b.Spec.RateLimit = rate.DeepCopy()
	}
	if timeout := r.Spec.SafetyBackup.Timeout; timeout.Duration > 0 {
		b.Spec.Timeout = timeout
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
	// bump is by how much revisions are raised that are above the floor already.
	bump = 1_000_000_000
	// pace is how many revisions each second of the clock has for itself. etcd does not make
	// as many, so whatever begins with its own second's begins above all that was served
	// before. A floor of today has 16 digits: JSON's numbers and int64 have room for more.
	pace = 1_000_000
	// span is how many revisions an incarnation has for itself where the clock does not tell:
	// it went back, or the release that began the incarnation put no floor on record.
	span = 1_000_000_000_000
)

// FloorAt is the least revision that a cluster begins with which was made of a backup at this
// time. Another cluster of its name, whose clients it inherits, was made before.
func FloorAt(t time.Time) int64 { return max(0, t.Unix()) * pace }

// NextFloor is the least revision that the incarnation after the present one begins with, at
// this time: above all that was served before, whichever backup it begins with. A watcher
// would otherwise be carried back without a word.
func NextFloor(c *v1alpha1.EtcdCluster, now time.Time) int64 {
	floor, began := FloorAt(now), beganWith(c)
	if began >= floor {
		return began + span
	}
	return floor
}

// beganWith is the revision that the present incarnation began with, as far as it is known.
func beganWith(c *v1alpha1.EtcdCluster) int64 {
	floor := RevisionFloor(c, nil)
	if r := c.Status.Recovery; r != nil && r.Incarnation == incarnation(c) && r.Survivor != nil {
		return r.Survivor.Revision + RevisionBump(floor, r.Survivor.Revision)
	}
	from := RestoreFrom(c)
	if from == nil {
		return floor
	}
	revision := snapshot.RevisionOf(from.BackupID)
	return revision + RevisionBump(floor, revision)
}

// RevisionFloor is the least revision that the founders of the present incarnation begin with:
// as status says or, where that is lost, as the founder's claim does, whose annotations are the
// record. Both were written before the first of them was made. An incarnation that an earlier
// release has begun has neither, and keeps the range that its first founders were given.
func RevisionFloor(c *v1alpha1.EtcdCluster, record map[string]string) int64 {
	if c.Status.RevisionFloor > 0 {
		return c.Status.RevisionFloor
	}
	if floor, err := strconv.ParseInt(record[v1alpha1.AnnotationRevisionFloor], 10, 64); err == nil && floor > 0 {
		return floor
	}
	if incarnation(c) > 1 {
		return incarnation(c) * span
	}
	return 0
}

// RevisionBump is added to the revision of what founders begin with, so that it becomes the
// floor. One that is above that, of a cluster whose clock is ahead, is raised all the same.
func RevisionBump(floor, revision int64) int64 {
	if revision < floor {
		// No more than that: revisions that ran ahead of the clock could be used again.
		return floor - revision
	}
	return bump
}
