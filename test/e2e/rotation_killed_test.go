package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/test/load"
)

// shown is what a port of a member shows: whose certificates its process takes, and who has
// issued the one that it serves.
type shown struct {
	takes  [][]byte
	issuer []byte
}

// shows is what a port of a member shows, and false while nobody answers there.
func (c cluster) shows(ctx context.Context, member string, port int) (shown, bool) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	raw, err := dialPod(ctx, c.namespace, member, port)
	if err != nil {
		return shown{}, false
	}
	defer raw.Close()
	var is shown
	conn := tls.Client(raw, &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // what it serves is looked at, whoever it is by.
		GetClientCertificate: func(asked *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			is.takes = asked.AcceptableCAs
			return &tls.Certificate{}, nil
		},
	})
	// The member may hang up on who shows no certificate: what it shows came before.
	_ = conn.HandshakeContext(ctx)
	if served := conn.ConnectionState().PeerCertificates; len(served) > 0 {
		is.issuer = served[0].RawIssuer
	}
	return is, len(is.takes) > 0 && is.issuer != nil
}

// mistrust are the pairs of members of which one does not take the certificate that the
// other serves to its peers.
func mistrust(members map[string]shown) (pairs []string, asked int) {
	for by, one := range members {
		for of, other := range members {
			taken := false
			for _, subject := range one.takes {
				taken = taken || bytes.Equal(subject, other.issuer)
			}
			if asked++; !taken {
				pairs = append(pairs, fmt.Sprintf("%s does not take the certificate of %s", by, of))
			}
		}
	}
	return pairs, asked
}

// trustAll watches whether the processes of all members trust each other, until it is asked.
func (c cluster) trustAll(ctx context.Context, members []string) func() (wrong []string, asked int) {
	ctx, stop := context.WithCancel(ctx)
	var (
		done  sync.WaitGroup
		wrong []string
		asked int
	)
	done.Go(func() {
		for ctx.Err() == nil {
			seen := map[string]shown{}
			for _, m := range members {
				if is, answers := c.shows(ctx, m, resources.PeerPort); answers {
					seen[m] = is
				}
			}
			pairs, n := mistrust(seen)
			wrong, asked = append(wrong, pairs...), asked+n
			time.Sleep(poll)
		}
	})
	return func() ([]string, int) {
		stop()
		done.Wait()
		return wrong, asked
	}
}

// killOperator deletes the pod that works, without a grace, and takes its Lease from it: the
// next one begins in the middle, and not when the Lease has run out.
func killOperator(ctx context.Context) {
	GinkgoHelper()
	leader, err := operatorLeader(ctx)
	Expect(err).NotTo(HaveOccurred())
	Expect(kube.Delete(ctx, named[corev1.Pod](operatorNamespace, leader), client.GracePeriodSeconds(0))).To(Succeed())
	free := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"holderIdentity":""}}`))
	Expect(kube.Patch(ctx, named[coordinationv1.Lease](operatorNamespace, operatorName), free)).To(Succeed())
}

// It kills operators that others need, and so comes last.
var _ = Describe("The authorities of a cluster under load", Label(deep), Serial, Ordered, func() {
	var (
		c       cluster
		l       *load.Load
		trusted func() ([]string, int)
	)
	BeforeAll(func(ctx SpecContext) {
		operatorWorks(ctx)
		c = found(ctx, newNamespace(ctx), "orphaned", `{tls: {rotationSoak: 0s}}`)
		c.runs(ctx, c.members(3)...)
		l = c.startLoad(ctx, c.reading(ctx))
		// They outlive the node that starts them.
		trusted = c.trustAll(context.WithoutCancel(ctx), c.members(3))
		DeferCleanup(func() { trusted() })
	}, NodeTimeout(2*patience))

	It("are replaced although the operator is killed in each phase of it", func(ctx SpecContext) {
		began, killed, last := time.Now(), map[string]bool{}, ""
		c.edit(ctx, `spec: {tls: {rotateCA: "`+began.UTC().Format(time.RFC3339)+`"}}`)
		Eventually(ctx, func(g Gomega) {
			phases := c.phases(ctx)
			if phases != last {
				last = phases
				// A kubelet brings a Secret's change into the pod when it next syncs it.
				Expect(kubectl(ctx, "-n", c.namespace, "annotate", "--overwrite", "pod", "--all", fmt.Sprintf("quorate.dev/e2e=sync-%d", len(killed)))).Error().NotTo(HaveOccurred())
			}
			if !killed[phases] && phases != "Stable, Stable" {
				killed[phases] = true
				killOperator(ctx)
				AddReportEntry("killed in "+phases, time.Since(began).Round(time.Second).String())
			}
			g.Expect(phases).To(Equal("Stable, Stable"))
			g.Expect(killed).To(And(HaveKey(ContainSubstring("Trusting")), HaveKey(ContainSubstring("Serving")), HaveKey(ContainSubstring("Trimming"))))
			g.Expect(c.get(ctx).Status.Operation).To(BeNil())
		}).WithPolling(poll).Should(Succeed())
		AddReportEntry("over", time.Since(began).Round(time.Second).String())
		operatorWorks(ctx)
		c.settles(ctx)
	}, NodeTimeout(4*patience))

	It("were trusted by every member whose certificates they sign, all the time", func() {
		wrong, asked := trusted()
		AddReportEntry("pairs that were asked", asked)
		Expect(wrong).To(BeEmpty())
		Expect(asked).To(BeNumerically(">", 100))
	})

	It("were replaced without a loss", func(ctx SpecContext) { holds(ctx, l) }, NodeTimeout(patience))
})
