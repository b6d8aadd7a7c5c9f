package elector

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/quorate/quorate/leader"
)

// metrics of all elections of this process.
type metrics struct {
	registry      *prometheus.Registry
	requests      *prometheus.CounterVec
	renewals      *prometheus.HistogramVec
	failures      *prometheus.CounterVec
	watchRestarts *prometheus.CounterVec
	transitions   *prometheus.CounterVec
	handovers     *prometheus.HistogramVec
}

// newMetrics returns metrics of this version of the program.
func newMetrics(version string) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "leader_elector_" + name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "leader_elector_" + name, Help: help, Buckets: buckets}, []string{"election"})
	}
	m := &metrics{
		registry:      prometheus.NewRegistry(),
		requests:      counter("api_requests_total", "Requests to the API server, by verb and answer; code 0 is none.", "election", "verb", "code"),
		renewals:      histogram("renew_duration_seconds", "How long the API server took to write the Lease.", prometheus.ExponentialBuckets(0.002, 2, 12)),
		failures:      counter("renew_failures_total", "Writes of the Lease that failed, by reason.", "election", "reason"),
		watchRestarts: counter("watch_restarts_total", "Watches that were opened after the first one.", "election"),
		transitions:   counter("transitions_total", "Changes of the leader that this candidate saw.", "election"),
		handovers:     histogram("handover_seconds", "How long nobody was known to lead.", prometheus.ExponentialBuckets(0.01, 2, 13)),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "leader_elector_build_info", Help: "The version of this program.", ConstLabels: prometheus.Labels{"version": version}})
	build.Set(1)
	m.registry.MustRegister(m.requests, m.renewals, m.failures, m.watchRestarts, m.transitions, m.handovers, build)
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 3, Timeout: 10 * time.Second})
}

// claims tells what is true when it is asked, as every other answer does.
type claims struct {
	electors                    []*leader.Elector
	master, isLeader, remaining *prometheus.Desc
}

func (m *metrics) follow(electors []*leader.Elector) {
	gauge := func(name, help, label string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, []string{label}, nil)
	}
	m.registry.MustRegister(&claims{
		electors:  electors,
		master:    gauge("leader_election_master_status", "Whether this candidate leads: client-go's name for it.", "name"),
		isLeader:  gauge("leader_elector_is_leader", "Whether this candidate leads.", "election"),
		remaining: gauge("leader_elector_lease_remaining_seconds", "For how long what is known of the leader holds.", "election"),
	})
}

// Describe implements prometheus.Collector.
func (c *claims) Describe(to chan<- *prometheus.Desc) {
	to <- c.master
	to <- c.isLeader
	to <- c.remaining
}

// Collect implements prometheus.Collector.
func (c *claims) Collect(to chan<- prometheus.Metric) {
	for _, e := range c.electors {
		s := e.State()
		leads := 0.0
		if s.IsLeader() {
			leads = 1
		}
		to <- prometheus.MustNewConstMetric(c.master, prometheus.GaugeValue, leads, s.Election)
		to <- prometheus.MustNewConstMetric(c.isLeader, prometheus.GaugeValue, leads, s.Election)
		to <- prometheus.MustNewConstMetric(c.remaining, prometheus.GaugeValue, s.Remaining().Seconds(), s.Election)
	}
}

// metered counts the requests of one election.
type metered struct {
	leader.Leases
	*metrics
	election string
	watches  int
}

func (m *metered) count(verb string, err error) {
	code := "200"
	var status apierrors.APIStatus
	switch {
	case err == nil && verb == "create":
		code = "201"
	case errors.As(err, &status):
		code = strconv.Itoa(int(status.Status().Code))
	case err != nil:
		code = "0"
	}
	m.requests.WithLabelValues(m.election, verb, code).Inc()
}

// Get implements leader.Leases.
func (m *metered) Get(ctx context.Context, namespace, name string) (*coordinationv1.Lease, error) {
	l, err := m.Leases.Get(ctx, namespace, name)
	m.count("get", err)
	return l, err
}

// Create implements leader.Leases.
func (m *metered) Create(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	l, err := m.Leases.Create(ctx, lease)
	m.count("create", err)
	return l, err
}

// Update implements leader.Leases.
func (m *metered) Update(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	began := time.Now()
	l, err := m.Leases.Update(ctx, lease)
	m.count("update", err)
	m.renewals.WithLabelValues(m.election).Observe(time.Since(began).Seconds())
	if err != nil {
		m.failures.WithLabelValues(m.election, reason(ctx, err)).Inc()
	}
	return l, err
}

// Watch implements leader.Leases. Only the elector's loop calls it, one at a time.
func (m *metered) Watch(ctx context.Context, namespace, name string) (<-chan leader.Event, error) {
	events, err := m.Leases.Watch(ctx, namespace, name)
	m.count("watch", err)
	if m.watches++; m.watches > 1 {
		m.watchRestarts.WithLabelValues(m.election).Inc()
	}
	return events, err
}

// reason of a failure, one of a few.
func reason(ctx context.Context, err error) string {
	switch {
	case ctx.Err() != nil:
		return "timeout"
	case apierrors.IsConflict(err):
		return "conflict"
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return "forbidden"
	case apierrors.IsNotFound(err):
		return "notfound"
	case apierrors.IsTooManyRequests(err):
		return "throttled"
	case apierrors.ReasonForError(err) != "":
		return "server"
	default:
		return "network"
	}
}

// tell counts changes of the leader and says them in the log, until the context ends.
func (m *metrics) tell(ctx context.Context, e *leader.Elector, say func(leader.State)) {
	var nobody time.Time
	known, last := "", ""
	for s := range e.Changes(ctx) {
		if s.Version == 0 || s.Leader == known {
			continue
		}
		known = s.Leader
		say(s)
		if known == "" {
			nobody = time.Now()
			continue
		}
		if !nobody.IsZero() {
			m.handovers.WithLabelValues(s.Election).Observe(time.Since(nobody).Seconds())
			nobody = time.Time{}
		}
		if last != "" && last != known {
			m.transitions.WithLabelValues(s.Election).Inc()
		}
		last = known
	}
}
