package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/quorate/quorate/test/mutants"
)

// issuer signs certificates as somebody else's authority does.
type issuer struct {
	t    *testing.T
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
	// between is what its own certificate stands on, for the files that it gives out.
	between []byte
}

func newIssuer(t *testing.T, name string, begin time.Time, changes ...func(*x509.Certificate)) *issuer {
	t.Helper()
	key := p256(t)
	data := authorityOf(t, name, key, append([]func(*x509.Certificate){func(c *x509.Certificate) { c.NotBefore = begin }}, changes...)...)
	return &issuer{t: t, cert: parseCert(data[KeyCert]), key: key, pem: data[KeyCert]}
}

// leaf is a Secret with a certificate for these names.
func (i *issuer) leaf(commonName string, names []string, changes ...func(*x509.Certificate)) map[string][]byte {
	i.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(8), Subject: pkix.Name{CommonName: commonName}, NotBefore: i.cert.NotBefore, NotAfter: i.cert.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: forBoth,
	}
	for _, name := range names {
		if name == "127.0.0.1" {
			template.IPAddresses = append(template.IPAddresses, []byte{127, 0, 0, 1})
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	for _, change := range changes {
		change(template)
	}
	return i.sign(template, p256(i.t))
}

func (i *issuer) sign(template *x509.Certificate, key crypto.Signer) map[string][]byte {
	i.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, i.cert, key.Public(), i.key)
	if err != nil {
		i.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		i.t.Fatal(err)
	}
	return map[string][]byte{
		KeyCert: append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), i.between...),
		KeyKey:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), KeyCA: i.pem,
	}
}

// of is a Secret for a public key that nobody need have the private one of.
func (i *issuer) of(key any) map[string][]byte {
	i.t.Helper()
	data := i.leaf("of another key", serverNames)
	der, err := x509.CreateCertificate(rand.Reader, parseCert(data[KeyCert]), i.cert, key, i.key)
	if err != nil {
		i.t.Fatal(err)
	}
	return with(data, KeyCert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
}

// authority is an issuer whose certificate this one has signed.
func (i *issuer) authority(name string) *issuer {
	i.t.Helper()
	key := p256(i.t)
	made := i.sign(&x509.Certificate{
		SerialNumber: big.NewInt(6), Subject: pkix.Name{CommonName: name}, NotBefore: i.cert.NotBefore, NotAfter: i.cert.NotAfter,
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}, key)
	first := parseCert(made[KeyCert])
	return &issuer{t: i.t, cert: first, key: key, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: first.Raw})}
}

// shows are the issuer with a chain that it gives out, and whom it says to trust.
func (i issuer) shows(trust *issuer, between ...*issuer) *issuer {
	i.pem, i.between = trust.pem, nil
	for _, b := range between {
		i.between = append(i.between, b.pem...)
	}
	return &i
}

// long is a public key that no handshake takes.
func long() *rsa.PublicKey {
	n := new(big.Int).Lsh(big.NewInt(1), 8192)
	return &rsa.PublicKey{N: n.Add(n, big.NewInt(1)), E: 65537}
}

// beside has the certificate of another Secret follow those under the key.
func beside(data map[string][]byte, key string, other map[string][]byte) map[string][]byte {
	return with(data, key, string(slices.Concat(data[key], other[KeyCert])))
}

// many has one certificate too many under the key.
func many(data map[string][]byte, key string) map[string][]byte {
	return with(data, key, strings.Repeat(string(data[key]), most+1))
}

var (
	serverNames = []string{"*.c.ns.svc", "c-client.ns.svc", "127.0.0.1"}
	peerNames   = []string{"*.c.ns.svc"}
)

// userLeaves are a user's Secrets: one for the members of each port.
func userLeaves(clients, peers *issuer, members ...string) map[string]Issued {
	out := map[string]Issued{}
	if clients != nil {
		server := clients.leaf("servers", serverNames)
		leaves := map[string]Given{
			"c-operator-tls": {Secret: "corp-operator", Data: clients.leaf(OperatorName, nil)},
			"c-client-tls":   {Secret: "corp-application", Data: clients.leaf("c-client", nil)},
		}
		for _, m := range members {
			leaves[MemberSecret(m)] = Given{Secret: "corp-server", Data: server}
		}
		out["c-client-ca"] = Issued{Leaves: leaves}
	}
	if peers != nil {
		peer := peers.leaf("peers", peerNames)
		leaves := map[string]Given{}
		for _, m := range members {
			leaves[MemberSecret(m)] = Given{Secret: "corp-peer", Data: peer}
		}
		out["c-peer-ca"] = Issued{Leaves: leaves}
	}
	return out
}

// TestACertificateThatCannotBeUsed is refused with its reason, before anything is written:
// while the cluster is founded nobody gets one, and afterwards the present ones go on.
func TestACertificateThatCannotBeUsed(t *testing.T) {
	corp, other := newIssuer(t, "corp", start.Add(-time.Hour)), newIssuer(t, "other", start.Add(-time.Hour))
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	leaf := func(changes ...func(*x509.Certificate)) map[string][]byte {
		return corp.leaf("servers", serverNames, changes...)
	}
	encrypted := func(block *pem.Block) map[string][]byte {
		return with(leaf(), KeyKey, string(pem.EncodeToMemory(block)))
	}
	short := func() map[string][]byte {
		template := parseCert(leaf()[KeyCert])
		return corp.sign(&x509.Certificate{SerialNumber: big.NewInt(9), Subject: template.Subject, NotBefore: template.NotBefore, NotAfter: template.NotAfter}, small)
	}
	self := authorityOf(t, "self", p256(t), func(c *x509.Certificate) {
		c.IsCA, c.DNSNames, c.KeyUsage = false, serverNames, x509.KeyUsageDigitalSignature
	})
	self[KeyCA] = self[KeyCert]
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	old := &issuer{t: t, key: p224, pem: authorityOf(t, "old", p224)[KeyCert]}
	old.cert = parseCert(old.pem)
	ended := newIssuer(t, "ended", start.Add(-time.Hour), func(c *x509.Certificate) { c.NotAfter = start.Add(-time.Minute) })
	cases := map[string]struct {
		data map[string][]byte
		says string
	}{
		"no Secret":                  {nil, "does not exist"},
		"no certificate":             {with(leaf(), KeyCert, " "), "has no tls.crt"},
		"no key":                     {with(leaf(), KeyKey, ""), "has no tls.key"},
		"no authority":               {with(leaf(), KeyCA, ""), "has no ca.crt"},
		"bad PEM":                    {with(leaf(), KeyCert, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "holds no PEM certificate in tls.crt"},
		"bad PEM of the authority":   {with(leaf(), KeyCA, "authority"), "holds no PEM certificate in ca.crt"},
		"a key that is none":         {with(leaf(), KeyKey, "key"), "holds no PEM private key in tls.key"},
		"an encrypted key":           {encrypted(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{1}}), "that is encrypted, and etcd takes no passphrase"},
		"a key encrypted as of old":  {encrypted(&pem.Block{Type: "EC PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED"}, Bytes: []byte{1}}), "that is encrypted, and etcd takes no passphrase"},
		"another key":                {with(leaf(), KeyKey, string(leaf()[KeyKey])), "holds a key in tls.key that does not belong to the certificate in tls.crt"},
		"a short key":                {short(), "RSA key of 1024 bits"},
		"of the future":              {leaf(func(c *x509.Certificate) { c.NotBefore = start.Add(time.Hour) }), "valid only from 2026-03-01T13:00:00Z and it is 2026-03-01T12:00:00Z now"},
		"expired":                    {leaf(func(c *x509.Certificate) { c.NotAfter = start.Add(-time.Second) }), "ended at 2026-03-01T11:59:59Z"},
		"signed by another":          {with(leaf(), KeyCA, string(other.pem)), "that no authority in ca.crt has signed"},
		"of an authority that ended": {ended.leaf("servers", serverNames, func(c *x509.Certificate) { c.NotAfter = start.Add(time.Hour) }), "holds a certificate that ended at 2026-03-01T11:59:00Z in ca.crt"},
		"signed by itself":           {self, "is none of an authority (CA:FALSE), and is to be trusted in ca.crt"},
		"for servers alone":          {leaf(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), "refused for clients (extended key usage)"},
		"for clients alone":          {leaf(func(c *x509.Certificate) { c.ExtKeyUsage = forClient }), "refused for servers (extended key usage)"},
		"for encryption alone":       {leaf(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }), "key usage lacks digital signature"},
		"without the Service's name": {corp.leaf("servers", []string{"*.c.ns.svc", "127.0.0.1"}), "does not cover c-client.ns.svc —"},
		"for one member alone":       {corp.leaf("servers", []string{"c-0000.c.ns.svc", "c-client.ns.svc", "127.0.0.1"}), "does not cover c-0001.c.ns.svc, c-0002.c.ns.svc —"},
		"a key that is too long":     {corp.of(long()), "RSA key of 8193 bits, and etcd takes none of more than 8192 (certificate 1 of tls.crt)"},
		"a curve that TLS lacks":     {corp.sign(parseCert(leaf()[KeyCert]), p224), "on the curve P-224, and etcd takes P-256, P-384 and P-521 alone (certificate 1 of tls.crt)"},
		"a short key in between":     {beside(leaf(), KeyCert, corp.of(&small.PublicKey)), "RSA key of 1024 bits, and fewer than 2048 can be broken (certificate 2 of tls.crt)"},
		"too long a key in between":  {beside(leaf(), KeyCert, corp.of(long())), "RSA key of 8193 bits, and etcd takes none of more than 8192 (certificate 2 of tls.crt)"},
		"too long a key to trust":    {beside(leaf(), KeyCA, corp.of(long())), "RSA key of 8193 bits, and etcd takes none of more than 8192 (certificate 2 of ca.crt)"},
		"a curve to trust":           {old.leaf("servers", serverNames), "on the curve P-224, and etcd takes P-256, P-384 and P-521 alone (certificate 1 of ca.crt)"},
		"a large certificate":        {with(leaf(), KeyCert, strings.Repeat("a", 65537)), "has 65537 bytes in tls.crt, and more than 65536 are not read"},
		"a large key":                {with(leaf(), KeyKey, strings.Repeat("a", 65537)), "has 65537 bytes in tls.key, and more than 65536 are not read"},
		"a large authority":          {with(leaf(), KeyCA, strings.Repeat("a", 65537)), "has 65537 bytes in ca.crt, and more than 65536 are not read"},
		"a long chain":               {many(leaf(), KeyCert), "has 21 PEM blocks in tls.crt, and more than 20 are not read"},
		"many authorities":           {many(leaf(), KeyCA), "has 21 PEM blocks in ca.crt, and more than 20 are not read"},
		"without any name":           {corp.leaf("c-0000.c.ns.svc", nil), "does not cover c-0000.c.ns.svc, c-client.ns.svc, 127.0.0.1, c-0001.c.ns.svc, c-0002.c.ns.svc —"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			for _, have := range []secrets{nil, founded(t, founders...)} {
				policy := AuthorityMayBeCreated
				if have != nil {
					policy = AuthorityExpected
				}
				in := inputs(have, policy, founders...)
				in.Issued = userLeaves(corp, nil, founders...)
				for _, m := range founders {
					in.Issued["c-client-ca"].Leaves[MemberSecret(m)] = Given{Secret: "corp-server", Data: tc.data}
				}
				refusesOne(t, in, ReasonCertificateRefused, "Secret corp-server ", tc.says)
			}
		})
	}
}

// TestTheHoldersNameIsTried: the operator is root to etcd, and nobody else is.
func TestTheHoldersNameIsTried(t *testing.T) {
	corp := newIssuer(t, "corp", start.Add(-time.Hour))
	for own, commonName := range map[string]string{"c-operator-tls": "quorate", "c-client-tls": OperatorName, "c-0001-tls": OperatorName} {
		in := inputs(nil, AuthorityMayBeCreated, founders...)
		in.Issued = userLeaves(corp, nil, founders...)
		in.Issued["c-client-ca"].Leaves[own] = Given{Secret: "corp", Data: corp.leaf(commonName, serverNames)}
		r := Plan(start, in)
		if len(r.Problems) != 1 || !strings.Contains(r.Problems[0].Message, "common name is") || slices.Contains(names(r.Create), "c-client-ca") {
			t.Errorf("%s of %q: %+v, created %v", own, commonName, r.Problems, names(r.Create))
		}
	}
}

// TestTheHoldersKeyIsTried: whoever has the operator's needs no certificate of its own, for
// the operator's is shown in every handshake.
func TestTheHoldersKeyIsTried(t *testing.T) {
	corp, peers := newIssuer(t, "corp", start.Add(-time.Hour)), newIssuer(t, "peers", start.Add(-time.Hour))
	key := p256(t)
	operator := corp.sign(parseCert(corp.leaf(OperatorName, nil)[KeyCert]), key)
	for own, from := range map[string]struct {
		port string
		data map[string][]byte
	}{
		"c-client-tls": {"c-client-ca", corp.sign(parseCert(corp.leaf("c-client", nil)[KeyCert]), key)},
		"c-0001-tls":   {"c-client-ca", corp.sign(parseCert(corp.leaf("servers", serverNames)[KeyCert]), key)},
		"c-0002-tls":   {"c-peer-ca", peers.sign(parseCert(peers.leaf("peers", peerNames)[KeyCert]), key)},
	} {
		in := inputs(nil, AuthorityMayBeCreated, founders...)
		in.Issued = userLeaves(corp, peers, founders...)
		in.Issued["c-client-ca"].Leaves["c-operator-tls"] = Given{Secret: "corp-operator", Data: operator}
		in.Issued[from.port].Leaves[own] = Given{Secret: "corp", Data: from.data}
		r := Plan(start, in)
		if len(r.Problems) != 1 || !strings.Contains(r.Problems[0].Message, "Secret corp holds the operator's own key") || slices.Contains(names(r.Create), from.port) {
			t.Errorf("%s: %+v, created %v", own, r.Problems, names(r.Create))
		}
	}
}

// TestOthersAuthorityAboveTheOtherPortsIsRefused: a port takes whatever is shown with the
// certificates that lead to whom it trusts.
func TestOthersAuthorityAboveTheOtherPortsIsRefused(t *testing.T) {
	root, apart := newIssuer(t, "root", start.Add(-time.Hour)), newIssuer(t, "apart", start.Add(-time.Hour))
	one, two := root.authority("one"), root.authority("two")
	deep := one.authority("deep")
	join, client := "any client could join as a member", "would be taken for a client"
	crossed := apart.shows(apart, one)
	for name, tc := range map[string]struct {
		clients, peers *issuer
		says           string
	}{
		"one root above two that are trusted": {one, two, ""},
		"one root named beside them":          {one.shows(&issuer{pem: slices.Concat(one.pem, root.pem)}), two.shows(&issuer{pem: slices.Concat(two.pem, root.pem)}), ""},
		"the peers' above the clients'":       {one, root, join},
		"the clients' above the peers'":       {root, one, client},
		"the peers' far above the clients'":   {deep.shows(&issuer{pem: slices.Concat(deep.pem, one.pem)}), root, join},
		"one in the clients' chain":           {one.shows(root, one), one, "of the other port, so that"},
		"one in the peers' chain":             {one, one.shows(root, one), "of the other port, so that"},
		"one shown beside the clients' chain": {crossed, root, join},
		"one shown beside the peers' chain":   {root, crossed, client},
	} {
		t.Run(name, func(t *testing.T) {
			in := inputs(nil, AuthorityMayBeCreated, founders...)
			in.Issued = userLeaves(tc.clients, tc.peers, founders...)
			r := Plan(start, in)
			if tc.says == "" {
				if len(r.Problems) > 0 {
					t.Errorf("problems %+v", r.Problems)
				}
				return
			}
			if len(r.Create) > 0 || len(r.Problems) == 0 {
				t.Fatalf("problems %+v, created %v", r.Problems, names(r.Create))
			}
			for _, problem := range r.Problems {
				if !strings.Contains(problem.Message, tc.says) || strings.Count(problem.Message, " — ") != 2 {
					t.Errorf("%s, want %q", problem.Message, tc.says)
				}
			}
		})
	}

	// Beside one that is in place the new one alone is refused.
	in := inputs(nil, AuthorityMayBeCreated, founders...)
	in.Issued = userLeaves(one, apart, founders...)
	in.Secrets, in.Authorities = carryOut(nil, Plan(start, in)), AuthorityExpected
	in.Issued = userLeaves(nil, root, founders...)
	if r := Plan(start.Add(time.Minute), in); len(r.Problems) != 1 || !strings.Contains(r.Problems[0].Message, "Secret corp-peer holds an authority that the certificates of the other port stand on, so that "+join) || slices.Contains(names(r.Renew), "c-peer-ca") {
		t.Errorf("problems %+v, renewed %v", r.Problems, names(r.Renew))
	}
}

// TestOthersCertificatesOfOneNameAreTriedWithinBounds: each of them could have signed each
// other.
func TestOthersCertificatesOfOneNameAreTriedWithinBounds(t *testing.T) {
	clients, peers := newIssuer(t, "corp", start.Add(-time.Hour)), newIssuer(t, "apart", start.Add(-time.Hour))
	in := inputs(nil, AuthorityMayBeCreated, founders...)
	in.Issued = userLeaves(clients, peers, founders...)
	for own, from := range in.Issued["c-client-ca"].Leaves {
		from.Data = maps.Clone(from.Data)
		for range most - 1 {
			from.Data[KeyCert] = slices.Concat(from.Data[KeyCert], newIssuer(t, "corp", start).pem)
		}
		in.Issued["c-client-ca"].Leaves[own] = from
	}
	r := Plan(start, in)
	if len(r.Create) > 0 || len(r.Problems) == 0 || !strings.Contains(r.Problems[0].Message, "so many certificates of one name") {
		t.Errorf("problems %+v, created %v", r.Problems, names(r.Create))
	}
}

// TestOthersAuthorityForBothPortsIsRefused: whoever has a client's certificate could
// join as a member.
func TestOthersAuthorityForBothPortsIsRefused(t *testing.T) {
	corp := newIssuer(t, "corp", start.Add(-time.Hour))
	in := inputs(nil, AuthorityMayBeCreated, founders...)
	in.Issued = userLeaves(corp, corp, founders...)
	r := Plan(start, in)
	if len(r.Create) > 0 || len(r.Problems) == 0 || !strings.Contains(r.Problems[0].Message, "holds the authority of the other port in ca.crt, so that any client could join as a member") {
		t.Errorf("problems %+v, created %v", r.Problems, names(r.Create))
	}
	in = inputs(founded(t, founders...), AuthorityExpected, founders...)
	own, _ := parseAuthority("c-client-ca", in.Secrets["c-client-ca"])
	in.Issued = userLeaves(nil, &issuer{t: t, cert: own.cert, key: own.key.(*ecdsa.PrivateKey), pem: own.pem}, founders...)
	if r := Plan(start.Add(time.Minute), in); len(r.Renew) > 0 || len(r.Problems) != 1 || !strings.Contains(r.Problems[0].Message, "any client could join as a member") {
		t.Errorf("the clients' authority is taken for the peers: %+v %v", r.Problems, names(r.Renew))
	}
}

// TestFoundingWithCertificatesOfOthers: each Secret gets what was issued for it, the
// authority has no key, and nothing more is to be done.
func TestFoundingWithCertificatesOfOthers(t *testing.T) {
	clients, peers := newIssuer(t, "clients", start.Add(-time.Hour)), newIssuer(t, "peers", start.Add(-time.Hour))
	in := inputs(nil, AuthorityMayBeCreated, founders...)
	in.Issued = userLeaves(clients, peers, founders...)
	r := Plan(start, in)
	if diff := cmp.Diff(SecretNames("c", founders), names(r.Create)); diff != "" || len(r.Problems) > 0 {
		t.Fatalf("created (-want +got):\n%s\n%+v", diff, r.Problems)
	}
	have := carryOut(nil, r)
	if string(have["c-client-ca"][KeyKey]) != Elsewhere || !bytes.Equal(have["c-0001-tls"][KeyPeerCA], peers.pem) ||
		!bytes.Equal(have["c-operator-tls"][KeyCert], in.Issued["c-client-ca"].Leaves["c-operator-tls"].Data[KeyCert]) {
		t.Errorf("Secrets hold something else: %s", have["c-client-ca"][KeyKey])
	}
	in.Secrets, in.Authorities, in.RotateBefore = have, AuthorityExpected, start.Add(time.Minute)
	if r := Plan(start.Add(time.Hour), in); len(r.Create)+len(r.Renew)+len(r.Problems) > 0 || !r.NextRenewal.IsZero() {
		t.Errorf("not settled: %v %v %v, again at %v", names(r.Create), names(r.Renew), r.Problems, r.NextRenewal)
	}

	// A renewal by the same authority is taken as it is, and no authority is rotated for it.
	renewed := clients.leaf("servers", serverNames)
	for _, m := range founders {
		in.Issued["c-client-ca"].Leaves[MemberSecret(m)] = Given{Secret: "corp-server", Data: renewed}
	}
	r = Plan(start.Add(time.Hour), in)
	if diff := cmp.Diff([]string{"c-0000-tls", "c-0001-tls", "c-0002-tls"}, names(r.Renew)); diff != "" || !bytes.Equal(r.Renew[0].Data[KeyServerKey], renewed[KeyKey]) {
		t.Errorf("renewed (-want +got):\n%s", diff)
	}
	if !bytes.Equal(r.Renew[0].Data[KeyPeerCert], have["c-0000-tls"][KeyPeerCert]) {
		t.Error("the other port's certificate is another one")
	}
}

// TestABadRenewalIsNotMounted: the present certificate goes on.
func TestABadRenewalIsNotMounted(t *testing.T) {
	corp := newIssuer(t, "corp", start.Add(-time.Hour))
	for name, bad := range map[string]map[string][]byte{
		"without a name": corp.leaf("servers", serverNames[1:]),
		"of the future":  corp.leaf("servers", serverNames, func(c *x509.Certificate) { c.NotBefore = start.Add(24 * time.Hour) }),
		"another key":    with(corp.leaf("servers", serverNames), KeyKey, string(corp.leaf("servers", serverNames)[KeyKey])),
	} {
		in := inputs(nil, AuthorityMayBeCreated, founders...)
		in.Issued = userLeaves(corp, nil, founders...)
		in.Secrets, in.Authorities = carryOut(nil, Plan(start, in)), AuthorityExpected
		in.Issued["c-client-ca"].Leaves["c-0001-tls"] = Given{Secret: "corp-new", Data: bad}
		r := Plan(start.Add(time.Minute), in)
		if len(r.Renew) > 0 || len(r.Problems) != 1 || !strings.Contains(r.Problems[0].Message, "the present certificates go on") {
			t.Errorf("%s: %v is written, problems %+v", name, names(r.Renew), r.Problems)
		}
	}
}

// TestWhoIsWaitedForWhenNobodyHereCanSign: whoever runs, and nobody who cannot start before
// the next authority signs.
func TestWhoIsWaitedForWhenNobodyHereCanSign(t *testing.T) {
	members := append(slices.Clone(founders), "c-0003")
	in := inputs(nil, AuthorityMayBeCreated, founders...)
	in.Issued = userLeaves(newIssuer(t, "one", start.Add(-time.Hour)), nil, members...)
	in.Secrets, in.Authorities = carryOut(nil, Plan(start, in)), AuthorityExpected
	in.Members, in.Soak = members, 10*time.Minute
	in.Issued = userLeaves(newIssuer(t, "two", start.Add(-time.Minute)), nil, members...)
	for range 4 {
		in.Secrets = carryOut(in.Secrets, Plan(start, in))
	}
	late := start.Add(in.Soak)
	r := Plan(late, in)
	if r.Ask == nil || !slices.Equal(r.Ask.Members, founders) || !slices.Equal(r.Ask.Without, members[3:]) || in.Secrets["c-0003-tls"] != nil {
		t.Fatalf("asked %+v", r.Ask)
	}
	if got := reasons(r.Problems); !slices.Equal(got, []string{"c-0003-tls CertificateNotIssued"}) {
		t.Errorf("problems %v", got)
	}
	in.Shown = map[string]Shown{}
	if r = Plan(late, in); !slices.Equal(r.Rotations[0].Waiting, founders) || len(r.Renew) > 0 {
		t.Errorf("waited for %v, %v is written", r.Rotations[0].Waiting, names(r.Renew))
	}
	a, _ := parseAuthority("c-client-ca", in.Secrets["c-client-ca"])
	for _, m := range founders {
		in.Shown[m] = Shown{Client: Port{Trusts: [][]byte{a.next.cert.RawSubject}}}
	}
	if r = Plan(late, in); !slices.Equal(names(r.Renew), []string{"c-client-ca"}) {
		t.Errorf("all have come as far, and %v is written", names(r.Renew))
	}
	in.Secrets = carryOut(in.Secrets, r)
	if r = Plan(late, in); !slices.Equal(names(r.Create), []string{"c-0003-tls"}) {
		t.Errorf("created %v", names(r.Create))
	}
}

// TestOthersAuthorityThatNobodyUsesYetIsReplaced at once: a cluster that was never
// founded would wait for ever for those who have to trust both.
func TestOthersAuthorityThatNobodyUsesYetIsReplaced(t *testing.T) {
	one, two := newIssuer(t, "one", start.Add(-time.Hour)), newIssuer(t, "two", start.Add(-time.Minute))
	in := inputs(nil, AuthorityMayBeCreated, founders...)
	in.Issued = userLeaves(one, nil, founders...)
	in.Secrets = carryOut(nil, Result{Create: Plan(start, in).Create[:2]})
	in.Issued = userLeaves(two, nil, founders...)
	for range 3 {
		in.Secrets = carryOut(in.Secrets, Plan(start, in))
	}
	if !bytes.Equal(in.Secrets["c-client-ca"][KeyCert], two.pem) || !bytes.Equal(in.Secrets["c-0000-tls"][KeyClientCA], two.pem) {
		t.Errorf("in the end: %v, problems %+v", slices.Sorted(keysOf(in.Secrets)), Plan(start, in).Problems)
	}
}

func keysOf(s secrets) func(func(string) bool) {
	return func(yield func(string) bool) {
		for name := range s {
			if !yield(name) {
				return
			}
		}
	}
}

// TestFoundingWithTwoAuthoritiesOfOnePort is refused: who is of one would refuse who is of
// the other.
func TestFoundingWithTwoAuthoritiesOfOnePort(t *testing.T) {
	one, two := newIssuer(t, "one", start.Add(-time.Hour)), newIssuer(t, "two", start.Add(-time.Hour))
	in := inputs(nil, AuthorityMayBeCreated, founders...)
	in.Issued = userLeaves(one, nil, founders...)
	in.Issued["c-client-ca"].Leaves["c-0001-tls"] = Given{Secret: "corp-other", Data: two.leaf("other", serverNames)}
	r := Plan(start, in)
	if len(r.Problems) != 1 || !strings.Contains(r.Problems[0].Message, "holds a certificate of another authority than the others of this port") || slices.Contains(names(r.Create), "c-client-ca") {
		t.Errorf("%+v, created %v", r.Problems, names(r.Create))
	}
}

// TestACertificateMayStandOnOthers in between, which are served with it.
func TestACertificateMayStandOnOthers(t *testing.T) {
	root := newIssuer(t, "root", start.Add(-time.Hour))
	key := p256(t)
	template := parseCert(authorityOf(t, "between", key)[KeyCert])
	between := root.sign(&x509.Certificate{
		SerialNumber: big.NewInt(5), Subject: template.Subject, NotBefore: template.NotBefore, NotAfter: template.NotAfter,
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}, key)
	corp := &issuer{t: t, cert: parseCert(between[KeyCert]), key: key, pem: root.pem, between: between[KeyCert]}
	in := inputs(nil, AuthorityMayBeCreated, founders...)
	in.Issued = userLeaves(corp, nil, founders...)
	in.Secrets = carryOut(nil, Plan(start, in))
	in.Authorities = AuthorityExpected
	if r := Plan(start.Add(time.Minute), in); len(r.Create)+len(r.Renew)+len(r.Problems) > 0 {
		t.Fatalf("not settled: %v %v %v", names(r.Create), names(r.Renew), r.Problems)
	}
	served := in.Secrets["c-0000-tls"][KeyServerCert]
	if n := len(parseCerts(served)); n != 2 || !bytes.Equal(in.Secrets["c-0000-tls"][KeyClientCA], root.pem) {
		t.Errorf("%d certificates are served", n)
	}
	a, _ := parseAuthority("c-client-ca", in.Secrets["c-client-ca"])
	p := planner{now: start, in: in}
	shown := Port{Leaf: parseCert(served).Raw, Trusts: [][]byte{root.cert.RawSubject}}
	if !a.followed(shown, p.between(a, "c-0000")) {
		t.Error("a member that serves it is taken for one that does not")
	}
}

// TestTheEndOfACertificateOfOthersIsTold in time, for nobody here can issue another.
func TestTheEndOfACertificateOfOthersIsTold(t *testing.T) {
	corp := newIssuer(t, "corp", start)
	in := inputs(nil, AuthorityMayBeCreated, founders...)
	in.Issued = userLeaves(corp, nil, founders...)
	in.Issued["c-client-ca"].Leaves["c-client-tls"] = Given{Secret: "corp-application", Data: corp.leaf("c-client", nil, func(c *x509.Certificate) { c.NotAfter = start.Add(6 * time.Hour) })}
	in.Secrets, in.Authorities = carryOut(nil, Plan(start, in)), AuthorityExpected
	for at, want := range map[time.Duration][]string{
		4 * time.Hour: nil, 5 * time.Hour: {"c-client-tls CertificateExpiring"}, 7 * time.Hour: {"corp-application CertificateRefused", "c-client-tls CertificateExpiring"},
	} {
		r := Plan(start.Add(at), in)
		if diff := cmp.Diff(want, slices.DeleteFunc(reasons(r.Problems), func(s string) bool { return strings.Contains(s, "c-peer") })); diff != "" {
			t.Errorf("after %v (-want +got):\n%s", at, diff)
		}
	}
}

// TestCertManagerIsAskedForWhatWouldBeIssuedHere, and what it says is told.
func TestCertManagerIsAskedForWhatWouldBeIssuedHere(t *testing.T) {
	in := inputs(nil, AuthorityMayBeCreated, "c-0000")
	in.Issued = map[string]Issued{"c-client-ca": {By: ByCertManager, Leaves: map[string]Given{
		"c-operator-tls": {Secret: "c-operator-issued", Awaits: "Issuing certificate as Secret does not exist"},
	}}}
	r := Plan(start, in)
	if len(r.Requests) != 3 {
		t.Fatalf("requests %+v", r.Requests)
	}
	p := planner{now: start, in: in}
	own := p.member("c-0000").leaves[0]
	server := r.Requests[2]
	if diff := cmp.Diff(Request{
		Slot:       Slot{Authority: "c-client-ca", Own: "c-0000-tls", Issued: "c-0000-server-issued", Of: HolderMember},
		CommonName: "c-0000", DNSNames: own.dns, IPAddresses: []string{"127.0.0.1", "::1"},
		Uses: []string{"digital signature", "server auth", "client auth"}, Life: life, RenewBefore: life / 3,
	}, server); diff != "" {
		t.Errorf("a member's (-want +got):\n%s", diff)
	}
	if operator := r.Requests[0]; operator.CommonName != OperatorName || !slices.Equal(operator.Uses, []string{"digital signature", "client auth"}) || operator.DNSNames != nil {
		t.Errorf("the operator's: %+v", operator)
	}
	told := false
	for _, problem := range r.Problems {
		told = told || (problem.Reason == ReasonCertificateNotIssued && strings.Contains(problem.Message, "has not issued c-operator-issued (Issuing certificate as Secret does not exist)"))
	}
	if !told {
		t.Errorf("problems %+v", r.Problems)
	}

	in.Issued["c-client-ca"] = Issued{By: ByCertManager, Unavailable: "cert-manager is away — why — do"}
	if got := reasons(Plan(start, in).Problems); !slices.Equal(got, []string{"c-client-ca IssuerUnavailable"}) {
		t.Errorf("problems %v, want the one that explains all others", got)
	}
}

// TestWhereCertificatesMayExistIsNoted before the first of a founded cluster does, and for
// as long as one does: they have to go when the spec names somebody else.
func TestWhereCertificatesMayExistIsNoted(t *testing.T) {
	corp := newIssuer(t, "corp", start.Add(-time.Hour))
	in := inputs(founded(t, founders...), AuthorityExpected, founders...)
	in.Issued = userLeaves(corp, nil, founders...)
	byCertManager := in.Issued["c-client-ca"]
	byCertManager.By = ByCertManager
	in.Issued["c-client-ca"] = byCertManager
	r := Plan(start.Add(time.Minute), in)
	if len(r.Renew) != 1 || string(r.Renew[0].Data[KeyIssuer]) != ByCertManager || r.Renew[0].Data[KeyNextCert] != nil {
		t.Fatalf("first %+v", r.Renew)
	}
	in.Secrets = carryOut(in.Secrets, r)
	in.Issued = nil
	in.Leftover = []string{"c-client-ca"}
	if r := Plan(start.Add(time.Minute), in); len(r.Renew) > 0 {
		t.Errorf("the note is changed while Certificates exist: %v", names(r.Renew))
	}
	in.Leftover = nil
	r = Plan(start.Add(time.Minute), in)
	if len(r.Renew) != 1 || r.Renew[0].Data[KeyIssuer] != nil || r.Renew[0].Data[KeyCert] == nil {
		t.Errorf("the note stays: %+v", names(r.Renew))
	}
}

// TestAnotherAuthorityOfOneSubjectIsRefused: a member shows whom it trusts by it.
func TestAnotherAuthorityOfOneSubjectIsRefused(t *testing.T) {
	one, two := newIssuer(t, "corp", start.Add(-time.Hour)), newIssuer(t, "corp", start.Add(-time.Hour))
	in := inputs(nil, AuthorityMayBeCreated, founders...)
	in.Issued = userLeaves(one, nil, founders...)
	in.Secrets, in.Authorities = carryOut(nil, Plan(start, in)), AuthorityExpected
	in.Issued = userLeaves(two, nil, founders...)
	r := Plan(start.Add(time.Minute), in)
	if len(r.Renew) > 0 || len(r.Problems) == 0 || !strings.Contains(r.Problems[0].Message, "subject of the present one and another key") {
		t.Errorf("%+v, renewed %v", r.Problems, names(r.Renew))
	}
}

// TestWhoeverIssuesEverybodyTrustsEverybody: at each cut between two writes, from the
// operator's own certificates to those of others, from one authority of others to the
// next, and back.
func TestWhoeverIssuesEverybodyTrustsEverybody(t *testing.T) {
	all := append(slices.Clone(founders), "c-0003")
	pair := func(name string, at time.Time) map[string]Issued {
		return userLeaves(newIssuer(t, name+" clients", at), newIssuer(t, name+" peers", at), all...)
	}
	before := start.Add(2 * time.Hour)
	for name, tc := range map[string]struct{ from, to map[string]Issued }{
		"to others": {nil, pair("corp", before)}, "from others to others": {pair("old", start.Add(-time.Hour)), pair("new", before)}, "back": {pair("old", start.Add(-time.Hour)), nil},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(3) {
				r := newRig(t, seed)
				r.issued = func() map[string]Issued {
					if r.now.Before(before) {
						return tc.from
					}
					return tc.to
				}
				if tc.from != nil {
					in := inputs(nil, AuthorityMayBeCreated, founders...)
					in.Issued = tc.from
					r.have = carryOut(nil, Plan(start, in))
					for _, m := range founders {
						r.start(m, "")
					}
					r.app = r.have["c-client-tls"]
				}
				for n := 0; r.now.Before(before) || !r.over(); n++ {
					if n == 6000 {
						t.Fatalf("seed %d: it does not end: %+v %+v\n%s", seed, Plan(r.now, r.inputs()).Rotations, Plan(r.now, r.inputs()).Problems, strings.Join(r.steps, "\n"))
					}
					r.act()
					if s := r.strangers(); len(s) > 0 {
						t.Fatalf("seed %d, action %d: %v\n%s", seed, n, s, strings.Join(r.steps, "\n"))
					}
				}
			}
		})
	}
}

// issuedBreaches give up a rule about the certificates of others each.
var issuedBreaches = map[string]mutants.Mutant{
	"an untried certificate is mounted":           mutants.Of("issued.go", "if m.wrong != \"\" || !signed(m.chain, trusted) {", "if !signed(m.chain, trusted) {"),
	"one comes before its authority is trusted":   mutants.Of("issued.go", "if m.wrong != \"\" || !signed(m.chain, trusted) {", "if m.wrong != \"\" {"),
	"an authority is trusted for a bad one":       mutants.Of("issued.go", "if m.wrong != \"\" {\n\t\t\treturn nil", "if m.anchor == nil {\n\t\t\treturn nil"),
	"names are not tried":                         mutants.Of("issued.go", "if m.lacks = l.lacks(cert); len(m.lacks) > 0 {", "if m.lacks = l.lacks(cert); len(m.lacks) > 99 {"),
	"uses are not tried":                          mutants.Of("issued.go", "if !p.verified(m.chain, m.anchor, use) {", "if false {"),
	"times are not tried":                         mutants.Of("issued.go", "weakness(m.chain[0]), p.outside(m.chain[0]));", "weakness(m.chain[0]));"),
	"one authority of others is for both ports":   mutants.Of("issued.go", "return bytes.Equal(cert.RawSubjectPublicKeyInfo, m.anchor.RawSubjectPublicKeyInfo)", "return false"),
	"a port is trusted by what it stands on":      mutants.Of("standing.go", "case p.stand(append(slices.Clone(chain), anchor), there.anchors, links):", "case false:"),
	"a port trusts what the other stands on":      mutants.Of("standing.go", "case p.stand(slices.Concat(there.shown, there.anchors), []*x509.Certificate{anchor}, links):", "case false:"),
	"what stands in between is not climbed":       mutants.Of("standing.go", "queue = append(slices.Clip(queue), link)", "_ = link"),
	"what is named beside an authority is one":    mutants.Of("standing.go", "s.anchors = append(s.anchors, anchor)", "s.anchors = append(s.anchors, authorities...)"),
	"too many signatures are a no":                mutants.Of("standing.go", "case len(p.signatures) >= enough:", "case false:"),
	"keys in between are not tried":               mutants.Of("issued.go", "for i, cert := range chain {", "for i, cert := range chain[:1] {"),
	"keys to trust are not tried":                 mutants.Of("issued.go", "if wrong := unread(cert); wrong != \"\" {\n\t\t\treturn fmt", "if wrong := unread(cert); false {\n\t\t\treturn fmt"),
	"a key may be of any length":                  mutants.Of("given.go", "if key.N.BitLen() > strongest {", "if false {"),
	"a key may be on any curve":                   mutants.Of("given.go", "elliptic.P521()}, key.Curve)", "elliptic.P521(), key.Curve}, key.Curve)"),
	"a file may have any size":                    mutants.Of("given.go", "n > largest {", "n < 0 {"),
	"a file may hold any number":                  mutants.Of("given.go", "n > most {", "n < 0 {"),
	"a member may be root":                        mutants.Of("issued.go", "case own != OperatorSecret(p.in.Cluster) && l.authority", "case own == ClientSecret(p.in.Cluster) && l.authority"),
	"others may have the operator's key":          mutants.Of("issued.go", "&& p.operators(cert):", "&& false:"),
	"the operator need not be root":               mutants.Of("issued.go", "case own == OperatorSecret(p.in.Cluster) && name != OperatorName:", "case false:"),
	"an application may be root":                  mutants.Of("issued.go", "case own != OperatorSecret(p.in.Cluster) && l.authority", "case own == MemberSecret(p.in.Members[1]) && l.authority"),
	"the authority of others is trusted alone":    mutants.Of("issued.go", "map[string][]byte{KeyNextCert: next.pem, KeyNextKey: []byte(Elsewhere)}, nil, notYet,", "map[string][]byte{KeyCert: next.pem, KeyKey: []byte(Elsewhere)}, nil, notYet,"),
	"founders stand on two authorities":           mutants.Of("issued.go", "if m := p.examine(s.Own, l); !signed(m.chain, []*x509.Certificate{anchor}) {", "if m := p.examine(s.Own, l); false {"),
	"one that cannot start is waited for":         mutants.Of("rotation.go", "if a.key != nil || a.next == nil {", "if a != nil {"),
	"one that runs is not waited for":             mutants.Of("rotation.go", "return p.in.Secrets[MemberSecret(m)] != nil })", "return p.in.Secrets == nil })"),
	"the end of a certificate is not told":        mutants.Of("issued.go", "p.now.Before(cert.NotAfter.Add(-life / 6))", "p.now.Before(cert.NotAfter.Add(life))"),
	"Certificates are forgotten":                  mutants.Of("issued.go", "(by == \"\" && left)", "(by == \"\" && left && false)"),
	"two authorities of others have one subject":  mutants.Of("issued.go", "if bytes.Equal(anchor.RawSubject, a.cert.RawSubject) && !bytes", "if false && !bytes"),
	"what nobody here can sign is rotated by age": mutants.Of("rotation.go", "p.beginIssued(a, issued)\n\t\treturn", "p.beginIssued(a, issued)"),
}

// TestIssuedMutants runs the other tests of certificates of others against each mutant.
func TestIssuedMutants(t *testing.T) {
	mutants.Caught(t, issuedBreaches, "-run=^Test(ACertificate|TheHolders|Others|FoundingWith|TheEndOfACert|WhereCert|WhoIs|ABadRenewal|AnotherAuthority|Whoever)")
}
