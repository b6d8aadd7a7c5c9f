package job

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// The content of a segment is a sequence of records: a kind, the milliseconds since 1970
// when it was received, and a length, each an unsigned varint; then a message of etcd's
// own protocol.
const (
	// recordRevision is a WatchResponse with all events of one revision, in their order.
	recordRevision = 1
	// recordGrant is a LeaseGrantRequest: such a lease was there, with such a time to live.
	recordGrant = 2
	// recordRevoke is a LeaseRevokeRequest: the lease was not there any more.
	recordRevoke = 3
)

// maxRecord bounds what is believed of a length, in bytes. etcd takes no request of a
// tenth of it, but deleting a range may be many events.
const maxRecord = 1 << 30

var errNotRecords = errors.New("the content is not a sequence of records")

// record is one of a segment's.
type record struct {
	kind    uint64
	at      time.Time
	message []byte
}

func appendRecord(content []byte, kind uint64, at time.Time, message proto.Message) ([]byte, error) {
	encoded, err := proto.Marshal(message)
	if err != nil {
		return content, fmt.Errorf("encoding a record: %w", err)
	}
	content = binary.AppendUvarint(content, kind)
	content = binary.AppendUvarint(content, uint64(at.UnixMilli()))
	content = binary.AppendUvarint(content, uint64(len(encoded)))
	return append(content, encoded...), nil
}

// readRecord returns io.EOF at the end.
func readRecord(content *bufio.Reader) (record, error) {
	kind, err := binary.ReadUvarint(content)
	if errors.Is(err, io.EOF) {
		return record{}, io.EOF
	}
	at, errAt := binary.ReadUvarint(content)
	size, errSize := binary.ReadUvarint(content)
	if err != nil || errAt != nil || errSize != nil || size > maxRecord {
		return record{}, errNotRecords
	}
	r := record{kind: kind, at: time.UnixMilli(int64(at)).UTC()}
	if r.message, err = readMessage(content, int(size)); err != nil {
		return record{}, errNotRecords
	}
	return r, nil
}

// readMessage reads so many bytes in pieces, each as long as all before it: memory is taken for
// what has come and as much again. A length is a few bytes, which may be damaged or forged.
func readMessage(content io.Reader, size int) ([]byte, error) {
	message := make([]byte, 0, min(size, chunk))
	for len(message) < size {
		piece := min(size-len(message), max(len(message), chunk))
		message = slices.Grow(message, piece)[:len(message)+piece]
		if _, err := io.ReadFull(content, message[len(message)-piece:]); err != nil {
			return nil, err
		}
	}
	return message, nil
}

// revision of the record, with its events.
func (r record) revision() (int64, []*mvccpb.Event, error) {
	var w pb.WatchResponse
	if err := proto.Unmarshal(r.message, &w); err != nil || len(w.GetEvents()) == 0 {
		return 0, nil, errNotRecords
	}
	return w.GetHeader().GetRevision(), w.GetEvents(), nil
}

// lease of the record, and the time to live that it was granted, in seconds.
func (r record) lease() (id, ttl int64, err error) {
	switch r.kind {
	case recordGrant:
		var g pb.LeaseGrantRequest
		err = proto.Unmarshal(r.message, &g)
		return g.GetID(), g.GetTTL(), err
	case recordRevoke:
		var g pb.LeaseRevokeRequest
		err = proto.Unmarshal(r.message, &g)
		return g.GetID(), 0, err
	default:
		return 0, 0, errNotRecords
	}
}
