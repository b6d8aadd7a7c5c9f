package leader

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/watch"
	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/quorate/quorate/internal/apiclient"
)

const (
	// shortestWatch and longestWatch bound how long the API server keeps a watch: long
	// enough to cost nothing, random so that not all candidates come back at once.
	shortestWatch = 30 * time.Minute
	longestWatch  = time.Hour
	// openTimeout is how long a watch may take to open.
	openTimeout = 5 * time.Second
)

// InCluster reaches the Leases of the cluster in which this pod runs, as its service
// account.
func InCluster() (Leases, error) {
	config, err := restclient.InClusterConfig()
	if err != nil {
		return nil, fmt.Errorf("finding the cluster that this runs in: %w", err)
	}
	return ForConfig(config)
}

// Kubeconfig reaches the Leases of the cluster that the file names. An empty path
// follows the usual rules: $KUBECONFIG, then ~/.kube/config, then the cluster in
// which this pod runs.
func Kubeconfig(path string) (Leases, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = path
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("finding the cluster: %w", err)
	}
	return ForConfig(config)
}

// ForConfig reaches the Leases of a cluster. The configuration is copied. Its rate
// limits do not apply: an elector asks seldom, and never when it was told to wait.
func ForConfig(config *restclient.Config) (Leases, error) {
	scheme := runtime.NewScheme()
	utilruntime.Must(coordinationv1.AddToScheme(scheme))
	// Status, which errors come as.
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	config = restclient.CopyConfig(config)
	config.APIPath = "/apis"
	config.GroupVersion = &coordinationv1.SchemeGroupVersion
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	config.ContentType, config.AcceptContentTypes = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	apiclient.Hurry(config)
	client, err := restclient.RESTClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("making a client of %s: %w", config.Host, err)
	}
	return &cluster{client}, nil
}

// cluster is the Leases of a Kubernetes cluster. No request is tried again here: the
// elector knows better how long it may wait, and what a lost answer means.
type cluster struct{ client *restclient.RESTClient }

func (c *cluster) request(verb, namespace string) *restclient.Request {
	return c.client.Verb(verb).Namespace(namespace).Resource("leases").MaxRetries(0)
}

// Get implements Leases.
func (c *cluster) Get(ctx context.Context, namespace, name string) (*coordinationv1.Lease, error) {
	return lease(ctx, c.request(http.MethodGet, namespace).Name(name))
}

// Create implements Leases.
func (c *cluster) Create(ctx context.Context, l *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	return lease(ctx, c.request(http.MethodPost, l.Namespace).Body(l))
}

// Update implements Leases.
func (c *cluster) Update(ctx context.Context, l *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	return lease(ctx, c.request(http.MethodPut, l.Namespace).Name(l.Name).Body(l))
}

func lease(ctx context.Context, r *restclient.Request) (*coordinationv1.Lease, error) {
	out := &coordinationv1.Lease{}
	if err := r.Do(ctx).Into(out); err != nil {
		return nil, err
	}
	return out, nil
}

var errOpening = errors.New("the API server did not open the watch in time")

// Watch implements Leases. The selector by name is one that RBAC's resourceNames
// understand.
func (c *cluster) Watch(ctx context.Context, namespace, name string) (<-chan Event, error) {
	lasts := shortestWatch + rand.N(longestWatch-shortestWatch) //nolint:gosec // no secret
	ctx, cancel := context.WithCancelCause(ctx)
	opening := time.AfterFunc(openTimeout, func() { cancel(errOpening) })
	stream, err := c.request(http.MethodGet, namespace).
		Param("watch", "true").
		Param("fieldSelector", "metadata.name="+name).
		Param("allowWatchBookmarks", "true").
		Param("timeoutSeconds", strconv.Itoa(int(lasts/time.Second))).
		Watch(ctx)
	if !opening.Stop() && err == nil {
		stream.Stop()
		err = errOpening
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("watching the Lease %s/%s: %w", namespace, name, cause)
		}
		cancel(nil)
		return nil, err
	}
	out := make(chan Event)
	go func() {
		defer close(out)
		defer cancel(nil)
		defer stream.Stop()
		relay(ctx, stream.ResultChan(), out)
	}()
	return out, nil
}

// relay passes on what a watch says of a Lease until it ends, says that it cannot go
// on, or the context ends.
func relay(ctx context.Context, in <-chan watch.Event, out chan<- Event) {
	for {
		var e watch.Event
		var open bool
		select {
		case e, open = <-in:
		case <-ctx.Done():
		}
		if !open || e.Type == watch.Error {
			return
		}
		l, ok := e.Object.(*coordinationv1.Lease)
		if !ok || e.Type == watch.Bookmark {
			continue
		}
		select {
		case out <- Event{Lease: l, Deleted: e.Type == watch.Deleted}:
		case <-ctx.Done():
			return
		}
	}
}
