package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// requirement is a program that the nodes need, and the Debian package that has it.
type requirement struct{ program, pkg string }

var requirements = []requirement{
	{"/usr/bin/containerd", "containerd"},
	{"/usr/bin/containerd-shim-runc-v2", "containerd"},
	{"/usr/bin/ctr", "containerd"},
	{"runc", "runc"},
	{pluginDir + "/ptp", "containernetworking-plugins"},
	{pluginDir + "/host-local", "containernetworking-plugins"},
	{pluginDir + "/portmap", "containernetworking-plugins"},
	{"iptables", "iptables"},
	{"nft", "nftables"},
	{"conntrack", "conntrack"},
	{"ethtool", "ethtool"},
	{"socat", "socat"},
	{"ip", "iproute2"},
	{"nsenter", "util-linux"},
	{"mount", "mount"},
	{"mkfs.ext4", "e2fsprogs"}, // for tests of what a power cut leaves
}

// missingPackages returns the packages whose programs are not on this system.
func missingPackages() []string {
	var missing []string
	for _, r := range requirements {
		if _, err := exec.LookPath(r.program); err != nil && !slices.Contains(missing, r.pkg) {
			missing = append(missing, r.pkg)
		}
	}
	return missing
}

// installPackages installs what is missing. It starts, stops and configures no
// service: the nodes run their own containerd.
func installPackages(p *progress) error {
	missing := missingPackages()
	if len(missing) == 0 {
		return nil
	}
	return p.step("installed "+strings.Join(missing, " "), func() error {
		for _, args := range [][]string{
			{"update", "-q"},
			append([]string{"install", "-q", "-y", "--no-install-recommends"}, missing...),
		} {
			cmd := exec.Command("apt-get", args...)
			cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("running apt-get %s: %w\n%s", args[0], err, bytes.TrimSpace(out))
			}
		}
		if still := missingPackages(); len(still) > 0 {
			return fmt.Errorf("the packages %s are installed but their programs are not where they are looked for", strings.Join(still, " "))
		}
		return nil
	})
}

// unsuited is a system on which no cluster can be brought up.
type unsuited struct{ reason string }

func (u unsuited) Error() string {
	return u.reason + " — a cluster of real nodes needs root on a Debian-like Linux — use a cluster that you have: set KUBECONFIG and run `make demo CLUSTER=existing` or `make test-e2e CLUSTER=existing`"
}

// checkSystem returns unsuited when no cluster can be brought up here.
func checkSystem() error {
	if os.Geteuid() != 0 {
		return unsuited{fmt.Sprintf("this runs as user %d, not as root", os.Geteuid())}
	}
	if _, err := exec.LookPath("apt-get"); err != nil && len(missingPackages()) > 0 {
		return unsuited{"apt-get is missing, and so are the programs of the packages " + strings.Join(missingPackages(), " ")}
	}
	if _, err := os.Stat(cgroupMount); err != nil {
		return unsuited{"no cgroups are mounted at " + cgroupMount}
	}
	filesystems, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return unsuited{"/proc/filesystems cannot be read"}
	}
	if !bytes.Contains(filesystems, []byte("\toverlay\n")) && exec.Command("modprobe", "overlay").Run() != nil {
		return unsuited{"the kernel has no overlay file system"}
	}
	return nil
}
