package plan

import (
	"fmt"
	"slices"
)

// expand has the claims follow a larger storage.size, one at a time, so that a class that
// cannot do it is met at the first of them.
func expand(o Observed) (Step, bool) {
	i := slices.IndexFunc(o.Members, func(m Member) bool {
		return m.Volume == VolumeBound && m.VolumeSmall && m.VolumeFixed == ""
	})
	grows := slices.ContainsFunc(o.Members, func(m Member) bool { return m.VolumeGrows })
	if i < 0 || grows {
		return Step{}, false
	}
	return Step{Kind: ExpandVolumes, Members: []string{o.Members[i].Name}, Reason: "Expanding", Message: fmt.Sprintf(
		"asking for a larger volume of %s", o.Members[i].Name)}, true
}

// cramped says whose volume is too small for the quota of the spec, which holds a database,
// its log and a second copy of it; empty for nobody's. No member is restarted with such a
// quota before its file system has grown.
func (o Observed) cramped() string {
	for _, m := range o.Members {
		if m.Voter() && m.VolumeSize > 0 && m.VolumeSize < 2*o.Quota {
			return fmt.Sprintf("the volume of %s has %d MiB, and spec.etcd.quotaBackendBytes needs %d MiB%s", m.Name, m.VolumeSize>>20, 2*o.Quota>>20, because(m.VolumeFixed))
		}
	}
	return ""
}

// displace names the one member to be replaced because its data is on another medium or in
// a volume of another class than the spec's, or because it runs on an older spec and has its
// data in memory: the youngest that does not lead. It is replaced as one whose volume will be
// lost is, learner first. The next one's turn comes when it has gone. Nobody's does while data
// is in doubt: those that have the right data might be the ones that go.
func (o Observed) displace() Observed {
	lost := slices.ContainsFunc(o.Members, func(m Member) bool { return m.Dead() || m.Doomed() })
	pick := -1
	for i, m := range o.Members {
		if o.moves(m) && (pick < 0 || !m.Leads) {
			pick = i
		}
	}
	if lost || pick < 0 || o.doubtful() {
		return o
	}
	o.Members = slices.Clone(o.Members)
	o.Members[pick].Displaced = true
	return o
}

// moves says that a voter cannot follow the spec where its data is.
func (o Observed) moves(m Member) bool {
	// One whose pod is on its way out still has to be replaced: were it left out until it is
	// back, the member that has just come for it would be the one too many.
	there := m.Voter() && m.Volume == VolumeBound
	outdated := m.InMemory && m.PodOutdated && m.Pod == PodRunning && !m.Held && o.OptionTrouble == "" && o.Barred() == ""
	return there && (m.VolumeElsewhere || outdated)
}

// volumesWait says what keeps the volumes from being what the spec wants.
func volumesWait(o Observed) (Step, bool) {
	var fixed, growing []string
	for _, m := range o.Members {
		switch {
		case m.VolumeSmall && m.VolumeFixed != "":
			fixed = append(fixed, m.Name+" has "+m.VolumeChange+because(m.VolumeFixed))
		case m.VolumeSmall || m.VolumeGrows:
			growing = append(growing, m.Name+because(m.Trouble))
		}
	}
	if len(fixed) > 0 {
		return Step{Kind: Wait, Reason: "VolumeChangePending", Message: fmt.Sprintf(
			"the volumes do not follow spec.storage.size (%s) — they stay as large as they are — have the class allow expansion (allowVolumeExpansion: true), or name another class in spec.storage.storageClassName, to which the members move one by one",
			abbreviate(fixed))}, true
	}
	return Step{Kind: Wait, Reason: "Expanding", Message: fmt.Sprintf(
		"the volumes of %s are being made larger", abbreviate(growing))}, len(growing) > 0
}
