package observe

import (
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/internal/snapshot"
)

// TestRestorePoint: the point of an archive is put together once, and founders wait for it.
func TestRestorePoint(t *testing.T) {
	archive := &v1alpha1.EtcdArchive{ObjectMeta: metav1.ObjectMeta{Name: "e", Namespace: "ns"}}
	archive.Spec.Store.S3 = &v1alpha1.S3Store{Bucket: "backups", CredentialsSecretRef: &v1alpha1.SecretReference{Name: "s3"}}
	archive.Status.ClusterUID = "0ld"
	young := archive.DeepCopy()
	young.Status.ClusterUID = ""
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s3", Namespace: "ns"}}
	job := func(uid string, kind batchv1.JobConditionType) *batchv1.Job {
		j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "a-rebuild", Namespace: "ns", Labels: map[string]string{v1alpha1.LabelRestoring: uid}}}
		if kind != "" {
			j.Status.Conditions = []batchv1.JobCondition{{Type: kind, Status: corev1.ConditionTrue, Message: "backoff"}}
		}
		return j
	}
	pod := func(name string, r snapshot.Result) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", Labels: map[string]string{v1alpha1.LabelRestoring: "5e1f", batchv1.JobNameLabel: "a-rebuild"}}}
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: resources.BackupContainer, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Message: string(r.Encode())}}}}
		return p
	}
	good := snapshot.Result{Operation: snapshot.OperationRebuild, Outcome: snapshot.OutcomeSucceeded, Backup: &snapshot.Backup{ID: "the-id"}}
	failed := snapshot.Result{Operation: snapshot.OperationRebuild, Outcome: snapshot.OutcomeFailed, Reason: snapshot.ReasonNotArchived, Message: "not held — gone — choose another"}
	other := good
	other.Operation = snapshot.OperationSave
	objects := func(o ...client.Object) []client.Object { return o }
	for name, tc := range map[string]struct {
		objects []client.Object
		change  func(*v1alpha1.EtcdCluster)
		want    plan.Point
		problem string
	}{
		"it is due":                     {objects(archive, secret), nil, plan.Point{Due: true}, ""},
		"there is no archive":           {objects(secret), nil, plan.Point{}, "EtcdArchive e does not exist"},
		"nothing is archived":           {objects(young, secret), nil, plan.Point{}, "has archived nothing yet"},
		"there is no Secret":            {objects(archive), nil, plan.Point{}, "Secret s3 does not exist"},
		"it is under way":               {objects(archive, secret, job("5e1f", "")), nil, plan.Point{Waits: "Job a-rebuild puts the point of the archive together that all founders begin with"}, ""},
		"it is done":                    {objects(archive, secret, job("5e1f", batchv1.JobComplete), pod("x", good)), nil, plan.Point{BackupID: "the-id"}, ""},
		"a pod failed before":           {objects(archive, secret, job("5e1f", batchv1.JobComplete), pod("w", failed), pod("x", good)), nil, plan.Point{BackupID: "the-id"}, ""},
		"its result is lost":            {objects(archive, secret, job("5e1f", batchv1.JobComplete)), nil, plan.Point{Due: true}, ""},
		"another work's result":         {objects(archive, secret, job("5e1f", batchv1.JobComplete), pod("x", other)), nil, plan.Point{Due: true}, ""},
		"done, and the Job still runs":  {objects(archive, secret, job("5e1f", ""), pod("x", good)), nil, plan.Point{Waits: "Job a-rebuild puts the point of the archive together that all founders begin with"}, ""},
		"it failed":                     {objects(archive, secret, job("5e1f", batchv1.JobFailed), pod("x", failed)), nil, plan.Point{}, "choose another; it is not tried again by itself: when that is mended, delete Job a-rebuild"},
		"it was killed":                 {objects(archive, secret, job("5e1f", batchv1.JobFailed)), nil, plan.Point{}, "Job a-rebuild failed: backoff"},
		"an earlier namesake's Job":     {objects(archive, secret, job("0ld", batchv1.JobComplete), pod("x", good)), nil, plan.Point{}, "belongs to somebody else"},
		"it is on record":               {objects(archive, secret), func(c *v1alpha1.EtcdCluster) { c.Status.RestorePoint = "the-id" }, plan.Point{}, ""},
		"on record, and no archive":     {objects(secret), func(c *v1alpha1.EtcdCluster) { c.Status.RestorePoint = "the-id" }, plan.Point{}, "does not exist"},
		"the cluster is founded":        {nil, func(c *v1alpha1.EtcdCluster) { c.Status.ClusterID = "c1" }, plan.Point{}, ""},
		"a store by its name is enough": {objects(secret), toStore, plan.Point{Due: true}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := &v1alpha1.EtcdCluster{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "ns", UID: "5e1f"}}
			c.Spec.RestoreFrom = &v1alpha1.RestoreSource{ArchiveName: "e", ToRevision: 42}
			if tc.change != nil {
				tc.change(c)
			}
			live := fake.NewClientBuilder().WithScheme(scheme(t)).WithObjects(tc.objects...).Build()
			got, problems, err := (&Observer{Live: live}).restoreBlocked(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			if got == nil {
				got = &plan.Point{}
			}
			if *got != tc.want {
				t.Errorf("point %+v, want %+v", *got, tc.want)
			}
			stallsFor(t, problems, tc.problem)
		})
	}
}

func toStore(c *v1alpha1.EtcdCluster) {
	fromStore(c)
	c.Spec.RestoreFrom.BackupID, c.Spec.RestoreFrom.ToTime = "", "2026-03-29T11:59:00Z"
}
