package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

// authorityOf is a Secret as a user, or cert-manager, makes it, with these changes.
func authorityOf(t *testing.T, name string, key crypto.Signer, changes ...func(*x509.Certificate)) map[string][]byte {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, NotBefore: start.Add(-time.Hour), NotAfter: start.Add(365 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}
	for _, change := range changes {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		KeyCert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		KeyKey:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}
}

func p256(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func with(data map[string][]byte, key, value string) map[string][]byte {
	data[key] = []byte(value)
	return data
}

// TestAnAuthorityThatCannotBeUsed is refused with its reason, before anything is written:
// while the cluster is founded no authority is made of it, and afterwards the present one
// goes on.
func TestAnAuthorityThatCannotBeUsed(t *testing.T) {
	key := p256(t)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	_, odd, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	corp := newIssuer(t, "corp", start.Add(-time.Hour))
	good := func() map[string][]byte { return authorityOf(t, "corp", key) }
	cases := map[string]struct {
		data map[string][]byte
		says string
	}{
		"no Secret":             {nil, "does not exist"},
		"no certificate":        {with(good(), KeyCert, " "), "has no tls.crt"},
		"no key":                {with(good(), KeyKey, ""), "has no tls.key"},
		"bad PEM":               {with(good(), KeyCert, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "holds no PEM certificate in tls.crt"},
		"a text":                {with(good(), KeyCert, "secret"), "holds no PEM certificate in tls.crt"},
		"another key":           {with(good(), KeyKey, string(authorityOf(t, "x", p256(t))[KeyKey])), "holds a key in tls.key that does not belong to the certificate in tls.crt"},
		"a leaf":                {authorityOf(t, "corp", key, func(c *x509.Certificate) { c.IsCA = false }), "is none of an authority (CA:FALSE)"},
		"one that may not sign": {authorityOf(t, "corp", key, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }), "may not sign others"},
		"one of the future":     {authorityOf(t, "corp", key, func(c *x509.Certificate) { c.NotBefore = start.Add(time.Hour) }), "valid only from 2026-"},
		"one that ended":        {authorityOf(t, "corp", key, func(c *x509.Certificate) { c.NotAfter = start.Add(-time.Minute) }), "ended at "},
		"a short key":           {authorityOf(t, "corp", small), "RSA key of 1024 bits"},
		"a key that few read":   {authorityOf(t, "corp", odd), "neither RSA nor ECDSA"},
		"a key that TLS lacks":  {authorityOf(t, "corp", p224), "on the curve P-224, and etcd takes P-256, P-384 and P-521 alone"},
		"too long a key":        {with(good(), KeyCert, string(corp.of(long())[KeyCert])), "RSA key of 8193 bits, and etcd takes none of more than 8192"},
		"a large certificate":   {with(good(), KeyCert, strings.Repeat("a", 65537)), "has 65537 bytes in tls.crt, and more than 65536 are not read"},
		"a large key":           {with(good(), KeyKey, strings.Repeat("a", 65537)), "has 65537 bytes in tls.key, and more than 65536 are not read"},
		"many certificates":     {many(good(), KeyCert), "has 21 PEM blocks in tls.crt, and more than 20 are not read"},
		"one for servers alone": {authorityOf(t, "corp", key, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), "refused for clients"},
		"one for clients alone": {authorityOf(t, "corp", key, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), "refused for servers"},
		"one bound to other names": {authorityOf(t, "corp", key, func(c *x509.Certificate) {
			c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"corp.example"}
		}), "bound to other uses or names"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			for _, have := range []secrets{nil, founded(t, founders...)} {
				policy := AuthorityMayBeCreated
				if have != nil {
					policy = AuthorityExpected
				}
				in := inputs(have, policy, founders...)
				in.Given = map[string]Given{"c-client-ca": {Secret: "corp-ca", Data: tc.data}}
				refusesOne(t, in, ReasonAuthorityRefused, "Secret corp-ca ", tc.says)
			}
		})
	}
}

// refusesOne says so of what the user provides for the client port, in three parts, and that
// nothing of that port is written for it.
func refusesOne(t *testing.T, in Inputs, reason, begins, says string) {
	t.Helper()
	r := Plan(start, in)
	if len(r.Problems) != 1 || r.Problems[0].Reason != reason || !strings.Contains(r.Problems[0].Message, says) ||
		!strings.HasPrefix(r.Problems[0].Message, begins) || strings.Count(r.Problems[0].Message, " — ") != 2 {
		t.Errorf("problems %+v, want %q", r.Problems, says)
	}
	for _, s := range append(r.Create, r.Renew...) {
		if s.Name != "c-peer-ca" {
			t.Errorf("%s is written", s.Name)
		}
	}
	if in.Authorities == AuthorityExpected && len(r.Create)+len(r.Renew) > 0 {
		t.Errorf("%v %v is written", names(r.Create), names(r.Renew))
	}
}

func TestOneAuthorityForBothPortsIsRefused(t *testing.T) {
	key := p256(t)
	in := inputs(nil, AuthorityMayBeCreated, founders...)
	in.Given = map[string]Given{
		"c-client-ca": {Secret: "one", Data: authorityOf(t, "one", key)}, "c-peer-ca": {Secret: "two", Data: authorityOf(t, "two", key)},
	}
	r := Plan(start, in)
	if len(r.Problems) != 2 || len(r.Create) > 0 || !strings.Contains(r.Problems[0].Message, "holds the same key for the client port and for the peer port, so that any client could join as a member") {
		t.Errorf("problems %+v, created %v", r.Problems, names(r.Create))
	}
}

// TestOneAuthorityAboveTheOtherPortsIsRefused: a certificate is shown with those that it
// stands on.
func TestOneAuthorityAboveTheOtherPortsIsRefused(t *testing.T) {
	root := newIssuer(t, "root", start.Add(-time.Hour))
	below := root.authority("below")
	deep := below.authority("deep")
	secret := func(i *issuer, between ...*issuer) map[string][]byte {
		private, err := x509.MarshalPKCS8PrivateKey(i.key)
		if err != nil {
			t.Fatal(err)
		}
		return map[string][]byte{
			KeyCert: slices.Concat(i.pem, i.shows(i, between...).between),
			KeyKey:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		}
	}
	join, client := "any client could join as a member", "would be taken for a client"
	for name, tc := range map[string]struct {
		clients, peers map[string][]byte
		says           string
	}{
		"two below one root":      {secret(below), secret(root.authority("beside")), ""},
		"the peers' above":        {secret(below), secret(root), join},
		"the clients' above":      {secret(root), secret(below), client},
		"the peers' far above":    {secret(deep, below), secret(root), join},
		"the clients' far above":  {secret(root), secret(deep, below, root), client},
		"one root named for both": {secret(below, root), secret(root.authority("beside"), root), ""},
	} {
		in := inputs(nil, AuthorityMayBeCreated, founders...)
		in.Given = map[string]Given{"c-client-ca": {Secret: "one", Data: tc.clients}, "c-peer-ca": {Secret: "two", Data: tc.peers}}
		r := Plan(start, in)
		if tc.says == "" {
			if len(r.Problems) > 0 {
				t.Errorf("%s: problems %+v", name, r.Problems)
			}
			continue
		}
		if len(r.Problems) != 2 || len(r.Create) > 0 || !strings.Contains(r.Problems[0].Message, tc.says) || !strings.Contains(r.Problems[1].Message, tc.says) {
			t.Errorf("%s: problems %+v, created %v", name, r.Problems, names(r.Create))
		}
	}
}

// TestTheOtherPortsAuthorityIsRefused, whoever made it, and while it is only half in place
// or half gone.
func TestTheOtherPortsAuthorityIsRefused(t *testing.T) {
	for _, key := range []string{KeyCert, KeyNextCert, KeyFormerCert} {
		have := founded(t, founders...)
		given := authorityOf(t, "corp", p256(t))
		if key == KeyCert {
			given = map[string][]byte{KeyCert: have["c-client-ca"][KeyCert], KeyKey: have["c-client-ca"][KeyKey]}
		}
		have["c-client-ca"][key] = given[KeyCert]
		if key == KeyNextCert {
			have["c-client-ca"][KeyNextKey] = given[KeyKey]
		}
		in := inputs(have, AuthorityExpected, founders...)
		in.Given = map[string]Given{"c-peer-ca": {Secret: "corp-ca", Data: given}}
		found := false
		for _, p := range Plan(start, in).Problems {
			found = found || strings.Contains(p.Message, "any client could join as a member")
		}
		if !found {
			t.Errorf("the clients' %s is taken for the peers: %+v", key, Plan(start, in).Problems)
		}
	}
}

// TestTheEndOfTheUsersAuthorityIsTold in time, and what to do: nobody rotates it by itself.
func TestTheEndOfTheUsersAuthorityIsTold(t *testing.T) {
	data := authorityOf(t, "corp", p256(t))
	in := inputs(nil, AuthorityMayBeCreated, founders...)
	in.Given = map[string]Given{"c-client-ca": {Secret: "corp-ca", Data: data}}
	in.Secrets = carryOut(nil, Plan(start, in))
	end := parseCert(data[KeyCert]).NotAfter
	for _, p := range Plan(end.Add(-end.Sub(parseCert(data[KeyCert]).NotBefore)/7), in).Problems {
		if p.Reason == ReasonAuthorityExpiring && strings.Contains(p.Message, "put another authority into Secret corp-ca") {
			return
		}
	}
	t.Error("nobody is told")
}

// TestOfAChainTheFirstAloneIsTrusted: whoever else its root has signed is no member.
func TestOfAChainTheFirstAloneIsTrusted(t *testing.T) {
	data := authorityOf(t, "corp", p256(t))
	first := bytes.Clone(data[KeyCert])
	data[KeyCert] = append(data[KeyCert], authorityOf(t, "root", p256(t))[KeyCert]...)
	in := inputs(nil, AuthorityMayBeCreated, founders...)
	in.Given = map[string]Given{"c-peer-ca": {Secret: "corp-ca", Data: data}}
	have := carryOut(nil, Plan(start, in))
	if got := have["c-0001-tls"][KeyPeerCA]; !bytes.Equal(got, first) {
		t.Errorf("a member trusts\n%s", got)
	}
	in.Secrets = have
	if r := Plan(start, in); len(r.Create)+len(r.Renew)+len(r.Problems) > 0 {
		t.Errorf("not settled: %v %v %v", names(r.Create), names(r.Renew), r.Problems)
	}
}

// TestTheUsersAuthorityTakesThePlaceOfAnother through the phases of a rotation, and by
// nothing else: neither rotateCA nor its age makes the operator make one of its own.
func TestTheUsersAuthorityTakesThePlaceOfAnother(t *testing.T) {
	given := func(data map[string][]byte) map[string]Given {
		return map[string]Given{"c-client-ca": {Secret: "corp-ca", Data: data}}
	}
	key := p256(t)
	data := authorityOf(t, "corp", key)
	in := inputs(founded(t, founders...), AuthorityExpected, founders...)
	in.Given = given(data)
	r := Plan(start.Add(time.Minute), in)
	if len(r.Renew) != 1 || r.Renew[0].Name != "c-client-ca" || !bytes.Equal(r.Renew[0].Data[KeyNextCert], data[KeyCert]) || !strings.Contains(r.Renew[0].Why, "Secret corp-ca holds another authority") {
		t.Fatalf("renewed %v", r.Renew)
	}
	if bytes.Equal(r.Renew[0].Data[KeyCert], data[KeyCert]) {
		t.Error("it signs at once")
	}

	in = inputs(nil, AuthorityMayBeCreated, founders...)
	in.Given = given(data)
	in.Secrets = carryOut(nil, Plan(start, in))
	in.Authorities, in.RotateBefore = AuthorityExpected, start.Add(time.Second)
	for _, at := range []time.Duration{time.Minute, 300 * 24 * time.Hour} {
		for _, s := range Plan(start.Add(at), in).Renew {
			if s.Name == "c-client-ca" {
				t.Errorf("after %v: %s", at, s.Why)
			}
		}
	}
	in.Given = given(authorityOf(t, "corp", p256(t)))
	if r := Plan(start.Add(time.Minute), in); len(r.Problems) != 1 || !strings.Contains(r.Problems[0].Message, "the subject of the present one and another key") {
		t.Errorf("another key under the same subject: %+v", r.Problems)
	}
	in.Given = given(authorityOf(t, "corp", key, func(c *x509.Certificate) { c.NotAfter = start.Add(700 * 24 * time.Hour) }))
	if r := Plan(start.Add(time.Minute), in); len(r.Problems) > 0 || !strings.Contains(names(r.Renew)[0], "c-client-ca") {
		t.Errorf("the same key for longer: %+v %v", r.Problems, names(r.Renew))
	}
	in.Given = nil
	if got := names(Plan(start.Add(time.Minute), in).Renew); len(got) == 0 || got[0] != "c-client-ca" {
		t.Errorf("without it rotateCA counts again: %v", got)
	}
}
