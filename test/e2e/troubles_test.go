package e2e

import (
	"context"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/test/load"
)

// trouble is a fault in the middle of which the operator is killed. Each has a
// cluster of its own, so that one kill does for all.
type trouble struct {
	name string
	// begin does the harm.
	begin func(ctx context.Context, s *sufferer)
	// under says that the operator is in the middle of it.
	under func(ctx context.Context, s *sufferer) bool
	// end waits, once an operator works again, until all is as if it had never
	// been killed.
	end func(ctx context.Context, s *sufferer)
}

// sufferer is a cluster in trouble, and what it was before.
type sufferer struct {
	cluster
	load     *load.Load
	was      *v1alpha1.EtcdCluster
	ran      map[string]corev1.Pod
	follower string
	// fewest voters that etcd has listed since, where that matters.
	fewest func() int
	// left are the claims of a cluster that was deleted, and written the keys
	// that it had acknowledged.
	left    map[string]corev1.PersistentVolumeClaim
	written []string
}

// troubles, those first that last longest.
var troubles = []trouble{
	{
		name:  "hung",
		begin: func(ctx context.Context, s *sufferer) { s.hangs(ctx, s.follower) },
		under: func(context.Context, *sufferer) bool { return true },
		end: func(ctx context.Context, s *sufferer) {
			s.reports(ctx, promised, v1alpha1.ConditionReady, "False", v1alpha1.ReasonDegraded, s.follower)
			s.goesOn(ctx, s.follower)
			s.comesBack(ctx, s.ran)
			Expect(ids(s.get(ctx))).To(Equal(ids(s.was)))
		},
	},
	{
		name: "bereaved",
		begin: func(ctx context.Context, s *sufferer) {
			s.fewest = s.fewestVoters(ctx, without(s.members(3), []string{s.follower})...)
			s.deleteClaims(ctx, s.follower)
		},
		under: func(ctx context.Context, s *sufferer) bool {
			now := s.get(ctx)
			return now.Status.NextOrdinal > s.was.Status.NextOrdinal && ids(now)[s.follower] != ""
		},
		end: func(ctx context.Context, s *sufferer) {
			s.replaces(ctx, s.was, s.follower)
			Expect(s.fewest()).To(Equal(3), "voters at the least")
			s.leavesNothing(ctx, s.follower)
		},
	},
	{
		name: "wiped",
		begin: func(ctx context.Context, s *sufferer) {
			s.wipe(ctx, s.follower)
			s.signal(ctx, syscall.SIGKILL, s.follower)
		},
		under: func(ctx context.Context, s *sufferer) bool {
			return lives(s.pods(ctx))[s.follower] != lives(s.ran)[s.follower] && ids(s.get(ctx))[s.follower] != ""
		},
		end: func(ctx context.Context, s *sufferer) {
			s.replaces(ctx, s.was, s.follower)
			s.quarantines(ctx, s.follower)
		},
	},
	{
		name: "remade",
		begin: func(ctx context.Context, s *sufferer) {
			remove(ctx, s.object())
			s.load.Abort()
			s.written, s.left = s.load.Acknowledged(), s.claims(ctx)
			apply(ctx, s.namespace, s.name, `{}`)
		},
		under: func(ctx context.Context, s *sufferer) bool {
			now := s.get(ctx).Status
			return len(now.Founders) > 0 && now.ClusterID == ""
		},
		end: func(ctx context.Context, s *sufferer) {
			s.becomesReady(ctx)
			s.runs(ctx, s.member(3), s.member(4), s.member(5))
			Expect(s.get(ctx).Status.ClusterID).NotTo(Equal(s.was.Status.ClusterID))
			s.leaves(ctx, s.left, s.written)
		},
	},
	{
		name:  "deleted",
		begin: func(ctx context.Context, s *sufferer) { s.deletePods(ctx, s.members(2)...) },
		under: func(ctx context.Context, s *sufferer) bool {
			now := s.pods(ctx)
			return !ready(now[s.member(0)]) && !ready(now[s.member(1)])
		},
		end: func(ctx context.Context, s *sufferer) {
			s.comesBack(ctx, s.ran, s.members(2)...)
			Expect(ids(s.get(ctx))).To(Equal(ids(s.was)))
		},
	},
}

// suffers makes a sufferer of a cluster, once it is well.
func suffers(ctx context.Context, c cluster) *sufferer {
	GinkgoHelper()
	c.settles(ctx)
	followers, _ := c.followers(ctx)
	return &sufferer{cluster: c, load: c.startLoad(ctx), was: c.get(ctx), ran: c.pods(ctx), follower: followers[0]}
}

var _ = Describe("The operator's faults", Serial, Label(local, deep), func() {
	It("do no harm: its working replica is killed in the middle of a hang, a deleted claim, a wiped directory, a re-creation and deleted pods", func(ctx SpecContext) {
		ns := newNamespace(ctx)
		for _, t := range troubles {
			apply(ctx, ns, t.name, `{}`)
		}
		var all []*sufferer
		for _, t := range troubles {
			all = append(all, suffers(ctx, cluster{ns, t.name}))
		}
		operator := working(ctx)
		for i, t := range troubles {
			t.begin(ctx, all[i])
			Eventually(ctx, func() bool { return t.under(ctx, all[i]) }).WithPolling(5*time.Millisecond).Should(BeTrue(), t.name)
		}
		operator.diesUnmissed(ctx)
		for i, t := range troubles {
			Expect(t.under(ctx, all[i])).To(BeTrue(), "%s was over before the operator was killed", t.name)
		}
		operator.succeeded(ctx)
		for i, t := range troubles {
			By(t.name)
			t.end(ctx, all[i])
		}
		for _, s := range all {
			if s.written == nil {
				holds(ctx, s.load)
			}
		}
		operator.isRenewed(ctx)
	}, NodeTimeout(3*patience))
})
