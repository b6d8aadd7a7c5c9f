package snapshot

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// MaxResult is what Kubernetes keeps of a termination message, in bytes.
const MaxResult = 4096

// Exit codes of cmd/backup.
const (
	// ExitSucceeded: the result says what was done.
	ExitSucceeded = 0
	// ExitFailed: another try may succeed.
	ExitFailed = 1
	// ExitPermanent: another try fails as well, until somebody changes something.
	ExitPermanent = 2
)

// Operation is a subcommand of cmd/backup.
type Operation string

// The operations.
const (
	OperationSave    Operation = "save"
	OperationDrill   Operation = "drill"
	OperationRestore Operation = "restore"
	OperationPrune   Operation = "prune"
	OperationList    Operation = "list"
	OperationArchive Operation = "archive"
	// OperationRebuild stores a point of an archive as a backup.
	OperationRebuild Operation = "rebuild"
	// OperationDrillArchive restores an archive to its end, and compares.
	OperationDrillArchive Operation = "drill-archive"
	// OperationRecover fills a member's volume with what a survivor's holds.
	OperationRecover Operation = "recover"
	// OperationCheck reads a backup to its end as a restore would, and keeps nothing.
	OperationCheck Operation = "check"
)

// Outcome of an operation.
type Outcome string

// The outcomes.
const (
	OutcomeSucceeded Outcome = "Succeeded"
	OutcomeFailed    Outcome = "Failed"
)

// Reason is fit to be a condition's reason.
type Reason string

// Reasons of success.
const (
	// ReasonSaved: stored, read back, and the hashes are equal.
	ReasonSaved Reason = "Saved"
	// ReasonVerified: restored, served by a real etcd, and equal to the manifest.
	ReasonVerified Reason = "Verified"
	// ReasonChecked: read to its end, decrypted, and equal to the manifest.
	ReasonChecked Reason = "Checked"
	// ReasonRestored: the volume holds the restored data.
	ReasonRestored Reason = "Restored"
	// ReasonRecovered: the volume holds what the survivor's does.
	ReasonRecovered Reason = "Recovered"
	// ReasonArchived: the archiver was told to end, and what it had read is stored.
	ReasonArchived Reason = "Archived"
	// ReasonRebuilt: a point of an archive was put together and stored as a backup.
	ReasonRebuilt Reason = "Rebuilt"
	// ReasonPruned: what retention drops is gone, or was named if it would not go.
	ReasonPruned Reason = "Pruned"
)

// Reasons of failure.
const (
	// ReasonUsage: the command line is wrong.
	ReasonUsage Reason = "Usage"
	// ReasonInternal: something that this program should have named otherwise.
	ReasonInternal Reason = "Internal"
	// ReasonInterrupted: the process was told to end, or a program of etcd's that it ran was
	// ended from outside, or could not be started for want of memory or processes.
	ReasonInterrupted Reason = "Interrupted"

	// ReasonBucketMissing: the store has no such bucket, container or directory.
	ReasonBucketMissing Reason = "BucketMissing"
	// ReasonAccessDenied: the store refuses the credentials, or what they may do.
	ReasonAccessDenied Reason = "AccessDenied"
	// ReasonCredentialsMissing: there are no credentials, or no readable ones.
	ReasonCredentialsMissing Reason = "CredentialsMissing"
	// ReasonCredentialsExpired: the store says that they were good once.
	ReasonCredentialsExpired Reason = "CredentialsExpired"
	// ReasonStoreUnreachable: the store does not answer, or answers with errors of
	// its own.
	ReasonStoreUnreachable Reason = "StoreUnreachable"
	// ReasonStoreUntrusted: no authority that is trusted has signed the store's certificate.
	ReasonStoreUntrusted Reason = "StoreUntrusted"
	// ReasonNoSpace: the store, the volume or the working directory is full.
	ReasonNoSpace Reason = "NoSpace"
	// ReasonForeignPrefix: what lies there belongs to another cluster.
	ReasonForeignPrefix Reason = "ForeignPrefix"
	// ReasonBackupMissing: there is no such backup, or none at all.
	ReasonBackupMissing Reason = "BackupMissing"
	// ReasonCorrupt: what the store returns is not what was stored.
	ReasonCorrupt Reason = "Corrupt"
	// ReasonNewerFormat: a later version of this program wrote the backup.
	ReasonNewerFormat Reason = "NewerFormat"
	// ReasonKeyMissing: the backup is encrypted for none of the identities.
	ReasonKeyMissing Reason = "KeyMissing"
	// ReasonBadRecipient: a recipient or an identity is not one of age.
	ReasonBadRecipient Reason = "BadRecipient"

	// ReasonEtcdUnreachable: no member answered a linearizable read, or the etcd that is to
	// serve restored data does not in time.
	ReasonEtcdUnreachable Reason = "EtcdUnreachable"
	// ReasonEtcdDenied: etcd does not take the client certificate for root's.
	ReasonEtcdDenied Reason = "EtcdDenied"
	// ReasonWrongCluster: the members that answer belong to another cluster.
	ReasonWrongCluster Reason = "WrongCluster"
	// ReasonCompacted: the revision was compacted before it was hashed.
	ReasonCompacted Reason = "Compacted"
	// ReasonSnapshotBroken: etcd's stream ended early or its checksum is wrong.
	ReasonSnapshotBroken Reason = "SnapshotBroken"

	// ReasonArchiveTaken: another process writes the same archive.
	ReasonArchiveTaken Reason = "ArchiveTaken"
	// ReasonNotArchived: the archive does not hold what is asked for.
	ReasonNotArchived Reason = "NotArchived"

	// ReasonNotRestorable: etcd's own tool or etcd itself refuses the snapshot. That either
	// was ended, was slow or had no room is none of this.
	ReasonNotRestorable Reason = "NotRestorable"
	// ReasonDiffers: the restored data is not what the manifest says.
	ReasonDiffers Reason = "Differs"
	// ReasonIncompatibleVersion: etcd of that version cannot take the snapshot.
	ReasonIncompatibleVersion Reason = "IncompatibleVersion"
	// ReasonVolumeInUse: the volume holds something else, or another process has it.
	ReasonVolumeInUse Reason = "VolumeInUse"
	// ReasonDataLost: the volume is empty, and the member has started before.
	ReasonDataLost Reason = "DataLost"
	// ReasonVolumeUnusable: the volume cannot be read or written.
	ReasonVolumeUnusable Reason = "VolumeUnusable"
)

// permanent are the reasons for which another try fails as well.
var permanent = map[Reason]bool{
	ReasonUsage: true, ReasonBucketMissing: true, ReasonAccessDenied: true, ReasonCredentialsMissing: true, ReasonStoreUntrusted: true,
	ReasonForeignPrefix: true, ReasonBackupMissing: true, ReasonNewerFormat: true, ReasonKeyMissing: true,
	ReasonBadRecipient: true, ReasonEtcdDenied: true, ReasonWrongCluster: true, ReasonNotRestorable: true,
	ReasonNotArchived: true,
	ReasonDiffers:     true, ReasonIncompatibleVersion: true, ReasonVolumeInUse: true, ReasonDataLost: true,
}

// condemning are the reasons that show that a backup cannot be restored. Each of the others
// says something of the store, of a key, of a machine or of a program: the backup may be good.
var condemning = map[Reason]bool{ReasonBackupMissing: true, ReasonCorrupt: true, ReasonNotRestorable: true, ReasonDiffers: true}

// Condemns says that who failed by this reason has found a backup to be of no use. Nothing
// else may take away what an earlier drill has shown.
func (r Reason) Condemns() bool { return condemning[r] }

// Permanent says that another try fails as well, until somebody changes something.
func (r Reason) Permanent() bool { return permanent[r] }

// Result is what cmd/backup leaves in its termination message.
type Result struct {
	Operation Operation `json:"operation"`
	Outcome   Outcome   `json:"outcome"`
	Reason    Reason    `json:"reason"`
	// Message for people: one line, "<what is wrong, with the value> — <why it
	// matters> — <what to do>" for a failure.
	Message string `json:"message"`
	// Backup that was saved, drilled or restored.
	Backup *Backup `json:"backup,omitempty"`
	// Verification that a drill arrived at.
	Verification *Verification `json:"verification,omitempty"`
	// Point of an archive that was put together.
	Point *Point `json:"point,omitempty"`
	// Survivor whose volume was copied.
	Survivor *Survivor `json:"survivor,omitempty"`
	// Pruned is what prune did.
	Pruned *Pruned `json:"pruned,omitempty"`
	// Warnings are what went wrong beside the outcome.
	Warnings []string  `json:"warnings,omitempty"`
	Began    time.Time `json:"began"`
	Ended    time.Time `json:"ended"`
}

// Backup is what a user wants to know of a manifest, and what Retain decides by.
type Backup struct {
	ID          string    `json:"id"`
	ClusterUID  string    `json:"clusterUID"`
	ClusterID   string    `json:"clusterID"`
	Revision    int64     `json:"revision"`
	KeyCount    int64     `json:"keyCount"`
	PlainBytes  int64     `json:"plainBytes"`
	StoredBytes int64     `json:"storedBytes"`
	SHA256      string    `json:"sha256"`
	EtcdVersion string    `json:"etcdVersion"`
	Encrypted   bool      `json:"encrypted,omitempty"`
	Began       time.Time `json:"began"`
	Ended       time.Time `json:"ended"`
	// Verified is when a drill found the backup good; nil if none has.
	Verified *time.Time `json:"verified,omitempty"`
	// Unfit says that a drill found that no archive can be restored from it.
	Unfit bool `json:"unfit,omitempty"`
	// ArchiveBase says that an archiver took it by itself: no EtcdBackup is about it.
	ArchiveBase bool `json:"archiveBase,omitempty"`
}

// Backup is the manifest in brief, not verified.
func (m *Manifest) Backup() Backup {
	return Backup{
		ID: m.ID, ClusterUID: m.Cluster.UID, ClusterID: m.Cluster.ID, Revision: m.Etcd.Revision, KeyCount: m.Etcd.KeyCount,
		PlainBytes: m.Plain.Bytes, StoredBytes: m.Stored.Bytes, SHA256: m.Stored.SHA256, EtcdVersion: m.Etcd.Version,
		Encrypted: m.Encrypted(), Began: m.Began, Ended: m.Ended,
	}
}

// Point of an archive that was put together.
type Point struct {
	// Revision that it ends with.
	Revision int64 `json:"revision"`
	// Base is the backup that it began with, and Replayed how many revisions were written
	// to it.
	Base     string `json:"base"`
	Replayed int64  `json:"replayed"`
	// Changed is when the archiver was told of the last change before the time that was asked
	// for; zero if a revision was, or it is not known. An archiver that was away at that time
	// was told of nothing.
	Changed time.Time `json:"changed,omitzero"`
}

// LastChange says when the last change was archived that the point holds, for the end of a
// message: a time at which nobody archived gives what there was before, and whoever asked for
// it must see how long before. It is empty if that is not known.
func (p Point) LastChange() string {
	if p.Changed.IsZero() {
		return ""
	}
	return "; the last change that it holds was archived at " + p.Changed.UTC().Format(time.RFC3339)
}

// Survivor is what was found on the volume of a member whose cluster has lost its quorum.
type Survivor struct {
	Member    string `json:"member"`
	VolumeUID string `json:"volumeUID"`
	// Term and Index of the last entry of its log.
	Term  uint64 `json:"term"`
	Index uint64 `json:"index"`
	// Uncommitted is how many of the last entries it had not been told to be committed. They
	// were kept: clients may have been told.
	Uncommitted uint64 `json:"uncommitted"`
	// Revision of the keys, their number and their hash, before revisions were raised.
	Revision    int64  `json:"revision"`
	KeyCount    int64  `json:"keyCount"`
	HashKV      uint32 `json:"hashKV"`
	EtcdVersion string `json:"etcdVersion"`
}

// Pruned is what prune did.
type Pruned struct {
	// Kept is how many backups are left.
	Kept int `json:"kept"`
	// Dropped are the backups that are gone. A long list loses its end in the
	// termination message; DroppedCount does not.
	Dropped      []Dropped `json:"dropped,omitempty"`
	DroppedCount int       `json:"droppedCount,omitempty"`
	// Refused is how many backups the store would not delete.
	Refused int `json:"refused,omitempty"`
	// Orphans is how many unfinished backups and uploads were removed.
	Orphans int `json:"orphans,omitempty"`
	// Segments is how many segments of archives were removed that no backup needs.
	Segments int `json:"segments,omitempty"`
}

// Permanent says that the same work would fail again. A drill has read the backup anew in each
// of its attempts: what it found in the last one another pod would find as well, and whoever
// relies on the backup is to know now. What cannot be compared once never can.
func (r Result) Permanent() bool {
	return r.Reason.Permanent() || r.Operation == OperationDrill && (r.Reason.Condemns() || r.Reason == ReasonCompacted)
}

// OnlyEnded says of the last word of a Job's pod that it was told to end, and no more. Where the
// Job's time was over that is how Kubernetes ends it, and nothing that the work has found; false
// without a result.
func OnlyEnded(r *Result) bool {
	return r != nil && r.Outcome == OutcomeFailed && r.Reason == ReasonInterrupted
}

// Encode returns at most MaxResult bytes of JSON: first the list of what was
// dropped gives way, then the warnings, then the end of the message.
func (r Result) Encode() []byte {
	r.Message = oneLine(r.Message)
	for {
		content, err := json.Marshal(r)
		if err != nil {
			// Nothing in a Result can fail to encode; a reader must get something.
			return fmt.Appendf(nil, `{"outcome":%q,"reason":%q}`, OutcomeFailed, ReasonInternal)
		}
		if len(content) <= MaxResult {
			return content
		}
		switch {
		case r.Pruned != nil && len(r.Pruned.Dropped) > 0:
			shorter := *r.Pruned
			shorter.Dropped = shorter.Dropped[:len(shorter.Dropped)/2]
			r.Pruned = &shorter
		case len(r.Warnings) > 0:
			r.Warnings = r.Warnings[:len(r.Warnings)/2]
		default:
			r.Message = strings.ToValidUTF8(r.Message[:len(r.Message)*3/4], "")
		}
	}
}

// ErrNoResult says that a termination message is not one of Encode's. The process was
// killed, or never ran.
var ErrNoResult = errors.New("no result of a backup process")

// ParseResult reads a termination message. The error wraps ErrNoResult.
func ParseResult(message string) (Result, error) {
	var r Result
	if err := json.Unmarshal([]byte(message), &r); err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrNoResult, err)
	}
	if r.Outcome != OutcomeSucceeded && r.Outcome != OutcomeFailed {
		return Result{}, fmt.Errorf("%w: outcome %q", ErrNoResult, r.Outcome)
	}
	return r, nil
}

func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

// Phase is what a process is at.
type Phase string

// The phases, in the order in which they come.
const (
	PhaseStarting    Phase = "Starting"
	PhaseSaving      Phase = "Saving"
	PhaseReadingBack Phase = "ReadingBack"
	PhaseDownloading Phase = "Downloading"
	PhaseRestoring   Phase = "Restoring"
	PhaseReplaying   Phase = "Replaying"
	PhaseComparing   Phase = "Comparing"
	PhaseDeleting    Phase = "Deleting"
	PhaseArchiving   Phase = "Archiving"
	PhaseDone        Phase = "Done"
)

// ProgressPort is where cmd/backup serves Progress as JSON, at ProgressPath, and that of
// an archive for Prometheus, at MetricsPath.
const (
	ProgressPort = 8080
	ProgressPath = "/progress"
	MetricsPath  = "/metrics"
)

// Progress of a process. The numbers begin anew with each attempt.
type Progress struct {
	Phase Phase `json:"phase"`
	// Attempt counts from 1.
	Attempt int `json:"attempt"`
	// TotalBytes is what BytesRead will be at the end of the phase, an estimate
	// while saving; zero while it is not known.
	TotalBytes int64 `json:"totalBytes"`
	// BytesRead from etcd, or from the store.
	BytesRead int64 `json:"bytesRead"`
	// BytesSent to the store.
	BytesSent int64 `json:"bytesSent"`
	// Trouble is what stands in the way at the moment: why the last attempt failed, or the
	// last request to the store; nil while nothing does.
	Trouble *Trouble `json:"trouble,omitempty"`
	// Pause is how long is waited before the next attempt; zero while one is made.
	Pause time.Duration `json:"pause,omitempty"`
	// Archive is how far an archive is; nil for other work.
	Archive *ArchiveProgress `json:"archive,omitempty"`
}

// MaxProgress is more than a Progress takes, in bytes: there may be three Troubles in it.
const MaxProgress = 2 * MaxResult

// Story says in a line what the process is at and what stands in its way; it is empty while
// nothing is known of either. A process that tries again would otherwise be silent until it
// gives up, minutes later.
func (p Progress) Story() string {
	at := fmt.Sprintf("%s, try %d", cmp.Or(p.Phase, PhaseStarting), max(1, p.Attempt))
	switch {
	case p.Trouble == nil && p.Phase == "": // it has not come to its work yet
		return ""
	case p.Trouble == nil:
		return at
	case p.Pause > 0:
		return fmt.Sprintf("%s: %s; it is tried again after %s", at, p.Trouble.Message, p.Pause)
	default:
		return fmt.Sprintf("%s: %s; it is being tried again", at, p.Trouble.Message)
	}
}

// ArchiveProgress is how far an archive is.
type ArchiveProgress struct {
	// Revision up to which everything is stored.
	Revision int64 `json:"revision"`
	// Until: whatever had been acknowledged by then is stored. What was written since
	// would be lost with the cluster.
	Until time.Time `json:"until"`
	// Segments and Gaps that this process has written.
	Segments int64 `json:"segments"`
	Gaps     int64 `json:"gaps"`
	// BaseMissing says that there is no backup yet to restore the latest from.
	BaseMissing bool `json:"baseMissing"`
	// Base is the ID of a backup that the latest can be restored from; empty while it is not
	// known.
	Base string `json:"base,omitempty"`
	// BaseTrouble is why none could be taken; nil while nothing stands in the way.
	BaseTrouble *Trouble `json:"baseTrouble,omitempty"`
	// Trouble is why nothing is archived at the moment; nil while all goes well.
	Trouble *Trouble `json:"trouble,omitempty"`
	// Gap is the last one in the archive, as far back as this process looked; nil if there is
	// none. That an archive begins somewhere is no gap.
	Gap *Gap `json:"gap,omitempty"`
	// Lost is what this process found gone from the store; nil if nothing was.
	Lost *Gap `json:"lost,omitempty"`
}

// Trouble is what stands in the way of work that goes on trying.
type Trouble struct {
	Reason  Reason `json:"reason"`
	Message string `json:"message"`
}

// maxTrouble bounds a message of Trouble, in bytes, so that a Progress stays below
// MaxProgress.
const maxTrouble = 1024

// passingPorts are our own end of a connection, another one at each try. What is told must be the
// same as long as the trouble is, for each change of it is a write of status.
var passingPorts = regexp.MustCompile(`(\b(?:tcp|udp)6?) \S+->`)

// TroubleOf an error; nil if there is none.
func TroubleOf(err error) *Trouble {
	if err == nil {
		return nil
	}
	message := passingPorts.ReplaceAllString(oneLine(err.Error()), "$1 ")
	if len(message) > maxTrouble {
		message = strings.ToValidUTF8(message[:maxTrouble], "")
	}
	return &Trouble{Reason: ReasonOf(err), Message: message}
}

// Percent of the phase that is done, from 0 to 100; it says 100 only when it is.
func (p Progress) Percent() int {
	if p.Phase == PhaseDone {
		return 100
	}
	if p.TotalBytes <= 0 || p.BytesRead <= 0 {
		return 0
	}
	return int(min(99, float64(p.BytesRead)/float64(p.TotalBytes)*100))
}
