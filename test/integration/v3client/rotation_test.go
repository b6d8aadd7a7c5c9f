package v3client_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/pki"
)

// rotate is one pass over the certificates with rotateCA, in which the real members show
// what they use.
func (r *rig) rotate(t *testing.T, now, before time.Time) pki.Result {
	t.Helper()
	in := r.inputs(pki.AuthorityExpected)
	in.RotateBefore = before
	result := pki.Plan(now, in)
	if ask := result.Ask; ask != nil {
		in.Shown = map[string]pki.Shown{}
		for _, m := range r.members {
			atClient, err := r.pool.Greet(t.Context(), r.endpoint(m), ask.ClientCA)
			if err != nil {
				t.Fatal(err)
			}
			atPeer, err := r.pool.Greet(t.Context(), etcd.Endpoint{Address: m.peer, ServerName: serverName(m.name)}, ask.PeerCA)
			if err != nil {
				t.Fatal(err)
			}
			in.Shown[m.name] = pki.Shown{Client: pki.Port(atClient), Peer: pki.Port(atPeer)}
		}
		result = pki.Plan(now, in)
	}
	r.write(t, result)
	return result
}

// all proves that every member is one of the cluster's, over connections of now.
func (r *rig) all(t *testing.T) {
	t.Helper()
	for _, m := range r.members {
		eventually(t, 20*time.Second, m.name+" writes", func() error {
			s, err := r.dial(t, m).Status(t.Context())
			if err == nil && s.Leader == 0 {
				err = etcd.ErrNoLeader
			}
			if err == nil {
				err = r.dial(t, m).Propose(t.Context())
			}
			return err
		})
	}
}

// TestAuthoritiesAreRotated, of real members of every version: whom a member trusts
// shows in a handshake and changes with a restart alone, what it serves changes at once,
// and the cluster is one all the time.
func TestAuthoritiesAreRotated(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, version, 3, mutualTLS)
			r.startAll(t)
			now := time.Now().Add(time.Minute)
			before := now.Truncate(time.Second)
			reaches := func(phase pki.Phase, waiting ...string) {
				t.Helper()
				var is pki.Rotation
				for range 8 {
					result := r.rotate(t, now, before)
					is = result.Rotations[1]
					if is.Phase == phase && slices.Equal(is.Waiting, waiting) && (len(waiting) > 0 || len(result.Renew) == 0) {
						r.all(t)
						return
					}
				}
				t.Fatalf("%+v, want phase %s, waiting for %v", is, phase, waiting)
			}
			restart := func(m *process) {
				t.Helper()
				m.stop()
				r.start(t, m)
				r.all(t)
			}
			reaches(pki.PhaseTrusting, "c-0000", "c-0001", "c-0002")
			restart(r.members[2])
			restart(r.members[0])
			reaches(pki.PhaseTrusting, "c-0001")
			restart(r.members[1])
			// The files are there at once here, so that etcd serves the new leaves at once.
			reaches(pki.PhaseStable)
			for _, m := range r.members {
				restart(m)
			}
			r.alone(t, before)
		})
	}
}

// alone says that every member trusts one authority on each port, and that is new.
func (r *rig) alone(t *testing.T, before time.Time) {
	t.Helper()
	for _, m := range r.members {
		for address, secret := range map[string]string{m.client: pki.ClientCASecret(cluster), m.peer: pki.PeerCASecret(cluster)} {
			shown, err := r.pool.Greet(t.Context(), etcd.Endpoint{Address: address, ServerName: serverName(m.name)}, r.secrets[secret][pki.KeyCert])
			if err != nil || len(shown.Trusts) != 1 {
				t.Errorf("%s of %s trusts %d authorities: %v", address, m.name, len(shown.Trusts), err)
			}
		}
	}
	for _, a := range pki.Plan(before, r.inputs(pki.AuthorityExpected)).Rotations {
		if a.Phase != pki.PhaseStable || a.Ends.Before(before.Add(pki.AuthorityDuration-time.Minute)) {
			t.Errorf("%+v", a)
		}
	}
}

// TestLeavesAreRenewedAgainAndAgain: through four renewals no certificate that a member
// serves has ended, nobody is restarted for it, and who starts after the first ones have
// long ended is taken in.
func TestLeavesAreRenewedAgainAndAgain(t *testing.T) {
	const life, renewals = 9 * time.Second, 4
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, version, 3, mutualTLS)
			r.startAll(t)
			in := r.inputs(pki.AuthorityExpected)
			in.LeafDuration = life
			for _, m := range r.members {
				// Those of the founding live for longer.
				delete(r.secrets, pki.MemberSecret(m.name))
			}
			delete(r.secrets, pki.OperatorSecret(cluster))
			r.write(t, pki.Plan(time.Now(), in))
			serials := map[string]bool{servedSerial(t, r, r.members[1]): true}
			eventually(t, renewals*life, "four renewals", func() error {
				if result := pki.Plan(time.Now(), in); len(result.Renew) > 0 {
					r.write(t, result)
					serials[servedSerial(t, r, r.members[1])] = true
					r.all(t)
				}
				if len(serials) <= renewals {
					return fmt.Errorf("%d certificates served", len(serials))
				}
				return nil
			})
			r.members[2].stop()
			r.start(t, r.members[2])
			r.all(t)
		})
	}
}
