package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// progress writes one plain line for each part that is done, with the time it took.
type progress struct {
	mu      sync.Mutex
	out     io.Writer
	started time.Time
}

func newProgress(out io.Writer) *progress {
	return &progress{out: out, started: time.Now()}
}

// say writes one line behind the seconds since the start.
func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, "[%6.1fs] %s\n", time.Since(p.started).Seconds(), fmt.Sprintf(format, args...))
}

// step carries out one part and says how long it took.
func (p *progress) step(name string, part func() error) error {
	began := time.Now()
	if err := part(); err != nil {
		return err
	}
	p.say("%s (%.1fs)", name, time.Since(began).Seconds())
	return nil
}
