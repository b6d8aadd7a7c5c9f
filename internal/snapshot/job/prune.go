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
	// PointsSince has only bases go that an archiver took by itself, and that no point since
	// this time needs; the policy is not asked then. It is zero if the policy is.
	PointsSince time.Time
	// Drop names backups that go whatever the policy says; if there are any, the policy is
	// not asked, nor is any other backup, and archives are left alone: whoever waits for one
	// backup to go should neither wait for the listing of a million segments, nor until
	// another one can be read.
	Drop []string
	// MadeBy says whose backups go, as Drop does by their IDs; zero for nobody's.
	MadeBy MadeBy
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
	if p.MadeBy != (MadeBy{}) {
		if p.Drop, warnings, err = e.madeBy(ctx, p.MadeBy); err != nil || len(p.Drop) == 0 {
			return pruned, warnings, err
		}
	}
	if len(p.Drop) > 0 {
		named, more, err := e.pruneNamed(ctx, p)
		return named, append(warnings, more...), err
	}
	catalog, err := e.Catalog(ctx)
	if err != nil {
		return pruned, nil, err
	}
	for _, id := range sortedIDs(catalog.Unreadable) {
		warnings = append(warnings, catalog.Unreadable[id].Error())
	}
	drop, err := e.decide(ctx, p, catalog)
	if err != nil {
		return pruned, warnings, err
	}
	for _, id := range sortedIDs(catalog.Doubtful) {
		warnings = append(warnings, catalog.Doubtful[id].Error())
	}
	gone, more, err := e.drop(ctx, p, drop, &pruned)
	warnings = append(warnings, more...)
	if err != nil {
		return pruned, warnings, err
	}
	left := slices.DeleteFunc(slices.Clone(catalog.Backups), func(b snapshot.Backup) bool { return gone[b.ID] })
	pruned.Kept = len(left)
	// A backup that cannot be read may need any of them.
	if len(catalog.Unreadable) == 0 {
		segments, more := e.pruneArchives(ctx, p, catalog, left)
		pruned.Segments, warnings = segments, append(warnings, more...)
	}
	orphans, more := e.orphans(ctx, p, catalog.Unfinished)
	pruned.Orphans = orphans
	return pruned, append(warnings, more...), nil
}

// pruneNamed deletes backups that somebody wants to be gone, and asks no other backup what
// it is: one that cannot be read, or that the store does not let anybody read, is no reason
// to keep these. They go before anything is listed, and what cannot be listed afterwards is
// a warning: what was asked for is done.
func (e *Env) pruneNamed(ctx context.Context, p Prune) (pruned snapshot.Pruned, warnings []string, err error) {
	gone, warnings, err := e.drop(ctx, p, named(p.Drop), &pruned)
	if err != nil {
		return pruned, warnings, err
	}
	var entries []entry
	err = e.try(ctx, func(ctx context.Context, _ int) (err error) {
		entries, err = e.list(ctx)
		return err
	})
	if err != nil {
		return pruned, append(warnings, err.Error()), toldToEnd(ctx)
	}
	var unfinished []entry
	for _, found := range entries {
		switch {
		case gone[found.id]: // a listing may be stale
		case found.complete:
			pruned.Kept++
		default:
			unfinished = append(unfinished, found)
		}
	}
	orphans, more := e.orphans(ctx, p, unfinished)
	pruned.Orphans = orphans
	return pruned, append(warnings, more...), nil
}

// toldToEnd is an error if the process was told to end.
func toldToEnd(ctx context.Context) error {
	if ctx.Err() != nil {
		return Explain(context.Cause(ctx))
	}
	return nil
}

// drop deletes backups, and says which are gone.
func (e *Env) drop(ctx context.Context, p Prune, drop []snapshot.Dropped, pruned *snapshot.Pruned) (gone map[string]bool, warnings []string, err error) {
	gone = map[string]bool{}
	for _, dropped := range drop {
		if !p.Rehearsal {
			if err := e.remove(ctx, dropped.ID); err != nil {
				if err := toldToEnd(ctx); err != nil {
					return gone, warnings, err
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
	return gone, warnings, nil
}

func sortedIDs(unreadable map[string]error) []string {
	ids := make([]string, 0, len(unreadable))
	for id := range unreadable {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// decide says which go. Before one does whose record of a drill no listing shows, that is
// asked for by name: the last verified backup must not go with a listing that is stale. Where
// nobody can tell whether there was a drill, the backup stays.
func (e *Env) decide(ctx context.Context, p Prune, catalog Catalog) ([]snapshot.Dropped, error) {
	backups := slices.Clone(catalog.Backups)
	asked := map[string]bool{}
	for i := range backups {
		if slices.Contains(p.Verified, backups[i].ID) && backups[i].Verified == nil {
			backups[i].Verified = &backups[i].Ended
		}
		asked[backups[i].ID] = backups[i].Verified != nil
	}
	for {
		drop := p.unkept(backups)
		next := slices.IndexFunc(drop, func(d snapshot.Dropped) bool { return !asked[d.ID] })
		if next < 0 {
			return slices.DeleteFunc(drop, func(d snapshot.Dropped) bool { return catalog.Doubtful[d.ID] != nil }), nil
		}
		id := drop[next].ID
		at, err := e.verified(ctx, catalog, id)
		if err != nil {
			return nil, err
		}
		asked[id] = true
		backups[slices.IndexFunc(backups, func(b snapshot.Backup) bool { return b.ID == id })].Verified = at
	}
}

// unkept are the backups that no rule keeps.
func (p Prune) unkept(backups []snapshot.Backup) []snapshot.Dropped {
	if !p.PointsSince.IsZero() {
		return snapshot.Expire(p.PointsSince, backups)
	}
	_, drop := snapshot.Retain(p.Policy, backups)
	return drop
}

// named are backups that somebody wants to be dropped.
func named(ids []string) (drop []snapshot.Dropped) {
	for _, id := range ids {
		if snapshot.ValidID(id) {
			drop = append(drop, snapshot.Dropped{ID: id, Reason: "named to be dropped"})
		}
	}
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
func (e *Env) orphans(ctx context.Context, p Prune, unfinished []entry) (removed int, warnings []string) {
	before := e.Now().Add(-p.OrphansAfter)
	for _, orphan := range unfinished {
		if !orphan.newest.Before(before) {
			continue
		}
		// A listing may be stale; reading one object is not. That nobody could read it says
		// nothing.
		err := e.watched(ctx, 1, func(ctx context.Context, _ int) error {
			_, err := e.get(ctx, orphan.id, snapshot.ManifestObject)
			return err
		})
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

// pruneArchives removes the segments that none of the backups that are left needs: so many at
// once as memory has room for, and again until nothing more goes.
func (e *Env) pruneArchives(ctx context.Context, p Prune, catalog Catalog, left []snapshot.Backup) (removed int, warnings []string) {
	if err := e.missed(ctx, catalog); err != nil {
		return 0, []string{err.Error()}
	}
	for {
		gone, more, trouble := e.sweep(ctx, p, left)
		removed, warnings = removed+gone, append(warnings, trouble...)
		if !more || gone == 0 || p.Rehearsal || len(trouble) > 0 {
			return removed, warnings
		}
	}
}

// sweep removes segments once. It says whether there may be more.
func (e *Env) sweep(ctx context.Context, p Prune, left []snapshot.Backup) (removed int, more bool, warnings []string) {
	sweeps := map[string]*snapshot.Sweep{}
	err := e.each(ctx, e.Place.Archives(), func(o store.Object) {
		id, l, ok := e.Place.ParseSegment(o.Key)
		if !ok {
			return
		}
		if sweeps[id] == nil {
			sweeps[id] = snapshot.NewSweep(oldest(left, id))
		}
		sweeps[id].Add(l)
	})
	if err != nil {
		return 0, false, []string{err.Error()}
	}
	for _, id := range slices.Sorted(maps.Keys(sweeps)) {
		links, err := e.obsolete(ctx, id, sweeps[id], oldest(left, id), p.OrphansAfter)
		if err != nil {
			return removed, false, append(warnings, err.Error())
		}
		more = more || sweeps[id].More()
		for _, l := range links {
			if !p.Rehearsal {
				if err := e.Store.Delete(ctx, e.Place.ArchiveDirectory(id)+l.Name()); err != nil {
					warnings = append(warnings, err.Error())
					continue
				}
			}
			removed++
		}
	}
	return removed, more, warnings
}

// missed says that a backup may need any segment, although it is not among those that were
// read: a listing may be stale, and reading one object is not.
func (e *Env) missed(ctx context.Context, catalog Catalog) error {
	for _, unfinished := range catalog.Unfinished {
		_, err := e.get(ctx, unfinished.id, snapshot.ManifestObject)
		if errors.Is(err, store.ErrNotExist) {
			continue
		}
		return snapshot.Fail(snapshot.ReasonStoreUnreachable, err,
			"the manifest of backup %s is in no listing, and it is there or cannot be read — the backup may need any segment of an archive, so all of them stay — prune again later", unfinished.id)
	}
	return nil
}

// oldest revision that is needed of a cluster ID; zero if none is.
func oldest(backups []snapshot.Backup, clusterID string) (revision int64) {
	for _, b := range backups {
		if b.ClusterID == clusterID && (revision == 0 || b.Revision < revision) {
			revision = b.Revision
		}
	}
	return revision
}

// obsolete segments of one cluster ID: those of before its oldest backup. Without any
// backup an archive is of no use, unless its first base is only being taken.
func (e *Env) obsolete(ctx context.Context, clusterID string, sweep *snapshot.Sweep, oldest int64, orphansAfter time.Duration) (links []snapshot.Link, err error) {
	before := e.Now().Add(-orphansAfter)
	if tip, _ := sweep.Tip(); oldest > 0 || !tip.Ended.Before(before) {
		return sweep.Obsolete(), nil
	}
	err = e.each(ctx, e.Place.ArchiveDirectory(clusterID), func(o store.Object) {
		if id, l, ok := e.Place.ParseSegment(o.Key); ok && id == clusterID && l.Ended.Before(before) {
			links = append(links, l)
		}
	})
	return links, err
}
