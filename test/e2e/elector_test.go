package e2e

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/test/soak/testbed"
)

const (
	electorProgram = "/leader-elector"
	electorApp     = "leader-example"
	electorLabel   = "leader.quorate.dev/role"
	// ttl of the example's lease.
	ttl = 10 * time.Second
	// shortly is what a handover may take on a busy machine with two cores. It is shorter than
	// a lease that nobody has released takes to run out: two thirds of ttl at the least.
	shortly = 5 * time.Second
)

// election of three replicas with the leader-elector beside them.
type election struct{ namespace string }

var _ = Describe("The leader-elector", Ordered, func() {
	var e election
	BeforeAll(func(ctx SpecContext) {
		e = deployElection(ctx, "label")
		e.agree(ctx, patience)
	}, NodeTimeout(patience))

	It("tells every replica the same, and holds a Lease as client-go does", func(ctx SpecContext) {
		leader := e.agree(ctx, shortly)
		for _, pod := range e.pods(ctx) {
			Expect(e.ask(ctx, pod.Name)).To(Equal(`{"name":"` + leader + `"}`))
			Expect(kubectl(ctx, "-n", e.namespace, "exec", pod.Name, "--", electorProgram, "status")).To(ContainSubstring(`"name":"` + leader + `"`))
		}
		lock := &resourcelock.LeaseLock{LeaseMeta: metav1.ObjectMeta{Namespace: e.namespace, Name: "example"}, Client: api.CoordinationV1()}
		record, _, err := lock.Get(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(record.HolderIdentity).To(Equal(leader))
		Expect(record.LeaseDurationSeconds).To(BeEquivalentTo(ttl.Seconds()))
		Expect(record.RenewTime.Time).To(BeTemporally("~", time.Now(), ttl))
		Expect(record.AcquireTime.Time).NotTo(BeTemporally(">", record.RenewTime.Time))
		e.labels(ctx, leader)
	}, NodeTimeout(patience))

	It("has another one lead without waiting for the lease when the leader is deleted", func(ctx SpecContext) {
		old := e.agree(ctx, shortly)
		Expect(kube.Delete(ctx, named[corev1.Pod](e.namespace, old))).To(Succeed())
		leader := e.follows(ctx, old, shortly)
		e.labels(ctx, leader)
		Eventually(ctx, func() []corev1.Pod { return e.pods(ctx) }).Should(HaveLen(3), "a third replica, which may be asked")
	}, NodeTimeout(patience))

	It("begins another term when the leader's process is killed", Label(local), func(ctx SpecContext) {
		pod := e.pod(ctx, e.agree(ctx, shortly))
		before := ptr.Deref(e.lease(ctx).Spec.LeaseTransitions, 0)
		Expect(syscall.Kill(electorProcess(pod), syscall.SIGKILL)).To(Succeed())
		// The pod itself, if its container is started again in time; or another one.
		Eventually(ctx, func() int32 { return ptr.Deref(e.lease(ctx).Spec.LeaseTransitions, 0) }).
			WithTimeout(ttl + shortly).Should(Equal(before + 1))
		e.agree(ctx, patience)
	}, NodeTimeout(patience))

	It("never lets a leader claim that was frozen beyond its lease", Label(local), func(ctx SpecContext) {
		old := e.agree(ctx, shortly)
		frozen := electorProcess(e.pod(ctx, old))
		DeferCleanup(func() { _ = syscall.Kill(frozen, syscall.SIGCONT) })
		Expect(syscall.Kill(frozen, syscall.SIGSTOP)).To(Succeed())
		leader := e.follows(ctx, old, ttl+shortly)
		// Who cannot do it itself has its label taken off.
		e.labels(ctx, leader)
		first := make(chan string, 1)
		go func() {
			defer GinkgoRecover()
			first <- e.ask(ctx, old)
		}()
		// The question waits in the kernel, so it is answered as soon as the process
		// goes on.
		Consistently(ctx, first).WithTimeout(500 * time.Millisecond).ShouldNot(Receive())
		Expect(syscall.Kill(frozen, syscall.SIGCONT)).To(Succeed())
		var answer string
		Eventually(ctx, first).Should(Receive(&answer))
		Expect(answer).To(Or(Equal(`{"name":""}`), Equal(`{"name":"`+leader+`"}`)))
		Expect(e.agree(ctx, shortly)).To(Equal(leader))
		e.labels(ctx, leader)
	}, NodeTimeout(patience))

	It("holds the election anew when its Lease is deleted by hand, after everybody has waited", func(ctx SpecContext) {
		old := e.lease(ctx)
		began := time.Now()
		Expect(kube.Delete(ctx, old)).To(Succeed())
		Eventually(ctx, func() error { return kube.Get(ctx, client.ObjectKeyFromObject(old), &coordinationv1.Lease{}) }).
			WithTimeout(ttl + shortly).Should(Succeed())
		Expect(time.Since(began)).To(BeNumerically(">", ttl-2*time.Second), "who saw it held may still believe in it")
		Expect(e.lease(ctx).UID).NotTo(Equal(old.UID))
		e.labels(ctx, e.agree(ctx, shortly))
	}, NodeTimeout(patience))
})

// deployElection applies one of config/leader-elector to a namespace of its own.
func deployElection(ctx context.Context, variant string) election {
	GinkgoHelper()
	return deployElectionIn(ctx, newNamespace(ctx), variant)
}

func deployElectionIn(ctx context.Context, namespace, variant string, args ...string) election {
	GinkgoHelper()
	image := electorImage()
	e := election{namespace}
	manifests, err := kubectl(ctx, "kustomize", filepath.Join(root, "config", "leader-elector", variant))
	Expect(err).NotTo(HaveOccurred())
	for _, arg := range args {
		manifests = strings.ReplaceAll(manifests, "- --election=example", "- --election=example\n        - "+arg)
	}
	manifests = regexp.MustCompile(`ghcr\.io/quorate/leader-elector:\S+`).ReplaceAllLiteralString(manifests, image)
	Expect(kubectlWith(ctx, manifests, "-n", e.namespace, "apply", "-f", "-")).Error().NotTo(HaveOccurred())
	DeferCleanup(func(ctx SpecContext) {
		Expect(kubectl(ctx, "-n", e.namespace, "delete", "deployment", electorApp)).Error().NotTo(HaveOccurred())
	}, NodeTimeout(patience))
	Expect(kubectl(ctx, "-n", e.namespace, "rollout", "status", "deployment/"+electorApp, "--timeout=90s")).Error().NotTo(HaveOccurred())
	return e
}

// electorImage is what the user names, or what make images has made.
func electorImage() string {
	GinkgoHelper()
	if image := os.Getenv("LEADER_ELECTOR_IMAGE"); image != "" {
		return image
	}
	if existing() {
		Skip("LEADER_ELECTOR_IMAGE names no image that this cluster can pull")
	}
	tag, err := os.ReadFile(filepath.Join(root, ".cluster", "images", "leader-elector.tag"))
	Expect(err).NotTo(HaveOccurred())
	return "ghcr.io/quorate/leader-elector:" + strings.TrimSpace(string(tag))
}

// pods of the election that are not on their way out.
func (e election) pods(ctx context.Context) []corev1.Pod {
	GinkgoHelper()
	var list corev1.PodList
	Expect(kube.List(ctx, &list, client.InNamespace(e.namespace), client.MatchingLabels{"app.kubernetes.io/name": electorApp})).To(Succeed())
	var out []corev1.Pod
	for _, pod := range list.Items {
		if pod.DeletionTimestamp == nil && ready(pod) {
			out = append(out, pod)
		}
	}
	return out
}

func (e election) pod(ctx context.Context, name string) corev1.Pod {
	GinkgoHelper()
	pod := named[corev1.Pod](e.namespace, name)
	Expect(kube.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
	return *pod
}

func (e election) lease(ctx context.Context) *coordinationv1.Lease {
	GinkgoHelper()
	lease := named[coordinationv1.Lease](e.namespace, "example")
	Expect(kube.Get(ctx, client.ObjectKeyFromObject(lease), lease)).To(Succeed())
	return lease
}

// ask a replica who leads, as kubectl proxy does; an error is an answer, too.
func (e election) ask(ctx context.Context, pod string) string {
	body, err := api.CoreV1().RESTClient().Get().Namespace(e.namespace).Resource("pods").Name(pod + ":4040").SubResource("proxy").Suffix("/").DoRaw(ctx)
	if err != nil {
		return err.Error()
	}
	return string(body)
}

// agree waits until all replicas name the holder of the Lease, and returns it. One that has
// just started does so when it has seen a renewal.
func (e election) agree(ctx context.Context, within time.Duration) (leader string) {
	GinkgoHelper()
	Eventually(ctx, func(g Gomega) {
		leader = ptr.Deref(e.lease(ctx).Spec.HolderIdentity, "")
		g.Expect(leader).NotTo(BeEmpty())
		for _, pod := range e.pods(ctx) {
			g.Expect(e.ask(ctx, pod.Name)).To(Equal(`{"name":"`+leader+`"}`), pod.Name)
		}
	}).WithTimeout(within + ttl/3).Should(Succeed())
	return leader
}

// follows waits until another one leads than the old one, which is not asked, and all
// others name it.
func (e election) follows(ctx context.Context, old string, within time.Duration) (leader string) {
	GinkgoHelper()
	others := e.pods(ctx)
	Eventually(ctx, func(g Gomega) {
		leader = ptr.Deref(e.lease(ctx).Spec.HolderIdentity, "")
		g.Expect(leader).NotTo(BeElementOf("", old))
		for _, pod := range others {
			if pod.Name != old {
				g.Expect(e.ask(ctx, pod.Name)).To(Equal(`{"name":"`+leader+`"}`), pod.Name)
			}
		}
	}).WithTimeout(within).Should(Succeed())
	return leader
}

// labels waits until the label is on the leader's pod, and on no other one.
func (e election) labels(ctx context.Context, leader string) {
	GinkgoHelper()
	Eventually(ctx, func(g Gomega) {
		var out []string
		for _, pod := range e.pods(ctx) {
			if pod.Labels[electorLabel] != "" {
				out = append(out, pod.Name+"="+pod.Labels[electorLabel])
			}
		}
		g.Expect(out).To(Equal([]string{leader + "=leader"}))
	}).WithTimeout(ttl).Should(Succeed())
}

// electorProcess is the one that contends; the example's application is the same
// program.
func electorProcess(pod corev1.Pod) int {
	GinkgoHelper()
	pids, err := testbed.Processes(pod, electorProgram)
	Expect(err).NotTo(HaveOccurred())
	for _, pid := range pids {
		command, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
		Expect(err).NotTo(HaveOccurred())
		if bytes.Contains(command, []byte("\x00--election=")) {
			return pid
		}
	}
	Fail("no leader-elector runs in " + pod.Name)
	return 0
}
