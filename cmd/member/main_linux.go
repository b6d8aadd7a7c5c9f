// Command member is the guard inside a member's pod: etcd's parent process.
//
//	member install DEST                         copy this executable (init container)
//	member run [flags] -- ETCD [etcd flags]     guard and run etcd
//	member version                              print the version
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/quorate/quorate/internal/member"
)

// version is set at build time: -ldflags "-X main.version=v1.2.3".
var version = "devel"

const usage = `usage:
  member install DEST
  member run [flags] -- ETCD [etcd flags]
  member version
`

func main() {
	// The guard idles beside etcd for its whole life and serves a probe a second:
	// memory counts, speed does not. Without the bound the runtime keeps caches
	// for every processor of the node.
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(10)
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	command := ""
	if len(args) > 0 {
		command = args[0]
	}
	switch command {
	case "install":
		return install(args[1:], stderr)
	case "run":
		return guard(args[1:], stderr)
	case "version", "-version", "--version":
		fmt.Fprintln(stdout, version)
		return 0
	case "help", "-h", "-help", "--help":
		fmt.Fprint(stdout, usage)
		return 0
	default:
		fmt.Fprint(stderr, usage)
		return member.ExitUsage
	}
}

func install(args []string, stderr io.Writer) int {
	if len(args) != 1 {
		fmt.Fprint(stderr, usage)
		return member.ExitUsage
	}
	if err := member.Install(args[0]); err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

func guard(args []string, stderr io.Writer) int {
	log := member.NewLogger(stderr)
	config, err := member.ParseConfig(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		log.Error("Wrong arguments", "error", err.Error())
		return member.ExitUsage
	}
	return member.Run(context.Background(), config, log)
}
