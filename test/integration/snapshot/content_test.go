package snapshot

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// namesWritten are few, so that keys are written again, deleted and made anew.
	namesWritten = 80
	// compactionLag is how many revisions stay readable, so that a snapshot can be hashed
	// before the one that it holds is compacted.
	compactionLag = 1500
	// restoreBump is what a restore adds to the last revision.
	restoreBump = 1_000_000_000
)

// step is what a client asks for: a write, a deletion, or a transaction of more steps.
type step struct {
	name, value string
	lease       int64
	// end of the range that is deleted; empty: the one key.
	end    string
	remove bool
	// guard is a key that has to have more than so many versions for then, and else
	// otherwise happens.
	guard           string
	versions        int64
	then, otherwise []step
}

func (s step) op() clientv3.Op {
	switch {
	case s.guard != "":
		return clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.Version(s.guard), ">", s.versions)}, ops(s.then), ops(s.otherwise))
	case s.remove && s.end != "":
		return clientv3.OpDelete(s.name, clientv3.WithRange(s.end))
	case s.remove:
		return clientv3.OpDelete(s.name)
	default:
		return clientv3.OpPut(s.name, s.value, clientv3.WithLease(clientv3.LeaseID(s.lease)))
	}
}

func ops(steps []step) (all []clientv3.Op) {
	for _, s := range steps {
		all = append(all, s.op())
	}
	return all
}

// taken are the steps of a transaction that etcd says it went through, down to the writes
// and deletions, but for those that had nothing to delete.
func (s step) taken(answer *pb.TxnResponse) (done []step) {
	branch := s.then
	if !answer.GetSucceeded() {
		branch = s.otherwise
	}
	for i, inner := range branch {
		said := answer.GetResponses()[i]
		switch {
		case inner.guard != "":
			done = append(done, inner.taken(said.GetResponseTxn())...)
		case !inner.remove || said.GetResponseDeleteRange().GetDeleted() > 0:
			done = append(done, inner)
		}
	}
	return done
}

// model is what a cluster holds, by what its clients were told and nothing else.
type model struct {
	mu sync.Mutex
	// acknowledged changes by the revisions that etcd gave them.
	acknowledged map[int64][]step
	// revoked leases, in the order in which they were. What revision took their keys nobody
	// is told; it is one that no other change has.
	revoked []int64
	// leases that were granted, with their times to live, whether they were revoked or not.
	leases map[int64]int64
	// roles that were made, by their numbers from zero.
	roles atomic.Int64
}

func newModel() *model {
	return &model{acknowledged: map[int64][]step{}, leases: map[int64]int64{}}
}

// do has a step done, and notes what came of it.
func (m *model) do(ctx context.Context, c *clientv3.Client, s step) error {
	answer, err := c.Do(ctx, s.op())
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return nil // it was revoked meanwhile, and nothing happened
	}
	if err != nil {
		return err
	}
	var done []step
	var revision int64
	switch {
	case s.guard != "":
		done, revision = s.taken((*pb.TxnResponse)(answer.Txn())), answer.Txn().Header.GetRevision()
	case !s.remove:
		done, revision = []step{s}, answer.Put().Header.GetRevision()
	case answer.Del().Deleted > 0:
		done, revision = []step{s}, answer.Del().Header.GetRevision()
	}
	if len(done) == 0 {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.acknowledged[revision] != nil {
		return fmt.Errorf("revision %d was given to two changes", revision)
	}
	m.acknowledged[revision] = done
	return nil
}

func (m *model) changes() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.acknowledged)
}

// at is what the keys are at a revision.
func (m *model) at(t testing.TB, revision int64) map[string]key {
	t.Helper()
	keys := map[string]key{}
	revoked := m.revoked
	for at := int64(2); at <= revision; at++ {
		done := m.acknowledged[at]
		if done == nil {
			var ok bool
			if revoked, ok = expire(keys, revoked); !ok {
				t.Fatalf("revision %d is no client's", at)
			}
		}
		for _, s := range done {
			s.apply(keys, at)
		}
	}
	return keys
}

// expire takes the keys of the next lease that has any.
func expire(keys map[string]key, revoked []int64) (left []int64, ok bool) {
	for i, lease := range revoked {
		before := len(keys)
		maps.DeleteFunc(keys, func(_ string, k key) bool { return k.Lease == lease })
		if len(keys) < before {
			return revoked[i+1:], true
		}
	}
	return nil, false
}

func (s step) apply(keys map[string]key, revision int64) {
	switch {
	case s.end != "":
		maps.DeleteFunc(keys, func(name string, _ key) bool { return name >= s.name && name < s.end })
	case s.remove:
		delete(keys, s.name)
	default:
		create := revision
		if old, ok := keys[s.name]; ok {
			create = old.Create
		}
		keys[s.name] = key{Value: s.value, Create: create, Mod: revision, Version: keys[s.name].Version + 1, Lease: s.lease}
	}
}

// client writes at random, as told by a seed. Of its leases some last, and may be used in
// transactions, which etcd refuses as a whole if a lease is none.
type client struct {
	random          *rand.Rand
	lasting, ending []int64
}

func named(i int) string { return fmt.Sprintf("k/%03d", i) }

// next is a step of up to six keys, of which no two are the same: etcd refuses a
// transaction that writes a key twice.
func (c *client) next() step {
	names := c.random.Perm(namesWritten)[:6]
	switch c.random.IntN(10) {
	case 0:
		return step{remove: true, name: named(names[0])}
	case 1:
		return step{remove: true, name: named(names[0]), end: named(names[0] + 1 + c.random.IntN(6))}
	case 2:
		s := c.put(names[0])
		s.lease = c.one(c.ending)
		return s
	case 3, 4, 5:
		return c.transaction(names, 2)
	default:
		return c.put(names[0])
	}
}

func (c *client) put(i int) step {
	value := strings.Repeat(string(rune('a'+c.random.IntN(26))), c.random.IntN(500))
	return step{name: named(i), value: value}
}

func (c *client) one(leases []int64) int64 {
	if len(leases) == 0 || c.random.IntN(3) == 0 {
		return 0
	}
	return leases[c.random.IntN(len(leases))]
}

// transaction takes the first key of those it is given for its guard, and for its deletion.
func (c *client) transaction(names []int, deep int) step {
	branch := func() []step {
		write := c.put(names[1])
		write.lease = c.one(c.lasting)
		steps := []step{{remove: true, name: named(names[0])}, write}
		if deep > 1 {
			steps = append(steps, c.transaction(names[2:4], deep-1), c.put(names[4]))
		}
		c.random.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
		return steps[:1+c.random.IntN(len(steps))]
	}
	return step{guard: named(names[0]), versions: c.random.Int64N(3), then: branch(), otherwise: branch()}
}

// grant makes leases. They live longer than the test.
func (m *model) grant(t testing.TB, c *clientv3.Client, n int) (ids []int64) {
	t.Helper()
	for i := range n {
		granted, err := c.Grant(t.Context(), int64(3600+i))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, int64(granted.ID))
		m.leases[int64(granted.ID)] = int64(3600 + i)
	}
	return ids
}

// busy has clients write until the function returned is called.
func (m *model) busy(t testing.TB, c *clientv3.Client, seed uint64) (stop func()) {
	t.Helper()
	lasting, ending := m.grant(t, c, 5), m.grant(t, c, 30)
	ctx := t.Context()
	done := make(chan struct{})
	var all sync.WaitGroup
	repeat := func(pause time.Duration, act func() error) {
		all.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(pause):
				}
				if err := act(); err != nil {
					t.Errorf("seed %d: %v", seed, err)
					return
				}
			}
		})
	}
	for i := range 3 {
		writer := &client{random: rand.New(rand.NewPCG(seed, uint64(i))), lasting: lasting, ending: ending}
		repeat(time.Millisecond, func() error { return m.do(ctx, c, writer.next()) })
	}
	repeat(100*time.Millisecond, func() error { return m.revoke(ctx, c, ending) })
	repeat(50*time.Millisecond, func() error { return m.compact(ctx, c) })
	repeat(50*time.Millisecond, func() error { return m.addRole(ctx, c) })
	return sync.OnceFunc(func() { close(done); all.Wait() })
}

func (m *model) revoke(ctx context.Context, c *clientv3.Client, leases []int64) error {
	if len(m.revoked) == len(leases) {
		return nil
	}
	lease := leases[len(m.revoked)]
	// It is noted before, as its keys may be gone before the answer comes.
	m.revoked = append(m.revoked, lease)
	_, err := c.Revoke(ctx, clientv3.LeaseID(lease))
	return err
}

func (m *model) compact(ctx context.Context, c *clientv3.Client) error {
	got, err := c.Get(ctx, "x")
	if err != nil || got.Header.Revision <= compactionLag {
		return err
	}
	_, err = c.Compact(ctx, got.Header.Revision-compactionLag)
	if errors.Is(err, rpctypes.ErrCompacted) {
		return nil
	}
	return err
}

func roleNamed(i int64) string { return fmt.Sprintf("role-%05d", i) }

func (m *model) addRole(ctx context.Context, c *clientv3.Client) error {
	_, err := c.RoleAdd(ctx, roleNamed(m.roles.Load()))
	m.roles.Add(1)
	return err
}

// span of a model in which a snapshot may have been taken.
type span struct {
	id string
	// least revision that the snapshot may hold, by what was acknowledged before it was
	// asked for and by what the backup says.
	least int64
	// roles that were there before, and that may have been there in the end.
	rolesBefore, rolesAfter int64
}

// latest revision.
func latest(t testing.TB, c *clientv3.Client) int64 {
	t.Helper()
	got, err := c.Get(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	return got.Header.Revision
}

// A snapshot that is taken while clients write holds what they were told, of every change up
// to its revision and of none after: value, version, create and mod revision and lease of each
// key, and no other key.
func TestASnapshotUnderWritesIsTheModels(t *testing.T) {
	for _, version := range []string{versions[0], versions[len(versions)-1]} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			source, store, m := startEtcd(t, version), s3Bucket(t), newModel()
			stop := m.busy(t, source.client, seed)
			defer stop()
			eventually(t, 30*time.Second, "nothing is compacted", func() error {
				if m.changes() < compactionLag+500 {
					return errors.New("the history is too short")
				}
				return nil
			})
			var taken []span
			for range 2 {
				s := span{least: latest(t, source.client), rolesBefore: m.roles.Load()}
				saved := store.save(t, source, "--attempts=5").mustSucceed(t).result.Backup
				if saved.Revision < s.least {
					t.Errorf("seed %d: revision %d was acknowledged before, and the backup's is %d", seed, s.least, saved.Revision)
				}
				s.id, s.least, s.rolesAfter = saved.ID, saved.Revision, m.roles.Load()+1
				taken = append(taken, s)
			}
			// There are changes after each, so that a snapshot that held one of them is told.
			eventually(t, 30*time.Second, "nothing is written after the snapshots", func() error {
				if last := taken[len(taken)-1].least; latest(t, source.client) < last+20 {
					return fmt.Errorf("the newest is of revision %d", last)
				}
				return nil
			})
			stop()
			for _, s := range taken {
				store.drill(t, version, "--backup="+s.id).mustSucceed(t)
				m.checkRestored(t, store, version, s)
			}
		})
	}
}

// checkRestored restores a backup and compares what is served with the model.
func (m *model) checkRestored(t *testing.T, store bucket, version string, s span) {
	t.Helper()
	e := newEtcd(t, version, "m-0000")
	v := newVolume(t, e.name)
	store.run(t, "restore", append(v.restoreFlags(t, e, e.initial()), "--backup="+s.id)...).mustSucceed(t)
	v.guard(t, e, e.initial())
	e.connect(t)
	defer e.stopGuard()
	got := read(t, e.client)
	revision := latest(t, e.client) - restoreBump
	if revision < s.least {
		t.Fatalf("revision %d is restored, and the backup says %d", revision, s.least)
	}
	want := m.at(t, revision)
	if len(want) < namesWritten/4 {
		t.Errorf("the model has %d keys at revision %d: nothing is shown", len(want), revision)
	}
	if diff := cmp.Diff(want, got.Keys); diff != "" {
		t.Errorf("keys at revision %d (-model +restored):\n%s", revision, diff)
	}
	for name, k := range want {
		if ttl := got.Leases[k.Lease]; k.Lease != 0 && ttl != m.leases[k.Lease] {
			t.Errorf("%s is on lease %x of %d seconds, which is restored with %d", name, k.Lease, m.leases[k.Lease], ttl)
		}
	}
	for lease, ttl := range got.Leases {
		if m.leases[lease] != ttl {
			t.Errorf("lease %x of %d seconds is restored, which was granted with %d", lease, ttl, m.leases[lease])
		}
	}
	var roles []string
	for i := range int64(len(got.Roles)) {
		roles = append(roles, roleNamed(i))
	}
	if n := int64(len(roles)); n < s.rolesBefore || n > s.rolesAfter || !slices.Equal(roles, slices.Sorted(maps.Keys(got.Roles))) {
		t.Errorf("%d roles are restored, want the first %d to %d: %v", n, s.rolesBefore, s.rolesAfter, slices.Sorted(maps.Keys(got.Roles)))
	}
}
