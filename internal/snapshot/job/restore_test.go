package job

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/quorate/quorate/internal/member"
)

// TestAlone: a volume is filled while it is locked, and only as long as that is permitted.
func TestAlone(t *testing.T) {
	taken := errors.New("the orders name something else by now")
	for name, permitted := range map[string]error{"permitted": nil, "taken back": taken} {
		t.Run(name, func(t *testing.T) {
			volume := t.TempDir()
			r := Restore{
				Volume: volume, DataDir: filepath.Join(volume, "data"),
				Identity: member.Identity{ClusterUID: "u", Incarnation: 1, Member: "a-0000", VolumeUID: "v"},
				Permit:   func() error { return permitted },
			}
			filled := false
			_, err := r.alone(t.Context(), Restored{}, func(lock *os.File) (Restored, error) {
				filled = lock != nil
				return Restored{}, nil
			})
			if !errors.Is(err, permitted) || filled != (permitted == nil) {
				t.Errorf("alone() = %v, filled: %v", err, filled)
			}
		})
	}
}
