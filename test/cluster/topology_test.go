package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestVersionsAgreeWithTheModulesTheyAreBuiltFrom(t *testing.T) {
	want := map[string]string{
		"kubernetes": "k8s.io/kubernetes " + kubernetesVersion,
		"versitygw":  "github.com/versity/versitygw " + versitygwVersion,
	}
	for _, version := range etcdVersions {
		want["etcd-"+minorOf(version)] = "go.etcd.io/etcd/server/v3 " + version
	}
	for module, line := range want {
		mod, err := os.ReadFile(filepath.Join("build", module, "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		found := slices.ContainsFunc(strings.Split(string(mod), "\n"), func(have string) bool {
			have = strings.TrimPrefix(strings.TrimSpace(have), "require ")
			return strings.TrimSuffix(have, " // indirect") == line
		})
		if !found {
			t.Errorf("build/%s/go.mod does not require %q", module, line)
		}
	}
	if !slices.Contains(etcdVersions, controlEtcd) {
		t.Errorf("the control plane's etcd %s is not among those that are built", controlEtcd)
	}
}

func TestAddressesOfTheNodes(t *testing.T) {
	type addresses struct{ Name, Address, Pods, Zone, Link, Cgroup string }
	var have []addresses
	for _, n := range nodes {
		have = append(have, addresses{n.name(), n.address(), n.podCIDR(), n.zone(), n.link(), n.cgroup()})
	}
	want := []addresses{
		{"node1", "172.30.0.11", "10.244.1.0/24", "zone-a", "quorate-node1", "/quorate/node1"},
		{"node2", "172.30.0.12", "10.244.2.0/24", "zone-b", "quorate-node2", "/quorate/node2"},
		{"node3", "172.30.0.13", "10.244.3.0/24", "zone-c", "quorate-node3", "/quorate/node3"},
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
	pods, services := netip.MustParsePrefix(podCIDR), netip.MustParsePrefix(serviceCIDR)
	for _, n := range nodes {
		if !pods.Overlaps(netip.MustParsePrefix(n.podCIDR())) {
			t.Errorf("the pods of %s are outside %s", n.name(), podCIDR)
		}
		if len(n.link()) > 15 {
			t.Errorf("the kernel takes no link name of %d bytes: %s", len(n.link()), n.link())
		}
	}
	for _, ip := range []string{apiServiceIP, dnsServiceIP} {
		if !services.Contains(netip.MustParseAddr(ip)) {
			t.Errorf("%s is outside %s", ip, serviceCIDR)
		}
	}
}

func TestANodeIsFoundByItsName(t *testing.T) {
	if n, err := findNode("node2"); n != 2 || err != nil {
		t.Errorf("findNode(node2) = %d, %v", n, err)
	}
	for _, name := range []string{"", "node0", "node4", "control"} {
		if _, err := findNode(name); err == nil {
			t.Errorf("found a node called %q", name)
		}
	}
}
