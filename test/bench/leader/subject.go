package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"github.com/quorate/quorate/test/freeport"
)

// subject is a kind of candidate; three of them hold an election of their own.
type subject struct {
	name, election string
	program        string
	flags          []string
	ttl            time.Duration
	// phase is how long a run waits at random before it disturbs the leader, so that
	// it meets those that ask now and then at any moment.
	phase time.Duration
	// peer says that it is not ours.
	peer bool

	api     kubernetes.Interface
	holders chan holder
	unwatch context.CancelFunc
	leader  string
	made    int
	figures figures

	// mu guards who runs, for the census.
	mu      sync.Mutex
	running map[string]*candidate
}

// holder of the Lease, and when it was seen.
type holder struct {
	name string
	at   time.Time
}

// candidate is a process that contends.
type candidate struct {
	cmd     *exec.Cmd
	address string
	ended   chan struct{}
}

func (b *bench) ours() *subject {
	return &subject{
		name: "quorate", election: "ours", program: b.program("leader-elector"), ttl: 10 * time.Second, phase: 100 * time.Millisecond,
		api: b.bed.API, running: map[string]*candidate{},
	}
}

func (b *bench) clientGo(name string, lease, renew, retry time.Duration) *subject {
	return &subject{
		name: "client-go " + name, election: fmt.Sprintf("clientgo-%d", int(lease.Seconds())), program: b.program("clientgo"), ttl: lease, phase: retry, peer: true,
		flags: []string{"--lease=" + lease.String(), "--renew=" + renew.String(), "--retry=" + retry.String()},
		api:   b.bed.API, running: map[string]*candidate{},
	}
}

// start the watch of the Lease and the candidates, and wait for a leader.
func (s *subject) start(ctx context.Context) error {
	s.holders = make(chan holder, 1024)
	watching, unwatch := context.WithCancel(context.WithoutCancel(ctx))
	s.unwatch = unwatch
	opened := make(chan error, 1)
	go s.watch(watching, opened)
	if err := <-opened; err != nil {
		return err
	}
	for range candidates {
		if err := s.add(ctx); err != nil {
			return err
		}
	}
	return s.elected(ctx, "", nil)
}

// stop all of its processes.
func (s *subject) stop() {
	if s.unwatch != nil {
		s.unwatch()
	}
	for _, c := range s.running {
		_ = c.cmd.Process.Kill()
		<-c.ended
	}
}

// watch the Lease, again when the API server ends that.
func (s *subject) watch(ctx context.Context, opened chan<- error) {
	for ctx.Err() == nil {
		w, err := s.api.CoordinationV1().Leases(namespace).Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + s.election})
		if opened != nil {
			opened <- err
			opened = nil
		}
		if err != nil {
			_ = pause(ctx, time.Second)
			continue
		}
		for e := range w.ResultChan() {
			lease, ok := e.Object.(*coordinationv1.Lease)
			if ok && e.Type != watch.Deleted {
				s.holders <- holder{ptr.Deref(lease.Spec.HolderIdentity, ""), time.Now()}
			}
		}
	}
}

// add a candidate, and wait until it knows of the election.
func (s *subject) add(ctx context.Context) error {
	address, err := freeport.Find()
	if err != nil {
		return err
	}
	s.made++
	id := fmt.Sprintf("%s-%d", s.election, s.made)
	args := append([]string{"--election=" + s.election, "--election-namespace=" + namespace, "--id=" + id, "--http=" + address}, s.flags...)
	c := &candidate{cmd: exec.Command(s.program, args...), address: address, ended: make(chan struct{})}
	var said tail
	c.cmd.Stderr = &said
	if err := c.cmd.Start(); err != nil {
		return fmt.Errorf("starting a candidate: %w", err)
	}
	s.mu.Lock()
	s.running[id] = c
	s.mu.Unlock()
	go func() {
		defer close(c.ended)
		_ = c.cmd.Wait()
	}()
	err = until(ctx, func() bool {
		code, _, err := get(ctx, "http://"+address+"/readyz")
		return err == nil && code == 200
	})
	if err != nil {
		return fmt.Errorf("waiting for %s: %w\n%s", id, err, said.String())
	}
	return nil
}

// tail is the end of what a process says.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-2000):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

// elected waits until somebody else than the old leader holds the Lease.
func (s *subject) elected(ctx context.Context, old string, at *time.Time) error {
	ctx, cancel := context.WithTimeoutCause(ctx, stepTimeout, errors.New("nobody was elected in time"))
	defer cancel()
	for {
		select {
		case h := <-s.holders:
			if h.name == "" || h.name == old {
				continue
			}
			s.leader = h.name
			if at != nil {
				*at = h.at
			}
			return nil
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", s.name, context.Cause(ctx))
		}
	}
}

// repeat ends the leader with a signal, and measures how soon another one leads.
func (s *subject) repeat(ctx context.Context, signal syscall.Signal, runs int, to *[]time.Duration) error {
	if !s.peer {
		defer s.census(ctx)()
	}
	for range runs {
		if err := pause(ctx, rand.N(s.phase)); err != nil { //nolint:gosec // no secret
			return err
		}
		old := s.leader
		c := s.running[old]
		for len(s.holders) > 0 {
			<-s.holders
		}
		began := time.Now()
		if err := c.cmd.Process.Signal(signal); err != nil {
			return fmt.Errorf("ending %s: %w", old, err)
		}
		var at time.Time
		if err := s.elected(ctx, old, &at); err != nil {
			return err
		}
		*to = append(*to, at.Sub(began))
		<-c.ended
		s.mu.Lock()
		delete(s.running, old)
		s.mu.Unlock()
		if err := s.add(ctx); err != nil {
			return err
		}
	}
	return nil
}

// census asks all candidates whether they lead, all the time until it is stopped, and
// counts how often two of them did at once. Client-go's cannot be asked.
func (s *subject) census(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var ended sync.WaitGroup
	ended.Go(func() {
		for pause(ctx, censusEvery) == nil {
			if s.twoClaim(ctx) {
				s.figures.both++
			}
		}
	})
	return func() {
		cancel()
		ended.Wait()
	}
}

// censusEvery is the time between two questions to all.
const censusEvery = 25 * time.Millisecond

// twoClaim asks one after the other. Should two have claimed, and the first one claim
// still, both did when the second one was asked.
func (s *subject) twoClaim(ctx context.Context) bool {
	s.mu.Lock()
	all := slices.Collect(maps.Values(s.running))
	s.mu.Unlock()
	var first *candidate
	for _, c := range all {
		switch {
		case !c.claims(ctx):
		case first == nil:
			first = c
		case first.claims(ctx):
			return true
		}
	}
	return false
}

// claims says that a candidate says of itself that it leads.
func (c *candidate) claims(ctx context.Context) bool {
	code, _, err := get(ctx, "http://"+c.address+"/v1/leader")
	return err == nil && code == 200
}

// rss of a process, in KiB.
func (c *candidate) rss() (int64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("reading the memory of a candidate: %w", err)
	}
	return field(string(raw), "VmRSS:"), nil
}
