package status

import (
	"cmp"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
)

// restoreStatus tells of the EtcdRestore that is carried out, or would be. Members may have
// been stopped for the one that has begun, so that stands there as long as its word does.
func restoreStatus(was *v1alpha1.ClusterRestoreStatus, o Outcome) *v1alpha1.ClusterRestoreStatus {
	r := o.Seen.Recovery
	if r == nil || r.Restore == "" || (o.Step.Kind == plan.RaiseIncarnation && o.Err == nil) {
		return nil
	}
	held := o.Seen.RestoreHeld()
	is := &v1alpha1.ClusterRestoreStatus{Name: r.Restore, UID: r.RestoreUID}
	latched := o.Step.Kind == plan.LatchRestore && o.Err == nil
	if was != nil && was.UID == r.RestoreUID && (latched || (r.Begun && r.Blocked == "")) {
		is.Begun = was.Begun
	}
	if is.Begun != nil {
		held = cmp.Or(held, o.Step.Message) // before, a step may be about anything else
	}
	is.Message = short(held)
	return is
}

// restoring says that the cluster does not serve because an EtcdRestore is carried out.
func restoring(seen plan.Observed) bool {
	return seen.Recovery != nil && seen.Recovery.Restore != "" && seen.Recovery.Begun && seen.Recovery.Blocked == ""
}

func stoppedFor(seen plan.Observed) metav1.Condition {
	return condition(v1alpha1.ConditionAvailable, metav1.ConditionFalse, v1alpha1.ReasonRestoring, fmt.Sprintf(
		"the cluster is carried back to backup %s by %s: its members are stopped, and their volumes are kept — nothing can be read or written until the new incarnation serves — to take it back delete %s before that has begun",
		seen.Recovery.Backup, seen.Recovery.Word(), seen.Recovery.Word()))
}
