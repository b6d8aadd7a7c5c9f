package resources

import (
	"maps"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/snapshot"
)

// checkTimeout bounds how long a backup may be read before its cluster is stopped for it, unless
// its EtcdBackup gives more to its own work: a pod that never starts must not have the user wait
// for ever.
const checkTimeout = 2 * time.Hour

// CheckJobName is the name of the Job that reads the backup of an EtcdRestore.
func CheckJobName(restore string) string { return JobName(restore, snapshot.OperationCheck) }

// CheckJob reads the backup to its end before anybody is stopped for it: as the members that
// would begin with it, from the same store, with the same Secrets, as the same ServiceAccount
// and in the same image of etcd.
func CheckJob(c *v1alpha1.EtcdCluster, er *v1alpha1.EtcdRestore, r Restore) *batchv1.Job {
	return checkJob(metav1.ObjectMeta{
		Name: CheckJobName(er.Name), Namespace: er.Namespace,
		Labels: checkLabels(er.Name, r, map[string]string{
			v1alpha1.LabelRestore:    er.Name,
			v1alpha1.LabelRestoreUID: string(er.UID),
		}),
		Annotations:     map[string]string{v1alpha1.AnnotationChecks: r.BackupID, v1alpha1.AnnotationSecrets: r.Secrets},
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(er, v1alpha1.GroupVersion.WithKind("EtcdRestore"))},
	}, r.Timeout, checkSpec(c, r))
}

// RecoveryCheckJobName is the name of the Job that reads the backup of spec.recovery. It is not
// that of the Job of any EtcdRestore.
func RecoveryCheckJobName(cluster string) string { return cluster + "-recovery-look" }

// RecoveryCheckJob does the same for spec.recovery.
func RecoveryCheckJob(c *v1alpha1.EtcdCluster, r Restore) *batchv1.Job {
	return checkJob(metav1.ObjectMeta{
		Name: RecoveryCheckJobName(c.Name), Namespace: c.Namespace,
		Labels:          checkLabels(c.Name, r, map[string]string{v1alpha1.LabelRestoring: string(c.UID)}),
		Annotations:     map[string]string{v1alpha1.AnnotationReads: Reads(c, r), v1alpha1.AnnotationSecrets: r.Secrets, v1alpha1.AnnotationChecks: r.BackupID},
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(c, v1alpha1.GroupVersion.WithKind("EtcdCluster"))},
	}, r.Timeout, checkSpec(c, r))
}

// Reads says in a word what a Job reads for spec.recovery, and with what, but for the program
// and for what is in the Secrets: the word, the store and the backup in it, the key, etcd, and
// where a pod of it may run. What was found with another one answers nothing.
func Reads(c *v1alpha1.EtcdCluster, r Restore) string {
	r.BackupImage = ""
	return RecoveryWord(c) + "/" + r.BackupID + "/" + hashOf(checkSpec(c, r))
}

// checkLabels name whoever waits for the Job, and the EtcdBackup that it reads.
func checkLabels(instance string, r Restore, whose map[string]string) map[string]string {
	labels := map[string]string{
		"app.kubernetes.io/name":       "etcd-restore",
		"app.kubernetes.io/instance":   instance,
		"app.kubernetes.io/managed-by": "quorate",
		"app.kubernetes.io/component":  string(snapshot.OperationCheck),
	}
	if r.BackupName != "" {
		labels[v1alpha1.LabelBackup] = r.BackupName
	}
	maps.Copy(labels, whose)
	return identified(labels, r.Store)
}

func checkJob(is metav1.ObjectMeta, timeout time.Duration, spec corev1.PodSpec) *batchv1.Job {
	job := workJob(is, max(timeout, checkTimeout), spec)
	job.Spec.TTLSecondsAfterFinished = new(int32(workKept.Seconds()))
	return job
}

func checkSpec(c *v1alpha1.EtcdCluster, r Restore) corev1.PodSpec {
	m := store(r.Store)
	m.flag("--cluster-uid="+r.ClusterUID, "--backup="+r.BackupID, "--etcd-version="+c.Spec.Version)
	m.mount("tmp", "/tmp", emptyDir("16Mi"))
	m.mount("backup", backupDir, emptyDir("256Mi"))
	if r.Identity != nil {
		m.identity(&v1alpha1.BackupEncryption{IdentitySecretRef: r.Identity})
	}
	return workSpec(c.Name, m, Work{Operation: snapshot.OperationCheck, BackupImage: r.BackupImage, EtcdImage: Image(c), Cluster: c})
}
