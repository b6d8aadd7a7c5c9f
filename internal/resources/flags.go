package resources

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/quorate/quorate/api/v1alpha1"
)

// tlsDir is where a member's Secret is mounted.
const tlsDir = "/etc/etcd/tls"

// etcdFlags are etcd's own flags, apart from those that the guard adds: the
// data directory, the initial cluster and its state.
func etcdFlags(c *v1alpha1.EtcdCluster, member string) []string {
	flags := []string{
		"--name=" + member,
		"--initial-cluster-token=" + Token(c),
		"--initial-advertise-peer-urls=" + PeerURL(c, member),
		"--advertise-client-urls=" + ClientURL(c, member),
		peerListeners(c),
		clientListeners(c),
		fmt.Sprintf("--listen-metrics-urls=%s://0.0.0.0:%d,http://127.0.0.1:%d", openScheme(c), MetricsPort, loopbackPort),
	}
	if TLS(c) {
		flags = append(flags, tlsFlags(c)...)
	}
	flags = append(flags, optionFlags(c)...)
	return append(flags, extraFlags(c)...)
}

const (
	peerListenersFlag   = "--listen-peer-urls="
	clientListenersFlag = "--listen-client-urls="
)

// peerListeners are at each URL that another member may dial. While one is listed at a
// plaintext URL, nobody is at one with TLS and PeerPort, so that port is free for either.
func peerListeners(c *v1alpha1.EtcdCluster) string {
	plaintext, protected := fmt.Sprintf("http://0.0.0.0:%d", PeerPort), fmt.Sprintf("https://0.0.0.0:%d", PeerPort)
	turned := fmt.Sprintf(",https://0.0.0.0:%d", TurnedPeerPort)
	switch {
	case !TLS(c):
		return peerListenersFlag + plaintext
	case c.Spec.TLS.Mode == v1alpha1.TLSOptional && c.Status.PlaintextPeers:
		return peerListenersFlag + plaintext + turned
	default:
		return peerListenersFlag + protected + turned
	}
}

// clientListeners are of each scheme that a client may use. etcd tells both apart on one
// port (tried on 3.5.35, 3.6.16 and 3.7.3).
func clientListeners(c *v1alpha1.EtcdCluster) string {
	address := fmt.Sprintf("://0.0.0.0:%d", ClientPort)
	if c.Spec.TLS.Mode == v1alpha1.TLSOptional {
		return clientListenersFlag + "http" + address + ",https" + address
	}
	return clientListenersFlag + scheme(c) + address
}

// Listeners are the arguments of a command that Taken goes by: all of it that has to be
// kept of a pod in a cache.
func Listeners(command []string) (arguments []string) {
	for _, argument := range command {
		if strings.HasPrefix(argument, clientListenersFlag) {
			arguments = append(arguments, argument)
		}
	}
	return arguments
}

// Taken says whether the etcd of a pod takes plaintext and TLS, by the flags that it was
// started with. It takes the same on both ports.
func Taken(pod *corev1.Pod) (plaintext, tls bool) {
	for _, container := range pod.Spec.Containers {
		for _, argument := range container.Command {
			if urls, found := strings.CutPrefix(argument, clientListenersFlag); found && container.Name == EtcdContainer {
				plaintext, tls = strings.Contains(urls, "http://"), strings.Contains(urls, "https://")
			}
		}
	}
	return plaintext, tls
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
