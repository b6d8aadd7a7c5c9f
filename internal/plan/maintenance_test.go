package plan

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const mebibyte = 1 << 20

// upkept is a cluster at rest whose members have half-full databases, with these changes.
func upkept(n int, changes ...change) Observed {
	return inOrder(n, slices.Concat([]change{func(o *Observed) {
		for i := range o.Members {
			o.Members[i].PodOutdated = false
			database(50, 40)(&o.Members[i])
		}
	}}, changes)...)
}

// database of so many MiB, with so many in use, and a quota of 100.
func database(size, inUse int64) edit {
	return func(m *Member) { m.DBSize, m.DBSizeInUse, m.Quota = size*mebibyte, inUse*mebibyte, 100*mebibyte }
}

// gigabytes is a database with a quota of 2 GiB.
func gigabytes(size, inUse int64) edit {
	return func(m *Member) { m.DBSize, m.DBSizeInUse, m.Quota = size*mebibyte, inUse*mebibyte, 2048*mebibyte }
}

func all(edits ...edit) change {
	return func(o *Observed) {
		for i := range o.Members {
			of(i, edits...)(o)
		}
	}
}

func brimful(o *Observed) {
	nospace(o)
	o.Raised = []Alarm{{Kind: "NOSPACE", ID: 1}}
}

func corrupt2(o *Observed) {
	o.Alarms, o.ProposeFailed = []string{"CORRUPT on member 2"}, "corrupt cluster"
	o.Raised = []Alarm{{Kind: "CORRUPT", ID: o.Members[1].ID}}
}

func compactTo(n int64) change { return func(o *Observed) { o.CompactTo = n } }
func during(c Chore) change    { return func(o *Observed) { o.Chore = c } }
func window(w Window) change   { return func(o *Observed) { o.Window = w } }
func heldUp(o *Observed)       { o.DefragmentHeld = "a-0001 was not defragmented" }
func follows(m *Member)        { m.Leads = false }
func slowDisk(m *Member)       { m.SlowDisk = time.Second }
func longSlow(m *Member)       { m.SlowDisk, m.SlowLong = time.Second, true }

// differs has the members of these ordinals differ from all the others.
func differs(ordinals ...int) change {
	return func(o *Observed) {
		o.Comparison = Comparison{Revision: 7, Twice: true}
		for i, m := range o.Members {
			if slices.Contains(ordinals, i) {
				o.Comparison.Differ = append(o.Comparison.Differ, m.ID)
			} else {
				o.Comparison.Agree = append(o.Comparison.Agree, m.ID)
			}
		}
	}
}

// allDiffer from each other.
func allDiffer(o *Observed) {
	differs(1, 2)(o)
}

func defragmented(m *Member) { m.Defragmented = true }

func once(o *Observed) { o.Comparison.Twice = false }

func TestMaintenance(t *testing.T) {
	atTheQuota := all(database(100, 40))
	cases := map[string]struct {
		observed Observed
		want     Kind
		wantOn   []string
		reason   string
		message  string
	}{
		"a full one is compacted first":                 {observed: upkept(3, brimful, atTheQuota, compactTo(5)), want: Compact, wantOn: []string{"a-0000"}, reason: "AlarmActive"},
		"a leader's disk is slow":                       {observed: upkept(3, of(0, longSlow)), want: MoveLeader, wantOn: []string{"a-0000", "a-0001"}, message: "syncing the log of a-0000 takes 1s"},
		"a leader's disk has just become slow":          {observed: upkept(3, of(0, slowDisk)), want: Settled},
		"a leader's disk and a follower's are slow":     {observed: upkept(3, of(0, longSlow), of(1, slowDisk)), want: MoveLeader, wantOn: []string{"a-0000", "a-0002"}},
		"all disks are slow":                            {observed: upkept(3, all(longSlow)), want: Settled},
		"a follower's disk is slow":                     {observed: upkept(3, of(1, longSlow)), want: Settled},
		"a leader's disk is slow amid a roll":           {observed: upkept(3, of(0, longSlow), of(1, podOutdated)), want: RestartMember, wantOn: []string{"a-0001"}},
		"a disk is slow, and the leader is new":         {observed: upkept(3, of(0, longSlow), func(o *Observed) { o.LeaderSettled = false }), want: Settled},
		"then the youngest follower is defragmented":    {observed: upkept(3, brimful, atTheQuota), want: Defragment, wantOn: []string{"a-0002"}, reason: "AlarmActive"},
		"then the next":                                 {observed: upkept(3, brimful, atTheQuota, of(2, database(41, 40))), want: Defragment, wantOn: []string{"a-0001"}},
		"the leader hands over before its turn":         {observed: upkept(3, brimful, of(0, database(100, 40))), want: MoveLeader, wantOn: []string{"a-0000", "a-0001"}},
		"and is defragmented as a follower":             {observed: upkept(3, brimful, of(0, database(100, 40), follows), of(1, leads)), want: Defragment, wantOn: []string{"a-0000"}},
		"one alone is defragmented as it is":            {observed: upkept(1, brimful, atTheQuota), want: Defragment, wantOn: []string{"a-0000"}},
		"then the alarm is disarmed":                    {observed: upkept(3, brimful), want: Disarm, reason: "AlarmActive"},
		"never while one has no room":                   {observed: upkept(3, brimful, of(1, database(90, 40))), want: Defragment, wantOn: []string{"a-0001"}},
		"nor while nobody knows its quota":              {observed: upkept(3, brimful, of(1, func(m *Member) { m.Quota = 0 })), want: Wait, reason: "AlarmActive"},
		"what is in use may be told late":               {observed: upkept(3, brimful, all(database(100, 100))), want: Defragment, wantOn: []string{"a-0002"}},
		"too much data is only told of":                 {observed: upkept(3, brimful, atTheQuota, of(1, database(100, 91), defragmented)), want: Wait, reason: "AlarmActive", message: "raise spec.etcd.quotaBackendBytes"},
		"a larger quota rolls then":                     {observed: upkept(3, brimful, all(database(100, 95), defragmented), of(1, func(m *Member) { m.PodOutdated = true })), want: RestartMember, wantOn: []string{"a-0001"}},
		"what can be healed is healed before a roll":    {observed: upkept(3, brimful, atTheQuota, of(1, func(m *Member) { m.PodOutdated = true })), want: Defragment},
		"defragmenting once is enough":                  {observed: upkept(3, brimful, atTheQuota, all(database(92, 88), defragmented)), want: Wait, reason: "AlarmActive"},
		"nor when too much is in use all the same":      {observed: upkept(3, brimful, all(database(102, 91), defragmented)), want: Wait, reason: "AlarmActive"},
		"unless more has come free since":               {observed: upkept(3, brimful, atTheQuota, all(defragmented)), want: Defragment},
		"a failure is told of":                          {observed: upkept(3, brimful, atTheQuota, heldUp), want: Wait, reason: "AlarmActive", message: "a-0001 was not defragmented"},
		"nobody else stands still meanwhile":            {observed: upkept(3, brimful, atTheQuota, during(Chore{Defragment, "a-0002"})), want: Wait, reason: "Defragmenting", message: "a-0002 defragments"},
		"nor while history is discarded":                {observed: upkept(3, brimful, atTheQuota, during(Chore{Compact, "a-0000"})), want: Wait, reason: "Defragmenting"},
		"a comparison is waited for":                    {observed: upkept(3, brimful, atTheQuota, during(Chore{Kind: Compare})), want: Wait, reason: "Defragmenting", message: "compared"},
		"nobody stands still beside one that is silent": {observed: upkept(3, brimful, atTheQuota, of(1, silent)), want: Wait, reason: "Degraded"},
		"nor beside one that has just come back":        {observed: upkept(3, brimful, atTheQuota, of(1, func(m *Member) { m.Steady = false })), want: Wait, reason: "Defragmenting"},
		"nor under a new leader":                        {observed: upkept(3, brimful, atTheQuota, func(o *Observed) { o.LeaderSettled = false }), want: Wait, reason: "Defragmenting"},
		"one that is lost is replaced all the same":     {observed: upkept(3, brimful, atTheQuota, of(1, silent, volume(VolumeAbsent), func(m *Member) { m.Pod = PodAbsent })), want: AllotMember},

		"half a database is given back":             {observed: upkept(3, all(gigabytes(400, 100))), want: Defragment, wantOn: []string{"a-0002"}, reason: "Defragmenting"},
		"the leader last":                           {observed: upkept(3, of(0, gigabytes(400, 100))), want: MoveLeader, wantOn: []string{"a-0000", "a-0001"}},
		"less is not worth it":                      {observed: upkept(3, all(gigabytes(150, 60))), want: Settled},
		"nor is a smaller part":                     {observed: upkept(3, all(gigabytes(1000, 600))), want: Settled},
		"of a small quota a quarter is":             {observed: upkept(3, all(database(60, 30))), want: Defragment},
		"in the window":                             {observed: upkept(3, all(gigabytes(400, 100)), window(WindowOpen)), want: Defragment},
		"and only there":                            {observed: upkept(3, all(gigabytes(400, 100)), window(WindowClosed)), want: Settled},
		"a full one does not wait for it":           {observed: upkept(3, brimful, atTheQuota, window(WindowClosed)), want: Defragment},
		"one alone is not without a window":         {observed: upkept(1, all(gigabytes(400, 100))), want: Settled},
		"one alone is in its window":                {observed: upkept(1, all(gigabytes(400, 100)), window(WindowOpen)), want: Defragment, wantOn: []string{"a-0000"}},
		"a roll comes first":                        {observed: upkept(3, all(gigabytes(400, 100)), of(1, func(m *Member) { m.PodOutdated = true })), want: RestartMember},
		"nobody is after a failure":                 {observed: upkept(3, all(gigabytes(400, 100)), heldUp), want: Settled},
		"nobody is during a downgrade":              {observed: upkept(3, all(gigabytes(400, 100)), func(o *Observed) { o.Downgrade = "3.5.0" }), want: Settled},
		"one that is restarted waits for the chore": {observed: upkept(3, of(1, crashed, runs, func(m *Member) { m.PodOutdated, m.Trouble = true, "hangs" }), during(Chore{Defragment, "a-0001"})), want: Wait, reason: "Defragmenting"},

		"data is compared":                           {observed: upkept(3, due), want: Compare},
		"not that of one alone":                      {observed: upkept(1, due), want: Settled},
		"not of different versions":                  {observed: upkept(3, due, of(1, runsVersion("3.6.15"))), want: Settled},
		"not twice at once":                          {observed: upkept(3, due, during(Chore{Kind: Compare})), want: Settled},
		"what differs from a majority is given up":   {observed: upkept(3, differs(1)), want: Condemn, wantOn: []string{"a-0001"}, reason: "Replacing"},
		"the leader's, too":                          {observed: upkept(3, differs(0)), want: Condemn, wantOn: []string{"a-0000"}},
		"not after one look":                         {observed: upkept(3, differs(1), once), want: Wait, reason: "Comparing"},
		"nothing is without a majority":              {observed: upkept(3, allDiffer), want: Wait, reason: "DataDiffers", message: "nobody can tell which is right"},
		"nothing is restarted then":                  {observed: upkept(3, allDiffer, of(1, func(m *Member) { m.PodOutdated = true })), want: Wait, reason: "DataDiffers"},
		"nor defragmented":                           {observed: upkept(3, allDiffer, all(gigabytes(400, 100))), want: Wait, reason: "DataDiffers"},
		"nor given up where one is silent":           {observed: upkept(3, differs(1), of(2, silent)), want: Wait, reason: "Degraded"},
		"data in memory is not deleted unasked":      {observed: upkept(3, differs(1), inMemory), want: Wait, reason: "DataDiffers", message: "kubectl delete pod a-0001"},
		"two of five go one after the other":         {observed: upkept(5, differs(1, 3)), want: Condemn, wantOn: []string{"a-0001"}},
		"what was given up is replaced":              {observed: upkept(3, corrupt2, differs(1), of(1, volume(VolumeRefused))), want: AllotMember, reason: "Replacing"},
		"who is given up does not lead":              {observed: upkept(3, differs(0), of(0, volume(VolumeRefused))), want: MoveLeader, wantOn: []string{"a-0000", "a-0001"}},
		"etcd's word has the data compared":          {observed: upkept(3, corrupt2, due), want: Compare},
		"and waits for that":                         {observed: upkept(3, corrupt2), want: Wait, reason: "Comparing"},
		"and is not believed blindly":                {observed: upkept(3, corrupt2, differs()), want: Wait, reason: "AlarmActive", message: "the operator does not decide"},
		"nor disarmed while its member is there":     {observed: upkept(3, corrupt2, differs(1), once), want: Wait, reason: "Comparing"},
		"but once that is gone, and all are equal":   {observed: upkept(3, corrupt2, gone9, differs()), want: Disarm, reason: "AlarmActive"},
		"not while one could not be compared":        {observed: upkept(3, corrupt2, gone9, differs(), func(o *Observed) { o.Comparison.Agree = o.Comparison.Agree[1:] }), want: Wait, reason: "Comparing"},
		"never if it is about all of them":           {observed: upkept(3, corrupt2, func(o *Observed) { o.Raised[0].ID = 0 }, differs()), want: Wait, reason: "AlarmActive"},
		"a full one waits for data that is in doubt": {observed: upkept(3, brimful, atTheQuota, allDiffer), want: Wait, reason: "DataDiffers"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			step := Next(tc.observed)
			if step.Kind != tc.want || (tc.reason != "" && step.Reason != tc.reason) || !strings.Contains(step.Message, tc.message) {
				t.Errorf("%s/%s: %s", step.Kind, step.Reason, step.Message)
			}
			if tc.wantOn != nil && !cmp.Equal(step.Members, tc.wantOn) {
				t.Errorf("%s of %v, want %v", step.Kind, step.Members, tc.wantOn)
			}
			for _, wrong := range violations(tc.observed, step) {
				t.Error(wrong)
			}
		})
	}
}

func due(o *Observed)   { o.CompareDue = true }
func gone9(o *Observed) { o.Raised[0].ID = 9 }
