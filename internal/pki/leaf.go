package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// leaf is a certificate that is wanted, and where it stands in its Secret.
type leaf struct {
	authority              string
	caKey, certKey, keyKey string
	commonName             string
	dns                    []string
	ips                    []net.IP
	uses                   []x509.ExtKeyUsage
	// dialed are the names that others connect by. A certificate of the operator's own
	// carries more; one that somebody else issues has to cover these.
	dialed []string
	// issued says that somebody else issues it.
	issued bool
}

// wanted is a Secret that holds leaves.
type wanted struct {
	name   string
	kind   corev1.SecretType
	leaves []leaf
}

var (
	forClient = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	forBoth   = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
)

// secrets are the leaf Secrets that the cluster needs, in order.
func (p *planner) secrets() []wanted {
	client := func(name, commonName string) wanted {
		return wanted{name: name, kind: corev1.SecretTypeTLS, leaves: []leaf{{
			authority: ClientCASecret(p.in.Cluster), caKey: KeyCA, certKey: KeyCert, keyKey: KeyKey,
			commonName: commonName, uses: forClient,
		}}}
	}
	all := []wanted{
		client(OperatorSecret(p.in.Cluster), OperatorName),
		client(ClientSecret(p.in.Cluster), p.in.Cluster+"-client"),
	}
	for _, m := range p.in.Members {
		all = append(all, p.member(m))
	}
	for _, want := range all {
		for i := range want.leaves {
			_, want.leaves[i].issued = p.in.Issued[want.leaves[i].authority]
		}
	}
	return all
}

// member is what a member's pod mounts. Its etcdctl speaks to the client port
// with the server's leaf, and members dial each other with the peer's, so both
// serve and dial.
func (p *planner) member(name string) wanted {
	own := []string{
		name + "." + p.in.Cluster + "." + p.in.Namespace + ".svc",
		name + "." + p.in.Cluster + "." + p.in.Namespace,
		name + "." + p.in.Cluster,
		name,
	}
	service := p.in.Cluster + "-client"
	return wanted{name: MemberSecret(name), kind: corev1.SecretTypeOpaque, leaves: []leaf{
		{
			authority: ClientCASecret(p.in.Cluster), caKey: KeyClientCA, certKey: KeyServerCert, keyKey: KeyServerKey,
			commonName: name, uses: forBoth,
			dns: append(slices.Clone(own), service, service+"."+p.in.Namespace, service+"."+p.in.Namespace+".svc", "localhost"),
			ips: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
			// etcdctl in the pod connects by the address.
			dialed: []string{own[0], service + "." + p.in.Namespace + ".svc", "127.0.0.1"},
		},
		{
			authority: PeerCASecret(p.in.Cluster), caKey: KeyPeerCA, certKey: KeyPeerCert, keyKey: KeyPeerKey,
			commonName: name, uses: forBoth, dns: own, dialed: own[:1],
		},
	}}
}

// certKeys are the keys under which a Secret of this name holds leaves of the
// authority.
func certKeys(cluster, authority, name string) []string {
	switch {
	case name == ClientCASecret(cluster), name == PeerCASecret(cluster):
		return nil
	case authority == PeerCASecret(cluster):
		return []string{KeyPeerCert}
	default:
		return []string{KeyServerCert, KeyCert}
	}
}

// parseCert reads the first certificate of a PEM file; nil if there is none.
func parseCert(file []byte) *x509.Certificate {
	block, _ := pem.Decode(file)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil
	}
	return cert
}

// parseCerts reads all certificates of a PEM file; none if any of it is something else.
func parseCerts(file []byte) (certs []*x509.Certificate) {
	for rest := file; len(bytes.TrimSpace(rest)) > 0; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return nil
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil
		}
		certs = append(certs, cert)
	}
	return certs
}

// dueAt is when two thirds of a certificate's life are over. Its life begins
// at its issue, not at the backdated start of its validity.
func dueAt(cert *x509.Certificate) time.Time {
	issued := cert.NotBefore.Add(Backdate)
	return issued.Add(cert.NotAfter.Sub(issued) * 2 / 3)
}

// fault says what is wrong with a leaf in place, or nothing.
func (l leaf) fault(data map[string][]byte, a *authority) string {
	pair, err := tls.X509KeyPair(data[l.certKey], data[l.keyKey])
	switch {
	case len(data[l.certKey]) == 0:
		return l.certKey + " is missing"
	case len(data[l.keyKey]) == 0:
		return l.keyKey + " is missing"
	case err != nil:
		return fmt.Sprintf("%s is no certificate that belongs to %s", l.certKey, l.keyKey)
	case !signed(parseCerts(data[l.certKey]), []*x509.Certificate{a.cert}):
		return fmt.Sprintf("%s was not issued by the authority in Secret %s", l.certKey, a.secret)
	case a.key == nil || l.issued:
		// Whoever issued it was asked for more than this only if it was cert-manager.
		return l.shortcoming(pair.Leaf)
	case pair.Leaf.Subject.CommonName != l.commonName:
		return l.certKey + " names somebody else"
	case !l.covered(pair.Leaf):
		return l.certKey + " does not cover all names and addresses"
	case !sameUses(pair.Leaf.ExtKeyUsage, l.uses):
		return l.certKey + " is for other uses"
	}
	return ""
}

// shortcoming says what others would miss in a certificate that somebody else issued.
func (l leaf) shortcoming(cert *x509.Certificate) string {
	if missing := l.lacks(cert); len(missing) > 0 {
		return l.certKey + " does not cover " + strings.Join(missing, ", ")
	}
	return ""
}

// covered says whether a certificate carries every name that is wanted.
func (l leaf) covered(cert *x509.Certificate) bool {
	for _, name := range l.dns {
		if !slices.Contains(cert.DNSNames, name) {
			return false
		}
	}
	for _, ip := range l.ips {
		if !slices.ContainsFunc(cert.IPAddresses, ip.Equal) {
			return false
		}
	}
	return true
}

func sameUses(a, b []x509.ExtKeyUsage) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// issue makes the leaf. It never outlives its authority.
func (l leaf) issue(now time.Time, life time.Duration, a *authority) (cert, key []byte, err error) {
	end := now.Add(life)
	if a.cert.NotAfter.Before(end) {
		end = a.cert.NotAfter
	}
	return sign(&x509.Certificate{
		Subject:               pkix.Name{CommonName: l.commonName},
		NotBefore:             now.Add(-Backdate),
		NotAfter:              end,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           l.uses,
		DNSNames:              l.dns,
		IPAddresses:           l.ips,
		BasicConstraintsValid: true,
	}, a)
}

// sign makes a key pair and has the authority sign it; without one it signs
// itself. The key is PKCS #8, which every client library reads.
func sign(template *x509.Certificate, by *authority) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making a key: %w", err)
	}
	parent, signer := template, any(private)
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, private.Public(), signer)
	if err != nil {
		return nil, nil, fmt.Errorf("signing a certificate: %w", err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, fmt.Errorf("encoding a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}), nil
}
