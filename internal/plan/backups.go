package plan

import "time"

// Backups are a cluster's backups as a whole, for status.
type Backups struct {
	// Ready says that there is a good one, and that none is overdue or failing.
	Ready bool
	// Reason is a condition reason, and Message the sentence with it.
	Reason, Message string
	// LastSuccess is the newest backup that is as it was asked for, and LastVerified the
	// newest one that was restored and compared.
	LastSuccess, LastVerified Backup
	// Archive holds the most of the cluster's archives, everything up to ArchivedRevision; empty
	// if there is none.
	Archive          string
	ArchivedRevision int64
}

// Backup is one of them; without a name it is none.
type Backup struct {
	Name string
	// Began is when it was begun: nothing that was acknowledged before is missing from it.
	Began time.Time
	// Revision that it holds.
	Revision int64
	// Size in the store, in bytes.
	Size int64
}
