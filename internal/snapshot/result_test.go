package snapshot

import "testing"

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
