package mutants

import (
	"cmp"
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strconv"
	"strings"
)

// chosen is the variable of the environment that says which mutant a test binary is.
const chosen = "QUORATE_MUTANT"

// schema is a package with many mutants compiled into one binary, since compiling and
// linking take much longer than the test that notices a mutant: each function that has
// mutants begins with a look at which of them is chosen.
type schema struct {
	pkg   string
	files map[string]*mutated
}

// mutated is a file with the functions that have mutants.
type mutated struct {
	source string
	set    *token.FileSet
	tree   *ast.File
	looks  []look
	clones []string
}

// look is what is inserted at an offset.
type look struct {
	at   int
	text string
}

func (s *schema) file(name string) (*mutated, error) {
	if f, ok := s.files[name]; ok {
		return f, nil
	}
	source, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	f := &mutated{source: string(source), set: token.NewFileSet()}
	if f.tree, err = parser.ParseFile(f.set, name, source, parser.SkipObjectResolution); err != nil {
		return nil, err
	}
	s.files[name], s.pkg = f, f.tree.Name.Name
	return f, nil
}

func (f *mutated) offset(at token.Pos) int { return f.set.Position(at).Offset }

// around is the function that holds all of the text from begin to end.
func (f *mutated) around(begin, end int) *ast.FuncDecl {
	for _, declared := range f.tree.Decls {
		if function, ok := declared.(*ast.FuncDecl); ok && function.Body != nil &&
			f.offset(function.Pos()) <= begin && end <= f.offset(function.End()) {
			return function
		}
	}
	return nil
}

// add takes a mutant in under a number. It is false when the mutant has to be compiled
// by itself: what it changes is not within one function whose parameters have names.
func (s *schema) add(number int, m Mutant) (bool, error) {
	f, err := s.file(m.file)
	if err != nil {
		return false, err
	}
	begin := strings.Index(f.source, m.from)
	function := f.around(begin, begin+len(m.from))
	if function == nil || begin < f.offset(function.Body.Pos()) {
		return false, nil
	}
	other := fmt.Sprintf("%s__mutant%d", function.Name.Name, number)
	call, ok := callOf(function, other)
	if !ok {
		return false, nil
	}
	start, name, end := f.offset(function.Pos()), f.offset(function.Name.Pos()), f.offset(function.End())
	f.clones = append(f.clones, f.source[start:name]+other+
		f.source[name+len(function.Name.Name):begin]+m.to+f.source[begin+len(m.from):end])
	f.looks = append(f.looks, look{
		at:   f.offset(function.Body.Lbrace) + 1,
		text: fmt.Sprintf("if mutantChosen == %q { %s }; ", strconv.Itoa(number), call),
	})
	return true, nil
}

// callOf is a call with which a function has another one of its kind do all of its work.
func callOf(function *ast.FuncDecl, other string) (string, bool) {
	arguments, ok := parameters(function.Type.Params)
	if !ok {
		return "", false
	}
	if function.Recv != nil {
		receiver, named := parameters(function.Recv)
		if !named {
			return "", false
		}
		other = receiver + "." + other
	}
	if function.Type.Results == nil {
		return fmt.Sprintf("%s(%s); return", other, arguments), true
	}
	return fmt.Sprintf("return %s(%s)", other, arguments), true
}

// parameters as they are passed on, and whether each has a name.
func parameters(fields *ast.FieldList) (string, bool) {
	var names []string
	for _, field := range fields.List {
		if len(field.Names) == 0 {
			return "", false
		}
		for _, name := range field.Names {
			if name.Name == "_" {
				return "", false
			}
			names = append(names, name.Name)
		}
		if _, variadic := field.Type.(*ast.Ellipsis); variadic {
			names[len(names)-1] += "..."
		}
	}
	return strings.Join(names, ", "), true
}

// sources are the files of the package that are compiled instead of those that are there.
func (s *schema) sources() map[string]string {
	all := map[string]string{
		"mutant_chosen.go": fmt.Sprintf("package %s\n\nimport \"os\"\n\nvar mutantChosen = os.Getenv(%q)\n", s.pkg, chosen),
	}
	for name, f := range s.files {
		text := f.source
		slices.SortStableFunc(f.looks, func(a, b look) int { return cmp.Compare(b.at, a.at) })
		for _, l := range f.looks {
			text = text[:l.at] + l.text + text[l.at:]
		}
		all[name] = text + "\n" + strings.Join(f.clones, "\n\n") + "\n"
	}
	return all
}

// compile the tests of the package with all mutants that were taken in.
func (s *schema) compile(ctx context.Context, dir, binary string) (string, error) {
	args := []string{"test", "-c", "-o", binary, "-vet=off", "-ldflags=-s -w"}
	if len(s.files) > 0 {
		flag, err := overlay(dir, s.sources())
		if err != nil {
			return "", err
		}
		args = append(args, flag)
	}
	// The compiler lives shorter than its garbage; what tests leave would fill the memory.
	return command(ctx, "go", append(args, "."), "GOGC=off")
}
