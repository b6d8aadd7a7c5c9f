// Package perform carries out one step of a plan. Every step is idempotent: it
// creates under fixed names, takes "exists already" and "gone already" for
// done, and makes what it deletes or overwrites depend on the UID and the
// version that it has just read. It decides nothing.
package perform

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/apitime"
	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/pki"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// ErrStale means that the world is not the one that the step was decided for.
// Nothing was done; the next pass decides again.
var ErrStale = errors.New("the object has changed since it was looked at")

// Performer carries out steps.
type Performer struct {
	// Writer writes to the API server.
	Writer client.Client
	// Live reads from the API server.
	Live client.Reader
	// Nodes reads nodes from the API server; nil when the operator may not.
	Nodes client.Reader
	// Clock tells the time that certificates are issued at.
	Clock clock.PassiveClock
	// ServerTime tells the API server's time, if it is known.
	ServerTime apitime.Source
	// GuardImage is the image that holds the guard.
	GuardImage string
	// BackupImage is the image that holds the program which restores backups.
	BackupImage string
	// Operator says where the operator's own pods run.
	Operator resources.OperatorPeer
	// Etcd reaches members.
	Etcd Reacher
	// Chores are the calls to members that outlast a pass.
	Chores *Chores
}

// Reacher hands out connections to the members that the last look reached.
type Reacher interface {
	Reach(cluster types.NamespacedName, uid types.UID, member string) (etcd.Conn, error)
	// Greet shakes hands with members that the last look reached.
	Greet(ctx context.Context, c *v1alpha1.EtcdCluster, who pki.Ask) map[string]pki.Shown
}

// Perform carries out the step for the cluster as it was observed. A step that
// latches changes c.Status alone: the caller writes status, once, on condition
// that nobody has written the cluster since it was read.
func (p *Performer) Perform(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, step plan.Step) error {
	switch step.Kind {
	case plan.Settled, plan.Wait, plan.Pause:
		return nil
	case plan.LatchFounders:
		return latchFounders(c, seen, step.Members)
	case plan.LatchRestore:
		return p.latchRestore(ctx, c, seen)
	case plan.CheckBackup:
		return p.checkBackup(ctx, c, seen)
	case plan.DropCheck:
		return p.dropCheck(ctx, c, seen.SpentCheck)
	case plan.StopIncarnation:
		return p.stopIncarnation(ctx, c, seen, step.Members)
	case plan.RaiseIncarnation:
		return p.raiseIncarnation(ctx, c, seen)
	case plan.Adopt:
		return p.adopt(ctx, c, step.Members)
	case plan.RebuildPoint:
		return p.rebuildPoint(ctx, c)
	case plan.LatchPoint:
		return latchPoint(&c.Status, seen.Point.BackupID)
	case plan.LatchVolumes:
		return p.latchVolumes(ctx, c, seen, step.Members)
	case plan.LatchCluster:
		return latchCluster(&c.Status, seen.AgreedClusterID)
	case plan.UnlatchVolumes:
		return each(step.Members, func(name string) error { return p.unlatchVolume(ctx, c, seen, name) })
	case plan.SetFinalizer:
		return p.setFinalizer(ctx, c)
	case plan.IssueCertificates:
		return p.issueCertificates(ctx, c, seen)
	case plan.ApplyObjects:
		return p.applyObjects(ctx, c, seen)
	case plan.RestoreLabels:
		return each(step.Members, func(name string) error { return p.restoreLabels(ctx, c, seen, name) })
	case plan.CreateVolumes:
		return each(step.Members, func(name string) error { return p.createVolume(ctx, c, seen, name) })
	case plan.ReplaceVolumes:
		return each(step.Members, func(name string) error { return p.replaceVolume(ctx, c, seen, name) })
	case plan.StartMembers:
		if c.Status.ClusterID != "" {
			// Not from a spec of yesterday: the pod would be made a second time.
			if err := p.unchanged(ctx, c); err != nil {
				return err
			}
		}
		return each(step.Members, func(name string) error { return p.startMember(ctx, c, seen, name) })
	case plan.DeletePods:
		return each(step.Members, func(name string) error { return p.deletePod(ctx, c, name) })
	case plan.RecordMembers:
		return each(step.Members, func(name string) error { return p.recordMember(ctx, c, seen, name) })
	case plan.RecordRefusals:
		return each(step.Members, func(name string) error { return p.recordRefusal(ctx, c, seen, name) })
	default:
		return p.changeMembership(ctx, c, seen, step)
	}
}

// each goes on after an error: one member that the API refuses must not hold
// back the others. A stale look at one does not hide what was refused for another.
func each(members []string, do func(string) error) error {
	var refused, stale []error
	for _, m := range members {
		switch err := do(m); {
		case err == nil:
		case Stale(err):
			stale = append(stale, err)
		default:
			refused = append(refused, err)
		}
	}
	if len(refused) > 0 {
		return errors.Join(refused...)
	}
	return errors.Join(stale...)
}

// Stale errors say that the world has moved since it was looked at: decide again.
func Stale(err error) bool { return errors.Is(err, ErrStale) || apierrors.IsConflict(err) }

func latchFounders(c *v1alpha1.EtcdCluster, seen plan.Observed, founders []string) error {
	s := &c.Status
	if len(s.Founders) > 0 {
		return fmt.Errorf("latching the founders: %w", ErrStale)
	}
	if len(seen.RecoveredFounders) > 0 {
		// Status was lost, and with it whether the logs may hold entries of etcd 3.5: they
		// are believed to until every member has taken a snapshot.
		s.OldEntries = -1
		// Others may have begun with it. Where no claim names one, an earlier release made them.
		s.RevisionFloor = seen.RecoveredFloor
	} else if resources.RestoreFrom(c) != nil {
		s.RevisionFloor = resources.FloorAt(c.CreationTimestamp.Time)
	}
	s.Founders = founders
	s.Incarnation = max(1, s.Incarnation, seen.Incarnation)
	for _, f := range founders {
		s.NextOrdinal = max(s.NextOrdinal, ordinalOf(f)+1)
	}
	return nil
}

// ordinalOf the name of a founder, which the planner made.
func ordinalOf(member string) int32 {
	n, err := strconv.ParseInt(member[strings.LastIndexByte(member, '-')+1:], 10, 32)
	if err != nil {
		return 0
	}
	return int32(n)
}

func latchCluster(s *v1alpha1.EtcdClusterStatus, id uint64) error {
	if s.ClusterID != "" {
		return fmt.Errorf("latching the cluster ID: %w", ErrStale)
	}
	s.ClusterID = hex(id)
	return nil
}

// latchVolumes records which claims are the founders', as they are now: one
// that was deleted between the look and this is not recorded.
func (p *Performer) latchVolumes(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, founders []string) error {
	volumes := map[string]string{}
	for _, name := range founders {
		if on := c.Status.FounderVolumes[name]; on != "" {
			// What is on record stays, whatever has become of the volume.
			volumes[name] = on
			continue
		}
		volume, err := p.ownVolume(ctx, c, seen, name)
		if err != nil {
			return err
		}
		volumes[name] = string(volume.GetUID())
	}
	c.Status.FounderVolumes = volumes
	return nil
}

// unlatchVolume takes a claim that was never bound off the record, so that it
// can be made again.
func (p *Performer) unlatchVolume(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, name string) error {
	if c.Status.ClusterID != "" {
		return fmt.Errorf("taking the volume of %s off the record: %w", name, ErrStale)
	}
	if _, err := p.unusedVolume(ctx, c, seen, name); err != nil {
		return err
	}
	delete(c.Status.FounderVolumes, name)
	return nil
}

// setFinalizer holds the cluster while its volumes are to go with it, and only
// then: a cluster that keeps its volumes can be deleted without an operator.
func (p *Performer) setFinalizer(ctx context.Context, c *v1alpha1.EtcdCluster) error {
	changed := c.DeepCopy()
	if c.Spec.Storage.WhenDeleted == v1alpha1.WhenDeletedDelete {
		controllerutil.AddFinalizer(changed, v1alpha1.Finalizer)
	} else {
		controllerutil.RemoveFinalizer(changed, v1alpha1.Finalizer)
	}
	patch := client.MergeFromWithOptions(c, client.MergeFromWithOptimisticLock{})
	if err := p.Writer.Patch(ctx, changed, patch, client.FieldOwner(resources.FieldOwner)); err != nil {
		return fmt.Errorf("setting the finalizer: %w", err)
	}
	c.Finalizers, c.ResourceVersion = changed.Finalizers, changed.ResourceVersion
	return nil
}

// ownVolume reads what a member's identity lives with: its claim, or the pod of
// a memory-backed member.
func (p *Performer) ownVolume(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, name string) (client.Object, error) {
	if !memoryBacked(c, seen, name) {
		return p.ownClaim(ctx, c, name)
	}
	pod, err := p.ownPod(ctx, c, name)
	if err != nil {
		return nil, err
	}
	if pod == nil || !pod.DeletionTimestamp.IsZero() {
		return nil, fmt.Errorf("pod %s is gone: %w", name, ErrStale)
	}
	return pod, nil
}

// memoryBacked says that the data of the member is where it was seen, in its pod; of one that
// was not seen, that it will be.
func memoryBacked(c *v1alpha1.EtcdCluster, seen plan.Observed, name string) bool {
	if m, found := seen.Member(name); found {
		return m.InMemory
	}
	return resources.InMemory(c)
}

// onMedium is the cluster as a member is made from it where its data is.
func onMedium(c *v1alpha1.EtcdCluster, seen plan.Observed, name string) *v1alpha1.EtcdCluster {
	if memoryBacked(c, seen, name) {
		return resources.OnMedium(c, v1alpha1.MediumMemory)
	}
	return resources.OnMedium(c, v1alpha1.MediumDisk)
}

// ownClaim reads a claim, uncached, and refuses one that is not ours or is on
// its way out.
func (p *Performer) ownClaim(ctx context.Context, c *v1alpha1.EtcdCluster, name string) (*corev1.PersistentVolumeClaim, error) {
	claim := &corev1.PersistentVolumeClaim{}
	key := client.ObjectKey{Namespace: c.Namespace, Name: resources.ClaimName(name)}
	err := p.Live.Get(ctx, key, claim)
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("claim %s is gone: %w", key.Name, ErrStale)
	}
	if err != nil {
		return nil, fmt.Errorf("reading claim %s: %w", key.Name, err)
	}
	if !carriesIdentity(c, claim) {
		return nil, foreign("claim", key)
	}
	if !claim.DeletionTimestamp.IsZero() {
		return nil, fmt.Errorf("claim %s is being deleted: %w", key.Name, ErrStale)
	}
	return claim, nil
}

// ownPod reads a pod, uncached; nil when it is gone.
func (p *Performer) ownPod(ctx context.Context, c *v1alpha1.EtcdCluster, name string) (*corev1.Pod, error) {
	pod := &corev1.Pod{}
	err := p.Live.Get(ctx, client.ObjectKey{Namespace: c.Namespace, Name: name}, pod)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading pod %s: %w", name, err)
	}
	if !carriesIdentity(c, pod) {
		return nil, foreign("pod", client.ObjectKeyFromObject(pod))
	}
	return pod, nil
}

// foreign is no ErrStale: looking again does not help, so the user has to know.
func foreign(kind string, key client.ObjectKey) error {
	return fmt.Errorf("%s %s exists and does not belong to this cluster; it is not touched, and stands in the way of a member", kind, key)
}

func carriesIdentity(c *v1alpha1.EtcdCluster, object client.Object) bool {
	have := object.GetLabels()
	for label, want := range resources.Identity(c) {
		if have[label] != want {
			return false
		}
	}
	return true
}
