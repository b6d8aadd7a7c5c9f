package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// startTimeout bounds the start of the whole cluster, which takes about 20 s on two cores.
const startTimeout = 2 * time.Minute

// up brings the cluster up. It leaves a healthy one alone, mends one that has
// lost a machine, and clears away what an interrupted run left.
func up(ctx context.Context, l layout, p *progress) error {
	if owner := bridgeOwner(); owner != "" && owner != l.root {
		return fmt.Errorf("the cluster of %s is up on this machine — two clusters cannot share its addresses — run `go run . down` in %s/test/cluster", owner, owner)
	}
	if l.isUp() && linkExists(bridge) {
		if checkHealth(ctx, l) == nil {
			p.say("the cluster is up: export KUBECONFIG=%s", l.kubeconfig())
			return nil
		}
		return mend(ctx, l, p)
	}
	left, err := leftovers(l)
	if err != nil {
		return err
	}
	if left {
		if err := p.step("cleared away what an interrupted run left", func() error { return remove(l) }); err != nil {
			return err
		}
	}
	if err := setupAll(l, p); err != nil {
		return err
	}
	if err := prepare(l); err != nil {
		return err
	}
	return start(ctx, l, p)
}

// mend starts again what has stopped since the cluster came up.
func mend(ctx context.Context, l layout, p *progress) error {
	p.say("the cluster is not healthy: starting what has stopped")
	if err := setupAll(l, p); err != nil {
		return err
	}
	if mustRestart(l) {
		if err := powerOff(l, controlPlane); err != nil {
			return err
		}
	}
	for _, n := range nodes {
		if !isOn(l, n.name()) {
			continue
		}
		if err := mendNode(l, n); err != nil {
			return err
		}
	}
	return start(ctx, l, p)
}

// mendNode connects a node that is on; one on which a process has given up is
// turned off, for only a new start runs it again.
func mendNode(l layout, n node) error {
	if gaveUp(l, nodeMachine(l, n)) {
		return killNode(l, n)
	}
	return heal(n)
}

// gaveUp tells whether a process of the machine died on start.
func gaveUp(l layout, spec machineSpec) bool {
	return slices.ContainsFunc(spec.Processes, func(p processSpec) bool {
		_, err := os.Stat(l.exit(p.Name))
		return err == nil
	})
}

// mustRestart tells whether the control plane runs something else than it
// should: a process that has given up, or an older version of this program's idea.
func mustRestart(l layout) bool {
	want := controlMachine(l)
	have, err := readSpec(l.machine(controlPlane))
	return err != nil || gaveUp(l, want) || !reflect.DeepEqual(have, want)
}

// prepare writes everything that the machines read.
func prepare(l layout) error {
	if err := os.RemoveAll(l.path("logs")); err != nil {
		return fmt.Errorf("removing the logs of the last cluster: %w", err)
	}
	if err := l.makeStateDirs(); err != nil {
		return err
	}
	if err := writePKI(l); err != nil {
		return err
	}
	if err := writeKubeconfigs(l); err != nil {
		return err
	}
	if err := writeControlPlane(l); err != nil {
		return err
	}
	for _, n := range nodes {
		if err := writeNode(l, n); err != nil {
			return err
		}
	}
	return makeMountpoints(l, nodeDirectories)
}

// start turns on every machine that is off and waits until the cluster works.
func start(ctx context.Context, l layout, p *progress) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := makeBridge(l); err != nil {
		return err
	}
	if !isOn(l, controlPlane) {
		if err := powerOn(l, controlMachine(l), func(int) error { return nil }); err != nil {
			return err
		}
	}
	for _, n := range nodes {
		if !isOn(l, n.name()) {
			if err := powerOnNode(l, n); err != nil {
				return err
			}
		}
	}
	p.say("turned on the control plane and %d nodes", len(nodes))
	c, err := newClient(l)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return p.step("loaded the images", func() error { return loadClusterImages(ctx, l) })
	})
	group.Go(func() error { return awaitCluster(ctx, l, p, c) })
	if err := group.Wait(); err != nil {
		return err
	}
	if err := os.WriteFile(l.complete(), nil, 0o644); err != nil {
		return fmt.Errorf("marking the cluster as complete: %w", err)
	}
	p.say("the cluster is up: export KUBECONFIG=%s", l.kubeconfig())
	return nil
}

// powerOnNode turns one node on and connects it.
func powerOnNode(l layout, n node) error {
	if err := makeCgroups(cgroupMount, n.name()); err != nil {
		return err
	}
	return powerOn(l, nodeMachine(l, n), func(pid int) error { return runIP(cableCommands(n, pid)) })
}

// awaitCluster waits for one part after the other and says when it is there.
func awaitCluster(ctx context.Context, l layout, p *progress, c *client) error {
	parts := []struct {
		name  string
		ready func(context.Context) error
	}{
		{"the API server answers", func(ctx context.Context) error { return probe(ctx, apiServer+"/readyz") }},
		{"installed storage classes and DNS", func(ctx context.Context) error { return applyAddons(ctx, c) }},
		{"controllers, scheduler, DNS and provisioner run", func(ctx context.Context) error { return checkControlPlane(ctx, l) }},
		{"all nodes are Ready", func(ctx context.Context) error { return checkNodes(ctx, l, c) }},
		{"DNS answers", checkDNS},
	}
	for _, part := range parts {
		if err := p.step(part.name, func() error { return await(ctx, l, part.ready) }); err != nil {
			return fmt.Errorf("waiting until %s: %w", part.name, err)
		}
	}
	return nil
}

// await tries until ready returns nil, ctx ends, or a process of the cluster dies.
func await(ctx context.Context, l layout, ready func(context.Context) error) error {
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		if dead := anyDeath(l); dead != nil {
			return dead
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func anyDeath(l layout) error {
	for _, spec := range machines(l) {
		for _, process := range spec.Processes {
			if err := death(l, process); err != nil {
				return err
			}
		}
		if !isOn(l, spec.Name) {
			return fmt.Errorf("%s went off; the end of %s:\n%s", spec.Name, l.log(spec.Name+"-init"), tail(l.log(spec.Name+"-init"), 20))
		}
	}
	return nil
}

// machines returns all machines of the cluster, the control plane first.
func machines(l layout) []machineSpec {
	list := []machineSpec{controlMachine(l)}
	for _, n := range nodes {
		list = append(list, nodeMachine(l, n))
	}
	return list
}

// checkDNS asks the cluster's DNS for the one Service that is always there.
func checkDNS(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, net.JoinHostPort(bridgeAddress, "53"))
	}}
	addresses, err := resolver.LookupHost(ctx, "kubernetes.default.svc."+clusterDomain+".")
	if err != nil {
		return fmt.Errorf("asking the cluster's DNS: %w", err)
	}
	if len(addresses) != 1 || addresses[0] != apiServiceIP {
		return fmt.Errorf("the cluster's DNS says that the API server is at %v, not %s", addresses, apiServiceIP)
	}
	return nil
}
