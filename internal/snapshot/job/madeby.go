package job

import (
	"context"

	"github.com/quorate/quorate/internal/snapshot"
)

// MadeBy is an EtcdBackup.
type MadeBy struct{ Name, UID string }

// madeBy are the IDs of what was stored for an EtcdBackup that nobody saves for any more. What
// has no manifest is told by its name alone, which no other EtcdBackup of the cluster can have
// while this one is there; only an archiver names its bases so, and of ArchiveBase nothing is taken
// that may be one which is just being made. Whether there is a manifest says the store, and no
// listing, which may be stale. What cannot be read may be another one's, and is named in warnings.
func (e *Env) madeBy(ctx context.Context, who MadeBy) (ids, warnings []string, err error) {
	var entries []entry
	err = e.try(ctx, func(ctx context.Context, _ int) (err error) {
		entries, err = e.list(ctx)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	for _, found := range entries {
		if snapshot.NameOf(found.id) != who.Name {
			continue
		}
		m, err := e.manifest(ctx, found.id)
		switch reason := snapshot.ReasonOf(err); {
		case err == nil && m.UID == who.UID:
			ids = append(ids, found.id)
		case reason == snapshot.ReasonBackupMissing && !found.complete && who.Name != ArchiveBase:
			ids = append(ids, found.id)
		case err == nil, reason == snapshot.ReasonBackupMissing:
		case reason == snapshot.ReasonCorrupt, reason == snapshot.ReasonNewerFormat, reason == snapshot.ReasonForeignPrefix:
			warnings = append(warnings, err.Error())
		default:
			return nil, warnings, err
		}
	}
	return ids, warnings, nil
}
