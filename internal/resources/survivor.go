package resources

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/snapshot"
)

// survivorMount is where the survivor's volume is in the pod that copies it.
const survivorMount = "/survivor"

// Survivor is a member of an incarnation that was given up, and its volume.
type Survivor struct {
	Member      string
	VolumeUID   string
	Incarnation int64
}

// SurvivorOf is whose volume the present incarnation begins with: as status says or, where
// that is lost, as the founder's claim does, whose annotations are the record. nil if it does
// not begin with one.
func SurvivorOf(c *v1alpha1.EtcdCluster, record map[string]string) *Survivor {
	if r := c.Status.Recovery; r != nil && r.Incarnation == incarnation(c) {
		if r.Survivor == nil {
			return nil
		}
		return &Survivor{Member: r.Survivor.Name, VolumeUID: r.Survivor.VolumeUID, Incarnation: r.Survivor.Incarnation}
	}
	parts := strings.Split(record[v1alpha1.AnnotationSurvivor], "/")
	if len(parts) != 3 {
		return nil
	}
	n, err := strconv.ParseInt(parts[0], 10, 64)
	if err != nil {
		return nil
	}
	return &Survivor{Member: parts[1], VolumeUID: parts[2], Incarnation: n}
}

// ID names what a volume is filled with, as that of a backup does.
func (s Survivor) ID() string { return s.Member + "/" + s.VolumeUID }

func (s Survivor) String() string {
	return fmt.Sprintf("%d/%s/%s", s.Incarnation, s.Member, s.VolumeUID)
}

// SurvivorBlocked says why a survivor's claim cannot be copied, in three parts; empty if it
// can. claim is the one of that name, nil if there is none.
func SurvivorBlocked(c *v1alpha1.EtcdCluster, s Survivor, claim *corev1.PersistentVolumeClaim) string {
	const way = "bring it back, or set spec.storage.whenDeleted to Retain, so that the old volumes stay, and create the cluster anew with a backup"
	switch {
	case claim == nil:
		return fmt.Sprintf("claim %s of the survivor %s does not exist any more — no member is started without its data — %s", ClaimName(s.Member), s.Member, way)
	case claim.UID != types.UID(s.VolumeUID) || claim.Labels[v1alpha1.LabelClusterUID] != ClusterUID(c):
		return fmt.Sprintf("claim %s has the UID %s, and that of the survivor %s had %s — it was made anew, and holds something else — %s", claim.Name, claim.UID, s.Member, s.VolumeUID, way)
	case !claim.DeletionTimestamp.IsZero() || claim.Status.Phase != corev1.ClaimBound:
		return fmt.Sprintf("claim %s of the survivor %s is %s, or being deleted — no member is started without its data — %s", claim.Name, s.Member, claim.Status.Phase, way)
	default:
		return ""
	}
}

// SurvivorUnfit says why the release of the spec is not to go on with a survivor's data, in
// three parts; empty if it may. A copy is opened by the release that wrote it, and upgraded
// when the cluster is whole again.
func SurvivorUnfit(c *v1alpha1.EtcdCluster, name string) string {
	version := c.Spec.Version
	for _, m := range c.Status.Members {
		if m.Name == name && m.Version != "" && etcd.Minor(m.Version) != etcd.Minor(version) {
			return fmt.Sprintf("%s ran etcd %s, and spec.version is %s — a log is read safely by the minor release alone that wrote it — set spec.version to a release of 3.%d, and change it when the cluster serves again",
				name, m.Version, version, etcd.Minor(m.Version))
		}
	}
	if version == "3.6.0" {
		return "spec.version is 3.6.0 — it can lose writes that a survivor holds, or keep members that are gone — set spec.version to 3.6.1 or later"
	}
	return ""
}

// MountsSurvivor says that a pod has a survivor's volume, which it needs no longer than until
// its own is filled. An annotation says so, since caches do not keep the rest of a pod.
func MountsSurvivor(pod *corev1.Pod) bool { return pod.Annotations[v1alpha1.AnnotationSurvivor] != "" }

// HoldsSurvivor says that a pod has a survivor's volume which it does not need any more: the
// cluster is founded, so its own is filled.
func HoldsSurvivor(c *v1alpha1.EtcdCluster, pod *corev1.Pod) bool {
	return c.Status.ClusterID != "" && MountsSurvivor(pod)
}

// survivorVolume is its name in the pod.
const survivorVolume = "survivor"

// fillFromSurvivor adds to a pod what fills its empty volume with a copy. Both volumes are in
// the pod, so that the scheduler finds a node which has the survivor's.
func (r *Restore) fillFromSurvivor(c *v1alpha1.EtcdCluster, s Start, spec *corev1.PodSpec) {
	var m mounted
	m.flag(
		"--survivor="+r.Survivor.Member,
		"--survivor-volume-uid="+r.Survivor.VolumeUID,
		"--survivor-incarnation="+strconv.FormatInt(r.Survivor.Incarnation, 10),
		"--survivor-volume="+survivorMount,
		"--survivor-data-dir="+survivorMount+strings.TrimPrefix(dataDir, volumeMount),
		"--raise-to="+strconv.FormatInt(r.Floor, 10),
		"--bump-revision="+strconv.FormatInt(bump, 10),
	)
	m.flag(fillFlags(c, s)...)
	m.mount("tmp", "/tmp", emptyDir("16Mi"))
	m.mount("backup", backupDir, emptyDir("256Mi"))
	// The volume itself is not attached read-only: the file system of a node that crashed has
	// a journal, and is not mounted at all where that cannot be played.
	m.volumes = append(m.volumes, corev1.Volume{Name: survivorVolume, VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: ClaimName(r.Survivor.Member)},
	}})
	m.mounts = append(m.mounts, corev1.VolumeMount{Name: survivorVolume, MountPath: survivorMount, ReadOnly: true})
	r.addFiller(c, snapshot.OperationRecover, m, spec)
}
