package sim

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/resources"
)

// served has a cluster that serves, and a backup of it.
func served(mutate func(*v1alpha1.EtcdClusterSpec)) func(*World) {
	return func(w *World) {
		founded(mutate)(w)
		backedUp(w)
	}
}

// carryBack has an EtcdRestore that is prepared to give the incarnation up.
func carryBack(name string, incarnation int64, changes ...func(*v1alpha1.EtcdRestore)) func(*World) {
	return func(w *World) {
		r := &v1alpha1.EtcdRestore{ObjectMeta: metav1.ObjectMeta{Namespace: w.Key.Namespace, Name: name}}
		r.Spec.ClusterRef.Name, r.Spec.BackupName = w.Key.Name, "nightly"
		r.Status.ClusterUID, r.Status.Incarnation = resources.ClusterUID(w.Cluster()), incarnation
		r.Status.SafetyBackup = &v1alpha1.SafetyBackupStatus{Name: name + "-safety", ReadyTime: &metav1.Time{Time: w.Clock.Now()}}
		meta.SetStatusCondition(&r.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionPrepared, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonPrepared})
		for _, change := range changes {
			change(r)
		}
		w.must(w.API.Create(r))
	}
}

// takeBack deletes the EtcdRestore.
func takeBack(w *World) {
	for _, r := range w.API.all("EtcdRestore") {
		w.Delete(r)
	}
}

func restorations() []workflow {
	return []workflow{
		{name: "restoring in place", every: true, faults: true, shared: true, before: served(spec(3, plaintext)), begin: carryBack("back", 1), done: recovered},
		{name: "restoring in place with TLS", long: true, before: served(spec(3)), begin: carryBack("back", 1), done: recovered},
		{name: "restoring one in place", long: true, before: served(spec(1, plaintext)), begin: carryBack("back", 1), done: recovered},
		coveredLater(),
		{
			// What was adopted is over by then: the new volumes are made, and not missed.
			name: "restoring in place what was adopted", long: true, before: func(w *World) {
				deleted(spec(3, plaintext))(w)
				adopting(spec(3, plaintext))(w)
				w.Run(w.Healthy, patience)
				w.For(6 * time.Second)
				backedUp(w)
			}, begin: carryBack("back", 1), done: recovered,
		},
		{
			// It waits until the member has joined.
			name: "restoring in place while a member joins", long: true, before: served(spec(3, plaintext)), begin: func(w *World) {
				w.Apply(func(s *v1alpha1.EtcdClusterSpec) { s.Size = 5 })
				w.After(4*time.Second, func() { carryBack("back", 1)(w) })
			}, done: recovered, end: (*World).Shape,
		},
	}
}

// TestNothingIsRestoredUnprepared: nobody is stopped for a restore that is not prepared, is
// for another incarnation or another cluster, is given up, or cannot be carried out.
func TestNothingIsRestoredUnprepared(t *testing.T) {
	for name, begin := range map[string]func(*World){
		"not prepared": carryBack("back", 1, func(r *v1alpha1.EtcdRestore) {
			meta.RemoveStatusCondition(&r.Status.Conditions, v1alpha1.ConditionPrepared)
		}),
		"given up": carryBack("back", 1, func(r *v1alpha1.EtcdRestore) {
			meta.SetStatusCondition(&r.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionStalled, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonSafetyBackupFailed})
		}),
		"for another incarnation": carryBack("back", 2),
		"for another cluster":     carryBack("back", 1, func(r *v1alpha1.EtcdRestore) { r.Status.ClusterUID = "0ther" }),
		"its backup is gone": func(w *World) {
			w.Delete(w.API.all("EtcdBackup")[0])
			carryBack("back", 1)(w)
		},
		"its safety backup is old": carryBack("back", 1, func(r *v1alpha1.EtcdRestore) {
			r.Status.SafetyBackup.ReadyTime.Time = r.Status.SafetyBackup.ReadyTime.Add(-2 * time.Hour)
		}),
		"paused": func(w *World) {
			w.Apply(func(s *v1alpha1.EtcdClusterSpec) { s.Paused = true })
			carryBack("back", 1)(w)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := workflow{name: "a cluster that serves", before: served(spec(3, plaintext))}.start()
			before := w.Pods()
			begin(w)
			w.For(2 * time.Minute)
			if c := w.Cluster(); c.Status.Incarnation != 1 || (c.Status.Restore != nil && c.Status.Restore.Begun != nil) {
				t.Errorf("status is %+v", c.Status)
			}
			if now := w.Pods(); fmt.Sprint(now) != fmt.Sprint(before) {
				t.Errorf("the pods were %v and are %v", before, now)
			}
			if v := w.Violations(); len(v) > 0 {
				t.Errorf("broke %v\n%s", v, w.Notes(60))
			}
		})
	}
}

// TestARestoreTakenBack at any moment: the old members or the new ones serve, never a
// mixture, and the old volumes are all there.
func TestARestoreTakenBack(t *testing.T) {
	seen := map[int64]int{}
	for n := range 40 {
		w := workflow{name: "a cluster that serves", before: served(spec(3, plaintext))}.start()
		old := w.claimUIDs()
		carryBack("back", 1)(w)
		w.After(time.Duration(n)*250*time.Millisecond, func() { takeBack(w) })
		w.For(time.Duration(n)*250*time.Millisecond + time.Second)
		if !w.Run(w.Healthy, patience) || len(w.Violations()) > 0 {
			t.Fatalf("taken back after %d quarters of a second: broke %v\n%s", n, w.Violations(), w.Notes(60))
		}
		s := w.Cluster().Status
		seen[s.Incarnation]++
		if s.Restore != nil || (s.Recovery != nil) != (s.Incarnation == 2) {
			t.Errorf("after %d quarters of a second: %+v, %+v", n, s.Restore, s.Recovery)
		}
		now := w.claimUIDs()
		for claim, uid := range old {
			if now[claim] != uid {
				t.Errorf("after %d quarters of a second the claim %s is gone", n, claim)
			}
		}
	}
	if seen[1] == 0 || seen[2] == 0 {
		t.Errorf("it was taken back in time and too late so often: %v", seen)
	}
}

// TestARestoreIsObeyedOnce: after the next incarnation has begun it is spent, whatever
// becomes of status; another one of the same backup raises the next.
func TestARestoreIsObeyedOnce(t *testing.T) {
	f := restorations()[0]
	w := f.start()
	f.begin(w)
	w.Run(func() bool { return recovered(w) }, time.Minute)
	w.For(10 * time.Second)
	s := w.Cluster().Status
	if s.Incarnation != 2 || !w.Healthy() || len(w.Violations()) > 0 {
		t.Fatalf("the incarnation is %d, broke %v\n%s", s.Incarnation, w.Violations(), w.Notes(60))
	}
	if got := strings.Join(s.Founders, ","); got != "c-0003,c-0004,c-0005" || s.Recovery == nil || s.Recovery.RestoreName != "back" || !strings.Contains(s.Recovery.GivenUp, "c-0000 (its volume is kept)") {
		t.Errorf("the founders are %s; %+v", got, s.Recovery)
	}
	before := w.Pods()
	w.LoseStatus()
	w.For(time.Minute)
	if s := w.Cluster().Status; s.Incarnation != 2 || !w.Healthy() || fmt.Sprint(w.Pods()) != fmt.Sprint(before) {
		t.Errorf("after the loss of status the incarnation is %d, the pods were %v and are %v", s.Incarnation, before, w.Pods())
	}
	carryBack("again", 2)(w)
	if !w.Run(func() bool { return w.Cluster().Status.Incarnation == 3 && w.Healthy() }, patience) || len(w.Violations()) > 0 {
		t.Fatalf("broke %v\n%s", w.Violations(), w.Notes(100))
	}
}

// TestARestoreWhoseBackupGoes while members are stopped for it: the old ones come back.
func TestARestoreWhoseBackupGoes(t *testing.T) {
	w := workflow{name: "a cluster that serves", before: served(spec(3, plaintext))}.start()
	// Two that may run on keep the new incarnation from beginning.
	nodes := []string{w.NodeOf("c-0001"), w.NodeOf("c-0002")}
	carryBack("back", 1)(w)
	w.Run(func() bool { return w.Cluster().Status.Restore != nil && w.Cluster().Status.Restore.Begun != nil }, time.Minute)
	for _, node := range nodes {
		w.CutOff(node)
	}
	w.For(30 * time.Second)
	if s := w.Cluster().Status; s.Incarnation != 1 || s.Restore == nil || s.Restore.Begun == nil || w.Pod("c-0000") != nil {
		t.Fatalf("incarnation %d, %+v, and c-0000 is there: %v\n%s", s.Incarnation, s.Restore, w.Pod("c-0000") != nil, w.Notes(60))
	}
	w.Delete(w.API.all("EtcdBackup")[0])
	for _, node := range nodes {
		w.Reconnect(node)
	}
	if !w.Run(w.Healthy, patience) || len(w.Violations()) > 0 {
		t.Fatalf("broke %v\n%s", w.Violations(), w.Notes(100))
	}
	if s := w.Cluster().Status; s.Incarnation != 1 || s.Restore == nil || s.Restore.Begun != nil {
		t.Errorf("status is %+v", s.Restore)
	}
}

// TestTwoOperatorsDoNotDisputeARestore: one that has just come does not start again whom the
// other stops.
func TestTwoOperatorsDoNotDisputeARestore(t *testing.T) {
	undisputed(t, restorations()[0])
}

// TestAStaleCacheDoesNotUndoARestore: an operator whose caches do not show the EtcdRestore yet
// does not start again whom another one has stopped for it.
func TestAStaleCacheDoesNotUndoARestore(t *testing.T) {
	f := restorations()[0]
	for _, kinds := range [][]string{{"EtcdRestore"}, {"EtcdRestore", "EtcdBackup"}} {
		w := f.start()
		late := w.StartOperator()
		w.For(3 * time.Second)
		late.HoldBack(kinds...)
		first := w.Pods()
		f.begin(w)
		w.After(20*time.Second, late.Release)
		again := ""
		over := func() bool {
			for m, uid := range w.Pods() {
				if first[m] != "" && uid != first[m] {
					again = m
				}
			}
			return recovered(w)
		}
		if !w.Run(over, 19*time.Second) || again != "" || len(w.Violations()) > 0 {
			t.Fatalf("with %v held back: incarnation %d, started again %q, broke %v\n%s", kinds, w.Cluster().Status.Incarnation, again, w.Violations(), w.Notes(20))
		}
	}
}
