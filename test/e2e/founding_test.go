package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
)

var _ = Describe("The sample", Ordered, func() {
	var c cluster

	BeforeAll(func(ctx SpecContext) {
		c = cluster{newNamespace(ctx), "etcd-cluster"}
		Expect(kubectl(ctx, "-n", c.namespace, "apply", "-f", filepath.Join(root, "config", "samples", "etcdcluster.yaml"))).Error().NotTo(HaveOccurred())
	}, NodeTimeout(patience))

	It("becomes Ready, as kubectl wait sees it", func(ctx SpecContext) {
		Expect(kubectl(ctx, "-n", c.namespace, "wait", "ec/etcd-cluster", "--for=condition=Ready", "--timeout=2m")).Error().NotTo(HaveOccurred())
	}, NodeTimeout(2*patience))

	It("runs three members in a namespace of the restricted profile, spread over the nodes", func(ctx SpecContext) {
		c.runs(ctx, c.members(3)...)
		var nodes []string
		for _, pod := range c.pods(ctx) {
			nodes = append(nodes, pod.Spec.NodeName)
			Expect(pod.Spec.ServiceAccountName).To(Equal(c.name))
			Expect(pod.Spec.AutomountServiceAccountToken).To(HaveValue(BeFalse()))
			for _, v := range pod.Spec.Volumes {
				Expect(v.Projected).To(BeNil(), "volume %s of pod %s may carry a token", v.Name, pod.Name)
			}
		}
		slices.Sort(nodes)
		if !existing() {
			Expect(nodes).To(Equal([]string{"node1", "node2", "node3"}))
		}
	}, NodeTimeout(patience))

	It("keeps each member's identity with its volume, which nothing owns", func(ctx SpecContext) {
		object, claims := c.get(ctx), c.claims(ctx)
		Expect(sortedKeys(claims)).To(Equal([]string{"data-etcd-cluster-0000", "data-etcd-cluster-0001", "data-etcd-cluster-0002"}))
		for name, claim := range claims {
			member := strings.TrimPrefix(name, "data-")
			Expect(claim.Status.Phase).To(Equal(corev1.ClaimBound))
			Expect(claim.OwnerReferences).To(BeEmpty(), "a deletion would cascade to the data")
			Expect(claim.Labels).To(And(HaveKeyWithValue(v1alpha1.LabelClusterUID, string(object.UID)),
				HaveKeyWithValue(v1alpha1.LabelIncarnation, "1"), HaveKeyWithValue(v1alpha1.LabelMember, member)))
			Expect(claim.Annotations).To(HaveKeyWithValue(v1alpha1.AnnotationMemberID, ids(object)[member]))
		}
	}, NodeTimeout(patience))

	It("has its Services, budget, network policy and account", func(ctx SpecContext) {
		object := c.get(ctx)
		get := func(o client.Object) {
			GinkgoHelper()
			Expect(kube.Get(ctx, client.ObjectKeyFromObject(o), o)).To(Succeed())
			Expect(metav1.IsControlledBy(o, object)).To(BeTrue(), "%T %s goes with the cluster", o, o.GetName())
		}
		peers, clients := named[corev1.Service](c.namespace, c.name), named[corev1.Service](c.namespace, c.name+"-client")
		get(peers)
		Expect(peers.Spec.ClusterIP).To(Equal(corev1.ClusterIPNone))
		Expect(peers.Spec.PublishNotReadyAddresses).To(BeTrue())
		get(clients)
		Expect(clients.Spec.Ports).To(HaveExactElements(HaveField("Port", int32(2379))))
		for _, s := range []*corev1.Service{peers, clients} {
			Expect(s.Spec.Selector).To(And(HaveKeyWithValue(v1alpha1.LabelClusterUID, string(object.UID)), HaveKeyWithValue(v1alpha1.LabelIncarnation, "1")))
		}
		budget := named[policyv1.PodDisruptionBudget](c.namespace, c.name)
		get(budget)
		Expect(budget.Spec.MinAvailable.IntValue()).To(Equal(2))
		Expect(budget.Spec.UnhealthyPodEvictionPolicy).To(HaveValue(Equal(policyv1.AlwaysAllow)))
		policy := named[networkingv1.NetworkPolicy](c.namespace, c.name)
		get(policy)
		Expect(policy.Spec.Ingress).NotTo(BeEmpty())
		account := named[corev1.ServiceAccount](c.namespace, c.name)
		get(account)
		Expect(account.AutomountServiceAccountToken).To(HaveValue(BeFalse()))
	}, NodeTimeout(patience))

	It("gives the members' ServiceAccount an identity in a cloud, and takes it back", func(ctx SpecContext) {
		before := c.pods(ctx)
		annotations := func() map[string]string {
			account := named[corev1.ServiceAccount](c.namespace, c.name)
			Expect(kube.Get(ctx, client.ObjectKeyFromObject(account), account)).To(Succeed())
			return account.Annotations
		}
		want := func(value string) {
			_, err := kubectl(ctx, "-n", c.namespace, "patch", "ec", c.name, "--type", "merge", "-p", `{"spec":{"podTemplate":{"serviceAccountAnnotations":`+value+`}}}`)
			Expect(err).NotTo(HaveOccurred())
		}
		want(`{"eks.amazonaws.com/role-arn":"arn:aws:iam::1:role/a"}`)
		Eventually(ctx, annotations).WithTimeout(patience).Should(HaveKeyWithValue("eks.amazonaws.com/role-arn", "arn:aws:iam::1:role/a"))
		c.settles(ctx)
		for name, pod := range c.pods(ctx) {
			Expect(pod.UID).To(Equal(before[name].UID), "%s was not restarted for it", name)
		}
		want("null")
		Eventually(ctx, annotations).WithTimeout(patience).ShouldNot(HaveKey("eks.amazonaws.com/role-arn"))
	}, NodeTimeout(2*patience))

	It("tells all of it in status", func(ctx SpecContext) {
		c.becomesReady(ctx)
		s := c.get(ctx).Status
		Expect(s.ClusterID).To(MatchRegexp("^[0-9a-f]{1,16}$"))
		Expect(s.Incarnation).To(BeEquivalentTo(1))
		Expect(s.NextOrdinal).To(BeEquivalentTo(3))
		Expect(s.Founders).To(Equal(c.members(3)))
		Expect(s.Replicas).To(BeEquivalentTo(3))
		Expect(s.Version).To(Equal("3.6.16"))
		Expect(s.Members).To(HaveLen(3))
		seen := map[string]bool{}
		for i, m := range s.Members {
			Expect(m.Name).To(Equal(c.member(i)))
			Expect(m.Role).To(Equal(v1alpha1.RoleVoter))
			Expect(m.Health).To(Equal(metav1.ConditionTrue))
			Expect(m.Version).To(Equal("3.6.16"))
			Expect(m.DBSize.Value()).To(BeNumerically(">", 0))
			seen[m.ID] = true
		}
		Expect(seen).To(HaveLen(3), "each member has an ID of its own")
		for kind, is := range map[string]metav1.ConditionStatus{
			v1alpha1.ConditionReady: "True", v1alpha1.ConditionAvailable: "True",
			v1alpha1.ConditionReconciling: "False", v1alpha1.ConditionStalled: "False",
		} {
			Expect(s.Conditions).To(ContainElement(And(HaveField("Type", kind), HaveField("Status", is))))
		}
		health := c.etcdctl(ctx, c.member(0), "endpoint", "status", "-w", "json")
		Expect(health).To(ContainSubstring(`"version":"3.6.16"`))
	}, NodeTimeout(patience))

	It("prints its columns", func(ctx SpecContext) {
		out, err := kubectl(ctx, "-n", c.namespace, "get", "ec")
		Expect(err).NotTo(HaveOccurred())
		lines := strings.Split(out, "\n")
		Expect(strings.Fields(lines[0])).To(Equal(strings.Fields("NAME READY MEMBERS VERSION LEADER STATUS BACKUP AGE")))
		Expect(strings.Fields(lines[1])[:6]).To(HaveExactElements(
			Equal("etcd-cluster"), Equal("True"), Equal("3/3"), Equal("3.6.16"), HavePrefix("etcd-cluster-000"), Equal("Healthy")))
	}, NodeTimeout(patience))

	It("answers etcdctl without a flag", func(ctx SpecContext) {
		out := c.etcdctl(ctx, c.member(0), "endpoint", "health", "--cluster")
		Expect(strings.Count(out, "is healthy")).To(Equal(3), out)
		Expect(c.etcdctl(ctx, c.member(0), "put", "test", "Yeah, it works")).To(Equal("OK"))
		for _, m := range c.members(3) {
			Expect(c.etcdctl(ctx, m, "get", "test", "--print-value-only")).To(Equal("Yeah, it works"))
		}
	}, NodeTimeout(patience))

	It("says what happened in events", func(ctx SpecContext) {
		events := c.events(ctx)
		for _, reason := range []string{"LatchFounders", "StartMembers", "LatchCluster"} {
			Expect(events).To(ContainSubstring(reason))
		}
		Expect(events).NotTo(ContainSubstring("Warning"))
	}, NodeTimeout(patience))
})

var _ = Describe("Founding", Ordered, ContinueOnFailure, func() {
	type variant struct {
		name, spec, version string
		size                int
	}
	variants := []variant{
		{"defaults", `{}`, "3.6.16", 3},
		{"one", `{size: 1}`, "3.6.16", 1},
		{"five", `{size: 5}`, "3.6.16", 5},
		{"v35", `{version: 3.5.35}`, "3.5.35", 3},
		{"v37", `{version: 3.7.3}`, "3.7.3", 3},
		{"plaintext", `{tls: {mode: Disabled}}`, "3.6.16", 3},
	}
	if !existing() {
		variants = append(variants, variant{"local", `{storage: {storageClassName: local, size: 4Gi}}`, "3.6.16", 3})
	}
	var ns string
	BeforeAll(func(ctx SpecContext) {
		ns = newNamespace(ctx)
		for _, v := range variants {
			apply(ctx, ns, v.name, v.spec)
		}
	}, NodeTimeout(patience))

	for _, v := range variants {
		It(fmt.Sprintf("works with spec %s", v.spec), func(ctx SpecContext) {
			c := cluster{ns, v.name}
			c.becomesReady(ctx)
			c.runs(ctx, c.members(v.size)...)
			s := c.get(ctx).Status
			Expect(s.MembersSummary).To(Equal(fmt.Sprintf("%d/%d", v.size, v.size)))
			Expect(s.Version).To(Equal(v.version))
			for _, m := range s.Members {
				Expect(m.Version).To(Equal(v.version))
			}
			out := c.etcdctl(ctx, c.member(0), "endpoint", "health", "--cluster")
			Expect(strings.Count(out, "is healthy")).To(Equal(v.size), out)
			c.serves(ctx, c.member(v.size-1))
			// Its processes need not run while the others are looked at.
			Expect(kube.Delete(ctx, c.object())).To(Succeed())
		}, NodeTimeout(2*patience))
	}
})
