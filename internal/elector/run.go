package elector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/quorate/quorate/leader"
)

// Run contends and answers until the context ends, or the command of exec does. It
// returns the exit code: the command's, or zero. The error says why nothing could be
// started, or that the Lease could not be released.
func Run(ctx context.Context, o *Options, version string, log *slog.Logger) (int, error) {
	config, err := o.cluster()
	if err != nil {
		return 1, fmt.Errorf("there is no way to the API server: %w — the Lease is read and written there — run in a pod with a service account, or set --kubeconfig", err)
	}
	config.UserAgent = "leader-elector/" + version
	leases, err := leader.ForConfig(config)
	if err != nil {
		return 1, fmt.Errorf("there is no way to the API server: %w — the Lease is read and written there — correct the configuration", err)
	}
	if o.LegacyLock {
		endpoints, err := newLegacyClient(config)
		if err != nil {
			return 1, err
		}
		leases = withLegacyLock(leases, endpoints)
	}
	duties, err := o.duties(config, log)
	if err != nil {
		return 1, err
	}
	return o.run(ctx, leases, duties, version, log)
}

// cluster that the options name.
func (o *Options) cluster() (*rest.Config, error) {
	if o.UseClusterCredentials {
		return rest.InClusterConfig()
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.Kubeconfig
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
}

func (o *Options) run(ctx context.Context, leases leader.Leases, duties []duty, version string, log *slog.Logger) (int, error) {
	m := newMetrics(version)
	electors, err := o.electors(leases, m, log)
	if err != nil {
		return 2, err
	}
	m.follow(electors)
	listeners, err := o.listeners(ctx, electors, m)
	if err != nil {
		return 1, err
	}
	// Whoever asks while the leadership is given up is still answered.
	defer serve(listeners, log)(context.WithoutCancel(ctx))
	o.greet(electors[0].Config(), version, log)

	code, err := o.work(ctx, electors, duties, m, log)
	if err != nil && code == 0 {
		code = 1
	}
	return code, err
}

// work contends, and does all that goes with it, until the context ends or the command
// does.
func (o *Options) work(ctx context.Context, electors []*leader.Elector, duties []duty, m *metrics, log *slog.Logger) (code int, err error) {
	told := ctx
	if len(o.Command) > 0 {
		// The command is told first, and may work on for a while.
		ctx = context.WithoutCancel(ctx)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var beside sync.WaitGroup
	for _, e := range electors {
		beside.Go(func() {
			m.tell(ctx, e, func(s leader.State) {
				log.Info(whoLeads(s), "election", s.Election, "isLeader", s.IsLeader(), "transitions", s.Transitions)
			})
		})
	}
	if h := o.health(log); h != nil {
		beside.Go(func() { h.watch(ctx, electors) })
	}
	if len(duties) > 0 {
		beside.Go(func() { perform(ctx, electors[0], duties, log) })
	}
	if len(o.Command) > 0 {
		beside.Go(func() {
			code = supervise(told, stop, electors[0], o, log)
			stop()
		})
	}
	err = contend(ctx, electors)
	stop()
	beside.Wait()
	return code, err
}

// whoLeads in the words of leader-elector 0.5.
func whoLeads(s leader.State) string {
	if s.Leader == "" {
		return "Nobody is known to lead"
	}
	return s.Leader + " is the leader"
}

func (o *Options) electors(leases leader.Leases, m *metrics, log *slog.Logger) ([]*leader.Elector, error) {
	var out []*leader.Elector
	for _, name := range o.Elections {
		e, err := leader.New(o.config(name, &metered{Leases: leases, metrics: m, election: name}, log))
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

// contend until the context ends, in every election.
func contend(ctx context.Context, electors []*leader.Elector) error {
	ends := make([]error, len(electors))
	var all sync.WaitGroup
	for i, e := range electors {
		all.Go(func() { ends[i] = e.Run(ctx) })
	}
	all.Wait()
	return errors.Join(ends...)
}

// listeners come before anything is contended for: a leader that nobody can ask is of
// no use.
func (o *Options) listeners(ctx context.Context, electors []*leader.Elector, m *metrics) (map[net.Listener]http.Handler, error) {
	out := map[net.Listener]http.Handler{}
	handler, metrics := leader.Handlers(electors...), m.handler()
	if o.Metrics == "" || o.Metrics == o.HTTP {
		handler = withMetrics(handler, metrics)
	}
	for _, l := range []struct {
		flag, address string
		handler       http.Handler
	}{{"--http", o.HTTP, handler}, {"--metrics", o.Metrics, withMetrics(http.NotFoundHandler(), metrics)}} {
		if l.address == "" || (l.flag == "--metrics" && o.Metrics == o.HTTP) {
			continue
		}
		listener, err := listen(ctx, l.flag, l.address)
		if err != nil {
			for open := range out {
				_ = open.Close()
			}
			return nil, err
		}
		out[listener] = l.handler
	}
	return out, nil
}

// greet says what was understood, and what to expect of it.
func (o *Options) greet(c leader.Config, version string, log *slog.Logger) {
	log.Info("Starting", "version", version, "elections", o.Elections, "namespace", o.Namespace, "id", o.Identity, "http", o.HTTP,
		"crashFailover", c.LeaseDuration.String(), "outageTolerance", c.RenewDeadline.String(), "renewInterval", c.RenewInterval.String())
	if !o.namespaceGiven && o.Pod.Namespace != "" && o.Pod.Namespace != o.Namespace {
		log.Warn("The Lease is not in this pod's namespace, because --election-namespace is not set", "namespace", o.Namespace, "pod", o.Pod.Namespace)
	}
}
