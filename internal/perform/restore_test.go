package perform

import (
	"errors"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/member"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// aBackup that may be restored.
func aBackup() *v1alpha1.EtcdBackup {
	b := &v1alpha1.EtcdBackup{ObjectMeta: metav1.ObjectMeta{Name: "b", Namespace: "ns"}}
	b.Spec.Store.S3 = &v1alpha1.S3Store{Bucket: "backups"}
	b.Status.ClusterUID, b.Status.ID, b.Status.EtcdVersion = "0ld", "the-id", "3.6.16"
	for _, kind := range []string{v1alpha1.ConditionComplete, v1alpha1.ConditionVerified, v1alpha1.ConditionReady} {
		meta.SetStatusCondition(&b.Status.Conditions, metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonVerified})
	}
	return b
}

// restoring is a world whose cluster begins with that backup.
func restoring(t *testing.T, changes ...func(*world)) *world {
	t.Helper()
	w := newWorld(t, claim(), aBackup())
	w.cluster.Spec.RestoreFrom = &v1alpha1.RestoreSource{BackupName: "b"}
	for _, change := range changes {
		change(w)
	}
	return w
}

// start a founder on its volume, with an operator that has the image.
func (w *world) start(image string) (*corev1.Pod, error) {
	w.t.Helper()
	p := &Performer{Writer: w.api, Live: w.api, GuardImage: "guard:v0", BackupImage: image}
	if err := p.Perform(w.t.Context(), w.cluster, w.seen, plan.Step{Kind: plan.StartMembers, Members: []string{name}}); err != nil {
		return nil, err
	}
	pod := &corev1.Pod{}
	if !w.get(pod, name) {
		w.t.Fatal("there is no pod")
	}
	return pod, nil
}

func fills(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == resources.RestoreContainer })
}

// TestRestore: a founder's volume is filled before the guard looks, and the guard does
// not take an empty one.
func TestRestore(t *testing.T) {
	pod, err := restoring(t).start("backup:v0")
	if err != nil {
		t.Fatal(err)
	}
	if !fills(pod) || pod.Annotations[v1alpha1.AnnotationRestore] != "the-id" || pod.Annotations[member.AnnotationMayBeEmpty] != "false" {
		t.Errorf("init containers %d, annotations %v", len(pod.Spec.InitContainers), pod.Annotations)
	}
}

// TestNothingIsRestoredOver: a member that has started, or may have, is never filled
// from a backup: its log would be older than what it has promised.
func TestNothingIsRestoredOver(t *testing.T) {
	cases := map[string]func(*world){
		"the cluster is founded": func(w *world) {
			w.cluster.Status.ClusterID = "c1"
			live := w.cluster.DeepCopy()
			if err := w.api.Status().Update(w.t.Context(), live); err != nil {
				w.t.Fatal(err)
			}
		},
		"etcd lists it as started": func(w *world) { w.seen.List, w.seen.Members[0].Listed, w.seen.Members[0].Started = true, true, true },
		"it joined later":          func(w *world) { w.seen.Members[0].Founder = false },
		"there is no backup asked": func(w *world) { w.cluster.Spec.RestoreFrom = nil },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			pod, err := restoring(t, change).start("backup:v0")
			if err != nil {
				t.Fatal(err)
			}
			if fills(pod) || pod.Annotations[v1alpha1.AnnotationRestore] != "" {
				t.Errorf("its volume would be filled: %v", pod.Annotations)
			}
		})
	}
	for name, record := range map[string]string{"its ID is on record": v1alpha1.AnnotationMemberID, "it has booted": v1alpha1.AnnotationBooted} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, claim(annotated(record, "c1")), aBackup())
			w.cluster.Spec.RestoreFrom = &v1alpha1.RestoreSource{BackupName: "b"}
			pod, err := w.start("backup:v0")
			if err != nil {
				t.Fatal(err)
			}
			if fills(pod) {
				t.Error("its volume would be filled")
			}
		})
	}
}

// TestBlockedRestore: without the backup nobody starts, empty or not.
func TestBlockedRestore(t *testing.T) {
	cases := map[string]struct {
		change func(*v1alpha1.EtcdBackup)
		want   string
	}{
		"not complete": {func(b *v1alpha1.EtcdBackup) { b.Status.Conditions = nil }, "is not complete"},
		"not verified": {func(b *v1alpha1.EtcdBackup) {
			meta.RemoveStatusCondition(&b.Status.Conditions, v1alpha1.ConditionVerified)
		}, "is not verified"},
		"of a newer etcd": {func(b *v1alpha1.EtcdBackup) { b.Status.EtcdVersion = "3.7.3" }, "was taken from etcd 3.7.3"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b := aBackup()
			tc.change(b)
			w := newWorld(t, claim(), b)
			w.cluster.Spec.RestoreFrom = &v1alpha1.RestoreSource{BackupName: "b"}
			if _, err := w.start("backup:v0"); !errors.Is(err, ErrStale) || !strings.Contains(err.Error(), tc.want) || len(w.writes) > 0 {
				t.Errorf("StartMembers = %v, wrote %v", err, w.writes)
			}
		})
	}
	w := restoring(t, func(w *world) { w.cluster.Spec.RestoreFrom.BackupName = "none" })
	if _, err := w.start("backup:v0"); !errors.Is(err, ErrStale) || len(w.writes) > 0 {
		t.Errorf("without the backup: %v, wrote %v", err, w.writes)
	}
	w = restoring(t)
	if _, err := w.start(""); !errors.Is(err, resources.ErrNoBackupImage) || len(w.writes) > 0 {
		t.Errorf("without the image: %v, wrote %v", err, w.writes)
	}
}

// TestRestoreIsTakenBack once the member has started, together with every other
// permission to begin anew.
func TestRestoreIsTakenBack(t *testing.T) {
	p := pod(annotated(v1alpha1.AnnotationRestore, "the-id"), annotated(member.AnnotationMayBeEmpty, "false"), running)
	w := newWorld(t, claim(), p)
	w.seen.List = true
	w.seen.Members[0] = plan.Member{Name: name, Founder: true, Listed: true, Started: true, ID: 7, PodUID: string(p.UID), Volume: plan.VolumeBound, Pod: plan.PodRunning}
	if err := w.perform(plan.RecordMembers, name); err != nil {
		t.Fatal(err)
	}
	after := &corev1.Pod{}
	if !w.get(after, name) || after.Annotations[v1alpha1.AnnotationRestore] != "" || after.Annotations[member.AnnotationMayBeEmpty] != "false" {
		t.Errorf("annotations %v", after.Annotations)
	}
}

// TestCopy: a founder's volume is filled with a copy of the survivor's, which the API server
// still has; also when status has lost whose it was, and the founder's claim names it.
func TestCopy(t *testing.T) {
	survivor := func(uid string) client.Object {
		return claim(ofMember("a-0009"), func(o client.Object) { o.SetUID(types.UID(uid)) })
	}
	byStatus := func(w *world) {
		w.cluster.Status.Incarnation = 2
		w.cluster.Status.Recovery = &v1alpha1.RecoveryStatus{Incarnation: 2, Survivor: &v1alpha1.SurvivorStatus{Name: "a-0009", VolumeUID: "0ld", Incarnation: 1}}
	}
	byClaim := func(w *world) { w.cluster.Status.Incarnation = 2 }
	record := annotated(v1alpha1.AnnotationSurvivor, "1/a-0009/0ld")
	for name, tc := range map[string]struct {
		objects []client.Object
		change  func(*world)
		done    bool
	}{
		"by status":         {[]client.Object{claim(reborn), survivor("0ld")}, byStatus, true},
		"by the claim":      {[]client.Object{claim(reborn, record), survivor("0ld")}, byClaim, true},
		"nobody says whose": {[]client.Object{claim(reborn), survivor("0ld")}, byClaim, false},
		"it is gone":        {[]client.Object{claim(reborn)}, byStatus, false},
		"it was made anew":  {[]client.Object{claim(reborn), survivor("new")}, byStatus, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tc.objects...)
			tc.change(w)
			pod, err := w.start("backup:v0")
			if tc.done != (err == nil) || (tc.done && (!fills(pod) || pod.Annotations[v1alpha1.AnnotationRestore] != "a-0009/0ld" || pod.Annotations[member.AnnotationMayBeEmpty] != "false")) {
				t.Errorf("StartMembers = %v, pod %+v", err, pod)
			}
			if tc.done {
				if _, err := w.start(""); err != nil && !errors.Is(err, resources.ErrNoBackupImage) {
					t.Errorf("without the image: %v", err)
				}
			}
		})
	}
}
