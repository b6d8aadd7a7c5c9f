package status

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
)

func raised(kind string) change {
	return func(o *plan.Observed) {
		o.Raised = append(o.Raised, plan.Alarm{Kind: kind, ID: o.Members[1].ID})
		o.Alarms = []string{kind + " on member 2"}
	}
}

// allHave databases of so many MiB, with so many in use, and a quota of 100.
func allHave(size, inUse int64) change {
	return func(o *plan.Observed) {
		for i := range o.Members {
			m := &o.Members[i]
			m.DBSize, m.DBSizeInUse, m.Quota, m.Steady = size<<20, inUse<<20, 100<<20, true
		}
	}
}

// triedInVain: each has been defragmented.
func triedInVain(o *plan.Observed) {
	for i := range o.Members {
		o.Members[i].Defragmented = true
	}
}

func standsStill(o *plan.Observed) {
	o.Chore = plan.Chore{Kind: plan.Defragment, Member: "a-0002"}
}
func compareDue(o *plan.Observed) { o.CompareDue = true }
func held(o *plan.Observed)       { o.DefragmentHeld = "a-0002 was not defragmented" }
func once(o *plan.Observed)       { o.Comparison.Twice = false }

// differ from the others: the members of these numbers, from 1.
func differ(numbers ...int) change {
	return func(o *plan.Observed) {
		o.Comparison = plan.Comparison{Revision: 7, Twice: true}
		for i := range o.Members {
			m := &o.Members[i]
			m.Steady = true
			o.Comparison.Agree = append(o.Comparison.Agree, m.ID)
		}
		for _, n := range numbers {
			id := o.Members[n-1].ID
			o.Comparison.Differ = append(o.Comparison.Differ, id)
			o.Comparison.Agree = without(o.Comparison.Agree, id)
		}
	}
}

func without(ids []uint64, id uint64) (out []uint64) {
	for _, other := range ids {
		if other != id {
			out = append(out, other)
		}
	}
	return out
}

// TestDataConsistent: what was found stays until something else is.
func TestDataConsistent(t *testing.T) {
	c := cluster()
	steps := []struct {
		what string
		seen plan.Observed
		want metav1.ConditionStatus
	}{
		{"nothing was compared", healthy(), ""},
		{"one of them could not be", healthy(differ(), func(o *plan.Observed) { o.Comparison.Agree = o.Comparison.Agree[1:] }), ""},
		{"all are equal", healthy(differ()), metav1.ConditionTrue},
		{"a new operator knows nothing", healthy(), metav1.ConditionTrue},
		{"one differs", healthy(differ(2)), metav1.ConditionFalse},
		{"it was given up", healthy(func(o *plan.Observed) { o.Members[1].Volume = plan.VolumeRefused }), metav1.ConditionFalse},
		{"a new operator still knows nothing", healthy(), metav1.ConditionFalse},
		{"all are equal again", healthy(differ()), metav1.ConditionTrue},
		{"a member is down whose data was refused", healthy(lostVolume, func(o *plan.Observed) { o.Members[2].Volume = plan.VolumeRefused }), metav1.ConditionTrue},
		{"etcd doubts it", healthy(differ(), raised("CORRUPT")), metav1.ConditionFalse},
	}
	for _, step := range steps {
		pass(c, step.seen, nil)
		is := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionDataConsistent)
		switch {
		case is == nil && step.want != "":
			t.Errorf("%s: there is no condition", step.what)
		case is != nil && is.Status != step.want:
			t.Errorf("%s: %s, %s", step.what, is.Status, is.Message)
		}
	}
}

// TestAFailedDefragmentationIsTold, once, and not for ever.
func TestAFailedDefragmentationIsTold(t *testing.T) {
	c := cluster()
	before := c.Status.DeepCopy()
	outcome := pass(c, healthy(held), nil)
	is := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionDefragmentationFailed)
	if is == nil || is.Status != metav1.ConditionTrue || !strings.Contains(is.Message, "a-0002") {
		t.Fatalf("%+v", is)
	}
	told := 0
	for _, e := range Events(*before, c.Status, outcome, StatusWritten) {
		if e.Reason == v1alpha1.ReasonDefragmentFailed && e.Type == "Warning" {
			told++
		}
	}
	if told != 1 {
		t.Errorf("told %d times", told)
	}
	if pass(c, healthy(), nil); meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionDefragmentationFailed) != nil {
		t.Error("it is told for ever")
	}
}
