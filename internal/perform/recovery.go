package perform

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// stopIncarnation deletes the pods of members whose incarnation is given up, on the word
// that the spec still has.
func (p *Performer) stopIncarnation(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, names []string) error {
	if err := p.unchanged(ctx, c); err != nil {
		return err
	}
	return each(names, func(name string) error {
		pod, err := p.ownPod(ctx, c, name)
		if err != nil || pod == nil || !pod.DeletionTimestamp.IsZero() {
			return err
		}
		if m, _ := seen.Member(name); string(pod.UID) != m.PodUID {
			return fmt.Errorf("stopping %s, which has another pod by now: %w", name, ErrStale)
		}
		return p.delete(ctx, pod)
	})
}

// raiseIncarnation begins a new incarnation by one write of status: its founders bear names
// that nothing has ever borne. Before, the API server is asked whether really nothing of the
// old one runs.
func (p *Performer) raiseIncarnation(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed) error {
	if err := p.unchanged(ctx, c); err != nil {
		return err
	}
	var claims corev1.PersistentVolumeClaimList
	var pods corev1.PodList
	if err := p.Live.List(ctx, &claims, client.InNamespace(c.Namespace)); err != nil {
		return fmt.Errorf("listing claims: %w", err)
	}
	if err := p.Live.List(ctx, &pods, client.InNamespace(c.Namespace)); err != nil {
		return fmt.Errorf("listing pods: %w", err)
	}
	next := int(c.Status.NextOrdinal)
	for i := range pods.Items {
		pod := &pods.Items[i]
		if _, ours := resources.Ordinal(c.Name, pod.Name); ours && pod.Labels[v1alpha1.LabelClusterUID] == resources.ClusterUID(c) {
			return fmt.Errorf("beginning a new incarnation beside pod %s: %w", pod.Name, ErrStale)
		}
		next = max(next, after(c, pod.Name))
	}
	last := map[string]string{}
	for i := range claims.Items {
		name := resources.MemberOfClaim(claims.Items[i].Name)
		next, last[name] = max(next, after(c, name)), claims.Items[i].Annotations[v1alpha1.AnnotationNode]
	}
	stopped := 0
	for _, m := range seen.Members {
		if next = max(next, after(c, m.Name)); !m.Joiner && !m.RunningElsewhere && p.nobodyRuns(ctx, m.Name, last[m.Name]) == nil {
			stopped++
		}
	}
	if stopped < plan.Majority(seen.KnownVoters()) {
		return fmt.Errorf("beginning a new incarnation while members of the old one may run: %w", ErrStale)
	}
	begin(c, seen, next, metav1.NewTime(p.ServerTime.Or(p.Clock.Now())))
	return nil
}

// begin writes the new incarnation into status.
func begin(c *v1alpha1.EtcdCluster, seen plan.Observed, next int, now metav1.Time) {
	s := &c.Status
	s.Recovery = &v1alpha1.RecoveryStatus{
		Incarnation: seen.Incarnation + 1, BackupName: seen.Recovery.Backup, Time: now.Rfc3339Copy(), GivenUp: givenUp(seen),
	}
	s.Incarnation, s.ClusterID, s.Joiner, s.FounderVolumes, s.OldEntries, s.Founders = seen.Incarnation+1, "", "", nil, 0, nil
	for i := range int(c.Spec.Size) {
		s.Founders = append(s.Founders, resources.MemberName(c.Name, next+i))
	}
	s.NextOrdinal = int32(next) + c.Spec.Size //nolint:gosec // four digits or a few more
}

// after is the ordinal that follows a name's; zero for a name of nobody's.
func after(c *v1alpha1.EtcdCluster, name string) int {
	if n, ok := resources.Ordinal(c.Name, name); ok {
		return n + 1
	}
	return 0
}

// givenUp says what is known of the members that are given up.
func givenUp(seen plan.Observed) string {
	var out []string
	for _, m := range seen.Members {
		state := "its volume is kept"
		if m.Volume != plan.VolumeBound {
			state = m.VolumeTrouble()
		}
		out = append(out, fmt.Sprintf("%s (%s)", m.Name, state))
	}
	return fmt.Sprintf("incarnation %d: %s", seen.Incarnation, strings.Join(out, ", "))
}
