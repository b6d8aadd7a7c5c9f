package job

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"filippo.io/age"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"

	"github.com/quorate/quorate/internal/snapshot"
)

// unknownTTL is granted, in seconds, for a lease whose time to live nobody could ask for:
// it had ended before its first key was read.
const unknownTTL = 600

// errBeyond: the base holds more than what is asked for.
var errBeyond = errors.New("it goes beyond the point")

// Replayed is what was put together from an archive.
type Replayed struct {
	// Base that it began with, Revision that it ends with.
	Base     snapshot.Backup
	Revision int64
	// Changed is when the archiver was told of the last change before the time that was asked
	// for; zero if that is not known.
	Changed time.Time
	// Revisions that were replayed on the base.
	Revisions int64
	// UnknownLeases are those whose time to live could not be archived.
	UnknownLeases int
	// Recipients of the last segment that was encrypted; none if none of them was.
	Recipients []string
}

// rebuild puts the point together, and calls finish while etcd serves it. It works in dir,
// which it leaves as it was.
func (e *Env) rebuild(ctx context.Context, p *point, tools Tools, identities []age.Identity, dir string, finish finisher) (Replayed, error) {
	var first error
	for _, base := range p.bases {
		m, err := e.find(ctx, base.ID)
		if err != nil {
			return Replayed{}, err
		}
		done, err := e.rebuildFrom(ctx, p, m, tools, identities, dir, finish)
		var unfit *unfitError
		switch {
		case errors.Is(err, errBeyond):
			e.Log.Info("The backup holds more than is asked for; the one before it is taken", "id", base.ID)
		case errors.As(err, &unfit):
			e.Log.Warn("The backup cannot be the base; the one before it is taken", "id", base.ID, "error", err.Error())
			if unfit.lasting {
				p.refuse(base.ID, err)
			}
			if first == nil {
				first = err
			}
		default:
			return done, err
		}
	}
	if first != nil {
		return Replayed{}, first
	}
	return Replayed{}, p.chain.notArchived(p.target, fmt.Errorf("every backup from before it holds later writes as well: %w", errBeyond))
}

// finisher does what a point is put together for: it asks, or saves, the etcd that serves it.
type finisher func(context.Context, *replay) error

// into saves what was put together as a snapshot in a new file.
func into(file string) finisher {
	return func(ctx context.Context, r *replay) error { return r.save(ctx, file) }
}

// unfitError is what is wrong with a base alone, so that another may do. It is lasting if the
// base will be no better when it is tried again.
type unfitError struct {
	error

	lasting bool
}

func (e *unfitError) Unwrap() error { return e.error }

// ofBase makes one of an error that is the base's own.
func ofBase(err error) error {
	switch snapshot.ReasonOf(err) {
	case snapshot.ReasonCorrupt, snapshot.ReasonNotRestorable:
		return &unfitError{err, true}
	case snapshot.ReasonEtcdUnreachable: // it may serve another time
		return &unfitError{err, false}
	default:
		return err
	}
}

// refuse a base for good.
func (p *point) refuse(id string, why error) {
	if p.unfit == nil {
		p.unfit = map[string]error{}
	}
	p.unfit[id] = why
}

func (e *Env) rebuildFrom(ctx context.Context, p *point, m snapshot.Manifest, tools Tools, identities []age.Identity, dir string, finish finisher) (done Replayed, err error) {
	done = Replayed{Base: m.Backup(), Revision: p.revision, Changed: p.changed}
	if err := p.room.forServing(m.Plain.Bytes); err != nil {
		return done, err
	}
	work := filepath.Join(dir, "replay")
	if err := os.Mkdir(work, 0o700); err != nil {
		return done, explainDisk("using "+dir, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	served, held, err := e.serveBase(ctx, m, tools, identities, work)
	if err != nil {
		return done, ofBase(err)
	}
	defer served.stop()
	conn, err := served.dial()
	if err != nil {
		return done, err
	}
	defer conn.Close()
	// The leases are kept until the snapshot is taken.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &replay{Env: e, source: &source{conn: conn}, point: p, manifest: m, base: held, ttl: map[int64]int64{}, alive: map[int64]bool{}}
	if err := r.run(ctx, identities); err != nil {
		return done, err
	}
	done.Revisions, done.UnknownLeases, done.Recipients = r.replayed, r.unknown, r.recipients
	return done, finish(ctx, r)
}

// serveBase has an etcd serve a base, and tells the last revision that it held before.
func (e *Env) serveBase(ctx context.Context, m snapshot.Manifest, tools Tools, identities []age.Identity, work string) (served *server, held int64, err error) {
	base := filepath.Join(work, "base.db")
	if err := e.fetch(ctx, m, identities, base); err != nil {
		return nil, 0, err
	}
	e.Tracker.enter(snapshot.PhaseRestoring, 1, 0)
	if held, err = tools.revisionOf(ctx, base); err != nil {
		return nil, 0, err
	}
	if served, err = newServer(tools, work); err != nil {
		return nil, 0, err
	}
	if err := tools.restore(ctx, base, served.dataDir(), served.as()); err != nil {
		return nil, 0, err
	}
	if err := os.Remove(base); err != nil {
		return nil, 0, explainDisk("using "+work, err)
	}
	return served, held, served.start(ctx)
}

// replay writes what happened on top of a base.
type replay struct {
	*Env
	*source

	point *point
	// manifest of the base.
	manifest snapshot.Manifest
	// base is the last revision that the base held before it was served, at the one that is
	// reached.
	base, at int64
	replayed int64
	keeper   *keeper
	// ttl of leases that are on record; alive says which of them were there at the end of
	// the last whole segment.
	ttl     map[int64]int64
	alive   map[int64]bool
	unknown int
	// recipients of the last segment that was encrypted.
	recipients []string
}

// run leaves the keeper at work.
func (r *replay) run(ctx context.Context, identities []age.Identity) error {
	var err error
	if r.keeper, err = keepAlive(ctx, r.source); err != nil {
		return err
	}
	if r.at, err = r.confirmed(ctx); err != nil {
		return err
	}
	if err := r.asItWas(ctx); err != nil {
		return err
	}
	if r.at > r.point.revision {
		return errBeyond
	}
	if !r.point.target.Time.IsZero() {
		if err := r.hasAuth(ctx, r.point.auth, r.point.revision); err != nil {
			return err
		}
	}
	if err := errors.Join(r.proveBase(ctx), r.makeRoom(ctx)); err != nil {
		return err
	}
	r.Tracker.enter(snapshot.PhaseReplaying, 1, r.point.revision-r.at)
	for r.at < r.point.revision {
		path, err := snapshot.Path(r.point.chain.links, r.at, r.point.revision)
		if err != nil {
			return r.point.chain.notArchived(r.point.target, err)
		}
		if err := r.walk(ctx, path, identities); err != nil {
			return err
		}
	}
	if err := r.settleLeases(ctx); err != nil {
		return err
	}
	if got, err := r.confirmed(ctx); err != nil || got != r.point.revision {
		return errors.Join(err, r.differs("it ends", got, r.point.revision))
	}
	return nil
}

// asItWas refuses a base that has changed since etcd began to serve it: a lease that ran
// out before anybody kept it deletes its keys, in a revision that would be taken for the
// archive's. The last revisions may hold nothing any more if they are compacted.
func (r *replay) asItWas(ctx context.Context) error {
	if r.at == r.base {
		return nil
	}
	compacted, err := r.compactedBefore(ctx, r.at-1)
	if err != nil || (compacted && r.at > r.base) {
		return err
	}
	return &unfitError{r.differs("the base, once it is served, is", r.at, r.base), false}
}

// proveBase compares the base with its manifest, if that is asked for. What differs at the end
// of a replay would leave open whether the base or the archive is to blame. One that can never be
// compared is no base for a proof either.
func (r *replay) proveBase(ctx context.Context) error {
	if !r.point.proven {
		return nil
	}
	_, err := compareBackup(ctx, r.conn, r.manifest)
	if reason := snapshot.ReasonOf(err); reason == snapshot.ReasonDiffers || reason == snapshot.ReasonCompacted {
		return &unfitError{err, true}
	}
	return err
}

// makeRoom takes back the alarm that a cluster without room has raised. A backup holds it,
// and etcd would refuse to replay what was written after room had been made.
func (r *replay) makeRoom(ctx context.Context) error {
	maintenance := pb.NewMaintenanceClient(r.conn)
	raised, err := maintenance.Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_GET})
	if err != nil {
		return explainEtcd(err)
	}
	for _, alarm := range raised.GetAlarms() {
		if alarm.GetAlarm() != pb.AlarmType_NOSPACE {
			continue
		}
		// The alarm is a member's that is not here; it is known by that member's ID.
		off := &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: alarm.GetMemberID(), Alarm: pb.AlarmType_NOSPACE}
		if _, err := maintenance.Alarm(ctx, off); err != nil {
			return explainEtcd(err)
		}
	}
	return nil
}

// walk replays segments. One that is damaged ends it without an error: it is out of the
// chain then, and there may be another way.
func (r *replay) walk(ctx context.Context, path []snapshot.Link, identities []age.Identity) error {
	for _, l := range path {
		s, content, _, err := r.point.chain.read(ctx, l)
		if snapshot.ReasonOf(err) == snapshot.ReasonCorrupt && err != nil {
			r.Log.Warn("A segment is damaged; another way through the archive is looked for", "error", err.Error())
			return nil
		}
		if err != nil {
			return err
		}
		if err := errors.Join(r.point.room.forReplaying(s.Plain.Bytes), r.sameAuth(ctx, s)); err != nil {
			return err
		}
		if err := r.segment(ctx, s, content, identities); err != nil {
			return err
		}
		if len(s.Recipients) > 0 {
			r.recipients = s.Recipients
		}
		if reached := min(s.To, r.point.revision); r.at != reached {
			return r.differs("segment "+l.Name()+" ends", r.at, reached)
		}
	}
	return nil
}

// sameAuth refuses to go on with users and roles of before a change: who has lost a right
// since would have it again.
func (r *replay) sameAuth(ctx context.Context, s snapshot.Segment) error {
	if s.To < r.point.revision {
		return nil // the last segment decides: the revision of users and roles only rises
	}
	if s.Last == "" {
		// It holds the target, so whoever wrote it knew of no such field, and counted the
		// state of users and roles differently.
		return r.point.chain.notArchived(r.point.target, fmt.Errorf("segment %d was written by a version that did not tell whether authentication is on", s.Sequence))
	}
	return r.hasAuth(ctx, s.AuthAfter, s.BaseRevision)
}

// hasAuth asks the base, whose users and roles the replay does not change.
func (r *replay) hasAuth(ctx context.Context, want uint64, since int64) error {
	auth, err := r.authRevision(ctx)
	if err != nil || auth == want {
		return err
	}
	return r.point.chain.notArchived(r.point.target, fmt.Errorf(
		"users or roles have changed between the backup and it, and changes of them are not archived; a backup from after the change, of revision %d or later, has them", since))
}

func (r *replay) segment(ctx context.Context, s snapshot.Segment, content []byte, identities []age.Identity) error {
	return eachRecord(s, content, identities, func(one record) (bool, error) {
		if one.kind != recordRevision {
			return true, r.lease(one, s)
		}
		revision, events, err := one.revision()
		if err != nil || revision <= r.at {
			return true, err
		}
		if revision > r.point.revision {
			return false, nil
		}
		if err := r.apply(ctx, revision, events); err != nil {
			return false, err
		}
		r.Tracker.read(1)
		return true, nil
	})
}

// apply writes one revision, on the condition that each key is what it was then.
func (r *replay) apply(ctx context.Context, revision int64, events []*mvccpb.Event) error {
	if revision != r.at+1 {
		return r.differs("the archive goes on", revision, r.at+1)
	}
	for _, event := range events {
		if err := r.grantFor(ctx, event.GetKv().GetLease()); err != nil {
			return err
		}
	}
	txn := again(events)
	answer, err := pb.NewKVClient(r.conn).Txn(ctx, txn, grpc.MaxCallRecvMsgSize(math.MaxInt32))
	if err != nil {
		return explainEtcd(err)
	}
	if !answer.GetSucceeded() {
		return snapshot.Fail(snapshot.ReasonDiffers, nil,
			"what revision %d changes is not there as it was — the base and the archive do not belong together — restore from another backup", revision)
	}
	if got := answer.GetHeader().GetRevision(); got != revision {
		return r.differs("a write made", got, revision)
	}
	r.at = revision
	r.replayed++
	return nil
}

// again is a transaction that does what the events tell. A key that was put and deleted in
// one revision was so by transactions within one: etcd refuses to do both in a flat one.
func again(events []*mvccpb.Event) *pb.TxnRequest {
	txn, seen, twice := &pb.TxnRequest{}, map[string]bool{}, false
	for _, event := range events {
		kv := event.GetKv()
		deleted, known := event.GetType() == mvccpb.Event_DELETE, seen[string(kv.GetKey())]
		seen[string(kv.GetKey())], twice = true, twice || known
		if !known { // what it was before is asked once, before anything is done
			txn.Compare = append(txn.Compare, asBefore(event)...)
		}
		if deleted {
			txn.Success = append(txn.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: kv.GetKey()}}})
		} else {
			txn.Success = append(txn.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: kv.GetKey(), Value: kv.GetValue(), Lease: kv.GetLease()}}})
		}
	}
	if twice {
		for i, op := range txn.Success {
			txn.Success[i] = &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Success: []*pb.RequestOp{op}}}}
		}
	}
	return txn
}

// asBefore holds if a key is what it was before it was written, or deleted.
func asBefore(event *mvccpb.Event) []*pb.Compare {
	kv := event.GetKv()
	if event.GetType() == mvccpb.Event_DELETE {
		return []*pb.Compare{versionIs(pb.Compare_GREATER, kv, 0)}
	}
	same := []*pb.Compare{versionIs(pb.Compare_EQUAL, kv, kv.GetVersion()-1)}
	if kv.GetVersion() > 1 {
		same = append(same, &pb.Compare{Key: kv.GetKey(), Result: pb.Compare_EQUAL, Target: pb.Compare_CREATE, TargetUnion: &pb.Compare_CreateRevision{CreateRevision: kv.GetCreateRevision()}})
	}
	return same
}

func versionIs(how pb.Compare_CompareResult, kv *mvccpb.KeyValue, version int64) *pb.Compare {
	return &pb.Compare{Key: kv.GetKey(), Result: how, Target: pb.Compare_VERSION, TargetUnion: &pb.Compare_Version{Version: version}}
}

func (r *replay) differs(what string, got, want int64) error {
	if got == want {
		return nil
	}
	return snapshot.Fail(snapshot.ReasonDiffers, nil,
		"%s at revision %d instead of %d — what would be restored is not what was there — restore from another backup", what, got, want)
}

// lease takes a record of a lease. What there was at the end of a segment tells nothing of
// a point within it.
func (r *replay) lease(one record, s snapshot.Segment) error {
	id, ttl, err := one.lease()
	if err != nil {
		return err
	}
	if one.kind == recordGrant {
		r.ttl[id] = ttl
	}
	if s.To <= r.point.revision {
		r.alive[id] = one.kind == recordGrant
	}
	return nil
}

// grantFor makes sure of a lease that a key is about to be attached to.
func (r *replay) grantFor(ctx context.Context, id int64) error {
	if id == 0 || r.keeper.has(id) {
		return nil
	}
	ttl := r.ttl[id]
	if ttl == 0 {
		ttl = unknownTTL
		r.unknown++
		r.alive[id] = false
	}
	return r.grant(ctx, id, ttl)
}

func (r *replay) grant(ctx context.Context, id, ttl int64) error {
	if _, err := pb.NewLeaseClient(r.conn).LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: id, TTL: ttl}); err != nil {
		return explainEtcd(err)
	}
	r.keeper.add(id, ttl)
	return nil
}

// settleLeases grants those that had no key, and revokes those that were gone. One that
// still has keys was not gone, whatever is on record.
func (r *replay) settleLeases(ctx context.Context) error {
	for _, id := range slices.Sorted(maps.Keys(r.alive)) {
		if r.alive[id] && !r.keeper.has(id) {
			if err := r.grant(ctx, id, r.ttl[id]); err != nil {
				return err
			}
		}
		if r.alive[id] || !r.keeper.has(id) {
			continue
		}
		leases := pb.NewLeaseClient(r.conn)
		found, err := leases.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: id, Keys: true})
		if err != nil {
			return explainEtcd(err)
		}
		if len(found.GetKeys()) > 0 {
			continue
		}
		r.keeper.drop(id)
		if _, err := leases.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: id}); err != nil {
			return explainEtcd(err)
		}
	}
	return nil
}

// save writes etcd's snapshot into a new file.
func (r *replay) save(ctx context.Context, path string) error {
	incoming, err := r.open(ctx)
	if err != nil {
		return err
	}
	// What it holds is fixed now; no lease may have run out before.
	if got, err := r.confirmed(ctx); err != nil || got != r.point.revision {
		return errors.Join(err, r.differs("what was replayed, when the snapshot of it is taken, is", got, r.point.revision))
	}
	if err := r.point.room.holds(incoming.total); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return explainDisk("writing "+path, err)
	}
	plain := newSealed()
	_, err = io.CopyBuffer(io.MultiWriter(file, plain), incoming, make([]byte, chunk))
	if err == nil {
		if _, err = plain.finish(); err != nil {
			err = snapshot.Fail(snapshot.ReasonSnapshotBroken, err, "etcd sent a snapshot of what was replayed, and %v — it cannot be restored — see the log of the pod", err)
		}
	}
	return errors.Join(err, file.Sync(), file.Close())
}
