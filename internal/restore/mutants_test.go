package restore

import (
	"testing"

	"github.com/quorate/quorate/test/mutants"
)

// breaches are changes of the source, each of which gives up a rule. A test that no
// longer fails for one of them has stopped to guard that rule.
var breaches = map[string]mutants.Mutant{
	"members stop before the safety backup is there": mutants.Of("decide.go", "case s.Complete && (s.Verified || !o.Drill):", "case s.Exists:"),
	"it is not tried out although that is wanted":    mutants.Of("decide.go", "case s.Complete && (s.Verified || !o.Drill):", "case s.Complete:"),
	"one that failed is waited for":                  mutants.Of("decide.go", "case s.Failed && !o.Skip:", "case false:"),
	"somebody else's backup counts":                  mutants.Of("decide.go", "case s.Foreign && !o.Skip:", "case false:"),
	"it is skipped unasked":                          mutants.Of("decide.go", "case o.Skip:", "case true:"),
	"what cannot be restored is prepared":            mutants.Of("decide.go", "\tcase o.Blocked != \"\":\n\t\treturn soon", "\tcase false:\n\t\treturn soon"),
	"two are under way at once":                      mutants.Of("decide.go", "case o.Ahead != \"\":", "case false:"),
	"another cluster of the name is carried back":    mutants.Of("decide.go", "case o.Cluster.UID != o.ClusterUID:", "case false:"),
	"it is carried out twice":                        mutants.Of("decide.go", "case o.Cluster.Incarnation > o.Incarnation:", "case o.Cluster.Raised:"),
	"another's incarnation is called its own":        mutants.Of("decide.go", "case !o.Prepared || !o.Cluster.Raised:", "case !o.Prepared:"),
	"it begins while the cluster is paused":          mutants.Of("decide.go", "case o.Cluster.Paused:", "case false:"),
	"what was given up goes on":                      mutants.Of("decide.go", "case o.Deleting, o.Failed, o.Done:", "case o.Deleting, o.Done:"),
	"what is taken back goes on":                     mutants.Of("decide.go", "case o.Deleting, o.Failed, o.Done:", "case o.Failed, o.Done:"),
	"it is done before the cluster serves":           mutants.Of("decide.go", "case o.Cluster.Founded && o.Cluster.Serves:", "case true:"),
	"members stop before the backup was looked at":   mutants.Of("decide.go", "case !o.Look.Done:", "case o.Look.Failed:"),
	"what was found long ago counts":                 mutants.Of("decide.go", "case o.Look.Old && o.safe():", "case false:"),
	"one that cannot be read is waited for":          mutants.Of("decide.go", "case l.Failed:", "case false:"),
	"what somebody else's Job has found counts":      mutants.Of("decide.go", "case l.Foreign:", "case false:"),
	"it begins whenever it can":                      mutants.Of("decide.go", "case o.Age > BeginsWithin:", "case false:"),
	"it waits for ever":                              mutants.Of("decide.go", "if o.Age <= BeginsWithin {", "if true {"),
	"nothing is put on record":                       mutants.Of("status.go", "if o.Err == nil {\n\t\trecord(s, o)", "if false {\n\t\trecord(s, o)"),
}

// TestMutantsHaveTheirPlace wants what the mutants change to be there.
func TestMutantsHaveTheirPlace(t *testing.T) { mutants.Placed(t, breaches) }

// TestMutants runs the guards against each mutant.
func TestMutants(t *testing.T) { mutants.Caught(t, breaches, "-skip=^TestMutants$") }
