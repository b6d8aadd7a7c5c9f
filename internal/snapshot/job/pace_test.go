package job

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
	// compacts what it has sent to its end.
	compacts bool
}

// hashing is for how long a member does.
const hashing = 2500 * time.Millisecond

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
	if l.refuses || l.compacts && l.sent.Load() >= int64(len(l.content)) {
		return nil, rpctypes.ErrGRPCCompacted
	}
	// Whoever reads on meanwhile is not waited for.
	for until := time.Now().Add(hashing); time.Now().Before(until) && (l.alone || l.sent.Load() < 2*window); {
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

// A member applies nothing while it hashes, which is over soonest when it has just read its pages
// for the snapshot, and takes twice as long while it sends.
func TestSourceIsLeftAloneWhileItHashes(t *testing.T) {
	t.Parallel()
	content := bytes.Repeat([]byte("0123456789abcdef"), 512<<10)
	whole := int64(len(content) + sha256.Size)
	for name, tc := range map[string]struct {
		rate        int64
		attempt     int
		least, most int64
	}{
		// Beyond what is on its way there are the buffers of both sides.
		"without a limit, meanwhile":     {0, 1, 2 * window, whole},
		"at a limit, afterwards":         {1 << 30, 1, whole, whole},
		"what was compacted, beforehand": {1 << 30, 2, 0, 2 * window},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, _ := newEnv(t)
			l := &large{peer: peer{id: 2}, content: content}
			m := snapshot.Manifest{ID: "b", Etcd: snapshot.Etcd{Revision: 9}}
			if err := e.transfer(t.Context(), Save{Rate: tc.rate, Compression: snapshot.CompressionNone}, l.connect(t), &m, tc.attempt); err != nil {
				t.Fatal(err)
			}
			if m.Etcd.HashKV != 7 || m.Etcd.CompactRevision != 3 || m.Plain.Bytes != whole {
				t.Errorf("%+v", m)
			}
			if sent := l.meanwhile.Load(); sent < tc.least || sent > tc.most {
				t.Errorf("the member had sent %d of %d bytes when it had hashed, want %d to %d", sent, whole, tc.least, tc.most)
			}
		})
	}
}

// What takes longer to be sent than a revision is sure to be kept is hashed before.
func TestSourceHashesWhatTakesLongBeforehand(t *testing.T) {
	t.Parallel()
	const rate = 8 << 20
	for total, want := range map[int64]when{1: afterwards, 2 << 30: afterwards, rate * 270: afterwards, rate*270 + 1<<20: beforehand, 8 << 30: beforehand} {
		if got := hashes(rate, total, 1); got != want {
			t.Errorf("%d bytes at %d a second: %d, want %d", total, rate, got, want)
		}
	}
}

// A revision that was compacted while the snapshot was sent is not lost for good: the second
// attempt hashes first.
func TestSourceHashesWhatWasCompactedBeforehand(t *testing.T) {
	t.Parallel()
	e, _ := newEnv(t)
	e.Attempts, e.Pause = 2, time.Millisecond
	l := &large{peer: peer{id: 2}, content: bytes.Repeat([]byte{1}, 8<<20), compacts: true}
	m := snapshot.Manifest{ID: "b", Etcd: snapshot.Etcd{Revision: 9}}
	from := l.connect(t)
	var failed []snapshot.Reason
	err := e.try(t.Context(), func(ctx context.Context, attempt int) error {
		l.sent.Store(0)
		err := e.transfer(ctx, Save{Rate: 1 << 30, Compression: snapshot.CompressionNone}, from, &m, attempt)
		if err != nil {
			failed = append(failed, snapshot.ReasonOf(err))
		}
		return err
	})
	if err != nil || !slices.Equal(failed, []snapshot.Reason{snapshot.ReasonCompacted}) || m.Etcd.HashKV != 7 {
		t.Errorf("%v after %v: %+v", err, failed, m)
	}
}

// Hashing takes its time, in which nothing moves, and a member that cannot hash is not worth a
// second upload.
func TestSourceMayHashForLong(t *testing.T) {
	t.Parallel()
	for name, rate := range map[string]int64{"meanwhile": 0, "afterwards": 1 << 30, "beforehand": 1 << 30} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, dir := newEnv(t)
			e.Stall = time.Second // it is seen after twice as long at most
			l := &large{peer: peer{id: 2}, content: bytes.Repeat([]byte{1}, 1<<20), alone: true}
			m := snapshot.Manifest{ID: "b", Etcd: snapshot.Etcd{Revision: 9}}
			from, attempt := l.connect(t), 1
			if name == "beforehand" {
				attempt = 2
			}
			save := func(ctx context.Context, attempt int) error {
				return e.transfer(ctx, Save{Rate: rate, Compression: snapshot.CompressionNone}, from, &m, attempt)
			}
			if err := e.watched(t.Context(), attempt, save); err != nil {
				t.Error(err)
			}
			m.ID, l.refuses = "c", true
			err := e.watched(t.Context(), attempt, save)
			_, stored := os.Stat(filepath.Join(dir, "p", "c-uid", "c", "snapshot"))
			if snapshot.ReasonOf(err) != snapshot.ReasonCompacted || (attempt > 1) != os.IsNotExist(stored) {
				t.Errorf("what was compacted ends with %v, and stored is %v", err, stored)
			}
		})
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
