package job

import (
	"context"
	"errors"
	"io"

	"filippo.io/age"

	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/internal/snapshot/store"
)

// Check is which backup to read before anybody relies on it.
type Check struct {
	// ID of the backup, or Latest.
	ID         string
	Identities []age.Identity
	Tools      Tools
	// Version of the etcd that is to serve the data, without a leading v.
	Version string
}

// Check reads a backup to its end as a restore would, and keeps nothing of it: with the same
// credentials, the same private key and the same etcd. What it finds wrong a restore would
// find, when the members it is to replace have been stopped.
func (e *Env) Check(ctx context.Context, c Check) (snapshot.Manifest, error) {
	m, err := e.find(ctx, c.ID)
	if err != nil {
		return m, err
	}
	if err := (Restore{Tools: c.Tools, Version: c.Version, Foreign: AllowForeign}).allowed(ctx, m); err != nil {
		return m, err
	}
	if m.Encrypted() && len(c.Identities) == 0 {
		return m, keyMissing(m, c.Identities, nil)
	}
	return m, e.try(ctx, func(ctx context.Context, attempt int) error {
		e.Tracker.enter(snapshot.PhaseReadingBack, attempt, m.Stored.Bytes)
		return e.readThrough(ctx, m, c.Identities)
	})
}

// readThrough reads the object, and compares both hashes with those of the manifest.
func (e *Env) readThrough(ctx context.Context, m snapshot.Manifest, identities []age.Identity) error {
	key := e.Place.Key(m.ID, snapshot.SnapshotObject)
	r, size, err := e.Store.Reader(ctx, key)
	if errors.Is(err, store.ErrNotExist) {
		return snapshot.Fail(snapshot.ReasonCorrupt, err, "%s is gone, although its manifest is there — the backup cannot be restored — take a new one, and look at the store", key)
	}
	if err != nil {
		return err
	}
	defer r.Close()
	if size != m.Stored.Bytes {
		return damagedObject(key, snapshot.Content{Bytes: size}, m.Stored)
	}
	return e.decode(r, m, identities, key, io.Discard)
}
