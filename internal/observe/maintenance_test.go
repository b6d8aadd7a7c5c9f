package observe

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/plan"
)

func TestWindow(t *testing.T) {
	night := v1alpha1.MaintenanceWindow{Start: "23:30", Duration: metav1.Duration{Duration: 2 * time.Hour}, TimeZone: "Europe/Berlin"}
	weekend := night
	weekend.Days = []v1alpha1.Weekday{"Saturday"}
	lost := night
	lost.TimeZone = "Europe/Atlantis"
	day := v1alpha1.MaintenanceWindow{Start: "02:30", Duration: metav1.Duration{Duration: time.Hour}, TimeZone: "Europe/Berlin"}
	at := func(text string) time.Time {
		got, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	cases := map[string]struct {
		window *v1alpha1.MaintenanceWindow
		policy v1alpha1.DefragmentationPolicy
		now    string
		want   plan.Window
	}{
		"none is set":                            {nil, "", "2026-03-02T12:00:00Z", plan.WindowAnyTime},
		"only when full":                         {nil, v1alpha1.DefragmentWhenFull, "2026-03-02T12:00:00Z", plan.WindowClosed},
		"only when full, in the window":          {&night, v1alpha1.DefragmentWhenFull, "2026-03-02T22:30:00Z", plan.WindowClosed},
		"a minute before":                        {&night, "", "2026-03-02T22:29:59Z", plan.WindowClosed},
		"it opens":                               {&night, "", "2026-03-02T22:30:00Z", plan.WindowOpen},
		"after midnight":                         {&night, "", "2026-03-03T00:29:59Z", plan.WindowOpen},
		"it closes":                              {&night, "", "2026-03-03T00:30:00Z", plan.WindowClosed},
		"it opens earlier in summer":             {&night, "", "2026-07-02T21:30:00Z", plan.WindowOpen},
		"on a Saturday":                          {&weekend, "", "2026-03-07T23:00:00Z", plan.WindowOpen},
		"on the Sunday after":                    {&weekend, "", "2026-03-08T00:15:00Z", plan.WindowOpen},
		"not on a Sunday":                        {&weekend, "", "2026-03-08T23:00:00Z", plan.WindowClosed},
		"nobody knows the zone":                  {&lost, "", "2026-03-02T22:30:00Z", plan.WindowClosed},
		"the hour that a spring night skips":     {&day, "", "2026-03-29T01:45:00Z", plan.WindowOpen},
		"and the hour before it is not a window": {&day, "", "2026-03-28T23:45:00Z", plan.WindowClosed},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := &v1alpha1.EtcdCluster{}
			c.Spec.Maintenance = v1alpha1.MaintenanceSpec{Window: tc.window, Defragmentation: tc.policy}
			got, problem := window(c, at(tc.now))
			if got != tc.want || (problem != nil) != (tc.window == &lost) {
				t.Errorf("%v, want %v: %+v", got, tc.want, problem)
			}
		})
	}
}

// TestUnwantedHistory: never more than the user has given up.
func TestUnwantedHistory(t *testing.T) {
	begin := time.Unix(1e9, 0)
	c := &v1alpha1.EtcdCluster{}
	keeps := func(mode v1alpha1.CompactionMode, retention string) {
		c.Spec.Etcd.AutoCompaction = v1alpha1.AutoCompaction{Mode: mode, Retention: retention}
	}
	r := &revisions{}
	keeps(v1alpha1.CompactionRevision, "1000")
	for revision, want := range map[int64]int64{0: 0, 999: 0, 1000: 0, 1001: 1, 5000: 4000} {
		if got := r.unwanted(c, begin, revision); got != want {
			t.Errorf("of %d revisions with 1000 kept: %d, want %d", revision, got, want)
		}
	}
	for _, mode := range []v1alpha1.CompactionMode{v1alpha1.CompactionRevision, v1alpha1.CompactionPeriodic} {
		keeps(mode, "0")
		if got := r.unwanted(c, begin.Add(9*time.Hour), 5000); got != 0 {
			t.Errorf("%s: every revision is wanted, and %d is not", mode, got)
		}
	}
	keeps(v1alpha1.CompactionPeriodic, "1h")
	// A revision each second, looked at every six.
	for s := 0; s <= 4*3600; s += 6 {
		got := r.unwanted(c, begin.Add(time.Duration(s)*time.Second), int64(s)+1)
		if most := max(0, int64(s)-3600+1); got > most || (s > 3600+60 && got < most-120) {
			t.Fatalf("after %d s: %d, want up to %d", s, got, most)
		}
		if len(*r) > samples+2 {
			t.Fatalf("%d samples are kept", len(*r))
		}
	}
	if got := r.unwanted(c, begin, 20000); got != 0 {
		t.Errorf("after the clock was set back: %d", got)
	}
	r.unwanted(c, begin.Add(2*time.Hour), 20000)
	if got := r.unwanted(c, begin.Add(3*time.Hour), 10); got != 0 {
		t.Errorf("after the data was set back: %d", got)
	}
}

// TestUpkeepIsSeen: sizes, quotas and alarms of each member.
func TestUpkeepIsSeen(t *testing.T) {
	w := founded(t)
	w.etcd.alarms, w.etcd.proposalFails = []etcd.Alarm{{MemberID: 1, Kind: etcd.AlarmNoSpace}}, etcd.ErrNoSpace
	w.etcd.members[address(0)].status.DBSizeInUse = 10240
	w.etcd.members[address(0)].status.DBSizeQuota = 4 << 30
	seen := w.see()
	m, _ := seen.Member("a-0000")
	other, _ := seen.Member("a-0001")
	if m.DBSize != 20480 || m.DBSizeInUse != 10240 || m.Quota != 4<<30 || other.Quota != w.cluster.Spec.Etcd.QuotaBackendBytes.Value() {
		t.Errorf("%+v\n%+v", m, other)
	}
	if len(seen.Raised) != 1 || seen.Raised[0] != (plan.Alarm{Kind: "NOSPACE", ID: 1}) {
		t.Errorf("%+v", seen.Raised)
	}
}
