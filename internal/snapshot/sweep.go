package snapshot

import "slices"

// sweptAtOnce is how many links a Sweep keeps in memory.
const sweptAtOnce = 100_000

// Sweep goes through the links of an archive in the order of their names, and keeps in memory
// only those that no backup needs any more, and of these the first: an archive of a month has a
// million.
type Sweep struct {
	oldest   int64
	most     int
	more     bool
	seen     bool
	tip      Link
	obsolete []Link
}

// NewSweep for backups of which the oldest is at this revision; zero if there is none, and
// then no link is obsolete.
func NewSweep(oldest int64) *Sweep { return &Sweep{oldest: oldest, most: sweptAtOnce} }

// Add the next link of the listing.
func (s *Sweep) Add(l Link) {
	if !s.seen || further(l, s.tip) > 0 {
		s.seen, s.tip = true, l
	}
	if l.To >= s.oldest {
		s.spareBefore(l)
		return
	}
	if len(s.obsolete) >= s.most {
		s.more = true
		return
	}
	s.obsolete = append(s.obsolete, l)
}

// More says that others may be obsolete, for which another Sweep has to go through what is left.
func (s *Sweep) More() bool { return s.more }

// spareBefore takes the link out that l stands behind.
func (s *Sweep) spareBefore(l Link) {
	i := len(s.obsolete)
	for i > 0 && s.obsolete[i-1].Sequence >= l.Sequence-1 {
		i--
	}
	s.obsolete = append(s.obsolete[:i], slices.DeleteFunc(s.obsolete[i:], l.Follows)...)
}

// Tip is that of the links that were added.
func (s *Sweep) Tip() (Link, bool) { return s.tip, s.seen }

// Obsolete returns, when all were added, the links that no backup needs any more. The last
// link stays, so that an archive goes on from it, and so do the one that holds the revision of
// the oldest backup, and the one before it: a time at which nothing had been written since is a
// point as well, and the last change before it says which revision that is.
func (s *Sweep) Obsolete() []Link {
	if s.tip.To < s.oldest {
		s.spareBefore(s.tip)
		s.obsolete = slices.DeleteFunc(s.obsolete, func(l Link) bool { return l == s.tip })
	}
	return s.obsolete
}
