package store

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/snapshot"
)

// heard takes whatever is sent to S3.
func heard(t *testing.T, f *flaky) {
	t.Helper()
	f.behind(t, func(address string) (http.Handler, Config) {
		taking := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("ETag", `"e"`)
		})
		return taking, Config{
			URL: "s3://backups", Endpoint: "http://" + address,
			Credentials: mounted(t, map[string]string{snapshot.CredentialS3KeyID: "id", snapshot.CredentialS3Key: "secret"}),
		}
	})
}

// A part of an upload that goes out as fast as the network takes it keeps the processors from the
// members for as long, however slowly it was gathered. Objects at once share the rate, as the
// parts do that are in flight.
func TestSendingKeepsTheRate(t *testing.T) {
	const objects, size, rate = 4, 1 << 20, 8 << 20
	open := map[string]func(t *testing.T, f *flaky){"S3": heard, "GCS": flakyClouds["GCS"], "Azure": flakyClouds["Azure"]}
	for name, open := range open {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &flaky{rate: rate}
			open(t, f)
			began, done := time.Now(), make(chan error, objects)
			for i := range objects {
				go func() { done <- f.Put(t.Context(), fmt.Sprint("p/", i), make([]byte, size), Replace) }()
			}
			for range cap(done) {
				if err := <-done; err != nil {
					t.Fatal(err)
				}
			}
			// But for the first piece, which waits for nothing.
			least := time.Second * (objects*size - piece) / rate
			if took := time.Since(began); took < least {
				t.Errorf("%d bytes were sent in %s at %d a second, want at least %s", objects*size, took, rate, least)
			}
		})
	}
}

// dialed is a connection to somebody who listens, at a rate.
func dialed(t *testing.T, rate int64) net.Conn {
	t.Helper()
	server := httptest.NewServer(nil)
	t.Cleanup(server.Close)
	conn, err := paceOf(rate).dial(t.Context(), "tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestSendingWithoutARate(t *testing.T) {
	t.Parallel()
	if _, paced := dialed(t, 0).(*pacedConn); paced {
		t.Error("a connection without a rate has one")
	}
}

// Whoever gives up on a request closes its connection, and is not to wait for what the rate owes.
func TestSendingEndsWhenItIsClosed(t *testing.T) {
	t.Parallel()
	conn := dialed(t, 1)
	// The first piece waits for nothing, and the next one for a minute.
	if _, err := conn.Write(make([]byte, piece)); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := conn.Write(make([]byte, 64))
		ended <- err
	}()
	_ = conn.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("a write to what was closed ends with %v, want %v", err, net.ErrClosed)
		}
	case <-time.After(10 * time.Second):
		t.Error("a write goes on to wait when its connection is closed")
	}
}
