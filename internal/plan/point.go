package plan

// Point of an archive that founders are to begin with.
type Point struct {
	// BackupID is the backup that it was put together as; empty until it was.
	BackupID string
	// Due says that nobody puts it together.
	Due bool
	// Waits says how far the work is.
	Waits string
}
