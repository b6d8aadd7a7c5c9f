package sim

import (
	"fmt"
	"testing"
	"time"
)

// most of the disturbed runs of a long workflow in one test.
const most = 12

// pick the disturbances of a workflow that are run: every one in slower, of a
// long workflow no more than most, evenly spread; all of them with SIM_ALL=1.
func pick[T any](f workflow, of []T) []T {
	if all() || !f.long || len(of) <= most/slower {
		return some(of, slower)
	}
	var out []T
	for i := range most / slower {
		// Not always the first: it is the same in all of them.
		out = append(out, of[(i*len(of)+len(of)/2)/(most/slower)])
	}
	return out
}

// releaseAfter is how long a cache is held back.
const releaseAfter = 20 * time.Second

// TestStaleCachesDoNotChangeTheEnd has the caches of a kind lag behind, or hear
// nothing at all, from each pass of the workflow on.
func TestStaleCachesDoNotChangeTheEnd(t *testing.T) {
	kinds := [][]string{
		{"Pod"},
		{"PersistentVolumeClaim"},
		{"EtcdCluster"},
		{"Node"},
		{"Service", "PodDisruptionBudget"},
		{"Pod", "PersistentVolumeClaim", "EtcdCluster", "Service"},
	}
	const never = 1 << 30
	lags := []int{2, never}
	for _, f := range workflows() {
		if !f.shared {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			calls, want := f.undisturbed(t)
			first, last := 0, 0
			if len(calls) > 0 {
				first, last = calls[0].Pass, calls[len(calls)-1].Pass
			}
			type delay struct {
				from, lag int
				kinds     []string
			}
			var delays []delay
			for from := first; from <= last; from += 3 {
				for _, k := range kinds {
					for _, lag := range lags {
						delays = append(delays, delay{from, lag, k})
					}
				}
			}
			delays = pick(f, delays)
			each(t, len(delays), func(i int) error {
				d := delays[i]
				w := f.start()
				moment{pass: d.from}.have(w, func(op *Operator) {
					op.Lag(d.lag, d.kinds...)
					w.After(releaseAfter, op.Release)
				})
				return f.verify(w, want, fmt.Sprintf("from pass %d on %d changes of %v are heard late", d.from, d.lag, d.kinds))
			})
			t.Logf("%d runs", len(delays))
		})
	}
}

// TestAStaleNodeCacheStartsNobodyTwice: the pod of a cut-off node is deleted by
// force before the operator has heard that the node is lost. Its process runs on.
func TestAStaleNodeCacheStartsNobodyTwice(t *testing.T) {
	f := workflow{before: founded(spec(3, plaintext))}
	w := f.start()
	op, node := w.Operator(), w.NodeOf("c-0001")
	op.HoldBack("Node")
	w.CutOff(node)
	w.ForceDelete("c-0001")
	w.For(30 * time.Second)
	if pod := w.Pod("c-0001"); pod != nil {
		t.Errorf("a pod was made while a process of its member may run on %s", node)
	}
	op.Release()
	w.For(10 * time.Second)
	w.Reconnect(node)
	if !w.Run(w.Healthy, patience) || len(w.Violations()) > 0 || w.changed() {
		t.Errorf("healthy %v, members changed %v, broke %v\n%s", w.Healthy(), w.changed(), w.Violations(), w.Notes(noteLines()))
	}
}

// TestTwoOperatorsAtOnce: two installations, or a leader election that failed.
// They take turns pass by pass from each pass of the workflow on.
func TestTwoOperatorsAtOnce(t *testing.T) {
	for _, f := range workflows() {
		if !f.shared {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			calls, want := f.undisturbed(t)
			first, last := calls[0].Pass, calls[len(calls)-1].Pass
			var passes []int
			for i := first; i <= last; i++ {
				passes = append(passes, i)
			}
			passes = pick(f, passes)
			each(t, len(passes), func(i int) error {
				w := f.start()
				moment{pass: passes[i]}.have(w, func(*Operator) { w.StartOperator() })
				return f.verify(w, want, fmt.Sprintf("a second operator starts in pass %d", passes[i]))
			})
			t.Logf("%d runs", len(passes))
		})
	}
}

// TestAnOperatorHeldUpInItsPassDoesNoHarm: one operator stops before a call, as
// a suspended process does, another one does all the work, and then the first
// goes on with what it decided long ago.
func TestAnOperatorHeldUpInItsPassDoesNoHarm(t *testing.T) {
	for _, f := range workflows() {
		if !f.shared {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			calls, want := f.undisturbed(t)
			var keys []string
			for _, c := range calls {
				// Status calls are made side by side; the one before them and
				// the one after them are enough.
				if c.Method != "Status" {
					keys = append(keys, c.Key)
				}
			}
			keys = pick(f, keys)
			each(t, len(keys), func(i int) error { return f.heldUp(keys[i], want) })
			t.Logf("%d runs", len(keys))
		})
	}
}

func (f workflow) heldUp(key, want string) error {
	w := f.start()
	moment{key: key}.have(w, func(op *Operator) {
		w.StartOperator()
		w.Park(op)
	})
	if err := f.verify(w, want, "held up at "+key); err != nil || w.operators[0].parked == nil {
		return err
	}
	w.Resume(w.operators[0])
	// What it did must be undone, if it did anything.
	f.begin = func(w *World) { w.For(time.Second) }
	return f.verify(w, want, "held up at "+key+" and let go on")
}
