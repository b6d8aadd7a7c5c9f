package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/test/soak/testbed"
)

// What config/default installs.
const (
	operatorNamespace = "quorate-system"
	operatorName      = "quorate-operator"
)

// strike is the death of the operator's working replica in the midst of a fault.
type strike struct {
	s *soak
	// after is how long after the harm was done it comes.
	after time.Duration
	// lease says whether the successor takes over at once, or waits for the Lease of
	// the dead to run out.
	lease lease
	once  sync.Once
	done  sync.WaitGroup

	killed worker
	at     time.Time
	amid   bool
	err    error
}

type lease int

const (
	leftToRunOut lease = iota
	taken
)

// struck says whether the operator is killed in this round of a fault: in every second
// one, and in the first one of half of the faults, which half the seed decides.
func struck(seed uint64, round, fault int) bool {
	return (seed+uint64(round)+uint64(fault))%2 == 1 //nolint:gosec // both count from zero
}

// strikes prepares the operator's death.
func (s *soak) strikes(ctx context.Context, amid span) (*strike, error) {
	w, err := s.working(ctx)
	return &strike{s: s, after: amid(s.random), lease: lease(s.random.IntN(2)), killed: w}, err
}

// begin is called when the harm to the cluster is done. A fault that is not struck has
// no strike.
func (k *strike) begin(ctx context.Context, c testbed.Cluster) {
	if k == nil {
		return
	}
	k.once.Do(func() {
		k.done.Go(func() {
			if k.err = pause(ctx, k.after); k.err == nil {
				k.err = k.kill(ctx, c)
			}
		})
	})
}

// kill the working replica, and say whether the harm was still there, or the cluster
// not yet well. It is asked afterwards, since some harms heal in a second.
func (k *strike) kill(ctx context.Context, c testbed.Cluster) error {
	k.s.watch.operatorKilled()
	harmed := k.s.harmed()
	k.at = time.Now()
	if err := testbed.Signal(k.killed.pod, "/operator", syscall.SIGKILL); err != nil {
		return err
	}
	k.amid = harmed || c.Healthy(ctx) != nil
	if k.lease == leftToRunOut {
		return nil
	}
	object := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: operatorName}}
	if err := k.s.Kube.Patch(ctx, object, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"holderIdentity":""}}`))); err != nil {
		return fmt.Errorf("taking the operator's Lease: %w", err)
	}
	return nil
}

// wait until the operator is dead.
func (k *strike) wait() error {
	if k == nil {
		return nil
	}
	k.done.Wait()
	return k.err
}

// succeeded waits until another process of the operator works.
func (k *strike) succeeded(ctx context.Context) error {
	if k == nil {
		return nil
	}
	return within(ctx, recovery, func(ctx context.Context) error {
		now, err := k.s.working(ctx)
		if err == nil && now.holder == k.killed.holder {
			err = fmt.Errorf("%s holds the operator's Lease, and is dead", now.holder)
		}
		return err
	})
}

// renew gives the dead replica a new pod: the kubelet would wait longer and longer with
// a container that is killed again and again.
func (k *strike) renew(ctx context.Context) error {
	if k == nil {
		return nil
	}
	if err := client.IgnoreNotFound(k.s.Kube.Delete(ctx, &k.killed.pod)); err != nil {
		return fmt.Errorf("deleting the operator's pod %s: %w", k.killed.pod.Name, err)
	}
	return within(ctx, recovery, func(ctx context.Context) error {
		var pods corev1.PodList
		if err := k.s.Kube.List(ctx, &pods, client.InNamespace(operatorNamespace), client.MatchingLabels{"app.kubernetes.io/name": operatorName}); err != nil {
			return fmt.Errorf("listing the operator's pods: %w", err)
		}
		if len(pods.Items) < 2 || slices.ContainsFunc(pods.Items, func(p corev1.Pod) bool { return p.UID == k.killed.pod.UID || !testbed.Ready(p) }) {
			return errors.New("not all of the operator's replicas are ready")
		}
		return nil
	})
}

// worker is the operator's process that works.
type worker struct {
	// holder of the Lease: another process of the same pod is another one.
	holder string
	pod    corev1.Pod
}

func (s *soak) working(ctx context.Context) (worker, error) {
	object := &coordinationv1.Lease{}
	if err := s.Kube.Get(ctx, client.ObjectKey{Namespace: operatorNamespace, Name: operatorName}, object); err != nil {
		return worker{}, fmt.Errorf("reading the operator's Lease: %w", err)
	}
	if object.Spec.HolderIdentity == nil || *object.Spec.HolderIdentity == "" {
		return worker{}, errors.New("nobody holds the operator's Lease")
	}
	w := worker{holder: *object.Spec.HolderIdentity}
	name, _, _ := strings.Cut(w.holder, "_")
	if err := s.Kube.Get(ctx, client.ObjectKey{Namespace: operatorNamespace, Name: name}, &w.pod); err != nil {
		return worker{}, fmt.Errorf("reading the operator's pod %s: %w", name, err)
	}
	return w, nil
}

// tells is how long the operator may take to tell what has happened: a dead one is
// succeeded first.
func (s *soak) tells() time.Duration {
	if s.strike == nil {
		return promised
	}
	return promised + away
}
