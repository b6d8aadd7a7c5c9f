package observe

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/internal/snapshot"
)

// survivorGone is why an incarnation that begins with a survivor's volume cannot begin yet.
func (o *Observer) survivorGone(ctx context.Context, c *v1alpha1.EtcdCluster, s resources.Survivor) (*plan.Point, []plan.Problem, error) {
	claim := &corev1.PersistentVolumeClaim{}
	err := o.Live.Get(ctx, client.ObjectKey{Namespace: c.Namespace, Name: resources.ClaimName(s.Member)}, claim)
	if apierrors.IsNotFound(err) {
		claim = nil
	} else if err != nil {
		return nil, nil, fmt.Errorf("reading claim %s: %w", resources.ClaimName(s.Member), err)
	}
	blocked := resources.SurvivorBlocked(c, s, claim)
	if blocked == "" {
		return nil, nil, nil
	}
	return nil, []plan.Problem{{Reason: v1alpha1.ReasonRestoreBlocked, Message: blocked, Severity: plan.Stalling}}, nil
}

// copied is what a founder's pod says that its volume was filled with.
func (k *kubernetes) copied() *plan.Copied {
	for i := range k.pods {
		pod := &k.pods[i]
		ended := resources.EndedFiller(pod)
		if ended == nil || !resources.MountsSurvivor(pod) {
			continue
		}
		result, err := snapshot.ParseResult(ended.Message)
		if err != nil || result.Outcome != snapshot.OutcomeSucceeded || result.Survivor == nil {
			continue
		}
		s := result.Survivor
		return &plan.Copied{
			Position:    plan.Position{Term: s.Term, Index: s.Index, Revision: s.Revision},
			Uncommitted: s.Uncommitted,
		}
	}
	return nil
}

// recallPositions are how far the members had come that do not answer any more, as status
// tells it since the quorum is lost, and who of them was a learner.
func recallPositions(c *v1alpha1.EtcdCluster, seen *plan.Observed) {
	for i := range seen.Members {
		m := &seen.Members[i]
		if m.Answers {
			m.Position = plan.Position{Term: m.Term, Index: m.Applied, Revision: m.Revision}
		}
		for _, was := range c.Status.Members {
			if was.Name != m.Name {
				continue
			}
			m.WasLearner = was.Role == v1alpha1.RoleLearner && !m.Voter()
			if p := was.Position; p != nil && m.Position.Index == 0 {
				m.Position = plan.Position{Term: uint64(p.Term), Index: uint64(p.Index), Revision: p.Revision} //nolint:gosec // they were such
			}
		}
	}
}
