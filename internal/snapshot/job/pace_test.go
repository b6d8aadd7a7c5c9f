package job

import (
	"bytes"
	"cmp"
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
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

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
	// hashes is for how long it does; zero for hashing.
	hashes time.Duration
	// compacts what it has sent to its end.
	compacts bool
	// asked is how often it was to hash, and silent how often it is not to answer.
	asked, silent atomic.Int64
	// code of the answer that is none.
	code codes.Code
}

// hashing is for how long a member does, unless it says otherwise.
const hashing = 2500 * time.Millisecond

func (l *large) Snapshot(_ *pb.SnapshotRequest, stream grpc.ServerStreamingServer[pb.SnapshotResponse]) error {
	sum := sha256.Sum256(l.content)
	l.sent.Store(0)
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
	l.asked.Add(1)
	if l.silent.Add(-1) >= 0 {
		return nil, status.Error(l.code, "starting")
	}
	if l.refuses || l.compacts && l.sent.Load() >= int64(len(l.content)) {
		return nil, rpctypes.ErrGRPCCompacted
	}
	// Whoever reads on meanwhile is not waited for.
	for until := time.Now().Add(cmp.Or(l.hashes, hashing)); time.Now().Before(until) && (l.alone || l.sent.Load() < 2*window); {
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
		save        Save
		history     time.Duration
		least, most int64
	}{
		// Beyond what is on its way there are the buffers of both sides.
		"without a limit, meanwhile":               {Save{}, 0, 2 * window, whole},
		"at a limit, when it was sent":             {Save{Rate: 1 << 30}, 0, whole, whole},
		"what would be compacted, before":          {Save{Rate: 1 << 30, hashFirst: true}, 0, 0, 2 * window},
		"what takes long, before it was compacted": {Save{Rate: 16 << 20}, 100 * time.Millisecond, 1 << 20, 3*window + 2<<20},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, _ := newEnv(t)
			e.history = tc.history
			l := &large{peer: peer{id: 2}, content: content, alone: tc.save.Rate > 0}
			m := snapshot.Manifest{ID: "b", Etcd: snapshot.Etcd{Revision: 9}}
			tc.save.Compression = snapshot.CompressionNone
			if err := e.transfer(t.Context(), tc.save, l.connect(t), &m, 1); err != nil {
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

// A revision that was compacted while the snapshot was sent is not lost for good: the next
// attempt hashes first, and so does the only one.
func TestSourceHashesFirstWhatWasCompacted(t *testing.T) {
	t.Parallel()
	for attempts, asked := range map[int]int64{1: 1, 3: 2} {
		e, _ := newEnv(t)
		e.Attempts, e.Pause = attempts, time.Millisecond
		l := &large{peer: peer{cluster: 0xc1, id: 2}, content: bytes.Repeat([]byte{1}, 8<<20), compacts: true}
		m, err := e.Save(t.Context(), Save{
			Members: Members{Endpoints: []string{l.endpoint(t, l)}}, Name: "b", Namespace: "ns", Cluster: "c", Rate: 1 << 30, Compression: snapshot.CompressionNone,
		})
		if err != nil || m.Etcd.HashKV != 7 || l.asked.Load() != asked {
			t.Errorf("of %d attempts: %v after %d hashes, want %d: %+v", attempts, err, l.asked.Load(), asked, m)
		}
	}
}

// A member that cannot be reached for a moment, just when it is to hash, has sent nothing in vain.
// One that is too slow goes on hashing, and is not asked to hash once more.
func TestSourceIsAskedAgainToHash(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		silent, asked int64
		code          codes.Code
		want          snapshot.Reason
	}{
		"away twice":         {2, 3, codes.Unavailable, ""},
		"away three times":   {3, 3, codes.Unavailable, snapshot.ReasonEtcdUnreachable},
		"too slow just once": {1, 1, codes.DeadlineExceeded, snapshot.ReasonEtcdUnreachable},
	} {
		e, _ := newEnv(t)
		e.Pause = time.Millisecond
		l := &large{peer: peer{id: 2}, content: bytes.Repeat([]byte{1}, 1<<20), code: tc.code}
		l.silent.Store(tc.silent)
		m := snapshot.Manifest{ID: "b", Etcd: snapshot.Etcd{Revision: 9}}
		err := e.transfer(t.Context(), Save{Rate: 1 << 30, Compression: snapshot.CompressionNone}, l.connect(t), &m, 1)
		if l.asked.Load() != tc.asked || (err == nil) != (tc.want == "") || err != nil && snapshot.ReasonOf(err) != tc.want {
			t.Errorf("%s: %v after %d hashes, want %s after %d", name, err, l.asked.Load(), tc.want, tc.asked)
		}
	}
}

// Hashing takes its time, in which nothing moves, and what cannot be hashed at first is not worth
// an upload.
func TestSourceMayHashForLong(t *testing.T) {
	t.Parallel()
	for name, save := range map[string]Save{
		"meanwhile": {}, "when it was sent": {Rate: 1 << 30}, "before": {Rate: 1 << 30, hashFirst: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, dir := newEnv(t)
			e.Stall = 1500 * time.Millisecond // it is seen after twice as long at most
			l := &large{peer: peer{id: 2}, content: bytes.Repeat([]byte{1}, 1<<20), alone: true, hashes: 2*e.Stall + 500*time.Millisecond}
			m := snapshot.Manifest{ID: "b", Etcd: snapshot.Etcd{Revision: 9}}
			from := l.connect(t)
			save.Compression = snapshot.CompressionNone
			work := func(ctx context.Context, attempt int) error { return e.transfer(ctx, save, from, &m, attempt) }
			if err := e.watched(t.Context(), 1, work); err != nil {
				t.Error(err)
			}
			m.ID, l.refuses = "c", true
			err := e.watched(t.Context(), 1, work)
			_, stored := os.Stat(filepath.Join(dir, "p", "c-uid", "c", "snapshot"))
			if snapshot.ReasonOf(err) != snapshot.ReasonCompacted || (save.Rate > 0) != os.IsNotExist(stored) {
				t.Errorf("what was compacted ends with %v, and stored is %v", err, stored)
			}
		})
	}
}

// A store that is read from as fast as it can takes the processors and the disk that the members
// need, be it to read a backup back or to try it out.
func TestReadingFromTheStoreKeepsTheRate(t *testing.T) {
	t.Parallel()
	e, _ := newEnv(t)
	const promised = 16 << 20 // docs/backup.md
	content := bytes.Repeat([]byte{1}, promised/2)
	m := snapshot.Manifest{ID: "b", Stored: snapshot.ContentOf(content), Compression: snapshot.CompressionNone}
	if err := e.Store.Put(t.Context(), e.Place.Key(m.ID, snapshot.SnapshotObject), content, store.Replace); err != nil {
		t.Fatal(err)
	}
	reads := map[string]func(ctx context.Context, limit int64) error{
		"read back": func(ctx context.Context, limit int64) error { return e.readBack(ctx, m, 1, limit) },
		"downloaded": func(ctx context.Context, limit int64) error {
			e.ReadRate = limit
			// That these bytes are no snapshot is found at their end.
			if err := e.fetchOnce(ctx, m, nil, filepath.Join(t.TempDir(), "db")); snapshot.ReasonOf(err) != snapshot.ReasonCorrupt {
				return err
			}
			return nil
		},
	}
	for how, read := range reads {
		for limit, least := range map[int64]time.Duration{0: 0, 1: 450 * time.Millisecond, promised: 450 * time.Millisecond} {
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := read(ctx, limit); err != nil {
				t.Fatalf("%s at rate %d: %v", how, limit, err)
			}
			if took := time.Since(began); took < least {
				t.Errorf("%d bytes were %s in %s at %d a second, want at least %s", len(content), how, took, limit, least)
			}
		}
	}
}
