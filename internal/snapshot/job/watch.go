package job

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/quorate/quorate/internal/snapshot"
)

// change is all that happened to the keys in one revision.
type change struct {
	revision int64
	events   []*mvccpb.Event
}

// sum is the SHA-256 of a change, which is the same however often etcd tells it.
func (c change) sum() (string, error) {
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(&pb.WatchResponse{Events: c.events})
	if err != nil {
		return "", fmt.Errorf("encoding revision %d: %w", c.revision, err)
	}
	return snapshot.ContentOf(encoded).SHA256, nil
}

// errCompacted: etcd has compacted what is asked for.
var errCompacted = errors.New("compacted")

// watch is a stream of changes, in the order of their revisions and without a hole.
type watch struct {
	stream pb.Watch_WatchClient
	// last revision that was handed out, or the one before the first.
	last int64
	// pending may have more events to come in the next message.
	pending change
	ready   []change
}

// watchFrom watches all keys.
func (s *source) watchFrom(ctx context.Context, revision int64) (*watch, error) {
	stream, err := pb.NewWatchClient(s.conn).Watch(ctx, grpc.MaxCallRecvMsgSize(math.MaxInt32))
	if err != nil {
		return nil, explainEtcd(err)
	}
	create := &pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, StartRevision: revision, Fragment: true}
	err = stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}})
	if err != nil {
		return nil, explainEtcd(err)
	}
	return &watch{stream: stream, last: revision - 1}, nil
}

// next waits for the next change. The error is errCompacted if it is gone.
func (w *watch) next() (change, error) {
	for len(w.ready) == 0 {
		r, err := w.stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return change{}, snapshot.Fail(snapshot.ReasonEtcdUnreachable, err, "etcd ended the watch — what is written is not archived — it will be tried again")
		case err != nil:
			return change{}, explainEtcd(err)
		case r.GetCanceled() && r.GetCompactRevision() > 0:
			return change{}, fmt.Errorf("%w up to revision %d", errCompacted, r.GetCompactRevision())
		case r.GetCanceled():
			return change{}, snapshot.Fail(snapshot.ReasonEtcdDenied, nil,
				"etcd refuses the watch: %s — what is written is not archived — use a certificate whose common name is root's", r.GetCancelReason())
		}
		if err := w.take(r); err != nil {
			return change{}, err
		}
	}
	c := w.ready[0]
	w.ready = w.ready[1:]
	return c, nil
}

// take sorts a message's events into changes. Only a fragment may end within a revision.
func (w *watch) take(r *pb.WatchResponse) error {
	for _, event := range r.GetEvents() {
		revision := event.GetKv().GetModRevision()
		if revision != w.pending.revision {
			w.finish()
			if revision != w.last+1 {
				return snapshot.Fail(snapshot.ReasonSnapshotBroken, nil,
					"etcd's watch goes from revision %d to %d — a write between them would be missing — it will be tried again from where it was whole", w.last, revision)
			}
			w.pending.revision, w.last = revision, revision
		}
		w.pending.events = append(w.pending.events, event)
	}
	if !r.GetFragment() {
		w.finish()
	}
	return nil
}

func (w *watch) finish() {
	if len(w.pending.events) > 0 {
		w.ready = append(w.ready, w.pending)
	}
	w.pending = change{}
}
