// Package etcdbinary finds the real etcd binaries that make setup builds.
package etcdbinary

import (
	"os"
	"path/filepath"
	"testing"
)

// Path is where etcd of this version (without a leading v) is looked for, as seen
// from a package of test/integration: in QUORATE_ETCD_DIR, or in .cluster/etcd.
func Path(version string) string {
	dir := os.Getenv("QUORATE_ETCD_DIR")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", ".cluster", "etcd")
	}
	path := filepath.Join(dir, "v"+version, "etcd")
	if absolute, err := filepath.Abs(path); err == nil {
		return absolute
	}
	return path
}

// Find is Path, and ends the test when there is no such etcd.
func Find(t testing.TB, version string) string {
	t.Helper()
	path := Path(version)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("no etcd %s (%v); run: make setup", version, err)
	}
	return path
}
