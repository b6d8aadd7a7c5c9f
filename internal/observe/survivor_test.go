package observe

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/internal/snapshot"
)

// TestPositions: who answers tells how far it has come, and who does not any more is as far as
// status says; and who was a learner is known without a list.
func TestPositions(t *testing.T) {
	seen := plan.Observed{Members: []plan.Member{
		{Name: "a-0000", Answers: true, Term: 4, Applied: 90, Revision: 80},
		{Name: "a-0001"},
		{Name: "a-0002"},
		{Name: "a-0003", Listed: true},
	}}
	c := &v1alpha1.EtcdCluster{}
	c.Status.Members = []v1alpha1.MemberStatus{
		{Name: "a-0000", Position: &v1alpha1.MemberPosition{Index: 7}},
		{Name: "a-0001", Position: &v1alpha1.MemberPosition{Term: 3, Index: 70, Revision: 60}},
		{Name: "a-0002", Role: v1alpha1.RoleLearner},
		{Name: "a-0003", Role: v1alpha1.RoleLearner},
	}
	recallPositions(c, &seen)
	for i, want := range []plan.Position{{Term: 4, Index: 90, Revision: 80}, {Term: 3, Index: 70, Revision: 60}, {}, {}} {
		if m := seen.Members[i]; m.Position != want || m.WasLearner != (i == 2) {
			t.Errorf("%s is at %+v, was a learner: %v", m.Name, m.Position, m.WasLearner)
		}
	}
}

// TestAWordForASurvivor counts without any backup, and not for a release that cannot open the
// survivor's data.
func TestAWordForASurvivor(t *testing.T) {
	w := bereft(t)
	w.cluster.Spec.Recovery = &v1alpha1.RecoverySpec{Incarnation: 1, Survivor: "a-0000"}
	if r := w.see().Recovery; r == nil || r.Survivor != "a-0000" || r.Backup != "" || r.Blocked != "" {
		t.Errorf("the word is %+v", r)
	}
	w.cluster.Status.Members = []v1alpha1.MemberStatus{{Name: "a-0000", Version: "3.5.35"}}
	if r := w.see().Recovery; r == nil || !strings.Contains(r.Blocked, "ran etcd 3.5.35") {
		t.Errorf("with another release: %+v", r)
	}
	w.cluster.Status.VoidRecovery = "1/survivor/a-0000"
	if seen := w.see(); seen.Recovery != nil || !seen.RecoveryVoid {
		t.Errorf("void, it is %+v", seen.Recovery)
	}
}

// TestAPodThatHasTheSurvivorsVolume is outdated once the cluster is founded: it tells what it
// has found there, and needs it no more.
func TestAPodThatHasTheSurvivorsVolume(t *testing.T) {
	w := founded(t)
	var pod *corev1.Pod
	for _, o := range w.objects {
		if p, is := o.(*corev1.Pod); is && p.Name == "a-0000" {
			pod = p
		}
	}
	outdated := func() bool {
		m, _ := w.see().Member("a-0000")
		return m.PodOutdated
	}
	if outdated() {
		t.Error("it is outdated without one")
	}
	pod.Annotations[v1alpha1.AnnotationSurvivor] = "1/a-0009/0ld"
	said := snapshot.Result{
		Operation: snapshot.OperationRecover, Outcome: snapshot.OutcomeSucceeded, Reason: snapshot.ReasonRecovered,
		Survivor: &snapshot.Survivor{Term: 3, Index: 90, Uncommitted: 2, Revision: 80},
	}
	pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{
		Name: resources.RestoreContainer, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Message: string(said.Encode())}},
	}}
	if !outdated() {
		t.Error("it would need the survivor's claim for ever")
	}
	want := plan.Copied{Position: plan.Position{Term: 3, Index: 90, Revision: 80}, Uncommitted: 2}
	if got := w.see().Copied; got == nil || *got != want {
		t.Errorf("copied is %+v", got)
	}
	w.cluster.Status.ClusterID = ""
	if outdated() {
		t.Error("the volume may not be filled yet")
	}
}
