package plan

// Point is what founders are to begin with: a point of an archive, or an EtcdBackup.
type Point struct {
	// BackupID is the backup that it was put together as, or that the EtcdBackup is; empty
	// until it was.
	BackupID string
	// Due says that nobody puts it together.
	Due bool
	// Waits says how far the work is.
	Waits string
}
