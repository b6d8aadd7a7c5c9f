package plan

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// mutants are changes of the source, each of which gives up a rule. A test
// that no longer fails for one of them has stopped to guard that rule.
var mutants = map[string]struct{ file, from, to string }{
	"a majority is one too few":                  {"observed.go", "return n/2 + 1", "return n / 2"},
	"an answer of another cluster counts":        {"plan.go", "m.FollowsLeader && m.AnswerClusterID == o.AgreedClusterID {", "m.FollowsLeader {"},
	"voters of two clusters latch again":         {"plan.go", "m.Healthy() && m.AnswerClusterID == o.AgreedClusterID", "m.Healthy()"},
	"a founder without a leader agrees":          {"plan.go", "m.Answers && m.FollowsLeader && m.Answer", "m.Answers && m.Answer"},
	"strangers among the founders are ignored":   {"plan.go", "|| len(o.ForeignMembers) > 0 {", "{"},
	"a founder need not be listed":               {"plan.go", "!ok || !m.Listed {", "!ok {"},
	"a latched cluster is latched again":         {"plan.go", "return step, o.ClusterID == 0 && (", "return step, ("},
	"pods start on volumes that are off record":  {"plan.go", "m.Pod == PodAbsent && onRecord &&", "m.Pod == PodAbsent && (onRecord || true) &&"},
	"pods start beside another":                  {"plan.go", "return m.Pod == PodAbsent && onRecord", "return onRecord"},
	"pods start on refused volumes":              {"plan.go", "m.Volume == VolumePending) && !m.Running", "m.Volume == VolumePending || m.Volume == VolumeRefused) && !m.Running"},
	"pods start while they may run elsewhere":    {"plan.go", "VolumePending) && !m.RunningElsewhere", "VolumePending)"},
	"a volume on record is made again":           {"plan.go", "m.Founder && trusted && !m.VolumeLatched", "m.Founder && trusted"},
	"a lost status does not stop volumes":        {"plan.go", "m.Founder && trusted && !m.VolumeLatched", "m.Founder && (trusted || true) && !m.VolumeLatched"},
	"members start before the volumes' record":   {"plan.go", "latchVolumes, startFounders,", "startFounders, latchVolumes,"},
	"the latch comes before the members' record": {"plan.go", "recordMembers, latchCluster,", "latchCluster, recordMembers,"},
	"pods are stopped for a new spec":            {"plan.go", "(m.Pod == PodWaiting || m.Held) && m.Pod.mayRun() && m.PodOutdated", "m.PodOutdated"},
	"a bound claim is given up":                  {"plan.go", "m.Volume == VolumePending && m.VolumeOutdated", "m.VolumeOutdated"},
	"a claim is replaced under its pod":          {"plan.go", "restartOutdated, replaceUnbound,", "replaceUnbound, restartOutdated,"},
	"a claim is replaced while its pod goes":     {"plan.go", "m.Pod != PodRunning && m.Pod != PodTerminating", "m.Pod != PodRunning"},
	"a claim on record is given up":              {"plan.go", "outdated(m) && m.VolumeLatched })", "false })"},
	"a ready pod proves nothing":                 {"plan.go", "ready := !o.List && m.PodReady && m.Pod == PodRunning", "ready := false"},
	"a pod that ends at once is made at once":    {"plan.go", "m.Pod == PodEnded && !m.PodFresh", "m.Pod == PodEnded"},
	"an unconfirmed list is recorded":            {"plan.go", "listed := o.List && m.Listed && m.Started", "listed := o.List && m.Listed"},
	"an empty directory stays allowed":           {"plan.go", "!joins && m.Pod.mayRun() && m.PodMayBeEmpty", "false"},
	"paused comes after the founders":            {"plan.go", "paused, latchFounders,", "latchFounders, paused,"},
	"losing status means founding again":         {"observed.go", "return m.RecordedID != 0 })", "return false })"},
	"founders are made up for a founded cluster": {"plan.go", "} else if o.Founded() {", "} else if false {"},
	"a lost volume is not told":                  {"plan.go", "case VolumeLost, VolumeRefused:\n\t\t\treturn true", "case VolumeLost, VolumeRefused:\n\t\t\treturn false"},
	"founding beside a namesake's Secrets":       {"plan.go", ", nameTaken,", ","},
	"the certificates come before a repair":      {"plan.go", "relatch, deleteEnded, startMissing,", "relatch, issueCertificates, deleteEnded, startMissing,"},
}

// TestMutants runs the other tests of this package against each mutant.
func TestMutants(t *testing.T) {
	ctx, stop := context.WithTimeout(t.Context(), 3*time.Minute)
	defer stop()
	run := make(chan struct{}, 3)
	var wg sync.WaitGroup
	defer wg.Wait()
	for name, m := range mutants {
		wg.Go(func() {
			run <- struct{}{}
			defer func() { <-run }()
			output, err := test(ctx, t, m.file, m.from, m.to)
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
func test(ctx context.Context, t *testing.T, file, from, to string) (string, error) {
	t.Helper()
	source, err := os.ReadFile(file)
	if err != nil {
		t.Error(err)
		return "", nil
	}
	if n := strings.Count(string(source), from); n != 1 {
		t.Errorf("%q occurs %d times in %s, want once: bring the mutant up to date", from, n, file)
	}
	here, err := filepath.Abs(file)
	if err != nil {
		t.Error(err)
		return "", nil
	}
	dir := t.TempDir()
	mutant, overlay := filepath.Join(dir, file), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{here: mutant}})
	if err != nil {
		t.Error(err)
		return "", nil
	}
	for path, content := range map[string]string{
		mutant: strings.Replace(string(source), from, to, 1), overlay: string(replace),
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Error(err)
			return "", nil
		}
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-overlay="+overlay, "-vet=off", "-failfast", "-ldflags=-s -w", "-skip=^TestMutants$", ".")
	// The compiler lives shorter than its garbage.
	cmd.Env = append(os.Environ(), "GOGC=off", "QUORATE_MODEL=small")
	output, err := cmd.CombinedOutput()
	return string(output), err
}
