package pki

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
)

// Given is an authority or a certificate that somebody else provides in a Secret, from
// which the operator's own Secret is made once it has been tried.
type Given struct {
	// Secret is the name of the other's.
	Secret string
	// Data of it; nil if it does not exist.
	Data map[string][]byte
	// Awaits is what is still waited for, in the words of whoever issues it; empty for
	// nothing.
	Awaits string
}

// Bounds of what others provide. All of it is tried at every pass, beside all other
// clusters.
const (
	// weakest and strongest are the least and the greatest number of bits of an RSA key
	// that is taken; no program in Go takes a greater one in a handshake.
	weakest, strongest = 2048, 8192
	// largest is the greatest file, in bytes.
	largest = 64 << 10
	// most certificates in a file.
	most = 20
)

// given is the user's authority for the Secret, once it was tried; nil if it cannot be
// used, which is told, or if there is none.
func (p *planner) given(secret string, present *authority) *authority {
	from, wanted := p.in.Given[secret]
	if !wanted {
		return nil
	}
	a, wrong := parseGiven(secret, from)
	if a != nil {
		wrong = p.try(a, present)
	}
	if wrong == "" {
		return a
	}
	meanwhile := "the present authority goes on"
	if present == nil {
		meanwhile = "no member can start without one"
	}
	p.problem(from.Secret, ReasonAuthorityRefused, "Secret %s %s — members and clients would refuse each other's certificates, or take those that are not meant for them, so it is not used, and %s — put a certificate authority into tls.crt of the Secret, and its private key into tls.key",
		from.Secret, wrong, meanwhile)
	return nil
}

// parseGiven reads the user's Secret. Only the first certificate counts: to trust those
// that it stands on would be to trust whatever else they have signed.
func parseGiven(secret string, from Given) (*authority, string) {
	if from.Data == nil {
		return nil, "does not exist"
	}
	for _, key := range []string{KeyCert, KeyKey} {
		if len(bytes.TrimSpace(from.Data[key])) == 0 {
			return nil, "has no " + key
		}
	}
	if wrong := cmp.Or(excess(from.Data, KeyCert), excess(from.Data, KeyKey)); wrong != "" {
		return nil, wrong
	}
	cert := parseCert(from.Data[KeyCert])
	if cert == nil {
		return nil, "holds no PEM certificate in " + KeyCert
	}
	if wrong := weakKey(cert); wrong != "" {
		return nil, wrong
	}
	file := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	pair, err := tls.X509KeyPair(file, from.Data[KeyKey])
	if err != nil {
		return nil, fmt.Sprintf("holds a key in %s that does not belong to the certificate in %s", KeyKey, KeyCert)
	}
	return &authority{secret: secret, pem: file, cert: cert, key: pair.PrivateKey}, ""
}

// try says why the authority cannot be used beside the present one; empty if it can. A
// certificate of it is made for a member, and verified as members and clients will.
func (p *planner) try(a, present *authority) string {
	if wrong := unfit(a.cert); wrong != "" {
		return wrong
	}
	switch {
	case p.now.Before(a.cert.NotBefore):
		return "holds an authority that is valid only from " + stamp(a.cert.NotBefore)
	case !p.now.Before(a.cert.NotAfter):
		return "holds an authority that ended at " + stamp(a.cert.NotAfter)
	case present != nil && !bytes.Equal(present.cert.Raw, a.cert.Raw) &&
		bytes.Equal(present.cert.RawSubject, a.cert.RawSubject) && !bytes.Equal(present.cert.RawSubjectPublicKeyInfo, a.cert.RawSubjectPublicKeyInfo):
		// A member shows whom it trusts by subject alone.
		return "holds an authority with the subject of the present one and another key, so that nobody could see which of them a member trusts"
	}
	if slices.ContainsFunc(p.others(a.secret), func(cert *x509.Certificate) bool {
		return bytes.Equal(cert.RawSubjectPublicKeyInfo, a.cert.RawSubjectPublicKeyInfo)
	}) {
		return "holds the same key for the client port and for the peer port, so that any client could join as a member"
	}
	if wrong := p.crossing(a.secret, a.cert, nil); wrong != "" {
		return wrong
	}
	return p.trial(a)
}

// others are the authorities of the other port: what the user gives for it, and what is
// trusted there now, or was, or will be.
func (p *planner) others(than string) (certs []*x509.Certificate) {
	for _, secret := range []string{ClientCASecret(p.in.Cluster), PeerCASecret(p.in.Cluster)} {
		if secret == than {
			continue
		}
		stored := p.in.Secrets[secret]
		for _, from := range p.in.Issued[secret].Leaves {
			certs = append(certs, bounded(from.Data[KeyCA])...)
		}
		if cert := first(p.in.Given[secret].Data[KeyCert]); cert != nil {
			certs = append(certs, cert)
		}
		for _, file := range [][]byte{stored[KeyCert], stored[KeyNextCert], stored[KeyFormerCert]} {
			if cert := parseCert(file); cert != nil {
				certs = append(certs, cert)
			}
		}
	}
	return certs
}

// unfit says why a certificate is none of an authority that others take.
func unfit(cert *x509.Certificate) string {
	if !cert.IsCA || !cert.BasicConstraintsValid {
		return "holds a certificate that is none of an authority (CA:FALSE)"
	}
	if cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return "holds a certificate that may not sign others (key usage)"
	}
	return weakness(cert)
}

// weakness says why a certificate proves too little, or is not read by everybody.
func weakness(cert *x509.Certificate) string {
	if wrong := weakKey(cert); wrong != "" {
		return wrong
	}
	weak := []x509.SignatureAlgorithm{x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1}
	if slices.Contains(weak, cert.SignatureAlgorithm) {
		return "holds a certificate that was signed with " + cert.SignatureAlgorithm.String() + ", which can be forged"
	}
	return ""
}

// weakKey says why a key proves too little, or is not read by everybody.
func weakKey(cert *x509.Certificate) string {
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() < weakest {
			return fmt.Sprintf("holds an RSA key of %d bits, and fewer than %d can be broken", key.N.BitLen(), weakest)
		}
	case *ecdsa.PublicKey:
	default:
		return "holds a key that is neither RSA nor ECDSA, which not every client reads"
	}
	return unread(cert)
}

// unread says that a handshake fails at the sight of the key, though the certificate
// itself can be verified.
func unread(cert *x509.Certificate) string {
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() > strongest {
			return fmt.Sprintf("holds an RSA key of %d bits, and etcd takes none of more than %d", key.N.BitLen(), strongest)
		}
	case *ecdsa.PublicKey:
		if !slices.Contains([]elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()}, key.Curve) {
			return "holds an ECDSA key on the curve " + key.Params().Name + ", and etcd takes P-256, P-384 and P-521 alone"
		}
	}
	return ""
}

// excess says that a file is larger than what is tried.
func excess(data map[string][]byte, key string) string {
	if n := len(data[key]); n > largest {
		return fmt.Sprintf("has %d bytes in %s, and more than %d are not read, for to try them would hold up other clusters", n, key, largest)
	}
	if n := bytes.Count(data[key], []byte("-----BEGIN ")); n > most {
		return fmt.Sprintf("has %d PEM blocks in %s, and more than %d are not read, for to try them would hold up other clusters", n, key, most)
	}
	return ""
}

// bounded reads all certificates of a file as far as it is tried: none if there is too
// much of them, or any of their keys.
func bounded(file []byte) []*x509.Certificate {
	if excess(map[string][]byte{KeyCert: file}, KeyCert) != "" {
		return nil
	}
	certs := parseCerts(file)
	if slices.ContainsFunc(certs, func(cert *x509.Certificate) bool { return unread(cert) != "" }) {
		return nil
	}
	return certs
}

// first reads the first certificate of a file in the same way.
func first(file []byte) *x509.Certificate {
	cert := parseCert(file)
	if cert == nil || excess(map[string][]byte{KeyCert: file}, KeyCert)+unread(cert) != "" {
		return nil
	}
	return cert
}

// trial makes the certificates that a member gets, and verifies them for each of their
// names and uses: what else the authority is bound to shows there.
func (p *planner) trial(a *authority) string {
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	for _, l := range p.member(p.in.Cluster + "-0000").leaves {
		if l.authority != a.secret {
			continue
		}
		file, _, err := l.issue(p.now, p.in.LeafDuration, a)
		if err != nil {
			return "holds an authority that did not sign a certificate when it was tried"
		}
		cert := parseCert(file)
		for _, use := range l.uses {
			if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: p.now, KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
				return "holds an authority whose certificates are refused for " + uses[use] + " (it is bound to other uses or names)"
			}
		}
		for _, name := range l.dns {
			if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: p.now, DNSName: name, KeyUsages: forBoth}); err != nil {
				return "holds an authority whose certificates are refused for the name " + name
			}
		}
	}
	return ""
}

// uses in words.
var uses = map[x509.ExtKeyUsage]string{x509.ExtKeyUsageServerAuth: "servers", x509.ExtKeyUsageClientAuth: "clients"}
