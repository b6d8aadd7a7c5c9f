package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
)

// ofIncarnation are the names of the cluster's pods, or claims, that carry an incarnation.
func ofIncarnation[T any](objects map[string]T, labels func(T) map[string]string, incarnation int) (names []string) {
	for _, name := range sortedKeys(objects) {
		if labels(objects[name])[v1alpha1.LabelIncarnation] == strconv.Itoa(incarnation) {
			names = append(names, name)
		}
	}
	return names
}

func podLabels(p corev1.Pod) map[string]string                     { return p.Labels }
func claimLabels(p corev1.PersistentVolumeClaim) map[string]string { return p.Labels }

// neverMixes watches until it is asked: no pod of the old incarnation beside one of the new,
// and no address of it behind the Service once the new one has begun.
func (c cluster) neverMixes(ctx context.Context) func() {
	GinkgoHelper()
	ctx, stop := context.WithCancel(ctx)
	done, mixed := make(chan struct{}), ""
	go func() {
		defer GinkgoRecover()
		defer close(done)
		for ; ctx.Err() == nil; time.Sleep(poll) {
			var list corev1.PodList
			if kube.List(ctx, &list, client.InNamespace(c.namespace), client.MatchingLabels{v1alpha1.LabelCluster: c.name}) != nil {
				continue
			}
			pods := map[string]corev1.Pod{}
			for _, p := range list.Items {
				pods[p.Name] = p
			}
			if old, young := ofIncarnation(pods, podLabels, 1), ofIncarnation(pods, podLabels, 2); len(old) > 0 && len(young) > 0 {
				mixed = fmt.Sprintf("%v beside %v", old, young)
			}
		}
	}()
	return func() {
		GinkgoHelper()
		stop()
		<-done
		Expect(mixed).To(BeEmpty(), "pods of two incarnations at once")
	}
}

// losesObjects takes a backup's objects out of the store disk, until they are put back.
func (c cluster) losesObjects(ctx context.Context, b *v1alpha1.EtcdBackup) (back func()) {
	GinkgoHelper()
	dir, err := bed.Disk(ctx, c.namespace, "backups")
	Expect(err).NotTo(HaveOccurred())
	objects, away := filepath.Join(dir, "etcd", b.Status.ClusterUID, b.Status.ID), filepath.Join(dir, "away")
	Expect(os.Rename(objects, away)).To(Succeed())
	return func() {
		GinkgoHelper()
		Expect(os.Rename(away, objects)).To(Succeed())
	}
}

var _ = Describe("A quorum that is lost for good", Ordered, func() {
	var (
		c      cluster
		kept   string
		was    *v1alpha1.EtcdCluster
		old    map[string]corev1.PersistentVolumeClaim
		left   string
		backup *v1alpha1.EtcdBackup
	)

	BeforeAll(func(ctx SpecContext) {
		c, kept, backup = writtenPastItsBackup(ctx, "lost")
		was, old, left = c.get(ctx), c.claims(ctx), c.member(0)
	}, NodeTimeout(4*patience))

	It("is told of, with who is left and what could be restored, and nothing happens by itself", func(ctx SpecContext) {
		c.deleteClaims(ctx, c.member(1), c.member(2))
		c.deletePods(ctx, c.member(1), c.member(2))
		c.stopped(ctx, c.member(1), c.member(2))
		c.reports(ctx, promised, v1alpha1.ConditionAvailable, "False", v1alpha1.ReasonQuorumLost, "1 of 3 voters answer ("+left+") and 2 are needed")
		c.reports(ctx, promised, v1alpha1.ConditionAvailable, "False", v1alpha1.ReasonQuorumLost, "the newest verified backup is nightly")
		c.reports(ctx, promised, v1alpha1.ConditionAvailable, "False", v1alpha1.ReasonQuorumLost, fmt.Sprintf("up to revision %d", backup.Status.Revision))
		pauseFor(ctx, 15*time.Second)
		c.says(ctx, Default, v1alpha1.ConditionAvailable, "False", v1alpha1.ReasonQuorumLost, "")
		Expect(c.get(ctx).Status.Incarnation).To(BeEquivalentTo(1))
		Expect(sortedKeys(c.pods(ctx))).To(Equal([]string{left}))
	}, NodeTimeout(2*patience))

	It("is no reason to take a word for another incarnation, or a backup that is not there", func(ctx SpecContext) {
		_, err := kubectl(ctx, "-n", c.namespace, "patch", "ec", c.name, "--type", "merge", "-p", `{"spec":{"recovery":{"incarnation":2,"backupName":"nightly"}}}`)
		Expect(err).To(MatchError(ContainSubstring("2 is not the incarnation of the cluster, 1")))
		c.edit(ctx, `{spec: {recovery: {incarnation: 1, backupName: none}}}`)
		c.reports(ctx, patience, v1alpha1.ConditionStalled, "True", v1alpha1.ReasonRecoveryBlocked, "EtcdBackup none does not exist")
		Expect(sortedKeys(c.pods(ctx))).To(Equal([]string{left}), "nobody is stopped for it")

		if existing() {
			return // nobody reaches the store of another machine
		}
		By("nor one whose objects have gone since it was verified")
		before := lives(c.pods(ctx))
		back := c.losesObjects(ctx, backup)
		c.edit(ctx, `{spec: {recovery: {incarnation: 1, backupName: nightly}}}`)
		c.reports(ctx, patience, v1alpha1.ConditionStalled, "True", v1alpha1.ReasonRecoveryBlocked, "nobody was stopped: name another backup in spec.recovery, or a survivor")
		c.says(ctx, Default, v1alpha1.ConditionReady, "False", v1alpha1.ReasonRecoveryBlocked, backup.Status.ID)
		Expect(lives(c.pods(ctx))).To(Equal(before), "nobody is stopped for it")
		Expect(c.get(ctx).Status.ObeyedRecovery).To(BeEmpty())
		c.edit(ctx, `{spec: {recovery: null}}`)
		c.loses(ctx, named[batchv1.Job](c.namespace, c.name+"-recovery-look"))
		back()
	}, NodeTimeout(3*patience))

	It("goes on with the backup on the user's word, under the same names", func(ctx SpecContext) {
		unmixed := c.neverMixes(ctx)
		start := time.Now()
		_, err := kubectl(ctx, "-n", c.namespace, "patch", "ec", c.name, "--type", "merge", "-p", `{"spec":{"recovery":{"incarnation":1,"backupName":"nightly"}}}`)
		Expect(err).NotTo(HaveOccurred())
		Eventually(ctx, func() int64 { return c.get(ctx).Status.Incarnation }).WithTimeout(patience).Should(BeEquivalentTo(2))
		c.becomesReady(ctx)
		AddReportEntry("serves again after", time.Since(start).String())
		unmixed()

		now := c.get(ctx)
		founders := []string{c.member(3), c.member(4), c.member(5)}
		Expect(now.Status.Founders).To(Equal(founders))
		Expect(now.Status.ClusterID).NotTo(Equal(was.Status.ClusterID))
		Expect(now.UID).To(Equal(was.UID))
		Expect(ofIncarnation(c.pods(ctx), podLabels, 2)).To(Equal(founders))
		Expect(sortedKeys(c.pods(ctx))).To(Equal(founders), "nothing of the old incarnation runs")
		for _, m := range founders {
			Expect(c.content(ctx, m)).To(Equal(kept), "the keys of %s are those of the backup", m)
		}
		c.serves(ctx, founders[1])
		c.settles(ctx)
		c.loses(ctx, named[batchv1.Job](c.namespace, c.name+"-recovery-look"))
	}, NodeTimeout(4*patience))

	It("is told of honestly", func(ctx SpecContext) {
		r := c.get(ctx).Status.Recovery
		Expect(r).NotTo(BeNil())
		Expect(r.BackupName).To(Equal("nightly"))
		Expect(r.Incarnation).To(BeEquivalentTo(2))
		Expect(r.GivenUp).To(ContainSubstring(left + " (its volume is kept)"))
		Expect(r.PossibleLoss).To(MatchRegexp(`what was acknowledged since revision [0-9]+, that of the backup, is lost`))
		Eventually(ctx, func() string { return c.events(ctx) }).Should(And(
			MatchRegexp(`Normal +CheckBackup .*read to its end`),
			MatchRegexp(`Warning +StopIncarnation`),
			MatchRegexp(`Warning +RaiseIncarnation .*what was acknowledged since revision [0-9]+, that of the backup, is lost`)))
	}, NodeTimeout(patience))

	It("keeps the survivor's volume as it was, and never uses it", func(ctx SpecContext) {
		claims := c.claims(ctx)
		Expect(ofIncarnation(claims, claimLabels, 1)).To(Equal([]string{"data-" + left}))
		Expect(claims["data-"+left].UID).To(Equal(old["data-"+left].UID))
		Expect(claims["data-"+left].DeletionTimestamp).To(BeNil())
		if !existing() {
			_, err := bed.Disk(ctx, c.namespace, "data-"+left)
			Expect(err).NotTo(HaveOccurred(), "the data of %s", left)
		}
	}, NodeTimeout(patience))

	It("is obeyed once: the word is spent, and may be taken away", func(ctx SpecContext) {
		before := lives(c.pods(ctx))
		c.edit(ctx, `{spec: {recovery: null}}`)
		pauseFor(ctx, 5*time.Second)
		c.becomesReady(ctx)
		Expect(lives(c.pods(ctx))).To(Equal(before))
		Expect(c.get(ctx).Status.Incarnation).To(BeEquivalentTo(2))

		By("one that is said while the cluster serves is void")
		c.edit(ctx, `{spec: {recovery: {incarnation: 2, backupName: nightly}}}`)
		c.reports(ctx, patience, v1alpha1.ConditionStalled, "True", v1alpha1.ReasonRecoveryVoid, "the cluster serves")
		Expect(lives(c.pods(ctx))).To(Equal(before))
		c.edit(ctx, `{spec: {recovery: null}}`)
		c.becomesReady(ctx)
	}, NodeTimeout(2*patience))

	It("does not hinder what comes after: a lost member is replaced", func(ctx SpecContext) {
		now := c.get(ctx)
		followers, _ := c.followers(ctx)
		c.deleteClaims(ctx, followers[0])
		c.deletePods(ctx, followers[0])
		c.replaces(ctx, now, followers[0])
		Expect(c.etcdctl(ctx, c.member(6), "get", "kept/", "--prefix")).To(Equal(kept), "it has the backup's keys, too")
	}, NodeTimeout(2*patience))
})
