package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

var founders = []string{"c-0000", "c-0001", "c-0002"}

const life = 90 * time.Minute

type secrets = map[string]map[string][]byte

func inputs(have secrets, policy AuthorityPolicy, members ...string) Inputs {
	return Inputs{
		Cluster: "c", Namespace: "ns", Members: members, LeafDuration: life,
		Authorities: policy, Secrets: have,
	}
}

// carryOut does what the caller does with a Result.
func carryOut(have secrets, r Result) secrets {
	after := maps.Clone(have)
	if after == nil {
		after = secrets{}
	}
	for _, s := range slices.Concat(r.Create, r.Renew) {
		after[s.Name] = s.Data
	}
	for _, name := range r.Remove {
		delete(after, name)
	}
	return after
}

// founded are the Secrets of a healthy cluster, issued at start.
func founded(t *testing.T, members ...string) secrets {
	t.Helper()
	r := Plan(start, inputs(nil, AuthorityMayBeCreated, members...))
	if len(r.Problems) > 0 {
		t.Fatalf("problems while founding: %v", r.Problems)
	}
	return carryOut(nil, r)
}

func copied(s secrets) secrets {
	c := secrets{}
	for name, data := range s {
		c[name] = maps.Clone(data)
	}
	return c
}

func names(list []SecretData) []string {
	var out []string
	for _, s := range list {
		out = append(out, s.Name)
	}
	return out
}

func reasons(list []Problem) []string {
	var out []string
	for _, p := range list {
		out = append(out, p.Secret+" "+p.Reason)
	}
	return out
}

func TestFoundingCreatesAuthoritiesFirstAndEverySecretOnce(t *testing.T) {
	r := Plan(start, inputs(nil, AuthorityMayBeCreated, founders...))
	if diff := cmp.Diff(SecretNames("c", founders), names(r.Create)); diff != "" {
		t.Errorf("created (-want +got):\n%s", diff)
	}
	if len(r.Renew)+len(r.Remove)+len(r.Problems) > 0 {
		t.Errorf("more than creations: %+v", r)
	}
	if want := start.Add(life * 2 / 3); !r.NextRenewal.Equal(want) {
		t.Errorf("next renewal %v, want %v", r.NextRenewal, want)
	}
	for _, s := range r.Create {
		want := corev1.SecretTypeTLS
		if strings.HasPrefix(s.Name, "c-000") {
			want = corev1.SecretTypeOpaque
		}
		if s.Type != want {
			t.Errorf("%s has type %s, want %s", s.Name, s.Type, want)
		}
	}
	again := Plan(start.Add(time.Second), inputs(carryOut(nil, r), AuthorityMayBeCreated, founders...))
	if len(again.Create)+len(again.Renew)+len(again.Remove)+len(again.Problems) > 0 {
		t.Errorf("a second pass has more to do: %+v", again)
	}
}

func TestCrashAnywhereInFoundingEndsWithOneAuthorityOfEachKind(t *testing.T) {
	all := Plan(start, inputs(nil, AuthorityMayBeCreated, founders...)).Create
	for n := range len(all) + 1 {
		have := carryOut(nil, Result{Create: all[:n]})
		r := Plan(start, inputs(have, AuthorityMayBeCreated, founders...))
		after := carryOut(have, r)
		if len(r.Problems)+len(r.Renew) > 0 || len(after) != len(all) {
			t.Fatalf("after %d Secrets: %d in the end, renewed %v, problems %v", n, len(after), names(r.Renew), r.Problems)
		}
		for name := range have {
			if diff := cmp.Diff(have[name], after[name]); diff != "" {
				t.Errorf("after %d Secrets, %s was replaced", n, name)
			}
		}
		if last := Plan(start, inputs(after, AuthorityExpected, founders...)); len(last.Create)+len(last.Renew)+len(last.Problems) > 0 {
			t.Errorf("after %d Secrets the end state is not stable: %+v", n, last)
		}
	}
}

func TestPlan(t *testing.T) {
	due := start.Add(life * 2 / 3)
	other := Plan(start, inputs(nil, AuthorityMayBeCreated, founders...))
	stranger := carryOut(nil, other)
	leaves := SecretNames("c", founders)[2:]

	cases := map[string]struct {
		at      time.Time
		change  func(s secrets)
		policy  AuthorityPolicy
		members []string

		wantCreate, wantRenew, wantRemove, wantProblems []string
		// wantNext is relative to start; zero means no check.
		wantNext time.Duration
	}{
		"nothing is due right after founding": {at: start, wantNext: time.Hour},
		"nothing is due a second before two thirds": {
			at: due.Add(-time.Second), wantNext: time.Hour,
		},
		"every leaf is due at two thirds to the second, the authorities are not": {
			at: due, wantRenew: leaves, wantNext: 2 * time.Hour,
		},
		"a fraction of a second does not matter": {
			at: due.Add(-time.Nanosecond), wantNext: time.Hour,
		},
		"expired leaves are renewed": {at: start.Add(48 * time.Hour), wantRenew: leaves},
		"a new member gets a Secret": {
			at: start.Add(time.Minute), members: append(slices.Clone(founders), "c-0003"), wantCreate: []string{"c-0003-tls"},
		},
		"a member with a wide ordinal is removed once it is gone, and nothing else is": {
			at: start,
			change: func(s secrets) {
				s["c-10000-tls"], s["c-abcd-tls"], s["d-0000-tls"], s["c-1-tls"] = s["c-0000-tls"], nil, nil, nil
			},
			members: founders[1:], wantRemove: []string{"c-0000-tls", "c-10000-tls"},
		},
		"a missing leaf Secret is created again": {
			at: start, change: func(s secrets) { delete(s, "c-client-tls") }, wantCreate: []string{"c-client-tls"},
		},
		"garbage in one leaf renews that Secret alone": {
			at: start, change: func(s secrets) { s["c-0001-tls"][KeyServerCert] = []byte("garbage") },
			wantRenew: []string{"c-0001-tls"},
		},
		"an emptied leaf Secret is filled again": {
			at: start, change: func(s secrets) { s["c-operator-tls"] = nil }, wantRenew: []string{"c-operator-tls"},
		},
		"a key of another leaf does not match": {
			at: start, change: func(s secrets) { s["c-0001-tls"][KeyPeerKey] = s["c-0002-tls"][KeyPeerKey] },
			wantRenew: []string{"c-0001-tls"},
		},
		"a member with the leaf of another member gets its own": {
			at: start, change: func(s secrets) { s["c-0001-tls"] = s["c-0002-tls"] }, wantRenew: []string{"c-0001-tls"},
		},
		"a client leaf in the operator's place is not root": {
			at: start, change: func(s secrets) { s["c-operator-tls"] = s["c-client-tls"] }, wantRenew: []string{"c-operator-tls"},
		},
		"a single leaf of a strange authority is a broken leaf": {
			at: start, change: func(s secrets) { s["c-0001-tls"] = stranger["c-0001-tls"] }, wantRenew: []string{"c-0001-tls"},
		},
		"a leaf Secret without its authority's certificate gets it": {
			at: start, change: func(s secrets) { delete(s["c-0000-tls"], KeyPeerCA) }, wantRenew: []string{"c-0000-tls"},
		},
		"another authority in the Secret issues nothing, even when leaves are due": {
			at:           due,
			change:       func(s secrets) { s["c-client-ca"], s["c-peer-ca"] = stranger["c-client-ca"], stranger["c-peer-ca"] },
			wantProblems: []string{"c-client-ca AuthorityChanged", "c-peer-ca AuthorityChanged"},
		},
		"another authority is noticed although one leaf is mixed up": {
			at: due,
			change: func(s secrets) {
				s["c-peer-ca"] = stranger["c-peer-ca"]
				s["c-0000-tls"][KeyPeerCA] = s["c-client-ca"][KeyCert]
			},
			wantRenew: leaves, wantProblems: []string{"c-peer-ca AuthorityChanged"},
		},
		"a missing client authority holds back its leaves alone": {
			at: due, change: func(s secrets) { delete(s, "c-client-ca") },
			wantRenew: leaves[2:], wantProblems: []string{"c-client-ca SecretMissing"},
		},
		"both authorities missing renew nothing": {
			at: due, change: func(s secrets) { delete(s, "c-client-ca"); delete(s, "c-peer-ca") },
			wantProblems: []string{"c-client-ca SecretMissing", "c-peer-ca SecretMissing"},
		},
		"a missing authority is not created while a leaf of it exists, founding or not": {
			at: start, policy: AuthorityMayBeCreated, change: func(s secrets) { delete(s, "c-peer-ca") },
			wantProblems: []string{"c-peer-ca SecretMissing"},
		},
		"a missing authority without leaves is not created once the cluster is founded": {
			at: start, change: func(s secrets) { clear(s) },
			wantProblems: []string{"c-client-ca SecretMissing", "c-peer-ca SecretMissing"},
		},
		"a broken authority is left alone": {
			at: due, change: func(s secrets) { s["c-client-ca"][KeyKey] = []byte("garbage") },
			wantRenew: leaves[2:], wantProblems: []string{"c-client-ca SecretInvalid"},
		},
		"a leaf is no authority": {
			at: due, change: func(s secrets) { s["c-client-ca"] = s["c-client-tls"] },
			wantRenew: leaves[2:], wantProblems: []string{"c-client-ca SecretInvalid"},
		},
		"a member without a Secret gets none while an authority is missing": {
			at: start, change: func(s secrets) { delete(s, "c-peer-ca"); delete(s, "c-0002-tls") },
			wantProblems: []string{"c-peer-ca SecretMissing"},
		},
		"a clock behind is a problem and no new leaf": {
			at: start.Add(-time.Hour),
			wantProblems: []string{
				"c-client-ca NotYetValid", "c-peer-ca NotYetValid",
			},
		},
		"a clock behind by no more than the backdating is none": {at: start.Add(-Backdate)},
		"an ended authority issues nothing": {
			at:           start.Add(AuthorityDuration),
			wantProblems: []string{"c-client-ca AuthorityExpired", "c-peer-ca AuthorityExpired"},
		},
	}
	base := founded(t, founders...)
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			have := copied(base)
			if tc.change != nil {
				tc.change(have)
			}
			before := copied(have)
			members := tc.members
			if members == nil {
				members = founders
			}
			r := Plan(tc.at, inputs(have, tc.policy, members...))
			got := [][]string{names(r.Create), names(r.Renew), r.Remove, reasons(r.Problems)}
			want := [][]string{tc.wantCreate, tc.wantRenew, tc.wantRemove, tc.wantProblems}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("created, renewed, removed, problems (-want +got):\n%s\n%+v", diff, r.Problems)
			}
			if next := r.NextRenewal; tc.wantNext != 0 && !next.Equal(start.Add(tc.wantNext)) {
				t.Errorf("next renewal %v, want %v", next, start.Add(tc.wantNext))
			}
			if diff := cmp.Diff(before, have); diff != "" {
				t.Error("the inputs were changed")
			}
			for _, p := range r.Problems {
				if strings.Count(p.Message, " — ") != 2 || !strings.Contains(p.Message, "Secret "+p.Secret) {
					t.Errorf("message is not what — why — what to do: %s", p.Message)
				}
			}
			for _, s := range slices.Concat(r.Create, r.Renew) {
				if s.Why == "" {
					t.Errorf("%s is written without a reason", s.Name)
				}
			}
			settled := Plan(tc.at, inputs(carryOut(have, r), AuthorityExpected, members...))
			if len(settled.Create)+len(settled.Renew)+len(settled.Remove) > 0 {
				t.Errorf("not settled after one pass: %v %v", names(settled.Create), names(settled.Renew))
			}
		})
	}
}

func TestLeafFromTheFutureIsAProblemAndNoLoop(t *testing.T) {
	have := founded(t, founders...)
	// The clock was a day ahead when the leaf was renewed, and was put right.
	ahead := Plan(start.Add(24*time.Hour), inputs(have, AuthorityExpected, founders...))
	have = carryOut(have, Result{Renew: ahead.Renew[:1]})
	r := Plan(start, inputs(have, AuthorityExpected, founders...))
	if len(r.Create)+len(r.Renew) > 0 {
		t.Errorf("issued %v %v", names(r.Create), names(r.Renew))
	}
	if diff := cmp.Diff([]string{"c-operator-tls NotYetValid"}, reasons(r.Problems)); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func TestRenewalKeepsAuthorityAndTheLeafBesideIt(t *testing.T) {
	have := founded(t, founders...)
	have["c-0001-tls"][KeyServerKey] = nil
	r := Plan(start.Add(time.Minute), inputs(have, AuthorityExpected, founders...))
	after := carryOut(have, r)
	for _, key := range []string{KeyClientCA, KeyPeerCA, KeyPeerCert, KeyPeerKey} {
		if !bytes.Equal(have["c-0001-tls"][key], after["c-0001-tls"][key]) {
			t.Errorf("%s was changed", key)
		}
	}
	if bytes.Equal(have["c-0001-tls"][KeyServerCert], after["c-0001-tls"][KeyServerCert]) {
		t.Error("the server's leaf was kept without its key")
	}
}

func TestNoLeafOutlivesItsAuthorityAndTheLastOneIsNotRenewedForEver(t *testing.T) {
	end := start.Add(AuthorityDuration)
	have := founded(t, founders...)
	at := end.Add(-time.Hour)
	renewals := 0
	for ; at.Before(end); at = at.Add(7 * time.Second) {
		// One that is expected would be rotated.
		r := Plan(at, inputs(have, AuthorityMayBeCreated, founders...))
		if len(r.Renew) == 0 {
			continue
		}
		renewals++
		have = carryOut(have, r)
		for _, s := range r.Renew {
			for _, key := range []string{KeyCert, KeyServerCert, KeyPeerCert} {
				if cert := parseCert(s.Data[key]); cert != nil && cert.NotAfter.After(end) {
					t.Fatalf("%s in %s ends at %v, its authority at %v", key, s.Name, cert.NotAfter, end)
				}
			}
		}
	}
	if renewals != 1 {
		t.Errorf("renewed %d times in the authority's last hour, want once", renewals)
	}
}

func TestCertificatesCarryWhatTheyMust(t *testing.T) {
	have := founded(t, "c-0000")
	own := []string{"c-0000.c.ns.svc", "c-0000.c.ns", "c-0000.c", "c-0000"}
	cases := map[string]struct {
		secret, key, commonName string
		dns                     []string
		ips                     []string
		uses                    []x509.ExtKeyUsage
		life                    time.Duration
	}{
		"client authority": {secret: "c-client-ca", key: KeyCert, commonName: "c-client-ca", life: 10 * 365 * 24 * time.Hour},
		"peer authority":   {secret: "c-peer-ca", key: KeyCert, commonName: "c-peer-ca", life: 10 * 365 * 24 * time.Hour},
		"server": {
			secret: "c-0000-tls", key: KeyServerCert, commonName: "c-0000", uses: forBoth, life: life,
			dns: append(slices.Clone(own), "c-client", "c-client.ns", "c-client.ns.svc", "localhost"), ips: []string{"127.0.0.1", "::1"},
		},
		"peer":        {secret: "c-0000-tls", key: KeyPeerCert, commonName: "c-0000", uses: forBoth, life: life, dns: own},
		"operator":    {secret: "c-operator-tls", key: KeyCert, commonName: "root", uses: forClient, life: life},
		"application": {secret: "c-client-tls", key: KeyCert, commonName: "c-client", uses: forClient, life: life},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			cert := parseCert(have[tc.secret][tc.key])
			if cert == nil {
				t.Fatal("no certificate")
			}
			var ips []string
			for _, ip := range cert.IPAddresses {
				ips = append(ips, ip.String())
			}
			got := []any{cert.Subject.CommonName, cert.DNSNames, ips, cert.ExtKeyUsage, cert.NotBefore, cert.NotAfter}
			want := []any{tc.commonName, tc.dns, tc.ips, tc.uses, start.Add(-5 * time.Minute), start.Add(tc.life)}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("certificate (-want +got):\n%s", diff)
			}
			if key, ok := cert.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
				t.Errorf("key is %T, want ECDSA P-256", cert.PublicKey)
			}
			if isRoot := cert.Subject.CommonName == OperatorName; isRoot != (tc.secret == "c-operator-tls") {
				t.Errorf("common name %q in %s", cert.Subject.CommonName, tc.secret)
			}
		})
	}
	for _, key := range []string{KeyClientCA, KeyPeerCA} {
		authority := map[string]string{KeyClientCA: "c-client-ca", KeyPeerCA: "c-peer-ca"}[key]
		if !bytes.Equal(have["c-0000-tls"][key], have[authority][KeyCert]) {
			t.Errorf("%s is not the certificate of %s", key, authority)
		}
	}
	for name, data := range have {
		for key, value := range data {
			if name != "c-client-ca" && (bytes.Equal(value, have["c-client-ca"][KeyKey]) || name != "c-peer-ca" && bytes.Equal(value, have["c-peer-ca"][KeyKey])) {
				t.Errorf("an authority's key stands in %s %s", name, key)
			}
		}
	}
}

func TestNoTextHoldsWhatASecretHolds(t *testing.T) {
	const canary = "CANARY"
	full := founded(t, founders...)
	for name, data := range full {
		for key := range data {
			for what, value := range map[string][]byte{
				"text":            []byte(canary),
				"a PEM block":     []byte("-----BEGIN " + canary + "-----\n" + canary + "\n-----END " + canary + "-----\n"),
				"a PEM of a text": []byte("-----BEGIN CERTIFICATE-----\nQ0FOQVJZ\n-----END CERTIFICATE-----\n"),
				"a headed PEM":    []byte("-----BEGIN PRIVATE KEY-----\n" + canary + ": " + canary + "\n\nQ0FOQVJZ\n-----END PRIVATE KEY-----\n"),
			} {
				have := copied(full)
				have[name][key] = value
				r := Plan(start, inputs(have, AuthorityExpected, founders...))
				var text strings.Builder
				for _, p := range r.Problems {
					text.WriteString(p.Message)
				}
				for _, s := range slices.Concat(r.Create, r.Renew) {
					text.WriteString(s.Why)
				}
				if _, err := OperatorCredentials(have[name]); err != nil {
					text.WriteString(err.Error())
				}
				if text.Len() == 0 {
					t.Errorf("%s in %s %s was not noticed", what, name, key)
				}
				if strings.Contains(text.String(), canary) || strings.Contains(text.String(), "Q0FOQVJZ") {
					t.Errorf("%s in %s %s is quoted: %s", what, name, key, text.String())
				}
			}
		}
	}
}

func TestLeafOfTheRightAuthorityForTheWrongPurposeIsIssuedAgain(t *testing.T) {
	cases := map[string]func(l *leaf){
		"a name is missing":               func(l *leaf) { l.dns = l.dns[1:] },
		"an address is missing":           func(l *leaf) { l.ips = l.ips[:1] },
		"it serves but does not dial":     func(l *leaf) { l.uses = l.uses[:1] },
		"it names a member of the future": func(l *leaf) { l.commonName = "c-0009" },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			have := founded(t, founders...)
			a, wrong := parseAuthority("c-client-ca", have["c-client-ca"])
			if a == nil {
				t.Fatal(wrong)
			}
			p := &planner{now: start, in: inputs(have, AuthorityExpected, founders...)}
			l := p.member("c-0001").leaves[0]
			change(&l)
			cert, key, err := l.issue(start, life, a)
			if err != nil {
				t.Fatal(err)
			}
			have["c-0001-tls"][KeyServerCert], have["c-0001-tls"][KeyServerKey] = cert, key
			r := Plan(start, p.in)
			if diff := cmp.Diff([]string{"c-0001-tls"}, names(r.Renew)); diff != "" {
				t.Errorf("renewed (-want +got):\n%s", diff)
			}
		})
	}
}
