package job

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/quorate/quorate/internal/snapshot"
)

// Target is a point of an archive; the zero Target is what a backup holds by itself.
type Target struct {
	// Revision to restore to.
	Revision int64
	// Time to restore to: everything that the archiver had been told by then, and nothing
	// that was written later.
	Time time.Time
}

// None says that nothing but the backup is asked for.
func (t Target) None() bool { return t.Revision == 0 && t.Time.IsZero() }

func (t Target) String() string {
	if t.Revision != 0 {
		return fmt.Sprintf("revision %d", t.Revision)
	}
	return t.Time.UTC().Format(time.RFC3339Nano)
}

// point is a target that was found: a revision, and backups to begin with.
type point struct {
	target   Target
	chain    *chain
	revision int64
	// changed is when the archiver was told of the last change before the time; zero if the
	// time is not asked for, or no change of before is archived.
	changed time.Time
	// auth is the state of users and roles that a time requires. It may have changed after
	// the last write before it, in a segment that no path to that write leads through.
	auth uint64
	// bases, the nearest first. A backup may hold a few revisions more than its manifest
	// says, and then the one before it is needed.
	bases []snapshot.Backup
	// room that it is put together in; nil for a volume that is there to be filled.
	room *room
	// proven has each base compared with its manifest before anything is replayed on it.
	proven bool
	// unfit are the bases that were found to be none, and why.
	unfit map[string]error
}

// find a target: in the archive of the backup that is named, or else in that of the
// cluster ID that is the newest to have it.
func (e *Env) findPoint(ctx context.Context, id string, t Target, identities []age.Identity) (*point, error) {
	catalog, err := e.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	backups := catalog.Backups
	if id != Latest {
		backups = slices.DeleteFunc(slices.Clone(backups), func(b snapshot.Backup) bool { return b.ID != id })
	}
	if len(backups) == 0 {
		_, err := e.find(ctx, id) // says what is wrong
		return nil, err
	}
	var first error
	var before []string
	for _, clusterID := range clusterIDs(backups) {
		p, err := e.pointOf(ctx, clusterID, backups, t, identities)
		if err == nil {
			return p, nil
		}
		if first == nil {
			first = err
		} else {
			before = append(before, clusterID)
		}
		// A revision means another moment after a restore, so only a time is looked for in
		// what was before.
		if t.Revision != 0 || snapshot.ReasonOf(err) != snapshot.ReasonNotArchived {
			break
		}
	}
	return nil, e.alsoOf(ctx, first, before, t)
}

// alsoOf says what the archives of before the cluster was restored hold, too: the newest one is
// looked at first, and may hold nothing yet.
func (e *Env) alsoOf(ctx context.Context, first error, before []string, t Target) error {
	if len(before) == 0 {
		return first
	}
	var held []string
	for _, clusterID := range before {
		c, err := e.chainOf(ctx, clusterID)
		if err != nil {
			return err
		}
		held = append(held, fmt.Sprintf("that of cluster %s %s", clusterID, c.holds(t)))
	}
	return snapshot.Fail(snapshot.ReasonOf(first), first, "%s; and of the archives of before it was restored %s", first, strings.Join(held, ", "))
}

func clusterIDs(backups []snapshot.Backup) []string {
	var ids []string
	for _, b := range backups {
		if !slices.Contains(ids, b.ClusterID) {
			ids = append(ids, b.ClusterID)
		}
	}
	return ids
}

func (e *Env) pointOf(ctx context.Context, clusterID string, backups []snapshot.Backup, t Target, identities []age.Identity) (*point, error) {
	c, err := e.chainOf(ctx, clusterID)
	if err != nil {
		return nil, err
	}
	p := &point{target: t, chain: c, revision: t.Revision}
	if p.revision == 0 {
		found, err := c.revisionAt(ctx, t.Time, identities)
		if err != nil {
			return nil, err
		}
		p.revision, p.auth, p.changed = found.revision, found.auth, found.changed
	}
	var missing error
	for _, b := range backups {
		if b.ClusterID != clusterID || b.Revision > p.revision {
			continue
		}
		// It may have the users and roles of later, which have no revision of the keys.
		if !t.Time.IsZero() && b.Began.After(t.Time) {
			continue
		}
		if _, err := snapshot.Path(c.links, b.Revision, p.revision); err != nil {
			if missing == nil {
				missing = fmt.Errorf("after backup %s %w", b.ID, err)
			}
			continue
		}
		p.bases = append(p.bases, b)
	}
	if len(p.bases) == 0 {
		if missing == nil {
			missing = noneBefore(clusterID, backups)
		}
		return nil, c.notArchived(t, missing)
	}
	p.bases = refusedLast(p.bases)
	return p, nil
}

// noneBefore says that no backup is from before the target, and which one is the first: nothing
// can be put together without one to begin with.
func noneBefore(clusterID string, backups []snapshot.Backup) error {
	var first *snapshot.Backup
	for i, b := range backups {
		if b.ClusterID == clusterID && (first == nil || b.Revision < first.Revision) {
			first = &backups[i]
		}
	}
	if first == nil {
		return errors.New("no backup is from before it")
	}
	return fmt.Errorf("no backup is from before it, and the first one, %s, is of revision %d, begun at %s", first.ID, first.Revision, first.Began.UTC().Format(time.RFC3339))
}

// refusedLast puts what a drill has refused behind the others: it is taken if there is nothing
// else.
func refusedLast(bases []snapshot.Backup) []snapshot.Backup {
	var sound, refused []snapshot.Backup
	for _, b := range bases {
		if b.Unfit {
			refused = append(refused, b)
		} else {
			sound = append(sound, b)
		}
	}
	return append(sound, refused...)
}

func (c *chain) notArchived(t Target, why error) error {
	return snapshot.Fail(snapshot.ReasonNotArchived, why,
		"the archive of cluster %s does not hold %s: %v — what was there then cannot be put together — choose another point: it holds %s", c.clusterID, t, errors.Join(why, c.damage), c.holds(t))
}

// runsTold is how many runs of an archive are named, those nearest to what is asked for: one
// that has many gaps would fill a page.
const runsTold = 3

// holds says which revisions are archived, and from when to when, those nearest to the target.
// What is missing lies between them.
func (c *chain) holds(t Target) string {
	runs := slices.DeleteFunc(snapshot.Runs(c.links), func(run []snapshot.Link) bool { return run[len(run)-1].To < run[0].From })
	if len(runs) == 0 {
		return "nothing yet"
	}
	at := slices.IndexFunc(runs, func(run []snapshot.Link) bool {
		last := run[len(run)-1]
		return t.Revision != 0 && last.To >= t.Revision || t.Revision == 0 && !last.Ended.Before(t.Time)
	})
	if at < 0 {
		at = len(runs) - 1
	}
	first := max(0, min(at-1, len(runs)-runsTold))
	var told []string
	for _, run := range runs[first:min(len(runs), first+runsTold)] {
		last := run[len(run)-1]
		told = append(told, fmt.Sprintf("revisions %d to %d (%s to %s)", run[0].From, last.To, run[0].Ended.UTC().Format(time.RFC3339), last.Ended.UTC().Format(time.RFC3339)))
	}
	text := strings.Join(told, ", ")
	if len(runs) > len(told) {
		text += fmt.Sprintf("; these are %d of %d parts, between which revisions are missing", len(told), len(runs))
	}
	return text
}

// received is what had been received at a time.
type received struct {
	// revision is the last one, and changed when it was received; zero if no change was.
	revision int64
	changed  time.Time
	// auth is the state of users and roles at the end of the segment that the time lies in:
	// no right that was lost by then is in it.
	auth uint64
}

// revisionAt is what had been received at a time.
func (c *chain) revisionAt(ctx context.Context, moment time.Time, identities []age.Identity) (received, error) {
	for {
		holding, err := snapshot.At(c.links, moment)
		if err != nil {
			return received{}, c.notArchived(Target{Time: moment}, err)
		}
		var first error
		for _, l := range holding {
			found, held := c.held(ctx, l, moment, identities)
			if err = held; err == nil {
				return found, nil
			}
			if first == nil {
				first = err
			}
			if snapshot.ReasonOf(err) != snapshot.ReasonNotArchived {
				break
			}
		}
		if snapshot.ReasonOf(err) != snapshot.ReasonCorrupt {
			return received{}, first
		}
		// The damaged one is out of the chain now.
	}
}

// held is revisionAt for one segment that the time lies in.
func (c *chain) held(ctx context.Context, l snapshot.Link, moment time.Time, identities []age.Identity) (received, error) {
	s, _, _, err := c.read(ctx, l)
	if err != nil {
		return received{}, err
	}
	found, err := c.lastBefore(ctx, l, moment, identities)
	found.auth = s.AuthAfter
	return found, err
}

// lastBefore looks from a segment backwards for the last revision that had been received.
func (c *chain) lastBefore(ctx context.Context, l snapshot.Link, moment time.Time, identities []age.Identity) (received, error) {
	for {
		s, content, _, err := c.read(ctx, l)
		if err != nil {
			return received{}, err
		}
		last, err := lastIn(s, content, moment, identities)
		if snapshot.ReasonOf(err) == snapshot.ReasonCorrupt {
			c.damaged(l, err) // its hash is right, so reading it did not take it out
		}
		if err != nil || last.revision >= s.From {
			return last, err
		}
		if s.Gap != nil && s.Began.After(moment) {
			return received{}, c.notArchived(Target{Time: moment}, fmt.Errorf("revisions %d to %d are missing (%s)", s.Gap.From, s.Gap.To, s.Gap.Reason))
		}
		if s.Gap != nil {
			return last, nil
		}
		before, ok := snapshot.Before(c.links, l)
		if !ok {
			return received{}, c.notArchived(Target{Time: moment}, fmt.Errorf("the segment before number %d is not there", l.Sequence))
		}
		l = before
	}
}

// lastIn is the last revision of a segment that had been received; the one before its first
// if none had.
func lastIn(s snapshot.Segment, content []byte, moment time.Time, identities []age.Identity) (received, error) {
	last := received{revision: s.From - 1}
	err := eachRecord(s, content, identities, func(r record) (bool, error) {
		if r.kind != recordRevision {
			return true, nil
		}
		if r.at.After(moment) {
			return false, nil
		}
		revision, _, err := r.revision()
		last.revision, last.changed = revision, r.at
		return true, err
	})
	return last, err
}

// eachRecord goes through a segment's records until yield returns false.
func eachRecord(s snapshot.Segment, content []byte, identities []age.Identity, yield func(record) (bool, error)) error {
	m := snapshot.Manifest{ID: fmt.Sprintf("of segment %d", s.Sequence), Compression: s.Compression, Recipients: s.Recipients}
	if m.Encrypted() && len(identities) == 0 {
		return keyMissing(m, identities, nil)
	}
	plain, release, err := unpack(bytes.NewReader(content), m, identities)
	if err != nil {
		return err
	}
	defer release()
	digest := newDigest()
	records := bufio.NewReaderSize(io.TeeReader(longest(plain, s.Plain), digest), chunk)
	for {
		r, err := readRecord(records)
		if errors.Is(err, io.EOF) && digest.content() == s.Plain {
			return nil
		}
		if err != nil {
			return snapshot.Fail(snapshot.ReasonCorrupt, err, "segment %d: %v — it is what was written and cannot be read — look at the program that wrote it", s.Sequence, err)
		}
		if goOn, err := yield(r); err != nil || !goOn {
			return err
		}
	}
}
