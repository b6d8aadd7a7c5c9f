package job

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"github.com/quorate/quorate/internal/snapshot"
)

// peer is one member of a cluster whose leader has the ID 1.
type peer struct {
	pb.UnimplementedMaintenanceServer
	pb.UnimplementedClusterServer
	pb.UnimplementedKVServer

	cluster, id, applied uint64
	learner              bool
	// cutOff says that no majority confirms anything to it.
	cutOff bool
	// compacted is the revision that it has compacted to.
	compacted int64
}

func (p *peer) header() *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: p.cluster, MemberId: p.id}
}

func (p *peer) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	return &pb.StatusResponse{Header: p.header(), Leader: 1, Version: "3.6.16", RaftAppliedIndex: p.applied, IsLearner: p.learner}, nil
}

func (p *peer) MemberList(_ context.Context, r *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	if p.cutOff && r.GetLinearizable() {
		return nil, rpctypes.ErrGRPCNoLeader
	}
	return &pb.MemberListResponse{Header: p.header(), Members: []*pb.Member{{ID: 99, Name: "another"}, {ID: p.id, Name: nameOf(p)}}}, nil
}

func (p *peer) Range(_ context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	if r.GetRevision() > 0 && r.GetRevision() < p.compacted {
		return nil, rpctypes.ErrGRPCCompacted
	}
	header := p.header()
	header.Revision = 9
	return &pb.RangeResponse{Header: header, Count: 1}, nil
}

// nameOf is a letter of the alphabet for each ID.
func nameOf(p *peer) string { return string(rune('a' - 1 + p.id)) }

// endpoint that the member serves, and its maintenance besides.
func (p *peer) endpoint(t *testing.T, maintenance pb.MaintenanceServer) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	pb.RegisterMaintenanceServer(server, maintenance)
	pb.RegisterClusterServer(server, p)
	pb.RegisterKVServer(server, p)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return "http://" + listener.Addr().String()
}

// A snapshot is taken from a voter that a majority has just confirmed, of the right cluster:
// from anybody else it could lack acknowledged writes. Hashing holds a leader's writes up, and
// of the followers the one that is furthest has least to catch up with.
func TestSourceIsChosen(t *testing.T) {
	member := func(id, applied uint64, changes ...func(*peer)) *peer {
		p := &peer{cluster: 0xc1, id: id, applied: applied}
		for _, change := range changes {
			change(p)
		}
		return p
	}
	learner, cutOff := func(p *peer) { p.learner = true }, func(p *peer) { p.cutOff = true }
	foreign := func(p *peer) { p.cluster = 0xb2 }
	for name, tc := range map[string]struct {
		members []*peer
		want    string
		reason  snapshot.Reason
	}{
		"a follower before the leader":     {[]*peer{member(1, 10), member(2, 9)}, "b", ""},
		"the one that does not lag":        {[]*peer{member(1, 10), member(2, 3), member(3, 9), member(4, 5)}, "c", ""},
		"never a learner":                  {[]*peer{member(2, 12, learner), member(1, 10)}, "a", ""},
		"not one that is cut off":          {[]*peer{member(2, 10, cutOff), member(3, 9), member(1, 10)}, "c", ""},
		"rather the leader":                {[]*peer{member(2, 10, cutOff), member(3, 9, cutOff), member(1, 10)}, "a", ""},
		"not one of another cluster":       {[]*peer{member(2, 99, foreign), member(3, 9)}, "c", ""},
		"a learner is all that answers":    {[]*peer{member(2, 10, learner)}, "", snapshot.ReasonEtcdUnreachable},
		"nobody has a majority":            {[]*peer{member(1, 10, cutOff), member(2, 10, cutOff)}, "", snapshot.ReasonEtcdUnreachable},
		"only one of another cluster":      {[]*peer{member(2, 10, foreign)}, "", snapshot.ReasonWrongCluster},
		"another cluster, and one cut off": {[]*peer{member(2, 10, cutOff), member(3, 10, foreign)}, "", snapshot.ReasonWrongCluster},
	} {
		t.Run(name, func(t *testing.T) {
			m := Members{ClusterID: "00C1"}
			for _, p := range tc.members {
				m.Endpoints = append(m.Endpoints, p.endpoint(t, p))
			}
			got, err := m.choose(t.Context())
			if tc.want == "" {
				if snapshot.ReasonOf(err) != tc.reason || strings.Count(err.Error(), " — ") < 2 {
					t.Errorf("choose() = %v, want the reason %s", err, tc.reason)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer got.close()
			at := slices.IndexFunc(tc.members, func(p *peer) bool { return nameOf(p) == tc.want })
			if got.name != tc.want || got.endpoint != m.Endpoints[at] {
				t.Errorf("the snapshot is taken from %q at %s, want %q at %s", got.name, got.endpoint, tc.want, m.Endpoints[at])
			}
		})
	}
}

// idle is a member that may remember what it hashed while it compacted.
type idle struct {
	peer

	at, latest int64
	remembers  bool
	// meanwhile is what it compacts to while it hashes for the first time.
	meanwhile int64
}

func (m *idle) HashKV(_ context.Context, r *pb.HashKVRequest) (*pb.HashKVResponse, error) {
	answer := &pb.HashKVResponse{Header: &pb.ResponseHeader{Revision: m.latest}, Hash: 2, CompactRevision: m.compacted}
	switch {
	case r.GetRevision() == m.at && m.remembers:
		answer.Hash, answer.CompactRevision = 1, 3
	case r.GetRevision() > 0 && r.GetRevision() < m.compacted:
		return nil, rpctypes.ErrGRPCCompacted
	}
	m.compacted = max(m.compacted, m.meanwhile)
	return answer, nil
}

// etcd answers with the hash of what it has compacted away, which no restored backup has.
func TestSourceHashesWhatIsLeft(t *testing.T) {
	for name, tc := range map[string]struct {
		m      *idle
		want   hashed
		reason snapshot.Reason
	}{
		"compacted before":           {&idle{at: 20, latest: 25, peer: peer{compacted: 3}}, hashed{2, 3}, ""},
		"compacted to the latest":    {&idle{at: 20, latest: 20, remembers: true, peer: peer{compacted: 20}}, hashed{2, 20}, ""},
		"compacted, and written to":  {&idle{at: 20, latest: 21, remembers: true, peer: peer{compacted: 20}}, hashed{}, snapshot.ReasonCompacted},
		"compacted further by then":  {&idle{at: 20, latest: 30, meanwhile: 25, peer: peer{compacted: 3}}, hashed{2, 3}, ""},
		"compacted to it by then":    {&idle{at: 20, latest: 30, meanwhile: 20, peer: peer{compacted: 3}}, hashed{2, 3}, ""},
		"an empty one":               {&idle{at: 1, latest: 1, remembers: true, peer: peer{compacted: 1}}, hashed{2, 1}, ""},
		"an empty one, written then": {&idle{at: 1, latest: 2, peer: peer{compacted: -1}}, hashed{2, -1}, ""},
	} {
		conn, err := Members{}.connect(tc.m.endpoint(t, tc.m))
		if err != nil {
			t.Fatal(err)
		}
		got, err := hashAt(t.Context(), conn, tc.m.at)
		_ = conn.Close()
		if got != tc.want || (err == nil) != (tc.reason == "") || err != nil && snapshot.ReasonOf(err) != tc.reason {
			t.Errorf("%s: %+v, %v; want %+v %s", name, got, err, tc.want, tc.reason)
		}
	}
}
