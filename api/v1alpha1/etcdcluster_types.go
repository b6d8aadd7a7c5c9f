package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// EtcdClusterSpec is what the user wants. Every field has a default that
// works: an empty spec is a TLS-protected cluster of three members.
type EtcdClusterSpec struct {
	// Size is the number of voting members: 1, 3, 5 or 7. An even size costs a
	// member and tolerates no more failures than the odd size below it.
	// +kubebuilder:default=3
	// +optional
	Size int32 `json:"size,omitempty"`

	// Version of etcd, without a leading v, for example "3.6.16". It is also
	// the image's tag, with a v in front, unless image.digest is set.
	// +kubebuilder:default="3.6.16"
	// +optional
	Version string `json:"version,omitempty"`

	// Image says where the etcd image comes from.
	// +optional
	Image ImageSpec `json:"image,omitempty"`

	// Storage describes the volume of each member.
	// +optional
	Storage StorageSpec `json:"storage,omitempty"`

	// TLS protects the client and the peer port.
	// +optional
	TLS TLSSpec `json:"tls,omitempty"`

	// Etcd holds etcd's own options.
	// +optional
	Etcd EtcdOptions `json:"etcd,omitempty"`

	// PodTemplate adds to the members' pods. It holds only fields that keep a
	// pod within the restricted Pod Security profile.
	// +optional
	PodTemplate PodTemplate `json:"podTemplate,omitempty"`

	// NetworkPolicy opens the members' ports to more than the default.
	// +optional
	NetworkPolicy NetworkPolicySpec `json:"networkPolicy,omitempty"`

	// Failover says when a member is given up and replaced.
	// +optional
	Failover FailoverSpec `json:"failover,omitempty"`

	// Paused stops every change that the operator would make to this cluster
	// and its objects. Status is still refreshed.
	// +optional
	Paused bool `json:"paused,omitempty"`
}

// ImageSpec names the etcd image.
type ImageSpec struct {
	// Repository without tag or digest.
	// +kubebuilder:default="quay.io/coreos/etcd"
	// +optional
	Repository string `json:"repository,omitempty"`

	// Digest pins the image (sha256:<64 hex digits>). The image must be of
	// spec.version.
	// +optional
	Digest string `json:"digest,omitempty"`

	// PullPolicy of the etcd image.
	// +kubebuilder:default=IfNotPresent
	// +kubebuilder:validation:Enum=Always;IfNotPresent;Never
	// +optional
	PullPolicy corev1.PullPolicy `json:"pullPolicy,omitempty"`
}

// StorageMedium is where a member's data lives.
// +kubebuilder:validation:Enum=Disk;Memory
type StorageMedium string

const (
	// MediumDisk keeps each member's data on a PersistentVolumeClaim.
	MediumDisk StorageMedium = "Disk"
	// MediumMemory keeps it in memory: a lost pod is a lost member.
	MediumMemory StorageMedium = "Memory"
)

// WhenDeleted says what becomes of the volumes when the cluster is deleted.
// +kubebuilder:validation:Enum=Retain;Delete
type WhenDeleted string

const (
	// WhenDeletedRetain keeps the volumes.
	WhenDeletedRetain WhenDeleted = "Retain"
	// WhenDeletedDelete deletes the volumes with the cluster.
	WhenDeletedDelete WhenDeleted = "Delete"
)

// StorageSpec describes the volume of each member.
type StorageSpec struct {
	// Size of each member's volume. At least twice etcd.quotaBackendBytes.
	// +kubebuilder:default="8Gi"
	// +optional
	Size resource.Quantity `json:"size,omitempty"`

	// StorageClassName of the volumes; the cluster's default class if unset.
	// +optional
	StorageClassName *string `json:"storageClassName,omitempty"`

	// Medium of the data: Disk or Memory.
	// +kubebuilder:default=Disk
	// +optional
	Medium StorageMedium `json:"medium,omitempty"`

	// WhenDeleted keeps (Retain) or deletes (Delete) the volumes when the
	// cluster is deleted. The deletion of a whole namespace takes the claims
	// in any case; then only the class's reclaim policy protects the data.
	// +kubebuilder:default=Retain
	// +optional
	WhenDeleted WhenDeleted `json:"whenDeleted,omitempty"`
}

// TLSMode turns transport security on or off.
// +kubebuilder:validation:Enum=Enabled;Disabled
type TLSMode string

const (
	// TLSEnabled is mutual TLS on every port, with certificates that the
	// operator issues and renews.
	TLSEnabled TLSMode = "Enabled"
	// TLSDisabled is plaintext: anyone who reaches a port reads and writes.
	TLSDisabled TLSMode = "Disabled"
)

// TLSSpec protects the client and the peer port.
type TLSSpec struct {
	// Mode is Enabled (mutual TLS on both ports) or Disabled (plaintext).
	// +kubebuilder:default=Enabled
	// +optional
	Mode TLSMode `json:"mode,omitempty"`

	// LeafDuration is the life of the members' and clients' certificates. They
	// are renewed at two thirds of it, in place, without a restart.
	// +kubebuilder:default="2160h"
	// +optional
	LeafDuration metav1.Duration `json:"leafDuration,omitempty"`
}

// CompactionMode is etcd's auto-compaction mode.
// +kubebuilder:validation:Enum=Periodic;Revision
type CompactionMode string

const (
	// CompactionPeriodic keeps the history of a span of time.
	CompactionPeriodic CompactionMode = "Periodic"
	// CompactionRevision keeps a number of revisions.
	CompactionRevision CompactionMode = "Revision"
)

// AutoCompaction discards old revisions.
type AutoCompaction struct {
	// Mode is Periodic or Revision.
	// +kubebuilder:default=Periodic
	// +optional
	Mode CompactionMode `json:"mode,omitempty"`

	// Retention is a duration ("1h", "30m") for Periodic, a number of
	// revisions ("1000") for Revision.
	// +kubebuilder:default="1h"
	// +optional
	Retention string `json:"retention,omitempty"`
}

// EtcdOptions are etcd's own options.
type EtcdOptions struct {
	// QuotaBackendBytes is the size of the database at which etcd refuses
	// writes, 64Mi to 16Gi. etcd advises at most 8Gi.
	// +kubebuilder:default="2Gi"
	// +optional
	QuotaBackendBytes resource.Quantity `json:"quotaBackendBytes,omitempty"`

	// HeartbeatMs is the leader's heartbeat interval in milliseconds.
	// +kubebuilder:default=100
	// +optional
	HeartbeatMs int32 `json:"heartbeatMs,omitempty"`

	// ElectionMs is the election timeout in milliseconds, at least five
	// heartbeats and at most 50000.
	// +kubebuilder:default=1000
	// +optional
	ElectionMs int32 `json:"electionMs,omitempty"`

	// SnapshotCount is the number of raft entries between two snapshots, 100
	// to 100000.
	// +kubebuilder:default=10000
	// +optional
	SnapshotCount int64 `json:"snapshotCount,omitempty"`

	// MaxRequestBytes is the largest request that etcd accepts, at most 10Mi.
	// +kubebuilder:default="1536Ki"
	// +optional
	MaxRequestBytes resource.Quantity `json:"maxRequestBytes,omitempty"`

	// AutoCompaction discards old revisions.
	// +optional
	AutoCompaction AutoCompaction `json:"autoCompaction,omitempty"`

	// ExtraArgs are further etcd flags, by name without dashes. Flags that
	// carry identity, addresses, files or safety belong to the operator and
	// are refused.
	// +optional
	ExtraArgs map[string]string `json:"extraArgs,omitempty"`
}

// PodTemplate adds to the members' pods.
type PodTemplate struct {
	// Labels added to each pod.
	// +optional
	Labels map[string]string `json:"labels,omitempty"`
	// Annotations added to each pod.
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
	// Resources of the etcd container.
	// +optional
	Resources *corev1.ResourceRequirements `json:"resources,omitempty"`
	// Affinity of the pods.
	// +optional
	Affinity *corev1.Affinity `json:"affinity,omitempty"`
	// Tolerations of the pods.
	// +optional
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`
	// NodeSelector of the pods.
	// +optional
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`
	// TopologySpreadConstraints replace the default, a soft spread over nodes
	// and zones. A constraint without a labelSelector counts the members of
	// this cluster.
	// +optional
	TopologySpreadConstraints []corev1.TopologySpreadConstraint `json:"topologySpreadConstraints,omitempty"`
	// PriorityClassName of the pods.
	// +optional
	PriorityClassName string `json:"priorityClassName,omitempty"`
	// ImagePullSecrets of the pods.
	// +optional
	ImagePullSecrets []corev1.LocalObjectReference `json:"imagePullSecrets,omitempty"`
	// SeccompProfile of the pods, RuntimeDefault if unset.
	// +optional
	SeccompProfile *corev1.SeccompProfile `json:"seccompProfile,omitempty"`
	// AppArmorProfile of the pods.
	// +optional
	AppArmorProfile *corev1.AppArmorProfile `json:"appArmorProfile,omitempty"`
}

// NetworkPolicySpec opens the members' ports. By default pods of the same
// namespace and the operator reach the client port, and nobody else the
// metrics port.
type NetworkPolicySpec struct {
	// ClientFrom are further peers that may reach the client port.
	// +optional
	ClientFrom []networkingv1.NetworkPolicyPeer `json:"clientFrom,omitempty"`
	// MetricsFrom are the peers that may reach the metrics port.
	// +optional
	MetricsFrom []networkingv1.NetworkPolicyPeer `json:"metricsFrom,omitempty"`
}

// FailoverSpec says when a member is given up.
type FailoverSpec struct {
	// ReplaceAfter is how long a member's node must be gone before the member
	// is replaced; at least one minute.
	// +kubebuilder:default="5m"
	// +optional
	ReplaceAfter metav1.Duration `json:"replaceAfter,omitempty"`
	// LearnerTimeout is how long a learner may go without progress before it
	// is removed; at least one minute.
	// +kubebuilder:default="15m"
	// +optional
	LearnerTimeout metav1.Duration `json:"learnerTimeout,omitempty"`
}

// MemberRole is a member's place in raft.
// +kubebuilder:validation:Enum=Voter;Learner
type MemberRole string

const (
	// RoleVoter counts for quorum.
	RoleVoter MemberRole = "Voter"
	// RoleLearner follows the log and does not count.
	RoleLearner MemberRole = "Learner"
)

// MemberStatus is what is known of one member.
type MemberStatus struct {
	// Name of the member and of its pod.
	Name string `json:"name"`
	// ID that etcd gave the member, in hex; empty until it is known.
	// +optional
	ID string `json:"id,omitempty"`
	// Role in raft; empty until etcd's list names the member.
	// +optional
	Role MemberRole `json:"role,omitempty"`
	// Version of etcd that the member runs.
	// +optional
	Version string `json:"version,omitempty"`
	// DBSize of the member, rounded so that it does not change on every pass.
	// +optional
	DBSize *resource.Quantity `json:"dbSize,omitempty"`
	// Health is True when the member answered and follows the leader, False
	// when it does not, Unknown when it was not asked.
	Health metav1.ConditionStatus `json:"health"`
	// Message says why the member is not healthy.
	// +optional
	Message string `json:"message,omitempty"`
}

// EtcdClusterStatus is what the operator last saw.
type EtcdClusterStatus struct {
	// ObservedGeneration is the generation of the spec that this status is
	// about; -1 before the first pass.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Conditions: Ready, Available, Reconciling, Stalled, and one per concern.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// Incarnation of the cluster, from 1. Only a restore and the recovery from
	// a lost quorum raise it.
	// +optional
	Incarnation int64 `json:"incarnation,omitempty"`

	// Founders are the members that found this incarnation, written once,
	// before any of them is created.
	// +listType=atomic
	// +optional
	Founders []string `json:"founders,omitempty"`

	// FounderVolumes are the UIDs of the founders' claims, by member name. Each
	// is written before the member's first pod, so that a volume which status
	// does not name has never held data, and the absence of one that it does
	// name is a loss. Frozen once clusterID is written.
	// +optional
	FounderVolumes map[string]string `json:"founderVolumes,omitempty"`

	// NextOrdinal is the number of the next new member. It only rises.
	// +optional
	NextOrdinal int32 `json:"nextOrdinal,omitempty"`

	// ClusterID is etcd's cluster ID in hex, written once a majority of the
	// founders agrees on it. From then on no member is ever started as new.
	// +optional
	ClusterID string `json:"clusterID,omitempty"`

	// Members in the order of their ordinals.
	// +listType=map
	// +listMapKey=name
	// +optional
	Members []MemberStatus `json:"members,omitempty"`

	// Replicas is the number of members that etcd lists (for /scale).
	// +optional
	Replicas int32 `json:"replicas,omitempty"`

	// Selector of the members' pods (for /scale).
	// +optional
	Selector string `json:"selector,omitempty"`

	// MembersSummary is "healthy/wanted", for example "3/3".
	// +optional
	MembersSummary string `json:"membersSummary,omitempty"`

	// Leader is the name of the leading member.
	// +optional
	Leader string `json:"leader,omitempty"`

	// Version is etcd's cluster version's lowest member version.
	// +optional
	Version string `json:"version,omitempty"`
}

// EtcdCluster is an etcd cluster.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.size,statuspath=.status.replicas,selectorpath=.status.selector
// +kubebuilder:resource:shortName=ec,categories=all;etcd
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Members",type=string,JSONPath=`.status.membersSummary`
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.status.version`
// +kubebuilder:printcolumn:name="Leader",type=string,JSONPath=`.status.leader`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type EtcdCluster struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +kubebuilder:default={}
	// +optional
	Spec EtcdClusterSpec `json:"spec,omitempty"`
	// +kubebuilder:default={"observedGeneration":-1}
	// +optional
	Status EtcdClusterStatus `json:"status,omitempty"`
}

// EtcdClusterList is a list of clusters.
//
// +kubebuilder:object:root=true
type EtcdClusterList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []EtcdCluster `json:"items"`
}
