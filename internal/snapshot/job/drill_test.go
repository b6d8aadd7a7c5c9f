package job

import (
	"errors"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/snapshot"
)

// Verified means this comparison: what is served after a restore is, in each of the four,
// what the live cluster had said of the same revision.
func TestDrillCompares(t *testing.T) {
	live := snapshot.Etcd{Revision: 20, CompactRevision: 15, KeyCount: 3, HashKV: 7}
	for name, tc := range map[string]struct {
		m        *fakeMember
		revision int64
		want     string
	}{
		"the same":                           {&fakeMember{count: 3, hash: 7, compactedAt: 15}, 20, ""},
		"compacted after the snapshot":       {&fakeMember{count: 3, hash: 7, compactedAt: 4}, 20, ""},
		"a few revisions more":               {&fakeMember{count: 3, hash: 7, compactedAt: 15}, 22, ""},
		"the last revision is missing":       {&fakeMember{count: 3, hash: 7, compactedAt: 15}, 19, "the last revision"},
		"a key less":                         {&fakeMember{count: 2, hash: 7, compactedAt: 15}, 20, "the number of keys"},
		"a key more":                         {&fakeMember{count: 4, hash: 7, compactedAt: 15}, 20, "the number of keys"},
		"other values":                       {&fakeMember{count: 3, hash: 8, compactedAt: 15}, 20, "the hash"},
		"other values, compacted afterwards": {&fakeMember{count: 3, hash: 8, compactedAt: 4}, 20, "the hash"},
	} {
		tc.m.revision = func() int64 { return tc.revision }
		v, err := compareBackup(t.Context(), serve(t, tc.m).conn, snapshot.Manifest{ID: "the-id", Etcd: live})
		switch {
		case tc.want == "" && (err != nil || v.SnapshotRevision != tc.revision || v.KeyCount != live.KeyCount || v.HashKV != live.HashKV):
			t.Errorf("%s: %+v, %v", name, v, err)
		case tc.want != "" && (snapshot.ReasonOf(err) != snapshot.ReasonDiffers || !strings.HasPrefix(err.Error(), tc.want+" of backup the-id")):
			t.Errorf("%s: %v, want it to say %q", name, err, tc.want)
		}
	}
}

// Hashes of different pasts are different whatever the data are: they condemn no backup.
func TestDrillOfWhatWasCompactedFurther(t *testing.T) {
	m := &fakeMember{count: 3, hash: 8, compactedAt: 16, revision: func() int64 { return 20 }}
	_, err := compareBackup(t.Context(), serve(t, m).conn, snapshot.Manifest{Etcd: snapshot.Etcd{Revision: 20, CompactRevision: 15, KeyCount: 3, HashKV: 7}})
	if snapshot.ReasonOf(err) != snapshot.ReasonCompacted {
		t.Errorf("%v", err)
	}
}

// A base that can never be compared proves nothing: the one before it is tried, and the archiver
// takes another.
func TestReplayTakesNoBaseThatCannotBeCompared(t *testing.T) {
	m := &fakeMember{count: 3, hash: 8, compactedAt: 16, revision: func() int64 { return 20 }}
	r := &replay{
		source: serve(t, m), point: &point{proven: true},
		manifest: snapshot.Manifest{Etcd: snapshot.Etcd{Revision: 20, CompactRevision: 15, KeyCount: 3, HashKV: 7}},
	}
	var unfit *unfitError
	if err := r.proveBase(t.Context()); !errors.As(err, &unfit) || !unfit.lasting {
		t.Errorf("%v", err)
	}
}
