package snapshot

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func backupAt(revision int64, at time.Time) Backup {
	return Backup{ID: NewID(revision, at, "b"), ClusterID: "1", Revision: revision, Began: at}
}

func ids(kept []Kept) []string {
	var out []string
	for _, k := range kept {
		out = append(out, k.ID)
	}
	return out
}

func TestRetainKeepsTheNewestOfEach(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	start := time.Date(2026, 3, 27, 22, 0, 0, 0, time.UTC)
	var all []Backup
	for i := range 100 { // one an hour, through the night in which an hour is missing
		all = append(all, backupAt(int64(100+i), start.Add(time.Duration(i)*time.Hour)))
	}
	for name, tc := range map[string]struct {
		policy Policy
		want   []int64
	}{
		"last":           {Policy{Last: 3}, []int64{199, 198, 197}},
		"hourly":         {Policy{Hourly: 3}, []int64{199, 198, 197}},
		"daily, UTC":     {Policy{Daily: 3}, []int64{199, 197, 173}},
		"daily, Berlin":  {Policy{Daily: 4, Location: berlin}, []int64{199, 195, 171, 147}},
		"weekly":         {Policy{Weekly: 2}, []int64{199, 149}},
		"last and daily": {Policy{Last: 2, Daily: 2}, []int64{199, 198, 197}},
	} {
		t.Run(name, func(t *testing.T) {
			keep, drop := Retain(tc.policy, all)
			var got []int64
			for _, k := range keep {
				got = append(got, k.Revision)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("kept (-want +got):\n%s", diff)
			}
			if len(keep)+len(drop) != len(all) {
				t.Errorf("%d kept and %d dropped of %d", len(keep), len(drop), len(all))
			}
		})
	}
}

// The number of digits of a revision grows, and names that are compared as strings
// would sort the newest first among the oldest.
func TestOrderIsByRevisionNotByNameOrClock(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	all := []Backup{backupAt(9, now), backupAt(10, now.Add(-time.Hour)), backupAt(100, now.Add(-2*time.Hour))}
	keep, _ := Retain(Policy{Last: 1}, all)
	if len(keep) != 1 || keep[0].Revision != 100 {
		t.Errorf("kept %v, want revision 100 although a clock was set back", ids(keep))
	}
}

// After a restore the cluster has another ID, and perhaps lower revisions.
func TestARestoredClustersBackupsAreNewer(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	old, restored := backupAt(1000, now), backupAt(50, now.Add(time.Hour))
	restored.ClusterID = "2"
	keep, _ := Retain(Policy{Last: 1}, []Backup{old, restored})
	if len(keep) != 1 || keep[0].ClusterID != "2" {
		t.Errorf("kept %v, want the one of the restored cluster", ids(keep))
	}
}

// Random sets and policies hold what Retain promises.
func TestRetainPromises(t *testing.T) {
	for seed := range uint64(3000) {
		random := rand.New(rand.NewPCG(seed, 7))
		all, policy := randomBackups(random), randomPolicy(random)
		before := slices.Clone(all)
		keep, drop := Retain(policy, all)
		wrong := func(format string, arguments ...any) {
			t.Fatalf("seed %d, policy %+v, %d backups: %s", seed, policy, len(all), fmt.Sprintf(format, arguments...))
		}
		if diff := cmp.Diff(before, all); diff != "" {
			wrong("the argument was changed")
		}
		seen := map[string]int{}
		for _, k := range keep {
			seen[k.ID]++
			if len(k.Reasons) == 0 {
				wrong("%s is kept without a reason", k.ID)
			}
		}
		for _, d := range drop {
			seen[d.ID]++
			if d.Reason == "" {
				wrong("%s is dropped without a reason", d.ID)
			}
		}
		if len(keep)+len(drop) != len(all) || len(seen) != len(all) {
			wrong("%d kept, %d dropped", len(keep), len(drop))
		}
		sorted := Newest(all)
		if len(all) > 0 && !slices.Contains(ids(keep), sorted[0].ID) {
			wrong("the newest is dropped")
		}
		if i := slices.IndexFunc(sorted, func(b Backup) bool { return b.Verified != nil }); i >= 0 && !slices.Contains(ids(keep), sorted[i].ID) {
			wrong("the newest verified one is dropped")
		}
		if policy.Empty() && len(drop) > 0 {
			wrong("no rule, and %d are dropped", len(drop))
		}
		if bound := max(0, policy.Last) + max(0, policy.Hourly) + max(0, policy.Daily) + max(0, policy.Weekly) + 2; !policy.Empty() && len(keep) > bound {
			wrong("%d are kept", len(keep))
		}
		// Which of two cluster IDs is the later one is told by the clock, and random
		// clocks have it change when some are dropped.
		again, none := Retain(policy, backupsOf(keep))
		if oneID := !slices.ContainsFunc(all, func(b Backup) bool { return b.ClusterID != all[0].ClusterID }); oneID && (len(none) > 0 || len(again) != len(keep)) {
			wrong("a second pass drops %d more", len(none))
		}
		random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		if shuffled, _ := Retain(policy, all); !slices.Equal(ids(shuffled), ids(keep)) {
			wrong("the order of the argument matters")
		}
	}
}

func backupsOf(kept []Kept) []Backup {
	out := make([]Backup, 0, len(kept))
	for _, k := range kept {
		out = append(out, k.Backup)
	}
	return out
}

func randomBackups(random *rand.Rand) []Backup {
	start := time.Date(2026, 10, 20, 0, 0, 0, 0, time.UTC)
	ids := 1 + random.IntN(2)
	var all []Backup
	for i := range random.IntN(40) {
		b := backupAt(random.Int64N(1000)+1, start.Add(time.Duration(random.Int64N(int64(30*24*time.Hour)))))
		b.ID += fmt.Sprint(i)
		b.ClusterID = fmt.Sprint(random.IntN(ids))
		if random.IntN(4) == 0 {
			b.Verified = &b.Began
		}
		all = append(all, b)
	}
	return all
}

func randomPolicy(random *rand.Rand) Policy {
	number := func() int { return max(-1, random.IntN(8)-3) }
	zone, err := time.LoadLocation([]string{"UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns"}[random.IntN(4)])
	if err != nil {
		panic(err)
	}
	return Policy{Last: number(), Hourly: number(), Daily: number(), Weekly: number(), Location: zone}
}

func TestResultsFitATerminationMessage(t *testing.T) {
	long := Result{Operation: OperationPrune, Outcome: OutcomeSucceeded, Reason: ReasonPruned, Message: strings.Repeat("wörds\n", 2000), Pruned: &Pruned{DroppedCount: 500}}
	for i := range 500 {
		long.Pruned.Dropped = append(long.Pruned.Dropped, Dropped{ID: fmt.Sprint(i), Reason: strings.Repeat("r", 50)})
		long.Warnings = append(long.Warnings, strings.Repeat("w", 500))
	}
	encoded := long.Encode()
	if len(encoded) > MaxResult {
		t.Errorf("%d bytes", len(encoded))
	}
	got, err := ParseResult(string(encoded))
	if err != nil {
		t.Fatal(err)
	}
	if got.Reason != ReasonPruned || got.Pruned.DroppedCount != 500 || got.Message == "" || strings.Contains(got.Message, "\n") {
		t.Errorf("result %+v", got)
	}
	if len(long.Pruned.Dropped) != 500 {
		t.Errorf("the result itself lost what did not fit")
	}
	for _, message := range []string{"", "panic: x", "{}", "null", `{"outcome":"Perhaps"}`} {
		if _, err := ParseResult(message); err == nil {
			t.Errorf("%q was taken for a result", message)
		}
	}
}

func TestPercent(t *testing.T) {
	for _, tc := range []struct {
		progress Progress
		want     int
	}{
		{Progress{}, 0},
		{Progress{BytesRead: 5}, 0},
		{Progress{TotalBytes: 200, BytesRead: 50}, 25},
		{Progress{TotalBytes: 200, BytesRead: 500}, 99},
		{Progress{Phase: PhaseDone}, 100},
	} {
		if got := tc.progress.Percent(); got != tc.want {
			t.Errorf("%+v: %d, want %d", tc.progress, got, tc.want)
		}
	}
}

// Of the bases that an archiver took those go that no point since a time needs, and nothing else.
func TestExpire(t *testing.T) {
	noon := time.Date(2026, 3, 27, 12, 0, 0, 0, time.UTC)
	// at hours after noon, at a revision of ten for each hour since midnight.
	at := func(hours int, changes ...func(*Backup)) Backup {
		b := backupAt(int64(120+10*hours), noon.Add(time.Duration(hours)*time.Hour))
		b.ArchiveBase = true
		for _, change := range changes {
			change(&b)
		}
		return b
	}
	users := func(b *Backup) { b.ArchiveBase = false }
	unfit := func(b *Backup) { b.Unfit = true }
	verified := func(b *Backup) { b.Verified = &b.Ended }
	earlier := func(b *Backup) { b.ClusterID = "0" }
	gone := func(revision int64) func(*Backup) { return func(b *Backup) { b.Revision = revision } }
	for name, tc := range map[string]struct {
		backups []Backup
		want    string
	}{
		"none":                               {nil, ""},
		"all are of after":                   {[]Backup{at(1), at(2)}, ""},
		"one is of before":                   {[]Backup{at(-1), at(2)}, ""},
		"the last of before stays":           {[]Backup{at(-3), at(-2), at(-1), at(2)}, "100 90"},
		"none is of after":                   {[]Backup{at(-3), at(-2)}, "90"},
		"of that very time":                  {[]Backup{at(-3), at(0)}, "90"},
		"a user's is never an archiver's":    {[]Backup{at(-4), at(-3, users), at(-2), at(-1, users)}, "80"},
		"a user's may go any day":            {[]Backup{at(-2), at(-1, users)}, ""},
		"the newest verified one stays":      {[]Backup{at(-4, verified), at(-3, verified), at(-2), at(-1)}, "100 80"},
		"a later one is verified":            {[]Backup{at(-3, verified), at(-1), at(2, verified)}, "90"},
		"an unfit one serves no point":       {[]Backup{at(-3), at(-2), at(-1, unfit)}, "90"},
		"of before a restore in place":       {[]Backup{at(-3, earlier), at(-2, earlier), at(-1), at(2)}, "100 90"},
		"a restore in place since":           {[]Backup{at(-3, earlier), at(-2, earlier), at(1), at(2)}, "90"},
		"volumes that were rolled back":      {[]Backup{at(-3), at(-2), at(1, gone(105)), at(2, gone(107))}, "90"},
		"rolled back to before what is kept": {[]Backup{at(-3), at(-2), at(1, gone(85)), at(2, gone(87))}, "90"},
	} {
		var got []string
		for _, d := range Expire(noon, tc.backups) {
			got = append(got, fmt.Sprint(RevisionOf(d.ID)))
			if !strings.Contains(d.Reason, "2026-03-27T12:00:00Z") {
				t.Errorf("%s: %s goes because %s", name, d.ID, d.Reason)
			}
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s: %q goes, want %q", name, strings.Join(got, " "), tc.want)
		}
	}
}
