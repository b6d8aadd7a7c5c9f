package sim

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/quorate/quorate/api/v1alpha1"
)

// deleted has a cluster with data, of which nothing but the volumes is left.
func deleted(mutate func(*v1alpha1.EtcdClusterSpec), last ...func(*World)) func(*World) {
	return func(w *World) {
		founded(mutate)(w)
		for _, do := range last {
			do(w)
		}
		deleteCluster(w)
		if !w.Run(func() bool { return gone(w) }, patience) {
			panic("the cluster of the history does not go:\n" + w.Notes(200))
		}
	}
}

// adopt the volumes that lie there.
func adopt(w *World, s *v1alpha1.EtcdClusterSpec) {
	for _, claim := range w.API.all("PersistentVolumeClaim") {
		s.Adopt = &v1alpha1.AdoptSpec{ClusterUID: claim.GetLabels()[v1alpha1.LabelClusterUID]}
	}
}

func adopting(mutate func(*v1alpha1.EtcdClusterSpec)) func(*World) {
	return func(w *World) {
		w.Apply(func(s *v1alpha1.EtcdClusterSpec) {
			mutate(s)
			adopt(w, s)
		})
	}
}

func loses(members ...string) func(*World) {
	return func(w *World) {
		for _, m := range members {
			deleteClaim(w, m)
		}
	}
}

// adoptions bring a deleted cluster back. That its data and its identity are the old ones
// is what the checker of etcd's world looks after: the token is the same.
func adoptions() []workflow {
	return []workflow{
		{name: "adopting three in plaintext", every: true, faults: true, shared: true, before: deleted(spec(3, plaintext)), begin: adopting(spec(3, plaintext))},
		{name: "adopting three with TLS", long: true, before: deleted(spec(3)), begin: adopting(spec(3))},
		{name: "adopting one", before: deleted(spec(1, plaintext)), begin: adopting(spec(1, plaintext))},
		{name: "adopting two of three, and replacing the third", shared: true, long: true, end: (*World).Shape, before: deleted(spec(3, plaintext), loses("c-0001")), begin: adopting(spec(3, plaintext))},
		{
			// The Secrets of the deleted cluster are about to go: they are not taken over.
			name: "adopting while the old cluster is still being collected", long: true,
			before: founded(spec(3)), begin: func(w *World) {
				deleteCluster(w)
				adopting(spec(3))(w)
			},
		},
		{name: "adopting what was adopted before", before: func(w *World) {
			deleted(spec(3, plaintext))(w)
			adopting(spec(3, plaintext))(w)
			w.Run(w.Healthy, patience)
			w.For(6 * time.Second)
			deleteCluster(w)
			w.Run(func() bool { return gone(w) }, patience)
		}, begin: adopting(spec(3, plaintext))},
	}
}

// TestAdoptionTakesWhatWasThere: the same members serve, on the same volumes, and what
// was acknowledged before the deletion is there.
func TestAdoptionTakesWhatWasThere(t *testing.T) {
	f := adoptions()[0]
	w := f.start()
	before := w.claimUIDs()
	if err := f.finish(w); err != nil {
		t.Fatal(err)
	}
	if after := w.claimUIDs(); fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("the claims were %v and are %v", before, after)
	}
	if c := w.Cluster(); len(c.Status.Members) != 3 || meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionOldVolumes) != nil {
		t.Errorf("status is %+v", c.Status)
	}
}

func (w *World) claimUIDs() map[string]string {
	out := map[string]string{}
	for _, claim := range w.API.all("PersistentVolumeClaim") {
		out[claim.GetName()] = string(claim.GetUID())
	}
	return out
}

// TestAdoptionIsWholeOrNothing: with too few volumes, or with those of nobody, nothing is
// made, started or changed, and the user is told.
func TestAdoptionIsWholeOrNothing(t *testing.T) {
	cases := map[string]struct {
		before func(*World)
		spec   func(*World, *v1alpha1.EtcdClusterSpec)
	}{
		"one volume of three": {deleted(spec(3, plaintext), loses("c-0001", "c-0002")), adopt},
		"no volume at all": {deleted(spec(1, plaintext)), func(_ *World, s *v1alpha1.EtcdClusterSpec) {
			s.Adopt = &v1alpha1.AdoptSpec{ClusterUID: "00000000-0000-4000-8000-00000000dead"}
		}},
		"the spec speaks of more members": {deleted(spec(3, plaintext)), func(w *World, s *v1alpha1.EtcdClusterSpec) {
			adopt(w, s)
			s.Size = 7
		}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := newborn()
			w.StartOperator()
			tc.before(w)
			claims := fmt.Sprint(w.claimUIDs())
			w.Apply(func(s *v1alpha1.EtcdClusterSpec) {
				spec(3, plaintext)(s)
				tc.spec(w, s)
			})
			w.For(time.Minute)
			c := w.Cluster()
			stalled := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionStalled)
			if stalled == nil || stalled.Reason != v1alpha1.ReasonAdoptBlocked || len(c.Status.Founders) > 0 {
				t.Errorf("Stalled is %+v, the founders are %v", stalled, c.Status.Founders)
			}
			if now := fmt.Sprint(w.claimUIDs()); now != claims || len(w.API.all("Pod"))+len(w.API.all("Secret"))+len(w.API.all("Service")) > 0 {
				t.Errorf("the claims were %s and are %s; there are %d pods", claims, now, len(w.API.all("Pod")))
			}
			if v := w.Violations(); len(v) > 0 {
				t.Errorf("broke %v\n%s", v, w.Notes(60))
			}
		})
	}
}
