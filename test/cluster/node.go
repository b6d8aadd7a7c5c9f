package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// pluginDir is where Debian's containernetworking-plugins puts the CNI plugins.
const pluginDir = "/usr/lib/cni"

// nodeDirectories are the directories of a node's disk: where they lie within
// the node, and under which name outside.
var nodeDirectories = []bind{
	{Source: "kubelet", Target: "/var/lib/kubelet"},
	{Source: "containerd", Target: "/var/lib/containerd"},
	{Source: "cni", Target: "/var/lib/cni"},
	{Source: "log", Target: "/var/log"},
}

// nodeMachine is the machine of one node. A new boot has a new boot id, as a
// real one has, so that the node's reboot is reported.
func nodeMachine(l layout, n node) machineSpec {
	spec := machineSpec{
		Name:     n.name(),
		Isolated: true,
		RunDir:   l.path("run"),
		Network:  insideCommands(n),
		Sysctls:  map[string]string{"net/ipv4/ip_forward": "1"},
		Overrides: map[string]string{
			"/proc/sys/kernel/random/boot_id": randomUUID() + "\n",
			"/etc/machine-id":                 fmt.Sprintf("%032x\n", int(n)),
			"/etc/hostname":                   n.name() + "\n",
			"/etc/resolv.conf":                resolvConf,
			// The values that the kubelet would otherwise set for the whole machine.
			"/proc/sys/vm/overcommit_memory":      "1\n",
			"/proc/sys/vm/panic_on_oom":           "0\n",
			"/proc/sys/kernel/panic":              "10\n",
			"/proc/sys/kernel/panic_on_oops":      "1\n",
			"/proc/sys/kernel/keys/root_maxkeys":  "1000000\n",
			"/proc/sys/kernel/keys/root_maxbytes": "25000000\n",
		},
	}
	for _, b := range nodeDirectories {
		spec.Binds = append(spec.Binds, bind{Source: l.state(n.name(), b.Source), Target: b.Target})
	}
	config := func(file string) string { return l.state(n.name(), "etc", file) }
	process := func(name string, waitFor []string, command ...string) {
		name += "-" + n.name()
		spec.Processes = append(spec.Processes, processSpec{Name: name, Command: command, Log: l.log(name), WaitFor: waitFor})
	}
	process("containerd", nil, "/usr/bin/containerd", "--config", config("containerd.toml"))
	// The kubelet gives up at once when nothing listens on containerd's socket.
	process("kubelet", []string{containerdSocket, apiServer + "/readyz"}, l.bin("kubelet"),
		"--config="+config("kubelet.json"),
		"--kubeconfig="+l.pki(n.name()+".kubeconfig"),
		"--hostname-override="+n.name(),
		"--node-ip="+n.address(),
		"--node-labels=topology.kubernetes.io/zone="+n.zone()+",topology.kubernetes.io/region="+region,
	)
	// kube-proxy asks for its Node when it starts and, too early, waits seconds to ask again.
	process("kube-proxy", []string{"http://127.0.0.1:10248/healthz"}, l.bin("kube-proxy"), "--config="+config("kube-proxy.json"))
	return spec
}

// containerdSocket is where a node's containerd listens.
const containerdSocket = "unix:///run/containerd/containerd.sock"

// resolvConf is that of a node, and of the pods that use the node's DNS.
const resolvConf = "nameserver " + bridgeAddress + "\n"

func randomUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// writeNode makes the node's disk and the configuration of what runs on it.
func writeNode(l layout, n node) error {
	for _, dir := range []string{"kubelet", "containerd", "cni", "log", "etc/cni", "etc/registry/_default"} {
		if err := os.MkdirAll(l.state(n.name(), dir), 0o755); err != nil {
			return fmt.Errorf("making the disk of %s: %w", n.name(), err)
		}
	}
	files := map[string]any{
		"containerd.toml":              containerdConfig(l, n),
		"registry/_default/hosts.toml": registryHosts,
		"cni/10-quorate.conflist":      cniConfig(n),
		"resolv.conf":                  resolvConf,
		"kubelet.json":                 kubeletConfig(l, n),
		"kube-proxy.json":              proxyConfig(l, n),
	}
	for name, content := range files {
		data, isText := content.(string)
		if !isText {
			encoded, err := json.MarshalIndent(content, "", "  ")
			if err != nil {
				return fmt.Errorf("configuring %s: %w", n.name(), err)
			}
			data = string(encoded)
		}
		if err := os.WriteFile(l.state(n.name(), "etc", name), []byte(data), 0o644); err != nil {
			return fmt.Errorf("configuring %s: %w", n.name(), err)
		}
	}
	return nil
}

// containerdConfig keeps everything on the node's disk and in its /run.
// restrict_oom_score_adj: where the system's root lacks CAP_SYS_RESOURCE no
// process may lower its score, and without this every sandbox dies.
func containerdConfig(l layout, n node) string {
	return fmt.Sprintf(`version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]

[grpc]
  address = "/run/containerd/containerd.sock"

[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = %q
    conf_dir = %q
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = %q
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
`, pauseImage, pluginDir, l.state(n.name(), "etc", "cni"), l.state(n.name(), "etc", "registry"))
}

// registryHosts sends every pull to a port on the node where nobody listens: it
// is refused at once, and no name is looked up.
const registryHosts = `server = "http://127.0.0.1:1"

[host."http://127.0.0.1:1"]
  capabilities = ["pull", "resolve"]
`

// cniConfig connects each pod to the node by a cable of its own. With a bridge
// for the pods, an answer from a pod of the same node would not pass through
// the node again, and a Service's address would not be put back into it.
func cniConfig(n node) any {
	return map[string]any{
		"cniVersion": "0.4.0",
		"name":       "quorate",
		"plugins": []any{
			map[string]any{
				"type": "ptp",
				"ipam": map[string]any{
					"type":    "host-local",
					"dataDir": "/run/cni-addresses", // a reboot frees the addresses of the pods it killed
					"ranges":  []any{[]any{map[string]any{"subnet": n.podCIDR()}}},
					"routes":  []any{map[string]any{"dst": "0.0.0.0/0"}},
				},
			},
			map[string]any{"type": "portmap", "capabilities": map[string]any{"portMappings": true}},
		},
	}
}

func kubeletConfig(l layout, n node) any {
	return map[string]any{
		"kind":       "KubeletConfiguration",
		"apiVersion": "kubelet.config.k8s.io/v1beta1",
		"address":    n.address(),
		"authentication": map[string]any{
			"anonymous": map[string]any{"enabled": false},
			"webhook":   map[string]any{"enabled": true},
			"x509":      map[string]any{"clientCAFile": l.pki("ca.crt")},
		},
		"authorization":            map[string]any{"mode": "Webhook"},
		"tlsCertFile":              l.pki(n.name() + ".crt"),
		"tlsPrivateKeyFile":        l.pki(n.name() + ".key"),
		"cgroupDriver":             "cgroupfs",
		"cgroupRoot":               n.cgroup(),
		"failCgroupV1":             false,
		"failSwapOn":               false,
		"oomScoreAdj":              0,
		"clusterDNS":               []string{dnsServiceIP},
		"clusterDomain":            clusterDomain,
		"resolvConf":               l.state(n.name(), "etc", "resolv.conf"),
		"containerRuntimeEndpoint": containerdSocket,
		"volumePluginDir":          "/var/lib/kubelet/volumeplugins",
		"makeIPTablesUtilChains":   false,
		"serializeImagePulls":      false,
		"kubeAPIQPS":               200,
		"kubeAPIBurst":             400,
		"eventRecordQPS":           100,
		"eventBurst":               200,
		// Four reports within the controller manager's grace period of 20 s.
		"nodeStatusUpdateFrequency": "4s",
		"nodeLeaseDurationSeconds":  20,
		// The disk is the whole machine's: whoever fills it, no pod here is to be
		// evicted for it, and no image collected that cannot be pulled again.
		"imageGCHighThresholdPercent": 100,
		"evictionHard": map[string]string{
			"memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%",
			"imagefs.available": "0%", "imagefs.inodesFree": "0%",
		},
	}
}

func proxyConfig(l layout, n node) any {
	return map[string]any{
		"kind":       "KubeProxyConfiguration",
		"apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
		"clientConnection": map[string]any{
			"kubeconfig": l.pki("kube-proxy.kubeconfig"), "qps": 200, "burst": 400,
		},
		"mode":               "nftables",
		"clusterCIDR":        podCIDR,
		"detectLocalMode":    "ClusterCIDR",
		"hostnameOverride":   n.name(),
		"healthzBindAddress": n.address() + ":10256",
		"metricsBindAddress": "127.0.0.1:10249",
		"nftables":           map[string]any{"minSyncPeriod": "100ms"},
		// Zero leaves the connection tracking limits alone; they are the whole machine's.
		"conntrack": map[string]any{"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
	}
}

// makeMountpoints makes the directories that the nodes' disks are mounted on
// where this system has none, and notes them for down.
func makeMountpoints(l layout, binds []bind) error {
	made, err := os.OpenFile(l.made(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("noting what is made: %w", err)
	}
	defer made.Close()
	for _, b := range binds {
		if _, err := os.Stat(b.Target); err == nil {
			continue
		}
		if _, err := fmt.Fprintln(made, filepath.Clean(b.Target)); err != nil {
			return fmt.Errorf("noting what is made: %w", err)
		}
		if err := os.Mkdir(b.Target, 0o755); err != nil {
			return fmt.Errorf("making a mount point: %w", err)
		}
	}
	return nil
}
