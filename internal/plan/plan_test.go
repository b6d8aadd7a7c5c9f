package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const clusterID = 0xc1

// edit changes a member or a look at a cluster.
type (
	edit   func(*Member)
	change func(*Observed)
)

// member is a founder without anything.
func member(ordinal int, edits ...edit) Member {
	m := Member{Name: fmt.Sprintf("a-%04d", ordinal), Ordinal: ordinal, Founder: true}
	for _, e := range edits {
		e(&m)
	}
	return m
}

func claimed(m *Member)     { m.Volume = VolumeBound }
func pending(m *Member)     { m.Volume = VolumePending }
func latched(m *Member)     { m.VolumeLatched = true }
func runs(m *Member)        { m.Pod = PodRunning }
func waiting(m *Member)     { m.Pod = PodWaiting }
func ended(m *Member)       { m.Pod = PodEnded }
func leaving(m *Member)     { m.Pod = PodTerminating }
func outdated(m *Member)    { m.PodOutdated, m.VolumeOutdated = true, true }
func podOutdated(m *Member) { m.PodOutdated = true }
func volumeOutdated(m *Member) {
	m.VolumeOutdated, m.VolumeChange = true, "size 8Gi, and spec.storage.size is 9Gi"
}
func podReady(m *Member)      { m.PodReady = true }
func onRecord(m *Member)      { m.Booted = true }
func fresh(m *Member)         { m.PodFresh = true }
func recorded(m *Member)      { m.RecordedID = uint64(m.Ordinal) + 1 }
func maybeEmpty(m *Member)    { m.PodMayBeEmpty = true }
func listed(m *Member)        { m.Listed, m.ID = true, uint64(m.Ordinal)+1 }
func elsewhere(m *Member)     { m.RunningElsewhere = true }
func nodeMoved(m *Member)     { m.NodeMoved = true }
func refusedData(m *Member)   { m.Refusal = "DataMissing: found nothing" }
func mislabelled(m *Member)   { m.Mislabelled = true }
func steady(m *Member)        { m.Steady = true }
func leads(m *Member)         { m.Leads = true }
func held(m *Member)          { m.Held = true }
func gone(m *Member)          { m.Gone = true }
func caughtUp(m *Member)      { m.CaughtUp = true }
func trails(m *Member)        { m.Trails = true }
func leavingMember(m *Member) { m.Leaving = true }
func stuck(m *Member)         { m.Stuck = true }
func unschedulable(m *Member) { m.Unschedulable = true }
func corrupted(m *Member)     { m.Corrupt = "etcd failed 5 times on its data" }

func volume(v Volume) edit     { return func(m *Member) { m.Volume = v } }
func trouble(text string) edit { return func(m *Member) { m.Trouble = text } }

func started(m *Member) {
	listed(m)
	m.Started = true
}

func answers(m *Member) {
	m.Answers, m.FollowsLeader, m.AnswerClusterID = true, true, clusterID
}

func leaderless(m *Member) {
	answers(m)
	m.FollowsLeader = false
}

// up is a member of a founded cluster as it should be.
func up(m *Member) {
	for _, e := range []edit{claimed, latched, recorded, runs, started, answers} {
		e(m)
	}
}

// joiner is a member that is prepared to join, and nothing of it exists yet.
func joiner(ordinal int, edits ...edit) Member {
	m := Member{Name: fmt.Sprintf("a-%04d", ordinal), Ordinal: ordinal, Joiner: true}
	for _, e := range edits {
		e(&m)
	}
	return m
}

// ready is a joiner whose guard waits for the release.
func ready(m *Member) {
	for _, e := range []edit{claimed, runs, held, maybeEmpty} {
		e(m)
	}
}

// learner is a joiner that etcd lists.
func learner(ordinal int, edits ...edit) Member {
	m := joiner(ordinal, claimed, runs, held, maybeEmpty, recorded, listed, steady)
	m.Joiner, m.Learner = false, true
	for _, e := range edits {
		e(&m)
	}
	return m
}

// learns is a learner that runs and has all of the log.
func learns(m *Member) {
	for _, e := range []edit{started, answers, caughtUp, onRecord} {
		e(m)
	}
	m.Held, m.PodMayBeEmpty = false, false
}

// off is a member that was removed from etcd.
func off(m *Member) {
	m.Listed, m.ID, m.Started, m.Answers, m.FollowsLeader = false, 0, false, false, false
}

// dead is a voter that does not come back.
func dead(m *Member) {
	for _, e := range []edit{crashed, volume(VolumeAbsent), steady} {
		e(m)
	}
	m.RecordedID = 0
}

// booted is a founder that runs and is not recorded yet.
func booted(m *Member) {
	for _, e := range []edit{claimed, latched, runs, maybeEmpty, started, answers} {
		e(m)
	}
}

// young is a cluster of three that is being founded; edits are of all members.
func young(edits ...edit) Observed {
	return founders(member(0, edits...), member(1, edits...), member(2, edits...))
}

func founders(members ...Member) Observed {
	o := Observed{Size: len(members), Members: members}
	o.VolumesLatched = true
	for _, m := range members {
		o.Founders = append(o.Founders, m.Name)
		o.VolumesLatched = o.VolumesLatched && m.VolumeLatched
	}
	return o
}

// founded is a founded cluster of three healthy members with this change to
// the last one.
func founded(last ...edit) Observed {
	o := founders(member(0, up), member(1, up), member(2, append([]edit{up}, last...)...))
	return o.with(confirmed, latchedID)
}

// settledWith is a founded cluster of healthy, steady members with these changes,
// the first of whom leads, and others beside them.
func settledWith(size int, others ...Member) Observed {
	o := Observed{}
	for i := range size {
		edits := []edit{up, steady}
		if i == 0 {
			edits = append(edits, leads)
		}
		o.Members = append(o.Members, member(i, edits...))
	}
	o = founders(o.Members...).with(confirmed, latchedID)
	for _, m := range others {
		i := slices.IndexFunc(o.Members, func(n Member) bool { return n.Name == m.Name })
		if i < 0 {
			o.Members = append(o.Members, m)
		} else {
			o.Members[i] = m
		}
		if m.Joiner {
			o.Joiner = m.Name
		}
	}
	return o
}

func (o Observed) with(changes ...change) Observed {
	for _, c := range changes {
		c(&o)
	}
	return o
}

func confirmed(o *Observed) {
	o.List, o.AgreedClusterID, o.ReadOK, o.LeaderSettled = true, clusterID, true, true
}
func latchedID(o *Observed) { o.ClusterID = clusterID }
func unlatched(o *Observed) { o.ClusterID = 0 }
func pausedByUser(o *Observed) {
	o.Paused = true
}
func alone(o *Observed) { o.List, o.AgreedClusterID, o.ReadOK = false, 0, false }
func certificatesDue(o *Observed) {
	o.CertificatesDue = []string{"Secret a-client-ca"}
}
func objectsDue(o *Observed)   { o.ObjectsDue = []string{"Service a"} }
func finalizerDue(o *Observed) { o.FinalizerDue = true }
func size(n int) change        { return func(o *Observed) { o.Size = n } }
func doubted(o *Observed)      { o.LeaderDoubted = true }
func downgraded(o *Observed)   { o.Downgrade = "3.5.0" }
func foreign(o *Observed)      { o.ForeignMembers = []string{"https://stranger:2380"} }
func uncertifiedBy(reason string) change {
	return func(o *Observed) {
		o.Uncertified, o.TLSProblems = true, []Problem{{Reason: reason, Message: "what — why — what to do", Severity: Pending}}
	}
}

func problem(reason string) change {
	return func(o *Observed) {
		o.Problems = []Problem{{Reason: reason, Message: "what — why — what to do", Severity: Stalling}}
	}
}

// crashed makes a member's pod missing although its volume is there.
func crashed(m *Member) { m.Pod, m.Answers, m.FollowsLeader = PodAbsent, false, false }

func TestNext(t *testing.T) {
	all := []string{"a-0000", "a-0001", "a-0002"}
	cases := map[string]struct {
		observed Observed
		want     Kind
		wantOn   []string
		reason   string
	}{
		"paused before anything exists":     {observed: Observed{Size: 3}.with(pausedByUser), want: Pause},
		"paused while a pod is missing":     {observed: founded(crashed).with(pausedByUser), want: Pause},
		"nothing exists yet":                {observed: Observed{Size: 3, FounderNames: all}, want: LatchFounders, wantOn: all},
		"status was lost and claims remain": {observed: Observed{Size: 3, FounderNames: []string{"a-0003"}, RecoveredFounders: all}, want: LatchFounders, wantOn: all},
		"the founders were lost and nothing names them": {
			observed: Observed{Size: 3, FounderNames: all}.with(latchedID), want: Wait, reason: "DataMissing",
		},
		"labels are put back before the data is given up":     {observed: founded(mislabelled, refusedData), want: RestoreLabels, wantOn: []string{"a-0002"}},
		"labels are put back before pods are made":            {observed: founded(mislabelled, crashed), want: RestoreLabels, wantOn: []string{"a-0002"}},
		"labels are put back before the latch":                {observed: young(claimed, latched, mislabelled), want: RestoreLabels, wantOn: all},
		"labels are not put back while paused":                {observed: founded(mislabelled).with(pausedByUser), want: Pause},
		"labels that cannot be put back hold nothing up":      {observed: founded(mislabelled, crashed).with(func(o *Observed) { o.Skip = []Kind{RestoreLabels} }), want: StartMembers, wantOn: []string{"a-0002"}},
		"the finalizer comes before volumes":                  {observed: young().with(finalizerDue, certificatesDue), want: SetFinalizer},
		"certificates come before volumes":                    {observed: young().with(certificatesDue, objectsDue), want: IssueCertificates},
		"objects come before volumes":                         {observed: young().with(objectsDue), want: ApplyObjects},
		"a name that is taken holds the founding":             {observed: young().with(problem("NameConflict")), want: Wait, reason: "NameConflict"},
		"a backup that cannot be restored holds the founding": {observed: young().with(problem("RestoreBlocked")), want: Wait, reason: "RestoreBlocked"},
		"and does not hold a repair":                          {observed: founded(crashed).with(problem("RestoreBlocked")), want: StartMembers, wantOn: []string{"a-0002"}},
		"without certificates nobody is founded":              {observed: young().with(uncertifiedBy("IssuerUnavailable")), want: Wait, reason: "IssuerUnavailable"},
		"who runs is not held up by who lacks certificates":   {observed: founders(member(0, claimed, latched, runs), member(1, claimed, latched), member(2, claimed, latched)).with(uncertifiedBy("CertificateRefused")), want: StartMembers, wantOn: []string{"a-0001", "a-0002"}},
		"a repair does not wait for certificates":             {observed: founded(crashed).with(uncertifiedBy("CertificateRefused")), want: StartMembers, wantOn: []string{"a-0002"}},
		"the point of an archive comes before volumes":        {observed: young().with(point(Point{Due: true})), want: RebuildPoint, reason: "Restoring"},
		"it is waited for":                                    {observed: young().with(point(Point{Waits: "a Job"})), want: Wait, reason: "Restoring"},
		"it is put on record before volumes":                  {observed: young().with(point(Point{BackupID: "b", Due: true})), want: LatchPoint, reason: "Restoring"},
		"founders that run do not wait for it":                {observed: young(claimed, latched, runs, podReady, onRecord).with(point(Point{Waits: "a Job"})), want: Wait, reason: "Founding"},
		"another problem does not hold the founding":          {observed: young().with(problem("MemberUnschedulable")), want: CreateVolumes, wantOn: all},
		"a name that is taken does not hold a repair":         {observed: founded(crashed).with(problem("NameConflict")), want: StartMembers, wantOn: []string{"a-0002"}},
		"no volume exists":                                    {observed: young(), want: CreateVolumes, wantOn: all},
		"one volume is missing and none is on record":         {observed: founders(member(0, pending), member(1, pending), member(2)), want: CreateVolumes, wantOn: []string{"a-0002"}},
		"a volume on record is gone":                          {observed: founders(member(0, claimed, latched, runs), member(1, claimed, latched, runs), member(2, latched)), want: Wait, wantOn: []string{"a-0002"}, reason: "DataMissing"},
		"a volume on record is gone and never started":        {observed: founders(member(0, booted), member(1, booted), member(2, latched, listed)).with(confirmed), want: RecordMembers, wantOn: []string{"a-0000", "a-0001"}},
		"status was lost, pods run and a volume is gone":      {observed: founders(member(0, claimed, runs), member(1, claimed, runs), member(2)), want: Wait, reason: "Founding"},
		"ready pods while etcd cannot be asked": {
			observed: young(claimed, latched, runs, maybeEmpty, podReady), want: RecordMembers, wantOn: all,
		},
		"ready pods are on record while etcd cannot be asked": {
			observed: young(claimed, latched, runs, podReady, onRecord), want: Wait, reason: "Founding",
		},
		"a founder's pod ended as soon as it was made":   {observed: young(claimed, latched, ended, fresh), want: Wait, reason: "Founding"},
		"volumes are not on record":                      {observed: young(pending), want: LatchVolumes, wantOn: all},
		"a volume on its way out is not put on record":   {observed: founders(member(0, pending), member(1, pending), member(2, volume(VolumeTerminating))), want: Wait, reason: "Founding"},
		"a lost volume on record does not hold the rest": {observed: founders(member(0, pending), member(1, pending), member(2, latched, volume(VolumeTerminating))), want: LatchVolumes, wantOn: all},
		"one volume is on record and the others are not": {
			observed: founders(member(0, pending, latched), member(1, pending), member(2, pending)), want: LatchVolumes, wantOn: all,
		},
		"volumes are on record and unbound":           {observed: young(pending, latched), want: StartMembers, wantOn: all},
		"volumes are on record and bound":             {observed: young(claimed, latched), want: StartMembers, wantOn: all},
		"an unbound claim was made from another spec": {observed: young(pending, latched, volumeOutdated), want: UnlatchVolumes, wantOn: all},
		"an outdated claim is off the record":         {observed: young(pending, volumeOutdated), want: ReplaceVolumes, wantOn: all},
		"a pod waits for an outdated claim":           {observed: young(pending, latched, waiting, outdated), want: DeletePods, wantOn: all},
		"a pod of an outdated claim is on its way out": {
			observed: young(pending, latched, outdated, leaving), want: Wait, reason: "Founding",
		},
		"a waiting pod in memory is an outdated volume": {observed: young(pending, latched, waiting, volumeOutdated), want: UnlatchVolumes, wantOn: all},
		"an outdated claim whose pod runs":              {observed: young(pending, latched, runs, outdated), want: Wait, reason: "Founding"},
		"a bound claim is never outdated":               {observed: young(claimed, latched, volumeOutdated), want: StartMembers, wantOn: all},
		"a founder's pod waits and was made from another spec": {
			observed: founders(member(0, claimed, latched, waiting, outdated), member(1, claimed, latched, runs, outdated), member(2, claimed, latched, waiting)),
			want:     DeletePods, wantOn: []string{"a-0000"},
		},
		"founders start":                      {observed: young(claimed, latched, runs), want: Wait, reason: "Founding"},
		"founders answer and nobody leads":    {observed: young(claimed, latched, runs, leaderless), want: Wait, reason: "Founding"},
		"founders agree and are not recorded": {observed: young(booted).with(confirmed), want: RecordMembers, wantOn: all},
		"founders are recorded":               {observed: young(up).with(confirmed), want: LatchCluster, wantOn: all},
		"two of three founders agree":         {observed: founders(member(0, up), member(1, up), member(2, claimed, latched, runs, listed)).with(confirmed), want: LatchCluster, wantOn: all},
		"two of three founders agree and one of them goes": {
			observed: founders(member(0, up), member(1, up, leaving), member(2, claimed, latched, runs, listed)).with(confirmed), want: Wait, wantOn: []string{"a-0002"}, reason: "Degraded",
		},
		"one of three founders has the list":       {observed: founders(member(0, claimed, latched, runs, answers), member(1, claimed, latched, runs), member(2, claimed, latched, runs)).with(confirmed), want: Wait, reason: "Founding"},
		"a stranger is listed among the founders":  {observed: founders(member(0, claimed, latched, runs, listed, answers), member(1, claimed, latched, runs, listed, answers), member(2, claimed, latched, runs, listed)).with(confirmed, foreign), want: Wait, reason: "Founding"},
		"the guard refuses a founder":              {observed: founders(member(0, claimed, latched, waiting, refusedData), member(1, claimed, latched), member(2, claimed, latched)), want: RecordRefusals, wantOn: []string{"a-0000"}},
		"a founder's pod was evicted":              {observed: founders(member(0, claimed, latched, ended), member(1, claimed, latched), member(2, claimed, latched)), want: DeletePods, wantOn: []string{"a-0000"}},
		"all is well":                              {observed: founded(), want: Settled, reason: "Healthy"},
		"a pod is missing":                         {observed: founded(crashed), want: StartMembers, wantOn: []string{"a-0002"}, reason: "Repairing"},
		"all pods are missing":                     {observed: founders(member(0, claimed, recorded), member(1, claimed, recorded), member(2, claimed, recorded)).with(latchedID), want: StartMembers, wantOn: all},
		"status was lost and all pods are missing": {observed: founders(member(0, claimed, recorded), member(1, claimed, recorded), member(2, claimed, recorded)), want: StartMembers, wantOn: all},
		"the guard refuses a member that may never have started, and etcd cannot be asked": {
			observed: founders(member(0, up), member(1, up), member(2, claimed, latched, waiting, refusedData)).with(latchedID), want: Wait, reason: "Degraded",
		},
		"the guard refuses a member that etcd says has never started": {
			observed: founders(member(0, up), member(1, up), member(2, claimed, latched, waiting, refusedData, listed)).with(confirmed, latchedID), want: DeletePods, wantOn: []string{"a-0002"},
		},
		"the guard refuses a member that was ready once": {
			observed: founders(member(0, up), member(1, up), member(2, claimed, latched, waiting, refusedData, onRecord)).with(latchedID), want: RecordRefusals, wantOn: []string{"a-0002"},
		},
		"status was lost and a founder has never started": {
			observed: founders(member(0, up), member(1, up), member(2, claimed, listed)).with(confirmed, unlatched), want: LatchVolumes, wantOn: all,
		},
		"a pod is missing and certificates are due":   {observed: founded(crashed).with(certificatesDue, objectsDue, finalizerDue), want: StartMembers, wantOn: []string{"a-0002"}},
		"a pod may still run on its last node":        {observed: founded(crashed, elsewhere), want: Wait, wantOn: []string{"a-0002"}, reason: "Degraded"},
		"a pod ended":                                 {observed: founded(ended), want: DeletePods, wantOn: []string{"a-0002"}},
		"a pod is on its way out":                     {observed: founded(leaving), want: Settled},
		"a pod waits and was made from another spec":  {observed: founded(crashed, waiting, outdated), want: DeletePods, wantOn: []string{"a-0002"}},
		"a pod runs and was made from another spec":   {observed: founded(podOutdated), want: Wait, reason: "Rolling", wantOn: []string{"a-0002"}},
		"a volume was made from another spec":         {observed: founded(fixedSize), want: Wait, reason: "VolumeChangePending"},
		"the guard refuses the data":                  {observed: founded(crashed, waiting, refusedData), want: RecordRefusals, wantOn: []string{"a-0002"}},
		"refused data gets no pod":                    {observed: founded(crashed, volume(VolumeRefused)), want: Wait, reason: "Replacing"},
		"data is refused and nobody can be asked":     {observed: founded(crashed, volume(VolumeRefused)).with(alone), want: Wait, wantOn: []string{"a-0002"}, reason: "DataMissing"},
		"a volume is gone":                            {observed: founded(crashed, volume(VolumeAbsent)), want: Wait, reason: "Replacing"},
		"a volume is lost":                            {observed: founded(crashed, volume(VolumeLost)), want: Wait, reason: "Replacing"},
		"a volume is going while etcd runs on it":     {observed: founded(volume(VolumeTerminating)), want: Wait, reason: "Replacing"},
		"a volume is going and nobody can be asked":   {observed: founded(volume(VolumeTerminating)).with(alone), want: Wait, wantOn: []string{"a-0002"}, reason: "DataMissing"},
		"a volume goes with its pod beside a quorum":  {observed: founded(leaving, volume(VolumeTerminating)), want: Wait, wantOn: []string{"a-0002"}, reason: "Degraded"},
		"a volume goes with its pod after the quorum": {observed: founded(leaving, volume(VolumeTerminating)).with(alone), want: Wait, wantOn: []string{"a-0002"}, reason: "DataMissing"},
		"refused data goes with its pod":              {observed: founded(leaving, volume(VolumeRefused)), want: Wait, wantOn: []string{"a-0002"}, reason: "DataMissing"},
		"two volumes of three go with their pods":     {observed: founders(member(0, up), member(1, up, leaving, volume(VolumeTerminating)), member(2, up, leaving, volume(VolumeTerminating))).with(confirmed, latchedID), want: Wait, wantOn: []string{"a-0001", "a-0002"}, reason: "DataMissing"},
		"one goes beside a quorum, one was refused":   {observed: settledWith(5, member(3, up, steady, leaving, volume(VolumeTerminating)), member(4, up, steady, crashed, waiting, volume(VolumeRefused))), want: AllotMember, reason: "Replacing"},
		"a lost volume does not hold back a repair":   {observed: founders(member(0, up), member(1, up, crashed), member(2, up, crashed, volume(VolumeLost))).with(latchedID), want: StartMembers, wantOn: []string{"a-0001"}},
		"a member started after the latch":            {observed: founders(member(0, up), member(1, up), member(2, booted)).with(confirmed, latchedID), want: RecordMembers, wantOn: []string{"a-0002"}},
		"an empty directory is still allowed":         {observed: founded(maybeEmpty), want: RecordMembers, wantOn: []string{"a-0002"}},
		"the pod runs on another node":                {observed: founded(nodeMoved), want: RecordMembers, wantOn: []string{"a-0002"}},
		"the claim that would name the node is going": {observed: founded(nodeMoved, volume(VolumeTerminating)), want: Wait, reason: "Replacing"},
		"nothing is recorded without a majority":      {observed: founded(maybeEmpty).with(alone), want: Settled},
		"status lost the cluster ID":                  {observed: founded().with(unlatched), want: LatchCluster},
		"members of two clusters answer after status was lost": {
			observed: founders(member(0, up), member(1, up, func(m *Member) { m.AnswerClusterID = 0xbad }), member(2, up, crashed, waiting)).with(confirmed),
			want:     Wait, wantOn: []string{"a-0002"}, reason: "Degraded",
		},
		"status lost the cluster ID and strangers outvote the members": {
			observed: founders(member(0, up)).with(confirmed, foreign), want: Wait, reason: "Founding",
		},
		"certificates are due at rest":        {observed: founded().with(certificatesDue, objectsDue), want: IssueCertificates},
		"objects are due at rest":             {observed: founded().with(objectsDue), want: ApplyObjects},
		"the finalizer is due at rest":        {observed: founded().with(finalizerDue, objectsDue), want: SetFinalizer},
		"a member is down":                    {observed: founded(crashed, waiting), want: Wait, wantOn: []string{"a-0002"}, reason: "Degraded"},
		"a member that is down hides no loss": {observed: founders(member(0, up), member(1, up, crashed, waiting), member(2, up, crashed, volume(VolumeLost))).with(confirmed, latchedID), want: Wait, wantOn: []string{"a-0002"}, reason: "DataMissing"},
		"the size was changed":                {observed: founded().with(size(5)), want: AllotMember, reason: "Growing"},
		"a repair goes before a size change":  {observed: founded(crashed).with(size(5)), want: StartMembers, wantOn: []string{"a-0002"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := Next(tc.observed)
			if got.Kind != tc.want || (tc.reason != "" && got.Reason != tc.reason) {
				t.Errorf("Next() = %s/%s %v (%s), want %s/%s", got.Kind, got.Reason, got.Members, got.Message, tc.want, tc.reason)
			}
			if diff := cmp.Diff(tc.wantOn, got.Members); tc.wantOn != nil && diff != "" {
				t.Errorf("Next() = %s on other members (-want +got):\n%s", got.Kind, diff)
			}
		})
	}
}

func TestMessages(t *testing.T) {
	cases := map[string]struct {
		observed Observed
		want     []string
	}{
		"a lost volume says why, and what to do": {
			observed: founded(crashed, volume(VolumeLost), trouble("gone")).with(alone),
			want:     []string{"a-0002", "2 of 3 members answer", " — starting on an empty volume would lose acknowledged writes", "bring a volume back"},
		},
		"refused data carries the guard's words": {
			observed: founded(crashed, volume(VolumeRefused), trouble("found snap/db only")).with(alone),
			want:     []string{"(found snap/db only)"},
		},
		"a volume that goes under a running member is not called down": {
			observed: founded(volume(VolumeTerminating)).with(alone),
			want:     []string{"being deleted while etcd runs", "3 of 3 members answer", " — save their data"},
		},
		"waiting founders say what holds them up": {
			observed: young(claimed, latched, waiting, trouble("its pod is starting")),
			want:     []string{"0 of 3 founders answer; 2 are needed", "a-0001: its pod is starting"},
		},
		"a size change names both numbers":   {observed: founded().with(size(5)), want: []string{"spec.size is 5", "has 3 voters"}},
		"a member that is replaced says why": {observed: settledWith(3, member(2, up, dead)), want: []string{"a-0002", "its volume is gone", "preparing another member"}},
		"many Secrets are counted": {
			observed: founded().with(func(o *Observed) { o.CertificatesDue = strings.Split("abcdefg", "") }),
			want:     []string{"a, b, c, d and 3 more"},
		},
		"all is well": {observed: founded(), want: []string{"all 3 members are healthy"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := Next(tc.observed).Message
			for _, part := range tc.want {
				if !strings.Contains(got, part) {
					t.Errorf("message %q does not hold %q", got, part)
				}
			}
		})
	}
}

// TestFounding carries out each step as the world would and asks again: from
// nothing to a settled cluster, in this order and no other.
func TestFounding(t *testing.T) {
	o := Observed{Size: 3, FounderNames: []string{"a-0000", "a-0001", "a-0002"}, FinalizerDue: true}
	var got []Kind
	for range 20 {
		step := Next(o)
		got = append(got, step.Kind)
		if step.Kind == Settled {
			break
		}
		o = carryOut(o, step)
	}
	want := []Kind{
		LatchFounders, SetFinalizer, IssueCertificates, ApplyObjects, CreateVolumes, LatchVolumes, StartMembers,
		Wait, RecordMembers, LatchCluster, Settled,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the founding took other steps (-want +got):\n%s", diff)
	}
}

func point(p Point) func(*Observed) { return func(o *Observed) { o.Point = &p } }

// carryOut is what a step brings about in a world without faults.
func carryOut(o Observed, step Step) Observed {
	each := func(e edit) {
		members := append([]Member{}, o.Members...)
		for i := range members {
			e(&members[i])
		}
		o.Members = members
	}
	switch step.Kind {
	case LatchFounders:
		o = founders(member(0), member(1), member(2)).with(func(n *Observed) { n.FinalizerDue = o.FinalizerDue }, certificatesDue, objectsDue)
	case SetFinalizer:
		o.FinalizerDue = false
	case IssueCertificates:
		o.CertificatesDue = nil
	case ApplyObjects:
		o.ObjectsDue = nil
	case CreateVolumes:
		each(pending)
	case LatchVolumes:
		o.VolumesLatched = true
		each(latched)
	case StartMembers:
		each(claimed)
		each(runs)
		each(maybeEmpty)
	case Wait:
		o = o.with(confirmed)
		each(started)
		each(answers)
	case RecordMembers:
		each(recorded)
		each(func(m *Member) { m.PodMayBeEmpty = false })
	case LatchCluster:
		o = o.with(latchedID)
	default:
		panic("an undisturbed founding has no step " + string(step.Kind))
	}
	return o
}

func TestMajority(t *testing.T) {
	for n, want := range map[int]int{1: 1, 2: 2, 3: 2, 4: 3, 5: 3, 6: 4, 7: 4} {
		if got := Majority(n); got != want {
			t.Errorf("Majority(%d) = %d, want %d", n, got, want)
		}
	}
}

func TestObserved(t *testing.T) {
	o := founders(member(0, up), member(1, up, leaderless), member(2, up, func(m *Member) { m.Learner = true })).with(foreign)
	if got := o.HealthyVoters(); got != 1 {
		t.Errorf("HealthyVoters() = %d, want 1: a learner and a member without a leader do not count", got)
	}
	if got := o.Voters(); got != 3 {
		t.Errorf("Voters() = %d, want 3: two of ours and the stranger", got)
	}
	if _, ok := o.Member("a-0003"); ok {
		t.Error("Member(a-0003) was found")
	}
	if m, ok := o.Member("a-0001"); !ok || m.Ordinal != 1 {
		t.Errorf("Member(a-0001) = %+v, %v", m, ok)
	}
	if (Observed{Members: []Member{member(0, booted)}}).Founded() {
		t.Error("Founded() although nothing is recorded")
	}
	if !(Observed{Members: []Member{member(0, recorded)}}).Founded() {
		t.Error("not Founded() although a claim carries a member ID")
	}
}
