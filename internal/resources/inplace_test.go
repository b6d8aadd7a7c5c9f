package resources

import (
	"testing"
	"time"
)

// TestRevisionBump: what founders begin with becomes the floor, and is raised even if it is
// above that. Of what random histories come to, perform has a test.
func TestRevisionBump(t *testing.T) {
	floor := FloorAt(time.Unix(1_800_000_000, 999))
	if first := 1000 + RevisionBump(floor, 1000); first != 1_800_000_000_000_000 {
		t.Errorf("revision 1000 is raised to %d", first)
	}
	if by := RevisionBump(floor, floor+5); by != bump {
		t.Errorf("a backup that is far ahead is raised by %d", by)
	}
	if by := RevisionBump(0, 1000); by != bump {
		t.Errorf("without a floor it is raised by %d", by)
	}
}
