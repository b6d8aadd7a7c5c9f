package leader_test

import (
	"context"
	"errors"
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
