package main

import "fmt"

// The versions that make up the cluster. Each must agree with the go.mod of the
// module under build/ that it is built from; a test compares them.
const (
	kubernetesVersion = "v1.36.3"
	controlEtcd       = "v3.6.16" // keeps the cluster's own objects; what envtest runs, too
	versitygwVersion  = "v1.8.0"  // the S3 server of the tests of backups
	pauseImage        = "registry.k8s.io/pause:3.10"
	etcdImage         = "quay.io/coreos/etcd"
)

// etcdVersions are the etcd releases that the operator is tested with.
var etcdVersions = []string{"v3.5.35", "v3.6.16", "v3.7.3"}

// The addresses of the cluster. The bridge is the machine's own leg in the
// nodes' network; the API server and the cluster's DNS listen there.
const (
	bridge        = "quorate0"
	bridgeAddress = "172.30.0.1"
	apiPort       = "6443"
	podCIDR       = "10.244.0.0/16"
	serviceCIDR   = "10.96.0.0/16"
	apiServiceIP  = "10.96.0.1"
	dnsServiceIP  = "10.96.0.10"
	clusterDomain = "cluster.local"

	// What only the control plane itself uses listens on a loopback address of
	// its own: tests run etcd and API servers on 127.0.0.1, on any free port.
	controlAddress    = "127.30.0.1"
	controlEtcdClient = controlAddress + ":2379"
	controlEtcdPeer   = controlAddress + ":2380"
	controllersPort   = "10257"
	schedulerPort     = "10259"
	dnsHealth         = controlAddress + ":8080"
	dnsReady          = controlAddress + ":8181"
	provisionerReady  = controlAddress + ":8282"
)

const (
	apiServer = "https://" + bridgeAddress + ":" + apiPort
	region    = "region-1"
)

// node is one of the cluster's machines, numbered from 1.
type node int

var nodes = []node{1, 2, 3}

func (n node) name() string    { return fmt.Sprintf("node%d", n) }
func (n node) address() string { return fmt.Sprintf("172.30.0.%d", 10+n) }
func (n node) podCIDR() string { return fmt.Sprintf("10.244.%d.0/24", n) }
func (n node) zone() string    { return fmt.Sprintf("zone-%c", 'a'+rune(n)-1) }
func (n node) cgroup() string  { return "/" + cgroupRoot + "/" + n.name() }

// link is the node's cable: the end of its veth pair on the bridge.
func (n node) link() string { return "quorate-" + n.name() }

func findNode(name string) (node, error) {
	for _, n := range nodes {
		if n.name() == name {
			return n, nil
		}
	}
	return 0, fmt.Errorf("there is no node %q: the nodes are node1, node2 and node3", name)
}
