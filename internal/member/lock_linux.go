package member

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// errLocked: another process holds the volume.
var errLocked = errors.New("locked by another process")

// lockVolume takes the exclusive lock of a volume, trying every interval until the
// bound has passed: the pod before this one may just be ending. The lock lives as
// long as any process has the returned file open, which is why etcd inherits it: a
// guard that dies leaves no moment in which a second etcd could start beside the
// first. It is seen within one kernel only; between nodes the volume's access mode
// and the operator keep a second process out.
func lockVolume(ctx context.Context, volume string, interval, bound time.Duration) (*os.File, error) {
	path := filepath.Join(volume, LockFile)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o660)
	if err != nil {
		return nil, fmt.Errorf("opening lock: %w", err)
	}
	if err := flock(ctx, file, syscall.LOCK_EX, interval, bound); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// flock takes a lock of this kind, trying every interval until the bound has passed.
func flock(ctx context.Context, file *os.File, how int, interval, bound time.Duration) error {
	return poll(ctx, interval, bound, func() error {
		err := syscall.Flock(int(file.Fd()), how|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
			return errLocked
		}
		if err != nil {
			return stop(fmt.Errorf("locking %s: %w", file.Name(), err))
		}
		return nil
	})
}
