package resources

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/member"
	"github.com/quorate/quorate/internal/pki"
	"github.com/quorate/quorate/internal/plan"
)

const (
	// EtcdContainer is the name of the container that runs etcd.
	EtcdContainer = "etcd"
	// GateRecord holds a memory-backed member's pod back.
	GateRecord = "etcd.quorate.dev/record"
	// user is nobody in particular: not root, and the same in every pod.
	user = 65532

	volumeMount      = "/var/lib/etcd"
	dataDir          = volumeMount + "/data"
	guardDir         = "/quorate/bin"
	guardBinary      = guardDir + "/member"
	bootDir          = "/run/quorate/boot"
	annotationsMount = "/etc/quorate"
	etcdBinary       = "/usr/local/bin/etcd"
)

// Start is what a pod is made with, apart from the cluster's spec.
type Start struct {
	// Member is the name.
	Member string
	// VolumeUID is the UID of the member's claim; a memory-backed member has
	// none, its volume is the pod.
	VolumeUID string
	// GuardImage holds the guard.
	GuardImage string
	// Trust is the hash of the authorities that the member's Secret holds; empty while
	// they are those of the founding.
	Trust string
	// Restore fills an empty volume before the first start; nil if none does.
	Restore *Restore
	// Orders that the guard obeys; they may change while the pod lives.
	Orders Orders
}

// Orders to the guard, written as annotations.
type Orders struct {
	// Peers are the names of the members to start with.
	Peers []string
	// URLs are the peer URLs of those of them that etcd lists.
	URLs map[string]string
	// State is member.ClusterStateNew or member.ClusterStateExisting.
	State string
	// Empty says whether etcd may start on an empty directory.
	Empty EmptyPolicy
	// Hold has the guard wait until Release names the member's ID.
	Hold bool
	// Release is the ID that ends a hold; zero while there is none.
	Release uint64
}

// EmptyPolicy says whether etcd may start on an empty directory.
type EmptyPolicy string

const (
	// EmptyForbidden: the member has started before; an empty directory is a
	// loss.
	EmptyForbidden EmptyPolicy = "false"
	// EmptyAllowed: the member has never started.
	EmptyAllowed EmptyPolicy = "true"
)

// Annotations that carry the orders.
func (o Orders) Annotations(c *v1alpha1.EtcdCluster) map[string]string {
	out := map[string]string{
		member.AnnotationInitialCluster:      InitialCluster(c, o.Peers, o.URLs),
		member.AnnotationInitialClusterState: o.State,
		member.AnnotationMayBeEmpty:          string(o.Empty),
	}
	if o.Hold {
		out[member.AnnotationHold] = "true"
	}
	if o.Release != 0 {
		out[member.AnnotationRelease] = strconv.FormatUint(o.Release, 16)
	}
	return out
}

// Held says that the guard in the pod waits for its release, so that etcd has
// never run in it.
func Held(pod *corev1.Pod) bool {
	hold := pod.Annotations[member.AnnotationHold]
	return hold != "" && hold != "false" && pod.Annotations[member.AnnotationRelease] == ""
}

// MayBeginAnew says that the pod would start its member without the data of an earlier
// start: on an empty directory, or on one that is filled from a backup.
func MayBeginAnew(pod *corev1.Pod) bool {
	return pod.Annotations[member.AnnotationMayBeEmpty] == string(EmptyAllowed) || pod.Annotations[v1alpha1.AnnotationRestore] != ""
}

// TemplateHash is the hash of the parts of the spec that a pod is made from, but for CPU
// and memory, which change while it runs, and for what the ServiceAccount alone bears. It does not cover what the operator itself adds, so that a new operator
// finds its predecessor's pods up to date.
func TemplateHash(c *v1alpha1.EtcdCluster) string {
	return hashOf(struct {
		Version     string
		Image       v1alpha1.ImageSpec
		Medium      v1alpha1.StorageMedium
		TLS         v1alpha1.TLSMode
		Etcd        v1alpha1.EtcdOptions
		PodTemplate v1alpha1.PodTemplate
	}{c.Spec.Version, c.Spec.Image, c.Spec.Storage.Medium, c.Spec.TLS.Mode, c.Spec.Etcd, remade(c.Spec.PodTemplate)})
}

// hashOf what is made of a spec that came from JSON, in 16 characters.
func hashOf(what any) string {
	text, err := json.Marshal(what)
	if err != nil {
		panic(fmt.Sprintf("hashing what came from JSON: %v", err))
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// resizable resources change while a pod runs (KEP-1287).
var resizable = []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory}

// remade is what a pod has to be made anew for.
func remade(t v1alpha1.PodTemplate) v1alpha1.PodTemplate {
	t.ServiceAccountAnnotations = nil
	if t.Resources == nil {
		return t
	}
	r := t.Resources.DeepCopy()
	for _, list := range []corev1.ResourceList{r.Requests, r.Limits} {
		for _, name := range resizable {
			delete(list, name)
		}
	}
	if t.Resources = r; len(r.Requests)+len(r.Limits) == 0 {
		t.Resources = nil
	}
	return t
}

// ComputeHash is the hash of the CPU and memory that the spec gives to a pod. Defaults
// are not a part of it, so that other ones of a new operator change no pod that runs.
func ComputeHash(c *v1alpha1.EtcdCluster) string {
	wanted := map[string]string{}
	if r := c.Spec.PodTemplate.Resources; r != nil {
		for _, name := range resizable {
			if q, set := r.Requests[name]; set {
				wanted["requests."+string(name)] = q.String()
			}
			if q, set := r.Limits[name]; set {
				wanted["limits."+string(name)] = q.String()
			}
		}
	}
	return hashOf(wanted)
}

// Resize gives the etcd container of a pod the CPU and memory of the spec.
func Resize(c *v1alpha1.EtcdCluster, pod *corev1.Pod) {
	wanted := memberResources(c)
	for i := range pod.Spec.Containers {
		if pod.Spec.Containers[i].Name != EtcdContainer {
			continue
		}
		r := &pod.Spec.Containers[i].Resources
		r.Requests, r.Limits = resized(r.Requests, wanted.Requests), resized(r.Limits, wanted.Limits)
	}
}

func resized(have, want corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{}
	maps.Copy(out, have)
	for _, name := range resizable {
		delete(out, name)
		if q, set := want[name]; set {
			out[name] = q
		}
	}
	return out
}

// AtVersion is the cluster as if spec.version were another one. A digest names an image
// whatever the version, so with one nothing changes.
func AtVersion(c *v1alpha1.EtcdCluster, version string) *v1alpha1.EtcdCluster {
	if version == "" || c.Spec.Image.Digest != "" {
		return c
	}
	c = c.DeepCopy()
	c.Spec.Version = version
	return c
}

// MadeAs is the cluster as pods are made of it now: at the release that comes next on the
// way to the wanted one and, while etcd of that cannot open the data, at the release of
// the oldest member. A pod takes plaintext for as long as another member may dial it so,
// which etcd's list tells sooner than status.
func MadeAs(c *v1alpha1.EtcdCluster, seen plan.Observed) *v1alpha1.EtcdCluster {
	switch {
	case seen.Barred() != "":
		c = AtVersion(c, c.Status.Version)
	case seen.Version != c.Spec.Version:
		c = AtVersion(c, seen.Version)
	}
	if c.Status.PlaintextPeers != seen.PlaintextPeers {
		c = c.DeepCopy()
		c.Status.PlaintextPeers = seen.PlaintextPeers
	}
	if c.Spec.TLS.Mode == v1alpha1.TLSEnabled && seen.PlaintextPeers {
		c = c.DeepCopy()
		c.Spec.TLS.Mode = v1alpha1.TLSOptional
	}
	return c
}

// Image of etcd.
func Image(c *v1alpha1.EtcdCluster) string {
	if c.Spec.Image.Digest != "" {
		return c.Spec.Image.Repository + "@" + c.Spec.Image.Digest
	}
	return c.Spec.Image.Repository + ":v" + c.Spec.Version
}

// MemberPod is the pod of a member.
func MemberPod(c *v1alpha1.EtcdCluster, s Start) *corev1.Pod {
	t := c.Spec.PodTemplate
	annotations := maps.Clone(t.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	maps.Copy(annotations, s.Orders.Annotations(c))
	annotations["kubectl.kubernetes.io/default-container"] = EtcdContainer
	annotations[v1alpha1.AnnotationTemplateHash] = TemplateHash(c)
	annotations[v1alpha1.AnnotationResources] = ComputeHash(c)
	annotations[v1alpha1.AnnotationSnapshotCount] = strconv.FormatInt(c.Spec.Etcd.SnapshotCount, 10)
	if s.Trust != "" {
		annotations[v1alpha1.AnnotationTrust] = s.Trust
	}
	if s.Restore != nil {
		annotations[v1alpha1.AnnotationRestore] = s.Restore.BackupID
		if s.Restore.Survivor != nil {
			annotations[v1alpha1.AnnotationSurvivor] = s.Restore.Survivor.String()
		} else {
			annotations[v1alpha1.AnnotationRestoreWay] = RestoreWay(c)
		}
	}
	if InMemory(c) {
		annotations[v1alpha1.AnnotationFounders] = strings.Join(c.Status.Founders, ",")
	} else {
		annotations[v1alpha1.AnnotationVolumeUID] = s.VolumeUID
	}
	labels := maps.Clone(t.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, MemberLabels(c, s.Member))
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name:            s.Member,
			Namespace:       c.Namespace,
			Labels:          labels,
			Annotations:     annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(c, v1alpha1.GroupVersion.WithKind("EtcdCluster"))},
		},
		Spec: podSpec(c, s),
	}
	if s.Restore != nil {
		s.Restore.fillVolume(c, s, &pod.Spec)
		pod.Labels = identified(pod.Labels, s.Restore.Store)
	}
	return pod
}

func podSpec(c *v1alpha1.EtcdCluster, s Start) corev1.PodSpec {
	t := c.Spec.PodTemplate
	return corev1.PodSpec{
		SchedulingGates:               gates(c, s),
		Hostname:                      s.Member,
		Subdomain:                     PeerServiceName(c),
		ServiceAccountName:            c.Name,
		AutomountServiceAccountToken:  new(false),
		EnableServiceLinks:            new(false),
		RestartPolicy:                 corev1.RestartPolicyAlways,
		TerminationGracePeriodSeconds: new(terminationGrace(c)),
		SecurityContext:               podSecurity(t),
		InitContainers:                []corev1.Container{guardInstaller(s.GuardImage)},
		Containers:                    []corev1.Container{etcdContainer(c, s)},
		Volumes:                       volumes(c, s.Member),
		Affinity:                      t.Affinity,
		Tolerations:                   t.Tolerations,
		NodeSelector:                  t.NodeSelector,
		TopologySpreadConstraints:     spread(c),
		PriorityClassName:             t.PriorityClassName,
		ImagePullSecrets:              t.ImagePullSecrets,
	}
}

// terminationGrace, in seconds, is long enough for etcd to hand its leadership
// over on the way down, which it gives up after its request timeout of 5 s and
// two election timeouts, and to close its database after that.
func terminationGrace(c *v1alpha1.EtcdCluster) int64 {
	return max(60, 2*int64(c.Spec.Etcd.ElectionMs)/1000+35)
}

// gates hold a memory-backed member's pod back until its UID is on record: it
// is the volume, and one that is not on record must never have held data. A held
// pod needs no gate: its guard waits until the record is written.
func gates(c *v1alpha1.EtcdCluster, s Start) []corev1.PodSchedulingGate {
	if !InMemory(c) || s.Orders.Hold {
		return nil
	}
	return []corev1.PodSchedulingGate{{Name: GateRecord}}
}

func podSecurity(t v1alpha1.PodTemplate) *corev1.PodSecurityContext {
	seccomp := t.SeccompProfile
	if seccomp == nil {
		seccomp = &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}
	}
	return &corev1.PodSecurityContext{
		RunAsNonRoot:        new(true),
		RunAsUser:           new(int64(user)),
		RunAsGroup:          new(int64(user)),
		FSGroup:             new(int64(user)),
		FSGroupChangePolicy: new(corev1.FSGroupChangeOnRootMismatch),
		SeccompProfile:      seccomp,
		AppArmorProfile:     t.AppArmorProfile,
	}
}

func containerSecurity() *corev1.SecurityContext {
	return &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false),
		Privileged:               new(false),
		ReadOnlyRootFilesystem:   new(true),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
}

// guardInstaller brings the guard into the pod, since etcd's image holds
// nothing but etcd.
func guardInstaller(image string) corev1.Container {
	return corev1.Container{
		Name:            "install-guard",
		Image:           image,
		Command:         []string{"/member", "install", guardBinary},
		ImagePullPolicy: corev1.PullIfNotPresent,
		SecurityContext: containerSecurity(),
		Resources: corev1.ResourceRequirements{
			Requests: quantities("10m", "16Mi"),
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")},
		},
		VolumeMounts: []corev1.VolumeMount{{Name: "guard", MountPath: guardDir}},
	}
}

func etcdContainer(c *v1alpha1.EtcdCluster, s Start) corev1.Container {
	return corev1.Container{
		Name:                     EtcdContainer,
		Image:                    Image(c),
		ImagePullPolicy:          c.Spec.Image.PullPolicy,
		Command:                  guardCommand(c, s),
		Env:                      environment(c),
		Ports:                    ports(),
		Resources:                memberResources(c),
		SecurityContext:          containerSecurity(),
		StartupProbe:             probe("/livez", 1, 900),
		LivenessProbe:            probe("/livez", 10, 6),
		ReadinessProbe:           probe("/readyz", 1, 3),
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		VolumeMounts:             mounts(c),
	}
}

// guardCommand is the guard's, which starts etcd when it may.
func guardCommand(c *v1alpha1.EtcdCluster, s Start) []string {
	command := []string{
		guardBinary, "run",
		"--volume=" + volumeMount,
		"--data-dir=" + dataDir,
		"--boot-dir=" + bootDir,
		"--annotations=" + annotationsMount + "/annotations",
	}
	command = append(command, identityFlags(c, s.Member)...)
	command = append(command,
		"--volume-uid="+volumeUID(c, s),
		"--peer-host="+MemberHost(c, s.Member),
		fmt.Sprintf("--health-listen=:%d", HealthPort),
		fmt.Sprintf("--etcd-health=http://127.0.0.1:%d", loopbackPort),
		"--etcd-clients="+localClients(c),
	)
	if TLS(c) {
		command = append(command, "--etcd-clients-cert="+tlsDir+"/"+pki.KeyServerCert, "--etcd-clients-key="+tlsDir+"/"+pki.KeyServerKey)
	}
	command = append(command, "--", etcdBinary)
	return append(command, etcdFlags(c, s.Member)...)
}

// identityFlags tell the guard whose data it may start on.
func identityFlags(c *v1alpha1.EtcdCluster, member string) []string {
	return []string{
		"--cluster-uid=" + ClusterUID(c),
		"--incarnation=" + strconv.FormatInt(incarnation(c), 10),
		"--member=" + member,
	}
}

// volumeUID of a memory-backed member is its pod's, which is not known yet when
// the pod is made; the kubelet fills it in.
func volumeUID(c *v1alpha1.EtcdCluster, s Start) string {
	if InMemory(c) {
		return "$(POD_UID)"
	}
	return s.VolumeUID
}

// environment lets etcdctl in the pod work without a flag.
func environment(c *v1alpha1.EtcdCluster) []corev1.EnvVar {
	env := []corev1.EnvVar{
		{Name: "POD_UID", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.uid"}}},
		{Name: "ETCDCTL_ENDPOINTS", Value: localClients(c)},
	}
	if TLS(c) {
		env = append(env,
			corev1.EnvVar{Name: "ETCDCTL_CACERT", Value: tlsDir + "/" + pki.KeyClientCA},
			corev1.EnvVar{Name: "ETCDCTL_CERT", Value: tlsDir + "/" + pki.KeyServerCert},
			corev1.EnvVar{Name: "ETCDCTL_KEY", Value: tlsDir + "/" + pki.KeyServerKey})
	}
	return env
}

// localClients is where etcd serves clients within the pod.
func localClients(c *v1alpha1.EtcdCluster) string {
	return fmt.Sprintf("%s://127.0.0.1:%d", scheme(c), ClientPort)
}

func ports() []corev1.ContainerPort {
	return []corev1.ContainerPort{
		{Name: "client", ContainerPort: ClientPort, Protocol: corev1.ProtocolTCP},
		{Name: "peer", ContainerPort: PeerPort, Protocol: corev1.ProtocolTCP},
		{Name: "metrics", ContainerPort: MetricsPort, Protocol: corev1.ProtocolTCP},
		{Name: "health", ContainerPort: HealthPort, Protocol: corev1.ProtocolTCP},
	}
}

// memberResources are the user's, or enough for the default quota. There is no
// CPU limit by default: throttling looks like a dying disk to raft.
func memberResources(c *v1alpha1.EtcdCluster) corev1.ResourceRequirements {
	if r := c.Spec.PodTemplate.Resources; r != nil {
		return *r
	}
	return corev1.ResourceRequirements{
		Requests: quantities("100m", "512Mi"),
		Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("4Gi")},
	}
}

func quantities(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse(cpu),
		corev1.ResourceMemory: resource.MustParse(memory),
	}
}

// probe asks the guard for etcd's own /livez or /readyz. /health is never
// asked: one member's alarm or a lost quorum fails it everywhere, and restarts
// would make that worse.
func probe(path string, period, failures int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:     corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(HealthPort)}},
		PeriodSeconds:    period,
		TimeoutSeconds:   5,
		FailureThreshold: failures,
	}
}

func mounts(c *v1alpha1.EtcdCluster) []corev1.VolumeMount {
	m := []corev1.VolumeMount{
		{Name: "data", MountPath: volumeMount},
		{Name: "guard", MountPath: guardDir, ReadOnly: true},
		{Name: "boot", MountPath: bootDir},
		{Name: "orders", MountPath: annotationsMount, ReadOnly: true},
	}
	if TLS(c) {
		m = append(m, corev1.VolumeMount{Name: "tls", MountPath: tlsDir, ReadOnly: true})
	}
	return m
}

func volumes(c *v1alpha1.EtcdCluster, name string) []corev1.Volume {
	v := []corev1.Volume{
		{Name: "data", VolumeSource: dataVolume(c, name)},
		{Name: "guard", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: new(resource.MustParse("32Mi"))}}},
		{Name: "boot", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: new(resource.MustParse("1Mi"))}}},
		{Name: "orders", VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{
			Items: []corev1.DownwardAPIVolumeFile{{
				Path:     "annotations",
				FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.annotations"},
			}},
		}}},
	}
	if TLS(c) {
		v = append(v, corev1.Volume{Name: "tls", VolumeSource: corev1.VolumeSource{
			Secret: &corev1.SecretVolumeSource{SecretName: pki.MemberSecret(name), DefaultMode: new(int32(0o440))},
		}})
	}
	return v
}

func dataVolume(c *v1alpha1.EtcdCluster, name string) corev1.VolumeSource {
	if InMemory(c) {
		return corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{
			Medium: corev1.StorageMediumMemory, SizeLimit: new(c.Spec.Storage.Size),
		}}
	}
	return corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: ClaimName(name)}}
}

// PodInMemory says whether the data of the member lives in this pod. Its annotations tell,
// for the operator's cache does not keep its volumes; and one whose annotations somebody took
// away does not pass for it: that would be taken for a volume that goes with the pod.
func PodInMemory(pod *corev1.Pod) bool {
	_, inPod := pod.Annotations[v1alpha1.AnnotationFounders]
	_, onVolume := pod.Annotations[v1alpha1.AnnotationVolumeUID]
	return inPod && !onVolume
}

// spread is the user's, or a soft spread over nodes and zones: a hard one would
// leave a member without a pod when a node is gone.
func spread(c *v1alpha1.EtcdCluster) []corev1.TopologySpreadConstraint {
	ours := &metav1.LabelSelector{MatchLabels: PodSelector(c)}
	if wanted := c.Spec.PodTemplate.TopologySpreadConstraints; len(wanted) > 0 {
		out := make([]corev1.TopologySpreadConstraint, 0, len(wanted))
		for _, w := range wanted {
			if w.LabelSelector == nil {
				w.LabelSelector = ours
			}
			out = append(out, w)
		}
		return out
	}
	soft := func(key string) corev1.TopologySpreadConstraint {
		return corev1.TopologySpreadConstraint{
			MaxSkew: 1, TopologyKey: key, WhenUnsatisfiable: corev1.ScheduleAnyway, LabelSelector: ours,
		}
	}
	return []corev1.TopologySpreadConstraint{soft("topology.kubernetes.io/zone"), soft("kubernetes.io/hostname")}
}
