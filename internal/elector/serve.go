package elector

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// listen on host:port or unix:/path. A socket that nobody listens on any more was left
// behind by a process that was killed.
func listen(ctx context.Context, flag, address string) (net.Listener, error) {
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
		var d net.Dialer
		if c, err := d.DialContext(ctx, "unix", path); err == nil {
			_ = c.Close()
		} else if info, statErr := os.Lstat(path); statErr == nil && info.Mode()&fs.ModeSocket != 0 {
			_ = os.Remove(path)
		}
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("%s %s cannot be listened on: %w — who asks there would be told by somebody else, or by nobody — free it, or choose another one", flag, address, err)
	}
	return l, nil
}

// mostConnections of a listener at a time: twice as many as may wait for changes.
const mostConnections = 4096

// bounded is a listener with so many connections at most. Another one is closed at once:
// who asks is not left to wait for an answer that is not to come.
type bounded struct {
	net.Listener
	open chan struct{}
}

func bound(l net.Listener, most int) net.Listener {
	return &bounded{l, make(chan struct{}, most)}
}

// Accept implements net.Listener.
func (b *bounded) Accept() (net.Conn, error) {
	for {
		c, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case b.open <- struct{}{}:
			return &counted{Conn: c, leave: sync.OnceFunc(func() { <-b.open })}, nil
		default:
			_ = c.Close()
		}
	}
}

// counted is a connection that makes room when it is closed.
type counted struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *counted) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// serve answers on all listeners until the returned function is called.
func serve(listeners map[net.Listener]http.Handler, log *slog.Logger) (stop func(context.Context)) {
	var servers []*http.Server
	for l, h := range listeners {
		s := &http.Server{
			Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
			// OPTIONS * is one of the requests that leader-elector 0.5 answered.
			DisableGeneralOptionsHandler: true,
			ErrorLog:                     slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		}
		servers = append(servers, s)
		go func() {
			if err := s.Serve(bound(l, mostConnections)); err != nil && !errors.Is(err, http.ErrServerClosed) {
				log.Error("Answering ended", "address", l.Addr().String(), "error", err)
			}
		}()
	}
	return func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		for _, s := range servers {
			if s.Shutdown(ctx) != nil {
				_ = s.Close()
			}
		}
	}
}

// withMetrics adds /metrics to what is answered.
func withMetrics(h, metrics http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/metrics" {
			// A scraper that does not read is cut off.
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(10 * time.Second))
			metrics.ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}
