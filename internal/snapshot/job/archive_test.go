package job

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/internal/snapshot/store"
)

// fakeMember answers what an archiver and a replay ask, as a test wants it.
type fakeMember struct {
	pb.UnimplementedKVServer
	pb.UnimplementedAuthServer
	pb.UnimplementedLeaseServer
	pb.UnimplementedMaintenanceServer
	pb.UnimplementedWatchServer

	revision func() int64
	txn      func(*pb.TxnRequest) *pb.TxnResponse
	auth     uint64
	enabled  bool
	leases   map[int64]int64

	mu sync.Mutex
	// keptAlive counts per lease; asked is called before a time to live is told, opened
	// when a snapshot is asked for.
	keptAlive map[int64]int
	asked     func()
	opened    func()
	// alarms that are raised.
	alarms []*pb.AlarmMember
	// count of keys, and the hash of all from compactedAt on.
	count       int64
	hash        uint32
	compactedAt int64
	// history is told to whoever watches; what is before compacted is not there.
	history   []change
	compacted int64
}

func (m *fakeMember) Watch(stream pb.Watch_WatchServer) error {
	r, err := stream.Recv()
	if err != nil {
		return err
	}
	for _, c := range m.history {
		if c.revision >= r.GetCreateRequest().GetStartRevision() {
			if err := stream.Send(&pb.WatchResponse{Events: c.events}); err != nil {
				return err
			}
		}
	}
	<-stream.Context().Done()
	return nil
}

func (m *fakeMember) Alarm(_ context.Context, r *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	if r.GetAction() == pb.AlarmRequest_DEACTIVATE {
		m.alarms = slices.DeleteFunc(m.alarms, func(a *pb.AlarmMember) bool {
			return a.GetMemberID() == r.GetMemberID() && a.GetAlarm() == r.GetAlarm()
		})
	}
	return &pb.AlarmResponse{Alarms: slices.Clone(m.alarms)}, nil
}

func (m *fakeMember) LeaseKeepAlive(stream pb.Lease_LeaseKeepAliveServer) error {
	for {
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		m.mu.Lock()
		if m.keptAlive == nil {
			m.keptAlive = map[int64]int{}
		}
		m.keptAlive[r.GetID()]++
		m.mu.Unlock()
	}
}

func (m *fakeMember) kept(id int64) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.keptAlive[id]
}

func (m *fakeMember) Snapshot(_ *pb.SnapshotRequest, stream pb.Maintenance_SnapshotServer) error {
	m.opened()
	return stream.Send(&pb.SnapshotResponse{Blob: []byte("x")})
}

func (m *fakeMember) Range(_ context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	if r.GetRevision() > 0 && r.GetRevision() < m.compacted {
		return nil, rpctypes.ErrGRPCCompacted
	}
	return &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: m.revision()}, Count: m.count}, nil
}

func (m *fakeMember) HashKV(context.Context, *pb.HashKVRequest) (*pb.HashKVResponse, error) {
	return &pb.HashKVResponse{Hash: m.hash, CompactRevision: m.compactedAt}, nil
}

func (m *fakeMember) Compact(_ context.Context, r *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	m.compactedAt = r.GetRevision()
	return &pb.CompactionResponse{}, nil
}

func (m *fakeMember) Txn(_ context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	return m.txn(r), nil
}

func (m *fakeMember) AuthStatus(context.Context, *pb.AuthStatusRequest) (*pb.AuthStatusResponse, error) {
	return &pb.AuthStatusResponse{AuthRevision: m.auth, Enabled: m.enabled}, nil
}

func (m *fakeMember) LeaseLeases(context.Context, *pb.LeaseLeasesRequest) (*pb.LeaseLeasesResponse, error) {
	r := &pb.LeaseLeasesResponse{}
	for id := range m.leases {
		r.Leases = append(r.Leases, &pb.LeaseStatus{ID: id})
	}
	return r, nil
}

func (m *fakeMember) LeaseTimeToLive(_ context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	if m.asked != nil {
		m.asked()
	}
	return &pb.LeaseTimeToLiveResponse{ID: r.GetID(), TTL: m.leases[r.GetID()] - 1, GrantedTTL: m.leases[r.GetID()]}, nil
}

func serve(t *testing.T, m *fakeMember) *source {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	pb.RegisterKVServer(server, m)
	pb.RegisterAuthServer(server, m)
	pb.RegisterLeaseServer(server, m)
	pb.RegisterMaintenanceServer(server, m)
	pb.RegisterWatchServer(server, m)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("passthrough:///"+listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &source{conn: conn}
}

// clocked is a session with a member, behind a gap up to revision 10, at a time of its own.
func clocked(t *testing.T, m *fakeMember) (s *session, now *time.Time, dir string) {
	t.Helper()
	e, dir := newEnv(t)
	clock := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	e.Now = func() time.Time { return clock }
	s = &session{
		archiver: &archiver{
			Env: e, Archive: Archive{SealEvery: 2 * time.Second, IdleEvery: time.Minute, Compression: snapshot.CompressionZstd},
			want: make(chan snapshot.Segment, 1), based: make(chan foundBase, 1),
		},
		member: serve(t, m), chain: &chain{env: e, clusterID: "a1"}, leases: map[int64]bool{}, used: map[int64]bool{},
	}
	s.next = snapshot.Segment{Format: snapshot.Format, Sequence: 1, Cluster: snapshot.Cluster{UID: e.Place.ClusterUID, ID: "a1", Namespace: "ns", Name: "c"}}
	s.begin(snapshot.Gap{From: 1, To: 10, Reason: snapshot.GapBegan}, clock)
	return s, &clock, dir
}

func put(revision int64) change {
	kv := &mvccpb.KeyValue{Key: []byte("k"), Value: []byte("v"), CreateRevision: 1, ModRevision: revision, Version: revision}
	return change{revision: revision, events: []*mvccpb.Event{{Kv: kv}}}
}

// A cluster that is written to all the time is always ahead of what was received, and its
// writes are stored all the same.
func TestArchiveSealsWhileWritesGoOn(t *testing.T) {
	m := &fakeMember{auth: 1}
	s, now, _ := clocked(t, m)
	s.next.AuthBefore = 2
	m.revision = func() int64 { return s.last + 1 }
	longest := time.Duration(0)
	for range 60 {
		*now = now.Add(beat)
		for _, revision := range []int64{s.last + 1, s.last + 2} {
			if err := s.add(t.Context(), put(revision)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.beat(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s.progress.Segments > 0 {
			longest = max(longest, now.Sub(s.progress.Until))
		}
	}
	if s.progress.Segments < 8 || longest > 5*time.Second {
		t.Errorf("%d segments in 30 s, and up to %s were not stored", s.progress.Segments, longest)
	}
}

// A segment says that it is complete until the moment at which a majority was asked, and
// only if it has all that the majority confirmed.
func TestArchiveEndsWhereAMajorityConfirmed(t *testing.T) {
	m := &fakeMember{auth: 1, revision: func() int64 { return 12 }}
	s, now, _ := clocked(t, m)
	s.next.AuthBefore = 2
	began := *now
	*now = now.Add(time.Second)
	if err := s.beat(t.Context()); err != nil { // the gap is put on record
		t.Fatal(err)
	}
	if err := s.beat(t.Context()); err != nil { // the majority is at revision 12
		t.Fatal(err)
	}
	if err := s.add(t.Context(), put(11)); err != nil {
		t.Fatal(err)
	}
	*now = now.Add(time.Minute)
	if err := s.seal(t.Context()); err != nil { // as for its size
		t.Fatal(err)
	}
	if !s.tip.Ended.Equal(began) || s.tip.To != 11 {
		t.Errorf("without revision 12 it says that it is complete until %s", s.tip.Ended.Sub(began))
	}
}

// A watch that tells nothing of what a majority confirmed is not waited for without end.
func TestArchiveGivesUpAWatchThatStalls(t *testing.T) {
	m := &fakeMember{auth: 1, revision: func() int64 { return 12 }}
	s, now, _ := clocked(t, m)
	s.next.AuthBefore, s.next.Gap = 2, nil
	s.next.Sequence = 2
	*now = now.Add(time.Second)
	if err := s.beat(t.Context()); err != nil {
		t.Fatal(err)
	}
	*now = now.Add(watchStall + time.Second)
	if err := s.beat(t.Context()); snapshot.ReasonOf(err) != snapshot.ReasonEtcdUnreachable {
		t.Errorf("%v, want EtcdUnreachable", err)
	}
}

// A change of users asks for a base from after it, and one that goes back is not archived.
func TestArchiveOfUsersThatChange(t *testing.T) {
	m := &fakeMember{auth: 5, revision: func() int64 { return 10 }}
	s, now, _ := clocked(t, m)
	s.next.AuthBefore = 8
	*now = now.Add(time.Second)
	if err := s.seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !s.tip.BaseSince.Equal(*now) || !s.progress.BaseMissing {
		t.Errorf("a base of before the change would do: %+v", s.tip)
	}
	m.auth = 3
	if err := s.seal(t.Context()); snapshot.ReasonOf(err) != snapshot.ReasonWrongCluster {
		t.Errorf("%v, want WrongCluster", err)
	}
}

// A base that is deleted is missed within minutes, instead of never.
func TestArchiveLooksAgainForItsBase(t *testing.T) {
	s, now, _ := clocked(t, &fakeMember{auth: 1, revision: func() int64 { return 10 }})
	m := stored(t, s.Env, 10, snapshot.CompressionNone)
	if s.tell(); len(s.want) > 0 {
		t.Error("a base is asked for before there is a segment")
	}
	s.next.AuthBefore = 2
	if err := s.seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-s.want
	s.checked = time.Time{}
	told := func() (asked bool) {
		t.Helper()
		s.tell()
		select {
		case segment := <-s.want:
			found, err := s.base(t.Context(), segment)
			select {
			case none := <-s.based:
				s.hasBase(none)
			default:
				s.hasBase(found)
				if err != nil {
					t.Fatal(err)
				}
			}
			return true
		default:
			return false
		}
	}
	if !told() || told() || s.progress.BaseMissing {
		t.Errorf("it is not content with its base: %+v", s.progress)
	}
	if err := s.Store.Delete(t.Context(), s.Place.Key(m.ID, snapshot.ManifestObject)); err != nil {
		t.Fatal(err)
	}
	*now = now.Add(baseCheck)
	if !told() {
		t.Error("it does not look again")
	}
	if s.tell(); !s.progress.BaseMissing {
		t.Error("the base is gone, and not told to be missing")
	}
}

// Turning authentication on has no revision of etcd's, and asks for a base from after it
// all the same; turning it off and on again is told apart from never having done so.
func TestArchiveOfAuthenticationThatIsTurnedOn(t *testing.T) {
	m := &fakeMember{auth: 5, revision: func() int64 { return 10 }}
	s, now, _ := clocked(t, m)
	s.next.AuthBefore = 10
	states := []uint64{10}
	for _, step := range []struct {
		auth    uint64
		enabled bool
	}{{5, true}, {6, false}, {6, true}} {
		m.auth, m.enabled = step.auth, step.enabled
		*now = now.Add(authEvery + time.Second)
		s.next.Gap = nil
		if s.next.Sequence == 1 {
			s.next.Gap = &snapshot.Gap{From: 1, To: 10, Reason: snapshot.GapBegan}
		}
		if due, err := s.due(t.Context()); err != nil || !due {
			t.Errorf("%+v is not due (%v)", step, err)
		}
		if err := s.seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !s.tip.BaseSince.Equal(*now) || s.tip.AuthAfter <= states[len(states)-1] {
			t.Errorf("%+v: a base of before the change would do: %+v", step, s.tip)
		}
		states = append(states, s.tip.AuthAfter)
	}
}

// Volumes that were rolled back have the same cluster ID, and may have written past the
// archive's end: what it ends with must still be there.
func TestArchiveDoesNotGoOnInAnotherHistory(t *testing.T) {
	other := put(12)
	other.events[0].Kv.Value = []byte("another")
	for name, tc := range map[string]struct {
		history   []change
		compacted int64
		want      snapshot.Reason
		gap       bool
	}{
		"the same":            {history: []change{put(11), put(12), put(13)}},
		"another":             {history: []change{put(11), other, put(13)}, want: snapshot.ReasonWrongCluster},
		"nobody knows":        {history: []change{put(15), put(16)}, compacted: 14, gap: true},
		"compacted just then": {history: []change{put(12), put(13)}, compacted: 12},
	} {
		t.Run(name, func(t *testing.T) {
			m := &fakeMember{auth: 1, revision: func() int64 { return 14 }, history: tc.history, compacted: tc.compacted}
			s, _, _ := clocked(t, m)
			s.next.AuthBefore = 2
			for _, revision := range []int64{11, 12} {
				if err := s.add(t.Context(), put(revision)); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 { // the second holds nothing, and hands on what was last
				if err := s.seal(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			changes, _, err := s.follow(ctx)
			if (err == nil) != (tc.want == "") || (err != nil && snapshot.ReasonOf(err) != tc.want) || (s.next.Gap != nil) != tc.gap {
				t.Fatalf("%v, gap %v; want %q", err, s.next.Gap, tc.want)
			}
			if err != nil {
				return
			}
			if c := <-changes; c.revision != s.next.From {
				t.Errorf("it goes on with revision %d, want %d", c.revision, s.next.From)
			}
		})
	}
}

// The segment that another process has written is seen, and ours is not taken for it.
func TestArchiveIsNotShared(t *testing.T) {
	m := &fakeMember{auth: 1, revision: func() int64 { return 10 }}
	s, _, dir := clocked(t, m)
	s.next.AuthBefore = 2
	next := s.next
	if err := s.seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.next = next
	s.next.Cluster.Name = "another"
	if err := s.seal(t.Context()); snapshot.ReasonOf(err) != snapshot.ReasonArchiveTaken {
		t.Errorf("%v, want ArchiveTaken", err)
	}
	if found, _ := filepath.Glob(filepath.Join(dir, "p", "c-uid", "archive", "a1", "*")); len(found) != 2 {
		t.Errorf("one has overwritten the other: %v", found)
	}
}

// Two that have parted write behind different segments, and are told all the same. What was
// there when a session began was written by somebody who may be gone.
func TestArchiveIsNotSharedOnTwoBranches(t *testing.T) {
	m := &fakeMember{auth: 1, revision: func() int64 { return 10 }}
	s, _, _ := clocked(t, m)
	s.next.AuthBefore = 2
	first := s.next
	if err := s.seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := s.next
	again.Previous = snapshot.ContentOf([]byte("another branch")).SHA256
	if err := s.seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.next = again
	if err := s.seal(t.Context()); snapshot.ReasonOf(err) != snapshot.ReasonArchiveTaken {
		t.Errorf("%v, want ArchiveTaken", err)
	}
	var err error
	if s.chain, err = s.chainOf(t.Context(), "a1"); err != nil {
		t.Fatal(err)
	}
	for i, next := range []snapshot.Segment{first, again} {
		s.next = next
		s.next.Cluster.Name = fmt.Sprintf("later-%d", i)
		if err := s.seal(t.Context()); err != nil {
			t.Errorf("what was there before is taken for another process: %v", err)
		}
	}
}

// A damaged end is passed over, so that what it held is archived again.
func TestArchiveGoesOnBeforeADamagedEnd(t *testing.T) {
	m := &fakeMember{auth: 1, revision: func() int64 { return 12 }}
	s, _, dir := clocked(t, m)
	s.next.AuthBefore = 2
	for _, revision := range []int64{11, 12} {
		if err := s.add(t.Context(), put(revision)); err != nil {
			t.Fatal(err)
		}
		if err := s.seal(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "p", "c-uid", "archive", "a1", snapshot.LinkOf(*s.tip, nil).Name()[:13]+"*")
	found, err := filepath.Glob(path)
	if err != nil || len(found) != 1 {
		t.Fatalf("%v (%v)", found, err)
	}
	content, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)-1] ^= 1
	if err := os.WriteFile(found[0], content, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := s.chainOf(t.Context(), "a1")
	if err != nil {
		t.Fatal(err)
	}
	tip, _, err := c.tip(t.Context())
	if err != nil || tip == nil || tip.To != 11 || len(c.passed) != 1 {
		t.Errorf("it goes on from %+v (%v)", tip, err)
	}
}

func TestArchiveRecordsLeases(t *testing.T) {
	m := &fakeMember{auth: 1, revision: func() int64 { return 11 }, leases: map[int64]int64{7: 60}}
	s, _, _ := clocked(t, m)
	leases := func() map[int64]int64 {
		t.Helper()
		content, err := s.leaseRecords(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		found := map[int64]int64{}
		for records := bufio.NewReader(bytes.NewReader(content)); ; {
			r, err := readRecord(records)
			if errors.Is(err, io.EOF) {
				return found
			}
			id, ttl, err := r.lease()
			if err != nil {
				t.Fatal(err)
			}
			found[id] = ttl
		}
	}
	if got := leases(); len(got) != 1 || got[7] != 60 {
		t.Errorf("%v, want lease 7 of 60 s", got)
	}
	if got := leases(); len(got) != 0 {
		t.Errorf("%v is recorded again", got)
	}
	delete(m.leases, 7)
	if got := leases(); len(got) != 1 || got[7] != 0 {
		t.Errorf("%v, want that lease 7 is gone", got)
	}
	if got := leases(); len(got) != 0 {
		t.Errorf("%v is told to be gone again", got)
	}
	m.leases[7] = 90
	if got := leases(); len(got) != 1 || got[7] != 90 {
		t.Errorf("%v, want that lease 7 is there again, of 90 s", got)
	}
}

// A revision that etcd leaves out is noticed at once, and one that comes in pieces is whole.
func TestWatchHasNoHole(t *testing.T) {
	event := func(revision int64) *mvccpb.Event { return &mvccpb.Event{Kv: &mvccpb.KeyValue{ModRevision: revision}} }
	w := &watch{last: 10}
	if err := w.take(&pb.WatchResponse{Events: []*mvccpb.Event{event(11), event(12)}, Fragment: true}); err != nil {
		t.Fatal(err)
	}
	if len(w.ready) != 1 {
		t.Errorf("%d revisions are handed out before the last one is whole, want 1", len(w.ready))
	}
	if err := w.take(&pb.WatchResponse{Events: []*mvccpb.Event{event(12), event(13)}}); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(len(w.ready), len(w.ready[1].events)); got != "3 2" {
		t.Errorf("%s, want 3 revisions, the second with 2 events", got)
	}
	for name, events := range map[string][]*mvccpb.Event{"a hole": {event(15)}, "again": {event(13)}, "a hole within": {event(14), event(16)}} {
		w := &watch{last: 13}
		if err := w.take(&pb.WatchResponse{Events: events}); snapshot.ReasonOf(err) != snapshot.ReasonSnapshotBroken {
			t.Errorf("%s: %v, want SnapshotBroken", name, err)
		}
	}
}

func TestRecordsThatAreCutAreSeen(t *testing.T) {
	content, err := appendRecord(nil, recordRevision, time.UnixMilli(1234), &pb.WatchResponse{Header: &pb.ResponseHeader{Revision: 5}, Events: put(5).events})
	if err != nil {
		t.Fatal(err)
	}
	r, err := readRecord(bufio.NewReader(bytes.NewReader(content)))
	if err != nil || r.at.UnixMilli() != 1234 {
		t.Fatalf("%+v (%v)", r, err)
	}
	if revision, events, err := r.revision(); err != nil || revision != 5 || len(events) != 1 {
		t.Errorf("revision %d with %d events (%v)", revision, len(events), err)
	}
	for n := 1; n < len(content); n++ {
		if _, err := readRecord(bufio.NewReader(bytes.NewReader(content[:n]))); !errors.Is(err, errNotRecords) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
}

// A write that does not get its revision, or finds a key that is not as it was, ends the
// replay.
func TestReplayAssertsEveryRevision(t *testing.T) {
	for name, tc := range map[string]struct {
		revision int64
		answer   *pb.TxnResponse
		want     snapshot.Reason
	}{
		"as it was":                       {11, &pb.TxnResponse{Succeeded: true, Header: &pb.ResponseHeader{Revision: 11}}, ""},
		"another revision":                {11, &pb.TxnResponse{Succeeded: true, Header: &pb.ResponseHeader{Revision: 12}}, snapshot.ReasonDiffers},
		"another key":                     {11, &pb.TxnResponse{Succeeded: false, Header: &pb.ResponseHeader{Revision: 10}}, snapshot.ReasonDiffers},
		"another key, and somebody wrote": {11, &pb.TxnResponse{Succeeded: false, Header: &pb.ResponseHeader{Revision: 11}}, snapshot.ReasonDiffers},
		"one is left out":                 {12, &pb.TxnResponse{Succeeded: true, Header: &pb.ResponseHeader{Revision: 12}}, snapshot.ReasonDiffers},
		"one is told again":               {10, &pb.TxnResponse{Succeeded: true, Header: &pb.ResponseHeader{Revision: 10}}, snapshot.ReasonDiffers},
	} {
		t.Run(name, func(t *testing.T) {
			var asked *pb.TxnRequest
			m := &fakeMember{txn: func(r *pb.TxnRequest) *pb.TxnResponse { asked = r; return tc.answer }}
			r := &replay{source: serve(t, m), at: 10}
			err := r.apply(t.Context(), tc.revision, put(tc.revision).events)
			if (err == nil) != (tc.want == "") || (err != nil && snapshot.ReasonOf(err) != tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
			if asked == nil {
				return
			}
			var compared []pb.Compare_CompareTarget
			for _, c := range asked.GetCompare() {
				compared = append(compared, c.GetTarget())
			}
			if !slices.Equal(compared, []pb.Compare_CompareTarget{pb.Compare_VERSION, pb.Compare_CREATE}) || asked.GetCompare()[0].GetVersion() != tc.revision-1 {
				t.Errorf("compared: %v", asked.GetCompare())
			}
		})
	}
}

// A key that was put and deleted in one revision was so by transactions within one. etcd
// refuses both in a flat one, and what the key was before is asked once.
func TestReplayOfAKeyTwice(t *testing.T) {
	deleted := &mvccpb.Event{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: []byte("k"), ModRevision: 11}}
	other := &mvccpb.Event{Kv: &mvccpb.KeyValue{Key: []byte("other"), CreateRevision: 11, ModRevision: 11, Version: 1}}
	twice := again([]*mvccpb.Event{put(11).events[0], deleted, other})
	if len(twice.GetCompare()) != 3 || len(twice.GetSuccess()) != 3 {
		t.Fatalf("%v", twice)
	}
	for _, op := range twice.GetSuccess() {
		if len(op.GetRequestTxn().GetSuccess()) != 1 {
			t.Errorf("not a transaction of its own: %v", op)
		}
	}
	for _, op := range again([]*mvccpb.Event{deleted, other}).GetSuccess() {
		if op.GetRequestTxn() != nil {
			t.Errorf("nested without need: %v", op)
		}
	}
}

// Whoever has lost a right since the base would have it again.
func TestReplayRefusesUsersOfBefore(t *testing.T) {
	m := &fakeMember{auth: 3}
	r := &replay{source: serve(t, m), point: &point{target: Target{Revision: 20}, revision: 20, chain: &chain{clusterID: "a1"}}}
	for auth, want := range map[uint64]snapshot.Reason{6: "", 7: snapshot.ReasonNotArchived, 8: snapshot.ReasonNotArchived} {
		err := r.sameAuth(t.Context(), snapshot.Segment{From: 15, To: 25, AuthBefore: 6, AuthAfter: auth, Last: "x"})
		if (err == nil) != (want == "") || (err != nil && snapshot.ReasonOf(err) != want) {
			t.Errorf("users at revision %d: %v", auth, err)
		}
	}
	if err := r.sameAuth(t.Context(), snapshot.Segment{From: 15, To: 25, AuthAfter: 6}); snapshot.ReasonOf(err) != snapshot.ReasonNotArchived {
		t.Errorf("a segment of before, whose state is counted differently: %v", err)
	}
}

// Who has lost a right after the last write has lost it at a time after that as well: the
// idle segment that says so is on no path, and the base may be exactly at the last write.
func TestReplayToATimeRefusesUsersOfBefore(t *testing.T) {
	m := &fakeMember{auth: 1, revision: func() int64 { return 11 }}
	s, now, _ := clocked(t, m)
	s.next.AuthBefore = 2
	began := *now
	step := func(auth uint64) {
		t.Helper()
		*now, m.auth = now.Add(20*time.Second), auth
		s.mark.revision, s.mark.at = s.last, *now
		if err := s.seal(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.add(t.Context(), put(11)); err != nil {
		t.Fatal(err)
	}
	step(1)
	stored(t, s.Env, 11, snapshot.CompressionNone)
	step(2) // nothing is written
	for seconds, want := range map[time.Duration]snapshot.Reason{15: "", 30: snapshot.ReasonNotArchived} {
		p, err := s.findPoint(t.Context(), Latest, Target{Time: began.Add(seconds * time.Second)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		base := &fakeMember{auth: 1, revision: func() int64 { return 11 }}
		r := &replay{Env: s.Env, source: serve(t, base), point: p, base: 11, ttl: map[int64]int64{}, alive: map[int64]bool{}}
		err = r.run(t.Context(), nil)
		if (err == nil) != (want == "") || (err != nil && snapshot.ReasonOf(err) != want) {
			t.Errorf("after %d s: %v, want %q", seconds, err, want)
		}
	}
}

// Whoever asks for a time that no archive holds is told what each of them does: that of a cluster
// which was just restored holds nothing yet, and is the newest.
func TestATimeThatNoArchiveHolds(t *testing.T) {
	m := &fakeMember{auth: 1, revision: func() int64 { return 11 }}
	s, now, _ := clocked(t, m)
	stored(t, s.Env, 11, snapshot.CompressionNone)
	*now = now.Add(time.Minute)
	if err := s.add(t.Context(), put(12)); err != nil {
		t.Fatal(err)
	}
	s.mark.revision, s.mark.at = 12, *now
	if err := s.seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	restored := stored(t, s.Env, 99, snapshot.CompressionNone)
	restored.Cluster.ID = "a2"
	content, err := restored.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Store.Put(t.Context(), s.Place.Key(restored.ID, snapshot.ManifestObject), content, store.Replace); err != nil {
		t.Fatal(err)
	}
	_, err = s.findPoint(t.Context(), Latest, Target{Time: now.Add(time.Hour)}, nil)
	if snapshot.ReasonOf(err) != snapshot.ReasonNotArchived || strings.Count(err.Error(), " — ") != 2 ||
		!strings.Contains(err.Error(), "the archive of cluster a2 does not hold") || !strings.Contains(err.Error(), "of before it was restored that of cluster a1 revisions ") {
		t.Errorf("it is told %v", err)
	}
}

// Content that is what was stored, and no records, is passed over like any other damage,
// instead of being read again for ever.
func TestArchiveWhoseContentCannotBeRead(t *testing.T) {
	m := &fakeMember{auth: 1, revision: func() int64 { return 11 }}
	s, now, _ := clocked(t, m)
	s.next.AuthBefore = 2
	began := *now
	*now = now.Add(time.Second)
	s.last, s.records = 11, []byte("no records")
	s.mark.revision, s.mark.at = 11, now.Add(time.Second)
	if err := s.seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, err := s.chainOf(t.Context(), "a1")
	if err != nil {
		t.Fatal(err)
	}
	found := make(chan error, 1)
	go func() {
		_, err := c.revisionAt(t.Context(), began.Add(time.Second), nil)
		found <- err
	}()
	select {
	case err := <-found:
		if snapshot.ReasonOf(err) != snapshot.ReasonNotArchived {
			t.Errorf("%v, want NotArchived", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("it is read for ever")
	}
	if len(c.passed) != 1 {
		t.Errorf("%d segments are passed over, want 1", len(c.passed))
	}
}

// A segment that is gone takes its own time with it, and none before.
func TestArchiveIsRestoredToATimeBeforeAMissingSegment(t *testing.T) {
	m := &fakeMember{auth: 1, revision: func() int64 { return 14 }}
	s, now, dir := clocked(t, m)
	s.next.AuthBefore = 2
	began := *now
	for revision := int64(11); revision <= 14; revision++ {
		*now = now.Add(10 * time.Second)
		if err := s.add(t.Context(), put(revision)); err != nil {
			t.Fatal(err)
		}
		s.mark.revision, s.mark.at = revision, *now
		if err := s.seal(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	found, err := filepath.Glob(filepath.Join(dir, "p", "c-uid", "archive", "a1", snapshot.SequencePrefix(3)+"*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%v (%v)", found, err)
	}
	if err := os.Remove(found[0]); err != nil {
		t.Fatal(err)
	}
	c, err := s.chainOf(t.Context(), "a1")
	if err != nil {
		t.Fatal(err)
	}
	for seconds, want := range map[time.Duration]int64{11: 11, 19: 11, 20: 12, 40: 14, 29: 0} {
		got, err := c.revisionAt(t.Context(), began.Add(seconds*time.Second), nil)
		if got.revision != want || (want == 0) != (snapshot.ReasonOf(err) == snapshot.ReasonNotArchived) {
			t.Errorf("after %d s: revision %d (%v), want %d", seconds, got.revision, err, want)
		}
		// Nothing was archived from one revision to the next, and whoever asks for a time
		// between has to see how old what he gets is.
		if changed := began.Add(time.Duration(want-10) * 10 * time.Second); want != 0 && !got.changed.Equal(changed) {
			t.Errorf("after %d s: the last change is told to be of %s, want %s", seconds, got.changed, changed)
		}
	}
}

// What was written while the archive was encrypted stays so: a point on a base of before is
// stored for the recipients of its segments.
func TestReplayOnAPlainBaseIsStoredEncrypted(t *testing.T) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	m := &fakeMember{auth: 1, revision: func() int64 { return 12 }}
	s, now, dir := clocked(t, m)
	base := stored(t, s.Env, 11, snapshot.CompressionNone)
	for revision := int64(11); revision <= 12; revision++ {
		*now = now.Add(10 * time.Second)
		if err := s.add(t.Context(), put(revision)); err != nil {
			t.Fatal(err)
		}
		s.mark.revision, s.mark.at = revision, *now
		if err := s.seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.Recipients, s.RecipientNames = []age.Recipient{identity.Recipient()}, []string{identity.Recipient().String()}
	}
	p, err := s.findPoint(t.Context(), Latest, Target{Revision: 12}, []age.Identity{identity})
	if err != nil {
		t.Fatal(err)
	}
	at := int64(11)
	served := &fakeMember{auth: 1, revision: func() int64 { return at }, txn: func(*pb.TxnRequest) *pb.TxnResponse {
		at++
		return &pb.TxnResponse{Succeeded: true, Header: &pb.ResponseHeader{Revision: at}}
	}}
	r := &replay{Env: s.Env, source: serve(t, served), point: p, base: 11, ttl: map[int64]int64{}, alive: map[int64]bool{}}
	if err := r.run(t.Context(), []age.Identity{identity}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "snapshot.db")
	if err := os.WriteFile(file, fake(1), 0o600); err != nil {
		t.Fatal(err)
	}
	target := *s.Env
	target.Place.ClusterUID = "new"
	point := Rebuild{Name: "n", UID: "new", Namespace: "ns", Cluster: "n", Compression: snapshot.CompressionNone}
	for name, tc := range map[string]struct{ recipients, want []string }{
		"encrypted segments": {r.recipients, []string{identity.Recipient().String()}},
		"no segments":        {nil, nil},
	} {
		point.Name = strings.ReplaceAll(name, " ", "-")
		got, err := target.storePoint(t.Context(), s.Env, point, Replayed{Base: base.Backup(), Revision: 12, Recipients: tc.recipients}, snapshot.Etcd{Version: "3.6.16", Revision: 12, CompactRevision: -1}, file)
		if err != nil || !slices.Equal(got.Recipients, tc.want) {
			t.Fatalf("%s: stored for %v (%v), want %v", name, got.Recipients, err, tc.want)
		}
		content, err := os.ReadFile(filepath.Join(dir, "p", "new", got.ID, snapshot.SnapshotObject))
		if err != nil || bytes.Contains(content, fake(1)[:64]) != (tc.want == nil) {
			t.Errorf("%s: what is stored is plain or not, against its manifest (%v)", name, err)
		}
	}
}

func replayOn(t *testing.T, m *fakeMember, base, target int64) *replay {
	t.Helper()
	e, _ := newEnv(t)
	p := &point{target: Target{Revision: target}, revision: target, chain: &chain{env: e, clusterID: "a1"}}
	return &replay{Env: e, source: serve(t, m), point: p, base: base, ttl: map[int64]int64{}, alive: map[int64]bool{}}
}

func soon(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 300 {
		if is() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error(what)
}

// All leases are kept before the first is asked for, and until the snapshot is taken.
func TestReplayKeepsLeases(t *testing.T) {
	m := &fakeMember{revision: func() int64 { return 11 }, leases: map[int64]int64{7: 2, 8: 2}}
	m.asked = func() {
		soon(t, "one is asked for while another runs out", func() bool { return m.kept(7) > 0 && m.kept(8) > 0 })
	}
	r := replayOn(t, m, 11, 11)
	if err := r.run(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	kept := m.kept(7)
	soon(t, "nobody keeps them any more", func() bool { return m.kept(7) > kept+1 })
}

// The cluster had no room when the base was taken, and had some when it wrote what is
// replayed. Another alarm stays.
func TestReplayOnABaseWithoutRoom(t *testing.T) {
	alarm := func(id uint64, kind pb.AlarmType) *pb.AlarmMember { return &pb.AlarmMember{MemberID: id, Alarm: kind} }
	m := &fakeMember{revision: func() int64 { return 11 }, alarms: []*pb.AlarmMember{
		alarm(1, pb.AlarmType_NOSPACE), alarm(2, pb.AlarmType_NOSPACE), alarm(2, pb.AlarmType_CORRUPT),
	}}
	if err := replayOn(t, m, 11, 11).run(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if len(m.alarms) != 1 || m.alarms[0].GetAlarm() != pb.AlarmType_CORRUPT {
		t.Errorf("%v are left, want the one of corruption", m.alarms)
	}
}

// A base that is damaged is not the end: the one before it is tried, and what was wrong
// with the first is told if none will do.
func TestReplayTriesTheBaseBeforeADamagedOne(t *testing.T) {
	r := replayOn(t, &fakeMember{}, 11, 11)
	var ids []string
	for _, revision := range []int64{10, 9} {
		m := stored(t, r.Env, revision, snapshot.CompressionNone)
		ids, r.point.bases = append(ids, m.ID), append(r.point.bases, m.Backup())
		key := r.Place.Key(m.ID, snapshot.SnapshotObject)
		content, err := r.Store.Get(t.Context(), key, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		content[0] ^= 1
		if err := r.Store.Put(t.Context(), key, content, store.Replace); err != nil {
			t.Fatal(err)
		}
	}
	var log bytes.Buffer
	r.Log = slog.New(slog.NewTextHandler(&log, nil))
	dir := t.TempDir()
	_, err := r.rebuild(t.Context(), r.point, Tools{}, nil, dir, into(filepath.Join(dir, "snapshot.db")))
	if snapshot.ReasonOf(err) != snapshot.ReasonCorrupt || !strings.Contains(err.Error(), ids[0]) || !strings.Contains(log.String(), "id="+ids[1]) {
		t.Errorf("%v, want Corrupt of %s, after %s was tried:\n%s", err, ids[0], ids[1], log.String())
	}
}

// A lease that ran out when etcd began, or before the snapshot was taken, has a revision
// that the cluster never had.
func TestReplayNoticesALeaseThatRanOut(t *testing.T) {
	r := replayOn(t, &fakeMember{revision: func() int64 { return 12 }}, 11, 20)
	var unfit *unfitError
	if err := r.run(t.Context(), nil); snapshot.ReasonOf(err) != snapshot.ReasonDiffers || !errors.As(err, &unfit) {
		t.Errorf("at the beginning: %v, want Differs, of the base", err)
	}
	var revision atomic.Int64
	revision.Store(11)
	m := &fakeMember{revision: revision.Load, opened: func() { revision.Store(12) }}
	r = replayOn(t, m, 11, 11)
	if err := r.run(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := r.save(t.Context(), filepath.Join(t.TempDir(), "snapshot")); snapshot.ReasonOf(err) != snapshot.ReasonDiffers {
		t.Errorf("at the end: %v, want Differs", err)
	}
}

// What is said to be restored is the point, not its base; and no base is taken, however
// late it turns out to be needed, that the etcd to come cannot read.
func TestReplaySaysWhatIsRestored(t *testing.T) {
	e, _ := newEnv(t)
	p := &point{revision: 30}
	for _, revision := range []int64{29, 25, 20} {
		m := stored(t, e, revision, snapshot.CompressionNone)
		p.bases = append(p.bases, m.Backup())
		if revision == 20 {
			continue
		}
		m.Etcd.Version = map[int64]string{29: "3.7.0", 25: "3.4.9"}[revision]
		if err := e.Store.Delete(t.Context(), e.Place.Key(m.ID, snapshot.ManifestObject)); err != nil {
			t.Fatal(err)
		}
		if err := e.seal(t.Context(), &m); err != nil {
			t.Fatal(err)
		}
	}
	m, err := e.usable(t.Context(), p, "3.6.16")
	if err != nil || m.Etcd.Revision != 20 || len(p.bases) != 1 || p.bases[0].ID != m.ID {
		t.Errorf("%+v of %+v (%v)", m, p.bases, err)
	}
	if _, err := e.usable(t.Context(), p, "3.5.35"); snapshot.ReasonOf(err) != snapshot.ReasonIncompatibleVersion {
		t.Errorf("%v, want IncompatibleVersion", err)
	}
	at := time.Date(2026, 3, 29, 11, 59, 0, 0, time.UTC)
	if holds := (Restored{Target: Target{Time: at}.String(), Changed: at.Add(-time.Hour)}).Holds(); !strings.HasSuffix(holds, "archived at 2026-03-29T10:59:00Z") {
		t.Errorf("of a time nobody archived at: %s", holds)
	}
	holds := Restored{Backup: m.Backup(), Target: Target{Revision: 30}.String(), Revision: 30}.Holds()
	if want := "the archive's revision 30, which ends with revision 30, replayed on backup " + m.ID + " of revision 20"; holds != want {
		t.Errorf("%q, want %q", holds, want)
	}
}

// Prune drops the segments that no backup needs, and none that one does.
func TestArchivePruneKeepsWhatABackupNeeds(t *testing.T) {
	m := &fakeMember{auth: 1, revision: func() int64 { return 10 }}
	s, _, dir := clocked(t, m)
	s.next.AuthBefore = 2
	for revision := int64(11); revision <= 20; revision++ {
		if err := s.add(t.Context(), put(revision)); err != nil {
			t.Fatal(err)
		}
		if err := s.seal(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	there := func() int {
		found, err := filepath.Glob(filepath.Join(dir, "p", "c-uid", "archive", "a1", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	prune := func(p Prune) snapshot.Pruned {
		t.Helper()
		p.OrphansAfter = time.Hour
		pruned, warnings, err := s.Prune(t.Context(), p)
		if err != nil || len(warnings) > 0 {
			t.Fatalf("%v %v", warnings, err)
		}
		return pruned
	}
	if prune(Prune{}); there() != 10 {
		t.Errorf("%d of 10 segments are left while the first base is being taken", there())
	}
	stored(t, s.Env, 12, snapshot.CompressionNone)
	newest := stored(t, s.Env, 17, snapshot.CompressionNone)
	policy := snapshot.Policy{Last: 1}
	if pruned := prune(Prune{Policy: policy, Rehearsal: true}); pruned.Segments != 5 || there() != 10 {
		t.Errorf("a rehearsal: %+v, and %d are left", pruned, there())
	}
	if pruned := prune(Prune{Policy: policy}); pruned.Segments != 5 || there() != 5 {
		t.Errorf("%+v, and %d are left, want those from the one before that of %s on", pruned, there(), newest.ID)
	}
	c, err := s.chainOf(t.Context(), "a1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := snapshot.Path(c.links, 17, 20); err != nil {
		t.Error(err)
	}
}

// based is a backup that an archiver took by itself.
func based(t *testing.T, e *Env, revision int64) snapshot.Manifest {
	t.Helper()
	m := stored(t, e, revision, snapshot.CompressionNone)
	if err := e.remove(t.Context(), m.ID); err != nil {
		t.Fatal(err)
	}
	m.ID, m.Name = snapshot.NewID(revision, m.Began, ArchiveBase), ArchiveBase
	if err := e.seal(t.Context(), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// An archive is bounded by time: what goes is what no point since then needs, be it a revision
// or a time at which nothing was written.
func TestArchivePruneKeepsThePointsSince(t *testing.T) {
	at := func(second int) time.Time { return time.Date(2026, 1, 1, 0, 0, second, 0, time.UTC) }
	for name, tc := range map[string]struct {
		since    time.Time
		others   []int64
		want     string
		segments int
	}{
		"no base is of before":               {at(10), nil, "17 14 11", 11},
		"the first is":                       {at(13), nil, "17 14 11", 11},
		"the second is":                      {at(14), nil, "17 14", 9},
		"all are":                            {at(100), nil, "17", 4},
		"an EtcdBackup is not an archiver's": {at(14), []int64{12}, "17 14 12", 11},
		"an EtcdBackup may go any day":       {at(16), []int64{16}, "17 16 14", 9},
	} {
		t.Run(name, func(t *testing.T) {
			s, now, dir := clocked(t, &fakeMember{auth: 1, revision: func() int64 { return 10 }})
			s.next.AuthBefore = 2
			for _, tenths := range []int{110, 120, 130, 140, 150, 160, 164, 167, 170, 175, 180} { // one revision in each whole second
				*now = at(0).Add(time.Duration(tenths) * time.Second / 10)
				if tenths%10 == 0 {
					if err := s.add(t.Context(), put(int64(tenths/10))); err != nil {
						t.Fatal(err)
					}
				}
				s.mark.revision, s.mark.at = s.last, *now
				if err := s.seal(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			for _, revision := range []int64{11, 14, 17} {
				based(t, s.Env, revision)
			}
			for _, revision := range tc.others {
				stored(t, s.Env, revision, snapshot.CompressionNone)
			}
			_, warnings, err := s.Prune(t.Context(), Prune{PointsSince: tc.since, OrphansAfter: time.Hour})
			if err != nil || len(warnings) > 0 {
				t.Fatalf("%v %v", warnings, err)
			}
			if left := revisions(t, s.Env); left != tc.want {
				t.Errorf("left: %s, want %s", left, tc.want)
			}
			found, err := filepath.Glob(filepath.Join(dir, "p", "c-uid", "archive", "a1", "*"))
			if err != nil || len(found) != tc.segments {
				t.Errorf("%d segments are left (%v), want %d: %v", len(found), err, tc.segments, found)
			}
			catalog, err := s.Catalog(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, point := range []Target{{Revision: 18}, {Time: at(18)}, {Time: at(17).Add(time.Second / 2)}, {Time: at(17)}} {
				if _, err := s.pointOf(t.Context(), "a1", catalog.Backups, point, nil); err != nil {
					t.Errorf("%s: %v", point, err)
				}
			}
		})
	}
}

// A base that grows old is followed by another one, so that it can go one day; until that is
// there it goes on to serve.
func TestArchiveTakesAnotherBaseInTime(t *testing.T) {
	for name, tc := range map[string]struct {
		every, age   time.Duration
		users, tried bool
	}{
		"only when there is none":         {0, 1000 * time.Hour, false, false},
		"it is young":                     {time.Hour, 59 * time.Minute, false, false},
		"it is old":                       {time.Hour, time.Hour, false, true},
		"it is old, and an EtcdBackup is": {time.Hour, time.Hour - time.Second, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			s, now, _ := clocked(t, &fakeMember{auth: 1, revision: func() int64 { return 10 }})
			var log bytes.Buffer
			s.Log, s.BaseEvery = slog.New(slog.NewTextHandler(&log, nil)), tc.every
			m := based(t, s.Env, 10)
			if tc.users {
				m = stored(t, s.Env, 12, snapshot.CompressionNone)
			}
			*now = m.Began.Add(tc.age)
			// Nobody answers who could send one.
			found, err := s.base(t.Context(), s.next)
			if err != nil || found.id != m.ID || !found.since.Equal(s.next.BaseSince) {
				t.Errorf("%+v (%v), want %s", found, err, m.ID)
			}
			if tried := strings.Contains(log.String(), "The base grows old"); tried != tc.tried {
				t.Errorf("another one is taken: %t, want %t: %s", tried, tc.tried, log.String())
			}
			if !tc.tried {
				return
			}
			// The store may be asked again soon; etcd is not read by each look.
			for _, again := range []bool{false, true} {
				log.Reset()
				*now = now.Add(renewPause / 2)
				if _, err := s.base(t.Context(), s.next); err != nil {
					t.Fatal(err)
				}
				if tried := strings.Contains(log.String(), "The base grows old"); tried != again {
					t.Errorf("%s later another one is taken: %t, want %t", renewPause/2, tried, again)
				}
			}
		})
	}
}

// An archive of a month is gone on from with its last links in mind; the rest is listed
// only if none of those is sound.
func TestArchiveIsGoneOnFromWithItsEndInMind(t *testing.T) {
	s, _, dir := clocked(t, &fakeMember{auth: 1, revision: func() int64 { return 11 }})
	s.next.AuthBefore = 2
	if err := s.add(t.Context(), put(11)); err != nil {
		t.Fatal(err)
	}
	if err := s.seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	first, sum := *s.tip, s.sum
	archive := filepath.Join(dir, "p", "c-uid", "archive", "a1")
	before := snapshot.Link{Sequence: 1, To: 11, Ended: first.Ended, Sum: sum[:16]}
	const many = 5 * keptLinks
	for i := range int64(many) {
		l := snapshot.Link{Sequence: before.Sequence + 1, From: before.To + 1, To: before.To + 1, Ended: before.Ended.Add(time.Second), Previous: before.Sum, Sum: fmt.Sprintf("%016x", i)}
		if err := os.WriteFile(filepath.Join(archive, l.Name()), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		before = l
	}
	c, err := s.chainOf(t.Context(), "a1")
	if err != nil || len(c.links) != many+1 {
		t.Fatalf("%d links are listed (%v)", len(c.links), err)
	}
	// The last one is sound.
	last := c.links[many-1]
	s.next.Sequence, s.next.From, s.next.BaseRevision = last.Sequence+1, last.To+1, 11
	s.next.Previous = last.Sum + strings.Repeat("0", 48)
	s.records, s.last, s.chain = nil, last.To, c
	if err := s.add(t.Context(), put(last.To+1)); err != nil {
		t.Fatal(err)
	}
	if err := s.seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, tip, _, err := s.endOf(t.Context(), "a1")
	if err != nil || tip == nil || tip.To != last.To+1 || c.gap != nil {
		t.Fatalf("it goes on from %+v, gap %+v (%v)", tip, c.gap, err)
	}
	if len(c.links) < keptLinks || len(c.links) > 2*keptLinks {
		t.Errorf("%d of %d links are kept", len(c.links), many)
	}
	end, err := filepath.Glob(filepath.Join(archive, snapshot.SequencePrefix(tip.Sequence)+"*"))
	if err != nil || len(end) != 2 {
		t.Fatalf("%v (%v)", end, err)
	}
	for _, path := range end {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, tip, _, err = s.endOf(t.Context(), "a1"); err != nil || tip == nil || tip.To != 11 {
		t.Errorf("with a damaged end it goes on from %+v (%v)", tip, err)
	}
}

// What stands in the way is told until something is stored again, and a gap for as long as
// the process lives.
func TestArchiveTellsItsTroubleAndItsGap(t *testing.T) {
	s, _, _ := clocked(t, &fakeMember{auth: 1, revision: func() int64 { return 10 }})
	s.next.AuthBefore = 2
	s.progress.Trouble = snapshot.TroubleOf(snapshot.Fail(snapshot.ReasonStoreUnreachable, nil, "gone — lost — wait"))
	s.tell()
	if p := s.Tracker.Progress().Archive; p.Trouble == nil || p.Trouble.Reason != snapshot.ReasonStoreUnreachable {
		t.Errorf("the trouble is not told: %+v", p)
	}
	if err := s.seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p := s.Tracker.Progress().Archive; p.Trouble != nil || p.Gap != nil {
		t.Errorf("after a segment: %+v", p)
	}
	s.begin(snapshot.Gap{From: 11, To: 20, Reason: snapshot.GapCompacted}, s.Now().UTC())
	if err := s.seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p := s.Tracker.Progress().Archive; p.Gap == nil || p.Gap.To != 20 {
		t.Errorf("the gap is not told: %+v", p)
	}
	if c, _, _, err := s.endOf(t.Context(), "a1"); err != nil || c.gap == nil || *c.gap != (snapshot.Gap{From: 11, To: 20, Reason: snapshot.GapCompacted}) {
		t.Errorf("the next process sees gap %+v (%v)", c.gap, err)
	}
}

// A store that does not answer is told with how far the archive is, at the first request that
// fails and not when the client has given up, and no more once it answers.
func TestArchiveTellsOfAStoreThatDoesNotAnswer(t *testing.T) {
	s, now, _ := clocked(t, &fakeMember{auth: 1, revision: func() int64 { return 11 }})
	var away atomic.Bool
	through, _, _ := served(t, &faults{answered: func(w http.ResponseWriter, _ *http.Request) bool {
		if away.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return away.Load()
	}})
	s.Store, s.Tracker = through.Store, through.Tracker
	told := func() *snapshot.Trouble { return s.Tracker.Progress().Archive.Trouble }
	if err := s.add(t.Context(), put(11)); err != nil {
		t.Fatal(err)
	}
	s.tell()
	away.Store(true)
	*now = now.Add(s.SealEvery)
	ended := make(chan error, 1)
	go func() { ended <- s.seal(t.Context()) }()
	soon(t, "that the store does not answer is told", func() bool { return told() != nil })
	if told() == nil || len(ended) > 0 || told().Reason != snapshot.ReasonStoreUnreachable || !strings.Contains(told().Message, "503") {
		t.Errorf("told %+v, ended %d times", told(), len(ended))
	}
	away.Store(false)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if told() != nil {
		t.Errorf("it answers, and is told to be in trouble: %+v", told())
	}
	// What an answer of the store does not mend, it does not hide.
	s.progress.Trouble = &snapshot.Trouble{Reason: snapshot.ReasonEtcdUnreachable}
	s.tell()
	s.Tracker.Asked(snapshot.Fail(snapshot.ReasonStoreUnreachable, nil, "gone — lost — wait"))
	s.Tracker.Asked(nil)
	if told() == nil || told().Reason != snapshot.ReasonEtcdUnreachable {
		t.Errorf("that etcd does not answer is forgotten: %+v", told())
	}
}

// A store that did not answer is asked again soon, though there is nothing to store: an idle
// cluster would be told not to be archived until the next look for its base.
func TestArchiveAsksAStoreAgainThatDidNotAnswer(t *testing.T) {
	s, now, _ := clocked(t, &fakeMember{auth: 1, revision: func() int64 { return 10 }})
	s.next.Previous, s.checked = "before", *now
	s.hasBase(foundBase{since: s.next.BaseSince, id: "b"})
	s.Tracker.Asked(errors.New("gone"))
	asked := func(after time.Duration) bool {
		*now = now.Add(after)
		s.tell()
		select {
		case <-s.want:
			return true
		default:
			return false
		}
	}
	if asked(time.Second) || !asked(basePause) || asked(time.Second) {
		t.Error("it is asked at once, or not at all")
	}
	s.Tracker.Asked(nil)
	if asked(basePause) {
		t.Error("it is asked though it has answered")
	}
	// Of a directory nothing is told but what became of an attempt.
	s.Tracker.failed(1, errors.New("gone"), 0)
	if err := s.resume(t.Context()); err != nil || s.Tracker.Progress().Trouble != nil {
		t.Errorf("it was read, and is told to be in trouble: %+v (%v)", s.Tracker.Progress().Trouble, err)
	}
}

// Segments that somebody deletes are missed: what they held is told to be lost, and a new base
// is asked for, of which the next process knows as well.
func TestArchiveMissesItsSegments(t *testing.T) {
	for name, tc := range map[string]struct {
		gone func(sequence int64) bool
		at   time.Duration
		lost *snapshot.Gap
	}{
		"all are there":    {func(int64) bool { return false }, 2 * trailCheck, nil},
		"one of them":      {func(n int64) bool { return n == 3 }, 2 * trailCheck, &snapshot.Gap{From: 12, To: 12, Reason: snapshot.GapLost}},
		"the first two":    {func(n int64) bool { return n < 3 }, 2 * trailCheck, &snapshot.Gap{From: 11, To: 11, Reason: snapshot.GapLost}},
		"the last":         {func(n int64) bool { return n == 4 }, baseCheck, &snapshot.Gap{From: 13, To: 13, Reason: snapshot.GapLost}},
		"all":              {func(int64) bool { return true }, baseCheck, &snapshot.Gap{From: 11, To: 13, Reason: snapshot.GapLost}},
		"not looked again": {func(n int64) bool { return n == 3 }, baseCheck, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s, now, _ := clocked(t, &fakeMember{auth: 1, revision: func() int64 { return 13 }})
			s.next.AuthBefore = 2
			stored(t, s.Env, 10, snapshot.CompressionNone)
			for revision := int64(10); revision <= 13; revision++ { // the first says that it begins
				if revision > 10 {
					*now = now.Add(time.Second)
					if err := s.add(t.Context(), put(revision)); err != nil {
						t.Fatal(err)
					}
				}
				if err := s.seal(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			look := func() {
				t.Helper()
				found, err := s.base(t.Context(), s.next)
				if err != nil {
					t.Fatal(err)
				}
				s.hasBase(found)
				s.tell()
			}
			if look(); s.progress.BaseMissing || s.progress.Lost != nil {
				t.Fatalf("before anything is gone: %+v", s.progress)
			}
			objects, err := s.Store.List(t.Context(), s.Place.ArchiveDirectory("a1"))
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range objects {
				if _, l, _ := s.Place.ParseSegment(o.Key); tc.gone(l.Sequence) {
					if err := s.Store.Delete(t.Context(), o.Key); err != nil {
						t.Fatal(err)
					}
				}
			}
			*now = now.Add(tc.at)
			look()
			told := s.Tracker.Progress().Archive
			if tc.lost == nil {
				if told.Lost != nil || !s.next.BaseSince.Equal(s.tip.BaseSince) {
					t.Errorf("told lost: %+v", told.Lost)
				}
				return
			}
			if told.Lost == nil || *told.Lost != *tc.lost || !told.BaseMissing {
				t.Errorf("told %+v, lost %+v, want %+v", told, told.Lost, tc.lost)
			}
			if err := s.beat(t.Context()); err != nil {
				t.Fatal(err)
			}
			if !s.tip.BaseSince.Equal(*now) || s.tip.BaseRevision != 13 {
				t.Errorf("the next process would go on from the base of before: %+v", s.tip)
			}
		})
	}
}

// An archive that has not one segment, and a base that an archiver took, has had some.
func TestArchiveThatBeginsAgainTellsWhatIsLost(t *testing.T) {
	e, _ := newEnv(t)
	for _, tc := range []struct {
		cluster, uid string
		latest       int64
		want         *snapshot.Gap
	}{
		{"a1", "", 30, &snapshot.Gap{From: 11, To: 30, Reason: snapshot.GapLost}},
		{"a1", "", 10, nil},
		{"b2", "", 30, nil},
		{"a1", "of-an-EtcdBackup", 30, nil},
	} {
		if got, err := e.lostBefore(t.Context(), tc.cluster, tc.latest); err != nil || got != nil {
			t.Errorf("before there is a base: %+v (%v)", got, err)
		}
		m := stored(t, e, 10, snapshot.CompressionNone)
		if err := e.remove(t.Context(), m.ID); err != nil {
			t.Fatal(err)
		}
		m.ID, m.Name, m.UID = snapshot.NewID(10, m.Began, ArchiveBase), ArchiveBase, tc.uid
		if err := e.seal(t.Context(), &m); err != nil {
			t.Fatal(err)
		}
		got, err := e.lostBefore(t.Context(), tc.cluster, tc.latest)
		if err != nil || (got == nil) != (tc.want == nil) || (got != nil && *got != *tc.want) {
			t.Errorf("%s at %d: %+v (%v), want %+v", tc.cluster, tc.latest, got, err, tc.want)
		}
		if err := e.remove(t.Context(), m.ID); err != nil {
			t.Fatal(err)
		}
	}
}

// From which bases the end of an archive is restored no more: none for a moment's reason, and
// those that a drill has refused are tried last.
func TestReplayRefusesBases(t *testing.T) {
	fail := func(reason snapshot.Reason, cause error) error { return snapshot.Fail(reason, cause, "x — y — z") }
	backups := []snapshot.Backup{{ID: "late", ClusterID: "a1", Revision: 30}, {ID: "bad", ClusterID: "a1", Revision: 20, Unfit: true}, {ID: "good", ClusterID: "a1", Revision: 10}, {ID: "other", ClusterID: "b2", Revision: 5}}
	for name, tc := range map[string]struct {
		err  error
		want int
	}{
		"no way from any":        {fail(snapshot.ReasonNotArchived, errors.New("torn")), 2},
		"another version":        {fail(snapshot.ReasonIncompatibleVersion, nil), 2},
		"not caught up yet":      {fail(snapshot.ReasonNotArchived, fmt.Errorf("all: %w", errBeyond)), 0},
		"the store is away":      {fail(snapshot.ReasonStoreUnreachable, nil), 0},
		"no key for the archive": {fail(snapshot.ReasonKeyMissing, nil), 0},
		"it differs":             {fail(snapshot.ReasonDiffers, nil), 0},
	} {
		if got := ofNone(tc.err, "a1", 25, backups); len(got) != tc.want {
			t.Errorf("%s: %v are refused, want %d", name, got, tc.want)
		}
	}
	if got := refusedLast(backups[:3]); got[0].ID != "late" || got[1].ID != "good" || got[2].ID != "bad" {
		t.Errorf("tried in the order %v", got)
	}
	if slow, is := errors.AsType[*unfitError](ofBase(fail(snapshot.ReasonEtcdUnreachable, nil))); !is || slow.lasting {
		t.Errorf("a base that is not served in time: %+v, want another one to be tried, and none refused", slow)
	}
	for reason, lasting := range map[snapshot.Reason]bool{snapshot.ReasonCorrupt: true, snapshot.ReasonNotRestorable: true, snapshot.ReasonStoreUnreachable: false, snapshot.ReasonKeyMissing: false} {
		unfit, is := errors.AsType[*unfitError](ofBase(fail(reason, nil)))
		if is != lasting || (is && !unfit.lasting) {
			t.Errorf("%s: refused %t, want %t", reason, is, lasting)
		}
	}
}

// That the store cannot be asked says nothing of a base that was there.
func TestArchiveKeepsItsBaseWhileTheStoreIsAway(t *testing.T) {
	s, _, _ := clocked(t, &fakeMember{auth: 1, revision: func() int64 { return 10 }})
	s.hasBase(foundBase{since: s.next.BaseSince, id: "b"})
	s.hasBase(foundBase{trouble: &snapshot.Trouble{Reason: snapshot.ReasonStoreUnreachable}})
	if s.tell(); s.progress.BaseMissing || s.progress.Base != "b" || s.progress.BaseTrouble == nil {
		t.Errorf("the base is told to be missing: %+v", s.progress)
	}
	s.hasBase(foundBase{})
	if s.tell(); !s.progress.BaseMissing || s.progress.Base != "" || s.progress.BaseTrouble == nil {
		t.Errorf("the base is not told to be missing, or why: %+v", s.progress)
	}
	s.hasBase(foundBase{since: s.next.BaseSince, id: "c"})
	if s.tell(); s.progress.BaseMissing || s.progress.Base != "c" || s.progress.BaseTrouble != nil {
		t.Errorf("the new base is not told of: %+v", s.progress)
	}
}

// An archive is good only if what was put together from it is the live cluster's, key for
// key and revision for revision.
func TestArchiveDrillCompares(t *testing.T) {
	live := snapshot.Etcd{Revision: 20, CompactRevision: 15, KeyCount: 3, HashKV: 7}
	for name, tc := range map[string]struct {
		m    *fakeMember
		want snapshot.Reason
	}{
		"the same":                 {&fakeMember{count: 3, hash: 7, compactedAt: 4}, ""},
		"other keys":               {&fakeMember{count: 2, hash: 7, compactedAt: 4}, snapshot.ReasonDiffers},
		"other revisions":          {&fakeMember{count: 3, hash: 8, compactedAt: 4}, snapshot.ReasonDiffers},
		"compacted further":        {&fakeMember{count: 3, hash: 8, compactedAt: 16}, snapshot.ReasonCompacted},
		"compacted further, alike": {&fakeMember{count: 3, hash: 7, compactedAt: 16}, snapshot.ReasonCompacted},
	} {
		m := tc.m
		m.revision = func() int64 { return 20 }
		err := replayOn(t, m, 11, 20).compare(t.Context(), live)
		if (err == nil) != (tc.want == "") || (err != nil && snapshot.ReasonOf(err) != tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}
