package e2e

import (
	"context"
	"os"
	"path/filepath"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
)

// Last of all: they restart members of every cluster that is there.
var _ = Describe("The nodes' faults", Label(local), Ordered, SpecPriority(-200), func() {
	var c cluster
	BeforeAll(func(ctx SpecContext) {
		c = found(ctx, newNamespace(ctx), "spread", `{}`)
		c.runs(ctx, c.members(3)...)
	}, NodeTimeout(2*patience))

	// others are the members but for one.
	others := func(member string) []string {
		var out []string
		for _, m := range c.members(3) {
			if m != member {
				out = append(out, m)
			}
		}
		return out
	}

	It("cut one member off: the others serve, and no second pod runs for it", func(ctx SpecContext) {
		node, member := c.quietNode(ctx)
		before := c.pods(ctx)
		w := c.startWriter(ctx, others(member)...)
		DeferCleanup(func(ctx SpecContext) { Expect(machine(ctx, "heal", node)).Error().NotTo(HaveOccurred()) }, NodeTimeout(patience))
		Expect(machine(ctx, "partition", node)).Error().NotTo(HaveOccurred())
		w.continues(ctx)
		c.reports(ctx, promised, v1alpha1.ConditionReady, "False", v1alpha1.ReasonMembersUnhealthy, member)
		c.says(ctx, Default, v1alpha1.ConditionAvailable, "True", v1alpha1.ReasonProbeSucceeded, "")
		nodeBecomes(ctx, node, false)

		By("forcing the pod's deletion: a process of it may still run on the node")
		now := int64(0)
		Expect(kube.Delete(ctx, named[corev1.Pod](c.namespace, member), &client.DeleteOptions{GracePeriodSeconds: &now})).To(Succeed())
		c.reports(ctx, promised, v1alpha1.ConditionReady, "False", v1alpha1.ReasonMembersUnhealthy, `its last node "`+node+`" is not Ready: a process may still run there`)
		Consistently(ctx, func() []string { return sortedKeys(c.pods(ctx)) }).WithTimeout(3 * time.Second).Should(Equal(others(member)))
		w.continues(ctx)

		By("healing it")
		Expect(machine(ctx, "heal", node)).Error().NotTo(HaveOccurred())
		c.comesBack(ctx, before, member)
		nodeBecomes(ctx, node, true)
		Expect(w.lost(ctx)).To(BeEmpty())
	}, NodeTimeout(2*patience))

	It("take one node's power: the others serve, and its members come back with it", func(ctx SpecContext) {
		node, member := c.quietNode(ctx)
		before, was := c.pods(ctx), ids(c.get(ctx))
		w := c.startWriter(ctx, others(member)...)
		Expect(machine(ctx, "kill-node", node)).Error().NotTo(HaveOccurred())
		out, err := machine(ctx, "status")
		Expect(err).To(HaveOccurred(), out)
		Expect(out).To(MatchRegexp(node + ` .*DOWN`))
		w.continues(ctx)
		Expect(machine(ctx, "start-node", node)).Error().NotTo(HaveOccurred())
		Eventually(ctx, func(g Gomega) {
			pod := c.pods(ctx)[member]
			g.Expect(pod.UID).To(Equal(before[member].UID), "the kubelet starts the pod again, nobody makes another")
			g.Expect(lives(map[string]corev1.Pod{member: pod})).NotTo(Equal(lives(map[string]corev1.Pod{member: before[member]})), "the kubelet has not started the containers again yet")
		}).Should(Succeed())
		c.comesBack(ctx, before)
		Expect(ids(c.get(ctx))).To(Equal(was))
		Expect(w.lost(ctx)).To(BeEmpty())
		operatorWorks(ctx)
	}, NodeTimeout(2*patience))

	It("are over: everything is up, and bringing it up again changes nothing", func(ctx SpecContext) {
		Eventually(ctx, func() error { _, err := machine(ctx, "status"); return err }).Should(Succeed())
		before := machinePIDs()
		Expect(before).NotTo(BeEmpty())
		out, err := machine(ctx, "up")
		Expect(err).NotTo(HaveOccurred())
		Expect(out).To(MatchRegexp(`^\[ *\d+\.\ds\] the cluster is up: export KUBECONFIG=\S+$`), "an up of a cluster that is up says so, and no more")
		Expect(machinePIDs()).To(Equal(before), "a process was started again")
		_, err = machine(ctx, "partition", "node9")
		Expect(err).To(MatchError(ContainSubstring(`there is no node "node9"`)))
	}, NodeTimeout(2*patience))
})

// nodeBecomes waits until Kubernetes holds a node for Ready, or not.
func nodeBecomes(ctx context.Context, name string, is bool) {
	GinkgoHelper()
	Eventually(ctx, func(g Gomega) {
		node := named[corev1.Node]("", name)
		g.Expect(kube.Get(ctx, client.ObjectKeyFromObject(node), node)).To(Succeed())
		for _, condition := range node.Status.Conditions {
			if condition.Type == corev1.NodeReady {
				g.Expect(condition.Status == corev1.ConditionTrue).To(Equal(is), "node %s is Ready=%s: %s", name, condition.Status, condition.Message)
			}
		}
	}).Should(Succeed())
}

// machinePIDs are the local cluster's processes, by the files that name them.
func machinePIDs() map[string]string {
	GinkgoHelper()
	files, err := filepath.Glob(filepath.Join(root, ".cluster", "run", "*.pid"))
	Expect(err).NotTo(HaveOccurred())
	out := map[string]string{}
	for _, path := range files {
		pid, err := os.ReadFile(path)
		Expect(err).NotTo(HaveOccurred())
		out[filepath.Base(path)] = string(pid)
	}
	return out
}
