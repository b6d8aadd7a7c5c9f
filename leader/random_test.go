package leader

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

var (
	elections = flag.Int("elections", 0, "how many random elections are held; 0 for as many as is usual")
	seed      = flag.Uint64("seed", 0, "hold the one election of this seed")
)

// machine is where a candidate runs: its clock, and whether anything runs at all.
type machine struct {
	rate float64

	mu sync.Mutex
	// asleep is for how long the machine was suspended, by true time.
	asleep time.Duration
	began  time.Time
	// thawed is closed when the process goes on; nil while it does.
	thawed chan struct{}
}

func (m *machine) now() instant {
	m.mu.Lock()
	defer m.mu.Unlock()
	elapsed := time.Since(m.began)
	return instant{mono: time.Duration(float64(elapsed-m.asleep) * m.rate), boot: time.Duration(float64(elapsed) * m.rate)}
}

func (*machine) wall() time.Time { return time.Now().Truncate(time.Microsecond) }

func (m *machine) after(d time.Duration) (<-chan time.Time, func()) {
	c, done := make(chan time.Time, 1), make(chan struct{})
	timer := time.NewTimer(max(0, time.Duration(float64(d)/m.rate)+1))
	go func() {
		defer timer.Stop()
		select {
		case t := <-timer.C:
			m.run()
			c <- t
		case <-done:
		}
	}()
	return c, sync.OnceFunc(func() { close(done) })
}

// run waits until the process runs.
func (m *machine) run() {
	for {
		m.mu.Lock()
		thawed := m.thawed
		m.mu.Unlock()
		if thawed == nil {
			return
		}
		<-thawed
	}
}

// freeze stops the process for a while, as SIGSTOP does; or suspends the machine.
func (m *machine) freeze(d time.Duration, suspended bool) {
	m.mu.Lock()
	if m.thawed != nil {
		m.mu.Unlock()
		return
	}
	m.thawed = make(chan struct{})
	m.mu.Unlock()
	time.AfterFunc(d, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if suspended {
			m.asleep += d
		}
		close(m.thawed)
		m.thawed = nil
	})
}

// trueTime of a moment of the machine's boot clock, which is what a claim ends by.
func (m *machine) trueTime(i instant) time.Duration {
	return time.Duration(float64(i.boot) / m.rate)
}

// claimed is one claim, by true time.
type claimed struct {
	who      string
	from, to time.Duration
	token    Token
}

// runner is a candidate of a random election.
type runner struct {
	*machine
	name    string
	elector *Elector
	stop    context.CancelFunc
	ended   chan struct{}
	faults  faults
	random  *rand.Rand
}

func (r *runner) jitter(most time.Duration) time.Duration {
	return time.Duration(r.random.Int64N(int64(most)))
}

// faults of a candidate's way to the API server.
type faults struct {
	mu sync.Mutex
	// cut off until then; half of the answers are lost until then; late by so much.
	cut, lossy, refused, lagging time.Time
	late                         time.Duration
}

// place is one random election.
type place struct {
	*rand.Rand
	t      *testing.T
	server *server
	began  time.Time
	lease  time.Duration

	mu     sync.Mutex
	claims []*claimed
	tokens []Token
	// asked is how often the API server was asked.
	asked int
}

const someLease = "example"

func (p *place) start(name string, rate float64) *runner {
	r := &runner{machine: &machine{rate: rate, began: p.began}, name: name, random: rand.New(rand.NewPCG(p.Uint64(), 2)), //nolint:gosec // to be repeated
		ended: make(chan struct{})}
	var current *claimed
	since := func() time.Duration { return time.Since(p.began) }
	config := Config{
		Election: someLease, Namespace: "ns", Identity: name, LeaseDuration: p.lease, Leases: &way{place: p, runner: r},
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), clock: r.machine, jitter: r.jitter,
		hooks: hooks{
			claimed: func(token Token, deadline instant) {
				p.mu.Lock()
				defer p.mu.Unlock()
				current = &claimed{who: name, from: since(), to: r.trueTime(deadline), token: token}
				p.note("%s claims until %s with %d", name, current.to, token)
				p.claims, p.tokens = append(p.claims, current), append(p.tokens, token)
			},
			renewed: func(deadline instant) {
				p.mu.Lock()
				defer p.mu.Unlock()
				current.to = r.trueTime(deadline)
				p.note("%s claims until %s", name, current.to)
			},
			ended: func() {
				p.mu.Lock()
				defer p.mu.Unlock()
				current.to = min(current.to, since())
				p.note("%s ends", name)
			},
		},
	}
	e, err := New(config)
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(p.t.Context())
	r.elector, r.stop = e, stop
	go func() {
		defer close(r.ended)
		_ = e.Run(ctx)
	}()
	return r
}

// mostAsked is more than an election asks in its time.
const mostAsked = 100_000

// way of a candidate to the API server: each message may be late or lost, and nothing
// is sent or received while the process does not run.
type way struct {
	*place
	runner *runner
}

var errBusy = apierrors.NewTooManyRequests("busy", 1)

func (w *way) call(ctx context.Context, do func() (*coordinationv1.Lease, error)) (*coordinationv1.Lease, error) {
	w.runner.run()
	now, f := time.Now(), &w.runner.faults
	f.mu.Lock()
	cut, lossy, refused, late := now.Before(f.cut), now.Before(f.lossy), now.Before(f.refused), f.late
	f.mu.Unlock()
	w.mu.Lock()
	if w.asked++; w.asked > mostAsked {
		panic("the electors ask without a pause: in virtual time that has no end")
	}
	lost, loses, delay := w.IntN(2) == 0, w.IntN(2) == 0, time.Duration(w.Int64N(int64(late)+1))
	w.mu.Unlock()
	defer w.runner.run()
	switch {
	case refused && lost:
		return nil, errBusy
	case cut, lossy && loses && lost:
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	if !sleep(ctx, delay) {
		// It arrives all the same.
		go func() { sleep(context.WithoutCancel(ctx), delay/2); _, _ = do() }()
		return nil, context.Cause(ctx)
	}
	lease, err := do()
	if (lossy && loses) || !sleep(ctx, delay) {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	return lease, err
}

func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (w *way) Get(ctx context.Context, _, name string) (*coordinationv1.Lease, error) {
	return w.call(ctx, func() (*coordinationv1.Lease, error) { return w.server.get(name) })
}

func (w *way) Create(ctx context.Context, l *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	return w.call(ctx, func() (*coordinationv1.Lease, error) { return w.server.create(l) })
}

func (w *way) Update(ctx context.Context, l *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	return w.call(ctx, func() (*coordinationv1.Lease, error) { return w.server.update(l) })
}

// Watch tells what changes, as late as the way is, and nothing while it is cut.
func (w *way) Watch(ctx context.Context, _, name string) (<-chan Event, error) {
	w.runner.run()
	out := make(chan Event)
	events, end := w.server.watch(name)
	go func() {
		defer close(out)
		defer end()
		for {
			var e Event
			select {
			case e = <-events:
			case <-ctx.Done():
				return
			}
			f := &w.runner.faults
			f.mu.Lock()
			wait, lag := max(time.Until(f.cut), time.Until(f.lagging), 0), f.late
			f.mu.Unlock()
			if !sleep(ctx, wait+lag) {
				return
			}
			w.runner.run()
			if e.Lease == nil {
				return
			}
			select {
			case out <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

// note tells what happens, when one election is held again.
func (p *place) note(format string, args ...any) {
	if *seed != 0 {
		p.t.Logf("%12s "+format, append([]any{time.Since(p.began)}, args...)...)
	}
}

// strike does one random thing to the candidates or the Lease.
func (p *place) strike(runners []*runner) {
	p.mu.Lock()
	r := runners[p.IntN(len(runners))]
	what, d, rough := p.IntN(13), time.Duration(p.Int64N(int64(2*p.lease))), time.Duration(p.Int64N(int64(p.lease)))
	p.mu.Unlock()
	p.note("strike %d on %s for %s or %s", what, r.name, d, rough)
	now, f := time.Now(), &r.faults
	f.mu.Lock()
	switch what {
	case 0, 1:
		f.cut = now.Add(d)
	case 2:
		f.lossy = now.Add(d)
	case 3:
		f.refused = now.Add(d)
	case 4:
		f.lagging = now.Add(d)
	case 5:
		f.late = rough / 8
	}
	f.mu.Unlock()
	switch what {
	case 6, 7:
		r.freeze(d, false)
	case 8:
		r.freeze(d, true)
	case 9:
		p.server.dropWatches()
	case 10:
		go func() { _ = r.elector.Resign(p.t.Context(), rough) }()
	case 11, 12:
		p.hand(runners, what)
	}
}

// hand does to the Lease what a user may do, once everybody has seen it: a candidate
// that starts into an election whose Lease was just deleted cannot know of its holder.
func (p *place) hand(runners []*runner, what int) {
	for _, r := range runners {
		if r.elector.view.Load().version == 0 || r.elector.view.Load().lease == nil {
			return
		}
	}
	p.mu.Lock()
	how := p.IntN(3)
	p.mu.Unlock()
	switch {
	case what == 11:
		p.server.remove(someLease)
	case how == 0:
		p.server.edit(someLease, func(l *coordinationv1.Lease) { l.Spec.HolderIdentity = new("") })
	case how == 1:
		p.server.edit(someLease, func(l *coordinationv1.Lease) { l.Spec.HolderIdentity = new("somebody") })
	default:
		p.server.edit(someLease, func(l *coordinationv1.Lease) { l.Labels = map[string]string{"a": "b"} })
	}
}

// hold one election, and say what was wrong with it.
func hold(t *testing.T, seed uint64) (terms int, wrong error) {
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // to be repeated
		p := &place{
			Rand: r, t: t, server: newServer(), began: time.Now(),
			lease: []time.Duration{2 * time.Second, 3 * time.Second, 5 * time.Second, 10 * time.Second}[r.IntN(4)],
		}
		p.server.wrote = func(l *coordinationv1.Lease, deleted bool) {
			p.note("%s by %q %s, deleted %v", l.ResourceVersion, holder(l), l.Annotations[SessionAnnotation], deleted)
		}
		var runners []*runner
		for i := range 2 + r.IntN(3) {
			// Of two clocks one is slower than the other by up to a fifth.
			runners = append(runners, p.start(fmt.Sprintf("pod-%d", i%3), 0.8+0.2*r.Float64()))
		}
		for range 12 {
			time.Sleep(time.Duration(p.Int64N(int64(p.lease))))
			p.strike(runners)
		}
		time.Sleep(4 * p.lease)
		if leads := slices.ContainsFunc(runners, func(r *runner) bool { return r.elector.IsLeader() }); !leads {
			wrong = errors.New("nobody leads four leases after the last fault")
		}
		for _, r := range runners {
			r.stop()
		}
		for _, r := range runners {
			<-r.ended
		}
		wrong = errors.Join(wrong, p.verdict())
		terms = len(p.claims)
		// What is on its way arrives.
		time.Sleep(time.Minute)
	})
	return terms, wrong
}

// verdict on the claims: no two at once, and only growing tokens.
func (p *place) verdict() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	slices.SortStableFunc(p.claims, func(a, b *claimed) int { return cmp.Compare(a.from, b.from) })
	for i, a := range p.claims {
		for _, b := range p.claims[i+1:] {
			if b.from < a.to {
				return fmt.Errorf("two claim at once: %s (token %d) from %s to %s, and %s (token %d) from %s to %s",
					a.who, a.token, a.from, a.to, b.who, b.token, b.from, b.to)
			}
		}
	}
	if !slices.IsSorted(p.tokens) || len(slices.Compact(slices.Clone(p.tokens))) != len(p.tokens) {
		return fmt.Errorf("tokens do not grow: %v", p.tokens)
	}
	return nil
}

// TestRandom holds many elections, in which everything goes wrong that may.
func TestRandom(t *testing.T) {
	n := *elections
	switch {
	case *seed != 0:
		if _, err := hold(t, *seed); err != nil {
			t.Error(err)
		}
		return
	case n == 0 && testing.Short():
		n = 500
	case n == 0:
		n = 10000
	}
	terms, failed := 0, 0
	for i := range n {
		got, err := hold(t, uint64(i)+1)
		terms += got
		if err != nil {
			t.Errorf("seed %d: %v", i+1, err)
			if failed++; failed == 5 {
				break
			}
		}
	}
	t.Logf("%d elections with %d terms", n, terms)
	if terms < 2*n {
		t.Errorf("only %d terms in %d elections: too little goes wrong", terms, n)
	}
}
