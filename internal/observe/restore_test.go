package observe

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// TestRestoreBlocked: what stands in the way of a restore calls for the user, and a
// founded cluster does not ask for its backup any more.
func TestRestoreBlocked(t *testing.T) {
	good := func() *v1alpha1.EtcdBackup {
		b := &v1alpha1.EtcdBackup{ObjectMeta: metav1.ObjectMeta{Name: "b", Namespace: "ns"}}
		b.Spec.Store.S3 = &v1alpha1.S3Store{Bucket: "backups", CredentialsSecretRef: &v1alpha1.SecretReference{Name: "s3"}}
		b.Status.ID, b.Status.EtcdVersion = "the-id", "3.6.1"
		for _, kind := range []string{v1alpha1.ConditionComplete, v1alpha1.ConditionVerified} {
			meta.SetStatusCondition(&b.Status.Conditions, metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonVerified})
		}
		return b
	}
	unverified := good()
	meta.RemoveStatusCondition(&unverified.Status.Conditions, v1alpha1.ConditionVerified)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s3", Namespace: "ns"}}
	cases := map[string]struct {
		backup *v1alpha1.EtcdBackup
		secret bool
		change func(*v1alpha1.EtcdCluster)
		want   string
	}{
		"all is there":          {good(), true, nil, ""},
		"no backup":             {nil, true, nil, "EtcdBackup b does not exist"},
		"no Secret":             {good(), false, nil, "Secret s3 does not exist"},
		"not verified":          {unverified, true, nil, "is not verified"},
		"not verified, taken":   {unverified, true, func(c *v1alpha1.EtcdCluster) { c.Spec.RestoreFrom.AllowUnverified = true }, ""},
		"too old an etcd":       {good(), true, func(c *v1alpha1.EtcdCluster) { c.Spec.Version = "3.5.30" }, "set spec.version to 3.6.1 or later"},
		"it is on record":       {good(), true, func(c *v1alpha1.EtcdCluster) { c.Status.RestorePoint = "the-id" }, ""},
		"made anew since":       {good(), true, func(c *v1alpha1.EtcdCluster) { c.Status.RestorePoint = "0ld-id" }, "was made anew under the name"},
		"founded without it":    {nil, false, func(c *v1alpha1.EtcdCluster) { c.Status.ClusterID = "c1" }, ""},
		"nothing to restore":    {nil, false, func(c *v1alpha1.EtcdCluster) { c.Spec.RestoreFrom = nil }, ""},
		"a store by its name":   {nil, true, fromStore, ""},
		"a store and no Secret": {nil, false, fromStore, "Secret s3 does not exist"},
		"a claim, and no such": {nil, false, func(c *v1alpha1.EtcdCluster) {
			fromStore(c)
			c.Spec.RestoreFrom.Store = &v1alpha1.BackupStore{PersistentVolumeClaim: &v1alpha1.ClaimStore{ClaimName: "disk"}}
		}, "PersistentVolumeClaim disk, which"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			builder := fake.NewClientBuilder().WithScheme(scheme(t))
			if tc.backup != nil {
				builder = builder.WithObjects(tc.backup.DeepCopy())
			}
			if tc.secret {
				builder = builder.WithObjects(secret.DeepCopy())
			}
			c := &v1alpha1.EtcdCluster{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "ns"}}
			c.Spec.Version, c.Spec.RestoreFrom = "3.6.16", &v1alpha1.RestoreSource{BackupName: "b"}
			if tc.change != nil {
				tc.change(c)
			}
			point, problems, err := (&Observer{Live: builder.Build()}).restoreBlocked(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			latches := tc.want == "" && resources.RestoreFrom(c) != nil && c.Spec.RestoreFrom.BackupName != "" && c.Status.ClusterID == "" && c.Status.RestorePoint == ""
			if latches != (point != nil) || (latches && point.BackupID != "the-id") {
				t.Errorf("what goes on record is %+v", point)
			}
			stallsFor(t, problems, tc.want)
		})
	}
}

// stallsFor: each problem calls for the user, in three parts; there is none when want is empty.
func stallsFor(t *testing.T, problems []plan.Problem, want string) {
	t.Helper()
	if (want == "") != (len(problems) == 0) {
		t.Fatalf("problems %v, want %q", problems, want)
	}
	for _, p := range problems {
		if p.Severity != plan.Stalling || !strings.Contains(p.Message, want) || strings.Count(p.Message, " — ") != 2 {
			t.Errorf("problem %+v, want %q in three parts", p, want)
		}
	}
}

func fromStore(c *v1alpha1.EtcdCluster) {
	c.Spec.RestoreFrom = &v1alpha1.RestoreSource{
		ClusterUID: "5e1f", BackupID: "the-id",
		Store: &v1alpha1.BackupStore{S3: &v1alpha1.S3Store{Bucket: "backups", CredentialsSecretRef: &v1alpha1.SecretReference{Name: "s3"}}},
	}
}
