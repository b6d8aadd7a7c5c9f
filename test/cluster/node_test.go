package main

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTheFilesOfANode(t *testing.T) {
	l := newLayout(t)
	if err := writeNode(l, 2); err != nil {
		t.Fatal(err)
	}
	var kubelet map[string]any
	readJSON(t, l.state("node2", "etc", "kubelet.json"), &kubelet)
	for key, want := range map[string]any{
		"address": "172.30.0.12", "cgroupRoot": "/quorate/node2", "clusterDomain": "cluster.local",
		"failCgroupV1": false, "imageGCHighThresholdPercent": 100.0,
	} {
		if diff := cmp.Diff(want, kubelet[key]); diff != "" {
			t.Errorf("%s: %s", key, diff)
		}
	}
	var proxy map[string]any
	readJSON(t, l.state("node2", "etc", "kube-proxy.json"), &proxy)
	if proxy["mode"] != "nftables" || proxy["hostnameOverride"] != "node2" {
		t.Errorf("kube-proxy: %v", proxy)
	}
	var cni struct{ Plugins []struct{ Type string } }
	readJSON(t, l.state("node2", "etc", "cni", "10-quorate.conflist"), &cni)
	if len(cni.Plugins) != 2 || cni.Plugins[0].Type != "ptp" {
		t.Errorf("CNI: %+v", cni)
	}
}

func TestEveryPullIsRefusedOnTheNodeItself(t *testing.T) {
	l := newLayout(t)
	if err := writeNode(l, 1); err != nil {
		t.Fatal(err)
	}
	config := containerdConfig(l, 1)
	dir := l.state("node1", "etc", "registry")
	if !strings.Contains(config, `config_path = "`+dir+`"`) {
		t.Fatal("containerd does not read the registry configuration")
	}
	hosts, err := os.ReadFile(filepath.Join(dir, "_default", "hosts.toml"))
	if err != nil {
		t.Fatal(err)
	}
	urls := regexp.MustCompile(`https?://[^"]+`).FindAllString(string(hosts), -1)
	if len(urls) != 2 || slices.ContainsFunc(urls, func(url string) bool { return url != "http://127.0.0.1:1" }) {
		t.Errorf("a pull goes to %v", urls)
	}
}

func readJSON(t *testing.T, path string, into any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func TestTheKubeletOfANodeSaysWhereItIs(t *testing.T) {
	spec := nodeMachine(layout{root: "/r"}, 3)
	command := spec.Processes[1].Command
	for _, flag := range []string{
		"--hostname-override=node3", "--node-ip=172.30.0.13",
		"--node-labels=topology.kubernetes.io/zone=zone-c,topology.kubernetes.io/region=region-1",
	} {
		if !slices.Contains(command, flag) {
			t.Errorf("no %s in %q", flag, command)
		}
	}
}

func TestEachBootOfANodeIsAnother(t *testing.T) {
	const bootID = "/proc/sys/kernel/random/boot_id"
	first, second := nodeMachine(layout{}, 1).Overrides[bootID], nodeMachine(layout{}, 1).Overrides[bootID]
	if first == second || !regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\n$`).MatchString(first) {
		t.Errorf("boot ids %q and %q", first, second)
	}
}

func TestTheControlPlaneIsAlwaysTheSame(t *testing.T) {
	// mustRestart compares it with what runs.
	l := newLayout(t)
	if diff := cmp.Diff(controlMachine(l), controlMachine(l)); diff != "" {
		t.Error(diff)
	}
	if !mustRestart(l) {
		t.Error("no machine is written, yet it need not be started")
	}
	if err := writeSpec(l, controlMachine(l)); err != nil {
		t.Fatal(err)
	}
	if mustRestart(l) {
		t.Error("what was written is taken for something else")
	}
	write(t, l.exit("etcd"), "exit code 1")
	if !mustRestart(l) {
		t.Error("etcd has given up, yet the control plane need not be started again")
	}
}

func TestAnswersAboutTheClusterAreNotCached(t *testing.T) {
	file := corefile(layout{root: "/r"})
	for _, line := range []string{"bind 172.30.0.1", "disable success cluster.local", "disable denial cluster.local"} {
		if !strings.Contains(file, line+"\n") {
			t.Errorf("no %q in the Corefile", line)
		}
	}
}

func TestOnlyTheMountPointsThatWereMadeAreRemoved(t *testing.T) {
	l := newLayout(t)
	system := t.TempDir()
	binds := []bind{{Target: filepath.Join(system, "there")}, {Target: filepath.Join(system, "made")}, {Target: filepath.Join(system, "used")}}
	if err := os.Mkdir(binds[0].Target, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := makeMountpoints(l, binds); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(binds[2].Target, "file"), "somebody else's")
	if err := removeMountpoints(l); err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, false, true} {
		if _, err := os.Stat(binds[i].Target); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", binds[i].Target, err == nil, want)
		}
	}
}

func TestTheKubeletWaitsForContainerd(t *testing.T) {
	for _, p := range nodeMachine(newLayout(t), 1).Processes {
		if p.Name == "kubelet-node1" && !slices.Contains(p.WaitFor, containerdSocket) {
			t.Errorf("the kubelet ends at once without containerd, and it waits for %v only", p.WaitFor)
		}
	}
	socket := filepath.Join(t.TempDir(), "socket")
	waited := make(chan struct{})
	go func() { awaitAnswers([]string{"unix://" + socket}); close(waited) }()
	select {
	case <-waited:
		t.Fatal("the wait ended before anything listened")
	case <-time.After(200 * time.Millisecond):
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	select {
	case <-waited:
	case <-time.After(10 * time.Second):
		t.Error("the wait goes on although the socket is listened on")
	}
}
