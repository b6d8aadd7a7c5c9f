package main

import (
	"fmt"
	"io"
	"time"
)

// limits are the figures that the project has set itself.
const (
	medianLimit   = 50.0  // ms, SIGTERM
	p99Limit      = 200.0 // ms, SIGTERM
	killLimit     = 250.0 // ms beyond the ttl
	leaderLimit   = 0.33  // requests/s
	followerLimit = 0.002 // requests/s
	rssLimit      = 18.0  // MiB
	crowdLimit    = 64.0  // MiB
	binaryLimit   = 16.0  // MB
)

// row of the table: a figure of every subject, and the limit of the first one's.
type row struct {
	what, format string
	figure       func(*subject) float64
	limit        float64
}

// rows of the table.
func rows(ours *subject, clients int) []row {
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	return []row{
		{"SIGTERM to a new leader, median, ms", "%.0f", func(s *subject) float64 { return ms(quantile(s.figures.terminated, 0.5)) }, medianLimit},
		{"SIGTERM to a new leader, p99, ms", "%.0f", func(s *subject) float64 { return ms(quantile(s.figures.terminated, 0.99)) }, p99Limit},
		{"kill -9 to a new leader, median, ms", "%.0f", func(s *subject) float64 { return ms(quantile(s.figures.killed, 0.5)) }, none},
		{"kill -9 to a new leader, longest, ms", "%.0f", func(s *subject) float64 { return ms(quantile(s.figures.killed, 1)) }, ms(ours.ttl) + killLimit},
		{"requests/s of the leader at rest", "%.3f", func(s *subject) float64 { return s.figures.leader }, leaderLimit},
		{"requests/s of a follower at rest", "%.3f", func(s *subject) float64 { return s.figures.follower }, followerLimit},
		{"memory at rest (RSS), MiB", "%.1f", func(s *subject) float64 { return float64(s.figures.rss) / 1024 }, rssLimit},
		{"binary, MB", "%.1f", func(s *subject) float64 { return float64(s.figures.binary) / 1e6 }, binaryLimit},
		{fmt.Sprintf("memory with %d clients, MiB", clients), "%.1f", func(s *subject) float64 { return float64(s.figures.crowded) / 1024 }, crowdLimit},
		{"two claim at once, times", "%.0f", func(s *subject) float64 { return float64(s.figures.both) }, 0},
	}
}

// report prints the table, and says whether all figures of ours are within their
// limits. What client-go's candidates cannot be asked is left out.
func report(to io.Writer, subjects []*subject, clients int) bool {
	ours := subjects[0]
	fmt.Fprintf(to, "%-44s", fmt.Sprintf("SIGTERM %d times, kill -9 %d times", len(ours.figures.terminated), len(ours.figures.killed)))
	for _, s := range subjects {
		fmt.Fprintf(to, " %18s", s.name)
	}
	fmt.Fprintf(to, " %8s\n", "limit")
	ok, all := true, rows(ours, clients)
	for i, r := range all {
		known := subjects
		if i >= len(all)-2 {
			known = subjects[:1]
		}
		ok = r.print(to, known) && ok
	}
	return ok
}

// none is no limit.
const none = -1

// print the row, for the subjects of which the figure is known.
func (r row) print(to io.Writer, subjects []*subject) bool {
	fmt.Fprintf(to, "%-44s", r.what)
	for i := range 3 {
		text := ""
		if i < len(subjects) {
			text = fmt.Sprintf(r.format, r.figure(subjects[i]))
		}
		fmt.Fprintf(to, " %18s", text)
	}
	if r.limit == none {
		fmt.Fprintf(to, " %8s\n", "-")
		return true
	}
	ok, above := r.figure(subjects[0]) <= r.limit, ""
	if !ok {
		above = "  above the limit"
	}
	fmt.Fprintf(to, " %8g%s\n", r.limit, above)
	return ok
}
