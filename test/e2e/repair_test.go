package e2e

import (
	"context"
	"slices"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
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
	c.becomesReady(ctx)
}

func contains(list []string, s string) bool {
	return slices.Contains(list, s)
}

var _ = Describe("Self-repair under writes", Ordered, func() {
	var (
		c      cluster
		w      *writer
		before map[string]string // member IDs
	)
	BeforeAll(func(ctx SpecContext) {
		c = found(ctx, newNamespace(ctx), "repaired", `{}`)
		c.runs(ctx, c.members(3)...)
		before = ids(c.get(ctx))
		w = c.startWriter(ctx, c.members(3)...)
	}, NodeTimeout(2*patience))

	AfterEach(func(ctx SpecContext) {
		Expect(ids(c.get(ctx))).To(Equal(before), "members keep their IDs through every repair")
	}, NodeTimeout(patience))

	It("brings a deleted pod back on its volume", func(ctx SpecContext) {
		pods := c.pods(ctx)
		Expect(kube.Delete(ctx, named[corev1.Pod](c.namespace, c.member(1)))).To(Succeed())
		c.comesBack(ctx, pods, c.member(1))
		w.continues(ctx)
	}, NodeTimeout(2*patience))

	It("brings all pods back when all of them are deleted", func(ctx SpecContext) {
		pods := c.pods(ctx)
		Expect(kube.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(c.namespace), client.MatchingLabels{v1alpha1.LabelCluster: c.name})).To(Succeed())
		c.comesBack(ctx, pods, c.members(3)...)
		w.continues(ctx)
	}, NodeTimeout(2*patience))

	It("replaces a pod that has failed", func(ctx SpecContext) {
		pods := c.pods(ctx)
		// The kubelet ends a pod whose time is over as it does one that it evicts:
		// the pod has Failed, and stays.
		over := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"activeDeadlineSeconds":1}}`))
		Expect(kube.Patch(ctx, named[corev1.Pod](c.namespace, c.member(0)), over)).To(Succeed())
		c.comesBack(ctx, pods, c.member(0))
		w.continues(ctx)
	}, NodeTimeout(2*patience))

	It("lets one pod at a time be evicted", func(ctx SpecContext) {
		pods := c.pods(ctx)
		evict := func(member string) error {
			return api.PolicyV1().Evictions(c.namespace).Evict(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: member}})
		}
		Eventually(ctx, func() error { return evict(c.member(2)) }).Should(Succeed(), "the budget allows one")
		err := evict(c.member(1))
		Expect(apierrors.IsTooManyRequests(err)).To(BeTrue(), "evicting a second pod while one is down is refused with 429, not %v", err)
		c.comesBack(ctx, pods, c.member(2))
		w.continues(ctx)
	}, NodeTimeout(2*patience))

	It("has lost no acknowledged write", func(ctx SpecContext) {
		Expect(w.lost(ctx)).To(BeEmpty())
		Expect(w.acked).NotTo(BeEmpty())
	}, NodeTimeout(patience))
})
