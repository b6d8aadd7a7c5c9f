package controllers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/etcd/etcdtest"
	"github.com/quorate/quorate/internal/member"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

var threeFounders = []string{"a-0000", "a-0001", "a-0002"}

// living is an operator over a founded cluster of three whose etcd behaves.
type living struct {
	*operator
	etcd      *etcdtest.World
	processes []*etcdtest.Process
	clock     *clocktesting.FakeClock
}

func newLiving(t *testing.T, changes ...change) *living {
	t.Helper()
	c := cluster(founded)
	urls := map[string]string{}
	var all []string
	for _, name := range threeFounders {
		urls[name] = resources.PeerURL(c, name)
		all = append(all, urls[name])
	}
	c.Status.NextOrdinal, c.Status.ClusterID = 3, fmt.Sprintf("%x", etcdtest.ClusterID(resources.Token(c), all...))
	c.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionDataConsistent, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonDataEqual}}
	c.Spec.Failover = v1alpha1.FailoverSpec{
		ReplaceAfter: metav1.Duration{Duration: 5 * time.Minute}, LearnerTimeout: metav1.Duration{Duration: 15 * time.Minute},
	}
	var objects []client.Object
	for i, name := range threeFounders {
		objects = append(objects, boundClaim(c, name, etcdtest.MemberID(urls[name], resources.Token(c))), runningPod(c, name, i))
	}
	for _, change := range changes {
		change(c)
	}
	if c.Status.Joiner != "" {
		pod := runningPod(c, c.Status.Joiner, 3)
		pod.Annotations[member.AnnotationHold], pod.Annotations[member.AnnotationMayBeEmpty] = "true", "true"
		objects = append(objects, boundClaim(c, c.Status.Joiner, 0), pod)
	}
	for _, o := range resources.Objects(c, len(threeFounders), resources.OperatorPeer{}) {
		objects = append(objects, asWanted(t, o))
	}
	clock := clocktesting.NewFakeClock(time.Unix(1e9, 0))
	l := &living{operator: newOperator(t, append(objects, c)...), etcd: etcdtest.NewWorld(clock.Now), clock: clock}
	for i, name := range threeFounders {
		l.processes = append(l.processes, l.etcd.Start("node", name, address(i), etcdtest.Flags{
			Name: name, PeerURL: urls[name], ClientURL: resources.ClientURL(c, name), InitialCluster: urls, State: etcdtest.New, Token: resources.Token(c),
		}))
	}
	l.reconciler.Observer.Dialer, l.reconciler.Observer.Clock, l.reconciler.Performer.Clock = l.etcd, clock, clock
	return l
}

func address(i int) string { return fmt.Sprintf("10.0.0.%d:%d", i+1, resources.ClientPort) }

func boundClaim(c *v1alpha1.EtcdCluster, name string, id uint64) *corev1.PersistentVolumeClaim {
	v := resources.Claim(c, name)
	v.UID = types.UID("v" + name[len(name)-1:])
	v.Status.Phase = corev1.ClaimBound
	if id != 0 {
		v.Annotations[v1alpha1.AnnotationMemberID] = fmt.Sprintf("%x", id)
	}
	return v
}

func runningPod(c *v1alpha1.EtcdCluster, name string, i int) *corev1.Pod {
	p := resources.MemberPod(c, resources.Start{Member: name, VolumeUID: "v" + name[len(name)-1:], Orders: resources.Orders{
		Peers: c.Status.Founders, State: member.ClusterStateExisting, Empty: resources.EmptyForbidden,
	}})
	p.UID = types.UID("p" + name[len(name)-1:])
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: fmt.Sprintf("10.0.0.%d", i+1), ContainerStatuses: []corev1.ContainerStatus{{
		Name: resources.EtcdContainer, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
	}}}
	return p
}

func sized(n int32) change { return func(c *v1alpha1.EtcdCluster) { c.Spec.Size = n } }

func preparing(c *v1alpha1.EtcdCluster) {
	c.Spec.Size, c.Status.Joiner, c.Status.NextOrdinal = 5, "a-0003", 4
}

// asWanted is the fixed object as it is once it has been applied.
func asWanted(t *testing.T, o resources.Object) client.Object {
	t.Helper()
	raw, err := json.Marshal(o.Want)
	if err != nil {
		t.Fatal(err)
	}
	live := o.Empty()
	if err := json.Unmarshal(raw, live); err != nil {
		t.Fatal(err)
	}
	return live
}

// TestHealthyCluster: a cluster as it should be costs no write.
func TestHealthyCluster(t *testing.T) {
	l := newLiving(t)
	for i := range 5 {
		result, err := l.pass()
		if err != nil || result.RequeueAfter != atRest {
			t.Fatalf("pass %d: %v, %v", i, result, err)
		}
		if i > 0 && len(l.writes) > 0 {
			t.Errorf("pass %d wrote %v", i, l.writes)
		}
		l.clock.Step(atRest)
	}
	if ready := meta.FindStatusCondition(l.cluster().Status.Conditions, v1alpha1.ConditionReady); ready == nil || ready.Status != metav1.ConditionTrue {
		t.Errorf("Ready is %+v", ready)
	}
}

// TestNotYet: what etcd does not take yet is no failure: it is said, and tried
// again soon, less and less so.
func TestNotYet(t *testing.T) {
	l := newLiving(t, preparing)
	for i, want := range []time.Duration{afterNotYet, 600 * time.Millisecond, 700 * time.Millisecond} {
		result, err := l.pass()
		if err != nil || result.RequeueAfter != want {
			t.Fatalf("pass %d: %v, %v, want to look again after %s", i, result, err, want)
		}
	}
	s := l.cluster().Status
	ready, stalled := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionReady), meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionStalled)
	if ready.Reason != v1alpha1.ReasonGrowing || !strings.Contains(ready.Message, "unhealthy cluster") || stalled.Status != metav1.ConditionFalse {
		t.Errorf("Ready is %+v, Stalled is %+v", ready, stalled)
	}
	if s.Joiner != "a-0003" {
		t.Errorf("the joiner is %q", s.Joiner)
	}
	// etcd takes it once every voter has been connected for five seconds.
	l.clock.Step(6 * time.Second)
	if result, err := l.pass(); err != nil || result.RequeueAfter > whileChanging {
		t.Fatalf("Reconcile() = %v, %v, want to look again at once", result, err)
	}
	if s := l.cluster().Status; s.Joiner != "" || s.Replicas != 3 {
		t.Errorf("joiner %q, %d replicas", s.Joiner, s.Replicas)
	}
	truth, _ := l.etcd.Truth(resources.Token(l.cluster()))
	if len(truth.Members) != 4 || len(l.etcd.Violations()) > 0 {
		t.Errorf("etcd has %d members, violations %v", len(truth.Members), l.etcd.Violations())
	}
}

// TestRefusedHousekeeping: a budget that the API server refuses for good, by a
// quota or a webhook, does not hold up who is a member, and is tried again
// whenever there is nothing better to do.
func TestRefusedHousekeeping(t *testing.T) {
	l := newLiving(t, sized(5))
	budget := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "ns"}}
	if err := l.api.Delete(t.Context(), budget); err != nil {
		t.Fatal(err)
	}
	quota := &stubborn{Client: l.api, t: t, refuses: true}
	l.reconciler.Performer.Writer = quota
	if _, err := l.pass(); !apierrors.IsForbidden(err) {
		t.Fatalf("Reconcile() = %v, want the refusal", err)
	}
	// The next passes prepare a member: its name and its claim.
	for i, want := range []string{"patch status a", "create data-a-0003"} {
		if _, err := l.pass(); err != nil || l.writes[0] != want {
			t.Fatalf("pass %d: %v, wrote %v, want %s", i, err, l.writes, want)
		}
	}
	if quota.applied != 1 {
		t.Errorf("applied %d times", quota.applied)
	}
	// Its pod is there, and waits for an image: now there is time for what was
	// refused, and what is wrong with it is told again.
	if _, err := l.pass(); err != nil || l.writes[0] != "create a-0003" {
		t.Fatalf("Reconcile() = %v, wrote %v", err, l.writes)
	}
	if _, err := l.pass(); !apierrors.IsForbidden(err) || quota.applied != 2 {
		t.Errorf("Reconcile() = %v after %d tries: the refused step is not tried again", err, quota.applied)
	}
	quota.refuses = false
	if _, err := l.pass(); err != nil || quota.applied != 3 {
		t.Errorf("Reconcile() = %v after %d tries", err, quota.applied)
	}
	if got := l.reconciler.refused.of(request.NamespacedName); len(got) > 0 {
		t.Errorf("%v are still taken for refused", got)
	}
	if stalled := meta.FindStatusCondition(l.cluster().Status.Conditions, v1alpha1.ConditionStalled); stalled.Status != metav1.ConditionFalse {
		t.Errorf("Stalled is %+v", stalled)
	}
}

// stubborn may refuse what is applied, and notes how often.
type stubborn struct {
	client.Client
	t       *testing.T
	refuses bool
	applied int
}

func (s *stubborn) Apply(ctx context.Context, o runtime.ApplyConfiguration, _ ...client.ApplyOption) error {
	s.applied++
	if s.refuses {
		return apierrors.NewForbidden(policyv1.Resource("poddisruptionbudgets"), "a", errors.New("exceeded quota"))
	}
	return s.Create(ctx, asWanted(s.t, resources.Object{Want: o, Empty: func() client.Object { return &policyv1.PodDisruptionBudget{} }}))
}

func TestRefusedSteps(t *testing.T) {
	a, b := types.NamespacedName{Name: "a"}, types.NamespacedName{Name: "b"}
	no := errors.New("no")
	var r refusedSteps
	note := func(cluster types.NamespacedName, kind plan.Kind, err error) {
		r.note(cluster, plan.Step{Kind: kind}, err)
	}
	note(a, plan.ApplyObjects, no)
	note(a, plan.ApplyObjects, no)
	note(a, plan.IssueCertificates, no)
	note(a, plan.AllotMember, nil)
	if diff := cmp.Diff([]plan.Kind{plan.ApplyObjects, plan.IssueCertificates}, r.of(a)); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
	if got := r.of(b); len(got) > 0 {
		t.Errorf("another cluster's: %v", got)
	}
	note(a, plan.ApplyObjects, nil)
	if diff := cmp.Diff([]plan.Kind{plan.IssueCertificates}, r.of(a)); diff != "" {
		t.Errorf("after a success (-want +got):\n%s", diff)
	}
	r.forget(a)
	if got := r.of(a); len(got) > 0 {
		t.Errorf("of a cluster that is gone: %v", got)
	}
}

// TestReadsLiveWhileMoving: a cache may not have heard of the name that the last
// pass gave away.
func TestReadsLiveWhileMoving(t *testing.T) {
	latched := func(c *v1alpha1.EtcdCluster) { c.Status.ClusterID = "c1" }
	cases := map[string]struct {
		changes []change
		live    bool
	}{
		"at rest":              {[]change{latched}, false},
		"being founded":        {nil, true},
		"a member is prepared": {[]change{latched, func(c *v1alpha1.EtcdCluster) { c.Status.Joiner = "a-0003" }}, true},
		"a learner catches up": {[]change{latched, func(c *v1alpha1.EtcdCluster) {
			c.Status.Members = []v1alpha1.MemberStatus{{Name: "a-0003", Role: v1alpha1.RoleLearner}}
		}}, true},
		"being deleted": {[]change{latched, deleted}, true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			fresh := cluster(append(tc.changes, sized(7))...)
			o := newOperator(t, fresh)
			o.reconciler.Client = &lagging{Client: o.api, cluster: cluster(append(tc.changes, sized(1))...)}
			got, err := o.reconciler.read(t.Context(), request)
			if err != nil {
				t.Fatal(err)
			}
			if (got.Spec.Size == 7) != tc.live {
				t.Errorf("read a size of %d: the API server itself is asked: %v, want %v", got.Spec.Size, got.Spec.Size == 7, tc.live)
			}
			if err := o.api.Delete(t.Context(), fresh); err != nil {
				t.Fatal(err)
			}
			if name == "being deleted" {
				return
			}
			if got, err := o.reconciler.read(t.Context(), request); err != nil || (got == nil) != tc.live {
				t.Errorf("after it is gone: %v, %v", got, err)
			}
		})
	}
}

// lagging is a cache that has not heard of the last edit.
type lagging struct {
	client.Client
	cluster *v1alpha1.EtcdCluster
}

func (l *lagging) Get(_ context.Context, _ client.ObjectKey, o client.Object, _ ...client.GetOption) error {
	l.cluster.DeepCopyInto(o.(*v1alpha1.EtcdCluster))
	return nil
}

// TestEditsWhileItGrows: what the user changes their mind about is taken up by
// the next pass, and what was prepared goes.
func TestEditsWhileItGrows(t *testing.T) {
	l := newLiving(t, preparing)
	c := l.cluster()
	c.Spec.Size, c.Generation = 3, 2
	if err := l.api.Update(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	for range 8 {
		if _, err := l.pass(); err != nil {
			t.Fatal(err)
		}
		l.clock.Step(6 * time.Second)
	}
	if s := l.cluster().Status; s.Joiner != "" || s.NextOrdinal != 4 {
		t.Errorf("joiner %q, next ordinal %d", s.Joiner, s.NextOrdinal)
	}
	for _, o := range []client.Object{&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a-0003"}}, &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data-a-0003"}}} {
		if err := l.api.Get(t.Context(), client.ObjectKey{Namespace: "ns", Name: o.GetName()}, o); !apierrors.IsNotFound(err) {
			t.Errorf("%s is still there: %v", o.GetName(), err)
		}
	}
	truth, _ := l.etcd.Truth(resources.Token(c))
	if len(truth.Members) != 3 {
		t.Errorf("etcd has %d members", len(truth.Members))
	}
}

// TestTellsFirst: that the cluster is not available any more is told before anything
// is done about it, and what was done is told although status could not be written.
func TestTellsFirst(t *testing.T) {
	l := newLiving(t)
	for range 2 {
		if _, err := l.pass(); err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range threeFounders[:2] {
		l.etcd.Stop(l.processes[i])
		if err := l.api.Delete(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}); err != nil {
			t.Fatal(err)
		}
	}
	if result, err := l.pass(); err != nil || result.RequeueAfter != again {
		t.Fatalf("Reconcile() = %v, %v, want the next pass at once", result, err)
	}
	if diff := cmp.Diff([]string{"patch status a"}, l.writes); diff != "" {
		t.Errorf("writes of the pass that sees the loss (-want +got):\n%s", diff)
	}
	if is := meta.FindStatusCondition(l.cluster().Status.Conditions, v1alpha1.ConditionAvailable); is.Status == metav1.ConditionTrue {
		t.Errorf("Available is still %+v", is)
	}
	for len(l.events.Events) > 0 {
		<-l.events.Events
	}
	l.before = func(verb string, _ client.Object) error {
		if verb == "patch status" {
			return apierrors.NewConflict(v1alpha1.GroupVersion.WithResource("etcdclusters").GroupResource(), "a", errors.New("written meanwhile"))
		}
		return nil
	}
	c := l.cluster()
	c.Status.Conditions = nil
	if err := l.api.Status().Update(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if _, err := l.pass(); err != nil {
		t.Fatal(err)
	}
	if l.writes[0] != "create a-0000" || len(l.events.Events) != 1 || !strings.Contains(<-l.events.Events, string(plan.StartMembers)) {
		t.Errorf("wrote %v and did not tell of it", l.writes)
	}
}
