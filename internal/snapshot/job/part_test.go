package job

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// scattered is a message as gRPC receives it: in pieces of any size.
func scattered(random *rand.Rand, message []byte) mem.BufferSlice {
	var pieces mem.BufferSlice
	for len(message) > 0 {
		n := min(len(message), 1+random.IntN(9))
		pieces, message = append(pieces, mem.SliceBuffer(message[:n])), message[n:]
	}
	return pieces
}

func randomResponse(random *rand.Rand) *pb.SnapshotResponse {
	r := &pb.SnapshotResponse{RemainingBytes: random.Uint64() >> random.IntN(65), Blob: make([]byte, random.IntN(400))}
	for i := range r.Blob {
		r.Blob[i] = byte(random.Uint32())
	}
	if random.IntN(2) == 0 {
		r.Header = &pb.ResponseHeader{ClusterId: random.Uint64(), MemberId: 1, Revision: 7}
	}
	if random.IntN(2) == 0 {
		r.Version = "3.6.0"
	}
	return r
}

// What is read of a message is what the usual codec reads, however it was received.
func TestPartsAreWhatWasSent(t *testing.T) {
	for seed := range uint64(2000) {
		random := rand.New(rand.NewPCG(seed, 1))
		sent := randomResponse(random)
		message, err := proto.Marshal(sent)
		if err != nil {
			t.Fatal(err)
		}
		// A field of a later etcd, of each kind that there is.
		message = append(message, [][]byte{nil, {0x78, 0x05}, {0x79, 1, 2, 3, 4, 5, 6, 7, 8}, {0x7a, 2, 'h', 'i'}, {0x7d, 1, 2, 3, 4}}[random.IntN(5)]...)
		var p part
		if err := (partCodec{}).Unmarshal(scattered(random, message), &p); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if p.remaining != sent.GetRemainingBytes() || p.version != sent.GetVersion() || p.bytes != len(sent.GetBlob()) {
			t.Fatalf("seed %d: %d remaining, version %q, %d bytes", seed, p.remaining, p.version, p.bytes)
		}
		if got, err := io.ReadAll(iotest.OneByteReader(&p)); err != nil || !bytes.Equal(got, sent.GetBlob()) {
			t.Fatalf("seed %d: other bytes (%v)", seed, err)
		}
	}
}

// A message that was cut or changed gives an error or other bytes, which the checksum
// finds, and never more than there are.
func TestABrokenPartIsSurvived(t *testing.T) {
	for seed := range uint64(5000) {
		random := rand.New(rand.NewPCG(seed, 2))
		message, err := proto.Marshal(randomResponse(random))
		if err != nil {
			t.Fatal(err)
		}
		if len(message) == 0 {
			continue
		}
		message = message[:1+random.IntN(len(message))]
		message[random.IntN(len(message))] ^= byte(1 << random.IntN(8))
		var p part
		if p.decode(scattered(random, message)) != nil {
			continue
		}
		if got, err := io.ReadAll(&p); err != nil || len(got) > len(message) {
			t.Fatalf("seed %d: %d bytes of a message of %d (%v)", seed, len(got), len(message), err)
		}
	}
}
