package elector

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"

	"github.com/quorate/quorate/leader"
)

// A duty says to the outside that this pod leads: begin when it does, end when it does
// no more. Both are tried again until they succeed or their context ends.
type duty struct {
	name       string
	begin, end func(context.Context, told) error
	// settle undoes at the start what a predecessor of this process left behind; nil
	// if it can leave nothing.
	settle func(context.Context, told) error
}

// told is what a duty is told.
type told struct {
	Election  string       `json:"election"`
	Namespace string       `json:"namespace"`
	Name      string       `json:"name"`
	Role      string       `json:"role"`
	Token     leader.Token `json:"token"`
}

const (
	roleLeader   = "leader"
	roleFollower = "follower"
)

func tell(e *leader.Elector, role string, token leader.Token) told {
	c := e.Config()
	return told{Election: c.Election, Namespace: c.Namespace, Name: c.Identity, Role: role, Token: token}
}

// environment of a hook or a child.
func (t told) environment() []string {
	return append(os.Environ(), EnvironmentPrefix+"ROLE="+t.Role, EnvironmentPrefix+"TOKEN="+strconv.FormatUint(uint64(t.Token), 10))
}

const (
	// margin is kept free before others may take over.
	margin = 100 * time.Millisecond
	// again is the pause between two tries of a duty.
	again = 250 * time.Millisecond
	// oneTry of a duty that asks somebody.
	oneTry = 3 * time.Second
)

// grace is how long after the end of its claim this pod may go on: by then others have
// not taken over yet, whatever happened.
func grace(e *leader.Elector) time.Duration {
	c := e.Config()
	return c.LeaseDuration - c.RenewDeadline - margin
}

// perform does the duties for every term, until the elector has ended. The Lease is
// not released before they have ended.
func perform(ctx context.Context, e *leader.Elector, duties []duty, log *slog.Logger) {
	each := func(ctx context.Context, t told, do func(duty) func(context.Context, told) error) {
		var all sync.WaitGroup
		for _, d := range duties {
			if f := do(d); f != nil {
				all.Go(func() { persist(ctx, d.name, t, f, log) })
			}
		}
		all.Wait()
	}
	settling, cancel := context.WithTimeout(ctx, 2*oneTry)
	each(settling, tell(e, roleFollower, 0), func(d duty) func(context.Context, told) error { return d.settle })
	cancel()
	// It ends with the elector, whose end is later than the context's.
	ctx = context.WithoutCancel(ctx)
	_ = e.Do(ctx, func(term context.Context, t *leader.Term) error {
		each(term, tell(e, roleLeader, t.Token()), func(d duty) func(context.Context, told) error { return d.begin })
		<-term.Done()
		ending, cancel := context.WithTimeout(ctx, grace(e))
		defer cancel()
		each(ending, tell(e, roleFollower, t.Token()), func(d duty) func(context.Context, told) error { return d.end })
		return nil
	})
}

// persist tries until it succeeds or the context ends, and says once why it did not.
func persist(ctx context.Context, name string, t told, do func(context.Context, told) error, log *slog.Logger) {
	said := ""
	for {
		err := do(ctx, t)
		if err == nil {
			return
		}
		if err.Error() != said && ctx.Err() == nil {
			said = err.Error()
			log.Warn("Could not tell of this pod's role; trying on", "by", name, "role", t.Role, "error", err)
		}
		if !pause(ctx, again) {
			return
		}
	}
}

// duties that the options ask for.
func (o *Options) duties(config *rest.Config, log *slog.Logger) ([]duty, error) {
	var out []duty
	if o.Label.Key != "" {
		l, err := newLabeller(config, o.Pod, o.Label)
		if err != nil {
			return nil, err
		}
		out = append(out, l.duty())
		if o.LabelOthers {
			out = append(out, l.others())
		}
	}
	if o.RoleFile != "" {
		write := func(_ context.Context, t told) error { return writeRole(o.RoleFile, t.Role) }
		out = append(out, duty{name: "--role-file", begin: write, end: write, settle: write})
	}
	if o.OnStart != "" {
		out = append(out, duty{name: "--on-start", begin: hook("--on-start", o.OnStart, log)})
	}
	if o.OnStop != "" {
		out = append(out, duty{name: "--on-stop", end: hook("--on-stop", o.OnStop, log)})
	}
	if o.Webhook != "" {
		post := func(ctx context.Context, t told) error { return post(ctx, o.Webhook, t) }
		out = append(out, duty{name: "--webhook", begin: post, end: post})
	}
	return out, nil
}

// writeRole replaces the file as a whole, so that nobody reads half a word.
func writeRole(path, role string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".role-*")
	if err != nil {
		return fmt.Errorf("writing the role: %w", err)
	}
	_, err = io.WriteString(f, role+"\n")
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("writing the role: %w", err), os.Remove(f.Name()))
	}
	return nil
}

// hook runs a command once; what it says goes to the log. It is killed when its time
// is over.
func hook(name, command string, log *slog.Logger) func(context.Context, told) error {
	return func(ctx context.Context, t told) error {
		argv := strings.Fields(command)
		c := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // the command that the command line names
		c.Env = t.environment()
		c.WaitDelay = margin / 2
		out, err := c.CombinedOutput()
		if err != nil {
			log.Warn("A hook failed", "hook", name, "error", err, "output", string(out))
		}
		return nil
	}
}

var webhooks = &http.Client{Timeout: oneTry}

func post(ctx context.Context, to string, t told) error {
	body, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("telling the webhook: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("telling the webhook: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := webhooks.Do(r)
	if err != nil {
		return fmt.Errorf("telling the webhook: %w", err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("telling the webhook: it says %s", answer.Status)
	}
	return nil
}

// pause waits, and says whether the context still lasts.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
