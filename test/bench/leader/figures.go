package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// figures of one subject.
type figures struct {
	terminated, killed []time.Duration
	// both is how often two said that they led when all were asked.
	both int
	// leader and follower are requests per second at rest.
	leader, follower float64
	// rss is that of the largest candidate at rest, and crowded that of the one with
	// all the clients, in KiB.
	rss, crowded int64
	// binary is the program's size in bytes.
	binary int64
}

// atRest counts requests, and weighs.
func (b *bench) atRest(ctx context.Context, subjects []*subject) error {
	// The first requests of all are not rest.
	if err := pause(ctx, 5*time.Second); err != nil {
		return err
	}
	before := map[string]float64{}
	if err := count(ctx, subjects, before); err != nil {
		return err
	}
	began := time.Now()
	if err := pause(ctx, b.rest); err != nil {
		return err
	}
	after := map[string]float64{}
	if err := count(ctx, subjects, after); err != nil {
		return err
	}
	took := time.Since(began).Seconds()
	for _, s := range subjects {
		for id, c := range s.running {
			rate := (after[id] - before[id]) / took
			if id == s.leader {
				s.figures.leader = rate
			} else {
				s.figures.follower = max(s.figures.follower, rate)
			}
			kib, err := c.rss()
			if err != nil {
				return err
			}
			s.figures.rss = max(s.figures.rss, kib)
		}
		info, err := os.Stat(s.program)
		if err != nil {
			return fmt.Errorf("weighing %s: %w", s.name, err)
		}
		s.figures.binary = info.Size()
	}
	return nil
}

// count the requests that each candidate has made so far.
func count(ctx context.Context, subjects []*subject, to map[string]float64) error {
	for _, s := range subjects {
		for id, c := range s.running {
			_, body, err := get(ctx, "http://"+c.address+"/metrics")
			if err != nil {
				return fmt.Errorf("counting the requests of %s: %w", id, err)
			}
			for line := range strings.Lines(body) {
				if words := strings.Fields(line); len(words) == 2 && strings.HasPrefix(line, "leader_elector_api_requests_total") {
					n, _ := strconv.ParseFloat(words[1], 64)
					to[id] += n
				}
			}
		}
	}
	return nil
}

// crowd has many clients follow the leader's events for some renewals.
func (b *bench) crowd(ctx context.Context, s *subject) error {
	c := s.running[s.leader]
	ctx, hangUp := context.WithCancel(ctx)
	defer hangUp()
	heard := make(chan error, b.clients)
	for range b.clients {
		go listen(ctx, "http://"+c.address+"/v1/watch", heard)
	}
	for range b.clients {
		if err := <-heard; err != nil {
			return fmt.Errorf("following the events: %w", err)
		}
	}
	if err := pause(ctx, s.ttl); err != nil {
		return err
	}
	var err error
	s.figures.crowded, err = c.rss()
	return err
}

// listen to events until the context ends, and say when the first one has come.
func listen(ctx context.Context, url string, heard chan<- error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		heard <- err
		return
	}
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		heard <- err
		return
	}
	defer answer.Body.Close()
	_, err = answer.Body.Read(make([]byte, 1))
	heard <- err
	_, _ = io.Copy(io.Discard, answer.Body)
}

// get asks a candidate.
func get(ctx context.Context, url string) (int, string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, "", err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(body), err
}

// field of a file in /proc.
func field(text, name string) int64 {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n
		}
	}
	return 0
}

// until asks again and again, for stepTimeout at most.
func until(ctx context.Context, is func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	for !is() {
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// quantile of a series: the smallest value that so many of it are not above.
func quantile(series []time.Duration, part float64) time.Duration {
	sorted := slices.Sorted(slices.Values(series))
	return sorted[min(len(sorted)-1, int(part*float64(len(sorted))))]
}

// loadAverage of the last minute: figures from a busy machine say little.
func loadAverage() string {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	minute, _, _ := strings.Cut(string(raw), " ")
	return minute
}
