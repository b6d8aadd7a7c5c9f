package snapshot

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"filippo.io/age"

	"github.com/quorate/quorate/internal/snapshot"
)

func identity(t *testing.T) (identities, recipients string) {
	t.Helper()
	made, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	identities, recipients = filepath.Join(dir, "identity"), filepath.Join(dir, "recipients")
	write(t, identities, made.String()+"\n")
	write(t, recipients, made.Recipient().String()+"\n")
	return identities, recipients
}

func TestEncryption(t *testing.T) {
	t.Parallel()
	source := startEtcd(t, "3.6.16")
	if _, err := source.client.Put(t.Context(), "needle", "in-the-haystack"); err != nil {
		t.Fatal(err)
	}
	store := directoryBucket(t)
	own, recipients := identity(t)
	other, _ := identity(t)
	saved := store.save(t, source, "--age-recipients="+recipients, "--compression=none").mustSucceed(t).result.Backup
	if !saved.Encrypted {
		t.Error("the result does not say that it is encrypted")
	}
	content, err := os.ReadFile(store.object(saved.ID, snapshot.SnapshotObject))
	if err != nil || bytes.Contains(content, []byte("needle")) {
		t.Errorf("the object can be read (%v)", err)
	}
	store.drill(t, "3.6.16").mustFail(t, snapshot.ReasonKeyMissing)
	store.drill(t, "3.6.16", "--age-identities="+other).mustFail(t, snapshot.ReasonKeyMissing)
	store.drill(t, "3.6.16", "--age-identities="+recipients).mustFail(t, snapshot.ReasonBadRecipient)
	store.drill(t, "3.6.16", "--age-identities="+own).mustSucceed(t)
	store.save(t, source, "--age-recipients="+own).mustFail(t, snapshot.ReasonBadRecipient)
}

// A process that is started again for the same EtcdBackup does not make another one.
func TestTheSameBackupIsNotMadeTwice(t *testing.T) {
	t.Parallel()
	source := startEtcd(t, "3.6.16")
	store := directoryBucket(t)
	first := store.save(t, source, "--uid=u1").mustSucceed(t).result.Backup
	second := store.save(t, source, "--uid=u1").mustSucceed(t).result.Backup
	third := store.save(t, source, "--uid=u2").mustSucceed(t).result.Backup
	if first.ID != second.ID || second.ID == third.ID || len(store.list(t)) != 2 {
		t.Errorf("first %s, second %s, third %s", first.ID, second.ID, third.ID)
	}
}
