package sim

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// moment of a run: the beginning of a pass, or one of the two moments of a call.
type moment struct {
	pass int
	key  string
	at   Moment
}

func (m moment) String() string {
	switch {
	case m.key == "":
		return fmt.Sprintf("the beginning of pass %d", m.pass)
	case m.at == Before:
		return "the moment before " + m.key
	default:
		return "the moment after " + m.key
	}
}

// have something done to the world at the moment, once.
func (m moment) have(w *World, do func(op *Operator)) {
	done := false
	if m.key == "" {
		w.OnPass = func(op *Operator) {
			if w.passes >= m.pass && !done {
				done = true
				do(op)
			}
		}
		return
	}
	w.Hook = func(op *Operator, c Call, now Moment) error {
		if c.Key == m.key && now == m.at && !done {
			done = true
			do(op)
		}
		return nil
	}
}

// everyMoment at which a run's operator can die. To die after a read is to die
// before the next call, for nothing outside has changed in between; so reads
// have one moment and writes two.
func everyMoment(calls []CallSeen) []moment {
	var all []moment
	for _, c := range calls {
		all = append(all, moment{c.Pass, c.Key, Before})
		if c.Changes {
			all = append(all, moment{c.Pass, c.Key, After})
		}
	}
	return all
}

// distinctMoments are those that differ in what the world has seen of the
// operator: the beginning of each pass, and the moment after each write. What an
// operator has read dies with it, and within a pass no time passes.
func distinctMoments(calls []CallSeen) []moment {
	var some []moment
	pass := 0
	for _, c := range calls {
		if c.Pass != pass {
			some = append(some, moment{pass: c.Pass})
			pass = c.Pass
		}
		if c.Changes {
			some = append(some, moment{c.Pass, c.Key, After})
		}
	}
	return some
}

// TestUndisturbedWorkflowsEndHealthyAndRest is what all other runs are compared
// with: an end without a violation, and not one write at rest.
func TestUndisturbedWorkflowsEndHealthyAndRest(t *testing.T) {
	for _, f := range workflows() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			w := f.start()
			if err := f.finish(w); err != nil {
				t.Fatalf("%v\n%s", err, w.Notes(noteLines()))
			}
			if err := restful(f.name, w); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestKilledAtAnyCallTheEndIsTheSame is I8. Some workflows are killed at each
// single call, the others at those that differ; SIM_ALL=1 spares none.
func TestKilledAtAnyCallTheEndIsTheSame(t *testing.T) {
	for _, f := range workflows() {
		t.Run(f.name, func(t *testing.T) {
			began := time.Now()
			calls, want := f.undisturbed(t)
			moments := distinctMoments(calls)
			if f.every || all() {
				moments = everyMoment(calls)
			}
			moments = pick(f, moments)
			each(t, len(moments), func(i int) error {
				w := f.start()
				moments[i].have(w, (*Operator).Kill)
				return f.verify(w, want, "killed at "+moments[i].String())
			})
			t.Logf("%d calls, %d moments to die of which %d were run, %v",
				len(calls), len(everyMoment(calls)), len(moments), time.Since(began).Round(time.Millisecond))
		})
	}
}

// TestFaultyCallsDoNotChangeTheEnd strikes every call with every fault. Writes
// are struck one in a run; reads, which change nothing, a tenth of all in a run.
func TestFaultyCallsDoNotChangeTheEnd(t *testing.T) {
	for _, f := range workflows() {
		if !f.faults {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			began := time.Now()
			calls, want := f.undisturbed(t)
			strikes := pick(f, strikesOf(calls))
			each(t, len(strikes), func(i int) error {
				w := f.start()
				w.Hook = strikes[i].hook()
				return f.verify(w, want, strikes[i].String())
			})
			t.Logf("%d calls, %d runs, %v", len(calls), len(strikes), time.Since(began).Round(time.Millisecond))
		})
	}
}

// all says that no run is to be spared.
func all() bool { return os.Getenv("SIM_ALL") != "" }

// some takes every nth; all of them with SIM_ALL=1.
func some[T any](of []T, n int) []T {
	if all() {
		return of
	}
	var out []T
	for i := 0; i < len(of); i += n {
		out = append(out, of[i])
	}
	return out
}

// strike is a fault of some calls of a run.
type strike struct {
	fault Fault
	keys  map[string]bool
}

func (s strike) String() string {
	if len(s.keys) == 1 {
		for key := range s.keys {
			return fmt.Sprintf("%s: %s", key, s.fault)
		}
	}
	return fmt.Sprintf("%d calls: %s", len(s.keys), s.fault)
}

func (s strike) hook() Hook {
	return func(_ *Operator, c Call, m Moment) error {
		if !s.keys[c.Key] {
			return nil
		}
		return s.fault.strike(c, m)
	}
}

func strikesOf(calls []CallSeen) []strike {
	const stripes = 10
	var all []strike
	for _, fault := range Faults {
		striped := make([]strike, stripes)
		for i := range striped {
			striped[i] = strike{fault, map[string]bool{}}
		}
		for i, c := range calls {
			if !fault.strikes(c.Etcd, c.Changes) {
				continue
			}
			if c.Changes {
				all = append(all, strike{fault, map[string]bool{c.Key: true}})
				continue
			}
			striped[i%stripes].keys[c.Key] = true
		}
		for _, s := range striped {
			if len(s.keys) > 0 {
				all = append(all, s)
			}
		}
	}
	return all
}
