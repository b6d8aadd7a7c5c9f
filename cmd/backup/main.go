package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"time"
	// The images that this runs in have no time zones and no public authorities.
	_ "time/tzdata"

	_ "golang.org/x/crypto/x509roots/fallback"

	"github.com/quorate/quorate/internal/member"
	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/internal/snapshot/job"
	"github.com/quorate/quorate/internal/version"
)

// memoryLimit and collectAt keep the collector ahead of the buffers of an upload, in
// bytes and in percent of what lives. The kernel counts the program itself as well.
const (
	memoryLimit = 40 << 20
	collectAt   = 30
)

const usage = `usage:
  backup save|archive|drill|drill-archive|check|restore|recover|rebuild|prune|list [flags]   (-h: the flags)
  backup install DEST
  backup version
`

func main() {
	debug.SetMemoryLimit(memoryLimit)
	debug.SetGCPercent(collectAt)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return snapshot.ExitPermanent
	}
	switch args[0] {
	case "install":
		if len(args) != 2 {
			fmt.Fprint(stderr, usage)
			return snapshot.ExitPermanent
		}
		if err := member.Install(args[1]); err != nil {
			fmt.Fprintln(stderr, err)
			return snapshot.ExitFailed
		}
		return snapshot.ExitSucceeded
	case "version", "-version", "--version":
		fmt.Fprintln(stdout, version.Version)
		return snapshot.ExitSucceeded
	case "help", "-h", "-help", "--help":
		fmt.Fprint(stdout, usage)
		return snapshot.ExitSucceeded
	}
	operation := snapshot.Operation(args[0])
	if !slices.Contains(operations, operation) {
		fmt.Fprint(stderr, usage)
		return snapshot.ExitPermanent
	}
	return work(ctx, operation, args[1:], stdout, stderr)
}

var operations = []snapshot.Operation{
	snapshot.OperationSave, snapshot.OperationArchive, snapshot.OperationDrill, snapshot.OperationRestore, snapshot.OperationPrune, snapshot.OperationList,
	snapshot.OperationRebuild, snapshot.OperationDrillArchive, snapshot.OperationRecover, snapshot.OperationCheck,
}

// work carries out one operation and leaves its result.
func work(ctx context.Context, operation snapshot.Operation, args []string, stdout, stderr io.Writer) int {
	log := slog.New(slog.NewTextHandler(stderr, nil))
	result := snapshot.Result{Operation: operation, Outcome: snapshot.OutcomeFailed, Began: time.Now().UTC().Truncate(time.Second)}
	o, err := parse(operation, args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return snapshot.ExitSucceeded
	}
	if err == nil {
		if operation != snapshot.OperationList {
			log.Info("Begun", "operation", operation, "version", version.Version)
		}
		err = o.carryOut(ctx, log, stdout, &result)
	}
	result.Ended = time.Now().UTC().Truncate(time.Second)
	if err != nil {
		result.Outcome, result.Reason, result.Message = snapshot.OutcomeFailed, snapshot.ReasonOf(err), err.Error()
		log.Error("Failed", "operation", operation, "reason", result.Reason, "error", result.Message)
	} else if operation != snapshot.OperationList {
		log.Info("Done", "operation", operation, "reason", result.Reason, "message", result.Message)
	}
	leave(o.terminationLog, result, log)
	switch {
	case err == nil:
		return snapshot.ExitSucceeded
	case result.Permanent():
		return snapshot.ExitPermanent
	default:
		return snapshot.ExitFailed
	}
}

// leave writes the result where the kubelet reads it. Outside of a pod there is no
// such place.
func leave(path string, result snapshot.Result, log *slog.Logger) {
	if path == "" || result.Operation == snapshot.OperationList {
		return
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if errors.Is(err, os.ErrNotExist) && path == defaultTerminationLog {
		return
	}
	if errors.Is(err, os.ErrNotExist) {
		file, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	}
	if err == nil {
		_, err = file.Write(result.Encode())
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		log.Error("The result could not be left", "file", path, "error", err.Error())
	}
}

// carryOut opens the store and does the work.
func (o *options) carryOut(ctx context.Context, log *slog.Logger, stdout io.Writer, result *snapshot.Result) error {
	if o.rate > 0 {
		// Work that is to give way keeps to one processor, as slow as it is to be anyway.
		runtime.GOMAXPROCS(1)
	}
	if result.Operation == snapshot.OperationRestore {
		if done, err := o.alreadyRestored(result); done || err != nil {
			return err
		}
	}
	if result.Operation == snapshot.OperationRecover {
		err := o.doRecover(ctx, log, result)
		if err == nil {
			result.Outcome = snapshot.OutcomeSucceeded
		}
		return job.Explain(err)
	}
	env, err := o.environment(ctx, log)
	if err != nil {
		return err
	}
	defer env.Store.Close()
	if result.Operation == snapshot.OperationList {
		return job.Explain(o.doList(ctx, env, stdout))
	}
	stop, err := o.serveProgress(env.Tracker, log)
	if err != nil {
		return err
	}
	defer stop()
	switch result.Operation {
	case snapshot.OperationSave:
		err = o.doSave(ctx, env, result)
	case snapshot.OperationArchive:
		err = o.doArchive(ctx, env, result)
	case snapshot.OperationDrill:
		err = o.doDrill(ctx, env, result)
	case snapshot.OperationCheck:
		err = o.doCheck(ctx, env, result)
	case snapshot.OperationDrillArchive:
		err = o.doDrillArchive(ctx, env, result)
	case snapshot.OperationRestore:
		err = o.doRestore(ctx, env, result)
	case snapshot.OperationRebuild:
		err = o.doRebuild(ctx, env, result)
	case snapshot.OperationPrune:
		err = o.doPrune(ctx, env, result)
	}
	if err == nil {
		result.Outcome = snapshot.OutcomeSucceeded
	}
	return job.Explain(err)
}

func (o *options) doSave(ctx context.Context, env *job.Env, result *snapshot.Result) error {
	s, err := o.saving()
	if err != nil {
		return err
	}
	m, err := env.Save(ctx, s)
	if err != nil {
		return err
	}
	b := m.Backup()
	result.Backup, result.Reason = &b, snapshot.ReasonSaved
	result.Message = fmt.Sprintf("%d keys at revision %d of etcd %s, %d bytes stored as %d, read back and equal", b.KeyCount, b.Revision, b.EtcdVersion, b.PlainBytes, b.StoredBytes)
	return nil
}

func (o *options) doArchive(ctx context.Context, env *job.Env, result *snapshot.Result) error {
	a, err := o.archiving()
	if err != nil {
		return err
	}
	p, err := env.Archive(ctx, a)
	if err != nil {
		return err
	}
	result.Reason = snapshot.ReasonArchived
	result.Message = fmt.Sprintf("told to end: stored up to revision %d and %s, in %d segments with %d gaps", p.Revision, p.Until.Format(time.RFC3339), p.Segments, p.Gaps)
	return nil
}

func (o *options) doDrill(ctx context.Context, env *job.Env, result *snapshot.Result) error {
	identities, err := identitiesFrom(o.identities)
	if err != nil {
		return err
	}
	drilled, err := env.Drill(ctx, job.Drill{ID: o.backup, Identities: identities, Tools: job.Tools{Etcd: o.etcd, Etcdutl: o.etcdutl}, WorkDir: o.workDir})
	if drilled.Manifest.ID != "" {
		b := drilled.Manifest.Backup()
		result.Backup = &b
	}
	if err != nil {
		return err
	}
	v := drilled.Verification
	result.Backup.Verified, result.Verification, result.Reason = &v.Time, &v, snapshot.ReasonVerified
	result.Message = fmt.Sprintf("restored and served by etcd %s: %d keys and the hash %d at revision %d are the live cluster's", v.EtcdVersion, v.KeyCount, v.HashKV, result.Backup.Revision)
	if drilled.Unrecorded != nil {
		result.Warnings = append(result.Warnings, "the verification is not recorded beside the backup: "+drilled.Unrecorded.Error())
	}
	return nil
}

func (o *options) doCheck(ctx context.Context, env *job.Env, result *snapshot.Result) error {
	identities, err := identitiesFrom(o.identities)
	if err != nil {
		return err
	}
	m, err := env.Check(ctx, job.Check{ID: o.backup, Identities: identities, Tools: job.Tools{Etcdutl: o.etcdutl}, Version: o.restore.Version})
	if m.ID != "" {
		b := m.Backup()
		result.Backup = &b
	}
	if err != nil {
		return err
	}
	result.Reason = snapshot.ReasonChecked
	result.Message = fmt.Sprintf("read to its end, %d bytes stored as %d: it is what was written", m.Plain.Bytes, m.Stored.Bytes)
	return nil
}

func (o *options) doDrillArchive(ctx context.Context, env *job.Env, result *snapshot.Result) error {
	identities, err := identitiesFrom(o.identities)
	if err != nil {
		return err
	}
	members := o.drill
	members.Endpoints = list(o.endpoints)
	drilled, err := env.DrillArchive(ctx, job.ArchiveDrill{Members: members, Identities: identities, Tools: job.Tools{Etcd: o.etcd, Etcdutl: o.etcdutl}, WorkDir: o.workDir})
	for _, id := range drilled.Unfit {
		result.Warnings = append(result.Warnings, "the end of the archive cannot be restored from backup "+id+"; the archiver takes another one as its base")
	}
	if drilled.Unrecorded != nil {
		result.Warnings = append(result.Warnings, "that a backup is no base is not recorded beside it, so the archiver does not know: "+drilled.Unrecorded.Error())
	}
	if err != nil {
		return err
	}
	v := drilled.Verification
	result.Backup, result.Verification, result.Point, result.Reason = &drilled.Base, &v, &drilled.Point, snapshot.ReasonVerified
	result.Message = fmt.Sprintf("%d revisions replayed on backup %s by etcd %s: %d keys and the hash %d at revision %d are the live cluster's", drilled.Point.Replayed, drilled.Point.Base, v.EtcdVersion, v.KeyCount, v.HashKV, v.SnapshotRevision)
	return nil
}

func (o *options) doRebuild(ctx context.Context, env *job.Env, result *snapshot.Result) error {
	r := job.Rebuild{
		ID: o.backup, Tools: job.Tools{Etcd: o.etcd, Etcdutl: o.etcdutl}, WorkDir: o.workDir,
		Into: snapshot.Place{Prefix: env.Place.Prefix, ClusterUID: o.restore.Identity.ClusterUID},
		Name: o.save.Name, UID: o.save.UID, Namespace: o.namespace, Cluster: o.cluster, Compression: snapshot.CompressionZstd,
	}
	if err := r.Into.Validate(); err != nil {
		return snapshot.Fail(snapshot.ReasonUsage, err, "%v", err)
	}
	var err error
	if r.Identities, err = identitiesFrom(o.identities); err != nil {
		return err
	}
	// It was parsed when the flags were.
	r.Target, _ = o.target()
	built, err := env.Rebuild(ctx, r)
	if err != nil {
		return err
	}
	b := built.Manifest.Backup()
	result.Backup, result.Point, result.Reason = &b, built.Point, snapshot.ReasonRebuilt
	result.Message = fmt.Sprintf("%d keys at revision %d, stored as backup %s", b.KeyCount, b.Revision, b.ID)
	if built.Point == nil {
		result.Message += ", which was there already"
	} else {
		result.Message += built.Point.LastChange()
	}
	return nil
}

// alreadyRestored says that there is nothing left to do.
func (o *options) alreadyRestored(result *snapshot.Result) (bool, error) {
	// Only the identities can be unreadable, and nothing is decrypted here.
	r, _ := o.restoring()
	done, err := r.Finished()
	if err != nil || done == nil {
		return false, err
	}
	result.Backup, result.Outcome, result.Reason = &done.Backup, snapshot.OutcomeSucceeded, snapshot.ReasonRestored
	result.Message = fmt.Sprintf("volume %s of member %s holds %s; restored already, at %s", r.Identity.VolumeUID, r.Identity.Member, done.Holds(), done.Time.Format(time.RFC3339))
	return true, nil
}

func (o *options) doRestore(ctx context.Context, env *job.Env, result *snapshot.Result) error {
	r, err := o.restoring()
	if err != nil {
		return err
	}
	done, err := env.Restore(ctx, r)
	if done.Backup.ID != "" {
		result.Backup = &done.Backup
	}
	if err != nil {
		return err
	}
	result.Reason = snapshot.ReasonRestored
	result.Message = fmt.Sprintf("volume %s of member %s holds %s", r.Identity.VolumeUID, r.Identity.Member, done.Holds())
	return nil
}

// doRecover asks no store: it is for those who have none.
func (o *options) doRecover(ctx context.Context, log *slog.Logger, result *snapshot.Result) error {
	from := o.survivor
	r := o.filling(from.Identity.Member + "/" + from.Identity.VolumeUID)
	from.Identity.ClusterUID = r.Identity.ClusterUID
	env := &job.Env{Tracker: &job.Tracker{}, Log: log, Now: time.Now}
	done, err := env.Recover(ctx, r, from)
	result.Survivor = done.Survivor
	if err != nil {
		return err
	}
	result.Reason = snapshot.ReasonRecovered
	result.Message = fmt.Sprintf("volume %s of member %s holds %s", r.Identity.VolumeUID, r.Identity.Member, done.Holds())
	return nil
}

func (o *options) doPrune(ctx context.Context, env *job.Env, result *snapshot.Result) error {
	p, err := o.pruning()
	if err != nil {
		return err
	}
	pruned, warnings, err := env.Prune(ctx, p)
	if err != nil {
		return err
	}
	result.Pruned, result.Warnings, result.Reason = &pruned, warnings, snapshot.ReasonPruned
	if p.Rehearsal {
		result.Message = fmt.Sprintf("a rehearsal, nothing was deleted: %d backups would be kept, %d dropped, %d unfinished ones and %d segments of archives removed", pruned.Kept, pruned.DroppedCount, pruned.Orphans, pruned.Segments)
		return nil
	}
	result.Message = fmt.Sprintf("%d backups kept, %d dropped, %d that the store would not delete, %d unfinished ones and %d segments of archives removed", pruned.Kept, pruned.DroppedCount, pruned.Refused, pruned.Orphans, pruned.Segments)
	return nil
}
