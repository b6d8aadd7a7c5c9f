package sim

import (
	"context"
	"maps"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
)

// underLoad lets time pass while the user writes.
func (w *World) underLoad(t *testing.T, d time.Duration) {
	t.Helper()
	for end := w.Clock.Now().Add(d); w.Clock.Now().Before(end); w.For(5 * time.Second) {
		for range 10 {
			if conn := w.Etcdctl(); conn != nil {
				if err := conn.Propose(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// TestASlowDiskCostsTheLeadershipAndNothingElse is row 10 of the failures: a disk that
// takes a second for each sync is told, and its member leads no longer than a minute from
// then on; nobody is replaced, stopped or restarted.
func TestASlowDiskCostsTheLeadershipAndNothingElse(t *testing.T) {
	w := workflow{name: "three in plaintext", before: founded(spec(3, plaintext))}.start()
	w.disks = map[string]*disk{}
	for _, name := range []string{"c-0000", "c-0001", "c-0002"} {
		w.disks[name] = &disk{each: time.Millisecond}
	}
	w.underLoad(t, time.Minute)
	pods, leader := w.uids(), w.Leader()
	w.SlowDown(leader, time.Second)
	w.underLoad(t, 35*time.Second)
	is := meta.FindStatusCondition(w.Cluster().Status.Conditions, v1alpha1.ConditionStorageReady)
	if is == nil || is.Status != metav1.ConditionFalse || is.Reason != v1alpha1.ReasonSlowDisk || !strings.Contains(is.Message, leader+" 1s") {
		t.Errorf("StorageReady is %+v", is)
	}
	if w.Leader() != leader {
		t.Error("the leadership was moved at the first sign")
	}
	w.underLoad(t, 85*time.Second)
	next := w.Leader()
	if next == leader {
		t.Errorf("%s leads still\n%s", leader, w.Notes(40))
	}
	for _, name := range []string{"c-0000", "c-0001", "c-0002"} {
		w.SlowDown(name, 2*time.Second)
	}
	w.underLoad(t, 3*time.Minute)
	if w.Leader() != next {
		t.Errorf("all disks are slow, and the leadership went from %s to %s", next, w.Leader())
	}
	for _, d := range w.disks {
		d.each = time.Millisecond
	}
	w.underLoad(t, time.Minute)
	if is := meta.FindStatusCondition(w.Cluster().Status.Conditions, v1alpha1.ConditionStorageReady); is.Status != metav1.ConditionTrue {
		t.Errorf("all disks are fast, and StorageReady is %+v", is)
	}
	if !maps.Equal(w.uids(), pods) {
		t.Errorf("pods were %v and are %v", pods, w.uids())
	}
	if v := w.Violations(); len(v) > 0 {
		t.Error(v)
	}
}
