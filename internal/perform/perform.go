// Package perform carries out one step of a plan. Every step is idempotent: it
// creates under fixed names, takes "exists already" and "gone already" for
// done, and makes what it deletes or overwrites depend on the UID and the
// version that it has just read. It decides nothing.
package perform

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
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
	// Clock tells the time that certificates are issued at.
	Clock clock.PassiveClock
	// GuardImage is the image that holds the guard.
	GuardImage string
	// Operator says where the operator's own pods run.
	Operator resources.OperatorPeer
}

// Perform carries out the step for the cluster as it was observed.
func (p *Performer) Perform(ctx context.Context, c *v1alpha1.EtcdCluster, seen plan.Observed, step plan.Step) error {
	switch step.Kind {
	case plan.Settled, plan.Wait, plan.Pause:
		return nil
	case plan.LatchFounders:
		return p.latch(ctx, c, latchFounders(step.Members))
	case plan.LatchVolumes:
		return p.latchVolumes(ctx, c, step.Members)
	case plan.LatchCluster:
		return p.latch(ctx, c, latchCluster(seen.AgreedClusterID))
	case plan.IssueCertificates:
		return p.issueCertificates(ctx, c, seen)
	case plan.ApplyObjects:
		return p.applyObjects(ctx, c, seen)
	case plan.CreateVolumes:
		return each(step.Members, func(name string) error { return p.createVolume(ctx, c, name) })
	case plan.ReplaceVolumes:
		return each(step.Members, func(name string) error { return p.replaceVolume(ctx, c, name) })
	case plan.StartMembers:
		return each(step.Members, func(name string) error { return p.startMember(ctx, c, seen, name) })
	case plan.DeletePods:
		return each(step.Members, func(name string) error { return p.deletePod(ctx, c, name) })
	case plan.RecordMembers:
		return each(step.Members, func(name string) error { return p.recordMember(ctx, c, seen, name) })
	case plan.RecordRefusals:
		return each(step.Members, func(name string) error { return p.recordRefusal(ctx, c, seen, name) })
	}
	return fmt.Errorf("performing %s: no such step", step.Kind)
}

// each goes on after an error: one member that the API refuses must not hold
// back the others.
func each(members []string, do func(string) error) error {
	var all []error
	for _, m := range members {
		all = append(all, do(m))
	}
	return errors.Join(all...)
}

// latch changes status on the strength of an uncached read: a second operator
// that latched first makes this one start over.
func (p *Performer) latch(ctx context.Context, c *v1alpha1.EtcdCluster, change func(*v1alpha1.EtcdClusterStatus) error) error {
	live := &v1alpha1.EtcdCluster{}
	if err := p.Live.Get(ctx, client.ObjectKeyFromObject(c), live); err != nil {
		return fmt.Errorf("reading the cluster: %w", err)
	}
	if live.UID != c.UID {
		return fmt.Errorf("latching in cluster %s: %w", c.Name, ErrStale)
	}
	before := live.DeepCopy()
	if err := change(&live.Status); err != nil {
		return err
	}
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := p.Writer.Status().Patch(ctx, live, patch, client.FieldOwner(resources.FieldOwner)); err != nil {
		return fmt.Errorf("latching in status: %w", err)
	}
	// What the rest of this pass reports must build on what was latched.
	c.Status.Founders, c.Status.FounderVolumes = live.Status.Founders, live.Status.FounderVolumes
	c.Status.Incarnation, c.Status.NextOrdinal = live.Status.Incarnation, live.Status.NextOrdinal
	c.Status.ClusterID, c.ResourceVersion = live.Status.ClusterID, live.ResourceVersion
	return nil
}

func latchFounders(founders []string) func(*v1alpha1.EtcdClusterStatus) error {
	return func(s *v1alpha1.EtcdClusterStatus) error {
		if len(s.Founders) > 0 {
			return fmt.Errorf("latching the founders: %w", ErrStale)
		}
		s.Founders = founders
		s.Incarnation = max(1, s.Incarnation)
		for _, f := range founders {
			s.NextOrdinal = max(s.NextOrdinal, ordinalOf(f)+1)
		}
		return nil
	}
}

// ordinalOf the name of a founder, which the planner made.
func ordinalOf(member string) int32 {
	for i := len(member) - 1; i >= 0; i-- {
		if member[i] == '-' {
			n, err := strconv.ParseInt(member[i+1:], 10, 32)
			if err == nil {
				return int32(n)
			}
		}
	}
	return 0
}

func latchCluster(id uint64) func(*v1alpha1.EtcdClusterStatus) error {
	return func(s *v1alpha1.EtcdClusterStatus) error {
		if s.ClusterID != "" {
			return fmt.Errorf("latching the cluster ID: %w", ErrStale)
		}
		s.ClusterID = strconv.FormatUint(id, 16)
		return nil
	}
}

// latchVolumes records which claims are the founders', as they are now: one
// that was deleted between the look and this is not recorded.
func (p *Performer) latchVolumes(ctx context.Context, c *v1alpha1.EtcdCluster, founders []string) error {
	volumes := map[string]string{}
	for _, name := range founders {
		claim, err := p.ownClaim(ctx, c, name)
		if err != nil {
			return err
		}
		volumes[name] = string(claim.UID)
	}
	return p.latch(ctx, c, func(s *v1alpha1.EtcdClusterStatus) error {
		if s.ClusterID != "" || !slices.Equal(s.Founders, founders) {
			return fmt.Errorf("latching the founders' volumes: %w", ErrStale)
		}
		for name, uid := range s.FounderVolumes {
			if volumes[name] != uid {
				return fmt.Errorf("latching the founders' volumes: the claim of %s is not the one on record: %w", name, ErrStale)
			}
		}
		s.FounderVolumes = volumes
		return nil
	})
}

// ownClaim reads a claim, uncached, and refuses one that is not ours or is on
// its way out.
func (p *Performer) ownClaim(ctx context.Context, c *v1alpha1.EtcdCluster, name string) (*corev1.PersistentVolumeClaim, error) {
	claim := &corev1.PersistentVolumeClaim{}
	key := client.ObjectKey{Namespace: c.Namespace, Name: resources.ClaimName(name)}
	if err := p.Live.Get(ctx, key, claim); err != nil {
		return nil, fmt.Errorf("reading claim %s: %w", key.Name, err)
	}
	if !carriesIdentity(c, claim) {
		return nil, fmt.Errorf("claim %s belongs to somebody else: %w", key.Name, ErrStale)
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
		return nil, fmt.Errorf("pod %s belongs to somebody else: %w", name, ErrStale)
	}
	return pod, nil
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
