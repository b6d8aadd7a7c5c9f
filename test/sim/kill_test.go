package sim

import (
	"fmt"
	"testing"
	"time"
)

func TestKilledAtAnyCallTheEndIsTheSame(t *testing.T) {
	for _, f := range workflows() {
		t.Run(f.name, func(t *testing.T) {
			began := time.Now()
			calls, want := f.undisturbed(t)
			points := killPoints(calls)
			each(t, len(points), func(i int) error {
				w := f.start()
				w.Hook = KillAt(points[i].key, points[i].at)
				return f.verify(w, want, fmt.Sprintf("killed at %s, moment %d", points[i].key, points[i].at))
			})
			t.Logf("%d calls, %d kill points, %v", len(calls), len(points), time.Since(began).Round(time.Millisecond))
		})
	}
}

func TestUndisturbedWorkflowsEndHealthyAndRest(t *testing.T) {
	for _, f := range workflows() {
		t.Run(f.name, func(t *testing.T) { f.undisturbed(t) })
	}
}
