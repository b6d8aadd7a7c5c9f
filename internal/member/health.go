package member

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// phase is what the guard is doing, as far as a probe is concerned.
type phase int

const (
	// phaseStarting: before etcd was first started.
	phaseStarting phase = iota
	// phaseHeld: waiting for the release. The pod is as far as it can get.
	phaseHeld
	// phaseReleased: released, and etcd has not answered yet.
	phaseReleased
	// phaseRunning: etcd was started.
	phaseRunning
)

// answer is what a probe gets: a status code and a word.
type answer struct {
	code int
	word string
}

// wordTimeout: etcd did not answer in time.
const wordTimeout = "timeout"

// health serves /livez and /readyz to the kubelet, which has no client certificate,
// on behalf of etcd's listener on loopback. It never asks /health: a single member
// out of space makes that fail on all of them, and a liveness probe on it would
// take a healthy quorum down.
type health struct {
	client *http.Client
	bounds
	live  probe
	ready probe

	mu       sync.Mutex
	phase    phase
	released time.Time
	// alive is when etcd last said so; before the first time it is long ago.
	alive time.Time
}

// bounds of the health of an etcd.
type bounds struct {
	// question is how long etcd is given to answer one question. The next one is
	// put when it has answered or this time is over, so that an etcd that hangs
	// is not heaped with questions.
	question time.Duration
	// readyPatience is how long a caller of /readyz waits for that answer, and
	// livePatience a caller of /livez.
	readyPatience, livePatience time.Duration
	// grace is how long a released member may take to answer at first.
	grace time.Duration
	// stall is how long etcd may leave /livez without any answer and still count
	// as alive: it does not answer while it defragments (minutes for some GiB on
	// a slow disk) or waits for a disk, and a restart would only begin that anew.
	stall time.Duration
}

// newHealth asks etcd at base (http://127.0.0.1:2382), and clients whether it serves them.
func newHealth(base string, clients *clients, b bounds) *health {
	base = strings.TrimSuffix(base, "/")
	return &health{
		client: &http.Client{
			// One connection is kept. A second is opened while /readyz hangs
			// for want of a quorum, so that /livez need not wait for it.
			Transport: &http.Transport{
				Proxy:                  nil,
				MaxIdleConns:           1,
				MaxIdleConnsPerHost:    1,
				MaxConnsPerHost:        2,
				IdleConnTimeout:        5 * time.Minute,
				DisableCompression:     true,
				MaxResponseHeaderBytes: 8 << 10,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		bounds: b,
		live:   probe{url: base + "/livez"},
		// A learner that has just started does not know yet that it is one, and may
		// check that before it reads through the leader. Having read, it knows.
		ready: probe{url: base + "/readyz", twice: true, also: clients.ask},
	}
}

func (h *health) enter(p phase) {
	h.mu.Lock()
	defer h.mu.Unlock()
	// After a release the first start of etcd is still part of the release.
	if h.phase == phaseReleased && p == phaseRunning {
		return
	}
	h.phase = p
	if p == phaseReleased {
		h.released = time.Now()
	}
}

// ServeHTTP answers with a status code and one word. Nothing of the request but
// its path and method is looked at, and nothing of it is sent back.
func (h *health) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := answer{http.StatusNotFound, "unknown"}
	switch {
	case r.URL.Path != "/livez" && r.URL.Path != "/readyz":
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		a = answer{http.StatusMethodNotAllowed, "method"}
	case r.URL.Path == "/livez":
		a = h.livez(r.Context())
	default:
		a = h.readyz(r.Context())
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(a.code)
	_, _ = io.WriteString(w, a.word+"\n")
}

func (h *health) livez(ctx context.Context) answer {
	p, released := h.now()
	switch p {
	case phaseStarting:
		return answer{http.StatusServiceUnavailable, "starting"}
	case phaseHeld:
		return answer{http.StatusOK, "held"}
	}
	a := h.live.ask(ctx, h.client, h.question, h.livePatience)
	switch {
	case a.code < http.StatusInternalServerError:
		h.answered()
	case p == phaseReleased && time.Since(released) < h.grace:
		// The startup probe has passed, so a 503 here would count against
		// the liveness of a pod that is joining as it should.
		return answer{http.StatusOK, "starting"}
	case a.word == wordTimeout && h.answeredWithin(h.stall):
		return answer{http.StatusOK, "stalled"}
	}
	return a
}

func (h *health) readyz(ctx context.Context) answer {
	switch p, _ := h.now(); p {
	case phaseStarting:
		return answer{http.StatusServiceUnavailable, "starting"}
	case phaseHeld:
		return answer{http.StatusServiceUnavailable, "held"}
	}
	return h.ready.ask(ctx, h.client, h.question, h.readyPatience)
}

func (h *health) now() (phase, time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.phase, h.released
}

// answered notes that etcd is alive, which ends the grace of a release.
func (h *health) answered() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.alive = time.Now()
	if h.phase == phaseReleased {
		h.phase = phaseRunning
	}
}

func (h *health) answeredWithin(d time.Duration) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Since(h.alive) < d
}

// probe asks one URL, once at a time: callers that come while it is asked share the
// answer. The health address is open to whoever reaches the pod, and /readyz costs
// etcd a round of raft.
type probe struct {
	url string
	// twice asks once more before a good answer is believed that follows a bad one.
	twice bool
	// also is asked after a good answer, and has the last word.
	also func(ctx context.Context, bound time.Duration) answer

	mu     sync.Mutex
	flight *flight
	good   bool // the last answer was
}

type flight struct {
	done   chan struct{}
	answer answer
}

// ask waits for the answer for as long as patience; the question itself, which the
// next callers then share, is given up after bound.
func (p *probe) ask(ctx context.Context, client *http.Client, bound, patience time.Duration) answer {
	p.mu.Lock()
	f := p.flight
	if f == nil {
		f = &flight{done: make(chan struct{})}
		p.flight = f
		// The first caller may hang up; the others still want the answer.
		ctx := context.WithoutCancel(ctx)
		go func() {
			f.answer = p.fetch(ctx, client, bound)
			p.mu.Lock()
			p.flight, p.good = nil, f.answer.code == http.StatusOK
			p.mu.Unlock()
			close(f.done)
		}()
	}
	p.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-f.done:
		return f.answer
	case <-timer.C:
		return answer{http.StatusServiceUnavailable, wordTimeout}
	case <-ctx.Done():
		return answer{http.StatusServiceUnavailable, "canceled"}
	}
}

func (p *probe) fetch(ctx context.Context, client *http.Client, bound time.Duration) answer {
	a := fetch(ctx, client, p.url, bound)
	if p.twice && !p.wasGood() && a.code == http.StatusOK {
		a = fetch(ctx, client, p.url, bound)
	}
	if p.also != nil && a.code == http.StatusOK {
		a = p.also(ctx, bound)
	}
	return a
}

func (p *probe) wasGood() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.good
}

func fetch(ctx context.Context, client *http.Client, url string, timeout time.Duration) answer {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return answer{http.StatusServiceUnavailable, "unreachable"}
	}
	response, err := client.Do(request)
	if err != nil {
		return answer{http.StatusServiceUnavailable, unansweredWord(err)}
	}
	// The body is read, or the connection could not be used again.
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10))
	_ = response.Body.Close()
	if response.StatusCode == http.StatusOK {
		return answer{http.StatusOK, "ok"}
	}
	return answer{response.StatusCode, "failed"}
}

func unansweredWord(err error) string {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "starting"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return wordTimeout
	default:
		return "unreachable"
	}
}

// serve answers probes on the listener until the returned function is called.
func (h *health) serve(listener net.Listener) (shut func()) {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 2 * time.Second,
		ReadTimeout:       2 * time.Second,
		WriteTimeout:      max(h.readyPatience, h.livePatience) + 2*time.Second,
		MaxHeaderBytes:    4 << 10,
		// Bad requests of strangers are not our news.
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	// The kubelet opens a connection per probe; nobody may keep one.
	server.SetKeepAlivesEnabled(false)
	go func() { _ = server.Serve(listener) }()
	return func() {
		_ = server.Close()
		h.client.CloseIdleConnections()
	}
}
