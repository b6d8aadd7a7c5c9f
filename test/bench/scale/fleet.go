package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/etcd/etcdtest"
	"github.com/quorate/quorate/internal/pki"
)

// fleet is every member of every cluster. One gRPC server answers for all of
// them, each at its own loopback address.
type fleet struct {
	grpc *grpc.Server
	// over is closed at the end.
	over chan struct{}

	mu       sync.Mutex
	clusters map[string]*cluster
	members  map[string]*member // by address
	pods     map[client.ObjectKey]*member
	asked    map[string]int
	onChange func(*member)
}

// cluster is an etcd cluster.
type cluster struct {
	name    string
	world   *etcdtest.World
	members []*member
	// sighted is when the operator first asked any of its members since
	// forgetSeen, looked when it has read what only a majority can answer.
	sighted, looked time.Time
}

// member is one etcd that answers.
type member struct {
	cluster         *cluster
	namespace, name string
	address         string
	process         *etcdtest.Process
	conn            etcd.Conn
	tls             *tls.Config
	listener        *listener
	// hung is closed when the member hangs.
	hung chan struct{}
}

func newFleet(plaintext bool) *fleet { //nolint:revive // it is the command line's flag.
	f := &fleet{over: make(chan struct{}), clusters: map[string]*cluster{}, members: map[string]*member{}, pods: map[client.ObjectKey]*member{}, asked: map[string]int{}}
	security := insecure.NewCredentials()
	if !plaintext {
		security = credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: f.configFor})
	}
	// As etcd's own server.
	f.grpc = grpc.NewServer(grpc.Creds(security), grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second}))
	pb.RegisterKVServer(f.grpc, &kv{fleet: f})
	pb.RegisterClusterServer(f.grpc, &clusterServer{fleet: f})
	pb.RegisterMaintenanceServer(f.grpc, &maintenance{fleet: f})
	pb.RegisterLeaseServer(f.grpc, &lease{fleet: f})
	return f
}

// configFor is the TLS of the member at whose address the client has knocked.
func (f *fleet) configFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	m := f.at(hello.Conn.LocalAddr())
	if m == nil {
		return nil, errors.New("no member has this address")
	}
	select {
	case <-m.hung:
		// A process that is stopped finishes no handshake.
		<-f.over
		return nil, errors.New("the process hangs")
	default:
		return m.tls, nil
	}
}

func (f *fleet) at(address net.Addr) *member {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.members[address.String()]
}

// of is the member of a pod; nil while it has not been started.
func (f *fleet) of(pod client.ObjectKey) *member {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pods[pod]
}

// boot is what a member is started with.
type boot struct {
	cluster, namespace, node, volume, address string
	flags                                     etcdtest.Flags
	secret                                    map[string][]byte
}

// start has a member answer.
func (f *fleet) start(b boot) (*member, error) {
	f.mu.Lock()
	c := f.clusters[b.cluster]
	if c == nil {
		c = &cluster{name: b.cluster, world: etcdtest.NewWorld(time.Now)}
		f.clusters[b.cluster] = c
	}
	f.mu.Unlock()
	m := &member{cluster: c, namespace: b.namespace, name: b.flags.Name, address: b.address, hung: make(chan struct{})}
	var err error
	if m.tls, err = serverTLS(b.secret); err != nil {
		return nil, fmt.Errorf("reading the certificate of %s: %w", m.name, err)
	}
	inner, err := net.Listen("tcp", b.address)
	if err != nil {
		return nil, fmt.Errorf("listening for %s: %w", m.name, err)
	}
	m.listener = &listener{Listener: inner}
	m.process = c.world.Start(b.node, b.volume, b.address, b.flags)
	if why, ended := c.world.Exited(m.process); ended {
		inner.Close()
		return nil, fmt.Errorf("etcd of %s has exited: %s", m.name, why)
	}
	if m.conn, err = c.world.Dial("", etcd.Endpoint{Address: b.address}, etcd.Credentials{}); err != nil {
		return nil, err
	}
	f.mu.Lock()
	c.members = append(c.members, m)
	f.members[b.address] = m
	f.pods[client.ObjectKey{Namespace: m.namespace, Name: m.name}] = m
	f.mu.Unlock()
	// It ends with an error when the listener is closed, which is how it ends.
	go func() { _ = f.grpc.Serve(m.listener) }()
	f.changed(c)
	return m, nil
}

// serverTLS is what etcd makes of the files of a member's Secret.
func serverTLS(secret map[string][]byte) (*tls.Config, error) {
	if secret == nil {
		return nil, nil
	}
	pair, err := tls.X509KeyPair(secret[pki.KeyServerCert], secret[pki.KeyServerKey])
	if err != nil {
		return nil, err
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(secret[pki.KeyClientCA]) {
		return nil, errors.New("no authority for clients")
	}
	return &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert,
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"},
	}, nil
}

// changed tells the kubelet that the readiness of members may have changed.
func (f *fleet) changed(c *cluster) {
	f.mu.Lock()
	members, tell := slices.Clone(c.members), f.onChange
	f.mu.Unlock()
	for _, m := range members {
		tell(m)
	}
}

func (m *member) ready() bool { return m.cluster.world.Ready(m.process) && !m.isHung() }

func (m *member) isHung() bool {
	select {
	case <-m.hung:
		return true
	default:
		return false
	}
}

// breakSome takes one member of each of so many clusters away, and names the
// clusters: by turns its process ends, so that connections are refused, and
// hangs, so that nothing answers. They are spread over all clusters, so that no
// order but by health has them first.
func (f *fleet) breakSome(n int) map[string]bool {
	f.mu.Lock()
	all := make([]*cluster, 0, len(f.clusters))
	for _, c := range f.clusters {
		all = append(all, c)
	}
	f.mu.Unlock()
	slices.SortFunc(all, func(a, b *cluster) int { return cmp.Compare(a.name, b.name) })
	named := map[string]bool{}
	for i := range n {
		c := all[(2*i+1)*len(all)/(2*n)]
		named[c.name] = true
		m := c.members[i%len(c.members)]
		if i%2 == 0 {
			c.world.Stop(m.process)
			m.listener.drop()
		} else {
			c.world.Cut(m.process, etcdtest.Peers)
			close(m.hung)
		}
		f.changed(c)
	}
	return named
}

// sighting is when a cluster was first looked at.
type sighting struct {
	cluster string
	at      time.Time
}

func (f *fleet) forgetSeen() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.clusters {
		c.sighted, c.looked = time.Time{}, time.Time{}
	}
}

// seen are the clusters that were looked at, in the order in which the looks
// began. A look counts once a majority has answered.
func (f *fleet) seen() []sighting {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []*cluster
	for _, c := range f.clusters {
		if !c.looked.IsZero() {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b *cluster) int { return a.sighted.Compare(b.sighted) })
	var list []sighting
	for _, c := range out {
		list = append(list, sighting{cluster: c.name, at: c.looked})
	}
	return list
}

// count of calls by method.
type count struct {
	method string
	n      int
}

type counts []count

func (f *fleet) counts() counts {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list counts
	for method, n := range f.asked {
		list = append(list, count{method, n})
	}
	slices.SortFunc(list, func(a, b count) int { return cmp.Compare(a.method, b.method) })
	return list
}

// minus what was counted before.
func (c counts) minus(before counts) counts {
	var list counts
	for _, now := range c {
		for _, then := range before {
			if then.method == now.method {
				now.n -= then.n
			}
		}
		if now.n > 0 {
			list = append(list, now)
		}
	}
	return list
}

func (f *fleet) stop() {
	close(f.over)
	f.grpc.Stop()
}

// listener remembers its connections, to break them when its process ends.
type listener struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, c)
	return c, nil
}

func (l *listener) drop() {
	l.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		c.Close()
	}
}
