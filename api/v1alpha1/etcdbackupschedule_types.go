package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ConcurrencyPolicy says what becomes of a backup that is due while the last one is
// under way.
// +kubebuilder:validation:Enum=Forbid;Replace
type ConcurrencyPolicy string

const (
	// ConcurrencyForbid has the one that is due wait until the last one has ended.
	ConcurrencyForbid ConcurrencyPolicy = "Forbid"
	// ConcurrencyReplace deletes the one that is under way.
	ConcurrencyReplace ConcurrencyPolicy = "Replace"
)

// BackupRetention says which backups of a schedule are kept: each rule keeps its
// own, and a backup is deleted when none keeps it. The newest verified backup is
// always kept. Of failed ones the last three are.
// +kubebuilder:validation:XValidation:rule=`(has(self.keepLast) && self.keepLast > 0) || (has(self.keepHourly) && self.keepHourly > 0) || (has(self.keepDaily) && self.keepDaily > 0) || (has(self.keepWeekly) && self.keepWeekly > 0)`,message=`the retention keeps no backup — each would be deleted as soon as there is a newer one — set keepLast, keepHourly, keepDaily or keepWeekly to at least 1`
type BackupRetention struct {
	// KeepLast keeps the newest backups, 0 to 1000.
	// +kubebuilder:validation:XValidation:rule=`self >= 0 && self <= 1000`,message=`… backups are not between 0 and 1000 — each is an object that is read on every pass — use keepHourly, keepDaily and keepWeekly to keep a few of many`,messageExpression=`'%d backups are not between 0 and 1000 — each is an object that is read on every pass — use keepHourly, keepDaily and keepWeekly to keep a few of many'.format([self])`
	// +kubebuilder:default=7
	// +optional
	KeepLast int32 `json:"keepLast"`
	// KeepHourly keeps the newest backup of each of the last hours that have one, 0 to 1000.
	// +kubebuilder:validation:XValidation:rule=`self >= 0 && self <= 1000`,message=`… hours are not between 0 and 1000 — each keeps an object that is read on every pass — use keepDaily and keepWeekly to look further back`,messageExpression=`'%d hours are not between 0 and 1000 — each keeps an object that is read on every pass — use keepDaily and keepWeekly to look further back'.format([self])`
	// +optional
	KeepHourly int32 `json:"keepHourly,omitempty"`
	// KeepDaily keeps the newest backup of each of the last days that have one, 0 to 1000.
	// +kubebuilder:validation:XValidation:rule=`self >= 0 && self <= 1000`,message=`… days are not between 0 and 1000 — each keeps an object that is read on every pass — use keepWeekly to look further back`,messageExpression=`'%d days are not between 0 and 1000 — each keeps an object that is read on every pass — use keepWeekly to look further back'.format([self])`
	// +optional
	KeepDaily int32 `json:"keepDaily,omitempty"`
	// KeepWeekly keeps the newest backup of each of the last weeks that have one, 0 to 1000.
	// +kubebuilder:validation:XValidation:rule=`self >= 0 && self <= 1000`,message=`… weeks are not between 0 and 1000 — each keeps an object that is read on every pass — use at most 1000`,messageExpression=`'%d weeks are not between 0 and 1000 — each keeps an object that is read on every pass — use at most 1000'.format([self])`
	// +optional
	KeepWeekly int32 `json:"keepWeekly,omitempty"`
}

// EtcdBackupScheduleSpec says when a cluster is backed up, how, and how many of the
// backups are kept.
type EtcdBackupScheduleSpec struct {
	// Schedule in the form of cron, with five fields: minute, hour, day of the month,
	// month and day of the week.
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:XValidation:rule=`self.matches('(?i)^([*]|[0-5]?[0-9](-[0-5]?[0-9])?)(/[1-9][0-9]?)?(,([*]|[0-5]?[0-9](-[0-5]?[0-9])?)(/[1-9][0-9]?)?)* ([*]|([01]?[0-9]|2[0-3])(-([01]?[0-9]|2[0-3]))?)(/[1-9][0-9]?)?(,([*]|([01]?[0-9]|2[0-3])(-([01]?[0-9]|2[0-3]))?)(/[1-9][0-9]?)?)* ([*]|(0?[1-9]|[12][0-9]|3[01])(-(0?[1-9]|[12][0-9]|3[01]))?)(/[1-9][0-9]?)?(,([*]|(0?[1-9]|[12][0-9]|3[01])(-(0?[1-9]|[12][0-9]|3[01]))?)(/[1-9][0-9]?)?)* ([*]|(0?[1-9]|1[0-2]|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)(-(0?[1-9]|1[0-2]|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec))?)(/[1-9][0-9]?)?(,([*]|(0?[1-9]|1[0-2]|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)(-(0?[1-9]|1[0-2]|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec))?)(/[1-9][0-9]?)?)* ([*]|([0-7]|sun|mon|tue|wed|thu|fri|sat)(-([0-7]|sun|mon|tue|wed|thu|fri|sat))?)(/[1-7])?(,([*]|([0-7]|sun|mon|tue|wed|thu|fri|sat)(-([0-7]|sun|mon|tue|wed|thu|fri|sat))?)(/[1-7])?)*$')`,message=`"…" is not a schedule — no backup would ever be made — use five fields with one space between them, such as "0 3 * * *" for every day at three, and timeZone for the zone`,messageExpression=`'"' + self + '" is not a schedule — no backup would ever be made — use five fields with one space between them, such as "0 3 * * *" for every day at three, and timeZone for the zone'`
	// +kubebuilder:validation:XValidation:rule=`!self.matches('(?i)^[^ ]+ [^ ]+ ((30|31)([,-](30|31))* (0?2|feb)|31 (0?[2469]|11|feb|apr|jun|sep|nov)(,(0?[2469]|11|feb|apr|jun|sep|nov))*) [*]$')`,message=`"…" names a day that none of its months has — no backup would ever be made — use a day that comes, such as 28`,messageExpression=`'"' + self + '" names a day that none of its months has — no backup would ever be made — use a day that comes, such as 28'`
	Schedule string `json:"schedule"`

	// TimeZone that the schedule is meant in, such as Europe/Berlin.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule=`self.matches('^[A-Z][-+A-Za-z0-9_]*(/[A-Z][-+A-Za-z0-9_]*){0,2}$') && self != 'Local'`,message=`"…" is not the name of a time zone — it would not be known when a backup is due — use a name such as Etc/UTC or Europe/Berlin`,messageExpression=`'"' + self + '" is not the name of a time zone — it would not be known when a backup is due — use a name such as Etc/UTC or Europe/Berlin'`
	// +kubebuilder:default="Etc/UTC"
	// +optional
	TimeZone string `json:"timeZone,omitempty"`

	// Suspend makes no further backups while it is true. What is under way goes on, and
	// nothing is deleted.
	// +optional
	Suspend bool `json:"suspend,omitempty"`

	// ConcurrencyPolicy says what becomes of a backup that is due while the last one is
	// under way: it waits (Forbid), or the last one is deleted (Replace).
	// +kubebuilder:default=Forbid
	// +optional
	ConcurrencyPolicy ConcurrencyPolicy `json:"concurrencyPolicy,omitempty"`

	// Retention says which backups are kept.
	// +kubebuilder:default={"keepLast":7}
	// +optional
	Retention BackupRetention `json:"retention,omitempty,omitzero"`

	// DrillEvery is how often each good backup is tried out again, one at a time, since what
	// lies in a store can rot: from 1h to 8760h, or 0s for never.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`size(self) > 1 && self.matches('^([0-9]{1,6}([.][0-9]{1,3})?h)?([0-9]{1,6}([.][0-9]{1,3})?m)?([0-9]{1,9}([.][0-9]{1,3})?s)?$') && (duration(self) == duration('0s') || duration(self) >= duration('1h')) && duration(self) <= duration('8760h')`,message=`"…" is neither 0s nor a duration from 1h to 8760h — a drill takes a whole etcd, and without any nobody sees that a backup has rotted in the store — use hours such as 168h`,messageExpression=`'"' + self + '" is neither 0s nor a duration from 1h to 8760h — a drill takes a whole etcd, and without any nobody sees that a backup has rotted in the store — use hours such as 168h'`
	// +kubebuilder:default="0s"
	// +optional
	DrillEvery metav1.Duration `json:"drillEvery,omitempty,omitzero"`

	// Backup is the spec of every backup that is made. When a backup is deleted by the
	// retention its objects in the store go with it, unless deletionPolicy is Retain.
	// +kubebuilder:validation:XValidation:rule=`self.clusterRef.name == oldSelf.clusterRef.name`,message=`clusterRef cannot change — the retention would count the backups of two clusters as one's — create another EtcdBackupSchedule`,fieldPath=`.clusterRef`
	Backup EtcdBackupSpec `json:"backup"`
}

// EtcdBackupScheduleStatus is what is known of a schedule.
type EtcdBackupScheduleStatus struct {
	// ObservedGeneration is the generation of the spec that this status is about; -1
	// before the first pass.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Conditions: Ready says whether backups are made when they are due; Reconciling and
	// Stalled say whether work goes on.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// Active is the backup that is under way.
	// +kubebuilder:validation:MaxLength=63
	// +optional
	Active string `json:"active,omitempty"`

	// LastScheduleTime is the time that the last backup was due at.
	// +optional
	LastScheduleTime *metav1.Time `json:"lastScheduleTime,omitempty"`

	// NextScheduleTime is the time that the next backup is due at.
	// +optional
	NextScheduleTime *metav1.Time `json:"nextScheduleTime,omitempty"`

	// LastSuccessTime is the start of the newest backup that is as it was asked for: no
	// write that was acknowledged before it is missing from it.
	// +optional
	LastSuccessTime *metav1.Time `json:"lastSuccessTime,omitempty"`

	// LastVerified is the newest backup that was restored and compared.
	// +kubebuilder:validation:MaxLength=63
	// +optional
	LastVerified string `json:"lastVerified,omitempty"`

	// LastVerifiedTime is the start of that backup.
	// +optional
	LastVerifiedTime *metav1.Time `json:"lastVerifiedTime,omitempty"`

	// Backups is how many backups of the schedule there are.
	// +optional
	Backups int32 `json:"backups,omitempty"`
}

// EtcdBackupSchedule backs an EtcdCluster up again and again.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:resource:shortName=ebs,categories=etcd
// +kubebuilder:printcolumn:name="Cluster",type=string,JSONPath=`.spec.backup.clusterRef.name`
// +kubebuilder:printcolumn:name="Schedule",type=string,JSONPath=`.spec.schedule`
// +kubebuilder:printcolumn:name="Last",type=date,JSONPath=`.status.lastSuccessTime`
// +kubebuilder:printcolumn:name="Verified",type=date,JSONPath=`.status.lastVerifiedTime`
// +kubebuilder:printcolumn:name="Backups",type=integer,JSONPath=`.status.backups`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Zone",type=string,priority=1,JSONPath=`.spec.timeZone`
// +kubebuilder:printcolumn:name="Next",type=string,priority=1,JSONPath=`.status.nextScheduleTime`
// +kubebuilder:validation:XValidation:rule=`oldSelf.hasValue() || (size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'))`,message=`metadata.name … is not a DNS label of at most 40 characters — the names of its backups are made from it and the time — use lower-case letters, digits and dashes`,messageExpression=`'metadata.name ' + self.metadata.name + ' is not a DNS label of at most 40 characters — the names of its backups are made from it and the time — use lower-case letters, digits and dashes'`,optionalOldSelf=true
type EtcdBackupSchedule struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty,omitzero"`

	Spec EtcdBackupScheduleSpec `json:"spec"`
	// +kubebuilder:default={"observedGeneration":-1}
	// +optional
	Status EtcdBackupScheduleStatus `json:"status,omitempty,omitzero"`
}

// EtcdBackupScheduleList is a list of schedules.
//
// +kubebuilder:object:root=true
type EtcdBackupScheduleList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []EtcdBackupSchedule `json:"items"`
}
