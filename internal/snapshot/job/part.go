package job

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// part is one message of etcd's snapshot. The usual codec clears a buffer of 1 MiB for
// each, copies the message into it, and copies the bytes again: a third of the work of a
// backup. Here they stay where they were received.
type part struct {
	// remaining is how many bytes of the database follow this part.
	remaining uint64
	// version is the storage's, empty before etcd 3.6.
	version string
	// bytes is how many there are in blob before what does not belong to it.
	bytes int
	blob  *mem.Reader
}

// Read returns io.EOF at the end of the part.
func (p *part) Read(to []byte) (int, error) {
	if p.bytes == 0 {
		return 0, io.EOF
	}
	n, err := p.blob.Read(to[:min(len(to), p.bytes)])
	p.bytes -= n
	return n, err
}

// release gives the memory back.
func (p *part) release() {
	if p.blob != nil {
		_ = p.blob.Close() // never fails
	}
	p.bytes = 0
}

// Numbers of the fields of pb.SnapshotResponse.
const (
	fieldRemaining = 2
	fieldBlob      = 3
	fieldVersion   = 4
)

var errMalformed = errors.New("a message of the snapshot is malformed")

// decode finds the fields in a message.
func (p *part) decode(message mem.BufferSlice) error {
	at := message.Reader()
	defer at.Close()
	for at.Remaining() > 0 {
		tag, err := binary.ReadUvarint(at)
		if err != nil {
			return errMalformed
		}
		if err := p.field(message, at, tag); err != nil {
			return err
		}
	}
	return nil
}

// field reads what follows a tag.
func (p *part) field(message mem.BufferSlice, at *mem.Reader, tag uint64) error {
	number, kind := protowire.DecodeTag(tag)
	if kind == protowire.Fixed64Type || kind == protowire.Fixed32Type {
		return skip(at, map[protowire.Type]uint64{protowire.Fixed64Type: 8, protowire.Fixed32Type: 4}[kind])
	}
	if kind != protowire.VarintType && kind != protowire.BytesType {
		return errMalformed
	}
	value, err := binary.ReadUvarint(at)
	switch {
	case err != nil:
		return errMalformed
	case kind == protowire.VarintType:
		if number == fieldRemaining {
			p.remaining = value
		}
		return nil
	case value > uint64(at.Remaining()):
		return errMalformed
	case number == fieldBlob:
		p.release()
		p.blob, p.bytes = message.Reader(), int(value) // no more than Remaining, see above
		if err := skip(p.blob, uint64(message.Len()-at.Remaining())); err != nil {
			return err
		}
	case number == fieldVersion && value < 64:
		text := make([]byte, value)
		if _, err := io.ReadFull(at, text); err != nil {
			return errMalformed
		}
		p.version = string(text)
		return nil
	}
	return skip(at, value)
}

func skip(at *mem.Reader, n uint64) error {
	if n > uint64(at.Remaining()) {
		return errMalformed
	}
	if _, err := at.Discard(int(n)); err != nil {
		return errMalformed
	}
	return nil
}

// partCodec decodes parts, and encodes as usual.
type partCodec struct{ encoding.CodecV2 }

func (c partCodec) Unmarshal(message mem.BufferSlice, value any) error {
	p, ok := value.(*part)
	if !ok {
		return fmt.Errorf("decoding a %T", value)
	}
	return p.decode(message)
}

// snapshotOf asks for the snapshot.
func snapshotOf(ctx context.Context, conn *grpc.ClientConn) (parts, error) {
	opened, err := conn.NewStream(ctx, &pb.Maintenance_ServiceDesc.Streams[0], pb.Maintenance_Snapshot_FullMethodName,
		grpc.ForceCodecV2(partCodec{encoding.GetCodecV2(proto.Name)}))
	if err != nil {
		return nil, err
	}
	incoming := &grpc.GenericClientStream[pb.SnapshotRequest, part]{ClientStream: opened}
	if err := incoming.SendMsg(&pb.SnapshotRequest{}); err != nil {
		return nil, err
	}
	return incoming, incoming.CloseSend()
}

// parts are the messages of a snapshot; Recv returns io.EOF after the last.
type parts interface{ Recv() (*part, error) }
