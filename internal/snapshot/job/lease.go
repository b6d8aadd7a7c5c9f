package job

import (
	"context"
	"errors"
	"maps"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// confirmed is the latest revision, confirmed by a majority. It counts nothing, which
// would take etcd as long as it has keys.
func (s *source) confirmed(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	r, err := pb.NewKVClient(s.conn).Range(ctx, &pb.RangeRequest{Key: []byte{0}, KeysOnly: true})
	if err != nil {
		return 0, explainEtcd(err)
	}
	return r.GetHeader().GetRevision(), nil
}

// compactedBefore says whether a watch from the revision comes too late.
func (s *source) compactedBefore(ctx context.Context, revision int64) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	_, err := pb.NewKVClient(s.conn).Range(ctx, &pb.RangeRequest{Key: []byte{0}, KeysOnly: true, Revision: revision})
	switch said := rpctypes.Error(err); {
	case errors.Is(said, rpctypes.ErrCompacted):
		return true, nil
	case err == nil, errors.Is(said, rpctypes.ErrFutureRev):
		return false, nil
	default:
		return false, explainEtcd(err)
	}
}

// authRevision tells states of users, roles and whether they are asked for apart, and only
// rises: twice etcd's revision of them, and one more while they are asked for. etcd raises
// its revision for every change but the one from not asking to asking.
func (s *source) authRevision(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	r, err := pb.NewAuthClient(s.conn).AuthStatus(ctx, &pb.AuthStatusRequest{})
	if err != nil {
		return 0, explainEtcd(err)
	}
	state := r.GetAuthRevision() << 1
	if r.GetEnabled() {
		state |= 1
	}
	return state, nil
}

// leaseIDs lists the leases that the member knows.
func (s *source) leaseIDs(ctx context.Context) (map[int64]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	r, err := pb.NewLeaseClient(s.conn).LeaseLeases(ctx, &pb.LeaseLeasesRequest{})
	if err != nil {
		return nil, explainEtcd(err)
	}
	ids := map[int64]bool{}
	for _, lease := range r.GetLeases() {
		ids[lease.GetID()] = true
	}
	return ids, nil
}

// grantedTTL is the time to live that a lease was granted, in seconds; zero if there is
// no such lease.
func (s *source) grantedTTL(ctx context.Context, id int64) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	r, err := pb.NewLeaseClient(s.conn).LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: id})
	if errors.Is(rpctypes.Error(err), rpctypes.ErrLeaseNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, explainEtcd(err)
	}
	if r.GetTTL() < 0 {
		return 0, nil
	}
	return r.GetGrantedTTL(), nil
}

// leaseRecords put on record which leases there are now that are not on record, and
// which are gone. A watch does not tell of leases, only of keys.
func (s *session) leaseRecords(ctx context.Context) ([]byte, error) {
	ids, err := s.member.leaseIDs(ctx)
	if err != nil {
		return nil, err
	}
	var content []byte
	for _, id := range slices.Sorted(maps.Keys(s.leases)) {
		if !ids[id] {
			delete(s.leases, id)
			if content, err = appendRecord(content, recordRevoke, s.at, &pb.LeaseRevokeRequest{ID: id}); err != nil {
				return nil, err
			}
		}
	}
	maps.Copy(ids, s.used)
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		if s.leases[id] {
			continue
		}
		ttl, err := s.member.grantedTTL(ctx, id)
		if err != nil {
			return nil, err
		}
		if ttl == 0 {
			continue // it has ended already; only the keys tell of it
		}
		s.leases[id] = true
		if content, err = appendRecord(content, recordGrant, s.at, &pb.LeaseGrantRequest{ID: id, TTL: ttl}); err != nil {
			return nil, err
		}
	}
	return content, nil
}
