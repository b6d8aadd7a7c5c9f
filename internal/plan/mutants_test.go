package plan

import (
	"testing"

	"github.com/quorate/quorate/test/mutants"
)

// performers are mutants of what carries the policy out. The policy rests on it,
// and the model holds it to that.
var performers = map[string]string{
	"the member list is an old one":         "settled",
	"a name is given to a second member":    "reuse",
	"an empty start is allowed after latch": "new",
}

// breaches are changes of the source, each of which gives up a rule. A test
// that no longer fails for one of them has stopped to guard that rule.
var breaches = map[string]mutants.Mutant{
	"the leader is restarted first":               mutants.Of("roll.go", "case a.Leads:\n\t\t\treturn 1\n\t\tcase b.Leads:\n\t\t\treturn -1", "case a.Leads:\n\t\t\treturn -1\n\t\tcase b.Leads:\n\t\t\treturn 1"),
	"the leader does not hand over":               mutants.Of("roll.go", "stale[0].Leads && o.Voters() > 1 &&", "stale[0].Leads && o.Voters() > 9 &&"),
	"the unwell are restarted at any price":       mutants.Of("roll.go", "m.Steady && o.serves() && o.kept(m) {", "m.Steady && o.serves() {"),
	"a roll goes on beside one that is not sure":  mutants.Of("roll.go", "case !o.kept(next) || o.steady() < o.Voters():", "case false:"),
	"a roll goes on beside one that lags":         mutants.Of("roll.go", "return m.Voter() && !m.CaughtUp", "return false"),
	"a roll goes on under a new leader":           mutants.Of("roll.go", "case !o.LeaderSettled && o.Voters() > 1:", "case false:"),
	"entries of 3.5 are let before 3.7":           mutants.Of("roll.go", "if o.OldEntries == 0 {", "if true {"),
	"a pinned image is started though barred":     mutants.Of("plan.go", "return o.Pinned && o.Barred() != \"\"", "return false"),
	"the way back is held up by an alarm":         mutants.Of("roll.go", "return m.Voter() && (!known || step == 0)", "return m.Voter() && known && step == 99"),
	"an upgrade skips a minor release":            mutants.Of("roll.go", "case step > 1:", "case step > 9:"),
	"an older etcd is let open newer data":        mutants.Of("roll.go", "case step < 0 && !o.behind():", "case false:"),
	"an image of another version is rolled on":    mutants.Of("roll.go", "m.Version != o.Version && o.Version != \"\" {", "m.Version == \"none\" {"),
	"data in memory is rolled":                    mutants.Of("roll.go", "if o.InMemory {", "if false {"),
	"an alarm holds nothing up":                   mutants.Of("roll.go", "case len(o.Alarms) > 0 && (!o.full() ||", "case false && (!o.full() ||"),
	"a full database holds its cure up":           mutants.Of("roll.go", "case o.ProposeFailed != \"\" && !o.full():", "case o.ProposeFailed != \"\":"),
	"a leader that sees nobody is kept":           mutants.Of("membership.go", "if !o.LeaderDoubted || !o.due()", "if led || !o.due()"),
	"a leader is moved though it is right":        mutants.Of("membership.go", "!led || !o.Quorate() || o.HealthyVoters() < o.Voters() {", "!led || !o.Quorate() {"),
	"a joiner is pinned for ever":                 mutants.Of("membership.go", "case j.Stuck && !j.proven():", "case false:"),
	"the doomed keep the unhealthy":               mutants.Of("membership.go", "m.Doomed() && !o.leaves(m) && !voters[next].Healthy()", "false && !voters[next].Healthy()"),
	"one that is down for a moment goes":          mutants.Of("membership.go", "return m.Steady && ready && !replaced", "return m.Steady && ready && (true || replaced)"),
	"a majority is one too few":                   mutants.Of("observed.go", "return n/2 + 1", "return n / 2"),
	"an answer of another cluster counts":         mutants.Of("plan.go", "m.FollowsLeader && m.AnswerClusterID == o.AgreedClusterID && m.Pod", "m.FollowsLeader && m.Pod"),
	"voters of two clusters latch again":          mutants.Of("plan.go", "m.staying() && m.AnswerClusterID == o.AgreedClusterID", "m.staying()"),
	"a founder without a leader agrees":           mutants.Of("plan.go", "m.Answers && m.FollowsLeader && m.Answer", "m.Answers && m.Answer"),
	"strangers among the founders are ignored":    mutants.Of("plan.go", "|| len(o.ForeignMembers) > 0 {", "{"),
	"a founder need not be listed":                mutants.Of("plan.go", "!ok || !m.Listed {", "!ok {"),
	"a latched cluster is latched again":          mutants.Of("plan.go", "return step, o.ClusterID == 0 && (", "return step, ("),
	"pods start on volumes that are off record":   mutants.Of("plan.go", "m.Pod == PodAbsent && onRecord &&", "m.Pod == PodAbsent && (onRecord || true) &&"),
	"pods start beside another":                   mutants.Of("plan.go", "return m.Pod == PodAbsent && onRecord", "return onRecord"),
	"pods start on refused volumes":               mutants.Of("plan.go", "m.Volume == VolumePending) && !m.Running", "m.Volume == VolumePending || m.Volume == VolumeRefused) && !m.Running"),
	"pods start while they may run elsewhere":     mutants.Of("plan.go", "VolumePending) && !m.RunningElsewhere", "VolumePending)"),
	"a volume on record is made again":            mutants.Of("plan.go", "m.Founder && trusted && !m.VolumeLatched", "m.Founder && trusted"),
	"a lost status does not stop volumes":         mutants.Of("plan.go", "m.Founder && trusted && !m.VolumeLatched", "m.Founder && (trusted || true) && !m.VolumeLatched"),
	"members start before the volumes' record":    mutants.Of("plan.go", "latchVolumes, startFounders,", "startFounders, latchVolumes,"),
	"the latch comes before the members' record":  mutants.Of("plan.go", "recordMembers, latchCluster,", "latchCluster, recordMembers,"),
	"pods are stopped for a new spec":             mutants.Of("plan.go", "(m.Pod == PodWaiting || (m.Held && !m.Started && !m.Booted)) && m.Pod.mayRun() && m.PodOutdated", "m.PodOutdated"),
	"a bound claim is given up":                   mutants.Of("plan.go", "m.Volume == VolumePending && m.VolumeOutdated", "m.VolumeOutdated"),
	"a claim is replaced under its pod":           mutants.Of("plan.go", "restartOutdated, replaceUnbound,", "replaceUnbound, restartOutdated,"),
	"a claim is replaced while its pod goes":      mutants.Of("plan.go", "m.Pod != PodRunning && m.Pod != PodTerminating", "m.Pod != PodRunning"),
	"a claim on record is given up":               mutants.Of("plan.go", "outdated(m) && m.VolumeLatched })", "false })"),
	"a ready pod proves nothing":                  mutants.Of("plan.go", "ready := !o.List && m.PodReady && m.Pod == PodRunning", "ready := false"),
	"a pod that ends at once is made at once":     mutants.Of("plan.go", "m.Pod == PodEnded && !m.PodFresh", "m.Pod == PodEnded"),
	"an unconfirmed list is recorded":             mutants.Of("plan.go", "listed := o.List && m.Listed && m.Started", "listed := o.List && m.Listed"),
	"an empty directory stays allowed":            mutants.Of("plan.go", "!joins && m.Pod.mayRun() && m.PodMayBeEmpty", "false"),
	"paused comes after the founders":             mutants.Of("plan.go", "paused, latchFounders,", "latchFounders, paused,"),
	"losing status means founding again":          mutants.Of("observed.go", "return m.RecordedID != 0 })", "return false })"),
	"founders are made up for a founded cluster":  mutants.Of("plan.go", "} else if o.Founded() {", "} else if false {"),
	"a lost volume is not told":                   mutants.Of("plan.go", "case VolumeLost, VolumeRefused:\n\t\t\treturn true", "case VolumeLost, VolumeRefused:\n\t\t\treturn false"),
	"founding without the backup":                 mutants.Of("plan.go", "restoreBlocked, restartOutdated,", "restartOutdated,"),
	"founding beside a namesake's Secrets":        mutants.Of("plan.go", ", nameTaken,", ","),
	"the certificates come before a repair":       mutants.Of("plan.go", "relatch, deleteEnded, startMissing,", "relatch, issueCertificates, deleteEnded, startMissing,"),
	"a removal is decided without a quorum":       mutants.Of("membership.go", "if !o.Quorate() {\n\t\treturn Step{}, false\n\t}\n\tif _, found := o.learner(); found {", "if _, found := o.learner(); found {"),
	"removing before proving":                     mutants.Of("membership.go", "(j.proven() || o.missing() <= 0)", "(j.proven() || true)"),
	"an unsynced learner is promoted":             mutants.Of("membership.go", "l.FollowsLeader && l.CaughtUp &&", "l.FollowsLeader &&"),
	"a hopeless learner is promoted":              mutants.Of("membership.go", "l.Volume == VolumeBound && l.RecordedID == l.ID && o.hopeless(l) == \"\"", "true"),
	"a removal leaves one voter too few":          mutants.Of("membership.go", "left >= Majority(o.Voters()-1)", "left >= Majority(o.Voters()-1)-1"),
	"a dead voter is removed at first sight":      mutants.Of("membership.go", "m.Dead() && m.Steady && o.spares(m)", "m.Dead() && o.spares(m)"),
	"a voter leaves at first sight":               mutants.Of("membership.go", "return m.Steady && ready", "return ready"),
	"a voter whose pod goes counts":               mutants.Of("observed.go", "return m.Healthy() && m.Pod != PodTerminating", "return m.Healthy()"),
	"a second learner is added":                   mutants.Of("membership.go", "o.Quorate() && !learning && j.proven()", "o.Quorate() && (!learning || true) && j.proven()"),
	"a joiner that is not proven is added":        mutants.Of("membership.go", "!learning && j.proven() &&", "!learning &&"),
	"a learner is released before its record":     mutants.Of("membership.go", "m.Held && m.RecordedID == m.ID &&", "m.Held &&"),
	"what was used is discarded":                  mutants.Of("membership.go", "!m.Founder && m.RecordedID == 0 && !m.Booted", "!m.Founder"),
	"a volume is deleted unmarked":                mutants.Of("membership.go", "o.removed(m) && m.Leaving && (", "o.removed(m) && ("),
	"strangers are outvoted":                      mutants.Of("membership.go", "len(o.ForeignMembers) == 0 && o.HealthyVoters()", "o.HealthyVoters()"),
	"the silent on a volume that goes are dead":   mutants.Of("membership.go", "!m.alive() && !m.holds() && (", "!m.alive() && ("),
	"a voter is removed under a new leader":       mutants.Of("membership.go", "!m.Leads && o.LeaderSettled", "!m.Leads"),
	"the budget follows a promotion":              mutants.Of("observed.go", "return o.KnownVoters() + 1", "return o.KnownVoters()"),
	"members change during a downgrade":           mutants.Of("membership.go", "strangers, downgrading,", "strangers,"),
	"a dead member is stopped at first sight":     mutants.Of("membership.go", "m.Dead() && m.Steady && m.Pod != PodAbsent", "m.Dead() && m.Pod != PodAbsent"),
	"a joiner waits on a node that is gone":       mutants.Of("membership.go", "case j.Gone:", "case false:"),
	"a joiner that joined keeps its name":         mutants.Of("membership.go", "case j.Listed:", "case false:"),
	"refused data that leaves is forgotten":       mutants.Of("membership.go", "(!m.Leaving || m.Volume == VolumeRefused)", "!m.Leaving"),
	"the silent are dead":                         mutants.Of("membership.go", "!m.Answers && (m.Gone || (!m.alive() && !m.holds() && (m.lost() || m.mistaken())))", "!m.Answers"),
	"the doomed are sound":                        mutants.Of("membership.go", "!m.Dead() && !m.Doomed()", "!m.Dead()"),
	"the healthy leave first":                     mutants.Of("membership.go", "case !m.Healthy():\n\t\t\treturn 2", "case !m.Healthy():\n\t\t\treturn 9"),
	"data is given up without a quorum":           mutants.Of("membership.go", "o.Quorate() && o.steady() >= Majority(o.Voters())", "true"),
	"one that stays is not unmarked":              mutants.Of("plan.go", " || o.stays(m)", ""),
	"two joiners at once":                         mutants.Of("membership.go", "o.Joiner == \"\" && o.Quorate() && o.needed()", "o.Quorate() && o.needed()"),
	"remains are cleared away without a quorum":   mutants.Of("membership.go", "return o.Quorate() && o.Removed(m)", "return o.Removed(m)"),
	"a volume is made anew beside a pod":          mutants.Of("membership.go", "j.Volume == VolumeAbsent && j.Pod == PodAbsent && o.needed()", "j.Volume == VolumeAbsent && o.needed()"),
	"a founder that goes latches":                 mutants.Of("plan.go", "m.AnswerClusterID == o.AgreedClusterID && m.Pod != PodTerminating {", "m.AnswerClusterID == o.AgreedClusterID {"),
	"a loss is acted on at first sight":           mutants.Of("membership.go", "o.needed() && o.steadyLoss()", "o.needed()"),
	"a write path in doubt is trusted":            mutants.Of("membership.go", "o.serves() && o.ProposeFailed == \"\"", "o.serves()"),
	"data is given up before its labels are back": mutants.Of("plan.go", "paused, restoreLabels, refused, corrupt,", "paused, refused, corrupt, restoreLabels,"),
}

// TestMutants runs the other tests of this package against each mutant, in the compass
// that -short gives them.
func TestMutants(t *testing.T) {
	for name, breaks := range performers {
		breaches[name] = mutants.With("QUORATE_MODEL_BREAKS=" + breaks)
	}
	mutants.Caught(t, breaches, "-skip=^TestMutants$")
}
