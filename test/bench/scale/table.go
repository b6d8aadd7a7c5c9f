package main

import (
	"fmt"
	"io"
)

// table of figures.
type table struct{ rows []row }

type row struct {
	what    string
	figure  float64
	unit    string
	limit   float64
	limited bool
}

// note is a figure without a limit.
func (t *table) note(what string, figure float64, unit string) {
	t.add(row{what: what, figure: figure, unit: unit})
}

func (t *table) limit(what string, figure float64, unit string, limit float64) {
	t.add(row{what: what, figure: figure, unit: unit, limit: limit, limited: true})
}

func (t *table) add(r row) {
	t.rows = append(t.rows, r)
	say("%s: %.1f %s", r.what, r.figure, r.unit)
}

// print says whether every figure is within its limit.
func (t *table) print(to io.Writer) bool {
	ok := true
	fmt.Fprintf(to, "%-52s %10s %-4s %8s\n", "", "measured", "", "limit")
	for _, r := range t.rows {
		switch {
		case !r.limited:
			fmt.Fprintf(to, "%-52s %10.1f %-4s\n", r.what, r.figure, r.unit)
		case r.figure > r.limit:
			ok = false
			fmt.Fprintf(to, "%-52s %10.1f %-4s %8.0f  above the limit\n", r.what, r.figure, r.unit, r.limit)
		default:
			fmt.Fprintf(to, "%-52s %10.1f %-4s %8.0f  ok\n", r.what, r.figure, r.unit, r.limit)
		}
	}
	return ok
}
