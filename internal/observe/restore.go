package observe

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// restoreBlocked is why a cluster that begins with a backup cannot begin yet. It is
// asked only until the cluster is founded; from then on the backup is not needed.
func (o *Observer) restoreBlocked(ctx context.Context, c *v1alpha1.EtcdCluster) ([]plan.Problem, error) {
	if c.Spec.RestoreFrom == nil || c.Status.ClusterID != "" {
		return nil, nil
	}
	var b *v1alpha1.EtcdBackup
	if name := c.Spec.RestoreFrom.BackupName; name != "" {
		b = &v1alpha1.EtcdBackup{}
		err := o.Live.Get(ctx, client.ObjectKey{Namespace: c.Namespace, Name: name}, b)
		if apierrors.IsNotFound(err) {
			b = nil
		} else if err != nil {
			return nil, fmt.Errorf("reading EtcdBackup %s: %w", name, err)
		}
	}
	r, blocked := resources.RestoreOf(c, b)
	if blocked == "" {
		var err error
		if blocked, err = o.missingSecret(ctx, c.Namespace, r); err != nil {
			return nil, err
		}
	}
	if blocked == "" {
		return nil, nil
	}
	return []plan.Problem{{Reason: v1alpha1.ReasonRestoreBlocked, Message: blocked, Severity: plan.Stalling}}, nil
}

// missingSecret is one that the members' pods would wait for without a word. What is
// in it is not read.
func (o *Observer) missingSecret(ctx context.Context, namespace string, r resources.Restore) (string, error) {
	for _, name := range resources.SecretsOf(r.Store, &v1alpha1.BackupEncryption{IdentitySecretRef: r.Identity}) {
		secret := &metav1.PartialObjectMetadata{}
		secret.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
		err := o.Live.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, secret)
		if apierrors.IsNotFound(err) {
			return fmt.Sprintf("Secret %s does not exist — no member could read the backup — create it in this namespace", name), nil
		}
		if err != nil {
			return "", fmt.Errorf("looking for Secret %s: %w", name, err)
		}
	}
	return "", nil
}
