package leader

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/test/mutants"
)

// breaches are changes of the source, each of which gives up a rule of safety. A test
// that no longer fails for one of them has stopped to guard that rule.
var breaches = map[string]struct{ file, from, to string }{
	"the answer is that of the last renewal":           {"term.go", "return !t.ended && t.deadline.left(t.clock.now()) > 0", "return !t.ended"},
	"a claim counts from the answer":                   {"loop.go", "deadline := sent.add(config.RenewDeadline)", "deadline := config.clock.now().add(config.RenewDeadline)"},
	"a renewal counts from the answer":                 {"loop.go", "c.renew(sent.add(config.RenewDeadline))", "c.renew(now.add(config.RenewDeadline))"},
	"a suspended machine's time stands still":          {"clock.go", "func (i instant) left(now instant) time.Duration { return min(i.mono-now.mono, i.boot-now.boot) }", "func (i instant) left(now instant) time.Duration { return i.mono - now.mono }"},
	"the claim lasts as long as the lease":             {"config.go", "c.RenewDeadline = min(c.LeaseDuration*3/4, longestDeadline(c.LeaseDuration))", "c.RenewDeadline = c.LeaseDuration"},
	"a deadline that is not safe is taken":             {"config.go", "most := longestDeadline(c.LeaseDuration)", "most := 2 * c.LeaseDuration"},
	"a candidate does not wait for the lease":          {"election.go", "n.until = n.until.later(n.valid)", "n.until = now"},
	"a lease that was taken away is free":              {"election.go", "n.until = n.until.later(now.add(max(promised(lease), promised(n.seen), n.config.LeaseDuration)))", "n.until = now"},
	"an empty lease was released":                      {"record.go", "holder(l) == \"\" && promised(l) == time.Second", "holder(l) == \"\""},
	"a name is a session":                              {"loop.go", "return alone && l.config.PodUID != \"\" && podOf", "return true || podOf"},
	"a namesake's record is ours":                      {"term.go", "if seen == nil || seen.Annotations[SessionAnnotation] != c.session {", "if seen == nil {"},
	"a process of the pod takes over from another":     {"loop.go", "return alone && l.config.PodUID", "return (alone || true) && l.config.PodUID"},
	"a foreign write is not noticed":                   {"term.go", "return sameRecord(seen, c.lease) || (c.maybe", "return true || (c.maybe"},
	"a renewal of unknown outcome counts":              {"loop.go", "c.maybe = lease\n\t\t}", "c.maybe = lease\n\t\t\tc.renew(sent.add(config.RenewDeadline))\n\t\t}"},
	"an acquisition of unknown outcome counts at once": {"loop.go", "l.attempt = &attempt{lease: lease, session: by, sent: sent}", "l.take(lease, by, sent)"},
	"the lease is released before the work has ended":  {"election.go", "case leave && !n.crew.busy():", "case leave:"},
	"the lease is released before the answer is no":    {"loop.go", "	if l.claim != nil {\n\t\tl.claim.finish(ErrResigned)\n\t\tl.leaving, l.leaveAt", "	if l.claim != nil {\n\t\tl.leaving, l.leaveAt"},
	"a standby names the leader for ever":              {"state.go", "case v.term == nil && !v.self && v.valid.left(now) > 0:", "case v.term == nil && !v.self && v.lease != nil:"},
	"old news is news":                                 {"loop.go", "return a && b && is < was", "return a && b && is < was && false"},
	"a term goes on after its end":                     {"term.go", "if t.ended || t.deadline.left(t.clock.now()) <= 0 {\n\t\treturn false", "if false {\n\t\treturn false"},
	"the context does not end with the claim":          {"term.go", "			t.finish(ErrLost)\n", "			return\n"},
	"what was written is not known again":              {"clock.go", "time.Now().Truncate(time.Microsecond)", "time.Now()"},
	"a process without the lock signs as the pod's":    {"elector.go", "e.session = session(\"\")", "_ = session(\"\")"},
	"transitions stay":                                 {"loop.go", "return transitions(l.seen) + 1", "return transitions(l.seen)"},
	"what nobody knows of the lease is cut off":        {"record.go", "lease = seen.DeepCopy()", "lease.ResourceVersion, lease.UID = seen.ResourceVersion, seen.UID"},
}

// guards are the tests of the rules of safety; the others know nothing of them.
const guards = "^Test(TakesOver|Crash|SlowAnswers|RunsOut|SameName|RestartInItsPod|UnknownOutcome|Hands|EndOrder|WorkThatDoesNotEnd|" +
	"WorkOutlivesItsTerm|ResignAfterTheEnd|WithoutThePodsLock|IneligibleMeanwhile|Resign|Forbidden|Requests|Config|MixedElection|Suspen.*|Random)$"

// TestMutants runs the guards against each mutant.
func TestMutants(t *testing.T) {
	if testing.Short() {
		t.Skip("a mutant has no mutants")
	}
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute)
	defer stop()
	run := make(chan struct{}, 2)
	var wg sync.WaitGroup
	defer wg.Wait()
	for name, m := range breaches {
		wg.Go(func() {
			run <- struct{}{}
			defer func() { <-run }()
			output, err := test(ctx, t, m.file, m.from, m.to)
			switch {
			case err == nil:
				t.Errorf("%s: no test fails", name)
			case !strings.Contains(output, "--- FAIL") && !strings.Contains(output, "panic: test timed out"):
				t.Errorf("%s: %v:\n%s", name, err, output)
			}
		})
	}
}

// test runs this package's tests with a part of a file replaced.
func test(ctx context.Context, t *testing.T, file, from, to string) (string, error) {
	t.Helper()
	change, ok := mutants.Overlay(t, file, from, to)
	if !ok {
		return "--- FAIL", os.ErrInvalid
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-short", "-vet=off", "-failfast", "-timeout=60s", "-ldflags=-s -w", "-run="+guards, ".")
	cmd.Env = append(os.Environ(), "GOGC=off", change)
	output, err := cmd.CombinedOutput()
	return string(output), err
}
