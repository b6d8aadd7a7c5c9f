package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/internal/pki"
)

// secret reads what a Secret holds.
func (c cluster) secret(ctx context.Context, name string) map[string][]byte {
	GinkgoHelper()
	s := named[corev1.Secret](c.namespace, name)
	Expect(kube.Get(ctx, client.ObjectKeyFromObject(s), s)).To(Succeed())
	return s.Data
}

// credentials makes a TLS configuration of a Secret's files.
func credentials(data map[string][]byte, ca, cert, key string) *tls.Config {
	GinkgoHelper()
	pair, err := tls.X509KeyPair(data[cert], data[key])
	Expect(err).NotTo(HaveOccurred())
	pool := x509.NewCertPool()
	Expect(pool.AppendCertsFromPEM(data[ca])).To(BeTrue())
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool, MinVersion: tls.VersionTLS12}
}

// application is what <cluster>-client-tls gives to applications.
func (c cluster) application(ctx context.Context) *tls.Config {
	GinkgoHelper()
	return credentials(c.secret(ctx, pki.ClientSecret(c.name)), pki.KeyCA, pki.KeyCert, pki.KeyKey)
}

// client of these members, with TLS unless as is nil.
func (c cluster) client(as *tls.Config, members ...string) *clientv3.Client {
	GinkgoHelper()
	scheme := "https"
	if as == nil {
		scheme = "http"
	}
	var endpoints []string
	for _, m := range members {
		endpoints = append(endpoints, fmt.Sprintf("%s://%s.%s.%s.svc:2379", scheme, m, c.name, c.namespace))
	}
	cl, err := clientv3.New(clientv3.Config{
		Endpoints: endpoints, TLS: as, Logger: zap.NewNop(), DialKeepAliveTime: 2 * time.Second, DialKeepAliveTimeout: 2 * time.Second,
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(dialHost(c.namespace))},
	})
	Expect(err).NotTo(HaveOccurred())
	return cl
}

// writer puts keys, one after the other, and remembers which puts the cluster
// has acknowledged.
type writer struct {
	client *clientv3.Client
	stop   context.CancelFunc
	done   sync.WaitGroup
	mu     sync.Mutex
	acked  map[string]string
	failed int
}

const (
	writePause   = 10 * time.Millisecond
	writeTimeout = 2 * time.Second
	writerPrefix = "writer/"
)

// startWriter writes to all members until the end of the node that asked.
func (c cluster) startWriter(ctx context.Context, members ...string) *writer {
	GinkgoHelper()
	running, stop := context.WithCancel(context.Background())
	w := &writer{client: c.client(c.application(ctx), members...), stop: stop, acked: map[string]string{}}
	w.done.Go(func() {
		for i := 0; running.Err() == nil; i++ {
			w.put(running, i)
		}
	})
	DeferCleanup(func() {
		w.stop()
		w.done.Wait()
		_ = w.client.Close()
	})
	w.continues(ctx)
	return w
}

func (w *writer) put(ctx context.Context, i int) {
	key, value := fmt.Sprintf("%s%08d", writerPrefix, i), fmt.Sprint(time.Now().UnixNano())
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	_, err := w.client.Put(ctx, key, value)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.failed++
	} else {
		w.acked[key] = value
	}
	time.Sleep(writePause)
}

func (w *writer) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acked)
}

// continues waits until more writes are acknowledged.
func (w *writer) continues(ctx context.Context) {
	GinkgoHelper()
	before := w.count()
	Eventually(ctx, w.count).Should(BeNumerically(">=", before+5), "no writes are acknowledged any more")
}

// lost stops the writer and names the acknowledged writes that are not there.
func (w *writer) lost(ctx context.Context) []string {
	GinkgoHelper()
	w.stop()
	w.done.Wait()
	var held *clientv3.GetResponse
	Eventually(ctx, func() (err error) {
		held, err = w.client.Get(ctx, writerPrefix, clientv3.WithPrefix())
		return err
	}).Should(Succeed())
	values := map[string]string{}
	for _, kv := range held.Kvs {
		values[string(kv.Key)] = string(kv.Value)
	}
	var lost []string
	for key, value := range w.acked {
		if values[key] != value {
			lost = append(lost, fmt.Sprintf("%s=%s (found %q)", key, value, values[key]))
		}
	}
	AddReportEntry("writes", fmt.Sprintf("%d acknowledged, %d failed, %d lost", len(w.acked), w.failed, len(lost)))
	return lost
}
