// Package v3client_test runs the client, and the cluster that behaves like
// one, against real etcd processes of every version that is supported.
package v3client_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/etcd/v3client"
	"github.com/quorate/quorate/internal/pki"
	"github.com/quorate/quorate/test/integration/etcdbinary"
)

// versions that are supported, oldest first.
var versions = []string{"3.5.35", "3.6.16", "3.7.3"}

const (
	cluster   = "c"
	namespace = "ns"
	group     = "uid"
)

// TestMain lets all clusters run at once: their tests wait for etcd's timers
// most of the time, however few processors there are.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "12"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// process is one member of a real cluster.
type process struct {
	name, dir, binary  string
	host, client, peer string
	args               []string
	cmd                *exec.Cmd
	done               chan struct{}
}

// rig is a real cluster, with TLS or without.
type rig struct {
	version string
	members []*process
	// secrets by name when the cluster has TLS.
	secrets map[string]map[string][]byte
	pool    *v3client.Pool
}

// security of a rig.
type security int

const (
	plaintext security = iota
	mutualTLS
)

// newRig prepares members without starting any. A member's addresses are of
// loopback, and its ports are free now.
func newRig(t *testing.T, version string, size int, s security, extra ...string) *rig {
	t.Helper()
	r := &rig{version: version, pool: v3client.NewPool()}
	t.Cleanup(r.pool.Close)
	for range size {
		r.add(t)
	}
	if s == mutualTLS {
		r.issue(t, time.Now(), pki.AuthorityMayBeCreated)
	}
	for _, m := range r.members {
		m.args = append(r.flags(m, "new", r.members), extra...)
	}
	return r
}

// add prepares one more member.
func (r *rig) add(t *testing.T) *process {
	t.Helper()
	name := fmt.Sprintf("%s-%04d", cluster, len(r.members))
	m := &process{name: name, dir: t.TempDir(), binary: etcdbinary.Find(t, r.version), host: address()}
	m.client, m.peer = m.host+":2379", m.host+":2380"
	r.members = append(r.members, m)
	return m
}

func (r *rig) scheme() string {
	if r.secrets == nil {
		return "http"
	}
	return "https"
}

// peerURL names the member where its certificate does.
func (r *rig) peerURL(m *process) string {
	if r.secrets == nil {
		return "http://" + m.peer
	}
	return "https://" + serverName(m.name) + ":2380"
}

func (r *rig) flags(m *process, state string, founders []*process) []string {
	var list []string
	for _, f := range founders {
		list = append(list, f.name+"="+r.peerURL(f))
	}
	args := []string{
		"--name=" + m.name, "--data-dir=" + filepath.Join(m.dir, "data"),
		"--listen-client-urls=" + r.scheme() + "://" + m.client, "--advertise-client-urls=" + r.scheme() + "://" + m.client,
		"--listen-peer-urls=" + r.scheme() + "://" + m.peer, "--initial-advertise-peer-urls=" + r.peerURL(m),
		"--initial-cluster=" + strings.Join(list, ","), "--initial-cluster-state=" + state,
		"--initial-cluster-token=token", "--log-level=warn", "--unsafe-no-fsync",
	}
	if r.secrets == nil {
		return args
	}
	skip := "--peer-skip-client-san-verification"
	if strings.HasPrefix(r.version, "3.5.") {
		skip = "--experimental-peer-skip-client-san-verification"
	}
	file := func(key string) string { return filepath.Join(m.dir, key) }
	return append(args, skip,
		"--client-cert-auth", "--trusted-ca-file="+file(pki.KeyClientCA), "--cert-file="+file(pki.KeyServerCert), "--key-file="+file(pki.KeyServerKey),
		"--peer-client-cert-auth", "--peer-trusted-ca-file="+file(pki.KeyPeerCA), "--peer-cert-file="+file(pki.KeyPeerCert), "--peer-key-file="+file(pki.KeyPeerKey),
	)
}

// issue does one pass over the certificates and writes the members' files,
// as the kubelet would.
func (r *rig) issue(t *testing.T, now time.Time, policy pki.AuthorityPolicy) pki.Result {
	t.Helper()
	result := pki.Plan(now, r.inputs(policy))
	r.write(t, result)
	return result
}

func (r *rig) inputs(policy pki.AuthorityPolicy) pki.Inputs {
	var names []string
	for _, m := range r.members {
		names = append(names, m.name)
	}
	return pki.Inputs{
		Cluster: cluster, Namespace: namespace, Members: names, LeafDuration: 3 * time.Hour, Authorities: policy, Secrets: r.secrets,
	}
}

// write what is due, and the members' files, as the kubelet would.
func (r *rig) write(t *testing.T, result pki.Result) {
	t.Helper()
	if len(result.Problems) > 0 {
		t.Fatalf("issuing certificates: %v", result.Problems)
	}
	if r.secrets == nil {
		r.secrets = map[string]map[string][]byte{}
	}
	for _, s := range append(result.Create, result.Renew...) {
		r.secrets[s.Name] = s.Data
	}
	for _, m := range r.members {
		for key, value := range r.secrets[pki.MemberSecret(m.name)] {
			if err := os.WriteFile(filepath.Join(m.dir, key), value, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// command is a program; with TLS it gets a hosts file of its own, in which the
// members' names stand.
func (r *rig) command(t *testing.T, program string, args ...string) *exec.Cmd {
	t.Helper()
	if r.secrets == nil {
		return exec.Command(program, args...)
	}
	var lines strings.Builder
	lines.WriteString("127.0.0.1 localhost\n")
	for _, m := range r.members {
		lines.WriteString(m.host + " " + serverName(m.name) + "\n")
	}
	path := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(path, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	script := `mount --make-rprivate / && mount --bind "$0" /etc/hosts && exec "$@"`
	return exec.Command("unshare", append([]string{"--map-root-user", "--mount", "sh", "-c", script, path, program}, args...)...)
}

// start runs the member until the test ends or stop is called.
func (r *rig) start(t *testing.T, m *process) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(m.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	m.cmd = r.command(t, m.binary, m.args...)
	m.cmd.Stdout, m.cmd.Stderr = log, log
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m.done = make(chan struct{})
	cmd, done := m.cmd, m.done
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	t.Cleanup(func() {
		m.stop()
		if t.Failed() {
			if out, err := os.ReadFile(filepath.Join(m.dir, "log")); err == nil {
				t.Logf("log of %s:\n%s", m.name, tail(out, 4000))
			}
		}
	})
}

func (m *process) stop() {
	_ = m.cmd.Process.Signal(syscall.SIGKILL)
	<-m.done
}

func (m *process) exited(within time.Duration) bool {
	select {
	case <-m.done:
		return true
	case <-time.After(within):
		return false
	}
}

func tail(b []byte, n int) []byte {
	if len(b) > n {
		return b[len(b)-n:]
	}
	return b
}

func serverName(member string) string { return member + "." + cluster + "." + namespace + ".svc" }

// hosts counts the addresses given out.
var hosts atomic.Uint32

// address is one of loopback that belongs to this process and one member. A
// port of 127.0.0.1 that was free a moment ago may since be the source port of
// somebody's connection.
func address() string {
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d", 1+pid>>8&0x7f, pid&0xff, hosts.Add(1))
}

func (r *rig) endpoint(m *process) etcd.Endpoint {
	return etcd.Endpoint{Address: m.client, ServerName: serverName(m.name)}
}

// operator's credentials; none for plaintext.
func (r *rig) operator(t *testing.T) etcd.Credentials {
	t.Helper()
	if r.secrets == nil {
		return etcd.Credentials{}
	}
	as, err := pki.OperatorCredentials(r.secrets[pki.OperatorSecret(cluster)])
	if err != nil {
		t.Fatal(err)
	}
	return as
}

func (r *rig) dial(t *testing.T, m *process) etcd.Conn {
	t.Helper()
	c, err := r.pool.Dial(group, r.endpoint(m), r.operator(t))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// startAll founds the cluster and waits until every member has published.
func (r *rig) startAll(t *testing.T) {
	t.Helper()
	for _, m := range r.members {
		r.start(t, m)
	}
	eventually(t, 20*time.Second, "all founders have published", func() error {
		for _, m := range r.members {
			list, err := r.dial(t, m).Members(t.Context())
			if err != nil {
				return err
			}
			for _, listed := range list.Members {
				if !listed.Started() {
					return fmt.Errorf("%x has not published", listed.ID)
				}
			}
		}
		return nil
	})
}

// leader is the index of the member that leads.
func (r *rig) leader(t *testing.T) int {
	t.Helper()
	found := -1
	eventually(t, 10*time.Second, "a leader", func() error {
		for i, m := range r.members {
			s, err := r.dial(t, m).Status(t.Context())
			if err == nil && s.Leader != 0 && s.Leader == s.MemberID {
				found = i
				return nil
			}
		}
		return errors.New("none")
	})
	return found
}

// eventually asks again every 50 ms until there is no error.
func eventually(t *testing.T, within time.Duration, what string, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within %v: %v", what, within, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
