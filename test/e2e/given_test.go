package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/pki"
	"github.com/quorate/quorate/internal/resources"
)

// authority is a Secret as an issuer writes it for an authority.
func authority(ns, name, subject string) *corev1.Secret {
	GinkgoHelper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	Expect(err).NotTo(HaveOccurred())
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: subject}, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour), BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	Expect(err).NotTo(HaveOccurred())
	private, err := x509.MarshalPKCS8PrivateKey(key)
	Expect(err).NotTo(HaveOccurred())
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Type: corev1.SecretTypeTLS, Data: map[string][]byte{
		pki.KeyCert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pki.KeyKey:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}}
}

// holds another authority, or something else, from now on.
func putAuthority(ctx context.Context, secret *corev1.Secret, data map[string][]byte) {
	GinkgoHelper()
	raw, err := json.Marshal(map[string]any{"data": data})
	Expect(err).NotTo(HaveOccurred())
	Expect(kube.Patch(ctx, secret, client.RawPatch(types.MergePatchType, raw))).To(Succeed())
}

var _ = Describe("An authority of the user's own", Label(deep), Ordered, func() {
	var (
		c             cluster
		clients, peer *corev1.Secret
	)
	BeforeAll(func(ctx SpecContext) {
		ns := newNamespace(ctx)
		clients, peer = authority(ns, "corp-clients", "corp clients"), authority(ns, "corp-peers", "corp peers")
		c = apply(ctx, ns, "given", `{size: 1, tls: {rotationSoak: 0s, client: {authoritySecretRef: {name: corp-clients}}, peer: {authoritySecretRef: {name: corp-peers}}}}`)
	}, NodeTimeout(patience))

	It("is waited for", func(ctx SpecContext) {
		c.reports(ctx, patience, v1alpha1.ConditionTLSReady, "False", pki.ReasonAuthorityRefused, "Secret corp-clients does not exist")
		Expect(kube.Create(ctx, clients)).To(Succeed())
		Expect(kube.Create(ctx, peer)).To(Succeed())
	}, NodeTimeout(patience))

	It("signs what members serve and clients get", func(ctx SpecContext) {
		c.becomesReady(ctx)
		data := c.secret(ctx, pki.MemberSecret(c.member(0)))
		for _, port := range []struct {
			number        int
			ca, cert, key string
			by            *corev1.Secret
		}{
			{resources.ClientPort, pki.KeyClientCA, pki.KeyServerCert, pki.KeyServerKey, clients}, {resources.PeerPort, pki.KeyPeerCA, pki.KeyPeerCert, pki.KeyPeerKey, peer},
		} {
			served, err := c.certificateOf(ctx, c.member(0), port.number, credentials(data, port.ca, port.cert, port.key))
			Expect(err).NotTo(HaveOccurred())
			Expect(served.CheckSignatureFrom(parseCertificate(port.by.Data[pki.KeyCert]))).To(Succeed())
		}
		c.serves(ctx, c.member(0))
	}, NodeTimeout(patience))

	It("is left for nothing that cannot be used", func(ctx SpecContext) {
		before := lives(c.pods(ctx))
		putAuthority(ctx, clients.DeepCopy(), map[string][]byte{pki.KeyCert: []byte("nonsense")})
		c.reports(ctx, 2*time.Minute, v1alpha1.ConditionTLSReady, "False", pki.ReasonAuthorityRefused, "holds no PEM certificate in tls.crt")
		Expect(lives(c.pods(ctx))).To(Equal(before))
		c.serves(ctx, c.member(0))
	}, NodeTimeout(3*patience))

	It("is replaced by another one, which is trusted first", func(ctx SpecContext) {
		next := authority(c.namespace, "corp-clients", "corp clients of next year")
		putAuthority(ctx, clients.DeepCopy(), next.Data)
		Eventually(ctx, func(g Gomega) {
			served := parseCertificate(c.secret(ctx, pki.ClientCASecret(c.name))[pki.KeyCert])
			g.Expect(served.Subject.CommonName).To(Equal("corp clients of next year"))
			g.Expect(c.phases(ctx)).To(Equal("Stable, Stable"))
		}).WithTimeout(6 * time.Minute).Should(Succeed())
		c.becomesReady(ctx)
		c.serves(ctx, c.member(0))
	}, NodeTimeout(7*time.Minute))
})
