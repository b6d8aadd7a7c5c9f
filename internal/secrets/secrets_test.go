package secrets

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/resources"
)

var (
	now     = time.Unix(1e9, 0)
	members = []string{"a-0000", "a-0001"}
)

func cluster() *v1alpha1.EtcdCluster {
	return &v1alpha1.EtcdCluster{
		ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "ns", UID: "5e1f"},
		Spec:       v1alpha1.EtcdClusterSpec{TLS: v1alpha1.TLSSpec{Mode: v1alpha1.TLSEnabled, LeafDuration: metav1.Duration{Duration: 2160 * time.Hour}}},
	}
}

// issued are the Secrets of a cluster in order, of two members if none are named.
func issued(t *testing.T, c *v1alpha1.EtcdCluster, named ...string) []client.Object {
	t.Helper()
	members := members
	if len(named) > 0 {
		members = named
	}
	set, err := Reader{Live: fake.NewClientBuilder().Build(), Now: now}.Read(t.Context(), c, members)
	if err != nil {
		t.Fatal(err)
	}
	var out []client.Object
	for _, s := range set.Plan.Create {
		out = append(out, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: s.Name, Namespace: "ns", Labels: resources.Labels(c)}, Data: s.Data})
	}
	return out
}

func TestRead(t *testing.T) {
	c := cluster()
	all := []string{"Secret a-0000-tls", "Secret a-0001-tls", "Secret a-client-ca", "Secret a-client-tls", "Secret a-operator-tls", "Secret a-peer-ca"}
	without := func(name string, list []client.Object) []client.Object {
		return slices.DeleteFunc(list, func(o client.Object) bool { return o.GetName() == name })
	}
	foreign := func(name string, list []client.Object) []client.Object {
		for _, o := range list {
			if o.GetName() == name {
				o.GetLabels()[v1alpha1.LabelClusterUID] = "01d"
			}
		}
		return list
	}
	// owned by a deleted cluster whose volumes, and so whose UID in labels, are this one's.
	owned := func(list []client.Object) []client.Object {
		for _, o := range list {
			o.SetOwnerReferences([]metav1.OwnerReference{{Kind: "EtcdCluster", Name: "a", UID: "01d", Controller: new(true)}})
		}
		return list
	}
	cases := map[string]struct {
		secrets       []client.Object
		founded       bool
		plaintext     bool
		due, stranger []string
		problems      int
	}{
		"none exists":                       {nil, false, false, all, nil, 0},
		"none exists after the founding":    {nil, true, false, nil, nil, 2},
		"none exists when TLS is turned on": {nil, true, true, all, nil, 0},
		"all are in order":                  {issued(t, c), true, false, nil, nil, 0},
		"a leaf is missing":                 {without("a-0001-tls", issued(t, c)), true, false, []string{"Secret a-0001-tls"}, nil, 0},
		"an authority went with a member":   {without("a-peer-ca", issued(t, c)), true, false, nil, nil, 1},
		"a namesake's leaf stops it all":    {foreign("a-0000-tls", without("a-0001-tls", issued(t, c))), false, false, nil, []string{"a-0000-tls"}, 0},
		"those of a deleted cluster go":     {owned(issued(t, c)), false, false, nil, []string{"a-client-ca", "a-peer-ca", "a-operator-tls", "a-client-tls", "a-0000-tls", "a-0001-tls"}, 0},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := cluster()
			if tc.founded {
				c.Status.ClusterID = "c1"
			}
			c.Status.PlaintextPeers = tc.plaintext
			api := fake.NewClientBuilder().WithObjects(tc.secrets...).WithInterceptorFuncs(interceptor.Funcs{
				List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
					t.Error("Secrets are listed; the operator has no right to")
					return nil
				},
			}).Build()
			set, err := Reader{Live: api, Now: now}.Read(t.Context(), c, members)
			if err != nil {
				t.Fatal(err)
			}
			due := set.Due()
			slices.Sort(due)
			var foreign []string
			for _, s := range set.Foreign {
				foreign = append(foreign, s.Name)
			}
			if !slices.Equal(due, tc.due) || !slices.Equal(foreign, tc.stranger) || len(set.Plan.Problems) != tc.problems {
				t.Errorf("due %v, foreign %v, problems %+v", due, foreign, set.Plan.Problems)
			}
			if _, ok := set.Live["a-0000-tls"]; ok && len(tc.stranger) > 0 {
				t.Error("somebody else's Secret counts as ours")
			}
		})
	}
}

// TestAUsersAuthority is read by its name, and another one in its Secret is noticed.
func TestAUsersAuthority(t *testing.T) {
	c := cluster()
	c.Spec.TLS.Peer.AuthoritySecretRef = &v1alpha1.SecretReference{Name: "corp-ca"}
	source := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "corp-ca", Namespace: "ns"}}
	for _, s := range issued(t, cluster()) {
		if s.GetName() == "a-peer-ca" {
			source.Data = s.(*corev1.Secret).Data
		}
	}
	read := func(versions string, objects ...client.Object) Set {
		t.Helper()
		set, err := Reader{Live: fake.NewClientBuilder().WithObjects(objects...).Build(), Now: now}.ReadSince(t.Context(), versions, c, members)
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	missing := read("")
	if len(missing.Plan.Problems) != 1 || !strings.Contains(missing.Plan.Problems[0].Message, "Secret corp-ca does not exist") {
		t.Errorf("problems %+v", missing.Plan.Problems)
	}
	there := read(missing.Versions, source)
	if len(there.Plan.Problems) > 0 || len(there.Foreign) > 0 || len(there.Plan.Create) != 6 {
		t.Errorf("due %v, problems %+v", there.Due(), there.Plan.Problems)
	}
	if again := read(there.Versions, source); len(again.Plan.Create) > 0 {
		t.Error("what has not changed is planned again")
	}
}

func TestReadWithoutTLS(t *testing.T) {
	c := cluster()
	c.Spec.TLS.Mode = v1alpha1.TLSDisabled
	set, err := Reader{Now: now}.Read(t.Context(), c, members)
	if err != nil || len(set.Due()) > 0 {
		t.Errorf("Read() = %+v, %v", set, err)
	}
}

func TestReadErrors(t *testing.T) {
	api := fake.NewClientBuilder().WithInterceptorFuncs(interceptor.Funcs{
		Get: func(_ context.Context, _ client.WithWatch, key client.ObjectKey, _ client.Object, _ ...client.GetOption) error {
			return apierrors.NewForbidden(corev1.Resource("secrets"), key.Name, errors.New("no right to"))
		},
	}).Build()
	_, err := Reader{Live: api, Now: now}.Read(t.Context(), cluster(), members)
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "Secret a-client-ca") {
		t.Errorf("Read() = %v, want the API's words and the Secret's name", err)
	}
}
