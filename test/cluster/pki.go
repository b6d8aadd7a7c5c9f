package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"
)

// certificateLifetime is longer than any test cluster lives.
const certificateLifetime = 365 * 24 * time.Hour

// identity is one certificate of the cluster: who holds it and where it is served.
type identity struct {
	name   string // the file name, without .crt and .key
	user   string // the common name: the user of the Kubernetes API
	groups []string
	ips    []string
	dns    []string
}

// identities lists everything in the cluster that has a certificate.
func identities() []identity {
	list := []identity{
		{
			name: "apiserver", user: "kube-apiserver",
			ips: []string{apiServiceIP, bridgeAddress},
			dns: []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + clusterDomain},
		},
		{name: "apiserver-kubelet", user: "kube-apiserver-kubelet-client", groups: []string{"system:masters"}},
		{name: "admin", user: "kubernetes-admin", groups: []string{"system:masters"}},
		{name: "kube-controller-manager", user: "system:kube-controller-manager", ips: []string{controlAddress}},
		{name: "kube-scheduler", user: "system:kube-scheduler", ips: []string{controlAddress}},
		{name: "kube-proxy", user: "system:kube-proxy"},
		{name: "coredns", user: dnsUser},
		{name: "provisioner", user: provisionerUser},
	}
	for _, n := range nodes {
		list = append(list, identity{
			name: n.name(), user: "system:node:" + n.name(), groups: []string{"system:nodes"},
			ips: []string{n.address()}, dns: []string{n.name()},
		})
	}
	return list
}

// writePKI makes the cluster's authority, its certificates and the key that
// signs service account tokens. What an earlier call made stays: the API
// server's data is bound to it.
func writePKI(l layout) error {
	done := l.pki("done")
	if _, err := os.Stat(done); err == nil {
		return nil
	}
	ca, err := newAuthority()
	if err != nil {
		return fmt.Errorf("making the cluster's authority: %w", err)
	}
	if err := writePair(l, "ca", ca.certificate, ca.key); err != nil {
		return err
	}
	for _, id := range identities() {
		certificate, key, err := ca.issue(id)
		if err != nil {
			return fmt.Errorf("issuing the certificate of %s: %w", id.name, err)
		}
		if err := writePair(l, id.name, certificate, key); err != nil {
			return err
		}
	}
	if err := writeServiceAccountKey(l); err != nil {
		return err
	}
	return os.WriteFile(done, nil, 0o600)
}

// authority signs the cluster's certificates.
type authority struct {
	certificate []byte // DER
	parsed      *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template, err := newTemplate("quorate-test-cluster")
	if err != nil {
		return nil, err
	}
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{certificate: der, parsed: parsed, key: key}, nil
}

// issue makes a key and a certificate for id, good as a client and, where id
// has addresses, as a server.
func (a *authority) issue(id identity) ([]byte, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template, err := newTemplate(id.user)
	if err != nil {
		return nil, nil, err
	}
	template.Subject.Organization = id.groups
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	template.DNSNames = id.dns
	for _, ip := range id.ips {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(ip))
	}
	if len(id.ips) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.parsed, key.Public(), a.key)
	return der, key, err
}

func newTemplate(commonName string) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: commonName},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(certificateLifetime),
	}, nil
}

func writePair(l layout, name string, certificate []byte, key crypto.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encoding the key of %s: %w", name, err)
	}
	return errors.Join(
		writePEM(l.pki(name+".crt"), "CERTIFICATE", certificate),
		writePEM(l.pki(name+".key"), "PRIVATE KEY", der),
	)
}

func writeServiceAccountKey(l layout) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making the service account key: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encoding the service account key: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return fmt.Errorf("encoding the service account key: %w", err)
	}
	return errors.Join(
		writePEM(l.pki("service-accounts.key"), "PRIVATE KEY", private),
		writePEM(l.pki("service-accounts.pub"), "PUBLIC KEY", public),
	)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// kubeconfigFor renders a kubeconfig with the certificates of the identity called name inside.
func kubeconfigFor(l layout, name string) ([]byte, error) {
	var encoded [3]string
	for i, file := range []string{"ca.crt", name + ".crt", name + ".key"} {
		data, err := os.ReadFile(l.pki(file))
		if err != nil {
			return nil, fmt.Errorf("writing the kubeconfig of %s: %w", name, err)
		}
		encoded[i] = base64.StdEncoding.EncodeToString(data)
	}
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters:
- name: quorate
  cluster:
    server: %s
    certificate-authority-data: %s
users:
- name: %s
  user:
    client-certificate-data: %s
    client-key-data: %s
contexts:
- name: quorate
  context:
    cluster: quorate
    user: %s
current-context: quorate
`, apiServer, encoded[0], name, encoded[1], encoded[2], name), nil
}

// writeKubeconfigs gives every client of the API its kubeconfig, and the user the administrator's.
func writeKubeconfigs(l layout) error {
	for _, name := range clients() {
		config, err := kubeconfigFor(l, name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(l.pki(name+".kubeconfig"), config, 0o600); err != nil {
			return fmt.Errorf("writing the kubeconfig of %s: %w", name, err)
		}
	}
	admin, err := kubeconfigFor(l, "admin")
	if err != nil {
		return err
	}
	return os.WriteFile(l.kubeconfig(), admin, 0o600)
}

func clients() []string {
	names := []string{"kube-controller-manager", "kube-scheduler", "kube-proxy", "coredns", "provisioner"}
	for _, n := range nodes {
		names = append(names, n.name())
	}
	return names
}
