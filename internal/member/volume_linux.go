package member

import (
	"context"
	"os"
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
