package job

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/quorate/quorate/internal/snapshot"
)

const (
	// versionTimeout: a program that says its version does nothing else.
	versionTimeout = 30 * time.Second
	// maxWords of a program's last words that are passed on, in bytes.
	maxWords = 600
)

// Tools are etcd's own programs, of the version that is to serve the data: their
// data format is theirs to know.
type Tools struct {
	// Etcd and Etcdutl are paths; a restore needs no Etcd.
	Etcd, Etcdutl string
}

// versionOf runs "PROGRAM VERB" and finds the version in what it prints, without a
// leading v.
func versionOf(ctx context.Context, program, verb string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	printed, err := exec.CommandContext(ctx, program, verb).Output()
	if err != nil {
		return "", snapshot.Fail(snapshot.ReasonUsage, err, "%s cannot be run: %v — etcd's own programs restore and serve the data — run this in etcd's image", program, err)
	}
	for line := range strings.Lines(string(printed)) {
		name, value, found := strings.Cut(strings.TrimSpace(line), ":")
		if found && strings.HasSuffix(strings.ToLower(name), "version") && !strings.HasPrefix(name, "API") && !strings.HasPrefix(name, "Go") {
			return strings.TrimPrefix(strings.TrimSpace(value), "v"), nil
		}
	}
	return "", snapshot.Fail(snapshot.ReasonUsage, nil, "%s does not say its version — it may not be etcd's — run this in etcd's image", program)
}

// compatible says whether etcd of this version can take the snapshot: of the same
// minor version, or of the one after. etcd supports no longer step up, and no step
// down.
func compatible(m snapshot.Manifest, version string) error {
	taken, err := minor(m.Etcd.Version)
	if err != nil {
		return err
	}
	target, err := minor(version)
	if err != nil {
		return err
	}
	switch {
	case taken > target:
		return snapshot.Fail(snapshot.ReasonIncompatibleVersion, nil,
			"backup %s is of etcd %s, and etcd %s is to take it — etcd does not read the data of a later version — restore it with %s or later",
			m.ID, m.Etcd.Version, version, majorMinor(m.Etcd.Version))
	case target > taken+1:
		return snapshot.Fail(snapshot.ReasonIncompatibleVersion, nil,
			"backup %s is of etcd %s, and etcd %s is to take it — etcd supports a step of one minor version, not of more — restore it with %s or 3.%d, and upgrade from there",
			m.ID, m.Etcd.Version, version, majorMinor(m.Etcd.Version), taken+1)
	}
	return nil
}

// minor is 6 for "3.6.16".
func minor(version string) (int, error) {
	parts := strings.Split(strings.TrimPrefix(version, "v"), ".")
	if len(parts) >= 2 && parts[0] == "3" {
		if n, err := strconv.Atoi(parts[1]); err == nil {
			return n, nil
		}
	}
	return 0, snapshot.Fail(snapshot.ReasonUsage, nil, "the version is %q — it cannot be told whether it can take the snapshot — give one such as 3.6.16", version)
}

// As is the member to restore as.
type As struct {
	Name           string
	InitialCluster string
	Token          string
	PeerURLs       string
	// Bump is added to the last revision, and everything before is marked as
	// compacted; zero leaves the revisions alone.
	Bump uint64
	// Unsealed says that the file is the database of an etcd that was stopped, which has no
	// checksum as a snapshot has.
	Unsealed bool
}

// restore has etcdutl make dataDir, which must not exist, of a plain snapshot, and
// makes it durable. etcdutl inherits the open files: a lock among them lives until it
// has ended, even if this process has died.
func (t Tools) restore(ctx context.Context, file, dataDir string, as As, open ...*os.File) error {
	arguments := []string{
		"snapshot", "restore", file, "--data-dir=" + dataDir, "--name=" + as.Name,
		"--initial-cluster=" + as.InitialCluster, "--initial-cluster-token=" + as.Token, "--initial-advertise-peer-urls=" + as.PeerURLs,
	}
	if as.Bump > 0 {
		arguments = append(arguments, "--bump-revision="+strconv.FormatUint(as.Bump, 10), "--mark-compacted")
	}
	if as.Unsealed {
		arguments = append(arguments, "--skip-hash-check")
	}
	command := exec.CommandContext(ctx, t.Etcdutl, arguments...)
	command.WaitDelay = versionTimeout
	command.ExtraFiles = open
	words := &lastWords{}
	command.Stdout, command.Stderr = words, words
	err := command.Run()
	if ctx.Err() != nil {
		return fmt.Errorf("restoring: %w", context.Cause(ctx))
	}
	if err != nil && noSpace(words.String()) {
		return explainDisk("restoring into "+dataDir, syscall.ENOSPC)
	}
	if err != nil {
		return snapshot.Fail(snapshot.ReasonNotRestorable, err, "etcdutl refuses the snapshot (%v): %s — this backup cannot be restored — take a new one, or restore another", err, words)
	}
	return syncTree(dataDir)
}

// revisionOf is the last revision that a plain snapshot holds, as etcdutl reads it from the
// file, before any etcd has served it.
func (t Tools) revisionOf(ctx context.Context, file string) (int64, error) {
	command := exec.CommandContext(ctx, t.Etcdutl, "snapshot", "status", file, "--write-out=json")
	command.WaitDelay = versionTimeout
	words := &lastWords{}
	command.Stderr = words
	printed, err := command.Output()
	if ctx.Err() != nil {
		return 0, fmt.Errorf("reading the snapshot: %w", context.Cause(ctx))
	}
	var status struct {
		Revision int64 `json:"revision"`
	}
	if err == nil {
		err = json.Unmarshal(printed, &status)
	}
	if err != nil {
		return 0, snapshot.Fail(snapshot.ReasonNotRestorable, err, "etcdutl does not say what the snapshot holds (%v): %s — this backup cannot be restored — take a new one, or restore another", err, words)
	}
	return max(status.Revision, 1), nil // which no key has: etcd begins with it
}

func noSpace(text string) bool { return strings.Contains(text, syscall.ENOSPC.Error()) }

// syncTree makes a directory and all below it durable.
func syncTree(root string) error {
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
	if err != nil {
		return explainDisk("syncing "+root, err)
	}
	return nil
}

// lastWords keeps the end of what a program prints.
type lastWords struct{ kept []byte }

func (w *lastWords) Write(p []byte) (int, error) {
	w.kept = append(w.kept, p...)
	if over := len(w.kept) - 4*maxWords; over > 0 {
		w.kept = w.kept[over:]
	}
	return len(p), nil
}

// String is the last line, where a program says why it ends.
func (w *lastWords) String() string {
	lines := bytes.Split(bytes.TrimSpace(w.kept), []byte("\n"))
	last := lines[len(lines)-1]
	if len(last) > maxWords {
		last = last[len(last)-maxWords:]
	}
	return strings.ToValidUTF8(string(last), "")
}
