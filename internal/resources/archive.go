package resources

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/snapshot"
)

// drillTimeout bounds a drill of an archive, with all its tries: a replay of millions of
// revisions takes its time.
const drillTimeout = 24 * time.Hour

const (
	// archivePruneTimeout bounds how long it may take to delete what an archive does not keep:
	// a million segments are deleted one by one.
	archivePruneTimeout = 12 * time.Hour
	// oldestBase is how old the newest base may be in an archive that does not keep everything,
	// so that a replay is not too long.
	oldestBase = 7 * 24 * time.Hour
)

// ArchiverName is the name of the Deployment whose pod archives.
func ArchiverName(archive string) string { return archive + "-archiver" }

// ArchiveDrillName is the name of the Job that tries an archive out.
func ArchiveDrillName(archive string) string { return JobName(archive, snapshot.OperationDrillArchive) }

// ArchivePruneName is the name of the Job that deletes what an archive does not keep. It is no
// JobName: an EtcdBackup may bear the name of the archive.
func ArchivePruneName(archive string) string { return archive + "-prune-archive" }

// ArchiveLabels of what works for an archive: none of them is a member's, so that no
// selector of a cluster finds it.
func ArchiveLabels(a *v1alpha1.EtcdArchive, operation snapshot.Operation) map[string]string {
	return map[string]string{
		"app.kubernetes.io/name":       "etcd-archive",
		"app.kubernetes.io/instance":   a.Name,
		"app.kubernetes.io/managed-by": "quorate",
		"app.kubernetes.io/component":  string(operation),
		v1alpha1.LabelArchive:          a.Name,
		v1alpha1.LabelArchiveUID:       string(a.UID),
	}
}

// Archiver is the Deployment whose only pod archives the cluster. A new pod comes when the
// old one is gone, as two would end each other; its annotation names what it was made from.
func Archiver(a *v1alpha1.EtcdArchive, w Work) (*appsv1.Deployment, error) {
	w.Operation = snapshot.OperationArchive
	labels := ArchiveLabels(a, w.Operation)
	annotations := map[string]string{}
	if e := a.Spec.Encryption; e != nil {
		annotations[v1alpha1.AnnotationRecipients] = strings.Join(e.Recipients, "\n")
	}
	m := store(a.Spec.Store)
	m.flag("--cluster-uid="+a.Status.ClusterUID, "--cluster-namespace="+a.Namespace, "--cluster-name="+w.Cluster.Name)
	m.mount("tmp", "/tmp", emptyDir("16Mi"))
	m.members(w.Cluster)
	m.rateLimit(a.Spec.RateLimit)
	m.flag("--seal-every=" + a.Spec.SealEvery.Duration.String())
	m.recipients(a.Spec.Encryption)
	if keep := a.Spec.KeepFor.Duration; keep > 0 {
		m.flag("--base-every=" + min(keep/2, oldestBase).String())
	}
	pod := workSpec(a.Spec.ServiceAccountName, m, w)
	pod.RestartPolicy = corev1.RestartPolicyAlways
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{
			Name: ArchiverName(a.Name), Namespace: a.Namespace, Labels: labels,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(a, v1alpha1.GroupVersion.WithKind("EtcdArchive"))},
		},
		Spec: appsv1.DeploymentSpec{
			Replicas:             new(int32(1)),
			RevisionHistoryLimit: new(int32(1)),
			Strategy:             appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType},
			Selector:             &metav1.LabelSelector{MatchLabels: labels},
			Template:             corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: identified(labels, a.Spec.Store), Annotations: annotations}, Spec: pod},
		},
	}
	made, err := json.Marshal(d.Spec)
	if err != nil {
		return nil, fmt.Errorf("encoding Deployment %s: %w", d.Name, err)
	}
	sum := sha256.Sum256(made)
	d.Annotations = map[string]string{v1alpha1.AnnotationTemplateHash: hex.EncodeToString(sum[:8])}
	return d, nil
}

// ArchiveHash is of what a drill is of: where the archive lies, for whom it is encrypted, and
// which history it holds. A drill says nothing of another one. It is empty while the cluster
// has no ID.
func ArchiveHash(a *v1alpha1.EtcdArchive, c *v1alpha1.EtcdCluster) string {
	if c == nil || c.Status.ClusterID == "" {
		return ""
	}
	return hashOf(struct {
		Store      v1alpha1.BackupStore
		Encryption *v1alpha1.BackupEncryption
		ClusterID  string
	}{a.Spec.Store, a.Spec.Encryption, c.Status.ClusterID})
}

// ArchiveDrillJob is the Job that restores an archive to its end, has a real etcd serve it,
// and compares that with the cluster.
func ArchiveDrillJob(a *v1alpha1.EtcdArchive, w Work) *batchv1.Job {
	w.Operation = snapshot.OperationDrillArchive
	labels := ArchiveLabels(a, w.Operation)
	annotations := map[string]string{v1alpha1.AnnotationTemplateHash: ArchiveHash(a, w.Cluster)}
	m := store(a.Spec.Store)
	m.flag("--cluster-uid=" + a.Status.ClusterUID)
	m.mount("tmp", "/tmp", emptyDir("16Mi"))
	m.members(w.Cluster)
	m.flag("--work-dir=" + workDir)
	m.rateLimit(a.Spec.RateLimit)
	m.identity(a.Spec.Encryption)
	// How much is replayed nobody knows before: the program looks at the disk as it goes on.
	m.workingDir(nil)
	job := workJob(metav1.ObjectMeta{
		Name: ArchiveDrillName(a.Name), Namespace: a.Namespace, Labels: identified(labels, a.Spec.Store), Annotations: annotations,
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(a, v1alpha1.GroupVersion.WithKind("EtcdArchive"))},
	}, drillTimeout, workSpec(a.Spec.ServiceAccountName, m, w))
	job.Spec.TTLSecondsAfterFinished = new(int32(workKept.Seconds()))
	return job
}

// ArchivePruneJob is the Job that deletes what no point since a time needs.
func ArchivePruneJob(a *v1alpha1.EtcdArchive, w Work, since time.Time) *batchv1.Job {
	w.Operation = snapshot.OperationPrune
	m := store(a.Spec.Store)
	m.flag("--cluster-uid="+a.Status.ClusterUID, "--points-since="+since.UTC().Format(time.RFC3339))
	m.mount("tmp", "/tmp", emptyDir("16Mi"))
	job := workJob(metav1.ObjectMeta{
		Name: ArchivePruneName(a.Name), Namespace: a.Namespace, Labels: identified(ArchiveLabels(a, w.Operation), a.Spec.Store),
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(a, v1alpha1.GroupVersion.WithKind("EtcdArchive"))},
	}, archivePruneTimeout, workSpec(a.Spec.ServiceAccountName, m, w))
	job.Spec.TTLSecondsAfterFinished = new(int32(workKept.Seconds()))
	return job
}
