package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Segment describes a part of an archive: everything that happened to the keys from one
// revision to another. It stands before the content in the same object, so that neither is
// ever there without the other.
type Segment struct {
	// Format is Format of whoever wrote it.
	Format  int     `json:"format"`
	Cluster Cluster `json:"cluster"`
	// Sequence counts the segments from 1.
	Sequence int64 `json:"sequence"`
	// From and To are the first and the last revision, both included. To is From-1 if
	// nothing was written: such a segment says only until when.
	From int64 `json:"from"`
	To   int64 `json:"to"`
	// Previous is the SHA-256 of the whole preceding object; empty in the first.
	Previous string `json:"previous,omitempty"`
	// Gap says why revisions between the preceding segment and this one are missing;
	// nil if none is.
	Gap *Gap `json:"gap,omitempty"`
	// AuthBefore and AuthAfter are the state of users and roles before From and after To:
	// twice etcd's revision of them, and one more while they are asked for, as turning that
	// on has no revision. The users and roles are not archived: if the two differ, it takes
	// a backup made since to restore what came later.
	AuthBefore uint64 `json:"authBefore"`
	AuthAfter  uint64 `json:"authAfter"`
	// Last is the SHA-256 of what happened in revision To, or in the last one before that is
	// archived: whoever goes on from here looks whether the cluster still has that very
	// write, as one that was rolled back writes the same revisions anew. Empty if no
	// revision has been archived since the archive began, or since its last gap.
	Last string `json:"last,omitempty"`
	// BaseRevision and BaseSince are what a backup must hold and when it must have begun at
	// the earliest, for what this segment ends with to be restored from it: the beginning
	// of the archive, the end of its last gap, or the last change of users and roles.
	BaseRevision int64     `json:"baseRevision"`
	BaseSince    time.Time `json:"baseSince"`
	// Began and Ended: everything that had been acknowledged at Ended is in this segment
	// and those before, by the clock of the process, in UTC.
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended"`
	// Plain is the content, Stored what follows the manifest in the object.
	Plain       Content     `json:"plain"`
	Stored      Content     `json:"stored"`
	Compression Compression `json:"compression"`
	Recipients  []string    `json:"recipients,omitempty"`
	// Checksum as in Manifest.
	Checksum string `json:"checksum"`
}

// Gap is what an archive lacks.
type Gap struct {
	// From and To are the first and the last revision that is missing.
	From int64 `json:"from"`
	To   int64 `json:"to"`
	// Reason is why.
	Reason GapReason `json:"reason"`
}

// GapReason is why revisions are missing.
type GapReason string

// The reasons.
const (
	// GapBegan: the archive begins here.
	GapBegan GapReason = "Began"
	// GapCompacted: etcd compacted them before they were read.
	GapCompacted GapReason = "Compacted"
	// GapLost: they were archived, and their segments are gone from the store.
	GapLost GapReason = "Lost"
)

// BaseOf is the first of the backups that is a base which the end of the segment can be
// restored from; nil if none is. One that a drill found unfit is none.
func (s *Segment) BaseOf(backups []Backup) *Backup {
	i := slices.IndexFunc(backups, func(b Backup) bool {
		return !b.Unfit && s.followsFrom(b)
	})
	if i < 0 {
		return nil
	}
	return &backups[i]
}

// BasesOf are all the backups which the end of the segment can be restored from, as far as the
// segments between are there, and whatever a drill has found.
func (s *Segment) BasesOf(backups []Backup) []Backup {
	return slices.DeleteFunc(slices.Clone(backups), func(b Backup) bool { return !s.followsFrom(b) })
}

// PreviousSum is the Sum of the link before.
func (s *Segment) PreviousSum() string { return s.Previous[:min(len(s.Previous), sumDigits)] }

// followsFrom says that the segment ends the stretch that the backup begins.
func (s *Segment) followsFrom(b Backup) bool {
	return b.ClusterID == s.Cluster.ID && b.Revision >= s.BaseRevision && !b.Began.Before(s.BaseSince)
}

// MaxSegmentContent bounds the plain content of a segment, in bytes, but for one whose
// single revision is larger.
const MaxSegmentContent = 4 << 20

// maxSegmentPlain bounds it in any case: what a segment's manifest says is believed before the
// content is unpacked.
const maxSegmentPlain = 2 << 30

// segmentMagic begins a segment's object; the size of the manifest in bytes follows.
const segmentMagic = "quorate-segment "

// Encode returns the object: a line with the manifest's size, the manifest, and content,
// which Stored describes.
func (s *Segment) Encode(content []byte) ([]byte, error) {
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("encoding the segment: %w", err)
	}
	manifest, err := seal(s, &s.Checksum)
	if err != nil {
		return nil, err
	}
	object := fmt.Appendf(nil, "%s%d\n", segmentMagic, len(manifest))
	return append(append(object, manifest...), content...), nil
}

// DecodeSegment reads an object that Encode wrote, and checks the content against the
// manifest. Any other byte gives an error that wraps ErrDamaged or ErrNewer.
func DecodeSegment(object []byte) (Segment, []byte, error) {
	damaged := func(what string) (Segment, []byte, error) {
		return Segment{}, nil, fmt.Errorf("reading the segment: %w: %s", ErrDamaged, what)
	}
	line, rest, found := bytes.Cut(object, []byte("\n"))
	text, magic := strings.CutPrefix(string(line), segmentMagic)
	size, err := strconv.Atoi(text)
	if !found || !magic || err != nil || size < 1 || size > len(rest) || strconv.Itoa(size) != text {
		return damaged("it does not begin as one does")
	}
	var s Segment
	if err := unseal(rest[:size], &s, &s.Format, &s.Checksum); err != nil {
		return Segment{}, nil, fmt.Errorf("reading the segment: %w", err)
	}
	if err := s.Validate(); err != nil {
		return Segment{}, nil, fmt.Errorf("reading the segment: %w: %w", ErrDamaged, err)
	}
	content := rest[size:]
	if ContentOf(content) != s.Stored {
		return damaged("its content is not what its manifest says")
	}
	return s, content, nil
}

// ContentOf describes bytes.
func ContentOf(content []byte) Content {
	sum := sha256.Sum256(content)
	return Content{Bytes: int64(len(content)), SHA256: hex.EncodeToString(sum[:])}
}

// Validate returns all that is wrong with the segment, its checksum apart.
func (s *Segment) Validate() error {
	var errs []error
	wrong := func(when bool, field string, value any) {
		if when {
			errs = append(errs, fmt.Errorf("%s is %q", field, fmt.Sprint(value)))
		}
	}
	wrong(s.Format < 1 || s.Format > Format, "format", s.Format)
	wrong(!word.MatchString(s.Cluster.UID), "cluster.uid", s.Cluster.UID)
	wrong(!clusterDirectory.MatchString(s.Cluster.ID), "cluster.id", s.Cluster.ID)
	wrong(s.Sequence < 1, "sequence", s.Sequence)
	wrong(s.From < 1, "from", s.From)
	wrong(s.To < s.From-1, "to", s.To)
	wrong(s.Previous != "" && !hex64.MatchString(s.Previous), "previous", s.Previous)
	wrong((s.Previous == "") != (s.Sequence == 1), "previous", s.Previous)
	wrong(s.Gap != nil && s.Gap.To != s.From-1, "gap.to", s.Gap)
	wrong(s.Sequence == 1 && s.Gap == nil, "gap", s.Gap)
	wrong(s.BaseRevision < 0 || s.BaseRevision > s.To, "baseRevision", s.BaseRevision)
	wrong(s.BaseSince.IsZero() || s.BaseSince.Location() != time.UTC, "baseSince", s.BaseSince)
	wrong(s.Last != "" && !hex64.MatchString(s.Last), "last", s.Last)
	wrong(s.AuthAfter < s.AuthBefore, "authAfter", s.AuthAfter)
	wrong(s.Plain.Bytes < 0 || s.Plain.Bytes > maxSegmentPlain, "plain.bytes", s.Plain.Bytes)
	wrong(!hex64.MatchString(s.Plain.SHA256), "plain.sha256", s.Plain.SHA256)
	wrong(!hex64.MatchString(s.Stored.SHA256), "stored.sha256", s.Stored.SHA256)
	wrong(s.Compression != CompressionNone && s.Compression != CompressionZstd, "compression", s.Compression)
	wrong(s.Began.IsZero() || s.Began.Location() != time.UTC, "began", s.Began)
	wrong(s.Ended.Before(s.Began) || s.Ended.Location() != time.UTC, "ended", s.Ended)
	return errors.Join(errs...)
}

// Link is a segment as its object's name tells it, so that a listing shows the whole
// chain.
type Link struct {
	Sequence, From, To int64
	Ended              time.Time
	// Previous and Sum are the first 16 hexadecimal digits of the SHA-256 of the
	// preceding object and of this one.
	Previous, Sum string
}

const (
	// archiveDirectory, below the cluster's, holds a directory for each cluster ID.
	archiveDirectory = "archive/"
	sumDigits        = 16
	noPrevious       = "0000000000000000"
)

var (
	clusterDirectory = regexp.MustCompile(`^[1-9a-f][0-9a-f]{0,15}$`)
	linkName         = regexp.MustCompile(`^([0-9]{12})-([0-9]{20})-([0-9]{20})-([0-9]{8}T[0-9]{6}\.[0-9]{3}Z)-([0-9a-f]{16})-([0-9a-f]{16})$`)
)

// LinkOf names a segment whose object is encoded.
func LinkOf(s Segment, object []byte) Link {
	previous := noPrevious
	if s.Previous != "" {
		previous = s.Previous[:sumDigits]
	}
	return Link{Sequence: s.Sequence, From: s.From, To: s.To, Ended: s.Ended, Previous: previous, Sum: ContentOf(object).SHA256[:sumDigits]}
}

// Name is the last part of the object's name.
func (l Link) Name() string {
	return fmt.Sprintf("%s%020d-%020d-%s-%s-%s", SequencePrefix(l.Sequence), l.From, l.To, l.Ended.UTC().Format(idTime), l.Previous, l.Sum)
}

// SequencePrefix begins the names of all segments of a number: of more than one if two
// processes wrote.
func SequencePrefix(sequence int64) string { return fmt.Sprintf("%012d-", sequence) }

// ParseLink is the opposite of Name.
func ParseLink(name string) (Link, bool) {
	found := linkName.FindStringSubmatch(name)
	if found == nil {
		return Link{}, false
	}
	var numbers [3]int64
	for i := range numbers {
		n, err := strconv.ParseInt(found[i+1], 10, 64)
		if err != nil {
			return Link{}, false
		}
		numbers[i] = n
	}
	ended, err := time.Parse(idTime, found[4])
	if err != nil {
		return Link{}, false
	}
	return Link{Sequence: numbers[0], From: numbers[1], To: numbers[2], Ended: ended.UTC(), Previous: found[5], Sum: found[6]}, true
}

// Archives is the beginning of the names of all segments, a slash included.
func (p Place) Archives() string { return p.Directory() + archiveDirectory }

// ArchiveDirectory is the beginning of the names of all segments of one cluster ID, a
// slash included.
func (p Place) ArchiveDirectory(clusterID string) string {
	return p.Archives() + clusterID + "/"
}

// ParseSegment finds the cluster ID and the link in an object's name. ok is false for
// names of objects that are not segments of this cluster's archive.
func (p Place) ParseSegment(key string) (clusterID string, l Link, ok bool) {
	rest, ok := strings.CutPrefix(key, p.Archives())
	if !ok {
		return "", Link{}, false
	}
	clusterID, name, ok := strings.Cut(rest, "/")
	if !ok || !clusterDirectory.MatchString(clusterID) {
		return "", Link{}, false
	}
	l, ok = ParseLink(name)
	return clusterID, l, ok
}

// Follows says whether l stands behind before in a chain.
func (l Link) Follows(before Link) bool {
	return l.Sequence == before.Sequence+1 && l.Previous == before.Sum
}

// gapless says whether nothing is missing between the two.
func (l Link) gapless(before Link) bool { return l.Follows(before) && l.From == before.To+1 }

// bySum finds links: an archive of a month has a million of them.
func bySum(links []Link) map[string]Link {
	index := make(map[string]Link, len(links))
	for _, l := range links {
		index[l.Sum] = l
	}
	return index
}

// Before is the link that l stands behind.
func Before(links []Link, l Link) (Link, bool) { return before(bySum(links), l) }

func before(index map[string]Link, l Link) (Link, bool) {
	found, ok := index[l.Previous]
	return found, ok && l.Follows(found)
}

// Tip is the link that an archive goes on from: the one that reaches furthest. Two
// processes that wrote at once leave two branches, both of which are true.
func Tip(links []Link) (Link, bool) {
	if len(links) == 0 {
		return Link{}, false
	}
	return slices.MaxFunc(links, further), true
}

// Recent returns, of links that are listed in the order of their names, those that an
// archive can be gone on from: the most that reach furthest, and all whose numbers are no
// lower than theirs. An archive of a month has a million links; whoever appends to it needs
// its end, and the names that other processes have given to the numbers to come.
func Recent(links []Link, most int) []Link {
	if len(links) <= most {
		return links
	}
	furthest := slices.Clone(links)
	slices.SortFunc(furthest, func(a, b Link) int { return further(b, a) })
	lowest := slices.MinFunc(furthest[:most], func(a, b Link) int { return int(min(max(a.Sequence-b.Sequence, -1), 1)) })
	return slices.DeleteFunc(links, func(l Link) bool { return l.Sequence < lowest.Sequence })
}

// LastGap is what is missing before the last link, as far back as the links go; nil if
// nothing is.
func LastGap(links []Link) *Gap {
	at, ok := Tip(links)
	index := bySum(links)
	for ok {
		earlier, found := before(index, at)
		if found && !at.gapless(earlier) {
			return &Gap{From: earlier.To + 1, To: at.From - 1, Reason: GapCompacted}
		}
		at, ok = earlier, found
	}
	return nil
}

func further(a, b Link) int {
	if a.To != b.To {
		return int(min(max(a.To-b.To, -1), 1))
	}
	if c := a.Ended.Compare(b.Ended); c != 0 {
		return c
	}
	return strings.Compare(a.Sum, b.Sum)
}

// Runs returns the links behind which the last one stands, divided where revisions are
// missing, in order.
func Runs(links []Link) [][]Link {
	at, ok := Tip(links)
	if !ok {
		return nil
	}
	index, runs := bySum(links), [][]Link{{at}}
	for {
		earlier, ok := before(index, at)
		if !ok {
			break
		}
		if at.gapless(earlier) {
			runs[len(runs)-1] = append(runs[len(runs)-1], earlier)
		} else {
			runs = append(runs, []Link{earlier})
		}
		at = earlier
	}
	for _, run := range runs {
		slices.Reverse(run)
	}
	slices.Reverse(runs)
	return runs
}

// Path returns links, in order, that hold every revision after base up to target. The
// error says what is missing.
func Path(links []Link, base, target int64) ([]Link, error) {
	if base >= target {
		return nil, nil
	}
	var holding []Link
	for _, l := range links {
		if l.From <= target && target <= l.To {
			holding = append(holding, l)
		}
	}
	slices.SortFunc(holding, func(a, b Link) int { return further(b, a) })
	if len(holding) == 0 {
		return nil, notArchived(links, target)
	}
	var first error
	index := bySum(links)
	for _, last := range holding {
		path, err := back(index, base, last)
		if err == nil {
			return path, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// back walks from the last link to the one that holds what follows base.
func back(index map[string]Link, base int64, last Link) ([]Link, error) {
	path := []Link{last}
	for at := last; at.From > base+1; {
		earlier, ok := before(index, at)
		if !ok || !at.gapless(earlier) {
			return nil, fmt.Errorf("segment %d begins at revision %d and the one before it, up to revision %d, is not there", at.Sequence, at.From, at.From-1)
		}
		at = earlier
		path = append(path, at)
	}
	slices.Reverse(path)
	return path, nil
}

func notArchived(links []Link, target int64) error {
	tip, ok := Tip(links)
	if !ok {
		return errors.New("there is no segment")
	}
	if target > tip.To {
		return fmt.Errorf("the last segment ends at revision %d", tip.To)
	}
	return fmt.Errorf("no segment holds revision %d", target)
}

// At returns the links that may hold the last revision of a moment, which is after the
// end of the segment before: the best one first. One whose predecessor is missing may begin
// at any time, so it comes last. The error says why there is none.
func At(links []Link, moment time.Time) ([]Link, error) {
	var found, torn []Link
	index := bySum(links)
	for _, l := range links {
		if l.Ended.Before(moment) {
			continue
		}
		earlier, ok := before(index, l)
		switch {
		case !ok && l.Previous != noPrevious:
			torn = append(torn, l)
		case !ok || earlier.Ended.Before(moment):
			found = append(found, l)
		}
	}
	if len(found)+len(torn) == 0 {
		tip, ok := Tip(links)
		if !ok {
			return nil, errors.New("there is no segment")
		}
		return nil, fmt.Errorf("the archive ends at %s", tip.Ended.Format(time.RFC3339Nano))
	}
	for _, some := range [][]Link{found, torn} {
		slices.SortFunc(some, func(a, b Link) int { return further(b, a) })
	}
	return append(found, torn...), nil
}
