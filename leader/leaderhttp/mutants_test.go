package leaderhttp

import (
	"testing"

	"github.com/quorate/quorate/test/mutants"
)

// breaches are changes of the source, each of which lets an answer hold for too long.
var breaches = map[string]mutants.Mutant{
	"an answer holds for ever":            mutants.Of("leaderhttp.go", "return a.state.IsLeader && a.Remaining() > 0", "return a.state.IsLeader"),
	"an answer counts from when it comes": mutants.Of("leaderhttp.go", "return answer(s, began), nil", "_ = began\n\treturn answer(s, time.Now()), nil"),
	"a suspended machine's answer holds":  mutants.Of("leaderhttp.go", "min(a.until.Sub(now), a.wall.Sub(now.Round(0)))", "a.until.Sub(now)"),
	"the wall clock alone decides":        mutants.Of("leaderhttp.go", "min(a.until.Sub(now), a.wall.Sub(now.Round(0)))", "a.wall.Sub(now.Round(0))"),
	"an error is an answer":               mutants.Of("leaderhttp.go", "if answer.StatusCode != http.StatusOK {", "if false {"),
}

// TestMutantsHaveTheirPlace wants what the mutants change to be there.
func TestMutantsHaveTheirPlace(t *testing.T) { mutants.Placed(t, breaches) }

// TestMutants runs the other tests against each mutant.
func TestMutants(t *testing.T) {
	mutants.Caught(t, breaches, "-run=^Test(Clocks|AnswerRunsOut|NoAnswer)$")
}
