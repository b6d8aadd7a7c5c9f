package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Position is how far a member has come.
type Position struct {
	// Term of raft that it was in when it told.
	Term uint64
	// Index up to which it has applied raft's log, and Revision of the keys that this is.
	Index    uint64
	Revision int64
}

// Copied is what was found on a survivor's volume when it was copied.
type Copied struct {
	Position

	// Uncommitted is how many of the last entries it had not been told to be committed.
	Uncommitted uint64
}

// Left are the members whose volumes a cluster without a quorum can go on with, the one that
// has come furthest first. What is committed is the same in all of them, so the index alone
// says who has more of it: a term may have risen without an entry.
func (o Observed) Left() []Member {
	var left []Member
	for _, m := range o.Members {
		if m.survives() {
			left = append(left, m)
		}
	}
	slices.SortStableFunc(left, func(a, b Member) int { return b.Position.compare(a.Position) })
	return left
}

// survives says that the member has voted, and that its volume is there and was not refused.
// What is in memory goes with the pod that has to stop before anything is copied.
func (m Member) survives() bool {
	return !m.Joiner && !m.WasLearner && m.Volume == VolumeBound && !m.Held && !m.InMemory
}

// InPods are the members whose data is in the memory of their pods, and nowhere else.
func (o Observed) InPods() []string {
	return names(o.Members, func(m Member) bool { return !m.Joiner && m.inPod() })
}

// inPod says that etcd has run on what is in the memory of the pod. With the pod it is gone.
func (m Member) inPod() bool { return m.InMemory && m.Volume == VolumeBound && !m.Held }

// WayOut is what the user can do when too little is left for a quorum.
func (o Observed) WayOut() string {
	const word = "bring a volume back, or go on with a survivor's volume or a backup by spec.recovery"
	if o.InMemory {
		return word + " (and storage.medium: Disk)"
	}
	return word
}

func (p Position) compare(q Position) int { return cmp.Compare(p.Index, q.Index) }

// String names the position for messages.
func (p Position) String() string {
	if p.Index == 0 {
		return "a position that is not known"
	}
	return fmt.Sprintf("index %d of raft's log, which is revision %d", p.Index, p.Revision)
}

// survivorBlocked says why the named survivor's volume is not gone on with; empty if it is,
// or if it is a backup. One that another has passed would lose acknowledged writes that are
// still there.
func (o Observed) survivorBlocked() string {
	name := o.Recovery.Survivor
	if name == "" {
		return ""
	}
	m, found := o.Member(name)
	left := o.Left()
	switch {
	case o.ClusterID == 0:
		// How far the others had come, who of them was a learner and which release wrote their
		// logs went with the incarnation before, and without that nobody can say what is lost.
		return fmt.Sprintf("incarnation %d has never served — its members have no data of their own, and how far %s had come, if it is of an incarnation before, is not on record any more — name an EtcdBackup in spec.recovery.backupName instead; if there is none, bring a copy of the volume up by hand, see docs/old-volumes.md", o.Incarnation, name)
	case !found || m.Joiner:
		return fmt.Sprintf("spec.recovery.survivor is %s, which is no member of incarnation %d — there is nothing of it to go on with — %s", name, o.Incarnation, nameAnother(left))
	case m.WasLearner:
		return fmt.Sprintf("%s is a learner — it never had to have what was acknowledged — %s", name, nameAnother(left))
	case !m.survives():
		return fmt.Sprintf("the volume of %s cannot be gone on with: %s — what it held is not there, or is not what it was — %s", name, m.VolumeTrouble(), nameAnother(left))
	case left[0].Position.compare(m.Position) > 0:
		return fmt.Sprintf("%s has come to %s, and %s to %s — acknowledged writes that %s still holds would be lost — set spec.recovery.survivor to %s",
			name, m.Position, left[0].Name, left[0].Position, left[0].Name, left[0].Name)
	default:
		return ""
	}
}

func nameAnother(left []Member) string {
	if len(left) == 0 {
		return "no volume is left: name an EtcdBackup in spec.recovery.backupName instead"
	}
	return "set spec.recovery.survivor to " + left[0].Name + ", or name an EtcdBackup in spec.recovery.backupName instead"
}

// PossibleLoss says which acknowledged writes may be missing from what the next incarnation
// begins with.
func (o Observed) PossibleLoss() string {
	if o.Recovery.Survivor == "" {
		return o.lossSinceBackup()
	}
	survivor := o.Recovery.Survivor
	voters := o.KnownVoters()
	if voters <= 1 {
		return "nothing that was acknowledged is missing: it was the only voter"
	}
	loss := fmt.Sprintf("writes are lost that were acknowledged by %d of the %d voters and never reached %s", Majority(voters), voters, survivor)
	var unheard []string
	for _, m := range o.Left() {
		if m.Name != survivor && m.Position.Index == 0 {
			unheard = append(unheard, m.Name)
		}
	}
	if len(unheard) > 0 {
		loss += fmt.Sprintf("; how far %s had come is not known", strings.Join(unheard, ", "))
	}
	return loss
}

// lossSinceBackup is all that was acknowledged later. How much that is nobody can say but by
// how far the members had come, as far as that is on record.
func (o Observed) lossSinceBackup() string {
	r, fate := o.Recovery, "is lost"
	since, of := r.BackupRevision, "the backup"
	if r.Restore != "" {
		fate = "stays on the old volumes alone"
	}
	if r.Safety != "" {
		since, of = r.SafetyRevision, "the safety backup "+r.Safety
	}
	loss := fmt.Sprintf("what was acknowledged since revision %d, that of %s, %s", since, of, fate)
	var furthest Member
	for _, m := range o.Members {
		if m.Position.Revision > furthest.Position.Revision {
			furthest = m
		}
	}
	if furthest.Position.Revision > since {
		loss += fmt.Sprintf("; %s had come to revision %d of incarnation %d", furthest.Name, furthest.Position.Revision, o.Incarnation)
	}
	return loss
}
