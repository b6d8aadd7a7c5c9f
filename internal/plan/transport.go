package plan

import "fmt"

// TLS is turned on in three strides, and in each of them every member can dial every
// other one:
//
//  1. Members are restarted, one at a time, with certificates and with listeners for both
//     schemes. Their peer URLs stay as they are.
//  2. Once every voter takes TLS, the peer URLs are changed in etcd, one at a time.
//  3. When the user wants no plaintext any more, and not before the last peer URL is
//     changed, members are restarted without its listeners.
//
// The first and the last are rolls like any other: what pods are made of follows from
// PlaintextPeers.

// overPlaintext says that etcd lists the member at a peer URL without TLS.
func (m Member) overPlaintext() bool { return m.Voter() && m.Plaintext }

// readdressed are the voters whose peer URLs are to be changed; none before every voter
// takes TLS, for one that has no certificate yet could not reach the others any more.
func (o Observed) readdressed() []Member {
	for _, m := range o.Members {
		if m.Voter() && !m.TakesTLS {
			return nil
		}
	}
	if !o.TLS {
		return nil
	}
	return o.inTurn(Member.overPlaintext)
}

// readdressWait says what the next change of a peer URL waits for.
func readdressWait(o Observed) (Step, bool) {
	due := o.readdressed()
	if len(due) == 0 {
		return Step{}, false
	}
	reason, why := o.unsettled("Rolling")
	if _, learning := o.learner(); learning && why == "" {
		why = "a learner has to become a voter first"
	}
	return Step{Kind: Wait, Members: names(due, Member.overPlaintext), Reason: reason, Operation: "Rolling", Message: fmt.Sprintf(
		"%s to be reached over TLS; %s is next: %s", enumerate(due), due[0].Name, why)}, why != ""
}

// readdress gives a member a peer URL with TLS. Connections that there are stay as they
// are; the others dial it there from the next one on.
func readdress(o Observed) (Step, bool) {
	due := o.readdressed()
	if len(due) == 0 {
		return Step{}, false
	}
	m := due[0]
	return Step{Kind: UpdateMember, Members: []string{m.Name}, ID: m.ID, Reason: "Rolling", Message: fmt.Sprintf(
		"having the others reach %s over TLS%s", m.Name, o.more(len(due)-1))}, true
}
