package snapshot

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/internal/member"
)

// fragile is a file system of its own, on a file. What its kernel holds in memory alone is not in
// that file: a copy of it is the disk after a power cut.
type fragile struct{ image, path string }

func newFragile(t *testing.T) *fragile {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("a file system is mounted here: run the tests as root")
	}
	f := &fragile{image: filepath.Join(t.TempDir(), "image")}
	write(t, f.image, "")
	if err := os.Truncate(f.image, 256<<20); err != nil {
		t.Fatal(err)
	}
	runs(t, "mkfs.ext4", "-q", "-m", "0", f.image)
	f.mount(t)
	return f
}

func (f *fragile) mount(t *testing.T) {
	t.Helper()
	f.path = t.TempDir()
	runs(t, "mount", "-o", "loop", f.image, f.path)
	t.Cleanup(func() { f.unmount(t) })
}

func (f *fragile) unmount(t *testing.T) {
	t.Helper()
	if f.path != "" {
		// A program that the killed one had started may be there for a moment longer.
		eventually(t, 30*time.Second, "the file system is in use", func() error { return unix.Unmount(f.path, 0) })
		f.path = ""
	}
}

func runs(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// cut is what is on the disk when the power goes now. The kernel writes when it likes, and a
// program that the killed one had started writes for a moment longer: a copy counts when a second
// one is the same.
func (f *fragile) cut(t *testing.T) *fragile {
	t.Helper()
	after := &fragile{image: filepath.Join(t.TempDir(), "image")}
	var last []byte
	for range 20 {
		runs(t, "cp", "--sparse=always", f.image, after.image)
		now := digest(t, after.image)
		if bytes.Equal(now, last) {
			after.mount(t)
			return after
		}
		last = now
	}
	t.Fatal("the disk does not come to rest")
	return nil
}

func digest(t *testing.T, path string) []byte {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		t.Fatal(err)
	}
	return sum.Sum(nil)
}

// The power may go at any step of a restore, and when it has just been done: no half of the data
// is where the member would start from it, what was said to be done is, and what was not is done
// by the next restore. Without its syncs a file would have its name by then, and no content.
func TestARestoreOutlivesAPowerCut(t *testing.T) {
	t.Parallel()
	source := startEtcd(t, "3.6.16")
	live(t, source.client, 43, 100)
	want := read(t, source.client)
	store := directoryBucket(t)
	store.save(t, source).mustSucceed(t)
	disk := newFragile(t)
	volumeOn := func(f *fragile) string { return filepath.Join(f.path, "volume") }
	for at, killed := 1, true; killed; at++ {
		e := newEtcd(t, "3.6.16", "m-0000")
		v := newVolume(t, e.name)
		v.path = volumeOn(disk)
		mkdir(t, v.path)
		runs(t, "sync", "-f", disk.path) // it was there long before
		command := store.command(t, filepath.Join(t.TempDir(), "termination"), "restore", v.restoreFlags(t, e, e.initial())...)
		killed = killAtStep(t, command, v.path, at)
		when := fmt.Sprintf("the power went at step %d", at)
		after := disk.cut(t)
		v.path = volumeOn(after)
		checkHalf(t, v, when)
		if !killed {
			checkComplete(t, v)
		}
		if !killed || at%4 == 0 {
			checkDone(t, store, v, e, want, when)
		} else {
			store.run(t, "restore", v.restoreFlags(t, e, e.initial())...).mustSucceed(t)
			checkComplete(t, v)
		}
		after.unmount(t)
		eventually(t, 30*time.Second, "the volume is not cleared", func() error { return os.RemoveAll(volumeOn(disk)) })
		if !killed && at < 8 {
			t.Errorf("only %d steps were seen", at)
		}
	}
}

// checkComplete wants all of the data on the volume of a restore that has said so.
func checkComplete(t *testing.T, v *volume) {
	t.Helper()
	found, err := member.Examine(v.path, v.dataDir(), v.identity)
	if err != nil {
		t.Fatal(err)
	}
	if found.Data != member.DataComplete || found.Marker != member.MarkerBooted {
		t.Errorf("it is restored, and the volume holds data in state %d with a marker in state %d", found.Data, found.Marker)
	}
}

// The same holds for a store on a volume: what is listed after a power cut can be restored, and
// what a save has said to be there is listed.
func TestABackupOnAVolumeOutlivesAPowerCut(t *testing.T) {
	t.Parallel()
	source := startEtcd(t, "3.6.16")
	live(t, source.client, 44, 100)
	disk := newFragile(t)
	storeOn := func(f *fragile) bucket {
		dir := filepath.Join(f.path, "store")
		return bucket{dir: dir, flags: []string{"--store=file://" + dir}}
	}
	mkdir(t, storeOn(disk).dir)
	runs(t, "sync", "-f", disk.path) // it was there long before
	began := time.Now()
	storeOn(disk).save(t, source, "--uid=u0").mustSucceed(t)
	whole, random, said := time.Since(began), rand.New(rand.NewPCG(6, 6)), map[string]bool{"u0": true}
	interrupted := 0
	for i := 1; i <= 12 || interrupted < 3 && i <= 40; i++ {
		began := time.Now()
		uid := fmt.Sprintf("u%d", i)
		command := storeOn(disk).command(t, filepath.Join(t.TempDir(), "termination"), "save", append(saveFlags(t, source), "--uid="+uid)...)
		p := start(t, filepath.Join(t.TempDir(), "log"), command)
		if i%3 > 0 {
			select {
			case <-p.done:
			case <-time.After(time.Duration(random.Int64N(int64(whole)))):
				p.kill()
			}
		}
		<-p.done
		switch {
		case p.err != nil && i%3 == 0:
			t.Fatalf("save %d: %v", i, p.err)
		case p.err != nil:
			interrupted++
		default:
			whole = min(whole, time.Since(began))
		}
		said[uid] = p.err == nil
		when := fmt.Sprintf("the power went when save %d had ended (%v)", i, p.err)
		after := disk.cut(t)
		listed := map[string]bool{}
		for _, b := range checkWhole(t, storeOn(after), when) {
			listed[b.UID] = true
		}
		for uid, ended := range said {
			if ended && !listed[uid] {
				t.Errorf("%s: the save of %s had said that it was there, and it is not listed", when, uid)
			}
		}
		if i == 12 {
			storeOn(after).drill(t, "3.6.16").mustSucceed(t)
		}
		after.unmount(t)
	}
	if interrupted < 3 {
		t.Errorf("%d saves were interrupted: little is shown", interrupted)
	}
}
