package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// EtcdArchiveSpec is whose writes are archived, to where, and how.
// +kubebuilder:validation:XValidation:rule=`!has(self.encryption) || has(self.encryption.identitySecretRef) || (has(self.drillEvery) && duration(self.drillEvery) == duration('0s'))`,message=`drillEvery is not 0s and the encryption has no identitySecretRef — an archive that cannot be decrypted cannot be tried out — name the Secret of one of the recipients' private keys, or set drillEvery to 0s`,fieldPath=`.encryption`
type EtcdArchiveSpec struct {
	// ClusterRef names the EtcdCluster.
	// +kubebuilder:validation:XValidation:rule=`self.name == oldSelf.name`,message=`clusterRef cannot change — status would tell of one cluster's writes and the pod archive another's — create another EtcdArchive`
	ClusterRef ClusterReference `json:"clusterRef"`

	// Store is where the archive lies, and the backups that it is restored from (its
	// bases), which are taken by themselves. Another store begins another archive.
	Store BackupStore `json:"store"`

	// Encryption of the archive and of its bases; none if unset.
	// +optional
	Encryption *BackupEncryption `json:"encryption,omitempty"`

	// SealEvery is how long writes are gathered for one object in the store, 100ms to 1m:
	// what is gathered is lost with the cluster, and every object has its price.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`size(self) > 1 && self.matches('^([0-9]{1,6}([.][0-9]{1,3})?h)?([0-9]{1,6}([.][0-9]{1,3})?m)?([0-9]{1,9}([.][0-9]{1,3})?s)?([0-9]{1,6}ms)?$') && duration(self) >= duration('100ms') && duration(self) <= duration('1m')`,message=`"…" is not a duration from 100ms to 1m — what is gathered is lost with the cluster, and every object has its price — use seconds such as 2s`,messageExpression=`'"' + self + '" is not a duration from 100ms to 1m — what is gathered is lost with the cluster, and every object has its price — use seconds such as 2s'`
	// +kubebuilder:default="2s"
	// +optional
	SealEvery metav1.Duration `json:"sealEvery,omitempty,omitzero"`

	// MaxLag is how far the archive may be behind the cluster before LagExceeded is True:
	// from 10s to 168h.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`size(self) > 1 && self.matches('^([0-9]{1,6}([.][0-9]{1,3})?h)?([0-9]{1,6}([.][0-9]{1,3})?m)?([0-9]{1,9}([.][0-9]{1,3})?s)?$') && duration(self) >= duration('10s') && duration(self) <= duration('168h')`,message=`"…" is not a duration from 10s to 168h — nobody would be told in time that writes are not archived, or would be at every restart of a pod — use minutes such as 5m`,messageExpression=`'"' + self + '" is not a duration from 10s to 168h — nobody would be told in time that writes are not archived, or would be at every restart of a pod — use minutes such as 5m'`
	// +kubebuilder:default="5m"
	// +optional
	MaxLag metav1.Duration `json:"maxLag,omitempty,omitzero"`

	// DrillEvery is how often the archive is restored on trial and compared with the
	// cluster: from 1h to 8760h, or 0s for never.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`size(self) > 1 && self.matches('^([0-9]{1,6}([.][0-9]{1,3})?h)?([0-9]{1,6}([.][0-9]{1,3})?m)?([0-9]{1,9}([.][0-9]{1,3})?s)?$') && (duration(self) == duration('0s') || duration(self) >= duration('1h')) && duration(self) <= duration('8760h')`,message=`"…" is neither 0s nor a duration from 1h to 8760h — a drill takes a whole etcd, and without any nobody has seen that the archive can be restored — use hours such as 168h`,messageExpression=`'"' + self + '" is neither 0s nor a duration from 1h to 8760h — a drill takes a whole etcd, and without any nobody has seen that the archive can be restored — use hours such as 168h'`
	// +kubebuilder:default="168h"
	// +optional
	DrillEvery metav1.Duration `json:"drillEvery,omitempty,omitzero"`

	// KeepFor is how far back every point can be restored: from 24h to 87600h, or 0s for ever.
	// Once a day the bases that were taken by themselves and that no such point needs are
	// deleted, and the segments that no backup in the store needs. A base that is older than
	// half of it, or a week, is followed by another.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`size(self) > 1 && self.matches('^([0-9]{1,6}([.][0-9]{1,3})?h)?([0-9]{1,6}([.][0-9]{1,3})?m)?([0-9]{1,9}([.][0-9]{1,3})?s)?$') && (duration(self) == duration('0s') || duration(self) >= duration('24h')) && duration(self) <= duration('87600h')`,message=`"…" is neither 0s nor a duration from 24h to 87600h — what is older is deleted, and a mistake is seldom found on the same day — use hours such as 720h`,messageExpression=`'"' + self + '" is neither 0s nor a duration from 24h to 87600h — what is older is deleted, and a mistake is seldom found on the same day — use hours such as 720h'`
	// +kubebuilder:default="0s"
	// +optional
	KeepFor metav1.Duration `json:"keepFor,omitempty,omitzero"`

	// RateLimit is how many bytes a second are read from etcd at most for a base, 64Ki to 10Gi, so
	// that the cluster's own work is not slowed. It holds for the store too, for all that is sent
	// to a bucket, and for reading a base, back or to try the archive out; there it counts as
	// 16Mi if it is less, since etcd has no part in that.
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`(string(self).matches('^[0-9.]{1,16}[EGKMPTkm]?i?$') && isQuantity(string(self))) && quantity(string(self)).compareTo(quantity('64Ki')) >= 0 && quantity(string(self)).compareTo(quantity('10Gi')) <= 0`,message=`"…" is not a rate from 64Ki to 10Gi a second — a slower backup never ends, and a faster one is no limit — use a quantity such as 32Mi`,messageExpression=`'"' + string(self) + '" is not a rate from 64Ki to 10Gi a second — a slower backup never ends, and a faster one is no limit — use a quantity such as 32Mi'`
	// +kubebuilder:default="8Mi"
	// +optional
	RateLimit resource.Quantity `json:"rateLimit,omitempty,omitzero"`

	// ServiceAccountName of the pods that do the work, for stores that know them by it.
	// They get no token of the Kubernetes API. The namespace's default account if unset.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule=`size(self) == 0 || self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')`,message=`"…" is not the name of a ServiceAccount — no pod of the archive would be created — use a name from kubectl get serviceaccounts`,messageExpression=`'"' + self + '" is not the name of a ServiceAccount — no pod of the archive would be created — use a name from kubectl get serviceaccounts'`
	// +optional
	ServiceAccountName string `json:"serviceAccountName,omitempty"`

	// Suspend archives nothing while it is true. What etcd has not compacted by its end is
	// archived then; what it has is a gap.
	// +optional
	Suspend bool `json:"suspend,omitempty"`
}

// ArchiveGap is what an archive lacks: no revision of it can be restored.
type ArchiveGap struct {
	// From is the first revision that is missing.
	From int64 `json:"from"`
	// To is the last one.
	To int64 `json:"to"`
	// Reason is why: Compacted if etcd compacted them before they were archived, Lost if they
	// were archived and are gone from the store. It is Compacted if unset.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Reason string `json:"reason,omitempty"`
}

// EtcdArchiveStatus is what is known of an archive.
// +kubebuilder:validation:XValidation:rule=`!has(oldSelf.clusterUID) || size(oldSelf.clusterUID) == 0 || (has(self.clusterUID) && self.clusterUID == oldSelf.clusterUID)`,message=`the cluster of an archive cannot change — two clusters' writes would be told as one's — create another EtcdArchive`,fieldPath=`.clusterUID`
type EtcdArchiveStatus struct {
	// ObservedGeneration is the generation of the spec that this status is about; -1
	// before the first pass.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Conditions: Ready is the summary; Archiving says that what is written is archived,
	// BaseReady that there is a backup which the end can be restored from, LagExceeded that
	// it is further behind than spec.maxLag, GapInHistory that revisions are missing,
	// Verified that it was restored and compared, HistoryBounded that what spec.keepFor does not
	// keep was deleted; Reconciling and Stalled say whether work goes on.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// ClusterUID is the UID of the cluster that is archived, written before any work begins:
	// another cluster of the same name is not archived in its place.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	ClusterUID string `json:"clusterUID,omitempty"`

	// ArchivedRevision: everything up to it is in the store.
	// +optional
	ArchivedRevision int64 `json:"archivedRevision,omitempty"`

	// ArchivedUntil: whatever had been acknowledged by then is in the store. It is written
	// once a minute, and every ten while nothing is written to the cluster, but twice in
	// spec.maxLag if that is less; the metric quorate_archive_age_seconds is exact.
	// +optional
	ArchivedUntil *metav1.Time `json:"archivedUntil,omitempty"`

	// Base is the ID of a backup in the store that the end can be restored from.
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Base string `json:"base,omitempty"`

	// Gaps are the last revisions that are missing, the newest last.
	// +kubebuilder:validation:MaxItems=10
	// +listType=atomic
	// +optional
	Gaps []ArchiveGap `json:"gaps,omitempty"`

	// DrilledRevision is the revision that the archive was last restored to and found to be
	// the cluster's.
	// +optional
	DrilledRevision int64 `json:"drilledRevision,omitempty"`

	// DrilledAt is when that was done.
	// +optional
	DrilledAt *metav1.Time `json:"drilledAt,omitempty"`

	// LastDrillTime is when a drill last ended, whatever it found.
	// +optional
	LastDrillTime *metav1.Time `json:"lastDrillTime,omitempty"`

	// DrilledOf is a hash of the store, the encryption and the cluster ID that the last drill
	// was of. When they are others, Verified is False until the next one, which is due then.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	DrilledOf string `json:"drilledOf,omitempty"`

	// LastPruneTime is when it was last looked for what spec.keepFor does not keep.
	// +optional
	LastPruneTime *metav1.Time `json:"lastPruneTime,omitempty"`
}

// EtcdArchive archives whatever happens to the keys of an EtcdCluster, so that any
// revision, and any time, can be restored into a new cluster.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:resource:shortName=ea,categories=etcd
// +kubebuilder:printcolumn:name="Cluster",type=string,JSONPath=`.spec.clusterRef.name`
// +kubebuilder:printcolumn:name="Revision",type=integer,JSONPath=`.status.archivedRevision`
// +kubebuilder:printcolumn:name="Until",type=date,JSONPath=`.status.archivedUntil`
// +kubebuilder:printcolumn:name="Drilled",type=date,JSONPath=`.status.drilledAt`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Base",type=string,priority=1,JSONPath=`.status.base`
// +kubebuilder:validation:XValidation:rule=`oldSelf.hasValue() || (size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'))`,message=`metadata.name … is not a DNS label of at most 40 characters — the names of its pods are made from it — use lower-case letters, digits and dashes`,messageExpression=`'metadata.name ' + self.metadata.name + ' is not a DNS label of at most 40 characters — the names of its pods are made from it — use lower-case letters, digits and dashes'`,optionalOldSelf=true
type EtcdArchive struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty,omitzero"`

	Spec EtcdArchiveSpec `json:"spec"`
	// +kubebuilder:default={"observedGeneration":-1}
	// +optional
	Status EtcdArchiveStatus `json:"status,omitempty,omitzero"`
}

// EtcdArchiveList is a list of archives.
//
// +kubebuilder:object:root=true
type EtcdArchiveList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []EtcdArchive `json:"items"`
}
