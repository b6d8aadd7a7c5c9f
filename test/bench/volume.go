package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/test/soak/testbed"
)

// Limits of a replacement, from the moment at which the lost member's claim is
// gone until etcd lists three voters that have started, the new one among them.
const (
	lossLimit  = 15 * time.Second
	largeLimit = 60 * time.Second
)

// What the large cluster holds.
const (
	largeValues     = 1024
	largeValueBytes = 1 << 20
	fillTimeout     = 10 * time.Minute
)

// volume loses the volume of a follower of a cluster that holds next to nothing.
func (b *bench) volume(ctx context.Context) (bool, error) {
	q := newCluster(b.bed, "lost", members)
	if err := found(ctx, q); err != nil {
		return false, err
	}
	took, err := b.losses(ctx, q, b.runs)
	if err != nil {
		return false, err
	}
	ok := printMedian("volume lost → replaced, three voters", took.voters, lossLimit)
	printUnlimited("volume lost → replaced, all Ready", took.ready)
	return ok, q.remove(ctx)
}

// large loses the volume of a follower of a cluster that holds 1 GiB.
func (b *bench) large(ctx context.Context) (bool, error) {
	q := newLarge(b.bed, "large")
	if err := found(ctx, q); err != nil {
		return false, err
	}
	if err := fill(ctx, q); err != nil {
		return false, err
	}
	took, err := b.losses(ctx, q, 1)
	if err != nil {
		return false, err
	}
	ok := printMedian("the same with 1 GiB, measured once", took.voters, largeLimit)
	printUnlimited("the same with 1 GiB, all Ready", took.ready)
	return ok, q.remove(ctx)
}

// newLarge is a cluster with room for 1 GiB.
func newLarge(bed *testbed.Bed, name string) *quorate {
	q := newCluster(bed, name, members)
	q.cluster.Spec.Storage.Size = resource.MustParse("6Gi")
	q.cluster.Spec.Etcd.QuotaBackendBytes = resource.MustParse("2Gi")
	return q
}

// losses deletes the claim and the pod of a follower, so many times.
func (b *bench) losses(ctx context.Context, q *quorate, count int) (took resized, err error) {
	for i := range count {
		if err := pause(ctx, settling); err != nil {
			return took, err
		}
		if err := b.lose(ctx, q, &took); err != nil {
			return took, fmt.Errorf("loss %d: %w", i+1, err)
		}
		progress("loss %d of %s  replaced %.2f s   Ready %.2f s after its claim was gone", i+1, q.cluster.Name, took.voters[i].Seconds(), took.ready[i].Seconds())
	}
	return took, nil
}

func (b *bench) lose(ctx context.Context, q *quorate, took *resized) error {
	now, err := rolesOf(ctx, q.reached)
	if err != nil {
		return err
	}
	victim, others := now.followers[0], append(now.followers[1:], now.leader)
	members, err := openList(ctx, q.reached, others...)
	if err != nil {
		return err
	}
	defer members.close()
	lost, err := b.deleteVolume(ctx, victim)
	if err != nil {
		return err
	}
	if err := members.becomes(ctx, len(now.voters), now.ids[victim]); err != nil {
		return fmt.Errorf("waiting for %s to be replaced: %w", victim, err)
	}
	took.voters = append(took.voters, time.Since(lost))
	if err := podsReady(ctx, q, len(now.voters)); err != nil {
		return fmt.Errorf("waiting for the pods: %w", err)
	}
	took.ready = append(took.ready, time.Since(lost))
	return healthy(ctx, q.reached)
}

// deleteVolume deletes a member's claim and pod, and returns when the claim was
// gone: from then on anybody can see that the volume is lost.
func (b *bench) deleteVolume(ctx context.Context, member string) (gone time.Time, err error) {
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "data-" + member}}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: member}}
	for _, object := range []client.Object{claim, pod} {
		if err := b.c.Delete(ctx, object); err != nil {
			return gone, fmt.Errorf("deleting the claim and the pod of %s: %w", member, err)
		}
	}
	err = until(ctx, func(ctx context.Context) (bool, error) {
		err := b.c.Get(ctx, client.ObjectKeyFromObject(claim), claim)
		return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
	})
	if err != nil {
		return gone, fmt.Errorf("waiting for the claim of %s to be gone: %w", member, err)
	}
	return time.Now(), nil
}

// fill puts 1 GiB, in values that cannot be compressed, through all members.
func fill(ctx context.Context, q *quorate) error {
	start := time.Now()
	voters, err := q.reached.Voters(ctx)
	if err != nil {
		return err
	}
	cl, err := q.reached.Client(ctx, voters...)
	if err != nil {
		return err
	}
	defer func() { _ = cl.Close() }()
	ctx, cancel := context.WithTimeout(ctx, fillTimeout)
	defer cancel()
	numbers := make(chan int, largeValues)
	for i := range largeValues {
		numbers <- i
	}
	close(numbers)
	failed := make([]error, 4)
	var writers sync.WaitGroup
	for w := range failed {
		writers.Go(func() {
			for n := range numbers {
				if failed[w] = putLarge(ctx, cl, n); failed[w] != nil {
					return
				}
			}
		})
	}
	writers.Wait()
	if err := errors.Join(failed...); err != nil {
		return fmt.Errorf("filling cluster %s: %w", q.cluster.Name, err)
	}
	status, err := cl.Status(ctx, q.reached.Endpoint(voters[0]))
	if err != nil {
		return fmt.Errorf("asking %s for its size: %w", voters[0], err)
	}
	if status.DbSize < largeValues*largeValueBytes {
		return fmt.Errorf("the database of %s has %d bytes after %d values of %d", voters[0], status.DbSize, largeValues, largeValueBytes)
	}
	progress("filled %s in %.0f s; its database has %.2f GiB", q.cluster.Name, time.Since(start).Seconds(), float64(status.DbSize)/(1<<30))
	return nil
}

// putLarge puts a value once: a slow disk is waited for, and what has no answer
// for a minute is given up.
func putLarge(ctx context.Context, cl *clientv3.Client, number int) error {
	value := make([]byte, largeValueBytes)
	_, _ = rand.Read(value) // it never fails
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		// The same value under the same key: once more does no harm.
		asked, done := context.WithTimeout(ctx, 10*time.Second)
		_, err := cl.Put(asked, fmt.Sprintf("fill/%04d", number), string(value))
		done()
		if err == nil || ctx.Err() != nil {
			return err
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}
