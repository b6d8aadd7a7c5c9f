// Package resources builds the objects of a cluster: claims, pods, Services,
// the disruption budget, the network policy and the service account. It is
// pure: a cluster goes in, an object comes out. It imports neither observe nor
// perform.
package resources

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
)

// FieldOwner owns every field that the operator applies.
const FieldOwner = "quorate"

// Ports of a member.
const (
	ClientPort = 2379
	// PeerPort takes plaintext while any member is listed at a plaintext peer URL, and
	// mutual TLS else.
	PeerPort    = 2380
	MetricsPort = 2381
	// loopbackPort serves etcd's own health in plaintext, on loopback alone:
	// the guard asks there, and the kubelet asks the guard.
	loopbackPort = 2382
	// TurnedPeerPort takes mutual TLS in every cluster that has certificates. etcd takes
	// one scheme on each of its peer ports, and PeerPort is taken while TLS is turned on:
	// members that were reached without it are reached here from then on.
	TurnedPeerPort = 2383
	// HealthPort is the guard's: the kubelet has no client certificate.
	HealthPort = 8081
)

// MemberName is <cluster>-<ordinal>, four digits.
func MemberName(cluster string, ordinal int) string {
	return fmt.Sprintf("%s-%04d", cluster, ordinal)
}

// Ordinal is the number of a member's name, and whether the name is one of
// this cluster's members at all.
func Ordinal(cluster, member string) (int, bool) {
	digits, ok := strings.CutPrefix(member, cluster+"-")
	if !ok || len(digits) < 4 || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(digits)
	return n, err == nil && MemberName(cluster, n) == member
}

// ClaimName of a member's volume.
func ClaimName(member string) string { return "data-" + member }

// PeerServiceName is the headless Service that names every member.
func PeerServiceName(c *v1alpha1.EtcdCluster) string { return c.Name }

// ClientServiceName is the Service for clients.
func ClientServiceName(c *v1alpha1.EtcdCluster) string { return c.Name + "-client" }

// MemberHost is the member's DNS name, without a cluster domain, since that
// differs between Kubernetes clusters.
func MemberHost(c *v1alpha1.EtcdCluster, member string) string {
	return fmt.Sprintf("%s.%s.%s.svc", member, PeerServiceName(c), c.Namespace)
}

// PeerURL that a founder has: it is at PeerPort, with the scheme that this takes.
func PeerURL(c *v1alpha1.EtcdCluster, member string) string {
	if servesPlaintext(c) {
		return plaintextPeerURL(c, member)
	}
	return fmt.Sprintf("https://%s:%d", MemberHost(c, member), PeerPort)
}

// plaintextPeerURL has been the same in every release: members keep theirs in etcd's list.
func plaintextPeerURL(c *v1alpha1.EtcdCluster, member string) string {
	return fmt.Sprintf("http://%s:%d", MemberHost(c, member), PeerPort)
}

// TurnedPeerURL is the one that a member gets instead of a plaintext one.
func TurnedPeerURL(c *v1alpha1.EtcdCluster, member string) string {
	return fmt.Sprintf("https://%s:%d", MemberHost(c, member), TurnedPeerPort)
}

// JoinURL is the peer URL that a member joins with: a plaintext one as long as any member
// has such a one, for those that have no certificate yet must reach it too. Where TLS was
// turned on, pods may be left that take plaintext at PeerPort, so the other port is used
// for good; where it was not, pods of an older release may take nothing there.
func JoinURL(c *v1alpha1.EtcdCluster, seen plan.Observed, member string) string {
	switch {
	case seen.PlaintextPeers:
		return plaintextPeerURL(c, member)
	case slices.ContainsFunc(seen.Members, func(m plan.Member) bool { return m.PeerURL == TurnedPeerURL(c, m.Name) }):
		return TurnedPeerURL(c, member)
	default:
		return fmt.Sprintf("https://%s:%d", MemberHost(c, member), PeerPort)
	}
}

// ClientURL that the member advertises. While both schemes are taken it is the plaintext
// one: a client without certificates that goes by it can use no other, and one with them
// takes the host and the port of it.
func ClientURL(c *v1alpha1.EtcdCluster, member string) string {
	return fmt.Sprintf("%s://%s:%d", openScheme(c), MemberHost(c, member), ClientPort)
}

// MemberOfURL is the member that a peer URL belongs to. Members are matched by
// host, since scheme and port change while TLS is turned on.
func MemberOfURL(c *v1alpha1.EtcdCluster, peerURL string) (string, bool) {
	_, rest, ok := strings.Cut(peerURL, "://")
	if !ok {
		return "", false
	}
	host, _, _ := strings.Cut(rest, ":")
	member, _, _ := strings.Cut(host, ".")
	if _, ours := Ordinal(c.Name, member); !ours || host != MemberHost(c, member) {
		return "", false
	}
	return member, true
}

// InitialCluster is etcd's --initial-cluster for these members, with the peer URLs that
// etcd lists for them, or those that they are to have.
func InitialCluster(c *v1alpha1.EtcdCluster, members []string, listed map[string]string) string {
	entries := make([]string, 0, len(members))
	for _, m := range members {
		entries = append(entries, m+"="+cmp.Or(listed[m], PeerURL(c, m)))
	}
	return strings.Join(entries, ",")
}

// ClusterUID is the UID that the identity of the cluster's objects and volumes carries: its
// own or, when it has adopted the volumes of a deleted cluster, that of the first one that
// they belonged to. The volumes themselves are left as they are: a crash in the midst of
// taking them over would leave some of them with one name and some with another.
func ClusterUID(c *v1alpha1.EtcdCluster) string {
	if c.Spec.Adopt != nil {
		return c.Spec.Adopt.ClusterUID
	}
	return string(c.UID)
}

// Token is etcd's --initial-cluster-token. With the UID and the incarnation in
// it, no two clusters and no two incarnations can ever share a cluster ID.
func Token(c *v1alpha1.EtcdCluster) string {
	return fmt.Sprintf("%s-%d", ClusterUID(c), incarnation(c))
}

func incarnation(c *v1alpha1.EtcdCluster) int64 { return max(1, c.Status.Incarnation) }

// Identity are the labels that every object of this incarnation carries and
// every selector selects.
func Identity(c *v1alpha1.EtcdCluster) map[string]string {
	return map[string]string{
		v1alpha1.LabelCluster:     c.Name,
		v1alpha1.LabelClusterUID:  ClusterUID(c),
		v1alpha1.LabelIncarnation: strconv.FormatInt(incarnation(c), 10),
	}
}

// Labels of an object of the cluster.
func Labels(c *v1alpha1.EtcdCluster) map[string]string {
	l := Identity(c)
	maps.Copy(l, map[string]string{
		"app.kubernetes.io/name":       "etcd",
		"app.kubernetes.io/instance":   c.Name,
		"app.kubernetes.io/managed-by": "quorate",
	})
	return l
}

// MemberLabels of a member's pod and claim.
func MemberLabels(c *v1alpha1.EtcdCluster, member string) map[string]string {
	l := Labels(c)
	l["app.kubernetes.io/component"] = "member"
	l[v1alpha1.LabelMember] = member
	return l
}

// PodSelector selects the members' pods of this incarnation.
func PodSelector(c *v1alpha1.EtcdCluster) map[string]string { return Identity(c) }

// SelectorString is PodSelector for the scale subresource.
func SelectorString(c *v1alpha1.EtcdCluster) string {
	return labels.SelectorFromSet(PodSelector(c)).String()
}

// InMemory says whether the data of new members lives in memory, with their pods. While
// the medium of the spec changes, members that were made before have theirs elsewhere.
func InMemory(c *v1alpha1.EtcdCluster) bool { return c.Spec.Storage.Medium == v1alpha1.MediumMemory }

// OnMedium is the cluster as a member is made from it whose data is on that medium: a pod
// that is made again for a volume must mount it, whatever the spec wants by now.
func OnMedium(c *v1alpha1.EtcdCluster, medium v1alpha1.StorageMedium) *v1alpha1.EtcdCluster {
	if c.Spec.Storage.Medium == medium || (medium == v1alpha1.MediumDisk && !InMemory(c)) {
		return c
	}
	on := *c
	on.Spec.Storage.Medium = medium
	return &on
}

// TLS says whether the cluster has certificates, and its members reach each other with
// them.
func TLS(c *v1alpha1.EtcdCluster) bool { return c.Spec.TLS.Mode != v1alpha1.TLSDisabled }

// openScheme is the scheme of whatever clients without certificates may use.
func openScheme(c *v1alpha1.EtcdCluster) string {
	if c.Spec.TLS.Mode == v1alpha1.TLSOptional {
		return "http"
	}
	return scheme(c)
}

func scheme(c *v1alpha1.EtcdCluster) string {
	if TLS(c) {
		return "https"
	}
	return "http"
}

func ownedBy(c *v1alpha1.EtcdCluster) *metav1ac.OwnerReferenceApplyConfiguration {
	return metav1ac.OwnerReference().
		WithAPIVersion(v1alpha1.GroupVersion.String()).
		WithKind("EtcdCluster").
		WithName(c.Name).
		WithUID(c.UID).
		WithController(true).
		WithBlockOwnerDeletion(true)
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// MemberOfClaim is the member whose volume a claim of this name is.
func MemberOfClaim(claim string) string { return strings.TrimPrefix(claim, ClaimName("")) }
