package elector

import (
	"testing"

	"github.com/quorate/quorate/test/mutants"
)

// breaches are changes of the source, each of which gives up a rule of safety beside
// leader-elector 0.5, or of the labels.
var breaches = map[string]mutants.Mutant{
	"what 0.5 holds is free":                    mutants.Of("legacy.go", "left > 0 {", "left > time.Hour {"),
	"a candidate of 0.5 with a shorter ttl":     mutants.Of("legacy.go", "if l.lasts < ours && time", "if false && time"),
	"what was taken from 0.5 by hand is free":   mutants.Of("legacy.go", "case record.Session != \"\", given && terms > l.terms:", "case record.Session != \"\", given:"),
	"an emptied record is free":                 mutants.Of("legacy.go", "record.HolderIdentity == \"\" && record.LeaseDurationSeconds == 1", "record.HolderIdentity == \"\""),
	"renewals of one second look alike":         mutants.Of("legacy.go", "record.RenewTime = metav1.NewTime(was.RenewTime.Add(time.Second))", "_ = was"),
	"the lock of 0.5 is not renewed":            mutants.Of("legacy.go", "	do := (*legacyLock).hold\n", "	do := func(l *legacyLock, ctx context.Context, e legacyEndpoints, le *coordinationv1.Lease) error { if ptr.Deref(le.Spec.RenewTime, metav1.MicroTime{}) != ptr.Deref(le.Spec.AcquireTime, metav1.MicroTime{}) { return nil }; return l.hold(ctx, e, le) }\n"),
	"the lock of 0.5 is taken after the Lease":  mutants.Of("legacy.go", "	if err := l.lock(lease).hold(ctx, l.endpoints, lease); err != nil {\n\t\treturn nil, err\n\t}\n\treturn l.Leases.Create(ctx, lease)", "	got, err := l.Leases.Create(ctx, lease)\n\tgo func() { _ = l.lock(lease).hold(ctx, l.endpoints, lease) }()\n\treturn got, err"),
	"somebody else's lock is released":          mutants.Of("legacy.go", "record.Session == \"\" || record.Session != lease.Annotations[leader.SessionAnnotation]", "record.HolderIdentity == \"\""),
	"a released Lease keeps the lock of 0.5":    mutants.Of("legacy.go", "do = (*legacyLock).release", "return l.Leases.Update(ctx, lease)"),
	"a suspended machine goes on":               mutants.Of("duty.go", "min(left, glance)", "left"),
	"others are not waited out":                 mutants.Of("duty.go", "left := grace() - margin\n", "left := patience\n"),
	"one that is late has its patience":         mutants.Of("duty.go", "	if left <= 0 {\n\t\tcancel()\n\t}\n", "	if left <= 0 {\n\t\tleft = patience\n\t}\n"),
	"a stale label stays":                       mutants.Of("duty.go", "	p.later(ctx, p.end, over)\n", ""),
	"a label leaves no trace":                   mutants.Of("label.go", "	pod.Annotations = map", "	_ = map"),
	"one that leads no more labels others":      mutants.Of("label.go", "if err := t.check(); err != nil {", "if err := t.check(); false {"),
	"an outage is time without a leader":        mutants.Of("health.go", "case !s.Connected && !s.IsLeader():", "case false:"),
	"the grace is never over":                   mutants.Of("health.go", "now.Sub(d.alone) >= h.grace", "false"),
	"the unwell contend":                        mutants.Of("health.go", "d.standing, d.alone = unwell, time.Time{}", "d.alone = time.Time{}"),
	"a pod contends before its first check":     mutants.Of("options.go", "c.Gates = []string{healthGate}", "_ = healthGate"),
	"the application opens the checks' gate":    mutants.Of("health.go", "healthGate = \"health\"", "healthGate = \"\""),
	"a label is taken off whoever bears it now": mutants.Of("label.go", "pod.ResourceVersion != \"\"", "false"),
}

// TestMutantsHaveTheirPlace wants what the mutants change to be there.
func TestMutantsHaveTheirPlace(t *testing.T) { mutants.Placed(t, breaches) }

// TestMutants runs the guards against each mutant.
func TestMutants(t *testing.T) {
	mutants.Caught(t, breaches, "-run=^Test(Legacy.*|Label.*|End.*|Diagnosis|Rule|TwoGates)$")
}
