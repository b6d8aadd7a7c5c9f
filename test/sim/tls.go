package sim

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/pki"
	"github.com/quorate/quorate/internal/resources"
)

// projection is how often a kubelet brings Secrets into the files of its pods.
const projection = time.Minute

// applicationReads is how often an application reads its Secret again.
const applicationReads = 25 * time.Second

// application holds what it last read of the Secret for applications.
type application struct {
	holds map[string][]byte
	at    time.Time
}

// reads has the application read its Secret, if it is time to.
func (w *World) reads() {
	if now := w.Clock.Now(); now.Sub(w.application.at) >= applicationReads {
		w.application = application{holds: w.secret(pki.ClientSecret(w.Key.Name)), at: now}
		w.check.trustChanged = true
	}
}

// secret is what a Secret holds; nil when there is none.
func (w *World) secret(name string) map[string][]byte {
	s, _ := w.API.find("Secret", types.NamespacedName{Namespace: w.Key.Namespace, Name: name}).(*corev1.Secret)
	if s == nil {
		return nil
	}
	return s.Data
}

// mount brings the pod's Secret into its files: when it is new, and later when the
// kubelet gets to it.
func (m *machines) mount(pod *corev1.Pod, r *run) {
	now := m.w.Clock.Now()
	if now.Before(r.mountAgain) {
		return
	}
	for _, v := range pod.Spec.Volumes {
		if v.Secret != nil {
			if data := m.w.secret(v.Secret.SecretName); data != nil {
				r.files, r.mountAgain = data, now.Add(projection)
				m.w.check.trustChanged = true
			}
		}
	}
}

// Greet shows what a member's process uses: the leaf that is in its files, and the
// authorities that were there when it started.
func (d dialer) Greet(_ context.Context, to etcd.Endpoint, ca []byte) (shown etcd.Shown, err error) {
	member, _, _ := strings.Cut(to.ServerName, ".")
	leaf, trusts := pki.KeyServerCert, pki.KeyClientCA
	port := to.Address[strings.LastIndexByte(to.Address, ':'):]
	atPeers := port != fmt.Sprintf(":%d", resources.ClientPort)
	if atPeers {
		leaf, trusts = pki.KeyPeerCert, pki.KeyPeerCA
	}
	err = d.op.call(Call{Method: "greet", Object: member + " " + leaf, Etcd: true}, func() error {
		for _, r := range d.op.w.nodes.running() {
			if r.process.Flags.Name != member || r.files == nil || !d.op.w.nodes.nodeReady(r.node) {
				continue
			}
			if atPeers && !slices.Contains(r.process.Flags.ListenPeers, "https://0.0.0.0"+port) {
				return fmt.Errorf("%w: port %s takes no TLS", etcd.ErrUnreachable, port)
			}
			if !verifies(ca, r.files[leaf]) {
				return fmt.Errorf("%w: unknown authority", etcd.ErrUnreachable)
			}
			block, _ := pem.Decode(r.files[leaf])
			shown.Leaf = block.Bytes
			for _, cert := range certificates(r.read[trusts]) {
				shown.Trusts = append(shown.Trusts, cert.RawSubject)
			}
			return nil
		}
		return etcd.ErrUnreachable
	})
	return shown, err
}

func certificates(file []byte) (certs []*x509.Certificate) {
	for block, rest := pem.Decode(file); block != nil; block, rest = pem.Decode(rest) {
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			certs = append(certs, cert)
		}
	}
	return certs
}

// verified remembers which leaf whose trusts take.
var verified sync.Map

// verifies says that whoever trusts ca takes the leaf, whatever the time.
func verifies(ca, leaf []byte) bool {
	key := fmt.Sprintf("%x%x", sha256.Sum256(ca), sha256.Sum256(leaf))
	if is, known := verified.Load(key); known {
		return is.(bool)
	}
	is := false
	if certs := certificates(leaf); len(certs) > 0 {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(ca)
		_, err := certs[0].Verify(x509.VerifyOptions{
			Roots: pool, CurrentTime: certs[0].NotBefore.Add(pki.Backdate), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		})
		is = err == nil
	}
	verified.Store(key, is)
	return is
}

// trust: every process takes the leaves of its peers, of the operator and of the
// application, and they take its own.
func (k *checker) trust(c *v1alpha1.EtcdCluster) {
	if !k.trustChanged || !resources.TLS(c) {
		return
	}
	k.trustChanged = false
	operator, application := k.w.secret(pki.OperatorSecret(c.Name)), k.w.application.holds
	need := func(ca, leaf []byte, format string, args ...any) {
		if len(leaf) > 0 && !verifies(ca, leaf) {
			k.violate("trust", format, args...)
		}
	}
	for _, r := range k.w.nodes.running() {
		name := r.process.Flags.Name
		if !protected(r) {
			continue
		}
		for _, other := range k.w.nodes.running() {
			need(r.read[pki.KeyPeerCA], other.files[pki.KeyPeerCert], "%s refuses its peer %s", name, other.process.Flags.Name)
		}
		need(r.read[pki.KeyClientCA], operator[pki.KeyCert], "%s refuses the operator", name)
		need(r.read[pki.KeyClientCA], application[pki.KeyCert], "%s refuses the application", name)
		if len(operator) > 0 {
			need(operator[pki.KeyCA], r.files[pki.KeyServerCert], "the operator refuses %s", name)
		}
		if len(application) > 0 {
			need(application[pki.KeyCA], r.files[pki.KeyServerCert], "the application refuses %s", name)
		}
	}
}

// protected says that the process of a run takes TLS.
func protected(r *run) bool { return slices.Contains(r.process.Flags.Takes, "https") }

// transport: whatever is changed, each member reaches each other one at the URL that etcd
// lists; and plaintext goes only where the user says so.
func (k *checker) transport(c *v1alpha1.EtcdCluster) {
	for _, pair := range k.w.Etcd.CutOff() {
		k.violate("transport", "%s", pair)
	}
	if k.plaintextEnds = k.plaintextEnds || c.Spec.TLS.Mode == v1alpha1.TLSEnabled; k.plaintextEnds {
		return
	}
	for _, r := range k.w.nodes.running() {
		if !slices.Contains(r.process.Flags.Takes, "http") {
			k.violate("transport", "%s takes no plaintext, and spec.tls.mode is %s", r.process.Flags.Name, c.Spec.TLS.Mode)
		}
	}
}

// protectedAlone says that nobody takes plaintext any more, and etcd lists no such URL.
func protectedAlone(w *World) bool {
	c := w.Cluster()
	if c == nil || c.Spec.TLS.Mode != v1alpha1.TLSEnabled || c.Status.PlaintextPeers || !w.Healthy() {
		return false
	}
	return !slices.ContainsFunc(w.API.all("Pod"), func(o client.Object) bool {
		plaintext, protected := resources.Taken(o.(*corev1.Pod))
		return plaintext || !protected
	})
}

// wantedTrust is the hash of the authorities that members are to trust.
func (k *checker) wantedTrust(c *v1alpha1.EtcdCluster) string {
	have := map[string]map[string][]byte{}
	for _, name := range pki.SecretNames(c.Name, nil) {
		have[name] = k.w.secret(name)
	}
	return pki.Plan(k.w.Clock.Now(), pki.Inputs{Cluster: c.Name, Namespace: c.Namespace, Secrets: have}).Trust
}

// rotated says that both authorities are new since the time and alone, for everybody.
func rotated(w *World, since time.Time) bool {
	c := w.Cluster()
	if c == nil || c.Status.TLS == nil || len(c.Status.TLS.Authorities) != 2 || !w.Healthy() {
		return false
	}
	for _, a := range c.Status.TLS.Authorities {
		issued := certificates(w.secret(a.Secret)[pki.KeyCert])[0].NotBefore.Add(pki.Backdate)
		if a.Phase != v1alpha1.AuthorityStable || issued.Before(since) {
			return false
		}
	}
	want := w.check.wantedTrust(c)
	return !slices.ContainsFunc(w.API.all("Pod"), func(o client.Object) bool {
		return o.(*corev1.Pod).Annotations[v1alpha1.AnnotationTrust] != want
	})
}
