// Command bench measures the operator against a bare StatefulSet: the same
// image, certificates, probes, volumes and nodes, in the same run, so that the
// ratios hold whatever the machine. It wants a cluster with the operator
// installed (make deploy) and nothing else going on.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
)

// limits are the figures that the project has set itself.
const (
	foundLimit  = 2.0
	repairLimit = 1.5
	writesLimit = 10
	rssLimitMiB = 64
	stepTimeout = 2 * time.Minute
	pollEvery   = 10 * time.Millisecond
	members     = 3
	etcdVersion = "3.6.16"
	volumeSize  = "1Gi"
	quota       = "256Mi"
	namespace   = "quorate-bench"
	operatorNS  = "quorate-system"
)

type bench struct {
	c      client.WithWatch
	config *rest.Config
	runs   int
	idle   time.Duration
}

func main() {
	b := &bench{}
	flag.IntVar(&b.runs, "runs", 5, "how often each is measured; the median counts")
	flag.DurationVar(&b.idle, "idle", time.Minute, "how long the idle operator is watched")
	flag.Parse()
	if err := b.run(ctrl.SetupSignalHandler()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (b *bench) run(ctx context.Context) error {
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("finding the cluster: %w", err)
	}
	config.QPS, config.Burst = 500, 1000
	b.config = config
	if b.c, err = client.NewWithWatch(config, client.Options{Scheme: scheme}); err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	if err := b.freshNamespace(ctx); err != nil {
		return err
	}
	defer b.dropNamespace()
	return b.measure(ctx)
}

// measure alternates between the two, so that what else the machine does hits
// both.
func (b *bench) measure(ctx context.Context) error {
	var found, repaired pair
	for i := range b.runs {
		for _, s := range []subject{newStatefulSet(b.c, i), newQuorate(b.c, i)} {
			founded, again, err := b.once(ctx, s)
			if err != nil {
				return fmt.Errorf("run %d of %s: %w", i+1, s.name(), err)
			}
			fmt.Fprintf(os.Stderr, "run %d  %-12s  apply → ready %5.2f s   pods deleted → ready %5.2f s\n",
				i+1, s.name(), founded.Seconds(), again.Seconds())
			found.add(s, founded)
			repaired.add(s, again)
		}
	}
	fmt.Printf("%-44s %10s %10s %7s %7s\n", "median of "+fmt.Sprint(b.runs), "bare", "quorate", "ratio", "limit")
	ok := found.print("apply → three voters, ready", foundLimit)
	ok = repaired.print("all pods deleted → three voters, ready", repairLimit) && ok
	rest, err := b.rest(ctx)
	if err != nil {
		return err
	}
	if !rest || !ok {
		return fmt.Errorf("a figure is above its limit")
	}
	return nil
}

// subject is what is measured.
type subject interface {
	name() string
	// apply creates it; ready says whether three voters serve.
	apply(context.Context) error
	ready(context.Context) (bool, error)
	// pods of it.
	pods(context.Context) ([]corev1.Pod, error)
	// remove takes it and its volumes away.
	remove(context.Context) error
}

// once founds the subject, deletes all its pods, and takes it away.
func (b *bench) once(ctx context.Context, s subject) (founded, again time.Duration, err error) {
	start := time.Now()
	if err := s.apply(ctx); err != nil {
		return 0, 0, err
	}
	if err := until(ctx, s.ready); err != nil {
		return 0, 0, fmt.Errorf("waiting for it to be ready: %w", err)
	}
	founded = time.Since(start)
	// Both are left alone for a moment: etcd settles, and so do the caches.
	if err := pause(ctx, 3*time.Second); err != nil {
		return 0, 0, err
	}
	before, err := s.pods(ctx)
	if err != nil {
		return 0, 0, err
	}
	start = time.Now()
	for i := range before {
		if err := b.c.Delete(ctx, &before[i]); err != nil {
			return 0, 0, fmt.Errorf("deleting pod %s: %w", before[i].Name, err)
		}
	}
	err = until(ctx, func(ctx context.Context) (bool, error) {
		now, err := s.pods(ctx)
		if err != nil || len(now) != members || !replaced(before, now) {
			return false, err
		}
		return s.ready(ctx)
	})
	again = time.Since(start)
	if err != nil {
		return 0, 0, fmt.Errorf("waiting for the new pods: %w", err)
	}
	return founded, again, s.remove(ctx)
}

// replaced says that none of the pods is one of those before.
func replaced(before, now []corev1.Pod) bool {
	return !slices.ContainsFunc(now, func(p corev1.Pod) bool {
		return slices.ContainsFunc(before, func(old corev1.Pod) bool { return old.UID == p.UID })
	})
}

func allReady(pods []corev1.Pod) bool {
	ready := 0
	for _, p := range pods {
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue && p.DeletionTimestamp.IsZero() {
				ready++
			}
		}
	}
	return ready == members
}

func until(ctx context.Context, is func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	for {
		done, err := is(ctx)
		if err != nil || done {
			return err
		}
		if err := pause(ctx, pollEvery); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

func (b *bench) freshNamespace(ctx context.Context) error {
	b.dropNamespace()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	return until(ctx, func(ctx context.Context) (bool, error) {
		err := b.c.Create(ctx, ns.DeepCopy())
		return err == nil, ignoreExisting(err)
	})
}

// dropNamespace also runs after an interruption.
func (b *bench) dropNamespace() {
	ctx, cancel := context.WithTimeout(context.Background(), stepTimeout)
	defer cancel()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if err := b.c.Delete(ctx, ns); client.IgnoreNotFound(err) != nil {
		fmt.Fprintln(os.Stderr, "bench: deleting its namespace:", err)
	}
}

// pair of series.
type pair struct{ bare, ours []time.Duration }

func (p *pair) add(s subject, d time.Duration) {
	if _, bare := s.(*statefulSet); bare {
		p.bare = append(p.bare, d)
		return
	}
	p.ours = append(p.ours, d)
}

func (p *pair) print(what string, limit float64) bool {
	bare, ours := median(p.bare), median(p.ours)
	ratio := ours.Seconds() / bare.Seconds()
	fmt.Printf("%-44s %8.2f s %8.2f s %7.2f %7.2f%s\n", what, bare.Seconds(), ours.Seconds(), ratio, limit, above(ratio, limit))
	return ratio <= limit
}

func median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2]
}

// above says that a figure is above its limit.
func above(figure, limit float64) string {
	if figure <= limit {
		return ""
	}
	return "  above the limit"
}
