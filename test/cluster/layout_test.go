package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTheRepositoryIsFoundFromBelow(t *testing.T) {
	root := t.TempDir()
	deep := filepath.Join(root, "test", "cluster", "build")
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "go.mod"), "// a comment\nmodule github.com/quorate/quorate\n\ngo 1.26.0\n")
	// A module on the way up, whose path begins with the project's, is not the root.
	write(t, filepath.Join(root, "test", "cluster", "go.mod"), "module github.com/quorate/quorate/test/cluster\n")
	for _, dir := range []string{root, filepath.Join(root, "test"), deep} {
		l, err := findLayout(dir)
		if err != nil || l.root != root {
			t.Errorf("findLayout(%s) = %q, %v, want %s", dir, l.root, err, root)
		}
	}
	if l, err := findLayout(t.TempDir()); err == nil {
		t.Errorf("found a repository at %s, where none is", l.root)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
