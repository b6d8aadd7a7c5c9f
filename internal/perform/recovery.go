package perform

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// stopIncarnation deletes the pods of members whose incarnation is given up, on the word
// that still stands.
func (p *Performer) stopIncarnation(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, names []string) error {
	if err := p.wordStands(ctx, c, seen); err != nil {
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
	if err := p.wordStands(ctx, c, seen); err != nil {
		return err
	}
	if err := p.backupStands(ctx, c, seen.Recovery); err != nil {
		return err
	}
	claims, pods, err := p.neighbours(ctx, c)
	if err != nil {
		return err
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
	stopped := map[string]bool{}
	for _, m := range seen.Members {
		next = max(next, after(c, m.Name))
		if stopped[m.Name], err = p.hasStopped(ctx, m, last); err != nil {
			return err
		}
	}
	if !seen.Over(func(m plan.Member) bool { return stopped[m.Name] }) {
		return fmt.Errorf("beginning a new incarnation while members of the old one may run: %w", ErrStale)
	}
	with, err := p.survivor(ctx, c, seen, last)
	if err != nil {
		return err
	}
	begin(c, seen, with, next, metav1.NewTime(p.ServerTime.Or(p.Clock.Now())))
	return nil
}

// survivor is whose volume the new incarnation begins with; nil if it begins with a backup.
// It runs nowhere, and its claim is the one that was seen, as the API server has both now.
func (p *Performer) survivor(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, last map[string]string) (*v1alpha1.SurvivorStatus, error) {
	name := seen.Recovery.Survivor
	if name == "" {
		return nil, nil
	}
	m, found := seen.Member(name)
	stops, err := p.hasStopped(ctx, m, last)
	if err != nil {
		return nil, err
	}
	if !found || !stops {
		return nil, fmt.Errorf("beginning a new incarnation with the volume of %s, which may run: %w", name, ErrStale)
	}
	claim, err := p.ownClaim(ctx, c, name)
	if err != nil {
		return nil, err
	}
	s := &v1alpha1.SurvivorStatus{
		Name: name, VolumeUID: string(claim.UID), Incarnation: seen.Incarnation,
		Term: int64(m.Position.Term), Index: int64(m.Position.Index), Revision: m.Position.Revision, //nolint:gosec // they count from one
	}
	refused := claim.Annotations[v1alpha1.AnnotationRefused] != "" || resources.Quarantined(claim)
	if blocked := resources.SurvivorBlocked(c, resources.Survivor{Member: name, VolumeUID: s.VolumeUID}, claim); blocked != "" || refused {
		return nil, fmt.Errorf("beginning a new incarnation with the volume of %s, which is not as it was seen: %s: %w", name, blocked, ErrStale)
	}
	return s, nil
}

// backupStands says that the EtcdBackup which goes on record is the one that was judged: one
// that was made anew under the name since may be of anything.
func (p *Performer) backupStands(ctx context.Context, c *v1alpha1.EtcdCluster, r *plan.Recovery) error {
	if r == nil {
		return fmt.Errorf("beginning a new incarnation that nobody wants: %w", ErrStale)
	}
	if r.Survivor != "" {
		return nil
	}
	b := &v1alpha1.EtcdBackup{}
	err := p.Live.Get(ctx, client.ObjectKey{Namespace: c.Namespace, Name: r.Backup}, b)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("reading EtcdBackup %s: %w", r.Backup, err)
	}
	if err != nil || !b.DeletionTimestamp.IsZero() || b.Status.ID != r.BackupID || b.Status.ClusterUID != r.BackupClusterUID {
		return fmt.Errorf("beginning a new incarnation with EtcdBackup %s, which is another one now: %w", r.Backup, ErrStale)
	}
	return nil
}

// hasStopped says that a member without a pod runs nowhere, as the API server shows the nodes
// now: a cache may not have heard yet that one of them is lost. Claims name the last nodes
// of their members; where a claim is gone, any node may be it.
func (p *Performer) hasStopped(ctx context.Context, m plan.Member, last map[string]string) (bool, error) {
	if m.Joiner || m.RunningElsewhere {
		return false, nil
	}
	if node, named := last[m.Name]; named || p.Nodes == nil {
		err := p.nobodyRuns(ctx, m.Name, node)
		if Stale(err) {
			return false, nil
		}
		return err == nil, err
	}
	var nodes corev1.NodeList
	if err := p.Nodes.List(ctx, &nodes); err != nil {
		return false, fmt.Errorf("listing nodes: %w", err)
	}
	lost := slices.ContainsFunc(nodes.Items, func(n corev1.Node) bool {
		ready, _ := resources.NodeReady(&n)
		return !ready && !resources.NodeFenced(&n)
	})
	return !lost, nil
}

// begin writes the new incarnation into status.
func begin(c *v1alpha1.EtcdCluster, seen plan.Observed, with *v1alpha1.SurvivorStatus, next int, now metav1.Time) {
	s, r := &c.Status, seen.Recovery
	s.RevisionFloor = resources.NextFloor(c, now.Time)
	s.Recovery = &v1alpha1.RecoveryStatus{
		Incarnation: seen.Incarnation + 1, BackupName: r.Backup, BackupID: r.BackupID, BackupClusterUID: r.BackupClusterUID, Survivor: with,
		RestoreName: r.Restore, RestoreUID: r.RestoreUID, Time: now.Rfc3339Copy(), GivenUp: givenUp(seen), PossibleLoss: possibleLoss(c, seen),
	}
	s.Incarnation, s.ClusterID, s.Joiner, s.FounderVolumes, s.Founders = seen.Incarnation+1, "", "", nil, nil
	// What was on record about the members' logs, releases and URLs went with them.
	s.OldEntries, s.Downgrade, s.PlaintextPeers = 0, "", !resources.TLS(c)
	size := int(c.Spec.Size)
	if with != nil {
		// A copy names its only member. Two that each went on from it would be two clusters; the
		// others join as learners.
		size = 1
	}
	for i := range size {
		s.Founders = append(s.Founders, resources.MemberName(c.Name, next+i))
	}
	s.NextOrdinal = int32(next + size) //nolint:gosec // four digits or a few more
}

// after is the ordinal that follows a name's; zero for a name of nobody's.
func after(c *v1alpha1.EtcdCluster, name string) int {
	if n, ok := resources.Ordinal(c.Name, name); ok {
		return n + 1
	}
	return 0
}

// givenUpLimit and lossLimit are how much of them status takes.
const givenUpLimit, lossLimit = 2048, 2048

// possibleLoss keeps what was told of an incarnation that has never served: how far the members had
// come that went with it is on record nowhere else.
func possibleLoss(c *v1alpha1.EtcdCluster, seen plan.Observed) string {
	loss := seen.PossibleLoss()
	if before := c.Status.Recovery; before != nil && before.Incarnation == seen.Incarnation && c.Status.ClusterID == "" && before.PossibleLoss != "" {
		loss = fmt.Sprintf("%s; before that, %s", loss, before.PossibleLoss)
	}
	return fits(loss, lossLimit)
}

// fits cuts off what is longer than the API takes: it would keep the incarnation from beginning at
// all.
func fits(told string, limit int) string {
	return strings.ToValidUTF8(told[:min(len(told), limit)], "")
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
	return fits(fmt.Sprintf("incarnation %d: %s", seen.Incarnation, strings.Join(out, ", ")), givenUpLimit)
}
