package e2e

import (
	"context"
	"fmt"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
)

// handedOver is how long no write may be acknowledged while a leader that is
// asked to go hands over; 0.5 s on a machine that does nothing else.
const handedOver = 1500 * time.Millisecond

// mostAway watches, until it is asked, how many of the members are away at once, at the most:
// without a pod, with one that is being deleted, or with a new one that has not come to be Ready.
func (c cluster) mostAway(ctx context.Context, members int) func() int {
	ctx, stop := context.WithCancel(ctx)
	var done sync.WaitGroup
	most, came := 0, map[string]bool{}
	done.Go(func() {
		for ctx.Err() == nil {
			var list corev1.PodList
			err := kube.List(ctx, &list, client.InNamespace(c.namespace), client.MatchingLabels{v1alpha1.LabelCluster: c.name})
			away := members
			for _, pod := range list.Items {
				life := lives(map[string]corev1.Pod{pod.Name: pod})[pod.Name]
				came[life] = came[life] || ready(pod)
				if came[life] && pod.DeletionTimestamp == nil {
					away--
				}
			}
			if err == nil {
				most = max(most, away)
			}
			time.Sleep(poll / 4)
		}
	})
	return func() int {
		stop()
		done.Wait()
		return most
	}
}

// drains empties nodes, all at once, as their administrator does.
func drains(ctx context.Context, nodes ...string) (wait func()) {
	GinkgoHelper()
	DeferCleanup(func(ctx SpecContext) {
		Expect(kubectl(ctx, append([]string{"uncordon"}, nodes...)...)).Error().NotTo(HaveOccurred())
	}, NodeTimeout(patience))
	done := make(chan error, len(nodes))
	for _, node := range nodes {
		go func() {
			_, err := kubectl(ctx, "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=100s")
			done <- err
		}()
	}
	return func() {
		GinkgoHelper()
		for range nodes {
			Eventually(ctx, done).Should(Receive(BeNil()))
		}
	}
}

// The volumes can be used on every node, so that members have a place to go to.
var _ = Describe("Two nodes that are drained at once", Label(local, deep), Serial, SpecPriority(-100), func() {
	It("let their members go one after the other, and the leader hands over, though the operator is killed meanwhile", func(ctx SpecContext) {
		c := found(ctx, newNamespace(ctx), "drained", `{}`)
		c.runs(ctx, c.members(3)...)
		was, ran := c.get(ctx), c.pods(ctx)
		operator, nodes := working(ctx), quietNodes(ctx)
		leader, follower := c.on(ctx, nodes[0]), c.on(ctx, nodes[1])
		c.leads(ctx, leader)
		l, most := c.startLoad(ctx), c.mostAway(ctx, 3)

		start := time.Now()
		drained := drains(ctx, nodes...)
		Eventually(ctx, func() bool { return ready(c.pods(ctx)[leader]) && ready(c.pods(ctx)[follower]) }).WithPolling(poll / 4).Should(BeFalse())
		operator.diesUnmissed(ctx)
		drained()
		c.comesBack(ctx, ran, leader, follower)
		gap := l.Gap(start, time.Now())
		AddReportEntry("drained", fmt.Sprintf("in %s, longest gap %s", time.Since(start).Round(time.Millisecond), gap))
		Expect(gap.Length()).To(BeNumerically("<=", handedOver), gap.String())
		Expect(most()).To(Equal(1), "members that were away at once: the second waits for the first")
		for name, pod := range c.pods(ctx) {
			Expect(nodes).NotTo(ContainElement(pod.Spec.NodeName), "node of %s", name)
		}
		Expect(ids(c.get(ctx))).To(Equal(ids(was)))
		Expect(c.get(ctx).Status.NextOrdinal).To(Equal(was.Status.NextOrdinal))
		holds(ctx, l)
		operator.isRenewed(ctx)
	}, NodeTimeout(3*patience))
})
