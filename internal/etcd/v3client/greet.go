package v3client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"

	"github.com/quorate/quorate/internal/etcd"
)

var _ etcd.Greeter = (*Pool)(nil)

// Greet shakes hands with a member over a connection of its own. etcd logs that the
// connection was rejected, for no certificate is presented.
func (p *Pool) Greet(ctx context.Context, to etcd.Endpoint, ca []byte) (etcd.Shown, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return etcd.Shown{}, fmt.Errorf("greeting %s: authority: %w", to.Address, etcd.ErrCredentials)
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	var shown etcd.Shown
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", to.Address)
	if err != nil {
		return etcd.Shown{}, fmt.Errorf("greeting %s: %w: %w", to.Address, etcd.ErrUnreachable, err)
	}
	conn := tls.Client(raw, &tls.Config{
		RootCAs: roots, ServerName: to.ServerName, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"},
		VerifyPeerCertificate: func(file [][]byte, _ [][]*x509.Certificate) error {
			shown.Leaf = bytes.Clone(file[0])
			return nil
		},
		GetClientCertificate: func(asked *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			shown.Trusts = make([][]byte, 0, len(asked.AcceptableCAs))
			for _, subject := range asked.AcceptableCAs {
				shown.Trusts = append(shown.Trusts, bytes.Clone(subject))
			}
			return &tls.Certificate{}, nil
		},
	})
	err = conn.HandshakeContext(ctx)
	// It has said what was asked for, and refuses us now.
	_ = raw.Close()
	if shown.Trusts == nil {
		return etcd.Shown{}, fmt.Errorf("greeting %s: %w: the handshake showed nothing: %w", to.Address, etcd.ErrUnreachable, err)
	}
	return shown, nil
}
