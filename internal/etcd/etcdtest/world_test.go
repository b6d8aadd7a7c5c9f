package etcdtest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/quorate/quorate/internal/etcd"
)

const (
	token = "uid-1"
	group = "uid"
)

// bench is a world with a clock that the test moves.
type bench struct {
	*World
	t    *testing.T
	time time.Time
	ps   map[int]*Process
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, time: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), ps: map[int]*Process{}}
	b.World = NewWorld(func() time.Time { return b.time })
	return b
}

// pass lets time pass and learners catch up.
func (b *bench) pass(d time.Duration) { b.time = b.time.Add(d); b.Tick() }

func name(i int) string { return fmt.Sprintf("c-%04d", i) }

func peerURL(i int) string { return "https://" + name(i) + ".c.ns.svc:2380" }

func flags(i int, state State, members ...int) Flags {
	list := map[string]string{}
	for _, m := range members {
		list[name(m)] = peerURL(m)
	}
	return Flags{
		Name: name(i), PeerURL: peerURL(i), ClientURL: "https://" + name(i) + ".c.ns.svc:2379",
		InitialCluster: list, State: state, Token: token,
	}
}

// start runs member i on its own volume.
func (b *bench) start(i int, state State, members ...int) *Process {
	b.ps[i] = b.Start(fmt.Sprintf("node-%d", i), fmt.Sprintf("pvc-%d", i), fmt.Sprintf("10.0.0.%d:2379", i), flags(i, state, members...))
	return b.ps[i]
}

// found starts members 0 to n-1 and lets them be healthy.
func (b *bench) found(n int) {
	var all []int
	for i := range n {
		all = append(all, i)
	}
	for i := range n {
		b.start(i, New, all...)
	}
	b.pass(healthInterval + time.Second)
}

func (b *bench) conn(i int) etcd.Conn {
	b.t.Helper()
	c, err := b.Dial(group, etcd.Endpoint{Address: fmt.Sprintf("10.0.0.%d:2379", i), ServerName: name(i) + ".c.ns.svc"}, etcd.Credentials{})
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

func (b *bench) want(what string, want, got error) {
	b.t.Helper()
	if !errors.Is(got, want) {
		b.t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func (b *bench) wantViolations(rules ...string) {
	b.t.Helper()
	var got []string
	for _, v := range b.Violations() {
		rule, _, _ := strings.Cut(v, ":")
		got = append(got, rule)
	}
	slices.Sort(got)
	if diff := cmp.Diff(rules, slices.Compact(got)); diff != "" {
		b.t.Errorf("violations (-want +got):\n%s%s", diff, strings.Join(b.Violations(), "\n"))
	}
}

func second(_ etcd.Member, err error) error { return err }

func (b *bench) id(i int) uint64 {
	b.t.Helper()
	s, err := b.conn(i).Status(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return s.MemberID
}

func TestFoundersAreListedAndPublishedOnceAMajorityRuns(t *testing.T) {
	b := newBench(t)
	b.start(2, New, 0, 1, 2)
	b.pass(time.Minute)
	b.want("one of three answers nothing", etcd.ErrUnreachable, b.conn(2).Read(t.Context()))
	if _, err := b.conn(2).Status(t.Context()); !errors.Is(err, etcd.ErrUnreachable) {
		t.Errorf("status of one of three: %v", err)
	}
	b.start(1, New, 0, 1, 2)
	list, err := b.conn(1).Members(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	started := 0
	for _, m := range list.Members {
		if m.Started() {
			started++
		}
	}
	if len(list.Members) != 3 || started != 2 || list.ClusterID != ClusterID(token, peerURL(0), peerURL(1), peerURL(2)) {
		t.Errorf("two of three: %+v", list)
	}
	if s, _ := b.conn(2).Status(t.Context()); s.Leader != MemberID(peerURL(1), token) {
		t.Errorf("%x leads, want the lowest ordinal", s.Leader)
	}
	b.start(0, New, 0, 1, 2)
	if s, _ := b.conn(0).Status(t.Context()); s.Leader != MemberID(peerURL(1), token) {
		t.Errorf("%x leads, want the former leader to stay", s.Leader)
	}
	b.want("propose", nil, b.conn(0).Propose(t.Context()))
	b.wantViolations()
}

func TestAnotherListOrTokenIsAnotherCluster(t *testing.T) {
	b := newBench(t)
	b.start(0, New, 0, 1, 2)
	b.start(1, New, 0, 1)
	b.want("no quorum in either", etcd.ErrUnreachable, b.conn(0).Read(t.Context()))
	b.wantViolations("I3")
}

func TestQuorum(t *testing.T) {
	for _, size := range []int{1, 3, 5} {
		for down := range size + 1 {
			b := newBench(t)
			b.found(size)
			for i := range down {
				b.Stop(b.ps[i])
			}
			if down == size {
				continue
			}
			var want error
			if size-down <= size/2 {
				want = etcd.ErrNoLeader
			}
			last := b.conn(size - 1)
			_, err := last.Members(t.Context())
			for what, got := range map[string]error{
				"members": err, "read": last.Read(t.Context()), "propose": last.Propose(t.Context()), "put": b.Put(b.ps[size-1], "v"),
			} {
				b.want(fmt.Sprintf("%s with %d of %d down", what, down, size), want, got)
			}
			if s, err := last.Status(t.Context()); err != nil || (s.Leader == 0) != (want != nil) || len(s.Errors) > 0 != (want != nil) {
				t.Errorf("status with %d of %d down: %+v %v", down, size, s, err)
			}
			b.wantViolations()
		}
	}
}

func TestRestartedWithoutQuorumAnswersNothingUntilThereIsOne(t *testing.T) {
	b := newBench(t)
	b.found(3)
	for i := range 3 {
		b.Stop(b.ps[i])
	}
	b.start(1, New, 0, 1, 2)
	b.want("one of three", etcd.ErrUnreachable, b.conn(1).Propose(t.Context()))
	b.start(0, New, 0, 1, 2)
	b.want("two of three", nil, b.conn(1).Propose(t.Context()))
	b.wantViolations()
}

func TestLeaderCutOffGivesUpAndComesBackAsFollower(t *testing.T) {
	b := newBench(t)
	b.found(3)
	before, err := b.conn(0).Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.Cut(b.ps[0], Peers)
	b.want("read of the cut off leader", etcd.ErrNoLeader, b.conn(0).Read(t.Context()))
	b.want("write at the others", nil, b.Put(b.ps[1], "v"))
	b.Mend(b.ps[0], Peers)
	s, err := b.conn(0).Status(t.Context())
	if err != nil || s.Leader == before.MemberID || s.Leader == 0 || s.Term != before.Term+1 {
		t.Errorf("after the cut: %+v %v", s, err)
	}
	b.want("read through it", nil, b.conn(0).Read(t.Context()))
	b.Cut(b.ps[0], Clients)
	b.want("client cut", etcd.ErrUnreachable, b.conn(0).Read(t.Context()))
	b.want("the member itself is well", nil, b.conn(1).Propose(t.Context()))
	b.wantViolations()
}

func TestGrowAndShrink(t *testing.T) {
	ctx := t.Context()
	b := newBench(t)
	b.start(0, New, 0)
	b.want("one voter may add at once", nil, second(b.conn(0).AddLearner(ctx, peerURL(1))))
	b.want("the same URL", etcd.ErrPeerURLExists, second(b.conn(0).AddLearner(ctx, peerURL(1))))
	b.want("a second learner", etcd.ErrTooManyLearners, second(b.conn(0).AddLearner(ctx, peerURL(2))))
	p := b.start(1, Existing, 0, 1)
	if reason, exited := b.Exited(p); exited {
		t.Fatal(reason)
	}
	if b.Ready(p) {
		t.Error("a learner is ready")
	}
	learner := b.id(1)
	b.want("asking a learner", etcd.ErrLearner, b.conn(1).Read(ctx))
	b.want("promoting before it caught up", etcd.ErrLearnerNotReady, b.conn(0).Promote(ctx, learner))
	b.Tick()
	b.want("promoting", nil, b.conn(0).Promote(ctx, learner))
	b.want("promoting twice", etcd.ErrNotLearner, b.conn(0).Promote(ctx, learner))
	b.want("the next add is too early", etcd.ErrUnhealthyCluster, second(b.conn(0).AddLearner(ctx, peerURL(2))))
	b.pass(healthInterval)
	b.want("at five seconds it is too early still", etcd.ErrUnhealthyCluster, second(b.conn(0).AddLearner(ctx, peerURL(2))))
	b.pass(time.Nanosecond)
	b.want("the next add", nil, second(b.conn(0).AddLearner(ctx, peerURL(2))))
	b.start(2, Existing, 0, 1, 2)
	b.Tick()
	b.want("promoting through a follower", nil, b.conn(1).Promote(ctx, b.id(2)))
	b.pass(healthInterval + 1)

	b.want("moving from a follower", etcd.ErrNotLeader, b.conn(1).MoveLeader(ctx, b.id(2)))
	b.want("moving", nil, b.conn(0).MoveLeader(ctx, b.id(2)))
	gone := b.id(0)
	b.want("removing", nil, b.conn(2).Remove(ctx, gone))
	if reason, exited := b.Exited(b.ps[0]); !exited || !strings.Contains(reason, "removed") {
		t.Errorf("the removed member runs on: %q", reason)
	}
	b.want("removing twice", etcd.ErrMemberNotFound, b.conn(2).Remove(ctx, gone))
	b.start(0, Existing, 0, 1, 2)
	if _, exited := b.Exited(b.ps[0]); !exited {
		t.Error("the removed member came back")
	}
	b.wantViolations()
}

func TestChangesWithAVoterDown(t *testing.T) {
	cases := map[string]struct {
		size, down int
		addThen    error
		removeLive error
	}{
		"3 voters, 1 down": {3, 1, etcd.ErrUnhealthyCluster, etcd.ErrUnhealthyCluster},
		"5 voters, 1 down": {5, 1, nil, nil},
		"5 voters, 2 down": {5, 2, etcd.ErrUnhealthyCluster, etcd.ErrUnhealthyCluster},
		"7 voters, 2 down": {7, 2, nil, nil},
		"3 voters, 0 down": {3, 0, nil, nil},
	}
	for what, tc := range cases {
		t.Run(what, func(t *testing.T) {
			b := newBench(t)
			b.found(tc.size)
			dead := b.id(0)
			for i := range tc.down {
				b.Stop(b.ps[i])
			}
			last := b.conn(tc.size - 1)
			b.want("adding", tc.addThen, second(last.AddLearner(t.Context(), peerURL(9))))
			b.want("removing a live one", tc.removeLive, last.Remove(t.Context(), b.id(tc.size-2)))
			if tc.down > 0 {
				b.want("removing the dead one", nil, last.Remove(t.Context(), dead))
			}
			b.wantViolations()
		})
	}
	b := newBench(t)
	b.found(1)
	b.want("the last voter", etcd.ErrNotStarted, b.conn(0).Remove(t.Context(), b.id(0)))
}

// TestWipedVoterLosesWrites is the disaster that no operator may cause; the
// world must show it to be able to prove that one does not.
func TestWipedVoterLosesWrites(t *testing.T) {
	ctx := t.Context()
	existing := func(b *bench) { b.Wipe("pvc-0"); b.start(2, New, 0, 1, 2); b.start(0, Existing, 0, 1, 2) }
	for what, tc := range map[string]struct {
		again func(b *bench)
		later int
	}{
		"existing":                         {again: existing},
		"existing, and more writes follow": {again: existing, later: 9},
		"only the log wiped": {again: func(b *bench) {
			b.WipeWAL("pvc-0")
			b.start(2, New, 0, 1, 2)
			b.start(0, Existing, 0, 1, 2)
		}},
		"new, before a peer answers": {again: func(b *bench) { b.Wipe("pvc-0"); b.start(0, New, 0, 1, 2); b.start(2, New, 0, 1, 2) }},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t)
			b.found(3)
			b.Stop(b.ps[2])
			b.want("acknowledged by two", nil, b.Put(b.ps[0], "precious"))
			b.Stop(b.ps[0])
			b.Stop(b.ps[1])
			tc.again(b)
			b.want("the wiped and the lagging member form a quorum", nil, b.conn(2).Read(ctx))
			b.wantViolations("I1", "I4")
			for i := range tc.later {
				b.want("a write after the loss", nil, b.Put(b.ps[2], fmt.Sprint("later", i)))
			}
			b.start(1, New, 0, 1, 2)
			if reason, exited := b.Exited(b.ps[1]); !exited || !strings.Contains(reason, "panic") {
				t.Errorf("the intact member runs on: %q", reason)
			}
		})
	}
}

func TestBootsThatFail(t *testing.T) {
	b := newBench(t)
	b.found(3)
	b.Stop(b.ps[1])
	cases := map[string]struct {
		flags Flags
		want  string
	}{
		"existing before it was added":          {flags(3, Existing, 0, 1, 2, 3), "does not match"},
		"existing with a list that is stale":    {flags(1, Existing, 0, 1), "does not match"},
		"new, known as published":               {flags(1, New, 0, 1, 2), "already been bootstrapped"},
		"a list without itself":                 {flags(4, New, 0, 1, 2), "does not list"},
		"existing and nobody to ask":            {flags(8, Existing, 7, 8), "no peer"},
		"an advertised URL that is not listed":  {Flags{Name: name(0), PeerURL: "x", InitialCluster: map[string]string{name(0): "y"}, State: New}, "advertised"},
		"an initial cluster state that is none": {flags(5, "old", 5), "state"},
	}
	i := 0
	for what, tc := range cases {
		t.Run(what, func(t *testing.T) {
			i++
			volume := fmt.Sprintf("empty-%d", i)
			p := b.Start("node", volume, fmt.Sprintf("10.1.0.%d:2379", i), tc.flags)
			if reason, exited := b.Exited(p); !exited || !strings.Contains(reason, tc.want) {
				t.Errorf("exited %v: %q, want %q", exited, reason, tc.want)
			}
			if d := b.Disk(volume); d.WAL || !d.DB || d.MemberID != 0 {
				t.Errorf("left behind: %+v", d)
			}
		})
	}
	b.wantViolations()
}

func TestTwoProcessesOfOneMember(t *testing.T) {
	b := newBench(t)
	b.found(3)
	p := b.Start("node-0", "pvc-0", "10.0.0.9:2379", flags(0, Existing, 0, 1, 2))
	if reason, exited := b.Exited(p); !exited || !strings.Contains(reason, "locked") {
		t.Errorf("the same node's lock did not hold: %q", reason)
	}
	b.wantViolations()
	b.Start("node-9", "pvc-0", "10.0.0.9:2379", flags(0, Existing, 0, 1, 2))
	b.wantViolations("I4")
}

func TestARunningProcessKeepsItsFilesWhenTheVolumeIsWiped(t *testing.T) {
	b := newBench(t)
	b.found(3)
	b.Wipe("pvc-0")
	b.want("it goes on", nil, b.conn(0).Propose(t.Context()))
	if b.Disk("pvc-0").WAL {
		t.Error("the volume is not empty")
	}
	b.wantViolations()
}

func TestIntercept(t *testing.T) {
	ctx := t.Context()
	lost := errors.New("reply lost")
	cases := map[string]struct {
		fault       func(Call) error
		wantApplied bool
		// wantLater: applied after the next Tick.
		wantLater bool
	}{
		"dropped before":      {func(c Call) error { return when(c.Moment == Before, lost) }, false, false},
		"applied, reply lost": {func(c Call) error { return when(c.Moment == After, lost) }, true, true},
		"applied late":        {func(c Call) error { return when(c.Moment == Before, ErrLate) }, false, true},
	}
	for what, tc := range cases {
		t.Run(what, func(t *testing.T) {
			b := newBench(t)
			b.found(3)
			b.Intercept(func(c Call) error { return when(c.Method == "AddLearner", tc.fault(c)) })
			err := second(b.conn(0).AddLearner(ctx, peerURL(3)))
			b.want("the caller", etcd.ErrOutcomeUnknown, err)
			applied := func() bool { m, _ := b.Truth(token); return len(m.Members) == 4 }
			if applied() != tc.wantApplied {
				t.Errorf("applied %v, want %v", applied(), tc.wantApplied)
			}
			b.Stop(b.ps[0])
			b.Intercept(nil)
			b.start(0, New, 0, 1, 2)
			b.pass(healthInterval + 1)
			if applied() != tc.wantLater {
				t.Errorf("applied later %v, want %v", applied(), tc.wantLater)
			}
		})
	}
	b := newBench(t)
	b.found(1)
	var calls []string
	b.Intercept(func(c Call) error {
		calls = append(calls, fmt.Sprint(c.Number-b.Calls(), c.Moment, c.Method, c.Member))
		return nil
	})
	b.want("read", nil, b.conn(0).Read(ctx))
	if diff := cmp.Diff([]string{"0beforeReadc-0000", "0afterReadc-0000"}, calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func when(condition bool, err error) error {
	if condition {
		return err
	}
	return nil
}

func TestNoSpaceStopsProposalsAndKeepsReads(t *testing.T) {
	b := newBench(t)
	b.found(3)
	b.Raise(b.ps[1], etcd.AlarmNoSpace)
	b.want("propose", etcd.ErrNoSpace, b.conn(0).Propose(t.Context()))
	b.want("put", etcd.ErrNoSpace, b.Put(b.ps[0], "v"))
	b.want("read", nil, b.conn(0).Read(t.Context()))
	alarms, err := b.conn(2).Alarms(t.Context())
	if diff := cmp.Diff([]etcd.Alarm{{MemberID: b.id(1), Kind: etcd.AlarmNoSpace}}, alarms); diff != "" || err != nil {
		t.Errorf("alarms (-want +got):\n%s%v", diff, err)
	}
	b.Disarm(b.ps[0])
	b.want("after disarming", nil, b.conn(0).Propose(t.Context()))
}

func TestConnectionsGoByAddressNameAndKeep(t *testing.T) {
	b := newBench(t)
	b.found(3)
	c := b.conn(0)
	wrong, err := b.Dial(group, etcd.Endpoint{Address: "10.0.0.0:2379", ServerName: name(1) + ".c.ns.svc"}, etcd.Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	b.want("another member's name", etcd.ErrUnreachable, wrong.Read(t.Context()))
	b.Keep(group)
	b.want("a connection that was not kept", etcd.ErrUnreachable, c.Read(t.Context()))
	if got := b.Pooled(group); len(got) != 0 {
		t.Errorf("connected to %v", got)
	}
	b.want("dialed again", nil, b.conn(0).Read(t.Context()))
}

// TestDowngrade: a downgrade is by one minor release, rewrites the storage, and ends when
// the last member runs its target. Without it an older etcd does not open the data.
func TestDowngrade(t *testing.T) {
	b := newBench(t)
	ctx := b.t.Context()
	run := func(i int, version string) {
		if p := b.ps[i]; p != nil {
			b.Stop(p)
		}
		as := flags(i, New, 0, 1, 2)
		as.Version = version
		b.ps[i] = b.Start(fmt.Sprintf("node-%d", i), fmt.Sprintf("pvc-%d", i), fmt.Sprintf("10.0.0.%d:2379", i), as)
	}
	for i := range 3 {
		run(i, "3.7.3")
	}
	status := func(i int) etcd.Status {
		s, err := b.conn(i).Status(ctx)
		b.want("status", nil, err)
		return s
	}
	if s := status(0); s.StorageVersion != "3.7.0" || s.Downgrade != "" {
		t.Fatalf("before: %+v", s)
	}
	run(2, "3.6.16")
	if why, exited := b.Exited(b.ps[2]); !exited {
		t.Fatalf("3.6 opens the data of 3.7 (%s)", why)
	}
	run(2, "3.7.3")
	if err := b.conn(0).Downgrade(ctx, etcd.DowngradeValidate, "3.5.0"); err == nil {
		t.Error("a downgrade by two minor releases is taken")
	}
	b.want("validating", nil, b.conn(0).Downgrade(ctx, etcd.DowngradeValidate, "3.6.0"))
	b.want("cancelling none", etcd.ErrNoDowngrade, b.conn(0).Downgrade(ctx, etcd.DowngradeCancel, ""))
	b.want("enabling", nil, b.conn(0).Downgrade(ctx, etcd.DowngradeEnable, "3.6.0"))
	b.want("enabling twice", etcd.ErrDowngrading, b.conn(0).Downgrade(ctx, etcd.DowngradeEnable, "3.6.0"))
	for i := range 3 {
		if s := status(i); s.StorageVersion != "3.6.0" || s.Downgrade != "3.6.0" {
			t.Fatalf("enabled: %+v", s)
		}
		run(i, "3.6.16")
	}
	if s := status(0); s.Downgrade != "" {
		t.Errorf("all run 3.6, and the downgrade goes on: %+v", s)
	}
}
