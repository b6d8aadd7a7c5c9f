package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ClusterReference names an EtcdCluster of the same namespace.
type ClusterReference struct {
	// Name of the EtcdCluster.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule=`size(self) <= 40 && self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')`,message=`"…" is not the name of an EtcdCluster — there would be nothing to back up — use a name from kubectl get etcdclusters in this namespace`,messageExpression=`'"' + self + '" is not the name of an EtcdCluster — there would be nothing to back up — use a name from kubectl get etcdclusters in this namespace'`
	Name string `json:"name"`
}

// BackupEncryption encrypts a backup before it leaves the pod (age, X25519).
type BackupEncryption struct {
	// Recipients are the public keys (age1…) that the backup is encrypted to. Each of
	// their owners can read it alone.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=128
	// +listType=set
	// +kubebuilder:validation:XValidation:rule=`self.all(r, r.matches('^age1[02-9ac-hj-np-z]{58}$'))`,message=`…: not a public key of age — the backup could not be encrypted, and a mistyped key could be read by nobody — use the keys that age-keygen -y prints`,messageExpression=`'%s: not a public key of age — the backup could not be encrypted, and a mistyped key could be read by nobody — use the keys that age-keygen -y prints'.format([self.filter(r, !r.matches('^age1[02-9ac-hj-np-z]{58}$'))])`
	Recipients []string `json:"recipients"`

	// IdentitySecretRef names a Secret whose key identity holds the private key of one
	// of the recipients. It is needed to try the backup out, and to restore it.
	// +optional
	IdentitySecretRef *SecretReference `json:"identitySecretRef,omitempty"`
}

// BackupVerify says how much of a backup is tried before it is called good.
// +kubebuilder:validation:Enum=Drill;ReadBack
type BackupVerify string

const (
	// VerifyDrill restores the backup, starts a real etcd of the right version on it and
	// compares its content with what was recorded. Only then is Verified True.
	VerifyDrill BackupVerify = "Drill"
	// VerifyReadBack reads the object back and compares its size and hashes.
	VerifyReadBack BackupVerify = "ReadBack"
)

// BackupDeletionPolicy says what becomes of the objects in the store when the
// EtcdBackup is deleted.
// +kubebuilder:validation:Enum=Retain;Delete
type BackupDeletionPolicy string

const (
	// BackupRetain keeps them.
	BackupRetain BackupDeletionPolicy = "Retain"
	// BackupDelete deletes them, as far as the store lets it.
	BackupDelete BackupDeletionPolicy = "Delete"
)

// EtcdBackupSpec is what is backed up, to where, and how.
// +kubebuilder:validation:XValidation:rule=`!has(self.encryption) || has(self.encryption.identitySecretRef) || !has(self.verify) || self.verify != 'Drill'`,message=`verify is Drill and the encryption has no identitySecretRef — a backup that cannot be decrypted cannot be tried out — name the Secret of one of the recipients' private keys, or set verify to ReadBack`,fieldPath=`.encryption`
type EtcdBackupSpec struct {
	// ClusterRef names the EtcdCluster.
	ClusterRef ClusterReference `json:"clusterRef"`

	// Store is where the backup lies.
	Store BackupStore `json:"store"`

	// Encryption of the backup; none if unset.
	// +optional
	Encryption *BackupEncryption `json:"encryption,omitempty"`

	// Verify says how much of the backup is tried before it is called good: Drill
	// (restored, started and compared) or ReadBack (read back and its hashes compared).
	// +kubebuilder:default=Drill
	// +optional
	Verify BackupVerify `json:"verify,omitempty"`

	// DrillAfter has the backup tried out again: a drill that ended before this time
	// (RFC 3339) does not count. A time in the future is a date for it. It may change at any
	// time, and does nothing where verify is ReadBack.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule=`size(self) == 0 || self.matches('^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](Z|[+-][01][0-9]:[0-5][0-9])$')`,message=`"…" is not a time — a drill that ended before it would not count — use the form 2026-03-01T12:00:00Z, which date -u +%FT%TZ prints`,messageExpression=`'"' + self + '" is not a time — a drill that ended before it would not count — use the form 2026-03-01T12:00:00Z, which date -u +%FT%TZ prints'`
	// +optional
	DrillAfter string `json:"drillAfter,omitempty"`

	// RateLimit is how many bytes a second are read from etcd at most, 64Ki to 10Gi, so that the
	// cluster's own work is not slowed. It holds for the store too, for what is sent to
	// a bucket and what is read, back or to try the backup out; there it counts as 16Mi if it is less,
	// since etcd has no part in that.
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`(string(self).matches('^[0-9.]{1,16}[EGKMPTkm]?i?$') && isQuantity(string(self))) && quantity(string(self)).compareTo(quantity('64Ki')) >= 0 && quantity(string(self)).compareTo(quantity('10Gi')) <= 0`,message=`"…" is not a rate from 64Ki to 10Gi a second — a slower backup never ends, and a faster one is no limit — use a quantity such as 32Mi`,messageExpression=`'"' + string(self) + '" is not a rate from 64Ki to 10Gi a second — a slower backup never ends, and a faster one is no limit — use a quantity such as 32Mi'`
	// +kubebuilder:default="8Mi"
	// +optional
	RateLimit resource.Quantity `json:"rateLimit,omitempty,omitzero"`

	// Timeout of the work that makes the backup, with all its tries, and of the work
	// that verifies it: from 1m to 168h. What a schedule makes is begun again until this is over, if
	// it has failed for what may pass.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`size(self) > 1 && self.matches('^([0-9]{1,6}([.][0-9]{1,3})?h)?([0-9]{1,6}([.][0-9]{1,3})?m)?([0-9]{1,9}([.][0-9]{1,3})?s)?$') && duration(self) >= duration('1m') && duration(self) <= duration('168h')`,message=`"…" is not a duration from 1m to 168h — a backup that is given up too soon is never made, and one that hangs holds up the next — use minutes and hours such as 2h`,messageExpression=`'"' + self + '" is not a duration from 1m to 168h — a backup that is given up too soon is never made, and one that hangs holds up the next — use minutes and hours such as 2h'`
	// +kubebuilder:default="2h"
	// +optional
	Timeout metav1.Duration `json:"timeout,omitempty,omitzero"`

	// ServiceAccountName of the pods that do the work, for stores that know them by it.
	// They get no token of the Kubernetes API. The namespace's default account if unset.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule=`size(self) == 0 || self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')`,message=`"…" is not the name of a ServiceAccount — no pod of the backup would be created — use a name from kubectl get serviceaccounts`,messageExpression=`'"' + self + '" is not the name of a ServiceAccount — no pod of the backup would be created — use a name from kubectl get serviceaccounts'`
	// +optional
	ServiceAccountName string `json:"serviceAccountName,omitempty"`

	// DeletionPolicy keeps (Retain) or deletes (Delete) the objects in the store when
	// the EtcdBackup is deleted. Retain if unset; in a schedule, whose retention would
	// delete nothing otherwise, Delete.
	// +optional
	DeletionPolicy BackupDeletionPolicy `json:"deletionPolicy,omitempty"`
}

// BackupProgress is how far the work has come.
type BackupProgress struct {
	// Phase of the work, such as Uploading or ReadingBack.
	// +optional
	Phase string `json:"phase,omitempty"`
	// Bytes that are done.
	// +optional
	Bytes int64 `json:"bytes,omitempty"`
	// TotalBytes is how many there are, as far as is known.
	// +optional
	TotalBytes int64 `json:"totalBytes,omitempty"`
	// Percent is the share that is done, for example "42%".
	// +kubebuilder:validation:MaxLength=8
	// +optional
	Percent string `json:"percent,omitempty"`
}

// EtcdBackupStatus is what is known of a backup.
// +kubebuilder:validation:XValidation:rule=`!has(oldSelf.url) || size(oldSelf.url) == 0 || (has(self.url) && self.url == oldSelf.url)`,message=`the URL of a backup cannot change — what was verified would be another object than what is restored — read the object again before writing its status`,fieldPath=`.url`
type EtcdBackupStatus struct {
	// ObservedGeneration is the generation of the spec that this status is about; -1
	// before the first pass.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Conditions: Ready is the summary; Complete says that the backup and its manifest
	// lie in the store, Verified that it was restored and compared; Reconciling and
	// Stalled say whether work goes on.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// ClusterUID is the UID of the cluster that is backed up, written before any work
	// begins: another cluster of the same name is not backed up in its place.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	ClusterUID string `json:"clusterUID,omitempty"`

	// ClusterID is etcd's cluster ID in hex.
	// +kubebuilder:validation:MaxLength=32
	// +optional
	ClusterID string `json:"clusterID,omitempty"`

	// Progress of the work that is under way; absent otherwise.
	// +optional
	Progress *BackupProgress `json:"progress,omitempty"`

	// URL of the snapshot in the store. Its manifest lies beside it.
	// +kubebuilder:validation:MaxLength=2048
	// +optional
	URL string `json:"url,omitempty"`

	// ID of the backup in the store, by which it is restored without this object.
	// +kubebuilder:validation:MaxLength=512
	// +optional
	ID string `json:"id,omitempty"`

	// Revision of the cluster that the backup holds.
	// +optional
	Revision int64 `json:"revision,omitempty"`

	// EtcdVersion that the snapshot was taken from.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	EtcdVersion string `json:"etcdVersion,omitempty"`

	// Keys is how many keys the backup holds.
	// +optional
	Keys int64 `json:"keys,omitempty"`

	// Size of the object in the store.
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^[0-9.]{1,16}[EGKMPTkm]?i?$`
	// +optional
	Size *resource.Quantity `json:"size,omitempty"`

	// DatabaseSize is the size of the snapshot before it was compressed.
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^[0-9.]{1,16}[EGKMPTkm]?i?$`
	// +optional
	DatabaseSize *resource.Quantity `json:"databaseSize,omitempty"`

	// SHA256 of the object in the store, in hex.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	SHA256 string `json:"sha256,omitempty"`

	// StartTime is when the work began.
	// +optional
	StartTime *metav1.Time `json:"startTime,omitempty"`

	// CompletionTime is when the backup lay in the store.
	// +optional
	CompletionTime *metav1.Time `json:"completionTime,omitempty"`

	// VerifiedTime is when it had been restored and compared.
	// +optional
	VerifiedTime *metav1.Time `json:"verifiedTime,omitempty"`

	// DrilledTime is when the last drill ended, whatever it found.
	// +optional
	DrilledTime *metav1.Time `json:"drilledTime,omitempty"`

	// Duration from StartTime to CompletionTime, in words.
	// +kubebuilder:validation:MaxLength=32
	// +optional
	Duration string `json:"duration,omitempty"`
}

// EtcdBackup is one backup of an EtcdCluster.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:resource:shortName=eb,categories=etcd
// +kubebuilder:printcolumn:name="Cluster",type=string,JSONPath=`.spec.clusterRef.name`
// +kubebuilder:printcolumn:name="Progress",type=string,JSONPath=`.status.progress.percent`
// +kubebuilder:printcolumn:name="Revision",type=integer,JSONPath=`.status.revision`
// +kubebuilder:printcolumn:name="Size",type=string,JSONPath=`.status.size`
// +kubebuilder:printcolumn:name="Duration",type=string,JSONPath=`.status.duration`
// +kubebuilder:printcolumn:name="Verified",type=string,JSONPath=`.status.conditions[?(@.type=="Verified")].status`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Done",type=integer,priority=1,JSONPath=`.status.progress.bytes`
// +kubebuilder:printcolumn:name="URL",type=string,priority=1,JSONPath=`.status.url`
// +kubebuilder:validation:XValidation:rule=`oldSelf.hasValue() || (size(self.metadata.name) <= 56 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'))`,message=`metadata.name … is not a DNS label of at most 56 characters — the names of Jobs are made from it — use lower-case letters, digits and dashes`,messageExpression=`'metadata.name ' + self.metadata.name + ' is not a DNS label of at most 56 characters — the names of Jobs are made from it — use lower-case letters, digits and dashes'`,optionalOldSelf=true
type EtcdBackup struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty,omitzero"`

	// +kubebuilder:validation:XValidation:rule=`self.clusterRef.name == oldSelf.clusterRef.name && has(self.store.s3) == has(oldSelf.store.s3) && (!has(self.store.s3) || (has(self.store.s3.endpoint) == has(oldSelf.store.s3.endpoint) && (!has(self.store.s3.endpoint) || self.store.s3.endpoint == oldSelf.store.s3.endpoint) && has(self.store.s3.region) == has(oldSelf.store.s3.region) && (!has(self.store.s3.region) || self.store.s3.region == oldSelf.store.s3.region) && has(self.store.s3.prefix) == has(oldSelf.store.s3.prefix) && (!has(self.store.s3.prefix) || self.store.s3.prefix == oldSelf.store.s3.prefix) && has(self.store.s3.forcePathStyle) == has(oldSelf.store.s3.forcePathStyle) && (!has(self.store.s3.forcePathStyle) || self.store.s3.forcePathStyle == oldSelf.store.s3.forcePathStyle) && self.store.s3.bucket == oldSelf.store.s3.bucket && has(self.store.s3.credentialsSecretRef) == has(oldSelf.store.s3.credentialsSecretRef) && (!has(self.store.s3.credentialsSecretRef) || (self.store.s3.credentialsSecretRef.name == oldSelf.store.s3.credentialsSecretRef.name)) && has(self.store.s3.caSecretRef) == has(oldSelf.store.s3.caSecretRef) && (!has(self.store.s3.caSecretRef) || (self.store.s3.caSecretRef.name == oldSelf.store.s3.caSecretRef.name)))) && has(self.store.gcs) == has(oldSelf.store.gcs) && (!has(self.store.gcs) || (self.store.gcs.bucket == oldSelf.store.gcs.bucket && has(self.store.gcs.prefix) == has(oldSelf.store.gcs.prefix) && (!has(self.store.gcs.prefix) || self.store.gcs.prefix == oldSelf.store.gcs.prefix) && has(self.store.gcs.credentialsSecretRef) == has(oldSelf.store.gcs.credentialsSecretRef) && (!has(self.store.gcs.credentialsSecretRef) || (self.store.gcs.credentialsSecretRef.name == oldSelf.store.gcs.credentialsSecretRef.name)))) && has(self.store.azure) == has(oldSelf.store.azure) && (!has(self.store.azure) || (self.store.azure.account == oldSelf.store.azure.account && self.store.azure.container == oldSelf.store.azure.container && has(self.store.azure.prefix) == has(oldSelf.store.azure.prefix) && (!has(self.store.azure.prefix) || self.store.azure.prefix == oldSelf.store.azure.prefix) && has(self.store.azure.credentialsSecretRef) == has(oldSelf.store.azure.credentialsSecretRef) && (!has(self.store.azure.credentialsSecretRef) || (self.store.azure.credentialsSecretRef.name == oldSelf.store.azure.credentialsSecretRef.name)))) && has(self.store.persistentVolumeClaim) == has(oldSelf.store.persistentVolumeClaim) && (!has(self.store.persistentVolumeClaim) || (self.store.persistentVolumeClaim.claimName == oldSelf.store.persistentVolumeClaim.claimName && has(self.store.persistentVolumeClaim.path) == has(oldSelf.store.persistentVolumeClaim.path) && (!has(self.store.persistentVolumeClaim.path) || self.store.persistentVolumeClaim.path == oldSelf.store.persistentVolumeClaim.path))) && has(self.encryption) == has(oldSelf.encryption) && (!has(self.encryption) || (self.encryption.recipients == oldSelf.encryption.recipients && has(self.encryption.identitySecretRef) == has(oldSelf.encryption.identitySecretRef) && (!has(self.encryption.identitySecretRef) || (self.encryption.identitySecretRef.name == oldSelf.encryption.identitySecretRef.name)))) && has(self.verify) == has(oldSelf.verify) && (!has(self.verify) || self.verify == oldSelf.verify) && has(self.rateLimit) == has(oldSelf.rateLimit) && (!has(self.rateLimit) || self.rateLimit == oldSelf.rateLimit) && has(self.timeout) == has(oldSelf.timeout) && (!has(self.timeout) || self.timeout == oldSelf.timeout) && has(self.serviceAccountName) == has(oldSelf.serviceAccountName) && (!has(self.serviceAccountName) || self.serviceAccountName == oldSelf.serviceAccountName)`,message=`the spec of a backup cannot change, apart from deletionPolicy and drillAfter — it says what lies in the store, and how it was made — create another EtcdBackup`
	Spec EtcdBackupSpec `json:"spec"`
	// +kubebuilder:default={"observedGeneration":-1}
	// +optional
	Status EtcdBackupStatus `json:"status,omitempty,omitzero"`
}

// EtcdBackupList is a list of backups.
//
// +kubebuilder:object:root=true
type EtcdBackupList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []EtcdBackup `json:"items"`
}
