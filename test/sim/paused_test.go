package sim

import (
	"testing"
	"time"

	"github.com/quorate/quorate/api/v1alpha1"
)

// TestAPausedClusterIsNotTouched is I12: whatever happens to a paused cluster,
// nothing but its status is written; what was missed is done afterwards.
func TestAPausedClusterIsNotTouched(t *testing.T) {
	paused := func(is bool) func(*v1alpha1.EtcdClusterSpec) {
		return func(s *v1alpha1.EtcdClusterSpec) { s.Paused = is }
	}
	f := workflow{before: founded(spec(3, plaintext))}
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
