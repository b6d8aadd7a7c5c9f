package job

import (
	"context"
	"time"

	"github.com/quorate/quorate/internal/snapshot"
)

// foundBase is what was found out about the base of a segment.
type foundBase struct {
	// since is the segment's BaseSince if it has a base; zero if it has none, or none yet.
	since time.Time
	// id of the base.
	id string
	// trouble is why none could be taken.
	trouble *snapshot.Trouble
}

// hasBase takes note. That nobody could look says nothing of a base that was there.
func (s *session) hasBase(found foundBase) {
	s.progress.BaseTrouble = found.trouble
	if found.trouble == nil {
		s.satisfied, s.progress.Base = found.since, found.id
	}
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
		id, err := w.base(ctx, segment)
		found := foundBase{since: segment.BaseSince, id: id}
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
func (w *archiver) base(ctx context.Context, segment snapshot.Segment) (id string, err error) {
	env := *w.Env
	env.Tracker = &Tracker{} // what is served is how far the archive is
	catalog, err := env.Catalog(ctx)
	if err != nil {
		return "", err
	}
	if there := segment.BaseOf(catalog.Backups); there != nil {
		return there.ID, nil
	}
	select {
	case w.based <- foundBase{}: // until there is one, it is told to be missing
	case <-ctx.Done():
		return "", ctx.Err()
	}
	m, err := env.Save(ctx, Save{
		Members: w.Members, Name: ArchiveBase, Namespace: w.Namespace, Cluster: w.Cluster,
		Rate: w.Rate, Compression: w.Compression, Recipients: w.Recipients, RecipientNames: w.RecipientNames,
	})
	return m.ID, err
}
