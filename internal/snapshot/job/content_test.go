package job

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/age"
	"google.golang.org/grpc/mem"

	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/internal/snapshot/store"
)

// fake is what etcd would send: whole pages and their checksum.
func fake(pages int) []byte {
	content := bytes.Repeat([]byte("0123456789abcdef"), 32*pages)
	sum := sha256.Sum256(content)
	return append(content, sum[:]...)
}

func newEnv(t *testing.T) (*Env, string) {
	t.Helper()
	dir := t.TempDir()
	opened, err := store.Open(t.Context(), store.Config{URL: "file://" + dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = opened.Close() })
	return &Env{
		Store: opened, Place: snapshot.Place{Prefix: "p", ClusterUID: "c-uid"}, Attempts: 1, Tracker: &Tracker{},
		Log: slog.New(slog.DiscardHandler), Now: time.Now,
	}, dir
}

// stored puts a backup of fake content into the place.
func stored(t *testing.T, e *Env, revision int64, compression snapshot.Compression, recipients ...age.Recipient) snapshot.Manifest {
	t.Helper()
	began := time.Date(2026, 1, 1, 0, 0, int(revision), 0, time.UTC)
	m := snapshot.Manifest{
		Format: snapshot.Format, ID: snapshot.NewID(revision, began, "b"), Name: "b",
		Cluster:     snapshot.Cluster{UID: e.Place.ClusterUID, ID: "a1", Namespace: "ns", Name: "c"},
		Etcd:        snapshot.Etcd{Version: "3.6.16", Revision: revision, CompactRevision: -1},
		Compression: compression, Began: began, Ended: began.Add(time.Second),
	}
	for _, r := range recipients {
		m.Recipients = append(m.Recipients, r.(fmt.Stringer).String())
	}
	content := fake(1)
	incoming := &stream{current: partOf(content), total: int64(len(content) - sha256.Size), remaining: ended{}}
	if err := e.upload(t.Context(), Save{Compression: compression, Recipients: recipients}, incoming, incoming, &m); err != nil {
		t.Fatal(err)
	}
	if err := e.seal(t.Context(), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// ended is the end of etcd's stream.
type ended struct{}

func (ended) Recv() (*part, error) { return nil, io.EOF }

func partOf(content []byte) *part {
	return &part{bytes: len(content), blob: mem.BufferSlice{mem.SliceBuffer(content)}.Reader()}
}

func TestSealedIsIndifferentToTheSizesOfWrites(t *testing.T) {
	content := fake(3)
	sum := sha256.Sum256(content)
	random := rand.New(rand.NewPCG(1, 1))
	for range 500 {
		s := newSealed()
		for rest := content; len(rest) > 0; {
			n := min(len(rest), random.IntN(100))
			if n2, err := s.Write(rest[:n]); n2 != n || err != nil {
				t.Fatal(n2, err)
			}
			rest = rest[n:]
		}
		got, err := s.finish()
		if err != nil || got.Bytes != int64(len(content)) || got.SHA256 != hex.EncodeToString(sum[:]) {
			t.Fatalf("%+v, %v", got, err)
		}
	}
}

func TestSealedSeesWhatWasCutOrChanged(t *testing.T) {
	content := fake(1)
	for n := range content {
		s := newSealed()
		_, _ = s.Write(content[:n])
		if _, err := s.finish(); !errors.Is(err, errUnsealed) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
		changed := bytes.Clone(content)
		changed[n] ^= 4
		s = newSealed()
		_, _ = s.Write(changed)
		if _, err := s.finish(); !errors.Is(err, errUnsealed) {
			t.Fatalf("byte %d changed: %v", n, err)
		}
	}
}

// Every byte of every object is changed, and every object is cut at every place and
// made longer: none of it is ever taken for the backup.
func TestAnyChangedByteOfAnyObjectIsSeen(t *testing.T) {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		compression snapshot.Compression
		recipients  []age.Recipient
	}{
		"plain":                    {snapshot.CompressionNone, nil},
		"compressed":               {snapshot.CompressionZstd, nil},
		"encrypted":                {snapshot.CompressionNone, []age.Recipient{key.Recipient()}},
		"compressed and encrypted": {snapshot.CompressionZstd, []age.Recipient{key.Recipient()}},
	} {
		t.Run(name, func(t *testing.T) {
			e, dir := newEnv(t)
			id := stored(t, e, 7, tc.compression, tc.recipients...).ID
			whole := func() error {
				path := filepath.Join(t.TempDir(), "snapshot.db")
				m, err := e.find(t.Context(), id)
				if err == nil {
					err = e.fetch(t.Context(), m, []age.Identity{key}, path)
				}
				if _, statErr := os.Stat(path); err != nil && statErr == nil {
					t.Fatal("a file is left after an error")
				}
				return err
			}
			if err := whole(); err != nil {
				t.Fatal(err)
			}
			for _, object := range []string{snapshot.SnapshotObject, snapshot.ManifestObject} {
				damageEverywhere(t, filepath.Join(dir, e.Place.Key(id, object)), whole)
			}
			if err := whole(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func damageEverywhere(t *testing.T, path string, whole func() error) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	try := func(damaged []byte, what string, at int) {
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := whole(); snapshot.ReasonOf(err) != snapshot.ReasonCorrupt {
			t.Fatalf("%s, %s at %d: %v, want Corrupt", filepath.Base(path), what, at, err)
		}
	}
	random := rand.New(rand.NewPCG(uint64(len(content)), 0))
	for i := range content {
		damaged := bytes.Clone(content)
		damaged[i] ^= byte(1 + random.IntN(255))
		try(damaged, "changed", i)
	}
	for i := 0; i < len(content); i += 1 + random.IntN(5) {
		try(content[:i], "cut", i)
	}
	try(append(bytes.Clone(content), 'x'), "longer", len(content))
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// What etcd sends short, long or wrong is never stored.
func TestABrokenStreamLeavesNothing(t *testing.T) {
	content := fake(1)
	for name, tc := range map[string]struct {
		sent  []byte
		total int
	}{
		"short":              {content[:300], 512},
		"without checksum":   {content[:512], 512},
		"another checksum":   {append(bytes.Clone(content[:512]), make([]byte, 32)...), 512},
		"less than was said": {content, 1024},
	} {
		t.Run(name, func(t *testing.T) {
			e, dir := newEnv(t)
			m := snapshot.Manifest{ID: snapshot.NewID(1, time.Now(), "b"), Compression: snapshot.CompressionNone}
			incoming := &stream{current: partOf(tc.sent), total: int64(tc.total), remaining: ended{}}
			err := e.upload(t.Context(), Save{Compression: snapshot.CompressionNone}, incoming, incoming, &m)
			if snapshot.ReasonOf(err) != snapshot.ReasonSnapshotBroken {
				t.Errorf("%v, want SnapshotBroken", err)
			}
			if left, err := filepath.Glob(filepath.Join(dir, "p", "c-uid", "*", "*")); err != nil || len(left) > 0 {
				t.Errorf("left: %v (%v)", left, err)
			}
		})
	}
}

func TestCompatible(t *testing.T) {
	for _, tc := range []struct {
		taken, target string
		want          snapshot.Reason
	}{
		{"3.5.35", "3.5.26", ""},
		{"3.5.35", "3.6.16", ""},
		{"3.6.16", "3.7.3", ""},
		{"3.7.3", "3.6.16", snapshot.ReasonIncompatibleVersion},
		{"3.5.35", "3.7.3", snapshot.ReasonIncompatibleVersion},
		{"3.10.0", "3.9.0", snapshot.ReasonIncompatibleVersion},
		{"3.6.16", "latest", snapshot.ReasonUsage},
		{"4.0.0", "3.6.16", snapshot.ReasonUsage},
	} {
		err := compatible(snapshot.Manifest{Etcd: snapshot.Etcd{Version: tc.taken}}, tc.target)
		if (err == nil) != (tc.want == "") || (err != nil && snapshot.ReasonOf(err) != tc.want) {
			t.Errorf("%s into %s: %v, want %q", tc.taken, tc.target, err, tc.want)
		}
	}
}

func TestTryGivesUpWhenItIsOfNoUse(t *testing.T) {
	for reason, want := range map[snapshot.Reason]int{
		snapshot.ReasonAccessDenied: 1, snapshot.ReasonStoreUnreachable: 3, snapshot.ReasonCorrupt: 3, snapshot.ReasonDiffers: 1,
	} {
		synctest.Test(t, func(t *testing.T) {
			e := &Env{Attempts: 3, Pause: time.Hour, Tracker: &Tracker{}, Log: slog.New(slog.DiscardHandler)}
			tried := 0
			err := e.try(t.Context(), func(context.Context, int) error {
				tried++
				return snapshot.Fail(reason, nil, "a — b — c")
			})
			if tried != want || snapshot.ReasonOf(err) != reason {
				t.Errorf("%s: tried %d times, want %d; %v", reason, tried, want, err)
			}
		})
	}
}

// A peer that keeps the connection open and sends nothing would be waited for without
// end.
func TestTryEndsWhenNothingMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &Env{Attempts: 1, Tracker: &Tracker{}, Log: slog.New(slog.DiscardHandler)}
		began := time.Now()
		err := e.try(t.Context(), func(ctx context.Context, _ int) error {
			for range 10 { // slow, but it moves
				time.Sleep(stallTimeout / 2)
				e.Tracker.read(1)
			}
			<-ctx.Done()
			return ctx.Err()
		})
		if !errors.Is(err, errStalled) && snapshot.ReasonOf(err) != snapshot.ReasonStoreUnreachable {
			t.Errorf("%v, want stalled", err)
		}
		if took := time.Since(began); took < 6*stallTimeout || took > 8*stallTimeout {
			t.Errorf("given up after %s", took)
		}
	})
}

func TestProgressIsServed(t *testing.T) {
	tracker := &Tracker{}
	tracker.enter(snapshot.PhaseSaving, 2, 100)
	_, _ = io.Copy(io.Discard, tracker.reader(strings.NewReader("12345")))
	tracker.sent(3)
	recorder := httptest.NewRecorder()
	tracker.ServeHTTP(recorder, nil)
	var got snapshot.Progress
	if err := json.Unmarshal(recorder.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if want := (snapshot.Progress{Phase: snapshot.PhaseSaving, Attempt: 2, TotalBytes: 100, BytesRead: 5, BytesSent: 3}); got != want {
		t.Errorf("progress %+v, want %+v", got, want)
	}
}
