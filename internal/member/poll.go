package member

import (
	"context"
	"errors"
	"time"
)

// stopError ends a poll before its bound.
type stopError struct{ error }

func (s *stopError) Unwrap() error { return s.error }

func stop(err error) error { return &stopError{err} }

// poll asks done now and then every interval, until it returns nil or a stop, ctx
// ends, or the bound has passed (0: never). It returns done's last error, or the
// cause of ctx's end.
func poll(ctx context.Context, interval, bound time.Duration, done func() error) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	var expired <-chan time.Time
	if bound > 0 {
		timer := time.NewTimer(bound)
		defer timer.Stop()
		expired = timer.C
	}
	for {
		err := done()
		var stopped *stopError
		if err == nil || errors.As(err, &stopped) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-expired:
			return err
		case <-ticker.C:
		}
	}
}
