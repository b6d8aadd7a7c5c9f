// Package deadway is a way to a server on which a connection goes dead without a word, as
// when a node on it is switched off.
package deadway

import (
	"io"
	"net"
	"sync/atomic"
	"testing"
)

// Open a way to the address, until the test ends. Once it is silent, nothing goes through
// the first connection any more, which stays open, and new ones work.
func Open(t *testing.T, to string) (address string, silence func()) {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	var dead atomic.Bool
	go func() {
		for first := true; ; first = false {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			var dialer net.Dialer
			out, err := dialer.DialContext(t.Context(), "tcp", to)
			if err != nil {
				return
			}
			lost := func() bool { return first && dead.Load() }
			go relay(in, out, lost)
			go relay(out, in, lost)
		}
	}()
	return listener.Addr().String(), func() { dead.Store(true) }
}

// relay what comes, unless it is lost.
func relay(from io.Reader, to io.WriteCloser, lost func() bool) {
	defer func() { _ = to.Close() }()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		if !lost() {
			_, _ = to.Write(buffer[:n])
		}
	}
}
