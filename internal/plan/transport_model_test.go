package plan_test

import (
	"fmt"
	"testing"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// transport is a cluster of three while TLS is turned on: what the user wants, the mode
// that each pod was made in, and whether each peer URL is one with TLS.
type transport struct {
	wants v1alpha1.TLSMode
	made  [3]v1alpha1.TLSMode
	moved [3]bool
	leads int
}

func (s transport) observed() (*v1alpha1.EtcdCluster, plan.Observed) {
	c := &v1alpha1.EtcdCluster{}
	c.Spec.TLS.Mode = s.wants
	o := plan.Observed{
		Size: 3, TLS: resources.TLS(c), List: true, ReadOK: true, LeaderSettled: true, ClusterID: 1, AgreedClusterID: 1, VolumesLatched: true,
		Founders: []string{"c-0000", "c-0001", "c-0002"},
	}
	for i, mode := range s.made {
		o.PlaintextPeers = o.PlaintextPeers || !s.moved[i]
		id := uint64(i) + 1
		o.Members = append(o.Members, plan.Member{
			Name: resources.MemberName("c", i), Ordinal: i, Founder: true, Volume: plan.VolumeBound, VolumeLatched: true, RecordedID: id,
			Pod: plan.PodRunning, PodReady: true, Listed: true, ID: id, Started: true, Booted: true, Answers: true, AnswerClusterID: 1,
			Leads: i == s.leads, FollowsLeader: true, CaughtUp: true, Steady: true, Plaintext: !s.moved[i], TakesTLS: mode != v1alpha1.TLSDisabled,
		})
	}
	made := resources.MadeAs(c, o).Spec.TLS.Mode
	for i := range o.Members {
		o.Members[i].PodOutdated = s.made[i] != made
	}
	return resources.MadeAs(c, o), o
}

// cutOff says which member does not reach which.
func (s transport) cutOff() string {
	for from := range s.made {
		for to, mode := range s.made {
			reached := mode != v1alpha1.TLSEnabled
			if s.moved[to] {
				reached = mode != v1alpha1.TLSDisabled && s.made[from] != v1alpha1.TLSDisabled
			}
			if from != to && !reached {
				return fmt.Sprintf("member %d does not reach member %d", from, to)
			}
		}
	}
	return ""
}

// next are the states that an edit, the loss of a pod, an election and the operator lead
// to, the operator's first, if it does anything.
func (s transport) next(t *testing.T) (states []transport, acts bool) {
	made, o := s.observed()
	step := plan.Next(o)
	if len(step.Members) > 0 && step.Kind != plan.Wait {
		i, after := int(step.ID)-1, s
		switch step.Kind {
		case plan.RestartMember:
			after.made[i] = made.Spec.TLS.Mode
		case plan.UpdateMember:
			after.moved[i] = true
		case plan.MoveLeader:
			after.leads = i
		default:
			t.Fatalf("%+v: %s of %v", s, step.Kind, step.Members)
		}
		states, acts = append(states, after), true
	}
	for i := range s.made {
		remade, led := s, s
		remade.made[i], led.leads = made.Spec.TLS.Mode, i
		states = append(states, remade, led)
	}
	edits := map[v1alpha1.TLSMode]v1alpha1.TLSMode{
		v1alpha1.TLSDisabled: v1alpha1.TLSOptional, v1alpha1.TLSOptional: v1alpha1.TLSEnabled, v1alpha1.TLSEnabled: v1alpha1.TLSOptional,
	}
	edited := s
	edited.wants = edits[s.wants]
	return append(states, edited), acts
}

// TestEveryStateOfTurningTLSOn follows each edit, restart, election and loss of a pod from
// a plaintext cluster: members always reach each other, nobody takes plaintext away before
// the user does, and the operator comes to its end from everywhere.
func TestEveryStateOfTurningTLSOn(t *testing.T) {
	plaintext := v1alpha1.TLSDisabled
	begin := transport{wants: plaintext, made: [3]v1alpha1.TLSMode{plaintext, plaintext, plaintext}}
	known, queue := map[transport]bool{begin: true}, []transport{begin}
	for len(queue) > 0 {
		s := queue[0]
		queue = queue[1:]
		if wrong := s.cutOff(); wrong != "" {
			t.Fatalf("%+v: %s", s, wrong)
		}
		states, _ := s.next(t)
		for _, after := range states {
			if !known[after] {
				known[after] = true
				queue = append(queue, after)
			}
		}
		end, acts := s, true
		for steps := 0; acts; steps++ {
			var further []transport
			if further, acts = end.next(t); acts {
				end = further[0]
			}
			if steps > 20 {
				t.Fatalf("%+v: the operator comes to no end: %+v", s, end)
			}
		}
		want := transport{wants: s.wants, made: [3]v1alpha1.TLSMode{s.wants, s.wants, s.wants}, moved: [3]bool{true, true, true}, leads: end.leads}
		if s.wants == plaintext {
			want.moved = [3]bool{}
		}
		if end != want {
			t.Fatalf("%+v: the operator ends with %+v", s, end)
		}
	}
	t.Logf("%d states", len(known))
	if len(known) < 100 {
		t.Errorf("only %d states were reached", len(known))
	}
}
