package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A node is a network namespace on a bridge. Nodes have routes to each other's
// pods and to the Service addresses, and no default route: nothing that runs in
// the cluster can send a packet past this machine.

// bridgeCommands are the ip(8) commands that make the machine's side of the network.
func bridgeCommands(owner string) []string {
	return []string{
		"link add " + bridge + " type bridge",
		"link set " + bridge + " alias \"" + owner + "\"",
		"addr add " + bridgeAddress + "/24 dev " + bridge,
		"link set " + bridge + " up",
	}
}

// cableCommands connect a node to the bridge; pid is a process in its namespace.
// The last routes let this machine reach pods and Services by their addresses.
func cableCommands(n node, pid int) []string {
	commands := []string{
		fmt.Sprintf("link add %s type veth peer name eth0 netns %d", n.link(), pid),
		fmt.Sprintf("link set %s master %s", n.link(), bridge),
		fmt.Sprintf("link set %s up", n.link()),
		fmt.Sprintf("route replace %s via %s", n.podCIDR(), n.address()),
	}
	if n == nodes[0] {
		commands = append(commands, fmt.Sprintf("route replace %s via %s", serviceCIDR, n.address()))
	}
	return commands
}

// insideCommands configure the network within a node's namespace. Service
// addresses are rewritten by kube-proxy on the way out, but without a route a
// process of the node itself would not get that far.
func insideCommands(n node) []string {
	commands := []string{
		"link set lo up",
		"addr add " + n.address() + "/24 dev eth0",
		"link set eth0 up",
		"route add " + serviceCIDR + " via " + bridgeAddress,
	}
	for _, other := range nodes {
		if other != n {
			commands = append(commands, fmt.Sprintf("route add %s via %s", other.podCIDR(), other.address()))
		}
	}
	return commands
}

// runIP carries out ip(8) commands in the current network namespace.
func runIP(commands []string) error {
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("configuring the network: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

func linkExists(link string) bool {
	_, err := os.Stat("/sys/class/net/" + link)
	return err == nil
}

// bridgeOwner returns the repository whose cluster holds the bridge, or "".
func bridgeOwner() string {
	alias, err := os.ReadFile("/sys/class/net/" + bridge + "/ifalias")
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(alias))
}

// makeBridge makes the bridge unless it is there.
func makeBridge(l layout) error {
	if linkExists(bridge) {
		return nil
	}
	if err := runIP(bridgeCommands(l.root)); err != nil {
		return err
	}
	return bypassFirewall(l)
}

// bridgeFilter makes the machine's own firewall see, and perhaps drop, what
// crosses a bridge. It exists only where br_netfilter is loaded.
const bridgeFilter = "/proc/sys/net/bridge/bridge-nf-call-iptables"

func bypassFirewall(l layout) error {
	value, err := os.ReadFile(bridgeFilter)
	if errors.Is(err, os.ErrNotExist) || err == nil && strings.TrimSpace(string(value)) == "0" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", bridgeFilter, err)
	}
	// Kept so that down can put it back.
	if err := os.WriteFile(l.state("bridge-filter"), value, 0o644); err != nil {
		return fmt.Errorf("keeping %s: %w", bridgeFilter, err)
	}
	return os.WriteFile(bridgeFilter, []byte("0"), 0o644)
}

func restoreFirewall(l layout) error {
	value, err := os.ReadFile(l.state("bridge-filter"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("restoring %s: %w", bridgeFilter, err)
	}
	return os.WriteFile(bridgeFilter, value, 0o644)
}

// removeLinks removes the bridge and every cable that is left; the routes go with them.
func removeLinks() error {
	links, err := filepath.Glob("/sys/class/net/quorate-node*")
	if err != nil {
		return err
	}
	links = append(links, "/sys/class/net/"+bridge)
	var errs error
	for _, link := range links {
		if name := filepath.Base(link); linkExists(name) {
			if err := runIP([]string{"link delete " + name}); err != nil && linkExists(name) {
				errs = errors.Join(errs, err)
			}
		}
	}
	return errs
}
