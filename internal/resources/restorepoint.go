package resources

import (
	"cmp"
	"fmt"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/snapshot"
)

// rebuildTimeout bounds how long a point may be put together: a replay of millions of
// revisions takes its time, and the user waits for it.
const rebuildTimeout = 24 * time.Hour

// Point of an archive that a cluster begins with.
type Point struct {
	// Store and ClusterUID are where the archive lies.
	Store      v1alpha1.BackupStore
	ClusterUID string
	// BackupID is the backup to begin with; empty for whichever fits.
	BackupID string
	// Identity is the Secret with the private key, for an encrypted archive.
	Identity *v1alpha1.SecretReference
	// ServiceAccount of the pod that puts it together.
	ServiceAccount string
}

// WantsPoint says that a source is a point of an archive.
func WantsPoint(from *v1alpha1.RestoreSource) bool {
	return from.ToRevision > 0 || from.ToTime != ""
}

// PointOf is the archive that spec.restoreFrom names. The second answer says why it cannot be
// restored, in three parts, and is empty if it can be tried.
func PointOf(c *v1alpha1.EtcdCluster, b *v1alpha1.EtcdBackup, a *v1alpha1.EtcdArchive) (Point, string) {
	from := c.Spec.RestoreFrom
	if from.ArchiveName == "" {
		r, blocked := restoreOfBackup(c, from, b)
		p := Point{Store: r.Store, ClusterUID: r.ClusterUID, BackupID: r.BackupID, Identity: r.Identity}
		if b != nil {
			p.ServiceAccount = b.Spec.ServiceAccountName
		}
		return p, blocked
	}
	if a == nil {
		return Point{}, fmt.Sprintf("EtcdArchive %s does not exist in this namespace — no member is started without its data — create the cluster anew with another archive, or with the store that it lies in", from.ArchiveName)
	}
	p := Point{Store: a.Spec.Store, ClusterUID: a.Status.ClusterUID, Identity: from.IdentitySecretRef, ServiceAccount: a.Spec.ServiceAccountName}
	if p.Identity == nil && a.Spec.Encryption != nil {
		p.Identity = a.Spec.Encryption.IdentitySecretRef
	}
	if p.ClusterUID == "" {
		return p, fmt.Sprintf("EtcdArchive %s has archived nothing yet — there is nothing to restore — wait for it, or create the cluster anew with another archive", a.Name)
	}
	return p, ""
}

// restoreOfPoint is the backup that the point was put together as. It lies below the UID of
// the cluster that begins with it.
func restoreOfPoint(c *v1alpha1.EtcdCluster, b *v1alpha1.EtcdBackup, a *v1alpha1.EtcdArchive) (Restore, string) {
	p, blocked := PointOf(c, b, a)
	if blocked == "" && c.Status.RestorePoint == "" {
		blocked = "the point of spec.restoreFrom has not been put together yet — every founder must begin with the same data — it is waited for"
	}
	return Restore{Store: p.Store, ClusterUID: ClusterUID(c), BackupID: c.Status.RestorePoint, Identity: p.Identity}, blocked
}

// RebuildJobName is the name of the Job that puts the point together which a cluster begins
// with.
func RebuildJobName(cluster string) string { return JobName(cluster, snapshot.OperationRebuild) }

// RebuildAstray says that a RebuildJob goes by a way to the archive that spec.restoreFrom does not
// have any more.
func RebuildAstray(c *v1alpha1.EtcdCluster, job *batchv1.Job) bool {
	return astray(c, job.Annotations)
}

// RebuildJob puts the point together once, for all founders: two that replayed an archive each
// for itself could begin with different leases.
func RebuildJob(c *v1alpha1.EtcdCluster, p Point, backupImage string) *batchv1.Job {
	labels := map[string]string{
		"app.kubernetes.io/name":       "etcd-restore",
		"app.kubernetes.io/instance":   c.Name,
		"app.kubernetes.io/managed-by": "quorate",
		"app.kubernetes.io/component":  string(snapshot.OperationRebuild),
		v1alpha1.LabelRestoring:        string(c.UID),
	}
	from := c.Spec.RestoreFrom
	m := store(p.Store)
	m.flag(
		"--cluster-uid="+p.ClusterUID,
		"--backup="+cmp.Or(p.BackupID, "latest"),
		"--into-cluster-uid="+ClusterUID(c),
		"--name="+c.Name,
		"--uid="+string(c.UID),
		"--cluster-namespace="+c.Namespace,
		"--cluster-name="+c.Name,
		"--work-dir="+workDir,
	)
	if from.ToTime != "" {
		m.flag("--to-time=" + from.ToTime)
	} else {
		m.flag("--to-revision=" + strconv.FormatInt(from.ToRevision, 10))
	}
	m.mount("tmp", "/tmp", emptyDir("16Mi"))
	if p.Identity != nil {
		m.identity(&v1alpha1.BackupEncryption{IdentitySecretRef: p.Identity})
	}
	// As for the drill of an archive, the program looks at the disk as it goes on.
	m.workingDir(nil)
	w := Work{Operation: snapshot.OperationRebuild, BackupImage: backupImage, EtcdImage: Image(c), Cluster: c}
	return workJob(metav1.ObjectMeta{
		Name: RebuildJobName(c.Name), Namespace: c.Namespace, Labels: identified(labels, p.Store),
		Annotations:     map[string]string{v1alpha1.AnnotationRestoreWay: RestoreWay(c)},
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(c, v1alpha1.GroupVersion.WithKind("EtcdCluster"))},
	}, rebuildTimeout, workSpec(p.ServiceAccount, m, w))
}
