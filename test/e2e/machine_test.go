package e2e

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The local cluster's nodes run on this machine: its processes and disks can be
// reached from here, as those of a machine can from its console.

// machine runs the program that the local cluster is made with.
func machine(ctx context.Context, args ...string) (string, error) {
	return sh(ctx, filepath.Join(root, ".cluster", "bin", "cluster"), args...)
}

// process finds the process of a pod whose command starts with a program.
func process(pod corev1.Pod, program string) int {
	GinkgoHelper()
	found, err := filepath.Glob("/proc/[0-9]*/cmdline")
	Expect(err).NotTo(HaveOccurred())
	for _, path := range found {
		command, err := os.ReadFile(path)
		if err != nil || !bytes.HasPrefix(command, []byte(program+"\x00")) {
			continue
		}
		cgroup, err := os.ReadFile(filepath.Join(filepath.Dir(path), "cgroup"))
		if err != nil || !strings.Contains(string(cgroup), "pod"+string(pod.UID)) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		Expect(err).NotTo(HaveOccurred())
		return pid
	}
	return 0
}

// signal sends a signal to etcd in a member's pod.
func (c cluster) signal(ctx context.Context, s syscall.Signal, members ...string) {
	GinkgoHelper()
	pods := c.pods(ctx)
	for _, m := range members {
		pid := process(pods[m], "/usr/local/bin/etcd")
		Expect(pid).NotTo(BeZero(), "etcd of "+m+" does not run")
		Expect(syscall.Kill(pid, s)).To(Succeed())
	}
}

// disk is the directory of a member's volume on this machine.
func (c cluster) disk(ctx context.Context, member string) string {
	GinkgoHelper()
	claim := named[corev1.PersistentVolumeClaim](c.namespace, "data-"+member)
	Expect(kube.Get(ctx, client.ObjectKeyFromObject(claim), claim)).To(Succeed())
	volume := named[corev1.PersistentVolume]("", claim.Spec.VolumeName)
	Expect(kube.Get(ctx, client.ObjectKeyFromObject(volume), volume)).To(Succeed())
	Expect(volume.Spec.Local).NotTo(BeNil())
	path := filepath.Clean(volume.Spec.Local.Path)
	Expect(path).To(HavePrefix(filepath.Join(root, ".cluster")), "only disks of the local cluster are touched")
	return path
}

// quietNode is a node that runs a member of the cluster and not the working
// replica of the operator.
func (c cluster) quietNode(ctx context.Context) (node, member string) {
	GinkgoHelper()
	leader := named[corev1.Pod](operatorNamespace, operatorWorks(ctx))
	Expect(kube.Get(ctx, client.ObjectKeyFromObject(leader), leader)).To(Succeed())
	pods := c.pods(ctx)
	for _, name := range slices.Backward(sortedKeys(pods)) {
		if n := pods[name].Spec.NodeName; n != leader.Spec.NodeName {
			return n, name
		}
	}
	Fail("every member runs beside the operator")
	return "", ""
}
