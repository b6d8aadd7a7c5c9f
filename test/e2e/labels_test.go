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

var _ = Describe("An object of a cluster that somebody edits or deletes", func() {
	It("is put back, and the event ChildDrift says so", func(ctx SpecContext) {
		c := found(ctx, newNamespace(ctx), "edited", `{size: 1}`)
		pods, versions := lives(c.pods(ctx)), c.specs(ctx)
		for _, edit := range [][]string{
			{"patch", "service", c.name + "-client", "--type=merge", "-p", `{"spec":{"selector":{"app":"nothing"}}}`},
			{"patch", "service", c.name, "--type=json", "-p", `[{"op":"replace","path":"/spec/ports/0/port","value":2399}]`},
			{"patch", "poddisruptionbudget", c.name, "--type=merge", "-p", `{"spec":{"maxUnavailable":null,"minAvailable":0}}`},
			{"delete", "networkpolicy", c.name},
		} {
			Expect(kubectl(ctx, append([]string{"-n", c.namespace}, edit...)...)).Error().NotTo(HaveOccurred())
			Eventually(ctx, func() map[string]string { return c.specs(ctx) }).WithTimeout(backWithin).Should(Equal(versions), "%v", edit)
		}
		Eventually(ctx, func() string { return c.events(ctx) }).Should(MatchRegexp(`Warning +ChildDrift +.*NetworkPolicy ` + c.name))
		Expect(lives(c.pods(ctx))).To(Equal(pods), "a pod was made again")
		c.settles(ctx)
	}, NodeTimeout(2*patience))
})

// specs of the objects that the operator applies, by kind and name.
func (c cluster) specs(ctx context.Context) map[string]string {
	GinkgoHelper()
	out := map[string]string{}
	for _, kind := range []string{"service", "poddisruptionbudget", "networkpolicy"} {
		text, err := kubectl(ctx, "-n", c.namespace, "get", kind, "-o", `jsonpath={range .items[*]}{.metadata.name}{" "}{.spec}{"\n"}{end}`)
		Expect(err).NotTo(HaveOccurred())
		out[kind] = text
	}
	return out
}

// uids of claims by name.
func uids(claims map[string]corev1.PersistentVolumeClaim) map[string]string {
	out := map[string]string{}
	for name, claim := range claims {
		out[name] = string(claim.UID)
	}
	return out
}
