package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAStampChangesWithWhatABinaryIsMadeFrom(t *testing.T) {
	base := target{output: "bin/x", module: "m", pkg: "."}
	files := map[string]string{"go.mod": "module m\n", "go.sum": "a\n", "main.go": "package main\n", "main_test.go": "package main\n", "README.md": "x"}
	stamp := func(tg target, change map[string]string) string {
		dir := t.TempDir()
		for name, content := range files {
			write(t, filepath.Join(dir, "m", name), content)
		}
		for name, content := range change {
			write(t, filepath.Join(dir, "m", name), content)
		}
		s, err := tg.stamp(dir)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	want := stamp(base, nil)
	flagged := base
	flagged.ldflags = "-X a.b=c"
	other := base
	other.pkg = "example.org/cmd"
	tests := map[string]struct {
		have string
		same bool
	}{
		"nothing":       {stamp(base, nil), true},
		"go.mod":        {stamp(base, map[string]string{"go.mod": "module n\n"}), false},
		"go.sum":        {stamp(base, map[string]string{"go.sum": "b\n"}), false},
		"a source":      {stamp(base, map[string]string{"main.go": "package other\n"}), false},
		"a new source":  {stamp(base, map[string]string{"b.go": "package main\n"}), false},
		"a test":        {stamp(base, map[string]string{"main_test.go": "package m\n"}), true},
		"a text":        {stamp(base, map[string]string{"README.md": "y"}), true},
		"the flags":     {stamp(flagged, nil), false},
		"the package":   {stamp(other, nil), false},
		"moved content": {stamp(base, map[string]string{"go.mod": "module m\na\n", "go.sum": ""}), false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if (test.have == want) != test.same {
				t.Errorf("the stamp is the same: %v, want %v", test.have == want, test.same)
			}
		})
	}
}

func TestABinaryIsCurrentOnlyWithItsStamp(t *testing.T) {
	output := filepath.Join(t.TempDir(), "x")
	if isCurrent(output, "s") {
		t.Error("nothing was built")
	}
	write(t, output+".new", "binary")
	if err := install(output+".new", output, "s"); err != nil {
		t.Fatal(err)
	}
	if !isCurrent(output, "s") || isCurrent(output, "other") {
		t.Error("the stamp does not tell what was built")
	}
	if err := os.Remove(output); err != nil {
		t.Fatal(err)
	}
	if isCurrent(output, "s") {
		t.Error("the binary is gone, its stamp alone counts as current")
	}
}

func TestEveryTargetHasAModuleAndAnOutputOfItsOwn(t *testing.T) {
	outputs := map[string]bool{}
	for _, tg := range allTargets() {
		if outputs[tg.output] {
			t.Errorf("%s is built twice", tg.output)
		}
		outputs[tg.output] = true
		if _, err := tg.stamp("build"); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join("build", tg.module, "go.mod")); err != nil {
			t.Error(err)
		}
	}
	for _, p := range controlMachine(layout{root: "/r"}).Processes {
		name := filepath.Base(p.Command[0])
		if !outputs["bin/"+name] && name != "etcd" {
			t.Errorf("%s is run but not built", name)
		}
	}
}
