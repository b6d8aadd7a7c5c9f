package member

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// ready asks clients within a time that a test can wait for.
func ready(c *clients) answer { return c.ask(context.Background(), 200*time.Millisecond) }

var unserved = answer{http.StatusServiceUnavailable, wordUnserved}

func TestClientsThatAreNotAskedAreServed(t *testing.T) {
	if got := ready(unasked()); got.code != http.StatusOK {
		t.Errorf("without an address: %v", got)
	}
}

func TestAPortThatOnlyTakesConnectionsServesNobody(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for _, scheme := range []string{"http://", "https://"} {
		if got := ready(newClients(scheme+listener.Addr().String(), "", "")); got != unserved {
			t.Errorf("%s: %v, want %v", scheme, got, unserved)
		}
	}
	c := newClients("http://"+listener.Addr().String(), "", "")
	server := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(listener) }()
	if got := c.ask(t.Context(), time.Minute); got.code != http.StatusOK {
		t.Errorf("once it is served: %v", got)
	}
	_ = server.Close()
	if got := ready(c); got.code != http.StatusOK {
		t.Errorf("%v, but the port is asked until it has answered once: etcd and the guard end together", got)
	}
	if got := ready(newClients("http://"+listener.Addr().String(), "", "")); got != unserved {
		t.Errorf("a closed port: %v, want %v", got, unserved)
	}
}

// Who is refused was answered: a pair that is missing or no longer good keeps no member
// from the Service.
func TestARefusedCertificateIsAnAnswer(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert}
	// It says so for each connection that it refuses.
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	if got := newClients(server.URL, "/no/such/crt", "/no/such/key").ask(t.Context(), time.Minute); got.code != http.StatusOK {
		t.Errorf("%v, want an answer", got)
	}
}

// pairOf writes a certificate of nobody and its key.
func pairOf(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(t.TempDir(), "crt"), filepath.Join(t.TempDir(), "key")
	if err := errors.Join(
		os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600),
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	return certFile, keyFile
}

// Etcd would log each connection without a certificate as one that it rejected.
func TestThePairIsShown(t *testing.T) {
	cert, key := pairOf(t)
	shown := make(chan int, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		shown <- len(r.TLS.PeerCertificates)
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	defer server.Close()
	if got := newClients(server.URL, cert, key).ask(t.Context(), time.Minute); got.code != http.StatusOK {
		t.Fatalf("%v, want an answer", got)
	}
	select {
	case n := <-shown:
		if n != 1 {
			t.Errorf("%d certificates were shown, want 1", n)
		}
	default:
		t.Error("the request did not come through")
	}
}

func TestAReadyMemberServesItsClients(t *testing.T) {
	etcd := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	defer etcd.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	b := patient
	b.question = 200 * time.Millisecond
	h := newHealth(etcd.URL, newClients("http://"+listener.Addr().String(), "", ""), b)
	h.enter(phaseRunning)
	if got := answers(h, http.MethodGet, "/readyz"); got != "503 "+wordUnserved {
		t.Errorf("/readyz: %s, want 503 %s", got, wordUnserved)
	}
	if got := answers(h, http.MethodGet, "/livez"); got != "200 ok" {
		t.Errorf("/livez: %s: a member that serves nobody yet is no reason to restart it", got)
	}
}
