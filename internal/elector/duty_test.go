package elector

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/rest"

	"github.com/quorate/quorate/leader"
	"github.com/quorate/quorate/leader/leadertest"
)

// TestEnding: what has to be over before others lead is over by then, also on a machine
// that was suspended meanwhile, and at once if it is too late already.
func TestEnding(t *testing.T) {
	for name, c := range map[string]struct {
		patience, grace, slept time.Duration
		want                   time.Duration
	}{
		"its patience ends":              {2 * time.Second, time.Minute, 0, 2 * time.Second},
		"others may lead before that":    {2 * time.Second, time.Second, 0, 900 * time.Millisecond},
		"the machine was suspended":      {2 * time.Second, 10 * time.Second, time.Minute, 750 * time.Millisecond},
		"it was frozen for long already": {2 * time.Second, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				ctx, cancel := ending(t.Context(), c.patience, func() time.Duration {
					left := c.grace - time.Since(began)
					if time.Since(began) > 500*time.Millisecond {
						left -= c.slept
					}
					return max(0, left)
				})
				defer cancel()
				<-ctx.Done()
				if took := time.Since(began); took != c.want {
					t.Errorf("it ends after %s, want %s", took, c.want)
				}
			})
		})
	}
}

// performing has a candidate perform duties until the test ends.
func performing(t *testing.T, duties ...duty) (*leader.Elector, *leadertest.Client, func()) {
	t.Helper()
	client := leadertest.NewServer().Client()
	e, err := leader.New(leader.Config{Election: "example", Namespace: "ns", Identity: "pod-a", Leases: client, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { _ = e.Run(ctx) })
	all.Go(func() { perform(ctx, e, duties, quiet) })
	return e, client, func() {
		stop()
		all.Wait()
	}
}

var errNo = errors.New("no")

// TestEndComesLate: an end that was not to be had in time is tried until it is, and no
// more once the next term has begun.
func TestEndComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said []string
		var refuses bool
		say := func(what string) func(context.Context, told) error {
			return func(context.Context, told) error {
				if what == "end" && refuses {
					return errNo
				}
				said = append(said, what)
				return nil
			}
		}
		hook := duty{name: "hook", timely: true, end: func(context.Context, told) error {
			if refuses {
				return errNo
			}
			said = append(said, "hook")
			return nil
		}}
		e, client, stop := performing(t, duty{name: "label", begin: say("begin"), end: say("end")}, hook)
		time.Sleep(time.Second)
		client.Fault(func(leadertest.Call) leadertest.Fault { return leadertest.Fault{Lose: leadertest.Request} })
		refuses = true
		time.Sleep(time.Minute)
		if got := strings.Join(said, " "); got != "begin" || e.IsLeader() {
			t.Fatalf("cut off: %s", got)
		}
		refuses = false
		time.Sleep(seldom)
		if got := strings.Join(said, " "); got != "begin end" {
			t.Errorf("when it is possible again: %s", got)
		}
		client.Fault(nil)
		time.Sleep(time.Minute)
		refuses = true
		client.Fault(func(leadertest.Call) leadertest.Fault { return leadertest.Fault{Lose: leadertest.Request} })
		time.Sleep(15 * time.Second)
		client.Fault(nil)
		for !e.IsLeader() {
			time.Sleep(time.Second)
		}
		refuses = false
		time.Sleep(time.Minute)
		if got := strings.Join(said, ", "); got != "begin, end, begin, begin" {
			t.Errorf("in the next term: %s", got)
		}
		stop()
	})
}

// TestEndAtTheEnd: the process does not wait for long for what cannot be had.
func TestEndAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		no := func(context.Context, told) error { return errNo }
		_, _, stop := performing(t, duty{name: "label", begin: no, end: no, settle: no})
		time.Sleep(time.Minute)
		began := time.Now()
		stop()
		if took := time.Since(began); took > 2400*time.Millisecond+oneTry {
			t.Errorf("it ends after %s", took)
		}
	})
}

// TestEndBeforeOthers: what is done at the end of a term has until the margin before others
// may lead, counted from the last renewal.
func TestEndBeforeOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		over := make(chan time.Time, 2)
		e, client, stop := performing(t, duty{name: "hook", timely: true, end: func(ctx context.Context, _ told) error {
			<-ctx.Done()
			over <- time.Now()
			return ctx.Err()
		}})
		time.Sleep(time.Minute)
		renewed := time.Now().Add(e.State().Remaining() - e.Config().RenewDeadline)
		client.Fault(func(leadertest.Call) leadertest.Fault { return leadertest.Fault{Lose: leadertest.Request} })
		time.Sleep(time.Minute)
		if lasted := (<-over).Sub(renewed); lasted != e.Config().LeaseDuration-margin {
			t.Errorf("it is over %s after the last renewal, and others lead after %s", lasted, e.Config().LeaseDuration)
		}
		client.Fault(nil)
		stop()
	})
}

// TestDutyBacksOff: what is refused for good is asked for less and less often.
func TestDutyBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		_, _, stop := performing(t, duty{name: "label", begin: func(context.Context, told) error { tries++; return errNo }})
		time.Sleep(10 * time.Second)
		if tries < 4 || tries > 7 {
			t.Errorf("%d tries in 10 s", tries)
		}
		tries = 0
		time.Sleep(10 * time.Minute)
		if tries > 61 {
			t.Errorf("%d tries in 10 minutes", tries)
		}
		stop()
	})
}

// TestDutyIsKept: what others may undo is begun again while the term lasts.
func TestDutyIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept, once := 0, 0
		_, _, stop := performing(t,
			duty{name: "label", keep: true, begin: func(context.Context, told) error { kept++; return nil }},
			duty{name: "webhook", begin: func(context.Context, told) error { once++; return nil }})
		time.Sleep(10*keepEvery + time.Second)
		stop()
		if kept != 11 || once != 1 {
			t.Errorf("%d times and %d times", kept, once)
		}
	})
}

// TestSettling holds up nothing but its own duty.
func TestSettling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var label, file time.Duration
		began := time.Now()
		_, _, stop := performing(t,
			duty{
				name: "label", settle: func(context.Context, told) error { time.Sleep(oneTry); return errNo },
				begin: func(context.Context, told) error { label = time.Since(began); return nil },
			},
			duty{name: "file", begin: func(context.Context, told) error { file = time.Since(began); return nil }})
		time.Sleep(time.Minute)
		stop()
		if label != oneTry || file != 0 {
			t.Errorf("the label is set after %s, and the file after %s", label, file)
		}
	})
}

// TestLabelOthersInTime: one that leads no more takes nobody's label off.
func TestLabelOthersInTime(t *testing.T) {
	var patched atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Method != http.MethodGet {
			patched.Store(true)
			return
		}
		_, _ = w.Write([]byte(`{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","items":[{"metadata":{"name":"pod-b"}}]}`))
	}))
	defer server.Close()
	l, err := newLabeller(&rest.Config{Host: server.URL}, Pod{Name: "pod-a", Namespace: "ns"}, Label{Key: "role", Leader: "leader"})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.others().begin(t.Context(), told{check: func() error { return leader.ErrLost }}); !errors.Is(err, leader.ErrLost) || patched.Load() {
		t.Errorf("%v, and it has patched: %v", err, patched.Load())
	}
}

// TestHookIsKilled with all that it has started, and its output does not fill the memory.
func TestHookIsKilled(t *testing.T) {
	dir := t.TempDir()
	pid, said, script := filepath.Join(dir, "pid"), filepath.Join(dir, "said"), filepath.Join(dir, "hook")
	text := "#!/bin/sh\nsleep 600 >/dev/null 2>&1 &\necho $! >" + pid + "\nhead -c 1000000 /dev/zero | tr '\\0' x\ntouch " + said + "\nwait\n"
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- hook("--on-stop", script, slog.New(slog.NewTextHandler(&log, nil)))(ctx, told{}) }()
	eventually(t, "the hook has said all", func() bool { return exists(said) })
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if n := log.Len(); n < mostOutput || n > mostOutput+1000 {
		t.Errorf("%d bytes of log", n)
	}
	started, err := os.ReadFile(pid)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "what the hook has started is gone", func() bool {
		stat, err := os.ReadFile(filepath.Join("/proc", strings.TrimSpace(string(started)), "stat"))
		return err != nil || strings.Contains(string(stat), ") Z ")
	})
}
