package job

import (
	"context"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// keepBeat is how often leases are looked through for those that are due.
const keepBeat = 200 * time.Millisecond

// keeper keeps all leases alive while an archive is replayed: one that ran out would
// delete its keys, in a revision that never was.
type keeper struct {
	mu     sync.Mutex
	leases map[int64]*kept
}

// shortestTTL is the shortest that etcd grants, in seconds: what a lease is taken for until
// it is known better.
const shortestTTL = 2

type kept struct {
	every time.Duration
	due   time.Time
}

// keepAlive begins with the leases that there are, until ctx ends. It keeps all of them
// before it asks for any time to live: with many leases, asking takes longer than some live.
func keepAlive(ctx context.Context, s *source) (*keeper, error) {
	k := &keeper{leases: map[int64]*kept{}}
	ids, err := s.leaseIDs(ctx)
	if err != nil {
		return nil, err
	}
	stream, err := pb.NewLeaseClient(s.conn).LeaseKeepAlive(ctx)
	if err != nil {
		return nil, explainEtcd(err)
	}
	for id := range ids {
		k.add(id, shortestTTL)
	}
	go k.send(ctx, stream)
	go func() {
		for { // an answer that is not read would block the next ones
			if _, err := stream.Recv(); err != nil {
				return
			}
		}
	}()
	for id := range ids {
		ttl, err := s.grantedTTL(ctx, id)
		if err != nil {
			return nil, err
		}
		if ttl == 0 { // it has ended; whether that had a revision is looked at later
			k.drop(id)
			continue
		}
		k.add(id, ttl)
	}
	return k, nil
}

func (k *keeper) add(id, ttl int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.leases[id] = &kept{every: time.Duration(ttl) * time.Second / 4}
}

func (k *keeper) drop(id int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.leases, id)
}

func (k *keeper) has(id int64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.leases[id] != nil
}

// dueAt returns the leases whose turn it is.
func (k *keeper) dueAt(now time.Time) []int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	var due []int64
	for id, lease := range k.leases {
		if !now.Before(lease.due) {
			lease.due = now.Add(lease.every)
			due = append(due, id)
		}
	}
	return due
}

// send ends with the stream. A lease that then runs out is noticed: its revision is not
// the archive's.
func (k *keeper) send(ctx context.Context, stream pb.Lease_LeaseKeepAliveClient) {
	ticker := time.NewTicker(keepBeat)
	defer ticker.Stop()
	for {
		for _, id := range k.dueAt(time.Now()) {
			if stream.Send(&pb.LeaseKeepAliveRequest{ID: id}) != nil {
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
