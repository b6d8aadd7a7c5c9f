package e2e

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The local cluster's nodes run on this machine: its processes and disks can be
// reached from here, as those of a machine can from its console.

// machine runs the program that the local cluster is made with.
func machine(ctx context.Context, args ...string) (string, error) { return bed.Machine(ctx, args...) }

// signal sends a signal to etcd in a member's pod.
func (c cluster) signal(ctx context.Context, s syscall.Signal, members ...string) {
	GinkgoHelper()
	Expect(c.bed().Signal(ctx, s, members...)).To(Succeed())
}

// kills ends etcd in members' pods and waits until the kubelet has started the
// containers again, in the same pods.
func (c cluster) kills(ctx context.Context, members ...string) {
	GinkgoHelper()
	before := c.pods(ctx)
	c.signal(ctx, syscall.SIGKILL, members...)
	Eventually(ctx, func(g Gomega) {
		now := c.pods(ctx)
		for _, m := range members {
			g.Expect(now[m].UID).To(Equal(before[m].UID), "the container is started again, not the pod")
			g.Expect(restarts(now[m])).To(BeNumerically(">", restarts(before[m])))
			g.Expect(ready(now[m])).To(BeTrue())
		}
	}).Should(Succeed())
}

func restarts(pod corev1.Pod) (sum int32) {
	for _, s := range pod.Status.ContainerStatuses {
		sum += s.RestartCount
	}
	return sum
}

// disk is the directory of a member's volume on this machine.
func (c cluster) disk(ctx context.Context, member string) string {
	GinkgoHelper()
	path, err := bed.Disk(ctx, c.namespace, "data-"+member)
	Expect(err).NotTo(HaveOccurred())
	return path
}

// hangs stops etcd in members' pods until the end of the node that asked,
// or until goesOn.
func (c cluster) hangs(ctx context.Context, members ...string) {
	GinkgoHelper()
	DeferCleanup(func(ctx SpecContext) { c.goesOn(ctx, members...) }, NodeTimeout(patience))
	c.signal(ctx, syscall.SIGSTOP, members...)
}

func (c cluster) goesOn(ctx context.Context, members ...string) {
	GinkgoHelper()
	c.signal(ctx, syscall.SIGCONT, members...)
}

// wipe takes the data of a member that runs away, and returns where it was.
func (c cluster) wipe(ctx context.Context, member string) string {
	GinkgoHelper()
	data := filepath.Join(c.disk(ctx, member), "data", "member")
	Expect(os.RemoveAll(data)).To(Succeed())
	return data
}

// quietNodes are the nodes without the working replica of the operator, in
// order. Both replicas are Ready.
func quietNodes(ctx context.Context) []string {
	GinkgoHelper()
	return nodesWithout(ctx, operatorWorks(ctx))
}

// nodesWithout a pod of the operator, in order.
func nodesWithout(ctx context.Context, pod string) []string {
	GinkgoHelper()
	leader := named[corev1.Pod](operatorNamespace, pod)
	Expect(kube.Get(ctx, client.ObjectKeyFromObject(leader), leader)).To(Succeed())
	var nodes corev1.NodeList
	Expect(kube.List(ctx, &nodes)).To(Succeed())
	var out []string
	for _, n := range nodes.Items {
		if n.Name != leader.Spec.NodeName {
			out = append(out, n.Name)
		}
	}
	slices.Sort(out)
	return out
}

// on is the member that runs on a node; there must be just one.
func (c cluster) on(ctx context.Context, node string) string {
	GinkgoHelper()
	var out []string
	for name, pod := range c.pods(ctx) {
		if pod.Spec.NodeName == node {
			out = append(out, name)
		}
	}
	Expect(out).To(HaveLen(1), "members on "+node)
	return out[0]
}
