package resources

import (
	"testing"

	"github.com/quorate/quorate/api/v1alpha1"
)

func TestOrdinal(t *testing.T) {
	for _, cluster := range []string{"a", "a-0000", "etcd-cluster", "x9"} {
		for _, n := range []int{0, 1, 9, 42, 9999, 10000, 123456} {
			name := MemberName(cluster, n)
			if got, ok := Ordinal(cluster, name); !ok || got != n {
				t.Errorf("Ordinal(%q, %q) = %d, %v, want %d", cluster, name, got, ok, n)
			}
		}
	}
	foreign := map[string][2]string{
		"the client Service":            {"etcd-cluster", "etcd-cluster-client"},
		"too few digits":                {"a", "a-000"},
		"a zero too many":               {"a", "a-00001"},
		"a member of a longer cluster":  {"a", "a-0000-0000"},
		"a member of a shorter cluster": {"a-0000", "a-0000"},
		"another cluster's":             {"a", "b-0000"},
		"a prefix without a dash":       {"a", "ab-0000"},
		"a sign":                        {"a", "a--001"},
		"a plus":                        {"a", "a-+001"},
		"letters among the digits":      {"a", "a-00x0"},
		"digits of another script":      {"a", "a-٠٠٠٠"},
		"the cluster itself":            {"a", "a"},
		"nothing after the dash":        {"a", "a-"},
		"nothing":                       {"a", ""},
		"a number beyond every counter": {"a", "a-99999999999999999999"},
		"a name with a claim's prefix":  {"a", "data-a-0000"},
		"white space":                   {"a", "a- 0000"},
	}
	for what, f := range foreign {
		if n, ok := Ordinal(f[0], f[1]); ok {
			t.Errorf("%s: %q is taken for member %d of %q", what, f[1], n, f[0])
		}
	}
}

func TestMemberOfURL(t *testing.T) {
	cases := map[string]struct {
		cluster *v1alpha1.EtcdCluster
		url     string
		want    string
	}{
		"our own":                     {cluster(), "https://a-0001.a.ns.svc:2380", "a-0001"},
		"our own in plaintext":        {cluster(), "http://a-0001.a.ns.svc:2380", "a-0001"},
		"our own on another port":     {cluster(), "https://a-0001.a.ns.svc:12380", "a-0001"},
		"our own without a port":      {cluster(), "https://a-0001.a.ns.svc", "a-0001"},
		"our own, a high ordinal":     {cluster(), "https://a-12345.a.ns.svc:2380", "a-12345"},
		"another namespace":           {cluster(), "https://a-0001.a.other.svc:2380", ""},
		"a namespace with our prefix": {cluster(), "https://a-0001.a.ns2.svc:2380", ""},
		"another Service":             {cluster(), "https://a-0001.b.ns.svc:2380", ""},
		"a longer cluster name":       {cluster(), "https://a-0000-0001.a-0000.ns.svc:2380", ""},
		"a shorter cluster name":      {cluster(named("a-0000")), "https://a-0000.a.ns.svc:2380", ""},
		"the longer cluster's own":    {cluster(named("a-0000")), "https://a-0000-0001.a-0000.ns.svc:2380", "a-0000-0001"},
		"a cluster domain":            {cluster(), "https://a-0001.a.ns.svc.cluster.local:2380", ""},
		"an address":                  {cluster(), "https://10.0.0.1:2380", ""},
		"an IPv6 address":             {cluster(), "https://[fd00::1]:2380", ""},
		"an IPv6 address of a name":   {cluster(), "https://[a-0001.a.ns.svc]:2380", ""},
		"a user in front":             {cluster(), "https://a-0001.a.ns.svc@evil:2380", ""},
		"no scheme":                   {cluster(), "a-0001.a.ns.svc:2380", ""},
		"nothing":                     {cluster(), "", ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, ok := MemberOfURL(tc.cluster, tc.url)
			if got != tc.want || ok != (tc.want != "") {
				t.Errorf("MemberOfURL(%q) = %q, %v, want %q", tc.url, got, ok, tc.want)
			}
		})
	}
}

func TestIdentity(t *testing.T) {
	first, second := cluster(), cluster(restored)
	if Token(first) != "5e1f-1" || Token(second) != "5e1f-2" {
		t.Errorf("tokens %q and %q: two incarnations must never share a cluster ID", Token(first), Token(second))
	}
	fresh := cluster(func(c *v1alpha1.EtcdCluster) { c.Status.Incarnation = 0 })
	if Token(fresh) != Token(first) {
		t.Errorf("token %q before the first status, %q after it", Token(fresh), Token(first))
	}
	if got, want := InitialCluster(first, []string{"a-0000", "a-0002"}, nil),
		"a-0000=https://a-0000.a.ns.svc:2380,a-0002=https://a-0002.a.ns.svc:2380"; got != want {
		t.Errorf("InitialCluster() = %q, want %q", got, want)
	}
	if got, want := SelectorString(first),
		"etcd.quorate.dev/cluster=a,etcd.quorate.dev/cluster-uid=5e1f,etcd.quorate.dev/incarnation=1"; got != want {
		t.Errorf("SelectorString() = %q, want %q", got, want)
	}
}
