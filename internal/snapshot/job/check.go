package job

import (
	"context"
	"io"

	"filippo.io/age"

	"github.com/quorate/quorate/internal/snapshot"
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
	r, key, err := e.object(ctx, m)
	if err != nil {
		return err
	}
	defer r.Close()
	return e.decode(r, m, identities, key, io.Discard)
}
