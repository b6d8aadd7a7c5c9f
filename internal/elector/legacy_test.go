package elector

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/quorate/quorate/leader"
	"github.com/quorate/quorate/leader/leadertest"
	"github.com/quorate/quorate/test/deadway"
	"github.com/quorate/quorate/test/legacy"
)

// locked is one Endpoints object, as an API server keeps it.
type locked struct {
	mu       sync.Mutex
	object   *unstructured.Unstructured
	revision int
	// late is how long a request of the new kind is on its way, and its answer.
	late func() (before, after time.Duration)
	// refuse has every request fail.
	refuse error
}

var endpointsResource = schema.GroupResource{Resource: "endpoints"}

func (l *locked) call(ctx context.Context, do func() (*unstructured.Unstructured, error)) (*unstructured.Unstructured, error) {
	var before, after time.Duration
	if l.late != nil {
		before, after = l.late()
	}
	if !pause(ctx, before) {
		// It arrives all the same.
		time.AfterFunc(before, func() { _, _ = do() })
		return nil, context.Cause(ctx)
	}
	got, err := do()
	if !pause(ctx, after) {
		return nil, context.Cause(ctx)
	}
	return got, err
}

func (l *locked) get() (*unstructured.Unstructured, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse != nil {
		return nil, l.refuse
	}
	if l.object == nil {
		return nil, apierrors.NewNotFound(endpointsResource, "example")
	}
	return l.object.DeepCopy(), nil
}

func (l *locked) put(object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	have := ""
	if l.object != nil {
		have = l.object.GetResourceVersion()
	}
	switch {
	case l.refuse != nil:
		return nil, l.refuse
	case object.GetResourceVersion() == "" && have != "":
		return nil, apierrors.NewAlreadyExists(endpointsResource, "example")
	case object.GetResourceVersion() != have:
		return nil, apierrors.NewConflict(endpointsResource, "example", errors.New("it was modified"))
	}
	l.revision++
	l.object = object.DeepCopy()
	l.object.SetResourceVersion(strconv.Itoa(l.revision))
	return l.object.DeepCopy(), nil
}

func (l *locked) Get(ctx context.Context, _, _ string) (*unstructured.Unstructured, error) {
	return l.call(ctx, l.get)
}

func (l *locked) Create(ctx context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	return l.call(ctx, func() (*unstructured.Unstructured, error) { return l.put(object) })
}

func (l *locked) Update(ctx context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	return l.call(ctx, func() (*unstructured.Unstructured, error) { return l.put(object) })
}

func (l *locked) record() legacyRecord {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.object == nil {
		return legacyRecord{}
	}
	r, _ := recordOf(l.object)
	return r
}

// edit the record, or the whole object, by hand.
func (l *locked) edit(do func(*unstructured.Unstructured) *unstructured.Unstructured) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.object == nil {
		return
	}
	l.revision++
	if l.object = do(l.object.DeepCopy()); l.object != nil {
		l.object.SetResourceVersion(strconv.Itoa(l.revision))
	}
}

// hands are what may be done to a record.
var hands = map[string]func(*unstructured.Unstructured) *unstructured.Unstructured{
	"emptied": func(o *unstructured.Unstructured) *unstructured.Unstructured {
		record, _ := recordOf(o)
		record.HolderIdentity, record.Session = "", ""
		text, _ := json.Marshal(record)
		o.SetAnnotations(map[string]string{legacyAnnotation: string(text)})
		return o
	},
	"removed": func(o *unstructured.Unstructured) *unstructured.Unstructured { o.SetAnnotations(nil); return o },
	"deleted": func(*unstructured.Unstructured) *unstructured.Unstructured { return nil },
}

// oldWay is how a candidate of 0.5 reaches the object: without delay, for 0.5 itself
// claims beyond its time when its requests hang.
type oldWay struct{ *locked }

func (oldWay) New() metav1.Object { return &unstructured.Unstructured{} }

func (o oldWay) Get(context.Context) (metav1.Object, error) { return o.get() }

func (o oldWay) Put(_ context.Context, object metav1.Object) error {
	_, err := o.put(object.(*unstructured.Unstructured))
	return err
}

func oldCandidate(locks *locked, id string) *legacy.Candidate {
	return &legacy.Candidate{ID: id, TTL: 10 * time.Second, Endpoints: oldWay{locks}}
}

// newCandidate with both locks, until the context ends.
func newCandidate(t *testing.T, server *leadertest.Server, locks *locked, id string) (*leader.Elector, *leadertest.Client) {
	t.Helper()
	client := server.Client()
	e, err := leader.New(leader.Config{Election: "example", Namespace: "ns", Identity: id, Leases: withLegacyLock(client, locks), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	return e, client
}

// TestLegacyLock waits for a holder of 0.5, and keeps 0.5 out afterwards.
func TestLegacyLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, locks := leadertest.NewServer(), &locked{}
		old := oldCandidate(locks, "old")
		oldCtx, crash := context.WithCancel(t.Context())
		go old.Run(oldCtx, func() {})
		time.Sleep(time.Second)
		e, _ := newCandidate(t, server, locks, "new")
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- e.Run(ctx) }()
		time.Sleep(time.Minute)
		if !old.Leads() || e.IsLeader() || server.Lease("ns", "example") != nil {
			t.Fatalf("0.5 leads: %v, and the new one: %v", old.Leads(), e.IsLeader())
		}
		crash()
		began := time.Now()
		for !e.IsLeader() && time.Since(began) < time.Minute {
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(began); took < 7500*time.Millisecond || took > 13*time.Second {
			t.Errorf("it leads %s after the crash", took)
		}
		second := oldCandidate(locks, "old-2")
		go second.Run(ctx, func() {})
		time.Sleep(time.Minute)
		if !e.IsLeader() || second.Leads() || locks.record().HolderIdentity != "new" {
			t.Errorf("0.5 leads: %v, and the new one: %v", second.Leads(), e.IsLeader())
		}
		if err := e.Resign(ctx, 10*time.Minute); err != nil {
			t.Fatal(err)
		}
		began = time.Now()
		for !second.Leads() && time.Since(began) < time.Minute {
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("0.5 leads only %s after the release", took)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
	})
}

// TestLegacyHands: what somebody takes away from a candidate of 0.5 by hand is not free
// before that one can have heard of it.
func TestLegacyHands(t *testing.T) {
	for name, hand := range hands {
		for _, at := range []time.Duration{100 * time.Millisecond, time.Second, 2400 * time.Millisecond} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					server, locks := leadertest.NewServer(), &locked{}
					old := oldCandidate(locks, "old")
					ctx, stop := context.WithCancel(t.Context())
					oldCtx, crash := context.WithCancel(ctx)
					var all sync.WaitGroup
					all.Go(func() { old.Run(oldCtx, func() {}) })
					time.Sleep(time.Second)
					e, _ := newCandidate(t, server, locks, "new")
					all.Go(func() { _ = e.Run(ctx) })
					time.Sleep(30*time.Second + at)
					locks.edit(hand)
					for range 1000 {
						time.Sleep(10 * time.Millisecond)
						if old.Leads() && e.IsLeader() {
							t.Error("both lead")
							break
						}
					}
					crash()
					locks.edit(hands["removed"])
					time.Sleep(14 * time.Second)
					if !e.IsLeader() {
						t.Error("it waits for somebody who has ended")
					}
					stop()
					all.Wait()
				})
			})
		}
	}
}

// TestLegacyMeanwhile: what one of the new kind held after 0.5, and took off, is free for
// whoever saw it held by 0.5.
func TestLegacyMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, locks := leadertest.NewServer(), &locked{}
		ctx, stop := context.WithCancel(t.Context())
		oldCtx, crash := context.WithCancel(ctx)
		var all sync.WaitGroup
		all.Go(func() { oldCandidate(locks, "old").Run(oldCtx, func() {}) })
		time.Sleep(time.Second)
		var news [2]*leader.Elector
		for i := range news {
			news[i], _ = newCandidate(t, server, locks, "new-"+strconv.Itoa(i))
			all.Go(func() { _ = news[i].Run(ctx) })
		}
		time.Sleep(30 * time.Second)
		crash()
		time.Sleep(30 * time.Second)
		first, second := news[0], news[1]
		if !first.IsLeader() {
			first, second = second, first
		}
		if err := first.Resign(ctx, time.Minute); err != nil {
			t.Error(err)
		}
		time.Sleep(200 * time.Millisecond)
		if !second.IsLeader() {
			t.Error("the second one waits for 0.5, which has ended")
		}
		stop()
		all.Wait()
	})
}

// TestLegacyRenewals: no two look alike to 0.5, however soon one follows the other.
func TestLegacyRenewals(t *testing.T) {
	locks := &locked{}
	leases := withLegacyLock(leadertest.NewServer().Client(), locks)
	lease, seen := newLease(t), map[int64]bool{}
	for range 5 {
		renewed := metav1.NewMicroTime(lease.Spec.RenewTime.Add(300 * time.Millisecond))
		lease.Spec.RenewTime = &renewed
		write := leases.Update
		if lease.ResourceVersion == "" {
			write = leases.Create
		}
		var err error
		if lease, err = write(t.Context(), lease); err != nil {
			t.Fatal(err)
		}
		at := locks.record().RenewTime.Unix()
		if seen[at] {
			t.Error("a renewal looks like the one before")
		}
		seen[at] = true
	}
}

// TestLegacyAbandoned: a record that nobody renews is taken over, whatever its ttl was.
func TestLegacyAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, locks := leadertest.NewServer(), &locked{}
		if !(&legacy.Candidate{ID: "old", TTL: 5 * time.Second, Endpoints: oldWay{locks}}).AcquireOrRenew(t.Context()) {
			t.Fatal("0.5 does not get its own lock")
		}
		e, _ := newCandidate(t, server, locks, "new")
		ctx, stop := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() { _ = e.Run(ctx) })
		time.Sleep(29 * time.Second)
		if e.IsLeader() {
			t.Error("it leads beside one with a shorter ttl, which may be there")
		}
		time.Sleep(15 * time.Second)
		if !e.IsLeader() {
			t.Error("it waits for ever")
		}
		stop()
		all.Wait()
	})
}

// TestLegacyHandover is as quick as without the second lock: what another new one holds
// is free for whoever may have the Lease.
func TestLegacyHandover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, locks := leadertest.NewServer(), &locked{}
		ctx, stop := context.WithCancel(t.Context())
		a, way := newCandidate(t, server, locks, "a")
		b, _ := newCandidate(t, server, locks, "b")
		var both sync.WaitGroup
		both.Go(func() { _ = a.Run(ctx) })
		time.Sleep(time.Second)
		both.Go(func() { _ = b.Run(ctx) })
		time.Sleep(time.Minute)
		if !a.IsLeader() || b.IsLeader() {
			t.Fatal("the first one does not lead")
		}
		before := server.Requests()["update"]
		time.Sleep(time.Minute)
		if n := server.Requests()["update"] - before; n < 15 || n > 20 {
			t.Errorf("%d renewals in a minute", n)
		}
		way.Fault(func(leadertest.Call) leadertest.Fault { return leadertest.Fault{Lose: leadertest.Request} })
		began := time.Now()
		for !b.IsLeader() && time.Since(began) < time.Minute {
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(began); took > 10*time.Second+250*time.Millisecond {
			t.Errorf("the second one leads after %s", took)
		}
		if locks.record().HolderIdentity != "b" {
			t.Errorf("the lock of 0.5 is held by %q", locks.record().HolderIdentity)
		}
		stop()
		both.Wait()
	})
}

// TestLegacyRefusals are told with what is missing, and nothing is written.
func TestLegacyRefusals(t *testing.T) {
	lease := func(locks *locked) error {
		_, err := withLegacyLock(leadertest.NewServer().Client(), locks).Create(t.Context(), newLease(t))
		return err
	}
	shorter := &locked{}
	if !(&legacy.Candidate{ID: "old", TTL: 5 * time.Second, Endpoints: oldWay{shorter}}).AcquireOrRenew(t.Context()) {
		t.Fatal("0.5 does not get its own lock")
	}
	err := lease(shorter)
	if after, ok := apierrors.SuggestsClientDelay(err); !ok || after != 10 || !strings.Contains(err.Error(), "--ttl=5s") {
		t.Errorf("another ttl: %v", err)
	}
	var m interface{ Missing() string }
	err = lease(&locked{refuse: apierrors.NewForbidden(endpointsResource, "example", errors.New("no"))})
	if !errors.As(err, &m) || m.Missing() != "get on endpoints ns/example" || !apierrors.IsForbidden(err) {
		t.Errorf("a missing right: %v", err)
	}
	broken := &locked{}
	object := &unstructured.Unstructured{}
	object.SetAnnotations(map[string]string{legacyAnnotation: "{"})
	if _, err := broken.put(object); err != nil {
		t.Fatal(err)
	}
	if err := lease(broken); !apierrors.IsTooManyRequests(err) {
		t.Errorf("a record that nobody can read: %v", err)
	}
}

// TestLegacyRandom holds elections of both kinds at once, with crashes, slow requests
// and lost answers, and finds no two that lead.
func TestLegacyRandom(t *testing.T) {
	const elections = 300
	led := map[bool]int{}
	for seed := range uint64(elections) {
		synctest.Test(t, func(t *testing.T) { mixed(t, seed, led) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d elections: 0.5 led %d times, the new kind %d times", elections, led[false], led[true])
	if led[false] < elections/2 || led[true] < elections/2 {
		t.Error("one of the two hardly ever led")
	}
}

func mixed(t *testing.T, seed uint64, led map[bool]int) {
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a seed that comes again
	var mu sync.Mutex
	chance := func(n int) bool { mu.Lock(); defer mu.Unlock(); return r.IntN(n) == 0 }
	some := func(d time.Duration) time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return time.Duration(r.Int64N(int64(d)))
	}
	delay := func() (before, after time.Duration) {
		if chance(10) {
			before = some(5 * time.Second)
		}
		if chance(10) {
			after = some(5 * time.Second)
		}
		return before, after
	}
	server, locks := leadertest.NewServer(), &locked{late: delay}
	var olds []*legacy.Candidate
	var news []*leader.Elector
	// What is removed from a candidate of 0.5, any other one of it takes at once.
	handled := seed%3 == 0
	for i := range 2 {
		olds = append(olds, oldCandidate(locks, "old-"+strconv.Itoa(i)))
		e, client := newCandidate(t, server, locks, "new-"+strconv.Itoa(i))
		client.Fault(func(leadertest.Call) leadertest.Fault {
			before, after := delay()
			return leadertest.Fault{Before: before, After: after}
		})
		news = append(news, e)
	}
	// check is made whenever somebody begins to claim.
	check := func(newer bool) {
		mu.Lock()
		led[newer]++
		mu.Unlock()
		claims := 0
		for i := range olds {
			if olds[i].Leads() {
				claims++
			}
			if news[i].IsLeader() {
				claims++
			}
		}
		if claims > 1 {
			t.Errorf("%d lead at once", claims)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for _, e := range news {
		all.Go(func() { _ = e.Run(ctx) })
		all.Go(func() {
			was := false
			for s := range e.Changes(ctx) {
				if s.IsLeader() && !was {
					check(true)
				}
				was = s.IsLeader()
			}
		})
	}
	for _, o := range olds {
		if handled && o != olds[0] {
			break
		}
		all.Go(func() {
			for ctx.Err() == nil {
				life, end := context.WithTimeout(ctx, 5*time.Second+some(time.Minute))
				o.Run(life, func() { check(false) })
				end()
				pause(ctx, some(40*time.Second))
			}
		})
	}
	for range 5 {
		time.Sleep(30*time.Second + some(time.Minute))
		if handled {
			handle(olds[0], locks, some)
			continue
		}
		_ = news[0].Resign(ctx, some(20*time.Second))
		time.Sleep(some(time.Minute))
		_ = news[1].Resign(ctx, some(20*time.Second))
	}
	stop()
	all.Wait()
	// What is still on its way arrives.
	time.Sleep(time.Minute)
}

// handle the record once all have seen that the candidate of 0.5 leads; one that has not
// could not know of it.
func handle(old *legacy.Candidate, locks *locked, some func(time.Duration) time.Duration) {
	for range 3000 {
		led := 0
		for led < 200 && old.Leads() {
			time.Sleep(100 * time.Millisecond)
			led++
		}
		if led == 200 {
			time.Sleep(some(2 * time.Second))
			if old.Leads() {
				locks.edit(hands[[]string{"emptied", "removed", "deleted"}[some(3)]])
			}
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func newLease(t *testing.T) *coordinationv1.Lease {
	t.Helper()
	now := metav1.NewMicroTime(time.Now())
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "example", Annotations: map[string]string{leader.SessionAnnotation: "s#1"}},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: new("new"), LeaseDurationSeconds: new(int32(10)), AcquireTime: &now, RenewTime: &now},
	}
}

// TestLegacyConnection: a dead connection is left within seconds, and nothing waits for a
// limit to the rate of requests.
func TestLegacyConnection(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"kind":"Endpoints","apiVersion":"v1","metadata":{"name":"example"}}`)
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	address, silence := deadway.Open(t, s.Listener.Addr().String())
	c, err := newLegacyClient(&rest.Config{Host: "https://" + address, TLSClientConfig: rest.TLSClientConfig{Insecure: true}})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for range 30 {
		if _, err := c.Get(t.Context(), "ns", "example"); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("thirty requests took %s", took)
	}
	silence()
	began = time.Now()
	for {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := c.Get(ctx, "ns", "example")
		cancel()
		if err == nil {
			break
		}
		if time.Since(began) > 20*time.Second {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took > 7*time.Second {
		t.Errorf("it took %s to leave a dead connection", took)
	}
}
