// Command soak puts clusters of three and five members on the local Kubernetes,
// writes to them all the time, and does one harm after the other to them: to
// processes, pods, volumes, nodes, members and the operator, in an order that
// the seed decides. After each it waits until everything is well again. At the
// end the complete histories are checked, every acknowledged key is read back,
// and a report is written; the exit code is the verdict.
//
//	make soak DURATION=10m SEED=1
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
	"strings"
	"syscall"
	"time"

	"github.com/quorate/quorate/test/soak/testbed"
)

func main() {
	duration := flag.Duration("duration", 10*time.Minute, "how long faults are begun")
	seed := flag.Uint64("seed", 0, "decides which faults come in which order; 0 takes a random one")
	only := flag.String("only", "", "faults to choose from, by name, separated by commas; empty for all")
	out := flag.String("out", filepath.Join(".cluster", "soak"), "directory of the report")
	flag.Parse()
	if *seed == 0 {
		*seed = rand.Uint64N(1 << 32)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	report, err := run(ctx, *duration, *seed, *only, *out)
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
func run(ctx context.Context, duration time.Duration, seed uint64, only, out string) (*Report, error) {
	root, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("finding the repository: %w", err)
	}
	deck, err := choose(only)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return nil, fmt.Errorf("making the report's directory: %w", err)
	}
	bed, err := testbed.Connect(root, "quorate-soak")
	if err != nil {
		return nil, err
	}
	fmt.Printf("soak: seed %d, %s, %d kinds of faults\n", seed, duration, len(deck))
	s := &soak{Bed: bed, out: out, deck: deck, random: rand.New(rand.NewPCG(seed, 0))} //nolint:gosec // it must be repeatable
	s.report = &Report{Seed: seed, Began: time.Now(), Duration: duration.String()}
	err = s.soak(ctx, duration)
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
	if err := s.report.write(out); err != nil {
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
