package status

import (
	"bytes"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"

	"github.com/quorate/quorate/internal/plan"
)

var update = flag.Bool("update", false, "write docs/reference.md anew")

const (
	repository = "../.."
	reference  = repository + "/docs/reference.md"
)

// TestReference: docs/reference.md is what the CRD and the constants say. With -update
// it is written.
func TestReference(t *testing.T) {
	have, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	want := have
	for name, table := range map[string]string{
		"spec": fields(t, "spec"), "status": fields(t, "status"),
		"conditions": conditionTable(t), "reasons": reasonTable(t), "events": eventTable(t),
		"labels": labelTable(t),
	} {
		want = replace(t, want, name, table)
	}
	if *update {
		if err := os.WriteFile(reference, want, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(want), string(have)); diff != "" {
		t.Errorf("docs/reference.md is not what the code says — run: go test ./internal/status -run TestReference -update (-want +got):\n%s", diff)
	}
}

// replace what stands between the two marks of the name.
func replace(t *testing.T, doc []byte, name, table string) []byte {
	t.Helper()
	begin, end := []byte("<!-- "+name+" -->\n"), []byte("<!-- end of "+name+" -->\n")
	before, rest, found := bytes.Cut(doc, begin)
	_, after, ended := bytes.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("docs/reference.md has no place for %s", name)
	}
	return slices.Concat(before, begin, []byte(table), end, after)
}

// row of a table: a bar within a cell would end it, and what looks like HTML is not
// shown.
func row(cells ...string) string {
	for i := range cells {
		cells[i] = strings.NewReplacer("|", `\|`, "<", `\<`).Replace(strings.Join(strings.Fields(cells[i]), " "))
	}
	return "| " + strings.Join(cells, " | ") + " |\n"
}

func heading(cells ...string) string {
	return row(cells...) + "|" + strings.Repeat("---|", len(cells)) + "\n"
}

// fields of the CRD below the named one.
func fields(t *testing.T, of string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, "config/crd/bases/etcd.quorate.dev_etcdclusters.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.UnmarshalStrict(text, crd); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	schema := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties[of]
	if of == "spec" {
		out.WriteString(heading("field", "type", "default", "meaning"))
		describe(&out, "", schema, row4)
		return out.String()
	}
	out.WriteString(heading("field", "type", "meaning"))
	describe(&out, "", schema, row3)
	return out.String()
}

func row4(path string, is apiextensionsv1.JSONSchemaProps) string {
	return row("`"+path+"`", typeOf(is), defaultOf(is), is.Description)
}

func row3(path string, is apiextensionsv1.JSONSchemaProps) string {
	return row("`"+path+"`", typeOf(is), is.Description)
}

// describe every field that is Quorate's own; Kubernetes documents its types.
func describe(out *strings.Builder, path string, schema apiextensionsv1.JSONSchemaProps, line func(string, apiextensionsv1.JSONSchemaProps) string) {
	for _, name := range sortedNames(schema.Properties) {
		is, below := schema.Properties[name], strings.TrimPrefix(path+"."+name, ".")
		out.WriteString(line(below, is))
		if strings.HasPrefix(path, "podTemplate") || strings.HasPrefix(path, "networkPolicy") {
			continue
		}
		if is.Items != nil && name != "conditions" {
			is, below = *is.Items.Schema, below+"[]"
		}
		describe(out, below, is, line)
	}
}

func sortedNames(of map[string]apiextensionsv1.JSONSchemaProps) []string {
	var out []string
	for name := range of {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func typeOf(is apiextensionsv1.JSONSchemaProps) string {
	if len(is.Enum) > 0 {
		var values []string
		for _, v := range is.Enum {
			values = append(values, "`"+strings.Trim(string(v.Raw), `"`)+"`")
		}
		return strings.Join(values, ", ")
	}
	switch {
	case is.XIntOrString:
		return "quantity"
	case is.Type == "array":
		return "list"
	case is.Type == "object" && is.AdditionalProperties != nil:
		return "map"
	case is.Format == "date-time":
		return "time"
	default:
		return is.Type
	}
}

func defaultOf(is apiextensionsv1.JSONSchemaProps) string {
	if is.Default == nil || string(is.Default.Raw) == "{}" {
		return ""
	}
	return "`" + strings.Trim(string(is.Default.Raw), `"`) + "`"
}

// constant of a source file, and what its comment says of it.
type constant struct{ name, value, says string }

// constants whose names begin so.
func constants(t *testing.T, file, prefix string) []constant {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(repository, file), nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var out []constant
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, is := n.(*ast.ValueSpec)
		if !is || !strings.HasPrefix(spec.Names[0].Name, prefix) || len(spec.Values) != 1 {
			return true
		}
		literal, is := spec.Values[0].(*ast.BasicLit)
		if !is || literal.Kind != token.STRING {
			return true
		}
		value, err := strconv.Unquote(literal.Value)
		if err != nil {
			t.Fatal(err)
		}
		name := spec.Names[0].Name
		says := strings.Join(strings.Fields(spec.Doc.Text()), " ")
		says = strings.TrimPrefix(strings.TrimLeft(strings.TrimPrefix(says, name), ": "), "is ")
		if says == "" {
			t.Errorf("%s: %s says nothing", file, name)
		}
		out = append(out, constant{name, value, says})
		return true
	})
	if len(out) == 0 {
		t.Fatalf("%s has no constants %s…", file, prefix)
	}
	return out
}

const apiNames = "api/v1alpha1/names.go"

func conditionTable(t *testing.T) string {
	var out strings.Builder
	out.WriteString(heading("condition", "meaning when True"))
	for _, c := range constants(t, apiNames, "Condition") {
		out.WriteString(row("`"+c.value+"`", c.says))
	}
	return out.String()
}

// reasons of conditions and events, those of certificates among them.
func reasons(t *testing.T) []constant {
	return append(constants(t, apiNames, "Reason"), constants(t, "internal/pki/pki.go", "Reason")...)
}

func reasonTable(t *testing.T) string {
	var out strings.Builder
	out.WriteString(heading("reason", "meaning"))
	for _, c := range reasons(t) {
		out.WriteString(row("`"+c.value+"`", c.says))
	}
	return out.String()
}

// eventTable has the steps that are told as events under their own names.
func eventTable(t *testing.T) string {
	var out strings.Builder
	out.WriteString(heading("event", "what the step does"))
	for _, c := range constants(t, "internal/plan/plan.go", "") {
		for _, e := range done(plan.Step{Kind: plan.Kind(c.value)}) {
			if e.Reason == c.value {
				out.WriteString(row("`"+c.value+"`", c.says))
			}
		}
	}
	return out.String()
}

func labelTable(t *testing.T) string {
	var out strings.Builder
	out.WriteString(heading("label or annotation", "meaning"))
	for _, c := range append(constants(t, apiNames, "Label"), constants(t, apiNames, "Annotation")...) {
		out.WriteString(row("`"+c.value+"`", c.says))
	}
	return out.String()
}

// TestReasonsAreKnown: whatever plan and status give as a reason is in the reference.
func TestReasonsAreKnown(t *testing.T) {
	known := map[string]bool{}
	for _, c := range reasons(t) {
		known[c.value] = true
	}
	for name, tc := range states {
		c := cluster()
		pass(c, tc.seen, tc.err)
		for _, is := range c.Status.Conditions {
			if !known[is.Reason] {
				t.Errorf("%s: %s has the reason %q, which is no constant", name, is.Type, is.Reason)
			}
		}
	}
	files, err := filepath.Glob(filepath.Join(repository, "internal/plan/*.go"))
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	given := regexp.MustCompile(`[rR]eason(?:: | = |, why = )"(\w+)"|return "([A-Z]\w+)"$`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if found := given.FindStringSubmatch(strings.TrimSpace(line)); found != nil && !strings.HasSuffix(file, "_test.go") && !known[found[1]+found[2]] {
				t.Errorf("%s gives the reason %q, which is no constant", file, found[1]+found[2])
			}
		}
	}
}
