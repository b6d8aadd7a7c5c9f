package e2e

import (
	"fmt"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/resources"
)

var _ = Describe("A quorum that is lost for good, and no backup", Label(deep), Ordered, func() {
	var (
		c    cluster
		all  string
		was  *v1alpha1.EtcdCluster
		old  corev1.PersistentVolumeClaim
		left string
	)

	BeforeAll(func(ctx SpecContext) {
		c = found(ctx, newNamespace(ctx), "survived", `{size: 3, storage: {size: 1Gi}, etcd: {quotaBackendBytes: 256Mi}}`)
		for i := range 20 {
			c.etcdctl(ctx, c.member(i%3), "put", fmt.Sprintf("kept/%02d", i), strings.Repeat("v", i*100))
		}
		was, left = c.get(ctx), c.member(0)
		all, old = c.content(ctx, left), c.claims(ctx)["data-"+left]
	}, NodeTimeout(4*patience))

	It("is told of, with the survivor that has come furthest", func(ctx SpecContext) {
		c.deleteClaims(ctx, c.member(1), c.member(2))
		c.deletePods(ctx, c.member(1), c.member(2))
		c.stopped(ctx, c.member(1), c.member(2))
		c.reports(ctx, promised, v1alpha1.ConditionAvailable, "False", v1alpha1.ReasonQuorumLost, "of those whose volumes are left "+left+" has come furthest")
		c.reports(ctx, promised, v1alpha1.ConditionAvailable, "False", v1alpha1.ReasonQuorumLost, "no EtcdBackup of the cluster is verified")
	}, NodeTimeout(2*patience))

	It("is no reason to go on with a member whose volume is gone", func(ctx SpecContext) {
		c.edit(ctx, fmt.Sprintf(`{spec: {recovery: {incarnation: 1, survivor: %s}}}`, c.member(1)))
		c.reports(ctx, patience, v1alpha1.ConditionStalled, "True", v1alpha1.ReasonRecoveryBlocked, "set spec.recovery.survivor to "+left)
		Expect(sortedKeys(c.pods(ctx))).To(Equal([]string{left}), "nobody is stopped for it")
	}, NodeTimeout(2*patience))

	It("goes on with a copy of the survivor's volume, and grows", func(ctx SpecContext) {
		unmixed := c.neverMixes(ctx)
		start := time.Now()
		c.edit(ctx, fmt.Sprintf(`{spec: {recovery: {incarnation: 1, survivor: %s}}}`, left))
		Eventually(ctx, func() int64 { return c.get(ctx).Status.Incarnation }).WithTimeout(patience).Should(BeEquivalentTo(2))
		c.becomesReady(ctx)
		AddReportEntry("serves with all members after", time.Since(start).String())
		unmixed()

		now := c.get(ctx)
		members := []string{c.member(3), c.member(4), c.member(5)}
		Expect(now.Status.Founders).To(Equal(members[:1]))
		Expect(now.Status.ClusterID).NotTo(Equal(was.Status.ClusterID))
		Eventually(ctx, func() []string { return sortedKeys(c.pods(ctx)) }).WithTimeout(patience).Should(Equal(members))
		for _, m := range members {
			Expect(c.content(ctx, m)).To(Equal(all), "the keys of %s are all that were written", m)
		}
		c.serves(ctx, members[1])
		c.settles(ctx)
	}, NodeTimeout(4*patience))

	It("is told of honestly", func(ctx SpecContext) {
		r := c.get(ctx).Status.Recovery
		Expect(r).NotTo(BeNil())
		Expect(r.Survivor).NotTo(BeNil())
		Expect(r.Survivor.Name).To(Equal(left))
		Expect(r.Survivor.VolumeUID).To(Equal(string(old.UID)))
		Expect(r.Survivor.Copied).To(BeTrue())
		Expect(r.Survivor.Revision).To(BeNumerically(">=", 21))
		Expect(r.PossibleLoss).To(ContainSubstring("never reached " + left))
		Eventually(ctx, func() string { return c.events(ctx) }).Should(MatchRegexp(`Warning +RaiseIncarnation .*a copy of the volume of ` + left))
	}, NodeTimeout(patience))

	It("leaves the survivor's claim to the user, and needs it no more", func(ctx SpecContext) {
		Eventually(ctx, func(g Gomega) {
			for name, pod := range c.pods(ctx) {
				g.Expect(resources.MountsSurvivor(&pod)).To(BeFalse(), "%s has the survivor's volume", name)
			}
		}).WithTimeout(patience).Should(Succeed())
		claim := c.claims(ctx)["data-"+left]
		Expect(claim.UID).To(Equal(old.UID))
		Expect(claim.DeletionTimestamp).To(BeNil())
		c.deleteClaims(ctx, left)
		Eventually(ctx, func() []string { return sortedKeys(c.claims(ctx)) }).WithTimeout(patience).ShouldNot(ContainElement("data-" + left))
		c.becomesReady(ctx)
	}, NodeTimeout(3*patience))
})
