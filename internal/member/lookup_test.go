package member

import (
	"os"
	"path/filepath"
	"testing"
)

func TestReadAnnotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "annotations")
	for content, want := range map[string]string{
		"": "", "a=\"1\"\nb=\"2 \\\"x\\\"\"\n": "2 \"x\"", "a=\"1\"": "",
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadAnnotation(path, "b"); err != nil || got != want {
			t.Errorf("of %q: %q, %v, want %q", content, got, err, want)
		}
	}
	if err := os.WriteFile(path, []byte("b=\"1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadAnnotation(path, "b"); err == nil {
		t.Errorf("of a file that was cut off: %q", got)
	}
	if _, err := ReadAnnotation(path+".absent", "b"); err == nil {
		t.Error("of no file: no error")
	}
}
