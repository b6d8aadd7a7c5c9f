// Command clientgo is a candidate of client-go's leaderelection, and no more than
// that: what the leader-elector is measured beside.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

var (
	election  = flag.String("election", "", "name of the Lease")
	namespace = flag.String("election-namespace", "default", "namespace of the Lease")
	id        = flag.String("id", "", "name of this candidate")
	address   = flag.String("http", "", "address of /readyz and of /metrics, which counts requests")
	lease     = flag.Duration("lease", 15*time.Second, "LeaseDuration")
	renew     = flag.Duration("renew", 10*time.Second, "RenewDeadline")
	retry     = flag.Duration("retry", 2*time.Second, "RetryPeriod")
)

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "clientgo:", err)
		os.Exit(1) //nolint:gocritic // the process ends, and with it the handling of signals
	}
}

// counter of the requests that are sent.
type counter struct {
	http.RoundTripper
	sent *atomic.Int64
}

func (c counter) RoundTrip(r *http.Request) (*http.Response, error) {
	c.sent.Add(1)
	return c.RoundTripper.RoundTrip(r)
}

func run(ctx context.Context) error {
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		clientcmd.NewDefaultClientConfigLoadingRules(), nil).ClientConfig()
	if err != nil {
		return fmt.Errorf("finding the cluster: %w", err)
	}
	var sent atomic.Int64
	var ready atomic.Bool
	config.Wrap(func(rt http.RoundTripper) http.RoundTripper { return counter{rt, &sent} })
	client, err := kubernetes.NewForConfig(rest.AddUserAgent(config, "bench-clientgo"))
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	go serve(&sent, &ready)
	leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta: metav1.ObjectMeta{Namespace: *namespace, Name: *election}, Client: client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: *id},
		},
		LeaseDuration: *lease, RenewDeadline: *renew, RetryPeriod: *retry, ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) {}, OnStoppedLeading: func() {},
			OnNewLeader: func(string) { ready.Store(true) },
		},
	})
	return nil
}

func serve(sent *atomic.Int64, ready *atomic.Bool) {
	http.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !ready.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	http.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "leader_elector_api_requests_total %d\n", sent.Load())
	})
	server := &http.Server{Addr: *address, ReadHeaderTimeout: time.Second}
	fmt.Fprintln(os.Stderr, "clientgo:", server.ListenAndServe())
}
