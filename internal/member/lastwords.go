package member

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
)

// lastWords reads etcd's log as it passes and remembers why etcd gave up. The
// kubelet keeps only the last 2 KiB of a container's log, and a Go program's
// stack traces come after their cause and are longer than that.
type lastWords struct {
	line []byte // the current line, as far as it came, up to maxLine

	cause   []string // the telling lines, oldest first, up to maxCause
	removed bool     // etcd said that it is no member any more
	tracing bool     // a panic was told, its stack's first frame was not
}

const (
	// maxLine is what is looked at of a line. A fatal line holds its error
	// before its stack trace.
	maxLine = 8 << 10
	// maxTold is what is kept of a telling line.
	maxTold = 800
	// maxCause telling lines are kept: a fault of the runtime needs three.
	maxCause = 4
)

// Write takes the next part of the log. It never fails.
func (w *lastWords) Write(p []byte) (int, error) {
	for part := range bytes.Lines(p) {
		end := part[len(part)-1] == '\n'
		w.line = append(w.line, part[:min(len(part), maxLine-len(w.line))]...)
		if end {
			w.end()
		}
	}
	return len(p), nil
}

// end reads the line that has just ended.
func (w *lastWords) end() {
	line := w.line
	w.line = w.line[:0]
	if bytes.Contains(line, []byte("the member has been permanently removed from the cluster")) {
		w.removed = true
	}
	cause := middleOut(w.telling(strings.TrimSpace(string(line))))
	if cause == "" || len(w.cause) >= maxCause {
		return
	}
	for _, known := range w.cause {
		// After a panic's line in the log Go prints it once more.
		if strings.Contains(known, strings.TrimPrefix(cause, "panic: ")) {
			return
		}
	}
	w.cause = append(w.cause, cause)
}

// telling is what the line says of etcd's end, empty if it says nothing.
func (w *lastWords) telling(line string) string {
	switch {
	case strings.HasPrefix(line, `{"level":"fatal"`), strings.HasPrefix(line, `{"level":"panic"`):
		return gist(line)
	case strings.HasPrefix(line, "panic: "), strings.HasPrefix(line, "fatal error: "):
		w.tracing = true
		return line
	case strings.HasPrefix(line, "unexpected fault address "), strings.HasPrefix(line, "[signal "):
		return line
	case consoleFatal(line) != "":
		return consoleFatal(line)
	case strings.Contains(line, `"msg":"failed to verify flags"`):
		return gist(line)
	case slices.ContainsFunc(flagErrors, func(words string) bool { return strings.HasPrefix(line, words) }):
		return line
	case w.tracing && strings.HasPrefix(line, "go.etcd.io/"):
		w.tracing = false
		function, _, _ := strings.Cut(line, "({")
		function, _, _ = strings.Cut(function, "(0x")
		return "in " + function
	default:
		return ""
	}
}

// flagErrors are how Go's flag package begins to say that etcd was started with a flag
// that it does not take. etcd's usage comes after that, whose last line says nothing.
var flagErrors = []string{
	"flag provided but not defined: ", "flag needs an argument: ", "invalid value ", "invalid boolean value ", "bad flag syntax: ",
}

// middleOut shortens a long line in its middle: etcd wraps errors, and both what
// failed and why stand at the ends.
func middleOut(line string) string {
	if len(line) <= maxTold {
		return line
	}
	return strings.ToValidUTF8(line[:maxTold/2], "") + " … " + strings.ToValidUTF8(line[len(line)-maxTold/2:], "")
}

// consoleFatal is what follows the level of a fatal line in etcd's other format,
// --log-format=console, whose fields are separated by tabs.
func consoleFatal(line string) string {
	fields := strings.SplitN(line, "\t", 3)
	if len(fields) < 3 || (fields[1] != "fatal" && fields[1] != "panic") {
		return ""
	}
	return fields[2]
}

// gist of a line of JSON is its message and its error.
func gist(line string) string {
	var entry struct{ Msg, Error string }
	if err := json.Unmarshal([]byte(line), &entry); err != nil {
		// Longer than maxLine, or cut off by a kill.
		return line
	}
	if entry.Error == "" {
		return entry.Msg
	}
	return entry.Msg + ": " + entry.Error
}

// String is the cause in one line, empty if etcd told none.
func (w *lastWords) String() string { return oneLine(strings.Join(w.cause, "; ")) }

// reason is what the cause amounts to.
func (w *lastWords) reason() Reason {
	cause := w.String()
	switch {
	case w.removed:
		return ReasonRemoved
	case cause == "":
		return ""
	case strings.Contains(cause, "found data inconsistency with peers"):
		return ReasonDataDiffers
	case damaged(cause):
		return ReasonDataCorrupt
	default:
		return ReasonEtcdFailed
	}
}

// innocent are causes that say nothing about the data although the words of damage
// stand beside them: the surroundings refused etcd the file.
var innocent = []string{
	"no space left on device", "disk quota exceeded", "permission denied", "operation not permitted",
	"too many open files", "cannot allocate memory", "resource temporarily unavailable", "stale NFS file handle",
}

// damage are the words, by etcd's storage, raft, bbolt and the kernel, for data
// that is not what etcd once wrote. They count in a line of etcd's death only:
// elsewhere etcd uses some of them for a peer's data or for what it repairs.
var damage = []string{
	// The write-ahead log. Without its beginning it does not name the member.
	"crc mismatch", "cannot be repaired", "failed to repair WAL", "wal: ",
	// By both of protobuf's packages; one puts a hard space there in some builds.
	"proto: ", "proto:\u00a0",
	"max entry size limit exceeded", "unexpected block type", "file sequence numbers",
	"cannot use none as id",
	// Raft: the log lacks what others were promised.
	"Was the raft log corrupted, truncated, or lost?", "conflict with committed entry", "is out of range [",
	"unexpected committed entry index", "error when getting unapplied entries", "error when getting the last term",
	// Snapshots.
	"snap: empty snapshot", "failed to recover v3 backend from snapshot", "failed to open snapshot backend",
	// The database.
	"failed to open database: invalid database", "failed to open database: file size too small",
	"failed to open database: version mismatch", "failed to open database: checksum error",
	"assertion failed: ", "freepages: ", "invalid freelist page", "invalid page type", "invalid meta pages",
	"above high water mark", "unexpected bucket header flag", "misplaced bucket header", "pgids not sorted",
	"free page ID", "in go.etcd.io/bbolt",
	"failed to unmarshal", "unmarshal should never fail", "failed to restore mvcc store", "failed to find revision pair",
	"unexpected smaller revision", "unexpected empty keyIndex", "unexpected non-empty generations", "unexpected number of keys",
	// A page of the mapped database that cannot be read, or that leads out of it.
	"unexpected fault address", "SIGBUS",
}

// failing are the kernel's words for a disk that fails, or that it has given up.
var failing = []string{"input/output error", "read-only file system", "structure needs cleaning"}

func damaged(cause string) bool {
	in := func(word string) bool { return strings.Contains(cause, word) }
	if slices.ContainsFunc(innocent, in) {
		return false
	}
	// 3.7 does not check for a log without its beginning, and falls over it.
	fell := in("panic: runtime error: ") && in("in go.etcd.io/etcd/server/v3/etcdserver.bootstrap")
	return fell || slices.ContainsFunc(damage, in) || slices.ContainsFunc(failing, in)
}

// Corruption reports whether a container's termination message means that etcd
// ended because the data on its volume is damaged. The message is the guard's, or
// the end of etcd's log, which Kubernetes takes if the guard left none.
//
// One such end proves little, a disk may fail to answer once; the caller asks for
// several in a row. An initial corruption check that found the members to differ
// is no corruption here: it does not tell which of them is wrong, and giving up
// the one that asked could leave only the wrong ones.
func Corruption(message string) bool {
	reason, _, _ := strings.Cut(message, ": ")
	switch Reason(reason) {
	case ReasonDataCorrupt:
		return true
	case ReasonVolumeUnusable:
		// The guard could not even take the lock: the disk goes on failing as it did
		// when etcd died of it.
		return slices.ContainsFunc(failing, func(word string) bool { return strings.Contains(message, word) })
	case ReasonDataDiffers, ReasonEtcdFailed, ReasonRemoved, ReasonDataMissing, ReasonForeignData, ReasonLocked,
		ReasonNoAnnotations, ReasonUsage, ReasonNotStarted, ReasonNotListening:
		return false
	}
	var w lastWords
	_, _ = w.Write([]byte(message + "\n"))
	return w.reason() == ReasonDataCorrupt
}
