package member

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// patient are bounds that no passing test reaches.
var patient = bounds{
	question: time.Minute, readyPatience: time.Minute, livePatience: time.Minute, grace: time.Hour, stall: time.Hour,
}

// unasked are clients of whom nothing is asked.
func unasked() *clients { return newClients("", "", "") }

// answers asks a health in one phase directly, as a handler.
func answers(h *health, method, target string) string {
	recorder := httptest.NewRecorder()
	h.ServeHTTP(recorder, httptest.NewRequest(method, target, strings.NewReader("x")))
	return fmt.Sprint(recorder.Code, " ", strings.TrimSpace(recorder.Body.String()))
}

func TestHealth(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	etcd := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/livez" && r.URL.Path != "/readyz" || r.URL.RawQuery != "" {
				t.Errorf("etcd was asked for %s", r.URL)
			}
			w.Header().Set("Location", "/health")
			w.WriteHeader(code)
			_, _ = io.WriteString(w, "body")
		}
	}
	for name, tc := range map[string]struct {
		phase  phase
		etcd   http.HandlerFunc // nil: not listening
		method string
		target string
		want   string
	}{
		"before the first start":                {phase: phaseStarting, etcd: etcd(200), target: "/livez", want: "503 starting"},
		"before the first start, readiness":     {phase: phaseStarting, etcd: etcd(200), target: "/readyz", want: "503 starting"},
		"held":                                  {phase: phaseHeld, target: "/livez", want: "200 held"},
		"held, readiness":                       {phase: phaseHeld, target: "/readyz", want: "503 held"},
		"released, etcd not yet there":          {phase: phaseReleased, target: "/livez", want: "200 starting"},
		"released, readiness":                   {phase: phaseReleased, target: "/readyz", want: "503 starting"},
		"etcd not yet there":                    {phase: phaseRunning, target: "/livez", want: "503 starting"},
		"etcd alive":                            {phase: phaseRunning, etcd: etcd(200), target: "/livez", want: "200 ok"},
		"etcd ready":                            {phase: phaseRunning, etcd: etcd(200), target: "/readyz", want: "200 ok"},
		"etcd ready, HEAD":                      {phase: phaseRunning, etcd: etcd(200), method: http.MethodHead, target: "/readyz", want: "200 ok"},
		"etcd ready, with a query":              {phase: phaseRunning, etcd: etcd(200), target: "/readyz?exclude=x&verbose", want: "200 ok"},
		"a learner":                             {phase: phaseRunning, etcd: etcd(503), target: "/readyz", want: "503 failed"},
		"etcd too old for the path":             {phase: phaseRunning, etcd: etcd(404), target: "/readyz", want: "404 failed"},
		"a redirect is an answer, not an order": {phase: phaseRunning, etcd: etcd(302), target: "/readyz", want: "302 failed"},
		"etcd hangs up":                         {phase: phaseRunning, etcd: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, target: "/livez", want: "503 unreachable"},
		"health is not served":                  {phase: phaseRunning, etcd: etcd(200), target: "/health", want: "404 unknown"},
		"neither is the root":                   {phase: phaseRunning, etcd: etcd(200), target: "/", want: "404 unknown"},
		"nor a path below":                      {phase: phaseRunning, etcd: etcd(200), target: "/livez/ping", want: "404 unknown"},
		"POST":                                  {phase: phaseRunning, etcd: etcd(200), method: http.MethodPost, target: "/livez", want: "405 method"},
		"a method of its own":                   {phase: phaseRunning, etcd: etcd(200), method: "BREW", target: "/livez", want: "405 method"},
	} {
		t.Run(name, func(t *testing.T) {
			base := gone.URL
			if tc.etcd != nil {
				server := httptest.NewServer(tc.etcd)
				defer server.Close()
				base = server.URL
			}
			if tc.method == "" {
				tc.method = http.MethodGet
			}
			h := newHealth(base+"/", unasked(), patient)
			h.enter(tc.phase)
			if got := answers(h, tc.method, tc.target); got != tc.want {
				t.Errorf("answer %q, want %q", got, tc.want)
			}
		})
	}
}

func TestAReleasedMembersGraceEnds(t *testing.T) {
	var alive atomic.Bool
	etcd := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !alive.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer etcd.Close()

	h := newHealth(etcd.URL, unasked(), patient)
	h.enter(phaseReleased)
	h.enter(phaseRunning) // etcd was started, and has not answered yet
	if got := answers(h, "GET", "/livez"); got != "200 starting" {
		t.Errorf("within the grace %q, want 200 starting", got)
	}
	alive.Store(true)
	if got := answers(h, "GET", "/livez"); got != "200 ok" {
		t.Errorf("etcd alive: %q, want 200 ok", got)
	}
	alive.Store(false)
	if got := answers(h, "GET", "/livez"); got != "503 failed" {
		t.Errorf("etcd no longer alive: %q, want 503: the grace is for its start", got)
	}

	hurried := patient
	hurried.grace = 0
	late := newHealth(etcd.URL, unasked(), hurried)
	late.enter(phaseReleased)
	if got := answers(late, "GET", "/livez"); got != "503 failed" {
		t.Errorf("after the grace %q, want 503", got)
	}
}

// Without a quorum /readyz hangs. That must not reach /livez, or the kubelet would
// restart every member of a cluster that lost its quorum.
func TestAHangingReadinessDoesNotHoldUpLiveness(t *testing.T) {
	hang := make(chan struct{})
	etcd := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" {
			<-hang
		}
	}))
	defer etcd.Close()
	h := newHealth(etcd.URL, unasked(), patient)
	h.enter(phaseRunning)
	ready := make(chan string)
	go func() { ready <- answers(h, "GET", "/readyz") }()
	for range 3 {
		if got := answers(h, "GET", "/livez"); got != "200 ok" {
			t.Errorf("liveness %q, want 200 ok", got)
		}
	}
	close(hang)
	if got := <-ready; got != "200 ok" {
		t.Errorf("readiness %q, want 200 ok", got)
	}
}

// A learner that starts takes itself for a voter until it has read through the
// leader, so its first good answer is not believed.
func TestAFirstGoodReadinessIsAskedForAgain(t *testing.T) {
	replies := []int{503, 200, 503, 200, 200, 200, 503, 200, 200}
	asked := 0
	h := newHealth("http://etcd", unasked(), patient)
	h.client.Transport = roundTrip(func(*http.Request) (*http.Response, error) {
		asked++
		return &http.Response{StatusCode: replies[asked-1], Body: http.NoBody}, nil
	})
	h.enter(phaseRunning)
	var got []string
	for asked < len(replies) {
		got = append(got, answers(h, "GET", "/readyz"))
	}
	want := []string{"503 failed", "503 failed", "200 ok", "200 ok", "503 failed", "200 ok"}
	if !slices.Equal(got, want) {
		t.Errorf("answers %q, want %q", got, want)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (r roundTrip) RoundTrip(q *http.Request) (*http.Response, error) { return r(q) }

func TestProbesAtOneTimeShareAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, hang := 0, make(chan struct{})
		h := newHealth("http://etcd", unasked(), patient)
		h.client.Transport = roundTrip(func(*http.Request) (*http.Response, error) {
			asked++
			<-hang
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
		})
		h.enter(phaseRunning)
		h.ready.good = true // it was ready before
		var callers sync.WaitGroup
		for range 100 {
			callers.Go(func() {
				if got := answers(h, "GET", "/readyz"); got != "200 ok" {
					t.Errorf("readiness %q, want 200 ok", got)
				}
			})
		}
		synctest.Wait() // all hundred wait for etcd
		close(hang)
		callers.Wait()
		if asked != 1 {
			t.Errorf("etcd was asked %d times for 100 callers at once, want once", asked)
		}
	})
}

func TestAProbeThatHangsIsATimeout(t *testing.T) {
	etcd := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer etcd.Close()
	hurried := patient
	hurried.question = 10 * time.Millisecond
	h := newHealth(etcd.URL, unasked(), hurried)
	h.enter(phaseRunning)
	for _, path := range []string{"/readyz", "/livez"} {
		if got := answers(h, "GET", path); got != "503 timeout" {
			t.Errorf("%s of an etcd that has never answered: %q, want 503 timeout", path, got)
		}
	}
}

// An etcd that stops answering is not ready within a second. It stays alive for the
// time that a defragmentation or a disk may take, and it is not heaped with
// questions meanwhile.
func TestAStalledEtcdIsNotReadyAndStaysAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHealth("http://etcd", unasked(), defaultTimings.probes)
		var stalled atomic.Bool
		var asked atomic.Int32
		h.client.Transport = roundTrip(func(q *http.Request) (*http.Response, error) {
			asked.Add(1)
			if stalled.Load() {
				<-q.Context().Done()
				return nil, q.Context().Err()
			}
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
		})
		h.enter(phaseRunning)
		want := func(path, answer string, within time.Duration) {
			t.Helper()
			begin := time.Now()
			if got := answers(h, "GET", path); got != answer || time.Since(begin) > within {
				t.Errorf("%v: %s %q after %v, want %q within %v", time.Since(begin), path, got, time.Since(begin), answer, within)
			}
		}
		want("/livez", "200 ok", 0)
		want("/readyz", "200 ok", 0)
		stalled.Store(true)
		asked.Store(0)
		begin := time.Now()
		for range 20 {
			want("/readyz", "503 timeout", time.Second)
		}
		if n, took := asked.Load(), time.Since(begin); n > int32(took/h.question)+1 {
			t.Errorf("etcd was asked %d times in %v, want once in %v", n, took, h.question)
		}
		for time.Since(begin) < h.stall-10*time.Second {
			want("/livez", "200 stalled", 4*time.Second)
			time.Sleep(10 * time.Second)
		}
		time.Sleep(10 * time.Second)
		want("/livez", "503 timeout", 4*time.Second)
		stalled.Store(false)
		time.Sleep(h.question)
		want("/livez", "200 ok", 0)
		want("/readyz", "200 ok", 0)
	})
}

// Only silence is borne with: an etcd that says it is not alive, or that closed its
// listener, is not.
func TestOnlySilenceIsAStall(t *testing.T) {
	var alive atomic.Bool
	alive.Store(true)
	etcd := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !alive.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	h := newHealth(etcd.URL, unasked(), patient)
	h.enter(phaseRunning)
	if got := answers(h, "GET", "/livez"); got != "200 ok" {
		t.Fatalf("liveness %q, want 200 ok", got)
	}
	alive.Store(false)
	if got := answers(h, "GET", "/livez"); got != "503 failed" {
		t.Errorf("etcd says that it is not alive: %q, want 503 failed", got)
	}
	etcd.Close()
	if got := answers(h, "GET", "/livez"); got != "503 starting" {
		t.Errorf("etcd does not listen: %q, want 503 starting", got)
	}
}

func TestProbesShareOneConnection(t *testing.T) {
	var opened atomic.Int32
	etcd := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	etcd.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	etcd.Start()
	defer etcd.Close()
	h := newHealth(etcd.URL, unasked(), patient)
	h.enter(phaseRunning)
	for range 50 {
		answers(h, "GET", "/livez")
		answers(h, "GET", "/readyz")
	}
	if n := opened.Load(); n > 2 {
		t.Errorf("opened %d connections for 100 probes in a row, want one or, at a race, two", n)
	}
}

func TestTheListenerIsBounded(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := newHealth("http://127.0.0.1:1", unasked(), patient)
	h.enter(phaseHeld)
	defer h.serve(listener)()
	for name, tc := range map[string]struct{ request, want string }{
		"a good request":  {"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK"},
		"a large header":  {"GET /livez HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 16<<10) + "\r\n\r\n", "HTTP/1.1 431 Request Header Fields Too Large"},
		"not HTTP at all": {"\x16\x03\x01\r\n\r\n", "HTTP/1.1 400 Bad Request"},
	} {
		t.Run(name, func(t *testing.T) {
			connection, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer connection.Close()
			_, _ = io.WriteString(connection, tc.request) // the server may hang up early
			line, err := bufio.NewReader(connection).ReadString('\n')
			if err != nil || strings.TrimSpace(line) != tc.want {
				t.Errorf("answer %q, %v, want %q", line, err, tc.want)
			}
			if strings.HasPrefix(tc.want, "HTTP/1.1 200") {
				// No keep-alive: the server ends the connection.
				if _, err := io.Copy(io.Discard, connection); err != nil {
					t.Errorf("connection not ended by the server: %v", err)
				}
			}
		})
	}
}

func TestPoll(t *testing.T) {
	errNotYet, errNever := errors.New("not yet"), errors.New("never")
	for name, tc := range map[string]struct {
		bound    time.Duration
		done     func(calls int) error
		want     error
		wantTime time.Duration
	}{
		"at once":            {time.Second, func(int) error { return nil }, nil, 0},
		"at the third look":  {time.Second, func(n int) error { return map[bool]error{true: errNotYet}[n < 3] }, nil, 200 * time.Millisecond},
		"never":              {time.Second + time.Millisecond, func(int) error { return errNotYet }, errNotYet, time.Second + time.Millisecond},
		"stopped":            {time.Second, func(int) error { return stop(errNever) }, errNever, 0},
		"canceled, no bound": {0, func(int) error { return errNotYet }, context.DeadlineExceeded, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin, calls := time.Now(), 0
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				err := poll(ctx, 100*time.Millisecond, tc.bound, func() error { calls++; return tc.done(calls) })
				if !errors.Is(err, tc.want) {
					t.Errorf("error %v, want %v", err, tc.want)
				}
				if took := time.Since(begin); took != tc.wantTime {
					t.Errorf("took %v, want %v", took, tc.wantTime)
				}
			})
		})
	}
}
