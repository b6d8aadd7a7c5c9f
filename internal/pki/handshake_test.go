package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/etcd"
)

// side is one end of a connection: a leaf and the authority that it trusts.
type side struct {
	cert, key, ca []byte
}

func of(s secrets, secret, certKey, keyKey, caKey string) side {
	return side{cert: s[secret][certKey], key: s[secret][keyKey], ca: s[secret][caKey]}
}

func server(s secrets, member string) side {
	return of(s, MemberSecret(member), KeyServerCert, KeyServerKey, KeyClientCA)
}

func peer(s secrets, member string) side {
	return of(s, MemberSecret(member), KeyPeerCert, KeyPeerKey, KeyPeerCA)
}

func client(s secrets, name string) side { return of(s, name, KeyCert, KeyKey, KeyCA) }

func (s side) config(t *testing.T, at time.Time) *tls.Config {
	t.Helper()
	pair, err := tls.X509KeyPair(s.cert, s.key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(s.ca) {
		t.Fatal("no authority")
	}
	return &tls.Config{
		Certificates: []tls.Certificate{pair}, RootCAs: pool, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12,
		Time: func() time.Time { return at },
	}
}

// shake makes a real connection over loopback; both ends must accept, and a
// byte must come through, because a client learns of its refusal only then.
func shake(t *testing.T, dialed, dialing side, serverName string, at time.Time) error {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", dialed.config(t, at))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	served := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
			_, err = conn.Write([]byte{1})
			_ = conn.Close()
		}
		served <- err
	}()
	config := dialing.config(t, at)
	config.ServerName = serverName
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", listener.Addr().String(), config)
	if err == nil {
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		_, err = io.ReadFull(conn, make([]byte, 1))
		_ = conn.Close()
	} else {
		_ = listener.Close()
	}
	return errors.Join(err, <-served)
}

func TestHandshakes(t *testing.T) {
	own, other := founded(t, founders...), founded(t, founders...)
	renewed := carryOut(own, Plan(start.Add(life*2/3), inputs(own, AuthorityExpected, founders...)))
	cases := map[string]struct {
		dialed, dialing side
		serverName      string
		at              time.Time
		refused         bool
	}{
		"the operator reaches a member by its full name": {server(own, "c-0000"), client(own, "c-operator-tls"), "c-0000.c.ns.svc", start, false},
		"an application reaches a member by the Service": {server(own, "c-0001"), client(own, "c-client-tls"), "c-client.ns.svc", start, false},
		"etcdctl in the pod reaches its member":          {server(own, "c-0000"), server(own, "c-0000"), "localhost", start, false},
		"etcdctl in the pod reaches it by address":       {server(own, "c-0000"), server(own, "c-0000"), "127.0.0.1", start, false},
		"etcdctl in the pod reaches it by IPv6 address":  {server(own, "c-0000"), server(own, "c-0000"), "::1", start, false},
		"etcdctl in the pod reaches another member":      {server(own, "c-0002"), server(own, "c-0000"), "c-0002.c.ns.svc", start, false},
		"a member reaches another":                       {peer(own, "c-0001"), peer(own, "c-0000"), "c-0001.c.ns.svc", start, false},
		"a renewed peer reaches one that is not":         {peer(own, "c-0001"), peer(renewed, "c-0000"), "c-0001.c.ns.svc", start.Add(time.Hour), false},
		"a peer that is not renewed reaches a renewed":   {peer(renewed, "c-0001"), peer(own, "c-0000"), "c-0001.c.ns.svc", start.Add(time.Hour), false},
		"a renewed operator reaches a renewed member":    {server(renewed, "c-0001"), client(renewed, "c-operator-tls"), "c-0001.c.ns.svc", start.Add(2 * time.Hour), false},
		"a clock behind by five minutes is accepted":     {server(own, "c-0000"), client(own, "c-operator-tls"), "c-0000.c.ns.svc", start.Add(-Backdate), false},
		"another member's name is refused":               {server(own, "c-0001"), client(own, "c-operator-tls"), "c-0000.c.ns.svc", start, true},
		"a peer does not answer for localhost":           {peer(own, "c-0001"), peer(own, "c-0000"), "localhost", start, true},
		"another cluster's operator is refused":          {server(own, "c-0000"), side{client(other, "c-operator-tls").cert, client(other, "c-operator-tls").key, client(own, "c-operator-tls").ca}, "c-0000.c.ns.svc", start, true},
		"another cluster's member is not trusted":        {server(other, "c-0000"), client(own, "c-operator-tls"), "c-0000.c.ns.svc", start, true},
		"another cluster's peer is refused":              {peer(own, "c-0000"), side{peer(other, "c-0001").cert, peer(other, "c-0001").key, peer(own, "c-0001").ca}, "c-0000.c.ns.svc", start, true},
		"an application cannot pose as a peer":           {peer(own, "c-0000"), side{client(own, "c-client-tls").cert, client(own, "c-client-tls").key, peer(own, "c-0001").ca}, "c-0000.c.ns.svc", start, true},
		"a peer's leaf opens no client port":             {server(own, "c-0000"), side{peer(own, "c-0001").cert, peer(own, "c-0001").key, server(own, "c-0001").ca}, "c-0000.c.ns.svc", start, true},
		"an application's leaf serves nobody":            {client(own, "c-client-tls"), client(own, "c-operator-tls"), "c-client", start, true},
		"an expired server is refused":                   {server(own, "c-0000"), client(renewed, "c-operator-tls"), "c-0000.c.ns.svc", start.Add(life + time.Second), true},
		"an expired client is refused":                   {server(renewed, "c-0000"), client(own, "c-operator-tls"), "c-0000.c.ns.svc", start.Add(life + time.Second), true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			err := shake(t, tc.dialed, tc.dialing, tc.serverName, tc.at)
			if (err != nil) != tc.refused {
				t.Errorf("refused %v, want %v: %v", err != nil, tc.refused, err)
			}
		})
	}
	for _, a := range founders {
		for _, b := range founders {
			if err := shake(t, peer(own, a), peer(own, b), a+".c.ns.svc", start); err != nil {
				t.Errorf("peer %s to %s: %v", b, a, err)
			}
			if err := shake(t, server(own, a), server(own, b), a+".c.ns.svc", start); err != nil {
				t.Errorf("etcdctl of %s to %s: %v", b, a, err)
			}
		}
	}
}

func TestOperatorCredentials(t *testing.T) {
	have := founded(t, founders...)
	got, err := OperatorCredentials(have["c-operator-tls"])
	if err != nil || len(got.CA) == 0 || len(got.Certificate) == 0 || len(got.Key) == 0 {
		t.Errorf("credentials %d %d %d bytes: %v", len(got.CA), len(got.Certificate), len(got.Key), err)
	}
	for _, key := range []string{KeyCA, KeyCert, KeyKey} {
		data := copied(have)["c-operator-tls"]
		delete(data, key)
		if _, err := OperatorCredentials(data); !errors.Is(err, etcd.ErrCredentials) {
			t.Errorf("without %s: %v", key, err)
		}
	}
}
