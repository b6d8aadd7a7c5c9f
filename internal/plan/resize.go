package plan

import (
	"fmt"
	"slices"
)

// resize changes the CPU and memory of running pods, one pod at a time, so that a limit
// that is too small is noticed at the first of them. Nobody restarts for it, so it may be
// what an unhealthy member needs: such a one is first, whatever the others are.
func resize(o Observed) (Step, bool) {
	due := func(m Member) bool { return m.PodResize && m.Pod == PodRunning && !m.Held }
	i := slices.IndexFunc(o.Members, func(m Member) bool { return due(m) && !m.Healthy() })
	if i < 0 {
		i = slices.IndexFunc(o.Members, due)
	}
	if i < 0 {
		return Step{}, false
	}
	m := o.Members[i]
	busy := slices.ContainsFunc(o.Members, func(m Member) bool { return m.PodResizing || !m.Healthy() })
	return Step{Kind: ResizePod, Members: []string{m.Name}, Reason: "Resizing", Message: fmt.Sprintf(
		"giving %s the CPU and memory of the spec while it runs", m.Name)}, !m.Healthy() || !busy
}

// resizeWait says what the next pod waits for.
func resizeWait(o Observed) (Step, bool) {
	who := names(o.Members, func(m Member) bool { return m.PodResize || m.PodResizing })
	return Step{Kind: Wait, Members: who, Reason: "Resizing", Message: fmt.Sprintf(
		"the CPU and memory of %s do not follow the spec yet: the one before must have them and be healthy%s", abbreviate(who), troubles(o))}, len(who) > 0
}
