package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

// bench measures step by step.
type bench struct {
	options  *options
	world    *world
	operator *operator
	table    table

	rssEmpty float64
}

func (b *bench) measure(ctx context.Context) error {
	binary, err := buildOperator(ctx, b.options)
	if err != nil {
		return err
	}
	b.operator = &operator{binary: binary, kubeconfig: b.world.operatorKubeconfig, log: b.options.workDir + "/operator.log"}
	if err := b.operator.start(ctx); err != nil {
		return err
	}
	defer b.operator.kill()
	for _, step := range []func(context.Context) error{b.empty, b.found, b.atRest, b.restart} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// say tells what goes on while the table is not there yet.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().Format("15:04:05"), fmt.Sprintf(format, args...))
}

// empty reads the memory of an operator without clusters.
func (b *bench) empty(ctx context.Context) error {
	say("the operator starts, with no cluster")
	if err := pause(ctx, emptyRest); err != nil {
		return err
	}
	used, err := b.operator.usage()
	if err != nil {
		return err
	}
	b.rssEmpty = used.rss
	b.table.note("resident memory without clusters", used.rss/1024, "MiB")
	return nil
}

// found has the operator found every cluster, all of them asked for at once.
func (b *bench) found(ctx context.Context) error {
	say("%d clusters are asked for", b.options.clusters)
	before, err := b.operator.usage()
	if err != nil {
		return err
	}
	began, told := time.Now(), time.Now()
	if err := b.world.createClusters(ctx); err != nil {
		return err
	}
	err = until(ctx, "all clusters to be founded", func() (bool, error) {
		n, err := b.world.ready(ctx)
		if time.Since(told) > 10*time.Second {
			say("%d are ready", n)
			told = time.Now()
		}
		return n == b.options.clusters, err
	})
	if err != nil {
		return err
	}
	took := time.Since(began)
	after, err := b.operator.usage()
	if err != nil {
		return err
	}
	calls, err := b.world.audit.since(began)
	if err != nil {
		return err
	}
	n := float64(b.options.clusters)
	b.table.note("founding all clusters at once", took.Seconds(), "s")
	b.table.note("  processor of the operator, per cluster", ms(after.cpu-before.cpu)/n, "ms")
	b.table.note("  API requests of the operator, per cluster", float64(calls.reads+calls.writes)/n, "")
	b.table.note("  resident memory when founded", after.rss/1024, "MiB")
	return nil
}

// atRest watches an operator that has nothing to do.
func (b *bench) atRest(ctx context.Context) error {
	say("the operator comes to rest")
	if err := pause(ctx, settleRest); err != nil {
		return err
	}
	say("at rest for %s", b.options.rest)
	before, err := b.operator.usage()
	if err != nil {
		return err
	}
	asked := b.world.fleet.counts()
	began := time.Now()
	if err := pause(ctx, b.options.rest); err != nil {
		return err
	}
	took := time.Since(began)
	after, err := b.operator.usage()
	if err != nil {
		return err
	}
	calls, err := b.world.audit.since(began)
	if err != nil {
		return err
	}
	if n, err := b.world.ready(ctx); err != nil || n != b.options.clusters {
		return fmt.Errorf("only %d clusters are healthy at rest: %w", n, err)
	}
	minutes := float64(b.options.clusters) * took.Minutes()
	b.table.limit("at rest: processor, per cluster and minute", ms(after.cpu-before.cpu)/minutes, "ms", cpuLimit)
	b.table.limit("at rest: API writes", float64(calls.writes), "", writeLimit)
	b.table.note("  API reads, per cluster and minute", float64(calls.reads)/minutes, "")
	for _, c := range b.world.fleet.counts().minus(asked) {
		b.table.note("  "+c.method+" calls to etcd, per cluster and minute", float64(c.n)/minutes, "")
	}
	for _, line := range calls.written {
		say("written at rest: %s", line)
	}
	b.table.limit("at rest: resident memory, per cluster", (after.rss-b.rssEmpty)/float64(b.options.clusters), "KiB", rssLimit)
	b.table.note("  resident memory in all", after.rss/1024, "MiB")
	return nil
}

// restart ends the operator while some clusters are unhealthy, and starts it
// again.
func (b *bench) restart(ctx context.Context) error {
	say("%d clusters lose a member", b.options.unhealthy)
	unhealthy := b.world.fleet.breakSome(b.options.unhealthy)
	err := until(ctx, "the unhealthy clusters to be told from the others", func() (bool, error) {
		n, err := b.world.ready(ctx)
		return n == b.options.clusters-b.options.unhealthy, err
	})
	if err != nil {
		return err
	}
	say("the operator restarts")
	if err := b.operator.stop(); err != nil {
		return err
	}
	b.world.fleet.forgetSeen()
	began := time.Now()
	if err := b.operator.start(ctx); err != nil {
		return err
	}
	var seen []sighting
	err = until(ctx, "every cluster to be seen", func() (bool, error) {
		seen = b.world.fleet.seen()
		return len(seen) == b.options.clusters, nil
	})
	if err != nil {
		return err
	}
	rank, by := lastOf(seen, unhealthy, began)
	_, all := lastOf(seen, nil, began)
	b.table.limit("restart: every cluster seen after", all.Seconds(), "s", seenLimit)
	b.table.note("  the last unhealthy one after", by.Seconds(), "s")
	// Clusters are looked at side by side: those that begin together may end in
	// any order.
	b.table.limit("  it was cluster number", float64(rank), "", float64(b.options.unhealthy+sideBySide-1))
	return b.afterRestart(ctx)
}

// sideBySide is how many clusters the operator works on at the same time.
const sideBySide = 100

// lastOf the named clusters, or of all, to be seen: its place in the order, and
// when the last look of them had its answer.
func lastOf(seen []sighting, named map[string]bool, began time.Time) (rank int, after time.Duration) {
	for i, s := range seen {
		if named == nil || named[s.cluster] {
			rank, after = i+1, max(after, s.at.Sub(began))
		}
	}
	return rank, after
}

// afterRestart reads the memory of an operator that has founded nothing.
func (b *bench) afterRestart(ctx context.Context) error {
	say("the operator comes to rest again")
	if err := pause(ctx, settleRest); err != nil {
		return err
	}
	used, err := b.operator.usage()
	if err != nil {
		return err
	}
	b.table.limit("restart: resident memory, per cluster", (used.rss-b.rssEmpty)/float64(b.options.clusters), "KiB", rssLimit)
	return b.operator.stop()
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
