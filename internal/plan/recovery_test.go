package plan

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// lostForGood is a founded cluster of three of which one volume is left, and the user's
// word; changes are of the survivor.
func lostForGood(word *Recovery, survivor ...edit) Observed {
	gone := func(m *Member) { up(m); crashed(m); m.Volume, m.RecordedID = VolumeAbsent, 0 }
	leaderless := func(m *Member) { up(m); m.FollowsLeader = false }
	o := founders(member(0, append([]edit{leaderless}, survivor...)...), member(1, gone), member(2, gone)).with(latchedID, alone)
	for i := range o.Members {
		o.Members[i].Listed, o.Members[i].Started = false, false
	}
	o.Recovery, o.Incarnation = word, 1
	return o
}

func TestRecovery(t *testing.T) {
	word := &Recovery{Backup: "nightly", Told: true, Look: Look{Done: true}}
	looks := func(l Look) *Recovery { return &Recovery{Backup: "nightly", Told: true, Look: l} }
	obeyed := &Recovery{Backup: "nightly", Told: true, Obeyed: true}
	refusedLook := func(o *Observed) { o.Skip = []Kind{CheckBackup} }
	elsewhere := func(m *Member) { crashed(m); m.RunningElsewhere = true }
	all := []string{"a-0000", "a-0001", "a-0002"}
	two := lostForGood(word, crashed)
	two.Members[1].RunningElsewhere, two.Members[2].RunningElsewhere = true, true
	for name, tc := range map[string]struct {
		seen   Observed
		want   Kind
		reason string
		on     []string
		says   string
	}{
		"no word":                         {lostForGood(nil), Wait, "DataMissing", nil, ""},
		"not told for long":               {lostForGood(&Recovery{Backup: "nightly", Look: Look{Done: true}}), Wait, "DataMissing", nil, ""},
		"not told, and nobody runs":       {lostForGood(&Recovery{Backup: "nightly", Look: Look{Done: true}}, crashed), StartMembers, "", all[:1], ""},
		"a quorum answers":                {founded().with(func(o *Observed) { o.Recovery = word }), Settled, "", nil, ""},
		"a list, and no read":             {founded().with(func(o *Observed) { o.Recovery, o.ReadOK = word, false }), Settled, "", nil, ""},
		"the backup cannot be restored":   {lostForGood(&Recovery{Backup: "nightly", Told: true, Blocked: "it is gone — why — what", Look: Look{Done: true}}), Wait, "DataMissing", nil, ""},
		"and a pod was evicted":           {lostForGood(&Recovery{Backup: "nightly", Told: true, Blocked: "it is gone — why — what", Look: Look{Done: true}}, crashed), StartMembers, "", all[:1], ""},
		"labels were taken off":           {lostForGood(word, mislabelled), RestoreLabels, "", all[:1], ""},
		"paused":                          {lostForGood(word).with(pausedByUser), Pause, "", nil, ""},
		"the survivor runs":               {lostForGood(word), StopIncarnation, "Recovering", all[:1], "the volumes are kept"},
		"the survivor stops":              {lostForGood(word, func(m *Member) { m.Pod = PodTerminating }), Wait, "Recovering", all[:1], ""},
		"nobody runs any more":            {lostForGood(word, crashed), RaiseIncarnation, "Recovering", all, "incarnation 2 begins with backup nightly"},
		"the survivor may run elsewhere":  {lostForGood(word, elsewhere), RaiseIncarnation, "Recovering", all, ""},
		"the two others may be a quorum":  {two, Wait, "RecoveryBlocked", all[1:], "out-of-service"},
		"who comes has no certificates":   {lostForGood(word, crashed).with(comingLacks, certificatesDue), RaiseIncarnation, "Recovering", all, ""},
		"and the survivor runs":           {lostForGood(word).with(comingLacks, certificatesDue), StopIncarnation, "Recovering", all[:1], ""},
		"they are asked for before":       {lostForGood(&Recovery{Backup: "nightly"}).with(comingLacks, certificatesDue), IssueCertificates, "", nil, ""},
		"nobody has read the backup":      {lostForGood(looks(Look{Due: true})), CheckBackup, "Looking", nil, "nothing is stopped before"},
		"it is read":                      {lostForGood(looks(Look{Waits: "half of it"})), Wait, "DataMissing", nil, ""},
		"it is, and a pod is missing":     {lostForGood(looks(Look{Waits: "half of it"}), crashed), StartMembers, "", all[:1], ""},
		"a Job of before goes":            {lostForGood(looks(Look{})).with(spentCheck), DropCheck, "", nil, ""},
		"it cannot be read":               {lostForGood(looks(Look{Failed: "it is torn — why — what"})), Wait, "DataMissing", nil, ""},
		"it cannot, and a pod is missing": {lostForGood(looks(Look{Failed: "it is torn — why — what"}), crashed), StartMembers, "", all[:1], ""},
		"no Job can be made":              {lostForGood(looks(Look{Due: true}), crashed).with(refusedLook), StartMembers, "", all[:1], ""},
		"that is all there is to do":      {lostForGood(looks(Look{Due: true})).with(refusedLook), CheckBackup, "", nil, ""},
		"members were stopped for it":     {lostForGood(obeyed, crashed), RaiseIncarnation, "Recovering", all, ""},
		"some of them were":               {lostForGood(obeyed), StopIncarnation, "Recovering", all[:1], ""},
		"before the loss is told":         {lostForGood(&Recovery{Backup: "nightly", Look: Look{Due: true}}), Wait, "DataMissing", nil, ""},
		"a quorum answers while it reads": {founded().with(func(o *Observed) { o.Recovery = looks(Look{Due: true}) }), Settled, "", nil, ""},
		"before the founding is over":     {lostForGood(word, crashed).with(unlatched), StartMembers, "", all[:1], ""},
		"the pod of the survivor is over": {lostForGood(word, func(m *Member) { m.Pod = PodEnded }), StopIncarnation, "", all[:1], ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := Next(tc.seen)
			if got.Kind != tc.want || (tc.reason != "" && got.Reason != tc.reason) || !strings.Contains(got.Message, tc.says) {
				t.Errorf("Next() = %s/%s %v (%s), want %s/%s", got.Kind, got.Reason, got.Members, got.Message, tc.want, tc.reason)
			}
			if diff := cmp.Diff(tc.on, got.Members); tc.on != nil && diff != "" {
				t.Errorf("Next() = %s on other members (-want +got):\n%s", got.Kind, diff)
			}
		})
	}
}

func spentCheck(o *Observed) { o.SpentCheck = "j1" }

// TestLooking: what is read is told while the word waits for it, and not beside what keeps the
// word from being obeyed anyway.
func TestLooking(t *testing.T) {
	looks := &Recovery{Backup: "nightly", Told: true, Look: Look{Waits: "half of it is read"}}
	for name, tc := range map[string]struct {
		seen Observed
		want string
	}{
		"it is read":             {lostForGood(looks), "reading the backup nightly to its end before anything is stopped for spec.recovery: half of it is read"},
		"nobody reads it yet":    {lostForGood(&Recovery{Backup: "nightly", Told: true, Look: Look{Due: true}}), "a Job is started for it"},
		"it was":                 {lostForGood(&Recovery{Backup: "nightly", Told: true, Look: Look{Done: true}}), ""},
		"members were stopped":   {lostForGood(&Recovery{Backup: "nightly", Told: true, Obeyed: true}), ""},
		"a survivor is named":    {lostForGood(&Recovery{Survivor: "a-0000", Told: true}), ""},
		"it cannot be restored":  {lostForGood(&Recovery{Backup: "nightly", Told: true, Blocked: "it is gone"}), ""},
		"it cannot be read":      {lostForGood(&Recovery{Backup: "nightly", Told: true, Look: Look{Failed: "it is torn"}}), ""},
		"not told for long":      {lostForGood(&Recovery{Backup: "nightly", Look: Look{Waits: "half of it is read"}}), ""},
		"of an EtcdRestore":      {lostForGood(&Recovery{Backup: "nightly", Told: true, Restore: "back"}), ""},
		"no word":                {lostForGood(nil), ""},
		"the cluster serves":     {founded().with(func(o *Observed) { o.Recovery = looks }), ""},
		"the founding goes on":   {lostForGood(looks).with(unlatched), ""},
		"what was never founded": {lostForGood(looks).with(unlatched, func(o *Observed) { o.Incarnation, o.Members = 2, nil }), "half of it is read"},
	} {
		if got := tc.seen.Looking(); (tc.want == "") != (got == "") || !strings.Contains(got, tc.want) {
			t.Errorf("%s: Looking() = %q, want %q", name, got, tc.want)
		}
	}
}

// TestCheckIsDropped once nobody needs it, whatever state the cluster is in; nothing else of
// it waits for that.
func TestCheckIsDropped(t *testing.T) {
	for name, tc := range map[string]struct {
		seen Observed
		want Kind
	}{
		"the cluster serves":      {founded().with(spentCheck), DropCheck},
		"it cannot be deleted":    {founded().with(spentCheck, func(o *Observed) { o.Skip = []Kind{DropCheck}; o.Members[2].Pod = PodAbsent }), StartMembers},
		"a pod is missing":        {founded(crashed).with(spentCheck), StartMembers},
		"an incarnation is young": {young().with(spentCheck), DropCheck},
		"members are stopped":     {lostForGood(&Recovery{Backup: "nightly", Told: true, Obeyed: true}).with(spentCheck), StopIncarnation},
		"paused":                  {founded().with(spentCheck, pausedByUser), Pause},
	} {
		if got := Next(tc.seen); got.Kind != tc.want {
			t.Errorf("%s: Next() = %s (%s), want %s", name, got.Kind, got.Message, tc.want)
		}
	}
}

// TestRecoveryHeld: a word that cannot be obeyed says so, where it would be obeyed.
func TestRecoveryHeld(t *testing.T) {
	blocked := &Recovery{Backup: "nightly", Told: true, Blocked: "it is gone"}
	for name, tc := range map[string]struct {
		seen Observed
		want string
	}{
		"it cannot be restored":   {lostForGood(blocked), "it is gone"},
		"it cannot be read":       {lostForGood(&Recovery{Backup: "nightly", Told: true, Look: Look{Failed: "it is torn"}}), "it is torn"},
		"it can":                  {lostForGood(&Recovery{Backup: "nightly", Told: true}), ""},
		"not told for long":       {lostForGood(&Recovery{Backup: "nightly", Blocked: "it is gone"}), ""},
		"no word":                 {lostForGood(nil), ""},
		"of an EtcdRestore":       {lostForGood(&Recovery{Restore: "back", Told: true, Blocked: "it is gone"}), ""},
		"the cluster serves":      {founded().with(func(o *Observed) { o.Recovery = blocked }), ""},
		"the founding goes on":    {lostForGood(blocked).with(unlatched), ""},
		"a read has gone through": {lostForGood(blocked).with(func(o *Observed) { o.ReadOK = true }), ""},
	} {
		if got := tc.seen.RecoveryHeld(); got != tc.want {
			t.Errorf("%s: RecoveryHeld() = %q, want %q", name, got, tc.want)
		}
	}
}

// TestOver: those that do not vote, and others' members, make up for nobody that may run.
func TestOver(t *testing.T) {
	noVoter := func(m *Member) { crashed(m); m.LastNoVoter = true }
	unheard := func(m *Member) { m.LastNoVoter = true }
	for name, tc := range map[string]struct {
		seen Observed
		want bool
	}{
		"all have stopped":           {founders(member(0, crashed), member(1, crashed), member(2, crashed)), true},
		"one of three may run":       {founders(member(0, crashed), member(1, crashed), member(2, lostNode)), true},
		"two of three may run":       {founders(member(0, crashed), member(1, lostNode), member(2, lostNode)), false},
		"and two learners have not":  {founders(member(0, crashed), member(1, lostNode), member(2, lostNode), member(3, noVoter), member(4, noVoter)), false},
		"three of five have stopped": {founders(member(0, crashed), member(1, crashed), member(2, crashed), member(3, lostNode), member(4, lostNode)), true},
		"some may vote that did not": {founders(member(0, crashed), member(1, lostNode, unheard), member(2, lostNode, unheard)), false},
		"a joiner says nothing":      {founders(member(0, crashed), member(1, lostNode)).with(func(o *Observed) { o.Members = append(o.Members, joiner(2)) }), false},
		"others' members may run": {founders(member(0, listed, crashed), member(1, listed, crashed)).with(func(o *Observed) {
			o.List, o.ForeignMembers = true, []string{"http://10.0.0.8:2380", "http://10.0.0.9:2380"}
		}), false},
		"a learner of the list has stopped": {founders(member(0, listed, lostNode), member(1, listed, crashed), member(2, listed, crashed, func(m *Member) { m.Learner = true })).with(func(o *Observed) { o.List = true }), false},
	} {
		if got := tc.seen.Over(Member.stopped); got != tc.want {
			t.Errorf("%s: Over() = %v", name, got)
		}
	}
}

// TestAgain: an incarnation that began with a backup is given up on another word, as long as
// nothing of it has ever lived.
func TestAgain(t *testing.T) {
	word := &Recovery{Backup: "weekly", Told: true, Look: Look{Done: true}}
	bare := func(m *Member) { m.Volume, m.VolumeLatched = VolumeBound, true }
	waits := func(m *Member) { bare(m); m.Pod = PodWaiting }
	never := func(r *Recovery, edits ...edit) Observed {
		o := founders(member(0, append([]edit{waits}, edits...)...), member(1, bare), member(2, bare))
		o.Recovery, o.Incarnation = r, 2
		return o
	}
	down := func(m *Member) { m.Pod = PodAbsent }
	for name, tc := range map[string]struct {
		seen Observed
		want Kind
	}{
		"its pods are stopped":         {never(word), StopIncarnation},
		"then the next one begins":     {never(word, down), RaiseIncarnation},
		"no word":                      {never(nil), StartMembers},
		"it has not stood there long":  {never(&Recovery{Backup: "weekly", Look: Look{Done: true}}), StartMembers},
		"it cannot be restored either": {never(&Recovery{Backup: "weekly", Told: true, Blocked: "it is gone", Look: Look{Done: true}}), StartMembers},
		"nobody has read the backup":   {never(&Recovery{Backup: "weekly", Told: true, Look: Look{Due: true}}), CheckBackup},
		"it is read":                   {never(&Recovery{Backup: "weekly", Told: true, Look: Look{Waits: "half of it"}}), StartMembers},
		"it cannot be read":            {never(&Recovery{Backup: "weekly", Told: true, Look: Look{Failed: "it is torn"}}), StartMembers},
		"members were stopped for it":  {never(&Recovery{Backup: "weekly", Told: true, Obeyed: true}), StopIncarnation},
		"the word of an EtcdRestore":   {never(&Recovery{Backup: "weekly", Told: true, Restore: "back", Look: Look{Done: true}}), StartMembers},
		"the first incarnation":        {never(word).with(func(o *Observed) { o.Incarnation = 1 }), StartMembers},
		"one is ready":                 {never(word, func(m *Member) { m.PodReady = true }), StartMembers},
		"one answers":                  {never(word, func(m *Member) { m.Answers = true }), StartMembers},
		"one has booted":               {never(word, func(m *Member) { m.Booted = true }), StartMembers},
		"one is on record":             {never(word, func(m *Member) { m.RecordedID = 1 }), StartMembers},
		"paused":                       {never(word).with(pausedByUser), Pause},
	} {
		if got := Next(tc.seen); got.Kind != tc.want {
			t.Errorf("%s: Next() = %s (%s), want %s", name, got.Kind, got.Message, tc.want)
		}
	}
	if held := never(&Recovery{Backup: "weekly", Told: true, Blocked: "it is gone"}).RecoveryHeld(); held != "it is gone" {
		t.Errorf("RecoveryHeld() = %q", held)
	}
}
