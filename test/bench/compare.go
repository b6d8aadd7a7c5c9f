package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/quorate/quorate/test/soak/testbed"
)

// Limits as ratios to the bare StatefulSet.
const (
	foundLimit  = 2.0
	repairLimit = 1.5
	podLimit    = 1.3
)

// followersDeleted is how often in each run: a kubelet asks once a second
// whether a pod is ready, and one deletion alone says little.
const followersDeleted = 3

// runs alternate between the two, so that what else the machine does hits both.
func (b *bench) found(ctx context.Context) (bool, error) {
	var founded, again, one pair
	for i := range b.runs {
		for _, s := range []subject{newStatefulSet(b.bed, i), newQuorate(b.bed, i)} {
			t, err := b.once(ctx, s)
			if err != nil {
				return false, fmt.Errorf("run %d of %s: %w", i+1, s.name(), err)
			}
			progress("run %d  %-12s  apply → ready %5.2f s   pods deleted → ready %5.2f s   a follower's %s s",
				i+1, s.name(), t.founded.Seconds(), t.again.Seconds(), seconds(t.one))
			founded.add(s, t.founded)
			again.add(s, t.again)
			one.add(s, t.one...)
		}
	}
	ok := founded.print("apply → three voters, ready", foundLimit)
	ok = again.print("all pods deleted → three voters, ready", repairLimit) && ok
	return one.print("a follower's pod deleted → three, ready", podLimit) && ok, nil
}

// subject is what is measured.
type subject interface {
	name() string
	// apply creates it; ready says whether three voters serve.
	apply(context.Context) error
	ready(context.Context) (bool, error)
	// etcd reaches its members.
	etcd() testbed.Cluster
	// pods of it.
	pods(context.Context) ([]corev1.Pod, error)
	// remove takes it and its volumes away.
	remove(context.Context) error
}

// times of one run.
type times struct {
	founded, again time.Duration
	one            []time.Duration
}

// once founds the subject, deletes the pod of a follower, several times, then
// all pods, and takes it away.
func (b *bench) once(ctx context.Context, s subject) (t times, err error) {
	start := time.Now()
	if err := s.apply(ctx); err != nil {
		return t, err
	}
	if err := until(ctx, s.ready); err != nil {
		return t, fmt.Errorf("waiting for it to be ready: %w", err)
	}
	t.founded = time.Since(start)
	for range followersDeleted {
		took, err := b.deletePods(ctx, s, b.aFollower)
		if err != nil {
			return t, err
		}
		t.one = append(t.one, took)
	}
	everyone := func(_ context.Context, _ testbed.Cluster, pods []corev1.Pod) ([]corev1.Pod, error) { return pods, nil }
	if t.again, err = b.deletePods(ctx, s, everyone); err != nil {
		return t, err
	}
	return t, s.remove(ctx)
}

// deletePods deletes those of the pods that are chosen, and waits until all are
// there again and serve.
func (b *bench) deletePods(ctx context.Context, s subject, choose func(context.Context, testbed.Cluster, []corev1.Pod) ([]corev1.Pod, error)) (time.Duration, error) {
	// Both are left alone for a moment: etcd settles, and so do the caches.
	if err := pause(ctx, 3*time.Second); err != nil {
		return 0, err
	}
	before, err := s.pods(ctx)
	if err != nil {
		return 0, err
	}
	chosen, err := choose(ctx, s.etcd(), before)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	for i := range chosen {
		if err := b.c.Delete(ctx, &chosen[i]); err != nil {
			return 0, fmt.Errorf("deleting pod %s: %w", chosen[i].Name, err)
		}
	}
	err = until(ctx, func(ctx context.Context) (bool, error) {
		now, err := s.pods(ctx)
		if err != nil || len(now) != members || !replaced(chosen, now) {
			return false, err
		}
		return s.ready(ctx)
	})
	if err != nil {
		return 0, fmt.Errorf("waiting for the new pods: %w", err)
	}
	return time.Since(start), nil
}

// aFollower is one pod whose member does not lead.
func (b *bench) aFollower(ctx context.Context, c testbed.Cluster, pods []corev1.Pod) ([]corev1.Pod, error) {
	var names []string
	for _, p := range pods {
		names = append(names, p.Name)
	}
	leads, _, err := c.Leader(ctx, names...)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(pods, func(p corev1.Pod) bool { return p.Name != leads })
	return pods[i : i+1], nil
}

// replaced says that none of the pods is one of those deleted.
func replaced(before, now []corev1.Pod) bool {
	return !slices.ContainsFunc(now, func(p corev1.Pod) bool {
		return slices.ContainsFunc(before, func(old corev1.Pod) bool { return old.UID == p.UID })
	})
}

// allReady says that there are so many pods, and that all are Ready.
func allReady(pods []corev1.Pod, size int) bool {
	return len(pods) == size && !slices.ContainsFunc(pods, func(p corev1.Pod) bool { return !testbed.Ready(p) })
}
