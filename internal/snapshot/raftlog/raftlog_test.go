package raftlog

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// written is a log that is being written, as etcd does.
type written struct {
	content []byte
	sum     uint32
}

func (w *written) put(kind uint64, data []byte) {
	w.sum = crc32.Update(w.sum, castagnoli, data)
	record := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), kind)
	record = protowire.AppendVarint(protowire.AppendTag(record, 2, protowire.VarintType), uint64(w.sum))
	if data != nil {
		record = protowire.AppendBytes(protowire.AppendTag(record, 3, protowire.BytesType), data)
	}
	field, padding := uint64(len(record)), (8-len(record)%8)%8
	if padding > 0 {
		field |= uint64(0x80|padding) << 56
	}
	w.content = binary.LittleEndian.AppendUint64(w.content, field)
	w.content = append(append(w.content, record...), make([]byte, padding)...)
}

func numbers(values ...uint64) (data []byte) {
	for i, v := range values {
		data = protowire.AppendVarint(protowire.AppendTag(data, protowire.Number(i+1), protowire.VarintType), v)
	}
	return data
}

func (w *written) entry(term, index uint64) { w.put(recordEntry, numbers(0, term, index)) }

func (w *written) state(term, vote, commit uint64) { w.put(recordState, numbers(term, vote, commit)) }

func (w *written) snapshot(index, term uint64)        { w.put(recordSnapshot, numbers(index, term)) }
func (w *written) cut(t *testing.T, dir, name string) { w.save(t, dir, name, 0); w.begin() }

// begin a file, with the checksum of what came before.
func (w *written) begin() {
	w.content = nil
	record := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), recordChecksum)
	record = protowire.AppendVarint(protowire.AppendTag(record, 2, protowire.VarintType), uint64(w.sum))
	padding := (8 - len(record)%8) % 8
	field := uint64(len(record))
	if padding > 0 {
		field |= uint64(0x80|padding) << 56
	}
	w.content = binary.LittleEndian.AppendUint64(nil, field)
	w.content = append(append(w.content, record...), make([]byte, padding)...)
}

// save with the zeros that etcd reserves.
func (w *written) save(t *testing.T, dir, name string, zeros int) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, append(w.content, make([]byte, zeros)...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const first, second = "0000000000000000-0000000000000000.wal", "0000000000000001-0000000000000003.wal"

// ofThree has the entries 1 to 4, of which 2 are known to be committed, in two files.
func ofThree(t *testing.T, dir string) *written {
	t.Helper()
	w := &written{}
	w.begin()
	w.put(1, []byte("metadata"))
	w.snapshot(0, 0)
	w.entry(1, 1)
	w.entry(1, 2)
	w.state(1, 7, 1)
	w.cut(t, dir, first)
	w.put(1, []byte("metadata"))
	w.entry(2, 3)
	w.state(2, 7, 2)
	w.entry(2, 4)
	return w
}

// TestCommit: the end of the log is committed, once, and what reads it then finds nothing
// else changed.
func TestCommit(t *testing.T) {
	for name, tc := range map[string]struct {
		more   func(*written)
		spoil  func(content []byte) []byte
		index  uint64
		term   uint64
		commit uint64
	}{
		"whole":                     {nil, nil, 4, 2, 2},
		"an entry is replaced":      {func(w *written) { w.entry(3, 3) }, nil, 3, 3, 2},
		"all is committed":          {func(w *written) { w.state(2, 7, 4) }, nil, 4, 2, 4},
		"a snapshot of its own":     {func(w *written) { w.snapshot(2, 1) }, nil, 4, 2, 2},
		"one that matches":          {func(w *written) { w.snapshot(3, 2) }, nil, 4, 2, 2},
		"one of a leader":           {func(w *written) { w.snapshot(9, 5) }, nil, 9, 5, 9},
		"one that does not match":   {func(w *written) { w.snapshot(4, 3) }, nil, 4, 3, 4},
		"entries after a leader's":  {func(w *written) { w.snapshot(9, 5); w.entry(5, 10) }, nil, 10, 5, 9},
		"the end has not come":      {func(w *written) { w.entry(2, 5) }, func(c []byte) []byte { return c[:len(c)-5] }, 4, 2, 2},
		"the last sector is missed": {bigEntry, func(c []byte) []byte { clear(c[len(c)-600:]); return c }, 4, 2, 2},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			w := ofThree(t, dir)
			if tc.more != nil {
				tc.more(w)
			}
			if tc.spoil != nil {
				w.content = tc.spoil(w.content)
			}
			path := w.save(t, dir, second, 8192)
			if tc.spoil != nil && len(w.content)%8 != 0 {
				path = w.save(t, dir, second, 0)
			}
			end, err := Read(dir)
			if err != nil || end.Index != tc.index || end.Term != tc.term || end.Committed != tc.commit {
				t.Fatalf("Read() = %+v, %v, want term %d, index %d, committed %d", end, err, tc.term, tc.index, tc.commit)
			}
			size := fileSize(t, path)
			if err := end.Commit(); err != nil {
				t.Fatal(err)
			}
			again, err := Read(dir)
			if err != nil || again.Index != tc.index || again.Term != tc.term || again.Committed != tc.index || again.state.vote != 7 {
				t.Errorf("then Read() = %+v, %v", again, err)
			}
			if content, err := os.ReadFile(path); err != nil || slices.ContainsFunc(content[again.valid:], func(b byte) bool { return b != 0 }) {
				t.Errorf("something is left behind the end: %v", err)
			}
			if now := fileSize(t, path); tc.spoil == nil && now != size {
				t.Errorf("the file had %d bytes and has %d", size, now)
			}
			if err := again.Commit(); err != nil {
				t.Errorf("a second time: %v", err)
			}
		})
	}
}

func bigEntry(w *written) {
	data := numbers(0, 2, 5)
	payload := make([]byte, 3000)
	for i := range payload {
		payload[i] = 0xa5
	}
	w.put(recordEntry, protowire.AppendBytes(protowire.AppendTag(data, 4, protowire.BytesType), payload))
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// TestDamage is told, and not taken for the end.
func TestDamage(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, dir string){
		"nothing there": func(*testing.T, string) {},
		"a bit in the first file": func(t *testing.T, dir string) {
			w := ofThree(t, dir)
			w.save(t, dir, second, 64)
			flip(t, filepath.Join(dir, first), 60)
		},
		"a bit in the last file": func(t *testing.T, dir string) {
			flip(t, ofThree(t, dir).save(t, dir, second, 64), 60)
		},
		"the end of the first file": func(t *testing.T, dir string) {
			ofThree(t, dir).save(t, dir, second, 64)
			if err := os.Truncate(filepath.Join(dir, first), 101); err != nil {
				t.Fatal(err)
			}
		},
		"a file between": func(t *testing.T, dir string) {
			w := ofThree(t, dir)
			w.cut(t, dir, second)
			w.entry(2, 5)
			w.save(t, dir, "0000000000000002-0000000000000005.wal", 0)
			if err := os.Remove(filepath.Join(dir, second)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			spoil(t, dir)
			if end, err := Read(dir); !errors.Is(err, ErrDamaged) {
				t.Errorf("Read() = %+v, %v", end, err)
			}
		})
	}
}

func flip(t *testing.T, path string, at int) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content[at] ^= 0x40
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
