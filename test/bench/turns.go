package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/test/soak/testbed"
)

// Turns of the processes of Jobs, to run and to stand still: what disturbs the machine from outside
// comes and goes within minutes, and meets both alike.
const (
	runTurn = 5 * time.Second
	// stillTurn is less than a member has for an answer (five seconds), and leaves 1.2 GiB less
	// than the four and a half minutes after which a snapshot stands still to be hashed.
	stillTurn = 3 * time.Second
	// settlingStill is how long what was in the kernel when a process was stopped has to end: what
	// writes take meanwhile counts for neither.
	settlingStill = 500 * time.Millisecond
)

// span of time.
type span struct{ from, to time.Time }

// write that was acknowledged.
type write struct {
	began time.Time
	took  time.Duration
}

// split writes by whether it stood still meanwhile. Those that began while it was settling, or
// ended when it ran again, are left out.
func split(writes []write, stood []span) (still, busy []time.Duration) {
	for _, w := range writes {
		i := slices.IndexFunc(stood, func(s span) bool { return !w.began.Before(s.from) && w.began.Before(s.to) })
		switch {
		case i < 0:
			busy = append(busy, w.took)
		case w.began.Sub(stood[i].from) >= settlingStill && !w.began.Add(w.took).After(stood[i].to):
			still = append(still, w.took)
		}
	}
	return still, busy
}

// length of spans before a moment.
func length(spans []span, before time.Time) (sum time.Duration) {
	for _, s := range spans {
		if s.to.After(before) {
			s.to = before
		}
		sum += max(0, s.to.Sub(s.from))
	}
	return sum
}

// inTurns has the processes of Jobs run and stand still in turn until ctx ends, and says when they
// stood still. They run when it returns. While none of them runs, as when a pod starts, all that
// goes on is the backup's doing.
func (b *bench) inTurns(ctx context.Context) (stood []span, err error) {
	for err == nil && pause(ctx, runTurn) == nil {
		var still []int
		still, err = b.stopJobs(ctx)
		s := span{from: time.Now()}
		if len(still) == 0 {
			continue
		}
		_ = pause(ctx, stillTurn) // whoever ends it sooner has them go on
		for _, pid := range still {
			// A process may have been killed meanwhile.
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
		s.to = time.Now()
		stood = append(stood, s)
	}
	if ctx.Err() != nil {
		return stood, nil
	}
	return stood, err
}

// stopJobs stops the processes of Jobs, and returns which.
func (b *bench) stopJobs(ctx context.Context) (stopped []int, err error) {
	pods, err := b.bed.API.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "batch.kubernetes.io/job-name"})
	if err != nil {
		return nil, fmt.Errorf("listing the pods of Jobs: %w", err)
	}
	for _, pod := range pods.Items {
		// Once more for what was begun in between.
		for range 2 {
			found, err := working(pod)
			if err != nil {
				return stopped, err
			}
			stopped = append(stopped, found...)
			for _, pid := range found {
				if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil && !errors.Is(err, syscall.ESRCH) {
					return stopped, fmt.Errorf("stopping process %d of %s: %w", pid, pod.Name, err)
				}
			}
		}
	}
	return stopped, nil
}

// working are the processes of a pod, but for the one that only holds its network.
func working(pod corev1.Pod) ([]int, error) {
	all, err := testbed.Processes(pod, "")
	if err != nil {
		return nil, err
	}
	idle, err := testbed.Processes(pod, "/pause")
	return slices.DeleteFunc(all, func(pid int) bool { return slices.Contains(idle, pid) }), err
}
