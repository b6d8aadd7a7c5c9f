// Package apitime tells the API server's time, by the Date of its answers. What a
// clock that was set wrong must not decide alone is asked of both clocks.
package apitime

import (
	"net/http"
	"sync"
	"time"
)

// Clock is the API server's. Between two answers it goes on by this machine's
// monotonic clock, which nobody can set.
type Clock struct {
	mu        sync.Mutex
	at, heard time.Time
}

// Wrap has the clock listen to what passes through a transport.
func (c *Clock) Wrap(next http.RoundTripper) http.RoundTripper { return listener{c, next} }

// Now is the API server's time; zero before its first answer.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at.IsZero() {
		return time.Time{}
	}
	return c.at.Add(time.Since(c.heard))
}

// Source is a clock beside the machine's own; nil where there is none.
type Source func() time.Time

// Earlier of the machine's time and the other one: what has passed by it has
// passed by both.
func (s Source) Earlier(local time.Time) time.Time {
	if s == nil {
		return local
	}
	if other := s(); other.Before(local) {
		return other
	}
	return local
}

// Later of the machine's time and the other one.
func (s Source) Later(local time.Time) time.Time {
	if s == nil {
		return local
	}
	if other := s(); other.After(local) {
		return other
	}
	return local
}

// Or the machine's time: the other one, if it is known. What the API server has put a
// time on is as old as its own clock says.
func (s Source) Or(local time.Time) time.Time {
	if s == nil {
		return local
	}
	if other := s(); !other.IsZero() {
		return other
	}
	return local
}

type listener struct {
	clock *Clock
	next  http.RoundTripper
}

func (l listener) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := l.next.RoundTrip(r)
	if err != nil {
		return answer, err
	}
	if at, err := http.ParseTime(answer.Header.Get("Date")); err == nil {
		l.clock.mu.Lock()
		l.clock.at, l.clock.heard = at, time.Now()
		l.clock.mu.Unlock()
	}
	return answer, nil
}
