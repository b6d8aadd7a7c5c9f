package e2e

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/internal/pki"
	"github.com/quorate/quorate/internal/resources"
)

// ask asks a port of a member over HTTPS, or in plaintext if as is nil.
func (c cluster) ask(ctx context.Context, member string, port int, path string, as *tls.Config) (int, string, error) {
	GinkgoHelper()
	dial := dialHost(c.namespace)
	host := fmt.Sprintf("%s.%s.%s.svc:%d", member, c.name, c.namespace, port)
	scheme := "https"
	if as == nil {
		scheme = "http"
	}
	transport := &http.Transport{
		DialContext:     func(ctx context.Context, _, address string) (net.Conn, error) { return dial(ctx, address) },
		TLSClientConfig: as, DisableKeepAlives: true,
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+host+path, nil)
	Expect(err).NotTo(HaveOccurred())
	response, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

// certificateOf is what a port of a member presents.
func (c cluster) certificateOf(ctx context.Context, member string, port int, as *tls.Config) (*x509.Certificate, error) {
	raw, err := dialPod(ctx, c.namespace, member, port)
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	as = as.Clone()
	as.ServerName = fmt.Sprintf("%s.%s.%s.svc", member, c.name, c.namespace)
	conn := tls.Client(raw, as)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return conn.ConnectionState().PeerCertificates[0], nil
}

func parseCertificate(file []byte) *x509.Certificate {
	GinkgoHelper()
	block, _ := pem.Decode(file)
	Expect(block).NotTo(BeNil())
	cert, err := x509.ParseCertificate(block.Bytes)
	Expect(err).NotTo(HaveOccurred())
	return cert
}

var _ = Describe("TLS", Ordered, ContinueOnFailure, func() {
	var (
		ns       string
		c, other cluster
	)
	BeforeAll(func(ctx SpecContext) {
		ns = newNamespace(ctx)
		c, other = apply(ctx, ns, "tls", `{}`), apply(ctx, ns, "other", `{size: 1}`)
		c.becomesReady(ctx)
		other.becomesReady(ctx)
	}, NodeTimeout(2*patience))

	// peerOf is a member's certificate for its peers.
	peerOf := func(ctx context.Context, of cluster) *tls.Config {
		GinkgoHelper()
		return credentials(of.secret(ctx, pki.MemberSecret(of.member(0))), pki.KeyPeerCA, pki.KeyPeerCert, pki.KeyPeerKey)
	}
	// without keeps whom to trust and drops the certificate.
	without := func(as *tls.Config) *tls.Config { as.Certificates = nil; return as }
	// insisting shows a certificate to a server that has not asked for one of
	// its authority.
	insisting := func(as, server *tls.Config) *tls.Config {
		as.RootCAs = server.RootCAs
		as.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &as.Certificates[0], nil }
		return as
	}

	for _, port := range []struct {
		name, path, answer string
		number             int
		as                 func(context.Context, cluster) *tls.Config
		wrong              func(context.Context, cluster) *tls.Config
	}{
		{"client", "/version", `"etcdserver":"3.6.16"`, resources.ClientPort, func(ctx context.Context, of cluster) *tls.Config { return of.application(ctx) }, peerOf},
		{"metrics", "/metrics", "etcd_server_has_leader 1", resources.MetricsPort, func(ctx context.Context, of cluster) *tls.Config { return of.application(ctx) }, peerOf},
		{"peer", "/members", `"peerURLs"`, resources.PeerPort, peerOf, func(ctx context.Context, of cluster) *tls.Config { return of.application(ctx) }},
	} {
		It("lets the "+port.name+" port answer a certificate of its authority, and nobody else", func(ctx SpecContext) {
			member := c.member(0)
			code, body, err := c.ask(ctx, member, port.number, port.path, port.as(ctx, c))
			Expect(err).NotTo(HaveOccurred())
			Expect(code).To(Equal(http.StatusOK), body)
			Expect(body).To(ContainSubstring(port.answer))

			_, _, err = c.ask(ctx, member, port.number, port.path, without(port.as(ctx, c)))
			Expect(err).To(MatchError(ContainSubstring("certificate required")), "without a certificate")
			_, _, err = c.ask(ctx, member, port.number, port.path, insisting(port.as(ctx, other), port.as(ctx, c)))
			Expect(err).To(MatchError(Or(ContainSubstring("unknown certificate authority"), ContainSubstring("bad certificate"))), "with another cluster's certificate")
			_, _, err = c.ask(ctx, member, port.number, port.path, insisting(port.wrong(ctx, c), port.as(ctx, c)))
			Expect(err).To(MatchError(Or(ContainSubstring("unknown certificate authority"), ContainSubstring("bad certificate"))), "with a certificate for another port")
			old := port.as(ctx, c)
			old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
			_, _, err = c.ask(ctx, member, port.number, port.path, old)
			Expect(err).To(MatchError(ContainSubstring("protocol version")), "with TLS 1.1")
			code, body, err = c.ask(ctx, member, port.number, port.path, nil)
			if err == nil {
				Expect(code).To(Equal(http.StatusBadRequest), "in plaintext: "+body)
			}
			Expect(body).NotTo(ContainSubstring(port.answer))
		}, NodeTimeout(patience))
	}

	It("gives applications a Secret that works through the Service, and only from their own cluster", func(ctx SpecContext) {
		run := func(name, secret string) string {
			create(ctx, ns, applicationPod(name, c.name, secret))
			var phase corev1.PodPhase
			Eventually(ctx, func(g Gomega) {
				pod := named[corev1.Pod](ns, name)
				g.Expect(kube.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
				phase = pod.Status.Phase
				g.Expect(phase).To(Or(Equal(corev1.PodSucceeded), Equal(corev1.PodFailed)))
			}).Should(Succeed())
			logs, err := kubectl(ctx, "-n", ns, "logs", name)
			Expect(err).NotTo(HaveOccurred())
			return string(phase) + ": " + logs
		}
		Expect(run("application", pki.ClientSecret(c.name))).To(Equal("Succeeded: OK"))
		Expect(c.etcdctl(ctx, c.member(1), "get", "application", "--print-value-only")).To(Equal("works"))
		Expect(run("stranger", pki.ClientSecret(other.name))).To(HavePrefix("Failed: "))
	}, NodeTimeout(patience))

	It("mounts no authority's key into any pod", func(ctx SpecContext) {
		var keys []string
		for _, name := range []string{pki.ClientCASecret(c.name), pki.PeerCASecret(c.name)} {
			key := strings.TrimSpace(string(c.secret(ctx, name)[pki.KeyKey]))
			Expect(key).To(ContainSubstring("PRIVATE KEY"))
			keys = append(keys, key)
		}
		for name, pod := range c.pods(ctx) {
			for _, v := range pod.Spec.Volumes {
				if v.Secret == nil {
					continue
				}
				Expect(v.Secret.SecretName).To(Equal(pki.MemberSecret(name)))
				for file, content := range c.secret(ctx, v.Secret.SecretName) {
					for _, key := range keys {
						Expect(string(content)).NotTo(ContainSubstring(key), "%s of Secret %s", file, v.Secret.SecretName)
					}
				}
			}
		}
	}, NodeTimeout(patience))
})

// applicationPod runs one etcdctl put with a client Secret, the restricted way.
func applicationPod(name, service, secret string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, runAsUser: 65532, fsGroup: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: etcdctl
      image: quay.io/coreos/etcd:v3.6.16
      command: [etcdctl, --endpoints=https://%s-client:2379, --cacert=/tls/ca.crt, --cert=/tls/tls.crt, --key=/tls/tls.key, --command-timeout=5s, put, application, works]
      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
      volumeMounts: [{name: tls, mountPath: /tls}]
  volumes: [{name: tls, secret: {secretName: %s}}]
`, name, service, secret)
}

// A renewal takes minutes of waiting: the operator reads Secrets once a minute,
// and a kubelet brings a new one into a pod as slowly. So it starts early.
var _ = Describe("Leaves", Label(deep), func() {
	It("are renewed in place when two thirds of their life are over, and etcd serves them without a restart", SpecPriority(60), func(ctx SpecContext) {
		c, before, old := due(ctx)
		member := c.member(0)
		for _, leaf := range leaves {
			var renewed *x509.Certificate
			Eventually(ctx, func(g Gomega) {
				renewed = parseCertificate(c.secret(ctx, pki.MemberSecret(member))[leaf.cert])
				g.Expect(renewed.SerialNumber).NotTo(Equal(old[leaf.cert].SerialNumber), "the Secret still holds the old leaf")
			}).Should(Succeed())
			Expect(time.Until(renewed.NotAfter)).To(BeNumerically(">", 24*time.Hour))
			Expect(renewed.DNSNames).To(ConsistOf(old[leaf.cert].DNSNames))
		}
		// A kubelet brings a Secret's change into the pod when it next syncs it.
		Expect(kubectl(ctx, "-n", c.namespace, "annotate", "--overwrite", "pod", member, "quorate.dev/e2e=sync")).Error().NotTo(HaveOccurred())
		for _, leaf := range leaves {
			data := c.secret(ctx, pki.MemberSecret(member))
			Eventually(ctx, func(g Gomega) {
				served, err := c.certificateOf(ctx, member, leaf.port, credentials(data, leaf.ca, leaf.cert, leaf.key))
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(served.SerialNumber).To(Equal(parseCertificate(data[leaf.cert]).SerialNumber), "etcd serves another leaf than the Secret's")
			}).WithPolling(time.Second).Should(Succeed())
		}
		Expect(lives(c.pods(ctx))).To(Equal(before), "a container was restarted")
		c.becomesReady(ctx)
		c.serves(ctx, member)
	}, NodeTimeout(4*patience))
})

var leaves = []struct {
	authority     func(string) string
	ca, cert, key string
	port          int
}{
	{pki.ClientCASecret, pki.KeyClientCA, pki.KeyServerCert, pki.KeyServerKey, resources.ClientPort},
	{pki.PeerCASecret, pki.KeyPeerCA, pki.KeyPeerCert, pki.KeyPeerKey, resources.PeerPort},
}

// due founds a cluster and puts leaves in place of its first member's that are
// past two thirds of their life and still valid. It returns the lives of the
// pods before that, and the leaves.
func due(ctx context.Context) (c cluster, before map[string]string, old map[string]*x509.Certificate) {
	GinkgoHelper()
	c = found(ctx, newNamespace(ctx), "renewing", `{}`)
	c.runs(ctx, c.members(3)...)
	before = lives(c.pods(ctx))
	secret := named[corev1.Secret](c.namespace, pki.MemberSecret(c.member(0)))
	Expect(kube.Get(ctx, client.ObjectKeyFromObject(secret), secret)).To(Succeed())
	old = map[string]*x509.Certificate{}
	for _, leaf := range leaves {
		secret.Data[leaf.cert] = aged(secret.Data[leaf.cert], c.secret(ctx, leaf.authority(c.name)))
		old[leaf.cert] = parseCertificate(secret.Data[leaf.cert])
	}
	Expect(kube.Update(ctx, secret)).To(Succeed())
	return c, before, old
}

// aged is a leaf as its authority would have issued it long ago.
func aged(file []byte, authority map[string][]byte) []byte {
	GinkgoHelper()
	pair, err := tls.X509KeyPair(authority[pki.KeyCert], authority[pki.KeyKey])
	Expect(err).NotTo(HaveOccurred())
	leaf := parseCertificate(file)
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	Expect(err).NotTo(HaveOccurred())
	leaf.SerialNumber = serial
	leaf.NotBefore, leaf.NotAfter = time.Now().Add(-10*time.Hour), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, leaf, pair.Leaf, leaf.PublicKey, pair.PrivateKey.(crypto.Signer))
	Expect(err).NotTo(HaveOccurred())
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
