package observe

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/internal/snapshot"
)

// restoreBlocked is why a cluster that begins with a backup cannot begin yet. It is
// asked only until the cluster is founded; from then on the backup is not needed.
func (o *Observer) restoreBlocked(ctx context.Context, c *v1alpha1.EtcdCluster) (*plan.Point, []plan.Problem, error) {
	if c.Status.ClusterID != "" {
		return nil, nil, nil
	}
	if from := resources.SurvivorOf(c, nil); from != nil {
		return o.survivorGone(ctx, c, *from)
	}
	from := resources.RestoreFrom(c)
	if from == nil {
		return nil, nil, nil
	}
	point, is, blocked, err := o.blocked(ctx, c, from)
	if blocked == "" && point == nil && from == c.Spec.RestoreFrom && from.BackupName != "" && c.Status.RestorePoint == "" {
		// An EtcdBackup that is made anew under the name would be another backup for the
		// founders that are made after it.
		point = &plan.Point{BackupID: is.BackupID}
	}
	if blocked == "" || err != nil {
		return point, nil, err
	}
	return nil, []plan.Problem{{Reason: v1alpha1.ReasonRestoreBlocked, Message: blocked, Severity: plan.Stalling}}, nil
}

// blocked says why a backup cannot be restored; empty if it can, or if it is a point of an
// archive that is yet to be put together.
func (o *Observer) blocked(ctx context.Context, c *v1alpha1.EtcdCluster, from *v1alpha1.RestoreSource) (*plan.Point, resources.Restore, string, error) {
	var b *v1alpha1.EtcdBackup
	if name := from.BackupName; name != "" {
		b = &v1alpha1.EtcdBackup{}
		err := o.Live.Get(ctx, client.ObjectKey{Namespace: c.Namespace, Name: name}, b)
		if apierrors.IsNotFound(err) {
			b = nil
		} else if err != nil {
			return nil, resources.Restore{}, "", fmt.Errorf("reading EtcdBackup %s: %w", name, err)
		}
	}
	a, err := o.archive(ctx, c, from)
	if err != nil {
		return nil, resources.Restore{}, "", err
	}
	if resources.WantsPoint(from) && c.Status.RestorePoint == "" {
		point, blocked, err := o.restorePoint(ctx, c, b, a)
		return point, resources.Restore{}, blocked, err
	}
	r, blocked := resources.RestoreOf(c, from, b, a)
	if blocked == "" {
		r.Secrets, blocked, err = o.secrets(ctx, c.Namespace, r)
	}
	return nil, r, blocked, err
}

// archive that a source names; nil if there is none.
func (o *Observer) archive(ctx context.Context, c *v1alpha1.EtcdCluster, from *v1alpha1.RestoreSource) (*v1alpha1.EtcdArchive, error) {
	name := from.ArchiveName
	if name == "" {
		return nil, nil
	}
	a := &v1alpha1.EtcdArchive{}
	err := o.Live.Get(ctx, client.ObjectKey{Namespace: c.Namespace, Name: name}, a)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading EtcdArchive %s: %w", name, err)
	}
	return a, nil
}

// toldFor is how long this process must have seen status tell of the lost quorum before
// the user's word about it counts: long enough to be more than an election.
const toldFor = 10 * time.Second

// recovery is the user's word, as far as it is about this incarnation and not void.
func (o *Observer) recovery(ctx context.Context, c *v1alpha1.EtcdCluster, m *memory) (*plan.Recovery, error) {
	available := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionAvailable)
	now := o.Clock.Now()
	if available == nil || available.Status != metav1.ConditionFalse || available.Reason != v1alpha1.ReasonQuorumLost {
		m.lostSince = time.Time{}
	} else if m.lostSince.IsZero() {
		m.lostSince = now
	}
	r := c.Spec.Recovery
	if !wordCounts(c) || (c.Status.ClusterID == "" && !unborn(c)) {
		return nil, nil
	}
	if word := resources.RecoveryWord(c); c.Status.ClusterID != "" {
		m.again = ""
	} else if m.again != word {
		m.again, m.againSince = word, now
	}
	since := m.lostSince
	if m.again != "" {
		// What is still told of a lost quorum is about the incarnation before.
		since = m.againSince
	}
	said := &plan.Recovery{Backup: r.BackupName, Survivor: r.Survivor}
	if r.Survivor != "" {
		said.Blocked = resources.SurvivorUnfit(c, r.Survivor)
	} else {
		_, is, blocked, err := o.blocked(ctx, c, resources.RecoveryFrom(r))
		if err != nil {
			return nil, err
		}
		said.BackupID, said.BackupClusterUID, said.Blocked = is.BackupID, is.ClusterUID, blocked
		said.BackupRevision = snapshot.RevisionOf(is.BackupID)
		said.Reads, said.Secrets = resources.Reads(c, is), is.Secrets
	}
	said.Obeyed = c.Status.ObeyedRecovery == resources.RecoveryWord(c)
	// Once members were stopped for it, whoever comes next goes on: to start them again until
	// it has seen the loss told itself would be a dispute with who stops them.
	said.Told = c.Status.ObeyedRecovery == resources.RecoveryWord(c) || (!since.IsZero() && now.Sub(since) >= toldFor)
	return said, nil
}

// unborn says that the incarnation began with a backup and has not been founded: members
// that are about to are given toldFor to do so before another word counts.
func unborn(c *v1alpha1.EtcdCluster) bool {
	r := c.Status.Recovery
	return c.Status.ClusterID == "" && r != nil && r.Incarnation == c.Status.Incarnation
}

// wordCounts says that the user's word is there for this incarnation, and not void.
func wordCounts(c *v1alpha1.EtcdCluster) bool {
	r := c.Spec.Recovery
	return r != nil && r.Incarnation == max(1, c.Status.Incarnation) && c.Status.VoidRecovery != resources.RecoveryWord(c)
}

// recoveryVoid says that the user's word stands there while the cluster serves, for which
// it does not count.
func recoveryVoid(c *v1alpha1.EtcdCluster) (plan.Problem, bool) {
	r := c.Spec.Recovery
	if r == nil || r.Incarnation != max(1, c.Status.Incarnation) {
		return plan.Problem{}, false
	}
	if r.Survivor != "" {
		return plan.Problem{Reason: v1alpha1.ReasonRecoveryVoid, Severity: plan.Stalling, Message: fmt.Sprintf(
			"spec.recovery wants to go on with what %s has, and the cluster serves — the others' data would be given up for nothing, so it is void, after another loss of the quorum too — remove it", r.Survivor)}, true
	}
	return plan.Problem{Reason: v1alpha1.ReasonRecoveryVoid, Severity: plan.Stalling, Message: fmt.Sprintf(
		"spec.recovery wants to go on with backup %s, and the cluster serves — what was written since the backup would be lost for nothing, so it is void, after another loss of the quorum too — remove it", r.BackupName)}, true
}

// secrets are the versions of those that a backup is read with, or what is said of one, or of
// a PersistentVolumeClaim, that the pods would wait for without a word. What is in a Secret is
// not read.
func (o *Observer) secrets(ctx context.Context, namespace string, r resources.Restore) (versions, missing string, err error) {
	var are []string
	for _, name := range resources.SecretsOf(r.Store, &v1alpha1.BackupEncryption{IdentitySecretRef: r.Identity}) {
		secret := &metav1.PartialObjectMetadata{}
		secret.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
		err := o.Live.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, secret)
		if apierrors.IsNotFound(err) {
			return "", fmt.Sprintf("Secret %s does not exist — no member could read the backup — create it in this namespace", name), nil
		}
		if err != nil {
			return "", "", fmt.Errorf("looking for Secret %s: %w", name, err)
		}
		are = append(are, name+"="+secret.ResourceVersion)
	}
	claim, err := MissingClaim(ctx, o.Live, namespace, r.Store)
	if err != nil {
		return "", "", err
	}
	if claim != "" {
		return "", fmt.Sprintf("PersistentVolumeClaim %s, which the store of the backup names, does not exist in this namespace, where alone it is looked for — no member could read the backup — create it here, on the volume that the backup lies on", claim), nil
	}
	return strings.Join(are, ","), "", nil
}

// MissingClaim is the name of the PersistentVolumeClaim that is the store, if there is none of
// that name; empty if there is, and for any other store.
func MissingClaim(ctx context.Context, live client.Reader, namespace string, store v1alpha1.BackupStore) (string, error) {
	name := resources.ClaimOf(store)
	if name == "" {
		return "", nil
	}
	err := live.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &corev1.PersistentVolumeClaim{})
	if apierrors.IsNotFound(err) {
		return name, nil
	}
	if err != nil {
		return "", fmt.Errorf("looking for PersistentVolumeClaim %s: %w", name, err)
	}
	return "", nil
}
