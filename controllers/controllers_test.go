package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/managedfields"
	applyconfigurations "k8s.io/client-go/applyconfigurations"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/observe"
	"github.com/quorate/quorate/internal/perform"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/internal/snapshot"
)

// nobody is an etcd in which nobody answers.
type nobody struct{ kept []string }

// made begins the UID of whatever is created, and is all of it where nobody has given one.
const made = "uid-of-"

func (n *nobody) Dial(string, etcd.Endpoint, etcd.Credentials) (etcd.Conn, error) {
	return nil, etcd.ErrUnreachable
}
func (n *nobody) Keep(group string, _ ...etcd.Endpoint) { n.kept = append(n.kept, group) }

// operator runs passes over the clusters of an API server.
type operator struct {
	t          *testing.T
	api        client.WithWatch
	reconciler *EtcdClusterReconciler
	events     *events.FakeRecorder
	dialer     *nobody
	// writes that changed something, or tried to.
	writes []string
	// before each call a test may change the world, or fail the call.
	before func(verb string, o client.Object) error
}

var request = ctrl.Request{NamespacedName: client.ObjectKey{Namespace: "ns", Name: "a"}}

// stored is an object as the API server has it.
func stored[T any, P interface {
	*T
	client.Object
}](t *testing.T, api client.Client, key client.ObjectKey) P {
	t.Helper()
	out := P(new(T))
	if err := api.Get(t.Context(), key, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// told is a condition as "<status>/<reason>"; empty for one that is not there.
func told(conditions []metav1.Condition, kind string) string {
	c := meta.FindStatusCondition(conditions, kind)
	if c == nil {
		return ""
	}
	return string(c.Status) + "/" + c.Reason
}

// converters are what a fake API server would make for itself, anew each time, from the whole
// schema of Kubernetes.
var converters = sync.OnceValue(func() []managedfields.TypeConverter {
	return []managedfields.TypeConverter{applyconfigurations.NewTypeConverter(clientgoscheme.Scheme), managedfields.NewDeducedTypeConverter()}
})

// scheme of all that the controllers know, and of nothing else: at each write the fake API server
// goes through the whole of it.
var scheme = sync.OnceValue(func() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme, policyv1.AddToScheme,
		networkingv1.AddToScheme, storagev1.AddToScheme, coordinationv1.AddToScheme, v1alpha1.AddToScheme,
	} {
		if err := add(s); err != nil {
			panic(err)
		}
	}
	return s
})

// newOperator starts with these objects.
func newOperator(t *testing.T, objects ...client.Object) *operator {
	t.Helper()
	o := &operator{t: t, events: events.NewFakeRecorder(100), dialer: &nobody{}}
	call := func(verb string, object client.Object) error {
		o.writes = append(o.writes, verb+" "+object.GetName())
		if o.before != nil {
			return o.before(verb, object)
		}
		return nil
	}
	o.api = fake.NewClientBuilder().WithScheme(scheme()).WithTypeConverters(converters()...).WithObjects(objects...).WithStatusSubresource(&v1alpha1.EtcdCluster{}, &v1alpha1.EtcdBackup{}, &v1alpha1.EtcdBackupSchedule{}, &v1alpha1.EtcdRestore{}, &v1alpha1.EtcdArchive{}).
		WithIndex(&v1alpha1.EtcdBackup{}, observe.IndexClusterRef, observe.ClusterRefOf).
		WithIndex(&v1alpha1.EtcdBackupSchedule{}, observe.IndexClusterRef, observe.ClusterRefOf).
		WithIndex(&v1alpha1.EtcdRestore{}, observe.IndexClusterRef, observe.ClusterRefOf).
		WithIndex(&v1alpha1.EtcdArchive{}, observe.IndexClusterRef, observe.ClusterRefOf).
		WithInterceptorFuncs(interceptor.Funcs{
			Create: func(ctx context.Context, api client.WithWatch, object client.Object, opts ...client.CreateOption) error {
				if err := call("create", object); err != nil {
					return err
				}
				object.SetUID(made + object.GetUID())
				return api.Create(ctx, object, opts...)
			},
			Patch: func(ctx context.Context, api client.WithWatch, object client.Object, p client.Patch, opts ...client.PatchOption) error {
				if err := call("patch", object); err != nil {
					return err
				}
				return api.Patch(ctx, object, p, opts...)
			},
			Delete: func(ctx context.Context, api client.WithWatch, object client.Object, opts ...client.DeleteOption) error {
				if err := call("delete", object); err != nil {
					return err
				}
				return api.Delete(ctx, object, opts...)
			},
			SubResourcePatch: func(ctx context.Context, api client.Client, sub string, object client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
				if err := call("patch "+sub, object); err != nil {
					return err
				}
				return api.SubResource(sub).Patch(ctx, object, p, opts...)
			},
			Get: func(ctx context.Context, api client.WithWatch, key client.ObjectKey, object client.Object, opts ...client.GetOption) error {
				if o.before != nil {
					if err := o.before("get", object); err != nil {
						return err
					}
				}
				return api.Get(ctx, key, object, opts...)
			},
		}).Build()
	clock := clocktesting.NewFakePassiveClock(time.Unix(1e9, 0))
	o.reconciler = &EtcdClusterReconciler{
		Client: o.api, Live: o.api, Recorder: o.events,
		Observer:  &observe.Observer{Cached: o.api, Live: o.api, Cluster: o.api, Backups: o.api, Dialer: o.dialer, Clock: clock},
		Performer: &perform.Performer{Writer: o.api, Live: o.api, Nodes: o.api, Clock: clock, GuardImage: "guard:v0", BackupImage: "backup:v0", Chores: &perform.Chores{Clock: clock}},
	}
	o.reconciler.Performer.Etcd = o.reconciler.Observer
	return o
}

type change func(*v1alpha1.EtcdCluster)

func cluster(changes ...change) *v1alpha1.EtcdCluster {
	c := &v1alpha1.EtcdCluster{
		ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "ns", UID: "5e1f", Generation: 1},
		Spec: v1alpha1.EtcdClusterSpec{
			Size: 3, Version: "3.6.16", TLS: v1alpha1.TLSSpec{Mode: v1alpha1.TLSDisabled},
			Storage: v1alpha1.StorageSpec{Size: resource.MustParse("8Gi"), WhenDeleted: v1alpha1.WhenDeletedRetain},
		},
		Status: v1alpha1.EtcdClusterStatus{ObservedGeneration: -1},
	}
	for _, change := range changes {
		change(c)
	}
	return c
}

func paused(c *v1alpha1.EtcdCluster)     { c.Spec.Paused = true }
func deleteData(c *v1alpha1.EtcdCluster) { c.Spec.Storage.WhenDeleted = v1alpha1.WhenDeletedDelete }
func held(c *v1alpha1.EtcdCluster)       { c.Finalizers = append(c.Finalizers, v1alpha1.Finalizer) }
func deleted(c *v1alpha1.EtcdCluster) {
	c.DeletionTimestamp = &metav1.Time{Time: time.Unix(1e9, 0)}
	c.Finalizers = append(c.Finalizers, "somebody.else/finalizer")
}

func founded(c *v1alpha1.EtcdCluster) {
	c.Status.Incarnation, c.Status.Founders, c.Status.ClusterID = 1, []string{"a-0000", "a-0001", "a-0002"}, "c1"
	c.Status.FounderVolumes = map[string]string{"a-0000": "v0", "a-0001": "v1", "a-0002": "v2"}
}

func (o *operator) pass() (ctrl.Result, error) {
	o.t.Helper()
	o.writes = nil
	return o.reconciler.Reconcile(o.t.Context(), request)
}

func (o *operator) cluster() *v1alpha1.EtcdCluster {
	o.t.Helper()
	c := &v1alpha1.EtcdCluster{}
	if err := o.api.Get(o.t.Context(), request.NamespacedName, c); err != nil {
		o.t.Fatal(err)
	}
	return c
}

// TestFirstPass: status is written in the very first pass, once.
func TestFirstPass(t *testing.T) {
	o := newOperator(t, cluster())
	result, err := o.pass()
	if err != nil || result.RequeueAfter != again {
		t.Fatalf("Reconcile() = %v, %v", result, err)
	}
	if diff := cmp.Diff([]string{"patch status a"}, o.writes); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	s := o.cluster().Status
	if want := []string{"a-0000", "a-0001", "a-0002"}; !slices.Equal(s.Founders, want) || s.NextOrdinal != 3 || s.Incarnation != 1 || s.ObservedGeneration != 1 {
		t.Errorf("status %+v", s)
	}
	for _, kind := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionAvailable, v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled} {
		if meta.FindStatusCondition(s.Conditions, kind) == nil {
			t.Errorf("no condition %s after the first pass", kind)
		}
	}
	if got := <-o.events.Events; !strings.Contains(got, string(plan.LatchFounders)) {
		t.Errorf("event %q", got)
	}
}

// TestPaused: zero writes but the status that says so, once.
func TestPaused(t *testing.T) {
	o := newOperator(t, cluster(paused, deleteData))
	for i, want := range [][]string{{"patch status a"}, nil, nil} {
		result, err := o.pass()
		if err != nil || result.RequeueAfter != atRest {
			t.Fatalf("Reconcile() = %v, %v", result, err)
		}
		if diff := cmp.Diff(want, o.writes); diff != "" {
			t.Errorf("pass %d wrote (-want +got):\n%s", i, diff)
		}
	}
	if s := o.cluster().Status; len(s.Founders) > 0 {
		t.Errorf("a paused cluster was founded: %v", s.Founders)
	}
}

// TestAtRest: while the world does not move, nothing is written.
func TestAtRest(t *testing.T) {
	o := newOperator(t, cluster(founded))
	for i := range 6 {
		if _, err := o.pass(); err != nil && i == 0 {
			t.Logf("pass %d: %v", i, err)
		}
		if i > 1 && slices.Contains(o.writes, "patch status a") {
			t.Errorf("pass %d wrote status although nothing has changed", i)
		}
	}
	ready := meta.FindStatusCondition(o.cluster().Status.Conditions, v1alpha1.ConditionReady)
	if ready == nil || ready.Status == metav1.ConditionTrue {
		t.Errorf("Ready is %+v although every volume is gone", ready)
	}
}

func TestGoneCluster(t *testing.T) {
	c := cluster(founded)
	o := newOperator(t, c)
	if _, err := o.pass(); err != nil {
		t.Log(err)
	}
	if err := o.api.Delete(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	o.dialer.kept = nil
	result, err := o.pass()
	if err != nil || result != (ctrl.Result{}) || len(o.writes) > 0 {
		t.Errorf("Reconcile() = %v, %v, wrote %v", result, err, o.writes)
	}
	if !slices.Contains(o.dialer.kept, "5e1f") {
		t.Error("the connections of a cluster that is gone are kept")
	}
}

// TestConflict: somebody has written the cluster meanwhile, which is nobody's
// fault: no error, no retry with a growing delay.
func TestConflict(t *testing.T) {
	o := newOperator(t, cluster())
	o.before = func(verb string, object client.Object) error {
		if verb == "patch status" {
			return apierrors.NewConflict(v1alpha1.GroupVersion.WithResource("etcdclusters").GroupResource(), object.GetName(), errors.New("changed"))
		}
		return nil
	}
	result, err := o.pass()
	if err != nil || result.RequeueAfter != afterStale {
		t.Errorf("Reconcile() = %v, %v", result, err)
	}
	if len(o.events.Events) > 0 {
		t.Errorf("an event of what was not written: %s", <-o.events.Events)
	}
}

// TestRefusedWrite: what the API server says to a step is in status, and the
// step is tried again.
func TestRefusedWrite(t *testing.T) {
	o := newOperator(t, cluster(deleteData, func(c *v1alpha1.EtcdCluster) {
		c.Status.Founders, c.Status.Incarnation = []string{"a-0000"}, 1
	}))
	o.before = func(verb string, object client.Object) error {
		if verb == "patch" {
			return apierrors.NewForbidden(v1alpha1.GroupVersion.WithResource("etcdclusters").GroupResource(), object.GetName(), errors.New("no right to"))
		}
		return nil
	}
	if _, err := o.pass(); !apierrors.IsForbidden(err) {
		t.Errorf("Reconcile() = %v, want what the API server said", err)
	}
	stalled := meta.FindStatusCondition(o.cluster().Status.Conditions, v1alpha1.ConditionStalled)
	if stalled == nil || stalled.Status != metav1.ConditionTrue || !strings.Contains(stalled.Message, "no right to") {
		t.Errorf("Stalled is %+v", stalled)
	}
}

// TestBlind: what cannot be read is an error, and a condition.
func TestBlind(t *testing.T) {
	o := newOperator(t, cluster(founded))
	o.before = func(verb string, object client.Object) error {
		if _, service := object.(*corev1.Service); service && verb == "get" {
			return fmt.Errorf("no right to")
		}
		return nil
	}
	for i, want := range [][]string{{"patch status a"}, nil} {
		if _, err := o.pass(); err == nil || !strings.Contains(err.Error(), "no right to") {
			t.Errorf("Reconcile() = %v, want the error", err)
		}
		if diff := cmp.Diff(want, o.writes); diff != "" {
			t.Errorf("pass %d wrote (-want +got):\n%s", i, diff)
		}
	}
	if ready := meta.FindStatusCondition(o.cluster().Status.Conditions, v1alpha1.ConditionReady); ready == nil || ready.Status != metav1.ConditionUnknown {
		t.Errorf("Ready is %+v, want Unknown", ready)
	}
}

func ownClaim(name string) *corev1.PersistentVolumeClaim {
	v := resources.Claim(cluster(), name)
	v.UID = "v0"
	// A pod still uses it: the deletion does not go through at once.
	v.Finalizers = []string{"kubernetes.io/pvc-protection"}
	return v
}

// adopting has the cluster bring back what carries its own UID here, so that the same
// claims are its.
func adopting(c *v1alpha1.EtcdCluster) {
	c.Spec.Adopt = &v1alpha1.AdoptSpec{ClusterUID: string(c.UID)}
}

// TestDeletion: the volumes go when the user says so, and nothing is waited for.
func TestDeletion(t *testing.T) {
	cases := map[string]struct {
		changes []change
		gone    bool
		writes  []string
	}{
		"volumes are kept":                        {[]change{deleted}, false, nil},
		"volumes go":                              {[]change{deleteData, held, deleted}, true, []string{"delete data-a-0000", "patch a"}},
		"the user changed their mind: keep":       {[]change{held, deleted}, false, []string{"patch a"}},
		"the user changed their mind: too late":   {[]change{deleteData, deleted}, false, nil},
		"paused does not hold a deletion back":    {[]change{paused, deleteData, held, deleted}, true, []string{"delete data-a-0000", "patch a"}},
		"volumes that were not adopted yet stay":  {[]change{adopting, deleteData, held, deleted}, false, []string{"patch a"}},
		"adopted volumes go":                      {[]change{founded, adopting, deleteData, held, deleted}, true, []string{"delete data-a-0000", "patch a"}},
		"a founded cluster goes like a young one": {[]change{founded, deleteData, held, deleted}, true, []string{"delete data-a-0000", "patch a"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			o := newOperator(t, cluster(tc.changes...), ownClaim("a-0000"))
			if _, err := o.pass(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.writes, o.writes); diff != "" {
				t.Errorf("writes (-want +got):\n%s", diff)
			}
			if finalizers := o.cluster().Finalizers; slices.Contains(finalizers, v1alpha1.Finalizer) {
				t.Errorf("the cluster is still held: %v", finalizers)
			}
			v := &corev1.PersistentVolumeClaim{}
			err := o.api.Get(t.Context(), client.ObjectKey{Namespace: "ns", Name: "data-a-0000"}, v)
			if client.IgnoreNotFound(err) != nil || (err != nil || !v.DeletionTimestamp.IsZero()) != tc.gone {
				t.Errorf("the claim: %v, going since %v, want it gone: %v", err, v.DeletionTimestamp, tc.gone)
			}
			if _, err := o.pass(); err != nil || len(o.writes) > 0 {
				t.Errorf("a second pass wrote %v: %v", o.writes, err)
			}
		})
	}
}

// TestDeletionIsTriedAgain: a claim that cannot be deleted keeps the cluster.
func TestDeletionIsTriedAgain(t *testing.T) {
	o := newOperator(t, cluster(deleteData, held, deleted), ownClaim("a-0000"))
	o.before = func(verb string, _ client.Object) error {
		if verb == "delete" {
			return errors.New("try again")
		}
		return nil
	}
	if _, err := o.pass(); err == nil {
		t.Error("an error was swallowed")
	}
	if !slices.Contains(o.cluster().Finalizers, v1alpha1.Finalizer) {
		t.Error("the cluster was let go before its volumes")
	}
}

func TestWhenToLookAgain(t *testing.T) {
	young, old := cluster(), cluster(founded)
	cases := map[string]struct {
		cluster *v1alpha1.EtcdCluster
		step    plan.Step
		want    time.Duration
	}{
		"at rest":          {old, plan.Step{Kind: plan.Settled}, atRest},
		"paused":           {old, plan.Step{Kind: plan.Pause}, atRest},
		"after a step":     {old, plan.Step{Kind: plan.StartMembers}, again},
		"founders start":   {young, plan.Step{Kind: plan.Wait, Reason: v1alpha1.ReasonFounding}, whileFounding},
		"a name is taken":  {young, plan.Step{Kind: plan.Wait, Reason: v1alpha1.ReasonNameConflict}, whileWaiting},
		"a member is down": {old, plan.Step{Kind: plan.Wait, Reason: v1alpha1.ReasonDegraded}, whileWaiting},
		"a member joins":   {old, plan.Step{Kind: plan.Wait, Reason: v1alpha1.ReasonGrowing}, whileChanging},
		"a member goes":    {old, plan.Step{Kind: plan.Wait, Reason: v1alpha1.ReasonShrinking}, whileChanging},
		"one is replaced":  {old, plan.Step{Kind: plan.Wait, Reason: v1alpha1.ReasonReplacing}, whileChanging},
		"a stranger":       {old, plan.Step{Kind: plan.Wait, Reason: v1alpha1.ReasonUnknownMember}, whileWaiting},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := next(tc.cluster, tc.step); got != tc.want {
				t.Errorf("next() = %s, want %s", got, tc.want)
			}
		})
	}
	if atRest+observe.LookTimeout >= 15*time.Second || lastRetry >= 15*time.Second {
		t.Errorf("at rest every %s with looks of up to %s, after errors every %s: a lost quorum and a mended world must be noticed within 15 s",
			atRest, observe.LookTimeout, lastRetry)
	}
}

func TestWhatWakes(t *testing.T) {
	node := func(ready corev1.ConditionStatus, taints ...string) *corev1.Node {
		n := &corev1.Node{Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}}}
		for _, key := range taints {
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key})
		}
		return n
	}
	wakes := readinessChanged()
	for name, tc := range map[string]struct {
		before, after *corev1.Node
		want          bool
	}{
		"a heartbeat":       {node(corev1.ConditionTrue), node(corev1.ConditionTrue), false},
		"a node goes":       {node(corev1.ConditionTrue), node(corev1.ConditionUnknown), true},
		"a node comes":      {node(corev1.ConditionFalse), node(corev1.ConditionTrue), true},
		"a node is fenced":  {node(corev1.ConditionUnknown), node(corev1.ConditionUnknown, corev1.TaintNodeOutOfService), true},
		"no condition ever": {&corev1.Node{}, &corev1.Node{}, false},
	} {
		if got := wakes.Update(event.UpdateEvent{ObjectOld: tc.before, ObjectNew: tc.after}); got != tc.want {
			t.Errorf("%s wakes: %v, want %v", name, got, tc.want)
		}
	}
	if !wakes.Delete(event.DeleteEvent{Object: node(corev1.ConditionTrue)}) || wakes.Create(event.CreateEvent{Object: node(corev1.ConditionTrue)}) {
		t.Error("a node that is deleted must wake, one that is listed first must not")
	}
	if got := byLabel(t.Context(), ownClaim("a-0000")); len(got) != 1 || got[0] != request {
		t.Errorf("a claim wakes %v, want its cluster", got)
	}
	o := newOperator(t, cluster(), cluster(func(c *v1alpha1.EtcdCluster) { c.Name, c.UID = "b", "other" }))
	if got := o.reconciler.everyCluster(t.Context(), nil); len(got) != 2 {
		t.Errorf("a node wakes %v, want both clusters", got)
	}
}

// TestWatched: the caches hold what belongs to clusters and nothing else.
func TestWatched(t *testing.T) {
	watched := Watched()
	if len(watched) == 0 {
		t.Fatal("nothing is restricted")
	}
	for object, by := range watched {
		ours := labels.Set(ownClaim("a-0000").Labels)
		if _, job := object.(*batchv1.Job); job {
			ours = resources.BackupLabels(anEtcdBackup())
		}
		archives := resources.ArchiveLabels(anEtcdArchive(), snapshot.OperationArchive)
		switch object.(type) {
		case *appsv1.Deployment:
			ours = archives
		case *batchv1.Job:
			if !by.Label.Matches(labels.Set(archives)) {
				t.Errorf("the cache leaves out the Jobs of archives: %s", by.Label)
			}
		}
		if !by.Label.Matches(ours) || by.Label.Matches(labels.Set{"app": "other"}) {
			t.Errorf("%T: the cache is restricted to %s", object, by.Label)
		}
	}
}
