package plan

import (
	"fmt"
	"strings"
)

// Recovery is the user's word that a cluster which has lost its quorum for good is to go
// on with a backup.
type Recovery struct {
	// Backup that the new incarnation begins with.
	Backup string
	// Blocked says why it cannot be restored; empty if it can.
	Blocked string
	// Told says that status has told of the lost quorum for long enough.
	Told bool
}

// recovery gives an incarnation up, on the user's word alone, and begins the next one with
// a backup. While a quorum answers there is nothing to recover. First all of the old one is
// stopped, and until then the way back is to take the word back. The next one begins only
// when a majority of the old voters is confirmed to have stopped: those that may still run
// somewhere are no quorum, and what they hold is never mixed with the new. The old volumes
// stay as they are.
func recovery(o Observed) (Step, bool) {
	r := o.Recovery
	if r == nil || o.ClusterID == 0 || o.List || o.ReadOK || !r.Told {
		// Also as if it had not been said: pods start on their volumes, and the quorum may
		// return.
		return Step{}, false
	}
	running := names(o.Members, func(m Member) bool { return m.Pod != PodAbsent && m.Pod != PodTerminating })
	going := names(o.Members, func(m Member) bool { return m.Pod == PodTerminating })
	unsure := names(o.Members, func(m Member) bool { return !m.Joiner && !m.stopped() })
	switch {
	case r.Blocked != "":
		return Step{Kind: Wait, Reason: "RecoveryBlocked", Message: r.Blocked}, true
	case len(running) > 0:
		return Step{Kind: StopIncarnation, Members: running, Reason: "Recovering", Message: fmt.Sprintf(
			"incarnation %d is given up as spec.recovery says: %s stopped, and the volumes are kept", o.Incarnation, podsAre(running))}, true
	case len(going) > 0:
		return Step{Kind: Wait, Members: going, Reason: "Recovering", Message: "the new incarnation begins when " + podsOf(going) + per(going, " has", " have") + " stopped"}, true
	case o.KnownVoters()-len(unsure) < Majority(o.KnownVoters()):
		return Step{Kind: Wait, Members: unsure, Reason: "RecoveryBlocked", Message: fmt.Sprintf(
			"%s may still run on a node that is not Ready — with it the old members could be a quorum again, beside the new ones — bring the node back, or taint it as out-of-service when it is down",
			strings.Join(unsure, ", "))}, true
	default:
		return Step{Kind: RaiseIncarnation, Members: names(o.Members, func(Member) bool { return true }), Reason: "Recovering", Message: fmt.Sprintf(
			"incarnation %d begins with backup %s, as spec.recovery says: what was acknowledged since the backup is lost, and the volumes of incarnation %d are kept", o.Incarnation+1, r.Backup, o.Incarnation)}, true
	}
}

// stopped says that no process of the member runs.
func (m Member) stopped() bool { return m.Pod == PodAbsent && !m.RunningElsewhere }

func podsAre(who []string) string { return podsOf(who) + per(who, " is", " are") }
