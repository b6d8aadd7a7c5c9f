package status

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
	if obeys(o) || c.Status.ObeyedRecovery == word {
		return word
	}
	return ""
}

// obeys says that the step is one of a recovery. So is it to wait for the end of members that
// somebody else has stopped: while a node is not heard of that may take longer than it counts
// that the backup was read, and to read it again would be to start them meanwhile. Members that
// an EtcdRestore has stopped were not stopped for spec.recovery.
func obeys(o Outcome) bool {
	ours := o.Seen.Recovery != nil && o.Seen.Recovery.Restore == ""
	waits := o.Step.Kind == plan.Wait && (o.Step.Reason == v1alpha1.ReasonRecovering || o.Step.Reason == v1alpha1.ReasonRecoveryBlocked)
	return ours && (o.Step.Kind == plan.StopIncarnation || waits)
}

// positions keeps how far each member had come when it told last, from the loss of the quorum
// until the cluster serves again: whoever is stopped tells nothing any more, and without it
// nobody would know which survivor to go on with. While a quorum answers they would change on
// every pass.
func positions(s *v1alpha1.EtcdClusterStatus, seen plan.Observed) {
	is := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionAvailable)
	lost := is != nil && is.Status == metav1.ConditionFalse && is.Reason == v1alpha1.ReasonQuorumLost
	for i := range s.Members {
		to := &s.Members[i]
		m, _ := seen.Member(to.Name)
		switch {
		case seen.ReadOK:
			to.Position = nil
		case lost && m.Answers && m.Position.Index > 0:
			to.Position = &v1alpha1.MemberPosition{
				Term: int64(m.Position.Term), Index: int64(m.Position.Index), Revision: m.Position.Revision, //nolint:gosec // they count from one
			}
		}
	}
}

// furthest names the survivor to go on with.
func furthest(seen plan.Observed) string {
	left := seen.Left()
	if inPods := seen.InPods(); len(inPods) > 0 {
		return fmt.Sprintf("; the data of %s is in memory, and goes with the pod: save it (etcdctl snapshot save) before anything else", list(inPods))
	}
	if len(left) == 0 {
		return ""
	}
	if left[0].Position.Index == 0 {
		return fmt.Sprintf("; the volume of %s can be gone on with, and how far it has come is not known", left[0].Name)
	}
	return fmt.Sprintf("; of those whose volumes are left %s has come furthest, to %s", left[0].Name, left[0].Position)
}

// copied tells what was found on the survivor's volume, which it could not tell itself: the
// last entries of its log it had not been told to be committed.
func copied(s *v1alpha1.EtcdClusterStatus, seen plan.Observed) {
	found := seen.Copied
	if found == nil || s.Recovery == nil || s.Recovery.Survivor == nil || s.Recovery.Incarnation != seen.Incarnation {
		return
	}
	of := s.Recovery.Survivor
	of.Term, of.Index, of.Revision = int64(found.Term), int64(found.Index), found.Revision //nolint:gosec // they count from one
	of.Uncommitted, of.Copied = int64(found.Uncommitted), true                             //nolint:gosec // it counts entries
}
