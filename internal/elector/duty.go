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
// no more. Both are tried again until they succeed: begin while the term lasts, and end
// until the next one, if it was not to be had in time.
type duty struct {
	name       string
	begin, end func(context.Context, told) error
	// settle undoes at the start what a predecessor of this process left behind; nil
	// if it can leave nothing.
	settle func(context.Context, told) error
	// keep says that others may undo it: it is begun again now and then. timely says that
	// its end is of no use, or harm, once others may lead.
	keep, timely bool
}

// told is what a duty is told.
type told struct {
	Election  string       `json:"election"`
	Namespace string       `json:"namespace"`
	Name      string       `json:"name"`
	Role      string       `json:"role"`
	Token     leader.Token `json:"token"`

	// check says whether the term still lasts.
	check func() error
}

const (
	roleLeader   = "leader"
	roleFollower = "follower"
)

// tell of the term; nil for none.
func tell(e *leader.Elector, role string, term *leader.Term) told {
	c := e.Config()
	t := told{Election: c.Election, Namespace: c.Namespace, Name: c.Identity, Role: role, check: func() error { return nil }}
	if term != nil {
		t.Token, t.check = term.Token(), term.Check
	}
	return t
}

// environment of a hook or a child.
func (t told) environment() []string {
	return append(os.Environ(), EnvironmentPrefix+"ROLE="+t.Role, EnvironmentPrefix+"TOKEN="+strconv.FormatUint(uint64(t.Token), 10))
}

const (
	// margin is kept free before others may take over.
	margin = 100 * time.Millisecond
	// again is the pause between two tries of a duty; seldom is what it grows to.
	again  = 250 * time.Millisecond
	seldom = 10 * time.Second
	// keepEvery is how often a duty is begun again that others may undo.
	keepEvery = 30 * time.Second
	// oneTry of a duty that asks somebody.
	oneTry = 3 * time.Second
)

// patience is how long after the end of its claim this pod may go on, as long as that is
// not into the time of others.
func patience(e *leader.Elector) time.Duration {
	c := e.Config()
	return c.LeaseDuration - c.RenewDeadline - margin
}

// glance is how often it is looked whether others may lead: a timer stands still while the
// machine is suspended.
const glance = 250 * time.Millisecond

// ending is a context for what has to be over before others can lead: it ends after the
// patience, and the margin before the grace does, which is asked for by the clock of now.
func ending(ctx context.Context, patience time.Duration, grace func() time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	left := grace() - margin
	if left <= 0 {
		cancel()
	}
	go func() {
		for left > 0 && pause(ctx, min(left, glance)) {
			left = grace() - margin
		}
		cancel()
	}()
	return ctx, cancel
}

// perform does the duties for every term, until the elector has ended. The Lease is
// not released before they have ended, or others could lead anyway.
func perform(ctx context.Context, e *leader.Elector, duties []duty, log *slog.Logger) {
	// It ends with the elector, whose end is later than the context's.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var all []*performance
	for _, d := range duties {
		p := &performance{duty: d, log: log.With("by", d.name)}
		p.later(ctx, d.settle, tell(e, roleFollower, nil))
		all = append(all, p)
	}
	_ = e.Do(ctx, func(term context.Context, t *leader.Term) error {
		var each sync.WaitGroup
		for _, p := range all {
			each.Go(func() { p.perform(ctx, term, e, t) })
		}
		each.Wait()
		return nil
	})
	defer time.AfterFunc(oneTry, cancel).Stop()
	for _, p := range all {
		p.over.Wait()
	}
	cancel()
}

// performance of one duty, term by term.
type performance struct {
	duty
	log *slog.Logger
	// over waits for what is still tried of the time before; enough has it try no more.
	over   sync.WaitGroup
	enough context.CancelFunc
}

// later tries in the background until the next term begins, and for a moment after the
// elector's end.
func (p *performance) later(ctx context.Context, do func(context.Context, told) error, t told) {
	if do == nil {
		return
	}
	tries, enough := context.WithCancel(ctx)
	p.enough = enough
	// A try that has begun is carried through: one that is cut off may arrive after what
	// the next term begins with.
	p.over.Go(func() {
		persist(tries, func() error { return do(ctx, t) }, patiently, t.Role, p.log)
	})
}

// perform the duty for one term.
func (p *performance) perform(ctx, term context.Context, e *leader.Elector, t *leader.Term) {
	if p.enough != nil {
		p.enough()
		p.over.Wait()
	}
	if p.begin != nil {
		p.hold(term, tell(e, roleLeader, t))
	}
	<-term.Done()
	if p.end == nil {
		return
	}
	last, cancel := ending(ctx, patience(e), t.Grace)
	defer cancel()
	over := tell(e, roleFollower, t)
	if !persist(last, func() error { return p.end(last, over) }, hastily, over.Role, p.log) {
		p.miss(ctx, over)
	}
}

// miss is what becomes of an end that was not to be had in time.
func (p *performance) miss(ctx context.Context, over told) {
	if p.timely {
		p.log.Error("Others may lead already: too late for it", "role", over.Role)
		return
	}
	// Better than never.
	p.later(ctx, p.end, over)
}

// hold begins the duty, and has it begun again now and then if it is to be kept up.
func (p *performance) hold(term context.Context, t told) {
	begin := func() error { return p.begin(term, t) }
	for persist(term, begin, patiently, t.Role, p.log) && p.keep && pause(term, keepEvery) {
	}
}

// hurry says how the pauses between tries grow.
type hurry int

const (
	// patiently is for what may be late: from again, doubling up to seldom.
	patiently hurry = iota
	// hastily is for what has to be over soon.
	hastily
)

// persist tries until it succeeds, which it answers, or the context ends. It says once why
// it does not succeed.
func persist(ctx context.Context, do func() error, h hurry, role string, log *slog.Logger) bool {
	said := ""
	for wait := again; ctx.Err() == nil; {
		err := do()
		if err == nil {
			return true
		}
		if err.Error() != said && ctx.Err() == nil {
			said = err.Error()
			log.Warn("Could not tell of this pod's role; trying on", "role", role, "error", err)
		}
		if !pause(ctx, wait) {
			break
		}
		if h == patiently {
			wait = min(2*wait, seldom)
		}
	}
	return false
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
		out = append(out, duty{name: "--on-stop", end: hook("--on-stop", o.OnStop, log), timely: true})
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

// hook runs a command once; what it says at first goes to the log. It is killed with all
// that it has started when its time is over.
func hook(name, command string, log *slog.Logger) func(context.Context, told) error {
	return func(ctx context.Context, t told) error {
		argv := strings.Fields(command)
		c := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // the command that the command line names
		c.Env = t.environment()
		c.WaitDelay = margin / 2
		together(c)
		var out beginning
		c.Stdout, c.Stderr = &out, &out
		if err := c.Run(); err != nil {
			log.Warn("A hook failed", "hook", name, "error", err, "output", string(out))
		}
		return nil
	}
}

// beginning of what is written; the rest is dropped.
type beginning []byte

// mostOutput of a hook that is kept.
const mostOutput = 4 << 10

// Write implements io.Writer.
func (b *beginning) Write(p []byte) (int, error) {
	*b = append(*b, p[:min(len(p), mostOutput-len(*b))]...)
	return len(p), nil
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
