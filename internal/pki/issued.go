package pki

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Issued are the certificates of a port that the operator does not issue itself: those
// that cert-manager issues for it, or those that the user puts into Secrets. They are
// tried, and copied into the operator's own Secrets; a pod mounts nothing else.
type Issued struct {
	// Leaves are what was found for each of the operator's own Secrets, by its name. Data
	// has KeyCert, KeyKey and KeyCA.
	Leaves map[string]Given
	// By is who is asked for them: ByCertManager, or empty for the user.
	By string
	// Unavailable says why nobody can be asked, "what — why — do"; empty when it can be.
	Unavailable string
}

// ByCertManager stands in an authority's Secret under KeyIssuer while Certificates may
// exist for its port.
const ByCertManager = "cert-manager.io"

// Elsewhere stands for the key of an authority that others have.
const Elsewhere = "the key is not here: certificates are issued elsewhere"

// Slot is a certificate that a cluster needs.
type Slot struct {
	// Authority is the operator's Secret of the authority that it is of, Own the operator's
	// Secret that holds it.
	Authority, Own string
	// Issued is the name of the Certificate, and of its Secret, that cert-manager is asked
	// for.
	Issued string
	// Of is whom it is for.
	Of Holder
}

// Holder is whom a certificate is for.
type Holder string

// The holders of certificates.
const (
	HolderMember      Holder = "member"
	HolderOperator    Holder = "operator"
	HolderApplication Holder = "application"
)

// issuedSuffix ends the names of Certificates and of their Secrets, so that none of them
// is taken for the operator's own, or for anything that a user would call so.
const issuedSuffix = "-issued"

// PeerIssued ends the name of a Certificate of the peer port, and of no other.
const PeerIssued = "-peer" + issuedSuffix

// Slots are all the certificates of a cluster with these members.
func Slots(cluster string, members []string) []Slot {
	clients, peers := ClientCASecret(cluster), PeerCASecret(cluster)
	all := []Slot{
		{Authority: clients, Own: OperatorSecret(cluster), Issued: cluster + "-operator" + issuedSuffix, Of: HolderOperator},
		{Authority: clients, Own: ClientSecret(cluster), Issued: cluster + "-client" + issuedSuffix, Of: HolderApplication},
	}
	for _, m := range members {
		all = append(all,
			Slot{Authority: clients, Own: MemberSecret(m), Issued: m + "-server" + issuedSuffix, Of: HolderMember},
			Slot{Authority: peers, Own: MemberSecret(m), Issued: m + PeerIssued, Of: HolderMember})
	}
	return all
}

// Request is a certificate to ask cert-manager for.
type Request struct {
	Slot
	CommonName            string
	DNSNames, IPAddresses []string
	// Uses in the words of cert-manager.
	Uses []string
	// Life of the certificate, and how long before its end it is renewed.
	Life, RenewBefore time.Duration
}

// request asks cert-manager for what the operator would issue itself.
func (p *planner) request() {
	for _, s := range Slots(p.in.Cluster, p.in.Members) {
		if p.in.Issued[s.Authority].By != ByCertManager {
			continue
		}
		l := p.leafOf(s)
		r := Request{
			Slot: s, CommonName: l.commonName, DNSNames: l.dns, Uses: []string{"digital signature"},
			Life: p.in.LeafDuration, RenewBefore: p.in.LeafDuration / 3,
		}
		for _, ip := range l.ips {
			r.IPAddresses = append(r.IPAddresses, ip.String())
		}
		for _, use := range l.uses {
			r.Uses = append(r.Uses, map[x509.ExtKeyUsage]string{x509.ExtKeyUsageServerAuth: "server auth", x509.ExtKeyUsageClientAuth: "client auth"}[use])
		}
		p.result.Requests = append(p.result.Requests, r)
	}
}

// leafOf a slot.
func (p *planner) leafOf(s Slot) leaf {
	for _, want := range p.secrets() {
		for _, l := range want.leaves {
			if want.name == s.Own && l.authority == s.Authority {
				return l
			}
		}
	}
	return leaf{}
}

// material is a certificate that somebody else issued, tried.
type material struct {
	from      Given
	cert, key []byte
	// chain begins with the leaf.
	chain []*x509.Certificate
	// anchor is the authority that it stands on.
	anchor *x509.Certificate
	// wrong says why it cannot be used; it follows the name of the Secret. Empty if it can.
	wrong string
	// lacks are the names that it does not cover.
	lacks []string
}

// examine tries a certificate that somebody else issued for the leaf.
func (p *planner) examine(own string, l leaf) material {
	key := own + "/" + l.certKey
	if m, known := p.examined[key]; known {
		return m
	}
	from, wanted := p.in.Issued[l.authority].Leaves[own]
	m := material{from: from, cert: from.Data[KeyCert], key: from.Data[KeyKey]}
	m.wrong = "is not named in spec.tls"
	if wanted {
		m.wrong = p.fitness(&m, own, l)
	}
	if p.examined == nil {
		p.examined = map[string]material{}
	}
	p.examined[key] = m
	return m
}

// fitness says what is wrong with the material, the most basic first, and fills in what
// it stands on.
func (p *planner) fitness(m *material, own string, l leaf) string {
	if m.from.Data == nil {
		return "does not exist"
	}
	for _, key := range []string{KeyCert, KeyKey, KeyCA} {
		if len(bytes.TrimSpace(m.from.Data[key])) == 0 {
			return "has no " + key
		}
		if wrong := excess(m.from.Data, key); wrong != "" {
			return wrong
		}
	}
	authorities := parseCerts(m.from.Data[KeyCA])
	if m.chain = parseCerts(m.cert); len(m.chain) == 0 {
		return "holds no PEM certificate in " + KeyCert
	}
	if len(authorities) == 0 {
		return "holds no PEM certificate in " + KeyCA
	}
	if wrong := weakFile(m.chain, authorities); wrong != "" {
		return wrong
	}
	if wrong := cmp.Or(keyFault(m.cert, m.key), weakness(m.chain[0]), p.outside(m.chain[0])); wrong != "" {
		return wrong
	}
	if m.anchor = p.anchor(m.chain, authorities); m.anchor == nil {
		return p.unanchored(m.chain, authorities)
	}
	if wrong := unfit(m.anchor); wrong != "" {
		return wrong + ", and is to be trusted in " + KeyCA
	}
	if slices.ContainsFunc(p.others(l.authority), func(cert *x509.Certificate) bool {
		return bytes.Equal(cert.RawSubjectPublicKeyInfo, m.anchor.RawSubjectPublicKeyInfo)
	}) {
		return "holds the authority of the other port in " + KeyCA + ", so that any client could join as a member"
	}
	if wrong := p.crossing(l.authority, m.anchor, m.chain); wrong != "" {
		return wrong
	}
	return p.misused(m, own, l)
}

// weakFile says which key could break a handshake, or be broken. All certificates of a
// chain are sent, and all of ca.crt are tried.
func weakFile(chain, authorities []*x509.Certificate) string {
	for i, cert := range chain {
		if wrong := weakKey(cert); wrong != "" {
			return fmt.Sprintf("%s (certificate %d of %s)", wrong, i+1, KeyCert)
		}
	}
	for i, cert := range authorities {
		if wrong := unread(cert); wrong != "" {
			return fmt.Sprintf("%s (certificate %d of %s)", wrong, i+1, KeyCA)
		}
	}
	return ""
}

// misused says that a certificate is for another use, or for somebody else.
func (p *planner) misused(m *material, own string, l leaf) string {
	cert := m.chain[0]
	if cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return "holds a certificate that may not sign a handshake (key usage lacks digital signature)"
	}
	for _, use := range l.uses {
		if !p.verified(m.chain, m.anchor, use) {
			return "holds a certificate that is refused for " + uses[use] + " (extended key usage)"
		}
	}
	switch name := cert.Subject.CommonName; {
	case own == OperatorSecret(p.in.Cluster) && name != OperatorName:
		return fmt.Sprintf("holds a certificate whose common name is %q and not %s, which alone etcd's authentication lets change members", name, OperatorName)
	case own != OperatorSecret(p.in.Cluster) && l.authority == ClientCASecret(p.in.Cluster) && name == OperatorName:
		return "holds a certificate whose common name is " + OperatorName + ", so that etcd's authentication would let whoever reads it, in an application or in a member's pod, do anything"
	case own != OperatorSecret(p.in.Cluster) && p.operators(cert):
		return "holds the operator's own key, so that etcd's authentication would let whoever reads it do anything"
	}
	if m.lacks = l.lacks(cert); len(m.lacks) > 0 {
		return "holds a certificate that does not cover " + strings.Join(m.lacks, ", ")
	}
	return ""
}

// operators says that the key of a certificate is the operator's own, present or to come.
func (p *planner) operators(cert *x509.Certificate) bool {
	own := OperatorSecret(p.in.Cluster)
	issued := p.in.Issued[ClientCASecret(p.in.Cluster)].Leaves[own]
	return slices.ContainsFunc([][]byte{p.in.Secrets[own][KeyCert], issued.Data[KeyCert]}, func(file []byte) bool {
		operator := first(file)
		return operator != nil && bytes.Equal(operator.RawSubjectPublicKeyInfo, cert.RawSubjectPublicKeyInfo)
	})
}

// keyFault says why the private key is not the certificate's, in fixed words: a parser's
// own error could quote what it was given.
func keyFault(cert, key []byte) string {
	var block *pem.Block
	for rest := key; ; {
		if block, rest = pem.Decode(rest); block == nil {
			return "holds no PEM private key in " + KeyKey
		}
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			break
		}
	}
	if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
		return "holds a key in " + KeyKey + " that is encrypted, and etcd takes no passphrase"
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		return fmt.Sprintf("holds a key in %s that does not belong to the certificate in %s", KeyKey, KeyCert)
	}
	return ""
}

// outside says that it is not the time of the certificate.
func (p *planner) outside(cert *x509.Certificate) string {
	switch {
	case p.now.Before(cert.NotBefore):
		return fmt.Sprintf("holds a certificate that is valid only from %s and it is %s now", stamp(cert.NotBefore), stamp(p.now))
	case !p.now.Before(cert.NotAfter):
		return "holds a certificate that ended at " + stamp(cert.NotAfter)
	}
	return ""
}

// anchor is the authority that a chain stands on now; of several the one that lasts
// longest.
func (p *planner) anchor(chain, authorities []*x509.Certificate) (found *x509.Certificate) {
	files := rawOf(chain) + "/" + rawOf(authorities)
	if found, known := p.anchors[files]; known {
		return found
	}
	for _, a := range authorities {
		if p.verified(chain, a, x509.ExtKeyUsageAny) && (found == nil || a.NotAfter.After(found.NotAfter)) {
			found = a
		}
	}
	if p.anchors == nil {
		p.anchors = map[string]*x509.Certificate{}
	}
	p.anchors[files] = found
	return found
}

func rawOf(certs []*x509.Certificate) string {
	var all strings.Builder
	for _, cert := range certs {
		all.Write(cert.Raw)
	}
	return all.String()
}

func (p *planner) unanchored(chain, authorities []*x509.Certificate) string {
	if !signed(chain, authorities) {
		return "holds a certificate in " + KeyCert + " that no authority in " + KeyCA + " has signed"
	}
	for _, a := range authorities {
		if signed(chain, []*x509.Certificate{a}) {
			if wrong := p.outside(a); wrong != "" {
				return wrong + " in " + KeyCA
			}
		}
	}
	return "holds a certificate that is refused under the authority in " + KeyCA + ", which is bound to other names or uses"
}

func (p *planner) verified(chain []*x509.Certificate, anchor *x509.Certificate, use x509.ExtKeyUsage) bool {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(anchor)
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: p.now, KeyUsages: []x509.ExtKeyUsage{use}})
	return err == nil
}

// lacks are the names which others dial by and the certificate does not cover.
func (l leaf) lacks(cert *x509.Certificate) (names []string) {
	for _, name := range l.dialed {
		if cert.VerifyHostname(name) != nil {
			names = append(names, name)
		}
	}
	return names
}

// survey tells what is wrong with the certificates of a port that somebody else issues.
// What is wrong with one Secret is told once, for all that it is for.
func (p *planner) survey(authority string) {
	issued, wanted := p.in.Issued[authority]
	if !wanted {
		return
	}
	if issued.Unavailable != "" {
		p.problem(authority, ReasonIssuerUnavailable, "%s", issued.Unavailable)
		return
	}
	var refused []material
	var waits []string
	awaited := ""
	for _, s := range p.slots(authority) {
		l := p.leafOf(s)
		m := p.examine(s.Own, l)
		if m.from.Awaits != "" {
			waits, awaited = append(waits, m.from.Secret), cmp.Or(awaited, m.from.Awaits)
		}
		if m.wrong == "" || (m.from.Awaits != "" && m.from.Data == nil) {
			continue
		}
		i := slices.IndexFunc(refused, func(r material) bool { return r.from.Secret == m.from.Secret })
		if i < 0 {
			refused = append(refused, m)
		} else if len(m.lacks) > 0 && len(refused[i].lacks) > 0 {
			more := slices.DeleteFunc(slices.Clone(m.lacks), func(name string) bool { return slices.Contains(refused[i].lacks, name) })
			refused[i].lacks = append(slices.Clone(refused[i].lacks), more...)
			refused[i].wrong = "holds a certificate that does not cover " + strings.Join(refused[i].lacks, ", ")
		}
	}
	for _, m := range refused {
		p.refuse(issued, m)
	}
	if len(waits) > 0 {
		p.problem(waits[0], ReasonCertificateNotIssued, "cert-manager has not issued %s (%s) — %s — see kubectl describe certificate %s, and its issuer",
			strings.Join(waits, ", "), awaited, p.meanwhile(), waits[0])
	}
}

func (p *planner) refuse(issued Issued, m material) {
	act := fmt.Sprintf("put a certificate, its key and its authority into %s, %s and %s of the Secret", KeyCert, KeyKey, KeyCA)
	if issued.By == ByCertManager {
		act = "correct the issuer, and have Certificate " + m.from.Secret + " renewed"
	}
	p.problem(m.from.Secret, ReasonCertificateRefused, "Secret %s %s — those who connect would be refused, or let in where they must not be, so it is not used, and %s — %s",
		m.from.Secret, m.wrong, p.meanwhile(), act)
}

// meanwhile says what becomes of members without the certificates.
func (p *planner) meanwhile() string {
	for _, m := range p.in.Members {
		if p.in.Secrets[MemberSecret(m)] == nil {
			return m + " cannot start without one"
		}
	}
	return "the present certificates go on until they end"
}

// slots of the port.
func (p *planner) slots(authority string) []Slot {
	return slices.DeleteFunc(Slots(p.in.Cluster, p.in.Members), func(s Slot) bool { return s.Authority != authority })
}

// newest is the authority that the certificates of a port stand on, of several the one
// that lasts longest; nil while any of them cannot be used.
func (p *planner) newest(authority string) (found *x509.Certificate) {
	for _, s := range p.slots(authority) {
		l := p.leafOf(s)
		m := p.examine(s.Own, l)
		if m.wrong != "" {
			return nil
		}
		if found == nil || m.anchor.NotAfter.After(found.NotAfter) {
			found = m.anchor
		}
	}
	return found
}

// foundIssued makes the authority of certificates that somebody else issues: all of them
// have to stand on one, for nobody trusts another when the cluster is founded.
func (p *planner) foundIssued(secret string, issued Issued) *authority {
	anchor := p.newest(secret)
	if anchor == nil {
		return nil
	}
	for _, s := range p.slots(secret) {
		l := p.leafOf(s)
		if m := p.examine(s.Own, l); !signed(m.chain, []*x509.Certificate{anchor}) {
			m.wrong = "holds a certificate of another authority than the others of this port"
			p.refuse(issued, m)
			return nil
		}
	}
	a := elsewhere(secret, anchor)
	data := map[string][]byte{KeyCert: a.pem, KeyKey: []byte(Elsewhere)}
	if issued.By != "" {
		data[KeyIssuer] = []byte(issued.By)
	}
	p.result.Create = append(p.result.Create, SecretData{Name: secret, Type: corev1.SecretTypeTLS, Why: "certificates of this authority are issued elsewhere", Data: data})
	return a
}

func elsewhere(secret string, cert *x509.Certificate) *authority {
	return &authority{secret: secret, cert: cert, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})}
}

// beginIssued puts the authority of the certificates that somebody else issues beside the
// present one, once all of them can be used.
func (p *planner) beginIssued(a *authority, issued Issued) {
	anchor := p.newest(a.secret)
	if anchor == nil || bytes.Equal(anchor.Raw, a.cert.Raw) || (p.allStandOn(a) && !anchor.NotAfter.After(a.cert.NotAfter)) {
		return
	}
	next := elsewhere(a.secret, anchor)
	if bytes.Equal(anchor.RawSubject, a.cert.RawSubject) && !bytes.Equal(anchor.RawSubjectPublicKeyInfo, a.cert.RawSubjectPublicKeyInfo) {
		// A member shows whom it trusts by subject alone.
		p.refuse(issued, material{from: p.anyIssued(a.secret), wrong: "holds an authority in " + KeyCA + " with the subject of the present one and another key, so that nobody could see which of them a member trusts"})
		return
	}
	if p.in.Authorities != AuthorityExpected {
		if p.anyLeaf(a.secret) == "" {
			// Nobody has started with it yet.
			data := maps.Clone(p.in.Secrets[a.secret])
			data[KeyCert], data[KeyKey] = next.pem, []byte(Elsewhere)
			p.result.Renew = append(p.result.Renew, SecretData{Name: a.secret, Data: data, Why: "nobody uses the authority yet, and certificates are issued by another"})
		}
		return
	}
	p.step(a, map[string][]byte{KeyNextCert: next.pem, KeyNextKey: []byte(Elsewhere)}, nil, notYet,
		"its rotation begins, because certificates are issued by another authority: that one is trusted beside it")
}

func (p *planner) allStandOn(a *authority) bool {
	return !slices.ContainsFunc(p.slots(a.secret), func(s Slot) bool {
		l := p.leafOf(s)
		return !signed(p.examine(s.Own, l).chain, []*x509.Certificate{a.cert})
	})
}

func (p *planner) anyIssued(authority string) Given {
	s := p.slots(authority)[0]
	return p.in.Issued[authority].Leaves[s.Own]
}

// take puts the certificate that somebody else issued in place, if everybody trusts its
// authority by now.
func (p *planner) take(into SecretData, own string, l leaf, a *authority) (reason string, taken bool) {
	m := p.examine(own, l)
	trusted := []*x509.Certificate{a.cert}
	if a.next == nil {
		// The former is still trusted by everybody, and whoever issues certificates may take
		// long to renew the last of them.
		trusted = append(trusted, parseCerts(a.former)...)
	}
	if m.wrong != "" || !signed(m.chain, trusted) {
		return "", false
	}
	if bytes.Equal(into.Data[l.certKey], m.cert) && bytes.Equal(into.Data[l.keyKey], m.key) {
		return "", true
	}
	into.Data[l.certKey], into.Data[l.keyKey] = m.cert, m.key
	return "Secret " + m.from.Secret + " holds another certificate", true
}

// keep leaves a certificate in place that nobody here can issue again, and tells in time
// that it ends. It is false when there is none.
func (p *planner) keep(own string, l leaf, data map[string][]byte, a *authority) bool {
	cert := parseCert(data[l.certKey])
	if cert == nil || len(data[l.keyKey]) == 0 {
		switch {
		case l.issued && p.examine(own, l).wrong == "":
			p.problem(own, ReasonCertificateNotIssued, "Secret %s holds a certificate of an authority that not everybody trusts yet — members would refuse who needs it, so it does not start — wait until that authority signs (see status.tls)",
				p.examine(own, l).from.Secret)
		case !l.issued:
			p.problem(own, ReasonCertificateNotIssued, "%s for Secret %s cannot be issued — the key of the present authority in Secret %s is not here, and who needs the certificate does not start — wait until the next authority signs (see status.tls), or put back what spec.tls named before",
				l.certKey, own, a.secret)
		}
		return false
	}
	if life := cert.NotAfter.Sub(cert.NotBefore); !p.now.Before(cert.NotAfter.Add(-life / 6)) {
		p.problem(own, ReasonCertificateExpiring, "%s in Secret %s ends at %s and nobody has issued another — connections are refused from then on — renew the certificate where it is issued",
			l.certKey, own, stamp(cert.NotAfter))
	}
	return true
}

// mark notes in an authority's Secret that Certificates may exist for its port, before
// any but those of the founding do, and takes the note away when the last of them is gone.
func (p *planner) mark(a *authority) bool {
	data := p.in.Secrets[a.secret]
	by := p.in.Issued[a.secret].By
	left := slices.Contains(p.in.Leftover, a.secret)
	if have := string(data[KeyIssuer]); have == by || (by == "" && left) {
		return false
	}
	changed, why := maps.Clone(data), "no Certificate is left"
	if delete(changed, KeyIssuer); by != "" {
		changed[KeyIssuer], why = []byte(by), "cert-manager is asked for certificates"
	}
	p.result.Renew = append(p.result.Renew, SecretData{Name: a.secret, Data: changed, Why: why})
	return true
}
