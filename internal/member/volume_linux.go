package member

import (
	"context"
	"time"
)

// lockInterval between two tries to take a volume's lock.
const lockInterval = 500 * time.Millisecond

// LockVolume takes the lock that the guard takes too, so that no etcd starts on a
// volume that is being restored. It waits for the lock for at most bound. The
// returned function gives it back.
func LockVolume(ctx context.Context, volume string, bound time.Duration) (release func(), err error) {
	file, err := lockVolume(ctx, volume, lockInterval, bound)
	if err != nil {
		return nil, err
	}
	return func() {
		// Closing gives the lock back, and nothing was written.
		_ = file.Close()
	}, nil
}
