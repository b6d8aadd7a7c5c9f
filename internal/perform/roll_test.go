package perform

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

var (
	restart = plan.Step{Kind: plan.RestartMember, Members: []string{voting}, ID: 3}
	enlarge = plan.Step{Kind: plan.ExpandVolumes, Members: []string{voting}}
	fit     = plan.Step{Kind: plan.ResizePod, Members: []string{voting}}
	lower   = plan.Step{Kind: plan.EnableDowngrade}
	raise   = plan.Step{Kind: plan.CancelDowngrade}
	toTLS   = plan.Step{Kind: plan.UpdateMember, Members: []string{voting}, ID: 3}
)

// rolling is a cluster of voters whose pods were made from an older spec.
func rolling(f *change) {
	for _, name := range []string{"a-0000", "a-0001", voting} {
		claim := &corev1.PersistentVolumeClaim{}
		if !f.get(claim, "data-"+name) {
			f.t.Fatalf("no claim of %s", name)
		}
		f.put(&corev1.Pod{}, name, annotated(v1alpha1.AnnotationVolumeUID, string(claim.UID)), annotated(v1alpha1.AnnotationTemplateHash, "old"))
	}
	f.seen.Size, f.seen.Joiner = 3, ""
	f.seen.Members = f.seen.Members[:3]
	for i := range f.seen.Members {
		f.seen.Members[i].PodOutdated = true
	}
}

// takes has the pod of a member listen for these schemes.
func takes(name, schemes string) func(*change) {
	return func(f *change) {
		pod := &corev1.Pod{}
		f.get(pod, name)
		pod.Spec.Containers = []corev1.Container{{Name: resources.EtcdContainer, Command: []string{"--listen-client-urls=" + schemes}}}
		if err := f.api.Update(f.t.Context(), pod); err != nil {
			f.t.Fatal(err)
		}
	}
}

// taking is a cluster whose voters all listen for these schemes.
func taking(schemes string) func(*change) {
	return of(rolling, takes("a-0000", schemes), takes("a-0001", schemes), takes(voting, schemes))
}

// cutOff is a cluster of which nothing is heard.
func cutOff(f *change) {
	rolling(f)
	f.seen.List, f.seen.ReadOK = false, false
	m := f.member(voting)
	m.ID, m.Listed, m.Answers, m.FollowsLeader, m.LongSilent = 0, false, false, false, true
	f.etcd.silent[voting] = true
}

// called is the member's pod when the kubelet calls it ready.
func called(f *change) {
	pod := &corev1.Pod{}
	f.get(pod, voting)
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	if err := f.api.Status().Update(f.t.Context(), pod); err != nil {
		f.t.Fatal(err)
	}
}

func refuses(verb string, err error) func(*change) {
	return func(f *change) {
		f.before = func(did string, _ client.Object) error {
			if did == verb {
				return err
			}
			return nil
		}
	}
}

// amidFences has somebody write the member's pod while the others' are fenced.
func amidFences(e edit) func(*change) {
	return func(f *change) {
		written := false
		f.before = func(did string, o client.Object) error {
			if did != "patch" || o.GetName() == voting || written {
				return nil
			}
			written = true
			ours := f.writes
			defer func() { f.writes = ours }()
			pod := &corev1.Pod{}
			f.get(pod, voting)
			e(pod)
			return f.api.Update(f.t.Context(), pod)
		}
	}
}

func roomy(f *change) {
	f.edit(func(c *v1alpha1.EtcdCluster) {
		c.Spec.PodTemplate.Resources = &corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("8Gi")}}
	})
}

func larger(f *change) {
	f.edit(func(c *v1alpha1.EtcdCluster) { c.Spec.Storage.Size = resource.MustParse("1Ti") })
}

// TestChangesInPlace: each step of a roll, of a change that restarts nobody, and of a
// downgrade, on the world that it was decided for and on worlds in which it must not be done.
func TestChangesInPlace(t *testing.T) {
	budget := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", 0)
	invalid := apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, voting, nil)
	asked := "would do eviction " + voting
	fences := []string{asked, "patch a-0000", "patch a-0001"}
	silentLeader := func(f *change) { leads(f, func(s *etcd.Status) { s.Leader = 0 }) }
	cases := map[string]struct {
		step   plan.Step
		world  func(*change)
		want   outcome
		writes []string
		calls  []string
	}{
		"a member is evicted, and others fenced before": {restart, rolling, done, append(slices.Clone(fences), "eviction "+voting), nil},
		"the budget lets nobody go":                     {restart, of(rolling, refuses("would do eviction", budget)), notYet, []string{asked}, nil},
		"the budget lets nobody go any more":            {restart, of(rolling, refuses("eviction", budget)), notYet, append(slices.Clone(fences), "eviction "+voting), nil},
		"the kubelet tells of the pod meanwhile":        {restart, of(rolling, amidFences(annotated("kubelet", "news"))), done, append(slices.Clone(fences), "eviction "+voting), nil},
		"another operator fences the pod meanwhile":     {restart, of(rolling, amidFences(annotated(v1alpha1.AnnotationFence, "another"))), stale, fences, nil},
		"a pod that was made again meanwhile":           {restart, of(rolling, func(f *change) { f.member(voting).PodUID = "older" }), stale, nil, nil},
		"a pod that is of the present spec by now": {restart, of(rolling, func(f *change) {
			f.put(&corev1.Pod{}, voting, annotated(v1alpha1.AnnotationTemplateHash, resources.TemplateHash(f.cluster)))
		}), stale, nil, nil},
		"a pod whose data was refused": {restart, of(rolling, func(f *change) {
			f.put(&corev1.PersistentVolumeClaim{}, "data-"+voting, annotated(v1alpha1.AnnotationRefused, "x"))
		}), stale, nil, nil},
		"another voter has fallen silent":                {restart, of(rolling, silent("a-0001")), stale, fences, nil},
		"the leader has none":                            {restart, of(rolling, silentLeader), stale, nil, nil},
		"somebody has edited the cluster":                {restart, of(rolling, func(f *change) { f.meanwhile(func(c *v1alpha1.EtcdCluster) { c.Generation = 9 }) }), stale, nil, nil},
		"one that is silent, without a quorum":           {restart, cutOff, done, []string{"delete " + voting}, nil},
		"one that is back, without a quorum":             {restart, of(cutOff, func(f *change) { f.etcd.silent[voting] = false }), stale, nil, nil},
		"one that the kubelet calls ready":               {restart, of(cutOff, called), stale, nil, nil},
		"a volume is made larger":                        {enlarge, larger, done, []string{"patch data-" + voting}, nil},
		"a volume that is large enough":                  {enlarge, of(), stale, nil, nil},
		"a pod is resized, and that is put on it":        {fit, roomy, done, []string{"resize " + voting, "patch " + voting}, nil},
		"a pod that cannot be resized is marked":         {fit, of(roomy, refuses("resize", invalid)), done, []string{"resize " + voting, "patch " + voting}, nil},
		"a pod that may not be resized":                  {fit, of(roomy, refuses("resize", apierrors.NewForbidden(schema.GroupResource{}, voting, errors.New("no")))), failed, []string{"resize " + voting}, nil},
		"another pod is not resized":                     {fit, of(roomy, func(f *change) { f.member(voting).PodUID = "older" }), stale, nil, nil},
		"etcd is asked and then told":                    {lower, downgrading, done, nil, []string{"Downgrade 0 3.6.0", "Downgrade 1 3.6.0"}},
		"etcd refuses":                                   {lower, of(downgrading, answers("Downgrade", errors.New("invalid downgrade target version"))), failed, nil, []string{"Downgrade 0 3.6.0"}},
		"a downgrade goes on already":                    {lower, of(downgrading, answers("Downgrade", etcd.ErrDowngrading)), stale, nil, []string{"Downgrade 0 3.6.0"}},
		"whether it has begun is not known":              {lower, of(downgrading, answers("Downgrade", etcd.ErrOutcomeUnknown)), notYet, nil, []string{"Downgrade 0 3.6.0"}},
		"a peer URL is changed":                          {toTLS, taking("http://,https://"), done, nil, []string{"UpdateMember 3 https://a-0002.a.ns.svc:2383"}},
		"one is not changed beside one that takes none":  {toTLS, of(taking("http://,https://"), takes("a-0001", "http://")), stale, nil, nil},
		"nor beside one that is gone":                    {toTLS, of(taking("https://"), func(f *change) { f.take(&corev1.Pod{}, "a-0001") }), stale, nil, nil},
		"nor beside one that was made again":             {toTLS, of(taking("https://"), func(f *change) { f.member("a-0001").PodUID = "older" }), stale, nil, nil},
		"nor under another leader":                       {toTLS, of(taking("https://"), silentLeader), stale, nil, nil},
		"the member is gone by now":                      {toTLS, of(taking("https://"), answers("UpdateMember", etcd.ErrMemberNotFound)), stale, nil, []string{"UpdateMember 3 https://a-0002.a.ns.svc:2383"}},
		"whether it was changed is not known":            {toTLS, of(taking("https://"), answers("UpdateMember", etcd.ErrOutcomeUnknown)), notYet, nil, []string{"UpdateMember 3 https://a-0002.a.ns.svc:2383"}},
		"a downgrade is cancelled":                       {raise, downgrading, done, nil, []string{"Downgrade 2"}},
		"there is none to cancel":                        {raise, of(downgrading, answers("Downgrade", etcd.ErrNoDowngrade)), stale, nil, []string{"Downgrade 2"}},
		"a downgrade beside another leader is not begun": {lower, of(downgrading, silentLeader), stale, nil, nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			f := changing(t)
			tc.world(f)
			f.writes = nil
			if got := f.do(tc.step); outcomeOf(got) != tc.want {
				t.Fatalf("%s: %v, want %s", outcomeOf(got), got, tc.want)
			}
			if diff := cmp.Diff(tc.writes, f.writes); diff != "" {
				t.Errorf("writes (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.calls, f.etcd.changes()); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
		})
	}
}

func downgrading(f *change) {
	f.seen.DowngradeTo, f.seen.DowngradeBegun = "3.6", "3.6"
}

// TestARefusedResizeIsPutOnThePod, so that it is rolled and not tried again.
func TestARefusedResizeIsPutOnThePod(t *testing.T) {
	f := changing(t)
	roomy(f)
	refuses("resize", apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, voting, nil))(f)
	if err := f.do(fit); err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{}
	if !f.get(pod, voting) || pod.Annotations[v1alpha1.AnnotationResizeRefused] != resources.ComputeHash(f.cluster) {
		t.Errorf("annotations %v", pod.Annotations)
	}
	if pod.Annotations[v1alpha1.AnnotationResources] == resources.ComputeHash(f.cluster) {
		t.Error("the pod says that it has what it was refused")
	}
}
