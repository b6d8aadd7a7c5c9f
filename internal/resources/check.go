package resources

import (
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/snapshot"
)

// checkTimeout bounds how long a backup may be read before its cluster is stopped for it: a
// pod that never starts must not have the user wait for ever.
const checkTimeout = 2 * time.Hour

// CheckJobName is the name of the Job that reads the backup of an EtcdRestore.
func CheckJobName(restore string) string { return JobName(restore, snapshot.OperationCheck) }

// CheckJob reads the backup to its end before anybody is stopped for it: as the members that
// would begin with it, from the same store, with the same Secrets, as the same ServiceAccount
// and in the same image of etcd.
func CheckJob(c *v1alpha1.EtcdCluster, er *v1alpha1.EtcdRestore, r Restore) *batchv1.Job {
	m := store(r.Store)
	m.flag("--cluster-uid="+r.ClusterUID, "--backup="+r.BackupID, "--etcd-version="+c.Spec.Version)
	m.mount("tmp", "/tmp", emptyDir("16Mi"))
	m.mount("backup", backupDir, emptyDir("256Mi"))
	if r.Identity != nil {
		m.identity(&v1alpha1.BackupEncryption{IdentitySecretRef: r.Identity})
	}
	w := Work{Operation: snapshot.OperationCheck, BackupImage: r.BackupImage, EtcdImage: Image(c), Cluster: c}
	job := workJob(metav1.ObjectMeta{
		Name: CheckJobName(er.Name), Namespace: er.Namespace,
		Labels: map[string]string{
			"app.kubernetes.io/name":       "etcd-restore",
			"app.kubernetes.io/instance":   er.Name,
			"app.kubernetes.io/managed-by": "quorate",
			"app.kubernetes.io/component":  string(snapshot.OperationCheck),
			v1alpha1.LabelRestore:          er.Name,
			v1alpha1.LabelRestoreUID:       string(er.UID),
		},
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(er, v1alpha1.GroupVersion.WithKind("EtcdRestore"))},
	}, checkTimeout, workSpec(c.Name, m, w))
	job.Spec.TTLSecondsAfterFinished = new(int32(workKept.Seconds()))
	return job
}
