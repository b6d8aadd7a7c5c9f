package v3client

import (
	"context"
	"errors"
	"math"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/pki"
	"github.com/quorate/quorate/test/freeport"
)

// server is a member that answers as it is told.
type server struct {
	pb.UnimplementedClusterServer
	pb.UnimplementedMaintenanceServer

	mu       sync.Mutex
	calls    int
	answer   func(ctx context.Context) error
	requests []*pb.MemberListRequest
	grpc     *grpc.Server
	address  string
}

func (s *server) serve(ctx context.Context) error {
	s.mu.Lock()
	s.calls++
	answer := s.answer
	s.mu.Unlock()
	if answer == nil {
		return nil
	}
	return answer(ctx)
}

func (s *server) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

func (s *server) MemberAdd(ctx context.Context, _ *pb.MemberAddRequest) (*pb.MemberAddResponse, error) {
	return &pb.MemberAddResponse{Member: &pb.Member{ID: 7, IsLearner: true}}, s.serve(ctx)
}

func (s *server) MemberList(ctx context.Context, r *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	s.mu.Lock()
	s.requests = append(s.requests, r)
	s.mu.Unlock()
	return &pb.MemberListResponse{Header: &pb.ResponseHeader{ClusterId: 1, MemberId: 2, RaftTerm: 3}}, s.serve(ctx)
}

func (s *server) Status(ctx context.Context, _ *pb.StatusRequest) (*pb.StatusResponse, error) {
	return &pb.StatusResponse{Version: "3.6.16"}, s.serve(ctx)
}

func newServer(t *testing.T) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{grpc: grpc.NewServer(), address: l.Addr().String()}
	pb.RegisterClusterServer(s.grpc, s)
	pb.RegisterMaintenanceServer(s.grpc, s)
	go func() { _ = s.grpc.Serve(l) }()
	t.Cleanup(s.grpc.Stop)
	return s
}

func dial(t *testing.T, p *Pool, address string, as etcd.Credentials) etcd.Conn {
	t.Helper()
	c, err := p.Dial("uid", etcd.Endpoint{Address: address, ServerName: "c-0000.c.ns.svc"}, as)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newPool(t *testing.T) *Pool {
	p := NewPool()
	t.Cleanup(p.Close)
	return p
}

func TestErrorsAreExplained(t *testing.T) {
	cases := map[string]struct {
		answer      error
		want        error
		wantUnknown bool
	}{
		"peer URL listed":       {rpctypes.ErrGRPCPeerURLExist, etcd.ErrPeerURLExists, false},
		"member ID listed":      {rpctypes.ErrGRPCMemberExist, etcd.ErrPeerURLExists, false},
		"member not listed":     {rpctypes.ErrGRPCMemberNotFound, etcd.ErrMemberNotFound, false},
		"second learner":        {rpctypes.ErrGRPCTooManyLearners, etcd.ErrTooManyLearners, false},
		"unhealthy":             {rpctypes.ErrGRPCUnhealthy, etcd.ErrUnhealthyCluster, false},
		"learner behind":        {rpctypes.ErrGRPCLearnerNotReady, etcd.ErrLearnerNotReady, false},
		"no learner":            {rpctypes.ErrGRPCMemberNotLearner, etcd.ErrNotLearner, false},
		"too few would remain":  {rpctypes.ErrGRPCMemberNotEnoughStarted, etcd.ErrNotStarted, false},
		"no space":              {rpctypes.ErrGRPCNoSpace, etcd.ErrNoSpace, false},
		"not the leader":        {rpctypes.ErrGRPCNotLeader, etcd.ErrNotLeader, false},
		"a learner":             {rpctypes.ErrGRPCNotSupportedForLearner, etcd.ErrLearner, false},
		"a learner, older code": {status.Error(codes.Unavailable, "etcdserver: rpc not supported for learner"), etcd.ErrLearner, false},
		"not root":              {rpctypes.ErrGRPCPermissionDenied, etcd.ErrPermission, false},
		"no leader":             {rpctypes.ErrGRPCNoLeader, etcd.ErrNoLeader, true},
		"leader changed":        {rpctypes.ErrGRPCLeaderChanged, etcd.ErrNoLeader, true},
		"timed out":             {rpctypes.ErrGRPCTimeout, etcd.ErrNoLeader, true},
		"leader failed":         {rpctypes.ErrGRPCTimeoutDueToLeaderFail, etcd.ErrNoLeader, true},
		"stopping":              {rpctypes.ErrGRPCStopped, etcd.ErrUnreachable, true},
		"something else":        {status.Error(codes.Internal, "etcdserver: applying failed"), nil, true},
	}
	s, p := newServer(t), newPool(t)
	c := dial(t, p, s.address, etcd.Credentials{})
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s.mu.Lock()
			s.answer = func(context.Context) error { return tc.answer }
			s.mu.Unlock()
			_, err := c.AddLearner(t.Context(), "https://c-0001:2380")
			if tc.want != nil && !errors.Is(err, tc.want) {
				t.Errorf("%v, want %v", err, tc.want)
			}
			if errors.Is(err, etcd.ErrOutcomeUnknown) != tc.wantUnknown {
				t.Errorf("outcome unknown is wanted %v: %v", tc.wantUnknown, err)
			}
			if status.Code(err) != status.Code(tc.answer) || !strings.Contains(err.Error(), s.address) {
				t.Errorf("the original is not wrapped, or the address missing: %v", err)
			}
			if _, err := c.Members(t.Context()); errors.Is(err, etcd.ErrOutcomeUnknown) {
				t.Errorf("a read has no unknown outcome: %v", err)
			}
		})
	}
}

func TestMembershipChangeIsSentOnceWhenTheConnectionBreaks(t *testing.T) {
	s, p := newServer(t), newPool(t)
	s.answer = func(context.Context) error {
		// The member dies with the call in hand.
		go s.grpc.Stop()
		<-time.After(100 * time.Millisecond)
		return rpctypes.ErrGRPCStopped
	}
	_, err := dial(t, p, s.address, etcd.Credentials{}).AddLearner(t.Context(), "https://c-0001:2380")
	if !errors.Is(err, etcd.ErrOutcomeUnknown) || !errors.Is(err, etcd.ErrUnreachable) {
		t.Errorf("%v", err)
	}
	if n := s.count(); n != 1 {
		t.Errorf("sent %d times", n)
	}
}

func TestMembershipChangeIsSentOnceWhenTheMemberIsUnavailable(t *testing.T) {
	s, p := newServer(t), newPool(t)
	s.answer = func(context.Context) error { return rpctypes.ErrGRPCLeaderChanged }
	_, err := dial(t, p, s.address, etcd.Credentials{}).AddLearner(t.Context(), "https://c-0001:2380")
	if !errors.Is(err, etcd.ErrOutcomeUnknown) || s.count() != 1 {
		t.Errorf("sent %d times: %v", s.count(), err)
	}
}

func TestTimeouts(t *testing.T) {
	s, p := newServer(t), newPool(t)
	s.answer = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	c := dial(t, p, s.address, etcd.Credentials{})
	began := time.Now()
	_, err := c.Status(t.Context())
	if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, etcd.ErrNoLeader) || took < statusTimeout || took > statusTimeout+10*time.Second {
		t.Errorf("after %v: %v", took, err)
	}
	// Which of the timeouts it was, however late the machine is.
	if !strings.Contains(err.Error(), "no answer within 2s") {
		t.Errorf("the cause is not told: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("lease lost")
	cancel(cause)
	if _, err := c.AddLearner(ctx, "x"); !errors.Is(err, cause) || !errors.Is(err, etcd.ErrOutcomeUnknown) {
		t.Errorf("canceled: %v", err)
	}
}

func TestNobodyListensIsUnreachableAtOnce(t *testing.T) {
	address := freeport.Address(t)
	soonest(t, time.Second, func() {
		_, err := dial(t, newPool(t), address, etcd.Credentials{}).Status(t.Context())
		if !errors.Is(err, etcd.ErrUnreachable) {
			t.Errorf("%v", err)
		}
	})
}

// soonest wants the best of a few tries to be over in time: a machine may stand still in one.
func soonest(t *testing.T, within time.Duration, try func()) {
	t.Helper()
	best := time.Duration(math.MaxInt64)
	for range 5 {
		began := time.Now()
		try()
		if best = min(best, time.Since(began)); best <= within {
			return
		}
	}
	t.Errorf("at the best of five it took %s, want at most %s", best, within)
}

// unserved takes connections and closes them, as a port does behind which nobody serves, and
// tells when each came.
func unserved(t *testing.T, address string) (*net.TCPListener, <-chan time.Time) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	attempts := make(chan time.Time, 1000)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			attempts <- time.Now()
			_ = c.Close()
		}
	}()
	return l.(*net.TCPListener), attempts
}

func TestAMemberThatAppearsIsSeenWithinTheBackoff(t *testing.T) {
	address := freeport.Address(t)
	c := dial(t, newPool(t), address, etcd.Credentials{})
	before, attempts := unserved(t, address)
	// gRPC's own pauses would be two seconds and more by the eighth.
	const enough = 11
	for deadline := time.Now().Add(time.Minute); len(attempts) < enough; <-time.After(20 * time.Millisecond) {
		if _, err := c.Status(t.Context()); err == nil {
			t.Fatal("nobody serves, and it answers")
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d attempts within a minute", len(attempts))
		}
	}
	last, pauses := <-attempts, []time.Duration(nil)
	for range enough - 1 {
		next := <-attempts
		last, pauses = next, append(pauses, next.Sub(last))
	}
	// A machine that stands still makes a pause longer, and none shorter.
	if shortest := slices.Min(pauses[7:]); shortest > lastBackoff*13/10 {
		t.Errorf("it waits for %s at least: %s", shortest, pauses)
	}
	_ = before.Close()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{grpc: grpc.NewServer()}
	pb.RegisterMaintenanceServer(s.grpc, s)
	go func() { _ = s.grpc.Serve(l) }()
	defer s.grpc.Stop()
	for deadline := time.Now().Add(30 * time.Second); ; <-time.After(20 * time.Millisecond) {
		if _, err = c.Status(t.Context()); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it is not seen: %v", err)
		}
	}
}

func TestMembersAsksLinearizably(t *testing.T) {
	s, p := newServer(t), newPool(t)
	got, err := dial(t, p, s.address, etcd.Credentials{}).Members(t.Context())
	if err != nil || got.ClusterID != 1 || got.MemberID != 2 || got.Term != 3 {
		t.Errorf("%+v: %v", got, err)
	}
	if len(s.requests) != 1 || !s.requests[0].GetLinearizable() {
		t.Errorf("asked %v", s.requests)
	}
}

// credentials of one cluster, issued twice.
func issued(t *testing.T) (first, second etcd.Credentials) {
	t.Helper()
	in := pki.Inputs{Cluster: "c", Namespace: "ns", Authorities: pki.AuthorityMayBeCreated, Secrets: map[string]map[string][]byte{}}
	var both []etcd.Credentials
	for range 2 {
		for _, s := range pki.Plan(time.Now(), in).Create {
			in.Secrets[s.Name] = s.Data
		}
		as, err := pki.OperatorCredentials(in.Secrets[pki.OperatorSecret("c")])
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, as)
		delete(in.Secrets, pki.OperatorSecret("c"))
	}
	return both[0], both[1]
}

// nobody is there, ever.
const nobody = "192.0.2.1:2379"

func TestPool(t *testing.T) {
	first, second := issued(t)
	// Whoever waits for the network does so for two seconds.
	soonest(t, time.Second, func() { exchange(t, first, second) })
	p := newPool(t)
	for name, as := range map[string]etcd.Credentials{
		"garbage for a certificate": {CA: first.CA, Certificate: []byte("CANARY"), Key: first.Key},
		"garbage for a key":         {CA: first.CA, Certificate: first.Certificate, Key: []byte("-----BEGIN CANARY-----")},
		"garbage for an authority":  {CA: []byte("CANARY"), Certificate: first.Certificate, Key: first.Key},
		"half of them":              {CA: first.CA},
	} {
		if _, err := p.Dial("uid", etcd.Endpoint{Address: nobody, ServerName: "x"}, as); !errors.Is(err, etcd.ErrCredentials) || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := p.Dial("uid", etcd.Endpoint{Address: nobody, Plaintext: true}, first); err != nil {
		t.Errorf("a member that takes plaintext alone: %v", err)
	}
	if _, err := p.Dial("uid", etcd.Endpoint{Address: nobody}, first); !errors.Is(err, etcd.ErrCredentials) {
		t.Errorf("no server name to verify: %v", err)
	}
}

// exchange has connections replaced and dropped, none of which is made.
func exchange(t *testing.T, first, second etcd.Credentials) {
	t.Helper()
	p := newPool(t)
	linkOf := func(c etcd.Conn) *link { return c.(*conn).link }
	a, again := dial(t, p, nobody, first), dial(t, p, nobody, etcd.Credentials{
		CA: slices.Clone(first.CA), Certificate: slices.Clone(first.Certificate), Key: slices.Clone(first.Key),
	})
	if linkOf(a) != linkOf(again) {
		t.Error("equal credentials made a second connection")
	}
	b := dial(t, p, nobody, second)
	if linkOf(a) == linkOf(b) || !linkOf(a).retired || linkOf(b).retired {
		t.Error("other credentials did not replace the connection")
	}
	if _, err := a.Status(t.Context()); !errors.Is(err, etcd.ErrUnreachable) || !errors.Is(err, errClosed) {
		t.Errorf("a call on the former connection: %v", err)
	}
	other := dial(t, p, "192.0.2.2:2379", second)
	if linkOf(other).as != linkOf(b).as {
		t.Error("the same credentials are kept twice")
	}
	p.Keep("uid", etcd.Endpoint{Address: nobody, ServerName: "c-0000.c.ns.svc"})
	p.Keep("another")
	if linkOf(b).retired || !linkOf(other).retired {
		t.Error("Keep kept the wrong connection")
	}
	p.Keep("uid")
	if !linkOf(b).retired || len(p.groups) != 0 {
		t.Error("Keep without endpoints left a connection")
	}
}

func TestCallsInFlightEndBeforeTheirConnectionIsClosed(t *testing.T) {
	s, p := newServer(t), newPool(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	s.answer = func(context.Context) error { close(entered); <-leave; return nil }
	c := dial(t, p, s.address, etcd.Credentials{})
	done := make(chan error)
	go func() { _, err := c.Status(context.Background()); done <- err }()
	<-entered
	p.Keep("uid")
	if _, err := c.Members(t.Context()); !errors.Is(err, errClosed) {
		t.Errorf("a new call on a dropped connection: %v", err)
	}
	if state := c.(*conn).link.grpc.GetState(); state != connectivity.Ready {
		t.Errorf("with a call in flight the connection is %v", state)
	}
	close(leave)
	if err := <-done; err != nil {
		t.Errorf("the call in flight: %v", err)
	}
	if state := c.(*conn).link.grpc.GetState(); state != connectivity.Shutdown {
		t.Errorf("after the last call the connection is %v", state)
	}
}

func TestNoGoroutineIsLeft(t *testing.T) {
	s := newServer(t)
	before := runtime.NumGoroutine()
	p := NewPool()
	for i := range 20 {
		c := dial(t, p, s.address, etcd.Credentials{})
		if _, err := c.Status(t.Context()); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			p.Keep("uid")
		}
	}
	p.Close()
	for range 200 {
		if runtime.NumGoroutine() <= before {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines before, %d after", before, runtime.NumGoroutine())
}
