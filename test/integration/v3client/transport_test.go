package v3client_test

import (
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/etcd"
)

// transport is what a member listens for while TLS is turned on.
type transport int

const (
	plain transport = iota
	both
	protected
)

// restarted has a member listen as the operator has it do, after it was stopped.
func (r *rig) restarted(t *testing.T, m *process, as transport) {
	t.Helper()
	if m.cmd != nil {
		m.stop()
	}
	m.args = nil
	var list []string
	for _, f := range r.members {
		list = append(list, f.name+"=http://"+serverName(f.name)+":2380")
	}
	clients, peers := "http://"+m.client, "http://"+m.peer
	switch as {
	case both:
		clients, peers = clients+",https://"+m.client, peers+",https://"+m.host+":2383"
	case protected:
		clients, peers = "https://"+m.client, "https://"+m.peer+",https://"+m.host+":2383"
	}
	for _, flag := range r.flags(m, "new", r.members) {
		name, _, _ := strings.Cut(flag, "=")
		switch name {
		case "--listen-client-urls":
			flag = name + "=" + clients
		case "--listen-peer-urls":
			flag = name + "=" + peers
		case "--initial-advertise-peer-urls":
			flag = name + "=http://" + serverName(m.name) + ":2380"
		case "--initial-cluster":
			flag = name + "=" + strings.Join(list, ",")
		}
		certificate := strings.Contains(name, "-file") || strings.HasSuffix(name, "client-cert-auth") || strings.HasSuffix(name, "san-verification")
		if as != plain || !certificate {
			m.args = append(m.args, flag)
		}
	}
	r.start(t, m)
}

// reached dials a member with TLS or without.
func (r *rig) reached(t *testing.T, m *process, plaintext bool) etcd.Conn {
	t.Helper()
	to := r.endpoint(m)
	to.Plaintext = plaintext
	conn, err := r.pool.Dial(group, to, r.operator(t))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// one proves that the members are one cluster, as each of them has it.
func (r *rig) one(t *testing.T, plaintext bool) {
	t.Helper()
	for _, m := range r.members {
		eventually(t, 20*time.Second, m.name+" writes", func() error { return r.reached(t, m, plaintext).Propose(t.Context()) })
	}
}

// TestTLSIsTurnedOn for real members of every version: one at a time they take both, are
// given other peer URLs, and give plaintext up, and are one cluster all the time.
func TestTLSIsTurnedOn(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, version, 3, mutualTLS)
			for _, m := range r.members {
				r.restarted(t, m, plain)
			}
			r.one(t, true)
			for _, m := range r.members {
				r.restarted(t, m, both)
				r.one(t, true)
				if err := r.reached(t, m, false).Propose(t.Context()); err != nil {
					t.Fatalf("%s does not take TLS: %v", m.name, err)
				}
			}
			list, err := r.reached(t, r.members[0], false).Members(t.Context())
			if err != nil || len(list.Members) != 3 {
				t.Fatalf("%v: %v", list, err)
			}
			for _, listed := range list.Members {
				if err := r.reached(t, r.members[0], false).UpdateMember(t.Context(), listed.ID, "https://"+serverName(listed.Name)+":2383"); err != nil {
					t.Fatal(err)
				}
				r.one(t, true)
			}
			if err := r.reached(t, r.members[0], false).UpdateMember(t.Context(), 4711, "https://x:2380"); err == nil || !strings.Contains(err.Error(), etcd.ErrMemberNotFound.Error()) {
				t.Errorf("nobody is updated: %v", err)
			}
			for _, m := range r.members {
				r.restarted(t, m, protected)
				r.one(t, false)
				if err := r.reached(t, m, true).Propose(t.Context()); err == nil {
					t.Errorf("%s takes plaintext", m.name)
				}
			}
		})
	}
}
