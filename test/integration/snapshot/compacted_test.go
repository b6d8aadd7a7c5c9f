package snapshot

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/test/freeport"
)

// rests has etcd compact to its latest revision, as it does when nobody has written for as long as
// history is kept.
func rests(t *testing.T, e *etcd) {
	t.Helper()
	if _, err := e.client.Compact(t.Context(), latest(t, e.client), clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
}

// Where nobody has written for as long as history is kept, etcd compacts to the latest
// revision, and remembers what it hashed meanwhile. What it says of it from then on is of data
// that no snapshot has, and a drill would condemn every backup of a cluster that rests.
func TestAClusterThatRestsIsSavedAndTriedOut(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			source, store := startEtcd(t, version), directoryBucket(t)
			rests(t, source)
			store.save(t, source).mustSucceed(t)
			store.drill(t, version).mustSucceed(t)
			live(t, source.client, 11, 50)
			rests(t, source)
			saved := store.save(t, source, "--rate-limit=16777216").mustSucceed(t).result.Backup
			store.drill(t, version, "--backup="+saved.ID).mustSucceed(t)
			// Somebody writes again: etcd still remembers.
			live(t, source.client, 12, 5)
			saved = store.save(t, source).mustSucceed(t).result.Backup
			store.drill(t, version, "--backup="+saved.ID).mustSucceed(t)
		})
	}
}

// sending waits until a save that tells its progress there has read something of the snapshot.
func sending(at string) error {
	var last error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var p snapshot.Progress
		if p, last = progressAt(at); last == nil && p.Phase == snapshot.PhaseSaving && p.BytesRead > 0 {
			return nil
		}
	}
	return fmt.Errorf("it reads nothing: %w", cmp.Or(last, errors.New("no byte in a minute")))
}

// What is compacted while a snapshot is sent is hashed without it, and the drill compacts as far.
func TestWhatIsCompactedWhileItIsSent(t *testing.T) {
	t.Parallel()
	source, store := bigSource(t), directoryBucket(t)
	live(t, source.client, 13, 50)
	base := latest(t, source.client)
	if _, err := source.client.Put(t.Context(), "big/0", "overwritten"); err != nil {
		t.Fatal(err)
	}
	done, at := make(chan error, 1), freeport.Address(t)
	go func() {
		err := sending(at)
		if err == nil {
			_, err = source.client.Compact(t.Context(), base, clientv3.WithCompactPhysical())
		}
		done <- err
	}()
	// It takes six seconds, which is longer than a machine stands still.
	saved := store.save(t, source, fmt.Sprintf("--rate-limit=%d", 4<<20), "--progress-listen="+at).mustSucceed(t)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if strings.Contains(saved.stderr, "Attempt failed") {
		t.Errorf("it was sent twice: %s", saved.stderr)
	}
	content, err := os.ReadFile(store.object(saved.result.Backup.ID, snapshot.ManifestObject))
	if err != nil || !strings.Contains(string(content), fmt.Sprintf(`"compactRevision": %d`, base)) {
		t.Errorf("compacted to %d: %v\n%s", base, err, content)
	}
	store.drill(t, "3.6.16", "--backup="+saved.result.Backup.ID).mustSucceed(t)
	if m := store.list(t)[0]; m.Verified == nil {
		t.Errorf("%+v", m)
	}
}

// The end of an archive is tried out as well while the cluster rests, with a base that was taken
// while it did.
func TestAnArchiveOfAClusterThatRestsIsTriedOut(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			source, store := startEtcd(t, version), directoryBucket(t)
			drill := func() {
				t.Helper()
				drilled := store.run(t, "drill-archive", append(drillArchiveFlags(t, source, version), "--cluster-id="+source.clusterID(t))...).mustSucceed(t).result
				if want := latest(t, source.client); drilled.Point == nil || drilled.Point.Revision != want || drilled.Verification == nil {
					t.Errorf("the drill says %+v, want revision %d", drilled, want)
				}
			}
			live(t, source.client, 14, 40)
			rests(t, source)
			a := store.archive(t, source)
			eventually(t, 30*time.Second, "there is a base", func() error {
				p, err := a.progress()
				if err == nil && p.Base == "" {
					err = errors.New("there is none")
				}
				return err
			})
			uncompacted(t, source.client, 15, 40)
			a.reach(t, latest(t, source.client))
			drill()
			rests(t, source)
			drill()
			a.end(t)
		})
	}
}
