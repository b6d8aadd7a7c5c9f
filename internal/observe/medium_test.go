package observe

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/member"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// TestMedium: a member's data is where its pod was made with it, or where its claim is, and
// not where the spec wants it by now.
func TestMedium(t *testing.T) {
	memory := func(w *world) { w.cluster.Spec.Storage.Medium = v1alpha1.MediumMemory }
	// inPod has the third member in memory.
	inPod := func(w *world) {
		w.remove(third[*corev1.PersistentVolumeClaim](w))
		p := third[*corev1.Pod](w)
		on := resources.OnMedium(w.cluster, v1alpha1.MediumMemory)
		p.Annotations = resources.MemberPod(on, resources.Start{Member: p.Name}).Annotations
		p.Annotations[member.AnnotationMayBeEmpty] = "false"
		p.Annotations[v1alpha1.AnnotationMemberID] = "3"
		w.cluster.Status.FounderVolumes[p.Name] = string(p.UID)
	}
	cases := map[string]struct {
		world func(*world)
		want  func(plan.Member) bool
	}{
		"a volume is wanted": {func(*world) {}, func(m plan.Member) bool { return !m.InMemory && !m.MediumDiffers && !m.VolumeElsewhere }},
		"a volume where memory is wanted": {memory, func(m plan.Member) bool {
			return !m.InMemory && m.MediumDiffers && m.VolumeElsewhere && m.Volume == plan.VolumeBound && m.RecordedID == 3 && !m.PodOutdated
		}},
		"its pod is gone": {all(memory, func(w *world) { w.remove(third[*corev1.Pod](w)) }), func(m plan.Member) bool {
			return !m.InMemory && m.MediumDiffers && m.Volume == plan.VolumeBound && m.Pod == plan.PodAbsent && m.RecordedID == 3
		}},
		"its claim need not grow": {all(memory, func(w *world) { w.cluster.Spec.Storage.Size = resource.MustParse("1Ti") }), func(m plan.Member) bool {
			return m.MediumDiffers && !m.VolumeSmall
		}},
		"its pod keeps the memory that its data is in": {all(inPod, func(w *world) {
			third[*corev1.Pod](w).Annotations[v1alpha1.AnnotationResources] = "of more memory"
		}), func(m plan.Member) bool { return m.InMemory && !m.PodResize }},
		"memory where a volume is wanted": {inPod, func(m plan.Member) bool {
			return m.InMemory && m.MediumDiffers && m.VolumeElsewhere && m.Volume == plan.VolumeBound && m.RecordedID == 3 && !m.PodOutdated
		}},
		"memory is wanted again": {all(inPod, memory), func(m plan.Member) bool {
			return m.InMemory && !m.MediumDiffers && !m.VolumeElsewhere && m.Volume == plan.VolumeBound && !m.PodOutdated
		}},
		"its data went with its pod": {all(inPod, func(w *world) { w.remove(third[*corev1.Pod](w)) }), func(m plan.Member) bool {
			return m.Volume == plan.VolumeAbsent && m.Pod == plan.PodAbsent
		}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := patient(t)
			w.cluster.Spec.Storage.Medium = v1alpha1.MediumDisk
			third[*corev1.Pod](w).Annotations[v1alpha1.AnnotationTemplateHash] = resources.TemplateHash(w.cluster)
			tc.world(w)
			if m, found := w.see().Member("a-0002"); !found || !tc.want(m) {
				t.Errorf("saw %+v", m)
			}
		})
	}
}
