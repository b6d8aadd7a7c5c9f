package sim

import (
	"fmt"
	"regexp"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
)

// settledOrCalling says that the cluster is healthy, or that the operator calls
// for the user because data is missing.
func settledOrCalling(w *World) bool { return w.Healthy() || w.calling() }

// calling says that the operator is stalled for data.
func (w *World) calling() bool {
	c := w.Cluster()
	if c == nil {
		return false
	}
	stalled := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionStalled)
	return stalled != nil && stalled.Status == metav1.ConditionTrue &&
		slices.Contains([]string{v1alpha1.ReasonDataMissing, v1alpha1.ReasonForeignData}, stalled.Reason)
}

// loses runs a workflow in which something is lost at a moment.
func (f workflow) loses(m moment, what string, lose func(w *World)) (*World, error) {
	w := f.start()
	lost := false
	m.have(w, func(*Operator) {
		lost = true
		lose(w)
		w.wake()
	})
	f.begin(w)
	settled := w.Run(func() bool { return lost && settledOrCalling(w) }, 3*time.Minute)
	// Long enough for whatever would go wrong by itself.
	w.For(30 * time.Second)
	if v := w.Violations(); len(v) > 0 || !settled {
		return w, fmt.Errorf("%s, %s at %s: settled %v, broke %v\n%s", f.name, what, m, settled, v, w.Notes(150))
	}
	return w, nil
}

// TestAFoundersClaimDeletedAtAnyMoment ends in a healthy cluster or in a call
// for the user, and never in an empty volume under a used identity.
func TestAFoundersClaimDeletedAtAnyMoment(t *testing.T) {
	losses := map[string]func(w *World){
		"the claim is deleted": func(w *World) { deleteClaim(w, "c-0001") },
		"the claim and the pod are deleted": func(w *World) {
			deleteClaim(w, "c-0001")
			deletePod(w, "c-0001")
		},
		"all claims and pods are deleted": func(w *World) {
			for _, m := range []string{"c-0000", "c-0001", "c-0002"} {
				deleteClaim(w, m)
				deletePod(w, m)
			}
		},
	}
	f := workflow{name: "founding", begin: found(spec(3, plaintext))}
	calls, _ := f.undisturbed(t)
	moments := some(distinctMoments(calls), slower)
	for what, lose := range losses {
		t.Run(what, func(t *testing.T) {
			each(t, len(moments), func(i int) error {
				_, err := f.loses(moments[i], what, lose)
				return err
			})
			t.Logf("%d runs", len(moments))
		})
	}
}

func deleteClaim(w *World, member string) {
	if claim := w.Claim(member); claim != nil {
		w.Delete(claim)
	}
}

func deletePod(w *World, member string) {
	if pod := w.Pod(member); pod != nil {
		w.Delete(pod)
	}
}

// TestDataWipedAfterTheLatchIsNeverStartedOn: the guard refuses, the member gets
// no pod, and the user is called; the others go on.
func TestDataWipedAfterTheLatchIsNeverStartedOn(t *testing.T) {
	histories := []workflow{
		{name: "at rest", before: founded(spec(3, plaintext)), begin: func(*World) {}},
		{name: "while its pod is made again", before: founded(spec(3, plaintext)), begin: deletePods("c-0001")},
		{name: "while all pods are made again", before: founded(spec(3, plaintext)), begin: deletePods("c-0000", "c-0001", "c-0002")},
	}
	restarts := map[string]func(w *World){
		"etcd crashes":       func(w *World) { w.Crash("c-0001") },
		"its pod is deleted": func(w *World) { deletePod(w, "c-0001") },
	}
	for _, f := range histories {
		w := f.start()
		f.begin(w)
		w.For(10 * time.Second)
		moments := distinctMoments(w.calls)
		for how, restart := range restarts {
			for _, what := range []WipeOf{WipeAll, WipeLog} {
				t.Run(fmt.Sprintf("%s, %s is lost and %s", f.name, what, how), func(t *testing.T) {
					each(t, len(moments), func(i int) error { return f.wiped(moments[i], what, restart) })
					t.Logf("%d runs", len(moments))
				})
			}
		}
	}
}

func (f workflow) wiped(m moment, what WipeOf, restart func(*World)) error {
	w, err := f.loses(m, string(what)+" is lost", func(w *World) {
		w.Wipe("c-0001", what)
		restart(w)
	})
	if err != nil {
		return err
	}
	if pod := w.Pod("c-0001"); !w.calling() || pod != nil || !conditionTrue(w.Cluster(), v1alpha1.ConditionAvailable) {
		return fmt.Errorf("%s, wiped at %s: calls %v, pod %v\n%s", f.name, m, w.calling(), pod != nil, w.Notes(120))
	}
	return nil
}

// TestALostStatusNeverFoundsAgain: without its status the cluster is found again
// in its own volumes and members.
func TestALostStatusNeverFoundsAgain(t *testing.T) {
	for _, f := range []workflow{
		{name: "founding three in plaintext", begin: found(spec(3, plaintext))},
		{name: "repairing three deleted pods", before: founded(spec(3, plaintext)), begin: deletePods("c-0000", "c-0001", "c-0002")},
		{name: "at rest", before: founded(spec(3, plaintext)), begin: func(w *World) { w.For(10 * time.Second) }},
	} {
		t.Run(f.name, func(t *testing.T) {
			calls, want := f.undisturbed(t)
			// Who has lost status knows the volumes by the IDs on them.
			want = regexp.MustCompile(`(?s)\n *"founderVolumes": \{.*?\},`).ReplaceAllString(want, "")
			moments := some(distinctMoments(calls), slower)
			each(t, len(moments), func(i int) error {
				w := f.start()
				moments[i].have(w, func(*Operator) { w.LoseStatus() })
				return f.verify(w, want, "status is lost at "+moments[i].String())
			})
			t.Logf("%d runs", len(moments))
		})
	}
}
