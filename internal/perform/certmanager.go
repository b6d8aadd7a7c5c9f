package perform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/certmanager"
	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/internal/secrets"
)

// askCertManager makes, changes and deletes Certificates. It goes on after an error: what
// is refused for one member must not let the certificates of the others run out.
func (p *Performer) askCertManager(ctx context.Context, c *v1alpha1.EtcdCluster, asked secrets.Asked) error {
	var all []error
	for _, want := range asked.Create {
		err := p.Writer.Create(ctx, want, client.FieldOwner(resources.FieldOwner))
		if apierrors.IsAlreadyExists(err) {
			// Ours would have been listed.
			err = fmt.Errorf("certificate %s/%s exists and does not belong to this cluster — the cluster needs a Certificate of that name and overwrites nobody else's — delete it, or give the cluster another name", c.Namespace, want.GetName())
		} else if err != nil {
			err = fmt.Errorf("creating Certificate %s: %w", want.GetName(), err)
		}
		all = append(all, err)
	}
	for _, want := range asked.Change {
		all = append(all, p.changeCertificate(ctx, want))
	}
	for _, live := range asked.Delete {
		all = append(all, p.deleteCertificate(ctx, live))
	}
	return errors.Join(all...)
}

// changeCertificate takes back what is wanted otherwise, and leaves what others have added.
func (p *Performer) changeCertificate(ctx context.Context, want *unstructured.Unstructured) error {
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": want.GetResourceVersion()},
		"spec":     want.Object["spec"],
	})
	if err != nil {
		return fmt.Errorf("making a patch of Certificate %s: %w", want.GetName(), err)
	}
	if err := p.Writer.Patch(ctx, want, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(resources.FieldOwner)); err != nil {
		return fmt.Errorf("changing Certificate %s: %w", want.GetName(), err)
	}
	return nil
}

// deleteCertificate deletes the Secret as well, which cert-manager leaves behind with a
// key in it. The Secret goes last: cert-manager would write it again. It is handed to the
// Certificate first, so that the garbage collector takes it if the operator ends in between:
// nobody would know of it any more once the Certificate is gone.
func (p *Performer) deleteCertificate(ctx context.Context, live *unstructured.Unstructured) error {
	secret, err := p.writtenFor(ctx, live)
	if err != nil {
		return err
	}
	if secret != nil {
		if err := p.handOver(ctx, secret, live); err != nil {
			return err
		}
	}
	if err := p.delete(ctx, live); err != nil {
		return err
	}
	if secret, err = p.writtenFor(ctx, live); err != nil || secret == nil {
		return err
	}
	return p.delete(ctx, secret)
}

// writtenFor is the Secret that cert-manager wrote for a Certificate; nil if there is none.
func (p *Performer) writtenFor(ctx context.Context, live *unstructured.Unstructured) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	err := p.Live.Get(ctx, client.ObjectKeyFromObject(live), secret)
	if apierrors.IsNotFound(err) || (err == nil && secret.Annotations[certmanager.NameAnnotation] != live.GetName()) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading Secret %s: %w", live.GetName(), err)
	}
	return secret, nil
}

// handOver makes the Secret go with the Certificate.
func (p *Performer) handOver(ctx context.Context, secret *corev1.Secret, to *unstructured.Unstructured) error {
	for _, owner := range secret.OwnerReferences {
		if owner.UID == to.GetUID() {
			return nil
		}
	}
	secret.OwnerReferences = append(secret.OwnerReferences, metav1.OwnerReference{
		APIVersion: to.GetAPIVersion(), Kind: to.GetKind(), Name: to.GetName(), UID: to.GetUID(),
	})
	if err := p.Writer.Update(ctx, secret, client.FieldOwner(resources.FieldOwner)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("handing Secret %s to its Certificate: %w", secret.Name, err)
	}
	return nil
}
