package job

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/quorate/quorate/internal/snapshot"
)

const (
	// askTimeout outlives an election.
	askTimeout = 5 * time.Second
	// hashTimeout: etcd reads its whole database for a hash.
	hashTimeout = 10 * time.Minute
)

// Members are the cluster to back up.
type Members struct {
	// Endpoints are client URLs.
	Endpoints []string
	// ClusterID that the members must have, in hexadecimal.
	ClusterID string
	// CA, Certificate and Key are files in PEM, for endpoints of https. A renewed
	// certificate is used by the next attempt.
	CA, Certificate, Key string
}

// source is the member that a snapshot comes from.
type source struct {
	conn     *grpc.ClientConn
	endpoint string
	status   *pb.StatusResponse
	name     string
}

func (s *source) close() {
	// Closing has nothing to say but that it was closed before.
	_ = s.conn.Close()
}

// kv is every key, for a count.
func kv(revision int64) *pb.RangeRequest {
	return &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, CountOnly: true, Revision: revision}
}

// window is how far etcd may be ahead of what was taken from it, in bytes. With gRPC's 64 KiB
// it wakes up for every few packets, which costs its writers more than the bytes do.
const window = 1 << 20

// connect dials one member.
func (m Members) connect(endpoint string) (*grpc.ClientConn, error) {
	parsed, err := url.Parse(endpoint)
	if err != nil || parsed.Host == "" || (parsed.Scheme != "http" && parsed.Scheme != "https") {
		return nil, snapshot.Fail(snapshot.ReasonUsage, err, "the endpoint is %q — no member can be asked — give client URLs, such as https://a.example:2379", endpoint)
	}
	security := insecure.NewCredentials()
	if parsed.Scheme == "https" {
		if security, err = m.transport(); err != nil {
			return nil, err
		}
	}
	return grpc.NewClient("dns:///"+parsed.Host,
		grpc.WithTransportCredentials(security), grpc.WithDisableServiceConfig(), grpc.WithNoProxy(), grpc.WithUserAgent("quorate-backup"),
		grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(window),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	)
}

func (m Members) transport() (credentials.TransportCredentials, error) {
	unusable := func(what string) error {
		return snapshot.Fail(snapshot.ReasonEtcdDenied, nil, "%s cannot be used — etcd asks for a client certificate — check the Secret that is mounted", what)
	}
	pair, err := tls.LoadX509KeyPair(m.Certificate, m.Key)
	if err != nil {
		// The parser's words could quote the key.
		return nil, unusable(fmt.Sprintf("%s and %s", m.Certificate, m.Key))
	}
	roots := x509.NewCertPool()
	authority, err := os.ReadFile(m.CA)
	if err != nil || !roots.AppendCertsFromPEM(authority) {
		return nil, unusable(m.CA)
	}
	return credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, MinVersion: tls.VersionTLS12}), nil
}

// choose finds the member to take the snapshot from: one that a linearizable read
// goes through, and better not the leader, because etcd holds back its writes for
// as long as it hashes.
func (m Members) choose(ctx context.Context) (*source, error) {
	var candidates []*source
	var errs []error
	defer func() {
		for _, c := range candidates {
			c.close()
		}
	}()
	for _, endpoint := range m.Endpoints {
		conn, err := m.connect(endpoint)
		if err != nil {
			return nil, err
		}
		candidate := &source{conn: conn, endpoint: endpoint}
		candidates = append(candidates, candidate)
		if err := m.ask(ctx, candidate); err != nil {
			errs = append(errs, err)
		}
	}
	slices.SortStableFunc(candidates, func(a, b *source) int {
		return cmp.Or(cmp.Compare(leads(a), leads(b)), cmp.Compare(b.status.GetRaftAppliedIndex(), a.status.GetRaftAppliedIndex()))
	})
	for i, candidate := range candidates {
		if candidate.status == nil {
			continue
		}
		err := candidate.confirm(ctx)
		if err == nil {
			candidates = slices.Delete(candidates, i, i+1)
			return candidate, nil
		}
		errs = append(errs, err)
	}
	return nil, unreachable(errs)
}

// leads sorts leaders last.
func leads(s *source) int {
	if s.status.GetLeader() == s.status.GetHeader().GetMemberId() {
		return 1
	}
	return 0
}

// unreachable keeps the gravest of the errors: one that trying again does not mend.
func unreachable(errs []error) error {
	for _, err := range errs {
		if snapshot.ReasonOf(err).Permanent() {
			return err
		}
	}
	return snapshot.Fail(snapshot.ReasonEtcdUnreachable, errors.Join(errs...),
		"no member confirmed with a majority what is the latest: %v — a snapshot could lack acknowledged writes — see why the cluster does not serve, or cannot be reached", errors.Join(errs...))
}

// ask fills in the member's status if it is a voter of the right cluster.
func (m Members) ask(ctx context.Context, s *source) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	r, err := pb.NewMaintenanceClient(s.conn).Status(ctx, &pb.StatusRequest{})
	if err != nil {
		return fmt.Errorf("%s: %w", s.endpoint, explainEtcd(err))
	}
	if id := strconv.FormatUint(r.GetHeader().GetClusterId(), 16); m.ClusterID != "" && id != strings.TrimLeft(strings.ToLower(m.ClusterID), "0") {
		return snapshot.Fail(snapshot.ReasonWrongCluster, nil,
			"%s belongs to cluster %s, not %s — its data would be kept under another's name — check the endpoints", s.endpoint, id, m.ClusterID)
	}
	if r.GetIsLearner() {
		return fmt.Errorf("%s: a learner", s.endpoint)
	}
	s.status = r
	return nil
}

// confirm has the member confirm with a majority that it is one of them, and learns
// its name.
func (s *source) confirm(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	list, err := pb.NewClusterClient(s.conn).MemberList(ctx, &pb.MemberListRequest{Linearizable: true})
	if err != nil {
		return fmt.Errorf("%s: %w", s.endpoint, explainEtcd(err))
	}
	for _, member := range list.GetMembers() {
		if member.GetID() == list.GetHeader().GetMemberId() {
			s.name = member.GetName()
		}
	}
	return nil
}

// explainEtcd gives etcd's refusals their reason.
func explainEtcd(err error) error {
	said := status.Convert(err)
	switch {
	case said.Code() == codes.PermissionDenied, said.Code() == codes.Unauthenticated,
		said.Code() == codes.InvalidArgument && strings.Contains(said.Message(), "user name is empty"):
		return snapshot.Fail(snapshot.ReasonEtcdDenied, err,
			"etcd says: %s — only root may take a snapshot while authentication is on — use a certificate whose common name is root's", said.Message())
	case said.Code() == codes.OutOfRange && strings.Contains(said.Message(), "compacted"):
		return snapshot.Fail(snapshot.ReasonCompacted, err,
			"etcd says: %s — the snapshot could not be compared with the cluster — compact less often if it stays", said.Message())
	case said.Code() == codes.Canceled || said.Code() == codes.DeadlineExceeded:
		return snapshot.Fail(snapshot.ReasonEtcdUnreachable, err, "etcd did not answer in time — there is no snapshot — see whether it serves, and the way to it")
	default:
		return snapshot.Fail(snapshot.ReasonEtcdUnreachable, err, "etcd says: %s — there is no snapshot — see whether it serves, and the way to it", said.Message())
	}
}

// latest is a linearizable read: the revision and how many keys there are at it.
func (s *source) latest(ctx context.Context) (revision, keys int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	r, err := pb.NewKVClient(s.conn).Range(ctx, kv(0))
	if err != nil {
		return 0, 0, explainEtcd(err)
	}
	return r.GetHeader().GetRevision(), r.GetCount(), nil
}

// hashed is etcd's hash of all revisions from compacted to the one asked for.
type hashed struct {
	hash      uint32
	compacted int64
}

// hashAt is etcd's hash of what is left of all revisions up to one, for whom it need not be kept
// once it has begun. When etcd has compacted to that very one, as it does where nobody has written
// since, it answers with what it had hashed while it compacted: of what was there before, which
// nobody who has the data now can repeat. It hashes anew whoever asks for the latest revision,
// without naming it.
func hashAt(ctx context.Context, conn *grpc.ClientConn, revision int64) (hashed, error) {
	ctx, cancel := context.WithTimeout(ctx, hashTimeout)
	defer cancel()
	got, _, err := askHash(ctx, conn, revision)
	if err != nil || got.compacted == revision {
		return got, err
	}
	remembered, err := remembers(ctx, conn, revision)
	if err != nil || !remembered {
		return got, err
	}
	latest, at, err := askHash(ctx, conn, 0)
	switch {
	case err != nil:
		return hashed{}, err
	case at == revision:
		return latest, nil
	case revision == 1:
		return got, nil
	default:
		return hashed{}, snapshot.Fail(snapshot.ReasonCompacted, nil,
			"etcd has compacted to revision %d, and is at %d — what it hashed before cannot be compared with what is left — take a new backup", revision, at)
	}
}

// remembers says that a member may have answered with what it had hashed before. It cannot hash
// what it has compacted: if it has, and still answers, it remembers. The first revision has none
// before it that could be asked for.
func remembers(ctx context.Context, conn *grpc.ClientConn, revision int64) (bool, error) {
	if revision <= 1 {
		return true, nil
	}
	before := kv(revision - 1)
	before.Serializable = true // it is about this member alone
	_, err := pb.NewKVClient(conn).Range(ctx, before)
	if err == nil {
		return false, nil
	}
	if explained := explainEtcd(err); snapshot.ReasonOf(explained) != snapshot.ReasonCompacted {
		return false, explained
	}
	// It was compacted before the hash, or meanwhile, which does the hash no harm.
	again, _, err := askHash(ctx, conn, revision)
	if snapshot.ReasonOf(err) == snapshot.ReasonCompacted {
		return false, nil
	}
	return again.compacted != revision, err
}

// askHash asks for the hash at a revision, or at the latest for zero, and which one is the latest.
func askHash(ctx context.Context, conn *grpc.ClientConn, revision int64) (h hashed, latest int64, err error) {
	r, err := pb.NewMaintenanceClient(conn).HashKV(ctx, &pb.HashKVRequest{Revision: revision})
	if err != nil {
		return hashed{}, 0, explainEtcd(err)
	}
	return hashed{hash: r.GetHash(), compacted: r.GetCompactRevision()}, r.GetHeader().GetRevision(), nil
}

// stream is etcd's snapshot.
type stream struct {
	remaining parts
	// total is the size of the database, without the checksum that follows.
	total          int64
	storageVersion string
	current        *part
	received       int64
}

// open asks for the snapshot and returns once its first bytes are there: from then
// on it is fixed what it holds.
func (s *source) open(ctx context.Context) (*stream, error) {
	incoming, err := snapshotOf(ctx, s.conn)
	if err != nil {
		return nil, explainEtcd(err)
	}
	first, err := incoming.Recv()
	if err != nil {
		return nil, explainEtcd(err)
	}
	total := int64(first.remaining) + int64(first.bytes)
	return &stream{remaining: incoming, total: total, storageVersion: majorMinor(first.version), current: first}, nil
}

// majorMinor is "3.6" of "3.6.0".
func majorMinor(version string) string {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return ""
	}
	return parts[0] + "." + parts[1]
}

// Read returns io.EOF when etcd has ended the stream, however much it has sent.
func (s *stream) Read(p []byte) (int, error) {
	for s.current.bytes == 0 {
		s.current.release()
		next, err := s.remaining.Recv()
		if errors.Is(err, io.EOF) {
			return 0, io.EOF
		}
		if err != nil {
			return 0, explainEtcd(err)
		}
		s.current = next
	}
	n, err := s.current.Read(p)
	s.received += int64(n)
	return n, err
}
