// Command operator runs the etcd operator.
package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	_ "time/tzdata" // maintenance windows; the image holds nothing but the operator

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // every way to log in to a cluster
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/controllers"
	"github.com/quorate/quorate/internal/apitime"
	"github.com/quorate/quorate/internal/etcd/v3client"
	"github.com/quorate/quorate/internal/observe"
	"github.com/quorate/quorate/internal/perform"
	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/internal/version"
)

// options are the command line.
type options struct {
	metricsAddress string
	metricsSecure  bool
	healthAddress  string
	leaderElect    bool
	namespaces     string
	memberImage    string
	backupImage    string
	qps            float64
	burst          int
	printVersion   bool
	zap            zap.Options
}

func main() {
	o, err := parse(os.Args[1:], os.Stdout)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if o.printVersion {
		fmt.Println(version.Version)
		return
	}
	ctrl.SetLogger(zap.New(zap.UseFlagOptions(&o.zap)))
	if err := run(o); err != nil {
		ctrl.Log.Error(err, "Operator ended")
		os.Exit(1)
	}
}

// parse reads the command line. Asked for help it prints the flags and returns
// flag.ErrHelp.
func parse(args []string, help io.Writer) (*options, error) {
	o := &options{}
	fs := flag.NewFlagSet("operator", flag.ContinueOnError)
	// What is wrong is one line; all flags below it would hide it.
	fs.SetOutput(io.Discard)
	fs.StringVar(&o.metricsAddress, "metrics-bind-address", ":8443", "address that metrics are served on; 0 serves none")
	fs.BoolVar(&o.metricsSecure, "metrics-secure", true, "serve metrics over HTTPS to those whom the API server authenticates and authorizes")
	fs.StringVar(&o.healthAddress, "health-probe-bind-address", ":8081", "address of /healthz and /readyz")
	fs.BoolVar(&o.leaderElect, "leader-elect", false, "work only while holding a Lease, so that several replicas may run")
	fs.StringVar(&o.namespaces, "watch-namespaces", os.Getenv("WATCH_NAMESPACES"), "comma-separated namespaces to work in; all of them if empty")
	fs.StringVar(&o.memberImage, "member-image", os.Getenv("MEMBER_IMAGE"), "image that holds the guard of the members' pods (also: env MEMBER_IMAGE)")
	fs.StringVar(&o.backupImage, "backup-image", os.Getenv("BACKUP_IMAGE"), "image that holds the program which saves, verifies and restores backups (also: env BACKUP_IMAGE)")
	fs.Float64Var(&o.qps, "kube-api-qps", 300, "requests per second to the API server, on average")
	fs.IntVar(&o.burst, "kube-api-burst", 600, "requests to the API server that may come at once")
	fs.BoolVar(&o.printVersion, "version", false, "print the version and exit")
	o.zap.BindFlags(fs)
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fs.SetOutput(help)
			fs.PrintDefaults()
		}
		return nil, fmt.Errorf("parsing the command line: %w — see --help", err)
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q — the operator takes flags only — see --help", fs.Arg(0))
	}
	if o.memberImage == "" && !o.printVersion {
		return nil, errors.New("--member-image is empty — the members' pods take their guard from it — set it, or env MEMBER_IMAGE, to the member image of this release")
	}
	for _, n := range o.namespaceList() {
		if wrong := validation.IsDNS1123Label(n); len(wrong) > 0 {
			return nil, fmt.Errorf("--watch-namespaces names %q, which no namespace can be called: %s — the operator would wait for it for ever — correct it", n, strings.Join(wrong, "; "))
		}
	}
	return o, nil
}

func run(o *options) error {
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))

	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("finding the cluster: %w", err)
	}
	config.QPS, config.Burst = float32(o.qps), o.burst
	config.UserAgent = "quorate-operator/" + version.Version
	server := &apitime.Clock{}
	config.Wrap(server.Wrap)
	mgr, err := ctrl.NewManager(config, o.manager(scheme))
	if err != nil {
		return fmt.Errorf("making the manager: %w", err)
	}
	if err := setUp(mgr, o, server.Now); err != nil {
		return err
	}
	ctrl.Log.Info("Starting", "version", version.Version, "namespaces", o.namespaces, "memberImage", o.memberImage, "backupImage", o.backupImage)
	if err := mgr.Start(ctrl.SetupSignalHandler()); err != nil {
		return fmt.Errorf("running: %w", err)
	}
	return nil
}

// leaseName is the name of the Lease that one replica holds.
const leaseName = "quorate-operator"

// installation is what tells this installation of the operator from others, with
// leader election or without.
func installation() string {
	const inPod = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
	namespace := os.Getenv("POD_NAMESPACE")
	if own, err := os.ReadFile(inPod); namespace == "" && err == nil {
		namespace = strings.TrimSpace(string(own))
	}
	return cmp.Or(namespace, "default") + "/" + leaseName
}

// manager's options. The lease is given up on the way down, so that the other
// replica takes over at once; that is safe because nothing is done after the
// manager has stopped.
func (o *options) manager(scheme *runtime.Scheme) ctrl.Options {
	metrics := metricsserver.Options{BindAddress: o.metricsAddress, SecureServing: o.metricsSecure}
	if o.metricsSecure {
		metrics.FilterProvider = filters.WithAuthenticationAndAuthorization
		metrics.TLSOpts = []func(*tls.Config){func(c *tls.Config) { c.MinVersion = tls.VersionTLS12 }}
	}
	graceful := 10 * time.Second
	return ctrl.Options{
		Scheme:                 scheme,
		Metrics:                metrics,
		HealthProbeBindAddress: o.healthAddress,
		LeaderElection:         o.leaderElect,
		LeaderElectionID:       leaseName,
		// Outside of a cluster nothing else says where the lease lies.
		LeaderElectionNamespace:       os.Getenv("POD_NAMESPACE"),
		LeaderElectionReleaseOnCancel: true,
		GracefulShutdownTimeout:       &graceful,
		Cache:                         o.cache(),
		Client:                        client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}}}},
	}
}

// cache watches pods and claims of clusters only, so that the operator's memory
// does not grow with what else runs, and keeps nobody's record of who set which
// field, which is half of an object and which nothing here reads.
func (o *options) cache() cache.Options {
	opts := cache.Options{ByObject: controllers.Watched(), DefaultTransform: cache.TransformStripManagedFields()}
	if list := o.namespaceList(); len(list) > 0 {
		opts.DefaultNamespaces = map[string]cache.Config{}
		for _, n := range list {
			opts.DefaultNamespaces[n] = cache.Config{}
		}
	}
	return opts
}

func (o *options) namespaceList() []string {
	var list []string
	for n := range strings.SplitSeq(o.namespaces, ",") {
		if n = strings.TrimSpace(n); n != "" {
			list = append(list, n)
		}
	}
	return list
}

func setUp(mgr ctrl.Manager, o *options, server apitime.Source) error {
	operator := resources.OperatorPeer{
		Namespace: os.Getenv("POD_NAMESPACE"),
		Labels:    map[string]string{"app.kubernetes.io/name": "quorate-operator"},
	}
	if err := controllers.IndexBackups(context.Background(), mgr); err != nil {
		return err
	}
	pool := v3client.NewPool()
	observer := &observe.Observer{
		Cached: mgr.GetClient(), Live: mgr.GetAPIReader(), Backups: mgr.GetClient(), Restores: mgr.GetClient(),
		Dialer: pool, Greeter: pool, Meter: pool, Clock: clock.RealClock{}, ServerTime: server, Operator: operator,
		Progress: controllers.AskProgress,
	}
	performer := &perform.Performer{
		Writer: mgr.GetClient(), Live: mgr.GetAPIReader(), Clock: clock.RealClock{}, ServerTime: server,
		GuardImage: o.memberImage, BackupImage: o.backupImage, Operator: operator, Etcd: observer, Chores: &perform.Chores{Clock: clock.RealClock{}},
	}
	if err := ctrlmetrics.Registry.Register(performer.Chores); err != nil {
		return fmt.Errorf("registering the operator's metrics: %w", err)
	}
	nodes := controllers.NodesHidden
	if len(o.namespaceList()) == 0 {
		observer.Cluster, performer.Nodes, nodes = mgr.GetClient(), mgr.GetAPIReader(), controllers.NodesReadable
	}
	reconciler := &controllers.EtcdClusterReconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Observer: observer, Performer: performer,
		Recorder: mgr.GetEventRecorder("quorate"), Installation: installation(),
	}
	if err := reconciler.SetupWithManager(mgr, nodes); err != nil {
		return err
	}
	if err := setUpBackups(mgr, o, server, observer); err != nil {
		return err
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("adding the health check: %w", err)
	}
	if err := mgr.AddReadyzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("adding the readiness check: %w", err)
	}
	return nil
}

// setUpBackups registers the controllers of backups, schedules, restores and archives.
func setUpBackups(mgr ctrl.Manager, o *options, server apitime.Source, observer *observe.Observer) error {
	backups := &controllers.EtcdBackupReconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Recorder: mgr.GetEventRecorder("quorate"),
		Clock: clock.RealClock{}, ServerTime: server, BackupImage: o.backupImage, Progress: controllers.AskProgress,
	}
	if err := backups.SetupWithManager(mgr); err != nil {
		return err
	}
	schedules := &controllers.EtcdBackupScheduleReconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Recorder: mgr.GetEventRecorder("quorate"),
		Clock: clock.RealClock{}, ServerTime: server,
	}
	if err := schedules.SetupWithManager(mgr); err != nil {
		return err
	}
	restores := &controllers.EtcdRestoreReconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Recorder: mgr.GetEventRecorder("quorate"),
		Clock: clock.RealClock{}, ServerTime: server, Source: observer.Source, BackupImage: o.backupImage, Progress: controllers.AskProgress,
	}
	if err := restores.SetupWithManager(mgr); err != nil {
		return err
	}
	archives := &controllers.EtcdArchiveReconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Recorder: mgr.GetEventRecorder("quorate"),
		Clock: clock.RealClock{}, ServerTime: server, BackupImage: o.backupImage, Progress: controllers.AskProgress,
		Lags: &controllers.ArchiveLags{Clock: clock.RealClock{}},
	}
	if err := ctrlmetrics.Registry.Register(archives.Lags); err != nil {
		return fmt.Errorf("registering the metrics of archives: %w", err)
	}
	return archives.SetupWithManager(mgr)
}
