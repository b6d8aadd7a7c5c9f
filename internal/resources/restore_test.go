package resources

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/snapshot"
)

// verifiedBackup is one of the cluster.
func verifiedBackup(c *v1alpha1.EtcdCluster, id string) *v1alpha1.EtcdBackup {
	b := &v1alpha1.EtcdBackup{ObjectMeta: metav1.ObjectMeta{Name: "nightly"}}
	b.Spec.ClusterRef.Name = c.Name
	b.Status.ID, b.Status.ClusterUID, b.Status.EtcdVersion = id, ClusterUID(c), c.Spec.Version
	for _, kind := range []string{v1alpha1.ConditionComplete, v1alpha1.ConditionVerified} {
		meta.SetStatusCondition(&b.Status.Conditions, metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonVerified})
	}
	return b
}

// TestRestoreFrom: what founders begin with is the backup that was put on record, whatever
// bears its name by now.
func TestRestoreFrom(t *testing.T) {
	recovered := func(c *v1alpha1.EtcdCluster) {
		c.Status.Incarnation = 2
		c.Status.Recovery = &v1alpha1.RecoveryStatus{Incarnation: 2, BackupName: "nightly", BackupID: "the-id", BackupClusterUID: ClusterUID(c)}
	}
	founding := func(point string) change {
		return func(c *v1alpha1.EtcdCluster) {
			c.Spec.RestoreFrom, c.Status.RestorePoint = &v1alpha1.RestoreSource{BackupName: "nightly"}, point
		}
	}
	for name, tc := range map[string]struct {
		change change
		id     string
		want   string
	}{
		"a recovery":                      {recovered, "the-id", ""},
		"a recovery, made anew":           {recovered, "another-id", "name another one in spec.recovery, with the incarnation 2"},
		"a founding":                      {founding("the-id"), "the-id", ""},
		"a founding, made anew":           {founding("the-id"), "another-id", "create the cluster anew with another backup"},
		"a founding, nothing on record":   {founding(""), "another-id", ""},
		"a recovery of another cluster's": {func(c *v1alpha1.EtcdCluster) { recovered(c); c.Status.Recovery.BackupClusterUID = "0ther" }, "the-id", "made anew"},
	} {
		c := cluster(tc.change)
		r, blocked := RestoreOf(c, RestoreFrom(c), verifiedBackup(c, tc.id), nil)
		if (tc.want == "") != (blocked == "") || !strings.Contains(blocked, tc.want) || (blocked != "" && strings.Count(blocked, " — ") != 2) || (blocked == "" && r.BackupID != tc.id) {
			t.Errorf("%s: %+v, blocked by %q, want %q in three parts", name, r, blocked, tc.want)
		}
	}
}

// TestAwaits: a backup is needed until the last founder has started on it, and for as long as
// a word stands that wants to go on with it.
func TestAwaits(t *testing.T) {
	founding := func(c *v1alpha1.EtcdCluster) {
		c.Spec.RestoreFrom, c.Status.Founders = &v1alpha1.RestoreSource{BackupName: "nightly"}, []string{"a-0000", "a-0001"}
	}
	founded := func(versions ...string) change {
		return func(c *v1alpha1.EtcdCluster) {
			founding(c)
			c.Status.ClusterID = "c1"
			for i, version := range versions {
				c.Status.Members = append(c.Status.Members, v1alpha1.MemberStatus{Name: c.Status.Founders[i], Version: version})
			}
		}
	}
	recovers := func(incarnation int64, of ...change) change {
		return func(c *v1alpha1.EtcdCluster) {
			for _, change := range of {
				change(c)
			}
			c.Spec.Recovery = &v1alpha1.RecoverySpec{Incarnation: incarnation, BackupName: "weekly"}
		}
	}
	second := func(id string) change {
		return func(c *v1alpha1.EtcdCluster) {
			founding(c)
			c.Status.Incarnation, c.Status.ClusterID = 2, id
			c.Status.Recovery = &v1alpha1.RecoveryStatus{Incarnation: 2, BackupName: "older"}
		}
	}
	for name, tc := range map[string]struct {
		change change
		want   string
	}{
		"an empty beginning":               {func(*v1alpha1.EtcdCluster) {}, ""},
		"not founded":                      {founding, "nightly"},
		"a point of an archive":            {func(c *v1alpha1.EtcdCluster) { founding(c); c.Spec.RestoreFrom.ToRevision = 7 }, "nightly"},
		"from a store":                     {func(c *v1alpha1.EtcdCluster) { c.Spec.RestoreFrom = &v1alpha1.RestoreSource{BackupID: "the-id"} }, ""},
		"founded, and one is being filled": {founded("3.6.16", ""), "nightly"},
		"founded, and that one is gone":    {founded("3.6.16"), ""},
		"founded":                          {founded("3.6.16", "3.6.16"), ""},
		"a recovery is asked for":          {recovers(1, founded("3.6.16", "3.6.16")), "weekly"},
		"of an incarnation before":         {recovers(1, second("c2")), ""},
		"it is void":                       {recovers(1, func(c *v1alpha1.EtcdCluster) { c.Status.VoidRecovery = "1/weekly" }), ""},
		"with what a survivor has": {func(c *v1alpha1.EtcdCluster) {
			c.Spec.Recovery = &v1alpha1.RecoverySpec{Incarnation: 1, Survivor: "a-0001"}
		}, ""},
		"a recovery has not come to serve": {second(""), "older"},
		"and another one is asked for":     {recovers(2, second("")), "older weekly"},
		"a recovery serves":                {second("c2"), ""},
	} {
		if got := strings.Join(Awaits(cluster(tc.change)), " "); got != tc.want {
			t.Errorf("%s: awaits %q, want %q", name, got, tc.want)
		}
	}
}

// TestAwaitsSource: what a store alone names is needed as well, and each backup that a point of
// an archive may be put together from, until it was.
func TestAwaitsSource(t *testing.T) {
	noon := time.Date(2026, 1, 8, 12, 0, 0, 0, time.UTC)
	of := func(uid string, revision int64, began time.Time) *v1alpha1.EtcdBackup {
		return &v1alpha1.EtcdBackup{Status: v1alpha1.EtcdBackupStatus{ClusterUID: uid, ID: snapshot.NewID(revision, began, "b")}}
	}
	id := snapshot.NewID(7, noon, "b")
	archive := &v1alpha1.EtcdArchive{Status: v1alpha1.EtcdArchiveStatus{ClusterUID: "old"}}
	begins := func(from v1alpha1.RestoreSource, more ...change) *v1alpha1.EtcdCluster {
		return cluster(append([]change{func(c *v1alpha1.EtcdCluster) {
			c.Status.ClusterID, c.Status.Members, c.Spec.RestoreFrom = "", nil, &from
		}}, more...)...)
	}
	founded := func(c *v1alpha1.EtcdCluster) {
		c.Status.ClusterID = "c1"
		c.Status.Members = []v1alpha1.MemberStatus{{Name: "a-0000", Version: "3.6.16"}}
	}
	together := func(c *v1alpha1.EtcdCluster) { c.Status.RestorePoint = "put-together" }
	store := &v1alpha1.BackupStore{}
	for name, tc := range map[string]struct {
		cluster *v1alpha1.EtcdCluster
		archive *v1alpha1.EtcdArchive
		// needs the backup at noon, at revision 7, and the one an hour before, at 5.
		noon, before bool
	}{
		"it begins empty":                     {cluster: cluster()},
		"one backup of a store":               {cluster: begins(v1alpha1.RestoreSource{Store: store, ClusterUID: "old", BackupID: id}), noon: true},
		"it is founded":                       {cluster: begins(v1alpha1.RestoreSource{Store: store, ClusterUID: "old", BackupID: id}, founded)},
		"one backup of another cluster":       {cluster: begins(v1alpha1.RestoreSource{Store: store, ClusterUID: "new", BackupID: id})},
		"an EtcdBackup, which is by name":     {cluster: begins(v1alpha1.RestoreSource{BackupName: "b"})},
		"the revision of the last":            {cluster: begins(v1alpha1.RestoreSource{Store: store, ClusterUID: "old", ToRevision: 7}), noon: true, before: true},
		"the revision before it":              {cluster: begins(v1alpha1.RestoreSource{Store: store, ClusterUID: "old", ToRevision: 6}), before: true},
		"a revision from one backup on":       {cluster: begins(v1alpha1.RestoreSource{Store: store, ClusterUID: "old", ToRevision: 9, BackupID: id}), noon: true},
		"a time":                              {cluster: begins(v1alpha1.RestoreSource{Store: store, ClusterUID: "old", ToTime: "2026-01-08T12:00:00Z"}), noon: true, before: true},
		"the time before it, in another zone": {cluster: begins(v1alpha1.RestoreSource{Store: store, ClusterUID: "old", ToTime: "2026-01-08T12:59:59.9+01:00"}), before: true},
		"of an archive":                       {cluster: begins(v1alpha1.RestoreSource{ArchiveName: "e", ToRevision: 7}), archive: archive, noon: true, before: true},
		"of an archive that is gone":          {cluster: begins(v1alpha1.RestoreSource{ArchiveName: "e", ToRevision: 7})},
		"of one that has archived nothing":    {cluster: begins(v1alpha1.RestoreSource{ArchiveName: "e", ToRevision: 7}), archive: &v1alpha1.EtcdArchive{}},
		"it is put together":                  {cluster: begins(v1alpha1.RestoreSource{ArchiveName: "e", ToRevision: 7}, together), archive: archive},
	} {
		s, awaited := AwaitsSource(tc.cluster, tc.archive)
		for which, b := range map[string]*v1alpha1.EtcdBackup{"at noon": of("old", 7, noon), "before": of("old", 5, noon.Add(-time.Hour))} {
			want := map[string]bool{"at noon": tc.noon, "before": tc.before}[which]
			if got := awaited && s.Needs(b); got != want {
				t.Errorf("%s: needs the backup %s: %t, want %t", name, which, got, want)
			}
		}
		if awaited && (s.Needs(of("", 1, noon.Add(-time.Hour))) || s.Needs(&v1alpha1.EtcdBackup{Status: v1alpha1.EtcdBackupStatus{ClusterUID: "old"}})) {
			t.Errorf("%s: what has no cluster on file, or no ID, is needed", name)
		}
	}
}

// TestAClaimNamesItsBackup by its ID too, for status may be lost.
func TestAClaimNamesItsBackup(t *testing.T) {
	c := cluster()
	c.Status.Incarnation, c.Status.Founders = 2, []string{"a-0003"}
	c.Status.Recovery = &v1alpha1.RecoveryStatus{Incarnation: 2, BackupName: "nightly", BackupID: "the-id"}
	if on := Claim(c, "a-0003").Annotations; on[v1alpha1.AnnotationRecovery] != "nightly" || on[v1alpha1.AnnotationRecoveryID] != "the-id" {
		t.Errorf("a founder's claim says %v", on)
	}
	if on := Claim(c, "a-0003").Annotations[v1alpha1.AnnotationRevisionFloor]; on != "" {
		t.Errorf("a claim of an earlier release's incarnation says %q", on)
	}
	c.Status.RevisionFloor = 1_800_000_000_000_000
	if on := FloorOf(Claim(c, "a-0003")); on != c.Status.RevisionFloor {
		t.Errorf("a founder's claim says that it begins with %d", on)
	}
	if on := Claim(c, "a-0004").Annotations; on[v1alpha1.AnnotationRecovery] != "" || on[v1alpha1.AnnotationRecoveryID] != "" {
		t.Errorf("a later member's claim says %v", on)
	}
}

// TestProgressIsAskedForUntilFounded: the port of whoever fills a founder's volume is open to the
// operator, and to nobody once the cluster is founded.
func TestProgressIsAskedForUntilFounded(t *testing.T) {
	for name, tc := range map[string]struct {
		change change
		open   bool
	}{
		"nothing is restored":       {func(*v1alpha1.EtcdCluster) {}, false},
		"founders are to be filled": {fromBackup, true},
		"it is founded":             {func(c *v1alpha1.EtcdCluster) { fromBackup(c); c.Status.ClusterID = "c1" }, false},
	} {
		raw, err := json.Marshal(networkPolicy(cluster(tc.change), operator))
		if err != nil {
			t.Fatal(err)
		}
		if open := strings.Contains(string(raw), strconv.Itoa(snapshot.ProgressPort)); open != tc.open {
			t.Errorf("%s: the port is open: %v", name, open)
		}
	}
}

// TestAWayThatIsCorrected: a pod that is to fill its volume by another way to the backup is
// outdated, until it is filled.
func TestAWayThatIsCorrected(t *testing.T) {
	c := cluster(fromBackup)
	start := beginning(c, "a-0000")
	start.Restore = &Restore{Store: *c.Spec.RestoreFrom.Store, BackupID: c.Spec.RestoreFrom.BackupID}
	ended := func(code int32) edit {
		return func(_ *v1alpha1.EtcdCluster, pod *corev1.Pod) {
			pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: RestoreContainer, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code}}}}
		}
	}
	store := func(c *v1alpha1.EtcdCluster, _ *corev1.Pod) {
		c.Spec.RestoreFrom.Store.S3.Endpoint = "https://minio:9001"
	}
	for name, tc := range map[string]struct {
		changes []edit
		astray  bool
	}{
		"nothing":                 {nil, false},
		"the store":               {[]edit{store}, true},
		"the key":                 {[]edit{func(c *v1alpha1.EtcdCluster, _ *corev1.Pod) { c.Spec.RestoreFrom.IdentitySecretRef = nil }}, true},
		"what is no way":          {[]edit{func(c *v1alpha1.EtcdCluster, _ *corev1.Pod) { c.Spec.Size = 5 }}, false},
		"it failed before":        {[]edit{store, ended(1)}, true},
		"it is filled":            {[]edit{store, ended(0)}, false},
		"the cluster is founded":  {[]edit{store, func(c *v1alpha1.EtcdCluster, _ *corev1.Pod) { c.Status.ClusterID = "c1" }}, false},
		"an older operator's pod": {[]edit{store, func(_ *v1alpha1.EtcdCluster, pod *corev1.Pod) { delete(pod.Annotations, v1alpha1.AnnotationRestoreWay) }}, false},
	} {
		c := c.DeepCopy()
		pod := MemberPod(c, start)
		for _, change := range tc.changes {
			change(c, pod)
		}
		if got := Astray(c, pod); got != tc.astray {
			t.Errorf("%s: its pod is astray: %v", name, got)
		}
	}
}

// edit of a cluster and a pod.
type edit func(*v1alpha1.EtcdCluster, *corev1.Pod)
