package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"

	"golang.org/x/sync/errgroup"
)

// loadImages puts image archives on every node, all nodes at once.
func loadImages(ctx context.Context, l layout, archives []string) error {
	for _, archive := range archives {
		if _, err := os.Stat(archive); err != nil {
			return fmt.Errorf("loading an image: %w", err)
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, n := range nodes {
		group.Go(func() error {
			if err := await(ctx, l, func(ctx context.Context) error { return containerdAnswers(ctx, l, n) }); err != nil {
				return err
			}
			for _, archive := range archives {
				if err := ctr(ctx, l, n, "images", "import", archive); err != nil {
					return fmt.Errorf("loading %s on %s: %w", archive, n.name(), err)
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func loadClusterImages(ctx context.Context, l layout) error {
	var archives []string
	// The pause image sorts last and is needed first.
	for _, name := range slices.Backward(slices.Sorted(maps.Keys(clusterImages(l)))) {
		archives = append(archives, l.path("images", name))
	}
	return loadImages(ctx, l, archives)
}

func containerdAnswers(ctx context.Context, l layout, n node) error {
	return ctr(ctx, l, n, "version")
}

// ctr runs containerd's client on a node.
func ctr(ctx context.Context, l layout, n node, args ...string) error {
	command := append([]string{"/usr/bin/ctr", "--address=/run/containerd/containerd.sock", "--namespace=k8s.io"}, args...)
	cmd, err := inside(ctx, l, n.name(), command...)
	if err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}
