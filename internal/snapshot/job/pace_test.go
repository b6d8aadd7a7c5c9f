package job

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/internal/snapshot/store"
)

// large is a member with some data, that takes its time to hash it.
type large struct {
	peer

	content []byte
	sent    atomic.Int64
	// meanwhile is how much had been sent when the hash was there.
	meanwhile atomic.Int64
	// refuses to hash what was compacted.
	refuses bool
	// alone: it takes its time, whatever was sent.
	alone bool
}

// hashes is for how long a member does.
const hashes = 2500 * time.Millisecond

func (l *large) Snapshot(_ *pb.SnapshotRequest, stream grpc.ServerStreamingServer[pb.SnapshotResponse]) error {
	sum := sha256.Sum256(l.content)
	for rest := append(bytes.Clone(l.content), sum[:]...); len(rest) > 0; {
		n := min(32<<10, len(rest))
		remaining := max(0, len(rest)-n-len(sum))
		if err := stream.Send(&pb.SnapshotResponse{Blob: rest[:n], RemainingBytes: uint64(remaining)}); err != nil { //nolint:gosec // not negative
			return fmt.Errorf("sending: %w", err)
		}
		l.sent.Add(int64(n))
		rest = rest[n:]
	}
	return nil
}

func (l *large) HashKV(context.Context, *pb.HashKVRequest) (*pb.HashKVResponse, error) {
	if l.refuses {
		return nil, rpctypes.ErrGRPCCompacted
	}
	// Whoever reads on meanwhile is not waited for.
	for until := time.Now().Add(hashes); time.Now().Before(until) && (l.alone || l.sent.Load() < 2*window); {
		time.Sleep(time.Millisecond)
	}
	l.meanwhile.Store(l.sent.Load())
	return &pb.HashKVResponse{Header: l.header(), Hash: 7, CompactRevision: 3}, nil
}

// connect to the member.
func (l *large) connect(t *testing.T) *source {
	t.Helper()
	conn, err := Members{}.connect(l.endpoint(t, l))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &source{conn: conn}
}

// A member applies nothing while it hashes. It is over twice as soon if it is not busy with
// the snapshot as well.
func TestSourceIsLeftAloneWhileItHashes(t *testing.T) {
	t.Parallel()
	for _, rate := range []int64{0, 1 << 30} {
		e, _ := newEnv(t)
		l := &large{peer: peer{id: 2}, content: bytes.Repeat([]byte("0123456789abcdef"), 512<<10)}
		m := snapshot.Manifest{ID: "b", Etcd: snapshot.Etcd{Revision: 9}}
		if err := e.transfer(t.Context(), Save{Rate: rate, Compression: snapshot.CompressionNone}, l.connect(t), &m, 1); err != nil {
			t.Fatalf("at rate %d: %v", rate, err)
		}
		if m.Etcd.HashKV != 7 || m.Etcd.CompactRevision != 3 || m.Plain.Bytes != int64(len(l.content)+sha256.Size) {
			t.Errorf("at rate %d: %+v", rate, m)
		}
		// Beyond what is on its way there are the buffers of both sides.
		if alone := l.meanwhile.Load() < 2*window; alone != (rate > 0) {
			t.Errorf("at rate %d the member had sent %d of %d bytes when it had hashed", rate, l.meanwhile.Load(), len(l.content))
		}
	}
}

// Hashing takes its time, in which nothing moves, and a member that cannot hash is not worth an
// upload.
func TestSourceMayHashForLong(t *testing.T) {
	t.Parallel()
	for _, rate := range []int64{0, 1 << 30} {
		e, dir := newEnv(t)
		e.Stall = time.Second // it is seen after twice as long at most
		l := &large{peer: peer{id: 2}, content: bytes.Repeat([]byte{1}, 1<<20), alone: true}
		m := snapshot.Manifest{ID: "b", Etcd: snapshot.Etcd{Revision: 9}}
		from := l.connect(t)
		save := func(ctx context.Context, attempt int) error {
			return e.transfer(ctx, Save{Rate: rate, Compression: snapshot.CompressionNone}, from, &m, attempt)
		}
		if err := e.watched(t.Context(), 1, save); err != nil {
			t.Errorf("at rate %d: %v", rate, err)
		}
		m.ID, l.refuses = "c", true
		err := e.watched(t.Context(), 2, save)
		_, stored := os.Stat(filepath.Join(dir, "p", "c-uid", "c", "snapshot"))
		if snapshot.ReasonOf(err) != snapshot.ReasonCompacted || (rate > 0) != os.IsNotExist(stored) {
			t.Errorf("at rate %d what was compacted ends with %v, and stored is %v", rate, err, stored)
		}
	}
}

// A store that is read from as fast as it can takes the processors that the members need.
func TestReadingBackKeepsTheRate(t *testing.T) {
	t.Parallel()
	e, _ := newEnv(t)
	const promised = 16 << 20 // docs/backup.md
	content := bytes.Repeat([]byte{1}, promised/2)
	m := snapshot.Manifest{ID: "b", Stored: snapshot.ContentOf(content)}
	if err := e.Store.Put(t.Context(), e.Place.Key(m.ID, snapshot.SnapshotObject), content, store.Replace); err != nil {
		t.Fatal(err)
	}
	for limit, least := range map[int64]time.Duration{0: 0, 1: 450 * time.Millisecond, promised: 450 * time.Millisecond} {
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := e.readBack(ctx, m, 1, limit); err != nil {
			t.Fatalf("at rate %d: %v", limit, err)
		}
		if took := time.Since(began); took < least {
			t.Errorf("%d bytes were read back in %s at %d a second, want at least %s", len(content), took, limit, least)
		}
	}
}
