package job

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/internal/snapshot/store"
)

// What was stored for an EtcdBackup goes with it, finished or not, and nothing of another's: of
// a namesake of before, or of one whose name ends alike.
func TestPruneOfWhatWasMadeBy(t *testing.T) {
	t.Parallel()
	e, dir := newEnv(t)
	own, namesake := stored(t, e, 12, snapshot.CompressionNone), stored(t, e, 13, snapshot.CompressionNone)
	own.UID, namesake.UID = "u1", "u0"
	for _, m := range []*snapshot.Manifest{&own, &namesake} {
		content, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Store.Put(t.Context(), e.Place.Key(m.ID, snapshot.ManifestObject), content, store.Replace); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	half, other := snapshot.NewID(14, began, "b"), snapshot.NewID(15, began, "a-b")
	for _, id := range []string{half, other} {
		if err := e.Store.Put(t.Context(), e.Place.Key(id, snapshot.SnapshotObject), []byte("half"), store.Replace); err != nil {
			t.Fatal(err)
		}
	}
	pruned, warnings, err := e.Prune(t.Context(), Prune{MadeBy: MadeBy{Name: "b", UID: "u1"}, OrphansAfter: time.Hour, Policy: snapshot.Policy{Last: 1}})
	if err != nil || len(warnings) > 0 || pruned.DroppedCount != 2 {
		t.Fatalf("Prune() = %+v, %v, %v", pruned, warnings, err)
	}
	for id, stays := range map[string]bool{own.ID: false, half: false, namesake.ID: true, other: true} {
		if _, err := os.Stat(filepath.Join(dir, e.Place.Key(id, snapshot.SnapshotObject))); (err == nil) != stays {
			t.Errorf("%s is there: %v (%v), want %v", id, err == nil, err, stays)
		}
	}
	// Nothing is left of it: no other rule takes its place.
	stored(t, e, 20, snapshot.CompressionNone)
	if pruned, _, err := e.Prune(t.Context(), Prune{MadeBy: MadeBy{Name: "b", UID: "u1"}, OrphansAfter: time.Hour, Policy: snapshot.Policy{Last: 1}}); err != nil || pruned.DroppedCount != 0 {
		t.Errorf("again: %+v, %v", pruned, err)
	}
}

// A listing may be stale: what it has no manifest of may be a namesake's whole backup.
func TestMadeByAsksForTheManifest(t *testing.T) {
	t.Parallel()
	through, direct, _ := served(t, &faults{hidden: called(snapshot.ManifestObject)})
	namesake := stored(t, direct, 12, snapshot.CompressionNone)
	pruned, _, err := through.Prune(t.Context(), Prune{MadeBy: MadeBy{Name: "b", UID: "u1"}, OrphansAfter: time.Hour})
	if err != nil || pruned.DroppedCount != 0 {
		t.Errorf("Prune() = %+v, %v", pruned, err)
	}
	if _, err := direct.find(t.Context(), namesake.ID); err != nil {
		t.Errorf("the namesake's backup: %v", err)
	}
}

// An EtcdBackup may bear the name that an archiver gives to its bases, of which one may just be
// being made.
func TestMadeBySparesTheBaseThatIsBeingMade(t *testing.T) {
	t.Parallel()
	e, dir := newEnv(t)
	base := snapshot.NewID(14, time.Now(), ArchiveBase)
	key := e.Place.Key(base, snapshot.SnapshotObject)
	if err := e.Store.Put(t.Context(), key, []byte("half"), store.Replace); err != nil {
		t.Fatal(err)
	}
	pruned, _, err := e.Prune(t.Context(), Prune{MadeBy: MadeBy{Name: ArchiveBase, UID: "u1"}, OrphansAfter: time.Hour})
	if err != nil || pruned.DroppedCount != 0 {
		t.Errorf("Prune() = %+v, %v", pruned, err)
	}
	if _, err := os.Stat(filepath.Join(dir, key)); err != nil {
		t.Errorf("the base: %v", err)
	}
}
