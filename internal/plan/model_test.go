package plan

import (
	"fmt"
	"os"
	"runtime/debug"
	"testing"
	"time"
)

// breaks names the rule that the modelled performer breaks, in a mutant: settled
// (it does not read the list again), reuse (it gives a name away a second time) or
// new (it lets members start on empty volumes after the latch).
var breaks = os.Getenv("QUORATE_MODEL_BREAKS")

// extent is where an exploration starts, and how far it goes.
type extent struct {
	size   int
	faults int
	// sizes that an edit may ask for.
	sizes []int
	// core leaves out the faults that others stand for.
	core bool
	// others adds what others do beside the operator: see strangers and pause.
	others bool
	// rolls adds edits of what pods are made from.
	rolls bool
}

func (f extent) String() string {
	which := "of all kinds"
	switch {
	case f.core:
		which = "of the core"
	case f.others:
		which = "of all kinds, others beside the operator"
	}
	if f.rolls {
		which += ", pods of older specs"
	}
	return fmt.Sprintf("%d founders, sizes %v, %d faults %s", f.size, f.sizes, f.faults, which)
}

// short is enough for the mutants, and usual is what fits into a minute or so of two
// cores that do nothing else. full is every kind of fault, three times where one or
// three founders are and twice with five: 144 million worlds, 20 minutes and 18 GiB, for
// make model.
var (
	short = []extent{
		{size: 1, faults: 2, sizes: []int{1}, core: true},
		{size: 1, faults: 1, sizes: []int{1, 3}},
		{size: 3, faults: 1, sizes: []int{1, 3}},
		{size: 3, faults: 1, sizes: []int{3}, core: true, rolls: true},
	}
	usual = []extent{
		{size: 1, faults: 2, sizes: []int{1, 3}},
		{size: 3, faults: 1, sizes: []int{1, 3, 5}},
		{size: 3, faults: 2, sizes: []int{3}},
		{size: 3, faults: 2, sizes: []int{1, 3}, core: true},
		{size: 3, faults: 3, sizes: []int{3}, core: true},
		{size: 5, faults: 1, sizes: []int{1, 3, 5}},
		{size: 5, faults: 2, sizes: []int{3, 5}, core: true},
		{size: 1, faults: 2, sizes: []int{1}, others: true},
		{size: 1, faults: 1, sizes: []int{1, 3}, others: true},
		{size: 3, faults: 1, sizes: []int{1, 3}, others: true},
		{size: 1, faults: 1, sizes: []int{1, 3}, rolls: true},
		{size: 3, faults: 2, sizes: []int{3}, rolls: true},
	}
	full = []extent{
		{size: 5, faults: 2, sizes: []int{3, 5}},
		{size: 3, faults: 2, sizes: []int{1, 3, 5}},
		{size: 3, faults: 3, sizes: []int{3}},
		{size: 1, faults: 3, sizes: []int{1, 3}},
		{size: 5, faults: 2, sizes: []int{1, 3, 5}},
		{size: 1, faults: 2, sizes: []int{1, 3}, others: true},
		{size: 3, faults: 2, sizes: []int{3}, others: true},
		{size: 3, faults: 3, sizes: []int{1, 3}},
		{size: 3, faults: 2, sizes: []int{3}, rolls: true},
		{size: 3, faults: 1, sizes: []int{1, 3}, others: true, rolls: true},
	}
)

// scope is the extent that is being explored.
var scope extent

// TestModel explores every world that a founding of each size can come to, with
// so many faults, while the policy decides, and holds it against the invariants.
func TestModel(t *testing.T) {
	foundings := usual
	switch {
	case testing.Short():
		foundings = short
	case os.Getenv("QUORATE_MODEL") == "full":
		foundings = full
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	for _, f := range foundings {
		t.Run(f.String(), func(t *testing.T) {
			began := time.Now()
			scope = f
			e := explore(found(f.size), f.faults)
			t.Logf("%d states, %d transitions, %d of the states beyond recovery, %d different looks, in %s",
				len(e.hashes), e.transitions, e.beyond(), e.mind.looks(), time.Since(began).Round(time.Millisecond))
			if n := e.mind.full.Load(); n > 0 {
				t.Errorf("%d times there was no slot for another name, and what comes after it was not explored", n)
			}
			if e.failure != nil {
				t.Error(e.story())
			}
		})
	}
}

// beyond counts the states in which a quorum of the data is lost.
func (e *explorer) beyond() int {
	n := 0
	for _, lost := range e.lost {
		if lost {
			n++
		}
	}
	return n
}
