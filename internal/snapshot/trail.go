package snapshot

// Trail follows the links of an archive from a backup to a segment, in the order of their
// names, and sees whether one of them is gone. It keeps no more than two numbers of them: an
// archive of a month has a million.
type Trail struct {
	base     int64
	sequence int64
	sum      string

	// number of the links that are in now; before has those of the number before.
	number      int64
	now, before map[string]stretch
	// reached is the last revision that is archived behind the base without a hole.
	reached int64
	// end is the stretch that the segment ends; nil while it has not been seen.
	end *stretch
}

// stretch of links without a hole, from the first revision to the last link.
type stretch struct {
	from int64
	last Link
}

// NewTrail follows from a backup of this revision to the link of this number that has the sum.
func NewTrail(base, sequence int64, sum string) *Trail {
	return &Trail{base: base, sequence: sequence, sum: sum, reached: base}
}

// Add the next link of the listing.
func (t *Trail) Add(l Link) {
	if l.Sequence != t.number {
		t.before = nil
		if l.Sequence == t.number+1 {
			t.before = t.now
		}
		t.number, t.now = l.Sequence, map[string]stretch{}
	}
	s := stretch{from: l.From, last: l}
	if earlier, ok := t.before[l.Previous]; ok && l.gapless(earlier.last) {
		s.from = earlier.from
	}
	t.now[l.Sum] = s
	if s.from <= t.base+1 {
		t.reached = max(t.reached, l.To)
	}
	if l.Sequence == t.sequence && l.Sum == t.sum {
		t.end = &s
	}
}

// Whole says that what the segment ends with, which is this revision, can be restored from the
// backup.
func (t *Trail) Whole(revision int64) bool {
	return t.end != nil && (revision <= t.base || t.end.from <= t.base+1)
}

// Lost is what no link holds any more between the backup and the segment, which ends with this
// revision; nil if every revision is still there.
func (t *Trail) Lost(revision int64) *Gap {
	if t.end != nil {
		revision = t.end.from - 1
	}
	if t.reached >= revision {
		return nil
	}
	return &Gap{From: t.reached + 1, To: revision, Reason: GapLost}
}
