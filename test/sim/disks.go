package sim

import (
	"context"
	"net"
	"time"

	"github.com/quorate/quorate/internal/etcd"
)

// disk of a member's volume, as its process measures it: each entry is synced by itself.
type disk struct {
	// each is how long a sync takes.
	each time.Duration
	seen uint64
	took time.Duration
}

// SlowDown has each sync of a member's log take so long.
func (w *World) SlowDown(member string, each time.Duration) {
	w.note("the disk of %s takes %s to sync", member, each)
	w.disks[member].each = each
}

// Fsyncs is no call that an operator can die at, for nothing hangs on it.
func (d dialer) Fsyncs(_ context.Context, _ string, to etcd.Endpoint, _ etcd.Credentials) (etcd.Fsyncs, error) {
	host, _, _ := net.SplitHostPort(to.Address)
	for _, r := range d.op.w.nodes.running() {
		if at, _, _ := net.SplitHostPort(r.process.Address); at != host || d.op.w.disks[r.process.Flags.Name] == nil {
			continue
		}
		answer, err := d.op.w.dialByHand(r.process).Status(context.Background())
		disk := d.op.w.disks[r.process.Flags.Name]
		disk.took += time.Duration(answer.Applied-disk.seen) * disk.each //nolint:gosec // few
		disk.seen = answer.Applied
		return etcd.Fsyncs{Count: disk.seen, Took: disk.took}, err
	}
	return etcd.Fsyncs{}, etcd.ErrUnreachable
}
