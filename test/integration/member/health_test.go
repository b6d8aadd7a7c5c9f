package member

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The kubelet's readiness probe: a question every second, unready after three
// failures in a row.
const (
	probePeriod   = time.Second
	probeFailures = 3
)

// atMost is what either probe may take in all: the kubelet waits for /livez that long, and a
// pod that cannot serve is taken out of its Service by then.
const atMost = 5 * time.Second

// soonest of three tries: a machine may stand still in one, though not in every one. Before
// each the guard has given up on the question of the one before.
func soonest(try func() time.Duration) time.Duration {
	best := patience
	for i := 0; i < 3 && best > atMost; i++ {
		if i > 0 {
			time.Sleep(2 * atMost)
		}
		best = min(best, try())
	}
	return best
}

// soonUnready asks the guard as the kubelet does, and wants no good answer any more, and so
// many bad ones in time that the pod would no longer be ready.
func (n *node) soonUnready() {
	n.c.t.Helper()
	took := soonest(func() time.Duration {
		begin := time.Now()
		ticker := time.NewTicker(probePeriod)
		defer ticker.Stop()
		for range probeFailures {
			<-ticker.C
			if code, body := get(n.health, "/readyz"); code == http.StatusOK {
				n.c.t.Fatalf("/readyz %d %s after %v", code, body, time.Since(begin))
			}
		}
		return time.Since(begin)
	})
	n.c.t.Logf("not ready after %v", took.Round(time.Millisecond))
	if took > atMost {
		n.c.t.Errorf("not ready after %v, want within %v", took, atMost)
	}
}

// staysAlive wants /livez to say in time that etcd stalls.
func (n *node) staysAlive() {
	n.c.t.Helper()
	took := soonest(func() time.Duration {
		begin := time.Now()
		code, body := get(n.health, "/livez")
		if code == 0 { // of a guard that stood still for longer than its answer may take
			return patience
		}
		if code != http.StatusOK || body != "stalled" {
			n.c.t.Fatalf("/livez %d %s, want 200 stalled", code, body)
		}
		return time.Since(begin)
	})
	if took > atMost {
		n.c.t.Errorf("/livez answers after %v, want within the probe's %v", took, atMost)
	}
}

// etcdProcess is the process ID of the guard's child.
func (n *node) etcdProcess() int {
	n.c.t.Helper()
	guard := n.process.command.Process.Pid
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", guard))
	must(n.c.t, err)
	for _, thread := range threads {
		children := readString(fmt.Sprintf("/proc/%d/task/%s/children", guard, thread.Name()))
		if pid, err := strconv.Atoi(strings.TrimSpace(children)); err == nil {
			return pid
		}
	}
	n.c.t.Fatalf("guard %d has no child", guard)
	return 0
}

func TestAStoppedEtcdIsSoonNotReadyAndNotKilled(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		c := newCluster(t, version, guarded, 1)
		m0 := c.members[0]
		c.found(m0)
		if code, body := get(m0.health, "/livez"); code != http.StatusOK || body != "ok" {
			t.Fatalf("/livez %d %s, want 200 ok", code, body)
		}
		etcd := m0.etcdProcess()
		must(t, syscall.Kill(etcd, syscall.SIGSTOP))
		t.Cleanup(func() { _ = syscall.Kill(etcd, syscall.SIGCONT) })
		m0.soonUnready()
		m0.staysAlive()
		must(t, syscall.Kill(etcd, syscall.SIGCONT))
		m0.awaitReady()
	})
}

func TestALostQuorumIsSoonNotReady(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		c := newCluster(t, version, guarded, 3)
		c.found(c.members...)
		for _, lost := range c.members[1:] {
			lost.kill()
		}
		m0 := c.members[0]
		m0.soonUnready()
		if code, body := get(m0.health, "/livez"); code != http.StatusOK {
			t.Errorf("/livez %d %s, want 200: a restart brings no quorum back", code, body)
		}
	})
}
