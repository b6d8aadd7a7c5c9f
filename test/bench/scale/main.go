// Command scale measures what many clusters cost one operator: its processor
// and memory at rest, what it asks and writes of the API server, and how soon
// after a restart it has looked at all of them. The API server and the operator
// are the real programs, each in a process of its own; pods are played by a
// fake kubelet, and behind every member answers an etcd that behaves, over gRPC
// and TLS at a loopback address of its own, in this process.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
)

// limits are the figures that the project has set itself.
const (
	cpuLimit   = 20.0  // ms per cluster and minute
	writeLimit = 0.0   // at rest
	rssLimit   = 700.0 // KiB per cluster
	seenLimit  = 20.0  // s from the start of the operator
)

// How long things are given.
const (
	stepTimeout = 20 * time.Minute
	pollEvery   = 200 * time.Millisecond
	// emptyRest and settleRest let the operator come to rest before its memory
	// is read: collected, and given back.
	emptyRest  = 30 * time.Second
	settleRest = 60 * time.Second
)

// options are the command line.
type options struct {
	clusters  int
	unhealthy int
	rest      time.Duration
	plaintext bool
	operator  string
	workDir   string
}

func main() {
	o := &options{}
	flag.IntVar(&o.clusters, "clusters", 500, "how many clusters of three members")
	flag.IntVar(&o.unhealthy, "unhealthy", 10, "how many of them lose a member before the operator is restarted")
	flag.DurationVar(&o.rest, "rest", 2*time.Minute, "how long the operator is watched at rest")
	flag.BoolVar(&o.plaintext, "plaintext", false, "clusters without TLS")
	flag.StringVar(&o.operator, "operator", "", "an operator that is built already")
	flag.StringVar(&o.workDir, "work-dir", "", "keep logs here; a directory that is removed at the end if empty")
	flag.Parse()
	ctrl.SetLogger(zap.New(zap.WriteTo(os.Stderr)))
	if err := run(ctrl.SetupSignalHandler(), o); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o *options) error {
	if o.workDir == "" {
		dir, err := os.MkdirTemp("", "quorate-scale-")
		if err != nil {
			return fmt.Errorf("making a directory: %w", err)
		}
		defer os.RemoveAll(dir)
		o.workDir = dir
	}
	w, err := newWorld(ctx, o)
	if err != nil {
		return err
	}
	defer w.stop()
	b := &bench{options: o, world: w}
	if err := b.measure(ctx); err != nil {
		return err
	}
	if !b.table.print(os.Stdout) {
		return fmt.Errorf("a figure is above its limit")
	}
	return nil
}

// pause waits, or ends early with the context's cause.
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

// until asks again and again, for stepTimeout at most.
func until(ctx context.Context, what string, is func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, stepTimeout, fmt.Errorf("waited %s for %s", stepTimeout, what))
	defer cancel()
	for {
		done, err := is()
		if err != nil {
			return fmt.Errorf("waiting for %s: %w", what, err)
		}
		if done {
			return nil
		}
		if err := pause(ctx, pollEvery); err != nil {
			return err
		}
	}
}
