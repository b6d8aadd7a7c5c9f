package e2e

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// dialFromNode connects as a process on a node of the local cluster does, through what
// kube-proxy has there for Services. A socket stays in the network that it was made in.
func dialFromNode(ctx context.Context, node, address string) (net.Conn, error) {
	kubelet, err := bed.Daemon("kubelet-" + node)
	if err != nil {
		return nil, fmt.Errorf("dialing from %s: %w", node, err)
	}
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		// The thread is not given back: it ends with this, and nobody else gets its network.
		runtime.LockOSThread()
		network, err := unix.Open(fmt.Sprintf("/proc/%d/ns/net", kubelet), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			defer func() { _ = unix.Close(network) }()
			err = unix.Setns(network, unix.CLONE_NEWNET)
		}
		if err != nil {
			done <- result{nil, fmt.Errorf("entering the network of %s: %w", node, err)}
			return
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

// serviceClient is an application's that was just started: it knows the Service, and the
// first member that it gets there.
func (c cluster) serviceClient(ctx context.Context, ip string) (*clientv3.Client, error) {
	as, err := c.bed().Credentials(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading an application's credentials: %w", err)
	}
	out, err := clientv3.New(clientv3.Config{
		Endpoints: []string{fmt.Sprintf("https://%s-client.%s.svc:2379", c.name, c.namespace)}, TLS: as, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return dialFromNode(ctx, "node1", net.JoinHostPort(ip, "2379"))
		})},
	})
	if err != nil {
		return nil, fmt.Errorf("making a client of the Service: %w", err)
	}
	return out, nil
}

// outrun writes so much that the logs no longer reach back to their beginning: who joins
// gets a snapshot. Etcd keeps 5000 entries for those who are slow.
func (c cluster) outrun(ctx context.Context) {
	GinkgoHelper()
	etcd := c.client(ctx)
	var writers sync.WaitGroup
	for w := range 64 {
		writers.Go(func() {
			defer GinkgoRecover()
			for i := range 130 {
				Expect(etcd.Put(ctx, fmt.Sprintf("outrun/%d/%d", w, i), "x")).Error().NotTo(HaveOccurred())
			}
		})
	}
	writers.Wait()
}

var _ = Describe("Applications that come through the client Service", Label(local, deep), Ordered, func() {
	var (
		c  cluster
		ip string
	)
	BeforeAll(func(ctx SpecContext) {
		c = found(ctx, newNamespace(ctx), "served", `{etcd: {snapshotCount: 100}}`)
		c.settles(ctx)
		service := named[corev1.Service](c.namespace, c.name+"-client")
		Expect(kube.Get(ctx, client.ObjectKeyFromObject(service), service)).To(Succeed())
		ip = service.Spec.ClusterIP
		c.outrun(ctx)
	}, NodeTimeout(2*patience))

	// Each write has a connection of its own: a member that is in the Service and serves
	// nobody yet is met by one in so many.
	It("are answered while members join by snapshots", func(ctx SpecContext) {
		began := time.Now()
		var (
			mu      sync.Mutex
			writes  int
			longest time.Duration
			at      time.Duration
			all     sync.WaitGroup
		)
		over, stop := context.WithCancel(ctx)
		// The writers end with their spec, whatever else fails in it.
		defer func() { stop(); all.Wait() }()
		for w := range 4 {
			all.Go(func() {
				defer GinkgoRecover()
				for i := 0; over.Err() == nil; i++ {
					etcd, err := c.serviceClient(ctx, ip)
					Expect(err).NotTo(HaveOccurred())
					start := time.Now()
					_, err = etcd.Put(ctx, fmt.Sprintf("served/%d/%d", w, i), "x")
					took := time.Since(start)
					_ = etcd.Close()
					if ctx.Err() != nil {
						return
					}
					Expect(err).NotTo(HaveOccurred())
					mu.Lock()
					if writes++; took > longest {
						longest, at = took, time.Since(began)
					}
					mu.Unlock()
				}
			})
		}
		c.scale(ctx, 5)
		c.settles(ctx)
		pauseFor(ctx, 7*time.Second)
		stop()
		all.Wait()
		for _, m := range []string{c.member(3), c.member(4)} {
			Expect(kubectl(ctx, "-n", c.namespace, "logs", m)).To(ContainSubstring("received and saved database snapshot"), "how %s joined", m)
		}
		AddReportEntry("writes through the Service", fmt.Sprintf("%d in %s; the longest took %s, %s after the edit",
			writes, time.Since(began).Round(time.Second), longest.Round(time.Millisecond), at.Round(time.Second)))
		// A member that is called ready too early answers after five seconds and more.
		Expect(longest).To(BeNumerically("<", 4500*time.Millisecond))
	}, NodeTimeout(2*patience))
})
