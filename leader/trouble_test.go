package leader_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/quorate/quorate/leader"
	"github.com/quorate/quorate/leader/leadertest"
)

// TestWorkOutlivesItsTerm: work that goes on after its term was lost holds up the
// release of the next one.
func TestWorkOutlivesItsTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := leadertest.NewServer()
		a := start(t, s, "pod-a")
		synctest.Wait()
		done := make(chan struct{})
		go func() {
			_ = a.Do(t.Context(), func(context.Context, *leader.Term) error { <-done; return nil })
		}()
		synctest.Wait()
		first := a.State().Token
		s.Delete(namespace, election)
		time.Sleep(15 * time.Second)
		want(t, "in the next term", a, true, "pod-a")
		if a.State().Token == first {
			t.Fatal("it is the same term")
		}
		resigned := make(chan error, 1)
		go func() { resigned <- a.Resign(t.Context(), time.Hour) }()
		synctest.Wait()
		want(t, "resigning", a, false, "")
		if got := *s.Lease(namespace, election).Spec.HolderIdentity; got != "pod-a" {
			t.Errorf("the Lease is %q's while the work goes on", got)
		}
		close(done)
		if err := <-resigned; err != nil || *s.Lease(namespace, election).Spec.HolderIdentity != "" {
			t.Errorf("Resign() = %v, and the Lease is %q's", err, *s.Lease(namespace, election).Spec.HolderIdentity)
		}
	})
}

// TestResignAfterTheEnd: nobody is left to answer.
func TestResignAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, leadertest.NewServer(), "pod-a")
		synctest.Wait()
		a.stop()
		<-a.ended
		if err := a.Resign(t.Context(), 0); err != nil {
			t.Errorf("Resign() = %v", err)
		}
	})
}

// TestWithoutThePodsLock: a process that has not the lock of its pod signs as nobody
// of the pod, so that no other one takes its Lease for a predecessor's.
func TestWithoutThePodsLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := leadertest.NewServer()
		a := start(t, s, "pod-0", pod("uid-3"))
		synctest.Wait()
		b := start(t, s, "pod-0", pod("uid-3"))
		synctest.Wait()
		a.stop()
		<-a.ended
		want(t, "after the first", b, true, "pod-0")
		if by := s.Lease(namespace, election).Annotations[leader.SessionAnnotation]; strings.HasPrefix(by, "uid-3/") {
			t.Errorf("it signs as %s", by)
		}
		c := start(t, s, "pod-0", pod("uid-3"))
		want(t, "beside it", c, false, "")
	})
}

// TestNoHotLoop: whatever the API server answers, it is not asked without a pause.
func TestNoHotLoop(t *testing.T) {
	gone := apierrors.NewNotFound(coordinationv1.Resource("namespaces"), namespace)
	conflict := apierrors.NewConflict(coordinationv1.Resource("leases"), election, errors.New("a webhook's"))
	refused := errors.New("connection refused")
	for name, answer := range map[string]func(leadertest.Call) error{
		"no such namespace":                         func(c leadertest.Call) error { return map[string]error{"create": gone}[c.Verb] },
		"a conflict for ever":                       func(c leadertest.Call) error { return map[string]error{"create": conflict}[c.Verb] },
		"nothing listens":                           func(leadertest.Call) error { return refused },
		"reading fails, and once the watch is gone": func(c leadertest.Call) error { return map[string]error{"get": refused, "watch": refused}[c.Verb] },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := leadertest.NewServer()
				a := start(t, s, "pod-a", func(c *leader.Config) {
					if !strings.Contains(name, "once") {
						c.Leases.(*leadertest.Client).Fault(func(c leadertest.Call) leadertest.Fault { return leadertest.Fault{Refuse: answer(c)} })
					}
				})
				synctest.Wait()
				asked := 0
				a.client.Fault(func(c leadertest.Call) leadertest.Fault {
					asked++
					return leadertest.Fault{Refuse: answer(c)}
				})
				a.client.DropWatches()
				time.Sleep(10 * time.Second)
				if asked > 250 {
					t.Errorf("%d requests in 10 s", asked)
				}
			})
		})
	}
}

// TestIneligibleMeanwhile: whoever became ineligible while the outcome of its
// acquisition was unknown gives it up as soon as it is known.
func TestIneligibleMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := leadertest.NewServer()
		a := start(t, s, "pod-a", func(c *leader.Config) {
			c.Leases.(*leadertest.Client).Fault(func(call leadertest.Call) leadertest.Fault {
				if call.Verb == "create" {
					return leadertest.Fault{Lose: leadertest.Answer}
				}
				return leadertest.Fault{}
			})
		})
		synctest.Wait()
		if err := a.Become(t.Context(), leader.Ineligible); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		want(t, "once it is known", a, false, "")
		if got := *s.Lease(namespace, election).Spec.HolderIdentity; got != "" {
			t.Errorf("the Lease is still %q's", got)
		}
	})
}

// TestLostRenewal: one answer that is lost costs no term, however far away the API server
// is, and whether it is the watch that tells what became of the renewal or a look.
func TestLostRenewal(t *testing.T) {
	for _, rtt := range []time.Duration{0, 40 * time.Millisecond, 110 * time.Millisecond, 300 * time.Millisecond} {
		for name, blind := range map[string]string{"the watch says nothing": "watch", "reading fails": "get"} {
			t.Run(fmt.Sprint(rtt, ", ", name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := leadertest.NewServer()
					a := start(t, s, "pod-a")
					time.Sleep(time.Minute)
					token, lost := a.State().Token, false
					defer func() {
						a.stop()
						<-a.ended
						// What is on its way arrives.
						time.Sleep(time.Minute)
					}()
					a.client.Lag(rtt / 2)
					if blind == "watch" {
						a.client.Lag(time.Hour)
					}
					a.client.Fault(func(c leadertest.Call) leadertest.Fault {
						f := leadertest.Fault{Before: rtt / 2, After: rtt / 2}
						switch {
						case c.Verb == "update" && !lost:
							lost, f.Lose = true, leadertest.Answer
						case c.Verb == blind:
							f.Refuse = errors.New("no")
						}
						return f
					})
					for range 600 {
						time.Sleep(100 * time.Millisecond)
						if !a.IsLeader() {
							t.Fatal("the term was lost")
						}
					}
					if got := a.State().Token; !lost || got != token {
						t.Errorf("token %d after %d", got, token)
					}
				})
			})
		}
	}
}

// TestLostRelease: a release that an edit of the Lease crosses is tried again by somebody
// far away from the API server, too.
func TestLostRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := leadertest.NewServer()
		a := start(t, s, "pod-a")
		synctest.Wait()
		a.client.Lag(time.Hour)
		a.client.Fault(func(leadertest.Call) leadertest.Fault {
			return leadertest.Fault{Before: 150 * time.Millisecond, After: 150 * time.Millisecond}
		})
		s.Edit(namespace, election, func(l *coordinationv1.Lease) { l.Labels = map[string]string{"team": "a"} })
		began := time.Now()
		a.stop()
		if <-a.ended; a.err != nil || *s.Lease(namespace, election).Spec.HolderIdentity != "" {
			t.Errorf("Run() = %v", a.err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("the release took %s", took)
		}
		time.Sleep(time.Minute)
	})
}

// TestLostRenewals: whichever of several renewals it was that came to pass, it is known
// again.
func TestLostRenewals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := leadertest.NewServer()
		a := start(t, s, "pod-a", func(c *leader.Config) { c.RenewInterval = time.Second })
		time.Sleep(time.Minute)
		token, lost := a.State().Token, 0
		a.client.Lag(1500 * time.Millisecond)
		a.client.Fault(func(c leadertest.Call) leadertest.Fault {
			if c.Verb != "update" || lost == 2 {
				return leadertest.Fault{}
			}
			lost++
			return leadertest.Fault{Lose: map[int]leadertest.Loss{1: leadertest.Answer, 2: leadertest.Request}[lost]}
		})
		time.Sleep(30 * time.Second)
		want(t, "after two answers were lost", a, true, "pod-a")
		if got := a.State().Token; lost != 2 || got != token {
			t.Errorf("token %d after %d", got, token)
		}
	})
}

// TestLateAcquisition: one that was on its way for longer than anybody waits for its answer
// is known again when it arrives, and counts from when it was sent.
func TestLateAcquisition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := leadertest.NewServer()
		const late = 3400 * time.Millisecond
		a := start(t, s, "pod-a", func(c *leader.Config) {
			creates := 0
			c.Leases.(*leadertest.Client).Fault(func(c leadertest.Call) leadertest.Fault {
				if c.Verb != "create" {
					return leadertest.Fault{}
				}
				if creates++; creates > 1 {
					return leadertest.Fault{Refuse: errors.New("connection refused")}
				}
				return leadertest.Fault{Before: late}
			})
		})
		sent := time.Now()
		term, err := a.Lead(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(sent); took < late || took > 7*time.Second {
			t.Errorf("it leads after %s", took)
		}
		if got, want := a.State().Remaining(), time.Until(sent.Add(7500*time.Millisecond)); got != want || a.State().Token != term.Token() {
			t.Errorf("the claim lasts for %s, want %s", got, want)
		}
		time.Sleep(time.Minute)
	})
}

// TestGrace: others are kept out until the lease is over that was renewed last, counted
// from before it was asked for, also when the term has ended before.
func TestGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const late = 100 * time.Millisecond
		s := leadertest.NewServer()
		a := start(t, s, "pod-a", drains(5*time.Second), func(c *leader.Config) {
			c.RenewInterval = 3 * time.Second
			c.Leases.(*leadertest.Client).Fault(func(c leadertest.Call) leadertest.Fault {
				if c.Lease == nil {
					return leadertest.Fault{}
				}
				return leadertest.Fault{Before: late}
			})
		})
		term, err := a.Lead(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		grace := func(when string, want time.Duration) {
			t.Helper()
			synctest.Wait()
			if got := term.Grace(); got != want {
				t.Errorf("%s others are kept out for %s, want %s", when, got, want)
			}
		}
		grace("at first", 10*time.Second-late)
		time.Sleep(3 * time.Second)
		grace("renewed,", 10*time.Second-late)
		a.stop()
		time.Sleep(3 * time.Second)
		grace("renewed while it is drained,", 10*time.Second-late)
		a.client.Fault(func(leadertest.Call) leadertest.Fault { return leadertest.Fault{Lose: leadertest.Request} })
		time.Sleep(time.Minute)
		grace("in the end", 0)
	})
}

// TestWorkOutlivesItsElector: a process of the same pod is kept out by work that goes on,
// although the elector has ended.
func TestWorkOutlivesItsElector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := leadertest.NewServer()
		a := start(t, s, "pod-0", pod("uid-4"))
		synctest.Wait()
		done := make(chan struct{})
		go func() {
			_ = a.Do(t.Context(), func(context.Context, *leader.Term) error { <-done; return nil })
		}()
		synctest.Wait()
		a.stop()
		<-a.ended
		b := start(t, s, "pod-0", pod("uid-4"))
		want(t, "while the work goes on", b, false, "")
		close(done)
		synctest.Wait()
		b.stop()
		<-b.ended
		want(t, "afterwards", start(t, s, "pod-0", pod("uid-4")), true, "pod-0")
	})
}
