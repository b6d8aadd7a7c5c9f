package load

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
)

// goHomeAfter is how long a client stays away from its own member.
const goHomeAfter = 3 * time.Second

// members holds one client per endpoint.
type members struct {
	config Config

	mu        sync.Mutex
	endpoints []string
	clients   map[string]*clientv3.Client
}

func newMembers(config Config) *members {
	return &members{config: config, clients: map[string]*clientv3.Client{}}
}

// set replaces the endpoints. When one cannot be used nothing changes.
func (m *members) set(endpoints []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if slices.Equal(endpoints, m.endpoints) {
		return nil
	}
	clients := map[string]*clientv3.Client{}
	for _, e := range endpoints {
		client := m.clients[e]
		if client == nil {
			var err error
			if client, err = m.dial(e); err != nil {
				closeExcept(clients, m.clients)
				return err
			}
		}
		clients[e] = client
	}
	closeExcept(m.clients, clients)
	m.endpoints, m.clients = slices.Clone(endpoints), clients
	return nil
}

func closeExcept(clients, kept map[string]*clientv3.Client) {
	for e, c := range clients {
		if kept[e] != c {
			_ = c.Close()
		}
	}
}

func (m *members) dial(endpoint string) (*clientv3.Client, error) {
	// gRPC waits up to two minutes before it tries a member again that was
	// away: that would be measured as a gap of the cluster.
	again := backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 500 * time.Millisecond}
	options := []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{Backoff: again, MinConnectTimeout: 3 * time.Second})}
	if m.config.Dial != nil {
		options = append(options, grpc.WithContextDialer(m.config.Dial))
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{endpoint}, TLS: m.config.TLS, Logger: zap.NewNop(), DialOptions: options,
		DialKeepAliveTime: 2 * time.Second, DialKeepAliveTimeout: 2 * time.Second,
	})
	if err != nil {
		return nil, fmt.Errorf("making a client of %s: %w", endpoint, err)
	}
	return client, nil
}

func (m *members) list() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.endpoints)
}

// at is the client of the endpoint with this number, counted around.
func (m *members) at(number int) *clientv3.Client {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.clients[m.endpoints[number%len(m.endpoints)]]
}

func (m *members) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	closeExcept(m.clients, nil)
}

// route leads a client to a member.
type route struct {
	home  int
	retry Retry
	away  int
	since time.Time
}

// client to send the next request with.
func (r *route) client(m *members) *clientv3.Client {
	if r.away > 0 && time.Since(r.since) > goHomeAfter {
		if m.at(r.home).ActiveConnection().GetState() == connectivity.Ready {
			r.away = 0
		}
	}
	return m.at(r.home + r.away)
}

// failed moves on after a request that was not acknowledged.
func (r *route) failed() {
	if r.retry == NextEndpoint {
		r.away++
		r.since = time.Now()
	}
}

// outcome of a request.
type outcome int

const (
	// acknowledged: the cluster answered.
	acknowledged outcome = iota
	// unknown: it may have had its effect, or have it later.
	unknown
	// refused: it never has an effect.
	refused
)

// neverProposed are the answers of a member that has not passed a write on.
// All others leave the outcome unknown: "no space" for example comes after the
// write was applied.
var neverProposed = []error{rpctypes.ErrTooManyRequests, rpctypes.Error(rpctypes.ErrGRPCNotSupportedForLearner)}

func outcomeOf(err error) outcome {
	if err == nil {
		return acknowledged
	}
	for _, never := range neverProposed {
		if errors.Is(err, never) {
			return refused
		}
	}
	return unknown
}

// request bounds a request in time. The end of the load does not cancel it:
// that would only leave one more outcome unknown.
func (l *Load) request(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), l.config.Timeout)
}
