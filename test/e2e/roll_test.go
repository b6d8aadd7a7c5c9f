package e2e

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/test/load"
)

// rolled waits until every member runs in another pod than before, of this version, and
// says how long it took. Never were two pods away at once.
func (c cluster) rolled(ctx context.Context, version string, before map[string]types.UID) time.Duration {
	GinkgoHelper()
	// A life of a pod that was Ready once has come: later it may be slow to answer on a busy
	// machine, and nobody has taken it away. A container that starts again begins another one.
	began, came := time.Now(), map[string]bool{}
	Eventually(ctx, func(g Gomega) {
		now := c.pods(ctx)
		life := lives(now)
		var away, old []string
		for name, uid := range before {
			pod, there := now[name]
			came[life[name]] = came[life[name]] || there && ready(pod)
			if !there || pod.DeletionTimestamp != nil || !came[life[name]] {
				away = append(away, name)
			}
			if pod.UID == uid {
				old = append(old, name)
			}
		}
		if len(away) > 1 {
			StopTrying(fmt.Sprintf("away at once: %v", away)).Now()
		}
		g.Expect(away).To(BeEmpty(), "who is away")
		g.Expect(old).To(BeEmpty(), "whose turn has not come")
		object := c.get(ctx)
		g.Expect(meta.IsStatusConditionTrue(object.Status.Conditions, v1alpha1.ConditionReady)).To(BeTrue())
		g.Expect(object.Status.Version).To(Equal(version))
		g.Expect(object.Status.Operation).To(BeNil())
	}).Should(Succeed())
	return time.Since(began)
}

func (c cluster) podUIDs(ctx context.Context) map[string]types.UID {
	GinkgoHelper()
	out := map[string]types.UID{}
	for name, pod := range c.pods(ctx) {
		out[name] = pod.UID
	}
	return out
}

var _ = Describe("A rolling change under load", Ordered, SpecPriority(90), func() {
	var (
		c cluster
		l *load.Load
	)
	BeforeAll(func(ctx SpecContext) {
		c = found(ctx, newNamespace(ctx), "rolled", `{version: 3.5.35, etcd: {snapshotCount: 100}}`)
		c.runs(ctx, c.members(3)...)
		l = c.startLoad(ctx)
	}, NodeTimeout(2*patience))

	It("upgrades from 3.5 to 3.6 and to 3.7, one member at a time, the leader last", func(ctx SpecContext) {
		was := c.get(ctx)
		for _, version := range []string{"3.6.16", "3.7.3"} {
			before, leader, began := c.podUIDs(ctx), c.get(ctx).Status.Leader, time.Now()
			c.edit(ctx, `spec: {version: "`+version+`"}`)
			took := c.rolled(ctx, version, before)
			AddReportEntry("upgrade to "+version, fmt.Sprintf("%s; %s led before, %s leads now; longest time without an acknowledged write: %s, of one writer: %s",
				took.Round(time.Millisecond), leader, c.get(ctx).Status.Leader, l.Gap(began, time.Now()), l.WriterGap(began, time.Now())))
		}
		Expect(ids(c.get(ctx))).To(Equal(ids(was)), "members keep their IDs")
		for _, m := range c.members(3) {
			Expect(c.etcdctl(ctx, m, "endpoint", "status", "-w", "json")).To(ContainSubstring(`"version":"3.7.3"`))
		}
	}, NodeTimeout(2*patience))

	It("refuses a lower minor release, which every member has left", func(ctx SpecContext) {
		err := kube.Patch(ctx, c.object(), client.RawPatch(types.MergePatchType, []byte(`{"spec":{"version":"3.6.16"}}`)))
		Expect(err).To(MatchError(ContainSubstring("3.6.16 is a lower minor release than 3.7.3")))
	}, NodeTimeout(patience))

	It("is downgraded by etcd's own procedure, when that is asked for", func(ctx SpecContext) {
		before, began := c.podUIDs(ctx), time.Now()
		c.edit(ctx, `spec: {version: "3.6.16", update: {downgradeTo: "3.6"}}`)
		took := c.rolled(ctx, "3.6.16", before)
		AddReportEntry("downgrade to 3.6.16", fmt.Sprintf("%s; longest time without an acknowledged write: %s, of one writer: %s",
			took.Round(time.Millisecond), l.Gap(began, time.Now()), l.WriterGap(began, time.Now())))
		Eventually(ctx, func() string { return c.get(ctx).Status.Downgrade }).Should(BeEmpty())
		for _, m := range c.members(3) {
			Expect(c.etcdctl(ctx, m, "endpoint", "status", "-w", "json")).To(And(
				ContainSubstring(`"version":"3.6.16"`), ContainSubstring(`"storageVersion":"3.6.0"`), Not(ContainSubstring(`"enabled":true`))))
		}
	}, NodeTimeout(2*patience))

	It("rolls an option", func(ctx SpecContext) {
		before := c.podUIDs(ctx)
		c.edit(ctx, `spec: {etcd: {snapshotCount: 200}}`)
		c.rolled(ctx, "3.6.16", before)
	}, NodeTimeout(2*patience))

	It("says what it would do, and does nothing, when asked for a plan", func(ctx SpecContext) {
		before := c.podUIDs(ctx)
		annotate := func(value string) {
			Expect(kube.Patch(ctx, c.object(), client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{"`+v1alpha1.AnnotationPlan+`":`+value+`}}}`)))).To(Succeed())
		}
		annotate(`"true"`)
		c.edit(ctx, `spec: {etcd: {heartbeatMs: 90}}`)
		Eventually(ctx, func() []string { return c.get(ctx).Status.Plan }).Should(HaveExactElements(
			HavePrefix("RestartMember:"), HavePrefix("RestartMember:"), HavePrefix("MoveLeader:"), HavePrefix("RestartMember:")))
		Consistently(ctx, func() map[string]types.UID { return c.podUIDs(ctx) }).WithTimeout(3 * time.Second).Should(Equal(before))
		c.edit(ctx, `spec: {etcd: {heartbeatMs: 100}}`)
		Eventually(ctx, func() []string { return c.get(ctx).Status.Plan }).Should(BeEmpty())
		annotate(`null`)
		c.settles(ctx)
		Expect(c.podUIDs(ctx)).To(Equal(before))
	}, NodeTimeout(patience))

	It("restarts nobody for a flag that etcd does not know", func(ctx SpecContext) {
		before := c.podUIDs(ctx)
		c.edit(ctx, `spec: {etcd: {extraArgs: {log-levl: debug}}}`)
		Eventually(ctx, func(g Gomega) {
			stalled := meta.FindStatusCondition(c.get(ctx).Status.Conditions, v1alpha1.ConditionStalled)
			g.Expect(stalled.Reason).To(Equal(v1alpha1.ReasonInvalidOptions))
			g.Expect(stalled.Message).To(ContainSubstring("etcd has no flag log-levl (did you mean log-level?)"))
		}).Should(Succeed())
		Consistently(ctx, func() map[string]types.UID { return c.podUIDs(ctx) }).WithTimeout(3 * time.Second).Should(Equal(before))
		c.edit(ctx, `spec: {etcd: {extraArgs: null}}`)
		c.settles(ctx)
		Expect(c.podUIDs(ctx)).To(Equal(before))
	}, NodeTimeout(2*patience))

	It("gives CPU and memory, and larger volumes, without a restart", func(ctx SpecContext) {
		before := c.podUIDs(ctx)
		c.edit(ctx, `spec: {podTemplate: {resources: {requests: {cpu: 110m, memory: 520Mi}, limits: {memory: 5Gi}}}, storage: {size: 10Gi}}`)
		c.settles(ctx)
		for name, pod := range c.pods(ctx) {
			Expect(pod.UID).To(Equal(before[name]))
			is := pod.Status.ContainerStatuses[0]
			Expect(is.RestartCount).To(BeZero())
			Expect(is.Resources).NotTo(BeNil())
			Expect(is.Resources.Requests.Cpu().String()).To(Equal("110m"), "the kubelet has carried it out")
			Expect(is.Resources.Limits.Memory().String()).To(Equal("5Gi"))
			claim := &corev1.PersistentVolumeClaim{}
			Expect(kube.Get(ctx, client.ObjectKey{Namespace: c.namespace, Name: "data-" + name}, claim)).To(Succeed())
			Expect(claim.Status.Capacity.Storage().String()).To(Equal("10Gi"))
		}
	}, NodeTimeout(2*patience))

	It("halts at an image that is not there, says so, and goes back", func(ctx SpecContext) {
		before := c.podUIDs(ctx)
		c.edit(ctx, `spec: {version: "3.6.99"}`)
		var halted string
		Eventually(ctx, func(g Gomega) {
			object := c.get(ctx)
			stalled := meta.FindStatusCondition(object.Status.Conditions, v1alpha1.ConditionStalled)
			g.Expect(stalled.Reason).To(Equal(v1alpha1.ReasonImagePullFailed))
			g.Expect(stalled.Message).To(And(ContainSubstring("v3.6.99"), ContainSubstring("correct spec.version")))
			g.Expect(object.Status.Operation).NotTo(BeNil())
			g.Expect(object.Status.Operation.Kind).To(Equal(v1alpha1.ReasonUpgrading))
			halted = object.Status.Operation.BlockedBy
		}).Should(Succeed())
		Expect(halted).To(ContainSubstring("not healthy"))
		others := func() map[string]types.UID {
			now := c.podUIDs(ctx)
			maps.DeleteFunc(now, func(name string, uid types.UID) bool { return before[name] != uid })
			return now
		}
		Consistently(ctx, others).WithTimeout(5*time.Second).Should(HaveLen(2), "nobody else is restarted")
		c.edit(ctx, `spec: {version: "3.6.16"}`)
		Eventually(ctx, func(g Gomega) {
			object := c.get(ctx)
			g.Expect(meta.IsStatusConditionTrue(object.Status.Conditions, v1alpha1.ConditionReady)).To(BeTrue())
			g.Expect(object.Status.Version).To(Equal("3.6.16"))
			g.Expect(object.Status.ObservedGeneration).To(Equal(object.Generation))
		}).Should(Succeed())
		Expect(others()).To(HaveLen(2))
	}, NodeTimeout(2*patience))

	It("halts at a value that etcd does not start with: the first member crash-loops, nobody is replaced, no other pod is restarted", func(ctx SpecContext) {
		was, before := c.get(ctx), lives(c.pods(ctx))
		c.edit(ctx, `spec: {etcd: {extraArgs: {log-level: loud}}}`)
		c.reports(ctx, patience, v1alpha1.ConditionStalled, "True", v1alpha1.ReasonMemberCrashLooping, "the member cannot serve")
		c.says(ctx, Default, v1alpha1.ConditionAvailable, "True", v1alpha1.ReasonProbeSucceeded, "")
		others := func() map[string]string {
			now := lives(c.pods(ctx))
			maps.DeleteFunc(now, func(name, life string) bool { return before[name] != life })
			return now
		}
		Consistently(ctx, others).WithTimeout(5*time.Second).Should(HaveLen(2), "pods that were left alone")
		c.edit(ctx, `spec: {etcd: {extraArgs: null}}`)
		c.settles(ctx)
		Expect(others()).To(HaveLen(2))
		Expect(ids(c.get(ctx))).To(Equal(ids(was)))
		Expect(c.get(ctx).Status.NextOrdinal).To(Equal(was.Status.NextOrdinal))
	}, NodeTimeout(2*patience))

	It("lost nothing, and nobody noticed", func(ctx SpecContext) {
		holds(ctx, l)
	}, NodeTimeout(patience))
})

var _ = Describe("An upgrade of one member", Label(deep), func() {
	It("says beforehand that nobody is served meanwhile, and may be put back before it is done", func(ctx SpecContext) {
		c := found(ctx, newNamespace(ctx), "single", `{size: 1, version: 3.6.16}`)
		c.runs(ctx, c.members(1)...)
		before := c.podUIDs(ctx)
		c.edit(ctx, `spec: {version: "3.7.3"}`)
		c.rolled(ctx, "3.7.3", before)
		out, err := kubectl(ctx, "-n", c.namespace, "get", "events", "-o", "jsonpath={.items[*].message}")
		Expect(err).NotTo(HaveOccurred())
		Expect(strings.Contains(out, "it is the only member, so nobody is served meanwhile")).To(BeTrue(), out)
	}, NodeTimeout(patience))
})

var _ = Describe("A change of the storage class", Label(deep), func() {
	It("takes another member, which joins before the old one goes, and keeps the old volume", func(ctx SpecContext) {
		c := found(ctx, newNamespace(ctx), "moved", `{size: 1}`)
		c.runs(ctx, c.members(1)...)
		c.etcdctl(ctx, c.member(0), "put", "moved", "along")
		c.edit(ctx, `spec: {storage: {storageClassName: local}}`)
		Eventually(ctx, func(g Gomega) {
			pods := c.pods(ctx)
			g.Expect(pods).To(HaveLen(1))
			g.Expect(pods).To(HaveKey(c.member(1)))
		}).Should(Succeed())
		c.settles(ctx)
		Expect(c.etcdctl(ctx, c.member(1), "get", "moved", "--print-value-only")).To(ContainSubstring("along"))
		claims := c.claims(ctx)
		Expect(claims["data-"+c.member(1)].Spec.StorageClassName).To(HaveValue(Equal("local")))
		c.quarantines(ctx, c.member(0))
	}, NodeTimeout(2*patience))
})

// media is the medium of the data in each pod.
func (c cluster) media(ctx context.Context) map[string]v1alpha1.StorageMedium {
	GinkgoHelper()
	out := map[string]v1alpha1.StorageMedium{}
	for name, pod := range c.pods(ctx) {
		out[name] = v1alpha1.MediumDisk
		for _, v := range pod.Spec.Volumes {
			if v.Name == "data" && v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumMemory {
				out[name] = v1alpha1.MediumMemory
			}
		}
	}
	return out
}

var _ = Describe("A change of the medium under load", Label(deep), Ordered, SpecPriority(89), func() {
	var (
		c cluster
		l *load.Load
	)
	BeforeAll(func(ctx SpecContext) {
		c = found(ctx, newNamespace(ctx), "medium", `{storage: {size: 1Gi}, etcd: {quotaBackendBytes: 512Mi},
			podTemplate: {resources: {requests: {memory: 256Mi}, limits: {memory: 1280Mi}}}}`)
		c.runs(ctx, c.members(3)...)
		l = c.startLoad(ctx)
	}, NodeTimeout(2*patience))

	for _, medium := range []v1alpha1.StorageMedium{v1alpha1.MediumMemory, v1alpha1.MediumDisk} {
		It("to "+string(medium)+" takes other members, each of which votes before the one goes that it replaces", func(ctx SpecContext) {
			was, began := c.voters(ctx), time.Now()
			fewest := c.fewestVoters(ctx, c.members(9)...)
			c.edit(ctx, `spec: {storage: {medium: `+string(medium)+`}}`)
			Eventually(ctx, func(g Gomega) {
				g.Expect(c.media(ctx)).To(And(HaveLen(3), HaveEach(medium)))
				g.Expect(c.get(ctx).Status.Operation).To(BeNil())
			}).Should(Succeed())
			c.settles(ctx)
			Expect(fewest()).To(BeNumerically(">=", 3))
			Expect(c.voters(ctx)).To(And(HaveLen(3), Not(ContainElements(was[0])), Not(ContainElements(was[1])), Not(ContainElements(was[2]))))
			if medium == v1alpha1.MediumMemory {
				for _, m := range was {
					c.quarantines(ctx, m)
				}
			}
			AddReportEntry("to "+string(medium), fmt.Sprintf("%s; longest time without an acknowledged write: %s",
				time.Since(began).Round(time.Millisecond), l.Gap(began, time.Now())))
		}, NodeTimeout(2*patience))
	}

	It("loses nothing that was acknowledged", func(ctx SpecContext) { holds(ctx, l) }, NodeTimeout(patience))
})
