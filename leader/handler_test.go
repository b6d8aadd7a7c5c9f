package leader_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/leader"
	"github.com/quorate/quorate/leader/leaderhttp"
	"github.com/quorate/quorate/leader/leadertest"
)

func anyone(c *leader.Config)        { c.Control = leader.Anyone }
func elects(name string) option      { return func(c *leader.Config) { c.Election = name } }
func serve(es ...*candidate) handler { return handler{leader.Handlers(electors(es)...)} }

func electors(es []*candidate) []*leader.Elector {
	var out []*leader.Elector
	for _, e := range es {
		out = append(out, e.Elector)
	}
	return out
}

type handler struct{ http.Handler }

// ask the handler from loopback.
func (h handler) ask(method, target, body string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.RemoteAddr = "127.0.0.1:1234"
	for _, c := range change {
		c(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func (h handler) state(t *testing.T, target string) leaderhttp.State {
	t.Helper()
	w := h.ask("GET", target, "")
	var s leaderhttp.State
	if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil || w.Code != 200 {
		t.Fatalf("GET %s: %d %s", target, w.Code, w.Body)
	}
	return s
}

// TestOldAnswer is what leader-elector 0.5 answered, for whatever it is asked.
func TestOldAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := leadertest.NewServer()
		a := start(t, s, "pod-a")
		synctest.Wait()
		b := start(t, s, "pod-b")
		aRenewal()
		for _, c := range []*candidate{a, b} {
			h := serve(c)
			for _, target := range []string{"GET /", "POST /", "DELETE /some/path?x=y", "PUT //", "GET /v1", "GET /v1/nothing", "GET /v1/a/b/state", "GET /metrics", "PATCH /../v1/state/"} {
				method, path, _ := strings.Cut(target, " ")
				w := h.ask(method, path, "<body>")
				if w.Code != 200 || w.Body.String() != `{"name":"pod-a"}` || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Cache-Control") != "no-store" {
					t.Errorf("%s: %d %q %v", target, w.Code, w.Body, w.Header())
				}
			}
		}
		// The answer runs out without the elector's help, also on a standby.
		a.cut()
		b.cut()
		time.Sleep(7400 * time.Millisecond)
		if got := serve(a).ask("GET", "/", "").Body.String(); got != `{"name":"pod-a"}` {
			t.Errorf("the leader says %s before its deadline", got)
		}
		time.Sleep(3 * time.Second)
		for _, c := range []*candidate{a, b} {
			if got := serve(c).ask("GET", "/", "").Body.String(); got != `{"name":""}` {
				t.Errorf("after the lease %s says %s", c.State().Self, got)
			}
		}
	})
}

// TestStateAnswer names every field, and elections by query and by path.
func TestStateAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := leadertest.NewServer()
		a, other := start(t, s, "pod-a"), start(t, s, "pod-a", elects("other"))
		synctest.Wait()
		h := serve(a, other)
		time.Sleep(time.Second)
		got := h.state(t, "/v1/state")
		want := leaderhttp.State{
			Election: "example", Namespace: "ns", Name: "pod-a", Self: "pod-a", IsLeader: true, Token: uint64(a.State().Token),
			LeaseUID: got.LeaseUID, AcquiredAt: a.State().AcquiredAt.UTC(), RenewedAt: a.State().RenewedAt.UTC(), ExpiresInMs: 6500, Version: a.State().Version, Connected: true,
		}
		got.AcquiredAt, got.RenewedAt = got.AcquiredAt.UTC(), got.RenewedAt.UTC()
		if got != want || got.LeaseUID == "" || got.Token == 0 {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
		for _, target := range []string{"/v1/state?election=other", "/v1/other/state"} {
			if got := h.state(t, target); got.Election != "other" {
				t.Errorf("%s answers for %s", target, got.Election)
			}
		}
		if tag := h.ask("GET", "/v1/state", "").Header().Get("ETag"); tag != fmt.Sprintf("%q", fmt.Sprint(got.Version)) {
			t.Errorf("ETag %s", tag)
		}
	})
}

// TestOldAnswerOfAnother: the election that is named is the one that answers, also as 0.5
// did; nobody is known to lead in one that is not held here.
func TestOldAnswerOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := leadertest.NewServer()
		a, other := start(t, s, "pod-a"), start(t, s, "pod-a", elects("other"))
		synctest.Wait()
		if err := other.Resign(t.Context(), time.Hour); err != nil {
			t.Fatal(err)
		}
		h := serve(a, other)
		for target, want := range map[string]string{"/": "pod-a", "/?election=example": "pod-a", "/?election=other": "", "/?election=nothing": "", "/some/path?x=y": "pod-a"} {
			if w := h.ask("GET", target, ""); w.Code != 200 || w.Body.String() != fmt.Sprintf(`{"name":%q}`, want) {
				t.Errorf("%s: %d %s", target, w.Code, w.Body)
			}
		}
	})
}

// TestRoles: a code for those that cannot read.
func TestRoles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := leadertest.NewServer()
		a := start(t, s, "pod-a")
		synctest.Wait()
		b := start(t, s, "pod-b")
		aRenewal()
		for _, c := range []struct {
			h    handler
			path string
			code int
		}{{serve(a), "/v1/leader", 200}, {serve(a), "/v1/follower", 503}, {serve(b), "/v1/leader", 503}, {serve(b), "/v1/follower", 200}} {
			if w := c.h.ask("GET", c.path, ""); w.Code != c.code || !strings.Contains(w.Body.String(), `"name":"pod-a"`) {
				t.Errorf("%s: %d %s, want %d", c.path, w.Code, w.Body, c.code)
			}
		}
	})
}

// TestLongPoll returns at once for another version, on a change, when the answer runs
// out, and after its timeout.
func TestLongPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := leadertest.NewServer()
		a := start(t, s, "pod-a")
		synctest.Wait()
		b := start(t, s, "pod-b")
		aRenewal()
		h := serve(b)
		poll := func(timeout string) (leaderhttp.State, time.Duration) {
			began := time.Now()
			got := h.state(t, fmt.Sprintf("/v1/state?after=%d&timeout=%s", b.State().Version, timeout))
			return got, time.Since(began)
		}
		if _, took := poll("0s"); took != 0 {
			t.Errorf("without a timeout it took %s", took)
		}
		if got, took := poll("40s"); took != 40*time.Second || got.Name != "pod-a" {
			t.Errorf("without a change it took %s: %+v", took, got)
		}
		if _, took := poll("24h"); took != 5*time.Minute {
			t.Errorf("it waits for as long as %s", took)
		}
		began := time.Now()
		h.state(t, "/v1/state?after=1000000")
		if took := time.Since(began); took != 0 {
			t.Errorf("for another version it took %s", took)
		}
		time.AfterFunc(time.Second, a.stop)
		if got, took := poll("30s"); took != time.Second || got.Name == "pod-a" {
			t.Errorf("of a change it said after %s: %+v", took, got)
		}
	})
}

// TestLongPollRunsOut: the end of what is known needs no help of the elector's loop,
// which hangs in a request.
func TestLongPollRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, leadertest.NewServer(), "pod-a", lasts(20*time.Second))
		synctest.Wait()
		a.client.Fault(func(leadertest.Call) leadertest.Fault { return leadertest.Fault{Lose: leadertest.Request} })
		began, remaining := time.Now(), a.State().Remaining()
		got := serve(a).state(t, fmt.Sprintf("/v1/state?after=%d&timeout=5m", a.State().Version))
		for got.Name != "" {
			got = serve(a).state(t, fmt.Sprintf("/v1/state?after=%d&timeout=5m", got.Version))
		}
		if took := time.Since(began); took != remaining {
			t.Errorf("it said so after %s, want %s", took, remaining)
		}
	})
}

// TestCrowd: those that wait are bounded, and whoever only asks is answered beside them.
func TestCrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, leadertest.NewServer(), "pod-a")
		synctest.Wait()
		h := serve(a)
		poll := fmt.Sprintf("/v1/state?after=%d&timeout=30s", a.State().Version)
		refused := make(chan int, 2000)
		for range 2000 {
			go func() { refused <- h.ask("GET", poll, "").Code }()
		}
		synctest.Wait()
		for _, target := range []string{poll, "/v1/watch"} {
			if w := h.ask("GET", target, ""); w.Code != 503 || w.Header().Get("Retry-After") == "" {
				t.Errorf("%s beside a crowd: %d", target, w.Code)
			}
		}
		for _, target := range []string{"/", "/v1/state", "/v1/leader", "/healthz"} {
			if w := h.ask("GET", target, ""); w.Code != 200 {
				t.Errorf("%s beside a crowd: %d", target, w.Code)
			}
		}
		for range 2000 {
			if code := <-refused; code != 200 {
				t.Fatalf("one of the crowd gets %d", code)
			}
		}
		if w := h.ask("GET", poll, ""); w.Code != 200 {
			t.Errorf("after the crowd: %d", w.Code)
		}
	})
}

// TestMethods: only what reads is read, and nothing of a request is sent back.
func TestMethods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := serve(start(t, leadertest.NewServer(), "pod-a"))
		synctest.Wait()
		for target, code := range map[string]int{
			"POST /v1/state": 405, "PUT /v1/watch": 405, "DELETE /v1/leader": 405, "POST /v1/follower": 405,
			"GET /v1/resign": 405, "GET /v1/eligible": 405, "POST /v1/example/state": 405, "POST /healthz": 405, "POST /readyz": 405,
			"GET /v1/state?election=evil": 404, "GET /v1/evil/state": 404,
			"GET /v1/state?after=evil": 400, "GET /v1/state?after=-1": 400, "GET /v1/state?after=1&timeout=evil": 400, "GET /v1/state?after=1&timeout=-1s": 400,
			"PUT /v1/eligible": 400, "POST /v1/resign": 400,
			"HEAD /v1/state": 200,
		} {
			method, path, _ := strings.Cut(target, " ")
			w := h.ask(method, path, `"evil"`)
			if w.Code != code || strings.Contains(w.Body.String(), "evil") {
				t.Errorf("%s: %d %s, want %d", target, w.Code, w.Body, code)
			}
			if w.Code == 405 && w.Header().Get("Allow") == "" {
				t.Errorf("%s: 405 without Allow", target)
			}
		}
		for _, path := range []string{"POST /v1/resign", "PUT /v1/eligible"} {
			method, path, _ := strings.Cut(path, " ")
			if w := h.ask(method, path, strings.Repeat(" ", 1025)); w.Code != 413 {
				t.Errorf("%s takes 1025 bytes: %d", path, w.Code)
			}
		}
		for _, body := range []string{`{"cooldown":"x"}`, `{"cooldown":"-1s"}`, `{"cooldown":"25h"}`, `{"cooldwn":"1s"}`, `{"cooldown":"1s"}{}`, `[]`} {
			if w := h.ask("POST", "/v1/resign", body); w.Code != 400 {
				t.Errorf("resigning with %s: %d", body, w.Code)
			}
		}
	})
}

// TestControl: this pod may have its candidate resign, and nobody else may.
func TestControl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := leadertest.NewServer()
		a := start(t, s, "pod-a")
		synctest.Wait()
		b := start(t, s, "pod-b", anyone)
		synctest.Wait()
		from := func(address string) func(*http.Request) {
			return func(r *http.Request) { r.RemoteAddr = address }
		}
		with := func(header, value string) func(*http.Request) {
			return func(r *http.Request) { r.Header.Set(header, value) }
		}
		for name, change := range map[string]func(*http.Request){
			"another pod": from("10.0.0.1:1"), "no address": from("@"), "through a proxy": with("X-Forwarded-For", "10.0.0.1"), "a page": with("Sec-Fetch-Site", "cross-site"),
		} {
			for target, body := range map[string]string{"POST /v1/resign": "", "PUT /v1/eligible": "false"} {
				method, path, _ := strings.Cut(target, " ")
				if w := serve(a).ask(method, path, body, change); w.Code != 403 || !a.IsLeader() {
					t.Errorf("%s from %s: %d", target, name, w.Code)
				}
			}
		}
		if w := serve(a).ask("POST", "/v1/resign", `{"cooldown":"30s"}`, from("[::1]:1")); w.Code != 200 || a.IsLeader() {
			t.Fatalf("resigning: %d %s", w.Code, w.Body)
		}
		time.Sleep(time.Second)
		want(t, "resigned", b, true, "pod-b")
		unix := func(r *http.Request) {
			*r = *r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(&net.UnixAddr{Net: "unix"})))
			r.RemoteAddr = "@"
		}
		if w := serve(a).ask("PUT", "/v1/eligible", "false", unix); w.Code != 200 {
			t.Errorf("over a unix socket: %d", w.Code)
		}
		if w := serve(b).ask("PUT", "/v1/eligible", "false\n", from("10.0.0.1:1")); w.Code != 200 || b.IsLeader() {
			t.Errorf("whom anyone may control: %d", w.Code)
		}
		time.Sleep(time.Minute)
		want(t, "nobody is eligible", b, false, "")
		serve(b).ask("PUT", "/v1/eligible", "true")
		time.Sleep(time.Second)
		want(t, "eligible again", b, true, "pod-b")
		// Without a body another candidate gets its turn.
		serve(a).ask("PUT", "/v1/eligible", "true", unix)
		serve(b).ask("POST", "/v1/resign", "")
		time.Sleep(time.Second)
		want(t, "resigned without a body", a, true, "pod-a")
	})
}

// TestProbes: ready after the first look, well while the loop goes round, whatever the
// API server does.
func TestProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := leadertest.NewServer()
		e, err := leader.New(leader.Config{Election: election, Identity: "pod-a", Leases: s.Client()})
		if err != nil {
			t.Fatal(err)
		}
		h := handler{e.Handler()}
		probe := func(when, path string, code int) {
			t.Helper()
			synctest.Wait()
			if w := h.ask("GET", path, ""); w.Code != code {
				t.Errorf("%s: %s says %d", when, path, w.Code)
			}
		}
		probe("before the start", "/readyz", 503)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			_ = e.Run(ctx)
			close(ended)
		}()
		probe("started", "/readyz", 200)
		cancel()
		<-ended
		probe("ended", "/healthz", 503)

		a := start(t, s, "pod-a")
		a.cut()
		h = serve(a)
		for range 20 {
			probe("the API server hangs", "/healthz", 200)
			time.Sleep(10 * time.Second)
		}
		// A loop that hangs for good is not well.
		never := make(chan struct{})
		a.client.Fault(func(leadertest.Call) leadertest.Fault {
			<-never
			return leadertest.Fault{}
		})
		time.Sleep(10 * time.Second)
		probe("the loop hangs", "/healthz", 200)
		time.Sleep(20 * time.Second)
		probe("the loop hangs for long", "/healthz", 503)
		close(never)
	})
}

// pipes is a listener whose connections are pipes: nothing is buffered in them.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	c, ok := <-p.conns
	if !ok {
		return nil, errors.New("closed")
	}
	return c, nil
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.conns) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }

// dial serves the handler, and returns a connection to it.
func dial(t *testing.T, h http.Handler) net.Conn {
	t.Helper()
	p := &pipes{conns: make(chan net.Conn, 1)}
	server := &http.Server{Handler: h}
	ended := make(chan struct{})
	go func() {
		_ = server.Serve(p)
		close(ended)
	}()
	ours, theirs := net.Pipe()
	p.conns <- theirs
	t.Cleanup(func() {
		_ = ours.Close()
		_ = server.Close()
		<-ended
	})
	return ours
}

// TestWatchStream: events of changes and renewals, with ids, and comments in between.
func TestWatchStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := leadertest.NewServer()
		a := start(t, s, "pod-a", lasts(60*time.Second))
		synctest.Wait()
		b := start(t, s, "pod-b", lasts(60*time.Second))
		time.Sleep(20 * time.Second)
		synctest.Wait()
		conn := dial(t, serve(b))
		_, _ = io.WriteString(conn, "GET /v1/watch HTTP/1.1\r\nHost: x\r\n\r\n")
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || answer.Header.Get("Content-Type") != "text/event-stream" {
			t.Fatal(err, answer)
		}
		defer func() { _, _ = conn.Close(), answer.Body.Close() }()
		var mu sync.Mutex
		var states []leaderhttp.State
		comments := 0
		go func() {
			for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
				mu.Lock()
				if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
					var s leaderhttp.State
					if err := json.Unmarshal([]byte(data), &s); err != nil {
						t.Error(err)
					}
					states = append(states, s)
				} else if lines.Text() == ":" {
					comments++
				} else if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok && id != fmt.Sprint(b.State().Version) {
					t.Errorf("id %s", id)
				}
				mu.Unlock()
			}
		}()
		time.Sleep(59 * time.Second)
		synctest.Wait()
		mu.Lock()
		// One at first, then after renewals at 40 s and 60 s.
		if len(states) != 3 || states[2].ExpiresInMs != 60000 || states[0].Name != "pod-a" || comments != 3 {
			t.Errorf("%d comments, states %+v", comments, states)
		}
		mu.Unlock()
		a.stop()
		time.Sleep(time.Second)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if last := states[len(states)-1]; !last.IsLeader || last.Name != "pod-b" {
			t.Errorf("at last %+v", last)
		}
	})
}

// TestWatchLines: the same as JSON lines.
func TestWatchLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, leadertest.NewServer(), "pod-a")
		synctest.Wait()
		conn := dial(t, serve(a))
		_, _ = io.WriteString(conn, "GET /v1/watch HTTP/1.1\r\nHost: x\r\nAccept: application/x-ndjson\r\n\r\n")
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || answer.Header.Get("Content-Type") != "application/x-ndjson" {
			t.Fatal(err, answer)
		}
		defer func() { _, _ = conn.Close(), answer.Body.Close() }()
		d := json.NewDecoder(answer.Body)
		for range 10 {
			var s leaderhttp.State
			if err := d.Decode(&s); err != nil || !s.IsLeader || s.ExpiresInMs != 7500 {
				t.Errorf("%+v, %v", s, err)
			}
		}
	})
}

// TestSlowClients do not read, and are cut off; the election does not notice.
func TestSlowClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, leadertest.NewServer(), "pod-a", anyone)
		synctest.Wait()
		var conns []net.Conn
		for _, request := range []string{
			"GET /v1/watch HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
			"PUT /v1/eligible HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
		} {
			conn := dial(t, serve(a))
			_, _ = io.WriteString(conn, request)
			conns = append(conns, conn)
		}
		for range 60 {
			time.Sleep(time.Second)
			want(t, "beside slow clients", a, true, "pod-a")
		}
		for i, conn := range conns {
			_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
			if text, err := io.ReadAll(conn); err != nil || len(text) > 0 {
				t.Errorf("client %d is not cut off: %q, %v", i, text, err)
			}
		}
	})
}

// TestWatchCoalesces: what a reader is too slow for is left out but for the last.
func TestWatchCoalesces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := leadertest.NewServer()
		a := start(t, s, "pod-a", lasts(2*time.Second))
		synctest.Wait()
		conn := dial(t, serve(a))
		_, _ = io.WriteString(conn, "GET /v1/watch HTTP/1.1\r\nHost: x\r\nAccept: application/x-ndjson\r\n\r\n")
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _, _ = conn.Close(), answer.Body.Close() }()
		d := json.NewDecoder(answer.Body)
		var first, second, third leaderhttp.State
		_ = d.Decode(&first)
		// More than ten renewals, in less time than a client has.
		time.Sleep(8 * time.Second)
		_ = d.Decode(&second)
		_ = d.Decode(&third)
		if third.RenewedAt.Sub(second.RenewedAt) < 5*time.Second {
			t.Errorf("it is told of %v, %v and %v", first.RenewedAt, second.RenewedAt, third.RenewedAt)
		}
	})
}
