// Command bench measures the operator: founding and repair against a bare
// StatefulSet (the same image, certificates, probes, volumes and nodes, in the
// same run, so that the ratios hold whatever the machine), what it costs at
// rest, how long members take to join, leave and be replaced, and for how long
// no write is acknowledged meanwhile. It wants the local cluster with the
// operator installed (make deploy) and nothing else going on.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/test/soak/testbed"
)

const (
	stepTimeout = 3 * time.Minute
	pollEvery   = 10 * time.Millisecond
	members     = 3
	etcdVersion = "3.6.16"
	volumeSize  = "1Gi"
	quota       = "256Mi"
	namespace   = "quorate-bench"
)

type bench struct {
	bed   *testbed.Bed
	c     client.Client
	runs  int
	gaps  int
	kills int
	idle  time.Duration
	only  string
}

// section is a group of figures. It says whether all of them are within their
// limits.
type section struct {
	name    string
	measure func(*bench, context.Context) (bool, error)
}

// sections in the order in which they are measured.
var sections = []section{
	{"found", (*bench).found},
	{"rest", (*bench).rest},
	{"sizes", (*bench).sizes},
	{"volume", (*bench).volume},
	{"large", (*bench).large},
	{"gaps", (*bench).writeGaps},
	{"rolls", (*bench).rolls},
	{"backups", (*bench).backups},
}

func main() {
	b := &bench{}
	flag.IntVar(&b.runs, "runs", 5, "how often each duration is measured; the median counts")
	flag.IntVar(&b.gaps, "gaps", 10, "how often the leader is replaced under load; the longest gap counts")
	flag.IntVar(&b.kills, "kills", 5, "how often the leader is killed under load; the longest gap counts")
	flag.DurationVar(&b.idle, "idle", time.Minute, "how long the idle operator is watched")
	flag.StringVar(&b.only, "only", "", "sections to measure, separated by commas: "+strings.Join(sectionNames(), ", ")+"; empty for all")
	flag.Parse()
	// Signals after the first are swallowed: what was started is still stopped.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := b.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1) //nolint:gocritic // the process ends, and with it the handling of signals
	}
}

func sectionNames() []string {
	out := make([]string, 0, len(sections))
	for _, s := range sections {
		out = append(out, s.name)
	}
	return out
}

// chosen sections, in their order.
func (b *bench) chosen() ([]section, error) {
	if b.only == "" {
		return sections, nil
	}
	names := strings.Split(b.only, ",")
	for _, name := range names {
		if !slices.Contains(sectionNames(), name) {
			return nil, fmt.Errorf("-only=%s: %q is no section — choose of %s", b.only, name, strings.Join(sectionNames(), ", "))
		}
	}
	return slices.DeleteFunc(slices.Clone(sections), func(s section) bool { return !slices.Contains(names, s.name) }), nil
}

func (b *bench) run(ctx context.Context) error {
	if b.runs < 1 || b.gaps < 1 || b.kills < 1 {
		return fmt.Errorf("-runs=%d -gaps=%d -kills=%d: each figure is measured at least once", b.runs, b.gaps, b.kills)
	}
	chosen, err := b.chosen()
	if err != nil {
		return err
	}
	if b.bed, err = testbed.Connect(".", "quorate-bench"); err != nil {
		return fmt.Errorf("finding the cluster: %w", err)
	}
	b.c = b.bed.Kube
	if err := b.freshNamespace(ctx); err != nil {
		return err
	}
	defer b.dropNamespace()
	return b.measure(ctx, chosen)
}

// measure goes on after a section that failed: the others say something too.
func (b *bench) measure(ctx context.Context, chosen []section) error {
	printHeader(b.runs)
	var failed []error
	for _, s := range chosen {
		progress("%s; the machine's load is %s on %d processors", s.name, loadAverage(), runtime.NumCPU())
		worked := b.working(ctx)
		ok, err := s.measure(b, ctx)
		if now := b.working(ctx); now != worked && ctx.Err() == nil {
			progress("%s: the operator's Lease went from %s to %s meanwhile, so a duration may contain the wait for it", s.name, worked, now)
		}
		switch {
		case err != nil:
			failed = append(failed, fmt.Errorf("measuring %s: %w", s.name, err))
		case !ok:
			failed = append(failed, fmt.Errorf("%s: a figure is above its limit", s.name))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(failed...)
}

// working is the replica of the operator that holds the Lease.
func (b *bench) working(ctx context.Context) string {
	lease := &coordinationv1.Lease{}
	err := b.c.Get(ctx, client.ObjectKey{Namespace: "quorate-system", Name: "quorate-operator"}, lease)
	if err != nil || lease.Spec.HolderIdentity == nil {
		return "nobody known"
	}
	return *lease.Spec.HolderIdentity
}

func until(ctx context.Context, is func(context.Context) (bool, error)) error {
	return untilEvery(ctx, stepTimeout, pollEvery, is)
}

// untilEvery asks less often, while what is measured must not be disturbed by the asking.
func untilEvery(ctx context.Context, within, every time.Duration, is func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		done, err := is(ctx)
		if err != nil || done {
			return err
		}
		if err := pause(ctx, every); err != nil {
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

// loadAverage of the last minute: figures from a busy machine say little.
func loadAverage() string {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	minute, _, _ := strings.Cut(string(raw), " ")
	return minute
}

// progress is told as it happens, apart from the table.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
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
