package e2e

import (
	"context"
	"fmt"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/internal/pki"
	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/test/load"
)

// hasty is how many writes per second are tried by clients that would notice a millisecond.
// One client waits for each answer before its next write, so that it takes as many as writes
// are under way at that rate, some 60 ms each on two processors that do other work besides.
const (
	hasty   = 1000
	writers = 64
)

// plaintextLoad writes to the cluster without TLS.
func (c cluster) plaintextLoad(ctx context.Context) *load.Load {
	GinkgoHelper()
	var endpoints []string
	for _, m := range c.voters(ctx) {
		endpoints = append(endpoints, strings.Replace(c.bed().Endpoint(m), "https://", "http://", 1))
	}
	l, err := load.Start(ctx, load.Config{
		Endpoints: endpoints, Dial: dialHost(c.namespace), Writers: writers, WriteRate: hasty, ContendRate: contendRate,
		// What is late on two busy processors is not unanswered, which is counted here.
		Timeout: 3 * time.Second,
	})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(l.Abort)
	return l
}

// taken says of each member which schemes its pod takes.
func (c cluster) taken(ctx context.Context) map[string]string {
	GinkgoHelper()
	out := map[string]string{}
	for name, pod := range c.pods(ctx) {
		plaintext, tls := resources.Taken(&pod)
		out[name] = fmt.Sprintf("plaintext %v, TLS %v", plaintext, tls)
	}
	return out
}

var _ = Describe("TLS that is turned on under load", Label(deep), Ordered, SpecPriority(94), func() {
	var (
		c                    cluster
		plaintext, protected *load.Load
	)
	BeforeAll(func(ctx SpecContext) {
		c = found(ctx, newNamespace(ctx), "turned", `{tls: {mode: Disabled}}`)
		c.runs(ctx, c.members(3)...)
		plaintext = c.plaintextLoad(ctx)
	}, NodeTimeout(2*patience))

	AfterAll(func() {
		// It outlives the spec that starts it.
		if protected != nil {
			protected.Abort()
		}
	})

	It("is refused for all clients at once", func(ctx SpecContext) {
		err := kube.Patch(ctx, c.object(), client.RawPatch(types.MergePatchType, []byte(`{"spec":{"tls":{"mode":"Enabled"}}}`)))
		Expect(err).To(MatchError(ContainSubstring("set Optional, lead the clients over to TLS, and then set Enabled")))
	}, NodeTimeout(patience))

	It("is given to whoever wants it, and members reach each other by it", func(ctx SpecContext) {
		was, before, began := c.get(ctx), c.podUIDs(ctx), time.Now()
		c.edit(ctx, `spec: {tls: {mode: Optional}}`)
		Eventually(ctx, func(g Gomega) {
			_, err := c.bed().Credentials(ctx)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(c.taken(ctx)).To(ContainElement("plaintext true, TLS true"))
		}).Should(Succeed())
		config, err := c.bed().Load(ctx)
		Expect(err).NotTo(HaveOccurred())
		config.WriteRate, config.ContendRate = writeRate, contendRate
		protected, err = load.Start(ctx, config)
		Expect(err).NotTo(HaveOccurred())

		took := c.rolled(ctx, "3.6.16", before)
		Expect(c.taken(ctx)).To(HaveEach("plaintext true, TLS true"))
		list, err := c.bed().List(ctx, c.members(3)...)
		Expect(err).NotTo(HaveOccurred())
		for _, m := range list {
			Expect(m.PeerURLs).To(HaveExactElements(HavePrefix("https://")))
			Expect(m.PeerURLs[0]).To(HaveSuffix(":2383"), "2380 takes plaintext")
		}
		Expect(c.get(ctx).Status.PlaintextPeers).To(BeFalse())
		Expect(ids(c.get(ctx))).To(Equal(ids(was)), "members keep their IDs")
		AddReportEntry("turned on", fmt.Sprintf("%s; longest time without an acknowledged write: %s, of one writer: %s",
			took.Round(time.Millisecond), plaintext.Gap(began, time.Now()), plaintext.WriterGap(began, time.Now())))
	}, NodeTimeout(3*patience))

	It("is not noticed by clients without", func(ctx SpecContext) {
		report, err := plaintext.Stop(ctx)
		AddReportEntry("load", report.String())
		Expect(err).NotTo(HaveOccurred())
		writes := report.Operations["write"]
		AddReportEntry("writes", fmt.Sprintf("%.0f/s of %d, %+v", float64(writes.Acknowledged)/report.Seconds, hasty, writes))
		// What is on its way through a member that stops, or to a leader that hands over, may
		// never be answered; nothing but that, once for each of the three restarts.
		Expect(writes.Refused).To(BeZero(), "writes that were refused")
		Expect(writes.Unknown).To(BeNumerically("<=", 3*writers), "writes that nobody answered")
		Expect(float64(writes.Acknowledged)/report.Seconds).To(BeNumerically(">", hasty/10), "writes per second")
	}, NodeTimeout(patience))

	It("takes plaintext away when that is asked for, and from nobody before", func(ctx SpecContext) {
		before, began := c.podUIDs(ctx), time.Now()
		c.edit(ctx, `spec: {tls: {mode: Enabled}}`)
		took := c.rolled(ctx, "3.6.16", before)
		Expect(c.taken(ctx)).To(HaveEach("plaintext false, TLS true"))
		for _, m := range c.members(3) {
			for _, port := range []int{resources.ClientPort, resources.PeerPort, resources.TurnedPeerPort} {
				code, _, err := c.ask(ctx, m, port, "/version", nil)
				Expect(err != nil || code == 400).To(BeTrue(), "%s takes plaintext on port %d", m, port)
			}
		}
		AddReportEntry("plaintext taken away", fmt.Sprintf("%s; longest time without an acknowledged write: %s, of one writer: %s",
			took.Round(time.Millisecond), protected.Gap(began, time.Now()), protected.WriterGap(began, time.Now())))
		Expect(c.secret(ctx, pki.PeerCASecret(c.name))).To(HaveKey(pki.KeyCert))
	}, NodeTimeout(2*patience))

	It("is not noticed by clients with", func(ctx SpecContext) {
		holds(ctx, protected)
	}, NodeTimeout(patience))
})
