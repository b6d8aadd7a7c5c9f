package controllers

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/internal/plan"
)

func TestAStepThatRepeatsIsTriedLessAndLessOften(t *testing.T) {
	a, b := types.NamespacedName{Name: "a"}, types.NamespacedName{Name: "b"}
	start := plan.Step{Kind: plan.StartMembers, Members: []string{"a-0000"}}
	other := plan.Step{Kind: plan.StartMembers, Members: []string{"a-0001"}}
	var r repeats
	var got []time.Duration
	for range 4 {
		got = append(got, r.pause(a, start, again))
	}
	got = append(got, r.pause(b, start, again), r.pause(a, other, again), r.pause(a, start, again))
	got = append(got, r.pause(a, plan.Step{Kind: plan.Settled}, atRest), r.pause(a, start, again))
	for range 30 {
		got = append(got[:9], r.pause(a, start, again))
	}
	want := []time.Duration{
		again, 2 * again, 4 * again, 8 * again, // the same step of a
		again, again, again, // another cluster's, another step, and back
		atRest, again, // a rest, and the same step after it
		whileWaiting, // in the end
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pauses (-want +got):\n%s", diff)
	}
}

// While the members change nothing wakes the operator when a learner has caught
// up: it looks often at first, and then less and less so.
func TestPausesWhileTheMembersChange(t *testing.T) {
	a := types.NamespacedName{Name: "a"}
	catchesUp := plan.Step{Kind: plan.Wait, Reason: "Growing", Message: "a-0003 is a learner and catches up"}
	promoted := plan.Step{Kind: plan.Promote, Members: []string{"a-0003"}, ID: 4}
	another := plan.Step{Kind: plan.Wait, Reason: "Growing", Message: "a-0004 is prepared to join"}
	another4 := plan.Step{Kind: plan.Promote, Members: []string{"a-0003"}, ID: 5}
	ms := time.Millisecond
	cases := map[string]struct {
		steps []plan.Step
		due   []time.Duration
		want  []time.Duration
	}{
		"by a fifth": {
			[]plan.Step{catchesUp, catchesUp, catchesUp},
			[]time.Duration{whileChanging, whileChanging, whileChanging},
			[]time.Duration{100 * ms, 120 * ms, 140 * ms},
		},
		"anew with what is waited for": {
			[]plan.Step{catchesUp, catchesUp, another},
			[]time.Duration{whileChanging, whileChanging, whileChanging},
			[]time.Duration{100 * ms, 120 * ms, 100 * ms},
		},
		"etcd does not take it yet": {
			[]plan.Step{promoted, promoted, another4},
			[]time.Duration{afterNotYet, afterNotYet, afterNotYet},
			[]time.Duration{500 * ms, 600 * ms, 500 * ms},
		},
		"at once when etcd takes it at last": {
			[]plan.Step{promoted, promoted, promoted, promoted},
			[]time.Duration{afterNotYet, afterNotYet, afterNotYet, again},
			[]time.Duration{500 * ms, 600 * ms, 700 * ms, again},
		},
		"anew after a stale look": {
			[]plan.Step{catchesUp, catchesUp, promoted, catchesUp},
			[]time.Duration{whileChanging, whileChanging, afterStale, whileChanging},
			[]time.Duration{100 * ms, 120 * ms, afterStale, 100 * ms},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var r repeats
			var got []time.Duration
			for i, step := range tc.steps {
				got = append(got, r.pause(a, step, tc.due[i]))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("pauses (-want +got):\n%s", diff)
			}
			last := time.Duration(0)
			for range 500 {
				last = r.pause(a, tc.steps[0], tc.due[0])
			}
			if last != whileWaiting {
				t.Errorf("in the end every %s, want %s", last, whileWaiting)
			}
		})
	}
}
