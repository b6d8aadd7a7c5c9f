package member

import (
	"fmt"
	"path/filepath"
	"strings"
)

// maxMessage is what Kubernetes keeps of a termination message, in bytes.
const maxMessage = 4096

// refuse words the refusal of a decision for the people who will read it in the
// pod's status.
func (p place) refuse(reason Reason, f findings) *refusal {
	who := fmt.Sprintf("volume %s of member %s", p.identity.VolumeUID, p.identity.Member)
	switch reason {
	case ReasonDataMissing:
		return &refusal{reason, fmt.Sprintf("%s: found %s, although %s — etcd started on it could vote and acknowledge writes without the log it promised to keep, and lose acknowledged writes silently — "+
			"do not empty or refill the volume; the member has to be replaced by a new one, or its volume brought back whole", who, f.seen, p.whyUsed(f))}
	case ReasonForeignData:
		return &refusal{reason, fmt.Sprintf("%s: found %s — the data may belong to another member or cluster, and etcd started on it could mix two histories — "+
			"check which volume the pod got; the member has to be replaced by a new one on a volume of its own", who, f.seen)}
	default:
		return &refusal{ReasonVolumeUnusable, fmt.Sprintf("%s: %s — the guard can neither judge nor claim the volume, so etcd is not started — "+
			"check the volume's mount, file modes and disk; the next restart looks again", who, f.seen)}
	}
}

// obituary words etcd's end for the people who will read it in the pod's status.
func (p place) obituary(reason Reason, code int, cause string) string {
	etcd := fmt.Sprintf("%s: etcd of member %s ended with code %d: ", reason, p.identity.Member, code)
	switch reason {
	case ReasonRemoved:
		return fmt.Sprintf("%s: member %s has been removed from the cluster for good, and its etcd ended with code %d — it has no vote, and its data is of no use to the cluster — "+
			"nothing needs doing if the cluster was made smaller or the member was replaced; otherwise add a member under a new name", reason, p.identity.Member, code)
	case ReasonDataCorrupt:
		return etcd + cause + " — the data on volume " + p.identity.VolumeUID + " is damaged, and etcd cannot go on from it — " +
			"check the disk; the member has to be replaced by a new one on a volume of its own; keep this volume until the others are known to be whole"
	case ReasonDataDiffers:
		return etcd + cause + " — this member or a peer would answer with wrong data, and the check does not tell which — " +
			"compare etcdctl endpoint hashkv of all members at one revision, and replace those that differ from the majority"
	default:
		return etcd + cause + " — the member does not serve — correct what it names; the next restart tries again"
	}
}

func (p place) whyUsed(f findings) string {
	switch {
	case f.Marker == MarkerBooted:
		return filepath.Join(p.volume, MarkerFile) + " says that the member has booted on it"
	case f.BootMark:
		return "the member has booted in this pod"
	case f.Data == DataLogOnly || f.Data == DataLogUnusable:
		return "a write-ahead log shows that the member has booted"
	default:
		return "the member has started before (annotation " + AnnotationMayBeEmpty + ` is not "true")`
	}
}

// oneLine keeps a message within a line and within what Kubernetes shows of it.
func oneLine(text string) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "")
	}
	return text
}
