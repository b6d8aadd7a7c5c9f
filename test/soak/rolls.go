package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/quorate/quorate/test/load"
	"github.com/quorate/quorate/test/soak/testbed"
)

// hopWithin is how long a change of the version may take, with an operator that is
// killed in the midst of it.
const hopWithin = 3 * time.Minute

// roll takes a cluster of its own through all releases of etcd, there and back, while it
// is written to: no acknowledged write may be lost, and nobody may be replaced.
func roll(ctx context.Context, s *soak, _ *subject) (note string, err error) {
	c, err := s.throwaway(ctx, "rolled", `{version: "`+testbed.FirstRelease+`", etcd: {snapshotCount: 100}, storage: {whenDeleted: Delete}}`)
	if err != nil {
		return "", err
	}
	before, err := c.Get(ctx)
	if err != nil {
		return "", err
	}
	config, err := c.Load(ctx)
	if err != nil {
		return "", err
	}
	config.Seed, config.Artifacts = s.report.Seed+uint64(len(s.report.Faults)), s.out
	l, err := load.Start(ctx, config)
	if err != nil {
		return "", fmt.Errorf("writing to %s: %w", c.Name, err)
	}
	defer l.Abort()
	s.strike.begin(ctx, c)
	for _, hop := range testbed.Hops {
		began := time.Now()
		if err := s.hop(ctx, c, hop); err != nil {
			return note, fmt.Errorf("%s: %w", hop.Name, err)
		}
		l.Mark(hop.Name)
		note += fmt.Sprintf("%s in %.1f s; ", hop.Name, time.Since(began).Seconds())
	}
	now, err := c.Get(ctx)
	if err != nil {
		return note, err
	}
	if was, is := ids(before), ids(now); !maps.Equal(was, is) {
		return note, fmt.Errorf("members were %v and are %v", was, is)
	}
	found, err := l.Stop(ctx)
	s.report.Loads = append(s.report.Loads, LoadReport{Cluster: c.Name, Report: found})
	return note, err
}

// hop waits until all members run the version, and nothing is under way.
func (s *soak) hop(ctx context.Context, c testbed.Cluster, hop testbed.Hop) error {
	if err := c.Edit(ctx, hop.Edit); err != nil {
		return err
	}
	err := within(ctx, hopWithin, func(ctx context.Context) error {
		live, err := c.Get(ctx)
		if err != nil {
			return err
		}
		if !hop.Done(live) {
			return fmt.Errorf("version %s, under way: %v", live.Status.Version, live.Status.Operation)
		}
		return nil
	})
	return errors.Join(err, s.heals(ctx, c))
}
