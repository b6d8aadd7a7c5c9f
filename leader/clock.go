package leader

import "time"

// instant is a moment by two clocks of one machine. The monotonic clock stands still
// while a virtual machine is suspended, and the boot clock does not; where there is
// no boot clock both are the same.
type instant struct{ mono, boot time.Duration }

func (i instant) add(d time.Duration) instant { return instant{i.mono + d, i.boot + d} }

// left is how long it takes from now until either clock has come to the moment. What
// is ours ends when one of them says so.
func (i instant) left(now instant) time.Duration { return min(i.mono-now.mono, i.boot-now.boot) }

// leftOnBoth is how long it takes until both have. What is somebody else's is over
// when both say so.
func (i instant) leftOnBoth(now instant) time.Duration {
	return max(i.mono-now.mono, i.boot-now.boot)
}

// later of two moments, by each clock.
func (i instant) later(o instant) instant { return instant{max(i.mono, o.mono), max(i.boot, o.boot)} }

// clock is where an elector has its time from. No decision is taken by wall time,
// which is only written into the Lease for people and for others' displays.
type clock interface {
	now() instant
	wall() time.Time
	// after sends once, when the time has passed; stop ends that.
	after(time.Duration) (c <-chan time.Time, stop func())
}

type systemClock struct {
	began  time.Time
	asleep time.Duration
}

func newSystemClock() systemClock { return systemClock{time.Now(), asleep()} }

// blink is less than any suspension, and more than the two readings of asleep are
// apart.
const blink = 10 * time.Millisecond

func (c systemClock) now() instant {
	mono := time.Since(c.began)
	slept := asleep() - c.asleep
	if slept < blink {
		slept = 0
	}
	return instant{mono, mono + slept}
}

// wall has no more digits than a Lease can hold, so that what was written is known
// again when it is read.
func (systemClock) wall() time.Time { return time.Now().Truncate(time.Microsecond) }

func (systemClock) after(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTimer(d)
	return t.C, func() { t.Stop() }
}
