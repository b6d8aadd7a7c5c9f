package v3client_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/etcd"
)

// TestFsyncsAreRead: every release says how often and how long its log was synced, with
// TLS and without; and whoever is no member's client is told nothing.
func TestFsyncsAreRead(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		for name, s := range map[string]security{"plaintext": plaintext, "TLS": mutualTLS} {
			t.Run(version+" "+name, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, version, 1, s)
				m := r.members[0]
				// It syncs, other than for all other tests, and has a port for metrics.
				m.args = slices.DeleteFunc(m.args, func(arg string) bool { return arg == "--unsafe-no-fsync" })
				m.args = append(m.args, "--listen-metrics-urls="+r.scheme()+"://"+m.host+":2381")
				r.startAll(t)
				to := etcd.Endpoint{Address: m.host + ":2381", ServerName: serverName(m.name)}
				before := fsyncs(t, r, to)
				for range 5 {
					if err := r.dial(t, m).Propose(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				after := fsyncs(t, r, to)
				if after.Count < before.Count+5 || after.Took <= before.Took || after.Took > before.Took+time.Minute {
					t.Errorf("five writes: %+v, then %+v", before, after)
				}
				if s == mutualTLS {
					if found, err := r.pool.Fsyncs(t.Context(), "strangers", to, etcd.Credentials{}); err == nil {
						t.Errorf("without a certificate: %+v", found)
					}
				}
				to.Address = m.host + ":1"
				if _, err := r.pool.Fsyncs(t.Context(), group, to, r.operator(t)); err == nil || !strings.Contains(err.Error(), m.host) {
					t.Errorf("nobody listens there, and it answered %v", err)
				}
			})
		}
	}
}

func fsyncs(t *testing.T, r *rig, to etcd.Endpoint) etcd.Fsyncs {
	t.Helper()
	found, err := r.pool.Fsyncs(t.Context(), group, to, r.operator(t))
	if err != nil {
		t.Fatal(err)
	}
	return found
}
