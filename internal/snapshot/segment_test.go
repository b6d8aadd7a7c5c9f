package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var archiveBegan = time.Date(2026, 3, 29, 1, 30, 0, 0, time.UTC)

func segmentFor(sequence, from, to int64, previous string, content []byte) Segment {
	s := Segment{
		Format: Format, Cluster: Cluster{UID: "c-uid", ID: "a1", Namespace: "ns", Name: "c"}, Sequence: sequence, From: from, To: to, Previous: previous,
		BaseRevision: 1, BaseSince: archiveBegan, Began: archiveBegan.Add(time.Duration(sequence-1) * time.Second), Ended: archiveBegan.Add(time.Duration(sequence) * time.Second),
		Plain: ContentOf(content), Stored: ContentOf(content), Compression: CompressionNone,
	}
	if sequence == 1 {
		s.Gap = &Gap{From: 1, To: from - 1, Reason: GapBegan}
		s.BaseRevision = from - 1
	}
	return s
}

func encodeSegment(t *testing.T, s Segment, content []byte) []byte {
	t.Helper()
	object, err := s.Encode(content)
	if err != nil {
		t.Fatal(err)
	}
	return object
}

func TestSegmentRoundTrip(t *testing.T) {
	content := []byte("what happened")
	s := segmentFor(1, 5, 9, "", content)
	object := encodeSegment(t, s, content)
	got, stored, err := DecodeSegment(object)
	if err != nil || !bytes.Equal(stored, content) {
		t.Fatalf("content %q (%v)", stored, err)
	}
	s.Checksum = got.Checksum
	if diff := cmp.Diff(s, got); diff != "" {
		t.Errorf("segment (-want +got):\n%s", diff)
	}
	l := LinkOf(s, object)
	if again, ok := ParseLink(l.Name()); !ok || again != l {
		t.Errorf("link %+v became %+v", l, again)
	}
	place := Place{Prefix: "p", ClusterUID: "c-uid"}
	if id, again, ok := place.ParseSegment(place.ArchiveDirectory("a1") + l.Name()); !ok || id != "a1" || again != l {
		t.Errorf("%s, %+v of the object's name", id, again)
	}
	if _, _, ok := place.Parse(place.ArchiveDirectory("a1") + l.Name()); ok {
		t.Error("a segment is taken for a part of a backup")
	}
}

// Every single bit of the object is flipped, and it is cut at every byte.
func TestEveryFlippedBitOfASegmentIsSeen(t *testing.T) {
	content := []byte("what happened")
	object := encodeSegment(t, segmentFor(1, 5, 9, "", content), content)
	try := func(damaged []byte, what string, at int) {
		t.Helper()
		if _, _, err := DecodeSegment(damaged); !errors.Is(err, ErrDamaged) {
			t.Fatalf("%s at %d: %v, want damaged", what, at, err)
		}
	}
	for i := range object {
		for bit := range 8 {
			damaged := bytes.Clone(object)
			damaged[i] ^= 1 << bit
			try(damaged, fmt.Sprintf("bit %d", bit), i)
		}
		try(object[:i], "cut", i)
	}
	try(append(bytes.Clone(object), 'x'), "longer", len(object))
}

func TestSegmentsThatCannotBe(t *testing.T) {
	content := []byte("x")
	good := segmentFor(2, 5, 9, ContentOf(content).SHA256, content)
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Segment){
		"no predecessor":           func(s *Segment) { s.Previous = "" },
		"a first with predecessor": func(s *Segment) { s.Sequence = 1 },
		"it ends before it begins": func(s *Segment) { s.To = 3 },
		"a first without a gap":    func(s *Segment) { s.Sequence, s.Previous = 1, "" },
		"a gap elsewhere":          func(s *Segment) { s.Gap = &Gap{From: 2, To: 3, Reason: GapCompacted} },
		"users go back":            func(s *Segment) { s.AuthBefore = 2; s.AuthAfter = 1 },
		"a base from later":        func(s *Segment) { s.BaseRevision = 10 },
		"it ends earlier":          func(s *Segment) { s.Ended = s.Began.Add(-1) },
		"another cluster ID":       func(s *Segment) { s.Cluster.ID = "../x" },
	} {
		s := good
		change(&s)
		if _, err := s.Encode(content); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// linkChain makes links of the sizes, one behind the other.
func linkChain(first Link, sizes ...int64) []Link {
	chain := []Link{first}
	for i, size := range sizes {
		before := chain[len(chain)-1]
		chain = append(chain, Link{
			Sequence: before.Sequence + 1, From: before.To + 1, To: before.To + size, Ended: before.Ended.Add(time.Second),
			Previous: before.Sum, Sum: fmt.Sprintf("%s%d", before.Sum[:len(before.Sum)-1], i),
		})
	}
	return chain
}

func firstLink() Link {
	return Link{Sequence: 1, From: 11, To: 20, Ended: archiveBegan, Previous: noPrevious, Sum: "00000000000000aa"}
}

func TestPathHoldsEveryRevision(t *testing.T) {
	links := linkChain(firstLink(), 5, 0, 7, 1)
	for base := int64(5); base < 40; base++ {
		for target := base + 1; target < 40; target++ {
			path, err := Path(links, base, target)
			if possible := base >= 10 && target <= 33; (err == nil) != possible {
				t.Fatalf("from %d to %d: %v", base, target, err)
			}
			at := base
			for _, l := range path {
				if l.From > at+1 {
					t.Fatalf("from %d to %d: nothing holds revision %d", base, target, at+1)
				}
				at = l.To
			}
			if err == nil && at < target {
				t.Fatalf("from %d to %d: it ends at %d", base, target, at)
			}
		}
	}
}

// Each link that is taken away is missed by whatever needs it.
func TestAMissingSegmentIsSeen(t *testing.T) {
	links := linkChain(firstLink(), 5, 7, 1)
	for i := range links {
		left := slices.Delete(slices.Clone(links), i, i+1)
		if _, err := Path(left, 10, 33); err == nil {
			t.Errorf("without segment %d there is a path", links[i].Sequence)
		}
	}
	gap := slices.Clone(links)
	gap[2].From++
	if _, err := Path(gap, 10, 33); err == nil {
		t.Error("there is a path over a gap")
	}
	if _, err := Path(links, 10, 34); err == nil {
		t.Error("there is a path beyond the end")
	}
	broken := slices.Clone(links)
	broken[2].Previous = "1111111111111111"
	if _, err := Path(broken, 10, 33); err == nil {
		t.Error("a segment that follows another one is taken")
	}
}

// Two archivers that wrote at once leave two branches, and each point that one of them
// has is found.
func TestOneBranchOfTwoIsTaken(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for range 500 {
		trunk := linkChain(firstLink(), 5, 5)
		fork := trunk[1+random.IntN(2)]
		branch := linkChain(fork, 1+random.Int64N(9), 1+random.Int64N(9))[1:]
		for i := range branch {
			branch[i].Sum = fmt.Sprintf("bbbbbbbbbbbbbbb%d", i)
		}
		branch[1].Previous = branch[0].Sum
		all := append(slices.Clone(trunk), branch...)
		random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		tip, _ := Tip(all)
		for target := int64(12); target <= tip.To; target++ {
			path, err := Path(all, 10, target)
			if err != nil {
				t.Fatalf("revision %d of two branches: %v", target, err)
			}
			for i := 1; i < len(path); i++ {
				if !path[i].gapless(path[i-1]) {
					t.Fatalf("the path changes branches: %+v", path)
				}
			}
		}
	}
}

func TestAt(t *testing.T) {
	links := linkChain(firstLink(), 5, 7)
	for seconds, want := range map[float64]int64{-5: 1, 0: 1, 0.5: 2, 1: 2, 1.5: 3, 2: 3, 2.1: 0} {
		found, err := At(links, archiveBegan.Add(time.Duration(seconds*float64(time.Second))))
		if (err == nil) != (want != 0) || (err == nil && (len(found) != 1 || found[0].Sequence != want)) {
			t.Errorf("%v s: %+v (%v), want segment %d", seconds, found, err, want)
		}
	}
}

// A missing segment hides no time before it: what follows it may begin at any time, and is
// the last to be looked into.
func TestAtAMissingSegment(t *testing.T) {
	links := linkChain(firstLink(), 5, 7, 3)
	left := slices.Delete(slices.Clone(links), 2, 3)
	for seconds, want := range map[float64][]int64{0.5: {2, 4}, 1: {2, 4}, 1.5: {4}, 3: {4}} {
		found, err := At(left, archiveBegan.Add(time.Duration(seconds*float64(time.Second))))
		var got []int64
		for _, l := range found {
			got = append(got, l.Sequence)
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%v s: %v (%v), want %v", seconds, got, err, want)
		}
	}
}

func TestHasBase(t *testing.T) {
	s := segmentFor(2, 5, 9, ContentOf(nil).SHA256, nil)
	s.BaseRevision, s.BaseSince = 7, archiveBegan
	for name, tc := range map[string]struct {
		backup Backup
		want   bool
	}{
		"from then":          {Backup{ClusterID: "a1", Revision: 7, Began: archiveBegan}, true},
		"too early":          {Backup{ClusterID: "a1", Revision: 6, Began: archiveBegan}, false},
		"before the change":  {Backup{ClusterID: "a1", Revision: 7, Began: archiveBegan.Add(-1)}, false},
		"refused by a drill": {Backup{ClusterID: "a1", Revision: 7, Began: archiveBegan, Unfit: true}, false},
		"of another cluster": {Backup{ClusterID: "b2", Revision: 9, Began: archiveBegan}, false},
	} {
		if got := s.BaseOf([]Backup{tc.backup}) != nil; got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// obsolete is what a sweep finds in a listing.
func obsolete(links []Link, oldest int64) []Link {
	s := NewSweep(oldest)
	for _, l := range links {
		s.Add(l)
	}
	return s.Obsolete()
}

// Whatever is dropped, each point after the oldest backup is still there, and the
// archive goes on from its end.
func TestObsoleteLosesNothing(t *testing.T) {
	links := linkChain(firstLink(), 5, 0, 7, 1)
	for oldest := int64(1); oldest < 40; oldest++ {
		obsolete := obsolete(links, oldest)
		left := slices.DeleteFunc(slices.Clone(links), func(l Link) bool { return slices.Contains(obsolete, l) })
		for target := max(oldest, 10) + 1; target <= 33; target++ {
			if _, err := Path(left, max(oldest, 10), target); err != nil {
				t.Errorf("oldest %d: revision %d: %v", oldest, target, err)
			}
		}
		if tip, _ := Tip(links); !slices.Contains(left, tip) {
			t.Errorf("oldest %d: the end is gone", oldest)
		}
		if oldest > 25 && len(obsolete) == 0 {
			t.Errorf("oldest %d: nothing goes", oldest)
		}
	}
	if gone := obsolete(links, 0); len(gone) > 0 {
		t.Errorf("without a backup: %v", gone)
	}
}

// However many links are obsolete, a few are kept in memory at a time, and what is needed stays.
func TestObsoleteInParts(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	for range 100 {
		links := forked(random, 30, 4, 1, 0, 5)
		tip, _ := Tip(links)
		oldest := 1 + random.Int64N(tip.To+3)
		whole := obsolete(links, oldest)
		left := slices.Clone(links)
		for rounds := 0; ; rounds++ {
			s := NewSweep(oldest)
			s.most = 3
			for _, l := range left {
				s.Add(l)
			}
			gone := s.Obsolete()
			if len(gone) > 3 || rounds > len(links) {
				t.Fatalf("%d at once, in round %d", len(gone), rounds)
			}
			left = slices.DeleteFunc(left, func(l Link) bool { return slices.Contains(gone, l) })
			if !s.More() || len(gone) == 0 {
				break
			}
		}
		for _, l := range links {
			if slices.Contains(left, l) == slices.Contains(whole, l) {
				t.Fatalf("oldest %d: %+v is left: %t, and goes: %t", oldest, l, slices.Contains(left, l), slices.Contains(whole, l))
			}
		}
	}
}

// forked are the links of a random archive, in the order of their names, from one of which on
// a second process has written too.
func forked(random *rand.Rand, length int, branch ...int64) []Link {
	sizes := make([]int64, length)
	for i := range sizes {
		sizes[i] = random.Int64N(3)
	}
	trunk := linkChain(firstLink(), sizes...)
	links := append(slices.Clone(trunk), linkChain(trunk[random.IntN(len(trunk))], branch...)[1:]...)
	slices.SortFunc(links, func(a, b Link) int { return strings.Compare(a.Name(), b.Name()) })
	return links
}

// However two processes have written, all that is needed stays with what it stands behind,
// and all else goes.
func TestObsoleteOfBranches(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 5))
	for range 500 {
		links := forked(random, 20, 4, 1, 0, 5)
		tip, _ := Tip(links)
		oldest := 1 + random.Int64N(tip.To+3)
		needed := func(l Link) bool { return l.To >= oldest || l == tip }
		gone := obsolete(links, oldest)
		for _, l := range links {
			stays := needed(l) || slices.ContainsFunc(links, func(next Link) bool { return needed(next) && next.Follows(l) })
			if stays == slices.Contains(gone, l) {
				t.Fatalf("oldest %d: %+v stays: %t, of %+v", oldest, l, !stays, links)
			}
		}
	}
}

// Of a long archive its end is kept, and every name of a number that is still to come: one
// that is forgotten would be taken for that of another process that archives.
func TestRecentSegments(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 2))
	for range 300 {
		all := forked(random, 60, 4, 100, 5)
		tip, _ := Tip(all)
		var kept []Link
		for _, l := range all {
			kept = Recent(append(kept, l), 8)
		}
		if got, _ := Tip(kept); got != tip {
			t.Fatalf("it ends with %+v instead of %+v", got, tip)
		}
		for _, l := range all {
			if l.Sequence >= tip.Sequence && !slices.Contains(kept, l) {
				t.Fatalf("link %d is forgotten, and the last is %d", l.Sequence, tip.Sequence)
			}
		}
		if len(kept) < 8 {
			t.Fatalf("%d are kept", len(kept))
		}
	}
	if kept := Recent(linkChain(firstLink(), make([]int64, 100)...), 8); len(kept) != 8 {
		t.Errorf("%d of one chain are kept, want 8", len(kept))
	}
}

func TestLastGapOfSegments(t *testing.T) {
	links := linkChain(firstLink(), 5, 7, 1, 2)
	if gap := LastGap(links); gap != nil {
		t.Errorf("gap %+v in a chain without one", gap)
	}
	links[2].From, links[3].From = links[2].From+2, links[3].From+1
	if gap := LastGap(links); gap == nil || gap.From != links[2].To+1 || gap.To != links[3].From-1 {
		t.Errorf("the last gap is %+v", gap)
	}
}

// TestTrail: whatever is deleted of an archive, a trail sees what Path sees of the whole list,
// and says of no revision that it is lost which a link still holds.
func TestTrail(t *testing.T) {
	all := linkChain(firstLink(), 3, 1, 0, 2, 4)
	for i := 3; i < len(all); i++ { // etcd had compacted two revisions
		all[i].From, all[i].To = all[i].From+2, all[i].To+2
	}
	branch := linkChain(all[1], 1, 2)[1:]
	branch[0].Sum, branch[1].Previous, branch[1].Sum = "00000000000000b0", "00000000000000b0", "00000000000000b1"
	all = append(all, branch...)
	slices.SortFunc(all, func(a, b Link) int { return strings.Compare(a.Name(), b.Name()) })
	tip, _ := Tip(all)
	for base := int64(10); base <= tip.To; base++ {
		for deleted := range 1 << len(all) {
			var links []Link
			for i, l := range all {
				if deleted&(1<<i) == 0 {
					links = append(links, l)
				}
			}
			trail := NewTrail(base, tip.Sequence, tip.Sum)
			for _, l := range links {
				trail.Add(l)
			}
			there := slices.Contains(links, tip)
			_, err := back(bySum(links), base, tip)
			if whole := there && (base >= tip.To || err == nil); trail.Whole(tip.To) != whole {
				t.Fatalf("from %d with %b deleted: whole %t (%v)", base, deleted, !whole, err)
			}
			lost := trail.Lost(tip.To)
			if lost == nil {
				continue
			}
			if trail.Whole(tip.To) || lost.From <= base || lost.To > tip.To || lost.From > lost.To {
				t.Fatalf("from %d with %b deleted: %+v", base, deleted, lost)
			}
			for revision := lost.From; revision <= lost.To; revision++ {
				if _, err := Path(links, base, revision); err == nil {
					t.Fatalf("from %d with %b deleted: %d is told to be lost", base, deleted, revision)
				}
			}
		}
	}
}
