package job

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"filippo.io/age"

	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/internal/snapshot/store"
)

// fetch downloads a backup into a new file and checks everything that the manifest
// says of it. After an error there is no such file.
func (e *Env) fetch(ctx context.Context, m snapshot.Manifest, identities []age.Identity, path string) error {
	if m.Encrypted() && len(identities) == 0 {
		return keyMissing(m, identities, nil)
	}
	return e.try(ctx, func(ctx context.Context, attempt int) error {
		e.Tracker.enter(snapshot.PhaseDownloading, attempt, m.Stored.Bytes)
		if err := e.fetchOnce(ctx, m, identities, path); err != nil {
			return errors.Join(err, removeIfThere(path))
		}
		return nil
	})
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// object opens the stored object of a backup, which has the size that its manifest says.
func (e *Env) object(ctx context.Context, m snapshot.Manifest) (r io.ReadCloser, key string, err error) {
	key = e.Place.Key(m.ID, snapshot.SnapshotObject)
	var size int64
	r, size, err = e.Store.Reader(ctx, key)
	if errors.Is(err, store.ErrNotExist) {
		return nil, key, snapshot.Fail(snapshot.ReasonCorrupt, err, "%s is gone, although its manifest is there — the backup cannot be restored — take a new one, and look at the store", key)
	}
	if err != nil {
		return nil, key, err
	}
	if size != m.Stored.Bytes {
		_ = r.Close() // nothing of it is wanted
		return nil, key, damagedObject(key, snapshot.Content{Bytes: size}, m.Stored)
	}
	return r, key, nil
}

func (e *Env) fetchOnce(ctx context.Context, m snapshot.Manifest, identities []age.Identity, path string) error {
	r, key, err := e.object(ctx, m)
	if err != nil {
		return err
	}
	defer r.Close()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return explainDisk("writing "+path, err)
	}
	err = e.decode(paced(ctx, r, StoreRate(e.ReadRate)), m, identities, key, file)
	if err == nil {
		if err = file.Sync(); err != nil {
			err = explainDisk("writing "+path, err)
		}
	}
	return errors.Join(err, file.Close())
}

// decode writes the plain snapshot and compares both hashes. An object that does not
// decode is read to its end all the same: an error of the network must not be taken
// for damage, nor damage for a wrong key.
func (e *Env) decode(r io.Reader, m snapshot.Manifest, identities []age.Identity, key string, file io.Writer) error {
	stored, plain := newDigest(), newSealed()
	raw := &remembering{reader: io.TeeReader(e.Tracker.reader(r), stored)}
	disk := &remembering{writer: file}
	content, release, err := unpack(raw, m, identities)
	if err == nil {
		_, err = io.CopyBuffer(io.MultiWriter(disk, plain), longest(content, m.Plain), make([]byte, chunk))
		release()
	}
	if disk.err != nil {
		return explainDisk("writing the snapshot", disk.err)
	}
	if _, drained := io.Copy(io.Discard, raw); drained != nil || raw.err != nil {
		return cmp.Or(raw.err, drained)
	}
	if stored.content() != m.Stored {
		return damagedObject(key, stored.content(), m.Stored)
	}
	if _, ok := errors.AsType[*snapshot.Failure](err); ok {
		return err
	}
	if err != nil {
		return snapshot.Fail(snapshot.ReasonCorrupt, err, "%s: %v — it is what was written and cannot be read, so it was damaged before — take a new backup", key, err)
	}
	got, err := plain.finish()
	if err != nil || got != m.Plain {
		return snapshot.Fail(snapshot.ReasonCorrupt, err, "%s holds a snapshot of %d bytes instead of %d, or another one — it cannot be restored — take a new backup", key, plain.bytes, m.Plain.Bytes)
	}
	return nil
}

// longest reads what was packed, and a byte more if there is more: a small object may unpack
// to what fills any volume, or the disk of a node.
func longest(content io.Reader, packed snapshot.Content) io.Reader {
	return io.LimitReader(content, packed.Bytes+1)
}

// remembering keeps the first error of a reader or writer, which decoders wrap
// beyond recognition.
type remembering struct {
	reader io.Reader
	writer io.Writer
	err    error
}

func (r *remembering) Read(p []byte) (int, error) {
	n, err := r.reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && r.err == nil {
		r.err = err
	}
	return n, err
}

func (r *remembering) Write(p []byte) (int, error) {
	n, err := r.writer.Write(p)
	if err != nil && r.err == nil {
		r.err = err
	}
	return n, err
}

// explainDisk gives errors of the local disk their reason.
func explainDisk(doing string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return snapshot.Fail(snapshot.ReasonNoSpace, err, "%s: %v — the plain snapshot does not fit, and it is needed twice — give the volume more room", doing, err)
	}
	return snapshot.Fail(snapshot.ReasonVolumeUnusable, err, "%s: %v — nothing can be restored there — check the volume", doing, err)
}

// Explain makes a Failure of any error, so that people read a sentence.
func Explain(err error) error {
	if _, ok := errors.AsType[*snapshot.Failure](err); ok || err == nil {
		return err
	}
	return snapshot.Fail(snapshot.ReasonOf(err), err, "%v — the work is not done — see the log of the pod", fmt.Errorf("unexpected: %w", err))
}
