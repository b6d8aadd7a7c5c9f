package backup

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/snapshot"
)

// silent are the reasons that say nothing of the archive: no drill took place, or it could
// not read, or ask, or was ended. For any other nobody may rely on the archive.
var silent = map[string]bool{
	v1alpha1.ReasonPending: true, v1alpha1.ReasonNotTried: true, v1alpha1.ReasonNameConflict: true,
	string(snapshot.ReasonInterrupted):        true,
	string(snapshot.ReasonAccessDenied):       true,
	string(snapshot.ReasonCredentialsMissing): true,
	string(snapshot.ReasonCredentialsExpired): true,
	string(snapshot.ReasonStoreUnreachable):   true,
	string(snapshot.ReasonStoreUntrusted):     true,
	string(snapshot.ReasonNoSpace):            true,
	string(snapshot.ReasonEtcdUnreachable):    true,
	string(snapshot.ReasonEtcdDenied):         true,
	string(snapshot.ReasonCompacted):          true,
}

// condemned says that a drill found that the archive cannot be restored, or ended without
// telling why it was not.
func condemned(verified *metav1.Condition) bool {
	return verified != nil && verified.Status == metav1.ConditionFalse && !silent[verified.Reason]
}

// moved says that what is archived now is not what the last drill was of. While no cluster
// is seen that is not known.
func moved(o ArchiveObserved) bool {
	return o.DrillOf != "" && !o.LastDrill.IsZero() && o.DrilledOf != o.DrillOf
}
