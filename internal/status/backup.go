package status

import (
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
)

// backupReady is nil when nobody looked for backups.
func backupReady(seen plan.Observed) *metav1.Condition {
	if seen.Backups == nil {
		return nil
	}
	is := condition(v1alpha1.ConditionBackupReady, metav1.ConditionFalse, seen.Backups.Reason, seen.Backups.Message)
	if seen.Backups.Ready {
		is.Status = metav1.ConditionTrue
	}
	return &is
}

// backupStatus is nil while no backup is good.
func backupStatus(seen plan.Observed) *v1alpha1.ClusterBackupStatus {
	if seen.Backups == nil || seen.Backups.LastSuccess.Name == "" {
		return nil
	}
	last, verified := seen.Backups.LastSuccess, seen.Backups.LastVerified
	return &v1alpha1.ClusterBackupStatus{
		LastSuccess: last.Name, LastSuccessTime: timeOf(last.Began), Revision: last.Revision,
		Size:         resource.NewQuantity(last.Size, resource.BinarySI),
		LastVerified: verified.Name, LastVerifiedTime: timeOf(verified.Began),
	}
}

func timeOf(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	at := metav1.NewTime(t.Truncate(time.Second))
	return &at
}
