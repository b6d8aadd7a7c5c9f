package plan

import (
	"fmt"
	"slices"
)

// most steps of a forecast: the longest way, from one member to seven of another class,
// has fewer.
const mostSteps = 200

// Forecast is what would be done, step by step, if every step had its effect at once and
// nothing else happened. It ends with what would be waited for, if that is not the wanted
// cluster.
func Forecast(o Observed) []Step {
	o = o.calm()
	var out []Step
	for range mostSteps {
		step := Next(o)
		if step.Kind == Settled {
			return out
		}
		out = append(out, step)
		if step.Kind == Wait || !o.effect(step) {
			return out
		}
	}
	return out
}

// calm is the cluster as it is when everybody has been looked at for long enough.
func (o Observed) calm() Observed {
	o.Members = slices.Clone(o.Members)
	o.Paused, o.Planned, o.Skip, o.Operation = false, false, nil, ""
	o.LeaderSettled = true
	for i := range o.Members {
		o.Members[i].Steady = true
	}
	return o
}

// effect puts into the cluster what the step brings about; false for what a forecast does
// not go beyond.
func (o *Observed) effect(step Step) bool {
	switch step.Kind {
	case IssueCertificates:
		// Whoever is asked for certificates issues them.
		o.CertificatesDue, o.ComingLack = nil, nil
	case ApplyObjects:
		o.ObjectsDue, o.Drifted = nil, nil
	case SetFinalizer:
		o.FinalizerDue = false
	case LatchDowngrade:
		o.DowngradeBegun = o.DowngradeTo
	case EnableDowngrade:
		o.enableDowngrade()
	case CancelDowngrade:
		o.Downgrade = ""
	case AllotMember:
		o.allotted()
	case DeleteExpired:
		o.Expired = nil
	case CheckBackup:
		// What would be found is what is hoped for.
		read := *o.Recovery
		read.Look = Look{Done: true}
		o.Recovery = &read
	case DropCheck:
		o.SpentCheck = ""
	case LatchRestore:
		o.Recovery = &Recovery{Backup: o.Recovery.Backup, Restore: o.Recovery.Restore, Begun: true}
	case LatchFounders, RebuildPoint, LatchPoint, LatchVolumes, LatchCluster, UnlatchVolumes, RecordRefusals, RaiseIncarnation:
		return false
	default:
		for _, name := range step.Members {
			i := slices.IndexFunc(o.Members, func(m Member) bool { return m.Name == name })
			if i < 0 {
				return false
			}
			o.befall(step, i)
		}
		o.Members = slices.DeleteFunc(o.Members, func(m Member) bool { return o.Removed(m) && m.Left() })
	}
	return true
}

func (o *Observed) enableDowngrade() {
	o.Downgrade = o.DowngradeTo + ".0"
	for i := range o.Members {
		o.Members[i].PodOutdated, o.Members[i].StorageVersion = true, o.Downgrade
	}
}

func (o *Observed) allotted() {
	most := 0
	for _, m := range o.Members {
		most = max(most, m.Ordinal)
	}
	last := o.Members[len(o.Members)-1]
	stem := last.Name[:len(last.Name)-len(fmt.Sprintf("%04d", last.Ordinal))]
	o.Joiner = fmt.Sprintf("%s%04d", stem, most+1)
	o.Members = append(o.Members, Member{Name: o.Joiner, Ordinal: most + 1, Joiner: true, Steady: true, InMemory: o.InMemory})
}

// befall one member what a step about it brings about.
func (o *Observed) befall(step Step, i int) {
	m := &o.Members[i]
	switch step.Kind {
	case CreateVolumes:
		if m.Volume = VolumeBound; m.InMemory {
			m.Pod, m.Held = PodRunning, true
		}
	case HoldMembers:
		m.Pod, m.Held, m.PodOutdated = PodRunning, true, false
	case StartMembers:
		o.started(m)
	case DeletePods, StopMembers, StopIncarnation:
		if m.Pod, m.Answers, m.FollowsLeader = PodAbsent, false, false; m.InMemory {
			m.Volume = VolumeAbsent
		}
	case RestartMember:
		o.started(m)
	case MoveLeader:
		m.Leads = m.ID == step.ID
	case AddLearner:
		m.Listed, m.Learner, m.Joiner, m.ID = true, true, false, uint64(1<<32+i)
		m.RecordedID, o.Joiner = m.ID, ""
	case ReleaseMembers:
		m.Held, m.Started, m.Booted, m.NodeMoved = false, true, true, false
		o.started(m)
	case Promote:
		m.Learner, m.FollowsLeader = false, true
	case RemoveMember:
		m.Listed = false
		m.Leaving = m.Volume == VolumeBound && !m.VolumeElsewhere
	case DropJoiner:
		m.Joiner, o.Joiner = false, ""
	case DiscardMembers, DeleteVolumes, QuarantineVolumes:
		m.Volume, m.Pod = VolumeAbsent, PodAbsent
	case RecordMembers:
		m.RecordedID, m.Booted, m.NodeMoved, m.PodMayBeEmpty, m.VolumeLatched = m.ID, true, false, false, true
	case RestoreLabels:
		m.Mislabelled = false
	case ExpandVolumes:
		m.VolumeSmall, m.VolumeSize = false, max(m.VolumeSize, 2*o.Quota)
	case ResizePod:
		m.PodResize = false
	case UpdateMember:
		m.Plaintext = false
		o.overTLS()
	}
}

// overTLS are the members as they are after one was given a peer URL with TLS: once nobody
// is dialed in plaintext, it can be taken away.
func (o *Observed) overTLS() {
	if o.PlaintextPeers = slices.ContainsFunc(o.Members, Member.overPlaintext); o.PlaintextPeers || !o.TLSAlone {
		return
	}
	for i := range o.Members {
		o.Members[i].PodOutdated = o.Members[i].PodOutdated || o.Members[i].TakesPlaintext
	}
}

// started is a member that serves, in a pod of the present spec.
func (o *Observed) started(m *Member) {
	m.Pod, m.PodOutdated, m.PodMayBeEmpty, m.TakesTLS = PodRunning, false, false, o.TLS
	m.TakesPlaintext = o.PlaintextPeers || !o.TLSAlone
	m.Answers, m.AnswerClusterID, m.FollowsLeader, m.CaughtUp = true, o.AgreedClusterID, true, true
	if m.PodReady = true; o.Barred() == "" {
		m.Version = o.Version
	}
	if o.Downgrade != "" && !slices.ContainsFunc(o.Members, func(m Member) bool { return m.Voter() && Minor(m.Version) != Minor(o.Downgrade) }) {
		o.Downgrade = ""
	}
}
