package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// target is one binary that is built from the Go module proxy. Each module
// under build/ pins its versions and checksums; its go.sum is complete.
type target struct {
	output  string // under .cluster
	module  string // directory under build/
	pkg     string // import path, or . for the module's own main
	version string // for the progress line
	ldflags string
	note    string // why it takes long
}

const versionPackage = "k8s.io/component-base/version"

// kubernetesLdflags tell Kubernetes its version; without them clients refuse to work with it.
var kubernetesLdflags = strings.Join([]string{
	"-X " + versionPackage + ".gitVersion=" + kubernetesVersion,
	"-X " + versionPackage + ".gitMajor=1",
	"-X " + versionPackage + ".gitMinor=" + strings.Split(kubernetesVersion, ".")[1],
	"-X " + versionPackage + ".gitTreeState=archive",
}, " ")

func kubernetesTarget(name, note string) target {
	return target{
		output: "bin/" + name, module: "kubernetes", pkg: "k8s.io/kubernetes/cmd/" + name,
		version: kubernetesVersion, ldflags: kubernetesLdflags, note: note,
	}
}

// assetTargets are what envtest and the tests of the member binary and of backups
// need.
func assetTargets() []target {
	var list []target
	for _, version := range etcdVersions {
		module := "etcd-" + minorOf(version)
		for binary, pkg := range map[string]string{"etcd": "server", "etcdctl": "etcdctl", "etcdutl": "etcdutl"} {
			list = append(list, target{
				output: "etcd/" + version + "/" + binary, module: module,
				pkg: "go.etcd.io/etcd/" + pkg + "/v3", version: version,
			})
		}
	}
	slices.SortFunc(list, func(a, b target) int { return strings.Compare(a.output, b.output) })
	return append(list,
		target{
			output: "bin/versitygw", module: "versitygw", pkg: "github.com/versity/versitygw/cmd/versitygw",
			version: versitygwVersion, note: "one to two minutes on 2 cores",
		},
		kubernetesTarget("kube-apiserver", "the first build compiles most of Kubernetes: 3 to 6 minutes on 2 cores"),
		kubernetesTarget("kubectl", ""),
	)
}

// allTargets are what the cluster needs.
func allTargets() []target {
	return append(assetTargets(),
		kubernetesTarget("kube-controller-manager", "about a minute on 2 cores"),
		kubernetesTarget("kube-scheduler", ""),
		kubernetesTarget("kubelet", ""),
		kubernetesTarget("kube-proxy", ""),
		target{output: "bin/coredns", module: "coredns", pkg: ".", note: "one to two minutes on 2 cores"},
		target{output: "bin/provisioner", module: "provisioner", pkg: ".", note: "about a minute on 2 cores"},
		target{output: "bin/pause", module: "pause", pkg: "."},
	)
}

// minorOf returns 3.5 of v3.5.35.
func minorOf(version string) string {
	parts := strings.Split(strings.TrimPrefix(version, "v"), ".")
	return strings.Join(parts[:2], ".")
}

func (t target) name() string {
	return strings.TrimSpace(filepath.Base(t.output) + " " + t.version)
}

func (t target) flags() []string {
	return []string{"-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", strings.TrimSpace("-s -w " + t.ldflags)}
}

// stamp is a hash of everything that decides what the binary is: the module's
// files, the flags and the compiler.
func (t target) stamp(modules string) (string, error) {
	hash := sha256.New()
	dir := filepath.Join(modules, t.module)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("reading the module of %s: %w", t.name(), err)
	}
	for _, e := range entries {
		name := e.Name()
		if name != "go.mod" && name != "go.sum" && filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return "", fmt.Errorf("reading the module of %s: %w", t.name(), err)
		}
		fmt.Fprintf(hash, "%s %d\n%s", name, len(data), data)
	}
	fmt.Fprintln(hash, t.pkg, t.flags(), runtime.Version(), runtime.GOARCH)
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// stampFile lies beside the binary.
func stampFile(output string) string {
	return filepath.Join(filepath.Dir(output), "."+filepath.Base(output)+".stamp")
}

// isCurrent tells whether output was made from what stamp describes.
func isCurrent(output, stamp string) bool {
	have, err := os.ReadFile(stampFile(output))
	if err != nil || string(bytes.TrimSpace(have)) != stamp {
		return false
	}
	_, err = os.Stat(output)
	return err == nil
}

// build makes every target that is not current.
func build(l layout, p *progress, targets []target) error {
	var due []target
	for _, t := range targets {
		stamp, err := t.stamp(l.modules())
		if err != nil {
			return err
		}
		if !isCurrent(l.path(t.output), stamp) {
			due = append(due, t)
		}
	}
	if len(due) > 0 {
		p.say("building %d binaries from source; the Go build cache makes this fast the next time", len(due))
	}
	for _, t := range due {
		if err := t.build(l, p); err != nil {
			return err
		}
	}
	return nil
}

func (t target) build(l layout, p *progress) error {
	if t.note != "" {
		p.say("building %s: %s", t.name(), t.note)
	}
	stamp, err := t.stamp(l.modules())
	if err != nil {
		return err
	}
	output := l.path(t.output)
	if err := os.MkdirAll(filepath.Dir(output), 0o755); err != nil {
		return fmt.Errorf("making the directory of %s: %w", t.name(), err)
	}
	began := time.Now()
	// Beside, then renamed: a binary that runs cannot be written to, and one that
	// is half written must not be found.
	temporary := output + ".new"
	cmd := exec.Command("go", slices.Concat([]string{"build"}, t.flags(), []string{"-o", temporary, t.pkg})...)
	cmd.Dir = filepath.Join(l.modules(), t.module)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOOS=linux")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("building %s: %w\n%s", t.name(), err, bytes.TrimSpace(out.Bytes()))
	}
	if err := install(temporary, output, stamp); err != nil {
		return fmt.Errorf("installing %s: %w", t.name(), err)
	}
	p.say("built %s in %.1fs", t.name(), time.Since(began).Seconds())
	return nil
}

// install puts a new binary in place and then says what it was made from.
func install(temporary, output, stamp string) error {
	if err := os.Remove(stampFile(output)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Rename(temporary, output); err != nil {
		return err
	}
	return os.WriteFile(stampFile(output), []byte(stamp+"\n"), 0o644)
}

// linkControlEtcd puts the etcd of the control plane where envtest looks for it.
func linkControlEtcd(l layout) error {
	for _, name := range []string{"etcd", "etcdctl", "etcdutl"} {
		from, to := l.path("etcd", controlEtcd, name), l.bin(name)
		if same(from, to) {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		_ = os.Remove(to + ".new") // of an interrupted run; Link tells if it is still there
		if err := os.Link(from, to+".new"); err != nil {
			return fmt.Errorf("installing %s: %w", name, err)
		}
		if err := os.Rename(to+".new", to); err != nil {
			return fmt.Errorf("installing %s: %w", name, err)
		}
	}
	return nil
}

func same(a, b string) bool {
	ia, errA := os.Stat(a)
	ib, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(ia, ib)
}

// installSelf keeps this program beside the others: machines run it for as
// long as they are on, when the file that go run made is long gone.
func installSelf(l layout) error {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("installing the cluster program: %w", err)
	}
	defer self.Close()
	output := l.bin("cluster")
	if same("/proc/self/exe", output) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(output), 0o755); err != nil {
		return err
	}
	temporary, err := os.OpenFile(output+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		return fmt.Errorf("installing the cluster program: %w", err)
	}
	_, copyErr := io.Copy(temporary, self)
	if err := errors.Join(copyErr, temporary.Close()); err != nil {
		return fmt.Errorf("installing the cluster program: %w", err)
	}
	return os.Rename(output+".new", output)
}
