package pki

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// authority is a certificate authority that is trusted.
type authority struct {
	secret string
	pem    []byte
	cert   *x509.Certificate
	// key is nil while others have it: the certificates of this authority are issued
	// elsewhere.
	key crypto.PrivateKey
	// next signs once everybody trusts it; nil but in the first phase of a rotation.
	next *authority
	// former signed before, PEM, and is still trusted; empty but in the second phase.
	former []byte
	// since when every Secret holds what its phase needs; zero until then.
	since time.Time
}

// parseAuthority reads an authority's Secret. What is wrong is said in fixed
// words: a parser's own error could quote what it was given.
func parseAuthority(secret string, data map[string][]byte) (*authority, string) {
	a, wrong := parseSigner(secret, data, KeyCert, KeyKey)
	if a == nil {
		return nil, wrong
	}
	if len(data[KeyNextCert])+len(data[KeyNextKey]) > 0 {
		if a.next, wrong = parseSigner(secret, data, KeyNextCert, KeyNextKey); a.next == nil {
			return nil, wrong
		}
	}
	if a.former = data[KeyFormerCert]; len(a.former) > 0 && parseCert(a.former) == nil {
		return nil, "holds no certificate in " + KeyFormerCert
	}
	if word := string(data[KeySince]); a.phase() != PhaseStable && word != notYet {
		since, err := time.Parse(time.RFC3339, word)
		if err != nil {
			return nil, "holds no time in " + KeySince
		}
		a.since = since
	}
	return a, ""
}

func parseSigner(secret string, data map[string][]byte, certKey, keyKey string) (*authority, string) {
	for _, key := range []string{certKey, keyKey} {
		if len(data[key]) == 0 {
			return nil, "has no " + key
		}
	}
	if cert := parseCert(data[certKey]); cert != nil && string(data[keyKey]) == Elsewhere {
		return &authority{secret: secret, pem: data[certKey], cert: cert}, ""
	}
	pair, err := tls.X509KeyPair(data[certKey], data[keyKey])
	if err != nil {
		return nil, fmt.Sprintf("holds no certificate with its private key in %s and %s", certKey, keyKey)
	}
	if !pair.Leaf.IsCA || pair.Leaf.KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, "holds a certificate that may not sign others in " + certKey
	}
	return &authority{secret: secret, pem: data[certKey], cert: pair.Leaf, key: pair.PrivateKey}, ""
}

// newAuthority makes a self-signed authority. No two have one subject: whoever trusts
// two of them finds the right one by it, and a member tells by it whom it trusts.
func newAuthority(now time.Time, secret, namespace string) (*authority, SecretData, error) {
	number := make([]byte, 8)
	// It never fails.
	_, _ = rand.Read(number)
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: secret, Organization: []string{namespace}, SerialNumber: hex.EncodeToString(number)},
		NotBefore:             now.Add(-Backdate),
		NotAfter:              now.Add(AuthorityDuration),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	cert, key, err := sign(template, nil)
	if err != nil {
		return nil, SecretData{}, fmt.Errorf("signing authority %s: %w", secret, err)
	}
	data := map[string][]byte{KeyCert: cert, KeyKey: key}
	a, wrong := parseAuthority(secret, data)
	if a == nil {
		return nil, SecretData{}, fmt.Errorf("signing authority %s: the result %s", secret, wrong)
	}
	return a, SecretData{Name: secret, Type: corev1.SecretTypeTLS, Data: data, Why: "the cluster is being founded"}, nil
}

// authority finds the authority of a Secret, creates it, or says why it cannot
// sign; then it is nil, and every leaf of it stays as it is.
func (p *planner) authority(secret string) *authority {
	data, found := p.in.Secrets[secret]
	if !found {
		return p.createAuthority(secret)
	}
	a, wrong := parseAuthority(secret, data)
	if a == nil {
		p.problem(secret, ReasonSecretInvalid,
			"Secret %s %s — no certificate can be issued or renewed by this authority%s — restore the Secret from a backup; running members keep their certificates meanwhile",
			secret, wrong, p.firstEnd(secret))
		return nil
	}
	if keeper := p.changed(a); keeper != "" {
		p.problem(secret, ReasonAuthorityChanged,
			"the authority in Secret %s did not issue the certificates in use — members read an authority only when they start, so certificates of a new one would cut them off from each other%s — restore the former %s and %s of Secret %s from a backup (the former certificate also stands in Secret %s)",
			secret, p.firstEnd(secret), KeyCert, KeyKey, secret, keeper)
		return nil
	}
	return p.inForce(a)
}

func (p *planner) createAuthority(secret string) *authority {
	leaf := p.anyLeaf(secret)
	if p.in.Authorities != AuthorityMayBeCreated || leaf != "" {
		p.problem(secret, ReasonSecretMissing,
			"Secret %s is missing — no certificate can be issued or renewed without this authority%s — restore the Secret from a backup; running members keep their certificates meanwhile",
			secret, p.firstEnd(secret))
		return nil
	}
	if issued, wanted := p.in.Issued[secret]; wanted {
		return p.foundIssued(secret, issued)
	}
	if from, wanted := p.in.Given[secret]; wanted {
		a := p.given(secret, nil)
		if a != nil {
			p.result.Create = append(p.result.Create, SecretData{
				Name: secret, Type: corev1.SecretTypeTLS, Why: "Secret " + from.Secret + " holds the authority",
				Data: map[string][]byte{KeyCert: a.pem, KeyKey: from.Data[KeyKey]},
			})
		}
		return a
	}
	a, made, err := newAuthority(p.now, secret, p.in.Namespace)
	if err != nil {
		p.problem(secret, ReasonIssuingFailed, "the authority for Secret %s could not be made (%v) — the cluster cannot be founded with TLS — it is tried again", secret, err)
		return nil
	}
	p.result.Create = append(p.result.Create, made)
	return a
}

// inForce says whether the authority may sign at this time.
func (p *planner) inForce(a *authority) *authority {
	begin, end := a.cert.NotBefore, a.cert.NotAfter
	switch {
	case p.now.Before(begin):
		p.problem(a.secret, ReasonNotYetValid,
			"the authority in Secret %s is valid only from %s and it is %s now — nobody trusts its certificates before — correct the clock of the operator's node",
			a.secret, stamp(begin), stamp(p.now))
		return nil
	case !p.now.Before(end):
		p.problem(a.secret, ReasonAuthorityExpired,
			"the authority in Secret %s ended at %s — its certificates ended with it and connections are refused — restore service with a new cluster from a backup, or put a renewed authority with the same key in place and restart the members",
			a.secret, stamp(end))
		return nil
	case p.now.Before(end.Add(-end.Sub(begin) / 6)):
	case a.key == nil && a.next == nil:
		p.problem(a.secret, ReasonAuthorityExpiring,
			"the authority in Secret %s ends at %s, and its key is not here — no certificate can outlive it, and nobody here can make another — have certificates issued by another authority",
			a.secret, stamp(end))
	case p.in.Given[a.secret].Secret != "" && a.next == nil:
		p.problem(a.secret, ReasonAuthorityExpiring,
			"the authority in Secret %s ends at %s, and it is the user's own — no certificate can outlive it, and nobody else can make another — put another authority into Secret %s",
			a.secret, stamp(end), p.in.Given[a.secret].Secret)
	default:
		p.problem(a.secret, ReasonAuthorityExpiring,
			"the authority in Secret %s ends at %s, and its rotation, which began long ago, has not come to its end — no certificate can outlive it — see status.tls for whom it waits for",
			a.secret, stamp(end))
	}
	return a
}

// changed names a Secret that carries the former authority when every leaf in
// place was issued by another one than a. A single such leaf among others is a
// broken leaf, and is issued again.
func (p *planner) changed(a *authority) string {
	keeper := ""
	for _, want := range p.secrets() {
		for _, l := range want.leaves {
			if l.authority != a.secret {
				continue
			}
			data := p.in.Secrets[want.name]
			chain, carried := parseCerts(data[l.certKey]), parseCerts(data[l.caKey])
			if len(chain) == 0 || len(carried) == 0 {
				continue
			}
			if signed(chain, parseCerts(a.bundle())) {
				return ""
			}
			if signed(chain, carried) {
				keeper = want.name
			}
		}
	}
	return keeper
}

// signed says that one of the authorities has signed the first certificate of a chain, or
// one that it stands on.
func signed(chain, by []*x509.Certificate) bool {
	if len(chain) == 0 {
		return false
	}
	if slices.ContainsFunc(by, func(a *x509.Certificate) bool { return chain[0].CheckSignatureFrom(a) == nil }) {
		return true
	}
	next := slices.IndexFunc(chain[1:], func(a *x509.Certificate) bool { return chain[0].CheckSignatureFrom(a) == nil })
	return next >= 0 && signed(chain[1+next:], by)
}

// anyLeaf names a Secret with a leaf of the authority.
func (p *planner) anyLeaf(authority string) string {
	for name, data := range p.in.Secrets {
		for _, certKey := range certKeys(p.in.Cluster, authority, name) {
			if len(bytes.TrimSpace(data[certKey])) > 0 {
				return name
			}
		}
	}
	return ""
}

// firstEnd tells when the first leaf of the authority ends, which is how long
// there is to act.
func (p *planner) firstEnd(authority string) string {
	var first time.Time
	for _, want := range p.secrets() {
		for _, l := range want.leaves {
			cert := parseCert(p.in.Secrets[want.name][l.certKey])
			if l.authority == authority && cert != nil && (first.IsZero() || cert.NotAfter.Before(first)) {
				first = cert.NotAfter
			}
		}
	}
	if first.IsZero() {
		return ""
	}
	return " (the first one ends at " + stamp(first) + ")"
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
