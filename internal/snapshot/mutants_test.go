package snapshot

import (
	"testing"

	"github.com/quorate/quorate/test/mutants"
)

// breaches give up a rule of the archive each.
var breaches = map[string]mutants.Mutant{
	"other content is taken":             mutants.Of("segment.go", "if ContentOf(content) != s.Stored {", "if false {"),
	"a gap is restored over":             mutants.Of("segment.go", "if !ok || !at.gapless(earlier) {", "if !ok {"),
	"a path that ends too early":         mutants.Of("segment.go", "if l.From <= target && target <= l.To {", "if l.From <= target {"),
	"a base of before a change":          mutants.Of("segment.go", "&& !b.Began.Before(s.BaseSince)", ""),
	"a base of before the gap":           mutants.Of("segment.go", "b.Revision >= s.BaseRevision", "true"),
	"all that goes is kept in memory":    mutants.Of("sweep.go", "if len(s.obsolete) >= s.most {", "if false {"),
	"a quiet time after a base is lost":  mutants.Of("sweep.go", "if l.To >= s.oldest {", "if l.To > s.oldest {"),
	"a base that points need expires":    mutants.Of("retention.go", "range sorted[base+1:]", "range sorted[base:]"),
	"a base of the time itself expires":  mutants.Of("retention.go", "b.ArchiveBase && before(b) &&", "b.ArchiveBase &&"),
	"a user's backup expires":            mutants.Of("retention.go", "b.ArchiveBase && before(b) &&", "before(b) &&"),
	"the last verified base expires":     mutants.Of("retention.go", "base+1+i != verified", "(base+1+i != verified || true)"),
	"an EtcdBackup is relied upon":       mutants.Of("retention.go", "!b.Unfit && b.ArchiveBase", "!b.Unfit"),
	"an unfit base is relied upon":       mutants.Of("retention.go", "before(b) && !b.Unfit", "before(b)"),
	"the end of an archive is dropped":   mutants.Of("sweep.go", "if s.tip.To < s.oldest {", "if false {"),
	"what a backup needs is dropped":     mutants.Of("sweep.go", "if l.To >= s.oldest {", "if l.To >= s.oldest+5 {"),
	"what says how it began is dropped":  mutants.Of("sweep.go", "s.spareBefore(l)\n", ""),
	"a gap elsewhere than it says":       mutants.Of("segment.go", "s.Gap != nil && s.Gap.To != s.From-1", "false"),
	"what is torn off comes first":       mutants.Of("segment.go", "append(found, torn...)", "append(torn, found...)"),
	"the names to come are forgotten":    mutants.Of("segment.go", "return l.Sequence < lowest.Sequence }", "return l.Sequence <= lowest.Sequence }"),
	"a gap is not found again":           mutants.Of("segment.go", "if found && !at.gapless(earlier) {", "if false {"),
	"a hole is not seen":                 mutants.Of("trail.go", "ok && l.gapless(earlier.last)", "ok"),
	"what is there is told to be lost":   mutants.Of("trail.go", "From: t.reached + 1", "From: t.base + 1"),
	"an end that is gone is not missed":  mutants.Of("trail.go", "return t.end != nil && (", "return t.end == nil || ("),
	"a base that was refused is a base":  mutants.Of("segment.go", "return !b.Unfit && s.followsFrom(b)", "return s.followsFrom(b)"),
	"any size of a snapshot is believed": mutants.Of("manifest.go", " || m.Plain.Bytes > MaxPlain", ""),
	"any size of a segment is believed":  mutants.Of("segment.go", " || s.Plain.Bytes > maxSegmentPlain", ""),
	"a first segment without its reason": mutants.Of("segment.go", "s.Sequence == 1 && s.Gap == nil", "false"),
}

// TestMutantsHaveTheirPlace wants what the mutants change to be there.
func TestMutantsHaveTheirPlace(t *testing.T) { mutants.Placed(t, breaches) }

// TestMutants runs the guards of the archive against each.
func TestMutants(t *testing.T) {
	mutants.Caught(t, breaches, "-run=IsBounded|Trail|Segment|Path|Missing|Branch|HasBase|Obsolete|TestAt|Expire")
}
