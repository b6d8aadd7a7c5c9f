package sim

import (
	"maps"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/api/v1alpha1"
)

var threeNodes = []string{"node-1", "node-2", "node-3"}

// TestEverythingReboots: all nodes and the operator are off for longer than
// failover.replaceAfter. Whoever was a member is one afterwards, and nobody thought of
// another.
func TestEverythingReboots(t *testing.T) {
	for _, off := range []time.Duration{20 * time.Second, 3 * time.Minute, time.Hour} {
		for first := range threeNodes {
			w := workflow{name: "rebooting everything", before: founded(spec(3, plaintext, soon))}.start()
			was := slices.Sorted(slices.Values(w.names()))
			for _, node := range threeNodes {
				w.PowerOff(node)
			}
			w.For(off)
			for i := range threeNodes {
				w.PowerOn(threeNodes[(first+i)%3])
				// It dies with its node, and another one begins that remembers nothing.
				w.Operator().Kill()
				w.For(20 * time.Second)
			}
			healthy := w.Run(w.Healthy, 3*time.Minute)
			w.For(2 * time.Minute)
			is := slices.Sorted(slices.Values(w.names()))
			if v := w.Violations(); !healthy || w.changed() || !slices.Equal(was, is) || w.Cluster().Status.Joiner != "" || len(v) > 0 {
				t.Errorf("off for %v, %s back first: healthy %v, members changed %v, was %v, is %v, broke %v\n%s",
					off, threeNodes[first], healthy, w.changed(), was, is, v, w.Notes(60))
			}
		}
	}
}

// TestTheOperatorAloneIsCutOff: no member answers it, and the kubelets call all of them
// ready. It claims nothing, and changes nothing but status, for as long as that lasts.
func TestTheOperatorAloneIsCutOff(t *testing.T) {
	w := workflow{name: "cutting the operator off", before: founded(spec(3, plaintext, soon))}.start()
	for _, member := range []string{"c-0000", "c-0001", "c-0002"} {
		w.Unreachable(member, 10*time.Minute)
	}
	unknown := func() bool {
		available := meta.FindStatusCondition(w.Cluster().Status.Conditions, v1alpha1.ConditionAvailable)
		return available != nil && available.Status == metav1.ConditionUnknown
	}
	if !w.Run(unknown, noticing) {
		t.Errorf("status claims to know\n%s", w.Notes(40))
	}
	w.calls = nil
	w.For(9 * time.Minute)
	writes := slices.DeleteFunc(slices.Clone(w.calls), func(c CallSeen) bool {
		return !c.Changes || c.kind() == "UpdateStatus EtcdCluster" || c.kind() == "PatchStatus EtcdCluster"
	})
	if !unknown() || len(writes) > 0 {
		t.Errorf("unknown %v, and it wrote %v\n%s", unknown(), writes, w.Notes(40))
	}
	if !w.Run(w.Healthy, 3*time.Minute) || w.changed() || len(w.Violations()) > 0 {
		t.Errorf("afterwards: members changed %v, broke %v\n%s", w.changed(), w.Violations(), w.Notes(40))
	}
}

// TestAForeignVoterBlocksAReplacement: it counts for the quorum, so nobody is replaced
// beside it; once it is removed by hand it holds nothing up any more.
func TestAForeignVoterBlocksAReplacement(t *testing.T) {
	const foreign = "http://10.9.9.9:2380"
	w := workflow{name: "a foreign voter", before: founded(spec(5, plaintext))}.start()
	w.AddVoterByHand(foreign)
	lose("c-0001")(w)
	w.For(5 * time.Minute)
	ready := meta.FindStatusCondition(w.Cluster().Status.Conditions, v1alpha1.ConditionReady)
	if w.changed() || ready.Reason != v1alpha1.ReasonUnknownMember {
		t.Errorf("members changed %v, and Ready says %s: %s\n%s", w.changed(), ready.Reason, ready.Message, w.Notes(60))
	}
	w.RemoveByHand(foreign)
	if !w.Run(w.Healthy, patience) || len(w.Violations()) > 0 {
		t.Errorf("without it: broke %v\n%s", w.Violations(), w.Notes(60))
	}
}

// TestACrashLoopOnIntactDataReplacesNobody: etcd ends again and again for want of memory
// or for a flag that it does not know. That is told, for as long as it lasts, and neither
// the member nor anybody else is touched for it.
func TestACrashLoopOnIntactDataReplacesNobody(t *testing.T) {
	for reason, end := range map[string]corev1.ContainerStateTerminated{
		v1alpha1.ReasonMemberOOM:          {ExitCode: 137, Reason: "OOMKilled"},
		v1alpha1.ReasonMemberCrashLooping: {ExitCode: 2, Reason: "Error", Message: "flag provided but not defined: -nonsense"},
	} {
		w := workflow{name: "a crash loop", before: founded(spec(3, plaintext, soon))}.start()
		before := w.uids()
		w.Crashes = map[string]corev1.ContainerStateTerminated{"c-0001": end}
		w.Crash("c-0001")
		told := func() bool {
			stalled := meta.FindStatusCondition(w.Cluster().Status.Conditions, v1alpha1.ConditionStalled)
			return stalled != nil && stalled.Status == metav1.ConditionTrue && stalled.Reason == reason
		}
		if !w.Run(told, time.Minute) {
			t.Errorf("%s is not told\n%s", reason, w.Notes(40))
		}
		w.For(time.Hour)
		if !told() || w.changed() || w.Cluster().Status.Joiner != "" || !maps.Equal(before, w.uids()) {
			t.Errorf("%s after an hour: told %v, members changed %v, pods were %v and are %v\n%s", reason, told(), w.changed(), before, w.uids(), w.Notes(40))
		}
		w.Crashes = nil
		if !w.Run(w.Healthy, 3*time.Minute) || w.changed() || len(w.Violations()) > 0 {
			t.Errorf("%s, mended: healthy %v, members changed %v, broke %v\n%s", reason, w.Healthy(), w.changed(), w.Violations(), w.Notes(40))
		}
	}
}

// uids of the members' pods and claims.
func (w *World) uids() map[string]types.UID {
	out := map[string]types.UID{}
	for _, m := range []string{"c-0000", "c-0001", "c-0002"} {
		if pod := w.Pod(m); pod != nil {
			out[m] = pod.UID
		}
		if claim := w.Claim(m); claim != nil {
			out["data-"+m] = claim.UID
		}
	}
	return out
}
