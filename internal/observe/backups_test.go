package observe

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/quorate/quorate/api/v1alpha1"
)

// TestBackups: those of the cluster count, and not those of another cluster, of another
// namespace, or of an earlier cluster of the same name.
func TestBackups(t *testing.T) {
	of := func(namespace, cluster, uid string) client.Object {
		b := &v1alpha1.EtcdBackup{ObjectMeta: metav1.ObjectMeta{Name: "b", Namespace: namespace}}
		b.Spec.ClusterRef.Name, b.Status.ClusterUID = cluster, uid
		return b
	}
	schedule := &v1alpha1.EtcdBackupSchedule{ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "ns"}}
	schedule.Spec.Backup.ClusterRef.Name = "a"
	archive := &v1alpha1.EtcdArchive{ObjectMeta: metav1.ObjectMeta{Name: "e", Namespace: "ns"}}
	archive.Spec.ClusterRef.Name = "a"
	c := &v1alpha1.EtcdCluster{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "ns", UID: "5e1f"}}
	for name, tc := range map[string]struct {
		object client.Object
		counts bool
	}{
		"its own":                 {of("ns", "a", "5e1f"), true},
		"one that has not begun":  {of("ns", "a", ""), true},
		"its schedule":            {schedule, true},
		"its archive":             {archive, true},
		"of another cluster":      {of("ns", "z", "5e1f"), false},
		"of another namespace":    {of("other", "a", "5e1f"), false},
		"of an earlier namesake":  {of("ns", "a", "0ld"), false},
		"a cluster, which is not": {&v1alpha1.EtcdCluster{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "ns"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			api := fake.NewClientBuilder().WithScheme(scheme(t)).WithObjects(tc.object).
				WithIndex(&v1alpha1.EtcdBackup{}, IndexClusterRef, ClusterRefOf).
				WithIndex(&v1alpha1.EtcdBackupSchedule{}, IndexClusterRef, ClusterRefOf).
				WithIndex(&v1alpha1.EtcdArchive{}, IndexClusterRef, ClusterRefOf).Build()
			got, err := (&Observer{Backups: api}).backups(t.Context(), c)
			if err != nil || (got.Reason != v1alpha1.ReasonNoBackups) != tc.counts {
				t.Errorf("got %+v, %v; want it to count: %v", got, err, tc.counts)
			}
		})
	}
	if got, err := (&Observer{}).backups(t.Context(), c); got != nil || err != nil {
		t.Errorf("without a reader: %+v, %v", got, err)
	}
}
