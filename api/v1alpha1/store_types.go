package v1alpha1

// SecretReference names a Secret in the namespace of the object that holds the
// reference.
type SecretReference struct {
	// Name of the Secret.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule=`self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')`,message=`"…" is not the name of a Secret — the pod that needs it would never start — name a Secret of this namespace`,messageExpression=`'"' + self + '" is not the name of a Secret — the pod that needs it would never start — name a Secret of this namespace'`
	Name string `json:"name"`
}

// BackupStore is where backups lie: exactly one of its fields is set. Below the
// prefix the objects of a cluster lie in a directory of its UID, so that clusters may
// share a bucket.
// +kubebuilder:validation:XValidation:rule=`[has(self.s3), has(self.gcs), has(self.azure), has(self.persistentVolumeClaim)].filter(x, x).size() == 1`,message=`the store names … places — a backup lies in exactly one of them — set one of s3, gcs, azure and persistentVolumeClaim`,messageExpression=`'the store names %d places — a backup lies in exactly one of them — set one of s3, gcs, azure and persistentVolumeClaim'.format([[has(self.s3), has(self.gcs), has(self.azure), has(self.persistentVolumeClaim)].filter(x, x).size()])`
type BackupStore struct {
	// S3 is a bucket of Amazon S3, or of a server that speaks its protocol.
	// +optional
	S3 *S3Store `json:"s3,omitempty"`
	// GCS is a bucket of Google Cloud Storage.
	// +optional
	GCS *GCSStore `json:"gcs,omitempty"`
	// Azure is a container of Azure Blob Storage.
	// +optional
	Azure *AzureStore `json:"azure,omitempty"`
	// PersistentVolumeClaim is a volume of this namespace. It does not outlive the
	// namespace, and it should be of another storage system than the members' volumes.
	// +optional
	PersistentVolumeClaim *ClaimStore `json:"persistentVolumeClaim,omitempty"`
}

// S3Store is a bucket of Amazon S3, or of a server that speaks its protocol.
type S3Store struct {
	// Endpoint of the server, such as https://s3.example.com:9000; empty for Amazon.
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:XValidation:rule=`size(self) == 0 || self.matches('^https?://([A-Za-z0-9]([-.A-Za-z0-9]*[A-Za-z0-9])?|[[][0-9a-fA-F:]+[]])(:[0-9]{1,5})?/?$')`,message=`"…" is not the address of an S3 server — nothing could be written there — use a form such as https://s3.example.com:9000, without a path, a user or a password, or leave it out for Amazon`,messageExpression=`'"' + self + '" is not the address of an S3 server — nothing could be written there — use a form such as https://s3.example.com:9000, without a path, a user or a password, or leave it out for Amazon'`
	// +optional
	Endpoint string `json:"endpoint,omitempty"`

	// Bucket that exists already.
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:XValidation:rule=`self.matches('^[a-z0-9][-.a-z0-9]{1,61}[a-z0-9]$') && !self.contains('..')`,message=`"…" is not the name of a bucket of S3 — every request would be refused — use 3 to 63 lower-case letters, digits, dashes and single dots`,messageExpression=`'"' + self + '" is not the name of a bucket of S3 — every request would be refused — use 3 to 63 lower-case letters, digits, dashes and single dots'`
	Bucket string `json:"bucket"`

	// Region of the bucket. Many servers other than Amazon's take any.
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:XValidation:rule=`self.matches('^[a-z0-9]([-a-z0-9]{0,62}[a-z0-9])?$')`,message=`"…" is not the name of a region — requests are signed with it, and every one would be refused — use a name such as eu-central-1`,messageExpression=`'"' + self + '" is not the name of a region — requests are signed with it, and every one would be refused — use a name such as eu-central-1'`
	// +kubebuilder:default="us-east-1"
	// +optional
	Region string `json:"region,omitempty"`

	// Prefix of the names of all objects, such as clusters/production.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule=`size(self) == 0 || self.matches('^[0-9A-Za-z]([-0-9A-Za-z._]*[0-9A-Za-z])?(/[0-9A-Za-z]([-0-9A-Za-z._]*[0-9A-Za-z])?)*$')`,message=`"…" is not a prefix of object names in S3 — the backup could not be found again where it was asked for — use letters, digits, dashes, dots and underscores between single slashes, and begin and end each part with a letter or a digit`,messageExpression=`'"' + self + '" is not a prefix of object names in S3 — the backup could not be found again where it was asked for — use letters, digits, dashes, dots and underscores between single slashes, and begin and end each part with a letter or a digit'`
	// +optional
	Prefix string `json:"prefix,omitempty"`

	// CredentialsSecretRef names a Secret with the keys AWS_ACCESS_KEY_ID,
	// AWS_SECRET_ACCESS_KEY and, for temporary credentials, AWS_SESSION_TOKEN. Without it
	// the pod's own identity is used: that of serviceAccountName, or, where members are
	// filled, what podTemplate.serviceAccountAnnotations of the EtcdCluster say.
	// +optional
	CredentialsSecretRef *SecretReference `json:"credentialsSecretRef,omitempty"`

	// CASecretRef names a Secret whose key ca.crt holds the authority of the server's
	// certificate. Without it the certificates of the image are trusted.
	// +optional
	CASecretRef *SecretReference `json:"caSecretRef,omitempty"`

	// ForcePathStyle puts the bucket into the path of the URL instead of the host
	// name, as most servers other than Amazon's want it. True when an endpoint is set,
	// unless it is false here.
	// +optional
	ForcePathStyle *bool `json:"forcePathStyle,omitempty"`
}

// GCSStore is a bucket of Google Cloud Storage.
type GCSStore struct {
	// Bucket that exists already.
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:XValidation:rule=`self.matches('^[a-z0-9][-_.a-z0-9]{1,220}[a-z0-9]$')`,message=`"…" is not the name of a bucket of Google Cloud Storage — every request would be refused — use 3 to 222 lower-case letters, digits, dashes, underscores and dots`,messageExpression=`'"' + self + '" is not the name of a bucket of Google Cloud Storage — every request would be refused — use 3 to 222 lower-case letters, digits, dashes, underscores and dots'`
	Bucket string `json:"bucket"`

	// Prefix of the names of all objects, such as clusters/production.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule=`size(self) == 0 || self.matches('^[0-9A-Za-z]([-0-9A-Za-z._]*[0-9A-Za-z])?(/[0-9A-Za-z]([-0-9A-Za-z._]*[0-9A-Za-z])?)*$')`,message=`"…" is not a prefix of object names in Google Cloud Storage — the backup could not be found again where it was asked for — use letters, digits, dashes, dots and underscores between single slashes, and begin and end each part with a letter or a digit`,messageExpression=`'"' + self + '" is not a prefix of object names in Google Cloud Storage — the backup could not be found again where it was asked for — use letters, digits, dashes, dots and underscores between single slashes, and begin and end each part with a letter or a digit'`
	// +optional
	Prefix string `json:"prefix,omitempty"`

	// CredentialsSecretRef names a Secret whose key serviceAccount.json holds the key of
	// a service account. Without it the pod's own identity is used: that of
	// serviceAccountName, or, where members are filled, what
	// podTemplate.serviceAccountAnnotations of the EtcdCluster say.
	// +optional
	CredentialsSecretRef *SecretReference `json:"credentialsSecretRef,omitempty"`
}

// AzureStore is a container of Azure Blob Storage.
type AzureStore struct {
	// Account is the name of the storage account.
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:XValidation:rule=`self.matches('^[a-z0-9]{3,24}$')`,message=`"…" is not the name of a storage account — it is a part of the host name, which could not be found — use 3 to 24 lower-case letters and digits`,messageExpression=`'"' + self + '" is not the name of a storage account — it is a part of the host name, which could not be found — use 3 to 24 lower-case letters and digits'`
	Account string `json:"account"`

	// Container that exists already.
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:XValidation:rule=`self.matches('^[a-z0-9](-?[a-z0-9]){2,62}$')`,message=`"…" is not the name of a container of Azure — every request would be refused — use 3 to 63 lower-case letters, digits and single dashes`,messageExpression=`'"' + self + '" is not the name of a container of Azure — every request would be refused — use 3 to 63 lower-case letters, digits and single dashes'`
	Container string `json:"container"`

	// Prefix of the names of all objects, such as clusters/production.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule=`size(self) == 0 || self.matches('^[0-9A-Za-z]([-0-9A-Za-z._]*[0-9A-Za-z])?(/[0-9A-Za-z]([-0-9A-Za-z._]*[0-9A-Za-z])?)*$')`,message=`"…" is not a prefix of object names in Azure — the backup could not be found again where it was asked for — use letters, digits, dashes, dots and underscores between single slashes, and begin and end each part with a letter or a digit`,messageExpression=`'"' + self + '" is not a prefix of object names in Azure — the backup could not be found again where it was asked for — use letters, digits, dashes, dots and underscores between single slashes, and begin and end each part with a letter or a digit'`
	// +optional
	Prefix string `json:"prefix,omitempty"`

	// CredentialsSecretRef names a Secret with the key AZURE_STORAGE_KEY (a key of the
	// storage account) or AZURE_STORAGE_SAS_TOKEN. Without it the pod's own identity is
	// used: that of serviceAccountName, or, where members are filled, what
	// podTemplate.serviceAccountAnnotations of the EtcdCluster say.
	// +optional
	CredentialsSecretRef *SecretReference `json:"credentialsSecretRef,omitempty"`
}

// ClaimStore is a volume of the namespace.
type ClaimStore struct {
	// ClaimName of the PersistentVolumeClaim.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule=`self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')`,message=`"…" is not the name of a PersistentVolumeClaim — the pod that mounts it would never start — use a name from kubectl get pvc`,messageExpression=`'"' + self + '" is not the name of a PersistentVolumeClaim — the pod that mounts it would never start — use a name from kubectl get pvc'`
	ClaimName string `json:"claimName"`

	// Path of a directory on the volume; its root if empty.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule=`size(self) == 0 || self.matches('^[0-9A-Za-z]([-0-9A-Za-z._]*[0-9A-Za-z])?(/[0-9A-Za-z]([-0-9A-Za-z._]*[0-9A-Za-z])?)*$')`,message=`"…" is not a directory on the volume — a backup could not be found again where it was asked for — use letters, digits, dashes, dots and underscores between single slashes, and begin and end each part with a letter or a digit`,messageExpression=`'"' + self + '" is not a directory on the volume — a backup could not be found again where it was asked for — use letters, digits, dashes, dots and underscores between single slashes, and begin and end each part with a letter or a digit'`
	// +optional
	Path string `json:"path,omitempty"`
}

// RestoreSource is the backup that a new cluster begins with: an EtcdBackup of the
// same namespace, or what lies in a store, whether anything in Kubernetes still knows
// of it or not; or a point of an archive.
// +kubebuilder:validation:XValidation:rule=`[has(self.backupName), has(self.store), has(self.archiveName)].filter(x, x).size() == 1`,message=`restoreFrom names several of backupName, archiveName and store, or none of them — every member must begin with the same data — name the EtcdBackup, or the EtcdArchive, or the store with clusterUID and backupID`
// +kubebuilder:validation:XValidation:rule=`has(self.store) == has(self.clusterUID) && (has(self.store) ? has(self.backupID) || has(self.toRevision) || has(self.toTime) : !has(self.backupID))`,message=`store, clusterUID and backupID belong together — the backup lies under both in the store, and every member must begin with the same one — set all three, from the URL of the backup: .../clusterUID/backupID/snapshot; with toRevision or toTime the backupID may be left out`
// +kubebuilder:validation:XValidation:rule=`!(has(self.toRevision) && has(self.toTime))`,message=`toRevision and toTime are two points — a cluster begins with one — leave one of them out`
// +kubebuilder:validation:XValidation:rule=`!has(self.archiveName) || has(self.toRevision) || has(self.toTime)`,message=`archiveName needs toRevision or toTime — an archive goes on, and its end is another one for every member — say which revision or time is to be restored`
type RestoreSource struct {
	// BackupName is the name of an EtcdBackup of the same namespace. Its store and its
	// encryption are used.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +optional
	BackupName string `json:"backupName,omitempty"`

	// ArchiveName is the name of an EtcdArchive of the same namespace. Its store and its
	// encryption are used, and toRevision or toTime says which point of it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +optional
	ArchiveName string `json:"archiveName,omitempty"`

	// ToRevision restores the archive that lies beside the backup up to this revision.
	// +kubebuilder:validation:XValidation:rule=`self >= 1`,message=`… is not a revision — etcd counts them from 1 — use one that the archive holds`,messageExpression=`'%d is not a revision — etcd counts them from 1 — use one that the archive holds'.format([self])`
	// +optional
	ToRevision int64 `json:"toRevision,omitempty"`

	// ToTime restores everything that the archiver had been told by this time, and nothing
	// that was written later, such as 2026-01-02T15:04:05Z.
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:XValidation:rule=`self.matches('^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{1,9})?(Z|[-+]([01][0-9]|2[0-3]):[0-5][0-9])$')`,message=`"…" is not a time — it would not be known what to restore — use a form such as 2026-01-02T15:04:05Z, with the zone`,messageExpression=`'"' + self + '" is not a time — it would not be known what to restore — use a form such as 2026-01-02T15:04:05Z, with the zone'`
	// +optional
	ToTime string `json:"toTime,omitempty"`

	// Store that the backup lies in.
	// +optional
	Store *BackupStore `json:"store,omitempty"`

	// ClusterUID is the UID of the cluster that was backed up: the part of the backup's
	// URL before its ID.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule=`self.matches('^[0-9A-Za-z]([-0-9A-Za-z._]*[0-9A-Za-z])?$')`,message=`"…" is not the UID of a cluster — nothing could be found under it — use the part of the URL of the backup before its ID`,messageExpression=`'"' + self + '" is not the UID of a cluster — nothing could be found under it — use the part of the URL of the backup before its ID'`
	// +optional
	ClusterUID string `json:"clusterUID,omitempty"`

	// BackupID is the ID of the backup: status.id of its EtcdBackup, and the part of its
	// URL before the last.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule=`self.matches('^[0-9]{20}-[0-9]{8}T[0-9]{6}[.][0-9]{3}Z-[0-9A-Za-z]([-0-9A-Za-z._]*[0-9A-Za-z])?$')`,message=`"…" is not the ID of a backup — nothing could be found under it — use status.id of the EtcdBackup, or the part of the URL of the backup before the last`,messageExpression=`'"' + self + '" is not the ID of a backup — nothing could be found under it — use status.id of the EtcdBackup, or the part of the URL of the backup before the last'`
	// +optional
	BackupID string `json:"backupID,omitempty"`

	// IdentitySecretRef names a Secret whose key identity holds a private key of age, for
	// an encrypted backup; that of the EtcdBackup if unset.
	// +optional
	IdentitySecretRef *SecretReference `json:"identitySecretRef,omitempty"`

	// AllowUnverified restores an EtcdBackup that is not verified.
	// +optional
	AllowUnverified bool `json:"allowUnverified,omitempty"`
}
