package job

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"slices"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/quorate/quorate/internal/snapshot"
)

// packed is an object as somebody else might put it into the bucket: the manifest says what is
// stored, and of what it unpacks to what it likes.
func packed(t *testing.T, content io.Reader) []byte {
	t.Helper()
	var object bytes.Buffer
	p, err := pack(&object, snapshot.CompressionZstd, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(p, content); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	return object.Bytes()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// counted is a disk.
type counted struct{ bytes int64 }

func (c *counted) Write(p []byte) (int, error) { c.bytes += int64(len(p)); return len(p), nil }

// A kilobyte may unpack to a terabyte, in a member's volume or on a node. Nothing is written
// but what the manifest says, and a byte more.
func TestRecordsOfABombAreNotWritten(t *testing.T) {
	for name, behind := range map[string]int64{"a byte more": 1, "much more": 64 << 20} {
		e, _ := newEnv(t)
		content := fake(1)
		m := snapshot.Manifest{ID: "bomb", Compression: snapshot.CompressionZstd, Plain: snapshot.ContentOf(content)}
		object := packed(t, io.MultiReader(bytes.NewReader(content), io.LimitReader(zeros{}, behind)))
		m.Stored = snapshot.ContentOf(object)
		disk := &counted{}
		if err := e.decode(bytes.NewReader(object), m, nil, "bomb/snapshot", disk); snapshot.ReasonOf(err) != snapshot.ReasonCorrupt {
			t.Errorf("%s: %v, want Corrupt", name, err)
		}
		if disk.bytes > m.Plain.Bytes+1 {
			t.Errorf("%s: %d bytes were written, and the manifest says %d", name, disk.bytes, m.Plain.Bytes)
		}
	}
}

// The same for segments, whose records are replayed while they are unpacked.
func TestRecordsBeyondTheSegmentAreNotReplayed(t *testing.T) {
	var content []byte
	var err error
	for id := range int64(3) {
		if content, err = appendRecord(content, recordGrant, time.Now(), &pb.LeaseGrantRequest{ID: id + 1, TTL: 60}); err != nil {
			t.Fatal(err)
		}
	}
	s := snapshot.Segment{Sequence: 1, Compression: snapshot.CompressionZstd, Plain: snapshot.ContentOf(content)}
	read := func(object []byte) (records int, err error) {
		err = eachRecord(s, object, nil, func(record) (bool, error) { records++; return true, nil })
		return records, err
	}
	if n, err := read(packed(t, bytes.NewReader(content))); n != 3 || err != nil {
		t.Fatalf("%d records, %v", n, err)
	}
	n, err := read(packed(t, bytes.NewReader(bytes.Repeat(content, 1000))))
	if n != 3 || snapshot.ReasonOf(err) != snapshot.ReasonCorrupt {
		t.Errorf("%d records of 3, %v", n, err)
	}
}

// A length is a few bytes, and what it promises need not be there: whoever reads it takes
// memory for what comes, and no more.
func TestRecordsTakeNoMemoryForWhatIsNotThere(t *testing.T) {
	const there, most = 3 << 20, 16 << 20
	head := binary.AppendUvarint(binary.AppendUvarint(nil, recordRevision), 1)
	for name, tc := range map[string]struct {
		size uint64
		want error
	}{
		"all of it is there":      {there, nil},
		"a part of it is there":   {1 << 28, errNotRecords},
		"more than a record is":   {maxRecord + 1, errNotRecords},
		"more than a number is":   {1 << 63, errNotRecords},
		"nothing of it is needed": {0, nil},
	} {
		content := bufio.NewReader(io.MultiReader(bytes.NewReader(binary.AppendUvarint(slices.Clone(head), tc.size)), io.LimitReader(zeros{}, there)))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r, err := readRecord(content)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, tc.want) || (err == nil && uint64(len(r.message)) != tc.size) {
			t.Errorf("%s: %d bytes, %v", name, len(r.message), err)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > most {
			t.Errorf("%s: %d bytes of memory were taken", name, took)
		}
	}
}
