package perform

import (
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
)

// aRestore is an EtcdRestore of the world's cluster that has what it needs.
func aRestore(w *world) *v1alpha1.EtcdRestore {
	r := &v1alpha1.EtcdRestore{ObjectMeta: metav1.ObjectMeta{Name: "back", Namespace: "ns", UID: "e7"}}
	r.Spec.ClusterRef.Name, r.Spec.BackupName = w.cluster.Name, "b"
	r.Status.ClusterUID, r.Status.Incarnation = string(w.cluster.UID), 1
	meta.SetStatusCondition(&r.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionPrepared, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonPrepared})
	return r
}

// TestWithoutItsWordNothingIsStopped: a restore that was taken back since the look, or is
// another one now, is not carried one step further.
func TestWithoutItsWordNothingIsStopped(t *testing.T) {
	for label, tc := range map[string]struct {
		change func(*v1alpha1.EtcdRestore)
		stale  bool
	}{
		"it stands":             {func(*v1alpha1.EtcdRestore) {}, false},
		"it is gone":            {nil, true},
		"it is another one":     {func(r *v1alpha1.EtcdRestore) { r.UID = "another" }, true},
		"it is for another one": {func(r *v1alpha1.EtcdRestore) { r.Status.Incarnation = 2 }, true},
		"it is not prepared":    {func(r *v1alpha1.EtcdRestore) { r.Status.Conditions = nil }, true},
		"it is on its way out": {func(r *v1alpha1.EtcdRestore) {
			r.DeletionTimestamp, r.Finalizers = &metav1.Time{Time: time.Unix(1e9, 0)}, []string{"somebody/else"}
		}, true},
	} {
		for _, kind := range []plan.Kind{plan.LatchRestore, plan.StopIncarnation, plan.RaiseIncarnation} {
			t.Run(label+"/"+string(kind), func(t *testing.T) {
				first := newWorld(t)
				objects := []client.Object{claim(), ownBackup()}
				if tc.change != nil {
					r := aRestore(first)
					tc.change(r)
					objects = append(objects, r)
				}
				if kind == plan.StopIncarnation {
					objects = append(objects, pod())
				}
				w := newWorld(t, objects...)
				w.seen.Incarnation = 1
				w.seen.Recovery = &plan.Recovery{Backup: "b", BackupID: "the-id", BackupClusterUID: "5e1f", Restore: "back", RestoreUID: "e7", Begun: true}
				if kind == plan.StopIncarnation {
					w.seen.Members[0].PodUID = string(pod().UID)
				}
				p := &Performer{Writer: w.api, Live: w.api, Nodes: w.api, BackupImage: "backup:v0", Clock: clocktesting.NewFakePassiveClock(time.Unix(1e9, 0))}
				err := p.Perform(t.Context(), w.cluster, w.seen, plan.Step{Kind: kind, Members: []string{name}})
				if tc.stale != errors.Is(err, ErrStale) || (!tc.stale && err != nil) {
					t.Fatalf("Perform(%s) = %v, want stale %t", kind, err, tc.stale)
				}
				there := w.get(&corev1.Pod{}, name)
				if kind == plan.StopIncarnation && there != tc.stale {
					t.Errorf("the pod is there: %t", there)
				}
				if r := w.cluster.Status.Restore; kind == plan.LatchRestore && (r != nil) == tc.stale {
					t.Errorf("status names %+v", r)
				}
				if r := w.cluster.Status.Recovery; kind == plan.RaiseIncarnation && ((r != nil) == tc.stale || (r != nil && (r.RestoreName != "back" || r.RestoreUID != "e7"))) {
					t.Errorf("status tells of %+v", r)
				}
			})
		}
	}
}
