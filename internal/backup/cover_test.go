package backup

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/snapshot"
)

// object is a backup of that hour, counted from noon.
func object(name string, hour int, changes ...func(*v1alpha1.EtcdBackup)) v1alpha1.EtcdBackup {
	at := metav1.NewTime(noon.Add(time.Duration(hour) * time.Hour))
	b := v1alpha1.EtcdBackup{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: at}}
	b.Status = v1alpha1.EtcdBackupStatus{ClusterID: "c1", Revision: int64(1000 + hour), StartTime: &at, Size: resource.NewQuantity(4096, resource.BinarySI)}
	for _, change := range changes {
		change(&b)
	}
	return b
}

func says(kind string, is metav1.ConditionStatus, message string) func(*v1alpha1.EtcdBackup) {
	return func(b *v1alpha1.EtcdBackup) {
		meta.SetStatusCondition(&b.Status.Conditions, metav1.Condition{Type: kind, Status: is, Reason: "R", Message: message})
	}
}

func savedObject(b *v1alpha1.EtcdBackup)   { says(v1alpha1.ConditionReady, "True", "")(b) }
func leavingObject(b *v1alpha1.EtcdBackup) { b.DeletionTimestamp = &b.CreationTimestamp }
func failedObject(b *v1alpha1.EtcdBackup) {
	says(v1alpha1.ConditionStalled, "True", "")(b)
	says(v1alpha1.ConditionReady, "False", "no bucket")(b)
}

func verifiedObject(b *v1alpha1.EtcdBackup) {
	savedObject(b)
	says(v1alpha1.ConditionVerified, "True", "")(b)
	b.Status.VerifiedTime = b.Status.StartTime
}

// timetable is a schedule that says this of itself.
func timetable(name string, ready metav1.ConditionStatus, reason, message string) v1alpha1.EtcdBackupSchedule {
	s := v1alpha1.EtcdBackupSchedule{ObjectMeta: metav1.ObjectMeta{Name: name}}
	s.Spec.Suspend = reason == v1alpha1.ReasonSuspended
	meta.SetStatusCondition(&s.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionReady, Status: ready, Reason: reason, Message: message})
	return s
}

// TestCover: whatever would leave a restore with less than the user believes is told.
func TestCover(t *testing.T) {
	type backups = []v1alpha1.EtcdBackup
	type schedules = []v1alpha1.EtcdBackupSchedule
	runs := timetable("nightly", "True", v1alpha1.ReasonOnSchedule, "")
	cases := map[string]struct {
		backups   backups
		schedules schedules
		ready     bool
		reason    string
		says      string
	}{
		"nothing":                   {nil, nil, false, v1alpha1.ReasonNoBackups, "create an EtcdBackupSchedule"},
		"the first is under way":    {backups{object("b", 0)}, nil, false, v1alpha1.ReasonPending, ""},
		"the first is not due":      {nil, schedules{runs}, false, v1alpha1.ReasonPending, ""},
		"verified":                  {backups{object("b", 0, verifiedObject)}, schedules{runs}, true, v1alpha1.ReasonVerified, "the newest verified one b, of 2026-01-01T12:00:00Z"},
		"saved and never tried":     {backups{object("b", 0, savedObject)}, nil, true, v1alpha1.ReasonNotTried, "none was restored on trial"},
		"an older one was verified": {backups{object("b", 0, verifiedObject), object("c", 1, savedObject)}, nil, true, v1alpha1.ReasonVerified, "the newest backup is c"},
		"the newest failed":         {backups{object("b", 0, verifiedObject), object("c", 1, failedObject)}, nil, false, v1alpha1.ReasonFailing, "backup c failed: no bucket"},
		"failed, and good since":    {backups{object("b", 0, failedObject), object("c", 1, verifiedObject)}, nil, true, v1alpha1.ReasonVerified, ""},
		"the only one failed":       {backups{object("b", 0, failedObject)}, nil, false, v1alpha1.ReasonFailing, "no bucket"},
		"the only one goes":         {backups{object("b", 0, verifiedObject, leavingObject)}, nil, false, v1alpha1.ReasonNoBackups, "being deleted"},
		"one of two schedules is overdue": {
			backups{object("b", 0, verifiedObject)},
			schedules{runs, timetable("hourly", "False", v1alpha1.ReasonOverdue, "two have been due")},
			false, v1alpha1.ReasonOverdue, "schedule hourly: two have been due",
		},
		"a schedule is not taken": {
			backups{object("b", 0, verifiedObject)},
			schedules{timetable("hourly", "False", v1alpha1.ReasonApplyFailed, "forbidden")},
			false, v1alpha1.ReasonFailing, "forbidden",
		},
		"a schedule verifies none": {
			backups{object("b", 0, savedObject)},
			schedules{timetable("hourly", "False", v1alpha1.ReasonNotVerified, "no backup is verified")},
			false, v1alpha1.ReasonFailing, "no backup is verified",
		},
		"forgotten": {
			backups{object("b", 0, verifiedObject)},
			schedules{timetable("hourly", "True", v1alpha1.ReasonSuspended, "")},
			false, v1alpha1.ReasonSuspended, "written since b, of 2026",
		},
		"one of two is suspended": {
			backups{object("b", 0, verifiedObject)},
			schedules{runs, timetable("hourly", "True", v1alpha1.ReasonSuspended, "")},
			true, v1alpha1.ReasonVerified, "",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := Cover(tc.backups, tc.schedules, nil)
			if got.Ready != tc.ready || got.Reason != tc.reason || !strings.Contains(got.Message, tc.says) {
				t.Errorf("got %v %s: %s; want %v %s with %q", got.Ready, got.Reason, got.Message, tc.ready, tc.reason, tc.says)
			}
		})
	}
	got := Cover(backups{object("b", 0, verifiedObject), object("c", 1, savedObject)}, nil, nil)
	if last, verified := got.LastSuccess, got.LastVerified; last.Name != "c" || last.Revision != 1001 || last.Size != 4096 || verified.Name != "b" || !verified.Began.Equal(noon) {
		t.Errorf("the last success is %+v, the last verified %+v", last, verified)
	}
}

// TestCoverByArchives: one that is behind or of no use is told like a backup that is late or
// failed, and one that is well is a backup.
func TestCoverByArchives(t *testing.T) {
	archive := func(conditions ...metav1.Condition) v1alpha1.EtcdArchive {
		a := v1alpha1.EtcdArchive{ObjectMeta: metav1.ObjectMeta{Name: "e"}}
		a.Status.Conditions = conditions
		return a
	}
	is := func(kind string, status metav1.ConditionStatus, message string) metav1.Condition {
		return metav1.Condition{Type: kind, Status: status, Reason: "Any", Message: message}
	}
	well := is(v1alpha1.ConditionReady, metav1.ConditionTrue, "")
	suspended := archive(well)
	suspended.Spec.Suspend = true
	bad := archive(well, is(v1alpha1.ConditionVerified, metav1.ConditionFalse, "bad"))
	badAndStill := bad
	badAndStill.Spec.Suspend = true
	unseen := archive(well, metav1.Condition{Type: v1alpha1.ConditionVerified, Status: metav1.ConditionFalse, Reason: string(snapshot.ReasonStoreUnreachable)})
	verified := []v1alpha1.EtcdBackup{object("b", 0, verifiedObject)}
	baseless := func(reason string) v1alpha1.EtcdArchive {
		return archive(is(v1alpha1.ConditionReady, metav1.ConditionFalse, "no base"), metav1.Condition{Type: v1alpha1.ConditionBaseReady, Status: metav1.ConditionFalse, Reason: reason, Message: "no base"})
	}
	for name, tc := range map[string]struct {
		backups  []v1alpha1.EtcdBackup
		archives []v1alpha1.EtcdArchive
		ready    bool
		reason   string
		says     string
	}{
		"it has just begun":        {nil, []v1alpha1.EtcdArchive{archive()}, false, v1alpha1.ReasonPending, ""},
		"its base is being taken":  {nil, []v1alpha1.EtcdArchive{baseless(v1alpha1.ReasonBaseMissing)}, false, v1alpha1.ReasonPending, ""},
		"it could not be taken":    {nil, []v1alpha1.EtcdArchive{baseless(string(snapshot.ReasonNoSpace))}, false, v1alpha1.ReasonFailing, "archive e: no base"},
		"it is well":               {nil, []v1alpha1.EtcdArchive{archive(well)}, true, v1alpha1.ReasonNotTried, "archive e"},
		"it was tried":             {nil, []v1alpha1.EtcdArchive{archive(well, is(v1alpha1.ConditionVerified, metav1.ConditionTrue, ""))}, true, v1alpha1.ReasonVerified, "archive e"},
		"it was, and no backup":    {[]v1alpha1.EtcdBackup{object("b", 0, savedObject)}, []v1alpha1.EtcdArchive{archive(well), archive(well, is(v1alpha1.ConditionVerified, metav1.ConditionTrue, ""))}, true, v1alpha1.ReasonVerified, "newest backup is b, of 2026-01-01T12:00:00Z; none was restored on trial, and archive e was"},
		"it was found bad":         {verified, []v1alpha1.EtcdArchive{bad}, false, v1alpha1.ReasonFailing, "archive e: bad"},
		"bad, and it is suspended": {verified, []v1alpha1.EtcdArchive{badAndStill}, true, v1alpha1.ReasonVerified, ""},
		"nobody could try it":      {nil, []v1alpha1.EtcdArchive{unseen}, true, v1alpha1.ReasonNotTried, "archive e"},
		"it is suspended":          {nil, []v1alpha1.EtcdArchive{suspended}, false, v1alpha1.ReasonSuspended, "set it to false"},
		"suspended beside backups": {verified, []v1alpha1.EtcdArchive{suspended}, true, v1alpha1.ReasonVerified, ""},
		"it is behind":             {verified, []v1alpha1.EtcdArchive{archive(is(v1alpha1.ConditionLagExceeded, metav1.ConditionTrue, "behind"))}, false, v1alpha1.ReasonOverdue, "archive e: behind"},
		"it is given up":           {verified, []v1alpha1.EtcdArchive{archive(is(v1alpha1.ConditionReady, metav1.ConditionFalse, "no bucket"), is(v1alpha1.ConditionStalled, metav1.ConditionTrue, ""))}, false, v1alpha1.ReasonFailing, "archive e: no bucket"},
	} {
		got := Cover(tc.backups, nil, tc.archives)
		if got.Ready != tc.ready || got.Reason != tc.reason || !strings.Contains(got.Message, tc.says) {
			t.Errorf("%s: got %v %s: %s; want %v %s with %q", name, got.Ready, got.Reason, got.Message, tc.ready, tc.reason, tc.says)
		}
	}
}

// TestTheArchiveThatGoesFurthest is named where a quorum is lost, and none of another cluster.
func TestTheArchiveThatGoesFurthest(t *testing.T) {
	at := func(name string, revision int64, reason string) v1alpha1.EtcdArchive {
		a := v1alpha1.EtcdArchive{ObjectMeta: metav1.ObjectMeta{Name: name}}
		a.Status.ArchivedRevision = revision
		a.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: reason}}
		return a
	}
	archives := []v1alpha1.EtcdArchive{at("a", 7, "StoreUnreachable"), at("b", 9, "Archiving"), at("c", 99, v1alpha1.ReasonClusterReplaced)}
	if got := Cover(nil, nil, archives); got.Archive != "b" || got.ArchivedRevision != 9 {
		t.Errorf("it is %s, up to %d", got.Archive, got.ArchivedRevision)
	}
}
