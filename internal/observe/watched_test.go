package observe

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/member"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

const (
	replaceAfter   = 5 * time.Minute
	learnerTimeout = 15 * time.Minute
	watchedMember2 = "a-0002"
)

// patient is a healthy cluster with the patience of the defaults.
func patient(t *testing.T) *world {
	t.Helper()
	w := founded(t)
	w.cluster.Spec.Failover = v1alpha1.FailoverSpec{
		ReplaceAfter: metav1.Duration{Duration: replaceAfter}, LearnerTimeout: metav1.Duration{Duration: learnerTimeout},
	}
	w.cluster.Spec.Storage.QuarantineFor = metav1.Duration{Duration: 168 * time.Hour}
	for i := range 3 {
		w.etcd.members[address(i)].status.Index, w.etcd.members[address(i)].status.Applied = 1000, 1000
	}
	return w
}

func (w *world) advance(d time.Duration) { w.clock.SetTime(w.clock.Now().Add(d)) }

func (w *world) third() plan.Member {
	w.t.Helper()
	m, ok := w.see().Member(watchedMember2)
	if !ok {
		w.t.Fatal("the third member is not seen")
	}
	return m
}

func (w *world) answers(i int) { w.etcd.members[address(i)].fails = nil }

// nodeState is the node's, since now.
func (w *world) nodeIs(name string, is corev1.ConditionStatus) {
	w.node(name).Status.Conditions[0] = corev1.NodeCondition{
		Type: corev1.NodeReady, Status: is, LastTransitionTime: metav1.NewTime(w.clock.Now()),
	}
}

func nodeDown(w *world) {
	w.nodeIs("node-2", corev1.ConditionUnknown)
	w.etcd.silent(address(2))
}

func forgetAll(w *world) { w.observer = nil }

// moment of a story: so much later something happens, and then there is a look.
type moment struct {
	later time.Duration
	do    func(*world)
	want  bool
}

func (w *world) tell(what func(plan.Member) bool, story []moment) {
	w.t.Helper()
	for i, m := range story {
		w.advance(m.later)
		if m.do != nil {
			m.do(w)
		}
		if seen := w.third(); what(seen) != m.want {
			w.t.Errorf("moment %d: %v, want %v: %+v", i, what(seen), m.want, seen)
		}
	}
}

// TestSteady: nothing is removed on the word of one look, nor of two at once.
func TestSteady(t *testing.T) {
	steady := func(m plan.Member) bool { return m.Steady }
	cases := map[string][]moment{
		"two looks two seconds apart":        {{0, nil, false}, {2 * time.Second, nil, true}},
		"one look, however late":             {{time.Hour, nil, false}},
		"many looks in less":                 {{0, nil, false}, {time.Second, nil, false}, {999 * time.Millisecond, nil, false}, {time.Millisecond, nil, true}},
		"it stays so":                        {{0, nil, false}, {2 * time.Second, nil, true}, {0, nil, true}, {time.Hour, nil, true}},
		"a change and back":                  {{0, nil, false}, {2 * time.Second, nil, true}, {time.Second, func(w *world) { w.etcd.silent(address(2)) }, false}, {time.Second, func(w *world) { w.answers(2) }, false}, {time.Second, nil, false}, {time.Second, nil, true}},
		"an operator that has just started":  {{0, nil, false}, {2 * time.Second, nil, true}, {time.Second, forgetAll, false}, {2 * time.Second, nil, true}},
		"another member changes":             {{0, nil, false}, {2 * time.Second, nil, true}, {time.Second, func(w *world) { w.etcd.silent(address(1)) }, true}},
		"another member leads":               {{0, nil, false}, {2 * time.Second, nil, true}, {time.Second, func(w *world) { w.etcd.elect(3, 9) }, true}},
		"the log grows":                      {{0, nil, false}, {2 * time.Second, nil, true}, {time.Second, func(w *world) { w.etcd.members[address(2)].status.Applied = 1001 }, true}},
		"a cluster of the same name, reborn": {{0, nil, false}, {2 * time.Second, nil, true}, {time.Second, reborn, false}},
	}
	for name, story := range cases {
		t.Run(name, func(t *testing.T) { patient(t).tell(steady, story) })
	}
}

// reborn is the cluster under another UID, and so are its objects.
func reborn(w *world) {
	w.cluster.UID = "new"
	for _, o := range w.objects {
		if o.GetLabels()[v1alpha1.LabelClusterUID] != "" {
			o.GetLabels()[v1alpha1.LabelClusterUID] = "new"
		}
	}
}

// TestUnsteady: whatever somebody could act on resets the watch, for this member
// and for no other.
func TestUnsteady(t *testing.T) {
	claimed := func(key, value string) func(*world) {
		return func(w *world) { third[*corev1.PersistentVolumeClaim](w).Annotations[key] = value }
	}
	cases := map[string]func(*world){
		"its claim is going":             func(w *world) { going(third[*corev1.PersistentVolumeClaim](w)) },
		"its claim is gone":              func(w *world) { w.remove(third[*corev1.PersistentVolumeClaim](w)) },
		"its data is refused":            claimed(v1alpha1.AnnotationRefused, "x"),
		"its claim names another ID":     claimed(v1alpha1.AnnotationMemberID, "9"),
		"its pod is gone":                noPod,
		"its pod is going":               func(w *world) { going(third[*corev1.Pod](w)) },
		"its pod is another one":         func(w *world) { third[*corev1.Pod](w).UID = "other" },
		"its pod waits":                  waits("CrashLoopBackOff", ""),
		"it is silent":                   func(w *world) { w.etcd.silent(address(2)) },
		"it knows no leader":             func(w *world) { w.etcd.members[address(2)].status.Leader = 0 },
		"etcd lists it no more":          func(w *world) { w.etcd.list = w.etcd.list[:2] },
		"etcd lists another ID":          func(w *world) { w.etcd.list[2].ID = 9 },
		"it is a learner":                func(w *world) { w.etcd.list[2].Learner = true },
		"it answers as somebody else":    func(w *world) { w.etcd.members[address(2)].status.MemberID = 9 },
		"it answers for another cluster": func(w *world) { w.etcd.members[address(2)].status.ClusterID = 0xbad },
		"etcd fails on its data at last": all(waits("CrashLoopBackOff", ""), corruptData),
		"nobody has a leader":            func(w *world) { w.etcd.elect(0, 3) },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			w := patient(t)
			w.see()
			w.advance(2 * time.Second)
			if !w.third().Steady {
				t.Fatal("it is not steady before")
			}
			w.advance(time.Second)
			change(w)
			seen := w.see()
			if m, _ := seen.Member(watchedMember2); m.Steady {
				t.Errorf("it is steady in the look that sees the change: %+v", m)
			}
			if other, _ := seen.Member("a-0000"); !other.Steady && name != "nobody has a leader" {
				t.Errorf("another member is not steady any more: %+v", other)
			}
			w.advance(2*time.Second - time.Millisecond)
			if w.third().Steady {
				t.Error("it is steady too early")
			}
			w.advance(time.Millisecond)
			if !w.third().Steady {
				t.Error("it is not steady after two seconds")
			}
		})
	}
}

// TestUnsteadyByOneMoreFailure: the fifth failure in a row changes what would be
// done, and nothing else of what is seen.
func TestUnsteadyByOneMoreFailure(t *testing.T) {
	w := patient(t)
	waits("CrashLoopBackOff", "")(w)
	for n := range int32(4) {
		corruptData(w)
		w.etcdStatus().RestartCount = n
		w.third()
	}
	w.tell(func(m plan.Member) bool { return m.Steady }, []moment{
		{0, nil, false}, {2 * time.Second, nil, true}, {time.Minute, corruptData, false}, {2 * time.Second, nil, true},
	})
}

// TestUnsteadyUnderAnotherID: etcd lists another ID under the name of a member
// that answers nobody: removed, and added again by a hand.
func TestUnsteadyUnderAnotherID(t *testing.T) {
	w := patient(t)
	w.etcd.silent(address(2))
	w.tell(func(m plan.Member) bool { return m.Steady }, []moment{
		{0, nil, false},
		{2 * time.Second, nil, true},
		{time.Minute, func(w *world) { w.etcd.list[2].ID = 9 }, false},
		{2 * time.Second, nil, true},
	})
}

func corruptData(w *world) {
	ended(1, "Error", "DataCorrupt: etcd of member a-0002 ended with code 1: crc mismatch — why — what")(w)
	w.etcdStatus().RestartCount = 4
}

// TestGone: unreachable is not dead. A node has to be away, and the member silent,
// for failover.replaceAfter, both seen by this operator; or declared down.
func TestGone(t *testing.T) {
	gone := func(m plan.Member) bool { return m.Gone }
	unschedulable := func(w *world) {
		p := third[*corev1.Pod](w)
		p.Spec.NodeName, p.Status = "", corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: "0/3 nodes",
		}}}
		w.etcd.silent(address(2))
	}
	fenced := func(w *world) {
		w.node("node-2").Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeOutOfService}}
	}
	deleted := func(w *world) { w.remove(w.node("node-2")) }
	elsewhere := func(name string) func(*world) {
		return func(w *world) {
			w.objects = append(w.objects, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}},
			}})
		}
	}
	node := func(name string, is corev1.ConditionStatus) func(*world) {
		return func(w *world) { w.nodeIs(name, is) }
	}
	cases := map[string][]moment{
		"its node is away for long enough":     {{0, nodeDown, false}, {replaceAfter - time.Second, nil, false}, {time.Second, nil, true}, {time.Hour, nil, true}},
		"and its pod is gone":                  {{0, all(nodeDown, noPod), false}, {replaceAfter - time.Second, nil, false}, {time.Second, nil, true}},
		"its node is back":                     {{0, nodeDown, false}, {replaceAfter, nil, true}, {time.Second, all(node("node-2", corev1.ConditionTrue)), false}},
		"its node was back for a moment":       {{0, nodeDown, false}, {4 * time.Minute, node("node-2", corev1.ConditionTrue), false}, {time.Second, node("node-2", corev1.ConditionUnknown), false}, {replaceAfter - time.Second, nil, false}, {time.Second, nil, true}},
		"it answered meanwhile":                {{0, nodeDown, false}, {4 * time.Minute, func(w *world) { w.answers(2) }, false}, {time.Minute, func(w *world) { w.etcd.silent(address(2)) }, false}, {4*time.Minute - time.Second, nil, false}, {time.Second, nil, true}},
		"it answers although its node is away": {{0, node("node-2", corev1.ConditionUnknown), false}, {time.Hour, nil, false}},
		"it answers after it was given up":     {{0, nodeDown, false}, {replaceAfter, nil, true}, {time.Second, func(w *world) { w.answers(2) }, false}},
		"it is silent on a node that is Ready": {{0, func(w *world) { w.etcd.silent(address(2)) }, false}, {time.Hour, nil, false}},
		"two nodes are away":                   {{0, all(nodeDown, node("node-1", corev1.ConditionUnknown)), false}, {time.Hour, nil, false}},
		"two nodes, and one is back":           {{0, all(nodeDown, node("node-1", corev1.ConditionUnknown)), false}, {time.Hour, node("node-1", corev1.ConditionTrue), true}},
		"one more goes when it is due":         {{0, nodeDown, false}, {replaceAfter, node("node-0", corev1.ConditionFalse), false}},
		"a node without members is away too":   {{0, all(nodeDown, elsewhere("node-9")), false}, {replaceAfter, nil, true}},
		"the operator has just started":        {{0, nodeDown, false}, {4 * time.Minute, forgetAll, false}, {replaceAfter - time.Second, nil, false}, {time.Second, nil, true}},
		"the node was away before it started": {{0, all(nodeDown, func(w *world) {
			w.node("node-2").Status.Conditions[0].LastTransitionTime = metav1.NewTime(time.Unix(1, 0))
		}), false}, {replaceAfter - time.Second, nil, false}, {time.Second, nil, true}},
		"the operator may not read nodes":      {{0, all(nodeDown, func(w *world) { w.nodesHidden = true }), false}, {time.Hour, nil, false}},
		"no patience is no word of the user's": {{0, all(nodeDown, func(w *world) { w.cluster.Spec.Failover.ReplaceAfter.Duration = 0 }), false}, {time.Hour, nil, false}},
		"its node is declared down":            {{0, all(nodeDown, fenced), false}, {time.Second, unschedulable, true}},
		"its node was deleted a moment ago":    {{0, all(nodeDown, deleted), false}, {4 * time.Minute, unschedulable, false}},
		"its node was deleted long ago":        {{0, all(nodeDown, deleted), false}, {time.Second, unschedulable, false}, {10 * time.Minute, nil, true}},
		"deleted, and its volume follows it":   {{0, all(nodeDown, deleted, noPod), false}, {time.Hour, nil, false}},
		"no node for it, and its own is there": {{0, unschedulable, false}, {time.Hour, nil, false}},
		"no node for it, ever":                 {{0, all(unschedulable, func(w *world) { delete(third[*corev1.PersistentVolumeClaim](w).Annotations, v1alpha1.AnnotationNode) }), false}, {time.Hour, nil, false}},
		"declared down, and it answers":        {{0, all(fenced, unschedulable, func(w *world) { third[*corev1.Pod](w).Status.PodIP = address(2); running(w); w.answers(2) }), false}, {time.Hour, nil, false}},
	}
	for name, story := range cases {
		t.Run(name, func(t *testing.T) { patient(t).tell(gone, story) })
	}
}

func running(w *world) {
	third[*corev1.Pod](w).Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: resources.EtcdContainer, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
	}}
}

// learner makes the third member one that lags.
func learner(w *world) {
	w.etcd.list[2].Learner = true
	w.etcd.members[address(2)].status.Learner = true
	w.applied(10)
}

func (w *world) applied(n uint64) { w.etcd.members[address(2)].status.Applied = n }

func applies(n uint64) func(*world) { return func(w *world) { w.applied(n) } }

// TestStuck: a learner is given up when it has made no progress for
// failover.learnerTimeout, and not because it is slow.
func TestStuck(t *testing.T) {
	stuck := func(m plan.Member) bool { return m.Stuck }
	silent := func(w *world) { w.etcd.silent(address(2)) }
	cases := map[string][]moment{
		"no progress":                      {{0, learner, false}, {learnerTimeout - time.Second, nil, false}, {time.Second, nil, true}},
		"it never answers":                 {{0, all(learner, silent), false}, {learnerTimeout - time.Second, nil, false}, {time.Second, nil, true}},
		"slow progress":                    {{0, learner, false}, {14 * time.Minute, applies(11), false}, {14 * time.Minute, applies(12), false}, {14 * time.Minute, applies(13), false}},
		"progress, and then none":          {{0, learner, false}, {14 * time.Minute, applies(11), false}, {learnerTimeout - time.Second, nil, false}, {time.Second, nil, true}},
		"progress at last":                 {{0, learner, false}, {learnerTimeout, nil, true}, {time.Second, applies(11), false}},
		"it falls back":                    {{0, learner, false}, {14 * time.Minute, applies(5), false}, {time.Minute, nil, true}},
		"silence is no progress":           {{0, learner, false}, {10 * time.Minute, silent, false}, {4 * time.Minute, func(w *world) { w.answers(2) }, false}, {time.Minute, nil, true}},
		"it has caught up":                 {{0, all(learner, applies(1000)), false}, {time.Hour, nil, false}},
		"another ID under its name":        {{0, learner, false}, {14 * time.Minute, func(w *world) { w.etcd.list[2].ID = 9; w.etcd.members[address(2)].status.MemberID = 9 }, false}, {14 * time.Minute, nil, false}, {time.Minute, nil, true}},
		"an operator that starts":          {{0, learner, false}, {14 * time.Minute, forgetAll, false}, {14 * time.Minute, nil, false}, {time.Minute, nil, true}},
		"a voter is not stuck":             {{0, applies(1), false}, {time.Hour, nil, false}},
		"a member that etcd lists no more": {{0, learner, false}, {time.Hour, func(w *world) { w.etcd.list = w.etcd.list[:2] }, false}},
	}
	for name, story := range cases {
		t.Run(name, func(t *testing.T) { patient(t).tell(stuck, story) })
	}
}

// TestTrails: a learner that makes progress is told of once it has come no nearer to
// the leader for long, and left alone.
func TestTrails(t *testing.T) {
	trails := func(m plan.Member) bool { return m.Trails && !m.Stuck && !m.Lags }
	// grows has the leader come to an index, and the learner to another.
	grows := func(to, applied uint64) func(*world) {
		return func(w *world) {
			for i := range 2 {
				w.etcd.members[address(i)].status.Index = to
			}
			applies(applied)(w)
		}
	}
	begins := all(learner, grows(100000, 10000))
	cases := map[string][]moment{
		"writes come as fast as it follows": {
			{0, begins, false},
			{time.Minute, grows(120000, 30000), false},
			{time.Minute, grows(140000, 50000), false},
			{59 * time.Second, grows(150000, 60000), false},
			{time.Second, grows(160000, 70000), true},
			{time.Minute, grows(190000, 99000), true},
		},
		"it comes nearer": {
			{0, begins, false}, {2 * time.Minute, grows(120000, 40000), false}, {2 * time.Minute, grows(140000, 80000), false}, {2 * time.Minute, grows(160000, 120000), false},
		},
		"it comes nearer at last": {
			{0, begins, false},
			{3 * time.Minute, grows(120000, 30000), true},
			{30 * time.Second, grows(121000, 45000), false},
			{3 * time.Minute, grows(200000, 124000), true},
		},
		"it catches up, and falls behind": {
			{0, begins, false},
			{2 * time.Minute, grows(120000, 119000), false},
			{2 * time.Minute, grows(200000, 150000), false},
			{2 * time.Minute, grows(300000, 250000), false},
			{time.Minute, grows(350000, 300000), true},
		},
		"it answers only after a while": {
			{0, all(begins, func(w *world) { w.etcd.silent(address(2)) }), false},
			{time.Minute, nil, false},
			{time.Minute, all(func(w *world) { w.answers(2) }, grows(120000, 20000)), false},
			{2 * time.Minute, grows(140000, 40000), false},
			{time.Minute, grows(160000, 60000), true},
		},
		"an operator that starts": {{0, begins, false}, {2 * time.Minute, grows(120000, 30000), false}, {2 * time.Minute, all(forgetAll, grows(140000, 50000)), false}},
		"a voter":                 {{0, grows(100000, 10000), false}, {time.Hour, grows(200000, 20000), false}},
	}
	for name, story := range cases {
		t.Run(name, func(t *testing.T) { patient(t).tell(trails, story) })
	}
}

func TestCaughtUp(t *testing.T) {
	status := func(id, leader, index, applied uint64) etcd.Status {
		return etcd.Status{ClusterID: clusterID, MemberID: id, Leader: leader, Index: index, Applied: applied}
	}
	learner := func(s etcd.Status) etcd.Status { s.Learner = true; return s }
	foreign := func(s etcd.Status) etcd.Status { s.ClusterID = 0xbad; return s }
	cases := map[string]struct {
		voters map[string]etcd.Status
		of     etcd.Status
		want   bool
	}{
		"all of a short log":                      {map[string]etcd.Status{"a": status(1, 1, 10, 10)}, status(3, 1, 10, 10), true},
		"nine tenths of a short log":              {map[string]etcd.Status{"a": status(1, 1, 100, 100)}, status(3, 1, 90, 90), true},
		"less of a short log":                     {map[string]etcd.Status{"a": status(1, 1, 100, 100)}, status(3, 1, 89, 89), false},
		"what etcd keeps of a long log":           {map[string]etcd.Status{"a": status(1, 1, 100000, 1)}, status(3, 1, 100000, 95000), true},
		"less of a long log":                      {map[string]etcd.Status{"a": status(1, 1, 100000, 1)}, status(3, 1, 100000, 94999), false},
		"the voter that knows most counts":        {map[string]etcd.Status{"a": status(1, 1, 10, 10), "b": status(2, 1, 1000, 1000)}, status(3, 1, 10, 10), false},
		"it has received, and not applied":        {map[string]etcd.Status{"a": status(1, 1, 1000, 1000)}, status(3, 1, 1000, 10), false},
		"it follows nobody":                       {map[string]etcd.Status{"a": status(1, 1, 10, 10)}, status(3, 0, 10, 10), false},
		"nobody can say how much there is":        {nil, status(3, 1, 10, 10), false},
		"another learner cannot say it":           {map[string]etcd.Status{"a": learner(status(1, 1, 10, 10))}, status(3, 1, 10, 10), false},
		"another cluster's voter cannot say it":   {map[string]etcd.Status{"a": foreign(status(1, 1, 10, 10))}, status(3, 1, 10, 10), false},
		"a log that is empty says nothing at all": {map[string]etcd.Status{"a": status(1, 1, 0, 0)}, status(3, 1, 0, 0), false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			l := look{answers: map[string]etcd.Status{"it": learner(tc.of)}}
			maps.Copy(l.answers, tc.voters)
			if got := l.caughtUp(l.answers["it"]); got != tc.want {
				t.Errorf("caughtUp() = %v, want %v", got, tc.want)
			}
		})
	}
}

// TestCorruption: data is given up when etcd has failed on it five times in a
// row, and for no other end of etcd.
func TestCorruption(t *testing.T) {
	const message = "DataCorrupt: etcd of member a-0002 ended with code 1: crc mismatch — why — what"
	crash := func(starts int32, code int32, reason, message string) func(*corev1.ContainerStatus) {
		return func(s *corev1.ContainerStatus) {
			s.Ready, s.RestartCount = false, starts-1
			s.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}
			s.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason, Message: message}
		}
	}
	then := func(first, second func(*corev1.ContainerStatus)) func(*corev1.ContainerStatus) {
		return func(s *corev1.ContainerStatus) { first(s); second(s) }
	}
	cases := map[string]struct {
		status func(*corev1.ContainerStatus)
		want   bool
	}{
		"etcd failed on its data": {crash(5, 1, "Error", message), true},
		"it has just ended": {then(crash(5, 1, "Error", "another"), func(s *corev1.ContainerStatus) {
			s.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Message: message}}
		}), true},
		"it has just ended for another reason": {then(crash(5, 1, "Error", message), func(s *corev1.ContainerStatus) {
			s.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Message: "another"}}
		}), false},
		"it tries once more": {then(crash(5, 1, "Error", message), func(s *corev1.ContainerStatus) {
			s.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
		}), false},
		"it has never ended":                       {func(*corev1.ContainerStatus) {}, false},
		"it was killed for memory":                 {crash(9, 137, "OOMKilled", ""), false},
		"it was killed":                            {crash(9, 137, "Error", ""), false},
		"a flag is wrong":                          {crash(9, 2, "Error", "flag provided but not defined: -snapshot-cout\nUsage:"), false},
		"the disk is full":                         {crash(9, 1, "Error", "EtcdFailed: etcd of member a-0002 ended with code 1: no space left on device — why — what"), false},
		"the guard refuses the data":               {crash(9, member.ExitDataMissing, "Error", "DataMissing: volume v2 of member a-0002: found nothing"), false},
		"the words stand elsewhere in the message": {crash(9, 1, "Error", "a DataCorrupt: that somebody else wrote"), false},
		"etcd has been told that it was removed":   {crash(9, member.ExitRemoved, "Error", "Removed: etcd of member a-0002 ended — why — what"), false},
		"the pod has no status of its container":   {func(s *corev1.ContainerStatus) { s.Name = "other" }, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := patient(t)
			p := third[*corev1.Pod](w)
			tc.status(&p.Status.ContainerStatuses[0])
			got := corruption(p)
			if (got != "") != tc.want || strings.Contains(got, "\n") || (tc.want && !strings.Contains(got, "crc mismatch")) {
				t.Errorf("corruption() = %q, want any: %v", got, tc.want)
			}
			if m := w.third(); m.Corrupt != "" {
				t.Errorf("given up after one failure: %+v", m)
			}
		})
	}
}

// TestFailuresInARow: data is given up when etcd has failed on it five times in a
// row, seen by this operator, while the others were a quorum.
func TestFailuresInARow(t *testing.T) {
	fails := func(w *world) { n := w.etcdStatus().RestartCount; corruptData(w); w.etcdStatus().RestartCount = n + 1 }
	lacksMemory := func(w *world) {
		n := w.etcdStatus().RestartCount
		ended(137, "OOMKilled", "")(w)
		w.etcdStatus().RestartCount = n + 1
	}
	bereft := func(w *world) { w.etcd.silent(address(0)); w.etcd.silent(address(1)); fails(w) }
	cases := map[string]struct {
		ends []func(*world)
		want bool
	}{
		"five":                              {[]func(*world){fails, fails, fails, fails, fails}, true},
		"four":                              {[]func(*world){fails, fails, fails, fails}, false},
		"four, looked at twice":             {[]func(*world){fails, fails, fails, fails, func(*world) {}}, false},
		"five, and once for another reason": {[]func(*world){fails, fails, fails, lacksMemory, fails, fails}, false},
		"four before this operator came":    {[]func(*world){func(w *world) { w.etcdStatus().RestartCount = 100; fails(w) }, fails}, false},
		"without a quorum":                  {[]func(*world){bereft, fails, fails, fails, fails, fails}, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := patient(t)
			waits("CrashLoopBackOff", "")(w)
			var m plan.Member
			for _, end := range tc.ends {
				end(w)
				m = w.third()
			}
			if (m.Corrupt != "") != tc.want || (tc.want && !strings.Contains(m.Corrupt, "5 times in a row")) {
				t.Errorf("Corrupt is %q", m.Corrupt)
			}
		})
	}
}

// removedThird is a third member that etcd lists no more, and whose pod is gone.
func removedThird(w *world) {
	noPod(w)
	w.etcd.list = w.etcd.list[:2]
	w.cluster.Spec.Size = 1
}

// TestPinned: a joiner whose volume is bound where it cannot run is given up after
// failover.learnerTimeout.
func TestPinned(t *testing.T) {
	stuck := func(m plan.Member) bool { return m.Stuck }
	joins := func(w *world) {
		w.cluster.Status.Joiner = "a-0002"
		w.etcd.list = w.etcd.list[:2]
		w.etcd.silent(address(2))
		p := third[*corev1.Pod](w)
		p.Annotations[member.AnnotationHold] = "true"
		running(w)
	}
	waits := func(w *world) {
		third[*corev1.Pod](w).Status.ContainerStatuses[0].State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}
	}
	unbound := func(w *world) {
		third[*corev1.PersistentVolumeClaim](w).Status.Phase = corev1.ClaimPending
	}
	cases := map[string][]moment{
		"it is ready to run":             {{0, joins, false}, {time.Hour, nil, false}},
		"it does not come to run":        {{0, all(joins, waits), false}, {learnerTimeout - time.Second, nil, false}, {time.Second, nil, true}},
		"it was ready, and is no more":   {{0, joins, false}, {time.Hour, nil, false}, {0, waits, false}, {learnerTimeout - time.Second, nil, false}, {time.Second, nil, true}},
		"it runs at last":                {{0, all(joins, waits), false}, {learnerTimeout, nil, true}, {time.Second, running, false}},
		"it is bound to no node yet":     {{0, all(joins, waits, unbound), false}, {time.Hour, nil, false}},
		"the operator has just started":  {{0, all(joins, waits), false}, {10 * time.Minute, forgetAll, false}, {10 * time.Minute, nil, false}, {5 * time.Minute, nil, true}},
		"whoever is a member is no such": {{0, waits, false}, {time.Hour, nil, false}},
	}
	for name, story := range cases {
		t.Run(name, func(t *testing.T) { patient(t).tell(stuck, story) })
	}
}

// TestAClockThatIsWrong: what the API server has put a time on is as old as its own
// clock says.
func TestAClockThatIsWrong(t *testing.T) {
	for what, off := range map[string]time.Duration{"behind": -time.Hour, "ahead": time.Hour} {
		w := patient(t)
		nodeDown(w)
		began := w.clock.Now()
		server := began
		w.observer = &Observer{Dialer: w.etcd, Clock: w.clock, ServerTime: func() time.Time { return server }}
		third[*corev1.Pod](w).CreationTimestamp = metav1.NewTime(began)
		w.node("node-2").Status.Conditions[0].LastTransitionTime = metav1.NewTime(began)
		for _, step := range []struct {
			after       time.Duration
			fresh, gone bool
		}{{0, true, false}, {endedPause - time.Second, true, false}, {endedPause, false, false}, {replaceAfter - time.Second, false, false}, {replaceAfter, false, true}} {
			server = began.Add(step.after)
			w.clock.SetTime(server.Add(off))
			if m, _ := w.see().Member("a-0002"); m.PodFresh != step.fresh || m.Gone != step.gone {
				t.Errorf("%s, after %v: fresh %v, gone %v", what, step.after, m.PodFresh, m.Gone)
			}
		}
	}
}

// TestAClockThatJumpsDeletesNothing: of neither machine, and of both not for as long
// as it takes to set them right.
func TestAClockThatJumpsDeletesNothing(t *testing.T) {
	const year = 365 * 24 * time.Hour
	w := patient(t)
	removedThird(w)
	v := third[*corev1.PersistentVolumeClaim](w)
	v.Labels[v1alpha1.LabelQuarantined] = "removed"
	v.Annotations[v1alpha1.AnnotationQuarantinedAt] = w.clock.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
	server, local := w.clock.Now(), w.clock.Now()
	w.observer = &Observer{Dialer: w.etcd, Clock: w.clock, ServerTime: func() time.Time { return server }}
	steps := []struct {
		what          string
		local, server time.Duration
		expires       bool
	}{
		{"all is well", 0, 0, false},
		{"the operator's clock jumps", 10 * year, 0, false},
		{"and goes on", 10*year + 2*clockPause, 0, false},
		{"the server's clock jumps, and the operator's is right again", 0, 10 * year, false},
		{"and goes on", 2 * clockPause, 10*year + 2*clockPause, false},
		{"both jump", 10 * year, 10 * year, false},
		{"and are set right", 0, 0, false},
		{"both jump again", 10*year + clockPause, 10*year + clockPause, false},
		{"and go on for a while", 10*year + 2*clockPause - 1, 10*year + 2*clockPause, false},
		{"and for longer", 10*year + 2*clockPause, 10*year + 2*clockPause, true},
	}
	for _, step := range steps {
		server = local.Add(step.server)
		w.clock.SetTime(local.Add(step.local))
		if got := w.see().Expired; (len(got) > 0) != step.expires {
			t.Errorf("%s: expired %v, want %v", step.what, got, step.expires)
		}
	}
}

// TestQuarantined: a claim in quarantine is no member's, and its time runs out.
func TestQuarantined(t *testing.T) {
	quarantined := func(ago time.Duration) func(*world) {
		return func(w *world) {
			v := third[*corev1.PersistentVolumeClaim](w)
			v.Labels[v1alpha1.LabelQuarantined] = "removed"
			v.Annotations[v1alpha1.AnnotationQuarantinedAt] = w.clock.Now().Add(-ago).UTC().Format(time.RFC3339)
		}
	}
	keep := func(d time.Duration) func(*world) {
		return func(w *world) { w.cluster.Spec.Storage.QuarantineFor.Duration = d }
	}
	cases := map[string]struct {
		world   func(*world)
		expired []string
	}{
		"since a moment":         {quarantined(time.Second), nil},
		"until this very second": {quarantined(168 * time.Hour), nil},
		"for a second too long":  {quarantined(168*time.Hour + time.Second), []string{watchedMember2}},
		"for longer, by an edit": {all(quarantined(200*time.Hour), keep(300*time.Hour)), nil},
		"for less, by an edit":   {all(quarantined(2*time.Hour), keep(time.Hour)), []string{watchedMember2}},
		"without a limit":        {all(quarantined(10000*time.Hour), keep(0)), nil},
		"since nobody knows when": {all(quarantined(10000*time.Hour), func(w *world) {
			third[*corev1.PersistentVolumeClaim](w).Annotations[v1alpha1.AnnotationQuarantinedAt] = "x"
		}), nil},
		"and it is being deleted":           {all(quarantined(10000*time.Hour), func(w *world) { going(third[*corev1.PersistentVolumeClaim](w)) }), nil},
		"and it is another cluster's":       {all(quarantined(10000*time.Hour), func(w *world) { third[*corev1.PersistentVolumeClaim](w).Labels[v1alpha1.LabelClusterUID] = "01d" }), nil},
		"and it is of an older incarnation": {all(quarantined(time.Hour), func(w *world) { third[*corev1.PersistentVolumeClaim](w).Labels[v1alpha1.LabelIncarnation] = "0" }), nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := patient(t)
			removedThird(w)
			tc.world(w)
			if first := w.see().Expired; first != nil {
				t.Errorf("at first sight %v have expired", first)
			}
			w.clock.SetTime(w.clock.Now().Add(clockPause))
			seen := w.see()
			if m, ok := seen.Member(watchedMember2); ok {
				t.Errorf("a claim in quarantine makes a member: %+v", m)
			}
			if diff := cmp.Diff(tc.expired, seen.Expired); diff != "" {
				t.Errorf("expired (-want +got):\n%s", diff)
			}
		})
	}
	// The pod that its node still runs is seen all the same.
	w := patient(t)
	quarantined(time.Hour)(w)
	if m := w.third(); m.Pod != plan.PodRunning || m.Volume != plan.VolumeAbsent {
		t.Errorf("a pod on a claim in quarantine is %+v", m)
	}
}

// TestRemovedFounder: a founder that was removed long ago, and of which nothing is
// left, is not shown; one that may only be out of sight is.
func TestRemovedFounder(t *testing.T) {
	nothingLeft := func(w *world) {
		noPod(w)
		w.remove(third[*corev1.PersistentVolumeClaim](w))
	}
	unlisted := func(w *world) { w.etcd.list = w.etcd.list[:2] }
	nobodyAnswers := func(w *world) {
		for i := range 3 {
			w.etcd.silent(address(i))
		}
	}
	named := func(names ...string) func(*world) {
		return func(w *world) {
			w.cluster.Status.Members = nil
			for _, n := range names {
				w.cluster.Status.Members = append(w.cluster.Status.Members, v1alpha1.MemberStatus{Name: n})
			}
		}
	}
	two, three := named("a-0000", "a-0001"), named("a-0000", "a-0001", watchedMember2)
	cases := map[string]struct {
		world func(*world)
		want  bool
	}{
		"status does not name it":                        {all(nothingLeft, unlisted, two), false},
		"status does not name it, nobody answers":        {all(nothingLeft, unlisted, two, nobodyAnswers), false},
		"status still names it":                          {all(nothingLeft, unlisted, three), false},
		"status names it, nobody answers":                {all(nothingLeft, unlisted, three, nobodyAnswers), true},
		"status has lost its members, nobody answers":    {all(nothingLeft, unlisted, named(), nobodyAnswers), true},
		"etcd lists it all the same":                     {all(nothingLeft, two), true},
		"its claim is there":                             {all(noPod, two), true},
		"its pod is there":                               {all(func(w *world) { w.remove(third[*corev1.PersistentVolumeClaim](w)) }, two), true},
		"it was removed, and its claim is there":         {all(noPod, unlisted, two), true},
		"it was removed, and its claim goes":             {all(noPod, unlisted, two, func(w *world) { going(third[*corev1.PersistentVolumeClaim](w)) }), false},
		"the cluster is not founded yet":                 {all(nothingLeft, unlisted, two, nobodyAnswers, func(w *world) { w.cluster.Status.ClusterID = "" }), true},
		"another cluster's list does not say it is gone": {all(nothingLeft, unlisted, three, func(w *world) { w.cluster.Status.ClusterID = "dead" }), true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := patient(t)
			tc.world(w)
			if m, ok := w.see().Member(watchedMember2); ok != tc.want {
				t.Errorf("it is shown: %v, want %v: %+v", ok, tc.want, m)
			}
		})
	}
}

// joining has a fourth member prepared, of which these objects exist.
func joining(objects ...func(*v1alpha1.EtcdCluster) client.Object) func(*world) {
	return func(w *world) {
		w.cluster.Status.Joiner, w.cluster.Status.NextOrdinal, w.cluster.Spec.Size = "a-0003", 4, 5
		for _, o := range objects {
			w.objects = append(w.objects, o(w.cluster))
		}
	}
}

func joinersClaim(c *v1alpha1.EtcdCluster) client.Object {
	v := claim(c, 3)
	delete(v.Annotations, v1alpha1.AnnotationMemberID)
	return v
}

func heldPod(c *v1alpha1.EtcdCluster) client.Object {
	p := pod(c, 3)
	p.Spec.SchedulingGates = nil
	p.Annotations[member.AnnotationHold], p.Annotations[member.AnnotationMayBeEmpty] = "true", "true"
	return p
}

func releasedPod(c *v1alpha1.EtcdCluster) client.Object {
	p := heldPod(c)
	p.GetAnnotations()[member.AnnotationRelease] = "4"
	return p
}

func TestJoiner(t *testing.T) {
	memory := func(w *world) { w.cluster.Spec.Storage.Medium = v1alpha1.MediumMemory }
	cases := map[string]struct {
		world  func(*world)
		want   func(plan.Member) bool
		dialed bool
	}{
		"nothing of it exists yet": {joining(), func(m plan.Member) bool { return m.Volume == plan.VolumeAbsent && m.Pod == plan.PodAbsent && !m.Held }, false},
		"it has a claim":           {joining(joinersClaim), func(m plan.Member) bool { return m.Volume == plan.VolumeBound && m.RecordedID == 0 }, false},
		"it is held in its pod": {joining(joinersClaim, heldPod), func(m plan.Member) bool {
			return m.Held && m.Pod == plan.PodRunning && m.PodMayBeEmpty && strings.Contains(m.Trouble, "held")
		}, false},
		"it was released": {joining(joinersClaim, releasedPod), func(m plan.Member) bool { return !m.Held && m.Pod == plan.PodRunning }, true},
		"a memory-backed one is held": {all(memory, joining(heldPod)), func(m plan.Member) bool {
			return m.Held && m.Volume == plan.VolumeBound && m.Pod == plan.PodRunning && !m.PodOutdated
		}, false},
		"a memory-backed one is scheduled": {all(memory, joining(func(c *v1alpha1.EtcdCluster) client.Object {
			p := heldPod(c).(*corev1.Pod)
			p.Status.ContainerStatuses[0].State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "PodInitializing"}}
			return p
		})), func(m plan.Member) bool { return m.Held && m.Volume == plan.VolumePending && m.Pod == plan.PodWaiting }, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := patient(t)
			tc.world(w)
			asked := &listener{etcdCluster: w.etcd}
			w.observer = &Observer{Dialer: asked, Clock: w.clock}
			m, ok := w.see().Member("a-0003")
			if !ok || !m.Joiner || m.Founder || m.Ordinal != 3 || m.Listed || !tc.want(m) {
				t.Errorf("saw %+v", m)
			}
			if got := slices.Contains(asked.dialed, address(3)+":2379"); got != tc.dialed {
				t.Errorf("its status was asked for: %v, want %v: only the guard runs in a pod that is held", got, tc.dialed)
			}
		})
	}
}

// TestEndedMemory: a pod of memory that has ended is a lost volume once the
// cluster is founded, whatever its status says; before, and while the guard holds
// it, nothing is lost, and it is made again after a while.
func TestEndedMemory(t *testing.T) {
	memory := func(w *world) {
		w.cluster.Spec.Storage.Medium = v1alpha1.MediumMemory
		for _, o := range w.objects {
			if p, ok := o.(*corev1.Pod); ok {
				p.Annotations[v1alpha1.AnnotationTemplateHash] = resources.TemplateHash(w.cluster)
				delete(p.Annotations, v1alpha1.AnnotationVolumeUID)
				p.Annotations[v1alpha1.AnnotationFounders] = strings.Join(w.cluster.Status.Founders, ",")
			}
		}
	}
	ends := func(p *corev1.Pod) {
		p.Status = corev1.PodStatus{Phase: corev1.PodFailed, Reason: "OutOfmemory", Message: "Pod was rejected"}
	}
	young := func(w *world) { w.cluster.Status.ClusterID = "" }
	old := func(age time.Duration) func(*world) {
		return func(w *world) {
			for _, o := range w.objects {
				o.SetCreationTimestamp(metav1.NewTime(w.clock.Now().Add(-age)))
			}
		}
	}
	founder := func(w *world) {
		third[*corev1.Pod](w).UID = "v2"
		ends(third[*corev1.Pod](w))
	}
	rejected := joining(func(c *v1alpha1.EtcdCluster) client.Object {
		p := heldPod(c).(*corev1.Pod)
		ends(p)
		return p
	})
	evicted := joining(func(c *v1alpha1.EtcdCluster) client.Object {
		p := heldPod(c).(*corev1.Pod)
		p.Status.Phase = corev1.PodFailed
		return p
	})
	isLost := func(m plan.Member) bool { return m.Volume == plan.VolumeLost && m.Pod == plan.PodEnded }
	isMadeAgain := func(m plan.Member) bool { return m.Volume == plan.VolumePending && m.VolumeOutdated }
	isLeft := func(m plan.Member) bool { return m.Volume == plan.VolumePending && !m.VolumeOutdated && !m.PodOutdated }
	cases := map[string]struct {
		who   string
		world func(*world)
		want  func(plan.Member) bool
	}{
		"a founder's, after the latch":        {watchedMember2, all(founder, old(0)), isLost},
		"a founder's, before":                 {watchedMember2, all(founder, young, old(endedPause)), isMadeAgain},
		"a founder's, before, a moment ago":   {watchedMember2, all(founder, young, old(endedPause-time.Second)), isLeft},
		"a joiner's, rejected":                {"a-0003", all(rejected, old(endedPause)), func(m plan.Member) bool { return isMadeAgain(m) && m.PodOutdated }},
		"a joiner's, rejected, a moment ago":  {"a-0003", all(rejected, old(endedPause-time.Second)), isLeft},
		"a joiner's, evicted":                 {"a-0003", all(evicted, old(endedPause)), func(m plan.Member) bool { return isMadeAgain(m) && m.PodOutdated }},
		"a joiner's, evicted, and just so":    {"a-0003", all(evicted, old(endedPause-time.Second)), isLeft},
		"a member's with data, after a while": {watchedMember2, all(func(w *world) { third[*corev1.Pod](w).Status.Phase = corev1.PodFailed }, old(endedPause)), isLost},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := patient(t)
			tc.world(w)
			memory(w)
			if m, ok := w.see().Member(tc.who); !ok || !tc.want(m) {
				t.Errorf("saw %+v", m)
			}
		})
	}
}

// listener notes who is dialed.
type listener struct {
	*etcdCluster
	dialed []string
}

func (l *listener) Dial(group string, to etcd.Endpoint, as etcd.Credentials) (etcd.Conn, error) {
	l.dialed = append(l.dialed, to.Address)
	return l.etcdCluster.Dial(group, to, as)
}

// TestRecordOfMembers: what the claims say of those that come and go.
func TestRecordOfMembers(t *testing.T) {
	w := patient(t)
	v := third[*corev1.PersistentVolumeClaim](w)
	v.Annotations[v1alpha1.AnnotationLeaving], v.Annotations[v1alpha1.AnnotationBooted] = "scale-in", "true"
	if m := w.third(); !m.Leaving || !m.Booted || m.LastNode != "node-2" {
		t.Errorf("saw %+v", m)
	}
}

// TestAnotherIsNoAnswer: what another member says at this one's address counts for
// nothing.
func TestAnotherIsNoAnswer(t *testing.T) {
	w := patient(t)
	w.etcd.members[address(2)].status.MemberID = 9
	m := w.third()
	if m.Answers || m.FollowsLeader || m.CaughtUp || m.Healthy() || !strings.Contains(m.Trouble, "member 9") {
		t.Errorf("saw %+v", m)
	}
	// Nobody says who it should be while the list is not confirmed.
	w.etcd.list[2].ID = 9
	if m := w.third(); !m.Answers {
		t.Errorf("saw %+v, and it answers as the member that etcd lists", m)
	}
}

// TestStranger: an entry of etcd's list that is not ours is named, and counts. It is
// not said to vote while it is a learner.
func TestStranger(t *testing.T) {
	w := patient(t)
	w.etcd.list = append(w.etcd.list, etcd.Member{ID: 9, PeerURLs: []string{"http://10.9.9.9:2380"}}, etcd.Member{ID: 8})
	seen := w.see()
	if diff := cmp.Diff([]string{"http://10.9.9.9:2380", ""}, seen.ForeignMembers); diff != "" {
		t.Errorf("foreign members (-want +got):\n%s", diff)
	}
	if seen.Voters() != 5 || len(seen.Problems) != 2 || seen.Problems[0].Reason != v1alpha1.ReasonUnknownMember ||
		strings.Count(seen.Problems[0].Message, " — ") != 2 {
		t.Errorf("%d voters, problems %+v", seen.Voters(), seen.Problems)
	}
	for learner, want := range map[bool]string{false: "it counts for quorum", true: "it does not vote"} {
		w.etcd.list[3].Learner = learner
		if got := w.see().Problems[0].Message; !strings.Contains(got, want) {
			t.Errorf("of a stranger that is a learner (%v): %s", learner, got)
		}
	}
}

// TestDowngrade: what any member of the cluster says of a downgrade is seen.
func TestDowngrade(t *testing.T) {
	w := patient(t)
	w.etcd.members[address(2)].status.Downgrade = "3.5.0"
	if seen := w.see(); seen.Downgrade != "3.5.0" {
		t.Errorf("a downgrade to %q, want 3.5.0", seen.Downgrade)
	}
	w.etcd.members[address(2)].status.ClusterID = 99
	if seen := w.see(); seen.Downgrade != "" {
		t.Errorf("a downgrade to %q, which a stranger speaks of", seen.Downgrade)
	}
}

// TestReach hands out connections to the members as the last look reached them.
func TestReach(t *testing.T) {
	w := patient(t)
	w.observer = &Observer{Dialer: w.etcd, Clock: w.clock}
	key := client.ObjectKeyFromObject(w.cluster)
	reach := func(what string, uid types.UID, member string, want bool) {
		t.Helper()
		conn, err := w.observer.Reach(key, uid, member)
		if (err == nil) != want || (err != nil && !errors.Is(err, etcd.ErrUnreachable)) {
			t.Errorf("%s: %v, want a connection: %v", what, err, want)
		}
		if err != nil {
			return
		}
		if s, err := conn.Status(t.Context()); err != nil || s.MemberID != 3 {
			t.Errorf("%s: the connection is to member %x: %v", what, s.MemberID, err)
		}
	}
	reach("before the first look", w.cluster.UID, watchedMember2, false)
	w.see()
	reach("after it", w.cluster.UID, watchedMember2, true)
	reach("somebody whom nobody knows", w.cluster.UID, "a-0009", false)
	reach("a namesake's member", "other", watchedMember2, false)
	noPod(w)
	w.see()
	w.answers(2)
	reach("its pod is gone", w.cluster.UID, watchedMember2, false)
	w.observer.Forget(key)
	reach("the cluster is gone", w.cluster.UID, "a-0000", false)
}

// credentialed notes who a member is dialed as.
type credentialed struct {
	etcd.Dialer
	as []byte
}

func (d *credentialed) Dial(_ string, _ etcd.Endpoint, as etcd.Credentials) (etcd.Conn, error) {
	d.as = as.Certificate
	return nil, nil
}

// TestReachUsesTheCredentialsOfTheLook: for members without TLS too.
func TestReachUsesTheCredentialsOfTheLook(t *testing.T) {
	dialer, key := &credentialed{}, types.NamespacedName{Name: "a"}
	o := &Observer{Dialer: dialer, memory: map[types.NamespacedName]*memory{}}
	for as, credentials := range map[string]*etcd.Credentials{"": nil, "operator": {Certificate: []byte("operator")}} {
		o.memory[key] = &memory{uid: "u", reach: reach{endpoints: map[string]etcd.Endpoint{"a-0000": {Plaintext: true}}, credentials: credentials}}
		if _, err := o.Reach(key, "u", "a-0000"); err != nil || string(dialer.as) != as {
			t.Errorf("dialed as %q, want %q: %v", dialer.as, as, err)
		}
	}
	o.memory[key].reach = reach{endpoints: map[string]etcd.Endpoint{"a-0000": {}}}
	if _, err := o.Reach(key, "u", "a-0000"); !errors.Is(err, etcd.ErrUnreachable) {
		t.Errorf("one with TLS, without credentials: %v", err)
	}
}

// TestMoving: while the members change, every look builds on the last step, and a
// cache would only be in the way.
func TestMoving(t *testing.T) {
	cases := map[string]struct {
		status v1alpha1.EtcdClusterStatus
		want   bool
	}{
		"at rest":                {v1alpha1.EtcdClusterStatus{ClusterID: "c1", Members: []v1alpha1.MemberStatus{{Name: "a", Role: v1alpha1.RoleVoter}}}, false},
		"it is being founded":    {v1alpha1.EtcdClusterStatus{}, true},
		"a member is prepared":   {v1alpha1.EtcdClusterStatus{ClusterID: "c1", Joiner: "a-0003"}, true},
		"a learner catches up":   {v1alpha1.EtcdClusterStatus{ClusterID: "c1", Members: []v1alpha1.MemberStatus{{Name: "a", Role: v1alpha1.RoleVoter}, {Name: "b", Role: v1alpha1.RoleLearner}}}, true},
		"nobody knows who votes": {v1alpha1.EtcdClusterStatus{ClusterID: "c1", Members: []v1alpha1.MemberStatus{{Name: "a"}}}, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := &v1alpha1.EtcdCluster{Status: tc.status}
			cached, live := fake.NewClientBuilder().Build(), fake.NewClientBuilder().Build()
			o := &Observer{Cached: cached, Live: live}
			if got := Moving(c); got != tc.want {
				t.Errorf("Moving() = %v, want %v", got, tc.want)
			}
			if got := o.reader(c, &memory{}) == client.Reader(live); got != tc.want {
				t.Errorf("the API server itself is read: %v, want %v", got, tc.want)
			}
			if o.reader(c, &memory{suspicious: true}) != client.Reader(live) {
				t.Error("after a loss was seen the cache is believed")
			}
		})
	}
}

// TestDenied: etcd's authentication is told, whether it refuses a read or everything, and
// not when it is one member that refuses.
func TestDenied(t *testing.T) {
	refuses := func(members ...int) func(*world) {
		return func(w *world) {
			for _, i := range members {
				w.etcd.fails(address(i), fmt.Errorf("asking status: %w", etcd.ErrPermission))
			}
		}
	}
	for name, tc := range map[string]struct {
		world func(*world)
		want  bool
	}{
		"all refuse everything": {refuses(0, 1, 2), true},
		"one does":              {refuses(2), false},
		"some are silent":       {all(refuses(1), func(w *world) { w.etcd.silent(address(0)); w.etcd.silent(address(2)) }), true},
		"all are silent":        {func(w *world) { w.etcd.silent(address(0)); w.etcd.silent(address(1)); w.etcd.silent(address(2)) }, false},
	} {
		w := patient(t)
		tc.world(w)
		seen := w.see()
		told := slices.ContainsFunc(seen.Problems, func(p plan.Problem) bool {
			return p.Reason == v1alpha1.ReasonAuthFailed && p.Severity == plan.Stalling && strings.Count(p.Message, " — ") >= 2
		})
		if told != tc.want || (told && !strings.Contains(seen.ReadFailed, "permission denied")) {
			t.Errorf("%s: told %v, want %v: %q %+v", name, told, tc.want, seen.ReadFailed, seen.Problems)
		}
	}
}
