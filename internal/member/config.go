package member

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Config is the command line of "member run".
type Config struct {
	// Volume is the mount point of the member's volume. The guard keeps its marker
	// and its lock there.
	Volume string
	// DataDir is etcd's --data-dir, a directory directly below Volume.
	DataDir string
	// BootDir keeps the mark that etcd has booted in this pod. It survives a
	// restart of the container and ends with the pod.
	BootDir string
	// Annotations is the downward-API file of the Pod's annotations.
	Annotations string
	Identity    Identity
	// HealthListen is the address of the plain HTTP listener for the kubelet.
	HealthListen string
	// EtcdHealth is the base URL of etcd's own plain HTTP listener on loopback.
	EtcdHealth string
	// EtcdClients is the base URL of etcd's listener for clients, on loopback: the member
	// is not ready before it answers. Empty: it is not asked.
	EtcdClients string
	// ClientsCert and ClientsKey are the files of the pair to show to that listener if it
	// speaks TLS.
	ClientsCert, ClientsKey string
	// TerminationLog is the file for the one-line message of a refusal.
	TerminationLog string
	// PeerHost is the member's own DNS name, waited for before a first boot.
	// Empty: nothing is waited for.
	PeerHost string
	// Etcd is the binary, by its path, and its flags, without those that the
	// guard adds: --data-dir, --initial-cluster and --initial-cluster-state.
	Etcd []string
}

// guardedFlags are those that the guard sets, and those that would lead etcd to a
// write-ahead log or to settings that the guard does not see: with --config-file
// etcd ignores every other flag.
var guardedFlags = []string{"data-dir", "wal-dir", "initial-cluster", "initial-cluster-state", "config-file"}

// ParseConfig parses the arguments that follow "member run". It returns
// flag.ErrHelp after writing the flags to output when asked for help.
func ParseConfig(args []string, output io.Writer) (Config, error) {
	var c Config
	flags := flag.NewFlagSet("member run", flag.ContinueOnError)
	flags.SetOutput(output)
	flags.StringVar(&c.Volume, "volume", "/var/lib/etcd", "mount point of the member's volume")
	flags.StringVar(&c.DataDir, "data-dir", "/var/lib/etcd/data", "etcd's data directory, directly below the volume")
	flags.StringVar(&c.BootDir, "boot-dir", "/run/quorate/boot", "directory that lives as long as the pod, for the mark that etcd has booted")
	flags.StringVar(&c.Annotations, "annotations", "/etc/quorate/annotations", "downward-API file of the pod's annotations")
	flags.StringVar(&c.Identity.ClusterUID, "cluster-uid", "", "UID of the EtcdCluster (required)")
	flags.Int64Var(&c.Identity.Incarnation, "incarnation", -1, "incarnation of the cluster (required)")
	flags.StringVar(&c.Identity.Member, "member", "", "name of the member (required)")
	flags.StringVar(&c.Identity.VolumeUID, "volume-uid", "", "UID of the PersistentVolumeClaim (required)")
	flags.StringVar(&c.HealthListen, "health-listen", ":8081", "address to serve /livez and /readyz on")
	flags.StringVar(&c.EtcdHealth, "etcd-health", "http://127.0.0.1:2382", "base URL of etcd's plain HTTP listener")
	flags.StringVar(&c.EtcdClients, "etcd-clients", "", "base URL of etcd's listener for clients, which a member that is ready must serve; empty: it is not asked")
	flags.StringVar(&c.ClientsCert, "etcd-clients-cert", "", "certificate to show to that listener")
	flags.StringVar(&c.ClientsKey, "etcd-clients-key", "", "key of that certificate")
	flags.StringVar(&c.TerminationLog, "termination-log", "/dev/termination-log", "file for the message of a refusal")
	flags.StringVar(&c.PeerHost, "peer-host", "", "DNS name of the member, waited for before its first boot")
	if err := flags.Parse(args); err != nil {
		return Config{}, fmt.Errorf("parsing flags: %w", err)
	}
	c.Etcd = flags.Args()
	if err := c.validate(os.LookupEnv); err != nil {
		return Config{}, err
	}
	return c, nil
}

func (c Config) validate(environment func(string) (string, bool)) error {
	var errs []error
	if c.Identity.ClusterUID == "" || c.Identity.Member == "" || c.Identity.VolumeUID == "" || c.Identity.Incarnation < 0 {
		errs = append(errs, errors.New("--cluster-uid, --incarnation, --member and --volume-uid are required"))
	}
	// No directory lies between the two, so no symbolic link can either.
	if !filepath.IsAbs(c.Volume) || c.DataDir != filepath.Join(c.Volume, filepath.Base(c.DataDir)) {
		errs = append(errs, fmt.Errorf("--data-dir=%s is not directly below --volume=%s", c.DataDir, c.Volume))
	}
	if base, err := url.Parse(c.EtcdClients); c.EtcdClients != "" && (err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "") {
		errs = append(errs, fmt.Errorf("--etcd-clients=%s is not an http or https URL", c.EtcdClients))
	}
	if base, err := url.Parse(c.EtcdHealth); err != nil || base.Scheme != "http" || base.Host == "" {
		errs = append(errs, fmt.Errorf("--etcd-health=%s is not an http URL", c.EtcdHealth))
	}
	if len(c.Etcd) == 0 {
		return errors.Join(append(errs, errors.New("etcd's command line is missing after --"))...)
	}
	for _, argument := range c.Etcd[1:] {
		name, _, _ := strings.Cut(strings.TrimLeft(argument, "-"), "=")
		if strings.HasPrefix(argument, "-") && slices.Contains(guardedFlags, name) {
			errs = append(errs, fmt.Errorf("etcd's flag %s is not the caller's to set", argument))
		}
	}
	for _, name := range []string{"ETCD_WAL_DIR", "ETCD_CONFIG_FILE"} {
		if value, set := environment(name); set && value != "" {
			errs = append(errs, fmt.Errorf("the environment variable %s=%s would lead etcd past the guard", name, value))
		}
	}
	return errors.Join(errs...)
}

// advertised is the flag of the peer URL that a member gives itself when it first starts.
const advertised = "--initial-advertise-peer-urls="

// etcdArguments is the whole command line of etcd. The member gives itself the peer URL
// that the member list has for it, or it would be refused: the pod may have been made
// before it was known whether the others reach it over TLS.
func (c Config) etcdArguments(a Annotations) []string {
	etcd := slices.Clone(c.Etcd)
	for entry := range strings.SplitSeq(a.InitialCluster, ",") {
		if url, own := strings.CutPrefix(entry, c.Identity.Member+"="); own {
			etcd = append(slices.DeleteFunc(etcd, func(flag string) bool { return strings.HasPrefix(flag, advertised) }), advertised+url)
		}
	}
	return append(etcd,
		"--data-dir="+c.DataDir,
		"--initial-cluster="+a.InitialCluster,
		"--initial-cluster-state="+a.EffectiveClusterState())
}
