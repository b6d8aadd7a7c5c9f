package plan

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestMembership holds one look of each kind that a change of the members goes
// through.
func TestMembership(t *testing.T) {
	five := func(edits ...edit) Observed {
		return settledWith(5, member(4, append([]edit{up, steady}, edits...)...)).with(size(3))
	}
	cases := map[string]struct {
		observed Observed
		want     Kind
		wantOn   []string
		wantID   uint64
		reason   string
	}{
		"one member more is wanted":                        {observed: settledWith(1).with(size(3)), want: AllotMember},
		"the joiner has no volume":                         {observed: settledWith(1, joiner(1)).with(size(3)), want: CreateVolumes, wantOn: []string{"a-0001"}},
		"the joiner's volume is gone and its pod is going": {observed: settledWith(1, joiner(1, leaving, held)).with(size(3)), want: Wait},
		"the joiner is listed and its volume is gone":      {observed: settledWith(1, joiner(1, listed, steady, func(m *Member) { m.Learner = true })).with(size(3)), want: DropJoiner, wantOn: []string{"a-0001"}},
		"the joiner's volume is bound":                     {observed: settledWith(1, joiner(1, claimed)).with(size(3)), want: HoldMembers, wantOn: []string{"a-0001"}},
		"the joiner's volume waits for its pod":            {observed: settledWith(1, joiner(1, pending)).with(size(3)), want: HoldMembers, wantOn: []string{"a-0001"}},
		"the joiner's claim follows the spec":              {observed: settledWith(1, joiner(1, pending, volumeOutdated)).with(size(3)), want: ReplaceVolumes, wantOn: []string{"a-0001"}},
		"the joiner's pod follows the spec":                {observed: settledWith(1, joiner(1, ready, podOutdated)).with(size(3)), want: DeletePods, wantOn: []string{"a-0001"}},
		"the joiner's pod is not scheduled":                {observed: settledWith(1, joiner(1, pending, waiting, held, unschedulable)).with(size(3)), want: Wait},
		"the joiner is held":                               {observed: settledWith(1, joiner(1, ready)).with(size(3)), want: AddLearner, wantOn: []string{"a-0001"}},
		"the joiner is held and a voter is silent":         {observed: settledWith(3, member(2, up, crashed, waiting), joiner(3, ready)).with(size(5)), want: Wait},
		"the joiner is not wanted any more":                {observed: settledWith(3, joiner(3, ready)), want: DropJoiner, wantOn: []string{"a-0003"}},
		"the joiner is listed by now":                      {observed: settledWith(1, learner(1, func(m *Member) { m.Joiner = true })).with(size(3)), want: DropJoiner, wantOn: []string{"a-0001"}},
		"the joiner's volume was lost":                     {observed: settledWith(1, joiner(1, volume(VolumeLost))).with(size(3)), want: DropJoiner, wantOn: []string{"a-0001"}},
		"what was prepared for nobody":                     {observed: settledWith(3, joiner(3, ready, func(m *Member) { m.Joiner = false })), want: DiscardMembers, wantOn: []string{"a-0003"}},
		"a learner is not on record":                       {observed: settledWith(1, learner(1, func(m *Member) { m.RecordedID = 0 })).with(size(3)), want: RecordMembers, wantOn: []string{"a-0001"}},
		"a learner is held":                                {observed: settledWith(1, learner(1)).with(size(3)), want: ReleaseMembers, wantOn: []string{"a-0001"}},
		"a learner has started and may be empty":           {observed: settledWith(1, learner(1, learns, maybeEmpty)).with(size(1)), want: RecordMembers, wantOn: []string{"a-0001"}},
		"a learner has caught up":                          {observed: settledWith(2, learner(2, learns)).with(size(3)), want: Promote, wantOn: []string{"a-0002"}, wantID: 3},
		"a learner lags, and the next is prepared":         {observed: settledWith(1, learner(1, learns, func(m *Member) { m.CaughtUp = false })).with(size(3)), want: AllotMember},
		"a learner lags":                                   {observed: settledWith(2, learner(2, learns, func(m *Member) { m.CaughtUp = false })).with(size(3)), want: Wait},
		"a learner is silent and the leader is asked":      {observed: settledWith(3, learner(3, learns, func(m *Member) { m.Answers = false })).with(size(5), func(o *Observed) { o.Joiner = "" }, size(4)), want: Promote, wantOn: []string{"a-0003"}},
		"a silent learner beside one voter":                {observed: settledWith(1, learner(1, learns, func(m *Member) { m.Answers = false })).with(size(2)), want: Wait},
		"a learner comes no nearer":                        {observed: settledWith(2, learner(2, learns, trails, func(m *Member) { m.CaughtUp = false })).with(size(3)), want: Wait, reason: "LearnerNotSynced"},
		"a learner came no nearer and has caught up":       {observed: settledWith(2, learner(2, learns, trails)).with(size(3)), want: Promote, wantOn: []string{"a-0002"}, wantID: 3},
		"a learner is stuck":                               {observed: settledWith(2, learner(2, learns, stuck, func(m *Member) { m.CaughtUp = false })).with(size(3)), want: RemoveMember, wantOn: []string{"a-0002"}, wantID: 3, reason: "LearnerNotSynced"},
		"a learner is not wanted any more":                 {observed: settledWith(3, learner(3)), want: RemoveMember, wantOn: []string{"a-0003"}, wantID: 4},
		"a learner was listed twice and has no volume":     {observed: settledWith(2, member(2, listed, steady, func(m *Member) { m.Learner, m.Founder = true, false })).with(size(3)), want: RemoveMember, wantOn: []string{"a-0002"}, wantID: 3},
		"a dead voter":                                     {observed: settledWith(3, member(2, up, dead)), want: AllotMember},
		"a dead voter that one look has seen":              {observed: settledWith(3, member(2, up, dead, func(m *Member) { m.Steady = false })), want: Wait},
		"a dead voter's pod stands in the way":             {observed: settledWith(3, member(2, up, dead, waiting), joiner(3, claimed)), want: StopMembers, wantOn: []string{"a-0002"}},
		"a dead voter and a joiner that is not proven":     {observed: settledWith(3, member(2, up, dead), joiner(3, claimed, waiting, held)), want: Wait},
		"a dead voter and a proven joiner":                 {observed: settledWith(3, member(2, up, dead), joiner(3, ready)), want: RemoveMember, wantOn: []string{"a-0002"}, wantID: 3},
		"a voter whose node is gone":                       {observed: settledWith(3, member(2, up, crashed, elsewhere, gone, steady), joiner(3, ready)), want: RemoveMember, wantOn: []string{"a-0002"}, wantID: 3},
		"a voter that is silent alone is not dead":         {observed: settledWith(3, member(2, up, crashed, waiting, steady)), want: Wait, wantOn: []string{"a-0002"}},
		"two dead voters of three":                         {observed: settledWith(3, member(1, up, dead), member(2, up, dead), joiner(3, ready)).with(alone), want: Wait, wantOn: []string{"a-0001", "a-0002"}},
		"a doomed voter is replaced learner first":         {observed: settledWith(3, member(2, up, steady, volume(VolumeTerminating)), joiner(3, ready)), want: AddLearner, wantOn: []string{"a-0003"}},
		"a doomed voter goes when its replacement votes":   {observed: settledWith(4, member(2, up, steady, volume(VolumeTerminating))).with(size(3)), want: RemoveMember, wantOn: []string{"a-0002"}, wantID: 3},
		"a smaller cluster":                                {observed: five(), want: RemoveMember, wantOn: []string{"a-0004"}, wantID: 5},
		"a smaller cluster loses the silent one":           {observed: settledWith(5, member(1, up, steady, crashed, waiting)).with(size(3)), want: RemoveMember, wantOn: []string{"a-0001"}, wantID: 2},
		"a smaller cluster is left by its leader last":     {observed: settledWith(2, member(1, up, steady, leads), member(0, up, steady)).with(size(1)), want: RemoveMember, wantOn: []string{"a-0000"}, wantID: 1},
		"the leader goes because its volume does":          {observed: settledWith(4, member(0, up, steady, leads, volume(VolumeTerminating))).with(size(3)), want: MoveLeader, wantOn: []string{"a-0000", "a-0001"}, wantID: 2},
		"a smaller cluster waits for a second look":        {observed: five(func(m *Member) { m.Steady = false }), want: Wait},
		"one that left still runs":                         {observed: settledWith(3, member(3, up, off, leavingMember)), want: StopMembers, wantOn: []string{"a-0003"}},
		"one that left has a volume":                       {observed: settledWith(3, member(3, up, off, crashed, leavingMember)), want: DeleteVolumes, wantOn: []string{"a-0003"}},
		"one that was removed by hand has a volume":        {observed: settledWith(3, member(3, up, off, crashed, steady)), want: QuarantineVolumes, wantOn: []string{"a-0003"}},
		"one that was removed was seen so once":            {observed: settledWith(3, member(3, up, off, crashed)), want: Wait},
		"one that was marked to leave is wanted again":     {observed: settledWith(3, member(2, up, steady, leavingMember)), want: RecordMembers, wantOn: []string{"a-0002"}},
		"a stranger blocks a change":                       {observed: settledWith(3).with(foreign), want: Wait},
		"a silent voter on a volume that goes is not dead": {observed: settledWith(3, member(2, up, steady, silent, volume(VolumeTerminating)), joiner(3, ready)), want: Wait},
		"and it is replaced, the new one first":            {observed: settledWith(5, member(2, up, steady, silent, volume(VolumeTerminating)), joiner(5, ready)), want: AddLearner, wantOn: []string{"a-0005"}},
		"it is dead when it is silent for too long":        {observed: settledWith(3, member(2, up, steady, silent, volume(VolumeTerminating), func(m *Member) { m.LongSilent = true }), joiner(3, ready)), want: StopMembers, wantOn: []string{"a-0002"}},
		"it is dead when its node is gone":                 {observed: settledWith(3, member(2, up, steady, silent, gone, volume(VolumeTerminating)), joiner(3, ready)), want: StopMembers, wantOn: []string{"a-0002"}},
		"a smaller cluster waits for a new leader":         {observed: five().with(func(o *Observed) { o.LeaderSettled = false }), want: Wait},
		"a new leader holds up no replacement":             {observed: settledWith(3, member(2, up, dead), joiner(3, ready)).with(func(o *Observed) { o.LeaderSettled = false }), want: RemoveMember},
		"a downgrade blocks a learner's removal":           {observed: settledWith(3, learner(3)).with(downgraded), want: Wait, reason: "Downgrading"},
		"a downgrade blocks a growth":                      {observed: settledWith(3, joiner(3, ready)).with(size(5), downgraded), want: Wait, reason: "Downgrading"},
		"a downgrade blocks a removal":                     {observed: five().with(downgraded), want: Wait, reason: "Downgrading"},
		"a downgrade blocks a replacement":                 {observed: settledWith(3, member(2, up, dead), joiner(3, ready)).with(downgraded), want: Wait, reason: "Downgrading"},
		"a downgrade is nothing to a cluster at rest":      {observed: settledWith(3).with(downgraded), want: Settled},
		"a pod comes back during a downgrade":              {observed: settledWith(3, member(2, up, crashed)).with(downgraded), want: StartMembers, wantOn: []string{"a-0002"}},
		"data that etcd fails on is given up":              {observed: settledWith(3, member(2, up, crashed, waiting, steady, corrupted)), want: RecordRefusals, wantOn: []string{"a-0002"}},
		"data that etcd fails on, and no quorum without":   {observed: settledWith(3, member(1, up, crashed, waiting), member(2, up, crashed, waiting, steady, corrupted)).with(alone), want: Wait, wantOn: []string{"a-0001", "a-0002"}},
		"a quarantine is over":                             {observed: settledWith(3).with(func(o *Observed) { o.Expired = []string{"a-0007"} }), want: DeleteExpired, wantOn: []string{"a-0007"}},
		"a quarantine is over while a member is replaced":  {observed: settledWith(3, member(2, up, dead)).with(func(o *Observed) { o.Expired = []string{"a-0007"} }), want: AllotMember},
		"a leader that does not see its peers":             {observed: settledWith(3, joiner(3, ready)).with(size(5), doubted), want: MoveLeader, wantOn: []string{"a-0000", "a-0001"}, wantID: 2},
		"a leader that is right about its peers":           {observed: settledWith(5, member(4, up, crashed, waiting, steady), joiner(5, ready)).with(size(7), doubted), want: AddLearner},
		"nothing is asked of a leader that is doubted":     {observed: settledWith(3).with(doubted), want: Settled},
		"a joiner is pinned to where it cannot run":        {observed: settledWith(3, member(2, up, dead), joiner(3, claimed, waiting, held, stuck, unschedulable)), want: DropJoiner, wantOn: []string{"a-0003"}},
		"a proven joiner was pinned once":                  {observed: settledWith(3, member(2, up, dead), joiner(3, ready, stuck)), want: RemoveMember, wantOn: []string{"a-0002"}},
		"a joiner is kept for a voter that crashes":        {observed: settledWith(3, member(2, up, crashed, waiting, steady), joiner(3, ready)), want: Wait, reason: "Degraded"},
		"the doomed do not keep the unhealthy":             {observed: settledWith(5, member(1, up, steady, volume(VolumeTerminating)), member(2, up, steady, crashed, waiting)).with(size(3)), want: RemoveMember, wantOn: []string{"a-0002"}, wantID: 3},
		"one that is down for a moment does not go for it": {observed: settledWith(6, member(1, up, steady, volume(VolumeTerminating)), member(2, up, steady, crashed, waiting)).with(size(5)), want: Wait},
		"one that is down for long does":                   {observed: settledWith(6, member(1, up, steady, volume(VolumeTerminating)), member(2, up, steady, crashed, waiting, func(m *Member) { m.LongSilent = true })).with(size(5)), want: RemoveMember, wantOn: []string{"a-0002"}},
		"a mark under another ID is nobody's to take off":  {observed: settledWith(3, member(2, up, steady, crashed, waiting, leavingMember, func(m *Member) { m.RecordedID, m.Founder = 77, false })), want: AllotMember},
		"another ID under a name":                          {observed: settledWith(3, member(2, up, crashed, waiting, steady, func(m *Member) { m.RecordedID = 77 }), joiner(3, ready)), want: StopMembers, wantOn: []string{"a-0002"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := Next(tc.observed)
			if got.Kind != tc.want || (tc.wantID != 0 && got.ID != tc.wantID) {
				t.Fatalf("Next() = %s/%s %v %x (%s), want %s %x", got.Kind, got.Reason, got.Members, got.ID, got.Message, tc.want, tc.wantID)
			}
			if tc.reason != "" && got.Reason != tc.reason {
				t.Errorf("Next() = %s for the reason %s, want %s", got.Kind, got.Reason, tc.reason)
			}
			if diff := cmp.Diff(tc.wantOn, got.Members); tc.wantOn != nil && diff != "" {
				t.Errorf("Next() = %s on other members (-want +got):\n%s", got.Kind, diff)
			}
			for _, wrong := range violations(tc.observed, got) {
				t.Errorf("%s %v: %s", got.Kind, got.Members, wrong)
			}
		})
	}
}

// silent runs in its pod and answers nobody.
func silent(m *Member) { m.Answers, m.FollowsLeader, m.PodReady = false, false, false }

// TestBudgetVoters: the budget is raised before a learner is promoted, not after.
func TestBudgetVoters(t *testing.T) {
	cases := map[string]struct {
		observed Observed
		want     int
	}{
		"nobody joins":                    {settledWith(3), 3},
		"one is prepared":                 {settledWith(3, joiner(3, ready)), 3},
		"a learner has started":           {settledWith(3, learner(3, learns, func(m *Member) { m.CaughtUp = false })), 4},
		"a learner has not started":       {settledWith(3, learner(3)), 3},
		"a learner may be promoted":       {settledWith(3, learner(3, learns)), 4},
		"a silent one may be promoted":    {settledWith(3, learner(3, learns, silent)), 4},
		"nobody can be asked of the list": {settledWith(3, joiner(3, ready)).with(alone), 3},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := tc.observed.BudgetVoters(); got != tc.want {
				t.Errorf("BudgetVoters() = %d, want %d", got, tc.want)
			}
		})
	}
}
