package sim

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
)

// soon has nodes given up after a minute.
func soon(s *v1alpha1.EtcdClusterSpec) {
	s.Failover.ReplaceAfter = metav1.Duration{Duration: time.Minute}
}

// impatient has a learner given up that makes no progress for a minute.
func impatient(s *v1alpha1.EtcdClusterSpec) {
	s.Failover.LearnerTimeout = metav1.Duration{Duration: time.Minute}
}

// portable has the volumes follow their pods when a node is abandoned.
func portable(do func(*World)) func(*World) {
	return func(w *World) {
		w.Portable = true
		do(w)
	}
}

// deaf has the members never hear of their peers, if they ever start.
func deaf(do func(*World), members ...string) func(*World) {
	return func(w *World) {
		for _, m := range members {
			w.Deaf[m] = true
		}
		do(w)
	}
}

func resize(size int32) func(*World) { return func(w *World) { w.Apply(spec(size)) } }

// lose the claims and the pods of members.
func lose(members ...string) func(*World) {
	return func(w *World) {
		for _, m := range members {
			deleteClaim(w, m)
			deletePod(w, m)
		}
		w.check.disturbed()
	}
}

// noticing is how long it takes until a loss shows in status.
const noticing = 15 * time.Second

// noticed has the run go on until what was done must have been noticed.
func noticed(do func(*World)) func(*World) {
	return func(w *World) {
		do(w)
		w.check.disturbed()
		w.After(noticing, func() {})
	}
}

// memberships are the workflows in which it changes who is a member.
func memberships() []workflow {
	three, one := founded(spec(3, plaintext)), founded(spec(1, plaintext))
	const foreign = "http://10.9.9.9:2380"
	all := []workflow{
		{name: "growing from one to three", every: true, faults: true, shared: true, before: one, begin: resize(3)},
		{name: "growing from three to five with TLS", before: founded(spec(3)), begin: resize(5)},
		{name: "growing while the leader does not see its peers", shared: true, before: three, begin: func(w *World) {
			w.Blind()
			w.Apply(spec(5))
		}},
		{name: "replacing a member while the leader does not see its peers", before: three, begin: func(w *World) {
			lose("c-0001")(w)
			w.After(3*time.Second, w.Blind)
		}},
		{name: "shrinking from five to three", faults: true, shared: true, before: founded(spec(5, plaintext)), begin: resize(3)},
		{name: "shrinking from three to one with TLS", faults: true, before: founded(spec(3)), begin: resize(1)},
		{name: "changing one's mind twice", shared: true, before: three, begin: func(w *World) {
			w.Apply(spec(5))
			w.After(2*time.Second, func() { w.Apply(spec(1)) })
			w.After(4*time.Second, func() { w.Apply(spec(3)) })
		}},
		{name: "growing and shrinking and growing again", before: one, begin: func(w *World) {
			w.Apply(spec(3))
			w.After(20*time.Second, func() { w.Apply(spec(1)) })
			w.After(30*time.Second, func() { w.Apply(spec(3)) })
		}},
		{name: "replacing a member whose claim and pod are deleted", every: true, faults: true, shared: true, before: three, begin: lose("c-0001")},
		{name: "replacing a member whose claim and pod are deleted, with TLS", before: founded(spec(3)), begin: lose("c-0001")},
		{name: "replacing a member whose data is wiped", faults: true, shared: true, before: three, begin: noticed(func(w *World) {
			w.Wipe("c-0001", WipeAll)
			w.Crash("c-0001")
		})},
		{name: "replacing a member whose claim is deleted while it runs", faults: true, shared: true, before: three, begin: noticed(func(w *World) { deleteClaim(w, "c-0001") })},
		{name: "replacing the leader whose claim is deleted while it runs", shared: true, before: three, begin: noticed(func(w *World) { deleteClaim(w, w.Leader()) })},
		{name: "replacing a member whose node is lost", faults: true, before: founded(spec(3, plaintext, soon)), begin: noticed(func(w *World) { w.PowerOff(w.NodeOf("c-0001")) })},
		{name: "replacing a member whose node comes back too late", shared: true, before: founded(spec(3, plaintext, soon)), begin: func(w *World) {
			node := w.NodeOf("c-0001")
			w.PowerOff(node)
			w.After(4*time.Minute, func() { w.PowerOn(node) })
		}},
		{name: "keeping a member whose node comes back in time", before: founded(spec(3, plaintext, soon)), begin: func(w *World) {
			node := w.NodeOf("c-0001")
			w.PowerOff(node)
			w.After(50*time.Second, func() { w.PowerOn(node) })
		}},
		{name: "keeping members whose nodes are lost at once", before: founded(spec(3, plaintext, soon)), begin: func(w *World) {
			one, two := w.NodeOf("c-0001"), w.NodeOf("c-0002")
			w.PowerOff(one)
			w.CutOff(two)
			w.After(3*time.Minute, func() { w.PowerOn(one); w.Reconnect(two) })
		}},
		{name: "replacing a member of a cut-off node whose pod is deleted by force", shared: true, before: founded(spec(3, plaintext, soon)), begin: func(w *World) {
			node := w.NodeOf("c-0001")
			w.CutOff(node)
			w.After(10*time.Second, func() { w.ForceDelete("c-0001") })
			w.After(4*time.Minute, func() { w.Reconnect(node) })
		}},
		{name: "keeping a member of a cut-off node whose pod is deleted by force", before: founded(spec(3, plaintext, soon)), begin: func(w *World) {
			node := w.NodeOf("c-0001")
			w.CutOff(node)
			w.After(5*time.Second, func() { w.ForceDelete("c-0001") })
			w.After(30*time.Second, func() { w.Reconnect(node) })
		}},
		{name: "replacing a member in memory whose pod is deleted", every: true, faults: true, shared: true, before: founded(spec(3, plaintext, inMemory)), begin: deletePods("c-0001")},
		{name: "putting back the labels of a claim and of a pod", every: true, faults: true, shared: true, before: three, begin: noticed(func(w *World) {
			unlabel(w, w.Claim("c-0001"), v1alpha1.LabelClusterUID)
			unlabel(w, w.Pod("c-0002"), v1alpha1.LabelIncarnation)
		})},
		{name: "replacing a member in memory whose pod is evicted", faults: true, shared: true, before: founded(spec(3, plaintext, inMemory)), begin: noticed(func(w *World) { w.Evict("c-0001") })},
		{name: "replacing a founder in memory whose pod is rejected, and joiners too", begin: func(w *World) {
			rejecting(w, 25*time.Second, "c-0002", "c-0003")
			w.Apply(spec(3, plaintext, inMemory))
		}},
		{name: "growing in memory", before: founded(spec(1, plaintext, inMemory)), begin: resize(3)},
		{name: "shrinking in memory", before: founded(spec(3, inMemory)), begin: resize(1)},
		{name: "replacing a member whose data is corrupt", shared: true, before: three, begin: noticed(func(w *World) { w.Corrupt("c-0001") })},
		{name: "replacing a member that was removed by hand", faults: true, shared: true, before: three, begin: func(w *World) { w.RemoveByHand(urlOf("c-0001")) }},
		{name: "removing a learner of our naming that was added by hand", before: three, begin: func(w *World) { w.AddByHand(urlOf("c-0007")) }},
		{name: "growing once a foreign learner is removed by hand", shared: true, before: three, begin: func(w *World) {
			w.AddByHand(foreign)
			w.Apply(spec(5))
			w.After(20*time.Second, func() { w.RemoveByHand(foreign) })
		}},
		{name: "growing with a pause in the middle", faults: true, shared: true, before: three, begin: func(w *World) {
			w.Apply(spec(5))
			w.After(900*time.Millisecond, func() { w.Apply(func(s *v1alpha1.EtcdClusterSpec) { s.Paused = true }) })
			w.After(30*time.Second, func() { w.Apply(func(s *v1alpha1.EtcdClusterSpec) { s.Paused = false }) })
		}},
		{name: "deleting a cluster that grows", done: goneWithVolumes, before: founded(spec(1, deleteAll)), begin: func(w *World) {
			w.Apply(spec(3))
			w.After(900*time.Millisecond, func() { deleteCluster(w) })
		}},
		{name: "trying another learner when the first makes no progress", faults: true, shared: true, before: founded(spec(3, plaintext, impatient)), begin: deaf(resize(5), "c-0003")},
		{name: "replacing a member when the first learner makes no progress", shared: true, before: founded(spec(3, plaintext, impatient)), begin: deaf(lose("c-0001"), "c-0003", "c-0004")},
		{name: "replacing one of five members", shared: true, before: founded(spec(5, plaintext)), begin: lose("c-0003")},
		{name: "replacing a member whose volume is lost", shared: true, before: three, begin: noticed(func(w *World) { w.LoseVolume("c-0001") })},
		{name: "replacing a member whose volume is somebody else's", before: three, begin: noticed(func(w *World) { w.Swap("c-0001") })},
		{name: "replacing a member whose claim is deleted once it can be reached", shared: true, before: three, begin: noticed(func(w *World) {
			deleteClaim(w, "c-0001")
			w.Unreachable("c-0001", 30*time.Second)
		})},
		{name: "keeping a member that cannot be reached", shared: true, before: founded(spec(3, plaintext, soon)), begin: noticed(func(w *World) { w.Unreachable("c-0001", 3*time.Minute) })},
		{name: "moving a member whose node is out of service", shared: true, before: three, begin: portable(noticed(func(w *World) { w.TakeOutOfService(w.NodeOf("c-0001")) }))},
		{name: "replacing a member whose node is out of service", shared: true, before: three, begin: noticed(func(w *World) { w.TakeOutOfService(w.NodeOf("c-0001")) })},
		{name: "moving a member whose node is deleted", before: three, begin: portable(noticed(func(w *World) { w.DeleteNode(w.NodeOf("c-0001")) }))},
		{name: "replacing a member whose node is deleted", shared: true, before: founded(spec(3, plaintext, soon)), begin: noticed(func(w *World) { w.DeleteNode(w.NodeOf("c-0001")) })},
		{name: "shrinking from three to one while the youngest leads", before: three, begin: func(w *World) {
			w.MoveLeaderByHand("c-0002")
			w.Apply(spec(1))
		}},
		{
			name: "ending a quarantine",
			before: founded(spec(3, func(s *v1alpha1.EtcdClusterSpec) {
				s.Storage.QuarantineFor = metav1.Duration{Duration: 2 * time.Minute}
			})),
			begin: func(w *World) {
				w.RemoveByHand("https" + urlOf("c-0001")[len("http"):])
				w.After(7*time.Minute, func() {})
			},
		},
	}
	for i := range all {
		all[i].end, all[i].long = (*World).Shape, true
	}
	return all
}

// TestWorkflowsDoWhatTheirNamesSay: whoever is kept, repaired or moved stays a
// member, and whoever is replaced does not; the shape of the end does not tell.
func TestWorkflowsDoWhatTheirNamesSay(t *testing.T) {
	for _, f := range workflows() {
		what, _, _ := strings.Cut(f.name, " ")
		t.Run(f.name, func(t *testing.T) {
			calls, _ := f.undisturbed(t)
			has := map[string]bool{}
			for _, c := range calls {
				has[c.Method] = true
			}
			changed := has["Remove"] || has["AddLearner"]
			switch what {
			case "keeping", "moving", "repairing":
				if changed {
					t.Error("somebody was removed or added")
				}
			case "turning":
				if !has["UpdateMember"] {
					t.Error("no peer URL was changed")
				}
			case "replacing", "trying":
				if !has["AddLearner"] || !has["Promote"] || (!has["Remove"] && !strings.HasSuffix(f.name, "by hand")) {
					t.Errorf("nobody was replaced: %v", has)
				}
			}
		})
	}
}

// TestAForeignMemberIsNamedAndBlocks: status names it, and nobody is added or
// removed while it is there.
func TestAForeignMemberIsNamedAndBlocks(t *testing.T) {
	f := workflow{name: "a foreign member", before: founded(spec(3, plaintext))}
	w := f.start()
	w.AddByHand("http://10.9.9.9:2380")
	w.Apply(spec(5))
	named := func() bool {
		return slices.ContainsFunc(w.Cluster().Status.Conditions, func(c metav1.Condition) bool {
			return c.Reason == "UnknownMember" && strings.Contains(c.Message, "http://10.9.9.9:2380")
		})
	}
	if !w.Run(named, 15*time.Second) {
		t.Errorf("no condition names the foreign member\n%s", w.Notes(60))
	}
	w.For(5 * time.Minute)
	if !named() || w.changed() || len(w.Violations()) > 0 {
		t.Errorf("named %v, members changed %v, broke %v\n%s", named(), w.changed(), w.Violations(), w.Notes(60))
	}
}

// unlabel takes a label off an object, as a user does.
func unlabel(w *World, o client.Object, label string) {
	w.note("the user takes %s off %s %s", label, kindOf(o), o.GetName())
	edit(w.API, o, func(o client.Object) { o.SetLabels(without(o.GetLabels(), label)) })
}

func without(labels map[string]string, label string) map[string]string {
	left := maps.Clone(labels)
	delete(left, label)
	return left
}

// TestLabelsArePutBack: whichever label somebody takes off or changes, it is back
// soon, in the same pods and claims, and nobody is replaced.
func TestLabelsArePutBack(t *testing.T) {
	for _, memory := range []bool{false, true} {
		for _, label := range []string{v1alpha1.LabelCluster, v1alpha1.LabelClusterUID, v1alpha1.LabelIncarnation, v1alpha1.LabelMember} {
			mutate := []func(*v1alpha1.EtcdClusterSpec){plaintext}
			if memory {
				mutate = append(mutate, inMemory)
			}
			w := workflow{name: t.Name(), before: founded(spec(3, mutate...))}.start()
			find := func() []client.Object {
				if memory {
					return []client.Object{w.Pod("c-0001"), w.Pod("c-0002")}
				}
				return []client.Object{w.Pod("c-0001"), w.Pod("c-0002"), w.Claim("c-0001"), w.Claim("c-0002")}
			}
			before := find()
			for _, o := range before {
				unlabel(w, o, label)
			}
			w.For(noticing)
			for i, now := range find() {
				if now.GetUID() != before[i].GetUID() || now.GetLabels()[label] != before[i].GetLabels()[label] {
					t.Errorf("in memory %v, %s of %s %s: %q, want %q; UID %s, want %s", memory, label, kindOf(now), now.GetName(),
						now.GetLabels()[label], before[i].GetLabels()[label], now.GetUID(), before[i].GetUID())
				}
			}
			if v := w.Violations(); !w.Healthy() || w.changed() || len(v) > 0 {
				t.Errorf("in memory %v, %s: healthy %v, members changed %v, broke %v\n%s", memory, label, w.Healthy(), w.changed(), v, w.Notes(noteLines()))
			}
		}
	}
}

// urlOf a member's peers, in plaintext.
func urlOf(member string) string { return "http://" + member + ".c.default.svc:2380" }
