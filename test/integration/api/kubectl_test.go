package api

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
)

var _ = Describe("kubectl", func() {
	It("applies the sample, and shows what matters of a cluster", func(ctx context.Context) {
		sample, err := os.ReadFile(filepath.Join(root, "config/samples/etcdcluster.yaml"))
		Expect(err).NotTo(HaveOccurred())
		Expect(kubectl(ctx, string(sample), "apply", "-f", "-")).To(ContainSubstring("etcdcluster.etcd.quorate.dev/etcd-cluster created"))
		existing := cluster("etcd-cluster", "")
		DeferCleanup(func(ctx context.Context) { Expect(k8s.Delete(ctx, existing)).To(Succeed()) })
		Expect(patchStatus(ctx, existing, `{"membersSummary":"3/3","version":"3.6.16","leader":"etcd-cluster-0001","conditions":[
			{"type":"Ready","status":"True","reason":"Healthy","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}`)).To(Succeed())

		for _, name := range []string{"ec", "etcdclusters", "etcd"} {
			out, err := kubectl(ctx, "", "get", name)
			Expect(err).NotTo(HaveOccurred(), out)
			lines := strings.Split(strings.TrimSpace(out), "\n")
			Expect(lines).To(HaveLen(2), out)
			Expect(strings.Fields(lines[0])).To(Equal([]string{"NAME", "READY", "MEMBERS", "VERSION", "LEADER", "STATUS", "BACKUP", "AGE"}))
			shown := "etcd-cluster"
			if name == "etcd" {
				shown = "etcdcluster.etcd.quorate.dev/etcd-cluster" // a category has several kinds
			}
			Expect(strings.Fields(lines[1])[:6]).To(Equal([]string{shown, "True", "3/3", "3.6.16", "etcd-cluster-0001", "Healthy"}))
		}
	})

	It("scales, and is refused an even size", func(ctx context.Context) {
		existing := cluster("scaled", `{size: 3}`)
		create(ctx, existing)
		Expect(kubectl(ctx, "", "scale", "ec/scaled", "--replicas=5")).To(ContainSubstring("scaled"))
		Expect(k8s.Get(ctx, client.ObjectKeyFromObject(existing), existing)).To(Succeed())
		Expect(existing.Object["spec"]).To(HaveKeyWithValue("size", BeEquivalentTo(5)))
		out, err := kubectl(ctx, "", "scale", "ec/scaled", "--replicas=4")
		Expect(err).To(HaveOccurred())
		Expect(out).To(ContainSubstring("4" + sizeWhy))
		Expect(k8s.Get(ctx, client.ObjectKeyFromObject(existing), existing)).To(Succeed())
		Expect(existing.Object["spec"]).To(HaveKeyWithValue("size", BeEquivalentTo(5)))
	})

	It("shows through the scale subresource how many members vote, and which pods they are", func(ctx context.Context) {
		existing := cluster("scaled", `{size: 3}`)
		create(ctx, existing)
		typed := &v1alpha1.EtcdCluster{ObjectMeta: metav1.ObjectMeta{Name: "scaled", Namespace: "default"}}
		scale := &autoscalingv1.Scale{}
		Expect(k8s.SubResource("scale").Get(ctx, typed, scale)).To(Succeed())
		Expect(scale.Spec.Replicas).To(BeEquivalentTo(3))
		Expect(scale.Status.Replicas).To(BeZero())

		Expect(patchStatus(ctx, existing, `{"replicas":3,"selector":"etcd.quorate.dev/cluster=scaled"}`)).To(Succeed())
		Expect(k8s.SubResource("scale").Get(ctx, typed, scale)).To(Succeed())
		Expect(scale.Status.Replicas).To(BeEquivalentTo(3))
		Expect(scale.Status.Selector).To(Equal("etcd.quorate.dev/cluster=scaled"))

		By("an autoscaler's or a script's write, for an even size and for an odd one")
		scale.Spec.Replicas = 4
		expectRefusal(k8s.SubResource("scale").Update(ctx, typed, client.WithSubResourceBody(scale)), "4"+sizeWhy)
		scale.Spec.Replicas = 5
		Expect(k8s.SubResource("scale").Update(ctx, typed, client.WithSubResourceBody(scale))).To(Succeed())
		Expect(scale.Spec.Replicas).To(BeEquivalentTo(5))
		Expect(scale.Status.Replicas).To(BeEquivalentTo(3), "the members follow later")
		Expect(k8s.Get(ctx, client.ObjectKeyFromObject(existing), existing)).To(Succeed())
		Expect(existing.Object["spec"]).To(HaveKeyWithValue("size", BeEquivalentTo(5)))

		By("a write that was made for another size")
		out, err := kubectl(ctx, "", "scale", "ec/scaled", "--current-replicas=3", "--replicas=1")
		Expect(err).To(HaveOccurred())
		Expect(out).To(ContainSubstring("Expected replicas to be 3, was 5"))
	})

	It("explains the fields", func(ctx context.Context) {
		Eventually(func(ctx context.Context) (string, error) {
			return kubectl(ctx, "", "explain", "ec.spec")
		}).WithContext(ctx).WithTimeout(20 * time.Second).Should(And(
			ContainSubstring("Size is the number of voting members"),
			ContainSubstring("Paused stops every change"),
		))
	})

	It("refuses a field that does not exist, by name", func(ctx context.Context) {
		out, err := kubectl(ctx, "{apiVersion: etcd.quorate.dev/v1alpha1, kind: EtcdCluster, metadata: {name: typo}, spec: {replicas: 3}}", "apply", "-f", "-")
		Expect(err).To(HaveOccurred())
		Expect(out).To(ContainSubstring(`unknown field "spec.replicas"`))
	})

	It("prints the refusal of a rule as it was written", func(ctx context.Context) {
		out, err := kubectl(ctx, "{apiVersion: etcd.quorate.dev/v1alpha1, kind: EtcdCluster, metadata: {name: even}, spec: {size: 2}}", "apply", "-f", "-")
		Expect(err).To(HaveOccurred())
		Expect(strings.TrimSpace(out)).To(Equal(`The EtcdCluster "even" is invalid: spec.size: Invalid value: 2: 2` + sizeWhy))
	})

	for _, dir := range []string{"default", "namespaced", "samples"} {
		It("could apply config/"+dir, func(ctx context.Context) {
			namespace := `{apiVersion: v1, kind: Namespace, metadata: {name: quorate-system}}`
			Expect(kubectl(ctx, namespace, "apply", "--server-side", "-f", "-")).To(ContainSubstring("quorate-system"))
			rendered, err := kubectl(ctx, "", "kustomize", filepath.Join(root, "config", dir))
			Expect(err).NotTo(HaveOccurred(), rendered)
			out, err := kubectl(ctx, rendered, "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-")
			Expect(err).NotTo(HaveOccurred(), out)
			Expect(out).NotTo(ContainSubstring("Warning"))
		})
	}
})
