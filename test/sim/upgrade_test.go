package sim

import (
	"testing"
	"time"
)

// TestANewOperatorRestartsNothing: an upgrade of the operator brings another guard and
// other defaults. A pod records what it was made from, so none is made again for that; the
// next one that has to be made gets what is new.
func TestANewOperatorRestartsNothing(t *testing.T) {
	w := workflow{name: "three in plaintext", before: founded(spec(3, plaintext))}.start()
	before := map[string]string{}
	for _, o := range w.API.all("Pod") {
		before[o.GetName()] = string(o.GetUID())
	}
	for _, op := range w.operators {
		op.Kill()
	}
	next := w.StartOperator()
	next.reconciler.Performer.GuardImage = "member:next"
	w.For(2 * time.Minute)
	for _, o := range w.API.all("Pod") {
		if before[o.GetName()] != string(o.GetUID()) {
			t.Errorf("%s was made again", o.GetName())
		}
	}
	deletePods("c-0001")(w)
	if !w.Run(w.Healthy, patience) {
		t.Fatal(w.Notes(80))
	}
	if image := w.Pod("c-0001").Spec.InitContainers[0].Image; image != "member:next" {
		t.Errorf("a pod that is made anew has the guard of %s", image)
	}
	if v := w.Violations(); len(v) > 0 {
		t.Error(v)
	}
}
