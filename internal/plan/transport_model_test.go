package plan_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// transport is a cluster of three while TLS is turned on: what the user wants, how each pod
// was made, and the peer URL at which each member is listed.
type transport struct {
	wants  v1alpha1.TLSMode
	made   [3]listening
	listed [3]string
	leads  int
}

// listening is the mode that a pod was made in, and where it listens for its peers.
type listening struct {
	mode v1alpha1.TLSMode
	at   string
}

// listens is how a pod is made of the cluster.
func listens(c *v1alpha1.EtcdCluster) listening {
	for _, argument := range resources.MemberPod(c, resources.Start{Member: "c-0000"}).Spec.Containers[0].Command {
		if at, found := strings.CutPrefix(argument, "--listen-peer-urls="); found {
			return listening{mode: c.Spec.TLS.Mode, at: at}
		}
	}
	panic("a member listens for no peers")
}

// inMode is the cluster, as far as it counts here.
func inMode(mode v1alpha1.TLSMode) *v1alpha1.EtcdCluster {
	c := &v1alpha1.EtcdCluster{}
	c.Name, c.Namespace, c.Spec.TLS.Mode, c.Spec.Etcd.QuotaBackendBytes = "c", "ns", mode, resource.MustParse("1Gi")
	return c
}

// plaintext says that a URL is one without TLS.
func plaintext(url string) bool { return strings.HasPrefix(url, "http://") }

func (s transport) observed() (*v1alpha1.EtcdCluster, plan.Observed) {
	c := inMode(s.wants)
	o := plan.Observed{
		Size: 3, TLS: resources.TLS(c), List: true, ReadOK: true, LeaderSettled: true, ClusterID: 1, AgreedClusterID: 1, VolumesLatched: true,
		Founders: []string{"c-0000", "c-0001", "c-0002"},
	}
	for i, made := range s.made {
		o.PlaintextPeers = o.PlaintextPeers || plaintext(s.listed[i])
		id := uint64(i) + 1
		o.Members = append(o.Members, plan.Member{
			Name: resources.MemberName("c", i), Ordinal: i, Founder: true, Volume: plan.VolumeBound, VolumeLatched: true, RecordedID: id,
			Pod: plan.PodRunning, PodReady: true, Listed: true, ID: id, Started: true, Booted: true, Answers: true, AnswerClusterID: 1,
			Leads: i == s.leads, FollowsLeader: true, CaughtUp: true, Steady: true,
			PeerURL: s.listed[i], Plaintext: plaintext(s.listed[i]), TakesTLS: made.mode != v1alpha1.TLSDisabled,
		})
	}
	made := resources.MadeAs(c, o)
	for i := range o.Members {
		o.Members[i].PodOutdated = s.made[i].mode != made.Spec.TLS.Mode
	}
	return made, o
}

// cutOff says which member does not reach which.
func (s transport) cutOff() string {
	for from, dials := range s.made {
		for to, listens := range s.made {
			scheme, rest, _ := strings.Cut(s.listed[to], "://")
			_, port, _ := strings.Cut(rest, ":")
			reached := slices.Contains(strings.Split(listens.at, ","), scheme+"://0.0.0.0:"+port)
			if from != to && (!reached || (scheme != "http" && dials.mode == v1alpha1.TLSDisabled)) {
				return fmt.Sprintf("member %d does not reach member %d", from, to)
			}
		}
	}
	return ""
}

// next are the states that an edit, the loss of a pod, another member in the place of one,
// an election and the operator lead to, the operator's first, if it does anything.
func (s transport) next(t *testing.T) (states []transport, acts bool) {
	made, o := s.observed()
	step := plan.Next(o)
	if len(step.Members) > 0 && step.Kind != plan.Wait {
		i, after := int(step.ID)-1, s
		switch step.Kind {
		case plan.RestartMember:
			after.made[i] = listens(made)
		case plan.UpdateMember:
			after.listed[i] = resources.TurnedPeerURL(made, step.Members[0])
		case plan.MoveLeader:
			after.leads = i
		default:
			t.Fatalf("%+v: %s of %v", s, step.Kind, step.Members)
		}
		states, acts = append(states, after), true
	}
	for i := range s.made {
		remade, led := s, s
		remade.made[i], led.leads = listens(made), i
		replaced := remade
		replaced.listed[i] = resources.JoinURL(inMode(s.wants), o, resources.MemberName("c", i))
		states = append(states, remade, led, replaced)
	}
	edits := map[v1alpha1.TLSMode]v1alpha1.TLSMode{
		v1alpha1.TLSDisabled: v1alpha1.TLSOptional, v1alpha1.TLSOptional: v1alpha1.TLSEnabled, v1alpha1.TLSEnabled: v1alpha1.TLSOptional,
	}
	edited := s
	edited.wants = edits[s.wants]
	return append(states, edited), acts
}

// founded is a cluster as a release before this one left it: it knew one peer port.
func founded(mode v1alpha1.TLSMode, scheme string) transport {
	s := transport{wants: mode}
	for i := range s.made {
		s.made[i] = listening{mode: mode, at: scheme + "://0.0.0.0:2380"}
		s.listed[i] = fmt.Sprintf("%s://c-%04d.c.ns.svc:2380", scheme, i)
	}
	return s
}

// ends says how the operator leaves the cluster, if nothing else happens; wrong is not
// empty if it should not.
func (s transport) ends(t *testing.T) (end transport, wrong string) {
	end, acts := s, true
	for steps := 0; acts; steps++ {
		var further []transport
		if further, acts = end.next(t); acts {
			end = further[0]
		}
		if steps > 20 {
			return end, "the operator comes to no end"
		}
	}
	for i, made := range end.made {
		if made.mode != s.wants || plaintext(end.listed[i]) != (s.wants == v1alpha1.TLSDisabled) {
			return end, "the operator ends too early"
		}
	}
	return end, ""
}

// TestEveryStateOfTurningTLSOn follows each edit, restart, election, and loss of a pod or
// a member from a plaintext cluster, and from one that was founded with TLS: members always
// reach each other, nobody takes plaintext away before the user does, and the operator comes
// to its end from everywhere. A cluster of an older release is left as it is.
func TestEveryStateOfTurningTLSOn(t *testing.T) {
	for scheme, begin := range map[string]transport{
		"http": founded(v1alpha1.TLSDisabled, "http"), "https": founded(v1alpha1.TLSEnabled, "https"),
	} {
		if end, _ := begin.ends(t); end != begin {
			t.Errorf("%s: a new operator makes %+v of it", scheme, end)
		}
		known, queue := map[transport]bool{begin: true}, []transport{begin}
		for len(queue) > 0 {
			s := queue[0]
			queue = queue[1:]
			if wrong := s.cutOff(); wrong != "" {
				t.Fatalf("%s: %+v: %s", scheme, s, wrong)
			}
			states, _ := s.next(t)
			for _, after := range states {
				if !known[after] {
					known[after] = true
					queue = append(queue, after)
				}
			}
			if end, wrong := s.ends(t); wrong != "" {
				t.Fatalf("%s: %+v: %s: %+v", scheme, s, wrong, end)
			}
		}
		t.Logf("%s: %d states", scheme, len(known))
		if len(known) < 100 {
			t.Errorf("%s: only %d states were reached", scheme, len(known))
		}
	}
}
