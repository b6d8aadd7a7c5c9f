package job

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/quorate/quorate/internal/member"
	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/internal/snapshot/raftlog"
)

// spare is what etcd needs beside the data, in bytes: it makes the files of its log as large
// before it writes them, two of them at a time.
const spare = 256 << 20

// The oldest patches whose --force-new-cluster is used: those before drop entries that their
// database holds, or keep members that are gone.
var forcible = map[int]int{5: 22, 6: 1}

// Survivor is a member of a cluster that has lost its quorum, and its volume, which is read
// and never written.
type Survivor struct {
	// Volume is the mount point, DataDir etcd's directory below.
	Volume, DataDir string
	Identity        member.Identity
	// RaiseTo is the revision to begin with. If the survivor is beyond it, Bump is added.
	RaiseTo int64
}

// Recover fills a member's empty volume with what a survivor's holds. All work is done on a
// copy beside it: stopped at any point it begins again from the survivor's volume, which is
// as it was. The rest is as for Restore.
func (e *Env) Recover(ctx context.Context, r Restore, from Survivor) (Restored, error) {
	if done, err := r.Finished(); err != nil || done != nil {
		return deref(done), err
	}
	version, err := r.forcibleBy(ctx)
	if err != nil {
		return Restored{}, err
	}
	return r.alone(ctx, Restored{}, func(lock *os.File) (Restored, error) { return e.copyTo(ctx, r, from, version, lock) })
}

// copyTo fills the volume, which nobody else changes, while nobody writes the survivor's.
func (e *Env) copyTo(ctx context.Context, r Restore, from Survivor, version string, lock *os.File) (Restored, error) {
	release, err := from.hold(ctx)
	if err != nil {
		return Restored{}, err
	}
	defer release()
	working := filepath.Join(r.Volume, restoringDir)
	if err := emptied(working); err != nil {
		return Restored{}, explainDisk("preparing "+working, err)
	}
	record := Restored{Backup: snapshot.Backup{ID: r.ID}, Survivor: &snapshot.Survivor{
		Member: from.Identity.Member, VolumeUID: from.Identity.VolumeUID, EtcdVersion: version,
	}}
	return e.fillFrom(ctx, r, from, record, lock)
}

// fillFrom works on a volume that holds nothing but perhaps what an interrupted recovery left.
func (e *Env) fillFrom(ctx context.Context, r Restore, from Survivor, record Restored, lock *os.File) (Restored, error) {
	working := filepath.Join(r.Volume, restoringDir)
	copied, data := filepath.Join(working, "survivor"), filepath.Join(working, "data")
	if err := os.Mkdir(copied, 0o700); err != nil {
		return record, explainDisk("preparing "+working, err)
	}
	served, err := newServer(r.Tools, copied)
	if err != nil {
		return record, err
	}
	e.Tracker.enter(snapshot.PhaseRestoring, 1, 0)
	if err := from.copy(ctx, served.dataDir()); err != nil {
		return record, err
	}
	if err := e.serveAlone(ctx, served, record.Survivor); err != nil {
		return record, err
	}
	// The log is not needed any more, and the database is about to be there twice.
	if err := os.RemoveAll(filepath.Join(served.dataDir(), "member", "wal")); err != nil {
		return record, explainDisk("using "+working, err)
	}
	as := r.As
	as.Unsealed = true
	if up := from.RaiseTo - record.Survivor.Revision; up > 0 {
		as.Bump = uint64(up)
	}
	record.Bump = as.Bump
	if err := r.Tools.restore(ctx, filepath.Join(served.dataDir(), "member", "snap", "db"), data, as, lock); err != nil {
		return record, err
	}
	if err := os.RemoveAll(copied); err != nil {
		return record, explainDisk("removing "+copied, err)
	}
	record.Time = e.Now().UTC()
	if err := r.writeRecord(record); err != nil {
		return record, explainDisk("writing "+RestoredFile, err)
	}
	return record, r.install(data, working)
}

// serveAlone has etcd go on with the copy as the only member, which drops the others and
// applies the whole log, and stops it: its database holds everything then. Nobody but this
// process can reach it.
func (e *Env) serveAlone(ctx context.Context, served *server, found *snapshot.Survivor) error {
	unusable := func(err error) error {
		return snapshot.Fail(snapshot.ReasonNotRestorable, err,
			"the log of %s cannot be read: %v — etcd could not go on with it either — name another survivor, or a backup", found.Member, err)
	}
	end, err := raftlog.Read(filepath.Join(served.dataDir(), "member", "wal"))
	if err != nil {
		return unusable(err)
	}
	found.Term, found.Index, found.Uncommitted = end.Term, end.Index, end.Index-min(end.Index, end.Committed)
	e.Log.Info("Going on with the whole log", "term", end.Term, "index", end.Index, "committed", end.Committed)
	if err := end.Commit(); err != nil {
		return explainDisk("marking the log as committed", err)
	}
	served.flags = []string{"--force-new-cluster"}
	if err := served.start(ctx); err != nil {
		if snapshot.ReasonOf(err) != snapshot.ReasonNotRestorable {
			return err
		}
		return snapshot.Fail(snapshot.ReasonNotRestorable, err,
			"etcd does not go on with a copy of the data of %s: %s — there is nothing to begin with, and the volume of %s is as it was — name another survivor, or a backup", found.Member, served.words, found.Member)
	}
	defer served.stop()
	conn, err := served.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	if found.Revision, found.KeyCount, err = (&source{conn: conn}).latest(ctx); err != nil {
		return err
	}
	asked, cancel := context.WithTimeout(ctx, hashTimeout)
	defer cancel()
	// It is for the record, and compared with nothing.
	got, _, err := askHash(asked, conn, found.Revision)
	found.HashKV = got.hash
	return err
}

// forcibleBy is the version of etcd that is to go on with the copy, if it may.
func (r Restore) forcibleBy(ctx context.Context) (string, error) {
	version, err := versionOf(ctx, r.Tools.Etcd, "--version")
	if err != nil {
		return "", err
	}
	if majorMinor(version) != majorMinor(r.Version) {
		return version, snapshot.Fail(snapshot.ReasonIncompatibleVersion, nil,
			"etcd is of version %s, and etcd %s is to serve the data — it knows another data format — use the image of etcd %s", version, r.Version, r.Version)
	}
	release, err := minor(version)
	if err != nil {
		return version, err
	}
	// What follows the number, such as -rc.1, comes before the release.
	patch, err := strconv.Atoi(version[strings.LastIndex(version, ".")+1:])
	if least, bounded := forcible[release]; bounded && (err != nil || patch < least) {
		return version, snapshot.Fail(snapshot.ReasonIncompatibleVersion, nil,
			"etcd %s is to go on with a survivor's data — it can lose writes that the survivor holds, or keep members that are gone — use etcd 3.%d.%d or later", version, release, least)
	}
	return version, nil
}

// hold makes sure that it is the survivor's volume, that its data is whole, and that nobody
// writes it.
func (s Survivor) hold(ctx context.Context) (release func(), err error) {
	found, err := member.Examine(s.Volume, s.DataDir, s.Identity)
	if err != nil {
		return nil, snapshot.Fail(snapshot.ReasonVolumeUnusable, err, "the volume of %s cannot be read: %v — there is nothing to begin with — check the volume", s.Identity.Member, err)
	}
	if found.Marker != member.MarkerBooted || found.Data != member.DataComplete {
		return nil, snapshot.Fail(snapshot.ReasonNotRestorable, nil,
			"volume %s of member %s does not hold its data: %s — the cluster would go on with something else — name another survivor, or a backup", s.Identity.VolumeUID, s.Identity.Member, found.Seen)
	}
	release, err = member.LockToRead(ctx, s.Volume, lockWait)
	if err != nil {
		return nil, snapshot.Fail(snapshot.ReasonVolumeInUse, err, "the volume of %s is in use: %v — what is copied while etcd writes it is no whole — stop the member", s.Identity.Member, err)
	}
	return release, nil
}

// copy copies what etcd begins with. What it was about to receive or to write is left out.
func (s Survivor) copy(ctx context.Context, dataDir string) error {
	files, total, err := s.files()
	if err != nil {
		return snapshot.Fail(snapshot.ReasonVolumeUnusable, err, "the volume of %s cannot be read: %v — there is nothing to begin with — check the volume", s.Identity.Member, err)
	}
	if err := os.MkdirAll(dataDir, 0o700); err != nil {
		return explainDisk("using "+dataDir, err)
	}
	var room syscall.Statfs_t
	if err := syscall.Statfs(dataDir, &room); err != nil {
		return explainDisk("using "+dataDir, err)
	}
	database := files[filepath.Join("member", "snap", "db")]
	free, need := int64(room.Bavail)*room.Bsize, total+database+spare //nolint:gosec // a disk is smaller
	if free < need {
		return snapshot.Fail(snapshot.ReasonNoSpace, nil,
			"%d bytes are free on the new volume, and %d are needed: a copy of the %d that %s has, its database of %d once more, and %d for etcd's log — the copy would end half way — expand the claim of the new member, if its class allows that",
			free, need, total, s.Identity.Member, database, spare)
	}
	for path := range files {
		if err := copyFile(ctx, filepath.Join(s.DataDir, path), filepath.Join(dataDir, path)); err != nil {
			if ctx.Err() != nil {
				return err
			}
			return explainDisk("copying "+path, err)
		}
	}
	return nil
}

// files are those below the data directory, with their sizes.
func (s Survivor) files() (files map[string]int64, total int64, err error) {
	files = map[string]int64{}
	for _, directory := range []string{"snap", "wal"} {
		entries, err := os.ReadDir(filepath.Join(s.DataDir, "member", directory))
		if err != nil {
			return nil, 0, err
		}
		for _, entry := range entries {
			if !wanted(directory, entry) {
				continue
			}
			info, err := entry.Info()
			if err != nil {
				return nil, 0, err
			}
			files[filepath.Join("member", directory, entry.Name())] = info.Size()
			total += info.Size()
		}
	}
	return files, total, nil
}

// wanted: the log, snapshots and the database, and not what etcd makes on the way to them.
func wanted(directory string, entry fs.DirEntry) bool {
	name := entry.Name()
	if !entry.Type().IsRegular() {
		return false
	}
	if directory == "wal" {
		return filepath.Ext(name) == ".wal"
	}
	return name == "db" || filepath.Ext(name) == ".snap" || strings.HasSuffix(name, ".snap.db")
}

func copyFile(ctx context.Context, from, to string) (err error) {
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	source, err := os.OpenFile(from, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(target, contextReader{ctx, source}, make([]byte, chunk))
	return errors.Join(err, target.Close())
}

// contextReader ends when the process is told to.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, fmt.Errorf("copying: %w", context.Cause(r.ctx))
	}
	return r.Reader.Read(p)
}
