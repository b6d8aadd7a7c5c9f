package leaderhttp_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/leader"
	"github.com/quorate/quorate/leader/leaderhttp"
	"github.com/quorate/quorate/leader/leadertest"
)

func answers(t *testing.T, f http.HandlerFunc) *leaderhttp.Client {
	t.Helper()
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return client(t, s.URL)
}

func client(t *testing.T, address string) *leaderhttp.Client {
	t.Helper()
	c, err := leaderhttp.New(address)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func leads(w http.ResponseWriter, ms int) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"name":"pod-a","isLeader":true,"expiresInMs":%d,"version":3,"token":7}`, ms)
}

// TestAnswerRunsOut: it counts from before the request.
func TestAnswerRunsOut(t *testing.T) {
	late := answers(t, func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(300 * time.Millisecond)
		leads(w, 200)
	})
	if late.IsLeader(t.Context()) {
		t.Error("an answer that was on its way for longer than it holds counts")
	}
	long := answers(t, func(w http.ResponseWriter, _ *http.Request) { leads(w, 60000) })
	a, err := long.State(t.Context())
	if err != nil || !a.IsLeader() || a.Leader() != "pod-a" || a.State().Token != 7 {
		t.Fatalf("%+v, %v", a, err)
	}
	// It has run out by then, however slow the machine is.
	short := answers(t, func(w http.ResponseWriter, _ *http.Request) { leads(w, 400) })
	a, err = short.State(t.Context())
	if err != nil || !a.State().IsLeader {
		t.Fatalf("%+v, %v", a, err)
	}
	time.Sleep(450 * time.Millisecond)
	if a.IsLeader() || a.Leader() != "" || a.Remaining() != 0 {
		t.Errorf("after its time: %+v", a)
	}
}

// TestNoAnswer: whatever is no answer means that this pod does not lead.
func TestNoAnswer(t *testing.T) {
	for name, f := range map[string]http.HandlerFunc{
		"an error": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusServiceUnavailable)
			leads(w, 10000)
		},
		"a page":           func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") },
		"no type":          func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"isLeader":true,"expiresInMs":10000}`) },
		"a redirect":       func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/v1/state?x", http.StatusFound) },
		"a broken answer":  func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"leader-elector 0": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"name":"pod-a"}`) },
		"nothing":          func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		began := time.Now()
		if answers(t, f).IsLeader(t.Context()) {
			t.Errorf("%s makes a leader", name)
		}
		// Two seconds is what it has; one that waits for the answer waits for ever.
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s holds the caller up for %s", name, took)
		}
	}
	if client(t, "localhost:1").IsLeader(t.Context()) {
		t.Error("nobody makes a leader")
	}
}

// TestWatch with an elector: changes are told at once, and the end of the sidecar too.
func TestWatch(t *testing.T) {
	s := leadertest.NewServer()
	e, err := leader.New(leader.Config{Election: "example", Identity: "pod-a", Leases: s.Client()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { _ = e.Run(ctx) }()
	sidecar := httptest.NewServer(e.Handler())
	defer sidecar.Close()
	c := client(t, strings.TrimPrefix(sidecar.URL, "http://"))
	var stage atomic.Int32
	deadline := time.AfterFunc(20*time.Second, func() { panic("the watch says nothing") })
	defer deadline.Stop()
	for a := range c.Watch(t.Context()) {
		switch {
		case stage.Load() == 0 && a.IsLeader():
			stage.Store(1)
			if err := c.Resign(t.Context(), time.Second); err != nil {
				t.Error(err)
			}
		case stage.Load() == 1 && !a.IsLeader():
			stage.Store(2)
		case stage.Load() == 2 && a.IsLeader():
			stage.Store(3)
			sidecar.CloseClientConnections()
			_ = sidecar.Listener.Close()
		case stage.Load() == 3 && a == (leaderhttp.Answer{}):
			return
		}
	}
	t.Errorf("the watch ended at stage %d", stage.Load())
}

// TestControl over a unix socket, of one of two elections.
func TestControl(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := leadertest.NewServer()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var electors []*leader.Elector
	for _, name := range []string{"first", "second"} {
		e, err := leader.New(leader.Config{Election: name, Identity: "pod-a", Leases: s.Client()})
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = e.Run(ctx) }()
		electors = append(electors, e)
	}
	server := &http.Server{Handler: leader.Handlers(electors...)}
	go func() { _ = server.Serve(listener) }()
	defer func() { _ = server.Close() }()
	c := client(t, "unix:"+path)
	c.Election = "second"
	for _, e := range electors {
		if _, err := e.Lead(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Become(t.Context(), leaderhttp.Ineligible); err != nil {
		t.Fatal(err)
	}
	if electors[1].IsLeader() || !electors[0].IsLeader() {
		t.Error("the wrong one resigned")
	}
	if err := c.Become(t.Context(), "perhaps"); err == nil || !strings.Contains(err.Error(), "neither true nor false") {
		t.Errorf("Become(perhaps) = %v", err)
	}
}

// TestNew refuses what is no address.
func TestNew(t *testing.T) {
	for _, address := range []string{"", "ftp://host", "http://", "host name:1"} {
		if _, err := leaderhttp.New(address); err == nil {
			t.Errorf("%q is taken for an address", address)
		}
	}
	for _, address := range []string{":4040", "localhost:4040", "http://localhost:4040/", "unix:/run/socket"} {
		if _, err := leaderhttp.New(address); err != nil {
			t.Error(err)
		}
	}
}
