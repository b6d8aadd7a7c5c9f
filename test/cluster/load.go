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

// loadClusterImages puts the images that every node has on the nodes, unless
// their disks hold them already.
func loadClusterImages(ctx context.Context, l layout) error {
	var archives []string
	var want []byte
	// The pause image sorts last and is needed first.
	for _, name := range slices.Backward(slices.Sorted(maps.Keys(clusterImages(l)))) {
		archive := l.path("images", name)
		stamp, err := os.ReadFile(stampFile(archive))
		if err != nil {
			return fmt.Errorf("reading what an image was made from: %w", err)
		}
		archives, want = append(archives, archive), append(want, stamp...)
	}
	loaded := l.state("loaded-images")
	if have, err := os.ReadFile(loaded); err == nil && bytes.Equal(have, want) {
		return nil
	}
	if err := loadImages(ctx, l, archives); err != nil {
		return err
	}
	return os.WriteFile(loaded, want, 0o644)
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
