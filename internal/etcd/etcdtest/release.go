package etcdtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/quorate/quorate/internal/etcd"
)

// release is the minor release that a cluster has agreed on: the oldest that a member
// runs, or the one that it is being downgraded to. What the members write is of it.
type release struct {
	minor int
	// target of a downgrade that is enabled; zero for none.
	target int
}

func (p *Process) minor() int { return etcd.Minor(cmp.Or(p.Flags.Version, Version)) }

// Downgrade has the clusters of the world be in a downgrade to the version, as a user
// does with etcdctl; the empty one ends it.
func (w *World) Downgrade(to string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, r := range w.releases {
		r.target = etcd.Minor(to)
		w.releases[id] = r
	}
}

// agree has a group that has a leader agree on its release, once every member that it
// lists runs. A downgrade ends when the last member runs its target.
func (w *World) agree(leader *Process, group []*Process) {
	id := leader.store.disk.ClusterID
	r, least, most := w.releases[id], 0, 0
	for member := range leader.store.config() {
		runs := 0
		for _, p := range group {
			if p.store.disk.MemberID == member {
				runs = p.minor()
			}
		}
		if runs == 0 {
			return
		}
		if least == 0 || runs < least {
			least = runs
		}
		most = max(most, runs)
	}
	switch {
	case r.target != 0 && most == r.target:
		r = release{minor: most}
	case r.target != 0:
		r.minor = r.target
	default:
		r.minor = max(r.minor, least)
	}
	w.releases[id] = r
	for _, p := range group {
		p.store.format = r.minor
	}
}

// opens says that etcd of this release can read what the store holds.
func (s *store) opens(minor int) bool { return s.format <= minor }

// downgradeOf the process's cluster, as its status tells it.
func (w *World) downgradeOf(p *Process) string {
	r := w.releases[p.store.disk.ClusterID]
	if r.target == 0 || p.minor() < 6 {
		return ""
	}
	return fmt.Sprintf("3.%d.0", r.target)
}

func (p *Process) storage() string {
	if p.minor() < 6 || p.store.format == 0 {
		return ""
	}
	return fmt.Sprintf("3.%d.0", p.store.format)
}

// Downgrade takes one minor release at a time, and none while one is under way.
func (c *conn) Downgrade(ctx context.Context, action etcd.DowngradeAction, version string) error {
	does := changes
	if action == etcd.DowngradeValidate {
		does = reads
	}
	return c.call(ctx, "Downgrade", does, func(p *Process) error {
		leader, err := c.world.led(p)
		if err != nil {
			return err
		}
		id := leader.store.disk.ClusterID
		r := c.world.releases[id]
		switch {
		case action == etcd.DowngradeCancel && r.target == 0:
			return etcd.ErrNoDowngrade
		case action == etcd.DowngradeCancel:
			r.target = 0
		case r.target != 0:
			return etcd.ErrDowngrading
		case etcd.Minor(version) != r.minor-1:
			return errors.New("etcdserver: invalid downgrade target version")
		case action == etcd.DowngradeEnable:
			r.target = etcd.Minor(version)
		}
		c.world.releases[id] = r
		c.world.settle()
		return nil
	})
}
