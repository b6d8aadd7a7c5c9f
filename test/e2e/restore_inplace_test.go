package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
)

// carriesBack applies an EtcdRestore.
func (c cluster) carriesBack(ctx context.Context, name, backup string, more ...string) client.ObjectKey {
	GinkgoHelper()
	spec := fmt.Sprintf("{clusterRef: {name: %s}, backupName: %s%s}", c.name, backup, strings.Join(append([]string{""}, more...), ", "))
	create(ctx, c.namespace, fmt.Sprintf("{apiVersion: etcd.quorate.dev/v1alpha1, kind: EtcdRestore, metadata: {name: %s}, spec: %s}", name, spec))
	return client.ObjectKey{Namespace: c.namespace, Name: name}
}

// restoreSays waits for what a restore says of itself, and returns it.
func restoreSays(ctx context.Context, key client.ObjectKey, kind string, is metav1.ConditionStatus, reason string) *v1alpha1.EtcdRestore {
	GinkgoHelper()
	r := &v1alpha1.EtcdRestore{}
	Eventually(ctx, func(g Gomega) {
		g.Expect(kube.Get(ctx, key, r)).To(Succeed())
		told, err := json.Marshal(r.Status.Conditions)
		g.Expect(err).NotTo(HaveOccurred())
		c := meta.FindStatusCondition(r.Status.Conditions, kind)
		g.Expect(c).NotTo(BeNil())
		g.Expect(c.Status).To(Equal(is), string(told))
		g.Expect(c.Reason).To(Equal(reason), string(told))
	}).WithTimeout(3 * patience).Should(Succeed())
	return r
}

// watcher holds a watch open over whatever becomes of the members.
type watcher struct {
	client *clientv3.Client
	// ended is closed with the watch; err is why it has, last the revision of the last event
	// that it saw.
	ended chan struct{}
	err   error
	last  int64
}

// watches a prefix until the watch ends.
func (c cluster) watches(ctx context.Context, prefix string, members ...string) *watcher {
	GinkgoHelper()
	cl, err := c.bed().Client(ctx, members...)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(cl.Close)
	w := &watcher{client: cl, ended: make(chan struct{})}
	events := cl.Watch(ctx, prefix, clientv3.WithPrefix())
	go func() {
		defer close(w.ended)
		for r := range events {
			if w.err = r.Err(); w.err != nil {
				return
			}
			for _, e := range r.Events {
				w.last = e.Kv.ModRevision
			}
		}
	}()
	return w
}

// revisionOf the cluster, as a member tells it.
func (c cluster) revisionOf(ctx context.Context, member string) int64 {
	GinkgoHelper()
	var answer struct {
		Header struct {
			Revision int64 `json:"revision"`
		} `json:"header"`
	}
	Expect(json.Unmarshal([]byte(c.etcdctl(ctx, member, "get", "none", "-w", "json")), &answer)).To(Succeed())
	return answer.Header.Revision
}

var _ = Describe("A cluster that serves and is carried back to a backup", Ordered, func() {
	var (
		c      cluster
		kept   string
		was    *v1alpha1.EtcdCluster
		backup *v1alpha1.EtcdBackup
		old    map[string]corev1.PersistentVolumeClaim
		back   client.ObjectKey
	)

	BeforeAll(func(ctx SpecContext) {
		c, kept, backup = writtenPastItsBackup(ctx, "back")
		was, old = c.get(ctx), c.claims(ctx)
	}, NodeTimeout(4*patience))

	It("is left alone while the backup is not there, or it is paused", func(ctx SpecContext) {
		before := lives(c.pods(ctx))
		none := c.carriesBack(ctx, "none", "no-such-backup")
		restoreSays(ctx, none, v1alpha1.ConditionReady, "False", v1alpha1.ReasonRestoreBlocked)
		Expect(kube.Delete(ctx, &v1alpha1.EtcdRestore{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: "none"}})).To(Succeed())

		c.edit(ctx, `{spec: {paused: true}}`)
		held := c.carriesBack(ctx, "held", "nightly")
		restoreSays(ctx, held, v1alpha1.ConditionReady, "False", v1alpha1.ReasonPaused)
		Expect(kube.Delete(ctx, &v1alpha1.EtcdRestore{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: "held"}})).To(Succeed())
		c.edit(ctx, `{spec: {paused: false}}`)
		c.becomesReady(ctx)

		By("a quota that has no room for the new volumes beside the old ones")
		create(ctx, c.namespace, `{apiVersion: v1, kind: ResourceQuota, metadata: {name: team}, spec: {hard: {persistentvolumeclaims: "6"}}}`)
		Eventually(ctx, func(g Gomega) {
			team := named[corev1.ResourceQuota](c.namespace, "team")
			g.Expect(kube.Get(ctx, client.ObjectKeyFromObject(team), team)).To(Succeed())
			used := team.Status.Used[corev1.ResourcePersistentVolumeClaims]
			g.Expect(used.Value()).To(BeEquivalentTo(4))
		}).Should(Succeed())
		crowded := c.carriesBack(ctx, "crowded", "nightly", "safetyBackup: {policy: Skip}")
		restoreSays(ctx, crowded, v1alpha1.ConditionPrepared, "True", v1alpha1.ReasonPrepared)
		Eventually(ctx, func(g Gomega) {
			told := c.get(ctx).Status.Restore
			g.Expect(told).NotTo(BeNil())
			g.Expect(told.Message).To(ContainSubstring("ResourceQuota team allows 6 of persistentvolumeclaims, of which 4 are used"))
		}).Should(Succeed())
		Expect(kube.Delete(ctx, &v1alpha1.EtcdRestore{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: "crowded"}})).To(Succeed())
		Expect(kube.Delete(ctx, named[corev1.ResourceQuota](c.namespace, "team"))).To(Succeed())
		Eventually(ctx, func() *v1alpha1.ClusterRestoreStatus { return c.get(ctx).Status.Restore }).Should(BeNil())
		Expect(lives(c.pods(ctx))).To(Equal(before), "nobody was stopped")
		Expect(c.claims(ctx)).To(HaveLen(len(old)))
	}, NodeTimeout(2*patience))

	It("serves the backup, after a safety backup, and tells whoever watches", func(ctx SpecContext) {
		l := c.startLoad(ctx)
		w := c.watches(ctx, "later/", c.members(3)...)
		c.etcdctl(ctx, c.member(0), "put", "later/seen", "y")
		unmixed := c.neverMixes(ctx)
		start := time.Now()
		back = c.carriesBack(ctx, "back", "nightly")

		prepared := restoreSays(ctx, back, v1alpha1.ConditionPrepared, "True", v1alpha1.ReasonPrepared)
		Expect(prepared.Status.SafetyBackup).NotTo(BeNil())
		Expect(prepared.Status.SafetyBackup.Revision).To(BeNumerically(">", backup.Status.Revision))
		Eventually(ctx, func() int64 { return c.get(ctx).Status.Incarnation }).WithTimeout(patience).Should(BeEquivalentTo(2))
		stopped := time.Now()
		// What it writes from here on belongs to another history.
		l.Abort()
		restoreSays(ctx, back, v1alpha1.ConditionReady, "True", v1alpha1.ReasonRestored)
		c.becomesReady(ctx)
		AddReportEntry("serves again after", fmt.Sprintf("%s, of which %s since the new incarnation began", time.Since(start), time.Since(stopped)))
		unmixed()

		founders := []string{c.member(3), c.member(4), c.member(5)}
		Expect(c.get(ctx).Status.Founders).To(Equal(founders))
		Expect(c.get(ctx).Status.ClusterID).NotTo(Equal(was.Status.ClusterID))
		Expect(sortedKeys(c.pods(ctx))).To(Equal(founders), "nothing of the old incarnation runs")
		for _, m := range founders {
			Expect(c.content(ctx, m)).To(Equal(kept), "the keys of %s are those of the backup", m)
		}

		By("a watch that was open is told that its revisions are gone, and not carried back in silence")
		next, err := c.bed().Client(ctx, founders...)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(next.Close)
		w.client.SetEndpoints(next.Endpoints()...)
		Eventually(ctx, w.ended).WithTimeout(patience).Should(BeClosed())
		Expect(errors.Is(w.err, rpctypes.ErrCompacted)).To(BeTrue(), "the watch ended with %v", w.err)
		Expect(w.last).To(BeNumerically(">", backup.Status.Revision), "it had seen what is gone by now")
		Expect(c.revisionOf(ctx, founders[0])).To(BeNumerically(">", w.last), "no revision is used a second time")
		c.serves(ctx, founders[1])
		c.settles(ctx)
	}, NodeTimeout(6*patience))

	It("tells where everything is that it held", func(ctx SpecContext) {
		r := &v1alpha1.EtcdRestore{}
		Expect(kube.Get(ctx, back, r)).To(Succeed())
		Expect(r.Status.Incarnation).To(BeEquivalentTo(1))
		Expect(r.Status.Revision).To(Equal(backup.Status.Revision))
		floor := r.Status.RaisedTime.Unix() * 1_000_000
		Expect(c.get(ctx).Status.RevisionFloor).To(Equal(floor))
		Expect(r.Status.RevisionBump).To(Equal(floor - backup.Status.Revision))
		Expect(r.Status.OldVolumes).To(Equal([]string{"data-" + c.member(0), "data-" + c.member(1), "data-" + c.member(2)}))
		claims := c.claims(ctx)
		Expect(ofIncarnation(claims, claimLabels, 1)).To(Equal(r.Status.OldVolumes))
		for _, name := range r.Status.OldVolumes {
			Expect(claims[name].UID).To(Equal(old[name].UID))
			Expect(claims[name].DeletionTimestamp).To(BeNil())
		}
		Expect(c.get(ctx).Status.Recovery.RestoreName).To(Equal("back"))
		Eventually(ctx, func() string { return c.events(ctx) }).Should(And(
			MatchRegexp(`Warning +LatchRestore`), MatchRegexp(`Warning +StopIncarnation`), MatchRegexp(`Warning +RaiseIncarnation`)))

		By("a cluster that begins with the safety backup has what was written after the backup")
		s := found(ctx, c.namespace, "saved", `{size: 1, storage: {size: 1Gi}, etcd: {quotaBackendBytes: 256Mi}, restoreFrom: {backupName: `+r.Status.SafetyBackup.Name+`, allowUnverified: true}}`)
		Expect(s.etcdctl(ctx, s.member(0), "get", "later/", "--prefix", "--keys-only")).To(ContainSubstring("later/seen"))
	}, NodeTimeout(4*patience))

	It("is carried back once: deleting the EtcdRestore changes nothing any more", func(ctx SpecContext) {
		before := lives(c.pods(ctx))
		Expect(kube.Delete(ctx, &v1alpha1.EtcdRestore{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: back.Name}})).To(Succeed())
		pauseFor(ctx, 10*time.Second)
		c.becomesReady(ctx)
		Expect(lives(c.pods(ctx))).To(Equal(before))
		Expect(strconv.FormatInt(c.get(ctx).Status.Incarnation, 10)).To(Equal("2"))
		Expect(getBackup(ctx, client.ObjectKey{Namespace: c.namespace, Name: "back-safety"}).DeletionTimestamp).To(BeNil(), "the safety backup outlives it")
	}, NodeTimeout(2*patience))
})
