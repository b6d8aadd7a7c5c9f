package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"

	"github.com/quorate/quorate/internal/member"
	"github.com/quorate/quorate/internal/snapshot"
)

const (
	// restoringDir, below the volume, is where a restore works. It stays until the
	// data is in place: with a marker and without data it tells an interrupted
	// restore from a lost volume.
	restoringDir = "restoring"
	// RestoredFile, beside the data, says what was restored.
	RestoredFile = "restored.json"
	// lockWait is how long a process that is just ending may hold the volume.
	lockWait = 30 * time.Second
)

// Foreign says whether a backup of another cluster may be restored.
type Foreign int

// What to do with backups of other clusters.
const (
	RefuseForeign Foreign = iota
	AllowForeign
)

// Restore is which backup to restore, and where to.
type Restore struct {
	// ID of the backup, or Latest.
	ID string
	// Target is the point of the archive to restore; zero for the backup alone.
	Target     Target
	Identities []age.Identity
	Tools      Tools
	// Version of the etcd that will serve the data, without a leading v.
	Version string
	Foreign Foreign
	// Volume is the mount point of the member's volume, DataDir etcd's directory
	// directly below.
	Volume, DataDir string
	// Identity of the member, its cluster the one to restore into.
	Identity member.Identity
	As       As
	// Permit is asked before an empty volume is filled; nil permits it. A member that
	// has started before and finds its volume empty has lost it: filled from a backup it
	// would forget what it once promised.
	Permit func() error
}

// Restored is what RestoredFile holds.
type Restored struct {
	Backup snapshot.Backup `json:"backup"`
	Bump   uint64          `json:"bump"`
	// Target and Revision are the point of the archive that was asked for and found; empty
	// and zero for the backup alone.
	Target   string `json:"target,omitempty"`
	Revision int64  `json:"revision,omitempty"`
	// Survivor is whose volume it was, if it was no backup.
	Survivor *snapshot.Survivor `json:"survivor,omitempty"`
	// Changed is when the archiver was told of the last change before Target, if that is a
	// time; zero if it is not known.
	Changed time.Time `json:"changed,omitzero"`
	Time    time.Time `json:"time"`
}

// Restore fills a member's empty volume. At every moment the volume is either
// refused by the guard or holds the whole of the restored data: it is made in a
// directory of its own, made durable, claimed by the member's marker, and only then
// renamed into place. A volume that it filled before is left alone.
func (e *Env) Restore(ctx context.Context, r Restore) (Restored, error) {
	if done, err := r.Finished(); err != nil || done != nil {
		return deref(done), err
	}
	m, p, err := e.choose(ctx, r)
	if err != nil {
		return Restored{}, err
	}
	failed := Restored{Backup: m.Backup()}
	if err := r.allowed(ctx, m); err != nil {
		return failed, err
	}
	return r.alone(ctx, failed, func(lock *os.File) (Restored, error) { return e.fill(ctx, r, m, p, lock) })
}

// alone has the volume filled while nobody else can change it, and while that is still
// permitted. One that is filled already is left alone; failed is the answer if fill is not
// come to.
func (r Restore) alone(ctx context.Context, failed Restored, fill func(lock *os.File) (Restored, error)) (Restored, error) {
	lock, err := member.LockVolume(ctx, r.Volume, lockWait)
	if err != nil {
		return failed, snapshot.Fail(snapshot.ReasonVolumeInUse, err, "%s: %v — two processes would write it — stop the other one", r.Volume, err)
	}
	defer lock.Close()
	if done, err := r.Finished(); err != nil || done != nil {
		return deref(done), err
	}
	if r.Permit != nil {
		if err := r.Permit(); err != nil {
			return failed, err
		}
	}
	return fill(lock)
}

func deref(done *Restored) Restored {
	if done == nil {
		return Restored{}
	}
	return *done
}

// Holds says what was restored: the point of an archive, if one was, and the base it was
// put together from, which is not what the volume holds.
func (r Restored) Holds() string {
	if s := r.Survivor; s != nil {
		return fmt.Sprintf("what member %s had: %d keys at revision %d, to index %d of its log, whose last %d entries it had not been told to be committed", s.Member, s.KeyCount, s.Revision, s.Index, s.Uncommitted)
	}
	if r.Target == "" {
		return fmt.Sprintf("backup %s: %d keys at revision %d", r.Backup.ID, r.Backup.KeyCount, r.Backup.Revision)
	}
	return fmt.Sprintf("the archive's %s, which ends with revision %d, replayed on backup %s of revision %d%s", r.Target, r.Revision, r.Backup.ID, r.Backup.Revision, snapshot.Point{Changed: r.Changed}.LastChange())
}

// choose finds the backup to begin with, and the point of the archive if one is asked for.
func (e *Env) choose(ctx context.Context, r Restore) (snapshot.Manifest, *point, error) {
	if r.Target.None() {
		m, err := e.find(ctx, r.ID)
		return m, nil, err
	}
	p, err := e.findPoint(ctx, r.ID, r.Target, r.Identities)
	if err != nil {
		return snapshot.Manifest{}, nil, err
	}
	m, err := e.usable(ctx, p, r.Version)
	return m, p, err
}

// usable leaves the bases that etcd of this version can take, and returns the first. Which
// of them is needed is known only when the one before has been served.
func (e *Env) usable(ctx context.Context, p *point, version string) (first snapshot.Manifest, err error) {
	var why error
	var bases []snapshot.Backup
	for _, b := range p.bases {
		m, err := e.find(ctx, b.ID)
		if err == nil {
			err = compatible(m, version)
		}
		switch reason := snapshot.ReasonOf(err); {
		case err == nil:
			if len(bases) == 0 {
				first = m
			}
			bases = append(bases, b)
		case reason == snapshot.ReasonIncompatibleVersion || reason == snapshot.ReasonCorrupt || reason == snapshot.ReasonBackupMissing:
			if why == nil {
				why = err
			}
		default:
			return first, err
		}
	}
	if p.bases = bases; len(bases) == 0 {
		return first, why
	}
	return first, nil
}

// allowed decides before the volume is touched.
func (r Restore) allowed(ctx context.Context, m snapshot.Manifest) error {
	if m.Cluster.UID != r.Identity.ClusterUID && r.Foreign != AllowForeign {
		return snapshot.Fail(snapshot.ReasonForeignPrefix, nil,
			"backup %s is of cluster %s/%s with UID %s, and cluster %s is to be restored — one cluster's data would be served as another's — say --foreign if that is meant",
			m.ID, m.Cluster.Namespace, m.Cluster.Name, m.Cluster.UID, r.Identity.ClusterUID)
	}
	if err := compatible(m, r.Version); err != nil {
		return err
	}
	version, err := versionOf(ctx, r.Tools.Etcdutl, "version")
	if err != nil {
		return err
	}
	if majorMinor(version) != majorMinor(r.Version) {
		return snapshot.Fail(snapshot.ReasonIncompatibleVersion, nil,
			"etcdutl is of version %s, and etcd %s is to serve the data — it knows another data format — use the image of etcd %s", version, r.Version, r.Version)
	}
	return nil
}

// Finished looks at the volume, and asks no store, so that a member restarts on what it
// was restored to however the store is. It returns what was restored if this restore is done
// already, nothing if it may begin, and an error if the volume holds anything else.
func (r Restore) Finished() (*Restored, error) {
	found, err := member.Examine(r.Volume, r.DataDir, r.Identity)
	if err != nil {
		return nil, snapshot.Fail(snapshot.ReasonVolumeUnusable, err, "%s: %v — nothing can be restored there — check the volume", r.Volume, err)
	}
	began := isDir(filepath.Join(r.Volume, restoringDir))
	switch {
	case found.Data == member.DataAbsent && (found.Marker == member.MarkerAbsent || found.Marker == member.MarkerClaimed || (found.Marker == member.MarkerBooted && began)):
		return nil, nil
	case found.Data == member.DataComplete && found.Marker == member.MarkerBooted:
		if done := r.record(); done != nil {
			return done, nil
		}
	}
	return nil, snapshot.Fail(snapshot.ReasonVolumeInUse, nil,
		"volume %s of member %s is not empty: %s — a restore would destroy what is there — restore onto a new volume", r.Identity.VolumeUID, r.Identity.Member, found.Seen)
}

func isDir(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.IsDir()
}

// record reads RestoredFile; nil if it speaks of another restore.
func (r Restore) record() *Restored {
	content, err := os.ReadFile(filepath.Join(r.Volume, RestoredFile))
	if err != nil {
		return nil
	}
	var done Restored
	if json.Unmarshal(content, &done) != nil || (r.ID != Latest && done.Backup.ID != r.ID) {
		return nil
	}
	if want := r.Target; (want.None() && done.Target != "") || (!want.None() && done.Target != want.String()) {
		return nil
	}
	return &done
}

// fill works on a volume that holds nothing but perhaps what an interrupted restore
// left.
func (e *Env) fill(ctx context.Context, r Restore, m snapshot.Manifest, p *point, lock *os.File) (Restored, error) {
	record := Restored{Backup: m.Backup(), Bump: r.As.Bump}
	working := filepath.Join(r.Volume, restoringDir)
	if err := emptied(working); err != nil {
		return record, explainDisk("preparing "+working, err)
	}
	file, data := filepath.Join(working, "snapshot.db"), filepath.Join(working, "data")
	if p == nil {
		if err := e.fetch(ctx, m, r.Identities, file); err != nil {
			return record, err
		}
	} else {
		done, err := e.rebuild(ctx, p, r.Tools, r.Identities, working, into(file))
		if err != nil {
			return record, err
		}
		record.Backup, record.Target, record.Revision, record.Changed = done.Base, r.Target.String(), done.Revision, done.Changed
		e.Log.Info("Put together from the archive", "base", done.Base.ID, "revision", done.Revision, "replayed", done.Revisions, "unknownLeases", done.UnknownLeases)
	}
	e.Tracker.enter(snapshot.PhaseRestoring, 1, 0)
	if err := r.Tools.restore(ctx, file, data, r.As, lock); err != nil {
		return record, err
	}
	if err := os.Remove(file); err != nil {
		return record, explainDisk("removing "+file, err)
	}
	record.Time = e.Now().UTC().Truncate(time.Second)
	if err := r.writeRecord(record); err != nil {
		return record, explainDisk("writing "+RestoredFile, err)
	}
	return record, r.install(data, working)
}

// install claims the volume as one on which the member has booted, so that the guard
// refuses it without its data, and moves the data into place.
func (r Restore) install(data, working string) error {
	if err := member.WriteMarker(r.Volume, member.Marker{Identity: r.Identity, Booted: true}); err != nil {
		return explainDisk("claiming the volume", err)
	}
	// An empty data directory may stand there; only an empty one is replaced.
	if err := os.Rename(data, r.DataDir); err != nil {
		return explainDisk("moving the data into place", err)
	}
	if err := syncDir(r.Volume); err != nil {
		return explainDisk("syncing the volume", err)
	}
	if err := os.RemoveAll(working); err != nil {
		return explainDisk("removing "+working, err)
	}
	return nil
}

// emptied makes sure of an empty directory without ever removing it: see restoringDir.
func emptied(path string) error {
	if err := os.Mkdir(path, 0o770); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := os.RemoveAll(filepath.Join(path, entry.Name())); err != nil {
			return err
		}
	}
	return errors.Join(syncDir(path), syncDir(filepath.Dir(path)))
}

func (r Restore) writeRecord(done Restored) error {
	content, err := json.Marshal(done)
	if err != nil {
		return err
	}
	path := filepath.Join(r.Volume, RestoredFile)
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o660)
	if err != nil {
		return err
	}
	_, err = file.Write(append(content, '\n'))
	return errors.Join(err, file.Sync(), file.Close())
}

func syncDir(path string) error {
	directory, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}
