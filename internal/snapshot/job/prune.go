package job

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/internal/snapshot/store"
)

// Prune is what to delete.
type Prune struct {
	Policy snapshot.Policy
	// Drop names backups that go whatever the policy says; if there are any, the
	// policy is not asked.
	Drop []string
	// Verified names backups that are known to be verified.
	Verified []string
	// OrphansAfter is the age of what is removed as unfinished.
	OrphansAfter time.Duration
	// Rehearsal deletes nothing.
	Rehearsal bool
}

// Prune deletes what retention does not keep, and what processes that were killed
// have left. What the store refuses to delete it names in warnings, and goes on: an
// object may be locked for a time.
func (e *Env) Prune(ctx context.Context, p Prune) (pruned snapshot.Pruned, warnings []string, err error) {
	e.Tracker.enter(snapshot.PhaseDeleting, 1, 0)
	catalog, err := e.Catalog(ctx)
	if err != nil {
		return pruned, nil, err
	}
	for _, id := range sortedIDs(catalog.Unreadable) {
		warnings = append(warnings, catalog.Unreadable[id].Error())
	}
	drop := e.decide(p, catalog)
	gone := map[string]bool{}
	for _, dropped := range drop {
		if !p.Rehearsal {
			if err := e.remove(ctx, dropped.ID); err != nil {
				if ctx.Err() != nil {
					return pruned, warnings, Explain(context.Cause(ctx))
				}
				pruned.Refused++
				warnings = append(warnings, err.Error())
				e.Log.Warn("Backup stays", "id", dropped.ID, "error", err.Error())
				continue
			}
		}
		pruned.Dropped = append(pruned.Dropped, dropped)
		pruned.DroppedCount++
		gone[dropped.ID] = true
		e.Log.Info("Backup dropped", "id", dropped.ID, "reason", dropped.Reason, "rehearsal", p.Rehearsal)
	}
	var left []snapshot.Backup
	for _, b := range catalog.Backups {
		if !gone[b.ID] {
			left = append(left, b)
		}
	}
	pruned.Kept = len(left)
	// A backup that cannot be read may need any of them.
	if len(catalog.Unreadable) == 0 {
		segments, more := e.pruneArchives(ctx, p, left)
		pruned.Segments, warnings = segments, append(warnings, more...)
	}
	orphans, more := e.orphans(ctx, p, catalog)
	pruned.Orphans = orphans
	return pruned, append(warnings, more...), nil
}

func sortedIDs(unreadable map[string]error) []string {
	ids := make([]string, 0, len(unreadable))
	for id := range unreadable {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// decide says which go.
func (e *Env) decide(p Prune, catalog Catalog) []snapshot.Dropped {
	if len(p.Drop) > 0 {
		var drop []snapshot.Dropped
		for _, id := range p.Drop {
			if snapshot.ValidID(id) {
				drop = append(drop, snapshot.Dropped{ID: id, Reason: "named to be dropped"})
			}
		}
		return drop
	}
	backups := slices.Clone(catalog.Backups)
	for i := range backups {
		if slices.Contains(p.Verified, backups[i].ID) && backups[i].Verified == nil {
			backups[i].Verified = &backups[i].Ended
		}
	}
	_, drop := snapshot.Retain(p.Policy, backups)
	return drop
}

// remove deletes a backup, its manifest first: what is half deleted is no backup any
// more, and its rest an orphan.
func (e *Env) remove(ctx context.Context, id string) error {
	for _, object := range []string{snapshot.ManifestObject, snapshot.VerificationObject, snapshot.UnfitObject, snapshot.SnapshotObject} {
		if err := e.Store.Delete(ctx, e.Place.Key(id, object)); err != nil {
			return err
		}
	}
	return nil
}

// orphans removes what has no manifest, and uploads that were never ended, when they
// are old enough that nobody works on them.
func (e *Env) orphans(ctx context.Context, p Prune, catalog Catalog) (removed int, warnings []string) {
	before := e.Now().Add(-p.OrphansAfter)
	for _, orphan := range catalog.Unfinished {
		if !orphan.newest.Before(before) {
			continue
		}
		// A listing may be stale; reading one object is not.
		_, err := e.Store.Get(ctx, e.Place.Key(orphan.id, snapshot.ManifestObject), snapshot.MaxManifest)
		if !errors.Is(err, store.ErrNotExist) {
			continue
		}
		if !p.Rehearsal {
			if err := e.remove(ctx, orphan.id); err != nil {
				warnings = append(warnings, err.Error())
				continue
			}
		}
		removed++
		e.Log.Info("Unfinished backup removed", "id", orphan.id, "rehearsal", p.Rehearsal)
	}
	if p.Rehearsal {
		return removed, warnings
	}
	uploads, err := e.Store.AbortUploads(ctx, e.Place.Directory(), before)
	if err != nil {
		warnings = append(warnings, err.Error())
	}
	return removed + uploads, warnings
}

// pruneArchives removes the segments that no backup needs.
func (e *Env) pruneArchives(ctx context.Context, p Prune, backups []snapshot.Backup) (removed int, warnings []string) {
	objects, err := e.Store.List(ctx, e.Place.Archives())
	if err != nil {
		return 0, []string{err.Error()}
	}
	archives := map[string][]snapshot.Link{}
	for _, o := range objects {
		if id, l, ok := e.Place.ParseSegment(o.Key); ok {
			archives[id] = append(archives[id], l)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(archives)) {
		for _, l := range e.obsolete(archives[id], id, backups, p.OrphansAfter) {
			if !p.Rehearsal {
				if err := e.Store.Delete(ctx, e.Place.ArchiveDirectory(id)+l.Name()); err != nil {
					warnings = append(warnings, err.Error())
					continue
				}
			}
			removed++
		}
	}
	return removed, warnings
}

// obsolete segments of one cluster ID: those of before its oldest backup. Without any
// backup an archive is of no use, unless its first base is only being taken.
func (e *Env) obsolete(links []snapshot.Link, clusterID string, backups []snapshot.Backup, orphansAfter time.Duration) []snapshot.Link {
	var oldest int64
	for _, b := range backups {
		if b.ClusterID == clusterID && (oldest == 0 || b.Revision < oldest) {
			oldest = b.Revision
		}
	}
	if oldest > 0 {
		return snapshot.Obsolete(links, oldest)
	}
	if tip, _ := snapshot.Tip(links); tip.Ended.Before(e.Now().Add(-orphansAfter)) {
		return links
	}
	return nil
}
