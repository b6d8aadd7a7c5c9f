package elector

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/leader"
	"github.com/quorate/quorate/leader/leaderhttp"
	"github.com/quorate/quorate/leader/leadertest"
)

// TestDiagnosis goes through what the checks may say, one every two seconds.
func TestDiagnosis(t *testing.T) {
	sick := errors.New("sick")
	type check struct {
		err  error
		rule rule
		want standing
	}
	repeat := func(c check, n int) (out []check) {
		for range n {
			out = append(out, c)
		}
		return out
	}
	join := func(parts ...[]check) (out []check) {
		for _, p := range parts {
			out = append(out, p...)
		}
		return out
	}
	for name, c := range map[string]struct {
		grace  time.Duration
		checks []check
	}{
		"one success makes it well, three failures in a row unwell": {0, join(
			repeat(check{sick, byNobody, unwell}, 5), repeat(check{nil, byNobody, well}, 1),
			repeat(check{sick, byThis, well}, 2), repeat(check{nil, byThis, well}, 1),
			repeat(check{sick, byThis, well}, 2), repeat(check{sick, byThis, unwell}, 1))},
		"without a grace it never contends": {0, repeat(check{sick, byNobody, unwell}, 1000)},
		"nobody has led for the grace": {10 * time.Second, join(
			repeat(check{sick, byNobody, unwell}, 5), repeat(check{sick, byNobody, tolerated}, 1),
			repeat(check{sick, byThis, tolerated}, 20), repeat(check{nil, byThis, well}, 1))},
		"somebody leads": {10 * time.Second, join(
			repeat(check{sick, byNobody, unwell}, 3), repeat(check{sick, byOthers, unwell}, 20),
			repeat(check{sick, byNobody, unwell}, 5), repeat(check{sick, byNobody, tolerated}, 3),
			repeat(check{sick, byOthers, unwell}, 1))},
		"without the API server nobody can be known to lead": {10 * time.Second, join(
			repeat(check{sick, byNobody, unwell}, 3), repeat(check{sick, byUnknown, unwell}, 60),
			repeat(check{sick, byNobody, unwell}, 5), repeat(check{sick, byNobody, tolerated}, 1),
			repeat(check{sick, byUnknown, tolerated}, 10))},
		"its own resignation begins the grace": {10 * time.Second, join(
			repeat(check{nil, byThis, well}, 1), repeat(check{sick, byThis, well}, 2), repeat(check{sick, byThis, unwell}, 1),
			repeat(check{sick, byNobody, unwell}, 5), repeat(check{sick, byNobody, tolerated}, 1))},
	} {
		h, d, now := &health{failures: 3, grace: c.grace}, diagnosis{}, time.Now()
		for i, check := range c.checks {
			if d = d.after(check.err, check.rule, now, h); d.standing != check.want {
				t.Errorf("%s: after check %d it is %d, want %d", name, i, d.standing, check.want)
				break
			}
			now = now.Add(checkEvery)
		}
	}
}

// TestHealthGrace: a pod that was never well leads when nobody else does.
func TestHealthGrace(t *testing.T) {
	p := launch(t, leadertest.NewServer(), "--health-file="+filepath.Join(t.TempDir(), "none"), "--health-grace=3s")
	began := time.Now()
	eventually(t, "it leads all the same", p.leads)
	if took := time.Since(began); took < 3*time.Second {
		t.Errorf("it leads after %s", took)
	}
}

// TestRule: nobody is known to lead as long as the API server answers.
func TestRule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := leadertest.NewServer().Client()
		e, err := leader.New(leader.Config{Election: "example", Identity: "pod-a", Leases: client, Logger: quiet, Gates: []string{healthGate}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- e.Run(ctx) }()
		is := func(want rule) {
			t.Helper()
			time.Sleep(30 * time.Second)
			if got := ruleOf([]*leader.Elector{e}); got != want {
				t.Errorf("it is %d, want %d", got, want)
			}
		}
		is(byNobody)
		client.Fault(func(leadertest.Call) leadertest.Fault { return leadertest.Fault{Refuse: errors.New("no")} })
		is(byUnknown)
		client.Fault(nil)
		is(byNobody)
		if err := e.Gate(ctx, healthGate, leader.Eligible); err != nil {
			t.Fatal(err)
		}
		is(byThis)
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestTwoGates: a pod contends while both its health check and its application say so,
// whoever of them has spoken last.
func TestTwoGates(t *testing.T) {
	file := filepath.Join(t.TempDir(), "well")
	p := launch(t, leadertest.NewServer(), "--health-file="+file)
	eventually(t, "it takes the application's word", func() bool { return p.client.Become(t.Context(), leaderhttp.Eligible) == nil })
	time.Sleep(500 * time.Millisecond)
	if p.leads() {
		t.Error("it leads, and is not well")
	}
	if err := p.client.Become(t.Context(), leaderhttp.Ineligible); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(checkEvery + 500*time.Millisecond)
	if p.leads() {
		t.Error("it leads, and its application has not allowed it")
	}
	if err := p.client.Become(t.Context(), leaderhttp.Eligible); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it leads", p.leads)
}
