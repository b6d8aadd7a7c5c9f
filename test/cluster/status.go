package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
)

// errDown is the answer of status when something is down.
var errDown = errors.New("something is down")

// health URLs of the control plane's processes; a process without one is
// healthy when it runs.
var healthURLs = map[string]string{
	"etcd":                    "http://" + controlEtcdClient + "/health",
	"kube-apiserver":          apiServer + "/readyz",
	"kube-controller-manager": "https://" + controlAddress + ":" + controllersPort + "/healthz",
	"kube-scheduler":          "https://" + controlAddress + ":" + schedulerPort + "/healthz",
	"coredns":                 "http://" + dnsReady + "/ready",
	"provisioner":             "http://" + provisionerReady + "/ready",
}

// checkProcess returns nil when a process runs and, where it can be asked, is healthy.
func checkProcess(ctx context.Context, l layout, p processSpec) error {
	if !runs(l, p) {
		return fmt.Errorf("%s does not run", p.Name)
	}
	if url := healthURLs[p.Name]; url != "" {
		if err := probe(ctx, url); err != nil {
			return fmt.Errorf("%s is not healthy: %w", p.Name, err)
		}
	}
	return nil
}

// runs tells whether the process behind the pid file is the one meant; a
// process id is given to somebody else sooner or later.
func runs(l layout, p processSpec) bool {
	data, err := os.ReadFile(l.pid(p.Name))
	if err != nil {
		return false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pid <= 0 {
		return false
	}
	cmdline, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	return err == nil && strings.HasPrefix(string(cmdline), p.Command[0]+"\x00")
}

func checkControlPlane(ctx context.Context, l layout) error {
	for _, p := range controlMachine(l).Processes {
		if err := checkProcess(ctx, l, p); err != nil {
			return err
		}
	}
	return nil
}

func checkNodes(ctx context.Context, l layout, c *client) error {
	states, err := c.nodes(ctx)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		for _, p := range nodeMachine(l, n).Processes {
			if err := checkProcess(ctx, l, p); err != nil {
				return err
			}
		}
		if isPartitioned(n) {
			return fmt.Errorf("%s is cut off from the network", n.name())
		}
		if !states[n.name()].ready {
			return fmt.Errorf("%s is not Ready", n.name())
		}
		// Until then a Service's address leads nowhere from this node.
		if err := probe(ctx, "http://"+n.address()+":10256/healthz"); err != nil {
			return fmt.Errorf("kube-proxy of %s is not healthy: %w", n.name(), err)
		}
	}
	return nil
}

// checkHealth returns nil when all of the cluster works.
func checkHealth(ctx context.Context, l layout) error {
	c, err := newClient(l)
	if err != nil {
		return err
	}
	if err := checkControlPlane(ctx, l); err != nil {
		return err
	}
	if err := checkNodes(ctx, l, c); err != nil {
		return err
	}
	return checkDNS(ctx)
}

// status writes what runs and what does not, and returns errDown unless all does.
func status(ctx context.Context, l layout, out io.Writer) error {
	if !l.isUp() {
		fmt.Fprintln(out, "the cluster is down; `go run . up` in test/cluster brings it up")
		return errDown
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "COMPONENT\tSTATE\tVERSION")
	healthy := true
	word := func(err error) string {
		if err != nil {
			healthy = false
			return "DOWN"
		}
		return "ok"
	}
	versions := map[string]string{"etcd": controlEtcd, "coredns": "", "provisioner": ""}
	for _, p := range controlMachine(l).Processes {
		version, special := versions[p.Name]
		if !special {
			version = kubernetesVersion
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", p.Name, word(checkProcess(ctx, l, p)), version)
	}
	fmt.Fprintf(w, "DNS answers\t%s\t\n\n", word(checkDNS(ctx)))
	var states map[string]nodeState
	c, err := newClient(l)
	if err == nil {
		states, err = c.nodes(ctx)
	}
	word(err)
	fmt.Fprintln(w, "NODE\tREADY\tCONTAINERD\tKUBELET\tKUBE-PROXY\tNETWORK\tADDRESS\tZONE\tVERSION")
	for _, n := range nodes {
		state, cells := states[n.name()], []string{n.name()}
		var notReady error
		if !state.ready {
			notReady = errDown
		}
		cells = append(cells, word(notReady))
		for _, p := range nodeMachine(l, n).Processes {
			cells = append(cells, word(checkProcess(ctx, l, p)))
		}
		cells = append(cells, network(n, &healthy), n.address(), n.zone(), state.version)
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if !healthy {
		return errDown
	}
	return nil
}

func network(n node, healthy *bool) string {
	if !linkExists(n.link()) {
		*healthy = false
		return "none"
	}
	if isPartitioned(n) {
		*healthy = false
		return "PARTITIONED"
	}
	return "ok"
}
