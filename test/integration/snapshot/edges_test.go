package snapshot

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quorate/quorate/internal/snapshot"
)

// A transaction may hold others, and one of them may delete what another has put: the key is
// twice in one revision, which no transaction that is flat may have. It is archived, and
// restored to what it was.
func TestOneKeyTwiceInARevision(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			source := startEtcd(t, version)
			store := directoryBucket(t)
			if _, err := source.client.Put(t.Context(), "was", "there"); err != nil {
				t.Fatal(err)
			}
			a := store.archive(t, source)
			a.reach(t, 1)
			granted, err := source.client.Grant(t.Context(), 900)
			if err != nil {
				t.Fatal(err)
			}
			nested := func(ops ...clientv3.Op) clientv3.Op { return clientv3.OpTxn(nil, ops, nil) }
			for _, key := range []string{"was", "new"} {
				_, err := source.client.Txn(t.Context()).Then(
					nested(clientv3.OpPut(key, "passing", clientv3.WithLease(granted.ID)), clientv3.OpPut(key+"/beside", "stays")),
					nested(clientv3.OpDelete(key)),
					clientv3.OpPut(key+"/last", "stays"),
				).Commit()
				if err != nil {
					t.Fatal(err)
				}
			}
			uncompacted(t, source.client, 5, 5)
			last := now(t, source.client)
			a.reach(t, last.revision)
			a.end(t)
			restored := store.checkPoint(t, version, last, fmt.Sprintf("--to-revision=%d", last.revision))
			if want, got := hashAt(t, source, last.revision), hashAt(t, restored, last.revision); want != got {
				t.Errorf("etcd's hash of the restored data is %d, and of the source's %d", got, want)
			}
		})
	}
}

// What the archive ends with may be the very revision that etcd has compacted, whether a key
// was written in it, deleted, or both. An archiver that comes back goes on.
func TestACompactionAtTheEndOfAnArchive(t *testing.T) {
	t.Parallel()
	ends := map[string]func() []clientv3.Op{
		"put":    func() []clientv3.Op { return []clientv3.Op{clientv3.OpPut("a", "2")} },
		"delete": func() []clientv3.Op { return []clientv3.Op{clientv3.OpDelete("b")} },
		"both":   func() []clientv3.Op { return []clientv3.Op{clientv3.OpPut("a", "2"), clientv3.OpDelete("b")} },
	}
	for _, version := range versions {
		for name, end := range ends {
			t.Run(version+" "+name, func(t *testing.T) {
				t.Parallel()
				source := startEtcd(t, version)
				store := directoryBucket(t)
				a := store.archive(t, source)
				a.reach(t, 1)
				for _, key := range []string{"a", "b", "c"} {
					if _, err := source.client.Put(t.Context(), key, "1"); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := source.client.Txn(t.Context()).Then(end()...).Commit(); err != nil {
					t.Fatal(err)
				}
				at := now(t, source.client).revision
				a.reach(t, at)
				a.end(t)
				if _, err := source.client.Compact(t.Context(), at, clientv3.WithCompactPhysical()); err != nil {
					t.Fatal(err)
				}
				a = store.archive(t, source)
				// Nothing is written: it must not wait for a write to know where it is.
				eventually(t, 20*time.Second, "the archiver does not go on from a compacted end", func() error {
					p, err := a.progress()
					switch {
					case err != nil:
						return err
					case p.Trouble != nil:
						return fmt.Errorf("%s: %s", p.Trouble.Reason, p.Trouble.Message)
					case p.Revision < at || time.Since(p.Until) > 5*time.Second:
						return fmt.Errorf("%+v", p)
					}
					return nil
				})
				if _, err := source.client.Put(t.Context(), "a", "3"); err != nil {
					t.Fatal(err)
				}
				last := now(t, source.client)
				a.reach(t, last.revision)
				result := a.end(t)
				if !strings.Contains(result.Message, "with 0 gaps") {
					t.Errorf("result: %s", result.Message)
				}
				store.checkPoint(t, version, last, fmt.Sprintf("--to-revision=%d", last.revision))
			})
		}
	}
}

// A base that is damaged is found by a drill, and another one is taken without anybody's
// doing: the end can be restored again.
func TestABaseThatIsDamagedIsRenewed(t *testing.T) {
	t.Parallel()
	const version = "3.6.16"
	source := startEtcd(t, version)
	store := directoryBucket(t)
	live(t, source.client, 61, 30)
	a := store.archive(t, source)
	live(t, source.client, 62, 30)
	a.reach(t, now(t, source.client).revision)
	a.end(t)
	bad := store.list(t)[0].ID
	object := store.object(bad, snapshot.SnapshotObject)
	content, err := os.ReadFile(object)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	write(t, object, string(content))

	drill := func() outcome {
		t.Helper()
		return store.run(t, "drill-archive", append(drillArchiveFlags(t, source, version), "--cluster-id="+source.clusterID(t))...)
	}
	failed := drill().mustFail(t, snapshot.ReasonCorrupt)
	if len(failed.result.Warnings) != 1 || !strings.Contains(failed.result.Warnings[0], bad) {
		t.Errorf("warnings: %v", failed.result.Warnings)
	}
	a = store.archive(t, source)
	if p := a.reach(t, now(t, source.client).revision); p.Base == bad {
		t.Errorf("it goes on from the base that is damaged: %+v", p)
	}
	uncompacted(t, source.client, 63, 30)
	last := now(t, source.client)
	a.reach(t, last.revision)
	a.end(t)
	if drilled := drill().mustSucceed(t); drilled.result.Point.Base == bad {
		t.Errorf("it was replayed on the base that is damaged: %s", drilled.result.Message)
	}
	store.checkPoint(t, version, last, fmt.Sprintf("--to-revision=%d", last.revision))
	if err := os.Remove(store.object(bad, snapshot.UnfitObject)); err != nil {
		t.Errorf("that it is damaged is not on record: %v", err)
	}
}

// Whoever deletes an archive, or a part of it, is found out: what is lost is told, another base
// is taken, and what is written from then on is restored.
func TestHistoryThatIsDeleted(t *testing.T) {
	t.Parallel()
	const version = "3.6.16"
	for name, gone := range map[string]func(all []string) []string{
		"all of it":     func(all []string) []string { return all },
		"in the middle": func(all []string) []string { return all[1 : len(all)-1] },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source := startEtcd(t, version)
			store := directoryBucket(t)
			a := store.archive(t, source)
			a.reach(t, 1)
			for round := range 3 {
				uncompacted(t, source.client, uint64(70+round), 10)
				a.reach(t, now(t, source.client).revision)
			}
			before := now(t, source.client)
			a.end(t)
			for _, segment := range gone(segments(t, store)) {
				if err := os.Remove(segment); err != nil {
					t.Fatal(err)
				}
			}
			a = store.archive(t, source)
			eventually(t, 30*time.Second, "what is lost is not told", func() error {
				p, err := a.progress()
				if err == nil && (p.Lost == nil || p.Lost.Reason != snapshot.GapLost || p.Lost.To > before.revision || p.Lost.From < 2) {
					err = fmt.Errorf("lost %+v of %+v", p.Lost, p)
				}
				return err
			})
			uncompacted(t, source.client, 79, 10)
			last := now(t, source.client)
			a.reach(t, last.revision)
			a.end(t)
			if n := len(store.list(t)); n != 2 {
				t.Errorf("%d bases, want one for each side of the hole", n)
			}
			store.checkPoint(t, version, last, fmt.Sprintf("--to-revision=%d", last.revision))
		})
	}
}
