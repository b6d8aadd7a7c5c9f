package resources

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
)

// TestTheSurvivorsVolumeIsOnlyRead, and by nobody but the container that copies it.
func TestTheSurvivorsVolumeIsOnlyRead(t *testing.T) {
	c := cluster(fromSurvivor)
	pod := MemberPod(c, beginning(c, "a-0001"))
	mounts := 0
	for _, container := range append(slices.Clone(pod.Spec.InitContainers), pod.Spec.Containers...) {
		for _, m := range container.VolumeMounts {
			if m.Name != survivorVolume {
				continue
			}
			mounts++
			if !m.ReadOnly || container.Name != RestoreContainer {
				t.Errorf("container %s can write it: %+v", container.Name, m)
			}
		}
	}
	if mounts != 1 || !MountsSurvivor(pod) || MountsSurvivor(MemberPod(cluster(), start("a-0001"))) {
		t.Errorf("%d containers mount it, and the pod says %v", mounts, MountsSurvivor(pod))
	}
}

// TestSurvivorOf: status says whose volume it is and, where that is lost, the claim does.
func TestSurvivorOf(t *testing.T) {
	of := Survivor{Member: "a-0000", VolumeUID: "0ld", Incarnation: 1}
	record := map[string]string{v1alpha1.AnnotationSurvivor: of.String()}
	with := cluster(fromSurvivor)
	if got := SurvivorOf(with, nil); got == nil || *got != of {
		t.Errorf("by status: %+v", got)
	}
	if got := Claim(with, "a-0001").Annotations; got[v1alpha1.AnnotationSurvivor] != of.String() || got[v1alpha1.AnnotationRecovery] != "" {
		t.Errorf("the founder's claim says %v", got)
	}
	lost := cluster(restored)
	if got := SurvivorOf(lost, record); got == nil || *got != of {
		t.Errorf("by the claim: %+v", got)
	}
	for _, broken := range []string{"", "a-0000", "x/a-0000/0ld", "1/a/b/c"} {
		if got := SurvivorOf(lost, map[string]string{v1alpha1.AnnotationSurvivor: broken}); got != nil {
			t.Errorf("of %q: %+v", broken, got)
		}
	}
	backup := cluster(fromSurvivor, func(c *v1alpha1.EtcdCluster) {
		c.Status.Recovery.Survivor, c.Status.Recovery.BackupName = nil, "nightly"
	})
	if got := SurvivorOf(backup, record); got != nil {
		t.Errorf("of one that began with a backup: %+v", got)
	}
	later := cluster(fromSurvivor, func(c *v1alpha1.EtcdCluster) { c.Status.Incarnation = 3 })
	if got := SurvivorOf(later, nil); got != nil {
		t.Errorf("of the incarnation after: %+v", got)
	}
}

// TestSurvivorBlocked: what is not the survivor's volume any more is not copied.
func TestSurvivorBlocked(t *testing.T) {
	c := cluster(fromSurvivor)
	whole := func() *corev1.PersistentVolumeClaim {
		claim := Claim(cluster(), "a-0000")
		claim.UID, claim.Status.Phase = "0ld", corev1.ClaimBound
		return claim
	}
	edited := func(change func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
		claim := whole()
		change(claim)
		return claim
	}
	for name, tc := range map[string]struct {
		claim *corev1.PersistentVolumeClaim
		says  string
	}{
		"it is there":            {whole(), ""},
		"it is gone":             {nil, "does not exist any more"},
		"it was made anew":       {edited(func(p *corev1.PersistentVolumeClaim) { p.UID = "new" }), "was made anew"},
		"it is another's":        {edited(func(p *corev1.PersistentVolumeClaim) { p.Labels[v1alpha1.LabelClusterUID] = "x" }), "was made anew"},
		"its volume is gone":     {edited(func(p *corev1.PersistentVolumeClaim) { p.Status.Phase = corev1.ClaimLost }), "is Lost"},
		"it is about to be gone": {edited(func(p *corev1.PersistentVolumeClaim) { now := metav1.Now(); p.DeletionTimestamp = &now }), "being deleted"},
	} {
		got := SurvivorBlocked(c, *SurvivorOf(c, nil), tc.claim)
		if (got == "") != (tc.says == "") || !strings.Contains(got, tc.says) || (got != "" && strings.Count(got, " — ") != 2) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestSurvivorUnfit: a copy is opened by the minor release that wrote it.
func TestSurvivorUnfit(t *testing.T) {
	for name, tc := range map[string]struct {
		ran, version, says string
	}{
		"the same":            {"3.6.16", "3.6.16", ""},
		"another patch":       {"3.6.2", "3.6.16", ""},
		"a later release":     {"3.5.35", "3.6.16", "set spec.version to a release of 3.5"},
		"an earlier release":  {"3.7.3", "3.6.16", "set spec.version to a release of 3.7"},
		"it is not known":     {"", "3.6.16", ""},
		"one that drops data": {"3.6.0", "3.6.0", "set spec.version to 3.6.1 or later"},
	} {
		c := cluster(version(tc.version))
		c.Status.Members = []v1alpha1.MemberStatus{{Name: "a-0000", Version: tc.ran}, {Name: "a-0001", Version: "3.4.1"}}
		got := SurvivorUnfit(c, "a-0000")
		if (got == "") != (tc.says == "") || !strings.Contains(got, tc.says) || (got != "" && strings.Count(got, " — ") != 2) {
			t.Errorf("%s: %q", name, got)
		}
	}
}
