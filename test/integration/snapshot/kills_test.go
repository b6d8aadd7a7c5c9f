package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/internal/member"
	"github.com/quorate/quorate/internal/snapshot"
)

// killer kills a process at one of its requests to the store.
type killer struct {
	// at which request, from 1; none at 0.
	at int64
	// late is after the store has done what it was asked for, and before it answers.
	late bool

	asked  atomic.Int64
	victim chan *process
	// changed says that the request would have changed the store.
	changed atomic.Bool
}

// strike is a fault.
func (k *killer) strike(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if k.asked.Add(1) != k.at {
		next.ServeHTTP(w, r)
		return
	}
	k.changed.Store(r.Method != http.MethodGet && r.Method != http.MethodHead)
	if k.late {
		next.ServeHTTP(httptest.NewRecorder(), r)
	}
	victim := <-k.victim
	victim.kill()
	reset(w)
}

// killing is a bucket behind the killer of the moment.
func killing(t *testing.T) (now *atomic.Pointer[killer], through, direct bucket) {
	t.Helper()
	now = &atomic.Pointer[killer]{}
	through, direct = proxied(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) { now.Load().strike(w, r, next) })
	return now, through, direct
}

// run ends with the process, and says whether it was killed.
func (k *killer) run(t *testing.T, command *exec.Cmd) (killed bool) {
	t.Helper()
	p := start(t, filepath.Join(t.TempDir(), "log"), command)
	k.victim <- p
	<-p.done
	return k.asked.Load() >= k.at && k.at > 0
}

// eachKill has a command killed at its first request, at its second, and so on until it ends
// by itself: before the request took effect, and after, if there is an effect. It looks at what
// was left after each.
func eachKill(t *testing.T, now *atomic.Pointer[killer], command func() *exec.Cmd, look func(when string)) {
	t.Helper()
	late := false
	for at := int64(1); ; {
		if at > 200 {
			t.Fatal("it does not end")
		}
		k := &killer{at: at, late: late, victim: make(chan *process, 1)}
		now.Store(k)
		if !k.run(t, command()) {
			t.Logf("it ended by itself with %d requests", k.asked.Load())
			return
		}
		now.Store(&killer{})
		look(fmt.Sprintf("killed at request %d (done: %t)", at, late))
		if late = !late && k.changed.Load(); !late {
			at++
		}
	}
}

// contents of all files below a directory.
func contents(t testing.TB, root string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		found[strings.TrimPrefix(path, root)] = fmt.Sprintf("%d bytes, %x", len(content), sha256.Sum256(content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// copied puts a directory's content into another one instead of what is there, with
// attributes and times: the S3 server keeps in them what it knows of an object.
func copied(t testing.TB, from, to string) {
	t.Helper()
	entries, err := os.ReadDir(to)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if err := os.RemoveAll(filepath.Join(to, entry.Name())); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("cp", "-a", from+"/.", to).CombinedOutput(); err != nil {
		t.Fatalf("copying: %v\n%s", err, out)
	}
}

// beginUpload begins one that nobody will end.
func beginUpload(t testing.TB, endpoint, key string) {
	t.Helper()
	api := s3.New(s3.Options{
		BaseEndpoint: &endpoint, UsePathStyle: true, Region: "us-east-1",
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: secretKey}, nil
		}),
	})
	if _, err := api.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: aws.String("backups"), Key: &key}); err != nil {
		t.Fatal(err)
	}
}

// Killed at any of its requests, a prune leaves backups that are whole, and the last verified
// one among them; the next prune does the rest.
func TestAPruneThatIsKilledAtAnyRequest(t *testing.T) {
	t.Parallel()
	source := startEtcd(t, "3.6.16")
	now, through, direct := killing(t)
	now.Store(&killer{})
	for range 3 { // so that an archive can begin before the first backup
		if _, err := source.client.Put(t.Context(), "k", "before"); err != nil {
			t.Fatal(err)
		}
	}
	var saved []snapshot.Backup
	for i := range 4 {
		if _, err := source.client.Put(t.Context(), "k", strconv.Itoa(i)); err != nil {
			t.Fatal(err)
		}
		saved = append(saved, *direct.save(t, source).mustSucceed(t).result.Backup)
	}
	// The first will be dropped, the second is the last verified one, the third is unfinished,
	// and the fourth is the newest.
	dropped, verified, unfinished, newest := saved[0].ID, saved[1].ID, saved[2].ID, saved[3].ID
	direct.drill(t, "3.6.16", "--backup="+verified).mustSucceed(t)
	if err := os.Remove(direct.object(unfinished, snapshot.ManifestObject)); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{dropped, newest} {
		e := newEtcd(t, "3.6.16", "m-0000")
		v := newVolume(t, e.name)
		direct.run(t, "restore", append(v.restoreFlags(t, e, e.initial()), "--backup="+id)...).mustSucceed(t)
	}
	archiveOf(t, direct, source.clusterID(t), saved[1].Revision)
	place := snapshot.Place{Prefix: "team/a", ClusterUID: clusterUID}
	beginUpload(t, direct.endpoint(), place.Key(unfinished, snapshot.SnapshotObject))
	makeOlder(t, direct.dir, snapshot.OrphansAfter+time.Hour)
	pristine := t.TempDir()
	copied(t, direct.dir, pristine)
	before := contents(t, pristine)

	full := direct.run(t, "prune", "--keep-last=1").mustSucceed(t).result.Pruned
	if full.DroppedCount != 1 || full.Orphans != 2 || full.Segments == 0 || uploads(t, direct) != 0 {
		t.Fatalf("pruned: %+v, and %d uploads are left: not all of what is to be shown", full, uploads(t, direct))
	}
	want := contents(t, direct.dir)
	command := func() *exec.Cmd {
		copied(t, pristine, direct.dir)
		return through.command(t, filepath.Join(t.TempDir(), "termination"), "prune", "--keep-last=1")
	}
	eachKill(t, now, command, func(when string) {
		left := contents(t, direct.dir)
		for _, id := range []string{dropped, verified, newest} {
			for _, object := range []string{snapshot.ManifestObject, snapshot.SnapshotObject, snapshot.VerificationObject} {
				name := "/" + place.Key(id, object)
				_, listed := left["/"+place.Key(id, snapshot.ManifestObject)]
				if (id != dropped || listed && object != snapshot.VerificationObject) && left[name] != before[name] {
					t.Errorf("%s: %s is %q, and was %q", when, name, left[name], before[name])
				}
			}
		}
		direct.run(t, "prune", "--keep-last=1").mustSucceed(t)
		if diff := cmp.Diff(want, contents(t, direct.dir)); diff != "" {
			t.Errorf("%s, and pruned again (-want +got):\n%s", when, diff)
		}
	})
	if listed := direct.list(t); len(listed) != 2 || listed[0].ID != newest || listed[1].ID != verified || listed[1].Verified == nil {
		t.Errorf("listed in the end: %+v", listed)
	}
}

// manifests that lie in the bucket, by their IDs: one that cannot be read must not lie there.
func manifests(t testing.TB, b bucket) map[string]snapshot.Manifest {
	t.Helper()
	paths, err := filepath.Glob(b.object("*", snapshot.ManifestObject))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]snapshot.Manifest{}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		m, err := snapshot.DecodeManifest(content)
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		found[filepath.Base(filepath.Dir(path))] = m
	}
	return found
}

// checkWhole wants each backup that is listed to be what its manifest says, and each manifest to
// be listed. It returns the manifests.
func checkWhole(t *testing.T, b bucket, when string) map[string]snapshot.Manifest {
	t.Helper()
	listed, found := b.list(t), manifests(t, b)
	if len(listed) != len(found) {
		t.Errorf("%s: %d backups are listed, and there are %d manifests", when, len(listed), len(found))
	}
	for _, is := range listed {
		want := found[is.ID].Stored
		content, err := os.ReadFile(b.object(is.ID, snapshot.SnapshotObject))
		got := snapshot.Content{Bytes: int64(len(content)), SHA256: fmt.Sprintf("%x", sha256.Sum256(content))}
		if err != nil || got != want || is.StoredBytes != want.Bytes || is.SHA256 != want.SHA256 {
			t.Errorf("%s: %s is listed as %+v, its manifest says %+v, and its object is %+v, %v", when, is.ID, is, want, got, err)
			continue
		}
		b.run(t, "check", "--backup="+is.ID, "--etcd-version="+is.EtcdVersion, "--etcdutl="+tool(t, is.EtcdVersion, "etcdutl")).mustSucceed(t)
	}
	return found
}

// Killed at any of its requests, a save leaves a backup that is whole, or nothing that is listed.
// The same save again finds the one that is there, or makes it: in the end there is one.
func TestASaveThatIsKilledAtAnyRequest(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		source  func(t *testing.T) *etcd
		uploads bool
	}{
		"in one piece": {func(t *testing.T) *etcd { t.Helper(); return startEtcd(t, "3.6.16") }, false},
		"in parts":     {bigSource, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source := tc.source(t)
			live(t, source.client, 81, 50)
			now, through, direct := killing(t)
			now.Store(&killer{})
			flags := append(saveFlags(t, source), "--uid=u1")
			empty := t.TempDir()
			command := func() *exec.Cmd {
				copied(t, empty, direct.dir)
				return through.command(t, filepath.Join(t.TempDir(), "termination"), "save", flags...)
			}
			// How often there was a backup, a whole object that was none, and an upload that was begun.
			var done, unsealed, begun int
			eachKill(t, now, command, func(when string) {
				before := checkWhole(t, direct, when)
				objects, err := filepath.Glob(direct.object("*", snapshot.SnapshotObject))
				if err != nil {
					t.Fatal(err)
				}
				done, unsealed, begun = done+len(before), unsealed+len(objects)-len(before), begun+uploads(t, direct)
				again := direct.run(t, "save", flags...).mustSucceed(t).result.Backup
				after := checkWhole(t, direct, when+", and saved again")
				if len(after) != 1 || after[again.ID].UID != "u1" {
					t.Errorf("%s, and saved again as %s: there are %+v", when, again.ID, after)
				}
				if diff := cmp.Diff(before, after); len(before) > 0 && diff != "" {
					t.Errorf("%s, and saved again (-before +after):\n%s", when, diff)
				}
			})
			t.Logf("%d times there was a backup, %d times an object without a manifest, %d times an upload", done, unsealed, begun)
			if done == 0 || unsealed == 0 || (begun > 0) != tc.uploads {
				t.Error("not all of what is to be shown")
			}
			if last := checkWhole(t, direct, "never killed"); len(last) != 1 {
				t.Errorf("never killed: there are %+v", last)
			}
			direct.drill(t, "3.6.16").mustSucceed(t)
		})
	}
}

// archiveOf writes an archive of four, the first of which no backup needs that has the
// revision or a later one: the third holds that revision, and the second what came before it.
func archiveOf(t testing.TB, b bucket, clusterID string, revision int64) {
	t.Helper()
	directory := filepath.Join(b.dir, snapshot.Place{Prefix: "team/a", ClusterUID: clusterUID}.ArchiveDirectory(clusterID))
	mkdir(t, directory)
	before := snapshot.Link{Sum: strings.Repeat("0", 16), To: 1}
	for i, to := range []int64{revision - 2, revision - 1, revision, revision + 1} {
		l := snapshot.Link{
			Sequence: int64(i) + 1, From: before.To + 1, To: to, Ended: time.Now().Add(-snapshot.OrphansAfter - time.Hour),
			Previous: before.Sum, Sum: fmt.Sprintf("%016x", i+1),
		}
		write(t, filepath.Join(directory, l.Name()), "")
		before = l
	}
}

// checkHalf wants a volume that holds nothing that a member would start from, or all.
func checkHalf(t *testing.T, v *volume, when string) {
	t.Helper()
	found, err := member.Examine(v.path, v.dataDir(), v.identity)
	if err != nil {
		t.Fatal(err)
	}
	if found.Data != member.DataAbsent && (found.Data != member.DataComplete || found.Marker != member.MarkerBooted) {
		t.Errorf("%s: the volume holds data in state %d with a marker in state %d", when, found.Data, found.Marker)
	}
}

// checkDone restores again, and wants the member to serve the source's data.
func checkDone(t *testing.T, b bucket, v *volume, e *etcd, want state, when string) {
	t.Helper()
	b.run(t, "restore", v.restoreFlags(t, e, e.initial())...).mustSucceed(t)
	v.guard(t, e, e.initial())
	e.connect(t)
	if diff := cmp.Diff(want, read(t, e.client)); diff != "" {
		t.Errorf("%s, and restored again (-source +restored):\n%s", when, diff)
	}
	e.stopGuard()
}

// Killed at any of its requests, or after any step on the volume, a restore leaves no half of
// the data where the member would start from it, and the next one does it all.
func TestARestoreThatIsKilledAtAnyStep(t *testing.T) {
	t.Parallel()
	source := startEtcd(t, "3.6.16")
	live(t, source.client, 41, 100)
	want := read(t, source.client)
	now, through, direct := killing(t)
	now.Store(&killer{})
	direct.save(t, source).mustSucceed(t)
	var e *etcd
	var v *volume
	command := func() *exec.Cmd {
		e = newEtcd(t, "3.6.16", "m-0000")
		v = newVolume(t, e.name)
		return through.command(t, filepath.Join(t.TempDir(), "termination"), "restore", v.restoreFlags(t, e, e.initial())...)
	}
	eachKill(t, now, command, func(when string) {
		checkHalf(t, v, when)
		checkDone(t, direct, v, e, want, when)
	})
	now.Store(&killer{})
	for at := 1; ; at++ {
		c := command()
		killed := killAtStep(t, c, v.path, at)
		when := fmt.Sprintf("killed at step %d", at)
		checkHalf(t, v, when)
		// Not every one is served: that takes a second.
		if !killed || at%4 == 0 {
			checkDone(t, direct, v, e, want, when)
		} else {
			direct.run(t, "restore", v.restoreFlags(t, e, e.initial())...).mustSucceed(t)
			checkHalf(t, v, when+", and restored again")
		}
		if !killed {
			t.Logf("it ended by itself with %d steps", at-1)
			if at < 8 {
				t.Error("the steps were not seen")
			}
			return
		}
	}
}

// killAtStep kills a command as soon as so many names have appeared or gone, or been closed
// after they were written, in a directory or in the one where a restore works.
func killAtStep(t *testing.T, command *exec.Cmd, directory string, at int) (killed bool) {
	t.Helper()
	const steps = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_CLOSE_WRITE
	queue, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	events := os.NewFile(uintptr(queue), "inotify")
	defer events.Close()
	root, err := unix.InotifyAddWatch(queue, directory, steps)
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, filepath.Join(t.TempDir(), "log"), command)
	go func() {
		<-p.done
		_ = events.SetReadDeadline(time.Now().Add(50 * time.Millisecond)) // for what is still to be read
	}()
	buffer := make([]byte, 64<<10)
	for seen := 0; ; {
		n, err := events.Read(buffer)
		if err != nil {
			return false
		}
		for rest := buffer[:n]; len(rest) >= unix.SizeofInotifyEvent; {
			length := binary.NativeEndian.Uint32(rest[12:])
			name := string(bytes.TrimRight(rest[unix.SizeofInotifyEvent:unix.SizeofInotifyEvent+length], "\x00"))
			if binary.NativeEndian.Uint32(rest) == uint32(root) && name == "restoring" { // it fails if it has gone already
				_, _ = unix.InotifyAddWatch(queue, filepath.Join(directory, name), steps)
			}
			rest = rest[unix.SizeofInotifyEvent+length:]
			if seen++; seen == at {
				p.kill() // it may have ended meanwhile, and is looked at all the same
				return true
			}
		}
	}
}
