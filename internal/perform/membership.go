package perform

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/member"
	"github.com/quorate/quorate/internal/pki"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// ErrNotYet means that etcd may take the change later: a voter connected less
// than five seconds ago, or the learner has not caught up; or that nobody knows
// whether it took it. Look again before anything else.
var ErrNotYet = errors.New("etcd does not take the change yet")

// changeMembership carries out the steps that say who is a member. Each of them
// reads the cluster again first: an operator that was held up since it looked
// must not act on a spec of yesterday, nor on a cluster that is paused.
func (p *Performer) changeMembership(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, step plan.Step) error {
	if err := p.unchanged(ctx, c); err != nil {
		return err
	}
	switch step.Kind {
	case plan.AllotMember:
		return p.allotMember(ctx, c, seen)
	case plan.DropJoiner:
		return p.dropJoiner(ctx, c, seen, step.Members)
	case plan.HoldMembers:
		return each(step.Members, func(name string) error { return p.holdMember(ctx, c, seen, name) })
	case plan.AddLearner:
		return p.addLearner(ctx, c, seen, step.Members[0])
	case plan.ReleaseMembers:
		return each(step.Members, func(name string) error { return p.releaseMember(ctx, c, seen, name) })
	case plan.Promote, plan.MoveLeader:
		return p.changeVoters(ctx, c, seen, step)
	case plan.UpdateMember:
		return p.updateMember(ctx, c, seen, step)
	case plan.RemoveMember:
		return p.removeMember(ctx, c, seen, step)
	case plan.RestartMember:
		return p.restartMember(ctx, c, seen, step)
	case plan.ExpandVolumes:
		return each(step.Members, func(name string) error { return p.expandVolume(ctx, c, name) })
	case plan.ResizePod:
		return each(step.Members, func(name string) error { return p.resizePod(ctx, c, seen, name) })
	case plan.LatchDowngrade:
		c.Status.Downgrade = seen.DowngradeTo
		return nil
	case plan.EnableDowngrade, plan.CancelDowngrade:
		return p.downgrade(ctx, c, seen, step)
	case plan.StopMembers:
		return p.stopMembers(ctx, c, seen, step.Members)
	case plan.DiscardMembers:
		return each(step.Members, func(name string) error { return p.discardMember(ctx, c, seen, name) })
	case plan.DeleteVolumes:
		return p.retire(ctx, c, seen, step.Members, p.deleteLeft)
	case plan.QuarantineVolumes:
		return p.retire(ctx, c, seen, step.Members, p.quarantine)
	case plan.DeleteExpired:
		return each(step.Members, func(name string) error { return p.deleteExpired(ctx, c, name) })
	default:
		return p.maintain(ctx, c, seen, step)
	}
}

// unchanged says that the cluster is still the one that the step was decided for.
func (p *Performer) unchanged(ctx context.Context, c *v1alpha1.EtcdCluster) error {
	live := &v1alpha1.EtcdCluster{}
	if err := p.Live.Get(ctx, client.ObjectKeyFromObject(c), live); err != nil {
		if apierrors.IsNotFound(err) {
			return fmt.Errorf("cluster %s is gone: %w", c.Name, ErrStale)
		}
		return fmt.Errorf("reading the cluster again: %w", err)
	}
	same := live.UID == c.UID && live.Generation == c.Generation && live.DeletionTimestamp.IsZero() &&
		live.Status.Joiner == c.Status.Joiner && live.Status.NextOrdinal == c.Status.NextOrdinal && live.Status.ClusterID == c.Status.ClusterID &&
		live.Status.VoidRecovery == c.Status.VoidRecovery && live.Status.ObeyedRecovery == c.Status.ObeyedRecovery &&
		live.Status.Incarnation == c.Status.Incarnation && begunFor(live) == begunFor(c)
	if !same {
		return fmt.Errorf("cluster %s was edited: %w", c.Name, ErrStale)
	}
	return nil
}

// begunFor is the UID of the EtcdRestore that members may have been stopped for; empty for
// none. Who does not know of it yet would start them again.
func begunFor(c *v1alpha1.EtcdCluster) string {
	if r := c.Status.Restore; r != nil && r.Begun != nil {
		return r.UID
	}
	return ""
}

// neighbours are all claims and pods of the cluster's namespace, whoever owns them.
func (p *Performer) neighbours(ctx context.Context, c *v1alpha1.EtcdCluster) (claims corev1.PersistentVolumeClaimList, pods corev1.PodList, err error) {
	if err := p.Live.List(ctx, &claims, client.InNamespace(c.Namespace)); err != nil {
		return claims, pods, fmt.Errorf("listing claims: %w", err)
	}
	if err := p.Live.List(ctx, &pods, client.InNamespace(c.Namespace)); err != nil {
		return claims, pods, fmt.Errorf("listing pods: %w", err)
	}
	return claims, pods, nil
}

// allotMember takes the lowest number that was never given to a member and that
// no claim, no pod and no entry of etcd's list bears, whoever owns it.
func (p *Performer) allotMember(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed) error {
	if c.Status.Joiner != "" {
		return fmt.Errorf("allotting a name beside %s: %w", c.Status.Joiner, ErrStale)
	}
	claims, pods, err := p.neighbours(ctx, c)
	if err != nil {
		return err
	}
	next := int(c.Status.NextOrdinal)
	taken := func(name string) {
		if n, ok := resources.Ordinal(c.Name, name); ok {
			next = max(next, n+1)
		}
	}
	for _, m := range seen.Members {
		taken(m.Name)
	}
	for _, claim := range claims.Items {
		taken(resources.MemberOfClaim(claim.Name))
	}
	for _, pod := range pods.Items {
		taken(pod.Name)
	}
	c.Status.Joiner = resources.MemberName(c.Name, next)
	c.Status.NextOrdinal = int32(next) + 1 //nolint:gosec // four digits or a few more
	return nil
}

// dropJoiner gives the joiner's name up. Status is written last: a crash before
// that does it again.
func (p *Performer) dropJoiner(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, members []string) error {
	name := c.Status.Joiner
	if !slices.Contains(members, name) {
		return fmt.Errorf("dropping %s, and the joiner is %q: %w", members, name, ErrStale)
	}
	if m, _ := seen.Member(name); !m.Listed && m.Left() {
		// It has certificates at most, and nobody would find them afterwards.
		if err := p.deleteSecret(ctx, c, name); err != nil {
			return err
		}
	}
	c.Status.Joiner = ""
	return nil
}

// holdMember makes the pod of the joiner. The guard in it waits for the release.
func (p *Performer) holdMember(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, name string) error {
	if c.Status.Joiner != name {
		return fmt.Errorf("preparing %s, and the joiner is %q: %w", name, c.Status.Joiner, ErrStale)
	}
	start := resources.Start{Member: name, GuardImage: p.GuardImage, Orders: resources.Orders{
		Peers: append(peers(seen), name), URLs: urls(seen), State: member.ClusterStateExisting, Empty: resources.EmptyAllowed, Hold: true,
	}}
	if !memoryBacked(c, seen, name) {
		claim, err := p.ownClaim(ctx, c, name)
		if err != nil {
			return err
		}
		if claim.Annotations[v1alpha1.AnnotationMemberID] != "" {
			return fmt.Errorf("preparing %s, whose volume is a member's: %w", name, ErrStale)
		}
		start.VolumeUID = string(claim.UID)
	}
	return p.createPod(ctx, c, seen, start)
}

// addLearner adds the joiner to etcd and writes its ID where its data will be.
// Should the writing fail, the ID is found again in etcd's list. The joiner is
// looked at last: it may have joined and left since the step was decided, and
// etcd would take its name a second time.
func (p *Performer) addLearner(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, name string) error {
	leader, err := p.settled(ctx, c, seen)
	if err != nil {
		return err
	}
	volume, err := p.ownVolume(ctx, c, seen, name)
	if err != nil {
		return err
	}
	pod, err := p.ownPod(ctx, c, name)
	if err != nil {
		return err
	}
	held := pod != nil && pod.DeletionTimestamp.IsZero() && resources.Held(pod)
	if c.Status.Joiner != name || volume.GetAnnotations()[v1alpha1.AnnotationMemberID] != "" || !held {
		return fmt.Errorf("adding %s, which is not prepared any more: %w", name, ErrStale)
	}
	added, err := leader.AddLearner(ctx, resources.JoinURL(c, seen, name))
	if err != nil {
		return refusal(fmt.Errorf("adding %s: %w", name, err))
	}
	if err := p.annotate(ctx, volume, map[string]string{v1alpha1.AnnotationMemberID: hex(added.ID)}); err != nil {
		return err
	}
	c.Status.Joiner = ""
	return nil
}

// releaseMember lets a held member start, with the members that etcd lists.
func (p *Performer) releaseMember(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, name string) error {
	m, _ := seen.Member(name)
	volume, err := p.ownVolume(ctx, c, seen, name)
	if err != nil {
		return err
	}
	if volume.GetAnnotations()[v1alpha1.AnnotationMemberID] != hex(m.ID) || volume.GetAnnotations()[v1alpha1.AnnotationRefused] != "" {
		return fmt.Errorf("releasing %s, whose volume does not name member %x: %w", name, m.ID, ErrStale)
	}
	pod, err := p.ownPod(ctx, c, name)
	if err != nil {
		return err
	}
	if pod == nil || !pod.DeletionTimestamp.IsZero() || !resources.Held(pod) {
		return fmt.Errorf("releasing %s, which is not held: %w", name, ErrStale)
	}
	orders := resources.Orders{
		Peers: peers(seen), URLs: urls(seen), State: member.ClusterStateExisting, Empty: resources.EmptyAllowed, Hold: true, Release: m.ID,
	}
	if m.Started || volume.GetAnnotations()[v1alpha1.AnnotationBooted] != "" {
		orders.Empty = resources.EmptyForbidden
	}
	return p.annotate(ctx, pod, orders.Annotations(c))
}

// settled is a connection to the leader, once the members are known to be those
// that the step was decided for. An earlier change whose outcome nobody knows
// could still come to pass: a proposal through the same member, in the same term,
// comes after it, and the list that is read then holds it or never will. It must
// be the leader still: a follower passes a change on at its own pace, and a later
// proposal through somebody else could overtake it. The cluster is read once more
// after all that: an operator that is held up is as likely as not held up here.
func (p *Performer) settled(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed) (etcd.Conn, error) {
	leader, conn, err := p.reachLeader(c, seen)
	if err != nil {
		return nil, err
	}
	before, err := conn.Members(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the member list: %w: %w", ErrStale, err)
	}
	if err := p.propose(ctx, conn, seen); err != nil {
		return nil, fmt.Errorf("proposing before a change of the members: %w: %w", ErrStale, err)
	}
	list, err := conn.Members(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the member list: %w: %w", ErrStale, err)
	}
	answer, err := conn.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking who leads: %w: %w", ErrStale, err)
	}
	leads := answer.MemberID == leader.ID && answer.Leader == leader.ID && answer.Term == list.Term
	if answer.Downgrade != seen.Downgrade {
		return nil, fmt.Errorf("a downgrade of etcd has begun or ended: %w", ErrStale)
	}
	if list.Term != before.Term || list.MemberID != leader.ID || !leads || !sameMembers(seen, list) {
		return nil, fmt.Errorf("the members or the leader have changed: %w", ErrStale)
	}
	return conn, p.unchanged(ctx, c)
}

// propose has something go through raft's log. Where an alarm refuses all else, that is
// the listing of the alarms.
func (p *Performer) propose(ctx context.Context, conn etcd.Conn, seen plan.Observed) error {
	if len(seen.Raised) == 0 {
		return conn.Propose(ctx)
	}
	_, err := conn.Alarms(ctx)
	return err
}

// reachLeader is a connection to the member that led when it was looked.
func (p *Performer) reachLeader(c *v1alpha1.EtcdCluster, seen plan.Observed) (plan.Member, etcd.Conn, error) {
	leader, led := seen.Leader()
	if !led {
		return plan.Member{}, nil, fmt.Errorf("asking the leader, whom nobody can reach: %w", ErrStale)
	}
	conn, err := p.Etcd.Reach(client.ObjectKeyFromObject(c), c.UID, leader.Name)
	if err != nil {
		return plan.Member{}, nil, fmt.Errorf("asking the leader: %w: %w", ErrStale, err)
	}
	return leader, conn, nil
}

// sameMembers says that the list has exactly the members that were seen.
func sameMembers(seen plan.Observed, list etcd.Membership) bool {
	listed := 0
	for _, m := range seen.Members {
		if !m.Listed {
			continue
		}
		listed++
		same := slices.ContainsFunc(list.Members, func(l etcd.Member) bool { return l.ID == m.ID && l.Learner == m.Learner })
		if !same {
			return false
		}
	}
	return listed == len(list.Members) && list.ClusterID == seen.ClusterID && len(seen.ForeignMembers) == 0
}

// refusal sorts what etcd says to a change of the members. What is done already,
// or in the way, is looked at again; nothing is ever repeated blindly.
func refusal(err error) error {
	for _, later := range []error{
		etcd.ErrOutcomeUnknown, etcd.ErrUnhealthyCluster, etcd.ErrLearnerNotReady, etcd.ErrNotStarted, etcd.ErrUnreachable,
	} {
		if errors.Is(err, later) {
			return fmt.Errorf("%w: %w", ErrNotYet, err)
		}
	}
	for _, again := range []error{
		etcd.ErrPeerURLExists, etcd.ErrMemberNotFound, etcd.ErrTooManyLearners, etcd.ErrNotLearner, etcd.ErrNotLeader, etcd.ErrNoLeader,
		etcd.ErrDowngrading, etcd.ErrNoDowngrade,
	} {
		if errors.Is(err, again) {
			return fmt.Errorf("%w: %w", ErrStale, err)
		}
	}
	return err
}

// changeVoters promotes the learner, or hands the leadership over.
func (p *Performer) changeVoters(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, step plan.Step) error {
	leader, err := p.settled(ctx, c, seen)
	if err != nil {
		return err
	}
	if step.Kind == plan.MoveLeader {
		if err := leader.MoveLeader(ctx, step.ID); err != nil {
			return refusal(fmt.Errorf("handing the leadership to %x: %w", step.ID, err))
		}
		return nil
	}
	// Whoever has started may hold acknowledged writes: from here on an empty
	// directory must be forbidden, on the pod as on the volume.
	name := step.Members[0]
	pod, err := p.ownPod(ctx, c, name)
	if err != nil {
		return err
	}
	volume, err := p.ownVolume(ctx, c, seen, name)
	if err != nil {
		return err
	}
	if pod == nil || pod.Annotations[member.AnnotationMayBeEmpty] == string(resources.EmptyAllowed) ||
		volume.GetAnnotations()[v1alpha1.AnnotationMemberID] != hex(step.ID) {
		return fmt.Errorf("promoting %s, which may still start on an empty directory: %w", name, ErrStale)
	}
	// etcd asks how far a learner has come, and not whether it lives: one that has
	// just died would be a vote that nobody has. Where the others are no quorum
	// without it, it is asked once more.
	m, _ := seen.Member(name)
	if seen.Staying() < plan.Majority(seen.Voters()+1) && !p.answersNow(ctx, c, seen, m) {
		return fmt.Errorf("promoting %s, which does not answer any more: %w", name, ErrStale)
	}
	if err := leader.Promote(ctx, step.ID); err != nil {
		return refusal(fmt.Errorf("promoting %s (%x): %w", name, step.ID, err))
	}
	return nil
}

// removeMember removes one member by its ID, after the others have said once more
// that they are a quorum without it.
func (p *Performer) removeMember(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, step plan.Step) error {
	m, _ := seen.Member(step.Members[0])
	leader, err := p.settled(ctx, c, seen)
	if err != nil {
		return err
	}
	if m.Dead() && p.answersNow(ctx, c, seen, m) {
		return fmt.Errorf("removing %s, which has come back: %w", m.Name, ErrStale)
	}
	if !m.Learner {
		if err := p.sparesNow(ctx, c, seen, m, seen.Voters()-1); err != nil {
			return err
		}
	}
	if err := p.markLeaving(ctx, c, seen, m); err != nil {
		return err
	}
	if m.Left() {
		// Once it is removed nothing of it is found again, so nobody would ever
		// think of these.
		if err := p.deleteSecret(ctx, c, m.Name); err != nil {
			return err
		}
	}
	if err := leader.Remove(ctx, step.ID); err != nil && !errors.Is(err, etcd.ErrMemberNotFound) {
		return refusal(fmt.Errorf("removing %s (%x): %w", m.Name, step.ID, err))
	}
	return nil
}

// sparesNow asks every other voter, now, and refuses when those that follow a
// leader, and whose pods stay, are no majority of so many voters.
func (p *Performer) sparesNow(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, without plan.Member, voters int) error {
	healthy := 0
	for _, m := range seen.Members {
		if m.Name == without.Name || !m.Healthy() || !p.answersNow(ctx, c, seen, m) {
			continue
		}
		pod, err := p.ownPod(ctx, c, m.Name)
		if err != nil {
			return err
		}
		if pod != nil && pod.DeletionTimestamp.IsZero() {
			healthy++
		}
	}
	if voters < 1 || healthy < plan.Majority(voters) {
		return fmt.Errorf("doing without %s, and %d other voters answer where %d would be a quorum: %w", without.Name, healthy, plan.Majority(max(1, voters)), ErrStale)
	}
	return nil
}

// answersNow says that the member answers as itself and follows a leader.
func (p *Performer) answersNow(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, m plan.Member) bool {
	conn, err := p.Etcd.Reach(client.ObjectKeyFromObject(c), c.UID, m.Name)
	if err != nil {
		return false
	}
	answer, err := conn.Status(ctx)
	return err == nil && answer.Leader != 0 && answer.MemberID == m.ID && answer.ClusterID == seen.ClusterID
}

// markLeaving puts on the volume of a sound voter, or of a learner, that it goes
// with its member, before the member is removed: afterwards nobody could tell a
// scale-in from a removal by hand, and the volume of that one is kept.
func (p *Performer) markLeaving(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, m plan.Member) error {
	if m.Volume != plan.VolumeBound || m.Dead() || m.RecordedID != m.ID || m.VolumeElsewhere {
		// A volume with the data of another member than the one that goes, or with none,
		// is not that member's to take along; and one of another class or medium than is wanted is
		// kept for a while, as any that is replaced.
		return nil
	}
	volume, err := p.ownVolume(ctx, c, seen, m.Name)
	if err != nil {
		return err
	}
	return p.annotate(ctx, volume, map[string]string{v1alpha1.AnnotationLeaving: "scale-in"})
}

// stopMembers deletes the pods of members that are dead or were removed, whether
// they run or not. That they are is asked of etcd once more.
func (p *Performer) stopMembers(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, names []string) error {
	if _, err := p.settled(ctx, c, seen); err != nil {
		return err
	}
	return each(names, func(name string) error {
		m, _ := seen.Member(name)
		if m.Listed && (!m.Dead() || p.answersNow(ctx, c, seen, m)) {
			return fmt.Errorf("stopping %s, which is a member: %w", name, ErrStale)
		}
		pod, err := p.ownPod(ctx, c, name)
		if err != nil || pod == nil || !pod.DeletionTimestamp.IsZero() {
			return err
		}
		if string(pod.UID) != m.PodUID {
			return fmt.Errorf("stopping %s, which has another pod by now: %w", name, ErrStale)
		}
		if !m.Listed && (m.InMemory || m.Volume == plan.VolumeAbsent || m.Volume == plan.VolumeTerminating) {
			// The pod is all that is left of the member, or its claim goes with it.
			if err := p.deleteSecret(ctx, c, name); err != nil {
				return err
			}
		}
		return p.delete(ctx, pod)
	})
}

// discardMember deletes what was prepared for a member that never joined.
func (p *Performer) discardMember(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, name string) error {
	if c.Status.Joiner == name {
		return fmt.Errorf("discarding the joiner %s: %w", name, ErrStale)
	}
	pod, err := p.ownPod(ctx, c, name)
	if err != nil {
		return err
	}
	if pod != nil && !resources.Held(pod) {
		return fmt.Errorf("discarding %s, which was released: %w", name, ErrStale)
	}
	if memoryBacked(c, seen, name) {
		if err := p.deleteSecret(ctx, c, name); err != nil {
			return err
		}
	}
	if pod != nil && pod.DeletionTimestamp.IsZero() {
		if err := p.delete(ctx, pod); err != nil {
			return err
		}
	}
	if memoryBacked(c, seen, name) {
		return nil
	}
	claim, err := p.ownClaim(ctx, c, name)
	if errors.Is(err, ErrStale) {
		return nil
	}
	if err != nil {
		return err
	}
	if claim.Annotations[v1alpha1.AnnotationMemberID] != "" || claim.Annotations[v1alpha1.AnnotationBooted] != "" {
		return fmt.Errorf("discarding the volume of %s, which was a member's: %w", name, ErrStale)
	}
	return p.forget(ctx, c, name, claim)
}

// retire does away with the volumes of members that etcd, asked once more, does
// not list.
func (p *Performer) retire(
	ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, names []string,
	do func(context.Context, *v1alpha1.EtcdCluster, *corev1.PersistentVolumeClaim) error,
) error {
	if _, err := p.settled(ctx, c, seen); err != nil {
		return err
	}
	return each(names, func(name string) error {
		if m, _ := seen.Member(name); m.Listed {
			return fmt.Errorf("retiring %s, which is a member: %w", name, ErrStale)
		}
		if memoryBacked(c, seen, name) {
			return nil
		}
		claim, err := p.ownClaim(ctx, c, name)
		if err != nil {
			return err
		}
		return do(ctx, c, claim)
	})
}

// deleteLeft deletes a claim that was marked to leave with its member.
func (p *Performer) deleteLeft(ctx context.Context, c *v1alpha1.EtcdCluster, claim *corev1.PersistentVolumeClaim) error {
	if claim.Annotations[v1alpha1.AnnotationLeaving] == "" || resources.Quarantined(claim) {
		return fmt.Errorf("deleting claim %s, which is not marked to leave, or is kept: %w", claim.Name, ErrStale)
	}
	return p.forget(ctx, c, resources.MemberOfClaim(claim.Name), claim)
}

// quarantine marks a claim as no member's. Its data is kept.
func (p *Performer) quarantine(ctx context.Context, c *v1alpha1.EtcdCluster, claim *corev1.PersistentVolumeClaim) error {
	before := claim.DeepCopy()
	why := "removed"
	switch {
	case claim.Annotations[v1alpha1.AnnotationRefused] != "":
		why = "refused"
	case claim.Annotations[v1alpha1.AnnotationLeaving] != "":
		return fmt.Errorf("keeping claim %s, which is marked to leave: %w", claim.Name, ErrStale)
	}
	// First, for nobody would find them once the claim is no member's.
	if err := p.deleteSecret(ctx, c, resources.MemberOfClaim(claim.Name)); err != nil {
		return err
	}
	claim.Labels[v1alpha1.LabelQuarantined] = why
	claim.Annotations[v1alpha1.AnnotationQuarantinedAt] = p.ServerTime.Later(p.Clock.Now()).UTC().Format(time.RFC3339)
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := p.Writer.Patch(ctx, claim, patch, client.FieldOwner(resources.FieldOwner)); err != nil {
		return fmt.Errorf("putting claim %s into quarantine: %w", claim.Name, err)
	}
	return nil
}

// deleteExpired deletes a claim whose quarantine is over.
func (p *Performer) deleteExpired(ctx context.Context, c *v1alpha1.EtcdCluster, name string) error {
	claim, err := p.ownClaim(ctx, c, name)
	if err != nil {
		return err
	}
	at, err := time.Parse(time.RFC3339, claim.Annotations[v1alpha1.AnnotationQuarantinedAt])
	if err != nil || !resources.Quarantined(claim) || p.ServerTime.Earlier(p.Clock.Now()).Sub(at) <= c.Spec.Storage.QuarantineFor.Duration {
		return fmt.Errorf("deleting claim %s, whose quarantine is not over: %w", claim.Name, ErrStale)
	}
	return p.forget(ctx, c, name, claim)
}

// forget deletes what only a member of this name had a use for.
func (p *Performer) forget(ctx context.Context, c *v1alpha1.EtcdCluster, name string, claim *corev1.PersistentVolumeClaim) error {
	if err := p.deleteSecret(ctx, c, name); err != nil {
		return err
	}
	return p.delete(ctx, claim)
}

// deleteSecret deletes a member's certificates, which name a host that nobody
// will bear again.
func (p *Performer) deleteSecret(ctx context.Context, c *v1alpha1.EtcdCluster, name string) error {
	if !resources.TLS(c) {
		return nil
	}
	secret := &corev1.Secret{}
	err := p.Live.Get(ctx, client.ObjectKey{Namespace: c.Namespace, Name: pki.MemberSecret(name)}, secret)
	if apierrors.IsNotFound(err) || (err == nil && !carriesIdentity(c, secret)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading Secret %s: %w", pki.MemberSecret(name), err)
	}
	return p.delete(ctx, secret)
}
