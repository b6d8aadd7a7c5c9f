package job

import (
	"syscall"

	"github.com/quorate/quorate/internal/snapshot"
)

// untouched is the part of a disk, one in so many, that stays free: with less the kubelet ends the
// pods of a node, and not only this one.
const untouched = 10

// disk is how much room a file system has, in bytes.
type disk struct{ free, size int64 }

// room is what may be written to the disk of a node, which is not ours alone. A replay has no
// end that is known before: an archive grows for as long as no other base is taken, and whoever
// can write to the store could make it grow.
type room struct {
	dir string
	// look at the file system of a directory.
	look func(dir string) (disk, error)
}

// roomIn a directory that is on the disk of a node.
func (e *Env) roomIn(dir string) *room {
	if e.look != nil {
		return &room{dir: dir, look: e.look}
	}
	return &room{dir: dir, look: diskOf}
}

func diskOf(dir string) (disk, error) {
	var found syscall.Statfs_t
	if err := syscall.Statfs(dir, &found); err != nil {
		return disk{}, err
	}
	return disk{free: int64(found.Bavail) * found.Bsize, size: int64(found.Blocks) * found.Bsize}, nil //nolint:gosec // a disk is smaller
}

// forServing says whether there is room to have an etcd serve so many bytes: the snapshot, what
// is restored from it, and etcd's log.
func (r *room) forServing(snapshotBytes int64) error { return r.holds(2*snapshotBytes + spare) }

// forReplaying says whether there is room to write so many bytes to an etcd, which has them in
// its log and in its database.
func (r *room) forReplaying(plain int64) error { return r.holds(2 * plain) }

// holds says whether so many bytes can be written. A nil room does not ask: a volume that is
// there to be filled may be.
func (r *room) holds(needed int64) error {
	if r == nil {
		return nil
	}
	found, err := r.look(r.dir)
	if err != nil {
		return explainDisk("looking at "+r.dir, err)
	}
	if least := found.size / untouched; found.free-needed < least {
		return snapshot.Fail(snapshot.ReasonNoSpace, nil,
			"%d bytes are free on the disk of %s, %d more are needed to put the point together, and %d must stay free — the node would end the pods of others — %s",
			found.free, r.dir, needed, least, "run it on a node with more room, or take a backup, so that less of the archive is replayed on it")
	}
	return nil
}
