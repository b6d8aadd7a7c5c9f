package elector

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/quorate/quorate/leader"
)

// Options are the command line of the sidecar.
type Options struct {
	Elections             []string
	Identity              string
	Namespace             string
	TTL                   time.Duration
	UseClusterCredentials bool
	HTTP                  string

	Kubeconfig       string
	RenewDeadline    time.Duration
	RenewInterval    time.Duration
	Drain            time.Duration
	LogFormat        string
	PrintVersion     bool
	Pod              Pod
	Label            Label
	LabelOthers      bool
	RoleFile         string
	OnStart, OnStop  string
	Webhook          string
	HealthURL        string
	HealthFile       string
	HealthFailures   int
	HealthGrace      time.Duration
	LegacyLock       bool
	ReadOnly         bool
	Metrics          string
	AllowRemoteAdmin bool

	// Command that runs while this pod leads, for exec.
	Command []string
	// namespaceGiven says that the namespace was not left to its default.
	namespaceGiven bool
}

// Pod that this process runs in, as far as it is known.
type Pod struct{ Name, Namespace, UID string }

// EnvironmentPrefix of the variables that stand for flags: --renew-deadline is
// LEADER_ELECTOR_RENEW_DEADLINE.
const EnvironmentPrefix = "LEADER_ELECTOR_"

// names is a flag that may be given several times, or hold several by commas.
type names struct{ to *[]string }

func (n names) String() string {
	if n.to == nil {
		return ""
	}
	return strings.Join(*n.to, ",")
}

func (n names) Set(value string) error {
	*n.to = append(*n.to, strings.Split(value, ",")...)
	return nil
}

// usage is what comes before the flags when help is asked for.
const usage = `Contends for a Lease beside an application, and says who leads.

  leader-elector --election=NAME [flags]              contend, and answer on --http
  leader-elector exec --election=NAME [flags] -- CMD  run CMD while this pod leads
  leader-elector wait [flags]                         wait until this pod leads, or anybody does
  leader-elector status [flags]                       all that is known, as JSON
  leader-elector watch [flags]                        the same, a line for every change
  leader-elector resign [flags]                       have this pod give up the leadership
  leader-elector version                              print the version

wait, status, watch and resign ask one that runs, and have flags of their own: see
leader-elector wait --help. A flag may be given as an environment variable instead:
--renew-deadline is LEADER_ELECTOR_RENEW_DEADLINE.

Flags:
`

func (o *Options) flags() *flag.FlagSet {
	fs := flag.NewFlagSet("leader-elector", flag.ContinueOnError)
	fs.Usage = func() { fmt.Fprint(fs.Output(), usage) }
	// What is wrong is one line; all flags below it would hide it.
	fs.SetOutput(io.Discard)
	fs.Var(names{&o.Elections}, "election", "`name` of the election, which is the Lease's; may be given several times, and the first one answers at /")
	fs.StringVar(&o.Identity, "id", "", "name of this candidate; the pod's (env POD_NAME), or the host's, if empty")
	fs.StringVar(&o.Namespace, "election-namespace", "default", "namespace of the Lease")
	fs.DurationVar(&o.TTL, "ttl", 10*time.Second, "how long others wait after the last renewal before they take over: whole seconds")
	fs.BoolVar(&o.UseClusterCredentials, "use-cluster-credentials", false, "use the pod's service account only, and no kubeconfig")
	fs.StringVar(&o.HTTP, "http", "", "address to answer on: host:port, or unix:/path; none if empty")

	fs.StringVar(&o.Kubeconfig, "kubeconfig", "", "kubeconfig `file`; $KUBECONFIG, ~/.kube/config or the pod's service account if empty")
	fs.DurationVar(&o.RenewDeadline, "renew-deadline", 0, "how long after the last renewal the leader still claims to be one; 3/4 of --ttl if zero")
	fs.DurationVar(&o.RenewInterval, "renew-interval", 0, "time between renewals; 1/3 of --ttl if zero")
	fs.DurationVar(&o.Drain, "drain", 0, "how long the Lease is kept at the end after this candidate has stopped claiming it")
	fs.StringVar(&o.LogFormat, "log-format", "text", "text or json")
	fs.BoolVar(&o.PrintVersion, "version", false, "print the version and exit")
	fs.StringVar(&o.Pod.Name, "pod-name", "", "this pod's name, for --label; env POD_NAME, or --id, if empty")
	fs.StringVar(&o.Pod.Namespace, "pod-namespace", "", "this pod's namespace; env POD_NAMESPACE if empty")
	fs.StringVar(&o.Pod.UID, "pod-uid", "", "this pod's UID, so that a container that is started anew leads on at once; env POD_UID if empty")
	fs.Var(&o.Label, "label", "`KEY[=LEADER[,STANDBY]]` label of this pod while it leads (leader, if no value is given), and while it does not (none)")
	fs.BoolVar(&o.LabelOthers, "label-others", false, "while this pod leads, take the leader's label off all other pods of its namespace")
	fs.StringVar(&o.RoleFile, "role-file", "", "`file` that holds leader or follower")
	fs.StringVar(&o.OnStart, "on-start", "", "`command` to run when this pod has become the leader; it gets no shell")
	fs.StringVar(&o.OnStop, "on-stop", "", "`command` to run when it is the leader no more, before another one can be")
	fs.StringVar(&o.Webhook, "webhook", "", "`URL` to POST changes of this pod's role to")
	fs.StringVar(&o.HealthURL, "health-url", "", "`URL` that answers 2xx while this pod may lead")
	fs.StringVar(&o.HealthFile, "health-file", "", "`file` that exists while this pod may lead")
	fs.IntVar(&o.HealthFailures, "health-failures", 3, "how often in a row the health check must fail before this pod gives up the leadership")
	fs.DurationVar(&o.HealthGrace, "health-grace", 0, "how long nobody must have led before an unhealthy pod contends all the same; never if zero")
	fs.BoolVar(&o.LegacyLock, "legacy-endpoints-lock", false, "also hold the Endpoints lock of leader-elector 0.5, for a rolling update from it")
	fs.BoolVar(&o.ReadOnly, "read-only", false, "watch, and never contend")
	fs.StringVar(&o.Metrics, "metrics", "", "address of /metrics; that of --http if empty")
	fs.BoolVar(&o.AllowRemoteAdmin, "allow-remote-admin", false, "let anyone who reaches --http have this candidate resign")
	return fs
}

// Parse reads the arguments, then the environment for what they leave out. The error
// says everything that is wrong, a line each. Asked for help it prints the flags and
// returns flag.ErrHelp.
func Parse(args []string, env func(string) string, help io.Writer) (*Options, error) {
	o := &Options{}
	fs := o.flags()
	if err := parse(fs, args, env, help); err != nil {
		return nil, err
	}
	if o.PrintVersion {
		return o, nil
	}
	o.Command = fs.Args()
	fs.Visit(func(f *flag.Flag) { o.namespaceGiven = o.namespaceGiven || f.Name == "election-namespace" })
	if err := o.complete(env); err != nil {
		return nil, err
	}
	return o, o.check()
}

// parse applies the arguments, and the environment to what they do not set.
func parse(fs *flag.FlagSet, args []string, env func(string) string, help io.Writer) error {
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fs.SetOutput(help)
			fs.Usage()
			fs.PrintDefaults()
			return err
		}
		return fmt.Errorf("the command line is wrong: %w — nothing is started that was not understood — see --help", err)
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	var wrong []error
	fs.VisitAll(func(f *flag.Flag) {
		name := EnvironmentPrefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value := env(name)
		if given[f.Name] || value == "" {
			return
		}
		if err := fs.Set(f.Name, value); err != nil {
			wrong = append(wrong, fmt.Errorf("%s is %q: %w — it stands for --%s — correct or unset it", name, value, err, f.Name))
		}
	})
	return errors.Join(wrong...)
}

// complete fills in what the environment knows of this pod.
func (o *Options) complete(env func(string) string) error {
	if o.Identity == "" {
		name, err := leader.DefaultIdentity()
		if err != nil {
			return fmt.Errorf("--id is empty and there is no name to use instead: %w — the others are told it — set --id", err)
		}
		o.Identity = name
	}
	for _, f := range []struct {
		to   *string
		from string
	}{{&o.Pod.Name, env("POD_NAME")}, {&o.Pod.Namespace, env("POD_NAMESPACE")}, {&o.Pod.UID, env("POD_UID")}, {&o.Pod.Name, o.Identity}, {&o.Pod.Namespace, namespaceOfPod()}} {
		if *f.to == "" {
			*f.to = f.from
		}
	}
	return nil
}

// check says what is wrong, before anything is started.
func (o *Options) check() error {
	wrong := o.checkElections()
	if o.LogFormat != "text" && o.LogFormat != "json" {
		wrong = append(wrong, fmt.Errorf("--log-format is %q — logs are written as text or json — use one of them", o.LogFormat))
	}
	wrong = append(wrong, o.checkHealth()...)
	wrong = append(wrong, o.checkLabel()...)
	wrong = append(wrong, o.checkAddresses()...)
	return errors.Join(wrong...)
}

func (o *Options) checkElections() (wrong []error) {
	if len(o.Elections) == 0 {
		wrong = append(wrong, errors.New("--election is not set — it names the Lease — set it"))
	}
	if o.TTL == 0 {
		// Zero would be the package's default.
		wrong = append(wrong, errors.New("--ttl is 0s — a lease that has run out when it is written is nobody's — use 2s or more"))
	}
	seen := map[string]bool{}
	for _, e := range o.Elections {
		if _, err := leader.New(o.config(e, unconnected{}, slog.Default())); err != nil {
			return append(wrong, err)
		}
		if seen[e] {
			wrong = append(wrong, fmt.Errorf("--election names %q twice — one process would contend against itself — name it once", e))
		}
		seen[e] = true
	}
	return wrong
}

func (o *Options) checkHealth() (wrong []error) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if o.HealthFailures < 1 {
		say("--health-failures is %d — without a failure nobody is unhealthy — use 1 or more", o.HealthFailures)
	}
	if o.HealthURL != "" && o.HealthFile != "" {
		say("--health-url and --health-file are both set — one of them decides — leave one out")
	}
	if o.HealthGrace < 0 {
		say("--health-grace is %s — it is a time to wait for — use zero or more", o.HealthGrace)
	}
	if o.HealthGrace > 0 && o.HealthURL == "" && o.HealthFile == "" {
		say("--health-grace is set and neither --health-url nor --health-file is — without them nobody is unhealthy — set one, or leave it out")
	}
	return wrong
}

func (o *Options) checkLabel() (wrong []error) {
	if o.LabelOthers && o.Label.Key == "" {
		wrong = append(wrong, errors.New("--label-others is set and --label is not — it says which label is taken off — set it"))
	}
	if o.Label.Key != "" && o.Pod.Namespace == "" {
		wrong = append(wrong, errors.New("--label is set and --pod-namespace is not — the pod is patched there — set it, or env POD_NAMESPACE from metadata.namespace"))
	}
	return wrong
}

// checkAddresses of what is asked, listened on and run.
func (o *Options) checkAddresses() (wrong []error) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	for name, value := range map[string]string{"webhook": o.Webhook, "health-url": o.HealthURL} {
		if u, err := url.Parse(value); value != "" && (err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https")) {
			say("--%s is %q — it is asked over HTTP — use http://host/path", name, value)
		}
	}
	for name, value := range map[string]string{"http": o.HTTP, "metrics": o.Metrics} {
		if value == "" || strings.HasPrefix(value, "unix:/") {
			continue
		}
		if _, _, err := net.SplitHostPort(value); err != nil || strings.HasPrefix(value, "unix:") {
			say("--%s is %q — nothing can listen there — use host:port or unix:/path", name, value)
		}
	}
	for _, command := range []string{o.OnStart, o.OnStop, strings.Join(o.Command, " ")} {
		if argv := strings.Fields(command); len(argv) > 0 {
			if _, err := exec.LookPath(argv[0]); err != nil {
				say("the command %q cannot be run: %w — this pod would lead and do nothing — correct it", argv[0], err)
			}
		}
	}
	return wrong
}

// config of the elector of one election.
func (o *Options) config(election string, leases leader.Leases, log *slog.Logger) leader.Config {
	c := leader.Config{
		Election: election, Namespace: o.Namespace, Identity: o.Identity, PodUID: o.Pod.UID,
		LeaseDuration: o.TTL, RenewDeadline: o.RenewDeadline, RenewInterval: o.RenewInterval, Drain: o.Drain,
		Leases: leases, Logger: log,
	}
	if len(o.Command) > 0 {
		// The command has had its time before the claim ends.
		c.Drain = 0
	}
	if o.HealthURL != "" || o.HealthFile != "" {
		// The first check decides.
		c.Gates = []string{healthGate}
	}
	if o.ReadOnly {
		c.Role = leader.Observer
	}
	if o.AllowRemoteAdmin {
		c.Control = leader.Anyone
	}
	return c
}

// unconnected Leases are for checking a configuration.
type unconnected struct{ leader.Leases }

// Logger as the options ask for it.
func (o *Options) Logger(to io.Writer) *slog.Logger {
	if o.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(to, nil))
	}
	return slog.New(slog.NewTextHandler(to, nil))
}

// Label of a pod that says whether it leads.
type Label struct {
	Key             string
	Leader, Standby string
}

// String implements flag.Value.
func (l *Label) String() string {
	if l.Key == "" {
		return ""
	}
	return l.Key + "=" + l.Leader + "," + l.Standby
}

// Set implements flag.Value.
func (l *Label) Set(value string) error {
	key, values, given := strings.Cut(value, "=")
	l.Key, l.Leader, l.Standby = key, "leader", ""
	if given {
		l.Leader, l.Standby, _ = strings.Cut(values, ",")
	}
	var why []string
	why = append(why, validation.IsQualifiedName(l.Key)...)
	why = append(why, validation.IsValidLabelValue(l.Leader)...)
	why = append(why, validation.IsValidLabelValue(l.Standby)...)
	if l.Leader == l.Standby {
		why = append(why, "the leader's value and the standby's are the same")
	}
	if len(why) > 0 {
		return errors.New(strings.Join(why, "; "))
	}
	return nil
}

var _ flag.Value = (*Label)(nil)

// podNamespace is where a pod finds the namespace of its service account.
const podNamespace = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// namespaceOfPod is what the service account says, for when the environment does not.
func namespaceOfPod() string {
	text, err := os.ReadFile(podNamespace)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
