package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/test/freeport"
)

// archiver is a running "backup archive".
type archiver struct {
	*process

	progressAt, termination, log string
}

func archiveFlags(t testing.TB, e *etcd) []string {
	t.Helper()
	return append(saveFlags(t, e)[1:], "--seal-every=200ms", "--idle-every=2s") // all but the name
}

func (b bucket) archive(t testing.TB, e *etcd, flags ...string) *archiver {
	t.Helper()
	dir := t.TempDir()
	a := &archiver{progressAt: freeport.Address(t), termination: filepath.Join(dir, "termination"), log: filepath.Join(dir, "log")}
	flags = append(append(archiveFlags(t, e), "--progress-listen="+a.progressAt), flags...)
	a.process = start(t, a.log, b.command(t, a.termination, "archive", flags...))
	return a
}

// progressAt is what a program of ours tells at an address.
func progressAt(address string) (p snapshot.Progress, err error) {
	r, err := http.Get("http://" + address + snapshot.ProgressPath)
	if err != nil {
		return p, err
	}
	defer r.Body.Close()
	err = json.NewDecoder(r.Body).Decode(&p)
	return p, err
}

func (a *archiver) progress() (snapshot.ArchiveProgress, error) {
	p, err := progressAt(a.progressAt)
	if err != nil {
		return snapshot.ArchiveProgress{}, err
	}
	if p.Archive == nil {
		return snapshot.ArchiveProgress{}, errors.New("no progress of an archive yet")
	}
	return *p.Archive, nil
}

// reach waits until everything up to a revision is stored and there is a base.
func (a *archiver) reach(t testing.TB, revision int64) snapshot.ArchiveProgress {
	t.Helper()
	var got snapshot.ArchiveProgress
	eventually(t, 60*time.Second, fmt.Sprintf("revision %d is not archived", revision), func() error {
		select {
		case <-a.done:
			content, _ := os.ReadFile(a.log)
			t.Fatalf("the archiver ended: %s", content)
		default:
		}
		var err error
		if got, err = a.progress(); err == nil && (got.Revision < revision || got.BaseMissing) {
			err = fmt.Errorf("%+v", got)
		}
		return err
	})
	return got
}

// end tells the archiver to end.
func (a *archiver) end(t testing.TB) snapshot.Result {
	t.Helper()
	_ = a.command.Process.Signal(syscall.SIGTERM)
	<-a.done
	content, err := os.ReadFile(a.termination)
	if err != nil {
		t.Fatal(err)
	}
	result, err := snapshot.ParseResult(string(content))
	if err != nil {
		t.Fatal(err)
	}
	if result.Reason != snapshot.ReasonArchived {
		log, _ := os.ReadFile(a.log)
		t.Fatalf("%s: %s\n%s", result.Reason, result.Message, log)
	}
	return result
}

// moment is what a cluster was at a revision.
type moment struct {
	revision int64
	at       time.Time
	state    state
}

// now reads the cluster. Leases that no key is attached to are not among what is
// compared: a watch tells of keys only.
func now(t testing.TB, c *clientv3.Client) moment {
	t.Helper()
	got, err := c.Get(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	return moment{revision: got.Header.Revision, at: time.Now(), state: attached(read(t, c))}
}

func attached(s state) state {
	used := map[int64]int64{}
	for _, k := range s.Keys {
		if k.Lease != 0 {
			used[k.Lease] = s.Leases[k.Lease]
		}
	}
	s.Leases = used
	return s
}

// restoreTo restores a point of the archive into a new member, and serves it.
func (b bucket) restoreTo(t testing.TB, version string, flags ...string) (served *etcd, message string) {
	t.Helper()
	target := newEtcd(t, version, "m-0000")
	v := newVolume(t, target.name)
	all := append(v.restoreFlags(t, target, target.initial()), "--etcd="+tool(t, version, "etcd"), "--bump-revision=0")
	done := b.run(t, "restore", append(all, flags...)...).mustSucceed(t)
	v.guard(t, target, target.initial())
	target.connect(t)
	return target, done.result.Message
}

func (b bucket) checkPoint(t testing.TB, version string, m moment, flag string) *etcd {
	t.Helper()
	target, message := b.restoreTo(t, version, flag)
	if want := fmt.Sprintf("which ends with revision %d, replayed on backup", m.revision); !strings.Contains(message, want) {
		t.Errorf("%s: message: %s", flag, message)
	}
	got := now(t, target.client)
	if got.revision != m.revision {
		t.Errorf("%s: restored at revision %d, want %d", flag, got.revision, m.revision)
	}
	if diff := cmp.Diff(m.state, got.state); diff != "" {
		t.Errorf("%s (-source +restored):\n%s", flag, diff)
	}
	return target
}

// Whatever a cluster was at a moment of its archive is restored, key by key, through
// transactions, deletions of ranges, leases and compactions, in each version.
func TestAnyPointOfAnArchiveIsRestored(t *testing.T) {
	for i, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			source := startEtcd(t, version)
			live(t, source.client, uint64(i)+300, 60)
			store := s3Bucket(t)
			a := store.archive(t, source)
			a.reach(t, 1)
			var moments []moment
			for round := range 5 {
				live(t, source.client, uint64(i*100+round), 60)
				moments = append(moments, now(t, source.client))
				time.Sleep(20 * time.Millisecond) // a time to restore to lies between two rounds
			}
			last := moments[len(moments)-1]
			a.reach(t, last.revision)
			a.end(t)
			for _, m := range []moment{moments[0], moments[2]} {
				store.checkPoint(t, version, m, fmt.Sprintf("--to-revision=%d", m.revision))
			}
			restored := store.checkPoint(t, version, last, fmt.Sprintf("--to-revision=%d", last.revision))
			if want, got := hashAt(t, source, last.revision), hashAt(t, restored, last.revision); want != got {
				t.Errorf("etcd's hash of the restored data is %d, and of the source's %d", got, want)
			}
		})
	}
}

// hashAt compacts everything before, so that two members with different pasts compare.
func hashAt(t testing.TB, e *etcd, revision int64) uint32 {
	t.Helper()
	if _, err := e.client.Compact(t.Context(), revision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	// etcd remembers the hash that it took while it compacted, which is one of the past.
	if _, err := e.client.Put(t.Context(), "after", "compaction"); err != nil {
		t.Fatal(err)
	}
	h, err := e.client.HashKV(t.Context(), e.clientURL, revision+1)
	if err != nil {
		t.Fatal(err)
	}
	return h.Hash
}

// Killed at any time and started again, an archiver leaves no hole.
func TestAnArchiverThatIsKilled(t *testing.T) {
	t.Parallel()
	source := startEtcd(t, "3.6.16")
	store := directoryBucket(t)
	random := rand.New(rand.NewPCG(8, 8))
	a := store.archive(t, source)
	a.reach(t, 1)
	var moments []moment
	for round := range 12 {
		uncompacted(t, source.client, uint64(700+round), 30)
		moments = append(moments, now(t, source.client))
		time.Sleep(time.Duration(random.IntN(600)) * time.Millisecond)
		a.kill()
		a = store.archive(t, source)
	}
	last := moments[len(moments)-1]
	a.reach(t, last.revision)
	if result := a.end(t); !strings.Contains(result.Message, "with 0 gaps") {
		t.Errorf("result: %s", result.Message)
	}
	for _, m := range []moment{moments[3], moments[8], last} {
		store.checkPoint(t, "3.6.16", m, fmt.Sprintf("--to-revision=%d", m.revision))
	}
}

func segments(t testing.TB, b bucket) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(b.dir, "team", "a", clusterUID, "archive", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(found)
	return found
}

// A time lies between two writes; what is restored is what was there between them.
func TestAnArchiveIsRestoredToATime(t *testing.T) {
	t.Parallel()
	source := startEtcd(t, "3.6.16")
	store := directoryBucket(t)
	a := store.archive(t, source)
	a.reach(t, 1)
	began := time.Now()
	var moments []moment
	for round := range 4 {
		live(t, source.client, uint64(900+round), 30)
		m := now(t, source.client)
		a.reach(t, m.revision) // so that it has been told of all by this time
		m.at = time.Now()
		moments = append(moments, m)
		time.Sleep(50 * time.Millisecond)
	}
	eventually(t, 30*time.Second, "the archive does not reach beyond the last time", func() error {
		if until := archivedUntil(segments(t, store)); !until.After(moments[3].at) {
			return fmt.Errorf("it reaches %s", until)
		}
		return nil
	})
	a.end(t)
	for _, m := range []moment{moments[0], moments[3]} {
		store.checkPoint(t, "3.6.16", m, "--to-time="+m.at.Format(time.RFC3339Nano))
	}
	e := newEtcd(t, "3.6.16", "m-0000")
	for name, at := range map[string]time.Time{"before it began": began.Add(-time.Hour), "after its end": time.Now().Add(time.Hour)} {
		t.Run(name, func(t *testing.T) {
			store.refuseTo(t, e, "--to-time="+at.Format(time.RFC3339Nano), snapshot.ReasonNotArchived)
		})
	}
}

// archivedUntil is until when the last of the segments says that it holds everything.
func archivedUntil(names []string) time.Time {
	var latest time.Time
	for _, name := range names {
		if l, ok := snapshot.ParseLink(filepath.Base(name)); ok && l.Ended.After(latest) {
			latest = l.Ended
		}
	}
	return latest
}

// refuseTo checks that a restore to a point fails and touches no volume.
func (b bucket) refuseTo(t testing.TB, e *etcd, point string, reasons ...snapshot.Reason) outcome {
	t.Helper()
	v := newVolume(t, e.name)
	o := b.run(t, "restore", append(v.restoreFlags(t, e, e.initial()), "--etcd="+tool(t, e.version, "etcd"), "--attempts=1", point)...)
	if !slices.Contains(reasons, o.result.Reason) {
		t.Fatalf("%s: %s: %s; want one of %v", point, o.result.Reason, o.result.Message, reasons)
	}
	o.mustFail(t, o.result.Reason)
	if _, err := os.Stat(v.dataDir()); err == nil {
		t.Errorf("%s: the volume holds data", point)
	}
	return o
}

// What etcd compacted before it was archived is on record as missing: a new base is
// taken, points on both sides are restored, and those between are refused.
func TestACompactionGapIsNeverSilent(t *testing.T) {
	t.Parallel()
	source := startEtcd(t, "3.6.16")
	store := directoryBucket(t)
	a := store.archive(t, source)
	a.reach(t, 1)
	live(t, source.client, 31, 40)
	before := now(t, source.client)
	a.reach(t, before.revision)
	a.kill()
	live(t, source.client, 32, 40)
	within := now(t, source.client)
	for _, key := range []string{"p", "q"} {
		if _, err := source.client.Put(t.Context(), key, "later"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := source.client.Compact(t.Context(), within.revision+1); err != nil {
		t.Fatal(err)
	}
	a = store.archive(t, source)
	a.reach(t, within.revision+2)
	live(t, source.client, 33, 40)
	after := now(t, source.client)
	if p := a.reach(t, after.revision); p.Gaps != 1 {
		t.Errorf("%d gaps are on record, want 1", p.Gaps)
	}
	a.end(t)
	if backups := store.list(t); len(backups) != 2 {
		t.Errorf("%d bases, want one for each side of the gap", len(backups))
	}
	if listed := store.run(t, "list"); strings.Count(listed.stdout+listed.stderr, "archive of cluster ID") != 2 {
		t.Errorf("the list does not show both sides of the gap:\n%s%s", listed.stdout, listed.stderr)
	}
	for _, m := range []moment{before, after} {
		store.checkPoint(t, "3.6.16", m, fmt.Sprintf("--to-revision=%d", m.revision))
	}
	refused := store.refuseTo(t, newEtcd(t, "3.6.16", "m-0000"), fmt.Sprintf("--to-revision=%d", within.revision), snapshot.ReasonNotArchived)
	if !strings.Contains(refused.result.Message, "no segment holds revision") {
		t.Errorf("message: %s", refused.result.Message)
	}
}

// Users and roles are not in a watch: after a change of them nothing is restored from a
// base of before, and a new base is taken.
func TestAChangeOfUsersTakesANewBase(t *testing.T) {
	t.Parallel()
	source := startEtcd(t, "3.6.16")
	store := directoryBucket(t)
	a := store.archive(t, source)
	a.reach(t, 1)
	live(t, source.client, 41, 30)
	enableAuth(t, source.client)
	live(t, source.client, 42, 30)
	changed := now(t, source.client)
	a.reach(t, changed.revision)
	first := store.list(t)[len(store.list(t))-1].ID
	eventually(t, 30*time.Second, "no new base was taken", func() error {
		if n := len(store.list(t)); n < 2 {
			return fmt.Errorf("%d backups", n)
		}
		return nil
	})
	live(t, source.client, 43, 30)
	after := now(t, source.client)
	a.reach(t, after.revision)
	a.end(t)
	store.checkPoint(t, "3.6.16", after, fmt.Sprintf("--to-revision=%d", after.revision))
	e := newEtcd(t, "3.6.16", "m-0000")
	v := newVolume(t, e.name)
	flags := append(v.restoreFlags(t, e, e.initial()), "--etcd="+tool(t, e.version, "etcd"), "--backup="+first, fmt.Sprintf("--to-revision=%d", after.revision))
	if refused := store.run(t, "restore", flags...).mustFail(t, snapshot.ReasonNotArchived); !strings.Contains(refused.result.Message, "users or roles have changed") {
		t.Errorf("message: %s", refused.result.Message)
	}
}

// Turning authentication on, alone, is a change as well: a base of before would serve
// everybody everything.
func TestTurningAuthenticationOnTakesANewBase(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			source := startEtcd(t, version)
			store := directoryBucket(t)
			prepareAuth(t, source.client)
			a := store.archive(t, source)
			a.reach(t, 1)
			if _, err := source.client.AuthEnable(t.Context()); err != nil {
				t.Fatal(err)
			}
			uncompacted(t, source.client, 44, 10)
			after := now(t, source.client)
			a.reach(t, after.revision)
			eventually(t, 30*time.Second, "no new base was taken", func() error {
				if n := len(store.list(t)); n != 2 {
					return fmt.Errorf("%d backups", n)
				}
				return nil
			})
			a.end(t)
			first := store.list(t)[1].ID
			e := newEtcd(t, version, "m-0000")
			v := newVolume(t, e.name)
			flags := append(v.restoreFlags(t, e, e.initial()), "--etcd="+tool(t, e.version, "etcd"), "--backup="+first, fmt.Sprintf("--to-revision=%d", after.revision))
			store.run(t, "restore", flags...).mustFail(t, snapshot.ReasonNotArchived)
		})
	}
}

// Any byte of any segment that changes, and any segment that is gone, is noticed.
func TestDamageToAnArchive(t *testing.T) {
	t.Parallel()
	source := startEtcd(t, "3.6.16")
	store := directoryBucket(t)
	a := store.archive(t, source)
	a.reach(t, 1)
	for round := range 3 {
		live(t, source.client, uint64(50+round), 20)
		a.reach(t, now(t, source.client).revision)
	}
	last := now(t, source.client)
	a.reach(t, last.revision)
	a.end(t)
	point, e := fmt.Sprintf("--to-revision=%d", last.revision), newEtcd(t, "3.6.16", "m-0000")
	random := rand.New(rand.NewPCG(9, 9))
	for i, name := range segments(t, store) {
		l, _ := snapshot.ParseLink(filepath.Base(name))
		if l.To < l.From {
			continue // nothing is restored from it
		}
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		damaged := slices.Clone(content)
		damaged[random.IntN(len(damaged))] ^= byte(1 << random.IntN(8))
		write(t, name, string(damaged))
		store.refuseTo(t, e, point, snapshot.ReasonNotArchived, snapshot.ReasonCorrupt)
		if i%2 == 0 {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
			store.refuseTo(t, e, point, snapshot.ReasonNotArchived, snapshot.ReasonCorrupt)
		}
		write(t, name, string(content))
	}
	store.checkPoint(t, "3.6.16", last, point)
}

// Of two archivers one is told, and what the two have written is still whole.
func TestTwoArchiversOfOneCluster(t *testing.T) {
	t.Parallel()
	source := startEtcd(t, "3.6.16")
	store := directoryBucket(t)
	first := store.archive(t, source)
	first.reach(t, 1)
	second := store.archive(t, source)
	ended := func() bool {
		for _, a := range []*archiver{first, second} {
			select {
			case <-a.done:
				return true
			default:
			}
		}
		return false
	}
	eventually(t, 60*time.Second, "both go on", func() error {
		live(t, source.client, uint64(time.Now().UnixNano()), 5)
		if !ended() {
			return errors.New("not yet")
		}
		return nil
	})
	first.kill()
	second.kill()
	told := 0
	for _, a := range []*archiver{first, second} {
		if content, err := os.ReadFile(a.termination); err == nil && strings.Contains(string(content), string(snapshot.ReasonArchiveTaken)) {
			told++
		}
	}
	if told == 0 {
		t.Error("none of them says that there is another")
	}
	last := now(t, source.client)
	third := store.archive(t, source)
	third.reach(t, last.revision)
	third.end(t)
	store.checkPoint(t, "3.6.16", last, fmt.Sprintf("--to-revision=%d", last.revision))
}

// Whatever the store does while segments are written, the archive has no hole, and a
// point of it is restored. The archiver is killed after each number of exchanges with the
// store: before an object is there, when it is and nobody was told, and when it was told.
func TestAnArchiverWithABrokenStore(t *testing.T) {
	t.Parallel()
	source := startEtcd(t, "3.6.16")
	var broken atomic.Pointer[fault]
	through, direct := proxied(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if f := broken.Load(); f != nil {
			(*f)(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	})
	a := direct.archive(t, source)
	a.reach(t, 1)
	a.end(t)
	var moments []moment
	faults := []fault{
		sometimes(4, answer(http.StatusInternalServerError, "InternalError")),
		sometimes(4, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { reset(w) }),
		sometimes(4, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			next.ServeHTTP(httptest.NewRecorder(), r) // it is done, and nobody is told
			reset(w)
		}),
	}
	for i, f := range faults {
		broken.Store(&f)
		a := through.archive(t, source)
		uncompacted(t, source.client, uint64(60+i), 30)
		m := now(t, source.client)
		a.reach(t, m.revision)
		moments = append(moments, m)
		a.kill()
	}
	for n := range 8 {
		var seen atomic.Int64
		died := make(chan struct{})
		var killed fault = func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if seen.Add(1) > int64(n)+2 { // the first two find out where to go on
				answered := httptest.NewRecorder()
				if n%2 == 0 {
					next.ServeHTTP(answered, r)
				}
				<-died
				return
			}
			next.ServeHTTP(w, r)
		}
		broken.Store(&killed)
		a := through.archive(t, source)
		uncompacted(t, source.client, uint64(80+n), 10)
		eventually(t, 30*time.Second, "the store is not asked", func() error {
			if got := seen.Load(); got <= int64(n)+2 {
				return fmt.Errorf("%d times", got)
			}
			return nil
		})
		a.kill()
		close(died)
		broken.Store(nil)
	}
	last := now(t, source.client)
	a = direct.archive(t, source)
	a.reach(t, last.revision)
	if result := a.end(t); !strings.Contains(result.Message, "with 0 gaps") {
		t.Errorf("result: %s", result.Message)
	}
	for _, m := range append(moments[:1], last) {
		direct.checkPoint(t, "3.6.16", m, fmt.Sprintf("--to-revision=%d", m.revision))
	}
}

// One revision may be far larger than a segment, and have more operations than a client
// may ask for: deleting a range is a short request. Encrypted, and with large values.
func TestLargeRevisionsAreArchived(t *testing.T) {
	t.Parallel()
	source := startEtcd(t, "3.6.16")
	store := directoryBucket(t)
	identities, recipients := identity(t)
	a := store.archive(t, source, "--age-recipients="+recipients)
	a.reach(t, 1)
	for i := range 20 {
		var puts []clientv3.Op
		for j := range 100 {
			puts = append(puts, clientv3.OpPut(fmt.Sprintf("many/%d/%d", i, j), strings.Repeat("v", 8000)))
		}
		if _, err := source.client.Txn(t.Context()).Then(puts...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	full := now(t, source.client)
	if _, err := source.client.Delete(t.Context(), "many/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	live(t, source.client, 77, 10)
	last := now(t, source.client)
	a.reach(t, last.revision)
	a.end(t)
	target, _ := store.restoreTo(t, "3.6.16", fmt.Sprintf("--to-revision=%d", full.revision), "--age-identities="+identities)
	if diff := cmp.Diff(full.state, now(t, target.client).state); diff != "" {
		t.Errorf("(-source +restored):\n%s", diff)
	}
	target, _ = store.restoreTo(t, "3.6.16", fmt.Sprintf("--to-revision=%d", last.revision), "--age-identities="+identities)
	if diff := cmp.Diff(last.state, now(t, target.client).state); diff != "" {
		t.Errorf("(-source +restored):\n%s", diff)
	}
	store.refuseTo(t, newEtcd(t, "3.6.16", "m-0000"), fmt.Sprintf("--to-revision=%d", last.revision), snapshot.ReasonKeyMissing)
}

// Writes come at a steady rate, and each is stored soon after.
func TestArchiveLag(t *testing.T) {
	seconds, perSecond, measuring := 6, 200, os.Getenv("QUORATE_BENCH_MIB") != ""
	if measuring {
		seconds, perSecond = 40, 1000
	}
	source := startEtcd(t, "3.6.16")
	store := s3Bucket(t)
	// With the default of spec.rateLimit, which keeps the archiver to one processor.
	a := store.archive(t, source, "--seal-every=2s", "--idle-every=10m", fmt.Sprintf("--rate-limit=%d", 8<<20))
	a.reach(t, 1)
	highWater := watchMemory(a.command.Process.Pid)
	stop := make(chan struct{})
	var written atomic.Int64
	var writers sync.WaitGroup
	// So many that a write may take 32 ms, and the rate is kept all the same.
	const clients = 32
	for w := range clients {
		writers.Go(func() {
			ticker := time.NewTicker(clients * time.Second / time.Duration(perSecond))
			defer ticker.Stop()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-ticker.C:
					if _, err := source.client.Put(t.Context(), fmt.Sprintf("w/%d/%d", w, i%1000), strings.Repeat("v", 256)); err == nil {
						written.Add(1)
					}
				}
			}
		})
	}
	var lags []time.Duration
	began := time.Now()
	deadline := began.Add(time.Duration(seconds)*time.Second + time.Minute)
	for time.Since(began) < time.Duration(seconds)*time.Second || len(lags) == 0 && time.Now().Before(deadline) {
		time.Sleep(50 * time.Millisecond)
		if p, err := a.progress(); err == nil && time.Since(began) > 3*time.Second {
			lags = append(lags, time.Since(p.Until))
		}
	}
	close(stop)
	writers.Wait()
	took := time.Since(began)
	last := now(t, source.client)
	// What is told to end stores what it has heard of, and that may lack the last writes.
	a.reach(t, last.revision)
	a.end(t)
	if len(lags) == 0 {
		t.Fatal("the archiver tells no progress")
	}
	slices.Sort(lags)
	replaying := time.Now()
	store.checkPoint(t, "3.6.16", last, fmt.Sprintf("--to-revision=%d", last.revision))
	t.Logf("%d revisions were restored in %s", last.revision, time.Since(replaying).Round(time.Millisecond))
	p99 := lags[len(lags)*99/100]
	rate := float64(written.Load()) / took.Seconds()
	most, _ := highWater()
	t.Logf("%.0f writes/s: what is not stored yet is at the median %s old, p99 %s, at most %s; %d KiB of memory, %d segments",
		rate, lags[len(lags)/2], p99, lags[len(lags)-1], most, len(segments(t, store)))
	if measuring {
		fmt.Printf("archive lag, p99: %.2f s at %.0f writes/s (at most 5 s at %d writes/s)\n", p99.Seconds(), rate, perSecond)
	}
	if measuring && rate < 0.95*float64(perSecond) {
		t.Errorf("only %.0f writes/s were made, so that the lag is not one of %d: run it on a machine that is free", rate, perSecond)
	}
	if measuring && p99 > 5*time.Second {
		t.Errorf("the lag's p99 is %s, want at most 5 s", p99)
	}
}

func TestBadInputOfAnArchive(t *testing.T) {
	t.Parallel()
	source := startEtcd(t, "3.6.16")
	store := directoryBucket(t)
	e := newEtcd(t, "3.6.16", "m-0000")
	for name, flags := range map[string][]string{
		"a short interval": append(archiveFlags(t, source), "--seal-every=1ms"),
		"no cluster":       {"--endpoints=" + source.clientURL},
	} {
		t.Run(name, func(t *testing.T) { store.run(t, "archive", flags...).mustFail(t, snapshot.ReasonUsage) })
	}
	store.run(t, "archive", append(archiveFlags(t, source), "--cluster-id=abc")...).mustFail(t, snapshot.ReasonWrongCluster)
	for name, flags := range map[string][]string{
		"a negative revision": {"--to-revision=-1"},
		"an odd time":         {"--to-time=yesterday"},
		"two points":          {"--to-revision=1", "--to-time=2026-01-02T15:04:05Z"},
	} {
		t.Run(name, func(t *testing.T) {
			store.run(t, "restore", append(newVolume(t, e.name).restoreFlags(t, e, e.initial()), flags...)...).mustFail(t, snapshot.ReasonUsage)
		})
	}
	store.refuseTo(t, e, "--to-revision=5", snapshot.ReasonBackupMissing)
}
