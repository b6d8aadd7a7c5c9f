package e2e

import (
	"context"
	"fmt"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/pki"
	"github.com/quorate/quorate/test/load"
)

// scale is what users do: kubectl scale.
func (c cluster) scale(ctx context.Context, size int) {
	GinkgoHelper()
	Expect(kubectl(ctx, "-n", c.namespace, "scale", "ec", c.name, fmt.Sprintf("--replicas=%d", size))).Error().NotTo(HaveOccurred())
}

// leavesNothing waits until no claim, pod or Secret is left of the members.
func (c cluster) leavesNothing(ctx context.Context, members ...string) {
	GinkgoHelper()
	for _, m := range members {
		for _, object := range []client.Object{
			named[corev1.Pod](c.namespace, m), named[corev1.PersistentVolumeClaim](c.namespace, "data-"+m), named[corev1.Secret](c.namespace, pki.MemberSecret(m)),
		} {
			c.loses(ctx, object)
		}
	}
}

// loses waits until an object is gone.
func (c cluster) loses(ctx context.Context, object client.Object) {
	GinkgoHelper()
	Eventually(ctx, func() bool {
		return apierrors.IsNotFound(kube.Get(ctx, client.ObjectKeyFromObject(object), object))
	}).Should(BeTrue(), "%T %s is still there", object, object.GetName())
}

var _ = Describe("A change of size under load", Ordered, SpecPriority(100), func() {
	var (
		c cluster
		l *load.Load
	)
	BeforeAll(func(ctx SpecContext) {
		c = found(ctx, newNamespace(ctx), "sized", `{size: 1}`)
		l = c.startLoad(ctx)
	}, NodeTimeout(2*patience))

	It("goes up from one to seven members and down again", func(ctx SpecContext) {
		was := 1
		for _, size := range []int{3, 5, 7, 3, 1} {
			By(fmt.Sprintf("from %d to %d", was, size))
			before, start := c.voters(ctx), time.Now()
			c.scale(ctx, size)
			c.settles(ctx)
			AddReportEntry(fmt.Sprintf("%d to %d", was, size), fmt.Sprintf("%s, longest gap %s", time.Since(start).Round(time.Millisecond), l.Gap(start, time.Now())))
			now := c.voters(ctx)
			Expect(now).To(HaveLen(size))
			if size > was {
				Expect(now).To(ContainElements(before), "growth touches nobody who is there")
			} else {
				Expect(before).To(ContainElements(now))
				c.leavesNothing(ctx, without(before, now)...)
			}
			was = size
		}
		Expect(c.get(ctx).Status.NextOrdinal).To(BeEquivalentTo(7), "no name was given twice or in vain")
		Expect(c.events(ctx)).NotTo(MatchRegexp(`Warning`))
	}, NodeTimeout(3*patience))

	It("loses nothing that was acknowledged", func(ctx SpecContext) { holds(ctx, l) }, NodeTimeout(patience))
})

var _ = Describe("A change of mind under load", Label(deep), Ordered, SpecPriority(90), func() {
	var (
		c cluster
		l *load.Load
	)
	BeforeAll(func(ctx SpecContext) {
		c = found(ctx, newNamespace(ctx), "wavering", `{}`)
		l = c.startLoad(ctx)
	}, NodeTimeout(2*patience))

	It("is followed when edits come faster than the operator can act", func(ctx SpecContext) {
		c.settles(ctx)
		for _, size := range []int{5, 1, 3} {
			c.scale(ctx, size)
			pauseFor(ctx, 2*time.Second)
		}
		c.settles(ctx)
		Expect(c.voters(ctx)).To(HaveLen(3))
		c.leavesNothing(ctx, without(c.members(int(c.get(ctx).Status.NextOrdinal)), c.voters(ctx))...)
	}, NodeTimeout(2*patience))

	It("is held up by a pause, in which status is still told, and goes on afterwards", Label(local), func(ctx SpecContext) {
		c.scale(ctx, 5)
		Eventually(ctx, func() int { return len(c.claims(ctx)) }).WithPolling(10*time.Millisecond).Should(Equal(4), "a fourth member is being prepared")
		c.edit(ctx, `{spec: {paused: true}}`)
		c.reports(ctx, promised, v1alpha1.ConditionReady, "False", v1alpha1.ReasonPaused, "")
		followers, leader := c.followers(ctx)
		listed, writes, members := c.listed(ctx, leader), c.operatorWrites(ctx), c.objects(ctx)

		hanging := followers[0]
		DeferCleanup(func(ctx SpecContext) { c.signal(ctx, syscall.SIGCONT, hanging) }, NodeTimeout(patience))
		c.signal(ctx, syscall.SIGSTOP, hanging)
		seen := func() map[string]metav1.ConditionStatus {
			out := map[string]metav1.ConditionStatus{}
			for _, m := range c.get(ctx).Status.Members {
				out[m.Name] = m.Health
			}
			return out
		}
		Eventually(ctx, seen).WithTimeout(promised).Should(HaveKeyWithValue(hanging, Not(Equal(metav1.ConditionTrue))), "status is refreshed while paused")
		c.signal(ctx, syscall.SIGCONT, hanging)
		Eventually(ctx, seen).WithTimeout(promised).Should(HaveKeyWithValue(hanging, metav1.ConditionTrue))
		Expect(c.operatorWrites(ctx)).To(Equal(writes), "the operator wrote while it was paused")
		Expect(c.objects(ctx)).To(Equal(members), "objects came or went while paused")
		Expect(c.listed(ctx, leader)).To(Equal(listed), "the members changed while paused")

		c.edit(ctx, `{spec: {paused: false}}`)
		c.settles(ctx)
		Expect(c.voters(ctx)).To(HaveLen(5))
	}, NodeTimeout(2*patience))

	It("is held up by a downgrade, in which nobody could join", func(ctx SpecContext) {
		_, leader := c.followers(ctx)
		before := c.listed(ctx, leader)
		c.etcdctl(ctx, leader, "downgrade", "enable", "3.5")
		c.scale(ctx, 3)
		c.reports(ctx, promised, v1alpha1.ConditionReconciling, "True", v1alpha1.ReasonDowngrading, "etcdctl downgrade cancel")
		Consistently(ctx, func() map[string]uint64 { return c.listed(ctx, leader) }).WithTimeout(3 * time.Second).Should(Equal(before))
		c.etcdctl(ctx, leader, "downgrade", "cancel")
		c.settles(ctx)
		Expect(c.voters(ctx)).To(HaveLen(3))
	}, NodeTimeout(2*patience))

	It("loses nothing that was acknowledged", func(ctx SpecContext) { holds(ctx, l) }, NodeTimeout(patience))
})

// pauseFor lets time pass that is part of what is tried.
func pauseFor(ctx context.Context, d time.Duration) {
	GinkgoHelper()
	select {
	case <-ctx.Done():
		Fail("the time for this spec is over")
	case <-time.After(d):
	}
}

// without are the elements of a list that another one has not.
func without(list, other []string) []string {
	var out []string
	for _, s := range list {
		if !contains(other, s) {
			out = append(out, s)
		}
	}
	return out
}

// objects are the UIDs of what belongs to the cluster, by kind and name.
func (c cluster) objects(ctx context.Context) map[string]string {
	GinkgoHelper()
	out := map[string]string{}
	c.each(ctx, func(key string, object client.Object) { out[key] = string(object.GetUID()) })
	return out
}

// operatorWrites are what the operator has written to the objects of the
// cluster, and when; but for the cluster's own status.
func (c cluster) operatorWrites(ctx context.Context) map[string]string {
	GinkgoHelper()
	out := map[string]string{}
	note := func(key string, object client.Object) {
		for _, m := range object.GetManagedFields() {
			if m.Manager == "quorate" && m.Subresource == "" {
				out[key] += fmt.Sprintf("%s %s %s; ", m.Operation, m.Time, m.FieldsV1)
			}
		}
	}
	note("EtcdCluster", c.get(ctx))
	c.each(ctx, note)
	return out
}

// each calls f with every object that belongs to the cluster.
func (c cluster) each(ctx context.Context, f func(key string, object client.Object)) {
	GinkgoHelper()
	for _, list := range ownedKinds() {
		Expect(kube.List(ctx, list, client.InNamespace(c.namespace), client.HasLabels{v1alpha1.LabelClusterUID})).To(Succeed())
		Expect(meta.EachListItem(list, func(o runtime.Object) error {
			object := o.(client.Object)
			f(fmt.Sprintf("%T %s", o, object.GetName()), object)
			return nil
		})).To(Succeed())
	}
}
