package snapshot

import (
	"os"
	"testing"

	"github.com/quorate/quorate/internal/snapshot"
)

// TestCheck: what a restore could not read is found before anybody is stopped for it, and
// nothing is written.
func TestCheck(t *testing.T) {
	t.Parallel()
	source := startEtcd(t, "3.6.16")
	store := directoryBucket(t)
	own, recipients := identity(t)
	other, _ := identity(t)
	saved := store.save(t, source, "--age-recipients="+recipients).mustSucceed(t).result.Backup
	check := func(version string, flags ...string) outcome {
		t.Helper()
		return store.run(t, "check", append(flags, "--backup="+saved.ID, "--etcd-version="+version, "--etcdutl="+tool(t, "3.6.16", "etcdutl"))...)
	}
	is := check("3.6.16", "--age-identities="+own).mustSucceed(t).result
	if is.Reason != snapshot.ReasonChecked || is.Backup == nil || is.Backup.ID != saved.ID || store.list(t)[0].Verified != nil {
		t.Errorf("it says %+v", is)
	}
	check("3.6.16").mustFail(t, snapshot.ReasonKeyMissing)
	check("3.6.16", "--age-identities="+other).mustFail(t, snapshot.ReasonKeyMissing)
	check("3.5.35", "--age-identities="+own).mustFail(t, snapshot.ReasonIncompatibleVersion)
	check("3.7.0", "--age-identities="+own).mustFail(t, snapshot.ReasonIncompatibleVersion)

	object := store.object(saved.ID, snapshot.SnapshotObject)
	content, err := os.ReadFile(object)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	write(t, object, string(content))
	check("3.6.16", "--age-identities="+own).mustFail(t, snapshot.ReasonCorrupt)
	if err := os.Remove(object); err != nil {
		t.Fatal(err)
	}
	check("3.6.16", "--age-identities="+own).mustFail(t, snapshot.ReasonCorrupt)
	if err := os.Remove(store.object(saved.ID, snapshot.ManifestObject)); err != nil {
		t.Fatal(err)
	}
	check("3.6.16", "--age-identities="+own).mustFail(t, snapshot.ReasonBackupMissing)
}
