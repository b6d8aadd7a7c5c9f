package observe

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// expected are the members of whom there was a claim or a pod when status was
// last written, or may have been.
func expected(c *v1alpha1.EtcdCluster) []string {
	var names []string
	for _, m := range c.Status.Members {
		if m.Role != "" || c.Status.FounderVolumes[m.Name] != "" {
			names = append(names, m.Name)
		}
	}
	if joiner := c.Status.Joiner; joiner != "" && !slices.Contains(names, joiner) {
		names = append(names, joiner)
	}
	return names
}

// unlabelled asks the API server by name for what is expected and not found by its
// labels. Somebody may have edited those, and a member whose claim is not found
// would be replaced. Nothing is asked while nothing is missing.
func (o *Observer) unlabelled(ctx context.Context, c *v1alpha1.EtcdCluster, k *kubernetes) error {
	for _, name := range expected(c) {
		if err := o.unlabelledPod(ctx, c, k, name); err != nil {
			return err
		}
		if err := o.unlabelledClaim(ctx, c, k, name); err != nil {
			return err
		}
	}
	slices.SortFunc(k.claims, func(a, b corev1.PersistentVolumeClaim) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(k.pods, func(a, b corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}

func (o *Observer) unlabelledPod(ctx context.Context, c *v1alpha1.EtcdCluster, k *kubernetes, name string) error {
	if k.pod(name) != nil {
		return nil
	}
	pod := &corev1.Pod{}
	there, err := o.there(ctx, c, name, pod)
	if there && (!resources.Mislabelled(c, pod, name) || resources.MadePod(c, pod, name)) {
		k.pods = append(k.pods, *pod)
	}
	return err
}

func (o *Observer) unlabelledClaim(ctx context.Context, c *v1alpha1.EtcdCluster, k *kubernetes, name string) error {
	if pod := k.pod(name); k.claim(name) != nil || (pod != nil && resources.PodInMemory(pod)) {
		return nil
	}
	claim := &corev1.PersistentVolumeClaim{}
	there, err := o.there(ctx, c, resources.ClaimName(name), claim)
	ours := there && !resources.Quarantined(claim) &&
		(!resources.Mislabelled(c, claim, name) || resources.MadeClaim(c, claim, k.pod(name), name))
	if ours {
		k.claims = append(k.claims, *claim)
		k.oldVolumes = slices.DeleteFunc(k.oldVolumes, func(v plan.OldVolume) bool { return v.Claim == claim.Name })
	}
	return err
}

// there reads an object of the cluster's namespace from the API server, and says
// whether it exists.
func (o *Observer) there(ctx context.Context, c *v1alpha1.EtcdCluster, name string, into client.Object) (bool, error) {
	err := o.Live.Get(ctx, client.ObjectKey{Namespace: c.Namespace, Name: name}, into)
	if err != nil && !apierrors.IsNotFound(err) {
		return false, fmt.Errorf("reading %T %s: %w", into, name, err)
	}
	return err == nil, nil
}

// mislabelled says that the claim or the pod of a member does not carry its labels.
func (k *kubernetes) mislabelled(c *v1alpha1.EtcdCluster, name string) bool {
	claim, pod := k.claim(name), k.pod(name)
	return (claim != nil && resources.Mislabelled(c, claim, name)) || (pod != nil && resources.Mislabelled(c, pod, name))
}
