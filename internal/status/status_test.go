package status

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/plan"
)

const clusterID = 0xc1

type change func(*plan.Observed)

// cluster as the API server returns it before the first pass.
func cluster() *v1alpha1.EtcdCluster {
	return &v1alpha1.EtcdCluster{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "EtcdCluster"},
		ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "ns", UID: "5e1f", Generation: 3},
		Spec:       v1alpha1.EtcdClusterSpec{Size: 3, Version: "3.6.16"},
		Status:     v1alpha1.EtcdClusterStatus{ObservedGeneration: -1},
	}
}

// healthy is a look at a founded cluster of three.
func healthy(changes ...change) plan.Observed {
	o := plan.Observed{Size: 3, Version: "3.6.16", ClusterID: clusterID, VolumesLatched: true, List: true, AgreedClusterID: clusterID, ReadOK: true, LeaderSettled: true}
	for i := range 3 {
		name := fmt.Sprintf("a-%04d", i)
		o.Founders = append(o.Founders, name)
		o.Members = append(o.Members, plan.Member{
			Name: name, Ordinal: i, Founder: true, Volume: plan.VolumeBound, VolumeLatched: true, RecordedID: uint64(i) + 1,
			Pod: plan.PodRunning, PodReady: true, Listed: true, ID: uint64(i) + 1, Started: true,
			Steady: true, Answers: true, AnswerClusterID: clusterID, Leads: i == 0, FollowsLeader: true, Version: "3.6.16", DBSize: 20480,
		})
	}
	for _, c := range changes {
		c(&o)
	}
	return o
}

// down makes the last n members silent.
func down(n int) change {
	return func(o *plan.Observed) {
		for i := 3 - n; i < 3; i++ {
			m := &o.Members[i]
			m.Pod, m.PodReady, m.Answers, m.FollowsLeader, m.Leads = plan.PodWaiting, false, false, false, false
			m.Version, m.DBSize, m.Trouble = "", 0, "container etcd waits: ImagePullBackOff"
		}
		if n > 1 {
			o.List, o.ReadOK, o.AgreedClusterID = false, false, 0
			for i := range o.Members {
				o.Members[i].Listed, o.Members[i].Started, o.Members[i].ID = false, false, 0
			}
		}
	}
}

func unreachable(o *plan.Observed) {
	down(3)(o)
	for i := range o.Members {
		o.Members[i].Pod, o.Members[i].PodReady, o.Members[i].Trouble = plan.PodRunning, true, "it does not answer: no answer in time"
	}
}

func unfounded(o *plan.Observed) {
	down(3)(o)
	o.ClusterID = 0
	for i := range o.Members {
		o.Members[i].RecordedID = 0
	}
}

func nothingYet(o *plan.Observed) {
	*o = plan.Observed{Size: 3, FounderNames: []string{"a-0000", "a-0001", "a-0002"}}
}

func lostVolume(o *plan.Observed) {
	down(1)(o)
	o.Members[2].Pod, o.Members[2].Volume = plan.PodAbsent, plan.VolumeLost
}

func troubled(reason string, severity plan.Severity) change {
	return func(o *plan.Observed) {
		o.Problems = append(o.Problems, plan.Problem{Reason: reason, Severity: severity, Message: "the API's words — why — what to do"})
	}
}

func outdatedPod(o *plan.Observed) { o.Members[1].PodOutdated = true }
func inMemory(o *plan.Observed)    { o.InMemory, o.Members[1].InMemory = true, true }
func wants(version string) change  { return func(o *plan.Observed) { o.Version = version } }

func mistyped(o *plan.Observed) {
	o.OptionTrouble = "etcd has no flag log-levl — it would not start with it — correct it"
}

func outdatedVolume(o *plan.Observed) {
	o.Members[1].VolumeSmall, o.Members[1].VolumeFixed = true, "its class does not allow expansion"
}

func paused(o *plan.Observed) { o.Paused = true }

func twoVolumesLost(o *plan.Observed) {
	down(2)(o)
	for i := 1; i < 3; i++ {
		o.Members[i].Pod, o.Members[i].Volume = plan.PodAbsent, plan.VolumeLost
	}
}

func certificatesDue(o *plan.Observed) {
	o.CertificatesDue = []string{"Secret a-0001-tls"}
}
func readFails(o *plan.Observed)     { o.ReadOK, o.ReadFailed = false, "no answer in time" }
func expired(o *plan.Observed)       { o.Expired = []string{"a-0007"} }
func oneFollows(o *plan.Observed)    { o.Members[0].Answers, o.Members[0].FollowsLeader = true, true }
func oneLeaderless(o *plan.Observed) { o.Members[0].Answers = true }
func learnerAlone(o *plan.Observed) {
	o.Members[0].Answers, o.Members[0].PodReady = false, false
	o.Members[3].Answers, o.Members[3].Listed, o.Members[3].Learner = true, false, true
}
func trails(o *plan.Observed)        { o.Members[3].Trails = true }
func proposalFails(o *plan.Observed) { o.ProposeFailed = "no answer in time" }
func noSpace(o *plan.Observed) {
	o.Alarms, o.ProposeFailed = []string{"NOSPACE on member 1"}, "database space exceeded"
}

func oldVolume(o *plan.Observed) {
	o.OldVolumes = []plan.OldVolume{{Claim: "data-a-0009", ClusterUID: "01d"}}
}

func expiringAuthority(o *plan.Observed) {
	o.TLSProblems = []plan.Problem{{Reason: "AuthorityExpiring", Message: "what — why — what to do"}}
}

// Until a cluster that adopts serves, the volumes of another UID may be those that are meant.
func TestNobodyIsToldToDeleteWhatMayBeAdopted(t *testing.T) {
	adopts := func(o *plan.Observed) { o.Adoption = &plan.Adoption{ClusterUID: "typo"} }
	unfounded := func(o *plan.Observed) { o.ClusterID = 0 }
	for name, tc := range map[string]struct {
		seen    plan.Observed
		deletes bool
	}{
		"before it serves": {healthy(oldVolume, adopts, unfounded), false},
		"once it does":     {healthy(oldVolume, adopts), true},
		"without a word":   {healthy(oldVolume), true},
	} {
		got := oldVolumes(tc.seen)
		if strings.Contains(got.Message, "kubectl delete") != tc.deletes || strings.Count(got.Message, " — ") < 2 || !strings.Contains(got.Message, "01d") {
			t.Errorf("%s: %s", name, got.Message)
		}
	}
}

// pass reports one pass over what was seen, whose step ended with the error.
func pass(c *v1alpha1.EtcdCluster, o plan.Observed, err error) Outcome {
	outcome := Outcome{Seen: o, Step: plan.Next(o), Err: err}
	Report(c, outcome)
	return outcome
}

var (
	pods         = schema.GroupResource{Resource: "pods"}
	errForbidden = fmt.Errorf("creating pod a-0002: %w", apierrors.NewForbidden(pods, "a-0002", errors.New("exceeded quota: count, requested: pods=1")))
	errTimedOut  = fmt.Errorf("creating pod a-0002: %w", apierrors.NewTimeoutError("the server did not answer", 1))
)

// states that a cluster can be in, and what must be said of them: kstatus's
// verdict, the reason that the Status column shows, and whether it is available.
var states = map[string]struct {
	seen      plan.Observed
	err       error
	verdict   status.Status
	reason    string
	available metav1.ConditionStatus
}{
	"nothing exists yet":          {healthy(nothingYet), nil, status.InProgressStatus, v1alpha1.ReasonFounding, metav1.ConditionFalse},
	"founding":                    {healthy(unfounded), nil, status.InProgressStatus, v1alpha1.ReasonFounding, metav1.ConditionFalse},
	"founding with no image":      {healthy(unfounded, troubled(v1alpha1.ReasonImagePullFailed, plan.Stalling)), nil, status.FailedStatus, v1alpha1.ReasonImagePullFailed, metav1.ConditionFalse},
	"founding without a node":     {healthy(unfounded, troubled(v1alpha1.ReasonMemberUnschedulable, plan.Pending)), nil, status.InProgressStatus, v1alpha1.ReasonMemberUnschedulable, metav1.ConditionFalse},
	"founding beside a namesake":  {healthy(unfounded, troubled(v1alpha1.ReasonNameConflict, plan.Stalling)), nil, status.FailedStatus, v1alpha1.ReasonNameConflict, metav1.ConditionFalse},
	"ready":                       {healthy(), nil, status.CurrentStatus, v1alpha1.ReasonHealthy, metav1.ConditionTrue},
	"ready with old volumes":      {healthy(oldVolume), nil, status.CurrentStatus, v1alpha1.ReasonHealthy, metav1.ConditionTrue},
	"ready, an authority is old":  {healthy(expiringAuthority), nil, status.CurrentStatus, v1alpha1.ReasonHealthy, metav1.ConditionTrue},
	"ready and renewing":          {healthy(certificatesDue), nil, status.CurrentStatus, v1alpha1.ReasonHealthy, metav1.ConditionTrue},
	"a renewal is refused":        {healthy(certificatesDue), errForbidden, status.FailedStatus, v1alpha1.ReasonApplyFailed, metav1.ConditionTrue},
	"one member is down":          {healthy(down(1)), nil, status.InProgressStatus, v1alpha1.ReasonDegraded, metav1.ConditionTrue},
	"one member has no image":     {healthy(down(1), troubled(v1alpha1.ReasonImagePullFailed, plan.Stalling)), nil, status.FailedStatus, v1alpha1.ReasonImagePullFailed, metav1.ConditionTrue},
	"a pod is refused":            {healthy(down(1), func(o *plan.Observed) { o.Members[2].Pod = plan.PodAbsent }), errForbidden, status.FailedStatus, v1alpha1.ReasonMemberPodRejected, metav1.ConditionTrue},
	"a pod is not created yet":    {healthy(down(1), func(o *plan.Observed) { o.Members[2].Pod = plan.PodAbsent }), errTimedOut, status.InProgressStatus, v1alpha1.ReasonMemberPodRejected, metav1.ConditionTrue},
	"quorum is lost":              {healthy(down(2)), nil, status.InProgressStatus, v1alpha1.ReasonQuorumLost, metav1.ConditionFalse},
	"nobody can be asked":         {healthy(unreachable), nil, status.InProgressStatus, v1alpha1.ReasonProbeFailed, metav1.ConditionUnknown},
	"reads fail":                  {healthy(readFails), nil, status.InProgressStatus, v1alpha1.ReasonProbeFailed, metav1.ConditionFalse},
	"one is reached and led":      {healthy(unreachable, oneFollows), nil, status.InProgressStatus, v1alpha1.ReasonProbeFailed, metav1.ConditionUnknown},
	"one is reached and not led":  {healthy(unreachable, oneLeaderless), nil, status.InProgressStatus, v1alpha1.ReasonQuorumLost, metav1.ConditionFalse},
	"a learner is no voter":       {healthy(sized(5), learning, down(2), learnerAlone), nil, status.InProgressStatus, v1alpha1.ReasonQuorumLost, metav1.ConditionFalse},
	"authentication is on":        {healthy(readFails, troubled(v1alpha1.ReasonAuthFailed, plan.Stalling)), nil, status.FailedStatus, v1alpha1.ReasonAuthFailed, metav1.ConditionUnknown},
	"a quarantine is over":        {healthy(expired), nil, status.CurrentStatus, v1alpha1.ReasonHealthy, metav1.ConditionTrue},
	"a learner makes no progress": {healthy(sized(4), learning, func(o *plan.Observed) { o.Members[3].Lags = true }), nil, status.InProgressStatus, v1alpha1.ReasonLearnerNotSynced, metav1.ConditionTrue},
	"a learner comes no nearer":   {healthy(sized(4), learning, trails), nil, status.InProgressStatus, v1alpha1.ReasonLearnerNotSynced, metav1.ConditionTrue},
	"a proposal got no answer":    {healthy(proposalFails), nil, status.InProgressStatus, v1alpha1.ReasonProbeFailed, metav1.ConditionFalse},
	"the database is full":        {healthy(noSpace), nil, status.FailedStatus, v1alpha1.ReasonAlarm, metav1.ConditionFalse},
	"paused":                      {healthy(paused), nil, status.InProgressStatus, v1alpha1.ReasonPaused, metav1.ConditionTrue},
	"paused while a member is up": {healthy(paused, down(1)), nil, status.InProgressStatus, v1alpha1.ReasonPaused, metav1.ConditionTrue},
	"a volume is lost":            {healthy(lostVolume), nil, status.InProgressStatus, v1alpha1.ReasonReplacing, metav1.ConditionTrue},
	"two volumes are lost":        {healthy(twoVolumesLost), nil, status.FailedStatus, v1alpha1.ReasonDataMissing, metav1.ConditionFalse},
	"growing begins":              {healthy(sized(5)), nil, status.InProgressStatus, v1alpha1.ReasonGrowing, metav1.ConditionTrue},
	"growing, one is prepared":    {healthy(sized(5), joining), nil, status.InProgressStatus, v1alpha1.ReasonGrowing, metav1.ConditionTrue},
	"growing, no node for it":     {healthy(sized(5), joining, troubled(v1alpha1.ReasonMemberUnschedulable, plan.Pending)), nil, status.InProgressStatus, v1alpha1.ReasonMemberUnschedulable, metav1.ConditionTrue},
	"growing, no image for it":    {healthy(sized(5), joining, troubled(v1alpha1.ReasonImagePullFailed, plan.Stalling)), nil, status.FailedStatus, v1alpha1.ReasonImagePullFailed, metav1.ConditionTrue},
	"growing, a learner is there": {healthy(sized(5), learning), nil, status.InProgressStatus, v1alpha1.ReasonGrowing, metav1.ConditionTrue},
	"growing, etcd refuses":       {healthy(sized(5), joining), etcd.ErrPermission, status.FailedStatus, v1alpha1.ReasonApplyFailed, metav1.ConditionTrue},
	"growing, quorum is lost":     {healthy(sized(5), down(2)), nil, status.InProgressStatus, v1alpha1.ReasonQuorumLost, metav1.ConditionFalse},
	"growing, and paused":         {healthy(sized(5), learning, paused), nil, status.InProgressStatus, v1alpha1.ReasonPaused, metav1.ConditionTrue},
	"shrinking":                   {healthy(sized(1)), nil, status.InProgressStatus, v1alpha1.ReasonShrinking, metav1.ConditionTrue},
	"shrinking, one is down":      {healthy(sized(1), down(1)), nil, status.InProgressStatus, v1alpha1.ReasonShrinking, metav1.ConditionTrue},
	"shrinking, what is left":     {healthy(removed), nil, status.InProgressStatus, v1alpha1.ReasonShrinking, metav1.ConditionTrue},
	"a node is gone":              {healthy(nodeGone), nil, status.InProgressStatus, v1alpha1.ReasonReplacing, metav1.ConditionTrue},
	"a volume is going":           {healthy(doomed), nil, status.InProgressStatus, v1alpha1.ReasonReplacing, metav1.ConditionTrue},
	"somebody else's member":      {healthy(stranger), nil, status.FailedStatus, v1alpha1.ReasonUnknownMember, metav1.ConditionTrue},
	"a stranger stops the growth": {healthy(stranger, sized(5)), nil, status.FailedStatus, v1alpha1.ReasonUnknownMember, metav1.ConditionTrue},
	"the pod template changed":    {healthy(outdatedPod), nil, status.InProgressStatus, v1alpha1.ReasonRolling, metav1.ConditionTrue},
	"and its data is in memory":   {healthy(outdatedPod, inMemory), nil, status.InProgressStatus, v1alpha1.ReasonReplacing, metav1.ConditionTrue},
	"an option etcd has not":      {healthy(mistyped), nil, status.FailedStatus, v1alpha1.ReasonInvalidOptions, metav1.ConditionTrue},
	"the version cannot be":       {healthy(wants("3.8.0")), nil, status.FailedStatus, v1alpha1.ReasonRollHalted, metav1.ConditionTrue},
	"the storage changed":         {healthy(outdatedVolume), nil, status.FailedStatus, v1alpha1.ReasonVolumeChangePending, metav1.ConditionTrue},
	"a full database is healed":   {healthy(noSpace, raised("NOSPACE"), allHave(100, 40)), nil, status.InProgressStatus, v1alpha1.ReasonAlarm, metav1.ConditionFalse},
	"one that cannot be healed":   {healthy(noSpace, raised("NOSPACE"), allHave(100, 95), triedInVain), nil, status.FailedStatus, v1alpha1.ReasonAlarm, metav1.ConditionFalse},
	"a member stands still":       {healthy(standsStill), nil, status.InProgressStatus, v1alpha1.ReasonDefragmenting, metav1.ConditionTrue},
	"half a database is free":     {healthy(allHave(100, 40)), nil, status.InProgressStatus, v1alpha1.ReasonDefragmenting, metav1.ConditionTrue},
	"nobody knows whose data":     {healthy(differ(1, 2, 3)), nil, status.FailedStatus, v1alpha1.ReasonDataDiffers, metav1.ConditionTrue},
	"data that differs once":      {healthy(differ(2), once), nil, status.InProgressStatus, v1alpha1.ReasonComparing, metav1.ConditionTrue},
	"data that differs":           {healthy(differ(2)), nil, status.InProgressStatus, v1alpha1.ReasonReplacing, metav1.ConditionTrue},
	"etcd doubts the data":        {healthy(raised("CORRUPT")), nil, status.InProgressStatus, v1alpha1.ReasonComparing, metav1.ConditionTrue},
	"a comparison is due":         {healthy(compareDue), nil, status.CurrentStatus, v1alpha1.ReasonHealthy, metav1.ConditionTrue},
	"a defragmentation failed":    {healthy(allHave(100, 40), held), nil, status.CurrentStatus, v1alpha1.ReasonHealthy, metav1.ConditionTrue},
	"ready, and a name is taken":  {healthy(troubled(v1alpha1.ReasonNameConflict, plan.Stalling)), nil, status.FailedStatus, v1alpha1.ReasonNameConflict, metav1.ConditionTrue},
}

func TestVerdicts(t *testing.T) {
	for name, tc := range states {
		t.Run(name, func(t *testing.T) {
			c := cluster()
			pass(c, tc.seen, tc.err)
			if got := verdict(t, c); got != tc.verdict {
				t.Errorf("kstatus says %s, want %s: %+v", got, tc.verdict, c.Status.Conditions)
			}
			ready, available := conditionOf(t, c, v1alpha1.ConditionReady), conditionOf(t, c, v1alpha1.ConditionAvailable)
			if ready.Reason != tc.reason || (ready.Status == metav1.ConditionTrue) != (tc.verdict == status.CurrentStatus) {
				t.Errorf("Ready is %s (%s), want the reason %s: %s", ready.Status, ready.Reason, tc.reason, ready.Message)
			}
			if available.Status != tc.available {
				t.Errorf("Available is %s (%s), want %s: %s", available.Status, available.Reason, tc.available, available.Message)
			}
			c.Generation++
			if got := verdict(t, c); got != status.InProgressStatus {
				t.Errorf("after an edit kstatus says %s, want InProgress", got)
			}
			c.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
			if got := verdict(t, c); got != status.TerminatingStatus {
				t.Errorf("while it is deleted kstatus says %s, want Terminating", got)
			}
		})
	}
}

func TestVerdictBeforeTheFirstPass(t *testing.T) {
	if got := verdict(t, cluster()); got != status.InProgressStatus {
		t.Errorf("kstatus says %s, want InProgress", got)
	}
}

func TestBlindPass(t *testing.T) {
	c := cluster()
	pass(c, healthy(), nil)
	members := c.Status.Members
	ReportBlind(c, errors.New("listing pods: forbidden"))
	if got := verdict(t, c); got != status.InProgressStatus {
		t.Errorf("kstatus says %s, want InProgress", got)
	}
	for _, kind := range []string{v1alpha1.ConditionAvailable, v1alpha1.ConditionReady} {
		if got := conditionOf(t, c, kind); got.Status != metav1.ConditionUnknown || !strings.Contains(got.Message, "listing pods: forbidden") {
			t.Errorf("%s is %s (%s), want Unknown and the error", kind, got.Status, got.Message)
		}
	}
	if diff := cmp.Diff(members, c.Status.Members); diff != "" {
		t.Errorf("a pass that saw nothing changed the members (-want +got):\n%s", diff)
	}
}

func verdict(t *testing.T, c *v1alpha1.EtcdCluster) status.Status {
	t.Helper()
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(c)
	if err != nil {
		t.Fatal(err)
	}
	result, err := status.Compute(&unstructured.Unstructured{Object: object})
	if err != nil {
		t.Fatal(err)
	}
	return result.Status
}

func conditionOf(t *testing.T, c *v1alpha1.EtcdCluster, kind string) metav1.Condition {
	t.Helper()
	found := meta.FindStatusCondition(c.Status.Conditions, kind)
	if found == nil {
		t.Fatalf("no condition %s", kind)
	}
	return *found
}

// TestPaused: nobody works on a cluster that is paused, whatever its state, and what
// is known of it is still told.
func TestPaused(t *testing.T) {
	for name, seen := range map[string]plan.Observed{"well": healthy(paused), "growing": healthy(sized(5), learning, paused), "without quorum": healthy(paused, down(2))} {
		c := cluster()
		pass(c, seen, nil)
		is := conditionOf(t, c, v1alpha1.ConditionReconciling)
		if is.Status != metav1.ConditionFalse || is.Reason != v1alpha1.ReasonPaused || is.Message == "" {
			t.Errorf("%s: Reconciling is %s (%s): %s", name, is.Status, is.Reason, is.Message)
		}
	}
}

// TestConditions holds for every state what readers of conditions rely on.
func TestConditions(t *testing.T) {
	for name, tc := range states {
		t.Run(name, func(t *testing.T) {
			c := cluster()
			pass(c, tc.seen, tc.err)
			reconciling, stalled := conditionOf(t, c, v1alpha1.ConditionReconciling), conditionOf(t, c, v1alpha1.ConditionStalled)
			if reconciling.Status == metav1.ConditionTrue && stalled.Status == metav1.ConditionTrue {
				t.Error("Reconciling and Stalled are both True")
			}
			if strings.Count(stalled.Message, " — ") < 2 && stalled.Status == metav1.ConditionTrue {
				t.Errorf("the user is called without what, why and what to do: %q", stalled.Message)
			}
			for _, is := range c.Status.Conditions {
				if is.ObservedGeneration != c.Generation || is.Reason == "" {
					t.Errorf("%s: generation %d, reason %q", is.Type, is.ObservedGeneration, is.Reason)
				}
				if strings.ContainsAny(is.Message, "\n\r") || !utf8.ValidString(is.Message) {
					t.Errorf("%s: the message is not one line of text: %q", is.Type, is.Message)
				}
				if is.Status != metav1.ConditionFalse && is.Message == "" {
					t.Errorf("%s is %s and says nothing", is.Type, is.Status)
				}
			}
			if c.Status.ObservedGeneration != c.Generation || c.Status.Selector == "" {
				t.Errorf("observedGeneration %d, selector %q", c.Status.ObservedGeneration, c.Status.Selector)
			}
		})
	}
}

// TestAtRest: the same look twice is one write and no event.
func TestAtRest(t *testing.T) {
	for name, tc := range states {
		t.Run(name, func(t *testing.T) {
			c := cluster()
			pass(c, tc.seen, tc.err)
			before := c.Status.DeepCopy()
			for i := range tc.seen.Members {
				// A database grows with every write.
				tc.seen.Members[i].DBSize += tc.seen.Members[i].DBSize / 100
			}
			outcome := pass(c, tc.seen, tc.err)
			if !equality.Semantic.DeepEqual(*before, c.Status) {
				t.Errorf("status changed at rest:\n%s", cmp.Diff(*before, c.Status))
			}
			outcome.Step = plan.Step{Kind: plan.Wait}
			if events := Events(*before, c.Status, outcome, StatusWritten); len(events) > 0 {
				t.Errorf("events at rest: %+v", events)
			}
		})
	}
}

// TestHealsByItself: from every state, one healthy pass leaves nothing behind.
func TestHealsByItself(t *testing.T) {
	for name, tc := range states {
		t.Run(name, func(t *testing.T) {
			c := cluster()
			pass(c, tc.seen, tc.err)
			pass(c, healthy(differ()), nil)
			for _, is := range c.Status.Conditions {
				want := metav1.ConditionTrue
				if is.Type == v1alpha1.ConditionReconciling || is.Type == v1alpha1.ConditionStalled {
					want = metav1.ConditionFalse
				}
				if is.Status != want {
					t.Errorf("%s is still %s: %s", is.Type, is.Status, is.Message)
				}
			}
			if got := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionOldVolumes); got != nil {
				t.Errorf("OldVolumes is still there: %s", got.Message)
			}
		})
	}
}

func TestSummary(t *testing.T) {
	c := cluster()
	pass(c, healthy(down(1)), nil)
	s := c.Status
	if s.MembersSummary != "2/3" || s.Leader != "a-0000" || s.Version != "3.6.16" || s.Replicas != 3 {
		t.Errorf("summary %q, leader %q, version %q, replicas %d", s.MembersSummary, s.Leader, s.Version, s.Replicas)
	}
	want := []v1alpha1.MemberStatus{
		{Name: "a-0000", ID: "1", Role: v1alpha1.RoleVoter, Version: "3.6.16", Health: metav1.ConditionTrue},
		{Name: "a-0001", ID: "2", Role: v1alpha1.RoleVoter, Version: "3.6.16", Health: metav1.ConditionTrue},
		{Name: "a-0002", ID: "3", Role: v1alpha1.RoleVoter, Health: metav1.ConditionFalse, Message: "container etcd waits: ImagePullBackOff"},
	}
	for i := range s.Members {
		if size := s.Members[i].DBSize; (size != nil) != (i < 2) || (size != nil && size.String() != "64Ki") {
			t.Errorf("%s: database of %v", s.Members[i].Name, size)
		}
		s.Members[i].DBSize = nil
	}
	if diff := cmp.Diff(want, s.Members); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
	pass(c, healthy(unreachable), nil)
	for _, m := range c.Status.Members {
		if m.Health != metav1.ConditionUnknown {
			t.Errorf("%s could not be asked and is said to be healthy: %s", m.Name, m.Health)
		}
	}
	if c.Status.Version != "3.6.16" {
		t.Errorf("version %q although it was known", c.Status.Version)
	}
}

func TestVersionIsTheLowest(t *testing.T) {
	for want, versions := range map[string][3]string{
		"3.5.26":  {"3.6.16", "3.5.26", "3.6.16"},
		"3.6.9":   {"3.6.16", "3.6.9", "3.10.0"},
		"3.6.16":  {"3.6.16", "", ""},
		"unknown": {"", "", ""},
	} {
		o := healthy()
		for i := range versions {
			o.Members[i].Version = versions[i]
		}
		if got := version(o, "unknown"); got != want {
			t.Errorf("version of %v = %q, want %q", versions, got, want)
		}
	}
}

func TestSize(t *testing.T) {
	q := size(nil, 100<<20)
	if q.Value() != 100<<20 {
		t.Errorf("size(100 MiB) = %s", q)
	}
	for bytes := int64(91 << 20); bytes <= 110<<20; bytes += 1 << 20 {
		if got := size(q, bytes); got != q {
			t.Errorf("a change from 100 MiB to %d bytes is written as %s", bytes, got)
		}
	}
	if got := size(q, 111<<20); got.Value() < 111<<20 {
		t.Errorf("a database of 111 MiB is said to have %s", got)
	}
	if got := size(q, 89<<20); got.Value() > 90<<20 {
		t.Errorf("a database of 89 MiB is said to have %s", got)
	}
	if got := size(q, 0); got != q {
		t.Errorf("a member that does not answer lost its size: %v", got)
	}
}

func TestLongMessages(t *testing.T) {
	for n := range 4 {
		text := strings.Repeat("x", n) + strings.Repeat("—", 2000)
		got := short(text)
		if !utf8.ValidString(got) || len(got) > 2100 || !strings.HasSuffix(got, " …") {
			t.Errorf("short() of %d bytes: %d bytes, valid: %v", len(text), len(got), utf8.ValidString(got))
		}
	}
	if got := short("short"); got != "short" {
		t.Errorf("short(short) = %q", got)
	}
}

func TestPassingErrors(t *testing.T) {
	cases := map[string]struct {
		err     error
		passing bool
	}{
		"quota":                        {errForbidden, false},
		"a field that is not valid":    {apierrors.NewBadRequest("no"), false},
		"somebody else's object":       {errors.New("claim ns/data-a-0000 exists and does not belong to this cluster"), false},
		"a time-out":                   {errTimedOut, true},
		"an overloaded server":         {apierrors.NewTooManyRequests("slow down", 1), true},
		"a webhook that does not work": {apierrors.NewInternalError(errors.New("failed calling webhook")), true},
		"a call that was cut short":    {fmt.Errorf("creating: %w", context.DeadlineExceeded), true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := Passing(errors.Join(nil, tc.err)); got != tc.passing {
				t.Errorf("Passing(%v) = %v, want %v", tc.err, got, tc.passing)
			}
		})
	}
}

func TestEvents(t *testing.T) {
	start := plan.Step{Kind: plan.StartMembers, Message: "the pods of a-0002 are missing"}
	cases := map[string]struct {
		before, after plan.Observed
		step          plan.Step
		err           error
		want          []string
	}{
		"at rest":                     {healthy(), healthy(), plan.Step{Kind: plan.Settled}, nil, nil},
		"a pod is made":               {healthy(down(1)), healthy(down(1)), start, nil, []string{"Normal StartMembers"}},
		"a pod is refused":            {healthy(down(1)), healthy(down(1)), start, errForbidden, nil},
		"labels are put back":         {healthy(), healthy(), plan.Step{Kind: plan.RestoreLabels, Message: "x"}, nil, []string{"Warning ChildDrift"}},
		"data is refused":             {healthy(), healthy(), plan.Step{Kind: plan.RecordRefusals, Message: "x"}, nil, []string{"Warning DataMissing"}},
		"certificates are renewed":    {healthy(), healthy(certificatesDue), plan.Step{Kind: plan.IssueCertificates, Message: "x"}, nil, []string{"Normal IssueCertificates"}},
		"what was edited is put back": {healthy(), healthy(drifted), plan.Step{Kind: plan.ApplyObjects, Message: "x"}, nil, []string{"Warning ChildDrift"}},
		"what was edited waits":       {healthy(), healthy(drifted), plan.Step{Kind: plan.StartMembers, Message: "x"}, nil, []string{"Normal StartMembers"}},
		"quorum goes":                 {healthy(), healthy(down(2)), plan.Step{Kind: plan.Wait}, nil, []string{"Warning QuorumLost"}},
		"two volumes go":              {healthy(), healthy(twoVolumesLost), plan.Step{Kind: plan.Wait}, nil, []string{"Warning QuorumLost", "Warning DataMissing", "Warning VolumeLost"}},
		"a member is replaced":        {healthy(), healthy(lostVolume), plan.Step{Kind: plan.Wait}, nil, []string{"Warning VolumeLost"}},
		"quorum returns":              {healthy(down(2)), healthy(), plan.Step{Kind: plan.Wait}, nil, []string{"Normal ProbeSucceeded", "Normal Healthy"}},
		"a member returns":            {healthy(down(1)), healthy(), plan.Step{Kind: plan.Wait}, nil, []string{"Normal Healthy"}},
		"the user is needed":          {healthy(), healthy(mistyped), plan.Step{Kind: plan.Wait}, nil, []string{"Warning InvalidOptions"}},
		"the user is needed no more":  {healthy(mistyped), healthy(), plan.Step{Kind: plan.Wait}, nil, []string{"Normal Healthy"}},
		"a member is restarted":       {healthy(), healthy(outdatedPod), plan.Step{Kind: plan.RestartMember, Message: "x"}, nil, []string{"Normal RestartMember"}},
		"the user is needed for more": {healthy(mistyped), healthy(outdatedVolume), plan.Step{Kind: plan.Wait}, nil, []string{"Warning VolumeChangePending"}},
		"a learner trails":            {healthy(sized(4), learning), healthy(sized(4), learning, trails), plan.Step{Kind: plan.Wait}, nil, []string{"Warning LearnerNotSynced"}},
		"a learner still trails":      {healthy(sized(4), learning, trails), healthy(sized(4), learning, trails), plan.Step{Kind: plan.Wait}, nil, nil},
		"a learner trails no more":    {healthy(sized(4), learning, trails), healthy(sized(4), learning), plan.Step{Kind: plan.Wait}, nil, nil},
		"old volumes are found":       {healthy(), healthy(oldVolume), plan.Step{Kind: plan.Wait}, nil, []string{"Warning OldVolumesFound"}},
		"old volumes are gone":        {healthy(oldVolume), healthy(), plan.Step{Kind: plan.Wait}, nil, nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := cluster()
			pass(c, tc.before, nil)
			before := c.Status.DeepCopy()
			pass(c, tc.after, nil)
			var got []string
			for _, e := range Events(*before, c.Status, Outcome{Seen: tc.after, Step: tc.step, Err: tc.err}, StatusWritten) {
				got = append(got, e.Type+" "+e.Reason)
				if e.Message == "" || e.Action == "" || (e.Type != corev1.EventTypeNormal && e.Type != corev1.EventTypeWarning) {
					t.Errorf("incomplete event %+v", e)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

func drifted(o *plan.Observed) {
	o.ObjectsDue, o.Drifted = []string{"Service a-client"}, []string{"Service a-client"}
}

// TestEventsWithoutStatus: what was done to the world is told although status could
// not be written; what status says, and what it was to latch, is not.
func TestEventsWithoutStatus(t *testing.T) {
	for kind, want := range map[plan.Kind]int{plan.RemoveMember: 1, plan.StartMembers: 1, plan.LatchCluster: 0, plan.DropJoiner: 0, plan.Wait: 0} {
		c := cluster()
		pass(c, healthy(), nil)
		before := c.Status.DeepCopy()
		pass(c, healthy(down(2)), nil)
		if got := Events(*before, c.Status, Outcome{Seen: healthy(down(2)), Step: plan.Step{Kind: kind, Message: "x"}}, StatusLost); len(got) != want {
			t.Errorf("%s: events %v, want %d", kind, got, want)
		}
	}
}

// joinerDue says that only the joiner's certificates are not there yet.
func joinerDue(o *plan.Observed) {
	o.Joiner, o.CertificatesDue = "a-0003", []string{"Secret a-0003-tls"}
}

func TestTLSReady(t *testing.T) {
	c := cluster()
	c.Spec.TLS.Mode = v1alpha1.TLSEnabled
	for name, tc := range map[string]struct {
		seen plan.Observed
		err  error
		want metav1.ConditionStatus
	}{
		"in order":                                  {healthy(), nil, metav1.ConditionTrue},
		"renewed in this pass":                      {healthy(certificatesDue), nil, metav1.ConditionTrue},
		"due, and not written":                      {healthy(certificatesDue), errForbidden, metav1.ConditionFalse},
		"due, a pod is first":                       {healthy(certificatesDue, down(1), func(o *plan.Observed) { o.Members[2].Pod = plan.PodAbsent }), nil, metav1.ConditionFalse},
		"due for the joiner, another step is first": {healthy(down(1), joinerDue, func(o *plan.Observed) { o.Members[2].Pod = plan.PodAbsent }), nil, metav1.ConditionTrue},
		"due for the joiner, and not written":       {healthy(joinerDue), errForbidden, metav1.ConditionFalse},
		"an old authority":                          {healthy(expiringAuthority), nil, metav1.ConditionFalse},
		"a rotation goes on":                        {healthy(rotation), nil, metav1.ConditionTrue},
	} {
		t.Run(name, func(t *testing.T) {
			pass(c, tc.seen, tc.err)
			if got := conditionOf(t, c, v1alpha1.ConditionTLSReady); got.Status != tc.want {
				t.Errorf("TLSReady is %s (%s), want %s", got.Status, got.Message, tc.want)
			}
		})
	}
	c.Spec.TLS.Mode = v1alpha1.TLSDisabled
	pass(c, healthy(), nil)
	if slices.ContainsFunc(c.Status.Conditions, func(is metav1.Condition) bool { return is.Type == v1alpha1.ConditionTLSReady }) {
		t.Error("TLSReady without TLS")
	}
}

func rotation(o *plan.Observed) {
	since := time.Unix(1e9, 0)
	o.Authorities = []plan.Authority{
		{Secret: "a-client-ca", Phase: "Trusting", Ends: since.Add(time.Hour), Since: since, Until: since.Add(time.Minute), Waiting: []string{"a-0001"}, Message: "the next authority is trusted too"},
		{Secret: "a-peer-ca", Phase: "Stable", Ends: since.Add(2 * time.Hour)},
	}
}

// TestRotation: how far each authority is, and whom it waits for.
func TestRotation(t *testing.T) {
	c := cluster()
	c.Spec.TLS.Mode = v1alpha1.TLSEnabled
	at := func(s int64) *metav1.Time { is := metav1.Unix(s, 0); return &is }
	trimming := func(o *plan.Observed) {
		rotation(o)
		o.Authorities[0] = plan.Authority{Secret: "a-client-ca", Phase: "Stable", Ends: time.Unix(1e9, 0)}
		o.Members[2].PodOutdated, o.Members[2].TrustDiffers, o.Members[2].TrustOutdated = true, true, true
	}
	unread := func(o *plan.Observed) { o.Authorities = nil }
	stable := v1alpha1.AuthorityStatus{Secret: "a-peer-ca", Phase: v1alpha1.AuthorityStable, NotAfter: at(1e9 + 7200)}
	trusting := []v1alpha1.AuthorityStatus{
		{Secret: "a-client-ca", Phase: v1alpha1.AuthorityTrusting, NotAfter: at(1e9 + 3600), Since: at(1e9), Until: at(1e9 + 60), WaitingFor: []string{"a-0001"}}, stable,
	}
	for _, tc := range []struct {
		name    string
		seen    plan.Observed
		want    []v1alpha1.AuthorityStatus
		reason  string
		message string
	}{
		{"trusted beside the old one", healthy(rotation), trusting, v1alpha1.ReasonRotating, "the next authority is trusted too; a-0001 do not show it yet"},
		{"what could not be read stays", healthy(unread), trusting, v1alpha1.ReasonCertificatesValid, "in order"},
		{"restarted for the new one alone", healthy(trimming), []v1alpha1.AuthorityStatus{
			{Secret: "a-client-ca", Phase: v1alpha1.AuthorityTrimming, NotAfter: at(1e9), WaitingFor: []string{"a-0002"}},
			{Secret: "a-peer-ca", Phase: v1alpha1.AuthorityTrimming, NotAfter: at(1e9 + 7200), WaitingFor: []string{"a-0002"}},
		}, v1alpha1.ReasonRotating, "a-0002 are restarted to trust the new authorities alone"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pass(c, tc.seen, nil)
			if diff := cmp.Diff(tc.want, c.Status.TLS.Authorities); diff != "" {
				t.Errorf("status.tls (-want +got):\n%s", diff)
			}
			if got := conditionOf(t, c, v1alpha1.ConditionTLSReady); got.Reason != tc.reason || !strings.Contains(got.Message, tc.message) {
				t.Errorf("TLSReady is %s: %s", got.Reason, got.Message)
			}
		})
	}
	c.Spec.TLS.Mode = v1alpha1.TLSDisabled
	if pass(c, healthy(rotation), nil); c.Status.TLS != nil {
		t.Errorf("status.tls without TLS: %+v", c.Status.TLS)
	}
}

// TestOperation: what is under way, since when, and what holds it up.
func TestOperation(t *testing.T) {
	at := func(second int64) metav1.Time { return metav1.Unix(second, 0) }
	before := &v1alpha1.OperationStatus{Kind: v1alpha1.ReasonUpgrading, Member: "a-0002", Step: "RestartMember", Since: at(1)}
	for name, tc := range map[string]struct {
		before *v1alpha1.OperationStatus
		step   plan.Step
		want   *v1alpha1.OperationStatus
	}{
		"at rest":             {before, plan.Step{Kind: plan.Settled, Reason: v1alpha1.ReasonHealthy}, nil},
		"something is mended": {before, plan.Step{Kind: plan.StartMembers, Reason: v1alpha1.ReasonRepairing, Members: []string{"a-0000"}}, nil},
		"it begins": {
			nil,
			plan.Step{Kind: plan.RestartMember, Reason: v1alpha1.ReasonUpgrading, Members: []string{"a-0002"}},
			&v1alpha1.OperationStatus{Kind: v1alpha1.ReasonUpgrading, Step: "RestartMember", Member: "a-0002", Since: at(9)},
		},
		"it goes on": {
			before,
			plan.Step{Kind: plan.MoveLeader, Reason: v1alpha1.ReasonUpgrading, Members: []string{"a-0000", "a-0001"}},
			&v1alpha1.OperationStatus{Kind: v1alpha1.ReasonUpgrading, Step: "MoveLeader", Since: at(1)},
		},
		"it waits": {
			before,
			plan.Step{Kind: plan.Wait, Reason: v1alpha1.ReasonUpgrading, Message: "why"},
			&v1alpha1.OperationStatus{Kind: v1alpha1.ReasonUpgrading, BlockedBy: "why", Since: at(1)},
		},
		"it is held up": {
			before,
			plan.Step{Kind: plan.Wait, Reason: v1alpha1.ReasonAlarm, Operation: v1alpha1.ReasonUpgrading, Message: "why"},
			&v1alpha1.OperationStatus{Kind: v1alpha1.ReasonUpgrading, BlockedBy: "why", Since: at(1)},
		},
		"another begins": {
			before,
			plan.Step{Kind: plan.AllotMember, Reason: v1alpha1.ReasonGrowing},
			&v1alpha1.OperationStatus{Kind: v1alpha1.ReasonGrowing, Step: "AllotMember", Since: at(9)},
		},
	} {
		if diff := cmp.Diff(tc.want, operation(tc.before, tc.step, at(9))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestUnused: no number that anything of the cluster bears is given away.
func TestUnused(t *testing.T) {
	by := func(ordinals ...int) (o plan.Observed) {
		for _, n := range ordinals {
			o.Members = append(o.Members, plan.Member{Ordinal: n})
		}
		return o
	}
	for _, tc := range []struct {
		next int32
		seen plan.Observed
		want int32
	}{
		{0, by(0, 1, 2), 0}, {3, by(0, 1, 2), 3}, {3, by(0, 1, 9), 10}, {7, by(1), 7}, {3, by(1 << 40), 3},
	} {
		if got := unused(tc.next, tc.seen); got != tc.want {
			t.Errorf("after %d, with %v: %d, want %d", tc.next, tc.seen.Members, got, tc.want)
		}
	}
}

// TestOldEntries: 3.7 cannot read what 3.5 has written to the log, so it is known until
// when that may be there.
func TestOldEntries(t *testing.T) {
	three := func(changes ...func(*plan.Observed)) plan.Observed {
		o := healthy()
		for i := range o.Members {
			o.Members[i].Applied, o.Members[i].SnapshotCount = 5000, 100
		}
		for _, c := range changes {
			c(&o)
		}
		return o
	}
	member := func(edit func(*plan.Member)) func(*plan.Observed) {
		return func(o *plan.Observed) { edit(&o.Members[1]) }
	}
	for name, tc := range map[string]struct {
		before int64
		seen   plan.Observed
		want   int64
	}{
		"none were ever written":          {0, three(), 0},
		"a member runs 3.5":               {0, three(member(func(m *plan.Member) { m.Version = "3.5.35" })), -1},
		"one went back to 3.5":            {900, three(member(func(m *plan.Member) { m.Version = "3.5.35" })), -1},
		"the last one has left it":        {-1, three(member(func(m *plan.Member) { m.Applied = 5007 })), 5007},
		"one does not answer":             {-1, three(member(func(m *plan.Member) { m.Answers = false })), -1},
		"not enough has come":             {4900, three(), 4900},
		"enough has come":                 {4899, three(), 0},
		"not for one of them":             {4899, three(member(func(m *plan.Member) { m.Applied = 4999 })), 4899},
		"one takes snapshots seldom":      {4000, three(member(func(m *plan.Member) { m.SnapshotCount = 1000 })), 4000},
		"nobody knows how often one does": {4000, three(member(func(m *plan.Member) { m.SnapshotCount = 0 })), 4000},
	} {
		if got := oldEntries(tc.before, tc.seen); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}
