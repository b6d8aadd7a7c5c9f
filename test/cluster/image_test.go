package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// exampleImage is an image of a program and a text, whose files are as old as age.
func exampleImage(t *testing.T, age time.Time) imageSpec {
	t.Helper()
	dir := t.TempDir()
	program, text := filepath.Join(dir, "program"), filepath.Join(dir, "text")
	write(t, program, "#!program")
	write(t, text, "text")
	if err := os.Chmod(program, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{program, text} {
		if err := os.Chtimes(file, age, age); err != nil {
			t.Fatal(err)
		}
	}
	return imageSpec{
		tag: "example.org/quorate/example:v1", base: "scratch", user: "65532:65532", workdir: "/work",
		entrypoint: []string{"/usr/local/bin/program", "serve"}, env: []string{"A=b"}, dirs: []string{"/work"},
		files: []imageFile{{program, "/usr/local/bin/program"}, {text, "/etc/example/text"}},
	}
}

func TestTheSameFilesMakeTheSameArchive(t *testing.T) {
	var archives [2][]byte
	for i := range archives {
		output := filepath.Join(t.TempDir(), "out", "image.tar")
		if err := buildImage(exampleImage(t, time.Now().Add(-time.Duration(i)*time.Hour)), output); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(output)
		if err != nil {
			t.Fatal(err)
		}
		archives[i] = data
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("two archives of the same files differ")
	}
}

func TestWhatIsInAnImage(t *testing.T) {
	output := filepath.Join(t.TempDir(), "image.tar")
	if err := buildImage(exampleImage(t, time.Now()), output); err != nil {
		t.Fatal(err)
	}
	image, err := tarball.ImageFromPath(output, nil)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	want := v1.Config{
		User: "65532:65532", WorkingDir: "/work", Entrypoint: []string{"/usr/local/bin/program", "serve"},
		Env: []string{defaultPath, "A=b"},
	}
	if diff := cmp.Diff(want, config.Config); diff != "" {
		t.Error(diff)
	}
	type file struct {
		Mode    int64
		Content string
	}
	wantFiles := map[string]file{
		"etc": {0o755, ""}, "etc/example": {0o755, ""}, "etc/example/text": {0o644, "text"},
		"etc/group": {0o644, group}, "etc/passwd": {0o644, passwd},
		"tmp": {0o1777, ""}, "usr": {0o755, ""}, "usr/local": {0o755, ""}, "usr/local/bin": {0o755, ""},
		"usr/local/bin/program": {0o755, "#!program"}, "work": {0o755, ""},
	}
	have := map[string]file{} // Extract cleans the names: no / behind a directory
	content := mutate.Extract(image)
	defer content.Close()
	for r := tar.NewReader(content); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if header.Uid != 0 || header.Gid != 0 || header.ModTime.Unix() != 0 {
			t.Errorf("%s belongs to %d:%d and is from %s", header.Name, header.Uid, header.Gid, header.ModTime)
		}
		have[header.Name] = file{header.Mode, string(data)}
	}
	if diff := cmp.Diff(wantFiles, have); diff != "" {
		t.Error(diff)
	}
}

func TestAnImageCanBeBuiltOnAnother(t *testing.T) {
	dir := t.TempDir()
	base, output := filepath.Join(dir, "base.tar"), filepath.Join(dir, "image.tar")
	if err := buildImage(exampleImage(t, time.Now()), base); err != nil {
		t.Fatal(err)
	}
	more := filepath.Join(dir, "more")
	write(t, more, "more")
	if err := buildImage(imageSpec{tag: "example.org/more:v2", base: base, files: []imageFile{{more, "/more"}}}, output); err != nil {
		t.Fatal(err)
	}
	image, err := tarball.ImageFromPath(output, nil)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if len(config.RootFS.DiffIDs) != 2 || config.Config.User != "65532:65532" || config.Config.Entrypoint[0] != "/usr/local/bin/program" {
		t.Errorf("the base image is lost: %+v", config)
	}
}

func TestImagesThatCannotBeMade(t *testing.T) {
	dir := t.TempDir()
	tests := map[string]imageSpec{
		"a file that is not there": {tag: "a:b", files: []imageFile{{filepath.Join(dir, "none"), "/none"}}},
		"a directory":              {tag: "a:b", files: []imageFile{{dir, "/dir"}}},
		"a name in capitals":       {tag: "Example:b", files: nil},
		"a base that is not there": {tag: "a:b", base: filepath.Join(dir, "none.tar")},
	}
	for name, spec := range tests {
		t.Run(name, func(t *testing.T) {
			output := filepath.Join(dir, "out.tar")
			if err := buildImage(spec, output); err == nil {
				t.Error("it was made")
			}
			if _, err := os.Stat(output); err == nil {
				t.Error("an archive is left")
			}
		})
	}
}

func TestTheEtcdImagesAreAsThePublishedOnes(t *testing.T) {
	images := clusterImages(layout{root: "/r"})
	for _, version := range etcdVersions {
		spec, found := images["etcd-"+version+".tar"]
		if !found || spec.tag != "quay.io/coreos/etcd:"+version || len(spec.files) != 3 {
			t.Errorf("the image of etcd %s is %+v", version, spec)
		}
	}
	if spec := images["pause.tar"]; spec.tag != pauseImage {
		t.Errorf("the pause image is called %s, the nodes look for %s", spec.tag, pauseImage)
	}
}
