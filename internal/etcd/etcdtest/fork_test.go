package etcdtest

import (
	"testing"
	"time"
)

// TestForksGoTheirOwnWays: what happens to one world does not happen to another.
func TestForksGoTheirOwnWays(t *testing.T) {
	b := newBench(t)
	b.found(3)
	if err := b.Put(b.ps[0], "before"); err != nil {
		t.Fatal(err)
	}
	now := b.time
	twin, twins := b.Fork(func() time.Time { return now })
	b.Wipe("pvc-1")
	b.Stop(b.ps[0])
	b.Stop(b.ps[1])
	if b.Ready(b.ps[2]) || !twin.Ready(twins[b.ps[2]]) || !twin.Disk("pvc-1").WAL {
		t.Error("the twin shares processes or disks with the world that it was forked from")
	}
	if err := twin.Put(twins[b.ps[1]], "after"); err != nil {
		t.Errorf("writing to the twin: %v", err)
	}
	if got := len(b.ps[2].store.log); got == len(twins[b.ps[2]].store.log) {
		t.Errorf("a write to the twin is in the log of the other world, of %d entries", got)
	}
	if v := twin.Violations(); len(v) > 0 {
		t.Errorf("the twin broke %v", v)
	}
}
