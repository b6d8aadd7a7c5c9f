package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/test/load"
)

// Limits of the longest time without an acknowledged write: of all writers
// together, and of any one of them with its own retries.
const (
	plannedLimit = 200 * time.Millisecond
	writerLimit  = time.Second
	killedLimit  = 2500 * time.Millisecond
)

// writeRate of all writers together, one per member, in keys per second: gaps
// are measured as finely as writes follow each other.
const writeRate = 300

// afterKill is how long after a kill a gap counts as its: an election, and the
// return of the member that was killed.
const afterKill = 5 * time.Second

// gapSeries is the longest gap of each try.
type gapSeries struct{ cluster, writer []time.Duration }

// note the longest gaps that overlap a time.
func (g *gapSeries) note(l *load.Load, what string, from, to time.Time) {
	all, one := l.Gap(from, to), l.WriterGap(from, to)
	g.cluster, g.writer = append(g.cluster, all.Length()), append(g.writer, one.Length())
	progress("%s in %.1f s: no write for %s (%.2f s after the start), one writer for %s", what, to.Sub(from).Seconds(), all, all.From.Sub(from).Seconds(), one)
}

// writeGaps replaces and kills leaders under one load, whose complete history
// is checked at the end.
func (b *bench) writeGaps(ctx context.Context) (bool, error) {
	q := newCluster(b.bed, "gaps", members)
	if err := found(ctx, q); err != nil {
		return false, err
	}
	config, err := q.reached.Load(ctx)
	if err != nil {
		return false, err
	}
	config.WriteRate, config.CheckTimeout = writeRate, stepTimeout
	l, err := load.Start(ctx, config)
	if err != nil {
		return false, fmt.Errorf("starting the load: %w", err)
	}
	defer l.Abort()
	planned, killed, failed := b.disturb(ctx, q, l)
	// What was measured before something failed is told all the same.
	report, err := l.Stop(ctx)
	fmt.Fprint(os.Stderr, report)
	if err := errors.Join(failed, err); err != nil {
		return false, err
	}
	ok := printLongest("write gap, leader replaced", planned.cluster, plannedLimit)
	ok = printLongest("the same of one writer", planned.writer, writerLimit) && ok
	ok = printLongest("write gap, leader killed", killed.cluster, killedLimit) && ok
	fmt.Printf("%-44s %10s %10d %7s %7d%s\n", fmt.Sprintf("lost of %d acknowledged writes", report.Operations["write"].Acknowledged), "",
		report.Lost, "", 0, above(float64(report.Lost), 0))
	return ok, q.remove(ctx)
}

func (b *bench) disturb(ctx context.Context, q *quorate, l *load.Load) (planned, killed gapSeries, err error) {
	var calm gapSeries
	start := time.Now()
	if err := pause(ctx, settling); err != nil {
		return planned, killed, err
	}
	calm.note(l, "nothing happened", start, time.Now())
	for i := range b.gaps {
		if err := b.replaceLeader(ctx, q, l, fmt.Sprintf("leader replaced %d", i+1), &planned); err != nil {
			return planned, killed, fmt.Errorf("replacement %d of the leader: %w", i+1, err)
		}
	}
	for i := range b.kills {
		if err := b.killLeader(ctx, q, l, fmt.Sprintf("leader killed %d", i+1), &killed); err != nil {
			return planned, killed, fmt.Errorf("kill %d of the leader: %w", i+1, err)
		}
	}
	return planned, killed, nil
}

// replaceLeader deletes the claim under the running leader, which hands over and
// is removed once its replacement has joined. A shrink would never measure it:
// the leader goes last of all, and never by choice, so that its replacement is
// the one planned change in which a leader must go.
func (b *bench) replaceLeader(ctx context.Context, q *quorate, l *load.Load, what string, gaps *gapSeries) error {
	now, err := rolesOf(ctx, q.reached)
	if err != nil {
		return err
	}
	members, err := openList(ctx, q.reached, now.followers...)
	if err != nil {
		return err
	}
	defer members.close()
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "data-" + now.leader}}
	start := l.Mark(what).At
	if err := b.c.Delete(ctx, claim); err != nil {
		return fmt.Errorf("deleting the claim of %s: %w", now.leader, err)
	}
	if err := members.becomes(ctx, len(now.voters), now.ids[now.leader]); err != nil {
		return fmt.Errorf("waiting for %s to be replaced: %w", now.leader, err)
	}
	if err := healthy(ctx, q.reached); err != nil {
		return err
	}
	gaps.note(l, what, start, time.Now())
	return nil
}

// killLeader kills etcd itself; the kubelet starts it again.
func (b *bench) killLeader(ctx context.Context, q *quorate, l *load.Load, what string, gaps *gapSeries) error {
	if err := pause(ctx, afterKill); err != nil {
		return err
	}
	now, err := rolesOf(ctx, q.reached)
	if err != nil {
		return err
	}
	start := l.Mark(what).At
	if err := q.reached.Signal(ctx, syscall.SIGKILL, now.leader); err != nil {
		return err
	}
	if err := pause(ctx, afterKill); err != nil {
		return err
	}
	if err := healthy(ctx, q.reached); err != nil {
		return err
	}
	gaps.note(l, what, start, time.Now())
	return nil
}
