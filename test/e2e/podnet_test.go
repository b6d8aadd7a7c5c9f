package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"
)

// dialPod connects to a port of a pod through the API server, as kubectl
// port-forward does: the pods' network need not reach this machine.
func dialPod(ctx context.Context, namespace, pod string, port int) (net.Conn, error) {
	url := api.CoreV1().RESTClient().Post().Resource("pods").Namespace(namespace).Name(pod).SubResource("portforward").URL()
	transport, upgrader, err := spdy.RoundTripperFor(config)
	if err != nil {
		return nil, fmt.Errorf("preparing a forward to %s: %w", pod, err)
	}
	dialer := spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, url)
	type result struct {
		conn httpstream.Connection
		err  error
	}
	done := make(chan result, 1)
	go func() {
		conn, _, err := dialer.Dial(portforward.PortForwardProtocolV1Name)
		done <- result{conn, err}
	}()
	select {
	case <-ctx.Done():
		go func() {
			if r := <-done; r.err == nil {
				_ = r.conn.Close()
			}
		}()
		return nil, fmt.Errorf("connecting to pod %s: %w", pod, ctx.Err())
	case r := <-done:
		if r.err != nil {
			return nil, fmt.Errorf("connecting to pod %s: %w", pod, r.err)
		}
		return openStream(r.conn, pod, port)
	}
}

var requests atomic.Int64

// openStream opens the pair of streams that is one forwarded connection.
func openStream(conn httpstream.Connection, pod string, port int) (net.Conn, error) {
	headers := http.Header{}
	headers.Set(corev1.StreamType, corev1.StreamTypeError)
	headers.Set(corev1.PortHeader, strconv.Itoa(port))
	headers.Set(corev1.PortForwardRequestIDHeader, strconv.FormatInt(requests.Add(1), 10))
	failure, err := conn.CreateStream(headers)
	if err == nil {
		_ = failure.Close() // nothing is ever written to it
		headers.Set(corev1.StreamType, corev1.StreamTypeData)
		var data httpstream.Stream
		if data, err = conn.CreateStream(headers); err == nil {
			f := &forwarded{Stream: data, conn: conn, to: fmt.Sprintf("%s:%d", pod, port)}
			go f.watch(failure)
			return f, nil
		}
	}
	_ = conn.Close()
	return nil, fmt.Errorf("opening a stream to %s:%d: %w", pod, port, err)
}

// forwarded is a connection into a pod. Deadlines are not kept: whoever waits
// closes it.
type forwarded struct {
	httpstream.Stream
	conn httpstream.Connection
	to   string
}

// watch ends the connection when the far end says that it could not connect.
func (f *forwarded) watch(failure io.Reader) {
	if text, _ := io.ReadAll(failure); len(text) > 0 {
		_ = f.conn.Close()
	}
}

// Close ends the whole forward.
func (f *forwarded) Close() error {
	_ = f.Reset()
	return f.conn.Close()
}

type podAddress string

func (podAddress) Network() string  { return "portforward" }
func (a podAddress) String() string { return string(a) }

func (f *forwarded) LocalAddr() net.Addr              { return podAddress("e2e") }
func (f *forwarded) RemoteAddr() net.Addr             { return podAddress(f.to) }
func (f *forwarded) SetDeadline(time.Time) error      { return nil }
func (f *forwarded) SetReadDeadline(time.Time) error  { return nil }
func (f *forwarded) SetWriteDeadline(time.Time) error { return nil }

// dialHost connects to "pod[.anything]:port" of a namespace.
func dialHost(namespace string) func(ctx context.Context, address string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("reading the address %s: %w", address, err)
		}
		number, err := strconv.Atoi(port)
		if err != nil {
			return nil, fmt.Errorf("reading the address %s: %w", address, err)
		}
		pod, _, _ := strings.Cut(host, ".")
		return dialPod(ctx, namespace, pod, number)
	}
}
