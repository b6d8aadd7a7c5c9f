package member

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// file renders annotations as the kubelet does: sorted by the caller, quoted by
// Go's rules, no newline after the last.
func annotationFile(pairs ...string) string {
	var lines []string
	for i := 0; i < len(pairs); i += 2 {
		lines = append(lines, fmt.Sprintf("%s=%q", pairs[i], pairs[i+1]))
	}
	return strings.Join(lines, "\n")
}

const threeMembers = "a=https://a:2380,b=https://b:2380,c=https://c:2380"

func TestParseAnnotations(t *testing.T) {
	whole := func(more ...string) string {
		return annotationFile(append([]string{AnnotationInitialCluster, threeMembers, AnnotationInitialClusterState, "new"}, more...)...)
	}
	base := Annotations{InitialCluster: threeMembers, InitialClusterState: ClusterStateNew}
	with := func(change func(*Annotations)) Annotations {
		a := base
		change(&a)
		return a
	}
	for name, tc := range map[string]struct {
		file    string
		want    Annotations
		wantErr string
	}{
		"the least that is needed":   {file: whole(), want: base},
		"a newline at the end":       {file: whole() + "\n", want: base},
		"may be empty":               {file: whole(AnnotationMayBeEmpty, "true"), want: with(func(a *Annotations) { a.MayBeEmpty = true })},
		"may be empty, misspelt":     {file: whole(AnnotationMayBeEmpty, "True"), want: base},
		"may be empty, with a space": {file: whole(AnnotationMayBeEmpty, "true "), want: base},
		"may be empty of another":    {file: whole("x-"+AnnotationMayBeEmpty, "true"), want: base},
		"held":                       {file: whole(AnnotationHold, "true"), want: with(func(a *Annotations) { a.Hold = true })},
		"held, misspelt":             {file: whole(AnnotationHold, "True"), want: with(func(a *Annotations) { a.Hold = true })},
		"not held":                   {file: whole(AnnotationHold, "false"), want: base},
		"released":                   {file: whole(AnnotationHold, "true", AnnotationRelease, "8e9e05c52164694d"), want: with(func(a *Annotations) { a.Hold = true; a.Release = 0x8e9e05c52164694d })},
		"annotations of others, with every quote": {file: annotationFile("a.b/c", "line\nbreak \"quote\" \\ = ü \x00 \xff") + "\n" + whole(), want: base},
		"an empty value":          {file: annotationFile("a", "") + "\n" + whole(), want: base},
		"empty file":              {file: "", wantErr: "initial-cluster is \"\""},
		"no state":                {file: annotationFile(AnnotationInitialCluster, threeMembers), wantErr: "neither new nor existing"},
		"wrong state":             {file: annotationFile(AnnotationInitialCluster, threeMembers, AnnotationInitialClusterState, "New"), wantErr: `"New"`},
		"list with a NUL":         {file: annotationFile(AnnotationInitialCluster, "a=\x00", AnnotationInitialClusterState, "new"), wantErr: "not a member list"},
		"release that is no ID":   {file: whole(AnnotationRelease, "xyz"), wantErr: `"xyz"`},
		"release of zero":         {file: whole(AnnotationRelease, "0"), wantErr: "not a member ID"},
		"a key twice":             {file: whole(AnnotationHold, "true", AnnotationHold, "false"), wantErr: "twice"},
		"no quotes":               {file: whole() + "\na=b", wantErr: `line 3: value of "a" is not quoted`},
		"back quotes":             {file: whole() + "\na=`b`", wantErr: "is not quoted"},
		"no equals sign":          {file: whole() + "\nabc", wantErr: "line 3: not of the form"},
		"rubbish after the quote": {file: whole() + "\na=\"b\"c", wantErr: "line 3: value of \"a\" is cut off"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseAnnotations([]byte(tc.file))
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Fatalf("error %v, want one with %q", err, tc.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("annotations (-want +got):\n%s", diff)
			}
		})
	}
}

// A file cut off anywhere is refused, or read as something at least as strict.
func TestParseAnnotationsCutOff(t *testing.T) {
	file := annotationFile(AnnotationHold, "true", AnnotationInitialCluster, threeMembers,
		AnnotationInitialClusterState, "new", AnnotationMayBeEmpty, "true", AnnotationRelease, "8e9e05c52164694d")
	for n := range len(file) {
		a, err := ParseAnnotations([]byte(file[:n]))
		if err != nil {
			continue
		}
		if !a.Held() || a.InitialCluster != threeMembers {
			t.Errorf("cut off after %d bytes: %+v", n, a)
		}
	}
}

func TestReadAnnotationsBoundsTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "annotations")
	if err := os.WriteFile(path, make([]byte, maxAnnotationsFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadAnnotations(path); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("error %v, want one about the size", err)
	}
}

func TestAHeldMemberNeverFounds(t *testing.T) {
	a := Annotations{InitialClusterState: ClusterStateNew, Hold: true, Release: 1}
	if got := a.EffectiveClusterState(); got != ClusterStateExisting {
		t.Errorf("state %q, want existing", got)
	}
}
