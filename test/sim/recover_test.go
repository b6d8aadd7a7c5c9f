package sim

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/internal/snapshot"
)

// backedUp has a verified backup of the cluster in the store.
func backedUp(w *World) { backedUpAs(w, "nightly") }

func backedUpAs(w *World, name string) {
	b := &v1alpha1.EtcdBackup{ObjectMeta: metav1.ObjectMeta{Namespace: w.Key.Namespace, Name: name}}
	b.Spec.ClusterRef.Name, b.Spec.Store.S3 = w.Key.Name, &v1alpha1.S3Store{Bucket: "backups"}
	b.Status.ID, b.Status.EtcdVersion, b.Status.ClusterUID = "the-id", "3.6.16", resources.ClusterUID(w.Cluster())
	for _, kind := range []string{v1alpha1.ConditionComplete, v1alpha1.ConditionVerified, v1alpha1.ConditionReady} {
		meta.SetStatusCondition(&b.Status.Conditions, metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonVerified})
	}
	w.must(w.API.Create(b))
}

// lostOf has a cluster of three of which two volumes are gone for good, and a backup.
func lostOf(mutate func(*v1alpha1.EtcdClusterSpec)) func(*World) {
	return func(w *World) {
		founded(mutate)(w)
		backedUp(w)
		deleteTwo(w)
		if !w.Run(w.tellsLoss, time.Minute) {
			panic("nobody tells of the lost quorum:\n" + w.Notes(100))
		}
	}
}

func lost(w *World) { lostOf(spec(3, plaintext))(w) }

func recover3(incarnation int64) func(*World) { return recoverWith(incarnation, "nightly") }

func recoverWith(incarnation int64, backup string) func(*World) {
	return func(w *World) {
		w.Apply(func(s *v1alpha1.EtcdClusterSpec) {
			s.Recovery = &v1alpha1.RecoverySpec{Incarnation: incarnation, BackupName: backup}
		})
	}
}

// neverFounded has an incarnation that began with a backup which nobody can restore, and
// another backup.
func neverFounded(w *World) {
	lost(w)
	w.editBackup(func(b *v1alpha1.EtcdBackup) { b.Status.ID = brokenBackup })
	recover3(1)(w)
	begun := func() bool { return w.Cluster().Status.Incarnation == 2 && w.Pod("c-0005") != nil }
	if !w.Run(begun, time.Minute) {
		panic("the incarnation does not begin:\n" + w.Notes(100))
	}
	w.For(5 * time.Second)
	backedUpAs(w, "weekly")
}

// goneAtOnce has an incarnation that began with a backup which is gone, and another backup.
func goneAtOnce(w *World) {
	lost(w)
	recover3(1)(w)
	if !w.Run(func() bool { return w.Cluster().Status.Incarnation == 2 }, time.Minute) {
		panic("the incarnation does not begin:\n" + w.Notes(100))
	}
	w.Delete(w.API.all("EtcdBackup")[0])
	w.For(20 * time.Second)
	backedUpAs(w, "weekly")
}

// recoveredAgain says that the incarnation after the next one serves.
func recoveredAgain(w *World) bool { return w.Cluster().Status.Incarnation == 3 && w.Healthy() }

// recovered says that a new incarnation serves.
func recovered(w *World) bool { return w.Cluster().Status.Incarnation == 2 && w.Healthy() }

func recoveries() []workflow {
	return []workflow{
		{name: "recovering from a lost quorum", every: true, faults: true, shared: true, before: lost, begin: recover3(1), done: recovered},
		{name: "recovering from the survivor", long: true, shared: true, end: (*World).Shape, before: lostWithoutBackup(spec(3, plaintext)), begin: goOnWith("c-0000"), done: goneOn},
		{
			// How it grows afterwards is the same for whatever it began with.
			name: "recovering one from the survivor", every: true, faults: true, before: lostWithoutBackup(spec(3, plaintext)), begin: func(w *World) {
				w.Apply(func(s *v1alpha1.EtcdClusterSpec) {
					s.Size, s.Recovery = 1, &v1alpha1.RecoverySpec{Incarnation: 1, Survivor: "c-0000"}
				})
			}, done: goneOn,
		},
		{name: "recovering from the survivor with TLS", long: true, end: (*World).Shape, before: lostWithoutBackup(spec(3)), begin: goOnWith("c-0000"), done: goneOn},
		{name: "recovering from the survivor of five", long: true, end: (*World).Shape, before: func(w *World) {
			founded(spec(5, plaintext))(w)
			for _, m := range []string{"c-0001", "c-0002", "c-0003"} {
				deleteClaim(w, m)
				deletePod(w, m)
			}
			w.Run(w.tellsLoss, time.Minute)
		}, begin: goOnWith("c-0004"), done: goneOn},
		{name: "recovering with TLS", long: true, before: lostOf(spec(3)), begin: recover3(1), done: recovered},
		{name: "recovering while TLS is turned on", long: true, before: func(w *World) {
			founded(spec(3, plaintext))(w)
			backedUp(w)
			w.Apply(func(s *v1alpha1.EtcdClusterSpec) { s.TLS.Mode = v1alpha1.TLSOptional })
			w.For(4 * time.Second)
			deleteTwo(w)
			w.Run(w.tellsLoss, time.Minute)
		}, begin: recover3(1), done: recovered},
		{name: "recovering one", long: true, before: func(w *World) {
			founded(spec(1, plaintext))(w)
			backedUp(w)
			deleteClaim(w, "c-0000")
			deletePod(w, "c-0000")
			w.Run(w.tellsLoss, time.Minute)
		}, begin: recover3(1), done: recovered},
		{
			// The first word is taken back and another one said while the survivor stops.
			name: "recovering with another backup after all", long: true, before: lost, begin: func(w *World) {
				recover3(1)(w)
				w.After(11*time.Second, func() { w.Apply(func(s *v1alpha1.EtcdClusterSpec) { s.Recovery = nil }) })
				w.After(12*time.Second, func() { recover3(1)(w) })
			}, done: recovered,
		},
		{name: "recovering again from what was never founded", every: true, faults: true, before: neverFounded, begin: recoverWith(2, "weekly"), done: recoveredAgain},
		{name: "recovering again from a backup that is gone", long: true, before: goneAtOnce, begin: recoverWith(2, "weekly"), done: recoveredAgain},
		{name: "recovering at once", long: true, before: founded(spec(3, plaintext)), begin: func(w *World) {
			backedUp(w)
			recover3(1)(w)
			deleteTwo(w)
			// It was said while the cluster served, and is void; said again it counts.
			w.After(time.Minute, func() { w.Apply(func(s *v1alpha1.EtcdClusterSpec) { s.Recovery = nil }) })
			w.After(2*time.Minute, func() { recover3(1)(w) })
		}, done: recovered},
	}
}

// TestNothingIsRecoveredByItself: without the user's word, with one for another
// incarnation, with one that was said while the cluster served, with a backup that is not
// there, and while most of the old members may still run, there is no new incarnation; and
// in all but the last two nobody is stopped.
func TestNothingIsRecoveredByItself(t *testing.T) {
	cases := map[string]struct {
		before, begin func(*World)
		stops         bool
		says          string
	}{
		"no word":                 {lost, func(*World) {}, false, v1alpha1.ReasonDataMissing},
		"for another incarnation": {lost, recover3(2), false, v1alpha1.ReasonDataMissing},
		"no such backup": {lost, func(w *World) {
			w.Delete(w.API.all("EtcdBackup")[0])
			recover3(1)(w)
		}, false, v1alpha1.ReasonRecoveryBlocked},
		"not verified": {func(w *World) {
			lost(w)
			w.unverify()
		}, recover3(1), false, v1alpha1.ReasonRecoveryBlocked},
		"its backup cannot be read": {func(w *World) {
			lost(w)
			w.Unreadable["the-id"] = snapshot.ReasonKeyMissing
		}, recover3(1), false, v1alpha1.ReasonRecoveryBlocked},
		"its store does not answer": {func(w *World) {
			lost(w)
			w.Unreadable["the-id"] = snapshot.ReasonStoreUnreachable
		}, recover3(1), false, v1alpha1.ReasonRecoveryBlocked},
		"another backup was read": {func(w *World) {
			lost(w)
			backedUpAs(w, "weekly")
			w.Unreadable["the-id"] = snapshot.ReasonCorrupt
			w.editBackup(func(b *v1alpha1.EtcdBackup) { b.Status.ID = "nightly-id" })
		}, func(w *World) {
			recover3(1)(w)
			if !w.Run(func() bool { return len(w.API.all("Job")) == 1 }, time.Minute) {
				panic("nobody reads the first backup:\n" + w.Notes(100))
			}
			recoverWith(1, "weekly")(w)
		}, false, v1alpha1.ReasonRecoveryBlocked},
		"of another cluster": {func(w *World) {
			lost(w)
			w.editBackup(func(b *v1alpha1.EtcdBackup) { b.Spec.ClusterRef.Name = "d" })
		}, recover3(1), false, v1alpha1.ReasonRecoveryBlocked},
		"it serves":     {func(w *World) { founded(spec(3, plaintext))(w); backedUp(w) }, recover3(1), false, v1alpha1.ReasonRecoveryVoid},
		"it has served": {func(w *World) { founded(spec(3, plaintext))(w); backedUp(w); recover3(1)(w); w.For(20 * time.Second) }, deleteTwo, false, v1alpha1.ReasonDataMissing},
		"two may still run": {func(w *World) { founded(spec(3, plaintext))(w); backedUp(w) }, func(w *World) {
			for _, node := range []string{w.NodeOf("c-0001"), w.NodeOf("c-0002")} {
				w.CutOff(node)
			}
			w.After(30*time.Second, func() {
				w.ForceDelete("c-0001")
				w.ForceDelete("c-0002")
				recover3(1)(w)
			})
		}, true, v1alpha1.ReasonRecoveryBlocked},
		"two may still run, and have no claims": {func(w *World) { founded(spec(3, plaintext))(w); backedUp(w) }, func(w *World) {
			for _, m := range []string{"c-0001", "c-0002"} {
				w.CutOff(w.NodeOf(m))
			}
			w.After(30*time.Second, func() {
				for _, m := range []string{"c-0001", "c-0002"} {
					w.ForceDelete(m)
					deleteClaim(w, m)
				}
				recover3(1)(w)
			})
		}, true, v1alpha1.ReasonRecoveryBlocked},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := newborn()
			w.StartOperator()
			tc.before(w)
			first := w.Pod("c-0000").UID
			tc.begin(w)
			w.For(3 * time.Minute)
			c := w.Cluster()
			if c.Status.Incarnation != 1 || c.Status.ClusterID == "" || c.Status.Recovery != nil {
				t.Errorf("the incarnation is %d, with recovery %+v", c.Status.Incarnation, c.Status.Recovery)
			}
			if pod := w.Pod("c-0000"); !tc.stops && (pod == nil || pod.UID != first) {
				t.Errorf("c-0000 was stopped")
			}
			if stalled := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionStalled); tc.says != "" && (stalled == nil || stalled.Reason != tc.says || strings.Count(stalled.Message, " — ") != 2) {
				t.Errorf("Stalled is %+v, want %s", stalled, tc.says)
			}
			if v := w.Violations(); len(v) > 0 {
				t.Errorf("broke %v\n%s", v, w.Notes(60))
			}
		})
	}
}

// editBackup changes the backup in the store's record.
func (w *World) editBackup(change func(*v1alpha1.EtcdBackup)) {
	b := w.API.all("EtcdBackup")[0].DeepCopyObject().(*v1alpha1.EtcdBackup)
	change(b)
	w.Delete(b)
	b.ResourceVersion, b.UID = "", ""
	w.must(w.API.Create(b))
}

func (w *World) unverify() {
	w.editBackup(func(b *v1alpha1.EtcdBackup) {
		meta.RemoveStatusCondition(&b.Status.Conditions, v1alpha1.ConditionVerified)
	})
}

// TestAnUnverifiedBackupIsTakenWhenTheUserSaysSo, and only then.
func TestAnUnverifiedBackupIsTakenWhenTheUserSaysSo(t *testing.T) {
	f := workflow{name: "recovering from what nobody has tried", done: recovered, before: func(w *World) {
		lost(w)
		w.unverify()
	}, begin: func(w *World) {
		recover3(1)(w)
		w.After(30*time.Second, func() {
			if c := w.Cluster(); c.Status.Incarnation != 1 || w.Pod("c-0000") == nil {
				w.check.violate("unverified", "incarnation %d, and the survivor was stopped", c.Status.Incarnation)
			}
			w.Apply(func(s *v1alpha1.EtcdClusterSpec) { s.Recovery.AllowUnverified = true })
		})
	}}
	if err := f.finish(f.start()); err != nil {
		t.Fatal(err)
	}
}

// TestAWordTakenBackLetsTheOldOnesGoOn: until the next incarnation has begun the pods that
// were stopped come back on their volumes.
func TestAWordTakenBackLetsTheOldOnesGoOn(t *testing.T) {
	f := workflow{name: "three with a backup", before: func(w *World) { founded(spec(3, plaintext))(w); backedUp(w) }}
	w := f.start()
	first := map[string]string{}
	nodes := []string{w.NodeOf("c-0001"), w.NodeOf("c-0002")}
	for _, node := range nodes {
		w.CutOff(node)
	}
	for _, m := range []string{"c-0000", "c-0001", "c-0002"} {
		first[m] = string(w.Claim(m).UID)
	}
	w.For(time.Minute)
	recover3(1)(w)
	w.For(20 * time.Second)
	if c := w.Cluster(); c.Status.Incarnation != 1 || c.Status.ObeyedRecovery != "1/nightly" || w.Pod("c-0000") != nil {
		t.Fatalf("incarnation %d, obeyed %q, and c-0000 is there: %v\n%s", c.Status.Incarnation, c.Status.ObeyedRecovery, w.Pod("c-0000") != nil, w.Notes(60))
	}
	w.Apply(func(s *v1alpha1.EtcdClusterSpec) { s.Recovery = nil })
	for _, node := range nodes {
		w.Reconnect(node)
	}
	if !w.Run(w.Healthy, 5*time.Minute) || len(w.Violations()) > 0 {
		t.Fatalf("broke %v\n%s", w.Violations(), w.Notes(100))
	}
	s := w.Cluster().Status
	if s.Incarnation != 1 || s.ObeyedRecovery != "" || s.Recovery != nil {
		t.Errorf("status is %+v", s)
	}
	for m, uid := range first {
		if now := w.Claim(m); now == nil || string(now.UID) != uid {
			t.Errorf("%s has lost its volume", m)
		}
	}
}

// TestAStaleNodeCacheBeginsNoIncarnation: two members are cut off, and their pods and claims
// deleted by force, before the operator has heard that their nodes are lost. They may be a
// quorum still.
func TestAStaleNodeCacheBeginsNoIncarnation(t *testing.T) {
	f := workflow{name: "three with a backup", before: func(w *World) { founded(spec(3, plaintext))(w); backedUp(w) }}
	w := f.start()
	w.Operator().HoldBack("Node")
	for _, m := range []string{"c-0001", "c-0002"} {
		w.CutOff(w.NodeOf(m))
	}
	for _, m := range []string{"c-0001", "c-0002"} {
		w.ForceDelete(m)
		deleteClaim(w, m)
	}
	if !w.Run(w.tellsLoss, 2*time.Minute) {
		t.Fatalf("nobody tells of it\n%s", w.Notes(60))
	}
	recover3(1)(w)
	w.For(2 * time.Minute)
	if c := w.Cluster(); c.Status.Incarnation != 1 || len(w.Violations()) > 0 {
		t.Errorf("incarnation %d, broke %v\n%s", c.Status.Incarnation, w.Violations(), w.Notes(60))
	}
}

// TestABackupIsReadBeforeAnybodyStops: the survivor goes on, and a pod that is missing is started,
// until it has been; a backup that cannot be read is read again when that may have passed, and
// no Job is left over.
func TestABackupIsReadBeforeAnybodyStops(t *testing.T) {
	w := recoveries()[0].start()
	w.Unreadable["the-id"] = snapshot.ReasonStoreUnreachable
	jobs := func() int { return len(w.API.all("Job")) }
	recover3(1)(w)
	if !w.Run(func() bool { return jobs() == 1 }, time.Minute) {
		t.Fatalf("nobody reads it\n%s", w.Notes(60))
	}
	deletePod(w, "c-0000")
	if !w.Run(func() bool { return w.Pod("c-0000") != nil && w.Pod("c-0000").DeletionTimestamp == nil }, readingTakes) {
		t.Errorf("the survivor is not started again while the backup is read\n%s", w.Notes(60))
	}
	w.For(time.Minute)
	first := w.Pod("c-0000").UID
	w.Apply(func(s *v1alpha1.EtcdClusterSpec) { s.Recovery = nil })
	if !w.Run(func() bool { return jobs() == 0 }, 10*time.Second) {
		t.Errorf("the word was taken back, and its Job is there\n%s", w.Notes(60))
	}
	recover3(1)(w)
	w.For(time.Minute)
	if pod := w.Pod("c-0000"); pod == nil || pod.UID != first || w.Cluster().Status.ObeyedRecovery != "" || jobs() != 1 {
		t.Fatalf("c-0000 is there: %t, status is %+v\n%s", pod != nil, w.Cluster().Status, w.Notes(60))
	}
	delete(w.Unreadable, "the-id")
	if !w.Run(func() bool { return recovered(w) && jobs() == 0 }, patience) || len(w.Violations()) > 0 {
		t.Fatalf("%d Jobs are left, broke %v\n%s", jobs(), w.Violations(), w.Notes(60))
	}
}

// TestTwoOperatorsDoNotDisputeARecovery: one that has just come does not start again whom the
// other stops.
func TestTwoOperatorsDoNotDisputeARecovery(t *testing.T) {
	undisputed(t, recoveries()[0])
}

// undisputed: a second operator comes at any of the first moments of a workflow that begins
// a new incarnation.
func undisputed(t *testing.T, f workflow) {
	t.Helper()
	for late := range 24 {
		w := f.start()
		f.begin(w)
		w.After(time.Duration(late)*500*time.Millisecond, func() { w.StartOperator() })
		if !w.Run(func() bool { return recovered(w) }, patience) || len(w.Violations()) > 0 {
			t.Fatalf("with one that comes %d half seconds late: broke %v\n%s", late, w.Violations(), w.Notes(10))
		}
	}
}

// TestASecondRecovery from the same backup gives everything new names again.
func TestASecondRecovery(t *testing.T) {
	f := recoveries()[0]
	w := f.start()
	if err := f.finish(w); err != nil {
		t.Fatal(err)
	}
	for _, m := range []string{"c-0003", "c-0005"} {
		deleteClaim(w, m)
		deletePod(w, m)
	}
	w.For(time.Minute)
	if c := w.Cluster(); c.Status.Incarnation != 2 || w.Pod("c-0004") == nil {
		t.Fatalf("the word was spent, and the incarnation is %d", c.Status.Incarnation)
	}
	recover3(2)(w)
	if !w.Run(func() bool { return w.Cluster().Status.Incarnation == 3 && w.Healthy() }, patience) || len(w.Violations()) > 0 {
		t.Fatalf("broke %v\n%s", w.Violations(), w.Notes(100))
	}
	if got := strings.Join(w.Cluster().Status.Founders, ","); got != "c-0006,c-0007,c-0008" {
		t.Errorf("the founders are %s", got)
	}
	for _, m := range []string{"c-0000", "c-0004"} {
		if w.Claim(m) == nil {
			t.Errorf("the volume of %s is gone", m)
		}
	}
}

// TestVolumesOfAllIncarnationsGoWithTheCluster when the user wants that.
func TestVolumesOfAllIncarnationsGoWithTheCluster(t *testing.T) {
	f := recoveries()[0]
	w := f.start()
	if err := f.finish(w); err != nil {
		t.Fatal(err)
	}
	w.Apply(func(s *v1alpha1.EtcdClusterSpec) { s.Storage.WhenDeleted = v1alpha1.WhenDeletedDelete })
	w.For(10 * time.Second)
	deleteCluster(w)
	if !w.Run(func() bool { return len(w.API.all("PersistentVolumeClaim")) == 0 }, 5*time.Minute) {
		t.Errorf("left are %v", w.claimUIDs())
	}
}

func deleteTwo(w *World) {
	for _, m := range []string{"c-0001", "c-0002"} {
		deleteClaim(w, m)
		deletePod(w, m)
	}
}

// finishKeeping runs to the end, and wants the survivor's claim to be there, untouched.
func (f workflow) finishKeeping(t *testing.T, w *World) (survivor *corev1.PersistentVolumeClaim) {
	t.Helper()
	old := w.Claim("c-0000")
	if err := f.finish(w); err != nil {
		t.Fatalf("%v\n%s", err, w.Notes(100))
	}
	if now := w.Claim("c-0000"); now == nil || now.ResourceVersion != old.ResourceVersion {
		t.Errorf("the survivor's claim was %v and is %v", old, now)
	}
	return old
}

// TestARecoveryKeepsWhatWasLeft: the survivor's volume is there, untouched, and the new
// members bear other names; taken back before the old ones have stopped, the old go on.
func TestARecoveryKeepsWhatWasLeft(t *testing.T) {
	f := recoveries()[0]
	w := f.start()
	f.finishKeeping(t, w)
	s := w.Cluster().Status
	if got := strings.Join(s.Founders, ","); got != "c-0003,c-0004,c-0005" || !strings.Contains(s.Recovery.GivenUp, "c-0000 (its volume is kept)") {
		t.Errorf("the founders are %s; %+v", got, s.Recovery)
	}
	for _, m := range s.Founders {
		if w.Pod(m).Annotations[v1alpha1.AnnotationRestore] == "the-id" {
			t.Errorf("%s may still be filled from the backup", m)
		}
		if !w.nodes.volume(w.Claim(m).Spec.VolumeName).restored {
			t.Errorf("%s began without the backup", m)
		}
		if on := w.Claim(m).Annotations; on[v1alpha1.AnnotationRecovery] != "nightly" || on[v1alpha1.AnnotationRecoveryID] != "the-id" {
			t.Errorf("the claim of %s does not say what it began with", m)
		}
	}
	w.LoseStatus()
	w.For(30 * time.Second)
	if s := w.Cluster().Status; s.Incarnation != 2 || !w.Healthy() {
		t.Errorf("after the loss of status the incarnation is %d", s.Incarnation)
	}
	for _, o := range w.API.all("Pod") {
		if pod := o.(*corev1.Pod); pod.Labels[v1alpha1.LabelIncarnation] != "2" {
			t.Errorf("pod %s is of incarnation %s", pod.Name, pod.Labels[v1alpha1.LabelIncarnation])
		}
	}
}

// TestASecondWordKeepsTheOldVolumes of both incarnations, and is for what never lived alone.
func TestASecondWordKeepsTheOldVolumes(t *testing.T) {
	f := workflow{name: "recovering again from what was never founded", before: neverFounded, begin: recoverWith(2, "weekly"), done: recoveredAgain}
	w := f.start()
	old := w.claimUIDs()
	if err := f.finish(w); err != nil {
		t.Fatalf("%v\n%s", err, w.Notes(100))
	}
	now := w.claimUIDs()
	for claim, uid := range old {
		if now[claim] != uid {
			t.Errorf("the volume %s is gone", claim)
		}
	}
	if s := w.Cluster().Status; strings.Join(s.Founders, ",") != "c-0006,c-0007,c-0008" || s.Recovery.BackupName != "weekly" {
		t.Errorf("status is %+v", s.Recovery)
	}
	for late := range 12 {
		w := recoveries()[0].start()
		recover3(1)(w)
		w.Run(func() bool { return w.Cluster().Status.Incarnation == 2 }, time.Minute)
		backedUpAs(w, "weekly")
		w.For(time.Duration(late) * time.Second / 2)
		recoverWith(2, "weekly")(w)
		began := w.Run(func() bool { return w.Cluster().Status.Incarnation == 3 }, 2*time.Minute)
		w.Apply(func(s *v1alpha1.EtcdClusterSpec) { s.Recovery = nil })
		if began || !w.Run(w.Healthy, time.Minute) || len(w.Violations()) > 0 {
			t.Fatalf("said %d half seconds after the raise: incarnation %d, broke %v\n%s", late, w.Cluster().Status.Incarnation, w.Violations(), w.Notes(30))
		}
	}
}

// TestABackupThatIsMadeAnewBeginsNobody: once the incarnation has begun its founders wait for
// the backup that is on record, and say so.
func TestABackupThatIsMadeAnewBeginsNobody(t *testing.T) {
	w := recoveries()[0].start()
	recover3(1)(w)
	w.Run(func() bool { return w.Cluster().Status.Incarnation == 2 }, time.Minute)
	w.editBackup(func(b *v1alpha1.EtcdBackup) { b.Status.ID = "another-id" })
	w.For(30 * time.Second)
	stalled := meta.FindStatusCondition(w.Cluster().Status.Conditions, v1alpha1.ConditionStalled)
	if len(w.Pods()) > 0 || stalled.Reason != v1alpha1.ReasonRestoreBlocked || !strings.Contains(stalled.Message, "made anew") {
		t.Errorf("there are pods %v, and Stalled is %+v", w.Pods(), stalled)
	}
	w.editBackup(func(b *v1alpha1.EtcdBackup) { b.Status.ID = "the-id" })
	if !w.Run(w.Healthy, patience) || len(w.Violations()) > 0 {
		t.Fatalf("broke %v\n%s", w.Violations(), w.Notes(60))
	}
}
