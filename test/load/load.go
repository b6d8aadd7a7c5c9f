package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Config of a load. Only Endpoints is required.
type Config struct {
	// Endpoints are client URLs of members. Writer and contender number i are
	// at home at endpoint i modulo their count.
	Endpoints []string
	// Follow is asked every second for the present endpoints when members come
	// and go; what it yields replaces Endpoints. On an error, or when it yields
	// none, those last known stay.
	Follow func(ctx context.Context) ([]string, error)
	// TLS of the clients; nil for plaintext.
	TLS *tls.Config
	// Dial connects to "host:port" of an endpoint where the machine's own
	// network or resolver does not reach it, through a port-forward for
	// example. Nil dials TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)

	// Writers put unique keys. Default: one per endpoint, at least three.
	Writers int
	// WriteRate is how many keys all writers together put per second. A gap
	// cannot be measured finer than 1/WriteRate. Default 60.
	WriteRate float64
	// Contenders work on shared keys. Default: one per endpoint, at least three.
	Contenders int
	// ContendRate is how many operations all contenders together do per
	// second. Default 40.
	ContendRate float64
	// ContendedKeys is how many shared keys are in use at a time. Default 3.
	ContendedKeys int
	// OperationsPerKey retires a shared key for a new one, because the search
	// for an order grows faster than the history of a key. Default 100.
	OperationsPerKey int
	// Seed of the contenders' choices. Default: a random one.
	Seed uint64

	// Timeout of one request. Default 500 ms.
	Timeout time.Duration
	// Retry is where a client goes after a failed request.
	Retry Retry
	// Reads of the contenders.
	Reads Reads

	// CheckTimeout bounds the search for an order, of which one key may take a
	// tenth. Default 60 s.
	CheckTimeout time.Duration
	// MarkWindow is how long after a mark a gap still counts as its. Default 15 s.
	MarkWindow time.Duration
	// Artifacts is the directory for the picture of a history that is not
	// linearizable. Default: the system's directory for temporary files.
	Artifacts string
	// MaxOperations bounds the memory: a write costs 16 bytes, an operation on
	// a shared key about 300. When that many were begun the load ends, and
	// ErrFull is reported. Default 2,000,000.
	MaxOperations int64
}

// Retry says where a client goes after a request that failed.
type Retry int

const (
	// NextEndpoint goes on to the next member, and returns home three seconds
	// later if home is connected again.
	NextEndpoint Retry = iota
	// SameEndpoint stays at its own member.
	SameEndpoint
)

// Reads says how contenders read.
type Reads int

const (
	// LinearizableReads are confirmed by a quorum.
	LinearizableReads Reads = iota
	// SerializableReads are answered by one member from what it has. They may
	// be stale, are nevertheless checked as linearizable ones, and so exist
	// only to prove that the check notices.
	SerializableReads
)

// errNone stands where no request has come to an end.
var errNone = errors.New("none")

// retryPause is between a writer's failed request and its next one. It keeps
// connections that are refused at once from spinning.
const retryPause = 20 * time.Millisecond

// followEvery is how often Follow is asked.
const followEvery = time.Second

func (c Config) withDefaults() Config {
	c.Writers = def(c.Writers, max(3, len(c.Endpoints)))
	c.WriteRate = def(c.WriteRate, 60)
	c.Contenders = def(c.Contenders, max(3, len(c.Endpoints)))
	c.ContendRate = def(c.ContendRate, 40)
	c.ContendedKeys = def(c.ContendedKeys, 3)
	c.OperationsPerKey = def(c.OperationsPerKey, 100)
	c.Seed = def(c.Seed, rand.Uint64())
	c.Timeout = def(c.Timeout, 500*time.Millisecond)
	c.CheckTimeout = def(c.CheckTimeout, time.Minute)
	c.MarkWindow = def(c.MarkWindow, 15*time.Second)
	c.MaxOperations = def(c.MaxOperations, 2_000_000)
	return c
}

// def is the value, or what stands for a zero one.
func def[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

// Load is a load that runs. Its methods may be called at any time from any
// goroutine.
type Load struct {
	config Config
	// run makes keys differ from those of another load on the same cluster.
	run     string
	began   time.Time
	members *members

	writers    []*writer
	contenders []*contender
	shared     *shared
	revisions  *revisions
	begun      atomic.Int64

	halt    context.CancelFunc
	running sync.WaitGroup
	stop    sync.Once
	report  *Report

	mu    sync.Mutex
	marks []Mark
}

// Mark is a moment in a load, the kill of a leader for example.
type Mark struct {
	Name string    `json:"name"`
	At   time.Time `json:"at"`
}

// Start begins a load and returns when every writer has had a write
// acknowledged. The context bounds only this wait: the load goes on after it,
// until Stop or Abort.
func Start(ctx context.Context, config Config) (*Load, error) {
	if len(config.Endpoints) == 0 {
		return nil, errors.New("no endpoints — a load needs members to write to — name at least one client URL")
	}
	l := prepare(config.withDefaults())
	if err := l.members.set(l.config.Endpoints); err != nil {
		l.members.close()
		return nil, err
	}
	l.begin(context.WithoutCancel(ctx))
	if err := l.acknowledged(ctx); err != nil {
		l.Abort()
		return nil, err
	}
	return l, nil
}

func prepare(config Config) *Load {
	l := &Load{
		config: config, run: fmt.Sprintf("%08x", rand.Uint32()), began: time.Now(),
		members: newMembers(config), revisions: newRevisions(),
	}
	l.shared = newShared(l.prefix()+"shared/", config.ContendedKeys, config.OperationsPerKey)
	for i := range config.Writers {
		l.writers = append(l.writers, &writer{load: l, index: i, route: route{home: i, retry: config.Retry}, last: errNone})
	}
	for i := range config.Contenders {
		l.contenders = append(l.contenders, newContender(l, i))
	}
	return l
}

// prefix of all keys of this load.
func (l *Load) prefix() string { return "load/" + l.run + "/" }

func (l *Load) begin(ctx context.Context) {
	ctx, l.halt = context.WithCancel(ctx)
	for _, w := range l.writers {
		l.running.Go(func() { w.work(ctx) })
	}
	for _, c := range l.contenders {
		l.running.Go(func() { c.work(ctx) })
	}
	if l.config.Follow != nil {
		l.running.Go(func() { l.follow(ctx) })
	}
}

func (l *Load) follow(ctx context.Context) {
	for pause(ctx, followEvery) {
		asked, cancel := context.WithTimeout(ctx, 5*followEvery)
		endpoints, err := l.config.Follow(asked)
		cancel()
		if err == nil {
			_ = l.SetEndpoints(endpoints) // none, or one that is no URL: those last known stay
		}
	}
}

// acknowledged waits for the first write of every writer.
func (l *Load) acknowledged(ctx context.Context) error {
	for _, w := range l.writers {
		for w.counts().Acknowledged == 0 {
			if !pause(ctx, 5*time.Millisecond) {
				return fmt.Errorf("waiting for the first acknowledged write of writer %d: %w (last answer: %w)", w.index, ctx.Err(), w.lastError())
			}
		}
	}
	return nil
}

// SetEndpoints replaces the endpoints while the load runs. Clients of those
// that are gone are closed; a request that was under way has an unknown
// outcome.
func (l *Load) SetEndpoints(endpoints []string) error {
	if len(endpoints) == 0 {
		return errors.New("no endpoints — a load needs members to write to — name at least one client URL")
	}
	return l.members.set(endpoints)
}

// Mark remembers this moment under a name. The report tells the longest gaps
// that overlap the time from here to Config.MarkWindow later.
func (l *Load) Mark(name string) Mark {
	m := Mark{Name: name, At: time.Now()}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.marks = append(l.marks, m)
	return m
}

// Gap is the longest time without an acknowledged write, of any writer, that
// overlaps from..to. It may be asked while the load runs; a gap that has not
// ended yet is open.
func (l *Load) Gap(from, to time.Time) Gap {
	return l.clusterTimeline(time.Now()).longest(from, to)
}

// WriterGap is the longest time for which one writer, with its own retries,
// had no write acknowledged, that overlaps from..to.
func (l *Load) WriterGap(from, to time.Time) Gap {
	_, worst := l.worstWriter(time.Now(), from, to)
	return worst
}

// Acknowledged are the unique keys whose put has been acknowledged so far. They
// are for those who look for them elsewhere than at the endpoints.
func (l *Load) Acknowledged() []string {
	var out []string
	for _, w := range l.writers {
		out = w.keys(out)
	}
	return out
}

// Abort ends the load without any check. It may be called after Stop, and
// more than once.
func (l *Load) Abort() {
	l.stop.Do(func() {
		l.quiesce()
		l.members.close()
		l.report = &Report{Run: l.run, Verdict: Unknown, Unread: []string{"everything: the load was aborted"}}
	})
}

// quiesce ends the clients and waits for their requests under way.
func (l *Load) quiesce() {
	l.halt()
	l.running.Wait()
}

// Stop ends the load, reads everything back, checks the history and tells what
// it found. The context bounds the reading. The error is that of Report.Err;
// the report is never nil. Stopping again returns the same.
func (l *Load) Stop(ctx context.Context) (*Report, error) {
	l.stop.Do(func() {
		ended := time.Now()
		l.quiesce()
		defer l.members.close()
		l.report = l.judge(ctx, ended)
	})
	return l.report, l.report.Err()
}

// admit counts an operation, unless memory for it is used up.
func (l *Load) admit() bool { return l.begun.Add(1) <= l.config.MaxOperations }

// now is the time since the load began, by a clock that only goes forward.
func (l *Load) now() int64 { return int64(time.Since(l.began)) }

// pause waits, unless the context ends first.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
