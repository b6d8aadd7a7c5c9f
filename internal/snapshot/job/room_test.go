package job

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/quorate/quorate/internal/snapshot"
)

// diskWith is a disk of a gigabyte, with so much free at one look after the other.
func diskWith(free ...int64) func(string) (disk, error) {
	return func(string) (disk, error) {
		now := free[0]
		if len(free) > 1 {
			free = free[1:]
		}
		return disk{free: now, size: 1 << 30}, nil
	}
}

// isNoRoom says that the error is of a node that has no room, which is no fault of the archive
// or of a base, and may pass.
func isNoRoom(err error) bool {
	reason := snapshot.ReasonOf(err)
	_, unfit := errors.AsType[*unfitError](err)
	return reason == snapshot.ReasonNoSpace && !reason.Condemns() && !reason.Permanent() && !unfit && len(ofNone(err, "a1", 11, []snapshot.Backup{{ID: "b", ClusterID: "a1", Revision: 11}})) == 0
}

// A base is not fetched unless there is room to have it served.
func TestReplayLeavesRoomOfABase(t *testing.T) {
	const least = 1 << 30 / untouched
	for name, tc := range map[string]struct {
		free int64
		want bool
	}{
		"all of it":     {1 << 30, true},
		"just enough":   {least + spare + 2*(512+32), true},
		"a byte less":   {least + spare + 2*(512+32) - 1, false},
		"nothing":       {0, false},
		"room for once": {least + spare + 512 + 32, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := replayOn(t, &fakeMember{}, 11, 11)
			r.point.bases = []snapshot.Backup{new(stored(t, r.Env, 11, snapshot.CompressionNone)).Backup()}
			dir := t.TempDir()
			r.point.room = &room{dir: dir, look: diskWith(tc.free)}
			_, err := r.rebuild(t.Context(), r.point, fakeTools{restore: "exit 1"}.write(t), nil, dir, into(filepath.Join(dir, "snapshot.db")))
			if isNoRoom(err) == tc.want || err == nil {
				t.Errorf("%v", err)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 || !tc.want && len(r.point.unfit) > 0 {
				t.Errorf("left: %v (%v), unfit: %v", left, err, r.point.unfit)
			}
		})
	}
}

// archivedTwice is an archive of two segments, 11 and 12, on a base of revision 10.
func archivedTwice(t *testing.T) *Env {
	t.Helper()
	m := &fakeMember{auth: 1, revision: func() int64 { return 12 }}
	s, now, _ := clocked(t, m)
	stored(t, s.Env, 10, snapshot.CompressionNone)
	for revision := int64(11); revision <= 12; revision++ {
		*now = now.Add(10 * time.Second)
		if err := s.add(t.Context(), put(revision)); err != nil {
			t.Fatal(err)
		}
		s.mark.revision, s.mark.at = revision, *now
		if err := s.seal(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return s.Env
}

// An archive that grew is replayed for as long as there is room on the node, and no longer.
func TestReplayLeavesRoomOfTheArchive(t *testing.T) {
	e := archivedTwice(t)
	p, err := e.findPoint(t.Context(), Latest, Target{Revision: 12}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for reached, free := range map[int64][]int64{10: {0}, 11: {1 << 30, 0}, 12: {1 << 30}} {
		at := int64(10)
		served := &fakeMember{auth: 1, revision: func() int64 { return at }, txn: func(*pb.TxnRequest) *pb.TxnResponse {
			at++
			return &pb.TxnResponse{Succeeded: true, Header: &pb.ResponseHeader{Revision: at}}
		}}
		p.room = &room{look: diskWith(free...)}
		r := &replay{Env: e, source: serve(t, served), point: p, base: 10, ttl: map[int64]int64{}, alive: map[int64]bool{}}
		if err := r.run(t.Context(), nil); isNoRoom(err) != (reached < 12) || at != reached {
			t.Errorf("with %d free it ended at revision %d, want %d: %v", free, at, reached, err)
		}
	}
}

// What is put together is saved where there is room for it.
func TestReplayLeavesRoomOfASnapshot(t *testing.T) {
	r := replayOn(t, &fakeMember{revision: func() int64 { return 11 }, opened: func() {}}, 11, 11)
	r.point.room = &room{look: diskWith(0)}
	file := filepath.Join(t.TempDir(), "snapshot.db")
	if err := r.save(t.Context(), file); !isNoRoom(err) {
		t.Error(err)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is there (%v)", err)
	}
}

// A drill and what is put together for a new cluster lie on a node's disk, and look at it.
func TestReplayLeavesRoomInAWorkingDirectory(t *testing.T) {
	e := archivedTwice(t)
	e.look = diskWith(0)
	catalog, err := e.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tools := fakeTools{}.write(t)
	_, unfit, err := e.drillEnd(t.Context(), ArchiveDrill{Tools: tools, WorkDir: t.TempDir()}, "a1", snapshot.Etcd{Revision: 12}, "3.6.16", catalog.Backups)
	if !isNoRoom(err) || len(unfit) > 0 {
		t.Errorf("a drill: %v, unfit: %v", err, unfit)
	}
	into := snapshot.Place{Prefix: "p", ClusterUID: "new"}
	_, err = e.Rebuild(t.Context(), Rebuild{ID: Latest, Target: Target{Revision: 12}, Tools: tools, WorkDir: t.TempDir(), Into: into, Name: "n", UID: "u"})
	if !isNoRoom(err) {
		t.Errorf("what is put together: %v", err)
	}
}

// What is said of a disk is the file system's, and a volume is there to be filled.
func TestReplayLeavesRoomOnADisk(t *testing.T) {
	found, err := diskOf(t.TempDir())
	if err != nil || found.size <= 0 || found.free < 0 || found.free > found.size {
		t.Errorf("%+v, %v", found, err)
	}
	if err := (&Env{}).roomIn(filepath.Join(t.TempDir(), "none")).holds(1); snapshot.ReasonOf(err) != snapshot.ReasonVolumeUnusable {
		t.Error(err)
	}
	if err := (*room)(nil).holds(1 << 60); err != nil {
		t.Errorf("a volume: %v", err)
	}
}
