package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"filippo.io/age"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/internal/snapshot/store"
)

// Rebuild is which point of an archive to store as a backup, and where.
type Rebuild struct {
	// ID of the base, or Latest for whichever fits.
	ID         string
	Target     Target
	Identities []age.Identity
	Tools      Tools
	// WorkDir is a directory with room for the plain snapshot four times, on a disk that
	// keeps a tenth free. What is put there is removed.
	WorkDir string
	// Into is the place of the cluster that begins with the backup. It is not one of the
	// archive's cluster, which would take it for a base, and go on from it.
	Into snapshot.Place
	// Name of the backup, UID of whom it is for: a process that runs again for the same UID
	// finds the finished backup by it.
	Name, UID string
	// Namespace and Cluster that it is for.
	Namespace, Cluster string
	Compression        snapshot.Compression
}

// Rebuilt is what was stored.
type Rebuilt struct {
	Manifest snapshot.Manifest
	// Point is nil if the backup was found finished.
	Point *snapshot.Point
}

// Rebuild puts a point of an archive together once, and stores it as a backup that any
// number of members are restored from: two that each put it together themselves could
// begin with different leases, and would part.
func (e *Env) Rebuild(ctx context.Context, r Rebuild) (Rebuilt, error) {
	target := *e
	target.Place = r.Into
	done, err := target.existing(ctx, Save{Name: r.Name, UID: r.UID})
	if err != nil {
		return Rebuilt{}, err
	}
	if done != nil {
		return Rebuilt{Manifest: *done}, nil
	}
	version, err := versionOf(ctx, r.Tools.Etcd, "--version")
	if err != nil {
		return Rebuilt{}, err
	}
	p, err := e.findPoint(ctx, r.ID, r.Target, r.Identities)
	if err != nil {
		return Rebuilt{}, err
	}
	if _, err := e.usable(ctx, p, version); err != nil {
		return Rebuilt{}, err
	}
	dir, err := os.MkdirTemp(r.WorkDir, "rebuild-")
	if err != nil {
		return Rebuilt{}, explainDisk("using "+r.WorkDir, err)
	}
	defer os.RemoveAll(dir)
	p.room = e.roomIn(dir)
	file := filepath.Join(dir, "snapshot.db")
	var facts snapshot.Etcd
	replayed, err := e.rebuild(ctx, p, r.Tools, r.Identities, dir, func(ctx context.Context, served *replay) error {
		var err error
		if facts, err = served.facts(ctx); err != nil {
			return err
		}
		return served.save(ctx, file)
	})
	if err != nil {
		return Rebuilt{}, err
	}
	facts.Version = version
	m, err := target.storePoint(ctx, e, r, replayed, facts, file)
	return Rebuilt{Manifest: m, Point: pointOf(replayed)}, err
}

func pointOf(r Replayed) *snapshot.Point {
	return &snapshot.Point{Revision: r.Revision, Base: r.Base.ID, Replayed: r.Revisions, Changed: r.Changed}
}

// facts are what the etcd that serves the point says of it.
func (r *replay) facts(ctx context.Context) (snapshot.Etcd, error) {
	got, err := hashAt(ctx, r.conn, r.point.revision)
	if err != nil {
		return snapshot.Etcd{}, err
	}
	count, err := pb.NewKVClient(r.conn).Range(ctx, kv(r.point.revision))
	if err != nil {
		return snapshot.Etcd{}, explainEtcd(err)
	}
	return snapshot.Etcd{Revision: r.point.revision, CompactRevision: got.compacted, HashKV: got.hash, KeyCount: count.GetCount()}, nil
}

// storePoint stores the snapshot in file as a backup: encrypted for whom the segments were, or
// else the base. An archive may have been encrypted only after its base was taken, and what
// was written since must not become readable by a restore.
func (e *Env) storePoint(ctx context.Context, source *Env, r Rebuild, replayed Replayed, facts snapshot.Etcd, file string) (m snapshot.Manifest, err error) {
	base, err := source.find(ctx, replayed.Base.ID)
	if err != nil {
		return m, err
	}
	names := replayed.Recipients
	if len(names) == 0 {
		names = base.Recipients
	}
	recipients, err := recipientsOf(base.ID, names)
	if err != nil {
		return m, err
	}
	facts.Member, facts.RaftTerm, facts.RaftIndex = base.Etcd.Member, base.Etcd.RaftTerm, base.Etcd.RaftIndex
	err = e.try(ctx, func(ctx context.Context, attempt int) (err error) {
		began := e.Now().UTC().Truncate(time.Millisecond)
		m = snapshot.Manifest{
			Format: snapshot.Format, ID: snapshot.NewID(facts.Revision, began, r.Name), Name: r.Name, UID: r.UID,
			Cluster: snapshot.Cluster{UID: e.Place.ClusterUID, ID: base.Cluster.ID, Namespace: r.Namespace, Name: r.Cluster},
			Etcd:    facts, Compression: r.Compression, Recipients: names, Began: began,
		}
		defer func() {
			if err != nil {
				e.discard(ctx, m.ID)
			}
		}()
		if err := e.uploadFile(ctx, &m, recipients, file, attempt); err != nil {
			return err
		}
		if err := e.readBack(ctx, m, attempt, 0); err != nil {
			return err
		}
		m.Ended = e.Now().UTC().Truncate(time.Millisecond)
		return e.seal(ctx, &m)
	})
	return m, err
}

// recipientsOf the base that is named, or of what was replayed on it.
func recipientsOf(base string, names []string) ([]age.Recipient, error) {
	var recipients []age.Recipient
	for _, name := range names {
		parsed, err := age.ParseRecipients(strings.NewReader(name))
		if err != nil {
			return nil, snapshot.Fail(snapshot.ReasonBadRecipient, err,
				"backup %s, or the archive after it, is encrypted for %s, which cannot be encrypted for again — what is put together from it would be readable by others — restore from another backup", base, name)
		}
		recipients = append(recipients, parsed...)
	}
	return recipients, nil
}

// uploadFile writes the object of a plain snapshot that lies in a file.
func (e *Env) uploadFile(ctx context.Context, m *snapshot.Manifest, recipients []age.Recipient, file string, attempt int) error {
	plainFile, err := os.Open(file)
	if err != nil {
		return explainDisk("reading "+file, err)
	}
	defer plainFile.Close()
	info, err := plainFile.Stat()
	if err != nil {
		return explainDisk("reading "+file, err)
	}
	e.Tracker.enter(snapshot.PhaseSaving, attempt, info.Size())
	object, err := e.Store.Writer(ctx, e.Place.Key(m.ID, snapshot.SnapshotObject), store.Replace)
	if err != nil {
		return err
	}
	plain, stored := newSealed(), newDigest()
	err = e.copy(ctx, Save{Compression: m.Compression, Recipients: recipients}, plainFile, plain, io.MultiWriter(object, stored, writerFunc(e.Tracker.sent)))
	if err == nil {
		m.Plain, err = plain.finish()
	}
	if err != nil {
		object.Abort()
		return err
	}
	m.Stored = stored.content()
	return object.Commit(ctx)
}

// ArchiveDrill is which archive to verify, and with what.
type ArchiveDrill struct {
	// Members of the live cluster, with which the result is compared.
	Members    Members
	Identities []age.Identity
	Tools      Tools
	// WorkDir as for Rebuild.
	WorkDir string
}

// ArchiveDrilled is what a drill of an archive found.
type ArchiveDrilled struct {
	Base         snapshot.Backup
	Point        snapshot.Point
	Verification snapshot.Verification
	// Unfit are the bases that were found to be none, in the order of their IDs, and
	// Unrecorded is why that could not be written beside them.
	Unfit      []string
	Unrecorded error
}

// DrillArchive puts the end of the archive together, and compares it with what the live
// cluster says of that revision. The cluster is asked first: it may have compacted the
// revision when a long replay has ended.
func (e *Env) DrillArchive(ctx context.Context, d ArchiveDrill) (ArchiveDrilled, error) {
	version, err := versionOf(ctx, d.Tools.Etcd, "--version")
	if err != nil {
		return ArchiveDrilled{}, err
	}
	var clusterID string
	var live snapshot.Etcd
	err = e.try(ctx, func(ctx context.Context, _ int) error {
		clusterID, live, err = e.endInCluster(ctx, d.Members)
		return err
	})
	if err != nil {
		return ArchiveDrilled{}, err
	}
	catalog, err := e.Catalog(ctx)
	if err != nil {
		return ArchiveDrilled{}, err
	}
	out, unfit, err := e.drillEnd(ctx, d, clusterID, live, version, catalog.Backups)
	out.Unfit = slices.Sorted(maps.Keys(unfit))
	for _, id := range out.Unfit {
		out.Unrecorded = errors.Join(out.Unrecorded, e.markUnfit(ctx, id, unfit[id]))
	}
	return out, err
}

// drillEnd tells as well from which backups the end of the archive cannot be restored, and why.
func (e *Env) drillEnd(ctx context.Context, d ArchiveDrill, clusterID string, live snapshot.Etcd, version string, backups []snapshot.Backup) (out ArchiveDrilled, unfit map[string]error, err error) {
	p, err := e.pointOf(ctx, clusterID, backups, Target{Revision: live.Revision}, d.Identities)
	if err != nil {
		return out, ofNone(err, clusterID, live.Revision, backups), err
	}
	p.proven = true
	tried := p.bases
	if _, err := e.usable(ctx, p, version); err != nil {
		return out, ofNone(err, clusterID, live.Revision, tried), err
	}
	dir, err := os.MkdirTemp(d.WorkDir, "drill-")
	if err != nil {
		return out, nil, explainDisk("using "+d.WorkDir, err)
	}
	defer os.RemoveAll(dir)
	p.room = e.roomIn(dir)
	replayed, err := e.rebuild(ctx, p, d.Tools, d.Identities, dir, func(ctx context.Context, r *replay) error {
		e.Tracker.enter(snapshot.PhaseComparing, 1, 0)
		return r.compare(ctx, live)
	})
	if err != nil {
		for id, why := range ofNone(err, clusterID, live.Revision, p.bases) {
			p.refuse(id, why)
		}
	}
	out = ArchiveDrilled{Base: replayed.Base, Point: *pointOf(replayed)}
	out.Verification = snapshot.Verification{
		Format: snapshot.Format, ID: replayed.Base.ID, Time: e.Now().UTC().Truncate(time.Second), EtcdVersion: version,
		SnapshotRevision: live.Revision, KeyCount: live.KeyCount, HashKV: live.HashKV,
	}
	return out, p.unfit, err
}

// ofNone are all the backups up to a revision if the error says that it is restored from none
// of them, so that only another one helps. A backup that goes beyond the end of the archive
// does as soon as that has caught up.
func ofNone(err error, clusterID string, revision int64, backups []snapshot.Backup) map[string]error {
	reason := snapshot.ReasonOf(err)
	if errors.Is(err, errBeyond) || (reason != snapshot.ReasonNotArchived && reason != snapshot.ReasonIncompatibleVersion) {
		return nil
	}
	unfit := map[string]error{}
	for _, b := range backups {
		if b.ClusterID == clusterID && b.Revision <= revision {
			unfit[b.ID] = err
		}
	}
	return unfit
}

// markUnfit has the archiver take another base: it looks for one that is not marked.
func (e *Env) markUnfit(ctx context.Context, id string, why error) error {
	content, err := json.Marshal(map[string]any{
		"format": snapshot.Format, "id": id, "time": e.Now().UTC().Truncate(time.Second), "why": snapshot.TroubleOf(why),
	})
	if err != nil {
		return fmt.Errorf("encoding why %s is no base: %w", id, err)
	}
	e.Log.Warn("No archive can be restored from the backup; the archiver takes another base", "id", id, "error", why.Error())
	return e.Store.Put(ctx, e.Place.Key(id, snapshot.UnfitObject), content, store.Replace)
}

// endInCluster is where the archive of the live cluster ends, and what that says of it.
func (e *Env) endInCluster(ctx context.Context, members Members) (clusterID string, live snapshot.Etcd, err error) {
	member, err := members.choose(ctx)
	if err != nil {
		return "", live, err
	}
	defer member.close()
	clusterID = strconv.FormatUint(member.status.GetHeader().GetClusterId(), 16)
	_, tip, _, err := e.endOf(ctx, clusterID)
	if err != nil {
		return "", live, err
	}
	if tip == nil {
		return "", live, snapshot.Fail(snapshot.ReasonNotArchived, nil, "there is no archive of cluster %s yet — nothing can be tried out — wait for the archiver", clusterID)
	}
	// It is behind the archive only as long as it has not caught up.
	got, err := hashAt(ctx, member.conn, tip.To)
	if err != nil {
		return "", live, err
	}
	count, err := pb.NewKVClient(member.conn).Range(ctx, kv(tip.To))
	if err != nil {
		return "", live, explainEtcd(err)
	}
	return clusterID, snapshot.Etcd{Revision: tip.To, CompactRevision: got.compacted, HashKV: got.hash, KeyCount: count.GetCount()}, nil
}

// compare what was put together with what the live cluster said.
func (r *replay) compare(ctx context.Context, live snapshot.Etcd) error {
	count, err := pb.NewKVClient(r.conn).Range(ctx, kv(live.Revision))
	if err != nil {
		return explainEtcd(err)
	}
	got, err := compactedTo(ctx, r.conn, live)
	if err != nil {
		return err
	}
	differs := func(what string, live, restored any) error {
		return snapshot.Fail(snapshot.ReasonDiffers, errors.New(what),
			"%s is %v at revision %d of what was put together from the archive, and %v in the live cluster — what would be restored is not what was there — take backups, compare etcdctl endpoint hashkv of all members, and archive under another prefix", what, restored, r.point.revision, live)
	}
	switch {
	case count.GetCount() != live.KeyCount:
		return differs("the number of keys", live.KeyCount, count.GetCount())
	case got.compacted != live.CompactRevision:
		return snapshot.Fail(snapshot.ReasonCompacted, nil,
			"what was put together is hashed from revision %d on, and the live cluster was from %d on — the two cannot be compared — compact less often if it stays", got.compacted, live.CompactRevision)
	case got.hash != live.HashKV:
		return differs("the hash", live.HashKV, got.hash)
	}
	return nil
}
