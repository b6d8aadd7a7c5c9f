package e2e

import (
	"context"
	"slices"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/test/load"
)

// comesBack waits until all members run in pods other than the ones before, for
// those that are named, and in the same ones, for the others.
func (c cluster) comesBack(ctx context.Context, before map[string]corev1.Pod, anew ...string) {
	GinkgoHelper()
	Eventually(ctx, func(g Gomega) {
		now := c.pods(ctx)
		g.Expect(sortedKeys(now)).To(Equal(sortedKeys(before)))
		for name, pod := range now {
			g.Expect(ready(pod)).To(BeTrue(), "pod "+name+" is not Ready")
			if contains(anew, name) {
				g.Expect(pod.UID).NotTo(Equal(before[name].UID), "pod "+name+" is still the one before")
			} else {
				g.Expect(pod.UID).To(Equal(before[name].UID), "pod "+name+" was made again for no reason")
			}
		}
	}).Should(Succeed())
	c.settles(ctx)
}

func contains(list []string, s string) bool {
	return slices.Contains(list, s)
}

const (
	// hungFor is how long a member hangs: far longer than an election takes.
	hungFor = 10 * time.Second
	// elected is how long a cluster that has lost its leader may take to acknowledge a write
	// again. A follower asks for votes after two seconds at the most, and once more as late if
	// the first vote was split; without an election the fault would last, which is longer.
	elected = 5 * time.Second
)

// deletePods deletes members' pods, all at once.
func (c cluster) deletePods(ctx context.Context, members ...string) {
	GinkgoHelper()
	for _, m := range members {
		Expect(kube.Delete(ctx, named[corev1.Pod](c.namespace, m))).To(Succeed())
	}
}

// stopped waits until no pod of these members is left: a kubelet that has much to do ends them
// late, and what is told of them is told from then on.
func (c cluster) stopped(ctx context.Context, members ...string) {
	GinkgoHelper()
	Eventually(ctx, func() map[string]corev1.Pod { return c.pods(ctx) }).ShouldNot(HaveKey(BeElementOf(members)))
}

var _ = Describe("Members that come back by themselves, under load,", Ordered, SpecPriority(90), func() {
	var (
		c      cluster
		l      *load.Load
		before map[string]string // member IDs
	)
	BeforeAll(func(ctx SpecContext) {
		c = found(ctx, newNamespace(ctx), "repaired", `{}`)
		c.runs(ctx, c.members(3)...)
		before = ids(c.get(ctx))
		l = c.startLoad(ctx)
	}, NodeTimeout(2*patience))

	AfterEach(func(ctx SpecContext) {
		Expect(ids(c.get(ctx))).To(Equal(before), "members keep their IDs through every repair")
		Expect(c.get(ctx).Status.NextOrdinal).To(BeEquivalentTo(3), "nobody else was thought of")
	}, NodeTimeout(patience))

	for _, count := range []int{1, 2, 3} {
		It([]string{"do so after one pod was deleted", "do so after two were", "do so after all were"}[count-1], func(ctx SpecContext) {
			pods := c.pods(ctx)
			c.deletePods(ctx, c.members(count)...)
			c.comesBack(ctx, pods, c.members(count)...)
		}, NodeTimeout(2*patience))
	}

	It("do so after a pod has failed", func(ctx SpecContext) {
		pods := c.pods(ctx)
		// The kubelet ends a pod whose time is over as it does one that it evicts:
		// the pod has Failed, and stays.
		over := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"activeDeadlineSeconds":1}}`))
		Expect(kube.Patch(ctx, named[corev1.Pod](c.namespace, c.member(0)), over)).To(Succeed())
		c.comesBack(ctx, pods, c.member(0))
	}, NodeTimeout(2*patience))

	It("wait while a pod is stuck in its deletion, which nobody forces", func(ctx SpecContext) {
		pods, stuck := c.pods(ctx), named[corev1.Pod](c.namespace, c.member(1))
		hold := func(finalizers string) {
			GinkgoHelper()
			patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":`+finalizers+`}}`))
			Expect(client.IgnoreNotFound(kube.Patch(ctx, stuck, patch))).To(Succeed())
		}
		DeferCleanup(func(ctx SpecContext) {
			patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`))
			_ = kube.Patch(ctx, named[corev1.Pod](c.namespace, c.member(1)), patch)
		}, NodeTimeout(patience))
		hold(`["quorate.example/held"]`)
		c.deletePods(ctx, c.member(1))
		c.reports(ctx, promised, v1alpha1.ConditionReady, "False", v1alpha1.ReasonDegraded, c.member(1)+": its pod is being deleted")
		c.says(ctx, Default, v1alpha1.ConditionAvailable, "True", v1alpha1.ReasonProbeSucceeded, "")
		Consistently(ctx, func(g Gomega) {
			g.Expect(c.pods(ctx)[c.member(1)].UID).To(Equal(pods[c.member(1)].UID))
		}).WithTimeout(8 * time.Second).Should(Succeed())
		hold(`null`)
		c.comesBack(ctx, pods, c.member(1))
	}, NodeTimeout(2*patience))

	It("leave one after the other when two are evicted at once", func(ctx SpecContext) {
		pods := c.pods(ctx)
		evict := func(member string) error {
			return api.PolicyV1().Evictions(c.namespace).Evict(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: member}})
		}
		Eventually(ctx, func() error { return evict(c.member(2)) }).Should(Succeed(), "the budget allows one")
		err := evict(c.member(1))
		Expect(apierrors.IsTooManyRequests(err)).To(BeTrue(), "evicting a second pod while one is down is refused with 429, not %v", err)
		Eventually(ctx, func() error { return evict(c.member(1)) }).Should(Succeed())
		first := c.pods(ctx)[c.member(2)]
		Expect(ready(first) && first.UID != pods[c.member(2)].UID).To(BeTrue(), "the second pod was evicted before the first member was back")
		c.comesBack(ctx, pods, c.member(1), c.member(2))
	}, NodeTimeout(2*patience))

	It("do so when the processes of a follower and of the leader are killed", Label(local), func(ctx SpecContext) {
		followers, leader := c.followers(ctx)
		c.kills(ctx, followers[0])
		c.settles(ctx)
		start := time.Now()
		c.kills(ctx, leader)
		c.settles(ctx)
		AddReportEntry("leader killed", l.Gap(start, time.Now()).String())
	}, NodeTimeout(2*patience))

	for _, role := range []string{"a follower", "the leader"} {
		It("are left alone while "+role+" hangs", Label(local), func(ctx SpecContext) {
			pods := lives(c.pods(ctx))
			followers, hanging := c.followers(ctx)
			if role == "a follower" {
				hanging = followers[0]
			}
			start := time.Now()
			c.hangs(ctx, hanging)
			c.reports(ctx, promised, v1alpha1.ConditionReady, "False", v1alpha1.ReasonDegraded, hanging)
			c.reports(ctx, promised, v1alpha1.ConditionAvailable, "True", v1alpha1.ReasonProbeSucceeded, "")
			pauseFor(ctx, time.Until(start.Add(hungFor)))
			c.goesOn(ctx, hanging)
			c.settles(ctx)
			gap := l.Gap(start, time.Now())
			AddReportEntry(role+" hung", gap.String())
			Expect(gap.Length()).To(BeNumerically("<=", elected), gap.String())
			Expect(lives(c.pods(ctx))).To(Equal(pods))
		}, NodeTimeout(2*patience))
	}

	It("are told as a lost quorum when a majority hangs, and as none once it goes on", Label(local), func(ctx SpecContext) {
		pods, listed := lives(c.pods(ctx)), c.listed(ctx, c.member(2))
		hanging := []string{c.member(0), c.member(1)}
		DeferCleanup(func(ctx SpecContext) { c.signal(ctx, syscall.SIGCONT, hanging...) }, NodeTimeout(patience))
		c.signal(ctx, syscall.SIGSTOP, hanging...)
		c.reports(ctx, promised, v1alpha1.ConditionAvailable, "False", v1alpha1.ReasonQuorumLost, "1 of 3 voters answer ("+c.member(2)+")")
		c.says(ctx, Default, v1alpha1.ConditionReady, "False", v1alpha1.ReasonQuorumLost, "")
		Expect(lives(c.pods(ctx))).To(Equal(pods), "members that run are not touched while quorum is lost")
		c.signal(ctx, syscall.SIGCONT, hanging...)
		c.reports(ctx, patience, v1alpha1.ConditionAvailable, "True", v1alpha1.ReasonProbeSucceeded, "")
		c.settles(ctx)
		Expect(c.listed(ctx, c.member(2))).To(Equal(listed))
	}, NodeTimeout(2*patience))

	It("lose nothing that was acknowledged", func(ctx SpecContext) { holds(ctx, l) }, NodeTimeout(patience))
})
