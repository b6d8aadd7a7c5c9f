package leader

import (
	"time"

	"golang.org/x/sys/unix"
)

// asleep is for how long the machine has been suspended since it has started: by that
// much its boot clock is ahead of its monotonic one.
func asleep() time.Duration {
	var boot, mono unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono) != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil {
		return 0
	}
	return time.Duration(boot.Nano() - mono.Nano())
}
