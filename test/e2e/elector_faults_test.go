package e2e

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"golang.org/x/sys/unix"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/leader"
	"github.com/quorate/quorate/test/legacy"
	"github.com/quorate/quorate/test/soak/testbed"
)

var _ = Describe("The leader-elector, beside 0.5,", Label(deep), func() {
	It("never leads together with it in a rolling update, there and back", func(ctx SpecContext) {
		const lease = 8 * time.Second
		namespace := newNamespace(ctx)
		var olds []*legacy.Candidate
		run, crash := context.WithCancel(ctx)
		DeferCleanup(crash)
		var all sync.WaitGroup
		for i := range 2 {
			olds = append(olds, &legacy.Candidate{ID: "old-" + strconv.Itoa(i), TTL: lease, Endpoints: legacyEndpoints{namespace}})
			all.Go(func() { olds[i].Run(run, func() {}) })
		}
		oneLeads := func() bool { return olds[0].Leads() != olds[1].Leads() }
		Eventually(ctx, oneLeads).Should(BeTrue())

		By("rolling the new ones out beside 0.5, which leads on")
		e := deployElectionIn(ctx, namespace, "legacy", "--ttl="+lease.String())
		Consistently(ctx, func(g Gomega) {
			// Nobody may, for a moment: 0.5 gives up when it is late by half of its ttl.
			g.Expect(olds[0].Leads() && olds[1].Leads()).To(BeFalse())
			for _, pod := range e.pods(ctx) {
				g.Expect(e.ask(ctx, pod.Name)).To(Equal(`{"name":""}`))
			}
		}).WithTimeout(2 * lease).Should(Succeed())
		held := func() error {
			return kube.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "example"}, &coordinationv1.Lease{})
		}
		Expect(apierrors.IsNotFound(held())).To(BeTrue(), "nobody has written the Lease")

		By("ending 0.5: one of the new ones leads, and keeps 0.5 out")
		crash()
		all.Wait()
		Eventually(ctx, held).WithTimeout(2 * lease).Should(Succeed())
		e.agree(ctx, shortly)
		again, end := context.WithCancel(ctx)
		DeferCleanup(end)
		DeferCleanup(all.Wait)
		for _, o := range olds {
			all.Go(func() { o.Run(again, func() {}) })
		}
		Consistently(ctx, func(g Gomega) {
			g.Expect(olds[0].Leads() || olds[1].Leads()).To(BeFalse())
		}).WithTimeout(2 * lease).Should(Succeed())
		e.agree(ctx, shortly)

		By("rolling back: 0.5 leads when the last of the new ones has ended")
		Expect(kubectl(ctx, "-n", namespace, "scale", "deployment", electorApp, "--replicas=0")).Error().NotTo(HaveOccurred())
		Eventually(ctx, oneLeads).Should(BeTrue())
		// The lock of 0.5 is given up first.
		Eventually(ctx, func() string { return ptr.Deref(e.lease(ctx).Spec.HolderIdentity, "") }).Should(BeEmpty(), "the new ones hold nothing any more")
		end()
	}, NodeTimeout(2*patience))
})

// legacyEndpoints are those of the example's election.
type legacyEndpoints struct{ namespace string }

func (e legacyEndpoints) New() metav1.Object {
	return &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: e.namespace, Name: "example"}} //nolint:staticcheck // what 0.5 locks
}

func (e legacyEndpoints) Get(ctx context.Context) (metav1.Object, error) {
	return api.CoreV1().Endpoints(e.namespace).Get(ctx, "example", metav1.GetOptions{})
}

func (e legacyEndpoints) Put(ctx context.Context, object metav1.Object) error {
	endpoints := object.(*corev1.Endpoints) //nolint:staticcheck // what 0.5 locks
	if endpoints.ResourceVersion == "" {
		_, err := api.CoreV1().Endpoints(e.namespace).Create(ctx, endpoints, metav1.CreateOptions{})
		return err
	}
	_, err := api.CoreV1().Endpoints(e.namespace).Update(ctx, endpoints, metav1.UpdateOptions{})
	return err
}

var _ = Describe("Thirty candidates in two elections", Label(deep), func() {
	It("never have two leaders, whoever gives up, and one soon after", func(ctx SpecContext) {
		const candidates, terms = 30, 50
		leases, err := leader.ForConfig(config)
		Expect(err).NotTo(HaveOccurred())
		namespace := newNamespace(ctx)
		for _, name := range []string{"first", "second"} {
			DeferCleanup(startCandidates(ctx, leases, namespace, name, candidates, terms))
		}
	}, NodeTimeout(patience))
})

// startCandidates runs an election and returns what waits for its end: each leader works
// for a moment and gives up, until there have been so many terms.
func startCandidates(ctx context.Context, leases leader.Leases, namespace, name string, candidates, terms int) func(SpecContext) {
	GinkgoHelper()
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	var led, at atomic.Int64
	var token atomic.Uint64
	var all sync.WaitGroup
	for i := range candidates {
		e, err := leader.New(leader.Config{
			Election: name, Namespace: namespace, Identity: fmt.Sprintf("%s-%02d", name, i), LeaseDuration: ttl, Leases: leases,
			Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		})
		Expect(err).NotTo(HaveOccurred())
		all.Go(func() {
			defer GinkgoRecover()
			Expect(e.Run(ctx)).To(Succeed())
		})
		all.Go(func() {
			defer GinkgoRecover()
			_ = e.Do(ctx, func(term context.Context, t *leader.Term) error {
				defer at.Store(0)
				Expect(at.CompareAndSwap(0, int64(i)+1)).To(BeTrue(), "two lead in %s", name)
				Expect(uint64(t.Token())).To(BeNumerically(">", token.Swap(uint64(t.Token()))), "tokens grow")
				time.Sleep(rand.N(100 * time.Millisecond))
				if led.Add(1) < int64(terms) {
					go func() { _ = e.Resign(ctx, time.Second) }()
				}
				<-term.Done()
				return nil
			})
		})
	}
	return func(ctx SpecContext) {
		defer all.Wait()
		defer stop()
		began := time.Now()
		Eventually(ctx, led.Load).Should(BeEquivalentTo(terms))
		AddReportEntry(name, fmt.Sprintf("%d terms of %d candidates in %s", terms, candidates, time.Since(began).Round(time.Millisecond)))
	}
}

// Alone and last of all: they disturb every cluster that is there.
var _ = Describe("The leader-elector's answer", Label(local, deep), Ordered, Serial, SpecPriority(-300), func() {
	var e election
	BeforeAll(func(ctx SpecContext) {
		e = deployElection(ctx, "native")
		e.agree(ctx, patience)
	}, NodeTimeout(patience))

	It("is never that of two leaders when the leader's node is cut off", func(ctx SpecContext) {
		old := e.agree(ctx, shortly)
		w := e.watch(ctx)
		node := e.pod(ctx, old).Spec.NodeName
		DeferCleanup(func(ctx SpecContext) { nodesReturn(ctx, node) }, NodeTimeout(patience))
		Expect(machine(ctx, "partition", node)).Error().NotTo(HaveOccurred())
		began := time.Now()
		Eventually(ctx, func() string { return w.answer(old) }).WithTimeout(ttl).Should(Equal(`{"name":""}`))
		silent := time.Since(began)
		Expect(silent).To(BeNumerically("<", ttl), "another one may lead from then on")
		Eventually(ctx, w.leaders).WithTimeout(ttl + shortly).Should(HaveLen(1))
		AddReportEntry("cut off", fmt.Sprintf("it stopped claiming after %s, another one led after %s", silent, time.Since(began)))
		Expect(machine(ctx, "heal", node)).Error().NotTo(HaveOccurred())
		nodeBecomes(ctx, node, true)
		Expect(e.agree(ctx, patience)).NotTo(Equal(old))
		w.end()
	}, NodeTimeout(2*patience))

	It("is that nobody leads while the API server says nothing, and one leads when it goes on; etcd clusters serve, and nobody of theirs is replaced", func(ctx SpecContext) {
		c := found(ctx, newNamespace(ctx), "left", `{}`)
		c.runs(ctx, c.members(3)...)
		l, was, pods := c.startLoad(ctx), c.get(ctx), c.pods(ctx)
		followers, _ := c.followers(ctx)
		etcd, err := testbed.Processes(pods[followers[0]], testbed.Etcd)
		Expect(err).NotTo(HaveOccurred())
		e.agree(ctx, shortly)
		w := e.watch(ctx)
		pid := machineProcess("kube-apiserver")
		DeferCleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
		Expect(syscall.Kill(pid, syscall.SIGSTOP)).To(Succeed())
		began := time.Now()
		Eventually(ctx, w.leaders).WithTimeout(ttl).Should(BeEmpty())
		Expect(time.Since(began)).To(BeNumerically("<", ttl), "another one might lead from then on")
		for _, pid := range etcd {
			Expect(syscall.Kill(pid, syscall.SIGKILL)).To(Succeed())
		}
		Consistently(ctx, w.leaders).WithTimeout(time.Until(began.Add(time.Minute))).Should(BeEmpty())
		Expect(syscall.Kill(pid, syscall.SIGCONT)).To(Succeed())
		Eventually(ctx, w.leaders).WithTimeout(2*ttl + shortly).Should(HaveLen(1))
		AddReportEntry("after a minute without an API server", "one led again after "+(time.Since(began)-time.Minute).String())
		w.end()
		for _, node := range []string{"node1", "node2", "node3"} {
			nodeBecomes(ctx, node, true)
		}
		operatorWorks(ctx)
		c.comesBack(ctx, pods)
		Expect(ids(c.get(ctx))).To(Equal(ids(was)), "members keep their IDs")
		Expect(c.get(ctx).Status.NextOrdinal).To(Equal(was.Status.NextOrdinal), "nobody else was thought of")
		holds(ctx, l)
	}, NodeTimeout(2*patience))
})

// machineProcess is one of the local cluster's own.
func machineProcess(name string) int {
	GinkgoHelper()
	text, err := os.ReadFile(filepath.Join(root, ".cluster", "run", name+".pid"))
	Expect(err).NotTo(HaveOccurred())
	pid, err := strconv.Atoi(strings.Fields(string(text))[0])
	Expect(err).NotTo(HaveOccurred())
	return pid
}

// electionWatch asks every replica from within its own pod, all the time: neither the
// API server nor the nodes' network is needed for that.
type electionWatch struct {
	processes map[string]int
	stop      context.CancelFunc
	ended     sync.WaitGroup

	mu   sync.Mutex
	said map[string]string
	// two that claimed at once, if there were any.
	two []string
}

func (e election) watch(ctx context.Context) *electionWatch {
	GinkgoHelper()
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	w := &electionWatch{processes: map[string]int{}, said: map[string]string{}, stop: stop}
	for _, pod := range e.pods(ctx) {
		w.processes[pod.Name] = electorProcess(pod)
	}
	DeferCleanup(stop)
	w.ended.Go(func() {
		for ctx.Err() == nil {
			w.round(ctx)
			time.Sleep(10 * time.Millisecond)
		}
	})
	Eventually(ctx, w.leaders).WithTimeout(shortly).Should(HaveLen(1))
	return w
}

// round asks all of them, one after the other. Should two have claimed, and the first one
// claim still, both did when the second one was asked.
func (w *electionWatch) round(ctx context.Context) {
	said := map[string]string{}
	var claim []string
	for pod, pid := range w.processes {
		said[pod] = askWithin(ctx, pid)
		if said[pod] == `{"name":"`+pod+`"}` {
			claim = append(claim, pod)
		}
	}
	both := len(claim) > 1 && askWithin(ctx, w.processes[claim[0]]) == said[claim[0]]
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.said = said; both && w.two == nil {
		w.two = claim
	}
}

// leaders are those that claim to be one.
func (w *electionWatch) leaders() (out []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for pod, answer := range w.said {
		if answer == `{"name":"`+pod+`"}` {
			out = append(out, pod)
		}
	}
	return out
}

func (w *electionWatch) answer(pod string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.said[pod]
}

// end of the watch, in which there never were two.
func (w *electionWatch) end() {
	GinkgoHelper()
	w.stop()
	w.ended.Wait()
	Expect(w.two).To(BeEmpty(), "two claimed to lead at once")
}

// askWithin asks who leads in the network of a process; an error is an answer, too.
func askWithin(ctx context.Context, pid int) string {
	answer := make(chan string, 1)
	go func() {
		// The thread has another network from here on, and ends with this function.
		runtime.LockOSThread()
		text, err := askIn(ctx, pid)
		if err != nil {
			text = err.Error()
		}
		answer <- text
	}()
	return <-answer
}

func askIn(ctx context.Context, pid int) (string, error) {
	network, err := os.Open(filepath.Join("/proc", strconv.Itoa(pid), "ns", "net"))
	if err != nil {
		return "", fmt.Errorf("finding the network of %d: %w", pid, err)
	}
	defer func() { _ = network.Close() }()
	if err := unix.Setns(int(network.Fd()), unix.CLONE_NEWNET); err != nil {
		return "", fmt.Errorf("entering the network of %d: %w", pid, err)
	}
	// An address needs no other thread to be connected to, and a socket keeps its
	// network.
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp4", "127.0.0.1:4040")
	if err != nil {
		return "", fmt.Errorf("connecting in the network of %d: %w", pid, err)
	}
	one := &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost:4040/", http.NoBody)
	if err != nil {
		return "", fmt.Errorf("asking %d: %w", pid, err)
	}
	response, err := (&http.Client{Transport: one, Timeout: time.Second}).Do(request)
	if err != nil {
		return "", fmt.Errorf("asking %d: %w", pid, err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}
