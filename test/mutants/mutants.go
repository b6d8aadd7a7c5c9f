// Package mutants compiles a package as if a part of its source were another one, so
// that a test can see whether the other tests notice.
package mutants

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Overlay is the go command's environment in which the one place of a file that reads
// from reads to. It is false, and the test has failed, if there is no such place, or
// more than one.
func Overlay(t *testing.T, file, from, to string) (environment string, ok bool) {
	t.Helper()
	source, err := os.ReadFile(file)
	if err != nil {
		t.Error(err)
		return "", false
	}
	if n := strings.Count(string(source), from); n != 1 {
		t.Errorf("%q occurs %d times in %s, want once: bring the mutant up to date", from, n, file)
		return "", false
	}
	here, err := filepath.Abs(file)
	if err != nil {
		t.Error(err)
		return "", false
	}
	dir := t.TempDir()
	mutant, overlay := filepath.Join(dir, file), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{here: mutant}})
	if err != nil {
		t.Error(err)
		return "", false
	}
	for path, content := range map[string]string{mutant: strings.Replace(string(source), from, to, 1), overlay: string(replace)} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Error(err)
			return "", false
		}
	}
	return "GOFLAGS=-overlay=" + overlay, true
}
