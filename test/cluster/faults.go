package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// What can be done to a node: cutting its cable and its power.

// partition cuts a node off from the others and from the control plane. What
// runs on it goes on.
func partition(n node) error {
	return setLink(n, "down")
}

func setLink(n node, state string) error {
	if !linkExists(n.link()) {
		return fmt.Errorf("%s is off, so it has no cable — turn it on with `start-node %s`", n.name(), n.name())
	}
	return runIP([]string{"link set " + n.link() + " " + state})
}

// heal ends a partition.
func heal(n node) error {
	return setLink(n, "up")
}

// isPartitioned tells whether the node's cable is cut. A node that is off has no cable.
func isPartitioned(n node) bool {
	data, err := os.ReadFile("/sys/class/net/" + n.link() + "/flags")
	if err != nil {
		return false
	}
	flags, err := strconv.ParseUint(string(bytes.TrimSpace(data)), 0, 32)
	const up = 1 // IFF_UP
	return err == nil && flags&up == 0
}

// killNode cuts a node's power: all that runs on it is gone at once, and only
// its disk stays.
func killNode(l layout, n node) error {
	if err := powerOff(l, n.name()); err != nil {
		return err
	}
	for _, p := range nodeMachine(l, n).Processes {
		if err := os.Remove(l.pid(p.Name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("forgetting the process of %s: %w", p.Name, err)
		}
	}
	return removeCgroups(cgroupMount, cgroupRoot+"/"+n.name())
}

// startNode turns a node on again and waits until it is Ready.
func startNode(ctx context.Context, l layout, n node) error {
	if isOn(l, n.name()) {
		return fmt.Errorf("%s is on", n.name())
	}
	if err := installSelf(l); err != nil {
		return err
	}
	if err := powerOnNode(l, n); err != nil {
		return err
	}
	c, err := newClient(l)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return awaitNode(ctx, l, c, n)
}

// awaitNode waits until the node's kubelet runs and has said that it is Ready.
// The API server may hold a Ready from before the node went off, so kube-proxy
// and the kubelet must run too.
func awaitNode(ctx context.Context, l layout, c *client, n node) error {
	spec := nodeMachine(l, n)
	for {
		err := checkStarted(ctx, l, c, n)
		if err == nil {
			return nil
		}
		for _, p := range spec.Processes {
			if dead := death(l, p); dead != nil {
				return dead
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", n.name(), errors.Join(ctx.Err(), err))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func checkStarted(ctx context.Context, l layout, c *client, n node) error {
	for _, p := range nodeMachine(l, n).Processes {
		if err := checkProcess(ctx, l, p); err != nil {
			return err
		}
	}
	if err := probe(ctx, "http://"+n.address()+":10256/healthz"); err != nil {
		return fmt.Errorf("kube-proxy is not healthy: %w", err)
	}
	states, err := c.nodes(ctx)
	if err != nil {
		return err
	}
	if !states[n.name()].ready {
		return errors.New("it is not Ready")
	}
	return nil
}
