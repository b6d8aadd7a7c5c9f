// Package raftlog reads the end of etcd's write-ahead log, of etcd 3.5 to 3.7, and marks all
// of it as committed. etcd's own package for it brings half of the server along; the format
// has been the same since 3.0.
package raftlog

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// The types of records.
const (
	recordEntry    = 2
	recordState    = 3
	recordChecksum = 4
	recordSnapshot = 5
)

const (
	// frame is the length of a record's length, in bytes.
	frame = 8
	// sector is what a disk writes as a whole: a record whose end a crash has lost has one
	// of nothing but zeros.
	sector = 512
	// maxRecord bounds what is believed of a length. etcd takes no request of a tenth of it.
	maxRecord = 1 << 30
)

// ErrDamaged is of a log that etcd would not read either.
var ErrDamaged = errors.New("the write-ahead log is damaged")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// End is where a log ends.
type End struct {
	// Term and Index of the last entry.
	Term, Index uint64
	// Committed is the index up to which the log itself says that it is committed.
	Committed uint64

	state state
	last  string
	// valid is how much of the last file is whole records, and sum their checksum.
	valid int64
	sum   uint32
}

// state is raft's hard state.
type state struct{ term, vote, commit uint64 }

// run are entries of one term, from an index on.
type run struct{ from, term uint64 }

// log is what has been read of one.
type log struct {
	runs  []run
	index uint64
	state state
	sum   uint32
}

// Read reads the log in dir to its end. A record whose end was lost with the power is no
// part of it, as for etcd.
func Read(dir string) (End, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil {
		return End{}, fmt.Errorf("listing the write-ahead log: %w", err)
	}
	if len(names) == 0 {
		return End{}, fmt.Errorf("%w: there is no file of it in %s", ErrDamaged, dir)
	}
	// Their names begin with their numbers, of the same length all.
	slices.Sort(names)
	l := &log{}
	var end End
	for i, name := range names {
		last := i == len(names)-1
		valid, err := l.file(name, last)
		if err != nil {
			return End{}, fmt.Errorf("reading %s: %w", name, err)
		}
		end.last, end.valid = name, valid
	}
	end.Term, end.Index, end.Committed = l.termAt(l.index), l.index, l.state.commit
	end.state, end.sum = l.state, l.sum
	return end, nil
}

// Commit marks the whole log as committed, and makes that durable. It is what a leader does
// once a majority has the entries; without it etcd discards those that the member had been
// sent and not yet been told to be committed, which clients may have been told.
func (e End) Commit() (err error) {
	if e.Committed >= e.Index {
		return nil
	}
	file, err := os.OpenFile(e.last, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	s := e.state
	s.term, s.commit = max(s.term, e.Term), e.Index
	record := s.record(e.sum)
	// What follows the last whole record is zeros, or half a record.
	if err := file.Truncate(e.valid); err != nil {
		return err
	}
	if _, err := file.WriteAt(record, e.valid); err != nil {
		return err
	}
	if err := file.Truncate(max(info.Size(), e.valid+int64(len(record)))); err != nil {
		return err
	}
	return file.Sync()
}

// file reads one file, and returns how much of it is whole records.
func (l *log) file(name string, last bool) (valid int64, err error) {
	file, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	var length [frame]byte
	for {
		_, err := file.ReadAt(length[:], valid)
		field := binary.LittleEndian.Uint64(length[:])
		if errors.Is(err, io.EOF) || (err == nil && field == 0) {
			return valid, nil
		}
		if err != nil {
			return valid, err
		}
		size, padding := int64(field&^(0xff<<56)), int64(0)
		if field>>63 == 1 {
			padding = int64(field >> 56 & 0x7)
		}
		if size > maxRecord || size > info.Size()-valid-frame-padding {
			return valid, torn(last, nil, 0)
		}
		content := make([]byte, size+padding)
		if _, err := file.ReadAt(content, valid+frame); err != nil {
			return valid, err
		}
		if err := l.take(content[:size]); err != nil {
			return valid, torn(last, content, valid+frame)
		}
		valid += frame + size + padding
	}
}

// torn says whether a record that cannot be read was being written when the power went: in
// the last file, and a sector of it was not reached or its end is not there. Anything else is
// damage, and what follows it is not known.
func torn(last bool, content []byte, at int64) error { //nolint:revive // where the record is, is what it asks
	if !last {
		return ErrDamaged
	}
	if content == nil {
		return nil
	}
	for len(content) > 0 {
		n := min(int64(len(content)), sector-at%sector)
		if !slices.ContainsFunc(content[:n], func(b byte) bool { return b != 0 }) {
			return nil
		}
		content, at = content[n:], at+n
	}
	return ErrDamaged
}

// take reads one record.
func (l *log) take(record []byte) error {
	fields, data, err := message(record)
	if err != nil {
		return err
	}
	kind, sum := fields[1], uint32(fields[2]) //nolint:gosec // etcd's field is of 32 bits
	if kind == recordChecksum {
		// The first file that is left begins with the checksum of those that are gone.
		if l.sum != 0 && l.sum != sum {
			return ErrDamaged
		}
		l.sum = sum
		return nil
	}
	next := crc32.Update(l.sum, castagnoli, data)
	if next != sum {
		return ErrDamaged
	}
	inner, _, err := message(data)
	switch {
	case kind != recordEntry && kind != recordState && kind != recordSnapshot:
	case err != nil:
		return err
	case kind == recordEntry:
		l.append(inner[2], inner[3])
	case kind == recordState:
		l.state = state{term: inner[1], vote: inner[2], commit: inner[3]}
	default:
		l.snapshot(inner[1], inner[2])
	}
	l.sum = next
	return nil
}

// append takes an entry, which replaces all that were there from its index on.
func (l *log) append(term, index uint64) {
	for len(l.runs) > 0 && l.runs[len(l.runs)-1].from >= index {
		l.runs = l.runs[:len(l.runs)-1]
	}
	if len(l.runs) == 0 || l.runs[len(l.runs)-1].term != term {
		l.runs = append(l.runs, run{from: index, term: term})
	}
	l.index = index
}

// snapshot takes the mark of a snapshot. One that the member has made holds what it had
// already; one that a leader has sent replaces a log that does not hold its last entry.
func (l *log) snapshot(index, term uint64) {
	if index <= l.state.commit || (index <= l.index && l.termAt(index) == term) {
		return
	}
	l.runs, l.index = []run{{from: index, term: term}}, index
	l.state.commit = max(l.state.commit, index)
}

func (l *log) termAt(index uint64) uint64 {
	i, found := slices.BinarySearchFunc(l.runs, index, func(r run, at uint64) int { return cmp.Compare(r.from, at) })
	if !found {
		i--
	}
	if i < 0 {
		return 0
	}
	return l.runs[i].term
}

// message reads the numbers of a message, by field, and its last bytes.
func message(content []byte) (numbers map[protowire.Number]uint64, bytes []byte, err error) {
	numbers = map[protowire.Number]uint64{}
	for len(content) > 0 {
		field, kind, n := protowire.ConsumeTag(content)
		if n < 0 {
			return nil, nil, fmt.Errorf("%w: %w", ErrDamaged, protowire.ParseError(n))
		}
		content = content[n:]
		switch kind {
		case protowire.VarintType:
			numbers[field], n = protowire.ConsumeVarint(content)
		case protowire.BytesType:
			bytes, n = protowire.ConsumeBytes(content)
		default:
			n = protowire.ConsumeFieldValue(field, kind, content)
		}
		if n < 0 {
			return nil, nil, fmt.Errorf("%w: %w", ErrDamaged, protowire.ParseError(n))
		}
		content = content[n:]
	}
	return numbers, bytes, nil
}

// record of the state, that follows records with this checksum.
func (s state) record(sum uint32) []byte {
	var data []byte
	for field, value := range []uint64{s.term, s.vote, s.commit} {
		data = protowire.AppendTag(data, protowire.Number(field+1), protowire.VarintType)
		data = protowire.AppendVarint(data, value)
	}
	var record []byte
	record = protowire.AppendTag(record, 1, protowire.VarintType)
	record = protowire.AppendVarint(record, recordState)
	record = protowire.AppendTag(record, 2, protowire.VarintType)
	record = protowire.AppendVarint(record, uint64(crc32.Update(sum, castagnoli, data)))
	record = protowire.AppendTag(record, 3, protowire.BytesType)
	record = protowire.AppendBytes(record, data)
	field, padding := uint64(len(record)), (frame-len(record)%frame)%frame
	if padding > 0 {
		field |= uint64(0x80|padding) << 56
	}
	framed := binary.LittleEndian.AppendUint64(nil, field)
	framed = append(framed, record...)
	return append(framed, make([]byte, padding)...)
}
