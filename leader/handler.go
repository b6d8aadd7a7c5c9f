package leader

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/leader/leaderhttp"
)

const (
	// largestBody of a request: what is sent here is a word or two.
	largestBody = 1 << 10
	// clientTimeout is how long a client may take to send its request's body, or to
	// take what is written to it.
	clientTimeout = 10 * time.Second
	// keepAlive is how long a stream says nothing at most.
	keepAlive = 15 * time.Second
	// longestPoll is how long a change is waited for at most; defaultPoll, if the
	// caller does not say.
	longestPoll = 5 * time.Minute
	defaultPoll = 30 * time.Second
	// mostWaiting are as many as may follow the elections or wait for a change at a time,
	// and retryAfter is when one that is too many may ask again, in seconds.
	mostWaiting = 2000
	retryAfter  = "5"
	// longestCooldown after a resignation.
	longestCooldown = 24 * time.Hour
)

// Handler answers over HTTP who leads:
//
//	/                         {"name":"pod-x"}, for every path and method not below
//	GET  /v1/state            the whole State; ?after=VERSION&timeout=30s waits for a change
//	GET  /v1/watch            every state, as server-sent events or application/x-ndjson
//	GET  /v1/leader           200 if this candidate leads, 503 otherwise
//	GET  /v1/follower         the other way round
//	POST /v1/resign           {"cooldown":"30s"}; answers when the Lease is released
//	PUT  /v1/eligible         true or false: whether this candidate contends
//	GET  /healthz             200 while the elector runs, whoever leads
//	GET  /readyz              200 once the Lease was looked for
//
// Every answer is worked out when it is written. Callers wait in their own goroutines,
// keep nothing of what they missed, and are cut off when they do not read: none of
// them can hold the election up. Above 2,000 that follow or wait, further ones are told to
// come later. /v1/leader is no good as the readiness of a Deployment, which would wait for
// ever for all of its pods to lead.
func (e *Elector) Handler() http.Handler { return Handlers(e) }

// Handlers is the Handler of several elections. The first one answers wherever none is
// named; ?election=NAME, also at /, and /v1/NAME/state name one.
func Handlers(electors ...*Elector) http.Handler {
	if len(electors) == 0 {
		return http.NotFoundHandler()
	}
	return &handler{electors: electors, pulses: make([]pulse, len(electors))}
}

type handler struct {
	electors []*Elector
	pulses   []pulse
	waiting  atomic.Int64
}

// route answers one path under /v1.
type route struct {
	methods []string
	serve   func(*Elector, http.ResponseWriter, *http.Request)
	// waits says that the answer takes its time; nil if it never does.
	waits func(*http.Request) bool
}

var (
	reads  = []string{http.MethodGet, http.MethodHead}
	routes = map[string]route{
		"state":    {reads, serveState, func(r *http.Request) bool { return r.URL.Query().Has("after") }},
		"watch":    {[]string{http.MethodGet}, serveWatch, func(*http.Request) bool { return true }},
		"leader":   {reads, serveLeader, nil},
		"follower": {reads, serveFollower, nil},
		"resign":   {[]string{http.MethodPost}, serveResign, nil},
		"eligible": {[]string{http.MethodPut}, serveEligible, nil},
	}
)

// ServeHTTP looks at the path as it is. A ServeMux would redirect //, which the
// leader-elector of old answered.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if r.ContentLength != 0 {
		// Read or not: the server waits for a body before it goes on with a connection.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(clientTimeout))
	}
	switch r.URL.Path {
	case "/healthz":
		h.serveProbe(w, r, h.alive)
		return
	case "/readyz":
		h.serveProbe(w, r, h.ready)
		return
	}
	election, verb := r.URL.Query().Get("election"), ""
	switch parts := strings.Split(r.URL.Path, "/"); {
	case len(parts) == 3 && parts[1] == "v1":
		verb = parts[2]
	case len(parts) == 4 && parts[1] == "v1":
		election, verb = parts[2], parts[3]
	}
	to, ok := routes[verb]
	e := h.elector(election)
	switch {
	case !ok:
		serveName(e, w)
	case e == nil:
		refuse(w, http.StatusNotFound, "no such election here")
	case !slices.Contains(to.methods, r.Method):
		w.Header().Set("Allow", strings.Join(to.methods, ", "))
		refuse(w, http.StatusMethodNotAllowed, "this path is not for this method")
	default:
		h.serve(to, e, w, r)
	}
}

// serve the route, unless too many wait already: each of them costs memory, and what asks
// without waiting is answered all the same.
func (h *handler) serve(to route, e *Elector, w http.ResponseWriter, r *http.Request) {
	if to.waits != nil && to.waits(r) {
		defer h.waiting.Add(-1)
		if h.waiting.Add(1) > mostWaiting {
			w.Header().Set("Retry-After", retryAfter)
			refuse(w, http.StatusServiceUnavailable, "too many wait for changes here already")
			return
		}
	}
	to.serve(e, w, r)
}

// elector of the election; nil if there is none.
func (h *handler) elector(election string) *Elector {
	if election == "" {
		return h.electors[0]
	}
	for _, e := range h.electors {
		if e.config.Election == election {
			return e
		}
	}
	return nil
}

// serveName answers as leader-elector 0.5 did, to the byte. Of an election that is not
// held here nobody is known to lead.
func serveName(e *Elector, w http.ResponseWriter) {
	write(w, http.StatusOK, func() any {
		var answer struct {
			Name string `json:"name"`
		}
		if e != nil {
			answer.Name = e.State().Leader
		}
		return answer
	})
}

// write answers with JSON that is worked out as late as can be.
func write(w http.ResponseWriter, code int, what func() any) {
	w.Header().Set("Content-Type", "application/json")
	hurry(w)
	// What is written here are structs of strings and numbers.
	text, _ := json.Marshal(what())
	w.WriteHeader(code)
	_, _ = w.Write(text)
}

func writeState(e *Elector, w http.ResponseWriter, code int) {
	write(w, code, func() any { return wire(e.State()) })
}

// refuse says why, in words of this package only: nothing of a request is sent back.
func refuse(w http.ResponseWriter, code int, why string) {
	write(w, code, func() any {
		return struct {
			Error string `json:"error"`
		}{why}
	})
}

// hurry gives the client its time to take what is written next. A writer that knows
// no deadlines is in no network.
func hurry(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(clientTimeout))
}

// wire is a state as it is sent.
func wire(s State) leaderhttp.State {
	return leaderhttp.State{
		Election: s.Election, Namespace: s.Namespace, Name: s.Leader, Self: s.Self, IsLeader: s.IsLeader(),
		Token: uint64(s.Token), Transitions: s.Transitions, LeaseUID: s.LeaseUID,
		AcquiredAt: s.AcquiredAt, RenewedAt: s.RenewedAt,
		ExpiresInMs: s.Remaining().Milliseconds(), Version: s.Version, Connected: s.Connected,
	}
}

// serveState answers at once, or with ?after=VERSION when the version is another one.
func serveState(e *Elector, w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	if query.Has("after") {
		after, err := strconv.ParseUint(query.Get("after"), 10, 64)
		if err != nil {
			refuse(w, http.StatusBadRequest, "after is no version — versions are whole numbers — use one that an earlier answer had")
			return
		}
		timeout := defaultPoll
		if query.Has("timeout") {
			timeout, err = time.ParseDuration(query.Get("timeout"))
		}
		if err != nil || timeout < 0 {
			refuse(w, http.StatusBadRequest, "timeout is no duration — nobody knows how long to wait — use one such as 30s")
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), min(timeout, longestPoll))
		defer cancel()
		e.await(ctx, after)
	}
	write(w, http.StatusOK, func() any {
		s := e.State()
		w.Header().Set("ETag", `"`+strconv.FormatUint(s.Version, 10)+`"`)
		return wire(s)
	})
}

// await waits until the state has another version.
func (e *Elector) await(ctx context.Context, version uint64) {
	for ctx.Err() == nil {
		v := e.view.Load()
		s := e.stateOf(v)
		if s.Version != version {
			return
		}
		if e.pause(ctx, v, s, longestPoll) == over {
			return
		}
	}
}

// why a pause ended.
type why int

const (
	// news: something was published, or what was known has run out.
	news why = iota
	// silence: nothing, for as long as was asked.
	silence
	// over: there will be nothing more.
	over
)

// pause until there are news after the view, whose state was s, for some time at most.
// It does not rely on the elector's loop to say that an answer has run out.
func (e *Elector) pause(ctx context.Context, v *view, s State, most time.Duration) why {
	ends, until := silence, most
	if left := s.Remaining(); left > 0 && left < most {
		ends, until = news, left
	}
	c, stop := e.config.clock.after(until)
	defer stop()
	select {
	case <-v.changed:
		return news
	case <-c:
		return ends
	case <-ctx.Done():
		return over
	case <-e.done:
		return over
	}
}

// serveLeader and serveFollower answer with a code, for load balancers and scripts.
func serveLeader(e *Elector, w http.ResponseWriter, _ *http.Request) {
	serveRole(e, w, func(s State) bool { return s.IsLeader() })
}

func serveFollower(e *Elector, w http.ResponseWriter, _ *http.Request) {
	serveRole(e, w, func(s State) bool { return !s.IsLeader() })
}

func serveRole(e *Elector, w http.ResponseWriter, is func(State) bool) {
	s := e.State()
	code := http.StatusServiceUnavailable
	if is(s) {
		code = http.StatusOK
	}
	write(w, code, func() any { return wire(s) })
}

// serveWatch writes every state, and again what has been renewed, so that the reader
// knows how long it holds. What a reader is too slow for is left out but for the last.
func serveWatch(e *Elector, w http.ResponseWriter, r *http.Request) {
	f := events
	if strings.Contains(r.Header.Get("Accept"), "application/x-ndjson") {
		f = lines
	}
	w.Header().Set("Content-Type", f.contentType)
	w.Header().Set("X-Accel-Buffering", "no")
	last := State{}
	for first, ended := true, news; ; first = false {
		v := e.view.Load()
		s := e.stateOf(v)
		tell := f.state
		if !first && s.Version == last.Version && s.RenewedAt.Equal(last.RenewedAt) {
			tell = nil
			if ended == silence {
				tell = f.quiet
			}
		}
		if tell != nil {
			hurry(w)
			if !send(w, tell(wire(s))) {
				return
			}
			last = s
		}
		if ended == over {
			return
		}
		ended = e.pause(r.Context(), v, s, keepAlive)
	}
}

// format of a stream: what is written of a state, and when there is nothing to say.
type format struct {
	contentType  string
	state, quiet func(leaderhttp.State) []byte
}

var (
	events = format{"text/event-stream", asEvent, func(leaderhttp.State) []byte { return []byte(":\n\n") }}
	// JSON lines have no comments.
	lines = format{"application/x-ndjson", asLine, asLine}
)

func asEvent(s leaderhttp.State) []byte {
	return fmt.Appendf(nil, "event: state\nid: %d\ndata: %s\n", s.Version, asLine(s))
}

func asLine(s leaderhttp.State) []byte {
	// It is a struct of strings and numbers.
	text, _ := json.Marshal(s)
	return append(text, '\n')
}

// send answers whether the reader is still there.
func send(w http.ResponseWriter, text []byte) bool {
	_, err := w.Write(text)
	return err == nil && http.NewResponseController(w).Flush() == nil
}

// serveResign steps down, and answers when the Lease is released.
func serveResign(e *Elector, w http.ResponseWriter, r *http.Request) {
	body, ok := control(e, w, r)
	if !ok {
		return
	}
	// Long enough for another candidate to be quicker.
	cooldown := e.config.LeaseDuration
	if len(body) > 0 {
		var asked struct {
			Cooldown *string `json:"cooldown"`
		}
		d := json.NewDecoder(bytes.NewReader(body))
		d.DisallowUnknownFields()
		err := d.Decode(&asked)
		if err == nil && asked.Cooldown != nil {
			cooldown, err = time.ParseDuration(*asked.Cooldown)
		}
		if err != nil || d.More() || cooldown < 0 || cooldown > longestCooldown {
			refuse(w, http.StatusBadRequest, `the body does not say for how long to stand back — a leader steps down for 0s to 24h — send {"cooldown":"30s"}, or nothing`)
			return
		}
	}
	if err := e.Resign(r.Context(), cooldown); err != nil {
		refuse(w, http.StatusServiceUnavailable, "the Lease is not released yet — this candidate claims nothing any more")
		return
	}
	writeState(e, w, http.StatusOK)
}

// serveEligible lets the application decide whether its pod contends.
func serveEligible(e *Elector, w http.ResponseWriter, r *http.Request) {
	body, ok := control(e, w, r)
	if !ok {
		return
	}
	var is Eligibility
	switch string(body) {
	case "true":
		is = Eligible
	case "false":
		is = Ineligible
	default:
		refuse(w, http.StatusBadRequest, "the body is neither true nor false — it says whether this candidate contends — send one of them")
		return
	}
	if err := e.Become(r.Context(), is); err != nil {
		refuse(w, http.StatusServiceUnavailable, "the elector did not hear of it in time — try again")
		return
	}
	writeState(e, w, http.StatusOK)
}

// control reads what somebody wants who may want it.
func control(e *Elector, w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	if e.config.Control != Anyone && !local(r) {
		refuse(w, http.StatusForbidden, "only this pod may ask for that, over loopback or a unix socket")
		return nil, false
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, largestBody))
	if err == nil {
		// What was asked for may take longer.
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	}
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		refuse(w, http.StatusRequestEntityTooLarge, "the body is larger than 1 KiB")
		return nil, false
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, "the body did not come in time")
		return nil, false
	}
	return bytes.TrimSpace(body), true
}

// local says that a request comes from this pod: neither from another one, nor through
// a proxy of this one, nor from a page of another origin in a browser. In a pod with
// hostNetwork all that runs on the node's network does.
func local(r *http.Request) bool {
	if r.Header.Get("X-Forwarded-For") != "" || http.NewCrossOriginProtection().Check(r) != nil {
		return false
	}
	if a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && a.Network() == "unix" {
		return true
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && from.Addr().Unmap().IsLoopback()
}

// serveProbe answers a kubelet.
func (h *handler) serveProbe(w http.ResponseWriter, r *http.Request, well func(context.Context) bool) {
	if !slices.Contains(reads, r.Method) {
		w.Header().Set("Allow", strings.Join(reads, ", "))
		refuse(w, http.StatusMethodNotAllowed, "this path is not for this method")
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	hurry(w)
	if !well(r.Context()) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "no\n")
		return
	}
	_, _ = io.WriteString(w, "ok\n")
}

// ready: every election was looked at once.
func (h *handler) ready(context.Context) bool {
	return !slices.ContainsFunc(h.electors, func(e *Elector) bool { return e.State().Version == 0 })
}

// alive: every elector's loop goes round. Whether the API server answers it does not
// matter: a new start of the process would not help.
func (h *handler) alive(ctx context.Context) bool {
	all := true
	for i, e := range h.electors {
		all = h.pulses[i].feel(ctx, e) && all
	}
	return all
}

// pulse is a question to an elector's loop that it has nothing to do for.
type pulse struct {
	mu    sync.Mutex
	asked instant
	waits bool
}

// feel asks the loop, unless it was asked before, and says whether it answers in time.
// It does not wait: the loop may be waiting for a request.
func (p *pulse) feel(ctx context.Context, e *Elector) bool {
	select {
	case <-e.done:
		return false
	default:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := e.config.clock.now()
	if p.waits {
		return p.asked.add(2*e.config.RenewInterval+2*openTimeout).leftOnBoth(now) > 0
	}
	p.asked, p.waits = now, true
	go func() {
		_ = e.wish(context.WithoutCancel(ctx), func(*election) {})
		p.mu.Lock()
		p.waits = false
		p.mu.Unlock()
	}()
	return true
}
