package plan

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	overlays "github.com/quorate/quorate/test/mutants"
)

// mutant is a part of a file that is replaced, or a rule that the performer breaks
// in the model.
type mutant struct{ file, from, to, breaks string }

// performers are mutants of what carries the policy out. The policy rests on it,
// and the model holds it to that.
var performers = map[string]string{
	"the member list is an old one":         "settled",
	"a name is given to a second member":    "reuse",
	"an empty start is allowed after latch": "new",
}

// mutants are changes of the source, each of which gives up a rule. A test
// that no longer fails for one of them has stopped to guard that rule.
var mutants = map[string]mutant{
	"a majority is one too few":                   {"observed.go", "return n/2 + 1", "return n / 2", ""},
	"an answer of another cluster counts":         {"plan.go", "m.FollowsLeader && m.AnswerClusterID == o.AgreedClusterID && m.Pod", "m.FollowsLeader && m.Pod", ""},
	"voters of two clusters latch again":          {"plan.go", "m.staying() && m.AnswerClusterID == o.AgreedClusterID", "m.staying()", ""},
	"a founder without a leader agrees":           {"plan.go", "m.Answers && m.FollowsLeader && m.Answer", "m.Answers && m.Answer", ""},
	"strangers among the founders are ignored":    {"plan.go", "|| len(o.ForeignMembers) > 0 {", "{", ""},
	"a founder need not be listed":                {"plan.go", "!ok || !m.Listed {", "!ok {", ""},
	"a latched cluster is latched again":          {"plan.go", "return step, o.ClusterID == 0 && (", "return step, (", ""},
	"pods start on volumes that are off record":   {"plan.go", "m.Pod == PodAbsent && onRecord &&", "m.Pod == PodAbsent && (onRecord || true) &&", ""},
	"pods start beside another":                   {"plan.go", "return m.Pod == PodAbsent && onRecord", "return onRecord", ""},
	"pods start on refused volumes":               {"plan.go", "m.Volume == VolumePending) && !m.Running", "m.Volume == VolumePending || m.Volume == VolumeRefused) && !m.Running", ""},
	"pods start while they may run elsewhere":     {"plan.go", "VolumePending) && !m.RunningElsewhere", "VolumePending)", ""},
	"a volume on record is made again":            {"plan.go", "m.Founder && trusted && !m.VolumeLatched", "m.Founder && trusted", ""},
	"a lost status does not stop volumes":         {"plan.go", "m.Founder && trusted && !m.VolumeLatched", "m.Founder && (trusted || true) && !m.VolumeLatched", ""},
	"members start before the volumes' record":    {"plan.go", "latchVolumes, startFounders,", "startFounders, latchVolumes,", ""},
	"the latch comes before the members' record":  {"plan.go", "recordMembers, latchCluster,", "latchCluster, recordMembers,", ""},
	"pods are stopped for a new spec":             {"plan.go", "(m.Pod == PodWaiting || (m.Held && !m.Started && !m.Booted)) && m.Pod.mayRun() && m.PodOutdated", "m.PodOutdated", ""},
	"a bound claim is given up":                   {"plan.go", "m.Volume == VolumePending && m.VolumeOutdated", "m.VolumeOutdated", ""},
	"a claim is replaced under its pod":           {"plan.go", "restartOutdated, replaceUnbound,", "replaceUnbound, restartOutdated,", ""},
	"a claim is replaced while its pod goes":      {"plan.go", "m.Pod != PodRunning && m.Pod != PodTerminating", "m.Pod != PodRunning", ""},
	"a claim on record is given up":               {"plan.go", "outdated(m) && m.VolumeLatched })", "false })", ""},
	"a ready pod proves nothing":                  {"plan.go", "ready := !o.List && m.PodReady && m.Pod == PodRunning", "ready := false", ""},
	"a pod that ends at once is made at once":     {"plan.go", "m.Pod == PodEnded && !m.PodFresh", "m.Pod == PodEnded", ""},
	"an unconfirmed list is recorded":             {"plan.go", "listed := o.List && m.Listed && m.Started", "listed := o.List && m.Listed", ""},
	"an empty directory stays allowed":            {"plan.go", "!joins && m.Pod.mayRun() && m.PodMayBeEmpty", "false", ""},
	"paused comes after the founders":             {"plan.go", "paused, latchFounders,", "latchFounders, paused,", ""},
	"losing status means founding again":          {"observed.go", "return m.RecordedID != 0 })", "return false })", ""},
	"founders are made up for a founded cluster":  {"plan.go", "} else if o.Founded() {", "} else if false {", ""},
	"a lost volume is not told":                   {"plan.go", "case VolumeLost, VolumeRefused:\n\t\t\treturn true", "case VolumeLost, VolumeRefused:\n\t\t\treturn false", ""},
	"founding beside a namesake's Secrets":        {"plan.go", ", nameTaken,", ",", ""},
	"the certificates come before a repair":       {"plan.go", "relatch, deleteEnded, startMissing,", "relatch, issueCertificates, deleteEnded, startMissing,", ""},
	"a removal is decided without a quorum":       {"membership.go", "if !o.Quorate() {\n\t\treturn Step{}, false\n\t}\n\tif _, found := o.learner(); found {", "if _, found := o.learner(); found {", ""},
	"removing before proving":                     {"membership.go", "(j.proven() || o.missing() <= 0)", "(j.proven() || true)", ""},
	"an unsynced learner is promoted":             {"membership.go", "l.FollowsLeader && l.CaughtUp &&", "l.FollowsLeader &&", ""},
	"a hopeless learner is promoted":              {"membership.go", "l.Volume == VolumeBound && l.RecordedID == l.ID && o.hopeless(l) == \"\"", "true", ""},
	"a removal leaves one voter too few":          {"membership.go", "left >= Majority(o.Voters()-1)", "left >= Majority(o.Voters()-1)-1", ""},
	"a dead voter is removed at first sight":      {"membership.go", "m.Dead() && m.Steady && o.spares(m)", "m.Dead() && o.spares(m)", ""},
	"a voter leaves at first sight":               {"membership.go", "return m, m.Steady && ready", "return m, ready", ""},
	"a voter whose pod goes counts":               {"observed.go", "return m.Healthy() && m.Pod != PodTerminating", "return m.Healthy()", ""},
	"a second learner is added":                   {"membership.go", "o.Quorate() && !learning && j.proven()", "o.Quorate() && (!learning || true) && j.proven()", ""},
	"a joiner that is not proven is added":        {"membership.go", "!learning && j.proven() &&", "!learning &&", ""},
	"a learner is released before its record":     {"membership.go", "m.Held && m.RecordedID == m.ID &&", "m.Held &&", ""},
	"what was used is discarded":                  {"membership.go", "!m.Founder && m.RecordedID == 0 && !m.Booted", "!m.Founder", ""},
	"a volume is deleted unmarked":                {"membership.go", "o.removed(m) && m.Leaving && (", "o.removed(m) && (", ""},
	"strangers are outvoted":                      {"membership.go", "len(o.ForeignMembers) == 0 && o.HealthyVoters()", "o.HealthyVoters()", ""},
	"the silent on a volume that goes are dead":   {"membership.go", "!m.alive() && !m.holds() && (", "!m.alive() && (", ""},
	"a voter is removed under a new leader":       {"membership.go", "!m.Leads && o.LeaderSettled", "!m.Leads", ""},
	"the budget follows a promotion":              {"observed.go", "return o.KnownVoters() + 1", "return o.KnownVoters()", ""},
	"members change during a downgrade":           {"membership.go", "strangers, downgrading,", "strangers,", ""},
	"a dead member is stopped at first sight":     {"membership.go", "m.Dead() && m.Steady && m.Pod != PodAbsent", "m.Dead() && m.Pod != PodAbsent", ""},
	"a joiner waits on a node that is gone":       {"membership.go", "case j.Gone:", "case false:", ""},
	"a joiner that joined keeps its name":         {"membership.go", "case j.Listed:", "case false:", ""},
	"refused data that leaves is forgotten":       {"membership.go", "(!m.Leaving || m.Volume == VolumeRefused)", "!m.Leaving", ""},
	"the silent are dead":                         {"membership.go", "!m.Answers && (m.Gone || (!m.alive() && !m.holds() && (m.lost() || m.mistaken())))", "!m.Answers", ""},
	"the doomed are sound":                        {"membership.go", "!m.Dead() && !m.Doomed()", "!m.Dead()", ""},
	"the healthy leave first":                     {"membership.go", "case !m.Healthy():\n\t\t\treturn 2", "case !m.Healthy():\n\t\t\treturn 9", ""},
	"data is given up without a quorum":           {"membership.go", "o.Quorate() && o.steady() >= Majority(o.Voters())", "true", ""},
	"one that stays is not unmarked":              {"plan.go", " || o.stays(m)", "", ""},
	"two joiners at once":                         {"membership.go", "o.Joiner == \"\" && o.Quorate() && o.needed()", "o.Quorate() && o.needed()", ""},
	"remains are cleared away without a quorum":   {"membership.go", "return o.Quorate() && o.Removed(m)", "return o.Removed(m)", ""},
	"a volume is made anew beside a pod":          {"membership.go", "j.Volume == VolumeAbsent && j.Pod == PodAbsent && o.needed()", "j.Volume == VolumeAbsent && o.needed()", ""},
	"a founder that goes latches":                 {"plan.go", "m.AnswerClusterID == o.AgreedClusterID && m.Pod != PodTerminating {", "m.AnswerClusterID == o.AgreedClusterID {", ""},
	"a loss is acted on at first sight":           {"membership.go", "o.needed() && o.steadyLoss()", "o.needed()", ""},
	"a write path in doubt is trusted":            {"membership.go", "o.ReadOK && o.ProposeFailed == \"\"", "o.ReadOK", ""},
	"data is given up before its labels are back": {"plan.go", "paused, restoreLabels, refused, corrupt,", "paused, refused, corrupt, restoreLabels,", ""},
}

// TestMutants runs the other tests of this package against each mutant.
func TestMutants(t *testing.T) {
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
	defer stop()
	run := make(chan struct{}, 3)
	for name, breaks := range performers {
		mutants[name] = mutant{breaks: breaks}
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for name, m := range mutants {
		wg.Go(func() {
			run <- struct{}{}
			defer func() { <-run }()
			output, err := test(ctx, t, m)
			switch {
			case err == nil:
				t.Errorf("%s: no test fails", name)
			case !strings.Contains(output, "--- FAIL"):
				t.Errorf("%s: %v:\n%s", name, err, output)
			}
		})
	}
}

// test runs this package's tests with a part of a file replaced.
func test(ctx context.Context, t *testing.T, m mutant) (string, error) {
	t.Helper()
	if m.breaks != "" {
		return runTests(ctx, "QUORATE_MODEL_BREAKS="+m.breaks)
	}
	change, ok := overlays.Overlay(t, m.file, m.from, m.to)
	if !ok {
		return "--- FAIL", os.ErrInvalid
	}
	return runTests(ctx, change)
}

// runTests runs the other tests in the compass that -short gives them.
func runTests(ctx context.Context, change string) (string, error) {
	// A result of before is no result: what breaks the performer is read before
	// the go command could notice.
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-short", "-vet=off", "-failfast", "-ldflags=-s -w", "-skip=^TestMutants$", ".")
	// The compiler lives shorter than its garbage.
	cmd.Env = append(os.Environ(), "GOGC=off", change)
	output, err := cmd.CombinedOutput()
	return string(output), err
}
