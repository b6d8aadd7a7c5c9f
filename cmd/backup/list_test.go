package main

import (
	"testing"

	"github.com/quorate/quorate/internal/snapshot/job"
)

// An archive of a cluster that nobody has written to holds no revision, and does not say that it
// holds those from the next one to the last.
func TestAnEmptyArchiveIsListedAsSuch(t *testing.T) {
	for want, a := range map[string]job.Archived{"nothing yet": {From: 8, To: 7}, "revisions 8 to 8": {From: 8, To: 8}} {
		if got := archived(a); got != want {
			t.Errorf("%+v is listed as %q, want %q", a, got, want)
		}
	}
}
