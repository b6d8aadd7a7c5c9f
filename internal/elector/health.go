package elector

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/quorate/quorate/leader"
)

// checkEvery is the time between two health checks, and the most that one may take.
const checkEvery = 2 * time.Second

// healthGate is the checks' own: PUT /v1/eligible is the application's.
const healthGate = "health"

// health decides from the application's own word whether this pod may lead.
type health struct {
	check    func(context.Context) error
	failures int
	// grace is how long nobody must have led before an unwell pod may, too; zero for
	// ever.
	grace time.Duration
	log   *slog.Logger
}

func (o *Options) health(log *slog.Logger) *health {
	h := &health{failures: o.HealthFailures, grace: o.HealthGrace, log: log}
	switch {
	case o.HealthURL != "":
		client := &http.Client{Timeout: checkEvery}
		h.check = func(ctx context.Context) error { return answersWell(ctx, client, o.HealthURL) }
	case o.HealthFile != "":
		h.check = func(context.Context) error {
			if _, err := os.Stat(o.HealthFile); err != nil {
				return fmt.Errorf("looking for the health file: %w", err)
			}
			return nil
		}
	default:
		return nil
	}
	return h
}

func answersWell(ctx context.Context, client *http.Client, target string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return fmt.Errorf("asking for the health: %w", err)
	}
	answer, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("asking for the health: %w", err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("asking for the health: %s says %s", target, answer.Status)
	}
	return nil
}

// standing of a pod by its health checks.
type standing int

const (
	unwell standing = iota
	well
	// tolerated: unwell, and nobody else would lead. It stays so until a check succeeds:
	// who is best among the unwell cannot be known, and leading by turns helps nobody.
	tolerated
)

// diagnosis is what the checks of a pod have said.
type diagnosis struct {
	standing standing
	failed   int
	// alone is since when nobody has led; zero while somebody does, or may.
	alone time.Time
}

// rule is who leads in the elections, as this pod sees it.
type rule int

const (
	// byNobody in at least one of them.
	byNobody rule = iota
	// byUnknown: the same, but without the API server nobody can be known to lead.
	byUnknown
	// byThis pod in at least one, and by somebody in all.
	byThis
	// byOthers in all of them.
	byOthers
)

func ruleOf(electors []*leader.Elector) rule {
	out := byOthers
	for _, e := range electors {
		switch s := e.State(); {
		case !s.Connected && !s.IsLeader():
			return byUnknown
		case s.Leader == "":
			out = byNobody
		case out == byNobody:
		case s.IsLeader():
			out = byThis
		}
	}
	return out
}

// after is what follows from one more check; nil if it succeeded. One success makes a
// pod well, and so many failures in a row make it unwell; until the first success it is
// unwell.
func (d diagnosis) after(err error, r rule, now time.Time, h *health) diagnosis {
	switch {
	case r != byNobody:
		d.alone = time.Time{}
	case d.alone.IsZero():
		d.alone = now
	}
	if err == nil {
		d.standing, d.failed = well, 0
		return d
	}
	d.failed++
	switch {
	case d.standing == well && d.failed >= h.failures:
		d.standing, d.alone = unwell, time.Time{}
	case d.standing == unwell && h.grace > 0 && !d.alone.IsZero() && now.Sub(d.alone) >= h.grace:
		d.standing = tolerated
	case d.standing == tolerated && r == byOthers:
		// One of those may be well.
		d.standing = unwell
	}
	return d
}

// watch has the electors contend only while the checks succeed, or nobody leads.
func (h *health) watch(ctx context.Context, electors []*leader.Elector) {
	d := diagnosis{standing: unwell}
	for first := true; ; first = false {
		err := h.check(ctx)
		if ctx.Err() != nil {
			return
		}
		if first && err != nil {
			h.log.Info("Not contending before the health check succeeds", "error", err)
		}
		was := d.standing
		d = d.after(err, ruleOf(electors), time.Now(), h)
		if d.standing != was {
			h.become(ctx, d, err, electors)
		}
		if !pause(ctx, checkEvery) {
			return
		}
	}
}

func (h *health) become(ctx context.Context, d diagnosis, err error, electors []*leader.Elector) {
	is := leader.Eligible
	switch d.standing {
	case well:
		h.log.Info("The health check succeeds: contending")
	case unwell:
		is = leader.Ineligible
		h.log.Warn("The health check fails: not contending", "failures", d.failed, "error", err)
	case tolerated:
		h.log.Warn("The health check fails and nobody leads: contending all the same", "grace", h.grace.String(), "error", err)
	}
	for _, e := range electors {
		// It fails only when the context has ended.
		_ = e.Gate(ctx, healthGate, is)
	}
}
