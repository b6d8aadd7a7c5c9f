package resources

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
)

const oldUID = "00000000-0000-4000-8000-00000000001d"

// adopts is a new cluster that is to bring the old one back.
func adopts() *v1alpha1.EtcdCluster {
	c := cluster()
	c.UID, c.Spec.Adopt = "9e3", &v1alpha1.AdoptSpec{ClusterUID: oldUID}
	c.Status = v1alpha1.EtcdClusterStatus{}
	return c
}

// left is a claim that the old cluster has left behind.
func left(member string, changes ...func(*corev1.PersistentVolumeClaim)) corev1.PersistentVolumeClaim {
	old := cluster()
	old.UID = oldUID
	old.Status.Founders = []string{"a-0000", "a-0001", "a-0002"}
	claim := Claim(old, member)
	claim.Annotations[v1alpha1.AnnotationMemberID] = "c1"
	claim.Status.Phase = corev1.ClaimBound
	for _, change := range changes {
		change(claim)
	}
	return *claim
}

// TestAnAdoptedClusterIsTheOldOne: all that carries identity carries that of the deleted
// cluster, so that its volumes need not be changed; only what owns is the new one.
func TestAnAdoptedClusterIsTheOldOne(t *testing.T) {
	c := adopts()
	if ClusterUID(c) != oldUID || Identity(c)[v1alpha1.LabelClusterUID] != oldUID || Token(c) != oldUID+"-1" {
		t.Errorf("UID %s, labels %v, token %s", ClusterUID(c), Identity(c), Token(c))
	}
	pod := MemberPod(c, Start{Member: "a-0000", VolumeUID: "v0"})
	if command := strings.Join(pod.Spec.Containers[0].Command, " "); !strings.Contains(command, "--cluster-uid="+oldUID+" ") {
		t.Errorf("the guard is told %s", command)
	}
	if owner := metav1.GetControllerOf(pod); owner.UID != c.UID {
		t.Errorf("the pod is owned by %s", owner.UID)
	}
	c.Spec.Adopt = nil
	if ClusterUID(c) != string(c.UID) {
		t.Errorf("without an adoption the UID is %s", ClusterUID(c))
	}
}

func TestAdoption(t *testing.T) {
	label := func(key, value string) func(*corev1.PersistentVolumeClaim) {
		return func(c *corev1.PersistentVolumeClaim) { c.Labels[key] = value }
	}
	note := func(key, value string) func(*corev1.PersistentVolumeClaim) {
		return func(c *corev1.PersistentVolumeClaim) { c.Annotations[key] = value }
	}
	phase := func(p corev1.PersistentVolumeClaimPhase) func(*corev1.PersistentVolumeClaim) {
		return func(c *corev1.PersistentVolumeClaim) { c.Status.Phase = p }
	}
	second := label(v1alpha1.LabelIncarnation, "2")
	goes := func(c *corev1.PersistentVolumeClaim) { c.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} }
	for name, tc := range map[string]struct {
		claims []corev1.PersistentVolumeClaim
		want   string
	}{
		"as they are":                {[]corev1.PersistentVolumeClaim{left("a-0001"), left("a-0000")}, "1: a-0000 bound, a-0001 bound"},
		"of another cluster":         {[]corev1.PersistentVolumeClaim{left("a-0000", label(v1alpha1.LabelClusterUID, "other"))}, "0: , and of other"},
		"in quarantine":              {[]corev1.PersistentVolumeClaim{left("a-0000"), left("a-0001", label(v1alpha1.LabelQuarantined, "removed"))}, "1: a-0000 bound"},
		"of an earlier incarnation":  {[]corev1.PersistentVolumeClaim{left("a-0000"), left("a-0003", second)}, "2: a-0003 bound"},
		"ten thousand":               {[]corev1.PersistentVolumeClaim{left("a-10000"), left("a-9999")}, "1: a-9999 bound, a-10000 bound"},
		"never a member's":           {[]corev1.PersistentVolumeClaim{left("a-0000", note(v1alpha1.AnnotationMemberID, ""))}, "1: a-0000 bound, unrecorded"},
		"refused":                    {[]corev1.PersistentVolumeClaim{left("a-0000", note(v1alpha1.AnnotationRefused, "DataMissing"))}, "1: a-0000 refused"},
		"lost":                       {[]corev1.PersistentVolumeClaim{left("a-0000", phase(corev1.ClaimLost))}, "1: a-0000 lost"},
		"never bound":                {[]corev1.PersistentVolumeClaim{left("a-0000", phase(corev1.ClaimPending))}, "1: a-0000 pending"},
		"on its way out":             {[]corev1.PersistentVolumeClaim{left("a-0000", goes)}, "1: a-0000 going"},
		"of a cluster of other name": {[]corev1.PersistentVolumeClaim{left("b-0000", label(v1alpha1.LabelCluster, "b"))}, "1: b-0000 bound (of b)"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := describe(Adoption(adopts(), tc.claims, nil)); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func describe(a *plan.Adoption) string {
	states := map[plan.Volume]string{
		plan.VolumeBound: "bound", plan.VolumeRefused: "refused", plan.VolumeLost: "lost", plan.VolumePending: "pending", plan.VolumeTerminating: "going",
	}
	var out []string
	for _, v := range a.Volumes {
		text := v.Member + " " + states[v.Volume]
		if !v.Recorded {
			text += ", unrecorded"
		}
		out = append(out, text)
	}
	text := string(rune('0'+a.Incarnation)) + ": " + strings.Join(out, ", ")
	if a.Elsewhere != "" {
		text += " (of " + a.Elsewhere + ")"
	}
	if len(a.Others) > 0 {
		text += ", and of " + strings.Join(a.Others, ", ")
	}
	return text
}

// TestPodsThatUseOldVolumes: whoever may run on one of the volumes is named, but for the
// cluster's own pods: they show that it has adopted the volumes already.
func TestPodsThatUseOldVolumes(t *testing.T) {
	old := cluster()
	old.UID = oldUID
	mounts := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "debug"}}
	mounts.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data-a-0001"}}}}
	ended, other := mounts.DeepCopy(), mounts.DeepCopy()
	ended.Status.Phase = corev1.PodSucceeded
	other.Spec.Volumes[0].PersistentVolumeClaim.ClaimName = "logs"
	orphan := MemberPod(old, Start{Member: "a-0001"})
	orphan.OwnerReferences = nil
	for name, tc := range map[string]struct {
		pod  *corev1.Pod
		uses bool
	}{
		"of the old cluster":      {MemberPod(old, Start{Member: "a-0001"}), true},
		"that was left behind":    {orphan, true},
		"that mounts one":         {mounts, true},
		"that has ended":          {ended, false},
		"that mounts another":     {other, false},
		"of the new cluster":      {MemberPod(adopts(), Start{Member: "a-0001"}), false},
		"of a cluster of its own": {MemberPod(cluster(named("b")), Start{Member: "b-0001"}), false},
	} {
		a := Adoption(adopts(), []corev1.PersistentVolumeClaim{left("a-0001")}, []corev1.Pod{*tc.pod})
		if uses := len(a.Pods) > 0; uses != tc.uses {
			t.Errorf("a pod %s: uses the volumes: %v, want %v", name, uses, tc.uses)
		}
	}
}
