package elector

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/quorate/quorate/leader/leaderhttp"
)

// Exit codes.
const (
	ExitFatal = 1
	ExitUsage = 2
)

// question that is put to a leader-elector that runs.
type question struct {
	http, election, until string
	timeout, cooldown     time.Duration
}

// questions are the commands that Ask carries out.
var questions = map[string]func(context.Context, *leaderhttp.Client, question, io.Writer) error{
	"wait": waitFor, "status": status, "resign": resign, "watch": watch,
}

// purposes say what each command is for.
var purposes = map[string]string{
	"wait":   "Waits until this pod leads, or anybody does, and prints the leader's name.",
	"status": "Prints all that is known of an election, as JSON.",
	"resign": "Has this pod give up the leadership and not contend for a while. Ends when the Lease is released.",
	"watch":  "Prints all that is known of an election as JSON, a line for every change.",
}

// Asks says whether the command is one for Ask.
func Asks(command string) bool { return questions[command] != nil }

// Ask carries out wait, status, resign or watch, and returns the exit code.
func Ask(ctx context.Context, command string, args []string, env func(string) string, stdout, stderr io.Writer) int {
	q, client, err := understand(command, args, env, stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(stderr, err)
		return ExitUsage
	}
	if q.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, q.timeout)
		defer cancel()
	}
	if err := questions[command](ctx, client, q, stdout); err != nil {
		fmt.Fprintln(stderr, err)
		return ExitFatal
	}
	return 0
}

// understand the command line of a question, and whom it is put to.
func understand(command string, args []string, env func(string) string, help io.Writer) (question, *leaderhttp.Client, error) {
	q := question{}
	fs := q.flags(command)
	if err := parse(fs, args, env, help); err != nil {
		return q, nil, err
	}
	if fs.NArg() > 0 {
		return q, nil, fmt.Errorf("unexpected argument %q — %s takes flags only — see --help", fs.Arg(0), command)
	}
	if q.until != "" && q.until != "self" && q.until != "any" {
		return q, nil, fmt.Errorf("--for is %q — one can wait for self or any — use one of them", q.until)
	}
	client, err := leaderhttp.New(q.http)
	if err != nil {
		return q, nil, err
	}
	// The environment may be that of the leader-elector itself, which has several.
	client.Election, _, _ = strings.Cut(q.election, ",")
	return q, client, nil
}

func (q *question) flags(command string) *flag.FlagSet {
	fs := flag.NewFlagSet("leader-elector "+command, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {
		fmt.Fprintf(fs.Output(), "%s\n\n  leader-elector %s [flags]\n\nFlags:\n", purposes[command], command)
	}
	fs.StringVar(&q.http, "http", "localhost:4040", "address of the leader-elector: host:port or unix:/path")
	fs.StringVar(&q.election, "election", "", "`name` of the election, the first one of several by commas; the leader-elector's first one if empty")
	switch command {
	case "wait":
		fs.StringVar(&q.until, "for", "self", "self: until this pod leads; any: until somebody does")
		fs.DurationVar(&q.timeout, "timeout", 0, "how long to wait; for ever if zero")
	case "resign":
		fs.DurationVar(&q.cooldown, "cooldown", 30*time.Second, "how long not to contend after that")
		fs.DurationVar(&q.timeout, "timeout", time.Minute, "how long to wait for the release")
	}
	return fs
}

// waitFor a leader. A leader-elector that does not answer yet is waited for, too.
func waitFor(ctx context.Context, c *leaderhttp.Client, q question, out io.Writer) error {
	for a := range c.Watch(ctx) {
		if a.IsLeader() || (q.until == "any" && a.Leader() != "") {
			fmt.Fprintln(out, a.Leader())
			return nil
		}
	}
	return fmt.Errorf("waited in vain for %s to lead: %w", q.until, context.Cause(ctx))
}

func status(ctx context.Context, c *leaderhttp.Client, _ question, out io.Writer) error {
	a, err := c.State(ctx)
	if err != nil {
		return err
	}
	return show(out, a)
}

func show(out io.Writer, a leaderhttp.Answer) error {
	if err := json.NewEncoder(out).Encode(a.State()); err != nil {
		return fmt.Errorf("writing the state: %w", err)
	}
	return nil
}

// resign says what has come of it: that the Lease is released, if this pod held it.
func resign(ctx context.Context, c *leaderhttp.Client, q question, out io.Writer) error {
	before, unknown := c.State(ctx)
	if err := c.Resign(ctx, q.cooldown); err != nil {
		return err
	}
	did := "does not lead"
	if unknown == nil && before.IsLeader() {
		did = "has given up the leadership, and the Lease is released"
	}
	fmt.Fprintf(out, "this pod %s: it does not contend for %s\n", did, q.cooldown)
	return nil
}

// watch writes a line for every change. No answer is one, too.
func watch(ctx context.Context, c *leaderhttp.Client, _ question, out io.Writer) error {
	first, last := true, leaderhttp.State{}
	for a := range c.Watch(ctx) {
		s := a.State()
		if !first && s.Version == last.Version && s.Self == last.Self && s.Name == last.Name && s.IsLeader == last.IsLeader {
			continue
		}
		first, last = false, s
		if err := show(out, a); err != nil {
			return err
		}
	}
	return nil
}
