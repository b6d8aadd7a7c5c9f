package pki

import (
	"bytes"
	"crypto/x509"
	"maps"
	"slices"
)

// enough signatures are tried in one plan to tell what stands on what. It is many times
// what any cluster needs: without a bound, certificates that all bear one name would hold
// up every other cluster.
const enough = 1000

// standing is what a port trusts and shows, or would if it were taken.
type standing struct {
	// anchors are trusted there, now or soon or still.
	anchors []*x509.Certificate
	// shown are served or sent with a leaf.
	shown []*x509.Certificate
	// links are all that may stand in between.
	links []*x509.Certificate
}

// signature is a question that was asked: whether one certificate has signed another.
type signature struct{ of, by string }

// standing of a port, whoever issues its certificates. Of what others provide that counts
// which is read, for nothing else is ever trusted; of what is in place everything does.
func (p *planner) standing(port string) standing {
	if s, known := p.standings[port]; known {
		return s
	}
	var s standing
	stored := p.in.Secrets[port]
	for _, cert := range []*x509.Certificate{
		parseCert(stored[KeyCert]), parseCert(stored[KeyNextCert]), parseCert(stored[KeyFormerCert]), first(p.in.Given[port].Data[KeyCert]),
	} {
		if cert != nil {
			s.anchors = append(s.anchors, cert)
		}
	}
	s.links = append(s.links, bounded(p.in.Given[port].Data[KeyCert])...)
	for _, name := range slices.Sorted(maps.Keys(p.in.Secrets)) {
		for _, key := range certKeys(p.in.Cluster, port, name) {
			s.shown = append(s.shown, parseCerts(p.in.Secrets[name][key])...)
		}
	}
	tried := map[string]bool{}
	for _, own := range slices.Sorted(maps.Keys(p.in.Issued[port].Leaves)) {
		data := p.in.Issued[port].Leaves[own].Data
		if both := string(slices.Concat(data[KeyCert], data[KeyCA])); !tried[both] {
			tried[both] = true
			s.add(p, bounded(data[KeyCert]), bounded(data[KeyCA]))
		}
	}
	s.links = append(s.links, s.shown...)
	if p.standings == nil {
		p.standings = map[string]standing{}
	}
	p.standings[port] = s
	return s
}

// add what somebody else issued. Of the authorities only the one is trusted that the
// chain stands on.
func (s *standing) add(p *planner, chain, authorities []*x509.Certificate) {
	s.shown, s.links = append(s.shown, chain...), append(s.links, authorities...)
	if len(chain) == 0 {
		return
	}
	if anchor := p.anchor(chain, authorities); anchor != nil {
		s.anchors = append(s.anchors, anchor)
	}
}

// crossing says that one port would take certificates of the other, because an authority
// of one stands above the other's. Two keys are not enough: whoever is given a certificate
// is given those that it stands on, and a port takes all that lead to whom it trusts.
func (p *planner) crossing(port string, anchor *x509.Certificate, chain []*x509.Certificate) string {
	other := PeerCASecret(p.in.Cluster)
	if port == other {
		other = ClientCASecret(p.in.Cluster)
	}
	here, there := p.standing(port), p.standing(other)
	links := slices.Concat(chain, here.links, there.links)
	opens := map[string]string{
		PeerCASecret(p.in.Cluster):   ", so that any client could join as a member",
		ClientCASecret(p.in.Cluster): ", so that whoever has a certificate of the peer port would be taken for a client",
	}
	switch {
	case p.stand(append(slices.Clone(chain), anchor), there.anchors, links):
		return "holds certificates that stand on the authority of the other port" + opens[other]
	case p.stand(slices.Concat(there.shown, there.anchors), []*x509.Certificate{anchor}, links):
		return "holds an authority that the certificates of the other port stand on" + opens[port]
	case len(p.signatures) >= enough:
		return "is one of those with so many certificates of one name that it cannot be told whether one port would take the other's"
	}
	return ""
}

// stand says that any of the certificates stands on one of the anchors, by whatever is
// there to stand in between. Neither times nor uses count: another certificate with the
// same keys may have others.
func (p *planner) stand(certs, anchors, links []*x509.Certificate) bool {
	climbed := map[string]bool{}
	for queue := certs; len(queue) > 0; queue = queue[1:] {
		cert := queue[0]
		if climbed[string(cert.Raw)] {
			continue
		}
		climbed[string(cert.Raw)] = true
		if slices.ContainsFunc(anchors, func(a *x509.Certificate) bool {
			return bytes.Equal(cert.RawSubjectPublicKeyInfo, a.RawSubjectPublicKeyInfo) || p.signedBy(cert, a)
		}) {
			return true
		}
		for _, link := range links {
			if !climbed[string(link.Raw)] && p.signedBy(cert, link) {
				queue = append(slices.Clip(queue), link)
			}
		}
	}
	return false
}

// signedBy is asked once for two certificates; the answer is no once enough were tried,
// which whoever asks has to look at.
func (p *planner) signedBy(cert, by *x509.Certificate) bool {
	if !bytes.Equal(cert.RawIssuer, by.RawSubject) {
		return false
	}
	question := signature{of: string(cert.Raw), by: string(by.Raw)}
	if answer, known := p.signatures[question]; known {
		return answer
	}
	if len(p.signatures) >= enough {
		return false
	}
	if p.signatures == nil {
		p.signatures = map[signature]bool{}
	}
	p.signatures[question] = cert.CheckSignatureFrom(by) == nil
	return p.signatures[question]
}
