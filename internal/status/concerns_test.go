package status

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
)

// TestStorageReady: a volume that is lost or on its way out is told in the pass
// that sees it, while everything else may look well.
func TestStorageReady(t *testing.T) {
	volume := func(v plan.Volume) change { return func(o *plan.Observed) { o.Members[2].Volume = v } }
	slow := func(i int) change { return func(o *plan.Observed) { o.Members[i].SlowDisk = time.Second } }
	cases := map[string]struct {
		seen plan.Observed
		is   metav1.ConditionStatus
		says string
	}{
		"all are there":                  {healthy(), metav1.ConditionTrue, ""},
		"one is being deleted":           {healthy(volume(plan.VolumeTerminating)), metav1.ConditionFalse, "a-0002 (its volume is being deleted)"},
		"one is gone":                    {healthy(lostVolume), metav1.ConditionFalse, "a-0002 (its volume is gone)"},
		"one was refused":                {healthy(down(1), volume(plan.VolumeRefused)), metav1.ConditionFalse, "its data was refused"},
		"one is made for the joiner":     {healthy(sized(5), joining), metav1.ConditionTrue, ""},
		"two are gone, and nobody asked": {healthy(twoVolumesLost), metav1.ConditionFalse, "a-0001"},
		"one is gone beside a quorum":    {healthy(lostVolume), metav1.ConditionFalse, "each is replaced as soon as"},
		"the quorum is gone with two":    {healthy(twoVolumesLost), metav1.ConditionFalse, "too few volumes are left — bring a volume back"},
		"one is gone, one only down":     {healthy(lostVolume, readFails), metav1.ConditionFalse, "nobody is replaced until the others are proven to be a quorum"},
		"what a removed member has left": {healthy(removed), metav1.ConditionTrue, ""},
		"a disk is slow":                 {healthy(slow(1)), metav1.ConditionFalse, "a-0001 1s or longer"},
		"a disk is slow, a volume gone":  {healthy(slow(1), lostVolume), metav1.ConditionFalse, "its volume is gone"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := cluster()
			pass(c, tc.seen, nil)
			got := conditionOf(t, c, v1alpha1.ConditionStorageReady)
			if got.Status != tc.is || !strings.Contains(got.Message, tc.says) {
				t.Errorf("StorageReady is %s: %s; want %s with %q", got.Status, got.Message, tc.is, tc.says)
			}
		})
	}
	c := cluster()
	pass(c, healthy(unfounded), nil)
	if is := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionStorageReady); is != nil {
		t.Errorf("StorageReady before there are volumes: %+v", is)
	}
}

// TestKnownDefect: the version that is the lowest counts, and a condition that no
// longer holds goes away.
func TestKnownDefect(t *testing.T) {
	for version, defect := range map[string]bool{
		"3.5.27": true, "3.5.28": false, "3.5.35": false, "3.6.5": true, "3.6.8": true, "3.6.9": false, "3.6.16": false, "3.7.0": false, "3.7.3": false, "": false,
	} {
		c := cluster()
		c.Status.Version = version
		pass(c, healthy(func(o *plan.Observed) {
			for i := range o.Members {
				o.Members[i].Version = version
			}
		}), nil)
		is := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionKnownDefect)
		if (is != nil) != defect {
			t.Errorf("KnownDefect of %q is %+v, want it: %v", version, is, defect)
		}
		if is != nil && strings.Count(is.Message, " — ") != 2 {
			t.Errorf("the message is not what, why and what to do: %s", is.Message)
		}
		pass(c, healthy(), nil)
		if meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionKnownDefect) != nil {
			t.Errorf("KnownDefect of %q stays after the upgrade", version)
		}
	}
}
