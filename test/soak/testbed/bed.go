package testbed

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
)

// Bed is a Kubernetes under test.
type Bed struct {
	// Root is the repository's directory.
	Root   string
	Config *rest.Config
	Kube   client.Client
	API    kubernetes.Interface
	// Dial connects to "pod[.anything]:port" of a namespace. Connect sets it to
	// a TCP dialer, for the local cluster's pods can be reached from here.
	Dial func(namespace string) func(ctx context.Context, address string) (net.Conn, error)
}

// Connect uses the cluster that KUBECONFIG names.
func Connect(root, userAgent string) (*Bed, error) {
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("registering Kubernetes' types: %w", err)
	}
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("registering our types: %w", err)
	}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		clientcmd.NewDefaultClientConfigLoadingRules(), &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	config.QPS, config.Burst = 200, 400
	config.UserAgent = userAgent
	config.WarningHandler = rest.NoWarnings{}
	b := &Bed{Root: root, Config: config}
	b.Dial = b.dialTCP
	if b.Kube, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	if b.API, err = kubernetes.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	return b, nil
}

// Run runs a program in the repository's root and returns what it printed.
func (b *Bed) Run(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.WaitDelay = b.Root, time.Second
	out, err := cmd.CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return text, fmt.Errorf("running %s %s: %w\n%s", program, strings.Join(args, " "), err, text)
	}
	return text, nil
}

// Machine runs the program that the local cluster is made with, to partition,
// heal, kill-node or start-node.
func (b *Bed) Machine(ctx context.Context, args ...string) (string, error) {
	return b.Run(ctx, filepath.Join(b.Root, ".cluster", "bin", "cluster"), args...)
}

// dialTCP asks the API for a pod's address each time: it changes with the pod.
func (b *Bed) dialTCP(namespace string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("reading the address %s: %w", address, err)
		}
		pod, _, _ := strings.Cut(host, ".")
		found, err := b.pod(ctx, namespace, pod)
		if err != nil {
			return nil, fmt.Errorf("finding pod %s: %w", pod, err)
		}
		if found.Status.PodIP == "" {
			return nil, fmt.Errorf("connecting to pod %s: it has no address yet", pod)
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(found.Status.PodIP, port))
		if err != nil {
			return nil, fmt.Errorf("connecting to pod %s: %w", pod, err)
		}
		return conn, nil
	}
}
