package resources

import (
	"slices"
	"testing"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
)

func inMode(mode v1alpha1.TLSMode) *v1alpha1.EtcdCluster {
	return cluster(func(c *v1alpha1.EtcdCluster) { c.Spec.TLS.Mode = mode })
}

// TestPlaintextIsTakenForAsLongAsAnybodyNeedsIt: by members, and by those that join.
func TestPlaintextIsTakenForAsLongAsAnybodyNeedsIt(t *testing.T) {
	const http, https, turned = "http://a-0003.a.ns.svc:2380", "https://a-0003.a.ns.svc:2380", "https://a-0003.a.ns.svc:2383"
	const plaintext, founded, both = "http://0.0.0.0:2380", "https://0.0.0.0:2380,https://0.0.0.0:2383", "http://0.0.0.0:2380,https://0.0.0.0:2383"
	cases := map[string]struct {
		mode           v1alpha1.TLSMode
		plaintextPeers bool
		listed         string
		made           v1alpha1.TLSMode
		peers          string
		joins          string
	}{
		"without TLS":                      {v1alpha1.TLSDisabled, true, "http://a-0000.a.ns.svc:2380", v1alpha1.TLSDisabled, plaintext, http},
		"turned on, with peers without":    {v1alpha1.TLSOptional, true, "https://a-0000.a.ns.svc:2383", v1alpha1.TLSOptional, both, http},
		"turned on":                        {v1alpha1.TLSOptional, false, "https://a-0000.a.ns.svc:2383", v1alpha1.TLSOptional, founded, turned},
		"founded with both":                {v1alpha1.TLSOptional, false, "https://a-0000.a.ns.svc:2380", v1alpha1.TLSOptional, founded, https},
		"wanted alone, with peers without": {v1alpha1.TLSEnabled, true, "http://a-0000.a.ns.svc:2380", v1alpha1.TLSOptional, both, http},
		"turned on, alone":                 {v1alpha1.TLSEnabled, false, "https://a-0000.a.ns.svc:2383", v1alpha1.TLSEnabled, founded, turned},
		"founded with TLS":                 {v1alpha1.TLSEnabled, false, "https://a-0000.a.ns.svc:2380", v1alpha1.TLSEnabled, founded, https},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c, seen := inMode(tc.mode), plan.Observed{Version: cluster().Spec.Version, PlaintextPeers: tc.plaintextPeers}
			seen.Members = []plan.Member{{Name: "a-0000", PeerURL: tc.listed}}
			made := MadeAs(c, seen)
			if got := made.Spec.TLS.Mode; got != tc.made || c.Spec.TLS.Mode != tc.mode || c.Status.PlaintextPeers {
				t.Errorf("pods are made as %s, want %s", got, tc.made)
			}
			if got := etcdFlags(made, "a-0003"); !slices.Contains(got, "--listen-peer-urls="+tc.peers) {
				t.Errorf("members listen at %v, want %s", got, tc.peers)
			}
			if got := JoinURL(c, seen, "a-0003"); got != tc.joins {
				t.Errorf("JoinURL() = %s, want %s", got, tc.joins)
			}
		})
	}
}

func TestTaken(t *testing.T) {
	for mode, want := range map[v1alpha1.TLSMode][2]bool{
		v1alpha1.TLSDisabled: {true, false}, v1alpha1.TLSOptional: {true, true}, v1alpha1.TLSEnabled: {false, true},
	} {
		pod := MemberPod(inMode(mode), Start{Member: "a-0001"})
		if plaintext, tls := Taken(pod); plaintext != want[0] || tls != want[1] {
			t.Errorf("%s: plaintext %v, TLS %v", mode, plaintext, tls)
		}
		pod.Spec.Containers[0].Name = "sidecar"
		if plaintext, tls := Taken(pod); plaintext || tls {
			t.Errorf("%s: a container that is not etcd's counts", mode)
		}
	}
}

func TestListedURLsAreKept(t *testing.T) {
	got := InitialCluster(inMode(v1alpha1.TLSOptional), []string{"a-0000", "a-0001"}, map[string]string{"a-0000": "http://a-0000.a.ns.svc:2380"})
	if want := "a-0000=http://a-0000.a.ns.svc:2380,a-0001=https://a-0001.a.ns.svc:2380"; got != want {
		t.Errorf("InitialCluster() = %s, want %s", got, want)
	}
}

// TestBackupsAreTakenOverWhatAllMembersTake.
func TestBackupsAreTakenOverWhatAllMembersTake(t *testing.T) {
	for scheme, c := range map[string]*v1alpha1.EtcdCluster{"http": inMode(v1alpha1.TLSOptional), "https": inMode(v1alpha1.TLSOptional)} {
		c.Status.PlaintextPeers = scheme == "http"
		c.Status.Members = []v1alpha1.MemberStatus{{Name: "a-0000", Role: v1alpha1.RoleVoter}}
		if got, want := clientURLs(c), scheme+"://a-0000.a.ns.svc:2379"; len(got) != 1 || got[0] != want {
			t.Errorf("clientURLs() = %v, want %s", got, want)
		}
	}
}
