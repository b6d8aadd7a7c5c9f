package leader

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// standing is a clock that stands where it was put.
type standing struct{ at instant }

func (s *standing) now() instant    { return s.at }
func (s *standing) wall() time.Time { return time.Unix(0, 0) }
func (s *standing) after(time.Duration) (<-chan time.Time, func()) {
	return make(chan time.Time), func() {}
}

// TestSuspended: a machine that was suspended for longer than the claim lasts claims
// nothing when it wakes, before any timer of its own has run; and what somebody else
// holds is over only when both clocks say so.
func TestSuspended(t *testing.T) {
	c := &standing{}
	deadline := instant{}.add(7 * time.Second)
	term := newTerm(t.Context(), Config{clock: c, RenewDeadline: 7 * time.Second, LeaseDuration: 9 * time.Second}, 1, instant{})
	if !term.lasts() {
		t.Fatal("the term does not last at its beginning")
	}
	if got := term.Grace(); got != 9*time.Second {
		t.Errorf("others are kept out for %s", got)
	}
	c.at = instant{mono: time.Second, boot: 8 * time.Second}
	if got := term.Grace(); got != time.Second {
		t.Errorf("others are kept out for %s by a clock that stood still", got)
	}
	if term.lasts() || term.Check() == nil {
		t.Error("the term lasts by a clock that stood still")
	}
	if deadline.leftOnBoth(c.at) <= 0 {
		t.Error("somebody else's lease is over by one clock of two")
	}
}

// sleeper is a clock whose machine was suspended; its timers know nothing of that.
type sleeper struct {
	began time.Time
	slept time.Duration
}

func (s *sleeper) now() instant {
	mono := time.Since(s.began)
	return instant{mono, mono + s.slept}
}

func (*sleeper) wall() time.Time { return time.Now() }

func (*sleeper) after(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTimer(d)
	return t.C, func() { t.Stop() }
}

// TestSuspendedTimers: the work on a term ends soon after its machine has woken, although
// the timers have time left.
func TestSuspendedTimers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &sleeper{began: time.Now()}
		term := newTerm(t.Context(), Config{clock: c, RenewDeadline: 7 * time.Second, LeaseDuration: 9 * time.Second}, 1, c.now())
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		c.slept = time.Minute
		time.Sleep(250 * time.Millisecond)
		synctest.Wait()
		if !errors.Is(context.Cause(term.Context()), ErrLost) || term.Grace() != 0 {
			t.Errorf("the context has ended: %v; others are kept out for %s", term.Context().Err(), term.Grace())
		}
	})
}
