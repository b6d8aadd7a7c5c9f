package resources

import (
	"time"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/snapshot"
)

// Source is what a cluster is being filled from, as a store names it: one backup, or a point
// of an archive and all that this may be put together from. Which store it lies in does not
// count: one bucket has many names, and the UID is in the path.
type Source struct {
	// ClusterUID of the cluster that was backed up.
	ClusterUID string
	// BackupID of the only backup that is meant; empty for any.
	BackupID string
	// ToRevision or ToTime is the point; both are zero for a backup alone.
	ToRevision int64
	ToTime     time.Time
}

// AwaitsSource is what the cluster cannot do without, although no EtcdBackup may be named: the
// backup of a store that its founders begin with, until each of them has started, or the point
// of an archive, until that is put together. a is the EtcdArchive that spec.restoreFrom names,
// nil if there is none. The second answer is false if it needs nothing of the kind.
func AwaitsSource(c *v1alpha1.EtcdCluster, a *v1alpha1.EtcdArchive) (Source, bool) {
	from := RestoreFrom(c)
	if from == nil || from.BackupName != "" || !filling(c) {
		return Source{}, false
	}
	s := Source{ClusterUID: from.ClusterUID, BackupID: from.BackupID, ToRevision: from.ToRevision}
	if from.ArchiveName != "" {
		if a == nil {
			return Source{}, false
		}
		s.ClusterUID = a.Status.ClusterUID
	}
	if WantsPoint(from) && c.Status.RestorePoint != "" {
		return Source{}, false // what it was put together as is a backup of its own
	}
	if from.ToTime != "" {
		// One that cannot be read is refused when the cluster is created.
		s.ToTime, _ = time.Parse(time.RFC3339Nano, from.ToTime)
	}
	return s, s.ClusterUID != ""
}

// Needs says that the backup may be what is needed. A point is put together from the nearest
// backup before it that is fit for that, which is found out by reading the store: one with a
// hole behind it, or a damaged one, gives way to those before.
func (s Source) Needs(b *v1alpha1.EtcdBackup) bool {
	switch id := b.Status.ID; {
	case id == "" || b.Status.ClusterUID != s.ClusterUID:
		return false
	case s.BackupID != "":
		return id == s.BackupID
	case s.ToRevision > 0:
		return snapshot.RevisionOf(id) <= s.ToRevision
	default:
		return !snapshot.BeganOf(id).After(s.ToTime)
	}
}
