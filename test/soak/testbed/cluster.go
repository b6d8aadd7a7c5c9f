package testbed

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/pki"
	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/test/load"
)

// Cluster is an EtcdCluster on a bed.
type Cluster struct {
	*Bed
	Namespace, Name string
}

// Get reads the cluster.
func (c Cluster) Get(ctx context.Context) (*v1alpha1.EtcdCluster, error) {
	object := &v1alpha1.EtcdCluster{}
	if err := c.Kube.Get(ctx, client.ObjectKey{Namespace: c.Namespace, Name: c.Name}, object); err != nil {
		return nil, fmt.Errorf("reading cluster %s: %w", c.Name, err)
	}
	return object, nil
}

// Edit merges a patch, in JSON, into the cluster.
func (c Cluster) Edit(ctx context.Context, patch string) error {
	object := &v1alpha1.EtcdCluster{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: c.Name}}
	if err := c.Kube.Patch(ctx, object, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		return fmt.Errorf("editing cluster %s: %w", c.Name, err)
	}
	return nil
}

func (b *Bed) pod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	pod := &corev1.Pod{}
	return pod, b.Kube.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, pod)
}

// Pods of the cluster by name; those on their way out count.
func (c Cluster) Pods(ctx context.Context) (map[string]corev1.Pod, error) {
	var list corev1.PodList
	if err := c.Kube.List(ctx, &list, client.InNamespace(c.Namespace), client.MatchingLabels{v1alpha1.LabelCluster: c.Name}); err != nil {
		return nil, fmt.Errorf("listing the pods of %s: %w", c.Name, err)
	}
	out := map[string]corev1.Pod{}
	for _, pod := range list.Items {
		out[pod.Name] = pod
	}
	return out, nil
}

// Claims of the cluster by name, quarantined ones among them.
func (c Cluster) Claims(ctx context.Context) (map[string]corev1.PersistentVolumeClaim, error) {
	var list corev1.PersistentVolumeClaimList
	if err := c.Kube.List(ctx, &list, client.InNamespace(c.Namespace), client.MatchingLabels{v1alpha1.LabelCluster: c.Name}); err != nil {
		return nil, fmt.Errorf("listing the claims of %s: %w", c.Name, err)
	}
	out := map[string]corev1.PersistentVolumeClaim{}
	for _, claim := range list.Items {
		out[claim.Name] = claim
	}
	return out, nil
}

// Credentials are those that <cluster>-client-tls gives to applications.
func (c Cluster) Credentials(ctx context.Context) (*tls.Config, error) {
	secret := &corev1.Secret{}
	if err := c.Kube.Get(ctx, client.ObjectKey{Namespace: c.Namespace, Name: pki.ClientSecret(c.Name)}, secret); err != nil {
		return nil, fmt.Errorf("reading the clients' Secret of %s: %w", c.Name, err)
	}
	pair, err := tls.X509KeyPair(secret.Data[pki.KeyCert], secret.Data[pki.KeyKey])
	if err != nil {
		return nil, fmt.Errorf("reading the clients' certificate of %s: %w", c.Name, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(secret.Data[pki.KeyCA]) {
		return nil, fmt.Errorf("the clients' Secret of %s has no authority's certificate", c.Name)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// Endpoint is a member's client URL.
func (c Cluster) Endpoint(member string) string {
	return fmt.Sprintf("https://%s.%s.%s.svc:2379", member, c.Name, c.Namespace)
}

func (c Cluster) endpoints(members []string) []string {
	out := make([]string, 0, len(members))
	for _, m := range members {
		out = append(out, c.Endpoint(m))
	}
	return out
}

// Client of these members. Each of its requests should be bounded in time.
func (c Cluster) Client(ctx context.Context, members ...string) (*clientv3.Client, error) {
	as, err := c.Credentials(ctx)
	if err != nil {
		return nil, err
	}
	out, err := clientv3.New(clientv3.Config{
		Endpoints: c.endpoints(members), TLS: as, Logger: zap.NewNop(),
		DialKeepAliveTime: 2 * time.Second, DialKeepAliveTimeout: 2 * time.Second,
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(c.Dial(c.Namespace))},
	})
	if err != nil {
		return nil, fmt.Errorf("making a client of %s: %w", c.Name, err)
	}
	return out, nil
}

// Voters that status names, in order.
func (c Cluster) Voters(ctx context.Context) ([]string, error) {
	object, err := c.Get(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, m := range object.Status.Members {
		if m.Role == v1alpha1.RoleVoter {
			out = append(out, m.Name)
		}
	}
	return out, nil
}

// Load is a load on the cluster, with TLS, that follows its members.
func (c Cluster) Load(ctx context.Context) (load.Config, error) {
	voters, err := c.Voters(ctx)
	if err != nil {
		return load.Config{}, err
	}
	as, err := c.Credentials(ctx)
	return load.Config{
		Endpoints: c.endpoints(voters), TLS: as, Dial: c.Dial(c.Namespace),
		Follow: func(ctx context.Context) ([]string, error) {
			voters, err := c.Voters(ctx)
			return c.endpoints(voters), err
		},
	}, err
}

// List asks the members, with a linearizable read, for etcd's member list.
func (c Cluster) List(ctx context.Context, members ...string) ([]*pb.Member, error) {
	cl, err := c.Client(ctx, members...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = cl.Close() }()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	list, err := cl.MemberList(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking %s for the members of %s: %w", strings.Join(members, ", "), c.Name, err)
	}
	return list.Members, nil
}

// Etcd is etcd's member list, learners among them: IDs by member name, which is
// taken from the peer URL, since a member that has not started has no other.
func (c Cluster) Etcd(ctx context.Context, members ...string) (map[string]uint64, error) {
	list, err := c.List(ctx, members...)
	if err != nil {
		return nil, err
	}
	out := map[string]uint64{}
	for _, m := range list {
		_, host, _ := strings.Cut(strings.Join(m.PeerURLs, ","), "://")
		name, _, _ := strings.Cut(host, ".")
		out[name] = m.ID
	}
	return out, nil
}

// ErrNoLeader means that none of the members that were asked leads.
var ErrNoLeader = errors.New("no member leads")

// Leader asks the members themselves who of them leads, and in which term:
// status is a few seconds old.
func (c Cluster) Leader(ctx context.Context, members ...string) (name string, term uint64, err error) {
	cl, err := c.Client(ctx, members...)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = cl.Close() }()
	failed := []error{ErrNoLeader}
	for _, m := range members {
		asked, cancel := context.WithTimeout(ctx, 5*time.Second)
		status, err := cl.Status(asked, c.Endpoint(m))
		cancel()
		if err != nil {
			failed = append(failed, fmt.Errorf("asking %s: %w", m, err))
		} else if status.Leader == status.Header.MemberId {
			return m, status.RaftTerm, nil
		}
	}
	return "", 0, errors.Join(failed...)
}

// MoveLeader hands the leadership to a member, which may have it already.
func (c Cluster) MoveLeader(ctx context.Context, to string) error {
	voters, err := c.Voters(ctx)
	if err != nil {
		return err
	}
	leader, _, err := c.Leader(ctx, voters...)
	if err != nil || leader == to {
		return err
	}
	listed, err := c.Etcd(ctx, leader)
	if err != nil {
		return err
	}
	cl, err := c.Client(ctx, leader)
	if err != nil {
		return err
	}
	defer func() { _ = cl.Close() }()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if _, err := cl.MoveLeader(ctx, listed[to]); err != nil {
		return fmt.Errorf("handing the leadership of %s from %s to %s: %w", c.Name, leader, to, err)
	}
	return nil
}

// Healthy says why the cluster is not what its spec wants, with every member a
// voter that is Ready, and with the same members in etcd's own list, in status,
// among the pods and among the claims.
func (c Cluster) Healthy(ctx context.Context) error {
	object, err := c.Get(ctx)
	if err != nil {
		return err
	}
	ready := meta.FindStatusCondition(object.Status.Conditions, v1alpha1.ConditionReady)
	if ready == nil || ready.Status != metav1.ConditionTrue || object.Status.ObservedGeneration != object.Generation {
		return fmt.Errorf("cluster %s is not Ready at generation %d: %+v", c.Name, object.Generation, ready)
	}
	want := map[string]uint64{}
	for _, m := range object.Status.Members {
		var id uint64
		if _, err := fmt.Sscanf(m.ID, "%x", &id); err != nil || m.Role != v1alpha1.RoleVoter {
			return fmt.Errorf("member %s is no voter with an ID: %+v", m.Name, m)
		}
		want[m.Name] = id
	}
	if len(want) != int(object.Spec.Size) {
		return fmt.Errorf("cluster %s has %d members, not %d", c.Name, len(want), object.Spec.Size)
	}
	return errors.Join(c.agreePods(ctx, want), c.agreeClaims(ctx, object, want), c.agreeEtcd(ctx, want))
}

func (c Cluster) agreePods(ctx context.Context, want map[string]uint64) error {
	pods, err := c.Pods(ctx)
	if err != nil {
		return err
	}
	if names := keys(pods); !slices.Equal(names, keys(want)) {
		return fmt.Errorf("pods %v, and members %v", names, keys(want))
	}
	for name, pod := range pods {
		if !Ready(pod) {
			return fmt.Errorf("pod %s is not Ready", name)
		}
	}
	return nil
}

// agreeClaims looks at the claims of members: those in quarantine, and those of an
// incarnation that was given up, are kept for the user alone.
func (c Cluster) agreeClaims(ctx context.Context, object *v1alpha1.EtcdCluster, want map[string]uint64) error {
	claims, err := c.Claims(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, name := range keys(claims) {
		claim := claims[name]
		if claim.Labels[v1alpha1.LabelQuarantined] != "" || claim.Labels[v1alpha1.LabelIncarnation] != resources.Identity(object)[v1alpha1.LabelIncarnation] {
			continue
		}
		member := claim.Labels[v1alpha1.LabelMember]
		names = append(names, member)
		if id := fmt.Sprintf("%x", want[member]); claim.Annotations[v1alpha1.AnnotationMemberID] != id || !claim.DeletionTimestamp.IsZero() {
			return fmt.Errorf("claim %s bears member ID %s, not %s, or is being deleted", name, claim.Annotations[v1alpha1.AnnotationMemberID], id)
		}
	}
	members := keys(want)
	if resources.InMemory(object) {
		members = nil // their pods are their volumes.
	}
	if !slices.Equal(names, members) {
		return fmt.Errorf("claims of %v, and members on volumes %v", names, members)
	}
	return nil
}

// agreeEtcd asks every member by itself.
func (c Cluster) agreeEtcd(ctx context.Context, want map[string]uint64) error {
	for _, member := range keys(want) {
		listed, err := c.Etcd(ctx, member)
		if err != nil {
			return err
		}
		if !maps.Equal(listed, want) {
			return fmt.Errorf("%s lists %v, and status %v", member, listed, want)
		}
	}
	return nil
}

// Ready says that a pod is, and that it stays.
func Ready(pod corev1.Pod) bool {
	return pod.DeletionTimestamp.IsZero() && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func keys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
