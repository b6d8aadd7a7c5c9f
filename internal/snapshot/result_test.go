package snapshot

import (
	"testing"
	"time"
)

// A process that tries again says why, and what comes next.
func TestStory(t *testing.T) {
	trouble := &Trouble{Reason: ReasonStoreUnreachable, Message: "no — because — do"}
	for want, p := range map[string]Progress{
		"":                   {Attempt: 2},
		"Downloading, try 2": {Phase: PhaseDownloading, Attempt: 2},
		"Starting, try 1: no — because — do; it is being tried again":   {Trouble: trouble},
		"Saving, try 3: no — because — do; it is tried again after 20s": {Phase: PhaseSaving, Attempt: 3, Trouble: trouble, Pause: 20 * time.Second},
	} {
		if got := p.Story(); got != want {
			t.Errorf("%+v: %q, want %q", p, got, want)
		}
	}
}

// A drill that has shown a backup to be bad is not made again by the same Job; work that may
// have met a broken connection is.
func TestPermanent(t *testing.T) {
	for _, tc := range []struct {
		operation Operation
		reason    Reason
		want      bool
	}{
		{OperationDrill, ReasonCorrupt, true},
		{OperationDrill, ReasonDiffers, true},
		{OperationDrill, ReasonCompacted, true},
		{OperationSave, ReasonCompacted, false},
		{OperationDrill, ReasonStoreUnreachable, false},
		{OperationDrill, ReasonInterrupted, false},
		{OperationRestore, ReasonCorrupt, false},
		{OperationSave, ReasonCorrupt, false},
		{OperationSave, ReasonAccessDenied, true},
	} {
		if got := (Result{Operation: tc.operation, Reason: tc.reason}).Permanent(); got != tc.want {
			t.Errorf("%s that ends with %s: %v", tc.operation, tc.reason, got)
		}
	}
}
