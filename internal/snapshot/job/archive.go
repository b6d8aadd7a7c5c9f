package job

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"filippo.io/age"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/internal/snapshot/store"
)

const (
	// beat is how often a majority is asked for the latest revision.
	beat = 500 * time.Millisecond
	// maxPause between two sessions with etcd.
	maxPause = 30 * time.Second
	// basePause between two attempts to take a base.
	basePause = 10 * time.Second
	// renewPause between two attempts to take a base in place of one that serves.
	renewPause = time.Minute
	// baseCheck is how often it is looked whether the base is still there: retention, or
	// somebody, may have deleted it.
	baseCheck = 5 * time.Minute
	// trailCheck is how often it is looked whether all segments since the base are there,
	// which takes a listing of all of them.
	trailCheck = time.Hour
	// watchStall is how long the watch may tell nothing of what a majority confirmed.
	watchStall = 30 * time.Second
	// authEvery is how often an idle cluster is asked whether its users or roles have
	// changed: etcd answers through its log.
	authEvery = 15 * time.Second
	// ArchiveBase is the name of the backups that an archiver takes as bases.
	ArchiveBase = "archive"
)

// Archive is what to archive.
type Archive struct {
	Members            Members
	Namespace, Cluster string
	// SealEvery is how long writes are gathered for one segment.
	SealEvery time.Duration
	// IdleEvery is how often a cluster that is not written to gets a segment that says
	// until when nothing was.
	IdleEvery time.Duration
	// BaseEvery is how old the newest base that it took by itself may be before another is
	// taken; zero takes one only when there is no backup that serves as one.
	BaseEvery time.Duration
	// Rate in bytes per second at which a base is read from etcd; zero for no limit.
	Rate        int64
	Compression snapshot.Compression
	// Recipients to encrypt for, and their names.
	Recipients     []age.Recipient
	RecipientNames []string
}

// Archive writes down whatever happens to the keys, until ctx ends. It returns an error
// only when another try fails as well, or when another process writes the same archive.
func (e *Env) Archive(ctx context.Context, a Archive) (snapshot.ArchiveProgress, error) {
	w := &archiver{Env: e, Archive: a, want: make(chan snapshot.Segment, 1), based: make(chan foundBase, 1)}
	go w.bases(ctx)
	pause := e.Pause
	for {
		began := e.Now()
		err := w.session(ctx)
		if ctx.Err() != nil {
			if err != nil {
				e.Log.Warn("What was read last is not stored; the next process reads it again", "error", err.Error())
			}
			return w.progress, nil
		}
		if reason := snapshot.ReasonOf(err); reason.Permanent() || reason == snapshot.ReasonArchiveTaken {
			return w.progress, err
		}
		if e.Now().Sub(began) > maxPause {
			pause = e.Pause
		}
		e.Log.Warn("The archive pauses", "reason", snapshot.ReasonOf(err), "error", err.Error(), "pause", pause.String())
		w.progress.Trouble = snapshot.TroubleOf(Explain(err))
		w.Tracker.archived(w.progress)
		select {
		case <-ctx.Done():
			return w.progress, nil
		case <-time.After(pause):
		}
		pause = min(2*pause, maxPause)
	}
}

// archiver is a process that archives.
type archiver struct {
	*Env
	Archive

	progress snapshot.ArchiveProgress
	// want is sent a segment whose base is to be looked for. based tells what was found.
	want  chan snapshot.Segment
	based chan foundBase
	// satisfied is the BaseSince that a base is known for, checked is when it was asked for.
	satisfied, checked time.Time
	// trailed is when all segments since the base were looked for, outlived when another base
	// could not be taken in place of an old one. Only bases knows them.
	trailed, outlived time.Time
}

// session is one connection to a member.
type session struct {
	*archiver

	member *source
	chain  *chain
	// tip is the last segment, sum its SHA-256; nil before the first.
	tip *snapshot.Segment
	sum string
	// next is what becomes the next segment; its Sequence, From and Previous are set.
	next    snapshot.Segment
	records []byte
	// last revision that is in records, or in the tip; final is that change, if it is in
	// records.
	last  int64
	final change
	// at is when the last change was received; it never goes back.
	at time.Time
	// mark is the latest revision that a majority confirmed, and when it was asked.
	mark struct {
		revision int64
		at       time.Time
	}
	// firstAt is when the first of records was received.
	firstAt time.Time
	// leases are on record, used are those of records.
	leases, used map[int64]bool
	// authAt is when an idle cluster was last asked for its users and roles.
	authAt time.Time
}

// session archives until something fails.
func (w *archiver) session(ctx context.Context) error {
	w.Tracker.enter(snapshot.PhaseArchiving, 1, 0)
	if !w.progress.Until.IsZero() || w.progress.Trouble != nil {
		w.Tracker.archived(w.progress)
	}
	member, err := w.Members.choose(ctx)
	if err != nil {
		return err
	}
	defer member.close()
	s := &session{archiver: w, member: member, leases: map[int64]bool{}, used: map[int64]bool{}}
	if err := s.resume(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes, failed, err := s.follow(ctx)
	if err != nil {
		return err
	}
	s.tell()
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return s.farewell(ctx)
		case c := <-changes:
			err = s.add(ctx, c)
		case err = <-failed:
		case found := <-w.based:
			s.hasBase(found)
		case <-ticker.C:
			err = s.beat(ctx)
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// resume finds out what has been archived, and where to go on.
func (s *session) resume(ctx context.Context) error {
	clusterID := strconv.FormatUint(s.member.status.GetHeader().GetClusterId(), 16)
	var err error
	if s.chain, s.tip, s.sum, err = s.endOf(ctx, clusterID); err != nil {
		return err
	}
	s.Tracker.succeeded() // a directory tells of no request
	if s.progress.Gap == nil {
		s.progress.Gap = s.chain.gap
	}
	auth, err := s.member.authRevision(ctx)
	if err != nil {
		return err
	}
	now := s.Now().UTC().Truncate(time.Millisecond)
	latest, err := s.member.confirmed(ctx)
	if err != nil {
		return err
	}
	s.next = snapshot.Segment{
		Format: snapshot.Format, Sequence: 1, AuthBefore: auth,
		Cluster: snapshot.Cluster{UID: s.Place.ClusterUID, ID: clusterID, Namespace: s.Namespace, Name: s.Cluster},
	}
	if s.tip == nil {
		gap := snapshot.Gap{From: 1, To: latest, Reason: snapshot.GapBegan}
		lost, err := s.lostBefore(ctx, clusterID, latest)
		if err != nil {
			return err
		}
		if lost != nil {
			gap, s.progress.Lost = *lost, lost
		}
		s.begin(gap, now)
		return nil
	}
	if latest < s.tip.To {
		return snapshot.Fail(snapshot.ReasonWrongCluster, nil,
			"the cluster is at revision %d and its archive at %d — it has gone back in time, and two histories would be mixed — archive under another prefix, and find out what happened to it", latest, s.tip.To)
	}
	s.after(*s.tip, s.sum)
	s.progress.Until = s.tip.Ended
	return nil
}

// begin starts anew behind a gap.
func (s *session) begin(gap snapshot.Gap, now time.Time) {
	s.next.From, s.next.Gap, s.next.Began = gap.To+1, &gap, now
	s.next.BaseRevision, s.next.BaseSince, s.next.Last = gap.To, now, ""
	s.last, s.at = gap.To, now
	s.mark.revision, s.mark.at = gap.To, now
	s.Log.Info("The archive has a gap", "from", gap.From, "to", gap.To, "reason", gap.Reason)
}

// after makes the next segment follow one that is stored.
func (s *session) after(tip snapshot.Segment, sum string) {
	s.next.Sequence, s.next.From, s.next.Previous, s.next.Gap = tip.Sequence+1, tip.To+1, sum, nil
	s.next.Began, s.next.AuthBefore = tip.Ended, tip.AuthAfter
	s.next.BaseRevision, s.next.BaseSince, s.next.Last = tip.BaseRevision, tip.BaseSince, tip.Last
	s.last, s.final = tip.To, change{}
	if tip.Ended.After(s.at) {
		s.at = tip.Ended
	}
	s.mark.revision, s.mark.at = tip.To, tip.Ended
	s.records, s.used = s.records[:0], map[int64]bool{}
}

// follow watches from where the archive ends. If etcd has compacted that, the gap is put
// on record, and the watch begins behind it.
func (s *session) follow(ctx context.Context) (<-chan change, <-chan error, error) {
	opened, err := s.recall(ctx)
	if errors.Is(err, errCompacted) {
		now := s.Now().UTC().Truncate(time.Millisecond)
		if now.Before(s.next.Began) {
			now = s.next.Began
		}
		latest, askErr := s.member.confirmed(ctx)
		if askErr != nil {
			return nil, nil, askErr
		}
		s.Log.Warn("etcd compacted what was not archived yet", "error", err.Error())
		gap := snapshot.Gap{From: s.next.From, To: latest, Reason: snapshot.GapCompacted}
		if s.next.Gap != nil {
			gap.From, gap.Reason = s.next.Gap.From, s.next.Gap.Reason
		}
		s.begin(gap, now)
		opened, err = s.open(ctx, s.next.From)
	}
	if err != nil {
		return nil, nil, err
	}
	changes, failed := make(chan change, 64), make(chan error, 1)
	go func() {
		for {
			c, err := opened.next()
			if err != nil {
				failed <- err
				return
			}
			select {
			case changes <- c:
			case <-ctx.Done():
				return
			}
		}
	}()
	return changes, failed, nil
}

// recall watches from where the archive ends, and first lets etcd tell the last archived
// change again. A cluster whose volumes were rolled back in place keeps its ID, and may be
// past that revision when the archiver comes back, with other writes.
func (s *session) recall(ctx context.Context) (*watch, error) {
	if s.next.Last == "" {
		return s.open(ctx, s.next.From)
	}
	opened, err := s.open(ctx, s.next.From-1)
	if err != nil {
		return nil, err
	}
	type answer struct {
		change change
		err    error
	}
	told := make(chan answer, 1)
	go func() {
		c, err := opened.next()
		told <- answer{c, err}
	}()
	var again answer
	select {
	case again = <-told:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-time.After(watchStall):
		return nil, snapshot.Fail(snapshot.ReasonEtcdUnreachable, nil,
			"etcd has not told revision %d again for %s — it is not known whether the cluster is the one that was archived — it will be tried again", s.next.From-1, watchStall)
	}
	if again.err != nil {
		return nil, again.err
	}
	sum, err := again.change.sum()
	if err != nil {
		return nil, err
	}
	if sum != s.next.Last {
		return nil, snapshot.Fail(snapshot.ReasonWrongCluster, nil,
			"revision %d of the cluster is not what its archive ends with — it has gone back in time and written anew, and two histories would be mixed — archive under another prefix, and find out what happened to it", s.next.From-1)
	}
	return opened, nil
}

// open returns once etcd has accepted the watch, or has told that it is too late: a
// watch that is created and compacted at once is told so by its next message.
func (s *session) open(ctx context.Context, from int64) (*watch, error) {
	opened, err := s.member.watchFrom(ctx, from)
	if err != nil {
		return nil, err
	}
	compacted, err := s.member.compactedBefore(ctx, from)
	if err != nil {
		return nil, err
	}
	if compacted {
		return nil, fmt.Errorf("%w before revision %d", errCompacted, from)
	}
	return opened, nil
}

// add takes a change into the next segment.
func (s *session) add(ctx context.Context, c change) error {
	if now := s.Now().UTC().Truncate(time.Millisecond); now.After(s.at) {
		s.at = now
	}
	if len(s.records) == 0 {
		s.firstAt = s.at
	}
	message := &pb.WatchResponse{Header: &pb.ResponseHeader{Revision: c.revision}, Events: c.events}
	var err error
	if s.records, err = appendRecord(s.records, recordRevision, s.at, message); err != nil {
		return err
	}
	for _, event := range c.events {
		if lease := event.GetKv().GetLease(); lease != 0 {
			s.used[lease] = true
		}
	}
	s.last, s.final = c.revision, c
	s.Tracker.read(len(s.records))
	if len(s.records) < snapshot.MaxSegmentContent {
		return nil
	}
	return s.seal(ctx)
}

// beat asks a majority for the latest revision, and seals what is due. A member that is
// cut off from the others would go on to say that there is nothing new.
func (s *session) beat(ctx context.Context) error {
	if s.last >= s.mark.revision {
		// Before the next mark, which a cluster that is written to is always behind.
		due, err := s.due(ctx)
		if err != nil {
			return err
		}
		if due {
			return s.seal(ctx)
		}
		asked := s.Now().UTC().Truncate(time.Millisecond)
		latest, err := s.member.confirmed(ctx)
		if err != nil {
			return err
		}
		if asked.After(s.mark.at) {
			s.mark.revision, s.mark.at = latest, asked
		}
	}
	if s.last < s.mark.revision {
		if now := s.Now(); now.Sub(s.mark.at) > watchStall && now.Sub(s.at) > watchStall {
			return snapshot.Fail(snapshot.ReasonEtcdUnreachable, nil,
				"etcd's watch has told nothing after revision %d for %s, and the cluster is at %d — what is written is not archived — it will be tried again", s.last, watchStall, s.mark.revision)
		}
		return nil // it is on its way
	}
	if len(s.records) == 0 {
		s.progress.Until, s.progress.Trouble = s.mark.at, nil
		s.tell()
	}
	return nil
}

// due says whether a segment is to be sealed: writes have waited long enough, a gap is to
// be put on record, users or roles have changed, another base is wanted, which the next
// process has to know, or nothing was written for long.
func (s *session) due(ctx context.Context) (bool, error) {
	now := s.Now()
	written := len(s.records) > 0 && now.Sub(s.firstAt) >= s.SealEvery
	rebased := s.tip != nil && !s.next.BaseSince.Equal(s.tip.BaseSince)
	if written || rebased || s.next.Gap != nil || s.mark.at.Sub(s.next.Began) >= s.IdleEvery {
		return true, nil
	}
	if now.Sub(s.authAt) < authEvery {
		return false, nil
	}
	s.authAt = now
	auth, err := s.member.authRevision(ctx)
	return auth != s.next.AuthBefore, err
}

// tell publishes how far it is. A base is taken once there is a segment, so that one without
// any tells that segments are gone.
func (s *session) tell() {
	s.progress.BaseMissing = !s.satisfied.Equal(s.next.BaseSince)
	// A store that did not answer is asked again soon: when nothing is written, nothing else would
	// find out that it does.
	doubtful := s.Tracker.Progress().Trouble != nil
	if now := s.Now(); s.next.Previous != "" && (s.progress.BaseMissing || now.Sub(s.checked) >= baseCheck || doubtful && now.Sub(s.checked) >= basePause) {
		select {
		case s.want <- s.next:
			s.checked = now
		default: // one is being taken
		}
	}
	s.progress.Revision = s.next.From - 1
	s.Tracker.archived(s.progress)
}

// farewell stores what is left when the process is told to end.
func (s *session) farewell(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	if len(s.records) == 0 {
		return nil
	}
	return s.seal(ctx)
}

// seal stores what was gathered as one segment.
func (s *session) seal(ctx context.Context) error {
	leases, err := s.leaseRecords(ctx)
	if err != nil {
		return err
	}
	auth, err := s.member.authRevision(ctx)
	if err != nil {
		return err
	}
	next := s.next
	next.To, next.AuthAfter, next.Ended = s.last, auth, next.Began
	if len(s.final.events) > 0 {
		if next.Last, err = s.final.sum(); err != nil {
			return err
		}
	}
	if s.last >= s.mark.revision && s.mark.at.After(next.Ended) {
		next.Ended = s.mark.at
	}
	if auth < next.AuthBefore {
		return snapshot.Fail(snapshot.ReasonWrongCluster, nil,
			"the users and roles of the cluster are in state %d and those of its archive in the later %d — it has gone back in time, and two histories would be mixed — archive under another prefix, and find out what happened to it", auth, next.AuthBefore)
	}
	if auth != next.AuthBefore {
		next.BaseRevision, next.BaseSince = next.To, s.Now().UTC().Truncate(time.Millisecond)
		s.Log.Info("Users or roles have changed, which takes a new base", "revision", next.To)
	}
	object, err := s.object(&next, append(leases, s.records...))
	if err != nil {
		return err
	}
	if err := s.store(ctx, next, object); err != nil {
		return err
	}
	s.progress.Segments++
	if next.Gap != nil {
		s.progress.Gaps++
		if next.Gap.Reason == snapshot.GapCompacted {
			s.progress.Gap = next.Gap
		}
	}
	s.tip, s.sum = &next, snapshot.ContentOf(object).SHA256
	s.after(next, s.sum)
	s.progress.Until, s.progress.Trouble = next.Ended, nil
	s.tell()
	return nil
}

// object compresses, encrypts and encodes.
func (s *session) object(next *snapshot.Segment, content []byte) ([]byte, error) {
	next.Compression, next.Recipients, next.Plain = s.Compression, s.RecipientNames, snapshot.ContentOf(content)
	var packed bytes.Buffer
	p, err := pack(&packed, s.Compression, s.Recipients)
	if err != nil {
		return nil, err
	}
	_, err = p.Write(content)
	if err := errors.Join(err, p.Close()); err != nil {
		return nil, fmt.Errorf("packing a segment: %w", err)
	}
	next.Stored = snapshot.ContentOf(packed.Bytes())
	return next.Encode(packed.Bytes())
}

// store writes the object, reads it back, and looks whether anybody else writes. The
// object's name holds its hash, so a write whose outcome is not known can be repeated,
// and two processes never overwrite each other.
func (s *session) store(ctx context.Context, next snapshot.Segment, object []byte) error {
	l := snapshot.LinkOf(next, object)
	key := s.chain.key(l)
	err := s.try(ctx, func(ctx context.Context, _ int) error {
		if err := s.Store.Put(ctx, key, object, store.Replace); err != nil {
			return err
		}
		again, err := s.Store.Get(ctx, key, int64(len(object)))
		if err != nil {
			return err
		}
		if !bytes.Equal(again, object) {
			return snapshot.Fail(snapshot.ReasonCorrupt, nil, "%s is not what was written — it could not be restored — it will be tried again", key)
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.Tracker.sent(len(object))
	return s.alone(ctx, l)
}

// alone fails if there is another segment of the same number, on whichever branch, that
// was not there when this session began: two archivers that have parted do not meet again.
func (s *session) alone(ctx context.Context, l snapshot.Link) error {
	objects, err := s.Store.List(ctx, s.Place.ArchiveDirectory(s.chain.clusterID)+snapshot.SequencePrefix(l.Sequence))
	if err != nil {
		return err
	}
	for _, o := range objects {
		_, other, ok := s.Place.ParseSegment(o.Key)
		if ok && other != l && !slices.Contains(s.chain.passed, other) && !slices.Contains(s.chain.links, other) {
			return snapshot.Fail(snapshot.ReasonArchiveTaken, nil,
				"another process has written segment %d of this archive — two of them cost twice, and neither knows what is missing — run one archiver for a cluster", l.Sequence)
		}
	}
	return nil
}
