package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

// layout names the files of the cluster; everything lies under .cluster in the
// repository's root.
type layout struct {
	root string // the repository's root, absolute
}

var projectModule = regexp.MustCompile(`(?m)^module github\.com/quorate/quorate\s*$`)

// findLayout walks up from dir to the go.mod of the project.
func findLayout(dir string) (layout, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return layout{}, fmt.Errorf("finding the repository: %w", err)
	}
	for at := dir; ; at = filepath.Dir(at) {
		mod, err := os.ReadFile(filepath.Join(at, "go.mod"))
		if err == nil && projectModule.Match(mod) {
			return layout{root: at}, nil
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return layout{}, fmt.Errorf("finding the repository: %w", err)
		}
		if at == filepath.Dir(at) {
			return layout{}, fmt.Errorf("no go.mod of github.com/quorate/quorate above %s — everything is built and kept under that repository — run this inside it or pass --root", dir)
		}
	}
}

func (l layout) path(parts ...string) string {
	return filepath.Join(append([]string{l.root, ".cluster"}, parts...)...)
}

func (l layout) modules() string         { return filepath.Join(l.root, "test", "cluster", "build") }
func (l layout) bin(name string) string  { return l.path("bin", name) }
func (l layout) log(name string) string  { return l.path("logs", name+".log") }
func (l layout) pid(name string) string  { return l.path("run", name+".pid") }
func (l layout) exit(name string) string { return l.path("run", name+".exit") }
func (l layout) kubeconfig() string      { return l.path("kubeconfig") }

// state is what one cluster's life leaves on the disk; down removes it whole.
func (l layout) state(parts ...string) string {
	return l.path(append([]string{"state"}, parts...)...)
}

func (l layout) pki(name string) string     { return l.state("pki", name) }
func (l layout) machine(name string) string { return l.state(name, "machine.json") }

// complete exists once an up has succeeded; state without it was interrupted.
func (l layout) complete() string { return l.state("complete") }

// made lists the directories outside .cluster that up had to make.
func (l layout) made() string { return l.state("made") }

// isUp tells whether an up has succeeded since the last down.
func (l layout) isUp() bool {
	_, err := os.Stat(l.complete())
	return err == nil
}

func (l layout) makeStateDirs() error {
	for _, dir := range []string{l.state("pki"), l.state("volumes"), l.path("logs"), l.path("run")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("making the state directory: %w", err)
		}
	}
	return nil
}
