package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/quorate/quorate/api/v1alpha1"
)

// client to all members of three.
func (c cluster) client(ctx context.Context) *clientv3.Client {
	GinkgoHelper()
	client, err := c.bed().Client(ctx, c.voters(ctx)...)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(client.Close)
	return client
}

// fill writes values of a mebibyte until etcd has no space for another.
func fill(ctx context.Context, client *clientv3.Client, key func(i int) string) (puts int) {
	GinkgoHelper()
	for ; puts < 200; puts++ {
		within, cancel := context.WithTimeout(ctx, 10*time.Second)
		_, err := client.Put(within, key(puts), strings.Repeat("x", 1<<20))
		cancel()
		if err != nil {
			Expect(err).To(MatchError(rpctypes.ErrNoSpace))
			return puts
		}
	}
	Fail("the quota was not enforced")
	return puts
}

// alarms that etcd has raised.
func alarms(ctx context.Context, client *clientv3.Client) []string {
	GinkgoHelper()
	r, err := client.AlarmList(ctx)
	Expect(err).NotTo(HaveOccurred())
	var out []string
	for _, a := range r.Alarms {
		out = append(out, a.Alarm.String())
	}
	return out
}

var _ = Describe("A full database", Label(deep), Ordered, func() {
	var (
		c      cluster
		client *clientv3.Client
		before map[string]string
	)
	BeforeAll(func(ctx SpecContext) {
		c = found(ctx, newNamespace(ctx), "full", `{storage: {size: 1Gi}, etcd: {quotaBackendBytes: 64Mi, autoCompaction: {mode: Revision, retention: "2"}}}`)
		c.runs(ctx, c.members(3)...)
		client, before = c.client(ctx), lives(c.pods(ctx))
	}, NodeTimeout(2*patience))

	It("takes writes again by itself, without a restart, and keeps the history that the user wants", func(ctx SpecContext) {
		puts := fill(ctx, client, func(int) string { return "overwritten" })
		began := time.Now()
		Expect(alarms(ctx, client)).To(ContainElement("NOSPACE"))
		var revision int64
		Eventually(ctx, func(g Gomega) {
			r, err := client.Put(ctx, "again", "x")
			g.Expect(err).NotTo(HaveOccurred())
			revision = r.Header.Revision
		}).Should(Succeed())
		AddReportEntry("healed", fmt.Sprintf("%d MiB written; writes were refused for %s", puts, time.Since(began).Round(time.Millisecond)))
		_, err := client.Get(ctx, "overwritten", clientv3.WithRev(revision-2))
		Expect(err).NotTo(HaveOccurred(), "the last two revisions are there")
		c.becomesReady(ctx)
		Expect(alarms(ctx, client)).To(BeEmpty())
		Expect(lives(c.pods(ctx))).To(Equal(before), "nobody is restarted")
		for _, m := range c.get(ctx).Status.Members {
			Expect(m.DBSize.Value()).To(BeNumerically("<", 58<<20), m.Name)
		}
	}, NodeTimeout(2*patience))

	It("is told of when it is full of data, and heals with a larger quota", func(ctx SpecContext) {
		n := 0
		Eventually(ctx, func(g Gomega) {
			// As long as it is healed there is room for more.
			fill(ctx, client, func(int) string { n++; return fmt.Sprint("kept-", n) })
			c.says(ctx, g, v1alpha1.ConditionStalled, "True", v1alpha1.ReasonAlarm, "raise spec.etcd.quotaBackendBytes")
		}).Should(Succeed())
		c.reports(ctx, promised, v1alpha1.ConditionAvailable, "False", v1alpha1.ReasonAlarm, "")
		Expect(lives(c.pods(ctx))).To(Equal(before), "nobody is restarted")
		pods := c.podUIDs(ctx)
		c.edit(ctx, `spec: {etcd: {quotaBackendBytes: 128Mi}}`)
		c.rolled(ctx, c.get(ctx).Spec.Version, pods)
		Expect(alarms(ctx, c.client(ctx))).To(BeEmpty())
		c.serves(ctx, c.member(0))
	}, NodeTimeout(2*patience))
})

var _ = Describe("A database that is mostly free", Label(deep), func() {
	It("is given back, one member at a time and the leader last", func(ctx SpecContext) {
		c := found(ctx, newNamespace(ctx), "sparse", `{storage: {size: 1Gi}, etcd: {quotaBackendBytes: 128Mi, autoCompaction: {mode: Revision, retention: "5"}}}`)
		c.runs(ctx, c.members(3)...)
		client, before := c.client(ctx), lives(c.pods(ctx))
		leader := c.get(ctx).Status.Leader
		var revision int64
		for range 80 {
			r, err := client.Put(ctx, "overwritten", strings.Repeat("x", 1<<20))
			Expect(err).NotTo(HaveOccurred())
			revision = r.Header.Revision
		}
		_, err := client.Compact(ctx, revision)
		Expect(err).NotTo(HaveOccurred())
		told := func() []string {
			out, err := kubectl(ctx, "-n", c.namespace, "get", "events", "--sort-by=.eventTime", "-o", `jsonpath={range .items[?(@.reason=="Defragment")]}{.message}{"\n"}{end}`)
			Expect(err).NotTo(HaveOccurred())
			return strings.Split(strings.TrimSpace(out), "\n")
		}
		Eventually(ctx, func(g Gomega) {
			// What is free is counted with the next write.
			_, err := client.Put(ctx, "another", "x")
			g.Expect(err).NotTo(HaveOccurred())
			// Before the first of them, status may hold the sizes of an empty database.
			g.Expect(len(told())).To(BeNumerically(">=", 3))
			for _, m := range c.get(ctx).Status.Members {
				g.Expect(m.DBSize.Value()).To(BeNumerically("<", 40<<20), m.Name)
			}
			g.Expect(meta.IsStatusConditionTrue(c.get(ctx).Status.Conditions, v1alpha1.ConditionReady)).To(BeTrue())
		}).Should(Succeed())
		out := told()
		Expect(out[len(out)-1]).To(HavePrefix("defragmenting "+leader), strings.Join(out, "\n"))
		Expect(lives(c.pods(ctx))).To(Equal(before), "nobody is restarted")
	}, NodeTimeout(2*patience))
})

var _ = Describe("Data of one member that differs", Label(local, deep), func() {
	It("is found, and the member replaced by a new one", func(ctx SpecContext) {
		c := found(ctx, newNamespace(ctx), "differing", `{}`)
		c.runs(ctx, c.members(3)...)
		was, client := c.get(ctx), c.client(ctx)
		marker := fmt.Sprint("marker-", time.Now().UnixNano())
		put, err := client.Put(ctx, "marked", marker)
		Expect(err).NotTo(HaveOccurred())
		followers, _ := c.followers(ctx)
		victim := followers[0]
		Eventually(ctx, func() int { return flip(filepath.Join(c.disk(ctx, victim), "data", "member", "snap", "db"), marker) }).
			Should(BeNumerically(">", 0), "etcd has written the marker to its database")
		// etcd compares what members have kept when history is discarded.
		_, err = client.Compact(ctx, put.Header.Revision)
		Expect(err).NotTo(HaveOccurred())
		Eventually(ctx, func() bool {
			return meta.IsStatusConditionFalse(c.get(ctx).Status.Conditions, v1alpha1.ConditionDataConsistent)
		}).WithTimeout(2 * patience).Should(BeTrue())
		c.replaces(ctx, was, victim)
		c.quarantines(ctx, victim)
		Eventually(ctx, func() bool {
			return meta.IsStatusConditionTrue(c.get(ctx).Status.Conditions, v1alpha1.ConditionDataConsistent)
		}).Should(BeTrue())
		Expect(alarms(ctx, c.client(ctx))).To(BeEmpty())
		c.serves(ctx, c.voters(ctx)[0])
		for _, m := range c.voters(ctx) {
			Expect(c.etcdctl(ctx, m, "get", "marked", "--consistency=s")).To(ContainSubstring(marker))
		}
	}, NodeTimeout(4*patience))
})

// flip a bit of the text wherever it stands in the file, past the process that has it
// open, and say how often that was.
func flip(path, text string) int {
	GinkgoHelper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	Expect(err).NotTo(HaveOccurred())
	defer func() { _ = file.Close() }()
	content, err := os.ReadFile(path)
	Expect(err).NotTo(HaveOccurred())
	n := 0
	for at := 0; ; n++ {
		i := bytes.Index(content[at:], []byte(text))
		if i < 0 {
			return n
		}
		at += i + len(text)
		_, err := file.WriteAt([]byte{content[at-1] ^ 1}, int64(at)-1)
		Expect(err).NotTo(HaveOccurred())
	}
}
