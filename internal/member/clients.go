package member

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// wordUnserved: etcd is ready by its own word, and answers no client yet.
const wordUnserved = "clients not served"

// clients is etcd's listener for clients. Etcd's own /readyz does not know it: a member
// that joins by a snapshot is ready after 0.6 s and answers no client before 6 s, since
// it waits in vain for its own first proposal, which the snapshot went past (measured
// with 3.5.35, 3.6.16 and 3.7.3). Behind a Service its port takes connections and leaves
// them without an answer, and one client in so many hangs.
type clients struct {
	client *http.Client
	url    string
	// served: the port has answered. Etcd serves it until it ends, and the guard with it.
	served atomic.Bool
}

// newClients asks etcd's listener at base (https://127.0.0.1:2379); an empty one is
// never asked, and counts as served. The pair of certFile and keyFile is shown to it,
// and read for each connection, for it is renewed.
func newClients(base, certFile, keyFile string) *clients {
	c := &clients{url: strings.TrimSuffix(base, "/") + "/version"}
	c.served.Store(base == "")
	c.client = &http.Client{
		Transport: &http.Transport{
			Proxy:             nil,
			DisableKeepAlives: true,
			// A handshake goes on after its request was given up, for others to use the
			// connection: it would stay for as long as the port is not served.
			TLSHandshakeTimeout: clientsHandshake,
			TLSClientConfig: &tls.Config{
				// Whether it answers is the question, not who it is: it is our own child.
				InsecureSkipVerify: true, //nolint:gosec // see above; nothing is sent that anybody may not know
				GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					pair, err := tls.LoadX509KeyPair(certFile, keyFile)
					if err != nil {
						// Without one etcd refuses, which is an answer.
						return &tls.Certificate{}, nil
					}
					return &pair, nil
				},
			},
			MaxResponseHeaderBytes: 8 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c
}

// clientsHandshake is longer than any question.
const clientsHandshake = 20 * time.Second

// ask reports whether the port is served, which is found out within bound. Any answer
// counts, a refusal of our certificate too: a member is not kept from the Service for
// want of a certificate that clients do not need.
func (c *clients) ask(ctx context.Context, bound time.Duration) answer {
	if c.served.Load() {
		return answer{http.StatusOK, "ok"}
	}
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url, nil)
	if err != nil {
		return answer{http.StatusServiceUnavailable, wordUnserved}
	}
	response, err := c.client.Do(request)
	if err == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10))
		_ = response.Body.Close()
	}
	if silent(err) {
		return answer{http.StatusServiceUnavailable, wordUnserved}
	}
	c.served.Store(true)
	return answer{http.StatusOK, "ok"}
}

// silent reports whether nobody answered: the kernel takes connections for a listener
// that etcd has opened and does not serve.
func silent(err error) bool {
	var slow net.Error
	return errors.As(err, &slow) && slow.Timeout() || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, context.Canceled) || errors.Is(err, os.ErrDeadlineExceeded)
}
