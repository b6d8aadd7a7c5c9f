package status

import (
	"errors"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
)

// carriedBack has an EtcdRestore whose word stands.
func carriedBack(changes ...func(*plan.Recovery)) change {
	return func(o *plan.Observed) {
		o.Incarnation, o.Recovery = 1, &plan.Recovery{Backup: "nightly", Restore: "back", RestoreUID: "e7"}
		for _, change := range changes {
			change(o.Recovery)
		}
	}
}

func stopped(o *plan.Observed) {
	down(3)(o)
	for i := range o.Members {
		o.Members[i].Pod = plan.PodAbsent
	}
}

func begun(r *plan.Recovery)   { r.Begun = true }
func blocked(r *plan.Recovery) { r.Blocked = "the backup is gone — why — what to do" }
func late(r *plan.Recovery)    { r.Late = "the safety backup is old" }

// TestRestoreStatus: which EtcdRestore members are stopped for stands there as long as that
// is so, and no longer.
func TestRestoreStatus(t *testing.T) {
	at := metav1.Unix(1e9, 0)
	other := &v1alpha1.ClusterRestoreStatus{Name: "back", UID: "0ther", Begun: &at}
	latched := &v1alpha1.ClusterRestoreStatus{Name: "back", UID: "e7", Begun: &at}
	for name, tc := range map[string]struct {
		was   *v1alpha1.ClusterRestoreStatus
		seen  plan.Observed
		err   error
		none  bool
		begun bool
		says  string
		mute  bool
	}{
		"no restore":                        {seen: healthy(), none: true},
		"the last one was taken back":       {was: latched, seen: healthy(stopped), none: true},
		"it waits":                          {seen: healthy(carriedBack(late)), says: "is old"},
		"it is latched":                     {was: latched, seen: healthy(carriedBack()), begun: true, says: "stopped next"},
		"it could not be":                   {seen: healthy(carriedBack()), err: errors.New("no"), mute: true},
		"members are stopped":               {was: latched, seen: healthy(carriedBack(begun)), begun: true, says: "the volumes are kept"},
		"though it is paused":               {was: latched, seen: healthy(carriedBack(begun), paused), begun: true, says: "paused"},
		"the raise was refused":             {was: latched, seen: healthy(carriedBack(begun), stopped), err: errors.New("no"), begun: true},
		"the new incarnation has begun":     {was: latched, seen: healthy(carriedBack(begun), stopped), none: true},
		"the backup is gone in the middle":  {was: latched, seen: healthy(carriedBack(begun, blocked), stopped), says: "is gone"},
		"another one of its name had begun": {was: other, seen: healthy(carriedBack(late)), says: "is old"},
	} {
		t.Run(name, func(t *testing.T) {
			c := cluster()
			c.Status.Restore = tc.was.DeepCopy()
			pass(c, tc.seen, tc.err)
			got := c.Status.Restore
			if (got == nil) != tc.none {
				t.Fatalf("status.restore is %+v", got)
			}
			if got != nil && ((got.Begun != nil) != tc.begun || got.UID != "e7" || !strings.Contains(got.Message, tc.says)) {
				t.Errorf("status.restore is %+v, want begun %t, and %q", got, tc.begun, tc.says)
			}
			if tc.mute && got.Message != "" {
				t.Errorf("nothing is waited for, and it says %q", got.Message)
			}
		})
	}
}

// TestAStopIsNoLoss: while members are stopped for a restore nobody is told of a lost quorum
// and to bring volumes back.
func TestAStopIsNoLoss(t *testing.T) {
	for name, tc := range map[string]struct {
		seen  plan.Observed
		ready string
	}{
		"they are stopped":      {healthy(carriedBack(begun), down(3)), v1alpha1.ReasonRestoring},
		"they have stopped":     {healthy(carriedBack(begun), stopped), v1alpha1.ReasonRestoring},
		"they may run still":    {healthy(carriedBack(begun), stopped, func(o *plan.Observed) { elsewhere(o) }), v1alpha1.ReasonRestoreBlocked},
		"they are started anew": {healthy(carriedBack(begun, blocked), stopped), v1alpha1.ReasonQuorumLost},
	} {
		t.Run(name, func(t *testing.T) {
			c := cluster()
			pass(c, tc.seen, nil)
			ready, available := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReady), meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionAvailable)
			if ready.Reason != tc.ready || available.Status != metav1.ConditionFalse {
				t.Errorf("Ready is %s (%s), Available %s/%s", ready.Reason, ready.Message, available.Status, available.Reason)
			}
			if lost := available.Reason == v1alpha1.ReasonQuorumLost; lost != (tc.ready == v1alpha1.ReasonQuorumLost) {
				t.Errorf("Available is %s: %s", available.Reason, available.Message)
			}
		})
	}
}

func elsewhere(o *plan.Observed) {
	for i := range o.Members {
		o.Members[i].RunningElsewhere = true
	}
}

// TestAWordIsNotObeyedByARestore: whoever stops members for an EtcdRestore does not take a
// spec.recovery that was said meanwhile for begun.
func TestAWordIsNotObeyedByARestore(t *testing.T) {
	c := cluster()
	c.Status.Incarnation, c.Spec.Recovery = 1, &v1alpha1.RecoverySpec{Incarnation: 1, BackupName: "other"}
	pass(c, healthy(carriedBack(begun), down(3)), nil)
	if got := c.Status.ObeyedRecovery; got != "" {
		t.Errorf("obeyed is %q", got)
	}
}
