package main

import (
	"context"
	"errors"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/quorate/quorate/internal/etcd"
)

// ask finds the member that a call is for, and counts the call.
func (f *fleet) ask(ctx context.Context, method string) (*member, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil, status.Error(codes.Internal, "no peer")
	}
	f.mu.Lock()
	m := f.members[p.LocalAddr.String()]
	if m == nil {
		f.mu.Unlock()
		return nil, status.Error(codes.Internal, "no member has this address")
	}
	f.asked[method]++
	if c := m.cluster; c.sighted.IsZero() {
		c.sighted = time.Now()
	}
	f.mu.Unlock()
	select {
	case <-m.hung:
		<-ctx.Done()
		return nil, status.FromContextError(ctx.Err()).Err()
	default:
		return m, nil
	}
}

// looked notes that a majority has answered a look.
func (f *fleet) looked(m *member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := m.cluster; c.looked.IsZero() {
		c.looked = time.Now()
	}
}

// refusal is an error as etcd says it.
func refusal(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, etcd.ErrNoLeader):
		return rpctypes.ErrGRPCNoLeader
	case errors.Is(err, etcd.ErrNoSpace):
		return rpctypes.ErrGRPCNoSpace
	default:
		return status.Error(codes.Unavailable, err.Error())
	}
}

// header takes the identity from the member's own status.
func header(s etcd.Status) *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: s.ClusterID, MemberId: s.MemberID, RaftTerm: s.Term, Revision: max(1, s.Revision)}
}

type kv struct {
	pb.UnimplementedKVServer
	fleet *fleet
}

// Range is only ever asked for one key that does not exist.
func (s *kv) Range(ctx context.Context, _ *pb.RangeRequest) (*pb.RangeResponse, error) {
	m, err := s.fleet.ask(ctx, "Range")
	if err != nil {
		return nil, err
	}
	if err := m.conn.Read(ctx); err != nil {
		return nil, refusal(err)
	}
	s.fleet.looked(m)
	is, err := m.conn.Status(ctx)
	return &pb.RangeResponse{Header: header(is)}, refusal(err)
}

type clusterServer struct {
	pb.UnimplementedClusterServer
	fleet *fleet
}

// MemberList implements etcd's service.
func (s *clusterServer) MemberList(ctx context.Context, _ *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	m, err := s.fleet.ask(ctx, "MemberList")
	if err != nil {
		return nil, err
	}
	list, err := m.conn.Members(ctx)
	if err != nil {
		return nil, refusal(err)
	}
	s.fleet.looked(m)
	r := &pb.MemberListResponse{Header: &pb.ResponseHeader{ClusterId: list.ClusterID, MemberId: list.MemberID, RaftTerm: list.Term}}
	for _, l := range list.Members {
		r.Members = append(r.Members, &pb.Member{ID: l.ID, Name: l.Name, PeerURLs: l.PeerURLs, ClientURLs: l.ClientURLs, IsLearner: l.Learner})
	}
	return r, nil
}

type maintenance struct {
	pb.UnimplementedMaintenanceServer
	fleet *fleet
}

// Status implements etcd's service.
func (s *maintenance) Status(ctx context.Context, _ *pb.StatusRequest) (*pb.StatusResponse, error) {
	m, err := s.fleet.ask(ctx, "Status")
	if err != nil {
		return nil, err
	}
	is, err := m.conn.Status(ctx)
	if err != nil {
		return nil, refusal(err)
	}
	return &pb.StatusResponse{
		Header: header(is), Version: is.Version, DbSize: is.DBSize, DbSizeInUse: is.DBSizeInUse, Leader: is.Leader,
		RaftIndex: is.Index, RaftTerm: is.Term, RaftAppliedIndex: is.Applied, Errors: is.Errors, IsLearner: is.Learner,
	}, nil
}

// HashKV implements etcd's service.
func (s *maintenance) HashKV(ctx context.Context, r *pb.HashKVRequest) (*pb.HashKVResponse, error) {
	m, err := s.fleet.ask(ctx, "HashKV")
	if err != nil {
		return nil, err
	}
	h, err := m.conn.Hash(ctx, r.GetRevision())
	if err != nil {
		return nil, refusal(err)
	}
	is, err := m.conn.Status(ctx)
	return &pb.HashKVResponse{Header: header(is), Hash: h.Hash, CompactRevision: h.CompactRevision}, refusal(err)
}

// Alarm is only ever asked to list.
func (s *maintenance) Alarm(ctx context.Context, _ *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	m, err := s.fleet.ask(ctx, "Alarm")
	if err != nil {
		return nil, err
	}
	alarms, err := m.conn.Alarms(ctx)
	if err != nil {
		return nil, refusal(err)
	}
	is, err := m.conn.Status(ctx)
	r := &pb.AlarmResponse{Header: header(is)}
	for _, a := range alarms {
		r.Alarms = append(r.Alarms, &pb.AlarmMember{MemberID: a.MemberID, Alarm: pb.AlarmType(pb.AlarmType_value[string(a.Kind)])})
	}
	return r, refusal(err)
}

type lease struct {
	pb.UnimplementedLeaseServer
	fleet *fleet
}

// LeaseGrant is a proposal.
func (s *lease) LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	m, err := s.fleet.ask(ctx, "LeaseGrant")
	if err != nil {
		return nil, err
	}
	if err := m.conn.Propose(ctx); err != nil {
		return nil, refusal(err)
	}
	is, err := m.conn.Status(ctx)
	return &pb.LeaseGrantResponse{Header: header(is), ID: 1, TTL: r.GetTTL()}, refusal(err)
}

// LeaseRevoke is a second one.
func (s *lease) LeaseRevoke(ctx context.Context, _ *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	m, err := s.fleet.ask(ctx, "LeaseRevoke")
	if err != nil {
		return nil, err
	}
	if err := m.conn.Propose(ctx); err != nil {
		return nil, refusal(err)
	}
	is, err := m.conn.Status(ctx)
	return &pb.LeaseRevokeResponse{Header: header(is)}, refusal(err)
}
