package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/pki"
	"github.com/quorate/quorate/test/load"
)

// phases of the two authorities, as status tells them.
func (c cluster) phases(ctx context.Context) string {
	GinkgoHelper()
	status := c.get(ctx).Status.TLS
	if status == nil {
		return ""
	}
	var out []string
	for _, a := range status.Authorities {
		out = append(out, string(a.Phase))
	}
	return strings.Join(out, ", ")
}

// reading has a load read its Secret again before each handshake, as an application does.
func (c cluster) reading(ctx context.Context) func(*load.Config) {
	// The load outlives the node that starts it.
	ctx = context.WithoutCancel(ctx)
	read := func() (*tls.Config, error) { return c.bed().Credentials(ctx) }
	config := &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			as, err := read()
			if err != nil {
				return nil, err
			}
			return &as.Certificates[0], nil
		},
		// VerifyConnection does it, with the authorities of now.
		InsecureSkipVerify: true,
		VerifyConnection: func(is tls.ConnectionState) error {
			as, err := read()
			if err != nil {
				return err
			}
			_, err = is.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: as.RootCAs, DNSName: is.ServerName})
			return err
		},
	}
	return func(l *load.Config) { l.TLS = config }
}

var _ = Describe("The authorities under load", Label(deep), Ordered, SpecPriority(95), func() {
	var (
		c cluster
		l *load.Load
		// old is what an application holds that has read its Secret before.
		old *tls.Config
		ca  map[string]*x509.Certificate
	)
	BeforeAll(func(ctx SpecContext) {
		c = found(ctx, newNamespace(ctx), "rotated", `{tls: {rotationSoak: 0s}}`)
		c.runs(ctx, c.members(3)...)
		old, ca = c.application(ctx), map[string]*x509.Certificate{}
		for _, name := range []string{pki.ClientCASecret(c.name), pki.PeerCASecret(c.name)} {
			ca[name] = parseCertificate(c.secret(ctx, name)[pki.KeyCert])
		}
		l = c.startLoad(ctx, c.reading(ctx))
	}, NodeTimeout(2*patience))

	It("are replaced on demand: two restarts of each member, one at a time", func(ctx SpecContext) {
		began, before, seen := time.Now(), c.podUIDs(ctx), []string{}
		c.edit(ctx, `spec: {tls: {rotateCA: "`+began.UTC().Format(time.RFC3339)+`"}}`)
		generations := map[string]map[string]bool{}
		Eventually(ctx, func(g Gomega) {
			phases := c.phases(ctx)
			if len(seen) == 0 || seen[len(seen)-1] != phases {
				seen = append(seen, phases)
				AddReportEntry(phases, time.Since(began).Round(time.Second).String())
			}
			for name, uid := range c.podUIDs(ctx) {
				if generations[name] == nil {
					generations[name] = map[string]bool{}
				}
				generations[name][string(uid)] = true
			}
			g.Expect(seen).To(ContainElement(ContainSubstring("Serving")))
			g.Expect(phases).To(Equal("Stable, Stable"))
			g.Expect(c.get(ctx).Status.Operation).To(BeNil())
		}).WithPolling(250 * time.Millisecond).Should(Succeed())
		for name, uids := range generations {
			Expect(uids).To(HaveLen(3), fmt.Sprintf("%s, which was %s", name, before[name]))
		}
		c.becomesReady(ctx)
		Expect(seen[len(seen)-1]).To(Equal("Stable, Stable"))
		for name, was := range ca {
			is := parseCertificate(c.secret(ctx, name)[pki.KeyCert])
			Expect(is.RawSubject).NotTo(Equal(was.RawSubject), name)
			Expect(c.secret(ctx, name)).NotTo(Or(HaveKey(pki.KeyFormerCert), HaveKey(pki.KeyNextKey)))
		}
	}, NodeTimeout(4*patience))

	It("are those that every member serves and trusts afterwards, and no others", func(ctx SpecContext) {
		for _, m := range c.members(3) {
			data := c.secret(ctx, pki.MemberSecret(m))
			for _, leaf := range leaves {
				served, err := c.certificateOf(ctx, m, leaf.port, credentials(data, leaf.ca, leaf.cert, leaf.key))
				Expect(err).NotTo(HaveOccurred())
				Expect(served.CheckSignatureFrom(parseCertificate(c.secret(ctx, leaf.authority(c.name))[pki.KeyCert]))).To(Succeed())
			}
			_, _, err := c.ask(ctx, m, 2379, "/version", old)
			Expect(err).To(MatchError(ContainSubstring("unknown authority")), "who trusts the old authority alone")
		}
	}, NodeTimeout(patience))

	It("are in order, says the condition", func(ctx SpecContext) {
		c.reports(ctx, patience, v1alpha1.ConditionTLSReady, "True", v1alpha1.ReasonCertificatesValid, "every certificate is in order")
		Expect(c.events(ctx)).To(And(ContainSubstring("its rotation begins"), ContainSubstring("from now on it signs"), ContainSubstring("the former is trusted no more")))
	}, NodeTimeout(patience))

	It("were replaced without a loss, and nobody noticed", func(ctx SpecContext) {
		holds(ctx, l)
	}, NodeTimeout(patience))
})

// Twenty minutes of real time: no part of make test, see make soak-certificates.
var _ = Describe("Certificates that live for five minutes", Label("long"), func() {
	It("are renewed again and again under load, and nobody is restarted or refused", func(ctx SpecContext) {
		c := found(ctx, newNamespace(ctx), "brief", `{tls: {leafDuration: 5m}}`)
		c.runs(ctx, c.members(3)...)
		before := lives(c.pods(ctx))
		l := c.startLoad(ctx, c.reading(ctx))

		served := map[string]string{}
		for renewal := range 5 {
			Eventually(ctx, func(g Gomega) {
				now := map[string]string{}
				for _, m := range c.members(3) {
					data := c.secret(ctx, pki.MemberSecret(m))
					for _, leaf := range leaves {
						cert, err := c.certificateOf(ctx, m, leaf.port, credentials(data, leaf.ca, leaf.cert, leaf.key))
						g.Expect(err).NotTo(HaveOccurred())
						key := m + " " + leaf.cert
						now[key] = cert.SerialNumber.String()
						g.Expect(now[key]).NotTo(Equal(served[key]), key)
						g.Expect(time.Until(cert.NotAfter)).To(BeNumerically(">", 0), key)
					}
				}
				served = now
			}).WithTimeout(6 * time.Minute).WithPolling(5 * time.Second).Should(Succeed())
			AddReportEntry(fmt.Sprintf("renewal %d", renewal), time.Now().Format(time.TimeOnly))
		}
		Expect(lives(c.pods(ctx))).To(Equal(before), "a container was restarted")
		c.becomesReady(ctx)
		holds(ctx, l)
	}, NodeTimeout(30*time.Minute))
})
