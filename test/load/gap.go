package load

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Gap is a time in which no write was acknowledged, from one acknowledgement
// to the next.
type Gap struct {
	From, To time.Time
	// Open: nothing was acknowledged up to To, when the measurement ended.
	Open bool
}

// Length of the gap; 0 where nothing was measured.
func (g Gap) Length() time.Duration { return g.To.Sub(g.From) }

// String tells the length and when it began.
func (g Gap) String() string {
	text := fmt.Sprintf("%s at %s", g.Length().Round(100*time.Microsecond), g.From.Format("15:04:05.000"))
	if g.Open {
		text += " (not ended)"
	}
	return text
}

// MarshalJSON writes the length in milliseconds.
func (g Gap) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Milliseconds float64   `json:"milliseconds"`
		From         time.Time `json:"from"`
		To           time.Time `json:"to"`
		Open         bool      `json:"open,omitempty"`
	}{milliseconds(g.Length()), g.From, g.To, g.Open})
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// timeline is when writes were acknowledged, in nanoseconds since the load
// began, in order, and when the measurement ended.
type timeline struct {
	began time.Time
	acks  []int64
	end   int64
}

// longest gap that overlaps from..to. Where none does, its length is 0.
func (t timeline) longest(from, to time.Time) Gap {
	a, b := int64(from.Sub(t.began)), int64(to.Sub(t.began))
	var begin, end int64
	open := false
	consider := func(x, y int64, unended bool) {
		if x < b && y > a && y-x > end-begin {
			begin, end, open = x, y, unended
		}
	}
	// Acknowledgements before the one that precedes the window do not matter.
	first, _ := slices.BinarySearch(t.acks, a)
	for i := max(first, 1); i < len(t.acks); i++ {
		if t.acks[i-1] >= b {
			break
		}
		consider(t.acks[i-1], t.acks[i], false)
	}
	if n := len(t.acks); n > 0 {
		consider(t.acks[n-1], t.end, true)
	}
	return Gap{From: t.began.Add(time.Duration(begin)), To: t.began.Add(time.Duration(end)), Open: open}
}

// all is the longest gap of the whole measurement.
func (t timeline) all() Gap { return t.longest(t.began, t.began.Add(time.Duration(t.end))) }

// clusterTimeline has the acknowledgements of all writers.
func (l *Load) clusterTimeline(end time.Time) timeline {
	t := timeline{began: l.began, end: int64(end.Sub(l.began))}
	for _, w := range l.writers {
		t.acks = w.acknowledgements(t.acks)
	}
	slices.Sort(t.acks)
	return t
}

// worstWriter is the writer with the longest gap that overlaps from..to.
func (l *Load) worstWriter(end, from, to time.Time) (int, Gap) {
	index, worst := 0, Gap{}
	for _, w := range l.writers {
		if g := w.timeline(end).longest(from, to); g.Length() > worst.Length() {
			index, worst = w.index, g
		}
	}
	return index, worst
}
