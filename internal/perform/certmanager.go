package perform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
// key in it. The Secret goes last: cert-manager would write it again.
func (p *Performer) deleteCertificate(ctx context.Context, live *unstructured.Unstructured) error {
	if err := p.delete(ctx, live); err != nil {
		return err
	}
	secret := &corev1.Secret{}
	err := p.Live.Get(ctx, client.ObjectKeyFromObject(live), secret)
	if apierrors.IsNotFound(err) || (err == nil && secret.Annotations[certmanager.NameAnnotation] != live.GetName()) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading Secret %s: %w", live.GetName(), err)
	}
	return p.delete(ctx, secret)
}
