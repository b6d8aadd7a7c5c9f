package perform

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/member"
	"github.com/quorate/quorate/internal/pki"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

const (
	leading = "a-0000"
	voting  = "a-0002"
	joiner  = "a-0003"
	// fourth is the ID that etcd gives the joiner.
	fourth = 0x4
)

var now = time.Unix(1e9, 0)

// script is an etcd that answers as a test wants.
type script struct {
	list    etcd.Membership
	status  map[string]etcd.Status
	silent  map[string]bool
	answers map[string]error
	hashes  map[string]etcd.Hash
	// calls in order; a test may change the world before any of them.
	calls  []string
	before func(call string)
}

func (s *script) Reach(_ types.NamespacedName, _ types.UID, member string) (etcd.Conn, error) {
	if s.silent[member] {
		return nil, fmt.Errorf("reaching %s: %w", member, etcd.ErrUnreachable)
	}
	return &line{script: s, member: member}, nil
}

func (s *script) Greet(context.Context, *v1alpha1.EtcdCluster, pki.Ask) map[string]pki.Shown {
	s.calls = append(s.calls, "Greet")
	return nil
}

// changes are the calls that would change who is a member, or who leads.
func (s *script) changes() []string {
	var out []string
	for _, c := range s.calls {
		if !slices.ContainsFunc([]string{"Members", "Propose", "Status"}, func(p string) bool { return strings.HasPrefix(c, p) }) {
			out = append(out, c)
		}
	}
	return out
}

// line is a connection of the script.
type line struct {
	etcd.Conn
	script *script
	member string
}

func (l *line) call(method string, args ...any) error {
	call := strings.TrimSpace(fmt.Sprintln(append([]any{method}, args...)...))
	l.script.calls = append(l.script.calls, call)
	if l.script.before != nil {
		l.script.before(call)
	}
	return l.script.answers[method]
}

func (l *line) Status(context.Context) (etcd.Status, error) {
	err := l.call("Status", l.member)
	return l.script.status[l.member], err
}

func (l *line) Members(context.Context) (etcd.Membership, error) {
	err := l.call("Members")
	list := l.script.list
	list.Members = slices.Clone(list.Members)
	return list, err
}

func (l *line) Propose(context.Context) error { return l.call("Propose") }

func (l *line) AddLearner(_ context.Context, url string) (etcd.Member, error) {
	added := etcd.Member{ID: fourth, PeerURLs: []string{url}, Learner: true}
	err := l.call("AddLearner", url)
	if err == nil {
		l.script.list.Members = append(l.script.list.Members, added)
	}
	return added, err
}

func (l *line) Promote(_ context.Context, id uint64) error { return l.call("Promote", id) }
func (l *line) UpdateMember(_ context.Context, id uint64, url string) error {
	return l.call("UpdateMember", id, url)
}
func (l *line) Remove(_ context.Context, id uint64) error { return l.call("Remove", id) }
func (l *line) Downgrade(_ context.Context, action etcd.DowngradeAction, version string) error {
	return l.call("Downgrade", action, version)
}
func (l *line) MoveLeader(_ context.Context, id uint64) error { return l.call("MoveLeader", id) }

// change is a cluster of three voters that grows to five: the fourth member is
// prepared, and held in its pod.
type change struct {
	*world
	etcd *script
}

func changing(t *testing.T) *change {
	t.Helper()
	var objects []client.Object
	for i, name := range []string{"a-0000", "a-0001", "a-0002", joiner} {
		v, p := claimOf(name), podOf(name)
		if name == joiner {
			hold(p)
		} else {
			v.Annotations[v1alpha1.AnnotationMemberID] = hex(uint64(i) + 1)
		}
		objects = append(objects, v, p, secretOf(name))
	}
	f := &change{world: newWorld(t, objects...), etcd: &script{
		list:   etcd.Membership{ClusterID: 0xc1, MemberID: 1, Term: 7},
		status: map[string]etcd.Status{}, silent: map[string]bool{}, answers: map[string]error{},
	}}
	f.seen = plan.Observed{Size: 5, List: true, ReadOK: true, LeaderSettled: true, ClusterID: 0xc1, AgreedClusterID: 0xc1}
	for i, name := range []string{"a-0000", "a-0001", "a-0002"} {
		id := uint64(i) + 1
		f.seen.Members = append(f.seen.Members, plan.Member{
			Name: name, Ordinal: i, Founder: true, Volume: plan.VolumeBound, RecordedID: id, Pod: plan.PodRunning, PodUID: "pod-of-" + name,
			Listed: true, ID: id, Started: true, Answers: true, Leads: i == 0, FollowsLeader: true, Steady: true,
		})
		f.etcd.list.Members = append(f.etcd.list.Members, etcd.Member{ID: id, ClientURLs: []string{"x"}})
		f.etcd.status[name] = etcd.Status{ClusterID: 0xc1, MemberID: id, Leader: 1, Term: 7}
	}
	f.seen.Joiner = joiner
	f.seen.Members = append(f.seen.Members, plan.Member{
		Name: joiner, Ordinal: 3, Joiner: true, Volume: plan.VolumeBound, Pod: plan.PodRunning, PodUID: "pod-of-" + joiner, Held: true,
	})
	f.edit(func(c *v1alpha1.EtcdCluster) {
		c.Generation, c.Spec.Size = 2, 5
		c.Spec.Storage.QuarantineFor = metav1.Duration{Duration: 168 * time.Hour}
		c.Status = v1alpha1.EtcdClusterStatus{
			Incarnation: 1, NextOrdinal: 4, Founders: []string{"a-0000", "a-0001", "a-0002"}, ClusterID: "c1", Joiner: joiner,
		}
	})
	return f
}

// edit has the cluster in the API server, and the operator knows.
func (f *change) edit(do func(*v1alpha1.EtcdCluster)) {
	f.t.Helper()
	f.meanwhile(do)
	if err := f.api.Get(f.t.Context(), client.ObjectKeyFromObject(f.cluster), f.cluster); err != nil {
		f.t.Fatal(err)
	}
}

// meanwhile edits the cluster in the API server, and the operator does not know.
func (f *change) meanwhile(do func(*v1alpha1.EtcdCluster)) {
	f.t.Helper()
	c := &v1alpha1.EtcdCluster{}
	if err := f.api.Get(f.t.Context(), client.ObjectKeyFromObject(f.cluster), c); err != nil {
		f.t.Fatal(err)
	}
	do(c)
	status := c.Status
	if err := f.api.Update(f.t.Context(), c); err != nil {
		f.t.Fatal(err)
	}
	c.Status = status
	if err := f.api.Status().Update(f.t.Context(), c); err != nil {
		f.t.Fatal(err)
	}
	f.writes = nil
}

// put changes an object of the API server; nil in return takes it away.
func (f *change) put(o client.Object, name string, edits ...edit) {
	f.t.Helper()
	if !f.get(o, name) {
		f.t.Fatalf("there is no %T %s", o, name)
	}
	for _, e := range edits {
		e(o)
	}
	if err := f.api.Update(f.t.Context(), o); err != nil {
		f.t.Fatal(err)
	}
	f.writes = nil
}

func (f *change) take(o client.Object, name string) {
	f.t.Helper()
	o.SetName(name)
	o.SetNamespace("ns")
	if err := f.api.Delete(f.t.Context(), o); err != nil {
		f.t.Fatal(err)
	}
	f.writes = nil
}

// leave begins the deletion of an object, which something holds.
func (f *change) leave(o client.Object, name string) {
	f.put(o, name, func(o client.Object) { o.SetFinalizers([]string{"kubernetes.io/held"}) })
	f.take(o, name)
}

func (f *change) add(o client.Object) {
	f.t.Helper()
	if err := f.api.Create(f.t.Context(), o); err != nil {
		f.t.Fatal(err)
	}
	f.writes = nil
}

func (f *change) member(name string) *plan.Member {
	for i := range f.seen.Members {
		if f.seen.Members[i].Name == name {
			return &f.seen.Members[i]
		}
	}
	f.t.Fatalf("no member %s", name)
	return nil
}

func (f *change) do(step plan.Step) error {
	p := &Performer{Writer: f.api, Live: f.api, GuardImage: "guard:v0", Clock: clocktesting.NewFakePassiveClock(now), Etcd: f.etcd}
	return p.Perform(f.t.Context(), f.cluster, f.seen, step)
}

func (f *change) claim(name string) *corev1.PersistentVolumeClaim {
	f.t.Helper()
	v := &corev1.PersistentVolumeClaim{}
	f.get(v, resources.ClaimName(name))
	return v
}

func claimOf(name string) *corev1.PersistentVolumeClaim {
	v := resources.Claim(cluster(), name)
	v.UID = types.UID("claim-of-" + name)
	v.Status.Phase = corev1.ClaimBound
	return v
}

func podOf(name string) *corev1.Pod {
	p := resources.MemberPod(cluster(), resources.Start{Member: name, VolumeUID: "claim-of-" + name, Orders: resources.Orders{
		Peers: []string{leading}, State: member.ClusterStateExisting, Empty: resources.EmptyForbidden,
	}})
	p.UID = types.UID("pod-of-" + name)
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: resources.EtcdContainer, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
	return p
}

func hold(o client.Object) {
	o.GetAnnotations()[member.AnnotationHold] = "true"
	o.GetAnnotations()[member.AnnotationMayBeEmpty] = "true"
}

func released(o client.Object) { o.GetAnnotations()[member.AnnotationRelease] = "4" }

func secretOf(name string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
		Name: pki.MemberSecret(name), Namespace: "ns", UID: types.UID("secret-of-" + name), Labels: resources.Labels(cluster()),
	}}
}

// learning has etcd list the fourth member as a learner that runs.
func learning(f *change) {
	f.put(&corev1.PersistentVolumeClaim{}, "data-"+joiner, annotated(v1alpha1.AnnotationMemberID, "4"))
	f.put(&corev1.Pod{}, joiner, released, annotated(member.AnnotationMayBeEmpty, "false"))
	f.edit(func(c *v1alpha1.EtcdCluster) { c.Status.Joiner = "" })
	f.seen.Joiner = ""
	m := f.member(joiner)
	m.Joiner, m.Held, m.Listed, m.Learner, m.ID, m.RecordedID, m.Started, m.Booted = false, false, true, true, fourth, fourth, true, true
	m.Answers, m.FollowsLeader, m.CaughtUp = true, true, true
	f.etcd.list.Members = append(f.etcd.list.Members, etcd.Member{ID: fourth, Learner: true})
	f.etcd.status[joiner] = etcd.Status{ClusterID: 0xc1, MemberID: fourth, Leader: 1, Term: 7, Learner: true}
}

// unprepared has nothing of a fourth member.
func unprepared(f *change) {
	f.take(&corev1.PersistentVolumeClaim{}, "data-"+joiner)
	f.take(&corev1.Pod{}, joiner)
	f.edit(func(c *v1alpha1.EtcdCluster) { c.Status.Joiner, c.Status.NextOrdinal = "", 3 })
	f.seen.Joiner = ""
	f.seen.Members = f.seen.Members[:3]
}

// dead has the third member's node gone.
func dead(f *change) {
	m := f.member(voting)
	m.Answers, m.FollowsLeader, m.Gone = false, false, true
	f.etcd.silent[voting] = true
}

// dropped has a fourth member that was given up before it joined.
func dropped(f *change) {
	f.edit(func(c *v1alpha1.EtcdCluster) { c.Status.Joiner = "" })
	f.seen.Joiner, f.member(joiner).Joiner = "", false
}

// gone has a fourth member that etcd lists no more.
func gone(f *change) {
	dropped(f)
	f.put(&corev1.PersistentVolumeClaim{}, "data-"+joiner, annotated(v1alpha1.AnnotationMemberID, "4"))
	f.put(&corev1.Pod{}, joiner, released)
	m := f.member(joiner)
	m.RecordedID, m.Booted, m.Held, m.Steady = fourth, true, false, true
}

func left(f *change) {
	gone(f)
	f.put(&corev1.PersistentVolumeClaim{}, "data-"+joiner, annotated(v1alpha1.AnnotationLeaving, "scale-in"))
	f.member(joiner).Leaving = true
}

// expired has the fourth member's claim in quarantine, since so long.
func quarantinedFor(d time.Duration) func(*change) {
	return func(f *change) {
		gone(f)
		f.put(&corev1.PersistentVolumeClaim{}, "data-"+joiner, func(o client.Object) {
			o.GetLabels()[v1alpha1.LabelQuarantined] = "removed"
		}, annotated(v1alpha1.AnnotationQuarantinedAt, now.Add(-d).UTC().Format(time.RFC3339)))
	}
}

func of(worlds ...func(*change)) func(*change) {
	return func(f *change) {
		for _, w := range worlds {
			w(f)
		}
	}
}

func claimed(edits ...edit) func(*change) {
	return func(f *change) { f.put(&corev1.PersistentVolumeClaim{}, "data-"+joiner, edits...) }
}

func podded(edits ...edit) func(*change) {
	return func(f *change) { f.put(&corev1.Pod{}, joiner, edits...) }
}

func noClaim(f *change)   { f.take(&corev1.PersistentVolumeClaim{}, "data-"+joiner) }
func noPod(f *change)     { f.take(&corev1.Pod{}, joiner) }
func claimGoes(f *change) { f.leave(&corev1.PersistentVolumeClaim{}, "data-"+joiner) }
func podGoes(f *change)   { f.leave(&corev1.Pod{}, joiner) }

func unhold(o client.Object) { delete(o.GetAnnotations(), member.AnnotationHold) }

func silent(names ...string) func(*change) {
	return func(f *change) {
		for _, n := range names {
			f.etcd.silent[n] = true
		}
	}
}

func answers(method string, err error) func(*change) {
	return func(f *change) { f.etcd.answers[method] = err }
}

// says has the second member say another thing of itself than it did.
func says(do func(*etcd.Status)) func(*change) {
	return func(f *change) {
		s := f.etcd.status["a-0001"]
		do(&s)
		f.etcd.status["a-0001"] = s
	}
}

// leads has the leader say another thing of itself than it did.
func leads(f *change, do func(*etcd.Status)) {
	s := f.etcd.status[leading]
	do(&s)
	f.etcd.status[leading] = s
}

func inMemory(f *change) {
	f.edit(func(c *v1alpha1.EtcdCluster) { c.Spec.Storage.Medium = v1alpha1.MediumMemory })
	for i := range f.seen.Members {
		f.seen.Members[i].InMemory = true
	}
}

// outcome of a step.
type outcome string

const (
	done   outcome = "done"
	stale  outcome = "stale"
	notYet outcome = "not yet"
	failed outcome = "failed"
)

func outcomeOf(err error) outcome {
	switch {
	case err == nil:
		return done
	case errors.Is(err, ErrNotYet):
		return notYet
	case Stale(err):
		return stale
	default:
		return failed
	}
}

var (
	add        = plan.Step{Kind: plan.AddLearner, Members: []string{joiner}}
	promote    = plan.Step{Kind: plan.Promote, Members: []string{joiner}, ID: fourth}
	handOver   = plan.Step{Kind: plan.MoveLeader, Members: []string{leading, "a-0001"}, ID: 2}
	remove     = plan.Step{Kind: plan.RemoveMember, Members: []string{voting}, ID: 3}
	unlearn    = plan.Step{Kind: plan.RemoveMember, Members: []string{joiner}, ID: fourth}
	stop       = plan.Step{Kind: plan.StopMembers, Members: []string{joiner}}
	holdBack   = plan.Step{Kind: plan.HoldMembers, Members: []string{joiner}}
	release    = plan.Step{Kind: plan.ReleaseMembers, Members: []string{joiner}, ID: fourth}
	discard    = plan.Step{Kind: plan.DiscardMembers, Members: []string{joiner}}
	deleteLeft = plan.Step{Kind: plan.DeleteVolumes, Members: []string{joiner}}
	quarantine = plan.Step{Kind: plan.QuarantineVolumes, Members: []string{joiner}}
	expire     = plan.Step{Kind: plan.DeleteExpired, Members: []string{joiner}}
	drop       = plan.Step{Kind: plan.DropJoiner, Members: []string{joiner}}
	allot      = plan.Step{Kind: plan.AllotMember}
)

const addCall = "AddLearner https://a-0003.a.ns.svc:2380"

// TestMembership: each step on the world that it was decided for, and on worlds
// in which it must not be done.
func TestMembership(t *testing.T) {
	cases := map[string]struct {
		step   plan.Step
		world  func(*change)
		want   outcome
		writes []string
		calls  []string
	}{
		"a learner is added":                             {add, of(), done, []string{"patch data-a-0003"}, []string{addCall}},
		"another is the joiner":                          {add, func(f *change) { f.edit(func(c *v1alpha1.EtcdCluster) { c.Status.Joiner = "a-0009" }) }, stale, nil, nil},
		"there is no joiner":                             {add, func(f *change) { f.edit(func(c *v1alpha1.EtcdCluster) { c.Status.Joiner = "" }) }, stale, nil, nil},
		"the joiner's claim names a member":              {add, claimed(annotated(v1alpha1.AnnotationMemberID, "9")), stale, nil, nil},
		"the joiner's claim is gone":                     {add, noClaim, stale, nil, nil},
		"the joiner's claim goes":                        {add, claimGoes, stale, nil, nil},
		"the joiner's claim is a namesake's":             {add, claimed(foreigner), failed, nil, nil},
		"the joiner's pod is gone":                       {add, noPod, stale, nil, nil},
		"the joiner's pod is a namesake's":               {add, podded(foreigner), failed, nil, nil},
		"the joiner's pod is not held":                   {add, podded(unhold), stale, nil, nil},
		"the joiner's pod was released":                  {add, podded(released), stale, nil, nil},
		"a memory-backed learner is added":               {add, inMemory, done, []string{"patch a-0003"}, []string{addCall}},
		"etcd lists the joiner's URL already":            {add, answers("AddLearner", etcd.ErrPeerURLExists), stale, nil, []string{addCall}},
		"etcd has another learner":                       {add, answers("AddLearner", etcd.ErrTooManyLearners), stale, nil, []string{addCall}},
		"the ID was removed in this very second":         {add, answers("AddLearner", etcd.ErrMemberNotFound), stale, nil, []string{addCall}},
		"a voter was connected just now":                 {add, answers("AddLearner", etcd.ErrUnhealthyCluster), notYet, nil, []string{addCall}},
		"whether it was added is not known":              {add, answers("AddLearner", fmt.Errorf("%w: %w", etcd.ErrOutcomeUnknown, etcd.ErrUnreachable)), notYet, nil, []string{addCall}},
		"the leader was lost over the call":              {add, answers("AddLearner", fmt.Errorf("%w: %w", etcd.ErrOutcomeUnknown, etcd.ErrNoLeader)), notYet, nil, []string{addCall}},
		"etcd has no room for a learner":                 {add, answers("AddLearner", etcd.ErrNoSpace), failed, nil, []string{addCall}},
		"the operator may not add one":                   {add, answers("AddLearner", etcd.ErrPermission), failed, nil, []string{addCall}},
		"a learner is promoted":                          {promote, learning, done, nil, []string{"Promote 4"}},
		"a learner that lags is not":                     {promote, of(learning, answers("Promote", etcd.ErrLearnerNotReady)), notYet, nil, []string{"Promote 4"}},
		"a learner that votes already":                   {promote, of(learning, answers("Promote", etcd.ErrNotLearner)), stale, nil, []string{"Promote 4"}},
		"a learner that was removed":                     {promote, of(learning, answers("Promote", etcd.ErrMemberNotFound)), stale, nil, []string{"Promote 4"}},
		"whether it was promoted is not known":           {promote, of(learning, answers("Promote", etcd.ErrOutcomeUnknown)), notYet, nil, []string{"Promote 4"}},
		"a learner that may still be empty":              {promote, of(learning, podded(annotated(member.AnnotationMayBeEmpty, "true"))), stale, nil, nil},
		"a learner whose pod is gone":                    {promote, of(learning, noPod), stale, nil, nil},
		"a learner whose claim is gone":                  {promote, of(learning, noClaim), stale, nil, nil},
		"a learner whose claim goes":                     {promote, of(learning, claimGoes), stale, nil, nil},
		"a learner whose claim names nobody":             {promote, of(learning, claimed(annotated(v1alpha1.AnnotationMemberID, ""))), stale, nil, nil},
		"a learner whose claim names another":            {promote, of(learning, claimed(annotated(v1alpha1.AnnotationMemberID, "9"))), stale, nil, nil},
		"a learner whose vote counts is asked once more": {promote, of(learning, dead), done, nil, []string{"Promote 4"}},
		"a learner whose vote counts has fallen silent":  {promote, of(learning, dead, silent(joiner)), stale, nil, nil},
		"a learner whose vote counts is somebody else": {promote, of(learning, dead, func(f *change) {
			f.etcd.status[joiner] = etcd.Status{ClusterID: 0xc1, MemberID: 9, Leader: 1}
		}), stale, nil, nil},
		"a silent learner whose vote does not count":  {promote, of(learning, silent(joiner)), done, nil, []string{"Promote 4"}},
		"the leadership is handed over":               {handOver, of(), done, nil, []string{"MoveLeader 2"}},
		"it leads no more":                            {handOver, answers("MoveLeader", etcd.ErrNotLeader), stale, nil, []string{"MoveLeader 2"}},
		"the hand-over takes too long":                {handOver, answers("MoveLeader", etcd.ErrOutcomeUnknown), notYet, nil, []string{"MoveLeader 2"}},
		"a sound voter is removed, and marked before": {remove, of(), done, []string{"patch data-a-0002"}, []string{"Remove 3"}},
		"a voter that is marked already is removed": {remove, func(f *change) {
			f.put(&corev1.PersistentVolumeClaim{}, "data-"+voting, annotated(v1alpha1.AnnotationLeaving, "scale-in"))
		}, done, nil, []string{"Remove 3"}},
		"a dead voter is removed, and its volume kept":  {remove, dead, done, nil, []string{"Remove 3"}},
		"a voter that was removed already":              {remove, answers("Remove", etcd.ErrMemberNotFound), done, []string{"patch data-a-0002"}, []string{"Remove 3"}},
		"etcd does not let a voter go yet":              {remove, answers("Remove", etcd.ErrUnhealthyCluster), notYet, []string{"patch data-a-0002"}, []string{"Remove 3"}},
		"whether it was removed is not known":           {remove, answers("Remove", etcd.ErrOutcomeUnknown), notYet, []string{"patch data-a-0002"}, []string{"Remove 3"}},
		"a sound voter whose claim is gone is not":      {remove, func(f *change) { f.take(&corev1.PersistentVolumeClaim{}, "data-"+voting) }, stale, nil, nil},
		"another voter cannot be reached":               {remove, silent("a-0001"), stale, nil, nil},
		"a dead voter, and another is silent":           {remove, of(dead, silent("a-0001")), stale, nil, nil},
		"another voter does not answer":                 {remove, of(dead, answers("Status", etcd.ErrUnreachable)), stale, nil, nil},
		"another voter has lost its leader":             {remove, of(dead, says(func(s *etcd.Status) { s.Leader = 0 })), stale, nil, nil},
		"another voter is somebody else by now":         {remove, of(dead, says(func(s *etcd.Status) { s.MemberID = 9 })), stale, nil, nil},
		"another voter is of another cluster":           {remove, of(dead, says(func(s *etcd.Status) { s.ClusterID = 0xbad })), stale, nil, nil},
		"another voter was not healthy before":          {remove, of(dead, func(f *change) { f.member("a-0001").FollowsLeader = false }), stale, nil, nil},
		"a learner is removed, whoever is silent":       {unlearn, of(learning, silent("a-0001")), done, []string{"patch data-a-0003"}, []string{"Remove 4"}},
		"a learner on another member's data":            {unlearn, of(learning, func(f *change) { f.member(joiner).RecordedID = 9 }), done, nil, []string{"Remove 4"}},
		"a memory-backed learner is removed":            {unlearn, of(learning, inMemory), done, []string{"patch a-0003"}, []string{"Remove 4"}},
		"a removed member is stopped":                   {stop, gone, done, []string{"delete a-0003"}, nil},
		"a removed member whose volume goes is stopped": {stop, of(gone, func(f *change) { f.member(joiner).Volume = plan.VolumeTerminating }), done, []string{"delete a-0003-tls", "delete a-0003"}, nil},
		"a removed member has stopped":                  {stop, of(gone, noPod), done, nil, nil},
		"a removed member is stopping":                  {stop, of(gone, podGoes), done, nil, nil},
		"a removed member has another pod":              {stop, of(gone, podded(), func(f *change) { f.member(joiner).PodUID = "older" }), stale, nil, nil},
		"a removed member's pod is a namesake's":        {stop, of(gone, podded(foreigner)), failed, nil, nil},
		"a healthy voter is not stopped":                {plan.Step{Kind: plan.StopMembers, Members: []string{voting}}, of(), stale, nil, nil},
		"a voter that is silent is not stopped":         {plan.Step{Kind: plan.StopMembers, Members: []string{voting}}, of(silent(voting), func(f *change) { f.member(voting).Answers = false }), stale, nil, nil},
		"a learner is not stopped":                      {stop, learning, stale, nil, nil},
		"a dead voter is stopped":                       {plan.Step{Kind: plan.StopMembers, Members: []string{voting}}, dead, done, []string{"delete a-0002"}, nil},
		"a dead voter that answers after all":           {plan.Step{Kind: plan.StopMembers, Members: []string{voting}}, of(dead, func(f *change) { f.etcd.silent[voting] = false }), stale, nil, nil},
		"a removed memory-backed member is stopped":     {stop, of(gone, inMemory), done, []string{"delete a-0003-tls", "delete a-0003"}, nil},
		"a dead voter of whom nothing is left": {remove, of(dead, func(f *change) {
			f.take(&corev1.PersistentVolumeClaim{}, "data-"+voting)
			f.take(&corev1.Pod{}, voting)
			f.member(voting).Volume, f.member(voting).Pod = plan.VolumeAbsent, plan.PodAbsent
		}), done, []string{"delete a-0002-tls"}, []string{"Remove 3"}},
		"a joiner's pod is made":                        {holdBack, noPod, done, []string{"create a-0003"}, nil},
		"a joiner's pod was made already":               {holdBack, of(), done, []string{"create a-0003"}, nil},
		"a namesake's pod has the joiner's name":        {holdBack, podded(foreigner), failed, []string{"create a-0003"}, nil},
		"a pod is made for the joiner alone":            {holdBack, of(noPod, dropped), stale, nil, nil},
		"no pod is made without a claim":                {holdBack, of(noPod, noClaim), stale, nil, nil},
		"no pod is made on a claim that goes":           {holdBack, of(noPod, claimGoes), stale, nil, nil},
		"no pod is held on a member's claim":            {holdBack, of(noPod, claimed(annotated(v1alpha1.AnnotationMemberID, "4"))), stale, nil, nil},
		"a memory-backed joiner needs no claim":         {holdBack, of(inMemory, noPod, noClaim), done, []string{"create a-0003"}, nil},
		"a memory-backed joiner's volume is its pod":    {plan.Step{Kind: plan.CreateVolumes, Members: []string{joiner}}, of(inMemory, noPod, noClaim), done, []string{"create a-0003"}, nil},
		"a learner is released":                         {release, of(learning, podded(func(o client.Object) { delete(o.GetAnnotations(), member.AnnotationRelease) })), done, []string{"patch a-0003"}, nil},
		"a learner was released already":                {release, learning, stale, nil, nil},
		"nobody is released on another's claim":         {release, of(learning, podded(unrelease), claimed(annotated(v1alpha1.AnnotationMemberID, "9"))), stale, nil, nil},
		"nobody is released on a claim without an ID":   {release, of(learning, podded(unrelease), claimed(annotated(v1alpha1.AnnotationMemberID, ""))), stale, nil, nil},
		"nobody is released on refused data":            {release, of(learning, podded(unrelease), claimed(annotated(v1alpha1.AnnotationRefused, "x"))), stale, nil, nil},
		"nobody is released whose claim goes":           {release, of(learning, podded(unrelease), claimGoes), stale, nil, nil},
		"nobody is released whose pod goes":             {release, of(learning, podded(unrelease), podGoes), stale, nil, nil},
		"nobody is released without a pod":              {release, of(learning, noPod), stale, nil, nil},
		"a pod that was never held needs no release":    {release, of(learning, podded(unrelease, unhold)), stale, nil, nil},
		"what was prepared is discarded":                {discard, dropped, done, []string{"delete a-0003", "delete a-0003-tls", "delete data-a-0003"}, nil},
		"what was prepared goes already":                {discard, of(dropped, podGoes), done, []string{"delete a-0003-tls", "delete data-a-0003"}, nil},
		"only the pod is left to discard":               {discard, of(dropped, noClaim), done, []string{"delete a-0003"}, nil},
		"the joiner is not discarded":                   {discard, of(), stale, nil, nil},
		"one that was released is not discarded":        {discard, of(dropped, podded(released)), stale, nil, nil},
		"a member's volume is not discarded":            {discard, of(dropped, noPod, claimed(annotated(v1alpha1.AnnotationMemberID, "4"))), stale, nil, nil},
		"a volume that was booted is not discarded":     {discard, of(dropped, noPod, claimed(annotated(v1alpha1.AnnotationBooted, "true"))), stale, nil, nil},
		"a namesake's pod is not discarded":             {discard, of(dropped, podded(foreigner)), failed, nil, nil},
		"a namesake's claim is not discarded":           {discard, of(dropped, noPod, claimed(foreigner)), failed, nil, nil},
		"the volume of a scale-in is deleted":           {deleteLeft, left, done, []string{"delete a-0003-tls", "delete data-a-0003"}, nil},
		"a volume that is not marked is not":            {deleteLeft, gone, stale, nil, nil},
		"a volume of a member is not":                   {deleteLeft, of(left, listedAgain), stale, nil, nil},
		"a namesake's volume is not":                    {deleteLeft, of(left, claimed(foreigner)), failed, nil, nil},
		"a volume that is kept is not deleted":          {deleteLeft, of(left, claimed(func(o client.Object) { o.GetLabels()[v1alpha1.LabelQuarantined] = "removed" })), stale, nil, nil},
		"the volume of a scale-in is gone":              {deleteLeft, of(left, noClaim), stale, nil, nil},
		"another removed volume is put away":            {quarantine, gone, done, []string{"delete a-0003-tls", "patch data-a-0003"}, nil},
		"one that goes with its member is not put away": {quarantine, of(gone, claimed(annotated(v1alpha1.AnnotationLeaving, "scale-in"))), stale, nil, nil},
		"one that was refused is put away all the same": {quarantine, of(gone, claimed(annotated(v1alpha1.AnnotationLeaving, "scale-in")), claimed(annotated(v1alpha1.AnnotationRefused, "x"))), done, []string{"delete a-0003-tls", "patch data-a-0003"}, nil},
		"a member's volume is not put away":             {quarantine, of(gone, listedAgain), stale, nil, nil},
		"a namesake's volume is not put away":           {quarantine, of(gone, claimed(foreigner)), failed, nil, nil},
		"a namesake's Secret is let be":                 {quarantine, of(gone, func(f *change) { f.put(&corev1.Secret{}, "a-0003-tls", foreigner) }), done, []string{"patch data-a-0003"}, nil},
		"there is no Secret":                            {quarantine, of(gone, func(f *change) { f.take(&corev1.Secret{}, "a-0003-tls") }), done, []string{"patch data-a-0003"}, nil},
		"without TLS there is none of ours":             {quarantine, of(gone, func(f *change) { f.edit(func(c *v1alpha1.EtcdCluster) { c.Spec.TLS.Mode = v1alpha1.TLSDisabled }) }), done, []string{"patch data-a-0003"}, nil},
		"a quarantine is over":                          {expire, quarantinedFor(168*time.Hour + time.Second), done, []string{"delete a-0003-tls", "delete data-a-0003"}, nil},
		"a quarantine ends now":                         {expire, quarantinedFor(168 * time.Hour), stale, nil, nil},
		"a quarantine is not over":                      {expire, quarantinedFor(time.Hour), stale, nil, nil},
		"a quarantine of the future is not over":        {expire, quarantinedFor(-time.Hour), stale, nil, nil},
		"a claim that was taken out of quarantine":      {expire, of(quarantinedFor(1000*time.Hour), claimed(func(o client.Object) { delete(o.GetLabels(), v1alpha1.LabelQuarantined) })), stale, nil, nil},
		"a quarantine whose time cannot be read":        {expire, of(quarantinedFor(1000*time.Hour), claimed(annotated(v1alpha1.AnnotationQuarantinedAt, "yesterday"))), stale, nil, nil},
		"a quarantine that was made longer": {expire, of(quarantinedFor(200*time.Hour), func(f *change) {
			f.edit(func(c *v1alpha1.EtcdCluster) { c.Spec.Storage.QuarantineFor.Duration = 300 * time.Hour })
		}), stale, nil, nil},
		"a namesake's quarantine":                      {expire, of(quarantinedFor(1000*time.Hour), claimed(foreigner)), failed, nil, nil},
		"a joiner is dropped":                          {drop, of(), done, nil, nil},
		"a joiner of which nothing is left is dropped": {drop, func(f *change) { m := f.member(joiner); m.Volume, m.Pod = plan.VolumeAbsent, plan.PodAbsent }, done, []string{"delete a-0003-tls"}, nil},
		"what was prepared in memory is discarded":     {discard, of(inMemory, dropped), done, []string{"delete a-0003-tls", "delete a-0003"}, nil},
		"another joiner is not dropped":                {plan.Step{Kind: plan.DropJoiner, Members: []string{"a-0009"}}, of(), stale, nil, nil},
		"nobody is allotted a name beside the joiner":  {allot, of(), stale, nil, nil},
	}
	for what, tc := range cases {
		t.Run(what, func(t *testing.T) {
			f := changing(t)
			tc.world(f)
			f.etcd.calls = nil
			err := f.do(tc.step)
			if got := outcomeOf(err); got != tc.want {
				t.Errorf("Perform() = %v, want: %s", err, tc.want)
			}
			if diff := cmp.Diff(tc.writes, f.writes); diff != "" {
				t.Errorf("writes (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.calls, f.etcd.changes()); diff != "" {
				t.Errorf("changes in etcd (-want +got):\n%s", diff)
			}
		})
	}
}

func unrelease(o client.Object) { delete(o.GetAnnotations(), member.AnnotationRelease) }

// listedAgain has etcd list the member after all.
func listedAgain(f *change) {
	m := f.member(joiner)
	m.Listed, m.ID = true, fourth
	f.etcd.list.Members = append(f.etcd.list.Members, etcd.Member{ID: fourth})
}

// membershipSteps are all steps that say who is a member, each on its own world.
var membershipSteps = map[string]struct {
	step  plan.Step
	world func(*change)
}{
	"allot":      {allot, unprepared},
	"drop":       {drop, func(*change) {}},
	"hold":       {holdBack, noPod},
	"add":        {add, func(*change) {}},
	"release":    {release, of(learning, podded(unrelease))},
	"promote":    {promote, learning},
	"hand over":  {handOver, func(*change) {}},
	"remove":     {remove, func(*change) {}},
	"stop":       {stop, gone},
	"discard":    {discard, dropped},
	"delete":     {deleteLeft, left},
	"quarantine": {quarantine, gone},
	"expire":     {expire, quarantinedFor(1000 * time.Hour)},
}

// TestEditedMeanwhile: no step is done for a cluster that is not any more the one
// that it was decided for, and nobody is even asked.
func TestEditedMeanwhile(t *testing.T) {
	edits := map[string]func(*v1alpha1.EtcdCluster){
		"edited":                      func(c *v1alpha1.EtcdCluster) { c.Generation, c.Spec.Size = 3, 1 },
		"paused":                      func(c *v1alpha1.EtcdCluster) { c.Generation, c.Spec.Paused = 3, true },
		"another joiner is named":     func(c *v1alpha1.EtcdCluster) { c.Status.Joiner = "a-0009" },
		"another name was given away": func(c *v1alpha1.EtcdCluster) { c.Status.NextOrdinal = 9 },
		"another cluster is latched":  func(c *v1alpha1.EtcdCluster) { c.Status.ClusterID = "c2" },
	}
	removals := map[string]func(*change){
		"deleted": func(f *change) {
			f.meanwhile(func(c *v1alpha1.EtcdCluster) { c.Finalizers = []string{v1alpha1.Finalizer} })
			if err := f.api.Delete(f.t.Context(), f.cluster.DeepCopy()); err != nil {
				f.t.Fatal(err)
			}
		},
		"gone": func(f *change) {
			if err := f.api.Delete(f.t.Context(), f.cluster.DeepCopy()); err != nil {
				f.t.Fatal(err)
			}
		},
		"made anew": func(f *change) { f.cluster.UID = "0lder" },
	}
	for what, edit := range edits {
		removals[what] = func(f *change) { f.meanwhile(edit) }
	}
	for step, tc := range membershipSteps {
		for what, meanwhile := range removals {
			t.Run(step+", and the cluster is "+what, func(t *testing.T) {
				f := changing(t)
				tc.world(f)
				meanwhile(f)
				f.writes = nil
				before := f.cluster.Status.DeepCopy()
				if err := f.do(tc.step); !errors.Is(err, ErrStale) {
					t.Errorf("Perform() = %v, want stale", err)
				}
				if len(f.writes) > 0 || len(f.etcd.calls) > 0 || !cmp.Equal(*before, f.cluster.Status) {
					t.Errorf("wrote %v, asked %v, status %s", f.writes, f.etcd.calls, cmp.Diff(*before, f.cluster.Status))
				}
			})
		}
	}
}

// TestUnreadableCluster: an API server that does not answer is no edit.
func TestUnreadableCluster(t *testing.T) {
	f := changing(t)
	p := &Performer{Writer: f.api, Live: deaf{}, Etcd: f.etcd}
	err := p.Perform(t.Context(), f.cluster, f.seen, remove)
	if outcomeOf(err) != failed || len(f.etcd.calls) > 0 || len(f.writes) > 0 {
		t.Errorf("Perform() = %v, asked %v, wrote %v", err, f.etcd.calls, f.writes)
	}
}

// deaf is an API server that does not answer.
type deaf struct{ client.Reader }

func (deaf) Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error {
	return apierrors.NewTimeoutError("the server did not answer", 1)
}

// TestSettled: before anything is changed or stopped, the members must be those
// that were seen: in a list of the leader's, after a proposal, in one term.
func TestSettled(t *testing.T) {
	// later changes the world when the list is asked for the second time.
	later := func(do func(*change)) func(*change) {
		return func(f *change) {
			lists := 0
			f.etcd.before = func(call string) {
				if call == "Members" {
					if lists++; lists == 2 {
						do(f)
					}
				}
			}
		}
	}
	cases := map[string]func(*change){
		"the leader cannot be reached":     silent(leading),
		"no leader was seen":               func(f *change) { f.member(leading).Leads = false },
		"the leader was not healthy":       func(f *change) { f.member(leading).FollowsLeader = false },
		"a learner was seen to lead":       func(f *change) { f.member(leading).Learner = true },
		"the list cannot be read":          answers("Members", etcd.ErrNoLeader),
		"a proposal is refused":            answers("Propose", etcd.ErrNoSpace),
		"a proposal gets no answer":        answers("Propose", etcd.ErrOutcomeUnknown),
		"the list cannot be read again":    later(answers("Members", etcd.ErrNoLeader)),
		"the term is another":              later(func(f *change) { f.etcd.list.Term++; leads(f, func(s *etcd.Status) { s.Term++ }) }),
		"the leader does not say it leads": func(f *change) { f.etcd.answers["Status"] = etcd.ErrUnreachable },
		"the leader follows another":       func(f *change) { leads(f, func(s *etcd.Status) { s.Leader = 2 }) },
		"the leader has no leader":         func(f *change) { leads(f, func(s *etcd.Status) { s.Leader = 0 }) },
		"the leader is of another term":    func(f *change) { leads(f, func(s *etcd.Status) { s.Term++ }) },
		"the leader is somebody else":      func(f *change) { leads(f, func(s *etcd.Status) { s.MemberID = 9 }) },
		"another member answers":           func(f *change) { f.etcd.list.MemberID = 2 },
		"another cluster answers":          func(f *change) { f.etcd.list.ClusterID = 0xbad },
		"a late addition comes":            later(func(f *change) { f.etcd.list.Members = append(f.etcd.list.Members, etcd.Member{ID: 9, Learner: true}) }),
		"a late removal comes":             later(func(f *change) { f.etcd.list.Members = f.etcd.list.Members[1:] }),
		"a late promotion comes":           later(func(f *change) { f.etcd.list.Members[1].Learner = !f.etcd.list.Members[1].Learner }),
		"somebody has taken another's ID":  later(func(f *change) { f.etcd.list.Members[1].ID = 9 }),
		"another leads by now":             func(f *change) { s := f.etcd.status[leading]; s.Leader = 2; f.etcd.status[leading] = s },
		"it led in another term":           func(f *change) { s := f.etcd.status[leading]; s.Term++; f.etcd.status[leading] = s },
		"it does not say who leads":        later(answers("Status", etcd.ErrUnreachable)),
		"a stranger was seen":              func(f *change) { f.seen.ForeignMembers = []string{"http://10.9.9.9:2380"} },
		"a member is twice on the list":    func(f *change) { f.etcd.list.Members = append(f.etcd.list.Members, f.etcd.list.Members[0]) },
	}
	for _, step := range []string{"add", "promote", "hand over", "remove", "stop", "delete", "quarantine"} {
		tc := membershipSteps[step]
		for what, world := range cases {
			t.Run(step+", and "+what, func(t *testing.T) {
				f := changing(t)
				tc.world(f)
				world(f)
				if err := f.do(tc.step); !errors.Is(err, ErrStale) {
					t.Errorf("Perform() = %v, want stale", err)
				}
				if len(f.writes) > 0 || len(f.etcd.changes()) > 0 {
					t.Errorf("wrote %v, changed %v", f.writes, f.etcd.changes())
				}
			})
		}
	}
	f := changing(t)
	if err := f.do(add); err != nil {
		t.Fatal(err)
	}
	if want := []string{"Members", "Propose", "Members", "Status a-0000", addCall}; !slices.Equal(f.etcd.calls, want) {
		t.Errorf("asked %v, want %v", f.etcd.calls, want)
	}
}

// TestRemovalAsksTheOthers: the removal of a voter asks each of the others once more.
func TestRemovalAsksTheOthers(t *testing.T) {
	f := changing(t)
	if err := f.do(remove); err != nil {
		t.Fatal(err)
	}
	want := []string{"Members", "Propose", "Members", "Status a-0000", "Status a-0000", "Status a-0001", "Remove 3"}
	if diff := cmp.Diff(want, f.etcd.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	// The last voter is nobody's to remove.
	f = changing(t)
	f.seen.Members = f.seen.Members[:1]
	f.etcd.list.Members = f.etcd.list.Members[:1]
	err := f.do(plan.Step{Kind: plan.RemoveMember, Members: []string{leading}, ID: 1})
	if !errors.Is(err, ErrStale) || len(f.etcd.changes()) > 0 {
		t.Errorf("Perform() = %v, changed %v", err, f.etcd.changes())
	}
	// One that answers and whose pod goes does not stay.
	f = changing(t)
	if err := f.api.Delete(t.Context(), podOf("a-0001")); err != nil {
		t.Fatal(err)
	}
	if err := f.do(remove); !errors.Is(err, ErrStale) || len(f.etcd.changes()) > 0 {
		t.Errorf("Perform() = %v, changed %v", err, f.etcd.changes())
	}
	// Of two, the one that is left is enough.
	f = changing(t)
	f.seen.Members = f.seen.Members[:2]
	f.etcd.list.Members = f.etcd.list.Members[:2]
	if err := f.do(plan.Step{Kind: plan.RemoveMember, Members: []string{"a-0001"}, ID: 2}); err != nil {
		t.Error(err)
	}
}

// TestMarkedBeforeRemoved: what becomes of a volume is on it before its member
// is removed, or the member is not removed.
func TestMarkedBeforeRemoved(t *testing.T) {
	f := changing(t)
	f.before = func(string, client.Object) error {
		return apierrors.NewForbidden(corev1.Resource("persistentvolumeclaims"), "data-a-0002", errors.New("no right to"))
	}
	if err := f.do(remove); outcomeOf(err) != failed || len(f.etcd.changes()) > 0 {
		t.Errorf("Perform() = %v, changed %v", err, f.etcd.changes())
	}
	f = changing(t)
	f.etcd.before = func(call string) {
		if strings.HasPrefix(call, "Remove") && f.claim(voting).Annotations[v1alpha1.AnnotationLeaving] != "scale-in" {
			t.Error("the member is removed before its volume is marked")
		}
	}
	if err := f.do(remove); err != nil {
		t.Error(err)
	}
}

// TestAddedAndNotRecorded: etcd has the learner, and its ID could not be written.
// The name stays taken, and etcd is not asked for a second one.
func TestAddedAndNotRecorded(t *testing.T) {
	f := changing(t)
	f.before = func(verb string, o client.Object) error {
		return apierrors.NewInternalError(fmt.Errorf("%s %s", verb, o.GetName()))
	}
	if err := f.do(add); outcomeOf(err) != failed {
		t.Errorf("Perform() = %v, want what the API server said", err)
	}
	if f.cluster.Status.Joiner != joiner {
		t.Errorf("the joiner is %q", f.cluster.Status.Joiner)
	}
	f.before = nil
	if err := f.do(add); !errors.Is(err, ErrStale) {
		t.Errorf("Perform() = %v, want stale: etcd lists it by now", err)
	}
	if want := []string{addCall}; !slices.Equal(f.etcd.changes(), want) {
		t.Errorf("changes %v, want %v", f.etcd.changes(), want)
	}
	// The next look sees it in etcd's list, and it is recorded from there.
	m := f.member(joiner)
	m.Listed, m.Learner, m.ID = true, true, fourth
	if err := f.do(plan.Step{Kind: plan.RecordMembers, Members: []string{joiner}}); err != nil {
		t.Fatal(err)
	}
	if got := f.claim(joiner).Annotations; got[v1alpha1.AnnotationMemberID] != "4" || got[v1alpha1.AnnotationBooted] != "" {
		t.Errorf("the claim says %v, want the ID, and nothing of a boot", got)
	}
	var p corev1.Pod
	if f.get(&p, joiner); p.Annotations[member.AnnotationMayBeEmpty] != "true" || !resources.Held(&p) {
		t.Errorf("the pod says %v: it has not started yet, and must be let start empty", p.Annotations)
	}
}

// TestJoining: what a member finds on its way, step by step.
func TestJoining(t *testing.T) {
	f := changing(t)
	unprepared(f)
	if err := f.do(allot); err != nil || f.cluster.Status.Joiner != joiner || f.cluster.Status.NextOrdinal != 4 {
		t.Fatalf("joiner %q, next ordinal %d: %v", f.cluster.Status.Joiner, f.cluster.Status.NextOrdinal, err)
	}
	f.edit(func(c *v1alpha1.EtcdCluster) { c.Status.Joiner, c.Status.NextOrdinal = joiner, 4 })
	f.seen.Members = append(f.seen.Members, plan.Member{Name: joiner, Ordinal: 3, Joiner: true})
	for _, step := range []plan.Step{{Kind: plan.CreateVolumes, Members: []string{joiner}}, holdBack} {
		if err := f.do(step); err != nil {
			t.Fatalf("%s: %v", step.Kind, err)
		}
	}
	var p corev1.Pod
	f.get(&p, joiner)
	uid := string(f.claim(joiner).UID)
	if !resources.Held(&p) || p.Annotations[v1alpha1.AnnotationVolumeUID] != uid || len(p.Spec.SchedulingGates) > 0 {
		t.Errorf("held: %v, volume %q, gates %v", resources.Held(&p), p.Annotations[v1alpha1.AnnotationVolumeUID], p.Spec.SchedulingGates)
	}
	want := map[string]string{
		member.AnnotationInitialClusterState: "existing", member.AnnotationMayBeEmpty: "true", member.AnnotationHold: "true",
		member.AnnotationInitialCluster: resources.InitialCluster(f.cluster, []string{"a-0000", "a-0001", "a-0002", joiner}, nil),
	}
	for key, value := range want {
		if p.Annotations[key] != value {
			t.Errorf("%s is %q, want %q", key, p.Annotations[key], value)
		}
	}
	if err := f.do(add); err != nil || f.cluster.Status.Joiner != "" || f.claim(joiner).Annotations[v1alpha1.AnnotationMemberID] != "4" {
		t.Fatalf("joiner %q, claim %v: %v", f.cluster.Status.Joiner, f.claim(joiner).Annotations, err)
	}
	// Meanwhile one of the others was replaced by a hand: the live list counts.
	f.edit(func(c *v1alpha1.EtcdCluster) { c.Status.Joiner = "" })
	m := f.member(joiner)
	m.Listed, m.Learner, m.ID, m.RecordedID, m.Joiner, m.Held = true, true, fourth, fourth, false, true
	f.member(voting).Listed = false
	if err := f.do(release); err != nil {
		t.Fatal(err)
	}
	f.get(&p, joiner)
	if resources.Held(&p) || p.Annotations[member.AnnotationRelease] != "4" || p.Annotations[member.AnnotationHold] != "true" ||
		p.Annotations[member.AnnotationInitialCluster] != resources.InitialCluster(f.cluster, []string{"a-0000", "a-0001", joiner}, nil) {
		t.Errorf("the pod says %v", p.Annotations)
	}
	// It has started: from now on an empty directory is forbidden.
	m.Started = true
	if err := f.do(plan.Step{Kind: plan.RecordMembers, Members: []string{joiner}}); err != nil {
		t.Fatal(err)
	}
	f.get(&p, joiner)
	if f.claim(joiner).Annotations[v1alpha1.AnnotationBooted] != "true" || p.Annotations[member.AnnotationMayBeEmpty] != "false" || resources.Held(&p) {
		t.Errorf("the claim says %v, the pod %v", f.claim(joiner).Annotations, p.Annotations)
	}
}

// TestAllot: the next name is one that nothing has ever borne.
func TestAllot(t *testing.T) {
	pvc := func(name, namespace string) func(*change) {
		return func(f *change) {
			f.add(&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}})
		}
	}
	pod := func(name string) func(*change) {
		return func(f *change) { f.add(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns"}}) }
	}
	listed := func(f *change) {
		f.seen.Members = append(f.seen.Members, plan.Member{Name: "a-0007", Listed: true, ID: 7})
	}
	counter := func(n int32) func(*change) {
		return func(f *change) { f.edit(func(c *v1alpha1.EtcdCluster) { c.Status.NextOrdinal = n }) }
	}
	cases := map[string]struct {
		world func(*change)
		want  string
	}{
		"the counter's":                             {of(), joiner},
		"after the counter was lost":                {counter(0), joiner},
		"the counter stands higher":                 {counter(12), "a-0012"},
		"somebody's claim bears a name":             {pvc("data-a-0006", "ns"), "a-0007"},
		"our claim of an older incarnation":         {func(f *change) { v := claimOf("a-0006"); reborn(v); f.add(v) }, "a-0007"},
		"a claim in quarantine":                     {func(f *change) { v := claimOf("a-0006"); v.Labels[v1alpha1.LabelQuarantined] = "removed"; f.add(v) }, "a-0007"},
		"somebody's pod bears a name":               {pod("a-0006"), "a-0007"},
		"an entry of etcd's list bears a name":      {listed, "a-0008"},
		"a claim of a cluster with a longer name":   {pvc("data-a-b-0006", "ns"), joiner},
		"a claim of another namespace":              {pvc("data-a-0006", "other"), joiner},
		"a claim that only looks like one":          {of(pvc("data-a-006", "ns"), pvc("data-a-00006", "ns"), pvc("data-a-x006", "ns")), joiner},
		"four digits are not enough":                {pvc("data-a-9999", "ns"), "a-10000"},
		"four digits have not been enough for long": {of(pvc("data-a-9999", "ns"), pvc("data-a-10000", "ns")), "a-10001"},
		"the counter has five digits":               {of(counter(12000), pvc("data-a-9999", "ns")), "a-12000"},
	}
	for what, tc := range cases {
		t.Run(what, func(t *testing.T) {
			f := changing(t)
			unprepared(f)
			tc.world(f)
			if err := f.do(allot); err != nil {
				t.Fatal(err)
			}
			s := f.cluster.Status
			if s.Joiner != tc.want || resources.MemberName("a", int(s.NextOrdinal)-1) != tc.want {
				t.Errorf("joiner %q, next ordinal %d, want %s", s.Joiner, s.NextOrdinal, tc.want)
			}
			if len(f.writes) > 0 {
				t.Errorf("wrote %v: the name is used only once it is on record", f.writes)
			}
		})
	}
}

// TestQuarantine: the data is kept, and it says why and since when.
func TestQuarantine(t *testing.T) {
	for name, tc := range map[string]struct {
		refused string
		why     string
	}{
		"removed by a hand": {"", "removed"},
		"refused data":      {"DataMissing: found nothing", "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			f := changing(t)
			gone(f)
			claimed(annotated(v1alpha1.AnnotationRefused, tc.refused))(f)
			if err := f.do(quarantine); err != nil {
				t.Fatal(err)
			}
			v := f.claim(joiner)
			if v.Labels[v1alpha1.LabelQuarantined] != tc.why || v.Annotations[v1alpha1.AnnotationQuarantinedAt] != now.UTC().Format(time.RFC3339) {
				t.Errorf("labels %v, annotations %v", v.Labels, v.Annotations)
			}
			if !resources.Quarantined(v) || !v.DeletionTimestamp.IsZero() || v.Annotations[v1alpha1.AnnotationMemberID] != "4" {
				t.Errorf("the claim is %+v", v.ObjectMeta)
			}
			if f.get(&corev1.Secret{}, "a-0003-tls") {
				t.Error("the certificates of a name that nobody bears are kept")
			}
			if !f.get(&corev1.Secret{}, "a-0002-tls") {
				t.Error("a member's certificates are gone")
			}
		})
	}
}

// TestDroppedJoiner: the name is given up, and never given again.
func TestDroppedJoiner(t *testing.T) {
	f := changing(t)
	if err := f.do(drop); err != nil {
		t.Fatal(err)
	}
	if s := f.cluster.Status; s.Joiner != "" || s.NextOrdinal != 4 || len(f.writes) > 0 {
		t.Errorf("status %+v, wrote %v", s, f.writes)
	}
}

// TestStaysAfterAll: a member that was marked to leave, and is wanted again, is
// not marked any more: its volume would go with a later removal by hand.
func TestStaysAfterAll(t *testing.T) {
	f := changing(t)
	f.put(&corev1.PersistentVolumeClaim{}, "data-"+voting, annotated(v1alpha1.AnnotationLeaving, "scale-in"))
	f.member(voting).Leaving = true
	f.seen.Size = 3
	if err := f.do(plan.Step{Kind: plan.RecordMembers, Members: []string{voting}}); err != nil {
		t.Fatal(err)
	}
	if mark, marked := f.claim(voting).Annotations[v1alpha1.AnnotationLeaving]; marked {
		t.Errorf("the claim is still marked with %q", mark)
	}
}

// TestDeletedIsWhatWasRead: whatever is deleted or put away is the very object
// that was read, in the version that was read.
func TestDeletedIsWhatWasRead(t *testing.T) {
	cases := map[string]struct {
		step string
		on   string
	}{
		"a pod that is stopped":          {"stop", "delete a-0003"},
		"a pod that is discarded":        {"discard", "delete a-0003"},
		"a claim that is discarded":      {"discard", "delete data-a-0003"},
		"a claim of a scale-in":          {"delete", "delete data-a-0003"},
		"a claim that is put away":       {"quarantine", "patch data-a-0003"},
		"a claim after its quarantine":   {"expire", "delete data-a-0003"},
		"a pod that is released":         {"release", "patch a-0003"},
		"a claim that is marked":         {"remove", "patch data-a-0002"},
		"a claim that is given an ID":    {"add", "patch data-a-0003"},
		"a Secret that nobody needs now": {"delete", "delete a-0003-tls"},
	}
	for what, tc := range cases {
		t.Run(what, func(t *testing.T) {
			f := changing(t)
			step := membershipSteps[tc.step]
			step.world(f)
			touched := false
			f.before = func(verb string, o client.Object) error {
				if verb+" "+o.GetName() != tc.on || touched {
					return nil
				}
				touched = true
				other := o.DeepCopyObject().(client.Object)
				if !f.get(other, o.GetName()) {
					return nil
				}
				other.GetLabels()["somebody"] = "else"
				return f.api.Update(t.Context(), other)
			}
			err := f.do(step.step)
			if !touched {
				t.Fatalf("there was no %s: %v, %v", tc.on, f.writes, err)
			}
			if !apierrors.IsConflict(err) {
				t.Errorf("Perform() = %v, want a conflict", err)
			}
		})
	}
}
