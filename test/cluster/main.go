// Command cluster brings up a real Kubernetes of three nodes on one machine, for
// the demo and the end-to-end tests. Everything is built from the Go module
// proxy or comes from Debian's packages; no image is ever pulled. What it makes
// lies under .cluster in the repository's root.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

const usage = `cluster brings up a real Kubernetes of three nodes on this machine.

Usage: cluster [--root DIR] COMMAND

  setup [assets|all]     install packages and build what is missing (all);
                         assets: only etcd, kube-apiserver and kubectl, for tests without a cluster
  up                     bring the cluster up (builds first, when needed)
  down                   remove it; what was built stays
  status                 what runs; exit code 1 when something is down
  image -o OUT.tar -t NAME:TAG [--base scratch|ARCHIVE] [--user UID:GID] [--workdir DIR]
        [--entrypoint ARG,...] [--cmd ARG,...] [--env K=V]... SRC:DST...
                         make an image of static files
  load-image ARCHIVE...  put images on every node
  partition NODE         cut a node off from the network
  heal NODE              connect it again
  kill-node NODE         cut a node's power
  start-node NODE        turn it on again, and wait until it is Ready

Nodes: node1, node2, node3.
`

// Exit codes.
const (
	exitFailed   = 1
	exitUnsuited = 2 // wrong usage, or no cluster can be brought up on this system
)

// errUsage is a command line that makes no sense.
var errUsage = errors.New("wrong usage")

func main() {
	if len(os.Args) == 3 && os.Args[1] == "machine-init" {
		if err := runMachine(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(exitFailed)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	var u unsuited
	switch {
	case err == nil:
	case errors.Is(err, flag.ErrHelp):
		fmt.Print(usage)
	case errors.Is(err, errUsage):
		fmt.Fprintf(os.Stderr, "error: %v\n\n%s", err, usage)
		os.Exit(exitUnsuited)
	case errors.As(err, &u):
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(exitUnsuited)
	case errors.Is(err, errDown):
		os.Exit(exitFailed)
	default:
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(exitFailed)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	root := flags.String("root", ".", "")
	if err := flags.Parse(args); err != nil {
		return usageError(err)
	}
	if flags.NArg() == 0 {
		return fmt.Errorf("%w: no command", errUsage)
	}
	l, err := findLayout(*root)
	if err != nil {
		return err
	}
	command, rest := flags.Arg(0), flags.Args()[1:]
	p := newProgress(out)
	switch command {
	case "setup":
		return setupCommand(l, p, rest)
	case "image":
		return imageCommand(rest)
	case "status":
		return status(ctx, l, out)
	case "up", "down":
		if len(rest) > 0 {
			return fmt.Errorf("%w: %s takes no arguments", errUsage, command)
		}
		if err := checkSystem(); err != nil {
			return err
		}
		return locked(l.path("cluster.lock"), p, func() error {
			if command == "down" {
				return down(l, p)
			}
			return up(ctx, l, p)
		})
	case "load-image", "partition", "heal", "kill-node", "start-node":
		return clusterCommand(ctx, l, p, command, rest)
	}
	return fmt.Errorf("%w: there is no command %q", errUsage, command)
}

func usageError(err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return err
	}
	return fmt.Errorf("%w: %w", errUsage, err)
}

func setupCommand(l layout, p *progress, args []string) error {
	switch {
	case len(args) == 1 && args[0] == "assets":
		return setupAssets(l, p)
	case len(args) == 0, len(args) == 1 && args[0] == "all":
		if err := checkSystem(); err != nil {
			return err
		}
		return setupAll(l, p)
	}
	return fmt.Errorf("%w: setup takes assets or all, not %s", errUsage, strings.Join(args, " "))
}

// clusterCommand carries out a command that needs a cluster that is up.
func clusterCommand(ctx context.Context, l layout, p *progress, command string, args []string) error {
	if !l.isUp() {
		return errors.New("the cluster is down — there is no node to work on — bring it up with `go run . up` in test/cluster")
	}
	if command == "load-image" {
		if len(args) == 0 {
			return fmt.Errorf("%w: load-image takes the archives to load", errUsage)
		}
		return p.step("loaded "+strings.Join(args, " "), func() error { return loadImages(ctx, l, args) })
	}
	if len(args) != 1 {
		return fmt.Errorf("%w: %s takes one node", errUsage, command)
	}
	n, err := findNode(args[0])
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	switch command {
	case "partition":
		return p.step("cut "+n.name()+" off", func() error { return partition(n) })
	case "heal":
		return p.step("connected "+n.name(), func() error { return heal(n) })
	case "kill-node":
		return p.step("cut the power of "+n.name(), func() error { return killNode(l, n) })
	default:
		return p.step(n.name()+" is on and Ready", func() error { return startNode(ctx, l, n) })
	}
}

// list collects a flag that may be given several times.
type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

func imageCommand(args []string) error {
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	var spec imageSpec
	var env list
	output := flags.String("o", "", "")
	entrypoint := flags.String("entrypoint", "", "")
	command := flags.String("cmd", "", "")
	flags.StringVar(&spec.tag, "t", "", "")
	flags.StringVar(&spec.base, "base", "scratch", "")
	flags.StringVar(&spec.user, "user", "", "")
	flags.StringVar(&spec.workdir, "workdir", "", "")
	flags.Var(&env, "env", "")
	if err := flags.Parse(args); err != nil {
		return usageError(err)
	}
	if *output == "" || spec.tag == "" || flags.NArg() == 0 {
		return fmt.Errorf("%w: image needs -o, -t and at least one SRC:DST", errUsage)
	}
	spec.env = env
	if *entrypoint != "" {
		spec.entrypoint = strings.Split(*entrypoint, ",")
	}
	if *command != "" {
		spec.command = strings.Split(*command, ",")
	}
	for _, arg := range flags.Args() {
		file, err := parseFile(arg)
		if err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
		spec.files = append(spec.files, file)
	}
	return buildImage(spec, *output)
}
