package member

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	discardedPrefix = "discarded-"
	// keepDiscarded is how many leftovers of failed first boots stay on the volume
	// for whoever wants to know why they failed.
	keepDiscarded = 3
)

// discard moves etcd's directory to <volume>/discarded-<n> and removes all but the
// newest of its kind. The caller has decided that it holds leftovers only; discard
// looks once more, because nothing mends a log that was moved away by mistake.
func (p place) discard() error {
	state, seen, err := dataState(p.dataDir)
	if err != nil {
		return fmt.Errorf("moving leftovers aside: %w", err)
	}
	if state != DataLeftovers {
		return fmt.Errorf("moving leftovers aside: they are none any more: %s", seen)
	}
	numbers, err := p.discarded()
	if err != nil {
		return fmt.Errorf("moving leftovers aside: %w", err)
	}
	next := 1
	if len(numbers) > 0 {
		next = numbers[len(numbers)-1] + 1
	}
	if err := os.Rename(p.dataDir, p.discardedPath(next)); err != nil {
		return fmt.Errorf("moving leftovers aside: %w", err)
	}
	numbers = append(numbers, next)
	for _, number := range numbers[:max(0, len(numbers)-keepDiscarded)] {
		if err := p.removeDiscarded(number); err != nil {
			return err
		}
	}
	return syncDirectory(p.volume)
}

func (p place) discardedPath(number int) string {
	return filepath.Join(p.volume, discardedPrefix+strconv.Itoa(number))
}

// discarded lists the numbers in use, ascending.
func (p place) discarded() ([]int, error) {
	names, err := listDirectory(p.volume)
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, name := range names {
		text, found := strings.CutPrefix(name, discardedPrefix)
		number, err := strconv.Atoi(text)
		if found && err == nil && number > 0 && p.discardedPath(number) == filepath.Join(p.volume, name) {
			numbers = append(numbers, number)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// removeDiscarded spares whatever holds a write-ahead log: then somebody else than
// the guard put it there.
func (p place) removeDiscarded(number int) error {
	path := p.discardedPath(number)
	state, _, err := dataState(path)
	if err != nil {
		return fmt.Errorf("removing old leftovers: %w", err)
	}
	if state != DataLeftovers && state != DataAbsent {
		return nil
	}
	if err := os.RemoveAll(path); err != nil {
		return fmt.Errorf("removing old leftovers: %w", err)
	}
	return nil
}
