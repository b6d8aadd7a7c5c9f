package leader

import (
	"testing"

	"github.com/quorate/quorate/test/mutants"
)

// breaches are changes of the source, each of which gives up a rule of safety. A test
// that no longer fails for one of them has stopped to guard that rule.
var breaches = map[string]mutants.Mutant{
	"the answer is that of the last renewal":           mutants.Of("term.go", "return !t.ended && t.deadline.left(t.clock.now()) > 0", "return !t.ended"),
	"a claim counts from the answer":                   mutants.Of("term.go", "deadline: sent.add(c.RenewDeadline)", "deadline: c.clock.now().add(c.RenewDeadline)"),
	"a renewal counts from the answer":                 mutants.Of("loop.go", "if l.extend(sent) {", "if l.extend(now) {"),
	"a suspended machine's time stands still":          mutants.Of("clock.go", "func (i instant) left(now instant) time.Duration { return min(i.mono-now.mono, i.boot-now.boot) }", "func (i instant) left(now instant) time.Duration { return i.mono - now.mono }"),
	"the claim lasts as long as the lease":             mutants.Of("config.go", "c.RenewDeadline = min(c.LeaseDuration*3/4, longestDeadline(c.LeaseDuration))", "c.RenewDeadline = c.LeaseDuration"),
	"a deadline that is not safe is taken":             mutants.Of("config.go", "most := longestDeadline(c.LeaseDuration)", "most := 2 * c.LeaseDuration"),
	"a candidate does not wait for the lease":          mutants.Of("election.go", "n.until = n.until.later(now.add(promised(lease)))\n\tcase released", "n.until = now\n\tcase released"),
	"a lease that was taken away is free":              mutants.Of("election.go", "n.until = n.until.later(now.add(max(promised(lease), promised(n.seen), n.config.LeaseDuration)))", "n.until = now"),
	"an empty lease was released":                      mutants.Of("record.go", "holder(l) == \"\" && promised(l) == time.Second", "holder(l) == \"\""),
	"a name is a session":                              mutants.Of("loop.go", "return alone && l.config.PodUID != \"\" && podOf", "return true || podOf"),
	"a namesake's record is ours":                      mutants.Of("term.go", "if seen == nil || seen.Annotations[SessionAnnotation] != c.session {", "if seen == nil {"),
	"a process of the pod takes over from another":     mutants.Of("loop.go", "return alone && l.config.PodUID", "return (alone || true) && l.config.PodUID"),
	"a foreign write is not noticed":                   mutants.Of("term.go", "return nil, sameRecord(seen, c.lease)", "return nil, true"),
	"a renewal of unknown outcome counts":              mutants.Of("loop.go", "c.unknown = append(c.unknown, attempt{lease: lease, sent: sent})", "c.unknown = append(c.unknown, attempt{lease: lease, sent: sent})\n\t\t\tl.extend(sent)"),
	"an acquisition of unknown outcome counts at once": mutants.Of("loop.go", "l.attempts, l.unsure = append(l.attempts, attempt{lease: lease, session: by, sent: sent}), true", "l.take(lease, by, sent)"),
	"the lease is released before the work has ended":  mutants.Of("election.go", "case leave && !n.crew.busy():", "case leave:"),
	"the lease is released before the answer is no":    mutants.Of("loop.go", "	if l.claim != nil {\n\t\tl.claim.finish(ErrResigned)\n\t\tl.leaving, l.leaveAt", "	if l.claim != nil {\n\t\tl.leaving, l.leaveAt"),
	"a standby names the leader for ever":              mutants.Of("state.go", "holder(v.lease) != e.config.Identity && v.valid.left(now) > 0:", "holder(v.lease) != e.config.Identity && v.lease != nil:"),
	"a namesake is named":                              mutants.Of("state.go", "holder(v.lease) != e.config.Identity && v.valid", "v.valid"),
	"a look after a conflict is too short":             mutants.Of("loop.go", "return max(leastPause, min(l.claim.holds.left(l.config.clock.now()), l.config.RenewInterval))", "return leastPause"),
	"what the watch has told waits":                    mutants.Of("loop.go", "if l.catchUp(); l.claim", "if l.claim"),
	"only the last unknown renewal is remembered":      mutants.Of("loop.go", "c.unknown = append(c.unknown, attempt", "c.unknown = append(c.unknown[:0], attempt"),
	"an acquisition that is on its way is forgotten":   mutants.Of("election.go", "pending = append(pending, a)", "_ = a"),
	"a term sleeps through a suspension":               mutants.Of("term.go", "t.clock.after(min(left, wake))", "t.clock.after(left)"),
	"the grace stands still in a suspension":           mutants.Of("term.go", "return max(0, t.others.left(t.clock.now()))", "return max(0, t.others.mono-t.clock.now().mono)"),
	"the grace counts from the end of the claim":       mutants.Of("term.go", "others: sent.add(c.LeaseDuration)", "others: c.clock.now().add(c.LeaseDuration)"),
	"who held the lease long ago is named":             mutants.Of("election.go", "	if !first {\n", "	if true {\n"),
	"work that goes on has ended":                      mutants.Of("elector.go", "defer e.workers.whenGone(alone.release)", "defer alone.release()"),
	"a request has no timeout":                         mutants.Of("loop.go", "return context.WithTimeoutCause(l.ctx, most, errTimeout)", "return context.WithTimeoutCause(l.ctx, time.Hour+0*most, errTimeout)"),
	"a look has no timeout":                            mutants.Of("loop.go", "context.WithTimeoutCause(l.ctx, within, errTimeout)", "context.WithTimeoutCause(l.ctx, time.Hour+0*within, errTimeout)"),
	"an update is unconditional":                       mutants.Of("kubernetes.go", "Name(l.Name).Body(l))", "Name(l.Name).Body(func() *coordinationv1.Lease { l = l.DeepCopy(); l.ResourceVersion = \"\"; return l }()))"),
	"a conflict is no news":                            mutants.Of("loop.go", "case apierrors.IsConflict(err), apierrors.IsNotFound(err):", "case apierrors.IsNotFound(err):"),
	"a missing right is asked for every second":        mutants.Of("loop.go", "2*l.denied[verb]", "0*l.denied[verb]"),
	"who is told to wait does not":                     mutants.Of("loop.go", "now.add(min(delay(err), c.holds.left(now)/2))", "now"),
	"a lease lasts as long as ours":                    mutants.Of("election.go", "n.until = n.until.later(now.add(promised(lease)))\n\tcase released", "n.until = n.until.later(now.add(n.config.LeaseDuration))\n\tcase released"),
	"a release keeps its duration":                     mutants.Of("loop.go", "new(\"\"), new(int32(1))", "new(\"\"), lease.Spec.LeaseDurationSeconds"),
	"old news is news":                                 mutants.Of("loop.go", "return a && b && is < was", "return a && b && is < was && false"),
	"a term goes on after its end":                     mutants.Of("term.go", "if t.ended || t.deadline.left(t.clock.now()) <= 0 {\n\t\treturn false", "if false {\n\t\treturn false"),
	"the context does not end with the claim":          mutants.Of("term.go", "			t.finish(ErrLost)\n", "			return\n"),
	"what was written is not known again":              mutants.Of("clock.go", "time.Now().Truncate(time.Microsecond)", "time.Now()"),
	"a process without the lock signs as the pod's":    mutants.Of("elector.go", "e.session = session(\"\")", "_ = session(\"\")"),
	"transitions stay":                                 mutants.Of("loop.go", "return transitions(l.seen) + 1", "return transitions(l.seen)"),
	"what nobody knows of the lease is cut off":        mutants.Of("record.go", "lease = seen.DeepCopy()", "lease.ResourceVersion, lease.UID = seen.ResourceVersion, seen.UID"),
}

// guards are the tests of the rules of safety; the others know nothing of them.
const guards = "^Test(TakesOver|Crash|SlowAnswers|RunsOut|SameName|RestartInItsPod|UnknownOutcome|Hands|EndOrder|" +
	"ResignAfterTheEnd|WithoutThePodsLock|IneligibleMeanwhile|Resign|Forbidden|Requests|Config|LostRe.*|LateAcquisition|MixedElection|Throttled|LeaseRequests|LeaseErrors|Work.*|Suspen.*|Grace|LeftBehind|Random)$"

// TestMutantsHaveTheirPlace wants what the mutants change to be there.
func TestMutantsHaveTheirPlace(t *testing.T) { mutants.Placed(t, breaches) }

// TestMutants runs the guards against each mutant.
func TestMutants(t *testing.T) { mutants.Caught(t, breaches, "-run="+guards) }
