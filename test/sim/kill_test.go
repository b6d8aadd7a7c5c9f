package sim

import (
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync/atomic"
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

// relapse is a run whose operator dies at a moment, and the next one at one of
// its own first calls, where it looks at what the first has left.
type relapse struct {
	first moment
	// nth call of those who come after dies, counting writes alone if so said.
	nth        int
	writesOnly bool
	at         Moment
}

func (r relapse) String() string {
	what := "call"
	if r.writesOnly {
		what = "write"
	}
	when := map[Moment]string{Before: "before", After: "after"}[r.at]
	return fmt.Sprintf("%s and again %s %s %d of the next", r.first, when, what, r.nth)
}

// strike kills both, and says with the answer how many have died.
func (r relapse) strike(w *World) (died func() int) {
	n, seen := 0, 0
	r.first.have(w, func(op *Operator) {
		op.Kill()
		n++
		w.OnPass = nil
		w.Hook = func(op *Operator, c Call, now Moment) error {
			if op.number == 1 || now != r.at || (r.writesOnly && !c.Changes) || n > 1 {
				return nil
			}
			if seen++; seen == r.nth {
				op.Kill()
				n++
			}
			return nil
		}
	})
	return func() int { return n }
}

// relapses are every first moment that differs, crossed with the first moments
// that differ of who comes after; and of all the others, whose first and second
// call are any, some that a seed draws.
func relapses(f workflow, calls []CallSeen) (near, far []relapse) {
	for _, first := range distinctMoments(calls) {
		near = append(near, relapse{first: first, nth: 2})
		for nth := range 3 {
			near = append(near, relapse{first: first, nth: nth + 1, writesOnly: true, at: After})
		}
	}
	h := fnv.New64a()
	h.Write([]byte(f.name))
	r := rand.New(rand.NewPCG(h.Sum64(), 3))
	every := everyMoment(calls)
	for range min(len(every), drawn) {
		far = append(far, relapse{first: every[r.IntN(len(every))], nth: 1 + r.IntN(len(calls)), at: Moment(r.IntN(2))})
	}
	return near, far
}

// drawn is how many pairs of any two calls are drawn of each workflow.
const drawn = 60

// TestKilledTwiceTheEndIsTheSame is I8 for who dies while it recovers.
func TestKilledTwiceTheEndIsTheSame(t *testing.T) {
	for _, f := range workflows() {
		t.Run(f.name, func(t *testing.T) {
			calls, want := f.undisturbed(t)
			near, far := relapses(f, calls)
			pairs := append(evenly(near, 6), evenly(far, 2)...)
			var twice atomic.Int64
			each(t, len(pairs), func(i int) error {
				w := f.start()
				died := pairs[i].strike(w)
				err := f.verify(w, want, "killed at "+pairs[i].String())
				if died() == 2 {
					twice.Add(1)
				}
				return err
			})
			t.Logf("%d pairs of moments, of which %d were run; %d came to the second", len(near)+len(far), len(pairs), twice.Load())
		})
	}
}

// TestFaultyCallsDoNotChangeTheEnd strikes every call with every fault. Writes
// are struck one in a run; reads, which change nothing, a tenth of all in a run.
// Some workflows are struck throughout; the others where a call has a kind that
// was not struck with the fault before, so that none is left out.
func TestFaultyCallsDoNotChangeTheEnd(t *testing.T) {
	wanted, struck := map[string]bool{}, map[string]bool{}
	for _, f := range workflows() {
		t.Run(f.name, func(t *testing.T) {
			began := time.Now()
			calls, want := f.undisturbed(t)
			strikes := strikesOf(calls)
			for _, s := range strikes {
				for class := range s.classes {
					wanted[class] = true
				}
			}
			var chosen []strike
			if f.faults || all() {
				chosen = pick(f, strikes)
			}
			for _, s := range chosen {
				maps.Copy(struck, s.classes)
			}
			for _, s := range strikes {
				if slower == 1 && !covers(struck, s.classes) {
					chosen = append(chosen, s)
					maps.Copy(struck, s.classes)
				}
			}
			each(t, len(chosen), func(i int) error {
				w := f.start()
				w.Hook = chosen[i].hook()
				return f.verify(w, want, chosen[i].String())
			})
			t.Logf("%d calls, %d runs, %v", len(calls), len(chosen), time.Since(began).Round(time.Millisecond))
		})
	}
	t.Logf("%d pairs of a kind of call and a fault, %d of them struck", len(wanted), len(struck))
	if missed := slices.DeleteFunc(slices.Sorted(maps.Keys(wanted)), func(c string) bool { return struck[c] }); len(missed) > 0 && slower == 1 {
		t.Errorf("never struck: %q", missed)
	}
}

func covers(have, want map[string]bool) bool {
	for class := range want {
		if !have[class] {
			return false
		}
	}
	return true
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
	// classes are the kinds of the calls, each with the fault.
	classes map[string]bool
}

func newStrike(f Fault) strike {
	return strike{f, map[string]bool{}, map[string]bool{}}
}

func (s strike) add(c CallSeen) {
	s.keys[c.Key] = true
	s.classes[c.kind()+": "+string(s.fault)] = true
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
			striped[i] = newStrike(fault)
		}
		for i, c := range calls {
			if !fault.strikes(c.Etcd, c.Changes) {
				continue
			}
			if c.Changes {
				one := newStrike(fault)
				one.add(c)
				all = append(all, one)
				continue
			}
			striped[i%stripes].add(c)
		}
		for _, s := range striped {
			if len(s.keys) > 0 {
				all = append(all, s)
			}
		}
	}
	return all
}
