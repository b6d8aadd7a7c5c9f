package e2e

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
)

// goes deletes the cluster and waits until its pods are gone, too.
func (c cluster) goes(ctx context.Context) {
	GinkgoHelper()
	remove(ctx, c.object())
	Eventually(ctx, func() []string { return sortedKeys(c.pods(ctx)) }).Should(BeEmpty())
}

var _ = Describe("Deletion", Ordered, ContinueOnFailure, func() {
	It("keeps the volumes, which a new cluster of the same name neither uses nor touches", func(ctx SpecContext) {
		c := found(ctx, newNamespace(ctx), "kept", `{}`)
		c.etcdctl(ctx, c.member(0), "put", "old", "life")
		old := c.get(ctx)
		c.goes(ctx)
		kept := c.claims(ctx)
		Expect(sortedKeys(kept)).To(Equal([]string{"data-kept-0000", "data-kept-0001", "data-kept-0002"}))

		c = found(ctx, c.namespace, "kept", `{}`)
		c.runs(ctx, "kept-0003", "kept-0004", "kept-0005")
		Expect(c.etcdctl(ctx, "kept-0003", "get", "old", "--print-value-only")).To(BeEmpty())
		s := c.get(ctx).Status
		Expect(s.ClusterID).NotTo(Equal(old.Status.ClusterID))
		Expect(s.NextOrdinal).To(BeEquivalentTo(6))
		c.reports(ctx, promised, v1alpha1.ConditionOldVolumes, "True", v1alpha1.ReasonOldVolumesFound, "data-kept-0001 (cluster UID "+string(old.UID)+")")
		Eventually(ctx, func() string { return c.events(ctx) }).Should(MatchRegexp(`Warning +OldVolumesFound +.*%s`, old.UID))
		for name, claim := range c.claims(ctx) {
			if before, was := kept[name]; was {
				Expect(claim.ResourceVersion).To(Equal(before.ResourceVersion), "an old claim was touched")
			}
		}
		By("forgetting them once they are deleted")
		for _, claim := range kept {
			Expect(kube.Delete(ctx, &claim)).To(Succeed())
		}
		Eventually(ctx, func(g Gomega) {
			g.Expect(c.get(ctx).Status.Conditions).NotTo(ContainElement(HaveField("Type", v1alpha1.ConditionOldVolumes)))
		}).Should(Succeed())
	}, NodeTimeout(3*patience))

	It("takes the volumes with it when storage.whenDeleted says so", func(ctx SpecContext) {
		c := found(ctx, newNamespace(ctx), "gone", `{storage: {whenDeleted: Delete}}`)
		Expect(c.get(ctx).Finalizers).To(ContainElement(v1alpha1.Finalizer))
		c.goes(ctx)
		Eventually(ctx, func() []string { return sortedKeys(c.claims(ctx)) }).Should(BeEmpty())
	}, NodeTimeout(2*patience))
})

var _ = Describe("Deletion", Serial, func() {
	It("does not need the operator when the volumes stay", func(ctx SpecContext) {
		c := found(ctx, newNamespace(ctx), "alone", `{size: 1}`)
		DeferCleanup(func(ctx SpecContext) { scaleOperator(ctx, 2) }, NodeTimeout(2*patience))
		scaleOperator(ctx, 0)
		start := time.Now()
		c.goes(ctx)
		AddReportEntry("gone without an operator", time.Since(start).String())
		Expect(c.claims(ctx)).To(HaveLen(1))
	}, NodeTimeout(2*patience))
})

// Kubernetes lets a namespace with running pods wait for half of their grace
// period; so this one begins first.
var _ = Describe("A namespace with clusters", func() {
	It("can be deleted", SpecPriority(90), func(ctx SpecContext) {
		ns := createNamespace(ctx)
		for name, spec := range map[string]string{
			"keeps": `{}`, "deletes": `{storage: {whenDeleted: Delete}}`,
			"unfounded": `{storage: {storageClassName: missing, whenDeleted: Delete}}`,
		} {
			apply(ctx, ns.Name, name, spec)
		}
		cluster{ns.Name, "keeps"}.becomesReady(ctx)
		cluster{ns.Name, "deletes"}.becomesReady(ctx)
		Expect(kube.Delete(ctx, ns)).To(Succeed())
		Eventually(ctx, func() bool {
			return apierrors.IsNotFound(kube.Get(ctx, client.ObjectKey{Name: ns.Name}, &corev1.Namespace{}))
		}).Should(BeTrue(), func() string { return "the namespace is still there: " + dump(context.Background(), ns.Name) })
	}, NodeTimeout(2*patience))
})
