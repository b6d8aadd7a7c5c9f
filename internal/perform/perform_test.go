package perform

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
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/member"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

const name = "a-0000"

// world is an API server to write to.
type world struct {
	t       *testing.T
	cluster *v1alpha1.EtcdCluster
	seen    plan.Observed
	api     client.WithWatch
	// writes are the calls that would change something, in order.
	writes []string
	// before each write a test may change the world, or fail the call.
	before func(verb string, o client.Object) error
}

// scheme of all that is written.
var scheme = sync.OnceValue(func() *runtime.Scheme {
	s := runtime.NewScheme()
	// No more than is written: the fake goes through all of it at every call.
	for _, add := range []func(*runtime.Scheme) error{
		batchv1.AddToScheme, corev1.AddToScheme, policyv1.AddToScheme, networkingv1.AddToScheme, v1alpha1.AddToScheme,
	} {
		utilruntime.Must(add(s))
	}
	return s
})

// newWorld holds a cluster of one founder and these objects.
func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	c := cluster()
	w := &world{t: t, cluster: c, seen: plan.Observed{Size: 1, Founders: c.Status.Founders, Members: []plan.Member{{Name: name, Founder: true}}}}
	write := func(verb string, o client.Object) error {
		w.writes = append(w.writes, verb+" "+o.GetName())
		if w.before != nil {
			return w.before(verb, o)
		}
		return nil
	}
	w.api = fake.NewClientBuilder().WithScheme(scheme()).WithObjects(append(objects, c)...).WithStatusSubresource(c).WithInterceptorFuncs(interceptor.Funcs{
		Create: func(ctx context.Context, api client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			if err := write("create", o); err != nil {
				return err
			}
			if o.GetUID() == "" {
				o.SetUID(types.UID("uid-of-" + o.GetName()))
			}
			return api.Create(ctx, o, opts...)
		},
		Update: func(ctx context.Context, api client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			if err := write("update", o); err != nil {
				return err
			}
			return api.Update(ctx, o, opts...)
		},
		Patch: func(ctx context.Context, api client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			if err := write("patch", o); err != nil {
				return err
			}
			return api.Patch(ctx, o, p, opts...)
		},
		Delete: func(ctx context.Context, api client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			if err := write("delete", o); err != nil {
				return err
			}
			return api.Delete(ctx, o, opts...)
		},
		SubResourceCreate: func(ctx context.Context, api client.Client, sub string, o, with client.Object, how ...client.SubResourceCreateOption) error {
			var as client.SubResourceCreateOptions
			if as.ApplyOptions(how); len(as.DryRun) > 0 {
				sub = "would do " + sub
			}
			if err := write(sub, o); err != nil || len(as.DryRun) > 0 {
				return err
			}
			eviction := with.(*policyv1.Eviction)
			return api.Delete(ctx, o, client.Preconditions(*eviction.DeleteOptions.Preconditions))
		},
		SubResourcePatch: func(ctx context.Context, api client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			if sub != "resize" {
				return api.SubResource(sub).Patch(ctx, o, p, opts...)
			}
			if err := write(sub, o); err != nil {
				return err
			}
			return api.Patch(ctx, o, p)
		},
	}).Build()
	w.reload()
	return w
}

func cluster() *v1alpha1.EtcdCluster {
	return &v1alpha1.EtcdCluster{
		ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "ns", UID: "5e1f"},
		Spec: v1alpha1.EtcdClusterSpec{
			Size: 1, Version: "3.6.16", TLS: v1alpha1.TLSSpec{Mode: v1alpha1.TLSEnabled, LeafDuration: metav1.Duration{Duration: 2160 * time.Hour}},
			Storage: v1alpha1.StorageSpec{Size: resource.MustParse("8Gi"), WhenDeleted: v1alpha1.WhenDeletedRetain},
		},
		Status: v1alpha1.EtcdClusterStatus{Incarnation: 1, NextOrdinal: 1, Founders: []string{name}},
	}
}

// reload reads the cluster as a pass does.
func (w *world) reload() {
	w.t.Helper()
	status := w.cluster.Status
	if err := w.api.Get(w.t.Context(), client.ObjectKeyFromObject(w.cluster), w.cluster); err != nil {
		w.t.Fatal(err)
	}
	w.cluster.Status = status
}

func (w *world) perform(kind plan.Kind, members ...string) error {
	p := &Performer{
		Writer: w.api, Live: w.api, Nodes: w.api, GuardImage: "guard:v0", BackupImage: "backup:v0",
		Clock: clocktesting.NewFakePassiveClock(time.Unix(1e9, 0)),
	}
	return p.Perform(w.t.Context(), w.cluster, w.seen, plan.Step{Kind: kind, Members: members})
}

func (w *world) get(o client.Object, name string) bool {
	w.t.Helper()
	err := w.api.Get(w.t.Context(), client.ObjectKey{Namespace: "ns", Name: name}, o)
	if client.IgnoreNotFound(err) != nil {
		w.t.Fatal(err)
	}
	return err == nil
}

type edit func(client.Object)

func claim(edits ...edit) *corev1.PersistentVolumeClaim {
	v := resources.Claim(cluster(), name)
	v.UID = "v0"
	v.Status.Phase = corev1.ClaimBound
	for _, e := range edits {
		e(v)
	}
	return v
}

func pod(edits ...edit) *corev1.Pod {
	p := resources.MemberPod(cluster(), resources.Start{Member: name, VolumeUID: "v0", Orders: resources.Orders{
		Peers: []string{name}, State: member.ClusterStateNew, Empty: resources.EmptyAllowed,
	}})
	p.UID = "p0"
	p.Spec.NodeName = "node-0"
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: resources.EtcdContainer, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{}}}}
	for _, e := range edits {
		e(p)
	}
	return p
}

func unbound(o client.Object) { o.(*corev1.PersistentVolumeClaim).Status.Phase = corev1.ClaimPending }

func running(o client.Object) {
	o.(*corev1.Pod).Status.ContainerStatuses[0].State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
}

func going(o client.Object) {
	o.SetDeletionTimestamp(&metav1.Time{Time: time.Unix(1, 0)})
	o.SetFinalizers([]string{"kubernetes.io/held"})
}
func foreigner(o client.Object) { o.GetLabels()[v1alpha1.LabelClusterUID] = "01d" }
func reborn(o client.Object)    { o.GetLabels()[v1alpha1.LabelIncarnation] = "2" }
func bare(o client.Object)      { o.SetLabels(nil) }
func labelled(key, value string) edit {
	return func(o client.Object) { o.GetLabels()[key] = value }
}

func annotated(key, value string) edit {
	return func(o client.Object) { o.GetAnnotations()[key] = value }
}

// TestSteps: each step on the world that it was decided for, and on worlds that
// have moved since.
func TestSteps(t *testing.T) {
	latched := func(uid string) func(*world) {
		return func(w *world) { w.cluster.Status.FounderVolumes = map[string]string{name: uid} }
	}
	founded := func(w *world) { w.cluster.Status.ClusterID = "c1" }
	started := func(w *world) {
		w.seen.List = true
		m := &w.seen.Members[0]
		m.Listed, m.Started, m.ID = true, true, 0x17
	}
	refused := func(w *world) { w.seen.Members[0].Refusal, w.seen.Members[0].PodUID = "found nothing", "p0" }
	refusedBefore := func(w *world) { w.seen.Members[0].Refusal, w.seen.Members[0].PodUID = "found nothing", "p-1" }
	none := func(*world) {}
	cases := map[string]struct {
		objects []client.Object
		world   func(*world)
		step    plan.Kind
		stale   bool
		fails   bool
		writes  []string
	}{
		"a claim is created":                        {nil, none, plan.CreateVolumes, false, false, []string{"create data-a-0000"}},
		"a claim was created already":               {[]client.Object{claim()}, none, plan.CreateVolumes, false, false, []string{"create data-a-0000"}},
		"a claim of another cluster is not adopted": {[]client.Object{claim(foreigner)}, none, plan.CreateVolumes, false, true, []string{"create data-a-0000"}},
		"a claim of another incarnation is not":     {[]client.Object{claim(reborn)}, none, plan.CreateVolumes, false, true, []string{"create data-a-0000"}},
		"a claim that is going is waited for":       {[]client.Object{claim(going)}, none, plan.CreateVolumes, true, false, []string{"create data-a-0000"}},

		"an unbound claim is replaced":              {[]client.Object{claim(unbound)}, none, plan.ReplaceVolumes, false, false, []string{"delete data-a-0000"}},
		"a claim that is gone need not be":          {nil, none, plan.ReplaceVolumes, true, false, nil},
		"a claim that was bound is not replaced":    {[]client.Object{claim()}, none, plan.ReplaceVolumes, true, false, nil},
		"a claim that is being bound is not":        {[]client.Object{claim(unbound, func(o client.Object) { o.(*corev1.PersistentVolumeClaim).Spec.VolumeName = "pv" })}, none, plan.ReplaceVolumes, true, false, nil},
		"a claim with a member ID is not":           {[]client.Object{claim(unbound, annotated(v1alpha1.AnnotationMemberID, "17"))}, none, plan.ReplaceVolumes, true, false, nil},
		"a claim on record is not":                  {[]client.Object{claim(unbound)}, latched("v0"), plan.ReplaceVolumes, true, false, nil},
		"a claim of another cluster is not":         {[]client.Object{claim(unbound, foreigner)}, none, plan.ReplaceVolumes, false, true, nil},
		"a claim is taken off the record":           {[]client.Object{claim(unbound)}, latched("v0"), plan.UnlatchVolumes, false, false, nil},
		"a bound claim stays on record":             {[]client.Object{claim()}, latched("v0"), plan.UnlatchVolumes, true, false, nil},
		"a founded cluster's claims stay on record": {[]client.Object{claim(unbound)}, func(w *world) { latched("v0")(w); founded(w) }, plan.UnlatchVolumes, true, false, nil},

		"a member starts":                                  {[]client.Object{claim()}, latched("v0"), plan.StartMembers, false, false, []string{"create a-0000"}},
		"a member starts on an unbound claim":              {[]client.Object{claim(unbound)}, latched("v0"), plan.StartMembers, false, false, []string{"create a-0000"}},
		"a member was started already":                     {[]client.Object{claim(), pod(running)}, latched("v0"), plan.StartMembers, false, false, []string{"create a-0000"}},
		"a member does not start without its claim":        {nil, latched("v0"), plan.StartMembers, true, false, nil},
		"a member does not start on a claim that is going": {[]client.Object{claim(going)}, latched("v0"), plan.StartMembers, true, false, nil},
		"a member does not start on another claim":         {[]client.Object{claim()}, latched("other"), plan.StartMembers, true, false, nil},
		"a member does not start on refused data":          {[]client.Object{claim(annotated(v1alpha1.AnnotationRefused, "x"))}, latched("v0"), plan.StartMembers, true, false, nil},
		"a member does not start on a namesake's claim":    {[]client.Object{claim(foreigner)}, latched("v0"), plan.StartMembers, false, true, nil},
		"a namesake's pod is in the way":                   {[]client.Object{claim(), pod(foreigner)}, latched("v0"), plan.StartMembers, false, true, []string{"create a-0000"}},

		"labels are put back":                         {[]client.Object{claim(bare), pod(bare)}, latched("v0"), plan.RestoreLabels, false, false, []string{"patch a-0000", "patch data-a-0000"}},
		"labels are put back on a claim":              {[]client.Object{claim(bare)}, latched("v0"), plan.RestoreLabels, false, false, []string{"patch data-a-0000"}},
		"labels are put back on a claim, by its pod":  {[]client.Object{claim(bare), pod()}, none, plan.RestoreLabels, false, false, []string{"patch data-a-0000"}},
		"a member's label is put back":                {[]client.Object{claim(), pod(labelled(v1alpha1.LabelMember, "a-0001"))}, none, plan.RestoreLabels, false, false, []string{"patch a-0000"}},
		"labels that are there are not":               {[]client.Object{claim(), pod()}, latched("v0"), plan.RestoreLabels, false, false, nil},
		"a namesake's claim is not adopted":           {[]client.Object{claim(foreigner)}, latched("v0"), plan.RestoreLabels, false, true, nil},
		"a namesake's pod is not adopted":             {[]client.Object{claim(), pod(bare, func(o client.Object) { o.SetOwnerReferences(nil) })}, latched("v0"), plan.RestoreLabels, false, true, nil},
		"a claim that nothing proves is not":          {[]client.Object{claim(bare)}, none, plan.RestoreLabels, false, true, nil},
		"a claim that was made anew is not":           {[]client.Object{claim(bare)}, latched("other"), plan.RestoreLabels, false, true, nil},
		"labels of what is gone need not be put back": {nil, latched("v0"), plan.RestoreLabels, false, false, nil},

		"a pod that waits is deleted":      {[]client.Object{pod()}, none, plan.DeletePods, false, false, []string{"delete a-0000"}},
		"a pod that is gone need not be":   {nil, none, plan.DeletePods, false, false, nil},
		"a pod that is going need not be":  {[]client.Object{pod(going)}, none, plan.DeletePods, false, false, nil},
		"a pod that runs is not deleted":   {[]client.Object{pod(running)}, none, plan.DeletePods, true, false, nil},
		"a namesake's pod is not deleted":  {[]client.Object{pod(foreigner)}, none, plan.DeletePods, false, true, nil},
		"a pod of a restore is not either": {[]client.Object{pod(reborn)}, none, plan.DeletePods, false, true, nil},

		"a member is recorded":                  {[]client.Object{claim(), pod(running)}, started, plan.RecordMembers, false, false, []string{"patch data-a-0000", "patch a-0000"}},
		"only its node is known":                {[]client.Object{claim(), pod(running)}, none, plan.RecordMembers, false, false, []string{"patch data-a-0000"}},
		"a member is recorded without a pod":    {[]client.Object{claim()}, started, plan.RecordMembers, false, false, []string{"patch data-a-0000"}},
		"another ID stands there":               {[]client.Object{claim(annotated(v1alpha1.AnnotationMemberID, "18")), pod(running)}, started, plan.RecordMembers, true, false, nil},
		"nothing is recorded on a lost claim":   {[]client.Object{claim(going), pod(running)}, started, plan.RecordMembers, true, false, nil},
		"a refusal of an older pod is not":      {[]client.Object{claim(), pod()}, refusedBefore, plan.RecordRefusals, true, false, nil},
		"a member whose last node has changed":  {[]client.Object{claim(annotated(v1alpha1.AnnotationNode, "node-9"))}, latched("v0"), plan.StartMembers, true, false, nil},
		"a refusal is recorded":                 {[]client.Object{claim(), pod()}, refused, plan.RecordRefusals, false, false, []string{"patch data-a-0000", "delete a-0000"}},
		"a refusal where the claim is going":    {[]client.Object{claim(going), pod()}, refused, plan.RecordRefusals, false, false, []string{"delete a-0000"}},
		"a refusal where the claim is gone":     {[]client.Object{pod()}, refused, plan.RecordRefusals, false, false, []string{"delete a-0000"}},
		"a refusal, and etcd runs after all":    {[]client.Object{claim(), pod(running)}, refused, plan.RecordRefusals, true, false, nil},
		"volumes are latched":                   {[]client.Object{claim()}, none, plan.LatchVolumes, false, false, nil},
		"a volume that is gone is not latched":  {nil, none, plan.LatchVolumes, true, false, nil},
		"a volume that is going is not latched": {[]client.Object{claim(going)}, none, plan.LatchVolumes, true, false, nil},
		"a namesake's volume is not latched":    {[]client.Object{claim(foreigner)}, none, plan.LatchVolumes, false, true, nil},
		"founders are not latched twice":        {nil, none, plan.LatchFounders, true, false, nil},
		"a cluster ID is latched":               {nil, none, plan.LatchCluster, false, false, nil},
		"a cluster ID is not latched twice":     {nil, founded, plan.LatchCluster, true, false, nil},
		"waiting writes nothing":                {[]client.Object{claim(), pod()}, started, plan.Wait, false, false, nil},
		"a pause writes nothing":                {[]client.Object{claim(), pod()}, started, plan.Pause, false, false, nil},
		"rest writes nothing":                   {[]client.Object{claim(), pod()}, started, plan.Settled, false, false, nil},
		"a step that nobody knows":              {nil, none, plan.Kind("Sing"), false, true, nil},
	}
	for what, tc := range cases {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t, tc.objects...)
			tc.world(w)
			err := w.perform(tc.step, name)
			if errors.Is(err, ErrStale) != tc.stale || (err != nil) != (tc.stale || tc.fails) {
				t.Errorf("Perform() = %v, want stale: %v, another error: %v", err, tc.stale, tc.fails)
			}
			if diff := cmp.Diff(tc.writes, w.writes); diff != "" {
				t.Errorf("writes (-want +got):\n%s", diff)
			}
		})
	}
}

// TestLabelsArePutBackConditionally: on the version that was proven to be ours, and on
// no other.
func TestLabelsArePutBackConditionally(t *testing.T) {
	w := newWorld(t, claim(bare))
	w.cluster.Status.FounderVolumes = map[string]string{name: "v0"}
	w.before = func(_ string, o client.Object) error {
		w.before = nil
		var v corev1.PersistentVolumeClaim
		w.get(&v, o.GetName())
		v.Labels = map[string]string{v1alpha1.LabelClusterUID: "01d"}
		return w.api.Update(t.Context(), &v)
	}
	if err := w.perform(plan.RestoreLabels, name); !Stale(err) {
		t.Errorf("a claim that has changed since is labelled: %v", err)
	}
}

// TestLastNode: where the look was at a cache that lags, a process may still run on
// the last node. A pod beside it would be a second one of the same identity.
func TestLastNode(t *testing.T) {
	node := func(ready corev1.ConditionStatus, taints ...corev1.Taint) client.Object {
		return &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "node-0"}, Spec: corev1.NodeSpec{Taints: taints},
			Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}},
		}
	}
	last := annotated(v1alpha1.AnnotationNode, "node-0")
	cases := map[string]struct {
		objects []client.Object
		stale   bool
	}{
		"it is Ready":            {[]client.Object{claim(last), node(corev1.ConditionTrue)}, false},
		"it is not heard of":     {[]client.Object{claim(last), node(corev1.ConditionUnknown)}, true},
		"it is not Ready":        {[]client.Object{claim(last), node(corev1.ConditionFalse)}, true},
		"it is declared down":    {[]client.Object{claim(last), node(corev1.ConditionUnknown, corev1.Taint{Key: corev1.TaintNodeOutOfService})}, false},
		"it was deleted":         {[]client.Object{claim(last)}, false},
		"no node is on record":   {[]client.Object{claim(), node(corev1.ConditionUnknown)}, false},
		"it has never said so":   {[]client.Object{claim(last), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-0"}}}, true},
		"another one is unheard": {[]client.Object{claim(annotated(v1alpha1.AnnotationNode, "node-1")), node(corev1.ConditionUnknown)}, false},
	}
	for what, tc := range cases {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t, tc.objects...)
			w.cluster.Status.FounderVolumes = map[string]string{name: "v0"}
			w.seen.Members[0].LastNode = tc.objects[0].GetAnnotations()[v1alpha1.AnnotationNode]
			err := w.perform(plan.StartMembers, name)
			if errors.Is(err, ErrStale) != tc.stale || (err != nil) != tc.stale || len(w.writes) > 0 == tc.stale {
				t.Errorf("Perform() = %v, wrote %v, want stale: %v", err, w.writes, tc.stale)
			}
		})
	}
}

// TestTwiceIsOnce: a step that is carried out again changes nothing more.
func TestTwiceIsOnce(t *testing.T) {
	w := newWorld(t, claim(unbound), pod(running))
	w.cluster.Status.FounderVolumes = map[string]string{name: "v0"}
	w.seen.List = true
	w.seen.Members[0] = plan.Member{Name: name, Founder: true, Listed: true, Started: true, ID: 0x17}
	for _, kind := range []plan.Kind{plan.CreateVolumes, plan.StartMembers, plan.RecordMembers, plan.IssueCertificates} {
		if err := w.perform(kind, name); err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		before := w.everything()
		w.writes = nil
		if err := w.perform(kind, name); err != nil {
			t.Errorf("%s a second time: %v", kind, err)
		}
		if diff := cmp.Diff(before, w.everything()); diff != "" {
			t.Errorf("%s a second time changed the world:\n%s", kind, diff)
		}
		if kind == plan.RecordMembers || kind == plan.IssueCertificates {
			if len(w.writes) > 0 {
				t.Errorf("%s a second time wrote %v", kind, w.writes)
			}
		}
	}
}

// everything that the API server holds, with its versions.
func (w *world) everything() []string {
	w.t.Helper()
	var all []string
	for _, list := range []client.ObjectList{&corev1.PodList{}, &corev1.PersistentVolumeClaimList{}, &corev1.SecretList{}} {
		if err := w.api.List(w.t.Context(), list); err != nil {
			w.t.Fatal(err)
		}
		switch l := list.(type) {
		case *corev1.PodList:
			for _, o := range l.Items {
				all = append(all, "pod "+o.Name+" "+o.ResourceVersion)
			}
		case *corev1.PersistentVolumeClaimList:
			for _, o := range l.Items {
				all = append(all, "claim "+o.Name+" "+o.ResourceVersion)
			}
		case *corev1.SecretList:
			for _, o := range l.Items {
				all = append(all, "secret "+o.Name+" "+o.ResourceVersion)
			}
		}
	}
	slices.Sort(all)
	return all
}

// TestChangedMeanwhile: whatever is deleted or overwritten is the very object
// that was read, in the version that was read.
func TestChangedMeanwhile(t *testing.T) {
	cases := map[string]struct {
		step plan.Kind
		on   string
	}{
		"a pod that is deleted":     {plan.DeletePods, "delete a-0000"},
		"a claim that is recorded":  {plan.RecordMembers, "patch data-a-0000"},
		"a pod that is given order": {plan.RecordMembers, "patch a-0000"},
		"a claim that is refused":   {plan.RecordRefusals, "patch data-a-0000"},
		"the cluster's finalizer":   {plan.SetFinalizer, "patch a"},
	}
	for what, tc := range cases {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t, claim(), pod())
			w.seen.List = true
			w.seen.Members[0] = plan.Member{Name: name, Founder: true, Listed: true, Started: true, ID: 0x17, Refusal: "x", PodUID: "p0"}
			w.cluster.Spec.Storage.WhenDeleted = v1alpha1.WhenDeletedDelete
			touched := false
			w.before = func(verb string, o client.Object) error {
				if verb+" "+o.GetName() != tc.on || touched {
					return nil
				}
				touched = true
				other := o.DeepCopyObject().(client.Object)
				if !w.get(other, o.GetName()) {
					return nil
				}
				labels := other.GetLabels()
				if labels == nil {
					labels = map[string]string{}
				}
				labels["somebody"] = "else"
				other.SetLabels(labels)
				return w.api.Update(w.t.Context(), other)
			}
			err := w.perform(tc.step, name)
			if !apierrors.IsConflict(err) {
				t.Errorf("Perform() = %v, want a conflict", err)
			}
			if !touched {
				t.Errorf("there was no %s: %v", tc.on, w.writes)
			}
			if !w.get(&corev1.Pod{}, name) {
				t.Error("the pod is gone")
			}
		})
	}
}

// TestOneDoesNotHoldBackTheOthers: a member that the API server refuses.
func TestOneDoesNotHoldBackTheOthers(t *testing.T) {
	w := newWorld(t)
	w.cluster.Status.Founders = []string{"a-0000", "a-0001", "a-0002"}
	w.before = func(_ string, o client.Object) error {
		if o.GetName() == "data-a-0001" {
			return apierrors.NewForbidden(corev1.Resource("persistentvolumeclaims"), o.GetName(), errors.New("exceeded quota"))
		}
		return nil
	}
	err := w.perform(plan.CreateVolumes, w.cluster.Status.Founders...)
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "data-a-0001") {
		t.Errorf("Perform() = %v, want what the API server said", err)
	}
	if !w.get(&corev1.PersistentVolumeClaim{}, "data-a-0002") {
		t.Error("the third claim was not created")
	}
}

func TestLatches(t *testing.T) {
	w := newWorld(t, claim())
	w.cluster.Status = v1alpha1.EtcdClusterStatus{NextOrdinal: 2}
	if err := w.perform(plan.LatchFounders, "a-0007", "a-0008"); err != nil {
		t.Fatal(err)
	}
	if s := w.cluster.Status; s.Incarnation != 1 || s.NextOrdinal != 9 || !slices.Equal(s.Founders, []string{"a-0007", "a-0008"}) {
		t.Errorf("status %+v", s)
	}
	w = newWorld(t, claim())
	if err := w.perform(plan.LatchVolumes, name); err != nil || w.cluster.Status.FounderVolumes[name] != "v0" {
		t.Errorf("volumes %v, %v", w.cluster.Status.FounderVolumes, err)
	}
	w.cluster.Status.FounderVolumes[name] = "lost"
	if err := w.perform(plan.LatchVolumes, name); err != nil || w.cluster.Status.FounderVolumes[name] != "lost" {
		t.Errorf("a volume on record was replaced by another: %v, %v", w.cluster.Status.FounderVolumes, err)
	}
	w.seen.AgreedClusterID = 0xc1
	if err := w.perform(plan.LatchCluster); err != nil || w.cluster.Status.ClusterID != "c1" {
		t.Errorf("cluster ID %q, %v", w.cluster.Status.ClusterID, err)
	}
}

func TestOrders(t *testing.T) {
	seen := func(m plan.Member, list bool) plan.Observed {
		m.Name = name
		return plan.Observed{List: list, Members: []plan.Member{m, {Name: "a-0001", Listed: list}, {Name: "a-0002"}}}
	}
	cases := map[string]struct {
		founded, recorded bool
		seen              plan.Observed
		want              resources.Orders
		booted            bool
	}{
		"a founder's first start":                                {false, false, seen(plan.Member{}, false), resources.Orders{Peers: []string{name}, State: "new", Empty: resources.EmptyAllowed}, false},
		"a founder that is recorded":                             {false, true, seen(plan.Member{}, false), resources.Orders{Peers: []string{name}, State: "existing", Empty: resources.EmptyForbidden}, false},
		"a founder that etcd lists as up":                        {false, false, seen(plan.Member{Listed: true, Started: true}, true), resources.Orders{Peers: []string{name}, State: "existing", Empty: resources.EmptyForbidden}, false},
		"a member of a founded cluster":                          {true, false, seen(plan.Member{}, false), resources.Orders{Peers: []string{name, "a-0001", "a-0002"}, State: "existing", Empty: resources.EmptyForbidden}, false},
		"a member that has never started":                        {true, false, seen(plan.Member{Listed: true}, true), resources.Orders{Peers: []string{name, "a-0001"}, State: "existing", Empty: resources.EmptyAllowed}, false},
		"a recorded founder, listed as new":                      {true, true, seen(plan.Member{Founder: true, Listed: true}, true), resources.Orders{Peers: []string{name, "a-0001"}, State: "existing", Empty: resources.EmptyForbidden}, false},
		"one that joins, recorded before its first start":        {true, true, seen(plan.Member{Listed: true, Learner: true}, true), resources.Orders{Peers: []string{name, "a-0001"}, State: "existing", Empty: resources.EmptyAllowed}, false},
		"one that joins and has booted":                          {true, true, seen(plan.Member{Listed: true, Learner: true}, true), resources.Orders{Peers: []string{name, "a-0001"}, State: "existing", Empty: resources.EmptyForbidden}, true},
		"one that joined, and nobody can say whether it started": {true, true, seen(plan.Member{}, false), resources.Orders{Peers: []string{name, "a-0001", "a-0002"}, State: "existing", Empty: resources.EmptyForbidden}, false},
		"a member that etcd does not list":                       {true, false, seen(plan.Member{}, true), resources.Orders{Peers: []string{"a-0001"}, State: "existing", Empty: resources.EmptyForbidden}, false},
		"a founder whose pod was ready":                          {false, false, seen(plan.Member{}, false), resources.Orders{Peers: []string{name}, State: "existing", Empty: resources.EmptyForbidden}, true},
	}
	for what, tc := range cases {
		t.Run(what, func(t *testing.T) {
			c := cluster()
			if tc.founded {
				c.Status.ClusterID = "c1"
			}
			record := map[string]string{}
			if tc.recorded {
				record[v1alpha1.AnnotationMemberID] = "17"
			}
			if tc.booted {
				record[v1alpha1.AnnotationBooted] = "true"
			}
			if diff := cmp.Diff(tc.want, orders(c, tc.seen, name, record)); diff != "" {
				t.Errorf("orders (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRecord(t *testing.T) {
	w := newWorld(t, claim(), pod(running))
	w.seen.List = true
	w.seen.Members[0] = plan.Member{Name: name, Founder: true, Listed: true, Started: true, ID: 0x17}
	if err := w.perform(plan.RecordMembers, name); err != nil {
		t.Fatal(err)
	}
	var v corev1.PersistentVolumeClaim
	var p corev1.Pod
	w.get(&v, "data-a-0000")
	w.get(&p, name)
	if v.Annotations[v1alpha1.AnnotationMemberID] != "17" || v.Annotations[v1alpha1.AnnotationNode] != "node-0" {
		t.Errorf("the claim says %v", v.Annotations)
	}
	if p.Annotations[member.AnnotationMayBeEmpty] != "false" || p.Annotations[member.AnnotationInitialClusterState] != "existing" {
		t.Errorf("the pod says %v", p.Annotations)
	}
}

// TestMemory: the pod of a memory-backed member is its volume.
func TestMemory(t *testing.T) {
	w := newWorld(t)
	w.cluster.Spec.Storage.Medium, w.seen.Members[0].InMemory = v1alpha1.MediumMemory, true
	steps := []struct {
		kind   plan.Kind
		writes []string
	}{
		{plan.CreateVolumes, []string{"create a-0000"}},
		{plan.LatchVolumes, nil},
		{plan.StartMembers, []string{"patch a-0000"}},
		{plan.StartMembers, nil},
	}
	for _, step := range steps {
		w.writes = nil
		if err := w.perform(step.kind, name); err != nil {
			t.Fatalf("%s: %v", step.kind, err)
		}
		if !slices.Equal(w.writes, step.writes) {
			t.Errorf("%s wrote %v, want %v", step.kind, w.writes, step.writes)
		}
	}
	var p corev1.Pod
	w.get(&p, name)
	if len(p.Spec.SchedulingGates) > 0 || w.cluster.Status.FounderVolumes[name] != string(p.UID) || p.UID == "" {
		t.Errorf("gates %v, on record %v, UID %q", p.Spec.SchedulingGates, w.cluster.Status.FounderVolumes, p.UID)
	}
	w.cluster.Status.FounderVolumes[name] = "another"
	if err := w.perform(plan.StartMembers, name); !errors.Is(err, ErrStale) {
		t.Errorf("a pod that is not on record is let go: %v", err)
	}
}

// TestMadeOnItsMedium: a pod that is made again mounts the volume that the member has, when
// the spec wants memory by now; without its data it must not start.
func TestMadeOnItsMedium(t *testing.T) {
	w := newWorld(t, claim())
	w.cluster.Spec.Storage.Medium = v1alpha1.MediumMemory
	w.cluster.Status.FounderVolumes = map[string]string{name: "v0"}
	if err := w.perform(plan.StartMembers, name); err != nil {
		t.Fatal(err)
	}
	var p corev1.Pod
	w.get(&p, name)
	if resources.PodInMemory(&p) || p.Annotations[v1alpha1.AnnotationTemplateHash] != resources.TemplateHash(resources.OnMedium(w.cluster, v1alpha1.MediumDisk)) || len(p.Spec.SchedulingGates) > 0 {
		t.Errorf("made with volumes %v, gates %v, annotations %v", p.Spec.Volumes, p.Spec.SchedulingGates, p.Annotations)
	}
}

func TestFinalizer(t *testing.T) {
	w := newWorld(t)
	for _, step := range []struct {
		when v1alpha1.WhenDeleted
		want bool
	}{{v1alpha1.WhenDeletedDelete, true}, {v1alpha1.WhenDeletedDelete, true}, {v1alpha1.WhenDeletedRetain, false}} {
		w.cluster.Spec.Storage.WhenDeleted = step.when
		if err := w.perform(plan.SetFinalizer); err != nil {
			t.Fatal(err)
		}
		w.reload()
		if got := controllerutil.ContainsFinalizer(w.cluster, v1alpha1.Finalizer); got != step.want {
			t.Errorf("%s: finalizer %v, want %v", step.when, got, step.want)
		}
	}
}

func TestDeleteVolumes(t *testing.T) {
	old := claim(reborn)
	old.Name, old.UID = "data-a-0009", "v9"
	old.Labels[v1alpha1.LabelMember] = "a-0009"
	rescued := claim()
	rescued.Name, rescued.UID = "rescue-of-a-0000", "v7"
	stranger := claim(foreigner)
	stranger.Name, stranger.UID = "data-a-0005", "v5"
	elsewhere := claim()
	elsewhere.Namespace = "other"
	// Another cluster that has adopted the same UID.
	namesake := claim()
	namesake.Name, namesake.UID = "data-b-0000", "v8"
	namesake.Labels[v1alpha1.LabelCluster], namesake.Labels[v1alpha1.LabelMember] = "b", "b-0000"
	w := newWorld(t, claim(), old, rescued, stranger, elsewhere, namesake)
	p := &Performer{Writer: w.api, Live: w.api}
	for range 2 {
		if err := p.DeleteVolumes(t.Context(), w.cluster); err != nil {
			t.Fatal(err)
		}
	}
	for claim, want := range map[string]bool{"data-a-0000": false, "data-a-0009": false, "data-a-0005": true, "rescue-of-a-0000": true, "data-b-0000": true} {
		if got := w.get(&corev1.PersistentVolumeClaim{}, claim); got != want {
			t.Errorf("%s is there: %v, want %v", claim, got, want)
		}
	}
	if err := w.api.Get(t.Context(), client.ObjectKeyFromObject(elsewhere), &corev1.PersistentVolumeClaim{}); err != nil {
		t.Errorf("a claim of another namespace: %v", err)
	}
}

func TestCertificates(t *testing.T) {
	w := newWorld(t)
	if err := w.perform(plan.IssueCertificates); err != nil {
		t.Fatal(err)
	}
	want := []string{"create a-client-ca", "create a-peer-ca", "create a-operator-tls", "create a-client-tls", "create a-0000-tls"}
	got := slices.Clone(w.writes)
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	var leaf corev1.Secret
	w.get(&leaf, "a-0000-tls")
	if !metav1.IsControlledBy(&leaf, w.cluster) || leaf.Labels[v1alpha1.LabelClusterUID] != "5e1f" {
		t.Errorf("the Secret has labels %v and owners %v", leaf.Labels, leaf.OwnerReferences)
	}
	// A second operator was faster with an authority: nothing of ours is any good.
	w = newWorld(t)
	w.before = func(_ string, o client.Object) error {
		return apierrors.NewAlreadyExists(corev1.Resource("secrets"), o.GetName())
	}
	if err := w.perform(plan.IssueCertificates); !errors.Is(err, ErrStale) || len(w.writes) != 1 {
		t.Errorf("Perform() = %v after %v, want to look again after the first", err, w.writes)
	}
	// Every member has a leaf of its own.
	w = newWorld(t)
	w.seen.Members = append(w.seen.Members, plan.Member{Name: "a-0001"})
	if err := w.perform(plan.IssueCertificates); err != nil {
		t.Fatal(err)
	}
	if !w.get(&leaf, "a-0001-tls") {
		t.Error("the second member has no certificate")
	}
}

func TestObjects(t *testing.T) {
	w := newWorld(t)
	var applied []string
	p := &Performer{Live: w.api, Writer: recorder{w.api, &applied}}
	w.seen.ObjectsDue = []string{"Service a", "PodDisruptionBudget a"}
	if err := p.Perform(t.Context(), w.cluster, w.seen, plan.Step{Kind: plan.ApplyObjects}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"*v1.ServiceApplyConfiguration", "*v1.PodDisruptionBudgetApplyConfiguration"}; !slices.Equal(applied, want) {
		t.Errorf("applied %v, want what is due, %v", applied, want)
	}
}

// TestPortsThatWereRenumbered: somebody has given the ports of a Service other numbers, so
// that ours cannot stand beside them; they are replaced as a whole, and only then.
func TestPortsThatWereRenumbered(t *testing.T) {
	invalid := apierrors.NewInvalid(schema.GroupKind{Kind: "Service"}, "a", nil)
	for name, tc := range map[string]struct {
		refused []error
		want    []int32
		err     error
	}{
		"they are in the way":        {[]error{invalid, nil}, []int32{2379, 2380, 2381}, nil},
		"they are not":               {[]error{nil}, []int32{2399, 2380}, nil},
		"it is refused all the same": {[]error{invalid, invalid}, []int32{2379, 2380, 2381}, invalid},
		"it is refused otherwise":    {[]error{errRefused}, []int32{2399, 2380}, errRefused},
	} {
		t.Run(name, func(t *testing.T) {
			theirs := &corev1.Service{ObjectMeta: metav1.ObjectMeta{
				Namespace: "ns", Name: "a",
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(cluster(), v1alpha1.GroupVersion.WithKind("EtcdCluster"))},
			}}
			theirs.Spec.Ports = []corev1.ServicePort{{Name: "client", Port: 2399}, {Name: "peer", Port: 2380}}
			w := newWorld(t, theirs)
			w.seen.ObjectsDue = []string{"Service a"}
			p := &Performer{Live: w.api, Writer: &refuser{w.api, tc.refused}}
			err := p.Perform(t.Context(), w.cluster, w.seen, plan.Step{Kind: plan.ApplyObjects})
			if !errors.Is(err, tc.err) {
				t.Errorf("Perform() = %v, want %v", err, tc.err)
			}
			var now corev1.Service
			w.get(&now, "a")
			var ports []int32
			for _, p := range now.Spec.Ports {
				ports = append(ports, p.Port)
			}
			if !slices.Equal(ports, tc.want) {
				t.Errorf("ports %v, want %v", ports, tc.want)
			}
		})
	}
}

var errRefused = errors.New("refused")

// refuser answers one application after the other.
type refuser struct {
	client.Client
	answers []error
}

func (r *refuser) Apply(context.Context, runtime.ApplyConfiguration, ...client.ApplyOption) error {
	next := r.answers[0]
	r.answers = r.answers[1:]
	return next
}

// recorder notes what is applied.
type recorder struct {
	client.Client
	applied *[]string
}

func (r recorder) Apply(_ context.Context, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
	options := (&client.ApplyOptions{}).ApplyOptions(opts)
	if options.FieldManager != resources.FieldOwner || options.Force == nil || !*options.Force {
		return fmt.Errorf("applied as %q without force", options.FieldManager)
	}
	*r.applied = append(*r.applied, fmt.Sprintf("%T", o))
	return nil
}
