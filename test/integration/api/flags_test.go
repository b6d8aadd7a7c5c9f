package api

import (
	"context"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/quorate/quorate/internal/resources"
)

// Every flag of etcd 3.5, 3.6 and 3.7 belongs to one of three lists, so that a
// flag of a new release does not slip through without a thought.
var (
	// allowedFlags are the user's. What they can spoil is performance, or their
	// own start, never the data or who reads it.
	allowedFlags = strings.Fields(`
		auth-token-ttl bcrypt-cost backend-batch-interval backend-batch-limit backend-bbolt-freelist-type
		bootstrap-defrag-threshold-megabytes cipher-suites compact-hash-check-time compaction-batch-limit
		compaction-sleep-interval corrupt-check-time cors distributed-tracing-address
		distributed-tracing-sampling-rate distributed-tracing-service-name downgrade-check-time
		enable-distributed-tracing enable-grpc-gateway enable-pprof
		experimental-bootstrap-defrag-threshold-megabytes experimental-compact-hash-check-enabled
		experimental-compact-hash-check-time experimental-compaction-batch-limit
		experimental-compaction-sleep-interval experimental-corrupt-check-time
		experimental-distributed-tracing-address experimental-distributed-tracing-sampling-rate
		experimental-distributed-tracing-service-name experimental-downgrade-check-time
		experimental-enable-distributed-tracing experimental-enable-lease-checkpoint
		experimental-enable-lease-checkpoint-persist experimental-initial-corrupt-check
		experimental-snapshot-catchup-entries experimental-stop-grpc-service-on-defrag
		experimental-txn-mode-write-with-shared-buffer experimental-warning-apply-duration
		experimental-warning-unary-request-duration experimental-watch-progress-notify-interval feature-gates
		grpc-keepalive-interval grpc-keepalive-min-time grpc-keepalive-timeout host-whitelist
		initial-election-tick-advance log-format log-level log-outputs logger max-concurrent-streams
		max-snapshots max-txn-ops max-wals metrics raft-read-timeout raft-write-timeout
		snapshot-catchup-entries socket-reuse-address tls-max-version tls-min-version
		warning-apply-duration warning-unary-request-duration watch-progress-notify-interval`)

	// typedFlags have a field of spec.etcd.
	typedFlags = strings.Fields(`
		auto-compaction-mode auto-compaction-retention election-timeout heartbeat-interval max-request-bytes
		quota-backend-bytes snapshot-count`)

	// neverFlags are the operator's, or nobody's.
	neverFlags = strings.Fields(`
		advertise-client-urls initial-advertise-peer-urls initial-cluster initial-cluster-state
		initial-cluster-token listen-client-http-urls listen-client-urls listen-metrics-urls listen-peer-urls
		name data-dir wal-dir distributed-tracing-instance-id experimental-distributed-tracing-instance-id
		auth-token auto-tls cert-file client-cert-allowed-hostname client-cert-auth client-cert-file
		client-crl-file client-key-file config-file key-file peer-auto-tls peer-cert-allowed-cn
		peer-cert-allowed-hostname peer-cert-file peer-client-cert-auth peer-client-cert-file
		peer-client-key-file peer-crl-file peer-key-file peer-skip-client-san-verification
		peer-trusted-ca-file experimental-peer-skip-client-san-verification self-signed-cert-validity
		trusted-ca-file
		discovery discovery-cacert discovery-cert discovery-dial-timeout discovery-endpoints
		discovery-fallback discovery-insecure-skip-tls-verify discovery-insecure-transport
		discovery-keepalive-time discovery-keepalive-timeout discovery-key discovery-password discovery-proxy
		discovery-request-timeout discovery-srv discovery-srv-name discovery-token discovery-user
		proxy proxy-dial-timeout proxy-failure-wait proxy-read-timeout proxy-refresh-interval
		proxy-write-timeout
		enable-log-rotation log-rotation-config-json enable-v2 experimental-enable-v2v3 v2-deprecation
		force-new-cluster max-learners memory-mlock experimental-memory-mlock pre-vote socket-reuse-port
		strict-reconfig-check unsafe-no-fsync version help h`)
)

// samples are values by what a flag takes.
var samples = map[string]string{"bool": "true", "number": "7", "duration": "7s", "gates": "CompactHashCheck=true", "origins": "https://example.com:443"}

// value is one that every rule about values accepts.
func value(flag string) string {
	if flag == "log-outputs" {
		return "stderr"
	}
	return "1"
}

var _ = Describe("Further flags of etcd", func() {
	answer := func(ctx context.Context, flag string) error {
		return try(ctx, cluster("flag", `{etcd: {extraArgs: {`+flag+`: "`+value(flag)+`"}}}`))
	}

	It("are accepted when they are the user's", func(ctx context.Context) {
		for _, flag := range allowedFlags {
			Expect(answer(ctx, flag)).To(Succeed(), flag)
		}
	})
	It("are refused when they have a field", func(ctx context.Context) {
		for _, flag := range typedFlags {
			expectRefusal(answer(ctx, flag), `["`+flag+`"]`+flagTypedWhy)
		}
	})
	It("are refused when they are the operator's or nobody's", func(ctx context.Context) {
		for _, flag := range neverFlags {
			expectRefusal(answer(ctx, flag), `["`+flag+`"]`+flagNeverWhy)
		}
	})
	It("are in the table with the releases that know them and with what they take", func(ctx context.Context) {
		table := resources.EtcdFlags()
		binaries, err := filepath.Glob(filepath.Join(root, ".cluster", "etcd", "v*", "etcd"))
		Expect(err).NotTo(HaveOccurred())
		Expect(binaries).To(HaveLen(3))
		said := func(binary, flag, value string) string {
			out, _ := exec.CommandContext(ctx, binary, "--"+flag+"="+value, "--version").CombinedOutput()
			first, _, _ := strings.Cut(string(out), "\n")
			return first
		}
		for _, name := range allowedFlags {
			i := slices.IndexFunc(table, func(f resources.EtcdFlag) bool { return f.Name == name })
			Expect(i).NotTo(Equal(-1), name+" is not in the table")
			for _, binary := range binaries {
				minor := regexp.MustCompile(`v(3[.][0-9]+)[.]`).FindStringSubmatch(binary)[1]
				first := said(binary, name, "certainly-not")
				Expect(!strings.Contains(first, "not defined")).To(Equal(slices.Contains(table[i].Minors, minor)), name+" in "+binary)
				Expect(strings.Contains(first, "not defined") || strings.Contains(first, "invalid") == (table[i].Takes != "text")).To(BeTrue(), name+": "+first)
				if value, typed := samples[table[i].Takes]; typed && slices.Contains(table[i].Minors, minor) {
					Expect(said(binary, name, value)).To(HavePrefix("etcd Version"), name+"="+value)
				}
			}
		}
		Expect(table).To(HaveLen(len(allowedFlags)))
	})
	It("all have a place, in every release that is here", func(ctx context.Context) {
		binaries, err := filepath.Glob(filepath.Join(root, ".cluster", "etcd", "v*", "etcd"))
		Expect(err).NotTo(HaveOccurred())
		binaries = append(binaries, filepath.Join(assets, "etcd"))
		known := slices.Concat(allowedFlags, typedFlags, neverFlags)
		for _, binary := range binaries {
			out, err := exec.CommandContext(ctx, binary, "--help").CombinedOutput()
			Expect(err).NotTo(HaveOccurred(), binary)
			flags := regexp.MustCompile(`(?m)^ +--([a-z0-9-]+)`).FindAllSubmatch(out, -1)
			Expect(len(flags)).To(BeNumerically(">", 100), binary)
			for _, flag := range flags {
				Expect(known).To(ContainElement(string(flag[1])), binary)
			}
		}
	})
})
