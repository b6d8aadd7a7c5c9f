package sim

import (
	"fmt"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
)

// TestAPausedClusterIsNotTouched is I12: whatever happens to a paused cluster,
// nothing but its status is written; what was missed is done afterwards.
func TestAPausedClusterIsNotTouched(t *testing.T) {
	paused := func(is bool) func(*v1alpha1.EtcdClusterSpec) {
		return func(s *v1alpha1.EtcdClusterSpec) { s.Paused = is }
	}
	f := workflow{name: "being paused", before: founded(spec(3, plaintext))}
	w := f.start()
	w.Apply(paused(true))
	w.For(time.Second)
	deletePod(w, "c-0000")
	w.Evict("c-0001")
	w.Delete(w.API.all("Service")[0])
	w.For(time.Minute)
	if w.Pod("c-0000") != nil || len(w.API.all("Service")) != 1 {
		t.Errorf("what was deleted while the cluster was paused is back\n%s", w.Notes(60))
	}
	w.Apply(paused(false))
	if !w.Run(w.Healthy, patience) {
		t.Errorf("the cluster does not recover from its pause\n%s", w.Notes(60))
	}
	if v := w.Violations(); len(v) > 0 {
		t.Errorf("broke %v\n%s", v, w.Notes(60))
	}
}

// TestAPauseInTheMiddleOfAGrowthHoldsEverything: while the cluster is paused, who
// is a member does not change and nothing is made, and status goes on telling how
// the members are.
func TestAPauseInTheMiddleOfAGrowthHoldsEverything(t *testing.T) {
	f := workflow{name: "growing from three to five", long: true, before: founded(spec(3, plaintext)), begin: resize(5)}
	calls, _ := f.undisturbed(t)
	moments := pick(f, distinctMoments(calls))
	each(t, len(moments), func(i int) error {
		w := f.start()
		moments[i].have(w, func(*Operator) {
			w.After(time.Millisecond, func() { w.Apply(func(s *v1alpha1.EtcdClusterSpec) { s.Paused = true }) })
		})
		f.begin(w)
		w.Run(func() bool { return w.Cluster().Spec.Paused }, time.Minute)
		w.For(time.Second)
		before, writes := w.names(), len(w.calls)
		w.Crash("c-0000")
		refreshed := w.Run(func() bool { return w.Cluster().Status.Members[0].Health != metav1.ConditionTrue }, 15*time.Second)
		w.For(time.Minute)
		for _, c := range w.calls[writes:] {
			if c.Changes && c.Method != "Propose" && c.Method != "patch status" {
				return fmt.Errorf("paused at %s: %s\n%s", moments[i], c.Key, w.Notes(noteLines()))
			}
		}
		if after := w.names(); !slices.Equal(before, after) || !refreshed {
			return fmt.Errorf("paused at %s: status refreshed %v, from %v to %v\n%s", moments[i], refreshed, before, after, w.Notes(noteLines()))
		}
		w.Apply(func(s *v1alpha1.EtcdClusterSpec) { s.Paused = false })
		if ok := w.Run(w.Healthy, patience); !ok || len(w.Violations()) > 0 {
			return fmt.Errorf("paused at %s: healthy afterwards %v, broke %v\n%s", moments[i], ok, w.Violations(), w.Notes(noteLines()))
		}
		return nil
	})
	t.Logf("%d runs", len(moments))
}

// TestARunIsReproducible: a run is a matter of its seed alone.
func TestARunIsReproducible(t *testing.T) {
	f := workflows()[0]
	again := func() string {
		w := f.start()
		w.OnPass = func(op *Operator) {
			if w.passes == 9 {
				op.Kill()
			}
		}
		if err := f.finish(w); err != nil {
			t.Fatal(err)
		}
		return w.changesText()
	}
	if one, two := again(), again(); one != two {
		t.Errorf("two equal runs differ:\n%s\n%s", one, two)
	}
}
