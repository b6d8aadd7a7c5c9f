package load_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/quorate/quorate/test/integration/etcdbinary"
)

const etcdVersion = "3.6.16"

// TestMain lets all clusters run at once: their tests wait for etcd's timers
// most of the time, however few processors there are.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// hosts counts the addresses given out.
var hosts atomic.Uint32

// address of loopback that belongs to this process and one member.
func address() string {
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d", 128+pid>>8&0x3f, pid&0xff, hosts.Add(1))
}

// identity is a certificate of an authority of its own, for server and client
// at all addresses given; whoever has another trusts none of them.
type identity struct {
	ca, cert, key string
	config        *tls.Config
}

func newIdentity(t *testing.T, addresses ...string) identity {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, a := range addresses {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(a))
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	id := identity{ca: filepath.Join(dir, "crt"), cert: filepath.Join(dir, "crt"), key: filepath.Join(dir, "key")}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	for file, content := range map[string][]byte{id.cert: certPEM, id.key: keyPEM} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	id.config = &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool, MinVersion: tls.VersionTLS12}
	return id
}

// member is one process of a real cluster.
type member struct {
	name, host, dir string
	cmd             *exec.Cmd
	done            chan struct{}
}

func (m *member) endpoint() string { return "https://" + m.host + ":2379" }
func (m *member) peer() string     { return "https://" + m.host + ":2380" }

// cluster of real processes.
type cluster struct {
	members []*member
	clients identity
	peers   identity
}

// newCluster starts three members and stops them when the test ends.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{}
	var addresses []string
	for i := range 3 {
		m := &member{name: fmt.Sprintf("m%d", i), host: address(), dir: t.TempDir()}
		c.members = append(c.members, m)
		addresses = append(addresses, m.host)
	}
	// The source of a connection within loopback may be 127.0.0.1.
	addresses = append(addresses, "127.0.0.1")
	c.clients, c.peers = newIdentity(t, addresses...), newIdentity(t, addresses...)
	for _, m := range c.members {
		c.start(t, m)
	}
	c.leader(t)
	return c
}

func (c *cluster) endpoints(of ...int) []string {
	if len(of) == 0 {
		of = []int{0, 1, 2}
	}
	var list []string
	for _, i := range of {
		list = append(list, c.members[i].endpoint())
	}
	return list
}

// start runs a member with what is in its directory.
func (c *cluster) start(t *testing.T, m *member) {
	t.Helper()
	var founders []string
	for _, f := range c.members {
		founders = append(founders, f.name+"="+f.peer())
	}
	log, err := os.OpenFile(filepath.Join(m.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	m.cmd = exec.Command(etcdbinary.Find(t, etcdVersion), "--name="+m.name, "--data-dir="+filepath.Join(m.dir, "data"),
		"--listen-client-urls="+m.endpoint(), "--advertise-client-urls="+m.endpoint(),
		"--listen-peer-urls="+m.peer(), "--initial-advertise-peer-urls="+m.peer(),
		"--initial-cluster="+strings.Join(founders, ","), "--initial-cluster-state=new", "--initial-cluster-token=token",
		"--client-cert-auth", "--trusted-ca-file="+c.clients.ca, "--cert-file="+c.clients.cert, "--key-file="+c.clients.key,
		"--peer-client-cert-auth", "--peer-trusted-ca-file="+c.peers.ca, "--peer-cert-file="+c.peers.cert, "--peer-key-file="+c.peers.key,
		"--log-level=warn", "--unsafe-no-fsync")
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
		_ = cmd.Process.Signal(syscall.SIGKILL)
		<-done
		if t.Failed() {
			out, _ := os.ReadFile(filepath.Join(m.dir, "log"))
			t.Logf("log of %s:\n%s", m.name, out[max(0, len(out)-3000):])
		}
	})
}

// kill -9.
func (m *member) kill() {
	_ = m.cmd.Process.Signal(syscall.SIGKILL)
	<-m.done
}

func (c *cluster) client(t *testing.T, endpoint string) *clientv3.Client {
	t.Helper()
	cl, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, TLS: c.clients.config, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	return cl
}

// leader that a member knows of, as soon as one answers.
func (c *cluster) leader(t *testing.T) *member {
	t.Helper()
	var found *member
	eventually(t, "a leader", func() error {
		for _, m := range c.members {
			s, err := c.status(t, m)
			if err == nil && s.Leader != 0 && s.Leader == s.Header.MemberId {
				found = m
				return nil
			}
		}
		return errors.New("none")
	})
	return found
}

func (c *cluster) status(t *testing.T, m *member) (*clientv3.StatusResponse, error) {
	t.Helper()
	cl := c.client(t, m.endpoint())
	defer func() { _ = cl.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	return cl.Status(ctx, m.endpoint())
}

// answers waits until a member answers a linearizable read.
func (c *cluster) answers(t *testing.T, m *member) {
	t.Helper()
	cl := c.client(t, m.endpoint())
	defer func() { _ = cl.Close() }()
	eventually(t, m.name+" answers", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err := cl.Get(ctx, "any")
		return err
	})
}

// patience is reached only by what does not work.
const patience = time.Minute

// eventually asks every 20 ms until there is no error.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, patience, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
