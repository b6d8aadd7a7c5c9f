package leader_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/quorate/quorate/leader/leadertest"
)

// clientGoLeases are those of a leadertest server, as client-go's own elector takes them.
type clientGoLeases struct {
	coordinationv1client.LeaseInterface
	client *leadertest.Client
}

func (l clientGoLeases) Leases(string) coordinationv1client.LeaseInterface { return l }

func (l clientGoLeases) Get(ctx context.Context, name string, _ metav1.GetOptions) (*coordinationv1.Lease, error) {
	return l.client.Get(ctx, namespace, name)
}

func (l clientGoLeases) Create(ctx context.Context, lease *coordinationv1.Lease, _ metav1.CreateOptions) (*coordinationv1.Lease, error) {
	return l.client.Create(ctx, lease)
}

func (l clientGoLeases) Update(ctx context.Context, lease *coordinationv1.Lease, _ metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	return l.client.Update(ctx, lease)
}

// clientGo is a candidate of client-go's elector, with its usual times.
type clientGo struct {
	leads atomic.Bool
	stop  context.CancelFunc
	ended chan struct{}
}

func startClientGo(t *testing.T, s *leadertest.Server, identity string, end func(*leaderelection.LeaderElectionConfig)) *clientGo {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	c := &clientGo{stop: stop, ended: make(chan struct{})}
	config := leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta: metav1.ObjectMeta{Namespace: namespace, Name: election}, Client: clientGoLeases{client: s.Client()},
			LockConfig: resourcelock.ResourceLockConfig{Identity: identity},
		},
		LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) { c.leads.Store(true) },
			OnStoppedLeading: func() { c.leads.Store(false) },
		},
	}
	end(&config)
	e, err := leaderelection.NewLeaderElector(config)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.ended)
		e.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-c.ended
	})
	return c
}

// TestMixedElection: with a candidate of client-go in the same election, in either
// order, whoever is released or dies is followed by the other, and never before.
func TestMixedElection(t *testing.T) {
	releases := func(c *leaderelection.LeaderElectionConfig) { c.ReleaseOnCancel = true }
	keeps := func(*leaderelection.LeaderElectionConfig) {}
	for name, tc := range map[string]struct {
		end             func(*leaderelection.LeaderElectionConfig)
		atLeast, within time.Duration
	}{
		"client-go releases it": {releases, 0, 10 * time.Millisecond},
		// It has renewed two seconds before, or less, and its lease is longer than ours.
		"client-go leaves it to run out": {keeps, 13 * time.Second, 15*time.Second + 110*time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := leadertest.NewServer()
				other := startClientGo(t, s, "pod-go", tc.end)
				synctest.Wait()
				ours := start(t, s, "pod-a")
				time.Sleep(time.Minute)
				want(t, "beside client-go's leader", ours, false, "pod-go")
				if !other.leads.Load() {
					t.Fatal("client-go's candidate does not lead")
				}
				other.stop()
				<-other.ended
				began := time.Now()
				if _, err := ours.Lead(t.Context()); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took < tc.atLeast || took > tc.within {
					t.Errorf("taken over after %s, want %s to %s", took, tc.atLeast, tc.within)
				}
				if got := ours.State().Transitions; got != 1 {
					t.Errorf("%d transitions", got)
				}
			})
		})
	}
	for name, end := range map[string]func(*candidate){"ours releases it": func(c *candidate) { c.stop() }, "ours is cut off": (*candidate).cut} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := leadertest.NewServer()
				ours := start(t, s, "pod-a")
				synctest.Wait()
				other := startClientGo(t, s, "pod-go", keeps)
				time.Sleep(time.Minute)
				want(t, "beside client-go's follower", ours, true, "pod-a")
				end(ours)
				for range 200 {
					time.Sleep(100 * time.Millisecond)
					if other.leads.Load() && ours.IsLeader() {
						t.Fatal("both lead")
					}
				}
				if !other.leads.Load() {
					t.Error("client-go's candidate has not taken over")
				}
			})
		})
	}
}
