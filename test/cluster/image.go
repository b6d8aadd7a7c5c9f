package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// defaultPath is the PATH of an image that does not say otherwise.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// imageSpec describes an image made of static files.
type imageSpec struct {
	tag        string // the whole name, such as quay.io/coreos/etcd:v3.6.16
	base       string // scratch, or an image archive to build on
	user       string // UID:GID
	workdir    string
	entrypoint []string
	command    []string
	env        []string
	dirs       []string
	files      []imageFile
}

// imageFile is a file of this machine and where it goes in the image.
type imageFile struct{ source, target string }

// parseFile reads SRC:DST.
func parseFile(arg string) (imageFile, error) {
	source, target, found := strings.Cut(arg, ":")
	if !found || source == "" || !path.IsAbs(target) {
		return imageFile{}, fmt.Errorf("%q is not SRC:DST with an absolute DST", arg)
	}
	return imageFile{source: source, target: path.Clean(target)}, nil
}

// buildImage writes the image's archive; the same files make the same bytes.
func buildImage(spec imageSpec, output string) error {
	tag, err := name.NewTag(spec.tag, name.WithDefaultRegistry("docker.io"))
	if err != nil {
		return fmt.Errorf("naming the image: %w", err)
	}
	image := empty.Image
	if spec.base != "" && spec.base != "scratch" {
		if image, err = tarball.ImageFromPath(spec.base, nil); err != nil {
			return fmt.Errorf("reading the base image %s: %w", spec.base, err)
		}
	}
	layer, err := spec.layer()
	if err != nil {
		return err
	}
	// Not compressed: the archive never leaves this machine.
	image, err = mutate.AppendLayers(image, static.NewLayer(layer, types.OCIUncompressedLayer))
	if err != nil {
		return fmt.Errorf("adding the files to the image: %w", err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		return fmt.Errorf("reading the image's configuration: %w", err)
	}
	if image, err = mutate.ConfigFile(image, spec.configure(config.DeepCopy())); err != nil {
		return fmt.Errorf("configuring the image: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(output), 0o755); err != nil {
		return fmt.Errorf("writing the image: %w", err)
	}
	if err := tarball.WriteToFile(output+".new", tag, image); err != nil {
		return fmt.Errorf("writing the image: %w", err)
	}
	return os.Rename(output+".new", output)
}

func (s imageSpec) configure(config *v1.ConfigFile) *v1.ConfigFile {
	config.Architecture, config.OS = "amd64", "linux"
	config.Created = v1.Time{Time: time.Unix(0, 0).UTC()}
	config.History = nil
	if s.user != "" {
		config.Config.User = s.user
	}
	if s.workdir != "" {
		config.Config.WorkingDir = s.workdir
	}
	if s.entrypoint != nil {
		config.Config.Entrypoint, config.Config.Cmd = s.entrypoint, nil
	}
	if s.command != nil {
		config.Config.Cmd = s.command
	}
	env := append(config.Config.Env, s.env...)
	if !slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "PATH=") }) {
		env = append([]string{defaultPath}, env...)
	}
	config.Config.Env = env
	return config
}

// passwd and group name the users that images of static binaries run as.
const (
	passwd = "root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"
	group  = "root:x:0:\nnobody:x:65534:\nnonroot:x:65532:\n"
)

// layer makes the image's one layer: entries in order of their names, owned by
// root, all of the same age.
func (s imageSpec) layer() ([]byte, error) {
	entries := map[string]*tar.Header{}
	sources := map[string]imageFile{}
	contents := map[string]string{"/etc/passwd": passwd, "/etc/group": group}
	addDir := func(dir string, mode int64) {
		for at := dir; at != "/"; at = path.Dir(at) {
			if _, there := entries[at]; !there || at == dir {
				entries[at] = &tar.Header{Typeflag: tar.TypeDir, Name: at[1:] + "/", Mode: 0o755}
			}
		}
		entries[dir].Mode = mode
	}
	addDir("/tmp", 0o1777)
	for _, dir := range s.dirs {
		addDir(path.Clean(dir), 0o755)
	}
	for target, text := range contents {
		addDir(path.Dir(target), 0o755)
		entries[target] = &tar.Header{Typeflag: tar.TypeReg, Name: target[1:], Mode: 0o644, Size: int64(len(text))}
	}
	for _, f := range s.files {
		info, err := os.Stat(f.source)
		if err != nil {
			return nil, fmt.Errorf("adding to the image: %w", err)
		}
		if !info.Mode().IsRegular() {
			return nil, fmt.Errorf("adding %s to the image: it is not a regular file", f.source)
		}
		mode := int64(0o644)
		if info.Mode()&0o111 != 0 {
			mode = 0o755
		}
		if parent := path.Dir(f.target); parent != "/" && entries[parent] == nil {
			addDir(parent, 0o755)
		}
		entries[f.target] = &tar.Header{Typeflag: tar.TypeReg, Name: f.target[1:], Mode: mode, Size: info.Size()}
		sources[f.target] = f
		delete(contents, f.target)
	}
	return writeLayer(entries, sources, contents)
}

func writeLayer(entries map[string]*tar.Header, sources map[string]imageFile, contents map[string]string) ([]byte, error) {
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	for _, target := range slices.Sorted(maps.Keys(entries)) {
		header := entries[target]
		header.ModTime, header.Format = time.Unix(0, 0), tar.FormatUSTAR
		if err := w.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("adding %s to the image: %w", target, err)
		}
		if text, ok := contents[target]; ok {
			if _, err := io.WriteString(w, text); err != nil {
				return nil, fmt.Errorf("adding %s to the image: %w", target, err)
			}
		}
		if f, ok := sources[target]; ok {
			if err := copyFile(w, f.source); err != nil {
				return nil, fmt.Errorf("adding %s to the image: %w", target, err)
			}
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("adding the files to the image: %w", err)
	}
	return buffer.Bytes(), nil
}

func copyFile(w io.Writer, source string) error {
	file, err := os.Open(source)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(w, file)
	return err
}

// clusterImages are the images that every node has from the start, by archive name.
func clusterImages(l layout) map[string]imageSpec {
	images := map[string]imageSpec{
		"pause.tar": {
			tag: pauseImage, user: "65535:65535", entrypoint: []string{"/pause"},
			files: []imageFile{{l.bin("pause"), "/pause"}},
		},
	}
	for _, version := range etcdVersions {
		spec := imageSpec{
			tag: etcdImage + ":" + version, command: []string{"/usr/local/bin/etcd"},
			dirs: []string{"/var/etcd", "/var/lib/etcd"},
		}
		for _, binary := range []string{"etcd", "etcdctl", "etcdutl"} {
			spec.files = append(spec.files, imageFile{l.path("etcd", version, binary), "/usr/local/bin/" + binary})
		}
		images["etcd-"+version+".tar"] = spec
	}
	return images
}

// makeClusterImages makes the archives that are not current.
func makeClusterImages(l layout, p *progress) error {
	images := clusterImages(l)
	for _, archive := range slices.Sorted(maps.Keys(images)) {
		spec, output := images[archive], l.path("images", archive)
		stamp, err := spec.stamp()
		if err != nil {
			return err
		}
		if isCurrent(output, stamp) {
			continue
		}
		if err := p.step("made the image "+spec.tag, func() error {
			if err := buildImage(spec, output); err != nil {
				return err
			}
			return os.WriteFile(stampFile(output), []byte(stamp+"\n"), 0o644)
		}); err != nil {
			return err
		}
	}
	return nil
}

// stamp is a hash of what decides the archive. The files are binaries built
// here, so their own stamps stand for them.
func (s imageSpec) stamp() (string, error) {
	hash := sha256.New()
	fmt.Fprintf(hash, "%+v\n%s%s", s, passwd, group)
	for _, f := range s.files {
		stamp, err := os.ReadFile(stampFile(f.source))
		if err != nil {
			return "", fmt.Errorf("reading what %s was made from: %w", f.source, err)
		}
		hash.Write(stamp)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}
