package observe

import (
	"context"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
)

// back is an EtcdRestore of cluster a that has what it needs.
func back(name string, changes ...func(*v1alpha1.EtcdRestore)) *v1alpha1.EtcdRestore {
	r := &v1alpha1.EtcdRestore{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", UID: types.UID("uid-of-" + name), CreationTimestamp: metav1.Unix(1e9-600, 0)}}
	r.Spec.ClusterRef.Name, r.Spec.BackupName = "a", "b"
	r.Status.ClusterUID, r.Status.Incarnation = "5e1f", 1
	r.Status.SafetyBackup = &v1alpha1.SafetyBackupStatus{Name: name + "-safety", Revision: 110, Time: &metav1.Time{Time: time.Unix(1e9-7200, 0)}, ReadyTime: &metav1.Time{Time: time.Unix(1e9-60, 0)}}
	says(r, v1alpha1.ConditionPrepared, metav1.ConditionTrue)
	for _, change := range changes {
		change(r)
	}
	return r
}

func says(r *v1alpha1.EtcdRestore, kind string, is metav1.ConditionStatus) {
	meta.SetStatusCondition(&r.Status.Conditions, metav1.Condition{Type: kind, Status: is, Reason: v1alpha1.ReasonPrepared})
}

// stale is a cache that shows other restores than there are.
type stale struct {
	client.Reader
	list []v1alpha1.EtcdRestore
}

func (s stale) List(_ context.Context, o client.ObjectList, _ ...client.ListOption) error {
	o.(*v1alpha1.EtcdRestoreList).Items = s.list
	return nil
}

// TestRestoreThatStands: a restore counts that is prepared, for this incarnation of this
// cluster, was neither taken back nor given up, and is so on the API server too.
func TestRestoreThatStands(t *testing.T) {
	backup := &v1alpha1.EtcdBackup{ObjectMeta: metav1.ObjectMeta{Name: "b", Namespace: "ns"}}
	backup.Spec.ClusterRef.Name, backup.Spec.Store.S3 = "a", &v1alpha1.S3Store{Bucket: "backups"}
	backup.Status.ID, backup.Status.EtcdVersion = "the-id", "3.6.1"
	for _, kind := range []string{v1alpha1.ConditionComplete, v1alpha1.ConditionVerified} {
		meta.SetStatusCondition(&backup.Status.Conditions, metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonVerified})
	}
	good, older := back("back"), back("zoo", func(r *v1alpha1.EtcdRestore) { r.CreationTimestamp = metav1.Unix(1e9-900, 0) })
	deleted := back("back", func(r *v1alpha1.EtcdRestore) {
		r.DeletionTimestamp, r.Finalizers = &metav1.Time{Time: time.Unix(1e9, 0)}, []string{"somebody/else"}
	})
	begun := func(c *v1alpha1.EtcdCluster) {
		c.Status.Restore = &v1alpha1.ClusterRestoreStatus{Name: "back", UID: "uid-of-back", Begun: &metav1.Time{Time: time.Unix(1e9, 0)}}
	}
	is := func(change func(*v1alpha1.EtcdRestore)) []*v1alpha1.EtcdRestore {
		return []*v1alpha1.EtcdRestore{back("back", change)}
	}
	for name, tc := range map[string]struct {
		live, cached []*v1alpha1.EtcdRestore
		change       func(*v1alpha1.EtcdCluster)
		want         string
		check        func(*plan.Recovery) bool
	}{
		"it is prepared":             {live: []*v1alpha1.EtcdRestore{good}, cached: []*v1alpha1.EtcdRestore{good}, want: "back", check: func(r *plan.Recovery) bool { return r.Blocked == "" && r.Late == "" && !r.Begun && r.Backup == "b" }},
		"it is not":                  {live: is(func(r *v1alpha1.EtcdRestore) { says(r, v1alpha1.ConditionPrepared, metav1.ConditionFalse) })},
		"it was given up":            {live: is(func(r *v1alpha1.EtcdRestore) { says(r, v1alpha1.ConditionStalled, metav1.ConditionTrue) })},
		"of another incarnation":     {live: is(func(r *v1alpha1.EtcdRestore) { r.Status.Incarnation = 2 })},
		"it is spent":                {live: []*v1alpha1.EtcdRestore{good}, cached: []*v1alpha1.EtcdRestore{good}, change: func(c *v1alpha1.EtcdCluster) { c.Status.Incarnation = 2 }},
		"of another cluster":         {live: is(func(r *v1alpha1.EtcdRestore) { r.Status.ClusterUID = "0ther" })},
		"taken back":                 {live: []*v1alpha1.EtcdRestore{deleted}, cached: []*v1alpha1.EtcdRestore{deleted}},
		"a cache shows it still":     {cached: []*v1alpha1.EtcdRestore{good}},
		"a cache shows it as it was": {live: []*v1alpha1.EtcdRestore{deleted}, cached: []*v1alpha1.EtcdRestore{good}},
		"a cache does not show it yet, and it has begun": {
			live: []*v1alpha1.EtcdRestore{good}, change: begun, want: "back", check: func(r *plan.Recovery) bool { return r.Begun },
		},
		"another of its name": {
			live: is(func(r *v1alpha1.EtcdRestore) { r.UID = "another" }), change: begun, want: "back", check: func(r *plan.Recovery) bool { return !r.Begun },
		},
		"of two the older":            {live: []*v1alpha1.EtcdRestore{good, older}, cached: []*v1alpha1.EtcdRestore{good, older}, want: "zoo"},
		"of two the one that began":   {live: []*v1alpha1.EtcdRestore{good, older}, cached: []*v1alpha1.EtcdRestore{good, older}, change: begun, want: "back"},
		"before the founding is over": {live: []*v1alpha1.EtcdRestore{good}, cached: []*v1alpha1.EtcdRestore{good}, change: func(c *v1alpha1.EtcdCluster) { c.Status.ClusterID = "" }},
		"the safety backup is old": {
			live: is(func(r *v1alpha1.EtcdRestore) { r.Status.SafetyBackup.ReadyTime.Time = time.Unix(1e9-3601, 0) }), want: "back",
			check: func(r *plan.Recovery) bool { return strings.Count(r.Late, " — ") == 2 },
		},
		"it was prepared long ago without a safety backup": {
			live: is(func(r *v1alpha1.EtcdRestore) {
				r.Status.SafetyBackup, r.Status.Conditions[0].LastTransitionTime = nil, metav1.Unix(1e9-3601, 0)
			}), want: "back",
			check: func(r *plan.Recovery) bool { return strings.Count(r.Late, " — ") == 2 },
		},
		"it was prepared without a safety backup": {
			live: is(func(r *v1alpha1.EtcdRestore) {
				r.Status.SafetyBackup, r.Status.Conditions[0].LastTransitionTime = nil, metav1.Unix(1e9-3599, 0)
			}), want: "back",
			check: func(r *plan.Recovery) bool { return r.Late == "" },
		},
		"the backup was made anew since": {
			live: is(func(r *v1alpha1.EtcdRestore) { r.Status.BackupID = "another-id" }), want: "back",
			check: func(r *plan.Recovery) bool {
				return strings.Contains(r.Blocked, "made anew") && strings.Count(r.Blocked, " — ") == 2
			},
		},
		"the backup is too new": {
			live: []*v1alpha1.EtcdRestore{good}, cached: []*v1alpha1.EtcdRestore{good}, want: "back",
			change: func(c *v1alpha1.EtcdCluster) { c.Spec.Version = "3.5.30" }, check: func(r *plan.Recovery) bool { return r.Blocked != "" },
		},
	} {
		t.Run(name, func(t *testing.T) {
			builder := fake.NewClientBuilder().WithScheme(scheme(t)).WithObjects(backup.DeepCopy())
			cache := stale{}
			for _, r := range tc.live {
				builder = builder.WithObjects(r.DeepCopy())
			}
			if tc.cached == nil && tc.change == nil {
				tc.cached = tc.live
			}
			for _, r := range tc.cached {
				cache.list = append(cache.list, *r.DeepCopy())
			}
			c := &v1alpha1.EtcdCluster{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "ns", UID: "5e1f"}}
			c.Spec.Version, c.Status.ClusterID, c.Status.Incarnation = "3.6.16", "c1", 1
			if tc.change != nil {
				tc.change(c)
			}
			o := &Observer{Live: builder.Build(), Restores: cache, Clock: clocktesting.NewFakePassiveClock(time.Unix(1e9, 0))}
			got, err := o.word(t.Context(), c, &memory{})
			if err != nil {
				t.Fatal(err)
			}
			if got == nil || tc.want == "" {
				if got != nil || tc.want != "" {
					t.Fatalf("word() = %+v, want %q", got, tc.want)
				}
				return
			}
			if got.Restore != tc.want || got.RestoreUID == "" || (tc.check != nil && !tc.check(got)) {
				t.Errorf("word() = %+v, want %s", got, tc.want)
			}
		})
	}
}

// TestALostQuorumComesFirst: spec.recovery is obeyed although an EtcdRestore waits.
func TestALostQuorumComesFirst(t *testing.T) {
	c := &v1alpha1.EtcdCluster{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "ns", UID: "5e1f"}}
	c.Spec.Version, c.Status.ClusterID, c.Status.Incarnation = "3.6.16", "c1", 1
	c.Spec.Recovery = &v1alpha1.RecoverySpec{Incarnation: 1, BackupName: "other"}
	meta.SetStatusCondition(&c.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionAvailable, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonQuorumLost})
	o := &Observer{
		Live:     fake.NewClientBuilder().WithScheme(scheme(t)).WithObjects(back("back")).Build(),
		Restores: stale{list: []v1alpha1.EtcdRestore{*back("back")}}, Clock: clocktesting.NewFakePassiveClock(time.Unix(1e9, 0)),
	}
	for since, want := range map[time.Time]string{time.Unix(1e9-60, 0): "", time.Unix(1e9-1, 0): "back"} {
		got, err := o.word(t.Context(), c, &memory{lostSince: since})
		if err != nil || got == nil || got.Restore != want {
			t.Errorf("lost since %s: word() = %+v, %v, want %q", since, got, err, want)
		}
	}
}
