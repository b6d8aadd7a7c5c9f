package perform

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/plan"
)

// maintain carries out the steps that see to the members' databases. What takes long is
// begun here and goes on beside the passes.
func (p *Performer) maintain(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, step plan.Step) error {
	switch step.Kind {
	case plan.Condemn:
		return p.condemn(ctx, c, seen, step)
	case plan.Compare:
		return p.compare(ctx, c, seen)
	case plan.Compact:
		return p.compact(ctx, c, seen)
	case plan.Defragment:
		return p.defragment(ctx, c, seen, step)
	case plan.Disarm:
		return p.disarm(ctx, c, seen, step)
	}
	return fmt.Errorf("performing %s: no such step", step.Kind)
}

// condemn writes on the claim of a member that runs that its data is wrong, and goes by two
// comparisons: data that differs does not become equal again, and the claim must be that
// of the member which was compared.
func (p *Performer) condemn(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, step plan.Step) error {
	m, _ := seen.Member(step.Members[0])
	if _, err := p.settled(ctx, c, seen); err != nil {
		return err
	}
	claim, err := p.ownClaim(ctx, c, m.Name)
	if err != nil {
		return err
	}
	if claim.Annotations[v1alpha1.AnnotationMemberID] != hex(m.ID) {
		return fmt.Errorf("giving up the data of %s, whose volume is not that of member %x: %w", m.Name, m.ID, ErrStale)
	}
	found := seen.Comparison
	return p.annotate(ctx, claim, map[string]string{v1alpha1.AnnotationRefused: fmt.Sprintf(
		"DataDiffers: at revision %d its keys were not those of %d of %d voters", found.Revision, len(found.Agree), seen.Voters())})
}

// compare begins a comparison of all voters.
func (p *Performer) compare(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed) error {
	var found compared
	return p.Chores.start(ctx, client.ObjectKeyFromObject(c), c.UID, plan.Chore{Kind: plan.Compare},
		func(ctx context.Context) error {
			found = p.hashes(ctx, c, seen)
			return nil
		},
		func(k *chores, _ error) {
			found.at = p.Chores.Clock.Now()
			same := slices.Equal(found.Differ, k.Differ) && slices.Equal(found.voters, k.voters)
			found.Twice = same && found.at.Sub(k.at) >= compareAgain
			k.compared = found
		})
}

// hashes asks one voter after the other, the leader last, for the hash of its data at a
// revision that all of them have: a member commits nothing while it answers.
func (p *Performer) hashes(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed) compared {
	found := compared{voters: voterIDs(seen)}
	voters := p.askedInTurn(ctx, c, seen, &found.Revision)
	var answers []etcd.Hash
	for _, v := range voters {
		h, err := v.conn.Hash(ctx, found.Revision)
		if err == nil && h.MemberID == v.id {
			answers = append(answers, h)
		}
	}
	most := mostCommon(answers)
	for _, h := range answers {
		alike := func(other etcd.Hash) bool { return other.Hash == most && other.CompactRevision == h.CompactRevision }
		switch {
		case h.Hash == most:
			found.Agree = append(found.Agree, h.MemberID)
		case slices.ContainsFunc(answers, alike):
			found.Differ = append(found.Differ, h.MemberID)
		}
	}
	slices.Sort(found.Agree)
	slices.Sort(found.Differ)
	found.whole = len(found.Agree)+len(found.Differ) == seen.Voters()
	return found
}

// mostCommon of the hashes; of several the lowest. The same hash is the same data, whatever
// history a member says that it goes by: at the revision of a compaction a member that has
// done it answers with the history of before, which it has kept the hash of, and one that
// joined later with that of after (seen on etcd 3.6.16). Another hash is other data only
// beside one of the same history.
func mostCommon(answers []etcd.Hash) uint32 {
	count := map[uint32]int{}
	var most uint32
	for _, h := range answers {
		count[h.Hash]++
	}
	for h, n := range count {
		if n > count[most] || (n == count[most] && h < most) {
			most = h
		}
	}
	return most
}

type asked struct {
	id       uint64
	leads    bool
	conn     etcd.Conn
	revision int64
}

// askedInTurn are the voters that answer, the leader last, and the highest revision that
// all of them have.
func (p *Performer) askedInTurn(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, revision *int64) []asked {
	var out []asked
	for _, m := range seen.Members {
		if !m.Voter() {
			continue
		}
		conn, err := p.Etcd.Reach(client.ObjectKeyFromObject(c), c.UID, m.Name)
		if err != nil {
			continue
		}
		s, err := conn.Status(ctx)
		if err != nil || s.MemberID != m.ID || s.ClusterID != seen.ClusterID || s.Version != m.Version {
			continue
		}
		out = append(out, asked{m.ID, m.Leads, conn, s.Revision})
	}
	slices.SortStableFunc(out, func(a, b asked) int {
		switch {
		case a.leads:
			return 1
		case b.leads:
			return -1
		default:
			return 0
		}
	})
	for i, a := range out {
		if i == 0 || a.revision < *revision {
			*revision = a.revision
		}
	}
	return out
}

// compact begins a compaction through the leader. One that was done already, by etcd
// itself or by an operator before, is done.
func (p *Performer) compact(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed) error {
	leader, conn, err := p.reachLeader(c, seen)
	if err != nil {
		return err
	}
	revision := seen.CompactTo
	return p.Chores.start(ctx, client.ObjectKeyFromObject(c), c.UID, plan.Chore{Kind: plan.Compact, Member: leader.Name},
		func(ctx context.Context) error { return conn.Compact(ctx, revision) },
		func(k *chores, err error) {
			if err == nil || errors.Is(err, etcd.ErrCompacted) {
				k.compacted, k.compactedAt = revision, p.Chores.Clock.Now()
				return
			}
			k.fail(p.Chores.Clock.Now(), fmt.Errorf("the history was not discarded: %w", err))
		})
}

// defragment begins to defragment one member, after every other voter has served a read:
// one that is still at a defragmentation of an operator before does not.
func (p *Performer) defragment(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, step plan.Step) error {
	m, _ := seen.Member(step.Members[0])
	if m.Leads && seen.Voters() > 1 {
		return fmt.Errorf("defragmenting %s, which leads: %w", m.Name, ErrStale)
	}
	if _, err := p.settled(ctx, c, seen); err != nil {
		return err
	}
	for _, other := range seen.Members {
		if !other.Voter() || other.Name == m.Name {
			continue
		}
		conn, err := p.Etcd.Reach(client.ObjectKeyFromObject(c), c.UID, other.Name)
		if err == nil {
			err = conn.Read(ctx)
		}
		if err != nil {
			return fmt.Errorf("defragmenting %s while %s does not serve: %w: %w", m.Name, other.Name, ErrStale, err)
		}
	}
	conn, err := p.Etcd.Reach(client.ObjectKeyFromObject(c), c.UID, m.Name)
	if err != nil {
		return fmt.Errorf("defragmenting %s: %w: %w", m.Name, ErrStale, err)
	}
	return p.Chores.start(ctx, client.ObjectKeyFromObject(c), c.UID, plan.Chore{Kind: plan.Defragment, Member: m.Name},
		conn.Defragment,
		func(k *chores, err error) {
			now := p.Chores.Clock.Now()
			if err != nil {
				k.fail(now, fmt.Errorf("%s was not defragmented: %w", m.Name, err))
				return
			}
			k.failures, k.heldUntil = 0, now
			k.defragmented[m.Name] = now
		})
}

// disarm ends the alarms of a kind, and of those only the ones that were seen: etcd raises
// another if it finds another. Whether every database has room is asked of it once more. A
// write that went through is the proof.
func (p *Performer) disarm(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, step plan.Step) error {
	leader, err := p.settled(ctx, c, seen)
	if err != nil {
		return err
	}
	if step.Alarm == string(etcd.AlarmNoSpace) {
		if err := p.roomNow(ctx, c, seen); err != nil {
			return err
		}
	}
	for _, a := range seen.Raised {
		if a.Kind != step.Alarm {
			continue
		}
		if err := leader.Disarm(ctx, etcd.Alarm{Kind: etcd.AlarmKind(a.Kind), MemberID: a.ID}); err != nil {
			return refusal(fmt.Errorf("disarming %s: %w", a.Kind, err))
		}
	}
	if err := leader.Propose(ctx); err != nil {
		return fmt.Errorf("writing after %s was disarmed: %w: %w", step.Alarm, ErrNotYet, err)
	}
	return nil
}

func (p *Performer) roomNow(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed) error {
	for _, m := range seen.Members {
		if !m.Listed {
			continue
		}
		conn, err := p.Etcd.Reach(client.ObjectKeyFromObject(c), c.UID, m.Name)
		if err != nil {
			return fmt.Errorf("disarming NOSPACE: %w: %w", ErrStale, err)
		}
		s, err := conn.Status(ctx)
		if err != nil {
			return fmt.Errorf("disarming NOSPACE: %w: %w", ErrStale, err)
		}
		quota := cmp.Or(s.DBSizeQuota, m.Quota)
		if s.MemberID != m.ID || quota == 0 || s.DBSize*10 >= quota*9 {
			return fmt.Errorf("disarming NOSPACE, and the database of %s has %d of %d bytes: %w", m.Name, s.DBSize, quota, ErrStale)
		}
	}
	return nil
}
