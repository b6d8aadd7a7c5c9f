package load_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/test/load"
)

// start a load that ends with the test.
func start(t *testing.T, c *cluster, config load.Config) *load.Load {
	t.Helper()
	if config.Endpoints == nil {
		config.Endpoints = c.endpoints()
	}
	config.TLS, config.Artifacts = c.clients.config, t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	l, err := load.Start(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Abort)
	return l
}

// stop a load and show what it found.
func stop(t *testing.T, l *load.Load) (*load.Report, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := l.Stop(ctx)
	t.Log(r)
	return r, err
}

// goesOn lets the load run until so many more writes are acknowledged.
func goesOn(t *testing.T, l *load.Load, writes int) {
	t.Helper()
	before := len(l.Acknowledged())
	eventually(t, "the load goes on", func() error {
		if n := len(l.Acknowledged()) - before; n < writes {
			return fmt.Errorf("%d of %d writes are acknowledged", n, writes)
		}
		return nil
	})
}

func TestNothingIsLostWhenTheLeaderIsKilled(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	var dialled atomic.Int32
	// So many that every kind of operation, of which one in ten deletes, is among them.
	l := start(t, c, load.Config{ContendRate: 120, Dial: func(ctx context.Context, address string) (net.Conn, error) {
		dialled.Add(1)
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}})
	calm := l.Mark("calm")
	goesOn(t, l, 150)
	leader := c.leader(t)
	killed := l.Mark("leader killed")
	leader.kill()
	eventually(t, "writes are acknowledged again", func() error {
		if g := l.Gap(killed.At, time.Now()); g.Open || g.Length() < 100*time.Millisecond {
			return errors.New(g.String())
		}
		return nil
	})
	c.start(t, leader)
	c.answers(t, leader)
	goesOn(t, l, 50)
	until := killed.At.Add(-200 * time.Millisecond)
	before := l.Gap(calm.At, until)
	r, err := stop(t, l)
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict != load.Ok || r.Lost != 0 || len(r.Clusters) != 1 || len(r.Readings) != 3 {
		t.Errorf("verdict %s, %d lost, clusters %v, readings %v", r.Verdict, r.Lost, r.Clusters, r.Readings)
	}
	for kind, n := range r.Operations {
		if n.Acknowledged < 5 {
			t.Errorf("only %d operations of kind %s were acknowledged", n.Acknowledged, kind)
		}
	}
	if n := len(l.Acknowledged()); n != r.Operations["write"].Acknowledged {
		t.Errorf("%d keys are told as acknowledged, and %d puts were", n, r.Operations["write"].Acknowledged)
	}
	if unknown := r.Operations["write"].Unknown; unknown == 0 {
		t.Error("no write was without an answer while there was no leader")
	}
	// A follower waits one to two seconds for a leader before it stands itself.
	if g := r.Marks[1].Gap; g.Length() < 500*time.Millisecond || g.Open {
		t.Errorf("gap after the kill: %s", g)
	}
	if r.Marks[1].WriterGap.Length() < r.Marks[1].Gap.Length() {
		t.Errorf("a writer's gap %s is shorter than that of all %s", r.Marks[1].WriterGap, r.Marks[1].Gap)
	}
	// However long a machine stood still before the kill, the gap after it is another one.
	if !before.From.Before(until) || !before.To.After(calm.At) || before.Length() > r.Longest.Length() {
		t.Errorf("gap before the kill, at %s: %s", killed.At, before)
	}
	if dialled.Load() < 3 {
		t.Errorf("Dial was used %d times", dialled.Load())
	}
}

// Two members of three come back under their old names with empty disks and
// agree with each other: nobody refuses, and everything is gone.
func TestWipedMembersAreNoticed(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	l := start(t, c, load.Config{})
	goesOn(t, l, 60)
	for _, m := range c.members {
		m.kill()
	}
	for _, m := range c.members[:2] {
		if err := os.RemoveAll(filepath.Join(m.dir, "data")); err != nil {
			t.Fatal(err)
		}
		c.start(t, m)
	}
	wiped := l.Mark("wiped")
	c.answers(t, c.members[0])
	eventually(t, "writes are acknowledged again", func() error {
		if g := l.Gap(wiped.At, time.Now()); g.Open {
			return errors.New(g.String())
		}
		return nil
	})
	goesOn(t, l, 30)
	if err := l.SetEndpoints(c.endpoints(0, 1)); err != nil {
		t.Fatal(err)
	}
	r, err := stop(t, l)
	for _, want := range []error{load.ErrLost, load.ErrRevisions, load.ErrNotLinearizable} {
		if !errors.Is(err, want) {
			t.Errorf("it is not told that %v", want)
		}
	}
	if errors.Is(err, load.ErrUnread) || r.Lost < 20 || len(r.LostKeys) != 5 {
		t.Errorf("%d lost, for example %v; unread: %v", r.Lost, r.LostKeys, r.Unread)
	}
}

// A member that is cut off from the others still answers serializable reads.
// Taken for linearizable ones they are stale; true linearizable reads have no
// answer there, and the same cut is harmless.
func TestStaleReadsAreNoticed(t *testing.T) {
	t.Parallel()
	for name, reads := range map[string]load.Reads{
		"serializable reads of a member that is cut off are stale":      load.SerializableReads,
		"linearizable reads of a member that is cut off have no answer": load.LinearizableReads,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			l := start(t, c, load.Config{Reads: reads, Retry: load.SameEndpoint, ContendRate: 150, Timeout: 200 * time.Millisecond})
			goesOn(t, l, 30)
			c.cutOff(t, c.members[2])
			goesOn(t, l, 120)
			if err := l.SetEndpoints(c.endpoints(0, 1)); err != nil {
				t.Fatal(err)
			}
			r, err := stop(t, l)
			if r.Lost != 0 || len(r.Unread) != 0 {
				t.Errorf("%d lost, unread %v", r.Lost, r.Unread)
			}
			if reads == load.LinearizableReads {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, load.ErrNotLinearizable) || !errors.Is(err, load.ErrRevisions) {
				t.Fatalf("stale reads are not told: %v", err)
			}
			page, err := os.ReadFile(r.Illegal[0].Picture)
			if err != nil || len(page) > 1<<20 || !strings.Contains(r.Illegal[0].Stuck, "get()") {
				t.Errorf("%+v has a picture of %d bytes: %v", r.Illegal[0], len(page), err)
			}
		})
	}
}

// cutOff restarts all others with certificates that this one does not trust.
func (c *cluster) cutOff(t *testing.T, alone *member) {
	t.Helper()
	var addresses []string
	for _, m := range c.members {
		addresses = append(addresses, m.host)
	}
	c.peers = newIdentity(t, append(addresses, "127.0.0.1")...)
	for _, m := range c.members {
		if m != alone {
			m.kill()
		}
	}
	for _, m := range c.members {
		if m != alone {
			c.start(t, m)
		}
	}
	for _, m := range c.members {
		if m != alone {
			c.answers(t, m)
		}
	}
}

func TestEndpointsAreFollowed(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	var asked atomic.Int32
	l := start(t, c, load.Config{Endpoints: c.endpoints(0), Follow: func(context.Context) ([]string, error) {
		asked.Add(1)
		return c.endpoints(1, 2), nil
	}})
	// By the second time the answer to the first one counts.
	eventually(t, "it asks for the endpoints", func() error {
		if n := asked.Load(); n < 2 {
			return fmt.Errorf("%d times", n)
		}
		return nil
	})
	r, err := stop(t, l)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Readings) != 2 || r.Readings[0].Endpoint != c.members[1].endpoint() {
		t.Errorf("read back through %v", r.Readings)
	}
	again, err := l.Stop(t.Context())
	if again != r || err != nil {
		t.Errorf("stopping again tells another report: %v", err)
	}
}

// A member that is still down when the load ends is told, and keeps nothing
// from being proven through the others.
func TestAMemberThatIsDownAtTheEnd(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	l := start(t, c, load.Config{WriteRate: 600, ContendRate: 400})
	// By default it would be 60 a second.
	eventually(t, "twice the rate by default", func() error {
		before := len(l.Acknowledged())
		time.Sleep(time.Second)
		if n := len(l.Acknowledged()) - before; n < 120 {
			return fmt.Errorf("%d writes in a second", n)
		}
		return nil
	})
	c.members[0].kill()
	goesOn(t, l, 300)
	r, err := stop(t, l)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Readings) != 3 || r.Readings[0].Error == "" || r.Readings[1].Error != "" || r.Readings[2].Error != "" {
		t.Errorf("readings: %+v", r.Readings)
	}
	contended := 0
	for _, kind := range []string{"get", "put", "cas", "delete"} {
		contended += r.Operations[kind].Acknowledged
	}
	// On a slow machine either may be below its rate; by default there would be one to fifteen.
	if writes := r.Operations["write"].Acknowledged; writes < 400 || contended < writes/4 {
		t.Errorf("the rates are not reached: %d writes, %d operations on shared keys", writes, contended)
	}
}

func TestWhatIsNotReadBackIsNotProven(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	l := start(t, c, load.Config{MaxOperations: 60})
	// Nothing is begun any more, which lasts longer than a machine stands still.
	began := time.Now()
	eventually(t, "the load is full", func() error {
		if g := l.Gap(began, time.Now()); !g.Open || g.Length() < 4*time.Second {
			return errors.New(g.String())
		}
		return nil
	})
	for _, m := range c.members {
		m.kill()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	r, err := l.Stop(ctx)
	if !errors.Is(err, load.ErrUnread) || !errors.Is(err, load.ErrFull) || errors.Is(err, load.ErrLost) {
		t.Errorf("the cluster is gone, and the report says: %v", err)
	}
	if !r.Longest.Open {
		t.Errorf("nothing was acknowledged up to the end, and the longest gap is %s", r.Longest)
	}
}

func TestALoadThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	began := time.Now()
	_, err := load.Start(ctx, load.Config{Endpoints: []string{"http://" + address() + ":2379"}})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "last answer: ") {
		t.Errorf("starting without a member: %v", err)
	}
	// Whoever does not ask the context waits for ever.
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
	if _, err := load.Start(ctx, load.Config{}); err == nil || !strings.Contains(err.Error(), "no endpoints") {
		t.Errorf("starting without endpoints: %v", err)
	}
}
