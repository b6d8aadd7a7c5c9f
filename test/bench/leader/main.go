// Command leader measures the leader-elector beside candidates of client-go's
// leaderelection, in the same run, on a real API server: how soon another one leads
// after SIGTERM and after kill -9, what it asks of the API server, and what it weighs.
// The candidates are processes on this machine. A handover is measured by a watch of
// the Lease, from the signal until another holder is seen, for all of them alike.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/test/soak/testbed"
)

const (
	namespace = "quorate-bench-leader"
	// stepTimeout is for whatever has no limit of its own.
	stepTimeout = time.Minute
	candidates  = 3
	// atOnce is how many elections of ours lose their leaders at the same time.
	atOnce = 5
)

// bench is the command line, and where it runs.
type bench struct {
	runs, kills         int
	peerRuns, peerKills int
	rest                time.Duration
	clients             int

	bed *testbed.Bed
	dir string
}

func main() {
	b := &bench{}
	flag.IntVar(&b.runs, "runs", 200, "how often the leader is ended with SIGTERM")
	flag.IntVar(&b.kills, "kills", 50, "how often it is killed")
	flag.IntVar(&b.peerRuns, "peer-runs", 50, "how often client-go's leader is ended")
	flag.IntVar(&b.peerKills, "peer-kills", 20, "how often it is killed")
	flag.DurationVar(&b.rest, "rest", 2*time.Minute, "how long requests are counted")
	flag.IntVar(&b.clients, "clients", 1000, "how many clients follow the events of one leader-elector")
	flag.Parse()
	// Signals after the first are swallowed: what was started is still stopped.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := b.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "leader:", err)
		os.Exit(1) //nolint:gocritic // the process ends, and with it the handling of signals
	}
}

func (b *bench) run(ctx context.Context) error {
	if min(b.runs, b.kills, b.peerRuns, b.peerKills, b.clients) < 1 || b.rest < time.Second {
		return errors.New("a count is below 1, or -rest below 1s — each figure is measured at least once — correct it")
	}
	var err error
	if b.bed, err = testbed.Connect(".", "quorate-bench-leader"); err != nil {
		return fmt.Errorf("finding the cluster: %w", err)
	}
	if b.dir, err = os.MkdirTemp("", "quorate-bench-leader-"); err != nil {
		return fmt.Errorf("making a directory: %w", err)
	}
	defer os.RemoveAll(b.dir)
	if err := b.build(ctx); err != nil {
		return err
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if err := b.bed.Kube.Create(ctx, ns); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("making the namespace: %w", err)
	}
	defer b.dropNamespace()
	return b.measure(ctx)
}

// build both programs as they are released.
func (b *bench) build(ctx context.Context) error {
	for name, path := range map[string]string{"leader-elector": "./cmd/leader-elector", "clientgo": "./test/bench/leader/clientgo"} {
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", b.program(name), path)
		cmd.Env, cmd.Stderr = append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("building %s: %w", path, err)
		}
	}
	return nil
}

func (b *bench) program(name string) string { return filepath.Join(b.dir, name) }

// measure all subjects. What only waits is done for all of them at once.
func (b *bench) measure(ctx context.Context) error {
	ours := b.ours()
	subjects := []*subject{ours, b.clientGo("15/10/2", 15*time.Second, 10*time.Second, 2*time.Second), b.clientGo("10/5/2.5", 10*time.Second, 5*time.Second, 2500*time.Millisecond)}
	for _, s := range subjects {
		defer s.stop()
		if err := s.start(ctx); err != nil {
			return fmt.Errorf("starting the candidates of %s: %w", s.name, err)
		}
	}
	progress("at rest, for %s; the machine's load is %s on %d processors", b.rest, loadAverage(), runtime.NumCPU())
	if err := b.atRest(ctx, subjects); err != nil {
		return err
	}
	progress("%d clients", b.clients)
	if err := b.crowd(ctx, ours); err != nil {
		return err
	}
	for _, s := range subjects {
		progress("SIGTERM, %s; load %s", s.name, loadAverage())
		if err := s.repeat(ctx, syscall.SIGTERM, b.count(s, b.runs, b.peerRuns), &s.figures.terminated); err != nil {
			return err
		}
	}
	if err := b.killAll(ctx, ours, subjects); err != nil {
		return err
	}
	if !report(os.Stdout, subjects, b.clients) {
		return errors.New("a figure is above its limit")
	}
	return nil
}

// killAll kills the leaders of several elections of ours at once, beside those of the
// others: each takes most of a lease, in which nothing happens.
func (b *bench) killAll(ctx context.Context, ours *subject, subjects []*subject) error {
	progress("kill -9, in %d elections at once; load %s", atOnce, loadAverage())
	all := subjects
	for i := range atOnce - 1 {
		s := b.ours()
		s.election = fmt.Sprintf("%s-%d", ours.election, i)
		defer s.stop()
		if err := s.start(ctx); err != nil {
			return fmt.Errorf("starting the candidates of %s: %w", s.election, err)
		}
		all = append(all, s)
	}
	err := together(all, func(s *subject) error {
		return s.repeat(ctx, syscall.SIGKILL, b.count(s, (b.kills+atOnce-1)/atOnce, b.peerKills), &s.figures.killed)
	})
	for _, s := range all[len(subjects):] {
		ours.figures.killed = append(ours.figures.killed, s.figures.killed...)
		ours.figures.both += s.figures.both
	}
	return err
}

func (b *bench) count(s *subject, ours, peers int) int {
	if s.peer {
		return peers
	}
	return ours
}

// together does the same with all subjects at once.
func together(subjects []*subject, do func(*subject) error) error {
	errs := make(chan error, len(subjects))
	for _, s := range subjects {
		go func() { errs <- do(s) }()
	}
	var failed []error
	for range subjects {
		failed = append(failed, <-errs)
	}
	return errors.Join(failed...)
}

// dropNamespace also runs after an interruption.
func (b *bench) dropNamespace() {
	ctx, cancel := context.WithTimeout(context.Background(), stepTimeout)
	defer cancel()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if err := b.bed.Kube.Delete(ctx, ns); client.IgnoreNotFound(err) != nil {
		fmt.Fprintln(os.Stderr, "leader: deleting its namespace:", err)
	}
}

// progress is told as it happens, apart from the table.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}
