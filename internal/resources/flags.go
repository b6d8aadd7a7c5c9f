package resources

import (
	"fmt"
	"strings"

	"github.com/quorate/quorate/api/v1alpha1"
)

// tlsDir is where a member's Secret is mounted.
const tlsDir = "/etc/etcd/tls"

// etcdFlags are etcd's own flags, apart from those that the guard adds: the
// data directory, the initial cluster and its state.
func etcdFlags(c *v1alpha1.EtcdCluster, member string) []string {
	s := scheme(c)
	flags := []string{
		"--name=" + member,
		"--initial-cluster-token=" + Token(c),
		"--initial-advertise-peer-urls=" + PeerURL(c, member),
		"--advertise-client-urls=" + ClientURL(c, member),
		fmt.Sprintf("--listen-peer-urls=%s://0.0.0.0:%d", s, PeerPort),
		fmt.Sprintf("--listen-client-urls=%s://0.0.0.0:%d", s, ClientPort),
		fmt.Sprintf("--listen-metrics-urls=%s://0.0.0.0:%d,http://127.0.0.1:%d", s, MetricsPort, loopbackPort),
	}
	if TLS(c) {
		flags = append(flags, tlsFlags(c)...)
	}
	flags = append(flags, optionFlags(c)...)
	return append(flags, extraFlags(c)...)
}

// tlsFlags ask for a certificate of the right authority on both ports. The
// peers' authority belongs to this cluster alone, so a certificate by it is
// proof enough; checking its names too would make every accepted connection
// wait for DNS, there and back.
func tlsFlags(c *v1alpha1.EtcdCluster) []string {
	skipSAN := "--peer-skip-client-san-verification"
	if minor(c) == "3.5" {
		skipSAN = "--experimental-peer-skip-client-san-verification"
	}
	return []string{
		"--client-cert-auth",
		"--trusted-ca-file=" + tlsDir + "/client-ca.crt",
		"--cert-file=" + tlsDir + "/server.crt",
		"--key-file=" + tlsDir + "/server.key",
		"--peer-client-cert-auth",
		"--peer-trusted-ca-file=" + tlsDir + "/peer-ca.crt",
		"--peer-cert-file=" + tlsDir + "/peer.crt",
		"--peer-key-file=" + tlsDir + "/peer.key",
		skipSAN,
		"--tls-min-version=TLS1.2",
	}
}

func optionFlags(c *v1alpha1.EtcdCluster) []string {
	e := c.Spec.Etcd
	return []string{
		fmt.Sprintf("--quota-backend-bytes=%d", e.QuotaBackendBytes.Value()),
		fmt.Sprintf("--heartbeat-interval=%d", e.HeartbeatMs),
		fmt.Sprintf("--election-timeout=%d", e.ElectionMs),
		fmt.Sprintf("--snapshot-count=%d", e.SnapshotCount),
		fmt.Sprintf("--max-request-bytes=%d", e.MaxRequestBytes.Value()),
		"--auto-compaction-mode=" + strings.ToLower(string(e.AutoCompaction.Mode)),
		"--auto-compaction-retention=" + e.AutoCompaction.Retention,
	}
}

// extraFlags are the user's, and the corruption checks: a member whose data
// differs from its peers' must not serve it.
func extraFlags(c *v1alpha1.EtcdCluster) []string {
	extra := known(c.Spec.Etcd.ExtraArgs, minor(c))
	var flags []string
	if minor(c) != "3.5" {
		gates := "InitialCorruptCheck=true,CompactHashCheck=true"
		if more := extra["feature-gates"]; more != "" {
			// The last one counts, and these two are not for the user to turn off.
			gates = more + "," + gates
		}
		flags = append(flags, "--feature-gates="+gates)
	}
	for _, name := range sortedKeys(extra) {
		if name != "feature-gates" || minor(c) == "3.5" {
			flags = append(flags, "--"+name+"="+extra[name])
		}
	}
	if minor(c) == "3.5" {
		flags = append(flags, "--experimental-initial-corrupt-check=true", "--experimental-compact-hash-check-enabled=true")
	}
	return flags
}

// minor is "3.6" for "3.6.16".
func minor(c *v1alpha1.EtcdCluster) string {
	parts := strings.SplitN(c.Spec.Version, ".", 3)
	if len(parts) < 2 {
		return c.Spec.Version
	}
	return parts[0] + "." + parts[1]
}
