package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// SafetyBackupPolicy says whether the cluster is backed up before it is carried back.
// +kubebuilder:validation:Enum=Take;Skip
type SafetyBackupPolicy string

const (
	// SafetyBackupTake backs the cluster up first; without that backup nothing is stopped.
	SafetyBackupTake SafetyBackupPolicy = "Take"
	// SafetyBackupSkip does not: what the cluster holds now is on its old volumes alone.
	SafetyBackupSkip SafetyBackupPolicy = "Skip"
)

// SafetyBackup is the backup of what the cluster holds before it is carried back.
type SafetyBackup struct {
	// Policy takes the backup first (Take), or goes without (Skip), for a cluster that
	// cannot be backed up any more.
	// +kubebuilder:default=Take
	// +optional
	Policy SafetyBackupPolicy `json:"policy,omitempty"`

	// Store of the backup; that of the backup which is restored if unset. It is encrypted
	// to the same recipients as that.
	// +optional
	Store *BackupStore `json:"store,omitempty"`

	// Verify says how much of the backup is tried before anything is stopped: ReadBack, or
	// Drill, which takes longer, so that more is written after it.
	// +kubebuilder:default=ReadBack
	// +optional
	Verify BackupVerify `json:"verify,omitempty"`

	// RateLimit is that of an EtcdBackup, 64Ki to 10Gi bytes a second; that of the backup which is
	// restored if unset. A cluster that has grown since may need more.
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`(string(self).matches('^[0-9.]{1,16}[EGKMPTkm]?i?$') && isQuantity(string(self))) && quantity(string(self)).compareTo(quantity('64Ki')) >= 0 && quantity(string(self)).compareTo(quantity('10Gi')) <= 0`,message=`"…" is not a rate from 64Ki to 10Gi a second — a slower backup never ends, and a faster one is no limit — use a quantity such as 32Mi`,messageExpression=`'"' + string(self) + '" is not a rate from 64Ki to 10Gi a second — a slower backup never ends, and a faster one is no limit — use a quantity such as 32Mi'`
	// +optional
	RateLimit resource.Quantity `json:"rateLimit,omitempty,omitzero"`

	// Timeout is that of an EtcdBackup, 1m to 168h; that of the backup which is restored if
	// unset.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`size(self) > 1 && self.matches('^([0-9]{1,6}([.][0-9]{1,3})?h)?([0-9]{1,6}([.][0-9]{1,3})?m)?([0-9]{1,9}([.][0-9]{1,3})?s)?$') && duration(self) >= duration('1m') && duration(self) <= duration('168h')`,message=`"…" is not a duration from 1m to 168h — a backup that is given up too soon is never made, and one that hangs holds up the next — use minutes and hours such as 2h`,messageExpression=`'"' + self + '" is not a duration from 1m to 168h — a backup that is given up too soon is never made, and one that hangs holds up the next — use minutes and hours such as 2h'`
	// +optional
	Timeout metav1.Duration `json:"timeout,omitempty,omitzero"`
}

// EtcdRestoreSpec says which cluster is carried back to which backup.
type EtcdRestoreSpec struct {
	// ClusterRef names the EtcdCluster. It is stopped, and goes on with the backup: whatever
	// was written since is not in it any more.
	ClusterRef ClusterReference `json:"clusterRef"`

	// BackupName is the EtcdBackup of this namespace, and of this cluster, that it goes on
	// with.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule=`self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')`,message=`"…" is not the name of an EtcdBackup — there would be nothing to go on with — use a name from kubectl get etcdbackups in this namespace`,messageExpression=`'"' + self + '" is not the name of an EtcdBackup — there would be nothing to go on with — use a name from kubectl get etcdbackups in this namespace'`
	BackupName string `json:"backupName"`

	// AllowUnverified takes an EtcdBackup that is not verified.
	// +optional
	AllowUnverified bool `json:"allowUnverified,omitempty"`

	// SafetyBackup is taken of the cluster first.
	// +kubebuilder:default={}
	// +optional
	SafetyBackup SafetyBackup `json:"safetyBackup,omitempty,omitzero"`
}

// SafetyBackupStatus is the backup that was taken first.
type SafetyBackupStatus struct {
	// Name of the EtcdBackup.
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`
	// Revision of the cluster that it holds. What was acknowledged later, until the members
	// stopped, is on the old volumes alone.
	// +optional
	Revision int64 `json:"revision,omitempty"`
	// Time at which it was begun: nothing that was acknowledged before is missing from it.
	// +optional
	Time *metav1.Time `json:"time,omitempty"`
	// ReadyTime is when it was complete and, if it was to be tried out, had been. From then
	// on it grows old: a restore does not begin with one that has been there for an hour.
	// +optional
	ReadyTime *metav1.Time `json:"readyTime,omitempty"`
}

// EtcdRestoreStatus is what is known of a restore.
// +kubebuilder:validation:XValidation:rule=`!has(oldSelf.incarnation) || (has(self.incarnation) && self.incarnation == oldSelf.incarnation)`,message=`the incarnation that a restore gives up cannot change — it would be carried out a second time — create another EtcdRestore`,fieldPath=`.incarnation`
// +kubebuilder:validation:XValidation:rule=`!has(oldSelf.clusterUID) || size(oldSelf.clusterUID) == 0 || (has(self.clusterUID) && self.clusterUID == oldSelf.clusterUID)`,message=`the cluster of a restore cannot change — another one of its name holds other data — create another EtcdRestore`,fieldPath=`.clusterUID`
type EtcdRestoreStatus struct {
	// ObservedGeneration is the generation of the spec that this status is about; -1
	// before the first pass.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Conditions: Ready is the summary, True once the cluster serves the backup; Prepared
	// says that all is there that is needed before members are stopped; Reconciling and
	// Stalled say whether work goes on.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// ClusterUID is the UID of the cluster, written before any work begins: another cluster
	// of the same name is not carried back in its place.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	ClusterUID string `json:"clusterUID,omitempty"`

	// Incarnation of the cluster that is given up, written before any work begins. Once the
	// next one has begun the restore is spent: it is carried out once.
	// +kubebuilder:validation:Minimum=1
	// +optional
	Incarnation int64 `json:"incarnation,omitempty"`

	// SafetyBackup that was taken first; absent without one.
	// +optional
	SafetyBackup *SafetyBackupStatus `json:"safetyBackup,omitempty"`

	// BackupID is the ID in its store of the backup that is restored, written before any work
	// begins: an EtcdBackup that is made anew under the name is another one.
	// +kubebuilder:validation:MaxLength=512
	// +optional
	BackupID string `json:"backupID,omitempty"`

	// Revision of the backup that is restored.
	// +optional
	Revision int64 `json:"revision,omitempty"`

	// RevisionBump is by how much its revisions were raised, and all of them are marked as
	// compacted: a watcher or a controller that has seen a later one is told, and begins
	// anew, instead of being carried back in time without a word.
	// +optional
	RevisionBump int64 `json:"revisionBump,omitempty"`

	// OldVolumes are the claims of the incarnation that was given up. They are kept, with
	// everything that it had acknowledged; delete them when nobody wants them any more.
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=253
	// +listType=atomic
	// +optional
	OldVolumes []string `json:"oldVolumes,omitempty"`

	// StartTime is when the work began.
	// +optional
	StartTime *metav1.Time `json:"startTime,omitempty"`

	// RaisedTime is when the new incarnation began. Until then the way back is to delete the
	// EtcdRestore: the old members go on, on their volumes.
	// +optional
	RaisedTime *metav1.Time `json:"raisedTime,omitempty"`

	// CompletionTime is when it was seen to serve.
	// +optional
	CompletionTime *metav1.Time `json:"completionTime,omitempty"`
}

// EtcdRestore carries an EtcdCluster back to a backup, in place.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:resource:shortName=er,categories=etcd
// +kubebuilder:printcolumn:name="Cluster",type=string,JSONPath=`.spec.clusterRef.name`
// +kubebuilder:printcolumn:name="Backup",type=string,JSONPath=`.spec.backupName`
// +kubebuilder:printcolumn:name="Revision",type=integer,JSONPath=`.status.revision`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Safety-Backup",type=string,priority=1,JSONPath=`.status.safetyBackup.name`
// +kubebuilder:validation:XValidation:rule=`oldSelf.hasValue() || (size(self.metadata.name) <= 49 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'))`,message=`metadata.name … is not a DNS label of at most 49 characters — the name of the safety backup is made from it — use lower-case letters, digits and dashes`,messageExpression=`'metadata.name ' + self.metadata.name + ' is not a DNS label of at most 49 characters — the name of the safety backup is made from it — use lower-case letters, digits and dashes'`,optionalOldSelf=true
type EtcdRestore struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty,omitzero"`

	// +kubebuilder:validation:XValidation:rule=`self == oldSelf`,message=`the spec of a restore cannot change — what was prepared and what is done would be two things — delete the EtcdRestore, which takes it back until the new incarnation has begun, and create another`
	Spec EtcdRestoreSpec `json:"spec"`
	// +kubebuilder:default={"observedGeneration":-1}
	// +optional
	Status EtcdRestoreStatus `json:"status,omitempty,omitzero"`
}

// EtcdRestoreList is a list of restores.
//
// +kubebuilder:object:root=true
type EtcdRestoreList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []EtcdRestore `json:"items"`
}
