package snapshot

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/test/freeport"
)

// What is saved to a cloud, by parts and whole, is found, verified and restored.
func TestACloudsBackupsAreRestored(t *testing.T) {
	source := bigSource(t)
	live(t, source.client, 21, 100)
	want := read(t, source.client)
	eachCloud(t, func(t *testing.T, open func(*testing.T, fault) cloud) {
		store := open(t, whole)
		saved := store.save(t, source, "--uid=u1").mustSucceed(t)
		if saved.rss > maxRSS {
			t.Errorf("saving took %d KiB of memory, at most %d are allowed", saved.rss, maxRSS)
		}
		t.Logf("%d bytes were stored with %d KiB of memory", saved.result.Backup.StoredBytes, saved.rss)
		if again := store.save(t, source, "--uid=u1").mustSucceed(t); again.result.Backup.ID != saved.result.Backup.ID {
			t.Error("a finished backup was made again")
		}
		if drilled := store.drill(t, "3.6.16").mustSucceed(t); drilled.result.Reason != snapshot.ReasonVerified {
			t.Errorf("drill: %+v", drilled.result)
		}
		if listed := store.list(t); len(listed) != 1 || listed[0].Verified == nil || listed[0].ID != saved.result.Backup.ID {
			t.Errorf("listed: %+v", listed)
		}
		checkRestore(t, store.bucket, "3.6.16", want, saved.result.Backup.Revision)
	})
}

// What retention does not keep is gone; what may not be deleted is said to be there.
func TestACloudsRetention(t *testing.T) {
	t.Parallel()
	source := startEtcd(t, "3.6.16")
	eachCloud(t, func(t *testing.T, open func(*testing.T, fault) cloud) {
		var locked string
		store := open(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if locked != "" && removal(r) && strings.Contains(r.URL.Path, locked) {
				refuse(403, "AuthorizationPermissionMismatch")(w, r, next)
				return
			}
			next.ServeHTTP(w, r)
		})
		var ids []string
		for i := range 4 {
			if _, err := source.client.Put(t.Context(), "k", strconv.Itoa(i)); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, store.save(t, source).mustSucceed(t).result.Backup.ID)
		}
		locked = ids[0]
		pruned := store.run(t, "prune", "--keep-last=1").mustSucceed(t).result
		if p := pruned.Pruned; p.DroppedCount != 2 || p.Refused != 1 || len(pruned.Warnings) != 1 {
			t.Errorf("pruned: %+v %v", pruned.Pruned, pruned.Warnings)
		}
		if listed := store.list(t); len(listed) != 2 || listed[0].ID != ids[3] || listed[1].ID != ids[0] {
			t.Errorf("left: %+v", listed)
		}
		locked = ""
		store.run(t, "prune", "--keep-last=1").mustSucceed(t)
		if names := store.names(); len(names) != 2 {
			t.Errorf("objects left: %v", names)
		}
		store.run(t, "prune", "--drop="+ids[3]).mustSucceed(t)
		if names := store.names(); len(names) != 0 {
			t.Errorf("objects left: %v", names)
		}
	})
}

// At rest, a changed bit is damage, and never restored.
func TestDamageAtRestInACloud(t *testing.T) {
	t.Parallel()
	source := startEtcd(t, "3.6.16")
	live(t, source.client, 11, 50)
	eachCloud(t, func(t *testing.T, open func(*testing.T, fault) cloud) {
		store := open(t, whole)
		id := store.save(t, source).mustSucceed(t).result.Backup.ID
		for _, object := range []string{snapshot.SnapshotObject, snapshot.ManifestObject} {
			name := strings.Join([]string{"team", "a", clusterUID, id, object}, "/")
			good := store.read(name)
			damaged := append([]byte{}, good...)
			damaged[len(damaged)/2] ^= 1
			store.write(name, damaged)
			store.drill(t, "3.6.16", "--backup="+id).mustFail(t, snapshot.ReasonCorrupt)
			e := newEtcd(t, "3.6.16", "m-0000")
			v := newVolume(t, e.name)
			store.run(t, "restore", append(v.restoreFlags(t, e, e.initial()), "--backup="+id)...).mustFail(t, snapshot.ReasonCorrupt)
			if _, err := os.Stat(v.dataDir()); err == nil {
				t.Error("there is data on the volume")
			}
			store.write(name, good)
		}
		store.drill(t, "3.6.16", "--backup="+id).mustSucceed(t)
	})
}

// Whatever is wrong with what a user gave is said, and nothing is stored.
func TestBadInputForACloud(t *testing.T) {
	t.Parallel()
	source := startEtcd(t, "3.6.16")
	eachCloud(t, func(t *testing.T, open func(*testing.T, fault) cloud) {
		store := open(t, whole)
		check := func(name string, reason snapshot.Reason, flags ...string) {
			t.Run(name, func(t *testing.T) {
				began := time.Now()
				failed := store.save(t, source, append([]string{"--attempts=1"}, flags...)...).mustFail(t, reason)
				t.Logf("after %s: %s", time.Since(began).Round(100*time.Millisecond), failed.result.Message)
				if time.Since(began) > time.Minute {
					t.Error("it took longer than anybody waits")
				}
				for _, secret := range []string{"PRIVATE KEY", "sig=", "Eby8vdM02xNOcqFl", "Fby8vdM02xNOcqFl"} {
					if strings.Contains(failed.stderr+failed.stdout+failed.result.Message, secret) {
						t.Errorf("a secret was printed: %s", failed.stderr)
					}
				}
			})
		}
		check("a missing bucket", snapshot.ReasonBucketMissing, store.missing...)
		check("no Secret", snapshot.ReasonCredentialsMissing, "--credentials="+filepath.Join(t.TempDir(), "none"))
		nobody := strings.Replace(store.endpoint, strings.Split(store.endpoint, "/")[2], freeport.Address(t), 1)
		check("nobody at the endpoint", snapshot.ReasonStoreUnreachable, "--store-endpoint="+nobody)
		for name, r := range store.refused {
			check(name, r.reason, "--credentials="+r.secret)
		}
		if names := store.names(); len(names) > 0 {
			t.Errorf("something was left: %v", names)
		}
		if listed := store.run(t, "list", store.missing...); listed.code == 0 {
			t.Errorf("a missing bucket was listed: %s", listed.stdout)
		}
		for name, secret := range store.taken {
			t.Run(name, func(t *testing.T) {
				store.save(t, source, "--credentials="+secret).mustSucceed(t)
				store.drill(t, "3.6.16", "--credentials="+secret).mustSucceed(t)
			})
		}
	})
}

// Whatever a cloud does, a save fails with the right reason, within a time, or leaves
// what can be restored.
func TestFaultsOfACloudWhileSaving(t *testing.T) {
	t.Parallel()
	source := bigSource(t)
	eachCloud(t, func(t *testing.T, open func(*testing.T, fault) cloud) {
		for name, tc := range map[string]struct {
			fault  fault
			reason snapshot.Reason // empty: it succeeds in the end
		}{
			"a 500 now and then":        {sometimes(5, refuse(500, "InternalError")), ""},
			"a 503 now and then":        {sometimes(5, refuse(503, "ServerBusy")), ""},
			"a 429 now and then":        {sometimes(5, refuse(429, "TooManyRequests")), ""},
			"cut now and then":          {sometimes(8, cut), ""},
			"always 503":                {always(intoCloud, refuse(503, "ServerBusy")), snapshot.ReasonStoreUnreachable},
			"always cut":                {always(anyRequest, cut), snapshot.ReasonStoreUnreachable},
			"flipped when read back":    {once(fromCloud, flipAnswer), ""},
			"always flipped":            {always(fromCloud, flipAnswer), snapshot.ReasonCorrupt},
			"breaks off when read back": {once(fromCloud, breakOff), ""},
			"cut when read back":        {always(fromCloud, cut), snapshot.ReasonStoreUnreachable},
			"403 for the upload":        {always(intoCloud, refuse(403, "AuthorizationPermissionMismatch")), snapshot.ReasonAccessDenied},
			"401 for the upload":        {always(intoCloud, refuse(401, "InvalidAuthenticationInfo")), snapshot.ReasonCredentialsExpired},
			"all of it is slow":         {sluggish, ""},
			"it arrives flipped":        {once(contentIntoCloud, arrives(flipped)), ""},
			"it always arrives flipped": {always(contentIntoCloud, arrives(flipped)), snapshot.ReasonCorrupt},
			"half of it arrives":        {once(contentIntoCloud, arrives(half)), ""},
			"412 for the upload":        {always(intoCloud, refuse(412, "ConditionNotMet")), snapshot.ReasonStoreUnreachable},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel() // most of the time the client waits before it tries again
				var mended atomic.Bool
				store := open(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
					if mended.Load() {
						next.ServeHTTP(w, r)
						return
					}
					tc.fault(w, r, next)
				})
				began := time.Now()
				saved := store.save(t, source)
				t.Logf("after %s: %s", time.Since(began).Round(100*time.Millisecond), saved.result.Message)
				if time.Since(began) > 3*time.Minute {
					t.Error("it took longer than anybody waits")
				}
				if tc.reason == "" {
					saved.mustSucceed(t)
				} else {
					saved.mustFail(t, tc.reason)
				}
				mended.Store(true)
				checkNothingFalseIsListed(t, store.bucket, saved)
			})
		}
	})
}

// An upload that is interrupted leaves nothing that could be taken for a backup.
func TestAnUploadToACloudThatIsInterrupted(t *testing.T) {
	t.Parallel()
	source := bigSource(t)
	eachCloud(t, func(t *testing.T, open func(*testing.T, fault) cloud) {
		for i, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
			reached := make(chan struct{}, 100)
			counted := open(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if intoCloud(r) {
					reached <- struct{}{}
				}
				next.ServeHTTP(w, r)
			})
			command := counted.command(t, filepath.Join(t.TempDir(), "termination"), "save", append(saveFlags(t, source), "--rate-limit=4000000", fmt.Sprintf("--uid=u%d", i))...)
			p := start(t, filepath.Join(t.TempDir(), "log"), command)
			<-reached
			<-reached
			_ = p.command.Process.Signal(signal)
			<-p.done
			if names := counted.names(); len(names) != 0 {
				t.Errorf("left by %v: %v", signal, names)
			}
			if listed := counted.list(t); len(listed) != 0 {
				t.Errorf("listed: %+v", listed)
			}
			counted.save(t, source, fmt.Sprintf("--uid=u%d", i)).mustSucceed(t)
			counted.drill(t, "3.6.16").mustSucceed(t)
		}
	})
}
