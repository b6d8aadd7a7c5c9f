package secrets

import (
	"context"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/certmanager"
	"github.com/quorate/quorate/internal/pki"
	"github.com/quorate/quorate/internal/resources"
)

// coming are founders that do not exist yet.
var coming = []string{"a-0002", "a-0003"}

// comes reads as it is done while an incarnation is about to begin.
func comes(t *testing.T, c *v1alpha1.EtcdCluster, objects ...client.Object) Set {
	t.Helper()
	set, err := Reader{Live: fake.NewClientBuilder().WithObjects(objects...).Build(), Now: now, Coming: coming}.Read(t.Context(), c, members)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func runs() *v1alpha1.EtcdCluster {
	c := cluster()
	c.Status.ClusterID = "c1"
	return c
}

// lacks says that the coming members would lack something, in these words.
func lacks(t *testing.T, name string, set Set, what, do string) {
	t.Helper()
	if set.Lack == nil || !strings.Contains(set.Lack.What, what) || !strings.Contains(set.Lack.Do, do) || strings.Contains(set.Lack.What+set.Lack.Do, " — ") {
		t.Errorf("%s: lack is %+v, want %q and %q", name, set.Lack, what, do)
	}
}

// TestComing: what the operator issues itself it can issue at any time, so nothing is written
// before; and what is in the way of those that come is no trouble of those that run.
func TestComing(t *testing.T) {
	if set := comes(t, runs(), issued(t, cluster())...); set.Lack != nil || len(set.Due())+len(set.Plan.Problems) > 0 {
		t.Errorf("of the operator's own: lack %+v, due %v, problems %+v", set.Lack, set.Due(), set.Plan.Problems)
	}
	theirs := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "a-0003-tls", Namespace: "ns"}}
	set := comes(t, runs(), append(issued(t, cluster()), theirs)...)
	lacks(t, "a name is taken", set, "Secret a-0003-tls exists and does not belong to this cluster", "delete the Secret")
	if len(set.Due())+len(set.Foreign)+len(set.Plan.Problems) > 0 {
		t.Errorf("a name is taken: due %v, foreign %v, problems %+v", set.Due(), set.Foreign, set.Plan.Problems)
	}
	without := slices.DeleteFunc(issued(t, cluster()), func(o client.Object) bool { return o.GetName() == "a-peer-ca" })
	lacks(t, "an authority is gone", comes(t, runs(), without...), "Secret a-peer-ca", "")
	strange := issued(t, cluster())
	for _, o := range strange {
		if o.GetName() == "a-0000-tls" {
			o.SetLabels(nil)
		}
	}
	lacks(t, "a present name is taken", comes(t, runs(), strange...), "Secret a-0000-tls exists", "delete")
}

// TestCertManagerIsAskedForThoseThatCome, and for nobody who does not come any more; what it
// says of them is no trouble of those that run.
func TestCertManagerIsAskedForThoseThatCome(t *testing.T) {
	all := slices.Concat(members, coming)
	c := cluster()
	c.Spec.TLS.Client, c.Spec.TLS.Peer = byCertManager("clients"), byCertManager("peers")
	read := func(c *v1alpha1.EtcdCluster, members []string, objects ...client.Object) Set {
		set, err := Reader{Live: fake.NewClientBuilder().WithObjects(objects...).Build(), Now: now}.Read(t.Context(), c, members)
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	written := certManagerWrites(t, all...)
	early := func(o client.Object) bool {
		return !strings.HasPrefix(o.GetName(), "a-0002") && !strings.HasPrefix(o.GetName(), "a-0003")
	}
	present := slices.DeleteFunc(slices.Clone(written), func(o client.Object) bool { return !early(o) })
	there := append(present, ready(read(c, members).Asked.Create, "True", "")...)
	for _, s := range read(c, members, there...).Plan.Create {
		there = append(there, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: s.Name, Namespace: "ns", Labels: resources.Labels(c)}, Data: s.Data})
	}
	c.Status.ClusterID = "c1"
	before := len(there)

	first := comes(t, c, there...)
	want := []string{"a-0002-server-issued", "a-0002-peer-issued", "a-0003-server-issued", "a-0003-peer-issued"}
	if got := namesOf(first.Asked.Create); !slices.Equal(got, want) || len(first.Asked.Delete)+len(first.Plan.Create)+len(first.Plan.Problems) > 0 {
		t.Fatalf("asked for %v, deleted %v, created %v, problems %+v", got, namesOf(first.Asked.Delete), first.Plan.Create, first.Plan.Problems)
	}
	lacks(t, "not asked yet", first, "it is about to be asked for", "kubectl describe certificate a-0002-server-issued")

	waiting := append(slices.Clone(there), ready(first.Asked.Create, "False", "Referenced \"Issuer\" not found")...)
	set := comes(t, c, waiting...)
	lacks(t, "it waits", set, "Referenced \"Issuer\" not found", "and its issuer")
	if len(set.Due())+len(set.Plan.Problems) > 0 {
		t.Errorf("it waits: due %v, problems %+v", set.Due(), set.Plan.Problems)
	}

	late := slices.DeleteFunc(slices.Clone(written), early)
	issuedAll := append(append(slices.Clone(there), ready(first.Asked.Create, "True", "")...), late...)
	if set := comes(t, c, issuedAll...); set.Lack != nil || len(set.Due())+len(set.Plan.Problems) > 0 {
		t.Errorf("all are issued: lack %+v, due %v, problems %+v", set.Lack, set.Due(), set.Plan.Problems)
	}
	one := append(append(slices.Clone(there), ready(first.Asked.Create[:2], "True", "")...), ready(first.Asked.Create[2:], "False", "in a queue")...)
	lacks(t, "one is not", comes(t, c, append(one, late...)...), "a-0003-server-issued (in a queue)", "")

	// Taken back: nothing is left of them.
	if got := namesOf(read(c, members, issuedAll...).Asked.Delete); !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
		t.Errorf("nobody comes any more, and %v are deleted", got)
	}
	if len(there) != before {
		t.Fatal("the test changed what is there")
	}
}

// TestThoseThatComeWithoutCertManager wait until it is there.
func TestThoseThatComeWithoutCertManager(t *testing.T) {
	c := runs()
	c.Spec.TLS.Peer = byCertManager("peers")
	api := fake.NewClientBuilder().WithObjects(issued(t, cluster())...).WithInterceptorFuncs(interceptor.Funcs{
		List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
			return &meta.NoKindMatchError{GroupKind: certmanager.Kind.GroupKind(), SearchedVersions: []string{"v1"}}
		},
	}).Build()
	set, err := Reader{Live: api, Now: now, Coming: coming}.Read(t.Context(), c, members)
	if err != nil {
		t.Fatal(err)
	}
	// The operator's own authority still signs, and signs for them as well until it is rotated.
	if set.Lack != nil {
		t.Errorf("lack is %+v", set.Lack)
	}
	for _, o := range issued(t, cluster()) {
		if o.GetName() == "a-peer-ca" {
			s := o.(*corev1.Secret)
			s.Data[pki.KeyKey] = []byte(pki.Elsewhere)
			s.ResourceVersion = ""
			if err := api.Delete(t.Context(), s.DeepCopy()); err != nil {
				t.Fatal(err)
			}
			if err := api.Create(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
	}
	if set, err = (Reader{Live: api, Now: now, Coming: coming}).Read(t.Context(), c, members); err != nil {
		t.Fatal(err)
	}
	lacks(t, "nobody can be asked", set, "cert-manager", "")
}

// TestAUsersCertificateThatDoesNotCoverThoseWhoCome holds them, and goes on for those that run.
func TestAUsersCertificateThatDoesNotCoverThoseWhoCome(t *testing.T) {
	c := runs()
	c.Spec.TLS.Peer.MemberSecretRef = &v1alpha1.SecretReference{Name: "corp-peer"}
	there := issued(t, cluster(), "a-0000")
	var corp *corev1.Secret
	for _, o := range there {
		s := o.(*corev1.Secret)
		if s.Name == "a-0000-tls" {
			corp = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "corp-peer", Namespace: "ns"}, Data: map[string][]byte{
				pki.KeyCert: s.Data[pki.KeyPeerCert], pki.KeyKey: s.Data[pki.KeyPeerKey], pki.KeyCA: s.Data[pki.KeyPeerCA],
			}}
		}
		if s.Name == "a-peer-ca" {
			s.Data[pki.KeyKey] = []byte(pki.Elsewhere)
		}
	}
	there = append(there, corp)
	set, err := Reader{Live: fake.NewClientBuilder().WithObjects(there...).Build(), Now: now, Coming: coming}.Read(t.Context(), c, []string{"a-0000"})
	if err != nil {
		t.Fatal(err)
	}
	lacks(t, "it names another", set, "Secret corp-peer holds a certificate that does not cover a-0002.a.ns.svc, a-0003.a.ns.svc", "put a certificate")
	if len(set.Due())+len(set.Plan.Problems) > 0 {
		t.Errorf("due %v, problems %+v", set.Due(), set.Plan.Problems)
	}
}
