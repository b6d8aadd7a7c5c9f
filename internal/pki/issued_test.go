package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
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
				r := Plan(start, in)
				if len(r.Problems) != 1 || r.Problems[0].Reason != ReasonCertificateRefused || !strings.Contains(r.Problems[0].Message, tc.says) ||
					!strings.HasPrefix(r.Problems[0].Message, "Secret corp-server ") || strings.Count(r.Problems[0].Message, " — ") != 2 {
					t.Errorf("problems %+v, want %q", r.Problems, tc.says)
				}
				for _, s := range append(r.Create, r.Renew...) {
					if s.Name != "c-peer-ca" {
						t.Errorf("%s is written", s.Name)
					}
				}
				if have != nil && len(r.Create)+len(r.Renew) > 0 {
					t.Errorf("%v %v is written", names(r.Create), names(r.Renew))
				}
			}
		})
	}
}

// TestTheHoldersNameIsTried: the operator is root to etcd, and nobody else is.
func TestTheHoldersNameIsTried(t *testing.T) {
	corp := newIssuer(t, "corp", start.Add(-time.Hour))
	for own, commonName := range map[string]string{"c-operator-tls": "quorate", "c-client-tls": OperatorName} {
		in := inputs(nil, AuthorityMayBeCreated, founders...)
		in.Issued = userLeaves(corp, nil, founders...)
		in.Issued["c-client-ca"].Leaves[own] = Given{Secret: "corp", Data: corp.leaf(commonName, nil)}
		r := Plan(start, in)
		if len(r.Problems) != 1 || !strings.Contains(r.Problems[0].Message, "common name is") || slices.Contains(names(r.Create), "c-client-ca") {
			t.Errorf("%s of %q: %+v, created %v", own, commonName, r.Problems, names(r.Create))
		}
	}
}

// TestOthersAuthorityForBothPortsIsRefused: whoever has a client's certificate could
// join as a member.
func TestOthersAuthorityForBothPortsIsRefused(t *testing.T) {
	corp := newIssuer(t, "corp", start.Add(-time.Hour))
	in := inputs(nil, AuthorityMayBeCreated, founders...)
	in.Issued = userLeaves(corp, corp, founders...)
	r := Plan(start, in)
	if len(r.Create) > 0 || len(r.Problems) == 0 || !strings.Contains(r.Problems[0].Message, "any client could join as a member") {
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
	"times are not tried":                         mutants.Of("issued.go", "cmp.Or(weakness(m.chain[0]), p.outside(m.chain[0]))", "weakness(m.chain[0])"),
	"one authority of others is for both ports":   mutants.Of("issued.go", "return bytes.Equal(cert.RawSubjectPublicKeyInfo, m.anchor.RawSubjectPublicKeyInfo)", "return false"),
	"the operator need not be root":               mutants.Of("issued.go", "case own == OperatorSecret(p.in.Cluster) && name != OperatorName:", "case false:"),
	"an application may be root":                  mutants.Of("issued.go", "case own == ClientSecret(p.in.Cluster) && name == OperatorName:", "case false:"),
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
