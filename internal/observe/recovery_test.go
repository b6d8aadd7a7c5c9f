package observe

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
)

// nightly is a verified backup of the cluster.
func nightly() *v1alpha1.EtcdBackup {
	b := &v1alpha1.EtcdBackup{ObjectMeta: metav1.ObjectMeta{Name: "nightly", Namespace: "ns"}}
	b.Spec.ClusterRef.Name, b.Spec.Store.S3 = "a", &v1alpha1.S3Store{Bucket: "backups"}
	b.Status.ID, b.Status.EtcdVersion = "the-id", "3.6.1"
	for _, kind := range []string{v1alpha1.ConditionComplete, v1alpha1.ConditionVerified} {
		meta.SetStatusCondition(&b.Status.Conditions, metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonVerified})
	}
	return b
}

// tells has status tell of the lost quorum, or of something else.
func tells(c *v1alpha1.EtcdCluster, reason string) {
	meta.SetStatusCondition(&c.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionAvailable, Status: metav1.ConditionFalse, Reason: reason})
}

// bereft is a cluster of three that has lost two volumes and their pods, and the user's word.
func bereft(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	w := founded(t)
	w.cluster.Spec.Recovery = &v1alpha1.RecoverySpec{Incarnation: 1, BackupName: "nightly"}
	for _, o := range w.objects {
		if _, node := o.(*corev1.Node); !node && (strings.HasSuffix(o.GetName(), "a-0001") || strings.HasSuffix(o.GetName(), "a-0002")) {
			w.remove(o)
		}
	}
	w.etcd.silent(address(1))
	w.etcd.silent(address(2))
	w.objects = append(w.objects, objects...)
	return w
}

// TestRecoveryIsHeardOnceTheLossWasTold for long enough, without a break, or was acted on.
func TestRecoveryIsHeardOnceTheLossWasTold(t *testing.T) {
	w := bereft(t, nightly())
	told := func() bool { return w.see().Recovery.Told }
	if told() {
		t.Error("it is not told of at all")
	}
	tells(w.cluster, v1alpha1.ReasonQuorumLost)
	if told() {
		t.Error("it was told of just now")
	}
	w.clock.SetTime(w.clock.Now().Add(toldFor - time.Second))
	if told() {
		t.Error("an election may take as long")
	}
	w.clock.SetTime(w.clock.Now().Add(time.Second))
	if !told() {
		t.Error("it was told of for long enough")
	}
	tells(w.cluster, v1alpha1.ReasonProbeFailed)
	if told() {
		t.Error("a majority answers again")
	}
	tells(w.cluster, v1alpha1.ReasonQuorumLost)
	if told() {
		t.Error("what was told before counts no more")
	}
	w.cluster.Status.ObeyedRecovery = "1/nightly"
	if !told() {
		t.Error("members were stopped for it, and another operator would start them again")
	}
	w.cluster.Status.ObeyedRecovery = "1/another"
	if told() {
		t.Error("they were stopped for another word")
	}
}

// TestRecovery: a word counts for the incarnation that it names, while it is not void, and a
// backup that cannot be restored is told of, with a way out that is one of a recovery.
func TestRecovery(t *testing.T) {
	edited := func(change func(*v1alpha1.EtcdBackup)) *v1alpha1.EtcdBackup {
		b := nightly()
		change(b)
		return b
	}
	unverified := edited(func(b *v1alpha1.EtcdBackup) {
		meta.RemoveStatusCondition(&b.Status.Conditions, v1alpha1.ConditionVerified)
	})
	cases := map[string]struct {
		backup  *v1alpha1.EtcdBackup
		change  func(*v1alpha1.EtcdCluster)
		counts  bool
		void    bool
		blocked string
	}{
		"a verified backup":       {nightly(), nil, true, false, ""},
		"no word":                 {nightly(), func(c *v1alpha1.EtcdCluster) { c.Spec.Recovery = nil }, false, false, ""},
		"for another incarnation": {nightly(), func(c *v1alpha1.EtcdCluster) { c.Spec.Recovery.Incarnation = 2 }, false, false, ""},
		"it was obeyed": {nightly(), func(c *v1alpha1.EtcdCluster) {
			c.Spec.Recovery.Incarnation, c.Status.Incarnation = 0, 1
		}, false, false, ""},
		"before the founding is over": {nightly(), func(c *v1alpha1.EtcdCluster) { c.Status.ClusterID = "" }, false, false, ""},
		"it is void":                  {nightly(), func(c *v1alpha1.EtcdCluster) { c.Status.VoidRecovery = "1/nightly" }, false, true, ""},
		"another one was void":        {nightly(), func(c *v1alpha1.EtcdCluster) { c.Status.VoidRecovery = "1/weekly" }, true, false, ""},
		"no such backup":              {nil, nil, true, false, "EtcdBackup nightly does not exist"},
		"not verified":                {unverified, nil, true, false, "set allowUnverified, of another EtcdRestore"},
		"not verified, and allowed":   {unverified, func(c *v1alpha1.EtcdCluster) { c.Spec.Recovery.AllowUnverified = true }, true, false, ""},
		"of another cluster":          {edited(func(b *v1alpha1.EtcdBackup) { b.Spec.ClusterRef.Name = "b" }), nil, true, false, "is of EtcdCluster b"},
		"of a cluster of before":      {edited(func(b *v1alpha1.EtcdBackup) { b.Status.ClusterUID = "01d" }), nil, true, false, "with the UID 01d, which is not this one"},
		"of an etcd of long ago":      {edited(func(b *v1alpha1.EtcdBackup) { b.Status.EtcdVersion = "3.4.30" }), nil, true, false, "can begin a new cluster of 3.5"},
		"it began with a backup, and was never founded": {nightly(), func(c *v1alpha1.EtcdCluster) {
			c.Status.ClusterID, c.Status.Recovery = "", &v1alpha1.RecoveryStatus{Incarnation: 1, BackupName: "weekly"}
		}, true, false, ""},
		"not complete":    {edited(func(b *v1alpha1.EtcdBackup) { b.Status.ID = "" }), nil, true, false, "name another one in another EtcdRestore"},
		"of a newer etcd": {edited(func(b *v1alpha1.EtcdBackup) { b.Status.EtcdVersion = "3.7.3" }), nil, true, false, "set spec.version to 3.7.3"},
		"no Secret": {edited(func(b *v1alpha1.EtcdBackup) {
			b.Spec.Store.S3.CredentialsSecretRef = &v1alpha1.SecretReference{Name: "s3"}
		}), nil, true, false, "Secret s3 does not exist"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := bereft(t)
			if tc.backup != nil {
				w.objects = append(w.objects, tc.backup)
			}
			if tc.change != nil {
				tc.change(w.cluster)
			}
			seen := w.see()
			if tc.counts != (seen.Recovery != nil) || seen.RecoveryVoid != tc.void {
				t.Fatalf("the word is %+v, void %v", seen.Recovery, seen.RecoveryVoid)
			}
			if r := seen.Recovery; r != nil && (r.Backup != "nightly" || (tc.blocked == "" && r.BackupID != "the-id") || (tc.blocked == "") != (r.Blocked == "") || !strings.Contains(r.Blocked, tc.blocked) || (r.Blocked != "" && strings.Count(r.Blocked, " — ") != 2)) {
				t.Errorf("blocked by %q, want %q in three parts", r.Blocked, tc.blocked)
			}
		})
	}
}

// TestRecoveryVoid: a word that stands there while the cluster serves calls for the user.
func TestRecoveryVoid(t *testing.T) {
	w := founded(t)
	w.cluster.Spec.Recovery = &v1alpha1.RecoverySpec{Incarnation: 1, BackupName: "nightly"}
	has := func() bool {
		for _, p := range w.see().Problems {
			if p.Reason == v1alpha1.ReasonRecoveryVoid {
				return p.Severity == plan.Stalling && strings.Count(p.Message, " — ") == 2
			}
		}
		return false
	}
	if !has() {
		t.Error("nobody is told")
	}
	w.cluster.Spec.Recovery.Incarnation = 7
	if has() {
		t.Error("a word for another incarnation is spent, and may stay")
	}
}

// TestMembersOfAnEarlierIncarnationAreNobodys, whether status says which is the present one
// or has lost it.
func TestMembersOfAnEarlierIncarnationAreNobodys(t *testing.T) {
	for name, lose := range map[string]bool{"by status": false, "by the volumes": true} {
		t.Run(name, func(t *testing.T) {
			w := founded(t)
			survivor := claim(w.cluster, 7)
			w.objects = append(w.objects, survivor)
			w.cluster.Status.Incarnation = 2
			for _, o := range w.objects {
				if labels := o.GetLabels(); labels[v1alpha1.LabelIncarnation] != "" && o != client.Object(survivor) {
					labels[v1alpha1.LabelIncarnation] = "2"
				}
			}
			if lose {
				w.cluster.Status = v1alpha1.EtcdClusterStatus{}
			}
			seen := w.see()
			if seen.Incarnation != 2 {
				t.Errorf("the incarnation is %d", seen.Incarnation)
			}
			if _, found := seen.Member("a-0007"); found {
				t.Error("the volume of an earlier incarnation counts as a member")
			}
			if lose && strings.Join(seen.RecoveredFounders, ",") != "a-0000,a-0001,a-0002" {
				t.Errorf("the founders are %v", seen.RecoveredFounders)
			}
		})
	}
}

// TestAMemberWithoutItsClaimMayRunOnAnyLostNode while the user's word stands: the claim has
// taken the name of its last node with it.
func TestAMemberWithoutItsClaimMayRunOnAnyLostNode(t *testing.T) {
	w := bereft(t, nightly())
	elsewhere := func() bool {
		m, _ := w.see().Member("a-0002")
		return m.RunningElsewhere
	}
	if elsewhere() {
		t.Error("all nodes are heard of")
	}
	n := w.node("node-1")
	n.Status.Conditions[0].Status = corev1.ConditionUnknown
	if !elsewhere() {
		t.Error("node-1 may run it")
	}
	n.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeOutOfService, Effect: corev1.TaintEffectNoExecute}}
	if elsewhere() {
		t.Error("node-1 is fenced")
	}
}

// TestWhoVotedLast is what status tells, while nobody can be asked.
func TestWhoVotedLast(t *testing.T) {
	w := bereft(t, nightly())
	votes := func() (out []string) {
		for _, m := range w.see().Members {
			if !m.LastNoVoter {
				out = append(out, m.Name)
			}
		}
		return out
	}
	w.cluster.Status.Members = nil
	if got := strings.Join(votes(), ","); got != "a-0000,a-0001,a-0002" {
		t.Errorf("nothing is known, and %s vote", got)
	}
	w.cluster.Status.Members = []v1alpha1.MemberStatus{{Name: "a-0000", Role: v1alpha1.RoleVoter}, {Name: "a-0001", Role: v1alpha1.RoleLearner}, {Name: "a-0002"}}
	if got := strings.Join(votes(), ","); got != "a-0000" {
		t.Errorf("one voted, and %s vote", got)
	}
}

// TestAnotherWordForWhatWasNeverFounded is heard once it has stood there for long enough.
func TestAnotherWordForWhatWasNeverFounded(t *testing.T) {
	w := bereft(t, nightly())
	tells(w.cluster, v1alpha1.ReasonQuorumLost)
	w.see()
	w.clock.SetTime(w.clock.Now().Add(toldFor))
	w.cluster.Status.ClusterID, w.cluster.Status.Recovery = "", &v1alpha1.RecoveryStatus{Incarnation: 1, BackupName: "weekly"}
	told := func(after time.Duration) bool {
		w.clock.SetTime(w.clock.Now().Add(after))
		return w.see().Recovery.Told
	}
	if told(0) || told(toldFor-time.Second) {
		t.Error("the members may be about to found it")
	}
	if !told(time.Second) {
		t.Error("it has stood there for long enough")
	}
	w.cluster.Spec.Recovery.BackupName = "monthly"
	if told(time.Second) {
		t.Error("it is another word")
	}
	w.cluster.Status.ObeyedRecovery = "1/monthly"
	if !told(0) {
		t.Error("members were stopped for it")
	}
	w.cluster.Status.Recovery.Incarnation = 7
	if w.see().Recovery != nil {
		t.Error("what the present incarnation began with is not known")
	}
}
