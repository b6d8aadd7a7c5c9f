// Command leader-elector contends for a Lease beside an application, and says who
// leads.
//
//	leader-elector --election=NAME [flags]              contend, and answer on --http
//	leader-elector exec --election=NAME [flags] -- CMD  run CMD while this pod leads
//	leader-elector wait|status|resign|watch [flags]     ask one that runs
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"k8s.io/klog/v2"

	"github.com/quorate/quorate/internal/elector"
	"github.com/quorate/quorate/internal/version"
)

func main() {
	// It idles beside an application: memory counts, speed does not.
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(1)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(25)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	command := ""
	if len(args) > 0 && args[0] != "" && args[0][0] != '-' {
		command, args = args[0], args[1:]
	}
	switch {
	case elector.Asks(command):
		return elector.Ask(ctx, command, args, os.Getenv, stdout, stderr)
	case command == "version":
		args = []string{"--version"}
	case command == "help":
		args = []string{"--help"}
	case command != "" && command != "exec":
		fmt.Fprintf(stderr, "%q is no command — nothing is started that was not understood — use exec, wait, status, resign or watch, or none to contend\n", command)
		return elector.ExitUsage
	}
	o, err := elector.Parse(args, os.Getenv, stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err == nil && o.PrintVersion:
		fmt.Fprintln(stdout, version.Version)
		return 0
	case err == nil && command == "exec" && len(o.Command) == 0:
		err = errors.New("exec names no command — it runs while this pod leads — add it after --")
	case err == nil && command == "" && len(o.Command) > 0:
		err = fmt.Errorf("unexpected argument %q — without exec there are flags only — see --help", o.Command[0])
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return elector.ExitUsage
	}
	log := o.Logger(stderr)
	klog.SetSlogLogger(log)
	code, err := elector.Run(ctx, o, version.Version, log)
	if err != nil {
		log.Error("Ended", "error", err)
	}
	return code
}
