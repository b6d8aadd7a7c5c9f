package e2e

import (
	"context"
	"fmt"
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
)

// stage is how far a restore in place is, by what the controllers of the EtcdRestore and of the
// cluster have written down.
func (c cluster) stage(ctx context.Context, restore client.ObjectKey) (is string, over bool) {
	GinkgoHelper()
	r := &v1alpha1.EtcdRestore{}
	Expect(kube.Get(ctx, restore, r)).To(Succeed())
	why := "new"
	if ready := meta.FindStatusCondition(r.Status.Conditions, v1alpha1.ConditionReady); ready != nil {
		why = ready.Reason
	}
	now := c.get(ctx).Status
	doing := "nothing"
	if now.Operation != nil {
		doing = now.Operation.Kind + " " + now.Operation.Step
	}
	prepared := meta.IsStatusConditionTrue(r.Status.Conditions, v1alpha1.ConditionPrepared)
	return fmt.Sprintf("%s, prepared %t, incarnation %d, %s", why, prepared, now.Incarnation, doing), why == v1alpha1.ReasonRestored
}

// The process that is killed runs the controller of EtcdRestores and that of clusters, and has
// each of them in the middle of something. It is needed by others, so this comes last.
var _ = Describe("A restore in place whose operator is killed at every stage", Label(deep), Serial, func() {
	It("comes to its end, with the backup's keys and never with a mixture", func(ctx SpecContext) {
		operatorWorks(ctx)
		c, kept, _ := writtenPastItsBackup(ctx, "shot")
		old := c.claims(ctx)
		unmixed := c.neverMixes(ctx)
		began, killed := time.Now(), map[string]bool{}
		back := c.carriesBack(ctx, "back", "nightly")
		Eventually(ctx, func(g Gomega) {
			is, over := c.stage(ctx, back)
			// The last one's writes may come when it is dead, and the next one is yet to come.
			leader, err := operatorLeader(ctx)
			g.Expect(err).NotTo(HaveOccurred())
			pods, err := operatorPods(ctx)
			g.Expect(err).NotTo(HaveOccurred())
			works := slices.ContainsFunc(pods, func(p corev1.Pod) bool { return p.Name == leader })
			if !over && !killed[is] && works {
				killed[is] = true
				killOperator(ctx)
				AddReportEntry("killed: "+is, time.Since(began).Round(time.Second).String())
			}
			g.Expect(over).To(BeTrue())
		}).WithPolling(poll).WithTimeout(2 * patience).Should(Succeed())
		operatorWorks(ctx)
		c.becomesReady(ctx)
		unmixed()
		Expect(killed).To(And(
			HaveKey(HavePrefix(v1alpha1.ReasonSafetyBackup)), HaveKey(ContainSubstring("prepared true, incarnation 1")), HaveKey(ContainSubstring("incarnation 2")),
		), "stages in which it was killed")

		founders := []string{c.member(3), c.member(4), c.member(5)}
		Expect(sortedKeys(c.pods(ctx))).To(Equal(founders), "nothing of the old incarnation runs")
		for _, m := range founders {
			Expect(c.content(ctx, m)).To(Equal(kept), "the keys of %s are those of the backup", m)
		}
		claims := c.claims(ctx)
		for name, claim := range old {
			Expect(claims[name].UID).To(Equal(claim.UID), "the old volume %s is kept", name)
		}
		Expect(claims).To(HaveLen(len(old)+len(founders)), "each of the new members was made once")
		c.settles(ctx)
	}, NodeTimeout(5*patience))
})
