package member

// MarkerState is what the marker on the volume says.
type MarkerState int

// States of the marker.
const (
	// MarkerAbsent: there is none.
	MarkerAbsent MarkerState = iota
	// MarkerClaimed: this member claimed the volume, and was not seen to boot.
	MarkerClaimed
	// MarkerBooted: this member has booted on the volume.
	MarkerBooted
	// MarkerForeign: another cluster, incarnation, member or volume wrote it.
	MarkerForeign
	// MarkerCorrupt: there is one, and it is not readable as a marker.
	MarkerCorrupt
)

// DataState is what lies in etcd's data directory.
type DataState int

// States of the data directory.
const (
	// DataAbsent: no directory, or an empty one.
	DataAbsent DataState = iota
	// DataLeftovers: files, but no write-ahead log: etcd's first boot failed, or
	// the log was removed. The files alone cannot tell which.
	DataLeftovers
	// DataLogUnusable: a write-ahead log of which a file is empty or not a file.
	// etcd fsyncs a log file before it gives it its name, so it was damaged later.
	DataLogUnusable
	// DataLogOnly: a write-ahead log without snap/db beside it.
	DataLogOnly
	// DataComplete: a write-ahead log and snap/db.
	DataComplete
	// DataOdd: something that is no directory (a file, a symbolic link) stands
	// where etcd keeps a directory. Neither etcd nor the guard makes such a thing,
	// and a link may lead to the data of another.
	DataOdd
)

// Facts are all that the decision rests on.
type Facts struct {
	// Unreadable: some part of the volume could not be examined, so that the other
	// facts about it say nothing.
	Unreadable bool
	// MayBeEmpty: the operator does not know this member to have started.
	MayBeEmpty bool
	// BootMark: this pod, in an earlier container, saw etcd boot.
	BootMark bool
	// Held: the member waits for its release.
	Held   bool
	Marker MarkerState
	Data   DataState
}

// used reports whether the identity may have taken part in a cluster. One witness
// is enough: etcd that starts anew under a used identity votes and acknowledges
// without the log it once promised to keep.
func (f Facts) used() bool {
	return !f.MayBeEmpty || f.BootMark || f.Marker == MarkerBooted
}

// Action is what to do with etcd.
type Action int

// Actions. The zero value is the safe one.
const (
	// Refuse ends the guard without etcd.
	Refuse Action = iota
	// Wait keeps etcd stopped until the member is released.
	Wait
	// StartOnData starts etcd on the data that it wrote itself.
	StartOnData
	// StartEmpty starts etcd for the first time.
	StartEmpty
	// DiscardAndStart moves the leftovers of a failed first boot aside and starts
	// etcd for the first time.
	DiscardAndStart
)

// Decision is an action and, for Refuse, the reason.
type Decision struct {
	Action Action
	Reason Reason
}

// Decide says whether etcd may start. It is asked before every start, those after a
// restart of the container included. Two properties hold for all facts: etcd never
// starts without its write-ahead log under a used identity, and never on a volume
// whose marker is not this member's.
func Decide(f Facts) Decision {
	switch {
	case f.Unreadable:
		return refuse(ReasonVolumeUnusable)
	case f.Marker == MarkerForeign, f.Marker == MarkerCorrupt, f.Data == DataOdd:
		return refuse(ReasonForeignData)
	case f.Data == DataLogUnusable:
		return refuse(ReasonDataMissing)
	case f.Data == DataLogOnly, f.Data == DataComplete:
		return decideOnLog(f)
	default:
		return decideWithoutLog(f)
	}
}

// decideOnLog judges a volume with a write-ahead log. The claim is written before
// etcd's first start, so a log without one was not written under this guard.
func decideOnLog(f Facts) Decision {
	switch {
	case f.Marker == MarkerAbsent:
		return refuse(ReasonForeignData)
	case f.Data == DataLogOnly:
		// etcd creates snap/db before the log and never removes it.
		return refuse(ReasonDataMissing)
	case f.Held:
		return Decision{Action: Wait}
	default:
		return Decision{Action: StartOnData}
	}
}

func decideWithoutLog(f Facts) Decision {
	switch {
	case f.used():
		return refuse(ReasonDataMissing)
	case f.Held:
		return Decision{Action: Wait}
	case f.Data == DataLeftovers:
		return Decision{Action: DiscardAndStart}
	default:
		return Decision{Action: StartEmpty}
	}
}

func refuse(reason Reason) Decision { return Decision{Action: Refuse, Reason: reason} }
