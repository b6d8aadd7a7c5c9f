package leaderhttp

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestClocks: an answer has run out when either clock says so. On a machine that was
// suspended only the wall clock has gone on.
func TestClocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leads := State{Name: "pod-a", IsLeader: true, ExpiresInMs: 7500}
		if a := answer(leads, time.Now()); !a.IsLeader() || a.Remaining() != 7500*time.Millisecond {
			t.Errorf("at once: %+v", a)
		}
		for name, late := range map[string]func(*Answer){
			"suspended for a minute": func(a *Answer) { a.wall = a.wall.Add(-time.Minute) },
			"the wall clock is set":  func(a *Answer) { a.wall = a.wall.Add(time.Hour); time.Sleep(8 * time.Second) },
		} {
			a := answer(leads, time.Now())
			late(&a)
			if a.IsLeader() || a.Leader() != "" || a.Remaining() != 0 {
				t.Errorf("%s: %+v", name, a)
			}
		}
	})
}
