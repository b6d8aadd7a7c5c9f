package resources

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	networkingv1ac "k8s.io/client-go/applyconfigurations/networking/v1"
	policyv1ac "k8s.io/client-go/applyconfigurations/policy/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/snapshot"
)

// Object is one of the cluster's fixed objects: what it should be, and an object
// of its type to read the live one into.
type Object struct {
	// Kind and Name, for messages.
	Kind, Name string
	// Want is the object as it should be.
	Want runtime.ApplyConfiguration
	// Empty makes an object to read the live one into.
	Empty func() client.Object
}

// OperatorPeer says where the operator's own pods run, so that the network
// policy lets them in. The zero value opens nothing.
type OperatorPeer struct {
	Namespace string
	Labels    map[string]string
}

// Objects of a cluster, in the order in which they are applied: what pods need
// to start comes first.
func Objects(c *v1alpha1.EtcdCluster, voters int, operator OperatorPeer) []Object {
	return []Object{
		{"ServiceAccount", c.Name, serviceAccount(c), empty[corev1.ServiceAccount]},
		{"Service", PeerServiceName(c), peerService(c), empty[corev1.Service]},
		{"Service", ClientServiceName(c), clientService(c), empty[corev1.Service]},
		{"NetworkPolicy", c.Name, networkPolicy(c, operator), empty[networkingv1.NetworkPolicy]},
		{"PodDisruptionBudget", c.Name, disruptionBudget(c, voters), empty[policyv1.PodDisruptionBudget]},
	}
}

func empty[T any, P interface {
	*T
	client.Object
}]() client.Object {
	return P(new(T))
}

// serviceAccount has no rights and no token; it exists so that nothing that is
// granted to the namespace's default account reaches a member. What it is in a cloud says
// the user.
func serviceAccount(c *v1alpha1.EtcdCluster) *corev1ac.ServiceAccountApplyConfiguration {
	identity := maps.Clone(c.Spec.PodTemplate.ServiceAccountAnnotations)
	if identity == nil {
		identity = map[string]string{}
	}
	// That one is wanted no more could not be seen otherwise: anybody may have added another.
	identity[v1alpha1.AnnotationTemplateHash] = hashOf(identity)
	return corev1ac.ServiceAccount(c.Name, c.Namespace).
		WithLabels(Labels(c)).
		WithOwnerReferences(ownedBy(c)).
		WithAnnotations(identity).
		WithAutomountServiceAccountToken(false)
}

// peerService gives every member a stable name. Members must find each other
// before they are ready, hence the addresses of pods that are not.
func peerService(c *v1alpha1.EtcdCluster) *corev1ac.ServiceApplyConfiguration {
	return corev1ac.Service(PeerServiceName(c), c.Namespace).
		WithLabels(Labels(c)).
		WithOwnerReferences(ownedBy(c)).
		WithSpec(corev1ac.ServiceSpec().
			WithClusterIP(corev1.ClusterIPNone).
			WithPublishNotReadyAddresses(true).
			WithSelector(PodSelector(c)).
			WithPorts(servicePort("client", ClientPort), servicePort("peer", PeerPort), servicePort("metrics", MetricsPort)))
}

// clientService leads clients to members that are ready.
func clientService(c *v1alpha1.EtcdCluster) *corev1ac.ServiceApplyConfiguration {
	return corev1ac.Service(ClientServiceName(c), c.Namespace).
		WithLabels(Labels(c)).
		WithOwnerReferences(ownedBy(c)).
		WithSpec(corev1ac.ServiceSpec().
			WithType(corev1.ServiceTypeClusterIP).
			WithSelector(PodSelector(c)).
			WithPorts(servicePort("client", ClientPort)))
}

func servicePort(name string, port int32) *corev1ac.ServicePortApplyConfiguration {
	return corev1ac.ServicePort().WithName(name).WithProtocol(corev1.ProtocolTCP).
		WithPort(port).WithTargetPort(intstr.FromInt32(port))
}

// disruptionBudget lets one member go at a time, and none when the others would
// not be a quorum of the larger of what there is and what is wanted, so that it
// does not shrink with a shrinking cluster. Pods that are not ready may go:
// holding them would block the drain that mends them.
func disruptionBudget(c *v1alpha1.EtcdCluster, voters int) *policyv1ac.PodDisruptionBudgetApplyConfiguration {
	most := max(voters, int(c.Spec.Size))
	available := max(most/2+1, most-1)
	return policyv1ac.PodDisruptionBudget(c.Name, c.Namespace).
		WithLabels(Labels(c)).
		WithOwnerReferences(ownedBy(c)).
		WithSpec(policyv1ac.PodDisruptionBudgetSpec().
			WithMinAvailable(intstr.FromInt(available)).
			WithUnhealthyPodEvictionPolicy(policyv1.AlwaysAllow).
			WithSelector(metav1ac.LabelSelector().WithMatchLabels(PodSelector(c))))
}

// networkPolicy lets members reach each other, and the namespace's pods, the
// operator and whom the user names reach the client port. The operator has no
// certificate for the peer ports, and reaches them to see whose the members take; it reads how
// long the disks take from the port for metrics, and how far a restore is from whoever fills a
// founder's volume, until the cluster is founded. The health port is open: it says "ok" or "not ok"
// and the kubelet's address is not known.
func networkPolicy(c *v1alpha1.EtcdCluster, operator OperatorPeer) *networkingv1ac.NetworkPolicyApplyConfiguration {
	members := networkingv1ac.NetworkPolicyPeer().WithPodSelector(metav1ac.LabelSelector().WithMatchLabels(PodSelector(c)))
	namespace := networkingv1ac.NetworkPolicyPeer().WithPodSelector(metav1ac.LabelSelector())
	clients := []*networkingv1ac.NetworkPolicyPeerApplyConfiguration{members, namespace}
	dialers := []*networkingv1ac.NetworkPolicyPeerApplyConfiguration{members}
	var readers []*networkingv1ac.NetworkPolicyPeerApplyConfiguration
	var fillers []*networkingv1ac.NetworkPolicyIngressRuleApplyConfiguration
	if operator.Namespace != "" {
		its := networkingv1ac.NetworkPolicyPeer().
			WithNamespaceSelector(metav1ac.LabelSelector().WithMatchLabels(map[string]string{"kubernetes.io/metadata.name": operator.Namespace})).
			WithPodSelector(metav1ac.LabelSelector().WithMatchLabels(operator.Labels))
		clients, dialers, readers = append(clients, its), append(dialers, its), append(readers, its)
		if RestoreFrom(c) != nil && c.Status.ClusterID == "" {
			fillers = append(fillers, ingress(snapshot.ProgressPort, its))
		}
	}
	clients = append(clients, peers(c.Spec.NetworkPolicy.ClientFrom)...)
	rules := []*networkingv1ac.NetworkPolicyIngressRuleApplyConfiguration{
		ingress(PeerPort, dialers...),
		ingress(TurnedPeerPort, dialers...),
		ingress(ClientPort, clients...),
		ingress(HealthPort),
	}
	if readers = append(readers, peers(c.Spec.NetworkPolicy.MetricsFrom)...); len(readers) > 0 {
		rules = append(rules, ingress(MetricsPort, readers...))
	}
	rules = append(rules, fillers...)
	return networkingv1ac.NetworkPolicy(c.Name, c.Namespace).
		WithLabels(Labels(c)).
		WithOwnerReferences(ownedBy(c)).
		WithSpec(networkingv1ac.NetworkPolicySpec().
			WithPodSelector(metav1ac.LabelSelector().WithMatchLabels(PodSelector(c))).
			WithPolicyTypes(networkingv1.PolicyTypeIngress).
			WithIngress(rules...))
}

func ingress(port int32, from ...*networkingv1ac.NetworkPolicyPeerApplyConfiguration) *networkingv1ac.NetworkPolicyIngressRuleApplyConfiguration {
	return networkingv1ac.NetworkPolicyIngressRule().
		WithFrom(from...).
		WithPorts(networkingv1ac.NetworkPolicyPort().WithProtocol(corev1.ProtocolTCP).WithPort(intstr.FromInt32(port)))
}
