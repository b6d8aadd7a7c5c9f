package e2e

import (
	"os"
	"path/filepath"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
)

var _ = Describe("A member whose data is gone", Label(local), Ordered, func() {
	var c cluster

	BeforeAll(func(ctx SpecContext) {
		c = found(ctx, newNamespace(ctx), "data", `{size: 5}`)
		c.runs(ctx, c.members(5)...)
	}, NodeTimeout(2*patience))

	staysDown := func(ctx SpecContext, member, text string) {
		GinkgoHelper()
		c.reports(ctx, patience, v1alpha1.ConditionStalled, "True", v1alpha1.ReasonDataMissing, text)
		c.says(ctx, Default, v1alpha1.ConditionAvailable, "True", v1alpha1.ReasonProbeSucceeded, "")
		Eventually(ctx, func() []string { return sortedKeys(c.pods(ctx)) }).ShouldNot(ContainElement(member))
		Consistently(ctx, func() []string { return sortedKeys(c.pods(ctx)) }).WithTimeout(3*time.Second).ShouldNot(ContainElement(member),
			"a member without its data gets no pod")
	}

	It("is refused by the guard after its directory was emptied, while the others serve", func(ctx SpecContext) {
		disk := c.disk(ctx, c.member(0))
		// A rename within the volume, as etcd sees it: its directory is gone.
		Expect(os.Rename(filepath.Join(disk, "data"), filepath.Join(disk, "kept"))).To(Succeed())
		Expect(kube.Delete(ctx, named[corev1.Pod](c.namespace, c.member(0)))).To(Succeed())
		staysDown(ctx, c.member(0), "no data in /var/lib/etcd/data")
		claim := c.claims(ctx)["data-"+c.member(0)]
		Expect(claim.Annotations[v1alpha1.AnnotationRefused]).To(HavePrefix("DataMissing: "))
		Expect(filepath.Glob(filepath.Join(disk, "data", "member", "*"))).To(BeEmpty(), "etcd never ran on the empty directory")
		c.serves(ctx, c.member(1))
		Expect(c.events(ctx)).To(MatchRegexp(`Warning +DataMissing`))
	}, NodeTimeout(2*patience))

	It("is started again on its data once that is back and the refusal is taken off", func(ctx SpecContext) {
		before, disk := ids(c.get(ctx)), c.disk(ctx, c.member(0))
		Expect(os.RemoveAll(filepath.Join(disk, "data"))).To(Succeed())
		Expect(os.Rename(filepath.Join(disk, "kept"), filepath.Join(disk, "data"))).To(Succeed())
		off := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{"`+v1alpha1.AnnotationRefused+`":null}}}`))
		Expect(kube.Patch(ctx, named[corev1.PersistentVolumeClaim](c.namespace, "data-"+c.member(0)), off)).To(Succeed())
		c.runs(ctx, c.members(5)...)
		c.becomesReady(ctx)
		Expect(ids(c.get(ctx))).To(Equal(before))
		c.serves(ctx, c.member(0))
	}, NodeTimeout(2*patience))

	It("is refused in the very pod that lost its log", func(ctx SpecContext) {
		disk, pod := c.disk(ctx, c.member(1)), c.pods(ctx)[c.member(1)]
		Expect(os.Rename(filepath.Join(disk, "data", "member", "wal"), filepath.Join(disk, "wal"))).To(Succeed())
		c.signal(ctx, syscall.SIGKILL, c.member(1))
		staysDown(ctx, c.member(1), "no write-ahead log")
		Expect(c.claims(ctx)["data-"+c.member(1)].Annotations[v1alpha1.AnnotationRefused]).To(HavePrefix("DataMissing: "))
		Expect(pod.UID).NotTo(BeEmpty())
		c.serves(ctx, c.member(2))
	}, NodeTimeout(2*patience))

	It("gets no pod after its claim was deleted", func(ctx SpecContext) {
		claim := c.claims(ctx)["data-"+c.member(4)]
		Expect(kube.Delete(ctx, &claim)).To(Succeed())
		Expect(kube.Delete(ctx, named[corev1.Pod](c.namespace, c.member(4)))).To(Succeed())
		staysDown(ctx, c.member(4), c.member(4))
		Eventually(ctx, func() []string { return sortedKeys(c.claims(ctx)) }).ShouldNot(ContainElement(claim.Name))
		Expect(c.claims(ctx)).To(HaveLen(4), "no new claim under the old name")
		c.serves(ctx, c.member(2))
		// Three of five are left: the last that quorum allows.
		Expect(c.get(ctx).Status.MembersSummary).To(Equal("3/5"))
	}, NodeTimeout(2*patience))
})
