// Package mutants compiles a package as if a part of its source were another one, so
// that a test can see whether the other tests notice.
package mutants

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	source, ok := only(t, file, from)
	if !ok {
		return "", false
	}
	flag, err := overlay(t.TempDir(), map[string]string{file: strings.Replace(source, from, to, 1)})
	if err != nil {
		t.Error(err)
		return "", false
	}
	return "GOFLAGS=" + flag, true
}

// only reads a file, of which one place, and no other, reads from.
func only(t *testing.T, file, from string) (string, bool) {
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
	return string(source), true
}

// overlay is the flag with which the go command takes these for the files of the
// package here.
func overlay(dir string, files map[string]string) (string, error) {
	replaced := map[string]string{}
	for name, content := range files {
		here, err := filepath.Abs(name)
		if err != nil {
			return "", err
		}
		replaced[here] = filepath.Join(dir, name)
		if err := os.WriteFile(replaced[here], []byte(content), 0o600); err != nil {
			return "", err
		}
	}
	list, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "overlay.json")
	return "-overlay=" + file, os.WriteFile(file, list, 0o600)
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
	within = 20 * time.Minute
	// atOnce is how many of them are tested at the same time: the compiler waits now
	// and then.
	atOnce = 3
)

// Caught tests the package in the working directory for each mutant, as go test -short
// does with the first selection (a flag -run or -skip), then with the next one, until a
// test fails. It wants one to fail each time.
func Caught(t *testing.T, mutants map[string]Mutant, selections ...string) {
	t.Helper()
	if testing.Short() {
		t.Skip("a mutant has no mutants")
	}
	ctx, stop := context.WithTimeout(t.Context(), within)
	defer stop()
	run := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	defer all.Wait()
	for name, test := range tests(ctx, t, mutants, selections) {
		all.Go(func() {
			run <- struct{}{}
			defer func() { <-run }()
			began := time.Now()
			output, err := test()
			t.Logf("%s: %s, %s", name, time.Since(began).Round(time.Millisecond), by(output))
			switch {
			case err == nil:
				t.Errorf("%s: no test fails", name)
			case strings.Contains(output, "panic: test timed out"), !strings.Contains(output, "--- FAIL") && !strings.Contains(output, "panic: "):
				// A machine that is slow notices nothing.
				t.Errorf("%s: %v:\n%s", name, err, output)
			}
		})
	}
}

// Placed wants each mutant to have its one place in the source. It compiles nothing, so that
// a change of the source that forgets its mutants is seen at once.
func Placed(t *testing.T, mutants map[string]Mutant) {
	t.Helper()
	for _, m := range mutants {
		if m.environment == "" {
			only(t, m.file, m.from)
		}
	}
}

// by is the first test that failed.
func by(output string) string {
	_, rest, failed := strings.Cut(output, "--- FAIL: ")
	if !failed {
		return "no test"
	}
	test, _, _ := strings.Cut(rest, " ")
	return test
}

// run is a run of the tests: what they print, and an error if one of them fails.
type run func() (string, error)

// tests of each mutant: by a binary that has many of them where that can be, otherwise
// by one that is compiled for it.
func tests(ctx context.Context, t *testing.T, mutants map[string]Mutant, selections []string) map[string]run {
	t.Helper()
	many, numbers := &schema{files: map[string]*mutated{}}, map[string]int{}
	all := map[string]run{}
	for name, m := range mutants {
		if m.environment != "" {
			numbers[name] = 0 // the package as it is
			continue
		}
		if _, ok := only(t, m.file, m.from); !ok {
			continue
		}
		number := len(numbers) + 1
		switch taken, err := many.add(number, m); {
		case err != nil:
			t.Error(err)
		case taken:
			numbers[name] = number
		default:
			all[name] = alone(ctx, t, m, selections)
		}
	}
	binary := filepath.Join(t.TempDir(), "mutants.test")
	output, err := many.compile(ctx, t.TempDir(), binary)
	if err != nil { // one of them is at fault: each by itself says which
		t.Logf("all mutants at once do not compile: %v\n%s", err, output)
	}
	for name, number := range numbers {
		all[name] = oneOf(ctx, binary, number, mutants[name], selections)
		if err != nil {
			all[name] = alone(ctx, t, mutants[name], selections)
		}
	}
	return all
}

// oneOf the mutants that a binary has.
func oneOf(ctx context.Context, binary string, number int, m Mutant, selections []string) run {
	return inTurn(selections, func(selection string) (string, error) {
		flags := []string{"-test.short", "-test.failfast", "-test.timeout=5m", "-test." + strings.TrimPrefix(selection, "-")}
		return command(ctx, binary, flags, fmt.Sprintf("%s=%d", chosen, number), m.environment)
	})
}

func alone(ctx context.Context, t *testing.T, m Mutant, selections []string) run {
	return inTurn(selections, func(selection string) (string, error) {
		environment := m.environment
		if environment == "" {
			var ok bool
			if environment, ok = Overlay(t, m.file, m.from, m.to); !ok {
				return "", errors.New("the mutant cannot be made")
			}
		}
		// A result of before is no result: what a test reads of the environment is not
		// all that the go command knows of.
		return command(ctx, "go", []string{
			"test", "-count=1", "-short", "-vet=off", "-failfast",
			"-timeout=5m", "-ldflags=-s -w", selection, ".",
		}, environment)
	})
}

// inTurn runs the tests of each selection until one fails.
func inTurn(selections []string, test func(string) (string, error)) run {
	return func() (output string, err error) {
		for _, selection := range selections {
			if output, err = test(selection); err != nil {
				return output, err
			}
		}
		return output, nil
	}
}

func command(ctx context.Context, name string, args []string, environment ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // tests of this repository
	cmd.Env = append(os.Environ(), environment...)
	output, err := cmd.CombinedOutput()
	return string(output), err
}
