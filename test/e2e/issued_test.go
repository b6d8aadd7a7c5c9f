package e2e

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/certmanager"
	"github.com/quorate/quorate/internal/pki"
	"github.com/quorate/quorate/internal/resources"
)

// certificateKind is the least of cert-manager's CRD: what it keeps, and no webhook. It is
// put in place by a spec that has seen what an operator says without it.
const certificateKind = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: certificates.cert-manager.io, annotations: {api-approved.kubernetes.io: unapproved}}
spec:
  group: cert-manager.io
  scope: Namespaced
  names: {kind: Certificate, listKind: CertificateList, plural: certificates, singular: certificate}
  versions:
    - name: v1
      served: true
      storage: true
      subresources: {status: {}}
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

// signer is an authority of somebody else's.
type signer struct {
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
}

func newSigner(subject string) *signer {
	GinkgoHelper()
	data := authority("", "", subject).Data
	block, _ := pem.Decode(data[pki.KeyKey])
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	Expect(err).NotTo(HaveOccurred())
	return &signer{cert: parseCertificate(data[pki.KeyCert]), key: key.(crypto.Signer), pem: data[pki.KeyCert]}
}

// leaf is the data of a Secret with a certificate.
func (s *signer) leaf(commonName string, names []string, ips []net.IP, life time.Duration) (map[string][]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: commonName}, DNSNames: names, IPAddresses: ips,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(life), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, s.cert, key.Public(), s.key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		pki.KeyCert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pki.KeyKey:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), pki.KeyCA: s.pem,
	}, nil
}

// issuers do for the Certificates of a namespace what cert-manager does: they write the
// Secret, and say in the Certificate that it is Ready.
type issuers struct {
	namespace string
	by        map[string]*signer

	mu sync.Mutex
	// holds is why nothing is issued.
	holds string
	// renewed are the Certificates to be issued once more.
	renewed map[string]bool
	failure error
}

// set says why nothing is issued, if nothing is, and what is issued once more.
func (i *issuers) set(holds string, renew ...string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.holds, i.renewed = holds, map[string]bool{}
	for _, name := range renew {
		i.renewed[name] = true
	}
}

// works says that the last pass had no error.
func (i *issuers) works(g Gomega) {
	i.mu.Lock()
	defer i.mu.Unlock()
	g.Expect(i.failure).NotTo(HaveOccurred())
}

// work until the context ends.
func (i *issuers) work(ctx context.Context) {
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := i.pass(ctx)
		i.mu.Lock()
		i.failure = err
		i.mu.Unlock()
	}
}

func (i *issuers) pass(ctx context.Context) error {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(certmanager.Kind.GroupVersion().WithKind("CertificateList"))
	if err := kube.List(ctx, list, client.InNamespace(i.namespace)); err != nil {
		return fmt.Errorf("listing Certificates: %w", err)
	}
	for n := range list.Items {
		if err := i.issue(ctx, &list.Items[n]); err != nil {
			return err
		}
	}
	return nil
}

func (i *issuers) issue(ctx context.Context, certificate *unstructured.Unstructured) error {
	i.mu.Lock()
	holds, again := i.holds, i.renewed[certificate.GetName()]
	i.mu.Unlock()
	if holds != "" {
		return i.tell(ctx, certificate, "False", holds)
	}
	spec := certificate.Object["spec"].(map[string]any)
	name, _, _ := unstructured.NestedString(spec, "secretName")
	secret := named[corev1.Secret](i.namespace, name)
	err := kube.Get(ctx, client.ObjectKeyFromObject(secret), secret)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	if missing := apierrors.IsNotFound(err); missing || again {
		data, err := i.sign(spec)
		if err != nil {
			return err
		}
		secret.Data, secret.Type = data, corev1.SecretTypeTLS
		secret.Annotations = map[string]string{certmanager.NameAnnotation: certificate.GetName()}
		if missing {
			err = kube.Create(ctx, secret)
		} else {
			err = kube.Update(ctx, secret)
		}
		if err != nil {
			return fmt.Errorf("writing Secret %s: %w", name, err)
		}
		i.mu.Lock()
		delete(i.renewed, certificate.GetName())
		i.mu.Unlock()
	}
	return i.tell(ctx, certificate, "True", "Certificate is up to date and has not expired")
}

func (i *issuers) sign(spec map[string]any) (map[string][]byte, error) {
	issuer, _, _ := unstructured.NestedString(spec, "issuerRef", "name")
	commonName, _, _ := unstructured.NestedString(spec, "commonName")
	names, _, _ := unstructured.NestedStringSlice(spec, "dnsNames")
	addresses, _, _ := unstructured.NestedStringSlice(spec, "ipAddresses")
	duration, _, _ := unstructured.NestedString(spec, "duration")
	life, err := time.ParseDuration(duration)
	if err != nil {
		return nil, err
	}
	var ips []net.IP
	for _, a := range addresses {
		ips = append(ips, net.ParseIP(a))
	}
	return i.by[issuer].leaf(commonName, names, ips, life)
}

func (i *issuers) tell(ctx context.Context, certificate *unstructured.Unstructured, status, message string) error {
	want := []any{map[string]any{"type": "Ready", "status": status, "message": message}}
	have, _, _ := unstructured.NestedSlice(certificate.Object, "status", "conditions")
	if len(have) == 1 && have[0].(map[string]any)["message"] == message {
		return nil
	}
	revision, issued, _ := unstructured.NestedInt64(certificate.Object, "status", "revision")
	if status == "True" || issued {
		certificate.Object["status"] = map[string]any{"conditions": want, "revision": max(revision, 1)}
	} else {
		certificate.Object["status"] = map[string]any{"conditions": want}
	}
	err := kube.Status().Update(ctx, certificate)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// portsOf a member that serve certificates, and the files of its Secret for each.
var portsOf = []struct {
	number        int
	ca, cert, key string
}{
	{resources.ClientPort, pki.KeyClientCA, pki.KeyServerCert, pki.KeyServerKey}, {resources.PeerPort, pki.KeyPeerCA, pki.KeyPeerCert, pki.KeyPeerKey},
}

// served are the certificates that the first member shows on its two ports.
func (c cluster) served(ctx context.Context, g Gomega) (out []*x509.Certificate) {
	data := c.secret(ctx, pki.MemberSecret(c.member(0)))
	for _, port := range portsOf {
		cert, err := c.certificateOf(ctx, c.member(0), port.number, credentials(data, port.ca, port.cert, port.key))
		g.Expect(err).NotTo(HaveOccurred())
		out = append(out, cert)
	}
	return out
}

// answersApplications says that <cluster>-client-tls lets an application in.
func (c cluster) answersApplications(ctx context.Context) {
	GinkgoHelper()
	code, body, err := c.ask(ctx, c.member(0), resources.ClientPort, "/version", c.application(ctx))
	Expect(err).NotTo(HaveOccurred())
	Expect(code).To(Equal(http.StatusOK), body)
}

// It installs cert-manager's kind, so it wants a cluster that has none.
var _ = Describe("Certificates that cert-manager issues", Ordered, Label(local, deep), func() {
	var (
		c       cluster
		issuing *issuers
	)
	clients, peers := (*signer)(nil), (*signer)(nil)
	BeforeAll(func(ctx SpecContext) {
		ns := newNamespace(ctx)
		clients, peers = newSigner("clients of the issuer"), newSigner("peers of the issuer")
		issuing = &issuers{namespace: ns, by: map[string]*signer{"clients": clients, "peers": peers}}
		c = apply(ctx, ns, "issued", `{size: 1, tls: {rotationSoak: 0s, client: {certManager: {issuerRef: {name: clients}}}, peer: {certManager: {issuerRef: {name: peers}}}}}`)
	}, NodeTimeout(patience))

	It("are missed where cert-manager is missing, and by nobody else", func(ctx SpecContext) {
		c.reports(ctx, patience, v1alpha1.ConditionTLSReady, "False", pki.ReasonIssuerUnavailable, "the kind Certificate of cert-manager.io/v1 does not exist")
		c.reports(ctx, patience, v1alpha1.ConditionReady, "False", pki.ReasonIssuerUnavailable, "install cert-manager, or take certManager out of spec.tls")
		Expect(c.pods(ctx)).To(BeEmpty())
		found(ctx, c.namespace, "plain", `{size: 1}`)
	}, NodeTimeout(2*patience))

	Context("once it is there", Ordered, func() {
		BeforeAll(func(ctx SpecContext) {
			create(ctx, "", certificateKind)
			issuing.set(`Referenced "Issuer" not found: issuer.cert-manager.io "clients" not found`)
			work, stop := context.WithCancel(context.Background())
			var done sync.WaitGroup
			done.Go(func() { issuing.work(work) })
			DeferCleanup(func() { stop(); done.Wait() })
		}, NodeTimeout(patience))

		It("are waited for, in the words of cert-manager", func(ctx SpecContext) {
			c.reports(ctx, patience, v1alpha1.ConditionTLSReady, "False", pki.ReasonCertificateNotIssued, `issuer.cert-manager.io "clients" not found`)
			Expect(c.pods(ctx)).To(BeEmpty())
		}, NodeTimeout(2*patience))

		It("found a cluster, and let its clients in", func(ctx SpecContext) {
			issuing.set("")
			c.becomesReady(ctx)
			served := c.served(ctx, Default)
			Expect(served[0].CheckSignatureFrom(clients.cert)).To(Succeed())
			Expect(served[1].CheckSignatureFrom(peers.cert)).To(Succeed())
			c.serves(ctx, c.member(0))
			c.answersApplications(ctx)
			Eventually(ctx, issuing.works).Should(Succeed())
		}, NodeTimeout(patience))

		It("are served when they are renewed, and nobody is restarted for it", func(ctx SpecContext) {
			before, ran := c.served(ctx, Default), lives(c.pods(ctx))
			issuing.set("", c.member(0)+"-server-issued", c.member(0)+"-peer-issued", c.name+"-operator-issued", c.name+"-client-issued")
			Eventually(ctx, func(g Gomega) {
				for n, cert := range c.served(ctx, g) {
					g.Expect(cert.SerialNumber).NotTo(Equal(before[n].SerialNumber))
				}
			}).Should(Succeed())
			Expect(lives(c.pods(ctx))).To(Equal(ran))
			c.becomesReady(ctx)
			c.serves(ctx, c.member(0))
			c.answersApplications(ctx)
		}, NodeTimeout(2*patience))

		It("are issued for a member that joins", func(ctx SpecContext) {
			c.edit(ctx, `{"spec":{"size":3}}`)
			c.becomesReady(ctx)
			c.serves(ctx, c.member(2))
		}, NodeTimeout(2*patience))

		It("give way to the operator's own, which are trusted first, and leave nothing behind", func(ctx SpecContext) {
			c.edit(ctx, `{"spec":{"tls":{"client":null,"peer":null}}}`)
			Eventually(ctx, func(g Gomega) {
				g.Expect(string(c.secret(ctx, pki.ClientCASecret(c.name))[pki.KeyKey])).NotTo(Equal(pki.Elsewhere))
				g.Expect(c.phases(ctx)).To(Equal("Stable, Stable"))
			}).WithTimeout(8 * time.Minute).Should(Succeed())
			c.becomesReady(ctx)
			Expect(c.served(ctx, Default)[0].CheckSignatureFrom(clients.cert)).NotTo(Succeed())
			list := &unstructured.UnstructuredList{}
			list.SetGroupVersionKind(certmanager.Kind.GroupVersion().WithKind("CertificateList"))
			Expect(kube.List(ctx, list, client.InNamespace(c.namespace))).To(Succeed())
			Expect(list.Items).To(BeEmpty())
			err := kube.Get(ctx, client.ObjectKey{Namespace: c.namespace, Name: c.name + "-operator-issued"}, &corev1.Secret{})
			Expect(apierrors.IsNotFound(err)).To(BeTrue(), "%v", err)
			c.serves(ctx, c.member(0))
		}, NodeTimeout(10*time.Minute))
	})
})

var _ = Describe("Certificates of the user's own", Label(deep), Ordered, func() {
	var (
		c              cluster
		clients, peers *signer
	)
	// put writes a Secret, over what it held.
	put := func(ctx context.Context, name string, data map[string][]byte, err error) {
		GinkgoHelper()
		Expect(err).NotTo(HaveOccurred())
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: name}, Type: corev1.SecretTypeTLS, Data: data}
		if err := kube.Create(ctx, secret); !apierrors.IsAlreadyExists(err) {
			Expect(err).NotTo(HaveOccurred())
			return
		}
		putAuthority(ctx, secret, data)
	}
	leaf := func(ctx context.Context, name string, by *signer, commonName string, life time.Duration, names ...string) {
		GinkgoHelper()
		var ips []net.IP
		if slices.Contains(names, "127.0.0.1") {
			ips, names = []net.IP{net.IPv4(127, 0, 0, 1)}, slices.DeleteFunc(names, func(n string) bool { return n == "127.0.0.1" })
		}
		data, err := by.leaf(commonName, names, ips, life)
		put(ctx, name, data, err)
	}
	wildcard := func() string { return "*." + c.name + "." + c.namespace + ".svc" }
	service := func() string { return c.name + "-client." + c.namespace + ".svc" }

	BeforeAll(func(ctx SpecContext) {
		clients, peers = newSigner("clients of the user"), newSigner("peers of the user")
		c = cluster{newNamespace(ctx), "corp"}
		leaf(ctx, "corp-peer", peers, "peers", 24*time.Hour, wildcard())
		leaf(ctx, "corp-operator", clients, pki.OperatorName, 24*time.Hour)
		leaf(ctx, "corp-application", clients, "application", 24*time.Hour)
		leaf(ctx, "corp-server", clients, "servers", 24*time.Hour, wildcard(), "127.0.0.1")
		apply(ctx, c.namespace, c.name, `{size: 3, tls: {rotationSoak: 0s, client: {memberSecretRef: {name: corp-server}}, peer: {memberSecretRef: {name: corp-peer}}, operatorSecretRef: {name: corp-operator}, applicationSecretRef: {name: corp-application}}}`)
	}, NodeTimeout(patience))

	It("are tried before anybody starts", func(ctx SpecContext) {
		c.reports(ctx, patience, v1alpha1.ConditionTLSReady, "False", pki.ReasonCertificateRefused, "Secret corp-server holds a certificate that does not cover "+service())
		Expect(c.pods(ctx)).To(BeEmpty())
	}, NodeTimeout(patience))

	It("are what members serve and dial with", func(ctx SpecContext) {
		leaf(ctx, "corp-server", clients, "servers", 24*time.Hour, wildcard(), service(), "127.0.0.1")
		c.becomesReady(ctx)
		served := c.served(ctx, Default)
		Expect(served[0].Subject.CommonName).To(Equal("servers"))
		Expect(served[1].Subject.CommonName).To(Equal("peers"))
		for _, m := range c.members(3) {
			c.serves(ctx, m)
		}
		c.answersApplications(ctx)
	}, NodeTimeout(2*patience))

	It("go on when what takes their place cannot be used", func(ctx SpecContext) {
		ran, before := lives(c.pods(ctx)), c.served(ctx, Default)
		leaf(ctx, "corp-peer", peers, "peers", -time.Second, wildcard())
		c.reports(ctx, 2*time.Minute, v1alpha1.ConditionTLSReady, "False", pki.ReasonCertificateRefused, "Secret corp-peer holds a certificate that ended at ")
		Expect(lives(c.pods(ctx))).To(Equal(ran))
		Expect(c.served(ctx, Default)[1].SerialNumber).To(Equal(before[1].SerialNumber))
		c.serves(ctx, c.member(0))

		leaf(ctx, "corp-peer", peers, "peers", 24*time.Hour, wildcard())
		Eventually(ctx, func(g Gomega) {
			g.Expect(c.served(ctx, g)[1].SerialNumber).NotTo(Equal(before[1].SerialNumber))
		}).Should(Succeed())
		Expect(lives(c.pods(ctx))).To(Equal(ran))
		c.becomesReady(ctx)
	}, NodeTimeout(3*patience))

	It("may be of another authority, which is trusted first", func(ctx SpecContext) {
		peers = newSigner("peers of next year")
		leaf(ctx, "corp-peer", peers, "peers", 24*time.Hour, wildcard())
		Eventually(ctx, func(g Gomega) {
			now := parseCertificate(c.secret(ctx, pki.PeerCASecret(c.name))[pki.KeyCert])
			g.Expect(now.Subject.CommonName).To(Equal("peers of next year"))
			g.Expect(c.phases(ctx)).To(Equal("Stable, Stable"))
		}).WithTimeout(8 * time.Minute).Should(Succeed())
		c.becomesReady(ctx)
		c.serves(ctx, c.member(0))
	}, NodeTimeout(10*time.Minute))
})
