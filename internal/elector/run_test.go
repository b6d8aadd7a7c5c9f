package elector

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/quorate/quorate/leader"
	"github.com/quorate/quorate/leader/leaderhttp"
	"github.com/quorate/quorate/leader/leadertest"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// process is a leader-elector that runs within the test.
type process struct {
	t      *testing.T
	socket string
	client *leaderhttp.Client
	leases *leadertest.Client
	stop   context.CancelFunc
	ended  chan struct{}
	code   int
	err    error
}

// launch a leader-elector on a unix socket, until the test ends.
func launch(t *testing.T, s *leadertest.Server, args ...string) *process {
	t.Helper()
	return launchWith(t, s, nil, args...)
}

func launchWith(t *testing.T, s *leadertest.Server, config *rest.Config, args ...string) *process {
	t.Helper()
	// The path of a socket must be short, and t.TempDir's is as long as the test's name.
	dir, err := os.MkdirTemp("", "le") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &process{t: t, socket: "unix:" + filepath.Join(dir, "s"), leases: s.Client(), ended: make(chan struct{})}
	o, err := Parse(append([]string{"--election=example", "--election-namespace=ns", "--id=pod-a", "--http=" + p.socket}, args...), environ("POD_NAMESPACE=ns"), nil)
	if err != nil {
		t.Fatal(err)
	}
	duties, err := o.duties(config, quiet)
	if err != nil {
		t.Fatal(err)
	}
	if p.client, err = leaderhttp.New(p.socket); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	p.stop = stop
	go func() {
		p.code, p.err = o.run(ctx, p.leases, duties, "v1.2.3", quiet)
		close(p.ended)
	}()
	t.Cleanup(p.end)
	return p
}

func (p *process) end() {
	p.stop()
	select {
	case <-p.ended:
	case <-time.After(30 * time.Second):
		p.t.Fatal("it does not end")
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 1000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("waited in vain for this: %s", what)
}

// free says that nobody holds the Lease. Whoever asks what has to come before that asks
// after this.
func free(s *leadertest.Server) bool { return *s.Lease("ns", "example").Spec.HolderIdentity == "" }

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

func (p *process) leads() bool { return p.client.IsLeader(p.t.Context()) }

func (p *process) get(path string) string {
	conn := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", strings.TrimPrefix(p.socket, "unix:"))
	}}}
	answer, err := conn.Get("http://x" + path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(text)
}

// TestSidecar answers as the old one did, tells its metrics, and releases at the end.
func TestSidecar(t *testing.T) {
	s := leadertest.NewServer()
	p := launch(t, s, "--election=second")
	eventually(t, "it leads", p.leads)
	if got := p.get("/"); got != `{"name":"pod-a"}` {
		t.Errorf("/ says %s", got)
	}
	metrics := p.get("/metrics")
	for _, want := range []string{
		`leader_election_master_status{name="example"} 1`, `leader_elector_is_leader{election="second"} 1`, `leader_elector_lease_remaining_seconds{election="example"}`,
		`leader_elector_api_requests_total{code="201",election="example",verb="create"} 1`, `leader_elector_api_requests_total{code="404",election="example",verb="get"} 1`,
		`leader_elector_build_info{version="v1.2.3"} 1`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics lacks %s:\n%s", want, metrics)
		}
	}
	p.end()
	if holder := s.Lease("ns", "example").Spec.HolderIdentity; p.code != 0 || p.err != nil || *holder != "" {
		t.Errorf("ended with %d, %v, holder %s", p.code, p.err, *holder)
	}
}

// TestPortInUse is fatal: a leader that nobody can ask is of no use. A socket left
// behind is not.
func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	s := leadertest.NewServer()
	for _, flag := range []string{"--http", "--metrics"} {
		p := launch(t, s, flag+"="+l.Addr().String())
		<-p.ended
		if p.code != 1 || p.err == nil || !strings.Contains(p.err.Error(), flag+" "+l.Addr().String()) || s.Lease("ns", "example") != nil {
			t.Errorf("%s: ended with %d, %v", flag, p.code, p.err)
		}
	}
	path := filepath.Join(t.TempDir(), "s")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	_ = left.Close()
	again, err := listen(t.Context(), "--http", "unix:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Close() }()
	if _, err := listen(t.Context(), "--http", "unix:"+path); err == nil {
		t.Error("a socket in use is taken away")
	}
}

// TestLabel is patched onto this pod only, taken off before the release, and by a
// process that finds it there.
func TestLabel(t *testing.T) {
	s := leadertest.NewServer()
	var mu sync.Mutex
	var patches []string
	refusals := 2
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if r.Method != http.MethodPatch || r.URL.Path != "/api/v1/namespaces/ns/pods/pod-a" || r.Header.Get("Content-Type") != "application/merge-patch+json" {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		w.Header().Set("Content-Type", "application/json")
		if refusals--; refusals >= 0 {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403}`)
			return
		}
		holder := ""
		if l := s.Lease("ns", "example"); l != nil {
			holder = *l.Spec.HolderIdentity
		}
		patches = append(patches, string(body)+" "+holder)
		fmt.Fprint(w, `{"kind":"Pod","apiVersion":"v1"}`)
	}))
	defer server.Close()
	p := launchWith(t, s, &rest.Config{Host: server.URL}, "--label=example.com/role", "--pod-uid=uid-a")
	on, off := `{"metadata":{"annotations":{"leader.quorate.dev/token":"1"},"labels":{"example.com/role":"leader"},"uid":"uid-a"}} pod-a`, `{"metadata":{"labels":{"example.com/role":null},"uid":"uid-a"}} pod-a`
	eventually(t, "the label is on", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(patches) > 0 && patches[len(patches)-1] == on
	})
	p.end()
	if n := len(patches); patches[n-2] != on || patches[n-1] != off {
		t.Errorf("patches: %q", patches)
	}
}

// TestLabelOthers takes the label off those that bear it still, and only as they were
// seen.
func TestLabelOthers(t *testing.T) {
	var mu sync.Mutex
	patches, lists, conflicts := map[string]string{}, 0, 1
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		if r.Method == http.MethodGet {
			if got := r.URL.Query().Get("labelSelector"); got != "role=active" {
				t.Errorf("selects %q", got)
			}
			lists++
			fmt.Fprint(w, `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","items":[
				{"metadata":{"name":"pod-a","uid":"uid-a","resourceVersion":"5"}},
				{"metadata":{"name":"pod-b","uid":"uid-b","resourceVersion":"7"}}]}`)
			return
		}
		name := filepath.Base(r.URL.Path)
		if name == "pod-b" && conflicts > 0 {
			conflicts--
			w.WriteHeader(http.StatusConflict)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Conflict","code":409}`)
			return
		}
		patches[name] = string(body)
		fmt.Fprint(w, `{"kind":"Pod","apiVersion":"v1"}`)
	}))
	defer server.Close()
	p := launchWith(t, leadertest.NewServer(), &rest.Config{Host: server.URL}, "--label=role=active,passive", "--label-others", "--pod-uid=uid-a")
	eventually(t, "the other one's label is taken off", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return patches["pod-b"] != "" && strings.Contains(patches["pod-a"], "active")
	})
	p.end()
	if want := `{"metadata":{"labels":{"role":"passive"},"resourceVersion":"7","uid":"uid-b"}}`; patches["pod-b"] != want {
		t.Errorf("pod-b was patched with %s", patches["pod-b"])
	}
	if want := `{"metadata":{"labels":{"role":"passive"},"uid":"uid-a"}}`; patches["pod-a"] != want {
		t.Errorf("at the end pod-a was patched with %s", patches["pod-a"])
	}
	if lists > 3 {
		t.Errorf("%d lists", lists)
	}
}

// TestRoleFile and hooks: the Lease is released when they have ended, and no sooner.
func TestRoleFileAndHooks(t *testing.T) {
	s := leadertest.NewServer()
	dir := t.TempDir()
	script := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var mu sync.Mutex
	var webhook string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		webhook += string(body)
	}))
	defer server.Close()
	told := func() string {
		mu.Lock()
		defer mu.Unlock()
		return webhook
	}
	role, began, ended := filepath.Join(dir, "role"), filepath.Join(dir, "began"), filepath.Join(dir, "ended")
	if err := os.WriteFile(role, []byte("leader\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := launch(t, s, "--role-file="+role, "--on-start="+script("start", `echo "$LEADER_ELECTOR_ROLE $LEADER_ELECTOR_TOKEN $1" > `+began)+" word",
		"--on-stop="+script("stop", "sleep 0.5; touch "+ended), "--webhook="+server.URL)
	read := func(path string) string {
		text, _ := os.ReadFile(path)
		return string(text)
	}
	eventually(t, "the file says leader", func() bool { return read(role) == "leader\n" && p.leads() && read(began) != "" })
	if got := read(began); got != "leader 1 word\n" {
		t.Errorf("--on-start got %q", got)
	}
	// What is old by the time that it could be sent is not sent.
	eventually(t, "the webhook was told", func() bool { return strings.Contains(told(), `"role":"leader","token":1`) })
	p.stop()
	eventually(t, "the Lease is released", func() bool {
		released := free(s)
		if released && !exists(ended) {
			t.Fatal("the Lease was released while --on-stop ran")
		}
		return released
	})
	<-p.ended
	if read(role) != "follower\n" {
		t.Errorf("at the end the file says %q", read(role))
	}
	if entries, _ := filepath.Glob(filepath.Join(dir, ".role-*")); len(entries) > 0 {
		t.Errorf("left behind: %v", entries)
	}
	if got := told(); !strings.Contains(got, `"role":"follower"`) {
		t.Errorf("the webhook got %s", got)
	}
}

// TestHookHangs: a hook that does not end is killed before others may take over.
func TestHookHangs(t *testing.T) {
	s := leadertest.NewServer()
	const ttl = 10 * time.Second
	p := launch(t, s, "--ttl="+ttl.String(), "--renew-interval=1s", "--on-stop=sleep 60")
	eventually(t, "it leads", p.leads)
	others := s.Lease("ns", "example").Spec.RenewTime.Add(ttl)
	p.end()
	// It is over some seconds before that: TestEndBeforeOthers has the exact rule.
	if late := time.Since(others); late > 0 {
		t.Errorf("it ended %s after others may lead", late)
	}
}

// TestHealth: one success lets a pod contend, and failures in a row make it resign.
func TestHealth(t *testing.T) {
	var well atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !well.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer server.Close()
	p := launch(t, leadertest.NewServer(), "--health-url="+server.URL, "--health-failures=2")
	time.Sleep(500 * time.Millisecond)
	if p.leads() {
		t.Error("a pod that is not well leads")
	}
	well.Store(true)
	eventually(t, "it leads", p.leads)
	well.Store(false)
	eventually(t, "it resigns", func() bool { return !p.leads() })
}

// TestExec runs the command for a term, ends it in time, and passes its exit code on.
func TestExec(t *testing.T) {
	s := leadertest.NewServer()
	p := launch(t, s, "--", "sh", "-c", "exit 42")
	<-p.ended
	if p.code != 42 || *s.Lease("ns", "example").Spec.HolderIdentity != "" {
		t.Errorf("the command ended with 42, and this one with %d, %v", p.code, p.err)
	}
	// One that does not end when it is asked to, and its children.
	pids := filepath.Join(t.TempDir(), "pids")
	const ttl = 4 * time.Second
	stubborn := launch(t, leadertest.NewServer(), "--ttl="+ttl.String(), "--", "sh", "-c", `trap "" TERM; sleep 60 & echo $$ $! > `+pids+`; wait; sleep 60`)
	running := func() (n int) {
		text, _ := os.ReadFile(pids)
		for pid := range strings.FieldsSeq(string(text)) {
			if stat, err := os.ReadFile("/proc/" + pid + "/stat"); err == nil && !strings.Contains(string(stat), ") Z ") {
				n++
			}
		}
		return n
	}
	eventually(t, "the command runs", func() bool { return running() == 2 })
	client := stubborn.leases
	cut := time.Now()
	client.Fault(func(leadertest.Call) leadertest.Fault { return leadertest.Fault{Lose: leadertest.Request} })
	eventually(t, "the command is gone", func() bool { return running() == 0 })
	// A machine that stands still kills late. When it is due TestEndBeforeOthers says.
	if took := time.Since(cut); took > ttl+4*time.Second {
		t.Errorf("the command was there for %s after the last renewal, and the lease lasts %s", took, ttl)
	}
	// It leads again, and the command runs again.
	client.Fault(nil)
	eventually(t, "the command runs again", func() bool { return running() == 2 })
	stubborn.end()
	eventually(t, "nothing runs", func() bool { return running() == 0 })
	if stubborn.code != 137 {
		t.Errorf("at the end the exit code is %d", stubborn.code)
	}
}

// TestExecDrains: a command that is told to end leads on while it does, and the Lease is
// released when it has ended.
func TestExecDrains(t *testing.T) {
	s := leadertest.NewServer()
	dir := t.TempDir()
	up, enough, done := filepath.Join(dir, "up"), filepath.Join(dir, "enough"), filepath.Join(dir, "done")
	p := launch(t, s, "--ttl=10s", "--renew-interval=300ms", "--drain=1m", "--", "sh", "-c",
		`trap "while [ ! -e `+enough+` ]; do sleep 0.1; done; touch `+done+`; exit 3" TERM; touch `+up+`; while :; do sleep 0.1; done`)
	eventually(t, "the command runs", func() bool { return exists(up) })
	p.stop()
	stopped := time.Now()
	working := func() {
		t.Helper()
		if (free(s) || p.hasEnded()) && !exists(done) {
			t.Fatalf("the Lease was released, or the command ended, while it worked (free: %t)", free(s))
		}
	}
	// That is longer than the patience with a command whose term has ended.
	eventually(t, "the Lease is renewed for seconds after it was told", func() bool {
		working()
		return s.Lease("ns", "example").Spec.RenewTime.After(stopped.Add(4 * time.Second))
	})
	if err := os.WriteFile(enough, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it ends with the command", func() bool {
		working()
		return p.hasEnded()
	})
	if p.code != 3 || !free(s) {
		t.Errorf("ended with %d", p.code)
	}
}

// tape keeps what is written, for those who look meanwhile.
type tape struct {
	mu   sync.Mutex
	text strings.Builder
}

func (w *tape) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

func (w *tape) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// TestAsk puts every question to one that runs.
func TestAsk(t *testing.T) {
	s := leadertest.NewServer()
	p := launch(t, s)
	ask := func(ctx context.Context, args ...string) (int, string) {
		var stdout, stderr bytes.Buffer
		code := Ask(ctx, args[0], append(args[1:], "--http="+p.socket), environ(), &stdout, &stderr)
		return code, stdout.String() + stderr.String()
	}
	if code, out := ask(t.Context(), "wait", "--timeout=10s"); code != 0 || out != "pod-a\n" {
		t.Errorf("wait: %d, %s", code, out)
	}
	var state leaderhttp.State
	code, out := ask(t.Context(), "status")
	if err := json.Unmarshal([]byte(out), &state); err != nil || code != 0 || !state.IsLeader {
		t.Errorf("status: %d, %s", code, out)
	}
	watching, cancel := context.WithCancel(t.Context())
	defer cancel()
	var told tape
	watched := make(chan int, 1)
	go func() { watched <- Ask(watching, "watch", []string{"--http=" + p.socket}, environ(), &told, &told) }()
	eventually(t, "the watch says that this pod leads", func() bool { return strings.Contains(told.String(), `"isLeader":true`) })
	if code, out := ask(t.Context(), "resign", "--cooldown=1m"); code != 0 || out != "this pod has given up the leadership, and the Lease is released: it does not contend for 1m0s\n" {
		t.Errorf("resign: %d, %s", code, out)
	}
	eventually(t, "the watch says that nobody leads", func() bool { return strings.Contains(told.String(), `"name":""`) })
	cancel()
	if code, out := <-watched, told.String(); code != 0 || strings.Count(out, "\n") < 2 {
		t.Errorf("watch: %d, %s", code, out)
	}
	if code, out := ask(t.Context(), "wait", "--timeout=100ms"); code != 1 || !strings.Contains(out, "in vain") {
		t.Errorf("wait without a leader: %d, %s", code, out)
	}
	if code, out := ask(t.Context(), "resign", "--cooldown=2m"); code != 0 || out != "this pod does not lead: it does not contend for 2m0s\n" {
		t.Errorf("resign of one that does not lead: %d, %s", code, out)
	}
	for _, wrong := range [][]string{{"wait", "--for=me"}, {"status", "word"}, {"status", "--unknown"}, {"resign", "--cooldown=x"}} {
		if code, _ := ask(t.Context(), wrong...); code != ExitUsage {
			t.Errorf("%s: %d", wrong, code)
		}
	}
	if code, out := ask(t.Context(), "status", "--election=example,other"); code != 0 || !strings.Contains(out, `"election":"example"`) {
		t.Errorf("several elections: %d, %s", code, out)
	}
	if code, out := ask(t.Context(), "status", "--election=other"); code != 1 || !strings.Contains(out, "no such election") {
		t.Errorf("another election: %d, %s", code, out)
	}
}

// TestHelp: every command says what it is for, and how it is used.
func TestHelp(t *testing.T) {
	for _, command := range []string{"wait", "status", "resign", "watch"} {
		var stdout, stderr bytes.Buffer
		code := Ask(t.Context(), command, []string{"--help"}, environ(), &stdout, &stderr)
		if code != 0 || !strings.Contains(stdout.String(), "leader-elector "+command+" [flags]") || !strings.Contains(stdout.String(), "-http") || purposes[command] == "" {
			t.Errorf("%s --help: %d, %s%s", command, code, &stdout, &stderr)
		}
		if !strings.Contains(usage, "leader-elector "+command+" [flags]") {
			t.Errorf("the usage does not name %s", command)
		}
	}
}

// TestDrain: at the end nothing is claimed at once, and the Lease is kept for a while.
func TestDrain(t *testing.T) {
	s := leadertest.NewServer()
	// Longer than a machine stands still, so that one sees what is answered meanwhile.
	const drain = 5 * time.Second
	p := launch(t, s, "--drain="+drain.String())
	eventually(t, "it leads", p.leads)
	released := make(chan time.Time, 1)
	p.leases.Fault(func(c leadertest.Call) leadertest.Fault {
		if c.Lease != nil && *c.Lease.Spec.HolderIdentity == "" {
			select {
			case released <- time.Now():
			default:
			}
		}
		return leadertest.Fault{}
	})
	stopped := time.Now()
	p.stop()
	eventually(t, "it claims nothing", func() bool { return p.get("/") == `{"name":""}` })
	if len(released) > 0 {
		t.Error("it claims the Lease until that is released")
	}
	<-p.ended
	if !free(s) || len(released) == 0 {
		t.Fatal("the Lease is not released")
	}
	if kept := (<-released).Sub(stopped); kept < drain {
		t.Errorf("the Lease is released after %s, before the drain is over", kept)
	}
}

var _ leader.Leases = (*metered)(nil)
