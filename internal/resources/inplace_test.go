package resources

import "testing"

// TestRevisionBump: whichever backup an incarnation begins with, its revisions are above all
// of those before it, and two founders of one incarnation get the same.
func TestRevisionBump(t *testing.T) {
	const grown = 30_000 * 3600 * 24 * 30
	first := int64(1000)
	second := first + RevisionBump(2, first)
	third := second + 2000 + RevisionBump(3, second+2000)
	back := first + RevisionBump(4, first)
	if second <= first+grown || third <= second+2000+grown || back <= third+grown {
		t.Errorf("%d, %d, %d and %d", first, second, third, back)
	}
	if by := RevisionBump(2, 5_000_000_000_000); by != bump {
		t.Errorf("a backup that is far ahead is raised by %d", by)
	}
	if by := RevisionBump(1, first); by != 0 {
		t.Errorf("the first incarnation is raised by %d", by)
	}
}
