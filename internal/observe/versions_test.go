package observe

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/internal/pki"
)

// TestObjectsThatWereInOrderAreComparedAgain: what is remembered of an object ends
// with its version, with its UID and with what is wanted of it.
func TestObjectsThatWereInOrderAreComparedAgain(t *testing.T) {
	service := func(w *world) *corev1.Service {
		i := slices.IndexFunc(w.objects, func(o client.Object) bool { s, ok := o.(*corev1.Service); return ok && s.Name == "a-client" })
		return w.objects[i].(*corev1.Service)
	}
	cases := map[string]struct {
		change func(*world)
		drifts bool
	}{
		"somebody changes it": {func(w *world) {
			service(w).Spec.Selector["x"] = "y"
			service(w).ResourceVersion = "1000"
		}, true},
		"somebody deletes it": {func(w *world) {
			gone := service(w)
			w.objects = slices.DeleteFunc(w.objects, func(o client.Object) bool { return o == client.Object(gone) })
		}, true},
		"it is made anew": {func(w *world) {
			service(w).Spec.Selector["x"] = "y"
			service(w).UID = "another"
		}, true},
		"another is wanted": {func(w *world) { w.cluster.Status.Incarnation = 7 }, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := founded(t)
			for range 2 {
				if seen := w.see(); len(seen.ObjectsDue) > 0 {
					t.Fatalf("due from the start: %v", seen.ObjectsDue)
				}
			}
			m := w.observer.remember(w.cluster)
			if len(m.agreed) == 0 {
				t.Fatal("nothing is remembered")
			}
			tc.change(w)
			for range 2 {
				// It has drifted until it is put back.
				seen := w.see()
				if !slices.Contains(seen.ObjectsDue, "Service a-client") || slices.Contains(seen.Drifted, "Service a-client") != tc.drifts {
					t.Errorf("due: %v, drifted: %v", seen.ObjectsDue, seen.Drifted)
				}
			}
		})
	}
}

// TestNothingIsComparedTwice: whatever changed the cluster, the look after the next one
// finds the very objects that it agreed upon, for a comparison by value in every look is
// a twentieth of an operator at rest.
func TestNothingIsComparedTwice(t *testing.T) {
	w := founded(t)
	w.cluster.ResourceVersion = "1"
	w.see()
	w.cluster.ResourceVersion = "2"
	w.see()
	m := w.observer.remember(w.cluster)
	if len(m.wanted.objects) == 0 {
		t.Fatal("nothing is wanted")
	}
	for _, object := range m.wanted.objects {
		if was := m.agreed[object.Kind+" "+object.Name]; was.want != object.Want {
			t.Errorf("%s %s is compared by value in every look", object.Kind, object.Name)
		}
	}
}

// TestSecretsAreVerifiedWhenTheyChange: a Secret with a new version is looked into
// when it is read next, and all of them now and then.
func TestSecretsAreVerifiedWhenTheyChange(t *testing.T) {
	w := founded(t)
	secure(t, w)
	if seen := w.see(); len(seen.CertificatesDue) > 0 {
		t.Fatalf("due from the start: %v", seen.CertificatesDue)
	}
	spoil := w.secret("a-0001-tls")
	spoil.Data[pki.KeyServerCert] = []byte("garbage")
	w.clock.SetTime(w.clock.Now().Add(time.Minute))
	if seen := w.see(); len(seen.CertificatesDue) > 0 {
		t.Errorf("Secrets whose versions are known were parsed: %v", seen.CertificatesDue)
	}
	spoil.ResourceVersion = "1000"
	w.clock.SetTime(w.clock.Now().Add(time.Minute))
	if seen := w.see(); !slices.Contains(seen.CertificatesDue, "Secret a-0001-tls") {
		t.Errorf("a new version was not looked into: %v", seen.CertificatesDue)
	}
}

func TestSecretsAreVerifiedNowAndThen(t *testing.T) {
	w := founded(t)
	secure(t, w)
	w.see()
	w.secret("a-0001-tls").Data[pki.KeyServerCert] = []byte("garbage")
	w.clock.SetTime(w.clock.Now().Add(certificatesVerified))
	if seen := w.see(); !slices.Contains(seen.CertificatesDue, "Secret a-0001-tls") {
		t.Errorf("due: %v", seen.CertificatesDue)
	}
}
