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
