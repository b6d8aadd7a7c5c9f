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
	"github.com/quorate/quorate/internal/resources"
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
		stalled.Reason == v1alpha1.ReasonDataMissing
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
// no pod any more and is replaced, and its volume is kept in quarantine.
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
	kept := func() bool {
		claim := w.Claim("c-0001")
		return claim != nil && resources.Quarantined(claim)
	}
	if !w.Run(func() bool { return w.Healthy() && kept() }, time.Minute) || w.Pod("c-0001") != nil {
		return fmt.Errorf("%s, wiped at %s: healthy %v, kept %v, pod %v\n%s", f.name, m, w.Healthy(), kept(), w.Pod("c-0001") != nil, w.Notes(120))
	}
	w.check.atRest()
	if v := w.Violations(); len(v) > 0 {
		return fmt.Errorf("%s, wiped at %s: broke %v\n%s", f.name, m, v, w.Notes(120))
	}
	return nil
}

// quorumLosses by how a majority is lost, in a way that nobody may mend.
var quorumLosses = map[string]func(w *World){
	"claims and pods": lose("c-0001", "c-0002"),
	"data": func(w *World) {
		for _, m := range []string{"c-0001", "c-0002"} {
			w.Wipe(m, WipeAll)
			w.Crash(m)
		}
	},
}

// TestALostQuorumIsToldAndNothingIsTouched: within 15 s status says so, and who is
// left; nothing is removed, deleted or made from scratch, whenever an operator
// dies meanwhile.
func TestALostQuorumIsToldAndNothingIsTouched(t *testing.T) {
	for how, lost := range quorumLosses {
		t.Run(how, func(t *testing.T) {
			f := workflow{name: "losing the quorum", long: true, before: founded(spec(3, plaintext)), begin: lost}
			w, err := f.quorumLost(moment{pass: 1 << 30})
			if err != nil {
				t.Fatal(err)
			}
			moments := pick(f, everyMoment(w.calls))
			each(t, len(moments), func(i int) error {
				_, err := f.quorumLost(moments[i])
				return err
			})
			t.Logf("%d runs", len(moments)+1)
		})
	}
}

func (f workflow) quorumLost(dies moment) (*World, error) {
	w := f.start()
	dies.have(w, (*Operator).Kill)
	before := w.names()
	f.begin(w)
	told := w.Run(w.tellsLoss, 15*time.Second)
	w.For(5 * time.Minute)
	after := w.names()
	extra := slices.DeleteFunc(after, func(name string) bool { return slices.Contains(before, name) })
	survivor := w.Claim("c-0000") != nil && w.Pod("c-0000") != nil
	if v := w.Violations(); !told || !w.tellsLoss() || len(extra) > 0 || !survivor || len(v) > 0 || w.changed() {
		return w, fmt.Errorf("%s, killed at %s: told %v, made %v, survivor there %v, members changed %v, broke %v\n%s",
			f.name, dies, told, extra, survivor, w.changed(), v, w.Notes(noteLines()))
	}
	return w, nil
}

// tellsLoss says that status tells of the lost quorum.
func (w *World) tellsLoss() bool {
	c := w.Cluster()
	available := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionAvailable)
	return available != nil && available.Status == metav1.ConditionFalse && available.Reason == v1alpha1.ReasonQuorumLost
}

// names of the claims and pods.
func (w *World) names() (names []string) {
	for _, kind := range []string{"PersistentVolumeClaim", "Pod"} {
		for _, o := range w.API.all(kind) {
			names = append(names, kind+" "+o.GetName())
		}
	}
	return names
}

// changed says that an operator has tried to change who is a member.
func (w *World) changed() bool {
	return slices.ContainsFunc(w.calls, func(c CallSeen) bool {
		return slices.Contains([]string{"AddLearner", "Promote", "Remove", "MoveLeader"}, c.Method)
	})
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
