package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/quorate/quorate/internal/member"
	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/internal/snapshot/job"
	"github.com/quorate/quorate/internal/snapshot/store"
)

const (
	defaultTerminationLog = "/dev/termination-log"
	// defaultBump is far above what a cluster writes between a backup and a restore,
	// at a thousand writes a second eleven days.
	defaultBump = 1_000_000_000
)

// options are the flags of all operations; each registers its own.
type options struct {
	config         store.Config
	s3Endpoint     string
	prefix         string
	clusterUID     string
	progressListen string
	terminationLog string
	attempts       int
	pause          time.Duration

	save          job.Save
	namespace     string
	cluster       string
	rate          int64
	endpoints     string
	compression   string
	recipients    string
	backup        string
	identities    string
	etcd, etcdutl string
	workDir       string
	restore       job.Restore
	survivor      job.Survivor
	foreign       bool
	orders        string
	prune         job.Prune
	zone          string
	drop          string
	verified      string
	pointsSince   string
	output        string
	archive       job.Archive
	drill         job.Members
	toRevision    int64
	toTime        string
}

// parse returns options even with an error, for the termination message.
func parse(operation snapshot.Operation, args []string, output io.Writer) (*options, error) {
	o := &options{}
	flags := flag.NewFlagSet("backup "+string(operation), flag.ContinueOnError)
	flags.SetOutput(output)
	o.registerCommon(flags)
	switch operation {
	case snapshot.OperationSave:
		o.registerMembers(flags, &o.save.Members)
		o.registerSave(flags)
	case snapshot.OperationDrill:
		o.registerReading(flags)
		o.registerRate(flags, readRate)
		flags.StringVar(&o.etcd, "etcd", "/usr/local/bin/etcd", "etcd, of the version of the cluster")
		flags.StringVar(&o.workDir, "work-dir", "/work", "directory with room for the plain snapshot twice")
	case snapshot.OperationCheck:
		o.registerReading(flags)
		flags.StringVar(&o.restore.Version, "etcd-version", "", "version of the etcd that is to serve the data (required)")
	case snapshot.OperationRestore:
		o.registerReading(flags)
		o.registerRestore(flags)
	case snapshot.OperationRecover:
		o.registerRecover(flags)
	case snapshot.OperationRebuild:
		o.registerRebuild(flags)
	case snapshot.OperationDrillArchive:
		o.registerReading(flags)
		o.registerRate(flags, readRate)
		o.registerEndpoints(flags, &o.drill)
		o.registerServing(flags)
	case snapshot.OperationArchive:
		o.registerMembers(flags, &o.archive.Members)
		o.registerArchive(flags)
	case snapshot.OperationPrune:
		o.registerPrune(flags)
	case snapshot.OperationList:
		flags.StringVar(&o.output, "output", "table", "table or json")
	}
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return o, err
	}
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("%q is not a flag", flags.Arg(0))
	}
	if err == nil {
		err = o.check(operation)
	}
	if err != nil {
		return o, snapshot.Fail(snapshot.ReasonUsage, err, "%v — nothing was done — see backup %s -h", err, operation)
	}
	return o, nil
}

func (o *options) registerCommon(f *flag.FlagSet) {
	f.StringVar(&o.config.URL, "store", "", "s3://BUCKET, gs://BUCKET, azblob://CONTAINER or file:///DIRECTORY (required)")
	f.StringVar(&o.prefix, "prefix", "", "prefix within the store")
	f.StringVar(&o.clusterUID, "cluster-uid", "", "UID of the EtcdCluster whose backups they are")
	f.StringVar(&o.config.Credentials, "credentials", "", "directory of a mounted Secret; empty: workload identity")
	f.StringVar(&o.config.CA, "store-ca", "", "file of PEM authorities of the store; empty: the system's")
	f.StringVar(&o.s3Endpoint, "s3-endpoint", "", "URL of an S3-compatible store; empty: AWS")
	f.StringVar(&o.config.S3Region, "s3-region", "us-east-1", "region")
	f.BoolVar(&o.config.S3PathStyle, "s3-path-style", false, "put the bucket into the path instead of the host name")
	f.StringVar(&o.config.AzureAccount, "azure-account", "", "storage account")
	f.StringVar(&o.config.Endpoint, "store-endpoint", "", "URL of another Azure or GCS than the public one")
	f.StringVar(&o.progressListen, "progress-listen", fmt.Sprintf(":%d", snapshot.ProgressPort), "address to serve "+snapshot.ProgressPath+" on; empty: none")
	f.StringVar(&o.terminationLog, "termination-log", defaultTerminationLog, "file for the result")
	f.IntVar(&o.attempts, "attempts", 3, "how often the whole work is tried")
	f.DurationVar(&o.pause, "pause", 5*time.Second, "wait before a second attempt; it doubles")
}

func (o *options) registerSave(f *flag.FlagSet) {
	s := &o.save
	f.StringVar(&s.Name, "name", "", "name of the backup (required)")
	f.StringVar(&s.UID, "uid", "", "UID of the EtcdBackup")
}

// registerMembers are the flags of what reads from a cluster.
func (o *options) registerMembers(f *flag.FlagSet, m *job.Members) {
	o.registerCluster(f)
	o.registerEndpoints(f, m)
	o.registerRate(f, "bytes per second that are read from etcd for a snapshot, and to and from the store (there 16777216 at least); 0: no limit")
	f.StringVar(&o.compression, "compression", string(snapshot.CompressionZstd), "zstd or none")
	f.StringVar(&o.recipients, "age-recipients", "", "file of public keys of age to encrypt for; empty: no encryption")
}

// readRate is what a limit bounds where a backup is downloaded to be tried out.
const readRate = "bytes per second that are read of a snapshot from the store, or sent to it, 16777216 at least; 0: no limit"

// registerRate takes what the limit bounds.
func (o *options) registerRate(f *flag.FlagSet, bounds string) {
	f.Int64Var(&o.rate, "rate-limit", 0, bounds)
}

func (o *options) registerCluster(f *flag.FlagSet) {
	f.StringVar(&o.namespace, "cluster-namespace", "", "namespace of the EtcdCluster (required)")
	f.StringVar(&o.cluster, "cluster-name", "", "name of the EtcdCluster (required)")
}

func (o *options) registerEndpoints(f *flag.FlagSet, m *job.Members) {
	f.StringVar(&m.ClusterID, "cluster-id", "", "etcd's ID of the cluster, in hexadecimal (required)")
	f.StringVar(&o.endpoints, "endpoints", "", "client URLs of the members, separated by commas (required)")
	f.StringVar(&m.CA, "etcd-ca", "", "file of the members' authority")
	f.StringVar(&m.Certificate, "etcd-cert", "", "file of the client certificate")
	f.StringVar(&m.Key, "etcd-key", "", "file of the client certificate's key")
}

// registerRebuild are the flags of what stores a point of an archive as a backup.
func (o *options) registerRebuild(f *flag.FlagSet) {
	o.registerReading(f)
	o.registerCluster(f)
	o.registerSave(f)
	o.registerServing(f)
	o.registerPoint(f)
	f.StringVar(&o.restore.Identity.ClusterUID, "into-cluster-uid", "", "UID of the EtcdCluster that begins with it, below which it is stored (required)")
}

// registerServing are the flags of what has etcd serve a replay.
func (o *options) registerServing(f *flag.FlagSet) {
	f.StringVar(&o.etcd, "etcd", "/usr/local/bin/etcd", "etcd, of the version of the cluster")
	f.StringVar(&o.workDir, "work-dir", "/work", "directory with room for the plain snapshot four times")
}

func (o *options) registerPoint(f *flag.FlagSet) {
	f.Int64Var(&o.toRevision, "to-revision", 0, "the archive up to this revision; 0: the backup alone")
	f.StringVar(&o.toTime, "to-time", "", "what the archive had been told by this time, such as 2026-01-02T15:04:05Z; empty: the backup alone")
}

func (o *options) registerArchive(f *flag.FlagSet) {
	f.DurationVar(&o.archive.SealEvery, "seal-every", 2*time.Second, "how long writes are gathered for one object, at least 100ms")
	f.DurationVar(&o.archive.BaseEvery, "base-every", 0, "how old the newest base that was taken by itself may be before another is, at least 1h; 0: one is taken only when there is no backup to begin with")
	f.DurationVar(&o.archive.IdleEvery, "idle-every", 10*time.Minute, "how often a cluster that is not written to gets an object that says so")
}

func (o *options) registerReading(f *flag.FlagSet) {
	f.StringVar(&o.backup, "backup", job.Latest, "ID of the backup, or "+job.Latest)
	f.StringVar(&o.identities, "age-identities", "", "file of private keys of age to decrypt with")
	f.StringVar(&o.etcdutl, "etcdutl", "/usr/local/bin/etcdutl", "etcdutl, of the version that will serve the data")
}

func (o *options) registerRestore(f *flag.FlagSet) {
	o.registerVolume(f)
	f.BoolVar(&o.foreign, "foreign", false, "the backup is of another cluster, and that is meant")
	f.StringVar(&o.etcd, "etcd", "/usr/local/bin/etcd", "etcd, of the version that will serve the data; for a point of the archive")
	o.registerPoint(f)
}

func (o *options) registerRecover(f *flag.FlagSet) {
	o.registerVolume(f)
	s := &o.survivor
	f.StringVar(&s.Volume, "survivor-volume", "/survivor", "mount point of the survivor's volume, which is only read")
	f.StringVar(&s.DataDir, "survivor-data-dir", "/survivor/data", "etcd's directory, directly below it")
	f.StringVar(&s.Identity.Member, "survivor", "", "name of the survivor (required)")
	f.StringVar(&s.Identity.VolumeUID, "survivor-volume-uid", "", "UID of its PersistentVolumeClaim (required)")
	f.Int64Var(&s.Identity.Incarnation, "survivor-incarnation", -1, "incarnation of the cluster that has lost its quorum (required)")
	f.Int64Var(&s.RaiseTo, "raise-to", 0, "revision that the data is to begin with; to one that is beyond it --bump-revision is added")
	f.StringVar(&o.etcd, "etcd", "/usr/local/bin/etcd", "etcd, of the version that will serve the data")
	f.StringVar(&o.etcdutl, "etcdutl", "/usr/local/bin/etcdutl", "etcdutl, of the version that will serve the data")
}

// registerVolume are the flags of what fills a member's volume.
func (o *options) registerVolume(f *flag.FlagSet) {
	r := &o.restore
	f.StringVar(&r.Volume, "volume", "/var/lib/etcd", "mount point of the member's volume")
	f.StringVar(&r.DataDir, "data-dir", "/var/lib/etcd/data", "etcd's directory, directly below the volume")
	f.StringVar(&r.Identity.ClusterUID, "into-cluster-uid", "", "UID of the EtcdCluster to restore into (required)")
	f.Int64Var(&r.Identity.Incarnation, "incarnation", -1, "incarnation of the cluster (required)")
	f.StringVar(&r.Identity.Member, "member", "", "name of the member (required)")
	f.StringVar(&r.Identity.VolumeUID, "volume-uid", "", "UID of the PersistentVolumeClaim (required)")
	f.StringVar(&r.As.InitialCluster, "initial-cluster", "", "NAME=URL,... of all founders (required)")
	f.StringVar(&r.As.Token, "initial-cluster-token", "", "token of the cluster (required)")
	f.StringVar(&r.As.PeerURLs, "initial-advertise-peer-urls", "", "peer URLs of the member (required)")
	f.StringVar(&r.Version, "etcd-version", "", "version of the etcd that will serve the data (required)")
	f.StringVar(&o.orders, "orders", "", "downward-API file of the pod's annotations: an empty volume is filled only while "+orderRestore+" names what it is filled with; empty: always")
	f.Uint64Var(&r.As.Bump, "bump-revision", defaultBump, "added to the last revision; 0: revisions stay as they were")
}

func (o *options) registerPrune(f *flag.FlagSet) {
	p := &o.prune
	f.IntVar(&p.Policy.Last, "keep-last", 0, "keep the newest so many")
	f.IntVar(&p.Policy.Hourly, "keep-hourly", 0, "keep the newest of so many hours")
	f.IntVar(&p.Policy.Daily, "keep-daily", 0, "keep the newest of so many days")
	f.IntVar(&p.Policy.Weekly, "keep-weekly", 0, "keep the newest of so many weeks")
	f.StringVar(&o.zone, "time-zone", "UTC", "where days begin, a name of IANA")
	f.StringVar(&o.drop, "drop", "", "IDs of backups to drop whatever is kept otherwise, separated by commas")
	f.StringVar(&p.MadeBy.UID, "drop-made-by", "", "UID of an EtcdBackup: drop just what was stored for it, finished or not; needs --name")
	f.StringVar(&p.MadeBy.Name, "name", "", "name of that EtcdBackup")
	f.StringVar(&o.verified, "verified", "", "IDs of backups that are known to be verified, separated by commas")
	f.DurationVar(&p.OrphansAfter, "orphans-after", snapshot.OrphansAfter, "age of what is removed as unfinished, at least 1h")
	f.StringVar(&o.pointsSince, "points-since", "", "drop just the bases that an archiver took by itself and that no point since this time needs, such as 2026-01-02T15:04:05Z")
	f.BoolVar(&p.Rehearsal, "dry-run", false, "say what would be deleted, and delete nothing")
}

// check finds what is missing before anything is asked.
func (o *options) check(operation snapshot.Operation) error {
	var errs []error
	require := func(flags map[string]string) {
		for name, value := range flags {
			if value == "" {
				errs = append(errs, fmt.Errorf("--%s is missing", name))
			}
		}
	}
	require(o.ofStore(operation))
	switch operation {
	case snapshot.OperationSave:
		require(map[string]string{"name": o.save.Name})
		require(o.ofMembers(o.save.Members))
	case snapshot.OperationArchive:
		require(o.ofMembers(o.archive.Members))
		if a := o.archive; a.SealEvery < 100*time.Millisecond || a.IdleEvery < time.Second {
			errs = append(errs, fmt.Errorf("--seal-every=%s or --idle-every=%s is too short: the store would get an object for every write", a.SealEvery, a.IdleEvery))
		}
		if every := o.archive.BaseEvery; every != 0 && every < time.Hour {
			errs = append(errs, fmt.Errorf("--base-every=%s is less than an hour: the cluster would be read all the time", every))
		}
	case snapshot.OperationRestore:
		require(o.ofVolume())
		errs = append(errs, o.checkPoint(), o.checkIncarnations(operation))
	case snapshot.OperationRecover:
		require(o.ofVolume())
		require(map[string]string{"survivor": o.survivor.Identity.Member, "survivor-volume-uid": o.survivor.Identity.VolumeUID})
		errs = append(errs, o.checkIncarnations(operation))
	case snapshot.OperationRebuild:
		require(map[string]string{
			"into-cluster-uid": o.restore.Identity.ClusterUID, "name": o.save.Name, "uid": o.save.UID,
			"cluster-namespace": o.namespace, "cluster-name": o.cluster,
		})
		errs = append(errs, o.checkPoint())
		if o.toRevision == 0 && o.toTime == "" {
			errs = append(errs, errors.New("neither --to-revision nor --to-time is given: there is no point to put together"))
		}
	case snapshot.OperationCheck:
		require(map[string]string{"etcd-version": o.restore.Version})
	case snapshot.OperationDrillArchive:
		require(map[string]string{"cluster-id": o.drill.ClusterID, "endpoints": o.endpoints})
	case snapshot.OperationPrune:
		errs = append(errs, o.checkPrune())
	}
	return errors.Join(errs...)
}

func (o *options) checkPrune() error {
	var errs []error
	p := o.prune
	if (p.MadeBy.UID == "") != (p.MadeBy.Name == "") {
		errs = append(errs, errors.New("--drop-made-by and --name name one EtcdBackup together, and one of them is missing"))
	}
	if p.OrphansAfter < time.Hour {
		errs = append(errs, fmt.Errorf("--orphans-after=%s is less than an hour: a backup that is being made would be removed", p.OrphansAfter))
	}
	since, err := o.since()
	if err != nil {
		errs = append(errs, err)
	}
	if !since.IsZero() && (!p.Policy.Empty() || o.drop != "" || p.MadeBy.UID != "") {
		errs = append(errs, errors.New("--points-since goes with neither --drop nor any --keep-…: it says which bases of an archiver go, and they say which backups do"))
	}
	return errors.Join(errs...)
}

// since is the time from which on all points stay; zero if none is given.
func (o *options) since() (time.Time, error) {
	if o.pointsSince == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, o.pointsSince)
	if err != nil {
		return at, fmt.Errorf("--points-since=%q is not a time such as 2026-01-02T15:04:05Z: it would not be known which bases are needed", o.pointsSince)
	}
	return at, nil
}

func (o *options) ofMembers(m job.Members) map[string]string {
	return map[string]string{"cluster-namespace": o.namespace, "cluster-name": o.cluster, "cluster-id": m.ClusterID, "endpoints": o.endpoints}
}

// ofStore are the flags that name a store, and what lies in it.
func (o *options) ofStore(operation snapshot.Operation) map[string]string {
	switch operation {
	case snapshot.OperationRecover:
		return nil
	case snapshot.OperationList:
		return map[string]string{"store": o.config.URL}
	default:
		return map[string]string{"store": o.config.URL, "cluster-uid": o.clusterUID}
	}
}

func (o *options) checkIncarnations(operation snapshot.Operation) error {
	switch {
	case o.restore.Identity.Incarnation < 0:
		return errors.New("--incarnation is missing")
	case operation == snapshot.OperationRecover && o.survivor.Identity.Incarnation < 0:
		return errors.New("--survivor-incarnation is missing")
	default:
		return nil
	}
}

func (o *options) ofVolume() map[string]string {
	r := o.restore
	return map[string]string{
		"into-cluster-uid": r.Identity.ClusterUID, "member": r.Identity.Member, "volume-uid": r.Identity.VolumeUID, "initial-cluster": r.As.InitialCluster,
		"initial-cluster-token": r.As.Token, "initial-advertise-peer-urls": r.As.PeerURLs, "etcd-version": r.Version,
	}
}

func (o *options) checkPoint() error {
	if o.toRevision < 0 || (o.toRevision > 0 && o.toTime != "") {
		return errors.New("--to-revision is negative, or --to-time is given as well: there is one point to restore to")
	}
	_, err := o.target()
	return err
}

// target is the point of the archive to restore.
func (o *options) target() (job.Target, error) {
	t := job.Target{Revision: o.toRevision}
	if o.toTime == "" {
		return t, nil
	}
	at, err := time.Parse(time.RFC3339Nano, o.toTime)
	if err != nil {
		return t, fmt.Errorf("--to-time is %q: it is not a time such as 2026-01-02T15:04:05Z", o.toTime)
	}
	t.Time = at.UTC()
	return t, nil
}

// environment opens the store.
func (o *options) environment(ctx context.Context, log *slog.Logger) (*job.Env, error) {
	place := snapshot.Place{Prefix: strings.Trim(o.prefix, "/"), ClusterUID: o.clusterUID}
	err := snapshot.ValidatePrefix(place.Prefix)
	if err == nil && place.ClusterUID != "" {
		err = place.Validate()
	}
	if err != nil {
		return nil, snapshot.Fail(snapshot.ReasonUsage, err, "%v", err)
	}
	tracker := &job.Tracker{}
	opened, err := store.Open(ctx, o.storeOf(tracker))
	if err != nil {
		return nil, err
	}
	return &job.Env{
		Store: opened, Place: place, Attempts: max(1, o.attempts), Pause: o.pause,
		Tracker: tracker, Log: log, Now: time.Now, ReadRate: o.rate,
	}, nil
}

// storeOf is where the store is, and how fast it may be sent to.
func (o *options) storeOf(tracker *job.Tracker) store.Config {
	c := o.config
	if o.s3Endpoint != "" {
		c.Endpoint = o.s3Endpoint
	}
	c.Asked, c.SendRate = tracker.Asked, job.StoreRate(o.rate)
	return c
}

// serveProgress until the returned function is called.
func (o *options) serveProgress(tracker *job.Tracker, log *slog.Logger) (stop func(), err error) {
	if o.progressListen == "" {
		return func() {}, nil
	}
	listener, err := net.Listen("tcp", o.progressListen)
	if err != nil {
		return nil, snapshot.Fail(snapshot.ReasonUsage, err, "%v — nobody could see how far the work is — use another --progress-listen", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+snapshot.ProgressPath, tracker)
	mux.HandleFunc("GET "+snapshot.MetricsPath, tracker.Metrics)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Warn("The progress is not served any more", "error", err.Error())
		}
	}()
	return func() { _ = server.Close() }, nil
}

func list(commas string) []string {
	if commas == "" {
		return nil
	}
	return strings.Split(commas, ",")
}

func (o *options) saving() (job.Save, error) {
	s := o.save
	s.Members.Endpoints, s.Namespace, s.Cluster, s.Rate = list(o.endpoints), o.namespace, o.cluster, o.rate
	var err error
	s.Compression, s.Recipients, s.RecipientNames, err = o.packing()
	return s, err
}

func (o *options) archiving() (job.Archive, error) {
	a := o.archive
	a.Members.Endpoints, a.Namespace, a.Cluster, a.Rate = list(o.endpoints), o.namespace, o.cluster, o.rate
	var err error
	a.Compression, a.Recipients, a.RecipientNames, err = o.packing()
	return a, err
}

// packing is how to compress and for whom to encrypt.
func (o *options) packing() (c snapshot.Compression, recipients []age.Recipient, names []string, err error) {
	c = snapshot.Compression(o.compression)
	if c != snapshot.CompressionNone && c != snapshot.CompressionZstd {
		return c, nil, nil, snapshot.Fail(snapshot.ReasonUsage, nil, "--compression is %q — there is no such compression — use zstd or none", o.compression)
	}
	if o.recipients == "" {
		return c, nil, nil, nil
	}
	content, err := os.ReadFile(o.recipients)
	if err == nil {
		recipients, err = age.ParseRecipients(bytes.NewReader(content))
	}
	if err != nil {
		return c, nil, nil, snapshot.Fail(snapshot.ReasonBadRecipient, err, "%s: %v — the backup would not be encrypted for whom it should be — put public keys of age into it, one a line", o.recipients, err)
	}
	for _, r := range recipients {
		name, ok := r.(fmt.Stringer)
		if !ok {
			return c, nil, nil, snapshot.Fail(snapshot.ReasonBadRecipient, nil, "%s holds a recipient without a name — the manifest could not say who can decrypt — use native public keys of age", o.recipients)
		}
		names = append(names, name.String())
	}
	return c, recipients, names, nil
}

// identitiesFrom reads private keys. The parser's words are not passed on: they
// could quote one.
func identitiesFrom(path string) ([]age.Identity, error) {
	if path == "" {
		return nil, nil
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, snapshot.Fail(snapshot.ReasonKeyMissing, err, "%v — an encrypted backup cannot be read — mount the Secret with the private key", err)
	}
	identities, err := age.ParseIdentities(bytes.NewReader(content))
	if err != nil {
		return nil, snapshot.Fail(snapshot.ReasonBadRecipient, nil, "%s holds something that is not a private key of age — an encrypted backup cannot be read — put keys into it as age-keygen prints them", path)
	}
	return identities, nil
}

// filling is the volume to fill, as whom and with what, as long as the orders name that.
func (o *options) filling(with string) job.Restore {
	r := o.restore
	r.As.Name = r.Identity.Member
	r.ID, r.Tools = with, job.Tools{Etcd: o.etcd, Etcdutl: o.etcdutl}
	if o.orders != "" {
		r.Permit = func() error { return permitted(o.orders, with) }
	}
	return r
}

func (o *options) restoring() (job.Restore, error) {
	r := o.filling(o.backup)
	identities, err := identitiesFrom(o.identities)
	r.Identities = identities
	// It was parsed when the flags were.
	r.Target, _ = o.target()
	if o.foreign {
		r.Foreign = job.AllowForeign
	}
	return r, err
}

// orderRestore is the annotation that permits a restore. The operator takes it back
// when the member has started.
const orderRestore = "etcd.quorate.dev/restore"

func permitted(orders, backup string) error {
	order, err := member.ReadAnnotation(orders, orderRestore)
	if err != nil {
		return snapshot.Fail(snapshot.ReasonInternal, err, "%v — it is not known whether the member has started before — it is tried again", err)
	}
	if order != backup {
		return snapshot.Fail(snapshot.ReasonDataLost, nil, "the volume is empty, and the operator does not permit a restore any more: the member has started before — filled from a backup it would forget what it promised since — leave it to the operator, which replaces the member")
	}
	return nil
}

func (o *options) pruning() (job.Prune, error) {
	p := o.prune
	p.Drop, p.Verified = list(o.drop), list(o.verified)
	// It was parsed when the flags were.
	p.PointsSince, _ = o.since()
	zone, err := time.LoadLocation(o.zone)
	if err != nil {
		return p, snapshot.Fail(snapshot.ReasonUsage, err, "--time-zone is %q — it is not known when days begin — use a name of IANA, such as Europe/Berlin", o.zone)
	}
	p.Policy.Location = zone
	return p, nil
}
