package job

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/quorate/quorate/internal/snapshot"
)

const (
	// versionTimeout: a program that says its version does nothing else.
	versionTimeout = 30 * time.Second
	// maxWords of a program's last words that are passed on, in bytes, and keptWords are
	// those that are looked through for why it has ended: after that a trace may follow.
	maxWords, keptWords = 600, 64 << 10
)

// Tools are etcd's own programs, of the version that is to serve the data: their
// data format is theirs to know.
type Tools struct {
	// Etcd and Etcdutl are paths; a restore needs no Etcd.
	Etcd, Etcdutl string
	// Patience with an etcd that does not serve what was restored; zero for ten minutes.
	Patience time.Duration
}

// versionOf runs "PROGRAM VERB" and finds the version in what it prints, without a
// leading v.
func versionOf(ctx context.Context, program, verb string) (string, error) {
	within, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	command := exec.CommandContext(within, program, verb)
	printed, err := command.Output()
	if err != nil && ctx.Err() != nil {
		return "", interrupted(ctx)
	}
	if killed(command) {
		return "", fromOutside(program, err)
	}
	if err != nil {
		return "", cannotRun(program, err)
	}
	for line := range strings.Lines(string(printed)) {
		name, value, found := strings.Cut(strings.TrimSpace(line), ":")
		if found && strings.HasSuffix(strings.ToLower(name), "version") && !strings.HasPrefix(name, "API") && !strings.HasPrefix(name, "Go") {
			return strings.TrimPrefix(strings.TrimSpace(value), "v"), nil
		}
	}
	return "", snapshot.Fail(snapshot.ReasonUsage, nil, "%s does not say its version — it may not be etcd's — run this in etcd's image", program)
}

// shortages are for want of what other programs have taken, or a limit leaves: the same program
// can be run once they give it back.
var shortages = []error{syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE}

// cannotRun is why a program was not even started.
func cannotRun(program string, err error) error {
	if slices.ContainsFunc(shortages, func(shortage error) bool { return errors.Is(err, shortage) }) {
		return snapshot.Fail(snapshot.ReasonInterrupted, err,
			"%s cannot be started now: %v — there is no memory, process or file left for it, which shows nothing of the backup — it will be tried again; give the pod more memory, or the node more processes, if it stays", program, err)
	}
	return snapshot.Fail(snapshot.ReasonUsage, err, "%s cannot be run: %v — etcd's own programs restore and serve the data — run this in etcd's image", program, err)
}

// interrupted is why work is left as it is once ctx has ended.
func interrupted(ctx context.Context) error {
	return snapshot.Fail(snapshot.ReasonInterrupted, context.Cause(ctx), "the process was told to end — the work is not done — start it again")
}

// killed says that a signal has ended the program: that of a kernel without memory, or of
// somebody who did not wait.
func killed(command *exec.Cmd) bool {
	return command.ProcessState != nil && !command.ProcessState.Exited()
}

func fromOutside(program string, err error) error {
	return snapshot.Fail(snapshot.ReasonInterrupted, err, "%s was ended from outside: %v — that shows nothing of the backup — give the pod more memory, and more of a processor, if it stays", program, err)
}

// exhausted is what programs say that have no memory, thread or file left.
var exhausted = []string{syscall.ENOMEM.Error(), "out of memory", "failed to create new OS thread", syscall.EMFILE.Error(), syscall.ENFILE.Error()}

// blameless is why a program of etcd's has ended, if that was no fault of the data that it had
// in dir; nil otherwise. Only what is somebody else's fault is known by its words: a backup
// that is bad can be so in any way.
func blameless(command *exec.Cmd, words *lastWords, dir string) error {
	for _, fault := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.EROFS} {
		if words.hold(fault.Error()) {
			return explainDisk("working in "+dir, fault)
		}
	}
	switch {
	case killed(command):
		return fromOutside(command.Path, errors.New(command.ProcessState.String()))
	case slices.ContainsFunc(exhausted, words.hold):
		return fromOutside(command.Path, errors.New(words.String()))
	case words.hold(syscall.EADDRINUSE.Error()):
		return snapshot.Fail(snapshot.ReasonEtcdUnreachable, syscall.EADDRINUSE, "etcd cannot listen: %s — that shows nothing of the backup — see what else listens there", words)
	default:
		return nil
	}
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
		return interrupted(ctx)
	}
	if err != nil && command.ProcessState == nil {
		return cannotRun(t.Etcdutl, err)
	}
	if err != nil {
		if other := blameless(command, words, dataDir); other != nil {
			return other
		}
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
		return 0, interrupted(ctx)
	}
	if err != nil && command.ProcessState == nil {
		return 0, cannotRun(t.Etcdutl, err)
	}
	var status struct {
		Revision int64 `json:"revision"`
	}
	if err == nil {
		err = json.Unmarshal(printed, &status)
	}
	if err != nil {
		if other := blameless(command, words, filepath.Dir(file)); other != nil {
			return 0, other
		}
		return 0, snapshot.Fail(snapshot.ReasonNotRestorable, err, "etcdutl does not say what the snapshot holds (%v): %s — this backup cannot be restored — take a new one, or restore another", err, words)
	}
	return max(status.Revision, 1), nil // which no key has: etcd begins with it
}

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
	if over := len(w.kept) - keptWords; over > 0 {
		w.kept = w.kept[over:]
	}
	return len(p), nil
}

// hold says that the program has said so, as far as its words were kept.
func (w *lastWords) hold(text string) bool { return bytes.Contains(w.kept, []byte(text)) }

// String is the last line, where a program says why it ends.
func (w *lastWords) String() string {
	lines := bytes.Split(bytes.TrimSpace(w.kept), []byte("\n"))
	last := lines[len(lines)-1]
	if len(last) > maxWords {
		last = last[len(last)-maxWords:]
	}
	return strings.ToValidUTF8(string(last), "")
}
