package job

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/internal/snapshot/store"
)

// A save removes what processes have left that were killed long ago, and nothing that somebody
// may be working on: nobody else does where no retention deletes anything.
func TestPruneByASave(t *testing.T) {
	t.Parallel()
	e, dir := newEnv(t)
	long := time.Now().Add(-snapshot.OrphansAfter - time.Hour)
	orphan := func(revision int64, at time.Time) string {
		id := snapshot.NewID(revision, at, "other")
		if err := e.Store.Put(t.Context(), e.Place.Key(id, snapshot.SnapshotObject), []byte("half"), store.Create); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.FromSlash(e.Place.Key(id, snapshot.SnapshotObject)))
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
		return path
	}
	old, fresh := orphan(1, long), orphan(2, time.Now())
	l := &large{peer: peer{cluster: 0xc1, id: 2}, content: bytes.Repeat([]byte{1}, 1<<20), alone: true}
	m, err := e.Save(t.Context(), Save{
		Members: Members{Endpoints: []string{l.endpoint(t, l)}}, Name: "b", Namespace: "ns", Cluster: "c", Rate: 1 << 30, Compression: snapshot.CompressionNone,
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{old: false, fresh: true, filepath.Join(dir, filepath.FromSlash(e.Place.Key(m.ID, snapshot.SnapshotObject))): true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: %v; want it there: %v", path, err, want)
		}
	}
}
