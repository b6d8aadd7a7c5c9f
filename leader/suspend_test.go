package leader

import (
	"testing"
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
	term := newTerm(t.Context(), c, hooks{}, 1, deadline)
	if !term.lasts() {
		t.Fatal("the term does not last at its beginning")
	}
	c.at = instant{mono: time.Second, boot: 8 * time.Second}
	if term.lasts() || term.Check() == nil {
		t.Error("the term lasts by a clock that stood still")
	}
	if deadline.leftOnBoth(c.at) <= 0 {
		t.Error("somebody else's lease is over by one clock of two")
	}
}
