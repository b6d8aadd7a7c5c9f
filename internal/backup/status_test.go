package backup

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/snapshot"
)

// told is every condition as "status/reason".
func told(conditions []metav1.Condition) map[string]string {
	out := map[string]string{}
	for _, c := range conditions {
		out[c.Type] = string(c.Status) + "/" + c.Reason
	}
	return out
}

func TestReport(t *testing.T) {
	saved := Work{State: WorkSucceeded, Result: result(snapshot.OperationSave)}
	readBack := func(o *Observed) { o.Verify = v1alpha1.VerifyReadBack }
	cases := map[string]struct {
		seen Observed
		err  error
		want [5]string // Ready, Reconciling, Stalled, Complete, Verified
	}{
		"being saved":         {ready(func(o *Observed) { o.Save.State = WorkRunning }), nil, [5]string{"False/Saving", "True/Saving", "False/None", "False/Saving", "False/Saving"}},
		"saved, to be tried":  {ready(func(o *Observed) { o.Save = saved }), nil, [5]string{"False/Verifying", "True/Verifying", "False/None", "True/Saved", "False/Verifying"}},
		"saved, and no more":  {ready(readBack, func(o *Observed) { o.Save = saved }), nil, [5]string{"True/Saved", "False/None", "False/None", "True/Saved", "False/NotTried"}},
		"being tried":         {ready(complete, func(o *Observed) { o.Drill.State = WorkRunning }), nil, [5]string{"False/Verifying", "True/Verifying", "False/None", "True/Saved", "False/Verifying"}},
		"good":                {ready(complete, func(o *Observed) { o.Drill = Work{State: WorkSucceeded, Result: result(snapshot.OperationDrill)} }), nil, [5]string{"True/Verified", "False/None", "False/None", "True/Saved", "True/Verified"}},
		"not restorable":      {ready(complete, func(o *Observed) { o.Drill = Work{State: WorkFailed, Result: failedResult(snapshot.ReasonDiffers)} }), nil, [5]string{"False/Differs", "False/None", "True/Differs", "True/Saved", "False/Differs"}},
		"not saved":           {ready(func(o *Observed) { o.Save = Work{State: WorkFailed} }), nil, [5]string{"False/Failed", "False/None", "True/Failed", "False/Failed", "False/Failed"}},
		"the Job is refused":  {ready(), errors.New("exceeded quota"), [5]string{"False/JobRejected", "True/JobRejected", "False/None", "False/JobRejected", "False/JobRejected"}},
		"no cluster":          {ready(noneYet), nil, [5]string{"False/ClusterNotFound", "True/ClusterNotFound", "False/None", "False/ClusterNotFound", "False/ClusterNotFound"}},
		"recording is failed": {ready(func(o *Observed) { o.Save = saved }), errors.New("no"), [5]string{"False/JobRejected", "True/JobRejected", "False/None", "False/JobRejected", "False/JobRejected"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b := &v1alpha1.EtcdBackup{Spec: v1alpha1.EtcdBackupSpec{Verify: tc.seen.Verify}}
			b.Status.ClusterUID = "u1"
			Report(b, outcome(tc.seen, tc.err))
			want := map[string]string{"Ready": tc.want[0], "Reconciling": tc.want[1], "Stalled": tc.want[2], "Complete": tc.want[3], "Verified": tc.want[4]}
			if diff := cmp.Diff(want, told(b.Status.Conditions)); diff != "" {
				t.Errorf("conditions (-want +got):\n%s", diff)
			}
		})
	}
}

func outcome(seen Observed, err error) Outcome {
	return Outcome{
		Seen: seen, Step: Next(seen), Err: err, Now: time.Unix(1e9, 5), Prefix: "p",
		ObjectURL: func(key string) string { return "s3://b/" + key },
	}
}

// TestRecord: what is in the store is in status, so that it can be restored by it.
func TestRecord(t *testing.T) {
	b := &v1alpha1.EtcdBackup{}
	begin := ready(func(o *Observed) { o.ClusterUID = "" })
	Report(b, outcome(begin, nil))
	if b.Status.ClusterUID != "u1" || b.Status.StartTime == nil {
		t.Fatalf("status after the begin: %+v", b.Status)
	}
	b.Status.StartTime = &metav1.Time{Time: time.Unix(1e9-90, 0)}
	Report(b, outcome(ready(func(o *Observed) { o.Save = Work{State: WorkSucceeded, Result: result(snapshot.OperationSave)} }), nil))
	s := b.Status
	got := []any{s.ID, s.URL, s.Revision, s.ClusterID, s.Size.String(), s.DatabaseSize.String(), s.Duration, s.Progress.Percent}
	want := []any{"id", "s3://b/p/u1/id/snapshot", int64(7), "c1", "2Ki", "118Mi", "1m30s", "100%"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}

// TestSize: what people read has a unit, and is never less than what there is.
func TestSize(t *testing.T) {
	for bytes, want := range map[int64]string{0: "0", 1: "1Ki", 1023: "1Ki", 1025: "2Ki", 9999: "10Ki", 20 << 20: "20Mi"} {
		if got := size(bytes).String(); got != want {
			t.Errorf("%d bytes are %s, want %s", bytes, got, want)
		}
	}
}

func TestProgress(t *testing.T) {
	b := &v1alpha1.EtcdBackup{}
	Report(b, outcome(ready(func(o *Observed) {
		o.Save = Work{State: WorkRunning, Progress: &snapshot.Progress{Phase: snapshot.PhaseSaving, Attempt: 1, TotalBytes: 200, BytesRead: 50}}
	}), nil))
	want := &v1alpha1.BackupProgress{Phase: "Saving", Bytes: 50, TotalBytes: 200, Percent: "25%"}
	if diff := cmp.Diff(want, b.Status.Progress); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}
}
