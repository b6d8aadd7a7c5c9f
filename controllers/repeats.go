package controllers

import (
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/internal/plan"
)

// repeats remembers the last step of each cluster. A step that is decided again
// has an effect that the caches have not heard of; deciding it again at once, for
// as long as they lag, would flood the API server with the same writes.
type repeats struct {
	mu   sync.Mutex
	last map[types.NamespacedName]repeated
}

type repeated struct {
	step  string
	times int
}

// pause until the next pass: what is due after the step, but after one that acts
// twice as long each time that it is the same, and whileWaiting at most.
func (r *repeats) pause(cluster types.NamespacedName, step plan.Step, due time.Duration) time.Duration {
	if due != again {
		r.forget(cluster)
		return due
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil {
		r.last = map[types.NamespacedName]repeated{}
	}
	now := repeated{step: fmt.Sprint(step.Kind, step.Members)}
	if was := r.last[cluster]; was.step == now.step {
		now.times = was.times + 1
	}
	r.last[cluster] = now
	return min(again<<min(now.times, 16), whileWaiting)
}

// forget a cluster that is gone, or that has come to a halt.
func (r *repeats) forget(cluster types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.last, cluster)
}
