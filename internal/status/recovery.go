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

// obeyedRecovery keeps the word of spec.recovery for which members were stopped, until it
// is taken back, is void or is spent, or they are started again because it cannot be done.
func obeyedRecovery(c *v1alpha1.EtcdCluster, o Outcome) string {
	word, r := resources.RecoveryWord(c), c.Spec.Recovery
	if r == nil || r.Incarnation != c.Status.Incarnation || c.Status.VoidRecovery == word || o.Seen.RecoveryHeld() != "" {
		return ""
	}
	// Members that an EtcdRestore has stopped were not stopped for it.
	others := o.Seen.Recovery != nil && o.Seen.Recovery.Restore != ""
	if (o.Step.Kind == plan.StopIncarnation && !others) || c.Status.ObeyedRecovery == word {
		return word
	}
	return ""
}
