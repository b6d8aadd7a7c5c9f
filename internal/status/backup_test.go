package status

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
)

// TestBackupReady: what is known of the backups is told and, when they begin to fail,
// an event calls for the user, once.
func TestBackupReady(t *testing.T) {
	with := func(b *plan.Backups) plan.Observed { return healthy(func(o *plan.Observed) { o.Backups = b }) }
	began := time.Date(2026, 1, 1, 3, 0, 0, 7, time.UTC)
	verified := plan.Backup{Name: "b", Began: began, Revision: 7, Size: 4096}
	good := &plan.Backups{Ready: true, Reason: v1alpha1.ReasonVerified, Message: "all is well", LastSuccess: verified, LastVerified: verified}
	failing := &plan.Backups{Reason: v1alpha1.ReasonFailing, Message: "backup c failed", LastSuccess: verified, LastVerified: verified}
	none := &plan.Backups{Reason: v1alpha1.ReasonNoBackups, Message: "none"}

	c := cluster()
	pass(c, with(nil), nil)
	if meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionBackupReady) != nil || c.Status.Backup != nil {
		t.Errorf("nobody looked, and status has %+v", c.Status.Backup)
	}
	for _, step := range []struct {
		backups *plan.Backups
		is      metav1.ConditionStatus
		warns   bool
	}{{none, metav1.ConditionFalse, false}, {good, metav1.ConditionTrue, false}, {failing, metav1.ConditionFalse, true}, {failing, metav1.ConditionFalse, false}, {good, metav1.ConditionTrue, false}} {
		before := c.Status.DeepCopy()
		pass(c, with(step.backups), nil)
		is := conditionOf(t, c, v1alpha1.ConditionBackupReady)
		if is.Status != step.is || is.Reason != step.backups.Reason || is.Message != step.backups.Message {
			t.Errorf("BackupReady is %+v, want %s %s", is, step.is, step.backups.Reason)
		}
		warned := false
		for _, e := range Events(*before, c.Status, Outcome{Seen: with(step.backups), Step: plan.Step{Kind: plan.Settled}}, StatusWritten) {
			warned = warned || (e.Type == corev1.EventTypeWarning && e.Reason == step.backups.Reason)
		}
		if warned != step.warns {
			t.Errorf("%s: warned %v, want %v", step.backups.Reason, warned, step.warns)
		}
	}
	if b := c.Status.Backup; b.LastSuccess != "b" || b.LastVerified != "b" || b.Revision != 7 || b.Size.Value() != 4096 || !b.LastSuccessTime.Equal(&metav1.Time{Time: began.Truncate(time.Second)}) {
		t.Errorf("status.backup is %+v", b)
	}
	if !meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.ConditionReady) {
		t.Error("a cluster is Ready or not whatever its backups are")
	}
	pass(c, with(none), nil)
	if c.Status.Backup != nil {
		t.Errorf("no backup is left, and status has %+v", c.Status.Backup)
	}
}
