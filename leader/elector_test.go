package leader_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/quorate/quorate/leader"
	"github.com/quorate/quorate/leader/leadertest"
)

const (
	namespace = "ns"
	election  = "example"
)

// candidate is an elector that runs, and its way to the API server.
type candidate struct {
	*leader.Elector
	client *leadertest.Client
	stop   context.CancelFunc
	ended  chan struct{}
	err    error
}

type option func(*leader.Config)

func pod(uid string) option         { return func(c *leader.Config) { c.PodUID = uid } }
func lasts(d time.Duration) option  { return func(c *leader.Config) { c.LeaseDuration = d } }
func drains(d time.Duration) option { return func(c *leader.Config) { c.Drain = d } }
func observes(c *leader.Config)     { c.Role = leader.Observer }
func logs(to *strings.Builder) option {
	return func(c *leader.Config) { c.Logger = slog.New(slog.NewTextHandler(to, nil)) }
}

// start runs a candidate until the test ends.
func start(t *testing.T, s *leadertest.Server, identity string, options ...option) *candidate {
	t.Helper()
	c := &candidate{client: s.Client(), ended: make(chan struct{})}
	config := leader.Config{
		Election: election, Namespace: namespace, Identity: identity, Leases: c.client,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	for _, o := range options {
		o(&config)
	}
	e, err := leader.New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	c.Elector, c.stop = e, stop
	go func() {
		c.err = e.Run(ctx)
		close(c.ended)
	}()
	t.Cleanup(func() {
		stop()
		<-c.ended
	})
	return c
}

// cut has every request and answer of the candidate lost, and its watches silent.
func (c *candidate) cut() {
	c.client.Fault(func(leadertest.Call) leadertest.Fault { return leadertest.Fault{Lose: leadertest.Request} })
	c.client.Lag(time.Hour)
}

func (c *candidate) name() string { return c.State().Leader }

func want(t *testing.T, when string, c *candidate, leads bool, name string) {
	t.Helper()
	synctest.Wait()
	if s := c.State(); s.IsLeader() != leads || s.Leader != name {
		t.Errorf("%s: %s says that %q leads, itself: %v; want %q, %v", when, s.Self, s.Leader, s.IsLeader(), name, leads)
	}
}

// aRenewal is as long as it takes to see one: who starts beside a leader does not name it
// before.
func aRenewal() {
	time.Sleep(10 * time.Second / 3)
	synctest.Wait()
}

// TestLeftBehind: a Lease that was held by somebody who died long ago is waited for, and
// its holder is not named; one that renews it is, from then on.
func TestLeftBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := leadertest.NewServer()
		dead := start(t, s, "pod-dead")
		synctest.Wait()
		dead.cut()
		time.Sleep(time.Hour)
		o, b := start(t, s, "", observes), start(t, s, "pod-b")
		for range 99 {
			want(t, "beside a dead Lease", o, false, "")
			want(t, "beside a dead Lease", b, false, "")
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(200 * time.Millisecond)
		want(t, "after its lease", b, true, "pod-b")
		want(t, "after its lease", o, false, "pod-b")
		late := start(t, s, "", observes)
		want(t, "at once", late, false, "")
		aRenewal()
		want(t, "after a renewal", late, false, "pod-b")
	})
}

// TestTakesOver goes through a leader's life and its end, with one standby.
func TestTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := leadertest.NewServer()
		a := start(t, s, "pod-a")
		want(t, "at once", a, true, "pod-a")
		b := start(t, s, "pod-b")
		want(t, "beside a leader", b, false, "")
		time.Sleep(time.Minute)
		want(t, "after a minute", a, true, "pod-a")
		want(t, "after a minute", b, false, "pod-a")
		first := a.State().Token
		s.Edit(namespace, election, func(l *coordinationv1.Lease) { l.Labels = map[string]string{"team": "a"} })
		a.stop()
		want(t, "released", b, true, "pod-b")
		if <-a.ended; a.err != nil {
			t.Errorf("Run() = %v", a.err)
		}
		want(t, "after the end", a, false, "")
		if got := s.Lease(namespace, election).Labels["team"]; got != "a" {
			t.Errorf("the Lease's label is %q after it changed hands", got)
		}
		if second := b.State(); second.Token <= first || second.Transitions != 1 {
			t.Errorf("token %d after %d, %d transitions", second.Token, first, second.Transitions)
		}
	})
}

// TestCrash: who is cut off stops claiming at its renew deadline, is named until the
// lease is over, and is replaced then.
func TestCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := leadertest.NewServer()
		a, b, o := start(t, s, "pod-a"), start(t, s, "pod-b"), start(t, s, "", observes)
		aRenewal()
		if !a.IsLeader() {
			a, b = b, a
		}
		old := a.State().Self
		term, err := a.Lead(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		a.cut()
		cutAt := time.Now()
		ends := a.State().Remaining()
		if ends != 7500*time.Millisecond {
			t.Errorf("the claim lasts for %s, want 7.5 s", ends)
		}
		time.Sleep(ends - time.Millisecond)
		want(t, "just before its deadline", a, true, old)
		if err := term.Check(); err != nil || term.Context().Err() != nil {
			t.Errorf("just before its deadline: Check() = %v, context %v", err, term.Context().Err())
		}
		time.Sleep(time.Millisecond)
		want(t, "at its deadline", a, false, "")
		if err := term.Check(); !errors.Is(err, leader.ErrLost) || !errors.Is(context.Cause(term.Context()), leader.ErrLost) {
			t.Errorf("at its deadline: Check() = %v, context %v", err, context.Cause(term.Context()))
		}
		want(t, "at its deadline", b, false, old)
		want(t, "at its deadline", o, false, old)
		time.Sleep(2499 * time.Millisecond)
		want(t, "just before the end of the lease", b, false, old)
		for range b.Changes(t.Context()) {
			if b.IsLeader() {
				break
			}
		}
		if took := time.Since(cutAt); took > 10*time.Second+250*time.Millisecond {
			t.Errorf("taken over after %s", took)
		}
		want(t, "taken over", b, true, b.State().Self)
	})
}

// TestSlowAnswers: a claim counts from before the request that won or renewed it, and
// a term's context ends in time while the elector waits for an answer.
func TestSlowAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := leadertest.NewServer()
		slow := func(c *leader.Config) {
			c.RenewInterval = 2400 * time.Millisecond
			c.Leases.(*leadertest.Client).Fault(func(call leadertest.Call) leadertest.Fault {
				if call.Lease == nil {
					return leadertest.Fault{}
				}
				return leadertest.Fault{Before: 500 * time.Millisecond, After: 500 * time.Millisecond}
			})
		}
		a := start(t, s, "pod-a", slow)
		term, err := a.Lead(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if left := a.State().Remaining(); left != 6500*time.Millisecond {
			t.Errorf("the claim lasts for %s after an answer that took 1 s, want 6.5 s", left)
		}
		time.Sleep(2400 * time.Millisecond)
		synctest.Wait()
		if left := a.State().Remaining(); left != 6500*time.Millisecond {
			t.Errorf("the renewed claim lasts for %s after an answer that took 1 s, want 6.5 s", left)
		}
		a.cut()
		ends := time.Now().Add(a.State().Remaining())
		<-term.Context().Done()
		if late := time.Since(ends); late != 0 {
			t.Errorf("the context ended %s after the claim", late)
		}
	})
}

// TestRunsOut: without anybody who takes over, nobody is named once the lease is over.
func TestRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := leadertest.NewServer()
		a := start(t, s, "pod-a")
		o := start(t, s, "", observes)
		aRenewal()
		want(t, "after a renewal", o, false, "pod-a")
		version := o.State().Version
		a.cut()
		time.Sleep(10*time.Second - time.Nanosecond)
		want(t, "just before the end", o, false, "pod-a")
		if got := o.State().Version; got != version {
			t.Errorf("version %d after %d, and nothing has changed", got, version)
		}
		time.Sleep(time.Nanosecond)
		if s := o.State(); s.Leader != "" || s.Version != version+1 || s.Remaining() != 0 {
			t.Errorf("at the end: %+v, want nobody, in version %d", s, version+1)
		}
		synctest.Wait()
		if s := o.State(); s.Version != version+1 {
			t.Errorf("the loop came round to it with version %d", s.Version)
		}
	})
}

// TestSameName: a pod of the same name is somebody else, and is not named to those who
// ask this one: they would take the name for its own.
func TestSameName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := leadertest.NewServer()
		a := start(t, s, "pod-0")
		want(t, "at once", a, true, "pod-0")
		b := start(t, s, "pod-0")
		time.Sleep(time.Minute)
		want(t, "beside its namesake", b, false, "")
		want(t, "beside its namesake", a, true, "pod-0")
		a.cut()
		time.Sleep(9 * time.Second)
		want(t, "after its namesake's deadline", b, false, "")
		time.Sleep(1100 * time.Millisecond)
		want(t, "after its namesake's lease", b, true, "pod-0")
		want(t, "after its lease", a, false, "")
		if got := b.State().Transitions; got != 1 {
			t.Errorf("%d transitions, though it is another term", got)
		}
	})
}

// TestRestartInItsPod: a process that is started anew in the pod takes over at once;
// beside another process of its pod it does not.
func TestRestartInItsPod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := leadertest.NewServer()
		s.Client()
		// Written by a predecessor that was killed.
		lease := &coordinationv1.Lease{}
		lease.Namespace, lease.Name = namespace, election
		lease.Annotations = map[string]string{leader.SessionAnnotation: "uid-1/0123456789abcdef#1"}
		lease.Spec = coordinationv1.LeaseSpec{HolderIdentity: new("pod-0"), LeaseDurationSeconds: new(int32(10)), LeaseTransitions: new(int32(4))}
		if _, err := s.Client().Create(t.Context(), lease); err != nil {
			t.Fatal(err)
		}
		other := start(t, s, "pod-0", pod("uid-2"))
		want(t, "in another pod", other, false, "")
		a := start(t, s, "pod-0", pod("uid-1"))
		want(t, "in the same pod", a, true, "pod-0")
		if got := a.State().Transitions; got != 5 {
			t.Errorf("%d transitions, want 5", got)
		}
		b := start(t, s, "pod-0", pod("uid-1"))
		want(t, "beside a process of its pod", b, false, "")
		want(t, "after that", a, true, "pod-0")
	})
}

// TestUnknownOutcome: an acquisition whose answer was lost counts from when it was
// sent, and a renewal whose answer was lost does not make the claim longer.
func TestUnknownOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// A clock has more digits than a Lease.
		time.Sleep(123456789 * time.Nanosecond)
		s := leadertest.NewServer()
		a := start(t, s, "", func(c *leader.Config) {
			c.Identity = "pod-a"
			client := c.Leases.(*leadertest.Client)
			client.Fault(func(call leadertest.Call) leadertest.Fault {
				if call.Verb == "create" {
					return leadertest.Fault{Lose: leadertest.Answer}
				}
				return leadertest.Fault{}
			})
		})
		sent := time.Now()
		want(t, "before the outcome is known", a, false, "")
		time.Sleep(5 * time.Second)
		want(t, "once it is known", a, true, "pod-a")
		_ = sent
		if got := s.Requests()["create"]; got != 1 {
			t.Errorf("created %d times", got)
		}
		a.client.Fault(func(call leadertest.Call) leadertest.Fault {
			if call.Verb == "update" {
				return leadertest.Fault{Lose: leadertest.Answer}
			}
			return leadertest.Fault{}
		})
		left := a.State().Remaining()
		a.client.Lag(time.Hour)
		time.Sleep(left - time.Millisecond)
		want(t, "just before its deadline", a, true, "pod-a")
		time.Sleep(time.Millisecond)
		if a.IsLeader() {
			t.Error("a renewal of unknown outcome has made the claim longer")
		}
	})
}

// TestHands: whatever is done to the Lease by hand ends the claim of whoever holds it,
// and lets nobody in before the time of that one is over.
func TestHands(t *testing.T) {
	edit := func(f func(*coordinationv1.Lease)) func(*leadertest.Server) {
		return func(s *leadertest.Server) { s.Edit(namespace, election, f) }
	}
	cases := map[string]struct {
		do    func(*leadertest.Server)
		stays bool
		after string
	}{
		"deleted":               {func(s *leadertest.Server) { s.Delete(namespace, election) }, false, ""},
		"emptied":               {edit(func(l *coordinationv1.Lease) { l.Spec.HolderIdentity = new("") }), false, ""},
		"given to another":      {edit(func(l *coordinationv1.Lease) { l.Spec.HolderIdentity = new("pod-x") }), false, "pod-x"},
		"renewed by a namesake": {edit(func(l *coordinationv1.Lease) { l.Spec.LeaseTransitions = new(int32(9)) }), false, "pod-a"},
		"signed by a namesake":  {edit(func(l *coordinationv1.Lease) { l.Annotations[leader.SessionAnnotation] = "another/1#1" }), false, "pod-a"},
		"labelled":              {edit(func(l *coordinationv1.Lease) { l.Labels = map[string]string{"team": "a"} }), true, "pod-a"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := leadertest.NewServer()
				a := start(t, s, "pod-a")
				want(t, "at once", a, true, "pod-a")
				token := a.State().Token
				// Nobody is there to see it first.
				b := start(t, s, "pod-b")
				aRenewal()
				if tc.stays {
					tc.do(s)
					time.Sleep(30 * time.Second)
					want(t, "a while later", a, true, "pod-a")
					if got := s.Lease(namespace, election).Labels["team"]; got != "a" {
						t.Errorf("the label is %q after some renewals", got)
					}
					return
				}
				a.client.Lag(time.Hour) // a does not hear of it before it renews
				tc.do(s)
				synctest.Wait()
				if b.IsLeader() {
					t.Fatal("the other one leads although the first has not heard of it")
				}
				if b.name() != tc.after {
					t.Errorf("b names %q, want %q", b.name(), tc.after)
				}
				time.Sleep(4 * time.Second)
				synctest.Wait()
				for range 300 {
					if a.IsLeader() && b.IsLeader() {
						t.Fatal("two lead")
					}
					time.Sleep(100 * time.Millisecond)
				}
				if !a.IsLeader() && !b.IsLeader() {
					t.Error("nobody leads again")
				}
				if got := max(a.State().Token, b.State().Token); got <= token {
					t.Errorf("token %d after %d", got, token)
				}
			})
		})
	}
}

// TestEndOrder: the answer is no first, then the work ends, and only then is the Lease
// released.
func TestEndOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := leadertest.NewServer()
		a := start(t, s, "pod-a", drains(2*time.Second))
		synctest.Wait()
		var order []string
		done := make(chan error, 1)
		go func() {
			done <- a.Do(t.Context(), func(ctx context.Context, term *leader.Term) error {
				<-ctx.Done()
				order = append(order, fmt.Sprint("told: ", a.IsLeader(), " ", errors.Is(term.Check(), leader.ErrResigned)))
				time.Sleep(3 * time.Second)
				order = append(order, fmt.Sprint("done, held by ", *s.Lease(namespace, election).Spec.HolderIdentity))
				return errors.New("the work's own")
			})
		}()
		b := start(t, s, "pod-b")
		aRenewal()
		began := time.Now()
		a.stop()
		want(t, "told to end", a, false, "")
		want(t, "told to end", b, false, "pod-a")
		if <-a.ended; a.err != nil {
			t.Errorf("Run() = %v", a.err)
		}
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("released after %s, want the 3 s that the work took", took)
		}
		want(t, "released", b, true, "pod-b")
		if got := strings.Join(order, "; "); got != "told: false true; done, held by pod-a" {
			t.Errorf("in this order: %s", got)
		}
	})
}

// TestWorkThatDoesNotEnd holds the release up, and nobody else for longer than the
// lease.
func TestWorkThatDoesNotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := leadertest.NewServer()
		a := start(t, s, "pod-a")
		synctest.Wait()
		release := make(chan struct{})
		go func() {
			_ = a.Do(t.Context(), func(context.Context, *leader.Term) error { <-release; return nil })
		}()
		b := start(t, s, "pod-b")
		aRenewal()
		a.stop()
		time.Sleep(9 * time.Second)
		want(t, "while it works on", b, false, "pod-a")
		time.Sleep(1200 * time.Millisecond)
		want(t, "after the lease", b, true, "pod-b")
		if <-a.ended; a.err == nil || !strings.Contains(a.err.Error(), "has not ended in time") {
			t.Errorf("Run() = %v, although the Lease was not released", a.err)
		}
		close(release)
	})
}

// TestResign hands over to another one, and contends again after the cooldown.
func TestResign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := leadertest.NewServer()
		a := start(t, s, "pod-a")
		synctest.Wait()
		// One that has just lost a race asks no more for a moment.
		b := start(t, s, "pod-b")
		synctest.Wait()
		if err := a.Resign(t.Context(), time.Minute); err != nil {
			t.Fatal(err)
		}
		want(t, "after it resigned", b, true, "pod-b")
		b.stop()
		<-b.ended
		want(t, "in its cooldown", a, false, "")
		time.Sleep(time.Minute)
		want(t, "after it", a, true, "pod-a")
		if err := a.Become(t.Context(), leader.Ineligible); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		want(t, "not eligible", a, false, "")
		c := start(t, s, "pod-c", func(c *leader.Config) { c.Eligibility = leader.Ineligible })
		want(t, "not eligible from the start", c, false, "")
		if err := a.Become(t.Context(), leader.Eligible); err != nil {
			t.Fatal(err)
		}
		want(t, "eligible", a, true, "pod-a")
	})
}

// TestResignInVain: whoever resigned is told when the Lease could not be released.
func TestResignInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := leadertest.NewServer()
		a := start(t, s, "pod-a")
		synctest.Wait()
		a.client.Fault(func(leadertest.Call) leadertest.Fault { return leadertest.Fault{Lose: leadertest.Request} })
		began := time.Now()
		err := a.Resign(t.Context(), time.Minute)
		if took := time.Since(began); !errors.Is(err, leader.ErrLost) || took > 7600*time.Millisecond {
			t.Errorf("after %s: %v", took, err)
		}
		a.client.Fault(nil)
	})
}

// TestThrottled: a leader that is told to wait does, as long as there is time for
// another try.
func TestThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := leadertest.NewServer()
		a := start(t, s, "pod-a")
		synctest.Wait()
		asked := 0
		a.client.Fault(func(c leadertest.Call) leadertest.Fault {
			if asked++; c.Verb != "update" {
				return leadertest.Fault{}
			}
			return leadertest.Fault{Refuse: apierrors.NewTooManyRequests("slowly", 3)}
		})
		time.Sleep(6 * time.Second)
		want(t, "while it is told to wait", a, true, "pod-a")
		if asked > 2 {
			t.Errorf("it asked %d times", asked)
		}
		a.client.Fault(nil)
		time.Sleep(time.Minute)
		want(t, "afterwards", a, true, "pod-a")
	})
}

// TestForbidden: missing rights are named once, and it goes on when they are there.
func TestForbidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := leadertest.NewServer()
		var log strings.Builder
		no := func(verbs ...string) func(leadertest.Call) leadertest.Fault {
			return func(c leadertest.Call) leadertest.Fault {
				if slices.Contains(verbs, c.Verb) {
					return leadertest.Fault{Refuse: apierrors.NewForbidden(coordinationv1.Resource("leases"), election, errors.New("no"))}
				}
				return leadertest.Fault{}
			}
		}
		a := start(t, s, "pod-a", logs(&log), func(c *leader.Config) { c.Leases.(*leadertest.Client).Fault(no("create", "watch")) })
		time.Sleep(time.Minute)
		want(t, "without rights", a, false, "")
		for _, missing := range []string{"create on leases.coordination.k8s.io ns/example", "watch on leases.coordination.k8s.io ns/example"} {
			if got := strings.Count(log.String(), missing); got != 1 {
				t.Errorf("%q is told %d times:\n%s", missing, got, log.String())
			}
		}
		before := s.Requests()["get"]
		asked := 0
		a.client.Fault(func(c leadertest.Call) leadertest.Fault {
			asked++
			return no("create", "watch")(c)
		})
		time.Sleep(time.Minute)
		// It looks now and then in between.
		if asked -= s.Requests()["get"] - before; asked > 13 {
			t.Errorf("%d requests in a minute that are refused", asked)
		}
		a.client.Fault(no("watch"))
		time.Sleep(5 * time.Second)
		want(t, "with most of them", a, true, "pod-a")
		b := start(t, s, "pod-b", func(c *leader.Config) { c.Leases.(*leadertest.Client).Fault(no("watch")) })
		time.Sleep(time.Minute)
		want(t, "polling", b, false, "pod-a")
		a.stop()
		<-a.ended
		time.Sleep(2600 * time.Millisecond)
		want(t, "polling", b, true, "pod-b")
	})
}

// TestRequests at rest: the leader renews, and a follower does next to nothing.
func TestRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := leadertest.NewServer()
		start(t, s, "pod-a")
		start(t, s, "pod-b")
		start(t, s, "pod-c")
		time.Sleep(time.Minute)
		before := s.Requests()
		time.Sleep(time.Hour)
		for verb, n := range s.Requests() {
			if did := n - before[verb]; (verb == "update" && did > 3600/3) || (verb != "update" && did > 0) {
				t.Errorf("%d requests %s in an hour", did, verb)
			}
		}
	})
}

// TestConfig: each value that cannot be safe is refused with a reason.
func TestConfig(t *testing.T) {
	good := func() leader.Config {
		return leader.Config{Election: "e", Identity: "a", Leases: leadertest.NewServer().Client()}
	}
	for seconds := 2; seconds <= 60; seconds++ {
		c := good()
		c.LeaseDuration = time.Duration(seconds) * time.Second
		e, err := leader.New(c)
		if err != nil {
			t.Fatalf("a lease of %d s and defaults: %v", seconds, err)
		}
		if d := e.Config(); d.RenewDeadline > d.LeaseDuration*3/4 || d.RenewInterval > d.RenewDeadline/2 {
			t.Errorf("%d s: deadline %s, interval %s", seconds, d.RenewDeadline, d.RenewInterval)
		}
	}
	cases := map[string]struct {
		edit func(*leader.Config)
		says string
	}{
		"no name":            {func(c *leader.Config) { c.Election = "" }, "the election has no name"},
		"a bad name":         {func(c *leader.Config) { c.Election = "A_b" }, `"A_b", which no Lease can be`},
		"a bad namespace":    {func(c *leader.Config) { c.Namespace = "a.b" }, `"a.b"`},
		"no identity":        {func(c *leader.Config) { c.Identity = "" }, "no identity"},
		"no access":          {func(c *leader.Config) { c.Leases = nil }, "no access"},
		"half seconds":       {func(c *leader.Config) { c.LeaseDuration = 2500 * time.Millisecond }, "whole seconds"},
		"too short":          {func(c *leader.Config) { c.LeaseDuration = time.Second }, "2s or more"},
		"a late deadline":    {func(c *leader.Config) { c.RenewDeadline = 9 * time.Second }, "at most 8s"},
		"rare renewals":      {func(c *leader.Config) { c.RenewInterval = 5 * time.Second }, "at most 3.75s"},
		"a negative drain":   {func(c *leader.Config) { c.Drain = -1 }, "negative"},
		"a negative renewal": {func(c *leader.Config) { c.RenewInterval = -1 }, "more than zero"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := good()
			tc.edit(&c)
			if _, err := leader.New(c); err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("New() = %v, want something with %q", err, tc.says)
			}
		})
	}
}
