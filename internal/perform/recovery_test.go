package perform

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

var three = []string{"a-0000", "a-0001", "a-0002"}

// ofMember makes a pod or a claim another member's.
func ofMember(member string) edit {
	return func(o client.Object) {
		o.SetName(strings.Replace(o.GetName(), name, member, 1))
		o.SetUID(types.UID("p" + member[len(member)-1:]))
		o.GetLabels()[v1alpha1.LabelMember] = member
	}
}

// node is one that is heard of, or not.
func node(name string, edits ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	for _, e := range edits {
		e(n)
	}
	return n
}

func unheard(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionUnknown }
func fenced(n *corev1.Node) {
	n.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeOutOfService, Effect: corev1.TaintEffectNoExecute}}
}

// nightly is the backup that the cluster goes on with.
func nightly() *v1alpha1.EtcdBackup {
	b := ownBackup()
	b.Name = "nightly"
	return b
}

// ownBackup is of the world's cluster.
func ownBackup() *v1alpha1.EtcdBackup {
	b := aBackup()
	b.Spec.ClusterRef.Name, b.Status.ClusterUID = "a", "5e1f"
	return b
}

// madeAnew has the backup be another one, under its name.
func madeAnew(change func(*v1alpha1.EtcdBackup)) func(*world) {
	return func(w *world) {
		b := &v1alpha1.EtcdBackup{}
		if !w.get(b, "nightly") {
			w.t.Fatal("there is no backup")
		}
		change(b)
		if err := w.api.Update(w.t.Context(), b); err != nil {
			w.t.Fatal(err)
		}
		w.writes = nil
	}
}

// lost is a founded cluster of three that has lost its quorum, and the user's word.
func lost(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	w := newWorld(t, append([]client.Object{nightly()}, objects...)...)
	s := &w.cluster.Status
	s.Founders, s.NextOrdinal, s.ClusterID, s.Joiner, s.OldEntries = three, 3, "c1", "", 7
	s.FounderVolumes = map[string]string{"a-0000": "v0"}
	s.Downgrade, s.PlaintextPeers = "3.5", true
	w.cluster.Spec.Size, w.cluster.Spec.Recovery = 3, &v1alpha1.RecoverySpec{Incarnation: 1, BackupName: "nightly"}
	if err := w.api.Update(t.Context(), w.cluster.DeepCopy()); err != nil {
		t.Fatal(err)
	}
	live := &v1alpha1.EtcdCluster{}
	if !w.get(live, "a") {
		t.Fatal("there is no cluster")
	}
	live.Status = *s.DeepCopy()
	if err := w.api.Status().Update(t.Context(), live); err != nil {
		t.Fatal(err)
	}
	w.reload()
	w.writes = nil
	w.seen = plan.Observed{Size: 3, Founders: three, ClusterID: 0xc1, Incarnation: 1, Recovery: &plan.Recovery{Backup: "nightly", BackupID: "the-id", BackupClusterUID: "5e1f", BackupRevision: 70, Told: true}}
	for i, m := range three {
		w.seen.Members = append(w.seen.Members, plan.Member{Name: m, Founder: true, PodUID: "p" + m[len(m)-1:]})
		if i == 0 {
			w.seen.Members[0].Volume = plan.VolumeBound
		}
	}
	return w
}

// restoreBegun has status say that members are stopped for an EtcdRestore.
func restoreBegun(uid string) func(*v1alpha1.EtcdCluster) {
	return func(c *v1alpha1.EtcdCluster) {
		c.Status.Restore = &v1alpha1.ClusterRestoreStatus{Name: "back", UID: uid, Begun: &metav1.Time{Time: time.Unix(1e9, 0)}}
	}
}

// edited changes the cluster after it was looked at.
func (w *world) edited(change func(*v1alpha1.EtcdCluster)) {
	w.t.Helper()
	live := &v1alpha1.EtcdCluster{}
	if !w.get(live, "a") {
		w.t.Fatal("there is no cluster")
	}
	change(live)
	status := live.Status
	if err := w.api.Update(w.t.Context(), live); err != nil {
		w.t.Fatal(err)
	}
	live.Status = status
	if err := w.api.Status().Update(w.t.Context(), live); err != nil {
		w.t.Fatal(err)
	}
	w.writes = nil
}

// TestStopIncarnation: the pods that were seen are deleted, and no others; not once the
// word was taken back, or the world has moved.
func TestStopIncarnation(t *testing.T) {
	takenBack := func(c *v1alpha1.EtcdCluster) { c.Generation, c.Spec.Recovery = c.Generation+1, nil }
	cases := map[string]struct {
		objects []client.Object
		change  func(*world)
		writes  []string
		stale   bool
		fails   string
	}{
		"the survivor":                      {[]client.Object{pod(running)}, nil, []string{"delete a-0000"}, false, ""},
		"two survivors":                     {[]client.Object{pod(running), pod(running, ofMember("a-0001"))}, nil, []string{"delete a-0000", "delete a-0001"}, false, ""},
		"it is gone":                        {nil, nil, nil, false, ""},
		"it goes already":                   {[]client.Object{pod(running, going)}, nil, nil, false, ""},
		"it is another pod by now":          {[]client.Object{pod(running, func(o client.Object) { o.SetUID("p9") })}, nil, nil, true, ""},
		"it is of the incarnation after":    {[]client.Object{pod(running, reborn)}, nil, nil, false, "does not belong to this cluster"},
		"it is somebody else's":             {[]client.Object{pod(running, foreigner)}, nil, nil, false, "does not belong to this cluster"},
		"the word was taken back":           {[]client.Object{pod(running)}, func(w *world) { w.edited(takenBack) }, nil, true, ""},
		"the word has become void":          {[]client.Object{pod(running)}, func(w *world) { w.edited(func(c *v1alpha1.EtcdCluster) { c.Status.VoidRecovery = "1/nightly" }) }, nil, true, ""},
		"another operator has stopped some": {[]client.Object{pod(running)}, func(w *world) { w.edited(func(c *v1alpha1.EtcdCluster) { c.Status.ObeyedRecovery = "1/nightly" }) }, nil, true, ""},
		"an incarnation has begun":          {[]client.Object{pod(running)}, func(w *world) { w.edited(func(c *v1alpha1.EtcdCluster) { c.Status.Incarnation = 2 }) }, nil, true, ""},
		"an EtcdRestore has begun":          {[]client.Object{pod(running)}, func(w *world) { w.edited(restoreBegun("e7")) }, nil, true, ""},
		"an EtcdRestore waits": {[]client.Object{pod(running)}, func(w *world) {
			w.edited(func(c *v1alpha1.EtcdCluster) {
				c.Status.Restore = &v1alpha1.ClusterRestoreStatus{Name: "back", UID: "e7"}
			})
		}, []string{"delete a-0000"}, false, ""},
		"another operator has gone further": {[]client.Object{pod(running)}, func(w *world) { w.edited(func(c *v1alpha1.EtcdCluster) { c.Status.NextOrdinal = 6 }) }, nil, true, ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := lost(t, tc.objects...)
			if tc.change != nil {
				tc.change(w)
			}
			err := w.perform(plan.StopIncarnation, "a-0000", "a-0001")
			if Stale(err) != tc.stale || (tc.fails != "") != (err != nil && !tc.stale) || (tc.fails != "" && !strings.Contains(err.Error(), tc.fails)) {
				t.Errorf("StopIncarnation = %v", err)
			}
			if !slices.Equal(w.writes, tc.writes) {
				t.Errorf("wrote %v, want %v", w.writes, tc.writes)
			}
		})
	}
}

// TestStopIncarnationIsCarriedOn by whoever comes after one who died between two calls, or
// whose call was refused: the rest is stopped.
func TestStopIncarnationIsCarriedOn(t *testing.T) {
	w := lost(t, pod(running), pod(running, ofMember("a-0001")), pod(running, ofMember("a-0002")))
	conflict := apierrors.NewConflict(schema.GroupResource{Resource: "pods"}, "a-0001", errors.New("it was just written"))
	w.before = func(_ string, o client.Object) error {
		if o.GetName() == "a-0001" {
			return conflict
		}
		return nil
	}
	if err := w.perform(plan.StopIncarnation, three...); !Stale(err) {
		t.Errorf("with a conflict: %v", err)
	}
	if w.get(&corev1.Pod{}, "a-0000") || !w.get(&corev1.Pod{}, "a-0001") || w.get(&corev1.Pod{}, "a-0002") {
		t.Errorf("one that the API refuses holds back the others: %v", w.writes)
	}
	w.before, w.writes = nil, nil
	if err := w.perform(plan.StopIncarnation, three...); err != nil || !slices.Equal(w.writes, []string{"delete a-0001"}) {
		t.Errorf("the second time: %v, wrote %v", err, w.writes)
	}
}

// TestRaiseIncarnation: the next incarnation is one write of status, with founders that bear
// names which nothing has ever borne. It is not begun while a majority of the old one may run
// by what the API server shows now, whatever was seen; and nothing is ever deleted for it.
func TestRaiseIncarnation(t *testing.T) {
	ran := func(member, node string) *corev1.PersistentVolumeClaim {
		return claim(annotated(v1alpha1.AnnotationNode, node), ofMember(member))
	}
	all := []client.Object{ran("a-0000", "n0"), node("n0"), node("n1"), node("n2")}
	with := func(more ...client.Object) []client.Object { return append(slices.Clone(all), more...) }
	cases := map[string]struct {
		objects []client.Object
		change  func(*world)
		done    bool
		first   int
	}{
		"the others' claims are gone":       {all, nil, true, 3},
		"a name was taken meanwhile":        {with(ran("a-0007", "n0")), nil, true, 8},
		"by somebody else":                  {with(claim(foreigner, ofMember("a-0009"))), nil, true, 10},
		"a pod has come back":               {with(pod(running)), nil, false, 0},
		"a pod goes":                        {with(pod(running, going)), nil, false, 0},
		"a pod of another cluster is there": {with(pod(running, foreigner, ofMember("a-0011"))), nil, true, 12},
		"the word was taken back":           {all, func(w *world) { w.edited(func(c *v1alpha1.EtcdCluster) { c.Generation, c.Spec.Recovery = 9, nil }) }, false, 0},
		"the cluster has served":            {all, func(w *world) { w.edited(func(c *v1alpha1.EtcdCluster) { c.Status.VoidRecovery = "1/nightly" }) }, false, 0},
		"another operator was faster":       {all, func(w *world) { w.edited(func(c *v1alpha1.EtcdCluster) { c.Status.ClusterID = "" }) }, false, 0},
		"the backup was made anew":          {all, madeAnew(func(b *v1alpha1.EtcdBackup) { b.Status.ID = "another-id" }), false, 0},
		"of another cluster":                {all, madeAnew(func(b *v1alpha1.EtcdBackup) { b.Status.ClusterUID = "0ther" }), false, 0},
		"the backup goes":                   {all, func(w *world) { w.seen.Recovery.Backup = "none" }, false, 0},
		"of three voters one has stopped, and two learners": {with(ran("a-0003", "n0"), ran("a-0004", "n0")), func(w *world) {
			w.seen.Members[1].RunningElsewhere, w.seen.Members[2].RunningElsewhere = true, true
			for _, m := range []string{"a-0003", "a-0004"} {
				w.seen.Members = append(w.seen.Members, plan.Member{Name: m, LastNoVoter: true})
			}
		}, false, 0},
		"a node was lost and the cache has not heard": {[]client.Object{ran("a-0000", "n0"), node("n0"), node("n1", unheard), node("n2")}, nil, false, 0},
		"it is fenced":                     {[]client.Object{ran("a-0000", "n0"), node("n0"), node("n1", unheard, fenced), node("n2")}, nil, true, 3},
		"the nodes of two claims are lost": {[]client.Object{ran("a-0000", "n0"), ran("a-0001", "n1"), ran("a-0002", "n2"), node("n0"), node("n1", unheard), node("n2", unheard)}, nil, false, 0},
		"the node of one claim is lost":    {[]client.Object{ran("a-0000", "n0"), ran("a-0001", "n1"), ran("a-0002", "n2"), node("n0"), node("n1"), node("n2", unheard)}, nil, true, 3},
		"two were seen to run elsewhere": {all, func(w *world) {
			w.seen.Members[1].RunningElsewhere, w.seen.Members[2].RunningElsewhere = true, true
		}, false, 0},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := lost(t, tc.objects...)
			if tc.change != nil {
				tc.change(w)
			}
			before := w.cluster.Status.DeepCopy()
			err := w.perform(plan.RaiseIncarnation, three...)
			if tc.done != (err == nil) || (err != nil && !Stale(err)) || len(w.writes) > 0 {
				t.Fatalf("RaiseIncarnation = %v, wrote %v", err, w.writes)
			}
			s := w.cluster.Status
			if !tc.done {
				if s.Incarnation != 1 || s.ClusterID != before.ClusterID || !slices.Equal(s.Founders, three) || s.Recovery != nil {
					t.Errorf("nothing is to begin, and status is %+v", s)
				}
				return
			}
			var founders []string
			for i := range 3 {
				founders = append(founders, resources.MemberName("a", tc.first+i))
			}
			if s.Incarnation != 2 || s.ClusterID != "" || len(s.FounderVolumes) > 0 || s.OldEntries != 0 || s.Downgrade != "" || s.PlaintextPeers || int(s.NextOrdinal) != tc.first+3 || !slices.Equal(s.Founders, founders) {
				t.Errorf("status is %+v", s)
			}
			if r := s.Recovery; r == nil || r.Incarnation != 2 || r.BackupName != "nightly" || r.BackupID != "the-id" || r.BackupClusterUID != "5e1f" || r.Time.Unix() != 1e9 || !strings.Contains(r.GivenUp, "incarnation 1: a-0000 (its volume is kept)") || !strings.Contains(r.PossibleLoss, "since revision 70, that of the backup, is lost") {
				t.Errorf("status.recovery is %+v", r)
			}
		})
	}
}

// blind may not list nodes.
type blind struct{ client.Reader }

func (blind) List(context.Context, client.ObjectList, ...client.ListOption) error {
	return errors.New("no answer")
}

// TestNobodyIsStoppedWhomNobodyCouldReplace: without the image nothing fills a volume.
func TestNobodyIsStoppedWhomNobodyCouldReplace(t *testing.T) {
	w := lost(t, claim(annotated(v1alpha1.AnnotationNode, "n0")), node("n0"))
	p := &Performer{Writer: w.api, Live: w.api, Nodes: w.api}
	for _, kind := range []plan.Kind{plan.StopIncarnation, plan.RaiseIncarnation} {
		err := p.Perform(t.Context(), w.cluster, w.seen, plan.Step{Kind: kind, Members: three})
		if !errors.Is(err, resources.ErrNoBackupImage) || len(w.writes) > 0 || w.cluster.Status.Incarnation != 1 {
			t.Errorf("%s = %v, wrote %v, incarnation %d", kind, err, w.writes, w.cluster.Status.Incarnation)
		}
	}
}

// TestRaiseIncarnationFails where the API server does not answer: what cannot be known is
// not taken for good.
func TestRaiseIncarnationFails(t *testing.T) {
	w := lost(t, claim(annotated(v1alpha1.AnnotationNode, "n0")), node("n0"))
	p := &Performer{Writer: w.api, Live: w.api, Nodes: blind{w.api}, BackupImage: "backup:v0"}
	err := p.Perform(t.Context(), w.cluster, w.seen, plan.Step{Kind: plan.RaiseIncarnation, Members: three})
	if err == nil || Stale(err) || w.cluster.Status.Incarnation != 1 {
		t.Errorf("RaiseIncarnation = %v, incarnation %d", err, w.cluster.Status.Incarnation)
	}
}

// TestAFounderOfANewIncarnationBeginsWithItsBackup, by its claim too: status may be lost, and
// a founder that began empty beside others could outvote them.
func TestAFounderOfANewIncarnationBeginsWithItsBackup(t *testing.T) {
	floor := annotated(v1alpha1.AnnotationRevisionFloor, "1900000000000000")
	for name, tc := range map[string]struct {
		status bool
		claim  []edit
		bump   string
	}{
		"by status":    {true, nil, "1800000000000000"},
		"by its claim": {false, []edit{floor}, "1900000000000000"},
		"by neither, as an earlier release began it": {false, nil, "2000000000000"},
	} {
		t.Run(name, func(t *testing.T) {
			volume := claim(append([]edit{reborn, annotated(v1alpha1.AnnotationRecovery, "b")}, tc.claim...)...)
			w := newWorld(t, volume, ownBackup())
			w.cluster.Status.Incarnation = 2
			if tc.status {
				w.cluster.Status.Recovery = &v1alpha1.RecoveryStatus{Incarnation: 2, BackupName: "b"}
				w.cluster.Status.RevisionFloor = 1_800_000_000_000_000
			}
			pod, err := w.start("backup:v0")
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == resources.RestoreContainer })
			if i < 0 || !slices.Contains(pod.Spec.InitContainers[i].Command, "--bump-revision="+tc.bump) {
				t.Errorf("it would begin with nothing, or with revisions that were used: %v", pod.Spec.InitContainers)
			}
		})
	}
}

// TestAFounderTakesNoBackupThatWasMadeAnew: the others may have begun with the one of before.
func TestAFounderTakesNoBackupThatWasMadeAnew(t *testing.T) {
	for label, tc := range map[string]struct {
		record *v1alpha1.RecoveryStatus
		claim  []edit
		stale  bool
	}{
		"by status":                 {&v1alpha1.RecoveryStatus{Incarnation: 2, BackupName: "b", BackupID: "0ld-id"}, nil, true},
		"of another cluster":        {&v1alpha1.RecoveryStatus{Incarnation: 2, BackupName: "b", BackupID: "the-id", BackupClusterUID: "0ther"}, nil, true},
		"by its claim, status lost": {nil, []edit{annotated(v1alpha1.AnnotationRecovery, "b"), annotated(v1alpha1.AnnotationRecoveryID, "0ld-id")}, false},
	} {
		t.Run(label, func(t *testing.T) {
			w := newWorld(t, claim(append([]edit{reborn}, tc.claim...)...), ownBackup())
			w.cluster.Status.Incarnation, w.cluster.Status.Recovery = 2, tc.record
			_, err := w.start("backup:v0")
			if err == nil || Stale(err) != tc.stale || !strings.Contains(err.Error(), "made anew") || len(w.writes) > 0 {
				t.Errorf("StartMembers = %v, wrote %v", err, w.writes)
			}
		})
	}
}

// TestAFoundersBackupIsTheOneOnRecord: what is made anew under the name of spec.restoreFrom is
// not taken beside founders that have begun.
func TestAFoundersBackupIsTheOneOnRecord(t *testing.T) {
	w := restoring(t, func(w *world) { w.cluster.Status.RestorePoint = "0ld-id" })
	if _, err := w.start("backup:v0"); !Stale(err) || !strings.Contains(err.Error(), "made anew") || len(w.writes) > 0 {
		t.Errorf("StartMembers = %v, wrote %v", err, w.writes)
	}
	if _, err := restoring(t, func(w *world) { w.cluster.Status.RestorePoint = "the-id" }).start("backup:v0"); err != nil {
		t.Errorf("StartMembers = %v", err)
	}
}

// TestANewIncarnationIsNotWhatTheOldOneBeganWith: spec.restoreFrom is of the first
// incarnation alone, and where status was lost a claim that was made since names no backup.
func TestANewIncarnationIsNotWhatTheOldOneBeganWith(t *testing.T) {
	w := newWorld(t, claim(reborn), aBackup())
	w.cluster.Status.Incarnation, w.cluster.Spec.RestoreFrom = 2, &v1alpha1.RestoreSource{BackupName: "b"}
	pod, err := w.start("backup:v0")
	if err == nil || !strings.Contains(err.Error(), "not known any more") || len(w.writes) > 0 {
		t.Errorf("started as %v with %v: neither what the first incarnation began with nor nothing will do", pod, err)
	}
}

// TestPossibleLossIsNotForgotten: an incarnation that never came to be has lost nothing itself, and
// the figures of the one before are on record nowhere else.
func TestPossibleLossIsNotForgotten(t *testing.T) {
	seen := plan.Observed{Incarnation: 2, Recovery: &plan.Recovery{Backup: "older", BackupRevision: 50}}
	for name, tc := range map[string]struct {
		clusterID string
		of        int64
		kept      bool
	}{
		"it has never served":       {"", 2, true},
		"it has served":             {"c1", 2, false},
		"it is told of another one": {"", 1, false},
	} {
		c := &v1alpha1.EtcdCluster{}
		c.Status.ClusterID, c.Status.Recovery = tc.clusterID, &v1alpha1.RecoveryStatus{Incarnation: tc.of, PossibleLoss: "a-0000 had come to 115"}
		got := possibleLoss(c, seen)
		if !strings.Contains(got, "since revision 50") || strings.Contains(got, "had come to 115") != tc.kept {
			t.Errorf("%s: %s", name, got)
		}
	}
	c := &v1alpha1.EtcdCluster{}
	c.Status.Recovery = &v1alpha1.RecoveryStatus{Incarnation: 2, PossibleLoss: strings.Repeat("é", lossLimit/2)}
	if got := possibleLoss(c, seen); len(got) > lossLimit {
		t.Errorf("the API refuses %d characters", len(got))
	}
}

// TestGivenUpFitsIntoStatus, whatever the guard said of the data.
func TestGivenUpFitsIntoStatus(t *testing.T) {
	seen := plan.Observed{Incarnation: 1}
	for _, m := range three {
		seen.Members = append(seen.Members, plan.Member{Name: m, Volume: plan.VolumeRefused, Trouble: strings.Repeat("é", 600)})
	}
	if got := givenUp(seen); len(got) > givenUpLimit || len(got) < givenUpLimit-4 || strings.ContainsRune(got, 0xfffd) {
		t.Errorf("%d bytes", len(got))
	}
}

// TestRaiseWithASurvivor: one founder begins, with a copy of the survivor's volume, and status
// says what is known of that; not while the survivor may run, nor when its claim is not as it
// was seen.
func TestRaiseWithASurvivor(t *testing.T) {
	mine := func(edits ...edit) client.Object {
		return claim(append([]edit{annotated(v1alpha1.AnnotationNode, "n0")}, edits...)...)
	}
	nodes := func(first ...func(*corev1.Node)) []client.Object {
		return []client.Object{node("n0", first...), node("n1"), node("n2")}
	}
	for name, tc := range map[string]struct {
		objects []client.Object
		done    bool
	}{
		"it has stopped":     {append(nodes(), mine()), true},
		"its node is lost":   {append(nodes(unheard), mine()), false},
		"its node is fenced": {append(nodes(unheard, fenced), mine()), true},
		"its claim is gone":  {nodes(), false},
		"its claim goes":     {append(nodes(), mine(going)), false},
		"it is not bound":    {append(nodes(), mine(unbound)), false},
		"it was refused":     {append(nodes(), mine(annotated(v1alpha1.AnnotationRefused, "DataCorrupt"))), false},
		"it is another's":    {append(nodes(), mine(foreigner)), false},
	} {
		t.Run(name, func(t *testing.T) {
			w := lost(t, tc.objects...)
			w.seen.Recovery = &plan.Recovery{Survivor: "a-0000", Told: true}
			w.seen.Members[0].Position = plan.Position{Term: 4, Index: 90, Revision: 80}
			err := w.perform(plan.RaiseIncarnation, three...)
			if tc.done != (err == nil) || len(w.writes) > 0 {
				t.Fatalf("RaiseIncarnation = %v, wrote %v", err, w.writes)
			}
			s := w.cluster.Status
			if !tc.done {
				if s.Incarnation != 1 || s.Recovery != nil {
					t.Errorf("nothing is to begin, and status is %+v", s)
				}
				return
			}
			if s.Incarnation != 2 || !slices.Equal(s.Founders, []string{"a-0003"}) || s.NextOrdinal != 4 || s.ClusterID != "" {
				t.Errorf("status is %+v", s)
			}
			of := s.Recovery.Survivor
			if of == nil || of.Name != "a-0000" || of.VolumeUID == "" || of.Incarnation != 1 || of.Index != 90 || of.Revision != 80 || of.Copied || !strings.Contains(s.Recovery.PossibleLoss, "2 of the 3 voters") {
				t.Errorf("status.recovery.survivor is %+v", of)
			}
			if s.Recovery.BackupName != "" {
				t.Errorf("it names the backup %s", s.Recovery.BackupName)
			}
		})
	}
}
