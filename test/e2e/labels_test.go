package e2e

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
)

// backWithin is how soon labels must be put back.
const backWithin = 30 * time.Second

var _ = Describe("Labels that somebody takes off a running cluster", func() {
	It("are put back, and nobody is replaced for them", func(ctx SpecContext) {
		c := found(ctx, newNamespace(ctx), "labelled", `{}`)
		c.runs(ctx, c.members(3)...)
		was, pods, claims := c.get(ctx), lives(c.pods(ctx)), uids(c.claims(ctx))
		of := func(object client.Object) func(context.Context) (string, error) {
			return func(ctx context.Context) (string, error) {
				err := kube.Get(ctx, client.ObjectKeyFromObject(object), object)
				return object.GetLabels()[v1alpha1.LabelClusterUID] + "/" + object.GetLabels()[v1alpha1.LabelCluster], err
			}
		}
		for _, label := range []string{v1alpha1.LabelClusterUID, v1alpha1.LabelCluster} {
			for kind, object := range map[string]client.Object{
				"pvc": named[corev1.PersistentVolumeClaim](c.namespace, "data-"+c.member(0)),
				"pod": named[corev1.Pod](c.namespace, c.member(1)),
			} {
				Expect(kubectl(ctx, "-n", c.namespace, "label", kind, object.GetName(), label+"-")).Error().NotTo(HaveOccurred())
				Eventually(ctx, of(object)).WithTimeout(backWithin).Should(Equal(string(was.UID)+"/"+c.name), "%s without %s", kind, label)
			}
		}
		c.settles(ctx)
		Expect(lives(c.pods(ctx))).To(Equal(pods), "a pod was made again")
		Expect(uids(c.claims(ctx))).To(Equal(claims), "a claim was made again")
		now := c.get(ctx)
		Expect(ids(now)).To(Equal(ids(was)), "a member was replaced")
		Expect(now.Status.NextOrdinal).To(Equal(was.Status.NextOrdinal), "a name was spent")
		Eventually(ctx, func() string { return c.events(ctx) }).Should(MatchRegexp(`Warning +ChildDrift +labels`))
	}, NodeTimeout(2*patience))
})

// uids of claims by name.
func uids(claims map[string]corev1.PersistentVolumeClaim) map[string]string {
	out := map[string]string{}
	for name, claim := range claims {
		out[name] = string(claim.UID)
	}
	return out
}
