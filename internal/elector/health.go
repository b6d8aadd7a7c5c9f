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

// health decides from the application's own word whether this pod may lead.
type health struct {
	check    func(context.Context) error
	failures int
	log      *slog.Logger
}

func (o *Options) health(log *slog.Logger) *health {
	switch {
	case o.HealthURL != "":
		client := &http.Client{Timeout: checkEvery}
		return &health{func(ctx context.Context) error { return answersWell(ctx, client, o.HealthURL) }, o.HealthFailures, log}
	case o.HealthFile != "":
		return &health{func(context.Context) error {
			if _, err := os.Stat(o.HealthFile); err != nil {
				return fmt.Errorf("looking for the health file: %w", err)
			}
			return nil
		}, o.HealthFailures, log}
	}
	return nil
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

// watch has the electors contend only while the checks succeed. One success makes a
// pod well, and so many failures in a row make it unwell; until the first success it
// is not well.
func (h *health) watch(ctx context.Context, electors []*leader.Elector) {
	become := func(is leader.Eligibility) {
		for _, e := range electors {
			// It fails only when the context has ended.
			_ = e.Become(ctx, is)
		}
	}
	well, failed := h.check(ctx) == nil, 0
	if !well {
		become(leader.Ineligible)
		h.log.Info("Not contending before the health check succeeds")
	}
	for pause(ctx, checkEvery) {
		err := h.check(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			failed = 0
			if !well {
				well = true
				become(leader.Eligible)
				h.log.Info("The health check succeeds: contending")
			}
			continue
		}
		if failed++; well && failed >= h.failures {
			well = false
			become(leader.Ineligible)
			h.log.Warn("The health check failed too often: giving up the leadership", "failures", failed, "error", err)
		}
	}
}
