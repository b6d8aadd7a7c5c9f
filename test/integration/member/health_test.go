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

// unreadyAfter asks the guard as the kubelet does, until the pod would no longer be
// ready, and returns how long that took.
func (n *node) unreadyAfter() time.Duration {
	n.c.t.Helper()
	begin := time.Now()
	ticker := time.NewTicker(probePeriod)
	defer ticker.Stop()
	for failures := 0; failures < probeFailures; {
		<-ticker.C
		if time.Since(begin) > patience {
			n.c.t.Fatalf("%s is still ready after %v", n.name, patience)
		}
		if code, _ := get(n.health, "/readyz"); code == http.StatusOK {
			failures = 0
		} else {
			failures++
		}
	}
	return time.Since(begin)
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
		took := m0.unreadyAfter()
		t.Logf("not ready %v after etcd was stopped", took.Round(time.Millisecond))
		if took > 5*time.Second {
			t.Errorf("not ready after %v, want within 5 s", took)
		}
		begin := time.Now()
		if code, body := get(m0.health, "/livez"); code != http.StatusOK || body != "stalled" || time.Since(begin) > 5*time.Second {
			t.Errorf("/livez %d %s after %v, want 200 stalled within the probe's 5 s", code, body, time.Since(begin))
		}
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
		took := m0.unreadyAfter()
		t.Logf("not ready %v after the quorum was lost", took.Round(time.Millisecond))
		if took > 5*time.Second {
			t.Errorf("not ready after %v, want within 5 s", took)
		}
		if code, body := get(m0.health, "/livez"); code != http.StatusOK {
			t.Errorf("/livez %d %s, want 200: a restart brings no quorum back", code, body)
		}
	})
}
