package etcdtest

import (
	"context"
	"errors"
	"slices"

	"github.com/quorate/quorate/internal/etcd"
)

// AddLearner refuses in etcd's order: first what the asked member can see of
// its peers' health, then what the log says.
func (c *conn) AddLearner(ctx context.Context, peerURL string) (etcd.Member, error) {
	return c.add(ctx, "AddLearner", etcd.Member{PeerURLs: []string{peerURL}, Learner: true})
}

// AddVoter is what etcdctl does without --learner, and no operator.
func (c *conn) AddVoter(ctx context.Context, peerURL string) (etcd.Member, error) {
	return c.add(ctx, "AddVoter", etcd.Member{PeerURLs: []string{peerURL}})
}

func (c *conn) add(ctx context.Context, method string, added etcd.Member) (etcd.Member, error) {
	err := c.call(ctx, method, changes, func(p *Process) error {
		leader, err := c.world.led(p)
		if err != nil {
			return err
		}
		// A voter that is added counts as down until it is there.
		if voters := p.store.voters(); len(voters) > 1 && c.world.connected(p) < (len(voters)+1)/2+1 {
			return etcd.ErrUnhealthyCluster
		}
		added.ID = addedID(added.PeerURLs[0], c.world.now())
		if err := mayAdd(leader.store, added); err != nil {
			return err
		}
		c.world.commit(leader, entry{kind: memberAdded, member: added})
		return nil
	})
	if err != nil {
		return etcd.Member{}, err
	}
	return added, nil
}

func mayAdd(s *store, added etcd.Member) error {
	if s.isRemoved(added.ID) {
		// The same URL, removed and added within one second, hashes to an ID
		// that is burnt.
		return etcd.ErrMemberNotFound
	}
	learners := 0
	for _, m := range s.config() {
		if m.ID == added.ID || slices.Equal(m.PeerURLs, added.PeerURLs) {
			return etcd.ErrPeerURLExists
		}
		if m.Learner {
			learners++
		}
	}
	if learners > 0 && added.Learner {
		return etcd.ErrTooManyLearners
	}
	return nil
}

// UpdateMember gives a member another peer URL, unless another one has it.
func (c *conn) UpdateMember(ctx context.Context, id uint64, peerURL string) error {
	return c.call(ctx, "UpdateMember", changes, func(p *Process) error {
		leader, err := c.world.led(p)
		if err != nil {
			return err
		}
		if _, listed := leader.store.config()[id]; !listed {
			return etcd.ErrMemberNotFound
		}
		for _, m := range leader.store.config() {
			if m.ID != id && slices.Contains(m.PeerURLs, peerURL) {
				return etcd.ErrPeerURLExists
			}
		}
		c.world.commit(leader, entry{kind: memberUpdated, member: etcd.Member{ID: id, PeerURLs: []string{peerURL}}})
		return nil
	})
}

// Promote takes a learner that has received nine tenths of the log. A member
// that does not lead passes the call on to the leader.
func (c *conn) Promote(ctx context.Context, id uint64) error {
	return c.call(ctx, "Promote", changes, func(p *Process) error {
		leader, err := c.world.led(p)
		if err != nil {
			return err
		}
		m, listed := leader.store.config()[id]
		if !listed {
			return etcd.ErrMemberNotFound
		}
		received := 0
		for _, other := range c.world.peers(leader) {
			if other.store.disk.MemberID == id {
				received = len(other.store.log)
			}
		}
		switch {
		case received*10 < len(leader.store.log)*9:
			return etcd.ErrLearnerNotReady
		case !m.Learner:
			return etcd.ErrNotLearner
		case started(leader.store, id) < (len(leader.store.voters())+1)/2+1:
			return etcd.ErrNotStarted
		}
		c.world.commit(leader, entry{kind: memberPromoted, member: etcd.Member{ID: id}})
		return nil
	})
}

// started counts the voters that have a name, and the member itself.
func started(s *store, with uint64) int {
	n := 1
	for _, id := range s.voters() {
		if id != with && s.config()[id].Name != "" {
			n++
		}
	}
	return n
}

// Remove lets a learner and a voter that is down go, and a voter that is up
// only if the others are a quorum of the present configuration.
func (c *conn) Remove(ctx context.Context, id uint64) error {
	return c.call(ctx, "Remove", changes, func(p *Process) error {
		leader, err := c.world.led(p)
		if err != nil {
			return err
		}
		if err := c.world.mayRemove(p, id); err != nil {
			return err
		}
		if _, listed := leader.store.config()[id]; !listed {
			return etcd.ErrMemberNotFound
		}
		c.world.commit(leader, entry{kind: memberRemoved, member: etcd.Member{ID: id}})
		return nil
	})
}

func (w *World) mayRemove(p *Process, id uint64) error {
	s := p.store
	if s.config()[id].Learner {
		return nil
	}
	left := slices.DeleteFunc(s.voters(), func(v uint64) bool { return v == id })
	if n := started(s, id) - 1; n < len(left)/2+1 {
		return etcd.ErrNotStarted
	}
	up := slices.ContainsFunc(w.peers(p), func(other *Process) bool { return other.store.disk.MemberID == id })
	if !up && id != s.disk.MemberID {
		return nil
	}
	if w.connected(p)-1 < 1+(len(s.voters())-1)/2 {
		return etcd.ErrUnhealthyCluster
	}
	return nil
}

// connected counts the voters, the process among them, that it has been
// connected to for longer than the health interval.
func (w *World) connected(p *Process) int {
	n := 0
	for _, other := range w.peers(p) {
		if !slices.Contains(p.store.voters(), other.store.disk.MemberID) {
			continue
		}
		if p.blind && other != p {
			continue
		}
		since := other.since
		if p.since.After(since) {
			since = p.since
		}
		if other == p || w.now().Sub(since) > healthInterval {
			n++
		}
	}
	return n
}

// MoveLeader is taken by the leader alone, for a voter that is there.
func (c *conn) MoveLeader(ctx context.Context, to uint64) error {
	return c.call(ctx, "MoveLeader", changes, func(p *Process) error {
		if _, err := c.world.led(p); err != nil {
			return err
		}
		if !p.leads {
			return etcd.ErrNotLeader
		}
		if m, listed := p.store.config()[to]; !listed || m.Learner {
			return errors.New("bad leader transferee")
		}
		group := c.world.peers(p)
		for _, other := range group {
			if other.store.disk.MemberID == to {
				if other != p {
					c.world.lead(other, group)
				}
				return nil
			}
		}
		return errors.Join(etcd.ErrOutcomeUnknown, errors.New("the leader transfer took too long"))
	})
}
