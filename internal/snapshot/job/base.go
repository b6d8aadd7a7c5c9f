package job

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/internal/snapshot/store"
)

// foundBase is what was found out about the base of a segment.
type foundBase struct {
	// since is the segment's BaseSince if it has a base; zero if it has none, or none yet.
	since time.Time
	// id of the base.
	id string
	// trouble is why none could be taken.
	trouble *snapshot.Trouble
	// broken says that segments between the base and the end are gone, and lost which
	// revisions went with them; nil if all are still there.
	broken bool
	lost   *snapshot.Gap
}

// hasBase takes note. That nobody could look says nothing of a base that was there. Why none could
// be taken is told until there is one: another try says no more than that it has begun, and who
// reads it would see an alarm come and go with each.
func (s *session) hasBase(found foundBase) {
	if found.trouble != nil || found.id != "" || found.broken {
		s.progress.BaseTrouble = found.trouble
	}
	if found.trouble == nil {
		s.satisfied, s.progress.Base = found.since, found.id
	}
	if found.broken {
		s.rebase(found.lost)
	}
}

// rebase has a new base taken, as nothing that is archived from here on could be restored from
// one of before, and says what cannot be restored any more.
func (s *session) rebase(lost *snapshot.Gap) {
	s.next.BaseRevision, s.next.BaseSince = s.next.From-1, s.Now().UTC().Truncate(time.Millisecond)
	if lost != nil {
		s.progress.Lost = lost
		s.Log.Warn("Segments are gone from the store", "from", lost.From, "to", lost.To)
	}
	s.tell()
}

// bases takes a base whenever there is none.
func (w *archiver) bases(ctx context.Context) {
	for {
		var segment snapshot.Segment
		select {
		case <-ctx.Done():
			return
		case segment = <-w.want:
		}
		found, err := w.base(ctx, segment)
		if err != nil {
			w.Log.Warn("There is no base to restore the archive from", "reason", snapshot.ReasonOf(err), "error", err.Error())
			found = foundBase{trouble: snapshot.TroubleOf(Explain(err))}
		}
		select {
		case w.based <- found:
		case <-ctx.Done():
		}
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(basePause):
			}
		}
	}
}

// base makes sure of a backup that the segment's end can be restored from.
func (w *archiver) base(ctx context.Context, segment snapshot.Segment) (foundBase, error) {
	env := *w.Env
	env.Tracker = &Tracker{} // what is served is how far the archive is
	catalog, err := env.Catalog(ctx)
	if err != nil {
		return foundBase{}, err
	}
	if there := segment.BaseOf(catalog.Backups); there != nil {
		trail, err := w.trail(ctx, segment, catalog.Backups)
		if err != nil {
			return foundBase{}, err
		}
		if trail == nil || trail.Whole(segment.From-1) {
			return w.renewed(ctx, &env, segment, catalog.Backups, there), nil
		}
		return foundBase{broken: true, lost: trail.Lost(segment.From - 1)}, nil
	}
	select {
	case w.based <- foundBase{}: // until there is one, it is told to be missing
	case <-ctx.Done():
		return foundBase{}, ctx.Err()
	}
	m, err := w.take(ctx, &env)
	return foundBase{since: segment.BaseSince, id: m.ID}, err
}

func (w *archiver) take(ctx context.Context, env *Env) (snapshot.Manifest, error) {
	return env.Save(ctx, Save{
		Members: w.Members, Name: ArchiveBase, Namespace: w.Namespace, Cluster: w.Cluster,
		Rate: w.Rate, Compression: w.Compression, Recipients: w.Recipients, RecipientNames: w.RecipientNames,
	})
}

// renewed makes sure of a base of its own that is younger than BaseEvery, so that what is older
// can go one day. An EtcdBackup is none: it goes when its schedule says so. While another cannot
// be taken the one that is there goes on to serve, and the next look tries again, though not soon:
// each try reads all of etcd.
func (w *archiver) renewed(ctx context.Context, env *Env, segment snapshot.Segment, backups []snapshot.Backup, there *snapshot.Backup) foundBase {
	found := foundBase{since: segment.BaseSince, id: there.ID}
	young := func(b snapshot.Backup) bool {
		return b.ArchiveBase && !b.Unfit && w.Now().Sub(b.Began) < w.BaseEvery
	}
	if w.BaseEvery <= 0 || slices.ContainsFunc(segment.BasesOf(backups), young) || w.Now().Sub(w.outlived) < renewPause {
		return found
	}
	m, err := w.take(ctx, env)
	if err != nil {
		w.outlived = w.Now()
		w.Log.Warn("The base grows old, and no other could be taken", "base", there.ID, "reason", snapshot.ReasonOf(err), "error", err.Error())
		return found
	}
	found.id = m.ID
	return found
}

// trail is what is still there of what was archived since the first base that the segment can
// be restored from; nil if it is not due that anybody looks. A hole is looked for twice:
// between the listing of the backups and that of the segments, retention may have deleted some
// of both.
func (w *archiver) trail(ctx context.Context, next snapshot.Segment, backups []snapshot.Backup) (*snapshot.Trail, error) {
	if next.Previous == "" {
		return nil, nil
	}
	at := w.Now()
	if !w.trailed.IsZero() && at.Sub(w.trailed) < trailCheck {
		if there, err := w.listed(ctx, next); err != nil || there {
			return nil, err
		}
	}
	for again := false; ; again = true {
		bases := next.BasesOf(backups)
		if len(bases) == 0 {
			return nil, nil // it went meanwhile; the next look takes one
		}
		oldest := slices.MinFunc(bases, func(a, b snapshot.Backup) int { return strings.Compare(a.ID, b.ID) })
		trail := snapshot.NewTrail(oldest.Revision, next.Sequence-1, next.PreviousSum())
		err := w.each(ctx, w.Place.ArchiveDirectory(next.Cluster.ID), func(o store.Object) {
			if _, l, ok := w.Place.ParseSegment(o.Key); ok {
				trail.Add(l)
			}
		})
		if err != nil {
			return nil, err
		}
		if trail.Whole(next.From - 1) {
			w.trailed = at
			return trail, nil
		}
		if again {
			return trail, nil
		}
		catalog, err := w.Catalog(ctx)
		if err != nil {
			return nil, err
		}
		backups = catalog.Backups
	}
}

// listed says whether the segment before the next one is there.
func (w *archiver) listed(ctx context.Context, next snapshot.Segment) (there bool, err error) {
	prefix := w.Place.ArchiveDirectory(next.Cluster.ID) + snapshot.SequencePrefix(next.Sequence-1)
	err = w.each(ctx, prefix, func(o store.Object) {
		_, l, ok := w.Place.ParseSegment(o.Key)
		there = there || ok && l.Sum == next.PreviousSum()
	})
	return there, err
}

// isArchiveBase says that an archiver took the backup by itself.
func isArchiveBase(m snapshot.Manifest) bool { return m.UID == "" && m.Name == ArchiveBase }

// lostBefore is what had been archived before an archive begins that has not one segment: an
// archiver takes a base only once there is a segment. It is nil if nothing had been.
func (e *Env) lostBefore(ctx context.Context, clusterID string, latest int64) (*snapshot.Gap, error) {
	entries, err := e.list(ctx)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries { // the lowest revision first
		if !entry.complete || !strings.HasSuffix(entry.id, "-"+ArchiveBase) {
			continue
		}
		m, err := e.find(ctx, entry.id)
		switch {
		case err == nil && isArchiveBase(m) && m.Cluster.ID == clusterID && m.Etcd.Revision < latest:
			return &snapshot.Gap{From: m.Etcd.Revision + 1, To: latest, Reason: snapshot.GapLost}, nil
		case err != nil && snapshot.ReasonOf(err) != snapshot.ReasonCorrupt && snapshot.ReasonOf(err) != snapshot.ReasonNewerFormat && snapshot.ReasonOf(err) != snapshot.ReasonBackupMissing:
			return nil, err
		}
	}
	return nil, nil
}
