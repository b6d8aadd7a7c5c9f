package resources

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/snapshot"
)

// ErrNoBackupImage is of an operator without the image; it works in all else.
var ErrNoBackupImage = errors.New("the operator was started without --backup-image — backups are made and restored by what it holds — set it, or env BACKUP_IMAGE, to the backup image of the operator's release")

// RestoreContainer is the name of the init container that fills an empty volume, and
// InstallContainer of the one before it, which gives it the program.
const (
	RestoreContainer = "restore"
	InstallContainer = "install-backup"
)

// Restore is the backup that a founder's empty volume is filled with before its first
// start, the same for all founders.
type Restore struct {
	// BackupImage holds the program.
	BackupImage string
	// Store, ClusterUID and BackupID are where the backup lies.
	Store                v1alpha1.BackupStore
	ClusterUID, BackupID string
	// BackupName is the EtcdBackup; empty if a store alone is named.
	BackupName string
	// Identity is the Secret with the private key, for an encrypted backup.
	Identity *v1alpha1.SecretReference
	// Timeout is what the EtcdBackup gives to whatever makes or reads the backup; zero if it
	// says nothing, or if there is none.
	Timeout time.Duration
	// Secrets are the versions of those that it is read with, where somebody has looked.
	Secrets string
	// Survivor is whose volume is copied instead; nil if it is a backup.
	Survivor *Survivor
	// Floor is the least revision to begin with.
	Floor int64
}

// RestoreFrom is the backup that the founders of the present incarnation begin with; nil if
// they begin with nothing.
func RestoreFrom(c *v1alpha1.EtcdCluster) *v1alpha1.RestoreSource {
	switch r := c.Status.Recovery; {
	case r != nil && r.Incarnation == incarnation(c) && r.Survivor != nil:
		return nil
	case r != nil && r.Incarnation == incarnation(c):
		// Whether an unverified one may be taken was asked when it began.
		return &v1alpha1.RestoreSource{BackupName: r.BackupName, ClusterUID: r.BackupClusterUID, BackupID: r.BackupID, AllowUnverified: true}
	case incarnation(c) > 1:
		return nil
	case c.Spec.RestoreFrom != nil && c.Spec.RestoreFrom.BackupName != "" && !WantsPoint(c.Spec.RestoreFrom) && c.Status.RestorePoint != "":
		from := c.Spec.RestoreFrom.DeepCopy()
		from.BackupID = c.Status.RestorePoint
		return from
	default:
		return c.Spec.RestoreFrom
	}
}

// RestoreWay is the hash of the way to the backup that the founders begin with, as spec.restoreFrom
// has it: the store, and the Secret with the key. It may be corrected until the cluster is founded;
// which backup that is may not.
func RestoreWay(c *v1alpha1.EtcdCluster) string {
	var way struct {
		Store    *v1alpha1.BackupStore
		Identity *v1alpha1.SecretReference
	}
	if from := RestoreFrom(c); from != nil {
		way.Store, way.Identity = from.Store, from.IdentitySecretRef
	}
	return hashOf(way)
}

// astray says that what bears the annotations goes by a way that spec.restoreFrom does not have any
// more. Who knows of no way, as what an operator of before has made, has not gone astray.
func astray(c *v1alpha1.EtcdCluster, annotations map[string]string) bool {
	way := annotations[v1alpha1.AnnotationRestoreWay]
	return way != "" && way != RestoreWay(c)
}

// Astray says that the pod would fill its volume by a way to the backup that spec.restoreFrom does
// not have any more.
func Astray(c *v1alpha1.EtcdCluster, pod *corev1.Pod) bool {
	filled := EndedFiller(pod)
	return c.Status.ClusterID == "" && astray(c, pod.Annotations) && (filled == nil || filled.ExitCode != 0)
}

// Awaits are the EtcdBackups that the cluster cannot do without: the one that its founders
// begin with, until each of them has started, and the one that spec.recovery wants to go on
// with, as long as that counts.
func Awaits(c *v1alpha1.EtcdCluster) []string {
	var names []string
	if from := RestoreFrom(c); from != nil && from.BackupName != "" && filling(c) {
		names = append(names, from.BackupName)
	}
	if r := c.Spec.Recovery; r != nil && r.BackupName != "" && r.Incarnation == incarnation(c) && c.Status.VoidRecovery != RecoveryWord(c) {
		names = append(names, r.BackupName)
	}
	return names
}

// filling says that a founder may still be about to be filled: the cluster is not founded, or
// one has not been seen to run since a majority of the others was.
func filling(c *v1alpha1.EtcdCluster) bool {
	return c.Status.ClusterID == "" || slices.ContainsFunc(c.Status.Members, func(m v1alpha1.MemberStatus) bool {
		return m.Version == "" && slices.Contains(c.Status.Founders, m.Name)
	})
}

// RecoveryWord is spec.recovery in a word; empty without one.
func RecoveryWord(c *v1alpha1.EtcdCluster) string {
	switch r := c.Spec.Recovery; {
	case r == nil:
		return ""
	case r.Survivor != "":
		return fmt.Sprintf("%d/survivor/%s", r.Incarnation, r.Survivor)
	default:
		return fmt.Sprintf("%d/%s", r.Incarnation, r.BackupName)
	}
}

// RecoveryFrom is the backup that spec.recovery wants to go on with.
func RecoveryFrom(r *v1alpha1.RecoverySpec) *v1alpha1.RestoreSource {
	return &v1alpha1.RestoreSource{BackupName: r.BackupName, AllowUnverified: r.AllowUnverified}
}

// RestoreOf is the backup that a source names, or that the point which it names was put
// together as. b is the EtcdBackup of that name and a the EtcdArchive, nil if there is none.
// The second answer says why it cannot be restored, in three parts, and is empty if it can.
func RestoreOf(c *v1alpha1.EtcdCluster, from *v1alpha1.RestoreSource, b *v1alpha1.EtcdBackup, a *v1alpha1.EtcdArchive) (Restore, string) {
	if WantsPoint(from) {
		return restoreOfPoint(c, b, a)
	}
	return restoreOfBackup(c, from, b)
}

func restoreOfBackup(c *v1alpha1.EtcdCluster, from *v1alpha1.RestoreSource, b *v1alpha1.EtcdBackup) (Restore, string) {
	if from.Store != nil {
		return Restore{Store: *from.Store, ClusterUID: from.ClusterUID, BackupID: from.BackupID, Identity: from.IdentitySecretRef}, ""
	}
	w := waysOut(c)
	if b == nil {
		return Restore{}, fmt.Sprintf("EtcdBackup %s does not exist in this namespace — no member is started without its data — %s", from.BackupName, w.store)
	}
	r := Restore{Store: b.Spec.Store, ClusterUID: b.Status.ClusterUID, BackupID: b.Status.ID, Identity: from.IdentitySecretRef, Timeout: b.Spec.Timeout.Duration, BackupName: b.Name}
	if r.Identity == nil && b.Spec.Encryption != nil {
		r.Identity = b.Spec.Encryption.IdentitySecretRef
	}
	is := func(kind string) bool { return meta.IsStatusConditionTrue(b.Status.Conditions, kind) }
	switch {
	case !b.DeletionTimestamp.IsZero():
		return r, fmt.Sprintf("EtcdBackup %s is being deleted — its objects may go at any moment — %s", b.Name, w.another)
	case wasFounded(c) && b.Spec.ClusterRef.Name != c.Name:
		return r, fmt.Sprintf("EtcdBackup %s is of EtcdCluster %s — this cluster's clients would be given the data of another one — %s", b.Name, b.Spec.ClusterRef.Name, w.another)
	case !is(v1alpha1.ConditionComplete) || r.BackupID == "":
		return r, fmt.Sprintf("EtcdBackup %s is not complete (%s) — there is nothing to restore yet — wait for it, or %s", b.Name, readyReason(b), w.another)
	case anew(from, r):
		return r, fmt.Sprintf("EtcdBackup %s is the backup %s, and the one that was asked for is %s — it was made anew under the name, and founders would begin with different data, or with what nobody has asked for — %s", b.Name, r.BackupID, from.BackupID, w.another)
	case !is(v1alpha1.ConditionVerified) && !from.AllowUnverified:
		return r, fmt.Sprintf("EtcdBackup %s is not verified (%s) — nobody has seen that it can be restored — wait for it, or %s", b.Name, readyReason(b), w.unverified)
	case wasFounded(c) && b.Status.ClusterUID != "" && b.Status.ClusterUID != ClusterUID(c):
		return r, fmt.Sprintf("EtcdBackup %s is of an EtcdCluster %s with the UID %s, which is not this one — this cluster's clients would be given the data of another one — %s", b.Name, b.Spec.ClusterRef.Name, b.Status.ClusterUID, w.another)
	case etcd.Minor(c.Spec.Version) > etcd.Minor(b.Status.EtcdVersion)+1:
		return r, fmt.Sprintf("EtcdBackup %s was taken from etcd %s, and spec.version is %s — etcd opens the data of the minor release before its own, and of none before that — %s; this one can begin a new cluster of 3.%d", b.Name, b.Status.EtcdVersion, c.Spec.Version, w.another, etcd.Minor(b.Status.EtcdVersion)+1)
	case newer(b.Status.EtcdVersion, c.Spec.Version):
		return r, fmt.Sprintf("EtcdBackup %s was taken from etcd %s, and spec.version is %s — an older etcd cannot open the data of a newer one — set spec.version to %s or later", b.Name, b.Status.EtcdVersion, c.Spec.Version, b.Status.EtcdVersion)
	default:
		return r, ""
	}
}

// anew says that an EtcdBackup is not the backup that was put on record under its name.
func anew(from *v1alpha1.RestoreSource, r Restore) bool {
	return (from.BackupID != "" && from.BackupID != r.BackupID) || (from.ClusterUID != "" && from.ClusterUID != r.ClusterUID)
}

// wasFounded: a founded cluster asks for a backup only when it is to go on with one, and so
// does an incarnation after the first.
func wasFounded(c *v1alpha1.EtcdCluster) bool { return c.Status.ClusterID != "" || incarnation(c) > 1 }

// ways are what the user can do about a backup that cannot be restored.
type ways struct{ another, store, unverified string }

func waysOut(c *v1alpha1.EtcdCluster) ways {
	if c.Status.ClusterID != "" {
		another := "name another one in another EtcdRestore, or, where spec.recovery names this one, there"
		return ways{another, another + ", or create a cluster with the store that it lies in", "set allowUnverified, of another EtcdRestore or, where spec.recovery names it, there"}
	}
	another := "create the cluster anew with another backup"
	if r := c.Status.Recovery; r != nil {
		another := fmt.Sprintf("name another one in spec.recovery, with the incarnation %d, which gives this one up as well", r.Incarnation)
		return ways{another, another, "set spec.recovery.allowUnverified"}
	}
	if incarnation(c) > 1 {
		// The volumes of the incarnation that was given up may be the only copy there is.
		another = "set spec.storage.whenDeleted to Retain, so that the old volumes stay, and then create the cluster anew with another backup"
	}
	return ways{another, another + ", or with the store that it lies in", "create the cluster anew with restoreFrom.allowUnverified"}
}

func readyReason(b *v1alpha1.EtcdBackup) string {
	if ready := meta.FindStatusCondition(b.Status.Conditions, v1alpha1.ConditionReady); ready != nil {
		return ready.Reason
	}
	return v1alpha1.ReasonPending
}

// newer says that a version's minor release is above another's.
func newer(a, b string) bool { return etcd.Minor(a) > etcd.Minor(b) }

// fillVolume adds to a pod what fills its empty volume before the guard looks at it.
// The guard is not told that the volume may be empty: a restore that did not come to
// its end is refused like a lost volume.
func (r *Restore) fillVolume(c *v1alpha1.EtcdCluster, s Start, spec *corev1.PodSpec) {
	if r.Survivor != nil {
		r.fillFromSurvivor(c, s, spec)
		return
	}
	m := store(r.Store)
	m.flag(
		"--cluster-uid="+r.ClusterUID,
		"--backup="+r.BackupID,
		"--foreign",
	)
	m.flag(fillFlags(c, s)...)
	m.flag("--bump-revision=" + strconv.FormatInt(RevisionBump(r.Floor, snapshot.RevisionOf(r.BackupID)), 10))
	if r.Identity != nil {
		m.identity(&v1alpha1.BackupEncryption{IdentitySecretRef: r.Identity})
	}
	m.mount("tmp", "/tmp", emptyDir("16Mi"))
	m.mount("backup", backupDir, emptyDir("256Mi"))
	for _, v := range m.volumes {
		if v.Secret != nil {
			// Once the volume is filled nobody needs them any more: a pod must come
			// back after a reboot of its node although the user has deleted them.
			v.Secret.Optional = new(true)
		}
	}
	r.addFiller(c, snapshot.OperationRestore, m, spec)
}

// fillFlags say which volume is filled, and as whose.
func fillFlags(c *v1alpha1.EtcdCluster, s Start) []string {
	return []string{
		"--into-cluster-uid=" + ClusterUID(c),
		"--incarnation=" + strconv.FormatInt(incarnation(c), 10),
		"--member=" + s.Member,
		"--volume-uid=" + s.VolumeUID,
		"--volume=" + volumeMount,
		"--data-dir=" + dataDir,
		"--initial-cluster=" + InitialCluster(c, s.Orders.Peers, s.Orders.URLs),
		"--initial-cluster-token=" + Token(c),
		"--initial-advertise-peer-urls=" + PeerURL(c, s.Member),
		"--etcd-version=" + c.Spec.Version,
		"--orders=" + annotationsMount + "/annotations",
	}
}

// addFiller adds the init container that fills the volume.
func (r *Restore) addFiller(c *v1alpha1.EtcdCluster, operation snapshot.Operation, m mounted, spec *corev1.PodSpec) {
	spec.Volumes = append(spec.Volumes, m.volumes...)
	spec.InitContainers = append(spec.InitContainers, backupInstaller(r.BackupImage), corev1.Container{
		Name:                     RestoreContainer,
		Image:                    Image(c),
		ImagePullPolicy:          c.Spec.Image.PullPolicy,
		Command:                  append([]string{installedBackup, string(operation)}, m.flags...),
		Resources:                workResources(operation),
		SecurityContext:          containerSecurity(),
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		VolumeMounts: append(m.mounts,
			corev1.VolumeMount{Name: "data", MountPath: volumeMount},
			corev1.VolumeMount{Name: "orders", MountPath: annotationsMount, ReadOnly: true}),
	})
}
