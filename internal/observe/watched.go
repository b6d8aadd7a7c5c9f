package observe

import (
	"cmp"
	"fmt"
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/plan"
)

// steadyFor is how long what is known of a member must have been the same before
// anything is removed because of it.
const steadyFor = 2 * time.Second

// watched is what was seen of a cluster's members over time. A new operator knows
// nothing of it and waits anew, which is the safe side.
type watched struct {
	since time.Time
	// leader is who led in the last look, and in which term, since when.
	leader  leadership
	members map[string]*watchedMember
}

// leadership of one member in one term, and when it was first seen.
type leadership struct {
	leader, term uint64
	since        time.Time
}

// settledFor is how long a leader must have led before a voter that serves clients
// is removed by choice. A request that was on its way through a follower when the
// leader changed is lost without a word and costs its sender a timeout; another one
// right after it, to a member that is gone, would double that.
const settledFor = time.Second

// lead notes who leads, and says whether that is old news.
func (l *leadership) lead(leader, term uint64, now time.Time) bool {
	if leader != l.leader || term != l.term {
		*l = leadership{leader, term, now}
	}
	return leader != 0 && now.Sub(l.since) >= settledFor
}

type watchedMember struct {
	// print is what the last look saw, since when, and in how many looks.
	print string
	since time.Time
	looks int
	// answered is when the member answered last, or when the watch began.
	answered time.Time
	// heard is when it answered last, or the kubelet called it ready.
	heard time.Time
	// failures are how often in a row etcd failed on its data while the others
	// were a quorum, in the pod, the last time with that end.
	failures int
	pod, end string
	// applied is how far it had come at progress, when it last made any.
	applied  uint64
	progress time.Time
	id       uint64
	// nearest is how many entries of the log it lacked at the least, and neared when it
	// last came nearer to the leader by a tenth of them.
	nearest uint64
	neared  time.Time
	// ran is when a joiner last was ready to run, or free to be so anywhere.
	ran time.Time
}

// judge fills in what only several looks together can tell.
func (w *watched) judge(c *v1alpha1.EtcdCluster, seen *plan.Observed, k *kubernetes, leader, term uint64) {
	if w.members == nil {
		w.since, w.members = k.now, map[string]*watchedMember{}
	}
	seen.LeaderSettled = w.leader.lead(leader, term, k.now)
	down := k.nodesDown(seen)
	known := map[string]bool{}
	for i := range seen.Members {
		m := &seen.Members[i]
		known[m.Name] = true
		was := w.members[m.Name]
		if was == nil {
			was = &watchedMember{answered: k.now, heard: k.now, progress: k.now, neared: k.now, ran: k.now}
			w.members[m.Name] = was
		}
		was.look(m, k.now)
		m.Stuck, m.Lags = was.behind(*m, k.now, c.Spec.Failover.LearnerTimeout.Duration)
		m.Trails = was.trails(*m, k.now, c.Spec.Failover.LearnerTimeout.Duration)
		m.Stuck = m.Stuck || was.pinned(*m, k.now, c.Spec.Failover.LearnerTimeout.Duration)
		was.fail(m, k.pod(m.Name), seen)
		m.Gone = k.gone(c, *m, was.answered, down)
		after := c.Spec.Failover.ReplaceAfter.Duration
		m.LongSilent = after > 0 && k.now.Sub(was.heard) >= after
		m.Steady = was.steady(*m, k.now)
	}
	for name := range w.members {
		if !known[name] {
			delete(w.members, name)
		}
	}
}

// look notes when the member last answered and came further.
func (w *watchedMember) look(m *plan.Member, now time.Time) {
	if m.Answers {
		w.answered, w.heard = now, now
	}
	if m.PodReady {
		w.heard = now
	}
	if m.ID != w.id || m.CaughtUp {
		w.nearest, w.neared = math.MaxUint64, now
	}
	if m.Answers && !m.CaughtUp && m.Behind <= w.nearest-w.nearest/10 {
		w.nearest, w.neared = m.Behind, now
	}
	if m.ID != w.id || m.Applied > w.applied {
		w.id, w.applied, w.progress = m.ID, m.Applied, now
	}
}

// lagsAfter is how long a learner may make no progress before the user is told.
const lagsAfter = time.Minute

// behind says that a learner has made no progress for the timeout, and that it has
// made none for long enough to be told of.
func (w *watchedMember) behind(m plan.Member, now time.Time, timeout time.Duration) (stuck, lags bool) {
	learns, idle := m.Listed && m.Learner && !m.CaughtUp, now.Sub(w.progress)
	return learns && idle >= timeout, learns && idle >= min(lagsAfter, timeout/2)
}

// trailsAfter is how long a learner that makes progress may come no nearer to the
// leader before the user is told: longer than a burst of writes.
const trailsAfter = 3 * time.Minute

// trails says that a learner follows, and for long has come no nearer: what is written
// comes as fast as it can take it. It is left alone, since that may change.
func (w *watchedMember) trails(m plan.Member, now time.Time, timeout time.Duration) bool {
	return m.Listed && m.Learner && m.Answers && !m.CaughtUp && now.Sub(w.neared) >= min(trailsAfter, timeout/2)
}

// pinned says that a joiner whose volume is bound, so that it cannot go elsewhere, did
// not come to run for the timeout.
func (w *watchedMember) pinned(m plan.Member, now time.Time, timeout time.Duration) bool {
	free := !m.Joiner || m.Listed || m.Volume != plan.VolumeBound
	if free || (m.Held && m.Pod == plan.PodRunning && !m.NodeDown) {
		w.ran = now
	}
	return now.Sub(w.ran) >= timeout
}

// failedStarts is how often in a row etcd must have failed on its data before the
// data is given up.
const failedStarts = 5

// fail counts how often in a row etcd has failed on its data. Only what happens
// while the others are a quorum counts: a disk that fails all of them comes back
// for all of them. A new operator counts anew.
func (w *watchedMember) fail(m *plan.Member, pod *corev1.Pod, seen *plan.Observed) {
	corrupt := m.Corrupt
	m.Corrupt = ""
	if pod == nil || m.Answers || (w.pod != string(pod.UID) && w.pod != "") {
		w.failures = 0
	}
	if pod == nil {
		w.pod, w.end = "", ""
		return
	}
	w.pod = string(pod.UID)
	if end := lastEnd(pod); end != "" && end != w.end {
		w.end = end
		switch {
		case corrupt == "":
			// It ended for another reason this time.
			w.failures = 0
		case seen.Quorate():
			w.failures++
		}
	}
	if w.failures >= failedStarts && corrupt != "" {
		m.Corrupt = fmt.Sprintf("etcd failed %d times in a row on its data, the last time with %s", w.failures, corrupt)
	}
}

// lastEnd tells one end of a pod's etcd from another; empty while it runs, and
// before it has ended at all.
func lastEnd(pod *corev1.Pod) string {
	status, ok := statusOf(pod)
	if !ok || status.State.Running != nil {
		return ""
	}
	ended := cmp.Or(status.State.Terminated, status.LastTerminationState.Terminated)
	if ended == nil {
		return ""
	}
	return fmt.Sprint(status.RestartCount, ended.ContainerID, ended.FinishedAt.Unix())
}

// steady says that the member has looked the same for steadyFor.
func (w *watchedMember) steady(m plan.Member, now time.Time) bool {
	looks := fmt.Sprint(m.ID, m.RecordedID, m.Listed, m.Learner, m.Volume, m.Pod, m.PodUID, m.PodReady, m.Answers, m.FollowsLeader, m.Gone, m.LongSilent, m.Stuck, m.Plaintext, m.TakesTLS, m.Corrupt != "")
	if w.print != looks {
		w.print, w.since, w.looks = looks, now, 0
	}
	w.looks++
	return w.looks > 1 && now.Sub(w.since) >= steadyFor
}

// nodeOf is where a member's pod runs, or ran last.
func (k *kubernetes) nodeOf(m plan.Member) string {
	if pod := k.pod(m.Name); pod != nil && pod.Spec.NodeName != "" {
		return pod.Spec.NodeName
	}
	return m.LastNode
}

// nodesDown counts the nodes of the cluster's members that are not Ready. When
// there is more than one, it is the network or the operator's own view that has
// failed, as likely as not.
func (k *kubernetes) nodesDown(seen *plan.Observed) int {
	down := map[string]bool{}
	for _, m := range seen.Members {
		if node := k.nodeOf(m); node != "" && k.nodes[node].state == nodeNotReady {
			down[node] = true
		}
	}
	return len(down)
}

// gone says that the member's node has been away, and the member silent, for
// failover.replaceAfter; or that its node was declared down, and the pod finds no
// other one. Unreachable alone is not gone.
func (k *kubernetes) gone(c *v1alpha1.EtcdCluster, m plan.Member, answered time.Time, down int) bool {
	if m.Answers || k.nodes == nil {
		return false
	}
	after := c.Spec.Failover.ReplaceAfter.Duration
	if m.LastNode != "" {
		last, known := k.nodes[m.LastNode]
		if known && last.state == nodeFenced && m.Unschedulable {
			return true
		}
		// A node that was deleted may be one that is made anew, and what the pod
		// waits for another than its volume.
		if !known && m.Unschedulable && after > 0 {
			return k.now.Sub(answered) >= after
		}
	}
	node, known := k.nodes[k.nodeOf(m)]
	return known && node.state == nodeNotReady && down == 1 && after > 0 &&
		k.theirs.Sub(node.since) >= after && k.now.Sub(answered) >= after
}

// reach is how the members of a cluster were reached in the last look.
type reach struct {
	endpoints   map[string]etcd.Endpoint
	credentials *etcd.Credentials
}

func (o *Observer) remind(m *memory, endpoints map[string]etcd.Endpoint, as *etcd.Credentials) {
	o.mu.Lock()
	defer o.mu.Unlock()
	m.reach = reach{endpoints: endpoints, credentials: as}
}

// Reach hands out a connection to a member of a cluster, as it was reached in the
// last look. The error says that it was not. It uses the credentials of that look, for
// other ones would have the Dialer give up the connections of the look.
func (o *Observer) Reach(cluster types.NamespacedName, uid types.UID, member string) (etcd.Conn, error) {
	o.mu.Lock()
	m, ok := o.memory[cluster]
	var r reach
	if ok && m.uid == uid {
		r = m.reach
	}
	o.mu.Unlock()
	endpoint, known := r.endpoints[member]
	as := r.credentials
	if as == nil && endpoint.Plaintext {
		as = &etcd.Credentials{}
	}
	if !known || as == nil {
		return nil, fmt.Errorf("reaching %s: %w", member, etcd.ErrUnreachable)
	}
	return o.Dialer.Dial(string(uid), endpoint, *as)
}
