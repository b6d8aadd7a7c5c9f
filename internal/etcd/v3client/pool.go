// Package v3client speaks etcd's v3 API to real members, and is the only
// package that does. It pools one gRPC connection per member and uses etcd's
// plain gRPC stubs: clientv3's own client balances over endpoints and repeats
// calls by itself, which would hide an outcome that is not known.
package v3client

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/quorate/quorate/internal/etcd"
)

const (
	// firstBackoff and lastBackoff bound the wait between two attempts to
	// connect. A pod's address answers only once etcd listens; gRPC's own two
	// minutes would leave a restarted member unseen for that long.
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = time.Second
	// connectTimeout bounds one attempt: a packet lost while a node was cut
	// off would otherwise be waited for with TCP's growing intervals.
	connectTimeout = 2 * time.Second
	// keepaliveTime is gRPC's lowest. etcd closes connections that ask more
	// often than every 5 s.
	keepaliveTime = 10 * time.Second
	// keepaliveTimeout also bounds how long sent bytes stay unacknowledged
	// before the connection counts as broken: a dead node's is.
	keepaliveTimeout = 3 * time.Second
	// bufferSize is plenty for what a member answers. An operator of many
	// clusters keeps thousands of connections that are idle nearly always, and
	// gRPC's own two buffers of 32 KiB would be most of its memory.
	bufferSize = 4 << 10
	// windowSize is HTTP/2's default, more than any answer. Said aloud it keeps
	// gRPC from measuring the connection, which takes a ping and its answer
	// with every call.
	windowSize = 64 << 10
)

// errClosed is what a call on a connection that was replaced or dropped gets.
var errClosed = errors.New("connection was closed")

// Pool is a Dialer with one connection per group, endpoint and credentials. It
// is safe for concurrent use. The zero value is not usable; see NewPool.
type Pool struct {
	mu     sync.Mutex
	groups map[string]map[etcd.Endpoint]*link
}

var _ etcd.Dialer = (*Pool)(nil)

// NewPool returns an empty pool.
func NewPool() *Pool { return &Pool{groups: map[string]map[etcd.Endpoint]*link{}} }

// Dial returns the pooled connection to the endpoint, or sets one up without
// waiting for the network. With other credentials than before, the former
// connection is closed once the calls on it have ended. The error wraps
// etcd.ErrCredentials.
func (p *Pool) Dial(group string, to etcd.Endpoint, as etcd.Credentials) (etcd.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.groups[group][to]
	if old != nil && same(old.as.Credentials, as) {
		return &conn{link: old}, nil
	}
	who, err := p.identity(group, as)
	if err != nil {
		return nil, fmt.Errorf("dialing %s: %w", to.Address, err)
	}
	fresh, err := newLink(to, who)
	if err != nil {
		return nil, fmt.Errorf("dialing %s: %w", to.Address, err)
	}
	if p.groups[group] == nil {
		p.groups[group] = map[etcd.Endpoint]*link{}
	}
	p.groups[group][to] = fresh
	if old != nil {
		old.retire()
	}
	return &conn{link: fresh}, nil
}

// Keep drops every connection of the group that is not to one of the
// endpoints; each is closed once the calls on it have ended.
func (p *Pool) Keep(group string, endpoints ...etcd.Endpoint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for to, l := range p.groups[group] {
		if !slices.Contains(endpoints, to) {
			delete(p.groups[group], to)
			l.retire()
		}
	}
	if len(p.groups[group]) == 0 {
		delete(p.groups, group)
	}
}

// Close drops every connection of every group.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, links := range p.groups {
		for _, l := range links {
			l.retire()
		}
	}
	clear(p.groups)
}

// identity is what another connection of the group was made with, if that is
// the same: the members of a cluster are all dialed with one certificate, which
// is parsed and kept once.
func (p *Pool) identity(group string, as etcd.Credentials) (*identity, error) {
	for _, l := range p.groups[group] {
		if same(l.as.Credentials, as) {
			return l.as, nil
		}
	}
	return newIdentity(as)
}

func same(a, b etcd.Credentials) bool {
	return bytes.Equal(a.CA, b.CA) && bytes.Equal(a.Certificate, b.Certificate) && bytes.Equal(a.Key, b.Key)
}

// link is a gRPC connection that counts the calls on it.
type link struct {
	to   etcd.Endpoint
	as   *identity
	grpc *grpc.ClientConn

	mu      sync.Mutex
	calls   int
	retired bool
}

func newLink(to etcd.Endpoint, as *identity) (*link, error) {
	security, err := as.transport(to)
	if err != nil {
		return nil, err
	}
	// passthrough: an address needs no resolver. No proxy: an operator behind
	// one still reaches pods directly.
	c, err := grpc.NewClient("passthrough:///"+to.Address,
		grpc.WithTransportCredentials(security),
		grpc.WithNoProxy(), grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(),
		grpc.WithUserAgent("quorate"),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: firstBackoff, Multiplier: 1.6, Jitter: 0.2, MaxDelay: lastBackoff},
			MinConnectTimeout: connectTimeout,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.WithReadBufferSize(bufferSize), grpc.WithWriteBufferSize(bufferSize),
		grpc.WithStaticStreamWindowSize(windowSize), grpc.WithStaticConnWindowSize(windowSize),
	)
	if err != nil {
		return nil, err
	}
	return &link{to: to, as: as, grpc: c}, nil
}

// identity is whom the operator is to the members of a cluster, parsed.
type identity struct {
	etcd.Credentials

	// pair and roots are unused for the zero credentials, which mean plaintext.
	pair  tls.Certificate
	roots *x509.CertPool
}

// newIdentity parses. What is wrong is said without the parser's words, which
// could quote a key.
func newIdentity(as etcd.Credentials) (*identity, error) {
	who := &identity{Credentials: etcd.Credentials{
		CA: bytes.Clone(as.CA), Certificate: bytes.Clone(as.Certificate), Key: bytes.Clone(as.Key),
	}}
	if who.plaintext() {
		return who, nil
	}
	var err error
	if who.pair, err = tls.X509KeyPair(as.Certificate, as.Key); err != nil {
		return nil, fmt.Errorf("certificate and key: %w", etcd.ErrCredentials)
	}
	who.roots = x509.NewCertPool()
	if !who.roots.AppendCertsFromPEM(as.CA) {
		return nil, fmt.Errorf("authority: %w", etcd.ErrCredentials)
	}
	return who, nil
}

func (i *identity) plaintext() bool { return len(i.CA)+len(i.Certificate)+len(i.Key) == 0 }

// transport is mutual TLS, or plaintext for the zero credentials and for a member that
// takes nothing else.
func (i *identity) transport(to etcd.Endpoint) (credentials.TransportCredentials, error) {
	if i.plaintext() || to.Plaintext {
		return insecure.NewCredentials(), nil
	}
	if to.ServerName == "" {
		return nil, fmt.Errorf("no name to verify the member's certificate against: %w", etcd.ErrCredentials)
	}
	return credentials.NewTLS(i.config(to)), nil
}

func (i *identity) config(to etcd.Endpoint) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{i.pair}, RootCAs: i.roots, ServerName: to.ServerName, MinVersion: tls.VersionTLS12,
	}
}

// begin counts a call in, unless the link is retired.
func (l *link) begin() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.retired {
		return fmt.Errorf("%w: %w", etcd.ErrUnreachable, errClosed)
	}
	l.calls++
	return nil
}

// end counts a call out; the last call on a retired link closes it.
func (l *link) end() {
	l.mu.Lock()
	l.calls--
	last := l.retired && l.calls == 0
	l.mu.Unlock()
	if last {
		// Closing has nothing to say but that it was closed before.
		_ = l.grpc.Close()
	}
}

// retire closes the link now or after the last call on it.
func (l *link) retire() {
	l.mu.Lock()
	idle := !l.retired && l.calls == 0
	l.retired = true
	l.mu.Unlock()
	if idle {
		_ = l.grpc.Close()
	}
}
