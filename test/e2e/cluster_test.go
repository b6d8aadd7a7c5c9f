package e2e

import (
	"context"
	"fmt"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/test/soak/testbed"
)

// cluster names an EtcdCluster.
type cluster struct{ namespace, name string }

// apply makes a cluster of a spec in YAML.
func apply(ctx context.Context, ns, name, spec string) cluster {
	GinkgoHelper()
	object := &v1alpha1.EtcdCluster{}
	Expect(yaml.UnmarshalStrict([]byte("spec: "+spec), object)).To(Succeed(), spec)
	create(ctx, ns, fmt.Sprintf("{apiVersion: etcd.quorate.dev/v1alpha1, kind: EtcdCluster, metadata: {name: %s}, spec: %s}", name, spec))
	return cluster{ns, name}
}

// found applies a cluster and waits until it is Ready.
func found(ctx context.Context, ns, name, spec string) cluster {
	GinkgoHelper()
	c := apply(ctx, ns, name, spec)
	c.becomesReady(ctx)
	return c
}

// bed reaches the cluster in the ways that specs share with the soak.
func (c cluster) bed() testbed.Cluster {
	return testbed.Cluster{Bed: bed, Namespace: c.namespace, Name: c.name}
}

// settles waits until the cluster is as its spec wants it by every account:
// status, etcd's own list as each member has it, pods and claims.
func (c cluster) settles(ctx context.Context) {
	GinkgoHelper()
	Eventually(ctx, func() error { return c.bed().Healthy(ctx) }).Should(Succeed())
}

// voters that status names, in order.
func (c cluster) voters(ctx context.Context) []string {
	GinkgoHelper()
	out, err := c.bed().Voters(ctx)
	Expect(err).NotTo(HaveOccurred())
	return out
}

// followers are the voters that do not lead, by status; leader is the one that
// does.
func (c cluster) followers(ctx context.Context) (followers []string, leader string) {
	GinkgoHelper()
	leader = c.get(ctx).Status.Leader
	Expect(leader).NotTo(BeEmpty())
	for _, m := range c.voters(ctx) {
		if m != leader {
			followers = append(followers, m)
		}
	}
	return followers, leader
}

// listed is etcd's own list as a member has it, by name.
func (c cluster) listed(ctx context.Context, member string) map[string]uint64 {
	GinkgoHelper()
	out, err := c.bed().Etcd(ctx, member)
	Expect(err).NotTo(HaveOccurred())
	return out
}

func (c cluster) key() client.ObjectKey {
	return client.ObjectKey{Namespace: c.namespace, Name: c.name}
}

func (c cluster) object() *v1alpha1.EtcdCluster {
	return named[v1alpha1.EtcdCluster](c.namespace, c.name)
}

func (c cluster) get(ctx context.Context) *v1alpha1.EtcdCluster {
	GinkgoHelper()
	object := c.object()
	Expect(kube.Get(ctx, c.key(), object)).To(Succeed())
	return object
}

// edit merges a patch in YAML into the cluster.
func (c cluster) edit(ctx context.Context, patch string) {
	GinkgoHelper()
	raw, err := yaml.YAMLToJSON([]byte(patch))
	Expect(err).NotTo(HaveOccurred())
	Expect(kube.Patch(ctx, c.object(), client.RawPatch(types.MergePatchType, raw))).To(Succeed())
}

// member is the name of the n-th member.
func (c cluster) member(n int) string { return fmt.Sprintf("%s-%04d", c.name, n) }

func (c cluster) members(n int) []string {
	var out []string
	for i := range n {
		out = append(out, c.member(i))
	}
	return out
}

// becomesReady waits until the status is about the spec of now and says Ready.
func (c cluster) becomesReady(ctx context.Context) {
	GinkgoHelper()
	c.reports(ctx, patience, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonHealthy, "")
}

// reports waits for a condition whose message contains a text.
func (c cluster) reports(ctx context.Context, within time.Duration, kind string, is metav1.ConditionStatus, reason, text string) {
	GinkgoHelper()
	Eventually(ctx, func(g Gomega) { c.says(ctx, g, kind, is, reason, text) }).WithTimeout(within).Should(Succeed())
}

func (c cluster) says(ctx context.Context, g Gomega, kind string, is metav1.ConditionStatus, reason, text string) {
	object := c.object()
	g.Expect(kube.Get(ctx, c.key(), object)).To(Succeed())
	g.Expect(object.Status.ObservedGeneration).To(Equal(object.Generation), "status.observedGeneration")
	condition := meta.FindStatusCondition(object.Status.Conditions, kind)
	g.Expect(condition).NotTo(BeNil(), kind+" is not there")
	found := fmt.Sprintf("%s=%s/%s %s", condition.Type, condition.Status, condition.Reason, condition.Message)
	g.Expect(condition.Status).To(Equal(is), found)
	g.Expect(condition.Reason).To(Equal(reason), found)
	g.Expect(condition.Message).To(ContainSubstring(text), found)
}

// pods of the cluster by name; whoever is on its way out counts.
func (c cluster) pods(ctx context.Context) map[string]corev1.Pod {
	GinkgoHelper()
	var list corev1.PodList
	Expect(kube.List(ctx, &list, client.InNamespace(c.namespace), client.MatchingLabels{v1alpha1.LabelCluster: c.name})).To(Succeed())
	out := map[string]corev1.Pod{}
	for _, pod := range list.Items {
		out[pod.Name] = pod
	}
	return out
}

func (c cluster) claims(ctx context.Context) map[string]corev1.PersistentVolumeClaim {
	GinkgoHelper()
	var list corev1.PersistentVolumeClaimList
	Expect(kube.List(ctx, &list, client.InNamespace(c.namespace), client.MatchingLabels{v1alpha1.LabelCluster: c.name})).To(Succeed())
	out := map[string]corev1.PersistentVolumeClaim{}
	for _, claim := range list.Items {
		out[claim.Name] = claim
	}
	return out
}

// runs waits until exactly these pods are there and Ready.
func (c cluster) runs(ctx context.Context, members ...string) {
	GinkgoHelper()
	Eventually(ctx, func(g Gomega) {
		pods := c.pods(ctx)
		g.Expect(sortedKeys(pods)).To(Equal(members))
		for _, pod := range pods {
			g.Expect(ready(pod)).To(BeTrue(), "pod "+pod.Name+" is not Ready")
		}
	}).Should(Succeed())
}

func ready(pod corev1.Pod) bool { return testbed.Ready(pod) }

// lives are what tells one life of a pod's processes from the next.
func lives(pods map[string]corev1.Pod) map[string]string {
	out := map[string]string{}
	for name, pod := range pods {
		out[name] = string(pod.UID)
		for _, s := range pod.Status.ContainerStatuses {
			out[name] += fmt.Sprintf("/%s:%d", s.Name, s.RestartCount)
		}
	}
	return out
}

// ids are the members' IDs by name.
func ids(object *v1alpha1.EtcdCluster) map[string]string {
	out := map[string]string{}
	for _, m := range object.Status.Members {
		out[m.Name] = m.ID
	}
	return out
}

// etcdctl runs it in a member's pod, without a flag.
func (c cluster) etcdctl(ctx context.Context, member string, args ...string) string {
	GinkgoHelper()
	out, err := c.tryEtcdctl(ctx, member, args...)
	Expect(err).NotTo(HaveOccurred())
	return out
}

func (c cluster) tryEtcdctl(ctx context.Context, member string, args ...string) (string, error) {
	return kubectl(ctx, append([]string{"-n", c.namespace, "exec", member, "--", "etcdctl"}, args...)...)
}

// serves puts and gets a key through a member.
func (c cluster) serves(ctx context.Context, member string) {
	GinkgoHelper()
	value := fmt.Sprint("served-", time.Now().UnixNano())
	c.etcdctl(ctx, member, "put", "e2e/serves", value)
	Expect(strings.Fields(c.etcdctl(ctx, member, "get", "e2e/serves"))).To(Equal([]string{"e2e/serves", value}))
}

// events of the cluster, as lines.
func (c cluster) events(ctx context.Context) string {
	GinkgoHelper()
	out, err := kubectl(ctx, "-n", c.namespace, "get", "events", "--field-selector", "involvedObject.kind=EtcdCluster,involvedObject.name="+c.name,
		"--no-headers", "-o", "custom-columns=TYPE:.type,REASON:.reason,MESSAGE:.message")
	Expect(err).NotTo(HaveOccurred())
	return out
}
