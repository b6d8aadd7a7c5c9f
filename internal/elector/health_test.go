package elector

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

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
