package sim

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/resources"
)

// lostWithoutBackup has a cluster of three of which two volumes are gone for good.
func lostWithoutBackup(mutate func(*v1alpha1.EtcdClusterSpec)) func(*World) {
	return func(w *World) {
		founded(mutate)(w)
		deleteTwo(w)
		if !w.Run(w.tellsLoss, time.Minute) {
			panic("nobody tells of the lost quorum:\n" + w.Notes(100))
		}
	}
}

func goOnWith(survivor string) func(*World) {
	return func(w *World) {
		w.Apply(func(s *v1alpha1.EtcdClusterSpec) {
			s.Recovery = &v1alpha1.RecoverySpec{Incarnation: 1, Survivor: survivor}
		})
	}
}

// goneOn says that the new incarnation serves with as many members as it is to have, and that
// none of them needs the survivor's volume any more.
func goneOn(w *World) bool {
	c := w.Cluster()
	if !recovered(w) || int(c.Status.Replicas) != int(c.Spec.Size) {
		return false
	}
	for _, o := range w.API.all("Pod") {
		if resources.MountsSurvivor(o.(*corev1.Pod)) {
			return false
		}
	}
	return true
}

// TestTheSurvivorIsKept: its claim is there, untouched, the new incarnation was begun by one
// member whose volume is a copy, and status says so; also after the loss of status.
func TestTheSurvivorIsKept(t *testing.T) {
	f := workflow{name: "recovering from the survivor", before: lostWithoutBackup(spec(3, plaintext)), begin: goOnWith("c-0000"), done: goneOn}
	w := f.start()
	old := f.finishKeeping(t, w)
	s := w.Cluster().Status
	if got := strings.Join(s.Founders, ","); got != "c-0003" {
		t.Errorf("the founders are %s", got)
	}
	volume := w.nodes.volume(w.Claim("c-0003").Spec.VolumeName)
	if !volume.restored || volume.from != old.Spec.VolumeName {
		t.Errorf("c-0003 began with %q", volume.from)
	}
	of := s.Recovery.Survivor
	if of == nil || of.Name != "c-0000" || of.VolumeUID != string(old.UID) || !of.Copied || of.Index != 77 || of.Revision != 70 || of.Uncommitted != 3 || !strings.Contains(s.Recovery.PossibleLoss, "never reached c-0000") {
		t.Errorf("status.recovery is %+v", of)
	}
	want := fmt.Sprintf("1/c-0000/%s", old.UID)
	if got := w.Claim("c-0003").Annotations[v1alpha1.AnnotationSurvivor]; got != want {
		t.Errorf("the claim of the founder says %q, want %q", got, want)
	}
	if v := w.Violations(); len(v) > 0 {
		t.Errorf("broke %v", v)
	}
	w.LoseStatus()
	w.For(30 * time.Second)
	if s := w.Cluster().Status; s.Incarnation != 2 || !w.Healthy() {
		t.Errorf("after the loss of status the incarnation is %d", s.Incarnation)
	}
	deleteClaim(w, "c-0000")
	w.For(time.Minute)
	if w.Claim("c-0000") != nil || !w.Healthy() {
		t.Errorf("the survivor's claim can be deleted: %v; healthy %v", w.Claim("c-0000") == nil, w.Healthy())
	}
}

// TestNoOtherSurvivorIsGoneOnWith than one that has voted, whose volume is there and that no
// other has passed. Nobody is stopped for it.
func TestNoOtherSurvivorIsGoneOnWith(t *testing.T) {
	for name, survivor := range map[string]string{"a member without a volume": "c-0001", "nobody": "c-0009", "a name of nobody's": "d-0000"} {
		t.Run(name, func(t *testing.T) {
			w := newborn()
			w.StartOperator()
			lostWithoutBackup(spec(3, plaintext))(w)
			first := w.Pod("c-0000").UID
			goOnWith(survivor)(w)
			w.For(2 * time.Minute)
			c := w.Cluster()
			if pod := w.Pod("c-0000"); c.Status.Incarnation != 1 || pod == nil || pod.UID != first {
				t.Errorf("incarnation %d, and c-0000 is %v", c.Status.Incarnation, pod)
			}
			stalled := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionStalled)
			if stalled == nil || stalled.Reason != v1alpha1.ReasonRecoveryBlocked || !strings.Contains(stalled.Message, "set spec.recovery.survivor to c-0000") || strings.Count(stalled.Message, " — ") != 2 {
				t.Errorf("Stalled is %+v", stalled)
			}
		})
	}
}

// TestASurvivorThatCannotBeRead: no other survivor is gone on with once the incarnation has
// begun, and nothing is stopped for it; a backup is, if nobody of that incarnation has ever
// lived. The old volumes of all of them stay.
func TestASurvivorThatCannotBeRead(t *testing.T) {
	w := newborn()
	w.StartOperator()
	founded(spec(5, plaintext))(w)
	for _, m := range []string{"c-0002", "c-0003", "c-0004"} {
		deleteClaim(w, m)
		deletePod(w, m)
	}
	w.Run(w.tellsLoss, time.Minute)
	goOnWith("c-0000")(w)
	if !w.Run(func() bool { return w.Cluster().Status.Incarnation == 2 }, time.Minute) {
		t.Fatalf("the incarnation does not begin:\n%s", w.Notes(100))
	}
	w.Wipe("c-0000", WipeLog)
	w.For(30 * time.Second)
	pod := w.Pod("c-0005")
	if pod == nil || w.Healthy() {
		t.Fatalf("the copy did not fail: c-0005 is %v\n%s", pod, w.Notes(60))
	}
	old := w.claimUIDs()

	w.Apply(func(s *v1alpha1.EtcdClusterSpec) {
		s.Recovery = &v1alpha1.RecoverySpec{Incarnation: 2, Survivor: "c-0001"}
	})
	w.For(time.Minute)
	c := w.Cluster()
	stalled := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionStalled)
	if now := w.Pod("c-0005"); c.Status.Incarnation != 2 || now == nil || now.UID != pod.UID {
		t.Errorf("incarnation %d, and c-0005 is %v", c.Status.Incarnation, now)
	}
	if stalled == nil || stalled.Reason != v1alpha1.ReasonRecoveryBlocked || !strings.Contains(stalled.Message, "name an EtcdBackup") || strings.Count(stalled.Message, " — ") != 2 {
		t.Errorf("Stalled is %+v", stalled)
	}

	backedUpAs(w, "weekly")
	recoverWith(2, "weekly")(w)
	if !w.Run(func() bool { return recoveredAgain(w) && w.Cluster().Status.Replicas == 5 }, patience) || len(w.Violations()) > 0 {
		t.Fatalf("broke %v\n%s", w.Violations(), w.Notes(100))
	}
	now := w.claimUIDs()
	for claim, uid := range old {
		if now[claim] != uid {
			t.Errorf("the volume %s is gone", claim)
		}
	}
}
