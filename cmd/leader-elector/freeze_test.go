//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/quorate/quorate/leader/leadertest"
)

// leases over HTTP, as an API server has them.
func leases(c *leadertest.Client) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in coordinationv1.Lease
		_ = json.NewDecoder(r.Body).Decode(&in)
		w.Header().Set("Content-Type", "application/json")
		var out *coordinationv1.Lease
		var err error
		switch {
		case r.URL.Query().Get("watch") != "":
			events, watchErr := c.Watch(r.Context(), "default", "e")
			if watchErr != nil {
				return
			}
			for e := range events {
				e.Lease.APIVersion, e.Lease.Kind = "coordination.k8s.io/v1", "Lease"
				_ = json.NewEncoder(w).Encode(map[string]any{"type": "MODIFIED", "object": e.Lease})
				w.(http.Flusher).Flush()
			}
			return
		case r.Method == http.MethodGet:
			out, err = c.Get(r.Context(), "default", "e")
		case r.Method == http.MethodPost:
			out, err = c.Create(r.Context(), &in)
		default:
			out, err = c.Update(r.Context(), &in)
		}
		if status := apierrors.APIStatus(nil); errors.As(err, &status) {
			w.WriteHeader(int(status.Status().Code))
			_ = json.NewEncoder(w).Encode(status.Status())
			return
		}
		out.APIVersion, out.Kind = "coordination.k8s.io/v1", "Lease"
		_ = json.NewEncoder(w).Encode(out)
	}
}

// TestExecFrozen: a command whose leader-elector was frozen beyond the lease is killed as
// soon as that one goes on, without the patience that others do not have.
func TestExecFrozen(t *testing.T) {
	if testing.Short() {
		t.Skip("a lease has to run out")
	}
	api := httptest.NewServer(leases(leadertest.NewServer().Client()))
	defer api.Close()
	dir := t.TempDir()
	program, pidFile, config := filepath.Join(dir, "leader-elector"), filepath.Join(dir, "pid"), filepath.Join(dir, "config")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text := `{"apiVersion":"v1","kind":"Config","current-context":"c","contexts":[{"name":"c","context":{"cluster":"c"}}],"clusters":[{"name":"c","cluster":{"server":"` + api.URL + `"}}]}`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// The patience is long, so that it is told from a machine that is slow.
	c := exec.CommandContext(t.Context(), program, "exec", "--election=e", "--id=a", "--kubeconfig="+config, "--ttl=10s", "--renew-deadline=2s", "--",
		"sh", "-c", `trap "" TERM; echo $$ >`+pidFile+`; while :; do sleep 0.1; done`)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = c.Process.Kill(), c.Wait() }()
	within := func(d time.Duration, what string, is func() bool) time.Duration {
		for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
			if is() {
				return time.Since(began)
			}
			if time.Since(began) > d {
				t.Fatalf("not within %s: %s", d, what)
			}
		}
	}
	pid := 0
	within(20*time.Second, "the command runs", func() bool {
		text, _ := os.ReadFile(pidFile)
		pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		return pid > 0
	})
	if err := c.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(10500 * time.Millisecond)
	if err := c.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	took := within(20*time.Second, "the command is killed", func() bool {
		stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
		return err != nil || strings.Contains(string(stat), ") Z ")
	})
	if took > 6*time.Second {
		t.Errorf("the command was killed after %s, as if it had its patience of 7.9 s", took)
	}
	t.Logf("killed after %s", took)
}
