package perform

import (
	"errors"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

const oldUID = "00000000-0000-4000-8000-00000000001d"

// lies is a claim that a deleted cluster has left behind.
func lies(member string, edits ...edit) *corev1.PersistentVolumeClaim {
	old := cluster()
	old.UID, old.Status.Incarnation, old.Status.Founders = oldUID, 2, []string{"a-0000", "a-0001", "a-0002"}
	v := resources.Claim(old, member)
	v.Annotations[v1alpha1.AnnotationMemberID] = "c1"
	v.Status.Phase = corev1.ClaimBound
	for _, e := range edits {
		e(v)
	}
	return v
}

// TestAdopt: who the members were is written into status as the API server shows it now,
// and nothing else is touched.
func TestAdopt(t *testing.T) {
	quarantined := lies("a-0007", labelled(v1alpha1.LabelQuarantined, "removed"))
	cases := map[string]struct {
		objects []client.Object
		change  func(*world)
		done    bool
	}{
		"all are there":                  {[]client.Object{lies("a-0000"), lies("a-0001"), lies("a-0002"), quarantined}, nil, true},
		"two are there":                  {[]client.Object{lies("a-0000"), lies("a-0002"), quarantined}, nil, true},
		"two have gone since the look":   {[]client.Object{lies("a-0000")}, nil, false},
		"two go":                         {[]client.Object{lies("a-0000"), lies("a-0001", going), lies("a-0002", going)}, nil, false},
		"a pod has come since":           {[]client.Object{lies("a-0000"), lies("a-0001"), lies("a-0002"), pod(func(o client.Object) { o.SetOwnerReferences(nil) }, labelled(v1alpha1.LabelClusterUID, oldUID))}, nil, false},
		"another operator was faster":    {[]client.Object{lies("a-0000"), lies("a-0001"), lies("a-0002")}, func(w *world) { w.cluster.Status.Founders = []string{"a-0000"} }, false},
		"two belong to somebody else":    {[]client.Object{lies("a-0000"), lies("a-0001", foreigner), lies("a-0002", foreigner)}, nil, false},
		"two are of an old incarnation":  {[]client.Object{lies("a-0000"), lies("a-0001", labelled(v1alpha1.LabelIncarnation, "1")), lies("a-0002", labelled(v1alpha1.LabelIncarnation, "1"))}, nil, false},
		"etcd 3.7 has no entries of 3.5": {[]client.Object{lies("a-0000"), lies("a-0001"), quarantined}, func(w *world) { w.cluster.Spec.Version = "3.7.3" }, true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tc.objects...)
			w.cluster.Spec.Size, w.cluster.Spec.Adopt = 3, &v1alpha1.AdoptSpec{ClusterUID: oldUID}
			w.cluster.Status = v1alpha1.EtcdClusterStatus{}
			if tc.change != nil {
				tc.change(w)
			}
			founders := []string{"a-0000", "a-0001", "a-0002"}
			err := w.perform(plan.Adopt, founders...)
			if tc.done != (err == nil) || (err != nil && !errors.Is(err, ErrStale)) || len(w.writes) > 0 {
				t.Fatalf("%v, wrote %v", err, w.writes)
			}
			s := w.cluster.Status
			if tc.done && (!slices.Equal(s.Founders, founders) || s.Incarnation != 2 || s.NextOrdinal != 8 || s.ClusterID != "") {
				t.Errorf("status is %+v", s)
			}
			if tc.done && (s.OldEntries == 0) != (w.cluster.Spec.Version == "3.7.3") {
				t.Errorf("oldEntries are %d with etcd %s", s.OldEntries, w.cluster.Spec.Version)
			}
			if !tc.done && s.Incarnation != 0 {
				t.Errorf("nothing is to be done, and status is %+v", s)
			}
		})
	}
}
