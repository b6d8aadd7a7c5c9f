package member

// Exit codes of the guard's own refusals. They lie outside etcd's (1, 2), the
// shell's (126, 127) and those of signals (128 and up); every other code is etcd's,
// handed through. The operator reads them from the container's last state.
const (
	// ExitDataMissing: the member has booted before and its data is not there. The
	// member is lost and must be replaced.
	ExitDataMissing = 90
	// ExitForeignData: what lies on the volume is not this member's.
	ExitForeignData = 91
	// ExitLocked: another process held the volume for the whole waiting time.
	ExitLocked = 92
	// ExitVolumeUnusable: the volume cannot be read or written, which says nothing
	// about the data; a restart may well succeed.
	ExitVolumeUnusable = 93
	// ExitNoAnnotations: the annotations were missing or unreadable for too long.
	ExitNoAnnotations = 94
	// ExitUsage: the guard was called with wrong arguments.
	ExitUsage = 95
	// ExitNotStarted: the etcd binary could not be executed.
	ExitNotStarted = 96
	// ExitNotListening: the health address could not be listened on.
	ExitNotListening = 97
	// ExitRemoved: etcd ended because the cluster no longer counts it as a member.
	// etcd's own code for it is 1 up to 3.6, and 0 from 3.7 on.
	ExitRemoved = 98
)

// Reason is the first word of a termination message, before a colon.
type Reason string

// Reasons for which etcd itself ended. Its exit code is handed through, except
// for ReasonRemoved.
const (
	// ReasonDataCorrupt: the data on the volume is damaged.
	ReasonDataCorrupt Reason = "DataCorrupt"
	// ReasonDataDiffers: etcd's initial corruption check found that this member
	// and a peer hold different data. It does not tell which of them is wrong.
	ReasonDataDiffers Reason = "DataDiffers"
	// ReasonRemoved: the member was removed from the cluster.
	ReasonRemoved Reason = "Removed"
	// ReasonEtcdFailed: anything else for which etcd gave up.
	ReasonEtcdFailed Reason = "EtcdFailed"
)

// Reasons for which the guard ends without starting etcd.
const (
	ReasonDataMissing    Reason = "DataMissing"
	ReasonForeignData    Reason = "ForeignData"
	ReasonLocked         Reason = "Locked"
	ReasonVolumeUnusable Reason = "VolumeUnusable"
	ReasonNoAnnotations  Reason = "NoAnnotations"
	ReasonUsage          Reason = "Usage"
	ReasonNotStarted     Reason = "NotStarted"
	ReasonNotListening   Reason = "NotListening"
)

// ExitCode is the exit code that belongs to the reason.
func (r Reason) ExitCode() int {
	switch r {
	case ReasonDataMissing:
		return ExitDataMissing
	case ReasonForeignData:
		return ExitForeignData
	case ReasonLocked:
		return ExitLocked
	case ReasonVolumeUnusable:
		return ExitVolumeUnusable
	case ReasonNoAnnotations:
		return ExitNoAnnotations
	case ReasonNotStarted:
		return ExitNotStarted
	case ReasonNotListening:
		return ExitNotListening
	case ReasonRemoved:
		return ExitRemoved
	default:
		return ExitUsage
	}
}

// refusal is an error that ends the guard: its text is the one-line termination
// message, "<what is wrong, with the value> — <why it matters> — <what to do>".
type refusal struct {
	reason Reason
	text   string
}

func (r *refusal) Error() string { return string(r.reason) + ": " + r.text }
