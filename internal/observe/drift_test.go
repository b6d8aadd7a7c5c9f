package observe

import (
	"context"
	"fmt"
	"maps"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// reported is a founded cluster whose status names its members.
func reported(t *testing.T) *world {
	t.Helper()
	w := founded(t)
	for i := range 3 {
		w.cluster.Status.Members = append(w.cluster.Status.Members, v1alpha1.MemberStatus{
			Name: resources.MemberName("a", i), ID: fmt.Sprintf("%x", i+1), Role: v1alpha1.RoleVoter,
		})
	}
	return w
}

// TestDrift: what somebody has taken the labels off is found by its name, if it is
// provably ours; and nothing that is another cluster's ever is.
func TestDrift(t *testing.T) {
	theClaim := func(w *world) client.Object { return third[*corev1.PersistentVolumeClaim](w) }
	thePod := func(w *world) client.Object { return third[*corev1.Pod](w) }
	without := func(label string, of func(*world) client.Object) func(*world) {
		return func(w *world) { delete(of(w).GetLabels(), label) }
	}
	with := func(label, value string, of func(*world) client.Object) func(*world) {
		return func(w *world) { of(w).GetLabels()[label] = value }
	}
	bare := func(of func(*world) client.Object) func(*world) {
		return func(w *world) { maps.DeleteFunc(of(w).GetLabels(), func(string, string) bool { return true }) }
	}
	// joined is a member that no founder's record names.
	joined := func(w *world) {
		delete(w.cluster.Status.FounderVolumes, "a-0002")
		w.cluster.Status.Founders = []string{"a-0000", "a-0001"}
	}
	podless := func(w *world) { noPod(w) }
	another := func(w *world) {
		p := third[*corev1.Pod](w)
		for i, argument := range p.Spec.Containers[0].Command {
			if argument == "--incarnation=1" {
				p.Spec.Containers[0].Command[i] = "--incarnation=2"
			}
		}
	}
	restored := func(m plan.Member) bool {
		return m.Mislabelled && m.Volume == plan.VolumeBound && m.RecordedID == 3 && m.Pod == plan.PodRunning && m.Answers
	}
	lost := func(m plan.Member) bool { return m.Volume == plan.VolumeAbsent && !m.Mislabelled }
	stopped := func(m plan.Member) bool { return m.Pod == plan.PodAbsent && !m.Mislabelled }
	kept := func(m plan.Member) bool {
		return m.Mislabelled && m.Volume == plan.VolumeBound && m.Pod == plan.PodAbsent
	}
	cases := map[string]struct {
		world func(*world)
		want  func(plan.Member) bool
	}{
		"the claim lacks the cluster's UID":          {without(v1alpha1.LabelClusterUID, theClaim), restored},
		"the claim lacks the cluster":                {without(v1alpha1.LabelCluster, theClaim), restored},
		"the claim lacks the incarnation":            {without(v1alpha1.LabelIncarnation, theClaim), restored},
		"the claim lacks the member":                 {without(v1alpha1.LabelMember, theClaim), restored},
		"the claim has no label":                     {bare(theClaim), restored},
		"the claim names another incarnation":        {with(v1alpha1.LabelIncarnation, "2", theClaim), restored},
		"the pod lacks the cluster's UID":            {without(v1alpha1.LabelClusterUID, thePod), restored},
		"the pod lacks the incarnation":              {without(v1alpha1.LabelIncarnation, thePod), restored},
		"the pod names another incarnation":          {with(v1alpha1.LabelIncarnation, "2", thePod), restored},
		"the pod names another member":               {with(v1alpha1.LabelMember, "a-0001", thePod), restored},
		"the pod has no label":                       {bare(thePod), restored},
		"neither has a label":                        {all(bare(theClaim), bare(thePod)), restored},
		"neither has, of one that joined":            {all(joined, bare(theClaim), bare(thePod)), restored},
		"a founder's claim, without a pod":           {all(podless, bare(theClaim)), kept},
		"a joined member's claim, without a pod":     {all(joined, podless, bare(theClaim)), kept},
		"the claim of another cluster":               {with(v1alpha1.LabelClusterUID, "01d", theClaim), lost},
		"another incarnation's claim, without a pod": {all(podless, with(v1alpha1.LabelIncarnation, "2", theClaim)), lost},
		"a claim with another ID": {all(joined, podless, bare(theClaim), func(w *world) {
			theClaim(w).GetAnnotations()[v1alpha1.AnnotationMemberID] = "99"
		}), lost},
		"a claim that was made anew": {all(podless, bare(theClaim), func(w *world) {
			theClaim(w).SetUID("other")
			delete(theClaim(w).GetAnnotations(), v1alpha1.AnnotationMemberID)
		}), lost},
		"a claim in quarantine":        {all(podless, with(v1alpha1.LabelQuarantined, "removed", theClaim)), lost},
		"a pod of somebody else":       {all(bare(thePod), func(w *world) { thePod(w).SetOwnerReferences(nil) }), stopped},
		"a pod of an older namesake":   {all(bare(thePod), func(w *world) { thePod(w).GetOwnerReferences()[0].UID = "01d" }), stopped},
		"a pod of another incarnation": {all(another, with(v1alpha1.LabelIncarnation, "2", thePod)), stopped},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := reported(t)
			tc.world(w)
			seen := w.see()
			if m, ok := seen.Member("a-0002"); !ok || !tc.want(m) {
				t.Errorf("saw %+v", m)
			}
			if step := plan.Next(seen); (step.Kind == plan.RestoreLabels) != seen.Members[2].Mislabelled {
				t.Errorf("decided %s, mislabelled %v", step.Kind, seen.Members[2].Mislabelled)
			}
			if seen.Members[2].Mislabelled && len(seen.OldVolumes) > 0 {
				t.Errorf("a member's claim is told as a namesake's: %v", seen.OldVolumes)
			}
		})
	}
}

// TestNothingIsAskedAtRest: claims and pods are read by name only while one is
// missing.
func TestNothingIsAskedAtRest(t *testing.T) {
	w := reported(t)
	asked := 0
	w.intercept = interceptor.Funcs{Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
		switch o.(type) {
		case *corev1.Pod, *corev1.PersistentVolumeClaim:
			asked++
		}
		return c.Get(ctx, key, o, opts...)
	}}
	// A founder that left long ago stays on record.
	w.cluster.Status.Founders = append(w.cluster.Status.Founders, "a-0003")
	w.cluster.Status.FounderVolumes["a-0003"] = "v3"
	if w.see(); asked > 0 {
		t.Errorf("%d objects were read by name at rest", asked)
	}
	noPod(w)
	if w.see(); asked != 1 {
		t.Errorf("%d objects were read by name while one pod is missing", asked)
	}
}
