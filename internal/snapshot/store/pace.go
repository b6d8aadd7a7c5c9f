package store

import (
	"context"
	"net"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// piece is how much may be sent at once at the least, in bytes.
	piece = 64 << 10
	// piecesPerSecond of a high rate: a timer is late by a millisecond, and with smaller pieces
	// that would be most of the time.
	piecesPerSecond = 250
)

// pace is a rate that connections share in sending. A part of an upload goes out at once
// otherwise, whatever the rate at which it was gathered: 5 MiB as fast as the network takes them,
// and the processors of whoever is on the same node are busy with that for ten milliseconds at a
// time (docs/decisions/0033).
type pace struct{ limit *rate.Limiter }

// paceOf so many bytes a second; zero for no limit.
func paceOf(bytes int64) *pace {
	if bytes <= 0 {
		return nil
	}
	return &pace{rate.NewLimiter(rate.Limit(bytes), int(max(piece, bytes/piecesPerSecond)))}
}

// dial like the store's dialer.
func (p *pace) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := dialer().DialContext(ctx, network, address)
	if err != nil || p == nil {
		return conn, err
	}
	return &pacedConn{Conn: conn, pace: p, closed: make(chan struct{})}, nil
}

// pacedConn sends at a pace. A connection has no context to wait with: whoever gives up closes it.
// A deadline does not end the wait, which is of milliseconds (see Config.SendRate).
type pacedConn struct {
	net.Conn

	pace   *pace
	close  sync.Once
	closed chan struct{}
}

func (c *pacedConn) Write(p []byte) (sent int, err error) {
	for len(p) > 0 && err == nil {
		next := p[:min(len(p), c.pace.limit.Burst())]
		if err := c.wait(c.pace.limit.ReserveN(time.Now(), len(next)).Delay()); err != nil {
			return sent, err
		}
		var n int
		n, err = c.Conn.Write(next)
		sent, p = sent+n, p[n:]
	}
	return sent, err
}

func (c *pacedConn) wait(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	due := time.NewTimer(d)
	defer due.Stop()
	select {
	case <-due.C:
		return nil
	case <-c.closed:
		return net.ErrClosed
	}
}

// Close ends a Write that waits.
func (c *pacedConn) Close() error {
	c.close.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
