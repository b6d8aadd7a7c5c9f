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

// TestPruneOfAnArchive: what bounds an archive goes with no rule about backups, and says a time.
func TestPruneOfAnArchive(t *testing.T) {
	store := []string{"--store=s3://b", "--cluster-uid=u"}
	o, err := parse(snapshot.OperationPrune, append(store, "--points-since=2026-01-02T04:04:05+01:00"), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	p, err := o.pruning()
	if want := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC); err != nil || !p.PointsSince.Equal(want) {
		t.Errorf("points since %s stay (%v), want %s", p.PointsSince, err, want)
	}
	for _, flags := range [][]string{{"--points-since=yesterday"}, {"--points-since=2026-01-02T03:04:05Z", "--keep-last=3"}, {"--points-since=2026-01-02T03:04:05Z", "--drop=x"}} {
		if _, err := parse(snapshot.OperationPrune, append(store, flags...), io.Discard); snapshot.ReasonOf(err) != snapshot.ReasonUsage || strings.Count(err.Error(), " — ") != 2 {
			t.Errorf("%v: %v", flags, err)
		}
	}
	members := append(store, "--cluster-namespace=ns", "--cluster-name=c", "--cluster-id=a1", "--endpoints=https://a:2379")
	for every, want := range map[string]snapshot.Reason{"0s": "", "12h": "", "1m": snapshot.ReasonUsage} {
		if _, err := parse(snapshot.OperationArchive, append(members, "--base-every="+every), io.Discard); (err != nil) != (want != "") {
			t.Errorf("--base-every=%s: %v", every, err)
		}
	}
}

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
