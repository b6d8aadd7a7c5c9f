package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/internal/snapshot"
)

// archives applies an EtcdArchive of the cluster.
func (c cluster) archives(ctx context.Context, name, store, more string) client.ObjectKey {
	GinkgoHelper()
	create(ctx, c.namespace, fmt.Sprintf("{apiVersion: etcd.quorate.dev/v1alpha1, kind: EtcdArchive, metadata: {name: %s}, spec: {clusterRef: {name: %s}, store: %s%s}}", name, c.name, store, more))
	return client.ObjectKey{Namespace: c.namespace, Name: name}
}

func getArchive(ctx context.Context, key client.ObjectKey) *v1alpha1.EtcdArchive {
	GinkgoHelper()
	a := &v1alpha1.EtcdArchive{}
	Expect(kube.Get(ctx, key, a)).To(Succeed())
	return a
}

// archiveSays waits for a condition of an archive.
func archiveSays(ctx context.Context, key client.ObjectKey, kind string, status metav1.ConditionStatus, reason string) {
	GinkgoHelper()
	Eventually(ctx, func(g Gomega) {
		a := &v1alpha1.EtcdArchive{}
		g.Expect(kube.Get(ctx, key, a)).To(Succeed())
		told, err := json.Marshal(a.Status.Conditions)
		g.Expect(err).NotTo(HaveOccurred())
		is := meta.FindStatusCondition(a.Status.Conditions, kind)
		g.Expect(is).NotTo(BeNil(), string(told))
		g.Expect(is.Status).To(Equal(status), string(told))
		g.Expect(is.Reason).To(Equal(reason), string(told))
	}).WithTimeout(3 * time.Minute).Should(Succeed())
}

// archiver is the pod that archives.
func archiver(ctx context.Context, key client.ObjectKey) *corev1.Pod {
	GinkgoHelper()
	var found *corev1.Pod
	Eventually(ctx, func(g Gomega) {
		var pods corev1.PodList
		g.Expect(kube.List(ctx, &pods, client.InNamespace(key.Namespace), client.MatchingLabels(resources.ArchiveLabels(getArchive(ctx, key), snapshot.OperationArchive)))).To(Succeed())
		g.Expect(pods.Items).To(HaveLen(1))
		g.Expect(pods.Items[0].Status.Phase).To(Equal(corev1.PodRunning))
		found = &pods.Items[0]
	}).Should(Succeed())
	return found
}

var _ = Describe("An archive", Label(local, deep), func() {
	It("restores a new cluster to any revision and any time, through the death of its pod and the loss of its store", func(ctx context.Context) {
		ns := newNamespace(ctx)
		store, _, away := bucketThatGoes(ctx, ns)
		c := found(ctx, ns, "source", `{size: 3, storage: {size: 1Gi}, etcd: {quotaBackendBytes: 256Mi}}`)
		c.etcdctl(ctx, c.member(0), "put", "from-before", "1")
		key := c.archives(ctx, "continuous", store, ", sealEvery: 500ms, maxLag: 20s, drillEvery: 1h")
		archiveSays(ctx, key, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonArchiving)
		archiveSays(ctx, key, v1alpha1.ConditionBaseReady, metav1.ConditionTrue, v1alpha1.ReasonBaseFound)
		Expect(*archiver(ctx, key).Spec.AutomountServiceAccountToken).To(BeFalse())

		etcd := c.client(ctx)
		put := func(name, value string) int64 {
			GinkgoHelper()
			done, err := etcd.Put(ctx, name, value)
			Expect(err).NotTo(HaveOccurred())
			return done.Header.Revision
		}
		put("kept", "a")
		middle := put("gone-later", "b")
		atMiddle := c.content(ctx, c.member(0))

		By("its pod is killed while the cluster is written to")
		was := archiver(ctx, key)
		Expect(kube.Delete(ctx, was, client.GracePeriodSeconds(0))).To(Succeed())
		var told int64
		for i := range 50 {
			told = put(fmt.Sprintf("while-away/%02d", i), "x")
		}
		// A time is when the archiver was told, which is after its death.
		Eventually(ctx, func() int64 { return getArchive(ctx, key).Status.ArchivedRevision }).WithTimeout(3 * time.Minute).Should(BeNumerically(">=", told))
		noon := time.Now().UTC().Truncate(time.Second).Add(time.Second)
		atNoon := c.content(ctx, c.member(0))
		Eventually(ctx, func() time.Time { return time.Now().UTC() }).Should(BeTemporally(">", noon.Add(time.Second)))
		_, err := etcd.Delete(ctx, "gone-later")
		Expect(err).NotTo(HaveOccurred())
		last := put("kept", "c")
		Eventually(ctx, func() int64 { return getArchive(ctx, key).Status.ArchivedRevision }).WithTimeout(3 * time.Minute).Should(BeNumerically(">=", last))
		Expect(archiver(ctx, key).UID).NotTo(Equal(was.UID))
		Expect(getArchive(ctx, key).Status.Gaps).To(BeEmpty())

		By("the store goes away, and comes back")
		back := away()
		after := put("while-the-store-was-away", "d")
		archiveSays(ctx, key, v1alpha1.ConditionArchiving, metav1.ConditionFalse, string(snapshot.ReasonStoreUnreachable))
		archiveSays(ctx, key, v1alpha1.ConditionLagExceeded, metav1.ConditionTrue, v1alpha1.ReasonLagExceeded)
		c.reports(ctx, patience, v1alpha1.ConditionBackupReady, metav1.ConditionFalse, v1alpha1.ReasonOverdue, "archive continuous")
		back()
		archiveSays(ctx, key, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonArchiving)
		Eventually(ctx, func() int64 { return getArchive(ctx, key).Status.ArchivedRevision }).WithTimeout(3 * time.Minute).Should(BeNumerically(">=", after))

		By("it was tried out by itself")
		archiveSays(ctx, key, v1alpha1.ConditionVerified, metav1.ConditionTrue, v1alpha1.ReasonVerified)
		c.reports(ctx, patience, v1alpha1.ConditionBackupReady, metav1.ConditionTrue, v1alpha1.ReasonVerified, "archive continuous")
		Expect(getArchive(ctx, key).Status.DrilledRevision).To(BeNumerically(">", 0))

		By("a cluster begins with a revision in the middle of it, and another with a time")
		for name, point := range map[string]struct{ to, content string }{
			"at-middle": {fmt.Sprintf("toRevision: %d", middle), atMiddle},
			"at-noon":   {fmt.Sprintf("toTime: %q", noon.Format(time.RFC3339)), atNoon},
		} {
			r := found(ctx, ns, name, fmt.Sprintf(`{size: 3, storage: {size: 1Gi}, etcd: {quotaBackendBytes: 256Mi}, restoreFrom: {archiveName: continuous, %s}}`, point.to))
			for _, m := range r.members(3) {
				Expect(r.content(ctx, m)).To(Equal(point.content), "%s: the keys of %s", name, m)
			}
			Expect(r.get(ctx).Status.RestorePoint).NotTo(BeEmpty())
			r.serves(ctx, r.member(1))
			r.settles(ctx)
		}

		By("a point that it does not hold is said, and no volume is made")
		r := apply(ctx, ns, "beyond", fmt.Sprintf(`{size: 1, storage: {size: 1Gi}, etcd: {quotaBackendBytes: 256Mi}, restoreFrom: {archiveName: continuous, toRevision: %d}}`, after+1_000_000))
		r.reports(ctx, 3*time.Minute, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonRestoreBlocked, "does not hold revision")
		Expect(r.claims(ctx)).To(BeEmpty())
	}, SpecTimeout(15*time.Minute))
})
