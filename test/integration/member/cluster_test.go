package member

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/quorate/quorate/internal/member"
	"github.com/quorate/quorate/test/freeport"
	"github.com/quorate/quorate/test/integration/etcdbinary"
)

// mode is with or without the guard.
type mode bool

const (
	bare    mode = false
	guarded mode = true
)

// cluster is a set of members of one etcd version on loopback.
type cluster struct {
	t       *testing.T
	version string
	mode    mode
	members []*node
}

// node is one member: its ports, its volume, and what its pod would give it.
type node struct {
	c       *cluster
	name    string
	client  string // host:port
	peer    string
	metrics string
	health  string // the guard's

	root    string // of everything below
	process *process
	etcd    *clientv3.Client

	// orders are the annotations of the pod.
	orders map[string]string
	// flags of its etcd beyond those of all.
	flags []string
}

func newCluster(t *testing.T, version string, m mode, size int) *cluster {
	t.Helper()
	c := &cluster{t: t, version: version, mode: m}
	for range size {
		c.grow()
	}
	return c
}

// grow makes a member that is not started and knows nothing yet.
func (c *cluster) grow() *node {
	c.t.Helper()
	address := func() string { return freeport.Address(c.t) }
	n := &node{
		c: c, name: fmt.Sprintf("m%d", len(c.members)), root: c.t.TempDir(),
		client: address(), peer: address(), metrics: address(), health: address(),
	}
	n.freshPod()
	n.freshVolume()
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{"http://" + n.client}, DialTimeout: patience, Logger: zap.NewNop(),
	})
	must(c.t, err)
	n.etcd = client
	c.t.Cleanup(func() { _ = client.Close() })
	c.members = append(c.members, n)
	return n
}

func (n *node) volume() string     { return filepath.Join(n.root, "volume") }
func (n *node) data() string       { return filepath.Join(n.volume(), "data") }
func (n *node) pod() string        { return filepath.Join(n.root, "pod") }
func (n *node) logFile() string    { return filepath.Join(n.root, "log") }
func (n *node) message() string    { return readString(filepath.Join(n.pod(), "termination-log")) }
func (n *node) peerURL() string    { return "http://" + n.peer }
func (n *node) memberList() string { return n.name + "=" + n.peerURL() }

func readString(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(content)
}

// freshVolume empties the volume, and freshPod replaces the pod.
func (n *node) freshVolume() {
	n.c.t.Helper()
	must(n.c.t, errors.Join(os.RemoveAll(n.volume()), os.MkdirAll(n.volume(), 0o755)))
}

func (n *node) freshPod() {
	n.c.t.Helper()
	must(n.c.t, errors.Join(os.RemoveAll(n.pod()), os.MkdirAll(n.pod(), 0o755)))
}

func (c *cluster) initialCluster(members ...*node) string {
	var list []string
	for _, n := range members {
		list = append(list, n.memberList())
	}
	return strings.Join(list, ",")
}

// order sets the annotations, as the operator and the kubelet do.
func (n *node) order(initialCluster, state string, more ...string) {
	n.c.t.Helper()
	n.orders = map[string]string{
		member.AnnotationInitialCluster:      initialCluster,
		member.AnnotationInitialClusterState: state,
	}
	for i := 0; i < len(more); i += 2 {
		n.orders[more[i]] = more[i+1]
	}
	var file strings.Builder
	for key, value := range n.orders {
		fmt.Fprintf(&file, "%s=%q\n", key, value)
	}
	path := filepath.Join(n.pod(), "annotations")
	must(n.c.t, os.WriteFile(path+".new", []byte(file.String()), 0o600))
	must(n.c.t, os.Rename(path+".new", path))
}

// start runs etcd as ordered, with the guard or without it.
func (n *node) start() {
	n.c.t.Helper()
	etcd := []string{
		etcdbinary.Path(n.c.version), "--name=" + n.name,
		"--listen-client-urls=http://" + n.client, "--advertise-client-urls=http://" + n.client,
		"--listen-peer-urls=" + n.peerURL(), "--initial-advertise-peer-urls=" + n.peerURL(),
		"--listen-metrics-urls=http://" + n.metrics, "--initial-cluster-token=" + n.c.t.Name(),
		"--heartbeat-interval=50", "--election-timeout=500",
		// The five seconds that it makes a membership change wait are not what
		// these tests are about.
		"--strict-reconfig-check=false",
	}
	etcd = append(etcd, n.flags...)
	if n.c.mode == bare {
		etcd = append(etcd, "--data-dir="+n.data(),
			"--initial-cluster="+n.orders[member.AnnotationInitialCluster],
			"--initial-cluster-state="+n.orders[member.AnnotationInitialClusterState])
		n.process = startProcess(n.c.t, n.logFile(), etcd...)
		return
	}
	n.process = startProcess(n.c.t, n.logFile(), append([]string{
		guardBinary, "run", "--volume=" + n.volume(), "--data-dir=" + n.data(), "--boot-dir=" + n.pod() + "/boot",
		"--annotations=" + n.pod() + "/annotations", "--termination-log=" + n.pod() + "/termination-log",
		"--cluster-uid=" + n.c.t.Name(), "--incarnation=1", "--member=" + n.name, "--volume-uid=volume-of-" + n.name,
		"--health-listen=" + n.health, "--etcd-health=http://" + n.metrics, "--etcd-clients=http://" + n.client, "--peer-host=127.0.0.1", "--",
	}, etcd...)...)
}

// kill ends the member as a power cut would.
func (n *node) kill() {
	n.c.t.Helper()
	n.process.kill()
	if n.c.mode == guarded {
		// etcd has the lock until it, too, is gone.
		eventually(n.c.t, "etcd to follow its guard", func() bool { return !n.locked() })
	}
}

func (n *node) locked() bool {
	file, err := os.Open(filepath.Join(n.volume(), member.LockFile))
	if err != nil {
		return false
	}
	defer file.Close()
	return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil
}

// get returns the status code of an HTTP address, 0 if nobody answers.
func get(address, path string) (code int, body string) {
	client := http.Client{Timeout: 10 * time.Second}
	response, err := client.Get("http://" + address + path)
	if err != nil {
		return 0, ""
	}
	defer response.Body.Close()
	content, _ := io.ReadAll(response.Body)
	return response.StatusCode, strings.TrimSpace(string(content))
}

// awaitReady waits for etcd's own word and, with a guard, for the guard's.
func (n *node) awaitReady() {
	n.c.t.Helper()
	address := n.metrics
	if n.c.mode == guarded {
		address = n.health
	}
	eventually(n.c.t, n.name+" to be ready", func() bool {
		n.restartIfEnded()
		code, _ := get(address, "/readyz")
		return code == http.StatusOK
	})
}

// found starts the members as founders, waits until each has applied what a cluster
// agrees on at first (its version, above all), and tells their pods what the
// operator tells them then.
func (c *cluster) found(members ...*node) {
	c.t.Helper()
	for _, n := range members {
		n.order(c.initialCluster(members...), member.ClusterStateNew, member.AnnotationMayBeEmpty, "true")
		n.start()
	}
	for _, n := range members {
		n.awaitReady()
	}
	eventually(c.t, "the cluster's version", func() bool {
		_, body := get(members[0].metrics, "/metrics")
		return strings.Contains(body, "\netcd_cluster_version{")
	})
	members[0].put("settled/", 3)
	for _, n := range members {
		eventually(c.t, n.name+" to have applied it", func() bool { return n.local("settled/") == 3 })
		eventually(c.t, n.name+" to be marked", func() bool { return c.mode == bare || n.marked() })
	}
	c.latch(members...)
}

// marked reports whether the guard has recorded that the member has booted. It does
// so some milliseconds after etcd has made its log.
func (n *node) marked() bool {
	return strings.Contains(readString(filepath.Join(n.volume(), member.MarkerFile)), `"booted":true`) &&
		readString(filepath.Join(n.pod(), "boot", member.BootMarkFile)) != ""
}

// latch is the operator's order once members are known to have started.
func (c *cluster) latch(members ...*node) {
	c.t.Helper()
	for _, n := range members {
		n.order(c.initialCluster(members...), member.ClusterStateExisting)
	}
}

// lead makes n the leader.
func (c *cluster) lead(n *node) {
	c.t.Helper()
	eventually(c.t, n.name+" to lead", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		status, err := n.etcd.Status(ctx, "http://"+n.client)
		if err != nil {
			return false
		}
		for _, other := range c.members {
			s, err := other.etcd.Status(ctx, "http://"+other.client)
			if err == nil && s.Header.MemberId == s.Leader && s.Leader != status.Header.MemberId {
				_, _ = other.etcd.MoveLeader(ctx, status.Header.MemberId)
			}
		}
		return status.Leader == status.Header.MemberId
	})
}

// put writes count keys below prefix and returns when all are acknowledged.
func (n *node) put(prefix string, count int) {
	n.c.t.Helper()
	for i := range count {
		eventually(n.c.t, "an acknowledged write through "+n.name, func() bool { return n.tryPut(fmt.Sprintf("%s%d", prefix, i)) == nil })
	}
}

func (n *node) tryPut(key string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := n.etcd.Put(ctx, key, "acknowledged")
	if err != nil {
		return fmt.Errorf("putting %s through %s: %w", key, n.name, err)
	}
	return nil
}

// count returns how many keys a linearizable read finds below prefix.
func (n *node) count(prefix string) int64 {
	n.c.t.Helper()
	var count int64
	eventually(n.c.t, "a linearizable read through "+n.name, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		response, err := n.etcd.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err == nil {
			count = response.Count
		}
		return err == nil
	})
	return count
}

// awaitBooted waits until etcd runs on its own, with or without a quorum: before
// it has one, it serves no client.
func (n *node) awaitBooted() {
	n.c.t.Helper()
	eventually(n.c.t, n.name+" to run", func() bool {
		n.restartIfEnded()
		code, _ := get(n.metrics, "/livez")
		return code != 0
	})
}

// restartIfEnded does without the guard what the kubelet does: it restarts a
// container that has ended. A guard is expected not to need it.
func (n *node) restartIfEnded() {
	n.c.t.Helper()
	if !n.process.ended() {
		return
	}
	if n.c.mode == guarded {
		n.c.t.Fatalf("%s ended; its log:\n%s", n.name, tail(n.logFile()))
	}
	time.Sleep(100 * time.Millisecond)
	n.start()
}

// local returns what n itself holds below prefix, without asking the others.
func (n *node) local(prefix string) int64 {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	response, err := n.etcd.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly(), clientv3.WithSerializable())
	if err != nil {
		return -1
	}
	return response.Count
}

// wantBlocked fails unless a write through n is refused for want of a quorum.
func (n *node) wantBlocked() {
	n.c.t.Helper()
	n.awaitBooted()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if _, err := n.etcd.Put(ctx, "blocked", "x"); err == nil {
		n.c.t.Errorf("%s acknowledged a write without a quorum that has the data", n.name)
	}
}

// wantRefused starts n and fails unless its guard ends with code and says reason,
// without etcd.
func (n *node) wantRefused(code int, reason member.Reason) {
	n.c.t.Helper()
	must(n.c.t, os.RemoveAll(n.logFile()))
	n.start()
	if got := n.process.exitCode(n.c.t); got != code {
		n.c.t.Errorf("%s: exit code %d, want %d; its log:\n%s", n.name, got, code, tail(n.logFile()))
	}
	if message := n.message(); !strings.HasPrefix(message, string(reason)+": ") {
		n.c.t.Errorf("%s: termination message %q, want %s", n.name, message, reason)
	}
	if strings.Contains(readString(n.logFile()), "Started etcd") {
		n.c.t.Errorf("%s: etcd was started", n.name)
	}
}

// eachVersion runs test for every version, side by side.
func eachVersion(t *testing.T, test func(t *testing.T, version string)) {
	t.Helper()
	for _, version := range versions {
		t.Run("etcd "+version, func(t *testing.T) {
			t.Parallel()
			test(t, version)
		})
	}
}
