package pki

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Phase is how far the rotation of an authority is. It follows from what the
// authority's Secret holds, so a crash loses nothing of it.
type Phase string

const (
	// PhaseStable: one authority, which is trusted and signs.
	PhaseStable Phase = "Stable"
	// PhaseTrusting: the next authority is trusted as well, and does not sign yet. A
	// leaf of it would be refused by whoever has not read the new bundle.
	PhaseTrusting Phase = "Trusting"
	// PhaseServing: the next authority signs, and the former is still trusted, because
	// its leaves are in use.
	PhaseServing Phase = "Serving"
)

// Rotation is how far an authority is.
type Rotation struct {
	// Secret of the authority.
	Secret string
	Phase  Phase
	// Ends is when the authority that signs ends.
	Ends time.Time
	// Since when it is in this phase, and until when applications have time to follow;
	// zero while it is stable.
	Since, Until time.Time
	// Waiting names the members that do not show yet that they have come as far; empty
	// while nobody was asked.
	Waiting []string
}

// Shown is what a member's process shows on its two ports.
type Shown struct {
	Client, Peer Port
}

// Port is what a port shows in a handshake.
type Port struct {
	// Leaf that it serves, DER.
	Leaf []byte
	// Trusts are the subjects, DER, of the authorities whose leaves it takes.
	Trusts [][]byte
}

// Ask says of whom a rotation needs to know, and how to be sure of them.
type Ask struct {
	// Members to shake hands with.
	Members []string
	// Without are members that have no certificates yet, and so cannot have started.
	Without []string
	// ClientCA and PeerCA are the authorities, PEM, that their ports' leaves are of.
	ClientCA, PeerCA []byte
	// Trust is the hash of the authorities that their pods must have been made with.
	Trust string
}

// notYet stands in KeySince until every Secret holds what is new: the time that
// applications have begins then.
const notYet = "not yet"

// TrustUnknown stands for a Trust that cannot be told, because a Secret is missing or
// broken. Nobody is restarted for it.
const TrustUnknown = "unknown"

func (a *authority) phase() Phase {
	switch {
	case a.next != nil:
		return PhaseTrusting
	case len(a.former) > 0:
		return PhaseServing
	default:
		return PhaseStable
	}
}

// bundle is what is to be trusted: the authority that signs, and the one that will or
// did.
func (a *authority) bundle() []byte {
	if a.next != nil {
		return slices.Concat(lined(a.pem), lined(a.next.pem))
	}
	if len(a.former) > 0 {
		return slices.Concat(lined(a.pem), lined(a.former))
	}
	return a.pem
}

// lined ends with a newline, so that another PEM file can follow.
func lined(file []byte) []byte {
	if len(file) == 0 || file[len(file)-1] == '\n' {
		return file
	}
	return append(slices.Clone(file), '\n')
}

// rotate moves the rotation of an authority on by one step, if everybody has come far
// enough.
//
//   - From stable to trusting when it is due. Nothing changes for anybody's leaf.
//   - From trusting to serving when every Secret carries both authorities, every
//     member's process takes leaves of both, and applications had time to read theirs.
//   - From serving to stable when every leaf is of the new authority, every member
//     serves one, and applications had time again.
//
// So at any moment, a crash between two writes included, each process trusts the
// authority of every leaf that is in use.
func (p *planner) rotate(a *authority) {
	r := Rotation{Secret: a.secret, Phase: a.phase(), Ends: a.cert.NotAfter}
	switch {
	case r.Phase == PhaseStable:
		p.begin(a)
	case a.since.IsZero():
		if p.inPlace(a) {
			p.step(a, nil, nil, stamp(p.now), "every Secret holds what is new: applications have until "+stamp(p.now.Add(p.in.Soak))+" to read theirs again")
		}
	default:
		r.Since, r.Until = a.since, a.since.Add(p.in.Soak)
		p.wake(r.Until)
		r.Waiting = p.goOn(a, r)
	}
	p.result.Rotations = append(p.result.Rotations, r)
}

// begin puts another authority beside one that is due.
func (p *planner) begin(a *authority) {
	if issued, wanted := p.in.Issued[a.secret]; wanted {
		p.beginIssued(a, issued)
		return
	}
	if from, wanted := p.in.Given[a.secret]; wanted {
		p.beginGiven(a, from)
		return
	}
	why := p.rotationDue(a)
	if why == "" {
		return
	}
	next, made, err := newAuthority(p.now, a.secret, p.in.Namespace)
	if err != nil {
		p.problem(a.secret, ReasonIssuingFailed, "the next authority for Secret %s could not be made (%v) — the present one will end — it is tried again", a.secret, err)
		return
	}
	p.step(a, map[string][]byte{KeyNextCert: next.pem, KeyNextKey: made.Data[KeyKey]}, nil, notYet,
		"its rotation begins, because "+why+": the next authority is trusted beside it")
}

// beginGiven puts the user's authority beside the present one, if it is another.
func (p *planner) beginGiven(a *authority, from Given) {
	next := p.given(a.secret, a)
	if next == nil || bytes.Equal(next.cert.Raw, a.cert.Raw) || p.in.Authorities != AuthorityExpected {
		return
	}
	p.step(a, map[string][]byte{KeyNextCert: next.pem, KeyNextKey: from.Data[KeyKey]}, nil, notYet,
		"its rotation begins, because Secret "+from.Secret+" holds another authority: that one is trusted beside it")
}

func (p *planner) rotationDue(a *authority) string {
	if p.in.Authorities != AuthorityExpected {
		return ""
	}
	if a.key == nil {
		return "its key is not here"
	}
	due, issued := dueAt(a.cert), a.cert.NotBefore.Add(Backdate)
	p.wake(due)
	if before := p.in.RotateBefore; !before.IsZero() && issued.Before(before) {
		p.wake(before)
		if !p.now.Before(before) {
			return "spec.tls.rotateCA is " + stamp(before)
		}
	}
	if !p.now.Before(due) {
		return "it ends at " + stamp(a.cert.NotAfter)
	}
	return ""
}

// goOn takes the next step of a rotation that has begun, or names the members that it
// waits for.
func (p *planner) goOn(a *authority, r Rotation) []string {
	if p.now.Before(r.Until) || !p.inPlace(a) || len(p.in.Members) == 0 {
		return nil
	}
	if p.in.Shown == nil {
		p.ask(a)
		return nil
	}
	var waiting []string
	for _, m := range p.in.Members {
		if slices.Contains(p.without(a), m) {
			continue
		}
		if !a.followed(p.portOf(a, m), p.between(a, m)) {
			waiting = append(waiting, m)
		}
	}
	switch {
	case len(waiting) > 0:
		p.ask(a)
	case r.Phase == PhaseTrusting:
		p.step(a, map[string][]byte{KeyCert: a.next.pem, KeyKey: p.in.Secrets[a.secret][KeyNextKey], KeyFormerCert: a.pem}, []string{KeyNextCert, KeyNextKey}, notYet,
			"every member trusts the next authority: from now on it signs")
	default:
		p.step(a, nil, []string{KeyFormerCert}, stamp(p.now), "every member serves certificates of the new authority: the former is trusted no more")
	}
	return waiting
}

// inPlace says that every Secret holds the whole bundle, and every leaf is of the
// authority that signs.
func (p *planner) inPlace(a *authority) bool {
	for _, want := range p.secrets() {
		for _, l := range want.leaves {
			data := p.in.Secrets[want.name]
			if slices.ContainsFunc(p.without(a), func(m string) bool { return MemberSecret(m) == want.name }) {
				continue
			}
			if l.authority == a.secret && (!bytes.Equal(data[l.caKey], a.bundle()) || l.fault(data, a) != "") {
				return false
			}
		}
	}
	return true
}

// without are the members that have no Secret and get none before the next authority
// signs, because nobody here has the key of the present one. To wait until they show whom
// they trust would be to wait for ever.
func (p *planner) without(a *authority) (members []string) {
	if a.key != nil || a.next == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(p.in.Members), func(m string) bool { return p.in.Secrets[MemberSecret(m)] != nil })
}

func (p *planner) ask(a *authority) {
	client, peer := p.in.Secrets[ClientCASecret(p.in.Cluster)], p.in.Secrets[PeerCASecret(p.in.Cluster)]
	without := p.without(a)
	asked := slices.DeleteFunc(slices.Clone(p.in.Members), func(m string) bool { return slices.Contains(without, m) })
	p.result.Ask = &Ask{Members: asked, Without: without, ClientCA: trusted(client), PeerCA: trusted(peer), Trust: p.result.Trust}
}

// trusted is all that an authority's Secret says is to be trusted.
func trusted(data map[string][]byte) []byte {
	return slices.Concat(lined(data[KeyCert]), lined(data[KeyNextCert]), lined(data[KeyFormerCert]))
}

func (p *planner) portOf(a *authority, member string) Port {
	if a.secret == PeerCASecret(p.in.Cluster) {
		return p.in.Shown[member].Peer
	}
	return p.in.Shown[member].Client
}

// between are the certificates that a member's leaf stands on, which a handshake does not
// tell.
func (p *planner) between(a *authority, member string) []*x509.Certificate {
	key := KeyServerCert
	if a.secret == PeerCASecret(p.in.Cluster) {
		key = KeyPeerCert
	}
	return parseCerts(p.in.Secrets[MemberSecret(member)][key])
}

// followed says that a process has come as far as the authority's Secret: it takes
// leaves of the authority that is new, and serves one once that signs. That a file
// stands in a Secret or in a pod proves neither: etcd reads whom it trusts when it
// starts, and a kubelet brings files into a pod when it gets to it.
func (a *authority) followed(shown Port, between []*x509.Certificate) bool {
	trusts := func(cert *x509.Certificate) bool {
		return slices.ContainsFunc(shown.Trusts, func(subject []byte) bool { return bytes.Equal(subject, cert.RawSubject) })
	}
	if a.next != nil {
		return trusts(a.next.cert)
	}
	leaf, err := x509.ParseCertificate(shown.Leaf)
	return err == nil && trusts(a.cert) && signed(append([]*x509.Certificate{leaf}, between...), []*x509.Certificate{a.cert})
}

// step writes the authority's Secret.
func (p *planner) step(a *authority, put map[string][]byte, drop []string, since, why string) {
	data := maps.Clone(p.in.Secrets[a.secret])
	maps.Copy(data, put)
	for _, key := range drop {
		delete(data, key)
	}
	data[KeySince] = []byte(since)
	p.result.Renew = append(p.result.Renew, SecretData{Name: a.secret, Data: data, Why: why})
}

// wake has the Secrets looked at again at that time.
func (p *planner) wake(at time.Time) {
	if at.After(p.now) && (p.result.NextRenewal.IsZero() || at.Before(p.result.NextRenewal)) {
		p.result.NextRenewal = at
	}
}

// trust fills in what members are to trust, and what their Secrets hold.
func (p *planner) trust() {
	client, peer := p.in.Secrets[ClientCASecret(p.in.Cluster)], p.in.Secrets[PeerCASecret(p.in.Cluster)]
	rotated := len(client[KeySince])+len(peer[KeySince]) > 0
	// Pods that were made by an operator which did not rotate any say nothing, and are not
	// to be restarted.
	founding := func(hash string) string {
		if !rotated && hash != TrustUnknown {
			return ""
		}
		return hash
	}
	p.result.Trust, p.result.Carried = founding(trustHash(trusted(client), trusted(peer))), map[string]string{}
	for _, m := range p.in.Members {
		data := p.in.Secrets[MemberSecret(m)]
		if carried := trustHash(data[KeyClientCA], data[KeyPeerCA]); carried != TrustUnknown {
			p.result.Carried[m] = founding(carried)
		}
	}
}

// trustHash of two bundles; the order within a bundle does not matter.
func trustHash(client, peer []byte) string {
	all := sha256.New()
	for _, bundle := range [][]byte{client, peer} {
		certs := parseCerts(bundle)
		if len(certs) == 0 {
			return TrustUnknown
		}
		slices.SortFunc(certs, func(a, b *x509.Certificate) int { return bytes.Compare(a.Raw, b.Raw) })
		for _, cert := range certs {
			sum := sha256.Sum256(cert.Raw)
			_, _ = all.Write(sum[:])
		}
		_, _ = all.Write([]byte("/"))
	}
	return hex.EncodeToString(all.Sum(nil)[:8])
}

// Describe says in a line how far a rotation is; empty when there is none.
func (r Rotation) Describe() string {
	at := ""
	if !r.Until.IsZero() {
		at = ", from " + stamp(r.Until) + " on at the earliest"
	}
	switch r.Phase {
	case PhaseTrusting:
		return fmt.Sprintf("the next authority of Secret %s is trusted beside the present one; it signs once every member trusts it%s", r.Secret, at)
	case PhaseServing:
		return fmt.Sprintf("the new authority of Secret %s signs; the former is trusted no more once every member serves a certificate of the new one%s", r.Secret, at)
	default:
		return ""
	}
}
