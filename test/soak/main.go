// Command soak puts clusters of three and five members on the local Kubernetes,
// writes to them all the time, and does one harm after the other to them: to
// processes, pods, volumes, nodes and members, in an order that the seed decides;
// in every second round of each, it kills the operator in the midst of it. After
// each harm it waits until everything is well again. At the end the complete
// histories are checked, every acknowledged key is read back, and a report is
// written; the exit code is the verdict.
//
//	make soak DURATION=10m SEED=1
//	make soak DURATION=1h SOAK_FLAGS="-rounds 2"    every harm, with and without an operator
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/quorate/quorate/test/soak/testbed"
)

// options of a run.
type options struct {
	duration  time.Duration
	rounds    int
	seed      uint64
	only, out string
	operator  string
}

// What becomes of the operator in the midst of each fault.
const (
	diesByTurns = "by-turns"
	diesAlways  = "always"
	diesNever   = "never"
)

func main() {
	var o options
	flag.DurationVar(&o.duration, "duration", 10*time.Minute, "how long faults are begun")
	flag.IntVar(&o.rounds, "rounds", 0, "end earlier, after so many rounds of all faults; 0 for no end but the duration's")
	flag.Uint64Var(&o.seed, "seed", 0, "decides which faults come in which order; 0 takes a random one")
	flag.StringVar(&o.only, "only", "", "faults to choose from, by name, separated by commas; empty for all")
	flag.StringVar(&o.operator, "operator-dies", diesByTurns, "in the midst of the faults: by-turns (in every second round of each), always or never")
	flag.StringVar(&o.out, "out", filepath.Join(".cluster", "soak"), "directory of the report")
	flag.Parse()
	if o.seed == 0 {
		o.seed = rand.Uint64N(1 << 32)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	report, err := run(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		stop()
		os.Exit(2) //nolint:gocritic // stop was called
	}
	if !report.Passed() {
		stop()
		os.Exit(1)
	}
}

// run soaks, and writes the report whatever happens. The error says that it
// could not be done at all.
func run(ctx context.Context, o options) (*Report, error) {
	root, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("finding the repository: %w", err)
	}
	deck, err := choose(o.only)
	if err != nil {
		return nil, err
	}
	if !slices.Contains([]string{diesByTurns, diesAlways, diesNever}, o.operator) {
		return nil, fmt.Errorf("-operator-dies is %q — the operator is killed by turns, always or never — use by-turns, always or never", o.operator)
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return nil, fmt.Errorf("making the report's directory: %w", err)
	}
	bed, err := testbed.Connect(root, "quorate-soak")
	if err != nil {
		return nil, err
	}
	fmt.Printf("soak: seed %d, %s, %d kinds of faults, the operator dies %s\n", o.seed, o.duration, len(deck), o.operator)
	s := &soak{Bed: bed, options: o, deck: deck, random: rand.New(rand.NewPCG(o.seed, 0))} //nolint:gosec // it must be repeatable
	s.report = &Report{Seed: o.seed, Began: time.Now(), Duration: o.duration.String()}
	err = s.soak(ctx, o.duration)
	// Whatever was begun is ended, even after an interrupt.
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), 4*time.Minute)
	defer cancel()
	if err != nil {
		s.report.fail("%v", err)
		s.dump(cleanup)
	}
	if err := s.end(cleanup); err != nil {
		s.report.fail("cleaning up: %v", err)
	}
	s.report.Ended = time.Now()
	if err := s.report.write(o.out); err != nil {
		return nil, err
	}
	fmt.Print(s.report.summary())
	return s.report, nil
}

// choose the faults of these names.
func choose(only string) ([]fault, error) {
	if only == "" {
		return faults, nil
	}
	var out []fault
	var unknown []error
	for name := range strings.SplitSeq(only, ",") {
		found := false
		for _, f := range faults {
			if f.name == name {
				out, found = append(out, f), true
			}
		}
		if !found {
			unknown = append(unknown, fmt.Errorf("there is no fault %q", name))
		}
	}
	return out, errors.Join(unknown...)
}
