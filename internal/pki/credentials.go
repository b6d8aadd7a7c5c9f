package pki

import (
	"crypto/tls"
	"fmt"

	"github.com/quorate/quorate/internal/etcd"
)

// OperatorCredentials reads the operator's Secret. The error wraps
// etcd.ErrCredentials and names the key that is wrong, never what it holds.
func OperatorCredentials(data map[string][]byte) (etcd.Credentials, error) {
	if parseCert(data[KeyCA]) == nil {
		return etcd.Credentials{}, fmt.Errorf("reading %s: %w", KeyCA, etcd.ErrCredentials)
	}
	if _, err := tls.X509KeyPair(data[KeyCert], data[KeyKey]); err != nil {
		return etcd.Credentials{}, fmt.Errorf("reading %s and %s: %w", KeyCert, KeyKey, etcd.ErrCredentials)
	}
	return etcd.Credentials{CA: data[KeyCA], Certificate: data[KeyCert], Key: data[KeyKey]}, nil
}
