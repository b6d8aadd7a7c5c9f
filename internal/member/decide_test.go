package member

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	allMarkers = []MarkerState{MarkerAbsent, MarkerClaimed, MarkerBooted, MarkerForeign, MarkerCorrupt}
	allData    = []DataState{DataAbsent, DataLeftovers, DataLogUnusable, DataLogOnly, DataComplete, DataOdd}
	bothWays   = []bool{false, true}
)

// everyFact calls visit with every combination of facts.
func everyFact(visit func(Facts)) (count int) {
	for _, unreadable := range bothWays {
		for _, mayBeEmpty := range bothWays {
			for _, bootMark := range bothWays {
				for _, held := range bothWays {
					for _, marker := range allMarkers {
						for _, data := range allData {
							count++
							visit(Facts{unreadable, mayBeEmpty, bootMark, held, marker, data})
						}
					}
				}
			}
		}
	}
	return count
}

func (d Decision) starts() bool {
	return d.Action == StartOnData || d.Action == StartEmpty || d.Action == DiscardAndStart
}

// The properties are stated by enumeration of witnesses, not by the code's own
// notion of a used identity, so that a mistake there shows here.
func TestDecideKeepsItsPropertiesForAllFacts(t *testing.T) {
	properties := map[string]func(Facts, Decision) bool{
		"never starts without a log under an identity that the operator knows": func(f Facts, d Decision) bool {
			return !d.starts() || f.Data == DataComplete || f.MayBeEmpty
		},
		"never starts without a log in a pod that has booted": func(f Facts, d Decision) bool {
			return !d.starts() || f.Data == DataComplete || !f.BootMark
		},
		"never starts without a log on a volume that has booted": func(f Facts, d Decision) bool {
			return !d.starts() || f.Data == DataComplete || f.Marker != MarkerBooted
		},
		"never starts on another's or a damaged marker": func(f Facts, d Decision) bool {
			return !d.starts() || f.Marker == MarkerAbsent || f.Marker == MarkerClaimed || f.Marker == MarkerBooted
		},
		"never starts on data without a marker": func(f Facts, d Decision) bool {
			return !d.starts() || f.Marker != MarkerAbsent || f.Data == DataAbsent || f.Data == DataLeftovers
		},
		"never starts on a damaged or odd directory": func(f Facts, d Decision) bool {
			return !d.starts() || f.Data == DataAbsent || f.Data == DataLeftovers || f.Data == DataComplete
		},
		"never starts on what it could not read": func(f Facts, d Decision) bool {
			return !d.starts() || !f.Unreadable
		},
		"never starts while held": func(f Facts, d Decision) bool {
			return !d.starts() || !f.Held
		},
		"moves nothing but leftovers aside": func(f Facts, d Decision) bool {
			return (d.Action == DiscardAndStart) == (d.starts() && f.Data == DataLeftovers)
		},
		"starts on complete data of its own, whatever the annotations and marks": func(f Facts, d Decision) bool {
			own := f.Marker == MarkerClaimed || f.Marker == MarkerBooted
			return f.Unreadable || f.Held || !own || f.Data != DataComplete || d.Action == StartOnData
		},
		"starts an unused identity on an empty volume and on leftovers": func(f Facts, d Decision) bool {
			unused := f.MayBeEmpty && !f.BootMark && (f.Marker == MarkerAbsent || f.Marker == MarkerClaimed)
			empty := f.Data == DataAbsent || f.Data == DataLeftovers
			return f.Unreadable || f.Held || !unused || !empty || d.starts()
		},
		"a hold delays what would start, and hides no refusal": func(f Facts, d Decision) bool {
			free := f
			free.Held = false
			return !f.Held || (d.Action == Wait) == Decide(free).starts()
		},
		"gives a reason when it refuses, and only then": func(_ Facts, d Decision) bool {
			return (d.Action == Refuse) == (d.Reason != "")
		},
		"calls nothing lost that it could not read": func(f Facts, d Decision) bool {
			return !f.Unreadable || d.Reason == ReasonVolumeUnusable
		},
	}
	for name, holds := range properties {
		t.Run(name, func(t *testing.T) {
			count := everyFact(func(f Facts) {
				if d := Decide(f); !holds(f, d) {
					t.Errorf("Decide(%+v) = %+v", f, d)
				}
			})
			if count != 480 {
				t.Fatalf("enumerated %d combinations, want 480", count)
			}
		})
	}
}

func TestDecide(t *testing.T) {
	for name, tc := range map[string]struct {
		facts Facts
		want  Decision
	}{
		"first boot on a new volume":                           {Facts{MayBeEmpty: true}, Decision{Action: StartEmpty}},
		"first boot again after a crash between claim and log": {Facts{MayBeEmpty: true, Marker: MarkerClaimed}, Decision{Action: StartEmpty}},
		"first boot again after etcd left only snap/db":        {Facts{MayBeEmpty: true, Marker: MarkerClaimed, Data: DataLeftovers}, Decision{Action: DiscardAndStart}},
		"crash between log and mark":                           {Facts{MayBeEmpty: true, Marker: MarkerClaimed, Data: DataComplete}, Decision{Action: StartOnData}},
		"restart on its data":                                  {Facts{BootMark: true, Marker: MarkerBooted, Data: DataComplete}, Decision{Action: StartOnData}},
		"new pod on its volume, annotations not yet renewed":   {Facts{MayBeEmpty: true, Marker: MarkerBooted, Data: DataComplete}, Decision{Action: StartOnData}},
		"volume emptied between two containers":                {Facts{MayBeEmpty: true, BootMark: true}, refuse(ReasonDataMissing)},
		"volume emptied and pod made anew":                     {Facts{}, refuse(ReasonDataMissing)},
		"log removed, database left":                           {Facts{MayBeEmpty: true, Marker: MarkerBooted, Data: DataLeftovers}, refuse(ReasonDataMissing)},
		"database removed, log left":                           {Facts{MayBeEmpty: true, Marker: MarkerClaimed, Data: DataLogOnly}, refuse(ReasonDataMissing)},
		"log cut to nothing":                                   {Facts{MayBeEmpty: true, Marker: MarkerClaimed, Data: DataLogUnusable}, refuse(ReasonDataMissing)},
		"data under no marker":                                 {Facts{MayBeEmpty: true, Data: DataComplete}, refuse(ReasonForeignData)},
		"volume of another member":                             {Facts{Marker: MarkerForeign, Data: DataComplete}, refuse(ReasonForeignData)},
		"empty volume claimed by another member":               {Facts{MayBeEmpty: true, Marker: MarkerForeign}, refuse(ReasonForeignData)},
		"damaged marker":                                       {Facts{Marker: MarkerCorrupt, Data: DataComplete}, refuse(ReasonForeignData)},
		"data directory is a link":                             {Facts{MayBeEmpty: true, Data: DataOdd}, refuse(ReasonForeignData)},
		"disk does not answer":                                 {Facts{Unreadable: true}, refuse(ReasonVolumeUnusable)},
		"replacement before its MemberAdd":                     {Facts{MayBeEmpty: true, Held: true}, Decision{Action: Wait}},
		"replacement on a volume that was used":                {Facts{MayBeEmpty: true, Held: true, Marker: MarkerForeign}, refuse(ReasonForeignData)},
		"nothing known":                                        {Facts{}, refuse(ReasonDataMissing)},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, Decide(tc.facts)); diff != "" {
				t.Errorf("Decide(%+v) (-want +got):\n%s", tc.facts, diff)
			}
		})
	}
}

func TestExitCodesClashWithNobody(t *testing.T) {
	seen := map[int]Reason{}
	for _, reason := range []Reason{
		ReasonDataMissing, ReasonForeignData, ReasonLocked, ReasonVolumeUnusable,
		ReasonNoAnnotations, ReasonUsage, ReasonNotStarted, ReasonNotListening,
	} {
		code := reason.ExitCode()
		if code < 90 || code > 99 {
			t.Errorf("%s exits with %d, want 90 to 99", reason, code)
		}
		if other, twice := seen[code]; twice {
			t.Errorf("%s and %s both exit with %d", reason, other, code)
		}
		seen[code] = reason
	}
}

func ExampleDecide() {
	fmt.Println(Decide(Facts{Marker: MarkerBooted, Data: DataLeftovers}).Reason)
	// Output: DataMissing
}
