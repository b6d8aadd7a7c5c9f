package main

import (
	"context"
	"fmt"
	"time"
)

// Limits of a change of size, from the edit until etcd lists that many voters.
const (
	limit1to3 = 12 * time.Second
	limit3to5 = 6 * time.Second
	limit5to3 = 2 * time.Second
)

// settling is how long a cluster rests before its members change: etcd refuses
// that within 5 s of the last connection between two of them.
const settling = 10 * time.Second

// resized is how long a change of size took, from the edit.
type resized struct {
	// voters: until etcd's list has them; ready: until all pods are, too.
	voters, ready []time.Duration
}

// sizes takes clusters from one member to three, to five, and back to three.
func (b *bench) sizes(ctx context.Context) (bool, error) {
	var up3, up5, down3 resized
	for run := range b.runs {
		q := newCluster(b.bed, fmt.Sprintf("sized%d", run), 1)
		if err := found(ctx, q); err != nil {
			return false, err
		}
		for _, step := range []struct {
			size int
			took *resized
		}{{3, &up3}, {5, &up5}, {3, &down3}} {
			if err := b.resize(ctx, q, step.size, step.took); err != nil {
				return false, fmt.Errorf("run %d, to %d members: %w", run+1, step.size, err)
			}
		}
		progress("run %d  voters (pods Ready)  1 → 3 %.2f (%.2f) s   3 → 5 %.2f (%.2f) s   5 → 3 %.2f (%.2f) s", run+1,
			up3.voters[run].Seconds(), up3.ready[run].Seconds(), up5.voters[run].Seconds(), up5.ready[run].Seconds(), down3.voters[run].Seconds(), down3.ready[run].Seconds())
		if err := q.remove(ctx); err != nil {
			return false, err
		}
	}
	ok := printMedian("1 → 3 voters", up3.voters, limit1to3)
	printUnlimited("1 → 3, all Ready", up3.ready)
	ok = printMedian("3 → 5 voters", up5.voters, limit3to5) && ok
	printUnlimited("3 → 5, all Ready", up5.ready)
	return printMedian("5 → 3 voters", down3.voters, limit5to3) && ok, nil
}

// resize edits the size of a cluster that has been healthy for a while.
func (b *bench) resize(ctx context.Context, q *quorate, size int, took *resized) error {
	if err := pause(ctx, settling); err != nil {
		return err
	}
	now, err := rolesOf(ctx, q.reached)
	if err != nil {
		return err
	}
	// The leader is never the one that goes, unless nobody else can.
	members, err := openList(ctx, q.reached, now.leader)
	if err != nil {
		return err
	}
	defer members.close()
	start := time.Now()
	if err := q.reached.Edit(ctx, fmt.Sprintf(`{"spec":{"size":%d}}`, size)); err != nil {
		return err
	}
	if err := members.becomes(ctx, size, 0); err != nil {
		return fmt.Errorf("waiting for %d voters: %w", size, err)
	}
	took.voters = append(took.voters, time.Since(start))
	if err := podsReady(ctx, q, size); err != nil {
		return fmt.Errorf("waiting for %d pods: %w", size, err)
	}
	took.ready = append(took.ready, time.Since(start))
	return healthy(ctx, q.reached)
}
