package snapshot

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quorate/quorate/internal/member"
	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/test/integration/etcdbinary"
)

// trio is a cluster of three, each member on a volume of its own.
type trio struct {
	members []*etcd
	volumes []*volume
	// acked are the revisions of acknowledged writes, and last is the highest.
	acked map[string]int64
	last  int64
	mu    sync.Mutex
}

func startTrio(t testing.TB, version string) *trio {
	t.Helper()
	c := &trio{acked: map[string]int64{}}
	var initial []string
	for i := range 3 {
		e := newEtcd(t, version, fmt.Sprintf("m-%04d", i))
		v := newVolume(t, e.name)
		v.identity.Incarnation = 1
		c.members, c.volumes, initial = append(c.members, e), append(c.volumes, v), append(initial, e.initial())
	}
	for i, e := range c.members {
		v := c.volumes[i]
		if err := member.WriteMarker(v.path, member.Marker{Identity: v.identity, Booted: true}); err != nil {
			t.Fatal(err)
		}
		e.process = start(t, e.log, exec.Command(etcdbinary.Find(t, version), append(e.flags(strings.Join(initial, ",")), "--data-dir="+v.dataDir())...))
	}
	for _, e := range c.members {
		e.connect(t)
	}
	return c
}

// leader is the number of the one that leads.
func (c *trio) leader(t testing.TB) int {
	t.Helper()
	leads := -1
	eventually(t, 30*time.Second, "there is no leader", func() error {
		for i, e := range c.members {
			status, err := e.client.Status(t.Context(), e.clientURL)
			if err == nil && status.Leader == status.Header.MemberId {
				leads = i
				return nil
			}
		}
		return errors.New("nobody leads")
	})
	return leads
}

// lose kills a member for good.
func (c *trio) lose(i int) { c.members[i].kill() }

// write writes with as many clients as are asked for, through some of the members, until the
// function that is returned is called, which kills all members at once.
func (c *trio) write(t testing.TB, clients int, through ...int) (kill func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for n := range clients {
		e := c.members[through[n%len(through)]]
		writers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				name := fmt.Sprintf("load/%02d/%06d", n, i)
				put, err := e.client.Put(ctx, name, name)
				if err != nil {
					return // whether it was written is not known
				}
				c.mu.Lock()
				c.acked[name], c.last = put.Header.Revision, max(c.last, put.Header.Revision)
				c.mu.Unlock()
			}
		})
	}
	return func() {
		for _, e := range c.members {
			_ = e.command.Process.Kill()
		}
		for _, e := range c.members {
			<-e.done
		}
		stop()
		writers.Wait()
	}
}

// missing are the acknowledged writes that an etcd does not have.
func (c *trio) missing(t testing.TB, client *clientv3.Client) (missing []string) {
	t.Helper()
	got, err := client.Get(t.Context(), "load/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]int64{}
	for _, kv := range got.Kvs {
		there[string(kv.Key)] = kv.ModRevision
	}
	for name, revision := range c.acked {
		if there[name] != revision {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	return missing
}

// recoverFlags fill the volume of e with what the survivor's holds.
func (v *volume) recoverFlags(t testing.TB, e *etcd, from *volume) []string {
	t.Helper()
	flags := []string{
		"--etcd=" + etcdbinary.Find(t, e.version), "--bump-revision=1000000000",
		"--survivor-volume=" + from.path, "--survivor-data-dir=" + from.dataDir(), "--survivor=" + from.identity.Member,
		"--survivor-volume-uid=" + from.identity.VolumeUID, fmt.Sprintf("--survivor-incarnation=%d", from.identity.Incarnation),
	}
	return append(flags, v.restoreFlags(t, e, e.initial())...)
}

// recovering is the command, of no store at all.
func recovering(t testing.TB, flags []string) outcome {
	t.Helper()
	return bucket{}.run(t, "recover", flags...)
}

// fingerprint of all that lies below a directory, with times.
func fingerprint(t testing.TB, root string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		sum := ""
		if d.Type().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum = fmt.Sprintf("%x", sha256.Sum256(content))
		}
		out[path] = fmt.Sprint(info.Mode(), info.ModTime(), sum)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// forced is what etcd alone makes of a copy of the volume.
func (c *trio) forced(t testing.TB, i int) *clientv3.Client {
	t.Helper()
	e := newEtcd(t, c.members[i].version, c.members[i].name)
	data := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(data, os.DirFS(c.volumes[i].dataDir())); err != nil {
		t.Fatal(err)
	}
	e.process = start(t, e.log, exec.Command(etcdbinary.Find(t, e.version), append(e.flags(e.initial()), "--data-dir="+data, "--force-new-cluster")...))
	e.connect(t)
	return e.client
}

// TestASurvivorHasEveryAcknowledgedWrite: one member of three is lost, and then the other two
// die at once under load. What they have acknowledged both of them hold, and the cluster goes
// on from the volume of either. Nothing of that volume changes.
func TestASurvivorHasEveryAcknowledgedWrite(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			c := startTrio(t, version)
			leader := c.leader(t)
			follower, lost := (leader+1)%3, (leader+2)%3
			c.lose(lost)
			kill := c.write(t, 24, leader, follower)
			time.Sleep(3 * time.Second)
			kill()
			if len(c.acked) < 100 {
				t.Fatalf("only %d writes were acknowledged", len(c.acked))
			}
			for role, i := range map[string]int{"leader": leader, "follower": follower} {
				t.Run(role, func(t *testing.T) { c.recoverFrom(t, i, role) })
			}
		})
	}
}

func (c *trio) recoverFrom(t *testing.T, i int, role string) {
	t.Helper()
	from := c.volumes[i]
	before := fingerprint(t, from.path)
	target := newEtcd(t, c.members[i].version, "m-0003")
	v := newVolume(t, target.name)
	began := time.Now()
	found := recovering(t, v.recoverFlags(t, target, from)).mustSucceed(t).result.Survivor
	took := time.Since(began)
	if diff := cmp.Diff(before, fingerprint(t, from.path)); diff != "" {
		t.Errorf("the survivor's volume has changed:\n%s", diff)
	}
	v.guard(t, target, target.initial())
	target.connect(t)
	if missing := c.missing(t, target.client); len(missing) > 0 {
		t.Errorf("%d of %d acknowledged writes are missing: %v", len(missing), len(c.acked), firstOf(missing))
	}
	alone := c.missing(t, c.forced(t, i))
	t.Logf("the %s: %d writes acknowledged, up to revision %d; recovered in %s: %+v; --force-new-cluster alone loses %d of them", role, len(c.acked), c.last, took, *found, len(alone))
	if found.Revision < c.last || found.Member != from.identity.Member || found.KeyCount < int64(len(c.acked)) || found.HashKV == 0 {
		t.Errorf("found %+v, acknowledged were %d keys up to revision %d", found, len(c.acked), c.last)
	}
	list, err := target.client.MemberList(t.Context())
	if err != nil || len(list.Members) != 1 || list.Members[0].Name != target.name {
		t.Errorf("members %v, %v", list, err)
	}
	checkNobodyIsCarriedBack(t, target.client, c.last)
	answer := <-target.client.Watch(t.Context(), "load/", clientv3.WithPrefix(), clientv3.WithRev(1))
	if !errors.Is(answer.Err(), rpctypes.ErrCompacted) {
		t.Errorf("a watch from revision 1: %v", answer.Err())
	}
	// Again, as the init container does before every start, and without the survivor.
	target.stopGuard()
	gone := *from
	gone.path = filepath.Join(t.TempDir(), "gone")
	recovering(t, v.recoverFlags(t, target, &gone)).mustSucceed(t)
	v.guard(t, target, target.initial())
	target.connect(t)
	if got, err := target.client.Get(t.Context(), "after"); err != nil || len(got.Kvs) != 1 {
		t.Errorf("what was written after the recovery: %v %v", got, err)
	}
}

func firstOf(names []string) []string { return names[:min(len(names), 5)] }

// TestWhatWasJustAcknowledgedIsNotLost: neither a follower nor the leader has written down
// that the last write is committed when the power goes. etcd alone discards it, unless the
// machine was so slow that both had; TestCommit of package raftlog does not depend on that.
func TestWhatWasJustAcknowledgedIsNotLost(t *testing.T) {
	t.Parallel()
	c := startTrio(t, "3.6.16")
	leader := c.leader(t)
	c.lose((leader + 2) % 3)
	kill := c.write(t, 1, leader)
	time.Sleep(time.Second)
	kill()
	lost := 0
	for _, i := range []int{leader, (leader + 1) % 3} {
		from := c.volumes[i]
		lost += len(c.missing(t, c.forced(t, i)))
		target := newEtcd(t, c.members[i].version, "m-0003")
		v := newVolume(t, target.name)
		recovering(t, v.recoverFlags(t, target, from)).mustSucceed(t)
		v.guard(t, target, target.initial())
		target.connect(t)
		if missing := c.missing(t, target.client); len(missing) > 0 {
			t.Errorf("missing from %s: %v", from.identity.Member, missing)
		}
	}
	t.Logf("%d writes acknowledged; --force-new-cluster alone loses %d on the two volumes together", len(c.acked), lost)
}

// TestARecoveryThatIsKilledBeginsAgain: at any moment of it the process dies, and the next
// one finds the survivor's volume as it was.
func TestARecoveryThatIsKilledBeginsAgain(t *testing.T) {
	t.Parallel()
	c := startTrio(t, "3.6.16")
	c.lose(0)
	kill := c.write(t, 6, 1, 2)
	time.Sleep(time.Second)
	kill()
	from := c.volumes[1]
	before := fingerprint(t, from.path)
	for after := 20 * time.Millisecond; after < 3*time.Second; after = after * 7 / 4 {
		target := newEtcd(t, "3.6.16", "m-0003")
		v := newVolume(t, target.name)
		flags := v.recoverFlags(t, target, from)
		command := bucket{}.command(t, filepath.Join(t.TempDir(), "termination"), "recover", flags...)
		p := start(t, filepath.Join(t.TempDir(), "log"), command)
		select {
		case <-p.done:
		case <-time.After(after):
			p.kill()
		}
		// What it has started goes on until it sees that; etcd on the copy holds its files.
		recovering(t, flags).mustSucceed(t)
		if diff := cmp.Diff(before, fingerprint(t, from.path)); diff != "" {
			t.Fatalf("killed after %s, the survivor's volume has changed:\n%s", after, diff)
		}
		if _, err := os.Stat(filepath.Join(v.path, "restoring")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("killed after %s, the copy is left: %v", after, err)
		}
		v.guard(t, target, target.initial())
		target.connect(t)
		if missing := c.missing(t, target.client); len(missing) > 0 {
			t.Errorf("killed after %s: missing %v", after, missing)
		}
	}
}

// TestWhatIsNoSurvivorFillsNothing.
func TestWhatIsNoSurvivorFillsNothing(t *testing.T) {
	t.Parallel()
	c := startTrio(t, "3.6.16")
	running := c.volumes[0]
	kill := c.write(t, 1, 0)
	time.Sleep(200 * time.Millisecond)
	kill()
	empty := newVolume(t, "m-0009")
	another := *running
	another.identity.VolumeUID = "another"
	damaged := *c.volumes[1]
	logs, err := filepath.Glob(filepath.Join(damaged.dataDir(), "member", "wal", "*.wal"))
	if err != nil || len(logs) != 1 {
		t.Fatalf("logs %v, %v", logs, err)
	}
	file, err := os.OpenFile(logs[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt([]byte("damage"), 400); err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	for name, tc := range map[string]struct {
		from    *volume
		version string
		want    snapshot.Reason
	}{
		"an empty volume":         {empty, "3.6.16", snapshot.ReasonNotRestorable},
		"another volume":          {&another, "3.6.16", snapshot.ReasonNotRestorable},
		"a log that is damaged":   {&damaged, "3.6.16", snapshot.ReasonNotRestorable},
		"etcd of another release": {running, "3.7.3", snapshot.ReasonIncompatibleVersion},
	} {
		t.Run(name, func(t *testing.T) {
			target := newEtcd(t, tc.version, "m-0003")
			v := newVolume(t, target.name)
			flags := append(v.recoverFlags(t, target, tc.from), "--etcd="+etcdbinary.Find(t, "3.6.16"))
			recovering(t, flags).mustFail(t, tc.want)
			if _, err := os.Stat(v.dataDir()); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("there is data: %v", err)
			}
		})
	}
}
