package v1alpha1

// Labels and annotations of the objects that belong to a cluster. Identity
// (cluster UID, incarnation, member) is on every one of them, so that what a
// restore or a namesake leaves behind is never taken for a member.
const (
	// LabelCluster is the cluster's name.
	LabelCluster = "etcd.quorate.dev/cluster"
	// LabelClusterUID is the cluster's UID.
	LabelClusterUID = "etcd.quorate.dev/cluster-uid"
	// LabelIncarnation is the incarnation that the object belongs to.
	LabelIncarnation = "etcd.quorate.dev/incarnation"
	// LabelMember is the member's name.
	LabelMember = "etcd.quorate.dev/member"
	// LabelQuarantined on a claim says why its data is no member's any more. It
	// is kept for storage.quarantineFor and gets no pod.
	LabelQuarantined = "etcd.quorate.dev/quarantined"

	// LabelBackup on a Job and its pods is the EtcdBackup that they work for. They bear
	// none of the labels of a member.
	LabelBackup = "etcd.quorate.dev/backup"
	// LabelBackupUID is that EtcdBackup's UID.
	LabelBackupUID = "etcd.quorate.dev/backup-uid"
	// LabelSchedule on an EtcdBackup is the EtcdBackupSchedule that made it. It has no
	// owner, so that nobody who deletes a schedule deletes its backups.
	LabelSchedule = "etcd.quorate.dev/schedule"

	// AnnotationSlot on an EtcdBackup is the time that it was due at (RFC 3339).
	AnnotationSlot = "etcd.quorate.dev/slot"
	// AnnotationRecipients on a pod are the public keys that a backup is encrypted to,
	// one a line: the pod reads them as a file.
	AnnotationRecipients = "etcd.quorate.dev/recipients"
	// AnnotationRestore on a pod is the ID of the backup that its volume is filled with
	// if it is empty. It is taken back once the member has started.
	AnnotationRestore = "etcd.quorate.dev/restore"
	// AnnotationQuarantinedAt on a claim is the time of its quarantine (RFC 3339).
	AnnotationQuarantinedAt = "etcd.quorate.dev/quarantined-at"
	// AnnotationLeaving on a claim says that its member is removed because the
	// cluster shrinks, so that the claim goes with it.
	AnnotationLeaving = "etcd.quorate.dev/leaving"

	// AnnotationMemberID on a claim (or on the pod of a memory-backed member)
	// is the ID that etcd gave the member, in hex. A volume that carries one
	// has belonged to a running member.
	AnnotationMemberID = "etcd.quorate.dev/member-id"
	// AnnotationRefused on a claim is what the guard found wrong with the
	// data on it; such a claim gets no pod until the annotation is removed.
	AnnotationRefused = "etcd.quorate.dev/refused"
	// AnnotationFounders on a founder's claim names all founders, so that a
	// lost status is written again and not founded again.
	AnnotationFounders = "etcd.quorate.dev/founders"
	// AnnotationStorageClass on a claim is the class that the spec asked for;
	// empty for the default class.
	AnnotationStorageClass = "etcd.quorate.dev/storage-class"
	// AnnotationBooted on a claim says that a pod was ready on it: the member has
	// booted, whether etcd's list could be read or not.
	AnnotationBooted = "etcd.quorate.dev/booted"
	// AnnotationNode on a claim is the node of the member's last pod.
	AnnotationNode = "etcd.quorate.dev/node"
	// AnnotationVolumeUID on a pod is the UID of the claim it was made for.
	AnnotationVolumeUID = "etcd.quorate.dev/volume-uid"
	// AnnotationTemplateHash on a pod is the hash of what it was made from.
	AnnotationTemplateHash = "etcd.quorate.dev/template-hash"
	// AnnotationSnapshotCount on a pod is how many changes its etcd applies at most
	// between two snapshots of its own.
	AnnotationSnapshotCount = "etcd.quorate.dev/snapshot-count"
	// AnnotationFence on a pod names the pod of another member that is restarted, and
	// gives this one another resourceVersion: nobody who has looked before can delete it.
	AnnotationFence = "etcd.quorate.dev/fence"

	// FinalizerBackup holds an EtcdBackup until its objects in the store are deleted,
	// for some minutes at most. It is set only while deletionPolicy is Delete.
	FinalizerBackup = "etcd.quorate.dev/objects"
	// Finalizer holds a cluster until its volumes are deleted. It is set only
	// while storage.whenDeleted is Delete.
	Finalizer = "etcd.quorate.dev/volumes"
)

// Condition types.
const (
	// ConditionReady is the summary: the cluster is as the spec wants it.
	ConditionReady = "Ready"
	// ConditionAvailable: a linearizable read succeeded in the last 15 s.
	ConditionAvailable = "Available"
	// ConditionReconciling: the operator is working towards the spec.
	ConditionReconciling = "Reconciling"
	// ConditionStalled: nothing goes on until the user acts.
	ConditionStalled = "Stalled"
	// ConditionTLSReady: the cluster's certificates are in order. Absent
	// without TLS.
	ConditionTLSReady = "TLSReady"
	// ConditionStorageReady: every member has its volume, and nobody deletes one.
	ConditionStorageReady = "StorageReady"
	// ConditionKnownDefect: a version of etcd that runs has a defect which can cost
	// data or give old answers. Absent otherwise.
	ConditionKnownDefect = "KnownDefect"
	// ConditionComplete: the backup and its manifest lie in the store.
	ConditionComplete = "Complete"
	// ConditionVerified: the backup was restored, served by a real etcd and compared.
	ConditionVerified = "Verified"
	// ConditionOldVolumes: volumes of another cluster of the same name exist.
	ConditionOldVolumes = "OldVolumes"
)

// Reasons of conditions. Ready's reason is the Status column.
const (
	ReasonHealthy              = "Healthy"
	ReasonFounding             = "Founding"
	ReasonDegraded             = "Degraded"
	ReasonQuorumLost           = "QuorumLost"
	ReasonRepairing            = "Repairing"
	ReasonPaused               = "Paused"
	ReasonDeleting             = "Deleting"
	ReasonUnknown              = "Unknown"
	ReasonProbeSucceeded       = "ProbeSucceeded"
	ReasonProbeFailed          = "ProbeFailed"
	ReasonAlarm                = "AlarmActive"
	ReasonDataMissing          = "DataMissing"
	ReasonForeignData          = "ForeignData"
	ReasonClusterIDMismatch    = "ClusterIDMismatch"
	ReasonStorageClassNotFound = "StorageClassNotFound"
	ReasonVolumePending        = "VolumePending"
	ReasonMemberPodRejected    = "MemberPodRejected"
	ReasonMemberUnschedulable  = "MemberUnschedulable"
	ReasonImagePullFailed      = "ImagePullFailed"
	ReasonMemberCrashLooping   = "MemberCrashLooping"
	ReasonMemberOOM            = "MemberOOM"
	ReasonNameConflict         = "NameConflict"
	ReasonApplyFailed          = "ApplyFailed"
	ReasonGrowing              = "Growing"
	ReasonShrinking            = "Shrinking"
	ReasonReplacing            = "Replacing"
	ReasonUpgrading            = "Upgrading"
	ReasonRolling              = "Rolling"
	ReasonRollHalted           = "RollHalted"
	ReasonRollPending          = "RollPending"
	ReasonVolumeChangePending  = "VolumeChangePending"
	ReasonUnknownMember        = "UnknownMember"
	ReasonAuthFailed           = "AuthFailed"
	ReasonVolumesInOrder       = "VolumesInOrder"
	ReasonVolumeLost           = "VolumeLost"
	ReasonStaleReads           = "StaleReads"
	ReasonChildDrift           = "ChildDrift"
	ReasonDowngrading          = "Downgrading"
	ReasonLearnerNotSynced     = "LearnerNotSynced"
	ReasonObservationFailed    = "ObservationFailed"
	ReasonCertificatesValid    = "CertificatesValid"
	ReasonOldVolumesFound      = "OldVolumesFound"
	ReasonConflictingOperator  = "ConflictingOperator"
	ReasonNone                 = "None"

	// Of backups. The reasons of a failure are those of the program that does the work.
	ReasonPending           = "Pending"
	ReasonSaving            = "Saving"
	ReasonSaved             = "Saved"
	ReasonVerifying         = "Verifying"
	ReasonVerified          = "Verified"
	ReasonNotTried          = "NotTried"
	ReasonFailed            = "Failed"
	ReasonTimedOut          = "TimedOut"
	ReasonClusterNotFound   = "ClusterNotFound"
	ReasonClusterNotFounded = "ClusterNotFounded"
	ReasonClusterReplaced   = "ClusterReplaced"
	ReasonJobRejected       = "JobRejected"
	ReasonRestoreBlocked    = "RestoreBlocked"

	// Of schedules.
	ReasonOnSchedule      = "OnSchedule"
	ReasonOverdue         = "Overdue"
	ReasonNotVerified     = "NotVerified"
	ReasonSuspended       = "Suspended"
	ReasonInvalidSchedule = "InvalidSchedule"
)
