package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// stopTimeout is longer than the operator's own grace.
	stopTimeout = 15 * time.Second
	// tick is the unit of /proc/PID/stat, the same on every Linux.
	tick = 10 * time.Millisecond
)

// operator is the real one, in a process of its own.
type operator struct {
	binary, kubeconfig, log string

	cmd   *exec.Cmd
	ended chan error
}

// buildOperator builds what the source says, unless the user brings a binary.
func buildOperator(ctx context.Context, o *options) (string, error) {
	if o.operator != "" {
		return o.operator, nil
	}
	binary := filepath.Join(o.workDir, "operator")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "github.com/quorate/quorate/cmd/operator")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the operator: %w: %s", err, out)
	}
	return binary, nil
}

// start runs it as the Deployment does, but for the ports, which are ephemeral,
// and the metrics, which nobody asks for.
func (p *operator) start(ctx context.Context) error {
	file, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("opening the operator's log: %w", err)
	}
	defer file.Close()
	p.cmd = exec.CommandContext(ctx, p.binary, "--leader-elect", "--metrics-bind-address=0", "--health-probe-bind-address=127.0.0.1:0", "--member-image=member")
	p.cmd.Env = append(os.Environ(), "KUBECONFIG="+p.kubeconfig, "POD_NAMESPACE="+operatorNamespace)
	p.cmd.Stdout, p.cmd.Stderr = file, file
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = stopTimeout
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("starting the operator: %w", err)
	}
	p.ended = make(chan error, 1)
	go func(cmd *exec.Cmd, ended chan<- error) { ended <- cmd.Wait(); close(ended) }(p.cmd, p.ended)
	return nil
}

// stop ends it as a kubelet does.
func (p *operator) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("ending the operator, whose log is %s: %w", p.log, err)
	}
	select {
	case err := <-p.ended:
		if err != nil {
			return fmt.Errorf("the operator ended badly, see %s: %w", p.log, err)
		}
		return nil
	case <-time.After(stopTimeout):
		return fmt.Errorf("the operator did not end within %s", stopTimeout)
	}
}

// kill ends it when the bench ends early.
func (p *operator) kill() {
	if p.cmd.Process.Kill() != nil {
		return
	}
	if err, running := <-p.ended; running {
		say("the operator was killed: %v", err)
	}
}

// use of the machine: processor time since the start, and resident memory in
// KiB.
type use struct {
	cpu time.Duration
	rss float64
}

func (p *operator) usage() (use, error) {
	select {
	case err := <-p.ended:
		return use{}, fmt.Errorf("the operator has ended, see %s: %w", p.log, err)
	default:
	}
	dir := filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return use{}, fmt.Errorf("reading the operator's processor time: %w", err)
	}
	// The name in parentheses may hold spaces; what follows does not.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 13 {
		return use{}, errors.New("the operator's stat file is too short")
	}
	user, errUser := strconv.ParseInt(fields[11], 10, 64)
	system, errSystem := strconv.ParseInt(fields[12], 10, 64)
	rss, errRSS := resident(filepath.Join(dir, "status"))
	return use{cpu: time.Duration(user+system) * tick, rss: rss}, errors.Join(errUser, errSystem, errRSS)
}

func resident(status string) (float64, error) {
	raw, err := os.ReadFile(status)
	if err != nil {
		return 0, fmt.Errorf("reading the operator's memory: %w", err)
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 64)
		}
	}
	return 0, errors.New("the operator's status file names no resident set")
}
