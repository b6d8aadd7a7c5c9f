package job

import (
	"context"
	"time"

	"github.com/quorate/quorate/internal/snapshot"
)

// bases takes a base whenever there is none.
func (w *archiver) bases(ctx context.Context) {
	for {
		var segment snapshot.Segment
		select {
		case <-ctx.Done():
			return
		case segment = <-w.want:
		}
		if err := w.base(ctx, segment); err != nil {
			w.Log.Warn("There is no base to restore the archive from", "reason", snapshot.ReasonOf(err), "error", err.Error())
			select {
			case <-ctx.Done():
			case <-time.After(basePause):
			}
			continue
		}
		select {
		case w.based <- segment:
		case <-ctx.Done():
		}
	}
}

// base makes sure of a backup that the segment's end can be restored from.
func (w *archiver) base(ctx context.Context, segment snapshot.Segment) error {
	env := *w.Env
	env.Tracker = &Tracker{} // what is served is how far the archive is
	catalog, err := env.Catalog(ctx)
	if err != nil || segment.HasBase(catalog.Backups) {
		return err
	}
	select {
	case w.based <- snapshot.Segment{}: // until there is one, it is told to be missing
	case <-ctx.Done():
		return ctx.Err()
	}
	_, err = env.Save(ctx, Save{
		Members: w.Members, Name: ArchiveBase, Namespace: w.Namespace, Cluster: w.Cluster,
		Rate: w.Rate, Compression: w.Compression, Recipients: w.Recipients, RecipientNames: w.RecipientNames,
	})
	return err
}
