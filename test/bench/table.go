package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

func printHeader(runs int) {
	fmt.Printf("%-44s %10s %10s %7s %7s\n", fmt.Sprintf("median of %d", runs), "bare", "quorate", "ratio", "limit")
}

// printMedian prints a series of durations and says whether its median is
// within the limit.
func printMedian(what string, series []time.Duration, limit time.Duration) bool {
	figure := median(series)
	fmt.Printf("%-44s %10s %8.2f s %7s %5.0f s%s\n", what, "", figure.Seconds(), "", limit.Seconds(), above(figure.Seconds(), limit.Seconds()))
	return figure <= limit
}

// printUnlimited prints the median of what has no limit of its own.
func printUnlimited(what string, series []time.Duration) {
	fmt.Printf("%-44s %10s %8.2f s %7s %7s\n", what, "", median(series).Seconds(), "", "-")
}

// printLongest prints a series of gaps and says whether the longest is within
// the limit.
func printLongest(what string, series []time.Duration, limit time.Duration) bool {
	figure := slices.Max(series)
	fmt.Printf("%-44s %10s %7d ms %7s %4d ms%s\n", fmt.Sprintf("%s, longest of %d", what, len(series)), "",
		figure.Milliseconds(), "", limit.Milliseconds(), above(figure.Seconds(), limit.Seconds()))
	return figure <= limit
}

// seconds of a series, for progress.
func seconds(series []time.Duration) string {
	var out []string
	for _, d := range series {
		out = append(out, fmt.Sprintf("%.2f", d.Seconds()))
	}
	return strings.Join(out, " ")
}

// pair of series.
type pair struct{ bare, ours []time.Duration }

func (p *pair) add(s subject, d ...time.Duration) {
	if _, bare := s.(*statefulSet); bare {
		p.bare = append(p.bare, d...)
		return
	}
	p.ours = append(p.ours, d...)
}

func (p *pair) print(what string, limit float64) bool {
	bare, ours := median(p.bare), median(p.ours)
	ratio := ours.Seconds() / bare.Seconds()
	fmt.Printf("%-44s %8.2f s %8.2f s %7.2f %7.2f%s\n", what, bare.Seconds(), ours.Seconds(), ratio, limit, above(ratio, limit))
	return ratio <= limit
}

func median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2]
}

// above says that a figure is above its limit.
func above(figure, limit float64) string {
	if figure <= limit {
		return ""
	}
	return "  above the limit"
}
