package observe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// etcdCluster answers as a test wants. What etcd itself would answer is
// etcdtest's business; here the observer has to cope with any answer.
type etcdCluster struct {
	mu        sync.Mutex
	members   map[string]*etcdMember
	list      []etcd.Member
	alarms    []etcd.Alarm
	proposals int
	readFails error
	// proposalFails is what a proposal gets for an answer.
	proposalFails error
	kept          []string
	// dialed are the endpoints that were, by the pod's address.
	dialed map[string]etcd.Endpoint
}

type etcdMember struct {
	status etcd.Status
	fails  error
}

// newEtcd is a healthy etcd of three, led by the first.
func newEtcd(c *v1alpha1.EtcdCluster) *etcdCluster {
	e := &etcdCluster{members: map[string]*etcdMember{}}
	for i := range 3 {
		name := resources.MemberName(c.Name, i)
		e.members[address(i)] = &etcdMember{status: etcd.Status{
			ClusterID: clusterID, MemberID: uint64(i) + 1, Leader: 1, Term: 2, Version: "3.6.16", DBSize: 20480,
		}}
		e.list = append(e.list, etcd.Member{
			ID: uint64(i) + 1, Name: name, PeerURLs: []string{resources.PeerURL(c, name)}, ClientURLs: []string{resources.ClientURL(c, name)},
		})
	}
	return e
}

func (e *etcdCluster) silent(address string) { e.fails(address, etcd.ErrUnreachable) }

func (e *etcdCluster) fails(address string, err error) {
	e.members[address].fails = fmt.Errorf("status of %s: %w", address, err)
}

// elect makes the member the leader that all that answer follow.
func (e *etcdCluster) elect(id, term uint64) {
	for _, m := range e.members {
		m.status.Leader, m.status.Term = id, term
	}
}

func (e *etcdCluster) Dial(_ string, to etcd.Endpoint, _ etcd.Credentials) (etcd.Conn, error) {
	host := to.Address[:len(to.Address)-len(":2379")]
	if e.dialed != nil {
		e.dialed[host] = to
	}
	m, ok := e.members[host]
	if !ok {
		return nil, etcd.ErrUnreachable
	}
	return &conn{cluster: e, member: m}, nil
}

func (e *etcdCluster) Keep(_ string, endpoints ...etcd.Endpoint) {
	e.kept = nil
	for _, to := range endpoints {
		e.kept = append(e.kept, to.Address)
	}
	slices.Sort(e.kept)
}

type conn struct {
	etcd.Conn
	cluster *etcdCluster
	member  *etcdMember
}

func (c *conn) Status(context.Context) (etcd.Status, error) { return c.member.status, c.member.fails }

func (c *conn) Members(context.Context) (etcd.Membership, error) {
	if c.member.fails != nil {
		return etcd.Membership{}, c.member.fails
	}
	return etcd.Membership{ClusterID: c.member.status.ClusterID, MemberID: c.member.status.MemberID, Members: c.cluster.list}, nil
}

func (c *conn) Read(context.Context) error { return c.cluster.readFails }

func (c *conn) Alarms(context.Context) ([]etcd.Alarm, error) { return c.cluster.alarms, nil }

func (c *conn) Propose(context.Context) error {
	c.cluster.mu.Lock()
	defer c.cluster.mu.Unlock()
	c.cluster.proposals++
	return c.cluster.proposalFails
}

// TestProof: a proposal is sent on the first look and after each doubt, and
// never at rest.
func TestProof(t *testing.T) {
	w := founded(t)
	steps := []struct {
		what     string
		do       func()
		proposes bool
		failed   bool
	}{
		{"the first look", func() {}, true, false},
		{"at rest", func() {}, false, false},
		{"another member leads", func() { w.etcd.elect(2, 3) }, true, false},
		{"at rest under the new leader", func() {}, false, false},
		{"a new term of the same leader", func() { w.etcd.elect(2, 4) }, true, false},
		{"a follower is silent", func() { w.etcd.silent(address(2)) }, false, false},
		{"a follower is back", func() { w.etcd.members[address(2)].fails = nil }, false, false},
		{"the leader cannot be reached", func() { w.etcd.silent(address(1)) }, false, false},
		{"another one leads that cannot be reached", func() { w.etcd.elect(2, 5) }, true, false},
		{"the leader can be reached again", func() { w.etcd.members[address(1)].fails = nil }, false, false},
		{"a read fails", func() { w.etcd.readFails = etcd.ErrNoLeader }, false, false},
		{"reads succeed again", func() { w.etcd.readFails = nil }, true, false},
		{"an alarm is raised", func() {
			w.etcd.alarms, w.etcd.proposalFails = []etcd.Alarm{{MemberID: 1, Kind: etcd.AlarmNoSpace}}, etcd.ErrNoSpace
		}, true, true},
		{"the alarm is still raised", func() {}, true, true},
		{"the alarm is disarmed", func() { w.etcd.alarms, w.etcd.proposalFails = nil, nil }, true, false},
		{"a proposal gets no answer", func() {
			w.etcd.elect(1, 6)
			w.etcd.proposalFails = errors.New("no answer")
		}, true, true},
		{"proposals succeed again", func() { w.etcd.proposalFails = nil }, true, false},
		{"at rest again", func() {}, false, false},
		{"nobody answers", func() {
			for i := range 3 {
				w.etcd.silent(address(i))
			}
		}, false, false},
		{"all answer again", func() {
			for i := range 3 {
				w.etcd.members[address(i)].fails = nil
			}
		}, true, false},
		{"an operator that has just started", func() { w.observer = nil }, true, false},
	}
	for _, step := range steps {
		step.do()
		before := w.etcd.proposals
		seen := w.see()
		if got := w.etcd.proposals - before; (got > 0) != step.proposes || got > 1 {
			t.Errorf("%s: %d proposals, want one: %v", step.what, got, step.proposes)
		}
		if (seen.ProposeFailed != "") != step.failed {
			t.Errorf("%s: the proposal failed with %q, want a failure: %v", step.what, seen.ProposeFailed, step.failed)
		}
	}
}

// TestWhomToAsk: the leader first, nobody who hangs, learners or strangers, and
// two at most.
func TestWhomToAsk(t *testing.T) {
	answer := func(id, leader uint64) etcd.Status {
		return etcd.Status{ClusterID: clusterID, MemberID: id, Leader: leader}
	}
	cases := map[string]struct {
		answers map[string]etcd.Status
		want    []string
	}{
		"the leader comes first":   {map[string]etcd.Status{"a": answer(1, 3), "b": answer(2, 3), "c": answer(3, 3)}, []string{"c", "a"}},
		"no leader answers":        {map[string]etcd.Status{"b": answer(2, 3), "a": answer(1, 3)}, []string{"a", "b"}},
		"nobody knows a leader":    {map[string]etcd.Status{"a": answer(1, 0)}, nil},
		"a learner is not asked":   {map[string]etcd.Status{"a": {ClusterID: clusterID, MemberID: 1, Leader: 2, Learner: true}}, nil},
		"another cluster's is not": {map[string]etcd.Status{"a": {ClusterID: 0xbad, MemberID: 1, Leader: 1}, "b": answer(2, 3)}, []string{"b"}},
		"nobody":                   {nil, nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			l := look{answers: tc.answers}
			if got := l.order(clusterID); !slices.Equal(got, tc.want) {
				t.Errorf("order() = %v, want %v", got, tc.want)
			}
		})
	}
}

func TestSecondMemberIsAsked(t *testing.T) {
	w := founded(t)
	// The leader still answers for itself, and hangs on what needs a quorum.
	w.etcd.members[address(0)].fails = nil
	hung := &hangingLeader{etcdCluster: w.etcd}
	w.observer = &Observer{Dialer: hung, Clock: w.clock}
	seen := w.see()
	if !seen.List || !seen.ReadOK {
		t.Errorf("a leader that hangs hides the majority behind it: %+v", seen)
	}
	if m, _ := seen.Member("a-0000"); !m.Answers {
		t.Error("the leader answered for itself and counts as silent")
	}
}

// hangingLeader refuses membership calls at the first member.
type hangingLeader struct{ *etcdCluster }

func (h *hangingLeader) Dial(group string, to etcd.Endpoint, as etcd.Credentials) (etcd.Conn, error) {
	c, err := h.etcdCluster.Dial(group, to, as)
	if err == nil && to.Address == address(0)+":2379" {
		return noQuorum{c}, nil
	}
	return c, err
}

type noQuorum struct{ etcd.Conn }

func (noQuorum) Members(context.Context) (etcd.Membership, error) {
	return etcd.Membership{}, etcd.ErrNoLeader
}

// TestGhost: an entry of etcd's list that has neither claim nor pod is a member
// all the same.
func TestGhost(t *testing.T) {
	w := founded(t)
	w.etcd.list = append(w.etcd.list, etcd.Member{ID: 9, PeerURLs: []string{resources.PeerURL(w.cluster, "a-0007")}})
	seen := w.see()
	if m, ok := seen.Member("a-0007"); !ok || !m.Listed || m.Ordinal != 7 || m.Started || len(seen.ForeignMembers) > 0 {
		t.Errorf("saw %+v", seen.Members)
	}
	if step := plan.Next(seen); step.Kind == plan.Settled {
		t.Error("a cluster with a ghost is settled")
	}
}

func TestConnectionsAreKeptAndForgotten(t *testing.T) {
	w := founded(t)
	w.see()
	if want := []string{"10.0.0.1:2379", "10.0.0.2:2379", "10.0.0.3:2379"}; !slices.Equal(w.etcd.kept, want) {
		t.Errorf("kept %v, want %v", w.etcd.kept, want)
	}
	noPod(w)
	w.see()
	if len(w.etcd.kept) != 2 {
		t.Errorf("kept %v although a pod is gone", w.etcd.kept)
	}
	w.observer.Forget(client.ObjectKeyFromObject(w.cluster))
	if len(w.etcd.kept) != 0 {
		t.Errorf("kept %v although the cluster is gone", w.etcd.kept)
	}
	before := w.etcd.proposals
	if w.see(); w.etcd.proposals == before {
		t.Error("a cluster that was forgotten is still taken for proven")
	}
}
