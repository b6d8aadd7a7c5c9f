// Package mutants compiles a package as if a part of its source were another one, so
// that a test can see whether the other tests notice.
package mutants

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Overlay is the go command's environment in which the one place of a file that reads
// from reads to. It is false, and the test has failed, if there is no such place, or
// more than one.
func Overlay(t *testing.T, file, from, to string) (environment string, ok bool) {
	t.Helper()
	source, err := os.ReadFile(file)
	if err != nil {
		t.Error(err)
		return "", false
	}
	if n := strings.Count(string(source), from); n != 1 {
		t.Errorf("%q occurs %d times in %s, want once: bring the mutant up to date", from, n, file)
		return "", false
	}
	here, err := filepath.Abs(file)
	if err != nil {
		t.Error(err)
		return "", false
	}
	dir := t.TempDir()
	mutant, overlay := filepath.Join(dir, file), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{here: mutant}})
	if err != nil {
		t.Error(err)
		return "", false
	}
	for path, content := range map[string]string{mutant: strings.Replace(string(source), from, to, 1), overlay: string(replace)} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Error(err)
			return "", false
		}
	}
	return "GOFLAGS=-overlay=" + overlay, true
}

// Mutant is a change of a package that gives up one of its rules.
type Mutant struct {
	file, from, to string
	environment    string
}

// Of a file: the one place that reads from reads to.
func Of(file, from, to string) Mutant { return Mutant{file: file, from: from, to: to} }

// With a variable of the environment, NAME=VALUE, which the tests themselves read.
func With(environment string) Mutant { return Mutant{environment: environment} }

const (
	// within is how long all mutants of a package may take together.
	within = 10 * time.Minute
	// atOnce is how many of them are tested at the same time: the compiler waits now
	// and then.
	atOnce = 3
)

// Caught tests the package in the working directory once for each mutant, as go test
// -short does with the further arguments, and wants a test to fail each time.
func Caught(t *testing.T, mutants map[string]Mutant, args ...string) {
	t.Helper()
	if testing.Short() {
		t.Skip("a mutant has no mutants")
	}
	ctx, stop := context.WithTimeout(t.Context(), within)
	defer stop()
	run := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	defer all.Wait()
	for name, m := range mutants {
		all.Go(func() {
			run <- struct{}{}
			defer func() { <-run }()
			environment := m.environment
			if environment == "" {
				var ok bool
				if environment, ok = Overlay(t, m.file, m.from, m.to); !ok {
					return
				}
			}
			output, err := test(ctx, environment, args)
			switch {
			case err == nil:
				t.Errorf("%s: no test fails", name)
			case !strings.Contains(output, "--- FAIL") && !strings.Contains(output, "panic: test timed out"):
				t.Errorf("%s: %v:\n%s", name, err, output)
			}
		})
	}
}

func test(ctx context.Context, environment string, args []string) (string, error) {
	// A result of before is no result: what a test reads of the environment is not all
	// that the go command knows of.
	args = append([]string{"test", "-count=1", "-short", "-vet=off", "-failfast", "-timeout=60s", "-ldflags=-s -w"}, args...)
	cmd := exec.CommandContext(ctx, "go", append(args, ".")...) //nolint:gosec // tests of this repository
	// The compiler lives shorter than its garbage.
	cmd.Env = append(os.Environ(), "GOGC=off", environment)
	output, err := cmd.CombinedOutput()
	return string(output), err
}
