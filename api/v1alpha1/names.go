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
	// LabelRestore on an EtcdBackup is the EtcdRestore whose safety backup it is. It has no
	// owner, so that it outlives that.
	LabelRestore = "etcd.quorate.dev/restored-by"
	// LabelRestoreUID is that EtcdRestore's UID.
	LabelRestoreUID = "etcd.quorate.dev/restored-by-uid"

	// LabelArchive on a Deployment, a Job and their pods is the EtcdArchive that they work
	// for.
	LabelArchive = "etcd.quorate.dev/archive"
	// LabelArchiveUID is that EtcdArchive's UID.
	LabelArchiveUID = "etcd.quorate.dev/archive-uid"

	// LabelRestoring on a Job and its pods is the UID of the cluster that the point of an
	// archive is put together for, or that spec.recovery wants to go on with the backup that
	// they read. They bear none of the labels of a member.
	LabelRestoring = "etcd.quorate.dev/restoring"

	// AnnotationSlot on an EtcdBackup is the time that it was due at (RFC 3339).
	AnnotationSlot = "etcd.quorate.dev/slot"
	// AnnotationRecipients on a pod are the public keys that a backup is encrypted to,
	// one a line: the pod reads them as a file.
	AnnotationRecipients = "etcd.quorate.dev/recipients"
	// AnnotationRestore on a pod is the ID of the backup that its volume is filled with if it
	// is empty, or of the survivor whose volume is copied to it. It is taken back once the member has started.
	AnnotationRestore = "etcd.quorate.dev/restore"
	// AnnotationChecks on a Job that reads a backup before anybody is stopped for it is the ID of
	// that backup: what it finds to be bad is tried out again.
	AnnotationChecks = "etcd.quorate.dev/checks"
	// AnnotationRestoreWay on such a pod, and on a Job that puts the point of an archive
	// together, is the hash of the store and the Secret of spec.restoreFrom that it goes by: one
	// whose way was corrected since is made again.
	AnnotationRestoreWay = "etcd.quorate.dev/restore-way"
	// AnnotationRecovery on a claim is the EtcdBackup that its incarnation began with.
	AnnotationRecovery = "etcd.quorate.dev/recovery"
	// AnnotationRecoveryID on a claim is the ID of that backup in its store: an EtcdBackup
	// that is made anew under the name is another one.
	AnnotationRecoveryID = "etcd.quorate.dev/recovery-id"
	// AnnotationReads on a Job is the word of spec.recovery that it reads the backup for, and
	// the hash of what it reads, and with what: what it finds answers no other word.
	AnnotationReads = "etcd.quorate.dev/reads"
	// AnnotationSecrets on that Job are the versions of the Secrets that it was made with: one
	// that has failed is made again when they are others.
	AnnotationSecrets = "etcd.quorate.dev/secrets"
	// AnnotationRevisionFloor on a claim is the least revision that its incarnation begins
	// with, if it begins with a backup or with a survivor's volume.
	AnnotationRevisionFloor = "etcd.quorate.dev/revision-floor"
	// AnnotationSurvivor on a claim is whose volume its incarnation began with, as
	// incarnation/member/UID of the claim; on a pod, whose volume it mounts.
	AnnotationSurvivor = "etcd.quorate.dev/survivor"
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
	// AnnotationTemplateHash on a pod is the hash of what it was made from, and on a ServiceAccount
	// that of the annotations that the user has given it.
	AnnotationTemplateHash = "etcd.quorate.dev/template-hash"
	// AnnotationTrust on a pod is the hash of the authorities that its etcd trusts, which
	// it reads at its start and never again. Absent while they are those of the founding.
	AnnotationTrust = "etcd.quorate.dev/trust"
	// AnnotationSnapshotCount on a pod is how many changes its etcd applies at most
	// between two snapshots of its own.
	AnnotationSnapshotCount = "etcd.quorate.dev/snapshot-count"
	// AnnotationResources on a pod is the hash of the CPU and memory that the spec gave it.
	AnnotationResources = "etcd.quorate.dev/resources"
	// AnnotationResizeRefused on a pod is the hash of the CPU and memory that the API server
	// did not give it while it runs: it is made again for them.
	AnnotationResizeRefused = "etcd.quorate.dev/resize-refused"
	// AnnotationPlan on a cluster, "true", has the operator write into status.plan what it
	// would do, and do nothing.
	AnnotationPlan = "etcd.quorate.dev/plan"
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
	// ConditionBackupReady: the cluster has a good backup, and none is overdue or failing.
	ConditionBackupReady = "BackupReady"
	// ConditionKnownDefect: a version of etcd that runs has a defect which can cost
	// data or give old answers. Absent otherwise.
	ConditionKnownDefect = "KnownDefect"
	// ConditionDataConsistent: the members' data was the same when it was last compared.
	// Absent until it was compared.
	ConditionDataConsistent = "DataConsistent"
	// ConditionDefragmentationFailed: a member could not be defragmented, and the next
	// attempt is made later. Absent otherwise.
	ConditionDefragmentationFailed = "DefragmentationFailed"
	// ConditionOldVolumes: volumes of another cluster of the same name exist.
	ConditionOldVolumes = "OldVolumes"
	// ConditionComplete: the backup and its manifest lie in the store.
	ConditionComplete = "Complete"
	// ConditionVerified: the backup was restored, served by a real etcd and compared.
	ConditionVerified = "Verified"
	// ConditionPrepared: all is there that an EtcdRestore needs before members are stopped.
	ConditionPrepared = "Prepared"
	// ConditionArchiving: what is written to the cluster is archived.
	ConditionArchiving = "Archiving"
	// ConditionBaseReady: there is a backup that the end of the archive can be restored from.
	ConditionBaseReady = "BaseReady"
	// ConditionLagExceeded: the archive is further behind the cluster than spec.maxLag.
	ConditionLagExceeded = "LagExceeded"
	// ConditionGapInHistory: revisions are missing in the archive. Absent otherwise.
	ConditionGapInHistory = "GapInHistory"
	// ConditionHistoryBounded: what spec.keepFor of an archive does not keep was deleted. Absent
	// where it keeps everything.
	ConditionHistoryBounded = "HistoryBounded"
)

// Reasons of conditions and events. Ready's reason is the Status column.
const (
	// ReasonHealthy: all members are voters, answer and follow the leader.
	ReasonHealthy = "Healthy"
	// ReasonFounding: the first members start, until a majority of them agrees on a cluster
	// ID.
	ReasonFounding = "Founding"
	// ReasonAdopting: the volumes of a deleted cluster are taken over.
	ReasonAdopting = "Adopting"
	// ReasonAdoptBlocked: the volumes that spec.adopt names cannot be taken over.
	ReasonAdoptBlocked = "AdoptBlocked"
	// ReasonRecovering: a cluster whose quorum is lost begins anew with a backup, or with a copy
	// of a survivor's volume, as spec.recovery says.
	ReasonRecovering = "Recovering"
	// ReasonRecoveryBlocked: spec.recovery cannot be done.
	ReasonRecoveryBlocked = "RecoveryBlocked"
	// ReasonRecoveryVoid: the cluster serves, and spec.recovery counts no more.
	ReasonRecoveryVoid = "RecoveryVoid"
	// ReasonGrowing: a member is added.
	ReasonGrowing = "Growing"
	// ReasonShrinking: a member is removed because the spec wants fewer.
	ReasonShrinking = "Shrinking"
	// ReasonReplacing: a member that cannot come back is replaced.
	ReasonReplacing = "Replacing"
	// ReasonUpgrading: the members are restarted, one at a time, with another version of
	// etcd.
	ReasonUpgrading = "Upgrading"
	// ReasonRolling: the members are restarted, one at a time, from a changed spec.
	ReasonRolling = "Rolling"
	// ReasonRotating: the authorities of the certificates are replaced.
	ReasonRotating = "Rotating"
	// ReasonRepairing: something that was missing or changed is put back.
	ReasonRepairing = "Repairing"
	// ReasonDegraded: a member is not healthy, and the others serve.
	ReasonDegraded = "Degraded"
	// ReasonPaused: spec.paused is true: nothing is changed.
	ReasonPaused = "Paused"
	// ReasonDeleting: the cluster is deleted, and its volumes with it.
	ReasonDeleting = "Deleting"
	// ReasonQuorumLost: too few members answer: nothing can be read or written.
	ReasonQuorumLost = "QuorumLost"
	// ReasonDataMissing: the data of a member is lost or was refused by the guard; as a
	// condition: and nobody can be replaced, because the others are no quorum.
	ReasonDataMissing = "DataMissing"
	// ReasonVolumesInOrder: every member has its volume.
	ReasonVolumesInOrder = "VolumesInOrder"
	// ReasonVolumeLost: a volume is gone, or is being deleted.
	ReasonVolumeLost = "VolumeLost"
	// ReasonSlowDisk: syncing the log of a member takes 100 ms or longer on average.
	ReasonSlowDisk = "SlowDisk"
	// ReasonVolumePending: a claim could not be made.
	ReasonVolumePending = "VolumePending"
	// ReasonVolumeChangePending: spec.storage wants larger volumes than their class lets
	// them become.
	ReasonVolumeChangePending = "VolumeChangePending"
	// ReasonStorageClassNotFound: the StorageClass of a claim does not exist.
	ReasonStorageClassNotFound = "StorageClassNotFound"
	// ReasonMemberPodRejected: a pod is refused by the API server, or cannot be started by
	// the kubelet.
	ReasonMemberPodRejected = "MemberPodRejected"
	// ReasonMemberUnschedulable: no node takes the pod of a member.
	ReasonMemberUnschedulable = "MemberUnschedulable"
	// ReasonImagePullFailed: an image of a pod cannot be pulled.
	ReasonImagePullFailed = "ImagePullFailed"
	// ReasonMemberCrashLooping: a container of a member ends again and again.
	ReasonMemberCrashLooping = "MemberCrashLooping"
	// ReasonMemberOOM: a container of a member was killed for using more memory than its
	// limit.
	ReasonMemberOOM = "MemberOOM"
	// ReasonClusterIDMismatch: a member answers as one of another cluster.
	ReasonClusterIDMismatch = "ClusterIDMismatch"
	// ReasonUnknownMember: etcd lists a member that is none of this cluster's: nobody is
	// added, removed or replaced while it does.
	ReasonUnknownMember = "UnknownMember"
	// ReasonLearnerNotSynced: a learner makes no progress, or comes no nearer to the leader.
	ReasonLearnerNotSynced = "LearnerNotSynced"
	// ReasonDowngrading: etcd is being downgraded: nobody can join meanwhile, so nobody is
	// added, removed or replaced.
	ReasonDowngrading = "Downgrading"
	// ReasonRollHalted: a roll would do harm, or its first member did not come up as wanted.
	ReasonRollHalted = "RollHalted"
	// ReasonPlanned: the annotation etcd.quorate.dev/plan has the operator tell what it would
	// do, and do nothing.
	ReasonPlanned = "Planned"
	// ReasonDowngradeRefused: etcd does not take the downgrade; the message has its words.
	ReasonDowngradeRefused = "DowngradeRefused"
	// ReasonInvalidOptions: etcd would not start with an option of spec.etcd.extraArgs, so
	// nobody is restarted for it.
	ReasonInvalidOptions = "InvalidOptions"
	// ReasonExpanding: volumes are made larger.
	ReasonExpanding = "Expanding"
	// ReasonResizing: pods are given other CPU or memory while they run.
	ReasonResizing = "Resizing"
	// ReasonResizeInfeasible: a node has not got the CPU or memory that the spec asks for.
	ReasonResizeInfeasible = "ResizeInfeasible"
	// ReasonProbeSucceeded: a linearizable read succeeded, and a proposal since the last
	// doubt.
	ReasonProbeSucceeded = "ProbeSucceeded"
	// ReasonProbeFailed: a read or a proposal failed, or, with Available=Unknown, the
	// operator reaches too few members whose pods are ready.
	ReasonProbeFailed = "ProbeFailed"
	// ReasonAuthFailed: etcd's authentication does not let the operator in.
	ReasonAuthFailed = "AuthFailed"
	// ReasonAlarm: etcd raised an alarm, such as NOSPACE, and refuses writes.
	ReasonAlarm = "AlarmActive"
	// ReasonNameConflict: an object of somebody else bears a name that the cluster needs.
	ReasonNameConflict = "NameConflict"
	// ReasonApplyFailed: the API server or etcd refused what was to be done; the message has
	// its words.
	ReasonApplyFailed = "ApplyFailed"
	// ReasonObservationFailed: the operator cannot see the cluster and does nothing to it.
	ReasonObservationFailed = "ObservationFailed"
	// ReasonConflictingOperator: another installation of the operator works on the cluster,
	// or did until now.
	ReasonConflictingOperator = "ConflictingOperator"
	// ReasonChildDrift: somebody changed or deleted an object of the operator's; it was put
	// back.
	ReasonChildDrift = "ChildDrift"
	// ReasonCertificatesValid: every certificate is in order.
	ReasonCertificatesValid = "CertificatesValid"
	// ReasonStaleReads: the etcd that runs may give old answers after a pause of its
	// process.
	ReasonStaleReads = "StaleReads"
	// ReasonOldVolumesFound: claims of a deleted cluster of the same name lie beside this
	// one.
	ReasonOldVolumesFound = "OldVolumesFound"
	// ReasonComparing: the members' data is being compared.
	ReasonComparing = "Comparing"
	// ReasonDataEqual: all members had the same data when it was last compared.
	ReasonDataEqual = "DataEqual"
	// ReasonDataDiffers: a member has other data than the rest.
	ReasonDataDiffers = "DataDiffers"
	// ReasonDefragmenting: databases are made smaller, one member at a time.
	ReasonDefragmenting = "Defragmenting"
	// ReasonDefragmentFailed: a member could not be defragmented.
	ReasonDefragmentFailed = "DefragmentFailed"
	// ReasonTimeZoneUnknown: the time zone of spec.maintenance.window is not known here.
	ReasonTimeZoneUnknown = "TimeZoneUnknown"
	// ReasonNone: there is nothing to tell.
	ReasonNone = "None"

	// Of backups. The reasons of a failure are those of the program that does the work.

	// ReasonPending: the work on a backup has not begun.
	ReasonPending = "Pending"
	// ReasonSaving: a backup is being written.
	ReasonSaving = "Saving"
	// ReasonSaved: a backup and its manifest lie in the store.
	ReasonSaved = "Saved"
	// ReasonVerifying: a backup is restored on trial.
	ReasonVerifying = "Verifying"
	// ReasonVerified: a backup was restored, served by a real etcd, and compared.
	ReasonVerified = "Verified"
	// ReasonNotTried: the spec does not want a backup to be restored on trial.
	ReasonNotTried = "NotTried"
	// ReasonFailed: a backup could not be made; the message says why.
	ReasonFailed = "Failed"
	// ReasonTimedOut: a backup took longer than it may, or a restore could not begin in time.
	ReasonTimedOut = "TimedOut"
	// ReasonClusterNotFound: the cluster to be backed up does not exist.
	ReasonClusterNotFound = "ClusterNotFound"
	// ReasonClusterNotFounded: the cluster to be backed up is not founded yet.
	ReasonClusterNotFounded = "ClusterNotFounded"
	// ReasonClusterReplaced: the cluster to be backed up was deleted, and another one bears
	// its name.
	ReasonClusterReplaced = "ClusterReplaced"
	// ReasonJobRejected: the API server does not take the Job that would do the work.
	ReasonJobRejected = "JobRejected"
	// ReasonRestoreBlocked: the backup of spec.restoreFrom or of an EtcdRestore cannot be
	// restored, or not yet; or an EtcdRestore waits before it stops anybody.
	ReasonRestoreBlocked = "RestoreBlocked"

	// Of restores in place.

	// ReasonQueued: another EtcdRestore of the cluster is under way; or, of an archive that is to
	// be shortened, a cluster is being filled from it.
	ReasonQueued = "Queued"
	// ReasonLooking: the backup is read to its end, by a Job, before anybody is stopped for it.
	ReasonLooking = "Looking"
	// ReasonBackupUnreadable: it could not be, and nothing was stopped.
	ReasonBackupUnreadable = "BackupUnreadable"
	// ReasonSafetyBackup: the cluster is backed up before it is carried back.
	ReasonSafetyBackup = "SafetyBackup"
	// ReasonSafetyBackupFailed: it could not be, and nothing was stopped.
	ReasonSafetyBackupFailed = "SafetyBackupFailed"
	// ReasonPrepared: all is there that is needed before members are stopped.
	ReasonPrepared = "Prepared"
	// ReasonRestoring: an EtcdRestore carries the cluster back to a backup, or the point of an
	// archive that the cluster begins with is put together.
	ReasonRestoring = "Restoring"
	// ReasonRestored: the cluster serves what an EtcdRestore has restored.
	ReasonRestored = "Restored"
	// ReasonSuperseded: the incarnation that an EtcdRestore was to give up is over already.
	ReasonSuperseded = "Superseded"

	// Of schedules.

	// ReasonOnSchedule: backups are made when they are due.
	ReasonOnSchedule = "OnSchedule"
	// ReasonNoBackups: no EtcdBackup and no EtcdBackupSchedule names the cluster.
	ReasonNoBackups = "NoBackups"
	// ReasonFailing: the newest backup failed, or a schedule cannot make any.
	ReasonFailing = "Failing"
	// ReasonOverdue: no backup has succeeded for longer than the schedule wants.
	ReasonOverdue = "Overdue"
	// ReasonNotVerified: the last backup was not verified.
	ReasonNotVerified = "NotVerified"
	// ReasonSuspended: spec.suspend is true: no backup is made.
	ReasonSuspended = "Suspended"
	// ReasonInvalidSchedule: the schedule has no time at which a backup would be due.
	ReasonInvalidSchedule = "InvalidSchedule"

	// Of archives.

	// ReasonArchiving: what is written to the cluster is archived.
	ReasonArchiving = "Archiving"
	// ReasonArchiverSilent: the pod that archives runs, and does not tell the operator how
	// far it is.
	ReasonArchiverSilent = "ArchiverSilent"
	// ReasonBehind: the pod that archives runs, and has not stored for more than a minute what
	// is written to the cluster.
	ReasonBehind = "Behind"
	// ReasonBaseMissing: there is no backup that the end of the archive can be restored from.
	ReasonBaseMissing = "BaseMissing"
	// ReasonBaseFound: there is a backup that the end of the archive can be restored from.
	ReasonBaseFound = "BaseFound"
	// ReasonLagExceeded: the archive is further behind the cluster than spec.maxLag.
	ReasonLagExceeded = "LagExceeded"
	// ReasonWithinLimit: the archive is not further behind the cluster than spec.maxLag.
	ReasonWithinLimit = "WithinLimit"
	// ReasonCompacted: etcd compacted revisions before they were archived.
	ReasonCompacted = "Compacted"
	// ReasonLost: revisions were archived, and their segments are gone from the store.
	ReasonLost = "Lost"
)
