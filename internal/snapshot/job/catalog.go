package job

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/internal/snapshot/store"
)

// entry is what a listing shows of one backup.
type entry struct {
	id string
	// complete: the manifest is there.
	complete bool
	// verified: a record of a drill is there.
	verified bool
	// unfit: a drill found that it is no base.
	unfit bool
	// newest is when the last of its objects was written.
	newest  time.Time
	objects []string
}

// each lists as the store does, and gives up on one that stalls while it answers.
func (e *Env) each(ctx context.Context, prefix string, tell func(store.Object)) error {
	return e.watched(ctx, 1, func(ctx context.Context, _ int) error {
		return e.Store.Each(ctx, prefix, func(o store.Object) {
			e.Tracker.read(0)
			tell(o)
		})
	})
}

// get reads one of a backup's small objects. That it was answered is a movement for whoever
// watches: a catalog is as many of them as there are backups.
func (e *Env) get(ctx context.Context, id, object string) ([]byte, error) {
	content, err := e.Store.Get(ctx, e.Place.Key(id, object), snapshot.MaxManifest)
	e.Tracker.read(0)
	return content, err
}

// list returns the backups of the place, the lowest revision first.
func (e *Env) list(ctx context.Context) ([]entry, error) {
	byID := map[string]*entry{}
	// Their IDs begin with the digits of a revision, of 20 places. An archive beside them
	// may have a million objects.
	err := e.each(ctx, e.Place.Directory()+"0", func(o store.Object) {
		id, object, ok := e.Place.Parse(o.Key)
		if !ok {
			return
		}
		found := byID[id]
		if found == nil {
			found = &entry{id: id}
			byID[id] = found
		}
		found.objects = append(found.objects, object)
		found.complete = found.complete || object == snapshot.ManifestObject
		found.verified = found.verified || object == snapshot.VerificationObject
		found.unfit = found.unfit || object == snapshot.UnfitObject
		if o.Modified.After(found.newest) {
			found.newest = o.Modified
		}
	})
	if err != nil {
		return nil, err
	}
	entries := make([]entry, 0, len(byID))
	for _, found := range byID {
		entries = append(entries, *found)
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.id, b.id) })
	return entries, nil
}

// manifest reads and judges one manifest.
func (e *Env) manifest(ctx context.Context, id string) (snapshot.Manifest, error) {
	key := e.Place.Key(id, snapshot.ManifestObject)
	content, err := e.get(ctx, id, snapshot.ManifestObject)
	if errors.Is(err, store.ErrNotExist) {
		return snapshot.Manifest{}, snapshot.Fail(snapshot.ReasonBackupMissing, err,
			"there is no %s in %s — without its manifest there is no backup %s — choose another one", key, e.Store.Name(), id)
	}
	if err != nil {
		return snapshot.Manifest{}, err
	}
	m, err := snapshot.DecodeManifest(content)
	switch {
	case errors.Is(err, snapshot.ErrNewer):
		return m, snapshot.Fail(snapshot.ReasonNewerFormat, err, "%s: %v — it cannot be judged — use the version of this program that wrote it, or a later one", key, err)
	case err != nil:
		return m, snapshot.Fail(snapshot.ReasonCorrupt, err, "%s: %v — the backup cannot be trusted — take a new one, and look at the store", key, err)
	case m.Cluster.UID != e.Place.ClusterUID:
		return m, snapshot.Fail(snapshot.ReasonForeignPrefix, nil,
			"%s is a backup of cluster %s/%s with UID %s, not of %s — two clusters' backups would be mixed — use another prefix",
			key, m.Cluster.Namespace, m.Cluster.Name, m.Cluster.UID, e.Place.ClusterUID)
	case m.ID != id:
		return m, snapshot.Fail(snapshot.ReasonCorrupt, nil, "%s says that it is backup %s — it was moved or mixed up — take a new backup, and look at the store", key, m.ID)
	}
	return m, nil
}

// verification reads the record of a drill. It is nil only if nothing has that name, or what
// has it speaks of another manifest: a record that could not be read is an error, and says
// nothing of whether there was a drill.
func (e *Env) verification(ctx context.Context, m snapshot.Manifest) (*snapshot.Verification, error) {
	content, err := e.get(ctx, m.ID, snapshot.VerificationObject)
	if errors.Is(err, store.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	v, err := snapshot.DecodeVerification(content)
	reason := snapshot.ReasonCorrupt
	if errors.Is(err, snapshot.ErrNewer) {
		reason = snapshot.ReasonNewerFormat
	}
	if err != nil {
		return nil, snapshot.Fail(reason, err, "%s: %v — nobody can tell whether the backup was restored on trial — have it drilled again, which writes the record anew",
			e.Place.Key(m.ID, snapshot.VerificationObject), err)
	}
	if !v.Of(&m) {
		return nil, nil
	}
	return &v, nil
}

// Catalog is what lies in a place.
type Catalog struct {
	// Backups, newest first.
	Backups []snapshot.Backup
	// Unreadable are backups whose manifests are damaged or newer, with why.
	Unreadable map[string]error
	// Unfinished have no manifest in the listing.
	Unfinished []entry
	// Doubtful are backups whose records of a drill are damaged or newer, with why: whether
	// they are verified nobody can tell.
	Doubtful map[string]error

	// manifests of Backups, by their IDs.
	manifests map[string]snapshot.Manifest
}

// UnfinishedIDs names the unfinished ones.
func (c Catalog) UnfinishedIDs() []string {
	ids := make([]string, 0, len(c.Unfinished))
	for _, entry := range c.Unfinished {
		ids = append(ids, entry.id)
	}
	return ids
}

// Catalog reads all manifests. The records of drills it reads where the listing shows one.
func (e *Env) Catalog(ctx context.Context) (Catalog, error) {
	var c Catalog
	err := e.try(ctx, func(ctx context.Context, _ int) (err error) {
		c, err = e.catalogOnce(ctx)
		return err
	})
	return c, err
}

func (e *Env) catalogOnce(ctx context.Context) (Catalog, error) {
	entries, err := e.list(ctx)
	if err != nil {
		return Catalog{}, err
	}
	c := Catalog{Unreadable: map[string]error{}, Doubtful: map[string]error{}, manifests: map[string]snapshot.Manifest{}}
	for _, entry := range entries {
		if !entry.complete {
			c.Unfinished = append(c.Unfinished, entry)
			continue
		}
		m, err := e.manifest(ctx, entry.id)
		switch snapshot.ReasonOf(err) {
		case snapshot.ReasonCorrupt, snapshot.ReasonNewerFormat, snapshot.ReasonForeignPrefix, snapshot.ReasonBackupMissing:
			c.Unreadable[entry.id] = err
			continue
		default:
			if err != nil {
				return Catalog{}, err
			}
		}
		c.manifests[m.ID] = m
		b := m.Backup()
		b.Unfit, b.ArchiveBase = entry.unfit, isArchiveBase(m)
		if entry.verified {
			if b.Verified, err = e.verified(ctx, c, m.ID); err != nil {
				return Catalog{}, err
			}
		}
		c.Backups = append(c.Backups, b)
	}
	c.Backups = snapshot.Newest(c.Backups)
	return c, nil
}

// verified asks for the record of a backup's drill by its name, whatever a listing shows. It
// is nil if there was none, or nobody can tell, which the catalog then says.
func (e *Env) verified(ctx context.Context, c Catalog, id string) (*time.Time, error) {
	v, err := e.verification(ctx, c.manifests[id])
	if reason := snapshot.ReasonOf(err); reason == snapshot.ReasonCorrupt || reason == snapshot.ReasonNewerFormat {
		c.Doubtful[id] = err
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	delete(c.Doubtful, id)
	if v == nil {
		return nil, nil
	}
	return &v.Time, nil
}

// Latest is the name by which the newest backup is asked for.
const Latest = "latest"

// find resolves Latest and checks an ID.
func (e *Env) find(ctx context.Context, id string) (snapshot.Manifest, error) {
	var m snapshot.Manifest
	err := e.try(ctx, func(ctx context.Context, _ int) (err error) {
		m, err = e.findOnce(ctx, id)
		return err
	})
	return m, err
}

func (e *Env) findOnce(ctx context.Context, id string) (snapshot.Manifest, error) {
	if id != Latest {
		if !snapshot.ValidID(id) {
			return snapshot.Manifest{}, snapshot.Fail(snapshot.ReasonUsage, nil, "the backup is %q — it cannot be found — give the ID of one, or %q", id, Latest)
		}
		m, err := e.manifest(ctx, id)
		if snapshot.ReasonOf(err) == snapshot.ReasonBackupMissing {
			err = e.missing(ctx, err)
		}
		return m, err
	}
	c, err := e.catalogOnce(ctx)
	if err != nil {
		return snapshot.Manifest{}, err
	}
	if len(c.Backups) == 0 {
		return snapshot.Manifest{}, snapshot.Fail(snapshot.ReasonBackupMissing, nil,
			"%s holds no readable backup below %s (%s) — there is nothing to restore — check the prefix and the cluster's UID",
			e.Store.Name(), e.Place.Directory(), fmt.Sprintf("%d unreadable, %d unfinished", len(c.Unreadable), len(c.Unfinished)))
	}
	return e.manifest(ctx, c.Backups[0].ID)
}

// entriesTold is how many of the newest backups are named to whoever asked for one that is not
// there.
const entriesTold = 3

// missing adds to the error of a backup that is not there which ones are.
func (e *Env) missing(ctx context.Context, err error) error {
	entries, failed := e.list(ctx)
	if failed != nil {
		return err // that it is missing is known
	}
	var there []string
	for _, entry := range slices.Backward(entries) {
		if entry.complete {
			there = append(there, entry.id)
		}
	}
	what := fmt.Sprintf("there is none below %s: check the prefix and the cluster's UID", e.Place.Directory())
	if len(there) > 0 {
		what = fmt.Sprintf("the newest of %d: %s", len(there), strings.Join(there[:min(len(there), entriesTold)], ", "))
	}
	return snapshot.Fail(snapshot.ReasonBackupMissing, err, "%s; %s", err, what)
}

// Clusters lists the UIDs that have something below the prefix.
func (e *Env) Clusters(ctx context.Context) ([]string, error) {
	prefix := ""
	if e.Place.Prefix != "" {
		prefix = e.Place.Prefix + "/"
	}
	var uids []string
	err := e.each(ctx, prefix, func(o store.Object) {
		uid, _, _ := strings.Cut(strings.TrimPrefix(o.Key, prefix), "/")
		place := snapshot.Place{Prefix: e.Place.Prefix, ClusterUID: uid}
		if _, _, ok := place.Parse(o.Key); ok && !slices.Contains(uids, uid) {
			uids = append(uids, uid)
		}
	})
	return uids, err
}
