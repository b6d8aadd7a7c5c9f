package plan

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// overHTTP is a cluster whose members take TLS and reach each other without.
func overHTTP(changes ...change) Observed {
	o := inOrder(3)
	o.TLS, o.PlaintextPeers = true, true
	for i := range o.Members {
		m := &o.Members[i]
		m.PodOutdated, m.TakesTLS, m.Plaintext = false, true, true
	}
	return o.with(changes...)
}

func overTLS(m *Member)     { m.Plaintext = false }
func outdatedPod(m *Member) { m.PodOutdated = true }

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

// inMemory is a cluster whose data goes with its pods, as its spec says.
func inMemory(o *Observed) {
	o.InMemory = true
	for i := range o.Members {
		o.Members[i].InMemory = true
	}
}

func upToDate(m *Member)        { m.PodOutdated = false }
func runsVersion(v string) edit { return func(m *Member) { m.Version = v } }
func wanted(v string) change    { return func(o *Observed) { o.Version = v } }
func nospace(o *Observed) {
	o.Alarms, o.ProposeFailed = []string{"NOSPACE on member 1"}, "mvcc: database space exceeded"
}

// lowered is a cluster of members of 3.7 that is to be downgraded to 3.6.
func lowered(changes ...change) Observed {
	o := inOrder(3, wanted("3.6.16"))
	o.DowngradeTo = "3.6"
	for i := range o.Members {
		m := &o.Members[i]
		m.PodOutdated, m.Version, m.StorageVersion = false, "3.7.3", "3.7.0"
	}
	return o.with(changes...)
}

func latchedDowngrade(o *Observed) { o.DowngradeBegun = "3.6" }

// enabled is a downgrade that etcd knows of; the pods are outdated from then on.
func enabled(o *Observed) {
	o.DowngradeBegun, o.Downgrade = "3.6", "3.6.0"
	for i := range o.Members {
		o.Members[i].PodOutdated, o.Members[i].StorageVersion = true, "3.6.0"
	}
}

func through(o *Observed) { o.Through = true }

// lonely is a cluster of one without a quorum.
func lonely(changes ...change) Observed {
	o := inOrder(1)
	o.List, o.ReadOK, o.AgreedClusterID = false, false, 0
	m := &o.Members[0]
	m.Listed, m.ID, m.Started = false, 0, false
	return o.with(changes...)
}

// hung is a member that runs and answers nobody.
func hung(m *Member) {
	m.Answers, m.FollowsLeader, m.Leads, m.PodReady, m.LongSilent = false, false, false, false, true
}

// TestHop: with update.through the releases in between come first.
func TestHop(t *testing.T) {
	all := func(v string) []change {
		return []change{of(0, runsVersion(v)), of(1, runsVersion(v)), of(2, runsVersion(v)), wanted("3.7.3"), through}
	}
	cases := map[string]struct {
		observed Observed
		want     string
	}{
		"two minor releases away":       {inOrder(3, all("3.5.35")...), "3.6.16"},
		"on the way":                    {inOrder(3, all("3.5.35")...).with(of(2, runsVersion("3.6.16"))), "3.6.16"},
		"the last one":                  {inOrder(3, all("3.6.16")...), "3.7.3"},
		"a 3.6 that 3.7 does not join":  {inOrder(3, all("3.6.16")...).with(of(0, runsVersion("3.6.9"))), "3.6.16"},
		"there":                         {inOrder(3, all("3.7.3")...), "3.7.3"},
		"without it":                    {inOrder(3, all("3.5.35")...).with(func(o *Observed) { o.Through = false }), "3.7.3"},
		"an image by its digest":        {inOrder(3, all("3.5.35")...).with(func(o *Observed) { o.Pinned = true }), "3.7.3"},
		"the oldest is of today's 3.6":  {inOrder(3, all("3.7.3")...).with(of(1, runsVersion("3.6.11"))), "3.7.3"},
		"nobody's version is known yet": {inOrder(3, all("")...), "3.7.3"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := tc.observed.Hop(); got != tc.want {
				t.Errorf("Hop() = %s, want %s", got, tc.want)
			}
		})
	}
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
		"the youngest follower is first":               {observed: inOrder(3), want: RestartMember, wantOn: []string{"a-0002"}, reason: "Rolling", message: "from the new spec; then 2 more of 3"},
		"then the next":                                {observed: inOrder(3, of(2, upToDate)), want: RestartMember, wantOn: []string{"a-0001"}},
		"the leader hands over to one of the new spec": {observed: inOrder(3, of(2, upToDate), of(1, upToDate)), want: MoveLeader, wantOn: []string{"a-0000", "a-0001"}},
		"and is restarted as a follower":               {observed: inOrder(3, of(2, upToDate), of(1, upToDate, leads), of(0, func(m *Member) { m.Leads = false })), want: RestartMember, wantOn: []string{"a-0000"}, message: "from the new spec; the last of 3"},
		"all are of the new spec":                      {observed: inOrder(3, of(2, upToDate), of(1, upToDate), of(0, upToDate)), want: Settled},
		"a single member has nobody to hand over to":   {observed: inOrder(1), want: RestartMember, wantOn: []string{"a-0000"}, message: "nobody is served"},
		"a pod that was restarted is made again":       {observed: inOrder(3, of(2, crashed)), want: StartMembers, wantOn: []string{"a-0002"}},
		"as a part of the roll":                        {observed: inOrder(3, of(2, crashed, upToDate), func(o *Observed) { o.Operation = "Upgrading" }), want: StartMembers, reason: "Upgrading"},
		"the next waits until it is healthy":           {observed: inOrder(3, of(2, upToDate, unwell), func(o *Observed) { o.Operation = "Rolling" }), want: Wait, reason: "Rolling", message: "a-0002: it does not answer"},
		"and for a second look":                        {observed: inOrder(3, of(2, upToDate, func(m *Member) { m.Steady = false })), want: Wait, message: "a second look"},
		"of five, too":                                 {observed: inOrder(5, of(4, upToDate, func(m *Member) { m.Steady = false })), want: Wait, message: "a second look"},
		"and until its ID is on record":                {observed: inOrder(3, of(2, func(m *Member) { m.RecordedID = 0 }), of(1, upToDate), of(0, upToDate)), want: RecordMembers},
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
		"a downgrade is put on record":                 {observed: lowered(), want: LatchDowngrade, reason: "Downgrading"},
		"then etcd is told":                            {observed: lowered(latchedDowngrade), want: EnableDowngrade},
		"when all is well":                             {observed: lowered(latchedDowngrade, of(1, func(m *Member) { m.CaughtUp = false })), want: Wait, reason: "Downgrading", message: "the leader's log"},
		"and no alarm is raised":                       {observed: lowered(nospace), want: Wait, reason: "AlarmActive"},
		"it waits for the storage":                     {observed: lowered(enabled, of(0, func(m *Member) { m.StorageVersion = "3.7.0" })), want: Wait, reason: "Downgrading", message: "the storage of a-0000"},
		"the members follow":                           {observed: lowered(enabled), want: RestartMember, wantOn: []string{"a-0002"}, reason: "Downgrading"},
		"one after the other":                          {observed: lowered(enabled, of(2, upToDate, runsVersion("3.6.16"))), want: RestartMember, wantOn: []string{"a-0001"}},
		"it is cancelled when the spec is put back":    {observed: lowered(enabled, wanted("3.7.3")), want: CancelDowngrade},
		"and when nobody asks for it any more":         {observed: lowered(enabled, of(2, upToDate, runsVersion("3.6.16")), func(o *Observed) { o.DowngradeTo = "" }), want: CancelDowngrade},
		"and when a member is to be replaced":          {observed: lowered(enabled, of(2, volume(VolumeTerminating))), want: CancelDowngrade, message: "no member can join"},
		"and when one is to join":                      {observed: lowered(enabled, size(5)), want: CancelDowngrade},
		"a user's is left alone":                       {observed: lowered(enabled, func(o *Observed) { o.DowngradeBegun = "" }, size(5)), want: Wait, reason: "Downgrading", message: "etcdctl downgrade cancel"},
		"a user's is taken over when the spec asks":    {observed: lowered(func(o *Observed) { o.Downgrade = "3.6.0" }), want: LatchDowngrade},
		"after the cancellation the rest follows":      {observed: lowered(enabled, of(2, upToDate, runsVersion("3.6.16")), func(o *Observed) { o.Downgrade = "" }), want: RestartMember, wantOn: []string{"a-0001"}},
		"a downgrade over two minor releases":          {observed: lowered(wanted("3.5.35"), func(o *Observed) { o.DowngradeTo = "3.5" }), want: Wait, reason: "RollHalted"},
		"an upgrade that is put back":                  {observed: inOrder(3, of(0, upToDate), of(1, upToDate), of(2, runsVersion("3.7.3"))), want: RestartMember, wantOn: []string{"a-0002"}, reason: "Upgrading"},
		"an image of another version":                  {observed: inOrder(3, of(2, upToDate, runsVersion("3.6.11"))), want: Wait, reason: "RollHalted", message: "the image is not of the version"},
		"an alarm holds an upgrade up":                 {observed: inOrder(3, nospace, wanted("3.7.3")), want: Wait, reason: "AlarmActive"},
		"a full database does not hold its cure up":    {observed: inOrder(3, nospace), want: RestartMember, wantOn: []string{"a-0002"}},
		"nor does it at the leader":                    {observed: inOrder(3, nospace, of(2, upToDate), of(1, upToDate)), want: RestartMember, wantOn: []string{"a-0000"}},
		"corrupt data does":                            {observed: inOrder(3, func(o *Observed) { o.Alarms = []string{"CORRUPT on member 2"} }), want: Wait, reason: "AlarmActive"},
		"certificates that end soon hold it up":        {observed: inOrder(3, func(o *Observed) { o.Expiring = "the authority ends tomorrow" }), want: Wait, message: "ends tomorrow"},
		"certificates that are due hold it up":         {observed: inOrder(3, func(o *Observed) { o.CertificatesDue, o.Skip = []string{"Secret a"}, []Kind{IssueCertificates} }), want: IssueCertificates},
		"turning TLS on begins with a roll":            {observed: overHTTP(of(1, upToDate), of(2, outdatedPod)), want: RestartMember, wantOn: []string{"a-0002"}, reason: "Rolling"},
		"then peer URLs are changed":                   {observed: overHTTP(), want: UpdateMember, wantOn: []string{"a-0002"}, reason: "Rolling", message: "over TLS; then 2 more of 3"},
		"a peer URL after the other":                   {observed: overHTTP(of(2, overTLS)), want: UpdateMember, wantOn: []string{"a-0001"}},
		"the leader's last":                            {observed: overHTTP(of(2, overTLS), of(1, overTLS)), want: UpdateMember, wantOn: []string{"a-0000"}},
		"none before all take TLS":                     {observed: overHTTP(of(0, func(m *Member) { m.TakesTLS = false })), want: Settled},
		"nor while one is not well":                    {observed: overHTTP(of(1, unwell)), want: Wait, message: "not healthy"},
		"nor before a second look":                     {observed: overHTTP(of(1, func(m *Member) { m.Steady = false })), want: Wait, reason: "Rolling", message: "a-0002 is next: a second look"},
		"nor beside certificates in trouble":           {observed: overHTTP(func(o *Observed) { o.Expiring = "the clock is wrong" }), want: Wait, message: "the clock is wrong"},
		"a member that joins comes first":              {observed: overHTTP(func(o *Observed) { o.Members = append(o.Members, learner(3, learns)) }, size(5)), want: Promote},
		"nobody is changed without TLS":                {observed: overHTTP(func(o *Observed) { o.TLS = false }), want: Settled},
		"a downgrade that is enabled":                  {observed: inOrder(3, downgraded, wanted("3.7.3")), want: Wait, reason: "Downgrading"},
		"data in memory takes another member":          {observed: inOrder(3, inMemory), want: AllotMember, reason: "Replacing", message: "a-0002 is to be replaced (it runs on an older spec, and its data is in memory)"},
		"data in memory while the version is barred":   {observed: inOrder(3, inMemory, func(o *Observed) { o.OldEntries = 900 }, wanted("3.7.3")), want: Wait, reason: "RollHalted"},
		"without a quorum the silent are made again":   {observed: lonely(of(0, hung)), want: RestartMember, wantOn: []string{"a-0000"}, message: "answered nobody"},
		"if they were silent for long":                 {observed: lonely(of(0, hung, func(m *Member) { m.LongSilent = false })), want: Wait},
		"and the kubelet does not call them ready":     {observed: lonely(of(0, hung, func(m *Member) { m.PodReady = true })), want: Wait},
		"and their spec is an older one":               {observed: lonely(of(0, hung, upToDate)), want: Wait},
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
