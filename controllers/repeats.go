package controllers

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/internal/plan"
)

// repeats remembers the last step of each cluster. A step that is decided again
// has an effect that the caches have not heard of, or waits for something that
// has not come; deciding it again at once, for as long as that lasts, would flood
// the API server.
type repeats struct {
	mu   sync.Mutex
	last map[types.NamespacedName]repeated
}

type repeated struct {
	step  string
	times int
}

// pause until the next pass: what is due after the step. After one that acts it
// is twice as long each time that it is the same, and while the members change
// it grows by a fifth; whileWaiting at most.
func (r *repeats) pause(cluster types.NamespacedName, step plan.Step, due time.Duration) time.Duration {
	if due != again && due != whileChanging && due != afterStale && due != afterNotYet {
		r.forget(cluster)
		return due
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil {
		r.last = map[types.NamespacedName]repeated{}
	}
	// What etcd took at last is not what it did not take.
	now := repeated{step: fmt.Sprint(due, step.Kind, step.Members, step.ID)}
	if step.Kind == plan.Wait {
		now.step = step.Message
	}
	if was := r.last[cluster]; was.step == now.step {
		now.times = was.times + 1
	}
	r.last[cluster] = now
	if due != again {
		return min(due+time.Duration(now.times)*due/5, whileWaiting)
	}
	return min(again<<min(now.times, 16), whileWaiting)
}

// forget a cluster that is gone, or that has come to a halt.
func (r *repeats) forget(cluster types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.last, cluster)
}

// refusedSteps remembers what the API server refused of each cluster, so that a
// repair is not held up by a step that is refused for good.
type refusedSteps struct {
	mu    sync.Mutex
	kinds map[types.NamespacedName][]plan.Kind
}

// of are the kinds that were refused and have not succeeded since.
func (r *refusedSteps) of(cluster types.NamespacedName) []plan.Kind {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.kinds[cluster])
}

// note how a step went.
func (r *refusedSteps) note(cluster types.NamespacedName, step plan.Step, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	left := slices.DeleteFunc(r.kinds[cluster], func(k plan.Kind) bool { return k == step.Kind })
	if err != nil {
		left = append(left, step.Kind)
	}
	if r.kinds == nil {
		r.kinds = map[types.NamespacedName][]plan.Kind{}
	}
	if r.kinds[cluster] = left; len(left) == 0 {
		delete(r.kinds, cluster)
	}
}

// forget a cluster that is gone.
func (r *refusedSteps) forget(cluster types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.kinds, cluster)
}
