package resources

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
)

// verifiedBackup is one of the cluster.
func verifiedBackup(c *v1alpha1.EtcdCluster, id string) *v1alpha1.EtcdBackup {
	b := &v1alpha1.EtcdBackup{ObjectMeta: metav1.ObjectMeta{Name: "nightly"}}
	b.Spec.ClusterRef.Name = c.Name
	b.Status.ID, b.Status.ClusterUID, b.Status.EtcdVersion = id, ClusterUID(c), c.Spec.Version
	for _, kind := range []string{v1alpha1.ConditionComplete, v1alpha1.ConditionVerified} {
		meta.SetStatusCondition(&b.Status.Conditions, metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonVerified})
	}
	return b
}

// TestRestoreFrom: what founders begin with is the backup that was put on record, whatever
// bears its name by now.
func TestRestoreFrom(t *testing.T) {
	recovered := func(c *v1alpha1.EtcdCluster) {
		c.Status.Incarnation = 2
		c.Status.Recovery = &v1alpha1.RecoveryStatus{Incarnation: 2, BackupName: "nightly", BackupID: "the-id", BackupClusterUID: ClusterUID(c)}
	}
	founding := func(point string) change {
		return func(c *v1alpha1.EtcdCluster) {
			c.Spec.RestoreFrom, c.Status.RestorePoint = &v1alpha1.RestoreSource{BackupName: "nightly"}, point
		}
	}
	for name, tc := range map[string]struct {
		change change
		id     string
		want   string
	}{
		"a recovery":                      {recovered, "the-id", ""},
		"a recovery, made anew":           {recovered, "another-id", "name another one in spec.recovery, with the incarnation 2"},
		"a founding":                      {founding("the-id"), "the-id", ""},
		"a founding, made anew":           {founding("the-id"), "another-id", "create the cluster anew with another backup"},
		"a founding, nothing on record":   {founding(""), "another-id", ""},
		"a recovery of another cluster's": {func(c *v1alpha1.EtcdCluster) { recovered(c); c.Status.Recovery.BackupClusterUID = "0ther" }, "the-id", "made anew"},
	} {
		c := cluster(tc.change)
		r, blocked := RestoreOf(c, RestoreFrom(c), verifiedBackup(c, tc.id), nil)
		if (tc.want == "") != (blocked == "") || !strings.Contains(blocked, tc.want) || (blocked != "" && strings.Count(blocked, " — ") != 2) || (blocked == "" && r.BackupID != tc.id) {
			t.Errorf("%s: %+v, blocked by %q, want %q in three parts", name, r, blocked, tc.want)
		}
	}
}

// TestAClaimNamesItsBackup by its ID too, for status may be lost.
func TestAClaimNamesItsBackup(t *testing.T) {
	c := cluster()
	c.Status.Incarnation, c.Status.Founders = 2, []string{"a-0003"}
	c.Status.Recovery = &v1alpha1.RecoveryStatus{Incarnation: 2, BackupName: "nightly", BackupID: "the-id"}
	if on := Claim(c, "a-0003").Annotations; on[v1alpha1.AnnotationRecovery] != "nightly" || on[v1alpha1.AnnotationRecoveryID] != "the-id" {
		t.Errorf("a founder's claim says %v", on)
	}
	if on := Claim(c, "a-0004").Annotations; on[v1alpha1.AnnotationRecovery] != "" || on[v1alpha1.AnnotationRecoveryID] != "" {
		t.Errorf("a later member's claim says %v", on)
	}
}
