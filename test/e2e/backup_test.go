package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/test/soak/testbed"
)

// disk is a store on a volume of the namespace, which is made for it.
func disk(ctx context.Context, ns string) string {
	GinkgoHelper()
	create(ctx, ns, `{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: backups}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}`)
	return `{persistentVolumeClaim: {claimName: backups, path: etcd}}`
}

// bucket is a store on a real S3 server that runs beside the cluster for as long as the
// spec does, with the Secret to reach it.
func bucket(ctx context.Context, ns string) (store, dir string) {
	GinkgoHelper()
	store, dir, _ = bucketThatGoes(ctx, ns)
	return store, dir
}

// bucketThatGoes is a bucket whose server goes away and comes back.
func bucketThatGoes(ctx context.Context, ns string) (store, dir string, away func() (back func())) {
	GinkgoHelper()
	endpoint, dir, away := serveS3(ctx, ns)
	return storeAt(endpoint), dir, away
}

// storeAt is the store that serveS3 serves, reached at an endpoint.
func storeAt(endpoint string) string {
	return fmt.Sprintf(`{s3: {endpoint: "%s", bucket: backups, prefix: e2e, credentialsSecretRef: {name: s3}}}`, endpoint)
}

// serveS3 runs a real S3 server until the spec ends, or is told to be away, and makes the Secret to
// reach it.
func serveS3(ctx context.Context, ns string) (endpoint, dir string, away func() (back func())) {
	GinkgoHelper()
	// Not the result: what is returned is assigned to that, and a second start would serve it.
	served := GinkgoT().TempDir()
	var stop func()
	start := func() string {
		endpoint, stops, err := testbed.StartS3(root, 17000+GinkgoParallelProcess(), served, GinkgoWriter)
		Expect(err).NotTo(HaveOccurred())
		stop = stops
		return endpoint
	}
	endpoint = start()
	DeferCleanup(func() { stop() })
	create(ctx, ns, s3Secret)
	away = func() func() {
		stop()
		return func() { start() }
	}
	return endpoint, filepath.Join(served, "backups"), away
}

// s3Secret is the Secret to reach it.
const s3Secret = `{apiVersion: v1, kind: Secret, metadata: {name: s3}, stringData: {AWS_ACCESS_KEY_ID: ` + testbed.S3KeyID + `, AWS_SECRET_ACCESS_KEY: ` + testbed.S3Secret + `}}`

// backsUp applies an EtcdBackup and returns it.
func (c cluster) backsUp(ctx context.Context, name, store string, more ...string) client.ObjectKey {
	GinkgoHelper()
	spec := fmt.Sprintf("{clusterRef: {name: %s}, store: %s%s}", c.name, store, strings.Join(append([]string{""}, more...), ", "))
	create(ctx, c.namespace, fmt.Sprintf("{apiVersion: etcd.quorate.dev/v1alpha1, kind: EtcdBackup, metadata: {name: %s}, spec: %s}", name, spec))
	return client.ObjectKey{Namespace: c.namespace, Name: name}
}

func getBackup(ctx context.Context, key client.ObjectKey) *v1alpha1.EtcdBackup {
	GinkgoHelper()
	b := &v1alpha1.EtcdBackup{}
	Expect(kube.Get(ctx, key, b)).To(Succeed())
	return b
}

// drillAgain has a backup tried out again from now on.
func drillAgain(ctx context.Context, ns, backup string) {
	GinkgoHelper()
	patch := fmt.Sprintf(`{"spec":{"drillAfter":"%s"}}`, time.Now().UTC().Format(time.RFC3339))
	Expect(kubectl(ctx, "-n", ns, "patch", "eb", backup, "--type=merge", "-p", patch)).Error().NotTo(HaveOccurred())
}

// comesTo waits for a condition of a backup, and tells what became of it instead.
func comesTo(ctx context.Context, key client.ObjectKey, kind, reason string) *v1alpha1.EtcdBackup {
	GinkgoHelper()
	Eventually(ctx, func(g Gomega) {
		b := &v1alpha1.EtcdBackup{}
		g.Expect(kube.Get(ctx, key, b)).To(Succeed())
		told, err := json.Marshal(b.Status.Conditions)
		g.Expect(err).NotTo(HaveOccurred())
		if stalled := meta.FindStatusCondition(b.Status.Conditions, v1alpha1.ConditionStalled); kind != v1alpha1.ConditionStalled && stalled != nil && stalled.Status == metav1.ConditionTrue {
			StopTrying(string(told)).Now()
		}
		is := meta.FindStatusCondition(b.Status.Conditions, kind)
		g.Expect(is).NotTo(BeNil())
		g.Expect(is.Status).To(Equal(metav1.ConditionTrue), string(told))
		g.Expect(is.Reason).To(Equal(reason), string(told))
	}).Should(Succeed())
	return getBackup(ctx, key)
}

// content is every key with its value, as a member tells it.
func (c cluster) content(ctx context.Context, member string) string {
	GinkgoHelper()
	return c.etcdctl(ctx, member, "get", "", "--prefix")
}

// writtenPastItsBackup is a cluster of three with the verified backup nightly, which holds
// what is kept, and with keys that were written later.
func writtenPastItsBackup(ctx context.Context, name string) (c cluster, kept string, backup *v1alpha1.EtcdBackup) {
	GinkgoHelper()
	ns := newNamespace(ctx)
	store := disk(ctx, ns)
	c = found(ctx, ns, name, `{size: 3, storage: {size: 1Gi}, etcd: {quotaBackendBytes: 256Mi}}`)
	for i := range 20 {
		c.etcdctl(ctx, c.member(i%3), "put", fmt.Sprintf("kept/%02d", i), strings.Repeat("v", i*100))
	}
	kept = c.content(ctx, c.member(0))
	backup = comesTo(ctx, c.backsUp(ctx, "nightly", store), v1alpha1.ConditionVerified, v1alpha1.ReasonVerified)
	for i := range 5 {
		c.etcdctl(ctx, c.member(i%3), "put", fmt.Sprintf("later/%02d", i), "x")
	}
	return c, kept, backup
}

var _ = Describe("A backup", func() {
	It("is saved under load, tried out, and begins a new cluster with the same keys", func(ctx context.Context) {
		ns := newNamespace(ctx)
		store := disk(ctx, ns)
		c := found(ctx, ns, "source", `{size: 3, storage: {size: 1Gi}, etcd: {quotaBackendBytes: 256Mi}}`)
		for i := range 20 {
			c.etcdctl(ctx, c.member(i%3), "put", fmt.Sprintf("kept/%02d", i), strings.Repeat("v", i*100))
		}
		kept := c.etcdctl(ctx, c.member(0), "get", "kept/", "--prefix")
		l := c.startLoad(ctx)
		key := c.backsUp(ctx, "one", store)
		b := comesTo(ctx, key, v1alpha1.ConditionVerified, v1alpha1.ReasonVerified)
		holds(ctx, l)
		Expect(b.Status.Revision).To(BeNumerically(">=", 21))
		Expect(b.Status.ClusterUID).To(Equal(string(c.get(ctx).UID)))

		r := found(ctx, ns, "restored", `{size: 3, storage: {size: 1Gi}, etcd: {quotaBackendBytes: 256Mi}, restoreFrom: {backupName: one}}`)
		for _, m := range r.members(3) {
			Expect(r.etcdctl(ctx, m, "get", "kept/", "--prefix")).To(Equal(kept), "the keys of %s", m)
		}
		Expect(r.get(ctx).Status.ClusterID).NotTo(Equal(c.get(ctx).Status.ClusterID))
		r.serves(ctx, r.member(1))
		r.settles(ctx)

		By("a restored member that loses its volume is replaced, and not filled again")
		for name, pod := range r.pods(ctx) {
			Expect(pod.Annotations).NotTo(HaveKey(v1alpha1.AnnotationRestore), name)
		}
	})

	It("goes to a real S3 server and from there into another namespace, by its URL alone", Label(local, deep), func(ctx context.Context) {
		ns := newNamespace(ctx)
		store, dir := bucket(ctx, ns)
		c := found(ctx, ns, "source", `{size: 1, storage: {size: 1Gi, whenDeleted: Delete}, etcd: {quotaBackendBytes: 256Mi}}`)
		c.etcdctl(ctx, c.member(0), "put", "a", "1")
		b := comesTo(ctx, c.backsUp(ctx, "one", store, "deletionPolicy: Delete"), v1alpha1.ConditionVerified, v1alpha1.ReasonVerified)
		Expect(filepath.Glob(filepath.Join(dir, "e2e", b.Status.ClusterUID, b.Status.ID, "*"))).To(HaveLen(3))

		other := newNamespace(ctx)
		create(ctx, other, s3Secret)
		By("once the way to it is corrected")
		r := apply(ctx, other, "again", fmt.Sprintf(`{size: 3, storage: {size: 1Gi}, etcd: {quotaBackendBytes: 256Mi}, restoreFrom: {store: %s, clusterUID: %s, backupID: %s}}`,
			strings.Replace(store, "bucket: backups", "bucket: none", 1), b.Status.ClusterUID, b.Status.ID))
		r.reports(ctx, patience, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonRestoreBlocked, "in s3://none: NoSuchBucket")
		r.edit(ctx, fmt.Sprintf(`{spec: {restoreFrom: {store: %s}}}`, store))
		r.becomesReady(ctx)
		Expect(strings.Fields(r.content(ctx, r.member(2)))).To(Equal([]string{"a", "1"}))

		By("one that is deleted while it is saved leaves nothing there, and no Job")
		for i := range 10 {
			c.etcdctl(ctx, c.member(0), "put", fmt.Sprint("filler/", i), strings.Repeat("v", 100_000))
		}
		slow := named[v1alpha1.EtcdBackup](ns, "slow")
		c.backsUp(ctx, slow.Name, store, "deletionPolicy: Delete", "rateLimit: 64Ki")
		Eventually(ctx, func(g Gomega) {
			progress := getBackup(ctx, client.ObjectKeyFromObject(slow)).Status.Progress
			g.Expect(progress).NotTo(BeNil())
			g.Expect(progress.Bytes).To(BeNumerically(">", 0))
		}).Should(Succeed())
		Expect(kube.Delete(ctx, slow)).To(Succeed())
		Eventually(ctx, func() error { return kube.Get(ctx, client.ObjectKeyFromObject(slow), slow) }).ShouldNot(Succeed())
		Expect(filepath.Glob(filepath.Join(dir, "e2e", b.Status.ClusterUID, "*-slow", "*"))).To(BeEmpty())
		var jobs batchv1.JobList
		Expect(kube.List(ctx, &jobs, client.InNamespace(ns), client.MatchingLabels{v1alpha1.LabelBackup: slow.Name})).To(Succeed())
		for _, job := range jobs.Items {
			Expect(job.Status.Active).To(BeZero(), job.Name)
		}

		By("it is tried out again, and has rotted since")
		pauseFor(ctx, 2*time.Second)
		drillAgain(ctx, ns, "one")
		Eventually(ctx, func() time.Time { return getBackup(ctx, client.ObjectKeyFromObject(b)).Status.VerifiedTime.Time }).Should(BeTemporally(">", b.Status.VerifiedTime.Time))
		object := filepath.Join(dir, "e2e", b.Status.ClusterUID, b.Status.ID, "snapshot")
		content, err := os.ReadFile(object) //nolint:gosec // of the spec's own store
		Expect(err).NotTo(HaveOccurred())
		content[len(content)/2] ^= 1
		Expect(os.WriteFile(object, content, 0o600)).To(Succeed())
		pauseFor(ctx, 2*time.Second)
		drillAgain(ctx, ns, "one")
		b = comesTo(ctx, client.ObjectKeyFromObject(b), v1alpha1.ConditionStalled, "Corrupt")
		Expect(meta.IsStatusConditionFalse(b.Status.Conditions, v1alpha1.ConditionVerified)).To(BeTrue())

		By("its objects go with it, as deletionPolicy says")
		Expect(kube.Delete(ctx, b)).To(Succeed())
		Eventually(ctx, func() error { return kube.Get(ctx, client.ObjectKeyFromObject(b), b) }).ShouldNot(Succeed())
		Expect(filepath.Glob(filepath.Join(dir, "e2e", b.Status.ClusterUID, b.Status.ID, "*"))).To(BeEmpty())
	})

	It("is taken of a cluster with etcd's authentication, by root's rights, which come back with it", Label(deep), func(ctx context.Context) {
		ns := newNamespace(ctx)
		store := disk(ctx, ns)
		c := found(ctx, ns, "guarded", `{size: 1, storage: {size: 1Gi}, etcd: {quotaBackendBytes: 256Mi}}`)
		asRoot := []string{"--user", "root:secret"}
		c.etcdctl(ctx, c.member(0), "put", "a", "1")
		for _, args := range [][]string{
			{"user", "add", "root:secret"}, {"user", "grant-role", "root", "root"}, {"user", "add", "guarded-client", "--no-password"}, {"auth", "enable"},
		} {
			c.etcdctl(ctx, c.member(0), args...)
		}
		refused := comesTo(ctx, c.backsUp(ctx, "refused", store), v1alpha1.ConditionStalled, "EtcdDenied")
		Expect(meta.FindStatusCondition(refused.Status.Conditions, v1alpha1.ConditionStalled).Message).To(ContainSubstring("root"))

		c.etcdctl(ctx, c.member(0), append(asRoot, "user", "grant-role", "guarded-client", "root")...)
		comesTo(ctx, c.backsUp(ctx, "one", store), v1alpha1.ConditionVerified, v1alpha1.ReasonVerified)
		r := found(ctx, ns, "again", `{size: 3, storage: {size: 1Gi}, etcd: {quotaBackendBytes: 256Mi}, restoreFrom: {backupName: one}}`)
		for _, m := range r.members(3) {
			Expect(strings.Fields(r.etcdctl(ctx, m, append(asRoot, "get", "a")...))).To(Equal([]string{"a", "1"}))
			_, err := r.tryEtcdctl(ctx, m, "get", "a")
			Expect(err).To(HaveOccurred(), "whoever is no user stays outside of %s", m)
		}
		r.settles(ctx)
	})

	It("says what is wrong, and begins no cluster with what is not there", func(ctx context.Context) {
		ns := newNamespace(ctx)
		c := found(ctx, ns, "source", `{size: 1, storage: {size: 1Gi}, etcd: {quotaBackendBytes: 256Mi}}`)
		create(ctx, ns, `{apiVersion: v1, kind: Secret, metadata: {name: s3}, stringData: {AWS_ACCESS_KEY_ID: nobody, AWS_SECRET_ACCESS_KEY: nothing}}`)
		nowhere := c.backsUp(ctx, "nowhere", `{s3: {endpoint: "http://127.0.0.1:1", bucket: backups, credentialsSecretRef: {name: s3}}}`, "timeout: 1m")
		c.backsUp(ctx, "keyless", `{s3: {bucket: backups, credentialsSecretRef: {name: none}}}`)
		r := apply(ctx, ns, "blocked", `{size: 1, storage: {size: 1Gi}, etcd: {quotaBackendBytes: 256Mi}, restoreFrom: {backupName: nowhere}}`)
		r.reports(ctx, patience, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonRestoreBlocked, "EtcdBackup nowhere is not complete")
		Expect(r.claims(ctx)).To(BeEmpty(), "a volume was made although nothing can be restored")
		Eventually(ctx, func(g Gomega) {
			ready := meta.FindStatusCondition(getBackup(ctx, client.ObjectKey{Namespace: ns, Name: "keyless"}).Status.Conditions, v1alpha1.ConditionReady)
			g.Expect(ready).NotTo(BeNil())
			g.Expect(ready.Message).To(ContainSubstring("Secret none does not exist"))
		}).Should(Succeed())
		Eventually(ctx, func() bool {
			return meta.IsStatusConditionTrue(getBackup(ctx, nowhere).Status.Conditions, v1alpha1.ConditionStalled)
		}).Should(BeTrue(), "a store that nobody reaches is given up")
	})
})

var _ = Describe("A schedule", Label(deep), func() {
	It("makes a backup when it is due, and keeps what its retention says", func(ctx context.Context) {
		ns := newNamespace(ctx)
		store := disk(ctx, ns)
		c := found(ctx, ns, "source", `{size: 1, storage: {size: 1Gi}, etcd: {quotaBackendBytes: 256Mi}}`)
		c.serves(ctx, c.member(0))
		create(ctx, ns, fmt.Sprintf(`{apiVersion: etcd.quorate.dev/v1alpha1, kind: EtcdBackupSchedule, metadata: {name: often}, spec: {schedule: "* * * * *", retention: {keepLast: 1}, backup: {clusterRef: {name: source}, store: %s}}}`, store))
		s := named[v1alpha1.EtcdBackupSchedule](ns, "often")
		var verified string
		Eventually(ctx, func(g Gomega) {
			g.Expect(kube.Get(ctx, client.ObjectKeyFromObject(s), s)).To(Succeed())
			verified = s.Status.LastVerified
			g.Expect(verified).NotTo(BeEmpty())
		}).WithTimeout(4 * time.Minute).Should(Succeed())
		Eventually(ctx, func(g Gomega) {
			var list v1alpha1.EtcdBackupList
			g.Expect(kube.List(ctx, &list, client.InNamespace(ns))).To(Succeed())
			for _, b := range list.Items {
				g.Expect(b.Name).NotTo(Equal(verified), "the older one is still there")
			}
			g.Expect(list.Items).NotTo(BeEmpty())
		}).WithTimeout(5 * time.Minute).Should(Succeed())
		Expect(kube.Get(ctx, client.ObjectKeyFromObject(s), s)).To(Succeed())
		Expect(s.Status.LastVerified).NotTo(Equal(verified))
		var pods corev1.PodList
		Expect(kube.List(ctx, &pods, client.InNamespace(ns), client.HasLabels{v1alpha1.LabelBackup})).To(Succeed())
		for _, pod := range pods.Items {
			Expect(*pod.Spec.AutomountServiceAccountToken).To(BeFalse())
		}
	}, SpecTimeout(12*time.Minute))
})
