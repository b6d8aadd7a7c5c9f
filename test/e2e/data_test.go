package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/pki"
	"github.com/quorate/quorate/test/load"
)

// deleteClaims deletes members' claims; they go once no pod uses them.
func (c cluster) deleteClaims(ctx context.Context, members ...string) {
	GinkgoHelper()
	for _, m := range members {
		Expect(kube.Delete(ctx, named[corev1.PersistentVolumeClaim](c.namespace, "data-"+m))).To(Succeed())
	}
}

// replaces waits until one member is replaced by a new one, with a name and an
// ID that nobody has ever had, and all others are as before.
func (c cluster) replaces(ctx context.Context, was *v1alpha1.EtcdCluster, member string) {
	GinkgoHelper()
	Eventually(ctx, func() map[string]string { return ids(c.get(ctx)) }).ShouldNot(HaveKey(member), "the lost member is still one")
	c.settles(ctx)
	before, now := ids(was), c.get(ctx)
	Expect(now.Status.NextOrdinal).To(Equal(was.Status.NextOrdinal+1), "one name was taken")
	fresh := c.member(int(was.Status.NextOrdinal))
	Expect(before).NotTo(ContainElement(ids(now)[fresh]), "the new member has an ID of its own")
	before[fresh] = ids(now)[fresh]
	delete(before, member)
	Expect(ids(now)).To(Equal(before))
	c.loses(ctx, named[corev1.Secret](c.namespace, pki.MemberSecret(member)))
}

// quarantines says that a member's claim was kept and is a member's no more.
func (c cluster) quarantines(ctx context.Context, member string) {
	GinkgoHelper()
	claim := c.claims(ctx)["data-"+member]
	Expect(claim.Labels).To(HaveKey(v1alpha1.LabelQuarantined), "claim of %s: %v", member, claim.ObjectMeta)
	Expect(claim.Annotations).To(HaveKey(v1alpha1.AnnotationQuarantinedAt))
}

// fewestVoters watches etcd's list through some members until it is asked.
func (c cluster) fewestVoters(ctx context.Context, members ...string) func() int {
	ctx, stop := context.WithCancel(ctx)
	var done sync.WaitGroup
	fewest := -1
	done.Go(func() {
		for ctx.Err() == nil {
			list, err := c.bed().List(ctx, members...)
			voters := 0
			for _, m := range list {
				if !m.IsLearner {
					voters++
				}
			}
			if err == nil && (fewest < 0 || voters < fewest) {
				fewest = voters
			}
			time.Sleep(poll)
		}
	})
	return func() int {
		stop()
		done.Wait()
		return fewest
	}
}

// underLoad founds a cluster with a load for the specs of a container, and
// notes each one's longest gap.
func underLoad(name string) (*cluster, **load.Load) {
	var (
		c     cluster
		l     *load.Load
		start time.Time
	)
	BeforeAll(func(ctx SpecContext) {
		c = found(ctx, newNamespace(ctx), name, `{}`)
		c.runs(ctx, c.members(3)...)
		l = c.startLoad(ctx)
	}, NodeTimeout(2*patience))
	BeforeEach(func() { start = time.Now() })
	AfterEach(func() {
		AddReportEntry("longest gap", fmt.Sprintf("%s in %s", l.Gap(start, time.Now()), time.Since(start).Round(time.Millisecond)))
	})
	return &c, &l
}

var _ = Describe("A member that cannot come back, under load,", Label(local, deep), Ordered, SpecPriority(100), func() {
	c, l := underLoad("replaced")

	It("is replaced when its claim and its pod were deleted", func(ctx SpecContext) {
		was := c.get(ctx)
		followers, _ := c.followers(ctx)
		c.deleteClaims(ctx, followers[0])
		c.deletePods(ctx, followers[0])
		c.replaces(ctx, was, followers[0])
		c.leavesNothing(ctx, followers[0])
	}, NodeTimeout(2*patience))

	It("is refused by the guard and replaced when its data is wiped, and its volume is kept", func(ctx SpecContext) {
		was := c.get(ctx)
		followers, _ := c.followers(ctx)
		data := c.wipe(ctx, followers[0])
		c.signal(ctx, syscall.SIGKILL, followers[0])
		c.replaces(ctx, was, followers[0])
		c.quarantines(ctx, followers[0])
		Expect(c.claims(ctx)["data-"+followers[0]].Annotations[v1alpha1.AnnotationRefused]).To(HavePrefix("DataMissing: "))
		Expect(filepath.Glob(filepath.Join(data, "*"))).To(BeEmpty(), "etcd never ran on the empty directory")
		Expect(c.events(ctx)).To(MatchRegexp(`Warning +DataMissing`))
	}, NodeTimeout(2*patience))

	It("is replaced, learner first, when the claim under a running follower is deleted", func(ctx SpecContext) {
		was := c.get(ctx)
		followers, leader := c.followers(ctx)
		fewest := c.fewestVoters(ctx, leader)
		c.deleteClaims(ctx, followers[0])
		c.replaces(ctx, was, followers[0])
		Expect(fewest()).To(Equal(3), "voters at the least")
		c.leavesNothing(ctx, followers[0])
	}, NodeTimeout(2*patience))

	It("hands the leadership over first when the claim under the leader is deleted", func(ctx SpecContext) {
		was := c.get(ctx)
		followers, leader := c.followers(ctx)
		fewest := c.fewestVoters(ctx, followers...)
		c.deleteClaims(ctx, leader)
		c.replaces(ctx, was, leader)
		Expect(fewest()).To(Equal(3), "voters at the least")
		Eventually(ctx, func() string { return c.events(ctx) }).Should(MatchRegexp("MoveLeader .*from " + leader))
	}, NodeTimeout(2*patience))

	It("took no acknowledged write with it", func(ctx SpecContext) { holds(ctx, *l) }, NodeTimeout(patience))
})

var _ = Describe("A membership that is changed by hand, under load,", Label(deep), Ordered, SpecPriority(90), func() {
	c, l := underLoad("handled")

	It("is left as it is when a stranger was added, who is named and holds every change up", func(ctx SpecContext) {
		_, leader := c.followers(ctx)
		// etcd takes no change in the first seconds after a member has connected.
		Eventually(ctx, func() error {
			_, err := c.tryEtcdctl(ctx, leader, "member", "add", "stranger", "--learner", "--peer-urls=https://stranger.example:2380")
			return err
		}).WithPolling(time.Second).Should(Succeed())
		c.reports(ctx, promised, v1alpha1.ConditionStalled, "True", v1alpha1.ReasonUnknownMember, "https://stranger.example:2380")
		listed, objects := c.listed(ctx, leader), c.objects(ctx)
		c.scale(ctx, 5)
		c.reports(ctx, promised, v1alpha1.ConditionStalled, "True", v1alpha1.ReasonUnknownMember, "https://stranger.example:2380")
		Consistently(ctx, func() map[string]string { return c.objects(ctx) }).WithTimeout(3 * time.Second).Should(Equal(objects))
		Expect(c.listed(ctx, leader)).To(Equal(listed))
		c.etcdctl(ctx, leader, "member", "remove", fmt.Sprintf("%x", listed["stranger"]))
		c.settles(ctx)
		Expect(c.voters(ctx)).To(HaveLen(5))
	}, NodeTimeout(2*patience))

	It("is mended when a member was removed, whose volume is kept", func(ctx SpecContext) {
		was := c.get(ctx)
		followers, leader := c.followers(ctx)
		c.etcdctl(ctx, leader, "member", "remove", ids(was)[followers[0]])
		c.replaces(ctx, was, followers[0])
		c.quarantines(ctx, followers[0])
	}, NodeTimeout(2*patience))

	It("loses nothing that was acknowledged", func(ctx SpecContext) { holds(ctx, *l) }, NodeTimeout(patience))
})

var _ = Describe("Authentication that somebody turns on in a cluster without TLS", Label(deep), func() {
	It("keeps the operator out, which says so and touches nobody", func(ctx SpecContext) {
		c := found(ctx, newNamespace(ctx), "guarded", `{tls: {mode: Disabled}}`)
		c.runs(ctx, c.members(3)...)
		was, ran := c.get(ctx), lives(c.pods(ctx))
		for _, args := range [][]string{{"user", "add", "root:secret"}, {"user", "grant-role", "root", "root"}, {"auth", "enable"}} {
			c.etcdctl(ctx, c.member(0), args...)
		}
		c.reports(ctx, promised, v1alpha1.ConditionStalled, "True", v1alpha1.ReasonAuthFailed, "etcdctl auth disable")
		c.says(ctx, Default, v1alpha1.ConditionAvailable, "Unknown", v1alpha1.ReasonAuthFailed, "")
		Consistently(ctx, func(g Gomega) {
			g.Expect(lives(c.pods(ctx))).To(Equal(ran))
			g.Expect(c.get(ctx).Status.NextOrdinal).To(Equal(was.Status.NextOrdinal))
		}).WithTimeout(5 * time.Second).Should(Succeed())
		c.etcdctl(ctx, c.member(0), "--user", "root:secret", "auth", "disable")
		c.reports(ctx, promised, v1alpha1.ConditionAvailable, "True", v1alpha1.ReasonProbeSucceeded, "")
		c.becomesReady(ctx)
		Expect(ids(c.get(ctx))).To(Equal(ids(was)))
		Expect(lives(c.pods(ctx))).To(Equal(ran))
	}, NodeTimeout(2*patience))
})

// The kubelet waits longer and longer before it starts a container again: five
// failures take it two minutes. So this begins first.
var _ = Describe("Data that etcd fails on, under load,", Label(local, deep), func() {
	It("is given up after five failures in a row: the member is replaced and its volume kept", SpecPriority(110), func(ctx SpecContext) {
		c := found(ctx, newNamespace(ctx), "corrupt", `{}`)
		c.runs(ctx, c.members(3)...)
		was, l := c.get(ctx), c.startLoad(ctx)
		followers, _ := c.followers(ctx)
		victim := followers[0]
		logs, err := filepath.Glob(filepath.Join(c.disk(ctx, victim), "data", "member", "wal", "*.wal"))
		Expect(err).NotTo(HaveOccurred())
		Expect(sh(ctx, "dd", "if=/dev/urandom", "of="+slices.Max(logs), "bs=512", "seek=1", "count=8", "conv=notrunc")).Error().NotTo(HaveOccurred())
		c.signal(ctx, syscall.SIGKILL, victim)

		failed := int32(0)
		Eventually(ctx, func() map[string]string {
			failed = max(failed, restarts(c.pods(ctx)[victim]))
			return ids(c.get(ctx))
		}).WithTimeout(2 * patience).ShouldNot(HaveKey(victim))
		Expect(failed).To(BeNumerically(">=", 5), "failures before the data was given up")
		c.replaces(ctx, was, victim)
		c.quarantines(ctx, victim)
		Expect(c.claims(ctx)["data-"+victim].Annotations[v1alpha1.AnnotationRefused]).To(HavePrefix("etcd failed 5 times in a row on its data"))
		holds(ctx, l)
	}, NodeTimeout(4*patience))
})

var _ = Describe("A quorum that cannot come back", Label(deep), func() {
	It("is told with who and what is left, and nothing is touched", func(ctx SpecContext) {
		c := found(ctx, newNamespace(ctx), "bereft", `{}`)
		c.runs(ctx, c.members(3)...)
		lost, left := c.members(2), c.member(2)
		was, life := c.get(ctx), lives(c.pods(ctx))[left]
		c.deleteClaims(ctx, lost...)
		c.deletePods(ctx, lost...)
		c.stopped(ctx, lost...)
		c.reports(ctx, promised, v1alpha1.ConditionAvailable, "False", v1alpha1.ReasonQuorumLost, "1 of 3 voters answer ("+left+") and 2 are needed")
		c.reports(ctx, promised, v1alpha1.ConditionAvailable, "False", v1alpha1.ReasonQuorumLost, "the data of "+left+" is left — nothing is removed, deleted or started anew")
		c.reports(ctx, promised, v1alpha1.ConditionStalled, "True", v1alpha1.ReasonDataMissing, "the volumes of "+left+" are left")
		c.says(ctx, Default, v1alpha1.ConditionStalled, "True", v1alpha1.ReasonDataMissing, lost[0]+", "+lost[1])
		Eventually(ctx, func() []string { return sortedKeys(c.pods(ctx)) }).Should(Equal([]string{left}))
		Consistently(ctx, func(g Gomega) {
			g.Expect(lives(c.pods(ctx))).To(Equal(map[string]string{left: life}))
			g.Expect(sortedKeys(c.claims(ctx))).To(Equal([]string{"data-" + left}))
		}).WithTimeout(5 * time.Second).Should(Succeed())
		now := c.get(ctx)
		Expect(now.Status.NextOrdinal).To(Equal(was.Status.NextOrdinal))
		Expect(now.Status.Joiner).To(BeEmpty())
		c.says(ctx, Default, v1alpha1.ConditionAvailable, "False", v1alpha1.ReasonQuorumLost, "")
	}, NodeTimeout(2*patience))
})
