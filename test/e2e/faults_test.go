package e2e

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
)

var _ = Describe("The operator's faults", func() {
	It("do no harm to a founding: its working replica is killed in the middle of one", Label(local), func(ctx SpecContext) {
		pod := named[corev1.Pod](operatorNamespace, operatorWorks(ctx))
		Expect(kube.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
		pid := process(*pod, "/operator")
		Expect(pid).NotTo(BeZero())
		c := apply(ctx, newNamespace(ctx), "orphan", `{}`)
		Eventually(ctx, func() bool { return len(c.pods(ctx)) > 0 }).WithPolling(5 * time.Millisecond).Should(BeTrue())
		Expect(syscall.Kill(pid, syscall.SIGKILL)).To(Succeed())
		Expect(c.get(ctx).Status.ClusterID).To(BeEmpty(), "the founding was over before the operator was killed")

		c.becomesReady(ctx)
		c.runs(ctx, c.members(3)...)
		Expect(c.get(ctx).Status.Founders).To(Equal(c.members(3)))
		Expect(c.claims(ctx)).To(HaveLen(3))
		c.serves(ctx, c.member(2))
		operatorWorks(ctx)
	}, NodeTimeout(2*patience))

	It("cost no write at rest, and no restart of a pod when it is restarted", func(ctx SpecContext) {
		c := found(ctx, newNamespace(ctx), "idle", `{}`)
		c.runs(ctx, c.members(3)...)
		before := lives(c.pods(ctx))
		Expect(kubectl(ctx, "-n", operatorNamespace, "rollout", "restart", "deployment/"+operatorName)).Error().NotTo(HaveOccurred())
		Expect(kubectl(ctx, "-n", operatorNamespace, "rollout", "status", "deployment/"+operatorName, "--timeout=100s")).Error().NotTo(HaveOccurred())
		leader := operatorWorks(ctx)
		c.becomesReady(ctx)
		Expect(lives(c.pods(ctx))).To(Equal(before))

		token := metricsToken(ctx, c.namespace)
		Eventually(ctx, func() int { code, _ := request(ctx, leader, metricsPort, "/metrics", token); return code }).Should(Equal(http.StatusOK))
		// The new replica has made its first pass once nothing has changed for
		// longer than it rests.
		var versions map[string]string
		var since time.Time
		Eventually(ctx, func() time.Duration {
			if now := c.versions(ctx); !maps.Equal(now, versions) {
				versions, since = now, time.Now()
			}
			return time.Since(since)
		}).WithPolling(time.Second).Should(BeNumerically(">", restPass))
		start := written(ctx, leader, token)
		time.Sleep(restWindow)
		Expect(written(ctx, leader, token)-start).To(BeNumerically("<=", restWrites), "writes in %s, Lease renewals apart", restWindow)
		Expect(c.versions(ctx)).To(Equal(versions), "an object of a cluster at rest was written")
		Expect(lives(c.pods(ctx))).To(Equal(before))
	}, NodeTimeout(2*patience))
})

// At rest the operator looks every 8 s and may write ten times a minute.
const (
	restPass   = 10 * time.Second
	restWindow = 20 * time.Second
	restWrites = 3
)

// written counts the operator's writes, but for PUTs: these renew its Lease.
func written(ctx context.Context, pod, token string) float64 {
	GinkgoHelper()
	code, body := request(ctx, pod, metricsPort, "/metrics", token)
	Expect(code).To(Equal(http.StatusOK))
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewBufferString(body))
	Expect(err).NotTo(HaveOccurred())
	family := families["rest_client_requests_total"]
	Expect(family).NotTo(BeNil(), "the operator counts its requests")
	var sum float64
	for _, m := range family.GetMetric() {
		for _, label := range m.GetLabel() {
			if v := label.GetValue(); label.GetName() == "method" && (v == "POST" || v == "PATCH" || v == "DELETE") {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// versions of the cluster's own objects.
func (c cluster) versions(ctx context.Context) map[string]string {
	GinkgoHelper()
	out := map[string]string{"EtcdCluster": c.get(ctx).ResourceVersion}
	for _, list := range []client.ObjectList{
		&corev1.ServiceList{}, &corev1.ServiceAccountList{}, &corev1.SecretList{}, &corev1.PersistentVolumeClaimList{},
		&corev1.PodList{}, &policyv1.PodDisruptionBudgetList{}, &networkingv1.NetworkPolicyList{},
	} {
		Expect(kube.List(ctx, list, client.InNamespace(c.namespace), client.HasLabels{v1alpha1.LabelClusterUID})).To(Succeed())
		Expect(meta.EachListItem(list, func(o runtime.Object) error {
			object := o.(client.Object)
			out[fmt.Sprintf("%T %s", o, object.GetName())] = object.GetResourceVersion()
			return nil
		})).To(Succeed())
	}
	return out
}

var _ = Describe("A member's faults", Label(local), Ordered, func() {
	var c cluster
	BeforeAll(func(ctx SpecContext) {
		c = found(ctx, newNamespace(ctx), "faulty", `{}`)
		c.runs(ctx, c.members(3)...)
	}, NodeTimeout(2*patience))

	It("mend themselves when its process is killed", func(ctx SpecContext) {
		w := c.startWriter(ctx, c.members(3)...)
		before, was := c.pods(ctx)[c.member(0)], ids(c.get(ctx))
		c.signal(ctx, syscall.SIGKILL, c.member(0))
		Eventually(ctx, func(g Gomega) {
			pod := c.pods(ctx)[c.member(0)]
			g.Expect(pod.UID).To(Equal(before.UID), "the container is started again, not the pod")
			g.Expect(pod.Status.ContainerStatuses).To(ContainElement(HaveField("RestartCount", int32(1))))
			g.Expect(ready(pod)).To(BeTrue())
		}).Should(Succeed())
		c.becomesReady(ctx)
		Expect(ids(c.get(ctx))).To(Equal(was))
		w.continues(ctx)
		Expect(w.lost(ctx)).To(BeEmpty())
	}, NodeTimeout(2*patience))

	It("are told as a lost quorum when a majority hangs, and as none once it goes on", func(ctx SpecContext) {
		before := lives(c.pods(ctx))
		hanging := []string{c.member(0), c.member(1)}
		DeferCleanup(func(ctx SpecContext) { c.signal(ctx, syscall.SIGCONT, hanging...) }, NodeTimeout(patience))
		c.signal(ctx, syscall.SIGSTOP, hanging...)
		c.reports(ctx, promised, v1alpha1.ConditionAvailable, "False", v1alpha1.ReasonQuorumLost, "of 3 members answer")
		c.says(ctx, Default, v1alpha1.ConditionReady, "False", v1alpha1.ReasonQuorumLost, "")
		Expect(lives(c.pods(ctx))).To(Equal(before), "members that run are not touched while quorum is lost")
		c.signal(ctx, syscall.SIGCONT, hanging...)
		c.reports(ctx, patience, v1alpha1.ConditionAvailable, "True", v1alpha1.ReasonProbeSucceeded, "")
		c.becomesReady(ctx)
		c.serves(ctx, c.member(0))
	}, NodeTimeout(2*patience))
})
