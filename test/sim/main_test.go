package sim

import (
	"fmt"
	"os"
	"runtime/debug"
	"testing"
	"time"
)

// TestMain collects garbage less often, for a run leaves much of it and keeps
// little, and says how much was run.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	began := time.Now()
	code := m.Run()
	fmt.Printf("sim: %d workflows, %d disturbed runs, %v\n", len(workflows()), disturbed.Load(), time.Since(began).Round(time.Second))
	os.Exit(code)
}
