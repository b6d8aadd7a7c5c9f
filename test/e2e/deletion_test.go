package e2e

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
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

// leaves says that the claims of a deleted cluster are there and nobody has
// written to them, and that every key which it had acknowledged is in the logs of
// a majority of its volumes, where those can be looked into.
func (c cluster) leaves(ctx context.Context, claims map[string]corev1.PersistentVolumeClaim, acknowledged []string) {
	GinkgoHelper()
	now := c.claims(ctx)
	copies := map[string]int{}
	for name, claim := range claims {
		Expect(now[name].ResourceVersion).To(Equal(claim.ResourceVersion), "the old claim %s was touched", name)
		if !existing() {
			for key := range c.logged(ctx, name) {
				copies[key]++
			}
		}
	}
	if existing() {
		return
	}
	Expect(acknowledged).NotTo(BeEmpty())
	for _, key := range acknowledged {
		Expect(copies[key]).To(BeNumerically(">", len(claims)/2), "copies of %s in the logs", key)
	}
}

// loadKey is what the key of a load's write looks like.
var loadKey = regexp.MustCompile(`load/[0-9a-f]{8}/unique/\d{3}/\d{9}`)

// logged are the keys of loads in the write-ahead log on a claim's volume.
func (c cluster) logged(ctx context.Context, claim string) map[string]bool {
	GinkgoHelper()
	disk, err := bed.Disk(ctx, c.namespace, claim)
	Expect(err).NotTo(HaveOccurred())
	logs, err := filepath.Glob(filepath.Join(disk, "data", "member", "wal", "*.wal"))
	Expect(err).NotTo(HaveOccurred())
	out := map[string]bool{}
	for _, path := range logs {
		log, err := os.ReadFile(path)
		Expect(err).NotTo(HaveOccurred())
		// A log is allocated long before it is full.
		for _, key := range loadKey.FindAll(bytes.TrimRight(log, "\x00"), -1) {
			out[string(key)] = true
		}
	}
	return out
}

var _ = Describe("Deletion", Ordered, ContinueOnFailure, func() {
	It("keeps the volumes and all that was acknowledged, which a new cluster of the same name neither uses nor touches", func(ctx SpecContext) {
		c := found(ctx, newNamespace(ctx), "kept", `{}`)
		c.etcdctl(ctx, c.member(0), "put", "old", "life")
		old := c.get(ctx)
		l := c.startLoad(ctx)
		pauseFor(ctx, time.Second)
		c.goes(ctx)
		l.Abort()
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
		c.leaves(ctx, kept, l.Acknowledged())
		By("forgetting them once they are deleted")
		for _, claim := range kept {
			Expect(kube.Delete(ctx, &claim)).To(Succeed())
		}
		Eventually(ctx, func(g Gomega) {
			g.Expect(c.get(ctx).Status.Conditions).NotTo(ContainElement(HaveField("Type", v1alpha1.ConditionOldVolumes)))
		}).Should(Succeed())
	}, NodeTimeout(3*patience))

	It("comes back from its volumes, with all that was acknowledged, when it adopts them", func(ctx SpecContext) {
		c := found(ctx, newNamespace(ctx), "back", `{}`)
		l := c.startLoad(ctx)
		pauseFor(ctx, 2*time.Second)
		old := c.get(ctx)
		// While it is written to, and while its pods are still there.
		remove(ctx, c.object())
		start := time.Now()
		c = found(ctx, c.namespace, "back", `{adopt: {clusterUID: `+string(old.UID)+`}}`)
		AddReportEntry("back after", time.Since(start).String())
		c.runs(ctx, c.members(3)...)
		now := c.get(ctx)
		Expect(now.UID).NotTo(Equal(old.UID))
		Expect(now.Status.ClusterID).To(Equal(old.Status.ClusterID))
		Expect(ids(now)).To(Equal(ids(old)))
		Expect(now.Status.Conditions).NotTo(ContainElement(HaveField("Type", v1alpha1.ConditionOldVolumes)))
		l.Abort()
		Expect(l.Acknowledged()).NotTo(BeEmpty())
		for _, m := range c.members(3) {
			there := strings.Fields(c.etcdctl(ctx, m, "get", "load/", "--prefix", "--keys-only"))
			Expect(there).To(ContainElements(l.Acknowledged()), "what was acknowledged and "+m+" does not have")
		}

		By("replacing a member whose volume has been lost meanwhile")
		c.goes(ctx)
		Expect(kube.Delete(ctx, named[corev1.PersistentVolumeClaim](c.namespace, "data-back-0001"))).To(Succeed())
		c = found(ctx, c.namespace, "back", `{adopt: {clusterUID: `+string(old.UID)+`}}`)
		c.runs(ctx, "back-0000", "back-0002", "back-0003")

		By("founding nothing when too few are left")
		c.goes(ctx)
		for _, m := range []string{"back-0000", "back-0002"} {
			Expect(kube.Delete(ctx, named[corev1.PersistentVolumeClaim](c.namespace, "data-"+m))).To(Succeed())
		}
		c = apply(ctx, c.namespace, "back", `{adopt: {clusterUID: `+string(old.UID)+`}}`)
		c.reports(ctx, patience, v1alpha1.ConditionStalled, "True", v1alpha1.ReasonAdoptBlocked, "the volumes of 1 are here")
		Expect(c.pods(ctx)).To(BeEmpty())
		// A claim stays for as long as its pod ends.
		Eventually(ctx, func() []string { return sortedKeys(c.claims(ctx)) }).Should(Equal([]string{"data-back-0003"}))
	}, NodeTimeout(4*patience))

	It("takes the volumes with it when storage.whenDeleted says so", func(ctx SpecContext) {
		c := found(ctx, newNamespace(ctx), "gone", `{storage: {whenDeleted: Delete}}`)
		Expect(c.get(ctx).Finalizers).To(ContainElement(v1alpha1.Finalizer))
		c.goes(ctx)
		Eventually(ctx, func() []string { return sortedKeys(c.claims(ctx)) }).Should(BeEmpty())
	}, NodeTimeout(2*patience))
})

var _ = Describe("Deletion", Label(deep), Serial, func() {
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
// period; so this one begins early.
var _ = Describe("A namespace with clusters", Label(deep), func() {
	It("can be deleted", SpecPriority(60), func(ctx SpecContext) {
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
