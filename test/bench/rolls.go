package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/quorate/quorate/test/load"
	"github.com/quorate/quorate/test/soak/testbed"
)

// Limits of a rolling change of the version of three members, and of how often they elect a
// leader meanwhile: once, when the one that leads is restarted last, and once more.
const (
	rollLimit  = 25 * time.Second
	mostChange = 2
)

// rolls changes the version of a cluster under load, there and back, as often as durations
// are measured.
func (b *bench) rolls(ctx context.Context) (bool, error) {
	ok := true
	took, changes := map[string][]time.Duration{}, map[string]int{}
	var gaps gapSeries
	for run := range b.runs {
		q := newCluster(b.bed, fmt.Sprintf("rolled%d", run), members)
		q.cluster.Spec.Version = testbed.FirstRelease
		q.cluster.Spec.Etcd.SnapshotCount = 100
		report, err := b.rolled(ctx, q, took, changes, &gaps)
		if err != nil {
			return false, fmt.Errorf("run %d: %w", run+1, err)
		}
		ok = ok && report.Lost == 0
		if err := q.remove(ctx); err != nil {
			return false, err
		}
	}
	for _, hop := range testbed.Hops {
		ok = printMedian("rolled from "+hop.Name, took[hop.Name], rollLimit) && ok
		fmt.Printf("%-44s %10s %10d %7s %7d%s\n", "  most changes of the leader", "", changes[hop.Name], "", mostChange, above(float64(changes[hop.Name]), mostChange))
		ok = ok && changes[hop.Name] <= mostChange
	}
	ok = printLongest("write gap, rolled", gaps.cluster, plannedLimit) && ok
	return printLongest("the same of one writer", gaps.writer, writerLimit) && ok, nil
}

func (b *bench) rolled(ctx context.Context, q *quorate, took map[string][]time.Duration, changes map[string]int, gaps *gapSeries) (*load.Report, error) {
	if err := found(ctx, q); err != nil {
		return nil, err
	}
	config, err := q.reached.Load(ctx)
	if err != nil {
		return nil, err
	}
	config.WriteRate, config.CheckTimeout = writeRate, stepTimeout
	l, err := load.Start(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("starting the load: %w", err)
	}
	defer l.Abort()
	var failed error
	for _, hop := range testbed.Hops {
		if failed = pause(ctx, settling); failed != nil {
			break
		}
		start := l.Mark(hop.Name).At
		terms, err := q.roll(ctx, hop)
		if failed = err; failed != nil {
			failed = fmt.Errorf("%s: %w", hop.Name, failed)
			break
		}
		took[hop.Name] = append(took[hop.Name], time.Since(start))
		changes[hop.Name] = max(changes[hop.Name], terms)
		gaps.note(l, hop.Name, start, time.Now())
	}
	report, err := l.Stop(ctx)
	fmt.Fprint(os.Stderr, report)
	return report, errors.Join(failed, err)
}

// roll edits the cluster and waits until all members run the version and nothing is under
// way. It tells how many terms raft has come on.
func (q *quorate) roll(ctx context.Context, hop testbed.Hop) (terms int, err error) {
	now, err := rolesOf(ctx, q.reached)
	if err != nil {
		return 0, err
	}
	_, before, err := q.reached.Leader(ctx, now.voters...)
	if err != nil {
		return 0, err
	}
	if err := q.reached.Edit(ctx, hop.Edit); err != nil {
		return 0, err
	}
	err = until(ctx, func(ctx context.Context) (bool, error) {
		live, err := q.reached.Get(ctx)
		if err != nil {
			return false, err
		}
		ready, err := q.ready(ctx)
		return ready && hop.Done(live), err
	})
	if err != nil {
		return 0, fmt.Errorf("waiting for %s: %w", hop.Version, err)
	}
	_, after, err := q.reached.Leader(ctx, now.voters...)
	return int(after - before), err //nolint:gosec // terms are few
}
