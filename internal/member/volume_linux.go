package member

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// lockInterval between two tries to take a volume's lock.
const lockInterval = 500 * time.Millisecond

// LockVolume takes the lock that the guard takes too, so that no etcd starts on a
// volume that is being restored. It waits for the lock for at most bound. The lock
// lives as long as any process has the returned file open.
func LockVolume(ctx context.Context, volume string, bound time.Duration) (*os.File, error) {
	return lockVolume(ctx, volume, lockInterval, bound)
}

// LockToRead takes the lock of a volume that is mounted read-only: nobody writes it until
// release is called. A volume on which no guard has ever been has no lock, and nobody writes
// it but a guard.
func LockToRead(ctx context.Context, volume string, bound time.Duration) (release func(), err error) {
	path := filepath.Join(volume, LockFile)
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return func() {}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("opening lock: %w", err)
	}
	err = flock(ctx, file, syscall.LOCK_SH, lockInterval, bound)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() { _ = file.Close() }, nil
}
