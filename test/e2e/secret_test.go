package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/internal/pki"
)

// secret reads what a Secret holds.
func (c cluster) secret(ctx context.Context, name string) map[string][]byte {
	GinkgoHelper()
	s := named[corev1.Secret](c.namespace, name)
	Expect(kube.Get(ctx, client.ObjectKeyFromObject(s), s)).To(Succeed())
	return s.Data
}

// credentials makes a TLS configuration of a Secret's files.
func credentials(data map[string][]byte, ca, cert, key string) *tls.Config {
	GinkgoHelper()
	pair, err := tls.X509KeyPair(data[cert], data[key])
	Expect(err).NotTo(HaveOccurred())
	pool := x509.NewCertPool()
	Expect(pool.AppendCertsFromPEM(data[ca])).To(BeTrue())
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool, MinVersion: tls.VersionTLS12}
}

// application is what <cluster>-client-tls gives to applications.
func (c cluster) application(ctx context.Context) *tls.Config {
	GinkgoHelper()
	return credentials(c.secret(ctx, pki.ClientSecret(c.name)), pki.KeyCA, pki.KeyCert, pki.KeyKey)
}
