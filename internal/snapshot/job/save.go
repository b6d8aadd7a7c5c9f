package job

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"filippo.io/age"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/internal/snapshot/store"
)

const (
	// chunk is what is read at once, in bytes.
	chunk = 64 << 10
	// stallTimeout is how long nothing may move. etcd hashes meanwhile, and a store
	// puts an upload together, which both take their time.
	stallTimeout = 3 * time.Minute
	// cleanTimeout bounds the removal of what a failed attempt left.
	cleanTimeout = 20 * time.Second
	// uploadsBegun is how far a store's clock may be ahead of ours.
	uploadsBegun = 24 * time.Hour
)

// Env is what every operation works with.
type Env struct {
	Store *store.Store
	Place snapshot.Place
	// Attempts of the whole work, at least 1.
	Attempts int
	// Pause before the second attempt; it doubles.
	Pause time.Duration
	// Stall is how long nothing may move; zero for three minutes.
	Stall time.Duration
	// ReadRate is how many bytes a second of a snapshot are read from the store at most when it
	// is downloaded (storeLeast at least); zero for no limit.
	ReadRate int64
	Tracker  *Tracker
	Log      *slog.Logger
	Now      func() time.Time

	// history is how long a revision can be hashed; zero for keepsHistory.
	history time.Duration
	// look at a disk; nil for the file system's own answer.
	look func(dir string) (disk, error)
}

// Save is what to save.
type Save struct {
	Members Members
	// Name of the backup, UID of its EtcdBackup, and whose backup it is.
	Name, UID          string
	Namespace, Cluster string
	// Rate in bytes per second that are read from etcd, and back from the store (there
	// storeLeast at least); zero for no limit.
	Rate        int64
	Compression snapshot.Compression
	// Recipients to encrypt for, and their names.
	Recipients     []age.Recipient
	RecipientNames []string

	// hashFirst: what is hashed later may be compacted by then.
	hashFirst bool
}

// Save stores a snapshot, reads it back, and writes the manifest last.
func (e *Env) Save(ctx context.Context, s Save) (snapshot.Manifest, error) {
	done, err := e.existing(ctx, s)
	if err != nil || done != nil {
		if done != nil {
			return *done, nil
		}
		return snapshot.Manifest{}, err
	}
	var saved snapshot.Manifest
	s.hashFirst = e.Attempts <= 1
	// left are what failed attempts could not clear away: the store may not have let them.
	var left []string
	err = e.try(ctx, func(ctx context.Context, attempt int) error {
		saved, err = e.saveOnce(ctx, s, attempt)
		s.hashFirst = s.hashFirst || snapshot.ReasonOf(err) == snapshot.ReasonCompacted
		// Whatever failed leaves nothing that could be taken for a backup, and as little as
		// can be of anything else.
		if err != nil && saved.ID != "" {
			left = append(left, saved.ID)
		}
		// The last one first: a store that refuses this one refuses those before it.
		for len(left) > 0 && e.discard(ctx, left[len(left)-1]) {
			left = left[:len(left)-1]
		}
		return err
	})
	if err == nil {
		e.clearOrphans(ctx)
	}
	return saved, err
}

// clearOrphans removes what processes have left that were killed long ago: where no retention
// deletes anything nobody else would, and an upload that was never ended is seen in no listing and
// costs as much as a backup. The backup that was just made is one whatever becomes of it.
func (e *Env) clearOrphans(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, cleanTimeout)
	defer cancel()
	entries, err := e.list(ctx)
	if err != nil {
		e.Log.Warn("What killed processes left is not looked for", "error", err.Error())
		return
	}
	unfinished := slices.DeleteFunc(entries, func(found entry) bool { return found.complete })
	_, warnings := e.orphans(ctx, Prune{OrphansAfter: snapshot.OrphansAfter}, unfinished)
	for _, warning := range warnings {
		e.Log.Warn("What killed processes left stays for now", "error", warning)
	}
}

// try repeats the work until it succeeds, fails for good or has been tried often
// enough. Every attempt is watched for bytes that move, and why one failed is told while the
// next one is waited for.
func (e *Env) try(ctx context.Context, work func(ctx context.Context, attempt int) error) error {
	pause := e.Pause
	var full error
	for attempt := 1; ; attempt++ {
		err := e.watched(ctx, attempt, work)
		if err == nil {
			e.Tracker.succeeded()
			return nil
		}
		if ctx.Err() != nil {
			return interrupted(ctx)
		}
		if snapshot.ReasonOf(err) == snapshot.ReasonNoSpace {
			full = err
		}
		if attempt >= e.Attempts || snapshot.ReasonOf(err).Permanent() {
			return lastWord(full, err)
		}
		e.Log.Warn("Attempt failed", "attempt", attempt, "reason", snapshot.ReasonOf(err), "error", err.Error(), "pause", pause.String())
		e.Tracker.failed(attempt, err, pause)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		e.Tracker.again(attempt + 1)
		pause *= 2
	}
}

// lastWord is what is told of several attempts: a store that is full may answer so,
// or cut the connection while it is still being sent to, which reads like one that
// cannot be reached.
func lastWord(full, err error) error {
	if full != nil && snapshot.ReasonOf(err) == snapshot.ReasonStoreUnreachable {
		return full
	}
	return err
}

func (e *Env) watched(ctx context.Context, attempt int, work func(ctx context.Context, attempt int) error) error {
	ctx, cancel := e.Tracker.watch(ctx, cmp.Or(e.Stall, stallTimeout))
	defer cancel()
	err := work(ctx, attempt)
	if err != nil && errors.Is(context.Cause(ctx), errStalled) {
		return snapshot.Fail(snapshot.ReasonStoreUnreachable, err, "%v: %v — neither etcd nor the store goes on — see which of the two does not answer", context.Cause(ctx), err)
	}
	return err
}

// existing looks at what lies there already: nothing of another cluster's may, and a
// finished backup of this EtcdBackup is not made again, since the process may have
// been killed after the manifest and before its result was read.
func (e *Env) existing(ctx context.Context, s Save) (done *snapshot.Manifest, err error) {
	err = e.try(ctx, func(ctx context.Context, attempt int) (err error) {
		done, err = e.existingOnce(ctx, s, attempt)
		return err
	})
	return done, err
}

func (e *Env) existingOnce(ctx context.Context, s Save, attempt int) (*snapshot.Manifest, error) {
	entries, err := e.list(ctx)
	if err != nil {
		return nil, err
	}
	newest := true
	for _, entry := range slices.Backward(entries) {
		ours := s.UID != "" && strings.HasSuffix(entry.id, "-"+s.Name)
		if !entry.complete || (!newest && !ours) {
			continue
		}
		newest = false
		m, err := e.manifest(ctx, entry.id)
		if ctx.Err() != nil { // what was given up on says nothing of what lies there
			return nil, cmp.Or(err, context.Cause(ctx))
		}
		if snapshot.ReasonOf(err) == snapshot.ReasonForeignPrefix {
			return nil, err
		}
		if err != nil || !ours || m.UID != s.UID {
			continue
		}
		if err := e.readBack(ctx, m, attempt, s.Rate); err != nil {
			if ctx.Err() != nil {
				return nil, err
			}
			e.Log.Warn("A finished backup cannot be read back; another one is made", "id", m.ID, "error", err.Error())
			continue
		}
		return &m, nil
	}
	return nil, nil
}

// saveOnce is one attempt.
func (e *Env) saveOnce(ctx context.Context, s Save, attempt int) (m snapshot.Manifest, err error) {
	e.Tracker.enter(snapshot.PhaseStarting, attempt, 0)
	member, err := s.Members.choose(ctx)
	if err != nil {
		return m, err
	}
	defer member.close()
	revision, keys, err := member.latest(ctx)
	if err != nil {
		return m, err
	}
	began := e.Now().UTC().Truncate(time.Millisecond)
	m = snapshot.Manifest{
		Format: snapshot.Format, ID: snapshot.NewID(revision, began, s.Name), Name: s.Name, UID: s.UID,
		Cluster: snapshot.Cluster{
			UID: e.Place.ClusterUID, ID: strconv.FormatUint(member.status.GetHeader().GetClusterId(), 16), Namespace: s.Namespace, Name: s.Cluster,
		},
		Etcd: snapshot.Etcd{
			Version: member.status.GetVersion(), Member: member.name, Revision: revision, KeyCount: keys,
			RaftTerm: member.status.GetRaftTerm(), RaftIndex: member.status.GetRaftAppliedIndex(),
		},
		Compression: s.Compression, Recipients: s.RecipientNames, Began: began,
	}
	e.Log.Info("Saving", "id", m.ID, "member", member.name, "endpoint", member.endpoint, "revision", revision, "keys", keys)
	if err := e.transfer(ctx, s, member, &m, attempt); err != nil {
		return m, err
	}
	if err := e.readBack(ctx, m, attempt, s.Rate); err != nil {
		return m, err
	}
	m.Ended = e.Now().UTC().Truncate(time.Millisecond)
	return m, e.seal(ctx, &m)
}

// transfer streams the snapshot into the store, and has the same member hash the revision. The
// snapshot was taken before it is hashed, so what is compacted in between a drill can compact too;
// the other way round it could not.
func (e *Env) transfer(ctx context.Context, s Save, member *source, m *snapshot.Manifest, attempt int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	incoming, err := member.open(ctx)
	if err != nil {
		return err
	}
	e.Tracker.enter(snapshot.PhaseSaving, attempt, incoming.total)
	m.Etcd.StorageVersion = incoming.storageVersion
	answer := make(chan outcome, 1)
	ask := sync.OnceFunc(func() {
		go func() {
			h, err := e.hash(ctx, member.conn, m.Etcd.Revision)
			answer <- outcome{h, err}
		}()
	})
	var got outcome
	wait := sync.OnceValue(func() error {
		ask()
		got = e.awaited(answer)
		return got.err
	})
	from := &interrupting{Reader: incoming, due: time.Now().Add(cmp.Or(e.history, keepsHistory)), do: wait}
	switch {
	case s.Rate <= 0:
		// Whoever asks for speed has it, and a longer pause of the member.
		from.do = nil
		ask()
	case s.hashFirst:
		from.due = time.Time{}
	}
	if err := e.upload(ctx, s, incoming, from, m); err != nil {
		return err
	}
	err = wait()
	m.Etcd.HashKV, m.Etcd.CompactRevision = got.hash, got.compacted
	return err
}

// keepsHistory is how long after a revision one can expect that it is not compacted: Kubernetes'
// API server leaves five minutes, and etcd's own compaction what it was told to. 2 GiB, the
// default of etcd's quota, are sent in that at the default rate.
const keepsHistory = 4*time.Minute + 30*time.Second

// interrupting is etcd's stream, which stands still while the member hashes: once it was sent, or
// else when it is due. A member applies nothing while it hashes. That takes a quarter of the time
// if its pages were read in before, at the rate of the snapshot, and twice as long if it sends
// meanwhile (docs/decisions/0033).
type interrupting struct {
	io.Reader

	due time.Time
	do  func() error
}

func (r *interrupting) Read(p []byte) (int, error) {
	if r.do != nil && !time.Now().Before(r.due) {
		if err := r.do(); err != nil {
			return 0, err
		}
		r.do = nil
	}
	n, err := r.Reader.Read(p)
	if err == io.EOF && r.do != nil {
		// Before the store has put the object together, which takes its time as well.
		return n, cmp.Or(r.do(), err)
	}
	return n, err
}

// hashTries of one revision: when they are over, all that was sent was sent in vain.
const hashTries = 3

// hash asks again if the member cannot be reached. One that takes too long goes on hashing,
// whoever has given up, and another hash would only add to that.
func (e *Env) hash(ctx context.Context, conn *grpc.ClientConn, revision int64) (h hashed, err error) {
	for try := 1; ; try++ {
		h, err = hashAt(ctx, conn, revision)
		if try == hashTries || ctx.Err() != nil || status.Code(err) != codes.Unavailable {
			return h, err
		}
		e.Log.Warn("The member did not hash; it is asked again", "revision", revision, "error", err.Error(), "pause", e.Pause.String())
		select {
		case <-ctx.Done():
		case <-time.After(e.Pause):
		}
	}
}

// outcome of hashing.
type outcome struct {
	hashed
	err error
}

// awaited is the outcome. No byte moves while etcd hashes, which has a bound of its own: 8 GiB
// from a slow disk take longer than nothing may move.
func (e *Env) awaited(hash <-chan outcome) outcome {
	alive := time.NewTicker(cmp.Or(e.Stall, stallTimeout) / 4)
	defer alive.Stop()
	for {
		select {
		case got := <-hash:
			return got
		case <-alive.C:
			e.Tracker.read(0)
		}
	}
}

// upload writes the object, and only completes it when etcd's stream was whole.
func (e *Env) upload(ctx context.Context, s Save, incoming *stream, from io.Reader, m *snapshot.Manifest) error {
	object, err := e.Store.Writer(ctx, e.Place.Key(m.ID, snapshot.SnapshotObject), store.Replace)
	if err != nil {
		return err
	}
	plain, stored := newSealed(), newDigest()
	err = e.copy(ctx, s, from, plain, io.MultiWriter(object, stored, writerFunc(e.Tracker.sent)))
	if err == nil {
		m.Plain, err = plain.finish()
		if err != nil || incoming.received != incoming.total+32 {
			err = snapshot.Fail(snapshot.ReasonSnapshotBroken, err,
				"etcd sent %d of %d bytes, and %s — the snapshot cannot be trusted — look at the member and at the way to it", incoming.received, incoming.total+32, checksumIs(err))
		}
	}
	if err != nil {
		object.Abort()
		return err
	}
	m.Stored = stored.content()
	return object.Commit(ctx)
}

func checksumIs(err error) string {
	if err != nil {
		return err.Error()
	}
	return "its checksum matches"
}

type writerFunc func(int)

func (f writerFunc) Write(p []byte) (int, error) {
	f(len(p))
	return len(p), nil
}

// copy moves the snapshot through compression and encryption, at the rate asked for.
func (e *Env) copy(ctx context.Context, s Save, incoming io.Reader, plain, stored io.Writer) error {
	packed, err := pack(stored, s.Compression, s.Recipients)
	if err != nil {
		return err
	}
	incoming = paced(ctx, incoming, s.Rate)
	buffer := make([]byte, chunk)
	for {
		n, err := incoming.Read(buffer)
		if n > 0 {
			e.Tracker.read(n)
			if _, err := plain.Write(buffer[:n]); err != nil {
				return err
			}
			if _, err := packed.Write(buffer[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return packed.Close()
		}
		if err != nil {
			// Only to end the goroutines of a writer whose result nobody wants.
			_ = packed.Close()
			return err
		}
	}
}

// paced reads at most limit bytes a second; zero for no limit.
func paced(ctx context.Context, from io.Reader, limit int64) io.Reader {
	if limit <= 0 {
		return from
	}
	return &pacedReader{ctx: ctx, from: from, limit: rate.NewLimiter(rate.Limit(limit), chunk)}
}

type pacedReader struct {
	ctx   context.Context
	from  io.Reader
	limit *rate.Limiter
}

func (r *pacedReader) Read(p []byte) (int, error) {
	n, err := r.from.Read(p[:min(len(p), r.limit.Burst())])
	if waited := r.limit.WaitN(r.ctx, n); waited != nil && err == nil {
		err = fmt.Errorf("waiting at the rate limit: %w", waited)
	}
	return n, err
}

// storeLeast is what a limit leaves to the store, in bytes per second: etcd has no part in that,
// and at this rate writes hardly take longer than without (docs/decisions/0033). Reading back at a
// lower one would only double the time that a backup takes.
const storeLeast = 16 << 20

// StoreRate is a limit in bytes per second as it holds for what is read from a store, and sent to
// it: 16 MiB at least. Zero is none.
func StoreRate(limit int64) int64 {
	if limit <= 0 {
		return 0
	}
	return max(limit, storeLeast)
}

// readBack reads the object again: a store that says yes may have kept something else, or less.
// A limit in bytes per second holds for it too, but for storeLeast.
func (e *Env) readBack(ctx context.Context, m snapshot.Manifest, attempt int, limit int64) error {
	e.Tracker.enter(snapshot.PhaseReadingBack, attempt, m.Stored.Bytes)
	key := e.Place.Key(m.ID, snapshot.SnapshotObject)
	r, _, err := e.Store.Reader(ctx, key)
	if errors.Is(err, store.ErrNotExist) {
		return snapshot.Fail(snapshot.ReasonCorrupt, err, "%s is not there after it was written — the store lost it — look at the store", key)
	}
	if err != nil {
		return err
	}
	defer r.Close()
	got := newDigest()
	if _, err := io.CopyBuffer(got, e.Tracker.reader(paced(ctx, r, StoreRate(limit))), make([]byte, chunk)); err != nil {
		return err
	}
	if got.content() != m.Stored {
		return damagedObject(key, got.content(), m.Stored)
	}
	return nil
}

func damagedObject(key string, got, want snapshot.Content) error {
	return snapshot.Fail(snapshot.ReasonCorrupt, nil,
		"%s is %d bytes with SHA-256 %.12s… instead of %d with %.12s… — it is not what was written, and cannot be restored — take a new backup, and look at the store",
		key, got.Bytes, got.SHA256, want.Bytes, want.SHA256)
}

// seal writes the manifest, which makes the object a backup, and reads it back.
func (e *Env) seal(ctx context.Context, m *snapshot.Manifest) error {
	content, err := m.Encode()
	if err != nil {
		return err
	}
	key := e.Place.Key(m.ID, snapshot.ManifestObject)
	if err := e.Store.Put(ctx, key, content, store.Create); err != nil {
		return err
	}
	again, err := e.Store.Get(ctx, key, snapshot.MaxManifest)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, content) {
		return snapshot.Fail(snapshot.ReasonCorrupt, nil, "%s is not what was written — the backup could not be found again — look at the store", key)
	}
	return nil
}

// discard removes what a failed attempt left, the manifest first, and says whether all of it
// is gone. It is done even while the process ends, and what it cannot do prune does later.
func (e *Env) discard(ctx context.Context, id string) (gone bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	var err error
	for _, object := range []string{snapshot.ManifestObject, snapshot.SnapshotObject} {
		if err = e.Store.Delete(ctx, e.Place.Key(id, object)); err != nil {
			break
		}
	}
	if err == nil {
		// Whoever writes an object aborts what it began, unless the store does not let it.
		_, err = e.Store.AbortUploads(ctx, e.Place.Key(id, snapshot.SnapshotObject), e.Now().Add(uploadsBegun))
	}
	if err != nil {
		e.Log.Warn("What a failed attempt left stays for now", "id", id, "error", err.Error())
	}
	return err == nil
}
