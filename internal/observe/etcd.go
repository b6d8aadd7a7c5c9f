package observe

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// look is what etcd's members said.
type look struct {
	// answers by member name.
	answers map[string]etcd.Status
	// errors by member name: why it did not answer.
	errors map[string]error
	// listed says that a majority confirmed list.
	listed bool
	list   etcd.Membership
	readOK bool
	// readErr is why the list or the read failed; nil when nobody was asked.
	readErr error
	// refused is why the proposal of this look failed.
	refused string
	alarms  []string
	raised  []plan.Alarm
	// alarmsKnown says that the alarms could be asked for; if not, the write
	// path is in doubt.
	alarmsKnown bool
}

// LookTimeout bounds all questions of one look together. With the pause between
// two looks of an operator at rest it keeps what is said of availability younger
// than 15 s.
const LookTimeout = 6 * time.Second

var errLook = errors.New("etcd did not answer within one look")

// proof is when the write path was last known to work: since then neither
// leader, term nor alarms have changed and no read has failed.
type proof struct {
	ok     bool
	leader uint64
	term   uint64
	alarms string
}

// etcd asks every running member for its status, all at once, and then one of
// them what only a majority can answer.
func (o *Observer) etcd(
	ctx context.Context, c *v1alpha1.EtcdCluster, m *memory, as *etcd.Credentials,
	endpoints map[string]etcd.Endpoint, latched uint64,
) look {
	ctx, cancel := context.WithTimeoutCause(ctx, LookTimeout, errLook)
	defer cancel()
	l := look{answers: map[string]etcd.Status{}, errors: map[string]error{}}
	group := string(c.UID)
	all := make([]etcd.Endpoint, 0, len(endpoints))
	for _, e := range endpoints {
		all = append(all, e)
	}
	o.Dialer.Keep(group, all...)
	if as == nil && len(all) > 0 && !slices.ContainsFunc(all, func(e etcd.Endpoint) bool { return !e.Plaintext }) {
		as = &etcd.Credentials{}
	}
	if as == nil {
		// Without credentials nobody can be asked who takes TLS alone; what was not
		// asked is unknown, not down.
		m.proven = proof{}
		return l
	}
	conns := map[string]etcd.Conn{}
	for name, e := range endpoints {
		conn, err := o.Dialer.Dial(group, e, *as)
		if err != nil {
			l.errors[name] = err
			continue
		}
		conns[name] = conn
	}
	l.status(ctx, conns)
	l.majority(ctx, conns, latched)
	o.prove(ctx, m, &l, conns)
	return l
}

// status asks all members at once, since each one that is cut off costs a
// time-out.
func (l *look) status(ctx context.Context, conns map[string]etcd.Conn) {
	var (
		mu sync.Mutex
		wg sync.WaitGroup
	)
	for name, conn := range conns {
		wg.Go(func() {
			answer, err := conn.Status(ctx)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				l.errors[name] = err
				return
			}
			l.answers[name] = answer
		})
	}
	wg.Wait()
}

// majority asks for the member list and a linearizable read, the leader first.
// Members of another cluster than the latched one are not asked: an answer with
// another ID is no answer.
func (l *look) majority(ctx context.Context, conns map[string]etcd.Conn, latched uint64) {
	for _, name := range l.order(latched) {
		conn := conns[name]
		list, err := conn.Members(ctx)
		if err != nil {
			l.errors[name], l.readErr = err, err
			continue
		}
		l.list, l.listed = list, true
		l.readErr = conn.Read(ctx)
		l.readOK = l.readErr == nil
		alarms, err := conn.Alarms(ctx)
		l.alarmsKnown = err == nil
		l.noteAlarms(alarms)
		return
	}
}

// order is whom to ask: the leader, then those that follow one; two at most,
// because each that hangs costs a time-out.
func (l *look) order(latched uint64) []string {
	var leader, followers []string
	for name, a := range l.answers {
		switch {
		case latched != 0 && a.ClusterID != latched, a.Learner:
		case a.Leader != 0 && a.Leader == a.MemberID:
			leader = append(leader, name)
		case a.Leader != 0:
			followers = append(followers, name)
		}
	}
	slices.Sort(leader)
	slices.Sort(followers)
	return firstN(append(leader, followers...), 2)
}

func firstN(s []string, n int) []string { return s[:min(n, len(s))] }

func (l *look) noteAlarms(alarms []etcd.Alarm) {
	for _, a := range alarms {
		l.alarms = append(l.alarms, fmt.Sprintf("%s on member %x", a.Kind, a.MemberID))
		l.raised = append(l.raised, plan.Alarm{Kind: string(a.Kind), ID: a.MemberID})
	}
	slices.Sort(l.alarms)
}

// prove sends a proposal when the write path is in doubt: a look before this
// one failed, or leader, term or alarms are not those it was proven with.
func (o *Observer) prove(ctx context.Context, m *memory, l *look, conns map[string]etcd.Conn) {
	if !l.readOK {
		m.proven = proof{}
		return
	}
	now := proof{ok: true, alarms: strings.Join(l.alarms, ";")}
	now.leader, now.term = l.leads()
	if now == m.proven && l.alarmsKnown {
		return
	}
	m.proven = proof{}
	asked := l.order(l.list.ClusterID)
	if len(asked) == 0 {
		l.refused = "no member that follows a leader could be asked"
		return
	}
	if err := conns[asked[0]].Propose(ctx); err != nil {
		l.refused = cause(err)
		return
	}
	m.proven = now
}

// leads is who leads in the newest term that any member of the listed cluster
// knows; zero for nobody. A leader that cannot be reached from here is one all the
// same.
func (l *look) leads() (leader, term uint64) {
	for _, a := range l.answers {
		if a.Leader != 0 && a.Term >= term && a.ClusterID == l.list.ClusterID {
			leader, term = a.Leader, a.Term
		}
	}
	return leader, term
}

// join puts what etcd said beside what Kubernetes shows.
func join(c *v1alpha1.EtcdCluster, seen *plan.Observed, members []plan.Member, l look) {
	seen.List, seen.ReadOK, seen.ProposeFailed, seen.Alarms = l.listed, l.readOK, l.refused, l.alarms
	seen.Raised = l.raised
	if l.readErr != nil {
		seen.ReadFailed = cause(l.readErr)
	}
	if denied := l.denied(); denied != nil {
		seen.ReadFailed = cause(denied)
		seen.Problems = append(seen.Problems, plan.Problem{Reason: v1alpha1.ReasonAuthFailed, Severity: plan.Stalling, Message: fmt.Sprintf(
			"etcd's authentication is on and does not take the operator for the user root: %s — clients with rights are served, and the operator can neither probe nor change anything — its certificate names root: give that user the role root back; without TLS it has no name, so turn authentication off (etcdctl auth disable)",
			seen.ReadFailed)})
	}
	if l.listed {
		seen.AgreedClusterID, seen.Downgrade = l.list.ClusterID, l.downgrade()
		seen.PlaintextPeers = false
		for _, entry := range l.list.Members {
			members = joinEntry(c, seen, members, entry)
		}
	} else {
		// An operator that knew no such status may have been here before.
		seen.PlaintextPeers = seen.PlaintextPeers || slices.ContainsFunc(members, func(m plan.Member) bool { return m.TakesPlaintext && !m.TakesTLS })
	}
	for i := range members {
		joinAnswer(&members[i], seen.ClusterID, l)
		if members[i].ForeignClusterID != 0 {
			seen.Problems = append(seen.Problems, plan.Problem{
				Reason: v1alpha1.ReasonClusterIDMismatch, Severity: plan.Stalling, Message: fmt.Sprintf(
					"member %s: %s — its answers count for nothing — find out what data its volume holds before anything else", members[i].Name, members[i].Trouble),
			})
		}
	}
	slices.SortFunc(members, func(a, b plan.Member) int { return a.Ordinal - b.Ordinal })
	seen.Members = slices.DeleteFunc(members, func(m plan.Member) bool { return gone(*seen, m) })
}

// denied is what etcd said when its authentication did not let the operator in: to the
// read, or, as the members may refuse their status too, to all that was asked.
func (l look) denied() error {
	if errors.Is(l.readErr, etcd.ErrPermission) {
		return l.readErr
	}
	if len(l.answers) > 0 {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(l.errors)) {
		if errors.Is(l.errors[name], etcd.ErrPermission) {
			return l.errors[name]
		}
	}
	return nil
}

// gone says that a member has been removed, and that what it left is gone or on
// its way out.
func gone(seen plan.Observed, m plan.Member) bool {
	return seen.Removed(m) && m.Left()
}

func joinEntry(c *v1alpha1.EtcdCluster, seen *plan.Observed, members []plan.Member, entry etcd.Member) []plan.Member {
	name, ours := "", false
	if len(entry.PeerURLs) > 0 {
		name, ours = resources.MemberOfURL(c, entry.PeerURLs[0])
	}
	if !ours {
		urls := strings.Join(entry.PeerURLs, ",")
		counts := "it counts for quorum"
		if entry.Learner {
			counts = "it does not vote, but etcd takes no other learner beside it"
		}
		seen.ForeignMembers = append(seen.ForeignMembers, urls)
		seen.Problems = append(seen.Problems, plan.Problem{
			Reason: v1alpha1.ReasonUnknownMember, Severity: plan.Stalling, Message: fmt.Sprintf(
				"etcd lists member %x at %s, which is none of this cluster's — %s, and the operator touches nobody else's member — remove it with etcdctl member remove %x if it does not belong here",
				entry.ID, urls, counts, entry.ID),
		})
		return members
	}
	i := slices.IndexFunc(members, func(m plan.Member) bool { return m.Name == name })
	if i < 0 {
		ordinal, _ := resources.Ordinal(c.Name, name)
		members = append(members, plan.Member{Name: name, Ordinal: ordinal, Trouble: "etcd lists it, and it has neither claim nor pod"})
		i = len(members) - 1
	}
	m := &members[i]
	m.Listed, m.ID, m.Started, m.Learner = true, entry.ID, entry.Started(), entry.Learner
	m.PeerURL, m.Plaintext = entry.PeerURLs[0], slices.ContainsFunc(entry.PeerURLs, func(url string) bool { return strings.HasPrefix(url, "http://") })
	seen.PlaintextPeers = seen.PlaintextPeers || m.Plaintext
	return members
}

func joinAnswer(m *plan.Member, latched uint64, l look) {
	answer, ok := l.answers[m.Name]
	if !ok {
		if err := l.errors[m.Name]; err != nil && m.Trouble == "" {
			m.Trouble = "it does not answer: " + cause(err)
		}
		return
	}
	if latched != 0 && answer.ClusterID != latched {
		m.ForeignClusterID = answer.ClusterID
		m.Trouble = fmt.Sprintf("it answers as a member of cluster %x, not %x", answer.ClusterID, latched)
		return
	}
	if m.Listed && answer.MemberID != m.ID {
		m.Trouble = fmt.Sprintf("it answers as member %x, and etcd lists %x under its name", answer.MemberID, m.ID)
		return
	}
	m.Answers, m.AnswerClusterID = true, answer.ClusterID
	m.Term, m.Applied, m.Revision = answer.Term, answer.Applied, answer.Revision
	m.CaughtUp, m.Behind = l.caughtUp(answer), l.behind(answer)
	m.Leads = answer.Leader != 0 && answer.Leader == answer.MemberID
	m.FollowsLeader = answer.Leader != 0
	m.Version, m.StorageVersion = answer.Version, answer.StorageVersion
	m.DBSize, m.DBSizeInUse, m.Quota = answer.DBSize, answer.DBSizeInUse, answer.DBSizeQuota
	switch {
	case !m.FollowsLeader:
		m.Trouble = "it knows no leader"
	case l.listed && !m.Listed:
		m.Trouble = "etcd's member list does not name it"
	case l.listed && m.Learner:
		m.Trouble = "it is a learner and does not vote yet"
	default:
		m.Trouble = ""
	}
}

// downgrade is the version that any member of the cluster says it is being
// downgraded to.
func (l look) downgrade() string {
	to := ""
	for _, a := range l.answers {
		if a.ClusterID == l.list.ClusterID {
			to = max(to, a.Downgrade)
		}
	}
	return to
}

// revision of the keys, as far as any voter has applied them.
func (l look) revision() int64 {
	most := int64(0)
	for _, a := range l.answers {
		if a.ClusterID == l.list.ClusterID {
			most = max(most, a.Revision)
		}
	}
	return most
}

// lag is how many entries a learner may be behind and still be promoted: etcd
// keeps at least as many for those that lag (its default for
// --snapshot-catchup-entries), so that no snapshot is needed any more.
const lag = 5000

// committed is the index up to which any voter of the member's cluster knows the log to
// be committed.
func (l look) committed(answer etcd.Status) uint64 {
	most := uint64(0)
	for _, a := range l.answers {
		if a.ClusterID == answer.ClusterID && !a.Learner {
			most = max(most, a.Index)
		}
	}
	return most
}

// behind is how many entries the member has not applied of what is committed.
func (l look) behind(answer etcd.Status) uint64 {
	return max(l.committed(answer), answer.Applied) - answer.Applied
}

// caughtUp says that the member has applied nearly all that any voter knows to be
// committed. etcd has the last word: it refuses a learner that lags.
func (l look) caughtUp(answer etcd.Status) bool {
	most := l.committed(answer)
	return most > 0 && answer.Leader != 0 && answer.Applied+lag >= most && answer.Applied*10 >= most*9
}

// cause is the last and most telling part of an error, in one line.
func cause(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	return firstLine(err.Error())
}
