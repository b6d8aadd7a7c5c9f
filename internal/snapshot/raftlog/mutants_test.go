package raftlog

import (
	"testing"

	"github.com/quorate/quorate/test/mutants"
)

// breaches give up a rule of reading and of committing a log each.
var breaches = map[string]mutants.Mutant{
	"a checksum is not looked at":             mutants.Of("raftlog.go", "if next != sum {", "if false {"),
	"a missing file is not missed":            mutants.Of("raftlog.go", "if l.sum != 0 && l.sum != sum {", "if false {"),
	"damage is taken for the end":             mutants.Of("raftlog.go", "if !slices.ContainsFunc(content[:n], func(b byte) bool { return b != 0 }) {", "if true {"),
	"a torn end is taken for damage":          mutants.Of("raftlog.go", "case errors.Is(err, errTorn) && i == len(names)-1:", "case i < 0:"),
	"entries that were replaced are left":     mutants.Of("raftlog.go", "l.runs[len(l.runs)-1].from >= index {", "l.runs[len(l.runs)-1].from > index+9 {"),
	"what a leader's snapshot replaced stays": mutants.Of("raftlog.go", "l.runs, l.index = []run{{from: index, term: term}}, index", "l.index = max(l.index, index)"),
	"half a record is left behind the mark":   mutants.Of("raftlog.go", "if err := file.Truncate(e.valid); err != nil {\n\t\treturn err\n\t}", ""),
	"the vote is forgotten":                   mutants.Of("raftlog.go", "s := e.state\n", "s := state{}\n"),
	"nothing is committed":                    mutants.Of("raftlog.go", "max(s.term, e.Term), e.Index", "max(s.term, e.Term), e.Committed"),
}

// TestMutantsHaveTheirPlace wants what the mutants change to be there.
func TestMutantsHaveTheirPlace(t *testing.T) { mutants.Placed(t, breaches) }

// TestMutants runs the other tests of this package against each.
func TestMutants(t *testing.T) {
	mutants.Caught(t, breaches, "-run=^Test(Commit|Damage)$")
}
