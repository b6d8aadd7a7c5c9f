package observe

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/member"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

const clusterID = 0xc1

// world is a Kubernetes and an etcd to look at.
type world struct {
	t       *testing.T
	cluster *v1alpha1.EtcdCluster
	objects []client.Object
	etcd    *etcdCluster
	clock   *clocktesting.FakePassiveClock
	// intercept lets a test break the API server.
	intercept interceptor.Funcs
	// nodesHidden takes the right to read nodes.
	nodesHidden bool
	observer    *Observer
}

func scheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// founded is a healthy plaintext cluster of three on three nodes.
func founded(t *testing.T) *world {
	t.Helper()
	c := &v1alpha1.EtcdCluster{
		ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "ns", UID: "5e1f"},
		Spec: v1alpha1.EtcdClusterSpec{
			Size: 3, Version: "3.6.16", TLS: v1alpha1.TLSSpec{Mode: v1alpha1.TLSDisabled},
			Storage: v1alpha1.StorageSpec{Size: resource.MustParse("8Gi"), WhenDeleted: v1alpha1.WhenDeletedRetain},
		},
		Status: v1alpha1.EtcdClusterStatus{
			Incarnation: 1, NextOrdinal: 3, Founders: []string{"a-0000", "a-0001", "a-0002"},
			FounderVolumes: map[string]string{"a-0000": "v0", "a-0001": "v1", "a-0002": "v2"}, ClusterID: "c1",
		},
	}
	w := &world{t: t, cluster: c, etcd: newEtcd(c), clock: clocktesting.NewFakePassiveClock(time.Unix(1e9, 0))}
	for i := range 3 {
		node := fmt.Sprintf("node-%d", i)
		w.objects = append(w.objects, claim(c, i), pod(c, i), &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: node},
			Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}},
		})
	}
	for _, o := range resources.Objects(c, 3, resources.OperatorPeer{}) {
		w.objects = append(w.objects, live(t, o))
	}
	return w
}

// live is the object as it is once it has been applied.
func live(t *testing.T, o resources.Object) client.Object {
	t.Helper()
	want, err := tree(o.Want)
	if err != nil {
		t.Fatal(err)
	}
	live := o.Empty()
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(want, live); err != nil {
		t.Fatal(err)
	}
	return live
}

func claim(c *v1alpha1.EtcdCluster, i int) *corev1.PersistentVolumeClaim {
	v := resources.Claim(c, resources.MemberName(c.Name, i))
	v.UID = types.UID(fmt.Sprintf("v%d", i))
	v.Status.Phase = corev1.ClaimBound
	v.Annotations[v1alpha1.AnnotationMemberID] = fmt.Sprintf("%x", i+1)
	v.Annotations[v1alpha1.AnnotationNode] = fmt.Sprintf("node-%d", i)
	return v
}

func pod(c *v1alpha1.EtcdCluster, i int) *corev1.Pod {
	p := resources.MemberPod(c, resources.Start{
		Member: resources.MemberName(c.Name, i), VolumeUID: fmt.Sprintf("v%d", i),
		Orders: resources.Orders{Peers: c.Status.Founders, State: member.ClusterStateExisting, Empty: resources.EmptyForbidden},
	})
	p.UID = types.UID(fmt.Sprintf("p%d", i))
	p.Spec.NodeName = fmt.Sprintf("node-%d", i)
	p.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: address(i),
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		ContainerStatuses: []corev1.ContainerStatus{{
			Name: resources.EtcdContainer, Ready: true, Image: "etcd:v3.6.16",
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
		}},
	}
	return p
}

func address(i int) string { return fmt.Sprintf("10.0.0.%d", i+1) }

// handedOut are the lists that a look was given, beside copies of them. In the operator they
// are the cache's own.
type handedOut struct{ lists, copies []client.ObjectList }

// through the client they go.
func (h *handedOut) through(c client.WithWatch) client.WithWatch {
	return interceptor.NewClient(c, interceptor.Funcs{List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
		err := c.List(ctx, list, opts...)
		// What a look does with the list's own order is its own affair.
		shared := list.DeepCopyObject().(client.ObjectList)
		if items, listErr := meta.ExtractList(list); listErr == nil {
			_ = meta.SetList(shared, items)
		}
		h.lists, h.copies = append(h.lists, shared), append(h.copies, shared.DeepCopyObject().(client.ObjectList))
		return err
	}})
}

// unchanged fails the test if something was changed in a list.
func (h *handedOut) unchanged(t *testing.T) {
	t.Helper()
	for i, list := range h.lists {
		if !reflect.DeepEqual(list, h.copies[i]) {
			t.Errorf("the cache's own objects were changed: %#v was %#v", list, h.copies[i])
		}
	}
}

// look observes once, with what the observer remembers from the looks before.
func (w *world) look() (plan.Observed, error) {
	w.t.Helper()
	var handed handedOut
	api := handed.through(fake.NewClientBuilder().WithScheme(scheme(w.t)).WithObjects(w.objects...).WithInterceptorFuncs(w.intercept).Build())
	defer handed.unchanged(w.t)
	if w.observer == nil {
		w.observer = &Observer{Dialer: w.etcd, Clock: w.clock}
	}
	w.observer.Cached, w.observer.Live, w.observer.Cluster = api, api, api
	if w.nodesHidden {
		w.observer.Cluster = nil
	}
	return w.observer.Observe(w.t.Context(), w.cluster)
}

func (w *world) see() plan.Observed {
	w.t.Helper()
	seen, err := w.look()
	if err != nil {
		w.t.Fatal(err)
	}
	return seen
}

// third finds the last member's object.
func third[T client.Object](w *world) T {
	var found T
	for _, o := range w.objects {
		if typed, ok := o.(T); ok && strings.HasSuffix(o.GetName(), "2") {
			found = typed
		}
	}
	return found
}

func (w *world) remove(gone client.Object) {
	var left []client.Object
	for _, o := range w.objects {
		if o != gone {
			left = append(left, o)
		}
	}
	w.objects = left
}

func (w *world) etcdStatus() *corev1.ContainerStatus {
	return &third[*corev1.Pod](w).Status.ContainerStatuses[0]
}

// waits makes the third member's etcd wait for a reason.
func waits(reason, message string) func(*world) {
	return func(w *world) {
		s := w.etcdStatus()
		s.Ready, s.State = false, corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
		w.etcd.silent(address(2))
	}
}

// ended adds how the third member's etcd ended the last time.
func ended(code int32, reason, message string) func(*world) {
	return func(w *world) {
		s := w.etcdStatus()
		s.RestartCount = 3
		s.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason, Message: message, FinishedAt: metav1.NewTime(w.clock.Now().Add(-time.Minute))}
	}
}

func going(o client.Object) {
	o.SetDeletionTimestamp(&metav1.Time{Time: time.Unix(1, 0)})
	o.SetFinalizers([]string{"kubernetes.io/held"})
}

func (w *world) node(name string) *corev1.Node {
	for _, o := range w.objects {
		if n, ok := o.(*corev1.Node); ok && n.Name == name {
			return n
		}
	}
	return nil
}

func noPod(w *world) {
	w.remove(third[*corev1.Pod](w))
	w.etcd.silent(address(2))
}

func noNode2(w *world) { w.node("node-2").Status.Conditions[0].Status = corev1.ConditionUnknown }

func all(do ...func(*world)) func(*world) {
	return func(w *world) {
		for _, d := range do {
			d(w)
		}
	}
}

func TestHealthy(t *testing.T) {
	w := founded(t)
	seen := w.see()
	if step := plan.Next(seen); step.Kind != plan.Settled {
		t.Fatalf("a healthy cluster is not settled: %s %s\n%+v", step.Kind, step.Message, seen)
	}
	if !seen.ReadOK || !seen.List || seen.AgreedClusterID != clusterID || len(seen.Problems) > 0 {
		t.Errorf("seen %+v", seen)
	}
	if again := w.see(); !cmp.Equal(seen, again) {
		t.Errorf("the same world looks different the second time:\n%s", cmp.Diff(seen, again))
	}
}

// TestMember checks what is seen of the third member of a founded cluster.
func TestMember(t *testing.T) {
	const message = "DataMissing: volume v2 of member a-0002: found nothing\nsecond line"
	cases := map[string]struct {
		world func(*world)
		want  func(plan.Member) bool
	}{
		"up": {all(), func(m plan.Member) bool {
			return m.Healthy() && m.Volume == plan.VolumeBound && m.VolumeLatched && m.RecordedID == 3 && m.Pod == plan.PodRunning && m.Trouble == ""
		}},
		"its pod is gone": {noPod, func(m plan.Member) bool {
			return m.Pod == plan.PodAbsent && !m.RunningElsewhere && m.Trouble == "it has no pod"
		}},
		"its pod is gone, its node too":   {all(noPod, noNode2), func(m plan.Member) bool { return m.RunningElsewhere }},
		"its node is declared out of use": {all(noPod, noNode2, func(w *world) { w.node("node-2").Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeOutOfService}} }), func(m plan.Member) bool { return !m.RunningElsewhere }},
		"its node was deleted":            {all(noPod, func(w *world) { w.remove(w.node("node-2")) }), func(m plan.Member) bool { return !m.RunningElsewhere }},
		"its last node is not known, and one is not Ready": {
			all(noPod, noNode2, func(w *world) { delete(third[*corev1.PersistentVolumeClaim](w).Annotations, v1alpha1.AnnotationNode) }),
			func(m plan.Member) bool { return m.RunningElsewhere },
		},
		"its last node is not known, and all are Ready": {
			all(noPod, func(w *world) { delete(third[*corev1.PersistentVolumeClaim](w).Annotations, v1alpha1.AnnotationNode) }),
			func(m plan.Member) bool { return !m.RunningElsewhere },
		},
		"its claim is gone":    {func(w *world) { w.remove(third[*corev1.PersistentVolumeClaim](w)) }, func(m plan.Member) bool { return m.Volume == plan.VolumeAbsent && m.VolumeLatched }},
		"its claim is going":   {func(w *world) { going(third[*corev1.PersistentVolumeClaim](w)) }, func(m plan.Member) bool { return m.Volume == plan.VolumeTerminating && m.RecordedID == 3 }},
		"its claim was remade": {func(w *world) { third[*corev1.PersistentVolumeClaim](w).UID = "other" }, func(m plan.Member) bool { return m.Volume == plan.VolumeLost && m.PodOutdated }},
		"its volume is lost":   {func(w *world) { third[*corev1.PersistentVolumeClaim](w).Status.Phase = corev1.ClaimLost }, func(m plan.Member) bool { return m.Volume == plan.VolumeLost }},
		"its claim is unbound": {func(w *world) { third[*corev1.PersistentVolumeClaim](w).Status.Phase = corev1.ClaimPending }, func(m plan.Member) bool { return m.Volume == plan.VolumePending && !m.VolumeOutdated }},
		"its claim is unbound and of another class": {func(w *world) {
			claim := third[*corev1.PersistentVolumeClaim](w)
			claim.Status.Phase = corev1.ClaimPending
			claim.Annotations[v1alpha1.AnnotationStorageClass] = "slow"
		}, func(m plan.Member) bool { return m.VolumeOutdated && m.PodOutdated }},
		"its data was refused": {
			all(noPod, func(w *world) {
				third[*corev1.PersistentVolumeClaim](w).Annotations[v1alpha1.AnnotationRefused] = "found nothing"
			}),
			func(m plan.Member) bool { return m.Volume == plan.VolumeRefused && m.Trouble == "found nothing" },
		},
		"the guard finds no data":             {all(waits("CrashLoopBackOff", ""), ended(member.ExitDataMissing, "Error", message)), func(m plan.Member) bool { return m.Refusal == strings.Split(message, "\n")[0] }},
		"the guard finds foreign data":        {all(waits("CrashLoopBackOff", ""), ended(member.ExitForeignData, "Error", "x")), func(m plan.Member) bool { return m.Refusal == "x" }},
		"the guard leaves no message":         {all(waits("CrashLoopBackOff", ""), ended(member.ExitDataMissing, "Error", "")), func(m plan.Member) bool { return m.Refusal != "" }},
		"the guard let it in after all":       {ended(member.ExitDataMissing, "Error", message), func(m plan.Member) bool { return m.Refusal == "" }},
		"the guard could not read":            {all(waits("CrashLoopBackOff", ""), ended(member.ExitVolumeUnusable, "Error", "x")), func(m plan.Member) bool { return m.Refusal == "" }},
		"etcd ended by itself":                {all(waits("CrashLoopBackOff", ""), ended(1, "Error", "x")), func(m plan.Member) bool { return m.Refusal == "" && m.Pod == plan.PodWaiting }},
		"its pod is going":                    {func(w *world) { going(third[*corev1.Pod](w)) }, func(m plan.Member) bool { return m.Pod == plan.PodTerminating && m.Answers }},
		"its pod was evicted":                 {func(w *world) { third[*corev1.Pod](w).Status.Phase = corev1.PodFailed }, func(m plan.Member) bool { return m.Pod == plan.PodEnded }},
		"its volume is filled by another way": {func(w *world) { third[*corev1.Pod](w).Annotations[v1alpha1.AnnotationRestoreWay] = "old" }, func(m plan.Member) bool { return !m.PodOutdated }},
		"and it is not founded": {func(w *world) {
			w.cluster.Status.ClusterID = ""
			third[*corev1.Pod](w).Annotations[v1alpha1.AnnotationRestoreWay] = "old"
		}, func(m plan.Member) bool { return m.PodOutdated }},
		"its pod is of another spec":        {func(w *world) { third[*corev1.Pod](w).Annotations[v1alpha1.AnnotationTemplateHash] = "old" }, func(m plan.Member) bool { return m.PodOutdated }},
		"it may still be empty":             {func(w *world) { third[*corev1.Pod](w).Annotations[member.AnnotationMayBeEmpty] = "true" }, func(m plan.Member) bool { return m.PodMayBeEmpty }},
		"it has moved":                      {func(w *world) { third[*corev1.Pod](w).Spec.NodeName = "node-1" }, func(m plan.Member) bool { return m.NodeMoved }},
		"its node is not Ready":             {all(noNode2, func(w *world) { w.etcd.silent(address(2)) }), func(m plan.Member) bool { return m.Trouble == "its node node-2 is not Ready" && !m.Answers }},
		"it does not answer":                {func(w *world) { w.etcd.silent(address(2)) }, func(m plan.Member) bool { return !m.Answers && strings.HasPrefix(m.Trouble, "it does not answer: ") }},
		"it hangs":                          {func(w *world) { w.etcd.fails(address(2), context.DeadlineExceeded) }, func(m plan.Member) bool { return m.Trouble == "it does not answer: no answer in time" }},
		"it knows no leader":                {func(w *world) { w.etcd.members[address(2)].status.Leader = 0 }, func(m plan.Member) bool { return m.Answers && !m.Healthy() && m.Trouble == "it knows no leader" }},
		"it is a learner":                   {func(w *world) { w.etcd.list[2].Learner = true }, func(m plan.Member) bool { return m.Learner && !m.Healthy() && m.Trouble != "" }},
		"it is not listed":                  {func(w *world) { w.etcd.list = w.etcd.list[:2] }, func(m plan.Member) bool { return !m.Listed && !m.Healthy() && m.Trouble != "" }},
		"it has never started":              {func(w *world) { w.etcd.list[2].ClientURLs = nil }, func(m plan.Member) bool { return m.Listed && !m.Started }},
		"it belongs to another cluster":     {func(w *world) { w.etcd.members[address(2)].status.ClusterID = 0xbad }, func(m plan.Member) bool { return !m.Answers && m.ForeignClusterID == 0xbad }},
		"its claim is of another cluster":   {func(w *world) { third[*corev1.PersistentVolumeClaim](w).Labels[v1alpha1.LabelClusterUID] = "01d" }, func(m plan.Member) bool { return m.Volume == plan.VolumeAbsent }},
		"its pod is of another incarnation": {func(w *world) { third[*corev1.Pod](w).Labels[v1alpha1.LabelIncarnation] = "2" }, func(m plan.Member) bool { return m.Pod == plan.PodAbsent && !m.Answers }},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := founded(t)
			tc.world(w)
			m, ok := w.see().Member("a-0002")
			if !ok || !tc.want(m) {
				t.Errorf("saw %+v", m)
			}
		})
	}
}

func TestProblems(t *testing.T) {
	unschedulable := func(w *world) {
		waits("", "")(w)
		third[*corev1.Pod](w).Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: "0/3 nodes are available",
		}}
	}
	unbound := func(w *world) {
		v := third[*corev1.PersistentVolumeClaim](w)
		v.Status.Phase, v.Spec.StorageClassName = corev1.ClaimPending, new("fast")
	}
	foreignObject := func(kind string) func(*world) {
		return func(w *world) {
			for _, o := range w.objects {
				if strings.HasSuffix(fmt.Sprintf("%T", o), "."+kind) {
					o.SetOwnerReferences(nil)
				}
			}
		}
	}
	cases := map[string]struct {
		world  func(*world)
		reason string
		text   string
	}{
		"all is well":           {all(), "", ""},
		"no such image":         {waits("ImagePullBackOff", `Back-off pulling image "x": ErrImagePull: no such host`), v1alpha1.ReasonImagePullFailed, ": no such host —"},
		"no such image, trying": {waits("ErrImagePull", "no such host"), v1alpha1.ReasonImagePullFailed, ": no such host —"},
		"a bad image name":      {waits("InvalidImageName", "couldn't parse"), v1alpha1.ReasonImagePullFailed, "couldn't parse"},
		"a Secret is missing":   {waits("CreateContainerConfigError", `secret "a" not found`), v1alpha1.ReasonMemberPodRejected, `secret "a" not found`},
		"a bad flag":            {all(waits("CrashLoopBackOff", ""), ended(2, "Error", "usage\nunknown flag --x")), v1alpha1.ReasonMemberCrashLooping, "code 2: unknown flag --x —"},
		"too little memory":     {all(waits("CrashLoopBackOff", ""), ended(137, "OOMKilled", "")), v1alpha1.ReasonMemberOOM, "limits.memory"},
		"a crash of long ago": {all(ended(2, "Error", "unknown flag --x"), func(w *world) {
			w.etcdStatus().Ready = false
			w.etcdStatus().LastTerminationState.Terminated.FinishedAt = metav1.NewTime(w.clock.Now().Add(-time.Hour))
		}), "", ""},
		"between two crashes": {all(ended(2, "Error", "unknown flag --x"), func(w *world) { w.etcdStatus().Ready = false }), v1alpha1.ReasonMemberCrashLooping, "unknown flag --x"},
		"the guard refuses":   {all(waits("CrashLoopBackOff", ""), ended(member.ExitDataMissing, "Error", "x")), "", ""},
		"a restart long ago":  {ended(2, "Error", "unknown flag --x"), "", ""},
		"no node":             {unschedulable, v1alpha1.ReasonMemberUnschedulable, "0/3 nodes are available"},
		"no storage class":    {unbound, v1alpha1.ReasonStorageClassNotFound, `storageclasses.storage.k8s.io "fast" not found`},
		"a storage class": {all(unbound, func(w *world) {
			w.objects = append(w.objects, &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "fast"}})
		}), "", ""},
		"the Service is taken":   {foreignObject("Service"), v1alpha1.ReasonNameConflict, "Service ns/a "},
		"the policy is taken":    {foreignObject("NetworkPolicy"), v1alpha1.ReasonNameConflict, "NetworkPolicy ns/a "},
		"the budget is taken":    {foreignObject("PodDisruptionBudget"), v1alpha1.ReasonNameConflict, "PodDisruptionBudget ns/a "},
		"the account is taken":   {foreignObject("ServiceAccount"), v1alpha1.ReasonNameConflict, "ServiceAccount ns/a "},
		"another cluster's data": {func(w *world) { w.etcd.members[address(2)].status.ClusterID = 0xbad }, v1alpha1.ReasonClusterIDMismatch, "cluster bad, not c1"},
		"a stranger": {
			func(w *world) {
				w.etcd.list = append(w.etcd.list, etcd.Member{ID: 0xf, PeerURLs: []string{"https://stranger:2380"}})
			},
			v1alpha1.ReasonUnknownMember, "https://stranger:2380",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := founded(t)
			tc.world(w)
			problems := w.see().Problems
			if tc.reason == "" {
				if len(problems) > 0 {
					t.Errorf("saw %+v", problems)
				}
				return
			}
			if len(problems) == 0 || problems[0].Reason != tc.reason || !strings.Contains(problems[0].Message, tc.text) || strings.Count(problems[0].Message, " — ") < 2 {
				t.Errorf("saw %+v, want %s with %q", problems, tc.reason, tc.text)
			}
		})
	}
}

// TestOrder: a cache lists in any order; what is seen must not depend on it, or
// status would be written on every pass.
func TestOrder(t *testing.T) {
	build := func(order func([]client.Object) []client.Object) plan.Observed {
		w := founded(t)
		for i := range 3 {
			old := claim(w.cluster, 5+i)
			old.Labels[v1alpha1.LabelClusterUID] = "01d"
			w.objects = append(w.objects, old)
		}
		for _, o := range w.objects {
			if p, ok := o.(*corev1.Pod); ok {
				p.Status.ContainerStatuses[0].State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull", Message: "no"}}
			}
		}
		w.intercept = interceptor.Funcs{List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if err := c.List(ctx, list, opts...); err != nil {
				return err
			}
			switch l := list.(type) {
			case *corev1.PodList:
				reorder(l.Items, order)
			case *corev1.PersistentVolumeClaimList:
				reorder(l.Items, order)
			}
			return nil
		}}
		return w.see()
	}
	same := func(o []client.Object) []client.Object { return o }
	reverse := func(o []client.Object) []client.Object {
		for i, j := 0, len(o)-1; i < j; i, j = i+1, j-1 {
			o[i], o[j] = o[j], o[i]
		}
		return o
	}
	forward, backward := build(same), build(reverse)
	if diff := cmp.Diff(forward, backward); diff != "" || len(forward.OldVolumes) != 3 || len(forward.Problems) != 3 {
		t.Errorf("the order of a list shows:\n%s", diff)
	}
}

func reorder[T any](items []T, order func([]client.Object) []client.Object) {
	index := make([]client.Object, len(items))
	for i := range items {
		index[i] = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Generation: int64(i)}}
	}
	out := make([]T, 0, len(items))
	for _, o := range order(index) {
		out = append(out, items[o.GetGeneration()])
	}
	copy(items, out)
}

func TestStableTexts(t *testing.T) {
	for text, want := range map[string]string{
		"read tcp 10.0.0.9:41234->10.0.0.1:2379: connection reset":              "read tcp 10.0.0.1:2379: connection reset",
		"lookup x on 10.96.0.10:53: read udp [fd00::9]:5353->[fd00::1]:53: i/o": "lookup x on 10.96.0.10:53: read udp [fd00::1]:53: i/o",
		"dial tcp 10.0.0.1:2379: connection refused":                            "dial tcp 10.0.0.1:2379: connection refused",
		`Back-off pulling image "a/b:c": ErrImagePull: failed to pull`:          "failed to pull",
		"first line\nread tcp 10.0.0.9:1->10.0.0.1:2":                           "first line",
	} {
		if got := firstLine(text); got != want {
			t.Errorf("firstLine(%q) = %q, want %q", text, got, want)
		}
	}
	for n := range 4 {
		if got := lastLine("first\n" + strings.Repeat("x", n) + strings.Repeat("—", 400)); !strings.HasPrefix(strings.TrimLeft(got, "—"), "") || strings.ToValidUTF8(got, "?") != got {
			t.Errorf("lastLine cuts a rune in two: %q", got)
		}
	}
}

func TestObjectsDue(t *testing.T) {
	find := func(w *world, kind string) client.Object {
		for _, o := range w.objects {
			if strings.HasSuffix(fmt.Sprintf("%T", o), "."+kind) {
				return o
			}
		}
		return nil
	}
	cases := map[string]struct {
		world func(*world)
		want  []string
	}{
		"nothing":               {all(), nil},
		"a missing Service":     {func(w *world) { w.remove(find(w, "Service")) }, []string{"Service a"}},
		"a label was taken off": {func(w *world) { delete(find(w, "NetworkPolicy").GetLabels(), v1alpha1.LabelClusterUID) }, []string{"NetworkPolicy a"}},
		"a label was added":     {func(w *world) { find(w, "Service").GetLabels()["theirs"] = "x" }, nil},
		"a selector was edited": {func(w *world) { find(w, "Service").(*corev1.Service).Spec.Selector["x"] = "y" }, []string{"Service a"}},
		"a default was filled in": {func(w *world) {
			find(w, "Service").(*corev1.Service).Spec.SessionAffinity = corev1.ServiceAffinityNone
		}, nil},
		"the size grew": {func(w *world) { w.cluster.Spec.Size = 7 }, []string{"PodDisruptionBudget a"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := founded(t)
			tc.world(w)
			if diff := cmp.Diff(tc.want, w.see().ObjectsDue); diff != "" {
				t.Errorf("objects due (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFounderNames(t *testing.T) {
	unlatched := func(w *world) { w.cluster.Status = v1alpha1.EtcdClusterStatus{} }
	empty := func(w *world) { w.objects = nil }
	stray := func(o client.Object) func(*world) {
		o.SetNamespace("ns")
		return func(w *world) { w.objects = append(w.objects, o) }
	}
	cases := map[string]struct {
		world           func(*world)
		want, recovered []string
	}{
		"an empty namespace":          {all(unlatched, empty), []string{"a-0000", "a-0001", "a-0002"}, nil},
		"status was lost":             {unlatched, []string{"a-0003", "a-0004", "a-0005"}, []string{"a-0000", "a-0001", "a-0002"}},
		"somebody's pod has the name": {all(unlatched, empty, stray(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a-0004"}})), []string{"a-0005", "a-0006", "a-0007"}, nil},
		"somebody's claim":            {all(unlatched, empty, stray(&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data-a-0000"}})), []string{"a-0001", "a-0002", "a-0003"}, nil},
		"another cluster's pod":       {all(unlatched, empty, stray(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a-0000-0004"}})), []string{"a-0000", "a-0001", "a-0002"}, nil},
		"the counter stands higher":   {all(unlatched, empty, func(w *world) { w.cluster.Status.NextOrdinal = 9 }), []string{"a-0009", "a-0010", "a-0011"}, nil},
		"a namesake's old volumes":    {all(unlatched, func(w *world) { w.cluster.UID = "new" }), []string{"a-0003", "a-0004", "a-0005"}, nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := founded(t)
			tc.world(w)
			seen := w.see()
			if diff := cmp.Diff(tc.want, seen.FounderNames); diff != "" {
				t.Errorf("founders (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.recovered, seen.RecoveredFounders); diff != "" {
				t.Errorf("recovered founders (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBlindness(t *testing.T) {
	forbidden := errors.New("forbidden")
	cases := map[string]interceptor.Funcs{
		"nodes": {List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if _, nodes := list.(*corev1.NodeList); nodes {
				return forbidden
			}
			return c.List(ctx, list, opts...)
		}},
		"pods": {List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if _, pods := list.(*corev1.PodList); pods {
				return forbidden
			}
			return c.List(ctx, list, opts...)
		}},
		"Services": {Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if _, service := o.(*corev1.Service); service {
				return forbidden
			}
			return c.Get(ctx, key, o, opts...)
		}},
	}
	for what, intercept := range cases {
		t.Run(what, func(t *testing.T) {
			w := founded(t)
			w.intercept = intercept
			if _, err := w.look(); !errors.Is(err, forbidden) {
				t.Errorf("looking without the right to read %s: %v, want the API's own error", what, err)
			}
		})
	}
	w := founded(t)
	w.cluster.Status.ClusterID = "not hex"
	if _, err := w.look(); err == nil {
		t.Error("a cluster ID that cannot be read is ignored")
	}
}

// TestSnapshotCount is read from the pod that runs, whatever the spec says by now.
func TestSnapshotCount(t *testing.T) {
	c := &v1alpha1.EtcdCluster{}
	c.Name, c.Spec.Etcd.SnapshotCount = "a", 4711
	if got := snapshotCount(resources.MemberPod(c, resources.Start{Member: "a-0000"})); got != 4711 {
		t.Errorf("%d", got)
	}
}

// TestRecall: what a silent member ran is known from before.
func TestRecall(t *testing.T) {
	c := &v1alpha1.EtcdCluster{}
	c.Status.Members = []v1alpha1.MemberStatus{{Name: "a-0000", Version: "3.6.16"}, {Name: "a-0001", Version: "3.6.16"}, {Name: "a-0009", Version: "3.5.35"}}
	members := []plan.Member{{Name: "a-0000"}, {Name: "a-0001", Version: "3.7.3"}, {Name: "a-0002"}}
	recall(c, members)
	if members[0].Version != "3.6.16" || members[1].Version != "3.7.3" || members[2].Version != "" {
		t.Errorf("%+v", members)
	}
}
