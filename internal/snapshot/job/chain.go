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

// maxSegmentObject bounds what is read of a segment, in bytes: one revision may be far
// larger than a segment should be.
const maxSegmentObject = maxRecord

// keptLinks is how many of the last segments an archiver keeps in mind, in case that the
// last ones are damaged.
const keptLinks = 128

// chain is the archive of one cluster ID, as it is listed.
type chain struct {
	env       *Env
	clusterID string
	links     []snapshot.Link
	// passed are links that were taken out, damage says why.
	passed []snapshot.Link
	// damage of segments that were read and are not what was written.
	damage error
	// gap is the last one among links that were listed; nil if there is none.
	gap *snapshot.Gap
}

// chainOf lists an archive.
func (e *Env) chainOf(ctx context.Context, clusterID string) (*chain, error) {
	return e.listChain(ctx, clusterID, func(links []snapshot.Link) []snapshot.Link { return links })
}

// endOf lists the end of an archive, which is all that is kept in memory meanwhile. If none
// of it is sound the whole is listed.
func (e *Env) endOf(ctx context.Context, clusterID string) (c *chain, tip *snapshot.Segment, sum string, err error) {
	listed, kept := 0, keptLinks
	c, err = e.listChain(ctx, clusterID, func(links []snapshot.Link) []snapshot.Link {
		listed++
		if len(links) < 2*kept {
			return links
		}
		links = snapshot.Recent(links, keptLinks)
		kept = max(keptLinks, len(links))
		return links
	})
	if err != nil {
		return nil, nil, "", err
	}
	c.gap = snapshot.LastGap(c.links)
	whole := len(c.links) == listed
	if tip, sum, err = c.tip(ctx); err != nil || tip != nil || whole {
		return c, tip, sum, err
	}
	if c, err = e.chainOf(ctx, clusterID); err != nil {
		return nil, nil, "", err
	}
	tip, sum, err = c.tip(ctx)
	return c, tip, sum, err
}

// listChain lists an archive. After each link it keeps what keep returns.
func (e *Env) listChain(ctx context.Context, clusterID string, keep func([]snapshot.Link) []snapshot.Link) (*chain, error) {
	c := &chain{env: e, clusterID: clusterID}
	err := e.each(ctx, e.Place.ArchiveDirectory(clusterID), func(o store.Object) {
		if id, l, ok := e.Place.ParseSegment(o.Key); ok && id == clusterID {
			c.links = keep(append(c.links, l))
		}
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (c *chain) key(l snapshot.Link) string {
	return c.env.Place.ArchiveDirectory(c.clusterID) + l.Name()
}

// read returns a segment and what its object holds, and the SHA-256 of the object. One
// that is not what was written, however often it is read, is taken out of the chain and
// told as Corrupt.
func (c *chain) read(ctx context.Context, l snapshot.Link) (s snapshot.Segment, content []byte, sum string, err error) {
	err = c.env.try(ctx, func(ctx context.Context, _ int) error {
		s, content, sum, err = c.readOnce(ctx, l)
		return err
	})
	if snapshot.ReasonOf(err) == snapshot.ReasonCorrupt {
		c.damaged(l, err)
	}
	return s, content, sum, err
}

func (c *chain) readOnce(ctx context.Context, l snapshot.Link) (s snapshot.Segment, content []byte, sum string, err error) {
	key := c.key(l)
	object, err := c.env.Store.Get(ctx, key, maxSegmentObject)
	if errors.Is(err, store.ErrNotExist) {
		return s, nil, "", corrupt("%s is listed and not there — what it held cannot be restored from it — look at the store", key)
	}
	if err != nil {
		return s, nil, "", err
	}
	s, content, err = snapshot.DecodeSegment(object)
	switch {
	case errors.Is(err, snapshot.ErrNewer):
		return s, nil, "", snapshot.Fail(snapshot.ReasonNewerFormat, err, "%s: %v — it cannot be judged — use the version of this program that wrote it, or a later one", key, err)
	case err != nil:
		return s, nil, "", corrupt("%s: %v — what it held cannot be restored from it — look at the store", key, err)
	case s.Cluster.UID != c.env.Place.ClusterUID || s.Cluster.ID != c.clusterID || snapshot.LinkOf(s, object) != l:
		return s, nil, "", corrupt("%s is not the segment that its name says — it was moved or changed — look at the store", key)
	}
	return s, content, snapshot.ContentOf(object).SHA256, nil
}

func corrupt(format string, arguments ...any) error {
	return snapshot.Fail(snapshot.ReasonCorrupt, nil, format, arguments...)
}

// damaged takes a link out of the chain.
func (c *chain) damaged(l snapshot.Link, why error) {
	c.links = slices.DeleteFunc(c.links, func(other snapshot.Link) bool { return other == l })
	c.passed, c.damage = append(c.passed, l), errors.Join(c.damage, why)
}

// tip is the last segment that is sound; nil if there is none. One that is damaged is
// passed over, and what it held is archived again, as long as etcd has it.
func (c *chain) tip(ctx context.Context) (*snapshot.Segment, string, error) {
	for {
		l, ok := snapshot.Tip(c.links)
		if !ok {
			return nil, "", nil
		}
		s, _, sum, err := c.read(ctx, l)
		if err == nil {
			return &s, sum, nil
		}
		if snapshot.ReasonOf(err) != snapshot.ReasonCorrupt {
			return nil, "", err
		}
		c.env.Log.Warn("A segment is damaged; what it held is archived again if etcd still has it", "error", err.Error())
	}
}

// Archived is a run of segments without a gap.
type Archived struct {
	// ClusterID is etcd's ID of the cluster.
	ClusterID string
	// From and To are the first and the last revision; Until is when To was the latest.
	From, To int64
	Until    time.Time
}

// Archives lists what is archived, as the names of the objects tell it.
func (e *Env) Archives(ctx context.Context) ([]Archived, error) {
	objects, err := e.Store.List(ctx, e.Place.Archives())
	if err != nil {
		return nil, err
	}
	links := map[string][]snapshot.Link{}
	for _, o := range objects {
		if id, l, ok := e.Place.ParseSegment(o.Key); ok {
			links[id] = append(links[id], l)
		}
	}
	var archives []Archived
	for _, id := range slices.Sorted(maps.Keys(links)) {
		for _, run := range snapshot.Runs(links[id]) {
			archives = append(archives, Archived{ClusterID: id, From: run[0].From, To: run[len(run)-1].To, Until: run[len(run)-1].Ended})
		}
	}
	return archives, nil
}
