package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// leftovers tells whether anything of a cluster of this repository exists.
func leftovers(l layout) (bool, error) {
	pids, err := machinePIDs(l, "")
	if err != nil {
		return false, err
	}
	if len(pids) > 0 || bridgeOwner() == l.root {
		return true, nil
	}
	for _, path := range []string{l.state(), l.path("run"), l.kubeconfig()} {
		if _, err := os.Stat(path); err == nil {
			return true, nil
		}
	}
	return false, nil
}

// down removes the cluster: its processes, mounts, links, cgroups and data. What
// was built, the images and the logs stay.
func down(l layout, p *progress) error {
	left, err := leftovers(l)
	if err != nil {
		return err
	}
	if !left {
		p.say("the cluster is down")
		return nil
	}
	return p.step("the cluster is down", func() error { return remove(l) })
}

// remove goes on after an error, so that one thing that cannot be removed does
// not keep the rest; but the data goes last, and only when nothing is mounted in it.
func remove(l layout) error {
	if owner := bridgeOwner(); owner != "" && owner != l.root {
		return fmt.Errorf("the bridge %s belongs to the cluster of %s — removing it would cut that cluster's nodes off — run `go run . down` in %s/test/cluster", bridge, owner, owner)
	}
	// The first mark of a whole cluster goes first: a down that is cut short
	// must not be taken for a cluster that is up.
	if err := os.Remove(l.complete()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing the cluster: %w", err)
	}
	if err := powerOff(l, ""); err != nil {
		return err
	}
	errs := errors.Join(
		removeLinks(),
		restoreFirewall(l),
		removeCgroups(cgroupMount, cgroupRoot),
		removeMountpoints(l),
	)
	if err := unmountUnder(l.state()); err != nil {
		return errors.Join(errs, err)
	}
	for _, path := range []string{l.path("run"), l.kubeconfig(), l.state()} {
		if err := os.RemoveAll(path); err != nil {
			errs = errors.Join(errs, fmt.Errorf("removing the cluster's data: %w", err))
		}
	}
	return errs
}

// removeMountpoints removes the directories that up made outside .cluster.
func removeMountpoints(l layout) error {
	list, err := os.ReadFile(l.made())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading what was made: %w", err)
	}
	var errs error
	for _, dir := range strings.Fields(string(list)) {
		// Somebody else may use it by now: then it is not empty, and stays.
		err := os.Remove(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) {
			errs = errors.Join(errs, fmt.Errorf("removing a mount point: %w", err))
		}
	}
	return errs
}

// unmountUnder unmounts what is mounted under dir. The machines' own mounts went
// with them; this is for what was mounted by hand, which a removal of dir would empty.
func unmountUnder(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("reading the mounts: %w", err)
	}
	points := mountPointsUnder(string(mounts), dir)
	slices.Reverse(points) // the newest first
	for _, point := range points {
		if err := syscall.Unmount(point, 0); err != nil {
			return fmt.Errorf("unmounting %s: %w", point, err)
		}
	}
	return nil
}

// mountPointsUnder reads the mount points under dir out of a mountinfo(5) file.
func mountPointsUnder(mountinfo, dir string) []string {
	var points []string
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		point := unescape.Replace(fields[4])
		if point == dir || strings.HasPrefix(point, dir+string(filepath.Separator)) {
			points = append(points, point)
		}
	}
	return points
}
