package testbed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// ErrNoProcess means that the program does not run in the pod.
var ErrNoProcess = errors.New("no such process")

// Etcd is the program that a member runs.
const Etcd = "/usr/local/bin/etcd"

// Processes are the ids, on this machine, of a pod's processes whose command
// starts with the program; of all of them if it is empty.
func Processes(pod corev1.Pod, program string) ([]int, error) {
	found, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	var out []int
	for _, path := range found {
		command, err := os.ReadFile(path)
		if err != nil || (program != "" && !bytes.HasPrefix(command, []byte(program+"\x00"))) {
			continue
		}
		cgroup, err := os.ReadFile(filepath.Join(filepath.Dir(path), "cgroup"))
		if err != nil || !strings.Contains(string(cgroup), "pod"+string(pod.UID)) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return nil, fmt.Errorf("reading the process id of %s: %w", path, err)
		}
		out = append(out, pid)
	}
	return out, nil
}

// Signal sends a signal to a program in a pod.
func Signal(pod corev1.Pod, program string, s syscall.Signal) error {
	pids, err := Processes(pod, program)
	if err != nil {
		return err
	}
	if len(pids) == 0 {
		return fmt.Errorf("sending %s to %s of %s: %w", s, program, pod.Name, ErrNoProcess)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, s); err != nil {
			return fmt.Errorf("sending %s to %s of %s: %w", s, program, pod.Name, err)
		}
	}
	return nil
}

// InNetworkOf runs a program of this machine in the network of a pod, as root: for
// nft and tc.
func (b *Bed) InNetworkOf(ctx context.Context, pod corev1.Pod, program string, args ...string) error {
	pids, err := Processes(pod, "")
	if err != nil {
		return err
	}
	if len(pids) == 0 {
		return fmt.Errorf("entering the network of pod %s: %w", pod.Name, ErrNoProcess)
	}
	return b.inNetworkOf(ctx, pids[0], program, args...)
}

// InNetworkOfNode does the same in the network of a node of the local cluster.
func (b *Bed) InNetworkOfNode(ctx context.Context, node, program string, args ...string) error {
	pid, err := b.Daemon("kubelet-" + node)
	if err != nil {
		return err
	}
	return b.inNetworkOf(ctx, pid, program, args...)
}

func (b *Bed) inNetworkOf(ctx context.Context, pid int, program string, args ...string) error {
	_, err := b.Run(ctx, "nsenter", append([]string{"-t", strconv.Itoa(pid), "-n", program}, args...)...)
	return err
}

// Daemon is the process id, on this machine, of a part of the local cluster, such as
// coredns.
func (b *Bed) Daemon(name string) (int, error) {
	text, err := os.ReadFile(filepath.Join(b.Root, ".cluster", "run", name+".pid"))
	if err != nil {
		return 0, fmt.Errorf("finding %s: %w", name, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("reading the process id of %s: %w", name, err)
	}
	return pid, nil
}

// Signal sends a signal to etcd in the members' pods.
func (c Cluster) Signal(ctx context.Context, s syscall.Signal, members ...string) error {
	pods, err := c.Pods(ctx)
	if err != nil {
		return err
	}
	for _, m := range members {
		if err := Signal(pods[m], Etcd, s); err != nil {
			return fmt.Errorf("member %s: %w", m, err)
		}
	}
	return nil
}

// Disk is the directory, on this machine, of a claim's volume.
func (b *Bed) Disk(ctx context.Context, namespace, claim string) (string, error) {
	c := &corev1.PersistentVolumeClaim{}
	if err := b.Kube.Get(ctx, client.ObjectKey{Namespace: namespace, Name: claim}, c); err != nil {
		return "", fmt.Errorf("reading claim %s: %w", claim, err)
	}
	v := &corev1.PersistentVolume{}
	if err := b.Kube.Get(ctx, client.ObjectKey{Name: c.Spec.VolumeName}, v); err != nil {
		return "", fmt.Errorf("reading the volume of claim %s: %w", claim, err)
	}
	if v.Spec.Local == nil {
		return "", fmt.Errorf("volume %s of claim %s is not a directory of the local cluster", v.Name, claim)
	}
	path := filepath.Clean(v.Spec.Local.Path)
	if !strings.HasPrefix(path, filepath.Join(b.Root, ".cluster")+"/") {
		return "", fmt.Errorf("volume %s of claim %s is at %s, and only disks of the local cluster may be touched", v.Name, claim, path)
	}
	return path, nil
}
