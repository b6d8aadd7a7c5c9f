package member

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Install copies the running executable to destination, executable for everyone.
// The name appears with the whole content or not at all. It is not fsynced: an init
// container that a node's crash interrupts runs again.
func Install(destination string) (err error) {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding the running executable: %w", err)
	}
	source, err := os.Open(self)
	if err != nil {
		return fmt.Errorf("installing %s: %w", destination, err)
	}
	defer source.Close()
	temporary, err := os.CreateTemp(filepath.Dir(destination), ".member-*")
	if err != nil {
		return fmt.Errorf("installing %s: %w", destination, err)
	}
	_, err = io.Copy(temporary, source)
	err = errors.Join(err, temporary.Chmod(0o755), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), destination)
	}
	if err != nil {
		return fmt.Errorf("installing %s: %w", destination, errors.Join(err, os.Remove(temporary.Name())))
	}
	return nil
}
