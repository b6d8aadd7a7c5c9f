// Package apiclient sets up connections to an API server for those who cannot wait long
// for it: whoever holds a lease.
package apiclient

import (
	"net"
	"net/http"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	restclient "k8s.io/client-go/rest"
)

const (
	// connectTimeout is how long a connection may take to open.
	connectTimeout = 5 * time.Second
	// A connection that has said nothing for pingAfter is asked whether it lives, and
	// is closed after pingTimeout. Both together are shorter than the renew deadline of
	// the usual lease, so that a connection that died without a word does not cost the
	// leadership while another would get through.
	pingAfter   = 3 * time.Second
	pingTimeout = 2 * time.Second
)

// Hurry has requests sent when they are made, without client-go's limits to their rate,
// and dead connections noticed sooner than it does, after 45 s. The configuration is
// changed.
func Hurry(config *restclient.Config) {
	config.QPS, config.RateLimiter = -1, nil
	if config.Transport == nil {
		ping(config)
	}
}

func ping(config *restclient.Config) {
	if config.Dial == nil {
		// client-go shares connections between configurations that are alike. One with
		// a dialer of its own has them for itself.
		config.Dial = (&net.Dialer{Timeout: connectTimeout, KeepAlive: 30 * time.Second}).DialContext
	}
	outer := config.WrapTransport
	config.WrapTransport = func(rt http.RoundTripper) http.RoundTripper {
		if t := innermost(rt); t != nil {
			t.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout}
		}
		if outer != nil {
			rt = outer(rt)
		}
		return rt
	}
}

// innermost is the transport that opens the connections; nil if it is another kind.
func innermost(rt http.RoundTripper) *http.Transport {
	for {
		switch is := rt.(type) {
		case *http.Transport:
			return is
		case utilnet.RoundTripperWrapper:
			rt = is.WrappedRoundTripper()
		default:
			return nil
		}
	}
}
