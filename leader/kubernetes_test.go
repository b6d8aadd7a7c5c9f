package leader_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"github.com/quorate/quorate/leader"
	"github.com/quorate/quorate/test/deadway"
)

const leases = "/apis/coordination.k8s.io/v1/namespaces/ns/leases"

// api serves HTTP/2 over TLS, as API servers do.
func api(t *testing.T, h http.HandlerFunc) (*httptest.Server, leader.Leases) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.Config.ErrorLog = nil
	s.StartTLS()
	t.Cleanup(s.Close)
	l, err := leader.ForConfig(config(s))
	if err != nil {
		t.Fatal(err)
	}
	return s, l
}

func config(s *httptest.Server) *rest.Config {
	return &rest.Config{Host: s.URL, BearerToken: "secret", TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
}

func object(version string) *coordinationv1.Lease {
	return &coordinationv1.Lease{
		TypeMeta:   metav1.TypeMeta{APIVersion: "coordination.k8s.io/v1", Kind: "Lease"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "example", ResourceVersion: version},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: new("pod-a")},
	}
}

func reply(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}

// TestLeaseRequests: each verb asks what it should, with the token, in JSON, over one
// HTTP/2 connection.
func TestLeaseRequests(t *testing.T) {
	var asked []string
	_, l := api(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.Path)
		if r.Header.Get("Authorization") != "Bearer secret" || r.ProtoMajor != 2 {
			t.Errorf("authorization %q over HTTP/%d", r.Header.Get("Authorization"), r.ProtoMajor)
		}
		if r.Method != http.MethodGet {
			var got coordinationv1.Lease
			body, _ := io.ReadAll(r.Body)
			if err := json.Unmarshal(body, &got); err != nil || got.Kind != "Lease" || ptr.Deref(got.Spec.HolderIdentity, "") != "pod-a" {
				t.Errorf("%s sent %s", r.Method, body)
			}
			// Without it the API server would take whatever comes.
			if want := map[string]string{http.MethodPut: "6"}[r.Method]; got.ResourceVersion != want {
				t.Errorf("%s builds on %q, want %q", r.Method, got.ResourceVersion, want)
			}
		}
		reply(w, http.StatusOK, object("7"))
	})
	for _, do := range []func() (*coordinationv1.Lease, error){
		func() (*coordinationv1.Lease, error) { return l.Get(t.Context(), "ns", "example") },
		func() (*coordinationv1.Lease, error) { return l.Create(t.Context(), object("")) },
		func() (*coordinationv1.Lease, error) { return l.Update(t.Context(), object("6")) },
	} {
		if got, err := do(); err != nil || got.ResourceVersion != "7" {
			t.Errorf("got %v, %v", got, err)
		}
	}
	if got, want := fmt.Sprint(asked), fmt.Sprint([]string{"GET " + leases + "/example", "POST " + leases, "PUT " + leases + "/example"}); got != want {
		t.Errorf("asked for %s, want %s", got, want)
	}
}

// TestLeaseErrors: refusals keep their meaning, with or without a Status, and are not
// tried again behind the elector's back.
func TestLeaseErrors(t *testing.T) {
	for _, c := range []struct {
		code   int
		reason metav1.StatusReason
		is     func(error) bool
	}{
		{404, metav1.StatusReasonNotFound, apierrors.IsNotFound},
		{409, metav1.StatusReasonConflict, apierrors.IsConflict},
		{409, metav1.StatusReasonAlreadyExists, apierrors.IsAlreadyExists},
		{403, metav1.StatusReasonForbidden, apierrors.IsForbidden},
		{429, metav1.StatusReasonTooManyRequests, apierrors.IsTooManyRequests},
		{500, metav1.StatusReasonInternalError, apierrors.IsInternalError},
		{404, "", apierrors.IsNotFound},
		{409, "", apierrors.IsConflict},
		{403, "", apierrors.IsForbidden},
	} {
		var requests atomic.Int32
		_, l := api(t, func(w http.ResponseWriter, _ *http.Request) {
			requests.Add(1)
			w.Header().Set("Retry-After", "1")
			if c.reason == "" {
				http.Error(w, "no", c.code)
				return
			}
			reply(w, c.code, &metav1.Status{
				TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
				Status:   metav1.StatusFailure, Reason: c.reason, Code: int32(c.code),
			})
		})
		_, err := l.Update(t.Context(), object("6"))
		if !c.is(err) {
			t.Errorf("%d %s became %v", c.code, c.reason, err)
		}
		if n := requests.Load(); n != 1 {
			t.Errorf("%d %s: asked %d times", c.code, c.reason, n)
		}
		if _, err := l.Watch(t.Context(), "ns", "example"); c.reason != metav1.StatusReasonAlreadyExists && !c.is(err) {
			t.Errorf("watching, %d %s became %v", c.code, c.reason, err)
		}
		if n := requests.Load(); n != 2 {
			t.Errorf("watching, %d %s: asked %d times", c.code, c.reason, n-1)
		}
	}
}

// event writes one event of a watch.
func event(w http.ResponseWriter, kind string, o any) {
	_ = json.NewEncoder(w).Encode(map[string]any{"type": kind, "object": o})
	w.(http.Flusher).Flush()
}

func take(t *testing.T, events <-chan leader.Event) (leader.Event, bool) {
	t.Helper()
	select {
	case e, open := <-events:
		return e, open
	case <-time.After(10 * time.Second):
		t.Fatal("the watch says nothing")
		return leader.Event{}, false
	}
}

// TestLeaseWatch: one Lease is watched, bookmarks are left out, and the watch ends with
// the server's, with an error, with a broken stream and with its context.
func TestLeaseWatch(t *testing.T) {
	ends := map[string]func(http.ResponseWriter, *http.Request){
		"the server ends it": func(http.ResponseWriter, *http.Request) {},
		"410": func(w http.ResponseWriter, r *http.Request) {
			event(w, "ERROR", &metav1.Status{
				TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
				Status:   metav1.StatusFailure, Reason: metav1.StatusReasonExpired, Code: 410,
			})
			<-r.Context().Done()
		},
		"it breaks":  func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"no JSON":    func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"type":"MODIF`) },
		"the caller": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			_, l := api(t, func(w http.ResponseWriter, r *http.Request) {
				q := r.URL.Query()
				seconds, _ := strconv.Atoi(q.Get("timeoutSeconds"))
				if r.URL.Path != leases || q.Get("watch") != "true" || q.Get("fieldSelector") != "metadata.name=example" ||
					q.Get("allowWatchBookmarks") != "true" || seconds < 1800 || seconds > 3600 || q.Has("resourceVersion") || q.Has("sendInitialEvents") {
					t.Errorf("watching asks for %s", r.URL)
				}
				w.Header().Set("Content-Type", "application/json")
				event(w, "ADDED", object("1"))
				event(w, "BOOKMARK", object("2"))
				event(w, "MODIFIED", object("3"))
				event(w, "DELETED", object("4"))
				end(w, r)
			})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			events, err := l.Watch(ctx, "ns", "example")
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{"1", "3", "4"} {
				e, open := take(t, events)
				if !open || e.Lease.ResourceVersion != want || e.Deleted != (want == "4") {
					t.Fatalf("got %+v, want revision %s", e, want)
				}
			}
			if name == "the caller" {
				cancel()
			}
			if e, open := take(t, events); open {
				t.Errorf("after its end the watch says %+v", e)
			}
		})
	}
}

// TestWatchWithoutReader: a watch whose events nobody takes ends with its context.
func TestWatchWithoutReader(t *testing.T) {
	gone := make(chan struct{})
	_, l := api(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		event(w, "ADDED", object("1"))
		<-r.Context().Done()
		close(gone)
	})
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := l.Watch(ctx, "ns", "example"); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Error("the server still serves it")
	}
}

// TestWatchHangs: a server that does not answer does not hold the elector up.
func TestWatchHangs(t *testing.T) {
	_, l := api(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	began := time.Now()
	_, err := l.Watch(t.Context(), "ns", "example")
	if took := time.Since(began); err == nil || took > 8*time.Second || !strings.Contains(err.Error(), "in time") {
		t.Errorf("after %s: %v", took, err)
	}
}

// TestDeadConnection: a connection whose other end is silent is left for a new one
// within seconds.
func TestDeadConnection(t *testing.T) {
	s, _ := api(t, func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, object("7")) })
	address, silence := deadway.Open(t, s.Listener.Addr().String())
	c := config(s)
	c.Host = "https://" + address
	l, err := leader.ForConfig(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Get(t.Context(), "ns", "example"); err != nil {
		t.Fatal(err)
	}
	silence()
	began := time.Now()
	for {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := l.Get(ctx, "ns", "example")
		cancel()
		if err == nil {
			break
		}
		if time.Since(began) > 20*time.Second {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took > 7*time.Second {
		t.Errorf("it took %s to leave a dead connection", took)
	}
}

// TestKubeconfig reads a file, and says which when it cannot.
func TestKubeconfig(t *testing.T) {
	s, _ := api(t, func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, object("7")) })
	path := filepath.Join(t.TempDir(), "config")
	text := `{"apiVersion":"v1","kind":"Config","current-context":"c","contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}],` +
		`"users":[{"name":"u","user":{"token":"t"}}],"clusters":[{"name":"c","cluster":{"insecure-skip-tls-verify":true,"server":"` + s.URL + `"}}]}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, explicit := range []string{path, ""} {
		t.Setenv("KUBECONFIG", path)
		l, err := leader.Kubeconfig(explicit)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Get(t.Context(), "ns", "example"); err != nil {
			t.Error(err)
		}
	}
	if _, err := leader.Kubeconfig(path + ".missing"); err == nil || !strings.Contains(err.Error(), path+".missing") {
		t.Errorf("a missing file: %v", err)
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	if _, err := leader.InCluster(); err == nil {
		t.Error("InCluster works outside of one")
	}
}
