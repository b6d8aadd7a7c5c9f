package snapshot

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/quorate/quorate/internal/snapshot"
)

func rebuildFlags(t testing.TB, version string, more ...string) []string {
	t.Helper()
	return append([]string{
		"--etcd=" + tool(t, version, "etcd"), "--etcdutl=" + tool(t, version, "etcdutl"), "--work-dir=" + t.TempDir(),
		"--into-cluster-uid=new-uid", "--name=restored-point", "--uid=new-uid", "--cluster-namespace=ns", "--cluster-name=restored",
	}, more...)
}

// A point of an archive is put together once, and is a backup like any other then: every
// founder that is restored from it begins with the same, and a process that comes later finds
// it, instead of making another.
func TestAPointIsPutTogetherOnce(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			b, e := directoryBucket(t), startEtcd(t, version)
			live(t, e.client, 3, 60)
			a := b.archive(t, e)
			a.reach(t, now(t, e.client).revision)
			uncompacted(t, e.client, 4, 60)
			point := now(t, e.client)
			uncompacted(t, e.client, 5, 60)
			a.reach(t, now(t, e.client).revision)

			drilled := b.run(t, "drill-archive", append(drillArchiveFlags(t, e, version), "--cluster-id="+e.clusterID(t))...).mustSucceed(t).result
			if drilled.Point == nil || drilled.Point.Revision < point.revision || drilled.Point.Replayed == 0 || drilled.Verification == nil {
				t.Errorf("the drill says %+v", drilled)
			}
			a.end(t)

			flag := fmt.Sprintf("--to-revision=%d", point.revision)
			made := b.run(t, "rebuild", rebuildFlags(t, version, flag)...).mustSucceed(t).result
			if made.Point == nil || made.Point.Revision != point.revision || made.Backup.Revision != point.revision {
				t.Fatalf("it says %+v", made)
			}
			again := b.run(t, "rebuild", rebuildFlags(t, version, flag)...).mustSucceed(t).result
			if again.Backup.ID != made.Backup.ID || again.Point != nil {
				t.Errorf("another one is made: %+v", again)
			}
			into := b.of("new-uid")
			into.drill(t, version, "--backup="+made.Backup.ID).mustSucceed(t)
			for _, name := range []string{"a", "b"} {
				r := newEtcd(t, version, name)
				v := newVolume(t, name)
				into.run(t, "restore", append(v.restoreFlags(t, r, r.initial()), "--foreign", "--bump-revision=0", "--backup="+made.Backup.ID)...).mustSucceed(t)
				v.guard(t, r, r.initial())
				r.connect(t)
				if diff := cmp.Diff(point.state, now(t, r.client).state); diff != "" {
					t.Errorf("founder %s (-source +restored):\n%s", name, diff)
				}
			}
			for _, backup := range b.of(clusterUID).list(t) {
				if strings.HasSuffix(backup.ID, "restored-point") {
					t.Errorf("%s lies among the backups of the cluster that was archived", backup.ID)
				}
			}
		})
	}
}

func drillArchiveFlags(t testing.TB, e *etcd, version string) []string {
	t.Helper()
	flags := []string{"--etcd=" + tool(t, version, "etcd"), "--etcdutl=" + tool(t, version, "etcdutl"), "--work-dir=" + t.TempDir()}
	for _, flag := range saveFlags(t, e) {
		if strings.HasPrefix(flag, "--endpoints") || strings.HasPrefix(flag, "--etcd-") {
			flags = append(flags, flag)
		}
	}
	return flags
}

// What cannot be put together is said, and nothing is stored.
func TestAPointThatIsNotArchived(t *testing.T) {
	version := versions[0]
	b, e := directoryBucket(t), startEtcd(t, version)
	live(t, e.client, 3, 20)
	a := b.archive(t, e)
	end := a.reach(t, now(t, e.client).revision)
	a.end(t)
	b.run(t, "rebuild", rebuildFlags(t, version, fmt.Sprintf("--to-revision=%d", end.Revision+100))...).mustFail(t, snapshot.ReasonNotArchived)
	b.run(t, "rebuild", rebuildFlags(t, version)...).mustFail(t, snapshot.ReasonUsage)
	b.run(t, "drill-archive", "--endpoints=http://127.0.0.1:1").mustFail(t, snapshot.ReasonUsage)
	into := b.of("new-uid")
	if left := into.list(t); len(left) > 0 {
		t.Errorf("it left %+v", left)
	}
}
