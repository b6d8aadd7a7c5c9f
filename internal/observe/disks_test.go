package observe

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/plan"
)

// meter is what members have measured, by host.
type meter struct {
	fsyncs map[string]etcd.Fsyncs
	asked  int
	fails  bool
	// plaintext are the hosts that were asked without TLS.
	plaintext map[string]bool
}

func (m *meter) Fsyncs(_ context.Context, _ string, to etcd.Endpoint, _ etcd.Credentials) (etcd.Fsyncs, error) {
	m.asked++
	host, port, err := net.SplitHostPort(to.Address)
	if m.plaintext != nil {
		m.plaintext[host] = to.Plaintext
	}
	if m.fails || port != "2381" {
		return etcd.Fsyncs{}, etcd.ErrUnreachable
	}
	return m.fsyncs[host], err
}

// sync adds so many syncs of the third member, each of which took so long; its log grows
// by more.
func (m *meter) sync(w *world, n uint64, each time.Duration) {
	f := m.fsyncs[address(2)]
	m.fsyncs[address(2)] = etcd.Fsyncs{Count: f.Count + n, Took: f.Took + time.Duration(n)*each} //nolint:gosec // few
	if n > 0 {
		w.etcd.members[address(2)].status.Applied += n + manyEntries
	}
}

// TestMetricsAreReadAsTheyAreServed: without TLS for as long as plaintext is taken.
func TestMetricsAreReadAsTheyAreServed(t *testing.T) {
	w := founded(t)
	secure(t, w)
	madeIn(w, 2, v1alpha1.TLSOptional)
	m := &meter{fsyncs: map[string]etcd.Fsyncs{}, plaintext: map[string]bool{}}
	w.observer = &Observer{Dialer: w.etcd, Clock: w.clock, Meter: m}
	for i := range 3 {
		w.etcd.members[address(i)].status.Applied = manyEntries
	}
	w.see()
	if len(m.plaintext) != 3 || m.plaintext[address(0)] || !m.plaintext[address(2)] {
		t.Errorf("asked without TLS: %v", m.plaintext)
	}
}

// TestSlowDisks: some slow syncs in a row make a disk slow, from their beginning; some
// fast ones make it sound; few say nothing.
func TestSlowDisks(t *testing.T) {
	w := founded(t)
	m := &meter{fsyncs: map[string]etcd.Fsyncs{address(2): {Count: 1000, Took: time.Hour}}}
	w.observer = &Observer{Dialer: w.etcd, Clock: w.clock, Meter: m}
	w.etcd.members[address(2)].status.Applied = manyEntries
	for i, step := range []struct {
		after time.Duration
		syncs uint64
		each  time.Duration
		slow  time.Duration
		long  bool
	}{
		{0, 0, 0, 0, false}, // what was before counts for nothing
		{20 * time.Second, 10, 5 * time.Millisecond, 0, false},
		{20 * time.Second, 10, 300 * time.Millisecond, 250 * time.Millisecond, false},
		{20 * time.Second, 2, time.Second, 250 * time.Millisecond, false},             // few
		{20 * time.Second, 4, time.Second, time.Second, true},                         // slow since the third began
		{20 * time.Second, 10, 300 * time.Millisecond, time.Second, true},             // the worst is told
		{10 * time.Second, 10, time.Millisecond, time.Second, true},                   // too soon to be asked
		{20 * time.Second, 100, time.Millisecond, 0, false},                           // sound again
		{20 * time.Second, 10, 150 * time.Millisecond, 100 * time.Millisecond, false}, // and slow again: anew
		{5 * time.Minute, 0, 0, 100 * time.Millisecond, false},                        // nothing was written, so nothing was seen
		{6 * time.Minute, 0, 0, 0, false},                                             // and what was seen is forgotten
		{20 * time.Second, 10, 5 * time.Second, 5 * time.Second, true},                // 5 s and no more is told
		{20 * time.Second, 1 << 20, 0, 0, false},                                      // sound
		{20 * time.Second, 10, 99 * time.Millisecond, 0, false},                       // not yet slow
	} {
		w.advance(step.after)
		m.sync(w, step.syncs, step.each)
		got, _ := w.see().Member("a-0002")
		if got.SlowDisk != step.slow || got.SlowLong != step.long {
			t.Errorf("step %d: slow %s, long %t; want %s, %t", i, got.SlowDisk, got.SlowLong, step.slow, step.long)
		}
	}
}

// TestDisksAtRest: a member whose log does not grow is asked once; one that does not say
// is not slow; another process begins anew.
func TestDisksAtRest(t *testing.T) {
	w := founded(t)
	m := &meter{fsyncs: map[string]etcd.Fsyncs{}}
	w.observer = &Observer{Dialer: w.etcd, Clock: w.clock, Meter: m}
	for i := range 3 {
		w.etcd.members[address(i)].status.Applied = manyEntries
	}
	for range 10 {
		w.see()
		w.advance(time.Minute)
	}
	if m.asked != 3 {
		t.Errorf("members at rest were asked %d times, want once each", m.asked)
	}
	slow := func() plan.Member {
		m.sync(w, 10, time.Second)
		w.advance(time.Minute)
		got, _ := w.see().Member("a-0002")
		return got
	}
	if got := slow(); got.SlowDisk != time.Second {
		t.Errorf("slow %s, want 1s", got.SlowDisk)
	}
	m.fsyncs[address(2)] = etcd.Fsyncs{Count: 1, Took: time.Hour}
	w.etcd.members[address(2)].status.Applied += manyEntries
	w.advance(time.Minute)
	if got, _ := w.see().Member("a-0002"); got.SlowDisk != time.Second {
		t.Errorf("a new process has said nothing yet, and is slow %s", got.SlowDisk)
	}
	m.sync(w, 10, time.Millisecond)
	w.advance(time.Minute)
	if got, _ := w.see().Member("a-0002"); got.SlowDisk != 0 {
		t.Errorf("a new process is slow %s", got.SlowDisk)
	}
	m.fails = true
	if got := slow(); got.SlowDisk != 0 {
		t.Errorf("a member that does not say is slow %s", got.SlowDisk)
	}
}
