package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheNetworkWithinANode(t *testing.T) {
	want := []string{
		"link set lo up",
		"addr add 172.30.0.12/24 dev eth0",
		"link set eth0 up",
		"route add 10.96.0.0/16 via 172.30.0.1",
		"route add 10.244.1.0/24 via 172.30.0.11",
		"route add 10.244.3.0/24 via 172.30.0.13",
	}
	if diff := cmp.Diff(want, insideCommands(2)); diff != "" {
		t.Error(diff)
	}
}

func TestNoNodeHasARouteOutOfThisMachine(t *testing.T) {
	for _, n := range nodes {
		for _, command := range insideCommands(n) {
			if strings.Contains(command, "default") || strings.Contains(command, "0.0.0.0/0") {
				t.Errorf("%s: %s", n.name(), command)
			}
		}
	}
}

func TestACableConnectsANodeToTheBridge(t *testing.T) {
	want := []string{
		"link add quorate-node1 type veth peer name eth0 netns 4711",
		"link set quorate-node1 master quorate0",
		"link set quorate-node1 up",
		"route replace 10.244.1.0/24 via 172.30.0.11",
		"route replace 10.96.0.0/16 via 172.30.0.11",
	}
	if diff := cmp.Diff(want, cableCommands(1, 4711)); diff != "" {
		t.Error(diff)
	}
	if n := len(cableCommands(2, 4711)); n != 4 {
		t.Errorf("%d commands for the second node: the route to the Services is the first one's", n)
	}
}

func TestTheBridgeNamesTheRepositoryThatItBelongsTo(t *testing.T) {
	commands := bridgeCommands("/home/a b/quorate")
	if want := `link set quorate0 alias "/home/a b/quorate"`; commands[1] != want {
		t.Errorf("%q, want %q", commands[1], want)
	}
}
