//go:build !linux

package leader

import "time"

func asleep() time.Duration { return 0 }
