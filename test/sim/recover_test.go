package sim

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
)

// backedUp has a verified backup of the cluster in the store.
func backedUp(w *World) {
	b := &v1alpha1.EtcdBackup{ObjectMeta: metav1.ObjectMeta{Namespace: w.Key.Namespace, Name: "nightly"}}
	b.Spec.ClusterRef.Name, b.Spec.Store.S3 = w.Key.Name, &v1alpha1.S3Store{Bucket: "backups"}
	b.Status.ID, b.Status.EtcdVersion, b.Status.ClusterUID = "the-id", "3.6.16", string(w.Cluster().UID)
	for _, kind := range []string{v1alpha1.ConditionComplete, v1alpha1.ConditionVerified, v1alpha1.ConditionReady} {
		meta.SetStatusCondition(&b.Status.Conditions, metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonVerified})
	}
	w.must(w.API.Create(b))
}

// lost has a cluster of three of which two volumes are gone for good, and a backup.
func lost(w *World) {
	founded(spec(3, plaintext))(w)
	backedUp(w)
	for _, m := range []string{"c-0001", "c-0002"} {
		deleteClaim(w, m)
		deletePod(w, m)
	}
	if !w.Run(w.tellsLoss, time.Minute) {
		panic("nobody tells of the lost quorum:\n" + w.Notes(100))
	}
}

func recover3(incarnation int64) func(*World) {
	return func(w *World) {
		w.Apply(func(s *v1alpha1.EtcdClusterSpec) {
			s.Recovery = &v1alpha1.RecoverySpec{Incarnation: incarnation, BackupName: "nightly"}
		})
	}
}

// recovered says that a new incarnation serves.
func recovered(w *World) bool { return w.Cluster().Status.Incarnation == 2 && w.Healthy() }

func recoveries() []workflow {
	return []workflow{
		{name: "recovering from a lost quorum", every: true, faults: true, shared: true, before: lost, begin: recover3(1), done: recovered},
		{name: "recovering at once", long: true, before: founded(spec(3, plaintext)), begin: func(w *World) {
			backedUp(w)
			recover3(1)(w)
			for _, m := range []string{"c-0001", "c-0002"} {
				deleteClaim(w, m)
				deletePod(w, m)
			}
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
	}{
		"no word":                 {lost, func(*World) {}, false},
		"for another incarnation": {lost, recover3(2), false},
		"no such backup": {lost, func(w *World) {
			w.Delete(w.API.all("EtcdBackup")[0])
			recover3(1)(w)
		}, false},
		"it serves":     {func(w *World) { founded(spec(3, plaintext))(w); backedUp(w) }, recover3(1), false},
		"it has served": {func(w *World) { founded(spec(3, plaintext))(w); backedUp(w); recover3(1)(w); w.For(20 * time.Second) }, deleteTwo, false},
		"two may still run": {func(w *World) { founded(spec(3, plaintext))(w); backedUp(w) }, func(w *World) {
			for _, node := range []string{w.NodeOf("c-0001"), w.NodeOf("c-0002")} {
				w.CutOff(node)
			}
			w.After(30*time.Second, func() {
				w.ForceDelete("c-0001")
				w.ForceDelete("c-0002")
				recover3(1)(w)
			})
		}, true},
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
			if v := w.Violations(); len(v) > 0 {
				t.Errorf("broke %v\n%s", v, w.Notes(60))
			}
		})
	}
}

func deleteTwo(w *World) {
	for _, m := range []string{"c-0001", "c-0002"} {
		deleteClaim(w, m)
		deletePod(w, m)
	}
}

// TestARecoveryKeepsWhatWasLeft: the survivor's volume is there, untouched, and the new
// members bear other names; taken back before the old ones have stopped, the old go on.
func TestARecoveryKeepsWhatWasLeft(t *testing.T) {
	f := recoveries()[0]
	w := f.start()
	old := w.Claim("c-0000")
	if err := f.finish(w); err != nil {
		t.Fatalf("%v\n%s", err, w.Notes(100))
	}
	if now := w.Claim("c-0000"); now == nil || now.ResourceVersion != old.ResourceVersion {
		t.Errorf("the survivor's claim was %v and is %v", old, now)
	}
	s := w.Cluster().Status
	if got := strings.Join(s.Founders, ","); got != "c-0003,c-0004,c-0005" || !strings.Contains(s.Recovery.GivenUp, "c-0000 (its volume is kept)") {
		t.Errorf("the founders are %s; %+v", got, s.Recovery)
	}
	for _, m := range s.Founders {
		if w.Pod(m).Annotations[v1alpha1.AnnotationRestore] == "the-id" {
			t.Errorf("%s may still be filled from the backup", m)
		}
		if w.Claim(m).Annotations[v1alpha1.AnnotationRecovery] != "nightly" {
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
