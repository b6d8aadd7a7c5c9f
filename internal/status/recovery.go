package status

import (
	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// voidRecovery keeps the word of spec.recovery under which the cluster has served, for as
// long as it stands there: said for one loss of the quorum it does not answer the next.
func voidRecovery(c *v1alpha1.EtcdCluster, seen plan.Observed) string {
	word := resources.RecoveryWord(c)
	served := seen.ReadOK && c.Spec.Recovery != nil && c.Spec.Recovery.Incarnation == seen.Incarnation
	if served || c.Status.VoidRecovery == word {
		return word
	}
	return ""
}
