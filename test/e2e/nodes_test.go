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
	"github.com/quorate/quorate/test/load"
	"github.com/quorate/quorate/test/soak/testbed"
)

// Alone and last of all: they disturb every cluster that is there.
var _ = Describe("The nodes' faults, under load,", Label(local, deep), Ordered, Serial, SpecPriority(-200), func() {
	const replaceAfter = time.Minute
	var (
		c cluster
		l *load.Load
	)
	BeforeAll(func(ctx SpecContext) {
		c = found(ctx, newNamespace(ctx), "spread", `{storage: {storageClassName: local}, failover: {replaceAfter: 1m}}`)
		c.runs(ctx, c.members(3)...)
		l = c.startLoad(ctx)
	}, NodeTimeout(2*patience))

	It("cost nobody the membership, and one election, when a node is cut off for a while, and the operator is killed meanwhile", func(ctx SpecContext) {
		other := found(ctx, newNamespace(ctx), "other", `{storage: {storageClassName: local}}`)
		other.runs(ctx, other.members(3)...)
		otherLoad := other.startLoad(ctx)
		operator, node := working(ctx), quietNodes(ctx)[0]
		led, followed := cutting(ctx, c, l, node), cutting(ctx, other, otherLoad, node)
		led.leads(ctx, led.away)
		followed.leads(ctx, followed.left[0])
		DeferCleanup(func(ctx SpecContext) { nodesReturn(ctx, node) }, NodeTimeout(patience))
		_, calm := followed.electedOf(ctx, followed.left[:1])

		By("cutting " + node + " off, where one cluster has its leader and the other a follower")
		start := time.Now()
		Expect(machine(ctx, "partition", node)).Error().NotTo(HaveOccurred())
		operator.diesUnmissed(ctx)
		successor, term := led.electedOf(ctx, led.left)
		operator.succeeded(ctx)
		for _, x := range []*cut{led, followed} {
			x.reports(ctx, promised, v1alpha1.ConditionReady, "False", v1alpha1.ReasonDegraded, x.away)
			x.reports(ctx, promised, v1alpha1.ConditionAvailable, "True", v1alpha1.ReasonProbeSucceeded, "")
		}

		By("healing " + node)
		Expect(machine(ctx, "heal", node)).Error().NotTo(HaveOccurred())
		nodeBecomes(ctx, node, true)
		for _, x := range []*cut{led, followed} {
			x.comesBack(ctx, x.ran)
			Expect(ids(x.get(ctx))).To(Equal(ids(x.was)), "members keep their IDs")
			Expect(x.get(ctx).Status.NextOrdinal).To(Equal(x.was.Status.NextOrdinal), "nobody else was thought of")
			Expect(lives(x.pods(ctx))).To(Equal(lives(x.ran)), "no process was started again")
			gap := x.load.Gap(start, time.Now())
			AddReportEntry(x.name+": "+x.away+" cut off", gap.String())
			Expect(gap.Length()).To(BeNumerically("<=", elected), gap.String())
		}
		leader, now := led.electedOf(ctx, led.members(3))
		Expect(leader).To(Equal(successor), "who comes back asks for no election")
		Expect(now).To(Equal(term), "the term since the one election")
		_, now = followed.electedOf(ctx, followed.members(3))
		Expect(now).To(Equal(calm), "no election for a follower")
		holds(ctx, otherLoad)
		operator.isRenewed(ctx)
	}, NodeTimeout(3*patience))

	It("replace the member of a node that stays away, and none while two nodes are", func(ctx SpecContext) {
		operator, quiet := working(ctx), quietNodes(ctx)
		dead, cut := quiet[0], quiet[1]
		lost := c.on(ctx, dead)
		was, pods := c.get(ctx), c.pods(ctx)
		DeferCleanup(func(ctx SpecContext) { nodesReturn(ctx, dead, cut) }, NodeTimeout(patience))

		By("taking the power of " + dead + ": the others serve")
		Expect(machine(ctx, "kill-node", dead)).Error().NotTo(HaveOccurred())
		out, err := machine(ctx, "status")
		Expect(err).To(HaveOccurred(), out)
		Expect(out).To(MatchRegexp(dead + ` .*DOWN`))
		c.reports(ctx, promised, v1alpha1.ConditionReady, "False", v1alpha1.ReasonDegraded, lost)
		c.reports(ctx, promised, v1alpha1.ConditionAvailable, "True", v1alpha1.ReasonProbeSucceeded, "")

		By("killing the operator in the middle of it: the next one gives the member its whole time")
		operator.dies()
		operator.succeeded(ctx)
		// Not the node of the one that works now: nobody else would tell of it in time. The
		// other one may be on the node that is gone.
		works, err := operatorLeader(ctx)
		Expect(err).NotTo(HaveOccurred())
		cut = without(nodesWithout(ctx, works), []string{dead})[0]
		away := c.on(ctx, cut)
		left := without(c.members(3), []string{lost, away})
		nodeBecomes(ctx, dead, false)
		gone := time.Now()
		pauseFor(ctx, replaceAfter/3)

		By("cutting " + cut + " off, too: the quorum is lost, and nobody is replaced")
		Expect(machine(ctx, "partition", cut)).Error().NotTo(HaveOccurred())
		c.reports(ctx, promised, v1alpha1.ConditionAvailable, "False", v1alpha1.ReasonQuorumLost, "1 of 3 voters answer ("+left[0]+")")
		nodeBecomes(ctx, cut, false)

		By("forcing the deletion of a pod whose process still runs on " + cut)
		now := int64(0)
		Expect(kube.Delete(ctx, named[corev1.Pod](c.namespace, away), &client.DeleteOptions{GracePeriodSeconds: &now})).To(Succeed())
		c.reports(ctx, promised, v1alpha1.ConditionReady, "False", v1alpha1.ReasonQuorumLost, `its last node "`+cut+`" is not Ready: a process may still run there`)
		Consistently(ctx, func(g Gomega) {
			g.Expect(sortedKeys(c.pods(ctx))).To(ConsistOf(append(left, lost)), "no second pod for a process that may still run")
			g.Expect(testbed.Processes(pods[away], testbed.Etcd)).To(HaveLen(1))
			g.Expect(ids(c.get(ctx))).To(Equal(ids(was)))
		}).WithPolling(time.Second).WithTimeout(time.Until(gone.Add(replaceAfter + 5*time.Second))).Should(Succeed())
		Expect(c.get(ctx).Status.NextOrdinal).To(BeEquivalentTo(3), "with two nodes away nobody is replaced")

		By("healing " + cut + ": its member comes back, and the one on " + dead + " is replaced")
		Expect(machine(ctx, "heal", cut)).Error().NotTo(HaveOccurred())
		c.reports(ctx, patience, v1alpha1.ConditionAvailable, "True", v1alpha1.ReasonProbeSucceeded, "")
		fresh := c.member(3)
		Eventually(ctx, func() []string { return sortedKeys(c.listed(ctx, left[0])) }).Should(ConsistOf(left[0], away, fresh))
		Eventually(ctx, func(g Gomega) {
			for _, m := range []string{left[0], away, fresh} {
				g.Expect(ready(c.pods(ctx)[m])).To(BeTrue(), m)
			}
			g.Expect(c.voters(ctx)).To(ConsistOf(left[0], away, fresh))
		}).Should(Succeed())
		Expect(ids(c.get(ctx))[away]).To(Equal(ids(was)[away]), "a node that comes back in time costs nobody the membership")
		Expect(testbed.Processes(pods[away], testbed.Etcd)).To(BeEmpty(), "two processes of one member")

		By("turning " + dead + " on again: what ran there does no harm")
		Expect(machine(ctx, "start-node", dead)).Error().NotTo(HaveOccurred())
		nodeBecomes(ctx, dead, true)
		c.replaces(ctx, was, lost)
		c.quarantines(ctx, lost)
		Expect(testbed.Processes(pods[lost], testbed.Etcd)).To(BeEmpty())
		operator.isRenewed(ctx)
	}, NodeTimeout(3*patience))

	It("lose nothing that was acknowledged", func(ctx SpecContext) { holds(ctx, l) }, NodeTimeout(patience))

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

// cut is a cluster that a node is cut off from, and what it was before.
type cut struct {
	cluster
	load *load.Load
	was  *v1alpha1.EtcdCluster
	ran  map[string]corev1.Pod
	// away is the member on the node; left are the others.
	away string
	left []string
}

func cutting(ctx context.Context, c cluster, l *load.Load, node string) *cut {
	GinkgoHelper()
	away := c.on(ctx, node)
	return &cut{cluster: c, load: l, was: c.get(ctx), ran: c.pods(ctx), away: away, left: without(c.members(3), []string{away})}
}

// leads hands the leadership to a member.
func (c cluster) leads(ctx context.Context, member string) {
	GinkgoHelper()
	Eventually(ctx, func() error { return c.bed().MoveLeader(ctx, member) }).Should(Succeed())
}

// electedOf waits until one of the members leads, and returns it and its term.
func (c cluster) electedOf(ctx context.Context, members []string) (leader string, term uint64) {
	GinkgoHelper()
	Eventually(ctx, func() (err error) {
		leader, term, err = c.bed().Leader(ctx, members...)
		return err
	}).Should(Succeed())
	return leader, term
}

// nodesReturn turns nodes on and connects them again, whichever they need.
func nodesReturn(ctx context.Context, nodes ...string) {
	for _, node := range nodes {
		_, _ = machine(ctx, "start-node", node)
		_, _ = machine(ctx, "heal", node)
		nodeBecomes(ctx, node, true)
	}
}

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
