package perform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/pki"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/internal/secrets"
)

// applyObjects applies the fixed objects that are due. The observer has checked
// that none of them is somebody else's.
func (p *Performer) applyObjects(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed) error {
	for _, object := range resources.Objects(c, seen.BudgetVoters(), p.Operator) {
		if !slices.Contains(seen.ObjectsDue, object.Kind+" "+object.Name) {
			continue
		}
		live := object.Empty()
		err := p.Live.Get(ctx, client.ObjectKey{Namespace: c.Namespace, Name: object.Name}, live)
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("reading %s %s: %w", object.Kind, object.Name, err)
		}
		if err == nil && !metav1.IsControlledBy(live, c) {
			// Somebody made it since it was looked at.
			return foreign(object.Kind, client.ObjectKeyFromObject(live))
		}
		// Force takes a field back from whoever edited it by hand.
		err = p.Writer.Apply(ctx, object.Want, client.FieldOwner(resources.FieldOwner), client.ForceOwnership)
		if apierrors.IsInvalid(err) {
			err = p.takePorts(ctx, object, live, err)
		}
		if err != nil {
			return fmt.Errorf("applying %s %s: %w", object.Kind, object.Name, err)
		}
	}
	return nil
}

// takePorts replaces the ports of a Service as a whole when they could not be applied,
// and says so if there is nothing to replace. A port that somebody has given another
// number is another entry of the list, which is theirs: applying ours beside it would
// use its name twice.
func (p *Performer) takePorts(ctx context.Context, object resources.Object, live client.Object, refused error) error {
	service, is := live.(*corev1.Service)
	if !is || service.ResourceVersion == "" {
		return refused
	}
	want, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object.Want)
	if err != nil {
		return fmt.Errorf("reading the ports that are wanted: %w", err)
	}
	ports, found, err := unstructured.NestedSlice(want, "spec", "ports")
	if err != nil || !found {
		return errors.Join(refused, err)
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": service.ResourceVersion},
		"spec":     map[string]any{"ports": ports},
	})
	if err != nil {
		return fmt.Errorf("making a patch of the ports: %w", err)
	}
	if err := p.Writer.Patch(ctx, service, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(resources.FieldOwner)); err != nil {
		return err
	}
	return p.Writer.Apply(ctx, object.Want, client.FieldOwner(resources.FieldOwner), client.ForceOwnership)
}

// issueCertificates reads the Secrets again and writes what is due by what
// stands there now, so that two operators cannot issue two authorities. A rotation goes
// on only by what members show in this very moment.
func (p *Performer) issueCertificates(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed) error {
	reader := secrets.Reader{Live: p.Live, Now: p.Clock.Now(), Coming: seen.Coming, Shake: func(ctx context.Context, who pki.Ask) map[string]pki.Shown {
		return p.Etcd.Greet(ctx, c, who)
	}}
	set, err := reader.Read(ctx, c, seen.Certified())
	if err != nil {
		return err
	}
	return errors.Join(p.askCertManager(ctx, c, set.Asked), p.writeSecrets(ctx, c, set))
}

func (p *Performer) writeSecrets(ctx context.Context, c *v1alpha1.EtcdCluster, set secrets.Set) error {
	for _, want := range set.Plan.Create {
		err := p.Writer.Create(ctx, secret(c, want), client.FieldOwner(resources.FieldOwner))
		if apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("creating Secret %s: %w", want.Name, ErrStale)
		}
		if err != nil {
			return fmt.Errorf("creating Secret %s: %w", want.Name, err)
		}
	}
	return p.renew(ctx, set)
}

// renew goes on after an error: one Secret that cannot be written, because
// somebody made it immutable, must not let the others run out.
func (p *Performer) renew(ctx context.Context, set secrets.Set) error {
	var all []error
	for _, want := range set.Plan.Renew {
		live := set.Live[want.Name]
		live.Data = want.Data
		if err := p.Writer.Update(ctx, live, client.FieldOwner(resources.FieldOwner)); err != nil {
			all = append(all, fmt.Errorf("renewing Secret %s (%s): %w", want.Name, want.Why, err))
		}
	}
	return errors.Join(all...)
}

// secret is owned by the cluster and goes with it.
func secret(c *v1alpha1.EtcdCluster, want pki.SecretData) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name: want.Name, Namespace: c.Namespace, Labels: resources.Labels(c),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(c, v1alpha1.GroupVersion.WithKind("EtcdCluster"))},
		},
		Type: want.Type,
		Data: want.Data,
	}
}
