package sim

import (
	"context"
	"slices"

	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/etcd/etcdtest"
	"github.com/quorate/quorate/internal/resources"
)

// Etcdctl is a connection to a member that serves, as a user makes it; nil when
// there is none.
func (w *World) Etcdctl() etcd.Conn {
	for _, r := range w.nodes.running() {
		if !w.Etcd.Ready(r.process) {
			continue
		}
		return w.dialByHand(r.process)
	}
	return nil
}

// dialByHand connects as a user does who has a certificate, and uses it where it is taken.
func (w *World) dialByHand(to *etcdtest.Process) etcd.Conn {
	endpoint := etcd.Endpoint{Address: to.Address, ServerName: to.Flags.Name, Plaintext: !slices.Contains(to.Flags.Takes, "https")}
	conn, err := w.Etcd.Dial("user", endpoint, etcd.Credentials{Certificate: []byte("the user's")})
	w.must(err)
	return conn
}

// AddByHand adds a learner as a user does with etcdctl.
func (w *World) AddByHand(url string) {
	if conn := w.Etcdctl(); conn != nil {
		_, err := conn.AddLearner(context.Background(), url)
		w.note("the user adds the learner %s: %v", url, err)
		w.wake()
	}
}

// AddVoterByHand adds a member that votes at once, and that nobody starts.
func (w *World) AddVoterByHand(url string) {
	conn := w.Etcdctl().(interface {
		AddVoter(context.Context, string) (etcd.Member, error)
	})
	_, err := conn.AddVoter(context.Background(), url)
	w.note("the user adds the voter %s: %v", url, err)
	w.must(err)
	w.wake()
}

// Blind has the leader lose track of its peers, as etcd does when a connection to an
// address of before fails late.
func (w *World) Blind() {
	w.note("%s does not see its peers any more", w.Leader())
	w.Etcd.Blind(w.nodes.runs[w.Pod(w.Leader()).UID].process)
}

// RemoveByHand removes the member of that URL as a user does with etcdctl.
func (w *World) RemoveByHand(url string) {
	truth, ok := w.Etcd.Truth(resources.Token(w.Cluster()))
	conn := w.Etcdctl()
	i := slices.IndexFunc(truth.Members, func(m etcd.Member) bool { return m.PeerURLs[0] == url })
	if !ok || conn == nil || i < 0 {
		return
	}
	w.note("the user removes the member %s: %v", url, conn.Remove(context.Background(), truth.Members[i].ID))
	w.wake()
}

// MoveLeaderByHand has another member lead, as a user does with etcdctl.
func (w *World) MoveLeaderByHand(to string) {
	c := w.Cluster()
	truth, _ := w.Etcd.Truth(resources.Token(c))
	leader := w.nodes.runs[w.Pod(w.Leader()).UID].process
	conn := w.dialByHand(leader)
	for _, m := range truth.Members {
		if m.Name == to {
			w.note("the user hands the leadership to %s", to)
			w.must(conn.MoveLeader(context.Background(), m.ID))
		}
	}
}

// Leader is the name of the member that leads; empty for none.
func (w *World) Leader() string {
	c := w.Cluster()
	truth, _ := w.Etcd.Truth(resources.Token(c))
	return nameOf(c, truth, truth.MemberID)
}
