package backup

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/snapshot"
)

// Outcome is one pass: what was seen, what was decided, and how that went.
type Outcome struct {
	Seen Observed
	Step Step
	// Err is what the API server said to the step; nil if it was done.
	Err error
	// Now is the time of the pass.
	Now time.Time
	// ObjectURL is the URL of an object's name in the store.
	ObjectURL func(key string) string
	// Prefix within the store.
	Prefix string
}

// Report writes the pass into the backup's status.
func Report(b *v1alpha1.EtcdBackup, o Outcome) {
	s := &b.Status
	s.ObservedGeneration = b.Generation
	if o.Err == nil {
		record(s, o)
	}
	s.Progress = progress(o)
	if o.Step.Kind == Rest || o.Step.Kind == RemoveFinalizer {
		return
	}
	for _, c := range conditions(b, o) {
		c.ObservedGeneration = b.Generation
		meta.SetStatusCondition(&s.Conditions, c)
	}
}

// record what the step found out.
func record(s *v1alpha1.EtcdBackupStatus, o Outcome) {
	now := metav1.NewTime(o.Now.Truncate(time.Second))
	switch o.Step.Kind {
	case Begin:
		s.ClusterUID, s.StartTime = o.Seen.Cluster.UID, &now
	case RecordSave:
		recordSave(s, o, now)
	case RecordDrill:
		s.VerifiedTime, s.DrilledTime = &now, &now
	case Fail:
		if o.Seen.Complete {
			s.DrilledTime = &now
		}
	default:
	}
}

func recordSave(s *v1alpha1.EtcdBackupStatus, o Outcome, now metav1.Time) {
	saved := o.Seen.Save.Result.Backup
	place := snapshot.Place{Prefix: o.Prefix, ClusterUID: s.ClusterUID}
	s.ID, s.ClusterID = saved.ID, saved.ClusterID
	s.URL = o.ObjectURL(place.Key(saved.ID, snapshot.SnapshotObject))
	s.Revision, s.Keys, s.EtcdVersion, s.SHA256 = saved.Revision, saved.KeyCount, saved.EtcdVersion, saved.SHA256
	s.Size, s.DatabaseSize = size(saved.StoredBytes), size(saved.PlainBytes)
	s.CompletionTime = &now
	if s.StartTime != nil {
		s.Duration = now.Sub(s.StartTime.Time).Round(time.Second).String()
	}
}

// size is rounded up to what people read: three digits, and a unit. A number without one
// would be told for less than 1Ki.
func size(bytes int64) *resource.Quantity {
	unit := int64(1024)
	for bytes/unit >= 10000 {
		unit *= 1024
	}
	return resource.NewQuantity((bytes+unit-1)/unit*unit, resource.BinarySI)
}

// progress of what runs; once all is done it stays at 100%.
func progress(o Outcome) *v1alpha1.BackupProgress {
	var p *snapshot.Progress
	switch {
	case o.Step.Kind == RecordSave || o.Step.Kind == RecordDrill || o.Step.Kind == Rest && o.Seen.Complete && !o.Seen.Failed:
		return &v1alpha1.BackupProgress{Phase: string(snapshot.PhaseDone), Percent: "100%"}
	case o.Step.Kind == Wait && !o.Seen.Complete:
		p = o.Seen.Save.Progress
	case o.Step.Kind == Wait:
		p = o.Seen.Drill.Progress
	}
	if p == nil {
		return nil
	}
	return &v1alpha1.BackupProgress{
		Phase: string(p.Phase), Bytes: p.BytesRead, TotalBytes: p.TotalBytes, Percent: fmt.Sprintf("%d%%", p.Percent()),
	}
}

// story is the reason and the sentence of a condition.
type story struct{ reason, message string }

// conditions tell the same story, each in its own terms.
func conditions(b *v1alpha1.EtcdBackup, o Outcome) []metav1.Condition {
	readBack := b.Spec.Verify == v1alpha1.VerifyReadBack
	complete := o.Seen.Complete || (o.Step.Kind == RecordSave && o.Err == nil)
	failed := o.Step.Kind == Fail && o.Err == nil
	verified := o.Seen.Verified && !failed || (o.Step.Kind == RecordDrill && o.Err == nil)
	ready := verified || complete && readBack
	reconciling := !ready && !failed

	now := tell(o)
	saved := story{v1alpha1.ReasonSaved, fmt.Sprintf("backup %s lies in the store with its manifest, and was read back", b.Status.ID)}
	tried := story{v1alpha1.ReasonNotTried, "spec.verify is ReadBack: its hashes were compared, and it was not restored"}
	switch {
	case verified:
		now = story{v1alpha1.ReasonVerified, "the backup was restored, served by a real etcd and compared" + o.again()}
	case ready:
		now = saved
	case o.Step.Kind == RecordSave && o.Err == nil:
		now = story{v1alpha1.ReasonVerifying, "the backup is restored, started and compared next"}
	}
	if !complete {
		saved = now
	}
	if !complete || !readBack {
		tried = now
	}
	is := map[bool]metav1.ConditionStatus{true: metav1.ConditionTrue, false: metav1.ConditionFalse}
	where := map[bool]story{true: now, false: {reason: v1alpha1.ReasonNone}}
	return []metav1.Condition{
		condition(v1alpha1.ConditionReady, is[ready], now),
		condition(v1alpha1.ConditionReconciling, is[reconciling], where[reconciling]),
		condition(v1alpha1.ConditionStalled, is[failed], where[failed]),
		condition(v1alpha1.ConditionComplete, is[complete], saved),
		condition(v1alpha1.ConditionVerified, is[verified], tried),
	}
}

// again is what goes on with a verified backup that is tried out once more.
func (o Outcome) again() string {
	if o.Step.Kind == RecordDrill || o.Step.Kind == SetFinalizer || o.Step.Message == "" {
		return ""
	}
	return "; " + o.Step.Message
}

// tell what goes on, or what stands in its way.
func tell(o Outcome) story {
	if o.Err != nil {
		return story{v1alpha1.ReasonJobRejected, fmt.Sprintf("%s: %s — nothing goes on without it — mend what the message names; it is tried again by itself", o.Step.Message, o.Err)}
	}
	return story{cmp.Or(o.Step.Reason, v1alpha1.ReasonPending), o.Step.Message}
}

func condition(kind string, is metav1.ConditionStatus, s story) metav1.Condition {
	return metav1.Condition{Type: kind, Status: is, Reason: s.reason, Message: short(s.message)}
}

// short keeps a message below the API's limit of 32 KiB, with room for what reads it.
func short(message string) string {
	const most = 2048
	if len(message) <= most {
		return message
	}
	// A rune that is cut in two would come back from the API server as another one.
	return strings.ToValidUTF8(message[:most], "") + " …"
}
