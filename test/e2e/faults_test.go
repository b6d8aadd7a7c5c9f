package e2e

import (
	"bytes"
	"context"
	"maps"
	"net/http"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/test/load"
	"github.com/quorate/quorate/test/soak/testbed"
)

var _ = Describe("The operator's faults", Label(deep), Serial, func() {
	It("do no harm: its working replica is killed in the middle of a founding, a growth, a shrink and a replacement", Label(local), func(ctx SpecContext) {
		ns := newNamespace(ctx)
		grown, shrunk, mended := apply(ctx, ns, "grown", `{size: 1}`), apply(ctx, ns, "shrunk", `{size: 5}`), apply(ctx, ns, "mended", `{}`)
		var loads []*load.Load
		for _, c := range []cluster{grown, shrunk, mended} {
			c.settles(ctx)
			loads = append(loads, c.startLoad(ctx))
		}
		was := mended.get(ctx)
		followers, _ := mended.followers(ctx)
		operator := working(ctx)

		mended.deleteClaims(ctx, followers[0])
		mended.deletePods(ctx, followers[0])
		grown.scale(ctx, 5)
		for _, c := range []cluster{mended, grown} {
			Eventually(ctx, func() string { return c.get(ctx).Status.Joiner }).WithPolling(10*time.Millisecond).ShouldNot(BeEmpty(), c.name)
		}
		_, survivor := shrunk.followers(ctx)
		young := apply(ctx, ns, "young", `{}`)
		Eventually(ctx, func() int { return len(young.pods(ctx)) }).WithPolling(5 * time.Millisecond).Should(BeNumerically(">", 0))
		// The shrink comes last, since it is over within a second.
		shrunk.edit(ctx, `{spec: {size: 1}}`)
		Eventually(ctx, func() int { return len(shrunk.listed(ctx, survivor)) }).WithPolling(5 * time.Millisecond).Should(BeNumerically("<", 5))
		operator.dies()
		Expect(young.get(ctx).Status.ClusterID).To(BeEmpty(), "the founding was over before the operator was killed")
		Expect(len(grown.listed(ctx, grown.member(0)))).To(BeNumerically("<", 5), "the growth was over before the operator was killed")
		Expect(len(shrunk.listed(ctx, survivor))).To(BeNumerically(">", 1), "the shrink was over before the operator was killed")
		Expect(mended.bed().Healthy(ctx)).NotTo(Succeed(), "the replacement was over before the operator was killed")

		for _, c := range []cluster{young, grown, shrunk} {
			c.settles(ctx)
		}
		mended.replaces(ctx, was, followers[0])
		Expect(young.get(ctx).Status.Founders).To(Equal(young.members(3)))
		Expect(grown.get(ctx).Status.NextOrdinal).To(BeEquivalentTo(5), "a name was spent in vain")
		shrunk.leavesNothing(ctx, without(shrunk.members(5), shrunk.voters(ctx))...)
		for _, l := range loads {
			holds(ctx, l)
		}
		operator.isRenewed(ctx)
	}, NodeTimeout(3*patience))

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

// replica of the operator that works, to be killed.
type replica struct {
	pod string
	pid int
	// holder of the Lease: another process of the same pod is another one.
	holder string
}

// working is the replica that works, once both are Ready.
func working(ctx context.Context) replica {
	GinkgoHelper()
	pod := named[corev1.Pod](operatorNamespace, operatorWorks(ctx))
	Expect(kube.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
	pids, err := testbed.Processes(*pod, "/operator")
	Expect(err).NotTo(HaveOccurred())
	Expect(pids).To(HaveLen(1))
	holder, err := leaseHolder(ctx)
	Expect(err).NotTo(HaveOccurred())
	return replica{pod: pod.Name, pid: pids[0], holder: holder}
}

// dies kills it, so that its Lease has to run out.
func (r replica) dies() {
	GinkgoHelper()
	Expect(syscall.Kill(r.pid, syscall.SIGKILL)).To(Succeed())
}

// diesUnmissed kills it and takes the Lease from it, so that the next one begins
// in the middle of what it was about, and not when the Lease has run out.
func (r replica) diesUnmissed(ctx context.Context) {
	GinkgoHelper()
	r.dies()
	free := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"holderIdentity":""}}`))
	Expect(kube.Patch(ctx, named[coordinationv1.Lease](operatorNamespace, operatorName), free)).To(Succeed())
}

// succeeded waits until another process works.
func (r replica) succeeded(ctx context.Context) {
	GinkgoHelper()
	Eventually(ctx, leaseHolder).WithContext(ctx).ShouldNot(Or(Equal(r.holder), BeEmpty()))
}

// isRenewed gives it a new pod and waits until all is well: the kubelet would wait
// longer and longer with a container that is killed again and again.
func (r replica) isRenewed(ctx context.Context) {
	GinkgoHelper()
	remove(ctx, named[corev1.Pod](operatorNamespace, r.pod))
	operatorWorks(ctx)
}

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
	c.each(ctx, func(key string, object client.Object) { out[key] = object.GetResourceVersion() })
	return out
}

// ownedKinds are the kinds of objects that belong to clusters.
func ownedKinds() []client.ObjectList {
	return []client.ObjectList{
		&corev1.ServiceList{}, &corev1.ServiceAccountList{}, &corev1.SecretList{}, &corev1.PersistentVolumeClaimList{},
		&corev1.PodList{}, &policyv1.PodDisruptionBudgetList{}, &networkingv1.NetworkPolicyList{},
	}
}
