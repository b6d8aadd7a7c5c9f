package v3client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/etcd/etcdtest"
)

// stage is a cluster that the script below plays on: real processes, or the
// ones that behave like them. Members are known by their number.
type stage interface {
	// start runs a member whose initial cluster are the given members.
	start(i int, state string, members ...int)
	stop(i int)
	wipe(i int)
	// exits says whether the member's process ends by itself soon.
	exits(i int) bool
	conn(i int) etcd.Conn
	url(i int) string
	// pass lets time go by: connections age, learners catch up.
	pass(d time.Duration)
	// until waits for a condition that time alone brings about.
	until(what string, done func() bool)
}

// play is a script on a stage. It writes down every outcome in words that do
// not depend on IDs, addresses or the choice of a leader.
type play struct {
	stage
	ctx context.Context
	out []string
}

func (p *play) say(what string, outcome any) {
	p.out = append(p.out, fmt.Sprintf("%s: %v", what, outcome))
}

func (p *play) id(i int) uint64 {
	list, _ := p.conn(1).Members(p.ctx)
	for _, m := range list.Members {
		if m.PeerURLs[0] == p.url(i) {
			return m.ID
		}
	}
	return 0
}

func (p *play) leads(i int) bool {
	s, err := p.conn(i).Status(p.ctx)
	return err == nil && s.Leader == s.MemberID
}

// lead makes member 1 the leader: all is asked through it.
func (p *play) lead() {
	for _, i := range []int{0, 2} {
		if p.leads(i) {
			p.until("the leadership moves", func() bool { return p.leads(1) || p.conn(i).MoveLeader(p.ctx, p.id(1)) == nil })
		}
	}
}

func (p *play) add(i int) error {
	_, err := p.conn(1).AddLearner(p.ctx, p.url(i))
	return err
}

func (p *play) founding() {
	p.start(0, "new", 0, 1, 2)
	p.pass(time.Second)
	_, err := p.conn(0).Status(p.ctx)
	p.say("status of one founder of three", kindOf(err))
	p.start(1, "new", 0, 1, 2)
	p.until("two of three answer", func() bool { return p.conn(1).Propose(p.ctx) == nil && p.started() == 2 })
	p.say("two founders of three list", p.listed())
	p.start(2, "new", 0, 1, 2)
	p.until("all have published", func() bool { return p.started() == 3 })
	p.say("three founders list", p.listed())
	p.say("learner right after the last voter connected", p.tooEarly())
}

// tooEarly adds a learner within five seconds of the last voter's connection. A
// machine too slow for that has taken the learner; then the voter connects anew.
func (p *play) tooEarly() string {
	for range 5 {
		p.lead()
		err := p.add(3)
		if err != nil {
			return kindOf(err)
		}
		p.until("the learner is removed", func() bool { return p.conn(1).Remove(p.ctx, p.id(3)) == nil })
		p.stop(2)
		p.start(2, "new", 0, 1, 2)
		p.until("the voter is back", func() bool { _, err := p.conn(2).Status(p.ctx); return err == nil })
	}
	return "always taken"
}

// promoteVoter waits until the leader knows that the voter has its log: before,
// etcd says of a voter, too, that it has not caught up.
func (p *play) promoteVoter(i int) string {
	var err error
	p.until("the voter has the log", func() bool {
		err = p.conn(1).Promote(p.ctx, p.id(i))
		return !errors.Is(err, etcd.ErrLearnerNotReady)
	})
	return kindOf(err)
}

func (p *play) learner() {
	p.start(3, "existing", 0, 1, 2, 3)
	p.say("a learner starts before it is added: exits", p.exits(3))
	p.until("the learner is taken", func() bool { return p.add(3) == nil })
	p.say("the same URL", kindOf(p.add(3)))
	p.say("a second learner", kindOf(p.add(4)))
	p.say("promote one that never ran", kindOf(p.conn(1).Promote(p.ctx, p.id(3))))
	p.say("promote a voter", p.promoteVoter(0))
	p.start(3, "existing", 0, 1, 2, 3)
	p.until("the learner publishes", func() bool { return p.started() == 4 })
	p.say("list with a learner", p.listed())
	p.until("the learner answers", func() bool { _, err := p.conn(3).Status(p.ctx); return err == nil })
	p.say("a learner reads", kindOf(p.conn(3).Read(p.ctx)))
	p.say("a learner lists members", kindOf(p.membersErr(3)))
	p.until("the learner is promoted", func() bool { p.pass(0); return p.conn(1).Promote(p.ctx, p.id(3)) == nil })
	p.say("promoted", p.listed())
	p.say("promote twice", p.promoteVoter(3))
}

func (p *play) removal() {
	voter := p.id(3)
	p.say("remove", kindOf(p.conn(1).Remove(p.ctx, voter)))
	p.say("the removed process exits", p.exits(3))
	p.say("remove twice", kindOf(p.conn(1).Remove(p.ctx, voter)))
	p.start(3, "existing", 0, 1, 2, 3)
	p.say("it comes back on its volume: exits", p.exits(3))
}

func (p *play) deadVoter() {
	dead := p.id(0)
	p.stop(0)
	p.until("two of three serve", func() bool { return p.conn(1).Propose(p.ctx) == nil })
	p.say("add with one of three down", kindOf(p.add(5)))
	p.say("remove a live voter with one of three down", kindOf(p.conn(1).Remove(p.ctx, p.id(2))))
	p.wipe(0)
	p.start(0, "new", 0, 1, 2)
	p.say("a wiped founder, known as published, starts as new: exits", p.exits(0))
	p.say("remove the dead voter", kindOf(p.conn(1).Remove(p.ctx, dead)))
	p.say("list after the removal", p.listed())
}

func (p *play) quorumLoss() {
	p.stop(2)
	p.until("the quorum is lost", func() bool { return errors.Is(p.conn(1).Read(p.ctx), etcd.ErrNoLeader) })
	p.say("list without quorum", kindOf(p.membersErr(1)))
	p.say("propose without quorum", kindOf(p.conn(1).Propose(p.ctx)))
	_, err := p.conn(1).Status(p.ctx)
	p.say("status without quorum", kindOf(err))
	_, err = p.conn(2).Status(p.ctx)
	p.say("status of a stopped member", kindOf(err))
	p.stop(1)
	p.start(1, "new", 0, 1, 2)
	p.pass(time.Second)
	_, err = p.conn(1).Status(p.ctx)
	p.say("status of a member started again without quorum", kindOf(err))
	p.start(2, "new", 0, 1, 2)
	p.until("the quorum is back", func() bool { return p.conn(1).Propose(p.ctx) == nil })
	p.say("list with the quorum back", p.listed())
}

func perform(ctx context.Context, s stage) []string {
	p := &play{stage: s, ctx: ctx}
	p.founding()
	p.learner()
	p.removal()
	p.deadVoter()
	p.quorumLoss()
	return p.out
}

func (p *play) membersErr(through int) error {
	_, err := p.conn(through).Members(p.ctx)
	return err
}

// listed are the members by number, with what is known of them.
func (p *play) listed() string {
	list, err := p.conn(1).Members(p.ctx)
	if err != nil {
		return kindOf(err)
	}
	var lines []string
	for _, m := range list.Members {
		for i := range 6 {
			if m.PeerURLs[0] == p.url(i) {
				lines = append(lines, fmt.Sprintf("%d named %t started %t learner %t", i, m.Name != "", m.Started(), m.Learner))
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, ", ")
}

func (p *play) started() (n int) {
	list, _ := p.conn(1).Members(p.ctx)
	for _, m := range list.Members {
		if m.Started() {
			n++
		}
	}
	return n
}

// kindOf names the errors of package etcd that an error is.
func kindOf(err error) string {
	if err == nil {
		return "done"
	}
	var kinds []string
	for _, kind := range []error{
		etcd.ErrPeerURLExists, etcd.ErrMemberNotFound, etcd.ErrTooManyLearners, etcd.ErrUnhealthyCluster, etcd.ErrLearnerNotReady,
		etcd.ErrNotStarted, etcd.ErrNoLeader, etcd.ErrNoSpace, etcd.ErrNotLearner, etcd.ErrNotLeader, etcd.ErrLearner,
		etcd.ErrPermission, etcd.ErrUnreachable, etcd.ErrOutcomeUnknown,
	} {
		if errors.Is(err, kind) {
			kinds = append(kinds, kind.Error())
		}
	}
	if len(kinds) == 0 {
		return "unmapped: " + err.Error()
	}
	return strings.Join(kinds, ", ")
}

// genuine is a stage of real processes.
type genuine struct {
	t *testing.T
	r *rig
}

func (s *genuine) start(i int, state string, members ...int) {
	m := s.r.members[i]
	var list []*process
	for _, j := range members {
		list = append(list, s.r.members[j])
	}
	m.args = s.r.flags(m, state, list)
	s.r.start(s.t, m)
}

func (s *genuine) stop(i int) { s.r.members[i].stop() }

func (s *genuine) wipe(i int) { s.r.members[i].dir = s.t.TempDir() }

// exits waits for long: every process that the script asks for does.
func (s *genuine) exits(i int) bool { return s.r.members[i].exited(time.Minute) }

func (s *genuine) conn(i int) etcd.Conn { return s.r.dial(s.t, s.r.members[i]) }

func (s *genuine) url(i int) string { return s.r.peerURL(s.r.members[i]) }

func (s *genuine) pass(d time.Duration) { <-time.After(d) }

func (s *genuine) until(what string, done func() bool) {
	eventually(s.t, 15*time.Second, what, func() error {
		if !done() {
			return errors.New("not yet")
		}
		return nil
	})
}

// imitated is a stage of processes in memory.
type imitated struct {
	t       *testing.T
	world   *etcdtest.World
	now     time.Time
	running map[int]*etcdtest.Process
	wiped   map[int]int
}

func (s *imitated) start(i int, state string, members ...int) {
	list := map[string]string{}
	for _, j := range members {
		list[fmt.Sprintf("c-%04d", j)] = s.url(j)
	}
	s.running[i] = s.world.Start(fmt.Sprint("node", i), fmt.Sprint("volume", i, " ", s.wiped[i]), s.address(i), etcdtest.Flags{
		Name: fmt.Sprintf("c-%04d", i), PeerURL: s.url(i), ClientURL: "http://" + s.address(i),
		InitialCluster: list, State: etcdtest.State(state), Token: "token",
	})
}

func (s *imitated) address(i int) string { return fmt.Sprintf("10.0.0.%d:2379", i) }

func (s *imitated) stop(i int) { s.world.Stop(s.running[i]) }

func (s *imitated) wipe(i int) { s.wiped[i]++ }

func (s *imitated) exits(i int) bool {
	_, exited := s.world.Exited(s.running[i])
	return exited
}

func (s *imitated) conn(i int) etcd.Conn {
	c, err := s.world.Dial(group, etcd.Endpoint{Address: s.address(i), ServerName: serverName(fmt.Sprintf("c-%04d", i))}, etcd.Credentials{})
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func (s *imitated) url(i int) string { return fmt.Sprintf("http://10.0.0.%d:2380", i) }

func (s *imitated) pass(d time.Duration) {
	s.now = s.now.Add(d)
	s.world.Tick()
}

func (s *imitated) until(what string, done func() bool) {
	for range 200 {
		if done() {
			return
		}
		s.pass(50 * time.Millisecond)
	}
	s.t.Fatal(what + ": never")
}

// TestImitationAnswersAsEtcdDoes plays one script on real etcd and on the
// cluster in memory that the simulator stands on.
func TestImitationAnswersAsEtcdDoes(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			fake := &imitated{t: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), running: map[int]*etcdtest.Process{}, wiped: map[int]int{}}
			fake.world = etcdtest.NewWorld(func() time.Time { return fake.now })
			imitation := perform(t.Context(), fake)
			truth := perform(t.Context(), &genuine{t: t, r: newRig(t, version, 6, plaintext)})
			if diff := cmp.Diff(truth, imitation); diff != "" {
				t.Errorf("outcomes (-etcd +imitation):\n%s", diff)
			}
			t.Logf("%d outcomes compared:\n%s", len(truth), strings.Join(truth, "\n"))
		})
	}
}
