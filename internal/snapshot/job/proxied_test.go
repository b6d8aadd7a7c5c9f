package job

import (
	"net/http"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/snapshot"
)

// While a proxy answers that it knows no such store, no backup is missing, unfinished or
// deleted, and none goes.
func TestPruneThroughAProxyThatHasLostTheStore(t *testing.T) {
	f := &faults{hidden: called(snapshot.ManifestObject)} // a listing from before
	through, direct, _ := served(t, f)
	m := stored(t, direct, 7, snapshot.CompressionNone)
	f.answered = func(w http.ResponseWriter, r *http.Request) bool {
		lost := !r.URL.Query().Has("list-type") && !r.URL.Query().Has("uploads")
		if lost {
			http.Error(w, "default backend - 404", http.StatusNotFound)
		}
		return lost
	}
	if _, err := through.find(t.Context(), m.ID); snapshot.ReasonOf(err) != snapshot.ReasonStoreUnreachable {
		t.Errorf("looking for it: %v", err)
	}
	if pruned, _, err := through.Prune(t.Context(), Prune{OrphansAfter: -1}); err != nil || pruned.Orphans != 0 {
		t.Errorf("pruned %+v (%v)", pruned, err)
	}
	f.hidden = nil
	pruned, warnings, err := through.Prune(t.Context(), Prune{Drop: []string{m.ID}})
	told := err != nil || strings.Contains(strings.Join(warnings, " "), "404") || strings.Contains(strings.Join(warnings, " "), "NotFound")
	if pruned.DroppedCount != 0 || !told {
		t.Errorf("dropped %+v, warnings %q (%v)", pruned, warnings, err)
	}
	if _, err := direct.find(t.Context(), m.ID); err != nil {
		t.Errorf("it is gone: %v", err)
	}
}
