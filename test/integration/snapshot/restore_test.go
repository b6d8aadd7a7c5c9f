package snapshot

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quorate/quorate/internal/member"
	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/test/freeport"
	"github.com/quorate/quorate/test/integration/etcdbinary"
)

// key is all that etcd says of one.
type key struct {
	Value                string
	Create, Mod, Version int64
	Lease                int64
}

// state is all that a user can read of a cluster.
type state struct {
	Keys map[string]key
	// Leases by their granted time to live.
	Leases map[int64]int64
	// Auth says that authentication is on. Users are by their names, with their roles; Roles
	// with what they permit.
	Auth         bool
	Users, Roles map[string][]string
}

func read(t testing.TB, c *clientv3.Client) state {
	t.Helper()
	got, err := c.Get(t.Context(), "", clientv3.WithFromKey())
	if err != nil {
		t.Fatal(err)
	}
	s := state{Keys: map[string]key{}, Leases: map[int64]int64{}}
	for _, kv := range got.Kvs {
		s.Keys[string(kv.Key)] = key{Value: string(kv.Value), Create: kv.CreateRevision, Mod: kv.ModRevision, Version: kv.Version, Lease: kv.Lease}
	}
	leases, err := c.Leases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range leases.Leases {
		ttl, err := c.TimeToLive(t.Context(), l.ID)
		if err != nil {
			t.Fatal(err)
		}
		s.Leases[int64(l.ID)] = ttl.GrantedTTL
	}
	s.Auth, s.Users, s.Roles = rights(t, c)
	return s
}

// rights are who may do what.
func rights(t testing.TB, c *clientv3.Client) (on bool, users, roles map[string][]string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	status, err := c.AuthStatus(t.Context())
	must(err)
	users, roles = map[string][]string{}, map[string][]string{}
	names, err := c.UserList(t.Context())
	must(err)
	for _, name := range names.Users {
		user, err := c.UserGet(t.Context(), name)
		must(err)
		users[name] = user.Roles
	}
	list, err := c.RoleList(t.Context())
	must(err)
	for _, name := range list.Roles {
		role, err := c.RoleGet(t.Context(), name)
		must(err)
		roles[name] = []string{}
		if name == "root" {
			continue // it may do all, which 3.6 and later say, and 3.5 does not
		}
		for _, p := range role.Perm {
			roles[name] = append(roles[name], fmt.Sprintf("%s %q to %q", p.PermType, p.Key, p.RangeEnd))
		}
	}
	return status.Enabled, users, roles
}

// live makes a random history: puts, deletions of ranges, transactions, leases and
// compactions.
func live(t testing.TB, c *clientv3.Client, seed uint64, steps int) {
	t.Helper()
	history(t, c, seed, steps, true)
}

// uncompacted makes a history that an archiver which is down for a while can still read.
func uncompacted(t testing.TB, c *clientv3.Client, seed uint64, steps int) {
	t.Helper()
	history(t, c, seed, steps, false)
}

func history(t testing.TB, c *clientv3.Client, seed uint64, steps int, compacting bool) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 1))
	name := func() string { return fmt.Sprintf("k/%03d", random.IntN(60)) }
	value := func() string { return strings.Repeat(string(rune('a'+random.IntN(26))), random.IntN(2000)) }
	var leases []clientv3.LeaseID
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	ctx := t.Context()
	for range steps {
		switch random.IntN(12) {
		case 0:
			granted, err := c.Grant(ctx, int64(600+random.IntN(600)))
			must(err)
			leases = append(leases, granted.ID)
		case 1:
			_, err := c.Delete(ctx, name(), clientv3.WithRange(name()))
			must(err)
		case 2:
			_, err := c.Delete(ctx, name())
			must(err)
		case 3:
			a, b := name(), name()
			if a == b {
				continue
			}
			_, err := c.Txn(ctx).If(clientv3.Compare(clientv3.Version(a), ">", random.Int64N(3))).
				Then(clientv3.OpPut(a, value()), clientv3.OpDelete(b)).Else(clientv3.OpPut(b, value())).Commit()
			must(err)
		case 4:
			if !compacting {
				continue
			}
			got, err := c.Get(ctx, "x")
			must(err)
			if _, err := c.Compact(ctx, max(1, got.Header.Revision-random.Int64N(20))); !errors.Is(err, rpctypes.ErrCompacted) {
				must(err)
			}
		case 5:
			if len(leases) > 0 {
				_, err := c.Put(ctx, name(), value(), clientv3.WithLease(leases[random.IntN(len(leases))]))
				must(err)
			}
		default:
			_, err := c.Put(ctx, name(), value())
			must(err)
		}
	}
}

func enableAuth(t testing.TB, c *clientv3.Client) {
	t.Helper()
	prepareAuth(t, c)
	ctx := t.Context()
	for _, step := range []func() error{
		func() error { _, err := c.RoleAdd(ctx, "app"); return err },
		func() error {
			_, err := c.RoleGrantPermission(ctx, "app", "k/", "k0", clientv3.PermissionType(clientv3.PermReadWrite))
			return err
		},
		func() error { _, err := c.UserGrantRole(ctx, "alice", "app"); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.AuthEnable(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// prepareAuth makes all that enabling needs.
func prepareAuth(t testing.TB, c *clientv3.Client) {
	t.Helper()
	ctx := t.Context()
	for _, step := range []func() error{
		func() error { _, err := c.UserAdd(ctx, "root", "secret"); return err },
		func() error { _, err := c.RoleAdd(ctx, "root"); return err },
		func() error { _, err := c.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := c.UserAdd(ctx, "alice", "secret"); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
}

// volume is a member's, with what its pod would give the guard.
type volume struct {
	path, boot, annotations string
	identity                member.Identity
}

func newVolume(t testing.TB, name string) *volume {
	t.Helper()
	return &volume{
		path: t.TempDir(), boot: t.TempDir(), annotations: filepath.Join(t.TempDir(), "annotations"),
		identity: member.Identity{ClusterUID: clusterUID, Incarnation: 2, Member: name, VolumeUID: "v-" + name},
	}
}

func (v *volume) dataDir() string { return filepath.Join(v.path, "data") }

// restoreFlags restore into the volume of e, a member of the initial cluster.
func (v *volume) restoreFlags(t testing.TB, e *etcd, initial string) []string {
	t.Helper()
	return []string{
		"--etcdutl=" + tool(t, e.version, "etcdutl"), "--volume=" + v.path, "--data-dir=" + v.dataDir(),
		"--into-cluster-uid=" + v.identity.ClusterUID, fmt.Sprintf("--incarnation=%d", v.identity.Incarnation), "--member=" + e.name, "--volume-uid=" + v.identity.VolumeUID,
		"--initial-cluster=" + initial, "--initial-cluster-token=" + token, "--initial-advertise-peer-urls=http://" + e.peer, "--etcd-version=" + e.version,
	}
}

// guard starts etcd on the volume through the real guard, as a founder's pod does.
func (v *volume) guard(t testing.TB, e *etcd, initial string) {
	t.Helper()
	health := freeport.Address(t)
	write(t, v.annotations, fmt.Sprintf("%s=%q\n%s=%q\n%s=%q\n",
		member.AnnotationInitialCluster, initial, member.AnnotationInitialClusterState, "new", member.AnnotationMayBeEmpty, "true"))
	args := []string{
		"run", "--volume=" + v.path, "--data-dir=" + v.dataDir(), "--boot-dir=" + v.boot, "--annotations=" + v.annotations,
		"--cluster-uid=" + v.identity.ClusterUID, fmt.Sprintf("--incarnation=%d", v.identity.Incarnation), "--member=" + e.name, "--volume-uid=" + v.identity.VolumeUID,
		"--health-listen=" + freeport.Address(t), "--etcd-health=http://" + health, "--termination-log=" + filepath.Join(e.dir, "termination"), "--", etcdbinary.Find(t, e.version),
	}
	for _, flag := range e.flags(initial) {
		if !strings.HasPrefix(flag, "--initial-cluster=") {
			args = append(args, flag)
		}
	}
	e.process = start(t, e.log, exec.Command(memberBinary, append(args, "--listen-metrics-urls=http://"+health)...))
}

// stopGuard ends the guard and the etcd below it.
func (e *etcd) stopGuard() {
	_ = e.command.Process.Signal(os.Interrupt)
	<-e.done
}

// Whatever was in the source is in what is restored: in each version, and from each
// into the next.
func TestRestoredDataIsTheSources(t *testing.T) {
	for i, version := range versions {
		t.Run("from "+version, func(t *testing.T) {
			t.Parallel()
			source := startEtcd(t, version)
			live(t, source.client, uint64(i)+100, 300)
			if i%2 == 0 {
				enableAuth(t, source.client)
			}
			want := read(t, source.client)
			store := s3Bucket(t)
			saved := store.save(t, source).mustSucceed(t).result.Backup
			if saved.KeyCount != int64(len(want.Keys)) || saved.EtcdVersion != version {
				t.Errorf("backup %+v, the source has %d keys", saved, len(want.Keys))
			}
			drilled := store.drill(t, version).mustSucceed(t).result
			if drilled.Reason != snapshot.ReasonVerified || drilled.Backup.ID != saved.ID || drilled.Verification.KeyCount != saved.KeyCount {
				t.Errorf("drill: %+v", drilled)
			}
			if listed := store.list(t); len(listed) != 1 || listed[0].Verified == nil {
				t.Errorf("listed: %+v", listed)
			}
			for _, target := range versions[i:min(i+2, len(versions))] {
				checkRestore(t, store, target, want, saved.Revision)
			}
		})
	}
}

func checkRestore(t *testing.T, store bucket, version string, want state, revision int64) {
	t.Run("into "+version, func(t *testing.T) {
		target := newEtcd(t, version, "m-0000")
		v := newVolume(t, target.name)
		// As the operator has it done today: revisions have 16 digits then.
		floor := time.Now().Unix() * 1_000_000
		store.run(t, "restore", append(v.restoreFlags(t, target, target.initial()), fmt.Sprintf("--bump-revision=%d", floor-revision))...).mustSucceed(t)
		v.guard(t, target, target.initial())
		target.connect(t)
		if diff := cmp.Diff(want, read(t, target.client)); diff != "" {
			t.Fatalf("restored data (-source +restored):\n%s", diff)
		}
		if want.Auth {
			if _, err := target.client.Authenticate(t.Context(), "alice", "secret"); err != nil {
				t.Errorf("alice's password is not what it was: %v", err)
			}
		}
		checkNobodyIsCarriedBack(t, target.client, floor-1_000_000_000)
		// Again, as an init container would before every start: nothing happens.
		target.stopGuard()
		// Nor is the store asked, which may be gone by then.
		gone := bucket{flags: []string{"--store=s3://gone", "--credentials=" + filepath.Join(t.TempDir(), "gone")}}
		again := gone.run(t, "restore", v.restoreFlags(t, target, target.initial())...).mustSucceed(t)
		if again.result.Backup == nil {
			t.Error("the second run does not say what the volume holds")
		}
		v.guard(t, target, target.initial())
		target.connect(t)
		if got, err := target.client.Get(t.Context(), "after"); err != nil || len(got.Kvs) != 1 {
			t.Errorf("what was written after the restore: %v %v", got, err)
		}
	})
}

// checkNobodyIsCarriedBack: a watcher from before the restore is told.
func checkNobodyIsCarriedBack(t *testing.T, c *clientv3.Client, revision int64) {
	t.Helper()
	put, err := c.Put(t.Context(), "after", "the restore")
	if err != nil {
		t.Fatal(err)
	}
	if put.Header.Revision <= revision+999_999_999 {
		t.Errorf("the first revision after the restore is %d, the source was at %d", put.Header.Revision, revision)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, from := range []int64{revision + 1, revision + 1000} {
		answer := <-c.Watch(ctx, "k/", clientv3.WithPrefix(), clientv3.WithRev(from))
		if !errors.Is(answer.Err(), rpctypes.ErrCompacted) {
			t.Errorf("a watch from revision %d: %v, want compacted", from, answer.Err())
		}
	}
}

// All founders are restored from the same snapshot and found one cluster.
func TestThreeFoundersAreRestoredFromOneSnapshot(t *testing.T) {
	t.Parallel()
	source := startEtcd(t, "3.6.16")
	live(t, source.client, 7, 100)
	want := read(t, source.client)
	store := directoryBucket(t)
	store.save(t, source).mustSucceed(t)
	var founders []*etcd
	var initial []string
	for i := range 3 {
		e := newEtcd(t, "3.6.16", fmt.Sprintf("m-%04d", i))
		founders, initial = append(founders, e), append(initial, e.initial())
	}
	list := strings.Join(initial, ",")
	for _, e := range founders {
		v := newVolume(t, e.name)
		store.run(t, "restore", v.restoreFlags(t, e, list)...).mustSucceed(t)
		v.guard(t, e, list)
	}
	ids := map[string]bool{}
	for _, e := range founders {
		e.connect(t)
		ids[e.clusterID(t)] = true
		if diff := cmp.Diff(want, read(t, e.client)); diff != "" {
			t.Errorf("%s (-source +restored):\n%s", e.name, diff)
		}
	}
	if len(ids) != 1 {
		t.Errorf("cluster IDs %v", ids)
	}
}

func TestWhatCannotBeRestoredTouchesNoVolume(t *testing.T) {
	t.Parallel()
	newest, oldest := startEtcd(t, "3.7.3"), startEtcd(t, "3.5.35")
	fromNewest, fromOldest := directoryBucket(t), directoryBucket(t)
	fromNewest.save(t, newest).mustSucceed(t)
	saved := fromOldest.save(t, oldest).mustSucceed(t)
	for name, tc := range map[string]struct {
		store   bucket
		version string
		flags   []string
		reason  snapshot.Reason
	}{
		"3.7 into 3.6":        {fromNewest, "3.6.16", nil, snapshot.ReasonIncompatibleVersion},
		"3.5 into 3.7":        {fromOldest, "3.7.3", nil, snapshot.ReasonIncompatibleVersion},
		"etcdutl of another":  {fromOldest, "3.5.35", []string{"--etcdutl=" + tool(t, "3.6.16", "etcdutl")}, snapshot.ReasonIncompatibleVersion},
		"a foreign cluster's": {fromOldest, "3.5.35", []string{"--into-cluster-uid=another"}, snapshot.ReasonForeignPrefix},
		"no such backup":      {fromOldest, "3.5.35", []string{"--backup=" + snapshot.NewID(1, time.Now(), "x")}, snapshot.ReasonBackupMissing},
		"an odd ID":           {fromOldest, "3.5.35", []string{"--backup=../" + saved.result.Backup.ID}, snapshot.ReasonUsage},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEtcd(t, tc.version, "m-0000")
			v := newVolume(t, e.name)
			tc.store.run(t, "restore", append(v.restoreFlags(t, e, e.initial()), tc.flags...)...).mustFail(t, tc.reason)
			entries, err := os.ReadDir(v.path)
			if err != nil || len(entries) > 0 {
				t.Errorf("the volume holds %v (%v)", entries, err)
			}
		})
	}
	t.Run("a foreign cluster's, and that is meant", func(t *testing.T) {
		e := newEtcd(t, "3.5.35", "m-0000")
		v := newVolume(t, e.name)
		fromOldest.run(t, "restore", append(v.restoreFlags(t, e, e.initial()), "--into-cluster-uid=another", "--foreign")...).mustSucceed(t)
	})
}

func TestAVolumeThatHoldsSomethingIsLeftAlone(t *testing.T) {
	t.Parallel()
	source := startEtcd(t, "3.6.16")
	store := directoryBucket(t)
	store.save(t, source).mustSucceed(t)
	for name, prepare := range map[string]func(t *testing.T, v *volume){
		"etcd's data without a marker": func(t *testing.T, v *volume) {
			mkdir(t, filepath.Join(v.dataDir(), "member", "wal"))
			write(t, filepath.Join(v.dataDir(), "member", "wal", "0.wal"), "x")
		},
		"leftovers": func(t *testing.T, v *volume) { mkdir(t, filepath.Join(v.dataDir(), "member", "snap")) },
		"the marker of another": func(t *testing.T, v *volume) {
			mark(t, v, member.Identity{ClusterUID: "b", Member: "b", VolumeUID: "b"})
		},
		"a marker and lost data":  func(t *testing.T, v *volume) { mark(t, v, v.identity) },
		"a link instead of files": func(t *testing.T, v *volume) { symlink(t, t.TempDir(), v.dataDir()) },
	} {
		t.Run(name, func(t *testing.T) {
			e := newEtcd(t, "3.6.16", "m-0000")
			v := newVolume(t, e.name)
			prepare(t, v)
			before := tree(t, v.path)
			store.run(t, "restore", v.restoreFlags(t, e, e.initial())...).mustFail(t, snapshot.ReasonVolumeInUse)
			if diff := cmp.Diff(before, tree(t, v.path)); diff != "" {
				t.Errorf("the volume (-before +after):\n%s", diff)
			}
		})
	}
}

func mkdir(t testing.TB, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

func symlink(t testing.TB, old, path string) {
	t.Helper()
	if err := os.Symlink(old, path); err != nil {
		t.Fatal(err)
	}
}

func mark(t testing.TB, v *volume, identity member.Identity) {
	t.Helper()
	if err := member.WriteMarker(v.path, member.Marker{Identity: identity, Booted: true}); err != nil {
		t.Fatal(err)
	}
}

// tree lists all below a directory, with sizes.
func tree(t testing.TB, root string) map[string]int64 {
	t.Helper()
	found := map[string]int64{}
	err := filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
		if err == nil && path != root {
			found[strings.TrimPrefix(path, root)] = info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// Killed again and again at any time, a restore is done in the end, and the guard
// never starts etcd on a part of it.
func TestARestoreThatIsKilledIsDoneInTheEnd(t *testing.T) {
	t.Parallel()
	source := startEtcd(t, "3.6.16")
	live(t, source.client, 21, 400)
	want := read(t, source.client)
	store := directoryBucket(t)
	store.save(t, source).mustSucceed(t)
	random := rand.New(rand.NewPCG(5, 5))
	for range 3 {
		e := newEtcd(t, "3.6.16", "m-0000")
		v := newVolume(t, e.name)
		for range 15 {
			command := store.command(t, filepath.Join(t.TempDir(), "termination"), "restore", v.restoreFlags(t, e, e.initial())...)
			p := start(t, filepath.Join(t.TempDir(), "log"), command)
			select {
			case <-p.done:
			case <-time.After(time.Duration(random.IntN(250)) * time.Millisecond):
				p.kill()
			}
			found, err := member.Examine(v.path, v.dataDir(), v.identity)
			if err != nil {
				t.Fatal(err)
			}
			if found.Data != member.DataAbsent && (found.Data != member.DataComplete || found.Marker != member.MarkerBooted) {
				t.Fatalf("the volume holds data in state %d with a marker in state %d", found.Data, found.Marker)
			}
		}
		store.run(t, "restore", v.restoreFlags(t, e, e.initial())...).mustSucceed(t)
		v.guard(t, e, e.initial())
		e.connect(t)
		if diff := cmp.Diff(want, read(t, e.client)); diff != "" {
			t.Fatalf("restored data (-source +restored):\n%s", diff)
		}
	}
}
