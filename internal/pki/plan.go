package pki

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"
)

// planner gathers the result of one Plan.
type planner struct {
	now    time.Time
	in     Inputs
	result Result
	// examined are the certificates of others that were tried, for each is asked for often.
	examined map[string]material
	// anchors of files, standings of ports and signatures, for the same reason.
	anchors    map[string]*x509.Certificate
	standings  map[string]standing
	signatures map[signature]bool
}

// Plan says which Secrets are to be created, renewed and removed now.
//
// A leaf is due at two thirds of its life, or when it is missing, broken, of
// another authority, or does not cover what is wanted. An authority is rotated from two
// thirds of its life on, or when it is asked for; see rotate. An authority is created
// only while Inputs allow it and no leaf of it exists; with an authority that
// is missing, broken, changed or ended, its leaves stay as they are and a
// Problem says so.
func Plan(now time.Time, in Inputs) Result {
	// X.509 counts in seconds.
	p := &planner{now: now.UTC().Truncate(time.Second), in: in}
	if p.in.LeafDuration <= 0 {
		p.in.LeafDuration = DefaultLeafDuration
	}
	authorities := map[string]*authority{}
	for _, name := range []string{ClientCASecret(in.Cluster), PeerCASecret(in.Cluster)} {
		if a := p.authority(name); a != nil {
			authorities[name] = a
		}
	}
	p.trust()
	p.request()
	for _, name := range []string{ClientCASecret(in.Cluster), PeerCASecret(in.Cluster)} {
		p.survey(name)
		if a := authorities[name]; a != nil && in.Secrets[name] != nil && !p.mark(a) {
			p.rotate(a)
		}
	}
	for _, want := range p.secrets() {
		p.leaves(want, authorities)
	}
	p.remove()
	return p.result
}

// leaves plans one Secret. A leaf that is in order keeps its bytes when its
// neighbour is issued again.
func (p *planner) leaves(want wanted, authorities map[string]*authority) {
	old, found := p.in.Secrets[want.name]
	made := SecretData{Name: want.name, Type: want.kind, Data: map[string][]byte{}}
	var why []string
	for _, l := range want.leaves {
		for _, key := range []string{l.caKey, l.certKey, l.keyKey} {
			if value, ok := old[key]; ok {
				made.Data[key] = value
			}
		}
		a := authorities[l.authority]
		if a == nil {
			if !found {
				// Half a member's Secret starts no member.
				return
			}
			continue
		}
		reason, ok := p.place(made, want.name, l, a)
		if !ok {
			return
		}
		if reason == "" && !bytes.Equal(old[l.caKey], a.bundle()) {
			reason = fmt.Sprintf("%s is not what Secret %s has trusted", l.caKey, a.secret)
		}
		made.Data[l.caKey] = a.bundle()
		if reason != "" {
			why = append(why, reason)
		}
	}
	made.Why = strings.Join(why, "; ")
	switch {
	case !found:
		made.Why = "it does not exist"
		p.result.Create = append(p.result.Create, made)
	case len(why) > 0:
		p.result.Renew = append(p.result.Renew, made)
	}
}

// place puts a leaf into the Secret's data: the one that somebody else issued, one that is
// issued here, or the one that is there. It says why it is another one than before, if it
// is, and is false when there is none.
func (p *planner) place(into SecretData, own string, l leaf, a *authority) (why string, ok bool) {
	if l.issued {
		if why, ok := p.take(into, own, l, a); ok {
			return why, p.keep(own, l, into.Data, a)
		}
	}
	if a.key == nil {
		return "", p.keep(own, l, into.Data, a)
	}
	if why = p.due(own, l, into.Data, a); why != "" && !p.put(into, l, a) {
		return why, false
	}
	p.next(parseCert(into.Data[l.certKey]), a)
	return why, true
}

// due says why a leaf must be issued, or nothing.
func (p *planner) due(secret string, l leaf, data map[string][]byte, a *authority) string {
	if fault := l.fault(data, a); fault != "" {
		return fault
	}
	cert := parseCert(data[l.certKey])
	if p.now.Before(cert.NotBefore) {
		// The clock went back, or was ahead when the leaf was issued. A new
		// leaf every pass would not help those whose clock is right.
		p.problem(secret, ReasonNotYetValid,
			"%s in Secret %s is valid only from %s and it is %s now — others refuse it before — correct the clock of the operator's node; once it is right, deleting the Secret has it issued again",
			l.certKey, secret, stamp(cert.NotBefore), stamp(p.now))
		return ""
	}
	if p.now.Before(dueAt(cert)) || !cert.NotAfter.Before(a.cert.NotAfter) {
		// A leaf that ends with its authority gains nothing from a new one.
		return ""
	}
	return fmt.Sprintf("%s ends at %s", l.certKey, stamp(cert.NotAfter))
}

// put issues the leaf into the Secret's data.
func (p *planner) put(into SecretData, l leaf, a *authority) bool {
	cert, key, err := l.issue(p.now, p.in.LeafDuration, a)
	if err != nil {
		p.problem(into.Name, ReasonIssuingFailed,
			"%s for Secret %s could not be issued (%v) — it is missing, or will end — it is tried again", l.certKey, into.Name, err)
		return false
	}
	into.Data[l.certKey], into.Data[l.keyKey] = cert, key
	return true
}

// next notes when the leaf falls due.
func (p *planner) next(cert *x509.Certificate, a *authority) {
	if cert == nil || !cert.NotAfter.Before(a.cert.NotAfter) {
		return
	}
	if due := dueAt(cert); p.result.NextRenewal.IsZero() || due.Before(p.result.NextRenewal) {
		p.result.NextRenewal = due
	}
}

// remove lists the Secrets of members that are gone.
func (p *planner) remove() {
	for name := range p.in.Secrets {
		member, ok := strings.CutSuffix(name, MemberSecret(""))
		if !ok || slices.Contains(p.in.Members, member) {
			continue
		}
		ordinal, ok := strings.CutPrefix(member, p.in.Cluster+"-")
		if ok && len(ordinal) >= 4 && strings.Trim(ordinal, "0123456789") == "" {
			p.result.Remove = append(p.result.Remove, name)
		}
	}
	slices.Sort(p.result.Remove)
}

func (p *planner) problem(secret, reason, format string, args ...any) {
	p.result.Problems = append(p.result.Problems, Problem{
		Secret: secret, Reason: reason, Message: fmt.Sprintf(format, args...),
	})
}
