package plan

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// inOrder is a cluster of healthy members that can be restarted at any time, all of
// which run etcd 3.6.16 in pods of an older spec, with these changes.
func inOrder(n int, changes ...change) Observed {
	o := settledWith(n)
	o.Version = "3.6.16"
	for i := range o.Members {
		o.Members[i].CaughtUp, o.Members[i].PodOutdated, o.Members[i].Version = true, true, "3.6.16"
	}
	return o.with(changes...)
}

// of a member, in a cluster.
func of(ordinal int, edits ...edit) change {
	return func(o *Observed) {
		for _, e := range edits {
			e(&o.Members[ordinal])
		}
	}
}

func upToDate(m *Member)        { m.PodOutdated = false }
func runsVersion(v string) edit { return func(m *Member) { m.Version = v } }
func wanted(v string) change    { return func(o *Observed) { o.Version = v } }
func nospace(o *Observed) {
	o.Alarms, o.ProposeFailed = []string{"NOSPACE on member 1"}, "mvcc: database space exceeded"
}

// TestRoll holds one look of each kind that a roll goes through.
func distrusts(m *Member) { m.TrustOutdated = true }

func TestRoll(t *testing.T) {
	unwell := func(m *Member) { crashed(m); runs(m); m.Trouble = "it does not answer" }
	cases := map[string]struct {
		observed Observed
		want     Kind
		wantOn   []string
		reason   string
		message  string
	}{
		"the youngest follower is first":               {observed: inOrder(3), want: RestartMember, wantOn: []string{"a-0002"}, reason: "Rolling"},
		"then the next":                                {observed: inOrder(3, of(2, upToDate)), want: RestartMember, wantOn: []string{"a-0001"}},
		"the leader hands over to one of the new spec": {observed: inOrder(3, of(2, upToDate), of(1, upToDate)), want: MoveLeader, wantOn: []string{"a-0000", "a-0001"}},
		"and is restarted as a follower":               {observed: inOrder(3, of(2, upToDate), of(1, upToDate, leads), of(0, func(m *Member) { m.Leads = false })), want: RestartMember, wantOn: []string{"a-0000"}},
		"all are of the new spec":                      {observed: inOrder(3, of(2, upToDate), of(1, upToDate), of(0, upToDate)), want: Settled},
		"a single member has nobody to hand over to":   {observed: inOrder(1), want: RestartMember, wantOn: []string{"a-0000"}, message: "nobody is served"},
		"a pod that was restarted is made again":       {observed: inOrder(3, of(2, crashed)), want: StartMembers, wantOn: []string{"a-0002"}},
		"as a part of the roll":                        {observed: inOrder(3, of(2, crashed, upToDate), func(o *Observed) { o.Operation = "Upgrading" }), want: StartMembers, reason: "Upgrading"},
		"the next waits until it is healthy":           {observed: inOrder(3, of(2, upToDate, unwell), func(o *Observed) { o.Operation = "Rolling" }), want: Wait, reason: "Rolling", message: "a-0002: it does not answer"},
		"and for a second look":                        {observed: inOrder(3, of(2, upToDate, func(m *Member) { m.Steady = false })), want: Wait, message: "a second look"},
		"and until it has the log":                     {observed: inOrder(3, of(2, upToDate, func(m *Member) { m.CaughtUp = false })), want: Wait, message: "the leader's log"},
		"and for a leader that has led for a second":   {observed: inOrder(3, func(o *Observed) { o.LeaderSettled = false }), want: Wait, message: "the leader is new"},
		"the unwell are first":                         {observed: inOrder(3, of(1, unwell)), want: RestartMember, wantOn: []string{"a-0001"}, message: "it is not healthy"},
		"unless the quorum needs them":                 {observed: inOrder(3, of(1, unwell), of(2, unwell)), want: Wait},
		"or might":                                     {observed: inOrder(3, of(1, unwell), of(2, func(m *Member) { m.Steady = false })), want: Wait},
		"a learner comes before a roll":                {observed: inOrder(3, func(o *Observed) { o.Members = append(o.Members, learner(3, learns)) }, size(5)), want: Promote},
		"an upgrade":                                   {observed: inOrder(3, wanted("3.7.3")), want: RestartMember, wantOn: []string{"a-0002"}, reason: "Upgrading"},
		"an upgrade that skips a minor release":        {observed: inOrder(3, of(0, upToDate), of(1, upToDate), of(2, upToDate, runsVersion("3.5.35")), wanted("3.7.3")), want: Wait, reason: "RollHalted", message: "one minor release at a time"},
		"an upgrade to 3.7 over entries of 3.5":        {observed: inOrder(3, of(0, upToDate), of(1, upToDate), of(2, upToDate), wanted("3.7.3"), func(o *Observed) { o.OldEntries = 900 }), want: Wait, reason: "RollHalted", message: "entries that etcd 3.5 has written"},
		"what was removed is not made again":           {observed: inOrder(3, of(2, func(m *Member) { m.Listed, m.Pod, m.Volume = false, PodWaiting, VolumeTerminating }), size(1)), want: StopMembers, wantOn: []string{"a-0002"}},
		"other authorities are to be trusted":          {observed: inOrder(3, of(2, distrusts)), want: RestartMember, wantOn: []string{"a-0002"}, reason: "Rotating", message: "with the present authorities"},
		"an option is rolled all the same":             {observed: inOrder(3, wanted("3.7.3"), func(o *Observed) { o.OldEntries = 900 }), want: RestartMember, wantOn: []string{"a-0002"}},
		"a pinned image that is barred":                {observed: inOrder(3, of(2, crashed), wanted("3.7.3"), func(o *Observed) { o.OldEntries, o.Pinned = 900, true }).with(of(0, upToDate), of(1, upToDate)), want: Wait},
		"the way back is not held up by an alarm":      {observed: inOrder(3, nospace, of(0, upToDate), of(1, upToDate), of(2, runsVersion("3.7.3"))), want: RestartMember, wantOn: []string{"a-0002"}},
		"nor is what comes after the first":            {observed: inOrder(3, nospace, of(2, upToDate, runsVersion("3.7.3")), wanted("3.7.3")), want: RestartMember, wantOn: []string{"a-0001"}},
		"a silent member is of its last version":       {observed: inOrder(3, of(1, upToDate, runsVersion("3.7.3")), of(2, upToDate, runsVersion("3.7.3")), of(0, upToDate, unwell)), want: Wait, message: "not healthy"},
		"the unwell are first when members change":     {observed: inOrder(3, of(1, unwell), size(5), func(o *Observed) { o.Members = append(o.Members, joiner(3, ready)); o.Joiner = "a-0003" }), want: RestartMember, wantOn: []string{"a-0001"}},
		"a roll on 3.6 over them":                      {observed: inOrder(3, func(o *Observed) { o.OldEntries = 900 }), want: RestartMember},
		"an upgrade to 3.7 from an old 3.6":            {observed: inOrder(3, of(0, upToDate), of(2, upToDate), of(1, upToDate, runsVersion("3.6.9")), wanted("3.7.3")), want: Wait, reason: "RollHalted", message: "3.6.11"},
		"a downgrade":                                  {observed: inOrder(3, of(0, upToDate), of(1, upToDate), of(2, upToDate), wanted("3.5.35")), want: Wait, reason: "RollHalted", message: "put spec.version back"},
		"an upgrade that is put back":                  {observed: inOrder(3, of(0, upToDate), of(1, upToDate), of(2, runsVersion("3.7.3"))), want: RestartMember, wantOn: []string{"a-0002"}, reason: "Upgrading"},
		"an image of another version":                  {observed: inOrder(3, of(2, upToDate, runsVersion("3.6.11"))), want: Wait, reason: "RollHalted", message: "the image is not of the version"},
		"an alarm holds an upgrade up":                 {observed: inOrder(3, nospace, wanted("3.7.3")), want: Wait, reason: "AlarmActive"},
		"a full database does not hold its cure up":    {observed: inOrder(3, nospace), want: RestartMember, wantOn: []string{"a-0002"}},
		"nor does it at the leader":                    {observed: inOrder(3, nospace, of(2, upToDate), of(1, upToDate)), want: RestartMember, wantOn: []string{"a-0000"}},
		"corrupt data does":                            {observed: inOrder(3, func(o *Observed) { o.Alarms = []string{"CORRUPT on member 2"} }), want: Wait, reason: "AlarmActive"},
		"certificates that end soon hold it up":        {observed: inOrder(3, func(o *Observed) { o.Expiring = "the authority ends tomorrow" }), want: Wait, message: "ends tomorrow"},
		"a downgrade that is enabled":                  {observed: inOrder(3, downgraded, wanted("3.7.3")), want: Wait, reason: "Downgrading"},
		"data in memory":                               {observed: inOrder(3, func(o *Observed) { o.InMemory = true }), want: Wait, reason: "RollPending"},
		"a doomed member is replaced and not rolled":   {observed: inOrder(3, of(2, volume(VolumeTerminating))), want: AllotMember},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := Next(tc.observed)
			if got.Kind != tc.want || (tc.reason != "" && got.Reason != tc.reason) || !strings.Contains(got.Message, tc.message) {
				t.Fatalf("Next() = %s/%s %v (%s), want %s/%s and %q", got.Kind, got.Reason, got.Members, got.Message, tc.want, tc.reason, tc.message)
			}
			if diff := cmp.Diff(tc.wantOn, got.Members); tc.wantOn != nil && diff != "" {
				t.Errorf("Next() = %s on other members (-want +got):\n%s", got.Kind, diff)
			}
			if tc.observed.ProposeFailed == "" {
				for _, wrong := range violations(tc.observed, got) {
					t.Errorf("%s %v: %s", got.Kind, got.Members, wrong)
				}
			}
		})
	}
}
