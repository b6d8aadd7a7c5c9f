package sim

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/etcd/etcdtest"
)

const mebibyte = 1 << 20

func keepsRevisions(s *v1alpha1.EtcdClusterSpec) {
	s.Etcd.AutoCompaction = v1alpha1.AutoCompaction{Mode: v1alpha1.CompactionRevision, Retention: "2"}
}

func filled(live, old, free int64) func(*World) {
	return func(w *World) {
		w.Fill(etcdtest.Database{Live: live * mebibyte, Old: old * mebibyte, Free: free * mebibyte})
	}
}

// unalarmed says that all is well, and that etcd says so, too.
func unalarmed(w *World) bool { return w.Healthy() && len(w.Alarms()) == 0 }

// slim says that no database has much that is free.
func slim(w *World) bool {
	for _, d := range w.Databases() {
		if d.Free > 100*mebibyte {
			return false
		}
	}
	return unalarmed(w)
}

// corrupted has the data of a member differ, and etcd find out.
func corrupted(member func(*World) string) func(*World) {
	return func(w *World) {
		name := member(w)
		w.Diverge(name)
		w.Notice(name)
	}
}

func named(name string) func(*World) string { return func(*World) string { return name } }

// upkeeps are the workflows of alarms and databases.
func upkeeps() []workflow {
	three := founded(spec(3, plaintext, keepsRevisions))
	return []workflow{
		{name: "healing a full database", faults: true, every: true, shared: true, before: three, begin: filled(100, 1500, 500), done: unalarmed},
		{name: "healing the full database of one", before: founded(spec(1, plaintext, keepsRevisions)), begin: filled(100, 1500, 500), done: unalarmed},
		{name: "healing a full database by a larger quota", long: true, before: three, done: unalarmed, begin: func(w *World) {
			filled(2040, 0, 10)(w)
			w.After(20*time.Second, func() {
				w.Apply(func(s *v1alpha1.EtcdClusterSpec) { s.Etcd.QuotaBackendBytes = resource.MustParse("4Gi") })
			})
		}},
		{name: "losing a member while the database is full", end: (*World).Shape, long: true, before: three, done: unalarmed, begin: func(w *World) {
			filled(100, 1500, 500)(w)
			lose("c-0001")(w)
		}},
		{name: "defragmenting three", every: true, shared: true, before: three, begin: filled(100, 0, 400), done: slim},
		{name: "replacing a member whose data differs", end: (*World).Shape, faults: true, shared: true, long: true, before: three, begin: corrupted(named("c-0001")), done: unalarmed},
		{name: "replacing a leader whose data differs", end: (*World).Shape, long: true, before: three, begin: corrupted((*World).Leader), done: unalarmed},
	}
}

// TestWhatIsRightIsKept has one of three members differ each, so that nobody knows who is
// right: nothing is touched, and the user is asked.
func TestWhatIsRightIsKept(t *testing.T) {
	w := workflow{name: "three that differ", before: founded(spec(3, plaintext))}.start()
	w.Diverge("c-0000")
	w.Diverge("c-0001")
	w.Notice("c-0001")
	writes := len(w.Pods())
	w.For(2 * time.Minute)
	c := w.Cluster()
	stalled, data := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionStalled), meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionDataConsistent)
	if stalled.Reason != v1alpha1.ReasonDataDiffers || !strings.Contains(stalled.Message, "no majority") || data == nil || data.Status != "False" {
		t.Errorf("%+v\n%+v\n%s", stalled, data, w.Notes(60))
	}
	if len(w.Alarms()) != 1 || len(w.Pods()) != writes || c.Status.Joiner != "" {
		t.Errorf("alarms %v, pods %v, joiner %q", w.Alarms(), w.Pods(), c.Status.Joiner)
	}
	if v := w.Violations(); len(v) > 0 {
		t.Error(v)
	}
}

// TestASilentDifferenceIsFound within the hour, although etcd has raised nothing.
func TestASilentDifferenceIsFound(t *testing.T) {
	w := workflow{name: "a silent difference", before: founded(spec(3, plaintext))}.start()
	w.For(11 * time.Minute)
	w.Diverge("c-0002")
	if !w.Run(func() bool { return w.Cluster().Status.Joiner != "" }, 61*time.Minute) {
		t.Fatalf("it is not found\n%s", w.Notes(40))
	}
	if !w.Run(func() bool { return w.Healthy() && w.Cluster().Status.NextOrdinal == 4 }, patience) || w.process("c-0002") != nil {
		t.Fatalf("it is not replaced\n%s", w.Notes(80))
	}
	if v := w.Violations(); len(v) > 0 {
		t.Error(v)
	}
}

// TestAFullDatabaseThatCannotBeHealedIsToldOf and nobody is restarted or defragmented.
func TestAFullDatabaseThatCannotBeHealedIsToldOf(t *testing.T) {
	w := workflow{name: "full of data", before: founded(spec(3, plaintext, keepsRevisions))}.start()
	filled(2040, 0, 10)(w)
	pods := w.Pods()
	w.For(time.Minute)
	stalled := meta.FindStatusCondition(w.Cluster().Status.Conditions, v1alpha1.ConditionStalled)
	if stalled.Reason != v1alpha1.ReasonAlarm || !strings.Contains(stalled.Message, "raise spec.etcd.quotaBackendBytes") {
		t.Errorf("%+v\n%s", stalled, w.Notes(60))
	}
	tried := 0
	for _, c := range w.calls {
		switch c.Method {
		case "Defragment":
			// What is said to be in use may be told late, so one has to be tried.
			tried++
		case "Disarm":
			t.Errorf("%s", c.Key)
		}
	}
	if tried != 1 {
		t.Errorf("%d members were defragmented", tried)
	}
	if now := w.Pods(); len(now) != len(pods) || now["c-0000"] != pods["c-0000"] {
		t.Errorf("pods were %v and are %v", pods, now)
	}
	if err := restful("full of data", w); err != nil {
		t.Error(err)
	}
}
