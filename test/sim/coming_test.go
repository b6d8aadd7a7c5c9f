package sim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/pki"
)

// corporate is an authority that is not the operator's, and what it issues to members.
type corporate struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// theCorporate is one for all worlds, since they share their histories.
var theCorporate = sync.OnceValue(func() corporate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	from := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "corporate"}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, &from, &from, key.Public(), key)
	must(err)
	cert, err := x509.ParseCertificate(der)
	must(err)
	return corporate{key, cert}
})

// issues a certificate for the peers of these names into the user's Secret.
func (a corporate) issues(w *World, names ...string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "peers"}, NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, DNSNames: names,
	}, a.cert, key.Public(), a.key)
	must(err)
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	data := map[string][]byte{
		pki.KeyCert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pki.KeyKey:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}),
		pki.KeyCA:   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}),
	}
	there, _ := w.API.find("Secret", types.NamespacedName{Namespace: w.Key.Namespace, Name: "corporate-peers"}).(*corev1.Secret)
	if there == nil {
		w.must(w.API.Create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.Key.Namespace, Name: "corporate-peers"}, Data: data}))
		return
	}
	there = there.DeepCopy()
	there.Data = data
	w.must(w.API.Update(there))
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func fromCorporate(s *v1alpha1.EtcdClusterSpec) {
	s.TLS.Peer.MemberSecretRef = &v1alpha1.SecretReference{Name: "corporate-peers"}
}

func peer(w *World, n int) string {
	return fmt.Sprintf("%s-%04d.%s.%s.svc", w.Key.Name, n, w.Key.Name, w.Key.Namespace)
}

// coveredLater is a restore that waits until the user's certificate covers the new names.
func coveredLater() workflow {
	authority := theCorporate()
	return workflow{name: "restoring in place once certificates cover the new names", long: true, before: func(w *World) {
		authority.issues(w, peer(w, 0), peer(w, 1), peer(w, 2))
		served(spec(3, fromCorporate))(w)
	}, begin: func(w *World) {
		carryBack("back", 1)(w)
		w.After(5*time.Second, func() { authority.issues(w, "*."+w.Key.Name+"."+w.Key.Namespace+".svc") })
	}, done: recovered}
}

// TestARestoreWaitsForCertificates: while those who would begin the next incarnation could not
// start, nobody is stopped; once they can, it goes on by itself. A restore that is taken back
// while it waits leaves nothing behind.
func TestARestoreWaitsForCertificates(t *testing.T) {
	for name, takenBack := range map[string]bool{"the Secret is mended": false, "the restore is taken back": true} {
		t.Run(name, func(t *testing.T) {
			authority := theCorporate()
			w := workflow{name: "a cluster whose certificates cover three names", before: func(w *World) {
				authority.issues(w, peer(w, 0), peer(w, 1), peer(w, 2))
				served(spec(3, fromCorporate))(w)
			}}.start()
			before := w.Pods()
			carryBack("back", 1)(w)
			w.For(2 * time.Minute)
			s := w.Cluster().Status
			if now := w.Pods(); fmt.Sprint(now) != fmt.Sprint(before) || s.Incarnation != 1 || !w.Healthy() {
				t.Fatalf("incarnation %d; the pods were %v and are %v", s.Incarnation, before, now)
			}
			if s.Restore == nil || s.Restore.Begun != nil || !strings.Contains(s.Restore.Message, "Secret corporate-peers holds a certificate that does not cover "+peer(w, 3)) || strings.Count(s.Restore.Message, " — ") != 2 {
				t.Fatalf("status.restore is %+v", s.Restore)
			}
			if takenBack {
				takeBack(w)
				w.For(time.Minute)
				if s := w.Cluster().Status; s.Restore != nil || s.Incarnation != 1 || !w.Healthy() || w.secret(pki.MemberSecret("c-0003")) != nil {
					t.Errorf("taken back: %+v, incarnation %d", s.Restore, s.Incarnation)
				}
			} else {
				authority.issues(w, "*."+w.Key.Name+"."+w.Key.Namespace+".svc")
				if !w.Run(func() bool { return recovered(w) }, patience) {
					t.Errorf("it does not go on:\n%s", w.Notes(100))
				}
			}
			if v := w.Violations(); len(v) > 0 {
				t.Errorf("broke %v\n%s", v, w.Notes(60))
			}
		})
	}
}
