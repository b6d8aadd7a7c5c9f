package sim

import (
	"fmt"
	"slices"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// most of the disturbed runs of a long workflow in one test.
const most = 9

// pick the disturbances of a workflow that are run: every one in slower, of a
// long workflow no more than most, evenly spread; all of them with SIM_ALL=1.
func pick[T any](f workflow, of []T) []T {
	if all() || !f.long || len(of) <= most/slower {
		return some(of, slower)
	}
	return evenly(of, most)
}

// evenly takes about n, evenly spread; all of them with SIM_ALL=1.
func evenly[T any](of []T, n int) []T {
	if n = max(1, n/slower); all() || len(of) <= n {
		return of
	}
	var out []T
	for i := range n {
		// Not always the first: it is the same in all of them.
		out = append(out, of[(i*len(of)+len(of)/2)/n])
	}
	return out
}

// releaseAfter is how long a cache is held back.
const releaseAfter = 20 * time.Second

// delay is what an operator's caches do from a pass on.
type delay struct {
	from  int
	kinds []string
	how   hearing
}

// hearing is how changes are heard of.
type hearing string

const (
	// late hearing is some changes behind.
	late hearing = "late"
	// held back changes are heard of one after the other, in the end.
	heldBack hearing = "held back"
	// dropped changes are never heard of, but for what has become of them.
	dropped hearing = "dropped"
	// undone changes were heard of, and then were not: the API server that the
	// operator has turned to lags behind.
	undone hearing = "undone"
	// unknown changes are those that another operator has not heard of, which takes
	// over and turns to such an API server.
	unknown hearing = "unknown to its successor"
)

// travelled is how many changes ago the operator's world is then.
const travelled = 10

func (d delay) String() string {
	return fmt.Sprintf("from pass %d on changes of %v are %s", d.from, d.kinds, d.how)
}

func (d delay) have(w *World) {
	moment{pass: d.from}.have(w, func(op *Operator) {
		switch d.how {
		case late:
			op.Lag(2, d.kinds...)
		case heldBack:
			op.HoldBack(d.kinds...)
		case dropped:
			op.Drop(d.kinds...)
		case undone:
			op.TravelBack(travelled)
		case unknown:
			op.Kill()
			w.StartOperator()
			op = w.Operator()
			op.TravelBack(travelled)
		}
		w.After(releaseAfter, op.Release)
	})
}

// cachedKinds are the kinds that SetupWithManager watches.
var cachedKinds = []string{
	"Pod", "PersistentVolumeClaim", "EtcdCluster", "Node", "Service", "ServiceAccount", "PodDisruptionBudget", "NetworkPolicy",
}

// delaysFrom one pass: each kind in each way, and all of them at once.
func delaysFrom(pass int) (out []delay) {
	for _, how := range []hearing{late, heldBack, dropped} {
		for _, kind := range cachedKinds {
			out = append(out, delay{pass, []string{kind}, how})
		}
		out = append(out, delay{pass, cachedKinds, how})
	}
	return append(out, delay{pass, cachedKinds, undone}, delay{pass, cachedKinds, unknown})
}

// TestStaleCachesDoNotChangeTheEnd has the caches of a kind lag behind, hear
// nothing for a while, never hear of what happens meanwhile, or go back in time, from
// each pass of the workflow on.
func TestStaleCachesDoNotChangeTheEnd(t *testing.T) {
	const spared = 5 // in step with neither the kinds nor the ways
	done := map[string]int{}
	for _, f := range workflows() {
		if !f.shared && !all() {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			calls, want := f.undisturbed(t)
			var delays []delay
			for from := calls[0].Pass; from <= calls[len(calls)-1].Pass; from += 3 {
				delays = append(delays, delaysFrom(from)...)
			}
			if delays = some(delays, spared); f.long {
				delays = evenly(delays, most)
			}
			for _, d := range delays {
				done[fmt.Sprint(d.kinds, d.how)]++
			}
			each(t, len(delays), func(i int) error {
				w := f.start()
				delays[i].have(w)
				return f.verify(w, want, delays[i].String())
			})
			t.Logf("%d runs", len(delays))
		})
	}
	for _, d := range delaysFrom(0) {
		n := done[fmt.Sprint(d.kinds, d.how)]
		t.Logf("changes of %v are %s in %d runs", d.kinds, d.how, n)
		if n == 0 && slower == 1 {
			t.Errorf("changes of %v are %s in no run", d.kinds, d.how)
		}
	}
}

// TestAStaleNodeCacheStartsNobodyTwice: the pod of a cut-off node is deleted by
// force before the operator has heard that the node is lost. Its process runs on.
func TestAStaleNodeCacheStartsNobodyTwice(t *testing.T) {
	f := workflow{name: "three in plaintext", before: founded(spec(3, plaintext))}
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

// TestTwoOperatorsAtOnce: two replicas whose leader election has failed.
// They take turns pass by pass from each pass of the workflow on.
func TestTwoOperatorsAtOnce(t *testing.T) {
	for _, f := range workflows() {
		if !f.shared && !all() {
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

// TestTwoInstallations: the one that a cluster does not name does nothing to it while
// the other one's Lease is renewed, and takes over when it is not any more.
func TestTwoInstallations(t *testing.T) {
	w := workflow{name: "three in plaintext", before: founded(spec(3, plaintext))}.start()
	w.ReplaceAfter = 0
	first, alive := w.Operator(), true
	l := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: "quorate-system", Name: "quorate-operator"},
		Spec:       coordinationv1.LeaseSpec{LeaseDurationSeconds: new(int32(15))},
	}
	w.must(w.API.Create(l))
	var renew func()
	renew = func() {
		if alive {
			edit(w.API, l, func(l *coordinationv1.Lease) { l.Spec.RenewTime = &metav1.MicroTime{Time: w.Clock.Now()} })
			w.After(2*time.Second, renew)
		}
	}
	renew()
	w.Installation = "elsewhere/quorate-operator"
	second := w.StartOperator()
	deletePod(w, "c-0001")
	w.For(5 * time.Minute)
	if second.writes > 0 || w.Cluster().Status.Operator != "quorate-system/quorate-operator" || !w.Healthy() {
		t.Fatalf("beside another installation: %d writes, operator %q, healthy %v\n%s", second.writes, w.Cluster().Status.Operator, w.Healthy(), w.Notes(noteLines()))
	}
	alive = false
	first.Kill()
	deletePod(w, "c-0001")
	w.For(3 * time.Minute)
	if w.Cluster().Status.Operator != w.Installation || !w.Healthy() || len(w.Violations()) > 0 {
		t.Errorf("once it is gone: operator %q, healthy %v, broke %v\n%s", w.Cluster().Status.Operator, w.Healthy(), w.Violations(), w.Notes(noteLines()))
	}
}

// TestAnOperatorHeldUpInItsPassDoesNoHarm: one operator stops before a call, as
// a suspended process does, another one does all the work, and then the first
// goes on with what it decided long ago.
func TestAnOperatorHeldUpInItsPassDoesNoHarm(t *testing.T) {
	for _, f := range workflows() {
		if !f.shared && !all() {
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

// TestAnAdditionHeldUpDoesNotRepeatAName: the member that an operator was about to
// add has joined and left when it goes on.
func TestAnAdditionHeldUpDoesNotRepeatAName(t *testing.T) {
	i := slices.IndexFunc(workflows(), func(f workflow) bool { return f.name == "changing one's mind twice" })
	f := workflows()[i]
	calls, want := f.undisturbed(t)
	adds := slices.IndexFunc(calls, func(c CallSeen) bool { return c.Method == "AddLearner" })
	var keys []string
	for _, c := range calls[:adds+1] {
		if c.Pass == calls[adds].Pass && c.Method != "Status" {
			keys = append(keys, c.Key)
		}
	}
	each(t, len(keys), func(i int) error { return f.heldUp(keys[i], want) })
	t.Logf("%d runs", len(keys))
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
