package observe

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// certified looks at the certificates of these members, and at those of the members to come.
func (o *Observer) certified(ctx context.Context, c *v1alpha1.EtcdCluster, m *memory, kube *kubernetes, members []plan.Member, seen *plan.Observed) (certificatesSeen, error) {
	var err error
	if seen.Coming, err = o.coming(ctx, c, m, seen.Recovery); err != nil {
		return certificatesSeen{}, err
	}
	certificates, err := o.certificates(ctx, c, m, kube, plan.Observed{ClusterID: seen.ClusterID, Members: members}.Certified(), seen.Coming)
	seen.CertificatesDue, seen.ComingLack = certificates.due, certificates.lack
	return certificates, err
}

// coming are the founders of the next incarnation as they would be named now. Their names are
// fixed by the write that begins it, and by nothing before: what is made for names that turn
// out to be others' is given up again. They are of interest only where certificates have to be
// had, which can take long or fail.
func (o *Observer) coming(ctx context.Context, c *v1alpha1.EtcdCluster, m *memory, word *plan.Recovery) ([]string, error) {
	if word == nil || !resources.TLS(c) || (word.Restore == "" && !word.Told && m.lostSince.IsZero()) {
		return nil, nil
	}
	var claims corev1.PersistentVolumeClaimList
	var pods corev1.PodList
	for _, list := range []client.ObjectList{&claims, &pods} {
		// Also others' take a name away, and they bear no label.
		if err := o.Live.List(ctx, list, client.InNamespace(c.Namespace)); err != nil {
			return nil, fmt.Errorf("looking for names that are taken: %w", err)
		}
	}
	k := &kubernetes{}
	for i := range claims.Items {
		k.take(c, resources.MemberOfClaim(claims.Items[i].Name))
	}
	for i := range pods.Items {
		k.take(c, pods.Items[i].Name)
	}
	names := k.freeNames(c)
	if word.Survivor != "" {
		names = names[:1]
	}
	return names, nil
}
