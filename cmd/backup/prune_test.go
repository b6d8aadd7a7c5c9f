package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/snapshot"
)

// TestPruneLeavesAloneWhatIsBeingMade: nothing is taken for left behind that the longest
// timeout of an EtcdBackup still lets somebody work on.
func TestPruneLeavesAloneWhatIsBeingMade(t *testing.T) {
	const longest = 168 * time.Hour
	types, err := os.ReadFile("../../api/v1alpha1/etcdbackup_types.go")
	if err != nil {
		t.Fatal(err)
	}
	if rule := fmt.Sprintf("duration(self) <= duration('%.0fh')", longest.Hours()); !strings.Contains(string(types), rule) {
		t.Errorf("the longest timeout is not %s any more", longest)
	}
	o, err := parse(snapshot.OperationPrune, []string{"--store=s3://b", "--cluster-uid=u", "--drop=x"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if o.prune.OrphansAfter <= longest {
		t.Errorf("an upload of %s is aborted, and a backup may take %s", o.prune.OrphansAfter, longest)
	}
}
