package member

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// The guard runs beside every member of every cluster, for ever.
const (
	maxBinary   = 8_000_000 // bytes
	maxResident = 10 << 20  // bytes
)

func TestTheBinaryIsSmall(t *testing.T) {
	info, err := os.Stat(guardBinary)
	must(t, err)
	t.Logf("binary: %d bytes", info.Size())
	if info.Size() > maxBinary {
		t.Errorf("binary of %d bytes, want at most %d", info.Size(), maxBinary)
	}
}

func TestTheGuardIsSmallWhileItServesProbes(t *testing.T) {
	c := newCluster(t, versions[len(versions)-1], guarded, 1)
	m0 := c.members[0]
	c.found(m0)
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for range 125 {
				for _, path := range []string{"/livez", "/readyz"} {
					if code, body := get(m0.health, path); code != 200 {
						t.Errorf("%s: %d %s", path, code, body)
					}
				}
			}
		})
	}
	callers.Wait()
	resident, peak := memory(t, m0.process.command.Process.Pid)
	t.Logf("resident after 2000 probes: %d KiB, at most %d KiB", resident>>10, peak>>10)
	if peak > maxResident {
		t.Errorf("resident memory reached %d bytes, want at most %d", peak, maxResident)
	}
}

// memory reads the resident memory of a process and its peak, in bytes.
func memory(t *testing.T, pid int) (resident, peak int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	for line := range strings.Lines(string(status)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "VmRSS:":
			resident, err = strconv.Atoi(fields[1])
		case "VmHWM:":
			peak, err = strconv.Atoi(fields[1])
		}
		must(t, err)
	}
	return resident << 10, peak << 10
}
